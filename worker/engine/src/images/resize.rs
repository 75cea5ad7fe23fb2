//! Resizing as pillow did it when models were trained: a filter as wide as the image is made smaller by, rows first
//! and then columns, each in fixed point and rounded to a byte. Version 13 of pillow chooses which comes first.

use std::ops::Range;

/// Bits behind the point: what 32 have beside a byte and two bits for sums.
const FRACTION: u32 = 32 - 8 - 2;

/// Colors of a pixel.
const COLORS: usize = 3;

/// An image: rows of pixels, each red, green and blue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pixels {
    pub(crate) width: usize,
    pub(crate) height: usize,
    pub(crate) bytes: Vec<u8>,
}

/// What is wanted of one direction of the resized image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Window {
    /// Pixels of the whole.
    pub(crate) whole: usize,
    /// Those of them that are seen.
    pub(crate) seen: Range<usize>,
}

/// How much a pixel counts by its distance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Filter {
    Bilinear,
    Bicubic,
}

impl Filter {
    /// The distance from which on nothing counts.
    const fn reach(self) -> f64 {
        match self {
            Self::Bilinear => 1.0,
            Self::Bicubic => 2.0,
        }
    }

    fn at(self, distance: f64) -> f64 {
        let x = distance.abs();
        match self {
            Self::Bilinear if x < 1.0 => 1.0 - x,
            Self::Bicubic if x < 1.0 => ((CUBIC + 2.0) * x - (CUBIC + 3.0)) * x * x + 1.0,
            Self::Bicubic if x < 2.0 => (((x - 5.0) * x + 8.0) * x - 4.0) * CUBIC,
            Self::Bilinear | Self::Bicubic => 0.0,
        }
    }
}

/// The free parameter of bicubic filters.
const CUBIC: f64 = -0.5;

/// The seen part of the image that `image` becomes, as rows of pixels.
pub(crate) fn resize(image: &Pixels, across: &Window, down: &Window, filter: Filter) -> Vec<u8> {
    let down_sums = sums(image.height, down, filter);
    // Rows that nothing seen is made of are left out.
    let first = down_sums.iter().map(|sum| sum.first).min().unwrap_or(0);
    let end = down_sums.iter().map(Sum::end).max().unwrap_or(first);
    let rows = &image.bytes[first * image.width * COLORS..end * image.width * COLORS];
    let width = across.seen.len();
    let narrow = if across.whole == image.width {
        let seen = across.seen.start * COLORS..across.seen.end * COLORS;
        rows.chunks_exact(image.width * COLORS)
            .flat_map(|row| &row[seen.clone()])
            .copied()
            .collect()
    } else {
        shrink_rows(rows, image.width, &sums(image.width, across, filter))
    };
    if down.whole == image.height {
        return narrow;
    }
    let stride = width * COLORS;
    let mut out = Vec::with_capacity(down.seen.len() * stride);
    let mut row = vec![0i32; stride];
    for sum in &down_sums {
        row.fill(HALF);
        let from = narrow[(sum.first - first) * stride..].chunks_exact(stride);
        for (share, pixels) in sum.shares.iter().zip(from) {
            for (total, pixel) in row.iter_mut().zip(pixels) {
                *total += share * i32::from(*pixel);
            }
        }
        out.extend(row.iter().map(|total| byte(*total)));
    }
    out
}

fn shrink_rows(rows: &[u8], width: usize, sums: &[Sum]) -> Vec<u8> {
    let mut out = Vec::with_capacity(rows.len() / width * sums.len());
    for row in rows.chunks_exact(width * COLORS) {
        let (row, _) = row.as_chunks::<COLORS>();
        for sum in sums {
            let mut totals = [HALF; COLORS];
            for (share, pixel) in sum.shares.iter().zip(&row[sum.first..]) {
                for (total, color) in totals.iter_mut().zip(pixel) {
                    *total += share * i32::from(*color);
                }
            }
            out.extend(totals.map(byte));
        }
    }
    out
}

/// What is added so that cutting off rounds.
const HALF: i32 = 1 << (FRACTION - 1);

fn byte(total: i32) -> u8 {
    u8::try_from((total >> FRACTION).clamp(0, 255)).unwrap_or(u8::MAX)
}

