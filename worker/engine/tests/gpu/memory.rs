//! Memory: all of it comes back, and its lack costs a batch, not the engine.

use std::time::{Duration, Instant};

use stoker_engine_api::EngineError;

use crate::corpus;
use crate::device::{free_mib, hog, open};
use crate::process::EngineProcess;

/// What other users of the driver may move meanwhile.
const NOISE_MIB: usize = 16;

/// The driver takes an ended process's memory back in its own time.
const PATIENCE: Duration = Duration::from_secs(10);

fn wait_until_free(device: &candle_core::Device, at_least_mib: usize) -> usize {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let free = free_mib(device);
        if free >= at_least_mib || Instant::now() > deadline {
            return free;
        }
        std::thread::yield_now();
    }
}

#[test]
fn memory_comes_back_when_an_engine_ends_or_is_killed() {
    let device = open();
    let before = free_mib(&device);
    for end in [EngineProcess::stop, EngineProcess::kill] {
        let mut engine = EngineProcess::start(&[]);
        engine.prepare(&corpus(400));
        engine.run(0..400).unwrap();
        let with = free_mib(&device);
        let weights = usize::try_from(engine.info.weights_bytes).unwrap() >> 20;
        eprintln!(
            "gpu: memory: {} MiB with an engine, of which weights {weights} MiB",
            before - with
        );
        assert!(before - with >= weights, "{before} MiB free before, {with} MiB with an engine");
        end(engine);
        let after = wait_until_free(&device, before - NOISE_MIB);
        assert!(after + NOISE_MIB >= before, "{before} MiB free before, {after} MiB after");
    }
}

#[test]
fn batch_without_room_fails_alone_and_its_parts_run() {
    let device = open();
    let mut engine = EngineProcess::start(&["--max-batch-tokens", "16384"]);
    let texts: Vec<String> = (0..4).flat_map(|_| corpus(6_000)).collect();
    engine.prepare(&texts);
    let all = u64::try_from(texts.len()).unwrap();
    let hog = hog(&device, 300);
    // About 700,000 tokens, whose activations are gigabytes; far from that are left.
    let error = engine.run(0..all).unwrap_err();
    assert!(matches!(error, EngineError::OutOfMemory { .. }), "{error}");
    // As the worker does it: halves, until they fit.
    let (mut part, mut failures) = (all / 2, 1);
    let outputs = loop {
        match engine.run(0..part) {
            Ok(outputs) => break outputs,
            Err(EngineError::OutOfMemory { .. }) if part > 1 => part /= 2,
            Err(error) => panic!("{error}"),
        }
        failures += 1;
    };
    assert_eq!(u64::try_from(outputs.len()).unwrap(), part);
    eprintln!("gpu: out of memory {failures} times, then {part} sentences fit at once");
    drop(hog);
    engine.run(part..2 * part).unwrap();
    engine.stop();
}

#[test]
fn engine_with_little_memory_starts_with_a_smaller_budget() {
    let device = open();
    let budget = 4_194_304;
    let hog = hog(&device, 4_000);
    let mut engine = EngineProcess::start(&["--max-batch-tokens", &budget.to_string()]);
    let fits = engine.info.max_batch_tokens;
    eprintln!("gpu: of a budget of {budget} tokens, {fits} fit");
    assert!(fits < budget && fits >= engine.info.max_tokens, "{fits}");
    engine.prepare(&corpus(10));
    engine.run(0..10).unwrap();
    engine.stop();
    drop(hog);
}
