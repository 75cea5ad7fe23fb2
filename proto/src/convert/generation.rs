//! What is asked of a model that generates text.

use stoker_core::generation::{DEFAULT_MAX_TOKENS, GenerationOptions, MAX_MESSAGES};

use crate::status::FieldViolation;
use crate::v1;

use super::violations::Violations;

const MAX_ROLE_BYTES: usize = 63;

/// The options of an input, with what stands for those that are left out. Not checked.
pub fn generation_options(options: Option<&v1::GenerationOptions>) -> GenerationOptions {
    let default = GenerationOptions::default();
    let Some(options) = options else { return default };
    GenerationOptions {
        max_tokens: if options.max_tokens == 0 { DEFAULT_MAX_TOKENS } else { options.max_tokens },
        temperature: options.temperature,
        top_p: options.top_p.unwrap_or(default.top_p),
        top_k: options.top_k,
        repeat_penalty: options.repeat_penalty.unwrap_or(default.repeat_penalty),
        seed: options.seed,
        stops: options.stop.clone(),
    }
}

/// Notes what is wrong with the options and the form of prompts.
pub(super) fn check_generation(
    input: &v1::TextGenerationInput,
    field: &str,
    violations: &mut Violations,
) {
    for (name, problem) in generation_options(input.options.as_ref()).problems() {
        violations.add(FieldViolation::new(format!("{field}.options.{name}"), problem));
    }
    for (index, prompt) in input.prompts.iter().enumerate() {
        if let Some(problem) = prompt_problem(prompt) {
            violations.add(FieldViolation::new(format!("{field}.prompts[{index}]"), problem));
        }
        if violations.is_full() {
            return;
        }
    }
}

fn prompt_problem(prompt: &v1::Prompt) -> Option<String> {
    let chat = match &prompt.prompt {
        None => return Some("is empty: give it a text or a conversation".to_owned()),
        Some(v1::prompt::Prompt::Text(text)) => {
            return text.is_empty().then(|| "is empty: give it a text".to_owned());
        }
        Some(v1::prompt::Prompt::Chat(chat)) => chat,
    };
    if chat.messages.is_empty() || chat.messages.len() > MAX_MESSAGES {
        let count = chat.messages.len();
        return Some(format!("has {count} messages: use 1 to {MAX_MESSAGES}"));
    }
    let bad = |role: &str| role.is_empty() || role.len() > MAX_ROLE_BYTES;
    chat.messages
        .iter()
        .any(|message| bad(&message.role))
        .then(|| format!("has a message whose role is empty or longer than {MAX_ROLE_BYTES} bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(input: &v1::TextGenerationInput) -> Vec<String> {
        let mut violations = Violations::default();
        check_generation(input, "g", &mut violations);
        violations.into_vec().into_iter().map(|violation| violation.field).collect()
    }

    fn chat(messages: Vec<(&str, &str)>) -> v1::Prompt {
        let message = |(role, content): (&str, &str)| v1::ChatMessage {
            role: role.to_owned(),
            content: content.to_owned(),
        };
        let messages = messages.into_iter().map(message).collect();
        v1::Prompt { prompt: Some(v1::prompt::Prompt::Chat(v1::Chat { messages })) }
    }

    fn text(text: &str) -> v1::Prompt {
        v1::Prompt { prompt: Some(v1::prompt::Prompt::Text(text.to_owned())) }
    }

    #[test]
    fn what_is_left_out_has_a_meaning() {
        assert_eq!(generation_options(None), GenerationOptions::default());
        let wire = v1::GenerationOptions::default();
        assert_eq!(generation_options(Some(&wire)), GenerationOptions::default());
        let wire = v1::GenerationOptions { top_p: Some(0.5), seed: Some(0), ..wire };
        let options = generation_options(Some(&wire));
        assert_eq!((options.seed, options.max_tokens), (Some(0), 256));
        assert!((options.top_p - 0.5).abs() < f32::EPSILON);
    }

    #[test]
    fn everything_that_is_wrong_is_named() {
        let prompts = vec![
            text("a"),
            text(""),
            v1::Prompt { prompt: None },
            chat(vec![]),
            chat(vec![("user", "")]),
            chat(vec![("", "a")]),
        ];
        let options = v1::GenerationOptions { top_p: Some(2.0), ..Default::default() };
        let input = v1::TextGenerationInput { prompts, options: Some(options) };
        let expected =
            ["g.options.top_p", "g.prompts[1]", "g.prompts[2]", "g.prompts[3]", "g.prompts[5]"];
        assert_eq!(fields(&input), expected);
    }
}
