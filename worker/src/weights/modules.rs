//! `modules.json`: which folders of a model have a configuration of their own. No I/O.

use std::path::{Component, Path};

use serde::Deserialize;

#[derive(Deserialize)]
struct Module {
    #[serde(default)]
    path: String,
    #[serde(rename = "type")]
    kind: String,
}

/// A module's configuration file, relative to the model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ModuleFile {
    pub(super) name: String,
    /// The engine needs it; other modules may have none.
    pub(super) required: bool,
}

/// The configuration files of a model's modules, without the model's own.
///
/// # Errors
/// What is wrong with the file. A path that leads out of the model is.
pub(super) fn files(json: &[u8]) -> Result<Vec<ModuleFile>, String> {
    let modules: Vec<Module> = serde_json::from_slice(json).map_err(|error| error.to_string())?;
    let mut files = Vec::new();
    for Module { path, kind } in modules.into_iter().filter(|module| !module.path.is_empty()) {
        let plain = |part| matches!(part, Component::Normal(_));
        if !Path::new(&path).components().all(plain) {
            return Err("a module's path is not a folder of the model".to_owned());
        }
        let name = format!("{}/config.json", path.trim_end_matches('/'));
        files.push(ModuleFile { name, required: kind.ends_with("Pooling") });
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folders_that_are_named_are_looked_at() {
        let json = br#"[{"idx": 0, "path": "", "type": "sentence_transformers.models.Transformer"},
            {"idx": 1, "path": "pool", "type": "sentence_transformers.models.Pooling"},
            {"idx": 2, "path": "2_Normalize/", "type": "sentence_transformers.models.Normalize"}]"#;
        let file = |name: &str, required| ModuleFile { name: name.to_owned(), required };
        let expected = [file("pool/config.json", true), file("2_Normalize/config.json", false)];
        assert_eq!(files(json).unwrap(), expected);
    }

    #[test]
    fn what_makes_no_sense_or_leads_elsewhere_is_refused() {
        for path in ["../1_Pooling", "/etc", "a/../../b", "."] {
            let json = format!(r#"[{{"path": "{path}", "type": "Pooling"}}]"#);
            assert!(files(json.as_bytes()).is_err(), "{path}");
        }
        assert!(files(b"{}").is_err() && files(b"").is_err());
    }
}
