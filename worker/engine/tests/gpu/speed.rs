//! Speed: a GPU that is slower than the CPU beside it is not used as it should be.

use std::time::Instant;

use stoker_engine::{EngineDevice, Precision, TextEncoder};

use crate::process::EngineProcess;
use crate::{GPU, corpus, embed, load, minilm};

/// Sentences per second, the best of three passes.
fn rate(engine: &TextEncoder, texts: &[String]) -> f64 {
    let pass = || {
        let start = Instant::now();
        assert_eq!(embed(engine, texts).len(), texts.len());
        f64::from(u32::try_from(texts.len()).unwrap()) / start.elapsed().as_secs_f64()
    };
    (0..3).map(|_| pass()).fold(0.0, f64::max)
}

#[test]
fn gpu_is_faster_than_one_core() {
    let texts = corpus(2_000);
    let cpu = rate(&load(&minilm(), EngineDevice::Cpu, Precision::F32).unwrap(), &texts[..200]);
    for precision in [Precision::F32, Precision::F16] {
        let gpu = rate(&load(&minilm(), GPU, precision).unwrap(), &texts);
        eprintln!("gpu: one thread, {precision}: {gpu:.0} sentences/s, CPU {cpu:.0}");
        assert!(gpu > 2.0 * cpu, "{gpu} sentences per second, the CPU does {cpu}");
    }
}

#[test]
fn cold_start_is_measured_phase_by_phase() {
    let start = Instant::now();
    let mut engine = EngineProcess::start(&["--precision", "f16"]);
    engine.prepare(&corpus(1));
    engine.run(0..1).unwrap();
    let seconds = start.elapsed().as_secs_f64();
    let load = engine.info.load;
    eprintln!("gpu: cold start to the first vector {seconds:.2} s, {load:?}");
    assert!(load.total() > 0.0 && load.total() <= seconds, "{load:?}");
    engine.stop();
}
