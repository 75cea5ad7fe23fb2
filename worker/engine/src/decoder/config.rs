//! The shape of a decoder, from `config.json` or from a GGUF header, checked.
//!
//! A setting that would change the results and that this engine does not know is refused.

mod gguf;

use std::path::Path;

use serde::Deserialize;

use super::rope::{Llama3, RopeConfig, RopePairs, RopeScaling};
use crate::{LoadError, json};

pub(crate) use gguf::from_gguf;

const NOT_A_DECODER: &str = "the model's `source` in the fleet file must name a model for text generation: \
                             config.json, tokenizer.json and model.safetensors in one folder, or a GGUF file";

/// Sizes above these are no model's: what is computed from them stays far below what overflows.
const MOST: usize = 1 << 22;
const MOST_LAYERS: usize = 1_024;

/// What a network is made of.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct DecoderConfig {
    pub(crate) vocabulary: usize,
    pub(crate) hidden: usize,
    pub(crate) layers: usize,
    pub(crate) heads: usize,
    /// Heads of keys and values; divides `heads`.
    pub(crate) kv_heads: usize,
    pub(crate) head_width: usize,
    /// Width of the layers between attention and attention.
    pub(crate) wide: usize,
    pub(crate) epsilon: f32,
    pub(crate) rope: RopeConfig,
    /// Tokens of prompt and answer together.
    pub(crate) context: usize,
    /// How many tokens a token sees, itself included; `None`: all before it.
    pub(crate) window: Option<usize>,
    pub(crate) biases: Biases,
    pub(crate) head_norms: bool,
    /// The rows of the vocabulary are used for the output as well.
    pub(crate) tied: bool,
}

/// Which layers of attention have a bias.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Biases {
    None,
    QueryKeyValue,
    All,
}

/// `config.json` as transformers writes it.
#[derive(Debug, Deserialize)]
pub(crate) struct DecoderFile {
    model_type: String,
    vocab_size: usize,
    hidden_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    num_key_value_heads: Option<usize>,
    head_dim: Option<usize>,
    intermediate_size: usize,
    rms_norm_eps: f32,
    max_position_embeddings: usize,
    #[serde(default = "silu")]
    hidden_act: String,
    /// Older files have it beside `rope_scaling`, newer ones have both in `rope_parameters`.
    rope_theta: Option<f64>,
    #[serde(alias = "rope_parameters")]
    rope_scaling: Option<RopeFile>,
    sliding_window: Option<usize>,
    use_sliding_window: Option<bool>,
    #[serde(default)]
    attention_bias: bool,
    #[serde(default)]
    mlp_bias: bool,
    #[serde(default)]
    tie_word_embeddings: bool,
    pub(crate) eos_token_id: Option<TokenIds>,
}

fn silu() -> String {
    "silu".to_owned()
}

/// One token or several.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub(crate) enum TokenIds {
    One(u32),
    Several(Vec<u32>),
}

impl TokenIds {
    pub(crate) fn as_slice(&self) -> &[u32] {
        match self {
            Self::One(token) => std::slice::from_ref(token),
            Self::Several(tokens) => tokens,
        }
    }
}

#[derive(Debug, Deserialize)]
struct RopeFile {
    rope_theta: Option<f64>,
    #[serde(alias = "type")]
    rope_type: Option<String>,
    factor: Option<f64>,
    low_freq_factor: Option<f64>,
    high_freq_factor: Option<f64>,
    original_max_position_embeddings: Option<f64>,
}

impl DecoderFile {
    /// # Errors
    /// When there is no such file, or it is not a decoder's.
    pub(crate) fn read(directory: &Path) -> Result<Self, LoadError> {
        json::read(&directory.join("config.json"), NOT_A_DECODER)
    }
}

/// What the families differ in.
struct Traits {
    biases: Biases,
    head_norms: bool,
    window: Option<usize>,
}

