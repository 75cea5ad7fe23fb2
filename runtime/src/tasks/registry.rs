//! Who runs: the register of one group of tasks.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use tokio::task::AbortHandle;

/// The tasks of one group and of the groups inside it.
#[derive(Debug)]
pub(super) struct Registry {
    running: Mutex<Running>,
    count: watch::Sender<usize>,
}

#[derive(Debug, Default)]
struct Running {
    next_key: u64,
    tasks: BTreeMap<u64, Arc<Entry>>,
}

/// One running task. The handle is set right after the spawn.
#[derive(Debug)]
pub(super) struct Entry {
    name: &'static str,
    handle: Mutex<Option<AbortHandle>>,
}

impl Entry {
    pub(super) fn set_abort_handle(&self, handle: AbortHandle) {
        *lock(&self.handle) = Some(handle);
    }
}

impl Default for Registry {
    fn default() -> Self {
        Self { running: Mutex::default(), count: watch::Sender::new(0) }
    }
}

impl Registry {
    /// Returns once no task runs.
    pub(super) async fn wait_until_empty(&self) {
        let mut count = self.count.subscribe();
        // Fails only when the sender is gone, and `self` holds it.
        let _closed = count.wait_for(|count| *count == 0).await;
    }

    /// Aborts every task; returns their names, sorted, each once.
    pub(super) fn abort_all(&self) -> Vec<&'static str> {
        let entries: Vec<_> = lock(&self.running).tasks.values().cloned().collect();
        let mut names: Vec<_> = entries.iter().map(|entry| entry.name).collect();
        for entry in entries {
            if let Some(handle) = lock(&entry.handle).as_ref() {
                handle.abort();
            }
        }
        names.sort_unstable();
        names.dedup();
        names
    }

    fn add(&self, entry: Arc<Entry>) -> u64 {
        let mut running = lock(&self.running);
        let key = running.next_key;
        running.next_key += 1;
        running.tasks.insert(key, entry);
        self.count.send_replace(running.tasks.len());
        key
    }

    fn remove(&self, key: u64) {
        let mut running = lock(&self.running);
        running.tasks.remove(&key);
        self.count.send_replace(running.tasks.len());
    }
}

/// A task's place in the registers of its group and of the groups around it, given up on drop.
pub(super) struct Registration {
    entry: Arc<Entry>,
    places: Vec<(Arc<Registry>, u64)>,
}

impl Registration {
    pub(super) fn new(name: &'static str, registries: &[Arc<Registry>]) -> Self {
        let entry = Arc::new(Entry { name, handle: Mutex::new(None) });
        let place =
            |registry: &Arc<Registry>| (Arc::clone(registry), registry.add(Arc::clone(&entry)));
        let places = registries.iter().map(place).collect();
        Self { entry, places }
    }

    pub(super) fn entry(&self) -> Arc<Entry> {
        Arc::clone(&self.entry)
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        for (registry, key) in &self.places {
            registry.remove(*key);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
