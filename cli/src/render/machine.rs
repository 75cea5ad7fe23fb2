//! Machines of the ledger with the switch and the money: a page for people, a document for programs.

use std::collections::BTreeMap;

use serde::Serialize;
use stoker_core::fleet::CapacityType;
use stoker_core::fleet::ledger::{Entry, Mode, State, StateKind, Switch};
use stoker_core::ids::InstanceName;
use stoker_core::money::Money;
use stoker_core::time::Timestamp;
use stoker_proto::v1;

use super::money::of_cap_in;
use super::table::{Column, left, or_dash, pairs, right, table};
use super::text::{count, shorten};
use super::time::{rfc3339, span};
use crate::client::LedgerView;

/// Longest reason in a row; the document has all of it.
const MAX_REASON: usize = 60;

/// What is shown.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Page<'a> {
    pub(crate) ledger: &'a LedgerView,
    pub(crate) workers: &'a [v1::Worker],
}

/// `freeze, by ann 2m ago: the bill looks odd`.
pub(crate) fn switch(switch: &Switch, now: Timestamp) -> String {
    if switch.version == 0 {
        return format!("{}, never set", switch.mode);
    }
    let ago = span(now.since(switch.set_at));
    format!("{}, by {} {ago} ago: {}", switch.mode, switch.by, switch.why)
}

/// What an hour of all that is open costs.
pub(crate) fn per_hour(ledger: &LedgerView) -> Money {
    ledger.open().map(|entry| entry.order.price.hour()).sum()
}

/// How long it has been asked for, or has been there.
pub(crate) fn age(entry: &Entry, now: Timestamp) -> std::time::Duration {
    let times = &entry.times;
    now.since(times.launched.or(times.requested).unwrap_or(times.intended))
}

/// The state, and why the machine leaves.
pub(crate) fn state_and_why(entry: &Entry, now: Timestamp) -> String {
    let state = entry.state.kind().name();
    let noticed = if entry.times.noticed.is_some() { ", taken back" } else { "" };
    match &entry.state {
        State::Requested { calls } if *calls > 1 => format!("{state} ({calls} calls)"),
        State::Draining { deadline, .. } => {
            let left = span(deadline.since(now));
            format!("{state} ({left} left{noticed})")
        }
        State::Ready { .. } | State::Launched { .. } if !noticed.is_empty() => {
            format!("{state} (taken back)")
        }
        State::Intended
        | State::Requested { .. }
        | State::Launched { .. }
        | State::Ready { .. }
        | State::Terminating { .. }
        | State::Gone { .. }
        | State::Failed { .. } => state.to_owned(),
    }
}

/// The state, with what an operator or the worker itself has done about it.
pub(crate) fn state_as_seen(entry: &Entry, worker: Option<&v1::Worker>, now: Timestamp) -> String {
    let state = state_and_why(entry, now);
    let cordoned = worker.is_some_and(|worker| worker.state == v1::WorkerState::Cordoned as i32);
    if cordoned { format!("{state} (cordoned)") } else { state }
}

/// Why it leaves, or else why it was bought.
pub(crate) fn why(entry: &Entry) -> String {
    match &entry.state {
        State::Draining { why, .. } | State::Terminating { why, .. } => why.to_string(),
        State::Gone { why, .. } => why.to_string(),
        State::Failed { class, why } => format!("{}: {why}", class.name()),
        State::Intended
        | State::Requested { .. }
        | State::Launched { .. }
        | State::Ready { .. } => entry.order.reason.clone(),
    }
}

const COLUMNS: [Column; 10] = [
    left("MACHINE"),
    left("POOL"),
    left("STATE"),
    left("INSTANCE"),
    left("OFFERING"),
    left("CAPACITY"),
    right("PRICE"),
    right("AGE"),
    right("BUSY"),
    left("WHY"),
];

