//! What a sentence-transformers model says about itself, checked.
//!
//! A setting that would change the vectors and that this engine does not know is refused: an
//! unknown model is better than a wrong vector.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use serde::Deserialize;

use crate::{LoadError, json};

const NOT_A_MODEL: &str = "the model's `source` in the fleet file must name a sentence-transformers model: \
                           config.json, modules.json, tokenizer.json and model.safetensors in one folder";

/// A model's configuration, from all its files.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelConfig {
    pub bert: BertConfig,
    pub pooling: Pooling,
    /// Whether vectors are scaled to length 1.
    pub normalize: bool,
    /// Whether texts are lowercased before the tokenizer sees them.
    pub lowercase: bool,
    /// Tokens that the model reads, special tokens included.
    pub max_tokens: usize,
}

/// How the vectors of the tokens become the vector of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pooling {
    /// The mean over all tokens.
    Mean,
    /// The first token, `[CLS]`.
    Cls,
}

/// The shape of the network.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct BertConfig {
    pub vocab_size: usize,
    pub hidden_size: usize,
    pub num_hidden_layers: usize,
    pub num_attention_heads: usize,
    pub intermediate_size: usize,
    pub max_position_embeddings: usize,
    pub type_vocab_size: usize,
    #[serde(default = "default_epsilon")]
    pub layer_norm_eps: f64,
    #[serde(default)]
    model_type: String,
    #[serde(default = "default_activation")]
    hidden_act: String,
    #[serde(default = "default_position")]
    position_embedding_type: String,
    #[serde(default)]
    is_decoder: bool,
}

const fn default_epsilon() -> f64 {
    1e-12
}

fn default_activation() -> String {
    "gelu".to_owned()
}

fn default_position() -> String {
    "absolute".to_owned()
}

impl BertConfig {
    /// Numbers per attention head.
    pub fn head_width(&self) -> usize {
        self.hidden_size / self.num_attention_heads
    }

    fn problem(&self) -> Option<String> {
        if self.model_type != "bert" {
            return Some(format!("model_type is `{}`, only bert is supported", self.model_type));
        }
        if self.hidden_act != "gelu" {
            return Some(format!("hidden_act is `{}`, only gelu is supported", self.hidden_act));
        }
        if self.position_embedding_type != "absolute" {
            let kind = &self.position_embedding_type;
            return Some(format!(
                "position_embedding_type is `{kind}`, only absolute is supported"
            ));
        }
        if self.is_decoder {
            return Some("is_decoder is true, only encoders are supported".to_owned());
        }
        let sizes = [
            ("vocab_size", self.vocab_size, 10_000_000),
            ("hidden_size", self.hidden_size, 65_536),
            ("num_hidden_layers", self.num_hidden_layers, 1_000),
            ("num_attention_heads", self.num_attention_heads, 65_536),
            ("intermediate_size", self.intermediate_size, 1_000_000),
            ("max_position_embeddings", self.max_position_embeddings, 1_000_000),
            ("type_vocab_size", self.type_vocab_size, 1_000),
        ];
        if let Some((name, size, limit)) =
            sizes.into_iter().find(|(_, size, limit)| *size == 0 || size > limit)
        {
            return Some(format!("{name} is {size}, expected 1 to {limit}"));
        }
        if !self.hidden_size.is_multiple_of(self.num_attention_heads) {
            return Some("hidden_size is not a multiple of num_attention_heads".to_owned());
        }
        if !(0.0..1.0).contains(&self.layer_norm_eps) {
            return Some(format!("layer_norm_eps is {}", self.layer_norm_eps));
        }
        None
    }
}

impl ModelConfig {
    /// Reads and checks all configuration files of a model.
    ///
    /// # Errors
    /// When a file is missing or not valid, or asks for something this engine does not do.
    pub fn read(directory: &Path) -> Result<Self, LoadError> {
        let path = directory.join("config.json");
        let bert: BertConfig = json::read(&path, NOT_A_MODEL)?;
        if let Some(what) = bert.problem() {
            return Err(LoadError::Unsupported { path, what });
        }
        let modules = Modules::read(directory)?;
        let pooling = read_pooling(directory, &modules.pooling, bert.hidden_size)?;
        refuse_prompt(directory)?;
        let transformer: TransformerFile =
            json::read_optional(&directory.join("sentence_bert_config.json"))?.unwrap_or_default();
        let tokenizer: TokenizerFile =
            json::read_optional(&directory.join("tokenizer_config.json"))?.unwrap_or_default();
        let max_tokens = transformer.max_seq_length.or_else(|| tokenizer.max_tokens());
        Ok(Self {
            max_tokens: max_tokens
                .map_or(bert.max_position_embeddings, |max| max.min(bert.max_position_embeddings)),
            pooling,
            normalize: modules.normalize,
            lowercase: transformer.do_lower_case,
            bert,
        })
    }
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct TransformerFile {
    max_seq_length: Option<usize>,
    do_lower_case: bool,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct TokenizerFile {
    /// A float in some files: "no limit" is written as 1e30.
    model_max_length: Option<f64>,
}

impl TokenizerFile {
    fn max_tokens(&self) -> Option<usize> {
        let limit = self.model_max_length.filter(|limit| (1.0..1e9).contains(limit))?;
        format!("{limit:.0}").parse().ok()
    }
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

/// A default prompt is text put before every input; leaving it out would change every vector.
fn refuse_prompt(directory: &Path) -> Result<(), LoadError> {
    let path = directory.join("config_sentence_transformers.json");
    let file: Option<SentenceTransformersFile> = json::read_optional(&path)?;
    match file.and_then(|file| file.default_prompt_name) {
        None => Ok(()),
        Some(name) => {
            let what =
                format!("default_prompt_name is `{name}`, default prompts are not supported");
            Err(LoadError::Unsupported { path, what })
        }
    }
}
