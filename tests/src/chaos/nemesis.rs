//! What goes wrong, in an order that the seed decides; and how everything is made well again.

use std::collections::BTreeMap;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde::Serialize;
use tokio::time::{Instant, sleep, sleep_until};

use crate::rabbitmq::RabbitMqNode;

use super::{Stage, answers};

/// Past its lease, which is 6 s.
const ZOMBIE: Duration = Duration::from_secs(8);
const FREEZE: Duration = Duration::from_secs(3);
const ALARM: Duration = Duration::from_secs(3);

/// One kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    KillWorker,
    KillCoordinator,
    /// All workers at once.
    KillAllWorkers,
    KillEngine,
    TerminateWorker,
    /// A worker sleeps past its lease and wakes up.
    Zombie,
    PauseCoordinator,
    CutWorkers,
    FreezeWorkers,
    KillBroker,
    BrokerAlarm,
    PurgeQueue,
    CloseBrokerConnections,
    KillDatabase,
}

impl Fault {
    /// With their weights. Those of the broker need one that can be broken.
    const ALWAYS: [(Self, u32); 9] = [
        (Self::KillWorker, 40),
        (Self::KillCoordinator, 20),
        (Self::KillAllWorkers, 3),
        (Self::KillEngine, 10),
        (Self::TerminateWorker, 10),
        (Self::Zombie, 4),
        (Self::PauseCoordinator, 3),
        (Self::CutWorkers, 6),
        (Self::FreezeWorkers, 4),
    ];
    const OF_BROKER: [(Self, u32); 4] = [
        (Self::KillBroker, 4),
        (Self::BrokerAlarm, 2),
        (Self::PurgeQueue, 4),
        (Self::CloseBrokerConnections, 4),
    ];

    const OF_DATABASE: [(Self, u32); 1] = [(Self::KillDatabase, 5)];

    /// Processes of ours that it ends.
    const fn kills(self, workers: u32) -> u32 {
        match self {
            Self::KillWorker | Self::KillCoordinator | Self::KillEngine | Self::TerminateWorker => {
                1
            }
            Self::KillAllWorkers => workers,
            Self::Zombie
            | Self::PauseCoordinator
            | Self::CutWorkers
            | Self::FreezeWorkers
            | Self::KillBroker
            | Self::BrokerAlarm
            | Self::PurgeQueue
            | Self::CloseBrokerConnections
            | Self::KillDatabase => 0,
        }
    }
}

/// What was done.
#[derive(Debug, Default, Clone, Serialize)]
pub struct Faults {
    pub kills: u32,
    pub by_kind: BTreeMap<Fault, u32>,
}

/// Breaks things until enough was killed and the time is over.
pub(super) async fn torment(stage: &mut Stage) -> anyhow::Result<Faults> {
    let mut random = StdRng::seed_from_u64(stage.settings.seed ^ 0x6e65_6d65_7369_7300);
    let mut faults = Faults::default();
    let end = Instant::now() + Duration::from_secs(stage.settings.seconds.into());
    let wanted = stage.settings.kills;
    while Instant::now() < end || faults.kills < wanted {
        // The kills that are left, evenly over the time that is left.
        let left = end.saturating_duration_since(Instant::now());
        let pause = left / (wanted.saturating_sub(faults.kills) + 1);
        let most = if faults.kills < wanted { pause.min(Duration::from_secs(2)) } else { pause };
        sleep_until((Instant::now() + most).min(end)).await;
        if faults.kills >= wanted {
            continue;
        }
        let fault = choose(&mut random, stage);
        inflict(fault, stage, &mut random).await?;
        faults.kills += fault.kills(stage.settings.workers);
        *faults.by_kind.entry(fault).or_default() += 1;
    }
    Ok(faults)
}