/// The fleet's machines and money for people.
pub(crate) fn page(page: &Page<'_>) -> String {
    let (ledger, now) = (page.ledger, page.ledger.read_at);
    let mut text = pairs([
        ("switch", switch(&ledger.switch, now)),
        ("autoscaler", autoscaler(ledger)),
        ("machines", machines(ledger)),
        ("spending", spending(ledger)),
    ]);
    let mut open: Vec<&Entry> = ledger.open().collect();
    open.sort_by_key(|entry| (&entry.order.pool, entry.state.kind(), entry.id));
    if !open.is_empty() {
        text.push('\n');
        text.push_str(&table(&COLUMNS, open.iter().map(|entry| row(entry, page, now))));
    }
    text
}

/// What an autoscaler does not do that should: nobody looks after machines that cost money.
pub(crate) fn neglect(ledger: &LedgerView) -> Option<String> {
    let silent = span(ledger.silence()?);
    let open = ledger.open().count() as u64;
    (open > 0).then(|| {
        let verb = if open == 1 { "costs" } else { "cost" };
        format!("has written nothing for {silent}, and {} {verb} money", count(open, "machine"))
    })
}

fn autoscaler(ledger: &LedgerView) -> String {
    ledger.account.spend.charged_until.map_or_else(
        || "has never written the ledger".to_owned(),
        |at| match neglect(ledger) {
            Some(problem) => format!("PROBLEM: {problem}"),
            None => format!("wrote its account {} ago", span(ledger.read_at.since(at))),
        },
    )
}

fn machines(ledger: &LedgerView) -> String {
    let mut states: BTreeMap<StateKind, u64> = BTreeMap::new();
    let mut spot = 0;
    let mut open = 0;
    for entry in ledger.open() {
        *states.entry(entry.state.kind()).or_default() += 1;
        open += 1;
        spot += u64::from(entry.order.capacity == CapacityType::Spot);
    }
    if open == 0 {
        return "none".to_owned();
    }
    let states: Vec<String> =
        states.iter().map(|(state, number)| format!("{number} {}", state.name())).collect();
    let cap = ledger.budget.filter(|budget| budget.max_instances != u32::MAX);
    let cap =
        cap.map_or_else(String::new, |budget| format!(" of at most {}", budget.max_instances));
    let (states, demand) = (states.join(", "), open - spot);
    format!("{}{cap}: {states}; {spot} spot, {demand} on-demand", count(open, "machine"))
}

/// What is spent, against the caps.
pub(crate) fn spending(ledger: &LedgerView) -> String {
    let (spend, budget) = (ledger.spend(), ledger.budget);
    let hour = of_cap_in(per_hour(ledger), budget.map(|budget| budget.per_hour), "an hour");
    let day = of_cap_in(spend.day_spent, budget.map(|budget| budget.per_day), "today");
    let month = of_cap_in(spend.month_spent, budget.map(|budget| budget.per_month), "this month");
    format!("{hour}; {day}; {month}")
}

/// The worker of a machine, if the coordinator knows it.
pub(crate) fn worker_of<'a>(entry: &Entry, workers: &'a [v1::Worker]) -> Option<&'a v1::Worker> {
    let id = entry.state.worker()?.to_string();
    workers.iter().find(|worker| worker.id == id)
}

fn row(entry: &Entry, page: &Page<'_>, now: Timestamp) -> Vec<String> {
    let worker = worker_of(entry, page.workers);
    let busy = worker.map(|worker| format!("{}/{}", worker.busy_slots, worker.slots));
    let instance = entry.state.instance().map(ToString::to_string);
    vec![
        entry.id.to_string(),
        entry.order.pool.to_string(),
        state_as_seen(entry, worker, now),
        or_dash(instance.unwrap_or_default()),
        entry.order.offering.to_string(),
        entry.order.capacity.as_str().to_owned(),
        entry.order.price.to_string(),
        span(age(entry, now)),
        or_dash(busy.unwrap_or_default()),
        or_dash(shorten(&why(entry), MAX_REASON)),
    ]
}

/// The switch as a document.
#[derive(Debug, Serialize)]
pub(crate) struct SwitchDocument<'a> {
    mode: Mode,
    version: u64,
    by: &'a str,
    why: &'a str,
    set_at: Option<String>,
}

