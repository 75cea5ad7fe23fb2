//! A model's weights: read once, verified, taken apart.
//!
//! The digest is computed over the very bytes that are loaded, beside the loading. Only safetensors and
//! GGUF are read: pickled formats run code when they are opened.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use safetensors::{Dtype, SafeTensors};
use sha2::{Digest as _, Sha256};

use crate::LoadError;

/// The one file that weights are read from.
pub(crate) const FILE_NAME: &str = "model.safetensors";

const FETCH_AGAIN: &str = "fetch the model again: this file was not downloaded completely";
const CONVERT: &str = "convert the model with safetensors.torch.save_file on a machine where its code may run, or \
                       use a model that ships model.safetensors";

/// Weights in memory, not yet on a device.
#[derive(Debug)]
pub(crate) struct WeightsFile {
    path: PathBuf,
    bytes: Vec<u8>,
}

impl WeightsFile {
    /// Reads the weights of a model.
    ///
    /// # Errors
    /// When they are missing or of another format.
    pub(crate) fn read(directory: &Path) -> Result<Self, LoadError> {
        let path = directory.join(FILE_NAME);
        match read_file(&path) {
            Ok(bytes) => {
                refuse_format(&path, &bytes)?;
                Ok(Self { path, bytes })
            }
            Err(source) if source.kind() == io::ErrorKind::NotFound => {
                Err(LoadError::Missing { path, remedy: missing_remedy(directory) })
            }
            Err(source) => Err(LoadError::Read { path, source }),
        }
    }

    /// Reads a GGUF file; what is in it is not looked at.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(crate) fn read_gguf(path: PathBuf) -> Result<Self, LoadError> {
        match read_file(&path) {
            Ok(bytes) => Ok(Self { path, bytes }),
            Err(source) => Err(LoadError::Read { path, source }),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// SHA-256 of the file in lowercase hex.
    pub(crate) fn sha256(&self) -> String {
        hex::encode(Sha256::digest(&self.bytes))
    }

    /// Compares a digest with the registry's, `sha256:` followed by 64 hex digits.
    ///
    /// # Errors
    /// When they differ.
    pub(crate) fn check_digest(&self, found: &str, expected: &str) -> Result<(), LoadError> {
        let digits = expected.strip_prefix("sha256:").unwrap_or(expected);
        if digits.eq_ignore_ascii_case(found) {
            return Ok(());
        }
        let (expected, found) = (expected.to_owned(), format!("sha256:{found}"));
        Err(LoadError::Digest { path: self.path.clone(), expected, found })
    }

    /// The tensors inside, after checking that the header and the file's length agree.
    pub(crate) fn tensors(&self) -> Result<Weights<'_>, LoadError> {
        let tensors = SafeTensors::deserialize(&self.bytes).map_err(|error| {
            LoadError::Corrupt { path: self.path.clone(), what: error.to_string() }
        })?;
        Ok(Weights { path: &self.path, tensors })
    }
}

fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let length = usize::try_from(file.metadata()?.len()).unwrap_or(0);
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(length).map_err(|_| io::ErrorKind::OutOfMemory)?;
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Names what people really put in place of the file.
fn refuse_format(path: &Path, bytes: &[u8]) -> Result<(), LoadError> {
    let (found, remedy) = match bytes {
        [] => ("an empty file", FETCH_AGAIN),
        [b'P', b'K', 3, 4, ..] => ("a zip archive (a pickled PyTorch file)", CONVERT),
        [0x80, 0x02..=0x05, ..] => ("a pickle", CONVERT),
        [b'G', b'G', b'U', b'F', ..] => ("a GGUF file", CONVERT),
        bytes if bytes.starts_with(b"version https://git-lfs") => (
            "a Git LFS pointer, which only names the weights",
            "fetch the weights with `git lfs pull`",
        ),
        bytes if bytes.starts_with(b"<") => ("a web page", FETCH_AGAIN),
        _ => return Ok(()),
    };
    Err(LoadError::Format { path: path.to_owned(), found, remedy })
}

fn missing_remedy(directory: &Path) -> &'static str {
    let has = |name: &str| directory.join(name).exists();
    if has("model.safetensors.index.json") {
        "weights in several parts are not supported: save the model as one safetensors file"
    } else if has("pytorch_model.bin") {
        CONVERT
    } else {
        "fetch the model again, or correct its `source` in the fleet file"
    }
}

/// Named tensors of a weights file.
pub(crate) struct Weights<'a> {
    path: &'a Path,
    tensors: SafeTensors<'a>,
}

impl Weights<'_> {
    /// Whether there is a tensor of this name.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.tensors.tensor(name).is_ok()
    }

    /// The numbers of a tensor as f32, row by row, after checking shape and finiteness.
    pub(crate) fn floats(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, LoadError> {
        let mismatch = |what| LoadError::Mismatch { path: self.path.to_owned(), what };
        let view =
            self.tensors.tensor(name).map_err(|_| mismatch(format!("tensor {name} is missing")))?;
        if view.shape() != shape {
            let found = view.shape();
            return Err(mismatch(format!("tensor {name} has shape {found:?}, expected {shape:?}")));
        }
        let numbers = match view.dtype() {
            Dtype::F32 => little_endian(view.data()),
            Dtype::F16 => widen(view.data(), DType::F16, shape).map_err(mismatch)?,
            Dtype::BF16 => widen(view.data(), DType::BF16, shape).map_err(mismatch)?,
            other => {
                let what = format!("tensor {name} is {other:?}, expected F32, F16 or BF16");
                return Err(LoadError::Unsupported { path: self.path.to_owned(), what });
            }
        };
        if all_finite(&numbers) {
            Ok(numbers)
        } else {
            Err(LoadError::NotFinite { path: self.path.to_owned(), name: name.to_owned() })
        }
    }
}

fn little_endian(data: &[u8]) -> Vec<f32> {
    let (numbers, _) = data.as_chunks::<4>();
    numbers.iter().map(|number| f32::from_le_bytes(*number)).collect()
}

fn widen(data: &[u8], from: DType, shape: &[usize]) -> Result<Vec<f32>, String> {
    Tensor::from_raw_buffer(data, from, shape, &Device::Cpu)
        .and_then(|half| half.to_dtype(DType::F32)?.flatten_all()?.to_vec1())
        .map_err(|error| error.to_string())
}

/// Compares bit patterns, which the compiler turns into vector code, unlike an early exit.
fn all_finite(numbers: &[f32]) -> bool {
    const INFINITY: u32 = f32::INFINITY.to_bits();
    const MAGNITUDE: u32 = !(1 << 31);
    numbers.iter().fold(0, |max: u32, number| max.max(number.to_bits() & MAGNITUDE)) < INFINITY
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_number_that_is_not_finite_is_seen() {
        assert!(all_finite(&[]));
        assert!(all_finite(&[0.0, -0.0, f32::MAX, f32::MIN, f32::MIN_POSITIVE / 2.0]));
        for bad in [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            assert!(!all_finite(&[1.0, bad, 1.0]), "{bad}");
        }
    }
}
