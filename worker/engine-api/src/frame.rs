//! Frames: a length as four little-endian bytes, then that many bytes of postcard.
//!
//! Both ends distrust the other: a length above [`MAX_FRAME_BYTES`] is refused before anything is
//! allocated, and memory grows only with bytes that really arrived.

use std::io::{self, Read, Write};
use std::marker::PhantomData;

use serde::Serialize;
use serde::de::DeserializeOwned;

/// The longest payload of a frame, without its length: 64 MiB.
pub const MAX_FRAME_BYTES: usize = 64 << 20;

/// Bytes of the length in front of every payload.
pub const PREFIX_BYTES: usize = 4;

/// A frame could not be read or written. The stream is out of step afterwards, except after
/// [`FrameError::TooLarge`] from [`encode`], which has written nothing.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    #[error("a frame of {bytes} bytes is over the limit of {MAX_FRAME_BYTES}: send fewer items")]
    TooLarge { bytes: usize },
    #[error("the stream ended inside a frame: {got} of {expected} bytes arrived")]
    Truncated { got: usize, expected: usize },
    #[error("a frame holds no valid message: worker and engine are not of the same version")]
    Malformed(#[source] postcard::Error),
    #[error("a frame holds {bytes} bytes after its message")]
    TrailingBytes { bytes: usize },
    #[error("encoding a message")]
    Encode(#[source] postcard::Error),
    #[error("reading a frame")]
    Read(#[source] io::Error),
    #[error("writing a frame")]
    Write(#[source] io::Error),
}

/// A message as a whole frame, length included.
///
/// # Errors
/// [`FrameError::TooLarge`] when the payload is over [`MAX_FRAME_BYTES`].
pub fn encode<M: Serialize>(message: &M) -> Result<Vec<u8>, FrameError> {
    let mut frame =
        postcard::to_extend(message, vec![0; PREFIX_BYTES]).map_err(FrameError::Encode)?;
    let bytes = frame.len() - PREFIX_BYTES;
    let length = u32::try_from(bytes).ok().filter(|_| bytes <= MAX_FRAME_BYTES);
    let length = length.ok_or(FrameError::TooLarge { bytes })?;
    frame[..PREFIX_BYTES].copy_from_slice(&length.to_le_bytes());
    Ok(frame)
}

/// How many bytes of payload follow this length.
///
/// # Errors
/// [`FrameError::TooLarge`] when they are more than [`MAX_FRAME_BYTES`].
pub fn payload_bytes(prefix: [u8; PREFIX_BYTES]) -> Result<usize, FrameError> {
    let bytes = usize::try_from(u32::from_le_bytes(prefix)).unwrap_or(usize::MAX);
    if bytes > MAX_FRAME_BYTES { Err(FrameError::TooLarge { bytes }) } else { Ok(bytes) }
}

/// The message in a payload (a frame without its length).
///
/// # Errors
/// When the bytes are not exactly one message.
pub fn decode<M: DeserializeOwned>(payload: &[u8]) -> Result<M, FrameError> {
    let (message, rest) = postcard::take_from_bytes(payload).map_err(FrameError::Malformed)?;
    if rest.is_empty() { Ok(message) } else { Err(FrameError::TrailingBytes { bytes: rest.len() }) }
}

/// Reads messages of one type from a blocking stream.
#[derive(Debug)]
pub struct FrameReader<M, R> {
    stream: R,
    payload: Vec<u8>,
    message: PhantomData<fn() -> M>,
}

impl<M: DeserializeOwned, R: Read> FrameReader<M, R> {
    pub fn new(stream: R) -> Self {
        Self { stream, payload: Vec::new(), message: PhantomData }
    }

    /// The next message, or nothing when the stream ended between frames.
    ///
    /// # Errors
    /// When the stream fails, ends inside a frame or carries something else than frames.
    pub fn read(&mut self) -> Result<Option<M>, FrameError> {
        self.fill(PREFIX_BYTES)?;
        let prefix = match self.payload.as_slice() {
            [] => return Ok(None),
            &[a, b, c, d] => [a, b, c, d],
            partial => {
                return Err(FrameError::Truncated { got: partial.len(), expected: PREFIX_BYTES });
            }
        };
        let expected = payload_bytes(prefix)?;
        self.fill(expected)?;
        let got = self.payload.len();
        if got < expected {
            return Err(FrameError::Truncated { got, expected });
        }
        decode(&self.payload).map(Some)
    }

    /// Replaces the buffer with the next `bytes` of the stream, or fewer at its end.
    fn fill(&mut self, bytes: usize) -> Result<(), FrameError> {
        self.payload.clear();
        let limit = u64::try_from(bytes).unwrap_or(u64::MAX);
        let mut part = Read::take(&mut self.stream, limit);
        part.read_to_end(&mut self.payload).map_err(FrameError::Read)?;
        Ok(())
    }
}

/// Writes messages of one type to a blocking stream, one write and one flush per message.
#[derive(Debug)]
pub struct FrameWriter<M, W> {
    stream: W,
    message: PhantomData<fn(M)>,
}

impl<M: Serialize, W: Write> FrameWriter<M, W> {
    pub fn new(stream: W) -> Self {
        Self { stream, message: PhantomData }
    }

    /// # Errors
    /// When the message is too large (nothing is written then) or the stream fails.
    pub fn write(&mut self, message: &M) -> Result<(), FrameError> {
        let frame = encode(message)?;
        self.stream.write_all(&frame).map_err(FrameError::Write)?;
        self.stream.flush().map_err(FrameError::Write)
    }
}
