//! What transformers says about the same weights: tokens of prompts, the numbers of the network, and what
//! follows greedily.

use std::fs;
use std::sync::Mutex;

use serde::Deserialize;
use stoker_engine_api::{Engine, Finish, Listener, Piece, Prepared, Prompt, Wanted};

use super::{MODELS, chat, folder, generate, greedy, load, prepare, text};

#[derive(Deserialize)]
struct Expected {
    prompts: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    text: Option<String>,
    #[serde(default)]
    chat: Vec<(String, String)>,
    tokens: Vec<u32>,
    logits: Vec<f32>,
    greedy: Vec<u32>,
}

impl Entry {
    fn prompt(&self) -> Prompt {
        if let Some(prompt) = &self.text {
            return text(prompt);
        }
        let messages = self.chat.iter().map(|(role, content)| (role.as_str(), content.as_str()));
        chat(&messages.collect::<Vec<_>>())
    }
}

fn expected(model: &str) -> Vec<Entry> {
    let json = fs::read(folder(model).join("expected.json")).unwrap();
    serde_json::from_slice::<Expected>(&json).unwrap().prompts
}

/// Keeps the tokens that it hears.
#[derive(Default)]
struct Heard(Mutex<Piece>);

impl Listener for Heard {
    fn said(&self, _: usize, piece: Piece) -> Wanted {
        let mut heard = self.0.lock().unwrap();
        heard.tokens.extend(piece.tokens);
        heard.text.push_str(&piece.text);
        Wanted::Yes
    }
}

#[test]
fn prompts_have_the_tokens_of_the_reference() {
    for model in MODELS {
        let engine = load(&folder(model)).unwrap();
        for entry in expected(model) {
            let prepared = prepare(&engine, entry.prompt(), greedy(5), &[]).unwrap();
            assert_eq!(prepared.prompt(), entry.tokens, "{model}");
            assert_eq!(prepared.cost(), u32::try_from(entry.tokens.len()).unwrap() + 5);
        }
    }
}

#[test]
fn the_network_s_numbers_are_those_of_the_reference() {
    for model in MODELS {
        let engine = load(&folder(model)).unwrap();
        for entry in expected(model) {
            let found = engine.next_numbers(&entry.tokens).unwrap();
            let largest = entry.logits.iter().fold(1.0_f32, |max, number| max.max(number.abs()));
            let tolerance = 2e-5 * largest;
            assert_eq!(found.len(), entry.logits.len());
            for (found, exact) in found.iter().zip(&entry.logits) {
                assert!((found - exact).abs() < tolerance, "{model}: {found} instead of {exact}");
            }
        }
    }
}

#[test]
fn the_likeliest_tokens_are_those_of_the_reference() {
    for model in MODELS.into_iter().filter(|model| *model != "llama-gguf") {
        let engine = load(&folder(model)).unwrap();
        for entry in expected(model) {
            let most = u32::try_from(entry.greedy.len()).unwrap();
            let prepared = prepare(&engine, entry.prompt(), greedy(most), &[]).unwrap();
            assert_eq!(engine.tokens_of(&prepared).unwrap(), entry.greedy, "{model}");
        }
    }
}

/// The file names an end of texts, past which the reference goes on.
#[test]
fn the_likeliest_token_after_each_of_the_reference_s_is_its_next() {
    let engine = load(&folder("llama-gguf")).unwrap();
    for entry in expected("llama-gguf") {
        let mut tokens = entry.tokens.clone();
        for next in entry.greedy {
            let numbers = engine.next_numbers(&tokens).unwrap();
            let likeliest = numbers.iter().enumerate().max_by(|(_, a), (_, b)| a.total_cmp(b));
            assert_eq!(likeliest.map(|(token, _)| token), usize::try_from(next).ok());
            tokens.push(next);
        }
    }
}

#[test]
fn what_is_heard_is_the_beginning_of_the_text() {
    let engine = load(&folder("qwen2")).unwrap();
    for entry in expected("qwen2") {
        let prepared = prepare(&engine, entry.prompt(), greedy(150), &[]).unwrap();
        let heard = Heard::default();
        let outputs = engine.run_heard(&[&prepared], &heard).unwrap();
        let whole = generate(&engine, entry.prompt(), greedy(150));
        assert_eq!(outputs.len(), 1);
        let heard = heard.0.into_inner().unwrap();
        assert!(whole.text.starts_with(&heard.text), "{:?} of {:?}", heard.text, whole.text);
        assert!(heard.tokens.len() <= usize::try_from(whole.generated_tokens).unwrap());
        assert_eq!(usize::try_from(whole.prompt_tokens).unwrap(), entry.tokens.len());
    }
}

#[test]
fn a_text_ends_with_its_stop_text_or_its_last_token() {
    let engine = load(&folder("llama")).unwrap();
    let whole = generate(&engine, text("The quick brown fox"), greedy(12));
    assert_eq!((whole.finish, whole.generated_tokens), (Finish::Length, 12));
    let middle: String = whole.text.chars().skip(4).take(3).collect();
    let mut settings = greedy(12);
    settings.stops = vec![middle.clone()];
    let stopped = generate(&engine, text("The quick brown fox"), settings);
    assert_eq!(stopped.finish, Finish::Stop);
    let before = whole.text.split(&middle).next().unwrap();
    assert_eq!(stopped.text, before);
}
