//! `stoker submit`: hands texts, images or recordings to the fleet, waits, and says how it went.

mod caption;
mod faces;
mod generation;
mod question;
mod speech;

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use stoker_core::request;
use stoker_core::units::HumanDuration;
use stoker_proto::v1;
use stoker_runtime::clock::Clock as _;
use stoker_runtime::ids;

use caption::CaptionArgs;
use faces::FaceArgs;
use generation::GenerationArgs;
use question::QuestionArgs;
use speech::SpeechArgs;

use super::{parse_label, results};
use crate::context::Context;
use crate::failure::Failure;
use crate::input::{self, Content, Form, Source};
use crate::reading::{MOST_READ, Reading};
use crate::render::job;
use crate::render::progress::{Progress, Tally};
use crate::render::text::count;
use crate::spec::{self, MAX_KEY_BYTES, Task, Template};
use crate::submission::{self, Accepted};
use crate::terminal::note;
use crate::waiting::{self, Shown, ended_early};

/// Submit texts, images or recordings as a job and wait for it.
///
/// The texts come from arguments, from a file or from standard input; for a model that looks at
/// images they are names of files. All of them make one job, unless --split or the input says
/// otherwise. A job that was accepted runs to its end whatever happens to this command. Up to 16
/// texts that one job generates are shown as they come, as many captions or transcripts when they
/// are all there.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stoker submit --model all-minilm-l6-v2 \"first text\" \"second text\"
  stoker submit --model all-minilm-l6-v2 --file corpus.txt --split 500 --no-wait
  stoker submit --model clip --candidate cat --candidate dog --results photos/*.jpg
  stoker submit --model blip --begin-with \"a picture of\" photo.jpg
  stoker submit --model facenet --smallest-face 40 --results photos/*.jpg
  cat corpus.txt | stoker submit --model all-minilm-l6-v2 - --results > vectors.jsonl
  stoker submit --model whisper-tiny --audio call.mp3 --audio memo.wav")]
pub(crate) struct Args {
    /// Texts to process, or files of images; `-` reads lines from standard input
    #[arg(value_name = "TEXT")]
    texts: Vec<String>,

    /// Model that processes them
    #[arg(long, short, value_name = "NAME")]
    model: String,

    /// Read one text, or the name of one image, per line from a file (`-`: standard input)
    #[arg(long, short, value_name = "FILE", conflicts_with_all = ["texts", "jsonl"])]
    file: Option<PathBuf>,

    /// Read JSON lines: "text", {"text": ...}, or {"texts": [...], "labels": {...}} for a job of
    /// its own
    #[arg(long, value_name = "FILE", conflicts_with = "texts")]
    jsonl: Option<PathBuf>,

    /// What the model is to do [default: what the fleet says that it does]
    #[arg(long, value_name = "TASK")]
    task: Option<Task>,

    /// For embeddings: the model's prompt to put before each text, such as query [default: the
    /// model's default]
    #[arg(long, value_name = "NAME")]
    prompt: Option<String>,

    /// Latency class [default: the fleet's default class]
    #[arg(long, short, value_name = "NAME")]
    class: Option<String>,

    /// Label of the jobs, for `stoker list --label`; may be repeated
    #[arg(long, short, value_name = "KEY=VALUE", value_parser = parse_label)]
    label: Vec<(String, String)>,

    /// Submitting again with the same key and input gives the same jobs [default: a new key]
    #[arg(long, value_name = "KEY", value_parser = parse_key)]
    idempotency_key: Option<String>,

    /// The jobs expire if they have not ended after this time
    #[arg(long, value_name = "TIME")]
    deadline: Option<HumanDuration>,

    /// Make several jobs of at most this many texts, images or recordings each
    #[arg(long, value_name = "N")]
    split: Option<NonZeroUsize>,

    /// Do not wait: print the ids of the jobs, one per line
    #[arg(long, conflicts_with_all = ["wait_timeout", "results"])]
    no_wait: bool,

    /// Stop waiting after this time; the jobs go on
    #[arg(long, value_name = "TIME")]
    wait_timeout: Option<HumanDuration>,

    /// Print the results as JSON lines instead of a summary
    #[arg(long)]
    results: bool,

    #[command(flatten)]
    generation: GenerationArgs,

    #[command(flatten)]
    question: QuestionArgs,

    #[command(flatten)]
    caption: CaptionArgs,

    #[command(flatten)]
    faces: FaceArgs,

    #[command(flatten)]
    speech: SpeechArgs,
}

fn parse_key(text: &str) -> Result<String, String> {
    match text.len() {
        0 => Err("a key is not empty".to_owned()),
        1..=MAX_KEY_BYTES => Ok(text.to_owned()),
        bytes => Err(format!("a key has at most {MAX_KEY_BYTES} bytes, not {bytes}")),
    }
}

pub(crate) async fn run(args: Args, context: &mut Context) -> Result<(), Failure> {
    let input = read(&args)?;
    let task = task(&args, context).await?;
    if args.prompt.is_some() && task.0 != request::Task::TextEmbedding {
        let problem = format!("`--prompt` is for embeddings, not for {}", task.0.name());
        return Err(Failure::usage(problem).hint("leave it out, or name another model"));
    }
    check_options(&args, task.0)?;
    check_speech(&args, task)?;
    let jobs = spec::jobs(&template(&args, task), content(task, input)?);
    let key = jobs.first().map(|job| job.idempotency_key.clone()).unwrap_or_default();
    let accepted = match submission::submit(&context.client, jobs).await {
        Ok(accepted) => accepted,
        Err(partial) if partial.accepted.is_empty() => return Err(partial.failure),
        Err(partial) => {
            print_ids(&partial.accepted, context)?;
            let key = key.strip_suffix("/0").unwrap_or(&key);
            return Err(partial.failure.hint(format!(
                "the same command with `--idempotency-key {key}` submits only the rest"
            )));
        }
    };
    let repeated = accepted.iter().filter(|job| !job.created).count() as u64;
    if repeated > 0 {
        note(&format!("{} had been submitted before with this key", count(repeated, "job")));
    }
    if args.no_wait {
        return print_ids(&accepted, context);
    }
    wait(&args, task, &accepted, context).await
}

/// Options that the task has no use for are mistakes.
fn check_options(args: &Args, task: request::Task) -> Result<(), Failure> {
    let captions = task == request::Task::ImageCaptioning;
    let generates = task == request::Task::TextGeneration
        || args.generation.is_empty()
        || (captions && args.generation.is_length_only());
    let finds_faces = [request::Task::FaceDetection, request::Task::FaceEmbedding].contains(&task);
    let compares = task == request::Task::ImageClassification || args.question.is_empty();
    let problem = if !generates {
        "options of generating text"
    } else if !compares {
        "labels to compare with"
    } else if !captions && !args.caption.is_empty() {
        "options of captioning images"
    } else if !finds_faces && !args.faces.is_empty() {
        "options of finding faces"
    } else {
        return Ok(());
    };
    let problem = format!("{problem} are not for {}", task.name());
    Err(Failure::usage(problem).hint("leave them out, or name another model"))
}

fn check_speech(args: &Args, task: Task) -> Result<(), Failure> {
    let listens = task.0 == request::Task::SpeechToText;
    if listens && args.speech.audio.is_empty() {
        let problem = format!("{} takes recordings, not texts", args.model);
        return Err(Failure::usage(problem).hint("name the files with --audio"));
    }
    if !listens && !args.speech.is_empty() {
        let problem = format!("recordings and their options are not for {}", task.0.name());
        return Err(Failure::usage(problem).hint("leave them out, or name another model"));
    }
    Ok(())
}

fn source(args: &Args) -> Result<Source, Failure> {
    let source = match (&args.file, &args.jsonl) {
        (Some(path), _) => Source::at(path, Form::Lines),
        (None, Some(path)) => Source::at(path, Form::Jsonl),
        (None, None) if args.texts.is_empty() || args.texts == ["-"] => Source::Stdin(Form::Lines),
        (None, None) => Source::Arguments(args.texts.clone()),
    };
    // Somebody who typed `-` means to type the texts, too.
    if source.waits_for_typing()
        && args.texts.is_empty()
        && args.file.is_none()
        && args.jsonl.is_none()
    {
        return Err(Failure::usage("there is nothing to submit")
            .hint("give texts as arguments, or a file with --file or --jsonl, or pipe lines in"));
    }
    Ok(source)
}

fn read(args: &Args) -> Result<Content, Failure> {
    let unusable = |error: input::InputError| Failure::usage(error.to_string());
    if !args.speech.audio.is_empty() {
        return input::read_recordings(&args.speech.audio).map(Content::Files).map_err(unusable);
    }
    let input = input::read(&source(args)?).map_err(unusable)?;
    if input.skipped > 0 {
        note(&format!("skipped {}", count(input.skipped, "empty line")));
    }
    Ok(Content::Texts(input))
}

/// What is submitted: what was given, or the images that the texts name.
fn content(task: Task, given: Content) -> Result<Content, Failure> {
    match given {
        Content::Texts(names) if task.0.takes_images() => {
            input::read_images(names).map(Content::Files).map_err(|error| {
                Failure::usage(error.to_string())
                    .hint("to this model each text is the name of an image's file")
            })
        }
        given => Ok(given),
    }
}

/// What the fleet's model does. Of an unknown model anything will do: the coordinator refuses it,
/// and says what there is.
async fn task(args: &Args, context: &Context) -> Result<Task, Failure> {
    if let Some(task) = args.task {
        return Ok(task);
    }
    let models = context.client.list_models(v1::ListModelsRequest {}).await?.models;
    let Some(model) = models.iter().find(|model| model.name == args.model) else {
        let listens = !args.speech.audio.is_empty();
        let task = if listens { request::Task::SpeechToText } else { request::Task::TextEmbedding };
        return Ok(Task(task));
    };
    Task::of(model).ok_or_else(|| {
        Failure::usage(format!("this version of stoker cannot submit to {}", model.name))
            .hint("`stoker version` shows which version the coordinator has")
    })
}

fn template(args: &Args, task: Task) -> Template {
    Template {
        model: args.model.clone(),
        task,
        prompt: args.prompt.clone().unwrap_or_default(),
        generation: args.generation.to_generation(),
        question: args.question.to_question(),
        caption: args.caption.to_caption(args.generation.max_tokens()),
        faces: args.faces.options(),
        transcription: args.speech.options(),
        class: args.class.clone(),
        labels: args.label.iter().cloned().collect::<BTreeMap<_, _>>(),
        deadline: args.deadline.map(HumanDuration::get),
        key: args.idempotency_key.clone().unwrap_or_else(ids::idempotency_key),
        split: args.split.map(NonZeroUsize::get),
    }
}

fn print_ids(accepted: &[Accepted], context: &mut Context) -> Result<(), Failure> {
    if context.terminal.is_json() {
        return context.terminal.json(&serde_json::json!({ "jobs": accepted }));
    }
    for job in accepted {
        context.terminal.line(&job.id)?;
    }
    Ok(())
}

async fn wait(
    args: &Args,
    task: Task,
    accepted: &[Accepted],
    context: &mut Context,
) -> Result<(), Failure> {
    let ids: Vec<String> = accepted.iter().map(|job| job.id.clone()).collect();
    let items: u64 = accepted.iter().map(|job| job.items).sum();
    let mut tally = Tally::default();
    let read_along = match u32::try_from(items) {
        Ok(items) if reads_along(args, task, accepted, context) && items <= MOST_READ => {
            Some(items)
        }
        Ok(_) | Err(_) => None,
    };
    let mut shown = match read_along {
        Some(items) => Shown::Texts(Reading::new(&mut context.terminal, items)),
        None => Shown::Progress(Progress::new(&context.terminal, items, ids.len() as u64)),
    };
    let limit = args.wait_timeout.map(HumanDuration::get);
    let waited = waiting::wait(&context.client, &ids, limit, &mut tally, &mut shown).await;
    if let Shown::Texts(reading) = &mut shown {
        for id in succeeded(&ids, &tally) {
            reading.finish(id, &context.client).await?;
        }
        reading.pause()?;
    }
    drop(shown);
    if let Some(failure) = waited.map_or_else(Some, |waited| ended_early(waited, &ids)) {
        // They are all that there is to go on with.
        print_ids(accepted, context)?;
        return Err(failure);
    }
    let jobs: Vec<v1::Job> = ids.iter().filter_map(|id| tally.get(id).cloned()).collect();
    if args.results {
        for id in succeeded(&ids, &tally) {
            results::print_lines(id, context).await?;
        }
    } else {
        print_summary(&jobs, context)?;
    }
    outcome(&jobs)
}

/// Whether what comes is one job's texts, for a person.
fn reads_along(args: &Args, task: Task, accepted: &[Accepted], context: &Context) -> bool {
    let tells = matches!(
        task.0,
        request::Task::TextGeneration
            | request::Task::ImageCaptioning
            | request::Task::SpeechToText
    );
    tells && accepted.len() == 1 && !args.results && !context.terminal.is_json()
}

fn succeeded<'a>(ids: &'a [String], tally: &'a Tally) -> impl Iterator<Item = &'a str> {
    let state = |id: &&String| tally.get(id).map(|job| job.state);
    ids.iter()
        .filter(move |id| state(id) == Some(v1::JobState::Succeeded as i32))
        .map(String::as_str)
}

fn print_summary(jobs: &[v1::Job], context: &mut Context) -> Result<(), Failure> {
    if context.terminal.is_json() {
        let documents: Vec<_> = jobs.iter().map(job::document).collect();
        return context.terminal.json(&serde_json::json!({ "jobs": documents }));
    }
    let rows = job::rows(jobs, context.clock.now());
    context.terminal.block(&rows)
}

/// A failure that names every job that did not succeed, if there is one.
pub(super) fn outcome(jobs: &[v1::Job]) -> Result<(), Failure> {
    const SHOWN: usize = 10;
    let unsuccessful: Vec<&v1::Job> =
        jobs.iter().filter(|job| job.state != v1::JobState::Succeeded as i32).collect();
    if unsuccessful.is_empty() {
        return Ok(());
    }
    let lines = unsuccessful.iter().take(SHOWN).map(|job| job::change(job));
    let failure = Failure::failed(format!(
        "{} of {} did not succeed",
        unsuccessful.len(),
        count(jobs.len() as u64, "job")
    ))
    .hints(lines);
    let more = unsuccessful.len().saturating_sub(SHOWN);
    Err(if more > 0 { failure.hint(format!("and {more} more")) } else { failure })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_failed_are_named_with_their_reason() {
        let good = v1::Job { state: v1::JobState::Succeeded as i32, ..v1::Job::default() };
        assert_eq!(outcome(std::slice::from_ref(&good)), Ok(()));
        let bad = v1::Job {
            id: "b".into(),
            state: v1::JobState::Failed as i32,
            items_total: 3,
            failure: Some(v1::Failure {
                reason: v1::FailureReason::Permanent as i32,
                code: "BAD_INPUT".into(),
                message: "too long".into(),
            }),
            ..v1::Job::default()
        };
        assert_eq!(
            outcome(&[good, bad]).unwrap_err().text(),
            "error: 1 of 2 jobs did not succeed\n  \
             b  failed  0/3 items  permanent: BAD_INPUT: too long\n"
        );
    }

    #[test]
    fn keys_are_bounded() {
        assert!(parse_key("").is_err());
        assert!(parse_key(&"k".repeat(MAX_KEY_BYTES)).is_ok());
        assert!(parse_key(&"k".repeat(MAX_KEY_BYTES + 1)).is_err());
    }
}
