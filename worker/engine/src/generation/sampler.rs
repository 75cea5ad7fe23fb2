//! From the network's numbers to the next token. Pure: chance is a function of the seed and of the
//! token's position, so a generation that is taken up again goes on as if it had not stopped.

use std::collections::BTreeSet;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};

/// How tokens are chosen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampling {
    /// Zero: always the likeliest token. Larger is more varied.
    pub temperature: f32,
    /// Only the likeliest tokens whose shares sum to this are chosen from; 1: all.
    pub top_p: f32,
    /// Only this many of the likeliest tokens are chosen from; zero: all.
    pub top_k: u32,
    /// Above 1, tokens that are in the text already become less likely; 1: they do not.
    pub repeat_penalty: f32,
    pub seed: u64,
}

impl Default for Sampling {
    /// Always the likeliest token.
    fn default() -> Self {
        Self { temperature: 0.0, top_p: 1.0, top_k: 0, repeat_penalty: 1.0, seed: 0 }
    }
}

/// The network's output is not usable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SampleError {
    #[error("the network gave a number that is not finite for token {token}")]
    NotFinite { token: usize },
    #[error("the network gave no numbers")]
    Nothing,
}

impl Sampling {
    /// What makes no sense: the field, and what it has to be.
    pub fn problem(&self) -> Option<(&'static str, &'static str)> {
        if !(0.0..=100.0).contains(&self.temperature) {
            Some(("temperature", "is not from 0 to 100"))
        } else if !(self.top_p > 0.0 && self.top_p <= 1.0) {
            Some(("top_p", "is not above 0 and at most 1"))
        } else if !(self.repeat_penalty > 0.0 && self.repeat_penalty <= 100.0) {
            Some(("repeat_penalty", "is not above 0 and at most 100"))
        } else {
            None
        }
    }

    /// The next token after `text`, of which there are `logits.len()`. As transformers has it: first
    /// the penalty, then temperature, then the likeliest few, then their shares.
    ///
    /// # Errors
    /// When a number is not finite, whatever would have been chosen.
    pub fn next(&self, logits: &[f32], text: &[u32]) -> Result<u32, SampleError> {
        if let Some(token) = logits.iter().position(|logit| !logit.is_finite()) {
            return Err(SampleError::NotFinite { token });
        }
        let mut candidates: Vec<Candidate> = (0..)
            .zip(logits)
            .map(|(token, logit)| Candidate { token, weight: f64::from(*logit) })
            .collect();
        self.penalize(&mut candidates, text);
        if self.temperature <= 0.0 {
            let best = candidates.iter().min_by(|one, other| one.order(other));
            return best.map(|best| best.token).ok_or(SampleError::Nothing);
        }
        for candidate in &mut candidates {
            candidate.weight /= f64::from(self.temperature);
        }
        self.keep_likeliest(&mut candidates);
        to_shares(&mut candidates);
        self.keep_top_p(&mut candidates);
        let position = u64::try_from(text.len()).unwrap_or(u64::MAX);
        draw(&candidates, uniform(self.seed, position)).ok_or(SampleError::Nothing)
    }

    fn penalize(&self, candidates: &mut [Candidate], text: &[u32]) {
        let penalty = f64::from(self.repeat_penalty);
        let seen: BTreeSet<u32> = text.iter().copied().collect();
        for token in seen {
            let index = usize::try_from(token).unwrap_or(usize::MAX);
            if let Some(candidate) = candidates.get_mut(index) {
                let divide = candidate.weight > 0.0;
                candidate.weight *= if divide { 1.0 / penalty } else { penalty };
            }
        }
    }

    fn keep_likeliest(&self, candidates: &mut Vec<Candidate>) {
        let most = usize::try_from(self.top_k).unwrap_or(usize::MAX);
        if most > 0 && most < candidates.len() {
            candidates.select_nth_unstable_by(most - 1, Candidate::order);
            candidates.truncate(most);
        }
    }

    fn keep_top_p(&self, candidates: &mut Vec<Candidate>) {
        if self.top_p >= 1.0 {
            // In an order of their own, so that the choice does not depend on how they were found.
            candidates.sort_unstable_by_key(|candidate| candidate.token);
            return;
        }
        candidates.sort_unstable_by(Candidate::order);
        let mut sum = 0.0;
        let enough = candidates.iter().position(|candidate| {
            sum += candidate.weight;
            sum >= f64::from(self.top_p)
        });
        candidates.truncate(enough.map_or(candidates.len(), |last| last + 1));
    }
}

/// A token that may come next, and first its logit, then its share.
#[derive(Debug, Clone, Copy)]
struct Candidate {
    token: u32,
    weight: f64,
}

impl Candidate {
    /// The likelier first; of equals the one with the smaller number.
    fn order(&self, other: &Self) -> std::cmp::Ordering {
        other.weight.total_cmp(&self.weight).then(self.token.cmp(&other.token))
    }
}

fn to_shares(candidates: &mut [Candidate]) {
    let largest = candidates.iter().fold(f64::NEG_INFINITY, |max, c| max.max(c.weight));
    let mut sum = 0.0;
    for candidate in candidates.iter_mut() {
        candidate.weight = (candidate.weight - largest).exp();
        sum += candidate.weight;
    }
    for candidate in candidates {
        candidate.weight /= sum;
    }
}

