//! A walk over a GGUF header that makes nothing of it: every length and count against the bytes that
//! are there, so that what reads it afterwards can neither run out of memory nor compute nonsense.

use std::collections::BTreeSet;
use std::io::Read;

/// Bytes; more than the header of any model has.
const LONGEST: u64 = 100_000_000;
const MOST_ENTRIES: u64 = 65_536;
/// Values of all lists together: a vocabulary has three lists.
const MOST_VALUES: u64 = 4 << 20;
const MOST_DIMENSIONS: u32 = 4;
/// Numbers of one tensor.
const MOST_NUMBERS: u64 = 1 << 40;
/// Bytes of the name of an entry or a tensor; the format allows no longer ones.
const LONGEST_NAME: u64 = 65_535;
/// Lists inside lists.
const DEEPEST: u32 = 2;

const TEXT: u32 = 8;
const LIST: u32 = 9;

/// The header of a file of so many bytes, or what is wrong with it.
pub(super) fn check(file: impl Read, length: u64) -> Result<Vec<u8>, String> {
    let mut walk = Walk { file, walked: Vec::new(), left: length.min(LONGEST), values: 0 };
    if walk.take(4)? != b"GGUF" {
        return Err("it does not begin with GGUF".to_owned());
    }
    let version = walk.u32()?;
    if !(2..=3).contains(&version) {
        return Err(format!("it is of version {version}, expected 2 or 3"));
    }
    let (tensors, entries) = (walk.u64()?, walk.u64()?);
    for (what, count) in [("tensors", tensors), ("entries", entries)] {
        if count > MOST_ENTRIES {
            return Err(format!("its header says that there are {count} {what}"));
        }
    }
    for _ in 0..entries {
        walk.entry()?;
    }
    let mut names = BTreeSet::new();
    for _ in 0..tensors {
        if let Some(name) = names.replace(walk.tensor()?) {
            return Err(format!("tensor {} is there twice", String::from_utf8_lossy(&name)));
        }
    }
    Ok(walk.walked)
}

struct Walk<R> {
    file: R,
    walked: Vec<u8>,
    /// Bytes that are left of the file, or of what a header may have.
    left: u64,
    /// Values of lists so far.
    values: u64,
}

impl<R: Read> Walk<R> {
    fn take(&mut self, bytes: u64) -> Result<&[u8], String> {
        self.left = self.left.checked_sub(bytes).ok_or_else(|| {
            format!("its header needs {bytes} bytes where {} are left", self.left)
        })?;
        let from = self.walked.len();
        let read = Read::take(&mut self.file, bytes).read_to_end(&mut self.walked);
        let taken = &self.walked[from..];
        match read {
            Ok(_) if u64::try_from(taken.len()) == Ok(bytes) => Ok(taken),
            Ok(_) => Err("its header ends too early".to_owned()),
            Err(error) => Err(format!("reading its header: {error}")),
        }
    }

    fn u32(&mut self) -> Result<u32, String> {
        let bytes = self.take(4)?.first_chunk().copied().unwrap_or_default();
        Ok(u32::from_le_bytes(bytes))
    }

    fn u64(&mut self) -> Result<u64, String> {
        let bytes = self.take(8)?.first_chunk().copied().unwrap_or_default();
        Ok(u64::from_le_bytes(bytes))
    }

    /// The name of an entry or a tensor, without zeros behind it, which what reads it afterwards leaves out, too.
    fn name(&mut self) -> Result<Vec<u8>, String> {
        let length = self.u64()?;
        if length > LONGEST_NAME && length <= self.left {
            return Err(format!("its header has a name of {length} bytes"));
        }
        let mut name = self.take(length)?;
        while let [rest @ .., 0] = name {
            name = rest;
        }
        Ok(name.to_vec())
    }

    fn entry(&mut self) -> Result<(), String> {
        let key = self.name()?;
        let kind = self.u32()?;
        if key != b"general.alignment" {
            return self.value(kind, 0);
        }
        let bytes = width(kind).ok_or_else(|| format!("general.alignment is of type {kind}"))?;
        if self.take(bytes)?.iter().all(|byte| *byte == 0) {
            return Err("general.alignment is 0".to_owned());
        }
        Ok(())
    }

    fn value(&mut self, kind: u32, depth: u32) -> Result<(), String> {
        match kind {
            TEXT => {
                let length = self.u64()?;
                self.take(length).map(drop)
            }
            LIST if depth >= DEEPEST => Err("it has lists inside lists".to_owned()),
            LIST => self.list(depth + 1),
            kind => {
                let bytes =
                    width(kind).ok_or_else(|| format!("there is no type of value {kind}"))?;
                self.take(bytes).map(drop)
            }
        }
    }

    fn list(&mut self, depth: u32) -> Result<(), String> {
        let (kind, length) = (self.u32()?, self.u64()?);
        self.values = self.values.saturating_add(length);
        if self.values > MOST_VALUES {
            return Err(format!("its lists have {} values", self.values));
        }
        for _ in 0..length {
            self.value(kind, depth)?;
        }
        Ok(())
    }

    /// The tensor's name. Where its numbers are is checked when they are read.
    fn tensor(&mut self) -> Result<Vec<u8>, String> {
        let name = self.name()?;
        let shown = || String::from_utf8_lossy(&name[..name.len().min(64)]).into_owned();
        let dimensions = self.u32()?;
        if dimensions > MOST_DIMENSIONS {
            return Err(format!("tensor {} has {dimensions} dimensions", shown()));
        }
        let mut numbers: u64 = 1;
        for _ in 0..dimensions {
            let size = self.u64()?;
            numbers = numbers
                .checked_mul(size)
                .filter(|numbers| *numbers > 0 && *numbers <= MOST_NUMBERS)
                .ok_or_else(|| format!("tensor {} has a size of {size}", shown()))?;
        }
        let (_kind, _offset) = (self.u32()?, self.u64()?);
        Ok(name)
    }
}

