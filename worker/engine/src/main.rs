//! Starts a model's engine process.

use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};
use std::{env, io, thread};

use stoker_core::image::ImageLimits;
use stoker_engine::{
    Captioner, CaptionerOptions, DefaultPrompt, EncoderTask, EngineDevice, FaceFinder, FaceOptions,
    FaceTask, Generator, GeneratorOptions, ImageEncoder, ImageOptions, ImageTask, ModelOptions,
    TextEncoder, TextOptions, Transcriber,
};
use stoker_engine_api::arguments::Arguments;
use stoker_engine_api::serve::ServeOptions;
use stoker_engine_api::{MAX_PREPARE_THREADS, StartError, TaskKind, process};

const USAGE: &str = "\
stoker-engine: runs one model for stoker-worker, which starts it.

  --task TASK              text-embedding, text-classification, text-generation, image-embedding,
                           image-classification, image-captioning, face-detection,
                           face-embedding or speech-to-text
  --model NAME             name of the model in the registry
  --dir DIRECTORY          the model's files
  --digest sha256:HEX      digest that the weights must have (default: not checked)
  --device DEVICE          cpu or cuda:0 (default: cpu)
  --precision PRECISION    of a GPU: f32, tf32, f16 or bf16 (default: f32, as a CPU's)
  --lanes N                batches that run at the same time (default: one per core, two on a GPU);
                           texts that are generated at the same time (default: 8, on a GPU 16)
  --max-batch-tokens N     size of a batch in tokens (default: 2048, on a GPU 16384), or of a step
                           of generation (default: 64, on a GPU 1024)
  --cache-mebibytes N      memory for the tokens of all generated texts (default: 1024, on a GPU 4096)
  --max-image-bytes N      of an image's file (default: 4194304)
  --max-image-pixels N     of an image (default: 50000000)
  --default-prompt WHOSE   given: texts come with the model's default prompt (default: none)
";

const KNOWN: [&str; 12] = [
    "task",
    "model",
    "dir",
    "digest",
    "device",
    "precision",
    "lanes",
    "max-batch-tokens",
    "cache-mebibytes",
    "max-image-bytes",
    "max-image-pixels",
    "default-prompt",
];

/// candle and its matrix products read the number of threads per forward pass from here. Lanes run side by side, so each
/// must stay on one.
const THREADS: (&str, &str) = ("RAYON_NUM_THREADS", "1");

/// glibc is to allocate in huge pages, with which weights are there sooner: every page is a trap when it is touched first.
const PAGES: &str = "GLIBC_TUNABLES";
const PAGE_SIZE: &str = "glibc.malloc.hugetlb";

/// Set where this process has replaced itself, which it does once.
const AGAIN: &str = "STOKER_ENGINE_AGAIN";

fn main() -> ExitCode {
    let set_up = set_up();
    let serving = ServeOptions { prepare_threads: prepare_threads() };
    let arguments = Arguments::parse(env::args().skip(1), &KNOWN).and_then(|mut arguments| {
        let task: TaskKind = arguments.required("task")?;
        Ok((task, arguments))
    });
    // The engines are of different types.
    match arguments {
        Ok((TaskKind::TextGeneration, arguments)) => process::run(USAGE, serving, || {
            warn_unless(set_up);
            Ok(Generator::load(&generator_options(arguments)?)?)
        }),
        Ok((TaskKind::SpeechToText, mut arguments)) => process::run(USAGE, serving, || {
            warn_unless(set_up);
            Ok(Transcriber::load(&model(&mut arguments)?)?)
        }),
        Ok((TaskKind::ImageCaptioning, arguments)) => {
            let serving = ServeOptions { prepare_threads: decode_threads() };
            process::run(USAGE, serving, || {
                warn_unless(set_up);
                Ok(Captioner::load(&captioner_options(arguments)?)?)
            })
        }
        arguments => encoder(arguments, serving, set_up),
    }
}

fn encoder(
    arguments: Result<(TaskKind, Arguments), StartError>,
    serving: ServeOptions,
    set_up: io::Result<()>,
) -> ExitCode {
    if let Some(task) = arguments.as_ref().ok().and_then(|(task, _)| ImageTask::of(*task)) {
        let serving = ServeOptions { prepare_threads: decode_threads() };
        return process::run(USAGE, serving, || {
            warn_unless(set_up);
            let (_, arguments) = arguments?;
            Ok(ImageEncoder::load(&image_options(task, arguments)?)?)
        });
    }
    if let Some(task) = arguments.as_ref().ok().and_then(|(task, _)| FaceTask::of(*task)) {
        let serving = ServeOptions { prepare_threads: decode_threads() };
        return process::run(USAGE, serving, || {
            warn_unless(set_up);
            let (_, arguments) = arguments?;
            Ok(FaceFinder::load(&face_options(task, arguments)?)?)
        });
    }
    process::run(USAGE, serving, || {
        warn_unless(set_up);
        let (task, arguments) = arguments?;
        let Some(task) = EncoderTask::of(task) else {
            let message = format!("argument `--task`: this engine does not do {task}");
            return Err(StartError::new(message, "correct the model's task in the fleet file"));
        };
        Ok(TextEncoder::load(&encoder_options(task, arguments)?)?)
    })
}

fn encoder_options(task: EncoderTask, mut arguments: Arguments) -> Result<TextOptions, StartError> {
    Ok(TextOptions {
        model: model(&mut arguments)?,
        task,
        default_prompt: arguments.optional("default-prompt")?.unwrap_or(DefaultPrompt::None),
        max_batch_tokens: arguments.optional("max-batch-tokens")?,
    })
}

fn generator_options(mut arguments: Arguments) -> Result<GeneratorOptions, StartError> {
    Ok(GeneratorOptions {
        model: model(&mut arguments)?,
        step_tokens: arguments.optional("max-batch-tokens")?,
        cache_mebibytes: arguments.optional("cache-mebibytes")?,
    })
}

fn image_options(task: ImageTask, mut arguments: Arguments) -> Result<ImageOptions, StartError> {
    Ok(ImageOptions {
        model: model(&mut arguments)?,
        task,
        max_batch_tokens: arguments.optional("max-batch-tokens")?,
        limits: image_limits(&mut arguments)?,
    })
}

fn face_options(task: FaceTask, mut arguments: Arguments) -> Result<FaceOptions, StartError> {
    Ok(FaceOptions {
        model: model(&mut arguments)?,
        task,
        max_batch_tokens: arguments.optional("max-batch-tokens")?,
        limits: image_limits(&mut arguments)?,
    })
}

fn captioner_options(mut arguments: Arguments) -> Result<CaptionerOptions, StartError> {
    Ok(CaptionerOptions {
        model: model(&mut arguments)?,
        max_batch_tokens: arguments.optional("max-batch-tokens")?,
        limits: image_limits(&mut arguments)?,
    })
}

fn model(arguments: &mut Arguments) -> Result<ModelOptions, StartError> {
    Ok(ModelOptions {
        name: arguments.required("model")?,
        directory: arguments.required("dir")?,
        digest: arguments.optional("digest")?,
        device: arguments.optional("device")?.unwrap_or(EngineDevice::Cpu),
        precision: arguments.optional("precision")?.unwrap_or_default(),
        lanes: arguments.optional("lanes")?,
    })
}

fn image_limits(arguments: &mut Arguments) -> Result<ImageLimits, StartError> {
    let usual = ImageLimits::default();
    Ok(ImageLimits {
        max_bytes: arguments.optional("max-image-bytes")?.unwrap_or(usual.max_bytes),
        max_pixels: arguments.optional("max-image-pixels")?.unwrap_or(usual.max_pixels),
    })
}

fn warn_unless(set_up: io::Result<()>) {
    if let Err(error) = set_up {
        let error = &error as &dyn std::error::Error;
        tracing::warn!(error, "the engine could not set itself up: expect less throughput");
    }
}

/// One thread tokenizes for a few cores' worth of network, and for a GPU a few are enough.
fn prepare_threads() -> NonZeroUsize {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    NonZeroUsize::new((cores / 4).min(MAX_PREPARE_THREADS)).unwrap_or(NonZeroUsize::MIN)
}

/// To decode a photo takes about as long as a core takes to look at it.
fn decode_threads() -> NonZeroUsize {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    NonZeroUsize::new(cores.min(MAX_PREPARE_THREADS)).unwrap_or(NonZeroUsize::MIN)
}

/// Whether this process has the environment it needs: it replaces itself for that, since its own can't be changed safely.
/// Threads are looked at once more: lanes with several each would fight over the cores.
fn set_up() -> io::Result<()> {
    if env::var_os(AGAIN).is_none() {
        return Err(run_again());
    }
    let (name, value) = THREADS;
    if env::var_os(name).is_some_and(|set| set == value) {
        return Ok(());
    }
    let message = format!("{AGAIN} is not for others to set, and {name} is not {value}");
    Err(io::Error::other(message))
}

/// Returns only on failure.
fn run_again() -> io::Error {
    let (threads, one) = THREADS;
    let tunables = tunables(env::var_os(PAGES).unwrap_or_default());
    match env::current_exe() {
        Ok(program) => Command::new(program)
            .args(env::args_os().skip(1))
            .env(threads, one)
            .env(PAGES, tunables)
            .env(AGAIN, "1")
            .exec(),
        Err(error) => error,
    }
}

/// What an operator has said about pages stays, and all else that is set.
fn tunables(mut set: OsString) -> OsString {
    if set.as_bytes().windows(PAGE_SIZE.len()).any(|part| part == PAGE_SIZE.as_bytes()) {
        return set;
    }
    if !set.is_empty() {
        set.push(":");
    }
    set.push(format!("{PAGE_SIZE}=1"));
    set
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_operator_has_set_stays() {
        for (set, expected) in [
            ("", "glibc.malloc.hugetlb=1"),
            ("glibc.malloc.hugetlb=0", "glibc.malloc.hugetlb=0"),
            ("glibc.malloc.check=3", "glibc.malloc.check=3:glibc.malloc.hugetlb=1"),
        ] {
            assert_eq!(tunables(set.into()), expected);
        }
    }
}
