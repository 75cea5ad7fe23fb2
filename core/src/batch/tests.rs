//! The rules of batching, on random queues and against a plain model.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

type Item = Pending<u8, u32>;

const FREE: Supply = Supply { idle_lanes: 1, arrivals: Arrivals::Possible };

fn at(millis: i64) -> Timestamp {
    Timestamp::from_unix_millis(millis)
}

fn item(job: u8, key: u32, cost_tokens: u32) -> Item {
    Pending { key, job, cost_tokens, arrived_at: at(0), start_by: at(1000), alone: false }
}

fn limits(max_tokens: u32, max_items: u32, hold_ms: u64) -> Limits {
    Limits { max_tokens, max_items, hold: Duration::from_millis(hold_ms) }
}

fn queue(items: &[Item]) -> Queue<u8, u32> {
    let mut queue = Queue::new();
    for item in items {
        queue.push(item.clone());
    }
    queue
}

/// The next batch, in the turn of the most urgent of the waiting jobs.
fn next(
    queue: &mut Queue<u8, u32>,
    limits: &Limits,
    supply: Supply,
    now: Timestamp,
) -> Decision<u8, u32> {
    let firsts = queue.jobs.values().filter_map(|waiting| Some((waiting.items.front()?, waiting)));
    let wants = firsts.map(|(first, waiting)| Want {
        job: first.job,
        start_by: first.start_by,
        arrived_at: first.arrived_at,
        turn: if waiting.alone { Turn::Alone(first.job) } else { Turn::Shared },
    });
    let turn = Turn::of_most_urgent(wants).unwrap_or(Turn::Shared);
    queue.next(limits, supply, turn, now)
}

fn keys(decision: Decision<u8, u32>) -> Vec<u32> {
    match decision {
        Decision::Run(items) => items.into_iter().map(|item| item.key).collect(),
        Decision::WaitUntil(time) => panic!("waits until {time} instead of running"),
        Decision::Idle => panic!("idle instead of running"),
    }
}

#[test]
fn nothing_runs_without_items_or_lanes() {
    assert_eq!(next(&mut queue(&[]), &limits(10, 10, 0), FREE, at(0)), Decision::Idle);
    let busy = Supply { idle_lanes: 0, arrivals: Arrivals::Possible };
    assert_eq!(next(&mut queue(&[item(1, 1, 1)]), &limits(10, 10, 0), busy, at(0)), Decision::Idle);
}

#[test]
fn a_full_batch_runs_at_once_and_one_with_room_is_held() {
    let mut queue = queue(&[item(1, 1, 6)]);
    let limits = limits(10, 10, 20);
    assert_eq!(next(&mut queue, &limits, FREE, at(0)), Decision::WaitUntil(at(20)));
    queue.push(item(2, 2, 4));
    assert_eq!(keys(next(&mut queue, &limits, FREE, at(1))), [1, 2]);
}

#[test]
fn slack_cuts_the_hold_short() {
    let urgent = Pending { start_by: at(5), ..item(1, 1, 1) };
    let mut queue = queue(&[urgent, item(2, 2, 1)]);
    let limits = limits(10, 10, 20);
    assert_eq!(next(&mut queue, &limits, FREE, at(0)), Decision::WaitUntil(at(5)));
    assert_eq!(keys(next(&mut queue, &limits, FREE, at(5))), [1, 2]);
}

#[test]
fn nothing_is_held_when_nothing_can_arrive() {
    let ended = Supply { idle_lanes: 1, arrivals: Arrivals::Ended };
    assert_eq!(keys(next(&mut queue(&[item(1, 1, 1)]), &limits(10, 10, 1000), ended, at(0))), [1]);
}

#[test]
fn an_oversized_item_runs_by_itself() {
    let mut queue = queue(&[item(1, 1, 99), item(1, 2, 0), item(1, 3, 1)]);
    assert_eq!(keys(next(&mut queue, &limits(10, 10, 0), FREE, at(0))), [1]);
    assert_eq!(keys(next(&mut queue, &limits(10, 10, 0), FREE, at(0))), [2, 3]);
}

