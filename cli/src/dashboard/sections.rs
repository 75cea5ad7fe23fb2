//! The parts of the screen as text.

use std::collections::{BTreeMap, BTreeSet};

use stoker_core::fleet::ledger::{Account, Entry};
use stoker_core::money::Money;
use stoker_core::time::Timestamp;
use stoker_proto::v1;

use super::{Section, Snapshot, View, decisions};
use crate::client::LedgerView;
use crate::render::machine;
use crate::render::money::dollars;
use crate::render::queue;
use crate::render::table::{Column, left, or_dash, pairs, right, table};
use crate::render::text::grouped;
use crate::render::time::{duration_from_wire, from_wire, span};

/// Decisions that are shown.
const DECISIONS: usize = 8;

pub(super) fn all(view: &View<'_>) -> Vec<Section> {
    let snapshot = view.snapshot;
    let mut sections = vec![head(view)];
    sections.push(classes(snapshot));
    sections.push(Section::new("Queues", &queue::rows(&snapshot.queues)));
    sections.push(pools(snapshot));
    match &snapshot.ledger {
        Ok(ledger) => {
            sections.push(machines(snapshot, ledger));
            sections.push(last(snapshot, ledger));
        }
        Err(why) => sections.push(Section::new("Machines", &format!("not known: {why}"))),
    }
    sections.retain(|section| !section.lines.is_empty());
    sections
}

fn head(view: &View<'_>) -> Section {
    let (snapshot, fleet) = (view.snapshot, &view.snapshot.fleet);
    let mut lines = Vec::new();
    if let Some(age) = view.overdue {
        lines.push(("PROBLEM", format!("this is from {} ago", span(age))));
    }
    if let Some(problem) = view.problem {
        lines.push(("PROBLEM", problem.to_owned()));
    }
    if !fleet.broker_problem.is_empty() {
        lines.push(("PROBLEM", format!("{}: {}", fleet.broker, fleet.broker_problem)));
    }
    if let Some(problem) = snapshot.ledger.as_ref().ok().and_then(machine::neglect) {
        lines.push(("PROBLEM", format!("the autoscaler {problem}")));
    }
    let open: u64 =
        fleet.jobs.iter().filter(|count| is_open(count.state)).map(|count| count.jobs).sum();
    let letters = fleet.dead_letters;
    lines.push(("jobs", format!("{} open, {} dead letters", grouped(open), grouped(letters))));
    lines.push(("workers", format!("{} ready of {}", fleet.workers_ready, fleet.workers_total)));
    if let Ok(ledger) = &snapshot.ledger {
        lines.push(("switch", machine::switch(&ledger.switch, ledger.read_at)));
        lines.push(("spending", machine::spending(ledger)));
    }
    let title = format!("{} at {}", fleet.fleet, snapshot.server);
    Section::new(title, &pairs(lines))
}

fn is_open(state: i32) -> bool {
    !crate::render::state::is_terminal(state)
}

const CLASSES: [Column; 7] = [
    left("CLASS"),
    right("PROMISE"),
    right("WAITING"),
    right("NEXT DUE"),
    right("STARTED 1H"),
    right("IN TIME"),
    right("GOAL"),
];

/// Jobs of a class, over all queues.
#[derive(Debug, Clone, Copy, Default)]
struct Waits {
    waiting: u64,
    next: Option<Timestamp>,
    started: u64,
    late: u64,
}

fn classes(snapshot: &Snapshot) -> Section {
    let demands = match &snapshot.demands {
        Ok(demands) => demands,
        Err(why) => return Section::new("Classes", &format!("not known: {why}")),
    };
    let mut classes: BTreeMap<&str, Waits> = BTreeMap::new();
    for demand in demands {
        let of = classes.entry(&demand.class).or_default();
        of.waiting += demand.waiting.iter().map(|waiting| waiting.jobs).sum::<u64>();
        let first =
            demand.waiting.iter().filter_map(|jobs| from_wire(jobs.start_by.as_ref())).min();
        of.next = [of.next, first].into_iter().flatten().min();
        of.started += demand.slots.iter().map(|slot| slot.started).sum::<u64>();
        of.late += demand.slots.iter().map(|slot| slot.started_late).sum::<u64>();
    }
    let names: BTreeSet<&str> = classes
        .keys()
        .copied()
        .chain(snapshot.fleet.classes.iter().map(|class| class.name.as_str()))
        .collect();
    let rows = names.into_iter().map(|name| {
        let promise = snapshot.fleet.classes.iter().find(|class| class.name == name);
        class(name, promise, &classes.get(name).copied().unwrap_or_default(), snapshot.now)
    });
    Section::new("Classes", &table(&CLASSES, rows))
}

