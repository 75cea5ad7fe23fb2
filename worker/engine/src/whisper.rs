//! The network of a Whisper model: an encoder that hears a window of sound, and a decoder that writes down what the
//! encoder has heard.
//!
//! Everything is rows: one for each frame, place or token. The keys and values of the decoder's layers are kept, both
//! those of its own tokens and those of what was heard.

mod config;
mod decoder;
mod encoder;

use candle_core::{Device, Result, Tensor};
use candle_nn::ops::layer_norm;

pub(crate) use config::WhisperConfig;
pub(crate) use decoder::Writing;

use crate::source::{Source, bytes};
use crate::{LoadError, ops};
use decoder::Decoder;
use encoder::Encoder;

/// Of all layer norms; no model's files say anything else.
const EPSILON: f32 = 1e-5;

/// A loaded network. Immutable; what is being written belongs to the caller.
pub(crate) struct Whisper {
    config: WhisperConfig,
    encoder: Encoder,
    decoder: Decoder,
    device: Device,
}

impl Whisper {
    /// Takes the network out of its weights and moves it to the source's device. On a CPU the precision must be f32.
    ///
    /// # Errors
    /// When a tensor is missing or has another shape, a number is too large for the precision, or the device has no
    /// memory for it or no kernels for its shape.
    pub(crate) fn load(
        source: &Source<'_>,
        config: WhisperConfig,
    ) -> std::result::Result<Self, LoadError> {
        check_shape(&config, source.device)?;
        Ok(Self {
            encoder: Encoder::load(source, &config)?,
            decoder: Decoder::load(source, &config)?,
            device: source.device.clone(),
            config,
        })
    }

    pub(crate) const fn config(&self) -> &WhisperConfig {
        &self.config
    }

    /// Memory that all tensors take together.
    pub(crate) fn bytes(&self) -> usize {
        self.encoder.bytes() + self.decoder.bytes()
    }

    /// What the encoder makes of a window: one row for each of its places. `features` has
    /// [`WhisperConfig::frames`] rows of [`WhisperConfig::bands`] numbers.
    pub(crate) fn hear(&self, features: Vec<f32>) -> Result<Tensor> {
        let shape = (self.config.frames(), self.config.bands);
        let features = Tensor::from_vec(features, shape, &self.device)?;
        self.encoder.forward(&features)
    }

    /// Begins to write down what was heard.
    pub(crate) fn begin(&self, heard: &Tensor) -> Result<Writing> {
        self.decoder.begin(heard)
    }

    /// Shows the decoder the next tokens; gives what follows the last of them: one number per token of the vocabulary.
    pub(crate) fn write(&self, writing: &mut Writing, tokens: &[u32]) -> Result<Vec<f32>> {
        self.decoder.step(writing, tokens)
    }
}

/// Whether there are kernels for a network of this shape.
fn check_shape(config: &WhisperConfig, device: &Device) -> std::result::Result<(), LoadError> {
    if device.is_cpu() {
        return Ok(());
    }
    let sizes = [("d_model", config.hidden), ("encoder_ffn_dim", config.encoder.wide)];
    let width = config.hidden / config.encoder.heads;
    let odd = sizes.into_iter().find(|(_, size)| size % ops::ROW_STEP != 0);
    let what = match odd {
        Some((name, size)) => {
            format!("{name} is {size}, a GPU needs a multiple of {}", ops::ROW_STEP)
        }
        None if width > ops::MAX_HEAD_WIDTH => {
            format!("heads of {width} numbers, a GPU takes at most {}", ops::MAX_HEAD_WIDTH)
        }
        None => return Ok(()),
    };
    Err(LoadError::Device { device: "cuda".to_owned(), what })
}

/// The parameters of a layer norm.
struct Norm {
    scale: Tensor,
    shift: Tensor,
}

impl Norm {
    fn load(source: &Source<'_>, name: &str, width: usize) -> std::result::Result<Self, LoadError> {
        let part = |part: &str| {
            source.table(source.floats(&format!("{name}.{part}"), &[width])?, &[width])
        };
        Ok(Self { scale: part("weight")?, shift: part("bias")? })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        layer_norm(x, &self.scale, &self.shift, EPSILON)
    }
}
