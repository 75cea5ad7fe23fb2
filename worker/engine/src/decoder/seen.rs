//! Attention to something that is seen as a whole: a window of sound, or an image.

use candle_core::{D, DType, Device, Result, Tensor};
use candle_nn::ops::softmax_last_dim;

use super::attention::attend;

/// Keys and values of what is seen, for one layer.
pub(crate) struct Seen {
    keys: Tensor,
    values: Tensor,
}

impl Seen {
    /// Both have the dimensions place, head, number.
    pub(crate) fn new(keys: &Tensor, values: &Tensor) -> Result<Self> {
        if is_rows(keys) {
            return Ok(Self { keys: keys.contiguous()?, values: values.contiguous()? });
        }
        // Turned around once here, they need not be for every token.
        let keys = keys.permute((1, 2, 0))?.contiguous()?;
        Ok(Self { keys, values: values.transpose(0, 1)?.contiguous()? })
    }

    /// What each query gets of it. Queries have the dimensions query, head, number.
    pub(crate) fn seen_by(&self, queries: &Tensor) -> Result<Tensor> {
        let (count, _, width) = queries.dims3()?;
        if is_rows(queries) {
            // One by one, each is the last and sees everything.
            let one = |row| attend(&queries.narrow(0, row, 1)?, &self.keys, &self.values, None);
            let rows: Vec<Tensor> = (0..count).map(one).collect::<Result<_>>()?;
            return Tensor::cat(&rows, 0);
        }
        // Widths are far below 2^24.
        #[expect(clippy::cast_precision_loss, reason = "see above")]
        let scale = 1.0 / (width as f64).sqrt();
        let queries = queries.transpose(0, 1)?.contiguous()?;
        let shares = softmax_last_dim(&(queries.matmul(&self.keys)? * scale)?)?;
        debug_assert_eq!(shares.dim(D::Minus1)?, self.values.dim(1)?);
        shares.matmul(&self.values)?.transpose(0, 1)?.contiguous()
    }
}

/// Whether there is a kernel that takes them as they come.
fn is_rows(x: &Tensor) -> bool {
    matches!(x.device(), Device::Cpu) && x.dtype() == DType::F32
}
