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

/// All of them are in memory at once.
const MAX_DESCRIPTIONS_BYTES: u64 = 256 << 20;

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

/// What an engine needs of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Needs {
    /// Files beside weights in safetensors, by their paths in the folder.
    pub files: &'static [&'static str],
    /// Whether weights may be GGUF, which needs no other file.
    pub gguf: bool,
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
    /// When there are no weights of one file, or a file is missing that the engine needs, or there is too much.
    pub(crate) fn of(mut files: Vec<Listed>, needs: Needs) -> Result<Self, Refused> {
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
        let chosen = Self { descriptions, weights };
        chosen.check_needs(needs)?;
        chosen.check_bounds()?;
        Ok(chosen)
    }

    fn check_needs(&self, needs: Needs) -> Result<(), Refused> {
        if self.weights.name != WEIGHTS {
            let name = self.weights.name.clone();
            return if needs.gguf { Ok(()) } else { Err(Refused::Gguf { name }) };
        }
        let is_there = |name: &&str| self.descriptions.iter().any(|file| file.name == *name);
        match needs.files.iter().copied().find(|name| !is_there(name)) {
            Some(name) => Err(Refused::Missing { name }),
            None => Ok(()),
        }
    }

    fn check_bounds(&self) -> Result<(), Refused> {
        if self.descriptions.len() > MAX_DESCRIPTIONS {
            return Err(Refused::TooMany { limit: MAX_DESCRIPTIONS });
        }
        if let Some(file) = self.descriptions.iter().find(|file| file.size > MAX_DESCRIPTION) {
            return Err(Refused::TooLarge { name: file.name.clone(), bytes: file.size });
        }
        let bytes = self.description_bytes();
        if bytes > MAX_DESCRIPTIONS_BYTES {
            return Err(Refused::TooMuch { bytes, limit: MAX_DESCRIPTIONS_BYTES });
        }
        Ok(())
    }

    /// Bytes of all of it.
    pub(crate) fn bytes(&self) -> u64 {
        self.weights.size.saturating_add(self.description_bytes())
    }

    fn description_bytes(&self) -> u64 {
        self.descriptions.iter().map(|file| file.size).fold(0, u64::saturating_add)
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
    // In the folder itself, where an engine looks, and in whatever case.
    let is_gguf = |name: &str| !name.contains('/') && extension(name).eq_ignore_ascii_case(GGUF);
    let mut gguf = files.iter().filter(|file| is_gguf(&file.name));
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

    const ANY: Needs = Needs { files: &[], gguf: true };

    fn chosen(names: &[&str]) -> (Vec<String>, String) {
        let Selection { descriptions, weights } = Selection::of(files(names), ANY).unwrap();
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
        let refused = |names: &[&str]| Selection::of(files(names), ANY).unwrap_err();
        assert_eq!(refused(&[]), Refused::Empty);
        assert_eq!(refused(&["config.json"]), Refused::NoWeights);
        assert_eq!(refused(&["a.gguf", "b.gguf"]), Refused::SeveralWeights);
        assert_eq!(refused(&["model.safetensors.index.json"]), Refused::Sharded);
        assert!(matches!(refused(&["pytorch_model.bin"]), Refused::Pickle { .. }));
    }

    #[test]
    fn gguf_is_taken_from_the_folder_itself_in_whatever_case() {
        assert_eq!(chosen(&["M-Q4.GGUF", "old/a.gguf", "old/b.gguf"]).1, "M-Q4.GGUF");
        let refused = |names: &[&str]| Selection::of(files(names), ANY).unwrap_err();
        assert_eq!(refused(&["old/a.gguf"]), Refused::NoWeights);
        assert_eq!(refused(&["a.gguf", "b.GGUF"]), Refused::SeveralWeights);
    }

    #[test]
    fn what_the_engine_needs_is_asked_of_the_names() {
        let needs = Needs { files: &["config.json", "modules.json"], gguf: false };
        let of = |names: &[&str]| Selection::of(files(names), needs).map(|_| ());
        assert_eq!(of(&[WEIGHTS, "config.json", "modules.json"]), Ok(()));
        assert_eq!(of(&[WEIGHTS, "config.json"]), Err(Refused::Missing { name: "modules.json" }));
        let elsewhere = of(&[WEIGHTS, "a/config.json", "modules.json"]);
        assert_eq!(elsewhere, Err(Refused::Missing { name: "config.json" }));
        assert_eq!(of(&["a.gguf"]), Err(Refused::Gguf { name: "a.gguf".to_owned() }));
        let needs = Needs { gguf: true, ..needs };
        assert!(Selection::of(files(&["a.gguf"]), needs).is_ok(), "it describes itself");
    }

    #[test]
    fn what_describes_a_model_is_bounded_each_and_together() {
        let refused = |files: Vec<Listed>| Selection::of(files, ANY).unwrap_err();
        let of_size = |size: u64, count: usize| {
            let name = |number: usize| format!("{number}.json");
            let one = |number| Listed { name: name(number), size, tag: None };
            (0..count).map(one).chain(files(&[WEIGHTS])).collect::<Vec<_>>()
        };
        let large = refused(of_size(MAX_DESCRIPTION + 1, 1));
        assert!(matches!(large, Refused::TooLarge { .. }), "{large}");
        assert_eq!(
            refused(of_size(1, MAX_DESCRIPTIONS + 1)),
            Refused::TooMany { limit: MAX_DESCRIPTIONS }
        );
        assert!(Selection::of(of_size(MAX_DESCRIPTION, 4), ANY).is_ok());
        let (bytes, limit) = (5 * MAX_DESCRIPTION, MAX_DESCRIPTIONS_BYTES);
        assert_eq!(refused(of_size(MAX_DESCRIPTION, 5)), Refused::TooMuch { bytes, limit });
    }
}