#[test]
fn a_suspect_job_is_never_mixed() {
    let suspect = |key| Pending { alone: true, start_by: at(500), ..item(2, key, 1) };
    let urgent = Pending { start_by: at(1), ..item(3, 4, 1) };
    let mut queue = queue(&[item(1, 1, 1), suspect(2), suspect(3), urgent]);
    let limits = limits(10, 10, 0);
    assert_eq!(queue.next(&limits, FREE, Turn::Alone(1), at(0)), Decision::Idle, "no suspect");
    assert_eq!(keys(next(&mut queue, &limits, FREE, at(0))), [4, 1], "the suspect is passed over");
    assert_eq!(queue.next(&limits, FREE, Turn::Shared, at(0)), Decision::Idle, "not its turn");
    assert_eq!(keys(next(&mut queue, &limits, FREE, at(0))), [2, 3]);
}

#[test]
fn a_job_that_turns_suspect_takes_its_waiting_items_along() {
    let mut queue = queue(&[item(1, 1, 1), item(2, 2, 1)]);
    queue.push(Pending { alone: true, ..item(1, 3, 1) });
    assert_eq!(keys(next(&mut queue, &limits(10, 10, 0), FREE, at(0))), [1, 3]);
    assert_eq!(keys(next(&mut queue, &limits(10, 10, 0), FREE, at(0))), [2]);
}

#[test]
fn items_of_one_job_with_growing_slack_give_way_to_more_urgent_jobs() {
    let of = |job, key, start_by| Pending { start_by: at(start_by), ..item(job, key, 1) };
    let mut queue = queue(&[of(1, 1, 10), of(1, 2, 30), of(2, 3, 20)]);
    assert_eq!(keys(next(&mut queue, &limits(10, 10, 0), FREE, at(0))), [1, 3, 2]);
}

fn items() -> impl Strategy<Value = Vec<Item>> {
    let one = (0_u8..6, 0_u32..40, 0_i64..50, 0_i64..100, proptest::bool::weighted(0.1));
    vec(one, 0..60).prop_map(|all| {
        all.into_iter()
            .zip(0..)
            .map(|((job, cost_tokens, arrived, start_by, alone), key)| Pending {
                key,
                job,
                cost_tokens,
                arrived_at: at(arrived),
                start_by: at(start_by),
                alone,
            })
            .collect()
    })
}

fn any_limits() -> impl Strategy<Value = Limits> {
    (0_u32..100, 0_u32..10, 0_u64..30).prop_map(|(tokens, items, hold)| limits(tokens, items, hold))
}

/// The same rules, written as plainly as possible: repeatedly take the job whose first item is the
/// most urgent.
fn model_batch(waiting: &mut Vec<Item>, limits: &Limits) -> Vec<u32> {
    let is_alone = |items: &[Item], job| items.iter().any(|item| item.job == job && item.alone);
    let snapshot = waiting.clone();
    let mut batch: Vec<Item> = Vec::new();
    loop {
        let mut firsts: Vec<&Item> = Vec::new();
        for item in waiting.iter() {
            if firsts.iter().all(|first| first.job != item.job) {
                firsts.push(item);
            }
        }
        firsts.retain(|item| match batch.first() {
            None => true,
            Some(first) if is_alone(&snapshot, first.job) => item.job == first.job,
            Some(_) => !is_alone(&snapshot, item.job),
        });
        let Some(next) =
            firsts.into_iter().min_by_key(|item| (item.start_by, item.arrived_at, item.job))
        else {
            break;
        };
        let tokens: u32 = batch.iter().chain([next]).map(|item| item.cost_tokens).sum();
        let full = batch.len() >= usize::try_from(limits.max_items).unwrap();
        if !batch.is_empty() && (full || tokens > limits.max_tokens) {
            break;
        }
        let next = next.clone();
        waiting.retain(|item| item.key != next.key);
        batch.push(next);
    }
    batch.into_iter().map(|item| item.key).collect()
}