/// The switch for programs.
pub(crate) fn switch_document(switch: &Switch) -> SwitchDocument<'_> {
    let set_at = (switch.version > 0).then(|| rfc3339(switch.set_at)).flatten();
    let (mode, version) = (switch.mode, switch.version);
    SwitchDocument { mode, version, by: &switch.by, why: &switch.why, set_at }
}

/// The fleet's machines as a document. Fields are only ever added. Money is in US dollars.
#[derive(Debug, Serialize)]
pub(crate) struct MachinesDocument<'a> {
    switch: SwitchDocument<'a>,
    read_at: Option<String>,
    charged_until: Option<String>,
    per_hour: f64,
    today: f64,
    month: f64,
    caps: Option<CapsDocument>,
    machines: Vec<MachineDocument<'a>>,
}

/// What has no bound is null.
#[derive(Debug, Serialize)]
struct CapsDocument {
    instances: Option<u32>,
    launches_in_ten_minutes: Option<u32>,
    per_hour: Option<f64>,
    per_day: Option<f64>,
    per_month: Option<f64>,
}

/// A machine as a document.
#[derive(Debug, Serialize)]
pub(crate) struct MachineDocument<'a> {
    id: String,
    state: &'static str,
    instance: Option<&'a str>,
    worker_id: Option<String>,
    busy_slots: Option<u32>,
    slots: Option<u32>,
    pool: &'a str,
    offering: &'a str,
    provider: &'a str,
    region: &'a str,
    zone: &'a str,
    instance_type: &'a str,
    capacity: &'static str,
    price_per_hour: f64,
    why: String,
    intended_at: Option<String>,
    launched_at: Option<String>,
    ready_at: Option<String>,
    taken_back_at: Option<String>,
}

/// The fleet's machines and money for programs.
pub(crate) fn document<'a>(page: &Page<'a>) -> MachinesDocument<'a> {
    let ledger = page.ledger;
    let spend = ledger.spend();
    let money = |cap: Money| (cap != Money::MAX).then(|| cap.dollars());
    let number = |cap: u32| (cap != u32::MAX).then_some(cap);
    MachinesDocument {
        switch: switch_document(&ledger.switch),
        read_at: rfc3339(ledger.read_at),
        charged_until: ledger.account.spend.charged_until.and_then(rfc3339),
        per_hour: per_hour(ledger).dollars(),
        today: spend.day_spent.dollars(),
        month: spend.month_spent.dollars(),
        caps: ledger.budget.map(|budget| CapsDocument {
            instances: number(budget.max_instances),
            launches_in_ten_minutes: number(budget.max_launches),
            per_hour: money(budget.per_hour),
            per_day: money(budget.per_day),
            per_month: money(budget.per_month),
        }),
        machines: ledger.open().map(|entry| machine(entry, page.workers)).collect(),
    }
}

/// A machine for programs.
pub(crate) fn machine<'a>(entry: &'a Entry, workers: &[v1::Worker]) -> MachineDocument<'a> {
    let (order, times) = (&entry.order, &entry.times);
    let worker = worker_of(entry, workers);
    MachineDocument {
        id: entry.id.to_string(),
        state: entry.state.kind().name(),
        instance: entry.state.instance().map(InstanceName::as_str),
        worker_id: entry.state.worker().map(|worker| worker.to_string()),
        busy_slots: worker.map(|worker| worker.busy_slots),
        slots: worker.map(|worker| worker.slots),
        pool: order.pool.as_str(),
        offering: order.offering.as_str(),
        provider: &order.provider,
        region: &order.region,
        zone: &order.zone,
        instance_type: &order.instance_type,
        capacity: order.capacity.as_str(),
        price_per_hour: order.price.hour().dollars(),
        why: why(entry),
        intended_at: rfc3339(times.intended),
        launched_at: times.launched.and_then(rfc3339),
        ready_at: times.ready.and_then(rfc3339),
        taken_back_at: times.noticed.and_then(rfc3339),
    }
}

#[cfg(test)]
#[path = "machine/tests.rs"]
mod tests;
