//! Weights on their way to a device.

use candle_core::{Device, Tensor};

use crate::weights::Weights;
use crate::{LoadError, Precision};

/// Named tensors of one part of a model.
#[derive(Clone, Copy)]
pub(crate) struct Source<'a> {
    pub(crate) weights: &'a Weights<'a>,
    /// What stands before each name in the file.
    pub(crate) prefix: &'static str,
    pub(crate) device: &'a Device,
    /// What tables and matrices become; `f32` on a CPU.
    pub(crate) precision: Precision,
}

impl Source<'_> {
    /// The same, for parts with few rows, which stay f32 whatever the network computes with.
    pub(crate) const fn exact(&self) -> Self {
        Self { precision: Precision::F32, ..*self }
    }

    /// The numbers of a tensor, row by row.
    ///
    /// # Errors
    /// When it is missing or has another shape, or a number is too large for the precision.
    pub(crate) fn floats(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, LoadError> {
        let name = format!("{}{name}", self.prefix);
        let numbers = self.weights.floats(&name, shape)?;
        if self.precision.holds(&numbers) {
            return Ok(numbers);
        }
        Err(LoadError::Range { name, precision: self.precision })
    }

    /// Whether there is a tensor of this name.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.weights.has(&format!("{}{name}", self.prefix))
    }

    /// Numbers of the type that activations have.
    pub(crate) fn table(&self, numbers: Vec<f32>, shape: &[usize]) -> Result<Tensor, LoadError> {
        Tensor::from_vec(numbers, shape, &Device::Cpu)
            .and_then(|table| table.to_dtype(self.precision.dtype())?.to_device(self.device))
            .map_err(|error| self.device_error(&error))
    }

    /// Numbers that stay f32 whatever the precision.
    pub(crate) fn tensor(&self, numbers: Vec<f32>, shape: &[usize]) -> Result<Tensor, LoadError> {
        Tensor::from_vec(numbers, shape, self.device).map_err(|error| self.device_error(&error))
    }

    /// The bias of a linear layer.
    pub(crate) fn bias(&self, layer: &str, outputs: usize) -> Result<Tensor, LoadError> {
        self.tensor(self.floats(&format!("{layer}.bias"), &[outputs])?, &[outputs])
    }

    /// The weights of a linear layer as a right factor.
    pub(crate) fn linear(
        &self,
        layer: &str,
        inputs: usize,
        outputs: usize,
    ) -> Result<Tensor, LoadError> {
        let numbers = self.floats(&format!("{layer}.weight"), &[outputs, inputs])?;
        self.matrix(&numbers, inputs)
    }

    /// The weights of a linear layer, stored with one row per output, as a right factor. Turned
    /// around once here, they need not be in every product.
    pub(crate) fn matrix(&self, numbers: &[f32], inputs: usize) -> Result<Tensor, LoadError> {
        self.table(transposed(numbers, inputs), &[inputs, numbers.len() / inputs])
    }

    /// The parameters of a layer norm with the bias that is added before it, zero if there is none.
    pub(crate) fn norm(
        &self,
        bias: Option<&str>,
        norm: &str,
        width: usize,
    ) -> Result<Tensor, LoadError> {
        let mut numbers = match bias {
            Some(layer) => self.floats(&format!("{layer}.bias"), &[width])?,
            None => vec![0.0; width],
        };
        numbers.extend(self.floats(&format!("{norm}.weight"), &[width])?);
        numbers.extend(self.floats(&format!("{norm}.bias"), &[width])?);
        self.tensor(numbers, &[3, width])
    }

    fn device_error(&self, error: &candle_core::Error) -> LoadError {
        let device = format!("{:?}", self.device.location());
        LoadError::Device { device, what: crate::device::one_line(error) }
    }
}

/// Memory that a tensor takes.
pub(crate) fn bytes(tensor: &Tensor) -> usize {
    tensor.elem_count() * tensor.dtype().size_in_bytes()
}

/// A matrix with its rows as columns, block by block so that reads and writes stay in the cache.
fn transposed(numbers: &[f32], columns: usize) -> Vec<f32> {
    const BLOCK: usize = 32;
    let rows = numbers.len() / columns;
    let mut turned = vec![0.0; numbers.len()];
    for first_row in (0..rows).step_by(BLOCK) {
        for first_column in (0..columns).step_by(BLOCK) {
            for column in first_column..(first_column + BLOCK).min(columns) {
                let to = &mut turned[column * rows..][..rows];
                for row in first_row..(first_row + BLOCK).min(rows) {
                    to[row] = numbers[row * columns + column];
                }
            }
        }
    }
    turned
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transposed_matrix_has_its_rows_as_columns() {
        let (rows, columns) = (70u8, 3u8);
        let numbers: Vec<f32> = (0..rows * columns).map(f32::from).collect();
        let turned = transposed(&numbers, usize::from(columns));
        for row in 0..usize::from(rows) {
            for column in 0..usize::from(columns) {
                let (before, after) = (
                    numbers[row * usize::from(columns) + column],
                    turned[column * usize::from(rows) + row],
                );
                assert!((before - after).abs() < f32::EPSILON, "{row}, {column}");
            }
        }
    }
}
