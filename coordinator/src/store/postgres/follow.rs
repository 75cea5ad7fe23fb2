//! Hearing of what other coordinators commit.
//!
//! Every transaction that changes jobs leaves a row in `events`. This task reads those that its last
//! reading did not see: by the transactions' ids and the database's own notion of a snapshot, so that one
//! that commits late is neither missed nor seen twice. A notification only says that it is worth looking;
//! without one, it looks twice a second.

use std::sync::Arc;
use std::time::Duration;

use stoker_runtime::retry::Delays;
use stoker_runtime::tasks::Tasks;
use tokio::time::Instant;
use tokio_postgres::Client;
use tokio_util::sync::CancellationToken;

use crate::store::{Origin, StoreError};

use super::error::database;
use super::session::Listening;
use super::snapshot::Snapshot;
use super::{Shared, events, lanes, schema};

/// Others' changes are known after this time at the latest, as long as the database answers.
const TICK: Duration = Duration::from_millis(500);
/// Notifications are sent at most this often: each makes every coordinator look.
const QUIET: Duration = Duration::from_millis(20);
/// Events are kept for longer than this; who has not read for so long counts anew.
const TOO_LATE: Duration = Duration::from_mins(1);

/// The advisory lock that coordinators share, unless one has the embedded broker.
const BROKER_LOCK: i32 = 2;

const CHANNEL: &str = "stoker_events";

/// What is new, and the snapshot in which it was read. The first row always comes.
const NEWS: &str = "SELECT pg_current_snapshot()::text, changes FROM (VALUES (1)) AS one (x)
    LEFT JOIN events ON xid >= pg_snapshot_xmin($1::text::pg_snapshot)
        AND NOT pg_visible_in_snapshot(xid, $1::text::pg_snapshot) AND origin <> $2
    ORDER BY xid, txn";

/// How this coordinator may share the database with others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Company {
    /// It has the embedded broker, through which only its own workers hear of jobs.
    Alone,
    /// It has a broker that all share.
    Others,
}

/// A connection on which the counts are set up and changes are heard.
#[derive(Debug)]
pub(super) struct Follower {
    listening: Listening,
    seen: Snapshot,
    read_at: Instant,
}

impl Follower {
    /// Connects, makes sure of the company, and counts.
    ///
    /// # Errors
    /// [`StoreError::Open`] when another coordinator excludes this one.
    pub(super) async fn start(shared: &Shared, tasks: &Tasks) -> Result<Self, StoreError> {
        let listening = shared.connector.listen(tasks).await?;
        let failed = || database("listening for changes");
        exclude(&listening.client, shared.company).await?;
        let listen = format!("LISTEN {CHANNEL}");
        listening.client.batch_execute(&listen).await.map_err(failed())?;
        let seen = count(shared, &listening).await?;
        Ok(Self { listening, seen, read_at: Instant::now() })
    }

    /// Reads what is new and passes it on.
    async fn read(&mut self, shared: &Shared) -> Result<(), StoreError> {
        if self.read_at.elapsed() > TOO_LATE {
            tracing::warn!("this coordinator was away for long: it counts the jobs anew");
            self.recount(shared).await?;
        }
        let asked = Instant::now();
        let client = &self.listening.client;
        let rows = client.query(NEWS, &[&self.seen.text(), &shared.me]).await;
        let rows = rows.map_err(database("reading other coordinators' changes"))?;
        let news: Vec<&str> = rows.iter().filter_map(|row| row.get(1)).collect();
        for text in news {
            let mut decoded = events::decode(text, &shared.ledger.lanes);
            if decoded.is_err() {
                // A lane that another coordinator has just put in.
                lanes::refresh(client, &shared.ledger.lanes).await?;
                decoded = events::decode(text, &shared.ledger.lanes);
            }
            let (changes, deltas) = decoded?;
            shared.ledger.foreign(&deltas);
            (shared.listener)(&changes, Origin::Elsewhere);
        }
        let snapshot = rows.first().and_then(|row| Snapshot::parse(row.get(0)));
        self.seen = snapshot.ok_or_else(|| StoreError::Corrupt("a snapshot".to_owned()))?;
        self.read_at = asked;
        Ok(())
    }

