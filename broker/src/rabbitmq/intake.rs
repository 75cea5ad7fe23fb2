//! From hints to runs, and from waiting runs to a lane's next window.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lapin::types::{AMQPValue, FieldTable};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use super::gate::{Admission, Gate};
use crate::error::PublishError;
use crate::message::{Hint, Queue};
use crate::topology::Topology;
use crate::wire;

pub(super) type Outcomes = Vec<Result<(), PublishError>>;

/// A hint ready for the wire.
#[derive(Debug)]
pub(super) struct Outgoing {
    pub(super) queue: Queue,
    pub(super) routing_key: String,
    pub(super) message_id: String,
    pub(super) body: Vec<u8>,
    pub(super) headers: FieldTable,
}

impl Outgoing {
    /// The message id is unique per publish, so that a returned one can't be mistaken.
    pub(super) fn new(hint: Hint, topology: &Topology) -> Self {
        static PUBLISHES: AtomicU64 = AtomicU64::new(0);
        let number = PUBLISHES.fetch_add(1, Ordering::Relaxed);
        let mut headers = FieldTable::default();
        for (name, value) in wire::carried(&hint.trace) {
            headers.insert(name.into(), AMQPValue::LongString(value.into()));
        }
        Self {
            routing_key: topology.routing_key(&hint.queue),
            message_id: format!("{}:{}:{number}", hint.job, hint.seq.number()),
            body: wire::encode(&hint),
            headers,
            queue: hint.queue,
        }
    }
}

/// A short run of hints that stays together and in order.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) messages: Vec<Outgoing>,
    pub(super) company: Company,
    pub(super) done: oneshot::Sender<Outcomes>,
}

/// Whether a run may share a window with others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Company {
    Any,
    /// It tries a queue that did not confirm before.
    Alone,
}

/// Which hints of one call go out, in what runs, by their places in the call.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Split {
    pub(super) runs: Vec<(Company, Vec<usize>)>,
    /// Hints for queues that are stuck.
    pub(super) refused: Vec<usize>,
}

/// Splits a call's hints into runs of at most `run_length`, in order; a trial is one run alone.
pub(super) fn split(
    hints: &[Hint],
    run_length: usize,
    mut admit: impl FnMut(&Queue) -> Admission,
) -> Split {
    let mut admissions: BTreeMap<&Queue, Admission> = BTreeMap::new();
    let mut open = Vec::with_capacity(hints.len());
    let mut trials: BTreeMap<&Queue, Vec<usize>> = BTreeMap::new();
    let mut refused = Vec::new();
    for (place, hint) in hints.iter().enumerate() {
        let queue = &hint.queue;
        match admissions.entry(queue).or_insert_with(|| admit(queue)) {
            Admission::Open => open.push(place),
            Admission::Closed => refused.push(place),
            Admission::Trial => {
                let trial = trials.entry(queue).or_default();
                if trial.len() < run_length { trial.push(place) } else { refused.push(place) }
            }
        }
    }
    let mut runs: Vec<(Company, Vec<usize>)> =
        open.chunks(run_length).map(|run| (Company::Any, run.to_vec())).collect();
    runs.extend(trials.into_values().map(|trial| (Company::Alone, trial)));
    Split { runs, refused }
}

/// Where runs wait for a lane.
#[derive(Debug)]
pub(super) struct Intake {
    waiting: tokio::sync::Mutex<Waiting>,
    gate: Mutex<Gate>,
    pub(super) exchange: String,
    pub(super) publish_timeout: Duration,
    /// Most messages of a window.
    window: usize,
    /// Grows when something that should exist on the broker does not.
    missing: watch::Sender<u64>,
}

#[derive(Debug)]
struct Waiting {
    runs: mpsc::Receiver<Run>,
    /// Taken out, but for the next window.
    next: Option<Run>,
}

