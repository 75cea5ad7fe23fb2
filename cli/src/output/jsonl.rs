//! Results as JSON lines: one line per item.

mod faces;

use std::io::{self, Write};

use serde::{Serialize, Serializer};
use stoker_proto::v1;
use stoker_proto::v1::result_part::Output;

use crate::client::{scores, vectors};
use faces::FacesLine;

#[derive(Serialize)]
struct VectorLine<'a> {
    job: &'a str,
    item: u32,
    embedding: &'a [f32],
}

#[derive(Serialize)]
struct ScoresLine<'a> {
    job: &'a str,
    item: u32,
    /// The most likely label, where only one can hold.
    #[serde(skip_serializing_if = "Option::is_none")]
    label: Option<&'a str>,
    scores: ByLabel<'a>,
    /// The text was too long for the model: the scores are those of its beginning.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    truncated: bool,
}

/// Scores under the names of their labels, in the model's order.
struct ByLabel<'a> {
    labels: &'a [String],
    scores: Vec<f32>,
}

impl Serialize for ByLabel<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_map(self.labels.iter().zip(&self.scores))
    }
}

impl<'a> ScoresLine<'a> {
    /// The line of the item that `index` others of the part are before.
    fn new(
        job: &'a str,
        part: &v1::ResultPart,
        index: u32,
        classifications: &'a v1::Classifications,
        scores: Vec<f32>,
    ) -> Self {
        let v1::Classifications { labels, exclusive, truncated, scores: _ } = classifications;
        let best = labels.iter().zip(&scores).max_by(|(_, one), (_, other)| one.total_cmp(other));
        Self {
            job,
            item: part.first_item + index,
            label: best.filter(|_| *exclusive).map(|(label, _)| label.as_str()),
            scores: ByLabel { labels, scores },
            truncated: truncated.binary_search(&index).is_ok(),
        }
    }
}

#[derive(Serialize)]
struct GenerationLine<'a> {
    job: &'a str,
    item: u32,
    text: &'a str,
    finish: &'static str,
    prompt_tokens: u32,
    generated_tokens: u32,
}

impl<'a> GenerationLine<'a> {
    fn new(job: &'a str, item: u32, generation: &'a v1::Generation) -> Self {
        let finish = match generation.finish() {
            v1::FinishReason::Stop => "stop",
            v1::FinishReason::Length => "length",
            v1::FinishReason::Unspecified => "unknown to this version",
        };
        let v1::Generation { text, prompt_tokens, generated_tokens, finish: _ } = generation;
        let (prompt_tokens, generated_tokens) = (*prompt_tokens, *generated_tokens);
        Self { job, item, text, finish, prompt_tokens, generated_tokens }
    }
}

#[derive(Serialize)]
struct TranscriptLine<'a> {
    job: &'a str,
    item: u32,
    text: &'a str,
    /// Left out where nothing was said.
    #[serde(skip_serializing_if = "str::is_empty")]
    language: &'a str,
    duration_ms: u32,
    segments: Vec<SegmentOf<'a>>,
}

#[derive(Serialize)]
struct SegmentOf<'a> {
    start_ms: u32,
    end_ms: u32,
    text: &'a str,
}

impl<'a> TranscriptLine<'a> {
    fn new(job: &'a str, item: u32, transcript: &'a v1::Transcript) -> Self {
        let v1::Transcript { text, language, segments, duration_ms } = transcript;
        let segment = |one: &'a v1::TranscriptSegment| SegmentOf {
            start_ms: one.start_ms,
            end_ms: one.end_ms,
            text: &one.text,
        };
        let segments = segments.iter().map(segment).collect();
        Self { job, item, text, language, duration_ms: *duration_ms, segments }
    }
}

#[derive(Serialize)]
struct TextLine<'a> {
    job: &'a str,
    item: u32,
    text: &'a str,
}

/// Writes a line for each item of a checked part.
pub(crate) fn write(out: &mut impl Write, job: &str, part: &v1::ResultPart) -> io::Result<()> {
    match &part.output {
        Some(Output::Embeddings(embeddings)) => {
            for (item, embedding) in (part.first_item..).zip(vectors(embeddings)) {
                line(out, &VectorLine { job, item, embedding: &embedding })?;
            }
        }
        Some(Output::Classifications(classifications)) => {
            for (index, scores) in (0..).zip(scores(classifications)) {
                line(out, &ScoresLine::new(job, part, index, classifications, scores))?;
            }
        }
        Some(Output::Generations(generations)) => {
            for (item, generation) in (part.first_item..).zip(&generations.generations) {
                line(out, &GenerationLine::new(job, item, generation))?;
            }
        }
        Some(Output::Faces(faces)) => {
            for (item, image) in (part.first_item..).zip(&faces.images) {
                line(out, &FacesLine::new(job, item, image))?;
            }
        }
        Some(Output::Transcripts(transcripts)) => {
            for (item, transcript) in (part.first_item..).zip(&transcripts.transcripts) {
                line(out, &TranscriptLine::new(job, item, transcript))?;
            }
        }
        Some(Output::Texts(texts)) => {
            for (item, text) in (part.first_item..).zip(&texts.texts) {
                line(out, &TextLine { job, item, text })?;
            }
        }
        None => {}
    }
    Ok(())
}

