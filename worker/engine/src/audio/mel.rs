//! Log-mel features: how loud a sound is in each of a few bands of frequencies, a hundred times a second.
//!
//! The same numbers as those of transformers' `WhisperFeatureExtractor`, before it scales them.

use std::collections::VecDeque;
use std::f64::consts::TAU;
use std::fmt;
use std::sync::Arc;

use realfft::num_complex::Complex;
use realfft::{RealFftPlanner, RealToComplex};

use super::RATE;

/// Samples of a frame, and from one frame to the next.
const FRAME: usize = 400;
const HOP: usize = 160;

/// Frequencies of a frame.
const FREQUENCIES: usize = FRAME / 2 + 1;

/// Frames of a second.
pub(crate) const FRAMES_PER_SECOND: u32 = 100;

/// Nothing is less loud.
const FLOOR: f64 = 1e-10;

/// The highest frequency, in Hz.
const TOP: f64 = 8_000.0;

/// Bands of frequencies on the mel scale, as Slaney's toolbox has them, and what turns frames into them.
pub struct MelBank {
    bands: Vec<Band>,
    window: Vec<f64>,
    fft: Arc<dyn RealToComplex<f64>>,
}

struct Band {
    first: usize,
    weights: Vec<f64>,
}

impl fmt::Debug for MelBank {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MelBank").field("bands", &self.bands.len()).finish_non_exhaustive()
    }
}

/// Of numbers that are far below 2^52.
#[expect(clippy::cast_precision_loss, reason = "see above")]
const fn real(number: usize) -> f64 {
    number as f64
}

fn mel_of(hertz: f64) -> f64 {
    if hertz < 1_000.0 {
        return hertz * 3.0 / 200.0;
    }
    15.0 + (hertz / 1_000.0).ln() * 27.0 / 6.4_f64.ln()
}

fn hertz_of(mel: f64) -> f64 {
    if mel < 15.0 {
        return mel * 200.0 / 3.0;
    }
    1_000.0 * ((mel - 15.0) * 6.4_f64.ln() / 27.0).exp()
}

impl MelBank {
    /// A bank of so many bands, at least 1.
    pub fn new(bands: usize) -> Self {
        let step = mel_of(TOP) / real(bands + 1);
        let edges: Vec<f64> = (0..bands + 2).map(|edge| hertz_of(real(edge) * step)).collect();
        let hertz = |index: usize| real(index) * TOP / real(FREQUENCIES - 1);
        let weight = |edges: &[f64], at: f64| {
            let up = (at - edges[0]) / (edges[1] - edges[0]);
            let down = (edges[2] - at) / (edges[2] - edges[1]);
            // Bands are of the same area, however wide.
            up.min(down).max(0.0) * 2.0 / (edges[2] - edges[0])
        };
        let band = |edges: &[f64]| {
            let all: Vec<f64> = (0..FREQUENCIES).map(|at| weight(edges, hertz(at))).collect();
            let first = all.iter().position(|weight| *weight > 0.0).unwrap_or(0);
            let end = all.iter().rposition(|weight| *weight > 0.0).map_or(0, |last| last + 1);
            Band { first, weights: all[first..end.max(first)].to_vec() }
        };
        let bands = edges.windows(3).map(band).collect();
        let window = (0..FRAME).map(|n| 0.5 - 0.5 * (TAU * real(n) / real(FRAME)).cos()).collect();
        Self { bands, window, fft: RealFftPlanner::new().plan_fft_forward(FRAME) }
    }

    /// Numbers of a frame.
    pub const fn bands(&self) -> usize {
        self.bands.len()
    }

    /// The bands of [`FRAME`] samples, logarithms to base 10.
    fn frame(&self, samples: impl Iterator<Item = f32>, scratch: &mut Scratch, out: &mut Vec<f32>) {
        let windowed = samples.zip(&self.window).map(|(sample, window)| f64::from(sample) * window);
        scratch.time.clear();
        scratch.time.extend(windowed);
        let Scratch { time, frequencies, fft } = scratch;
        // The lengths are those of the plan.
        let done = self.fft.process_with_scratch(time, frequencies, fft);
        debug_assert!(done.is_ok(), "{done:?}");
        for (power, number) in time.iter_mut().zip(frequencies.iter()) {
            *power = number.norm_sqr();
        }
        out.extend(self.bands.iter().map(|band| {
            let powers = &time[band.first..band.first + band.weights.len()];
            let sum: f64 = powers.iter().zip(&band.weights).map(|(p, weight)| p * weight).sum();
            #[expect(clippy::cast_possible_truncation, reason = "a feature has 32 bits")]
            let log = sum.max(FLOOR).log10() as f32;
            log
        }));
    }
}

