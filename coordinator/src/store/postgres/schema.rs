//! The tables' layout, and how older tables become present ones.

use tokio_postgres::Client;

use crate::store::StoreError;

use super::error::database;

/// Tells our advisory locks from those of other programs in the database: "Stkr" in ASCII.
pub(super) const LOCK_SPACE: i32 = 0x5374_6b72;
/// The advisory lock of a migration.
const MIGRATION_LOCK: i32 = 1;

/// Each brings the schema from its index to the next version. Never edit one that was released.
const MIGRATIONS: [&str; 3] = [
    r"
    -- Tenant, class, pool and model of jobs.
    CREATE TABLE lanes (
        id     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        tenant text NOT NULL,
        class  text NOT NULL,
        pool   text NOT NULL,
        model  text NOT NULL,
        UNIQUE (tenant, class, pool, model)
    );

    -- Times are milliseconds since the Unix epoch. Rows change a few times: some room on each page
    -- keeps the new version beside the old one.
    CREATE TABLE jobs (
        id                  uuid     PRIMARY KEY,
        lane                bigint   NOT NULL,
        task                smallint NOT NULL,
        state               smallint NOT NULL,
        dispatch_seq        bigint   NOT NULL,
        last_attempt        bigint   NOT NULL,
        failures            bigint   NOT NULL,
        crashes             bigint   NOT NULL,
        lost_workers        bigint   NOT NULL,
        interruptions       bigint   NOT NULL,
        accepted_at         bigint   NOT NULL,
        started_at          bigint,
        finished_at         bigint,
        deadline_at         bigint   NOT NULL,
        start_by            bigint   NOT NULL,
        items_total         bigint   NOT NULL,
        items_done          bigint   NOT NULL,
        run_alone           boolean  NOT NULL,
        failure_reason      smallint,
        failure_code        text,
        failure_message     text,
        -- When a dispatched job was dispatched; when a retry is due.
        state_at            bigint,
        lease_token         uuid,
        lease_worker        uuid,
        lease_claim         uuid,
        lease_expires_at    bigint,
        lease_must_end_by   bigint,
        cancel_requested_at bigint,
        -- The job's next timer.
        due_at              bigint,
        labels              text,
        trace               text,
        idempotency_key     text,
        input_bytes         bigint   NOT NULL,
        result_bytes        bigint   NOT NULL,
        -- Results or checkpoints are stored.
        has_results         boolean  NOT NULL,
        retry_of            uuid,
        retried_as          uuid,
        -- An operator took it off the list of dead letters.
        discarded           boolean  NOT NULL
    ) WITH (fillfactor = 70);

    CREATE INDEX jobs_waiting  ON jobs (lane, start_by, id) WHERE state = 1;
    CREATE INDEX jobs_dispatched ON jobs (lane) WHERE state = 2;
    CREATE INDEX jobs_leased   ON jobs (lease_worker) WHERE state = 3;
    CREATE INDEX jobs_failed   ON jobs (id) WHERE state = 6;
    CREATE INDEX jobs_due      ON jobs (due_at) WHERE due_at IS NOT NULL;
    CREATE INDEX jobs_finished ON jobs (finished_at) WHERE finished_at IS NOT NULL;
    CREATE INDEX jobs_results  ON jobs (finished_at) WHERE finished_at IS NOT NULL AND has_results;

    CREATE TABLE inputs (
        job   uuid  PRIMARY KEY,
        input bytea NOT NULL
    );

    CREATE TABLE idempotency (
        tenant text  NOT NULL,
        key    text  NOT NULL,
        digest bytea NOT NULL,
        job    uuid  NOT NULL,
        PRIMARY KEY (tenant, key)
    );

    CREATE TABLE attempts (
        job        uuid     NOT NULL,
        attempt    bigint   NOT NULL,
        worker     uuid     NOT NULL,
        token      uuid     NOT NULL,
        started_at bigint   NOT NULL,
        ended_at   bigint,
        outcome    smallint NOT NULL,
        code       text     NOT NULL,
        message    text     NOT NULL,
        PRIMARY KEY (job, attempt)
    );

    CREATE TABLE results (
        job        uuid   NOT NULL,
        first_item bigint NOT NULL,
        items      bigint NOT NULL,
        data       bytea  NOT NULL,
        PRIMARY KEY (job, first_item)
    );

    -- Messages that the broker has not confirmed.
    CREATE TABLE outbox (
        job uuid   PRIMARY KEY,
        seq bigint NOT NULL
    );

    -- What the other coordinators have to hear of: a row for each transaction that changed jobs. Kept
    -- for a few minutes.
    CREATE TABLE events (
        txn        uuid        PRIMARY KEY,
        xid        xid8        NOT NULL DEFAULT pg_current_xact_id(),
        origin     uuid        NOT NULL,
        created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
        changes    text        NOT NULL
    );
    CREATE INDEX events_xid ON events (xid);
    CREATE INDEX events_created ON events (created_at);

    -- Who leads. The epoch goes up with every change of hands.
    CREATE TABLE leaders (
        role       text        PRIMARY KEY,
        holder     uuid        NOT NULL,
        epoch      bigint      NOT NULL,
        expires_at timestamptz NOT NULL
    );
    INSERT INTO leaders VALUES
        ('dispatch',  '00000000-0000-0000-0000-000000000000', 0, '-infinity'),
        ('sweep',     '00000000-0000-0000-0000-000000000000', 0, '-infinity'),
        ('retention', '00000000-0000-0000-0000-000000000000', 0, '-infinity');

    -- Workers, as the coordinator that has their stream knows them.
    CREATE TABLE workers (
        id          uuid        PRIMARY KEY,
        -- The coordinator that has the stream.
        coordinator uuid        NOT NULL,
        -- What the worker says of itself, and the state that its coordinator sees it in.
        about       text        NOT NULL,
        seen_at     timestamptz NOT NULL,
        -- What operators ordered; `drain` holds the milliseconds that were granted, -1 for the
        -- worker's own grace.
        cordoned    boolean     NOT NULL DEFAULT false,
        drain       bigint
    );
",
    r"
    INSERT INTO leaders VALUES ('fleet', '00000000-0000-0000-0000-000000000000', 0, '-infinity');

    -- Machines that the fleet asked for, as documents.
    CREATE TABLE machines (
        id       uuid   PRIMARY KEY,
        version  bigint NOT NULL,
        state    text   NOT NULL,
        ended_at bigint,
        body     text   NOT NULL
    );
    CREATE INDEX machines_open  ON machines (id) WHERE ended_at IS NULL;
    CREATE INDEX machines_ended ON machines (ended_at) WHERE ended_at IS NOT NULL;

    -- One row: what the machines add up to, the operators' switch, and what the planner has learned.
    CREATE TABLE fleet (
        one             boolean PRIMARY KEY CHECK (one),
        account_version bigint  NOT NULL,
        account         text    NOT NULL,
        switch          text    NOT NULL,
        memory          bytea
    );
    INSERT INTO fleet (one, account_version, account, switch) VALUES (true, 0, '{}', '{}');
",
    r"
    -- The name of a machine that is being ended or is gone: workers on it have to leave.
    ALTER TABLE machines ADD COLUMN leaving text GENERATED ALWAYS AS (
        coalesce(body::jsonb #>> '{state,terminating,instance}',
                 body::jsonb #>> '{state,gone,instance}')) STORED;
    CREATE INDEX machines_leaving ON machines (leaving) WHERE leaving IS NOT NULL;
",
];

/// Brings the schema up to date. Coordinators that start together wait for the first to do it.
///
/// # Errors
/// [`StoreError::Open`] when a newer version of Stoker wrote the schema.
pub(super) async fn migrate(client: &mut Client) -> Result<(), StoreError> {
    let failed = || database("bringing the schema up to date");
    let transaction = client.transaction().await.map_err(failed())?;
    let lock = "SELECT pg_advisory_xact_lock($1, $2)";
    transaction.execute(lock, &[&LOCK_SPACE, &MIGRATION_LOCK]).await.map_err(failed())?;
    let known = "SELECT to_regclass('stoker.schema_version') IS NOT NULL";
    let known: bool = transaction.query_one(known, &[]).await.map_err(failed())?.get(0);
    if !known {
        let first = "CREATE SCHEMA IF NOT EXISTS stoker;
             CREATE TABLE stoker.schema_version (version bigint NOT NULL);
             INSERT INTO stoker.schema_version VALUES (0)";
        transaction.batch_execute(first).await.map_err(failed())?;
    }
    let version = "SELECT version FROM stoker.schema_version";
    let version: i64 = transaction.query_one(version, &[]).await.map_err(failed())?.get(0);
    let done = usize::try_from(version).unwrap_or(usize::MAX);
    if done > MIGRATIONS.len() {
        return Err(StoreError::Open(format!(
            "cannot use the database of --store: it was written by a newer version of stoker \
             (schema {version}, this one knows up to {}); run that version",
            MIGRATIONS.len()
        )));
    }
    for sql in &MIGRATIONS[done..] {
        transaction.batch_execute(sql).await.map_err(failed())?;
    }
    let reached = i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX);
    transaction
        .execute("UPDATE stoker.schema_version SET version = $1", &[&reached])
        .await
        .map_err(failed())?;
    transaction.commit().await.map_err(failed())
}
