//! The fleet's switch and its budget.

use stoker_core::fleet::ledger::{Mode, Switch};
use stoker_core::fleet::{AtLimit, Budget};
use stoker_core::money::Money;
use stoker_core::time::Timestamp;

use crate::status::FieldViolation;
use crate::v1;

use super::time::{timestamp, wire_timestamp};

pub const fn wire_fleet_mode(mode: Mode) -> v1::FleetMode {
    match mode {
        Mode::Run => v1::FleetMode::Run,
        Mode::Freeze => v1::FleetMode::Freeze,
        Mode::Drain => v1::FleetMode::Drain,
        Mode::Panic => v1::FleetMode::Panic,
    }
}

/// The mode of this number; unspecified and a newer peer's are refused, as no guess would be safe.
pub fn fleet_mode(number: i32, field: &str) -> Result<Mode, FieldViolation> {
    let known = Mode::ALL.into_iter().find(|mode| i32::from(wire_fleet_mode(*mode)) == number);
    known.ok_or_else(|| {
        let problem = format!("{number} is not a mode: use run, freeze, drain or panic");
        FieldViolation::new(field, problem)
    })
}

pub fn wire_fleet_switch(switch: &Switch) -> v1::FleetSwitch {
    v1::FleetSwitch {
        mode: wire_fleet_mode(switch.mode).into(),
        version: switch.version,
        by: switch.by.clone(),
        why: switch.why.clone(),
        set_at: (switch.version > 0).then(|| wire_timestamp(switch.set_at)),
    }
}

/// The switch as a coordinator answered it.
pub fn fleet_switch(wire: &v1::FleetSwitch) -> Result<Switch, FieldViolation> {
    let set_at = wire.set_at.as_ref().map(|at| timestamp(at, "switch.set_at")).transpose()?;
    Ok(Switch {
        mode: fleet_mode(wire.mode, "switch.mode")?,
        version: wire.version,
        by: wire.by.clone(),
        why: wire.why.clone(),
        set_at: set_at.unwrap_or(Timestamp::from_unix_millis(0)),
    })
}

/// A budget; what has no bound is left out.
pub fn wire_fleet_budget(budget: &Budget) -> v1::FleetBudget {
    let number = |bound: u32| (bound != u32::MAX).then_some(bound);
    let money = |bound: Money| (bound != Money::MAX).then(|| bound.micros());
    let Budget { max_instances, max_launches, per_hour, per_day, per_month, at_limit } = *budget;
    let at_limit = match at_limit {
        AtLimit::Stop => v1::AtLimit::Stop,
        AtLimit::Drain => v1::AtLimit::Drain,
    };
    v1::FleetBudget {
        max_instances: number(max_instances),
        max_launches: number(max_launches),
        per_hour_micros: money(per_hour),
        per_day_micros: money(per_day),
        per_month_micros: money(per_month),
        at_limit: at_limit.into(),
    }
}

/// A budget as a coordinator answered it; what is left out has no bound.
pub fn fleet_budget(wire: &v1::FleetBudget) -> Budget {
    let money = |micros: Option<i64>| micros.map_or(Money::MAX, Money::from_micros);
    Budget {
        max_instances: wire.max_instances.unwrap_or(u32::MAX),
        max_launches: wire.max_launches.unwrap_or(u32::MAX),
        per_hour: money(wire.per_hour_micros),
        per_day: money(wire.per_day_micros),
        per_month: money(wire.per_month_micros),
        at_limit: match wire.at_limit() {
            v1::AtLimit::Unspecified | v1::AtLimit::Stop => AtLimit::Stop,
            v1::AtLimit::Drain => AtLimit::Drain,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_survives_the_wire_and_no_bound_is_not_a_bound_of_zero() {
        let nothing = v1::FleetBudget::default();
        let unbounded = v1::FleetBudget { at_limit: v1::AtLimit::Stop.into(), ..nothing };
        assert_eq!(wire_fleet_budget(&Budget::default()), unbounded);
        assert_eq!(fleet_budget(&nothing), Budget::default());
        let budget = Budget {
            max_instances: 0,
            per_day: Money::from_micros(12_500_000),
            at_limit: AtLimit::Drain,
            ..Budget::default()
        };
        assert_eq!(wire_fleet_budget(&budget).max_instances, Some(0));
        assert_eq!(fleet_budget(&wire_fleet_budget(&budget)), budget);
    }

    #[test]
    fn a_switch_survives_the_wire_and_no_mode_is_guessed() {
        for mode in Mode::ALL {
            let set_at = Timestamp::from_unix_millis(1_700_000_000_000);
            let (by, why) = ("me".to_owned(), "drill".to_owned());
            let switch = Switch { mode, version: 3, by, why, set_at };
            assert_eq!(fleet_switch(&wire_fleet_switch(&switch)).unwrap(), switch);
        }
        assert_eq!(wire_fleet_switch(&Switch::default()).set_at, None);
        for number in [0, 5, -1] {
            assert_eq!(fleet_mode(number, "mode").unwrap_err().field, "mode");
        }
    }
}
