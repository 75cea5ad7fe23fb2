//! A model's weights on the disk: verified, and taken apart tensor by tensor.
//!
//! A file is never in memory as a whole: a tensor is read when it is asked for, and nothing of the file stays beside what
//! is made of it. The digest is of the same open file, computed beside the loading, and a file that was written to
//! meanwhile is refused. Only safetensors and GGUF are read: pickled formats run code when they are opened.

use std::fs::{File, Metadata};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use candle_core::{DType, Device, Tensor};
use safetensors::Dtype;
use safetensors::tensor::{Metadata as Header, TensorInfo};
use sha2::{Digest as _, Sha256};

use crate::LoadError;
use crate::error::beginning;

/// The one file that weights are read from.
pub(crate) const FILE_NAME: &str = "model.safetensors";

const FETCH_AGAIN: &str = "fetch the model again: this file was not downloaded completely";
const CONVERT: &str = "convert the model with safetensors.torch.save_file on a machine where its code may run, or \
                       use a model that ships model.safetensors";

/// Bytes that are hashed at a time: few enough to stay in a core's cache.
const HASHED: usize = 256 << 10;
/// Bytes before a safetensors header, which say how long it is.
const LENGTH: u64 = 8;
/// More than the header of any model has; the format allows no more.
const LONGEST_HEADER: u64 = 100_000_000;

/// An open file of weights.
#[derive(Debug)]
pub(crate) struct WeightsFile {
    path: PathBuf,
    file: Arc<File>,
    opened: State,
    /// Nanoseconds that its readers have waited.
    reading: AtomicU64,
}

/// What shows that a file was written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct State {
    length: u64,
    /// Not known on every file system.
    modified: Option<SystemTime>,
}

impl State {
    fn of(metadata: &Metadata) -> Self {
        Self { length: metadata.len(), modified: metadata.modified().ok() }
    }
}

impl WeightsFile {
    /// Opens the weights of a model.
    ///
    /// # Errors
    /// When they are missing or of another format.
    pub(crate) fn open(directory: &Path) -> Result<Self, LoadError> {
        let path = directory.join(FILE_NAME);
        match Self::at(path.clone()) {
            Ok(file) => {
                let mut start = Vec::new();
                file.reader()
                    .take(64)
                    .read_to_end(&mut start)
                    .map_err(|error| file.error(error))?;
                refuse_format(&path, &start)?;
                Ok(file)
            }
            Err(source) if source.kind() == io::ErrorKind::NotFound => {
                Err(LoadError::Missing { path, remedy: missing_remedy(directory) })
            }
            Err(source) => Err(LoadError::Read { path, source }),
        }
    }

