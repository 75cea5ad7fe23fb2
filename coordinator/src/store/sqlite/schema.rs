//! The file's layout, and how an older file becomes a present one.

use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rusqlite::{Connection, OpenFlags};

use crate::store::StoreError;

/// Marks the file as ours: "Stkr" in ASCII.
const APPLICATION_ID: i32 = 0x5374_6b72;

/// Pages of 8 KiB hold an ordinary input without overflow pages.
pub(super) const PAGE_BYTES: u32 = 8192;

/// What the write-ahead log keeps on disk while it is empty.
pub(super) const LOG_BYTES: u64 = 64 << 20;

/// Each brings the schema from its index to the next version. Never edit one that was released.
const MIGRATIONS: [&str; 5] = [
    r"
    -- Tenant, class, pool and model of jobs.
    CREATE TABLE lanes (
        id     INTEGER PRIMARY KEY,
        tenant TEXT NOT NULL,
        class  TEXT NOT NULL,
        pool   TEXT NOT NULL,
        model  TEXT NOT NULL,
        UNIQUE (tenant, class, pool, model)
    ) STRICT;

    -- Times are milliseconds since the Unix epoch.
    CREATE TABLE jobs (
        id                  BLOB    PRIMARY KEY,
        lane                INTEGER NOT NULL,
        task                INTEGER NOT NULL,
        state               INTEGER NOT NULL,
        dispatch_seq        INTEGER NOT NULL,
        last_attempt        INTEGER NOT NULL,
        failures            INTEGER NOT NULL,
        crashes             INTEGER NOT NULL,
        lost_workers        INTEGER NOT NULL,
        interruptions       INTEGER NOT NULL,
        accepted_at         INTEGER NOT NULL,
        started_at          INTEGER,
        finished_at         INTEGER,
        deadline_at         INTEGER NOT NULL,
        start_by            INTEGER NOT NULL,
        items_total         INTEGER NOT NULL,
        items_done          INTEGER NOT NULL,
        run_alone           INTEGER NOT NULL,
        failure_reason      INTEGER,
        failure_code        TEXT,
        failure_message     TEXT,
        -- When a dispatched job was dispatched; when a retry is due.
        state_at            INTEGER,
        lease_token         BLOB,
        lease_worker        BLOB,
        lease_claim         BLOB,
        lease_expires_at    INTEGER,
        lease_must_end_by   INTEGER,
        cancel_requested_at INTEGER,
        -- The job's next timer.
        due_at              INTEGER,
        labels              TEXT,
        trace               TEXT,
        idempotency_key     TEXT,
        input_bytes         INTEGER NOT NULL,
        result_bytes        INTEGER NOT NULL,
        -- Results or checkpoints are stored.
        has_results         INTEGER NOT NULL,
        retry_of            BLOB,
        retried_as          BLOB,
        -- An operator took it off the list of dead letters.
        discarded           INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;

    CREATE INDEX jobs_waiting  ON jobs (lane, start_by, id) WHERE state = 1;
    CREATE INDEX jobs_leased   ON jobs (lease_worker) WHERE state = 3;
    CREATE INDEX jobs_failed   ON jobs (id) WHERE state = 6;
    CREATE INDEX jobs_due      ON jobs (due_at) WHERE due_at IS NOT NULL;
    CREATE INDEX jobs_finished ON jobs (finished_at) WHERE finished_at IS NOT NULL;

    CREATE TABLE inputs (
        job   BLOB PRIMARY KEY,
        input BLOB NOT NULL
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE idempotency (
        tenant TEXT NOT NULL,
        key    TEXT NOT NULL,
        digest BLOB NOT NULL,
        job    BLOB NOT NULL,
        PRIMARY KEY (tenant, key)
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE attempts (
        job        BLOB    NOT NULL,
        attempt    INTEGER NOT NULL,
        worker     BLOB    NOT NULL,
        token      BLOB    NOT NULL,
        started_at INTEGER NOT NULL,
        ended_at   INTEGER,
        outcome    INTEGER NOT NULL,
        code       TEXT    NOT NULL,
        message    TEXT    NOT NULL,
        PRIMARY KEY (job, attempt)
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE results (
        job        BLOB    NOT NULL,
        first_item INTEGER NOT NULL,
        items      INTEGER NOT NULL,
        data       BLOB    NOT NULL,
        PRIMARY KEY (job, first_item)
    ) STRICT;

    -- Messages that the broker has not confirmed.
    CREATE TABLE outbox (
        job BLOB    PRIMARY KEY,
        seq INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
",
    "CREATE INDEX jobs_dispatched ON jobs (lane) WHERE state = 2;",
    // Else retention would look at each job whose results are gone, again and again.
    "CREATE INDEX jobs_with_results ON jobs (finished_at)
         WHERE has_results = 1 AND finished_at IS NOT NULL;",
    r"
    -- Who leads what other processes share. The epoch goes up with every change of hands.
    CREATE TABLE leaders (
        role       TEXT    PRIMARY KEY,
        holder     BLOB    NOT NULL,
        epoch      INTEGER NOT NULL,
        expires_at INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;

    -- Machines that the fleet asked for, as documents.
    CREATE TABLE machines (
        id       BLOB    PRIMARY KEY,
        version  INTEGER NOT NULL,
        state    TEXT    NOT NULL,
        ended_at INTEGER,
        body     TEXT    NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX machines_open  ON machines (id, state) WHERE ended_at IS NULL;
    CREATE INDEX machines_ended ON machines (ended_at) WHERE ended_at IS NOT NULL;

    -- One row: what the machines add up to, the operators' switch, and what the planner has learned.
    CREATE TABLE fleet (
        one             INTEGER PRIMARY KEY CHECK (one = 1),
        account_version INTEGER NOT NULL,
        account         TEXT    NOT NULL,
        switch          TEXT    NOT NULL,
        memory          BLOB
    ) STRICT;
    INSERT INTO fleet (one, account_version, account, switch) VALUES (1, 0, '{}', '{}');
",
    r"
    -- The name of a machine that is being ended or is gone: workers on it have to leave.
    ALTER TABLE machines ADD COLUMN leaving TEXT GENERATED ALWAYS AS (
        coalesce(json_extract(body, '$.state.terminating.instance'),
                 json_extract(body, '$.state.gone.instance'))) VIRTUAL;
    CREATE INDEX machines_leaving ON machines (leaving) WHERE leaving IS NOT NULL;
",
];

/// Opens the file for writing: checked, and with the present schema. Nobody else may read it.
pub(super) fn open(file: &Path) -> Result<Connection, StoreError> {
    let fail = |doing: &'static str| {
        move |error: OpenError| {
            let remedy = error.remedy();
            StoreError::Open(format!(
                "cannot open the store {}: {doing}: {error}; {remedy}, or choose another data \
                 directory with --data",
                file.display()
            ))
        }
    };
    let mut connection = make(file).map_err(fail("opening the file"))?;
    configure(&connection).map_err(OpenError::from).map_err(fail("setting it up"))?;
    identify(&connection).map_err(fail("reading its header"))?;
    check(&connection).map_err(fail("checking its integrity"))?;
    migrate(&mut connection)
        .map_err(OpenError::from)
        .map_err(fail("bringing its schema up to date"))?;
    Ok(connection)
}

/// Why a file is no store to work with.
#[derive(Debug, thiserror::Error)]
enum OpenError {
    #[error(transparent)]
    Database(#[from] rusqlite::Error),
    #[error(transparent)]
    File(#[from] std::io::Error),
    #[error("{0}")]
    Content(String),
}

impl OpenError {
    fn remedy(&self) -> &'static str {
        let full = match self {
            Self::Database(error) => {
                error.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull)
            }
            Self::File(error) => error.kind() == std::io::ErrorKind::StorageFull,
            Self::Content(_) => false,
        };
        if full { "free some space there" } else { "restore the file from a backup" }
    }
}

/// The files that `SQLite` puts beside it get the same permissions.
fn make(file: &Path) -> Result<Connection, OpenError> {
    let mut options = std::fs::OpenOptions::new();
    options.create(true).append(true).mode(0o600).open(file)?;
    Ok(Connection::open(file)?)
}

/// Opens the file for reading only.
pub(super) fn open_reader(file: &Path) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let open = || {
        let connection = Connection::open_with_flags(file, flags)?;
        connection.pragma_update(None, "cache_size", -16_384)?;
        connection.set_prepared_statement_cache_capacity(64);
        Ok(connection)
    };
    open().map_err(StoreError::database("opening the store for reading"))
}

fn configure(connection: &Connection) -> rusqlite::Result<()> {
    connection.pragma_update(None, "page_size", PAGE_BYTES)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    connection.pragma_update(None, "cache_size", -131_072)?;
    // A checkpoint copies pages back once the log has 32 MiB: rarer, and mostly of pages that
    // several transactions shared.
    connection.pragma_update(None, "wal_autocheckpoint", 4096)?;
    connection.pragma_update(None, "journal_size_limit", LOG_BYTES)?;
    connection.set_prepared_statement_cache_capacity(128);
    Ok(())
}

fn identify(connection: &Connection) -> Result<(), OpenError> {
    let pragma = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i32>(0));
    let application = pragma("application_id")?;
    let version = pragma("user_version")?;
    if application != APPLICATION_ID && (application != 0 || version != 0) {
        return Err(OpenError::Content("it is a database of another program".to_owned()));
    }
    if usize::try_from(version).is_ok_and(|version| version > MIGRATIONS.len()) {
        return Err(OpenError::Content(format!(
            "it was written by a newer version of stoker (schema {version}, this one knows up to \
             {}); run that version",
            MIGRATIONS.len()
        )));
    }
    Ok(())
}

fn check(connection: &Connection) -> Result<(), OpenError> {
    let verdict: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if verdict == "ok" {
        return Ok(());
    }
    Err(OpenError::Content(format!("it is damaged ({verdict})")))
}

fn migrate(connection: &mut Connection) -> rusqlite::Result<()> {
    let version: u32 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    for (index, sql) in (0_u32..).zip(MIGRATIONS).skip(version as usize) {
        let transaction = connection.transaction()?;
        transaction.execute_batch(sql)?;
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
        transaction.pragma_update(None, "user_version", index + 1)?;
        transaction.commit()?;
    }
    Ok(())
}
