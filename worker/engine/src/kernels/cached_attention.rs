//! Attention of new tokens to all tokens of their sequence so far, whose keys and values are kept.
//!
//! Several heads of queries share one head of keys and values. Each query is worked on by itself, so
//! that what it gets does not depend on how many come with it.

use pulp::{Arch, Simd, WithSimd};

use super::exponential;
use super::shared::share;

/// How queries, keys and values are laid out.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Heads {
    pub(crate) queries: usize,
    /// Heads of keys and values; divides `queries`.
    pub(crate) keys: usize,
    /// Numbers of a head.
    pub(crate) width: usize,
    /// A query sees this many tokens, itself included; `None`: all before it.
    pub(crate) window: Option<usize>,
}

/// Writes softmax(q k' / sqrt(width)) v for every query to `out`.
///
/// `queries` and `out` have one row per new token, `keys` and `values` one per token of the sequence;
/// the new tokens are its last.
pub(crate) fn cached_attention(
    arch: Arch,
    heads: Heads,
    [queries, keys, values]: [&[f32]; 3],
    out: &mut [f32],
) {
    let tokens = keys.len() / (heads.keys * heads.width);
    share(out, heads.width, 2 * queries.len() * tokens, |first, out| {
        let (first, scores) = (first / heads.width, &mut vec![0.0; tokens]);
        arch.dispatch(CachedAttention { heads, queries, keys, values, scores, first, out });
    });
}

/// Some heads of queries, counted on from each to the next.
struct CachedAttention<'a> {
    heads: Heads,
    queries: &'a [f32],
    keys: &'a [f32],
    values: &'a [f32],
    /// One for each token.
    scores: &'a mut [f32],
    first: usize,
    out: &'a mut [f32],
}

impl WithSimd for CachedAttention<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { heads: Heads { queries: heads, keys: key_heads, width, window }, .. } = self;
        let key_row = key_heads * width;
        let before = self.scores.len() - self.queries.len() / (heads * width);
        // Widths are far below 2^24.
        #[expect(clippy::cast_precision_loss, reason = "see above")]
        let scale = 1.0 / (width as f32).sqrt();
        let queries = self.queries[self.first * width..].chunks_exact(width);
        let places = self.first..;
        for ((place, query), out) in places.zip(queries).zip(self.out.chunks_exact_mut(width)) {
            let (index, head) = (place / heads, place % heads);
            let end = before + index + 1;
            let start = end - window.unwrap_or(end).min(end);
            let at = head / (heads / key_heads) * width;
            let keys = self.keys[start * key_row..end * key_row].chunks_exact(key_row);
            let values = self.values[start * key_row..end * key_row].chunks_exact(key_row);
            let scores = &mut self.scores[..end - start];
            for (score, key) in scores.iter_mut().zip(keys) {
                *score = dot(simd, query, &key[at..at + width]) * scale;
            }
            if S::IS_SCALAR {
                to_shares::<false>(scores);
            } else {
                to_shares::<true>(scores);
            }
            out.fill(0.0);
            for (share, value) in scores.iter().zip(values) {
                add(simd, *share, &value[at..at + width], out);
            }
        }
    }
}

#[inline(always)]
fn dot<S: Simd>(simd: S, one: &[f32], other: &[f32]) -> f32 {
    let (ones, rest) = S::as_simd_f32s(one);
    let (others, other_rest) = S::as_simd_f32s(other);
    let mut sum = simd.splat_f32s(0.0);
    for (one, other) in ones.iter().zip(others) {
        sum = simd.mul_add_e_f32s(*one, *other, sum);
    }
    let rest: f32 = rest.iter().zip(other_rest).map(|(a, b)| a * b).sum();
    simd.reduce_sum_f32s(sum) + rest
}

#[inline(always)]
fn add<S: Simd>(simd: S, share: f32, value: &[f32], out: &mut [f32]) {
    let (values, rest) = S::as_simd_f32s(value);
    let (sums, sums_rest) = S::as_mut_simd_f32s(out);
    let wide = simd.splat_f32s(share);
    for (sum, value) in sums.iter_mut().zip(values) {
        *sum = simd.mul_add_e_f32s(wide, *value, *sum);
    }
    for (sum, value) in sums_rest.iter_mut().zip(rest) {
        *sum += share * value;
    }
}

/// The softmax of scores, in place.
#[inline(always)]
fn to_shares<const FUSED: bool>(scores: &mut [f32]) {
    let max = scores.iter().fold(f32::NEG_INFINITY, |max, score| max.max(*score));
    for score in scores.iter_mut() {
        *score = exponential::<FUSED>(*score - max);
    }
    let inverse = 1.0 / scores.iter().sum::<f32>();
    for score in scores {
        *score *= inverse;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::tests::{every_arch, number};

    /// The definition, one output number at a time, in f64.
    fn expected(
        heads: Heads,
        [queries, keys, values]: [&[f32]; 3],
        [token, column]: [usize; 2],
    ) -> f64 {
        let Heads { queries: count, keys: key_heads, width, window } = heads;
        let tokens = keys.len() / (key_heads * width);
        let place = tokens - queries.len() / (count * width) + token;
        let seen = (place + 1).saturating_sub(window.unwrap_or(usize::MAX))..place + 1;
        let head = column / width;
        let at = |row: usize| row * key_heads * width + head * key_heads / count * width;
        let score = |row: usize| {
            let query = &queries[(token * count + head) * width..][..width];
            let pairs = query.iter().zip(&keys[at(row)..][..width]);
            let sum: f64 = pairs.map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
            (sum / f64::from(u32::try_from(width).unwrap()).sqrt()).exp()
        };
        let value = |row: usize| f64::from(values[at(row) + column % width]);
        seen.clone().map(|row| score(row) * value(row)).sum::<f64>() / seen.map(score).sum::<f64>()
    }

    #[test]
    fn attention_is_its_definition_and_the_same_for_each_query_alone() {
        for arch in every_arch() {
            for (queries, keys, width, window) in
                [(4, 2, 16, None), (3, 3, 5, None), (6, 2, 20, Some(4)), (2, 1, 64, Some(100))]
            {
                let heads = Heads { queries, keys, width, window };
                let (tokens, new) = (11, 7);
                let q: Vec<f32> = (0..new * queries * width).map(number).collect();
                let k: Vec<f32> = (0..tokens * keys * width).map(|n| number(n + 3)).collect();
                let v: Vec<f32> = (0..tokens * keys * width).map(|n| number(n + 5)).collect();
                let mut out = vec![f32::NAN; q.len()];
                cached_attention(arch, heads, [&q, &k, &v], &mut out);
                let row = queries * width;
                for token in 0..new {
                    let seen = (tokens - new + token + 1) * keys * width;
                    let mut alone = vec![f32::NAN; row];
                    let query = &q[token * row..][..row];
                    cached_attention(arch, heads, [query, &k[..seen], &v[..seen]], &mut alone);
                    assert_eq!(alone, out[token * row..][..row], "{arch:?} {heads:?}");
                    for (column, found) in alone.iter().enumerate() {
                        let exact = expected(heads, [&q, &k, &v], [token, column]);
                        let error = (f64::from(*found) - exact).abs();
                        assert!(error < 1e-4, "{arch:?} {heads:?} {token}/{column}: {error:e}");
                    }
                }
            }
        }
    }
}
