//! The same numbers as on the CPU, within what each precision promises.

use stoker_engine::{EncoderTask, EngineDevice, Precision, TextEncoder, TextOptions};
use stoker_engine_api::Engine as _;

use crate::model::{self, PLAIN, Shape, Size};
use crate::{GPU, corpus, embed, in_repository, load, minilm, options};

const PRECISIONS: [Precision; 4] =
    [Precision::F32, Precision::Tf32, Precision::F16, Precision::Bf16];

struct Agreement {
    largest_difference: f32,
    least_cosine: f64,
}

fn agreement(expected: &[Vec<f32>], found: &[Vec<f32>]) -> Agreement {
    assert_eq!(expected.len(), found.len());
    let mut agreement = Agreement { largest_difference: 0.0, least_cosine: 1.0 };
    for (a, b) in expected.iter().zip(found) {
        assert_eq!(a.len(), b.len());
        for (a, b) in a.iter().zip(b) {
            agreement.largest_difference = agreement.largest_difference.max((a - b).abs());
        }
        agreement.least_cosine = agreement.least_cosine.min(cosine(a, b));
    }
    agreement
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| -> f64 {
        a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
    };
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

/// Sentences of all lengths, one of them longer than the model reads, and the empty one.
fn texts() -> Vec<String> {
    let long = corpus(200).join(" ");
    corpus(1_000).into_iter().chain([String::new(), "a".to_owned(), long]).collect()
}

#[test]
fn vectors_of_a_real_model_equal_the_cpu_s() {
    let texts = texts();
    let expected = embed(&load(&minilm(), EngineDevice::Cpu, Precision::F32).unwrap(), &texts);
    for precision in PRECISIONS {
        let engine = load(&minilm(), GPU, precision).unwrap();
        let found = agreement(&expected, &embed(&engine, &texts));
        let Agreement { largest_difference, least_cosine } = found;
        eprintln!(
            "gpu: equality {precision}: largest difference {largest_difference:.1e}, least cosine \
             {least_cosine:.7}"
        );
        assert!(largest_difference <= precision.tolerance(), "{precision}: {largest_difference:e}");
        assert!(least_cosine > 0.999, "{precision}: {least_cosine}");
    }
}

/// Heads from a fraction of a thread's share to four shares, texts over many tiles and keys.
#[test]
fn networks_of_every_head_width_equal_the_cpu_s() {
    let words = |count: usize| "a b c d e f g h i j k l m ".repeat(count);
    let texts: Vec<String> = (0..24).map(words).chain(["z".to_owned()]).collect();
    for (hidden, heads) in [(24, 3), (64, 2), (128, 2), (192, 2), (256, 2), (384, 12)] {
        let size = Size { hidden, heads, wide: 2 * hidden, positions: 300, tokens: 290 };
        let folder = model::write(Shape { size, ..PLAIN });
        let cpu = load(folder.path(), EngineDevice::Cpu, Precision::F32).unwrap();
        let expected = embed(&cpu, &texts);
        for precision in PRECISIONS {
            let engine = load(folder.path(), GPU, precision).unwrap();
            let found = agreement(&expected, &embed(&engine, &texts)).largest_difference;
            eprintln!("gpu: {heads} heads of {} {precision}: {found:.1e}", hidden / heads);
            assert!(found <= precision.tolerance(), "{hidden}/{heads} {precision}: {found:e}");
        }
    }
}

#[test]
fn first_token_pooling_without_scaling_equals_the_cpu_s() {
    let folder = model::write(Shape { pooling: "cls", normalize: false, ..PLAIN });
    let texts: Vec<String> = ["a b c", "", "z", "q r s t u v"].map(str::to_owned).to_vec();
    let [expected, found] = [EngineDevice::Cpu, GPU].map(|device| {
        let engine = load(folder.path(), device, Precision::F32).unwrap();
        embed(&engine, &texts)
    });
    let found = agreement(&expected, &found).largest_difference;
    assert!(found < 1e-4, "{found:e}");
}

/// Each has another family's names and positions, and another kind of labels.
#[test]
fn scores_of_every_family_equal_the_cpu_s() {
    let texts: Vec<String> = corpus(60).into_iter().chain([String::new()]).collect();
    let models = in_repository("STOKER_TEST_TINY_MODELS", "worker/engine/golden/tiny");
    for name in ["bert", "distilbert", "roberta", "xlm-roberta"] {
        let scores = |device, precision| {
            let embedding = options(&models.join(name), device, precision);
            let options = TextOptions { task: EncoderTask::Classification, ..embedding };
            embed(&TextEncoder::load(&options).unwrap(), &texts)
        };
        let expected = scores(EngineDevice::Cpu, Precision::F32);
        for precision in PRECISIONS {
            let found = agreement(&expected, &scores(GPU, precision)).largest_difference;
            eprintln!("gpu: scores of {name} {precision}: {found:.1e}");
            assert!(found <= precision.tolerance(), "{name} {precision}: {found:e}");
        }
    }
}

#[test]
fn shapes_without_kernels_are_refused() {
    let size = Size { hidden: 264, heads: 2, wide: 64, positions: 16, tokens: 12 };
    let folder = model::write(Shape { size, ..PLAIN });
    let error = load(folder.path(), GPU, Precision::F32).unwrap_err();
    assert!(error.to_string().contains("heads of 132"), "{error}");
    assert!(error.remedy().contains("device cpu"), "{}", error.remedy());
}

#[test]
fn it_keeps_the_contract_of_engines() {
    let engine = load(&minilm(), GPU, Precision::F32).unwrap();
    assert_eq!((engine.info().device.as_str(), engine.info().lanes), ("cuda:0", 2));
    stoker_engine_api::contract::check(engine);
}
