//! Items on their way to be prepared: how many at a time, and of which jobs.

use stoker_engine_api::{ItemInput, ItemKey, MAX_PREPARE_THREADS, ToEngine};

use super::{Board, JobKey, Step};

/// Items of one `Prepare` message, which the engine answers as a whole.
const PREPARE_ITEMS: usize = 64;
/// Bytes of one `Prepare` message beyond which no further item is added.
const PREPARE_BYTES: usize = 4 << 20;
/// Items of one job that may be on their way to be prepared, so that a large job does not stand
/// before a small one that comes later.
pub(super) const PREPARING_PER_JOB: usize = 2 * PREPARE_ITEMS;
/// The same where each item takes long and has a message of its own. More would keep batches waiting that come
/// after them.
pub(super) const LONG_PREPARING_PER_JOB: usize = 2 * MAX_PREPARE_THREADS;
/// Items that the engine may hold for all jobs. A job of which it holds nothing gets its first few
/// all the same: its turn may be the one that makes room.
const MAX_HELD_ITEMS: usize = 65_536;

/// A `Prepare` message without an answer.
#[derive(Debug)]
pub(super) struct Preparing {
    /// Its first item, by which its answer is known.
    pub(super) first: ItemKey,
    pub(super) jobs: Vec<JobKey>,
}

impl Board {
    /// Prepares ahead for the jobs whose turn it is.
    pub(super) fn prepare(&mut self, step: &mut Step) {
        let Some(capacity) = self.engine else { return };
        let lanes = u64::try_from(capacity.lanes).unwrap_or(u64::MAX);
        let ahead = u64::from(capacity.max_tokens).saturating_mul(lanes + 1);
        let mut message = Prepare::default();
        let turn = self.turn;
        for (key, job) in self.jobs.iter_mut().filter(|(key, job)| job.turn(**key) == turn) {
            let most_held = if job.is_in_engine() { 0 } else { self.items.len() + PREPARE_ITEMS };
            let most_held = MAX_HELD_ITEMS.max(most_held);
            let takes_long = job.prepares_long();
            let most = if takes_long { LONG_PREPARING_PER_JOB } else { PREPARING_PER_JOB };
            while job.preparing() < most
                && job.prepared_tokens() < ahead
                && job.has_room_for_results()
                && self.items.len() < most_held
            {
                let Some(bytes) = job.next_bytes() else { break };
                if message.is_full_for(bytes) {
                    message.flush(&mut self.preparing, step);
                }
                let item = ItemKey(self.next_key);
                let Some((index, input)) = job.prepare_next(item) else { break };
                self.next_key += 1;
                self.items.insert(item, (*key, index));
                message.add(*key, item, input, bytes);
                if takes_long {
                    message.flush(&mut self.preparing, step);
                }
            }
        }
        message.flush(&mut self.preparing, step);
    }
}

/// A `Prepare` message that is being filled.
#[derive(Default)]
struct Prepare {
    items: Vec<(ItemKey, ItemInput)>,
    jobs: Vec<JobKey>,
    bytes: usize,
}

impl Prepare {
    fn is_full_for(&self, bytes: usize) -> bool {
        self.items.len() >= PREPARE_ITEMS
            || (!self.items.is_empty() && self.bytes + bytes > PREPARE_BYTES)
    }

    fn add(&mut self, job: JobKey, key: ItemKey, input: ItemInput, bytes: usize) {
        self.items.push((key, input));
        self.bytes += bytes;
        if self.jobs.last() != Some(&job) {
            self.jobs.push(job);
        }
    }

    fn flush(&mut self, preparing: &mut Vec<Preparing>, step: &mut Step) {
        let Self { items, jobs, bytes: _ } = std::mem::take(self);
        let Some((first, _)) = items.first() else { return };
        preparing.push(Preparing { first: *first, jobs });
        step.messages.push(ToEngine::Prepare { items });
    }
}
