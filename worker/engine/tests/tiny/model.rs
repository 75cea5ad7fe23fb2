//! Makes small models with random weights, and breaks them.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use safetensors::{Dtype, tensor::TensorView};
use serde_json::{Value, json};
use tempfile::TempDir;

pub(crate) const HIDDEN: usize = 24;
pub(crate) const HEADS: usize = 3;
pub(crate) const LAYERS: usize = 2;
pub(crate) const WIDE: usize = 40;
pub(crate) const POSITIONS: usize = 16;

/// The network's measures.
#[derive(Clone, Copy)]
pub(crate) struct Size {
    pub(crate) hidden: usize,
    pub(crate) heads: usize,
    pub(crate) wide: usize,
    pub(crate) positions: usize,
    /// Tokens that the model reads.
    pub(crate) tokens: usize,
}

pub(crate) const TINY: Size =
    Size { hidden: HIDDEN, heads: HEADS, wide: WIDE, positions: POSITIONS, tokens: 12 };
pub(crate) const EPSILON: f64 = 1e-6;

/// `[PAD] [UNK] [CLS] [SEP]` and letters, each a word of its own.
const VOCABULARY: usize = 30;

/// Tensors by name.
pub(crate) type Tensors = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

/// How a model differs from the plainest one.
#[derive(Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) size: Size,
    pub(crate) pooling: &'static str,
    pub(crate) normalize: bool,
    pub(crate) prefix: &'static str,
    pub(crate) dtype: Dtype,
}

pub(crate) const PLAIN: Shape =
    Shape { size: TINY, pooling: "mean", normalize: true, prefix: "", dtype: Dtype::F32 };

/// Numbers between -1 and 1 that are the same in every run (a linear congruential generator).
pub(crate) struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> f32 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let top = u16::try_from(self.0 >> 48).unwrap();
        f32::from(top) / 32_768.0 - 1.0
    }
}

pub(crate) fn random_tensors(size: Size) -> Tensors {
    let Size { hidden, wide, positions, .. } = size;
    let mut numbers = Numbers(42);
    let mut tensors = Tensors::new();
    // Wider sums of smaller terms, so that the numbers stay as large.
    #[expect(clippy::cast_precision_loss, reason = "sizes of tests are small")]
    let scale = 0.5 * (HIDDEN as f32 / hidden as f32).sqrt();
    let mut add = |name: String, shape: &[usize]| {
        let count = shape.iter().product();
        let mut values: Vec<f32> = (0..count).map(|_| numbers.next() * scale).collect();
        if name.ends_with("LayerNorm.weight") {
            values = values.iter().map(|value| value + 1.0).collect();
        }
        tensors.insert(name, (shape.to_vec(), values));
    };
    add("embeddings.word_embeddings.weight".to_owned(), &[VOCABULARY, hidden]);
    add("embeddings.position_embeddings.weight".to_owned(), &[positions, hidden]);
    add("embeddings.token_type_embeddings.weight".to_owned(), &[2, hidden]);
    let mut parts = vec![("embeddings.LayerNorm".to_owned(), vec![hidden])];
    for layer in 0..LAYERS {
        for (part, shape) in [
            ("attention.self.query", vec![hidden, hidden]),
            ("attention.self.key", vec![hidden, hidden]),
            ("attention.self.value", vec![hidden, hidden]),
            ("attention.output.dense", vec![hidden, hidden]),
            ("attention.output.LayerNorm", vec![hidden]),
            ("intermediate.dense", vec![wide, hidden]),
            ("output.dense", vec![hidden, wide]),
            ("output.LayerNorm", vec![hidden]),
        ] {
            parts.push((format!("encoder.layer.{layer}.{part}"), shape));
        }
    }
    for (part, shape) in parts {
        add(format!("{part}.weight"), &shape);
        add(format!("{part}.bias"), &shape[..1]);
    }
    tensors
}