impl DecoderConfig {
    /// Says what this engine does not do.
    pub(crate) fn from_file(file: &DecoderFile) -> Result<Self, String> {
        if file.hidden_act != "silu" {
            return Err(format!("hidden_act is `{}`, only silu is supported", file.hidden_act));
        }
        if file.mlp_bias {
            return Err("mlp_bias is true, which is not supported".to_owned());
        }
        let Traits { biases, head_norms, window } = traits(file)?;
        let heads = file.num_attention_heads;
        let config = Self {
            vocabulary: file.vocab_size,
            hidden: file.hidden_size,
            layers: file.num_hidden_layers,
            heads,
            kv_heads: file.num_key_value_heads.unwrap_or(heads),
            head_width: file.head_dim.unwrap_or_else(|| file.hidden_size / heads.max(1)),
            wide: file.intermediate_size,
            epsilon: file.rms_norm_eps,
            rope: rope(file)?,
            context: file.max_position_embeddings,
            window,
            biases,
            head_norms,
            tied: file.tie_word_embeddings,
        };
        config.check()?;
        Ok(config)
    }

    /// Whether the sizes are those of a network.
    pub(super) fn check(&self) -> Result<(), String> {
        let Self { vocabulary, hidden, layers, heads, kv_heads, head_width, wide, context, .. } =
            *self;
        for (name, size, most) in [
            ("the vocabulary", vocabulary, MOST),
            ("a token", hidden, MOST),
            ("the network's depth", layers, MOST_LAYERS),
            ("attention", heads, MOST_LAYERS),
            ("keys and values", kv_heads, MOST_LAYERS),
            ("a head", head_width, MOST_LAYERS),
            ("the layer between", wide, MOST),
            ("the context", context, 1 << 28),
        ] {
            if size == 0 || size > most {
                return Err(format!("{name} has a size of {size}, expected 1 to {most}"));
            }
        }
        if heads % kv_heads != 0 {
            return Err(format!("{heads} heads of queries cannot share {kv_heads} of keys"));
        }
        if head_width % 2 != 0 {
            return Err(format!("a head has {head_width} numbers, an odd number"));
        }
        if !(self.epsilon > 0.0 && self.epsilon < 1.0) {
            return Err(format!("the norms' epsilon is {}", self.epsilon));
        }
        if !(self.rope.base >= 1.0 && self.rope.base.is_finite()) {
            return Err(format!("the base of the positions' angles is {}", self.rope.base));
        }
        Ok(())
    }
}

fn traits(file: &DecoderFile) -> Result<Traits, String> {
    let biases = if file.attention_bias { Biases::All } else { Biases::None };
    let plain = Traits { biases: Biases::None, head_norms: false, window: None };
    match file.model_type.as_str() {
        "llama" => Ok(Traits { biases, ..plain }),
        "mistral" => Ok(Traits { window: file.sliding_window, ..plain }),
        // Windows of some layers only.
        "qwen2" | "qwen3" if file.use_sliding_window == Some(true) => {
            Err("use_sliding_window is true, which is not supported".to_owned())
        }
        "qwen2" => Ok(Traits { biases: Biases::QueryKeyValue, ..plain }),
        "qwen3" => Ok(Traits { biases, head_norms: true, ..plain }),
        other => Err(format!(
            "model_type is `{other}`, only llama, mistral, qwen2 and qwen3 are supported"
        )),
    }
}

fn rope(file: &DecoderFile) -> Result<RopeConfig, String> {
    const BASE: f64 = 10_000.0;
    let pairs = RopePairs::Halves;
    let Some(rope) = &file.rope_scaling else {
        let base = file.rope_theta.unwrap_or(BASE);
        return Ok(RopeConfig { base, scaling: RopeScaling::None, pairs });
    };
    let number = |name: &str, value: Option<f64>| {
        let value = value.ok_or_else(|| format!("the positions' {name} is missing"))?;
        let sound = value > 0.0 && value.is_finite();
        if sound { Ok(value) } else { Err(format!("the positions' {name} is {value}")) }
    };
    let scaling = match rope.rope_type.as_deref() {
        None | Some("default") => RopeScaling::None,
        Some("linear") => RopeScaling::Linear(number("factor", rope.factor)?),
        Some("llama3") => RopeScaling::Llama3(Llama3 {
            factor: number("factor", rope.factor)?,
            low: number("low_freq_factor", rope.low_freq_factor)?,
            high: number("high_freq_factor", rope.high_freq_factor)?,
            original: number(
                "original_max_position_embeddings",
                rope.original_max_position_embeddings,
            )?,
        }),
        Some(other) => {
            return Err(format!(
                "positions are of the type `{other}`, only default, linear and llama3 are supported"
            ));
        }
    };
    let base = rope.rope_theta.or(file.rope_theta).unwrap_or(BASE);
    Ok(RopeConfig { base, scaling, pairs })
}
