//! All rows of a store, piece by piece, for copying them elsewhere.

use std::path::Path;

use rusqlite::{Connection, Row};
use tokio::sync::mpsc;

use crate::store::job_row::JobColumns;
use crate::store::lanes::{LaneId, LaneNames};
use crate::store::{Lane, StoreError};

use super::{lock, rows, schema};

/// Rows and bytes in one piece; a larger row is a piece of its own.
const PIECE_ROWS: usize = 1_000;
const PIECE_BYTES: usize = 4 << 20;

/// Rows of one table.
#[derive(Debug)]
pub(in crate::store) enum Piece {
    Lanes(Vec<(LaneId, LaneNames)>),
    Jobs(Vec<ExportedJob>),
    Inputs(Vec<([u8; 16], Vec<u8>)>),
    Keys(Vec<ExportedKey>),
    Attempts(Vec<ExportedAttempt>),
    Results(Vec<ExportedPart>),
    Outbox(Vec<([u8; 16], u32)>),
    Machines(Vec<ExportedMachine>),
    /// Its one row.
    Fleet(Vec<ExportedFleet>),
}

#[derive(Debug)]
pub(in crate::store) struct ExportedJob {
    pub(in crate::store) columns: JobColumns,
    pub(in crate::store) due_at: Option<i64>,
    pub(in crate::store) key: Option<String>,
}

#[derive(Debug)]
pub(in crate::store) struct ExportedKey {
    pub(in crate::store) tenant: String,
    pub(in crate::store) key: String,
    pub(in crate::store) digest: Vec<u8>,
    pub(in crate::store) job: [u8; 16],
}

#[derive(Debug)]
pub(in crate::store) struct ExportedAttempt {
    pub(in crate::store) job: [u8; 16],
    pub(in crate::store) attempt: u32,
    pub(in crate::store) worker: [u8; 16],
    pub(in crate::store) token: [u8; 16],
    pub(in crate::store) started_at: i64,
    pub(in crate::store) ended_at: Option<i64>,
    pub(in crate::store) outcome: u8,
    pub(in crate::store) code: String,
    pub(in crate::store) message: String,
}

#[derive(Debug)]
pub(in crate::store) struct ExportedPart {
    pub(in crate::store) job: [u8; 16],
    pub(in crate::store) first_item: u32,
    pub(in crate::store) items: u32,
    pub(in crate::store) data: Vec<u8>,
}

#[derive(Debug)]
pub(in crate::store) struct ExportedMachine {
    pub(in crate::store) id: [u8; 16],
    pub(in crate::store) version: i64,
    pub(in crate::store) state: String,
    pub(in crate::store) ended_at: Option<i64>,
    pub(in crate::store) body: String,
}

#[derive(Debug)]
pub(in crate::store) struct ExportedFleet {
    pub(in crate::store) account_version: i64,
    pub(in crate::store) account: String,
    pub(in crate::store) switch: String,
    pub(in crate::store) memory: Option<Vec<u8>>,
    /// Of the fleet's last leader; a later one has to have a higher.
    pub(in crate::store) epoch: i64,
}

/// Sends everything in the store of this directory; lanes and jobs come first. Blocks. Ends early when
/// nobody receives any more.
///
/// # Errors
/// [`StoreError::Open`] when there is no store, or a coordinator uses it.
pub(in crate::store) fn export(
    directory: &Path,
    pieces: &mpsc::Sender<Piece>,
) -> Result<(), StoreError> {
    let file = directory.join("stoker.db");
    if !file.exists() {
        return Err(StoreError::Open(format!(
            "there is no store in {}; name its directory with --data",
            directory.display()
        )));
    }
    let _lock = lock(directory)?;
    let db = schema::open(&file)?;
    let sent = Export { db: &db, pieces }.all();
    sent.map_err(StoreError::database("reading the store that is copied"))
}

struct Export<'a> {
    db: &'a Connection,
    pieces: &'a mpsc::Sender<Piece>,
}

