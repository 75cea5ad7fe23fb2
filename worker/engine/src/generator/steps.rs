//! The steps of a network that all lanes share.
//!
//! A lane that waits for its text does the next step itself if nobody is at it, for all sequences of all
//! lanes; the others wait for its end. So there is no thread of its own, and a step has an owner that can
//! fail.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use stoker_engine_api::{EngineError, Finish, Piece};

use crate::decoder::{Decoder, KvCache, StepPart};
use crate::device::classify;
use crate::generation::{Order, Room, Scheduler, Sequence, Share};
use crate::vocabulary::Vocabulary;

/// A network, and the sequences that it works on.
pub(super) struct Steps {
    decoder: Decoder,
    state: Mutex<State>,
    /// Rung after each step.
    bell: Condvar,
}

struct State {
    scheduler: Scheduler<u64>,
    next_key: u64,
    /// Of every ticket.
    places: BTreeMap<u64, Place>,
    /// Somebody is at a step.
    stepping: bool,
}

/// What a ticket stands for.
#[derive(Default)]
struct Place {
    /// Nothing while a step has it.
    running: Option<Running>,
    /// What its lane has not taken yet, which it may do while the next step is under way.
    news: Piece,
    failed: Option<EngineError>,
    done: Option<Done>,
}

impl Place {
    /// Takes a sequence back, with what a step made of it.
    fn put(&mut self, mut running: Running) {
        self.news.append(running.sequence.take_news());
        self.failed = running.failed.take();
        self.done = Done::of(&running.sequence);
        self.running = Some(running);
    }
}

/// A sequence with its part of the cache.
struct Running {
    sequence: Sequence,
    /// Made when the sequence joins.
    cache: Option<KvCache>,
    /// Why it cannot go on.
    failed: Option<EngineError>,
}

/// A lane's hold on its sequence, which leaves with it.
pub(super) struct Ticket<'a> {
    steps: &'a Steps,
    key: u64,
    news: Piece,
    done: Option<Done>,
}

/// A text that has ended.
pub(super) struct Done {
    pub(super) text: String,
    pub(super) finish: Finish,
    pub(super) prompt_tokens: usize,
    pub(super) generated_tokens: usize,
}

impl Done {
    fn of(sequence: &Sequence) -> Option<Self> {
        Some(Self {
            finish: sequence.finish()?,
            text: sequence.text().to_owned(),
            prompt_tokens: sequence.prompt_tokens(),
            generated_tokens: sequence.generated_tokens(),
        })
    }
}

impl Ticket<'_> {
    /// What was generated since the last time.
    pub(super) fn take_news(&mut self) -> Piece {
        std::mem::take(&mut self.news)
    }

    /// Its text, which has ended.
    pub(super) fn into_done(mut self) -> Done {
        let unfinished = Done {
            text: String::new(),
            finish: Finish::Length,
            prompt_tokens: 0,
            generated_tokens: 0,
        };
        self.done.take().unwrap_or(unfinished)
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        let mut state = self.steps.state();
        state.scheduler.remove(self.key);
        state.places.remove(&self.key);
    }
}

impl Steps {
    pub(super) fn new(decoder: Decoder, room: Room) -> Self {
        let state = State {
            scheduler: Scheduler::new(room),
            next_key: 0,
            places: BTreeMap::new(),
            stepping: false,
        };
        Self { decoder, state: Mutex::new(state), bell: Condvar::new() }
    }

    pub(super) const fn decoder(&self) -> &Decoder {
        &self.decoder
    }

    /// What the network says after these tokens.
    pub(super) fn next_numbers(&self, tokens: &[u32]) -> Result<Vec<f32>, EngineError> {
        let numbers = self.decoder.cache(tokens.len()).and_then(|mut cache| {
            let part = StepPart { cache: &mut cache, tokens, generates: true };
            self.decoder.step(&mut [part])
        });
        let numbers = numbers.map_err(|error| classify(&error))?.pop();
        numbers.ok_or_else(|| EngineError::Internal { message: "no numbers".to_owned() })
    }

