use std::collections::BTreeSet;
use std::sync::Mutex;

use async_trait::async_trait;
use stoker_broker::{BrokerError, BrokerHealth, Queue, QueueDepth};
use stoker_core::ids::{JobId, ModelName, PoolName};
use stoker_core::job::StateKind;
use stoker_core::policy::JobPolicy;
use stoker_runtime::clock::ManualClock;
use tempfile::TempDir;

use super::*;
use crate::registry::Registry;
use crate::store::contract::{START, World, recording_listener};
use crate::store::sqlite::{SqliteOptions, SqliteStore};
use crate::store::{NewJob, TenantScope};
use crate::watch::Hub;

/// A broker that refuses some queues and remembers what it took.
#[derive(Debug, Default)]
struct Fussy {
    refuses: Mutex<BTreeSet<Queue>>,
    taken: Mutex<Vec<JobId>>,
}

#[async_trait]
impl Publisher for Fussy {
    async fn declare(&self, _: &[Queue]) -> Result<(), BrokerError> {
        Ok(())
    }

    async fn publish(&self, hints: Vec<Hint>) -> Vec<Result<(), PublishError>> {
        let refuses = self.refuses.lock().unwrap();
        let mut taken = self.taken.lock().unwrap();
        let publish = |hint: Hint| {
            if refuses.contains(&hint.queue) {
                return Err(PublishError::Unroutable { queue: hint.queue });
            }
            taken.push(hint.job);
            Ok(())
        };
        hints.into_iter().map(publish).collect()
    }

    async fn depth(&self, _: &Queue) -> Result<QueueDepth, BrokerError> {
        Ok(QueueDepth { ready: 0, consumers: 0 })
    }

    fn health(&self) -> BrokerHealth {
        BrokerHealth::Connected
    }
}

struct Rig {
    world: World,
    broker: Arc<Fussy>,
    publisher: OutboxPublisher,
    tasks: Tasks,
    _folder: TempDir,
}

fn lane(model: &str) -> Lane {
    Lane { pool: PoolName::new("default").unwrap(), model: ModelName::new(model).unwrap() }
}

impl Rig {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = ManualClock::new(START);
        let (listener, changes) = recording_listener();
        let options = SqliteOptions {
            policy: JobPolicy::default(),
            clock: Arc::new(clock.clone()),
            listener,
        };
        let store: Arc<dyn JobStore> = Arc::new(SqliteStore::open(folder.path(), options).unwrap());
        let broker = Arc::new(Fussy::default());
        let registry = Registry::new(Arc::new(clock.clone()), Duration::from_secs(30));
        let publisher = OutboxPublisher {
            store: Arc::clone(&store),
            broker: Arc::clone(&broker) as Arc<dyn Publisher>,
            events: Events::new(registry, Hub::new(), std::collections::BTreeMap::new()),
            aside: Arc::default(),
        };
        let world = World { store, clock, changes };
        let tasks = Tasks::new(CancellationToken::new());
        Self { world, broker, publisher, tasks, _folder: folder }
    }

    /// Jobs of a queue that are dispatched but not yet published.
    async fn dispatched(&self, model: &str, jobs: usize) -> Vec<OutboxEntry> {
        let new = |_| NewJob { lane: lane(model), ..self.world.new_job(1) };
        let submitted = self.world.store.submit((0..jobs).map(new).collect()).await.unwrap();
        let ids = submitted.into_iter().map(|submitted| submitted.job).collect();
        self.world.store.dispatch(ids).await.unwrap()
    }

    async fn outbox_is(&self, length: u64) {
        let empty = async {
            while self.world.store.outbox_len().await.unwrap() != length {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), empty).await.expect("the outbox stays");
    }

    fn taken(&self) -> BTreeSet<JobId> {
        self.broker.taken.lock().unwrap().iter().copied().collect()
    }
}

fn ids(entries: &[OutboxEntry]) -> BTreeSet<JobId> {
    entries.iter().map(|entry| entry.job).collect()
}

/// It did: the publisher sent nothing else until the outbox was clean, and the dispatcher stopped.
#[tokio::test]
async fn a_queue_that_takes_nothing_holds_up_no_other() {
    let rig = Rig::new();
    rig.broker.refuses.lock().unwrap().insert(lane("bad"));
    // More than one round of them.
    let stuck = rig.dispatched("bad", BATCH as usize + 10).await;
    let left_behind = rig.dispatched("good", 3).await;
    let rounds = rig.publisher.clone().start(&rig.tasks);
    let mut good = ids(&left_behind);
    for _ in 0..ROUNDS * 4 {
        let round = rig.dispatched("good", 2).await;
        good.extend(ids(&round));
        rounds.send(round).await.unwrap();
    }
    rig.outbox_is(stuck.len() as u64).await;
    assert_eq!(rig.taken(), good);
    let problem = rig.publisher.aside.problem(&lane("bad")).unwrap();
    assert!(problem.contains("no queue default/bad"), "{problem}");
    assert_eq!(rig.publisher.aside.problem(&lane("good")), None);

    rig.broker.refuses.lock().unwrap().clear();
    rig.outbox_is(0).await;
    assert!(rig.taken().is_superset(&ids(&stuck)));
    assert_eq!(rig.publisher.aside.problem(&lane("bad")), None);
}

/// Found by simulation: a dispatch whose outcome nobody learned left a row that no bell rang for, and
/// the job was cancelled before it could be dispatched again.
#[tokio::test]
async fn a_row_that_nobody_hands_over_is_found_though_nothing_rings() {
    let rig = Rig::new();
    let left_behind = rig.dispatched("good", 1).await;
    let _rounds = rig.publisher.clone().start(&rig.tasks);
    rig.outbox_is(0).await;
    let unheard_of = rig.dispatched("good", 1).await;
    tokio::time::pause();
    tokio::time::advance(LOOK_AGAIN_AFTER).await;
    tokio::time::resume();
    rig.outbox_is(0).await;
    assert_eq!(rig.taken(), ids(&[left_behind, unheard_of].concat()));
}

#[tokio::test]
async fn a_round_for_a_queue_that_is_aside_waits_in_the_outbox() {
    let rig = Rig::new();
    rig.broker.refuses.lock().unwrap().insert(lane("bad"));
    let rounds = rig.publisher.clone().start(&rig.tasks);
    let first = rig.dispatched("bad", 1).await;
    rounds.send(first.clone()).await.unwrap();
    let second = rig.dispatched("bad", 1).await;
    rounds.send(second.clone()).await.unwrap();
    rig.outbox_is(2).await;
    rig.broker.refuses.lock().unwrap().clear();
    rig.outbox_is(0).await;
    for entry in [&first[0], &second[0]] {
        let record = rig.world.store.get(TenantScope::All, entry.job).await.unwrap().unwrap();
        assert_eq!(record.job.state.kind(), StateKind::Dispatched);
    }
}
