//! What only the Postgres store can get wrong: several coordinators, and a server that goes away.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use stoker_coordinator::store::contract::recording_listener;
use stoker_coordinator::store::postgres::{
    Company, PostgresOptions, PostgresStore, PostgresUrl, StoreClock,
};
use stoker_coordinator::store::{
    Change, Claim, ClaimOutcome, JobStore, Lane, NewJob, Origin, Role, StoreError, TenantScope,
    WorkerOrder, WorkerRow,
};
use stoker_core::fleet::ledger::Mode;
use stoker_core::ids::{ClassName, JobId, ModelName, PoolName, TenantName};
use stoker_core::job::StateKind;
use stoker_core::policy::JobPolicy;
use stoker_core::request::{Labels, Task};
use stoker_core::time::Timestamp;
use stoker_runtime::clock::{Clock as _, SystemClock};
use stoker_runtime::ids;
use stoker_runtime::tasks::Tasks;
use stoker_runtime::trace_context::TraceContext;
use stoker_tests::poll;
use stoker_tests::postgres::PostgresServer;
use tokio_util::sync::CancellationToken;

const PATIENCE: Duration = Duration::from_mins(1);

fn options(company: Company) -> PostgresOptions {
    PostgresOptions {
        policy: JobPolicy::default(),
        clock: StoreClock::Database,
        company,
        listener: recording_listener().0,
        missed: Arc::new(|| {}),
    }
}

async fn open(url: &str) -> Result<PostgresStore, StoreError> {
    let url = PostgresUrl::parse(url).expect("the server's own address");
    PostgresStore::open(url, options(Company::Others)).await
}

async fn refusal(url: &str) -> String {
    open(url).await.expect_err("the store must not open").to_string()
}

fn lane() -> Lane {
    Lane { pool: PoolName::new("cpu").unwrap(), model: ModelName::new("mini").unwrap() }
}

fn new_job() -> NewJob {
    let now = SystemClock::new().now();
    NewJob {
        id: ids::job_id(now),
        tenant: TenantName::new("t").unwrap(),
        class: ClassName::new("c").unwrap(),
        lane: lane(),
        task: Task::Echo,
        input: vec![1, 2, 3].into(),
        items: 1,
        idempotency: None,
        accepted_at: now,
        deadline_at: Timestamp::MAX,
        start_by: now,
        labels: Labels::new(),
        trace: TraceContext::default(),
    }
}

async fn submit(store: &PostgresStore) -> JobId {
    store.submit(vec![new_job()]).await.unwrap()[0].job
}

fn count(store: &PostgresStore, state: StateKind) -> u64 {
    store.counts().of_lane(&lane()).get(state)
}

async fn counted(store: &PostgresStore, state: StateKind, jobs: u64) -> anyhow::Result<()> {
    poll::until(&format!("{jobs} jobs to be counted as {state:?}"), PATIENCE, || async {
        let now = count(store, state);
        Ok(if now == jobs { Ok(()) } else { Err(format!("{now}")) })
    })
    .await
}

#[tokio::test]
async fn a_server_that_may_lose_commits_is_refused_with_the_remedy() -> anyhow::Result<()> {
    let server = PostgresServer::start()?;
    let url = server.database()?;
    let database = url.rsplit('/').next().unwrap();
    let set = |value| format!("ALTER DATABASE {database} SET synchronous_commit = {value}");
    server.sql("postgres", &set("off"))?;
    assert!(refusal(&url).await.contains("set synchronous_commit=on"));
    server.sql("postgres", &set("on"))?;
    server.sql("postgres", "ALTER SYSTEM SET fsync = off")?;
    server.restart()?;
    assert!(refusal(&url).await.contains("set fsync=on"));
    server.sql("postgres", "ALTER SYSTEM RESET fsync")?;
    server.restart()?;
    open(&url).await?.close().await;
    Ok(())
}

