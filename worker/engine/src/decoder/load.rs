//! The network out of its file, in either format.

use std::sync::Arc;

use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{DType, Device, Tensor};

use super::cores::Cores;
use super::linear::{Linear, Table};
use super::rope::Rotation;
use super::{Biases, Decoder, DecoderConfig, Layer};
use crate::LoadError;
use crate::device::one_line;
use crate::gguf::Gguf;
use crate::source::Source;

/// Where the tensors of a network come from, whatever their names.
pub(crate) trait Parts {
    fn device(&self) -> &Device;

    /// Type of activations.
    fn dtype(&self) -> DType;

    /// The rows of the vocabulary, and the layer that uses them as its weights.
    fn words(&self, config: &DecoderConfig) -> Result<(Table, Linear), LoadError>;

    fn linear(&self, part: Part, size: [usize; 2], bias: Bias) -> Result<Linear, LoadError>;

    fn norm(&self, part: Part, width: usize) -> Result<Tensor, LoadError>;
}

/// Whether a layer has a bias.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bias {
    With,
    Without,
}

/// A tensor's place in the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Norm,
    Output,
    Layer(usize, LayerPart),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LayerPart {
    AttentionNorm,
    Query,
    Key,
    Value,
    QueryNorm,
    KeyNorm,
    AttentionOut,
    MlpNorm,
    Gate,
    Up,
    Down,
}

impl Decoder {
    /// Takes the network out of its parts, which are on their device then.
    ///
    /// # Errors
    /// When a tensor is missing or has another shape, or the device has no memory for it.
    pub(crate) fn load(parts: &dyn Parts, config: DecoderConfig) -> Result<Self, LoadError> {
        let (words, tied) = parts.words(&config)?;
        let output = if config.tied {
            tied
        } else {
            parts.linear(Part::Output, [config.vocabulary, config.hidden], Bias::Without)?
        };
        let layers = (0..config.layers).map(|index| Layer::load(parts, &config, index));
        // The lanes of a generator do their steps together, so a step may have every core.
        let cores = parts.device().is_cpu().then(Cores::all).transpose();
        Ok(Self {
            cores: cores.map_err(|error| LoadError::Device {
                device: "cpu".to_owned(),
                what: error.to_string(),
            })?,
            device: words.device(),
            dtype: parts.dtype(),
            words,
            layers: layers.collect::<Result<_, _>>()?,
            norm: parts.norm(Part::Norm, config.hidden)?,
            output,
            rotation: Rotation::new(&config.rope, config.head_width, parts.dtype(), parts.device()),
            config,
        })
    }
}

impl Layer {
    fn load(parts: &dyn Parts, config: &DecoderConfig, index: usize) -> Result<Self, LoadError> {
        let part = |part| Part::Layer(index, part);
        let DecoderConfig { hidden, heads, kv_heads, head_width, wide, .. } = *config;
        let linear = |name, size, bias| parts.linear(part(name), size, bias);
        let norm = |name, width| parts.norm(part(name), width);
        let (bias, out_bias) = match config.biases {
            Biases::None => (Bias::Without, Bias::Without),
            Biases::QueryKeyValue => (Bias::With, Bias::Without),
            Biases::All => (Bias::With, Bias::With),
        };
        let (queries, keys) = (heads * head_width, kv_heads * head_width);
        let head_norms = if config.head_norms {
            let query = norm(LayerPart::QueryNorm, head_width)?;
            Some((query, norm(LayerPart::KeyNorm, head_width)?))
        } else {
            None
        };
        Ok(Self {
            index,
            attention_norm: norm(LayerPart::AttentionNorm, hidden)?,
            query: linear(LayerPart::Query, [queries, hidden], bias)?,
            key: linear(LayerPart::Key, [keys, hidden], bias)?,
            value: linear(LayerPart::Value, [keys, hidden], bias)?,
            head_norms,
            attention_out: linear(LayerPart::AttentionOut, [hidden, queries], out_bias)?,
            mlp_norm: norm(LayerPart::MlpNorm, hidden)?,
            gate: linear(LayerPart::Gate, [wide, hidden], Bias::Without)?,
            up: linear(LayerPart::Up, [wide, hidden], Bias::Without)?,
            down: linear(LayerPart::Down, [hidden, wide], Bias::Without)?,
        })
    }
}

