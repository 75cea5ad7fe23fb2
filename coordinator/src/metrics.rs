//! Names, labels and meaning of everything the coordinator counts.
//!
//! Labels are bounded: models and pools are those of the fleet file, methods those of the API,
//! states and codes are enums. Tenants and jobs are never labels.

use std::collections::BTreeMap;
use std::time::Duration;

use metrics::{
    Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
};
use stoker_core::fleet::Class;
use stoker_core::fleet::ledger::{Entry, Mode, StateKind as MachineState};
use stoker_core::ids::{ClassName, Epoch};
use stoker_core::job::StateKind;
use tonic::Code;

use crate::readiness::Verdict;
use crate::registry::WorkerState;
use crate::store::{Change, Lane, LedgerPage, LedgerWritten};

const TRANSITIONS: &str = "stoker_coordinator_transitions_total";
const WAIT_SECONDS: &str = "stoker_coordinator_wait_seconds";
const WAITS: &str = "stoker_coordinator_waits_total";
const CLASS_OBJECTIVE_RATIO: &str = "stoker_coordinator_class_objective_ratio";
const BUSY_SECONDS: &str = "stoker_coordinator_attempt_busy_seconds";
const JOBS: &str = "stoker_coordinator_jobs";
const OLDEST_WAIT_SECONDS: &str = "stoker_coordinator_oldest_wait_seconds";
const SLOTS: &str = "stoker_coordinator_slots";
const WORKERS: &str = "stoker_coordinator_workers";
const RPCS: &str = "stoker_coordinator_rpcs_total";
const RPC_SECONDS: &str = "stoker_coordinator_rpc_seconds";
const RPCS_IN_FLIGHT: &str = "stoker_coordinator_rpcs_in_flight";
const STREAMS: &str = "stoker_coordinator_streams";
const CONNECTIONS: &str = "stoker_coordinator_connections";
const PUBLISHED: &str = "stoker_coordinator_published_total";
const OUTBOX: &str = "stoker_coordinator_outbox_messages";
const FENCED: &str = "stoker_coordinator_fenced_total";
const REGISTRATIONS_REFUSED: &str = "stoker_coordinator_registrations_refused_total";
const SWEPT: &str = "stoker_coordinator_swept_total";
const COMMIT_SECONDS: &str = "stoker_coordinator_commit_seconds";
const COMMIT_CALLS: &str = "stoker_coordinator_commit_calls";
const FREE_DISK_BYTES: &str = "stoker_coordinator_free_disk_bytes";
const READY: &str = "stoker_coordinator_ready";
const MACHINES: &str = "stoker_coordinator_machines";
const MACHINE_TRANSITIONS: &str = "stoker_coordinator_machine_transitions_total";
const LEDGER_WRITES: &str = "stoker_coordinator_ledger_writes_total";
const FLEET_SPENT: &str = "stoker_coordinator_fleet_spent_dollars";
const FLEET_MODE: &str = "stoker_coordinator_fleet_mode";
const FLEET_EPOCH: &str = "stoker_coordinator_fleet_epoch";

/// Registers the descriptions; call once per process, after the recorder is installed.
pub fn describe() {
    describe_counter!(TRANSITIONS, "Changes of state of jobs, by the state they went to");
    describe_histogram!(
        WAIT_SECONDS,
        Unit::Seconds,
        "Time from acceptance to the first start of execution, by class and model"
    );
    describe_counter!(
        WAITS,
        "Jobs that started for the first time, by class and whether they waited no longer than it \
         promises"
    );
    describe_gauge!(
        CLASS_OBJECTIVE_RATIO,
        "Fraction of a class's jobs that is promised to start in time"
    );
    describe_histogram!(
        BUSY_SECONDS,
        Unit::Seconds,
        "Time an engine computed for a successful attempt, by model"
    );
    describe_gauge!(JOBS, "Jobs, by queue and state");
    describe_gauge!(
        OLDEST_WAIT_SECONDS,
        Unit::Seconds,
        "Age of the job that waits longest, by queue; 0 when none waits"
    );
    describe_gauge!(SLOTS, "Slots of ready workers, by queue");
    describe_gauge!(WORKERS, "Workers, by state");
    describe_counter!(RPCS, "Calls answered, by method and code; streams count when they open");
    describe_histogram!(RPC_SECONDS, Unit::Seconds, "Time to the answer of a call, by method");
    describe_gauge!(RPCS_IN_FLIGHT, "Calls that wait for their answer");
    describe_gauge!(STREAMS, "Open streams, by kind");
    describe_gauge!(CONNECTIONS, "Open connections");
    describe_counter!(PUBLISHED, "Messages sent to the broker, by whether it confirmed them");
    describe_gauge!(OUTBOX, "Messages that the broker has not confirmed");
    describe_counter!(
        REGISTRATIONS_REFUSED,
        "Registrations of workers that may not run, or do not prove to run, on the machine that they name, by reason"
    );
    describe_counter!(FENCED, "Reports of attempts that were over and changed nothing, by call");
    describe_counter!(SWEPT, "Jobs that a timer changed");
    describe_histogram!(COMMIT_SECONDS, Unit::Seconds, "Time of a group commit, sync included");
    describe_histogram!(COMMIT_CALLS, "Calls that shared a commit");
    describe_gauge!(FREE_DISK_BYTES, Unit::Bytes, "Free space where the store is");
    describe_gauge!(READY, "1 while a part works without which the coordinator does not, by part");
    describe_fleet();
}