#[tokio::test]
async fn a_server_is_talked_to_only_if_its_certificate_and_name_are_right() -> anyhow::Result<()> {
    let server = PostgresServer::start()?;
    let database = server.database()?.rsplit('/').next().unwrap().to_owned();
    let authority = server.enable_tls("localhost")?;
    let address = |host: &str, file: &std::path::Path| {
        let port = server.address().port();
        let file = file.display();
        format!("postgres://stoker@{host}:{port}/{database}?sslmode=verify-full&sslrootcert={file}")
    };
    let store = open(&address("localhost", &authority)).await?;
    submit(&store).await;
    let encrypted = "SELECT bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
        WHERE application_name = 'stoker-coordinator'";
    assert_eq!(server.sql(&database, encrypted)?, "t");
    store.close().await;
    let wrong_name = refusal(&address("127.0.0.1", &authority)).await;
    assert!(wrong_name.contains("certificate"), "{wrong_name}");
    let stranger = PostgresServer::start()?;
    let other = stranger.enable_tls("localhost")?;
    let wrong_authority = refusal(&address("localhost", &other)).await;
    assert!(wrong_authority.contains("certificate"), "{wrong_authority}");
    Ok(())
}

#[tokio::test]
async fn a_newer_schema_is_refused() -> anyhow::Result<()> {
    let server = PostgresServer::shared()?;
    let url = server.database()?;
    open(&url).await?.close().await;
    let database = url.rsplit('/').next().unwrap();
    server.sql(database, "UPDATE stoker.schema_version SET version = 99")?;
    assert!(refusal(&url).await.contains("newer version"));
    Ok(())
}

#[tokio::test]
async fn many_coordinators_that_start_at_once_migrate_once() -> anyhow::Result<()> {
    let url = PostgresServer::shared()?.database()?;
    let stores = futures::future::try_join_all((0..8).map(|_| open(&url))).await?;
    let job = submit(&stores[0]).await;
    for store in &stores {
        assert!(store.get(TenantScope::All, job).await?.is_some());
        counted(store, StateKind::Queued, 1).await?;
    }
    Ok(())
}

#[tokio::test]
async fn what_cannot_be_reached_is_told_without_the_password() {
    let url = "postgres://me:hunter2@127.0.0.1:1/nothing";
    let told = refusal(url).await;
    assert!(
        told.contains("cannot be used") && told.contains("refused") && !told.contains("hunter2"),
        "{told}"
    );
}

#[tokio::test]
async fn a_coordinator_with_the_embedded_broker_is_alone_with_its_database() -> anyhow::Result<()> {
    let text = PostgresServer::shared()?.database()?;
    let alone = || async {
        let url = PostgresUrl::parse(&text).expect("the server's own address");
        PostgresStore::open(url, options(Company::Alone)).await
    };
    let first = alone().await?;
    assert!(alone().await.unwrap_err().to_string().contains("embedded broker"));
    assert!(refusal(&text).await.contains("embedded broker"));
    first.close().await;
    drop(first);
    let (one, two) = (open(&text).await?, open(&text).await?);
    assert!(alone().await.unwrap_err().to_string().contains("one RabbitMQ"));
    one.close().await;
    two.close().await;
    Ok(())
}

