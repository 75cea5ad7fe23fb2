//! Fifty models on a worker with the memory for ten: what loads cost, and who waits for them.

use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::Context;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::{Value, json};
use stoker_proto::v1::job_input::Task;
use stoker_proto::v1::{Job, JobInput, JobSpec, JobState, SubmitRequest, TextEmbeddingInput};
use tokio::time::{Instant, sleep_until};

use crate::fleet::{Fleet, Options, PATIENCE};
use crate::{metrics, poll};

use super::embedding::sentences;
use super::queued::waiting;
use super::sample::{Sample, round};

const MODELS: u32 = 50;
/// Ten of them need no more.
const BUDGET: &str = "1400MiB";
/// As long as jobs come at one rate before they count, and then as long as they do.
const WARM_UP: Duration = Duration::from_mins(1);
const TIME: Duration = Duration::from_mins(4);
/// Jobs in a second.
const RATES: [f64; 3] = [2.0, 5.0, 10.0];
const JOB_SENTENCES: usize = 10;
/// Half of the jobs each, with the longest wait that the class promises.
const CLASSES: [(&str, Duration); 2] =
    [("prompt", Duration::from_secs(10)), ("patient", Duration::from_mins(1))];

/// Measures at several rates how often and how long models were loaded, and how long jobs waited. The models have the same
/// weights under fifty names, and Zipf's law with exponent 1 says which of them a job is for.
///
/// # Errors
/// When a job does not succeed.
pub async fn run(model: &Path, corpus: &Path) -> anyhow::Result<Value> {
    let sentences = sentences(corpus)?;
    let model = model.canonicalize().with_context(|| model.display().to_string())?;
    let mut rates = Vec::new();
    for rate in RATES {
        rates.push(at(rate, &model, &sentences).await?);
    }
    Ok(json!({
        "models": MODELS,
        "memory_budget": BUDGET,
        "sentences_per_job": JOB_SENTENCES,
        "seconds": TIME.as_secs(),
        "rates": rates,
    }))
}

async fn at(rate: f64, model: &Path, sentences: &[String]) -> anyhow::Result<Value> {
    let options = Options { fleet: fleet_file(model), slots: 64, ..Options::echo("", "0ms") };
    let mut fleet = Fleet::start(options).await?;
    fleet.add_worker_with(&[("STOKER_MEMORY_BUDGET", BUDGET)])?;
    fleet.ready(1).await?;
    let mut stream = Stream::new(rate, sentences);
    // Memory is filled, and what is needed most is known.
    stream.submit(&fleet, WARM_UP).await?;
    let (before, began) = (Loads::of(&fleet).await?, Instant::now());
    let jobs = stream.submit(&fleet, WARM_UP + TIME).await?;
    let (after, took) = (Loads::of(&fleet).await?, began.elapsed());
    poll::down_to_nothing("jobs to end", PATIENCE, || async {
        let left = waiting(&fleet).await?;
        Ok((left, format!("{left} wait")))
    })
    .await?;
    let mut waits = Vec::new();
    for job in &jobs {
        let job = fleet.job(job).await?;
        anyhow::ensure!(job.state() == JobState::Succeeded, "{job:?}");
        waits.push((job.class.clone(), waited(&job)?));
    }
    let (loads, seconds) = (after.count - before.count, after.seconds - before.seconds);
    let mut result = json!({
        "jobs_per_second": rate,
        "resident_models": after.resident,
        "loads": loads,
        "seconds_for_a_load": round(seconds / loads.max(1.0), 3),
        "part_of_time_in_loads": round(seconds / took.as_secs_f64(), 3),
    });
    for (class, longest) in CLASSES {
        let (mut sample, mut late) = (Sample::new(), 0);
        for (_, wait) in waits.iter().filter(|(of, _)| of == class) {
            sample.note_time(*wait);
            late += u32::from(*wait > longest);
        }
        result[class] = json!({
            "jobs": sample.count(),
            "p50_seconds": round(sample.millis(0.5) / 1e3, 3),
            "p99_seconds": round(sample.millis(0.99) / 1e3, 3),
            "late": late,
        });
    }
    Ok(result)
}

