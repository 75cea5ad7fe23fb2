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
