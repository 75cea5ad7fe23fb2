//! BLIP models see images and caption them as transformers and torch do on the same weights, alone and together;
//! what cannot be captioned, and models that are none, are refused by name.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Value, json};
use stoker_core::image::ImageLimits;
use stoker_engine::{Captioner, CaptionerOptions, LoadError, ModelOptions, PreparedCaption};
use stoker_engine_api::{
    CaptionInput, Engine, Finish, Generation, ItemError, ItemInput, ItemOutput, Prepared as _,
    TaskKind, contract,
};
use tempfile::TempDir;

const MODELS: [&str; 2] = ["base", "untied"];

#[derive(Deserialize)]
struct Golden {
    max_tokens: u32,
    pictures: Vec<Picture>,
}

#[derive(Deserialize)]
struct Picture {
    file: String,
    /// What is seen of the whole image, and of its last patch.
    rows: [Vec<f32>; 2],
    captions: Vec<Caption>,
}

#[derive(Deserialize)]
struct Caption {
    prompt: Option<String>,
    prompt_tokens: Vec<u32>,
    /// What the decoder says after the prompt.
    next: Vec<f32>,
    /// What follows the prompt.
    tokens: Vec<u32>,
    ended: bool,
    /// By how much the likeliest token was ahead, each time.
    margin: f32,
    text: String,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/tiny-blip")
}

fn golden(model: &Path) -> Golden {
    serde_json::from_slice(&fs::read(model.join("expected.json")).unwrap()).unwrap()
}

fn load(directory: &Path) -> Result<Captioner, LoadError> {
    Captioner::load(&CaptionerOptions {
        model: ModelOptions::new("tiny", directory),
        max_batch_tokens: None,
        limits: ImageLimits::default(),
    })
}

fn file(name: &str) -> Vec<u8> {
    fs::read(root().join("../tiny-clip/images").join(name)).unwrap()
}

fn input(file: Vec<u8>, prompt: &str, max_tokens: u32) -> ItemInput {
    ItemInput::Caption(Box::new(CaptionInput { file, prompt: prompt.to_owned(), max_tokens }))
}

/// The captions that the reference made, each prepared for the engine.
fn cases<'a>(
    engine: &Captioner,
    golden: &'a Golden,
) -> Vec<(&'a Picture, &'a Caption, PreparedCaption)> {
    let of_picture = |picture: &'a Picture| picture.captions.iter().map(move |one| (picture, one));
    let prepare = |(picture, caption): (&'a Picture, &'a Caption)| {
        let prompt = caption.prompt.as_deref().unwrap_or_default();
        let input = input(file(&picture.file), prompt, golden.max_tokens);
        (picture, caption, engine.prepare(input).unwrap())
    };
    golden.pictures.iter().flat_map(of_picture).map(prepare).collect()
}

fn check(found: &[f32], expected: &[f32], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let largest = expected.iter().fold(1.0_f32, |most, number| most.max(number.abs()));
    for (found, expected) in found.iter().zip(expected) {
        let difference = (found - expected).abs();
        assert!(difference < 1e-4 * largest, "{what}: {found} instead of {expected}");
    }
}

fn generation(output: &ItemOutput) -> &Generation {
    match output {
        ItemOutput::Generation(generation) => generation,
        other => panic!("not a caption but {}", other.kind()),
    }
}

fn check_numbers(engine: &Captioner, golden: &Golden) {
    for (picture, caption, prepared) in cases(engine, golden) {
        let what = format!("{} after {:?}", picture.file, caption.prompt);
        let seen = engine.seen(&prepared).unwrap();
        check(&seen[0], &picture.rows[0], &what);
        check(seen.last().unwrap(), &picture.rows[1], &what);
        check(&engine.next_numbers(&prepared).unwrap(), &caption.next, &what);
    }
}

#[test]
fn images_are_seen_and_prompts_continued_with_the_numbers_of_the_reference() {
    for model in MODELS {
        let golden = golden(&root().join(model));
        assert!(golden.pictures.len() >= 9);
        check_numbers(&load(&root().join(model)).unwrap(), &golden);
    }
}

