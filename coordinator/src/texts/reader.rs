//! Somebody who reads along: what of each text they have not been given yet. A slow one costs no memory: what it
//! has not read is where everybody's texts are, and comes in larger pieces.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use stoker_core::ids::JobId;
use stoker_core::told::ToldText;
use stoker_proto::v1::TextPiece;

use super::{Text, Texts};
use crate::watch::Watcher;

/// Bytes of text in one message. Messages wait for a slow reader, so they are small.
const MAX_BYTES: usize = 16 << 10;

/// What a piece takes beside its text, about.
const PIECE_BYTES: usize = 16;

/// Reads along with some jobs, each until it is left, from their beginning.
#[derive(Debug)]
pub struct Reader {
    texts: Arc<Texts>,
    watcher: Watcher,
    seen: BTreeMap<JobId, BTreeMap<u32, Seen>>,
}

/// How far a reader is with a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Seen {
    bytes: usize,
    ended: bool,
    revision: u64,
}

impl Reader {
    pub(super) const fn new(texts: Arc<Texts>, watcher: Watcher) -> Self {
        Self { texts, watcher, seen: BTreeMap::new() }
    }

    /// The jobs of which more is told since the last call; waits until there is one. Cancel-safe.
    pub async fn changed(&self) -> BTreeSet<JobId> {
        self.watcher.changed().await
    }

    /// Some of what is told of a job and was not read, for one message; nothing when all of it was.
    pub fn news(&mut self, job: JobId) -> Vec<TextPiece> {
        let memory = self.texts.memory();
        let Some(known) = memory.jobs.get(&job) else { return Vec::new() };
        let seen = self.seen.entry(job).or_default();
        let mut message = Message::default();
        for (item, text) in &known.texts {
            let seen = seen.entry(*item).or_default();
            if seen.revision != text.revision {
                *seen = Seen { revision: text.revision, ..Seen::default() };
            }
            if !message.add(*item, Source::Told(&text.told), seen) {
                break;
            }
        }
        message.pieces
    }

    /// What was not read of an item's text as its result has it, in messages.
    pub fn rest(&mut self, job: JobId, item: u32, result: &str) -> Vec<Vec<TextPiece>> {
        let memory = self.texts.memory();
        let told = memory.jobs.get(&job).and_then(|known| known.texts.get(&item));
        let seen = self.seen.entry(job).or_default().entry(item).or_default();
        // What was read may have become another text since, and cannot be compared any more then.
        let same = |text: &Text| {
            let read = text.told.text().get(..seen.bytes);
            seen.revision == text.revision && read.is_some_and(|read| result.starts_with(read))
        };
        let unread = seen.bytes == 0 && !seen.ended;
        if !unread && !(told.is_some_and(same) && (!seen.ended || seen.bytes == result.len())) {
            *seen = Seen { revision: seen.revision, ..Seen::default() };
        }
        drop(memory);
        let mut messages = Vec::new();
        loop {
            let mut message = Message::default();
            message.add(item, Source::Result(result), seen);
            if message.pieces.is_empty() {
                return messages;
            }
            messages.push(message.pieces);
        }
    }

    /// Reads no further in a job.
    pub fn leave(&mut self, job: JobId) {
        self.seen.remove(&job);
        let mut memory = self.texts.memory();
        self.watcher.leave(job);
        self.texts.forget_unread(&mut memory, [job]);
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let texts = Arc::clone(&self.texts);
        let mut memory = texts.memory();
        let jobs = self.watcher.leave_all();
        texts.forget_unread(&mut memory, jobs);
    }
}

/// Where a text is read.
#[derive(Debug, Clone, Copy)]
enum Source<'a> {
    Told(&'a ToldText),
    /// As it is stored: whole.
    Result(&'a str),
}

impl<'a> Source<'a> {
    const fn text(self) -> &'a str {
        match self {
            Self::Told(told) => told.text(),
            Self::Result(text) => text,
        }
    }

    const fn has_ended(self) -> bool {
        match self {
            Self::Told(told) => told.has_ended(),
            Self::Result(_) => true,
        }
    }
}

/// Pieces that travel together.
#[derive(Debug, Default)]
struct Message {
    pieces: Vec<TextPiece>,
    bytes: usize,
}

impl Message {
    /// Adds what somebody who has seen so much has not seen of a text. Whether all of that had room.
    fn add(&mut self, item: u32, source: Source<'_>, seen: &mut Seen) -> bool {
        let ended = source.has_ended();
        let rest = source.text().get(seen.bytes..).unwrap_or_default();
        if rest.is_empty() && (seen.ended || !ended) {
            return true;
        }
        let left = MAX_BYTES.saturating_sub(self.bytes);
        let stretch = &rest[..rest.floor_char_boundary(left)];
        let is_all = stretch.len() == rest.len();
        if left == 0 || (stretch.is_empty() && !is_all) {
            return false;
        }
        self.bytes += stretch.len() + PIECE_BYTES;
        self.pieces.push(TextPiece {
            item,
            bytes_before: u64::try_from(seen.bytes).unwrap_or(u64::MAX),
            text: stretch.to_owned(),
            ends: ended && is_all,
        });
        seen.bytes += stretch.len();
        seen.ended = ended && is_all;
        is_all
    }
}
