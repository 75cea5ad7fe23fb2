//! How many machines may be taken out at a time, for reasons that can wait.
//!
//! A budget of the fleet file counts what waits for a successor and what drains; of several for a reason, each has to
//! have room. What drains counts in all of them, as its reason is not told. Where none holds, half of the workers of a pool may wait for successors
//! at a time, for all reasons together, and what is superfluous is not bounded. What is lost anyway is no matter of budgets.

use crate::fleet::check::{Disruption, DisruptionBudget};
use crate::fleet::report::{Note, RemoveReason};
use crate::fleet::roster::Roster;
use crate::fleet::snapshot::InstanceState;
use crate::fleet::spec::{AtATime, Day, DisruptionReason};
use crate::time::Timestamp;

/// One in so many of a pool's workers may be replaced at a time where no budget holds; at least one. Those that boot are
/// successors.
const REPLACED_AT_A_TIME: usize = 2;

/// What may be taken out at a time, and how much of that is used up.
#[derive(Debug)]
pub(crate) struct Budgets<'a> {
    /// Those that hold now, with how many they allow and how many count in them.
    active: Vec<(&'a DisruptionBudget, usize, usize)>,
    /// What may be marked for reasons that none of them is about, and how much is.
    rest: (usize, usize),
    /// Machines that are left alone for now, by reason and the budget that says so.
    withheld: Vec<(DisruptionReason, &'a DisruptionBudget, u32)>,
}

/// How much room a reason has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Room<'a> {
    pub(crate) left: usize,
    /// Which budget says so; `None`: there is none for it.
    pub(crate) by: Option<&'a DisruptionBudget>,
}

impl<'a> Budgets<'a> {
    /// `wanted` is the capacity of which a percentage is meant.
    pub(crate) fn new(
        disruption: &'a Disruption,
        (roster, gone): (&Roster<'_>, &[usize]),
        wanted: f64,
        now: Timestamp,
    ) -> Self {
        let works = || roster.staying(gone).filter(|(_, m)| m.instance.works());
        let working = works().count();
        let base = needed(wanted, works().map(|(_, member)| member.speed()));
        // What the provider takes back drains, too, and is nobody's choice.
        let drains = roster.members.iter().filter(|member| {
            matches!(member.instance.state, InstanceState::Draining { .. })
                && member.instance.notice.is_none()
        });
        let draining = drains.count();
        let active = disruption.budgets.iter().filter(|budget| holds(budget, now));
        let active = active.map(|budget| (budget, allowed(budget.at_a_time, base), draining));
        let rest = (working.div_ceil(REPLACED_AT_A_TIME).max(1), 0);
        Self { active: active.collect(), rest, withheld: Vec::new() }
    }

    /// How many more may be taken out for a reason.
    pub(crate) fn room(&self, reason: DisruptionReason) -> Room<'a> {
        let covering = self.active.iter().filter(|(budget, ..)| budget.reasons.contains(&reason));
        let rooms = covering.map(|(budget, allowed, used)| Room {
            left: allowed.saturating_sub(*used),
            by: Some(budget),
        });
        let (most, marked) = self.rest;
        let left = if is_replacement(reason) { most.saturating_sub(marked) } else { usize::MAX };
        rooms.min_by_key(|room| room.left).unwrap_or(Room { left, by: None })
    }

    /// Counts one more that is taken out for a reason, whether or not there was room.
    pub(crate) fn count(&mut self, reason: DisruptionReason) {
        let mut covered = false;
        for (budget, _, used) in &mut self.active {
            if budget.reasons.contains(&reason) {
                *used += 1;
                covered = true;
            }
        }
        if !covered && is_replacement(reason) {
            self.rest.1 += 1;
        }
    }

    /// Counts one that has been marked before. What there is no budget for is not told to be half of the pool at most a second time.
    pub(crate) fn count_marked(&mut self, reason: DisruptionReason) {
        if self.room(reason).by.is_some() {
            self.count(reason);
        }
    }

    /// Counts one more if a budget has room for it, and else remembers which one has none. Reasons that no budget is about have
    /// all the room that they want.
    pub(crate) fn take(&mut self, reason: DisruptionReason) -> bool {
        if let Room { left: 0, by: Some(budget) } = self.room(reason) {
            self.withhold(reason, budget, 1);
            return false;
        }
        self.count(reason);
        true
    }

