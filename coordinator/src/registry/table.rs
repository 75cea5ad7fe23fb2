//! The rules of the registry: pure but for the channels that it feeds without waiting.

use std::collections::BTreeMap;
use std::time::Duration;

use stoker_core::departure::Cause;
use stoker_core::ids::{ModelName, WorkerId};
use stoker_core::time::Timestamp;
use tokio::sync::mpsc;

use super::{
    COMMAND_BACKLOG, Command, CommandStream, Cordon, FORGET_AFTER, Heard, MAX_WORKERS, Need,
    Registration, RegistryFull, Report, Residency, StreamId, WorkerState, WorkerView,
};
use crate::store::{Lane, WorkerOrders};

#[derive(Debug)]
pub(super) struct Table {
    workers: BTreeMap<WorkerId, Entry>,
    /// Of other coordinators, as they were told last.
    others: BTreeMap<WorkerId, WorkerView>,
    listening_since: Timestamp,
    /// When other coordinators' workers were last told; `None` while none ever were.
    learned_at: Option<Timestamp>,
    lost_after: Duration,
    streams: u64,
}

#[derive(Debug)]
struct Entry {
    registration: Registration,
    report: Report,
    /// What operators commanded; survives a new stream of the same worker.
    cordoned: bool,
    draining: Option<Drain>,
    /// Its machine is being ended, and it was told so.
    sent_away: bool,
    /// `None` once the stream broke.
    stream: Option<Stream>,
    idle_since: Option<Timestamp>,
    registered_at: Timestamp,
    last_seen_at: Timestamp,
}

#[derive(Debug, Clone, Copy)]
struct Drain {
    within: Option<Duration>,
}

#[derive(Debug)]
struct Stream {
    id: StreamId,
    commands: mpsc::Sender<Command>,
}

impl Table {
    pub(super) fn new(lost_after: Duration, now: Timestamp) -> Self {
        Self {
            workers: BTreeMap::new(),
            others: BTreeMap::new(),
            listening_since: now,
            learned_at: None,
            lost_after,
            streams: 0,
        }
    }

    pub(super) fn register(
        &mut self,
        registration: Registration,
        now: Timestamp,
    ) -> Result<CommandStream, RegistryFull> {
        let before = self.workers.remove(&registration.id);
        if before.is_none() && self.workers.len() >= MAX_WORKERS {
            self.forget(now);
            if self.workers.len() >= MAX_WORKERS {
                return Err(RegistryFull);
            }
        }
        self.streams += 1;
        let id = StreamId(self.streams);
        let (commands, receiver) = mpsc::channel(COMMAND_BACKLOG);
        let mut entry = Entry {
            report: Report {
                state: WorkerState::Starting,
                busy_slots: 0,
                utilization: 0.0,
                resident_models: Vec::new(),
                drain_cause: None,
                notice: None,
                residency: None,
                remaining: None,
            },
            cordoned: false,
            draining: None,
            sent_away: false,
            stream: Some(Stream { id, commands }),
            // It may hold jobs from before: it is not idle until it says so.
            idle_since: None,
            registered_at: now,
            last_seen_at: now,
            registration,
        };
        if let Some(before) = before {
            entry.report = before.report;
            entry.idle_since = before.idle_since;
            entry.sent_away = before.sent_away;
            entry.registered_at = before.registered_at;
            if before.cordoned {
                entry.cordoned = true;
                entry.command(Command::Cordon(Cordon::Set));
            }
            if let Some(drain) = before.draining {
                entry.draining = Some(drain);
                entry.command(Command::Drain { within: drain.within });
            }
        }
        self.workers.insert(entry.registration.id, entry);
        Ok(CommandStream { id, commands: receiver })
    }

    pub(super) fn stream_ended(&mut self, worker: WorkerId, stream: StreamId) -> bool {
        let Some(entry) = self.workers.get_mut(&worker) else { return false };
        let current = entry.stream.as_ref().is_some_and(|current| current.id == stream);
        if current {
            entry.stream = None;
        }
        current
    }

    pub(super) fn heard(
        &mut self,
        worker: WorkerId,
        report: Option<Report>,
        now: Timestamp,
    ) -> Heard {
        let lost_after = self.lost_after;
        let Some(entry) = self.workers.get_mut(&worker) else { return Heard::Unknown };
        if entry.stream.is_none() {
            return Heard::Unknown;
        }
        let could = entry.could_take(now, lost_after);
        entry.last_seen_at = now;
        if let Some(report) = report {
            entry.idle_since = (report.busy_slots == 0).then(|| entry.idle_since.unwrap_or(now));
            entry.report = report;
        }
        let can = entry.could_take(now, lost_after);
        Heard::Known { gained_capacity: can.iter().any(|model| !could.contains(model)) }
    }

    pub(super) fn granted(&mut self, worker: WorkerId) {
        if let Some(entry) = self.workers.get_mut(&worker) {
            entry.idle_since = None;
        }
    }

