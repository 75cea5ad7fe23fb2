//! The NVIDIA device: opening it, and launching the kernels of `cuda/kernels.cu`.
//!
//! The only file with unsafe code: a launch is a call into another language that the compiler
//! cannot check. Each function checks what its kernel expects before it launches.
#![expect(unsafe_code, reason = "see above")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use candle_core::cuda_backend::cudarc::driver::{
    CudaFunction, CudaModule, CudaSlice, CudaView, CudaViewMut, DeviceRepr, LaunchConfig,
    PushKernelArg as _,
};
use candle_core::cuda_backend::cudarc::nvrtc::Ptx;
use candle_core::cuda_backend::{CudaDType, CudaDevice, CudaStorageSlice, WrapErr as _};
use candle_core::{CudaStorage, Device, Layout, Result, Shape, bail};
use half::{bf16, f16};

use crate::ops::{MAX_HEAD_WIDTH, ROW_STEP};
use crate::texts::TILE_QUERIES;

/// The compute capability that this binary was built for, times ten.
const BUILT_FOR: i32 = parse(env!("STOKER_COMPUTE_CAPABILITY"));

/// Numbers of an attention head that one thread holds.
const PART: usize = 32;

const WARP: u32 = 32;
const MAX_BLOCK: u32 = 256;

const fn parse(digits: &str) -> i32 {
    let (bytes, mut value, mut at) = (digits.as_bytes(), 0, 0);
    while at < bytes.len() {
        value = value * 10 + (bytes[at] - b'0') as i32;
        at += 1;
    }
    value
}

/// Opens a device with a stream of its own, on which everything of this process runs in order.
///
/// # Errors
/// When there is no such device, the driver refuses, or this binary was built for another one.
pub(crate) fn open(number: usize) -> Result<Device> {
    let device = Device::new_cuda_with_stream(number)?;
    let cuda = device.as_cuda_device()?;
    // SAFETY: there is one stream, so there is nothing between streams to keep track of. Without
    // it, every tensor would cost two events, and every use of it a wait.
    unsafe { cuda.disable_event_tracking() };
    let (major, minor) = cuda.cuda_stream().context().compute_capability().w()?;
    let found = major * 10 + minor;
    if major != BUILT_FOR / 10 || found < BUILT_FOR {
        bail!(
            "its compute capability is {found}, this engine was built for {BUILT_FOR}: use the \
             engine of that number, or build it with CUDA_COMPUTE_CAP={found}"
        );
    }
    module(cuda)?;
    Ok(device)
}

/// The kernels on this device, loaded once per process.
fn module(device: &CudaDevice) -> Result<Arc<CudaModule>> {
    static LOADED: OnceLock<Mutex<BTreeMap<usize, Arc<CudaModule>>>> = OnceLock::new();
    let loaded = LOADED.get_or_init(Mutex::default);
    let mut loaded = loaded.lock().unwrap_or_else(PoisonError::into_inner);
    let stream = device.cuda_stream();
    let context = stream.context();
    if let Some(module) = loaded.get(&context.ordinal()) {
        return Ok(Arc::clone(module));
    }
    let code = include_bytes!(env!("STOKER_CUDA_KERNELS"));
    let module = context.load_module(Ptx::from_binary(code.to_vec())).w()?;
    loaded.insert(context.ordinal(), Arc::clone(&module));
    Ok(module)
}

/// A kernel by its name with the type in place of `T`.
fn kernel<T: Activation>(device: &CudaDevice, name: &str) -> Result<CudaFunction> {
    module(device)?.load_function(&name.replace('T', T::NAME)).w()
}

/// A type that activations can have.
trait Activation: CudaDType + DeviceRepr {
    /// Its name in the names of kernels.
    const NAME: &'static str;
}

impl Activation for f32 {
    const NAME: &'static str = "f32";
}

impl Activation for f16 {
    const NAME: &'static str = "f16";
}

impl Activation for bf16 {
    const NAME: &'static str = "bf16";
}

/// Calls a generic function with the storage's type of numbers.
macro_rules! by_type {
    ($storage:expr, $function:ident($($argument:expr),*)) => {
        match $storage.slice {
            CudaStorageSlice::F32(_) => $function::<f32>($($argument),*),
            CudaStorageSlice::F16(_) => $function::<f16>($($argument),*),
            CudaStorageSlice::BF16(_) => $function::<bf16>($($argument),*),
            _ => bail!("the kernels know f32, f16 and bf16 only"),
        }
    };
}

/// A tensor as a kernel gets it: numbers without gaps.
#[derive(Clone, Copy)]
pub(crate) struct Source<'a> {
    pub(crate) storage: &'a CudaStorage,
    pub(crate) layout: &'a Layout,
}

impl<'a> Source<'a> {
    fn view<T: CudaDType>(self) -> Result<CudaView<'a, T>> {
        let Some((start, end)) = self.layout.contiguous_offsets() else {
            bail!("expected a tensor without gaps")
        };
        Ok(self.storage.as_cuda_slice::<T>()?.slice(start..end))
    }

    fn width(self) -> Result<usize> {
        match self.layout.dims().last() {
            Some(width) if *width > 0 => Ok(*width),
            _ => bail!("expected rows that are not empty"),
        }
    }
}

