//! Recordings of the wire as an engine takes them, and transcripts as the wire has them.

use stoker_engine_api::{ItemInput, Recording, Segment, Transcript, WrittenIn};
use stoker_proto::v1;

/// The items of a job that writes down what is said.
pub(crate) fn inputs(input: v1::SpeechToTextInput) -> Vec<ItemInput> {
    let v1::TranscriptionOptions { language, translate } = input.options.unwrap_or_default();
    let language = Some(language).filter(|language| !language.is_empty());
    let written_in = if translate { WrittenIn::English } else { WrittenIn::Spoken };
    let item = |file: bytes::Bytes| {
        let (file, language) = (Vec::from(file), language.clone());
        ItemInput::Recording(Box::new(Recording { file, language, written_in }))
    };
    input.recordings.into_iter().map(item).collect()
}

/// A transcript on the wire.
pub(crate) fn wire_transcript(transcript: Transcript) -> v1::Transcript {
    let text = transcript.text();
    let Transcript { language, segments, duration_ms } = transcript;
    let segment = |Segment { start_ms, end_ms, text }: Segment| v1::TranscriptSegment {
        start_ms,
        end_ms,
        text: text.trim().to_owned(),
    };
    let segments = segments.into_iter().map(segment).collect();
    v1::Transcript { text, language: language.unwrap_or_default(), segments, duration_ms }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_those_of_every_recording() {
        let options = v1::TranscriptionOptions { language: "de".to_owned(), translate: true };
        let recordings = vec!["a".into(), "b".into()];
        let input = v1::SpeechToTextInput { recordings, options: Some(options) };
        let recording = |file: &str, language: Option<&str>, written_in| {
            let (file, language) = (file.as_bytes().to_vec(), language.map(str::to_owned));
            ItemInput::Recording(Box::new(Recording { file, language, written_in }))
        };
        let german = |file: &str| recording(file, Some("de"), WrittenIn::English);
        assert_eq!(inputs(input), [german("a"), german("b")]);
        let plain = v1::SpeechToTextInput { recordings: vec!["a".into()], options: None };
        assert_eq!(inputs(plain), [recording("a", None, WrittenIn::Spoken)]);
    }

    #[test]
    fn a_transcript_s_text_is_that_of_its_segments() {
        let segment = |start_ms, text: &str| {
            let end_ms = start_ms + 500;
            Segment { start_ms, end_ms, text: text.to_owned() }
        };
        let segments = vec![segment(0, " Coal is"), segment(500, " black.")];
        let language = Some("en".to_owned());
        let wire = wire_transcript(Transcript { language, segments, duration_ms: 1_000 });
        assert_eq!((wire.text.as_str(), wire.language.as_str()), ("Coal is black.", "en"));
        let texts: Vec<_> = wire.segments.iter().map(|segment| segment.text.as_str()).collect();
        assert_eq!((texts, wire.segments[1].end_ms), (vec!["Coal is", "black."], 1_000));
    }
}
