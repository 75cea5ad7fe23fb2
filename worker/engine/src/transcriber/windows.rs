//! The features of a recording, window by window, without holding all of it.

use crate::audio::{LogMel, MelBank, RecordingError, Sound};

/// A block of silence behind a recording.
const SILENCE: [f32; 1_600] = [0.0; 1_600];

/// What has to be known of a recording before its first window.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Heard {
    pub(super) samples: u64,
    /// The largest of all features.
    pub(super) loudest: f32,
}

/// Hears a recording to its end.
///
/// # Errors
/// When it cannot be decoded.
pub(super) fn listen(file: &[u8], bank: &MelBank) -> Result<Heard, RecordingError> {
    let (mut sound, mut mel) = (Sound::open(file)?, LogMel::new(bank));
    let (mut features, mut loudest) = (Vec::new(), f32::NEG_INFINITY);
    loop {
        let block = sound.next_block()?;
        // Its last samples are in frames that reach beyond it.
        mel.push(block.as_deref().unwrap_or(&SILENCE), &mut features);
        loudest = features.drain(..).fold(loudest, f32::max);
        if block.is_none() {
            return Ok(Heard { samples: sound.samples(), loudest });
        }
    }
}

/// The features of a recording from any window on to a later one.
#[derive(Debug)]
pub(super) struct Windows<'a> {
    sound: Sound<'a>,
    mel: LogMel<'a>,
    bands: usize,
    features: Vec<f32>,
    /// The frame that the features begin with.
    first: u64,
}

impl<'a> Windows<'a> {
    /// # Errors
    /// When the recording cannot be decoded.
    pub(super) fn new(file: &'a [u8], bank: &'a MelBank) -> Result<Self, RecordingError> {
        let (sound, mel) = (Sound::open(file)?, LogMel::new(bank));
        Ok(Self { sound, mel, bands: bank.bands(), features: Vec::new(), first: 0 })
    }

    /// The features of so many frames from frame `seek` on, which is not before that of the last call. Behind the
    /// recording's end is silence.
    ///
    /// # Errors
    /// When the recording cannot be decoded.
    pub(super) fn at(&mut self, seek: u64, frames: usize) -> Result<&[f32], RecordingError> {
        let over = usize::try_from(seek.saturating_sub(self.first)).unwrap_or(usize::MAX);
        self.first = self.first.max(seek);
        let wanted = frames * self.bands;
        let mut over = over.saturating_mul(self.bands);
        loop {
            let gone = over.min(self.features.len());
            self.features.drain(..gone);
            over -= gone;
            if over == 0 && self.features.len() >= wanted {
                return Ok(&self.features[..wanted]);
            }
            let block = self.sound.next_block()?;
            self.mel.push(block.as_deref().unwrap_or(&SILENCE), &mut self.features);
        }
    }
}
