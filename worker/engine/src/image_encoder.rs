//! An encoder of images as an engine: embedding, and comparing with labels that a job names.

mod canary;
mod model;
mod questions;

use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Instant;

use stoker_core::image::ImageLimits;
use stoker_engine_api::{
    Engine, EngineError, EngineInfo, ImageInput, ItemError, ItemInput, ItemOutput, Labels,
    LoadSeconds, Prepared, Scores, TaskKind,
};

use crate::device::{self, classify};
use crate::images::ImageConfig;
use crate::loading::{self, FileSeconds, Loaded, Target, timed};
use crate::source::Source;
use crate::text_encoder::{CPU_TILE_TOKENS, default_budget};
use crate::tokens::{Length, Reading, TextTokenizer};
use crate::towers::{End, Fit, TextConfig, TextTower, VisionTower};
use crate::weights::WeightsFile;
use crate::{LoadError, ModelOptions};
use model::ModelConfig;
use questions::{Asked, Questions};

/// What an encoder of images is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImageTask {
    Embedding,
    Classification,
}

impl ImageTask {
    /// `None` for a task that is not about images.
    pub const fn of(task: TaskKind) -> Option<Self> {
        match task {
            TaskKind::ImageEmbedding => Some(Self::Embedding),
            TaskKind::ImageClassification => Some(Self::Classification),
            TaskKind::TextEmbedding
            | TaskKind::TextClassification
            | TaskKind::TextGeneration
            | TaskKind::ImageCaptioning
            | TaskKind::FaceDetection
            | TaskKind::FaceEmbedding
            | TaskKind::SpeechToText
            | TaskKind::Echo => None,
        }
    }

    pub const fn kind(self) -> TaskKind {
        match self {
            Self::Embedding => TaskKind::ImageEmbedding,
            Self::Classification => TaskKind::ImageClassification,
        }
    }
}

/// What to load and how to run it.
#[derive(Debug, Clone)]
pub struct ImageOptions {
    pub model: ModelOptions,
    pub task: ImageTask,
    /// Sum of costs that a batch should stay within; by default what suits the device.
    pub max_batch_tokens: Option<NonZeroU32>,
    /// Checked before an image is decoded.
    pub limits: ImageLimits,
}

/// A loaded model.
pub struct ImageEncoder {
    info: EngineInfo,
    images: ImageConfig,
    limits: ImageLimits,
    network: Network,
    /// Tokens of an image.
    tokens: u32,
    /// Images of one forward pass.
    tile: usize,
}

impl fmt::Debug for ImageEncoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ImageEncoder").field("info", &self.info).finish_non_exhaustive()
    }
}

/// What the network sees of an image, and what that is compared with.
#[derive(Debug)]
pub struct PreparedImage {
    /// Rows of pixels, each red, green and blue.
    seen: Vec<u8>,
    asked: Option<Arc<Asked>>,
    tokens: u32,
}

impl Prepared for PreparedImage {
    fn cost(&self) -> u32 {
        self.tokens
    }
}

/// All that has weights.
struct Network {
    vision: VisionTower,
    /// What values of colors stand for.
    numbers: [Vec<f32>; 3],
    labels: Option<LabelReader>,
}

/// What reads labels.
struct LabelReader {
    text: TextTower,
    questions: Questions,
}

impl ImageEncoder {
    /// Loads, verifies, warms up and tries a model.
    ///
    /// # Errors
    /// See [`LoadError`]; nothing is left behind.
    pub fn load(options: &ImageOptions) -> Result<Self, LoadError> {
        let start = Instant::now();
        let mut load = LoadSeconds::default();
        let images = ImageConfig::read(&options.model.directory)?;
        let config = ModelConfig::read(&options.model.directory, options.task, images.seen)?;
        let (device, precision) = options.model.open()?;
        let target = Target { device: &device, precision };
        let Loaded { network, beside: known, sha256 } =
            load_parts(options, (&config, &images), target, &mut load)?;
        let tokens = u32::try_from(config.tokens()).unwrap_or(u32::MAX);
        let budget = options.max_batch_tokens.map_or_else(|| default_budget(&device), u32::from);
        let info = EngineInfo {
            model: options.model.name.clone(),
            task: options.task.kind(),
            output_dimensions: match options.task {
                ImageTask::Embedding => u32::try_from(config.width()).ok(),
                ImageTask::Classification => None,
            },
            labels: network.labels.as_ref().map(LabelReader::labels),
            max_tokens: tokens,
            max_batch_tokens: budget.max(tokens),
            weights_bytes: u64::try_from(network.bytes()).unwrap_or(u64::MAX),
            weights_sha256: Some(sha256),
            lanes: options.model.lanes_on(&device),
            device: options.model.device.to_string(),
            load: LoadSeconds::default(),
        };
        let tile = if device.is_cpu() { CPU_TILE_TOKENS / config.tokens() } else { usize::MAX };
        let limits = options.limits;
        let mut engine = Self { info, images, limits, network, tokens, tile: tile.max(1) };
        timed(&mut load.warm_up, || {
            canary::try_engine(&engine, known.as_deref(), precision)?;
            canary::fit_budget(&mut engine)
        })?;
        load.elapsed = start.elapsed().as_secs_f64();
        engine.info.load = load;
        Ok(engine)
    }

    /// The vectors of images, each as much of it as is seen.
    fn vectors(&self, seen: &[&[u8]]) -> Result<Vec<Vec<f32>>, EngineError> {
        device::finite(self.network.vectors(seen).map_err(|error| classify(&error))?)
    }