/// Writes a whole model.
pub(crate) fn write(shape: Shape) -> TempDir {
    let folder = TempDir::new().unwrap();
    let directory = folder.path();
    write_json(directory, "config.json", &config(shape.size));
    write_json(
        directory,
        "sentence_bert_config.json",
        &json!({"max_seq_length": shape.size.tokens}),
    );
    let mut modules = vec![module(0, "", "Transformer"), module(1, "1_Pooling", "Pooling")];
    if shape.normalize {
        modules.push(module(2, "2_Normalize", "Normalize"));
    }
    write_json(directory, "modules.json", &Value::from(modules));
    fs::create_dir(directory.join("1_Pooling")).unwrap();
    write_json(directory, "1_Pooling/config.json", &pooling(shape.pooling, shape.size));
    write_json(directory, "tokenizer.json", &tokenizer());
    write_tensors(directory, &random_tensors(shape.size), shape);
    folder
}

pub(crate) fn config(size: Size) -> Value {
    json!({
        "model_type": "bert", "hidden_act": "gelu", "vocab_size": VOCABULARY, "hidden_size": size.hidden,
        "num_hidden_layers": LAYERS, "num_attention_heads": size.heads, "intermediate_size": size.wide,
        "max_position_embeddings": size.positions, "type_vocab_size": 2, "layer_norm_eps": EPSILON,
    })
}

pub(crate) fn module(index: u32, path: &str, kind: &str) -> Value {
    let kind = format!("sentence_transformers.models.{kind}");
    json!({"idx": index, "name": index.to_string(), "path": path, "type": kind})
}

pub(crate) fn pooling(mode: &str, size: Size) -> Value {
    json!({
        "word_embedding_dimension": size.hidden,
        "pooling_mode_cls_token": mode == "cls",
        "pooling_mode_mean_tokens": mode == "mean",
        "pooling_mode_max_tokens": mode == "max",
    })
}

/// A word-piece tokenizer with padding to a fixed length, as real models have it.
pub(crate) fn tokenizer() -> Value {
    let mut vocabulary = serde_json::Map::new();
    for (id, word) in ["[PAD]", "[UNK]", "[CLS]", "[SEP]"].into_iter().enumerate() {
        vocabulary.insert(word.to_owned(), id.into());
    }
    for (id, letter) in (4..).zip('a'..='z') {
        vocabulary.insert(letter.to_string(), id.into());
    }
    json!({
        "version": "1.0",
        "truncation": {"direction": "Right", "max_length": 8, "strategy": "LongestFirst", "stride": 0},
        "padding": {"strategy": {"Fixed": 8}, "direction": "Right", "pad_to_multiple_of": null,
            "pad_id": 0, "pad_type_id": 0, "pad_token": "[PAD]"},
        "added_tokens": [],
        "normalizer": {"type": "Lowercase"},
        "pre_tokenizer": {"type": "Whitespace"},
        "post_processor": {"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]},
        "decoder": null,
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100, "vocab": vocabulary},
    })
}

pub(crate) fn write_json(directory: &Path, name: &str, value: &Value) {
    fs::write(directory.join(name), value.to_string()).unwrap();
}

pub(crate) fn write_tensors(directory: &Path, tensors: &Tensors, shape: Shape) {
    let bytes = |values: &[f32]| -> Vec<u8> {
        match shape.dtype {
            Dtype::F32 => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
            // The upper half of an f32.
            Dtype::BF16 => {
                values.iter().flat_map(|value| value.to_le_bytes().into_iter().skip(2)).collect()
            }
            other => panic!("{other:?} is not written by these tests"),
        }
    };
    let data: Vec<(String, &Vec<usize>, Vec<u8>)> = tensors
        .iter()
        .map(|(name, (dims, values))| (format!("{}{name}", shape.prefix), dims, bytes(values)))
        .collect();
    let views = data.iter().map(|(name, dims, bytes)| {
        (name.as_str(), TensorView::new(shape.dtype, (*dims).clone(), bytes).unwrap())
    });
    let path = directory.join("model.safetensors");
    safetensors::serialize_to_file(views, None, &path).unwrap();
}
