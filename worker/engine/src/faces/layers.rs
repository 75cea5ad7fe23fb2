//! The layers that the networks of faces are made of.

use candle_core::{Result, Tensor};

use crate::LoadError;
use crate::source::{Source, bytes};

/// What follows a sum.
pub(super) enum After {
    Nothing,
    Relu,
    /// What is below zero counts by a share, one for each channel.
    Slope(Tensor),
}

impl After {
    pub(super) fn of(&self, x: &Tensor) -> Result<Tensor> {
        match self {
            Self::Nothing => Ok(x.clone()),
            Self::Relu => x.relu(),
            Self::Slope(slope) => x.relu()? - x.neg()?.relu()?.broadcast_mul(slope)?,
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Nothing | Self::Relu => 0,
            Self::Slope(slope) => bytes(slope),
        }
    }
}

/// How a kernel goes over an image.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kernel {
    pub(super) inputs: usize,
    pub(super) outputs: usize,
    /// Rows and columns.
    pub(super) size: [usize; 2],
    pub(super) stride: usize,
    /// Rows and columns of zeros on each side.
    pub(super) padding: [usize; 2],
}

impl Kernel {
    /// A square that goes over each place and sees no edge.
    pub(super) const fn square(inputs: usize, outputs: usize, side: usize) -> Self {
        Self { inputs, outputs, size: [side, side], stride: 1, padding: [0, 0] }
    }

    pub(super) const fn strided(self, stride: usize) -> Self {
        Self { stride, ..self }
    }

    /// Of any form, with as much around the image that it stays as large.
    pub(super) const fn even(inputs: usize, outputs: usize, size: [usize; 2]) -> Self {
        Self { inputs, outputs, size, stride: 1, padding: [size[0] / 2, size[1] / 2] }
    }

    pub(super) const fn shape(&self) -> [usize; 4] {
        [self.outputs, self.inputs, self.size[0], self.size[1]]
    }
}

/// A convolution, its bias, and what follows.
pub(super) struct Convolution {
    kernel: Kernel,
    weights: Tensor,
    bias: Tensor,
    after: After,
}

impl Convolution {
    /// From numbers that were worked out: weights as `kernel.shape()` says, and one bias per output.
    pub(super) fn new(
        source: &Source<'_>,
        kernel: Kernel,
        (weights, bias): (Vec<f32>, Vec<f32>),
        after: After,
    ) -> std::result::Result<Self, LoadError> {
        let weights = source.table(weights, &kernel.shape())?;
        let bias = source.table(bias, &[1, kernel.outputs, 1, 1])?;
        Ok(Self { kernel, weights, bias, after })
    }

    /// With `layer.weight` and `layer.bias`.
    pub(super) fn load(
        source: &Source<'_>,
        layer: &str,
        kernel: Kernel,
        after: After,
    ) -> std::result::Result<Self, LoadError> {
        let weights = source.floats(&format!("{layer}.weight"), &kernel.shape())?;
        let bias = source.floats(&format!("{layer}.bias"), &[kernel.outputs])?;
        Self::new(source, kernel, (weights, bias), after)
    }

    /// Of images, each with a plane per channel.
    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let Kernel { padding: [rows, columns], stride, .. } = self.kernel;
        let sums = if rows == columns {
            x.conv2d(&self.weights, rows, stride, 1, 1)?
        } else {
            let x = x.pad_with_zeros(2, rows, rows)?.pad_with_zeros(3, columns, columns)?;
            x.conv2d(&self.weights, 0, stride, 1, 1)?
        };
        self.after.of(&sums.broadcast_add(&self.bias)?)
    }

    pub(super) fn bytes(&self) -> usize {
        bytes(&self.weights) + bytes(&self.bias) + self.after.bytes()
    }
}

/// Slopes of a convolution's outputs.
pub(super) fn slope(
    source: &Source<'_>,
    layer: &str,
    channels: usize,
) -> std::result::Result<After, LoadError> {
    let slopes = source.floats(&format!("{layer}.weight"), &[channels])?;
    Ok(After::Slope(source.table(slopes, &[1, channels, 1, 1])?))
}

/// A product with one row per item, and what follows.
pub(super) struct Dense {
    weights: Tensor,
    bias: Tensor,
    after: After,
}