/// A pixel of the resized image is a weighted sum of neighbors.
struct Sum {
    first: usize,
    /// Of the first and those after it, in fixed point.
    shares: Vec<i32>,
}

impl Sum {
    fn end(&self) -> usize {
        self.first + self.shares.len()
    }
}

/// The sums of the pixels that are seen, out of `length` pixels; each pixel itself where nothing changes.
fn sums(length: usize, window: &Window, filter: Filter) -> Vec<Sum> {
    if window.whole == length {
        let itself = |first| Sum { first, shares: vec![1 << FRACTION] };
        return window.seen.clone().map(itself).collect();
    }
    let fixed = |share: &f64| {
        let share = share * f64::from(1u32 << FRACTION);
        #[expect(clippy::cast_possible_truncation, reason = "shares are below 2^31")]
        let fixed = (if share < 0.0 { share - 0.5 } else { share + 0.5 }) as i32;
        fixed
    };
    let sum = |pixel: usize| {
        let (first, shares) = share(pixel, (length, window.whole), filter);
        Sum { first, shares: shares.iter().map(fixed).collect() }
    };
    window.seen.clone().map(sum).collect()
}

/// What each of `to` places is made of out of `from`: the first place, and the shares of it and those after it, whose
/// sum is 1.
pub(crate) fn shares(from: usize, to: usize, filter: Filter) -> Vec<(usize, Vec<f64>)> {
    (0..to).map(|place| share(place, (from, to), filter)).collect()
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "lengths are far below 2^52, and places are clamped first"
)]
fn share(place: usize, (from, to): (usize, usize), filter: Filter) -> (usize, Vec<f64>) {
    let scale = from as f64 / to as f64;
    let stretch = scale.max(1.0);
    let reach = filter.reach() * stretch;
    let step = 1.0 / stretch;
    let center = (place as f64 + 0.5) * scale;
    let first = (center - reach + 0.5).max(0.0) as usize;
    let end = ((center + reach + 0.5) as usize).min(from);
    let weights = (first..end).map(|place| filter.at((place as f64 - center + 0.5) * step));
    let weights: Vec<f64> = weights.collect();
    let total: f64 = weights.iter().sum();
    (first, weights.iter().map(|weight| weight / total).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(whole: usize) -> Window {
        Window { whole, seen: 0..whole }
    }

    #[test]
    fn an_image_of_the_right_size_stays_as_it_is() {
        let image = Pixels { width: 3, height: 2, bytes: (0..18).collect() };
        assert_eq!(resize(&image, &window(3), &window(2), Filter::Bicubic), image.bytes);
        let middle = Window { whole: 3, seen: 1..2 };
        let column = resize(&image, &middle, &window(2), Filter::Bicubic);
        assert_eq!(column, [3, 4, 5, 12, 13, 14]);
    }

    #[test]
    fn a_part_is_the_same_as_that_part_of_the_whole() {
        let bytes = (0..40 * 31 * 3).map(|n: usize| u8::try_from(n * 37 % 251).unwrap());
        let image = Pixels { width: 40, height: 31, bytes: bytes.collect() };
        for filter in [Filter::Bilinear, Filter::Bicubic] {
            let whole = resize(&image, &window(17), &window(50), filter);
            let (across, down) =
                (Window { whole: 17, seen: 5..9 }, Window { whole: 50, seen: 20..50 });
            let part = resize(&image, &across, &down, filter);
            let rows = whole.chunks_exact(17 * 3).skip(20);
            let expected: Vec<u8> = rows.flat_map(|row| row[15..27].to_vec()).collect();
            assert_eq!(part, expected);
        }
    }

    #[test]
    fn sharp_edges_stay_between_black_and_white() {
        let bytes = (0..8 * 8).flat_map(|n| [if n % 8 < 4 { 0 } else { 255 }; 3]).collect();
        let image = Pixels { width: 8, height: 8, bytes };
        let wide = resize(&image, &window(64), &window(8), Filter::Bicubic);
        assert!(wide[..30 * 3].iter().all(|byte| *byte < 64), "black turns white");
        assert_eq!((wide[0], wide[63 * 3]), (0, 255));
    }
}
