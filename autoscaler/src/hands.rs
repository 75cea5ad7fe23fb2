//! The calls that a step decided on, carried out at the same time and in the background.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use stoker_core::fleet::Offering;
use stoker_core::fleet::execute::{Command, Outcome};
use stoker_core::fleet::ledger::{Entry, Failure, Order};
use stoker_core::ids::{InstanceName, MachineId, RegionName, WorkerId};
use stoker_core::time::Timestamp;
use stoker_runtime::clock::Clock;
use stoker_runtime::crash;
use tokio::task::JoinSet;

use crate::cloud::{
    CloudError, CloudProvider, ErrorClass, Launch, LaunchToken, Launched, Refusal, Terminated, Verb,
};
use crate::coordinator::Coordinator;
use crate::metrics;

/// The same thing is not said to the same machine more often.
const SAY_AGAIN: Duration = Duration::from_secs(5);
/// Calls under way.
const MOST_CALLS: usize = 64;

/// What makes calls.
#[derive(Debug)]
pub(crate) struct Hands {
    cloud: Arc<dyn CloudProvider>,
    coordinator: Coordinator,
    clock: Arc<dyn Clock>,
    calls: JoinSet<Done>,
    /// Whom a call under way is about.
    busy: BTreeSet<MachineId>,
    /// What was said last, and when.
    said: BTreeMap<MachineId, (Said, Instant)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Said {
    Resolve,
    Drain,
    Terminate,
}

/// A call that has ended: whom it was about, and what came of it.
#[derive(Debug)]
struct Done {
    about: Vec<MachineId>,
    outcomes: Vec<Outcome>,
}

/// A machine that is to end.
type End = (MachineId, InstanceName);

impl Hands {
    pub(crate) fn new(
        cloud: Arc<dyn CloudProvider>,
        coordinator: Coordinator,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let (busy, said) = (BTreeSet::new(), BTreeMap::new());
        Self { cloud, coordinator, clock, calls: JoinSet::new(), busy, said }
    }

    /// What came of calls that have ended since the last look.
    pub(crate) fn outcomes(&mut self) -> Vec<Outcome> {
        let mut outcomes = Vec::new();
        while let Some(ended) = self.calls.try_join_next() {
            // A call that panicked is as good as one without an answer: its entry is asked after.
            let Ok(done) = ended else { continue };
            for machine in done.about {
                self.busy.remove(&machine);
            }
            outcomes.extend(done.outcomes);
        }
        if self.calls.is_empty() {
            self.busy.clear();
        }
        outcomes
    }

    /// Starts the calls of a step that was written. `entries` are those of the ledger with its writes, `workers` those of
    /// each machine. None is made after `until`; nor is one that is under way or was made a moment ago.
    pub(crate) fn start(
        &mut self,
        commands: Vec<Command>,
        entries: &BTreeMap<MachineId, Entry>,
        workers: &BTreeMap<InstanceName, BTreeSet<WorkerId>>,
        until: Instant,
    ) {
        let mut ends: BTreeMap<String, Vec<End>> = BTreeMap::new();
        let now = Instant::now();
        self.said.retain(|_, (_, at)| now.duration_since(*at) < SAY_AGAIN);
        for command in commands {
            let (machine, said) = about(&command);
            let repeated = said.is_some_and(|said| {
                self.said.get(&machine).is_some_and(|(before, _)| *before == said)
            });
            // A launch that stands in the ledger as asked for is asked for now, or only in a minute.
            let full = said.is_some() && self.calls.len() >= MOST_CALLS;
            if repeated || full || self.busy.contains(&machine) {
                continue;
            }
            let Some(entry) = entries.get(&machine) else { continue };
            if now >= until {
                tracing::warn!(%machine, "the lead has ended; its successor makes this call");
                return;
            }
            self.busy.insert(machine);
            if let Some(said) = said {
                self.said.insert(machine, (said, now));
            }
            self.begin(command, entry, workers, &mut ends);
        }
        for (region, ends) in ends {
            let cloud = Arc::clone(&self.cloud);
            let about = ends.iter().map(|(machine, _)| *machine).collect();
            self.calls.spawn(async move {
                Done { about, outcomes: terminate(&*cloud, &region, ends).await }
            });
        }
    }

