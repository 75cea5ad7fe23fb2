//! Who leaves for another model, and whether that pays.

use std::cmp::Reverse;
use std::time::Duration;

use super::{Activity, Device, Load, Model, Place, Policy, Reason, Stay, Waits};
use crate::time::Timestamp;

/// A model that is here.
#[derive(Debug)]
struct Resident<'a, M> {
    model: &'a Model<M>,
    stay: Stay,
}

/// The models that are here, those that leave first in front.
#[derive(Debug)]
pub(super) struct Leavers<'a, M> {
    policy: &'a Policy,
    residents: Vec<Resident<'a, M>>,
    last_load: Option<Load>,
    budget_bytes: u128,
    used_bytes: u128,
    working: bool,
    now: Timestamp,
}

/// Why a model is loaded, and for whose memory.
#[derive(Debug)]
pub(super) struct Switch<M> {
    pub(super) leave: Vec<M>,
    pub(super) reason: Reason,
}

impl<M> Resident<'_, M> {
    fn works(&self) -> bool {
        self.stay.activity == Activity::Busy || self.model.demand.jobs > 0
    }

    /// When the first of its waiting jobs has to start.
    fn start_by(&self) -> Timestamp {
        if self.model.demand.jobs > 0 { self.model.demand.start_by() } else { Timestamp::MAX }
    }

    /// Until when it stays, so that its load pays `times` over. What nobody asked for has nothing to pay.
    fn stays_until(&self, times: u32) -> Option<Timestamp> {
        let paid_at = self.stay.since.after(self.model.load.saturating_mul(times));
        self.stay.needed_at.map(|_| paid_at)
    }

    /// How long it is probably not needed: as long as from one of its jobs to the next, or as long as it has not
    /// been needed by now.
    fn gap(&self, now: Timestamp) -> Duration {
        let every = self.model.demand.every.unwrap_or_default();
        self.stay.needed_at.map_or(Duration::MAX, |needed_at| every.max(now.since(needed_at)))
    }
}

impl<'a, M: Copy + Ord> Leavers<'a, M> {
    pub(super) fn new(
        policy: &'a Policy,
        device: &Device,
        models: &'a [Model<M>],
        now: Timestamp,
    ) -> Self {
        let mut residents: Vec<Resident<'a, M>> = models
            .iter()
            .filter_map(|model| match model.place {
                Place::Resident(stay) => Some(Resident { model, stay }),
                Place::Absent | Place::Loading | Place::Leaving => None,
            })
            .collect();
        residents.sort_by_key(|here| {
            let first = here.start_by();
            (here.works(), Reverse(first), Reverse(here.gap(now)), here.model.id)
        });
        Self {
            policy,
            last_load: device.last_load,
            budget_bytes: device.budget_bytes.into(),
            used_bytes: residents.iter().map(|here| u128::from(here.model.need_bytes)).sum(),
            working: residents.iter().any(Resident::works),
            residents,
            now,
        }
    }

    /// Whether the device is idle, and its last load is so long ago that one for nobody would not be a large part
    /// of its time.
    pub(super) fn have_time(&self) -> bool {
        !self.working && self.pauses_until(self.unhurried()).is_none()
    }

    pub(super) fn has_room_for(&self, model: &Model<M>) -> bool {
        self.lacking(model) == 0
    }

    /// Whether the model's load has to begin now, or had to before.
    pub(super) fn is_urgent(&self, model: &Model<M>) -> bool {
        self.latest_begin(model) <= self.now
    }

    /// Who leaves because together they need more than there is; `None`: they do not.
    pub(super) fn shrink(&self) -> Option<Vec<M>> {
        let excess = self.used_bytes.saturating_sub(self.budget_bytes);
        (excess > 0).then(|| fewest(self.residents.iter(), excess).map(ids).unwrap_or_default())
    }

