//! The arithmetic between matrix products, on slices, for the CPU.
//!
//! candle's own GELU and attention take half of a forward pass; these take a tenth. All of it is
//! safe code: `pulp` picks the widest instruction set at run time and compiles each kernel for it.
//! No tensors; threads only where a product is large, and only those of the pool that it is called in.
#![expect(
    clippy::inline_always,
    reason = "a helper that is not inlined is not compiled for the chosen instruction set"
)]

mod attention;
mod blocks;
mod cached_attention;
mod elementwise;
mod rows;
mod shared;

pub(crate) use attention::{Sequences, attention};
pub(crate) use blocks::{BlockFormat, Blocks};
pub(crate) use cached_attention::{Heads, cached_attention};
pub(crate) use elementwise::{SigmoidGelu, bias_gelu, bias_residual_norm, bias_sigmoid_gelu};
pub(crate) use rows::{Matrix, Plain, rows_product};

/// `a * b + c`, in one rounding where the instruction set has it. `f32::mul_add` alone would call
/// a slow library function where it has not.
#[inline(always)]
fn multiply_add<const FUSED: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FUSED { a.mul_add(b, c) } else { a * b + c }
}

/// e to the power of `x` with a relative error of about 1e-7, without branches. Below -87 the result
/// is about 1e-38 instead of something smaller; above 88 it stops growing.
#[inline(always)]
fn exponential<const FUSED: bool>(x: f32) -> f32 {
    // Adding it leaves the rounded integer in the low bits of the sum.
    const ROUND: f32 = 12_582_912.0;
    // ln 2 in two parts, the first with so few bits that multiples of it are exact.
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    let x = x.clamp(-87.0, 88.0);
    let shifted = multiply_add::<FUSED>(x, std::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    let r = multiply_add::<FUSED>(n, -LN_2_HIGH, x);
    let r = multiply_add::<FUSED>(n, -LN_2_LOW, r);
    let mut polynomial = 1.987_569_1e-4;
    for coefficient in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
        polynomial = multiply_add::<FUSED>(polynomial, r, coefficient);
    }
    let fraction = multiply_add::<FUSED>(polynomial, r * r, r) + 1.0;
    let power_of_two = f32::from_bits((shifted.to_bits() << 23).wrapping_add(1.0f32.to_bits()));
    fraction * power_of_two
}

#[cfg(test)]
mod tests {
    use pulp::Arch;

    use super::*;

    /// Every instruction set that a kernel may be compiled for and this machine has.
    pub(super) fn every_arch() -> Vec<Arch> {
        #[cfg(target_arch = "x86_64")]
        let narrower = pulp::x86::V3::try_new().map(Arch::V3);
        #[cfg(not(target_arch = "x86_64"))]
        let narrower = None;
        [Some(Arch::Scalar), narrower, Some(Arch::new())].into_iter().flatten().collect()
    }

    /// Numbers from -2 to 2 that look random.
    pub(super) fn number(seed: usize) -> f32 {
        f32::from(u16::try_from(seed * 7919 % 1009).unwrap()) / 250.0 - 2.0
    }

    #[test]
    fn exponential_is_close_to_the_library() {
        for step in -8_700i16..=8_800 {
            let x = f32::from(step) / 100.0;
            let exact = f64::from(x).exp();
            for value in [exponential::<true>(x), exponential::<false>(x)] {
                let error = (f64::from(value) / exact - 1.0).abs();
                assert!(error < 3e-7, "exp({x}) is off by {error:e}");
            }
        }
    }

    #[test]
    fn exponential_of_very_small_numbers_is_nearly_zero() {
        for x in [-88.0, -1e4, f32::MIN, f32::NEG_INFINITY] {
            assert!((0.0..1e-37).contains(&exponential::<true>(x)), "{x}");
        }
    }
}
