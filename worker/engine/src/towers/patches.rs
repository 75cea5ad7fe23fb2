//! From the pixels of an image to the tokens of a network.

use candle_core::{Result, Tensor};

use super::config::VisionConfig;
use crate::LoadError;
use crate::source::{Source, bytes};
use crate::texts::Texts;

/// Colors of a pixel.
pub(crate) const COLORS: usize = 3;

/// What tokens are made with, as a model's file has it: row by row.
pub(crate) struct TokenNumbers {
    /// A row for each number of a token: a patch's pixels, color by color.
    pub(crate) patches: Vec<f32>,
    /// A row that is added to each patch.
    pub(crate) bias: Option<Vec<f32>>,
    /// The leading tokens.
    pub(crate) leading: Vec<f32>,
    /// A row that is added to each token, for where it is.
    pub(crate) positions: Vec<f32>,
}

/// What makes tokens of images. Immutable.
pub(crate) struct Patches {
    config: VisionConfig,
    /// A patch's pixels, color by color, to its vector; ready to multiply from the right.
    weights: Tensor,
    /// The tokens before those of the patches, if there are any.
    leading: Option<Tensor>,
    /// What is added to each token: for where it is, and the bias of patches.
    positions: Tensor,
}

impl Patches {
    /// # Errors
    /// When the device has no memory for it.
    pub(crate) fn load(
        source: &Source<'_>,
        config: &VisionConfig,
        numbers: TokenNumbers,
    ) -> std::result::Result<Self, LoadError> {
        let VisionConfig { tower, patch, leading, .. } = config;
        let hidden = tower.hidden;
        let mut positions = numbers.positions;
        if let Some(bias) = numbers.bias {
            for row in positions.chunks_exact_mut(hidden).skip(*leading) {
                for (number, bias) in row.iter_mut().zip(&bias) {
                    *number += bias;
                }
            }
        }
        let leading = match *leading {
            0 => None,
            count => Some(source.table(numbers.leading, &[1, count, hidden])?),
        };
        Ok(Self {
            config: config.clone(),
            weights: source.matrix(&numbers.patches, COLORS * patch * patch)?,
            leading,
            positions: source.table(positions, &[config.tokens(), hidden])?,
        })
    }

    /// Memory that all tensors take together.
    pub(crate) fn bytes(&self) -> usize {
        [&self.weights, &self.positions].into_iter().chain(&self.leading).map(bytes).sum()
    }

    /// One row for each token of each image, and where the images lie in them. An image is `side` rows of `side`
    /// pixels, each red, green and blue; `numbers` are what their values stand for.
    pub(crate) fn tokens(
        &self,
        images: &[&[u8]],
        numbers: &[Vec<f32>; 3],
    ) -> Result<(Tensor, Texts)> {
        let (patches, tokens) = (self.config.patches(), self.config.tokens());
        let (count, hidden) = (images.len(), self.config.tower.hidden);
        let device = self.weights.device();
        let width = self.weights.dim(0)?;
        let pixels: Vec<f32> =
            images.iter().flat_map(|image| cut(image, &self.config, numbers)).collect();
        let pixels = Tensor::from_vec(pixels, (count * patches, width), device)?;
        let parts = pixels.to_dtype(self.weights.dtype())?.matmul(&self.weights)?;
        let parts = parts.reshape((count, patches, hidden))?;
        let parts = match &self.leading {
            None => parts,
            Some(leading) => {
                let leading = leading.broadcast_as((count, self.config.leading, hidden))?;
                Tensor::cat(&[&leading, &parts], 1)?
            }
        };
        let x = parts.broadcast_add(&self.positions)?.reshape((count * tokens, hidden))?;
        Ok((x, Texts::new(vec![tokens; count], device)?))
    }
}

/// The numbers of an image's patches, in rows and columns of patches; of each patch color by color.
fn cut<'a>(
    image: &'a [u8],
    config: &VisionConfig,
    numbers: &'a [Vec<f32>; 3],
) -> impl Iterator<Item = f32> + use<'a> {
    let VisionConfig { side, patch, .. } = *config;
    let starts = move || (0..side / patch).map(move |place| place * patch);
    let patches = starts().flat_map(move |top| starts().map(move |left| (top, left)));
    patches.flat_map(move |(top, left)| {
        numbers.iter().enumerate().flat_map(move |(color, numbers)| {
            (top..top + patch).flat_map(move |row| {
                let row = &image[(row * side + left) * COLORS..][..patch * COLORS];
                let values = row.iter().skip(color).step_by(COLORS);
                values.map(|value| numbers[usize::from(*value)])
            })
        })
    })
}
