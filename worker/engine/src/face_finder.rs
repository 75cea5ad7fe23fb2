//! Finding faces on images, and making vectors of them, as an engine.
//!
//! Each image is looked over by itself, so that what is found on it does not depend on others; the faces of all images
//! of a batch then become vectors together.

mod canary;
mod load;
#[cfg(test)]
mod tests;

use std::fmt;
use std::num::NonZeroU32;

use candle_core::{Device, Tensor};
use stoker_core::face::{FaceSearch, most_problem, smallest_problem};
use stoker_core::image::ImageLimits;
use stoker_engine_api::{
    Engine, EngineError, EngineInfo, Face, FaceInput, Faces, ItemError, ItemInput, ItemOutput,
    Prepared, TaskKind,
};

use crate::ModelOptions;
use crate::device::{classify, finite};
use crate::faces::{Candidate, Detector, Recognizer, RecognizerConfig, Region, cut_out};
use crate::images::{Filter, Pixels, Window, decode, resize};

/// Pixels of an image that cost a batch one token.
const PIXELS_PER_TOKEN: u64 = 1_024;

/// What is made of faces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaceTask {
    /// They are found.
    Detection,
    /// And become vectors.
    Embedding,
}

impl FaceTask {
    /// `None` for a task that is not about faces.
    pub const fn of(task: TaskKind) -> Option<Self> {
        match task {
            TaskKind::FaceDetection => Some(Self::Detection),
            TaskKind::FaceEmbedding => Some(Self::Embedding),
            TaskKind::TextEmbedding
            | TaskKind::TextClassification
            | TaskKind::TextGeneration
            | TaskKind::ImageEmbedding
            | TaskKind::ImageClassification
            | TaskKind::ImageCaptioning
            | TaskKind::SpeechToText
            | TaskKind::Echo => None,
        }
    }

    /// What a face costs a batch. A vector takes a slow core as long as a worker grants to so many tokens.
    const fn tokens_per_face(self) -> u32 {
        match self {
            Self::Detection => 1,
            Self::Embedding => 16,
        }
    }

    pub const fn kind(self) -> TaskKind {
        match self {
            Self::Detection => TaskKind::FaceDetection,
            Self::Embedding => TaskKind::FaceEmbedding,
        }
    }
}

/// What to load and how to run it. The search for faces computes with f32 whatever the precision.
#[derive(Debug, Clone)]
pub struct FaceOptions {
    pub model: ModelOptions,
    pub task: FaceTask,
    /// Sum of costs that a batch should stay within; by default what suits the device.
    pub max_batch_tokens: Option<NonZeroU32>,
    /// Checked before an image is decoded.
    pub limits: ImageLimits,
}

/// A loaded model.
pub struct FaceFinder {
    info: EngineInfo,
    task: FaceTask,
    limits: ImageLimits,
    detector: Detector,
    /// None where faces are only found.
    recognizing: Option<Recognizing>,
}

/// What makes vectors.
struct Recognizing {
    network: Recognizer,
    config: RecognizerConfig,
    device: Device,
    /// Faces of one forward pass.
    at_once: usize,
}

impl fmt::Debug for FaceFinder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaceFinder").field("info", &self.info).finish_non_exhaustive()
    }
}

/// An image, decoded, and what is looked for on it.
#[derive(Debug)]
pub struct PreparedFaces {
    image: Pixels,
    search: FaceSearch,
    cost: u32,
}

impl Prepared for PreparedFaces {
    fn cost(&self) -> u32 {
        self.cost
    }
}

/// Tokens of an image of so many pixels: what it takes to look over it, and to make of its faces what the task makes.
/// How many there are is not known before, so it is as many as there is room for.
fn cost(pixels: u64, search: FaceSearch, task: FaceTask) -> u32 {
    let looked_over = u32::try_from(pixels.div_ceil(PIXELS_PER_TOKEN)).unwrap_or(u32::MAX);
    looked_over.saturating_add(search.most_on(pixels).saturating_mul(task.tokens_per_face()))
}

impl Engine for FaceFinder {
    type Prepared = PreparedFaces;

    fn info(&self) -> &EngineInfo {
        &self.info
    }

