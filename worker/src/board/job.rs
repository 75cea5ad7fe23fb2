//! One job on the board: its inputs, where each item stands, and its results.

use std::sync::Arc;
use std::time::Duration;

use stoker_core::batch::{Turn, Want};
use stoker_core::departure::Pace;
use stoker_core::time::Timestamp;
use stoker_engine_api::{ItemInput, ItemKey, ItemOutput, Labels, Piece, Prompt, Question};
use stoker_proto::v1::{BegunText, BegunTexts};

use super::MAX_UNSENT_BYTES;
use super::results::{Labeled, MixedOutputs, Results};
use super::telling::Texts;

/// Tokens of a job's begun texts that are told; the coordinator keeps somewhat more.
const MAX_BEGUN_TOKENS: usize = 160_000;

/// Names an attempt inside this process; never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct JobKey(pub u64);

/// A granted job for the board.
#[derive(Debug)]
pub struct Admission {
    pub key: JobKey,
    pub inputs: Vec<ItemInput>,
    /// Items before this one are stored.
    pub first_item: u32,
    /// It is a suspect: nothing else runs or is prepared beside it.
    pub alone: bool,
    pub granted_at: Timestamp,
    /// When its slack ends.
    pub start_by: Timestamp,
}

/// Where an item stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ItemState {
    /// Not in the engine.
    Todo,
    /// The engine was asked to prepare it.
    Preparing(ItemKey),
    /// Prepared: in the queue, or in a batch.
    Prepared {
        key: ItemKey,
        cost: u32,
    },
    Done,
}

/// With which of its items a job ends here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ends {
    /// With its last.
    Complete,
    /// With the last one that was started: the rest is somebody else's.
    Early,
}

#[derive(Debug)]
pub(super) struct Job {
    inputs: Vec<ItemInput>,
    items: Vec<ItemState>,
    /// No item before this one is `Todo`.
    cursor: usize,
    preparing: usize,
    /// Tokens of items that are prepared and not done.
    prepared_tokens: u64,
    /// What its images are compared with, if they are.
    question: Option<Arc<Question>>,
    /// The labels of that, as parts of results have them.
    labels: Option<Arc<Labels>>,
    pub(super) results: Results,
    pub(super) alone: bool,
    pub(super) granted_at: Timestamp,
    pub(super) start_by: Timestamp,
    pub(super) started: bool,
    pub(super) busy: Duration,
    pub(super) ends: Ends,
    /// Of its own items, as measured lately.
    pub(super) pace: Pace,
    /// What is generated, for those who watch.
    pub(super) texts: Texts,
}

impl Job {
    pub(super) fn new(admission: Admission) -> Self {
        let Admission { key: _, inputs, first_item, alone, granted_at, start_by } = admission;
        let total = u32::try_from(inputs.len()).unwrap_or(u32::MAX);
        let stored = usize::try_from(first_item).unwrap_or(usize::MAX).min(inputs.len());
        let mut items = vec![ItemState::Done; stored];
        items.resize(inputs.len(), ItemState::Todo);
        Self {
            items,
            cursor: stored,
            preparing: 0,
            prepared_tokens: 0,
            question: inputs.first().and_then(question),
            labels: None,
            results: Results::new(total, first_item),
            inputs,
            alone,
            granted_at,
            start_by,
            started: false,
            busy: Duration::ZERO,
            ends: Ends::Complete,
            pace: Pace::default(),
            texts: Texts::default(),
        }
    }

    /// Items that are not done.
    pub(super) fn items_left(&self) -> u64 {
        let left = self.items.iter().filter(|item| **item != ItemState::Done).count();
        u64::try_from(left).unwrap_or(u64::MAX)
    }

