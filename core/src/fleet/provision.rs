//! What to launch: the cheapest offerings that cover a shortage, the losses that are expected of them
//! included, spread over those that do not fail together.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::ids::OfferingName;
use crate::money::Money;
use crate::time::Timestamp;

use super::check::{Offering, Scaling};
use super::number::ceil;
use super::report::Note;
use super::spec::CapacityType;
use super::spot::Risk;
use super::ties::Ties;

/// Spot offerings that cost at most this much more than the cheapest are spread over.
pub(crate) const SPREAD: f64 = 1.25;
/// A launch refused within this time tells that spot capacity is short.
const REFUSED_LATELY: Duration = Duration::from_mins(1);
/// What an interruption costs besides a boot: work that is done twice.
pub(crate) const REWORK: Duration = Duration::from_mins(1);
/// Launches in one plan for one pool.
const MOST_LAUNCHES: usize = 10_000;

/// An offering that may be tried now.
#[derive(Debug, Clone)]
pub(crate) struct Candidate<'a> {
    pub(crate) name: &'a OfferingName,
    pub(crate) offering: &'a Offering,
    /// Dollars an hour, with what its interruptions cost.
    pub(crate) price: f64,
    /// Probability that a launch of it is refused, below 1.
    pub(crate) refusal: f64,
}

/// Which speed counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Jobs are to start at once.
    Prompt,
    /// Jobs may wait and be batched.
    Bulk,
}

impl Candidate<'_> {
    pub(crate) fn speed(&self, mode: Mode) -> f64 {
        match mode {
            Mode::Prompt => self.offering.speed,
            Mode::Bulk => self.offering.bulk_speed,
        }
    }

    pub(crate) fn is_spot(&self) -> bool {
        self.offering.capacity == CapacityType::Spot
    }

    /// Instances that are expected to be missed when it is asked for: those that are lost with it, and itself as far as it is likely
    /// to be refused.
    ///
    /// A refusal costs no money, only the time until something else is asked for. So it does not change what an offering
    /// costs, but which of those that cost about the same is asked first. To ask it less than in that proportion was measured:
    /// where zones have room for many, it put more machines into those that were left, which are lost together.
    fn missed(&self, exposure: f64) -> f64 {
        exposure + self.refusal
    }

    /// Dollars an hour for a throughput of 1 in full batches.
    pub(crate) fn job_price(&self) -> f64 {
        self.price / self.speed(Mode::Bulk)
    }

    /// Dollars an hour for covering `shortage` with it alone.
    fn cost(&self, shortage: f64, mode: Mode) -> f64 {
        self.price * f64::from(ceil(shortage / self.speed(mode)).max(1))
    }
}

/// The offerings that may be tried, and notes on those that may not.
pub(crate) fn candidates<'a>(
    scaling: &'a Scaling,
    risks: &BTreeMap<OfferingName, Risk>,
    boot: Duration,
    now: Timestamp,
) -> (Vec<Candidate<'a>>, Vec<Note>) {
    let (mut candidates, mut notes) = (Vec::new(), Vec::new());
    for (name, offering) in &scaling.offerings {
        let risk = risks.get(name).copied().unwrap_or_default();
        if let Some(until) = risk.paused(now) {
            notes.push(Note::Paused { offering: name.clone(), until });
            continue;
        }
        let price = price_with_losses(offering, &risk, boot);
        candidates.push(Candidate { name, offering, price, refusal: risk.refusal() });
    }
    (candidates, notes)
}

/// Dollars an hour, with what interruptions cost.
pub(crate) fn price_with_losses(offering: &Offering, risk: &Risk, boot: Duration) -> f64 {
    let lost = match offering.capacity {
        CapacityType::Spot => risk.losses_per_hour() * (boot + REWORK).as_secs_f64() / 3600.0,
        CapacityType::OnDemand => 0.0,
    };
    offering.price.hour().dollars() * (1.0 + lost)
}

