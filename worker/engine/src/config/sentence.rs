//! What follows the network in a sentence-transformers model: pooling, normalization, prompts.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use serde::Deserialize;

use super::{DefaultPrompt, HeadConfig, NOT_A_SENTENCE_MODEL as NOT_A_MODEL, Pooling, TextRules};
use crate::{LoadError, json};

/// The head of an embedding model, and how its texts are to be read.
///
/// # Errors
/// When a file is missing or not valid, or asks for something this engine does not do.
pub(super) fn read(
    directory: &Path,
    width: usize,
    default_prompt: DefaultPrompt,
) -> Result<(HeadConfig, TextRules), LoadError> {
    let modules = Modules::read(directory)?;
    let pooling = read_pooling(directory, &modules.pooling, width)?;
    check_default_prompt(directory, default_prompt)?;
    let file: TransformerFile =
        json::read_optional(&directory.join("sentence_bert_config.json"))?.unwrap_or_default();
    let head = HeadConfig::Vector { pooling, normalize: modules.normalize };
    let rules = TextRules { lowercase: file.do_lower_case, max_tokens: file.max_seq_length };
    Ok((head, rules))
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct TransformerFile {
    max_seq_length: Option<usize>,
    do_lower_case: bool,
}

/// What follows the network, from `modules.json`.
struct Modules {
    pooling: PathBuf,
    normalize: bool,
}

#[derive(Deserialize)]
struct ModuleEntry {
    #[serde(default)]
    path: String,
    #[serde(rename = "type")]
    kind: String,
}

impl Modules {
    fn read(directory: &Path) -> Result<Self, LoadError> {
        let path = directory.join("modules.json");
        let entries: Vec<ModuleEntry> = json::read(&path, NOT_A_MODEL)?;
        let kinds: Vec<&str> =
            entries.iter().map(|entry| entry.kind.rsplit('.').next().unwrap_or_default()).collect();
        let normalize = match kinds.as_slice() {
            ["Transformer", "Pooling"] => false,
            ["Transformer", "Pooling", "Normalize"] => true,
            other => {
                let what = format!(
                    "the modules are {}, expected Transformer, Pooling and perhaps Normalize",
                    other.join(", ")
                );
                return Err(LoadError::Unsupported { path, what });
            }
        };
        let pooling = PathBuf::from(&entries[1].path);
        let plain = |part| matches!(part, Component::Normal(_));
        if entries[0].path.is_empty() && pooling.components().all(plain) {
            Ok(Self { pooling, normalize })
        } else {
            let what = "a module's path is not a folder of the model".to_owned();
            Err(LoadError::Unsupported { path, what })
        }
    }
}

/// Older files have one flag per mode, `pooling_mode_cls_token` and the like; newer ones a word.
#[derive(Deserialize)]
struct PoolingFile {
    #[serde(alias = "embedding_dimension")]
    word_embedding_dimension: usize,
    pooling_mode: Option<String>,
    include_prompt: Option<bool>,
    #[serde(flatten)]
    others: BTreeMap<String, serde_json::Value>,
}

impl PoolingFile {
    /// The modes that are on, also those this engine has never heard of.
    fn modes(&self) -> Vec<&str> {
        if let Some(mode) = &self.pooling_mode {
            return vec![mode];
        }
        let on = self.others.iter().filter(|(_, value)| value.as_bool() == Some(true));
        on.filter_map(|(name, _)| name.strip_prefix("pooling_mode_"))
            .map(|name| match name {
                "cls_token" => "cls",
                "mean_tokens" => "mean",
                other => other,
            })
            .collect()
    }
}

fn read_pooling(directory: &Path, module: &Path, width: usize) -> Result<Pooling, LoadError> {
    let path = directory.join(module).join("config.json");
    let file: PoolingFile = json::read(&path, NOT_A_MODEL)?;
    if file.word_embedding_dimension != width {
        let found = file.word_embedding_dimension;
        let what = format!("word_embedding_dimension is {found}, but hidden_size is {width}");
        return Err(LoadError::Unsupported { path, what });
    }
    if file.include_prompt == Some(false) {
        let what =
            "include_prompt is false, pooling without the prompt is not supported".to_owned();
        return Err(LoadError::Unsupported { path, what });
    }
    match file.modes().as_slice() {
        ["mean"] => Ok(Pooling::Mean),
        ["cls"] => Ok(Pooling::Cls),
        modes => {
            let what = format!("pooling is {}, expected mean or cls", modes.join(" and "));
            Err(LoadError::Unsupported { path, what })
        }
    }
}

#[derive(Deserialize)]
struct SentenceTransformersFile {
    #[serde(default)]
    default_prompt_name: Option<String>,
}

/// A default prompt is text put before every input; leaving it out would change every vector. It is
/// the fleet file's to say, so that who submits and who computes agree on it.
fn check_default_prompt(directory: &Path, given: DefaultPrompt) -> Result<(), LoadError> {
    let path = directory.join("config_sentence_transformers.json");
    let file: Option<SentenceTransformersFile> = json::read_optional(&path)?;
    match (file.and_then(|file| file.default_prompt_name), given) {
        (None, _) | (Some(_), DefaultPrompt::Given) => Ok(()),
        (Some(name), DefaultPrompt::None) => {
            let what = format!(
                "default_prompt_name is `{name}`: give the model its `prompts` and `default-prompt` in \
                 the fleet file"
            );
            Err(LoadError::Unsupported { path, what })
        }
    }
}