fn describe_fleet() {
    describe_gauge!(MACHINES, "Machines in the fleet's ledger that count, by state");
    describe_counter!(
        MACHINE_TRANSITIONS,
        "Machines that the ledger was told of through this coordinator, by pool and state"
    );
    describe_counter!(LEDGER_WRITES, "Writes to the fleet's ledger, by what became of them");
    describe_gauge!(FLEET_SPENT, "Dollars spent on machines in the present UTC day and month");
    describe_gauge!(FLEET_MODE, "1 for the mode that the fleet's switch is at, 0 for the others");
    describe_gauge!(FLEET_EPOCH, "How often the fleet's leader has changed");
}

/// A write to the ledger was answered.
pub(crate) fn ledger_written(written: &LedgerWritten, entries: &[Entry]) {
    let outcome = match written {
        LedgerWritten::Written => "written",
        LedgerWritten::NotLeading => "not-leading",
        LedgerWritten::SwitchChanged => "switch-changed",
        LedgerWritten::Conflict { .. } => "conflict",
        LedgerWritten::Full => "full",
    };
    counter!(LEDGER_WRITES, "outcome" => outcome).increment(1);
    if *written == LedgerWritten::Written {
        for entry in entries {
            let (pool, state) = (entry.order.pool.to_string(), entry.state.kind().name());
            counter!(MACHINE_TRANSITIONS, "pool" => pool, "state" => state).increment(1);
        }
    }
}

pub(crate) fn fleet_epoch(epoch: Epoch) {
    gauge!(FLEET_EPOCH).set(approximate(epoch.number()));
}

/// What the ledger adds up to.
pub(crate) fn ledger(page: &LedgerPage) {
    for state in MachineState::ALL {
        let machines = page.open.get(&state).copied().unwrap_or(0);
        gauge!(MACHINES, "state" => state.name()).set(approximate(machines));
    }
    let spend = &page.account.spend;
    for (window, spent) in [("day", spend.day_spent), ("month", spend.month_spent)] {
        gauge!(FLEET_SPENT, "window" => window).set(spent.dollars());
    }
    for mode in Mode::ALL {
        let is_set = f64::from(u8::from(page.switch.mode == mode));
        gauge!(FLEET_MODE, "mode" => mode.name()).set(is_set);
    }
}

/// Counts committed changes. `classes` are those of the fleet file.
pub(crate) fn changed(changes: &[Change], classes: &BTreeMap<ClassName, Class>) {
    for state in StateKind::ALL {
        let went = |change: &&Change| change.to == state && change.from != Some(state);
        let count = changes.iter().filter(went).count();
        if count > 0 {
            let count = u64::try_from(count).unwrap_or(u64::MAX);
            counter!(TRANSITIONS, "state" => state.name()).increment(count);
        }
    }
    for change in changes {
        if let Some(waited) = change.waited {
            // A job may be of a class that the fleet file no longer has: nothing is promised to it any more.
            if let Some(class) = classes.get(&change.class) {
                let promise = if waited <= class.max_wait { "kept" } else { "broken" };
                counter!(WAITS, "class" => change.class.to_string(), "promise" => promise)
                    .increment(1);
            }
            let (class, model) = (change.class.to_string(), change.lane.model.to_string());
            histogram!(WAIT_SECONDS, "class" => class, "model" => model)
                .record(waited.as_secs_f64());
        }
    }
}

pub(crate) fn computed(model: &str, busy: Duration) {
    histogram!(BUSY_SECONDS, "model" => model.to_owned()).record(busy.as_secs_f64());
}

