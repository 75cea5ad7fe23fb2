//! One granted attempt: what proves the right to it, and what gives its delivery back.

use std::time::Duration;

use stoker_broker::Acker;
use stoker_core::ids::{Attempt, JobId, LeaseToken};
use stoker_core::request::Task;
use stoker_engine_api::{ItemInput, TaskKind};
use stoker_proto::convert::InputParts;
use stoker_proto::{convert, v1};
use stoker_runtime::crash;
use stoker_runtime::trace_context::TraceContext;
use tokio::sync::OwnedSemaphorePermit;

use crate::{faces, generation, images, speech};

/// Names an attempt and proves the right to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fence {
    pub job: JobId,
    pub attempt: Attempt,
    pub token: LeaseToken,
}

impl Fence {
    pub fn to_wire(self) -> v1::Fence {
        v1::Fence {
            job_id: self.job.to_string(),
            attempt: self.attempt.number(),
            token: self.token.as_bytes().to_vec(),
        }
    }
}

/// The broker's delivery behind an attempt, and the slot that the attempt takes. Dropping it frees
/// the slot and leaves the delivery unsettled.
#[derive(Debug)]
pub struct Ticket {
    acker: Box<dyn Acker>,
    slot: OwnedSemaphorePermit,
}

impl Ticket {
    pub fn new(acker: Box<dyn Acker>, slot: OwnedSemaphorePermit) -> Self {
        Self { acker, slot }
    }

    /// Takes the message off the queue, then frees the slot. A failure does no harm: the message
    /// comes again and its claim is refused.
    pub async fn settle(self) {
        if let Err(error) = crash::around("worker.ack", self.acker.ack()).await {
            tracing::debug!(%error, "delivery not acknowledged");
        }
        drop(self.slot);
    }
}

/// A job that this worker may run.
#[derive(Debug)]
pub struct Granted {
    /// The model's place in the worker's list.
    pub index: usize,
    pub fence: Fence,
    /// What the job wants done; `None` if it is something that this worker does not know. The
    /// attempt is this worker's all the same, and can be failed.
    pub work: Option<Work>,
    pub first_item: u32,
    pub alone: bool,
    pub slack: Duration,
    pub trace: TraceContext,
    pub ticket: Ticket,
}

/// What a job wants done with its items.
#[derive(Debug, PartialEq)]
pub struct Work {
    pub task: TaskKind,
    /// The model's prompt that is to stand before each input; empty for its default.
    pub prompt: String,
    pub inputs: Vec<ItemInput>,
}

impl Work {
    fn of(job: JobId, input: v1::JobInput) -> Option<Self> {
        let prompt = convert::input_prompt(&input).to_owned();
        Some(match convert::into_parts(input)? {
            InputParts::Texts(task, texts) => {
                let inputs = texts.into_iter().map(ItemInput::Text).collect();
                Self { task: task_kind(task), prompt, inputs }
            }
            InputParts::Images(files) => {
                let inputs = images::plain(files);
                Self { task: TaskKind::ImageEmbedding, prompt, inputs }
            }
            InputParts::ImageClassification(input) => {
                let inputs = images::asking(input);
                Self { task: TaskKind::ImageClassification, prompt, inputs }
            }
            InputParts::ImageCaptioning(input) => {
                let inputs = images::to_caption(input);
                Self { task: TaskKind::ImageCaptioning, prompt, inputs }
            }
            InputParts::Faces(task, images, options) => {
                let inputs = faces::inputs(&images, options);
                Self { task: task_kind(task), prompt, inputs }
            }
            InputParts::Generation(input) => {
                let inputs = generation::inputs(job, input)?;
                Self { task: TaskKind::TextGeneration, prompt, inputs }
            }
            InputParts::Speech(input) => {
                let inputs = speech::inputs(input);
                Self { task: TaskKind::SpeechToText, prompt, inputs }
            }
        })
    }
}

/// The engine's task for a task of the registry.
pub const fn task_kind(task: Task) -> TaskKind {
    match task {
        Task::TextEmbedding => TaskKind::TextEmbedding,
        Task::TextClassification => TaskKind::TextClassification,
        Task::TextGeneration => TaskKind::TextGeneration,
        Task::ImageEmbedding => TaskKind::ImageEmbedding,
        Task::ImageClassification => TaskKind::ImageClassification,
        Task::ImageCaptioning => TaskKind::ImageCaptioning,
        Task::FaceDetection => TaskKind::FaceDetection,
        Task::FaceEmbedding => TaskKind::FaceEmbedding,
        Task::SpeechToText => TaskKind::SpeechToText,
        Task::Echo => TaskKind::Echo,
    }
}

/// A grant without a usable fence: nothing can be said of its attempt, and its lease expires.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it has no attempt number or no token of 16 bytes")]
pub struct BadFence;

/// The parts of a grant, checked.
///
/// # Errors
/// When it proves no right to the attempt.
pub fn read_grant(
    job: JobId,
    grant: v1::Grant,
) -> Result<(Fence, Option<Work>, GrantTerms), BadFence> {
    let attempt = Attempt::new(grant.attempt).ok_or(BadFence)?;
    let token: [u8; 16] = grant.token.try_into().map_err(|_| BadFence)?;
    let mut work = grant.input.and_then(|input| Work::of(job, input));
    if let (Some(work), Some(begun)) = (&mut work, grant.begun) {
        generation::go_on(&mut work.inputs, begun);
    }
    let slack = grant.slack.and_then(|slack| Duration::try_from(slack).ok()).unwrap_or_default();
    let terms = GrantTerms {
        first_item: grant.first_item,
        alone: grant.run_alone,
        slack,
        trace: TraceContext::from_pairs(grant.trace),
    };
    Ok((Fence { job, attempt, token: LeaseToken::from_bytes(token) }, work, terms))
}

/// How a granted job is to be run.
#[derive(Debug)]
pub struct GrantTerms {
    pub first_item: u32,
    pub alone: bool,
    pub slack: Duration,
    pub trace: TraceContext,
}