/// Rows of `table`, one for each number in `index`.
pub(crate) fn take_rows(table: Source<'_>, index: Source<'_>) -> Result<(CudaStorage, Shape)> {
    by_type!(table.storage, take_rows_of(table, index))
}

fn take_rows_of<T: Activation>(
    table: Source<'_>,
    index: Source<'_>,
) -> Result<(CudaStorage, Shape)> {
    let device = &table.storage.device;
    let (rows, width) = (index.layout.shape().elem_count(), table.width()?);
    let function = kernel::<T>(device, "take_rows_T")?;
    let mut out = uninitialized::<T>(device, rows * width)?;
    let (table, index, width_arg) = (table.view::<T>()?, index.view::<u32>()?, number(width)?);
    let stream = device.cuda_stream();
    let mut launch = stream.launch_builder(&function);
    launch.arg(&table).arg(&index).arg(&mut out).arg(&width_arg);
    // SAFETY: `out` has a row for each of the grid's blocks; the tokenizer's check and the cut to
    // the longest text keep the index inside the table.
    unsafe { launch.launch(grid(number(rows)?, 1, (block(width), 1))) }.w()?;
    Ok((wrap(out, device), Shape::from((rows, width))))
}

/// GELU of `x + bias`, in place.
pub(crate) fn bias_gelu(x: &mut CudaStorage, layout: &Layout, bias: Source<'_>) -> Result<()> {
    by_type!(x, bias_gelu_of(x, layout, bias))
}

fn bias_gelu_of<T: Activation>(
    x: &mut CudaStorage,
    layout: &Layout,
    bias: Source<'_>,
) -> Result<()> {
    let device = x.device.clone();
    let rows = Rows::of(layout)?;
    expect_count("bias", bias, rows.width)?;
    let function = kernel::<T>(&device, "bias_gelu_T")?;
    let mut values = rows.of_mut(x.as_cuda_slice_mut::<T>()?);
    let (bias, width) = (bias.view::<f32>()?, number(rows.width)?);
    let stream = device.cuda_stream();
    let mut launch = stream.launch_builder(&function);
    launch.arg(&mut values).arg(&bias).arg(&width);
    // SAFETY: one block per row, and each stays within its row.
    unsafe { launch.launch(grid(number(rows.count)?, 1, (block(rows.width / ROW_STEP), 1))) }
        .w()?;
    Ok(())
}

/// Layer norm of `x + bias + residual`, in place; `parameters` has the rows bias, scale and shift.
pub(crate) fn bias_residual_norm(
    x: &mut CudaStorage,
    layout: &Layout,
    residual: Source<'_>,
    parameters: Source<'_>,
    epsilon: f32,
) -> Result<()> {
    by_type!(x, bias_residual_norm_of(x, layout, residual, parameters, epsilon))
}

fn bias_residual_norm_of<T: Activation>(
    x: &mut CudaStorage,
    layout: &Layout,
    residual: Source<'_>,
    parameters: Source<'_>,
    epsilon: f32,
) -> Result<()> {
    let device = x.device.clone();
    let rows = Rows::of(layout)?;
    expect_count("residual", residual, rows.count * rows.width)?;
    expect_count("parameters", parameters, 3 * rows.width)?;
    let function = kernel::<T>(&device, "bias_residual_norm_T")?;
    let mut values = rows.of_mut(x.as_cuda_slice_mut::<T>()?);
    let (residual, parameters) = (residual.view::<T>()?, parameters.view::<f32>()?);
    let (width, count) = (number(rows.width)?, number(rows.count)?);
    let stream = device.cuda_stream();
    let mut launch = stream.launch_builder(&function);
    launch.arg(&mut values).arg(&residual).arg(&parameters).arg(&width).arg(&count).arg(&epsilon);
    let warps = MAX_BLOCK / WARP;
    // SAFETY: one warp per row, those past the last return at once; lengths were checked above.
    unsafe { launch.launch(grid(count.div_ceil(warps), 1, (WARP, warps))) }.w()?;
    Ok(())
}

/// Attention of every text to itself. `qkv` has a row per token, `tiles` one per
/// [`TILE_QUERIES`] queries of a text: its first row, its length, the first query, zero.
pub(crate) fn attention(
    qkv: Source<'_>,
    bias: Source<'_>,
    tiles: Source<'_>,
    heads: usize,
) -> Result<(CudaStorage, Shape)> {
    by_type!(qkv.storage, attention_of(qkv, bias, tiles, heads))
}