/// Parts in safetensors, as transformers names them.
pub(crate) struct SafetensorsParts<'a>(Source<'a>);

pub(crate) const fn safetensors_parts(source: Source<'_>) -> SafetensorsParts<'_> {
    SafetensorsParts(source)
}

impl SafetensorsParts<'_> {
    fn layer(
        &self,
        name: &str,
        [outputs, inputs]: [usize; 2],
        bias: Bias,
    ) -> Result<Linear, LoadError> {
        let numbers = self.0.floats(&format!("{name}.weight"), &[outputs, inputs])?;
        let bias = match bias {
            Bias::With => {
                let numbers = self.0.floats(&format!("{name}.bias"), &[outputs])?;
                Some(self.0.table(numbers, &[outputs])?)
            }
            Bias::Without => None,
        };
        Ok(if self.0.device.is_cpu() {
            Linear::rows(self.0.tensor(numbers, &[outputs, inputs])?, bias)
        } else {
            Linear::matrix(self.0.matrix(&numbers, inputs)?, bias)
        })
    }
}

impl Parts for SafetensorsParts<'_> {
    fn device(&self) -> &Device {
        self.0.device
    }

    fn dtype(&self) -> DType {
        self.0.precision.dtype()
    }

    fn words(&self, config: &DecoderConfig) -> Result<(Table, Linear), LoadError> {
        let size = [config.vocabulary, config.hidden];
        let numbers = self.0.floats("model.embed_tokens.weight", &size)?;
        if self.0.device.is_cpu() {
            let table = self.0.tensor(numbers, &size)?;
            return Ok((Table::Plain(table.clone()), Linear::rows(table, None)));
        }
        let output = self.0.matrix(&numbers, config.hidden)?;
        Ok((Table::Plain(self.0.table(numbers, &size)?), Linear::matrix(output, None)))
    }

    fn linear(&self, part: Part, size: [usize; 2], bias: Bias) -> Result<Linear, LoadError> {
        self.layer(&transformers_name(part), size, bias)
    }

    fn norm(&self, part: Part, width: usize) -> Result<Tensor, LoadError> {
        let name = format!("{}.weight", transformers_name(part));
        self.0.table(self.0.floats(&name, &[width])?, &[width])
    }
}

fn transformers_name(part: Part) -> String {
    let (index, part) = match part {
        Part::Norm => return "model.norm".to_owned(),
        Part::Output => return "lm_head".to_owned(),
        Part::Layer(index, part) => (index, part),
    };
    let name = match part {
        LayerPart::AttentionNorm => "input_layernorm",
        LayerPart::Query => "self_attn.q_proj",
        LayerPart::Key => "self_attn.k_proj",
        LayerPart::Value => "self_attn.v_proj",
        LayerPart::QueryNorm => "self_attn.q_norm",
        LayerPart::KeyNorm => "self_attn.k_norm",
        LayerPart::AttentionOut => "self_attn.o_proj",
        LayerPart::MlpNorm => "post_attention_layernorm",
        LayerPart::Gate => "mlp.gate_proj",
        LayerPart::Up => "mlp.up_proj",
        LayerPart::Down => "mlp.down_proj",
    };
    format!("model.layers.{index}.{name}")
}

/// Parts in a GGUF file. Weights stay as they are stored; the rest is computed in f32.
pub(crate) struct GgufParts<'a> {
    file: &'a Gguf<'a>,
    device: &'a Device,
}

pub(crate) const fn gguf_parts<'a>(file: &'a Gguf<'a>, device: &'a Device) -> GgufParts<'a> {
    GgufParts { file, device }
}