    fn begin(
        &mut self,
        command: Command,
        entry: &Entry,
        workers: &BTreeMap<InstanceName, BTreeSet<WorkerId>>,
        ends: &mut BTreeMap<String, Vec<End>>,
    ) {
        let cloud = Arc::clone(&self.cloud);
        let machine = entry.id;
        let done = move |outcomes| Done { about: vec![machine], outcomes };
        match command {
            Command::Launch { .. } => {
                metrics::launch_asked(&entry.order);
                let order = entry.order.clone();
                self.calls.spawn(async move { done(vec![launch(&*cloud, machine, &order).await]) });
            }
            Command::Resolve { .. } => {
                let (region, asked_at) = (entry.order.region.clone(), self.clock.now());
                self.calls.spawn(async move {
                    done(vec![resolve(&*cloud, machine, &region, asked_at).await])
                });
            }
            Command::Drain { worker, deadline, .. } => {
                // One for each GPU of the machine.
                let all = entry.state.instance().and_then(|instance| workers.get(instance));
                let all = all.cloned().unwrap_or_else(|| BTreeSet::from([worker]));
                let coordinator = self.coordinator.clone();
                let within = deadline.since(self.clock.now());
                self.calls
                    .spawn(async move { done(drain(&coordinator, machine, all, within).await) });
            }
            Command::Terminate { region, instance, .. } => {
                ends.entry(region).or_default().push((machine, instance));
            }
        }
    }

    /// Waits for the calls under way, so that their outcome is known to the cloud's own records at least.
    pub(crate) async fn finish(&mut self, limit: Duration) {
        let all = async { while self.calls.join_next().await.is_some() {} };
        if tokio::time::timeout(limit, all).await.is_err() {
            tracing::warn!("calls to the cloud did not end in time; the ledger knows of them");
        }
    }
}

fn about(command: &Command) -> (MachineId, Option<Said>) {
    match command {
        Command::Launch { machine } => (*machine, None),
        Command::Resolve { machine } => (*machine, Some(Said::Resolve)),
        Command::Drain { machine, .. } => (*machine, Some(Said::Drain)),
        Command::Terminate { machine, .. } => (*machine, Some(Said::Terminate)),
    }
}

async fn launch(cloud: &dyn CloudProvider, machine: MachineId, order: &Order) -> Outcome {
    let token = LaunchToken::new(&machine.to_string()).expect("a UUID is a launch token");
    // As the entry says, not as the fleet file says by now: a repetition must be the same launch.
    let offering = Offering {
        instance_type: order.instance_type.clone(),
        zone: order.zone.clone(),
        capacity: order.capacity,
        price: order.price,
        speed: 1.0,
        bulk_speed: 1.0,
    };
    let launch = Launch {
        token,
        pool: order.pool.clone(),
        template: Some(order.template.clone()),
        offerings: BTreeMap::from([(order.offering.clone(), offering)]),
        count: 1,
        tags: BTreeMap::new(),
    };
    launched(machine, crash::around("launch", cloud.launch(&launch)).await)
}

fn launched(machine: MachineId, answer: Result<Launched, CloudError>) -> Outcome {
    match answer {
        Ok(Launched { machines, refusals }) => {
            if let Some(found) = machines.into_iter().next() {
                let (instance, launched_at) = (found.name, found.launched_at);
                return Outcome::Launched { machine, instance, launched_at };
            }
            let refusal = refusals.into_iter().next();
            let error = refusal.map_or_else(no_reason, |Refusal { error, .. }| error);
            Outcome::Refused { machine, class: failure(error.class), why: error.to_string() }
        }
        Err(error) if error.class == ErrorClass::Unknown => {
            Outcome::Unsure { machine, why: error.to_string() }
        }
        Err(error) => {
            Outcome::Refused { machine, class: failure(error.class), why: error.to_string() }
        }
    }
}

fn no_reason() -> CloudError {
    let message = "no machine, and no reason why";
    CloudError::new(ErrorClass::Transient, Verb::Launch, message)
}

/// In the ledger's words.
fn failure(class: ErrorClass) -> Failure {
    match class {
        ErrorClass::Capacity => Failure::Capacity,
        ErrorClass::Quota => Failure::Quota,
        ErrorClass::Throttle => Failure::Throttled,
        ErrorClass::Auth => Failure::Auth,
        ErrorClass::Invalid => Failure::Invalid,
        ErrorClass::Transient => Failure::Transient,
        ErrorClass::Unknown => Failure::Unknown,
    }
}

async fn resolve(
    cloud: &dyn CloudProvider,
    machine: MachineId,
    region: &str,
    asked_at: Timestamp,
) -> Outcome {
    let not_done = |class, why: String| Outcome::NotDone { machine, class, why };
    let Ok(name) = RegionName::new(region) else {
        return not_done(Failure::Invalid, format!("there is no region `{region}`"));
    };
    match crash::around("resolve", cloud.list(&name)).await {
        Ok(machines) => {
            let token = machine.to_string();
            let ours = machines
                .into_iter()
                .find(|found| found.token().is_some_and(|launch| launch.as_str() == token));
            let found = ours.map(|found| (found.name, found.launched_at));
            Outcome::Resolved { machine, found, asked_at }
        }
        Err(error) => not_done(failure(error.class), error.to_string()),
    }
}

async fn drain(
    coordinator: &Coordinator,
    machine: MachineId,
    workers: BTreeSet<WorkerId>,
    within: Duration,
) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    for worker in workers {
        if let Err(error) = crash::around("drain", coordinator.drain(worker, within)).await {
            let (class, why) = (Failure::Transient, error.to_string());
            outcomes.push(Outcome::NotDone { machine, class, why });
        }
    }
    outcomes
}

