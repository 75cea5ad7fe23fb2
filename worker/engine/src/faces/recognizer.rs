//! Inception-ResNet-v1, as `FaceNet` uses it: a face becomes a vector of length 1 that is close to those of other images
//! of the same person.
//!
//! What follows each convolution in training, its batch norm, is part of its weights here.

use candle_core::{D, DType, Result, Tensor};

use super::config::RecognizerConfig;
use super::layers::{After, Convolution, Dense, Kernel, largest_inside};
use crate::LoadError;
use crate::source::Source;

/// What keeps a batch norm from dividing by nothing.
const EPSILON: f32 = 1e-3;

/// Convolutions one after the other.
struct Branch(Vec<Convolution>);

impl Branch {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.0.iter().try_fold(x.clone(), |x, layer| layer.forward(&x))
    }

    fn bytes(&self) -> usize {
        self.0.iter().map(Convolution::bytes).sum()
    }
}

/// Branches side by side, and what is made of them is added to what they saw.
struct Block {
    branches: Vec<Branch>,
    joined: Convolution,
    after: After,
}

impl Block {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let sum = (self.joined.forward(&side_by_side(&self.branches, x, None)?)? + x)?;
        self.after.of(&sum)
    }

    fn bytes(&self) -> usize {
        self.branches.iter().map(Branch::bytes).sum::<usize>() + self.joined.bytes()
    }
}

/// Branches side by side that make an image half as large, beside the largest of what they saw.
struct Reduction(Vec<Branch>);

impl Reduction {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        side_by_side(&self.0, x, Some(largest_inside(x, 3)?))
    }

    fn bytes(&self) -> usize {
        self.0.iter().map(Branch::bytes).sum()
    }
}

fn side_by_side(branches: &[Branch], x: &Tensor, beside: Option<Tensor>) -> Result<Tensor> {
    let mut parts = Vec::with_capacity(branches.len() + 1);
    for branch in branches {
        parts.push(branch.forward(x)?);
    }
    parts.extend(beside);
    Tensor::cat(&parts, 1)
}

/// The network.
pub(crate) struct Recognizer {
    stem: [Branch; 2],
    blocks: [Vec<Block>; 3],
    reductions: [Reduction; 2],
    last: Dense,
    dtype: DType,
}

impl Recognizer {
    /// # Errors
    /// When weights are missing, do not fit the configuration, or are too large for the precision.
    pub(crate) fn load(
        top: &Source<'_>,
        config: &RecognizerConfig,
    ) -> std::result::Result<Self, LoadError> {
        let layers =
            Layers { source: Source { prefix: "resnet.", ..*top }, unit: config.channels / 2 };
        let blocks =
            |count: usize, load: &dyn Fn(usize) -> std::result::Result<Block, LoadError>| {
                (0..count).map(load).collect::<std::result::Result<Vec<Block>, LoadError>>()
            };
        let mut last =
            blocks(5, &|number| layers.block_8(&format!("repeat_3.{number}"), 0.2, After::Relu))?;
        last.push(layers.block_8("block8", 1.0, After::Nothing)?);
        Ok(Self {
            stem: layers.stem()?,
            blocks: [
                blocks(5, &|number| layers.block_35(&format!("repeat_1.{number}")))?,
                blocks(10, &|number| layers.block_17(&format!("repeat_2.{number}")))?,
                last,
            ],
            reductions: [layers.reduction_a()?, layers.reduction_b()?],
            last: layers.last(config.dimensions)?,
            dtype: top.precision.dtype(),
        })
    }

    /// Memory that all tensors take together.
    pub(crate) fn bytes(&self) -> usize {
        let stem: usize = self.stem.iter().map(Branch::bytes).sum();
        let blocks: usize = self.blocks.iter().flatten().map(Block::bytes).sum();
        let reductions: usize = self.reductions.iter().map(Reduction::bytes).sum();
        stem + blocks + reductions + self.last.bytes()
    }

