//! What a model says about its network, checked: the families of encoders that this engine knows.
//!
//! A setting that would change the numbers and that this engine does not know is refused: an
//! unknown model is better than a wrong answer.

use serde::Deserialize;

/// Encoders that differ in names, positions and in what they add up, and are computed alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    Bert,
    /// `RoBERTa` and XLM-RoBERTa: positions begin after that of the padding token.
    Roberta,
    /// BERT without token types.
    DistilBert,
}

/// The shape of the network.
#[derive(Debug, Clone, PartialEq)]
pub struct EncoderConfig {
    pub family: Family,
    pub vocabulary: usize,
    /// Numbers per token.
    pub hidden: usize,
    pub layers: usize,
    /// Divides `hidden`.
    pub heads: usize,
    /// Numbers per token inside a layer.
    pub wide: usize,
    /// Rows of the table of positions.
    pub positions: usize,
    /// The first row that a token has.
    pub first_position: usize,
    /// Kinds of tokens; of all texts, every token is of the first. Zero where there are none.
    pub token_types: usize,
    pub epsilon: f64,
}

/// `config.json`. `DistilBERT` has names of its own.
#[derive(Deserialize)]
pub(crate) struct NetworkFile {
    #[serde(default)]
    model_type: String,
    vocab_size: usize,
    #[serde(alias = "dim")]
    hidden_size: usize,
    #[serde(alias = "n_layers")]
    num_hidden_layers: usize,
    #[serde(alias = "n_heads")]
    num_attention_heads: usize,
    #[serde(alias = "hidden_dim")]
    intermediate_size: usize,
    max_position_embeddings: usize,
    type_vocab_size: Option<usize>,
    layer_norm_eps: Option<f64>,
    #[serde(alias = "activation", default = "default_activation")]
    hidden_act: String,
    #[serde(default = "default_position")]
    position_embedding_type: String,
    #[serde(default)]
    is_decoder: bool,
    pad_token_id: Option<usize>,
}

fn default_activation() -> String {
    "gelu".to_owned()
}

fn default_position() -> String {
    "absolute".to_owned()
}

/// The value that transformers assumes where a file leaves it out.
const USUAL_EPSILON: f64 = 1e-12;
const USUAL_TOKEN_TYPES: usize = 2;
const USUAL_ROBERTA_PADDING: usize = 1;

impl EncoderConfig {
    /// # Errors
    /// What this engine cannot do, or what makes no sense.
    pub(crate) fn new(file: &NetworkFile) -> Result<Self, String> {
        let family = family(&file.model_type)?;
        settings(file)?;
        let token_types = match family {
            Family::Bert | Family::Roberta => file.type_vocab_size.unwrap_or(USUAL_TOKEN_TYPES),
            Family::DistilBert => 0,
        };
        let sizes = [
            ("vocab_size", file.vocab_size, 10_000_000),
            ("hidden_size", file.hidden_size, 65_536),
            ("num_hidden_layers", file.num_hidden_layers, 1_000),
            ("num_attention_heads", file.num_attention_heads, 65_536),
            ("intermediate_size", file.intermediate_size, 1_000_000),
            ("max_position_embeddings", file.max_position_embeddings, 1_000_000),
            ("type_vocab_size", file.type_vocab_size.unwrap_or(USUAL_TOKEN_TYPES), 1_000),
        ];
        if let Some((name, size, limit)) =
            sizes.into_iter().find(|(_, size, limit)| *size == 0 || size > limit)
        {
            return Err(format!("{name} is {size}, expected 1 to {limit}"));
        }
        if !file.hidden_size.is_multiple_of(file.num_attention_heads) {
            return Err("hidden_size is not a multiple of num_attention_heads".to_owned());
        }
        let epsilon = match family {
            Family::Bert | Family::Roberta => file.layer_norm_eps.unwrap_or(USUAL_EPSILON),
            Family::DistilBert => USUAL_EPSILON,
        };
        if !(0.0..1.0).contains(&epsilon) {
            return Err(format!("layer_norm_eps is {epsilon}"));
        }
        let first_position = match family {
            Family::Bert | Family::DistilBert => 0,
            Family::Roberta => file.pad_token_id.unwrap_or(USUAL_ROBERTA_PADDING).saturating_add(1),
        };
        if first_position >= file.max_position_embeddings {
            return Err(format!(
                "pad_token_id leaves none of {} positions",
                file.max_position_embeddings
            ));
        }
        Ok(Self {
            family,
            vocabulary: file.vocab_size,
            hidden: file.hidden_size,
            layers: file.num_hidden_layers,
            heads: file.num_attention_heads,
            wide: file.intermediate_size,
            positions: file.max_position_embeddings,
            first_position,
            token_types,
            epsilon,
        })
    }

    /// Numbers per token of one attention head.
    pub fn head_width(&self) -> usize {
        self.hidden / self.heads
    }

    /// Tokens of the longest text that has a position for each.
    pub fn max_tokens(&self) -> usize {
        self.positions - self.first_position
    }
}

fn family(model_type: &str) -> Result<Family, String> {
    match model_type {
        "bert" => Ok(Family::Bert),
        "roberta" | "xlm-roberta" => Ok(Family::Roberta),
        "distilbert" => Ok(Family::DistilBert),
        other => Err(format!(
            "model_type is `{other}`, only bert, roberta, xlm-roberta and distilbert are supported"
        )),
    }
}

fn settings(file: &NetworkFile) -> Result<(), String> {
    if file.hidden_act != "gelu" {
        return Err(format!("hidden_act is `{}`, only gelu is supported", file.hidden_act));
    }
    if file.position_embedding_type != "absolute" {
        let kind = &file.position_embedding_type;
        return Err(format!("position_embedding_type is `{kind}`, only absolute is supported"));
    }
    if file.is_decoder {
        return Err("is_decoder is true, only encoders are supported".to_owned());
    }
    Ok(())
}
