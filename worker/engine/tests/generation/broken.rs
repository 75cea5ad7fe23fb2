//! What must be refused, each with its reason, and without harm to others.

use std::fs;
use std::io::Cursor;
use std::num::NonZeroU32;
use std::path::Path;
use std::thread;

use candle_core::quantized::gguf_file::Content;
use stoker_engine::{Generator, LoadError};
use stoker_engine_api::{Engine, EngineError, GenerationSettings, ItemInput};

use super::{chat, folder, generate, greedy, load, options, prepare, run, text};

fn copy(model: &str) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(folder(model)).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, copy.path().join(path.file_name().unwrap())).unwrap();
    }
    copy
}

/// Loads a model after `break_it`, and checks that the refusal names `file` and says `what`.
fn refuse(model: &str, file: &str, what: &str, break_it: impl FnOnce(&Path)) -> LoadError {
    let folder = copy(model);
    break_it(folder.path());
    let Err(error) = load(folder.path()) else { panic!("loaded in spite of {file}: {what}") };
    let message = error.to_string();
    assert!(message.contains(file) && message.contains(what), "expected {what:?} in: {message}");
    assert!(!message.contains('\n') && !error.remedy().is_empty(), "{message}");
    error
}

fn change_config(directory: &Path, name: &str, value: serde_json::Value) {
    let path = directory.join("config.json");
    let mut config: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    config[name] = value;
    fs::write(path, config.to_string()).unwrap();
}

#[test]
fn prompts_that_cannot_be_answered_are_refused_one_by_one() {
    let engine = load(&folder("llama")).unwrap();
    let problem = |prompt, settings| {
        prepare(&engine, prompt, settings, &[]).map(|_| "taken").unwrap_err().to_string()
    };
    let error = problem(text(""), greedy(5));
    assert!(error.contains("no tokens"), "{error}");
    let error = problem(text(&"The fox ".repeat(200)), greedy(5));
    assert!(error.contains("more than the 256 tokens"), "{error}");
    let error = problem(text("The fox"), greedy(255));
    assert!(error.contains("lower max_tokens"), "{error}");
    let error = problem(text(&"x".repeat(1 << 20)), greedy(5));
    assert!(error.contains("bytes and the model reads 256 tokens"), "{error}");
    let nan = GenerationSettings { temperature: f32::NAN, ..greedy(5) };
    assert!(problem(text("The fox"), nan).contains("temperature"));
    let error = engine.prepare(ItemInput::Text("a".to_owned())).unwrap_err().to_string();
    assert!(error.contains("takes a prompt, not text"), "{error}");
    // What fits to the last token is taken.
    assert_eq!(generate(&engine, text("a"), greedy(3)).generated_tokens, 3);
}

#[test]
fn a_model_without_a_template_takes_texts_only() {
    let folder = copy("llama");
    fs::remove_file(folder.path().join("chat_template.jinja")).unwrap();
    let engine = load(folder.path()).unwrap();
    let error = prepare(&engine, chat(&[("user", "Hi")]), greedy(5), &[]).map(drop).unwrap_err();
    assert!(error.to_string().contains("no chat template"), "{error}");
    assert!(prepare(&engine, text("Hi"), greedy(5), &[]).is_ok());
}

#[test]
fn tokens_of_another_model_are_not_gone_on_with() {
    let engine = load(&folder("llama")).unwrap();
    let begun = prepare(&engine, text("The"), greedy(5), &[1_000_000]).unwrap();
    assert_eq!(run(&engine, &[&begun]).remove(0), generate(&engine, text("The"), greedy(5)));
}

#[test]
fn a_sequence_without_room_is_refused_and_others_are_not() {
    let mut options = options(&folder("llama"));
    options.cache_mebibytes = NonZeroU32::new(1);
    let engine = Generator::load(&options).unwrap();
    // 2 layers with 2 heads of 8 numbers, keys and values, in 4 bytes: 256 tokens are 64 KiB.
    assert_eq!(engine.info().max_tokens, 256);
    assert!(prepare(&engine, text("The"), greedy(200), &[]).is_ok());
}

/// Makes the vector of the first token no number: the first 32 of its numbers share a factor, in 16 bits.
fn spoil_first_token(directory: &Path) {
    let path = directory.join("model.gguf");
    let mut bytes = fs::read(&path).unwrap();
    let content = Content::read(&mut Cursor::new(&bytes)).unwrap();
    let offset = content.tensor_data_offset + content.tensor_infos["token_embd.weight"].offset;
    let offset = usize::try_from(offset).unwrap();
    bytes[offset..offset + 2].copy_from_slice(&[0x00, 0x7e]);
    fs::write(path, bytes).unwrap();
}

#[test]
fn numbers_that_are_none_end_their_text_and_no_other() {
    let folder = copy("llama-gguf");
    spoil_first_token(folder.path());
    let engine = load(folder.path()).unwrap();
    let poisoned = prepare(&engine, text("a<|endoftext|>b"), greedy(9), &[]).unwrap();
    assert!(poisoned.prompt().contains(&0));
    let sound = prepare(&engine, text("The quick brown fox"), greedy(9), &[]).unwrap();
    let alone = run(&engine, &[&sound]);
    thread::scope(|scope| {
        let other = scope.spawn(|| run(&engine, &[&sound]));
        let error = engine.run(&[&poisoned]).unwrap_err();
        assert!(matches!(&error, EngineError::Input { .. }), "{error}");
        assert!(error.to_string().contains("not finite"), "{error}");
        assert!(!error.ends_engine());
        assert_eq!(other.join().unwrap(), alone);
    });
}

