//! A real model's vocabulary out of its GGUF header, against what llama.cpp makes of the same texts.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::{greedy, load, prepare, text};

fn in_repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

/// A text, or a line of the demo's corpus, and its tokens.
#[derive(Deserialize)]
struct Entry {
    line: Option<usize>,
    text: Option<String>,
    tokens: Vec<u32>,
}

#[test]
#[ignore = "needs a model that `make test-tokenizer` fetches"]
fn a_vocabulary_of_a_gguf_file_makes_the_tokens_that_llama_cpp_makes() {
    let folder = in_repository(".cache/models/smollm2-135m-instruct");
    assert!(folder.exists(), "no model in {}: run `make test-tokenizer`", folder.display());
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/smollm2-tokens.json");
    let entries: Vec<Entry> = serde_json::from_slice(&fs::read(golden).unwrap()).unwrap();
    assert!(entries.len() >= 500, "{}", entries.len());
    let corpus = fs::read_to_string(in_repository("demo/corpus/austen.txt")).unwrap();
    let lines: Vec<&str> = corpus.lines().collect();
    let engine = load(&folder).unwrap();
    let mut different = Vec::new();
    for entry in entries {
        let words = match (entry.line, &entry.text) {
            (Some(line), _) => lines[line],
            (None, Some(text)) => text,
            (None, None) => panic!("an entry without a text"),
        };
        let prepared = prepare(&engine, text(words), greedy(1), &[]).unwrap();
        if prepared.prompt() != entry.tokens {
            different.push((words.to_owned(), prepared.prompt().to_vec(), entry.tokens));
        }
    }
    assert!(different.is_empty(), "{} differ: {different:?}", different.len());
}
