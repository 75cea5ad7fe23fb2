//! `config.json` of a model of faces.
//!
//! A setting that would change the results and that this engine does not know is refused.

use std::path::Path;

use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::{LoadError, json};

const MISSING: &str = "the model's `source` in the fleet file must name a folder with config.json and \
                       model.safetensors as scripts/faces-from-facenet-pytorch.py makes it";

/// A model of faces, from its file, checked.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct FacesConfig {
    pub(crate) detector: DetectorConfig,
    /// None in a model that only finds faces.
    pub(crate) recognizer: Option<RecognizerConfig>,
}

/// How faces are found.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DetectorConfig {
    /// How likely a face has to be after each of the three networks.
    pub(super) thresholds: [f32; 3],
    /// By how much each view of an image is smaller than the one before.
    pub(super) factor: f64,
}

/// What makes a vector of a face.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RecognizerConfig {
    /// Of the first layer: 32 in the published network, and even. The widths of all others are multiples of its half.
    #[serde(default = "usual_channels")]
    pub(crate) channels: usize,
    /// Numbers of a vector.
    #[serde(default = "usual_dimensions")]
    pub(crate) dimensions: usize,
    /// Sides of the square that a face is made, in pixels.
    #[serde(default = "usual_side")]
    pub(crate) image_size: usize,
    /// Those of its pixels that are around the face, on two sides together.
    #[serde(default)]
    pub(crate) margin: usize,
}

const fn usual_channels() -> usize {
    32
}

const fn usual_dimensions() -> usize {
    512
}

const fn usual_side() -> usize {
    160
}

/// Of a square in which nothing is left for the last layers, and more than any network sees.
const SIDES: std::ops::RangeInclusive<usize> = 80..=1_024;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(rename = "model_type")]
    _kind: IgnoredAny,
    detector: DetectorConfig,
    recognizer: Option<RecognizerConfig>,
}

impl FacesConfig {
    /// # Errors
    /// When the file is missing or not valid, or asks for something this engine does not do.
    pub(crate) fn read(directory: &Path) -> Result<Self, LoadError> {
        let path = directory.join("config.json");
        let file: Kind = json::read(&path, MISSING)?;
        if file.model_type != "facenet" {
            let what = format!("model_type is `{}`, only `facenet` is supported", file.model_type);
            return Err(LoadError::Unsupported { path, what });
        }
        let file: File = json::read(&path, MISSING)?;
        file.config().map_err(|what| LoadError::Unsupported { path, what })
    }
}

/// Read first: the file of another kind of model has other keys.
#[derive(Deserialize)]
struct Kind {
    #[serde(default)]
    model_type: String,
}

impl File {
    fn config(self) -> Result<FacesConfig, String> {
        let Self { _kind: _, detector, recognizer } = self;
        if !detector.thresholds.iter().all(|threshold| (0.01..=1.0).contains(threshold)) {
            return Err("detector.thresholds must be 0.01 to 1".to_owned());
        }
        if !(0.2..=0.95).contains(&detector.factor) {
            return Err("detector.factor must be 0.2 to 0.95".to_owned());
        }
        if let Some(recognizer) = &recognizer {
            recognizer.check()?;
        }
        Ok(FacesConfig { detector, recognizer })
    }
}

impl RecognizerConfig {
    fn check(&self) -> Result<(), String> {
        let Self { channels, dimensions, image_size, margin } = *self;
        if channels % 2 != 0 || !(2..=256).contains(&channels) {
            return Err("recognizer.channels must be an even number from 2 to 256".to_owned());
        }
        if !(1..=8_192).contains(&dimensions) {
            return Err("recognizer.dimensions must be 1 to 8192".to_owned());
        }
        if !SIDES.contains(&image_size) || margin >= image_size {
            let (least, most) = (SIDES.start(), SIDES.end());
            return Err(format!(
                "recognizer.image_size must be {least} to {most}, and margin smaller"
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::{Value, json};

    use super::*;

    fn read(change: impl FnOnce(&mut Value)) -> Result<FacesConfig, LoadError> {
        let mut file = json!({
            "model_type": "facenet",
            "detector": {"thresholds": [0.6, 0.7, 0.7], "factor": 0.709},
            "recognizer": {},
        });
        change(&mut file);
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("config.json"), file.to_string()).unwrap();
        FacesConfig::read(folder.path())
    }

    #[test]
    fn what_is_left_out_is_as_published() {
        let recognizer = read(|_| {}).unwrap().recognizer.unwrap();
        let usual = RecognizerConfig { channels: 32, dimensions: 512, image_size: 160, margin: 0 };
        assert_eq!(recognizer, usual);
        assert_eq!(read(|file| file["recognizer"] = json!(null)).unwrap().recognizer, None);
    }

    #[test]
    fn what_would_change_the_results_and_is_not_known_is_refused() {
        for (path, value, part) in [
            ("/model_type", json!("clip"), "model_type is `clip`"),
            ("/detector/thresholds/1", json!(0), "thresholds"),
            ("/detector/thresholds/2", json!(1.5), "thresholds"),
            ("/detector/factor", json!(1), "factor"),
            ("/recognizer", json!({"channels": 3}), "channels"),
            ("/recognizer", json!({"dimensions": 0}), "dimensions"),
            ("/recognizer", json!({"image_size": 79}), "image_size"),
            ("/recognizer", json!({"margin": 160}), "margin"),
            ("/recognizer", json!({"pooling": "max"}), "pooling"),
            ("/detector", json!({"thresholds": [1, 1, 1]}), "factor"),
        ] {
            let change = |file: &mut Value| *file.pointer_mut(path).unwrap() = value;
            let error = read(change).unwrap_err().to_string();
            assert!(error.contains(part) && error.contains("config.json"), "{path}: {error}");
        }
    }
}
