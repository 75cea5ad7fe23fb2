//! GGUF files: one file with the weights, what describes them, and the tokenizer.
//!
//! A header is walked and bounded before anything is made of it: files come from strangers.

mod header;

use std::io::{BufReader, Cursor};
use std::path::{Path, PathBuf};

use candle_core::quantized::gguf_file::{Content, Value};
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{DType, Device};

use crate::LoadError;
use crate::device::one_line;
use crate::error::beginning;
use crate::kernels::{BlockFormat, Blocks};
use crate::weights::WeightsFile;

/// What is wrong with a model of several such files.
const ONE_FILE: &str =
    "keep one GGUF file in the model's folder; a model that was split has to be put together";

/// An opened file.
pub(crate) struct Gguf<'a> {
    file: &'a WeightsFile,
    content: Content,
}

/// The one GGUF file of a folder, if there is one.
///
/// # Errors
/// When the folder cannot be read or has several.
pub(crate) fn find(directory: &Path) -> Result<Option<PathBuf>, LoadError> {
    let read = |source| LoadError::Read { path: directory.to_owned(), source };
    let mut found: Vec<PathBuf> = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(read)? {
        let path = entry.map_err(read)?.path();
        if path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gguf")) {
            found.push(path);
        }
    }
    match found.as_slice() {
        [] => Ok(None),
        [_] => Ok(found.pop()),
        [..] => Err(LoadError::Format {
            path: directory.to_owned(),
            found: "a folder with several GGUF files",
            remedy: ONE_FILE,
        }),
    }
}

impl<'a> Gguf<'a> {
    /// Reads the header.
    ///
    /// # Errors
    /// When it is not one, or claims what the file does not hold.
    pub(crate) fn open(file: &'a WeightsFile) -> Result<Self, LoadError> {
        let corrupt = |what| LoadError::Corrupt { path: file.path().to_owned(), what };
        let header = header::check(BufReader::new(file.reader()), file.length());
        // The very bytes that were checked.
        let content = Content::read(&mut Cursor::new(header.map_err(corrupt)?));
        let content = content.map_err(|error| corrupt(short(&error)))?;
        Ok(Self { file, content })
    }

    pub(crate) fn path(&self) -> &Path {
        self.file.path()
    }

