//! Speech to text with small models of the real architecture: against the reference implementation, from files of every
//! format, and with everything that can be wrong.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

mod broken;
mod formats;
mod reference;
mod tiny_en;

use std::fs;
use std::path::{Path, PathBuf};

use stoker_engine::{LoadError, ModelOptions, PreparedRecording, Transcriber};
use stoker_engine_api::{
    Engine, EngineError, ItemError, ItemInput, ItemOutput, Listener, Piece, Prepared as _,
    Recording, TaskKind, Transcript, Wanted, WrittenIn,
};

/// Every folder of small models.
const MODELS: [&str; 2] = ["multilingual", "english"];

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/tiny-whisper")
}

fn file(name: &str) -> Vec<u8> {
    fs::read(golden().join(name)).unwrap()
}

fn load(directory: &Path) -> Result<Transcriber, LoadError> {
    Transcriber::load(&ModelOptions::new("tiny", directory))
}

fn tiny(model: &str) -> Transcriber {
    load(&golden().join(model)).unwrap()
}

fn prepare(
    engine: &Transcriber,
    file: Vec<u8>,
    language: Option<&str>,
) -> Result<PreparedRecording, ItemError> {
    prepare_to(engine, file, language, WrittenIn::Spoken)
}

fn prepare_to(
    engine: &Transcriber,
    file: Vec<u8>,
    language: Option<&str>,
    written_in: WrittenIn,
) -> Result<PreparedRecording, ItemError> {
    let language = language.map(str::to_owned);
    engine.prepare(ItemInput::Recording(Box::new(Recording { file, language, written_in })))
}

fn run(engine: &Transcriber, items: &[&PreparedRecording]) -> Vec<Transcript> {
    let transcript = |output| match output {
        ItemOutput::Transcript(transcript) => transcript,
        other => panic!("not a transcript but {}", other.kind()),
    };
    engine.run(items).unwrap().into_iter().map(transcript).collect()
}

/// A WAV file of 16 bits.
fn wav(rate: u32, channels: u16, samples: &[i16]) -> Vec<u8> {
    let data: Vec<u8> = samples.iter().flat_map(|sample| sample.to_le_bytes()).collect();
    let bytes = u32::try_from(data.len()).unwrap();
    let width = u32::from(channels) * 2;
    let mut file = [&b"RIFF"[..], &(bytes + 36).to_le_bytes(), b"WAVEfmt "].concat();
    file.extend(16_u32.to_le_bytes());
    file.extend(1_u16.to_le_bytes());
    file.extend(channels.to_le_bytes());
    file.extend(rate.to_le_bytes());
    file.extend((rate * width).to_le_bytes());
    file.extend(u16::try_from(width).unwrap().to_le_bytes());
    file.extend(16_u16.to_le_bytes());
    file.extend(b"data");
    file.extend(bytes.to_le_bytes());
    file.extend(data);
    file
}

#[test]
fn they_keep_the_contract_of_engines() {
    for model in MODELS {
        stoker_engine_api::contract::check(tiny(model));
    }
}

#[test]
fn an_engine_says_what_it_does_and_what_recordings_cost() {
    let engine = tiny("multilingual");
    let info = engine.info();
    assert_eq!((info.task, info.output_dimensions), (TaskKind::SpeechToText, None));
    // Windows are of two seconds: 100 places and at most 22 tokens each.
    assert_eq!(info.max_tokens, 3_600 * 122);
    let cost = |name: &str| prepare(&engine, file(name), None).unwrap().cost();
    assert_eq!((cost("short.wav"), cost("long.wav")), (122, 3 * 122));
}

/// Wants nothing any more from the third time on.
struct Impatient(std::sync::atomic::AtomicU32);

impl Listener for Impatient {
    fn said(&self, _: usize, _: Piece) -> Wanted {
        Wanted::Yes
    }

    fn wanted(&self, _: usize) -> Wanted {
        let asked = self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        if asked < 2 { Wanted::Yes } else { Wanted::No }
    }
}

#[test]
fn a_recording_that_is_not_wanted_any_more_ends_between_two_windows() {
    let engine = tiny("multilingual");
    let item = prepare(&engine, file("long.wav"), Some("en")).unwrap();
    let listener = Impatient(0.into());
    let error = engine.run_heard(&[&item], &listener).unwrap_err();
    assert!(matches!(error, EngineError::Input { .. }), "{error}");
    assert_eq!(listener.0.into_inner(), 3);
    assert!(engine.run(&[&item]).is_ok(), "the engine goes on");
}
