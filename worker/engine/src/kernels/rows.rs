//! Products of rows with a matrix that is stored with one row per output, as model files have it.
//!
//! Each number is summed up in the same order however many rows come together and however many threads work on them:
//! what a sequence generates does not depend on its neighbors, nor on how its prompt was cut.

use std::ops::Range;

use pulp::{Arch, Simd, WithSimd};

use super::shared::share;

/// Outputs that are worked on together.
const OUTPUTS: usize = 4;
/// Rows that are worked on together where there are 16 registers, and where there are 32: their sums with each of
/// [`OUTPUTS`] stay in registers.
const ROWS_OF_16: usize = 2;
const ROWS_OF_32: usize = 4;

/// A matrix with one row per output.
pub(crate) trait Matrix: Copy + Sync {
    /// Numbers of a row.
    fn width(self) -> usize;

    /// How many rows there are.
    fn outputs(self) -> usize;

    /// Some rows, one after the other; in `room`, which is as long as they are, where they are not kept as such.
    fn numbers<'a>(self, rows: Range<usize>, room: &'a mut [f32]) -> &'a [f32]
    where
        Self: 'a;
}

/// A matrix of plain numbers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plain<'m> {
    pub(crate) numbers: &'m [f32],
    pub(crate) width: usize,
}

impl Matrix for Plain<'_> {
    #[inline(always)]
    fn width(self) -> usize {
        self.width
    }

    #[inline(always)]
    fn outputs(self) -> usize {
        self.numbers.len() / self.width
    }

    #[inline(always)]
    fn numbers<'a>(self, rows: Range<usize>, _: &'a mut [f32]) -> &'a [f32]
    where
        Self: 'a,
    {
        &self.numbers[rows.start * self.width..rows.end * self.width]
    }
}

/// Writes `rows * matrix'` to `out`, which has one number for each pair of a row and an output. Works on the threads of
/// the pool that it is called in.
pub(crate) fn rows_product(arch: Arch, rows: &[f32], matrix: impl Matrix, out: &mut [f32]) {
    let count = rows.len() / matrix.width();
    if count == 0 {
        return;
    }
    if count == 1 {
        return by_output(arch, rows, matrix, out);
    }
    let mut columns = vec![0.0; out.len()];
    by_output(arch, rows, matrix, &mut columns);
    let outputs = matrix.outputs();
    for (row, out) in out.chunks_exact_mut(outputs).enumerate() {
        for (out, column) in out.iter_mut().zip(columns.chunks_exact(count)) {
            *out = column[row];
        }
    }
}

/// The same with all numbers of an output after each other.
fn by_output(arch: Arch, rows: &[f32], matrix: impl Matrix, out: &mut [f32]) {
    let count = rows.len() / matrix.width();
    share(out, OUTPUTS * count, rows.len() * matrix.outputs(), |first, out| {
        arch.dispatch(Part { rows, matrix, first: first / count, out });
    });
}

/// The outputs from `first` on, as many as `out` has room for.
struct Part<'a, M> {
    rows: &'a [f32],
    matrix: M,
    first: usize,
    out: &'a mut [f32],
}

impl<M: Matrix> WithSimd for Part<'_, M> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { rows, matrix, first, out } = self;
        let width = matrix.width();
        let count = rows.len() / width;
        let mut room = vec![0.0; OUTPUTS * width];
        for (group, out) in out.chunks_mut(OUTPUTS * count).enumerate() {
            let (first, outputs) = (first + group * OUTPUTS, out.len() / count);
            let room = &mut room[..outputs * width];
            let weights = matrix.numbers(first..first + outputs, room);
            if outputs < OUTPUTS {
                for (weights, out) in weights.chunks_exact(width).zip(out.chunks_exact_mut(count)) {
                    tiles::<S, 1, 1>(simd, rows, weights, width, out);
                }
            } else if S::REGISTER_COUNT < 32 {
                tiles::<S, ROWS_OF_16, OUTPUTS>(simd, rows, weights, width, out);
            } else {
                tiles::<S, ROWS_OF_32, OUTPUTS>(simd, rows, weights, width, out);
            }
        }
    }
}