#[test]
#[ignore = "needs a model of real size: golden/make_tiny_blip.py --full .cache/models/blip"]
fn a_network_of_real_size_gives_the_reference_s_numbers_and_captions() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.cache/models/blip/full");
    let (engine, golden) = (load(&folder).unwrap(), golden(&folder));
    check_numbers(&engine, &golden);
    for (picture, caption, prepared) in cases(&engine, &golden) {
        let tokens = engine.tokens_of(&[&prepared]).unwrap().remove(0);
        // Of tokens that are equally likely but for rounding either may come.
        if caption.margin > 1e-3 {
            assert_eq!(tokens, caption.tokens, "{} after {:?}", picture.file, caption.prompt);
        }
    }
}

#[test]
fn captions_are_those_of_the_reference_alone_and_together() {
    for model in MODELS {
        let engine = load(&root().join(model)).unwrap();
        let golden = golden(&root().join(model));
        let cases = cases(&engine, &golden);
        // Texts that say nothing would be equal whatever the network does.
        let texts: std::collections::BTreeSet<_> =
            cases.iter().map(|(_, caption, _)| &caption.tokens).collect();
        assert!(texts.len() >= 8 && cases.iter().any(|(_, caption, _)| caption.ended));
        assert!(cases.iter().any(|(_, caption, _)| !caption.ended));
        let together: Vec<_> = cases.iter().map(|(_, _, prepared)| prepared).collect();
        let tokens = engine.tokens_of(&together).unwrap();
        let outputs = engine.run(&together).unwrap();
        for (((picture, caption, prepared), tokens), output) in
            cases.iter().zip(tokens).zip(&outputs)
        {
            let what = format!("{model}: {} after {:?}", picture.file, caption.prompt);
            assert!(caption.margin > 1e-3, "{what}: a matter of rounding");
            assert_eq!(tokens, caption.tokens, "{what}");
            let found = generation(output);
            assert_eq!(found.text, caption.text, "{what}");
            let finish = if caption.ended { Finish::Stop } else { Finish::Length };
            assert_eq!(found.finish, finish, "{what}");
            let counts = [&caption.prompt_tokens, &caption.tokens].map(Vec::len);
            let found = [found.prompt_tokens, found.generated_tokens];
            assert_eq!(found.map(|count| usize::try_from(count).unwrap()), counts, "{what}");
            assert_eq!(&engine.run(&[prepared]).unwrap()[0], output, "{what}: alone");
        }
    }
}

#[test]
fn a_caption_ends_where_it_may_have_no_more_tokens_or_the_model_reads_no_more() {
    let engine = load(&root().join("untied")).unwrap();
    let said = |prompt: &str, max_tokens| {
        let prepared = engine.prepare(input(file("exact.png"), prompt, max_tokens)).unwrap();
        // Its image has 5 tokens.
        let cost = prepared.cost();
        let output = engine.run(&[&prepared]).unwrap().remove(0);
        let Generation { finish, prompt_tokens, generated_tokens, .. } = generation(&output);
        assert_eq!(*finish, Finish::Length);
        (cost, *prompt_tokens, *generated_tokens)
    };
    assert_eq!(said("", 1), (5 + 1 + 1, 1, 1));
    assert_eq!(said("a picture of", 3), (5 + 4 + 3, 4, 3));
    // It reads 24 tokens.
    assert_eq!(said("a picture of", 1_000), (5 + 24, 4, 20));
    assert_eq!(said(&"a ".repeat(22), 50), (5 + 24, 23, 1));
}

#[test]
fn an_engine_says_what_it_takes_and_makes() {
    let engine = load(&root().join("base")).unwrap();
    let info = engine.info();
    assert_eq!((info.task, info.output_dimensions), (TaskKind::ImageCaptioning, None));
    // An image has 17 tokens, and a caption at most 24.
    assert_eq!((info.max_tokens, info.max_batch_tokens, &info.labels), (41, 2_048, &None));
    assert!(info.weights_bytes > 100_000);
}

#[test]
fn they_keep_the_contract_of_engines() {
    let files = ["wide.png", "tall.png", "photo.jpg", "moving.gif", "lossless.webp"];
    for model in MODELS {
        let inputs = files.map(|name| input(file(name), "a", 12));
        contract::check_with(load(&root().join(model)).unwrap(), &inputs);
    }
}

