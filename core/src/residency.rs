//! Which models a device holds when it has not the memory for all of them: what to load next, and what leaves for it.
//!
//! [`decide`] is asked whenever something changed. It answers with one step; while a step is under way it answers
//! with none, so there is one load at a time. The rules:
//! - What the models need together never exceeds the budget. A model that was found to need more than was thought
//!   makes others leave.
//! - A model that is waited for and fits beside the others is loaded at once.
//! - Otherwise others leave for it only when that pays: when its **slack** is about to end, when its **backlog** is
//!   worth several times the loads that the switch costs, or when the device is **idle**.
//! - The least recently needed leave first; one that is needed often is taken for needed until its next job is
//!   late. One that has work leaves only for a model whose first job has to start earlier, and whose slack is spent.
//! - A load is given the time to pay: the model stays for several times what its load took, and while the device
//!   has work the next switch waits for as long. Slack that is spent makes both shorter, and an idle device the
//!   first, but never nothing: while there is work, switches take at most one part of the device's time in
//!   `pays_urgent` and one.
//! - Nobody starves: the model whose first job has the least slack gets its turn as soon as the others' loads are
//!   paid for, and what arrives later has later slack.
//! - Memory that nobody asks for is filled with models that nobody waits for, while the device is idle and
//!   has not loaded for a while. They leave first.
//!
//! How an engine is started or ended, and what becomes of the jobs of a model that leaves, is the worker's.

mod estimate;
mod frequency;
mod leave;
mod share;

#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::time::Duration;

use crate::time::Timestamp;
pub use estimate::Estimate;
pub use frequency::Frequency;
use leave::{Leavers, Switch};
pub use share::{Holder, Standing, Waiting, share};

/// When a switch is worth its price.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// A load pays when the device then works for so many times its duration.
    pub pays: u32,
    /// The same where slack is spent or the device is idle. 0 counts as 1.
    pub pays_urgent: u32,
    /// A load begins so much earlier than the slack needs, since loads and ends take longer than expected.
    pub margin: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        Self { pays: 8, pays_urgent: 2, margin: Duration::from_secs(1) }
    }
}

/// The device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Device {
    /// Memory for all models together.
    pub budget_bytes: u64,
    /// The load that ended last, whatever became of it.
    pub last_load: Option<Load>,
}

/// A load that has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Load {
    pub ended_at: Timestamp,
    pub took: Duration,
}

/// What is known of one model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Model<M> {
    pub id: M,
    /// Memory while its engine runs: measured, or estimated before it ever was.
    pub need_bytes: u64,
    /// From the start of its engine until it is warm: measured, or estimated before.
    pub load: Duration,
    pub place: Place,
    pub demand: Demand,
    /// Its load has failed: it is not tried again before.
    pub barred_until: Option<Timestamp>,
}

/// Where a model is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    Absent,
    /// Its engine starts, or waits for others to leave; its memory is taken.
    Loading,
    /// Its engine is to end; its memory is taken until then.
    Leaving,
    Resident(Stay),
}

/// How a resident model has been used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stay {
    /// When it was warm.
    pub since: Timestamp,
    /// When it last had work, or was loaded for some; `None`: it fills memory, and nobody has needed it.
    pub needed_at: Option<Timestamp>,
    pub activity: Activity,
}

/// Whether an engine computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activity {
    Busy,
    Idle,
}

/// What is wanted of a model. Jobs that run are in none of the figures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Demand {
    /// Jobs that wait, here or in its queue, as far as they are this device's to do.
    pub jobs: u64,
    /// Time for which they will keep the device busy, as far as that is known.
    pub work: Duration,
    /// When the first of them has to start; `None`: whenever.
    pub start_by: Option<Timestamp>,
    /// Time from one job to the next, of late; `None`: not known.
    pub every: Option<Duration>,
}

impl Demand {
    fn start_by(&self) -> Timestamp {
        self.start_by.unwrap_or(Timestamp::MAX)
    }
}

/// The next step.
#[must_use]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action<M> {
    /// Nothing to do now.
    Stay,
    /// End these, then start this one.
    Load { model: M, leave: Vec<M>, reason: Reason },
    /// End these: together the models need more than there is.
    Shrink { leave: Vec<M> },
}

/// Why a model is loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// It is waited for, and there was room.
    Room,
    /// The slack of its first job was about to end.
    Slack,
    /// What waits is worth the switch.
    Backlog,
    /// It is waited for, and the device had nothing else to do.
    Idle,
    /// Nobody waits for it; there was room, and time.
    Spare,
}

impl Reason {
    pub const ALL: [Self; 5] = [Self::Room, Self::Slack, Self::Backlog, Self::Idle, Self::Spare];

    /// One lower-case word.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Room => "room",
            Self::Slack => "slack",
            Self::Backlog => "backlog",
            Self::Idle => "idle",
            Self::Spare => "spare",
        }
    }
}

