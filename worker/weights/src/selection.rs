//! Which of the files under a folder are a model's. No I/O.

use crate::error::Refused;

const WEIGHTS: &str = "model.safetensors";
const WEIGHTS_INDEX: &str = "model.safetensors.index.json";
const GGUF: &str = "gguf";

/// Extensions of files that describe a model: text, nothing that runs.
const DESCRIPTIONS: [&str; 4] = ["json", "txt", "model", "jinja"];

/// Extensions of pickled weights.
const PICKLED: [&str; 5] = ["bin", "pt", "pth", "ckpt", "pkl"];

/// A tokenizer of a large vocabulary has some ten megabytes.
const MAX_DESCRIPTION: u64 = 64 << 20;

/// No model needs as many; a folder of many models is not a model.
const MAX_DESCRIPTIONS: usize = 100;

/// Files that a folder may hold; more of them are not looked at.
pub(crate) const MAX_FILES: usize = 10_000;

/// A file in the folder, by its path relative to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Listed {
    pub(crate) name: String,
    pub(crate) size: u64,
    /// Changes with the content, where the store says so.
    pub(crate) tag: Option<String>,
}

/// What is fetched of a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Selection {
    /// In the order of their names.
    pub(crate) descriptions: Vec<Listed>,
    pub(crate) weights: Listed,
}

impl Selection {
    /// Chooses the weights, and what describes the model.
    ///
    /// # Errors
    /// When there are no weights of one file.
    pub(crate) fn of(mut files: Vec<Listed>) -> Result<Self, Refused> {
        if files.is_empty() {
            return Err(Refused::Empty);
        }
        if files.len() > MAX_FILES {
            return Err(Refused::TooMany { limit: MAX_FILES });
        }
        files.retain(|file| is_plain(&file.name));
        files.sort_by(|a, b| a.name.cmp(&b.name));
        let weights = weights(&files)?.clone();
        let is_description = |file: &&Listed| DESCRIPTIONS.contains(&extension(&file.name));
        let descriptions: Vec<Listed> = files.iter().filter(is_description).cloned().collect();
        if descriptions.len() > MAX_DESCRIPTIONS {
            return Err(Refused::TooMany { limit: MAX_DESCRIPTIONS });
        }
        match descriptions.iter().find(|file| file.size > MAX_DESCRIPTION) {
            Some(file) => Err(Refused::TooLarge { name: file.name.clone(), bytes: file.size }),
            None => Ok(Self { descriptions, weights }),
        }
    }

    /// Bytes of all of it.
    pub(crate) fn bytes(&self) -> u64 {
        let sizes = self.descriptions.iter().map(|file| file.size);
        sizes.fold(self.weights.size, u64::saturating_add)
    }
}

fn weights(files: &[Listed]) -> Result<&Listed, Refused> {
    let named = |name: &str| files.iter().find(|file| file.name == name);
    if let Some(found) = named(WEIGHTS) {
        return Ok(found);
    }
    if named(WEIGHTS_INDEX).is_some() {
        return Err(Refused::Sharded);
    }
    let mut gguf = files.iter().filter(|file| extension(&file.name) == GGUF);
    match (gguf.next(), gguf.next()) {
        (Some(only), None) => return Ok(only),
        (Some(_), Some(_)) => return Err(Refused::SeveralWeights),
        (None, _) => {}
    }
    match files.iter().find(|file| PICKLED.contains(&extension(&file.name))) {
        Some(file) => Err(Refused::Pickle { name: file.name.clone() }),
        None => Err(Refused::NoWeights),
    }
}

/// A relative path that stays inside of the folder.
fn is_plain(name: &str) -> bool {
    !name.contains('\\')
        && !name.contains('\0')
        && name.split('/').all(|part| !part.is_empty() && part != "." && part != "..")
}

fn extension(name: &str) -> &str {
    let file = name.rsplit('/').next().unwrap_or(name);
    file.rsplit_once('.').map_or("", |(_, extension)| extension)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(names: &[&str]) -> Vec<Listed> {
        let listed = |name: &&str| Listed { name: (*name).to_owned(), size: 1, tag: None };
        names.iter().map(listed).collect()
    }

    fn chosen(names: &[&str]) -> (Vec<String>, String) {
        let Selection { descriptions, weights } = Selection::of(files(names)).unwrap();
        (descriptions.into_iter().map(|file| file.name).collect(), weights.name)
    }

    #[test]
    fn weights_and_what_describes_them_are_fetched_and_nothing_else() {
        let names = ["tokenizer.json", "config.json", "1_Pooling/config.json", "pytorch_model.bin"];
        let more = ["model.safetensors", "run.py", "../evil.json", "a//b.json"];
        let (descriptions, weights) = chosen(&[&names[..], &more].concat());
        assert_eq!(descriptions, ["1_Pooling/config.json", "config.json", "tokenizer.json"]);
        assert_eq!(weights, "model.safetensors");
        assert_eq!(chosen(&["m-q4.gguf", "config.json"]).1, "m-q4.gguf");
    }

    #[test]
    fn a_folder_without_usable_weights_is_refused_with_the_reason() {
        let refused = |names: &[&str]| Selection::of(files(names)).unwrap_err();
        assert_eq!(refused(&[]), Refused::Empty);
        assert_eq!(refused(&["config.json"]), Refused::NoWeights);
        assert_eq!(refused(&["a.gguf", "b.gguf"]), Refused::SeveralWeights);
        assert_eq!(refused(&["model.safetensors.index.json"]), Refused::Sharded);
        assert!(matches!(refused(&["pytorch_model.bin"]), Refused::Pickle { .. }));
        let mut large = files(&["config.json", "model.safetensors"]);
        large[0].size = MAX_DESCRIPTION + 1;
        assert!(matches!(Selection::of(large), Err(Refused::TooLarge { .. })));
        let many: Vec<String> = (0..=MAX_DESCRIPTIONS).map(|n| format!("{n}.json")).collect();
        let mut many: Vec<&str> = many.iter().map(String::as_str).collect();
        many.push(WEIGHTS);
        assert!(matches!(Selection::of(files(&many)), Err(Refused::TooMany { .. })));
    }
}
