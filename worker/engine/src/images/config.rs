//! `preprocessor_config.json`: how images become what a network sees.
//!
//! A setting that would change the pixels and that this engine does not know is refused: an unknown model is
//! better than a wrong answer.

use std::path::Path;

use serde::Deserialize;

use super::Filter;
use crate::{LoadError, json};

/// Its name in a model's folder.
pub(crate) const FILE_NAME: &str = "preprocessor_config.json";

const MISSING: &str = "the model's `source` in the fleet file must name a model of images: config.json, \
                       preprocessor_config.json and model.safetensors in one folder, for words with tokenizer.json";

/// More than any network sees.
const MOST_PIXELS: usize = 4_096;

/// Values of a color.
const VALUES: usize = 256;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Size {
    pub(crate) width: usize,
    pub(crate) height: usize,
}

/// The way from an image to what is seen of it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ImageConfig {
    resize: Resize,
    pub(super) filter: Filter,
    /// The middle of the resized image, which is at least as large.
    pub(crate) seen: Size,
    /// The number that each value of each color becomes.
    pub(crate) numbers: [Vec<f32>; 3],
}

/// What an image is made to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Resize {
    /// The shorter side gets this length, and the image keeps its form.
    Shortest(usize),
    Exact(Size),
}

/// Whether the middle is cut out of the resized image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cut {
    ToSize,
    Not,
}

impl ImageConfig {
    /// # Errors
    /// When the file is missing or not valid, or asks for something this engine does not do.
    pub(crate) fn read(directory: &Path) -> Result<Self, LoadError> {
        let path = directory.join(FILE_NAME);
        let file: File = json::read(&path, MISSING)?;
        file.config().map_err(|what| LoadError::Unsupported { path, what })
    }

    /// The size of the resized image.
    pub(super) fn resized(&self, image: Size) -> Size {
        match self.resize {
            Resize::Exact(size) => size,
            Resize::Shortest(length) => {
                let Size { width, height } = image;
                let long = |long: usize, short: usize| length.saturating_mul(long) / short.max(1);
                if width <= height {
                    Size { width: length, height: long(height, width) }
                } else {
                    Size { width: long(width, height), height: length }
                }
            }
        }
    }

    /// `OpenAI`'s.
    #[cfg(test)]
    pub(super) fn usual() -> Self {
        let json = serde_json::json!({
            "size": {"shortest_edge": 224}, "crop_size": 224, "resample": 3,
            "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5],
        });
        serde_json::from_value::<File>(json).unwrap().config().unwrap()
    }
}

#[derive(Deserialize)]
struct File {
    #[serde(alias = "feature_extractor_type")]
    image_processor_type: Option<String>,
    #[serde(default = "yes")]
    do_resize: bool,
    size: SizeFile,
    #[serde(default = "bicubic")]
    resample: u32,
    /// Left out: some kinds cut, others do not.
    do_center_crop: Option<bool>,
    crop_size: Option<SizeFile>,
    #[serde(default = "yes")]
    do_rescale: bool,
    #[serde(default = "full_scale")]
    rescale_factor: f64,
    #[serde(default = "yes")]
    do_normalize: bool,
    image_mean: Option<[f32; 3]>,
    image_std: Option<[f32; 3]>,
    #[serde(default)]
    do_pad: Option<bool>,
}

/// Older files have a number: the shorter side of a size, and a square that is cut out.
#[derive(Deserialize, Clone, Copy)]
#[serde(untagged)]
enum SizeFile {
    Number(usize),
    Shortest { shortest_edge: usize },
    Exact { height: usize, width: usize },
}

const fn yes() -> bool {
    true
}

const fn bicubic() -> u32 {
    3
}

const fn full_scale() -> f64 {
    1.0 / 255.0
}

impl File {
    fn config(self) -> Result<ImageConfig, String> {
        let usual = match self.image_processor_type.as_deref().map(cut_by) {
            None => Cut::ToSize,
            Some(Some(usual)) => usual,
            Some(None) => {
                let kind = self.image_processor_type.unwrap_or_default();
                return Err(format!(
                    "image_processor_type is `{kind}`, only those of CLIP, SigLIP, DINOv2 and BLIP are supported"
                ));
            }
        };
        if !self.do_resize || self.do_pad == Some(true) {
            return Err("do_resize must be true and do_pad false".to_owned());
        }
        let filter = match self.resample {
            2 => Filter::Bilinear,
            3 => Filter::Bicubic,
            other => {
                return Err(format!(
                    "resample is {other}, only 2 (bilinear) and 3 (bicubic) are known"
                ));
            }
        };
        let resize = match self.size {
            SizeFile::Number(length) | SizeFile::Shortest { shortest_edge: length } => {
                Resize::Shortest(length)
            }
            SizeFile::Exact { height, width } => Resize::Exact(Size { width, height }),
        };
        let cut = match self.do_center_crop {
            Some(true) => Cut::ToSize,
            Some(false) => Cut::Not,
            None => usual,
        };
        let seen = self.seen(resize, cut)?;
        Ok(ImageConfig { resize, filter, seen, numbers: self.numbers()? })
    }

