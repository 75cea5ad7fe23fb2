//! From the vectors of tokens to the vector of a text.

use candle_core::{Result, Tensor};

use crate::texts::Texts;
use crate::{Pooling, ops};

impl Pooling {
    /// One row per text out of one row per token, as plain numbers.
    pub(crate) fn apply(self, tokens: &Tensor, texts: &Texts) -> Result<Vec<Vec<f32>>> {
        match (self, texts.on_device()) {
            (Self::Cls, _) => first_rows(tokens, texts)?.to_vec2(),
            (Self::Mean, Some(texts)) => ops::pool(tokens, &texts.spans)?.to_vec2(),
            (Self::Mean, None) => {
                let width = tokens.dim(1)?;
                Ok(means(&tokens.flatten_all()?.to_vec1()?, texts.lengths(), width))
            }
        }
    }
}

/// The row of each text's first token, as f32.
pub(crate) fn first_rows(tokens: &Tensor, texts: &Texts) -> Result<Tensor> {
    if let Some(texts) = texts.on_device() {
        return ops::pool(tokens, &texts.firsts);
    }
    let lengths = texts.lengths();
    let mut firsts = Vec::with_capacity(lengths.len());
    let mut next = 0;
    for length in lengths {
        firsts.push(u32::try_from(next).map_err(candle_core::Error::wrap)?);
        next += length;
    }
    let firsts = Tensor::from_vec(firsts, lengths.len(), tokens.device())?;
    tokens.index_select(&firsts, 0)
}

fn means(tokens: &[f32], lengths: &[usize], width: usize) -> Vec<Vec<f32>> {
    let mut rest = tokens;
    let mut mean = |length: &usize| {
        let (text, after) = rest.split_at(length * width);
        rest = after;
        let mut sum = vec![0.0; width];
        for row in text.chunks_exact(width) {
            for (sum, number) in sum.iter_mut().zip(row) {
                *sum += number;
            }
        }
        let share = share(*length);
        for number in &mut sum {
            *number *= share;
        }
        sum
    };
    lengths.iter().map(&mut mean).collect()
}

/// The weight of one token among `length`.
fn share(length: usize) -> f32 {
    // Texts are far shorter than 2^24 tokens, so the length is exact.
    #[expect(clippy::cast_precision_loss, reason = "see above")]
    let length = length.max(1) as f32;
    1.0 / length
}

/// Scales a vector to length 1 the way torch does: a zero vector stays zero.
pub(crate) fn normalize(vector: &mut [f32]) {
    let norm = vector.iter().map(|number| number * number).sum::<f32>().sqrt().max(1e-12);
    for number in vector {
        *number /= norm;
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    fn texts(lengths: &[usize]) -> Texts {
        Texts::new(lengths.to_vec(), &Device::Cpu).unwrap()
    }

    #[test]
    fn mean_is_over_the_tokens_of_one_text() {
        let tokens = Tensor::arange(0f32, 12.0, &Device::Cpu).unwrap().reshape((6, 2)).unwrap();
        let means = Pooling::Mean.apply(&tokens, &texts(&[3, 1, 2])).unwrap();
        assert_eq!(means, [[2.0, 3.0], [6.0, 7.0], [9.0, 10.0]]);
    }

    #[test]
    fn cls_is_the_first_token_of_each_text() {
        let tokens = Tensor::arange(0f32, 6.0, &Device::Cpu).unwrap().reshape((6, 1)).unwrap();
        let firsts = Pooling::Cls.apply(&tokens, &texts(&[2, 1, 3])).unwrap();
        assert_eq!(firsts, [[0.0], [2.0], [3.0]]);
    }

    #[test]
    fn zero_vector_stays_zero() {
        let mut vector = [0.0, 0.0];
        normalize(&mut vector);
        assert_eq!(vector.map(f32::to_bits), [0, 0]);
    }
}
