//! Measures the engine process as a worker uses it: cold start, and sentences per second from text
//! to vector over pipes.
//!
//! ```sh
//! cargo build --release -p stoker-engine
//! cargo run --release -p stoker-engine --example embedding_bench -- \
//!     --dir .cache/models/all-minilm-l6-v2 --corpus sentences.txt
//! ```
//!
//! With `--expect FILE` (little-endian f32, as `benches/embedding/sentence_transformers_bench.py`
//! writes them) every vector is compared, and a cosine below 0.9999 is a failure.

use std::error::Error;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::str::FromStr;
use std::time::{Duration, Instant};
use std::{env, fs, io};

use stoker_engine_api::arguments::Arguments;
use stoker_engine_api::{
    EngineInfo, FrameReader, FrameWriter, FromEngine, ItemInput, ItemKey, ItemOutput, ToEngine,
};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const KNOWN: [&str; 12] = [
    "dir",
    "device",
    "precision",
    "corpus",
    "limit",
    "lanes",
    "batch-tokens",
    "order",
    "rounds",
    "cold-starts",
    "expect",
    "engine",
];

/// Sentences sent for preparation at a time, and requests that are under way at the same time.
const PREPARE_CHUNK: usize = 256;
const PREPARE_WINDOW: usize = 8;

/// The least cosine between a vector and the expected one.
const MIN_COSINE: f64 = 0.9999;

fn main() -> Result<()> {
    let mut arguments = Arguments::parse(env::args().skip(1), &KNOWN)?;
    let directory: PathBuf = arguments.required("dir")?;
    let corpus: PathBuf = arguments.required("corpus")?;
    let limit = arguments.optional("limit")?.unwrap_or(usize::MAX);
    let order = arguments.optional("order")?.unwrap_or(Order::Length);
    let rounds = arguments.optional("rounds")?.unwrap_or(2);
    let cold_starts = arguments.optional("cold-starts")?.unwrap_or(5);
    let expect: Option<PathBuf> = arguments.optional("expect")?;
    let options = EngineOptions {
        program: arguments.optional("engine")?.map_or_else(default_engine, Ok)?,
        directory,
        device: arguments.optional("device")?,
        precision: arguments.optional("precision")?,
        lanes: arguments.optional("lanes")?,
        batch_tokens: arguments.optional("batch-tokens")?,
    };
    let text = fs::read_to_string(corpus)?;
    let sentences: Vec<&str> =
        text.lines().filter(|line| !line.trim().is_empty()).take(limit).collect();

    let mut cold = (0..cold_starts).map(|_| cold_start(&options, sentences[0]));
    let cold = cold.try_fold(f64::INFINITY, |best, one| one.map(|one| best.min(one)))?;
    let mut engine = EngineProcess::start(&options)?;
    let (mut best, mut vectors) = (Pass::default(), Vec::new());
    for round in 0..rounds {
        let cpu_before = cpu_seconds(engine.child.id())?;
        let (mut pass, found) = engine.embed(&sentences, order, round)?;
        pass.cpu_seconds = cpu_seconds(engine.child.id())? - cpu_before;
        vectors = found;
        if round == 0 || pass.total() < best.total() {
            best = pass;
        }
    }
    let rss = peak_memory_bytes(engine.child.id())?;
    let info = engine.stop()?;
    let cosine = expect.map(|path| least_cosine(&vectors, &path)).transpose()?;
    let mut report = serde_json::json!({
        "sentences": sentences.len(),
        "device": info.device,
        "precision": options.precision,
        "lanes": info.lanes,
        "batch_tokens": info.max_batch_tokens,
        "order": order.name(),
        "cold_start_seconds": cold,
        "load_seconds": info.load,
        "peak_memory_mib": rss >> 20,
        "least_cosine": cosine,
    });
    best.add_to(&mut report, sentences.len())?;
    writeln!(io::stdout(), "{report:#}")?;
    match cosine {
        Some(cosine) if cosine < MIN_COSINE => {
            Err(format!("a vector has a cosine of {cosine} with the expected one").into())
        }
        _ => Ok(()),
    }
}

/// How long one pass over all sentences took.
#[derive(Clone, Copy, Default)]
struct Pass {
    tokens: usize,
    /// From the first text sent to the last one tokenized.
    preparing: Duration,
    /// From the first batch sent to the last vector received. A worker does both at the same time.
    computing: Duration,
    cpu_seconds: f64,
}

impl Pass {
    fn total(&self) -> Duration {
        self.preparing + self.computing
    }

