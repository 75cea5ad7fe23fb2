//! From the bytes of an image file to the pixels that a network sees.
//!
//! What a network sees has to be what it saw in training, pixel by pixel: images are resized as pillow does
//! it, to the last bit.

mod config;
mod decode;
mod resize;

pub(crate) use config::{FILE_NAME, ImageConfig, Size};
pub(crate) use decode::decode;
pub(crate) use resize::{Filter, Pixels, Window, resize, shares};

use stoker_core::image::ImageLimits;
use stoker_engine_api::ItemError;

impl ImageConfig {
    /// The part of an image that the network sees, in its size: rows of pixels, each red, green and blue.
    ///
    /// # Errors
    /// When the file is not an image, or too large.
    pub(crate) fn see(&self, file: &[u8], limits: &ImageLimits) -> Result<Vec<u8>, ItemError> {
        Ok(self.cut(&decode(file, limits)?))
    }

    fn cut(&self, image: &Pixels) -> Vec<u8> {
        let Size { width, height } =
            self.resized(Size { width: image.width, height: image.height });
        let Size { width: wide, height: high } = self.seen;
        let window = |whole: usize, part: usize| {
            let first = (whole - part) / 2;
            Window { whole, seen: first..first + part }
        };
        resize(image, &window(width, wide), &window(height, high), self.filter)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::{Path, PathBuf};

    use serde::Deserialize;
    use sha2::{Digest as _, Sha256};

    use super::*;

    /// What pillow makes of a pattern, as `golden/make_tiny_clip.py` says.
    #[derive(Deserialize)]
    struct Golden {
        width: usize,
        height: usize,
        sha256: String,
    }

    #[derive(Deserialize)]
    struct Expected {
        pictures: Vec<Picture>,
    }

    #[derive(Deserialize)]
    struct Picture {
        file: String,
        /// One plane per color.
        pixels: String,
    }

    fn folder() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/tiny-clip")
    }

    /// Largest difference of a color between the decoder's and pillow's, which turn JPEG and lossy WebP into colors by
    /// arithmetic of their own.
    fn tolerance(file: &str) -> u8 {
        if ["photo.jpg", "turned.jpg", "photo.webp"].contains(&file) { 3 } else { 0 }
    }

    #[test]
    fn every_kind_of_image_is_seen_as_the_reference_sees_it() {
        for model in ["openai", "laion", "squeezed"] {
            let config = ImageConfig::read(&folder().join(model)).unwrap();
            let expected = fs::read(folder().join(model).join("expected.json")).unwrap();
            let expected: Expected = serde_json::from_slice(&expected).unwrap();
            assert!(expected.pictures.len() >= 12);
            for Picture { file, pixels } in expected.pictures {
                let bytes = fs::read(folder().join("images").join(&file)).unwrap();
                let seen = config.see(&bytes, &ImageLimits::default()).unwrap();
                let expected = hex::decode(pixels).unwrap();
                assert_eq!(seen.len(), expected.len(), "{model}: {file}");
                let found = (0..3).flat_map(|c| seen.iter().skip(c).step_by(3));
                let largest = found.zip(&expected).map(|(a, b)| a.abs_diff(*b)).max().unwrap();
                assert!(largest <= tolerance(&file), "{model}: {file} is off by {largest}");
            }
        }
    }

    /// The same pattern.
    fn pattern(width: usize, height: usize) -> Pixels {
        let byte = |value: usize| u8::try_from(value % 256).unwrap();
        let pixel = |x: usize, y: usize, c: usize| byte((x * 7 + y * 13 + c * 29) ^ (x * y / 8));
        let rows = (0..height).flat_map(|y| (0..width).map(move |x| (x, y)));
        let bytes = rows.flat_map(|(x, y)| [0, 1, 2].map(|c| pixel(x, y, c))).collect();
        Pixels { width, height, bytes }
    }

    #[test]
    fn images_of_real_sizes_are_cut_as_pillow_cuts_them() {
        let golden = include_str!("../golden/tiny-clip/digests.json");
        let golden: Vec<Golden> = serde_json::from_str(golden).unwrap();
        assert!(golden.len() >= 6);
        let config = ImageConfig::usual();
        for Golden { width, height, sha256 } in golden {
            let seen = config.cut(&pattern(width, height));
            // The reference has one plane per color.
            let planes = (0..3).flat_map(|c| seen.iter().skip(c).step_by(3).copied());
            let found = hex::encode(Sha256::digest(planes.collect::<Vec<u8>>()));
            assert_eq!(found, sha256, "{width} x {height}");
        }
    }

    #[test]
    fn an_image_of_any_shape_is_cut_in_little_memory() {
        // Resized as a whole it would have 224 x 22 million pixels.
        let thin = Pixels { width: 1, height: 100_000, bytes: vec![7; 300_000] };
        let seen = ImageConfig::usual().cut(&thin);
        assert!(seen.len() == 224 * 224 * 3 && seen.iter().all(|byte| *byte == 7));
    }
}