pub(crate) fn published(confirmed: usize, unconfirmed: usize) {
    let count = |outcome: &'static str, messages: usize| {
        let messages = u64::try_from(messages).unwrap_or(u64::MAX);
        counter!(PUBLISHED, "outcome" => outcome).increment(messages);
    };
    count("confirmed", confirmed);
    count("unconfirmed", unconfirmed);
}

pub(crate) fn fenced(call: &'static str, reports: usize) {
    counter!(FENCED, "call" => call).increment(u64::try_from(reports).unwrap_or(u64::MAX));
}

pub(crate) fn registration_refused(reason: &'static str) {
    counter!(REGISTRATIONS_REFUSED, "reason" => reason).increment(1);
}

pub(crate) fn swept(jobs: u32) {
    counter!(SWEPT).increment(u64::from(jobs));
}

pub(crate) fn committed(calls: usize, took: Duration) {
    histogram!(COMMIT_SECONDS).record(took.as_secs_f64());
    histogram!(COMMIT_CALLS).record(u32::try_from(calls).map_or(f64::INFINITY, f64::from));
}

/// What a queue looked like a moment ago.
#[derive(Debug)]
pub(crate) struct QueueGauges<'a> {
    pub(crate) lane: &'a Lane,
    pub(crate) jobs: Vec<(StateKind, u64)>,
    pub(crate) oldest_wait: Duration,
    pub(crate) slots: u32,
}

pub(crate) fn queue(gauges: &QueueGauges<'_>) {
    let labels =
        || [("pool", gauges.lane.pool.to_string()), ("model", gauges.lane.model.to_string())];
    for (state, jobs) in &gauges.jobs {
        let [pool, model] = labels();
        gauge!(JOBS, &[pool, model, ("state", state.name().to_owned())]).set(approximate(*jobs));
    }
    gauge!(OLDEST_WAIT_SECONDS, &labels()).set(gauges.oldest_wait.as_secs_f64());
    gauge!(SLOTS, &labels()).set(f64::from(gauges.slots));
}

pub(crate) fn workers(state: WorkerState, workers: usize) {
    let workers = u32::try_from(workers).unwrap_or(u32::MAX);
    gauge!(WORKERS, "state" => state.name()).set(f64::from(workers));
}

/// What is promised, and that nothing was promised in vain yet: a ratio of counters needs both from the start.
pub(crate) fn promises(classes: &BTreeMap<ClassName, Class>) {
    for (name, class) in classes {
        gauge!(CLASS_OBJECTIVE_RATIO, "class" => name.to_string()).set(class.objective);
        for promise in ["kept", "broken"] {
            counter!(WAITS, "class" => name.to_string(), "promise" => promise).increment(0);
        }
    }
}

pub(crate) fn readiness(verdict: &Verdict) {
    let parts = [("store", &verdict.store_problem), ("broker", &verdict.broker_problem)];
    for (part, problem) in parts {
        gauge!(READY, "part" => part).set(if problem.is_none() { 1.0 } else { 0.0 });
    }
}

pub(crate) fn outbox(messages: u64) {
    gauge!(OUTBOX).set(approximate(messages));
}

pub(crate) fn free_disk(bytes: u64) {
    gauge!(FREE_DISK_BYTES).set(approximate(bytes));
}

/// A call came in.
pub(crate) fn call_began() {
    gauge!(RPCS_IN_FLIGHT).increment(1.0);
}

/// A call was answered, or its caller went away.
pub(crate) fn call_ended(method: &'static str, code: Code, took: Duration) {
    gauge!(RPCS_IN_FLIGHT).decrement(1.0);
    counter!(RPCS, "method" => method, "code" => code_name(code)).increment(1);
    histogram!(RPC_SECONDS, "method" => method).record(took.as_secs_f64());
}

pub(crate) fn stream_opened(kind: &'static str) {
    gauge!(STREAMS, "kind" => kind).increment(1.0);
}

pub(crate) fn stream_closed(kind: &'static str) {
    gauge!(STREAMS, "kind" => kind).decrement(1.0);
}

pub(crate) fn connection_opened() {
    gauge!(CONNECTIONS).increment(1.0);
}

pub(crate) fn connection_closed() {
    gauge!(CONNECTIONS).decrement(1.0);
}

#[expect(clippy::cast_precision_loss, reason = "gauges are floats; exact up to 2^53")]
fn approximate(number: u64) -> f64 {
    number as f64
}

const fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}
