//! Speech to text as an engine: a recording is heard window by window, and each window written down token by token.
//!
//! The next window begins where the last one's text ends, as the model says with its timestamps.

mod canary;
mod load;
mod rules;
mod segments;
mod windows;
mod words;

use std::fmt;

use stoker_core::speech::MAX_SECONDS;
use stoker_engine_api::{
    Deaf, Engine, EngineError, EngineInfo, ItemError, ItemInput, ItemOutput, Listener, Prepared,
    Recording, Segment, TaskKind, Transcript, Wanted, WrittenIn,
};

use crate::audio::{MelBank, RATE, RecordingError, frames_of};
use crate::device::classify;
use crate::whisper::Whisper;
use segments::cut;
use windows::{Heard, Windows, listen};
use words::Words;

/// A window whose first token says with more than this probability that nobody speaks...
const NO_SPEECH: f32 = 0.6;

/// ...is believed, unless the model is surer than this of what it wrote: the mean of its tokens' logarithms.
const SURE: f32 = -1.0;

/// Nothing of a recording in which there is nothing to hear is louder: noise of the last bit of 16, which chance makes
/// as loud as -7.5 at times. A tone of a thousandth of full loudness is at -3.6.
const SILENCE: f32 = -7.0;

/// Milliseconds of a frame, and of a step of timestamps.
const FRAME_MS: u64 = 10;
const STAMP_MS: u64 = 20;

/// A loaded model.
pub struct Transcriber {
    info: EngineInfo,
    network: Whisper,
    words: Words,
    bank: MelBank,
}

impl fmt::Debug for Transcriber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transcriber").field("info", &self.info).finish_non_exhaustive()
    }
}

/// A recording that can be decoded: it was, once, and is again when it is heard, so that many of them can wait.
#[derive(Debug)]
pub struct PreparedRecording {
    file: Vec<u8>,
    /// The logarithm of the loudest feature, to which all others are set in relation.
    loudest: f32,
    /// Frames in which there is sound.
    frames: u64,
    duration_ms: u32,
    /// The token of the language that is spoken, and its name.
    language: Option<(u32, String)>,
    written_in: WrittenIn,
    cost: u32,
}

impl Prepared for PreparedRecording {
    fn cost(&self) -> u32 {
        self.cost
    }
}

/// What a window was written down as.
#[derive(Debug, Clone, PartialEq)]
pub struct Window {
    /// The frame that it begins with.
    pub seek: u64,
    /// Words and timestamps, without the token that ended them.
    pub tokens: Vec<u32>,
    /// The mean of the logarithms of their probabilities.
    pub average: f32,
}

impl Engine for Transcriber {
    type Prepared = PreparedRecording;

    fn info(&self) -> &EngineInfo {
        &self.info
    }

    fn prepare(&self, input: ItemInput) -> Result<PreparedRecording, ItemError> {
        let recording = match input {
            ItemInput::Recording(recording) => *recording,
            other @ (ItemInput::Text(_)
            | ItemInput::Generation(_)
            | ItemInput::Image(_)
            | ItemInput::Caption(_)
            | ItemInput::Faces(_)) => {
                return Err(ItemError::wrong_kind(TaskKind::SpeechToText, "a recording", &other));
            }
        };
        let Recording { file, language, written_in } = recording;
        let language = language.map(|name| self.words.language(name)).transpose()?;
        let Heard { samples, loudest } =
            listen(&file, &self.bank).map_err(|error| unusable(&error))?;
        let frames = frames_of(samples);
        let duration_ms = u32::try_from(samples * 1_000 / u64::from(RATE)).unwrap_or(u32::MAX);
        let cost = self.cost(frames);
        let language = language.flatten();
        Ok(PreparedRecording { file, loudest, frames, duration_ms, language, written_in, cost })
    }

    fn run(&self, items: &[&PreparedRecording]) -> Result<Vec<ItemOutput>, EngineError> {
        self.run_heard(items, &Deaf)
    }

    fn run_heard(
        &self,
        items: &[&PreparedRecording],
        listener: &dyn Listener,
    ) -> Result<Vec<ItemOutput>, EngineError> {
        let transcribe = |(index, item): (usize, &&PreparedRecording)| {
            let transcript = self.transcribe(item, &|| listener.wanted(index), &mut |_| {});
            transcript.map(ItemOutput::Transcript)
        };
        items.iter().enumerate().map(transcribe).collect()
    }
}

impl Transcriber {
    /// Writes a recording down, and tells of each window.
    ///
    /// # Errors
    /// As of [`Engine::run`]: [`EngineError::Input`] when it is not wanted any more.
    pub fn transcribe(
        &self,
        item: &PreparedRecording,
        wanted: &dyn Fn() -> Wanted,
        told: &mut dyn FnMut(&Window),
    ) -> Result<Transcript, EngineError> {
        let PreparedRecording { file, loudest, frames, duration_ms, .. } = item;
        let mut language = item.language.clone();
        let mut segments = Vec::new();
        // Nothing is heard of silence: a model may say anything then.
        let frames = if *loudest > SILENCE { *frames } else { 0 };
        let mut windows = Windows::new(file, &self.bank).map_err(|error| broken(&error))?;
        let (mut seek, most) = (0, size(self.network.config().frames()));
        while seek < frames {
            if wanted() == Wanted::No {
                let message = "the recording is not wanted any more".to_owned();
                return Err(EngineError::Input { message });
            }
            let span = most.min(frames - seek);
            let features =
                windows.at(seek, self.network.config().frames()).map_err(|error| broken(&error))?;
            let Some(features) = scaled(features, *loudest) else {
                seek += span;
                continue;
            };
            let Some(window) = self.window(seek, features, item.written_in, &mut language)? else {
                seek += span;
                continue;
            };
            told(&window);
            let cut = cut(&window.tokens, self.words.rules().first_stamp, span);
            for piece in &cut.pieces {
                let at = |stamp: u64| seek * FRAME_MS + stamp * STAMP_MS;
                let time = |stamp: u64| u32::try_from(at(stamp)).unwrap_or(u32::MAX);
                let text = self.words.text(piece.tokens);
                if piece.start == piece.end || text.trim().is_empty() {
                    continue;
                }
                segments.push(Segment {
                    start_ms: time(piece.start).min(*duration_ms),
                    end_ms: time(piece.end).min(*duration_ms),
                    text,
                });
            }
            seek += cut.frames;
        }
        // Of silence nothing can be said.
        let language = if frames > 0 { self.words.name_of(language) } else { None };
        Ok(Transcript { language, segments, duration_ms: *duration_ms })
    }

