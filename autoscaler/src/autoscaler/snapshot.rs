//! What the planner is shown, and what makes it urgent to ask it.

use stoker_core::fleet::ledger::{Ledger, Switch, WorkerList, instances};
use stoker_core::fleet::{Instance, Policy, PoolSnapshot, Reading, Snapshot};
use stoker_core::ids::PoolName;
use stoker_proto::convert;

use super::{Demand, Head};

/// What makes a plan urgent when it changes.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct News {
    waiting: u64,
    /// Machines with a notice, and those that take work.
    noticed: usize,
    working: usize,
    switch: u64,
}

impl News {
    /// More waits, a machine is lost or about to be, or an operator has spoken.
    pub(super) fn is_urgent_after(&self, before: &Self) -> bool {
        self.waiting > before.waiting
            || self.noticed > before.noticed
            || self.working < before.working
            || self.switch != before.switch
    }
}

/// What the planner is shown.
pub(super) fn snapshot(
    policy: &Policy,
    ledger: &Ledger,
    workers: &Reading<WorkerList>,
    demand: &Demand,
    head: &mut Head,
) -> Snapshot {
    let mut all = match workers {
        Reading::Known { at, value } => Ok((*at, instances(ledger, value))),
        Reading::Unknown { why } => Err(why.clone()),
    };
    if let Some(Ok((_, answer))) = &demand.answer {
        let share = |pool: &str| {
            let Ok(pool) = PoolName::new(pool) else { return 1.0 };
            let slots = head.slots.get(&pool).copied().unwrap_or(1.0);
            let instances = all.as_ref().ok().and_then(|(_, pools)| pools.get(&pool));
            let instances = instances.map(Vec::as_slice).unwrap_or_default();
            let speed = policy.pools.get(&pool).map_or(1.0, |pool| pool.mean_speed(instances));
            speed / slots.max(1.0)
        };
        head.totals.observe(answer, share);
    }
    let mut snapshot = Snapshot::default();
    for (name, pool) in &policy.pools {
        let instances: Reading<Vec<Instance>> = match &mut all {
            Ok((at, pools)) => {
                Reading::Known { at: *at, value: pools.remove(name).unwrap_or_default() }
            }
            Err(why) => Reading::Unknown { why: why.clone() },
        };
        let queues = match &demand.answer {
            None => Reading::Unknown { why: "it has not been asked for yet".to_owned() },
            Some(Err(why)) => Reading::Unknown { why: why.clone() },
            Some(Ok((at, answer))) => match convert::queues(answer, name, pool, *at) {
                Reading::Known { at, value: mut queues } => {
                    head.totals.fill(name, &mut queues);
                    Reading::Known { at, value: queues }
                }
                unknown @ Reading::Unknown { .. } => unknown,
            },
        };
        let markets = ledger.account.markets.get(name).cloned().unwrap_or_default();
        snapshot.pools.insert(name.clone(), PoolSnapshot { queues, instances, markets });
    }
    snapshot
}

impl News {
    pub(super) fn of(snapshot: &Snapshot, switch: &Switch) -> Self {
        let mut news = Self { switch: switch.version, ..Self::default() };
        for pool in snapshot.pools.values() {
            if let Reading::Known { value, .. } = &pool.queues {
                let waiting = value.iter().flat_map(|queue| &queue.waiting);
                news.waiting += waiting.map(|waiting| waiting.jobs).sum::<u64>();
            }
            if let Reading::Known { value, .. } = &pool.instances {
                news.noticed += value.iter().filter(|one| one.notice.is_some()).count();
                news.working += value.iter().filter(|one| one.works()).count();
            }
        }
        news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_is_urgent_when_more_waits_or_less_works() {
        let calm = News { waiting: 5, noticed: 1, working: 3, switch: 1 };
        assert!(!calm.is_urgent_after(&calm));
        assert!(
            !News { waiting: 4, noticed: 0, working: 4, ..calm.clone() }.is_urgent_after(&calm)
        );
        for urgent in [
            News { waiting: 6, ..calm.clone() },
            News { noticed: 2, ..calm.clone() },
            News { working: 2, ..calm.clone() },
            News { switch: 2, ..calm.clone() },
        ] {
            assert!(urgent.is_urgent_after(&calm), "{urgent:?}");
        }
    }
}