    /// Remembers that so many machines are left alone for a budget.
    pub(crate) fn withhold(
        &mut self,
        reason: DisruptionReason,
        budget: &'a DisruptionBudget,
        more: u32,
    ) {
        let same = |(other, by, _): &&mut (DisruptionReason, &DisruptionBudget, u32)| {
            *other == reason && *by == budget
        };
        if more == 0 {
            return;
        }
        match self.withheld.iter_mut().find(same) {
            Some((_, _, machines)) => *machines = machines.saturating_add(more),
            None => self.withheld.push((reason, budget, more)),
        }
    }

    /// What was left alone, and which budgets say so.
    pub(crate) fn notes(self) -> impl Iterator<Item = Note> {
        let note = |(reason, budget, machines): (_, &DisruptionBudget, _)| Note::Withheld {
            machines,
            reason,
            budget: budget.clone(),
        };
        self.withheld.into_iter().map(note)
    }
}

/// The reason in the words of a budget; `None` for what no budget is about.
pub(crate) const fn reason_of(reason: &RemoveReason) -> Option<DisruptionReason> {
    match reason {
        RemoveReason::Expired { .. } => Some(DisruptionReason::Expired),
        RemoveReason::Outdated => Some(DisruptionReason::Outdated),
        RemoveReason::Cheaper => Some(DisruptionReason::Cheaper),
        RemoveReason::Resized => Some(DisruptionReason::Resized),
        RemoveReason::Spare { .. } => Some(DisruptionReason::Spare),
        RemoveReason::Empty { .. } => Some(DisruptionReason::Empty),
        RemoveReason::CalledOff { .. }
        | RemoveReason::Interrupted { .. }
        | RemoveReason::Dead { .. }
        | RemoveReason::DrainOverdue { .. } => None,
    }
}

/// Whether a successor takes the place of what is taken out.
const fn is_replacement(reason: DisruptionReason) -> bool {
    match reason {
        DisruptionReason::Expired
        | DisruptionReason::Outdated
        | DisruptionReason::Cheaper
        | DisruptionReason::Resized => true,
        DisruptionReason::Spare | DisruptionReason::Empty => false,
    }
}

/// How many of the workers are needed for so much. Successors that have come while what they replace is still there are no part of
/// the pool of which a percentage is meant: with them more would be marked, and their successors called off again.
fn needed(wanted: f64, speeds: impl Iterator<Item = f64>) -> usize {
    let (mut count, mut speed) = (0_usize, 0.0);
    for one in speeds {
        if speed >= wanted && count > 0 {
            break;
        }
        (count, speed) = (count + 1, speed + one);
    }
    count
}

fn allowed(at_a_time: AtATime, workers: usize) -> usize {
    match at_a_time {
        AtATime::Count(count) => usize::try_from(count).unwrap_or(usize::MAX),
        AtATime::Percent(percent) => workers.saturating_mul(usize::from(percent)).div_ceil(100),
    }
}

const MINUTE_MS: i64 = 60_000;
const DAY_MINUTES: i64 = 24 * 60;

