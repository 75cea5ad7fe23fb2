//! The results of one job on their way to the coordinator: put in any order, cut into parts in
//! order, sent as checkpoints or with the completion, and let go once they are stored.

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use stoker_engine_api::{Faces, ItemOutput, Labels, Scores};
use stoker_proto::v1::{
    self as wire, Classifications, Embeddings, FacesOfImage, Generation, Generations, ResultPart,
    Texts, Transcript, Transcripts, result_part::Output,
};

use crate::faces::wire_faces;
use crate::generation::wire_generation;
use crate::speech::wire_transcript;

/// A part is closed when it reaches this size, so that parts fit into calls of any size.
const PART_BYTES: usize = 1 << 20;

/// What a text costs on the wire besides its bytes.
const TEXT_OVERHEAD: usize = 6;

/// What a generated text may cost on the wire besides its bytes.
const GENERATION_OVERHEAD: usize = 32;

/// What a segment, or a transcript, may cost on the wire besides its texts.
const SEGMENT_OVERHEAD: usize = 32;

/// What a face may cost on the wire besides its vector: box, probability and five points.
const FACE_OVERHEAD: usize = 96;

/// What an image may cost on the wire besides its faces.
const IMAGE_OVERHEAD: usize = 24;

/// What an index may cost on the wire.
const INDEX_BYTES: usize = 5;

/// An output that does not fit to the others of its job, or to its own batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the engine mixed kinds or sizes of outputs in one job")]
pub(super) struct MixedOutputs;

/// An output, and what its scores are of if it has any.
#[derive(Debug)]
pub(super) struct Labeled {
    pub(super) output: ItemOutput,
    pub(super) labels: Option<Arc<Labels>>,
}

impl From<ItemOutput> for Labeled {
    fn from(output: ItemOutput) -> Self {
        Self { output, labels: None }
    }
}

/// Results that the coordinator does not have yet.
#[derive(Debug)]
pub(super) struct Results {
    /// Items of the whole job.
    total: u32,
    /// The first item that is in no part yet.
    next: u32,
    /// Outputs from item `next` on, as they arrive.
    window: VecDeque<Option<Labeled>>,
    open: Open,
    unsent: VecDeque<ResultPart>,
    unsent_bytes: usize,
    in_flight: Vec<ResultPart>,
}

/// The part that grows.
#[derive(Debug, Default)]
struct Open {
    first_item: u32,
    items: u32,
    bytes: usize,
    kind: Kind,
}

#[derive(Debug, Default)]
enum Kind {
    #[default]
    Nothing,
    Embeddings {
        dimensions: usize,
        vectors: Vec<u8>,
    },
    Scores {
        labels: Arc<Labels>,
        scores: Vec<u8>,
        truncated: Vec<u32>,
    },
    Texts(Vec<String>),
    Generations(Vec<Generation>),
    Faces {
        /// Of each face's vector; `None` while there is no face.
        dimensions: Option<usize>,
        images: Vec<FacesOfImage>,
    },
    Transcripts(Vec<Transcript>),
}

impl Results {
    /// For a job of `total` items of which those before `first_item` are stored.
    pub(super) fn new(total: u32, first_item: u32) -> Self {
        let next = first_item.min(total);
        Self {
            total,
            next,
            window: VecDeque::new(),
            open: Open { first_item: next, ..Open::default() },
            unsent: VecDeque::new(),
            unsent_bytes: 0,
            in_flight: Vec::new(),
        }
    }

    /// Adds the output of item `index`.
    ///
    /// # Errors
    /// When it is of another kind than the outputs before it.
    pub(super) fn put(
        &mut self,
        index: u32,
        output: impl Into<Labeled>,
    ) -> Result<(), MixedOutputs> {
        let Some(offset) = index.checked_sub(self.next) else { return Ok(()) };
        let offset = usize::try_from(offset).unwrap_or(usize::MAX);
        if self.window.len() <= offset {
            self.window.resize_with(offset + 1, || None);
        }
        if let Some(slot) = self.window.get_mut(offset) {
            *slot = Some(output.into());
        }
        while let Some(output) = self.window.front_mut().and_then(Option::take) {
            self.window.pop_front();
            if !self.open.has_labels_of(&output) {
                self.close();
            }
            let grown = self.open.add(output)?;
            self.unsent_bytes += grown;
            self.next += 1;
            if self.open.bytes >= PART_BYTES {
                self.close();
            }
        }
        Ok(())
    }

    /// The first item that is in no part yet.
    pub(super) const fn next(&self) -> u32 {
        self.next
    }

    /// The first item behind every output that is here.
    pub(super) fn end(&self) -> u32 {
        self.next.saturating_add(u32::try_from(self.window.len()).unwrap_or(u32::MAX))
    }

    /// The job ends before item `end`, which is not before [`Results::end`].
    pub(super) const fn end_at(&mut self, end: u32) {
        self.total = end;
    }

