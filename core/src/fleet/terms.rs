//! What a pool has to keep, from the fleet's classes and the jobs that come to it.

use std::time::Duration;

use crate::ids::ClassName;
use crate::time::Timestamp;

use super::check::Class;
use super::demand::{Demand, Promise, Terms};
use super::policy::PoolPolicy;

/// The promises that are staffed for, and the shortest wait and the strictest objective of those whose jobs come here; of
/// all classes, if all are bulk.
pub(crate) fn terms(
    policy: &PoolPolicy,
    demand: &Demand,
    (boot, warm_for): (Duration, Option<&ClassName>),
    now: Timestamp,
) -> Terms {
    let prompt = policy.classes.iter().filter(|(_, class)| !PoolPolicy::is_bulk(class, boot));
    let mut promises: Vec<Promise> = prompt.map(promise).collect();
    promises.sort_by(|a, b| a.max_wait.cmp(&b.max_wait).then(a.class.cmp(&b.class)));
    let mut counted: Vec<Promise> =
        promises.iter().filter(|promise| demand.uses(&promise.class, now)).cloned().collect();
    if counted.is_empty() {
        counted.clone_from(&promises);
    }
    if counted.is_empty() {
        counted = policy.classes.iter().map(promise).collect();
    }
    let max_wait = counted.iter().map(|promise| promise.max_wait).min();
    let objective = counted.iter().map(|promise| promise.objective).max_by(f64::total_cmp);
    Terms {
        promises,
        max_wait: max_wait.unwrap_or(Duration::from_mins(1)),
        objective: objective.unwrap_or(0.99),
        boot,
        warm_for: warm_for.cloned(),
    }
}

/// Whether a class is staffed for, which one that the fleet file does not name is, too.
pub(crate) fn is_prompt(policy: &PoolPolicy, class: &ClassName, boot: Duration) -> bool {
    !policy.classes.get(class).is_some_and(|class| PoolPolicy::is_bulk(class, boot))
}

fn promise((name, class): (&ClassName, &Class)) -> Promise {
    Promise { class: name.clone(), max_wait: class.max_wait, objective: class.objective }
}