impl Export<'_> {
    fn all(&self) -> rusqlite::Result<()> {
        self.table("SELECT id, tenant, class, pool, model FROM lanes", lane, Piece::Lanes)?;
        let columns = rows::COLUMNS;
        let jobs = format!("SELECT {columns}, due_at, idempotency_key FROM jobs ORDER BY id");
        self.table(&jobs, job, Piece::Jobs)?;
        let inputs = "SELECT job, input FROM inputs ORDER BY job";
        self.table(inputs, |row| Ok((row.get(0)?, row.get(1)?)), Piece::Inputs)?;
        self.table("SELECT tenant, key, digest, job FROM idempotency", key, Piece::Keys)?;
        let attempts = "SELECT job, attempt, worker, token, started_at, ended_at, outcome, code,
            message FROM attempts";
        self.table(attempts, attempt, Piece::Attempts)?;
        let results = "SELECT job, first_item, items, data FROM results";
        self.table(results, part, Piece::Results)?;
        let outbox = "SELECT job, seq FROM outbox";
        self.table(outbox, |row| Ok((row.get(0)?, row.get(1)?)), Piece::Outbox)?;
        let machines = "SELECT id, version, state, ended_at, body FROM machines";
        self.table(machines, machine, Piece::Machines)?;
        let fleet = "SELECT account_version, account, switch, memory,
            (SELECT coalesce(max(epoch), 0) FROM leaders WHERE role = 'fleet') FROM fleet";
        self.table(fleet, self::fleet, Piece::Fleet)
    }

    fn table<T: Weighs>(
        &self,
        sql: &str,
        read: impl Fn(&Row<'_>) -> rusqlite::Result<T>,
        piece: impl Fn(Vec<T>) -> Piece,
    ) -> rusqlite::Result<()> {
        let mut statement = self.db.prepare(sql)?;
        let mut found = statement.query([])?;
        let (mut rows, mut bytes) = (Vec::new(), 0);
        while let Some(row) = found.next()? {
            let row = read(row)?;
            bytes += row.bytes();
            rows.push(row);
            if rows.len() >= PIECE_ROWS || bytes >= PIECE_BYTES {
                if self.pieces.blocking_send(piece(std::mem::take(&mut rows))).is_err() {
                    return Ok(());
                }
                bytes = 0;
            }
        }
        if !rows.is_empty() {
            // Whoever no longer receives has its own reason.
            let _ = self.pieces.blocking_send(piece(rows));
        }
        Ok(())
    }
}

/// What a row weighs, where that can be much.
trait Weighs {
    fn bytes(&self) -> usize {
        0
    }
}

impl Weighs for (LaneId, LaneNames) {}
impl Weighs for ExportedJob {}
impl Weighs for ExportedKey {}
impl Weighs for ExportedAttempt {}
impl Weighs for ([u8; 16], u32) {}
impl Weighs for ExportedMachine {
    fn bytes(&self) -> usize {
        self.body.len()
    }
}
impl Weighs for ExportedFleet {}
impl Weighs for ([u8; 16], Vec<u8>) {
    fn bytes(&self) -> usize {
        self.1.len()
    }
}
impl Weighs for ExportedPart {
    fn bytes(&self) -> usize {
        self.data.len()
    }
}

fn lane(row: &Row<'_>) -> rusqlite::Result<(LaneId, LaneNames)> {
    let lane = Lane { pool: rows::name(row, 3)?, model: rows::name(row, 4)? };
    let names = LaneNames { tenant: rows::name(row, 1)?, class: rows::name(row, 2)?, lane };
    Ok((row.get(0)?, names))
}

fn job(row: &Row<'_>) -> rusqlite::Result<ExportedJob> {
    let columns = rows::read(row)?;
    Ok(ExportedJob { columns, due_at: row.get("due_at")?, key: row.get("idempotency_key")? })
}

fn key(row: &Row<'_>) -> rusqlite::Result<ExportedKey> {
    let (tenant, key) = (row.get(0)?, row.get(1)?);
    Ok(ExportedKey { tenant, key, digest: row.get(2)?, job: row.get(3)? })
}

fn attempt(row: &Row<'_>) -> rusqlite::Result<ExportedAttempt> {
    Ok(ExportedAttempt {
        job: row.get(0)?,
        attempt: row.get(1)?,
        worker: row.get(2)?,
        token: row.get(3)?,
        started_at: row.get(4)?,
        ended_at: row.get(5)?,
        outcome: row.get(6)?,
        code: row.get(7)?,
        message: row.get(8)?,
    })
}

fn machine(row: &Row<'_>) -> rusqlite::Result<ExportedMachine> {
    let (id, version, state) = (row.get(0)?, row.get(1)?, row.get(2)?);
    Ok(ExportedMachine { id, version, state, ended_at: row.get(3)?, body: row.get(4)? })
}

fn fleet(row: &Row<'_>) -> rusqlite::Result<ExportedFleet> {
    let (account_version, account) = (row.get(0)?, row.get(1)?);
    let (switch, memory, epoch) = (row.get(2)?, row.get(3)?, row.get(4)?);
    Ok(ExportedFleet { account_version, account, switch, memory, epoch })
}

fn part(row: &Row<'_>) -> rusqlite::Result<ExportedPart> {
    let (job, first_item) = (row.get(0)?, row.get(1)?);
    Ok(ExportedPart { job, first_item, items: row.get(2)?, data: row.get(3)? })
}
