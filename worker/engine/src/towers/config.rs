//! Sizes and kinds of networks, and the file that has them.

use std::path::Path;

use serde::de::DeserializeOwned;

use crate::{LoadError, json};

const NOT_A_MODEL: &str = "the model's `source` in the fleet file must name a model of images: config.json, \
                           preprocessor_config.json and model.safetensors in one folder, for labels with tokenizer.json";

/// A network of images.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct VisionConfig {
    pub(crate) tower: TowerConfig,
    /// Pixels of a side of the square that it sees.
    pub(crate) side: usize,
    /// Pixels of a side of a patch. What is left at the right and below, less than a patch, is not looked at.
    pub(crate) patch: usize,
    /// Tokens before those of the patches: the first stands for all of them, others are there to be worked with.
    pub(crate) leading: usize,
}

impl VisionConfig {
    /// Patches of an image.
    pub(crate) const fn patches(&self) -> usize {
        let across = self.side / self.patch;
        across * across
    }

    /// Tokens of an image.
    pub(crate) const fn tokens(&self) -> usize {
        self.leading + self.patches()
    }
}

/// A network of texts.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct TextConfig {
    pub(crate) tower: TowerConfig,
    pub(crate) vocabulary: usize,
    /// Tokens of the longest text.
    pub(crate) positions: usize,
    pub(crate) end: End,
}

/// Where a text ends, which is where its vector is taken from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// At the first of the token's places.
    Token(u32),
    /// At the token with the largest number: files of `OpenAI`'s models name a wrong one.
    Largest,
    /// At the last place that the network has: all texts are filled up to it.
    Last,
}

/// The layers of a network.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct TowerConfig {
    /// Numbers per token.
    pub(crate) hidden: usize,
    pub(crate) layers: usize,
    /// Divides `hidden`.
    pub(crate) heads: usize,
    /// Numbers per token inside a layer.
    pub(crate) wide: usize,
    pub(crate) activation: Activation,
    pub(crate) epsilon: f32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Activation {
    Gelu,
    /// x times the sigmoid of 1.702 x.
    QuickGelu,
    /// GELU with a hyperbolic tangent instead of the error function.
    TanhGelu,
    /// One half of twice as many numbers decides how much counts of the other.
    SwiGlu,
}

/// What `config.json` says in one kind of model's form.
///
/// # Errors
/// When the file is missing or not valid, or `check` refuses what it says.
pub(crate) fn read_config<F: DeserializeOwned, C>(
    directory: &Path,
    check: impl FnOnce(F) -> Result<C, String>,
) -> Result<C, LoadError> {
    let path = directory.join("config.json");
    let file: F = json::read(&path, NOT_A_MODEL)?;
    check(file).map_err(|what| LoadError::Unsupported { path, what })
}

/// A size that a network may have.
pub(crate) fn known(name: &str, size: usize, most: usize) -> Result<usize, String> {
    if (1..=most).contains(&size) {
        Ok(size)
    } else {
        Err(format!("{name} is {size}, expected 1 to {most}"))
    }
}
