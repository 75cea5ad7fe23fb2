//! What is asked of a model that writes down what is said, and whether its transcripts are whole.

use stoker_core::speech::language_problem;

use crate::status::FieldViolation;
use crate::v1;

use super::violations::Violations;

/// Notes what is wrong with the options, and which recordings have nothing in them.
pub(super) fn check_speech(
    input: &v1::SpeechToTextInput,
    field: &str,
    violations: &mut Violations,
) {
    let language = input.options.as_ref().map_or("", |options| &options.language);
    if let Some(problem) = language_problem(language) {
        violations.add(FieldViolation::new(format!("{field}.options.language"), problem));
    }
    for (index, recording) in input.recordings.iter().enumerate() {
        if recording.is_empty() {
            let field = format!("{field}.recordings[{index}]");
            violations.add(FieldViolation::new(field, "is empty: leave it out, or give it a file"));
        }
        if violations.is_full() {
            return;
        }
    }
}

/// What keeps transcripts from being those of `items` recordings: the field in the part, and the problem.
pub(super) fn transcripts_problem(
    transcripts: &v1::Transcripts,
    items: u32,
) -> Option<(&'static str, String)> {
    let transcripts = &transcripts.transcripts;
    if u32::try_from(transcripts.len()) != Ok(items) {
        let problem = format!("has {} transcripts for {items} items", transcripts.len());
        return Some(("transcripts", problem));
    }
    let sound = |transcript: &v1::Transcript| {
        let inside = |segment: &v1::TranscriptSegment| {
            segment.start_ms <= segment.end_ms && segment.end_ms <= transcript.duration_ms
        };
        transcript.segments.iter().all(inside)
            && transcript.segments.is_sorted_by_key(|segment| segment.start_ms)
    };
    (!transcripts.iter().all(sound)).then(|| {
        let problem = "has a segment that is out of order or outside its recording".to_owned();
        ("transcripts", problem)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_recordings_is_named() {
        let options = v1::TranscriptionOptions { language: "English".to_owned(), translate: true };
        let recordings = vec!["RIFF".into(), Vec::new().into()];
        let input = v1::SpeechToTextInput { recordings, options: Some(options) };
        let mut violations = Violations::default();
        check_speech(&input, "s", &mut violations);
        let fields: Vec<_> = violations.into_vec().into_iter().map(|one| one.field).collect();
        assert_eq!(fields, ["s.options.language", "s.recordings[1]"]);
    }

    #[test]
    fn segments_are_in_order_and_inside_their_recording() {
        let problem = |times: &[(u32, u32)]| {
            let segment = |&(start_ms, end_ms): &(u32, u32)| v1::TranscriptSegment {
                start_ms,
                end_ms,
                text: "a".to_owned(),
            };
            let segments = times.iter().map(segment).collect();
            let transcript = v1::Transcript { segments, duration_ms: 100, ..Default::default() };
            let transcripts = v1::Transcripts { transcripts: vec![transcript] };
            transcripts_problem(&transcripts, 1)
        };
        for good in [&[][..], &[(0, 0)], &[(0, 50), (50, 100)], &[(0, 60), (50, 100)]] {
            assert_eq!(problem(good), None, "{good:?}");
        }
        for bad in [&[(0, 101)][..], &[(60, 50)], &[(50, 100), (0, 50)]] {
            assert_eq!(problem(bad).unwrap().0, "transcripts", "{bad:?}");
        }
        assert!(transcripts_problem(&v1::Transcripts::default(), 1).is_some());
    }
}