impl GgufParts<'_> {
    fn tensor(&self, numbers: Vec<f32>, width: usize) -> Result<Tensor, LoadError> {
        Tensor::from_vec(numbers, width, self.device).map_err(|error| self.device_error(&error))
    }

    /// A matrix of the file in the form in which it is computed with, and the layer that has it as its weights.
    fn matrix(
        &self,
        name: &str,
        size: [usize; 2],
        bias: Option<Tensor>,
    ) -> Result<(Table, Linear), LoadError> {
        let weights = Arc::new(self.file.tensor(name, &size, self.device)?);
        let blocks = if self.device.is_cpu() { self.file.blocks(name, &weights)? } else { None };
        if let Some(blocks) = blocks.map(Arc::new) {
            return Ok((Table::Blocks(Arc::clone(&blocks)), Linear::blocks(blocks, bias)));
        }
        let layer = self.over(Arc::clone(&weights), bias)?;
        Ok((Table::Quantized(weights), layer))
    }

    fn device_error(&self, error: &candle_core::Error) -> LoadError {
        let device = format!("{:?}", self.device.location());
        LoadError::Device { device, what: one_line(error) }
    }

    /// A layer over a tensor of the file. What is not quantized is computed as safetensors are.
    fn over(&self, weights: Arc<QTensor>, bias: Option<Tensor>) -> Result<Linear, LoadError> {
        let plain = matches!(weights.dtype(), GgmlDType::F32 | GgmlDType::F16 | GgmlDType::BF16);
        // candle's products on a CPU take two blocks at a time, and end the process at an odd one.
        let blocks = weights.shape().dims().last().unwrap_or(&0) / weights.dtype().block_size();
        let odd = self.device.is_cpu() && !blocks.is_multiple_of(2);
        if !plain && !odd {
            return Ok(Linear::quantized(weights, bias));
        }
        let plain = weights.dequantize(self.device).and_then(|plain| {
            if self.device.is_cpu() {
                return Ok(Linear::rows(plain, bias));
            }
            Ok(Linear::matrix(plain.t()?.contiguous()?, bias))
        });
        plain.map_err(|error| self.device_error(&error))
    }
}

impl Parts for GgufParts<'_> {
    fn device(&self) -> &Device {
        self.device
    }

    fn dtype(&self) -> DType {
        DType::F32
    }

    fn words(&self, config: &DecoderConfig) -> Result<(Table, Linear), LoadError> {
        let size = [config.vocabulary, config.hidden];
        self.matrix("token_embd.weight", size, None)
    }

    fn linear(&self, part: Part, size: [usize; 2], bias: Bias) -> Result<Linear, LoadError> {
        let name = gguf_name(part);
        let bias = match bias {
            Bias::With => {
                let numbers = self.file.floats(&format!("{name}.bias"), &[size[0]])?;
                Some(self.tensor(numbers, size[0])?)
            }
            Bias::Without => None,
        };
        let (_, layer) = self.matrix(&format!("{name}.weight"), size, bias)?;
        Ok(layer)
    }

    fn norm(&self, part: Part, width: usize) -> Result<Tensor, LoadError> {
        let numbers = self.file.floats(&format!("{}.weight", gguf_name(part)), &[width])?;
        self.tensor(numbers, width)
    }
}

fn gguf_name(part: Part) -> String {
    let (index, part) = match part {
        Part::Norm => return "output_norm".to_owned(),
        Part::Output => return "output".to_owned(),
        Part::Layer(index, part) => (index, part),
    };
    let name = match part {
        LayerPart::AttentionNorm => "attn_norm",
        LayerPart::Query => "attn_q",
        LayerPart::Key => "attn_k",
        LayerPart::Value => "attn_v",
        LayerPart::QueryNorm => "attn_q_norm",
        LayerPart::KeyNorm => "attn_k_norm",
        LayerPart::AttentionOut => "attn_output",
        LayerPart::MlpNorm => "ffn_norm",
        LayerPart::Gate => "ffn_gate",
        LayerPart::Up => "ffn_up",
        LayerPart::Down => "ffn_down",
    };
    format!("blk.{index}.{name}")
}