#[tokio::test]
async fn each_coordinator_hears_once_of_what_the_other_commits() -> anyhow::Result<()> {
    type Heard = Arc<Mutex<Vec<(JobId, StateKind, Origin)>>>;
    let url = PostgresServer::shared()?.database()?;
    let heard: Heard = Arc::default();
    let sink = Arc::clone(&heard);
    let listener = Arc::new(move |changes: &[Change], origin| {
        let mut heard = sink.lock().unwrap();
        heard.extend(changes.iter().map(|change| (change.job, change.to, origin)));
    });
    let with = PostgresOptions { listener, ..options(Company::Others) };
    let one = PostgresStore::open(PostgresUrl::parse(&url)?, with).await?;
    let two = open(&url).await?;
    let mut jobs = Vec::new();
    for _ in 0..20 {
        let (mine, theirs) = tokio::join!(submit(&one), submit(&two));
        jobs.extend([(mine, StateKind::Queued, Origin::Here)]);
        jobs.extend([(theirs, StateKind::Queued, Origin::Elsewhere)]);
    }
    // Cancelled here although it came from there, perhaps before it was heard of.
    one.cancel(TenantScope::All, jobs[1].0).await?;
    jobs.push((jobs[1].0, StateKind::Cancelled, Origin::Here));
    for store in [&one, &two] {
        counted(store, StateKind::Queued, 39).await?;
        counted(store, StateKind::Cancelled, 1).await?;
    }
    let mut all = heard.lock().unwrap().clone();
    all.sort_unstable_by_key(|(job, state, _)| (*job, *state));
    jobs.sort_unstable_by_key(|(job, state, _)| (*job, *state));
    assert_eq!(all, jobs);
    Ok(())
}

#[tokio::test]
async fn one_leads_and_a_deposed_leader_writes_nothing() -> anyhow::Result<()> {
    let server = PostgresServer::shared()?;
    let url = server.database()?;
    let database = url.rsplit('/').next().unwrap();
    let one = open(&url).await?;
    one.lead(Role::Dispatch).await;
    let two = open(&url).await?;
    let job = submit(&one).await;
    assert!(!two.leads(Role::Dispatch));
    assert!(matches!(two.dispatch(vec![job]).await, Err(StoreError::NotLeading)));
    // Another one takes the role, and the old leader does not know it yet.
    let stranger = "UPDATE stoker.leaders SET epoch = epoch + 1, holder = gen_random_uuid(),
        expires_at = clock_timestamp() + interval '2 seconds' WHERE role = 'dispatch'";
    server.sql(database, stranger)?;
    if one.leads(Role::Dispatch) {
        assert!(matches!(one.dispatch(vec![job]).await, Err(StoreError::NotLeading)));
    }
    let found = two.get(TenantScope::All, job).await?.expect("the job");
    assert_eq!(found.job.state.kind(), StateKind::Queued);
    // The stranger gives no sign of life, so that one of the two follows it.
    poll::until("a follower to dispatch", PATIENCE, || async {
        for store in [&one, &two] {
            match store.dispatch(vec![job]).await {
                Err(StoreError::NotLeading) => {}
                dispatched => {
                    assert_eq!(dispatched?.len(), 1);
                    return Ok(Ok(()));
                }
            }
        }
        Ok(Err("nobody leads".to_owned()))
    })
    .await
}

#[tokio::test]
async fn a_leader_that_closes_makes_room_at_once() -> anyhow::Result<()> {
    let url = PostgresServer::shared()?.database()?;
    let one = open(&url).await?;
    for role in Role::ALL {
        one.lead(role).await;
    }
    let two = open(&url).await?;
    one.close().await;
    for role in Role::ALL {
        tokio::time::timeout(Duration::from_secs(3), two.lead(role)).await?;
    }
    Ok(())
}

