//! The operations of a BERT layer on tensors: own kernels on the CPU, candle's on other devices.

use candle_core::{
    CpuStorage, CustomOp2, InplaceOp2, InplaceOp3, Layout, Result, Shape, Tensor, bail,
};

use pulp::Arch;

use crate::kernels::{self, Sequences};

/// GELU of `x + bias`; may write into `x`.
pub(crate) fn bias_gelu(x: Tensor, bias: &Tensor) -> Result<Tensor> {
    if x.device().is_cpu() {
        x.inplace_op2(bias, &BiasGelu)?;
        Ok(x)
    } else {
        x.broadcast_add(bias)?.gelu_erf()
    }
}

/// Layer norm of `x + bias + residual`; may write into `x`. `parameters` has the rows bias, scale
/// and shift.
pub(crate) fn bias_residual_norm(
    x: Tensor,
    residual: &Tensor,
    parameters: &Tensor,
    epsilon: f32,
) -> Result<Tensor> {
    if x.device().is_cpu() {
        x.inplace_op3(residual, parameters, &BiasResidualNorm { epsilon })?;
        return Ok(x);
    }
    let sum = x.broadcast_add(&parameters.get(0)?)?.add(residual)?;
    candle_nn::ops::layer_norm(&sum, &parameters.get(1)?, &parameters.get(2)?, epsilon)
}

/// Attention on the CPU, straight on the joined query-key-value product.
pub(crate) fn packed_attention(
    qkv: &Tensor,
    bias: &Tensor,
    lengths: &[usize],
    heads: usize,
) -> Result<Tensor> {
    qkv.apply_op2_no_bwd(bias, &PackedAttention(Sequences { lengths, heads }))
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
