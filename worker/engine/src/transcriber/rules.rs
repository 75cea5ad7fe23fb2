//! Which token comes next: the likeliest of those that may.
//!
//! A text is written in stretches, each between two timestamps, and time never goes back.

/// The tokens that matter to the rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rules {
    /// Ends the text; words are below it.
    pub(super) end: u32,
    /// The timestamp 0; those after it follow in steps.
    pub(super) first_stamp: u32,
    /// The latest timestamp with which a window's text may begin.
    pub(super) latest_begin: u32,
    /// Never chosen.
    pub(super) suppressed: Vec<u32>,
    /// Not chosen first.
    pub(super) suppressed_first: Vec<u32>,
}

/// What no rule allows.
const NEVER: f32 = f32::NEG_INFINITY;

impl Rules {
    /// The token that follows those that were `found`, and the logarithm of its probability among those allowed.
    /// `numbers` are the network's, one per token; they are changed. `None` if they are not numbers.
    pub(super) fn choose(&self, numbers: &mut [f32], found: &[u32]) -> Option<(u32, f32)> {
        if numbers.iter().any(|number| number.is_nan()) {
            return None;
        }
        self.forbid(numbers, found);
        let stamps = index(self.first_stamp).min(numbers.len());
        let (words, times) = numbers.split_at_mut(stamps);
        // Timestamps share their probability; together they may be likelier than any word.
        if log_sum(times) > largest(words) {
            words.fill(NEVER);
        }
        let (token, number) = numbers
            .iter()
            .enumerate()
            .fold((0, NEVER), |best, (token, n)| if *n > best.1 { (token, *n) } else { best });
        if !number.is_finite() {
            return None;
        }
        Some((u32::try_from(token).ok()?, number - log_sum(numbers)))
    }

    fn forbid(&self, numbers: &mut [f32], found: &[u32]) {
        let stamps = index(self.first_stamp).min(numbers.len());
        let mut never = |tokens: &[u32]| {
            for token in tokens {
                if let Some(number) = numbers.get_mut(index(*token)) {
                    *number = NEVER;
                }
            }
        };
        never(&self.suppressed);
        let is_stamp = |token: &u32| *token >= self.first_stamp;
        let last = found.last().is_some_and(is_stamp);
        let before = found.len() < 2 || is_stamp(&found[found.len() - 2]);
        if found.is_empty() {
            never(&self.suppressed_first);
            numbers[..stamps].fill(NEVER);
            let latest = index(self.first_stamp.saturating_add(self.latest_begin));
            if let Some(late) = numbers.get_mut(latest.saturating_add(1)..) {
                late.fill(NEVER);
            }
        }
        if last && before {
            // A stretch has begun.
            numbers[stamps..].fill(NEVER);
        } else if last {
            // It has ended: the next one begins, or nothing more comes.
            numbers[..index(self.end).min(stamps)].fill(NEVER);
        }
        if let Some(latest) = found.iter().rev().find(|token| is_stamp(token)) {
            // The next stretch may begin where the last one ended; none is without length.
            let soonest = index(*latest) + usize::from(!last || before);
            let soonest = soonest.min(numbers.len());
            numbers[stamps..soonest].fill(NEVER);
        }
    }
}

fn index(token: u32) -> usize {
    usize::try_from(token).unwrap_or(usize::MAX)
}

fn largest(numbers: &[f32]) -> f32 {
    numbers.iter().copied().fold(NEVER, f32::max)
}

/// The logarithm of the sum of the exponentials.
fn log_sum(numbers: &[f32]) -> f32 {
    let largest = largest(numbers);
    if !largest.is_finite() {
        return largest;
    }
    let sum: f64 = numbers.iter().map(|number| f64::from(number - largest).exp()).sum();
    #[expect(clippy::cast_possible_truncation, reason = "the logarithm of a count")]
    let log = sum.ln() as f32;
    largest + log
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Words 0 to 3, the end is 4, 5 is never chosen, timestamps are 6 to 11.
    fn rules() -> Rules {
        Rules {
            end: 4,
            first_stamp: 6,
            latest_begin: 2,
            suppressed: vec![5, 3],
            suppressed_first: vec![4],
        }
    }

    /// The choice where all tokens are equally likely but for one.
    fn choice(found: &[u32], likeliest: u32) -> u32 {
        let mut numbers = [0.0_f32; 12];
        numbers[index(likeliest)] = 20.0;
        rules().choose(&mut numbers, found).unwrap().0
    }

    #[test]
    fn a_text_begins_with_an_early_timestamp() {
        assert_eq!(choice(&[], 8), 8);
        // Words and late timestamps are not allowed.
        for token in [0, 4, 5, 9, 11] {
            assert!((6..=8).contains(&choice(&[], token)), "{token}");
        }
    }

    #[test]
    fn words_follow_the_beginning_of_a_stretch() {
        assert_eq!(choice(&[6], 2), 2);
        assert_eq!(choice(&[6], 4), 4);
        for token in [3, 5, 6, 9] {
            assert!(choice(&[6], token) < 5, "{token}");
        }
    }

    #[test]
    fn a_stretch_has_length_and_the_next_begins_at_its_end_or_later() {
        assert_eq!(choice(&[7, 0], 8), 8);
        assert!(choice(&[7, 0], 7) != 7, "no stretch is without length");
        assert_eq!(choice(&[7, 0, 9], 9), 9);
        assert_eq!(choice(&[7, 0, 9], 4), 4);
        for token in [0, 1, 8] {
            let next = choice(&[7, 0, 9], token);
            assert!(next == 4 || next >= 9, "{token}: {next}");
        }
    }

    #[test]
    fn timestamps_that_are_likelier_together_win_against_one_word() {
        let mut numbers = [0.0_f32; 12];
        numbers[1] = 1.0;
        // Five timestamps may follow: e^0 each, and a word has e^1.
        assert!(rules().choose(&mut numbers, &[6, 0]).unwrap().0 >= 7);
        numbers = [0.0; 12];
        numbers[1] = 2.0;
        let (token, share) = rules().choose(&mut numbers, &[6, 0]).unwrap();
        let exact = 2.0 - (2.0_f32.exp() + 8.0).ln();
        assert!(token == 1 && (share - exact).abs() < 1e-5, "{token} {share} {exact}");
    }

    #[test]
    fn what_is_no_number_is_no_choice() {
        let mut numbers = [f32::NAN; 12];
        assert_eq!(rules().choose(&mut numbers, &[]), None);
        let mut numbers = [f32::NEG_INFINITY; 12];
        assert_eq!(rules().choose(&mut numbers, &[]), None);
    }
}
