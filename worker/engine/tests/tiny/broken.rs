//! Models that must not load, each refused with the name of the file and a remedy.

use std::fs;
use std::path::Path;

use serde_json::json;
use stoker_engine::{DefaultPrompt, LoadError, TextOptions};
use stoker_engine_api::ItemError;

use super::{load, model, options, text};
use crate::model::{PLAIN, TINY, Tensors, random_tensors};
use stoker_engine::TextEncoder;
use stoker_engine_api::Engine as _;

/// Loads a model after `break_it`, and checks that the refusal names `file` and says `what`.
fn refuse(file: &str, what: &str, break_it: impl FnOnce(&Path)) -> LoadError {
    let folder = model::write(PLAIN);
    break_it(folder.path());
    let Err(error) = load(folder.path()) else { panic!("loaded in spite of {file}: {what}") };
    let message = error.to_string();
    let path = folder.path().join(file).display().to_string();
    assert!(message.contains(&path) && message.contains(what), "expected {what:?} in: {message}");
    assert!(!message.contains('\n') && !error.remedy().is_empty(), "{message}");
    // Who reads it runs a worker, which passes the engine its arguments.
    assert!(!error.remedy().contains("--"), "{}", error.remedy());
    error
}

fn refuse_tensors(what: &str, change: impl FnOnce(&mut Tensors)) -> LoadError {
    refuse("model.safetensors", what, |directory| {
        let mut tensors = random_tensors(TINY);
        change(&mut tensors);
        model::write_tensors(directory, &tensors, PLAIN);
    })
}

#[test]
fn files_that_are_missing() {
    for file in [
        "config.json",
        "modules.json",
        "1_Pooling/config.json",
        "tokenizer.json",
        "model.safetensors",
    ] {
        refuse(file, "is missing", |directory| fs::remove_file(directory.join(file)).unwrap());
    }
}

#[test]
fn files_that_are_not_json() {
    for file in
        ["config.json", "modules.json", "1_Pooling/config.json", "sentence_bert_config.json"]
    {
        refuse(file, "is not valid", |directory| {
            fs::write(directory.join(file), "{\"a\":").unwrap();
        });
    }
    refuse("tokenizer.json", "corrupt", |directory| {
        fs::write(directory.join("tokenizer.json"), "{}").unwrap();
    });
}

#[test]
fn networks_of_another_kind() {
    for (field, value, what) in [
        ("model_type", json!("llama"), "model_type is `llama`"),
        ("hidden_act", json!("relu"), "hidden_act is `relu`"),
        ("position_embedding_type", json!("relative_key"), "only absolute"),
        ("is_decoder", json!(true), "is_decoder"),
        ("num_attention_heads", json!(5), "not a multiple"),
        ("num_attention_heads", json!(0), "num_attention_heads is 0"),
        ("vocab_size", json!(u32::MAX), "vocab_size is 4294967295"),
    ] {
        refuse("config.json", what, |directory| {
            let mut config = model::config(TINY);
            config[field] = value;
            model::write_json(directory, "config.json", &config);
        });
    }
}