/// Spot offerings that refused a launch lately.
pub(crate) fn refused_lately(
    scaling: &Scaling,
    risks: &BTreeMap<OfferingName, Risk>,
    now: Timestamp,
) -> u32 {
    let refused = |(name, offering): &(&OfferingName, &Offering)| {
        offering.capacity == CapacityType::Spot
            && risks.get(*name).is_some_and(|risk| risk.refused_within(now, REFUSED_LATELY))
    };
    scaling.offerings.iter().filter(refused).fold(0, |sum, _| sum + 1)
}

/// What there is of each offering, and which of them fail together.
#[derive(Debug)]
pub(crate) struct Spread<'a> {
    offerings: &'a BTreeMap<OfferingName, Offering>,
    ties: &'a Ties,
    counts: BTreeMap<OfferingName, u32>,
}

impl<'a> Spread<'a> {
    pub(crate) fn new(
        scaling: &'a Scaling,
        ties: &'a Ties,
        counts: BTreeMap<OfferingName, u32>,
    ) -> Self {
        Self { offerings: &scaling.offerings, ties, counts }
    }

    /// Instances that are expected to be lost with one of this offering.
    fn exposure(&self, candidate: &Candidate<'_>) -> f64 {
        let shared = |(name, count): (&OfferingName, &u32)| {
            // What the fleet file does not name any more is of no known kind.
            let other = self.offerings.get(name)?;
            Some(f64::from(*count) * self.between(candidate, (name, other)))
        };
        self.counts.iter().filter_map(shared).sum()
    }

    fn between(&self, candidate: &Candidate<'_>, other: (&OfferingName, &Offering)) -> f64 {
        self.ties.between((candidate.name, candidate.offering), other)
    }
}

/// Launches that cover `shortage` workers of speed 1: each the cheapest for what is left, of equals the one
/// that fails with the fewest instances so far, those included that it is expected to refuse. `spread` is brought up to date.
pub(crate) fn cover(
    mut shortage: f64,
    mode: Mode,
    candidates: &[Candidate<'_>],
    spread: &mut Spread<'_>,
) -> BTreeMap<OfferingName, u32> {
    let mut launches: BTreeMap<OfferingName, u32> = BTreeMap::new();
    let mut exposures: Vec<f64> = candidates.iter().map(|one| spread.exposure(one)).collect();
    for _ in 0..MOST_LAUNCHES {
        if shortage <= 1e-9 {
            break;
        }
        let Some(chosen) = choose(shortage, mode, candidates, &exposures) else { break };
        shortage -= chosen.speed(mode);
        for (exposure, candidate) in exposures.iter_mut().zip(candidates) {
            *exposure += spread.between(candidate, (chosen.name, chosen.offering));
        }
        *spread.counts.entry(chosen.name.clone()).or_default() += 1;
        *launches.entry(chosen.name.clone()).or_default() += 1;
    }
    launches
}

fn choose<'a, 'b>(
    shortage: f64,
    mode: Mode,
    candidates: &'b [Candidate<'a>],
    exposures: &[f64],
) -> Option<&'b Candidate<'a>> {
    let costs = candidates.iter().map(|candidate| candidate.cost(shortage, mode));
    let best = costs.min_by(f64::total_cmp)?;
    let near = candidates.iter().zip(exposures).filter(|(candidate, _)| {
        let limit = if candidate.is_spot() { best * SPREAD } else { best };
        candidate.cost(shortage, mode) <= limit
    });
    let least = near.min_by(|(a, exposed_a), (b, exposed_b)| {
        let cost = |c: &Candidate<'_>| c.cost(shortage, mode);
        let by_cost = cost(a).total_cmp(&cost(b));
        in_quarters(a.missed(**exposed_a))
            .total_cmp(&in_quarters(b.missed(**exposed_b)))
            .then(by_cost)
            .then(a.name.cmp(b.name))
    });
    least.map(|(candidate, _)| candidate)
}

/// A smaller part of an instance is not worth paying more for.
fn in_quarters(exposure: f64) -> f64 {
    (exposure * 4.0).round()
}