    pub(super) const fn is_complete(&self) -> bool {
        self.next >= self.total
    }

    /// Bytes that wait to be sent, without those in flight.
    pub(super) const fn unsent_bytes(&self) -> usize {
        self.unsent_bytes
    }

    pub(super) fn is_in_flight(&self) -> bool {
        !self.in_flight.is_empty()
    }

    /// Takes parts of at most `budget` bytes to be sent as a checkpoint; empty while another one is
    /// in flight.
    pub(super) fn checkpoint(&mut self, budget: usize) -> Vec<ResultPart> {
        if self.is_in_flight() {
            return Vec::new();
        }
        self.close();
        let mut left = budget;
        while let Some(part) = self.unsent.front() {
            let bytes = part_bytes(part);
            if bytes > left {
                break;
            }
            left -= bytes;
            self.unsent_bytes = self.unsent_bytes.saturating_sub(bytes);
            self.in_flight.extend(self.unsent.pop_front());
        }
        self.in_flight.clone()
    }

    /// The checkpoint in flight is stored.
    pub(super) fn confirm(&mut self) {
        self.in_flight.clear();
    }

    /// Whether the checkpoint in flight was stored is not known: it will be sent again, with the
    /// same borders.
    pub(super) fn give_back(&mut self) {
        for part in self.in_flight.drain(..).rev() {
            self.unsent_bytes += part_bytes(&part);
            self.unsent.push_front(part);
        }
    }

    /// Everything that is not known to be stored, in order and without a gap.
    pub(super) fn into_rest(mut self) -> Vec<ResultPart> {
        self.give_back();
        self.close();
        self.unsent.into()
    }

    fn close(&mut self) {
        let open = std::mem::take(&mut self.open);
        self.open.first_item = self.next;
        self.unsent.extend(open.into_part());
    }
}

impl Open {
    /// False for scores of another model than those in the part, which names its labels once: an
    /// engine that was started again may have found other files.
    fn has_labels_of(&self, output: &Labeled) -> bool {
        match (&self.kind, &output.labels) {
            (Kind::Scores { labels, .. }, Some(other)) => labels == other,
            (
                Kind::Nothing
                | Kind::Embeddings { .. }
                | Kind::Scores { .. }
                | Kind::Texts(_)
                | Kind::Generations(_)
                | Kind::Faces { .. }
                | Kind::Transcripts(_),
                _,
            ) => true,
        }
    }

    /// Returns the bytes added.
    fn add(&mut self, output: Labeled) -> Result<usize, MixedOutputs> {
        let Labeled { output, labels } = output;
        let added = match (&mut self.kind, output) {
            (Kind::Nothing, ItemOutput::Embedding(vector)) => {
                let vectors = le_bytes(&vector).collect::<Vec<u8>>();
                let added = vectors.len();
                self.kind = Kind::Embeddings { dimensions: vector.len(), vectors };
                added
            }
            (Kind::Embeddings { dimensions, vectors }, ItemOutput::Embedding(vector))
                if *dimensions == vector.len() =>
            {
                vectors.extend(le_bytes(&vector));
                vector.len() * size_of::<f32>()
            }
            (kind @ (Kind::Nothing | Kind::Scores { .. }), ItemOutput::Scores(output)) => {
                let labels = labels.ok_or(MixedOutputs)?;
                add_scores(kind, self.items, &output, labels)?
            }
            (Kind::Nothing, ItemOutput::Text(text)) => {
                let added = text.len() + TEXT_OVERHEAD;
                self.kind = Kind::Texts(vec![text]);
                added
            }
            (Kind::Texts(texts), ItemOutput::Text(text)) => {
                let added = text.len() + TEXT_OVERHEAD;
                texts.push(text);
                added
            }
            (Kind::Nothing, ItemOutput::Generation(generation)) => {
                let added = generation.text.len() + GENERATION_OVERHEAD;
                self.kind = Kind::Generations(vec![wire_generation(generation)]);
                added
            }
            (Kind::Generations(generations), ItemOutput::Generation(generation)) => {
                let added = generation.text.len() + GENERATION_OVERHEAD;
                generations.push(wire_generation(generation));
                added
            }
            (kind @ (Kind::Nothing | Kind::Faces { .. }), ItemOutput::Faces(faces)) => {
                add_faces(kind, faces)?
            }
            (kind @ (Kind::Nothing | Kind::Transcripts(_)), ItemOutput::Transcript(transcript)) => {
                add_transcript(kind, wire_transcript(transcript))
            }
            (
                Kind::Embeddings { .. }
                | Kind::Scores { .. }
                | Kind::Texts(_)
                | Kind::Generations(_)
                | Kind::Faces { .. }
                | Kind::Transcripts(_),
                _,
            ) => return Err(MixedOutputs),
        };
        self.items += 1;
        self.bytes += added;
        Ok(added)
    }

