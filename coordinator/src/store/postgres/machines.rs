//! The fleet's ledger, and who may write it. The lead's time is the database's.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use deadpool_postgres::Object;
use stoker_core::fleet::ledger::{Account, EndOrder, Mode, Switch};
use stoker_core::ids::{Epoch, InstanceName, MachineId};
use stoker_core::time::Timestamp;
use tokio_postgres::Row;
use uuid::Uuid;

use crate::store::machines::{
    FLEET_ROLE, LedgerChange, Stored, by_state, counted, end, judge, of_json, page, to_json,
};
use crate::store::{
    LedgerPage, LedgerQuery, LedgerWrite, LedgerWritten, MachineEnded, Reign, StoreError,
};

use super::Shared;
use super::error::{Kind, database, kind};
use super::leaders::CAMPAIGN;
use super::rows::uuid;
use super::session::take;

const WHO: &str = "SELECT holder, epoch, CASE WHEN expires_at > clock_timestamp()
    THEN (extract(epoch FROM expires_at - clock_timestamp()) * 1000)::int8 ELSE 0 END
    FROM leaders WHERE role = $1";

const RESIGN: &str = "UPDATE leaders SET expires_at = '-infinity' WHERE role = $1 AND holder = $2";

/// Held until the end of the transaction: nobody takes the lead while its holder writes.
const LEADER: &str = "SELECT holder, epoch FROM leaders WHERE role = $1 FOR SHARE";

/// One writer at a time, so that the count of open entries and the switch stay what they are.
const FLEET: &str = "SELECT account_version, account, switch FROM fleet FOR UPDATE";

const STORED: &str =
    "SELECT id, version, body FROM machines WHERE id = ANY($1) ORDER BY id FOR UPDATE";

const COUNT: &str = "SELECT count(*) FROM machines WHERE ended_at IS NULL";

const PUT: &str = "INSERT INTO machines (id, version, state, ended_at, body)
    SELECT * FROM unnest($1::uuid[], $2::int8[], $3::text[], $4::int8[], $5::text[])
    ON CONFLICT (id) DO UPDATE SET version = excluded.version, state = excluded.state,
        ended_at = excluded.ended_at, body = excluded.body";

const PAGE: &str = "SELECT id, body FROM machines WHERE ended_at IS NULL AND id > $1
    UNION ALL
    SELECT id, body FROM machines WHERE ended_at >= $2 AND id > $1
    ORDER BY id LIMIT $3";

const STATUS: &str = "SELECT account, switch, CASE WHEN $1 THEN memory END,
    (extract(epoch FROM clock_timestamp()) * 1000)::int8 FROM fleet";

const BY_STATE: &str = "SELECT state, count(*) FROM machines WHERE ended_at IS NULL GROUP BY state";

const EXPIRE: &str = "DELETE FROM machines WHERE id IN (
    SELECT id FROM machines WHERE ended_at < $1 ORDER BY ended_at LIMIT $2)";

/// Takes or keeps the lead for `term`, if it is free; answers who has it.
pub(super) async fn lead(
    shared: &Shared,
    holder: Uuid,
    term: Duration,
) -> Result<Reign, StoreError> {
    let failed = || database("asking for the fleet's lead");
    let db = take(&shared.pool).await?;
    let statement = db.prepare_cached(CAMPAIGN).await.map_err(failed())?;
    let millis = term.as_secs_f64() * 1_000.0;
    db.query_opt(&statement, &[&holder, &millis, &FLEET_ROLE]).await.map_err(failed())?;
    let statement = db.prepare_cached(WHO).await.map_err(failed())?;
    let row = db.query_one(&statement, &[&FLEET_ROLE]).await.map_err(failed())?;
    Ok(Reign {
        holder: row.get(0),
        epoch: Epoch::new(counted(row.get(1))),
        remaining: Duration::from_millis(counted(row.get(2))),
    })
}

pub(super) async fn resign(shared: &Shared, holder: Uuid) -> Result<(), StoreError> {
    let db = take(&shared.pool).await?;
    let resigned = db.execute(RESIGN, &[&FLEET_ROLE, &holder]).await;
    resigned.map(drop).map_err(database("giving up the fleet's lead"))
}

pub(super) async fn write(
    shared: &Shared,
    ledger: &LedgerWrite,
) -> Result<LedgerWritten, StoreError> {
    let begun = Begun(Some(take(&shared.pool).await?));
    let written = write_in(begun.db(), ledger).await;
    match written {
        Ok(LedgerWritten::Written) => begun.committed(),
        _ => begun.give_up().await,
    }
    written
}

