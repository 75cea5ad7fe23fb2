//! The inputs of the tasks: all of them are texts.

use stoker_core::request::Task;

use crate::v1;
use crate::v1::job_input::Task as WireTask;

/// The field of `JobInput` that fits a task.
pub const fn input_field(task: Task) -> &'static str {
    match task {
        Task::TextEmbedding => "text_embedding",
        Task::TextClassification => "text_classification",
        Task::Echo => "echo",
    }
}

/// The input of a job that does `task` with each of the texts.
pub const fn input_of(task: Task, texts: Vec<String>) -> v1::JobInput {
    let task = match task {
        Task::TextEmbedding => {
            WireTask::TextEmbedding(v1::TextEmbeddingInput { texts, prompt: String::new() })
        }
        Task::TextClassification => {
            WireTask::TextClassification(v1::TextClassificationInput { texts })
        }
        Task::Echo => WireTask::Echo(v1::EchoInput { texts }),
    };
    v1::JobInput { task: Some(task) }
}

/// The task of an input, and its texts; `None` for a task that this version does not know.
pub fn input_texts(input: &v1::JobInput) -> Option<(Task, &[String])> {
    Some(match input.task.as_ref()? {
        WireTask::TextEmbedding(input) => (Task::TextEmbedding, &input.texts),
        WireTask::TextClassification(input) => (Task::TextClassification, &input.texts),
        WireTask::Echo(input) => (Task::Echo, &input.texts),
    })
}

/// The prompt that an input asks for; empty if it asks for none.
pub fn input_prompt(input: &v1::JobInput) -> &str {
    match &input.task {
        Some(WireTask::TextEmbedding(input)) => &input.prompt,
        Some(WireTask::TextClassification(_) | WireTask::Echo(_)) | None => "",
    }
}

/// The same, taken apart.
pub fn into_texts(input: v1::JobInput) -> Option<(Task, Vec<String>)> {
    Some(match input.task? {
        WireTask::TextEmbedding(input) => (Task::TextEmbedding, input.texts),
        WireTask::TextClassification(input) => (Task::TextClassification, input.texts),
        WireTask::Echo(input) => (Task::Echo, input.texts),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_input_says_its_task_and_texts() {
        let texts = vec!["a".to_owned(), "b".to_owned()];
        for task in Task::ALL {
            let input = input_of(task, texts.clone());
            assert_eq!(input_texts(&input), Some((task, texts.as_slice())));
            assert_eq!(into_texts(input), Some((task, texts.clone())));
        }
        assert_eq!(input_texts(&v1::JobInput { task: None }), None);
    }
}
