//! What is being generated of jobs that somebody reads along with. In memory only, and bounded: whoever generates
//! tells it again to a coordinator that does not know it, and the results say it all in the end.

mod reader;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use stoker_core::ids::{Attempt, JobId};
use stoker_core::told::{Heard, Stretch, ToldText};
use stoker_proto::v1::TextPiece;

use crate::watch::Hub;

pub use reader::Reader;

/// Bytes of the texts of all jobs together, and of one job's. What would be beyond comes with the job's results.
const MAX_BYTES: usize = 64 << 20;
const MAX_JOB_BYTES: usize = 4 << 20;

/// What a text takes beside its bytes, about.
const TEXT_BYTES: usize = 128;

/// Keeps what is told of jobs that are read along with, and wakes those who read.
#[derive(Debug, Default)]
pub struct Texts {
    hub: Arc<Hub>,
    memory: Mutex<Memory>,
}

#[derive(Debug, Default)]
struct Memory {
    jobs: BTreeMap<JobId, JobTexts>,
    /// Of all jobs.
    bytes: usize,
}

/// What is known of one job's texts.
#[derive(Debug)]
struct JobTexts {
    /// The latest attempt that told something.
    attempt: Attempt,
    texts: BTreeMap<u32, Text>,
    bytes: usize,
    /// There was no room for something: nothing more is taken.
    is_full: bool,
}

#[derive(Debug)]
struct Text {
    told: ToldText,
    /// Who told it from its beginning, last.
    attempt: Attempt,
    /// Raised when something that was told is not so.
    revision: u64,
}

/// What whoever generates is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// Nobody reads along, or there is no room for more, or a later attempt speaks.
    No,
    /// Bytes that are known by this attempt, of the items that it told of and of those that have not ended.
    Yes(BTreeMap<u32, u64>),
}

impl Texts {
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Reads along with these jobs from their beginning.
    pub fn read(self: &Arc<Self>, jobs: &[JobId]) -> Reader {
        Reader::new(Arc::clone(self), self.hub.subscribe(jobs))
    }

    /// Whether somebody reads along.
    pub fn is_read(&self, job: JobId) -> bool {
        self.hub.is_watched(job)
    }

    /// Takes what an attempt tells of a job that is read along with.
    pub fn tell(&self, job: JobId, attempt: Attempt, pieces: &[TextPiece]) -> Wanted {
        let mut memory = self.memory();
        // Under the lock: the last reader takes the texts along.
        if !self.is_read(job) {
            return Wanted::No;
        }
        let Memory { jobs, bytes } = &mut *memory;
        let texts = jobs.entry(job).or_insert_with(|| JobTexts::new(attempt));
        if attempt < texts.attempt {
            return Wanted::No;
        }
        texts.attempt = attempt;
        let before = texts.bytes;
        let changed = texts.hear(pieces, MAX_BYTES.saturating_sub(*bytes));
        *bytes = bytes.saturating_sub(before).saturating_add(texts.bytes);
        let wanted = if texts.is_full { Wanted::No } else { Wanted::Yes(texts.known(pieces)) };
        drop(memory);
        if changed {
            self.hub.changed([job]);
        }
        wanted
    }

    /// Forgets jobs that nobody reads along with any more.
    fn forget_unread(&self, memory: &mut Memory, jobs: impl IntoIterator<Item = JobId>) {
        for job in jobs {
            if !self.is_read(job)
                && let Some(texts) = memory.jobs.remove(&job)
            {
                memory.bytes = memory.bytes.saturating_sub(texts.bytes);
            }
        }
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl JobTexts {
    const fn new(attempt: Attempt) -> Self {
        Self { attempt, texts: BTreeMap::new(), bytes: 0, is_full: false }
    }

    /// Takes pieces while there is `room`. Whether something is new.
    fn hear(&mut self, pieces: &[TextPiece], mut room: usize) -> bool {
        let mut changed = false;
        for piece in pieces {
            let before = usize::try_from(piece.bytes_before).unwrap_or(usize::MAX);
            let known = self.texts.get(&piece.item);
            let is_mine = known.is_some_and(|text| text.attempt == self.attempt);
            let bytes = known.map_or(0, Text::bytes);
            // What another attempt said may be another text, so this one tells all of its own first.
            if before > bytes || (before > 0 && !is_mine) {
                continue;
            }
            let own = if known.is_some() { 0 } else { TEXT_BYTES };
            let growth = before.saturating_add(piece.text.len()).saturating_sub(bytes) + own;
            if self.is_full || growth > room.min(MAX_JOB_BYTES.saturating_sub(self.bytes)) {
                self.is_full = true;
                break;
            }
            let text = self.texts.entry(piece.item).or_insert_with(|| Text::new(self.attempt));
            let (said, ends) = (piece.text.as_str(), piece.ends);
            changed |= text.hear(self.attempt, Stretch { bytes_before: before, text: said, ends });
            // It may have become shorter as well.
            self.bytes = (self.bytes + own + text.bytes()).saturating_sub(bytes);
            room = (room + bytes).saturating_sub(own + text.bytes());
        }
        changed
    }

    /// Bytes that this attempt has told: of the items of `pieces`, and of texts that have not ended.
    fn known(&self, pieces: &[TextPiece]) -> BTreeMap<u32, u64> {
        let bytes = |text: &Text| u64::try_from(text.bytes()).unwrap_or(u64::MAX);
        let mine = |text: &Text| text.attempt == self.attempt;
        let named =
            pieces.iter().filter_map(|piece| Some((piece.item, self.texts.get(&piece.item)?)));
        let open = self.texts.iter().filter(|(_, text)| !text.told.has_ended());
        let all = named.chain(open.map(|(item, text)| (*item, text)));
        all.filter(|(_, text)| mine(text)).map(|(item, text)| (item, bytes(text))).collect()
    }
}

impl Text {
    fn new(attempt: Attempt) -> Self {
        Self { told: ToldText::default(), attempt, revision: 0 }
    }

    const fn bytes(&self) -> usize {
        self.told.text().len()
    }

    /// Whether something is new.
    fn hear(&mut self, attempt: Attempt, stretch: Stretch<'_>) -> bool {
        let heard = self.told.hear(stretch);
        match heard {
            // Within a character.
            Heard::Gap => return false,
            Heard::Nothing | Heard::More => {}
            Heard::Anew => self.revision += 1,
        }
        self.attempt = attempt;
        heard != Heard::Nothing
    }
}
