//! The second act, in order: load comes, machines are bought, the cloud takes one back, the load goes, all go.

use std::time::Duration;

use stoker_core::request;
use stoker_core::time::Timestamp;
use stoker_proto::v1;
use stoker_proto::v1::result_part::Output;
use stoker_runtime::clock::Clock as _;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use super::audit::{Submitted, losses};
use super::bill::{Bill, taken_back};
use super::machines::Teller;
use crate::client::{Client, LedgerView, ResultStream};
use crate::context::Context;
use crate::dev::LocalFleet;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::input::{Content, Input};
use crate::render::state::is_terminal;
use crate::render::text::count;
use crate::render::time::span;
use crate::spec::{self, Task, Template};
use crate::submission::{self, Accepted};
use crate::terminal::note;

/// Work comes at this pace: a job every so often, of so many texts.
const JOB_EVERY: Duration = Duration::from_millis(700);
const TEXTS: usize = 40;
/// It comes for so long, and on until the cloud has taken a machine back, but no longer than the second.
const LOAD: Duration = Duration::from_secs(25);
const MOST_LOAD: Duration = Duration::from_secs(75);
/// How often the ledger is looked at, and how often the jobs are told of.
const LOOK: Duration = Duration::from_millis(300);
const TELL: Duration = Duration::from_secs(6);
/// A run that takes longer is stuck.
const LIMIT: Duration = Duration::from_mins(6);

/// What the act is about.
#[derive(Debug)]
pub(crate) struct Scaling {
    /// An echo model.
    pub(crate) model: String,
    /// Makes the jobs this run's own.
    pub(crate) key: String,
}

/// Where the act is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scene {
    Load,
    Rest,
    Silence,
}

/// The act while it goes on.
#[derive(Debug)]
struct Stage {
    began: Timestamp,
    began_at: Instant,
    scene: Scene,
    accepted: Vec<Accepted>,
    teller: Teller,
    told: Instant,
    /// Most machines that were there at a time.
    peak: u32,
}

impl Scaling {
    /// Tells the story on a fleet that has no machine yet.
    pub(crate) async fn tell(
        self,
        fleet: &mut LocalFleet,
        client: &Client,
        context: &Context,
    ) -> Result<Bill, Failure> {
        let now = Instant::now();
        let mut stage = Stage {
            began: context.clock.now(),
            began_at: now,
            scene: Scene::Load,
            accepted: Vec::new(),
            teller: Teller::default(),
            told: now,
            peak: 0,
        };
        stage.say("no machine, $0.00 an hour; now work comes, a job every 0.7s");
        let mut work = ticks(JOB_EVERY);
        let mut looks = ticks(LOOK);
        loop {
            tokio::select! {
                _ = work.tick(), if stage.scene == Scene::Load => {
                    let accepted = self.submit(stage.accepted.len(), client).await?;
                    stage.accepted.extend(accepted);
                }
                _ = looks.tick() => {
                    if stage.look(client).await? {
                        break;
                    }
                }
                notice = fleet.notice() => {
                    let Some(notice) = notice else { return Err(fleet.why_down().await) };
                    note(&format!("  {notice}"));
                }
                () = sleep_until(now + LIMIT) => return Err(stuck()),
            }
        }
        stage.bill(client, context.clock.now()).await
    }

    async fn submit(&self, number: usize, client: &Client) -> Result<Vec<Accepted>, Failure> {
        let template = Template {
            model: self.model.clone(),
            task: Task(request::Task::Echo),
            prompt: String::new(),
            generation: spec::Generation::default(),
            question: spec::Question::default(),
            caption: spec::Caption::default(),
            faces: v1::FaceOptions::default(),
            transcription: v1::TranscriptionOptions::default(),
            class: None,
            labels: [("demo".to_owned(), "scaling".to_owned())].into(),
            deadline: None,
            key: format!("{}-{number}", self.key),
            split: None,
        };
        let loose = texts_of(number);
        let jobs = spec::jobs(&template, Content::Texts(Input { loose, ..Input::default() }));
        submission::submit(client, jobs).await.map_err(|partial| partial.failure)
    }
}

