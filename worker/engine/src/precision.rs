//! How exactly a GPU computes.

use std::fmt;
use std::str::FromStr;

use candle_core::DType;

/// The numbers of a model on a GPU. On a CPU it is always `f32`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Precision {
    /// 32 bits everywhere: the same vectors as on a CPU.
    #[default]
    F32,
    /// 32 bits, of which matrix products read 19.
    Tf32,
    /// 16 bits, 11 of them for digits.
    F16,
    /// 16 bits, 8 of them for digits: less exact than `f16`, as wide in range as `f32`.
    Bf16,
}

/// The largest finite number of 16 bits.
const F16_MAX: f32 = 65_504.0;

impl Precision {
    const ALL: [Self; 4] = [Self::F32, Self::Tf32, Self::F16, Self::Bf16];

    /// The name on command lines.
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Tf32 => "tf32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
        }
    }

    /// Largest difference between a number of an output vector and the same on a CPU, as a share
    /// of the vector's largest number where that is more than 1. The canary and `make test-gpu` hold
    /// engines to it.
    pub const fn tolerance(self) -> f32 {
        match self {
            Self::F32 => 2e-5,
            Self::Tf32 | Self::F16 => 2e-3,
            Self::Bf16 => 2e-2,
        }
    }

    /// The type of weights and activations.
    pub(crate) const fn dtype(self) -> DType {
        match self {
            Self::F32 | Self::Tf32 => DType::F32,
            Self::F16 => DType::F16,
            Self::Bf16 => DType::BF16,
        }
    }

    /// Whether all of `numbers` stay finite.
    pub(crate) fn holds(self, numbers: &[f32]) -> bool {
        match self {
            Self::F32 | Self::Tf32 | Self::Bf16 => true,
            Self::F16 => numbers.iter().fold(0.0f32, |max, x| max.max(x.abs())) <= F16_MAX,
        }
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A name of no precision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("use f32, tf32, f16 or bf16")]
pub struct UnknownPrecision;

impl FromStr for Precision {
    type Err = UnknownPrecision;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|known| known.name() == name).ok_or(UnknownPrecision)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_parse_back_and_others_are_refused_with_the_choices() {
        for precision in Precision::ALL {
            assert_eq!(precision.to_string().parse(), Ok(precision));
            assert!(UnknownPrecision.to_string().contains(precision.name()));
        }
        assert_eq!("float".parse::<Precision>(), Err(UnknownPrecision));
    }

    #[test]
    fn numbers_that_sixteen_bits_cannot_hold_are_seen() {
        for (numbers, holds) in [([1.0, -65_504.0], true), ([1.0, -65_600.0], false)] {
            assert_eq!(Precision::F16.holds(&numbers), holds, "{numbers:?}");
            assert!(Precision::Bf16.holds(&numbers) && Precision::F32.holds(&numbers));
        }
    }
}
