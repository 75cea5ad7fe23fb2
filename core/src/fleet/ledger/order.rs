//! An operator's order to end one machine, and what it makes of the machine's entry.

use std::time::Duration;

use crate::time::Timestamp;

use super::entry::Entry;
use super::state::{Failure, Leave, State};
use super::transition::{Event, Illegal, apply};

/// That a machine is to end, who says so and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndOrder {
    pub by: String,
    pub why: String,
    /// Time that its worker has to finish what it runs. `None`: none, it ends at once.
    pub within: Option<Duration>,
}

impl EndOrder {
    /// The entry as it is to be written: of the next version, or the same if the order changes nothing about it.
    ///
    /// A machine without a worker ends at once. One that was not asked for yet never will be. Given again, an order
    /// can hasten the end and not put it off.
    ///
    /// # Errors
    /// [`Illegal`] when there is nothing to end: the provider has yet to answer whether it made the machine, or the
    /// machine is gone.
    pub fn carry_out(&self, entry: &Entry, now: Timestamp) -> Result<Entry, Illegal> {
        let why = Leave::Ordered { by: self.by.clone(), why: self.why.clone() };
        // The answer to the first call may have been lost.
        let so_before = |before: &str| before == why.to_string();
        if matches!(&entry.state, State::Failed { class: Failure::CalledOff, why } if so_before(why))
        {
            return Ok(entry.clone());
        }
        let event = match (&entry.state, self.within) {
            (State::Intended, _) => Event::CalledOff { why: why.to_string() },
            (State::Ready { .. } | State::Draining { .. }, Some(within)) => {
                Event::Drain { deadline: now.after(within), why }
            }
            // Those of which there is nothing to end refuse it.
            _ => Event::Terminate { why },
        };
        let mut after = apply(entry, &event, now)?;
        if after != *entry {
            after.version += 1;
        }
        Ok(after)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::CapacityType;
    use crate::fleet::ledger::{Ending, Order, StateKind};
    use crate::ids::{Epoch, InstanceName, MachineId, OfferingName, PoolName, WorkerId};
    use crate::money::{HourlyPrice, Money};

    const START: Timestamp = Timestamp::from_unix_millis(1_700_000_000_000);
    const MINUTE: Duration = Duration::from_mins(1);

    fn order(within: Option<Duration>) -> EndOrder {
        EndOrder { by: "ann".into(), why: "its disk is odd".into(), within }
    }

    fn ordered() -> Leave {
        Leave::Ordered { by: "ann".into(), why: "its disk is odd".into() }
    }

    /// A machine that has come so far in its life.
    fn lived(events: usize) -> Entry {
        let instance = InstanceName::new("i-1").unwrap();
        let worker = WorkerId::from_bytes([7; 16]);
        let order = Order {
            pool: PoolName::new("gpu").unwrap(),
            offering: OfferingName::new("g5.a").unwrap(),
            provider: "memory".into(),
            region: "r".into(),
            zone: "a".into(),
            instance_type: "g5".into(),
            capacity: CapacityType::Spot,
            price: HourlyPrice::new(Money::from_micros(1_000_000)),
            template: "1".into(),
            reason: "load".into(),
        };
        let life = [
            Event::Asked,
            Event::Found { instance, launched_at: START },
            Event::Registered { worker },
            Event::Ended { why: Ending::Elsewhere },
        ];
        let new = Entry::intended(MachineId::from_bytes([1; 16]), Epoch::new(1), order, START);
        life.iter().take(events).fold(new, |entry, event| apply(&entry, event, START).unwrap())
    }

    #[test]
    fn a_worker_is_drained_and_ended_at_once_if_that_is_the_order() {
        let ready = lived(3);
        let drained = order(Some(MINUTE)).carry_out(&ready, START).unwrap();
        let State::Draining { deadline, why, .. } = &drained.state else { panic!("{drained:?}") };
        assert_eq!((*deadline, why), (START.after(MINUTE), &ordered()));
        assert_eq!(drained.version, ready.version + 1);
        let ended = order(None).carry_out(&drained, START).unwrap();
        assert_eq!(ended.state.kind(), StateKind::Terminating);
        assert_eq!(ended.version, ready.version + 2);
    }

    #[test]
    fn an_order_that_is_given_again_hastens_and_never_delays() {
        let later = START.after(MINUTE / 2);
        let drained = order(Some(MINUTE)).carry_out(&lived(3), START).unwrap();
        assert_eq!(order(Some(MINUTE)).carry_out(&drained, later), Ok(drained.clone()));
        let sooner = order(Some(MINUTE / 4)).carry_out(&drained, later).unwrap();
        assert!(matches!(sooner.state, State::Draining { deadline, .. }
            if deadline == later.after(MINUTE / 4)));
        let ended = order(None).carry_out(&drained, later).unwrap();
        for within in [None, Some(MINUTE)] {
            assert_eq!(order(within).carry_out(&ended, later), Ok(ended.clone()));
        }
    }

    #[test]
    fn what_has_no_worker_ends_or_is_never_asked_for() {
        let booting = order(Some(MINUTE)).carry_out(&lived(2), START).unwrap();
        assert_eq!(booting.state.kind(), StateKind::Terminating);
        let wanted = order(Some(MINUTE)).carry_out(&lived(0), START).unwrap();
        let State::Failed { why, .. } = &wanted.state else { panic!("{wanted:?}") };
        assert_eq!(why, "ordered by ann: its disk is odd");
        assert_eq!(order(None).carry_out(&wanted, START), Ok(wanted.clone()), "said again");
        let another = EndOrder { by: "bob".into(), ..order(None) };
        assert!(another.carry_out(&wanted, START).is_err());
    }

    #[test]
    fn what_may_not_be_there_and_what_is_gone_is_refused() {
        for events in [1, 4] {
            for within in [None, Some(MINUTE)] {
                let refused = order(within).carry_out(&lived(events), START);
                assert!(matches!(refused, Err(Illegal::NotFrom { .. })), "{refused:?}");
            }
        }
    }
}
