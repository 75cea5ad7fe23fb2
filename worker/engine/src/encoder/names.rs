//! What the tensors of each family are called.

use super::config::Family;

/// Tensors of one layer, each without `.weight` and `.bias`.
pub(super) struct LayerNames {
    /// Queries, keys and values.
    pub(super) qkv: [String; 3],
    pub(super) attention_out: String,
    pub(super) attention_norm: String,
    pub(super) up: String,
    pub(super) down: String,
    pub(super) output_norm: String,
}

impl Family {
    /// What stands before the network's tensors in a model that has a task's head on top.
    pub(crate) const fn prefix(self) -> &'static str {
        match self {
            Self::Bert => "bert.",
            Self::Roberta => "roberta.",
            Self::DistilBert => "distilbert.",
        }
    }

    pub(super) fn layer(self, index: usize) -> LayerNames {
        match self {
            Self::Bert | Self::Roberta => {
                let name = |part: &str| format!("encoder.layer.{index}.{part}");
                LayerNames {
                    qkv: ["query", "key", "value"]
                        .map(|part| name(&format!("attention.self.{part}"))),
                    attention_out: name("attention.output.dense"),
                    attention_norm: name("attention.output.LayerNorm"),
                    up: name("intermediate.dense"),
                    down: name("output.dense"),
                    output_norm: name("output.LayerNorm"),
                }
            }
            Self::DistilBert => {
                let name = |part: &str| format!("transformer.layer.{index}.{part}");
                LayerNames {
                    qkv: ["q_lin", "k_lin", "v_lin"].map(|part| name(&format!("attention.{part}"))),
                    attention_out: name("attention.out_lin"),
                    attention_norm: name("sa_layer_norm"),
                    up: name("ffn.lin1"),
                    down: name("ffn.lin2"),
                    output_norm: name("output_layer_norm"),
                }
            }
        }
    }
}
