//! Memory of the device, and taking it away.

use candle_core::{DType, Device, Tensor};

const MIB: usize = 1 << 20;

/// The smallest piece that a hog takes.
const CRUMB: usize = 4 * MIB;

/// Opens the device in this process.
pub(crate) fn open() -> Device {
    Device::new_cuda_with_stream(0).expect("these tests need an NVIDIA GPU and its driver")
}

/// Memory that nobody uses, in MiB.
pub(crate) fn free_mib(device: &Device) -> usize {
    device.synchronize().unwrap();
    let stream = device.as_cuda_device().unwrap().cuda_stream();
    stream.context().mem_get_info().unwrap().0 / MIB
}

/// Memory that stays taken until it is dropped.
pub(crate) struct Hog(#[expect(dead_code, reason = "held, not read")] Vec<Tensor>);

/// Takes memory until about `left_mib` are free.
pub(crate) fn hog(device: &Device, left_mib: usize) -> Hog {
    let mut taken = Vec::new();
    let mut piece = 1 << 33;
    while piece >= CRUMB {
        let free = free_mib(device) * MIB;
        if free < left_mib * MIB + piece {
            piece /= 2;
            continue;
        }
        match Tensor::zeros(piece, DType::U8, device) {
            Ok(tensor) => taken.push(tensor),
            Err(_) => piece /= 2,
        }
    }
    Hog(taken)
}
