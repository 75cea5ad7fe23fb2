//! Why a job does not run yet.

use stoker_core::fleet::ledger::Mode;
use stoker_proto::v1;

use super::{Buying, Facts, Verdict};
use crate::render::text::{count, grouped};
use crate::render::time::span;

/// Of a job in QUEUED or DISPATCHED: what holds up its whole queue first, then what is before it.
pub(super) fn verdict(facts: &Facts<'_>) -> Verdict {
    let job = facts.job;
    let (model, pool) = (&job.model, &job.pool);
    let Some(queue) = &facts.answer.queue else {
        return Verdict::new("waiting", "It waits for its turn.");
    };
    if queue.unserved {
        let text = format!(
            "It waits for nothing that comes by itself: the fleet file has no model `{model}` in \
             the pool `{pool}` any more."
        );
        return Verdict::new("model_gone", text)
            .advise(format!("Name it there again, or drop the job: `stoker cancel {}`.", job.id));
    }
    if !queue.broker_problem.is_empty() {
        let text =
            format!("It waits for the broker, which does not take it: {}.", queue.broker_problem);
        return Verdict::new("broker", text)
            .advise("Mend the broker. The job is stored, and goes on by itself then.");
    }
    if queue.slots == 0 {
        return without_slots(facts, queue);
    }
    if job.state == v1::JobState::Dispatched as i32 {
        return released(queue);
    }
    in_line(facts, queue)
}

/// Released to the broker: only a free slot is missing.
fn released(queue: &v1::JobQueue) -> Verdict {
    let (others, slots) = (queue.in_flight.saturating_sub(1), queue.slots);
    if others < u64::from(slots) {
        return Verdict::new("on_its_way", "It is on its way to a worker that has a free slot.");
    }
    let text = format!(
        "It waits for a free slot: it is released, and {} are with its workers or before it, which \
         have {}.",
        count(others, "other job"),
        count(u64::from(slots), "slot")
    );
    Verdict::new("no_free_slot", text).advise("More workers would start it sooner.")
}

fn in_line(facts: &Facts<'_>, queue: &v1::JobQueue) -> Verdict {
    let ahead: u64 = queue.ahead.iter().map(|ahead| u64::from(ahead.jobs)).sum();
    let at_least = if queue.ahead_at_least { "at least " } else { "" };
    let with_workers = format!(
        "{} are with its workers, which have {}",
        count(queue.in_flight, "job"),
        count(u64::from(queue.slots), "slot")
    );
    if ahead == 0 && !queue.ahead_at_least {
        let text = format!("It is the next to be released: {with_workers}.");
        return Verdict::new("next", text);
    }
    let own = queue.ahead.iter().find(|ahead| ahead.tenant == facts.job.tenant);
    let own = own.map_or(0, |ahead| u64::from(ahead.jobs));
    let whose = match (own, ahead - own) {
        (_, 0) => String::new(),
        (0, _) => ", all of other tenants".to_owned(),
        (own, others) => {
            format!(", {} of its own tenant and {} of others", grouped(own), grouped(others))
        }
    };
    let go = if ahead == 1 { "goes" } else { "go" };
    let text = format!(
        "It waits for its turn: {at_least}{} {go} first{whose}; {with_workers}.",
        count(ahead, "job")
    );
    Verdict::new("in_line", text).advise(
        "Least time left goes first, and free places are shared by the tenants' weights: a class with \
         a shorter wait, a higher weight or more workers would start it sooner.",
    )
}

/// No ready worker serves it.
fn without_slots(facts: &Facts<'_>, queue: &v1::JobQueue) -> Verdict {
    let (model, pool) = (&facts.job.model, &facts.job.pool);
    if queue.workers_starting > 0 {
        let workers = count(u64::from(queue.workers_starting), "worker");
        let text = format!("It waits for {workers} of the model `{model}`, starting right now.");
        return Verdict::new("workers_starting", text);
    }
    let in_state = |state: v1::WorkerState| {
        facts.serving().filter(|worker| worker.state == state as i32).collect::<Vec<_>>()
    };
    let cordoned = in_state(v1::WorkerState::Cordoned);
    if let Some(first) = cordoned.first() {
        let text = format!(
            "All workers of the model `{model}` that are there take no new work: {} cordoned.",
            count(cordoned.len() as u64, "worker")
        );
        return Verdict::new("workers_cordoned", text).advise(format!(
            "Give one new work again: `stoker workers cordon {} --undo`; `stoker workers` says why \
             it is cordoned.",
            first.id
        ));
    }
    let none = format!("No ready worker serves the model `{model}` in the pool `{pool}`");
    let leaving = in_state(v1::WorkerState::Draining).len() as u64;
    let gone = in_state(v1::WorkerState::Lost).len() as u64;
    let past = match (leaving, gone) {
        (0, 0) => String::new(),
        (0, gone) => format!(": {} lost", count(gone, "worker")),
        (leaving, 0) => format!(": {} draining", count(leaving, "worker")),
        (leaving, gone) => format!(": {} draining, {gone} lost", count(leaving, "worker")),
    };
    buying(facts.buying, &format!("{none}{past}."))
}

/// What is bought for its pool.
fn buying(buying: Option<&Buying>, text: &str) -> Verdict {
    let start = "Start a worker; `stoker plan` says what the autoscaler would buy, and why.";
    let Some(buying) = buying else {
        return Verdict::new("no_worker", text).advise(start);
    };
    if buying.on_their_way > 0 {
        let machines = count(u64::from(buying.on_their_way), "machine");
        let text = format!("{text} {machines} on the way, for {} by now.", span(buying.oldest));
        return Verdict::new("machines_booting", text);
    }
    let switch = &buying.switch;
    if switch.mode != Mode::Run {
        let text = format!(
            "{text} None is bought: {} set the fleet's switch to `{}`: {}.",
            switch.by, switch.mode, switch.why
        );
        return Verdict::new("switched_off", text)
            .advise("Let machines be bought again: `stoker fleet run --why TEXT`.");
    }
    if let Some(refused) = &buying.refused {
        let text = format!("{text} The last machine that was asked for did not come: {refused}.");
        return Verdict::new("machine_refused", text)
            .advise("Add offerings to the pool: other zones, types or capacity types.");
    }
    Verdict::new("no_worker", text).advise(start)
}
