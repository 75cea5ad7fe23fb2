//! The operations of a BERT layer on tensors: own kernels on the CPU and on NVIDIA devices.
//!
//! Activations have the type of the weights; biases and the parameters of norms are always f32.

#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::{
    CpuStorage, CustomOp2, CustomOp3, Device, InplaceOp2, InplaceOp3, Layout, Result, Shape,
    Tensor, bail,
};

use pulp::Arch;

use crate::LoadError;
#[cfg(feature = "cuda")]
use crate::cuda::{self, Source};
use crate::kernels::{self, Sequences, SigmoidGelu};
use crate::texts::Texts;

/// Numbers that a GPU's kernels read at once: rows must be a multiple of it.
pub(crate) const ROW_STEP: usize = 4;

/// The widest attention head that there is a kernel for on a GPU.
pub(crate) const MAX_HEAD_WIDTH: usize = 128;

/// Whether there are kernels for a network of this shape.
///
/// # Errors
/// Says what the device's kernels cannot do; those of a CPU do all.
pub(crate) fn check_sizes(
    hidden: usize,
    wide: usize,
    heads: usize,
    device: &Device,
) -> std::result::Result<(), LoadError> {
    if device.is_cpu() {
        return Ok(());
    }
    let rows = [("hidden_size", hidden), ("intermediate_size", wide)];
    let what = if let Some((name, size)) = rows.into_iter().find(|(_, size)| size % ROW_STEP != 0) {
        format!("{name} is {size}, a GPU needs a multiple of {ROW_STEP}")
    } else if hidden / heads > MAX_HEAD_WIDTH {
        format!("heads of {} numbers, a GPU takes at most {MAX_HEAD_WIDTH}", hidden / heads)
    } else {
        return Ok(());
    };
    Err(LoadError::Device { device: "cuda".to_owned(), what })
}

/// Rows of `table`, one for each of `index`.
pub(crate) fn take_rows(table: &Tensor, index: &Tensor) -> Result<Tensor> {
    if table.device().is_cpu() {
        table.index_select(index, 0)
    } else {
        table.apply_op2_no_bwd(index, &TakeRows)
    }
}

/// GELU of `x + bias`; writes into `x`.
pub(crate) fn bias_gelu(x: Tensor, bias: &Tensor) -> Result<Tensor> {
    x.inplace_op2(bias, &BiasGelu)?;
    Ok(x)
}

/// GELU of `x + bias` by the sigmoid of 1.702 times it; writes into `x` where there is a kernel for it.
pub(crate) fn bias_quick_gelu(x: Tensor, bias: &Tensor) -> Result<Tensor> {
    if x.device().is_cpu() {
        x.inplace_op2(bias, &BiasSigmoidGelu(SigmoidGelu::QUICK))?;
        return Ok(x);
    }
    let x = x.broadcast_add(&bias.to_dtype(x.dtype())?)?;
    let share = candle_nn::ops::sigmoid(&(&x * f64::from(SigmoidGelu::QUICK.slope))?)?;
    x * share
}

/// GELU of `x + bias` by a hyperbolic tangent; writes into `x` where there is a kernel for it.
pub(crate) fn bias_tanh_gelu(x: Tensor, bias: &Tensor) -> Result<Tensor> {
    if x.device().is_cpu() {
        x.inplace_op2(bias, &BiasSigmoidGelu(SigmoidGelu::TANH))?;
        return Ok(x);
    }
    x.broadcast_add(&bias.to_dtype(x.dtype())?)?.gelu()
}

/// Layer norm of `x + bias + residual`; writes into `x`. `parameters` has the rows bias, scale and
/// shift.
pub(crate) fn bias_residual_norm(
    x: Tensor,
    residual: &Tensor,
    parameters: &Tensor,
    epsilon: f32,
) -> Result<Tensor> {
    x.inplace_op3(residual, parameters, &BiasResidualNorm { epsilon })?;
    Ok(x)
}

/// Attention of every text to itself, straight on the joined query-key-value product.
pub(crate) fn packed_attention(
    qkv: &Tensor,
    bias: &Tensor,
    texts: &Texts,
    heads: usize,
) -> Result<Tensor> {
    match texts.on_device() {
        None => {
            let sequences = Sequences { lengths: texts.lengths(), heads };
            qkv.apply_op2_no_bwd(bias, &PackedAttention(sequences))
        }
        Some(texts) => qkv.apply_op3_no_bwd(bias, &texts.tiles, &TiledAttention { heads }),
    }
}

/// The mean of each text's rows, or its first row, as f32.
pub(crate) fn pool(x: &Tensor, spans: &Tensor) -> Result<Tensor> {
    x.apply_op2_no_bwd(spans, &MeanRows)
}

/// Fails where it is not overridden: on a CPU it is `index_select`.
struct TakeRows;

impl CustomOp2 for TakeRows {
    fn name(&self) -> &'static str {
        "take-rows"
    }

    fn cpu_fwd(
        &self,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        bail!("{} is for GPUs", CustomOp2::name(self))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        table: &CudaStorage,
        table_layout: &Layout,
        index: &CudaStorage,
        index_layout: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        cuda::take_rows(source(table, table_layout), source(index, index_layout))
    }
}

struct BiasGelu;