    pub(crate) fn text(&self, key: &str) -> Option<&str> {
        match self.content.metadata.get(key)? {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    /// A number that is not negative.
    pub(crate) fn count(&self, key: &str) -> Option<u64> {
        match self.content.metadata.get(key)? {
            Value::U8(number) => Some(u64::from(*number)),
            Value::U16(number) => Some(u64::from(*number)),
            Value::U32(number) => Some(u64::from(*number)),
            Value::U64(number) => Some(*number),
            Value::I8(number) => u64::try_from(*number).ok(),
            Value::I16(number) => u64::try_from(*number).ok(),
            Value::I32(number) => u64::try_from(*number).ok(),
            Value::I64(number) => u64::try_from(*number).ok(),
            _ => None,
        }
    }

    pub(crate) fn number(&self, key: &str) -> Option<f64> {
        match self.content.metadata.get(key)? {
            Value::F32(number) => Some(f64::from(*number)),
            Value::F64(number) => Some(*number),
            _ => None,
        }
    }

    pub(crate) fn flag(&self, key: &str) -> Option<bool> {
        match self.content.metadata.get(key)? {
            Value::Bool(flag) => Some(*flag),
            _ => None,
        }
    }

    pub(crate) fn list(&self, key: &str) -> Option<&[Value]> {
        match self.content.metadata.get(key)? {
            Value::Array(values) => Some(values),
            _ => None,
        }
    }

    /// The shape of a tensor, if there is one of this name.
    pub(crate) fn shape(&self, name: &str) -> Option<&[usize]> {
        self.content.tensor_infos.get(name).map(|info| info.shape.dims())
    }

    /// A tensor as it is stored.
    ///
    /// # Errors
    /// When it is missing or of another shape or of a type that this engine does not compute with, or
    /// the device has no memory for it.
    pub(crate) fn tensor(
        &self,
        name: &str,
        shape: &[usize],
        device: &Device,
    ) -> Result<QTensor, LoadError> {
        let found =
            self.shape(name).ok_or_else(|| self.wrong(format!("tensor {name} is missing")))?;
        if found != shape {
            return Err(
                self.wrong(format!("tensor {name} has shape {found:?}, expected {shape:?}"))
            );
        }
        let Some(info) = self.content.tensor_infos.get(name) else {
            return Err(self.wrong(format!("tensor {name} is missing")));
        };
        if !is_known(info.ggml_dtype) {
            let what = format!("tensor {name} is {:?}, which is not supported", info.ggml_dtype);
            return Err(LoadError::Unsupported { path: self.path().to_owned(), what });
        }
        info.read(&mut self.file.reader(), self.content.tensor_data_offset, device)
            .map_err(|error| self.wrong(format!("tensor {name}: {}", short(&error))))
    }

    /// A matrix with one row per output as a CPU computes with it; nothing where candle does so for its type.
    ///
    /// # Errors
    /// When its rows are no whole blocks.
    pub(crate) fn blocks(&self, name: &str, tensor: &QTensor) -> Result<Option<Blocks>, LoadError> {
        let Some(format) = block_format(tensor.dtype()) else { return Ok(None) };
        let width = tensor.shape().dims().last().copied().unwrap_or_default();
        let bytes = tensor
            .data()
            .map_err(|error| self.wrong(format!("tensor {name}: {}", short(&error))))?;
        let blocks = Blocks::new(format, &bytes, width);
        blocks
            .map(Some)
            .ok_or_else(|| self.wrong(format!("tensor {name} has rows of no whole blocks")))
    }

    /// A tensor's numbers as f32, which must be finite.
    ///
    /// # Errors
    /// As of [`Gguf::tensor`], and when a number is not finite.
    pub(crate) fn floats(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, LoadError> {
        let tensor = self.tensor(name, shape, &Device::Cpu)?;
        let numbers: Vec<f32> = tensor
            .dequantize(&Device::Cpu)
            .and_then(|numbers| numbers.to_dtype(DType::F32)?.flatten_all()?.to_vec1())
            .map_err(|error| self.wrong(format!("tensor {name}: {}", short(&error))))?;
        if numbers.iter().all(|number| number.is_finite()) {
            return Ok(numbers);
        }
        Err(LoadError::NotFinite { path: self.path().to_owned(), name: name.to_owned() })
    }

    fn wrong(&self, what: String) -> LoadError {
        LoadError::Corrupt { path: self.path().to_owned(), what }
    }
}

/// Types that weights are stored in; those of activations are not among them.
const fn is_known(kind: GgmlDType) -> bool {
    match kind {
        GgmlDType::F32
        | GgmlDType::F16
        | GgmlDType::BF16
        | GgmlDType::Q4_0
        | GgmlDType::Q4_1
        | GgmlDType::Q5_0
        | GgmlDType::Q5_1
        | GgmlDType::Q8_0
        | GgmlDType::Q2K
        | GgmlDType::Q3K
        | GgmlDType::Q4K
        | GgmlDType::Q5K
        | GgmlDType::Q6K => true,
        GgmlDType::Q8_1 | GgmlDType::Q8K => false,
    }
}

/// Types for which products of our own are used on a CPU: candle's read each scale by a function call, or have no
/// instructions for many numbers, and work on one thread or on threads that spin.
const fn block_format(kind: GgmlDType) -> Option<BlockFormat> {
    match kind {
        GgmlDType::Q8_0 => Some(BlockFormat::Q8_0),
        GgmlDType::Q4_0 => Some(BlockFormat::Q4_0),
        GgmlDType::Q4_1 => Some(BlockFormat::Q4_1),
        GgmlDType::Q5_0 => Some(BlockFormat::Q5_0),
        GgmlDType::Q5_1 => Some(BlockFormat::Q5_1),
        _ => None,
    }
}

fn short(error: &candle_core::Error) -> String {
    beginning(&one_line(error)).to_owned()
}