#[test]
fn what_cannot_be_captioned_is_refused_and_says_why() {
    let engine = load(&root().join("base")).unwrap();
    let refusal = |input| match engine.prepare(input) {
        Ok(_) => panic!("it was prepared"),
        Err(ItemError::Invalid { message } | ItemError::WrongKind { got: message, .. }) => message,
        Err(other) => panic!("{other}"),
    };
    let good = || file("gray.png");
    let cut = file("photo.jpg")[..600].to_vec();
    // A small file that claims to be 65,535 pixels wide and high.
    let mut bomb = file("moving.gif");
    bomb[6..10].fill(0xff);
    for (input, part) in [
        (input(b"a text".to_vec(), "", 5), "not an image"),
        (input(cut, "", 5), "cut off"),
        (input(Vec::new(), "", 5), "is empty"),
        (input(bomb, "", 5), "65535 x 65535 pixels"),
        (input(good(), "a\nb", 5), "the prompt has control characters"),
        (input(good(), &"a ".repeat(23), 5), "the prompt has 24 tokens, and the model reads 24"),
        (input(good(), "", 1_025), "max_tokens is 1025"),
        (ItemInput::Text("a".to_owned()), "text"),
    ] {
        let message = refusal(input);
        assert!(message.contains(part), "{part}: {message}");
    }
    // It goes on with what is good.
    let good = engine.prepare(input(good(), "", 5)).unwrap();
    assert_eq!(engine.run(&[&good]).unwrap().len(), 1);
}

/// A copy of a model, for breaking it.
fn copy(name: &str) -> TempDir {
    let copy = TempDir::new().unwrap();
    for entry in fs::read_dir(root().join(name)).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, copy.path().join(path.file_name().unwrap())).unwrap();
    }
    copy
}

fn refuse(file: &str, what: &str, change: impl FnOnce(&Path)) {
    let folder = copy("untied");
    change(folder.path());
    let Err(error) = load(folder.path()) else { panic!("loaded in spite of {what}") };
    let message = error.to_string();
    let path = folder.path().join(file).display().to_string();
    assert!(message.contains(&path) && message.contains(what), "expected {what:?} in: {message}");
    assert!(!message.contains('\n') && !error.remedy().is_empty(), "{message}");
}

fn set(directory: &Path, file: &str, change: impl FnOnce(&mut Value)) {
    let path = directory.join(file);
    let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    change(&mut config);
    fs::write(path, config.to_string()).unwrap();
}

#[test]
fn models_that_would_answer_something_else_are_refused() {
    for name in ["config.json", "preprocessor_config.json", "tokenizer.json", "model.safetensors"] {
        refuse(name, "is missing", |folder| fs::remove_file(folder.join(name)).unwrap());
    }
    refuse("config.json", "model_type is `blip-2`", |folder| {
        set(folder, "config.json", |config| config["model_type"] = json!("blip-2"));
    });
    refuse("preprocessor_config.json", "but image_size is 28", |folder| {
        let size = json!({"height": 28, "width": 56});
        set(folder, "preprocessor_config.json", |config| config["size"] = size);
    });
}

#[test]
fn weights_that_do_not_fit_the_configuration_are_refused() {
    let shape = "encoder.layer.0.intermediate.dense.weight has shape [28, 20], expected [48, 20]";
    refuse("model.safetensors", shape, |folder| {
        set(folder, "config.json", |config| config["text_config"]["intermediate_size"] = json!(48));
    });
    let shape = "embeddings.position_embeddings.weight has shape [24, 20], expected [30, 20]";
    refuse("model.safetensors", shape, |folder| {
        set(folder, "config.json", |config| {
            config["text_config"]["max_position_embeddings"] = json!(30);
        });
    });
    refuse("model.safetensors", "vision_model.encoder.layers.2.", |folder| {
        set(folder, "config.json", |config| {
            config["vision_config"]["num_hidden_layers"] = json!(3);
        });
    });
}

#[test]
fn weights_that_are_not_numbers_are_refused() {
    let folder = copy("base");
    let path = folder.path().join("model.safetensors");
    let mut bytes = fs::read(&path).unwrap();
    let last = bytes.len() - 4;
    bytes[last..].copy_from_slice(&f32::NAN.to_le_bytes());
    fs::write(&path, bytes).unwrap();
    let Err(error) = load(folder.path()) else { panic!("loaded") };
    assert!(matches!(error, LoadError::NotFinite { .. }), "{error}");
}