    fn prepare(&self, input: ItemInput) -> Result<PreparedFaces, ItemError> {
        let FaceInput { file, smallest, most } = match input {
            ItemInput::Faces(input) => *input,
            other @ (ItemInput::Text(_)
            | ItemInput::Generation(_)
            | ItemInput::Image(_)
            | ItemInput::Caption(_)
            | ItemInput::Recording(_)) => {
                let expected = "an image with faces";
                return Err(ItemError::wrong_kind(self.info.task, expected, &other));
            }
        };
        let problem = smallest_problem(smallest).map(|problem| format!("smallest_face {problem}"));
        let problem =
            problem.or_else(|| most_problem(most).map(|problem| format!("max_faces {problem}")));
        if let Some(message) = problem {
            return Err(ItemError::Invalid { message });
        }
        let search = FaceSearch::of(smallest, most);
        let image = decode(&file, &self.limits)?;
        let pixels = u64::try_from(image.width * image.height).unwrap_or(u64::MAX);
        Ok(PreparedFaces { image, search, cost: cost(pixels, search, self.task) })
    }

    fn run(&self, items: &[&PreparedFaces]) -> Result<Vec<ItemOutput>, EngineError> {
        let find = |item: &&PreparedFaces| self.find(item).map_err(|error| classify(&error));
        let mut found = items.iter().map(find).collect::<Result<Vec<Faces>, EngineError>>()?;
        if let Some(recognizing) = &self.recognizing {
            recognizing.embed(items, &mut found)?;
        }
        Ok(found.into_iter().map(ItemOutput::Faces).collect())
    }
}

impl FaceFinder {
    /// The faces of an image, without vectors.
    fn find(&self, item: &PreparedFaces) -> candle_core::Result<Faces> {
        let PreparedFaces { image, search, cost: _ } = item;
        let mut found = self.detector.find(image, search.smallest)?;
        found.sort_by(|one, other| other.area().total_cmp(&one.area()));
        let most = usize::try_from(search.most).unwrap_or(usize::MAX);
        let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let left_out = count(found.len().saturating_sub(most));
        let faces = found.iter().take(most).map(face).collect();
        let (width, height) = (count(image.width), count(image.height));
        Ok(Faces { faces, left_out, width, height })
    }
}

fn face(found: &Candidate) -> Face {
    let Candidate { bounds, score, landmarks, .. } = *found;
    Face { bounds, probability: score, landmarks, vector: Vec::new() }
}

impl Recognizing {
    /// Gives each face its vector.
    fn embed(&self, items: &[&PreparedFaces], found: &mut [Faces]) -> Result<(), EngineError> {
        let faces = items.iter().zip(found.iter_mut());
        let mut faces: Vec<(&Pixels, &mut Face)> = faces
            .flat_map(|(item, found)| found.faces.iter_mut().map(move |face| (&item.image, face)))
            .collect();
        for some in faces.chunks_mut(self.at_once) {
            let seen: Vec<Vec<u8>> =
                some.iter().map(|(image, face)| self.see(image, &face.bounds)).collect();
            let seen: Vec<&[u8]> = seen.iter().map(Vec::as_slice).collect();
            for ((_, face), vector) in some.iter_mut().zip(self.vectors(&seen)?) {
                face.vector = vector;
            }
        }
        Ok(())
    }

    /// A face as the network sees it: rows of pixels, each red, green and blue.
    #[expect(clippy::cast_precision_loss, reason = "sides are checked to be small")]
    fn see(&self, image: &Pixels, bounds: &[f32; 4]) -> Vec<u8> {
        let RecognizerConfig { image_size: side, margin, .. } = self.config;
        let region = cut_out(bounds, margin as f32, side as f32, image);
        let window = || Window { whole: side, seen: 0..side };
        resize(&cut(image, &region), &window(), &window(), Filter::Bilinear)
    }

    /// The vectors of faces, each as the network sees it.
    fn vectors(&self, faces: &[&[u8]]) -> Result<Vec<Vec<f32>>, EngineError> {
        let side = self.config.image_size;
        let number = |byte: &u8| (f32::from(*byte) - 127.5) / 128.0;
        let planes = faces.iter().flat_map(|face| {
            (0..3).flat_map(move |color| face.iter().skip(color).step_by(3)).map(number)
        });
        let vectors = Tensor::from_vec(
            planes.collect::<Vec<f32>>(),
            (faces.len(), 3, side, side),
            &self.device,
        )
        .and_then(|faces| self.network.vectors(&faces))
        .map_err(|error| classify(&error))?;
        finite(vectors)
    }
}

/// A part of an image as one of its own.
fn cut(image: &Pixels, region: &Region) -> Pixels {
    let Region { left, top, right, bottom } = *region;
    let rows = image.bytes.chunks_exact(image.width * 3).take(bottom).skip(top);
    let bytes = rows.flat_map(|row| &row[left * 3..right * 3]).copied().collect();
    Pixels { width: right - left, height: bottom - top, bytes }
}
