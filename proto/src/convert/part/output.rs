//! The kinds of outputs: which task makes which, whether one is whole, and how its first items are
//! taken away.

use stoker_core::labels;
use stoker_core::request::Task;

use crate::status::FieldViolation;
use crate::v1;
use crate::v1::result_part::Output;

use super::super::faces::faces_problem;
use super::super::speech::transcripts_problem;

/// Bytes of a vector's component and of a score: both are binary32.
const NUMBER_BYTES: usize = 4;

/// The field of `ResultPart` that a task's output is in.
const fn field_of(task: Task) -> &'static str {
    match task {
        Task::TextEmbedding | Task::ImageEmbedding => "embeddings",
        Task::TextClassification | Task::ImageClassification => "classifications",
        Task::TextGeneration | Task::ImageCaptioning => "generations",
        Task::FaceDetection | Task::FaceEmbedding => "faces",
        Task::SpeechToText => "transcripts",
        Task::Echo => "texts",
    }
}

const fn field(output: &Output) -> &'static str {
    match output {
        Output::Embeddings(_) => "embeddings",
        Output::Classifications(_) => "classifications",
        Output::Generations(_) => "generations",
        Output::Faces(_) => "faces",
        Output::Transcripts(_) => "transcripts",
        Output::Texts(_) => "texts",
    }
}

/// Whether it is the task's output, of `items` items, and whole.
pub(super) fn check(
    output: Option<&Output>,
    task: Task,
    items: u32,
    path: &str,
) -> Result<(), FieldViolation> {
    let Some(output) = output.filter(|output| field(output) == field_of(task)) else {
        let problem =
            format!("must be `{}`, the output of the task {}", field_of(task), task.name());
        return Err(FieldViolation::new(format!("{path}.output"), problem));
    };
    match output_problem(output, items) {
        None => Ok(()),
        Some((name, problem)) => Err(FieldViolation::new(format!("{path}.{name}"), problem)),
    }
}

/// What keeps an output from being that of `items` items: the field in the part, and the problem.
pub fn output_problem(output: &Output, items: u32) -> Option<(&'static str, String)> {
    match output {
        Output::Embeddings(embeddings) => embeddings_problem(embeddings, items),
        Output::Classifications(classifications) => classifications_problem(classifications, items),
        Output::Generations(generations) => generations_problem(generations, items),
        Output::Faces(faces) => faces_problem(faces, items),
        Output::Transcripts(transcripts) => transcripts_problem(transcripts, items),
        Output::Texts(texts) => (u32::try_from(texts.texts.len()) != Ok(items))
            .then(|| ("texts", format!("has {} texts for {items} items", texts.texts.len()))),
    }
}

fn embeddings_problem(embeddings: &v1::Embeddings, items: u32) -> Option<(&'static str, String)> {
    let dimensions = embeddings.dimensions;
    if dimensions == 0 {
        let problem = "is 0: a vector has at least one component".to_owned();
        return Some(("embeddings.dimensions", problem));
    }
    let expected = bytes_of(items, u64::from(dimensions));
    let found = embeddings.vectors.len();
    (u128::try_from(found) != Ok(expected)).then(|| {
        let problem = format!(
            "has {found} bytes: {items} vectors of {dimensions} components of 4 bytes have {expected}"
        );
        ("embeddings.vectors", problem)
    })
}

fn generations_problem(
    generations: &v1::Generations,
    items: u32,
) -> Option<(&'static str, String)> {
    let generations = &generations.generations;
    if u32::try_from(generations.len()) != Ok(items) {
        let problem = format!("has {} texts for {items} items", generations.len());
        return Some(("generations", problem));
    }
    let unknown = |one: &v1::Generation| one.finish() == v1::FinishReason::Unspecified;
    generations
        .iter()
        .any(unknown)
        .then(|| ("generations", "has a text that does not say why it ended".to_owned()))
}

fn classifications_problem(
    classifications: &v1::Classifications,
    items: u32,
) -> Option<(&'static str, String)> {
    let v1::Classifications { labels: names, scores, exclusive: _, truncated } = classifications;
    if let Some(problem) = labels::problem(names) {
        return Some(("classifications.labels", format!("is not valid: {problem}")));
    }
    let expected = bytes_of(items, u64::try_from(names.len()).unwrap_or(u64::MAX));
    let problem = if u128::try_from(scores.len()) != Ok(expected) {
        let (found, labels) = (scores.len(), names.len());
        format!("has {found} bytes: {items} items with {labels} scores of 4 bytes have {expected}")
    } else if !numbers(scores).all(|score| (0.0..=1.0).contains(&score)) {
        "has a number that is not from 0 to 1".to_owned()
    } else {
        let ascending = truncated.is_sorted_by(|one, next| one < next);
        let inside = truncated.last().is_none_or(|last| *last < items);
        return (!ascending || !inside).then(|| {
            let problem = format!("are not indexes of the {items} items in ascending order");
            ("classifications.truncated", problem)
        });
    };
    Some(("classifications.scores", problem))
}

/// The output without its first `count` items; `None` if it has not as many.
pub(super) fn skip(output: Output, count: usize) -> Option<Output> {
    Some(match output {
        Output::Embeddings(mut embeddings) => {
            let offset = row_bytes(embeddings.dimensions)?.checked_mul(count)?;
            let whole = offset <= embeddings.vectors.len();
            embeddings.vectors = whole.then(|| embeddings.vectors.slice(offset..))?;
            Output::Embeddings(embeddings)
        }
        Output::Classifications(mut classifications) => {
            let offset = classifications.labels.len().checked_mul(NUMBER_BYTES * count)?;
            let whole = offset <= classifications.scores.len();
            classifications.scores = whole.then(|| classifications.scores.slice(offset..))?;
            let count = u32::try_from(count).ok()?;
            classifications.truncated = classifications
                .truncated
                .into_iter()
                .filter_map(|index| index.checked_sub(count))
                .collect();
            Output::Classifications(classifications)
        }
        Output::Generations(mut generations) => {
            let whole = count <= generations.generations.len();
            generations.generations = whole.then(|| generations.generations.split_off(count))?;
            Output::Generations(generations)
        }
        Output::Faces(mut faces) => {
            let whole = count <= faces.images.len();
            faces.images = whole.then(|| faces.images.split_off(count))?;
            Output::Faces(faces)
        }
        Output::Transcripts(mut transcripts) => {
            let whole = count <= transcripts.transcripts.len();
            transcripts.transcripts = whole.then(|| transcripts.transcripts.split_off(count))?;
            Output::Transcripts(transcripts)
        }
        Output::Texts(mut texts) => {
            let whole = count <= texts.texts.len();
            texts.texts = whole.then(|| texts.texts.split_off(count))?;
            Output::Texts(texts)
        }
    })
}

/// Little-endian binary32 values; bytes that make no whole value at the end are left out.
pub fn numbers(bytes: &[u8]) -> impl Iterator<Item = f32> + '_ {
    bytes.as_chunks::<NUMBER_BYTES>().0.iter().map(|number| f32::from_le_bytes(*number))
}

/// Bytes of one vector; `None` if no memory could hold it.
pub fn row_bytes(numbers: u32) -> Option<usize> {
    usize::try_from(numbers).ok()?.checked_mul(NUMBER_BYTES)
}

fn bytes_of(items: u32, numbers: u64) -> u128 {
    u128::from(items) * u128::from(numbers) * 4
}
