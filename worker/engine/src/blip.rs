//! BLIP: a network that looks at an image, and a decoder that says what the first has seen.
//!
//! Everything is rows: one for each patch or token. The keys and values of the decoder's layers are kept, both those
//! of its own tokens and those of what was seen, and captions of several images share their steps.

mod config;
mod decoder;
mod vision;

use candle_core::{Result, Tensor};

pub(crate) use config::{BlipConfig, WordsConfig};
pub(crate) use decoder::Caption;

use crate::LoadError;
use crate::source::Source;
use decoder::Decoder;
use vision::Vision;

/// A loaded network. Immutable; the captions that are being written belong to the caller.
pub(crate) struct Blip {
    vision: Vision,
    decoder: Decoder,
}

impl Blip {
    /// Takes the network out of its weights and moves it to the source's device. On a CPU the precision must be f32.
    ///
    /// # Errors
    /// When a tensor is missing or has another shape, a number is too large for the precision, or the device has no
    /// memory for it or no kernels for its shape.
    pub(crate) fn load(
        source: &Source<'_>,
        config: &BlipConfig,
    ) -> std::result::Result<Self, LoadError> {
        Ok(Self {
            vision: Vision::load(source, &config.vision)?,
            decoder: Decoder::load(source, config)?,
        })
    }

    /// Memory that all tensors take together.
    pub(crate) fn bytes(&self) -> usize {
        self.vision.bytes() + self.decoder.bytes()
    }

    /// What is seen of images: one row for each token of each. An image is `side` rows of `side` pixels, each red,
    /// green and blue; `numbers` are what their values stand for.
    pub(crate) fn see(&self, images: &[&[u8]], numbers: &[Vec<f32>; 3]) -> Result<Tensor> {
        self.vision.rows(images, numbers)
    }

    /// Begins a caption for each of the images that were seen together; each has room for so many tokens.
    pub(crate) fn begin(&self, seen: &Tensor, rooms: &[usize]) -> Result<Vec<Caption>> {
        self.decoder.begin(seen, rooms)
    }

    /// Shows the decoder the next tokens of each caption, at least one; gives what follows the last of them: one
    /// number per token of the vocabulary.
    pub(crate) fn step(
        &self,
        captions: &mut [&mut Caption],
        tokens: &[&[u32]],
    ) -> Result<Vec<Vec<f32>>> {
        self.decoder.step(captions, tokens)
    }
}
