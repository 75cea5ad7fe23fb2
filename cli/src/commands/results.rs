//! `stoker results`: what jobs made, as lines or as one array.

use std::path::{Path, PathBuf};

use clap::ValueEnum;
use stoker_proto::v1;
use stoker_proto::v1::result_part::Output;

use crate::client::ResultStream;
use crate::context::Context;
use crate::failure::Failure;
use crate::output::jsonl;
use crate::output::npy::{Npy, NpyError};
use crate::output::sink::NewFile;
use crate::render::text::count;
use crate::terminal::note;
use crate::waiting::StopSignals;

/// Fetch the results of jobs that succeeded.
///
/// The results come in the order of the jobs named, and within a job in the order of its input.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stoker results ID | jq .embedding
  stoker results ID --format npy --out vectors.npy")]
pub(crate) struct Args {
    /// Ids of the jobs
    #[arg(required = true, value_name = "ID")]
    ids: Vec<String>,

    /// Form of the results
    #[arg(long, short, value_name = "FORMAT", default_value = "jsonl")]
    format: Format,

    /// File to write; it appears when it is whole [default: standard output]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// A JSON object per item
    Jsonl,
    /// An array of binary32 values for numpy, a row per item
    Npy,
}

pub(crate) async fn run(args: Args, context: &mut Context) -> Result<(), Failure> {
    match (args.format, args.out) {
        (Format::Jsonl, None) => {
            for id in &args.ids {
                print_lines(id, context).await?;
            }
            Ok(())
        }
        (Format::Jsonl, Some(path)) => whole(save_lines(&args.ids, &path, context)).await,
        (Format::Npy, None) if context.terminal.out_is_terminal() => {
            Err(Failure::usage("an array is not text for a terminal")
                .hint("write it to a file with --out FILE, or redirect the output"))
        }
        (Format::Npy, None) => print_array(&args.ids, context).await,
        (Format::Npy, Some(path)) => whole(save_array(&args.ids, &path, context)).await,
    }
}

/// A signal ends it as any other failure does, so that no piece of a file stays behind.
async fn whole(save: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let mut signals = StopSignals::new()?;
    // Cancel-safe: what was begun is removed when it is dropped.
    tokio::select! {
        saved = save => saved,
        exit = signals.next() => Err(Failure::new(exit, "interrupted; nothing was written")),
    }
}

/// Writes the results of a job to standard output as they come.
pub(super) async fn print_lines(id: &str, context: &mut Context) -> Result<(), Failure> {
    let mut parts = ResultStream::new(context.client.clone(), id.to_owned());
    while let Some(part) = parts.next().await? {
        jsonl::write(context.terminal.out(), id, &part)?;
        context.terminal.flush()?;
    }
    Ok(())
}

async fn save_lines(ids: &[String], path: &Path, context: &Context) -> Result<(), Failure> {
    let mut file = NewFile::create(path)?;
    let mut items = 0;
    for id in ids {
        let mut parts = ResultStream::new(context.client.clone(), id.clone());
        while let Some(part) = parts.next().await? {
            jsonl::write(&mut file, id, &part).map_err(|error| file.error(&error))?;
        }
        items += u64::from(parts.items());
    }
    file.commit()?;
    note(&format!("wrote {} to {}", count(items, "result"), path.display()));
    Ok(())
}

async fn print_array(ids: &[String], context: &mut Context) -> Result<(), Failure> {
    let rows = rows(ids, context).await?;
    let client = context.client.clone();
    let mut npy = Npy::new(context.terminal.out(), rows);
    for id in ids {
        let mut parts = ResultStream::new(client.clone(), id.clone());
        while let Some(part) = parts.next().await? {
            append(&mut npy, id, &part)?.map_err(array_failure)?;
        }
    }
    npy.finish().map_err(array_failure)?;
    Ok(())
}

async fn save_array(ids: &[String], path: &Path, context: &Context) -> Result<(), Failure> {
    let rows = rows(ids, context).await?;
    let mut file = NewFile::create(path)?;
    let mut npy = Npy::new(&mut file, rows);
    let mut outcome = Ok(());
    'jobs: for id in ids {
        let mut parts = ResultStream::new(context.client.clone(), id.clone());
        while let Some(part) = parts.next().await? {
            outcome = append(&mut npy, id, &part)?;
            if outcome.is_err() {
                break 'jobs;
            }
        }
    }
    let outcome = outcome.and_then(|()| npy.finish().map(|_| ()));
    outcome.map_err(|error| match error {
        NpyError::Write(error) => file.error(&error),
        other => array_failure(other),
    })?;
    file.commit()?;
    note(&format!("wrote {} to {}", count(rows, "vector"), path.display()));
    Ok(())
}

/// The length of the array is part of its header, so it must be known first.
async fn rows(ids: &[String], context: &Context) -> Result<u64, Failure> {
    let mut rows = 0;
    for id in ids {
        rows += u64::from(context.client.job(id).await?.items_total);
    }
    Ok(rows)
}

fn append<W: std::io::Write>(
    npy: &mut Npy<W>,
    id: &str,
    part: &v1::ResultPart,
) -> Result<Result<(), NpyError>, Failure> {
    match &part.output {
        Some(Output::Embeddings(embeddings)) => {
            Ok(npy.append(embeddings.dimensions, &embeddings.vectors))
        }
        Some(
            Output::Texts(_)
            | Output::Classifications(_)
            | Output::Generations(_)
            | Output::Faces(_)
            | Output::Transcripts(_),
        )
        | None => Err(Failure::usage(format!("the results of job {id} are no vectors"))
            .hint("fetch them with --format jsonl")),
    }
}

fn array_failure(error: NpyError) -> Failure {
    match error {
        NpyError::Write(error) => Failure::from(error),
        other => Failure::failed(other.to_string()),
    }
}
