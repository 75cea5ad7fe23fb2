//! The `.npy` files of numpy: a short header, then all vectors in one piece.
//!
//! The number of rows is known from the jobs before the first vector arrives, so it can be written
//! to a pipe: nothing is held in memory and nothing has to be written again.

use std::io::{self, Write};

const MAGIC: &[u8] = b"\x93NUMPY\x01\x00";

/// The data begin at a multiple of this, so that they can be mapped into memory.
const ALIGNMENT: usize = 64;

/// Writes vectors of one length, as many as announced.
#[derive(Debug)]
pub(crate) struct Npy<W> {
    out: W,
    rows: u64,
    dimensions: Option<u32>,
    written: u64,
}

/// Why the array cannot be written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NpyError {
    #[error(
        "vectors of {first} and of {other} components do not fit one array; fetch the jobs of each model by themselves"
    )]
    Dimensions { first: u32, other: u32 },
    #[error("the jobs announced {announced} items, but there are {got} results")]
    Rows { announced: u64, got: u64 },
    #[error(transparent)]
    Write(#[from] io::Error),
}

impl<W: Write> Npy<W> {
    /// An array of this many vectors.
    pub(crate) const fn new(out: W, rows: u64) -> Self {
        Self { out, rows, dimensions: None, written: 0 }
    }

    /// Appends vectors, each of `dimensions` little-endian binary32 values.
    pub(crate) fn append(&mut self, dimensions: u32, vectors: &[u8]) -> Result<(), NpyError> {
        match self.dimensions {
            None => {
                self.out.write_all(&header(self.rows, dimensions))?;
                self.dimensions = Some(dimensions);
            }
            Some(first) if first != dimensions => {
                return Err(NpyError::Dimensions { first, other: dimensions });
            }
            Some(_) => {}
        }
        self.written += vectors.len() as u64 / (u64::from(dimensions) * 4);
        if self.written > self.rows {
            return Err(NpyError::Rows { announced: self.rows, got: self.written });
        }
        self.out.write_all(vectors)?;
        Ok(())
    }

    /// Checks that all vectors came.
    pub(crate) fn finish(self) -> Result<W, NpyError> {
        if self.written == self.rows {
            Ok(self.out)
        } else {
            Err(NpyError::Rows { announced: self.rows, got: self.written })
        }
    }
}

/// Version 1.0 of the format: magic, length of the rest, a Python dictionary, spaces, a newline.
fn header(rows: u64, dimensions: u32) -> Vec<u8> {
    let dictionary =
        format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {dimensions}), }}");
    let unpadded = MAGIC.len() + 2 + dictionary.len() + 1;
    let padding = unpadded.next_multiple_of(ALIGNMENT) - unpadded;
    let length =
        u16::try_from(dictionary.len() + padding + 1).expect("two numbers do not fill 64 KiB");
    let mut header = MAGIC.to_vec();
    header.extend(length.to_le_bytes());
    header.extend(dictionary.as_bytes());
    header.extend(std::iter::repeat_n(b' ', padding));
    header.push(b'\n');
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_is_what_numpy_writes() {
        // numpy.save of an array of zeros of shape (3, 384) and type float32, first 128 bytes.
        let mut expected = b"\x93NUMPY\x01\x00\x76\x00".to_vec();
        expected.extend(b"{'descr': '<f4', 'fortran_order': False, 'shape': (3, 384), }");
        expected.resize(127, b' ');
        expected.push(b'\n');
        assert_eq!(header(3, 384), expected);
        assert_eq!(header(u64::MAX, u32::MAX).len() % ALIGNMENT, 0);
    }

    #[test]
    fn the_data_follow_the_header() {
        let mut npy = Npy::new(Vec::new(), 3);
        npy.append(2, &[1; 8]).unwrap();
        npy.append(2, &[2; 16]).unwrap();
        let bytes = npy.finish().unwrap();
        assert_eq!(bytes[128..], [[1; 8], [2; 8], [2; 8]].concat());
    }

    #[test]
    fn vectors_of_other_lengths_and_numbers_are_refused() {
        let mut npy = Npy::new(Vec::new(), 2);
        npy.append(2, &[0; 8]).unwrap();
        assert!(npy.append(3, &[0; 12]).unwrap_err().to_string().contains("2 and of 3"));
        assert!(npy.append(2, &[0; 16]).is_err());

        let npy = Npy::new(Vec::new(), 1);
        assert!(npy.finish().unwrap_err().to_string().contains("announced 1"));
    }
}