    /// A sequence that takes part from the next step on, as soon as there is room for it.
    ///
    /// # Errors
    /// When there never is.
    pub(super) fn join(
        &self,
        order: Order,
        vocabulary: &Vocabulary,
    ) -> Result<Ticket<'_>, EngineError> {
        let sequence = Sequence::new(order, vocabulary.ends(), vocabulary);
        let mut state = self.state();
        let key = state.next_key;
        state.next_key += 1;
        if sequence.finish().is_none() {
            let (known, left) = (sequence.tokens().len(), sequence.tokens_left());
            let added = state.scheduler.add(key, known, left);
            added.map_err(|error| EngineError::Input { message: error.to_string() })?;
        }
        let place = state.places.entry(key).or_default();
        place.put(Running { sequence, cache: None, failed: None });
        drop(state);
        Ok(Ticket { steps: self, key, news: Piece::default(), done: None })
    }

    /// Waits for a step, or does one. Whether all of these texts have ended.
    ///
    /// # Errors
    /// When one of them cannot go on. The others of the same call are given up with it.
    pub(super) fn work(
        &self,
        tickets: &mut [Ticket<'_>],
        vocabulary: &Vocabulary,
    ) -> Result<bool, EngineError> {
        let mut state = self.state();
        if collect(&mut state, tickets)? {
            return Ok(true);
        }
        if state.stepping {
            drop(self.bell.wait(state).unwrap_or_else(PoisonError::into_inner));
        } else {
            let shares = state.scheduler.next_step();
            let taken: Vec<(Share<u64>, Running)> = shares
                .into_iter()
                .filter_map(|share| {
                    let running = state.places.get_mut(&share.key)?.running.take()?;
                    Some((share, running))
                })
                .collect();
            if taken.is_empty() {
                let message = "there is no sequence to work on".to_owned();
                return Err(EngineError::Internal { message });
            }
            state.stepping = true;
            drop(state);
            let step = Step { steps: self, taken };
            step.run(vocabulary);
        }
        collect(&mut self.state(), tickets)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes what is new of these sequences. Whether all have ended.
fn collect(state: &mut State, tickets: &mut [Ticket<'_>]) -> Result<bool, EngineError> {
    for ticket in tickets.iter_mut().filter(|ticket| ticket.done.is_none()) {
        let Some(place) = state.places.get_mut(&ticket.key) else { continue };
        if let Some(error) = place.failed.take() {
            return Err(error);
        }
        ticket.news.append(std::mem::take(&mut place.news));
        ticket.done = place.done.take();
    }
    Ok(tickets.iter().all(|ticket| ticket.done.is_some()))
}

/// A step under way. Its sequences go back when it ends, however it does.
struct Step<'a> {
    steps: &'a Steps,
    taken: Vec<(Share<u64>, Running)>,
}

impl Step<'_> {
    fn run(mut self, vocabulary: &Vocabulary) {
        let decoder = &self.steps.decoder;
        make_caches(decoder, &mut self.taken);
        let result = step(decoder, &mut self.taken).map_err(|error| classify(&error));
        match result {
            Ok(logits) => {
                let generating = self
                    .taken
                    .iter_mut()
                    .filter(|(share, running)| share.generates && running.failed.is_none());
                for ((_, running), logits) in generating.zip(logits) {
                    let chosen = running.sequence.choose(&logits, vocabulary.ends(), vocabulary);
                    if let Err(error) = chosen {
                        running.failed = Some(EngineError::Input { message: error.to_string() });
                    }
                }
            }
            // Which of them is to blame is not known.
            Err(error) => {
                for (_, running) in &mut self.taken {
                    running.failed = Some(error.clone());
                }
            }
        }
    }
}

impl Drop for Step<'_> {
    fn drop(&mut self) {
        let panicking = std::thread::panicking();
        let mut state = self.steps.state();
        let mut ended = BTreeSet::new();
        for (share, mut running) in self.taken.drain(..) {
            if panicking {
                let message = "the step that it was part of failed".to_owned();
                running.failed = Some(EngineError::Internal { message });
            }
            if running.sequence.finish().is_some() || running.failed.is_some() {
                running.cache = None;
                ended.insert(share.key);
            }
            // Nothing is left of one whose lane has gone.
            if let Some(place) = state.places.get_mut(&share.key) {
                place.put(running);
            }
        }
        for key in ended {
            state.scheduler.remove(key);
        }
        state.stepping = false;
        drop(state);
        self.steps.bell.notify_all();
    }
}

/// Room for those that join. One that gets none fails by itself.
fn make_caches(decoder: &Decoder, taken: &mut [(Share<u64>, Running)]) {
    for (_, running) in taken {
        if running.cache.is_none() {
            let sequence = &running.sequence;
            let tokens = sequence.tokens().len() + sequence.tokens_left();
            match decoder.cache(tokens) {
                Ok(cache) => running.cache = Some(cache),
                Err(error) => running.failed = Some(classify(&error)),
            }
        }
    }
}

/// One network step. Gives the numbers of those that generate, in their order.
fn step(
    decoder: &Decoder,
    taken: &mut [(Share<u64>, Running)],
) -> candle_core::Result<Vec<Vec<f32>>> {
    let mut parts = Vec::with_capacity(taken.len());
    for (share, running) in taken {
        let Running { sequence, cache: Some(cache), failed: None } = running else { continue };
        let next = sequence.tokens().get(cache.len()..).unwrap_or_default();
        let tokens = next.get(..share.tokens).unwrap_or(next);
        parts.push(StepPart { cache, tokens, generates: share.generates });
    }
    if parts.is_empty() { Ok(Vec::new()) } else { decoder.step(&mut parts) }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use stoker_engine_api::{Engine as _, GenerationInput, GenerationSettings, ItemInput, Prompt};

    use super::*;
    use crate::{Generator, GeneratorOptions, ModelOptions};

    #[test]
    fn a_lane_gets_its_news_while_another_is_at_the_next_step() {
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/tiny-decoders/llama");
        let options = GeneratorOptions {
            model: ModelOptions::new("tiny", golden),
            step_tokens: None,
            cache_mebibytes: None,
        };
        let engine = Generator::load(&options).unwrap();
        let prompt = Prompt::Text("The quick brown fox".to_owned());
        let settings = GenerationSettings::greedy(9);
        let input = GenerationInput { prompt, settings, generated: Vec::new() };
        let item = engine.prepare(ItemInput::Generation(Box::new(input))).unwrap();
        let (steps, vocabulary) = (&engine.steps, &engine.vocabulary);
        let mut waiting = [steps.join(item.order.clone(), vocabulary).unwrap()];
        let mut working = [steps.join(item.order.clone(), vocabulary).unwrap()];
        assert!(!steps.work(&mut working, vocabulary).unwrap());

        // The next step has them all.
        let mut state = steps.state();
        state.stepping = true;
        let taken: Vec<_> = state.places.values_mut().map(|place| place.running.take()).collect();
        assert!(taken.iter().all(Option::is_some));
        assert!(!collect(&mut state, &mut waiting).unwrap());
        drop(state);
        assert_eq!(waiting[0].take_news().tokens.len(), 1);
    }
}