impl Intake {
    pub(super) fn new(
        runs: mpsc::Receiver<Run>,
        exchange: String,
        publish_timeout: Duration,
        window: usize,
    ) -> Self {
        Self {
            waiting: tokio::sync::Mutex::new(Waiting { runs, next: None }),
            gate: Mutex::new(Gate::default()),
            exchange,
            publish_timeout,
            window,
            missing: watch::Sender::new(0),
        }
    }

    pub(super) fn gate(&self) -> MutexGuard<'_, Gate> {
        self.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn admit(&self, queue: &Queue) -> Admission {
        self.gate().admit(queue, Instant::now(), self.publish_timeout)
    }

    pub(super) fn something_is_missing(&self) {
        self.missing.send_modify(|count| *count += 1);
    }

    /// Changes when [`Intake::something_is_missing`] is called.
    pub(super) fn missing(&self) -> watch::Receiver<u64> {
        self.missing.subscribe()
    }

    /// The next window: the runs that wait, as many as fit. Cancel-safe: nothing is awaited after
    /// the first run is taken.
    pub(super) async fn next_window(&self) -> Option<Vec<Run>> {
        let mut waiting = self.waiting.lock().await;
        let first = match waiting.next.take() {
            Some(next) => next,
            None => waiting.runs.recv().await?,
        };
        let mut taken = first.messages.len();
        let mut window = vec![first];
        while window[0].company == Company::Any {
            let Ok(run) = waiting.runs.try_recv() else { break };
            taken += run.messages.len();
            if run.company == Company::Alone || taken > self.window {
                waiting.next = Some(run);
                break;
            }
            window.push(run);
        }
        Some(window)
    }
}

#[cfg(test)]
mod tests {
    use stoker_core::ids::{DispatchSeq, FleetName, JobId, ModelName, PoolName};
    use uuid::Uuid;

    use super::*;

    fn hint(model: &str) -> Hint {
        let queue =
            Queue { pool: PoolName::new("cpu").unwrap(), model: ModelName::new(model).unwrap() };
        let job = JobId::from_uuid(Uuid::nil());
        Hint { job, seq: DispatchSeq::new(1), queue, trace: Vec::new() }
    }

    #[test]
    fn runs_keep_order_and_a_trial_is_short_and_alone() {
        let hints: Vec<Hint> =
            ["a", "trial", "b", "shut", "a", "trial", "trial", "a"].map(hint).to_vec();
        let mut asked = Vec::new();
        let split = split(&hints, 2, |queue| {
            asked.push(queue.model.to_string());
            match queue.model.as_str() {
                "trial" => Admission::Trial,
                "shut" => Admission::Closed,
                _ => Admission::Open,
            }
        });
        assert_eq!(asked, ["a", "trial", "b", "shut"], "each queue is asked once");
        let expected = vec![
            (Company::Any, vec![0, 2]),
            (Company::Any, vec![4, 7]),
            (Company::Alone, vec![1, 5]),
        ];
        assert_eq!(split, Split { runs: expected, refused: vec![3, 6] });
        assert_eq!(super::split(&[], 2, |_| Admission::Open), Split::default());
    }

    #[tokio::test]
    async fn a_window_takes_what_fits_and_never_mixes_a_trial() {
        let topology = Topology::new(&FleetName::new("f").unwrap());
        let (tx, rx) = mpsc::channel(10);
        let intake = Intake::new(rx, "x".to_owned(), Duration::from_secs(1), 64);
        for (company, length) in [
            (Company::Any, 32),
            (Company::Any, 31),
            (Company::Any, 2),
            (Company::Alone, 1),
            (Company::Any, 5),
        ] {
            let messages = (0..length).map(|_| Outgoing::new(hint("m"), &topology)).collect();
            let (done, _) = oneshot::channel();
            tx.send(Run { messages, company, done }).await.unwrap();
        }
        drop(tx);
        let mut windows = Vec::new();
        while let Some(window) = intake.next_window().await {
            windows.push(window.iter().map(|run| run.messages.len()).collect::<Vec<_>>());
        }
        assert_eq!(windows, [vec![32, 31], vec![2], vec![1], vec![5]]);
    }
}