fn attention_of<T: Activation>(
    qkv: Source<'_>,
    bias: Source<'_>,
    tiles: Source<'_>,
    heads: usize,
) -> Result<(CudaStorage, Shape)> {
    let device = &qkv.storage.device;
    let (tokens, hidden) = qkv.layout.shape().dims2()?;
    let hidden = hidden / 3;
    expect_count("bias", bias, 3 * hidden)?;
    let head_width = hidden / heads;
    let (name, threads_per_query) = match head_width.div_ceil(PART) {
        0 | 1 => ("attention_T_1", 1),
        2 => ("attention_T_2", 2),
        3 | 4 => ("attention_T_4", 4),
        _ => bail!("an attention head has {head_width} numbers, at most {MAX_HEAD_WIDTH} can be"),
    };
    let function = kernel::<T>(device, name)?;
    let mut out = uninitialized::<T>(device, tokens * hidden)?;
    let count = number(tiles.layout.shape().elem_count() / 4)?;
    let (qkv, bias, tiles) = (qkv.view::<T>()?, bias.view::<f32>()?, tiles.view::<u32>()?);
    let (hidden_arg, width) = (number(hidden)?, number(head_width)?);
    // Powers of two are cheaper than powers of e.
    #[expect(clippy::cast_precision_loss, reason = "a head has few numbers")]
    let scale = std::f32::consts::LOG2_E / (head_width as f32).sqrt();
    let stream = device.cuda_stream();
    let mut launch = stream.launch_builder(&function);
    launch.arg(&qkv).arg(&bias).arg(&tiles).arg(&mut out).arg(&hidden_arg).arg(&width).arg(&scale);
    let block = (number(TILE_QUERIES)? * threads_per_query, 1);
    // SAFETY: tiles are made by `Texts` from the lengths that `qkv` has rows for.
    unsafe { launch.launch(grid(count, number(heads)?, block)) }.w()?;
    Ok((wrap(out, device), Shape::from((tokens, hidden))))
}

/// The mean of the rows of each span, which is a first row and a number of rows, as f32.
pub(crate) fn mean_rows(x: Source<'_>, spans: Source<'_>) -> Result<(CudaStorage, Shape)> {
    by_type!(x.storage, mean_rows_of(x, spans))
}

fn mean_rows_of<T: Activation>(x: Source<'_>, spans: Source<'_>) -> Result<(CudaStorage, Shape)> {
    let device = &x.storage.device;
    let (count, width) = (spans.layout.shape().elem_count() / 2, x.width()?);
    let function = kernel::<T>(device, "mean_rows_T")?;
    let mut out = uninitialized::<f32>(device, count * width)?;
    let (x, spans, width_arg) = (x.view::<T>()?, spans.view::<u32>()?, number(width)?);
    let stream = device.cuda_stream();
    let mut launch = stream.launch_builder(&function);
    launch.arg(&x).arg(&spans).arg(&mut out).arg(&width_arg);
    // SAFETY: one block per span; spans are made by `Texts` and lie within `x`.
    unsafe { launch.launch(grid(number(count)?, 1, (block(width), 1))) }.w()?;
    Ok((wrap(out, device), Shape::from((count, width))))
}

/// A matrix that is changed in place.
#[derive(Clone, Copy)]
struct Rows {
    start: usize,
    count: usize,
    width: usize,
}

impl Rows {
    fn of(layout: &Layout) -> Result<Self> {
        let (count, width) = layout.shape().dims2()?;
        let Some((start, _)) = layout.contiguous_offsets() else {
            bail!("expected a tensor without gaps")
        };
        if width % ROW_STEP != 0 || start % ROW_STEP != 0 {
            bail!("rows of {width} numbers are not a multiple of {ROW_STEP}")
        }
        Ok(Self { start, count, width })
    }

    fn of_mut<T>(self, slice: &mut CudaSlice<T>) -> CudaViewMut<'_, T> {
        slice.slice_mut(self.start..self.start + self.count * self.width)
    }
}

fn expect_count(what: &str, tensor: Source<'_>, count: usize) -> Result<()> {
    let found = tensor.layout.shape().elem_count();
    if found != count {
        bail!("{what} has {found} numbers, expected {count}")
    }
    Ok(())
}

/// Memory that the kernel launched next fills.
fn uninitialized<T: DeviceRepr>(device: &CudaDevice, count: usize) -> Result<CudaSlice<T>> {
    // SAFETY: the callers launch a kernel that writes every number before anything reads one.
    unsafe { device.alloc::<T>(count) }
}

fn wrap<T: CudaDType>(numbers: CudaSlice<T>, device: &CudaDevice) -> CudaStorage {
    CudaStorage::wrap_cuda_slice(numbers, device.clone())
}

fn number(count: usize) -> Result<u32> {
    u32::try_from(count).map_err(candle_core::Error::wrap)
}

/// Threads for `work` things, in whole warps.
fn block(work: usize) -> u32 {
    u32::try_from(work).unwrap_or(MAX_BLOCK).next_multiple_of(WARP).min(MAX_BLOCK)
}

const fn grid(x: u32, y: u32, (width, height): (u32, u32)) -> LaunchConfig {
    LaunchConfig { grid_dim: (x, y, 1), block_dim: (width, height, 1), shared_mem_bytes: 0 }
}
