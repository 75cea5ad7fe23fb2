//! Jobs in a Postgres database: the store for several coordinators.
//!
//! Any of them takes any call. Calls are committed in groups (`writer`) by the rules that `SQLite` has as
//! well; leases are measured by the database's clock. What only one may do is bound to a row that says who
//! leads (`leaders`). What one commits, the others hear of (`follow`), and everybody counts along
//! (`ledger`). A database that is away is no reason to end: calls are refused until it is back.

mod calls;
mod copy;
mod demand;
mod error;
mod events;
mod flush;
mod follow;
mod lanes;
mod leaders;
mod ledger;
mod load;
mod machines;
mod needs;
mod outcome;
mod query;
mod retention;
mod rows;
mod schema;
mod session;
mod snapshot;
mod unit;
mod url;
mod usage;
mod verbs;
mod workers;
mod writer;

use std::sync::Arc;

use deadpool_postgres::Pool;
use stoker_core::policy::JobPolicy;
use stoker_runtime::clock::Clock;
use stoker_runtime::ids;
use stoker_runtime::tasks::Tasks;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use self::follow::Follower;
use self::leaders::Leaders;
use self::ledger::Ledger;
use self::session::Connector;
use self::writer::{WRITERS, Writer};
use super::lanes::SharedLanes;
use super::{ChangeListener, StoreError};

pub use copy::{Copied, copy};
pub use follow::Company;
pub use url::{PostgresUrl, PostgresUrlError};

/// Connections for reading at the same time; more wait.
const READERS: usize = 8;
/// Connections for writing, roles and retention.
const WRITING: usize = WRITERS + 2;

/// What a store needs besides its address.
pub struct PostgresOptions {
    pub policy: JobPolicy,
    pub clock: StoreClock,
    pub company: Company,
    pub listener: ChangeListener,
    /// Called when others' changes may have been missed: whoever waits for one has to look.
    pub missed: Arc<dyn Fn() + Send + Sync>,
}

impl std::fmt::Debug for PostgresOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PostgresOptions").field("policy", &self.policy).finish_non_exhaustive()
    }
}

/// By which clock leases and timers run.
#[derive(Debug, Clone)]
pub enum StoreClock {
    /// The database's, which all coordinators share.
    Database,
    /// One that a test moves.
    Set(Arc<dyn Clock>),
}

impl StoreClock {
    fn set(&self) -> Option<i64> {
        match self {
            Self::Database => None,
            Self::Set(clock) => Some(clock.now().as_unix_millis()),
        }
    }
}

/// The store; cheap to share behind an `Arc`.
#[derive(Debug)]
pub struct PostgresStore {
    shared: Arc<Shared>,
    readers: Pool,
    writer: Writer,
    tasks: Tasks,
}

/// What the store's tasks work with.
struct Shared {
    /// This store, anew for every start.
    me: Uuid,
    connector: Connector,
    pool: Pool,
    policy: JobPolicy,
    clock: StoreClock,
    company: Company,
    listener: ChangeListener,
    missed: Arc<dyn Fn() + Send + Sync>,
    ledger: Ledger,
    leaders: Leaders,
    /// Rung when there is something that others should hear of.
    told: Notify,
    /// Rung when the counts can no longer be trusted.
    recount: Notify,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("me", &self.me)
            .field("connector", &self.connector)
            .finish_non_exhaustive()
    }
}

impl PostgresStore {
    /// Connects, checks what the server promises, migrates an older schema, refuses a newer one, and
    /// counts what is there.
    ///
    /// # Errors
    /// [`StoreError::Open`] says what is wrong and what to do.
    pub async fn open(url: PostgresUrl, options: PostgresOptions) -> Result<Self, StoreError> {
        let tasks = Tasks::new(CancellationToken::new());
        let connector = Connector::new(url)?;
        let mut first = connector.listen(&tasks).await.map_err(session::at_start)?;
        schema::migrate(&mut first.client).await?;
        drop(first);
        let (pool, readers) = (connector.pool(WRITING)?, connector.pool(READERS)?);
        let me = *ids::event_id().as_uuid();
        let shared = Arc::new(Shared {
            me,
            connector,
            pool,
            policy: options.policy,
            clock: options.clock,
            company: options.company,
            listener: options.listener,
            missed: options.missed,
            ledger: Ledger::new(SharedLanes::default()),
            leaders: Leaders::new(me),
            told: Notify::new(),
            recount: Notify::new(),
        });
        let follower = start_following(&shared, &tasks).await?;
        if shared.company == Company::Alone {
            // Whoever led before is gone, or it would hold the lock.
            leaders::vacate(&shared.pool).await?;
        }
        let shutdown = tasks.shutdown_token();
        let following =
            follow::follow(Arc::clone(&shared), follower, tasks.clone(), shutdown.clone());
        tasks.spawn("store-follower", following);
        let campaigning = Arc::clone(&shared);
        tasks.spawn("store-leaders", async move {
            campaigning.leaders.campaign(&campaigning.pool, shutdown).await;
        });
        let writer = Writer::start(&shared, &tasks);
        Ok(Self { shared, readers, writer, tasks })
    }
}

/// A coordinator that was killed a moment ago may still seem to be connected.
async fn start_following(shared: &Shared, tasks: &Tasks) -> Result<Follower, StoreError> {
    const TRIES: u32 = 20;
    const PAUSE: std::time::Duration = std::time::Duration::from_millis(250);
    let mut tries = 0;
    loop {
        match Follower::start(shared, tasks).await {
            Err(StoreError::Open(_)) if tries < TRIES => tries += 1,
            started => return started.map_err(session::at_start),
        }
        tokio::time::sleep(PAUSE).await;
    }
}
