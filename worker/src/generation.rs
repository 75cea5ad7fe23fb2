//! Prompts of the wire as an engine takes them, and generated texts as the wire has them.

use stoker_core::generation::GenerationOptions;
use stoker_core::ids::JobId;
use stoker_engine_api::{
    ChatMessage, Finish, Generation, GenerationInput, GenerationSettings, ItemInput, Prompt,
};
use stoker_proto::{convert, v1};

/// The items of a job that generates. Each draws with a seed of its own, which is the same in every attempt.
/// `None` for a kind of prompt that this version does not know.
pub(crate) fn inputs(job: JobId, input: v1::TextGenerationInput) -> Option<Vec<ItemInput>> {
    let options = convert::generation_options(input.options.as_ref());
    let item = |(index, prompt): (u32, v1::Prompt)| {
        let settings = settings(&options, options.item_seed(*job.as_bytes(), index));
        let prompt = engine_prompt(prompt)?;
        let input = GenerationInput { prompt, settings, generated: Vec::new() };
        Some(ItemInput::Generation(Box::new(input)))
    };
    (0..).zip(input.prompts).map(item).collect()
}

/// Has items go on behind what was generated of them before.
pub(crate) fn go_on(inputs: &mut [ItemInput], begun: v1::BegunTexts) {
    for v1::BegunText { item, tokens } in begun.texts {
        let input = usize::try_from(item).ok().and_then(|item| inputs.get_mut(item));
        if let Some(ItemInput::Generation(input)) = input {
            input.generated = tokens;
        }
    }
}

fn settings(options: &GenerationOptions, seed: u64) -> GenerationSettings {
    GenerationSettings {
        max_tokens: options.max_tokens,
        temperature: options.temperature,
        top_p: options.top_p,
        top_k: options.top_k,
        repeat_penalty: options.repeat_penalty,
        seed,
        stops: options.stops.clone(),
    }
}

fn engine_prompt(prompt: v1::Prompt) -> Option<Prompt> {
    Some(match prompt.prompt? {
        v1::prompt::Prompt::Text(text) => Prompt::Text(text),
        v1::prompt::Prompt::Chat(chat) => {
            let message =
                |v1::ChatMessage { role, content }: v1::ChatMessage| ChatMessage { role, content };
            Prompt::Chat(chat.messages.into_iter().map(message).collect())
        }
    })
}

/// A generated text on the wire.
pub(crate) fn wire_generation(generation: Generation) -> v1::Generation {
    let Generation { text, finish, prompt_tokens, generated_tokens } = generation;
    let finish = match finish {
        Finish::Stop => v1::FinishReason::Stop,
        Finish::Length => v1::FinishReason::Length,
    };
    v1::Generation { text, finish: finish.into(), prompt_tokens, generated_tokens }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_of_a_job_have_seeds_of_their_own_in_every_attempt() {
        let text = |text: &str| v1::Prompt { prompt: Some(v1::prompt::Prompt::Text(text.into())) };
        let input = v1::TextGenerationInput { prompts: vec![text("a"), text("a")], options: None };
        let seeds = |job: u8| -> Vec<u64> {
            let inputs = inputs(JobId::from_bytes([job; 16]), input.clone()).unwrap().into_iter();
            let seed = |input| match input {
                ItemInput::Generation(input) => input.settings.seed,
                other @ (ItemInput::Text(_)
                | ItemInput::Image(_)
                | ItemInput::Caption(_)
                | ItemInput::Faces(_)
                | ItemInput::Recording(_)) => {
                    panic!("{other:?}")
                }
            };
            inputs.map(seed).collect()
        };
        assert_eq!(seeds(1), seeds(1));
        assert_ne!(seeds(1)[0], seeds(1)[1]);
        assert_ne!(seeds(1)[0], seeds(2)[0]);
    }

    #[test]
    fn a_prompt_that_is_none_makes_no_item() {
        let input =
            v1::TextGenerationInput { prompts: vec![v1::Prompt { prompt: None }], options: None };
        assert_eq!(inputs(JobId::from_bytes([1; 16]), input), None);
    }
}
