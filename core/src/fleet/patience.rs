//! Jobs that may wait: whether machines are launched for them by now, and which.
//!
//! While their promises leave time, waiting costs nothing that was promised, and is of use: one boot serves what comes
//! until then as well, what others leave over works for nothing, and spot that was refused comes back. So nothing
//! is launched before there is work for ten boots of the machine on which a job is cheapest, and then nothing that is much dearer. Nor
//! is a machine that gains by batches kept for less than a boot's work: with what trickles in it would never be idle, and its batches small.
//!
//! The last quarter of a wait, and ten boots at least, is kept for the work itself: whatever finishes it by its time
//! is launched then. The later that is, the more machines have to do the same work, each with a boot of its own; with ten
//! boots left, those boots are a tenth of their hours.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::ids::OfferingName;

use super::check::{Offering, Scaling};
use super::provision::{self, SPREAD};
use super::spot::Risk;
use super::want::Want;

/// How much of a wait is kept for the work, and how many boots at least.
const KEPT: f64 = 0.25;
const KEPT_BOOTS: f64 = 10.0;
/// A launch is worth it when its boot is this part of its hours, or less.
const WORTH_BOOTS: f64 = 10.0;
/// Less work than this keeps no machine.
const LEAST_BOOTS: f64 = 1.0;
/// Of the machines that a pool may still get, the part that is enough to finish in time.
const ROOM: f64 = 0.5;

/// Whether work whose promise ends in `left` of `max_wait` seconds may wait longer, when a launch takes `boot` of them.
pub(crate) fn has_time(left: f64, max_wait: f64, boot: f64) -> bool {
    left - boot >= (max_wait * KEPT).max(boot * KEPT_BOOTS)
}

/// The most that a throughput of 1 in full batches may cost, in dollars an hour, to be launched for work that may wait. Nothing
/// costs 0, so that then nothing is launched. `room` machines may be.
pub(crate) fn limit(
    want: &Want,
    (scaling, room): (&Scaling, u32),
    risks: &BTreeMap<OfferingName, Risk>,
    boot: Duration,
) -> f64 {
    let Some(cheapest) = cheapest(scaling, risks, boot) else { return f64::INFINITY };
    let Cheapest { cost, speed, .. } = cheapest;
    if !want.has_time || want.bulk > ROOM * f64::from(room) * speed {
        f64::INFINITY
    } else if want.bulk_work < WORTH_BOOTS * boot.as_secs_f64() * speed {
        0.0
    } else {
        cost * SPREAD
    }
}

/// Work below this, in seconds, needs nobody for now. None where a job is cheapest on a machine that does not gain by batches: that one stands idle
/// when there is little, and goes for that.
pub(crate) fn little(
    scaling: &Scaling,
    risks: &BTreeMap<OfferingName, Risk>,
    boot: Duration,
) -> f64 {
    match cheapest(scaling, risks, boot) {
        Some(Cheapest { speed, gain, .. }) if gain > 1.0 => {
            LEAST_BOOTS * boot.as_secs_f64() * speed
        }
        Some(_) | None => 0.0,
    }
}

/// Where a throughput of 1 costs least.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Cheapest {
    /// Dollars an hour for it.
    cost: f64,
    /// In full batches.
    speed: f64,
    /// That speed over the one of jobs that start at once.
    gain: f64,
}

/// What cannot be tried at the moment counts, too.
fn cheapest(
    scaling: &Scaling,
    risks: &BTreeMap<OfferingName, Risk>,
    boot: Duration,
) -> Option<Cheapest> {
    let of = |(name, offering): (&OfferingName, &Offering)| {
        let risk = risks.get(name).copied().unwrap_or_default();
        let (speed, gain) = (offering.bulk_speed, offering.bulk_speed / offering.speed);
        let cost = provision::price_with_losses(offering, &risk, boot) / speed;
        Cheapest { cost, speed, gain }
    };
    scaling.offerings.iter().map(of).min_by(|a, b| a.cost.total_cmp(&b.cost))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::fleet::check::Disruption;
    use crate::fleet::spec::CapacityType;
    use crate::money::{HourlyPrice, Money};

    const BOOT: Duration = Duration::from_mins(3);
    const HOURS: f64 = 4.0 * 3600.0;

    fn scaling() -> Scaling {
        let offering = |(capacity, dollars): (CapacityType, f64)| {
            let offering = Offering {
                instance_type: "g".to_owned(),
                zone: "a".to_owned(),
                capacity,
                price: HourlyPrice::new(Money::from_dollars(dollars).unwrap()),
                speed: 1.0,
                bulk_speed: 4.0,
            };
            (OfferingName::new(capacity.as_str()).unwrap(), offering)
        };
        let offerings = [(CapacityType::Spot, 0.4), (CapacityType::OnDemand, 1.0)].map(offering);
        Scaling {
            min: 0,
            max: 10,
            warm: 0,
            boot: BOOT,
            expire_after: None,
            disruption: Disruption::default(),
            offerings: offerings.into(),
        }
    }

    /// Of work of which so much time is left, of a wait of four hours.
    fn limit_of(bulk_work: f64, bulk: f64, left: f64) -> f64 {
        let (prompt, for_backlog, notes) = (0, false, Vec::new());
        let has_time = has_time(left, HOURS, BOOT.as_secs_f64());
        let want = Want { prompt, for_backlog, bulk, bulk_work, has_time, notes };
        limit(&want, (&scaling(), 10), &BTreeMap::new(), BOOT)
    }

    #[test]
    fn little_work_waits_and_much_is_launched_for_where_it_is_cheap() {
        assert!(limit_of(7000.0, 0.5, HOURS).abs() < 1e-12, "less than half an hour of a machine");
        let much = limit_of(7300.0, 0.5, HOURS);
        assert!(much > 0.4 / 4.0 && much < 1.0 / 4.0, "spot, and not on-demand: {much}");
        assert!(limit_of(10.0, 0.5, 600.0).is_infinite(), "time is short");
        assert!(limit_of(1e6, 30.0, HOURS).is_infinite(), "it needs most of what may be launched");
    }

    #[test]
    fn little_is_only_what_leaves_batches_half_full() {
        let gains = little(&scaling(), &BTreeMap::new(), BOOT);
        assert!((gains - 180.0 * 4.0).abs() < 1e-9, "{gains}");
        let mut single = scaling();
        for offering in single.offerings.values_mut() {
            offering.speed = offering.bulk_speed;
        }
        assert!(little(&single, &BTreeMap::new(), BOOT).abs() < 1e-12);
    }

    #[test]
    fn a_short_wait_leaves_no_time_and_of_a_long_one_a_quarter_is_kept() {
        assert!(!has_time(900.0, 900.0, 180.0));
        assert!(has_time(3600.0, 3600.0, 180.0) && !has_time(1900.0, 3600.0, 180.0));
        assert!(has_time(3800.0, 14_400.0, 180.0) && !has_time(3700.0, 14_400.0, 180.0));
    }

    proptest! {
        #[test]
        fn more_work_and_less_time_never_launch_less(
            work in 0.0..1e5_f64, more in 0.0..1e5_f64,
            rate in 0.0..50.0_f64, faster in 0.0..50.0_f64,
            left in 0.0..HOURS, less in 0.0..HOURS,
        ) {
            let before = limit_of(work, rate, left);
            prop_assert!(limit_of(work + more, rate + faster, left) >= before);
            prop_assert!(limit_of(work, rate, left - less) >= before);
        }
    }
}
