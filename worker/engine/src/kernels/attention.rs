//! Attention of packed sequences: every token looks at the tokens of its own sequence.
//!
//! Works on the output of the joined query-key-value product as it is. Per sequence and head the
//! three matrices are copied into small contiguous ones that stay in the first-level cache; the
//! scores of a few queries are held at a time, never the whole square.

use pulp::{Arch, Simd, WithSimd};

use super::exponential;

/// Queries that are worked on together: their sums fill the registers of AVX2 and AVX-512 alike.
const ROWS: usize = 6;

/// Widths are padded to whole vectors of the widest instruction set.
const LANES: usize = 16;

/// How the rows of a packed matrix belong together.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sequences<'a> {
    /// Tokens of each sequence, in the order of the rows.
    pub(crate) lengths: &'a [usize],
    pub(crate) heads: usize,
}

/// Writes softmax(q k' / sqrt(width)) v for every head and sequence to `out`.
///
/// `qkv` has one row per token with all queries, then all keys, then all values; `bias` is added to
/// each row first. `out` has one row per token.
pub(crate) fn attention(
    arch: Arch,
    qkv: &[f32],
    bias: &[f32],
    Sequences { lengths, heads }: Sequences<'_>,
    out: &mut [f32],
) {
    let hidden = bias.len() / 3;
    let longest = lengths.iter().copied().max().unwrap_or(0);
    let mut head = Head::new(hidden / heads, longest);
    let mut first = 0;
    for &tokens in lengths {
        let rows = first..first + tokens;
        let sequence = &qkv[rows.start * 3 * hidden..rows.end * 3 * hidden];
        let output = &mut out[rows.start * hidden..rows.end * hidden];
        first = rows.end;
        for index in 0..heads {
            head.load(sequence, bias, hidden, index);
            arch.dispatch(HeadAttention { head: &mut head, output, hidden, index });
        }
    }
}

/// One head of one sequence. Rows and columns past the real ones are zero.
struct Head {
    width: usize,
    padded_width: usize,
    tokens: usize,
    padded_tokens: usize,
    /// Blocks of [`ROWS`] queries; inside a block, one number of each query after the other.
    queries: Vec<f32>,
    /// One row per number of a key.
    keys: Vec<f32>,
    /// One row per token.
    values: Vec<f32>,
    /// One row per query of a block.
    scores: Vec<f32>,
    /// Powers of e of one row of scores.
    powers: Vec<f32>,
    /// How much of each value a query takes; stored like a block of queries.
    shares: Vec<f32>,
    /// One row per query of a block.
    sums: Vec<f32>,
}

impl Head {
    fn new(width: usize, longest: usize) -> Self {
        let padded_width = width.next_multiple_of(LANES);
        let padded_tokens = longest.next_multiple_of(LANES);
        Self {
            width,
            padded_width,
            tokens: 0,
            padded_tokens: 0,
            queries: vec![0.0; longest.next_multiple_of(ROWS) * width],
            keys: vec![0.0; width * padded_tokens],
            values: vec![0.0; longest * padded_width],
            scores: vec![0.0; ROWS * padded_tokens],
            powers: vec![0.0; longest],
            shares: vec![0.0; ROWS * longest],
            sums: vec![0.0; ROWS * padded_width],
        }
    }

    fn load(&mut self, sequence: &[f32], bias: &[f32], hidden: usize, index: usize) {
        let width = self.width;
        self.tokens = sequence.len() / (3 * hidden);
        self.padded_tokens = self.tokens.next_multiple_of(LANES);
        // Widths are far below 2^24.
        #[expect(clippy::cast_precision_loss, reason = "see above")]
        let scale = 1.0 / (width as f32).sqrt();
        let part = |part: usize| part * hidden + index * width..part * hidden + (index + 1) * width;
        let [q, k, v] = [part(0), part(1), part(2)];
        let [q_bias, k_bias, v_bias] = [&bias[q.clone()], &bias[k.clone()], &bias[v.clone()]];
        self.keys.fill(0.0);
        for (token, row) in sequence.chunks_exact(3 * hidden).enumerate() {
            let block = &mut self.queries[token / ROWS * ROWS * width..];
            let slots = block.iter_mut().skip(token % ROWS).step_by(ROWS);
            for ((slot, value), bias) in slots.zip(&row[q.clone()]).zip(q_bias) {
                *slot = (value + bias) * scale;
            }
            let slots = self.keys.iter_mut().skip(token).step_by(self.padded_tokens);
            for ((slot, value), bias) in slots.zip(&row[k.clone()]).zip(k_bias) {
                *slot = value + bias;
            }
            let slots = self.values[token * self.padded_width..].iter_mut();
            for ((slot, value), bias) in slots.zip(&row[v.clone()]).zip(v_bias) {
                *slot = value + bias;
            }
        }
    }
}

struct HeadAttention<'a> {
    head: &'a mut Head,
    output: &'a mut [f32],
    hidden: usize,
    index: usize,
}

