//! The state machine of an entry: total, and what does not fit is refused with a reason.

use crate::ids::{InstanceName, WorkerId};
use crate::time::Timestamp;

use super::entry::Entry;
use super::state::{Ending, Failure, Leave, State, StateKind};

/// What happened to a machine, or is about to be done with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The provider is about to be asked for it, with its id as the token; also again.
    Asked,
    /// The provider has it.
    Found {
        instance: InstanceName,
        launched_at: Timestamp,
    },
    /// The provider said no.
    Refused {
        class: Failure,
        why: String,
    },
    /// It was not wanted any more before anybody asked for it.
    CalledOff {
        why: String,
    },
    Registered {
        worker: WorkerId,
    },
    /// The provider announced that it takes it back.
    Noticed,
    /// A listing has it, or has it not.
    Listed,
    Missed,
    /// Its worker takes no new work from now on. A drain can be shortened, not extended.
    Drain {
        deadline: Timestamp,
        why: Leave,
    },
    Terminate {
        why: Leave,
    },
    /// It is gone.
    Ended {
        why: Ending,
    },
}

/// Why an event changed nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Illegal {
    #[error("a machine that is {} does not become {}", .from.name(), .to.name())]
    NotFrom { from: StateKind, to: StateKind },
    /// One token has two machines, or its machine has another's.
    #[error("it is the machine {known}, not {found}")]
    OtherInstance { known: InstanceName, found: InstanceName },
}

/// The entry after `event` at `now`, with the same version. An event that says nothing new gives an equal entry.
///
/// # Errors
/// [`Illegal`] says why the event does not fit; the entry stays as it is.
pub fn apply(entry: &Entry, event: &Event, now: Timestamp) -> Result<Entry, Illegal> {
    let mut next = Step { entry: entry.clone(), now };
    match event {
        Event::Asked => next.asked()?,
        Event::Found { instance, launched_at } => next.found(instance, *launched_at)?,
        Event::Refused { class, why } => next.fail(*class, why)?,
        Event::CalledOff { why } => next.call_off(why)?,
        Event::Registered { worker } => next.registered(*worker)?,
        Event::Noticed => {
            let noticed = &mut next.entry.times.noticed;
            *noticed = noticed.or(entry.state.counts().then_some(now));
        }
        Event::Listed => next.entry.times.missing = None,
        Event::Missed => {
            let missing = &mut next.entry.times.missing;
            *missing = missing.or(entry.state.counts().then_some(now));
        }
        Event::Drain { deadline, why } => next.drain(*deadline, why)?,
        Event::Terminate { why } => next.terminate(why)?,
        Event::Ended { why } => next.end(why)?,
    }
    Ok(next.entry)
}

/// An entry on its way from one state to the next.
struct Step {
    entry: Entry,
    now: Timestamp,
}

impl Step {
    fn no(&self, to: StateKind) -> Illegal {
        Illegal::NotFrom { from: self.entry.state.kind(), to }
    }

    fn asked(&mut self) -> Result<(), Illegal> {
        let calls = match &self.entry.state {
            State::Intended => 1,
            State::Requested { calls } => calls.saturating_add(1),
            State::Launched { .. }
            | State::Ready { .. }
            | State::Draining { .. }
            | State::Terminating { .. }
            | State::Gone { .. }
            | State::Failed { .. } => return Err(self.no(StateKind::Requested)),
        };
        let times = &mut self.entry.times;
        times.requested = times.requested.or(Some(self.now));
        times.asked = Some(self.now);
        self.entry.state = State::Requested { calls };
        Ok(())
    }

    fn found(&mut self, instance: &InstanceName, launched_at: Timestamp) -> Result<(), Illegal> {
        match &self.entry.state {
            // A call that nobody knows of any more can have made it.
            State::Intended | State::Requested { .. } => {
                let times = &mut self.entry.times;
                let launched = Some(launched_at.min(self.now));
                times.requested = times.requested.or(launched);
                times.launched = launched;
                times.missing = None;
                self.entry.state = State::Launched { instance: instance.clone() };
                Ok(())
            }
            State::Failed { .. } => Err(self.no(StateKind::Launched)),
            State::Launched { instance: known }
            | State::Ready { instance: known, .. }
            | State::Draining { instance: known, .. }
            | State::Terminating { instance: known, .. }
            | State::Gone { instance: known, .. } => {
                if known == instance {
                    return Ok(());
                }
                Err(Illegal::OtherInstance { known: known.clone(), found: instance.clone() })
            }
        }
    }

