//! Which engine process serves a model, and how it is started.

use std::path::PathBuf;

use stoker_core::fleet::{Model, Source};
use stoker_core::ids::ModelName;
use stoker_core::request::Task;

use crate::agent::{ModelPlan, task_kind};
use crate::config::Settings;
use crate::error::WorkerError;
use crate::supervisor::EngineSpec;
use crate::weights::{Hub, WeightsError, check_directory};

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
pub async fn get(settings: &Settings, name: &ModelName) -> Result<Served, WorkerError> {
    let failed = |source| WorkerError::Weights { model: name.clone(), source };
    let model = settings.fleet.models.get(name);
    let model = model.expect("the checked settings name models of the fleet only");
    let (program, arguments) = match &model.source {
        Source::Builtin { .. } => (settings.echo_engine.clone(), Vec::new()),
        Source::Directory(path) => {
            let path = path.clone();
            let checked = tokio::task::spawn_blocking(move || check_directory(&path)).await;
            let directory = checked.expect("checking a directory does not panic");
            let weights = weights(&directory.map_err(failed)?, model.sha256.as_deref());
            (settings.engine.clone(), weights)
        }
        Source::HuggingFace { repository, revision } => {
            let hub_error = |source| {
                let (repository, revision) = (repository.clone(), revision.clone());
                failed(WeightsError::Hub { repository, revision, source })
            };
            let hub = Hub::new(&settings.hub).map_err(hub_error)?;
            let found = hub.get(repository, revision).await.map_err(failed)?;
            // The registry's digest counts; without one, the hub's own still finds damage.
            let digest = model.sha256.as_deref().or(found.sha256.as_deref());
            (settings.engine.clone(), weights(&found.directory, digest))
        }
    };
    let arguments = [common(settings, name, model), arguments].concat();
    Ok(Served {
        plan: ModelPlan {
            name: name.clone(),
            task: task_kind(model.task),
            max_batch_tokens: model.max_batch_tokens,
        },
        engine: EngineSpec {
            model: name.clone(),
            program,
            arguments,
            start_limit: settings.engine_start_limit,
            stall_limit: settings.engine_stall_limit,
        },
    })
}

fn common(settings: &Settings, name: &ModelName, model: &Model) -> Vec<String> {
    let mut arguments = Vec::new();
    let mut add = |name: &str, value: String| arguments.extend([format!("--{name}"), value]);
    add("model", name.to_string());
    add("lanes", settings.lanes.to_string());
    match (model.task, &model.source) {
        (Task::Echo, Source::Builtin { delay }) if !delay.is_zero() => {
            add("delay", format!("{}ns", delay.as_nanos()));
        }
        (Task::Echo, _) => {}
        (Task::TextEmbedding, _) => {
            add("task", model.task.name().to_owned());
            if let Some(tokens) = model.max_batch_tokens {
                add("max-batch-tokens", tokens.to_string());
            }
        }
    }
    arguments
}

fn weights(directory: &std::path::Path, sha256: Option<&str>) -> Vec<String> {
    let directory: PathBuf = directory.to_owned();
    let mut arguments = vec!["--dir".to_owned(), directory.display().to_string()];
    if let Some(sha256) = sha256 {
        arguments.extend(["--digest".to_owned(), format!("sha256:{sha256}")]);
    }
    arguments
}
