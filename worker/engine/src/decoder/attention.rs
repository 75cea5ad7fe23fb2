//! Attention of new tokens to their sequence: an own kernel on the CPU, products elsewhere.

use candle_core::{CpuStorage, CustomOp3, D, DType, Layout, Result, Shape, Tensor, bail};
use candle_nn::ops::softmax_last_dim;
use pulp::Arch;

use crate::kernels::{Heads, cached_attention};

/// What each query gets of the values it sees. All have the dimensions token, head, number; the queries
/// are those of the last tokens. `window`: how many tokens a query sees, itself included.
pub(crate) fn attend(
    queries: &Tensor,
    keys: &Tensor,
    values: &Tensor,
    window: Option<usize>,
) -> Result<Tensor> {
    if queries.device().is_cpu() && queries.dtype() == DType::F32 {
        queries.apply_op3_no_bwd(keys, values, &CachedAttention { window })
    } else {
        by_products(queries, keys, values, window)
    }
}

struct CachedAttention {
    window: Option<usize>,
}

impl CustomOp3 for CachedAttention {
    fn name(&self) -> &'static str {
        "cached-attention"
    }

    fn cpu_fwd(
        &self,
        queries: &CpuStorage,
        queries_layout: &Layout,
        keys: &CpuStorage,
        keys_layout: &Layout,
        values: &CpuStorage,
        values_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (_, heads, width) = queries_layout.shape().dims3()?;
        let (_, kv_heads, _) = keys_layout.shape().dims3()?;
        let heads = Heads { queries: heads, keys: kv_heads, width, window: self.window };
        let queries = floats(queries, queries_layout)?;
        let (keys, values) = (floats(keys, keys_layout)?, floats(values, values_layout)?);
        let mut out = vec![0.0; queries.len()];
        cached_attention(Arch::new(), heads, [queries, keys, values], &mut out);
        Ok((CpuStorage::F32(out), queries_layout.shape().clone()))
    }
}

pub(crate) fn floats<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    let (CpuStorage::F32(numbers), Some((start, end))) = (storage, layout.contiguous_offsets())
    else {
        bail!("expected contiguous f32 numbers")
    };
    Ok(&numbers[start..end])
}

fn by_products(
    queries: &Tensor,
    keys: &Tensor,
    values: &Tensor,
    window: Option<usize>,
) -> Result<Tensor> {
    let (count, heads, width) = queries.dims3()?;
    let (tokens, kv_heads, _) = keys.dims3()?;
    let group = heads / kv_heads;
    // Queries of the heads that share keys stand below each other.
    let grouped = (kv_heads, group * count, width);
    let queries = queries.transpose(0, 1)?.contiguous()?.reshape(grouped)?;
    let keys = keys.transpose(0, 1)?.contiguous()?;
    let values = values.transpose(0, 1)?.contiguous()?;
    // Widths are far below 2^24.
    #[expect(clippy::cast_precision_loss, reason = "see above")]
    let scale = 1.0 / (width as f64).sqrt();
    let scores = (queries.matmul(&keys.transpose(D::Minus1, D::Minus2)?)? * scale)?;
    let mask = mask(count, tokens, window, &scores)?;
    let scores = scores.reshape((heads, count, tokens))?.broadcast_add(&mask)?;
    let weights = softmax_last_dim(&scores)?.reshape((kv_heads, group * count, tokens))?;
    weights.matmul(&values)?.reshape((heads, count, width))?.transpose(0, 1)?.contiguous()
}

/// Zero where a query sees a token, else minus infinity.
fn mask(count: usize, tokens: usize, window: Option<usize>, like: &Tensor) -> Result<Tensor> {
    let before = tokens - count;
    let sees = |query: usize, token: usize| {
        let place = before + query;
        token <= place && window.is_none_or(|window| place - token < window)
    };
    let number = |index: usize| {
        if sees(index / tokens, index % tokens) { 0.0_f32 } else { f32::NEG_INFINITY }
    };
    let numbers: Vec<f32> = (0..count * tokens).map(number).collect();
    Tensor::from_vec(numbers, (count, tokens), like.device())?.to_dtype(like.dtype())
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn both_ways_give_the_same() {
        for (heads, kv_heads, window) in [(4, 2, None), (6, 2, Some(3)), (2, 2, None)] {
            let random = |tokens: usize, heads: usize| {
                Tensor::randn(0.0_f32, 1.0, (tokens, heads, 8), &Device::Cpu).unwrap()
            };
            let (queries, keys, values) =
                (random(5, heads), random(9, kv_heads), random(9, kv_heads));
            let [one, other] = [attend, by_products].map(|way| {
                let out = way(&queries, &keys, &values, window).unwrap();
                out.flatten_all().unwrap().to_vec1::<f32>().unwrap()
            });
            for (one, other) in one.iter().zip(&other) {
                assert!((one - other).abs() < 1e-5, "{one} and {other}");
            }
        }
    }
}