    fn output(&self, vector: Vec<f32>, image: &PreparedImage) -> Result<ItemOutput, EngineError> {
        match (&image.asked, &self.network.labels) {
            (Some(asked), Some(labels)) => {
                let scores = labels.scores(&vector, asked).map_err(|error| classify(&error))?;
                Ok(ItemOutput::Scores(Scores { scores, truncated: false }))
            }
            (Some(_) | None, _) => Ok(ItemOutput::Embedding(vector)),
        }
    }
}

impl Engine for ImageEncoder {
    type Prepared = PreparedImage;

    fn info(&self) -> &EngineInfo {
        &self.info
    }

    fn prepare(&self, input: ItemInput) -> Result<PreparedImage, ItemError> {
        let ImageInput { file, question } = match input {
            ItemInput::Image(input) => *input,
            other @ (ItemInput::Text(_)
            | ItemInput::Generation(_)
            | ItemInput::Caption(_)
            | ItemInput::Faces(_)
            | ItemInput::Recording(_)) => {
                return Err(ItemError::wrong_kind(self.info.task, "an image", &other));
            }
        };
        let asked = match (&self.network.labels, question) {
            (Some(labels), Some(question)) => Some(labels.questions.ask(&question)?),
            (None, None) => None,
            (Some(_), None) => return Err(no_question("has no labels, and needs some")),
            (None, Some(_)) => return Err(no_question("has labels, and is to become a vector")),
        };
        let seen = self.images.see(&file, &self.limits)?;
        Ok(PreparedImage { seen, asked, tokens: self.tokens })
    }

    fn run(&self, items: &[&PreparedImage]) -> Result<Vec<ItemOutput>, EngineError> {
        let mut outputs = Vec::with_capacity(items.len());
        for tile in items.chunks(self.tile) {
            let seen: Vec<&[u8]> = tile.iter().map(|image| image.seen.as_slice()).collect();
            for (vector, image) in self.vectors(&seen)?.into_iter().zip(tile) {
                outputs.push(self.output(vector, image)?);
            }
        }
        Ok(outputs)
    }
}

fn no_question(what: &str) -> ItemError {
    ItemError::Invalid { message: format!("the image {what}") }
}

impl Network {
    /// Memory that all tensors take together.
    fn bytes(&self) -> usize {
        self.vision.bytes() + self.labels.as_ref().map_or(0, |labels| labels.text.bytes())
    }

    fn vectors(&self, seen: &[&[u8]]) -> candle_core::Result<Vec<Vec<f32>>> {
        if seen.is_empty() {
            return Ok(Vec::new());
        }
        self.vision.vectors(seen, &self.numbers)
    }
}

impl LabelReader {
    /// What is known of labels before a job names some.
    const fn labels(&self) -> Labels {
        let exclusive = matches!(self.text.comparison.fit, Fit::Shares);
        Labels { names: Vec::new(), exclusive }
    }

    /// One for each label.
    fn scores(&self, image: &[f32], asked: &Asked) -> candle_core::Result<Vec<f32>> {
        Ok(self.text.comparison.scores(image, &asked.vectors(&self.text)?))
    }
}

/// The network, and on a GPU a CPU's answer to the canary. Tokenizer, digest and that answer have a thread each, since
/// they are as slow as the rest.
fn load_parts(
    options: &ImageOptions,
    (config, images): (&ModelConfig, &ImageConfig),
    target: Target<'_>,
    load: &mut LoadSeconds,
) -> Result<Loaded<Network, Option<Vec<f32>>>, LoadError> {
    let LoadSeconds { read, digest, build, tokenizer, .. } = load;
    let file = WeightsFile::open(&options.model.directory)?;
    let answer = || canary::known_answer(&file.separately(), config, images);
    let known = || loading::known_for(target.device, answer);
    let questions = || {
        let text = config.text().filter(|_| options.task == ImageTask::Classification);
        text.map(|text| timed(tokenizer, || load_questions(options, text))).transpose()
    };
    let beside = || loading::both(known, questions);
    let networks = || load_networks(&file, config, options.task, target);
    let seconds = FileSeconds { read, build, digest };
    let loaded = loading::load(&file, options.model.digest.as_deref(), seconds, networks, beside)?;
    let Loaded { network: (vision, text), beside: (known, questions), sha256 } = loaded;
    let labels = text.zip(questions).map(|(text, questions)| LabelReader { text, questions });
    let network = Network { vision, numbers: images.numbers.clone(), labels };
    Ok(Loaded { network, beside: known, sha256 })
}

/// The network of texts where labels are read.
fn load_networks(
    file: &WeightsFile,
    config: &ModelConfig,
    task: ImageTask,
    target: Target<'_>,
) -> Result<(VisionTower, Option<TextTower>), LoadError> {
    let Target { device, precision } = target;
    let weights = file.tensors()?;
    let top = Source { weights: &weights, prefix: "", device, precision };
    let text = match task {
        ImageTask::Embedding => None,
        ImageTask::Classification => config.load_text(&top)?,
    };
    Ok((config.load_vision(&top)?, text))
}

fn load_questions(options: &ImageOptions, text: &TextConfig) -> Result<Questions, LoadError> {
    let length = match text.end {
        End::Token(_) | End::Largest => Length::Own,
        End::Last => Length::Longest,
    };
    let reading = Reading {
        lowercase: false,
        max_tokens: text.positions,
        vocabulary: text.vocabulary,
        length,
    };
    let tokenizer = TextTokenizer::load(&options.model.directory, reading)?;
    Ok(Questions::new(tokenizer, text.end))
}