    /// Opens a GGUF file; what is in it is not looked at.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(crate) fn open_gguf(path: PathBuf) -> Result<Self, LoadError> {
        Self::at(path.clone()).map_err(|source| LoadError::Read { path, source })
    }

    fn at(path: PathBuf) -> io::Result<Self> {
        let file = File::open(&path)?;
        let opened = State::of(&file.metadata()?);
        Ok(Self { path, file: Arc::new(file), opened, reading: AtomicU64::new(0) })
    }

    /// The same open file; what is read from it here does not count there.
    pub(crate) fn separately(&self) -> Self {
        let Self { path, file, opened, .. } = self;
        let (path, file) = (path.clone(), Arc::clone(file));
        Self { path, file, opened: *opened, reading: AtomicU64::new(0) }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Its bytes.
    pub(crate) const fn length(&self) -> u64 {
        self.opened.length
    }

    /// How long its readers have waited for it so far.
    pub(crate) fn reading(&self) -> Duration {
        Duration::from_nanos(self.reading.load(Ordering::Relaxed))
    }

    /// Reads from the beginning.
    pub(crate) const fn reader(&self) -> Reader<'_> {
        Reader { file: self, at: 0 }
    }

    /// SHA-256 of the file in lowercase hex.
    ///
    /// # Errors
    /// When it cannot be read, or has become longer: one that is written to need not end.
    pub(crate) fn sha256(&self) -> Result<String, LoadError> {
        let (mut hash, mut buffer, mut at) = (Sha256::new(), vec![0; HASHED], 0);
        loop {
            match self.file.read_at(&mut buffer, at) {
                Ok(0) => return Ok(hex::encode(hash.finalize())),
                Ok(count) => {
                    hash.update(&buffer[..count]);
                    at += u64::try_from(count).unwrap_or(u64::MAX);
                    if at > self.length() {
                        return Err(LoadError::Changed { path: self.path.clone() });
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.error(error)),
            }
        }
    }

    /// Checks that what was read is what has this digest, and that this is the registry's, `sha256:` followed by 64 hex
    /// digits.
    ///
    /// # Errors
    /// When they differ, or the file is not as it was when it was opened.
    pub(crate) fn verify(&self, found: &str, expected: Option<&str>) -> Result<(), LoadError> {
        let now = self.file.metadata().map_err(|error| self.error(error))?;
        if State::of(&now) != self.opened {
            return Err(LoadError::Changed { path: self.path.clone() });
        }
        let Some(expected) = expected else { return Ok(()) };
        let digits = expected.strip_prefix("sha256:").unwrap_or(expected);
        if digits.eq_ignore_ascii_case(found) {
            return Ok(());
        }
        let (expected, found) = (expected.to_owned(), format!("sha256:{found}"));
        Err(LoadError::Digest { path: self.path.clone(), expected, found })
    }

    /// The tensors inside, after checking that the header and the file's length agree.
    pub(crate) fn tensors(&self) -> Result<Weights<'_>, LoadError> {
        let mut length = [0; 8];
        self.fill(&mut length, 0)?;
        let header = u64::from_le_bytes(length);
        let start = LENGTH.saturating_add(header);
        if header > LONGEST_HEADER || start > self.length() {
            let what = format!("its header of {header} bytes does not fit its {}", self.length());
            return Err(self.corrupt(what));
        }
        let mut bytes = vec![0; usize::try_from(header).unwrap_or(usize::MAX)];
        self.fill(&mut bytes, LENGTH)?;
        let header: Header = serde_json::from_slice(&bytes).map_err(|error| {
            let (what, column) = (error.to_string(), error.column());
            let beginning = beginning(&what);
            let whole = beginning.len() == what.len();
            self.corrupt(if whole { what } else { format!("{beginning}... at column {column}") })
        })?;
        let data = u64::try_from(header.data_len()).unwrap_or(u64::MAX);
        if start.checked_add(data) != Some(self.length()) {
            let (is, length) = (start.saturating_add(data), self.length());
            return Err(self.corrupt(format!("its tensors end at {is} of its {length} bytes")));
        }
        Ok(Weights { file: self, header, start })
    }

    /// Fills a buffer with what stands at a place.
    fn fill(&self, buffer: &mut [u8], at: u64) -> Result<(), LoadError> {
        let start = Instant::now();
        let filled = self.file.read_exact_at(buffer, at);
        self.count(start);
        filled.map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => self.corrupt("it ends too early".to_owned()),
            _ => self.error(error),
        })
    }

    fn count(&self, start: Instant) {
        let nanos = u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.reading.fetch_add(nanos, Ordering::Relaxed);
    }

    fn error(&self, source: io::Error) -> LoadError {
        LoadError::Read { path: self.path.clone(), source }
    }

    fn corrupt(&self, what: String) -> LoadError {
        LoadError::Corrupt { path: self.path.clone(), what }
    }
}

/// A place in a file, for what reads a file from front to back.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    file: &'a WeightsFile,
    at: u64,
}

impl Read for Reader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let start = Instant::now();
        let count = self.file.file.read_at(buffer, self.at)?;
        self.file.count(start);
        self.at += u64::try_from(count).unwrap_or(u64::MAX);
        Ok(count)
    }
}

impl Seek for Reader<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(from) => self.file.length().checked_add_signed(from),
            SeekFrom::Current(from) => self.at.checked_add_signed(from),
        };
        self.at = at.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
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
#[derive(Debug)]
pub(crate) struct Weights<'a> {
    file: &'a WeightsFile,
    header: Header,
    /// Where the first tensor begins.
    start: u64,
}