/// A connection with a transaction. Dropped before its end, as when a caller no longer waits, it is closed: the next
/// user of the connection would go on in that transaction, and commit what is done of it.
struct Begun(Option<Object>);

impl Begun {
    fn db(&self) -> &Object {
        self.0.as_ref().expect("there until its end")
    }

    /// Its connection is another's.
    fn committed(mut self) {
        drop(self.0.take());
    }

    /// What cannot even be rolled back is closed.
    async fn give_up(self) {
        if self.db().batch_execute("ROLLBACK").await.is_ok() {
            self.committed();
        }
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        if let Some(db) = self.0.take() {
            drop(Object::take(db));
        }
    }
}

async fn write_in(db: &Object, ledger: &LedgerWrite) -> Result<LedgerWritten, StoreError> {
    db.batch_execute("BEGIN").await.map_err(database("writing the ledger"))?;
    let stored = stored(db, ledger).await?;
    let change = match judge(ledger, &stored)? {
        Ok(change) => change,
        Err(LedgerWritten::Written) => LedgerChange::default(),
        Err(refused) => return Ok(refused),
    };
    put(db, &change, ledger.memory.as_ref()).await?;
    commit(db).await?;
    Ok(LedgerWritten::Written)
}

async fn commit(db: &Object) -> Result<(), StoreError> {
    db.batch_execute("COMMIT").await.map_err(|error| match kind(&error) {
        Kind::Away => StoreError::InDoubt(error.into()),
        Kind::Conflict | Kind::Full | Kind::Other => database("writing the ledger")(error),
    })
}

async fn stored(db: &Object, ledger: &LedgerWrite) -> Result<Stored, StoreError> {
    let failed = || database("reading the ledger");
    let leader = db.query_opt(LEADER, &[&FLEET_ROLE]).await.map_err(failed())?;
    let leader = leader.map(|row| (row.get(0), Epoch::new(counted(row.get(1)))));
    let fleet = db.query_one(FLEET, &[]).await.map_err(failed())?;
    let switch: Switch = of_json("the switch", fleet.get(2))?;
    let ids: Vec<Uuid> = ledger.entries.iter().map(|entry| *entry.id.as_uuid()).collect();
    let rows = db.query(STORED, &[&ids]).await.map_err(failed())?;
    let machine = |row: &Row| {
        (MachineId::from_bytes(uuid(row, 0)), (counted(row.get(1)), row.get::<_, String>(2)))
    };
    let machines: BTreeMap<_, _> = rows.iter().map(machine).collect();
    let open = db.query_one(COUNT, &[]).await.map_err(failed())?;
    Ok(Stored {
        leader,
        switch_version: switch.version,
        account: (counted(fleet.get(0)), fleet.get(1)),
        machines,
        open: counted(open.get(0)),
    })
}

async fn put(db: &Object, change: &LedgerChange, memory: Option<&Bytes>) -> Result<(), StoreError> {
    let failed = || database("writing the ledger");
    if !change.machines.is_empty() {
        let rows = change.machines.iter();
        let ids: Vec<Uuid> = rows.clone().map(|row| *row.id.as_uuid()).collect();
        let versions: Vec<i64> = rows.clone().map(|row| row.version).collect();
        let states: Vec<&str> = rows.clone().map(|row| row.state).collect();
        let ended: Vec<Option<i64>> = rows.clone().map(|row| row.ended_at).collect();
        let bodies: Vec<&str> = rows.map(|row| row.body.as_str()).collect();
        db.execute(PUT, &[&ids, &versions, &states, &ended, &bodies]).await.map_err(failed())?;
    }
    if let Some((version, account)) = &change.account {
        let sql = "UPDATE fleet SET account_version = $1, account = $2";
        db.execute(sql, &[version, account]).await.map_err(failed())?;
    }
    if let Some(memory) = memory {
        let sql = "UPDATE fleet SET memory = $1";
        db.execute(sql, &[&memory.as_ref()]).await.map_err(failed())?;
    }
    Ok(())
}

pub(super) async fn is_leaving(db: &Object, instance: &InstanceName) -> Result<bool, StoreError> {
    let failed = || database("looking for a machine");
    let sql = "SELECT EXISTS (SELECT 1 FROM machines WHERE leaving = $1)";
    let statement = db.prepare_cached(sql).await.map_err(failed())?;
    let row = db.query_one(&statement, &[&instance.as_str()]).await.map_err(failed())?;
    Ok(row.get(0))
}

