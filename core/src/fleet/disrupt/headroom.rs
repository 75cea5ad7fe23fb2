//! Pools that are as large as they may be: no successor can come there before something has gone.
//!
//! What has to be replaced, for its age or its configuration, goes before its successor comes: one at a time, while nothing else
//! comes or goes, and only if one that is no dearer may be launched then. What would only be cheaper waits for room.

use crate::fleet::caps::Allowance;
use crate::fleet::check::Scaling;
use crate::fleet::demand::Demand;
use crate::fleet::plan::Step;
use crate::fleet::provision::{Candidate, price_of};
use crate::fleet::report::{NoRoom, Note, RemoveReason};
use crate::fleet::roster::{Member, Roster};
use crate::ids::InstanceName;

/// How much room a pool has for successors.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Headroom<'a> {
    roster: &'a Roster<'a>,
    scaling: &'a Scaling,
    candidates: &'a [Candidate<'a>],
    /// What may be bought besides this plan.
    allowance: &'a Allowance,
    /// Machines that this plan launches.
    launched: u32,
}

impl<'a> Headroom<'a> {
    /// `steps` are those of this plan; what they launch takes room.
    pub(crate) fn new(
        (roster, scaling): (&'a Roster<'a>, &'a Scaling),
        candidates: &'a [Candidate<'a>],
        (allowance, steps): (&'a Allowance, &[Step]),
    ) -> Self {
        let count = |step: &Step| match step {
            Step::Launch { count, .. } => *count,
            Step::Drain { .. } | Step::Terminate { .. } => 0,
        };
        let launched = steps.iter().map(count).fold(0, u32::saturating_add);
        Self { roster, scaling, candidates, allowance, launched }
    }

    /// Position of what goes before its successor comes, of what is marked: the one with the least to finish.
    pub(crate) fn first(&self, marked: &[(usize, RemoveReason)], demand: &Demand) -> Option<usize> {
        let settled = self.roster.members.iter().all(|member| member.instance.works());
        if !settled || self.launched > 0 || !self.is_full() {
            return None;
        }
        let places = marked.iter().filter(|(_, reason)| has_to_go(reason));
        let members = places.filter_map(|(at, _)| Some((*at, self.roster.members.get(*at)?)));
        let replaceable = members.filter(|(_, member)| self.has_successor(member));
        let work = |(_, member): &(usize, &Member<'_>)| member.work_left(demand);
        replaceable.min_by(|a, b| work(a).total_cmp(&work(b))).map(|(at, _)| at)
    }

    /// What is said of one that is marked and whose successor does not boot yet.
    pub(crate) fn note(&self, instance: InstanceName, reason: RemoveReason) -> Note {
        if !self.is_full() {
            Note::Marked { instance, reason }
        } else if has_to_go(&reason) {
            Note::NoRoom(NoRoom::GoesFirst { instance, reason })
        } else {
            Note::NoRoom(NoRoom::Successor { instance, reason })
        }
    }

    fn is_full(&self) -> bool {
        let there = u32::try_from(self.roster.members.len()).unwrap_or(u32::MAX);
        there.saturating_add(self.launched) >= self.scaling.max
    }

    /// Whether its like, or what is no dearer, may be launched once it has gone.
    fn has_successor(&self, member: &Member<'_>) -> bool {
        let old = price_of(self.scaling, &member.instance.offering);
        self.candidates.iter().any(|one| {
            let alike = *one.name == member.instance.offering || one.price <= member.price();
            alike && self.allowance.permits_after(old, price_of(self.scaling, one.name))
        })
    }
}

/// Whether it is worth it to have one machine less for a boot.
const fn has_to_go(reason: &RemoveReason) -> bool {
    match reason {
        RemoveReason::Outdated | RemoveReason::Expired { .. } => true,
        RemoveReason::Cheaper
        | RemoveReason::Resized
        | RemoveReason::Empty { .. }
        | RemoveReason::Spare { .. }
        | RemoveReason::CalledOff { .. }
        | RemoveReason::Interrupted { .. }
        | RemoveReason::Dead { .. }
        | RemoveReason::DrainOverdue { .. } => false,
    }
}
