//! Waiting for jobs to end, for at most so long, or until the user has had enough.

use std::time::Duration;

use futures::StreamExt as _;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::client::{Client, Coordinator, Update, Wanted, follow};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::reading::Reading;
use crate::render::progress::{Progress, Tally};
use crate::render::text::count;

/// No wait is longer; clocks overflow far beyond it.
const LONGEST: Duration = Duration::from_hours(10 * 365 * 24);

/// How a wait ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Waited {
    AllEnded,
    TimedOut,
    /// By this signal.
    Stopped(Exit),
}

/// SIGINT and SIGTERM as a future. From its making on they no longer end the process.
#[derive(Debug)]
pub(crate) struct StopSignals {
    interrupt: Signal,
    terminate: Signal,
}

impl StopSignals {
    pub(crate) fn new() -> Result<Self, Failure> {
        let failed = |error| Failure::failed(format!("cannot watch for signals: {error}"));
        Ok(Self {
            interrupt: signal(SignalKind::interrupt()).map_err(failed)?,
            terminate: signal(SignalKind::terminate()).map_err(failed)?,
        })
    }

    /// The next signal, as the exit code that it asks for. Safe to drop.
    pub(crate) async fn next(&mut self) -> Exit {
        tokio::select! {
            _ = self.interrupt.recv() => Exit::Interrupted,
            _ = self.terminate.recv() => Exit::Terminated,
        }
    }
}

/// What shows how a wait goes.
#[derive(Debug)]
pub(crate) enum Shown<'a> {
    Progress(Progress),
    /// Of one job: its texts themselves, as they are generated.
    Texts(Reading<'a>),
}

impl Shown<'_> {
    const fn wanted(&self) -> Wanted {
        match self {
            Self::Progress(_) => Wanted::States,
            Self::Texts(_) => Wanted::Texts,
        }
    }

    fn show(&mut self, update: Update, tally: &mut Tally) -> Result<(), Failure> {
        match (update, self) {
            (Update::Job(job), Self::Texts(_)) => tally.update(*job),
            (Update::Job(job), Self::Progress(progress)) => {
                tally.update(*job);
                progress.show(tally.extent());
            }
            (Update::Texts(news), Self::Texts(reading)) => reading.texts(&news)?,
            (Update::Texts(_), Self::Progress(_)) => {}
        }
        Ok(())
    }
}

/// Follows `ids` into `tally` until all have ended.
pub(crate) async fn wait(
    client: &Client,
    ids: &[String],
    limit: Option<Duration>,
    tally: &mut Tally,
    shown: &mut Shown<'_>,
) -> Result<Waited, Failure> {
    let mut signals = StopSignals::new()?;
    let mut updates = follow(client, ids, Coordinator::Known, shown.wanted());
    let limit = tokio::time::sleep(limit.unwrap_or(LONGEST).min(LONGEST));
    tokio::pin!(limit);
    loop {
        tokio::select! {
            update = updates.next() => match update {
                Some(update) => shown.show(update?, tally)?,
                None => return Ok(Waited::AllEnded),
            },
            () = &mut limit => return Ok(Waited::TimedOut),
            exit = signals.next() => return Ok(Waited::Stopped(exit)),
        }
    }
}

/// Why a wait that ended early is a failure, and how to go on. `None` if it did not end early.
pub(crate) fn ended_early(waited: Waited, ids: &[String]) -> Option<Failure> {
    let jobs = count(ids.len() as u64, "job");
    let (exit, what) = match waited {
        Waited::AllEnded => return None,
        Waited::TimedOut => (Exit::TimedOut, "the wait timed out"),
        Waited::Stopped(exit @ Exit::Terminated) => (exit, "stopped by SIGTERM"),
        Waited::Stopped(exit) => (exit, "interrupted"),
    };
    let first = ids.first().map_or("ID", String::as_str);
    let others = if ids.len() > 1 { " ..." } else { "" };
    Some(
        Failure::new(exit, format!("{what}; {jobs} went on in the fleet"))
            .hint(format!("follow: stoker watch {first}{others}"))
            .hint(format!("cancel: stoker cancel {first}{others}")),
    )
}
