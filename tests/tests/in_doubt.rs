//! A coordinator dies with something under way whose outcome it never heard: messages that the broker has
//! taken and a commit that the database has made.

use anyhow::{Context as _, ensure};
use stoker_proto::v1::{FleetStatusRequest, JobSpec, JobState, ListRequest, SubmitRequest};
use stoker_tests::fleet::{Fleet, Options, PATIENCE, echo_job, texts};
use stoker_tests::poll;
use stoker_tests::postgres::PostgresServer;
use stoker_tests::rabbitmq::RabbitMqNode;
use stoker_tests::tcp_proxy::{Conditions, Direction, TcpProxy};
use tokio::task::JoinSet;

const NAME: &str = "in-doubt";

/// K3: between a message and its confirm.
#[tokio::test(flavor = "multi_thread")]
async fn messages_that_were_sent_and_not_confirmed_make_no_second_attempt() -> anyhow::Result<()> {
    let node = RabbitMqNode::start()?;
    let network = TcpProxy::start(node.address()).await?;
    let uri = node.uri().replace(&node.address().to_string(), &network.address().to_string());
    let mut fleet =
        Fleet::start(Options { broker: Some(uri), ..Options::echo(NAME, "5ms") }).await?;
    let first = fleet.add_worker()?;
    fleet.ready(1).await?;
    // Publishers take turns, and each opens its channel with its first message.
    for _ in 0..10 {
        let ids = fleet.submit_many(1, 1).await?;
        fleet.all_succeed(&ids).await?;
    }
    fleet.worker(first).signal("STOP")?;

    network.set(Conditions { swallow: Some(Direction::FromTarget), ..Conditions::default() });
    let ids = fleet.submit_many(3, 2).await?;
    poll::until("the broker to have the messages", PATIENCE, || async {
        let listed = node.ctl(&["list_queues", "--silent", "messages"])?;
        let messages: u32 = listed.lines().filter_map(|line| line.trim().parse::<u32>().ok()).sum();
        Ok(if messages >= 3 { Ok(()) } else { Err(format!("{messages} messages")) })
    })
    .await?;
    let outbox =
        fleet.admin().await?.fleet_status(FleetStatusRequest {}).await?.into_inner().outbox;
    ensure!(outbox >= 3, "{outbox} messages wait for their confirms: the fault did not bite");
    fleet.coordinator().kill9();
    network.set(Conditions::default());
    network.cut();
    fleet.start_coordinator().await?;
    fleet.worker(first).kill9();
    fleet.add_worker()?;
    for job in fleet.all_succeed(&ids).await? {
        assert_eq!((job.attempts, job.failures, job.crashes), (1, 0, 0), "{job:?}");
    }
    Ok(())
}

/// A Postgres whose commits of jobs that come into one state take until they are let go.
struct Held {
    server: PostgresServer,
    database: String,
}

/// A deferred trigger runs within the commit, and goes on when the client is gone.
const TRIGGER: &str = "
    CREATE TABLE public.held ();
    CREATE FUNCTION public.hold() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        WHILE EXISTS (SELECT FROM public.held) LOOP
            PERFORM pg_sleep(0.01);
        END LOOP;
        RETURN NULL;
    END $$;
    CREATE CONSTRAINT TRIGGER hold AFTER ";
const HOLD: &str = " EXECUTE FUNCTION public.hold()";

/// A step of a job, with the state that it leads to as the store writes it.
#[derive(Debug, Clone, Copy)]
struct Step {
    /// When it is taken: not when a job that has taken it changes otherwise.
    taken: &'static str,
    /// Those who have ever taken it: their number never goes down.
    took: &'static str,
}

const QUEUED: Step = Step {
    taken: "INSERT ON stoker.jobs DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (NEW.state = 1)",
    took: "stoker.jobs",
};
const LEASED: Step = Step {
    taken: "UPDATE ON stoker.jobs DEFERRABLE INITIALLY DEFERRED FOR EACH ROW \
            WHEN (NEW.state = 3 AND OLD.state <> 3)",
    took: "stoker.attempts",
};
const SUCCEEDED: Step = Step {
    taken: "UPDATE ON stoker.jobs DEFERRABLE INITIALLY DEFERRED FOR EACH ROW \
            WHEN (NEW.state = 5 AND OLD.state <> 5)",
    took: "stoker.jobs WHERE state = 5",
};