    fn fail(&mut self, class: Failure, why: &str) -> Result<(), Illegal> {
        match &self.entry.state {
            State::Intended | State::Requested { .. } => {
                self.entry.state = State::Failed { class, why: why.to_owned() };
                self.entry.times.ended = Some(self.now);
                Ok(())
            }
            // Told twice.
            State::Failed { .. } => Ok(()),
            State::Launched { .. }
            | State::Ready { .. }
            | State::Draining { .. }
            | State::Terminating { .. }
            | State::Gone { .. } => Err(self.no(StateKind::Failed)),
        }
    }

    fn call_off(&mut self, why: &str) -> Result<(), Illegal> {
        match &self.entry.state {
            State::Intended => self.fail(Failure::CalledOff, why),
            // What may have been asked for may be there.
            State::Requested { .. }
            | State::Launched { .. }
            | State::Ready { .. }
            | State::Draining { .. }
            | State::Terminating { .. }
            | State::Gone { .. }
            | State::Failed { .. } => Err(self.no(StateKind::Failed)),
        }
    }

    fn registered(&mut self, new: WorkerId) -> Result<(), Illegal> {
        match &mut self.entry.state {
            State::Launched { instance } => {
                let instance = instance.clone();
                self.entry.state = State::Ready { instance, worker: new };
                self.entry.times.ready = Some(self.now);
                Ok(())
            }
            // Its process was started again.
            State::Ready { worker, .. } | State::Draining { worker, .. } => {
                *worker = new;
                Ok(())
            }
            State::Intended
            | State::Requested { .. }
            | State::Terminating { .. }
            | State::Gone { .. }
            | State::Failed { .. } => Err(self.no(StateKind::Ready)),
        }
    }

    fn drain(&mut self, new: Timestamp, reason: &Leave) -> Result<(), Illegal> {
        match &mut self.entry.state {
            State::Ready { instance, worker } => {
                let (instance, worker, why) = (instance.clone(), *worker, reason.clone());
                self.entry.state = State::Draining { instance, worker, deadline: new, why };
                self.entry.times.draining = Some(self.now);
                Ok(())
            }
            State::Draining { deadline, why, .. } => {
                let ordered_now = reason.is_ordered() && !why.is_ordered();
                let sooner = new < *deadline;
                // A deadline that has passed is held back by the switch or the guard: an order grants its own time.
                if sooner || (ordered_now && *deadline <= self.now) {
                    *deadline = new;
                }
                // What an operator ordered stays ordered: it is carried out even when all is frozen.
                if ordered_now || (sooner && reason.is_ordered() == why.is_ordered()) {
                    *why = reason.clone();
                }
                Ok(())
            }
            State::Intended
            | State::Requested { .. }
            | State::Launched { .. }
            | State::Terminating { .. }
            | State::Gone { .. }
            | State::Failed { .. } => Err(self.no(StateKind::Draining)),
        }
    }

    fn terminate(&mut self, why: &Leave) -> Result<(), Illegal> {
        match &self.entry.state {
            State::Launched { instance }
            | State::Ready { instance, .. }
            | State::Draining { instance, .. } => {
                let (instance, why) = (instance.clone(), why.clone());
                self.entry.state = State::Terminating { instance, why };
                self.entry.times.terminating = Some(self.now);
                Ok(())
            }
            // The first reason stays, unless it may be held back and an operator orders it.
            State::Terminating { instance, why: before } => {
                if why.is_ordered() && !before.is_ordered() {
                    let (instance, why) = (instance.clone(), why.clone());
                    self.entry.state = State::Terminating { instance, why };
                }
                Ok(())
            }
            State::Intended
            | State::Requested { .. }
            | State::Gone { .. }
            | State::Failed { .. } => Err(self.no(StateKind::Terminating)),
        }
    }

    fn end(&mut self, why: &Ending) -> Result<(), Illegal> {
        match &self.entry.state {
            State::Launched { instance }
            | State::Ready { instance, .. }
            | State::Draining { instance, .. }
            | State::Terminating { instance, .. } => {
                self.entry.state = State::Gone { instance: instance.clone(), why: why.clone() };
                self.entry.times.ended = Some(self.now);
                Ok(())
            }
            State::Gone { .. } => Ok(()),
            State::Intended | State::Requested { .. } | State::Failed { .. } => {
                Err(self.no(StateKind::Gone))
            }
        }
    }
}