    /// Gives up the items from `end` on, none of which is done or in a batch. Answers those that the engine
    /// holds. A job without such items ends as it would have.
    pub(super) fn end_early(&mut self, end: u32) -> Vec<ItemKey> {
        let first = usize::try_from(end).unwrap_or(usize::MAX);
        if first >= self.items.len() {
            return Vec::new();
        }
        self.ends = Ends::Early;
        self.results.end_at(end);
        self.inputs.truncate(first);
        let mut held = Vec::new();
        for item in self.items.drain(first..) {
            match item {
                ItemState::Preparing(key) => {
                    self.preparing -= 1;
                    held.push(key);
                }
                ItemState::Prepared { key, cost } => {
                    self.prepared_tokens -= u64::from(cost);
                    held.push(key);
                }
                ItemState::Todo | ItemState::Done => {}
            }
        }
        held
    }

    /// Whether an engine may need seconds to prepare one of its items.
    pub(super) fn prepares_long(&self) -> bool {
        match self.inputs.first() {
            Some(ItemInput::Recording(_)) => true,
            Some(
                ItemInput::Text(_)
                | ItemInput::Generation(_)
                | ItemInput::Image(_)
                | ItemInput::Caption(_)
                | ItemInput::Faces(_),
            )
            | None => false,
        }
    }

    pub(super) const fn preparing(&self) -> usize {
        self.preparing
    }

    pub(super) const fn prepared_tokens(&self) -> u64 {
        self.prepared_tokens
    }

    /// Whether the engine works on items of it, or holds some that are prepared.
    pub(super) const fn is_in_engine(&self) -> bool {
        self.preparing > 0 || self.prepared_tokens > 0
    }

    pub(super) fn has_room_for_results(&self) -> bool {
        self.results.unsent_bytes() < MAX_UNSENT_BYTES
    }

    /// When its work may be given to the engine.
    pub(super) const fn turn(&self, key: JobKey) -> Turn<JobKey> {
        if self.alone { Turn::Alone(key) } else { Turn::Shared }
    }

    /// Its place among those that want the engine, if it does.
    pub(super) fn want(&mut self, key: JobKey) -> Option<Want<JobKey>> {
        let wants =
            self.is_in_engine() || (self.has_room_for_results() && self.next_bytes().is_some());
        let (start_by, arrived_at, turn) = (self.start_by, self.granted_at, self.turn(key));
        wants.then_some(Want { job: key, start_by, arrived_at, turn })
    }

    /// The next item to prepare, as a copy: the input stays until its result is there, since an
    /// engine that dies takes its prepared items along.
    pub(super) fn prepare_next(&mut self, key: ItemKey) -> Option<(u32, ItemInput)> {
        while self.items.get(self.cursor).is_some_and(|item| *item != ItemState::Todo) {
            self.cursor += 1;
        }
        let item = self.items.get_mut(self.cursor)?;
        let input = self.inputs.get(self.cursor)?.clone();
        *item = ItemState::Preparing(key);
        self.preparing += 1;
        let index = u32::try_from(self.cursor).ok()?;
        Some((index, input))
    }

    /// Bytes of the next item's input; `None` when there is none left to prepare.
    pub(super) fn next_bytes(&mut self) -> Option<usize> {
        while self.items.get(self.cursor).is_some_and(|item| *item != ItemState::Todo) {
            self.cursor += 1;
        }
        self.inputs.get(self.cursor).map(ItemInput::bytes)
    }

    pub(super) fn prepared(&mut self, index: u32, cost: u32) {
        if let Some(item) = self.item_mut(index)
            && let ItemState::Preparing(key) = *item
        {
            *item = ItemState::Prepared { key, cost };
            self.preparing -= 1;
            self.prepared_tokens += u64::from(cost);
        }
    }

    /// The engine could not prepare it and keeps nothing of it.
    pub(super) fn refused(&mut self, index: u32) {
        if let Some(item) = self.item_mut(index)
            && matches!(item, ItemState::Preparing(_))
        {
            *item = ItemState::Todo;
            self.preparing -= 1;
        }
    }

