//! From the pixels of an image to the numbers of its patches.

use super::config::VisionConfig;

/// Colors of a pixel.
pub(crate) const COLORS: usize = 3;

/// The numbers of an image's patches, in rows and columns of patches; of each patch color by color. An image is
/// `side` rows of `side` pixels, each red, green and blue; `numbers` are what their values stand for.
pub(crate) fn cut<'a>(
    image: &'a [u8],
    config: &VisionConfig,
    numbers: &'a [Vec<f32>; 3],
) -> impl Iterator<Item = f32> + use<'a> {
    let VisionConfig { side, patch, .. } = *config;
    let starts = move || (0..side).step_by(patch);
    let patches = starts().flat_map(move |top| starts().map(move |left| (top, left)));
    patches.flat_map(move |(top, left)| {
        numbers.iter().enumerate().flat_map(move |(color, numbers)| {
            (top..top + patch).flat_map(move |row| {
                let row = &image[(row * side + left) * COLORS..][..patch * COLORS];
                let values = row.iter().skip(color).step_by(COLORS);
                values.map(|value| numbers[usize::from(*value)])
            })
        })
    })
}
