//! What became of a commit whose answer never came.

use std::time::Duration;

use deadpool_postgres::Pool;
use tokio::time::Instant;
use uuid::Uuid;

use super::session::take;

/// How long to ask. A server that restarts is back sooner.
const LIMIT: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(100);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Committed,
    Undone,
    /// Nobody can tell now: the caller has to look, or to repeat what is safe to repeat.
    Unknown,
}

/// Asks the server what became of a transaction. `told` names the event that it wrote, if it wrote one:
/// after a failover another transaction may have the same number.
pub(super) async fn outcome(pool: &Pool, xid: u64, told: Option<Uuid>) -> Outcome {
    let deadline = Instant::now() + LIMIT;
    loop {
        match ask(pool, xid, told).await {
            Some(outcome) => return outcome,
            None if Instant::now() < deadline => tokio::time::sleep(PAUSE).await,
            None => return Outcome::Unknown,
        }
    }
}

/// `None`: it is still under way, or there is no answer.
async fn ask(pool: &Pool, xid: u64, told: Option<Uuid>) -> Option<Outcome> {
    let db = take(pool).await.ok()?;
    let sql = "SELECT pg_xact_status($1::text::xid8), EXISTS (SELECT FROM events WHERE txn = $2)";
    let row = db.query_one(sql, &[&xid.to_string(), &told]).await.ok()?;
    let (status, found): (Option<&str>, bool) = (row.get(0), row.get(1));
    match status {
        Some("in progress") => None,
        Some("committed") if found || told.is_none() => Some(Outcome::Committed),
        Some("aborted") => Some(Outcome::Undone),
        _ => Some(Outcome::Unknown),
    }
}
