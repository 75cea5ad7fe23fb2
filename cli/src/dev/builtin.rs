//! The fleet of `stoker dev` when none is named: echo, and the demo's model where it is at hand.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use crate::failure::Failure;

const MODEL: &str = "all-minilm-l6-v2";
const MODEL_FOLDER: &str = ".cache/models/all-minilm-l6-v2";
/// The folder is complete when this is there.
const WEIGHTS: &str = "model.safetensors";

/// Writes the file into the fleet's data folder and returns its path.
pub(crate) fn write_fleet(data: &Path) -> Result<PathBuf, Failure> {
    let model = fs::canonicalize(MODEL_FOLDER).ok().filter(|folder| folder.join(WEIGHTS).is_file());
    let path = data.join("fleet.toml");
    fs::write(&path, text(model.as_deref()))
        .map_err(|error| Failure::failed(format!("cannot write {}: {error}", path.display())))?;
    Ok(path)
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
    use stoker_core::fleet::{FleetSpec, Source};
    use stoker_runtime::config::parse_toml;

    use super::*;

    #[test]
    fn it_is_valid_with_and_without_the_model() {
        for (model, models) in [(None, 1), (Some(Path::new("/a \"b\"\\c")), 2)] {
            let spec: FleetSpec = parse_toml(&text(model), "built in").unwrap();
            let fleet = spec.check().unwrap();
            assert_eq!(fleet.models.len(), models);
            if let Some(path) = model {
                assert_eq!(fleet.models[MODEL].source, Source::Directory(path.to_owned()));
            }
        }
    }
}
