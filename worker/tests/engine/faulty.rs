//! An engine for tests: echoes texts, and misbehaves when a text asks for it.
//!
//! `crash` aborts the process, `panic ...` panics while it is prepared and quotes itself, `hang` never returns, `slow:MS` takes that long, `invalid` cannot be
//! prepared, `oom` finds no memory unless it is alone in its batch, `device` is a device error.

use std::process::ExitCode;
use std::time::Duration;
use std::{env, process, thread};

use stoker_engine_api::arguments::Arguments;
use stoker_engine_api::process::run;
use stoker_engine_api::serve::ServeOptions;
use stoker_engine_api::{
    Engine, EngineError, EngineInfo, ItemError, ItemInput, ItemOutput, LoadSeconds, Prepared,
    StartError, TaskKind,
};

struct Faulty {
    info: EngineInfo,
}

struct Item(String);

impl Prepared for Item {
    fn cost(&self) -> u32 {
        u32::try_from(self.0.len() / 4).unwrap_or(u32::MAX).saturating_add(1)
    }
}

impl Engine for Faulty {
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
        match text.as_str() {
            "invalid" => Err(ItemError::Invalid { message: "it says so itself".to_owned() }),
            "crash-prepare" => process::abort(),
            text if text.starts_with("panic ") => panic!("{text}"),
            _ => Ok(Item(text)),
        }
    }

    fn run(&self, items: &[&Item]) -> Result<Vec<ItemOutput>, EngineError> {
        for Item(text) in items {
            match text.as_str() {
                "crash" => process::abort(),
                "hang" => thread::sleep(Duration::from_hours(1)),
                "oom" if items.len() > 1 => {
                    return Err(EngineError::OutOfMemory { message: "no room".to_owned() });
                }
                "device" => {
                    return Err(EngineError::Device { message: "illegal address".to_owned() });
                }
                text => {
                    let millis = text.strip_prefix("slow:").and_then(|text| text.parse().ok());
                    thread::sleep(Duration::from_millis(millis.unwrap_or(0)));
                }
            }
        }
        Ok(items.iter().map(|item| ItemOutput::Text(item.0.clone())).collect())
    }
}

fn main() -> ExitCode {
    run("an engine for tests", ServeOptions::default(), || {
        let mut arguments = Arguments::parse(env::args().skip(1), &["model", "lanes", "delay"])?;
        let model: String = arguments.required("model")?;
        if model == "cannot-start" {
            return Err(StartError::new("the model file is broken", "copy it again"));
        }
        if model == "not-ready" {
            thread::sleep(Duration::from_hours(1));
        }
        let info = EngineInfo {
            model,
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
        Ok(Faulty { info })
    })
}
