//! The three networks of MTCNN: one that goes over a whole image, and two that look again at what it proposes.

use candle_core::{Result, Tensor};

use super::layers::{After, Convolution, Dense, Kernel, largest, slope};
use crate::LoadError;
use crate::source::Source;

/// What the first network sees at each place, and how far its places are apart, in pixels.
pub(super) const FIELD: usize = 12;
pub(super) const STEP: usize = 2;

/// Sides of what the second and the third network see.
pub(super) const REFINED: usize = 24;
pub(super) const FINISHED: usize = 48;

/// Numbers of an answer: how likely it is no face, and one; four shares by which its bounds are off; and from the last
/// network five places right and five down.
pub(super) const LIKELY: usize = 2;
pub(super) const SHIFT: usize = 4;
pub(super) const POINTS: usize = 10;

/// Goes over an image and answers for each place.
pub(super) struct Proposer {
    layers: [Convolution; 3],
    answer: Convolution,
}

impl Proposer {
    pub(super) fn load(top: &Source<'_>) -> std::result::Result<Self, LoadError> {
        let source = &Source { prefix: "pnet.", ..*top };
        let layers = [
            sloped(source, 1, Kernel::square(3, 10, 3))?,
            sloped(source, 2, Kernel::square(10, 16, 3))?,
            sloped(source, 3, Kernel::square(16, 32, 3))?,
        ];
        let (mut weights, mut bias) = (Vec::new(), Vec::new());
        for (layer, outputs) in [("conv4_1", LIKELY), ("conv4_2", SHIFT)] {
            weights.extend(source.floats(&format!("{layer}.weight"), &[outputs, 32, 1, 1])?);
            bias.extend(source.floats(&format!("{layer}.bias"), &[outputs])?);
        }
        let kernel = Kernel::square(32, LIKELY + SHIFT, 1);
        let answer = Convolution::new(source, kernel, (weights, bias), After::Nothing)?;
        Ok(Self { layers, answer })
    }

    /// A plane for each number of the answers.
    pub(super) fn forward(&self, image: &Tensor) -> Result<Tensor> {
        let [first, second, third] = &self.layers;
        let x = largest(&first.forward(image)?, 2)?;
        self.answer.forward(&third.forward(&second.forward(&x)?)?)
    }

    pub(super) fn bytes(&self) -> usize {
        self.layers.iter().map(Convolution::bytes).sum::<usize>() + self.answer.bytes()
    }
}

/// Looks again at what was proposed.
pub(super) struct Refiner {
    layers: [Convolution; 3],
    hidden: Dense,
    answer: Dense,
}

impl Refiner {
    pub(super) fn load(top: &Source<'_>) -> std::result::Result<Self, LoadError> {
        let source = &Source { prefix: "rnet.", ..*top };
        Ok(Self {
            layers: [
                sloped(source, 1, Kernel::square(3, 28, 3))?,
                sloped(source, 2, Kernel::square(28, 48, 3))?,
                sloped(source, 3, Kernel::square(48, 64, 2))?,
            ],
            hidden: Dense::load(source, &[("dense4", 128)], 576)?.sloped(source, "prelu4")?,
            answer: Dense::load(source, &[("dense5_1", LIKELY), ("dense5_2", SHIFT)], 128)?,
        })
    }

    /// A row of numbers for each of some images.
    pub(super) fn forward(&self, images: &Tensor) -> Result<Tensor> {
        let [first, second, third] = &self.layers;
        let x = largest(&first.forward(images)?, 3)?;
        let x = third.forward(&largest(&second.forward(&x)?, 3)?)?;
        self.answer.forward(&self.hidden.forward(&flat(&x)?)?)
    }

    pub(super) fn bytes(&self) -> usize {
        let layers: usize = self.layers.iter().map(Convolution::bytes).sum();
        layers + self.hidden.bytes() + self.answer.bytes()
    }
}

/// Looks for the last time, and finds eyes, nose and mouth.
pub(super) struct Finisher {
    layers: [Convolution; 4],
    hidden: Dense,
    answer: Dense,
}

impl Finisher {
    pub(super) fn load(top: &Source<'_>) -> std::result::Result<Self, LoadError> {
        let source = &Source { prefix: "onet.", ..*top };
        let answers = [("dense6_1", LIKELY), ("dense6_2", SHIFT), ("dense6_3", POINTS)];
        Ok(Self {
            layers: [
                sloped(source, 1, Kernel::square(3, 32, 3))?,
                sloped(source, 2, Kernel::square(32, 64, 3))?,
                sloped(source, 3, Kernel::square(64, 64, 3))?,
                sloped(source, 4, Kernel::square(64, 128, 2))?,
            ],
            hidden: Dense::load(source, &[("dense5", 256)], 1_152)?.sloped(source, "prelu5")?,
            answer: Dense::load(source, &answers, 256)?,
        })
    }

    /// A row of numbers for each of some images.
    pub(super) fn forward(&self, images: &Tensor) -> Result<Tensor> {
        let [first, second, third, fourth] = &self.layers;
        let x = largest(&first.forward(images)?, 3)?;
        let x = largest(&second.forward(&x)?, 3)?;
        let x = fourth.forward(&largest(&third.forward(&x)?, 2)?)?;
        self.answer.forward(&self.hidden.forward(&flat(&x)?)?)
    }

    pub(super) fn bytes(&self) -> usize {
        let layers: usize = self.layers.iter().map(Convolution::bytes).sum();
        layers + self.hidden.bytes() + self.answer.bytes()
    }
}

fn sloped(
    source: &Source<'_>,
    number: usize,
    kernel: Kernel,
) -> std::result::Result<Convolution, LoadError> {
    let after = slope(source, &format!("prelu{number}"), kernel.outputs)?;
    Convolution::load(source, &format!("conv{number}"), kernel, after)
}

/// Planes as a row: columns first, then rows, then channels, as the weights have them.
fn flat(x: &Tensor) -> Result<Tensor> {
    x.permute((0, 3, 2, 1))?.contiguous()?.flatten_from(1)
}
