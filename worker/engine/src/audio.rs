//! Recordings: from the bytes of a file to sound as models hear it, one channel of 16,000 samples per second.
//!
//! A file is decoded bit by bit and never held as sound: a small one can have hours of it.

mod decode;
mod mel;
mod resample;

use stoker_core::speech::{MAX_SECONDS, form_problem};

use decode::Decoder;
pub(crate) use mel::frames_of;
pub use mel::{LogMel, MelBank};
use resample::Resampler;

/// Samples per second that models hear.
pub(crate) const RATE: u32 = 16_000;

/// Why a recording cannot be used, in words that follow `the recording cannot be used: `.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordingError {
    #[error("it is neither WAV, FLAC, MP3 nor Ogg with Vorbis ({0})")]
    Unknown(String),
    #[error("{0}")]
    Form(String),
    #[error("there is no sound in it")]
    Empty,
    #[error("it is cut off: its header promises {promised} samples, and {found} are there")]
    CutOff { promised: u64, found: u64 },
    #[error("it is damaged: {0}")]
    Damaged(String),
    #[error("it has samples that are not finite numbers")]
    NotFinite,
    #[error("it is longer than {MAX_SECONDS} seconds: split it")]
    TooLong,
}

/// The sound of a recording, block by block.
pub struct Sound<'a> {
    decoder: Decoder<'a>,
    /// Made when the rate is known, and only for another one than [`RATE`].
    resampler: Option<Resampler>,
    ended: bool,
    samples: u64,
}

impl std::fmt::Debug for Sound<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sound").field("samples", &self.samples).finish_non_exhaustive()
    }
}

impl<'a> Sound<'a> {
    /// # Errors
    /// When the file is none that can be decoded.
    pub fn open(file: &'a [u8]) -> Result<Self, RecordingError> {
        Ok(Self { decoder: Decoder::open(file)?, resampler: None, ended: false, samples: 0 })
    }

    /// Samples of the blocks so far.
    pub const fn samples(&self) -> u64 {
        self.samples
    }

    /// The next block, which may be empty; `None` after the last.
    ///
    /// # Errors
    /// When what comes next cannot be decoded, is too much, or is missing.
    pub fn next_block(&mut self) -> Result<Option<Vec<f32>>, RecordingError> {
        if self.ended {
            return Ok(None);
        }
        let decoded = self.decoder.next_block()?;
        self.ended = decoded.is_none();
        if !self.ended {
            self.check_form()?;
        }
        let block = match (&mut self.resampler, decoded) {
            (Some(resampler), Some(block)) => resampler.push(&block)?,
            (Some(resampler), None) => resampler.finish()?,
            (None, block) => block.unwrap_or_default(),
        };
        self.samples += u64::try_from(block.len()).unwrap_or(u64::MAX);
        if self.samples > u64::from(MAX_SECONDS) * u64::from(RATE) {
            return Err(RecordingError::TooLong);
        }
        Ok(Some(block))
    }

    /// Looks at what the decoder found out with the first block.
    fn check_form(&mut self) -> Result<(), RecordingError> {
        if self.resampler.is_some() || self.samples > 0 {
            return Ok(());
        }
        let rate = self.decoder.rate();
        if let Some(problem) = form_problem(self.decoder.channels(), rate) {
            return Err(RecordingError::Form(problem));
        }
        if rate != RATE {
            self.resampler = Some(Resampler::new(rate)?);
        }
        Ok(())
    }
}