/// Why a model that is not here is not loaded now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waits {
    /// Nobody waits for it, and there is no room or no time to load it all the same.
    Unneeded,
    /// Alone it needs more than the budget.
    TooLarge,
    /// Its load has failed.
    Barred { until: Timestamp },
    /// Another step is under way.
    Switching,
    /// Its jobs have slack until then, and nothing else pays for the switch.
    Slack { until: Timestamp },
    /// The loads of those that are here are not paid for yet.
    Pays { until: Timestamp },
    /// Others have work that has to start earlier.
    Urgent,
}

/// What follows, and why not more.
#[must_use]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision<M> {
    pub action: Action<M>,
    /// Ask again at this time even if nothing happens. Always later than `now`.
    pub look_at: Option<Timestamp>,
    /// The absent models that are not loaded, in the order of the models given.
    pub waits: Vec<(M, Waits)>,
}

/// The next step at `now`.
///
/// Depends on its arguments only and takes any numbers; its time grows with the square of the number of models.
pub fn decide<M: Copy + Ord>(
    policy: &Policy,
    device: &Device,
    models: &[Model<M>],
    now: Timestamp,
) -> Decision<M> {
    let absent = models.iter().filter(|model| model.place == Place::Absent);
    let mut waits: Vec<(M, Waits)> =
        absent.map(|model| (model.id, ruled_out(device, model, now))).collect();
    let action = if models.iter().any(Model::is_on_its_way) {
        Action::Stay
    } else {
        let leavers = Leavers::new(policy, device, models, now);
        match leavers.shrink() {
            Some(leave) => Action::Shrink { leave },
            None => choose(&leavers, models, &mut waits),
        }
    };
    let look_at = match &action {
        Action::Stay => waits.iter().filter_map(|(_, why)| why.until()).min(),
        // The end of the step is an event.
        Action::Load { .. } | Action::Shrink { .. } => None,
    };
    Decision { action, look_at: look_at.filter(|at| *at > now), waits }
}

/// What keeps an absent model from being loaded whatever the others do. One that nothing keeps waits for the
/// step that is under way, unless it is looked at more closely.
fn ruled_out<M>(device: &Device, model: &Model<M>, now: Timestamp) -> Waits {
    if model.need_bytes > device.budget_bytes {
        return Waits::TooLarge;
    }
    match model.barred_until.filter(|until| *until > now) {
        Some(until) => Waits::Barred { until },
        None if model.demand.jobs == 0 => Waits::Unneeded,
        None => Waits::Switching,
    }
}

fn choose<M: Copy + Ord>(
    leavers: &Leavers<'_, M>,
    models: &[Model<M>],
    waits: &mut Vec<(M, Waits)>,
) -> Action<M> {
    let of = |waits: &[(M, Waits)], wanted: Waits| -> Vec<&Model<M>> {
        let is = |model: &&Model<M>| waits.contains(&(model.id, wanted));
        models.iter().filter(|model| model.place == Place::Absent).filter(is).collect()
    };
    let mut candidates = of(waits, Waits::Switching);
    candidates.sort_by_key(|model| (model.demand.start_by(), Reverse(model.demand.work), model.id));
    let mut blocked = false;
    for candidate in &candidates {
        let why = if blocked { Err(Waits::Urgent) } else { leavers.switch(candidate) };
        match why {
            Ok(Switch { leave, reason }) => return load(candidate.id, leave, reason, waits),
            Err(why) => {
                // Whoever has slack left must not take the turn of one that has none.
                blocked |= leavers.is_urgent(candidate);
                set(waits, &candidate.id, why);
            }
        }
    }
    if candidates.is_empty() && leavers.have_time() {
        let mut spare = of(waits, Waits::Unneeded);
        spare.retain(|model| leavers.has_room_for(model));
        spare.sort_by_key(|model| {
            (model.demand.every.unwrap_or(Duration::MAX), model.need_bytes, model.id)
        });
        if let Some(first) = spare.first() {
            return load(first.id, Vec::new(), Reason::Spare, waits);
        }
    }
    Action::Stay
}

fn load<M: Copy + Ord>(
    model: M,
    leave: Vec<M>,
    reason: Reason,
    waits: &mut Vec<(M, Waits)>,
) -> Action<M> {
    waits.retain(|(id, _)| *id != model);
    Action::Load { model, leave, reason }
}

fn set<M: PartialEq>(waits: &mut [(M, Waits)], model: &M, why: Waits) {
    for (_, waits) in waits.iter_mut().filter(|(id, _)| id == model) {
        *waits = why;
    }
}

impl<M> Model<M> {
    fn is_on_its_way(&self) -> bool {
        matches!(self.place, Place::Loading | Place::Leaving)
    }
}

impl Waits {
    /// When it may be otherwise, if time alone can change it.
    pub const fn until(self) -> Option<Timestamp> {
        match self {
            Self::Barred { until } | Self::Slack { until } | Self::Pays { until } => Some(until),
            Self::Unneeded | Self::TooLarge | Self::Switching | Self::Urgent => None,
        }
    }
}
