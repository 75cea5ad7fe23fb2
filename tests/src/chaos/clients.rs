//! The clients: they submit until they have an answer, cancel some, read what they can, and remember
//! everything.

mod calls;
mod readers;
mod watchers;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde::Serialize;
use stoker_proto::client;
use stoker_proto::v1::job_service_client::JobServiceClient;
use stoker_proto::v1::{CancelRequest, Job, JobSpec, JobState, SubmitRequest};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tonic::transport::Channel;

use crate::fleet::echo_job;
use crate::poll;

use super::verdict::Findings;
use super::{CANARY, FAILS_ONCE, Mode, POISON, Settings};

use calls::{Calls, Try};
pub(super) use calls::{Outcome, Tries, count};
pub(super) use readers::results;

type Jobs = JobServiceClient<Channel>;

/// Clients at least; each waits for its answers, also while nobody gives any.
const CLIENTS: u64 = 8;
const READERS: u64 = 2;
const WATCHERS: u64 = 2;
/// One job in so many kills its engine, fails the first time, is cancelled, has a deadline, is submitted once more under its key,
/// is submitted once more under its key with another input.
const POISONED: u32 = 100;
const FAILING: u32 = 25;
const CANCELLED: u32 = 20;
const TIMED: u32 = 50;
const REPEATED: u32 = 10;
const CONFUSED: u32 = 50;
/// Most refusals that are remembered.
const REFUSALS: usize = 1_000;
const MAX_ITEMS: u32 = 24;
const CALL_LIMIT: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(50);
/// A client that gets no answer for so long gives up, which is a finding.
const GIVE_UP: Duration = Duration::from_mins(3);

/// What a job must answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Expected {
    pub texts: Vec<String>,
    pub nature: Nature,
    pub cancel: Cancel,
    /// It may expire before it has run.
    pub deadline: bool,
}

/// What a job does to the engine that runs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Nature {
    Sound,
    /// It kills it.
    Poison,
    /// It is refused when it runs for the first time.
    FailsOnce,
}

/// Whether somebody tried to cancel a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Cancel {
    Never,
    /// With an answer that leaves its end open, or with none.
    Asked,
    /// It was answered that the job is cancelled.
    Answered,
}

impl Expected {
    /// A job that must come back whole.
    pub fn of(texts: Vec<String>) -> Self {
        Self { texts, nature: Nature::Sound, cancel: Cancel::Never, deadline: false }
    }
}

/// What the clients saw.
#[derive(Debug, Default, Serialize)]
pub struct History {
    /// Accepted jobs by id.
    pub accepted: BTreeMap<String, Expected>,
    /// A key that answered with two jobs.
    pub doubled: Vec<String>,
    /// Jobs that were never accepted.
    pub given_up: Vec<String>,
    /// The results that somebody read first, by job; and those that differed later.
    pub read: BTreeMap<String, Vec<String>>,
    pub changed: Vec<String>,
    /// Jobs that have ended, as somebody who watched them was told first.
    #[serde(skip)]
    pub ended: BTreeMap<String, Job>,
    /// How often each call was tried, and how that went.
    pub tries: Tries,
    /// Keys that were taken for a second request with another input.
    pub confused: Vec<String>,
    /// What refusals said.
    pub refusals: BTreeSet<String>,
    /// Jobs that were checked as soon as they had ended, and what was found then.
    pub verified: BTreeSet<String>,
    pub findings: Findings,
}

impl History {
    /// One of the jobs that are accepted and not verified yet.
    fn any(&self, random: &mut StdRng) -> Option<String> {
        let count = self.accepted.len().max(1);
        self.accepted.keys().nth(random.random_range(0..count)).cloned()
    }
}

#[derive(Debug)]
struct Shared {
    history: Mutex<History>,
    calls: Calls,
    done: AtomicBool,
}

impl Shared {
    fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn heard(&self, status: &tonic::Status) {
        let refusals = &mut self.history().refusals;
        if refusals.len() < REFUSALS {
            refusals.insert(status.message().to_owned());
        }
    }
}

/// The clients while they run.
#[derive(Debug)]
pub(super) struct Clients {
    shared: Arc<Shared>,
    tasks: JoinSet<anyhow::Result<()>>,
    readers: JoinSet<()>,
    /// Whether jobs are checked as soon as they have ended.
    verifies: bool,
}