fn ticks(every: Duration) -> tokio::time::Interval {
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

fn texts_of(job: usize) -> Vec<String> {
    (0..TEXTS).map(|text| format!("text {text} of job {job}")).collect()
}

impl Stage {
    fn say(&self, line: &str) {
        note(&format!(
            "{:>6}  {line}",
            span(Duration::from_secs(self.began_at.elapsed().as_secs()))
        ));
    }

    /// Tells what is new, and turns to the next scene when it is time. True at the end.
    async fn look(&mut self, client: &Client) -> Result<bool, Failure> {
        let ledger = client.ledger(self.began).await?;
        for line in self.teller.news(&ledger.entries, ledger.read_at) {
            self.say(&line);
        }
        let there = ledger.open().filter(|entry| entry.state.instance().is_some()).count();
        self.peak = self.peak.max(u32::try_from(there).unwrap_or(u32::MAX));
        if self.scene == Scene::Silence {
            return Ok(ledger.open().next().is_none());
        }
        let open = self.tell_of_jobs(client).await?;
        match self.scene {
            Scene::Load if self.is_over(&ledger) => {
                self.say(&format!("no more work comes; {} left", count(open, "job")));
                self.scene = Scene::Rest;
            }
            Scene::Rest if open == 0 => {
                self.say("all jobs have ended; machines that have nothing to do cost money");
                self.scene = Scene::Silence;
            }
            Scene::Load | Scene::Rest | Scene::Silence => {}
        }
        Ok(false)
    }

    fn is_over(&self, ledger: &LedgerView) -> bool {
        let lasted = self.began_at.elapsed();
        lasted >= MOST_LOAD || lasted >= LOAD && ledger.entries.values().any(taken_back)
    }

    /// How many jobs have not ended. Nobody else has any here.
    async fn tell_of_jobs(&mut self, client: &Client) -> Result<u64, Failure> {
        let status = client.fleet_status(v1::FleetStatusRequest {}).await?;
        let sum = |keeps: &dyn Fn(i32) -> bool| -> u64 {
            let counts = status.jobs.iter().filter(|count| keeps(count.state));
            counts.map(|count| count.jobs).sum()
        };
        let open = sum(&|state| !is_terminal(state));
        if self.told.elapsed() >= TELL && open > 0 {
            self.told = Instant::now();
            let running = sum(&|state| state == v1::JobState::Leased as i32);
            let done = (self.accepted.len() as u64).saturating_sub(open);
            self.say(&format!("jobs: {done} done, {running} run, {} wait", open - running));
        }
        Ok(open)
    }

    /// Checks that nothing was lost, and adds up.
    async fn bill(self, client: &Client, now: Timestamp) -> Result<Bill, Failure> {
        let mut jobs = Vec::with_capacity(self.accepted.len());
        let mut wrong = Vec::new();
        for (number, accepted) in self.accepted.iter().enumerate() {
            let job = client.job(&accepted.id).await?;
            let mut results = ResultStream::new(client.clone(), job.id.clone());
            let mut back = Vec::new();
            while let Some(part) = results.next().await? {
                if let Some(Output::Texts(texts)) = part.output {
                    back.extend(texts.texts);
                }
            }
            if back != texts_of(number) {
                wrong.push(format!("job {} answers something else", job.id));
            }
            jobs.push((job, back.len() as u64));
        }
        let submitted: Vec<_> = self
            .accepted
            .iter()
            .map(|job| Submitted { id: job.id.clone(), items: job.items })
            .collect();
        wrong.extend(losses(&submitted, &jobs));
        if !wrong.is_empty() {
            return Err(Failure::failed("something was lost").hints(wrong));
        }
        let ledger = client.ledger(self.began).await?;
        if !ledger.entries.values().any(taken_back) {
            return Err(Failure::failed("the cloud took no machine back while there was work")
                .hint("name a fleet file with more interruptions of spot machines"));
        }
        let jobs: Vec<_> = jobs.into_iter().map(|(job, _)| job).collect();
        Ok(Bill::new(&jobs, &ledger.entries, self.peak, (self.began, now)))
    }
}

fn stuck() -> Failure {
    Failure::new(Exit::TimedOut, format!("the demo did not end within {}", span(LIMIT)))
}
