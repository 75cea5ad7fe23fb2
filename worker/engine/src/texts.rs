//! Where the texts of a batch lie in its packed rows of tokens.

use candle_core::{Device, Result, Tensor, bail};

/// Queries that a block of a GPU's attention kernel works on; a tile does not reach over a text's
/// end.
pub(crate) const TILE_QUERIES: usize = 32;

/// The texts of one batch, in order, without gaps.
pub(crate) struct Texts {
    lengths: Vec<usize>,
    tokens: usize,
    on_device: Option<OnDevice>,
}

/// The same for kernels.
pub(crate) struct OnDevice {
    /// One row of four numbers per tile: the text's first row, its length, the tile's first query
    /// in it, and zero.
    pub(crate) tiles: Tensor,
    /// One row of two numbers per text: its first row, its length.
    pub(crate) spans: Tensor,
    /// The spans of each text's first token.
    pub(crate) firsts: Tensor,
}

impl Texts {
    /// # Errors
    /// When there is no text, an empty one, more tokens than fit in 32 bits, or no memory.
    pub(crate) fn new(lengths: Vec<usize>, device: &Device) -> Result<Self> {
        let tokens = lengths.iter().sum();
        if tokens == 0 || lengths.contains(&0) || u32::try_from(tokens).is_err() {
            bail!("a batch of {} texts with {tokens} tokens cannot be run", lengths.len())
        }
        let on_device = if device.is_cpu() { None } else { Some(OnDevice::new(&lengths, device)?) };
        Ok(Self { lengths, tokens, on_device })
    }

    /// Tokens of each text; at least one.
    pub(crate) fn lengths(&self) -> &[usize] {
        &self.lengths
    }

    /// Tokens of all texts together.
    pub(crate) const fn tokens(&self) -> usize {
        self.tokens
    }

    /// None on a CPU.
    pub(crate) const fn on_device(&self) -> Option<&OnDevice> {
        self.on_device.as_ref()
    }
}

impl OnDevice {
    fn new(lengths: &[usize], device: &Device) -> Result<Self> {
        let tiles = tiles(lengths);
        let count = tiles.len() / 4;
        let spans = spans(lengths);
        let (rows, _) = spans.as_chunks::<2>();
        let firsts: Vec<usize> = rows.iter().flat_map(|[first, _]| [*first, 1]).collect();
        Ok(Self {
            firsts: upload(firsts, (lengths.len(), 2), device)?,
            tiles: upload(tiles, (count, 4), device)?,
            spans: upload(spans, (lengths.len(), 2), device)?,
        })
    }
}

fn upload(numbers: Vec<usize>, shape: (usize, usize), device: &Device) -> Result<Tensor> {
    let narrow = |number| u32::try_from(number).map_err(candle_core::Error::wrap);
    let numbers = numbers.into_iter().map(narrow).collect::<Result<Vec<_>>>()?;
    Tensor::from_vec(numbers, shape, device)
}

fn spans(lengths: &[usize]) -> Vec<usize> {
    let mut first = 0;
    let mut span = |length: &usize| {
        let span = [first, *length];
        first += length;
        span
    };
    lengths.iter().flat_map(&mut span).collect()
}

fn tiles(lengths: &[usize]) -> Vec<usize> {
    let spans = spans(lengths);
    let (spans, _) = spans.as_chunks::<2>();
    let of_text = |[first, length]: &[usize; 2]| {
        let (first, length) = (*first, *length);
        (0..length).step_by(TILE_QUERIES).map(move |query| [first, length, query, 0])
    };
    spans.iter().flat_map(of_text).flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_query_is_in_one_tile() {
        let lengths = [1, 32, 33, 64, 5, 100];
        let tiles = tiles(&lengths);
        let (tiles, rest) = tiles.as_chunks::<4>();
        assert!(rest.is_empty());
        let rows: Vec<usize> = tiles
            .iter()
            .flat_map(|[first, length, query, _]| {
                let end = (query + TILE_QUERIES).min(*length);
                (first + query)..(first + end)
            })
            .collect();
        assert!(rows.into_iter().eq(0..lengths.iter().sum()), "{tiles:?}");
    }

    #[test]
    fn batches_that_no_kernel_can_run_are_refused() {
        for lengths in [vec![], vec![0], vec![3, 0]] {
            assert!(Texts::new(lengths.clone(), &Device::Cpu).is_err(), "{lengths:?}");
        }
        let texts = Texts::new(vec![3, 4], &Device::Cpu).unwrap();
        assert_eq!((texts.lengths(), texts.tokens()), (&[3, 4][..], 7));
        assert!(texts.on_device().is_none());
    }
}
