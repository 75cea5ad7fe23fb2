//! Results as JSON lines: one line per item.

use std::io::{self, Write};

use serde::Serialize;
use stoker_proto::v1;
use stoker_proto::v1::result_part::Output;

use crate::client::vectors;

#[derive(Serialize)]
struct VectorLine<'a> {
    job: &'a str,
    item: u32,
    embedding: &'a [f32],
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
