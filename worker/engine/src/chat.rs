//! The form of conversations that a model was trained on: its own template, which is a small program and
//! is treated as a stranger's: it reads nothing but its variables, and its steps are counted.
//!
//! Templates that ask for the date do not get it: the same conversation is the same prompt on every day,
//! or a generation that is taken up later would not be the same.

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{Environment, Error, ErrorKind, context};
use minijinja_contrib::pycompat::unknown_method_callback;
use stoker_engine_api::{ChatMessage, ItemError};

/// Steps that a template may take; a long conversation needs some thousand.
const FUEL: u64 = 5_000_000;
/// A longer template is no template.
const MOST_BYTES: usize = 256 << 10;
const NAME: &str = "chat";

/// A model's template.
pub(crate) struct ChatTemplate {
    environment: Environment<'static>,
    /// The texts of the tokens that templates may name.
    begin: String,
    end: String,
}

impl ChatTemplate {
    /// `begin` and `end` are the texts of the model's first and last token, empty for none.
    ///
    /// # Errors
    /// When it is not a template.
    pub(crate) fn new(source: String, begin: String, end: String) -> Result<Self, String> {
        if source.len() > MOST_BYTES {
            return Err(format!("the chat template has {} bytes", source.len()));
        }
        let mut environment = Environment::new();
        // As transformers sets up its own.
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        environment.set_syntax(syntax.map_err(|error| error.to_string())?);
        environment.set_fuel(Some(FUEL));
        environment.set_unknown_method_callback(unknown_method_callback);
        environment.add_function("raise_exception", |message: String| -> Result<String, Error> {
            Err(Error::new(ErrorKind::InvalidOperation, message))
        });
        environment
            .add_template_owned(NAME, source)
            .map_err(|error| format!("the chat template cannot be read: {error}"))?;
        Ok(Self { environment, begin, end })
    }

    /// The prompt that asks for the next message.
    ///
    /// # Errors
    /// When the template refuses the conversation.
    pub(crate) fn render(&self, messages: &[ChatMessage]) -> Result<String, ItemError> {
        let variables = context! {
            messages => Serde(messages),
            add_generation_prompt => true,
            bos_token => &self.begin,
            eos_token => &self.end,
        };
        let template = self.environment.get_template(NAME);
        template.and_then(|template| template.render(variables)).map_err(|error| {
            let reason = error.detail().map_or_else(|| error.to_string(), str::to_owned);
            let message = format!("the model's chat template refuses the messages: {reason}");
            ItemError::Invalid { message }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(pairs: &[(&str, &str)]) -> Vec<ChatMessage> {
        let message = |(role, content): &(&str, &str)| ChatMessage {
            role: (*role).to_owned(),
            content: (*content).to_owned(),
        };
        pairs.iter().map(message).collect()
    }

    fn template(source: &str) -> ChatTemplate {
        ChatTemplate::new(source.to_owned(), "<s>".to_owned(), "</s>".to_owned()).unwrap()
    }

    #[test]
    fn a_template_gets_its_variables_and_the_methods_of_texts() {
        let template = template(
            "{{ bos_token }}{% for message in messages %}\n    {%- if message['role'] == 'system' %}\n\
             [{{ message.content.strip() | upper }}]\n    {%- else %}\n\
             {{ message['role'] + ': ' + message['content'] }}\n    {%- endif %}\n{% endfor %}\
             {% if add_generation_prompt %}{{ 'assistant:' }}{% endif %}",
        );
        let prompt = template.render(&messages(&[("system", " be brief "), ("user", "hi")]));
        assert_eq!(prompt.unwrap(), "<s>[BE BRIEF]user: hiassistant:");
    }

    #[test]
    fn a_template_can_refuse_and_cannot_run_for_ever() {
        let refuses = template("{{ raise_exception('roles must alternate') }}");
        let error = refuses.render(&messages(&[("user", "hi")])).unwrap_err().to_string();
        assert!(error.contains("roles must alternate"), "{error}");
        let endless = template(
            "{% for a in range(9999) %}{% for b in range(9999) %}x{% endfor %}{% endfor %}",
        );
        assert!(endless.render(&messages(&[])).is_err());
        assert!(ChatTemplate::new("{% if %}".to_owned(), String::new(), String::new()).is_err());
        let long = "x".repeat(MOST_BYTES + 1);
        assert!(ChatTemplate::new(long, String::new(), String::new()).is_err());
    }
}
