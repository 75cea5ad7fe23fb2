//! Which sequences the network works on in its next step. Pure: it knows lengths, no tokens.
//!
//! Sequences join and leave between steps. Each that generates has one token in every step, so that
//! none waits for the prompts of others; what is left of a step's tokens goes to prompts, in the
//! order in which they came, in chunks. A sequence joins when the cache has room for all that it may
//! ever need, so that none that has begun must give way.

use std::collections::VecDeque;

/// What may be used at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Tokens of one step; more than `sequences`, so that there is always room for a prompt.
    step_tokens: usize,
    /// Tokens in the caches of all sequences together.
    cache_tokens: usize,
    sequences: usize,
}

/// A sequence that can never be run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Impossible {
    #[error("the prompt has no tokens")]
    Empty,
    #[error("prompt and answer need room for {needed} tokens, and there is room for {room}")]
    TooLong { needed: usize, room: usize },
}

/// A sequence's part in a step: its next `tokens`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share<K> {
    pub key: K,
    pub tokens: usize,
    /// The network's answer to the last of them is the next token; otherwise more of the prompt
    /// comes first.
    pub generates: bool,
}

#[derive(Debug, Clone, Copy)]
struct Sequence<K> {
    key: K,
    /// Tokens of the prompt that the network has not seen.
    unseen: usize,
    /// Tokens of the cache that are set aside for it.
    reserved: usize,
}

/// The sequences of one model.
#[derive(Debug)]
pub struct Scheduler<K> {
    room: Room,
    waiting: VecDeque<Sequence<K>>,
    /// In the order in which they joined.
    running: Vec<Sequence<K>>,
}

impl Room {
    /// Each is raised to what a sequence needs at least.
    pub fn new(step_tokens: usize, cache_tokens: usize, sequences: usize) -> Self {
        let sequences = sequences.max(1);
        Self {
            step_tokens: step_tokens.max(sequences + 1),
            cache_tokens: cache_tokens.max(2),
            sequences,
        }
    }
}

impl<K: Copy + PartialEq> Scheduler<K> {
    pub const fn new(room: Room) -> Self {
        Self { room, waiting: VecDeque::new(), running: Vec::new() }
    }

    /// A sequence with a prompt, to which at most `answer` tokens are added.
    ///
    /// # Errors
    /// When it would never find room.
    pub fn add(&mut self, key: K, prompt: usize, answer: usize) -> Result<(), Impossible> {
        if prompt == 0 {
            return Err(Impossible::Empty);
        }
        let (reserved, room) = (prompt.saturating_add(answer), self.room.cache_tokens);
        if reserved > room {
            return Err(Impossible::TooLong { needed: reserved, room });
        }
        self.waiting.push_back(Sequence { key, unseen: prompt, reserved });
        Ok(())
    }

