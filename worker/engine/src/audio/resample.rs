//! From the rate of a file to that of the models.

use rubato::audioadapter_buffers::direct::InterleavedSlice;
use rubato::{Fft, FixedSync, Indexing, Resampler as _, WindowFunction};

use super::{RATE, RecordingError};

/// Samples that are worked on together, for each [`STEP`] of the rate: more of them make the edge of the filter sharper. What is above 8 kHz would
/// come back as something lower that nobody said. A multiple of 24: what comes of them is an even number at the usual
/// rates, and half of that is the filter's delay.
const CHUNK: usize = 4_104;

/// A higher rate has more samples in the same time.
const STEP: u32 = 48_000;

/// Resamples a stream, so that a sample's time stays what it was.
pub(super) struct Resampler {
    fft: Fft<f32>,
    rate: u64,
    waiting: Vec<f32>,
    taken: u64,
    /// Samples that are the filter's delay, and have to go.
    skip: usize,
    made: u64,
}

impl Resampler {
    /// # Errors
    /// When there is no filter for this rate.
    pub(super) fn new(rate: u32) -> Result<Self, RecordingError> {
        let size = |rate: u32| usize::try_from(rate).unwrap_or(usize::MAX);
        let window = WindowFunction::BlackmanHarris2;
        let chunk = CHUNK * size(rate.div_ceil(STEP));
        let fft = Fft::new_custom(size(rate), size(RATE), chunk, 1, 1, window, FixedSync::Both)
            .map_err(|error| failed(rate.into(), &error))?;
        let skip = fft.output_delay();
        Ok(Self { fft, rate: rate.into(), waiting: Vec::new(), taken: 0, skip, made: 0 })
    }

    /// What can be made with the next samples.
    pub(super) fn push(&mut self, samples: &[f32]) -> Result<Vec<f32>, RecordingError> {
        self.taken += u64::try_from(samples.len()).unwrap_or(u64::MAX);
        self.waiting.extend_from_slice(samples);
        let mut out = Vec::new();
        self.work(&mut out)?;
        Ok(out)
    }

    /// The rest, after the last samples.
    pub(super) fn finish(&mut self) -> Result<Vec<f32>, RecordingError> {
        let due = (self.taken * u64::from(RATE)).div_ceil(self.rate);
        let mut out = Vec::new();
        while self.made < due {
            self.waiting.resize(self.fft.input_frames_next(), 0.0);
            self.work(&mut out)?;
        }
        let over = usize::try_from(self.made - due).unwrap_or(usize::MAX);
        self.made = due;
        out.truncate(out.len().saturating_sub(over));
        Ok(out)
    }

    fn work(&mut self, out: &mut Vec<f32>) -> Result<(), RecordingError> {
        let mut done = 0;
        let mut made = vec![0.0; self.fft.output_frames_max()];
        while self.waiting.len() - done >= self.fft.input_frames_next() {
            let (rate, frames) = (self.rate, made.len());
            let from = InterleavedSlice::new(&self.waiting[done..], 1, self.waiting.len() - done)
                .map_err(|error| failed(rate, &error))?;
            let mut to = InterleavedSlice::new_mut(&mut made, 1, frames)
                .map_err(|error| failed(rate, &error))?;
            let whole: Option<&Indexing> = None;
            let (used, count) = self
                .fft
                .process_into_buffer(&from, &mut to, whole)
                .map_err(|error| failed(rate, &error))?;
            done += used;
            let skip = self.skip.min(count);
            self.skip -= skip;
            out.extend_from_slice(&made[skip..count]);
            self.made += u64::try_from(count - skip).unwrap_or(u64::MAX);
        }
        self.waiting.drain(..done);
        Ok(())
    }
}

fn failed(rate: u64, error: &impl std::error::Error) -> RecordingError {
    RecordingError::Form(format!("it cannot be resampled from {rate} samples per second: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tone(rate: u32, frequency: f64, seconds: f64) -> Vec<f32> {
        let step = std::f64::consts::TAU * frequency / f64::from(rate);
        let count = (f64::from(rate) * seconds).round();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small")]
        let count = count as u32;
        #[expect(clippy::cast_possible_truncation, reason = "a sample")]
        let sample = |n: u32| (f64::from(n) * step).sin() as f32;
        (0..count).map(sample).collect()
    }

    fn resampled(rate: u32, samples: &[f32], block: usize) -> Vec<f32> {
        let mut resampler = Resampler::new(rate).unwrap();
        let mut out = Vec::new();
        for block in samples.chunks(block) {
            out.extend(resampler.push(block).unwrap());
        }
        out.extend(resampler.finish().unwrap());
        out
    }

    fn loudness(samples: &[f32]) -> f64 {
        let sum: f64 = samples.iter().map(|sample| f64::from(*sample).powi(2)).sum();
        (sum / f64::from(u32::try_from(samples.len()).unwrap())).sqrt()
    }

    const RATES: [u32; 7] = [8_000, 11_025, 22_050, 44_100, 48_000, 96_000, 192_000];

    #[test]
    fn what_can_be_heard_stays_as_it_was_at_its_time() {
        for rate in RATES {
            for frequency in [100.0, 1_000.0, 3_400.0, 7_500.0] {
                if frequency > f64::from(rate) * 0.45 {
                    continue;
                }
                let found = resampled(rate, &tone(rate, frequency, 1.3), 1_000);
                let exact = tone(RATE, frequency, 1.3);
                let lengths = (found.len(), exact.len());
                assert!(lengths.0.abs_diff(lengths.1) <= 1, "{rate} {lengths:?}");
                // Where it begins and ends all at once, it is not a tone.
                let errors = found.iter().zip(&exact).map(|(a, b)| (a - b).abs());
                let inner = errors.skip(3_000).take(RATE as usize - 3_000);
                let largest = inner.fold(0.0_f32, f32::max);
                assert!(largest < 1e-3, "{frequency} Hz at {rate}: off by {largest}");
            }
        }
    }

    #[test]
    fn what_is_too_high_to_be_told_is_gone() {
        for rate in RATES.into_iter().filter(|rate| *rate > RATE) {
            for frequency in [8_400.0, 9_000.0, 10_800.0, 15_000.0, 21_000.0] {
                if frequency > f64::from(rate) * 0.49 {
                    continue;
                }
                let found = resampled(rate, &tone(rate, frequency, 1.0), 4_096);
                let left = loudness(&found[3_000..found.len() - 3_000]);
                // Less than a sample of 16 bits can say.
                assert!(left < 1.6e-5, "{frequency} Hz at {rate}: {left:e} is left");
            }
        }
    }

    #[test]
    fn the_blocks_in_which_it_comes_make_no_difference() {
        let samples = tone(44_100, 440.0, 0.7);
        let whole = resampled(44_100, &samples, samples.len());
        for block in [1, 333, 5_000] {
            assert_eq!(resampled(44_100, &samples, block), whole, "{block}");
        }
        assert_eq!(resampled(44_100, &[0.5; 3], 2).len(), 2);
        assert!(resampled(44_100, &[], 1).is_empty());
    }
}
