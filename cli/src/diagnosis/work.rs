//! Work and who does it: workers, models and queues without any, dead letters.

use stoker_core::fleet::ledger::{Ending, Entry, State};
use stoker_proto::v1;

use super::{Evidence, Finding, Level};
use crate::client::LedgerView;
use crate::render::text::count;

/// Names in one line; the others are counted.
const NAMED: usize = 5;

pub(super) fn findings(evidence: &Evidence, status: &v1::FleetStatusResponse) -> Vec<Finding> {
    let mut findings = Vec::new();
    match &evidence.workers {
        Ok(workers) => {
            findings.extend(self::workers(workers, status, evidence.ledger.as_ref().ok()));
        }
        Err(why) => findings.push(unread("workers", why)),
    }
    match &evidence.queues {
        Ok(queues) => findings.push(self::queues(evidence, queues)),
        Err(why) => findings.push(unread("queues", why)),
    }
    findings.push(if status.dead_letters == 0 {
        Finding::good("dead letters", "none")
    } else {
        Finding::warning(
            "dead letters",
            count(status.dead_letters, "job") + " failed and nobody has decided about them",
            "`stoker dead-letters list` says why; then redrive or discard them",
        )
    });
    findings
}

pub(super) fn unread(check: &'static str, why: &str) -> Finding {
    Finding::new(check, Level::Problem, why, "ask again; the coordinator's log says more")
}

fn workers(
    workers: &[v1::Worker],
    status: &v1::FleetStatusResponse,
    ledger: Option<&LedgerView>,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    let in_state =
        |state: v1::WorkerState| workers.iter().filter(move |worker| worker.state == state as i32);
    let ready = in_state(v1::WorkerState::Ready).count() as u64;
    let cordoned = names(in_state(v1::WorkerState::Cordoned).map(|worker| worker.id.as_str()));
    let (ended, lost): (Vec<_>, Vec<_>) =
        in_state(v1::WorkerState::Lost).partition(|worker| went_with_its_machine(worker, ledger));
    let lost = names(lost.iter().map(|worker| worker.id.as_str()));
    if let Some(names) = cordoned {
        findings.push(Finding::warning(
            "workers",
            format!("cordoned: {names}"),
            "`stoker workers` says why; a sick GPU cordons itself, an operator's cordon is lifted \
             with `stoker workers cordon ID --undo`",
        ));
    }
    if let Some(names) = lost {
        findings.push(Finding::warning(
            "workers",
            format!("not heard of any more: {names}"),
            "look at their machines; their jobs went on elsewhere",
        ));
    }
    let others = workers.iter().filter(|worker| {
        worker.state != v1::WorkerState::Lost as i32 && worker.version != status.version
    });
    if let Some(names) = names(others.map(|worker| worker.id.as_str())) {
        findings.push(Finding::warning(
            "workers",
            format!("of another version than the coordinator: {names}"),
            "roll the workers out anew, the coordinator first",
        ));
    }
    if findings.is_empty() {
        let gone = match ended.len() {
            0 => String::new(),
            some => format!("; {some} went with machines that were ended"),
        };
        let what = format!("{} ready{gone}", count(ready, "worker"));
        findings.push(Finding::good("workers", what));
    }
    findings
}

/// Whether nothing is heard of a worker since its machine leaves or has left: by the autoscaler's will or the cloud's, as
/// machines that come and go do. One that ended otherwise is for a person to look at.
fn went_with_its_machine(worker: &v1::Worker, ledger: Option<&LedgerView>) -> bool {
    let on_it = |entry: &&Entry| {
        entry.state.instance().is_some_and(|instance| instance.as_str() == worker.instance)
    };
    let machine = ledger.and_then(|ledger| ledger.entries.values().find(on_it));
    machine.is_some_and(|entry| match &entry.state {
        State::Terminating { .. } => true,
        State::Gone { why, .. } => match why {
            Ending::Terminated(_) | Ending::Interrupted => true,
            Ending::Elsewhere | Ending::Vanished => false,
        },
        // It still has work, or would have left.
        State::Draining { .. } | State::Launched { .. } | State::Ready { .. } => {
            entry.times.noticed.is_some()
        }
        State::Intended | State::Requested { .. } | State::Failed { .. } => false,
    })
}

/// The first ones by name; `None` if there are none.
fn names<'a>(all: impl Iterator<Item = &'a str>) -> Option<String> {
    let all: Vec<&str> = all.collect();
    let shown = all.iter().take(NAMED).copied().collect::<Vec<_>>().join(", ");
    match all.len() {
        0 => None,
        few if few <= NAMED => Some(shown),
        many => Some(format!("{shown} and {} more", many - NAMED)),
    }
}

/// Models that nobody serves: bad if work waits for them, or none can ever come.
fn queues(evidence: &Evidence, queues: &[v1::Queue]) -> Finding {
    let idle = |queue: &&v1::Queue| queue.slots == 0;
    let waits = |queue: &v1::Queue| queue.queued + queue.dispatched > 0;
    let bought = |queue: &v1::Queue| {
        evidence.fleet().is_some_and(|fleet| {
            fleet.pools.iter().any(|(name, pool)| {
                name.as_str() == queue.pool && !pool.scaling.offerings.is_empty()
            })
        })
    };
    let named = |queue: &v1::Queue| format!("{} in {}", queue.model, queue.pool);
    let of = |wanted: &dyn Fn(&v1::Queue) -> bool| {
        let all: Vec<String> =
            queues.iter().filter(idle).filter(|queue| wanted(queue)).map(named).collect();
        names(all.iter().map(String::as_str))
    };
    if let Some(names) = of(&|queue| waits(queue) && !bought(queue)) {
        return Finding::problem(
            "queues",
            format!("work waits, and no ready worker serves it: {names}"),
            "start workers of these pools; `stoker explain JOB` says more of one job",
        );
    }
    if let Some(names) = of(&|queue| waits(queue)) {
        return Finding::warning(
            "queues",
            format!("work waits until machines are bought: {names}"),
            "`stoker fleet` shows what is on its way, `stoker plan` what is planned and why",
        );
    }
    if let Some(names) = of(&|queue| !bought(queue)) {
        return Finding::warning(
            "queues",
            format!("nothing waits, and no worker serves: {names}"),
            "start workers of these pools before work comes",
        );
    }
    Finding::good(
        "queues",
        count(queues.len() as u64, "queue") + ", each with workers or offerings",
    )
}
