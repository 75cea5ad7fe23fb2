//! The shape of a Whisper model, from its files, checked.
//!
//! A setting that would change the results and that this engine does not know is refused.

use std::path::Path;

use serde::Deserialize;

use crate::{LoadError, json};

const NOT_A_MODEL: &str = "the model's `source` in the fleet file must name a Whisper model of transformers: config.json, \
                           tokenizer.json and model.safetensors in one folder";

/// Sizes above these are no model's: what is computed from them stays far below what overflows.
const MOST: usize = 1 << 20;
const MOST_LAYERS: usize = 256;

/// What a network is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WhisperConfig {
    pub(crate) vocabulary: usize,
    pub(crate) hidden: usize,
    /// Numbers of each frame of features.
    pub(crate) bands: usize,
    /// Rows that the encoder makes of a window.
    pub(crate) places: usize,
    /// Tokens that the decoder reads and writes, together.
    pub(crate) context: usize,
    pub(crate) encoder: Stack,
    pub(crate) decoder: Stack,
    /// The token with which everything begins.
    pub(crate) start: u32,
    /// The token with which a text ends.
    pub(crate) end: u32,
}

/// The layers of an encoder or a decoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stack {
    pub(crate) layers: usize,
    pub(crate) heads: usize,
    /// Width between two layers.
    pub(crate) wide: usize,
}

/// `config.json` as transformers writes it.
#[derive(Debug, Deserialize)]
struct File {
    model_type: String,
    vocab_size: usize,
    d_model: usize,
    num_mel_bins: usize,
    max_source_positions: usize,
    max_target_positions: usize,
    encoder_layers: usize,
    encoder_attention_heads: usize,
    encoder_ffn_dim: usize,
    decoder_layers: usize,
    decoder_attention_heads: usize,
    decoder_ffn_dim: usize,
    #[serde(default = "gelu")]
    activation_function: String,
    #[serde(default)]
    scale_embedding: bool,
    #[serde(default = "yes")]
    tie_word_embeddings: bool,
    decoder_start_token_id: u32,
    eos_token_id: u32,
}

fn gelu() -> String {
    "gelu".to_owned()
}

const fn yes() -> bool {
    true
}

/// `preprocessor_config.json`: how features are made, which all models agree on.
#[derive(Debug, Deserialize)]
struct Features {
    #[serde(default = "n_fft")]
    n_fft: u32,
    #[serde(default = "hop_length")]
    hop_length: u32,
    #[serde(default = "sampling_rate")]
    sampling_rate: u32,
}

const fn n_fft() -> u32 {
    400
}

const fn hop_length() -> u32 {
    160
}

const fn sampling_rate() -> u32 {
    16_000
}

impl WhisperConfig {
    /// # Errors
    /// When a file is missing or not valid, or says something that this engine does not do.
    pub(crate) fn read(directory: &Path) -> Result<Self, LoadError> {
        let path = directory.join("config.json");
        let file: File = json::read(&path, NOT_A_MODEL)?;
        let config = Self::new(&file);
        let config = config.map_err(|what| LoadError::Unsupported { path, what })?;
        let path = directory.join("preprocessor_config.json");
        if let Some(features) = json::read_optional::<Features>(&path)? {
            check_features(&features).map_err(|what| LoadError::Unsupported { path, what })?;
        }
        Ok(config)
    }

    /// Frames of features in a window.
    pub(crate) const fn frames(&self) -> usize {
        2 * self.places
    }

    fn new(file: &File) -> Result<Self, String> {
        if file.model_type != "whisper" {
            return Err(format!("model_type is `{}`, which cannot listen", file.model_type));
        }
        if file.activation_function != "gelu" {
            let name = &file.activation_function;
            return Err(format!("activation_function is `{name}`, which is not supported"));
        }
        if file.scale_embedding || !file.tie_word_embeddings {
            let name = if file.scale_embedding { "scale_embedding" } else { "tie_word_embeddings" };
            return Err(format!("{name} is not as in Whisper models, which is not supported"));
        }
        check_sizes(file)?;
        let vocabulary = u32::try_from(file.vocab_size).unwrap_or(u32::MAX);
        let ids = [
            ("decoder_start_token_id", file.decoder_start_token_id),
            ("eos_token_id", file.eos_token_id),
        ];
        if let Some((name, id)) = ids.into_iter().find(|(_, id)| *id >= vocabulary) {
            return Err(format!("{name} is {id}, and there are {vocabulary} tokens"));
        }
        Ok(Self {
            vocabulary: file.vocab_size,
            hidden: file.d_model,
            bands: file.num_mel_bins,
            places: file.max_source_positions,
            context: file.max_target_positions,
            encoder: Stack {
                layers: file.encoder_layers,
                heads: file.encoder_attention_heads,
                wide: file.encoder_ffn_dim,
            },
            decoder: Stack {
                layers: file.decoder_layers,
                heads: file.decoder_attention_heads,
                wide: file.decoder_ffn_dim,
            },
            start: file.decoder_start_token_id,
            end: file.eos_token_id,
        })
    }
}

fn check_sizes(file: &File) -> Result<(), String> {
    let sizes = [
        ("vocab_size", file.vocab_size, MOST),
        ("d_model", file.d_model, MOST),
        ("num_mel_bins", file.num_mel_bins, 512),
        // A window of five minutes; real ones are of thirty seconds.
        ("max_source_positions", file.max_source_positions, 15_000),
        ("max_target_positions", file.max_target_positions, MOST),
        ("encoder_layers", file.encoder_layers, MOST_LAYERS),
        ("encoder_attention_heads", file.encoder_attention_heads, MOST),
        ("encoder_ffn_dim", file.encoder_ffn_dim, MOST),
        ("decoder_layers", file.decoder_layers, MOST_LAYERS),
        ("decoder_attention_heads", file.decoder_attention_heads, MOST),
        ("decoder_ffn_dim", file.decoder_ffn_dim, MOST),
    ];
    if let Some((name, size, most)) =
        sizes.into_iter().find(|(_, n, most)| !(1..=*most).contains(n))
    {
        return Err(format!("{name} is {size}, expected 1 to {most}"));
    }
    let heads = [file.encoder_attention_heads, file.decoder_attention_heads];
    if let Some(heads) = heads.into_iter().find(|heads| !file.d_model.is_multiple_of(*heads)) {
        return Err(format!("d_model is {}, which {heads} heads do not divide", file.d_model));
    }
    // The start, a language, a task, and something to say.
    if file.max_target_positions < 8 {
        return Err(format!("max_target_positions is {}: too few", file.max_target_positions));
    }
    Ok(())
}

fn check_features(features: &Features) -> Result<(), String> {
    let known = [
        ("n_fft", features.n_fft, n_fft()),
        ("hop_length", features.hop_length, hop_length()),
        ("sampling_rate", features.sampling_rate, sampling_rate()),
    ];
    let other = known.into_iter().find(|(_, found, expected)| found != expected);
    other.map_or(Ok(()), |(name, found, expected)| {
        Err(format!("{name} is {found}, and Whisper models have {expected}"))
    })
}
