//! The echo engine of the chaos run: writes what it executes to a log outside of the system under
//! test. It dies when a text begins with `poison`, and refuses a text that begins with `fails-once` when it
//! runs for the first time, wherever that is. No two runs of an item have the same output: see
//! [`stoker_tests::chaos::stamp`].

use std::fs::File;
use std::io::{ErrorKind, Write as _};
use std::path::PathBuf;
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
use stoker_tests::chaos::{BEGUN, ENDED, FAILS_ONCE, POISON, stamp};

/// File of the log; each line is an item that begins to run, or ended.
const LOG: &str = "DRILL_LOG";
/// A refusal takes so many times the delay of an item, so that its worker may have slept meanwhile.
const REFUSAL: u32 = 40;

/// Items that this process has run.
static RUNS: AtomicU64 = AtomicU64::new(0);

struct Drill {
    info: EngineInfo,
    delay: Duration,
    log: File,
    /// A file for each text that has been refused.
    refused: PathBuf,
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

    fn prepare(&self, input: ItemInput) -> Result<Item, ItemError> {
        let text = match input {
            ItemInput::Text(text) => text,
            other @ (ItemInput::Generation(_)
            | ItemInput::Image(_)
            | ItemInput::Caption(_)
            | ItemInput::Faces(_)
            | ItemInput::Recording(_)) => {
                return Err(ItemError::wrong_kind(TaskKind::Echo, "text", &other));
            }
        };
        Ok(Item(text))
    }

    fn run(&self, items: &[&Item]) -> Result<Vec<ItemOutput>, EngineError> {
        let count = u32::try_from(items.len()).unwrap_or(u32::MAX);
        let fails = |item: &&Item| item.0.starts_with(FAILS_ONCE);
        if count > 1 && items.iter().any(fails) {
            // It is to fail alone.
            return Err(EngineError::Input { message: "one of them is to run alone".to_owned() });
        }
        self.note(BEGUN, items)?;
        if let [item] = items
            && fails(item)
            && self.is_first_run(&item.0)?
        {
            thread::sleep(self.delay.saturating_mul(REFUSAL));
            return Err(EngineError::Input { message: "it fails the first time".to_owned() });
        }
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
    /// Of all engines one is the first.
    fn is_first_run(&self, text: &str) -> Result<bool, EngineError> {
        let made = File::create_new(self.refused.join(text.replace(' ', "-")));
        match made {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(EngineError::Internal { message: error.to_string() }),
        }
    }

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
        let refused = PathBuf::from(&log).with_extension("refused");
        let opened = File::options().create(true).append(true).open(log);
        let ready = std::fs::create_dir_all(&refused).and(opened);
        let log =
            ready.map_err(|error| StartError::new(error.to_string(), "choose another file"))?;
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
        Ok(Drill { info, delay: delay.unwrap_or_default(), log, refused })
    })
}