impl Held {
    async fn start(step: Step) -> anyhow::Result<(Self, Fleet)> {
        let server = PostgresServer::start()?;
        let store = server.database()?;
        let database = store.rsplit('/').next().context("a URL without a database")?.to_owned();
        let options = Options { store: Some(store), ..Options::echo(NAME, "10ms") };
        let fleet = Fleet::start(options).await?;
        server.sql(&database, &format!("{TRIGGER}{}{HOLD}", step.taken))?;
        Ok((Self { server, database }, fleet))
    }

    fn hold(&self) -> anyhow::Result<()> {
        self.server.sql(&self.database, "INSERT INTO public.held DEFAULT VALUES").map(drop)
    }

    fn let_go(&self) -> anyhow::Result<()> {
        self.server.sql(&self.database, "DELETE FROM public.held").map(drop)
    }

    async fn a_commit_is_held(&self) -> anyhow::Result<()> {
        let held = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
        poll::until("a commit to be held", PATIENCE, || async {
            let count = self.server.sql(&self.database, held)?;
            Ok(if count == "0" { Err(count) } else { Ok(()) })
        })
        .await
    }

    fn took(&self, step: Step) -> anyhow::Result<u64> {
        let count = format!("SELECT count(*) FROM {}", step.took);
        self.server.sql(&self.database, &count)?.parse().context("a count")
    }

    /// Lets the commit go whose client is dead by now, and waits until it is made.
    async fn is_made(&self, step: Step, before: u64) -> anyhow::Result<()> {
        self.let_go()?;
        poll::until("the commit to be made", PATIENCE, || async {
            let jobs = self.took(step)?;
            Ok(if jobs > before { Ok(()) } else { Err(format!("{jobs} jobs")) })
        })
        .await
    }
}

/// K2: the same key answers with the job whose commit nobody heard of.
#[tokio::test(flavor = "multi_thread")]
async fn a_submit_whose_commit_was_not_heard_of_makes_one_job() -> anyhow::Result<()> {
    let (database, mut fleet) = Held::start(QUEUED).await?;
    database.hold()?;
    let spec = JobSpec { idempotency_key: "one".to_owned(), ..echo_job(texts(0, 2)) };
    let request = SubmitRequest { job: Some(spec) };
    let mut jobs = fleet.jobs().await?;
    let first = request.clone();
    let mut unheard = JoinSet::new();
    unheard.spawn(async move { jobs.submit(first).await });
    database.a_commit_is_held().await?;
    fleet.coordinator().kill9();
    let answer = unheard.join_next().await.context("a call that was made")??;
    ensure!(answer.is_err(), "it was answered before it was committed for good");
    database.is_made(QUEUED, 0).await?;
    fleet.start_coordinator().await?;
    let id = fleet.jobs().await?.submit(request).await?.into_inner().job_id;
    fleet.add_worker()?;
    fleet.all_succeed(std::slice::from_ref(&id)).await?;
    let listed = fleet.jobs().await?.list(ListRequest::default()).await?.into_inner().jobs;
    assert_eq!(listed.iter().map(|job| &job.id).collect::<Vec<_>>(), [&id]);
    Ok(())
}

/// The coordinator dies with a commit of jobs that take this step; nothing runs twice for it.
async fn costs_no_attempt(step: Step) -> anyhow::Result<()> {
    let (database, mut fleet) = Held::start(step).await?;
    fleet.add_worker()?;
    fleet.ready(1).await?;
    // Some end and some are claimed at any moment, for longer than it takes to hold a commit.
    let ids = fleet.submit_many(400, 6).await?;
    fleet.wait_for(&ids[0], &[JobState::Succeeded]).await?;
    database.hold()?;
    database.a_commit_is_held().await?;
    fleet.coordinator().kill9();
    let before = database.took(step)?;
    database.is_made(step, before).await?;
    fleet.start_coordinator().await?;
    for job in fleet.all_succeed(&ids).await? {
        assert_eq!((job.attempts, job.failures, job.crashes), (1, 0, 0), "{job:?}");
    }
    Ok(())
}

/// K5: the worker repeats its claim and gets the same grant.
#[tokio::test(flavor = "multi_thread")]
async fn a_claim_whose_commit_was_not_heard_of_costs_no_attempt() -> anyhow::Result<()> {
    costs_no_attempt(LEASED).await
}

/// K6: the worker repeats its completion.
#[tokio::test(flavor = "multi_thread")]
async fn a_completion_whose_commit_was_not_heard_of_costs_no_attempt() -> anyhow::Result<()> {
    costs_no_attempt(SUCCEEDED).await
}
