//! The inputs of the tasks: texts, prompts, images, or recordings.

use bytes::Bytes;
use stoker_core::request::Task;

use crate::v1;
use crate::v1::job_input::Task as WireTask;

/// The field of `JobInput` that fits a task.
pub const fn input_field(task: Task) -> &'static str {
    match task {
        Task::TextEmbedding => "text_embedding",
        Task::TextClassification => "text_classification",
        Task::TextGeneration => "text_generation",
        Task::ImageEmbedding => "image_embedding",
        Task::ImageClassification => "image_classification",
        Task::ImageCaptioning => "image_captioning",
        Task::FaceDetection => "face_detection",
        Task::FaceEmbedding => "face_embedding",
        Task::SpeechToText => "speech_to_text",
        Task::Echo => "echo",
    }
}

/// The field of a task's input that has its items.
pub const fn items_field(task: Task) -> &'static str {
    match task {
        Task::TextEmbedding | Task::TextClassification | Task::Echo => "texts",
        Task::TextGeneration => "prompts",
        Task::ImageEmbedding
        | Task::ImageClassification
        | Task::ImageCaptioning
        | Task::FaceDetection
        | Task::FaceEmbedding => "images",
        Task::SpeechToText => "recordings",
    }
}

/// The input of a job that does `task` with each of the texts. Texts are continued as they are by a
/// model that generates; where items are files each is the content of one: see [`input_of_files`].
pub fn input_of(task: Task, texts: Vec<String>) -> v1::JobInput {
    let task = match task {
        Task::TextEmbedding => {
            WireTask::TextEmbedding(v1::TextEmbeddingInput { texts, prompt: String::new() })
        }
        Task::TextClassification => {
            WireTask::TextClassification(v1::TextClassificationInput { texts })
        }
        Task::TextGeneration => {
            let prompts = texts.into_iter().map(text_prompt).collect();
            WireTask::TextGeneration(v1::TextGenerationInput { prompts, options: None })
        }
        Task::ImageEmbedding
        | Task::ImageClassification
        | Task::ImageCaptioning
        | Task::FaceDetection
        | Task::FaceEmbedding
        | Task::SpeechToText => {
            return input_of_files(task, texts.into_iter().map(Bytes::from).collect());
        }
        Task::Echo => WireTask::Echo(v1::EchoInput { texts }),
    };
    v1::JobInput { task: Some(task) }
}

/// The input of a job that does `task` with each of the files, images or recordings; without any
/// where it takes texts.
pub fn input_of_files(task: Task, files: Vec<Bytes>) -> v1::JobInput {
    let task = match task {
        Task::ImageEmbedding => WireTask::ImageEmbedding(v1::ImageEmbeddingInput { images: files }),
        Task::ImageClassification => {
            let (labels, template) = (Vec::new(), String::new());
            let input = v1::ImageClassificationInput { images: files, labels, template };
            WireTask::ImageClassification(input)
        }
        Task::ImageCaptioning => {
            let (prompt, max_tokens) = (String::new(), 0);
            let input = v1::ImageCaptioningInput { images: files, prompt, max_tokens };
            WireTask::ImageCaptioning(input)
        }
        Task::FaceDetection => {
            let input = v1::FaceDetectionInput { images: files, options: None };
            WireTask::FaceDetection(input)
        }
        Task::FaceEmbedding => {
            let input = v1::FaceEmbeddingInput { images: files, options: None };
            WireTask::FaceEmbedding(input)
        }
        Task::SpeechToText => {
            let input = v1::SpeechToTextInput { recordings: files, options: None };
            WireTask::SpeechToText(input)
        }
        Task::TextEmbedding | Task::TextClassification | Task::TextGeneration | Task::Echo => {
            return input_of(task, Vec::new());
        }
    };
    v1::JobInput { task: Some(task) }
}

fn text_prompt(text: String) -> v1::Prompt {
    v1::Prompt { prompt: Some(v1::prompt::Prompt::Text(text)) }
}

