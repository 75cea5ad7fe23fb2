//! MTCNN: faces of all sizes are looked for on smaller and smaller views of an image; what looks like one is looked at
//! again, and once more.
//!
//! A view is gone over tile by tile, which changes no number and bounds what a large image takes of memory.

use std::ops::Range;

use candle_core::{Device, Result, Tensor, bail};

use super::area::{Across, Region, shrink};
use super::boxes::{Candidate, Overlap, suppress};
use super::config::DetectorConfig;
use super::nets::{FIELD, FINISHED, Finisher, LIKELY, Proposer, REFINED, Refiner, SHIFT, STEP};
use crate::LoadError;
use crate::images::Pixels;
use crate::source::Source;

/// Places that are looked at further, of a view and of all views of an image: the likeliest. A crowd has hundreds; a
/// picture that is made to have millions takes no longer.
const MOST_CANDIDATES: usize = 8_192;

/// How much at once: places of a tile's side, and images that are looked at again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AtOnce {
    pub(crate) side: usize,
    pub(crate) images: usize,
}

impl AtOnce {
    /// What a core's cache holds, or what fills a GPU.
    pub(crate) fn of(device: &Device) -> Self {
        if device.is_cpu() {
            Self { side: 96, images: 16 }
        } else {
            Self { side: 512, images: 512 }
        }
    }

    /// Half as much; `None` if that is too little to try.
    pub(crate) fn halved(self) -> Option<Self> {
        let (side, images) = (self.side / 2, self.images / 2);
        (side >= 16 && images >= 4).then_some(Self { side, images })
    }
}

/// The three networks, and what is left to choose of how they are used.
pub(crate) struct Detector {
    proposer: Proposer,
    refiner: Refiner,
    finisher: Finisher,
    config: DetectorConfig,
    device: Device,
    pub(crate) at_once: AtOnce,
}

impl Detector {
    /// The networks are small and compute with 32 bits, whatever the precision.
    pub(crate) fn load(
        source: &Source<'_>,
        config: DetectorConfig,
    ) -> std::result::Result<Self, LoadError> {
        let source = &source.exact();
        Ok(Self {
            proposer: Proposer::load(source)?,
            refiner: Refiner::load(source)?,
            finisher: Finisher::load(source)?,
            config,
            device: source.device.clone(),
            at_once: AtOnce::of(source.device),
        })
    }

    /// Memory that all tensors take together.
    pub(crate) fn bytes(&self) -> usize {
        self.proposer.bytes() + self.refiner.bytes() + self.finisher.bytes()
    }

    /// The faces of at least `smallest` pixels, the likeliest first.
    ///
    /// # Errors
    /// When the device fails, or a number is not finite.
    pub(crate) fn find(&self, image: &Pixels, smallest: u32) -> Result<Vec<Candidate>> {
        let proposed = self.propose(image, smallest)?;
        let refined = self.refine(image, proposed)?;
        self.finish(image, refined)
    }

    fn propose(&self, image: &Pixels, smallest: u32) -> Result<Vec<Candidate>> {
        let mut all = Vec::new();
        for scale in scales(image, smallest, self.config.factor) {
            let found = self.view(image, scale)?;
            all.extend(suppress(found, MOST_CANDIDATES, 0.5, Overlap::OfBoth));
        }
        let kept = suppress(all, MOST_CANDIDATES, 0.7, Overlap::OfBoth);
        Ok(kept.into_iter().map(|one| one.moved(0.0).squared()).collect())
    }

    /// What looks like a face on one view.
    fn view(&self, image: &Pixels, scale: f64) -> Result<Vec<Candidate>> {
        let (width, height) = (scaled(image.width, scale), scaled(image.height, scale));
        let mut found = Vec::new();
        for rows in tiles(height, self.at_once.side) {
            for columns in tiles(width, self.at_once.side) {
                let seen = |places: &Range<usize>, whole| {
                    let seen = places.start * STEP..((places.end - 1) * STEP + FIELD).min(whole);
                    Across { whole, seen }
                };
                let (across, down) = (seen(&columns, width), seen(&rows, height));
                let planes = shrink(image, &Region::whole(image), &across, &down);
                let shape = (1, 3, down.seen.len(), across.seen.len());
                let answers = self.proposer.forward(&self.tensor(planes, shape)?)?;
                self.read(&answers, (&columns, &rows), scale, &mut found)?;
            }
        }
        Ok(found)
    }