    /// Writes one window down; `None` if nobody speaks in it. Finds out what is spoken where that is not known yet.
    fn window(
        &self,
        seek: u64,
        features: Vec<f32>,
        written_in: WrittenIn,
        language: &mut Option<(u32, String)>,
    ) -> Result<Option<Window>, EngineError> {
        let failed = |error: candle_core::Error| classify(&error);
        let heard = self.network.hear(features).map_err(failed)?;
        let mut writing = self.network.begin(&heard).map_err(failed)?;
        let mut numbers =
            self.network.write(&mut writing, &[self.words.start()]).map_err(failed)?;
        let no_speech = self.words.no_speech(&numbers);
        if language.is_none() {
            *language = self.words.spoken(&numbers);
        }
        let prompt = self.words.prompt(language.as_ref().map(|(token, _)| *token), written_in);
        if !prompt.is_empty() {
            numbers = self.network.write(&mut writing, &prompt).map_err(failed)?;
        }
        let most = self.network.config().context / 2;
        let (mut tokens, mut sum) = (Vec::new(), 0.0);
        while tokens.len() < most {
            let Some((token, share)) = self.words.rules().choose(&mut numbers, &tokens) else {
                let message = "the network's numbers are not finite".to_owned();
                return Err(EngineError::Internal { message });
            };
            sum += share;
            if token == self.words.rules().end {
                break;
            }
            tokens.push(token);
            if tokens.len() < most {
                numbers = self.network.write(&mut writing, &[token]).map_err(failed)?;
            }
        }
        // Texts are far below 2^24 tokens.
        #[expect(clippy::cast_precision_loss, reason = "see above")]
        let average = sum / (tokens.len() + 1) as f32;
        let silent = no_speech > NO_SPEECH && average <= SURE;
        Ok((!silent).then_some(Window { seek, tokens, average }))
    }

    /// Tokens of so many frames: those that the encoder makes, and those that the decoder may.
    fn cost(&self, frames: u64) -> u32 {
        let config = self.network.config();
        let windows = frames.div_ceil(size(config.frames())).max(1);
        let each = size(config.places + config.context / 2);
        u32::try_from(windows.saturating_mul(each)).unwrap_or(u32::MAX)
    }

    /// The cost of the longest recording.
    fn most(&self) -> u32 {
        self.cost(u64::from(MAX_SECONDS) * 1_000 / FRAME_MS)
    }
}

/// For the tests of the numbers: what comes before the tokens.
impl Transcriber {
    /// The features of the first window of a recording as the network gets them, frame by frame.
    ///
    /// # Errors
    /// When the recording cannot be decoded.
    pub fn first_features(&self, item: &PreparedRecording) -> Result<Vec<f32>, RecordingError> {
        let mut windows = Windows::new(&item.file, &self.bank)?;
        let features = windows.at(0, self.network.config().frames())?;
        Ok(scaled(features, item.loudest).unwrap_or_default())
    }

    /// What the encoder makes of a window, place by place.
    ///
    /// # Errors
    /// When the device fails.
    pub fn encoded(&self, features: Vec<f32>) -> Result<Vec<Vec<f32>>, EngineError> {
        let heard = self.network.hear(features);
        heard.and_then(|heard| heard.to_vec2()).map_err(|error| classify(&error))
    }

    /// What the decoder says after these tokens: a number for each token of its vocabulary.
    ///
    /// # Errors
    /// When there are none or too many, or the device fails.
    pub fn next_numbers(
        &self,
        features: Vec<f32>,
        tokens: &[u32],
    ) -> Result<Vec<f32>, EngineError> {
        let numbers = || {
            let heard = self.network.hear(features)?;
            let mut writing = self.network.begin(&heard)?;
            self.network.write(&mut writing, tokens)
        };
        numbers().map_err(|error| classify(&error))
    }

    /// How likely it is that nobody speaks, by the numbers after the first token.
    pub fn no_speech(&self, numbers: &[f32]) -> f32 {
        self.words.no_speech(numbers)
    }
}

/// Features in relation to the loudest; `None` where there is nothing to hear.
fn scaled(features: &[f32], loudest: f32) -> Option<Vec<f32>> {
    /// What is less loud than the loudest by more than this is as good as silent.
    const RANGE: f32 = 8.0;
    let audible = features.iter().any(|feature| *feature > SILENCE);
    let scale = |feature: &f32| (feature.max(loudest - RANGE) + 4.0) / 4.0;
    audible.then(|| features.iter().map(scale).collect())
}

fn unusable(error: &RecordingError) -> ItemError {
    ItemError::Invalid { message: format!("the recording cannot be used: {error}") }
}

/// It could be decoded when it was prepared.
fn broken(error: &RecordingError) -> EngineError {
    EngineError::Input { message: format!("the recording cannot be used: {error}") }
}

fn size(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}