#[test]
fn weights_that_do_not_fit_the_configuration() {
    for (name, value, what) in [
        ("vocab_size", 321.into(), "tensor model.embed_tokens.weight has shape"),
        ("num_hidden_layers", 3.into(), "tensor model.layers.2.input_layernorm.weight is missing"),
        ("num_key_value_heads", 1.into(), "self_attn.k_proj.weight has shape"),
        ("tie_word_embeddings", false.into(), "tensor lm_head.weight is missing"),
    ] {
        refuse("llama", "model.safetensors", what, |directory| {
            change_config(directory, name, value);
        });
    }
    refuse("qwen2", "model.safetensors", "is missing", |directory| {
        change_config(directory, "model_type", "qwen3".into());
    });
}

#[test]
fn what_this_engine_does_not_do_is_refused() {
    for (name, value, what) in [
        ("model_type", "gemma3".into(), "only llama, mistral, qwen2 and qwen3"),
        ("hidden_act", "gelu".into(), "only silu"),
        ("mlp_bias", true.into(), "mlp_bias"),
        ("rope_parameters", serde_json::json!({"rope_type": "yarn", "factor": 4.0}), "`yarn`"),
        ("rope_parameters", serde_json::json!({"rope_type": "linear"}), "factor is missing"),
        ("num_key_value_heads", 3.into(), "cannot share"),
        ("num_key_value_heads", 0.into(), "size of 0"),
        ("num_attention_heads", 0.into(), "size of 0"),
        ("head_dim", 7.into(), "odd"),
        ("vocab_size", u64::MAX.into(), "size of 18446744073709551615"),
        ("rms_norm_eps", 0.into(), "epsilon"),
    ] {
        refuse("llama", "config.json", what, |directory| change_config(directory, name, value));
    }
    refuse("qwen2", "config.json", "use_sliding_window", |directory| {
        change_config(directory, "use_sliding_window", true.into());
    });
    for file in ["config.json", "tokenizer.json", "model.safetensors"] {
        refuse("llama", file, "is missing", |directory| {
            fs::remove_file(directory.join(file)).unwrap();
        });
    }
    refuse("llama", "tokenizer_config.json", "chat template", |directory| {
        fs::write(directory.join("chat_template.jinja"), "{% for %}").unwrap();
    });
    refuse("llama-gguf", "several GGUF files", "several", |directory| {
        fs::copy(directory.join("model.gguf"), directory.join("other.gguf")).unwrap();
    });
}

/// Replaces a text in the file by another of the same length.
fn replace(directory: &Path, from: &str, to: &[u8]) {
    let path = directory.join("model.gguf");
    let mut bytes = fs::read(&path).unwrap();
    let at = bytes.windows(from.len()).position(|window| window == from.as_bytes()).unwrap();
    bytes[at..at + to.len()].copy_from_slice(to);
    fs::write(path, bytes).unwrap();
}

#[test]
fn hostile_gguf_files_are_refused() {
    let put = |at: usize, value: &'static [u8]| {
        move |directory: &Path| {
            let path = directory.join("model.gguf");
            let mut bytes = fs::read(&path).unwrap();
            bytes[at..at + value.len()].copy_from_slice(value);
            fs::write(path, bytes).unwrap();
        }
    };
    let file = "model.gguf";
    refuse("llama-gguf", file, "does not begin", put(0, b"GGML"));
    refuse("llama-gguf", file, "tensors", put(8, &[0xff; 8]));
    refuse("llama-gguf", file, "entries", put(16, &[0xff; 8]));
    refuse("llama-gguf", file, "are left", put(24, &[0xff; 8]));
    refuse("llama-gguf", file, "architecture is `other`", |directory| {
        replace(directory, "llama", b"other");
    });
    refuse("llama-gguf", file, "has no llama.block_count", |directory| {
        replace(directory, "llama.block_count", b"llama.block_knots");
    });
    refuse("llama-gguf", file, "tensor output_norm.weight is missing", |directory| {
        replace(directory, "output_norm.weight", b"output_form.weight");
    });
    refuse("llama-gguf", file, "tokenizer.json beside", |directory| {
        replace(directory, "llama-bpe", b"other-bpe");
    });
    // A tensor that begins behind the end of the file.
    refuse("llama-gguf", file, "tensor", |directory| {
        let path = directory.join("model.gguf");
        let bytes = fs::read(&path).unwrap();
        fs::write(path, &bytes[..bytes.len() - 4_096]).unwrap();
    });
    for length in [0, 3, 4, 23, 24, 100, 5_000, 20_000] {
        refuse("llama-gguf", file, "", |directory| {
            let path = directory.join("model.gguf");
            let bytes = fs::read(&path).unwrap();
            fs::write(path, &bytes[..length]).unwrap();
        });
    }
}