impl Clients {
    /// Clients take turns with the coordinators' addresses.
    ///
    /// # Errors
    /// When the record of their calls cannot be created.
    pub(super) fn start(
        addresses: &[String],
        settings: &Settings,
        record: &Path,
    ) -> anyhow::Result<Self> {
        let shared = Arc::new(Shared {
            history: Mutex::default(),
            calls: Calls::create(record)?,
            done: AtomicBool::new(false),
        });
        let address = |number: u64| {
            let turn = usize::try_from(number).unwrap_or_default() % addresses.len();
            addresses[turn].clone()
        };
        let mut tasks = JoinSet::new();
        let clients = clients(settings);
        for number in 0..clients {
            let client = Client {
                number,
                address: address(number),
                shared: Arc::clone(&shared),
                random: StdRng::seed_from_u64(settings.seed.wrapping_add(number)),
                settings: settings.clone(),
                jobs: None,
            };
            tasks.spawn(client.run());
        }
        let mut readers = JoinSet::new();
        for number in 0..READERS {
            let seed = settings.seed.wrapping_add(number);
            readers.spawn(readers::read(address(number), Arc::clone(&shared), seed));
        }
        for number in 0..WATCHERS {
            let seed = settings.seed.wrapping_add(READERS + number);
            readers.spawn(watchers::watch(address(number), Arc::clone(&shared), seed));
        }
        let verifies = settings.mode == Mode::Soak;
        if verifies {
            readers.spawn(readers::verify(address(0), Arc::clone(&shared)));
        }
        Ok(Self { shared, tasks, readers, verifies })
    }

    /// Waits until each has submitted all of its jobs.
    pub(super) async fn finish(mut self) -> anyhow::Result<History> {
        while let Some(ended) = self.tasks.join_next().await {
            ended.context("a client panicked")??;
        }
        if self.verifies {
            // What nobody has looked at when the store forgets it cannot be checked any more.
            poll::down_to_nothing("another job to be verified", GIVE_UP, || async {
                let left = self.shared.history().accepted.len();
                Ok((u64::try_from(left)?, format!("{left} are left")))
            })
            .await?;
        }
        self.shared.done.store(true, Ordering::Relaxed);
        while self.readers.join_next().await.is_some() {}
        let mut history = std::mem::take(&mut *self.shared.history());
        history.tries = self.shared.calls.finish()?;
        Ok(history)
    }
}

/// As many as jobs in a second, so that they keep pace although each job takes some time under fire.
fn clients(settings: &Settings) -> u64 {
    CLIENTS.max(u64::from(settings.jobs / settings.seconds.max(1)))
}

struct Client {
    number: u64,
    address: String,
    shared: Arc<Shared>,
    random: StdRng,
    settings: Settings,
    jobs: Option<Jobs>,
}

impl Client {
    async fn run(mut self) -> anyhow::Result<()> {
        let (jobs, clients) = (u64::from(self.settings.jobs), clients(&self.settings));
        let mine = jobs / clients + u64::from(self.number < jobs % clients);
        let span = Duration::from_secs(self.settings.seconds.into());
        let began = Instant::now();
        for job in 0..mine {
            // Evenly over the time, however long each takes. The clients take turns, so that a coordinator
            // that is away for a moment is missed by some of them.
            let due = span.mul_f64(ratio(job * clients + self.number, jobs));
            tokio::time::sleep_until(began + due).await;
            self.one_job(job).await;
        }
        Ok(())
    }

