//! The vocabulary of a Whisper model: its words, and the tokens that are no words.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use stoker_engine_api::{ItemError, WrittenIn};
use tokenizers::Tokenizer;

use super::rules::Rules;
use crate::whisper::WhisperConfig;
use crate::{LoadError, json, vocabulary};

/// From so many tokens on a vocabulary has those of several languages, where nothing else says so.
const MULTILINGUAL: usize = 51_865;

/// A window's text begins within its first second, where nothing else is said.
const LATEST_BEGIN: u32 = 50;

const ENGLISH: &str = "en";

/// A model's words.
pub(super) struct Words {
    tokenizer: Tokenizer,
    rules: Rules,
    start: u32,
    nobody: Option<u32>,
    /// Of a model that knows several languages.
    spoken: Option<Spoken>,
}

/// What is asked of a model that knows several languages.
struct Spoken {
    languages: BTreeMap<String, u32>,
    transcribe: u32,
    translate: u32,
}

/// `generation_config.json`, or the parts of `config.json` that older models have them in.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct File {
    is_multilingual: Option<bool>,
    no_timestamps_token_id: Option<u32>,
    max_initial_timestamp_index: Option<u32>,
    suppress_tokens: Option<Vec<i64>>,
    begin_suppress_tokens: Option<Vec<i64>>,
    lang_to_id: Option<BTreeMap<String, u32>>,
    task_to_id: Option<BTreeMap<String, u32>>,
}

impl Words {
    /// # Errors
    /// When a file is not valid, or a token is missing that every Whisper model has.
    pub(super) fn read(directory: &Path, config: &WhisperConfig) -> Result<Self, LoadError> {
        let path = directory.join("tokenizer.json");
        let tokenizer = vocabulary::tokenizer(&path)?;
        let file: File =
            json::read_optional(&directory.join("generation_config.json"))?.unwrap_or_default();
        let older: File = json::read_optional(&directory.join("config.json"))?.unwrap_or_default();
        Self::new(tokenizer, config, file, older)
            .map_err(|what| LoadError::Unsupported { path, what })
    }

    fn new(
        tokenizer: Tokenizer,
        config: &WhisperConfig,
        file: File,
        older: File,
    ) -> Result<Self, String> {
        let size = u32::try_from(config.vocabulary).unwrap_or(u32::MAX);
        let named = |name: &str| tokenizer.token_to_id(name).filter(|id| *id < size);
        let missing = |name: &str| format!("there is no token `{name}`, which Whisper models have");
        let none = "<|notimestamps|>";
        let no_timestamps = file.no_timestamps_token_id.or_else(|| named(none));
        let no_timestamps = no_timestamps.ok_or_else(|| missing(none))?;
        let first_stamp = no_timestamps.saturating_add(1);
        if first_stamp >= size || config.end >= no_timestamps {
            return Err(format!("there are no timestamps among its {size} tokens"));
        }
        let known = |tokens: Option<Vec<i64>>| {
            let tokens = tokens.unwrap_or_default().into_iter();
            tokens.filter_map(|token| u32::try_from(token).ok()).collect::<Vec<_>>()
        };
        let mut suppressed = known(file.suppress_tokens.or(older.suppress_tokens));
        // Between the words and the timestamps stand those that are for the prompt.
        suppressed.extend(config.end + 1..first_stamp);
        let first = file.begin_suppress_tokens.or(older.begin_suppress_tokens);
        let rules = Rules {
            end: config.end,
            first_stamp,
            latest_begin: file.max_initial_timestamp_index.unwrap_or(LATEST_BEGIN),
            suppressed,
            suppressed_first: known(first),
        };
        let several = file.is_multilingual.unwrap_or(config.vocabulary >= MULTILINGUAL);
        let spoken = several.then(|| {
            let of_task = |task: &str| {
                let given = file.task_to_id.as_ref().and_then(|ids| ids.get(task)).copied();
                let name = format!("<|{task}|>");
                given.or_else(|| named(&name)).filter(|id| *id < size).ok_or_else(|| missing(&name))
            };
            let (transcribe, translate) = (of_task("transcribe")?, of_task("translate")?);
            let ids =
                file.lang_to_id.clone().unwrap_or_else(|| languages(&tokenizer, config.start));
            let plain = |(name, id): (String, u32)| {
                let code = name.strip_prefix("<|").and_then(|name| name.strip_suffix("|>"));
                (code.unwrap_or(&name).to_owned(), id)
            };
            let languages: BTreeMap<String, u32> =
                ids.into_iter().map(plain).filter(|(_, id)| *id < size).collect();
            if languages.is_empty() {
                return Err("it has no languages".to_owned());
            }
            Ok(Spoken { languages, transcribe, translate })
        });
        let nobody = named("<|nospeech|>").or_else(|| named("<|nocaptions|>"));
        Ok(Self { rules, start: config.start, nobody, spoken: spoken.transpose()?, tokenizer })
    }

