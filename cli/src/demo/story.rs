//! What happens in the demo, in order: submit, watch, kill, watch, check, ask.

use std::time::Duration;

use futures::StreamExt as _;
use stoker_core::request;
use stoker_proto::v1;
use stoker_proto::v1::result_part::Output;
use tokio::time::Instant;

use super::audit::{Submitted, losses};
use super::neighbors::Space;
use super::summary::Summary;
use super::victim::{self, Victim};
use crate::client::{Client, Coordinator, ResultStream, vectors, watch};
use crate::context::Context;
use crate::dev::LocalFleet;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::input::{Content, Input};
use crate::render::progress::{Progress, Tally};
use crate::render::text::{count, grouped};
use crate::render::time::span;
use crate::spec::{self, Task, Template};
use crate::submission::{self, Accepted};

/// A run that takes longer is stuck.
const LIMIT: Duration = Duration::from_mins(15);

/// How often the demo looks for a worker to kill once it is time.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// What the demo is about.
#[derive(Debug)]
pub(crate) struct Story {
    pub(crate) model: String,
    pub(crate) corpus: Vec<String>,
    pub(crate) queries: Vec<String>,
    pub(crate) items_per_job: usize,
    /// Makes the demo's jobs its own.
    pub(crate) key: String,
}

/// How it went: nothing was lost.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) summary: Summary,
    pub(crate) space: Space,
    pub(crate) queries: Vec<(String, Vec<f32>)>,
}

impl Story {
    /// Tells the story on a fleet that is ready.
    pub(crate) async fn tell(
        self,
        fleet: &mut LocalFleet,
        client: &Client,
        context: &Context,
    ) -> Result<Told, Failure> {
        let accepted = self.submit(client, self.corpus.clone(), "corpus").await?;
        let items = self.corpus.len() as u64;
        let mut progress = Progress::new(&context.terminal, items, accepted.len() as u64);
        progress.say(&format!(
            "Submitted {} as {}; from here on none may be lost.",
            count(items, "sentence"),
            count(accepted.len() as u64, "job")
        ));
        let victims = follow(&accepted, items, fleet, client, &mut progress).await?;
        drop(progress);
        let (jobs, vectors) = collect(&accepted, client).await?;
        check(&accepted, &jobs)?;
        let dimensions = vectors.first().map_or(0, Vec::len) as u64;
        let jobs: Vec<_> = jobs.into_iter().map(|(job, _)| job).collect();
        let summary = Summary::new(&jobs, dimensions, &victims);
        let queries = self.ask(client).await?;
        Ok(Told { summary, space: Space::new(self.corpus, vectors), queries })
    }

    async fn submit(
        &self,
        client: &Client,
        texts: Vec<String>,
        part: &str,
    ) -> Result<Vec<Accepted>, Failure> {
        let template = Template {
            model: self.model.clone(),
            task: Task(request::Task::TextEmbedding),
            prompt: String::new(),
            generation: spec::Generation::default(),
            question: spec::Question::default(),
            caption: spec::Caption::default(),
            faces: v1::FaceOptions::default(),
            transcription: v1::TranscriptionOptions::default(),
            class: None,
            labels: [("demo".to_owned(), part.to_owned())].into(),
            deadline: None,
            key: format!("{}-{part}", self.key),
            split: Some(self.items_per_job),
        };
        let jobs =
            spec::jobs(&template, Content::Texts(Input { loose: texts, ..Input::default() }));
        submission::submit(client, jobs).await.map_err(|partial| partial.failure)
    }

    /// Embeds the queries on the fleet that has just lost a worker.
    async fn ask(&self, client: &Client) -> Result<Vec<(String, Vec<f32>)>, Failure> {
        let accepted = self.submit(client, self.queries.clone(), "queries").await?;
        let ids: Vec<_> = accepted.iter().map(|job| job.id.clone()).collect();
        let mut updates = watch(client, &ids, Coordinator::Known);
        let ended = async {
            while let Some(job) = updates.next().await {
                job?;
            }
            Ok::<(), Failure>(())
        };
        tokio::time::timeout(LIMIT, ended).await.map_err(|_| stuck())??;
        let (jobs, vectors) = collect(&accepted, client).await?;
        check(&accepted, &jobs)?;
        Ok(self.queries.iter().cloned().zip(vectors).collect())
    }
}

