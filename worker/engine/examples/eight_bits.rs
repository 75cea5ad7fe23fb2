//! Whether weights of eight bits would make a text encoder faster on this processor: the matrix products of a layer of
//! all-MiniLM-L6-v2 for a batch of tokens, with weights of 32 bits and with the same of eight (`Q8_0`).
//!
//!     RAYON_NUM_THREADS=1 CANDLE_NUM_THREADS=1 cargo run --release -p stoker-engine --example eight_bits -- [TOKENS]
//!
//! With one thread, as an engine's lane has. One JSON object on standard output.
#![expect(clippy::print_stdout, reason = "the result is what it is for")]

use std::time::Instant;

use candle_core::quantized::{GgmlDType, QMatMul, QTensor};
use candle_core::{Device, Module, Tensor};
use serde_json::json;

const ROUNDS: usize = 20;
/// Numbers that go in and come out: queries, keys and values; the output of attention; both halves of the feed-forward part.
const PRODUCTS: [(usize, usize); 4] = [(384, 1_152), (384, 384), (384, 1_536), (1_536, 384)];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let tokens: usize = std::env::args().nth(1).map_or(Ok(1_024), |text| text.parse())?;
    let mut seconds = [0.0, 0.0];
    let mut largest_difference = 0.0_f32;
    for (inputs, outputs) in PRODUCTS {
        let x = Tensor::randn(0.0_f32, 1.0, (tokens, inputs), &Device::Cpu)?;
        let weight = Tensor::randn(0.0_f32, 0.05, (outputs, inputs), &Device::Cpu)?;
        let whole = weight.t()?.contiguous()?;
        let eight = QMatMul::from_qtensor(QTensor::quantize(&weight, GgmlDType::Q8_0)?)?;
        seconds[0] += best(|| x.matmul(&whole))?;
        seconds[1] += best(|| eight.forward(&x))?;
        let difference = (x.matmul(&whole)? - eight.forward(&x)?)?.abs()?.flatten_all()?;
        largest_difference = largest_difference.max(difference.max(0)?.to_scalar()?);
    }
    let [f32_seconds, q8_0_seconds] = seconds;
    println!(
        "{}",
        json!({
            "tokens": tokens,
            "f32_milliseconds": f32_seconds * 1e3,
            "q8_0_milliseconds": q8_0_seconds * 1e3,
            "largest_difference": largest_difference,
        })
    );
    Ok(())
}

/// Seconds of the fastest of some rounds.
fn best(product: impl Fn() -> candle_core::Result<Tensor>) -> candle_core::Result<f64> {
    let mut best = f64::INFINITY;
    for _ in 0..ROUNDS {
        let start = Instant::now();
        product()?;
        best = best.min(start.elapsed().as_secs_f64());
    }
    Ok(best)
}