    fn seen(&self, resize: Resize, cut: Cut) -> Result<Size, String> {
        let least = match resize {
            Resize::Shortest(length) => Size { width: length, height: length },
            Resize::Exact(size) => size,
        };
        let seen = match (cut, self.crop_size, resize) {
            (Cut::ToSize, Some(SizeFile::Number(side)), _) => Size { width: side, height: side },
            (Cut::ToSize, Some(SizeFile::Exact { height, width }), _) => Size { width, height },
            (Cut::ToSize, Some(SizeFile::Shortest { .. }) | None, _) => {
                return Err("crop_size has no height and width".to_owned());
            }
            (Cut::Not, _, Resize::Exact(size)) => size,
            (Cut::Not, _, Resize::Shortest(_)) => {
                return Err("do_center_crop is false, and size has no height and width".to_owned());
            }
        };
        let known = 1..=MOST_PIXELS;
        let fits = seen.width <= least.width && seen.height <= least.height;
        let sizes = [seen.width, seen.height, least.width, least.height];
        if !fits || sizes.iter().any(|size| !known.contains(size)) {
            return Err(format!(
                "size and crop_size must be 1 to {MOST_PIXELS}, and crop_size the smaller"
            ));
        }
        Ok(seen)
    }

    /// In the reference's steps, each rounded as there.
    fn numbers(&self) -> Result<[Vec<f32>; 3], String> {
        let factor = if self.do_rescale { self.rescale_factor } else { 1.0 };
        let (mean, deviation) = match (self.do_normalize, self.image_mean, self.image_std) {
            (true, Some(mean), Some(deviation)) => (mean, deviation),
            (true, _, _) => return Err("image_mean or image_std is missing".to_owned()),
            (false, _, _) => ([0.0; 3], [1.0; 3]),
        };
        #[expect(clippy::cast_possible_truncation, reason = "f32 is what networks compute with")]
        let scaled = |value: u32| (f64::from(value) * factor) as f32;
        let color = |color: usize| -> Vec<f32> {
            let values = 0..u32::try_from(VALUES).unwrap_or(u32::MAX);
            values.map(|value| (scaled(value) - mean[color]) / deviation[color]).collect()
        };
        let numbers = [0, 1, 2].map(color);
        if numbers.iter().flatten().all(|number| number.is_finite()) {
            Ok(numbers)
        } else {
            Err("image_std or rescale_factor makes numbers that are not finite".to_owned())
        }
    }
}

/// What a kind of processor does where its file does not say it; `None` for a kind that is not known.
fn cut_by(kind: &str) -> Option<Cut> {
    match kind {
        "CLIPImageProcessor"
        | "CLIPImageProcessorFast"
        | "CLIPFeatureExtractor"
        | "BitImageProcessor"
        | "BitImageProcessorFast" => Some(Cut::ToSize),
        "BlipImageProcessor"
        | "BlipImageProcessorFast"
        | "SiglipImageProcessor"
        | "SiglipImageProcessorFast" => Some(Cut::Not),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn config(change: impl FnOnce(&mut Value)) -> Result<ImageConfig, String> {
        let mut file = json!({
            "size": 224, "crop_size": 224, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5],
        });
        change(&mut file);
        serde_json::from_value::<File>(file).map_err(|error| error.to_string())?.config()
    }

    #[test]
    fn the_shorter_side_decides_and_the_form_stays() {
        let config = config(|_| {}).unwrap();
        let resized = |width, height| config.resized(Size { width, height });
        assert_eq!(resized(448, 300), Size { width: 334, height: 224 });
        assert_eq!(resized(300, 448), Size { width: 224, height: 334 });
        assert_eq!(resized(5, 5), Size { width: 224, height: 224 });
    }

    #[test]
    fn old_and_new_files_say_the_same() {
        let new = config(|file| {
            file["size"] = json!({"shortest_edge": 224});
            file["crop_size"] = json!({"height": 224, "width": 224});
            file["image_processor_type"] = json!("CLIPImageProcessor");
        });
        assert_eq!(config(|_| {}), new);
        assert_eq!(
            config(|file| file["feature_extractor_type"] = json!("CLIPFeatureExtractor")),
            new
        );
    }

    #[test]
    fn images_for_blip_are_squeezed_and_not_cut() {
        let config = config(|file| {
            file["image_processor_type"] = json!("BlipImageProcessor");
            file["size"] = json!({"height": 384, "width": 384});
            file["crop_size"] = json!(null);
        })
        .unwrap();
        let square = Size { width: 384, height: 384 };
        assert_eq!((config.seen, config.resized(Size { width: 640, height: 7 })), (square, square));
    }

    #[test]
    fn values_become_numbers_around_zero() {
        let numbers = config(|_| {}).unwrap().numbers;
        assert!((numbers[0][0] + 1.0).abs() < 1e-6 && (numbers[2][255] - 1.0).abs() < 1e-6);
        let plain = config(|file| file["do_normalize"] = json!(false)).unwrap().numbers;
        assert!((plain[1][51] - 0.2).abs() < 1e-6);
    }

    #[test]
    fn what_would_change_the_pixels_and_is_not_known_is_refused() {
        for (key, value, part) in [
            ("resample", json!(1), "resample is 1"),
            ("do_resize", json!(false), "do_resize"),
            ("do_pad", json!(true), "do_pad"),
            ("do_center_crop", json!(false), "do_center_crop"),
            ("crop_size", json!(225), "crop_size"),
            ("crop_size", json!(0), "crop_size"),
            ("size", json!({"height": 1, "width": 5_000}), "size"),
            ("image_mean", json!(null), "image_mean"),
            ("image_std", json!([0.5, 0.0, 0.5]), "not finite"),
            ("image_processor_type", json!("ViTImageProcessor"), "ViTImageProcessor"),
        ] {
            let error = config(|file| file[key] = value).unwrap_err();
            assert!(error.contains(part), "{key}: {error}");
        }
    }
}
