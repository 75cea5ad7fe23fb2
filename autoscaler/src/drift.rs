//! Which machines run something else than new ones would.

use std::collections::BTreeSet;

use stoker_core::fleet::execute::Sites;
use stoker_core::fleet::ledger::{Ledger, WorkerList};
use stoker_core::ids::InstanceName;

/// Marks the workers of machines that booted something else than new ones would.
pub(crate) fn mark_outdated(list: &mut WorkerList, ledger: &Ledger, sites: &Sites) {
    let outdated: BTreeSet<InstanceName> = ledger
        .open()
        .filter(|entry| {
            let order = &entry.order;
            let site = sites.get(&order.pool).and_then(|sites| sites.get(&order.offering));
            site.is_some_and(|site| site.template != order.template)
        })
        .filter_map(|entry| entry.state.instance().cloned())
        .collect();
    for worker in &mut list.workers {
        let machine = worker.instance.as_ref();
        worker.outdated = machine.is_some_and(|machine| outdated.contains(machine));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use stoker_core::fleet::CapacityType;
    use stoker_core::fleet::execute::Site;
    use stoker_core::fleet::ledger::{Entry, Event, Order, Presence, WorkerSeen, apply};
    use stoker_core::ids::{Epoch, MachineId, OfferingName, PoolName, WorkerId};
    use stoker_core::money::{HourlyPrice, Money};
    use stoker_core::time::Timestamp;

    use super::*;

    const NOW: Timestamp = Timestamp::from_unix_millis(1_700_000_000_000);

    #[test]
    fn a_machine_of_an_older_template_is_outdated_and_one_of_the_present_is_not() {
        let (pool, offering) = (PoolName::new("gpu").unwrap(), OfferingName::new("g5.a").unwrap());
        let mut ledger = Ledger::default();
        let mut list = WorkerList::default();
        for (number, template) in [(1, "lt-1:1"), (2, "lt-1:2")] {
            let order = Order {
                pool: pool.clone(),
                offering: offering.clone(),
                provider: "ec2".into(),
                region: "r".into(),
                zone: "a".into(),
                instance_type: "g5".into(),
                capacity: CapacityType::Spot,
                price: HourlyPrice::new(Money::from_micros(1_000_000)),
                template: template.into(),
                reason: "load".into(),
            };
            let instance = InstanceName::new(&format!("i-{number}")).unwrap();
            let entry =
                Entry::intended(MachineId::from_bytes([number; 16]), Epoch::new(1), order, NOW);
            let found = Event::Found { instance: instance.clone(), launched_at: NOW };
            let entry = [Event::Asked, found]
                .iter()
                .fold(entry, |entry, event| apply(&entry, event, NOW).unwrap());
            ledger.entries.insert(entry.id, entry);
            list.workers.push(WorkerSeen {
                id: WorkerId::from_bytes([number; 16]),
                machine: None,
                instance: Some(instance),
                presence: Presence::Ready,
                running: 0,
                idle_since: None,
                seen_at: NOW,
                notice: None,
                outdated: false,
                warm: Vec::new(),
            });
        }
        let (provider, region) = ("ec2".to_owned(), "r".to_owned());
        let site = Site { provider, region, template: "lt-1:2".to_owned() };
        let sites = Sites::from([(pool, BTreeMap::from([(offering, site)]))]);
        mark_outdated(&mut list, &ledger, &sites);
        let outdated: Vec<bool> = list.workers.iter().map(|worker| worker.outdated).collect();
        assert_eq!(outdated, [true, false]);
    }
}