    pub(super) fn done(&mut self, index: u32, output: Labeled) -> Result<(), MixedOutputs> {
        let Some(item) = self.item_mut(index) else { return Ok(()) };
        let ItemState::Prepared { cost, .. } = *item else { return Ok(()) };
        *item = ItemState::Done;
        self.prepared_tokens -= u64::from(cost);
        if let Some(input) = usize::try_from(index).ok().and_then(|i| self.inputs.get_mut(i)) {
            match input {
                // Its tokens count until its text is in a part.
                ItemInput::Generation(input) => input.prompt = Prompt::Text(String::new()),
                ItemInput::Text(text) => *text = String::new(),
                ItemInput::Image(image) => image.file = Vec::new(),
                ItemInput::Caption(image) => image.file = Vec::new(),
                ItemInput::Faces(image) => image.file = Vec::new(),
                ItemInput::Recording(recording) => recording.file = Vec::new(),
            }
        }
        // Captions are told by the results only: they are there at once.
        let tells = matches!(self.inputs.first(), Some(ItemInput::Generation(_)));
        if let ItemOutput::Generation(generation) = &output.output
            && tells
        {
            self.texts.done(index, &generation.text);
        }
        self.results.put(index, output)
    }

    /// What the scores of its items are of: its own labels if it has some, or else the engine's.
    pub(super) fn labels(&mut self, engine: Option<&Arc<Labels>>) -> Option<Arc<Labels>> {
        let engine = engine?;
        let Some(question) = &self.question else { return Some(Arc::clone(engine)) };
        let exclusive = engine.exclusive;
        let known = self.labels.take().filter(|labels| labels.exclusive == exclusive);
        let names = || Arc::new(Labels { names: question.labels.clone(), exclusive });
        self.labels = Some(known.unwrap_or_else(names));
        self.labels.clone()
    }

    /// What is generated so far of items that are in no part. Those that would make it too large begin anew.
    pub(super) fn begun(&self) -> Option<BegunTexts> {
        let mut left = MAX_BEGUN_TOKENS;
        let first = self.results.next();
        let inputs = (0..).zip(&self.inputs).skip_while(|(item, _)| *item < first);
        let texts = inputs.filter_map(|(item, input)| match input {
            ItemInput::Generation(input) if !input.generated.is_empty() => {
                left = left.checked_sub(input.generated.len())?;
                Some(BegunText { item, tokens: input.generated.clone() })
            }
            ItemInput::Generation(_)
            | ItemInput::Text(_)
            | ItemInput::Image(_)
            | ItemInput::Caption(_)
            | ItemInput::Faces(_)
            | ItemInput::Recording(_) => None,
        });
        let texts: Vec<BegunText> = texts.collect();
        (!texts.is_empty()).then_some(BegunTexts { texts })
    }

    /// More of an item's text: an engine that comes after this one goes on behind it.
    pub(super) fn said(&mut self, index: u32, piece: Piece) {
        let input = usize::try_from(index).ok().and_then(|index| self.inputs.get_mut(index));
        if let Some(ItemInput::Generation(input)) = input {
            self.texts.said(index, &piece);
            input.generated.truncate(piece.tokens_before);
            input.generated.extend(piece.tokens);
        }
    }

    /// The engine is gone, with everything it had prepared.
    pub(super) fn reset(&mut self) {
        for item in &mut self.items {
            if *item != ItemState::Done {
                *item = ItemState::Todo;
            }
        }
        self.cursor = 0;
        self.preparing = 0;
        self.prepared_tokens = 0;
    }

    /// Keys that the engine holds for this job.
    pub(super) fn held(&self) -> impl Iterator<Item = ItemKey> {
        self.items.iter().filter_map(|item| match item {
            ItemState::Preparing(key) | ItemState::Prepared { key, .. } => Some(*key),
            ItemState::Todo | ItemState::Done => None,
        })
    }

    fn item_mut(&mut self, index: u32) -> Option<&mut ItemState> {
        self.items.get_mut(usize::try_from(index).ok()?)
    }
}

fn question(input: &ItemInput) -> Option<Arc<Question>> {
    match input {
        ItemInput::Image(image) => image.question.clone(),
        ItemInput::Text(_)
        | ItemInput::Generation(_)
        | ItemInput::Caption(_)
        | ItemInput::Faces(_)
        | ItemInput::Recording(_) => None,
    }
}
