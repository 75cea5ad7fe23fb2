//! Matrices whose numbers are kept as whole ones of eight bits, in blocks with a scale for each.

use std::ops::Range;

use half::f16;

use super::rows::Matrix;

/// Numbers that share a scale.
const BLOCK: usize = 32;

/// How a GGUF file writes a block, whose numbers are whole ones times a scale. All are of [`BLOCK`] numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BlockFormat {
    /// Of eight bits, signed.
    Q8_0,
    /// Of four bits, less eight.
    Q4_0,
    /// Of four bits, to which a least number of the block is added.
    Q4_1,
    /// Of five bits, less 16.
    Q5_0,
    /// Of five bits, to which a least number is added.
    Q5_1,
}

impl BlockFormat {
    /// Bytes of a block.
    const fn bytes(self) -> usize {
        match self {
            Self::Q8_0 => 34,
            Self::Q4_0 => 18,
            Self::Q4_1 => 20,
            Self::Q5_0 => 22,
            Self::Q5_1 => 24,
        }
    }
}

/// A matrix of such numbers, one row per output. Formats of less than eight bits, which no instruction reads, take eight.
pub(crate) struct Blocks {
    width: usize,
    wholes: Vec<i8>,
    /// One for each block, as what is added is.
    scales: Vec<f32>,
    /// Empty where nothing is added.
    least: Vec<f32>,
}

impl Blocks {
    /// From what a file holds of a matrix with rows of `width` numbers. `None`: that is no matrix of whole blocks.
    pub(crate) fn new(format: BlockFormat, bytes: &[u8], width: usize) -> Option<Self> {
        let (blocks, rest) = (bytes.chunks_exact(format.bytes()), bytes.len() % format.bytes());
        let numbers = blocks.len() * BLOCK;
        if rest != 0 || width == 0 || !width.is_multiple_of(BLOCK) || !numbers.is_multiple_of(width)
        {
            return None;
        }
        let mut matrix = Self {
            width,
            wholes: Vec::with_capacity(numbers),
            scales: Vec::with_capacity(blocks.len()),
            least: Vec::new(),
        };
        for block in blocks {
            matrix.push(format, block)?;
        }
        Some(matrix)
    }

    /// Takes one block in. `None`: it is too short.
    fn push(&mut self, format: BlockFormat, block: &[u8]) -> Option<()> {
        let (scale, block) = float(block)?;
        self.scales.push(scale);
        let (offset, block) = match format {
            BlockFormat::Q8_0 => {
                self.wholes.extend(block.iter().map(|byte| byte.cast_signed()));
                return Some(());
            }
            BlockFormat::Q4_0 => (8, block),
            BlockFormat::Q5_0 => (16, block),
            BlockFormat::Q4_1 | BlockFormat::Q5_1 => {
                let (least, block) = float(block)?;
                self.least.push(least);
                (0, block)
            }
        };
        // The fifth bits of all numbers come first.
        let (fifth, pairs) = match format {
            BlockFormat::Q5_0 | BlockFormat::Q5_1 => {
                let (fifth, pairs) = block.split_first_chunk()?;
                (u32::from_le_bytes(*fifth), pairs)
            }
            BlockFormat::Q4_0 | BlockFormat::Q4_1 | BlockFormat::Q8_0 => (0, block),
        };
        let halves = pairs.iter().map(|pair| pair & 15).chain(pairs.iter().map(|pair| pair >> 4));
        self.wholes.extend(halves.enumerate().map(|(index, bits)| {
            let fifth = if fifth >> index & 1 == 1 { 16 } else { 0 };
            (bits | fifth).cast_signed() - offset
        }));
        Some(())
    }

    /// Memory that it takes.
    pub(crate) const fn bytes(&self) -> usize {
        self.wholes.len() + (self.scales.len() + self.least.len()) * size_of::<f32>()
    }

    /// Blocks of some rows.
    const fn blocks(&self, rows: &Range<usize>) -> Range<usize> {
        rows.start * self.width / BLOCK..rows.end * self.width / BLOCK
    }
}

/// The number that a block begins with, and what follows it.
fn float(block: &[u8]) -> Option<(f32, &[u8])> {
    let (bytes, rest) = block.split_first_chunk()?;
    Some((f16::from_le_bytes(*bytes).to_f32(), rest))
}

impl Matrix for &Blocks {
    #[inline(always)]
    fn width(self) -> usize {
        self.width
    }