    fn into_part(self) -> Option<ResultPart> {
        let output = match self.kind {
            Kind::Nothing => return None,
            Kind::Embeddings { dimensions, vectors } => Output::Embeddings(Embeddings {
                dimensions: u32::try_from(dimensions).unwrap_or(u32::MAX),
                vectors: Bytes::from(vectors),
            }),
            Kind::Scores { labels, scores, truncated } => {
                let Labels { names, exclusive } = Arc::unwrap_or_clone(labels);
                let scores = Bytes::from(scores);
                Output::Classifications(Classifications {
                    labels: names,
                    scores,
                    exclusive,
                    truncated,
                })
            }
            Kind::Texts(texts) => Output::Texts(Texts { texts }),
            Kind::Generations(generations) => Output::Generations(Generations { generations }),
            Kind::Faces { dimensions, images } => {
                let dimensions = u32::try_from(dimensions.unwrap_or(0)).unwrap_or(u32::MAX);
                Output::Faces(wire::Faces { images, dimensions })
            }
            Kind::Transcripts(transcripts) => Output::Transcripts(Transcripts { transcripts }),
        };
        Some(ResultPart { first_item: self.first_item, items: self.items, output: Some(output) })
    }
}

/// Adds the scores of the item that `items` others are before. Returns the bytes added.
fn add_scores(
    kind: &mut Kind,
    items: u32,
    output: &Scores,
    labels: Arc<Labels>,
) -> Result<usize, MixedOutputs> {
    if output.scores.len() != labels.names.len() {
        return Err(MixedOutputs);
    }
    let mut added = 0;
    if matches!(kind, Kind::Nothing) {
        added += labels_bytes(&labels.names);
        *kind = Kind::Scores { labels, scores: Vec::new(), truncated: Vec::new() };
    }
    let Kind::Scores { scores, truncated, .. } = kind else { return Err(MixedOutputs) };
    scores.extend(le_bytes(&output.scores));
    added += output.scores.len() * size_of::<f32>();
    if output.truncated {
        truncated.push(items);
        added += INDEX_BYTES;
    }
    Ok(added)
}

fn labels_bytes(names: &[String]) -> usize {
    names.iter().map(|name| name.len() + TEXT_OVERHEAD).sum()
}

fn le_bytes(vector: &[f32]) -> impl Iterator<Item = u8> {
    vector.iter().flat_map(|value| value.to_le_bytes())
}

/// Adds the faces of an image to nothing or to others. Returns the bytes added.
fn add_faces(kind: &mut Kind, faces: Faces) -> Result<usize, MixedOutputs> {
    if matches!(kind, Kind::Nothing) {
        *kind = Kind::Faces { dimensions: None, images: Vec::new() };
    }
    let Kind::Faces { dimensions, images } = kind else { return Err(MixedOutputs) };
    for face in &faces.faces {
        if *dimensions.get_or_insert(face.vector.len()) != face.vector.len() {
            return Err(MixedOutputs);
        }
    }
    let faces = wire_faces(faces);
    let added = faces_bytes(&faces);
    images.push(faces);
    Ok(added)
}

/// A little more than the faces of an image take on the wire.
fn faces_bytes(image: &FacesOfImage) -> usize {
    let faces = image.faces.iter().map(|face| face.vector.len() + FACE_OVERHEAD);
    faces.sum::<usize>() + IMAGE_OVERHEAD
}

/// Adds a transcript to nothing or to others. Returns the bytes added.
fn add_transcript(kind: &mut Kind, transcript: Transcript) -> usize {
    let added = transcript_bytes(&transcript);
    if let Kind::Transcripts(transcripts) = kind {
        transcripts.push(transcript);
    } else {
        *kind = Kind::Transcripts(vec![transcript]);
    }
    added
}

/// A little more than a transcript takes on the wire.
fn transcript_bytes(transcript: &Transcript) -> usize {
    let segments = &transcript.segments;
    let texts: usize = segments.iter().map(|one| one.text.len() + SEGMENT_OVERHEAD).sum();
    transcript.text.len() + transcript.language.len() + SEGMENT_OVERHEAD + texts
}

/// Result bytes of a part, as the coordinator counts them (a little more for texts).
pub fn part_bytes(part: &ResultPart) -> usize {
    match &part.output {
        None => 0,
        Some(Output::Embeddings(embeddings)) => embeddings.vectors.len(),
        Some(Output::Classifications(Classifications { labels, scores, truncated, .. })) => {
            labels_bytes(labels) + scores.len() + truncated.len() * INDEX_BYTES
        }
        Some(Output::Texts(texts)) => {
            texts.texts.iter().map(|text| text.len() + TEXT_OVERHEAD).sum()
        }
        Some(Output::Generations(Generations { generations })) => {
            generations.iter().map(|one| one.text.len() + GENERATION_OVERHEAD).sum()
        }
        Some(Output::Faces(faces)) => faces.images.iter().map(faces_bytes).sum(),
        Some(Output::Transcripts(Transcripts { transcripts })) => {
            transcripts.iter().map(transcript_bytes).sum()
        }
    }
}