/// Bytes of a value of this type.
const fn width(kind: u32) -> Option<u64> {
    match kind {
        0 | 1 | 7 => Some(1),
        2 | 3 => Some(2),
        4..=6 => Some(4),
        10..=12 => Some(8),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use candle_core::quantized::gguf_file::Content;
    use proptest::prelude::*;

    use super::*;

    fn check(bytes: &[u8]) -> Result<(), String> {
        let header = super::check(bytes, u64::try_from(bytes.len()).unwrap())?;
        assert!(bytes.starts_with(&header));
        Ok(())
    }

    fn text(bytes: &mut Vec<u8>, text: &str) {
        bytes.extend(u64::try_from(text.len()).unwrap().to_le_bytes());
        bytes.extend(text.as_bytes());
    }

    /// A header of two entries and one tensor of two by three numbers.
    fn good() -> Vec<u8> {
        let mut bytes = b"GGUF".to_vec();
        bytes.extend(3_u32.to_le_bytes());
        bytes.extend(1_u64.to_le_bytes());
        bytes.extend(2_u64.to_le_bytes());
        text(&mut bytes, "general.architecture");
        bytes.extend(TEXT.to_le_bytes());
        text(&mut bytes, "llama");
        text(&mut bytes, "list");
        bytes.extend(LIST.to_le_bytes());
        bytes.extend(4_u32.to_le_bytes());
        bytes.extend(2_u64.to_le_bytes());
        bytes.extend([0; 8]);
        text(&mut bytes, "t");
        bytes.extend(2_u32.to_le_bytes());
        bytes.extend(3_u64.to_le_bytes());
        bytes.extend(2_u64.to_le_bytes());
        bytes.extend(0_u32.to_le_bytes());
        bytes.extend(0_u64.to_le_bytes());
        bytes
    }

    /// A header of one entry.
    fn entry(key: &str, kind: u32, value: &[u8]) -> Vec<u8> {
        let mut bytes = b"GGUF".to_vec();
        bytes.extend(3_u32.to_le_bytes());
        bytes.extend(0_u64.to_le_bytes());
        bytes.extend(1_u64.to_le_bytes());
        text(&mut bytes, key);
        bytes.extend(kind.to_le_bytes());
        bytes.extend(value);
        bytes
    }

    #[test]
    fn a_header_that_fits_its_file_passes_and_is_read() {
        assert_eq!(check(&good()), Ok(()));
        assert!(Content::read(&mut Cursor::new(good())).is_ok());
    }

    #[test]
    fn a_header_that_was_cut_is_refused_wherever_it_was() {
        for length in 0..good().len() {
            assert!(check(&good()[..length]).is_err(), "{length}");
        }
    }

    #[test]
    fn hostile_headers_are_refused_with_their_reason() {
        let huge = u64::MAX.to_le_bytes();
        let list = |kind: u32, length: u64| {
            let (kind, length) = (kind.to_le_bytes(), length.to_le_bytes());
            entry("k", LIST, &[&kind[..], &length[..]].concat())
        };
        let put = |at: usize, value: &[u8]| {
            let mut bytes = good();
            bytes[at..at + value.len()].copy_from_slice(value);
            bytes
        };
        let end = good().len();
        let twice = {
            let mut bytes = put(8, &2_u64.to_le_bytes());
            bytes.extend_from_within(end - 41..);
            bytes
        };
        for (bytes, reason) in [
            (b"GGML".to_vec(), "does not begin"),
            (put(4, &1_u32.to_le_bytes()), "version 1"),
            (put(8, &huge), "tensors"),
            (put(16, &huge), "entries"),
            (put(24, &huge), "are left"),
            (entry("k", TEXT, &huge), "are left"),
            (entry("k", 13, &[0; 8]), "no type of value 13"),
            (entry("general.alignment", 4, &[0; 4]), "general.alignment"),
            (entry("general.alignment\0", 4, &[0; 4]), "general.alignment"),
            (list(0, 1 << 40), "values"),
            (list(TEXT, 1 << 20), "are left"),
            (list(LIST, 1), "are left"),
            (put(end - 32, &9_u32.to_le_bytes()), "9 dimensions"),
            (put(end - 28, &huge), "has a size"),
            (put(end - 28, &[0; 8]), "has a size of 0"),
            (twice, "twice"),
        ] {
            let error = check(&bytes).unwrap_err();
            assert!(error.contains(reason), "expected {reason:?} in: {error}");
        }
        let mut deep = Vec::new();
        for _ in 0..1_000 {
            deep.extend(LIST.to_le_bytes());
            deep.extend(1_u64.to_le_bytes());
        }
        assert!(check(&entry("k", LIST, &deep)).unwrap_err().contains("inside lists"));
    }

    proptest! {
        #[test]
        fn whatever_passes_can_be_read_without_a_panic(
            at in 0_usize..200,
            value in any::<u8>(),
            more in 0_usize..200,
            other in any::<u8>(),
        ) {
            let mut bytes = good();
            let length = bytes.len();
            bytes[at % length] = value;
            bytes[more % length] = other;
            if check(&bytes).is_ok() {
                // A type of tensor that there is not is for the reader to refuse.
                let _ = Content::read(&mut Cursor::new(&bytes));
            }
        }
    }
}