/// All rows times `WIDE` outputs, `HEIGHT` rows at a time.
#[inline(always)]
fn tiles<S: Simd, const HEIGHT: usize, const WIDE: usize>(
    simd: S,
    rows: &[f32],
    weights: &[f32],
    width: usize,
    out: &mut [f32],
) {
    let mut row = 0;
    let tall = rows.chunks_exact(HEIGHT * width);
    let rest = tall.remainder();
    for rows in tall {
        tile::<S, HEIGHT, WIDE>(simd, rows, weights, width, Place { out, row });
        row += HEIGHT;
    }
    for rows in rest.chunks_exact(width) {
        tile::<S, 1, WIDE>(simd, rows, weights, width, Place { out, row });
        row += 1;
    }
}

/// Where a tile's numbers go: `out` has those of all rows for each output, and `row` is the tile's first.
struct Place<'a> {
    out: &'a mut [f32],
    row: usize,
}

/// `HEIGHT` rows times `WIDE` outputs.
#[inline(always)]
fn tile<S: Simd, const HEIGHT: usize, const WIDE: usize>(
    simd: S,
    rows: &[f32],
    weights: &[f32],
    width: usize,
    Place { out, row }: Place<'_>,
) {
    let rows: [_; HEIGHT] = std::array::from_fn(|i| S::as_simd_f32s(&rows[i * width..][..width]));
    let weights: [_; WIDE] =
        std::array::from_fn(|j| S::as_simd_f32s(&weights[j * width..][..width]));
    let mut sums = [[simd.splat_f32s(0.0); WIDE]; HEIGHT];
    for step in 0..weights[0].0.len() {
        for (sums, (numbers, _)) in sums.iter_mut().zip(rows) {
            for (sum, (weights, _)) in sums.iter_mut().zip(weights) {
                *sum = simd.mul_add_e_f32s(numbers[step], weights[step], *sum);
            }
        }
    }
    let count = out.len() / WIDE;
    for (index, (sums, (_, numbers))) in sums.into_iter().zip(rows).enumerate() {
        for (output, (sum, (_, weights))) in sums.into_iter().zip(weights).enumerate() {
            let rest: f32 = numbers.iter().zip(weights).map(|(a, b)| a * b).sum();
            out[output * count + row + index] = simd.reduce_sum_f32s(sum) + rest;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::tests::{every_arch, number};

    #[test]
    fn a_product_is_its_definition_and_the_same_for_each_row_alone_and_on_many_threads() {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
        for arch in every_arch() {
            for (rows, width, outputs) in
                [(0, 16, 2), (1, 1, 1), (4, 16, 2), (9, 37, 7), (13, 64, 5), (11, 160, 151)]
            {
                let left: Vec<f32> = (0..rows * width).map(number).collect();
                let right: Vec<f32> = (0..outputs * width).map(|seed| number(seed + 17)).collect();
                let matrix = Plain { numbers: &right, width };
                let [mut out, mut shared] =
                    [vec![f32::NAN; rows * outputs], vec![f32::NAN; rows * outputs]];
                rows_product(arch, &left, matrix, &mut out);
                pool.install(|| rows_product(arch, &left, matrix, &mut shared));
                assert_eq!(out, shared, "{arch:?}");
                for (row, numbers) in left.chunks_exact(width).enumerate() {
                    let mut alone = vec![f32::NAN; outputs];
                    rows_product(arch, numbers, matrix, &mut alone);
                    assert_eq!(alone, out[row * outputs..][..outputs], "{arch:?}");
                    for (found, weights) in alone.iter().zip(right.chunks_exact(width)) {
                        let pairs = numbers.iter().zip(weights);
                        let exact: f64 = pairs.map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
                        assert!(
                            (f64::from(*found) - exact).abs() < 1e-3,
                            "{arch:?} {found} {exact}"
                        );
                    }
                }
            }
        }
    }
}
