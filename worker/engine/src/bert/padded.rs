//! Attention with candle's own operations, for devices without a packed kernel.
//!
//! Texts are grouped by length; inside a group the shorter ones are padded to the longest, for this
//! step only. Padding is masked out, so that no text sees another one's.

use candle_core::{Device, Result, Tensor};

/// A group's longest text may be this many times as long as its shortest: fewer groups mean fewer
/// launches, tighter groups mean less padding.
const SPREAD: usize = 2;

/// The texts of a batch, grouped for attention.
pub(super) struct Groups {
    groups: Vec<Group>,
    /// For each token of the batch, its row in the groups' outputs one after the other.
    back: Tensor,
}

struct Group {
    texts: usize,
    longest: usize,
    /// For each padded row, the token of the batch in it; any token where there is none.
    rows: Tensor,
    /// One row per text: zero for its tokens, a large negative number for padding.
    mask: Tensor,
}

impl Groups {
    /// None for the CPU, which has a packed kernel.
    pub(super) fn new(lengths: &[usize], device: &Device) -> Result<Option<Self>> {
        if device.is_cpu() { Ok(None) } else { Self::on(lengths, device).map(Some) }
    }

    fn on(lengths: &[usize], device: &Device) -> Result<Self> {
        let mut firsts = Vec::with_capacity(lengths.len());
        let mut tokens = 0;
        for length in lengths {
            firsts.push(tokens);
            tokens += length;
        }
        let mut by_length: Vec<usize> = (0..lengths.len()).collect();
        by_length.sort_by_key(|text| lengths[*text]);
        let mut back = vec![0u32; tokens];
        let mut groups = Vec::new();
        let mut rows_before = 0;
        for texts in split(&by_length, lengths) {
            let longest = texts.iter().map(|text| lengths[*text]).max().unwrap_or(0);
            for (index, text) in texts.iter().enumerate() {
                for position in 0..lengths[*text] {
                    back[firsts[*text] + position] =
                        as_index(rows_before + index * longest + position)?;
                }
            }
            groups.push(Group::new(texts, lengths, &firsts, longest, device)?);
            rows_before += texts.len() * longest;
        }
        Ok(Self { groups, back: Tensor::from_vec(back, tokens, device)? })
    }

    /// Attention over `qkv`, which has one row per token: queries, keys and values side by side.
    pub(super) fn attention(&self, qkv: &Tensor, heads: usize) -> Result<Tensor> {
        let outputs = self.groups.iter().map(|group| group.attention(qkv, heads));
        let outputs = outputs.collect::<Result<Vec<_>>>()?;
        Tensor::cat(&outputs, 0)?.index_select(&self.back, 0)
    }
}

/// Cuts texts sorted by length where the next one is too long for the group.
fn split<'a>(texts: &'a [usize], lengths: &[usize]) -> Vec<&'a [usize]> {
    let mut parts = Vec::new();
    let mut rest = texts;
    while let Some(shortest) = rest.first().map(|text| lengths[*text]) {
        let end = rest.partition_point(|text| lengths[*text] <= shortest * SPREAD);
        let (part, after) = rest.split_at(end);
        parts.push(part);
        rest = after;
    }
    parts
}

impl Group {
    fn new(
        texts: &[usize],
        lengths: &[usize],
        firsts: &[usize],
        longest: usize,
        device: &Device,
    ) -> Result<Self> {
        let mut rows = Vec::with_capacity(texts.len() * longest);
        let mut mask = Vec::with_capacity(texts.len() * longest);
        for text in texts {
            for position in 0..longest {
                let real = position < lengths[*text];
                rows.push(as_index(firsts[*text] + if real { position } else { 0 })?);
                mask.push(if real { 0.0f32 } else { f32::MIN / 2.0 });
            }
        }
        Ok(Self {
            texts: texts.len(),
            longest,
            rows: Tensor::from_vec(rows, texts.len() * longest, device)?,
            mask: Tensor::from_vec(mask, (texts.len(), 1, 1, longest), device)?,
        })
    }

    fn attention(&self, qkv: &Tensor, heads: usize) -> Result<Tensor> {
        let hidden = qkv.dim(1)? / 3;
        let width = hidden / heads;
        let shape = (self.texts, self.longest, 3, heads, width);
        let qkv = qkv.index_select(&self.rows, 0)?.reshape(shape)?;
        // One of the three as [texts, heads, longest, width].
        let part =
            |index: usize| qkv.narrow(2, index, 1)?.squeeze(2)?.transpose(1, 2)?.contiguous();
        let (queries, keys, values) = (part(0)?, part(1)?, part(2)?);
        // Widths are far below 2^52.
        #[expect(clippy::cast_precision_loss, reason = "see above")]
        let scale = 1.0 / (width as f64).sqrt();
        let scores = (queries.matmul(&keys.t()?)? * scale)?.broadcast_add(&self.mask)?;
        let shares = candle_nn::ops::softmax_last_dim(&scores)?;
        let mixed = shares.matmul(&values)?.transpose(1, 2)?;
        mixed.reshape((self.texts * self.longest, hidden))
    }
}

fn as_index(index: usize) -> Result<u32> {
    u32::try_from(index).map_err(candle_core::Error::wrap)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops;

    #[test]
    fn padded_attention_equals_the_packed_kernel() {
        let (heads, width) = (3, 8);
        let hidden = heads * width;
        let lengths = [5, 1, 40, 2, 7, 90, 5];
        let tokens: usize = lengths.iter().sum();
        let qkv = Tensor::randn(0f32, 1.0, (tokens, 3 * hidden), &Device::Cpu).unwrap();
        let bias = Tensor::randn(0f32, 1.0, 3 * hidden, &Device::Cpu).unwrap();
        let packed = ops::packed_attention(&qkv, &bias, &lengths, heads).unwrap();
        let groups = Groups::on(&lengths, &Device::Cpu).unwrap();
        assert!(groups.groups.len() > 1, "the lengths do not fit into one group");
        let padded = groups.attention(&qkv.broadcast_add(&bias).unwrap(), heads).unwrap();
        let difference = (packed - padded).unwrap().abs().unwrap();
        let largest: f32 = difference.max_all().unwrap().to_scalar().unwrap();
        assert!(largest < 1e-5, "largest difference {largest:e}");
    }
}