fn line(out: &mut impl Write, value: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer(&mut *out, value)?;
    out.write_all(b"\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_stand_under_the_names_of_their_labels() {
        let bytes: Vec<u8> =
            [0.25_f32, 0.75, 1.0, 0.0].iter().flat_map(|f| f.to_le_bytes()).collect();
        let labels = vec!["good".to_owned(), "bad".to_owned()];
        let lines = |exclusive| {
            let output = Some(Output::Classifications(v1::Classifications {
                labels: labels.clone(),
                scores: bytes.clone().into(),
                exclusive,
                truncated: vec![1],
            }));
            let mut out = Vec::new();
            write(&mut out, "j", &v1::ResultPart { first_item: 3, items: 2, output }).unwrap();
            String::from_utf8(out).unwrap()
        };
        assert_eq!(
            lines(true),
            "{\"job\":\"j\",\"item\":3,\"label\":\"bad\",\"scores\":{\"good\":0.25,\"bad\":0.75}}\n\
             {\"job\":\"j\",\"item\":4,\"label\":\"good\",\"scores\":{\"good\":1.0,\"bad\":0.0},\
             \"truncated\":true}\n"
        );
        assert!(
            lines(false).starts_with(
                "{\"job\":\"j\",\"item\":3,\"scores\":{\"good\":0.25,\"bad\":0.75}}\n"
            )
        );
    }

    #[test]
    fn a_generated_text_says_how_it_ended() {
        let generation = v1::Generation {
            text: "Hi".to_owned(),
            finish: v1::FinishReason::Length.into(),
            prompt_tokens: 9,
            generated_tokens: 2,
        };
        let output = Output::Generations(v1::Generations { generations: vec![generation] });
        let mut out = Vec::new();
        let part = v1::ResultPart { first_item: 1, items: 1, output: Some(output) };
        write(&mut out, "j", &part).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "{\"job\":\"j\",\"item\":1,\"text\":\"Hi\",\"finish\":\"length\",\"prompt_tokens\":9,\
             \"generated_tokens\":2}\n"
        );
    }

    #[test]
    fn a_transcript_has_its_segments_with_their_times() {
        let segment = |start_ms, text: &str| v1::TranscriptSegment {
            start_ms,
            end_ms: start_ms + 500,
            text: text.to_owned(),
        };
        let spoken = v1::Transcript {
            text: "Hi there".to_owned(),
            language: "en".to_owned(),
            segments: vec![segment(0, "Hi"), segment(700, "there")],
            duration_ms: 1_500,
        };
        let silent = v1::Transcript { duration_ms: 40, ..v1::Transcript::default() };
        let output = Output::Transcripts(v1::Transcripts { transcripts: vec![spoken, silent] });
        let mut out = Vec::new();
        let part = v1::ResultPart { first_item: 1, items: 2, output: Some(output) };
        write(&mut out, "j", &part).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "{\"job\":\"j\",\"item\":1,\"text\":\"Hi there\",\"language\":\"en\",\"duration_ms\":1500,\
             \"segments\":[{\"start_ms\":0,\"end_ms\":500,\"text\":\"Hi\"},\
             {\"start_ms\":700,\"end_ms\":1200,\"text\":\"there\"}]}\n\
             {\"job\":\"j\",\"item\":2,\"text\":\"\",\"duration_ms\":40,\"segments\":[]}\n"
        );
    }

    #[test]
    fn each_item_is_a_line_with_its_number() {
        let bytes: Vec<u8> =
            [0.5_f32, 1.0, -0.25, 1e-7].iter().flat_map(|f| f.to_le_bytes()).collect();
        let embeddings = v1::Embeddings { dimensions: 2, vectors: bytes.into() };
        let output = Some(Output::Embeddings(embeddings));
        let mut out = Vec::new();
        write(&mut out, "j", &v1::ResultPart { first_item: 7, items: 2, output }).unwrap();
        let texts = Some(Output::Texts(v1::Texts { texts: vec!["a\"b".into()] }));
        write(&mut out, "j", &v1::ResultPart { first_item: 9, items: 1, output: texts }).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "{\"job\":\"j\",\"item\":7,\"embedding\":[0.5,1.0]}\n\
             {\"job\":\"j\",\"item\":8,\"embedding\":[-0.25,1e-7]}\n\
             {\"job\":\"j\",\"item\":9,\"text\":\"a\\\"b\"}\n"
        );
    }
}
