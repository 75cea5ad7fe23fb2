//! The record of what the clients asked: a line for each try at a call, and how it went.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use anyhow::Context as _;
use serde::Serialize;

/// How a try at a call ended, as its client saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    Ok,
    /// It was refused for good: it has had no effect.
    Failed,
    /// No answer, or one that asks to try again: it may or may not have had its effect.
    Unknown,
}

/// Tries by call and outcome.
pub(crate) type Tries = BTreeMap<&'static str, BTreeMap<Outcome, u64>>;

/// A try at a call.
#[derive(Debug, Serialize)]
pub(super) struct Try<'a> {
    pub(super) client: u64,
    pub(super) call: &'static str,
    /// An idempotency key, or the id of a job.
    pub(super) about: &'a str,
    pub(super) outcome: Outcome,
    /// What the answer said: the id of an accepted job, or why not.
    pub(super) said: &'a str,
}

#[derive(Debug, Serialize)]
struct Line<'a> {
    /// Milliseconds since the clients began.
    begun_ms: u128,
    ended_ms: u128,
    #[serde(flatten)]
    tried: &'a Try<'a>,
}

/// The record while it is written.
#[derive(Debug)]
pub(super) struct Calls {
    began: Instant,
    written: Mutex<Written>,
}

#[derive(Debug)]
struct Written {
    file: BufWriter<File>,
    tries: Tries,
    /// The first line that could not be written.
    failure: Option<std::io::Error>,
}

impl Calls {
    pub(super) fn create(path: &Path) -> anyhow::Result<Self> {
        let file = File::create(path).with_context(|| format!("creating {}", path.display()))?;
        let written = Written { file: BufWriter::new(file), tries: Tries::new(), failure: None };
        Ok(Self { began: Instant::now(), written: Mutex::new(written) })
    }

    pub(super) fn record(&self, begun: Instant, tried: &Try<'_>) {
        let since = |at: Instant| at.saturating_duration_since(self.began).as_millis();
        let line = Line { begun_ms: since(begun), ended_ms: since(Instant::now()), tried };
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        *written.tries.entry(tried.call).or_default().entry(tried.outcome).or_default() += 1;
        let result = serde_json::to_writer(&mut written.file, &line).map_err(std::io::Error::from);
        let result = result.and_then(|()| written.file.write_all(b"\n"));
        if let Err(failure) = result {
            written.failure.get_or_insert(failure);
        }
    }

    /// What was tried so far; the record is whole on the disk.
    pub(super) fn finish(&self) -> anyhow::Result<Tries> {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(failure) = written.failure.take() {
            return Err(failure).context("writing the record of calls");
        }
        written.file.flush().context("writing the record of calls")?;
        Ok(written.tries.clone())
    }
}

/// Tries of every call that ended so.
pub(crate) fn count(tries: &Tries, outcome: Outcome) -> u64 {
    tries.values().filter_map(|tries| tries.get(&outcome)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_try_is_a_line_and_counts() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("calls.jsonl");
        let calls = Calls::create(&path)?;
        for (outcome, said) in [(Outcome::Unknown, "gone"), (Outcome::Ok, "j1")] {
            let tried = Try { client: 3, call: "submit", about: "key", outcome, said };
            calls.record(Instant::now(), &tried);
        }
        let tries = calls.finish()?;
        let lines = std::fs::read_to_string(&path)?;
        let lines: Vec<serde_json::Value> =
            lines.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
        let said: Vec<_> = lines.iter().map(|line| (&line["outcome"], &line["said"])).collect();
        assert_eq!(said, [(&"unknown".into(), &"gone".into()), (&"ok".into(), &"j1".into())]);
        assert_eq!(lines[0]["client"], 3);
        let counts = [Outcome::Ok, Outcome::Failed, Outcome::Unknown];
        assert_eq!(counts.map(|outcome| count(&tries, outcome)), [1, 0, 1]);
        Ok(())
    }
}