proptest! {
    #[test]
    fn batches_are_those_of_the_plain_model(items in items(), limits in any_limits()) {
        let limits = Limits { hold: Duration::ZERO, ..limits };
        // In the model a job is suspect while such an item of it waits; in the queue, from its first
        // such item on while any waits. Mark all items of suspect jobs, so that the two agree.
        let marked: Vec<Item> = items
            .iter()
            .map(|item| {
                let alone = items.iter().any(|other| other.job == item.job && other.alone);
                Pending { alone, ..item.clone() }
            })
            .collect();
        let mut queue = queue(&marked);
        let mut model = marked;
        while !queue.is_empty() {
            let batch = keys(next(&mut queue, &limits, FREE, at(0)));
            prop_assert_eq!(batch, model_batch(&mut model, &limits));
            prop_assert_eq!(queue.len(), model.len());
        }
        prop_assert!(model.is_empty());
    }

    #[test]
    fn every_item_runs_once_in_order_within_its_job_and_within_the_budget(
        items in items(),
        limits in any_limits(),
    ) {
        let mut queue = queue(&items);
        let mut ran: Vec<Item> = Vec::new();
        let mut now = at(50);
        let mut steps = 0;
        while !queue.is_empty() {
            steps += 1;
            prop_assert!(steps <= 2 * items.len(), "does not end");
            match next(&mut queue, &limits, FREE, now) {
                Decision::Run(batch) => {
                    prop_assert!(!batch.is_empty());
                    let tokens: u32 = batch.iter().map(|item| item.cost_tokens).sum();
                    let most = usize::try_from(limits.max_items.max(1)).unwrap();
                    prop_assert!(batch.len() <= most);
                    prop_assert!(tokens <= limits.max_tokens || batch.len() == 1);
                    if batch.iter().any(|item| item.alone) {
                        prop_assert!(batch.iter().all(|item| item.job == batch[0].job));
                    }
                    ran.extend(batch);
                }
                Decision::WaitUntil(time) => {
                    prop_assert!(time > now && time <= now.after(limits.hold));
                    now = time;
                    let ran_now = matches!(next(&mut queue.clone(), &limits, FREE, now), Decision::Run(_));
                    prop_assert!(ran_now, "waits again after the time it asked for");
                }
                Decision::Idle => prop_assert!(false, "idle with items and a lane"),
            }
        }
        prop_assert_eq!(ran.len(), items.len());
        for job in 0..6 {
            let of = |all: &[Item]| -> Vec<u32> {
                all.iter().filter(|item| item.job == job).map(|item| item.key).collect()
            };
            prop_assert_eq!(of(&ran), of(&items));
        }
    }

    #[test]
    fn no_item_is_held_longer_than_the_hold_or_its_slack(
        items in items(),
        limits in any_limits(),
        now in 0_i64..60,
    ) {
        let mut queue = queue(&items);
        if let Decision::WaitUntil(time) = next(&mut queue, &limits, FREE, at(now)) {
            // A suspect waits for its turn, not for a batch to fill.
            let shared = queue.jobs.values().filter(|waiting| !waiting.alone);
            for item in shared.filter_map(|waiting| waiting.items.front()) {
                prop_assert!(time <= item.start_by.max(at(now + 1)));
                let bound = item.arrived_at.after(limits.hold);
                prop_assert!(time <= bound.max(at(now + 1)));
            }
        }
    }

    #[test]
    fn what_arrives_behind_an_item_cannot_starve_it(
        items in items(),
        limits in any_limits(),
        flood in 1_usize..5,
    ) {
        let mut queue = queue(&items);
        let limits = Limits { hold: Duration::ZERO, ..limits };
        let mut left: BTreeSet<u32> = items.iter().map(|item| item.key).collect();
        for round in 0..items.len() {
            for n in 0..flood {
                let job = 10 + u8::try_from(n).unwrap();
                let late = Pending { start_by: at(100), ..item(job, 1000, 1) };
                queue.push(Pending { arrived_at: at(i64::try_from(round).unwrap()), ..late });
            }
            for key in keys(next(&mut queue, &limits, FREE, at(0))) {
                left.remove(&key);
            }
        }
        prop_assert!(left.is_empty(), "starved: {:?}", left);
    }

    #[test]
    fn a_removed_job_leaves_no_trace(items in items(), job in 0_u8..6, limits in any_limits()) {
        let mut queue = queue(&items);
        let removed = queue.remove_job(job);
        let (of, rest): (Vec<Item>, Vec<Item>) =
            items.into_iter().partition(|item| item.job == job);
        prop_assert_eq!(removed, of);
        prop_assert_eq!(queue.items_of(job), 0);
        let mut fresh = self::queue(&rest);
        prop_assert_eq!(queue.len(), fresh.len());
        while !fresh.is_empty() {
            prop_assert_eq!(
                next(&mut queue, &limits, FREE, Timestamp::MAX),
                next(&mut fresh, &limits, FREE, Timestamp::MAX)
            );
        }
        prop_assert!(queue.is_empty() && queue.shared_tokens == 0 && queue.shared_items == 0);
    }
}
