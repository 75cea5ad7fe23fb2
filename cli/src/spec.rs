//! From texts, images and recordings to jobs, and from jobs to calls that fit the wire. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::ValueEnum;
use clap::builder::PossibleValue;
use stoker_core::request;
use stoker_proto::v1::job_input::Task as WireTask;
use stoker_proto::{convert, v1};

use crate::input::{Content, Group, Input};
use crate::render::time::duration_to_wire;

/// Most jobs of one call, as the wire says.
const MAX_JOBS: usize = 1_000;

/// Bytes of one call's items; a call with more is split. Below the usual limit of 4 MiB for a
/// message, so that it passes servers and proxies with default settings.
const MAX_CALL_BYTES: usize = 3 << 20;

/// Names longer than this cannot be keys; the jobs of a command add a number to it.
pub(crate) const MAX_KEY_BYTES: usize = 240;

/// What a model is to do with the items, as a value of an option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Task(pub(crate) request::Task);

impl Task {
    /// `None` for a task that this version does not know.
    pub(crate) fn of(model: &v1::Model) -> Option<Self> {
        convert::known_task(model.task()).map(Self)
    }
}

impl ValueEnum for Task {
    fn value_variants<'a>() -> &'a [Self] {
        const ALL: [Task; request::Task::ALL.len()] = [
            Task(request::Task::ALL[0]),
            Task(request::Task::ALL[1]),
            Task(request::Task::ALL[2]),
            Task(request::Task::ALL[3]),
            Task(request::Task::ALL[4]),
            Task(request::Task::ALL[5]),
            Task(request::Task::ALL[6]),
            Task(request::Task::ALL[7]),
            Task(request::Task::ALL[8]),
            Task(request::Task::ALL[9]),
        ];
        &ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        let help = match self.0 {
            request::Task::TextEmbedding => "A vector for each text",
            request::Task::TextClassification => "Scores of the model's labels for each text",
            request::Task::TextGeneration => "An answer to each text",
            request::Task::ImageEmbedding => "A vector for each image",
            request::Task::ImageClassification => "Scores of labels for each image",
            request::Task::ImageCaptioning => "What is to be seen on each image",
            request::Task::FaceDetection => "The faces on each image",
            request::Task::FaceEmbedding => "The faces on each image, with a vector for each",
            request::Task::SpeechToText => "What is said in each recording",
            request::Task::Echo => "Each text as it came",
        };
        Some(PossibleValue::new(self.0.name()).help(help))
    }
}

/// What all jobs of a command have in common.
#[derive(Debug, Clone)]
pub(crate) struct Template {
    pub(crate) model: String,
    pub(crate) task: Task,
    /// The model's prompt for embeddings; empty for its default.
    pub(crate) prompt: String,
    /// How answers are generated.
    pub(crate) generation: Generation,
    /// What images are compared with.
    pub(crate) question: Question,
    /// How images are captioned.
    pub(crate) caption: Caption,
    /// Which faces are looked for.
    pub(crate) faces: v1::FaceOptions,
    /// How recordings are written down.
    pub(crate) transcription: v1::TranscriptionOptions,
    pub(crate) class: Option<String>,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) deadline: Option<Duration>,
    /// The same key with the same input gives the same jobs.
    pub(crate) key: String,
    /// Most items of a job; `None`: all of them in one.
    pub(crate) split: Option<usize>,
}

/// Labels to compare images with.
#[derive(Debug, Clone, Default)]
pub(crate) struct Question {
    /// Empty: the model's own.
    pub(crate) labels: Vec<String>,
    /// Empty: the model's own.
    pub(crate) template: String,
}

/// How images are captioned.
#[derive(Debug, Clone, Default)]
pub(crate) struct Caption {
    /// Empty: the model begins by itself.
    pub(crate) prompt: String,
    /// 0: the usual number.
    pub(crate) max_tokens: u32,
}

/// How a model is to generate.
#[derive(Debug, Clone, Default)]
pub(crate) struct Generation {
    pub(crate) options: v1::GenerationOptions,
    pub(crate) form: PromptForm,
}

