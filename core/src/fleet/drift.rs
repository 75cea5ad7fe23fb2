//! Which machines run something else than new ones would: they have drifted, and are replaced within the budget.
//!
//! What a machine boots stands in its ledger entry, so that an older launch template is known from there. Where the same template
//! boots another worker one day (its image has a name that moves on, or the program lies beside the autoscaler), only the
//! version that the worker registers with tells. An autoscaler that is told to want a version replaces the others, one at first:
//! if that one's successor comes with another version as well, the template does not bring what is wanted, and
//! replacing more of them would cost money and never end.

use std::collections::{BTreeMap, BTreeSet};

use crate::ids::InstanceName;
use crate::time::Timestamp;

use super::execute::{Finding, Sites};
use super::ledger::{Entry, Ledger};

/// The version that workers are to be of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted<'a> {
    pub version: &'a str,
    /// Since when it is wanted: what was launched before says nothing about what its template boots now.
    pub since: Timestamp,
}

/// The versions that the workers of each machine have registered with.
pub type Versions = BTreeMap<InstanceName, BTreeSet<String>>;

/// What has drifted.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Drift {
    /// Machines to be replaced, as far as the disruption budget goes.
    pub outdated: BTreeSet<InstanceName>,
    /// Templates that do not boot the version that is wanted.
    pub findings: Vec<Finding>,
}

/// Compares what runs with what is to run. A machine of an offering that has no site any more is not judged here: the
/// planner takes it out for that.
pub fn drift(
    ledger: &Ledger,
    sites: &Sites,
    versions: &Versions,
    wanted: Option<Wanted<'_>>,
) -> Drift {
    let mut drift = Drift::default();
    let mut present: BTreeMap<&str, Vec<Seen<'_>>> = BTreeMap::new();
    for entry in ledger.open() {
        let order = &entry.order;
        let Some(instance) = entry.state.instance() else { continue };
        let site = sites.get(&order.pool).and_then(|sites| sites.get(&order.offering));
        let Some(site) = site else { continue };
        if site.template != order.template {
            drift.outdated.insert(instance.clone());
        } else if let Some(known) = versions.get(instance).filter(|known| !known.is_empty()) {
            let seen = Seen { entry, instance, versions: known };
            present.entry(&order.template).or_default().push(seen);
        }
    }
    if let Some(wanted) = wanted {
        for (template, machines) in present {
            drift.by_version(template, &machines, wanted);
        }
    }
    drift
}

/// A machine of the present template whose workers have registered.
#[derive(Debug, Clone, Copy)]
struct Seen<'a> {
    entry: &'a Entry,
    instance: &'a InstanceName,
    versions: &'a BTreeSet<String>,
}

impl Seen<'_> {
    fn launched(&self) -> Timestamp {
        self.entry.times.launched.unwrap_or(self.entry.times.intended)
    }

    /// The version that some worker of it has and should not.
    fn other_than(&self, wanted: &str) -> Option<&str> {
        self.versions.iter().map(String::as_str).find(|version| *version != wanted)
    }
}

