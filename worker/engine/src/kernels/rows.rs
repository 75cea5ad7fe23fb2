//! Products of rows with a matrix that is stored with one row per output, as model files have it.
//!
//! Each number is summed up in the same order however many rows come together: what a sequence generates
//! does not depend on its neighbors, nor on how its prompt was cut.

use pulp::{Arch, Simd, WithSimd};

/// Rows and outputs that are worked on together: their sums fit into the registers of AVX2.
const ROWS: usize = 4;
const OUTPUTS: usize = 2;

/// Writes `rows * matrix'` to `out`: `rows` and `matrix` have `width` numbers in each row, `out` one
/// number for each pair of them.
pub(crate) fn rows_product(
    arch: Arch,
    rows: &[f32],
    matrix: &[f32],
    width: usize,
    out: &mut [f32],
) {
    arch.dispatch(RowsProduct { rows, matrix, width, out });
}

struct RowsProduct<'a> {
    rows: &'a [f32],
    matrix: &'a [f32],
    width: usize,
    out: &'a mut [f32],
}

impl WithSimd for RowsProduct<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { rows, matrix, width, out } = self;
        let outputs = matrix.len() / width;
        for (group, matrix) in matrix.chunks(OUTPUTS * width).enumerate() {
            let first = group * OUTPUTS;
            for (block, rows) in rows.chunks(ROWS * width).enumerate() {
                let out = &mut out[block * ROWS * outputs + first..];
                let height = rows.len() / width;
                if height == ROWS && matrix.len() == OUTPUTS * width {
                    let place = Place { out, stride: outputs };
                    tile::<S, ROWS, OUTPUTS>(simd, rows, matrix, width, place);
                } else {
                    for (row, numbers) in rows.chunks_exact(width).enumerate() {
                        for (output, weights) in matrix.chunks_exact(width).enumerate() {
                            let out = &mut out[row * outputs + output..];
                            let place = Place { out, stride: outputs };
                            tile::<S, 1, 1>(simd, numbers, weights, width, place);
                        }
                    }
                }
            }
        }
    }
}

/// Where a tile's numbers go: `out` begins at the first, and has rows of `stride`.
struct Place<'a> {
    out: &'a mut [f32],
    stride: usize,
}

/// `HEIGHT` rows times `WIDE` outputs.
#[inline(always)]
fn tile<S: Simd, const HEIGHT: usize, const WIDE: usize>(
    simd: S,
    rows: &[f32],
    matrix: &[f32],
    width: usize,
    Place { out, stride }: Place<'_>,
) {
    let rows: [_; HEIGHT] = std::array::from_fn(|i| S::as_simd_f32s(&rows[i * width..][..width]));
    let weights: [_; WIDE] =
        std::array::from_fn(|j| S::as_simd_f32s(&matrix[j * width..][..width]));
    let mut sums = [[simd.splat_f32s(0.0); WIDE]; HEIGHT];
    for step in 0..weights[0].0.len() {
        for (sums, (numbers, _)) in sums.iter_mut().zip(rows) {
            for (sum, (weights, _)) in sums.iter_mut().zip(weights) {
                *sum = simd.mul_add_e_f32s(numbers[step], weights[step], *sum);
            }
        }
    }
    for (row, (sums, (_, numbers))) in sums.into_iter().zip(rows).enumerate() {
        for (output, (sum, (_, weights))) in sums.into_iter().zip(weights).enumerate() {
            let rest: f32 = numbers.iter().zip(weights).map(|(a, b)| a * b).sum();
            out[row * stride + output] = simd.reduce_sum_f32s(sum) + rest;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::tests::every_arch;

    fn number(seed: usize) -> f32 {
        f32::from(u16::try_from(seed * 7919 % 1009).unwrap()) / 250.0 - 2.0
    }

    #[test]
    fn a_product_is_its_definition_and_the_same_for_each_row_alone() {
        for arch in every_arch() {
            for (rows, width, outputs) in [(1, 1, 1), (4, 16, 2), (9, 37, 7), (13, 64, 5)] {
                let left: Vec<f32> = (0..rows * width).map(number).collect();
                let right: Vec<f32> = (0..outputs * width).map(|seed| number(seed + 17)).collect();
                let mut out = vec![f32::NAN; rows * outputs];
                rows_product(arch, &left, &right, width, &mut out);
                for (row, numbers) in left.chunks_exact(width).enumerate() {
                    let mut alone = vec![f32::NAN; outputs];
                    rows_product(arch, numbers, &right, width, &mut alone);
                    assert_eq!(alone, out[row * outputs..][..outputs], "{arch:?}");
                    for (found, weights) in alone.iter().zip(right.chunks_exact(width)) {
                        let pairs = numbers.iter().zip(weights);
                        let exact: f64 = pairs.map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
                        assert!(
                            (f64::from(*found) - exact).abs() < 1e-4,
                            "{arch:?} {found} {exact}"
                        );
                    }
                }
            }
        }
    }
}
