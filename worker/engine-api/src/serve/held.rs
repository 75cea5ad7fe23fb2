//! The prepared items of an engine process, by key. No threads, no I/O.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::{ItemError, ItemKey};

/// Items that an engine keeps at most. A worker prepares a few batches ahead, thousands at most.
pub(super) const MAX_HELD_ITEMS: usize = 262_144;

/// An item is expected from the moment its request is read, so that a `Forget` that overtakes its
/// preparation is not lost.
#[derive(Debug)]
enum Slot<P> {
    Expected,
    Ready(Arc<P>),
}

#[derive(Debug)]
pub(super) struct Held<P> {
    slots: BTreeMap<ItemKey, Slot<P>>,
}

impl<P> Default for Held<P> {
    fn default() -> Self {
        Self { slots: BTreeMap::new() }
    }
}

impl<P> Held<P> {
    /// Announces items that will be prepared, as far as there is room.
    pub(super) fn expect(&mut self, keys: impl IntoIterator<Item = ItemKey>) {
        for key in keys {
            if self.slots.len() >= MAX_HELD_ITEMS {
                return;
            }
            self.slots.entry(key).or_insert(Slot::Expected);
        }
    }

    /// Keeps a prepared item, unless it was forgotten meanwhile or there is no room for it.
    ///
    /// # Errors
    /// [`ItemError::Full`]; forgotten items are dropped without an error.
    pub(super) fn keep(&mut self, key: ItemKey, prepared: P) -> Result<(), ItemError> {
        let full = self.slots.len() >= MAX_HELD_ITEMS;
        match self.slots.get_mut(&key) {
            Some(slot) => *slot = Slot::Ready(Arc::new(prepared)),
            None if full => {
                return Err(ItemError::Full {
                    held: u64::try_from(self.slots.len()).unwrap_or(u64::MAX),
                });
            }
            None => {}
        }
        Ok(())
    }

    /// The items of a batch.
    ///
    /// # Errors
    /// The first key that has no prepared item.
    pub(super) fn get(&self, keys: &[ItemKey]) -> Result<Vec<Arc<P>>, ItemKey> {
        let ready = |key: &ItemKey| match self.slots.get(key) {
            Some(Slot::Ready(prepared)) => Ok(Arc::clone(prepared)),
            Some(Slot::Expected) | None => Err(*key),
        };
        keys.iter().map(ready).collect()
    }

    pub(super) fn has(&self, key: ItemKey) -> bool {
        self.slots.contains_key(&key)
    }

    pub(super) fn forget(&mut self, keys: &[ItemKey]) {
        for key in keys {
            self.slots.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: ItemKey = ItemKey(7);

    #[test]
    fn item_is_held_until_forgotten() {
        let mut held = Held::default();
        held.expect([KEY]);
        assert_eq!(held.get(&[KEY]), Err(KEY));
        held.keep(KEY, "text").unwrap();
        assert_eq!(held.get(&[KEY]), Ok(vec![Arc::new("text")]));
        held.forget(&[KEY]);
        assert_eq!(held.get(&[KEY]), Err(KEY));
    }

    #[test]
    fn forget_overtaking_the_preparation_wins() {
        let mut held = Held::default();
        held.expect([KEY]);
        held.forget(&[KEY]);
        held.keep(KEY, "text").unwrap();
        assert!(held.slots.is_empty());
    }

    #[test]
    fn items_over_the_limit_are_refused() {
        let mut held = Held::default();
        let limit = u64::try_from(MAX_HELD_ITEMS).unwrap();
        held.expect((0..=limit).map(ItemKey));
        assert_eq!(held.slots.len(), MAX_HELD_ITEMS);
        assert_eq!(held.keep(ItemKey(limit), "text"), Err(ItemError::Full { held: limit }));
        assert_eq!(held.keep(ItemKey(0), "text"), Ok(()));
    }
}
