//! Checks how many machines may be taken out at a time.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::fleet::spec::{
    AtATime, Day, DisruptionBudgetSpec, DisruptionReason, DisruptionSpec, Window,
};

use super::Problems;

/// The budgets of a pool. Reasons for which none holds have the bounds of `fleet::disrupt`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Disruption {
    pub budgets: Vec<DisruptionBudget>,
}

/// So many machines of a pool at a time for these reasons.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct DisruptionBudget {
    /// Never empty.
    pub reasons: BTreeSet<DisruptionReason>,
    pub at_a_time: AtATime,
    /// When it holds, in UTC; `None`: all day.
    pub window: Option<Window>,
    /// Never empty.
    pub days: BTreeSet<Day>,
}

impl Problems {
    /// `key` is the path of the table.
    pub(super) fn disruption(&mut self, key: &str, spec: &DisruptionSpec) -> Disruption {
        let budgets = spec.budgets.iter().enumerate();
        let budgets = budgets.map(|(index, budget)| {
            let DisruptionBudgetSpec { reasons, at_a_time, window, days } = budget;
            let key = |field: &str| format!("{key}.budgets[{index}].{field}");
            let all = DisruptionReason::ALL.into_iter();
            let all = all.filter(|reason| *reason != DisruptionReason::Empty).collect();
            DisruptionBudget {
                reasons: self.each_once(&key("reasons"), reasons.as_deref(), all),
                at_a_time: *at_a_time,
                window: *window,
                days: self.each_once(&key("days"), days.as_deref(), Day::ALL.into()),
            }
        });
        Disruption { budgets: budgets.collect() }
    }

    /// What a list names, or `all` where there is none.
    fn each_once<T: Copy + Ord + fmt::Display>(
        &mut self,
        key: &str,
        list: Option<&[T]>,
        all: BTreeSet<T>,
    ) -> BTreeSet<T> {
        let Some(list) = list else { return all };
        if list.is_empty() {
            self.add(key, "is empty: leave it out, or name some");
        }
        let mut named = BTreeSet::new();
        for one in list {
            if !named.insert(*one) {
                self.add(key, format!("`{one}` stands in it twice"));
            }
        }
        named
    }
}

impl fmt::Display for DisruptionBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at a time for {}", self.at_a_time, list(&self.reasons))?;
        if let Some(window) = self.window {
            write!(f, ", {window} UTC")?;
        }
        if self.days.len() < Day::ALL.len() {
            write!(f, " on {}", list(&self.days))?;
        }
        Ok(())
    }
}

fn list<T: ToString>(items: &BTreeSet<T>) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use crate::fleet::{Fleet, FleetSpec};

    use super::*;

    const FLEET: &str = r#"
        fleet = "dev"
        [classes.standard]
        max-wait = "60s"
        [models.a]
        task = "echo"
        [models.b]
        task = "echo"
        [pools.first]
        models = ["a"]
        [pools.second]
        models = ["b"]
        [pools.second.scaling.disruption]
        budgets = [{ reasons = ["cheaper", "resized"], at-a-time = 0, window = "08:00-20:00", days = ["mon", "fri"] }]
        [disruption]
        budgets = [{ at-a-time = "25%" }, { reasons = ["empty"], at-a-time = 3 }]
    "#;

    fn check(text: &str) -> Result<Fleet, String> {
        let spec: FleetSpec = toml::from_str(text).map_err(|error| error.to_string())?;
        spec.check().map_err(|problems| {
            problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
        })
    }

    #[test]
    fn a_pool_has_its_own_budgets_or_those_of_the_fleet() {
        let fleet = check(FLEET).unwrap();
        let of = |pool: &str| {
            let (_, pool) = fleet.pools.iter().find(|(name, _)| name.as_str() == pool).unwrap();
            let budgets = pool.scaling.disruption.budgets.iter();
            budgets.map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(
            of("first"),
            [
                "25% at a time for expired, outdated, cheaper, resized, spare",
                "3 at a time for empty"
            ]
        );
        assert_eq!(of("second"), ["0 at a time for cheaper, resized, 08:00-20:00 UTC on mon, fri"]);
        let own = FLEET.find("[pools.second.scaling").unwrap()..FLEET.find("[disruption]").unwrap();
        let none = FLEET.replace(&FLEET[own], "scaling.disruption = {}\n");
        let none = check(&none).unwrap();
        assert_eq!(none.pools.values().last().unwrap().scaling.disruption, Disruption::default());
    }

    #[test]
    fn every_bad_value_is_named() {
        for (good, bad, said) in [
            ("\"25%\"", "\"125%\"", "`125%` is not a number"),
            ("\"25%\"", "-1", "`-1` is not a number"),
            ("\"25%\"", "0.5", "a share such as \"25%\""),
            ("at-a-time = \"25%\"", "", "at-a-time"),
            ("\"empty\"", "\"bored\"", "unknown variant `bored`, expected one of"),
            ("\"empty\"", "", "disruption.budgets[1].reasons: is empty"),
            ("\"mon\"", "\"fri\"", "pools.second.scaling.disruption.budgets[0].days: `fri` stands"),
            ("08:00-20:00", "8-20", "`8-20` is not a part of the day"),
            ("08:00-20:00", "08:00-08:00", "is empty"),
        ] {
            let problems = check(&FLEET.replacen(good, bad, 1)).unwrap_err();
            assert!(problems.contains(said), "{bad}: {problems}");
        }
    }
}