/// The items of an input, one by one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Items<'a> {
    Texts(&'a [String]),
    Prompts(&'a [v1::Prompt]),
    /// Files.
    Images(&'a [Bytes]),
    /// Files.
    Recordings(&'a [Bytes]),
}

impl<'a> Items<'a> {
    pub const fn len(self) -> usize {
        match self {
            Self::Texts(texts) => texts.len(),
            Self::Prompts(prompts) => prompts.len(),
            Self::Images(files) | Self::Recordings(files) => files.len(),
        }
    }

    pub const fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// The bytes of each item.
    pub fn bytes(self) -> Vec<usize> {
        match self {
            Self::Texts(_) | Self::Prompts(_) => {
                let bytes = |texts: Vec<&str>| texts.into_iter().map(str::len).sum();
                self.texts().into_iter().map(bytes).collect()
            }
            Self::Images(files) | Self::Recordings(files) => files.iter().map(Bytes::len).collect(),
        }
    }

    /// The texts of which each item consists; none of what is no text.
    pub fn texts(self) -> Vec<Vec<&'a str>> {
        match self {
            Self::Texts(texts) => texts.iter().map(|text| vec![text.as_str()]).collect(),
            Self::Prompts(prompts) => prompts.iter().map(prompt_texts).collect(),
            Self::Images(files) | Self::Recordings(files) => vec![Vec::new(); files.len()],
        }
    }
}

fn prompt_texts(prompt: &v1::Prompt) -> Vec<&str> {
    match &prompt.prompt {
        Some(v1::prompt::Prompt::Text(text)) => vec![text],
        Some(v1::prompt::Prompt::Chat(chat)) => {
            let texts = chat.messages.iter().flat_map(|message| [&message.role, &message.content]);
            texts.map(String::as_str).collect()
        }
        None => Vec::new(),
    }
}

/// The task of an input, and its items; `None` for a task that this version does not know.
pub fn input_items(input: &v1::JobInput) -> Option<(Task, Items<'_>)> {
    Some(match input.task.as_ref()? {
        WireTask::TextEmbedding(input) => (Task::TextEmbedding, Items::Texts(&input.texts)),
        WireTask::TextClassification(input) => {
            (Task::TextClassification, Items::Texts(&input.texts))
        }
        WireTask::TextGeneration(input) => (Task::TextGeneration, Items::Prompts(&input.prompts)),
        WireTask::ImageEmbedding(input) => (Task::ImageEmbedding, Items::Images(&input.images)),
        WireTask::ImageClassification(input) => {
            (Task::ImageClassification, Items::Images(&input.images))
        }
        WireTask::ImageCaptioning(input) => (Task::ImageCaptioning, Items::Images(&input.images)),
        WireTask::FaceDetection(input) => (Task::FaceDetection, Items::Images(&input.images)),
        WireTask::FaceEmbedding(input) => (Task::FaceEmbedding, Items::Images(&input.images)),
        WireTask::SpeechToText(input) => (Task::SpeechToText, Items::Recordings(&input.recordings)),
        WireTask::Echo(input) => (Task::Echo, Items::Texts(&input.texts)),
    })
}

/// The prompt that an input asks for; empty if it asks for none.
pub fn input_prompt(input: &v1::JobInput) -> &str {
    match &input.task {
        Some(WireTask::TextEmbedding(input)) => &input.prompt,
        Some(
            WireTask::TextClassification(_)
            | WireTask::TextGeneration(_)
            | WireTask::ImageEmbedding(_)
            | WireTask::ImageClassification(_)
            | WireTask::ImageCaptioning(_)
            | WireTask::FaceDetection(_)
            | WireTask::FaceEmbedding(_)
            | WireTask::SpeechToText(_)
            | WireTask::Echo(_),
        )
        | None => "",
    }
}

/// An input taken apart.
#[derive(Debug, Clone, PartialEq)]
pub enum InputParts {
    Texts(Task, Vec<String>),
    Generation(v1::TextGenerationInput),
    Images(Vec<Bytes>),
    ImageClassification(v1::ImageClassificationInput),
    ImageCaptioning(v1::ImageCaptioningInput),
    /// Images, and which faces on them are looked for.
    Faces(Task, Vec<Bytes>, v1::FaceOptions),
    Speech(v1::SpeechToTextInput),
}

/// Takes an input apart; `None` for a task that this version does not know.
pub fn into_parts(input: v1::JobInput) -> Option<InputParts> {
    Some(match input.task? {
        WireTask::TextEmbedding(input) => InputParts::Texts(Task::TextEmbedding, input.texts),
        WireTask::TextClassification(input) => {
            InputParts::Texts(Task::TextClassification, input.texts)
        }
        WireTask::TextGeneration(input) => InputParts::Generation(input),
        WireTask::ImageEmbedding(input) => InputParts::Images(input.images),
        WireTask::ImageClassification(input) => InputParts::ImageClassification(input),
        WireTask::ImageCaptioning(input) => InputParts::ImageCaptioning(input),
        WireTask::FaceDetection(input) => {
            InputParts::Faces(Task::FaceDetection, input.images, input.options.unwrap_or_default())
        }
        WireTask::FaceEmbedding(input) => {
            InputParts::Faces(Task::FaceEmbedding, input.images, input.options.unwrap_or_default())
        }
        WireTask::SpeechToText(input) => InputParts::Speech(input),
        WireTask::Echo(input) => InputParts::Texts(Task::Echo, input.texts),
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
            let (found, items) = input_items(&input).unwrap();
            assert_eq!((found, items.len()), (task, 2));
            assert_eq!(items.bytes(), [1, 1]);
            if !matches!(items, Items::Images(_) | Items::Recordings(_)) {
                assert_eq!(items.texts(), [vec!["a"], vec!["b"]]);
            }
            assert_eq!(matches!(items, Items::Images(_)), task.takes_images());
            match into_parts(input).unwrap() {
                InputParts::Texts(found, parts) => assert_eq!((found, &parts), (task, &texts)),
                InputParts::Generation(input) => assert_eq!(input.prompts.len(), 2),
                InputParts::Images(images) => assert_eq!(images, ["a", "b"]),
                InputParts::ImageClassification(input) => assert_eq!(input.images, ["a", "b"]),
                InputParts::ImageCaptioning(input) => assert_eq!(input.images, ["a", "b"]),
                InputParts::Faces(found, images, options) => {
                    assert_eq!((found, options), (task, v1::FaceOptions::default()));
                    assert_eq!(images, ["a", "b"]);
                }
                InputParts::Speech(input) => assert_eq!(input.recordings, ["a", "b"]),
            }
        }
        assert_eq!(input_items(&v1::JobInput { task: None }), None);
    }
}
