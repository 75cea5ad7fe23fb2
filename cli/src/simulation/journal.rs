//! Arrivals from the autoscaler's journal: what its snapshots counted.

use std::collections::BTreeMap;

use stoker_core::fleet::journal::{Line, Record};
use stoker_core::fleet::{Queue, Reading};
use stoker_core::ids::{ClassName, ModelName, PoolName};

use super::arrivals::{Arrival, Arrivals};

/// More arrivals than these between two looks are a total that was reset.
const MOST: u64 = 1_000_000;

/// Jobs of each look, evenly over the time since the look before. A total that shrank was reset, and says nothing.
pub(crate) fn arrivals(lines: &[Line]) -> Arrivals {
    let mut before: BTreeMap<(PoolName, ModelName, ClassName), (f64, Queue)> = BTreeMap::new();
    let mut looked: BTreeMap<PoolName, f64> = BTreeMap::new();
    let mut jobs = Vec::new();
    for line in lines {
        let Record::Planned { snapshot, .. } = &line.record else { continue };
        #[expect(clippy::cast_precision_loss, reason = "milliseconds since 1970 are below 2^52")]
        let at = line.at.as_unix_millis() as f64 / 1e3;
        for (pool, seen) in &snapshot.pools {
            let Reading::Known { value: queues, .. } = &seen.queues else { continue };
            for queue in queues {
                let key = (pool.clone(), queue.model.clone(), queue.class.clone());
                if let Some((since, last)) = before.get(&key) {
                    jobs.extend(between((*since, last), (at, queue), pool));
                } else if let Some(since) = looked.get(pool) {
                    // It was not there at the last look: it had no jobs before.
                    let none = Queue::new(queue.class.clone(), queue.model.clone());
                    jobs.extend(between((*since, &none), (at, queue), pool));
                }
                before.insert(key, (at, queue.clone()));
            }
            looked.insert(pool.clone(), at);
        }
    }
    jobs.sort_by(|a, b| a.at.total_cmp(&b.at));
    Arrivals::Jobs { jobs, never_ran: 0 }
}

fn between(
    (since, last): (f64, &Queue),
    (at, queue): (f64, &Queue),
    pool: &PoolName,
) -> Vec<Arrival> {
    let arrived = queue.arrived.checked_sub(last.arrived).filter(|jobs| *jobs <= MOST);
    let arrived = arrived.and_then(|jobs| u32::try_from(jobs).ok()).unwrap_or(0);
    let finished = queue.finished.checked_sub(last.finished).filter(|jobs| *jobs > 0);
    // What ended in this time stands for what arrived in it; without any, for what ended before.
    let service = match finished {
        Some(jobs) => mean(queue.service_seconds - last.service_seconds, jobs),
        None => mean(queue.service_seconds, queue.finished),
    };
    let gap = (at - since) / f64::from(arrived.max(1));
    let arrival = |number: u32| Arrival {
        at: since + gap * (f64::from(number) + 0.5),
        service,
        class: Some(queue.class.to_string()),
        model: Some(queue.model.to_string()),
        pool: Some(pool.to_string()),
    };
    (0..arrived).map(arrival).collect()
}

fn mean(seconds: f64, jobs: u64) -> Option<f64> {
    let jobs = u32::try_from(jobs).ok().filter(|jobs| *jobs > 0)?;
    let mean = seconds / f64::from(jobs);
    (mean.is_finite() && mean > 0.0).then_some(mean)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use stoker_core::fleet::{Memory, Planned, PoolSnapshot, Report, Snapshot};
    use stoker_core::ids::Epoch;
    use stoker_core::time::Timestamp;

    use super::*;

    fn line(second: u64, arrived: u64, finished: u64, seconds: f64) -> Line {
        let at = Timestamp::from_unix_millis(0).after(Duration::from_secs(second));
        let (class, model) = (ClassName::new("standard").unwrap(), ModelName::new("echo").unwrap());
        let none = Queue::new(class, model);
        let queue = Queue { arrived, finished, service_seconds: seconds, ..none };
        let pool = PoolSnapshot {
            queues: Reading::Known { at, value: vec![queue] },
            instances: Reading::Unknown { why: String::new() },
            markets: BTreeMap::new(),
        };
        let snapshot =
            Snapshot { pools: BTreeMap::from([(PoolName::new("default").unwrap(), pool)]) };
        let planned = Planned {
            plan: stoker_core::fleet::Plan::default(),
            report: Report::default(),
            memory: Memory::default(),
        };
        Line::planned(at, Epoch::new(1), &snapshot, &planned)
    }

    #[test]
    fn what_was_counted_between_two_looks_arrives_evenly_in_that_time() {
        let lines = [line(0, 7, 0, 0.0), line(10, 9, 4, 8.0), line(20, 9, 4, 8.0)];
        let Arrivals::Jobs { jobs, .. } = arrivals(&lines) else { panic!() };
        let seen: Vec<_> = jobs.iter().map(|job| (job.at, job.service)).collect();
        assert_eq!(seen, [(2.5, Some(2.0)), (7.5, Some(2.0))]);
        assert_eq!(jobs[0].class.as_deref(), Some("standard"));
    }

    #[test]
    fn the_first_jobs_of_a_queue_that_was_not_there_before_count() {
        let mut nobody = line(0, 0, 0, 0.0);
        let Record::Planned { snapshot, .. } = &mut nobody.record else { panic!() };
        for seen in snapshot.pools.values_mut() {
            let at = Timestamp::from_unix_millis(0);
            seen.queues = Reading::Known { at, value: Vec::new() };
        }
        let lines = [nobody, line(10, 2, 0, 0.0)];
        let Arrivals::Jobs { jobs, .. } = arrivals(&lines) else { panic!() };
        assert_eq!(jobs.iter().map(|job| job.at).collect::<Vec<_>>(), [2.5, 7.5]);
    }

    #[test]
    fn a_total_that_was_reset_says_nothing() {
        let lines = [line(0, 7, 0, 0.0), line(10, 2, 0, 0.0), line(20, 3, 0, 0.0)];
        let Arrivals::Jobs { jobs, .. } = arrivals(&lines) else { panic!() };
        assert_eq!(jobs.len(), 1);
        assert_eq!(jobs[0].service, None);
    }
}