/// Rivals for the same jobs, in both orders: neither waits for the other in a circle, and each job has
/// one winner.
#[tokio::test]
async fn coordinators_that_claim_the_same_jobs_grant_each_once() -> anyhow::Result<()> {
    let url = PostgresServer::shared()?.database()?;
    let (one, two) = (open(&url).await?, open(&url).await?);
    one.lead(Role::Dispatch).await;
    let jobs: Vec<NewJob> = (0..200).map(|_| new_job()).collect();
    let ids: Vec<JobId> = jobs.iter().map(|job| job.id).collect();
    one.submit(jobs).await?;
    let entries = one.dispatch(ids).await?;
    let granted = AtomicUsize::new(0);
    let claims = |reverse: bool| {
        let mut claims: Vec<Claim> = entries
            .iter()
            .map(|entry| Claim {
                job: entry.job,
                seq: entry.seq,
                claim: ids::claim_id(),
                token: ids::lease_token(),
            })
            .collect();
        if reverse {
            claims.reverse();
        }
        claims
    };
    let run = |store, reverse| {
        let (store, granted): (&PostgresStore, &AtomicUsize) = (store, &granted);
        let chunks: Vec<Vec<Claim>> = claims(reverse).chunks(7).map(<[_]>::to_vec).collect();
        futures::future::try_join_all(chunks.into_iter().map(move |chunk| async move {
            let outcomes = store.claim(ids::worker_id(), chunk, usize::MAX).await?;
            let won = outcomes.iter().filter(|one| matches!(one, ClaimOutcome::Granted(_)));
            granted.fetch_add(won.count(), Ordering::SeqCst);
            Ok::<_, StoreError>(())
        }))
    };
    tokio::try_join!(run(&one, false), run(&two, true), run(&one, true), run(&two, false))?;
    assert_eq!(granted.load(Ordering::SeqCst), 200);
    for store in [&one, &two] {
        counted(store, StateKind::Leased, 200).await?;
    }
    Ok(())
}

#[tokio::test]
async fn workers_are_known_and_ordered_through_any_coordinator() -> anyhow::Result<()> {
    let url = PostgresServer::shared()?.database()?;
    let (one, two) = (open(&url).await?, open(&url).await?);
    let id = ids::worker_id();
    let row = |text: &str, silent_for| WorkerRow { id, about: text.to_owned(), silent_for };
    let told = one.exchange_workers(vec![row("at one", Duration::ZERO)]).await?.unwrap();
    assert_eq!((told[0].home, told[0].row.about.as_str()), (Origin::Here, "at one"));
    let known = two.exchange_workers(Vec::new()).await?.unwrap();
    assert_eq!(known[0].home, Origin::Elsewhere);
    assert!(two.order_worker(id, WorkerOrder::Cordon).await?);
    assert!(two.order_worker(id, WorkerOrder::Drain(None)).await?);
    assert!(!two.order_worker(ids::worker_id(), WorkerOrder::Cordon).await?);
    let ordered = one.exchange_workers(Vec::new()).await?.unwrap();
    assert!(ordered[0].orders.cordoned && ordered[0].orders.drain == Some(None));
    // It goes over to the other; the first, which heard it last a while ago, does not take it back.
    two.exchange_workers(vec![row("at two", Duration::ZERO)]).await?;
    let late = row("at one", Duration::from_mins(1));
    let known = one.exchange_workers(vec![late]).await?.unwrap();
    assert_eq!((known[0].home, known[0].row.about.as_str()), (Origin::Elsewhere, "at two"));
    Ok(())
}