    /// Counts anew and has everybody look: changes may have been missed.
    async fn recount(&mut self, shared: &Shared) -> Result<(), StoreError> {
        self.seen = count(shared, &self.listening).await?;
        self.read_at = Instant::now();
        (shared.missed)();
        Ok(())
    }
}

/// Takes the lock that says with whom the database can be shared. Held as long as the connection.
///
/// # Errors
/// [`StoreError::Open`] when somebody else excludes this.
pub(super) async fn exclude(client: &Client, company: Company) -> Result<(), StoreError> {
    let sql = match company {
        Company::Alone => "SELECT pg_try_advisory_lock($1, $2)",
        Company::Others => "SELECT pg_try_advisory_lock_shared($1, $2)",
    };
    let row = client.query_one(sql, &[&schema::LOCK_SPACE, &BROKER_LOCK]).await;
    if row.map_err(database("asking who uses the database"))?.get(0) {
        return Ok(());
    }
    Err(StoreError::Open(excluded(company).to_owned()))
}

async fn count(shared: &Shared, listening: &Listening) -> Result<Snapshot, StoreError> {
    lanes::refresh(&listening.client, &shared.ledger.lanes).await?;
    shared.ledger.begin_count();
    let (snapshot, counts) = lanes::count(&listening.client).await?;
    shared.ledger.counted(snapshot.clone(), &counts);
    Ok(snapshot)
}

fn excluded(company: Company) -> &'static str {
    match company {
        Company::Alone => {
            "another coordinator uses this database, and this one has the embedded broker, through \
             which only workers of its own would hear of jobs: give all coordinators one RabbitMQ \
             with --broker, or run a single one"
        }
        Company::Others => {
            "a coordinator with the embedded broker uses this database, and its workers would not \
             hear of jobs that this one releases: give all coordinators one RabbitMQ with --broker, \
             or stop that one"
        }
    }
}

/// Follows until shutdown; connects anew whenever the connection breaks.
pub(super) async fn follow(
    shared: Arc<Shared>,
    mut follower: Follower,
    tasks: Tasks,
    shutdown: CancellationToken,
) {
    let mut delays = Delays::new(Duration::from_millis(100), Duration::from_secs(2));
    loop {
        if let Err(error) = listen(&shared, &mut follower, &shutdown).await {
            let error: &dyn std::error::Error = &error;
            tracing::warn!(error, "other coordinators' changes cannot be read; connecting anew");
        } else {
            return;
        }
        follower = loop {
            if !delays.wait(&shutdown).await {
                return;
            }
            match Follower::start(&shared, &tasks).await {
                Ok(follower) => break follower,
                Err(StoreError::Open(problem)) => {
                    tracing::error!(problem, "other coordinators' changes cannot be read");
                }
                Err(error) => tracing::debug!(%error, "the database is away"),
            }
        };
        delays.reset();
        // What happened meanwhile is in the counts, but nobody was told.
        (shared.missed)();
    }
}

/// Reads and tells until the connection breaks; `Ok` on shutdown.
async fn listen(
    shared: &Shared,
    follower: &mut Follower,
    shutdown: &CancellationToken,
) -> Result<(), StoreError> {
    let mut told_at = Instant::now();
    let mut tell = false;
    loop {
        let quiet = QUIET.saturating_sub(told_at.elapsed());
        // Cancel-safe: a bell that was not taken stays rung.
        tokio::select! {
            () = follower.listening.bell.notified() => {}
            () = tokio::time::sleep(TICK) => {}
            () = shared.told.notified(), if !tell => tell = true,
            () = tokio::time::sleep(quiet), if tell => {
                let notify = format!("NOTIFY {CHANNEL}");
                follower.listening.client.batch_execute(&notify).await
                    .map_err(database("notifying others"))?;
                (tell, told_at) = (false, Instant::now());
            }
            () = shared.recount.notified() => follower.recount(shared).await?,
            () = shutdown.cancelled() => return Ok(()),
        }
        if !tell {
            follower.read(shared).await?;
        }
    }
}