    /// Takes what is likely enough out of the answers of a tile.
    fn read(
        &self,
        answers: &Tensor,
        (columns, rows): (&Range<usize>, &Range<usize>),
        scale: f64,
        found: &mut Vec<Candidate>,
    ) -> Result<()> {
        let planes = answers.squeeze(0)?.flatten_from(1)?.to_vec2::<f32>()?;
        let (count, wide) = (rows.len() * columns.len(), columns.len());
        let [none, one, shifts @ ..] = planes.as_slice() else { bail!("there are no answers") };
        if shifts.len() != SHIFT || planes.iter().any(|plane| plane.len() != count) {
            bail!("a tile of {count} places has other answers");
        }
        for (place, (none, one)) in none.iter().zip(one).enumerate() {
            let score = likelihood(*none, *one)?;
            if score >= self.config.thresholds[0] {
                let corner = [columns.start + place % wide, rows.start + place / wide];
                let shift = [0, 1, 2, 3].map(|plane| shifts[plane][place]);
                found.push(Candidate::new(bounds(corner, scale), score, shift));
            }
        }
        Ok(())
    }

    fn refine(&self, image: &Pixels, proposed: Vec<Candidate>) -> Result<Vec<Candidate>> {
        let mut kept = Vec::new();
        let forward = |seen: &Tensor| self.refiner.forward(seen);
        for (candidate, answer) in self.look(image, proposed, REFINED, &forward)? {
            let score = likelihood(answer[0], answer[1])?;
            if score > self.config.thresholds[1] {
                let shift = [2, 3, 4, 5].map(|number| answer[number]);
                kept.push(Candidate { score, shift, ..candidate });
            }
        }
        let kept = suppress(kept, MOST_CANDIDATES, 0.7, Overlap::OfBoth);
        Ok(kept.into_iter().map(|one| one.moved(1.0).squared()).collect())
    }

    fn finish(&self, image: &Pixels, refined: Vec<Candidate>) -> Result<Vec<Candidate>> {
        let mut kept = Vec::new();
        let forward = |seen: &Tensor| self.finisher.forward(seen);
        for (candidate, answer) in self.look(image, refined, FINISHED, &forward)? {
            let score = likelihood(answer[0], answer[1])?;
            if score > self.config.thresholds[2] {
                let shift = [2, 3, 4, 5].map(|number| answer[number]);
                let landmarks = landmarks(&candidate.bounds, &answer[LIKELY + SHIFT..]);
                let found = Candidate { score, shift, landmarks, ..candidate };
                kept.push(found.moved(1.0));
            }
        }
        Ok(suppress(kept, MOST_CANDIDATES, 0.7, Overlap::OfSmaller))
    }

    /// Shows a network what candidates cut out of the image, a few at a time, and gives what it says of each.
    /// Those that are outside the image are left out.
    fn look(
        &self,
        image: &Pixels,
        candidates: Vec<Candidate>,
        side: usize,
        forward: &dyn Fn(&Tensor) -> Result<Tensor>,
    ) -> Result<Vec<(Candidate, Vec<f32>)>> {
        let seen = |one: Candidate| one.seen(image).map(|region| (one, region));
        let seen: Vec<(Candidate, Region)> = candidates.into_iter().filter_map(seen).collect();
        let mut said = Vec::with_capacity(seen.len());
        for some in seen.chunks(self.at_once.images) {
            let square = Across::all(side);
            let planes = some.iter().flat_map(|(_, part)| shrink(image, part, &square, &square));
            let seen = self.tensor(planes.collect(), (some.len(), 3, side, side))?;
            let answers = forward(&seen)?.to_vec2::<f32>()?;
            said.extend(some.iter().map(|(candidate, _)| *candidate).zip(answers));
        }
        Ok(said)
    }

    fn tensor(&self, planes: Vec<f32>, shape: (usize, usize, usize, usize)) -> Result<Tensor> {
        Tensor::from_vec(planes, shape, &self.device)
    }

    /// What the networks say of images that need no file, one number after the other: `images` of each size, and
    /// for the first network one with a tile of `side` places.
    ///
    /// # Errors
    /// When the device fails.
    pub(crate) fn probe(&self, AtOnce { side, images }: AtOnce) -> Result<Vec<f32>> {
        let pattern = |images: usize, side: usize| {
            let numbers = (0..images * 3 * side * side).map(number_of).collect();
            self.tensor(numbers, (images, 3, side, side))
        };
        let proposed = self.proposer.forward(&pattern(1, (side - 1) * STEP + FIELD)?)?;
        let refined = self.refiner.forward(&pattern(images, REFINED)?)?;
        let finished = self.finisher.forward(&pattern(images, FINISHED)?)?;
        let answers =
            [proposed, refined, finished].map(|answer| answer.flatten_all()?.to_vec1::<f32>());
        let mut numbers = Vec::new();
        for answer in answers {
            numbers.extend(answer?);
        }
        Ok(numbers)
    }
}

/// A number around zero for a place; all are different enough.
fn number_of(place: usize) -> f32 {
    let byte = u8::try_from(((place * 7 + place / 31 * 13) ^ (place / 8)) % 256).unwrap_or(0);
    (f32::from(byte) - 127.5) / 128.0
}