impl Weights<'_> {
    /// Whether there is a tensor of this name.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.header.info(name).is_some()
    }

    /// The numbers of a tensor as f32, row by row, after checking shape and finiteness.
    pub(crate) fn floats(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, LoadError> {
        let path = || self.file.path.clone();
        let mismatch = |what| LoadError::Mismatch { path: path(), what };
        let info = self.header.info(name);
        let info = info.ok_or_else(|| mismatch(format!("tensor {name} is missing")))?;
        if info.shape != shape {
            let found = &info.shape;
            return Err(mismatch(format!("tensor {name} has shape {found:?}, expected {shape:?}")));
        }
        let numbers = match info.dtype {
            Dtype::F32 => self.little_endian(info)?,
            Dtype::F16 => widen(&self.bytes(info)?, DType::F16, shape).map_err(mismatch)?,
            Dtype::BF16 => widen(&self.bytes(info)?, DType::BF16, shape).map_err(mismatch)?,
            other => {
                let what = format!("tensor {name} is {other:?}, expected F32, F16 or BF16");
                return Err(LoadError::Unsupported { path: path(), what });
            }
        };
        if all_finite(&numbers) {
            Ok(numbers)
        } else {
            Err(LoadError::NotFinite { path: path(), name: name.to_owned() })
        }
    }

    fn little_endian(&self, info: &TensorInfo) -> Result<Vec<f32>, LoadError> {
        let mut numbers = vec![0.0_f32; info.shape.iter().product()];
        self.fill(bytemuck::cast_slice_mut(&mut numbers), info)?;
        for number in &mut numbers {
            *number = f32::from_bits(u32::from_le(number.to_bits()));
        }
        Ok(numbers)
    }

    fn bytes(&self, info: &TensorInfo) -> Result<Vec<u8>, LoadError> {
        let (from, to) = info.data_offsets;
        let mut bytes = vec![0; to - from];
        self.fill(&mut bytes, info)?;
        Ok(bytes)
    }

    fn fill(&self, buffer: &mut [u8], info: &TensorInfo) -> Result<(), LoadError> {
        let from = u64::try_from(info.data_offsets.0).unwrap_or(u64::MAX);
        self.file.fill(buffer, self.start.saturating_add(from))
    }
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
    use std::fs;

    use super::*;

    /// A file with two tensors, `a` of f32 and `b` of f16.
    fn written() -> (tempfile::TempDir, WeightsFile) {
        let folder = tempfile::tempdir().unwrap();
        let header = br#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},
            "b":{"dtype":"F16","shape":[1,1],"data_offsets":[8,10]}}"#;
        let length = u64::try_from(header.len()).unwrap().to_le_bytes();
        let numbers = [1.5_f32.to_le_bytes(), (-2.0_f32).to_le_bytes()].concat();
        let bytes = [&length[..], &header[..], &numbers[..], &[0, 0x3c]].concat();
        fs::write(folder.path().join(FILE_NAME), bytes).unwrap();
        let file = WeightsFile::open(folder.path()).unwrap();
        (folder, file)
    }

    #[test]
    fn tensors_are_read_from_where_they_stand() {
        let (_folder, file) = written();
        let weights = file.tensors().unwrap();
        assert_eq!(weights.floats("a", &[2]).unwrap(), [1.5, -2.0]);
        assert_eq!(weights.floats("b", &[1, 1]).unwrap(), [1.0]);
        assert!(file.reading() > Duration::ZERO);
        assert_eq!(file.separately().reading(), Duration::ZERO);
        let whole = fs::read(file.path()).unwrap();
        assert_eq!(file.sha256().unwrap(), hex::encode(Sha256::digest(&whole)));
        let (mut reader, mut end) = (file.reader(), Vec::new());
        reader.seek(SeekFrom::End(-2)).unwrap();
        reader.read_to_end(&mut end).unwrap();
        assert_eq!(end, [0, 0x3c]);
        reader.seek(SeekFrom::Current(-10)).unwrap();
        assert_eq!(reader.stream_position().unwrap(), file.length() - 10);
        assert!(reader.seek(SeekFrom::End(i64::MIN)).is_err());
    }

    #[test]
    fn a_file_that_is_written_to_while_it_is_read_is_refused() {
        let (_folder, file) = written();
        let digest = file.sha256().unwrap();
        file.verify(&digest, Some(&digest)).unwrap();
        assert!(matches!(file.verify("00", Some(&digest)), Err(LoadError::Digest { .. })));
        let writer = fs::OpenOptions::new().write(true).open(file.path()).unwrap();
        writer.set_len(file.length() - 1).unwrap();
        let error = file.verify(&digest, Some(&digest)).unwrap_err();
        assert!(error.to_string().contains("written to while it was read"), "{error}");
        let error = file.tensors().unwrap().floats("b", &[1, 1]).unwrap_err();
        assert!(error.to_string().contains("ends too early"), "{error}");
        writer.set_len(file.length() + 1).unwrap();
        assert!(matches!(file.sha256(), Err(LoadError::Changed { .. })));
    }

    #[test]
    fn headers_that_are_none_are_refused_in_few_words() {
        let (_folder, file) = written();
        let endless = "F".repeat(10_000);
        let unknown =
            format!(r#"{{"a":{{"dtype":"{endless}","shape":[1],"data_offsets":[0,1]}}}}"#);
        let long = u64::try_from(unknown.len()).unwrap();
        for (length, header, what) in [
            (long, &unknown[..], "FFFF... at column 10051"),
            (long + 1, &unknown, "does not fit"),
            (u64::MAX, "{}", "does not fit"),
            (LONGEST_HEADER + 1, "{}", "does not fit"),
            (2, "{", "does not fit"),
            (2, "[]", "invalid type: sequence"),
            (2, "{}and more", "its tensors end at 10 of its 18 bytes"),
        ] {
            fs::write(file.path(), [&length.to_le_bytes(), header.as_bytes()].concat()).unwrap();
            let file = WeightsFile::open(file.path().parent().unwrap()).unwrap();
            let error = file.tensors().unwrap_err().to_string();
            assert!(error.contains(what) && error.len() < 1_000, "{what}: {error}");
        }
    }

    #[test]
    fn any_number_that_is_not_finite_is_seen() {
        assert!(all_finite(&[]));
        assert!(all_finite(&[0.0, -0.0, f32::MAX, f32::MIN, f32::MIN_POSITIVE / 2.0]));
        for bad in [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            assert!(!all_finite(&[1.0, bad, 1.0]), "{bad}");
        }
    }
}