    async fn one_job(&mut self, job: u64) {
        let key = format!("chaos-{}-{}-{job}", self.settings.seed, self.number);
        let nature = if self.random.random_ratio(1, POISONED) {
            Nature::Poison
        } else if self.random.random_ratio(1, FAILING) {
            Nature::FailsOnce
        } else {
            Nature::Sound
        };
        let items = self.random.random_range(1..=MAX_ITEMS);
        let texts: Vec<String> = match nature {
            Nature::Poison => vec![format!("{POISON} {key}")],
            Nature::FailsOnce => vec![format!("{FAILS_ONCE} {key}")],
            Nature::Sound => (0..items).map(|item| format!("{CANARY} {key} {item}")).collect(),
        };
        let sound = nature == Nature::Sound;
        let deadline = sound && self.random.random_ratio(1, TIMED);
        let after = Duration::from_millis(self.random.random_range(50..3_000));
        let spec = JobSpec {
            idempotency_key: key.clone(),
            deadline_after: deadline.then(|| after.try_into().ok()).flatten(),
            ..echo_job(texts.clone())
        };
        let Some(id) = self.submit(&spec).await else {
            self.shared.history().given_up.push(key);
            return;
        };
        let cancel = sound && self.random.random_ratio(1, CANCELLED);
        let asked = if cancel { Cancel::Asked } else { Cancel::Never };
        let expected = Expected { texts, nature, cancel: asked, deadline };
        self.shared.history().accepted.insert(id.clone(), expected);
        if self.random.random_ratio(1, REPEATED) {
            let again = self.submit(&spec).await;
            if again.is_some_and(|again| again != id) {
                self.shared.history().doubled.push(key.clone());
            }
        }
        if self.random.random_ratio(1, CONFUSED) {
            let other = JobSpec { idempotency_key: key.clone(), ..echo_job(vec![key.clone()]) };
            if self.submit(&other).await.is_some() {
                self.shared.history().confused.push(key);
            }
        }
        if cancel {
            sleep(Duration::from_millis(self.random.random_range(0..500))).await;
            self.cancel(id).await;
        }
    }

    async fn cancel(&mut self, id: String) {
        let request = CancelRequest { job_id: id.clone() };
        let cancel = move |mut jobs: Jobs| {
            let request = request.clone();
            async move { jobs.cancel(request).await?.into_inner().job.ok_or_else(no_job) }
        };
        let said = |job: &Job| job.state().as_str_name().to_owned();
        let answered = self.call("cancel", &id, cancel, said).await;
        if answered.is_some_and(|job| job.state() == JobState::Cancelled)
            && let Some(expected) = self.shared.history().accepted.get_mut(&id)
        {
            expected.cancel = Cancel::Answered;
        }
    }

    async fn submit(&mut self, spec: &JobSpec) -> Option<String> {
        let request = SubmitRequest { job: Some(spec.clone()) };
        let submit = move |mut jobs: Jobs| {
            let request = request.clone();
            async move { Ok(jobs.submit(request).await?.into_inner().job_id) }
        };
        self.call("submit", &spec.idempotency_key, submit, String::clone).await
    }

    /// Repeats a call until it has an answer; `None` after a refusal, or after a long time.
    async fn call<T, Answer>(
        &mut self,
        call: &'static str,
        about: &str,
        make: impl Fn(Jobs) -> Answer,
        said: impl Fn(&T) -> String,
    ) -> Option<T>
    where
        Answer: Future<Output = Result<T, tonic::Status>>,
    {
        let client = self.number;
        let give_up = Instant::now() + GIVE_UP;
        while Instant::now() < give_up {
            let begun = std::time::Instant::now();
            let record = |outcome, said: &str| {
                self.shared.calls.record(begun, &Try { client, call, about, outcome, said });
            };
            if self.jobs.is_none() {
                self.jobs = connect(&self.address).await;
            }
            let Some(jobs) = &self.jobs else {
                record(Outcome::Unknown, "no connection");
                sleep(PAUSE).await;
                continue;
            };
            match timeout(CALL_LIMIT, make(jobs.clone())).await {
                Ok(Ok(answer)) => {
                    record(Outcome::Ok, &said(&answer));
                    return Some(answer);
                }
                Ok(Err(status)) => {
                    self.shared.heard(&status);
                    if !stoker_proto::status::is_retryable(&status) {
                        record(Outcome::Failed, status.message());
                        return None;
                    }
                    record(Outcome::Unknown, status.message());
                }
                Err(_) => record(Outcome::Unknown, "no answer in time"),
            }
            self.jobs = None;
            sleep(PAUSE).await;
        }
        None
    }
}

async fn connect(address: &str) -> Option<Jobs> {
    let channel = client::endpoint(address).ok()?.connect().await.ok()?;
    Some(JobServiceClient::new(channel).max_decoding_message_size(client::MAX_RESPONSE_BYTES))
}

fn no_job() -> tonic::Status {
    tonic::Status::internal("an answer without a job")
}

fn ratio(part: u64, whole: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a share of a time")]
    let ratio = part as f64 / whole.max(1) as f64;
    ratio
}
