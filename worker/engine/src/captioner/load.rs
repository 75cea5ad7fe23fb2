//! A captioner from a model's files.

use std::time::Instant;

use candle_core::Device;
use stoker_engine_api::{EngineInfo, LoadSeconds, TaskKind};

use super::canary::{self, Known};
use super::words::Words;
use super::{Captioner, CaptionerOptions};
use crate::blip::{Blip, BlipConfig};
use crate::images::{self, ImageConfig, Size};
use crate::loading::{self, FileSeconds, Loaded, timed};
use crate::source::Source;
use crate::text_encoder::{CPU_TILE_TOKENS, default_budget};
use crate::weights::WeightsFile;
use crate::{LoadError, Precision};

impl Captioner {
    /// Loads, verifies, warms up and tries a model.
    ///
    /// # Errors
    /// See [`LoadError`]; nothing is left behind.
    pub fn load(options: &CaptionerOptions) -> Result<Self, LoadError> {
        let start = Instant::now();
        let mut load = LoadSeconds::default();
        let config = BlipConfig::read(&options.model.directory)?;
        let images = ImageConfig::read(&options.model.directory)?;
        check_size(options, &config, &images)?;
        let (device, precision) = options.model.open()?;
        let Loaded { network, beside: (known, words), sha256 } =
            load_parts(options, (&config, &images), (&device, precision), &mut load)?;
        let tokens = config.vision.tokens();
        let most = u32::try_from(tokens + config.words.positions).unwrap_or(u32::MAX);
        let budget = options.max_batch_tokens.map_or_else(|| default_budget(&device), u32::from);
        let info = EngineInfo {
            model: options.model.name.clone(),
            task: TaskKind::ImageCaptioning,
            output_dimensions: None,
            labels: None,
            max_tokens: most,
            max_batch_tokens: budget.max(most),
            weights_bytes: u64::try_from(network.bytes()).unwrap_or(u64::MAX),
            weights_sha256: Some(sha256),
            lanes: options.model.lanes_on(&device),
            device: options.model.device.to_string(),
            load: LoadSeconds::default(),
        };
        let tile = if device.is_cpu() { CPU_TILE_TOKENS / tokens } else { usize::MAX };
        let (limits, tile) = (options.limits, tile.max(1));
        let mut engine = Self { info, images, limits, network, words, tokens, tile };
        timed(&mut load.warm_up, || {
            canary::try_engine(&engine, known.as_ref(), precision)?;
            canary::fit_budget(&mut engine)
        })?;
        load.elapsed = start.elapsed().as_secs_f64();
        engine.info.load = load;
        Ok(engine)
    }
}

/// The network sees a square of one size, which has to be what images become.
fn check_size(
    options: &CaptionerOptions,
    config: &BlipConfig,
    images: &ImageConfig,
) -> Result<(), LoadError> {
    let side = config.vision.side;
    let Size { width, height } = images.seen;
    if (width, height) == (side, side) {
        return Ok(());
    }
    let path = options.model.directory.join(images::FILE_NAME);
    let what = format!("images become {width} x {height} pixels, but image_size is {side}");
    Err(LoadError::Unsupported { path, what })
}

/// The network, and beside it the vocabulary and on a GPU what a CPU makes of the canary.
fn load_parts(
    options: &CaptionerOptions,
    (config, images): (&BlipConfig, &ImageConfig),
    (device, precision): (&Device, Precision),
    load: &mut LoadSeconds,
) -> Result<Loaded<Blip, (Option<Known>, Words)>, LoadError> {
    let LoadSeconds { read, digest, build, tokenizer, .. } = load;
    let directory = &options.model.directory;
    let file = WeightsFile::open(directory)?;
    let network = |file: &WeightsFile, device: &Device, precision: Precision| {
        let weights = file.tensors()?;
        Blip::load(&Source { weights: &weights, prefix: "", device, precision }, config)
    };
    let answer = || {
        let cpu = network(&file.separately(), &Device::Cpu, Precision::F32)?;
        canary::known_answer(&cpu, images, &config.words)
    };
    let known = || loading::known_for(device, answer);
    let words = || timed(tokenizer, || Words::read(directory, &config.words));
    let beside = || loading::both(known, words);
    let seconds = FileSeconds { read, build, digest };
    let network = || network(&file, device, precision);
    loading::load(&file, options.model.digest.as_deref(), seconds, network, beside)
}
