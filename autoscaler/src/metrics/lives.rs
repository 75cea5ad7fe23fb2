//! What a committed write says of the lives of machines: wanted, made or not, taken out, taken back.

use metrics::counter;
use stoker_core::fleet::ledger::{Ending, Entry, Leave, Ledger, State};
use stoker_core::fleet::{Plan, Step};

use super::{INTERRUPTIONS, LAUNCH_OUTCOMES, LAUNCHES, REMOVALS};

/// The plan's reason for something that stands in no plan at hand.
const UNKNOWN: &str = "unknown";
/// A launch that made a machine.
const LAUNCHED: &str = "launched";

/// Something that happened to a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum News {
    /// It was wanted, for this reason.
    Wanted(&'static str),
    /// Its launch came to this.
    Outcome(&'static str),
    /// It is to go, for this reason.
    Removed(&'static str),
    Interrupted,
}

/// Writes were committed to this ledger, by a step that had this plan.
pub(crate) fn written(before: &Ledger, entries: &[Entry], plan: Option<&Plan>) {
    for entry in entries {
        let pool = entry.order.pool.to_string();
        let capacity = entry.order.capacity.as_str();
        for news in news(before.entries.get(&entry.id), entry, plan) {
            let counted = match news {
                News::Wanted(reason) => {
                    counter!(LAUNCHES, "pool" => pool.clone(), "capacity" => capacity, "reason" => reason)
                }
                News::Outcome(outcome) => counter!(
                    LAUNCH_OUTCOMES,
                    "pool" => pool.clone(), "capacity" => capacity, "outcome" => outcome
                ),
                News::Removed(reason) => {
                    counter!(REMOVALS, "pool" => pool.clone(), "reason" => reason)
                }
                News::Interrupted => counter!(INTERRUPTIONS, "pool" => pool.clone()),
            };
            counted.increment(1);
        }
    }
}

/// What an entry says that it did not say before.
fn news(before: Option<&Entry>, after: &Entry, plan: Option<&Plan>) -> Vec<News> {
    let mut news = Vec::new();
    let had = before.map(|entry| &entry.state);
    // One that is taken in was there already: nobody launched it.
    let is_adopted = before.is_none() && after.state.instance().is_some();
    if before.is_none() && !is_adopted {
        news.push(News::Wanted(wanted(after, plan)));
    }
    let had_instance = had.is_some_and(|state| state.instance().is_some());
    match &after.state {
        State::Failed { class, .. } if !matches!(had, Some(State::Failed { .. })) => {
            news.push(News::Outcome(class.name()));
        }
        state if state.instance().is_some() && !had_instance && !is_adopted => {
            news.push(News::Outcome(LAUNCHED));
        }
        _ => {}
    }
    if let (None, Some(why)) = (had.and_then(leave), leave(&after.state)) {
        news.push(News::Removed(removed(after, why, plan)));
    }
    let taken_back = |state: &State| matches!(state, State::Gone { why: Ending::Interrupted, .. });
    if taken_back(&after.state) && !had.is_some_and(taken_back) {
        news.push(News::Interrupted);
    }
    news
}

/// Why it is on its way out, or has gone, by our hand.
fn leave(state: &State) -> Option<&Leave> {
    match state {
        State::Draining { why, .. }
        | State::Terminating { why, .. }
        | State::Gone { why: Ending::Terminated(why), .. } => Some(why),
        State::Gone { .. }
        | State::Intended
        | State::Requested { .. }
        | State::Launched { .. }
        | State::Ready { .. }
        | State::Failed { .. } => None,
    }
}

/// The planner's reason, by the step that the entry was made for.
fn wanted(entry: &Entry, plan: Option<&Plan>) -> &'static str {
    let steps = plan.iter().flat_map(|plan| &plan.steps);
    let kind = |step: &Step| match step {
        Step::Launch { pool, offering, reason, .. } => {
            let order = &entry.order;
            let is_it = *pool == order.pool
                && *offering == order.offering
                && reason.to_string() == order.reason;
            is_it.then(|| reason.kind())
        }
        Step::Drain { .. } | Step::Terminate { .. } => None,
    };
    steps.into_iter().find_map(kind).unwrap_or(UNKNOWN)
}

/// The planner's reason where it is the planner's doing, else ours.
fn removed(entry: &Entry, leave: &Leave, plan: Option<&Plan>) -> &'static str {
    if !matches!(leave, Leave::Planned { .. } | Leave::Dead { .. }) {
        return leave.kind();
    }
    let name = entry.name();
    let steps = plan.iter().flat_map(|plan| &plan.steps);
    let kind = |step: &Step| match step {
        Step::Drain { instance, reason, .. } | Step::Terminate { instance, reason, .. } => {
            (*instance == name).then(|| reason.kind())
        }
        Step::Launch { .. } => None,
    };
    steps.into_iter().find_map(kind).unwrap_or_else(|| leave.kind())
}

