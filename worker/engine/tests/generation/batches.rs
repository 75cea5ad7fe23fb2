//! Sequences in company: what is generated does not depend on it, nor on where it was interrupted.

use std::num::NonZeroU32;
use std::sync::Mutex;
use std::thread;

use stoker_engine::{Generator, PreparedPrompt};
use stoker_engine_api::{
    Engine, EngineError, Generation, GenerationSettings, Listener, Piece, Wanted,
};

use super::{MODELS, folder, generate, greedy, load, options, prepare, run, text};

const PROMPTS: [&str; 7] = [
    "The quick brown fox jumps over the lazy dog, and the dog sleeps on.",
    "a",
    "Write one sentence about the sea",
    "In 1815 there were",
    "Größe",
    "one, two, three, four, five, six, seven, eight, nine, ten, eleven, twelve, thirteen",
    "and",
];

fn settings(index: usize) -> GenerationSettings {
    let seed = u64::try_from(index).unwrap();
    // Some always take the likeliest token.
    let temperature = if index.is_multiple_of(3) { 0.0 } else { 0.8 };
    let max_tokens = 10 + 9 * u32::try_from(index).unwrap();
    GenerationSettings {
        temperature,
        top_p: 0.95,
        top_k: 50,
        repeat_penalty: 1.1,
        seed,
        ..greedy(max_tokens)
    }
}

fn prepared(engine: &Generator) -> Vec<PreparedPrompt> {
    let prompts = PROMPTS.iter().enumerate();
    prompts
        .map(|(index, prompt)| prepare(engine, text(prompt), settings(index), &[]).unwrap())
        .collect()
}

/// A model with so little room that prompts come in pieces and sequences wait for each other.
fn crowded(model: &str) -> Generator {
    let mut options = options(&folder(model));
    options.model.lanes = NonZeroU32::new(3);
    options.step_tokens = NonZeroU32::new(7);
    Generator::load(&options).unwrap()
}

fn alone(engine: &Generator) -> Vec<Generation> {
    prepared(engine).iter().map(|item| run(engine, &[item]).remove(0)).collect()
}

#[test]
fn a_text_is_the_same_alone_and_in_company_and_in_pieces() {
    for model in MODELS {
        let expected = alone(&load(&folder(model)).unwrap());
        let engine = crowded(model);
        let items = prepared(&engine);
        assert_eq!(run(&engine, &items.iter().collect::<Vec<_>>()), expected, "{model}: one batch");
        // Each in a lane of its own, as a worker runs them: they join and leave as they like.
        let found: Vec<Generation> = thread::scope(|scope| {
            let lanes: Vec<_> =
                items.iter().map(|item| scope.spawn(|| run(&engine, &[item]).remove(0))).collect();
            lanes.into_iter().map(|lane| lane.join().unwrap()).collect()
        });
        assert_eq!(found, expected, "{model}: lanes");
    }
}

#[test]
fn seeds_make_a_difference_and_the_same_seed_makes_none() {
    let engine = load(&folder("llama")).unwrap();
    let with_seed = |seed| {
        let settings = GenerationSettings { temperature: 1.0, seed, ..greedy(20) };
        generate(&engine, text("The"), settings).text
    };
    assert_eq!(with_seed(1), with_seed(1));
    assert_ne!(with_seed(1), with_seed(2));
}

#[test]
fn a_text_that_is_taken_up_again_goes_on_token_for_token() {
    for model in MODELS {
        let engine = load(&folder(model)).unwrap();
        for (index, prompt) in PROMPTS.iter().enumerate() {
            let item = prepare(&engine, text(prompt), settings(index), &[]).unwrap();
            let tokens = engine.tokens_of(&item).unwrap();
            let whole = run(&engine, &[&item]).remove(0);
            let kept = [1, 5, tokens.len() / 2, tokens.len() - 1, tokens.len()];
            for kept in kept.map(|kept| kept.min(tokens.len())) {
                let resumed =
                    prepare(&engine, text(prompt), settings(index), &tokens[..kept]).unwrap();
                assert_eq!(engine.tokens_of(&resumed).unwrap(), tokens, "{model} after {kept}");
                assert_eq!(run(&engine, &[&resumed]).remove(0), whole, "{model} after {kept}");
            }
        }
    }
}

/// Wants no more after the first piece.
struct Leaves(Mutex<usize>);

impl Listener for Leaves {
    fn said(&self, _: usize, _: Piece) -> Wanted {
        *self.0.lock().unwrap() += 1;
        Wanted::No
    }
}

#[test]
fn a_text_that_is_not_wanted_any_more_ends_and_the_others_do_not() {
    let engine = crowded("llama");
    let long = || prepare(&engine, text("The"), greedy(240), &[]);
    let unwanted = long().unwrap();
    let wanted = long().unwrap();
    let leaves = Leaves(Mutex::new(0));
    thread::scope(|scope| {
        let other = scope.spawn(|| run(&engine, &[&wanted]).remove(0));
        // Small models may be done before they are asked.
        if let Err(error) = engine.run_heard(&[&unwanted], &leaves) {
            assert!(matches!(error, EngineError::Input { .. }), "{error}");
            assert_eq!(*leaves.0.lock().unwrap(), 1);
        }
        assert!(other.join().unwrap().generated_tokens > 0);
    });
    // Its place is free again.
    assert!(run(&engine, &[&unwanted]).remove(0).generated_tokens > 0);
}