    /// Whether the candidate is loaded now, or why not.
    pub(super) fn switch(&self, candidate: &Model<M>) -> Result<Switch<M>, Waits> {
        let lacking = self.lacking(candidate);
        if lacking == 0 {
            return Ok(Switch { leave: Vec::new(), reason: Reason::Room });
        }
        let latest = self.latest_begin(candidate);
        let urgent = self.is_urgent(candidate);
        let times = if urgent || !self.working { self.hurried() } else { self.unhurried() };
        let by_work = |here: &&Resident<'a, M>| {
            !here.works() || (urgent && here.start_by() > candidate.demand.start_by())
        };
        let paid = |here: &Resident<'a, M>| self.pending(here.stays_until(times)).is_none();
        let may = || self.residents.iter().filter(by_work);
        let leave = fewest(may().filter(|here| paid(here)), lacking);
        let until = match &leave {
            Some(_) => self.pauses_until(times).filter(|_| self.working),
            None => may().filter_map(|here| self.pending(here.stays_until(times))).min(),
        };
        match (leave, until) {
            (_, Some(until)) if urgent || until < latest => Err(Waits::Pays { until }),
            (Some(leave), None) => {
                self.worth(candidate, leave).ok_or(Waits::Slack { until: latest })
            }
            (None, None) if urgent => Err(Waits::Urgent),
            (_, Some(_)) | (None, None) => Err(Waits::Slack { until: latest }),
        }
    }

    /// What makes the switch worth its price, if anything does.
    fn worth(&self, candidate: &Model<M>, leave: Vec<&Resident<'a, M>>) -> Option<Switch<M>> {
        let loads = leave.iter().map(|here| here.model.load);
        let price = loads.fold(candidate.load, Duration::saturating_add);
        let reason = if self.is_urgent(candidate) {
            Reason::Slack
        } else if candidate.demand.work >= price.saturating_mul(self.unhurried()) {
            Reason::Backlog
        } else if !self.working {
            Reason::Idle
        } else {
            return None;
        };
        Some(Switch { leave: ids(leave), reason })
    }

    /// How many times over a load pays where time presses, or where nothing else wants the device.
    fn hurried(&self) -> u32 {
        self.policy.pays_urgent.max(1)
    }

    fn unhurried(&self) -> u32 {
        self.policy.pays.max(self.hurried())
    }

    /// Until when the last load is not paid for `times` over.
    fn pauses_until(&self, times: u32) -> Option<Timestamp> {
        let last = self.last_load?;
        self.pending(Some(last.ended_at.after(last.took.saturating_mul(times))))
    }

    fn latest_begin(&self, model: &Model<M>) -> Timestamp {
        model.demand.start_by().before(model.load.saturating_add(self.policy.margin))
    }

    /// Bytes that others have to leave for the model.
    fn lacking(&self, model: &Model<M>) -> u128 {
        (self.used_bytes + u128::from(model.need_bytes)).saturating_sub(self.budget_bytes)
    }

    fn pending(&self, until: Option<Timestamp>) -> Option<Timestamp> {
        until.filter(|until| *until > self.now)
    }
}

/// The first of these that free so many bytes, without any whose going changes nothing; `None`: all are too few.
fn fewest<'r, 'a: 'r, M: 'a>(
    may: impl Iterator<Item = &'r Resident<'a, M>>,
    lacking: u128,
) -> Option<Vec<&'r Resident<'a, M>>> {
    let mut leave = Vec::new();
    let mut freed = 0_u128;
    for here in may {
        if freed >= lacking {
            break;
        }
        freed += u128::from(here.model.need_bytes);
        leave.push(here);
    }
    if freed < lacking {
        return None;
    }
    // Who was needed last is the first to be spared.
    for index in (0..leave.len()).rev() {
        let bytes = u128::from(leave[index].model.need_bytes);
        if freed - bytes >= lacking {
            freed -= bytes;
            leave.remove(index);
        }
    }
    Some(leave)
}

fn ids<M: Copy>(leave: Vec<&Resident<'_, M>>) -> Vec<M> {
    leave.into_iter().map(|here| here.model.id).collect()
}
