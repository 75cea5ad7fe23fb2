//! The echo engine of the chaos run: writes what it executes to a log outside of the system under
//! test, and dies when a text begins with `poison`. No two runs of an item have the same output: see
//! [`stoker_tests::chaos::stamp`].

use std::fs::File;
use std::io::Write as _;
use std::process::{self, ExitCode};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use std::{env, thread};

use stoker_engine_api::arguments::Arguments;
use stoker_engine_api::process::run;
use stoker_engine_api::serve::ServeOptions;
use stoker_engine_api::{
    Engine, EngineError, EngineInfo, ItemError, ItemInput, ItemOutput, LoadSeconds, Prepared,
    StartError, TaskKind,
};
use stoker_tests::chaos::{BEGUN, ENDED, POISON, stamp};

/// File of the log; each line is an item that begins to run, or ended.
const LOG: &str = "DRILL_LOG";

/// Items that this process has run.
static RUNS: AtomicU64 = AtomicU64::new(0);

struct Drill {
    info: EngineInfo,
    delay: Duration,
    log: File,
}

struct Item(String);

impl Prepared for Item {
    fn cost(&self) -> u32 {
        u32::try_from(self.0.len() / 4).unwrap_or(u32::MAX).saturating_add(1)
    }
}

impl Engine for Drill {
    type Prepared = Item;

    fn info(&self) -> &EngineInfo {
        &self.info
    }

    fn prepare(&self, ItemInput::Text(text): ItemInput) -> Result<Item, ItemError> {
        Ok(Item(text))
    }

    fn run(&self, items: &[&Item]) -> Result<Vec<ItemOutput>, EngineError> {
        let count = u32::try_from(items.len()).unwrap_or(u32::MAX);
        self.note(BEGUN, items)?;
        thread::sleep(self.delay.saturating_mul(count));
        if items.iter().any(|Item(text)| text.starts_with(POISON)) {
            process::abort();
        }
        self.note(ENDED, items)?;
        let output = |item: &&Item| {
            let run = RUNS.fetch_add(1, Ordering::Relaxed);
            ItemOutput::Text(stamp(&item.0, process::id(), run))
        };
        Ok(items.iter().map(output).collect())
    }
}

impl Drill {
    /// One write to a file opened for appending: lines of several engines do not mix.
    fn note(&self, what: &str, items: &[&Item]) -> Result<(), EngineError> {
        let mut lines = String::new();
        for Item(text) in items {
            lines.extend([what, text, "\n"]);
        }
        let written = (&self.log).write_all(lines.as_bytes());
        written.map_err(|error| EngineError::Internal { message: error.to_string() })
    }
}

fn main() -> ExitCode {
    run("the engine of the chaos run", ServeOptions::default(), || {
        let mut arguments = Arguments::parse(env::args().skip(1), &["model", "delay", "lanes"])?;
        let delay = arguments.optional_with("delay", humantime::parse_duration)?;
        let log = env::var_os(LOG)
            .ok_or_else(|| StartError::new(format!("{LOG} is not set"), "set it to a file"))?;
        let log = File::options().create(true).append(true).open(log);
        let log = log.map_err(|error| StartError::new(error.to_string(), "choose another file"))?;
        let info = EngineInfo {
            model: arguments.required("model")?,
            task: TaskKind::Echo,
            output_dimensions: None,
            labels: None,
            max_tokens: u32::MAX,
            max_batch_tokens: 1_024,
            weights_bytes: 0,
            weights_sha256: None,
            lanes: arguments.required("lanes")?,
            device: "cpu".to_owned(),
            load: LoadSeconds::default(),
        };
        Ok(Drill { info, delay: delay.unwrap_or_default(), log })
    })
}
