//! The real Whisper tiny.en, which `make test-whisper` fetches: a sentence that a machine speaks.

use std::path::Path;

use super::{load, prepare, run};

/// What transformers makes of the same recording with the same weights.
const SAYS: &str = "The quick brown fox jump over the lazy dog, deep learning models need careful planning before \
                    they go to production.";

#[test]
#[ignore = "needs the real model: make test-whisper"]
fn a_sentence_is_written_down() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let engine = load(&here.join("../../.cache/models/whisper-tiny-en")).unwrap();
    let recording = std::fs::read(here.join("golden/sentence.ogg")).unwrap();
    let item = prepare(&engine, recording, None).unwrap();
    let transcript = run(&engine, &[&item]).remove(0);
    assert_eq!(transcript.text(), SAYS);
    let [segment] = transcript.segments.as_slice() else { panic!("{transcript:?}") };
    assert_eq!((segment.start_ms, segment.end_ms, transcript.duration_ms), (0, 6_300, 6_509));
    assert_eq!(transcript.language.as_deref(), Some("en"));
}