    pub(super) fn slots(&self, lane: &Lane, now: Timestamp) -> u32 {
        let own = self.serving(lane, WorkerState::Ready, now);
        let own = own.filter(|entry| has(entry.report.residency.as_ref(), lane));
        let own = own.map(|entry| entry.registration.slots);
        let others = self.others_serving(lane, WorkerState::Ready, now);
        let others = others.filter(|view| has(view.residency.as_ref(), lane));
        own.chain(others.map(|view| view.registration.slots)).fold(0, u32::saturating_add)
    }

    pub(super) fn starting(&self, lane: &Lane, now: Timestamp) -> usize {
        let own = self.serving(lane, WorkerState::Ready, now);
        let own = own.filter(|entry| !has(entry.report.residency.as_ref(), lane)).count();
        let others = self.others_serving(lane, WorkerState::Ready, now);
        let others = others.filter(|view| !has(view.residency.as_ref(), lane)).count();
        let loading = self.others_serving(lane, WorkerState::Starting, now).count();
        self.serving(lane, WorkerState::Starting, now).count() + loading + own + others
    }

    /// The workers of a queue that are in this state.
    fn serving(
        &self,
        lane: &Lane,
        state: WorkerState,
        now: Timestamp,
    ) -> impl Iterator<Item = &Entry> {
        let lost_after = self.lost_after;
        self.workers.values().filter(move |entry| {
            serves(&entry.registration, lane) && entry.state(now, lost_after) == state
        })
    }

    fn others_serving(
        &self,
        lane: &Lane,
        state: WorkerState,
        now: Timestamp,
    ) -> impl Iterator<Item = &WorkerView> {
        self.others
            .values()
            .filter(move |view| serves(&view.registration, lane) && self.other(view, now) == state)
    }

    /// The state of another coordinator's worker. One that has a stream here counts here.
    fn other(&self, view: &WorkerView, now: Timestamp) -> WorkerState {
        let id = view.registration.id;
        let here = self.workers.get(&id).is_some_and(|entry| entry.stream.is_some());
        let silent = now.since(view.last_seen_at) > self.lost_after;
        if here || silent { WorkerState::Lost } else { view.state }
    }

    pub(super) fn learn(&mut self, others: Vec<WorkerView>, now: Timestamp) -> bool {
        let slots = |table: &Self| -> u64 {
            let ready = |view: &&WorkerView| table.other(view, now) == WorkerState::Ready;
            table.others.values().filter(ready).map(|v| u64::from(v.registration.slots)).sum()
        };
        let before = slots(self);
        if self.is_out_of_touch(now).unwrap_or(true) {
            self.listening_since = now;
        }
        self.learned_at = Some(now);
        self.others = others.into_iter().map(|view| (view.registration.id, view)).collect();
        slots(self) > before
    }

    pub(super) fn complete_since(&self, now: Timestamp) -> Timestamp {
        if self.is_out_of_touch(now) == Some(true) { now } else { self.listening_since }
    }

    /// Whether what other coordinators told is too old to count; `None` while they told nothing.
    fn is_out_of_touch(&self, now: Timestamp) -> Option<bool> {
        self.learned_at.map(|learned_at| now.since(learned_at) > self.lost_after)
    }

    pub(super) fn obey(&mut self, worker: WorkerId, orders: WorkerOrders) {
        let Some(entry) = self.workers.get_mut(&worker) else { return };
        if entry.cordoned != orders.cordoned {
            entry.cordoned = orders.cordoned;
            let cordon = if orders.cordoned { Cordon::Set } else { Cordon::Lifted };
            entry.command(Command::Cordon(cordon));
        }
        if let (None, Some(within)) = (entry.draining, orders.drain) {
            entry.draining = Some(Drain { within });
            entry.command(Command::Drain { within });
        }
    }

    /// Passes on what is no loss when the channel is full or closed: it is told again, or in another way.
    pub(super) fn try_command(&mut self, worker: WorkerId, command: Command) {
        if let Some(stream) = self.workers.get(&worker).and_then(|entry| entry.stream.as_ref()) {
            let _ = stream.commands.try_send(command);
        }
    }

    /// As [`Self::try_command`], but half of the room stays for what is not told again.
    pub(super) fn tell_needs(&mut self, worker: WorkerId, needs: Vec<Need>) {
        if let Some(stream) = self.workers.get(&worker).and_then(|entry| entry.stream.as_ref())
            && stream.commands.capacity() > COMMAND_BACKLOG / 2
        {
            let _ = stream.commands.try_send(Command::Needs(needs));
        }
    }

    pub(super) fn sharing(&self) -> Vec<WorkerId> {
        let shares = |entry: &&Entry| {
            let residency = entry.report.residency.as_ref();
            entry.stream.is_some() && residency.is_some_and(|residency| residency.shared)
        };
        self.workers.values().filter(shares).map(|entry| entry.registration.id).collect()
    }

