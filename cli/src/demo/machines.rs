//! What happened to a fleet's machines between two looks at its ledger, in sentences. Pure.

use std::collections::BTreeMap;

use stoker_core::fleet::ledger::{Ending, Entry, State, StateKind, cost};
use stoker_core::ids::MachineId;
use stoker_core::money::Money;
use stoker_core::time::Timestamp;

use crate::render::money::dollars;
use crate::render::text::count;
use crate::render::time::span;

/// What was told of a machine last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Known {
    /// Machines are called by their number: short, and in the order in which they were bought.
    number: usize,
    state: StateKind,
    noticed: bool,
}

/// Tells each change once.
#[derive(Debug, Default)]
pub(crate) struct Teller {
    known: BTreeMap<MachineId, Known>,
    /// What they were and cost, as it was told last.
    total: String,
}

impl Teller {
    /// What is new, a sentence each. Entries never leave a ledger that is read from the fleet's beginning on.
    pub(crate) fn news(
        &mut self,
        entries: &BTreeMap<MachineId, Entry>,
        now: Timestamp,
    ) -> Vec<String> {
        let mut news = Vec::new();
        // Ids begin with the time at which they were made.
        for entry in entries.values() {
            let (state, noticed) = (entry.state.kind(), entry.times.noticed.is_some());
            let next = self.known.len() + 1;
            let before = self.known.get(&entry.id).copied();
            let number = before.map_or(next, |known| known.number);
            self.known.insert(entry.id, Known { number, state, noticed });
            let name = format!("machine {number}");
            if before.is_none() {
                news.push(format!("{name}: {}", bought(entry)));
            }
            if noticed && !before.is_some_and(|known| known.noticed) {
                let notice = "the cloud takes it back; it hands over what it runs";
                news.push(format!("{name}: {notice}"));
            }
            if before.map(|known| known.state) != Some(state) {
                news.extend(change(entry, now).map(|change| format!("{name}: {change}")));
            }
        }
        let total = total(entries);
        if !news.is_empty() && self.total != total {
            news.push(total.clone());
            self.total = total;
        }
        news
    }
}

fn bought(entry: &Entry) -> String {
    let order = &entry.order;
    let (capacity, price) = (order.capacity.as_str(), order.price);
    format!("buying {capacity} at {price}: {}", order.reason)
}

/// What a state means to whoever watches; `None` for what only the autoscaler needs to know.
fn change(entry: &Entry, now: Timestamp) -> Option<String> {
    match &entry.state {
        State::Intended
        | State::Requested { .. }
        | State::Launched { .. }
        | State::Terminating { .. } => None,
        // The notice says it.
        State::Draining { .. } if entry.times.noticed.is_some() => None,
        State::Ready { .. } => {
            let times = &entry.times;
            let boot = times.ready.unwrap_or(now).since(times.intended);
            Some(format!("ready for work, {} after it was decided on", span(boot)))
        }
        State::Draining { why, .. } => Some(format!("takes no more work: {why}")),
        State::Gone { why: how, .. } => {
            let why = match how {
                Ending::Terminated(why) => why.to_string(),
                Ending::Interrupted | Ending::Elsewhere | Ending::Vanished => how.to_string(),
            };
            let lived = entry.times.ended.unwrap_or(now).since(entry.times.intended);
            let paid = dollars(cost(entry, now));
            Some(format!("gone after {}, for {paid}: {why}", span(lived)))
        }
        State::Failed { class, why } => Some(format!("not to be had ({}): {why}", class.name())),
    }
}

fn total(entries: &BTreeMap<MachineId, Entry>) -> String {
    let open = entries.values().filter(|entry| entry.state.counts());
    let (number, hour) = open.fold((0, Money::ZERO), |(number, money), entry| {
        (number + 1, money.plus(entry.order.price.hour()))
    });
    if number == 0 {
        return "no machine, $0.00 an hour".to_owned();
    }
    format!("{}, {} an hour", count(number, "machine"), dollars(hour))
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::Duration;

    use stoker_core::fleet::CapacityType;
    use stoker_core::fleet::ledger::{Event, Leave, Order, apply};
    use stoker_core::ids::{Epoch, InstanceName, OfferingName, PoolName, WorkerId};
    use stoker_core::money::HourlyPrice;

    use super::*;

    pub(in crate::demo) const START: Timestamp = Timestamp::from_unix_millis(1_700_000_000_000);

    pub(in crate::demo) fn at(seconds: u64) -> Timestamp {
        START.after(Duration::from_secs(seconds))
    }

    pub(in crate::demo) fn bought(number: u8, capacity: CapacityType) -> Entry {
        let order = Order {
            pool: PoolName::new("default").unwrap(),
            offering: OfferingName::new("gpu.local").unwrap(),
            provider: "local".into(),
            region: "local".into(),
            zone: "local".into(),
            instance_type: "gpu".into(),
            capacity,
            price: HourlyPrice::new(Money::from_micros(3_600_000)),
            template: "1".into(),
            reason: "the backlog needs 1 more".into(),
        };
        Entry::intended(MachineId::from_bytes([number; 16]), Epoch::new(1), order, START)
    }

    pub(in crate::demo) fn next(entry: &Entry, event: &Event, seconds: u64) -> Entry {
        apply(entry, event, at(seconds)).unwrap()
    }

    pub(in crate::demo) fn ledger(entries: &[&Entry]) -> BTreeMap<MachineId, Entry> {
        entries.iter().map(|entry| (entry.id, (*entry).clone())).collect()
    }

    #[test]
    fn a_life_is_told_once_and_in_order() {
        let mut teller = Teller::default();
        let new = bought(1, CapacityType::Spot);
        let mut news = |entries: &[&Entry], seconds| teller.news(&ledger(entries), at(seconds));
        assert_eq!(
            news(&[&new], 0),
            [
                "machine 1: buying spot at $3.600/h: the backlog needs 1 more",
                "1 machine, $3.60 an hour"
            ]
        );
        let asked = next(&new, &Event::Asked, 0);
        let instance = InstanceName::new("i-1").unwrap();
        let found = Event::Found { instance, launched_at: START };
        let found = next(&asked, &found, 1);
        assert_eq!(news(&[&found], 1), [""; 0], "how it is asked for is no news");
        let worker = WorkerId::from_bytes([7; 16]);
        let ready = next(&found, &Event::Registered { worker }, 3);
        let said = news(&[&ready], 3);
        assert_eq!(said, ["machine 1: ready for work, 3s after it was decided on"]);
        let noticed = next(&ready, &Event::Noticed, 9);
        let drain = Event::Drain { deadline: at(15), why: Leave::Interrupted };
        let leaving = next(&noticed, &drain, 9);
        let other = bought(2, CapacityType::OnDemand);
        assert_eq!(
            news(&[&leaving, &other], 9),
            [
                "machine 1: the cloud takes it back; it hands over what it runs",
                "machine 2: buying on-demand at $3.600/h: the backlog needs 1 more",
                "2 machines, $7.20 an hour"
            ]
        );
        let gone = next(&leaving, &Event::Ended { why: Ending::Interrupted }, 100);
        let called_off = next(&other, &Event::CalledOff { why: "not needed".into() }, 100);
        assert_eq!(
            news(&[&gone, &called_off], 100),
            [
                "machine 1: gone after 1m40s, for $0.10: the provider took it back",
                "machine 2: not to be had (called-off): not needed",
                "no machine, $0.00 an hour"
            ]
        );
        assert_eq!(news(&[&gone, &called_off], 101), [""; 0]);
    }
}
