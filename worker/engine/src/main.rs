//! Starts a model's engine process.

use std::num::NonZeroUsize;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};
use std::{env, io, thread};

use stoker_engine::{DefaultPrompt, EncoderTask, EngineDevice, LoadOptions, TextEncoder};
use stoker_engine_api::arguments::Arguments;
use stoker_engine_api::serve::ServeOptions;
use stoker_engine_api::{MAX_PREPARE_THREADS, StartError, TaskKind, process};

const USAGE: &str = "\
stoker-engine: runs one model for stoker-worker, which starts it.

  --task TASK              text-embedding or text-classification
  --model NAME             name of the model in the registry
  --dir DIRECTORY          the model's files
  --digest sha256:HEX      digest that model.safetensors must have (default: not checked)
  --device DEVICE          cpu or cuda:0 (default: cpu)
  --precision PRECISION    of a GPU: f32, tf32, f16 or bf16 (default: f32, as a CPU's)
  --lanes N                batches that run at the same time (default: one per core, two on a GPU)
  --max-batch-tokens N     size of a batch in tokens (default: 2048, on a GPU 16384)
  --default-prompt WHOSE   given: texts come with the model's default prompt (default: none)
";

const KNOWN: [&str; 9] = [
    "task",
    "model",
    "dir",
    "digest",
    "device",
    "precision",
    "lanes",
    "max-batch-tokens",
    "default-prompt",
];

/// candle and its matrix products read the number of threads per forward pass from here.
const THREADS: &str = "RAYON_NUM_THREADS";

fn main() -> ExitCode {
    // Lanes run side by side, so each must stay on one thread. The process replaces itself, since
    // its own environment can't be changed safely; this returns only on failure.
    let single = env::var_os(THREADS).is_some_and(|threads| threads == "1");
    let replaced = if single { Ok(()) } else { Err(run_again_single_threaded()) };
    process::run(USAGE, ServeOptions { prepare_threads: prepare_threads() }, || {
        if let Err(error) = replaced {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(error, "every lane uses all cores: expect less throughput");
        }
        let mut arguments = Arguments::parse(env::args().skip(1), &KNOWN)?;
        let task: TaskKind = arguments.required("task")?;
        let Some(task) = EncoderTask::of(task) else {
            let message = format!("argument `--task`: this engine does not do {task}");
            return Err(StartError::new(message, "correct the model's task in the fleet file"));
        };
        let options = LoadOptions {
            task,
            default_prompt: arguments.optional("default-prompt")?.unwrap_or(DefaultPrompt::None),
            model: arguments.required("model")?,
            directory: arguments.required("dir")?,
            digest: arguments.optional("digest")?,
            device: arguments.optional("device")?.unwrap_or(EngineDevice::Cpu),
            precision: arguments.optional("precision")?.unwrap_or_default(),
            lanes: arguments.optional("lanes")?,
            max_batch_tokens: arguments.optional("max-batch-tokens")?,
        };
        Ok(TextEncoder::load(&options)?)
    })
}

/// One thread tokenizes for a few cores' worth of network, and for a GPU a few are enough.
fn prepare_threads() -> NonZeroUsize {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    NonZeroUsize::new((cores / 4).min(MAX_PREPARE_THREADS)).unwrap_or(NonZeroUsize::MIN)
}

fn run_again_single_threaded() -> io::Error {
    match env::current_exe() {
        Ok(program) => Command::new(program).args(env::args_os().skip(1)).env(THREADS, "1").exec(),
        Err(error) => error,
    }
}
