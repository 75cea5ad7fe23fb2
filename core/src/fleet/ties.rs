//! Which offerings fail together: how often a loss or a refusal of one came with one of another. Learned and
//! forgotten.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::ids::OfferingName;
use crate::time::Timestamp;

use super::check::Offering;
use super::spec::CapacityType;

/// How long an observation counts. Storms are rare, so longer than for the losses themselves.
const MEMORY: Duration = Duration::from_hours(7 * 24);
/// Troubles within this time are of one storm.
const STORM: Duration = Duration::from_mins(10);
/// What is expected of two offerings before anything was seen, as if so many storms had been.
const PRIOR_STORMS: f64 = 3.0;
/// Types in one zone share its machines to some part; zones hardly share anything.
const SAME_ZONE: f64 = 0.5;
const OTHER_ZONE: f64 = 0.1;

/// What is known of the offerings of a pool.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct Ties {
    offerings: BTreeMap<OfferingName, Storms>,
}

/// The storms that one offering was in.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
struct Storms {
    /// Decayed.
    number: f64,
    /// Of these, those that the other was in, too.
    with: BTreeMap<OfferingName, f64>,
    /// Latest trouble.
    last: Option<Timestamp>,
}

impl Storms {
    fn is_in_one(&self, now: Timestamp) -> bool {
        self.last.is_some_and(|last| now.since(last) <= STORM)
    }
}

impl Ties {
    /// Takes in which offerings had losses or refusals just now, `elapsed` after the last look.
    pub(crate) fn observe(
        &mut self,
        troubled: &BTreeSet<&OfferingName>,
        elapsed: Duration,
        now: Timestamp,
    ) {
        let fade = (-elapsed.as_secs_f64() / MEMORY.as_secs_f64()).exp();
        for storms in self.offerings.values_mut() {
            storms.number *= fade;
            storms.with.values_mut().for_each(|with| *with *= fade);
        }
        for name in troubled {
            let mut storms = self.offerings.remove(*name).unwrap_or_default();
            // One that goes on is no second storm.
            if !storms.is_in_one(now) {
                storms.number += 1.0;
                for (other, theirs) in &mut self.offerings {
                    if theirs.is_in_one(now) {
                        *storms.with.entry(other.clone()).or_default() += 1.0;
                        *theirs.with.entry((*name).clone()).or_default() += 1.0;
                    }
                }
            }
            storms.last = Some(now);
            self.offerings.insert((*name).clone(), storms);
        }
    }

    /// Share of the storms of one of them that reach the other, 0 to 1. What is bought on demand is not
    /// taken back.
    pub(crate) fn between(
        &self,
        (a, first): (&OfferingName, &Offering),
        (b, second): (&OfferingName, &Offering),
    ) -> f64 {
        if a == b {
            return 1.0;
        }
        if [first, second].iter().any(|offering| offering.capacity == CapacityType::OnDemand) {
            return 0.0;
        }
        let prior = if first.zone == second.zone { SAME_ZONE } else { OTHER_ZONE };
        let number = |name| self.offerings.get(name).map_or(0.0, |storms| storms.number);
        let together = self.offerings.get(a).and_then(|storms| storms.with.get(b));
        let fewer = number(a).min(number(b));
        // One long storm may meet several short ones.
        let together = together.copied().unwrap_or(0.0).min(fewer);
        let share = together + PRIOR_STORMS * prior;
        (share / (fewer + PRIOR_STORMS)).clamp(0.0, 1.0)
    }
}

#[cfg(test)]
mod tests {
    use crate::money::{HourlyPrice, Money};

    use super::*;

    fn name(zone: &str) -> OfferingName {
        OfferingName::new(zone).unwrap()
    }

    fn offering(zone: &str, capacity: CapacityType) -> Offering {
        Offering {
            instance_type: "g5.xlarge".to_owned(),
            zone: zone.to_owned(),
            capacity,
            price: HourlyPrice::new(Money::from_dollars(1.0).unwrap()),
            speed: 1.0,
            bulk_speed: 1.0,
        }
    }

    fn at(minutes: i64) -> Timestamp {
        Timestamp::from_unix_millis(minutes * 60_000)
    }

    /// Storms an hour apart, each through these zones.
    fn ties(storms: &[&[&str]]) -> Ties {
        let mut ties = Ties::default();
        for (hour, zones) in (0..).zip(storms) {
            for (minute, zone) in (0..).zip(*zones) {
                let troubled = name(zone);
                let elapsed = Duration::from_mins(1);
                ties.observe(&BTreeSet::from([&troubled]), elapsed, at(hour * 60 + minute));
            }
        }
        ties
    }

    fn between(ties: &Ties, a: &str, b: &str) -> f64 {
        let [first, second] = [a, b].map(|zone| offering(zone, CapacityType::Spot));
        ties.between((&name(a), &first), (&name(b), &second))
    }

    #[test]
    fn offerings_that_fail_together_are_found_and_others_are_told_apart() {
        let storms: Vec<&[&str]> = [&["a", "b"][..], &["c"]].repeat(10);
        let ties = ties(&storms);
        assert!(between(&ties, "a", "b") > 0.7, "{ties:?}");
        assert!(between(&ties, "a", "c") < 0.05, "{ties:?}");
        assert!((between(&ties, "a", "b") - between(&ties, "b", "a")).abs() < 1e-12);
    }

    #[test]
    fn before_anything_was_seen_a_zone_is_taken_to_fail_as_one() {
        let ties = Ties::default();
        let (a, b) = (offering("a", CapacityType::Spot), offering("a", CapacityType::Spot));
        let same = ties.between((&name("x"), &a), (&name("y"), &b));
        assert!(same > between(&ties, "a", "b"));
        let kept = offering("a", CapacityType::OnDemand);
        assert!(ties.between((&name("x"), &a), (&name("y"), &kept)).abs() < 1e-12);
        assert!((ties.between((&name("x"), &a), (&name("x"), &a)) - 1.0).abs() < 1e-12);
    }

    #[test]
    fn many_short_storms_within_a_long_one_are_no_more_than_it() {
        let mut ties = Ties::default();
        for minute in 0..200 {
            let (a, b) = (name("a"), name("b"));
            let troubled = if minute % 50 == 0 { vec![&a, &b] } else { vec![&a] };
            ties.observe(&troubled.into_iter().collect(), Duration::from_mins(1), at(minute));
        }
        assert!(between(&ties, "a", "b") <= 1.0 && between(&ties, "a", "b") < 0.5, "{ties:?}");
    }

    #[test]
    fn a_long_storm_is_one_and_what_was_long_ago_fades() {
        let long: Vec<&str> = ["a", "b"].repeat(10);
        let mut ties = ties(&[&long]);
        assert!((ties.offerings[&name("a")].number - 1.0).abs() < 0.01, "{ties:?}");
        let (seen, unseen) = (between(&ties, "a", "b"), between(&Ties::default(), "a", "b"));
        ties.observe(&BTreeSet::new(), Duration::from_hours(90 * 24), at(0));
        assert!(seen > unseen && (between(&ties, "a", "b") - unseen).abs() < 0.01);
    }
}