    /// A vector for each of some faces, which are a plane per color each, with numbers around zero.
    ///
    /// # Errors
    /// When the device fails.
    pub(crate) fn vectors(&self, faces: &Tensor) -> Result<Vec<Vec<f32>>> {
        let [first, second] = &self.stem;
        let mut x = first.forward(&faces.to_dtype(self.dtype)?)?;
        x = second.forward(&largest_inside(&x, 3)?)?;
        for (stage, blocks) in self.blocks.iter().enumerate() {
            for block in blocks {
                x = block.forward(&x)?;
            }
            if let Some(reduction) = self.reductions.get(stage) {
                x = reduction.forward(&x)?;
            }
        }
        let means = x.to_dtype(DType::F32)?.mean((D::Minus2, D::Minus1))?;
        let mut vectors = self.last.forward(&means)?.to_vec2::<f32>()?;
        for vector in &mut vectors {
            normalize(vector);
        }
        Ok(vectors)
    }
}

/// Scales a vector to length 1.
fn normalize(vector: &mut [f32]) {
    let length = vector.iter().map(|number| number * number).sum::<f32>().sqrt().max(1e-12);
    for number in vector {
        *number /= length;
    }
}

/// Loads layers, whose widths are multiples of `unit`, half the first one's.
struct Layers<'a> {
    source: Source<'a>,
    unit: usize,
}

type Loaded<T> = std::result::Result<T, LoadError>;