impl Drift {
    fn by_version(&mut self, template: &str, machines: &[Seen<'_>], wanted: Wanted<'_>) {
        let old: Vec<&Seen<'_>> =
            machines.iter().filter(|seen| seen.other_than(wanted.version).is_some()).collect();
        // What it boots now is what it booted last: older ones may be of a version that it has left behind.
        let newest = machines.iter().max_by_key(|seen| seen.launched());
        match newest.and_then(|newest| Some((newest, newest.other_than(wanted.version)?))) {
            None => self.outdated.extend(old.iter().map(|seen| seen.instance.clone())),
            Some((newest, found)) if newest.launched() >= wanted.since => {
                self.findings.push(Finding::OtherVersion {
                    template: template.to_owned(),
                    wanted: wanted.version.to_owned(),
                    found: found.to_owned(),
                });
            }
            Some(_) => {
                let oldest = old.iter().min_by_key(|seen| seen.launched());
                self.outdated.extend(oldest.map(|seen| seen.instance.clone()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::fleet::CapacityType;
    use crate::fleet::execute::Site;
    use crate::fleet::ledger::{Event, Order, apply};
    use crate::ids::{Epoch, MachineId, OfferingName, PoolName};
    use crate::money::{HourlyPrice, Money};

    const START: Timestamp = Timestamp::from_unix_millis(1_700_000_000_000);
    const MIN: Duration = Duration::from_mins(1);

    /// Machines by number, with the template, the minute of the launch and the version of the worker.
    fn found(machines: &[(u8, &str, u32, &str)], wanted: Option<(&str, u32)>) -> Drift {
        let (pool, offering) = (PoolName::new("gpu").unwrap(), OfferingName::new("g5.a").unwrap());
        let mut ledger = Ledger::default();
        let mut versions = Versions::new();
        for (number, template, minute, version) in machines {
            let order = Order {
                pool: pool.clone(),
                offering: offering.clone(),
                provider: "ec2".into(),
                region: "r".into(),
                zone: "a".into(),
                instance_type: "g5".into(),
                capacity: CapacityType::Spot,
                price: HourlyPrice::new(Money::from_micros(1_000_000)),
                template: (*template).into(),
                reason: "load".into(),
            };
            let instance = instance(*number);
            let at = START.after(MIN * *minute);
            let entry =
                Entry::intended(MachineId::from_bytes([*number; 16]), Epoch::new(1), order, at);
            let made = Event::Found { instance: instance.clone(), launched_at: at };
            let entry = [Event::Asked, made]
                .iter()
                .fold(entry, |entry, event| apply(&entry, event, at).unwrap());
            ledger.entries.insert(entry.id, entry);
            if !version.is_empty() {
                versions.insert(instance, BTreeSet::from([(*version).to_owned()]));
            }
        }
        let (provider, region) = ("ec2".to_owned(), "r".to_owned());
        let site = Site { provider, region, template: "lt-1:2".to_owned() };
        let sites = Sites::from([(pool, BTreeMap::from([(offering, site)]))]);
        let wanted =
            wanted.map(|(version, since)| Wanted { version, since: START.after(MIN * since) });
        drift(&ledger, &sites, &versions, wanted)
    }

    fn instance(number: u8) -> InstanceName {
        InstanceName::new(&format!("i-{number}")).unwrap()
    }

    fn outdated(drift: &Drift) -> Vec<InstanceName> {
        drift.outdated.iter().cloned().collect()
    }

    #[test]
    fn a_machine_of_an_older_template_is_outdated_whatever_its_worker_says() {
        let machines = [(1, "lt-1:1", 0, "2.0"), (2, "lt-1:2", 0, "2.0"), (3, "lt-1:1", 0, "")];
        for wanted in [None, Some(("2.0", 5))] {
            assert_eq!(outdated(&found(&machines, wanted)), [instance(1), instance(3)]);
        }
    }

    #[test]
    fn any_version_will_do_unless_one_is_wanted() {
        let machines = [(1, "lt-1:2", 0, "1.0"), (2, "lt-1:2", 1, "2.0")];
        assert_eq!(found(&machines, None), Drift::default());
    }

    #[test]
    fn others_are_replaced_once_the_template_is_seen_to_bring_the_version() {
        let machines = [
            (1, "lt-1:2", 0, "1.0"),
            (2, "lt-1:2", 1, "1.0"),
            (3, "lt-1:2", 6, "2.0"),
            // Its worker has not come up yet.
            (4, "lt-1:2", 7, ""),
        ];
        let drift = found(&machines, Some(("2.0", 5)));
        assert_eq!(outdated(&drift), [instance(1), instance(2)]);
        assert_eq!(drift.findings, []);
    }

    #[test]
    fn one_is_tried_first_and_the_oldest() {
        let machines = [(1, "lt-1:2", 3, "1.0"), (2, "lt-1:2", 1, "1.0"), (3, "lt-1:2", 2, "1.0")];
        assert_eq!(outdated(&found(&machines, Some(("2.0", 5)))), [instance(2)]);
        // Its successor boots: it is still the same one.
        let booting = [&machines[..], &[(4, "lt-1:2", 6, "")]].concat();
        assert_eq!(outdated(&found(&booting, Some(("2.0", 5)))), [instance(2)]);
    }

    #[test]
    fn a_version_that_the_template_has_left_behind_is_not_brought_back_by_replacing_machines() {
        // Rolled back half-way: some still run what is wanted again, and what boots is 2.0.
        let machines = [(1, "lt-1:2", 0, "1.9"), (2, "lt-1:2", 4, "2.0")];
        assert_eq!(outdated(&found(&machines, Some(("1.9", 5)))), [instance(2)], "one is tried");
        let tried = [&machines[..], &[(3, "lt-1:2", 6, "2.0")]].concat();
        let drift = found(&tried, Some(("1.9", 5)));
        assert_eq!((outdated(&drift), drift.findings.len()), (vec![], 1));
    }

    #[test]
    fn a_template_that_brings_another_version_is_told_of_and_nothing_more_is_replaced() {
        let machines = [(1, "lt-1:2", 0, "1.0"), (2, "lt-1:2", 6, "1.1")];
        let drift = found(&machines, Some(("2.0", 5)));
        assert_eq!(outdated(&drift), []);
        let [finding] = &drift.findings[..] else { panic!("{drift:?}") };
        assert_eq!(finding.to_string(), "lt-1:2 boots workers of version 1.1, and 2.0 is wanted");
    }
}
