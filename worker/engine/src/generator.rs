//! Text generation as an engine: sequences of all lanes are worked on together, step by step.

mod canary;
mod load;
mod steps;

use std::fmt;
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use stoker_engine_api::{
    Deaf, Engine, EngineError, EngineInfo, Generation, GenerationInput, ItemError, ItemInput,
    ItemOutput, Listener, Piece, Prepared, Prompt, TaskKind, Wanted,
};

use crate::ModelOptions;
use crate::generation::{Order, Sampling};
use crate::vocabulary::Vocabulary;
use steps::{Steps, Ticket};

/// Pieces of a text are told of no more often.
const TELL_EVERY: Duration = Duration::from_millis(100);

/// What to load and how to run it.
#[derive(Debug, Clone)]
pub struct GeneratorOptions {
    pub model: ModelOptions,
    /// Tokens of one step; by default what suits the device.
    pub step_tokens: Option<NonZeroU32>,
    /// Memory for the tokens of all sequences together.
    pub cache_mebibytes: Option<NonZeroU32>,
}

/// A loaded model.
pub struct Generator {
    info: EngineInfo,
    vocabulary: Vocabulary,
    steps: Steps,
}

impl fmt::Debug for Generator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Generator").field("info", &self.info).finish_non_exhaustive()
    }
}

/// A prompt as tokens, and what is asked for.
#[derive(Debug)]
pub struct PreparedPrompt {
    order: Order,
}

impl Prepared for PreparedPrompt {
    fn cost(&self) -> u32 {
        let tokens = self.order.prompt.len() + self.order.max_tokens;
        u32::try_from(tokens).unwrap_or(u32::MAX)
    }
}

impl Engine for Generator {
    type Prepared = PreparedPrompt;

    fn info(&self) -> &EngineInfo {
        &self.info
    }

    fn prepare(&self, input: ItemInput) -> Result<PreparedPrompt, ItemError> {
        let input = match input {
            ItemInput::Generation(input) => *input,
            other @ (ItemInput::Text(_)
            | ItemInput::Image(_)
            | ItemInput::Caption(_)
            | ItemInput::Faces(_)
            | ItemInput::Recording(_)) => {
                return Err(ItemError::wrong_kind(TaskKind::TextGeneration, "a prompt", &other));
            }
        };
        self.check_length(&input.prompt)?;
        let prompt = self.vocabulary.encode(&input.prompt)?;
        self.order(prompt, input).map(|order| PreparedPrompt { order })
    }

    fn run(&self, items: &[&PreparedPrompt]) -> Result<Vec<ItemOutput>, EngineError> {
        self.run_heard(items, &Deaf)
    }

    fn run_heard(
        &self,
        items: &[&PreparedPrompt],
        listener: &dyn Listener,
    ) -> Result<Vec<ItemOutput>, EngineError> {
        let orders = items.iter().map(|item| item.order.clone());
        let mut tickets: Vec<Ticket<'_>> = orders
            .map(|order| self.steps.join(order, &self.vocabulary))
            .collect::<Result<_, _>>()?;
        let mut told = vec![(Piece::default(), Instant::now()); tickets.len()];
        while !self.steps.work(&mut tickets, &self.vocabulary)? {
            for (item, (ticket, (piece, since))) in tickets.iter_mut().zip(&mut told).enumerate() {
                piece.append(ticket.take_news());
                if piece.tokens.is_empty() || since.elapsed() < TELL_EVERY {
                    continue;
                }
                *since = Instant::now();
                if listener.said(item, std::mem::take(piece)) == Wanted::No {
                    let message = format!("item {item} is not wanted any more");
                    return Err(EngineError::Input { message });
                }
            }
        }
        Ok(tickets.into_iter().map(|ticket| ItemOutput::Generation(ticket.into_output())).collect())
    }
}

impl PreparedPrompt {
    /// The prompt's tokens.
    pub fn prompt(&self) -> &[u32] {
        &self.order.prompt
    }
}

impl Generator {
    /// What the network says after these tokens: a number for each token of its vocabulary.
    ///
    /// # Errors
    /// When there are none or too many, or the device fails.
    pub fn next_numbers(&self, tokens: &[u32]) -> Result<Vec<f32>, EngineError> {
        self.steps.next_numbers(tokens)
    }

    /// The tokens that are generated for an item.
    ///
    /// # Errors
    /// As of [`Engine::run`].
    pub fn tokens_of(&self, item: &PreparedPrompt) -> Result<Vec<u32>, EngineError> {
        let mut tickets = [self.steps.join(item.order.clone(), &self.vocabulary)?];
        while !self.steps.work(&mut tickets, &self.vocabulary)? {}
        let [mut ticket] = tickets;
        Ok(ticket.take_news().tokens)
    }

    /// A prompt that is far too long is refused before it is cut into tokens.
    fn check_length(&self, prompt: &Prompt) -> Result<(), ItemError> {
        /// No tokenizer makes one token of more.
        const LONGEST_TOKEN: usize = 256;
        let (bytes, context) = (prompt.bytes(), self.context());
        if bytes / LONGEST_TOKEN <= context {
            return Ok(());
        }
        let message = format!("the prompt has {bytes} bytes and the model reads {context} tokens");
        Err(ItemError::Invalid { message })
    }

    fn order(&self, prompt: Vec<u32>, input: GenerationInput) -> Result<Order, ItemError> {
        let GenerationInput { settings, generated, .. } = input;
        let sampling = Sampling {
            temperature: settings.temperature,
            top_p: settings.top_p,
            top_k: settings.top_k,
            repeat_penalty: settings.repeat_penalty,
            seed: settings.seed,
        };
        if let Some((field, problem)) = sampling.problem() {
            return Err(ItemError::Invalid { message: format!("{field} {problem}") });
        }
        let max_tokens = usize::try_from(settings.max_tokens).unwrap_or(usize::MAX);
        let context = self.context();
        if prompt.len().saturating_add(max_tokens) > context {
            let message = format!(
                "the prompt has {} tokens and the answer may have {max_tokens}, which is more than the \
                 {context} tokens that there is room for: shorten the prompt, or lower max_tokens",
                prompt.len()
            );
            return Err(ItemError::Invalid { message });
        }
        // Those of another model: begin anew.
        let known = generated.iter().all(|token| *token < self.vocabulary.size());
        let generated = if known { generated } else { Vec::new() };
        Ok(Order { prompt, generated, max_tokens, sampling, stops: settings.stops })
    }

    /// Tokens that prompt and answer may have together.
    fn context(&self) -> usize {
        usize::try_from(self.info.max_tokens).unwrap_or(usize::MAX)
    }
}

impl Ticket<'_> {
    fn into_output(self) -> Generation {
        let done = self.into_done();
        let count = |tokens: usize| u32::try_from(tokens).unwrap_or(u32::MAX);
        Generation {
            text: done.text,
            finish: done.finish,
            prompt_tokens: count(done.prompt_tokens),
            generated_tokens: count(done.generated_tokens),
        }
    }
}
