//! Checks what may be bought for a pool, and how much may be spent.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::fleet::spec::{AtLimit, BudgetSpec, CapacityType, FleetSpec, OfferingSpec, PoolSpec};
use crate::ids::{OfferingName, PoolName};
use crate::money::{HourlyPrice, Money};

use super::Problems;
use super::disruption::Disruption;

/// How a pool grows and shrinks.
#[derive(Debug, Clone, PartialEq)]
pub struct Scaling {
    pub min: u32,
    pub max: u32,
    pub warm: u32,
    /// Expected until it has been measured.
    pub boot: Duration,
    pub expire_after: Option<Duration>,
    pub disruption: Disruption,
    /// Empty: the pool's instances are started by somebody else.
    pub offerings: BTreeMap<OfferingName, Offering>,
}

/// Something that could be launched.
#[derive(Debug, Clone, PartialEq)]
pub struct Offering {
    pub instance_type: String,
    pub zone: String,
    pub capacity: CapacityType,
    pub price: HourlyPrice,
    /// Above 0; see [`OfferingSpec`].
    pub speed: f64,
    pub bulk_speed: f64,
}

/// Bounds on what is bought, over all pools.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    pub max_instances: u32,
    /// In any ten minutes.
    pub max_launches: u32,
    pub per_hour: Money,
    pub per_day: Money,
    pub per_month: Money,
    /// What becomes of machines when one of the last two is used up.
    pub at_limit: AtLimit,
}

impl Default for Budget {
    /// No bounds.
    fn default() -> Self {
        Self {
            max_instances: u32::MAX,
            max_launches: u32::MAX,
            per_hour: Money::MAX,
            per_day: Money::MAX,
            per_month: Money::MAX,
            at_limit: AtLimit::Stop,
        }
    }
}

/// Boots that take longer than this are not scaled for.
const LONGEST_BOOT: Duration = Duration::from_hours(1);
const DEFAULT_BOOT: Duration = Duration::from_mins(3);
/// Ratio of speeds that is plausible.
const SPEEDS: std::ops::RangeInclusive<f64> = 0.01..=1000.0;

impl Problems {
    /// `of_fleet` holds for pools that have no table of their own.
    pub(super) fn scaling(
        &mut self,
        name: &PoolName,
        pool: &PoolSpec,
        of_fleet: &Disruption,
    ) -> Scaling {
        let key = |field: &str| format!("pools.{name}.scaling.{field}");
        let scaling = &pool.scaling;
        let max = scaling.max.unwrap_or(u32::MAX);
        if scaling.min > max {
            self.add(key("min"), format!("must not be above max, which is {max}"));
        }
        if scaling.warm > max {
            self.add(key("warm"), format!("must not be above max, which is {max}"));
        }
        let boot = scaling.boot.map_or(DEFAULT_BOOT, Into::into);
        if boot.is_zero() || boot > LONGEST_BOOT {
            self.add(key("boot"), "must be above 0s and at most 1h");
        }
        let expire_after = scaling.expire_after.map(Duration::from);
        if expire_after.is_some_and(|age| age < boot.saturating_mul(4)) {
            self.add(key("expire-after"), "must be at least four times boot");
        }
        let offerings = self.offerings(name, pool);
        if offerings.is_empty() && (scaling.min > 0 || scaling.warm > 0) {
            self.add(
                format!("pools.{name}.offerings"),
                "is empty, so nothing can be launched: add one, or remove min and warm",
            );
        }
        let own = scaling.disruption.as_ref();
        let own = own.map(|spec| self.disruption(&key("disruption"), spec));
        let disruption = own.unwrap_or_else(|| of_fleet.clone());
        let (min, warm) = (scaling.min, scaling.warm);
        Scaling { min, max, warm, boot, expire_after, disruption, offerings }
    }

    fn offerings(&mut self, pool: &PoolName, spec: &PoolSpec) -> BTreeMap<OfferingName, Offering> {
        let mut offerings = BTreeMap::new();
        for (index, offering) in spec.offerings.iter().enumerate() {
            let key = |field: &str| format!("pools.{pool}.offerings[{index}].{field}");
            let name = name_of(offering).map_err(|message| self.add(key("instance-type"), message));
            let price = Money::from_dollars(offering.price).filter(|price| *price > Money::ZERO);
            if price.is_none() {
                let message = format!("{} is not a price in dollars an hour", offering.price);
                self.add(key("price"), message);
            }
            let bulk_speed = offering.bulk_speed.unwrap_or(offering.speed);
            for (field, speed) in [("speed", offering.speed), ("bulk-speed", bulk_speed)] {
                if !SPEEDS.contains(&speed) {
                    self.add(key(field), format!("{speed} is not between 0.01 and 1000"));
                }
            }
            if let (Ok(name), Some(price)) = (name, price) {
                let checked = Offering {
                    instance_type: offering.instance_type.clone(),
                    zone: offering.zone.clone(),
                    capacity: offering.capacity,
                    price: HourlyPrice::new(price),
                    speed: offering.speed,
                    bulk_speed,
                };
                if offerings.insert(name.clone(), checked).is_some() {
                    self.add(key("instance-type"), format!("`{name}` stands in the list twice"));
                }
            }
        }
        offerings
    }