impl Layers<'_> {
    /// Two stretches of layers: between them is the first pooling.
    fn stem(&self) -> Loaded<[Branch; 2]> {
        let unit = self.unit;
        let first = Kernel::square(3, 2 * unit, 3).strided(2);
        Ok([
            Branch(vec![
                self.normed("conv2d_1a", first)?,
                self.normed("conv2d_2a", self.square(2, 2, 3))?,
                self.normed("conv2d_2b", self.even(2, 4, [3, 3]))?,
            ]),
            Branch(vec![
                self.normed("conv2d_3b", self.square(4, 5, 1))?,
                self.normed("conv2d_4a", self.square(5, 12, 3))?,
                self.normed("conv2d_4b", self.square(12, 16, 3).strided(2))?,
            ]),
        ])
    }

    fn block_35(&self, name: &str) -> Loaded<Block> {
        let (narrow, wide) = (self.square(16, 2, 1), self.even(2, 2, [3, 3]));
        let branches = vec![
            self.branch(name, 0, &[narrow])?,
            self.branch(name, 1, &[narrow, wide])?,
            self.branch(name, 2, &[narrow, wide, wide])?,
        ];
        let joined = self.scaled(&format!("{name}.conv2d"), self.square(6, 16, 1), 0.17)?;
        Ok(Block { branches, joined, after: After::Relu })
    }

    fn block_17(&self, name: &str) -> Loaded<Block> {
        let narrow = self.square(56, 8, 1);
        let cross = [self.even(8, 8, [1, 7]), self.even(8, 8, [7, 1])];
        let branches = vec![
            self.branch(name, 0, &[narrow])?,
            self.branch(name, 1, &[narrow, cross[0], cross[1]])?,
        ];
        let joined = self.scaled(&format!("{name}.conv2d"), self.square(16, 56, 1), 0.1)?;
        Ok(Block { branches, joined, after: After::Relu })
    }

    fn block_8(&self, name: &str, scale: f32, after: After) -> Loaded<Block> {
        let narrow = self.square(112, 12, 1);
        let cross = [self.even(12, 12, [1, 3]), self.even(12, 12, [3, 1])];
        let branches = vec![
            self.branch(name, 0, &[narrow])?,
            self.branch(name, 1, &[narrow, cross[0], cross[1]])?,
        ];
        let joined = self.scaled(&format!("{name}.conv2d"), self.square(24, 112, 1), scale)?;
        Ok(Block { branches, joined, after })
    }

    fn reduction_a(&self) -> Loaded<Reduction> {
        let name = "mixed_6a";
        let last = self.square(12, 16, 3).strided(2);
        Ok(Reduction(vec![
            self.branch(name, 0, &[self.square(16, 24, 3).strided(2)])?,
            self.branch(name, 1, &[self.square(16, 12, 1), self.even(12, 12, [3, 3]), last])?,
        ]))
    }

    fn reduction_b(&self) -> Loaded<Reduction> {
        let name = "mixed_7a";
        let narrow = self.square(56, 16, 1);
        let last = |outputs| self.square(16, outputs, 3).strided(2);
        Ok(Reduction(vec![
            self.branch(name, 0, &[narrow, last(24)])?,
            self.branch(name, 1, &[narrow, last(16)])?,
            self.branch(name, 2, &[narrow, self.even(16, 16, [3, 3]), last(16)])?,
        ]))
    }

    fn last(&self, dimensions: usize) -> Loaded<Dense> {
        let source = &self.source.exact();
        let inputs = 112 * self.unit;
        let mut weights = source.floats("last_linear.weight", &[dimensions, inputs])?;
        let bias = folded(source, "last_bn", &mut weights, dimensions)?;
        Dense::new(source, (&weights, bias), inputs)
    }

    /// A branch of one convolution has no number for it.
    fn branch(&self, block: &str, branch: usize, kernels: &[Kernel]) -> Loaded<Branch> {
        let name = format!("{block}.branch{branch}");
        if let [kernel] = kernels
            && !self.source.has(&format!("{name}.0.conv.weight"))
        {
            return Ok(Branch(vec![self.normed(&name, *kernel)?]));
        }
        let layers = (0..).zip(kernels);
        let layer =
            |(number, kernel): (usize, &Kernel)| self.normed(&format!("{name}.{number}"), *kernel);
        layers.map(layer).collect::<Loaded<_>>().map(Branch)
    }

    fn square(&self, inputs: usize, outputs: usize, side: usize) -> Kernel {
        Kernel::square(inputs * self.unit, outputs * self.unit, side)
    }

    fn even(&self, inputs: usize, outputs: usize, size: [usize; 2]) -> Kernel {
        Kernel::even(inputs * self.unit, outputs * self.unit, size)
    }

    /// A convolution and its batch norm.
    fn normed(&self, layer: &str, kernel: Kernel) -> Loaded<Convolution> {
        let name = format!("{layer}.conv.weight");
        let mut weights = self.source.floats(&name, &kernel.shape())?;
        let bias = folded(&self.source, &format!("{layer}.bn"), &mut weights, kernel.outputs)?;
        Convolution::new(&self.source, kernel, (weights, bias), After::Relu)
    }

    /// A convolution whose outputs count by a share.
    fn scaled(&self, layer: &str, kernel: Kernel, scale: f32) -> Loaded<Convolution> {
        let floats = |part: &str, shape: &[usize]| {
            let numbers = self.source.floats(&format!("{layer}.{part}"), shape)?;
            Ok(numbers.into_iter().map(|number| number * scale).collect::<Vec<f32>>())
        };
        let parts = (floats("weight", &kernel.shape())?, floats("bias", &[kernel.outputs])?);
        Convolution::new(&self.source, kernel, parts, After::Nothing)
    }
}

/// Makes a batch norm part of the weights before it, which are a row for each output; gives their bias.
fn folded(
    source: &Source<'_>,
    norm: &str,
    weights: &mut [f32],
    outputs: usize,
) -> Loaded<Vec<f32>> {
    let numbers = |part: &str| source.floats(&format!("{norm}.{part}"), &[outputs]);
    let (scales, shifts) = (numbers("weight")?, numbers("bias")?);
    let (means, variances) = (numbers("running_mean")?, numbers("running_var")?);
    let mut bias = Vec::with_capacity(outputs);
    let rows = weights.chunks_exact_mut(weights.len() / outputs);
    for (output, row) in rows.enumerate() {
        let scale = scales[output] / (variances[output] + EPSILON).sqrt();
        for weight in row {
            *weight *= scale;
        }
        bias.push(shifts[output] - means[output] * scale);
    }
    if source.precision.holds(weights) && source.precision.holds(&bias) {
        return Ok(bias);
    }
    Err(LoadError::Range { name: format!("{}{norm}", source.prefix), precision: source.precision })
}
