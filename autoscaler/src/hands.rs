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
use tokio::task::{AbortHandle, JoinSet};

use crate::cloud::{
    CloudError, CloudProvider, ErrorClass, Launch, LaunchToken, Launched, Refusal, Terminated, Verb,
};
use crate::coordinator::Coordinator;

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
    calls: JoinSet<Vec<Outcome>>,
    /// The last call about a machine, until it has ended, in whatever way.
    busy: BTreeMap<MachineId, AbortHandle>,
    /// What was said last, and when.
    said: BTreeMap<MachineId, (Said, Instant)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Said {
    Resolve,
    Drain,
    Terminate,
}

/// A machine that is to end.
type End = (MachineId, InstanceName);

/// Calls that are made once for all machines of a region.
#[derive(Debug, Default)]
struct Region {
    ends: Vec<End>,
    /// To be looked for.
    sought: BTreeSet<MachineId>,
}

impl Hands {
    pub(crate) fn new(
        cloud: Arc<dyn CloudProvider>,
        coordinator: Coordinator,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let (busy, said) = (BTreeMap::new(), BTreeMap::new());
        Self { cloud, coordinator, clock, calls: JoinSet::new(), busy, said }
    }

    /// What came of calls that have ended since the last look.
    pub(crate) fn outcomes(&mut self) -> Vec<Outcome> {
        let mut outcomes = Vec::new();
        while let Some(ended) = self.calls.try_join_next() {
            match ended {
                Ok(came) => outcomes.extend(came),
                // As good as one without an answer: its entry is asked after.
                Err(error) => tracing::error!(%error, "a call ended without an outcome"),
            }
        }
        self.busy.retain(|_, call| !call.is_finished());
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
        let mut regions: BTreeMap<String, Region> = BTreeMap::new();
        let now = Instant::now();
        self.said.retain(|_, (_, at)| now.duration_since(*at) < SAY_AGAIN);
        for command in commands {
            let (machine, said) = about(&command);
            let repeated = said.is_some_and(|said| {
                self.said.get(&machine).is_some_and(|(before, _)| *before == said)
            });
            // A launch that stands in the ledger as asked for is asked for now, or only in a minute.
            let full = said.is_some() && self.calls.len() >= MOST_CALLS;
            if repeated || full || self.busy.contains_key(&machine) {
                continue;
            }
            let Some(entry) = entries.get(&machine) else { continue };
            if now >= until {
                tracing::warn!(%machine, "the lead has ended; its successor makes this call");
                return;
            }
            if let Some(said) = said {
                self.said.insert(machine, (said, now));
            }
            let call = match command {
                Command::Launch { .. } => self.launch(entry),
                Command::Drain { worker, deadline, .. } => {
                    // One for each GPU of the machine.
                    let all = entry.state.instance().and_then(|instance| workers.get(instance));
                    let all = all.cloned().unwrap_or_else(|| BTreeSet::from([worker]));
                    self.drain(machine, all, deadline)
                }
                Command::Resolve { .. } => {
                    let region = regions.entry(entry.order.region.clone()).or_default();
                    region.sought.insert(machine);
                    continue;
                }
                Command::Terminate { region, instance, .. } => {
                    regions.entry(region).or_default().ends.push((machine, instance));
                    continue;
                }
            };
            self.busy.insert(machine, call);
        }
        for (name, Region { ends, sought }) in regions {
            if !sought.is_empty() {
                self.resolve(&name, sought);
            }
            if !ends.is_empty() {
                self.terminate(name, ends);
            }
        }
    }

    fn launch(&mut self, entry: &Entry) -> AbortHandle {
        let (cloud, machine, order) = (Arc::clone(&self.cloud), entry.id, entry.order.clone());
        self.calls.spawn(async move { vec![launch(&*cloud, machine, &order).await] })
    }

    fn drain(
        &mut self,
        machine: MachineId,
        workers: BTreeSet<WorkerId>,
        deadline: Timestamp,
    ) -> AbortHandle {
        let coordinator = self.coordinator.clone();
        let within = deadline.since(self.clock.now());
        self.calls.spawn(async move { drain(&coordinator, machine, workers, within).await })
    }

    fn resolve(&mut self, region: &str, sought: BTreeSet<MachineId>) {
        let (cloud, region, asked_at) =
            (Arc::clone(&self.cloud), region.to_owned(), self.clock.now());
        let about = sought.clone();
        let call =
            self.calls.spawn(async move { resolve(&*cloud, &region, &sought, asked_at).await });
        self.busy.extend(about.into_iter().map(|machine| (machine, call.clone())));
    }

