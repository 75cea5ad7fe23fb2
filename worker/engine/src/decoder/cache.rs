//! Keys and values of one sequence.

use candle_core::{DType, Device, Result, Tensor};

use super::DecoderConfig;

/// Room for a number of tokens, taken at once: a sequence that has begun never waits for more.
#[derive(Debug)]
pub(crate) struct KvCache {
    /// Of each layer: keys and values, one row per token.
    layers: Vec<(Tensor, Tensor)>,
    len: usize,
    capacity: usize,
}

impl KvCache {
    pub(super) fn new(
        config: &DecoderConfig,
        capacity: usize,
        dtype: DType,
        device: &Device,
    ) -> Result<Self> {
        let row = (config.kv_heads, config.head_width);
        Self::of_rows(config.layers, (capacity, row.0, row.1), dtype, device)
    }

    /// For a number of layers, and of each so many tokens, heads, and numbers of a head.
    pub(crate) fn of_rows(
        layers: usize,
        (capacity, heads, width): (usize, usize, usize),
        dtype: DType,
        device: &Device,
    ) -> Result<Self> {
        let empty = || Tensor::zeros((capacity, heads, width), dtype, device);
        let layers = (0..layers).map(|_| Ok((empty()?, empty()?)));
        Ok(Self { layers: layers.collect::<Result<_>>()?, len: 0, capacity })
    }

    /// Tokens that are in it.
    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    pub(crate) const fn capacity(&self) -> usize {
        self.capacity
    }

    /// Writes the next tokens of a layer, which count only once [`KvCache::advance`] says so.
    pub(crate) fn put(&self, layer: usize, keys: &Tensor, values: &Tensor) -> Result<()> {
        let (all_keys, all_values) = &self.layers[layer];
        all_keys.slice_set(keys, 0, self.len)?;
        all_values.slice_set(values, 0, self.len)
    }

    /// Keys and values of a layer, with the `count` tokens that were just put.
    pub(crate) fn with(&self, layer: usize, count: usize) -> Result<(Tensor, Tensor)> {
        let (keys, values) = &self.layers[layer];
        Ok((keys.narrow(0, 0, self.len + count)?, values.narrow(0, 0, self.len + count)?))
    }

    pub(crate) const fn advance(&mut self, count: usize) {
        self.len += count;
    }
}