/// Whether a budget holds at this time.
fn holds(budget: &DisruptionBudget, now: Timestamp) -> bool {
    let minutes = now.as_unix_millis().div_euclid(MINUTE_MS);
    let (day, minute) = (minutes.div_euclid(DAY_MINUTES), minutes.rem_euclid(DAY_MINUTES));
    let on = |day: i64| {
        // The first of January 1970 was a Thursday.
        let weekday = usize::try_from((day + 3).rem_euclid(7)).unwrap_or(0);
        Day::ALL.get(weekday).is_some_and(|day| budget.days.contains(day))
    };
    let Some(window) = budget.window else { return on(day) };
    let (from, until) = (i64::from(window.from), i64::from(window.until));
    if from < until {
        return on(day) && (from..until).contains(&minute);
    }
    on(day) && minute >= from || on(day - 1) && minute < until
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::fleet::spec::Window;

    fn budget(reasons: &[DisruptionReason], at_a_time: AtATime) -> DisruptionBudget {
        let reasons = reasons.iter().copied().collect();
        DisruptionBudget { reasons, at_a_time, window: None, days: Day::ALL.into() }
    }

    fn at(day: i64, hour: i64, minute: i64) -> Timestamp {
        let minutes = (day * 24 + hour) * 60 + minute;
        Timestamp::from_unix_millis(minutes * MINUTE_MS)
    }

    /// Of a pool with nobody in it.
    fn empty(disruption: &Disruption) -> Budgets<'_> {
        let roster = Roster { members: Vec::new() };
        Budgets::new(disruption, (&roster, &[]), f64::INFINITY, Timestamp::default())
    }

    #[test]
    fn a_window_over_midnight_belongs_to_the_day_on_which_it_begins() {
        // The 2nd of January 1970 was a Friday.
        let friday = DisruptionBudget {
            window: Some("22:00-06:00".parse::<Window>().unwrap()),
            days: [Day::Fri].into(),
            ..budget(&[DisruptionReason::Cheaper], AtATime::Count(0))
        };
        let when = [(1, 21, 59), (1, 22, 0), (2, 5, 59), (2, 6, 0), (1, 3, 0), (2, 23, 0)];
        let held = when.map(|(day, hour, minute)| holds(&friday, at(day, hour, minute)));
        assert_eq!(held, [false, true, true, false, false, false]);
        let by_day = DisruptionBudget { window: Some("08:00-20:00".parse().unwrap()), ..friday };
        let held = [(1, 7), (1, 8), (1, 19), (1, 20), (2, 8), (-6, 8)];
        let held = held.map(|(day, hour)| holds(&by_day, at(day, hour, 0)));
        assert_eq!(held, [false, true, true, false, false, true]);
        let all_day = DisruptionBudget { window: None, ..by_day };
        assert!(holds(&all_day, at(1, 0, 0)) && !holds(&all_day, at(0, 23, 59)));
    }

    #[test]
    fn the_tightest_budget_for_a_reason_says_how_many() {
        use DisruptionReason::{Cheaper, Empty, Outdated, Resized, Spare};
        let budgets = vec![
            budget(&[Outdated, Cheaper], AtATime::Count(2)),
            budget(&[Cheaper], AtATime::Count(1)),
            budget(&[Empty], AtATime::Count(0)),
        ];
        let disruption = Disruption { budgets };
        let mut budgets = empty(&disruption);
        assert!(budgets.take(Cheaper) && !budgets.take(Cheaper) && !budgets.take(Cheaper));
        assert!(budgets.take(Outdated) && !budgets.take(Outdated), "cheaper counts in it as well");
        assert!(!budgets.take(Empty) && budgets.take(Spare));
        assert_eq!(budgets.room(Spare), Room { left: usize::MAX, by: None });
        assert_eq!(budgets.room(Resized), Room { left: 1, by: None }, "half, and at least one");
        let said: Vec<String> = budgets.notes().map(|note| note.to_string()).collect();
        assert_eq!(
            said,
            [
                "2 machines are not taken out yet (cheaper): the disruption budget is 1 at a time \
                 for cheaper",
                "1 machine is not taken out yet (outdated): the disruption budget is 2 at a time \
                 for outdated, cheaper",
                "1 machine is not taken out yet (empty): the disruption budget is 0 at a time for \
                 empty",
            ]
        );
    }

    proptest! {
        #[test]
        fn no_budget_is_exceeded_and_none_about_other_reasons_matters(
            counts in proptest::collection::vec((0..64_u8, 0..6_u32), 0..5),
            asked in proptest::collection::vec(0..6_usize, 0..40),
        ) {
            let of = |bits: u8| {
                let all = DisruptionReason::ALL.into_iter().enumerate();
                all.filter(|(at, _)| bits >> at & 1 == 1).map(|(_, r)| r).collect::<Vec<_>>()
            };
            let budgets = counts.iter().map(|(bits, count)| budget(&of(*bits), AtATime::Count(*count)));
            let disruption = Disruption { budgets: budgets.collect() };
            let mut budgets = empty(&disruption);
            let mut taken = [0_u32; 6];
            for reason in asked {
                if budgets.take(DisruptionReason::ALL[reason]) {
                    taken[reason] += 1;
                } else {
                    let full = counts.iter().any(|(bits, count)| {
                        let used: u32 = (0..6).filter(|at| bits >> at & 1 == 1).map(|at| taken[at]).sum();
                        bits >> reason & 1 == 1 && used >= *count
                    });
                    prop_assert!(full, "withheld without a budget that is used up");
                }
            }
            for (bits, count) in &counts {
                let used: u32 = (0..6).filter(|at| bits >> at & 1 == 1).map(|at| taken[at]).sum();
                prop_assert!(used <= *count);
            }
        }

        #[test]
        fn a_share_is_rounded_up_and_never_more_than_all(percent in 0..=100_u8, workers in 0..500_usize) {
            let most = allowed(AtATime::Percent(percent), workers);
            prop_assert!(most <= workers && most * 100 >= workers * usize::from(percent));
            prop_assert_eq!(most == 0, percent == 0 || workers == 0);
        }
    }
}
