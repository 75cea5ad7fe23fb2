//! Which models leave the cache so that another one has room. No I/O.

use std::collections::{BTreeMap, BTreeSet};

/// A model in the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) key: String,
    /// Names of its files' contents; models may share them.
    pub(crate) blobs: BTreeSet<String>,
    /// When it was last asked for; any unit that grows.
    pub(crate) used_at: u64,
    /// A process uses it now.
    pub(crate) in_use: bool,
}

/// There is not enough that could leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NoRoom {
    /// Bytes that would be free if everything left that may.
    pub(crate) free: u64,
}

/// The models to remove, the longest unused first, so that `need` more bytes fit into `limit`. `sizes` are those of
/// all contents. What is in use stays, whatever that means for the rest.
pub(crate) fn victims<'a>(
    models: &'a [Kept],
    sizes: &BTreeMap<String, u64>,
    limit: u64,
    need: u64,
) -> Result<Vec<&'a str>, NoRoom> {
    let mut owners: BTreeMap<&str, usize> = BTreeMap::new();
    for blob in models.iter().flat_map(|model| &model.blobs) {
        *owners.entry(blob).or_default() += 1;
    }
    let mut used: u64 = sizes.values().fold(0, |sum, size| sum.saturating_add(*size));
    let mut idle: Vec<&Kept> = models.iter().filter(|model| !model.in_use).collect();
    idle.sort_by_key(|model| (model.used_at, &model.key));
    let mut victims = Vec::new();
    // A limit that was lowered is no reason to refuse what takes nothing more.
    let fits = |used: u64| need == 0 || used.saturating_add(need) <= limit;
    for model in idle {
        if fits(used) {
            break;
        }
        victims.push(model.key.as_str());
        for blob in &model.blobs {
            if let Some(count) = owners.get_mut(blob.as_str()) {
                *count -= 1;
                if *count == 0 {
                    used = used.saturating_sub(sizes.get(blob).copied().unwrap_or_default());
                }
            }
        }
    }
    if fits(used) { Ok(victims) } else { Err(NoRoom { free: limit.saturating_sub(used) }) }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn kept(key: &str, blobs: &[&str], used_at: u64) -> Kept {
        let blobs = blobs.iter().map(|blob| (*blob).to_owned()).collect();
        Kept { key: key.to_owned(), blobs, used_at, in_use: false }
    }

    fn sizes(blobs: &[(&str, u64)]) -> BTreeMap<String, u64> {
        blobs.iter().map(|(blob, size)| ((*blob).to_owned(), *size)).collect()
    }

    #[test]
    fn the_longest_unused_leaves_and_no_more_than_needed() {
        let models = [kept("a", &["x"], 3), kept("b", &["y"], 1)];
        let sizes = sizes(&[("x", 10), ("y", 10)]);
        assert_eq!(victims(&models, &sizes, 30, 10), Ok(vec![]));
        assert_eq!(victims(&models, &sizes, 29, 10), Ok(vec!["b"]));
        assert_eq!(victims(&models, &sizes, 15, 10), Ok(vec!["b", "a"]));
    }

    #[test]
    fn what_is_in_use_stays_and_what_is_shared_frees_nothing_until_the_last() {
        let models = [
            Kept { in_use: true, ..kept("a", &["x"], 1) },
            kept("b", &["y", "z"], 2),
            kept("c", &["z"], 3),
        ];
        let sizes = sizes(&[("x", 10), ("y", 1), ("z", 10)]);
        assert_eq!(victims(&models, &sizes, 25, 5), Ok(vec!["b"]));
        assert_eq!(victims(&models, &sizes, 24, 5), Ok(vec!["b", "c"]));
        assert_eq!(victims(&models, &sizes, 25, 16), Err(NoRoom { free: 15 }));
    }

    proptest! {
        #[test]
        fn room_is_made_without_what_is_in_use(
            models in vec((vec(0_u8..8, 1..4), 0_u64..9, any::<bool>()), 0..8),
            limit in 0_u64..100,
            need in 0_u64..40,
        ) {
            let models: Vec<Kept> = models
                .into_iter()
                .enumerate()
                .map(|(number, (blobs, used_at, in_use))| Kept {
                    key: number.to_string(),
                    blobs: blobs.iter().map(u8::to_string).collect(),
                    used_at,
                    in_use,
                })
                .collect();
            let all: BTreeSet<&String> = models.iter().flat_map(|model| &model.blobs).collect();
            let sizes: BTreeMap<String, u64> =
                all.into_iter().map(|blob| (blob.clone(), blob.parse::<u64>().unwrap() + 1)).collect();
            let left = |gone: &[&str]| -> u64 {
                let stays = models.iter().filter(|model| !gone.contains(&model.key.as_str()));
                let blobs: BTreeSet<&String> = stays.flat_map(|model| &model.blobs).collect();
                blobs.into_iter().map(|blob| sizes[blob]).sum()
            };
            match victims(&models, &sizes, limit, need) {
                Ok(gone) => {
                    prop_assert!(need == 0 || left(&gone) + need <= limit);
                    let used = |key: &str| models.iter().any(|m| m.key == key && m.in_use);
                    prop_assert!(gone.iter().all(|key| !used(key)));
                    if let Some((_, fewer)) = gone.split_last() {
                        prop_assert!(left(fewer) + need > limit, "one too many");
                    }
                }
                Err(NoRoom { free }) => {
                    prop_assert!(free < need);
                }
            }
        }
    }
}
