//! Which workers are of machines that run something else than new ones would.

use std::collections::BTreeSet;

use stoker_core::fleet::drift::{Drift, Wanted, drift};
use stoker_core::fleet::execute::{Finding, Sites};
use stoker_core::fleet::ledger::{Ledger, Presence};
use stoker_proto::convert::Seen;

/// Marks those workers, and says what else is to be known.
pub(super) fn mark_outdated(
    seen: &mut Seen,
    ledger: &Ledger,
    sites: &Sites,
    wanted: Option<Wanted<'_>>,
) -> Vec<Finding> {
    // What an operator keeps as it is tells nothing, and is not replaced.
    let kept = seen.list.workers.iter().filter(|one| one.presence == Presence::Cordoned);
    let kept: BTreeSet<_> = kept.filter_map(|one| one.instance.clone()).collect();
    seen.versions.retain(|machine, _| !kept.contains(machine));
    let Drift { outdated, findings } = drift(ledger, sites, &seen.versions, wanted);
    for worker in &mut seen.list.workers {
        let machine = worker.instance.as_ref();
        worker.outdated = machine.is_some_and(|machine| outdated.contains(machine));
    }
    findings
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use stoker_core::fleet::execute::Site;
    use stoker_core::fleet::ledger::{Entry, Event, Order, WorkerSeen, apply};
    use stoker_core::ids::{Epoch, InstanceName, MachineId, WorkerId};
    use stoker_core::time::Timestamp;

    use super::*;
    use crate::fixtures::order;

    const START: Timestamp = Timestamp::from_unix_millis(1_700_000_000_000);

    /// The minute of a machine's launch, the version of its worker, and whether that takes work.
    type Machine = (u32, &'static str, Presence);

    fn minute(minute: u32) -> Timestamp {
        START.after(Duration::from_mins(1) * minute)
    }

    fn instance(number: u8) -> InstanceName {
        InstanceName::new(&format!("i-{number}")).unwrap()
    }

    fn launched(number: u8, at: Timestamp) -> Entry {
        let new = Entry::intended(MachineId::from_bytes([number; 16]), Epoch::new(1), order(), at);
        let found = Event::Found { instance: instance(number), launched_at: at };
        [Event::Asked, found].iter().fold(new, |entry, event| apply(&entry, event, at).unwrap())
    }

    fn worker(number: u8, presence: Presence) -> WorkerSeen {
        WorkerSeen {
            id: WorkerId::from_bytes([number; 16]),
            machine: None,
            instance: Some(instance(number)),
            presence,
            running: 0,
            idle_since: None,
            seen_at: START,
            notice: None,
            outdated: false,
            warm: Vec::new(),
            remaining: None,
        }
    }

    /// Numbers, from 1, of the machines whose workers are marked where 2.0 is wanted since the fifth minute, and what
    /// else was found.
    fn marked(machines: &[Machine]) -> (Vec<u8>, Vec<Finding>) {
        let (mut seen, mut ledger) = (Seen::default(), Ledger::default());
        for (number, (at, version, presence)) in (1..).zip(machines) {
            let entry = launched(number, minute(*at));
            ledger.entries.insert(entry.id, entry);
            seen.list.workers.push(worker(number, *presence));
            seen.versions.insert(instance(number), BTreeSet::from([(*version).to_owned()]));
        }
        let Order { pool, offering, provider, region, template, .. } = order();
        let site = Site { provider, region, template };
        let sites = Sites::from([(pool, BTreeMap::from([(offering, site)]))]);
        let wanted = Wanted { version: "2.0", since: minute(5) };
        let findings = mark_outdated(&mut seen, &ledger, &sites, Some(wanted));
        let marked = (1..).zip(&seen.list.workers).filter(|(_, worker)| worker.outdated);
        (marked.map(|(number, _)| number).collect(), findings)
    }

    #[test]
    fn a_machine_that_an_operator_cordoned_is_not_replaced_for_its_version() {
        let beside = |presence| marked(&[(0, "1.0", presence), (6, "2.0", Presence::Ready)]);
        assert_eq!(beside(Presence::Ready), (vec![1], vec![]));
        assert_eq!(beside(Presence::Cordoned), (vec![], vec![]));
    }

    #[test]
    fn the_version_of_a_cordoned_machine_does_not_speak_for_its_template() {
        // The newest machine tells what the template boots, unless it is kept as it is, for whatever reason.
        let newest = |presence| marked(&[(0, "1.0", Presence::Ready), (6, "1.1", presence)]);
        let (replaced, findings) = newest(Presence::Ready);
        assert_eq!((replaced, findings.len()), (vec![], 1));
        assert_eq!(newest(Presence::Cordoned), (vec![1], vec![]), "one is tried");
    }
}