    pub(super) fn budget(&mut self, spec: &FleetSpec) -> Budget {
        let BudgetSpec { max_instances, max_launches, per_hour, per_day, per_month, at_limit } =
            spec.budget;
        let money = |problems: &mut Self, field: &str, dollars: Option<f64>| match dollars {
            None => Money::MAX,
            Some(dollars) => Money::from_dollars(dollars).unwrap_or_else(|| {
                problems.add(format!("budget.{field}"), format!("{dollars} is not dollars"));
                Money::ZERO
            }),
        };
        Budget {
            max_instances: max_instances.unwrap_or(u32::MAX),
            max_launches: max_launches.unwrap_or(u32::MAX),
            per_hour: money(self, "per-hour", per_hour),
            per_day: money(self, "per-day", per_day),
            per_month: money(self, "per-month", per_month),
            at_limit,
        }
    }
}

fn name_of(offering: &OfferingSpec) -> Result<OfferingName, String> {
    let OfferingSpec { instance_type, zone, capacity, .. } = offering;
    if instance_type.is_empty() || zone.is_empty() {
        return Err("an offering needs an instance-type and a zone".to_owned());
    }
    OfferingName::new(&format!("{instance_type}.{zone}.{}", capacity.as_str()))
        .map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLEET: &str = r#"
        fleet = "dev"
        [classes.standard]
        max-wait = "60s"
        [models.echo]
        task = "echo"
        [pools.default]
        models = ["echo"]
        scaling = { max = 10, boot = "2m" }
        [[pools.default.offerings]]
        instance-type = "g5.xlarge"
        zone = "us-east-1a"
        capacity = "spot"
        price = 0.43
        [budget]
        per-day = 100
    "#;

    fn check(text: &str) -> Result<crate::fleet::Fleet, String> {
        let spec: FleetSpec = toml::from_str(text).map_err(|error| error.to_string())?;
        spec.check().map_err(|problems| {
            problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
        })
    }

    #[test]
    fn offerings_and_budget_are_read() {
        let fleet = check(FLEET).unwrap();
        let scaling = &fleet.pools.values().next().unwrap().scaling;
        let (name, offering) = scaling.offerings.first_key_value().unwrap();
        assert_eq!(name.as_str(), "g5.xlarge.us-east-1a.spot");
        assert_eq!(offering.price.hour(), Money::from_micros(430_000));
        assert_eq!(scaling.boot, Duration::from_mins(2));
        assert_eq!(fleet.budget.per_day, Money::from_micros(100_000_000));
        assert_eq!(fleet.budget.per_month, Money::MAX);
        assert_eq!(fleet.budget.at_limit, AtLimit::Stop);
        let hard = check(&FLEET.replace("per-day = 100", "per-day = 100\nat-limit = \"drain\""));
        assert_eq!(hard.unwrap().budget.at_limit, AtLimit::Drain);
    }

    #[test]
    fn every_bad_value_is_named_with_its_key() {
        for (good, bad, key) in [
            ("price = 0.43", "price = nan", "offerings[0].price"),
            ("price = 0.43", "price = 0", "offerings[0].price"),
            ("price = 0.43", "price = 1\nspeed = -1", "offerings[0].speed"),
            ("price = 0.43", "price = 1\nbulk-speed = 1e9", "offerings[0].bulk-speed"),
            ("max = 10", "max = 10, min = 11", "scaling.min"),
            ("max = 10", "max = 10, warm = 11", "scaling.warm"),
            ("boot = \"2m\"", "boot = \"0s\"", "scaling.boot"),
            ("boot = \"2m\"", "boot = \"2m\", expire-after = \"3m\"", "scaling.expire-after"),
            ("zone = \"us-east-1a\"", "zone = \"\"", "offerings[0].instance-type"),
            ("per-day = 100", "per-day = -1", "budget.per-day"),
        ] {
            let problems = check(&FLEET.replace(good, bad)).unwrap_err();
            assert!(problems.contains(key), "{bad}: {problems}");
        }
    }

    #[test]
    fn an_offering_stands_in_the_list_once_and_a_floor_needs_one() {
        let offering = &FLEET[FLEET.find("[[").unwrap()..FLEET.find("[budget]").unwrap()];
        let twice = FLEET.replace("[budget]", &format!("{offering}[budget]"));
        assert!(check(&twice).unwrap_err().contains("twice"));
        let none = FLEET.replace(offering, "").replace("max = 10", "min = 1");
        assert!(check(&none).unwrap_err().contains("nothing can be launched"));
    }
}
