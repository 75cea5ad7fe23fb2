//! Kernels that visit every number once: bias + GELU of three kinds, and bias + residual + layer norm.

use std::f32::consts::FRAC_1_SQRT_2;

use pulp::{Arch, Simd, WithSimd};

use super::{exponential, multiply_add};

/// Adds `bias` to every row of `values` and applies the exact (erf) GELU, in place.
pub(crate) fn bias_gelu(arch: Arch, values: &mut [f32], bias: &[f32]) {
    arch.dispatch(BiasGelu { values, bias });
}

struct BiasGelu<'a> {
    values: &'a mut [f32],
    bias: &'a [f32],
}

impl WithSimd for BiasGelu<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        if S::IS_SCALAR { self.apply::<false>() } else { self.apply::<true>() }
    }
}

impl BiasGelu<'_> {
    #[inline(always)]
    fn apply<const FUSED: bool>(self) {
        for row in self.values.chunks_exact_mut(self.bias.len()) {
            for (value, bias) in row.iter_mut().zip(self.bias) {
                *value = gelu::<FUSED>(*value + bias);
            }
        }
    }
}

/// x / 2 * (1 + erf(x / sqrt 2)), erf after Abramowitz and Stegun 7.1.26 (error below 1.5e-7).
#[inline(always)]
fn gelu<const FUSED: bool>(x: f32) -> f32 {
    let z = (x * FRAC_1_SQRT_2).abs();
    let t = 1.0 / multiply_add::<FUSED>(0.327_591_1, z, 1.0);
    let mut polynomial = 1.061_405_4;
    for coefficient in [-1.453_152, 1.421_413_7, -0.284_496_74, 0.254_829_6] {
        polynomial = multiply_add::<FUSED>(polynomial, t, coefficient);
    }
    let erf = multiply_add::<FUSED>(-polynomial * t, exponential::<FUSED>(-z * z), 1.0);
    let half = 0.5 * x;
    multiply_add::<FUSED>(half, erf.copysign(x), half)
}

/// GELU as x times the sigmoid of a curve that is close to it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SigmoidGelu {
    /// What the curve has of x.
    pub(crate) slope: f32,
    /// What it has of x to the power of three.
    pub(crate) cubic: f32,
}

impl SigmoidGelu {
    pub(crate) const QUICK: Self = Self { slope: 1.702, cubic: 0.0 };
    /// The same as half of x times 1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)).
    pub(crate) const TANH: Self = Self { slope: 1.595_769, cubic: 0.071_354_82 };
}

/// Adds `bias` to every row of `values` and multiplies each number by the sigmoid of its curve, in place.
pub(crate) fn bias_sigmoid_gelu(arch: Arch, values: &mut [f32], bias: &[f32], curve: SigmoidGelu) {
    arch.dispatch(BiasSigmoidGelu { values, bias, curve });
}

struct BiasSigmoidGelu<'a> {
    values: &'a mut [f32],
    bias: &'a [f32],
    curve: SigmoidGelu,
}

impl WithSimd for BiasSigmoidGelu<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        if S::IS_SCALAR { self.apply::<false>() } else { self.apply::<true>() }
    }
}

impl BiasSigmoidGelu<'_> {
    #[inline(always)]
    fn apply<const FUSED: bool>(self) {
        let SigmoidGelu { slope, cubic } = self.curve;
        for row in self.values.chunks_exact_mut(self.bias.len()) {
            for (value, bias) in row.iter_mut().zip(self.bias) {
                let x = *value + bias;
                let steep = multiply_add::<FUSED>(cubic * x, x, slope);
                *value = x / (1.0 + exponential::<FUSED>(-steep * x));
            }
        }
    }
}

/// Adds `bias` and the rows of `residual` to the rows of `values` and normalizes each row, in place.
///
/// `parameters` holds bias, scale and shift of the layer norm, one row each.
pub(crate) fn bias_residual_norm(
    arch: Arch,
    values: &mut [f32],
    residual: &[f32],
    parameters: &[f32],
    epsilon: f32,
) {
    let width = parameters.len() / 3;
    let (bias, rest) = parameters.split_at(width);
    let (scale, shift) = rest.split_at(width);
    arch.dispatch(BiasResidualNorm { values, residual, bias, scale, shift, epsilon });
}

struct BiasResidualNorm<'a> {
    values: &'a mut [f32],
    residual: &'a [f32],
    bias: &'a [f32],
    scale: &'a [f32],
    shift: &'a [f32],
    epsilon: f32,
}

impl WithSimd for BiasResidualNorm<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        if S::IS_SCALAR { self.apply::<false>() } else { self.apply::<true>() }
    }
}

impl BiasResidualNorm<'_> {
    #[inline(always)]
    fn apply<const FUSED: bool>(self) {
        let width = self.bias.len();
        let rows = self.values.chunks_exact_mut(width).zip(self.residual.chunks_exact(width));
        for (row, residual) in rows {
            for ((value, residual), bias) in row.iter_mut().zip(residual).zip(self.bias) {
                *value += residual + bias;
            }
            // Rows are shorter than 2^24, so their length is exact.
            #[expect(clippy::cast_precision_loss, reason = "see above")]
            let length = width as f32;
            let mean = sum(row, |value| value) / length;
            let variance = sum(row, |value| (value - mean) * (value - mean)) / length;
            let inverse = 1.0 / (variance + self.epsilon).sqrt();
            for ((value, scale), shift) in row.iter_mut().zip(self.scale).zip(self.shift) {
                *value = multiply_add::<FUSED>((*value - mean) * inverse, *scale, *shift);
            }
        }
    }
}