    /// The sequence has ended, or is not wanted any more.
    pub fn remove(&mut self, key: K) {
        self.waiting.retain(|sequence| sequence.key != key);
        self.running.retain(|sequence| sequence.key != key);
    }

    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.running.is_empty()
    }

    /// Tokens of the cache that are set aside.
    pub fn reserved(&self) -> usize {
        self.running.iter().map(|sequence| sequence.reserved).sum()
    }

    /// The parts of the next step, which counts as done. Empty only if there are no sequences.
    #[must_use]
    pub fn next_step(&mut self) -> Vec<Share<K>> {
        self.join();
        let generating = self.running.iter().filter(|sequence| sequence.unseen == 0).count();
        let mut left = self.room.step_tokens.saturating_sub(generating);
        let mut shares = Vec::with_capacity(self.running.len());
        for sequence in &mut self.running {
            if sequence.unseen == 0 {
                shares.push(Share { key: sequence.key, tokens: 1, generates: true });
                continue;
            }
            let tokens = sequence.unseen.min(left);
            if tokens == 0 {
                continue;
            }
            left -= tokens;
            sequence.unseen -= tokens;
            shares.push(Share { key: sequence.key, tokens, generates: sequence.unseen == 0 });
        }
        shares
    }

    /// Lets waiting sequences in, in their order: one that needs much room is not passed by those
    /// that need little, or it might wait for ever.
    fn join(&mut self) {
        while self.running.len() < self.room.sequences {
            let free = self.room.cache_tokens - self.reserved();
            let Some(next) = self.waiting.pop_front_if(|next| next.reserved <= free) else {
                return;
            };
            self.running.push(next);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn reads(key: u8, tokens: usize) -> Share<u8> {
        Share { key, tokens, generates: false }
    }

    fn generates(key: u8, tokens: usize) -> Share<u8> {
        Share { key, tokens, generates: true }
    }

    #[test]
    fn a_long_prompt_comes_in_chunks_and_keeps_nobody_waiting() {
        let mut scheduler = Scheduler::new(Room::new(8, 100, 4));
        scheduler.add(1, 3, 10).unwrap();
        assert_eq!(scheduler.next_step(), [generates(1, 3)]);
        scheduler.add(2, 16, 10).unwrap();
        scheduler.add(3, 2, 10).unwrap();
        assert_eq!(scheduler.next_step(), [generates(1, 1), reads(2, 7)]);
        assert_eq!(scheduler.next_step(), [generates(1, 1), reads(2, 7)]);
        assert_eq!(scheduler.next_step(), [generates(1, 1), generates(2, 2), generates(3, 2)]);
        scheduler.remove(1);
        assert_eq!(scheduler.next_step(), [generates(2, 1), generates(3, 1)]);
    }

    #[test]
    fn who_joins_has_room_to_the_end_and_nobody_is_passed_by() {
        let mut scheduler = Scheduler::new(Room::new(50, 20, 4));
        scheduler.add(1, 5, 5).unwrap();
        scheduler.add(2, 5, 10).unwrap();
        scheduler.add(3, 1, 1).unwrap();
        assert_eq!(scheduler.next_step(), [generates(1, 5)]);
        assert_eq!(scheduler.reserved(), 10);
        scheduler.remove(1);
        assert_eq!(scheduler.next_step(), [generates(2, 5), generates(3, 1)]);
        assert_eq!(scheduler.reserved(), 17);
    }

    #[test]
    fn what_never_fits_is_refused_at_once() {
        let mut scheduler = Scheduler::new(Room::new(8, 20, 4));
        assert_eq!(scheduler.add(1, 0, 5), Err(Impossible::Empty));
        let error = scheduler.add(1, 15, 6).unwrap_err();
        assert_eq!(error, Impossible::TooLong { needed: 21, room: 20 });
        assert!(scheduler.add(1, usize::MAX, usize::MAX).is_err());
        assert!(scheduler.is_empty() && scheduler.next_step().is_empty());
        scheduler.add(1, 15, 5).unwrap();
    }

    #[test]
    fn a_sequence_can_be_given_up_while_it_waits() {
        let mut scheduler = Scheduler::new(Room::new(8, 20, 1));
        scheduler.add(1, 1, 1).unwrap();
        scheduler.add(2, 1, 1).unwrap();
        scheduler.remove(2);
        assert_eq!(scheduler.next_step(), [generates(1, 1)]);
        scheduler.remove(1);
        assert!(scheduler.is_empty());
    }

    proptest! {
        /// Sequences as (prompt, answer), in room that is often too small for all of them at once.
        #[test]
        fn every_sequence_ends_within_its_room(
            sequences in proptest::collection::vec((1_usize..40, 1_usize..10), 1..12),
            step_tokens in 1_usize..20,
            most in 1_usize..5,
        ) {
            let room = Room::new(step_tokens, 50, most);
            let mut scheduler = Scheduler::new(room);
            let mut left = BTreeMap::new();
            for (key, (prompt, answer)) in sequences.iter().enumerate() {
                scheduler.add(key, *prompt, *answer).unwrap();
                left.insert(key, (*prompt, *answer));
            }
            let total: usize = sequences.iter().map(|(prompt, answer)| prompt + answer).sum();
            let mut begun = Vec::new();
            for _ in 0..total {
                if scheduler.is_empty() {
                    break;
                }
                let generating: Vec<usize> = begun
                    .iter()
                    .copied()
                    .filter(|key| left.get(key).is_some_and(|(prompt, _)| *prompt == 0))
                    .collect();
                let step = scheduler.next_step();
                prop_assert!(!step.is_empty(), "it stands still");
                prop_assert!(step.len() <= most && scheduler.reserved() <= 50);
                prop_assert!(step.iter().map(|share| share.tokens).sum::<usize>() <= room.step_tokens);
                for key in generating {
                    let share = Share { key, tokens: 1, generates: true };
                    prop_assert!(step.contains(&share));
                }
                for Share { key, tokens, generates } in step {
                    if !begun.contains(&key) {
                        begun.push(key);
                    }
                    let (prompt, answer) = left.get_mut(&key).unwrap();
                    if *prompt > 0 {
                        prop_assert!(tokens <= *prompt);
                        *prompt -= tokens;
                        prop_assert_eq!(generates, *prompt == 0);
                    }
                    if generates {
                        *answer -= 1;
                        if *answer == 0 {
                            left.remove(&key);
                            scheduler.remove(key);
                        }
                    }
                }
            }
            prop_assert!(left.is_empty() && scheduler.is_empty(), "not all have ended: {left:?}");
            prop_assert!(begun.is_sorted(), "they begin in their order");
        }
    }
}