#[cfg(test)]
mod tests {
    use stoker_core::fleet::ledger::{Event, Failure, Order, apply};
    use stoker_core::fleet::{LaunchReason, RemoveReason};
    use stoker_core::ids::{Epoch, InstanceName, MachineId, PoolName, WorkerId};
    use stoker_core::time::Timestamp;

    use super::*;
    use crate::fixtures;

    const NOW: Timestamp = Timestamp::from_unix_millis(1_700_000_000_000);

    fn pool() -> PoolName {
        PoolName::new("gpu").unwrap()
    }

    fn instance() -> InstanceName {
        InstanceName::new("i-1").unwrap()
    }

    fn load() -> LaunchReason {
        LaunchReason::Load { wanted: 2, have: 1.0 }
    }

    fn order() -> Order {
        Order { reason: load().to_string(), ..fixtures::order() }
    }

    /// A machine after so many events of a life that goes well.
    fn lived(events: usize) -> Entry {
        let life = [
            Event::Asked,
            Event::Found { instance: instance(), launched_at: NOW },
            Event::Registered { worker: WorkerId::from_bytes([7; 16]) },
        ];
        let new = Entry::intended(MachineId::from_bytes([1; 16]), Epoch::new(1), order(), NOW);
        life.iter().take(events).fold(new, |entry, event| apply(&entry, event, NOW).unwrap())
    }

    fn launches() -> Plan {
        let (offering, reason) = (order().offering, load());
        Plan { steps: vec![Step::Launch { pool: pool(), offering, count: 2, reason }] }
    }

    #[test]
    fn a_launch_has_the_plans_reason_and_an_outcome() {
        let plan = launches();
        let said = |before: Option<usize>, after: usize| {
            let before = before.map(lived);
            news(before.as_ref(), &lived(after), Some(&plan))
        };
        assert_eq!(said(None, 1), [News::Wanted("load")]);
        assert_eq!(said(Some(0), 1), [], "it was counted when it was wanted");
        assert_eq!(said(Some(1), 2), [News::Outcome("launched")]);
        assert_eq!(said(Some(2), 3), []);
        let (class, why) = (Failure::Quota, "no more".to_owned());
        let refused = apply(&lived(1), &Event::Refused { class, why }, NOW).unwrap();
        assert_eq!(news(Some(&lived(1)), &refused, None), [News::Outcome("quota")]);
        assert_eq!(news(Some(&refused), &refused, None), []);
    }

    #[test]
    fn a_machine_that_is_taken_in_was_launched_by_nobody() {
        let (id, made) = (MachineId::from_bytes([1; 16]), (instance(), NOW));
        let adopted = Entry::adopted(id, Epoch::new(1), order(), made, NOW);
        assert_eq!(news(None, &adopted, Some(&launches())), []);
    }

    #[test]
    fn a_removal_counts_once_and_for_the_reason_that_began_it() {
        let ready = lived(3);
        let why = Leave::Planned { why: RemoveReason::Outdated.to_string() };
        let drain = Event::Drain { deadline: NOW, why: why.clone() };
        let draining = apply(&ready, &drain, NOW).unwrap();
        let (instance, reason) = (ready.name(), RemoveReason::Outdated);
        let plan =
            Plan { steps: vec![Step::Drain { pool: pool(), instance, deadline: NOW, reason }] };
        assert_eq!(news(Some(&ready), &draining, Some(&plan)), [News::Removed("outdated")]);
        assert_eq!(news(Some(&ready), &draining, None), [News::Removed("planned")]);
        let ending = apply(&draining, &Event::Terminate { why }, NOW).unwrap();
        assert_eq!(news(Some(&draining), &ending, Some(&plan)), []);
        let panic = apply(&ready, &Event::Terminate { why: Leave::Panic }, NOW).unwrap();
        assert_eq!(news(Some(&ready), &panic, Some(&plan)), [News::Removed("panic")]);
    }

    #[test]
    fn what_the_cloud_takes_back_is_no_removal_of_ours() {
        let why = Ending::Interrupted;
        let gone = apply(&lived(3), &Event::Ended { why }, NOW).unwrap();
        assert_eq!(news(Some(&lived(3)), &gone, None), [News::Interrupted]);
        assert_eq!(news(Some(&gone), &gone, None), []);
    }
}