/// Watches the jobs to their end; kills a worker when half of the items are done.
async fn follow(
    accepted: &[Accepted],
    items: u64,
    fleet: &mut LocalFleet,
    client: &Client,
    progress: &mut Progress,
) -> Result<Vec<Victim>, Failure> {
    let ids: Vec<_> = accepted.iter().map(|job| job.id.clone()).collect();
    let mut updates = watch(client, &ids, Coordinator::Known);
    let mut tally = Tally::default();
    let mut victims = Vec::new();
    let mut looks = tokio::time::interval(LOOK_INTERVAL);
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let deadline = Instant::now() + LIMIT;
    loop {
        let half_done = tally.extent().items_done * 2 >= items;
        tokio::select! {
            update = updates.next() => match update {
                Some(job) => {
                    tally.update(job?);
                    progress.show(tally.extent());
                }
                None => break,
            },
            _ = looks.tick(), if half_done && victims.is_empty() => {
                if let Some(victim) = strike(&tally, fleet, client).await? {
                    progress.say(&obituary(&victim));
                    victims.push(victim);
                }
            }
            notice = fleet.notice() => {
                let Some(notice) = notice else { return Err(fleet.why_down().await) };
                progress.say(&format!("  {notice}"));
            }
            () = tokio::time::sleep_until(deadline) => return Err(stuck()),
        }
    }
    if victims.is_empty() {
        return Err(Failure::failed("the work was done before a worker could be killed half way")
            .hint("use a larger corpus, or smaller jobs with --job-items"));
    }
    Ok(victims)
}

/// Kills a worker process that holds leases; `None` if none holds any at the moment.
async fn strike(
    tally: &Tally,
    fleet: &LocalFleet,
    client: &Client,
) -> Result<Option<Victim>, Failure> {
    let workers = client.list_workers(v1::ListWorkersRequest {}).await?.workers;
    let victim = victim::choose(tally.jobs(), &workers, &fleet.worker_pids());
    if let Some(victim) = &victim {
        fleet.kill(victim.pid).await;
    }
    Ok(victim)
}

fn obituary(victim: &Victim) -> String {
    format!(
        "Killing {} (pid {}) with SIGKILL while it runs {}: {} of its {} items are stored so far.",
        victim.name,
        victim.pid,
        count(victim.jobs.len() as u64, "job"),
        grouped(victim.items_done),
        grouped(victim.items_total)
    )
}

fn stuck() -> Failure {
    Failure::new(Exit::TimedOut, format!("the demo did not end within {}", span(LIMIT)))
}

type Collected = (Vec<(v1::Job, u64)>, Vec<Vec<f32>>);

/// The last state of each job with the number of its results, and all vectors in order.
async fn collect(accepted: &[Accepted], client: &Client) -> Result<Collected, Failure> {
    let mut jobs = Vec::with_capacity(accepted.len());
    let mut all = Vec::new();
    for submitted in accepted {
        let job = client.job(&submitted.id).await?;
        let before = all.len();
        if job.state == v1::JobState::Succeeded as i32 {
            let mut parts = ResultStream::new(client.clone(), job.id.clone());
            while let Some(part) = parts.next().await? {
                if let Some(Output::Embeddings(embeddings)) = &part.output {
                    all.extend(vectors(embeddings));
                }
            }
        }
        jobs.push((job, (all.len() - before) as u64));
    }
    Ok((jobs, all))
}

fn check(accepted: &[Accepted], jobs: &[(v1::Job, u64)]) -> Result<(), Failure> {
    let submitted: Vec<_> =
        accepted.iter().map(|job| Submitted { id: job.id.clone(), items: job.items }).collect();
    let losses = losses(&submitted, jobs);
    if losses.is_empty() {
        return Ok(());
    }
    Err(Failure::failed("something was lost").hints(losses))
}
