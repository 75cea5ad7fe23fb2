//! `stoker doctor`: what is wrong, and what to do about it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use stoker_proto::v1;
use stoker_runtime::clock::Clock as _;

use crate::context::Context;
use crate::diagnosis::{Evidence, File, Level, diagnose};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::fleet_file;
use crate::render::finding;

const VERSION: &str = env!("CARGO_PKG_VERSION");
const DEFAULT_FILE: &str = "fleet.toml";
const NOT_ASKED: &str = "the coordinator did not answer before";
/// Machines that ended since then are still to be charged for.
const LOOKED_BACK: Duration = Duration::from_hours(1);

/// Check the fleet and say what to do about what is wrong.
///
/// Looks at the fleet file; at the coordinator, its version, store, disk, broker, clock, the token of
/// operators and the certificates by which machines prove who they are; at workers, queues and
/// models that nobody serves, dead letters; at the autoscaler's ledger, the switch, the budget, and
/// what the cloud said to the launches of the last hour: credentials, quotas, templates. Whether a
/// cloud would say so before there is a launch can be asked by the autoscaler only: run
/// `stoker-autoscaler check` where it runs. Ends with code 1 if anything is a problem.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Fleet file [default: fleet.toml, if there is one]
    #[arg(long, value_name = "FILE")]
    fleet: Option<PathBuf>,
}

pub(crate) async fn run(args: Args, context: &mut Context) -> Result<(), Failure> {
    let evidence = look(&args, context).await;
    let findings = diagnose(&evidence);
    if context.terminal.is_json() {
        context.terminal.json(&finding::document(&findings))?;
    } else {
        context.terminal.block(&finding::page(&findings))?;
    }
    if findings.iter().any(|finding| finding.level == Level::Problem) {
        return Err(Failure::reported(Exit::Failed));
    }
    Ok(())
}

async fn look(args: &Args, context: &Context) -> Evidence {
    let client = &context.client;
    let path = args.fleet.as_deref().unwrap_or_else(|| Path::new(DEFAULT_FILE));
    let asked_at = context.clock.now();
    let status = said(client.fleet_status(v1::FleetStatusRequest {}).await);
    let answered_at = context.clock.now();
    let mut evidence = Evidence {
        file_name: path.display().to_string(),
        file: file(args.fleet.as_deref()),
        server: client.server().to_owned(),
        version: VERSION,
        asked_at,
        answered_at,
        queues: Err(NOT_ASKED.to_owned()),
        workers: Err(NOT_ASKED.to_owned()),
        ledger: Err(NOT_ASKED.to_owned()),
        status,
    };
    // Each call would wait as long again for a coordinator that is not there.
    if evidence.status.is_ok() {
        let queues = client.list_queues(v1::ListQueuesRequest {}).await;
        let workers = client.list_workers(v1::ListWorkersRequest {}).await;
        evidence.queues = said(queues).map(|answer| answer.queues);
        evidence.workers = said(workers).map(|answer| answer.workers);
        evidence.ledger = said(client.ledger(asked_at.before(LOOKED_BACK)).await);
    }
    evidence
}

/// A file that nobody named need not be there.
fn file(named: Option<&Path>) -> File {
    let path = named.unwrap_or_else(|| Path::new(DEFAULT_FILE));
    if named.is_none() && !path.exists() {
        return File::Absent;
    }
    match fleet_file::load(path, Exit::Failed) {
        Ok(fleet) => File::Valid(Box::new(fleet)),
        Err(failure) => {
            let text = failure.text();
            let lines = text.lines().map(|line| line.trim().trim_start_matches("error: "));
            File::Invalid(lines.map(str::to_owned).collect())
        }
    }
}

fn said<T>(answer: Result<T, Failure>) -> Result<T, String> {
    answer.map_err(|failure| failure.message().to_owned())
}