/// Price of one launch of an offering.
pub(crate) fn price_of(scaling: &Scaling, name: &OfferingName) -> Money {
    scaling.offerings.get(name).map_or(Money::ZERO, |offering| offering.price.hour())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::money::HourlyPrice;

    fn offering(zone: &str, capacity: CapacityType, dollars: f64, speed: f64) -> Offering {
        Offering {
            instance_type: "g5.xlarge".to_owned(),
            zone: zone.to_owned(),
            capacity,
            price: HourlyPrice::new(Money::from_dollars(dollars).unwrap()),
            speed,
            bulk_speed: speed * if speed > 1.0 { 4.0 } else { 1.0 },
        }
    }

    fn launched(shortage: f64, mode: Mode, offerings: &[(&str, Offering)]) -> Vec<(String, u32)> {
        let names: Vec<OfferingName> =
            offerings.iter().map(|(name, _)| OfferingName::new(name).unwrap()).collect();
        let candidates: Vec<Candidate<'_>> = names
            .iter()
            .zip(offerings)
            .map(|(name, (_, offering))| Candidate {
                name,
                offering,
                price: offering.price.hour().dollars(),
                refusal: 0.05,
            })
            .collect();
        let ties = Ties::default();
        let offered = names.iter().cloned().zip(offerings.iter().map(|(_, o)| o.clone()));
        let offered: BTreeMap<OfferingName, Offering> = offered.collect();
        let mut spread = Spread { offerings: &offered, ties: &ties, counts: BTreeMap::new() };
        let launches = cover(shortage, mode, &candidates, &mut spread);
        launches.into_iter().map(|(name, n)| (name.to_string(), n)).collect()
    }

    #[test]
    fn spot_comes_first_and_is_spread_over_zones_of_like_price() {
        let offerings = [
            ("a", offering("a", CapacityType::Spot, 0.40, 1.0)),
            ("b", offering("b", CapacityType::Spot, 0.45, 1.0)),
            ("c", offering("c", CapacityType::Spot, 0.90, 1.0)),
            ("d", offering("a", CapacityType::OnDemand, 1.0, 1.0)),
        ];
        let launches = launched(4.0, Mode::Prompt, &offerings);
        assert_eq!(launches, [("a".to_owned(), 2), ("b".to_owned(), 2)]);
    }

    #[test]
    fn a_hair_less_exposure_is_not_paid_for() {
        let spot = |zone, dollars| offering(zone, CapacityType::Spot, dollars, 1.0);
        let names = ["a", "b"].map(|zone| OfferingName::new(zone).unwrap());
        let offerings = [spot("a", 0.40), spot("b", 0.49)];
        let candidate = |(name, offering)| Candidate { name, offering, price: 0.4, refusal: 0.05 };
        let mut candidates: Vec<Candidate<'_>> =
            names.iter().zip(&offerings).map(candidate).collect();
        candidates[1].price = 0.49;
        let chosen = |exposures| choose(1.0, Mode::Prompt, &candidates, exposures).unwrap().name;
        assert_eq!(*chosen(&[0.100, 0.099]), names[0]);
        assert_eq!(*chosen(&[1.0, 0.099]), names[1]);
    }

    #[test]
    fn types_of_one_zone_are_taken_to_fail_together() {
        let spot = |zone| offering(zone, CapacityType::Spot, 0.40, 1.0);
        let offerings = [("a1", spot("a")), ("a2", spot("a")), ("b1", spot("b"))];
        let launches = launched(4.0, Mode::Prompt, &offerings);
        let launches: Vec<(&str, u32)> = launches.iter().map(|(n, c)| (n.as_str(), *c)).collect();
        assert_eq!(launches, [("a1", 1), ("a2", 1), ("b1", 2)]);
    }

    #[test]
    fn a_large_type_is_bought_only_when_it_is_used() {
        let offerings = [
            ("large", offering("a", CapacityType::OnDemand, 3.0, 4.0)),
            ("small", offering("a", CapacityType::OnDemand, 1.0, 1.0)),
        ];
        assert_eq!(launched(1.0, Mode::Prompt, &offerings), [("small".to_owned(), 1)]);
        let launches = launched(9.0, Mode::Prompt, &offerings);
        assert_eq!(launches, [("large".to_owned(), 2), ("small".to_owned(), 1)]);
    }

    #[test]
    fn a_bulk_backlog_goes_where_a_job_is_cheapest() {
        let offerings = [
            ("large", offering("a", CapacityType::OnDemand, 3.0, 2.0)),
            ("small", offering("a", CapacityType::OnDemand, 1.0, 1.0)),
        ];
        assert_eq!(launched(8.0, Mode::Bulk, &offerings), [("large".to_owned(), 1)]);
        assert_eq!(launched(8.0, Mode::Prompt, &offerings), [("small".to_owned(), 8)]);
    }

    /// Launches of spot offerings in zones of their own that cost the same, by how likely they refuse.
    fn spread_by(refusals: &[f64], shortage: u32) -> Vec<u32> {
        let zones = ["a", "b", "c", "d", "e"];
        let names = zones.map(|zone| OfferingName::new(zone).unwrap());
        let offered = names.iter().zip(zones).take(refusals.len());
        let offered: BTreeMap<OfferingName, Offering> = offered
            .map(|(name, zone)| (name.clone(), offering(zone, CapacityType::Spot, 0.4, 1.0)))
            .collect();
        let candidates = offered.iter().zip(refusals);
        let candidates = candidates
            .map(|((name, offering), refusal)| Candidate {
                name,
                offering,
                price: 0.4,
                refusal: *refusal,
            })
            .collect::<Vec<_>>();
        let ties = Ties::default();
        let mut spread = Spread { offerings: &offered, ties: &ties, counts: BTreeMap::new() };
        let launches = cover(f64::from(shortage), Mode::Prompt, &candidates, &mut spread);
        offered.keys().map(|name| launches.get(name).copied().unwrap_or(0)).collect()
    }

    #[test]
    fn what_refuses_often_is_asked_less() {
        assert_eq!(spread_by(&[0.05, 0.05, 0.05], 6), [2, 2, 2]);
        assert_eq!(spread_by(&[0.5, 0.05, 0.05], 1), [0, 1, 0]);
        assert_eq!(spread_by(&[0.8, 0.05, 0.05], 4), [1, 2, 1]);
        assert_eq!(spread_by(&[0.8, 0.05, 0.05], 5), [1, 2, 2]);
        assert_eq!(spread_by(&[0.9], 3), [3], "there is nothing else to ask");
    }

    proptest! {
        #[test]
        fn a_likelier_refusal_never_gets_more_launches(
            mut refusals in proptest::collection::vec(0.001..0.999_f64, 1..5),
            at in 0..5_usize,
            share in 0.0..1.0_f64,
            shortage in 0..40_u32,
        ) {
            let before = spread_by(&refusals, shortage);
            prop_assert_eq!(before.iter().sum::<u32>(), shortage);
            let at = at % refusals.len();
            refusals[at] += (1.0 - refusals[at]) * share;
            refusals[at] = refusals[at].min(0.9999);
            let after = spread_by(&refusals, shortage);
            prop_assert_eq!(after.iter().sum::<u32>(), shortage);
            prop_assert!(after[at] <= before[at], "{before:?} {after:?} {refusals:?}");
        }

        #[test]
        fn what_refuses_alike_is_spread_evenly(
            refusal in 0.0..0.9_f64,
            zones in 1..5_usize,
            shortage in 0..40_u32,
        ) {
            let spread = spread_by(&vec![refusal; zones], shortage);
            let (least, most) = (spread.iter().min().unwrap(), spread.iter().max().unwrap());
            prop_assert!(most - least <= 1, "{spread:?}");
        }
    }

    #[test]
    fn nothing_is_launched_without_a_shortage_or_an_offering() {
        assert!(launched(0.0, Mode::Prompt, &[]).is_empty());
        assert!(launched(5.0, Mode::Prompt, &[]).is_empty());
    }
}