/// What the texts are to a model that generates.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum PromptForm {
    /// A user's messages, each answered by itself.
    #[default]
    Message,
    /// The same, with a system message before each.
    MessageAfter(String),
    /// Beginnings, continued as they are.
    Beginning,
}

/// The jobs that `content` makes, in its order: first what is loose, then the groups.
pub(crate) fn jobs(template: &Template, content: Content) -> Vec<v1::JobSpec> {
    let task = template.task.0;
    match content {
        Content::Texts(input) => jobs_of(template, input, |texts| convert::input_of(task, texts)),
        Content::Files(input) => {
            jobs_of(template, input, |files| convert::input_of_files(task, files))
        }
    }
}

fn jobs_of<T>(
    template: &Template,
    input: Input<T>,
    to_input: impl Fn(Vec<T>) -> v1::JobInput,
) -> Vec<v1::JobSpec> {
    let split = template.split.unwrap_or(usize::MAX).max(1);
    let loose = Group { items: input.loose, labels: BTreeMap::new() };
    let groups = std::iter::once(loose).chain(input.groups);
    let groups = groups.flat_map(|group| parts(group, split));
    let mut jobs: Vec<_> =
        groups.map(|group| job(template, to_input(group.items), group.labels)).collect();
    if let [only] = jobs.as_mut_slice() {
        only.idempotency_key.clone_from(&template.key);
    } else {
        for (index, job) in jobs.iter_mut().enumerate() {
            job.idempotency_key = format!("{}/{index}", template.key);
        }
    }
    jobs
}

fn parts<T>(group: Group<T>, split: usize) -> Vec<Group<T>> {
    let mut parts = Vec::new();
    let mut items = group.items.into_iter().peekable();
    while items.peek().is_some() {
        let items = items.by_ref().take(split).collect();
        parts.push(Group { items, labels: group.labels.clone() });
    }
    parts
}

fn job(
    template: &Template,
    mut input: v1::JobInput,
    own_labels: BTreeMap<String, String>,
) -> v1::JobSpec {
    match &mut input.task {
        Some(WireTask::TextEmbedding(input)) => input.prompt.clone_from(&template.prompt),
        Some(WireTask::TextGeneration(input)) => {
            input.options = Some(template.generation.options.clone());
            for prompt in &mut input.prompts {
                to_form(prompt, &template.generation.form);
            }
        }
        Some(WireTask::ImageClassification(input)) => {
            input.labels.clone_from(&template.question.labels);
            input.template.clone_from(&template.question.template);
        }
        Some(WireTask::ImageCaptioning(input)) => {
            input.prompt.clone_from(&template.caption.prompt);
            input.max_tokens = template.caption.max_tokens;
        }
        Some(WireTask::FaceDetection(input)) => input.options = Some(template.faces),
        Some(WireTask::FaceEmbedding(input)) => input.options = Some(template.faces),
        Some(WireTask::SpeechToText(input)) => {
            input.options = Some(template.transcription.clone());
        }
        Some(WireTask::TextClassification(_) | WireTask::ImageEmbedding(_) | WireTask::Echo(_))
        | None => {}
    }
    let mut labels = template.labels.clone();
    labels.extend(own_labels);
    v1::JobSpec {
        model: template.model.clone(),
        class: template.class.clone().unwrap_or_default(),
        input: Some(input),
        idempotency_key: String::new(),
        deadline_after: template.deadline.map(duration_to_wire),
        labels,
    }
}

/// Gives a text, which is what a prompt is before, its form.
fn to_form(prompt: &mut v1::Prompt, form: &PromptForm) {
    let system = match form {
        PromptForm::Beginning => return,
        PromptForm::Message => None,
        PromptForm::MessageAfter(system) => Some(system),
    };
    if let Some(v1::prompt::Prompt::Text(text)) = &mut prompt.prompt {
        let message =
            |role: &str, content: String| v1::ChatMessage { role: role.to_owned(), content };
        let system = system.map(|system| message("system", system.clone()));
        let user = message("user", std::mem::take(text));
        let messages = system.into_iter().chain([user]).collect();
        prompt.prompt = Some(v1::prompt::Prompt::Chat(v1::Chat { messages }));
    }
}

