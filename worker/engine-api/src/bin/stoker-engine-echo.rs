//! The echo engine as a process.

use std::env;
use std::process::ExitCode;
use std::time::Duration;

use stoker_engine_api::arguments::Arguments;
use stoker_engine_api::echo::EchoEngine;
use stoker_engine_api::process;
use stoker_engine_api::serve::ServeOptions;

const USAGE: &str = "\
stoker-engine-echo: returns every text as it came. Started by stoker-worker.

  --model NAME     name of the model in the registry
  --delay TIME     time per item, for example 5ms (default: none)
  --lanes N        batches that run at the same time (default: 1)
";

fn main() -> ExitCode {
    process::run(USAGE, ServeOptions::default(), || {
        let mut arguments = Arguments::parse(env::args().skip(1), &["model", "delay", "lanes"])?;
        let model = arguments.required("model")?;
        let lanes = arguments.optional("lanes")?.unwrap_or(1);
        let delay = arguments.optional_with("delay", humantime::parse_duration)?;
        Ok(EchoEngine::new(model, lanes, delay.unwrap_or(Duration::ZERO)))
    })
}
