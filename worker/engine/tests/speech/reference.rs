//! What transformers says about the same weights and recordings.

use std::collections::BTreeMap;

use serde::Deserialize;
use stoker_engine::Window;
use stoker_engine_api::{Segment, Wanted, WrittenIn};

use super::{MODELS, file, golden, prepare, prepare_to, run, tiny};

#[derive(Deserialize)]
struct Expected {
    mel: BTreeMap<usize, Vec<f32>>,
    encoded: BTreeMap<usize, Vec<f32>>,
    start: Vec<f32>,
    no_speech: f32,
    /// Of a model that knows several.
    language: Option<String>,
    transcripts: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    recording: String,
    prompt: Vec<u32>,
    windows: Vec<ExpectedWindow>,
    segments: Vec<ExpectedSegment>,
    last: Vec<f32>,
}

#[derive(Deserialize)]
struct ExpectedWindow {
    seek: u64,
    tokens: Vec<u32>,
    average: f32,
}

#[derive(Deserialize)]
struct ExpectedSegment {
    start: u32,
    end: u32,
    text: String,
}

impl Entry {
    fn file(&self) -> Vec<u8> {
        file(&format!("{}.wav", self.recording))
    }

    /// What was asked for, by the prompt's tokens.
    fn asked(&self) -> (Option<&'static str>, WrittenIn) {
        let language = self.prompt.get(1).map(|token| ["en", "de", "haw"][*token as usize - 302]);
        let english = self.prompt.get(2) == Some(&305);
        (language, if english { WrittenIn::English } else { WrittenIn::Spoken })
    }
}

fn expected(model: &str) -> Expected {
    let json = std::fs::read(golden().join(model).join("expected.json")).unwrap();
    serde_json::from_slice(&json).unwrap()
}

fn are_close(what: &str, found: &[f32], exact: &[f32], tolerance: f32) {
    assert_eq!(found.len(), exact.len(), "{what}");
    let largest = exact.iter().fold(1.0_f32, |max, number| max.max(number.abs()));
    for (place, (found, exact)) in found.iter().zip(exact).enumerate() {
        let difference = (found - exact).abs();
        assert!(difference <= tolerance * largest, "{what}[{place}]: {found}, not {exact}");
    }
}

#[test]
fn features_are_those_of_the_reference() {
    for model in MODELS {
        let engine = tiny(model);
        let item = prepare(&engine, file("short.wav"), None).unwrap();
        let features = engine.first_features(&item).unwrap();
        let expected = expected(model);
        let bands = expected.mel[&0].len();
        assert_eq!(features.len(), 200 * bands);
        for (frame, exact) in &expected.mel {
            let found = &features[frame * bands..(frame + 1) * bands];
            are_close(&format!("{model}: frame {frame}"), found, exact, 2e-5);
        }
    }
}

#[test]
fn the_network_s_numbers_are_those_of_the_reference() {
    for model in MODELS {
        let engine = tiny(model);
        let expected = expected(model);
        let features = |file| {
            let item = prepare(&engine, file, None).unwrap();
            engine.first_features(&item).unwrap()
        };
        let short = features(file("short.wav"));
        let encoded = engine.encoded(short.clone()).unwrap();
        assert_eq!(encoded.len(), 100);
        for (row, exact) in &expected.encoded {
            are_close(&format!("{model}: place {row}"), &encoded[*row], exact, 5e-5);
        }
        let start = engine.next_numbers(short, &expected.transcripts[0].prompt[..1]).unwrap();
        are_close(&format!("{model}: start"), &start, &expected.start, 5e-5);
        let no_speech = engine.no_speech(&start);
        assert!((no_speech - expected.no_speech).abs() < 1e-5, "{no_speech}");
        for entry in &expected.transcripts {
            let tokens = [&entry.prompt[..], &entry.windows[0].tokens].concat();
            let last = engine.next_numbers(features(entry.file()), &tokens).unwrap();
            are_close(&format!("{model}: last"), &last, &entry.last, 5e-5);
        }
    }
}

#[test]
fn every_window_has_the_tokens_of_the_reference() {
    for model in MODELS {
        let engine = tiny(model);
        for entry in expected(model).transcripts {
            let (language, written_in) = entry.asked();
            let item = prepare_to(&engine, entry.file(), language, written_in).unwrap();
            let mut windows: Vec<Window> = Vec::new();
            let mut tell = |window: &Window| windows.push(window.clone());
            let transcript = engine.transcribe(&item, &|| Wanted::Yes, &mut tell).unwrap();
            assert_eq!(windows.len(), entry.windows.len());
            for (found, exact) in windows.iter().zip(&entry.windows) {
                assert_eq!((found.seek, &found.tokens), (exact.seek, &exact.tokens), "{model}");
                assert!((found.average - exact.average).abs() < 1e-3, "{}", found.average);
            }
            let segment = |one: &ExpectedSegment| Segment {
                start_ms: one.start,
                end_ms: one.end,
                text: one.text.clone(),
            };
            let segments: Vec<Segment> = entry.segments.iter().map(segment).collect();
            assert_eq!(transcript.segments, segments, "{model}: {}", entry.recording);
        }
    }
}

#[test]
fn what_is_spoken_is_found_out_as_the_reference_does() {
    for model in MODELS {
        let engine = tiny(model);
        let item = prepare(&engine, file("short.wav"), None).unwrap();
        let found = run(&engine, &[&item]).remove(0).language;
        assert_eq!(found, expected(model).language.or_else(|| Some("en".to_owned())), "{model}");
    }
}

#[test]
fn recordings_do_not_change_each_other() {
    let engine = tiny("multilingual");
    let [short, long] =
        ["short.wav", "long.wav"].map(|name| prepare(&engine, file(name), Some("de")).unwrap());
    let together = run(&engine, &[&long, &short, &long]);
    assert_eq!(together[0], together[2]);
    assert_eq!(together[1], run(&engine, &[&short])[0]);
    assert_eq!((together[0].duration_ms, together[1].duration_ms), (5_300, 1_700));
}