/// The token at `chance`, from 0 to below 1, of what is left of the shares.
fn draw(candidates: &[Candidate], chance: f64) -> Option<u32> {
    let mut left = chance * candidates.iter().map(|candidate| candidate.weight).sum::<f64>();
    let drawn = candidates.iter().find(|candidate| {
        left -= candidate.weight;
        left < 0.0
    });
    // Rounding may leave a little over at the end.
    drawn.or_else(|| candidates.last()).map(|candidate| candidate.token)
}

/// A number from 0 to below 1 that depends on nothing else.
fn uniform(seed: u64, position: u64) -> f64 {
    let mut chance = ChaCha8Rng::seed_from_u64(seed);
    chance.set_stream(position);
    let bits = u32::try_from(chance.next_u64() >> 32).unwrap_or(0);
    f64::from(bits) / (f64::from(u32::MAX) + 1.0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LOGITS: [f32; 5] = [1.0, 3.0, 2.0, 3.0, -1.0];

    fn varied() -> Sampling {
        Sampling { temperature: 1.0, ..Sampling::default() }
    }

    /// How often each token is chosen at 4,000 positions.
    fn shares(sampling: &Sampling) -> Vec<f64> {
        let mut counts = vec![0u32; LOGITS.len()];
        for position in 0..4_000 {
            // A text of tokens that the network does not have, so that nothing is repeated.
            let token = sampling.next(&LOGITS, &vec![99; position]).unwrap();
            counts[usize::try_from(token).unwrap()] += 1;
        }
        counts.into_iter().map(|count| f64::from(count) / 4_000.0).collect()
    }

    #[test]
    fn without_temperature_it_is_the_likeliest_and_of_equals_the_first() {
        assert_eq!(Sampling::default().next(&LOGITS, &[]), Ok(1));
        let seeds = (0..20).map(|seed| Sampling { seed, ..Sampling::default() });
        assert!(seeds.into_iter().all(|sampling| sampling.next(&LOGITS, &[7; 9]) == Ok(1)));
    }

    #[test]
    fn tokens_come_as_often_as_their_shares_say() {
        let exact: Vec<f64> = LOGITS.iter().map(|logit| f64::from(*logit).exp()).collect();
        let sum: f64 = exact.iter().sum();
        for (found, exact) in shares(&varied()).iter().zip(exact) {
            assert!((found - exact / sum).abs() < 0.03, "{found} instead of {}", exact / sum);
        }
    }

    #[test]
    fn unlikely_tokens_are_left_out() {
        let few = shares(&Sampling { top_k: 3, ..varied() });
        assert!(few[0] == 0.0 && few[4] == 0.0 && few[2] > 0.0, "{few:?}");
        // The two likeliest have 0.40 each.
        let few = shares(&Sampling { top_p: 0.5, ..varied() });
        assert!((few[1] + few[3] - 1.0).abs() < 1e-9 && few[3] > 0.3, "{few:?}");
        let one = shares(&Sampling { top_p: 1e-6, ..varied() });
        assert!((one[1] - 1.0).abs() < 1e-9, "at least one is left: {one:?}");
    }

    #[test]
    fn what_was_said_becomes_less_likely() {
        let sampling = Sampling { repeat_penalty: 2.0, ..Sampling::default() };
        assert_eq!(sampling.next(&LOGITS, &[1]), Ok(3));
        assert_eq!(sampling.next(&LOGITS, &[1, 3, 3]), Ok(2));
        // A negative number moves away from zero, not toward it.
        assert_eq!(sampling.next(&[-1.0, -1.5], &[0]), Ok(1));
    }

    #[test]
    fn a_number_that_is_none_is_an_error_wherever_it_is() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let error = Sampling::default().next(&[9.0, bad, 1.0], &[]).unwrap_err();
            assert_eq!(error, SampleError::NotFinite { token: 1 });
        }
        assert_eq!(Sampling::default().next(&[], &[]), Err(SampleError::Nothing));
        assert_eq!(varied().next(&[], &[]), Err(SampleError::Nothing));
    }

    #[test]
    fn settings_that_make_no_sense_are_named() {
        for (sampling, field) in [
            (Sampling { temperature: -0.1, ..varied() }, "temperature"),
            (Sampling { temperature: f32::NAN, ..varied() }, "temperature"),
            (Sampling { top_p: 0.0, ..varied() }, "top_p"),
            (Sampling { top_p: 1.1, ..varied() }, "top_p"),
            (Sampling { repeat_penalty: 0.0, ..varied() }, "repeat_penalty"),
            (Sampling { repeat_penalty: f32::INFINITY, ..varied() }, "repeat_penalty"),
        ] {
            assert_eq!(sampling.problem().map(|(field, _)| field), Some(field));
        }
        assert_eq!((varied().problem(), Sampling::default().problem()), (None, None));
    }

    proptest! {
        #[test]
        fn the_choice_is_the_same_every_time_and_a_token_that_there_is(
            logits in proptest::collection::vec(-50.0_f32..50.0, 1..40),
            text in proptest::collection::vec(0_u32..50, 0..20),
            temperature in prop_oneof![Just(0.0_f32), 0.01_f32..100.0],
            top_p in 0.001_f32..=1.0,
            top_k in 0_u32..50,
            repeat_penalty in 0.1_f32..3.0,
            seed in any::<u64>(),
        ) {
            let sampling = Sampling { temperature, top_p, top_k, repeat_penalty, seed };
            prop_assert_eq!(sampling.problem(), None);
            let token = sampling.next(&logits, &text).unwrap();
            prop_assert!(usize::try_from(token).unwrap() < logits.len());
            prop_assert_eq!(sampling.next(&logits, &text), Ok(token));
        }
    }
}