    /// How fast it was.
    fn add_to(&self, report: &mut serde_json::Value, sentences: usize) -> Result<()> {
        let count = f64::from(u32::try_from(sentences)?);
        let tokens = f64::from(u32::try_from(self.tokens)?);
        let per_second = |count: f64, time: Duration| (count / time.as_secs_f64()).round();
        report["tokens"] = self.tokens.into();
        report["sentences_per_second"] = per_second(count, self.total()).into();
        report["tokens_per_second"] = per_second(tokens, self.total()).into();
        report["prepared_per_second"] = per_second(count, self.preparing).into();
        report["computed_per_second"] = per_second(count, self.computing).into();
        report["sentences_per_cpu_second"] = (count / self.cpu_seconds).round().into();
        Ok(())
    }
}

/// In which order sentences are put into batches.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    /// Longest first, as sentence-transformers does it.
    Length,
    /// As they are in the file.
    File,
}

impl Order {
    const fn name(self) -> &'static str {
        match self {
            Self::Length => "length",
            Self::File => "file",
        }
    }
}

impl FromStr for Order {
    type Err = &'static str;

    fn from_str(name: &str) -> std::result::Result<Self, Self::Err> {
        let known = [Self::Length, Self::File].into_iter().find(|order| order.name() == name);
        known.ok_or("use length or file")
    }
}

struct EngineOptions {
    program: PathBuf,
    directory: PathBuf,
    device: Option<String>,
    precision: Option<String>,
    lanes: Option<u32>,
    batch_tokens: Option<u32>,
}

/// The engine beside this program: `target/release/examples/../stoker-engine`.
fn default_engine() -> Result<PathBuf> {
    let here = env::current_exe()?;
    let target = here.parent().and_then(Path::parent).ok_or("no target directory")?;
    let engine = target.join("stoker-engine");
    if engine.exists() {
        return Ok(engine);
    }
    let engine = engine.display();
    Err(format!("{engine} is missing: run `cargo build --release -p stoker-engine` first").into())
}

struct EngineProcess {
    child: Child,
    requests: FrameWriter<ToEngine, ChildStdin>,
    answers: FrameReader<FromEngine, ChildStdout>,
    info: EngineInfo,
}

impl EngineProcess {
    fn start(options: &EngineOptions) -> Result<Self> {
        let mut command = Command::new(&options.program);
        command.args(["--task", "text-embedding", "--model", "bench", "--dir"]);
        command.arg(&options.directory);
        let numbers = [("--lanes", options.lanes), ("--max-batch-tokens", options.batch_tokens)];
        let numbers = numbers.map(|(flag, value)| (flag, value.map(|value| value.to_string())));
        let names = [("--device", &options.device), ("--precision", &options.precision)];
        let names = names.map(|(flag, value)| (flag, value.clone()));
        for (flag, value) in numbers.into_iter().chain(names) {
            if let Some(value) = value {
                command.arg(flag).arg(value);
            }
        }
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let requests = FrameWriter::new(child.stdin.take().ok_or("no stdin")?);
        let mut answers = FrameReader::new(child.stdout.take().ok_or("no stdout")?);
        loop {
            match answers.read()?.ok_or("the engine exited")? {
                FromEngine::Hello { .. } => {}
                FromEngine::Ready(info) => return Ok(Self { child, requests, answers, info }),
                other => return Err(format!("the engine did not start: {other:?}").into()),
            }
        }
    }

    /// One pass, and the vectors of all sentences.
    fn embed(
        &mut self,
        sentences: &[&str],
        sequence: Order,
        round: usize,
    ) -> Result<(Pass, Vec<Vec<f32>>)> {
        let first = round * sentences.len();
        let start = Instant::now();
        let costs = self.prepare(sentences, first)?;
        let preparing = start.elapsed();
        let mut order: Vec<usize> = (0..sentences.len()).collect();
        if sequence == Order::Length {
            order.sort_by_key(|index| std::cmp::Reverse(costs[*index]));
        }
        let batches = batches(&order, &costs, usize::try_from(self.info.max_batch_tokens)?);
        let window = 2 * usize::try_from(self.info.lanes)?;
        let mut vectors = vec![Vec::new(); sentences.len()];
        let mut sent = 0;
        for _ in 0..batches.len() {
            let (done, outputs) = loop {
                if sent < batches.len().min(window) {
                    self.run(sent, &batches[sent], first)?;
                    sent += 1;
                    continue;
                }
                match self.answers.read()?.ok_or("the engine exited")? {
                    FromEngine::Done { batch, outputs, .. } => {
                        break (usize::try_from(batch)?, outputs);
                    }
                    other => return Err(format!("unexpected answer: {other:?}").into()),
                }
            };
            for (index, output) in batches[done].iter().zip(outputs) {
                let ItemOutput::Embedding(vector) = output else {
                    return Err("not a vector".into());
                };
                vectors[*index] = vector;
            }
            if sent < batches.len() {
                self.run(sent, &batches[sent], first)?;
                sent += 1;
            }
        }
        let computing = start.elapsed().saturating_sub(preparing);
        let tokens = costs.iter().sum();
        Ok((Pass { tokens, preparing, computing, ..Pass::default() }, vectors))
    }