/// How much smaller than the image its views are. Faces of `smallest` pixels fill the first network's field on the
/// first, and the shorter side does not on any behind the last.
fn scales(image: &Pixels, smallest: u32, factor: f64) -> Vec<f64> {
    let field = float(FIELD);
    let mut scale = field / f64::from(smallest.max(1));
    let mut shorter = float(image.width.min(image.height)) * scale;
    let mut scales = Vec::new();
    while shorter >= field {
        scales.push(scale);
        scale *= factor;
        shorter *= factor;
    }
    scales
}

/// A side of a view.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is rounded down")]
fn scaled(pixels: usize, scale: f64) -> usize {
    (float(pixels) * scale + 1.0) as usize
}

#[expect(clippy::cast_precision_loss, reason = "images have fewer pixels than f64 has numbers")]
const fn float(number: usize) -> f64 {
    number as f64
}

/// The places of a side, in tiles. There is at least one: a view is larger than what the network sees at once.
fn tiles(pixels: usize, side: usize) -> impl Iterator<Item = Range<usize>> {
    let places = pixels.saturating_sub(FIELD).div_ceil(STEP) + 1;
    (0..places).step_by(side).map(move |first| first..(first + side).min(places))
}

/// What a place of a view sees, in pixels of the image.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "as the reference computes it"
)]
fn bounds([column, row]: [usize; 2], scale: f64) -> [f32; 4] {
    let scale = scale as f32;
    let at = |place: usize, more: usize| ((place * STEP + more) as f32 / scale).floor();
    [at(column, 1), at(row, 1), at(column, FIELD), at(row, FIELD)]
}

/// The share of a face, of the numbers for none and for one.
fn likelihood(none: f32, one: f32) -> Result<f32> {
    let share = 1.0 / (1.0 + (none - one).exp());
    if none.is_finite() && one.is_finite() { Ok(share) } else { bail!("a number is not finite") }
}

/// Points of a face from shares of the sides of its box.
fn landmarks([left, top, right, bottom]: &[f32; 4], shares: &[f32]) -> [[f32; 2]; 5] {
    let (width, height) = (right - left + 1.0, bottom - top + 1.0);
    [0, 1, 2, 3, 4]
        .map(|point| [width * shares[point] + left - 1.0, height * shares[point + 5] + top - 1.0])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(width: usize, height: usize) -> Pixels {
        Pixels { width, height, bytes: Vec::new() }
    }

    #[test]
    fn views_become_smaller_until_there_is_no_room_for_a_face() {
        let scales = |width, height, smallest| scales(&image(width, height), smallest, 0.5);
        assert_eq!(scales(100, 80, 20), [0.6, 0.3, 0.15]);
        assert_eq!(scales(20, 20, 20), [0.6]);
        assert_eq!(scales(19, 1_000_000, 20), [0.0; 0]);
        assert_eq!(scaled(101, 0.6), 61);
    }

    #[test]
    fn tiles_cover_every_place_once() {
        for (pixels, side) in [(12, 4), (13, 4), (31, 4), (31, 100), (1_000, 96)] {
            let places: Vec<usize> = tiles(pixels, side).flatten().collect();
            // The first network's sides: less 2, half, less 4.
            let expected = (pixels - 2).div_ceil(2) - 4;
            assert_eq!(places, (0..expected).collect::<Vec<_>>(), "{pixels} pixels");
        }
    }

    #[test]
    #[expect(clippy::float_cmp, reason = "whole pixels")]
    fn a_place_sees_pixels_of_the_image() {
        // In 32 bits 18 divided by 0.6 is a little less than 30, there as here.
        assert_eq!(bounds([0, 3], 0.6), [1.0, 11.0, 20.0, 29.0]);
        assert_eq!(bounds([2, 1], 0.5), [10.0, 6.0, 32.0, 28.0]);
        let shares = [0.0, 0.25, 0.5, 0.75, 1.0, 1.0, 0.75, 0.5, 0.25, 0.0];
        let points = landmarks(&[11.0, 21.0, 30.0, 60.0], &shares);
        assert_eq!((points[0], points[2], points[4]), ([10.0, 60.0], [20.0, 40.0], [30.0, 20.0]));
    }

    #[test]
    fn likelihoods_are_shares_and_nothing_else_counts() {
        assert!((likelihood(1.0, 1.0).unwrap() - 0.5).abs() < 1e-6);
        assert!(
            likelihood(-90.0, 90.0).unwrap() > 0.999 && likelihood(90.0, -90.0).unwrap() < 1e-6
        );
        for (none, one) in [(f32::NAN, 0.0), (0.0, f32::INFINITY)] {
            assert!(likelihood(none, one).is_err());
        }
    }
}
