//! From the vectors of tokens to the vector of a text.

use candle_core::{Result, Tensor};

use crate::Pooling;

impl Pooling {
    /// One row per text out of one row per token, as plain numbers.
    pub(crate) fn apply(self, tokens: &Tensor, lengths: &[usize]) -> Result<Vec<Vec<f32>>> {
        match self {
            Self::Cls => first_rows(tokens, lengths),
            Self::Mean if tokens.device().is_cpu() => {
                let width = tokens.dim(1)?;
                Ok(means(&tokens.flatten_all()?.to_vec1()?, lengths, width))
            }
            Self::Mean => means_on_device(tokens, lengths),
        }
    }
}

fn first_rows(tokens: &Tensor, lengths: &[usize]) -> Result<Vec<Vec<f32>>> {
    let mut firsts = Vec::with_capacity(lengths.len());
    let mut next = 0;
    for length in lengths {
        firsts.push(u32::try_from(next).map_err(candle_core::Error::wrap)?);
        next += length;
    }
    let firsts = Tensor::from_vec(firsts, lengths.len(), tokens.device())?;
    tokens.index_select(&firsts, 0)?.to_vec2()
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

/// The same as one product, so that only the results leave the device.
fn means_on_device(tokens: &Tensor, lengths: &[usize]) -> Result<Vec<Vec<f32>>> {
    let count: usize = lengths.iter().sum();
    let mut shares = vec![0.0; lengths.len() * count];
    let mut first = 0;
    for (text, length) in lengths.iter().enumerate() {
        shares[text * count + first..][..*length].fill(share(*length));
        first += length;
    }
    let shares = Tensor::from_vec(shares, (lengths.len(), count), tokens.device())?;
    shares.matmul(tokens)?.to_vec2()
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

    #[test]
    fn both_ways_to_the_mean_agree() {
        let lengths = [3, 1, 8];
        let tokens = Tensor::randn(0f32, 1.0, (12, 5), &Device::Cpu).unwrap();
        let here = Pooling::Mean.apply(&tokens, &lengths).unwrap();
        let there = means_on_device(&tokens, &lengths).unwrap();
        for (a, b) in here.iter().flatten().zip(there.iter().flatten()) {
            assert!((a - b).abs() < 1e-6, "{a} and {b}");
        }
        let second = tokens.get(3).unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(here[1], second);
    }

    #[test]
    fn cls_is_the_first_token_of_each_text() {
        let tokens = Tensor::arange(0f32, 6.0, &Device::Cpu).unwrap().reshape((6, 1)).unwrap();
        let firsts = Pooling::Cls.apply(&tokens, &[2, 1, 3]).unwrap();
        assert_eq!(firsts, [[0.0], [2.0], [3.0]]);
    }

    #[test]
    fn zero_vector_stays_zero() {
        let mut vector = [0.0, 0.0];
        normalize(&mut vector);
        assert_eq!(vector.map(f32::to_bits), [0, 0]);
    }
}
