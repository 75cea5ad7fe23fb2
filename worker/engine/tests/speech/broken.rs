//! Recordings and models with everything that can be wrong.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use stoker_engine_api::{Engine, ItemError, ItemInput};
use tempfile::TempDir;

use super::{file, golden, load, prepare, run, tiny, wav};

/// What is said about a recording that cannot be used.
fn refused(engine: &stoker_engine::Transcriber, what: &str, file: Vec<u8>) -> String {
    match prepare(engine, file, None) {
        Ok(item) => panic!("{what} was prepared: {item:?}"),
        Err(ItemError::Invalid { message }) => message,
        Err(other) => panic!("{what}: {other}"),
    }
}

/// A WAV file of numbers of 32 bits.
fn float_wav(samples: &[f32]) -> Vec<u8> {
    let halves: Vec<i16> = samples
        .iter()
        .flat_map(|sample| {
            let [a, b, c, d] = sample.to_le_bytes();
            [i16::from_le_bytes([a, b]), i16::from_le_bytes([c, d])]
        })
        .collect();
    let mut file = wav(16_000, 1, &halves);
    // The format of IEEE numbers, with the sizes of four bytes.
    file[20] = 3;
    file[28..32].copy_from_slice(&64_000_u32.to_le_bytes());
    file[32..36].copy_from_slice(&[4, 0, 32, 0]);
    file
}

#[test]
fn files_that_are_no_recordings_are_refused_with_the_reason() {
    let engine = tiny("multilingual");
    let whole = file("short.wav");
    let flac = file("short.flac");
    let noise: Vec<u8> =
        (0..20_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13).to_le_bytes()[0]).collect();
    for (what, file, part) in [
        ("nothing", Vec::new(), "neither WAV, FLAC, MP3 nor Ogg"),
        ("a text", b"This is no recording at all. ".repeat(200), "neither WAV, FLAC"),
        ("an image", [&b"\x89PNG\r\n\x1a\n"[..], &[7; 5_000]].concat(), "neither WAV, FLAC"),
        ("half a WAV file", whole[..whole.len() / 2].to_vec(), "it is cut off"),
        ("a WAV header", whole[..44].to_vec(), ""),
        ("half a FLAC file", flac[..flac.len() / 2].to_vec(), "it is cut off"),
        ("no samples", wav(16_000, 1, &[]), "no sound in it"),
        ("a slow rate", wav(4_000, 1, &[1; 4_000]), "4000 samples per second"),
        ("a fast rate", wav(384_000, 1, &[1; 4_000]), "384000 samples per second"),
        ("numbers that are none", float_wav(&[0.5, f32::NAN, 0.5]), "not finite"),
        ("infinite numbers", float_wav(&[0.5, f32::INFINITY, 0.5]), "not finite"),
    ] {
        let message = refused(&engine, what, file);
        assert!(message.contains("the recording cannot be used: "), "{what}: {message}");
        assert!(message.contains(part), "{what}: {message}");
    }
    // Noise has places that look like the beginning of something: whatever it is, it is no fault of the engine.
    if let Err(error) = prepare(&engine, noise, None) {
        assert!(matches!(error, ItemError::Invalid { .. }), "{error}");
    }
    assert!(prepare(&engine, whole, None).is_ok(), "the engine goes on");
}

#[test]
fn a_small_file_with_hours_of_silence_is_decoded_no_further_than_is_allowed() {
    let engine = tiny("multilingual");
    let hours = file("hours.flac");
    assert!(hours.len() < 32 << 10, "{} bytes", hours.len());
    let message = refused(&engine, "two hours and a second", hours);
    assert!(message.contains("longer than 7200 seconds"), "{message}");
}

#[test]
fn silence_has_an_empty_text() {
    let engine = tiny("multilingual");
    // What is left of silence when it is rounded to 16 bits with care: -1, 0 or 1, by chance.
    let mut state = 88_172_645_463_325_252_u64;
    let mut chance = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        i16::from(state >> 40 & 1 == 1)
    };
    let faint: Vec<i16> = (0..80_000).map(|_| chance() - chance()).collect();
    for samples in [vec![0; 1], vec![0; 80_000], faint] {
        let item = prepare(&engine, wav(16_000, 1, &samples), None).unwrap();
        let transcript = run(&engine, &[&item]).remove(0);
        assert_eq!((transcript.language, transcript.segments), (None, Vec::new()));
    }
    let item = prepare(&engine, wav(16_000, 1, &vec![0; 16_000]), Some("de")).unwrap();
    assert_eq!(run(&engine, &[&item])[0].duration_ms, 1_000);
}

