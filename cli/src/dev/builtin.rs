//! The fleet of `stoker dev` when none is named: echo, and the demo's model where it is at hand.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use stoker_core::fleet::{Fleet, FleetSpec};
use stoker_runtime::config;

use super::plan::Staff;
use crate::failure::Failure;

const MODEL: &str = "all-minilm-l6-v2";
const MODEL_FOLDER: &str = ".cache/models/all-minilm-l6-v2";
/// The folder is complete when this is there.
const WEIGHTS: &str = "model.safetensors";

/// This machine as a cloud: small enough for a laptop, and quick enough to watch. Spot workers cost less than a third, and
/// are taken back now and again.
const MACHINES: &str = r#"
[pools.default.scaling]
max = 4
boot = "8s"

[[pools.default.offerings]]
instance-type = "small"
zone = "local"
capacity = "spot"
price = 0.30

[[pools.default.offerings]]
instance-type = "small"
zone = "local"
price = 1.00

[provider.local]
boot = "5s"
capacity = 4
interruptions = { every = "3m", notice = "20s", silent = 0.1 }
"#;

/// A fleet file that is made, not found.
#[derive(Debug)]
pub(crate) struct BuiltIn {
    text: String,
}

impl BuiltIn {
    /// With the model, if it is in this folder's cache.
    pub(crate) fn new(staff: Staff) -> Self {
        let model = fs::canonicalize(MODEL_FOLDER).ok();
        let model = model.filter(|folder| folder.join(WEIGHTS).is_file());
        let mut text = text(model.as_deref());
        if staff == Staff::Autoscaled {
            text.push_str(MACHINES);
        }
        Self { text }
    }

    /// What the file says.
    pub(crate) fn fleet(&self) -> Fleet {
        let spec: FleetSpec =
            config::parse_toml(&self.text, "the built-in fleet").expect("it is valid TOML");
        spec.check().expect("it is a valid fleet")
    }

    /// Writes it where the services can read it, and returns the path.
    pub(crate) fn write(&self, data: &Path) -> Result<PathBuf, Failure> {
        let path = data.join("fleet.toml");
        fs::write(&path, &self.text).map_err(|error| {
            Failure::failed(format!("cannot write {}: {error}", path.display()))
        })?;
        Ok(path)
    }
}

fn text(model: Option<&Path>) -> String {
    let mut text = String::from(
        "# Made by `stoker dev` at each start; name a file of your own with --fleet.\n\
         fleet = \"dev\"\n\n\
         [classes.standard]\nmax-wait = \"60s\"\n\n\
         [models.echo]\ntask = \"echo\"\n",
    );
    let mut models = "\"echo\"".to_owned();
    // A path that is not UTF-8 cannot be written in TOML.
    if let Some(folder) = model.and_then(Path::to_str) {
        let source = serde_json::Value::from(format!("file:{folder}"));
        write!(text, "\n[models.{MODEL}]\ntask = \"text-embedding\"\nsource = {source}\n")
            .expect("a string takes any text");
        write!(models, ", \"{MODEL}\"").expect("a string takes any text");
    }
    write!(text, "\n[pools.default]\nmodels = [{models}]\n").expect("a string takes any text");
    text
}

#[cfg(test)]
mod tests {
    use stoker_core::fleet::Source;

    use super::*;

    #[test]
    fn it_is_valid_with_and_without_the_model() {
        for (model, models) in [(None, 1), (Some(Path::new("/a \"b\"\\c")), 2)] {
            let fleet = BuiltIn { text: text(model) + MACHINES }.fleet();
            assert!(fleet.provider.is_some());
            let fleet = BuiltIn { text: text(model) }.fleet();
            assert_eq!(fleet.models.len(), models);
            if let Some(path) = model {
                assert_eq!(fleet.models[MODEL].source, Source::Directory(path.to_owned()));
            }
        }
    }
}