/// What a frame is computed in.
struct Scratch {
    time: Vec<f64>,
    frequencies: Vec<Complex<f64>>,
    fft: Vec<Complex<f64>>,
}

/// The features of sound that comes block by block.
pub struct LogMel<'a> {
    bank: &'a MelBank,
    /// Samples from the beginning of the next frame on. A frame's middle is at a multiple of [`HOP`], so the first
    /// begins half a frame before the sound: there the sound is mirrored.
    samples: VecDeque<f32>,
    mirrored: bool,
    scratch: Scratch,
}

impl fmt::Debug for LogMel<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogMel").field("waiting", &self.samples.len()).finish_non_exhaustive()
    }
}

impl<'a> LogMel<'a> {
    pub fn new(bank: &'a MelBank) -> Self {
        let fft = bank.fft.make_scratch_vec();
        let frequencies = bank.fft.make_output_vec();
        let scratch = Scratch { time: Vec::with_capacity(FRAME), frequencies, fft };
        Self { bank, samples: VecDeque::new(), mirrored: false, scratch }
    }

    /// Adds the frames that are whole with these samples to `out`, [`MelBank::bands`] numbers each.
    pub fn push(&mut self, samples: &[f32], out: &mut Vec<f32>) {
        self.samples.extend(samples);
        if !self.mirrored {
            if self.samples.len() <= FRAME / 2 {
                return;
            }
            for mirrored in 0..FRAME / 2 {
                // Each one that is put in front moves the others back by one.
                let sample = self.samples[2 * mirrored + 1];
                self.samples.push_front(sample);
            }
            self.mirrored = true;
        }
        while self.samples.len() >= FRAME {
            let frame = self.samples.iter().take(FRAME).copied();
            self.bank.frame(frame, &mut self.scratch, out);
            self.samples.drain(..HOP);
        }
    }
}

/// How many frames so many samples begin.
pub(crate) const fn frames_of(samples: u64) -> u64 {
    samples.div_ceil(RATE as u64 / FRAMES_PER_SECOND as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mel_scale_is_straight_below_a_kilohertz_and_bent_above() {
        for (hertz, mel) in [(0.0, 0.0), (200.0, 3.0), (1_000.0, 15.0), (6_400.0, 42.0)] {
            assert!((mel_of(hertz) - mel).abs() < 1e-9, "{hertz} Hz");
            assert!((hertz_of(mel) - hertz).abs() < 1e-9, "{mel} mel");
        }
    }

    #[test]
    fn a_tone_is_loudest_in_its_band() {
        let bank = MelBank::new(80);
        let step = TAU * 1_000.0 / f64::from(RATE);
        #[expect(clippy::cast_possible_truncation, reason = "a sample")]
        let tone: Vec<f32> = (0..8_000).map(|n| (f64::from(n) * step).sin() as f32).collect();
        let mut features = Vec::new();
        LogMel::new(&bank).push(&tone, &mut features);
        assert_eq!(features.len() % 80, 0);
        let frame = &features[20 * 80..21 * 80];
        let loudest = (0..80).max_by(|a, b| frame[*a].total_cmp(&frame[*b])).unwrap();
        let center = hertz_of(real(loudest + 1) * mel_of(TOP) / 81.0);
        assert!((center - 1_000.0).abs() < 40.0, "{center} Hz");
    }

    #[test]
    fn frames_do_not_depend_on_the_blocks() {
        let bank = MelBank::new(40);
        let samples: Vec<f32> = (0_u16..5_000)
            .map(|n| f32::from(n.wrapping_mul(7_919) % 1_009) / 1_009.0 - 0.5)
            .collect();
        let features = |block: usize| {
            let (mut mel, mut out) = (LogMel::new(&bank), Vec::new());
            for block in samples.chunks(block) {
                mel.push(block, &mut out);
            }
            out
        };
        let whole = features(samples.len());
        assert_eq!(whole.len() / 40, (5_000 + FRAME / 2 - FRAME) / HOP + 1);
        for block in [1, 160, 201, 999] {
            assert_eq!(features(block), whole, "{block}");
        }
    }
}