pub(super) async fn read(db: &Object, query: LedgerQuery) -> Result<LedgerPage, StoreError> {
    let failed = || database("reading the ledger");
    // First: an account that is older than the entries has its writer decide again, a younger one would hide what was
    // written in between.
    let statement = db.prepare_cached(STATUS).await.map_err(failed())?;
    let row = db.query_one(&statement, &[&query.with_memory]).await.map_err(failed())?;
    let mut bodies: Vec<String> = Vec::new();
    if query.limit > 0 {
        let after = query.after.map_or(Uuid::nil(), |id| *id.as_uuid());
        let since = query.ended_since.map_or(i64::MAX, Timestamp::as_unix_millis);
        let limit = i64::from(query.limit) + 1;
        let statement = db.prepare_cached(PAGE).await.map_err(failed())?;
        let rows = db.query(&statement, &[&after, &since, &limit]).await.map_err(failed())?;
        bodies = rows.iter().map(|row| row.get(1)).collect();
    }
    let (entries, next) = page(&bodies, query.limit)?;
    let statement = db.prepare_cached(BY_STATE).await.map_err(failed())?;
    let open = db.query(&statement, &[]).await.map_err(failed())?;
    let (account, switch): (Account, Switch) =
        (of_json("the account", row.get(0))?, of_json("the switch", row.get(1))?);
    Ok(LedgerPage {
        entries,
        next,
        account,
        switch,
        memory: row.get::<_, Option<Vec<u8>>>(2).map(Bytes::from),
        open: by_state(open.iter().map(|row| (row.get(0), counted(row.get(1))))),
        read_at: Timestamp::from_unix_millis(row.get(3)),
    })
}

pub(super) async fn set_switch(
    shared: &Shared,
    mode: Mode,
    by: String,
    why: String,
) -> Result<Switch, StoreError> {
    let begun = Begun(Some(take(&shared.pool).await?));
    let set = set_switch_in(begun.db(), mode, (by, why)).await;
    match set {
        Ok(_) => begun.committed(),
        Err(_) => begun.give_up().await,
    }
    set
}

async fn set_switch_in(
    db: &Object,
    mode: Mode,
    (by, why): (String, String),
) -> Result<Switch, StoreError> {
    let failed = || database("setting the fleet's switch");
    db.batch_execute("BEGIN").await.map_err(failed())?;
    let sql = "SELECT switch, (extract(epoch FROM clock_timestamp()) * 1000)::int8
        FROM fleet FOR UPDATE";
    let row = db.query_one(sql, &[]).await.map_err(failed())?;
    let before: Switch = of_json("the switch", row.get(0))?;
    let set_at = Timestamp::from_unix_millis(row.get(1));
    let switch = Switch { mode, version: before.version + 1, by, why, set_at };
    let sql = "UPDATE fleet SET switch = $1";
    db.execute(sql, &[&to_json(&switch)?]).await.map_err(failed())?;
    commit(db).await?;
    Ok(switch)
}

/// Writes an operator's order to end a machine.
pub(super) async fn end_machine(
    shared: &Shared,
    machine: MachineId,
    order: &EndOrder,
) -> Result<MachineEnded, StoreError> {
    let begun = Begun(Some(take(&shared.pool).await?));
    let ended = end_machine_in(begun.db(), machine, order).await;
    match ended {
        Ok(MachineEnded::Written(_)) => begun.committed(),
        _ => begun.give_up().await,
    }
    ended
}

async fn end_machine_in(
    db: &Object,
    machine: MachineId,
    order: &EndOrder,
) -> Result<MachineEnded, StoreError> {
    let failed = || database("ending a machine");
    db.batch_execute("BEGIN").await.map_err(failed())?;
    let sql = "SELECT body, (extract(epoch FROM clock_timestamp()) * 1000)::int8
        FROM machines WHERE id = $1 FOR UPDATE";
    let stored = db.query_opt(sql, &[machine.as_uuid()]).await.map_err(failed())?;
    let Some(stored) = stored else { return Ok(MachineEnded::Unknown) };
    let now = Timestamp::from_unix_millis(stored.get(1));
    let (ended, row) = end(Some(stored.get(0)), order, now)?;
    if let MachineEnded::Written(_) = ended {
        let change = LedgerChange { machines: row.into_iter().collect(), account: None };
        put(db, &change, None).await?;
        commit(db).await?;
    }
    Ok(ended)
}

/// Forgets up to `limit` machines that ended before this time.
pub(super) async fn expire(
    shared: &Shared,
    ended_before: Timestamp,
    limit: u32,
) -> Result<u64, StoreError> {
    let db = take(&shared.pool).await?;
    let removed = db.execute(EXPIRE, &[&ended_before.as_unix_millis(), &i64::from(limit)]).await;
    removed.map_err(database("forgetting machines"))
}