    pub(super) const fn rules(&self) -> &Rules {
        &self.rules
    }

    /// The token with which everything begins.
    pub(super) const fn start(&self) -> u32 {
        self.start
    }

    /// The token of a language; none for English in a model that knows nothing else.
    ///
    /// # Errors
    /// When the model does not know it.
    pub(super) fn language(&self, name: String) -> Result<Option<(u32, String)>, ItemError> {
        let Some(spoken) = &self.spoken else {
            if name == ENGLISH {
                return Ok(None);
            }
            let message = format!("the model knows English only, not the language `{name}`");
            return Err(ItemError::Invalid { message });
        };
        if let Some(token) = spoken.languages.get(&name) {
            return Ok(Some((*token, name)));
        }
        let known: Vec<&str> = spoken.languages.keys().map(String::as_str).collect();
        let known = known.join(", ");
        let message = format!("the model does not know the language `{name}`; it knows {known}");
        Err(ItemError::Invalid { message })
    }

    /// What is spoken, by the numbers after the first token. Of a model that knows English only that is no token.
    pub(super) fn spoken(&self, numbers: &[f32]) -> Option<(u32, String)> {
        let languages = &self.spoken.as_ref()?.languages;
        let number = |token: u32| {
            let number = usize::try_from(token).ok().and_then(|token| numbers.get(token));
            number.copied().unwrap_or(f32::NEG_INFINITY)
        };
        let likeliest = languages.iter().max_by(|a, b| number(*a.1).total_cmp(&number(*b.1)));
        likeliest.map(|(name, token)| (*token, name.clone()))
    }

    /// The name of the language of a transcript.
    pub(super) fn name_of(&self, language: Option<(u32, String)>) -> Option<String> {
        match language {
            Some((_, name)) => Some(name),
            None => self.spoken.is_none().then(|| ENGLISH.to_owned()),
        }
    }

    /// What stands between the first token and the text.
    pub(super) fn prompt(&self, language: Option<u32>, written_in: WrittenIn) -> Vec<u32> {
        let Some((spoken, language)) = self.spoken.as_ref().zip(language) else {
            return Vec::new();
        };
        let task = match written_in {
            WrittenIn::Spoken => spoken.transcribe,
            WrittenIn::English => spoken.translate,
        };
        vec![language, task]
    }

    /// How likely it is that nobody speaks, by the numbers after the first token; 0 where a model cannot say.
    pub(super) fn no_speech(&self, numbers: &[f32]) -> f32 {
        let nobody = self.nobody.and_then(|token| usize::try_from(token).ok());
        let Some(number) = nobody.and_then(|token| numbers.get(token)) else { return 0.0 };
        let sum: f64 = numbers.iter().map(|other| f64::from(other - number).exp()).sum();
        #[expect(clippy::cast_possible_truncation, reason = "a probability")]
        let share = (1.0 / sum) as f32;
        share
    }

    /// The words among these tokens.
    pub(super) fn text(&self, tokens: &[u32]) -> String {
        let words: Vec<u32> =
            tokens.iter().copied().filter(|token| *token < self.rules.end).collect();
        // It fails for tokens of other models only, and those were never chosen.
        self.tokenizer.decode(&words, true).unwrap_or_default()
    }
}

/// The tokens that name languages: short, and right behind the first token of all texts.
fn languages(tokenizer: &Tokenizer, start: u32) -> BTreeMap<String, u32> {
    let name = |id: u32| tokenizer.id_to_token(id).map(|name| (name, id));
    let is_language = |name: &str| {
        let code = name.strip_prefix("<|").and_then(|name| name.strip_suffix("|>"));
        code.is_some_and(|code| {
            (2..=3).contains(&code.len()) && code.bytes().all(|byte| byte.is_ascii_lowercase())
        })
    };
    (start.saturating_add(1)..).map_while(name).take_while(|(name, _)| is_language(name)).collect()
}
