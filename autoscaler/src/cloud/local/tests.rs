use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use stoker_core::fleet::{CapacityType, Interruptions, Local as LocalSettings, Offering};
use stoker_core::ids::{FleetName, InstanceName, OfferingName, PoolName, RegionName};
use stoker_core::money::{HourlyPrice, Money};
use stoker_runtime::child::ChildPlan;
use stoker_runtime::clock::{Clock as _, SystemClock};
use stoker_runtime::tasks::Tasks;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::book::Book;
use super::process::ProcessId;
use super::{Local, LocalConfig};
use crate::cloud::contract::{ENOUGH, Harness, PATIENCE, Support};
use crate::cloud::memory::Fault;
use crate::cloud::{
    CloudProvider, ErrorClass, Launch, LaunchToken, Machine, MachineState, Terminated, Verb, owner,
};

/// Ends with its input, as workers do.
const FAITHFUL: &str = "exec cat";
/// Ends with nothing but a kill.
const STUBBORN: &str = "trap '' TERM; while :; do sleep 1; done";

struct Stage {
    local: Local,
    folder: TempDir,
}

impl Stage {
    async fn set(worker: &str) -> Self {
        Self::with(worker, |config| config).await
    }

    async fn with(worker: &str, change: impl FnOnce(LocalConfig) -> LocalConfig) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = change(config(folder.path(), worker));
        let tasks = Tasks::new(CancellationToken::new());
        let local = Local::start(config, Arc::new(SystemClock::new()), &tasks).await.unwrap();
        Self { local, folder }
    }

    fn launch(count: u32) -> Launch {
        let mut offerings = offerings();
        offerings.retain(|_, offering| offering.capacity == CapacityType::Spot);
        let token = stoker_runtime::ids::event_id().to_string();
        Launch {
            token: LaunchToken::new(&token).unwrap(),
            pool: PoolName::new("p").unwrap(),
            template: None,
            offerings,
            count,
            tags: BTreeMap::new(),
        }
    }

    async fn list(&self) -> Vec<Machine> {
        self.local.list(&region()).await.unwrap()
    }

    async fn until(&self, state: MachineState) -> Vec<Machine> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let machines = self.list().await;
            if machines.iter().all(|machine| machine.state == state) {
                return machines;
            }
            assert!(Instant::now() < deadline, "waited for {state:?}: {machines:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Waits until the worker of a machine has written a whole line.
    async fn said(&self, name: &InstanceName) -> String {
        let log = self.folder.path().join("logs").join(format!("{name}.log"));
        let deadline = Instant::now() + PATIENCE;
        loop {
            let text = std::fs::read_to_string(&log).unwrap_or_default();
            if text.ends_with('\n') {
                return text;
            }
            assert!(Instant::now() < deadline, "the worker says something: {text}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

fn region() -> RegionName {
    RegionName::new("local").unwrap()
}

fn config(folder: &Path, worker: &str) -> LocalConfig {
    let settings =
        LocalSettings { boot: Duration::from_millis(20), capacity: ENOUGH, interruptions: None };
    LocalConfig {
        fleet: FleetName::new("f").unwrap(),
        settings,
        offerings: offerings(),
        folder: folder.to_owned(),
        worker: ChildPlan {
            program: "/bin/sh".into(),
            arguments: vec!["-c".into(), worker.into()],
            environment: Vec::new(),
        },
        grace: Duration::from_secs(10),
        seed: 1,
    }
}

fn offerings() -> BTreeMap<OfferingName, Offering> {
    let kinds = [
        ("local-a", CapacityType::Spot, 30),
        ("local-b", CapacityType::Spot, 40),
        ("local-a", CapacityType::OnDemand, 100),
    ];
    let offering = |(zone, capacity, cents): (&str, CapacityType, i64)| {
        let name = format!("small.{zone}.{}", capacity.as_str());
        let offering = Offering {
            instance_type: "small".to_owned(),
            zone: zone.to_owned(),
            capacity,
            price: HourlyPrice::new(Money::from_micros(cents * 10_000)),
            speed: 1.0,
            bulk_speed: 1.0,
        };
        (OfferingName::new(&name).unwrap(), offering)
    };
    kinds.into_iter().map(offering).collect()
}

#[async_trait]
impl Harness for Stage {
    fn cloud(&self) -> &dyn CloudProvider {
        &self.local
    }

    fn stranger(&self) -> Option<&dyn CloudProvider> {
        None
    }

    fn offerings(&self) -> BTreeMap<OfferingName, Offering> {
        offerings()
    }

    async fn leave(&self, count: u32) -> Support {
        // The rest is taken by somebody else.
        let others = Launch { count: 2 * ENOUGH - count, ..Self::launch(1) };
        self.local.launch(&others).await.unwrap();
        Support::Done
    }

    async fn fail_next(&self, _verb: Verb, _fault: Fault) -> Support {
        Support::Impossible
    }

    async fn interrupt(&self, name: &InstanceName) -> Support {
        assert!(self.local.interrupt(name, None), "{name} is there");
        Support::Done
    }

    async fn pass(&self) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

crate::cloud_contract!(Stage::set(FAITHFUL));

#[tokio::test]
async fn a_worker_learns_its_pool_and_hears_of_its_interruption() {
    let script = "echo \"$STOKER_POOL $STOKER_SPOOL $STOKER_IMDS $STOKER_INSTANCE\"; exec cat";
    let stage = Stage::set(script).await;
    let launched = stage.local.launch(&Stage::launch(1)).await.unwrap();
    let name = &launched.machines[0].name;
    let said = stage.said(name).await;
    let words: Vec<&str> = said.split_whitespace().collect();
    let spool = stage.folder.path().join("spools").join(name.as_str());
    assert_eq!(words[..2], ["p", spool.to_str().unwrap()]);
    assert_eq!(words[3], name.as_str());
    let imds = words[2].strip_prefix("http://").unwrap();

    let token =
        ask(imds, "PUT /latest/api/token", "x-aws-ec2-metadata-token-ttl-seconds: 60").await;
    let header = format!("x-aws-ec2-metadata-token: {}", token.1);
    let get = |path: &str| format!("GET /latest/meta-data/{path}");
    assert_eq!(ask(imds, &get("instance-id"), &header).await, (200, name.to_string()));
    assert_eq!(ask(imds, &get("instance-id"), "x-other: 1").await.0, 401, "no token");
    assert_eq!(ask(imds, &get("spot/instance-action"), &header).await.0, 404);
    assert!(stage.local.interrupt(name, Some(Duration::from_secs(1))));
    let deadline = Instant::now() + PATIENCE;
    let notice = loop {
        // The order is on its way.
        let (status, document) = ask(imds, &get("spot/instance-action"), &header).await;
        if status == 200 {
            break document;
        }
        assert!(Instant::now() < deadline, "a notice comes");
    };
    assert!(notice.starts_with(r#"{"action":"terminate","time":"2"#), "{notice}");
    stage.until(MachineState::Terminated).await;
}

/// Status and body of an answer.
async fn ask(address: &str, what: &str, header: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("{what} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{header}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let status = answer.split_whitespace().nth(1).unwrap().parse().unwrap();
    (status, answer.split_once("\r\n\r\n").unwrap().1.to_owned())
}

#[tokio::test]
async fn an_ended_worker_may_say_goodbye() {
    let script = "trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.02; done";
    let stage = Stage::set(script).await;
    let launched = stage.local.launch(&Stage::launch(1)).await.unwrap();
    let name = launched.machines[0].name.clone();
    stage.said(&name).await;
    let ends = stage.local.terminate(&region(), &BTreeSet::from([name.clone()])).await;
    assert_eq!(ends[&name], Ok(Terminated::Accepted));
    assert_ne!(stage.list().await[0].state, MachineState::Running);
    stage.until(MachineState::Terminated).await;
    assert_eq!(stage.said(&name).await, "up\nbye\n");
}

#[tokio::test]
async fn a_worker_that_does_not_go_is_killed_when_its_time_is_up() {
    let grace = Duration::from_millis(50);
    let stage = Stage::with(STUBBORN, |config| LocalConfig { grace, ..config }).await;
    let launched = stage.local.launch(&Stage::launch(1)).await.unwrap();
    stage.until(MachineState::Running).await;
    let name = launched.machines[0].name.clone();
    stage.local.terminate(&region(), &BTreeSet::from([name])).await;
    stage.until(MachineState::Terminated).await;
}

#[tokio::test]
async fn a_worker_that_cannot_be_started_leaves_no_machine() {
    let stage = Stage::with("", |mut config| {
        config.worker.program = "/no/such/program".into();
        config
    })
    .await;
    stage.local.launch(&Stage::launch(2)).await.unwrap();
    assert_eq!(stage.until(MachineState::Terminated).await.len(), 2);
}

#[tokio::test]
async fn spot_machines_are_taken_back_by_chance_and_others_stay() {
    let stage = Stage::with(FAITHFUL, |mut config| {
        config.settings.interruptions = Some(Interruptions {
            every: Duration::from_millis(30),
            notice: Duration::from_millis(10),
            silent: 0.5,
        });
        config
    })
    .await;
    let mut offerings = offerings();
    offerings.retain(|_, offering| offering.capacity == CapacityType::OnDemand);
    let stays = Launch { offerings, ..Stage::launch(1) };
    stage.local.launch(&stays).await.unwrap();
    stage.local.launch(&Stage::launch(6)).await.unwrap();
    let deadline = Instant::now() + PATIENCE;
    loop {
        let machines = stage.list().await;
        let live: Vec<_> = machines.iter().filter(|machine| machine.state.is_live()).collect();
        if let [last] = live.as_slice() {
            assert_eq!(last.capacity, CapacityType::OnDemand);
            return;
        }
        assert!(Instant::now() < deadline, "{machines:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn workers_end_with_the_provider() {
    let stage = Stage::set(FAITHFUL).await;
    stage.local.launch(&Stage::launch(3)).await.unwrap();
    stage.until(MachineState::Running).await;
    stage.local.close(PATIENCE).await.unwrap();
    let config = config(stage.folder.path(), FAITHFUL);
    let tasks = Tasks::new(CancellationToken::new());
    let again = Local::start(config, Arc::new(SystemClock::new()), &tasks).await.unwrap();
    let states: Vec<_> = again.list(&region()).await.unwrap().iter().map(|m| m.state).collect();
    assert_eq!(states, [MachineState::Terminated; 3]);
}

#[tokio::test]
async fn a_provider_that_is_started_again_knows_what_it_launched() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(folder.path(), FAITHFUL);
    config.grace = Duration::from_millis(300);
    let clock = SystemClock::new();
    let launch = Stage::launch(2);
    // What a provider leaves behind that is killed when one of two workers has been started.
    let mut orphan = std::process::Command::new("/bin/sh");
    // What it started itself outlives it by a moment, and holds nothing of the test's.
    orphan.args(["-c", STUBBORN]).stdout(Stdio::null()).stderr(Stdio::null());
    let mut orphan = orphan.spawn().unwrap();
    let process = ProcessId::of(orphan.id());
    assert!(process.is_some());
    let (book, left) = Book::open(folder.path(), clock.now()).unwrap();
    assert_eq!(left, []);
    let stock = config.offerings.iter().map(|(name, it)| (name.clone(), (it.clone(), 9))).collect();
    let tags = owner::tags(&config.fleet, &launch.pool, &launch.token, &launch.tags);
    let (asked, now) = (launch.clone(), clock.now());
    let first = Arc::new(book)
        .with(move |pages| {
            let (launched, _) = pages.launch(&asked, &stock, &tags, now).unwrap();
            pages.started(&launched.machines[0].name, process);
            launched
        })
        .await
        .unwrap();

    let tasks = Tasks::new(CancellationToken::new());
    let local = Local::start(config, Arc::new(clock), &tasks).await.unwrap();
    let stage = Stage { local, folder };
    let state_of = |machines: &[Machine], at: usize| {
        machines.iter().find(|machine| machine.name == first.machines[at].name).unwrap().state
    };
    let listed = stage.list().await;
    assert_eq!(state_of(&listed, 0), MachineState::Stopping, "its worker is still there");
    assert_eq!(state_of(&listed, 1), MachineState::Terminated, "it never had one");
    let again = stage.local.launch(&launch).await.unwrap();
    let names = |machines: &[Machine]| machines.iter().map(|m| m.name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&again.machines), names(&first.machines), "the same launch");
    // It is killed; somebody has to wait for it, as its parent lives on here.
    tokio::task::spawn_blocking(move || orphan.wait()).await.unwrap().unwrap();
    stage.until(MachineState::Terminated).await;
}

#[tokio::test]
async fn a_folder_that_cannot_be_used_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let tasks = Tasks::new(CancellationToken::new());
    let started = Local::start(config(&file, FAITHFUL), Arc::new(SystemClock::new()), &tasks).await;
    assert!(started.unwrap_err().to_string().contains("file"));
}

#[tokio::test]
async fn what_is_not_sold_is_refused() {
    let stage = Stage::set(FAITHFUL).await;
    let mut launch = Stage::launch(1);
    let (_, offering) = launch.offerings.pop_first().unwrap();
    launch.offerings = BTreeMap::from([(OfferingName::new("other").unwrap(), offering)]);
    let launched = stage.local.launch(&launch).await.unwrap();
    assert_eq!(launched.machines, []);
    assert_eq!(launched.refusals[0].error.class, ErrorClass::Invalid);
}