impl WithSimd for HeadAttention<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { head, output, hidden, index } = self;
        let Head { width, tokens, padded_tokens, padded_width, .. } = *head;
        let keys = &head.keys[..width * padded_tokens];
        let values = &head.values[..tokens * padded_width];
        let scores = &mut head.scores[..ROWS * padded_tokens];
        let shares = &mut head.shares[..ROWS * tokens];
        for (block, rows) in output.chunks_mut(ROWS * hidden).enumerate() {
            let queries = &head.queries[block * ROWS * width..][..ROWS * width];
            product(simd, queries, keys, scores);
            for (row, scores) in scores.chunks_exact(padded_tokens).enumerate() {
                let shares = shares.iter_mut().skip(row).step_by(ROWS);
                if S::IS_SCALAR {
                    softmax::<false>(&scores[..tokens], &mut head.powers, shares);
                } else {
                    softmax::<true>(&scores[..tokens], &mut head.powers, shares);
                }
            }
            product(simd, shares, values, &mut head.sums);
            let sums = head.sums.chunks_exact(padded_width);
            for (row, sums) in rows.chunks_exact_mut(hidden).zip(sums) {
                row[index * width..][..width].copy_from_slice(&sums[..width]);
            }
        }
    }
}

/// The product of a `ROWS` x n matrix, stored column by column, and an n x m matrix, stored row by
/// row; m is a multiple of [`LANES`]. The result is stored row by row.
#[inline(always)]
fn product<S: Simd>(simd: S, left: &[f32], right: &[f32], out: &mut [f32]) {
    let (right, _) = S::as_simd_f32s(right);
    let (out, _) = S::as_mut_simd_f32s(out);
    let columns = out.len() / ROWS;
    for column in 0..columns {
        let mut sums = [simd.splat_f32s(0.0); ROWS];
        let rights = right.iter().skip(column).step_by(columns);
        for (left, right) in left.as_chunks::<ROWS>().0.iter().zip(rights) {
            for (sum, left) in sums.iter_mut().zip(left) {
                *sum = simd.mul_add_e_f32s(simd.splat_f32s(*left), *right, *sum);
            }
        }
        for (slot, sum) in out.iter_mut().skip(column).step_by(columns).zip(sums) {
            *slot = sum;
        }
    }
}

/// Writes the softmax of `scores` to `shares`, using `powers` in between.
#[inline(always)]
fn softmax<'a, const FUSED: bool>(
    scores: &[f32],
    powers: &mut [f32],
    shares: impl Iterator<Item = &'a mut f32>,
) {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let (chunks, rest) = scores.as_chunks::<LANES>();
    for chunk in chunks {
        for (lane, score) in lanes.iter_mut().zip(chunk) {
            *lane = if *score > *lane { *score } else { *lane };
        }
    }
    let max = lanes.iter().chain(rest).fold(f32::NEG_INFINITY, |max, score| max.max(*score));
    let powers = &mut powers[..scores.len()];
    for (power, score) in powers.iter_mut().zip(scores) {
        *power = exponential::<FUSED>(score - max);
    }
    let mut lanes = [0.0; LANES];
    let (chunks, rest) = powers.as_chunks::<LANES>();
    for chunk in chunks {
        for (lane, power) in lanes.iter_mut().zip(chunk) {
            *lane += power;
        }
    }
    let sum = lanes.iter().sum::<f32>() + rest.iter().sum::<f32>();
    let inverse = 1.0 / sum;
    for (share, power) in shares.zip(powers) {
        *share = *power * inverse;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::tests::{every_arch, number};

    /// The definition, one output number at a time, in f64.
    fn expected(qkv: &[f32], bias: &[f32], rows: std::ops::Range<usize>, at: [usize; 3]) -> f64 {
        let [query, column, width] = at;
        let hidden = bias.len() / 3;
        let head = column / width * width;
        let value = |token: usize, part: usize, column: usize| {
            let column = part * hidden + column;
            f64::from(qkv[token * 3 * hidden + column]) + f64::from(bias[column])
        };
        let score = |key: usize| {
            let products =
                (head..head + width).map(|column| value(query, 0, column) * value(key, 1, column));
            products.sum::<f64>() / f64::from(u32::try_from(width).unwrap()).sqrt()
        };
        let powers: Vec<f64> = rows.clone().map(|key| score(key).exp()).collect();
        let weighted = rows.zip(&powers).map(|(key, power)| power * value(key, 2, column));
        weighted.sum::<f64>() / powers.iter().sum::<f64>()
    }

    #[test]
    fn packed_attention_is_its_definition() {
        every_arch().into_iter().for_each(check_attention);
    }

    fn check_attention(arch: Arch) {
        for (width, heads) in [(32, 2), (5, 3), (64, 1)] {
            let hidden = width * heads;
            let lengths = [1, 2, 17, 6, 33, 16];
            let tokens: usize = lengths.iter().sum();
            let qkv: Vec<f32> = (0..tokens * 3 * hidden).map(number).collect();
            let bias: Vec<f32> = (0..3 * hidden).map(|index| number(index + 31)).collect();
            let mut out = vec![f32::NAN; tokens * hidden];
            let sequences = Sequences { lengths: &lengths, heads };
            attention(arch, &qkv, &bias, sequences, &mut out);
            let mut first = 0;
            for length in lengths {
                let rows = first..first + length;
                for token in rows.clone() {
                    for column in 0..hidden {
                        let exact = expected(&qkv, &bias, rows.clone(), [token, column, width]);
                        let error = (f64::from(out[token * hidden + column]) - exact).abs();
                        assert!(error < 1e-4, "{arch:?} width {width} {token}/{column}: {error:e}");
                    }
                }
                first = rows.end;
            }
        }
    }

    #[test]
    fn scores_of_any_size_give_finite_shares() {
        let mut shares = [f32::NAN; 4];
        softmax::<true>(&[1e30, -1e30, 1e30, 0.0], &mut [0.0; 4], shares.iter_mut());
        assert!((shares[0] - 0.5).abs() < 1e-6 && shares[1] < 1e-30, "{shares:?}");
    }
}