    fn terminate(&mut self, region: String, ends: Vec<End>) {
        let cloud = Arc::clone(&self.cloud);
        let about: Vec<MachineId> = ends.iter().map(|(machine, _)| *machine).collect();
        let call = self.calls.spawn(async move { terminate(&*cloud, &region, ends).await });
        self.busy.extend(about.into_iter().map(|machine| (machine, call.clone())));
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

/// Looks for all of them in one list.
async fn resolve(
    cloud: &dyn CloudProvider,
    region: &str,
    sought: &BTreeSet<MachineId>,
    asked_at: Timestamp,
) -> Vec<Outcome> {
    let not_done = |class: Failure, why: &str| -> Vec<Outcome> {
        let outcome = |machine: &MachineId| Outcome::NotDone {
            machine: *machine,
            class,
            why: why.to_owned(),
        };
        sought.iter().map(outcome).collect()
    };
    let Ok(name) = RegionName::new(region) else {
        return not_done(Failure::Invalid, &format!("there is no region `{region}`"));
    };
    match crash::around("resolve", cloud.list(&name)).await {
        Ok(machines) => {
            let mut found: BTreeMap<MachineId, (InstanceName, Timestamp)> = BTreeMap::new();
            for machine in machines.into_iter().rev() {
                let id = machine.token().and_then(|token| token.as_str().parse().ok());
                if let Some(id) = id {
                    found.insert(id, (machine.name, machine.launched_at));
                }
            }
            let outcome = |machine: &MachineId| Outcome::Resolved {
                machine: *machine,
                found: found.remove(machine),
                asked_at,
            };
            sought.iter().map(outcome).collect()
        }
        Err(error) => not_done(failure(error.class), &error.to_string()),
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
    use stoker_core::fleet::CapacityType;
    use stoker_core::fleet::ledger::State;
    use stoker_core::ids::{Epoch, FleetName, OfferingName, PoolName};
    use stoker_core::money::{HourlyPrice, Money};
    use stoker_runtime::clock::SystemClock;

    use super::*;
    use crate::cloud::memory::{MemoryCloud, MemoryConfig};

    fn machine() -> MachineId {
        MachineId::from_bytes([7; 16])
    }

    fn cloud() -> MemoryCloud {
        let config = MemoryConfig {
            regions: vec![RegionName::new("us-east-1").unwrap()],
            stock: BTreeMap::new(),
            types: BTreeMap::new(),
            quotas: BTreeMap::new(),
            boot: Duration::ZERO,
            stop: Duration::ZERO,
            lag: Duration::ZERO,
            seed: 1,
        };
        MemoryCloud::new(config, Arc::new(SystemClock::new()))
    }

    fn requested(number: u8) -> Entry {
        let order = Order {
            pool: PoolName::new("default").unwrap(),
            offering: OfferingName::new("g5.us-east-1a.spot").unwrap(),
            provider: "memory".to_owned(),
            region: "us-east-1".to_owned(),
            zone: "us-east-1a".to_owned(),
            instance_type: "g5".to_owned(),
            capacity: CapacityType::Spot,
            price: HourlyPrice::new(Money::from_micros(1)),
            template: String::new(),
            reason: String::new(),
        };
        let id = MachineId::from_bytes([number; 16]);
        let entry = Entry::intended(id, Epoch::new(1), order, Timestamp::default());
        Entry { state: State::Requested { calls: 1 }, ..entry }
    }

    #[tokio::test]
    async fn machines_of_a_region_are_looked_for_in_one_list() {
        let cloud = cloud();
        let provider = Arc::new(cloud.provider(FleetName::new("x").unwrap()));
        let coordinator = Coordinator::new("http://127.0.0.1:1", None).unwrap();
        let mut hands = Hands::new(provider, coordinator, Arc::new(SystemClock::new()));
        let entries: BTreeMap<MachineId, Entry> =
            (0..40).map(requested).map(|entry| (entry.id, entry)).collect();
        let commands = entries.keys().map(|machine| Command::Resolve { machine: *machine });
        let until = Instant::now() + Duration::from_mins(1);
        hands.start(commands.collect(), &entries, &BTreeMap::new(), until);
        hands.finish(Duration::from_mins(1)).await;
        assert_eq!(cloud.calls(Verb::List), 1);
        hands.outcomes();
        assert!(hands.busy.is_empty());
    }

    #[tokio::test]
    async fn a_call_that_panics_leaves_its_machine_free_for_the_next() {
        let provider = Arc::new(cloud().provider(FleetName::new("x").unwrap()));
        let coordinator = Coordinator::new("http://127.0.0.1:1", None).unwrap();
        let mut hands = Hands::new(provider, coordinator, Arc::new(SystemClock::new()));
        let call = hands.calls.spawn(async { panic!("a bug in a call") });
        hands.busy.insert(machine(), call);
        // Another one goes on meanwhile.
        let other = hands.calls.spawn(std::future::pending());
        hands.busy.insert(MachineId::from_bytes([8; 16]), other);
        while hands.busy.len() > 1 {
            tokio::task::yield_now().await;
            assert_eq!(hands.outcomes(), []);
        }
        assert!(!hands.busy.contains_key(&machine()));
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