impl InplaceOp2 for BiasGelu {
    fn name(&self) -> &'static str {
        "bias-gelu"
    }

    fn cpu_fwd(
        &self,
        values: &mut CpuStorage,
        values_layout: &Layout,
        bias: &CpuStorage,
        bias_layout: &Layout,
    ) -> Result<()> {
        let bias = floats(bias, bias_layout)?;
        kernels::bias_gelu(Arch::new(), floats_mut(values, values_layout)?, bias);
        Ok(())
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        values: &mut CudaStorage,
        values_layout: &Layout,
        bias: &CudaStorage,
        bias_layout: &Layout,
    ) -> Result<()> {
        cuda::bias_gelu(values, values_layout, source(bias, bias_layout))
    }
}

/// Fails where it is not overridden: on a GPU it is made of candle's own operations.
struct BiasSigmoidGelu(SigmoidGelu);

impl InplaceOp2 for BiasSigmoidGelu {
    fn name(&self) -> &'static str {
        "bias-sigmoid-gelu"
    }

    fn cpu_fwd(
        &self,
        values: &mut CpuStorage,
        values_layout: &Layout,
        bias: &CpuStorage,
        bias_layout: &Layout,
    ) -> Result<()> {
        let bias = floats(bias, bias_layout)?;
        kernels::bias_sigmoid_gelu(Arch::new(), floats_mut(values, values_layout)?, bias, self.0);
        Ok(())
    }
}

struct BiasResidualNorm {
    epsilon: f32,
}

impl InplaceOp3 for BiasResidualNorm {
    fn name(&self) -> &'static str {
        "bias-residual-norm"
    }

    fn cpu_fwd(
        &self,
        values: &mut CpuStorage,
        values_layout: &Layout,
        residual: &CpuStorage,
        residual_layout: &Layout,
        parameters: &CpuStorage,
        parameters_layout: &Layout,
    ) -> Result<()> {
        let residual = floats(residual, residual_layout)?;
        let parameters = floats(parameters, parameters_layout)?;
        let values = floats_mut(values, values_layout)?;
        kernels::bias_residual_norm(Arch::new(), values, residual, parameters, self.epsilon);
        Ok(())
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        values: &mut CudaStorage,
        values_layout: &Layout,
        residual: &CudaStorage,
        residual_layout: &Layout,
        parameters: &CudaStorage,
        parameters_layout: &Layout,
    ) -> Result<()> {
        let residual = source(residual, residual_layout);
        let parameters = source(parameters, parameters_layout);
        cuda::bias_residual_norm(values, values_layout, residual, parameters, self.epsilon)
    }
}

struct PackedAttention<'a>(Sequences<'a>);

impl CustomOp2 for PackedAttention<'_> {
    fn name(&self) -> &'static str {
        "packed-attention"
    }

    fn cpu_fwd(
        &self,
        qkv: &CpuStorage,
        qkv_layout: &Layout,
        bias: &CpuStorage,
        bias_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let bias = floats(bias, bias_layout)?;
        let tokens: usize = self.0.lengths.iter().sum();
        let hidden = bias.len() / 3;
        let mut out = vec![0.0; tokens * hidden];
        kernels::attention(Arch::new(), floats(qkv, qkv_layout)?, bias, self.0, &mut out);
        Ok((CpuStorage::F32(out), Shape::from((tokens, hidden))))
    }
}

/// Attention in tiles of queries, as a GPU does it.
struct TiledAttention {
    heads: usize,
}

impl CustomOp3 for TiledAttention {
    fn name(&self) -> &'static str {
        "tiled-attention"
    }

    fn cpu_fwd(
        &self,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        bail!("{} of {} heads is for GPUs", CustomOp3::name(self), self.heads)
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        qkv: &CudaStorage,
        qkv_layout: &Layout,
        bias: &CudaStorage,
        bias_layout: &Layout,
        tiles: &CudaStorage,
        tiles_layout: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        let (qkv, bias) = (source(qkv, qkv_layout), source(bias, bias_layout));
        cuda::attention(qkv, bias, source(tiles, tiles_layout), self.heads)
    }
}

struct MeanRows;

impl CustomOp2 for MeanRows {
    fn name(&self) -> &'static str {
        "mean-rows"
    }

    fn cpu_fwd(
        &self,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        bail!("{} is for GPUs", CustomOp2::name(self))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        x: &CudaStorage,
        x_layout: &Layout,
        spans: &CudaStorage,
        spans_layout: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        cuda::mean_rows(source(x, x_layout), source(spans, spans_layout))
    }
}

#[cfg(feature = "cuda")]
const fn source<'a>(storage: &'a CudaStorage, layout: &'a Layout) -> Source<'a> {
    Source { storage, layout }
}

fn floats<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    let (CpuStorage::F32(numbers), Some((start, end))) = (storage, layout.contiguous_offsets())
    else {
        bail!("expected contiguous f32 numbers")
    };
    Ok(&numbers[start..end])
}

fn floats_mut<'a>(storage: &'a mut CpuStorage, layout: &Layout) -> Result<&'a mut [f32]> {
    let (CpuStorage::F32(numbers), Some((start, end))) = (storage, layout.contiguous_offsets())
    else {
        bail!("expected contiguous f32 numbers")
    };
    Ok(&mut numbers[start..end])
}
