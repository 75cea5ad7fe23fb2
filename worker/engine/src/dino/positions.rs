//! Positions of patches between those of training, as torch makes them: bicubic, rows and columns alike.

use crate::images::{Filter, shares};

/// How much the positions of training count for one between them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Between {
    /// The four next to it, however far apart those are that are wanted.
    Points,
    /// All in an area as wide as the image of patches is made smaller by, as images are resized.
    Areas,
}

/// The free parameter of torch's filter where it takes points.
const CUBIC: f64 = -0.75;

/// A row for each of the wanted patches out of one for each of those that were trained. `across` are the patches of a
/// side before and after.
pub(super) fn resized(
    rows: &[f32],
    width: usize,
    (from, to): (usize, usize),
    between: Between,
) -> Vec<f32> {
    if from == to {
        return rows.to_vec();
    }
    let sums = match between {
        Between::Points => points(from, to),
        Between::Areas => shares(from, to, Filter::Bicubic),
    };
    let narrow: Vec<f32> =
        rows.chunks_exact(from * width).flat_map(|row| mixed(row, width, &sums)).collect();
    mixed(&narrow, to * width, &sums)
}

/// A weighted sum of neighbors: the first, and the shares of it and those after it.
type Sum = (usize, Vec<f64>);

fn mixed(rows: &[f32], width: usize, sums: &[Sum]) -> Vec<f32> {
    let mut out = Vec::with_capacity(sums.len() * width);
    let mut totals = vec![0.0; width];
    for (first, shares) in sums {
        totals.fill(0.0);
        for (share, row) in shares.iter().zip(rows[first * width..].chunks_exact(width)) {
            for (total, number) in totals.iter_mut().zip(row) {
                *total += share * f64::from(*number);
            }
        }
        #[expect(clippy::cast_possible_truncation, reason = "f32 is what networks compute with")]
        out.extend(totals.iter().map(|total| *total as f32));
    }
    out
}

/// At an edge, what lies beyond is as its last.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "there are a few thousand places, and they are clamped first"
)]
fn points(from: usize, to: usize) -> Vec<Sum> {
    let scale = from as f64 / to as f64;
    let last = from - 1;
    let sum = |place: usize| {
        let center = (place as f64 + 0.5) * scale - 0.5;
        let before = center.floor();
        let ahead = center - before;
        let neighbor = |step: f64| (before + step).clamp(0.0, last as f64) as usize;
        let first = neighbor(-1.0);
        let mut shares = vec![0.0; neighbor(2.0) - first + 1];
        for step in [-1.0, 0.0, 1.0, 2.0] {
            shares[neighbor(step) - first] += cubic((ahead - step).abs());
        }
        (first, shares)
    };
    (0..to).map(sum).collect()
}

fn cubic(x: f64) -> f64 {
    if x <= 1.0 {
        ((CUBIC + 2.0) * x - (CUBIC + 3.0)) * x * x + 1.0
    } else {
        (((x - 5.0) * x + 8.0) * x - 4.0) * CUBIC
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_of_the_same_number_of_patches_stay_as_they_are() {
        let rows = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0];
        for between in [Between::Points, Between::Areas] {
            assert_eq!(resized(&rows, 2, (2, 2), between), rows);
        }
    }

    #[test]
    fn what_is_the_same_everywhere_stays_so() {
        for between in [Between::Points, Between::Areas] {
            for (from, to) in [(37, 16), (5, 9), (1, 3), (3, 1)] {
                let rows = vec![0.7; from * from * 2];
                let found = resized(&rows, 2, (from, to), between);
                assert_eq!(found.len(), to * to * 2);
                assert!(found.iter().all(|number| (number - 0.7).abs() < 1e-6), "{from} to {to}");
            }
        }
    }

    #[test]
    fn a_slope_goes_on_between_its_points() {
        // Two columns that rise by 1 each.
        let rows: Vec<f32> = (0..64u8).map(|place| f32::from(place % 8)).collect();
        let found = resized(&rows, 1, (8, 16), Between::Points);
        let middle = &found[16 * 8 + 7..16 * 8 + 9];
        assert!(middle[0] > 3.2 && middle[0] < 3.3 && middle[1] > 3.7 && middle[1] < 3.8);
    }
}
