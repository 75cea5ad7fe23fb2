//! What loading any model needs: threads side by side, and how long each took.

use std::panic;
use std::thread::{self, ScopedJoinHandle};
use std::time::Instant;

use candle_core::Device;

use crate::weights::WeightsFile;
use crate::{LoadError, Precision};

/// Where a network is to run. On a CPU the precision must be f32.
#[derive(Clone, Copy)]
pub(crate) struct Target<'a> {
    pub(crate) device: &'a Device,
    pub(crate) precision: Precision,
}

/// What a thread made; its panic goes on here.
pub(crate) fn joined<T>(thread: ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|panic| panic::resume_unwind(panic))
}

pub(crate) fn timed<T>(seconds: &mut f64, work: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let result = work();
    *seconds = start.elapsed().as_secs_f64();
    result
}

/// What both make, the first on a thread of its own.
pub(crate) fn both<A: Send, B>(
    first: impl FnOnce() -> Result<A, LoadError> + Send,
    second: impl FnOnce() -> Result<B, LoadError>,
) -> Result<(A, B), LoadError> {
    thread::scope(|scope| {
        let first = scope.spawn(first);
        let second = second()?;
        Ok((joined(first)?, second))
    })
}

/// A CPU's answer to the canary, which a GPU's is compared with; none where the engine's own would be one.
pub(crate) fn known_for<K>(
    device: &Device,
    answer: impl FnOnce() -> Result<K, LoadError>,
) -> Result<Option<K>, LoadError> {
    if device.is_cpu() { Ok(None) } else { answer().map(Some) }
}

/// How long a file took, in seconds.
pub(crate) struct FileSeconds<'a> {
    pub(crate) read: &'a mut f64,
    pub(crate) build: &'a mut f64,
    pub(crate) digest: &'a mut f64,
}

/// What a file's weights make.
pub(crate) struct Loaded<N, B> {
    pub(crate) network: N,
    pub(crate) beside: B,
    pub(crate) sha256: String,
}

/// Makes a network from a file, while one thread computes the file's digest and one makes what is wanted beside: all are
/// about as slow.
///
/// # Errors
/// Of making either, and when the digest is not the expected one.
pub(crate) fn load<N, B: Send>(
    file: &WeightsFile,
    expected: Option<&str>,
    seconds: FileSeconds<'_>,
    network: impl FnOnce() -> Result<N, LoadError>,
    beside: impl FnOnce() -> Result<B, LoadError> + Send,
) -> Result<Loaded<N, B>, LoadError> {
    let FileSeconds { read, build, digest } = seconds;
    thread::scope(|scope| {
        let sha256 = scope.spawn(|| file.sha256());
        let beside = scope.spawn(beside);
        // What is wrong with the file itself explains best why nothing can be made of it.
        let before = file.reading();
        let network = timed(build, network);
        *read = file.reading().as_secs_f64();
        *build = (*build - file.reading().saturating_sub(before).as_secs_f64()).max(0.0);
        let beside = joined(beside);
        let sha256 = timed(digest, || joined(sha256))?;
        file.verify(&sha256, expected)?;
        Ok(Loaded { network: network?, beside: beside?, sha256 })
    })
}
