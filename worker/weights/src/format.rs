//! What a file of weights is, by its first bytes. Names say nothing.

use crate::error::Refused;

/// No header of safetensors is longer; the library that reads it says the same.
const MAX_HEADER: u64 = 100_000_000;

/// A format that cannot carry code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Safetensors,
    Gguf,
}

impl Format {
    /// Bytes from the start of a file that are enough to tell.
    pub const HEAD: u64 = 64;

    /// Tells the format of a file of `size` bytes by its `head`, its first [`Format::HEAD`] bytes or all of them.
    ///
    /// # Errors
    /// When it is neither, with a word for what it is.
    pub fn of(name: &str, head: &[u8], size: u64) -> Result<Self, Refused> {
        // First: the length that safetensors begin with may look like anything.
        if is_safetensors(head, size) {
            return Ok(Self::Safetensors);
        }
        let found = match head {
            [b'G', b'G', b'U', b'F', ..] => return Ok(Self::Gguf),
            // A zip, as torch saves since 1.6, or a bare pickle of protocol 2 and later.
            [b'P', b'K', 3 | 5, 4 | 6, ..] | [0x80, 2..=5, ..] => {
                return Err(Refused::Pickle { name: name.to_owned() });
            }
            [] => "an empty file",
            _ if head.starts_with(b"version https://git-lfs") => "a Git LFS pointer",
            [b'<', ..] => "a web page",
            _ => "of an unknown format",
        };
        Err(Refused::Format { name: name.to_owned(), found })
    }
}

/// Eight bytes of the header's length, and the beginning of a JSON object.
fn is_safetensors(head: &[u8], size: u64) -> bool {
    let Some((length, rest)) = head.split_first_chunk::<8>() else { return false };
    let length = u64::from_le_bytes(*length);
    (2..=MAX_HEADER).contains(&length)
        && length.checked_add(8).is_some_and(|header| header <= size)
        && rest.first() == Some(&b'{')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(head: &[u8]) -> Result<Format, Refused> {
        Format::of("model.safetensors", head, 1_000)
    }

    #[test]
    fn what_cannot_carry_code_is_taken() {
        let mut head = 100_u64.to_le_bytes().to_vec();
        head.extend_from_slice(b"{\"a\":{}}");
        assert_eq!(of(&head), Ok(Format::Safetensors));
        assert_eq!(of(b"GGUF\x03\0\0\0"), Ok(Format::Gguf));
        // A header of 640 bytes begins as a pickle does.
        assert_eq!(of(b"\x80\x02\0\0\0\0\0\0{\"a\""), Ok(Format::Safetensors));
    }

    #[test]
    fn a_pickle_is_refused_whatever_its_name() {
        for head in [
            &b"PK\x03\x04abc"[..],
            b"\x80\x02}q\0",
            b"\x80\x04\x95abc",
            b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9",
        ] {
            assert!(matches!(of(head), Err(Refused::Pickle { .. })), "{head:?}");
        }
    }

    #[test]
    fn anything_else_is_refused_and_named() {
        let long = |length: u64| [&length.to_le_bytes()[..], b"{"].concat();
        for head in [
            vec![],
            b"<html>".to_vec(),
            b"version https://git-lfs.github.com/spec/v1".to_vec(),
            b"short".to_vec(),
            long(993),
            long(u64::MAX),
            long(0),
            [&100_u64.to_le_bytes()[..], b"x"].concat(),
        ] {
            assert!(matches!(of(&head), Err(Refused::Format { .. })), "{head:?}");
        }
        assert_eq!(of(&long(992)), Ok(Format::Safetensors), "as long as the file allows");
    }
}