/// Submits one job after the other until it is told to stop; answers those that were accepted, and how
/// many calls were not.
async fn submit_until(store: Arc<PostgresStore>, stop: CancellationToken) -> (Vec<JobId>, usize) {
    let (mut accepted, mut refused) = (Vec::new(), 0);
    while !stop.is_cancelled() {
        match store.submit(vec![new_job()]).await {
            Ok(submitted) => accepted.push(submitted[0].job),
            Err(StoreError::Unavailable | StoreError::Overloaded | StoreError::InDoubt(_)) => {
                refused += 1;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Err(error) => panic!("{error:?}"),
        }
    }
    (accepted, refused)
}

async fn more_are_accepted(store: &PostgresStore, more: u64) -> anyhow::Result<()> {
    let before = count(store, StateKind::Queued);
    poll::until("jobs to be accepted", PATIENCE, || async {
        let now = count(store, StateKind::Queued);
        Ok(if now > before + more { Ok(()) } else { Err(format!("{now} after {before}")) })
    })
    .await
}

/// While jobs are submitted, all processes of the server are killed, several times.
#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_is_dropped_leaves_no_open_transaction() -> anyhow::Result<()> {
    let server = PostgresServer::shared()?;
    let url = server.database()?;
    let store = open(&url).await?;
    let database = url.rsplit('/').next().unwrap().to_owned();
    let sessions = {
        let database = database.clone();
        move |what: &str| {
            let sql = format!(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = '{database}' AND {what}"
            );
            server.sql("postgres", &sql)
        }
    };
    let hold = "BEGIN; SELECT 1 FROM fleet FOR UPDATE; SELECT pg_sleep(600)";
    let of_holder = database.clone();
    let holder = tokio::task::spawn_blocking(move || server.sql(&of_holder, hold));
    let asleep = "wait_event = 'PgSleep'";
    poll::until("a lock on the fleet", PATIENCE, || async {
        let asleep = sessions(asleep)?;
        Ok(if asleep == "1" { Ok(()) } else { Err(asleep) })
    })
    .await?;
    let blocked = store.set_switch(Mode::Freeze, "me".into(), "test".into());
    tokio::select! {
        set = blocked => anyhow::bail!("it was not held up: {set:?}"),
        waits = poll::until("a call that waits for it", PATIENCE, || async {
            let waiting = sessions("wait_event_type = 'Lock'")?;
            Ok(if waiting == "1" { Ok(()) } else { Err(waiting) })
        }) => waits?,
    }
    // It is dropped now. Its connection ends with it: the server would end it only after five seconds, and who took
    // it from the pool meanwhile would go on in that transaction.
    let end = format!(
        "SELECT pg_terminate_backend(pid) FROM (SELECT pid FROM pg_stat_activity WHERE {asleep}
         AND datname = '{database}' OFFSET 0) AS holder"
    );
    server.sql("postgres", &end)?;
    assert!(holder.await?.is_err(), "it was ended");
    poll::until("the end of its transaction", Duration::from_secs(4), || async {
        let open = sessions("xact_start IS NOT NULL AND backend_type = 'client backend'")?;
        Ok(if open == "0" { Ok(()) } else { Err(open) })
    })
    .await?;
    let switch = store.set_switch(Mode::Freeze, "me".into(), "test".into()).await?;
    assert_eq!(switch.version, 1);
    store.close().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_server_loses_nothing_that_was_answered() -> anyhow::Result<()> {
    const KILLS: usize = 3;
    let server = PostgresServer::start()?;
    let url = server.database()?;
    let store = Arc::new(open(&url).await?);
    let tasks = Tasks::new(CancellationToken::new());
    let submitting = |_| submit_until(Arc::clone(&store), tasks.shutdown_token());
    let clients: Vec<_> = (0..8).map(|number| tasks.spawn("client", submitting(number))).collect();
    for _ in 0..KILLS {
        more_are_accepted(&store, 50).await?;
        server.kill9();
        poll::until("calls to be refused", PATIENCE, || async {
            match store.get(TenantScope::All, new_job().id).await {
                Err(StoreError::Unavailable) => Ok(Ok(())),
                other => Ok(Err(format!("{other:?}"))),
            }
        })
        .await?;
        server.restart()?;
    }
    more_are_accepted(&store, 0).await?;
    tasks.shutdown_token().cancel();
    let (mut accepted, mut refused) = (Vec::new(), 0);
    for client in clients {
        let (jobs, errors) = client.await?;
        accepted.extend(jobs);
        refused += errors;
    }
    assert!(refused > 0, "no call met a dead server, so the test proved nothing");
    let found = store.get_many(TenantScope::All, accepted.clone()).await?;
    assert_eq!(found.len(), accepted.len(), "accepted jobs are missing");
    // The counts are those of the table, whatever was in doubt.
    let database = url.rsplit('/').next().unwrap();
    let stored: u64 = server.sql(database, "SELECT count(*) FROM stoker.jobs")?.parse()?;
    assert!(stored >= accepted.len() as u64);
    counted(&store, StateKind::Queued, stored).await
}
