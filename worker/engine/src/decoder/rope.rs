//! Rotary positions: which angles, and which numbers of a head are turned together.

use std::f64::consts::PI;

use candle_core::{DType, Device, Result, Tensor};
use candle_nn::rotary_emb::{rope, rope_i};

/// How positions become angles.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct RopeConfig {
    pub(crate) base: f64,
    pub(crate) scaling: RopeScaling,
    pub(crate) pairs: RopePairs,
}

/// How angles of a network that reads more than it was first trained for are made smaller.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum RopeScaling {
    None,
    /// All by this factor.
    Linear(f64),
    /// Slow ones by a factor, quick ones not, what lies between in part.
    Llama3(Llama3),
    /// Each by its own factor, as GGUF files have it.
    Factors(Vec<f32>),
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Llama3 {
    pub(crate) factor: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
    pub(crate) original: f64,
}

/// Which numbers of a head are turned together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RopePairs {
    /// Each with the one half a head further.
    Halves,
    /// Each with its neighbor, as GGUF files of the architecture `llama` have it.
    Neighbors,
}

impl RopeConfig {
    /// How fast each pair of a head turns, in radians per token.
    pub(super) fn speeds(&self, head_width: usize) -> Vec<f64> {
        let pairs = u32::try_from(head_width / 2).unwrap_or(u32::MAX);
        let plain = (0..pairs).map(|pair| self.base.powf(-f64::from(pair) / f64::from(pairs)));
        match &self.scaling {
            RopeScaling::None => plain.collect(),
            RopeScaling::Linear(factor) => plain.map(|speed| speed / factor).collect(),
            RopeScaling::Llama3(llama3) => plain.map(|speed| llama3.scaled(speed)).collect(),
            RopeScaling::Factors(factors) => {
                plain.zip(factors).map(|(speed, factor)| speed / f64::from(*factor)).collect()
            }
        }
    }
}

impl Llama3 {
    fn scaled(self, speed: f64) -> f64 {
        let turns = self.original * speed / (2.0 * PI);
        if turns < self.low {
            speed / self.factor
        } else if turns > self.high {
            speed
        } else {
            let share = (turns - self.low) / (self.high - self.low);
            (1.0 - share) * speed / self.factor + share * speed
        }
    }
}

/// The angles of a network.
pub(super) struct Rotation {
    speeds: Vec<f64>,
    pairs: RopePairs,
    dtype: DType,
    device: Device,
}

/// The angles of certain tokens.
pub(super) struct Rotated {
    cos: Tensor,
    sin: Tensor,
    pairs: RopePairs,
}

impl Rotation {
    pub(super) fn new(
        config: &RopeConfig,
        head_width: usize,
        dtype: DType,
        device: &Device,
    ) -> Self {
        let (pairs, device) = (config.pairs, device.clone());
        Self { speeds: config.speeds(head_width), pairs, dtype, device }
    }

    /// The angles of tokens at these places of their sequences.
    pub(super) fn at(&self, places: &[u32]) -> Result<Rotated> {
        let angles = || {
            places
                .iter()
                .flat_map(|place| self.speeds.iter().map(|speed| f64::from(*place) * speed))
        };
        let table = |numbers: Vec<f32>| {
            // A token is a batch of its own, so that each has its own angles.
            let shape = (places.len(), 1, self.speeds.len());
            Tensor::from_vec(numbers, shape, &self.device)?.to_dtype(self.dtype)
        };
        let cos = table(angles().map(|angle| narrow(angle.cos())).collect())?;
        let sin = table(angles().map(|angle| narrow(angle.sin())).collect())?;
        Ok(Rotated { cos, sin, pairs: self.pairs })
    }
}

/// Cosines and sines have no more digits afterwards.
#[expect(clippy::cast_possible_truncation, reason = "see above")]
const fn narrow(number: f64) -> f32 {
    number as f32
}

impl Rotated {
    /// Turns heads of tokens; the dimensions are token, head, number.
    pub(super) fn turn(&self, x: &Tensor) -> Result<Tensor> {
        let x = x.unsqueeze(2)?.contiguous()?;
        let turned = match self.pairs {
            RopePairs::Halves => rope(&x, &self.cos, &self.sin)?,
            RopePairs::Neighbors => rope_i(&x, &self.cos, &self.sin)?,
        };
        turned.squeeze(2)
    }
}
