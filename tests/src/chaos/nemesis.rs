//! What goes wrong, in an order that the seed decides; and how everything is made well again.

use std::collections::BTreeMap;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use serde::Serialize;
use tokio::time::{Instant, sleep, sleep_until};

use crate::rabbitmq::RabbitMqNode;

use super::{Broker, Mode, Settings, Stage, Store, answers};

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
    /// With their weights.
    const OF_FLEET: [(Self, u32); 7] = [
        (Self::KillWorker, 40),
        (Self::KillEngine, 10),
        (Self::TerminateWorker, 10),
        (Self::Zombie, 4),
        (Self::PauseCoordinator, 3),
        (Self::CutWorkers, 6),
        (Self::FreezeWorkers, 4),
    ];
    /// Those that end every process that could be measured over time.
    const OF_EVERYBODY: [(Self, u32); 2] = [(Self::KillCoordinator, 20), (Self::KillAllWorkers, 3)];
    const OF_BROKER: [(Self, u32); 4] = [
        (Self::KillBroker, 5),
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

/// Which faults, in which order: each kind as often as its weight asks for, and at least once.
fn deck(settings: &Settings, random: &mut StdRng) -> Vec<Fault> {
    let of = |holds: bool, faults: &'static [(Fault, u32)]| if holds { faults } else { &[] };
    let all: Vec<(Fault, u32)> = [
        &Fault::OF_FLEET[..],
        of(settings.mode == Mode::Chaos, &Fault::OF_EVERYBODY),
        of(settings.broker == Broker::RabbitMq, &Fault::OF_BROKER),
        of(settings.store == Store::Postgres, &Fault::OF_DATABASE),
    ]
    .concat();
    let kills: u32 = all.iter().map(|(fault, weight)| fault.kills(settings.workers) * weight).sum();
    let times = |weight: u32| (settings.kills * weight).div_ceil(kills.max(1)) as usize;
    let mut deck: Vec<Fault> = all
        .into_iter()
        .flat_map(|(fault, weight)| std::iter::repeat_n(fault, times(weight)))
        .collect();
    deck.shuffle(random);
    deck
}

/// Breaks one thing after the other, evenly over the time of the run, and longer where it takes longer.
pub(super) async fn torment(stage: &mut Stage) -> anyhow::Result<Faults> {
    let mut random = StdRng::seed_from_u64(stage.settings.seed ^ 0x6e65_6d65_7369_7300);
    let mut faults = Faults::default();
    let end = Instant::now() + Duration::from_secs(stage.settings.seconds.into());
    let deck = deck(&stage.settings, &mut random);
    for (done, fault) in (0..).zip(&deck) {
        let left = u32::try_from(deck.len() - done).unwrap_or(u32::MAX);
        sleep(end.saturating_duration_since(Instant::now()) / (left + 1)).await;
        inflict(*fault, stage, &mut random).await?;
        faults.kills += fault.kills(stage.settings.workers);
        *faults.by_kind.entry(*fault).or_default() += 1;
    }
    sleep_until(end).await;
    Ok(faults)
}

async fn inflict(fault: Fault, stage: &mut Stage, random: &mut StdRng) -> anyhow::Result<()> {
    let mut living = stage.fleet.living_workers()?;
    if stage.settings.mode == Mode::Soak {
        // The one whose resources are measured.
        living.retain(|worker| *worker != 0);
    }
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