impl Dense {
    /// Several layers that see the same, as one: their outputs come one after the other.
    pub(super) fn load(
        source: &Source<'_>,
        layers: &[(&str, usize)],
        inputs: usize,
    ) -> std::result::Result<Self, LoadError> {
        let (mut weights, mut bias) = (Vec::new(), Vec::new());
        for (layer, outputs) in layers {
            weights.extend(source.floats(&format!("{layer}.weight"), &[*outputs, inputs])?);
            bias.extend(source.floats(&format!("{layer}.bias"), &[*outputs])?);
        }
        Self::new(source, (&weights, bias), inputs)
    }

    /// From numbers that were worked out, with one row of weights per output.
    pub(super) fn new(
        source: &Source<'_>,
        (weights, bias): (&[f32], Vec<f32>),
        inputs: usize,
    ) -> std::result::Result<Self, LoadError> {
        let outputs = bias.len();
        let (weights, bias) = (source.matrix(weights, inputs)?, source.table(bias, &[1, outputs])?);
        Ok(Self { weights, bias, after: After::Nothing })
    }

    /// With a slope for each output.
    pub(super) fn sloped(
        self,
        source: &Source<'_>,
        layer: &str,
    ) -> std::result::Result<Self, LoadError> {
        let outputs = self.bias.elem_count();
        let slopes = source.floats(&format!("{layer}.weight"), &[outputs])?;
        Ok(Self { after: After::Slope(source.table(slopes, &[1, outputs])?), ..self })
    }

    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.after.of(&x.matmul(&self.weights)?.broadcast_add(&self.bias)?)
    }

    pub(super) fn bytes(&self) -> usize {
        bytes(&self.weights) + bytes(&self.bias) + self.after.bytes()
    }
}

/// The largest of each square of `side`, every two places. The last may reach over the edge, where nothing is larger.
pub(super) fn largest(x: &Tensor, side: usize) -> Result<Tensor> {
    let (_, _, rows, columns) = x.dims4()?;
    let missing = |length: usize| {
        let places = length.saturating_sub(side).div_ceil(2);
        (places * 2 + side).saturating_sub(length)
    };
    let x = match missing(rows) {
        0 => x.clone(),
        more => x.pad_with_same(2, 0, more)?,
    };
    let x = match missing(columns) {
        0 => x,
        more => x.pad_with_same(3, 0, more)?,
    };
    largest_inside(&x, side)
}

/// The same where no square reaches over the edge; what is left there counts nothing.
pub(super) fn largest_inside(x: &Tensor, side: usize) -> Result<Tensor> {
    x.contiguous()?.max_pool2d_with_stride(side, 2)
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    fn rows(length: u32) -> Tensor {
        let numbers = Tensor::arange(0, length, &Device::Cpu).unwrap();
        let numbers = numbers.to_dtype(candle_core::DType::F32).unwrap();
        numbers.reshape((1, 1, 1, usize::try_from(length).unwrap())).unwrap()
    }

    #[test]
    fn the_last_square_may_reach_over_the_edge() {
        for (side, length, expected) in [
            (2, 4, vec![1.0, 3.0]),
            (2, 5, vec![1.0, 3.0, 4.0]),
            (3, 7, vec![2.0, 4.0, 6.0]),
            (3, 8, vec![2.0, 4.0, 6.0, 7.0]),
        ] {
            let column = rows(length).repeat((1, 1, side, 1)).unwrap();
            let found = largest(&column, side).unwrap();
            assert_eq!(found.flatten_all().unwrap().to_vec1::<f32>().unwrap(), expected);
        }
        let inside = largest_inside(&rows(8).repeat((1, 1, 3, 1)).unwrap(), 3).unwrap();
        assert_eq!(inside.flatten_all().unwrap().to_vec1::<f32>().unwrap(), [2.0, 4.0, 6.0]);
    }

    #[test]
    fn what_is_below_zero_counts_by_its_slope() {
        let slope = Tensor::new(&[[[[0.5f32]], [[-1.0]]]], &Device::Cpu).unwrap();
        let x = Tensor::new(&[[[[4.0f32, -4.0]], [[3.0, -3.0]]]], &Device::Cpu).unwrap();
        let found = After::Slope(slope).of(&x).unwrap();
        assert_eq!(found.flatten_all().unwrap().to_vec1::<f32>().unwrap(), [4.0, -2.0, 3.0, 3.0]);
    }
}
