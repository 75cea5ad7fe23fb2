//! The decoder of a file: packets in, blocks of one channel out, at the rate that the file has.

use std::io::{Cursor, ErrorKind};

use symphonia::core::codecs::audio::{AudioDecoder, AudioDecoderOptions};
use symphonia::core::errors::Error;
use symphonia::core::formats::probe::Hint;
use symphonia::core::formats::well_known::{FORMAT_ID_FLAC, FORMAT_ID_WAVE};
use symphonia::core::formats::{FormatOptions, FormatReader, TrackType};
use symphonia::core::io::{MediaSourceStream, MediaSourceStreamOptions};
use symphonia::core::meta::MetadataOptions;

use super::RecordingError;

/// Packets that may be damaged however short a recording is: the first ones of an MP3 file that was cut out of a
/// longer one refer to what is not there.
const DAMAGED: u64 = 4;

/// Of how many packets one may be damaged besides.
const PACKETS_PER_DAMAGED: u64 = 100;

/// A data chunk of a WAV file that was written to a pipe says this: the writer could not go back.
const UNKNOWN_LENGTH: u64 = 0xffff_ff00;

pub(super) struct Decoder<'a> {
    format: Box<dyn FormatReader + 'a>,
    codec: Box<dyn AudioDecoder>,
    track: u32,
    /// Samples of each channel that the header promises, in formats where that is no estimate.
    promised: Option<u64>,
    channels: u32,
    rate: u32,
    frames: u64,
    packets: u64,
    damaged: u64,
    interleaved: Vec<f32>,
}

impl<'a> Decoder<'a> {
    /// # Errors
    /// When the file is of no format that can be decoded.
    pub(super) fn open(file: &'a [u8]) -> Result<Self, RecordingError> {
        let unknown = |error: Error| RecordingError::Unknown(error.to_string());
        let options = MediaSourceStreamOptions::default();
        let stream = MediaSourceStream::new(Box::new(Cursor::new(file)), options);
        let (of_format, of_metadata) = (FormatOptions::default(), MetadataOptions::default());
        let format = symphonia::default::get_probe()
            .probe(&Hint::new(), stream, of_format, of_metadata)
            .map_err(unknown)?;
        let none = || RecordingError::Unknown("it has no sound track".to_owned());
        let track = format.default_track(TrackType::Audio).ok_or_else(none)?;
        let parameters = track.codec_params.as_ref().and_then(|codec| codec.audio());
        let codec = symphonia::default::get_codecs()
            .make_audio_decoder(parameters.ok_or_else(none)?, &AudioDecoderOptions::default())
            .map_err(unknown)?;
        let exact = [FORMAT_ID_WAVE, FORMAT_ID_FLAC].contains(&format.format_info().format);
        let promised = track.num_frames.filter(|frames| exact && *frames < UNKNOWN_LENGTH);
        let track = track.id;
        Ok(Self {
            format,
            codec,
            track,
            promised,
            channels: 0,
            rate: 0,
            frames: 0,
            packets: 0,
            damaged: 0,
            interleaved: Vec::new(),
        })
    }

    /// Channels of the file; 0 before the first block.
    pub(super) const fn channels(&self) -> u32 {
        self.channels
    }

    /// Samples per second of each channel; 0 before the first block.
    pub(super) const fn rate(&self) -> u32 {
        self.rate
    }

    /// The next samples, all channels mixed into one; `None` after the last.
    ///
    /// # Errors
    /// When too much of the file is damaged, or some of it is missing.
    pub(super) fn next_block(&mut self) -> Result<Option<Vec<f32>>, RecordingError> {
        loop {
            let packet = match self.format.next_packet() {
                Ok(Some(packet)) if packet.track_id == self.track => packet,
                Ok(Some(_)) => continue,
                Ok(None) => return self.end(),
                Err(Error::IoError(error)) if error.kind() == ErrorKind::UnexpectedEof => {
                    return self.end();
                }
                Err(Error::ResetRequired) => {
                    let what = "several recordings follow each other in it: split it".to_owned();
                    return Err(RecordingError::Form(what));
                }
                Err(error) => return Err(RecordingError::Damaged(error.to_string())),
            };
            self.packets += 1;
            let sound = match self.codec.decode(&packet) {
                Ok(sound) if sound.is_empty() => continue,
                Ok(sound) => sound,
                Err(Error::DecodeError(_) | Error::IoError(_)) => {
                    self.damaged += 1;
                    continue;
                }
                Err(error) => return Err(RecordingError::Damaged(error.to_string())),
            };
            let spec = sound.spec();
            let (rate, channels) = (spec.rate(), u32::try_from(spec.channels().count()));
            let channels = channels.unwrap_or(u32::MAX);
            if self.frames > 0 && (rate, channels) != (self.rate, self.channels) {
                let what = "its rate or its channels change on the way".to_owned();
                return Err(RecordingError::Form(what));
            }
            (self.rate, self.channels) = (rate, channels);
            self.frames += u64::try_from(sound.frames()).unwrap_or(u64::MAX);
            sound.copy_to_vec_interleaved(&mut self.interleaved);
            return mix(&self.interleaved, channels).map(Some);
        }
    }

    fn end(&self) -> Result<Option<Vec<f32>>, RecordingError> {
        if self.damaged > DAMAGED + self.packets / PACKETS_PER_DAMAGED
            || self.damaged == self.packets
        {
            if self.packets == 0 {
                return Err(RecordingError::Empty);
            }
            let (damaged, packets) = (self.damaged, self.packets);
            let what = format!("{damaged} of its {packets} packets cannot be decoded");
            return Err(RecordingError::Damaged(what));
        }
        if self.frames == 0 {
            return Err(RecordingError::Empty);
        }
        match self.promised {
            Some(promised) if promised > self.frames => {
                Err(RecordingError::CutOff { promised, found: self.frames })
            }
            Some(_) | None => Ok(None),
        }
    }
}

/// The mean of the channels, within -1 and 1.
fn mix(interleaved: &[f32], channels: u32) -> Result<Vec<f32>, RecordingError> {
    let width = usize::try_from(channels).unwrap_or(usize::MAX).max(1);
    // Channels are few.
    #[expect(clippy::cast_precision_loss, reason = "see above")]
    let share = 1.0 / width as f32;
    let mean = |frame: &[f32]| frame.iter().map(|sample| sample * share).sum::<f32>();
    let mixed: Vec<f32> = interleaved.chunks_exact(width).map(mean).collect();
    if mixed.iter().all(|sample| sample.is_finite()) {
        return Ok(mixed.into_iter().map(|sample| sample.clamp(-1.0, 1.0)).collect());
    }
    Err(RecordingError::NotFinite)
}