#[test]
fn what_follows_the_network_is_unknown() {
    refuse("modules.json", "Dense", |directory| {
        let modules = [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Dense", "Dense")];
        let modules = (0..).zip(modules).map(|(i, (path, kind))| model::module(i, path, kind));
        model::write_json(directory, "modules.json", &modules.collect());
    });
    refuse("modules.json", "not a folder of the model", |directory| {
        let modules = [("", "Transformer"), ("../1_Pooling", "Pooling")];
        let modules = (0..).zip(modules).map(|(i, (path, kind))| model::module(i, path, kind));
        model::write_json(directory, "modules.json", &modules.collect());
    });
    refuse("1_Pooling/config.json", "pooling is max", |directory| {
        model::write_json(directory, "1_Pooling/config.json", &model::pooling("max", TINY));
    });
    refuse("config_sentence_transformers.json", "default_prompt_name", |directory| {
        let file = json!({"prompts": {"query": "query: "}, "default_prompt_name": "query"});
        model::write_json(directory, "config_sentence_transformers.json", &file);
    });
    refuse("1_Pooling/config.json", "include_prompt", |directory| {
        let mut file = model::pooling("mean", TINY);
        file["include_prompt"] = json!(false);
        model::write_json(directory, "1_Pooling/config.json", &file);
    });
}

#[test]
fn default_prompt_is_the_sender_s_to_give() {
    let folder = model::write(PLAIN);
    let file = json!({"prompts": {"query": "query: "}, "default_prompt_name": "query"});
    model::write_json(folder.path(), "config_sentence_transformers.json", &file);
    let given = TextOptions { default_prompt: DefaultPrompt::Given, ..options(folder.path()) };
    TextEncoder::load(&given).unwrap();
}

#[test]
fn weights_in_another_format() {
    for (bytes, what) in [
        (&b"PK\x03\x04rest"[..], "zip archive"),
        (b"\x80\x02}q\x00", "pickle"),
        (b"GGUF\x03\x00", "GGUF"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
        (b"<!doctype html>", "web page"),
        (b"", "empty"),
    ] {
        refuse("model.safetensors", what, |directory| {
            fs::write(directory.join("model.safetensors"), bytes).unwrap();
        });
    }
    let error = refuse("model.safetensors", "is missing", |directory| {
        fs::remove_file(directory.join("model.safetensors")).unwrap();
        fs::write(directory.join("pytorch_model.bin"), b"PK\x03\x04").unwrap();
    });
    assert!(error.remedy().contains("safetensors.torch.save_file"), "{}", error.remedy());
}

#[test]
fn weights_that_are_cut_or_changed() {
    let folder = model::write(PLAIN);
    let whole = fs::read(folder.path().join("model.safetensors")).unwrap();
    for length in [4, 8, 100, whole.len() / 2, whole.len() - 1] {
        refuse("model.safetensors", "truncated or corrupt", |directory| {
            fs::write(directory.join("model.safetensors"), &whole[..length]).unwrap();
        });
    }
    refuse("model.safetensors", "truncated or corrupt", |directory| {
        let header_of_an_exabyte = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x0f, b'{'];
        fs::write(directory.join("model.safetensors"), header_of_an_exabyte).unwrap();
    });
}

#[test]
fn tensors_that_do_not_fit() {
    let name = "encoder.layer.1.output.dense.bias";
    refuse_tensors("is missing", |tensors| {
        tensors.remove(name).unwrap();
    });
    refuse_tensors("has shape [23], expected [24]", |tensors| {
        tensors.insert(name.to_owned(), (vec![23], vec![0.0; 23]));
    });
    for number in [f32::NAN, f32::INFINITY] {
        let error = refuse_tensors(name, |tensors| tensors.get_mut(name).unwrap().1[7] = number);
        assert!(matches!(error, LoadError::NotFinite { .. }), "{error}");
    }
}

#[test]
fn weights_that_overflow_are_noticed_before_any_job() {
    let folder = model::write(PLAIN);
    let mut tensors = random_tensors(TINY);
    tensors.get_mut("encoder.layer.1.output.LayerNorm.weight").unwrap().1.fill(f32::MAX);
    model::write_tensors(folder.path(), &tensors, PLAIN);
    let error = load(folder.path()).err().unwrap();
    assert!(matches!(error, LoadError::Canary { .. }), "{error}");
}

#[test]
fn weights_load_with_their_own_digest_only() {
    let folder = model::write(PLAIN);
    let good = load(folder.path()).unwrap().info().weights_sha256.clone().unwrap();
    let mut options = options(folder.path());
    for digest in [format!("sha256:{good}"), good.to_uppercase()] {
        options.model.digest = Some(digest);
        TextEncoder::load(&options).unwrap();
    }
    options.model.digest = Some(format!("sha256:{}", "0".repeat(64)));
    let error = TextEncoder::load(&options).err().unwrap();
    assert!(error.to_string().contains(&good), "{error}");
    assert!(error.remedy().contains("digest"), "{}", error.remedy());
}

#[test]
fn token_that_the_network_does_not_have_is_the_item_s_error() {
    let folder = model::write(PLAIN);
    let mut tokenizer = model::tokenizer();
    tokenizer["model"]["vocab"]["z"] = json!(30);
    model::write_json(folder.path(), "tokenizer.json", &tokenizer);
    let engine = load(folder.path()).unwrap();
    assert!(engine.prepare(text("a b")).is_ok());
    let error = engine.prepare(text("x y z")).unwrap_err();
    assert!(matches!(&error, ItemError::Internal { message } if message.contains("30")), "{error}");
}

#[test]
fn tokenizer_longer_than_the_model_is_refused() {
    refuse("tokenizer.json", "special tokens", |directory| {
        let file = json!({"max_seq_length": 2});
        model::write_json(directory, "sentence_bert_config.json", &file);
    });
}
