//! From a job as it is asked for on the wire to a [`JobRequest`].

use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;
use sha2::{Digest as _, Sha256};
use stoker_core::fleet::Limits;
use stoker_core::ids::{ClassName, ModelName};
use stoker_core::request::{Idempotency, JobRequest, Labels, Task};
use stoker_core::units::{ByteSize, HumanDuration};

use crate::status::FieldViolation;
use crate::v1;
use crate::well_known;

use super::faces::{check_faces, face_options};
use super::generation::check_generation;
use super::images::{check_caption, check_images, check_question};
use super::input::{Items, input_field, input_items, items_field};
use super::speech::check_speech;
use super::time::duration;
use super::violations::Violations;

#[cfg(test)]
mod tests;

/// Most jobs in one `SubmitBatch`.
pub const MAX_JOBS_PER_BATCH: usize = 1000;

const MAX_KEY_BYTES: usize = 255;
const MAX_LABELS: usize = 16;
const MAX_LABEL_KEY_BYTES: usize = 63;
const MAX_LABEL_VALUE_BYTES: usize = 255;

/// A stored input that is not one.
#[derive(Debug, thiserror::Error)]
#[error("decoding the stored input of a job")]
pub struct DecodeInputError(#[source] prost::DecodeError);

/// The input as [`JobRequest::input`] holds it.
pub fn decode_input(bytes: &[u8]) -> Result<v1::JobInput, DecodeInputError> {
    v1::JobInput::decode(bytes).map_err(DecodeInputError)
}

/// One job, or all that is wrong with it. `path` names the spec in the call, such as `job`.
pub fn job_request(
    mut spec: v1::JobSpec,
    limits: &Limits,
    path: &str,
) -> Result<JobRequest<Bytes>, Vec<FieldViolation>> {
    let mut violations = Violations::default();
    let field = |name: &str| format!("{path}.{name}");
    let model = violations.note(model_name(&spec.model, &field("model")));
    let class = violations.note(class_name(&spec.class, &field("class")));
    check_key(&spec.idempotency_key, &field("idempotency_key"), &mut violations);
    check_labels(&spec.labels, &field("labels"), &mut violations);
    let deadline_after = violations.note(deadline(
        spec.deadline_after.as_ref(),
        limits.max_deadline,
        &field("deadline_after"),
    ));
    let input = check_input(spec.input.take(), limits, &field("input"), &mut violations);
    match (model, class, deadline_after, input) {
        (Some(model), Some(class), Some(deadline_after), Some(input)) if violations.is_empty() => {
            Ok(JobRequest {
                model,
                class,
                task: input.task,
                items: input.items,
                idempotency: idempotency(&mut spec, &input.bytes),
                input: input.bytes,
                deadline_after,
                labels: spec.labels,
            })
        }
        _ => Err(violations.into_vec()),
    }
}

/// The key, and the digest of everything else.
///
/// The digest is SHA-256 over the spec without key and input, preceded by its length, and the
/// encoded input. It is the same in every process: fields are encoded in order of their numbers,
/// maps in order of their keys, and fields that an older client does not know are not encoded.
fn idempotency(spec: &mut v1::JobSpec, input: &[u8]) -> Option<Idempotency> {
    let key = std::mem::take(&mut spec.idempotency_key);
    if key.is_empty() {
        return None;
    }
    let rest = spec.encode_to_vec();
    let length = u64::try_from(rest.len()).expect("a length fits into 64 bits");
    let request_digest = Sha256::new()
        .chain_update(length.to_be_bytes())
        .chain_update(&rest)
        .chain_update(input)
        .finalize()
        .into();
    Some(Idempotency { key, request_digest })
}

fn model_name(text: &str, field: &str) -> Result<ModelName, FieldViolation> {
    if text.is_empty() {
        return Err(FieldViolation::new(field, "is missing: name a model of the fleet"));
    }
    ModelName::new(text).map_err(|error| FieldViolation::new(field, error))
}

/// `None`: the fleet's default class.
fn class_name(text: &str, field: &str) -> Result<Option<ClassName>, FieldViolation> {
    if text.is_empty() {
        return Ok(None);
    }
    ClassName::new(text).map(Some).map_err(|error| FieldViolation::new(field, error))
}

fn deadline(
    value: Option<&well_known::Duration>,
    most: Duration,
    field: &str,
) -> Result<Option<Duration>, FieldViolation> {
    let Some(value) = value else { return Ok(None) };
    let deadline = duration(value, field)?;
    if deadline < Duration::from_millis(1) {
        return Err(FieldViolation::new(
            field,
            "must be at least 1ms; leave it out for no deadline",
        ));
    }
    if deadline > most {
        let most = HumanDuration::from(most);
        return Err(FieldViolation::new(field, format!("is longer than the fleet's {most}")));
    }
    Ok(Some(deadline))
}

fn check_key(key: &str, field: &str, violations: &mut Violations) {
    if key.len() > MAX_KEY_BYTES {
        let problem = format!("has {} bytes and may have {MAX_KEY_BYTES}", key.len());
        violations.add(FieldViolation::new(field, problem));
    } else if key.chars().any(char::is_control) {
        violations.add(FieldViolation::new(field, "has control characters: use printable text"));
    }
}

fn check_labels(labels: &Labels, field: &str, violations: &mut Violations) {
    if labels.len() > MAX_LABELS {
        let problem = format!("has {} pairs and may have {MAX_LABELS}", labels.len());
        return violations.add(FieldViolation::new(field, problem));
    }
    for (key, value) in labels {
        if !is_label_key(key) {
            let problem = format!(
                "the key `{key}` is not valid: use 1 to {MAX_LABEL_KEY_BYTES} characters of a-z, \
                 0-9, `-`, `_` and `.`, starting with a letter or digit"
            );
            violations.add(FieldViolation::new(field, problem));
            continue;
        }
        let problem = if value.len() > MAX_LABEL_VALUE_BYTES {
            format!("has {} bytes and may have {MAX_LABEL_VALUE_BYTES}", value.len())
        } else if value.chars().any(char::is_control) {
            "has control characters: use printable text".to_owned()
        } else {
            continue;
        };
        violations.add(FieldViolation::new(format!("{field}[{key}]"), problem));
    }
}

/// The rule of all names.
fn is_label_key(key: &str) -> bool {
    let is_first = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    key.len() <= MAX_LABEL_KEY_BYTES
        && key.bytes().next().is_some_and(is_first)
        && key.bytes().all(|b| is_first(b) || b"-_.".contains(&b))
}

/// A checked input.
struct Input {
    task: Task,
    items: u32,
    bytes: Bytes,
}

fn check_input(
    input: Option<v1::JobInput>,
    limits: &Limits,
    field: &str,
    violations: &mut Violations,
) -> Option<Input> {
    let input = input.unwrap_or_default();
    let Some((task, items)) = input_items(&input) else {
        let problem = "is missing: set the input of one task, such as text_embedding";
        violations.add(FieldViolation::new(field, problem));
        return None;
    };
    let task_field = format!("{field}.{}", input_field(task));
    let items_field = format!("{task_field}.{}", items_field(task));
    let count = violations.note(count(items, limits.max_items, &items_field))?;
    // Measured before it is encoded, so that an oversized request costs no second copy.
    let bytes = u64::try_from(input.encoded_len()).unwrap_or(u64::MAX);
    if bytes > limits.max_input_bytes {
        let most = ByteSize::from_bytes(limits.max_input_bytes);
        let problem = format!("has {bytes} bytes and may have {most}: split the job");
        violations.add(FieldViolation::new(field, problem));
        return None;
    }
    match items {
        Items::Texts(texts) => check_blank(task, texts, &items_field, violations),
        Items::Prompts(_) => {
            if let Some(v1::job_input::Task::TextGeneration(input)) = &input.task {
                check_generation(input, &task_field, violations);
            }
        }
        Items::Images(images) => {
            check_images(images, &limits.image, &items_field, violations);
            if let Some(v1::job_input::Task::ImageClassification(input)) = &input.task {
                check_question(input, &task_field, violations);
            }
            if let Some(v1::job_input::Task::ImageCaptioning(input)) = &input.task {
                check_caption(input, &task_field, violations);
            }
            if let Some(options) = face_options(&input) {
                check_faces(options, &format!("{task_field}.options"), violations);
            }
        }
        Items::Recordings(_) => {
            if let Some(v1::job_input::Task::SpeechToText(input)) = &input.task {
                check_speech(input, &task_field, violations);
            }
        }
    }
    check_lengths(items, limits, &items_field, violations);
    Some(Input { task, items: count, bytes: input.encode_to_vec().into() })
}

fn count(items: Items<'_>, most: u32, field: &str) -> Result<u32, FieldViolation> {
    let problem = match u32::try_from(items.len()) {
        Ok(0) => "is empty: a job has at least one item".to_owned(),
        Ok(items) if items <= most => return Ok(items),
        Ok(_) | Err(_) => format!("has {} items and may have {most}: split the job", items.len()),
    };
    Err(FieldViolation::new(field, problem))
}

fn check_lengths(items: Items<'_>, limits: &Limits, field: &str, violations: &mut Violations) {
    let (most, remedy) = match items {
        Items::Texts(_) | Items::Prompts(_) => (limits.max_text_bytes, "split the text"),
        Items::Recordings(_) => (limits.max_recording_bytes, "split or compress the recording"),
        // Checked together with what their first bytes say.
        Items::Images(_) => return,
    };
    for (index, bytes) in items.bytes().into_iter().enumerate() {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        if bytes <= most {
            continue;
        }
        let most = ByteSize::from_bytes(most);
        let problem = format!("has {bytes} bytes and may have {most}: {remedy}");
        violations.add(FieldViolation::new(format!("{field}[{index}]"), problem));
        if violations.is_full() {
            return;
        }
    }
}

fn check_blank(task: Task, texts: &[String], field: &str, violations: &mut Violations) {
    match task {
        Task::TextEmbedding | Task::TextClassification => {}
        Task::TextGeneration
        | Task::ImageEmbedding
        | Task::ImageClassification
        | Task::ImageCaptioning
        | Task::FaceDetection
        | Task::FaceEmbedding
        | Task::SpeechToText
        | Task::Echo => return,
    }
    for (index, text) in texts.iter().enumerate() {
        if !text.trim().is_empty() {
            continue;
        }
        let problem = "is empty: leave it out, or give it a text";
        violations.add(FieldViolation::new(format!("{field}[{index}]"), problem));
        if violations.is_full() {
            return;
        }
    }
}
