//! What the file says about images: how large they may be, and what they are compared with.

use crate::fleet::spec::{LimitsSpec, ModelSpec};
use crate::image::{ImageLimits, MOST_PIXELS};
use crate::request::Task;
use crate::zero_shot::ZeroShot;

/// The error is about the pixels. A file is never larger than all input of a job.
pub(super) fn image_limits(limits: &LimitsSpec) -> Result<ImageLimits, String> {
    let max_pixels = limits.max_image_pixels;
    if max_pixels == 0 || max_pixels > MOST_PIXELS {
        return Err(format!("must be 1 to {MOST_PIXELS}"));
    }
    let max_bytes = limits.max_image.bytes().min(limits.max_input.bytes());
    Ok(ImageLimits { max_bytes, max_pixels })
}

/// The error has the field that it is about.
pub(super) fn zero_shot(model: &ModelSpec) -> Result<ZeroShot, (&'static str, String)> {
    let given = !model.labels.is_empty() || model.label_template.is_some();
    if given && model.task != Task::ImageClassification {
        let problem = "are only for models of the task `image-classification`";
        return Err(("labels", problem.to_owned()));
    }
    ZeroShot::new(model.labels.clone(), model.label_template.clone())
}

#[cfg(test)]
mod tests {
    use crate::fleet::{Fleet, FleetSpec};
    use crate::ids::ModelName;

    use super::*;

    /// A fleet with one model, which has the task and more keys, and with more tables.
    fn check(task: &str, keys: &str, tables: &str) -> Result<Fleet, Vec<String>> {
        let text = format!(
            "fleet = \"dev\"\n[classes.standard]\nmax-wait = \"60s\"\n\
             [pools.default]\nmodels = [\"clip\"]\n\
             [models.clip]\ntask = \"{task}\"\nsource = \"file:/clip\"\n{keys}\n{tables}"
        );
        let spec: FleetSpec = toml::from_str(&text).expect("the text is TOML of the right form");
        spec.check().map_err(|problems| problems.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn labels_are_a_model_s_that_compares() {
        let keys = "labels = [\"cat\", \"dog\"]\nlabel-template = \"a {}\"";
        let fleet = check("image-classification", keys, "").unwrap();
        let model = &fleet.models[&ModelName::new("clip").unwrap()].zero_shot;
        assert_eq!((model.labels_for(&[]).len(), model.template_for("")), (2, "a {}"));
        for (task, keys, key) in [
            ("image-classification", "labels = [\"cat\", \"cat\"]", "models.clip.labels"),
            ("image-classification", "label-template = \"none\"", "models.clip.label-template"),
            ("image-embedding", "labels = [\"cat\"]", "models.clip.labels"),
            ("text-classification", "label-template = \"a {}\"", "models.clip.labels"),
        ] {
            let problems = check(task, keys, "").unwrap_err();
            assert!(problems.iter().any(|problem| problem.starts_with(key)), "{problems:?}");
        }
    }

    #[test]
    fn an_image_is_no_larger_than_all_input() {
        let limits = |tables| check("image-embedding", "", tables).unwrap().limits.image;
        assert_eq!(limits(""), ImageLimits::default());
        let small = ImageLimits { max_bytes: 1 << 20, max_pixels: 9 };
        assert_eq!(limits("[limits]\nmax-input = \"1MiB\"\nmax-image-pixels = 9"), small);
        for pixels in [0, MOST_PIXELS + 1] {
            let tables = format!("[limits]\nmax-image-pixels = {pixels}");
            let problems = check("image-embedding", "", &tables).unwrap_err();
            assert!(problems[0].starts_with("limits.max-image-pixels: must be"), "{problems:?}");
        }
    }
}