/// Sums in sixteen lanes, which is faster and more exact than one after the other.
#[inline(always)]
fn sum(row: &[f32], term: impl Fn(f32) -> f32) -> f32 {
    let mut lanes = [0.0f32; 16];
    let (chunks, rest) = row.as_chunks::<16>();
    for chunk in chunks {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            *lane += term(*value);
        }
    }
    lanes.iter().sum::<f32>() + rest.iter().map(|value| term(*value)).sum::<f32>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::tests::every_arch;

    /// erf by its series, exact enough for |x| below 4.
    fn erf(x: f64) -> f64 {
        let mut term = x;
        let mut sum = x;
        for n in 1..80 {
            let n = f64::from(n);
            term *= -x * x / n;
            sum += term / (2.0 * n + 1.0);
        }
        sum * std::f64::consts::FRAC_2_SQRT_PI
    }

    #[test]
    fn gelu_is_close_to_its_definition() {
        let bias = [0.25, -0.5, 0.0];
        let inputs: Vec<f32> = (-540i16..540).map(|step| f32::from(step) / 100.0).collect();
        for arch in every_arch() {
            let mut outputs = inputs.clone();
            bias_gelu(arch, &mut outputs, &bias);
            for (index, (input, output)) in inputs.iter().zip(&outputs).enumerate() {
                let x = f64::from(input + bias[index % 3]);
                let exact = 0.5 * x * (1.0 + erf(x * std::f64::consts::FRAC_1_SQRT_2));
                let error = (f64::from(*output) - exact).abs();
                assert!(error < 1e-6, "{arch:?}: gelu({x}) is off by {error:e}");
            }
        }
    }

    #[test]
    fn gelu_of_large_numbers_stays_finite() {
        let mut values = [1e30, -1e30, 100.0, -100.0, 0.0];
        bias_gelu(Arch::new(), &mut values, &[0.0]);
        for (value, expected) in values.iter().zip([1e30, 0.0, 100.0, 0.0, 0.0]) {
            assert!((value - expected).abs() <= expected * 1e-6, "{value} instead of {expected}");
        }
    }

    #[test]
    fn gelus_by_a_sigmoid_are_close_to_their_definitions() {
        let quick = |x: f64| x / (1.0 + (-1.702 * x).exp());
        let root = (2.0 / std::f64::consts::PI).sqrt();
        let tanh = |x: f64| 0.5 * x * (1.0 + (root * (x + 0.044_715 * x * x * x)).tanh());
        check_gelu(SigmoidGelu::QUICK, quick);
        check_gelu(SigmoidGelu::TANH, tanh);
    }

    fn check_gelu(curve: SigmoidGelu, exact: impl Fn(f64) -> f64) {
        let bias = [0.25, -0.5, 0.0];
        let inputs: Vec<f32> = (-2_400i16..2_400).map(|step| f32::from(step) / 100.0).collect();
        for arch in every_arch() {
            let mut outputs = inputs.clone();
            bias_sigmoid_gelu(arch, &mut outputs, &bias, curve);
            for (index, (input, output)) in inputs.iter().zip(&outputs).enumerate() {
                let x = f64::from(input + bias[index % 3]);
                let error = (f64::from(*output) - exact(x)).abs();
                assert!(error < 1e-6 * x.abs().max(1.0), "{arch:?}: {x} is off by {error:e}");
            }
            let mut large = [1e30, -1e30];
            bias_sigmoid_gelu(arch, &mut large, &[0.0], curve);
            assert!((large[0] - 1e30).abs() < 1e24 && large[1].abs() < 1e-6, "{large:?}");
        }
    }

    #[test]
    fn norm_is_its_definition() {
        every_arch().into_iter().for_each(check_norm);
    }

    fn check_norm(arch: Arch) {
        let width = 37;
        let number = |seed: usize| f32::from(u8::try_from(seed * 89 % 251).unwrap()) / 97.0 - 1.0;
        let values: Vec<f32> = (0..2 * width).map(number).collect();
        let residual: Vec<f32> = (0..2 * width).map(|index| number(index + 5)).collect();
        let parameters: Vec<f32> = (0..3 * width).map(|index| number(index + 11)).collect();
        let mut normed = values.clone();
        bias_residual_norm(arch, &mut normed, &residual, &parameters, 1e-3);
        for row in 0..2 {
            let at = |column: usize| {
                let index = row * width + column;
                f64::from(values[index])
                    + f64::from(residual[index])
                    + f64::from(parameters[column])
            };
            let mean = (0..width).map(at).sum::<f64>() / 37.0;
            let variance = (0..width).map(|column| (at(column) - mean).powi(2)).sum::<f64>() / 37.0;
            for column in 0..width {
                let scale = f64::from(parameters[width + column]);
                let shift = f64::from(parameters[2 * width + column]);
                let exact = (at(column) - mean) / (variance + 1e-3).sqrt() * scale + shift;
                let error = (f64::from(normed[row * width + column]) - exact).abs();
                assert!(error < 1e-5, "{arch:?}: row {row} column {column} is off by {error:e}");
            }
        }
    }
}