async fn terminate(cloud: &dyn CloudProvider, region: &str, ends: Vec<End>) -> Vec<Outcome> {
    let not_done = |machine, class, why| Outcome::NotDone { machine, class, why };
    let Ok(name) = RegionName::new(region) else {
        let why = format!("there is no region `{region}`");
        return ends
            .into_iter()
            .map(|(machine, _)| not_done(machine, Failure::Invalid, why.clone()))
            .collect();
    };
    let names = ends.iter().map(|(_, instance)| instance.clone()).collect();
    let mut answers = crash::around("terminate", cloud.terminate(&name, &names)).await;
    let outcome = |(machine, instance): End| match answers.remove(&instance) {
        // What is not found is missing in the next lists, too, and judged by them.
        Some(Ok(Terminated::Accepted | Terminated::NotFound)) => None,
        Some(Err(error)) => Some(not_done(machine, failure(error.class), error.to_string())),
        None => Some(not_done(machine, Failure::Unknown, "no answer about it".to_owned())),
    };
    ends.into_iter().filter_map(outcome).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine() -> MachineId {
        MachineId::from_bytes([7; 16])
    }

    #[test]
    fn a_lost_answer_leaves_a_launch_in_doubt_and_a_refusal_ends_it() {
        let error = |class| CloudError::new(class, Verb::Launch, "m");
        let outcome = |class| launched(machine(), Err(error(class)));
        assert!(matches!(outcome(ErrorClass::Unknown), Outcome::Unsure { .. }));
        for (class, expected) in [
            (ErrorClass::Capacity, Failure::Capacity),
            (ErrorClass::Auth, Failure::Auth),
            (ErrorClass::Throttle, Failure::Throttled),
        ] {
            let Outcome::Refused { class, .. } = outcome(class) else { panic!("{class:?}") };
            assert_eq!(class, expected);
        }
        let refusal = Refusal { offerings: [].into(), error: error(ErrorClass::Quota) };
        let nothing = Launched { machines: Vec::new(), refusals: vec![refusal] };
        let Outcome::Refused { class, .. } = launched(machine(), Ok(nothing)) else { panic!() };
        assert_eq!(class, Failure::Quota);
    }
}