fn choose(random: &mut StdRng, stage: &Stage) -> Fault {
    let of_broker = if stage.broker.is_some() { &Fault::OF_BROKER[..] } else { &[] };
    let of_database = if stage.database.is_some() { &Fault::OF_DATABASE[..] } else { &[] };
    let all = || Fault::ALWAYS.iter().chain(of_broker).chain(of_database);
    let mut left = random.random_range(0..all().map(|(_, weight)| weight).sum::<u32>());
    for (fault, weight) in all() {
        if left < *weight {
            return *fault;
        }
        left -= weight;
    }
    Fault::KillWorker
}

async fn inflict(fault: Fault, stage: &mut Stage, random: &mut StdRng) -> anyhow::Result<()> {
    let living: Vec<usize> = stage.fleet.living_workers()?;
    let victim = living.get(random.random_range(0..living.len().max(1))).copied();
    match (fault, victim) {
        (Fault::KillWorker, Some(victim)) => {
            stage.fleet.worker(victim).kill9();
            stage.add_worker()?;
        }
        (Fault::KillAllWorkers, _) => {
            for victim in living {
                stage.fleet.worker(victim).kill9();
                stage.add_worker()?;
            }
        }
        (Fault::KillEngine, Some(victim)) => {
            for engine in crate::programs::children(stage.fleet.worker(victim).pid())? {
                // It may have ended by itself.
                let _ = engine.kill9();
            }
        }
        (Fault::TerminateWorker, Some(victim)) => {
            stage.fleet.worker(victim).signal("TERM")?;
            stage.add_worker()?;
        }
        (Fault::Zombie, Some(victim)) => {
            stage.fleet.worker(victim).signal("STOP")?;
            sleep(ZOMBIE).await;
            stage.fleet.worker(victim).signal("CONT")?;
        }
        (Fault::KillCoordinator, _) => {
            stage.fleet.coordinator().kill9();
            stage.fleet.start_coordinator().await?;
        }
        (Fault::PauseCoordinator, _) => {
            stage.fleet.coordinator().signal("STOP")?;
            sleep(FREEZE).await;
            stage.fleet.coordinator().signal("CONT")?;
        }
        (Fault::CutWorkers, _) => stage.to_coordinator.cut(),
        (Fault::FreezeWorkers, _) => {
            stage.to_coordinator.freeze();
            sleep(FREEZE).await;
            stage.to_coordinator.thaw();
        }
        (Fault::KillDatabase, _) => {
            if let Some(server) = stage.database.clone() {
                let kill = move || {
                    server.kill9();
                    server.restart()
                };
                tokio::task::spawn_blocking(kill).await??;
            }
        }
        (broken, _) => break_broker(broken, stage).await?,
    }
    Ok(())
}

async fn break_broker(fault: Fault, stage: &Stage) -> anyhow::Result<()> {
    let Some(node) = stage.broker.clone() else { return Ok(()) };
    let act = move |node: &RabbitMqNode| match fault {
        Fault::KillBroker => {
            node.kill9();
            node.restart()
        }
        Fault::PurgeQueue => {
            let queue = "stoker.chaos.jobs.default.echo";
            node.ctl(&["purge_queue", queue]).map(drop)
        }
        Fault::CloseBrokerConnections => node.stop_connections(),
        Fault::BrokerAlarm => {
            node.ctl(&["set_vm_memory_high_watermark", "absolute", "1MB"])?;
            std::thread::sleep(ALARM);
            node.ctl(&["set_vm_memory_high_watermark", "0.4"]).map(drop)
        }
        _ => Ok(()),
    };
    tokio::task::spawn_blocking(move || act(&node)).await?
}

/// Everything runs again, with as many workers as at the start.
pub(super) async fn heal(stage: &mut Stage) -> anyhow::Result<()> {
    stage.to_coordinator.thaw();
    if stage.fleet.coordinator().ended()?.is_some() {
        stage.fleet.start_coordinator().await?;
    }
    while stage.fleet.living_workers()?.len() < stage.settings.workers as usize {
        stage.add_worker()?;
    }
    answers(&stage.fleet).await
}
