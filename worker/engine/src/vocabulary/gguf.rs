//! A vocabulary from a GGUF header, or from a tokenizer.json beside the file.
//!
//! Headers name the rules by which a text is cut before its parts become tokens. Only names whose rules
//! are known here are taken: other rules would give other tokens without a word.

use std::collections::BTreeSet;
use std::path::Path;

use candle_core::quantized::gguf_file::Value;
use tokenizers::decoders::byte_level::ByteLevel as ByteLevelDecoder;
use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::normalizers::NFC;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::tokenizer::SplitDelimiterBehavior;
use tokenizers::{AddedToken, PreTokenizerWrapper, Tokenizer};

use super::{Vocabulary, files};
use crate::LoadError;
use crate::chat::ChatTemplate;
use crate::gguf::Gguf;

/// Tokens that end a turn of a conversation, whatever the header names as the end of a text.
const ENDS_OF_TURNS: [&str; 3] = ["<|im_end|>", "<|eot_id|>", "<|endoftext|>"];

/// Kinds of tokens, as headers count them.
const CONTROL: u64 = 3;
const USER_DEFINED: u64 = 4;

const WORDS_OF_LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const WORDS_OF_QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// The vocabulary of a file, of a network that knows `size` tokens.
///
/// # Errors
/// When there is none, or its rules are not known and no tokenizer.json is beside the file.
pub(crate) fn from_gguf(
    directory: &Path,
    file: &Gguf<'_>,
    size: usize,
) -> Result<Vocabulary, LoadError> {
    let beside = directory.join("tokenizer.json");
    let tokenizer = if beside.exists() { files::tokenizer(&beside)? } else { tokenizer(file)? };
    let token = |key: &str| file.count(key).and_then(|token| u32::try_from(token).ok());
    let begin = token("tokenizer.ggml.bos_token_id");
    let end = token("tokenizer.ggml.eos_token_id");
    let mut ends: BTreeSet<u32> =
        [end, token("tokenizer.ggml.eot_token_id")].into_iter().flatten().collect();
    ends.extend(ENDS_OF_TURNS.iter().filter_map(|name| tokenizer.token_to_id(name)));
    let text = |token: Option<u32>| {
        token.and_then(|token| tokenizer.id_to_token(token)).unwrap_or_default()
    };
    let template = file.text("tokenizer.chat_template").map(|source| {
        ChatTemplate::new(source.to_owned(), text(begin), text(end))
            .map_err(|what| LoadError::Unsupported { path: file.path().to_owned(), what })
    });
    let adds_begin = file
        .flag("tokenizer.ggml.add_bos_token")
        .unwrap_or_else(|| file.text("tokenizer.ggml.pre") == Some("llama-bpe"));
    Ok(Vocabulary {
        template: template.transpose()?,
        begin: begin.filter(|_| adds_begin),
        ends,
        size: u32::try_from(size).unwrap_or(u32::MAX),
        tokenizer,
    })
}

fn tokenizer(file: &Gguf<'_>) -> Result<Tokenizer, LoadError> {
    let corrupt = |what: String| LoadError::Corrupt { path: file.path().to_owned(), what };
    let model = file.text("tokenizer.ggml.model").unwrap_or_default();
    let pre = file.text("tokenizer.ggml.pre").unwrap_or_default();
    let Some(rules) = (model == "gpt2").then(|| Rules::of(pre)).flatten() else {
        let what = format!(
            "its tokenizer is of the kind `{model}` with the rules `{pre}`, which are not known here: \
             put the model's tokenizer.json beside the file"
        );
        return Err(LoadError::Unsupported { path: file.path().to_owned(), what });
    };
    let texts = texts(file, "tokenizer.ggml.tokens").map_err(corrupt)?;
    let merges = self::texts(file, "tokenizer.ggml.merges").map_err(corrupt)?;
    let merges = merges.iter().map(|merge| {
        let (left, right) = merge.split_once(' ').ok_or("a merge of its tokenizer is not one")?;
        Ok((left.to_owned(), right.to_owned()))
    });
    let merges = merges.collect::<Result<Vec<_>, &str>>();
    let merges = merges.map_err(|what| corrupt(what.to_owned()))?;
    let vocabulary: Vocab = (0..).zip(&texts).map(|(id, text)| ((*text).to_owned(), id)).collect();
    let wrong = |error: tokenizers::Error| corrupt(format!("its tokenizer: {error}"));
    let words = BPE::builder()
        .vocab_and_merges(vocabulary, merges)
        .ignore_merges(rules.whole_words)
        .build()
        .map_err(wrong)?;
    let mut tokenizer = Tokenizer::new(words);
    tokenizer.with_pre_tokenizer(Some(rules.pre_tokenizer().map_err(wrong)?));
    if rules.composed {
        tokenizer.with_normalizer(Some(NFC)).map_err(wrong)?;
    }
    tokenizer.with_decoder(Some(ByteLevelDecoder::new(false, true, true)));
    let kinds = file.list("tokenizer.ggml.token_type").unwrap_or_default();
    for (text, kind) in texts.iter().zip(kinds) {
        let token = |special| AddedToken::from((*text).to_owned(), special);
        let added = match number(kind) {
            Some(CONTROL) => tokenizer.add_special_tokens([token(true)]),
            Some(USER_DEFINED) => tokenizer.add_tokens([token(false)]),
            _ => Ok(0),
        };
        added.map_err(wrong)?;
    }
    Ok(tokenizer)
}

/// How a text is cut.
struct Rules {
    /// `None`: as GPT-2 does it.
    words: Option<&'static str>,
    /// Each digit by itself, before that.
    digits: bool,
    /// Words that are tokens are taken whole.
    whole_words: bool,
    /// Letters and their accents are one character first.
    composed: bool,
}

impl Rules {
    fn of(pre: &str) -> Option<Self> {
        let gpt2 = Self { words: None, digits: false, whole_words: false, composed: false };
        match pre {
            "gpt-2" => Some(gpt2),
            "smollm" => Some(Self { digits: true, ..gpt2 }),
            "llama-bpe" => Some(Self { words: Some(WORDS_OF_LLAMA3), whole_words: true, ..gpt2 }),
            "qwen2" => Some(Self { words: Some(WORDS_OF_QWEN2), composed: true, ..gpt2 }),
            _ => None,
        }
    }

    fn pre_tokenizer(&self) -> Result<PreTokenizerWrapper, tokenizers::Error> {
        let mut steps: Vec<PreTokenizerWrapper> = Vec::new();
        if self.digits {
            steps.push(Digits::new(true).into());
        }
        if let Some(words) = self.words {
            let pattern = SplitPattern::Regex(words.to_owned());
            steps.push(Split::new(pattern, SplitDelimiterBehavior::Isolated, false)?.into());
        }
        steps.push(ByteLevel::new(false, true, self.words.is_none()).into());
        Ok(Sequence::new(steps).into())
    }
}

fn texts<'a>(file: &'a Gguf<'_>, key: &str) -> Result<Vec<&'a str>, String> {
    let values = file.list(key).ok_or_else(|| format!("its header has no {key}"))?;
    let text = |value: &'a Value| match value {
        Value::String(text) => Ok(text.as_str()),
        _ => Err(format!("a value of {key} is no text")),
    };
    values.iter().map(text).collect()
}

fn number(value: &Value) -> Option<u64> {
    match value {
        Value::U32(number) => Some(u64::from(*number)),
        Value::I32(number) => u64::try_from(*number).ok(),
        Value::U8(number) => Some(u64::from(*number)),
        _ => None,
    }
}