#[test]
fn other_inputs_and_languages_that_nobody_knows_are_refused() {
    let engine = tiny("multilingual");
    let error = engine.prepare(ItemInput::Text("a".to_owned())).unwrap_err().to_string();
    assert_eq!(error, "the task speech-to-text takes a recording, not text");
    let error = prepare(&engine, file("short.wav"), Some("tlh")).unwrap_err().to_string();
    assert!(error.contains("language `tlh`; it knows de, en, haw"), "{error}");
    let english = tiny("english");
    let error = prepare(&english, file("short.wav"), Some("de")).unwrap_err().to_string();
    assert!(error.contains("knows English only"), "{error}");
    assert!(prepare(&english, file("short.wav"), Some("en")).is_ok());
}

/// A copy of a model, for breaking it.
fn copy() -> TempDir {
    let copy = TempDir::new().unwrap();
    for entry in fs::read_dir(golden().join("multilingual")).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, copy.path().join(path.file_name().unwrap())).unwrap();
    }
    copy
}

fn set(path: &Path, field: &str, value: Value) {
    let mut config: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    config[field] = value;
    fs::write(path, config.to_string()).unwrap();
}

#[test]
fn models_that_are_not_whole_or_not_known_are_refused_by_file() {
    for (name, field, value, what) in [
        ("config.json", "model_type", json!("wav2vec2"), "model_type is `wav2vec2`"),
        ("config.json", "activation_function", json!("relu"), "activation_function is `relu`"),
        ("config.json", "scale_embedding", json!(true), "scale_embedding"),
        ("config.json", "encoder_attention_heads", json!(5), "which 5 heads do not divide"),
        ("config.json", "max_source_positions", json!(1_000_000), "expected 1 to 15000"),
        ("config.json", "decoder_layers", json!(0), "decoder_layers is 0"),
        ("config.json", "d_model", json!(64), "has shape"),
        ("config.json", "eos_token_id", json!(9_999), "eos_token_id is 9999"),
        ("generation_config.json", "no_timestamps_token_id", json!(9_999), "no timestamps"),
    ] {
        let folder = copy();
        set(&folder.path().join(name), field, value);
        let Err(error) = load(folder.path()) else { panic!("loaded in spite of {field}") };
        let message = error.to_string();
        let path = folder.path().display().to_string();
        assert!(message.contains(&path) && message.contains(what), "{field}: {message}");
        assert!(!message.contains('\n') && !error.remedy().is_empty(), "{message}");
    }
    let folder = copy();
    let features = json!({"n_fft": 512, "hop_length": 160, "sampling_rate": 16_000});
    fs::write(folder.path().join("preprocessor_config.json"), features.to_string()).unwrap();
    let error = load(folder.path()).err().unwrap().to_string();
    assert!(error.contains("n_fft is 512"), "{error}");
    let folder = copy();
    fs::remove_file(folder.path().join("config.json")).unwrap();
    let error = load(folder.path()).err().unwrap();
    assert!(error.remedy().contains("Whisper model"), "{}", error.remedy());
}

#[test]
fn an_older_model_says_in_its_configuration_what_is_never_chosen() {
    let engine = tiny("multilingual");
    let folder = copy();
    let generation = folder.path().join("generation_config.json");
    let settings: Value = serde_json::from_slice(&fs::read(&generation).unwrap()).unwrap();
    fs::remove_file(&generation).unwrap();
    let config = folder.path().join("config.json");
    for field in ["suppress_tokens", "begin_suppress_tokens"] {
        set(&config, field, settings[field].clone());
    }
    // So few tokens are taken for a model that knows English only.
    let older = load(folder.path()).unwrap();
    let item = prepare(&older, file("short.wav"), Some("en")).unwrap();
    assert_eq!(run(&older, &[&item])[0].language.as_deref(), Some("en"));
    let item = prepare(&engine, file("short.wav"), Some("en")).unwrap();
    assert!(!run(&engine, &[&item])[0].segments.is_empty());
}

#[test]
fn languages_are_known_by_their_tokens_where_no_list_names_them() {
    let folder = copy();
    for field in ["lang_to_id", "task_to_id", "no_timestamps_token_id"] {
        set(&folder.path().join("generation_config.json"), field, Value::Null);
    }
    let engine = load(folder.path()).unwrap();
    let error = prepare(&engine, file("short.wav"), Some("tlh")).unwrap_err().to_string();
    assert!(error.contains("it knows de, en, haw"), "{error}");
    let named = tiny("multilingual");
    let [found, expected] = [&engine, &named].map(|engine| {
        let item = prepare(engine, file("short.wav"), Some("haw")).unwrap();
        run(engine, &[&item]).remove(0)
    });
    assert_eq!(found, expected);
}