    pub(super) fn cordon(
        &mut self,
        worker: WorkerId,
        cordon: Cordon,
        now: Timestamp,
    ) -> Option<WorkerView> {
        let entry = self.workers.get_mut(&worker)?;
        entry.cordoned = cordon == Cordon::Set;
        entry.command(Command::Cordon(cordon));
        Some(entry.view(now, self.lost_after))
    }

    pub(super) fn drain(
        &mut self,
        worker: WorkerId,
        within: Option<Duration>,
        now: Timestamp,
    ) -> Option<WorkerView> {
        let entry = self.workers.get_mut(&worker)?;
        entry.draining = Some(Drain { within });
        entry.command(Command::Drain { within });
        Some(entry.view(now, self.lost_after))
    }

    pub(super) fn send_away(&mut self, worker: WorkerId) {
        let Some(entry) = self.workers.get_mut(&worker) else { return };
        if !entry.sent_away {
            // Also one that has longer by an operator's word: the machine ends before.
            entry.sent_away = true;
            entry.draining = Some(Drain { within: None });
            entry.command(Command::Drain { within: None });
        }
    }

    pub(super) fn is_sent_away(&self, worker: WorkerId) -> bool {
        self.workers.get(&worker).is_some_and(|entry| entry.draining.is_some())
    }

    pub(super) fn own(&mut self, now: Timestamp) -> Vec<WorkerView> {
        self.forget(now);
        self.workers.values().map(|entry| entry.view(now, self.lost_after)).collect()
    }

    pub(super) fn list(&mut self, now: Timestamp) -> Vec<WorkerView> {
        let mut all: BTreeMap<WorkerId, WorkerView> =
            self.own(now).into_iter().map(|view| (view.registration.id, view)).collect();
        for (id, view) in &self.others {
            // A worker that went over to another coordinator is lost to this one.
            let lost_here = all.get(id).is_none_or(|own| own.state == WorkerState::Lost);
            if lost_here {
                all.insert(*id, WorkerView { state: self.other(view, now), ..view.clone() });
            }
        }
        all.into_values().collect()
    }

    fn forget(&mut self, now: Timestamp) {
        let lost_after = self.lost_after;
        self.workers.retain(|_, entry| {
            entry.state(now, lost_after) != WorkerState::Lost
                || now.since(entry.last_seen_at) < FORGET_AFTER.max(lost_after)
        });
    }
}

/// Whether a worker that serves the queue has its model in memory.
fn has(residency: Option<&Residency>, lane: &Lane) -> bool {
    residency.is_none_or(|residency| residency.takes(&lane.model))
}

fn serves(registration: &Registration, lane: &Lane) -> bool {
    registration.pool == lane.pool && registration.models.contains(&lane.model)
}

impl Entry {
    fn state(&self, now: Timestamp, lost_after: Duration) -> WorkerState {
        if self.stream.is_none() || now.since(self.last_seen_at) > lost_after {
            return WorkerState::Lost;
        }
        if self.draining.is_some() {
            return WorkerState::Draining;
        }
        match self.report.state {
            WorkerState::Draining => WorkerState::Draining,
            _ if self.cordoned => WorkerState::Cordoned,
            reported => reported,
        }
    }

    /// The models of which it takes jobs.
    fn could_take(&self, now: Timestamp, lost_after: Duration) -> Vec<ModelName> {
        if self.state(now, lost_after) != WorkerState::Ready {
            return Vec::new();
        }
        let residency = self.report.residency.as_ref();
        let has = |model: &&ModelName| residency.is_none_or(|residency| residency.takes(model));
        self.registration.models.iter().filter(has).cloned().collect()
    }

    /// The worker's own word, and until it has heard of it, the operator's command.
    fn drain_cause(&self) -> Option<Cause> {
        self.report.drain_cause.or_else(|| self.draining.map(|_| Cause::Operator))
    }

    /// Queues a command that must not get lost: if there is no room, the stream ends, and the
    /// worker is told when it registers again.
    fn command(&mut self, command: Command) {
        if let Some(stream) = &self.stream
            && stream.commands.try_send(command).is_err()
        {
            self.stream = None;
        }
    }

    fn view(&self, now: Timestamp, lost_after: Duration) -> WorkerView {
        WorkerView {
            registration: self.registration.clone(),
            state: self.state(now, lost_after),
            busy_slots: self.report.busy_slots,
            utilization: self.report.utilization,
            resident_models: self.report.resident_models.clone(),
            drain_cause: self.drain_cause(),
            notice: self.report.notice,
            residency: self.report.residency.clone(),
            remaining: self.report.remaining,
            idle_since: self.idle_since,
            registered_at: self.registered_at,
            last_seen_at: self.last_seen_at,
        }
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