fn fleet_file(model: &Path) -> String {
    let classes = CLASSES.map(|(class, longest)| {
        format!("[classes.{class}]\nmax-wait = \"{}s\"\n", longest.as_secs())
    });
    let names: Vec<String> = (0..MODELS).map(name).collect();
    let source = model.display();
    let models = names.iter().map(|name| {
        format!("[models.{name}]\ntask = \"text-embedding\"\nsource = \"file:{source}\"\n")
    });
    format!(
        "fleet = \"bench-switching\"\ndefault-class = \"{}\"\n{}{}[pools.default]\nmodels = {names:?}\n",
        CLASSES[1].0,
        classes.concat(),
        models.collect::<String>()
    )
}

fn name(model: u32) -> String {
    format!("m{model:02}")
}

/// Jobs as a Poisson stream; the same at every run.
struct Stream<'a> {
    random: StdRng,
    rate: f64,
    sentences: &'a [String],
    began: Instant,
    /// When the next job comes.
    due: Duration,
}

impl<'a> Stream<'a> {
    fn new(rate: f64, sentences: &'a [String]) -> Self {
        let random = StdRng::seed_from_u64(1);
        Self { random, rate, sentences, began: Instant::now(), due: Duration::ZERO }
    }

    /// Submits what comes until then, in real time; answers the jobs' ids.
    async fn submit(&mut self, fleet: &Fleet, until: Duration) -> anyhow::Result<Vec<String>> {
        let (mut client, mut jobs) = (fleet.jobs().await?, Vec::new());
        while self.due < until {
            sleep_until(self.began + self.due).await;
            let request = SubmitRequest { job: Some(self.job()) };
            jobs.push(client.submit(request).await?.into_inner().job_id);
            let gap = -(1.0 - self.random.random::<f64>()).ln() / self.rate;
            self.due += Duration::from_secs_f64(gap);
        }
        Ok(jobs)
    }

    fn job(&mut self) -> JobSpec {
        let total: f64 = (1..=MODELS).map(|rank| 1.0 / f64::from(rank)).sum();
        let mut left = self.random.random::<f64>() * total;
        let model = (0..MODELS).find(|model| {
            left -= 1.0 / f64::from(model + 1);
            left < 0.0
        });
        let first = self.random.random_range(0..self.sentences.len() - JOB_SENTENCES);
        let texts = self.sentences[first..][..JOB_SENTENCES].to_vec();
        let input = TextEmbeddingInput { texts, prompt: String::new() };
        JobSpec {
            model: name(model.unwrap_or(0)),
            class: CLASSES[self.random.random_range(0..CLASSES.len())].0.to_owned(),
            input: Some(JobInput { task: Some(Task::TextEmbedding(input)) }),
            ..JobSpec::default()
        }
    }
}

/// From the acceptance of a job to its start.
fn waited(job: &Job) -> anyhow::Result<Duration> {
    let (accepted, started) = job.accepted_at.zip(job.started_at).context("a job without times")?;
    let (accepted, started) = (SystemTime::try_from(accepted)?, SystemTime::try_from(started)?);
    Ok(started.duration_since(accepted).unwrap_or_default())
}

/// What the fleet's only worker has loaded so far.
struct Loads {
    count: f64,
    seconds: f64,
    /// Models that are loaded now.
    resident: f64,
}

impl Loads {
    async fn of(fleet: &Fleet) -> anyhow::Result<Self> {
        let text = metrics::of_worker(fleet).await?;
        let sum = |name: &str| -> f64 {
            let name = format!("stoker_worker_{name}");
            let lines = text.lines().filter(|line| line.starts_with(&name));
            let values = lines.filter_map(|line| line.rsplit_once(' '));
            values.filter_map(|(_, value)| value.parse::<f64>().ok()).sum()
        };
        Ok(Self {
            count: sum("model_load_seconds_count"),
            seconds: sum("model_load_seconds_sum"),
            resident: sum("resident_models"),
        })
    }
}
