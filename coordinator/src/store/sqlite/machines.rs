//! The fleet's ledger, and who may write it.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension as _, params};
use stoker_core::fleet::ledger::{Account, EndOrder, Mode, Switch};
use stoker_core::ids::{Epoch, InstanceName, MachineId};
use stoker_core::time::Timestamp;
use uuid::Uuid;

use crate::store::machines::{
    FLEET_ROLE, LedgerChange, Stored, by_state, counted, end, judge, of_json, page, to_json,
};
use crate::store::{
    LedgerPage, LedgerQuery, LedgerWrite, LedgerWritten, MachineEnded, Reign, StoreError,
};

use super::writer::Write;

/// Takes or keeps the lead for `term`, if it is free; answers who has it.
pub(super) fn lead(
    write: &mut Write<'_>,
    holder: Uuid,
    term: Duration,
) -> Result<Reign, StoreError> {
    let failed = || StoreError::database("asking for the fleet's lead");
    let until = write.now.after(term).as_unix_millis();
    write
        .db
        .prepare_cached(
            "INSERT INTO leaders (role, holder, epoch, expires_at) VALUES (?1, ?2, 1, ?3)
             ON CONFLICT (role) DO UPDATE SET epoch = epoch + (holder <> excluded.holder),
                 holder = excluded.holder, expires_at = excluded.expires_at
             WHERE holder = excluded.holder OR expires_at <= ?4",
        )
        .and_then(|mut sql| {
            let now = write.now.as_unix_millis();
            sql.execute(params![FLEET_ROLE, holder.as_bytes(), until, now])
        })
        .map_err(failed())?;
    let (holder, epoch, until) = write
        .db
        .prepare_cached("SELECT holder, epoch, expires_at FROM leaders WHERE role = ?")
        .and_then(|mut sql| {
            sql.query_row([FLEET_ROLE], |row| {
                let holder: [u8; 16] = row.get(0)?;
                Ok((Uuid::from_bytes(holder), row.get::<_, i64>(1)?, row.get::<_, i64>(2)?))
            })
        })
        .map_err(failed())?;
    let remaining = Timestamp::from_unix_millis(until).since(write.now);
    Ok(Reign { holder, epoch: Epoch::new(counted(epoch)), remaining })
}

pub(super) fn resign(write: &mut Write<'_>, holder: Uuid) -> Result<(), StoreError> {
    let now = write.now.as_unix_millis();
    write
        .db
        .prepare_cached("UPDATE leaders SET expires_at = ?1 WHERE role = ?2 AND holder = ?3")
        .and_then(|mut sql| sql.execute(params![now, FLEET_ROLE, holder.as_bytes()]))
        .map(drop)
        .map_err(StoreError::database("giving up the fleet's lead"))
}

pub(super) fn write(
    write: &mut Write<'_>,
    ledger: &LedgerWrite,
) -> Result<LedgerWritten, StoreError> {
    let failed = || StoreError::database("reading the ledger");
    let stored = stored(write.db, ledger).map_err(failed())??;
    match judge(ledger, &stored)? {
        Err(refused) => Ok(refused),
        Ok(change) => {
            let memory = ledger.memory.as_ref();
            put(write.db, &change, memory).map_err(StoreError::database("writing the ledger"))?;
            Ok(LedgerWritten::Written)
        }
    }
}

