//! Making parts of images smaller, or larger, by averages: each number is the mean of all pixels that its place
//! touches, as torch's `area` does it.

use std::ops::Range;

use crate::images::Pixels;

/// Colors of a pixel.
const COLORS: usize = 3;

/// A part of an image, in pixels: the last row and column are not part of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Region {
    pub(crate) left: usize,
    pub(crate) top: usize,
    pub(crate) right: usize,
    pub(crate) bottom: usize,
}

impl Region {
    pub(crate) const fn whole(image: &Pixels) -> Self {
        Self { left: 0, top: 0, right: image.width, bottom: image.height }
    }

    const fn width(&self) -> usize {
        self.right - self.left
    }

    const fn height(&self) -> usize {
        self.bottom - self.top
    }
}

/// One direction of what a region becomes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Across {
    /// Numbers of the whole.
    pub(super) whole: usize,
    /// Those of them that are wanted.
    pub(super) seen: Range<usize>,
}

impl Across {
    pub(super) const fn all(whole: usize) -> Self {
        Self { whole, seen: 0..whole }
    }

    /// The pixels that each of the wanted numbers is made of, of `pixels` from `first` on.
    fn windows(&self, first: usize, pixels: usize) -> Vec<Range<usize>> {
        let window = |place: usize| {
            let begin = place * pixels / self.whole;
            let end = ((place + 1) * pixels).div_ceil(self.whole);
            first + begin..first + end
        };
        self.seen.clone().map(window).collect()
    }
}

/// What a region, which is not empty and lies inside the image, becomes: one plane per color, with numbers around
/// zero as the networks were trained with.
pub(super) fn shrink(image: &Pixels, region: &Region, across: &Across, down: &Across) -> Vec<f32> {
    let columns = across.windows(region.left, region.width());
    let rows = down.windows(region.top, region.height());
    let plane = columns.len() * rows.len();
    let mut planes = vec![0.0; COLORS * plane];
    let (Some(first), Some(last)) = (columns.first(), columns.last()) else { return planes };
    let seen = first.start * COLORS..last.end * COLORS;
    let mut sums = vec![0u32; seen.len()];
    for (y, row) in rows.iter().enumerate() {
        sums.fill(0);
        let stride = image.width * COLORS;
        for pixels in image.bytes[row.start * stride..row.end * stride].chunks_exact(stride) {
            for (sum, color) in sums.iter_mut().zip(&pixels[seen.clone()]) {
                *sum += u32::from(*color);
            }
        }
        let (pixels, _) = sums.as_chunks::<COLORS>();
        for (x, column) in columns.iter().enumerate() {
            let mut totals = [0u32; COLORS];
            for pixel in &pixels[column.start - first.start..column.end - first.start] {
                for (total, color) in totals.iter_mut().zip(pixel) {
                    *total += color;
                }
            }
            for (color, total) in totals.into_iter().enumerate() {
                planes[color * plane + y * columns.len() + x] =
                    number(total, row.len(), column.len());
            }
        }
    }
    planes
}

/// The mean of a window, around zero.
#[expect(clippy::cast_precision_loss, reason = "sums of bytes are as exact as the reference's")]
fn number(total: u32, rows: usize, columns: usize) -> f32 {
    (total as f32 / rows as f32 / columns as f32 - 127.5) * (1.0 / 128.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Red counts columns, green rows; blue is 7.
    fn image(width: u8, height: u8) -> Pixels {
        let pixels = (0..height).flat_map(|y| (0..width).map(move |x| [x, y, 7]));
        let (width, height) = (usize::from(width), usize::from(height));
        Pixels { width, height, bytes: pixels.flatten().collect() }
    }

    /// Back to colors.
    fn colors(planes: &[f32]) -> Vec<f32> {
        planes.iter().map(|number| number * 128.0 + 127.5).collect()
    }

    #[test]
    fn each_number_is_the_mean_of_the_pixels_that_it_touches() {
        let image = image(5, 4);
        let shrunk = shrink(&image, &Region::whole(&image), &Across::all(2), &Across::all(3));
        // Columns 0..3 and 2..5; rows 0..2, 1..3 and 2..4.
        let red = [1.0, 3.0].repeat(3);
        let green = [0.5, 0.5, 1.5, 1.5, 2.5, 2.5];
        let expected = [&red[..], &green, &[7.0; 6]].concat();
        for (found, expected) in colors(&shrunk).iter().zip(expected) {
            assert!((found - expected).abs() < 1e-4, "{found} instead of {expected}");
        }
    }

    #[test]
    fn a_part_is_the_same_as_in_the_whole() {
        let image = image(50, 40);
        let region = Region { left: 3, top: 5, right: 48, bottom: 39 };
        let (across, down) = (Across::all(17), Across::all(13));
        let whole = shrink(&image, &region, &across, &down);
        let part = shrink(
            &image,
            &region,
            &Across { seen: 4..9, ..across },
            &Across { seen: 6..13, ..down },
        );
        for color in 0..3 {
            for y in 0..7 {
                let found = &part[color * 35 + y * 5..][..5];
                assert_eq!(found, &whole[color * 221 + (y + 6) * 17 + 4..][..5]);
            }
        }
    }

    #[test]
    fn a_single_pixel_becomes_as_large_as_is_asked() {
        let image = image(5, 4);
        let region = Region { left: 4, top: 3, right: 5, bottom: 4 };
        let grown = colors(&shrink(&image, &region, &Across::all(3), &Across::all(2)));
        for (found, expected) in grown.iter().zip([[4.0; 6], [3.0; 6], [7.0; 6]].as_flattened()) {
            assert!((found - expected).abs() < 1e-4, "{grown:?}");
        }
    }
}