fn class(
    name: &str,
    promise: Option<&v1::ClassPromise>,
    waits: &Waits,
    now: Timestamp,
) -> Vec<String> {
    let max_wait = promise.and_then(|promise| duration_from_wire(promise.max_wait.as_ref()));
    let next = waits.next.map(|at| {
        if at >= now { span(at.since(now)) } else { format!("{} late", span(now.since(at))) }
    });
    #[expect(clippy::cast_precision_loss, reason = "for a percentage")]
    let in_time = (waits.started > 0).then(|| {
        100.0 * (waits.started - waits.late.min(waits.started)) as f64 / waits.started as f64
    });
    vec![
        name.to_owned(),
        or_dash(max_wait.map(span).unwrap_or_default()),
        grouped(waits.waiting),
        or_dash(next.unwrap_or_default()),
        grouped(waits.started),
        or_dash(in_time.map(|share| format!("{share:.1}%")).unwrap_or_default()),
        or_dash(promise.map(|of| format!("{:.1}%", of.objective * 100.0)).unwrap_or_default()),
    ]
}

const POOLS: [Column; 6] = [
    left("POOL"),
    right("WAITING"),
    right("READY"),
    right("SLOTS BUSY"),
    right("MACHINES"),
    right("AN HOUR"),
];

fn pools(snapshot: &Snapshot) -> Section {
    let open: Vec<&Entry> = snapshot.ledger.iter().flat_map(LedgerView::open).collect();
    let names: BTreeSet<&str> = snapshot
        .queues
        .iter()
        .map(|queue| queue.pool.as_str())
        .chain(snapshot.workers.iter().map(|worker| worker.pool.as_str()))
        .chain(open.iter().map(|entry| entry.order.pool.as_str()))
        .collect();
    let rows = names.into_iter().map(|name| {
        let of_pool = |queue: &&v1::Queue| queue.pool == name;
        let waiting: u64 = snapshot
            .queues
            .iter()
            .filter(of_pool)
            .map(|queue| queue.queued + queue.dispatched)
            .sum();
        let present: Vec<&v1::Worker> = snapshot
            .workers
            .iter()
            .filter(|worker| worker.pool == name && worker.state != v1::WorkerState::Lost as i32)
            .collect();
        let ready =
            present.iter().filter(|worker| worker.state == v1::WorkerState::Ready as i32).count();
        let busy: u32 = present.iter().map(|worker| worker.busy_slots).sum();
        let slots: u32 = present.iter().map(|worker| worker.slots).sum();
        let machines = open.iter().filter(|entry| entry.order.pool.as_str() == name);
        let hour: Money = machines.clone().map(|entry| entry.order.price.hour()).sum();
        vec![
            name.to_owned(),
            grouped(waiting),
            format!("{ready}/{}", present.len()),
            format!("{busy}/{slots}"),
            machines.count().to_string(),
            dollars(hour),
        ]
    });
    Section::new("Pools", &table(&POOLS, rows))
}

const MACHINES: [Column; 8] = [
    left("INSTANCE"),
    left("POOL"),
    left("STATE"),
    left("OFFERING"),
    right("PRICE"),
    right("TAKEN BACK"),
    right("AGE"),
    right("BUSY"),
];

fn machines(snapshot: &Snapshot, ledger: &LedgerView) -> Section {
    let mut open: Vec<&Entry> = ledger.open().collect();
    open.sort_by_key(|entry| (&entry.order.pool, entry.state.kind(), entry.id));
    let rows = open.iter().map(|entry| {
        let worker = machine::worker_of(entry, &snapshot.workers);
        let busy = worker.map(|worker| format!("{}/{}", worker.busy_slots, worker.slots));
        let instance = entry.state.instance().map(ToString::to_string);
        vec![
            or_dash(instance.unwrap_or_default()),
            entry.order.pool.to_string(),
            machine::state_as_seen(entry, worker, ledger.read_at),
            format!("{} {}", entry.order.offering, entry.order.capacity.as_str()),
            entry.order.price.to_string(),
            taken_back(&ledger.account, entry),
            span(machine::age(entry, ledger.read_at)),
            or_dash(busy.unwrap_or_default()),
        ]
    });
    let rows: Vec<Vec<String>> = rows.collect();
    Section::new(
        "Machines",
        &if rows.is_empty() { "none\n".to_owned() } else { table(&MACHINES, rows) },
    )
}

/// How many of the offering the provider took back, of those that were ever launched.
fn taken_back(account: &Account, entry: &Entry) -> String {
    let market = account.markets.get(&entry.order.pool);
    let market = market.and_then(|pool| pool.get(&entry.order.offering));
    market.filter(|market| market.launched > 0).map_or_else(
        || "-".to_owned(),
        |market| format!("{} of {}", market.interrupted, market.launched),
    )
}

const LAST: [Column; 4] = [right("AGO"), left("WHAT"), left("MACHINE"), left("WHY")];

fn last(snapshot: &Snapshot, ledger: &LedgerView) -> Section {
    let decisions = decisions::latest(ledger, DECISIONS);
    if decisions.is_empty() {
        return Section::new("Last decisions", "");
    }
    let rows = decisions.into_iter().map(|decision| {
        let ago = span(snapshot.now.since(decision.at));
        vec![ago, decision.what.to_owned(), decision.machine, decision.why]
    });
    Section::new("Last decisions", &table(&LAST, rows))
}