/// Number of items of a job.
pub(crate) fn items(job: &v1::JobSpec) -> usize {
    let items = job.input.as_ref().and_then(convert::input_items);
    items.map_or(0, |(_, items)| items.len())
}

fn bytes(job: &v1::JobSpec) -> usize {
    const OVERHEAD: usize = 8;
    let items = job.input.as_ref().and_then(convert::input_items);
    let items = items.map(|(_, items)| items.bytes()).unwrap_or_default();
    items.into_iter().map(|bytes| bytes + OVERHEAD).sum()
}

/// Splits jobs over calls: each has at most as many jobs and bytes as the wire allows. A job that
/// is too large alone gets a call of its own, so that the coordinator can say what its limit is.
pub(crate) fn calls(jobs: Vec<v1::JobSpec>) -> Vec<v1::SubmitBatchRequest> {
    let mut calls = Vec::new();
    let mut current = v1::SubmitBatchRequest::default();
    let mut size = 0;
    for job in jobs {
        let added = bytes(&job);
        let full = current.jobs.len() >= MAX_JOBS || size + added > MAX_CALL_BYTES;
        if full && !current.jobs.is_empty() {
            calls.push(std::mem::take(&mut current));
            size = 0;
        }
        size += added;
        current.jobs.push(job);
    }
    if !current.jobs.is_empty() {
        calls.push(current);
    }
    calls
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn template(split: Option<usize>) -> Template {
        Template {
            model: "m".into(),
            task: Task(request::Task::Echo),
            prompt: String::new(),
            generation: Generation::default(),
            question: Question::default(),
            caption: Caption::default(),
            faces: v1::FaceOptions::default(),
            transcription: v1::TranscriptionOptions::default(),
            class: None,
            labels: [("a".to_owned(), "1".to_owned())].into(),
            deadline: None,
            key: "k".into(),
            split,
        }
    }

    fn texts(job: &v1::JobSpec) -> Vec<String> {
        let items = job.input.as_ref().and_then(convert::input_items).unwrap().1;
        items.texts().concat().into_iter().map(str::to_owned).collect()
    }

    fn loose(count: usize) -> Input {
        Input { loose: (0..count).map(|n| n.to_string()).collect(), ..Input::default() }
    }

    #[test]
    fn one_job_has_the_key_itself() {
        let jobs = jobs(&template(None), Content::Texts(loose(3)));
        assert_eq!(jobs.len(), 1);
        assert_eq!(jobs[0].idempotency_key, "k");
        assert_eq!(items(&jobs[0]), 3);
    }

    #[test]
    fn split_jobs_keep_the_order_and_have_keys_of_their_own() {
        let jobs = jobs(&template(Some(2)), Content::Texts(loose(5)));
        assert_eq!(jobs.iter().map(items).collect::<Vec<_>>(), [2, 2, 1]);
        assert_eq!(texts(&jobs[2]), ["4"]);
        let keys: Vec<_> = jobs.iter().map(|job| job.idempotency_key.as_str()).collect();
        assert_eq!(keys, ["k/0", "k/1", "k/2"]);
    }

    #[test]
    fn groups_are_jobs_of_their_own_and_their_labels_win() {
        let labels = [("a".to_owned(), "2".to_owned())].into();
        let groups = vec![Group { items: vec!["x".into()], labels }];
        let jobs = jobs(&template(None), Content::Texts(Input { groups, ..loose(1) }));
        assert_eq!(jobs.len(), 2);
        assert_eq!(jobs[0].labels["a"], "1");
        assert_eq!(jobs[1].labels["a"], "2");
    }

    #[test]
    fn calls_are_bounded_in_jobs_and_bytes() {
        let many = jobs(&template(Some(1)), Content::Texts(loose(2_500)));
        assert_eq!(
            calls(many).iter().map(|call| call.jobs.len()).collect::<Vec<_>>(),
            [1_000, 1_000, 500]
        );
        let large = Input { loose: vec!["x".repeat(2 << 20); 3], ..Input::default() };
        assert_eq!(calls(jobs(&template(Some(1)), Content::Texts(large))).len(), 3);
        let huge = Input { loose: vec!["x".repeat(5 << 20)], ..Input::default() };
        assert_eq!(calls(jobs(&template(None), Content::Texts(huge))).len(), 1);
        assert!(calls(Vec::new()).is_empty());
    }

    #[test]
    fn recordings_are_split_as_texts_are_and_keep_their_options() {
        let transcription =
            v1::TranscriptionOptions { language: "de".to_owned(), translate: false };
        let task = Task(request::Task::SpeechToText);
        let template = Template { task, transcription: transcription.clone(), ..template(Some(2)) };
        let recordings = [vec![1; 2 << 20], vec![2], vec![3; 2 << 20]];
        let loose = recordings.map(Bytes::from).to_vec();
        let jobs = jobs(&template, Content::Files(Input { loose, ..Input::default() }));
        assert_eq!(jobs.iter().map(items).collect::<Vec<_>>(), [2, 1]);
        let keys: Vec<_> = jobs.iter().map(|job| job.idempotency_key.as_str()).collect();
        assert_eq!(keys, ["k/0", "k/1"]);
        let Some(WireTask::SpeechToText(input)) = &jobs[1].input.as_ref().unwrap().task else {
            panic!("another task")
        };
        assert_eq!(input.options, Some(transcription));
        assert_eq!(calls(jobs).len(), 2);
    }

    #[test]
    fn texts_are_a_user_s_messages_to_a_model_that_generates() {
        let generating = |form| {
            let generation = Generation { form, ..Generation::default() };
            let task = Task(request::Task::TextGeneration);
            let template = Template { task, generation, ..template(None) };
            texts(&jobs(&template, Content::Texts(loose(1)))[0])
        };
        assert_eq!(generating(PromptForm::Message), ["user", "0"]);
        let after = PromptForm::MessageAfter("be brief".to_owned());
        assert_eq!(generating(after), ["system", "be brief", "user", "0"]);
        assert_eq!(generating(PromptForm::Beginning), ["0"]);
    }

    #[test]
    fn images_are_split_like_texts_and_carry_the_question() {
        let question = Question { labels: vec!["cat".into()], template: "a {}".into() };
        let task = Task(request::Task::ImageClassification);
        let template = Template { task, question, ..template(Some(2)) };
        let loose = ["a", "b", "c"].map(|file| Bytes::from_static(file.as_bytes())).to_vec();
        let jobs = jobs(&template, Content::Files(Input { loose, ..Input::default() }));
        assert_eq!(jobs.iter().map(items).collect::<Vec<_>>(), [2, 1]);
        let Some(WireTask::ImageClassification(input)) = &jobs[1].input.as_ref().unwrap().task
        else {
            panic!("another task")
        };
        assert_eq!(
            (input.images.as_slice(), input.labels.len()),
            ([Bytes::from("c")].as_slice(), 1)
        );
        assert_eq!(input.template, "a {}");
    }

    #[test]
    fn captions_begin_as_asked() {
        let caption = Caption { prompt: "a picture of".into(), max_tokens: 9 };
        let task = Task(request::Task::ImageCaptioning);
        let template = Template { task, caption, ..template(None) };
        let loose = vec![Bytes::from_static(b"a")];
        let jobs = jobs(&template, Content::Files(Input { loose, ..Input::default() }));
        let Some(WireTask::ImageCaptioning(input)) = &jobs[0].input.as_ref().unwrap().task else {
            panic!("another task")
        };
        let found = (input.prompt.as_str(), input.max_tokens, input.images.len());
        assert_eq!(found, ("a picture of", 9, 1));
    }
}