    #[inline(always)]
    fn outputs(self) -> usize {
        self.wholes.len() / self.width
    }

    #[inline(always)]
    fn numbers<'a>(self, rows: Range<usize>, room: &'a mut [f32]) -> &'a [f32]
    where
        Self: 'a,
    {
        let range = self.blocks(&rows);
        let wholes = &self.wholes.as_chunks::<BLOCK>().0[range.clone()];
        let blocks = room.as_chunks_mut::<BLOCK>().0;
        for ((wholes, scale), block) in wholes.iter().zip(&self.scales[range.clone()]).zip(blocks) {
            // In an array of its own it is compiled to instructions for many numbers.
            let mut numbers = [0.0; BLOCK];
            for (number, whole) in numbers.iter_mut().zip(wholes) {
                *number = f32::from(*whole) * scale;
            }
            *block = numbers;
        }
        if !self.least.is_empty() {
            for (block, least) in room.as_chunks_mut::<BLOCK>().0.iter_mut().zip(&self.least[range])
            {
                for number in block {
                    *number += least;
                }
            }
        }
        room
    }
}

#[cfg(test)]
mod tests {
    use candle_core::quantized::{GgmlDType, QTensor};
    use candle_core::{Device, Tensor};

    use super::*;
    use crate::kernels::rows_product;
    use crate::kernels::tests::{every_arch, number};

    const FORMATS: [(BlockFormat, GgmlDType); 5] = [
        (BlockFormat::Q8_0, GgmlDType::Q8_0),
        (BlockFormat::Q4_0, GgmlDType::Q4_0),
        (BlockFormat::Q4_1, GgmlDType::Q4_1),
        (BlockFormat::Q5_0, GgmlDType::Q5_0),
        (BlockFormat::Q5_1, GgmlDType::Q5_1),
    ];

    fn quantized(dtype: GgmlDType, outputs: usize, width: usize) -> QTensor {
        let numbers: Vec<f32> = (0..outputs * width).map(number).collect();
        let tensor = Tensor::from_vec(numbers, (outputs, width), &Device::Cpu).unwrap();
        QTensor::quantize(&tensor, dtype).unwrap()
    }

    #[test]
    fn the_numbers_are_those_that_candle_reads() {
        for (format, dtype) in FORMATS {
            let tensor = quantized(dtype, 5, 96);
            let blocks = Blocks::new(format, &tensor.data().unwrap(), 96).unwrap();
            assert_eq!((blocks.width(), blocks.outputs()), (96, 5));
            let expected = tensor.dequantize(&Device::Cpu).unwrap().to_vec2::<f32>().unwrap();
            for (row, expected) in expected.into_iter().enumerate() {
                let mut found = vec![f32::NAN; 96];
                blocks.numbers(row..row + 1, &mut found);
                assert_eq!(found, expected, "{format:?}");
            }
        }
    }

    #[test]
    fn a_product_is_the_one_with_plain_numbers() {
        for (format, dtype) in FORMATS {
            let tensor = quantized(dtype, 9, 64);
            let blocks = Blocks::new(format, &tensor.data().unwrap(), 64).unwrap();
            let plain = tensor.dequantize(&Device::Cpu).unwrap();
            let plain: Vec<f32> = plain.flatten_all().unwrap().to_vec1().unwrap();
            let matrix = crate::kernels::Plain { numbers: &plain, width: 64 };
            for arch in every_arch() {
                for rows in [1, 7] {
                    let left: Vec<f32> = (0..rows * 64).map(|seed| number(seed + 3)).collect();
                    let [mut found, mut expected] = [vec![f32::NAN; rows * 9], vec![0.0; rows * 9]];
                    rows_product(arch, &left, &blocks, &mut found);
                    rows_product(arch, &left, matrix, &mut expected);
                    assert_eq!(found, expected, "{format:?} {arch:?}");
                }
            }
        }
    }

    #[test]
    fn what_is_not_a_matrix_of_whole_blocks_is_refused() {
        let tensor = quantized(GgmlDType::Q8_0, 3, 64);
        let bytes = tensor.data().unwrap().into_owned();
        assert!(Blocks::new(BlockFormat::Q8_0, &bytes, 64).is_some());
        assert!(Blocks::new(BlockFormat::Q8_0, &bytes[1..], 64).is_none());
        for width in [0, 48, 128] {
            assert!(Blocks::new(BlockFormat::Q8_0, &bytes, width).is_none(), "{width}");
        }
    }
}
