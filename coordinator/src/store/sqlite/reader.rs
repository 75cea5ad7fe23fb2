//! A few connections that read while the writer writes.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::Connection;
use tokio::sync::Semaphore;

use crate::store::StoreError;

use super::schema;

/// Reads at the same time; more wait.
const CONNECTIONS: usize = 4;

#[derive(Debug)]
pub(super) struct Readers {
    free: Arc<Mutex<Vec<Connection>>>,
    permits: Arc<Semaphore>,
}

impl Readers {
    pub(super) fn open(file: &Path) -> Result<Self, StoreError> {
        let connections: Vec<Connection> =
            (0..CONNECTIONS).map(|_| schema::open_reader(file)).collect::<Result<_, _>>()?;
        Ok(Self {
            free: Arc::new(Mutex::new(connections)),
            permits: Arc::new(Semaphore::new(CONNECTIONS)),
        })
    }

    /// Runs `read` on a thread where it may block.
    pub(super) async fn call<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let permit = Arc::clone(&self.permits)
            .acquire_owned()
            .await
            .map_err(|_closed| StoreError::Unavailable)?;
        let free = Arc::clone(&self.free);
        tokio::task::spawn_blocking(move || {
            let take = || free.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let connection = take().ok_or(StoreError::Unavailable)?;
            let result = read(&connection);
            free.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
            drop(permit);
            result
        })
        .await
        .map_err(|_panicked| StoreError::Unavailable)?
    }
}
