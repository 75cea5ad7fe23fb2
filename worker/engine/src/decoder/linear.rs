//! Linear layers and the vocabulary's rows, in each of the forms in which weights are kept.

use std::sync::Arc;

use candle_core::quantized::{QMatMul, QTensor};
use candle_core::{
    CpuStorage, CustomOp1, CustomOp2, DType, Device, Layout, Module as _, Result, Shape, Tensor,
    bail,
};
use pulp::Arch;

use super::attention::floats;
use crate::LoadError;
use crate::kernels::{Blocks, Matrix as _, Plain, rows_product};
use crate::source::Source;

/// A linear layer.
pub(crate) struct Linear {
    weights: Weights,
    bias: Option<Tensor>,
}

enum Weights {
    /// On a CPU: f32 with one row per output.
    Rows(Tensor),
    /// Elsewhere: a right factor.
    Matrix(Tensor),
    /// On a CPU: whole numbers of eight bits.
    Blocks(Arc<Blocks>),
    /// As candle computes with them.
    Quantized { product: QMatMul, bytes: usize },
}

/// Whether a layer of weights has a bias.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bias {
    With,
    Without,
}

impl Linear {
    /// A layer for few rows: on a CPU what it makes of a row does not depend on the others.
    pub(crate) fn for_rows(
        source: &Source<'_>,
        name: &str,
        [inputs, outputs]: [usize; 2],
        bias: Bias,
    ) -> std::result::Result<Self, LoadError> {
        let bias = match bias {
            Bias::With => {
                let numbers = source.floats(&format!("{name}.bias"), &[outputs])?;
                Some(source.table(numbers, &[outputs])?)
            }
            Bias::Without => None,
        };
        let numbers = source.floats(&format!("{name}.weight"), &[outputs, inputs])?;
        Self::over(source, numbers, inputs, bias)
    }

    /// The same over weights with one row per output.
    pub(crate) fn over(
        source: &Source<'_>,
        numbers: Vec<f32>,
        inputs: usize,
        bias: Option<Tensor>,
    ) -> std::result::Result<Self, LoadError> {
        let outputs = numbers.len() / inputs;
        Ok(if source.device.is_cpu() {
            Self::rows(source.tensor(numbers, &[outputs, inputs])?, bias)
        } else {
            Self::matrix(source.matrix(&numbers, inputs)?, bias)
        })
    }

    pub(crate) const fn rows(weights: Tensor, bias: Option<Tensor>) -> Self {
        Self { weights: Weights::Rows(weights), bias }
    }

    pub(crate) const fn matrix(weights: Tensor, bias: Option<Tensor>) -> Self {
        Self { weights: Weights::Matrix(weights), bias }
    }

    pub(super) const fn blocks(weights: Arc<Blocks>, bias: Option<Tensor>) -> Self {
        Self { weights: Weights::Blocks(weights), bias }
    }

    pub(super) fn quantized(weights: Arc<QTensor>, bias: Option<Tensor>) -> Self {
        let bytes = weights.storage_size_in_bytes();
        Self { weights: Weights::Quantized { product: QMatMul::QTensor(weights), bytes }, bias }
    }

    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let out = match &self.weights {
            Weights::Rows(weights) => x.contiguous()?.apply_op2_no_bwd(weights, &RowsProduct)?,
            Weights::Matrix(weights) => x.matmul(weights)?,
            Weights::Blocks(weights) => {
                x.contiguous()?.apply_op1_no_bwd(&BlocksProduct(Arc::clone(weights)))?
            }
            Weights::Quantized { product, .. } => product.forward(&x.contiguous()?)?,
        };
        match &self.bias {
            Some(bias) => out.broadcast_add(bias),
            None => Ok(out),
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        match &self.weights {
            Weights::Rows(weights) | Weights::Matrix(weights) => crate::source::bytes(weights),
            Weights::Blocks(weights) => weights.bytes(),
            Weights::Quantized { bytes, .. } => *bytes,
        }
    }
}

/// Rows by token.
pub(crate) enum Table {
    Plain(Tensor),
    Blocks(Arc<Blocks>),
    Quantized(Arc<QTensor>),
}

impl Table {
    pub(super) fn rows(&self, tokens: &[u32], dtype: DType) -> Result<Tensor> {
        match self {
            Self::Plain(table) => {
                table.index_select(&Tensor::new(tokens, table.device())?, 0)?.to_dtype(dtype)
            }
            Self::Blocks(table) => {
                let table = table.as_ref();
                let width = table.width();
                let mut numbers = vec![0.0; tokens.len() * width];
                for (token, numbers) in tokens.iter().zip(numbers.chunks_exact_mut(width)) {
                    let row = usize::try_from(*token)?;
                    if row >= table.outputs() {
                        bail!("token {token} of a vocabulary of {}", table.outputs());
                    }
                    table.numbers(row..row + 1, numbers);
                }
                Tensor::from_vec(numbers, (tokens.len(), width), &Device::Cpu)?.to_dtype(dtype)
            }
            Self::Quantized(table) => {
                table.embedding(&Tensor::new(tokens, &table.device())?)?.to_dtype(dtype)
            }
        }
    }

    /// Memory of its own.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Plain(table) => crate::source::bytes(table),
            Self::Blocks(table) => table.bytes(),
            Self::Quantized(table) => table.storage_size_in_bytes(),
        }
    }

    pub(super) fn device(&self) -> Device {
        match self {
            Self::Plain(table) => table.device().clone(),
            Self::Blocks(_) => Device::Cpu,
            Self::Quantized(table) => table.device(),
        }
    }
}

struct RowsProduct;

impl CustomOp2 for RowsProduct {
    fn name(&self) -> &'static str {
        "rows-product"
    }

    fn cpu_fwd(
        &self,
        rows: &CpuStorage,
        rows_layout: &Layout,
        matrix: &CpuStorage,
        matrix_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (count, width) = rows_layout.shape().dims2()?;
        let (outputs, _) = matrix_layout.shape().dims2()?;
        let (rows, matrix) = (floats(rows, rows_layout)?, floats(matrix, matrix_layout)?);
        let mut out = vec![0.0; count * outputs];
        rows_product(Arch::new(), rows, Plain { numbers: matrix, width }, &mut out);
        Ok((CpuStorage::F32(out), Shape::from((count, outputs))))
    }
}

struct BlocksProduct(Arc<Blocks>);

impl CustomOp1 for BlocksProduct {
    fn name(&self) -> &'static str {
        "blocks-product"
    }

    fn cpu_fwd(&self, rows: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let matrix = self.0.as_ref();
        let (count, width) = layout.shape().dims2()?;
        if width != matrix.width() {
            bail!("rows of {width} numbers, expected {}", matrix.width());
        }
        let mut out = vec![0.0; count * matrix.outputs()];
        rows_product(Arch::new(), floats(rows, layout)?, matrix, &mut out);
        Ok((CpuStorage::F32(out), Shape::from((count, matrix.outputs()))))
    }
}
