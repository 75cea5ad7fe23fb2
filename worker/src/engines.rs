//! Which engine process serves a model, and how it is started.

use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::time::Instant;

use stoker_core::fleet::{Model, Source};
use stoker_core::ids::ModelName;
use stoker_core::request::Task;
use stoker_core::residency::Estimate;
use stoker_weights::CachedModel;

use crate::agent::ModelPlan;
use crate::attempt::task_kind;
use crate::blocking::blocking;
use crate::config::{MAX_LANES, Settings, folder_of_executable};
use crate::error::WorkerError;
use crate::gpu::{ENGINE, Machine};
use crate::memory::least_bytes;
use crate::metrics;
use crate::supervisor::EngineSpec;
use crate::weights::{Hub, Layout, WeightsError, check_directory, check_format, get_from_bucket};

/// A model that is ready to be started.
#[derive(Debug, Clone)]
pub struct Served {
    pub plan: ModelPlan,
    pub engine: EngineSpec,
}

/// Gets the model's files, which may take a download, and says how to start its engine.
///
/// # Errors
/// When the files cannot be had.
#[tracing::instrument(name = "fetch", skip_all, fields(model = %name))]
pub async fn get(
    settings: &Settings,
    machine: &Machine,
    name: &ModelName,
) -> Result<Served, WorkerError> {
    let failed = |source| WorkerError::Weights { model: name.clone(), source };
    let model = settings.fleet.models.get(name);
    let model = model.expect("the checked settings name models of the fleet only");
    let began = Instant::now();
    let files = files(settings, model).await.map_err(failed)?;
    let mut bytes_on_disk = 0;
    let (program, arguments, cached) = match files {
        None => (settings.echo_engine.clone(), Vec::new(), None),
        Some(Files { directory, sha256, bytes, cached }) => {
            metrics::fetched(name, began.elapsed());
            bytes_on_disk = bytes;
            let arguments = weights(&directory, sha256.as_deref());
            (engine_program(settings, machine), arguments, cached)
        }
    };
    let arguments = [common(settings, machine, (name, model)), arguments].concat();
    Ok(Served {
        plan: ModelPlan {
            name: name.clone(),
            task: task_kind(model.task),
            max_batch_tokens: model.max_batch_tokens,
            prompts: model.prompts.clone(),
            zero_shot: model.zero_shot.clone(),
            estimate: Estimate::of(bytes_on_disk, least_bytes(machine)),
        },
        engine: EngineSpec {
            model: name.clone(),
            program,
            arguments,
            environment: environment(machine),
            start_limit: settings.engine_start_limit,
            stall_limit: settings.engine_stall_limit,
            cached,
        },
    })
}

/// A model's files on this machine.
struct Files {
    directory: PathBuf,
    /// Of the weights, where anybody told it.
    sha256: Option<String>,
    /// Size of the weights.
    bytes: u64,
    /// Keeps them where they are.
    cached: Option<CachedModel>,
}

/// None: there is nothing to load.
async fn files(settings: &Settings, model: &Model) -> Result<Option<Files>, WeightsError> {
    let layout = Layout::of(model.task);
    let files = match &model.source {
        Source::Builtin { .. } => return Ok(None),
        Source::Directory(path) => {
            let path = path.clone();
            let directory = blocking(move || check_directory(&path, layout)).await?;
            Files { directory, sha256: model.sha256.clone(), bytes: 0, cached: None }
        }
        Source::HuggingFace { repository, revision } => {
            let hub = Hub::new(&settings.hub).map_err(|source| {
                let (repository, revision) = (repository.clone(), revision.clone());
                WeightsError::Hub { repository, revision, source }
            })?;
            let found = hub.get(repository, revision, layout).await?;
            // The registry's digest counts; without one, the hub's own still finds damage.
            let sha256 = model.sha256.clone().or(found.sha256);
            Files { directory: found.directory, sha256, bytes: 0, cached: None }
        }
        Source::Bucket { url } => {
            let sha256 = model.sha256.as_deref();
            let sha256 = sha256.expect("a checked fleet has the digest of a model in a bucket");
            let cached = get_from_bucket(&settings.weights, url, sha256, layout).await?;
            let directory = cached.directory.clone();
            Files { directory, sha256: model.sha256.clone(), bytes: 0, cached: Some(cached) }
        }
    };
    let directory = files.directory.clone();
    let bytes = blocking(move || check_format(&directory)).await?;
    Ok(Some(Files { bytes, ..files }))
}

fn engine_program(settings: &Settings, machine: &Machine) -> PathBuf {
    match (&settings.engine, machine) {
        (Some(named), _) => named.clone(),
        (None, Machine::Gpu(gpu)) => gpu.engine.clone(),
        (None, Machine::Cpu) => folder_of_executable().join(ENGINE),
    }
}

/// Engines see the worker's one GPU, as number 0. A UUID says which, whatever order the driver counts in.
fn environment(machine: &Machine) -> Vec<(&'static str, String)> {
    match machine {
        Machine::Cpu => Vec::new(),
        Machine::Gpu(gpu) => vec![("CUDA_VISIBLE_DEVICES", gpu.about.uuid.clone())],
    }
}

fn common(
    settings: &Settings,
    machine: &Machine,
    (name, model): (&ModelName, &Model),
) -> Vec<String> {
    let mut arguments = Vec::new();
    let mut add = |name: &str, value: String| arguments.extend([format!("--{name}"), value]);
    add("model", name.to_string());
    // The echo engine has no opinion of its own.
    let lanes = settings.lanes.or_else(|| (model.task == Task::Echo).then(cores));
    if let Some(lanes) = lanes {
        add("lanes", lanes.to_string());
    }
    match (model.task, &model.source) {
        (Task::Echo, Source::Builtin { delay }) if !delay.is_zero() => {
            add("delay", format!("{}ns", delay.as_nanos()));
        }
        (Task::Echo, _) => {}
        (
            Task::TextEmbedding
            | Task::TextClassification
            | Task::TextGeneration
            | Task::ImageEmbedding
            | Task::ImageClassification
            | Task::ImageCaptioning
            | Task::FaceDetection
            | Task::FaceEmbedding
            | Task::SpeechToText,
            _,
        ) => {
            add("task", model.task.name().to_owned());
            if let Some(tokens) = model.max_batch_tokens {
                add("max-batch-tokens", tokens.to_string());
            }
            if let Machine::Gpu(_) = machine {
                add("device", "cuda:0".to_owned());
                add("precision", model.precision.name().to_owned());
            }
            if model.task.takes_images() {
                let limits = settings.fleet.limits.image;
                add("max-image-bytes", limits.max_bytes.to_string());
                add("max-image-pixels", limits.max_pixels.to_string());
            }
            if model.prompts.has_default() {
                add("default-prompt", "given".to_owned());
            }
        }
    }
    arguments
}

fn cores() -> NonZeroU32 {
    let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let cores = u32::try_from(cores).unwrap_or(MAX_LANES).min(MAX_LANES);
    NonZeroU32::new(cores).unwrap_or(NonZeroU32::MIN)
}

fn weights(directory: &std::path::Path, sha256: Option<&str>) -> Vec<String> {
    let directory: PathBuf = directory.to_owned();
    let mut arguments = vec!["--dir".to_owned(), directory.display().to_string()];
    if let Some(sha256) = sha256 {
        arguments.extend(["--digest".to_owned(), format!("sha256:{sha256}")]);
    }
    arguments
}
