//! Captions of images as an engine: each image is looked at once, and what is to be seen on it is said token by
//! token. Images of a batch share their steps.

mod canary;
mod load;
mod words;

use std::fmt;
use std::num::NonZeroU32;

use candle_core::Tensor;
use stoker_core::caption;
use stoker_core::image::ImageLimits;
use stoker_engine_api::{
    CaptionInput, Engine, EngineError, EngineInfo, Finish, Generation, ItemError, ItemInput,
    ItemOutput, Prepared, TaskKind,
};

use crate::ModelOptions;
use crate::blip::{Blip, Caption};
use crate::device::classify;
use crate::images::ImageConfig;
use words::Words;

/// What to load and how to run it.
#[derive(Debug, Clone)]
pub struct CaptionerOptions {
    pub model: ModelOptions,
    /// Sum of costs that a batch should stay within; by default what suits the device.
    pub max_batch_tokens: Option<NonZeroU32>,
    /// Checked before an image is decoded.
    pub limits: ImageLimits,
}

/// A loaded model.
pub struct Captioner {
    info: EngineInfo,
    images: ImageConfig,
    limits: ImageLimits,
    network: Blip,
    words: Words,
    /// Tokens of an image.
    tokens: usize,
    /// Images that are looked at in one forward pass.
    tile: usize,
}

impl fmt::Debug for Captioner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Captioner").field("info", &self.info).finish_non_exhaustive()
    }
}

/// What the network sees of an image, and how its caption begins.
#[derive(Debug)]
pub struct PreparedCaption {
    /// Rows of pixels, each red, green and blue.
    seen: Vec<u8>,
    /// At least one token.
    prompt: Vec<u32>,
    /// Tokens that may follow; at least one.
    max_tokens: usize,
    cost: u32,
}

impl Prepared for PreparedCaption {
    fn cost(&self) -> u32 {
        self.cost
    }
}

/// What was said of an image.
struct Said {
    tokens: Vec<u32>,
    finish: Option<Finish>,
}

impl Engine for Captioner {
    type Prepared = PreparedCaption;

    fn info(&self) -> &EngineInfo {
        &self.info
    }

    fn prepare(&self, input: ItemInput) -> Result<PreparedCaption, ItemError> {
        let CaptionInput { file, prompt, max_tokens } = match input {
            ItemInput::Caption(input) => *input,
            other @ (ItemInput::Text(_)
            | ItemInput::Generation(_)
            | ItemInput::Image(_)
            | ItemInput::Faces(_)
            | ItemInput::Recording(_)) => {
                let expected = "an image to be captioned";
                return Err(ItemError::wrong_kind(TaskKind::ImageCaptioning, expected, &other));
            }
        };
        let problem =
            caption::prompt_problem(&prompt).map(|problem| format!("the prompt {problem}"));
        let problem = problem.or_else(|| {
            caption::max_tokens_problem(max_tokens).map(|problem| format!("max_tokens {problem}"))
        });
        if let Some(message) = problem {
            return Err(ItemError::Invalid { message });
        }
        let prompt = self.words.begin(&prompt)?;
        let room = self.words.positions() - prompt.len();
        let max_tokens = usize::try_from(max_tokens).unwrap_or(usize::MAX).clamp(1, room);
        let seen = self.images.see(&file, &self.limits)?;
        let cost = self.cost(prompt.len() + max_tokens);
        Ok(PreparedCaption { seen, prompt, max_tokens, cost })
    }

    fn run(&self, items: &[&PreparedCaption]) -> Result<Vec<ItemOutput>, EngineError> {
        let said = self.say(items)?;
        items.iter().zip(&said).map(|(item, said)| self.output(item, said)).collect()
    }
}

impl Captioner {
    /// Tokens of an image and so many of its caption.
    fn cost(&self, caption: usize) -> u32 {
        u32::try_from(self.tokens.saturating_add(caption)).unwrap_or(u32::MAX)
    }

    fn say(&self, items: &[&PreparedCaption]) -> Result<Vec<Said>, EngineError> {
        let mut captions = self.begin(items)?;
        let said = |_| Said { tokens: Vec::new(), finish: None };
        let mut said: Vec<Said> = items.iter().map(said).collect();
        // The first step is that of the prompts.
        let mut next: Vec<Vec<u32>> = items.iter().map(|item| item.prompt.clone()).collect();
        loop {
            let going: Vec<usize> =
                (0..items.len()).filter(|item| said[*item].finish.is_none()).collect();
            if going.is_empty() {
                return Ok(said);
            }
            let mut step: Vec<&mut Caption> = captions
                .iter_mut()
                .zip(&said)
                .filter_map(|(caption, said)| said.finish.is_none().then_some(caption))
                .collect();
            let tokens: Vec<&[u32]> = going.iter().map(|item| next[*item].as_slice()).collect();
            let numbers =
                self.network.step(&mut step, &tokens).map_err(|error| classify(&error))?;
            for (item, numbers) in going.into_iter().zip(numbers) {
                let token = likeliest(&numbers)?;
                let said = &mut said[item];
                said.tokens.push(token);
                said.finish = if token == self.words.end() {
                    Some(Finish::Stop)
                } else {
                    (said.tokens.len() >= items[item].max_tokens).then_some(Finish::Length)
                };
                next[item] = vec![token];
            }
        }
    }