fn stored(db: &Connection, ledger: &LedgerWrite) -> rusqlite::Result<Result<Stored, StoreError>> {
    let leader = db
        .prepare_cached("SELECT holder, epoch FROM leaders WHERE role = ?")?
        .query_row([FLEET_ROLE], |row| {
            let holder: [u8; 16] = row.get(0)?;
            Ok((Uuid::from_bytes(holder), Epoch::new(counted(row.get(1)?))))
        })
        .optional()?;
    let (version, account, switch): (i64, String, String) = db
        .prepare_cached("SELECT account_version, account, switch FROM fleet")?
        .query_row([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    let mut machines = BTreeMap::new();
    let mut one = db.prepare_cached("SELECT version, body FROM machines WHERE id = ?")?;
    for entry in &ledger.entries {
        let found = one
            .query_row([entry.id.as_bytes()], |row| Ok((counted(row.get(0)?), row.get(1)?)))
            .optional()?;
        machines.extend(found.map(|found| (entry.id, found)));
    }
    let open = db
        .prepare_cached("SELECT count(*) FROM machines WHERE ended_at IS NULL")?
        .query_row([], |row| row.get(0))
        .map(counted)?;
    let switch = of_json::<Switch>("the switch", &switch);
    Ok(switch.map(|switch| Stored {
        leader,
        switch_version: switch.version,
        account: (counted(version), account),
        machines,
        open,
    }))
}

fn put(db: &Connection, change: &LedgerChange, memory: Option<&Bytes>) -> rusqlite::Result<()> {
    let mut put = db.prepare_cached(
        "INSERT INTO machines (id, version, state, ended_at, body) VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT (id) DO UPDATE SET version = excluded.version, state = excluded.state,
             ended_at = excluded.ended_at, body = excluded.body",
    )?;
    for row in &change.machines {
        put.execute(params![row.id.as_bytes(), row.version, row.state, row.ended_at, row.body])?;
    }
    if let Some((version, account)) = &change.account {
        db.prepare_cached("UPDATE fleet SET account_version = ?, account = ?")?
            .execute(params![version, account])?;
    }
    if let Some(memory) = memory {
        db.prepare_cached("UPDATE fleet SET memory = ?")?.execute(params![memory.as_ref()])?;
    }
    Ok(())
}

pub(super) fn is_leaving(db: &Connection, instance: &InstanceName) -> Result<bool, StoreError> {
    db.prepare_cached("SELECT 1 FROM machines WHERE leaving = ?")
        .and_then(|mut sql| sql.exists([instance.as_str()]))
        .map_err(StoreError::database("looking for a machine"))
}

pub(super) fn read(
    db: &Connection,
    query: LedgerQuery,
    read_at: Timestamp,
) -> Result<LedgerPage, StoreError> {
    let failed = || StoreError::database("reading the ledger");
    // First: an account that is older than the entries has its writer decide again, a younger one would hide what was
    // written in between.
    let (account, switch, memory) = db
        .prepare_cached("SELECT account, switch, CASE WHEN ? THEN memory END FROM fleet")
        .and_then(|mut sql| {
            sql.query_row([query.with_memory], |row| {
                let (account, switch): (String, String) = (row.get(0)?, row.get(1)?);
                Ok((account, switch, row.get::<_, Option<Vec<u8>>>(2)?))
            })
        })
        .map_err(failed())?;
    let bodies = bodies(db, query).map_err(failed())?;
    let (entries, next) = page(&bodies, query.limit)?;
    let open = open(db).map_err(failed())?;
    let (account, switch): (Account, Switch) =
        (of_json("the account", &account)?, of_json("the switch", &switch)?);
    let memory = memory.map(Bytes::from);
    Ok(LedgerPage { entries, next, account, switch, memory, open: by_state(open), read_at })
}

fn bodies(db: &Connection, query: LedgerQuery) -> rusqlite::Result<Vec<String>> {
    if query.limit == 0 {
        return Ok(Vec::new());
    }
    let after = query.after.unwrap_or(MachineId::from_bytes([0; 16]));
    let since = query.ended_since.map_or(i64::MAX, Timestamp::as_unix_millis);
    let limit = i64::from(query.limit) + 1;
    db.prepare_cached(
        "SELECT id, body FROM machines WHERE ended_at IS NULL AND id > ?1
         UNION ALL
         SELECT id, body FROM machines
         WHERE ended_at IS NOT NULL AND ended_at >= ?2 AND id > ?1
         ORDER BY id LIMIT ?3",
    )?
    .query_map(params![after.as_bytes(), since, limit], |row| row.get(1))?
    .collect()
}

fn open(db: &Connection) -> rusqlite::Result<Vec<(String, u64)>> {
    db.prepare_cached("SELECT state, count(*) FROM machines WHERE ended_at IS NULL GROUP BY state")?
        .query_map([], |row| Ok((row.get(0)?, counted(row.get(1)?))))?
        .collect()
}

pub(super) fn set_switch(
    write: &mut Write<'_>,
    (mode, by, why): (Mode, &str, &str),
) -> Result<Switch, StoreError> {
    let failed = || StoreError::database("setting the fleet's switch");
    let before: String = write
        .db
        .prepare_cached("SELECT switch FROM fleet")
        .and_then(|mut sql| sql.query_row([], |row| row.get(0)))
        .map_err(failed())?;
    let before: Switch = of_json("the switch", &before)?;
    let (by, why) = (by.to_owned(), why.to_owned());
    let switch = Switch { mode, version: before.version + 1, by, why, set_at: write.now };
    let text = to_json(&switch)?;
    write
        .db
        .prepare_cached("UPDATE fleet SET switch = ?")
        .and_then(|mut sql| sql.execute([text]))
        .map_err(failed())?;
    Ok(switch)
}

/// Writes an operator's order to end a machine.
pub(super) fn end_machine(
    write: &mut Write<'_>,
    machine: MachineId,
    order: &EndOrder,
) -> Result<MachineEnded, StoreError> {
    let failed = || StoreError::database("ending a machine");
    let stored: Option<String> = write
        .db
        .prepare_cached("SELECT body FROM machines WHERE id = ?")
        .and_then(|mut sql| sql.query_row([machine.as_bytes()], |row| row.get(0)).optional())
        .map_err(failed())?;
    let (ended, row) = end(stored.as_deref(), order, write.now)?;
    if let Some(row) = row {
        let change = LedgerChange { machines: vec![row], account: None };
        put(write.db, &change, None).map_err(failed())?;
    }
    Ok(ended)
}

/// Forgets up to `limit` machines that ended before this time.
pub(super) fn expire(
    write: &mut Write<'_>,
    ended_before: Timestamp,
    limit: u32,
) -> Result<u64, StoreError> {
    write
        .db
        .prepare_cached(
            "DELETE FROM machines WHERE id IN (SELECT id FROM machines
             WHERE ended_at IS NOT NULL AND ended_at < ? ORDER BY ended_at LIMIT ?)",
        )
        .and_then(|mut sql| sql.execute(params![ended_before.as_unix_millis(), limit]))
        .map(|removed| removed as u64)
        .map_err(StoreError::database("forgetting machines"))
}