    fn prepare(&mut self, sentences: &[&str], first: usize) -> Result<Vec<usize>> {
        let mut costs = vec![0; sentences.len()];
        let mut under_way = 0;
        for (index, chunk) in sentences.chunks(PREPARE_CHUNK).enumerate() {
            let keys = (u64::try_from(first + index * PREPARE_CHUNK)?..).map(ItemKey);
            let inputs = chunk.iter().map(|text| ItemInput::Text((*text).to_owned()));
            self.requests.write(&ToEngine::Prepare { items: keys.zip(inputs).collect() })?;
            under_way += 1;
            if under_way == PREPARE_WINDOW {
                self.prepared(&mut costs, first)?;
                under_way -= 1;
            }
        }
        for _ in 0..under_way {
            self.prepared(&mut costs, first)?;
        }
        Ok(costs)
    }

    /// Reads one answer of several that may come in any order.
    fn prepared(&mut self, costs: &mut [usize], first: usize) -> Result<()> {
        let FromEngine::Prepared { items } = self.answers.read()?.ok_or("the engine exited")?
        else {
            return Err("not prepared".into());
        };
        for (ItemKey(key), cost) in items {
            costs[usize::try_from(key)? - first] = usize::try_from(cost?)?;
        }
        Ok(())
    }

    fn run(&mut self, batch: usize, indexes: &[usize], first: usize) -> Result<()> {
        let keys: std::result::Result<Vec<_>, _> =
            indexes.iter().map(|index| u64::try_from(first + index).map(ItemKey)).collect();
        let batch = u64::try_from(batch)?;
        Ok(self.requests.write(&ToEngine::Run { batch, items: keys? })?)
    }

    fn stop(mut self) -> Result<EngineInfo> {
        drop(self.requests);
        let status = self.child.wait()?;
        if status.success() { Ok(self.info) } else { Err(format!("engine: {status}").into()) }
    }
}

/// Cuts a sequence where the next sentence would go over the budget.
fn batches(order: &[usize], costs: &[usize], budget: usize) -> Vec<Vec<usize>> {
    let mut batches: Vec<Vec<usize>> = Vec::new();
    let mut room = 0;
    for &index in order {
        match batches.last_mut() {
            Some(batch) if costs[index] <= room => batch.push(index),
            _ => {
                batches.push(vec![index]);
                room = budget;
            }
        }
        room = room.saturating_sub(costs[index]);
    }
    batches
}

/// Seconds from starting the process to holding the first vector.
fn cold_start(options: &EngineOptions, sentence: &str) -> Result<f64> {
    let start = Instant::now();
    let mut engine = EngineProcess::start(options)?;
    engine.embed(&[sentence], Order::File, 0)?;
    let seconds = start.elapsed().as_secs_f64();
    engine.stop()?;
    Ok(seconds)
}

fn peak_memory_bytes(process: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib: u64 = line.ok_or("no VmHWM")?.trim().trim_end_matches(" kB").parse()?;
    Ok(kib << 10)
}

/// Time on a core, all threads together: comparable even while something else runs.
fn cpu_seconds(process: u32) -> Result<f64> {
    /// Linux counts in hundredths of a second for all programs.
    const TICKS_PER_SECOND: f64 = 100.0;
    let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
    // The second field, the program's name, may hold anything; counting starts after it.
    let (_, fields) = stat.rsplit_once(')').ok_or("no process name")?;
    let mut times = fields.split_whitespace().skip(11);
    let mut next = || -> Result<f64> { Ok(times.next().ok_or("no times")?.parse()?) };
    Ok((next()? + next()?) / TICKS_PER_SECOND)
}

fn least_cosine(vectors: &[Vec<f32>], path: &Path) -> Result<f64> {
    let bytes = fs::read(path)?;
    let (numbers, _) = bytes.as_chunks::<4>();
    let expected: Vec<f32> = numbers.iter().map(|number| f32::from_le_bytes(*number)).collect();
    let width = vectors.first().ok_or("no sentences")?.len();
    if expected.len() != vectors.len() * width {
        return Err(format!("{} does not hold {} vectors", path.display(), vectors.len()).into());
    }
    let cosines = vectors.iter().zip(expected.chunks_exact(width)).map(|(a, b)| cosine(a, b));
    Ok(cosines.fold(1.0, f64::min))
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| -> f64 {
        a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
    };
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}
