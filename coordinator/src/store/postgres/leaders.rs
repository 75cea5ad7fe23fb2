//! Which roles this coordinator has: a row for each, held for a few seconds at a time.
//!
//! Time is the database's. The epoch of a row goes up when it changes hands, and a transaction that only
//! the leader may make locks the row with the epoch it knows: one that has lost the role writes nothing,
//! however late it wakes up.

use std::collections::BTreeMap;
use std::time::Duration;

use deadpool_postgres::Pool;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::store::machines::FLEET_ROLE;
use crate::store::{Role, StoreError};

use super::error::database;
use super::load::Epochs;
use super::session::take;

/// How long a role is held without a sign of life.
pub(super) const TERM: Duration = Duration::from_secs(5);
/// Time between signs of life, and between looks at roles that others hold.
const BEAT: Duration = Duration::from_secs(1);

/// A row that is mine, or that nobody holds any more.
pub(super) const CAMPAIGN: &str = "UPDATE leaders SET epoch = epoch + (holder <> $1)::int, holder = $1, \
    expires_at = clock_timestamp() + $2 * interval '1 millisecond' \
    WHERE role = $3 AND (holder = $1 OR expires_at <= clock_timestamp()) RETURNING epoch";

const RESIGN: &str = "UPDATE leaders SET expires_at = '-infinity' WHERE holder = $1";

#[derive(Debug)]
pub(super) struct Leaders {
    me: Uuid,
    held: watch::Sender<BTreeMap<Role, Held>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Held {
    epoch: i64,
    /// By this machine's monotonic clock, counted from before the database was asked: so not later
    /// than what the database thinks.
    until: Instant,
}

impl Leaders {
    pub(super) fn new(me: Uuid) -> Self {
        Self { me, held: watch::Sender::new(BTreeMap::new()) }
    }

    pub(super) fn epochs(&self) -> Epochs {
        let now = Instant::now();
        let held = self.held.borrow();
        held.iter().filter(|(_, held)| held.until > now).map(|(r, held)| (*r, held.epoch)).collect()
    }

    pub(super) fn leads(&self, role: Role) -> bool {
        self.held.borrow().get(&role).is_some_and(|held| held.until > Instant::now())
    }

    pub(super) async fn lead(&self, role: Role) {
        let mut held = self.held.subscribe();
        while !self.leads(role) {
            if held.changed().await.is_err() {
                // The store is closed: nobody leads any more.
                std::future::pending::<()>().await;
            }
        }
    }

    /// The database said that the role is another's.
    pub(super) fn lost(&self, role: Role) {
        if self.held.send_if_modified(|held| held.remove(&role).is_some()) {
            tracing::warn!(role = role.name(), "another coordinator leads now");
        }
    }

    /// Takes what can be had and keeps what is held, until shutdown.
    pub(super) async fn campaign(&self, pool: &Pool, shutdown: CancellationToken) {
        loop {
            for role in Role::ALL {
                if let Err(error) = self.ask(pool, role).await {
                    tracing::debug!(%error, role = role.name(), "a role could not be asked for");
                }
            }
            if shutdown.run_until_cancelled(tokio::time::sleep(BEAT)).await.is_none() {
                return;
            }
        }
    }

    async fn ask(&self, pool: &Pool, role: Role) -> Result<(), StoreError> {
        let asked = Instant::now();
        let term = f64::from(u32::try_from(TERM.as_millis()).unwrap_or(u32::MAX));
        let failed = || database("asking for a role");
        let db = take(pool).await?;
        let statement = db.prepare_cached(CAMPAIGN).await.map_err(failed())?;
        let name = role.name();
        let row = db.query_opt(&statement, &[&self.me, &term, &name]).await.map_err(failed())?;
        let held = row.map(|row| Held { epoch: row.get(0), until: asked + TERM });
        let before = self.held.borrow().get(&role).map(|held| held.epoch);
        match (before, held) {
            (before, Some(Held { epoch, .. })) if before != Some(epoch) => {
                tracing::info!(role = name, epoch, "this coordinator leads");
            }
            (Some(epoch), None) => {
                tracing::warn!(role = name, epoch, "another coordinator leads now");
            }
            _ => {}
        }
        self.held.send_modify(|all| match held {
            Some(held) => drop(all.insert(role, held)),
            None => drop(all.remove(&role)),
        });
        Ok(())
    }

    /// Gives all roles up, so that others need not wait for the terms to end.
    pub(super) async fn resign(&self, pool: &Pool) {
        self.held.send_modify(BTreeMap::clear);
        let resign = async {
            let db = take(pool).await?;
            db.execute(RESIGN, &[&self.me]).await.map_err(database("resigning")).map(drop)
        };
        if let Err(error) = resign.await {
            tracing::debug!(%error, "the roles end by themselves");
        }
    }
}

/// Ends the terms of whoever led before.
pub(super) async fn vacate(pool: &Pool) -> Result<(), StoreError> {
    let db = take(pool).await?;
    // Of coordinators: the fleet's leader is a process of its own.
    let sql = "UPDATE leaders SET expires_at = '-infinity' WHERE role <> $1";
    db.execute(sql, &[&FLEET_ROLE]).await.map(drop).map_err(database("vacating roles"))
}