    /// Looks at the images, a few at a time.
    fn begin(&self, items: &[&PreparedCaption]) -> Result<Vec<Caption>, EngineError> {
        let mut captions = Vec::with_capacity(items.len());
        for tile in items.chunks(self.tile) {
            let images: Vec<&[u8]> = tile.iter().map(|item| item.seen.as_slice()).collect();
            // The last token is never shown to the decoder.
            let rooms: Vec<usize> =
                tile.iter().map(|item| item.prompt.len() + item.max_tokens - 1).collect();
            let begun = self.see(&images).and_then(|seen| self.network.begin(&seen, &rooms));
            captions.extend(begun.map_err(|error| classify(&error))?);
        }
        Ok(captions)
    }

    fn see(&self, images: &[&[u8]]) -> candle_core::Result<Tensor> {
        self.network.see(images, &self.images.numbers)
    }

    fn output(&self, item: &PreparedCaption, said: &Said) -> Result<ItemOutput, EngineError> {
        let count = |tokens: usize| u32::try_from(tokens).unwrap_or(u32::MAX);
        let Some(finish) = said.finish else {
            let message = "a caption has no end".to_owned();
            return Err(EngineError::Internal { message });
        };
        Ok(ItemOutput::Generation(Generation {
            text: self.words.text(&item.prompt, &said.tokens),
            finish,
            prompt_tokens: count(item.prompt.len()),
            generated_tokens: count(said.tokens.len()),
        }))
    }
}

/// For the tests of the numbers.
impl Captioner {
    /// What is seen of an item's image, token by token.
    ///
    /// # Errors
    /// When the device fails.
    pub fn seen(&self, item: &PreparedCaption) -> Result<Vec<Vec<f32>>, EngineError> {
        let seen = self.see(&[&item.seen]);
        let numbers = seen.and_then(|seen| seen.to_dtype(candle_core::DType::F32)?.to_vec2());
        numbers.map_err(|error| classify(&error))
    }

    /// What the decoder says after an item's prompt: a number for each token of its vocabulary.
    ///
    /// # Errors
    /// When the device fails.
    pub fn next_numbers(&self, item: &PreparedCaption) -> Result<Vec<f32>, EngineError> {
        self.numbers(&[&item.seen], &[&item.prompt]).map(|mut numbers| numbers.swap_remove(0))
    }

    /// The tokens that are said of items, with those that end them.
    ///
    /// # Errors
    /// As of [`Engine::run`].
    pub fn tokens_of(&self, items: &[&PreparedCaption]) -> Result<Vec<Vec<u32>>, EngineError> {
        Ok(self.say(items)?.into_iter().map(|said| said.tokens).collect())
    }

    /// What follows the last of some tokens of each image, which the decoder is shown piece by piece.
    fn numbers(&self, images: &[&[u8]], pieces: &[&[u32]]) -> Result<Vec<Vec<f32>>, EngineError> {
        let numbers = || {
            let room = pieces.iter().map(|piece| piece.len()).sum();
            let seen = self.see(images)?;
            let mut captions = self.network.begin(&seen, &vec![room; images.len()])?;
            let mut numbers = Vec::new();
            for piece in pieces {
                let mut step: Vec<&mut Caption> = captions.iter_mut().collect();
                numbers = self.network.step(&mut step, &vec![*piece; images.len()])?;
            }
            Ok(numbers)
        };
        numbers().map_err(|error: candle_core::Error| classify(&error))
    }
}

/// The first of the likeliest tokens.
fn likeliest(numbers: &[f32]) -> Result<u32, EngineError> {
    let mut best: Option<(u32, f32)> = None;
    for (token, number) in (0..).zip(numbers) {
        if !number.is_finite() {
            let message = "the network's numbers are not finite".to_owned();
            return Err(EngineError::Internal { message });
        }
        if best.is_none_or(|(_, most)| *number > most) {
            best = Some((token, *number));
        }
    }
    best.map(|(token, _)| token)
        .ok_or_else(|| EngineError::Internal { message: "the vocabulary is empty".to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_likeliest_token_is_the_first_of_the_largest() {
        assert_eq!(likeliest(&[-1.0, 2.0, 0.5, 2.0]), Ok(1));
        for broken in [&[][..], &[0.0, f32::NAN], &[f32::INFINITY], &[1.0, f32::NEG_INFINITY]] {
            assert!(matches!(likeliest(broken), Err(EngineError::Internal { .. })), "{broken:?}");
        }
    }
}
