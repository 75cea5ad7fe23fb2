//! What goes wrong, in an order that the seed decides; and how everything is made well again.
//!
//! Two hands break things at the same time: one the fleet's processes, the other its surroundings.

mod victims;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use serde::Serialize;
use tokio::time::{Instant, sleep, sleep_until};

use crate::fleet::PATIENCE;
use crate::postgres::PostgresServer;
use crate::rabbitmq::RabbitMqNode;
use crate::tcp_proxy::{Conditions, Direction, TcpProxy};

use super::{Broker, Mode, Settings, Stage, Store, answers};
use victims::{Sleeper, Victims};

/// Past its lease, which is 6 s; and past a leader's term, which is 5 s.
const ASLEEP: Duration = Duration::from_secs(8);
const FREEZE: Duration = Duration::from_secs(3);
const BAD_WEATHER: Duration = Duration::from_secs(4);
/// Pause before a program that did not start is started again.
const AGAIN: Duration = Duration::from_millis(500);

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
    /// A coordinator sleeps past its term.
    PauseCoordinator,
    CutWorkers,
    FreezeWorkers,
    /// Little at a time, late, in small pieces.
    SlowWorkers,
    OneWayWorkers,
    ResetWorkers,
    KillBroker,
    FreezeBroker,
    MemoryAlarm,
    DiskAlarm,
    PurgeQueue,
    CloseBrokerConnections,
    CutBroker,
    StallBroker,
    KillDatabase,
    CutDatabase,
    StallDatabase,
}

impl Fault {
    /// With their weights.
    const OF_FLEET: [(Self, u32); 5] = [
        (Self::KillWorker, 40),
        (Self::KillEngine, 10),
        (Self::TerminateWorker, 10),
        (Self::Zombie, 4),
        (Self::PauseCoordinator, 3),
    ];
    /// Those that end every process that could be measured over time.
    const OF_EVERYBODY: [(Self, u32); 2] = [(Self::KillCoordinator, 20), (Self::KillAllWorkers, 3)];
    pub(super) const OF_NETWORK: [(Self, u32); 5] = [
        (Self::CutWorkers, 5),
        (Self::FreezeWorkers, 3),
        (Self::SlowWorkers, 1),
        (Self::OneWayWorkers, 1),
        (Self::ResetWorkers, 1),
    ];
    const OF_BROKER: [(Self, u32); 8] = [
        (Self::KillBroker, 5),
        (Self::FreezeBroker, 1),
        (Self::MemoryAlarm, 1),
        (Self::DiskAlarm, 1),
        (Self::PurgeQueue, 4),
        (Self::CloseBrokerConnections, 2),
        (Self::CutBroker, 2),
        (Self::StallBroker, 1),
    ];
    const OF_DATABASE: [(Self, u32); 3] =
        [(Self::KillDatabase, 5), (Self::CutDatabase, 2), (Self::StallDatabase, 1)];

    /// Processes of ours that it ends.
    const fn kills(self, workers: u32) -> u32 {
        match self {
            Self::KillWorker | Self::KillCoordinator | Self::KillEngine | Self::TerminateWorker => {
                1
            }
            Self::KillAllWorkers => workers,
            _ => 0,
        }
    }
}

/// What was done.
#[derive(Debug, Default, Clone, Serialize)]
pub struct Faults {
    /// Processes of ours that were ended.
    pub kills: u32,
    pub by_kind: BTreeMap<Fault, u32>,
    /// Those that were meant and found nobody.
    pub missed: BTreeMap<Fault, u32>,
}

impl Faults {
    fn note(&mut self, fault: Fault, done: Option<u32>) {
        self.kills += done.unwrap_or_default();
        let counts = if done.is_some() { &mut self.by_kind } else { &mut self.missed };
        *counts.entry(fault).or_default() += 1;
    }

    /// How often a kind was done.
    pub(super) fn of(&self, fault: Fault) -> u32 {
        self.by_kind.get(&fault).copied().unwrap_or_default()
    }

    /// Jobs whose leases may have ended with these faults, at most: those of a worker that was killed or
    /// cut off. A coordinator, a broker or a database that is away costs no lease.
    pub(super) fn leases_at_stake(&self, workers: u32, slots: u32) -> u64 {
        let [one, all] = [
            [Fault::KillWorker, Fault::TerminateWorker, Fault::Zombie].as_slice(),
            &[
                Fault::KillAllWorkers,
                Fault::CutWorkers,
                Fault::FreezeWorkers,
                Fault::SlowWorkers,
                Fault::OneWayWorkers,
                Fault::ResetWorkers,
            ],
        ]
        .map(|kinds| kinds.iter().map(|kind| u64::from(self.of(*kind))).sum::<u64>());
        (one + all * u64::from(workers)) * u64::from(slots)
    }
}

/// Which faults, in which order: each kind as often as its weight asks for, and at least once.
fn deal(settings: &Settings, random: &mut StdRng) -> [Vec<Fault>; 2] {
    let of = |holds: bool, faults: &'static [(Fault, u32)]| if holds { faults } else { &[] };
    let fleet = [&Fault::OF_FLEET[..], of(settings.mode == Mode::Chaos, &Fault::OF_EVERYBODY)];
    let around = [
        &Fault::OF_NETWORK[..],
        of(settings.broker == Broker::RabbitMq, &Fault::OF_BROKER),
        of(settings.store == Store::Postgres, &Fault::OF_DATABASE),
    ];
    let fleet = fleet.concat();
    let kills: u32 =
        fleet.iter().map(|(fault, weight)| fault.kills(settings.workers) * weight).sum();
    let times = |weight: u32| (settings.kills * weight).div_ceil(kills.max(1)) as usize;
    [fleet, around.concat()].map(|faults| {
        let mut deck: Vec<Fault> = faults
            .into_iter()
            .flat_map(|(fault, weight)| std::iter::repeat_n(fault, times(weight)))
            .collect();
        deck.shuffle(random);
        deck
    })
}

/// Breaks one thing after the other with each hand, evenly over the time of the run, and longer where it
/// takes longer.
pub(super) async fn torment(stage: &mut Stage) -> anyhow::Result<Faults> {
    let mut random = StdRng::seed_from_u64(stage.settings.seed ^ 0x6e65_6d65_7369_7300);
    let end = Instant::now() + Duration::from_secs(stage.settings.seconds.into());
    let [fleet, around] = deal(&stage.settings, &mut random);
    let surroundings = stage.surroundings();
    let mut faults = Faults::default();
    let mut others = Faults::default();
    let of_fleet = async {
        let mut victims = Victims::default();
        for (done, fault) in fleet.iter().enumerate() {
            pause(end, fleet.len() - done).await;
            victims.wake(stage, Instant::now())?;
            let done = break_fleet(*fault, stage, &mut victims, &mut random).await?;
            faults.note(*fault, done);
        }
        sleep_until(victims.last_wakes_at()).await;
        victims.wake(stage, Instant::now())?;
        anyhow::Ok(())
    };
    let of_surroundings = async {
        for (done, fault) in around.iter().enumerate() {
            pause(end, around.len() - done).await;
            surroundings.break_by(*fault).await?;
            others.note(*fault, Some(0));
        }
        anyhow::Ok(())
    };
    tokio::try_join!(of_fleet, of_surroundings)?;
    sleep_until(end).await;
    faults.by_kind.extend(others.by_kind);
    Ok(faults)
}

/// So that what is left is spread over the time that is left.
async fn pause(end: Instant, left: usize) {
    let left = u32::try_from(left).unwrap_or(u32::MAX);
    sleep(end.saturating_duration_since(Instant::now()) / left.saturating_add(1)).await;
}

/// How many processes it ended; `None` when there was nobody to hit.
async fn break_fleet(
    fault: Fault,
    stage: &mut Stage,
    victims: &mut Victims,
    random: &mut StdRng,
) -> anyhow::Result<Option<u32>> {
    let mut living = stage.fleet.living_workers()?;
    // Of one the resources are measured.
    let soak = stage.settings.mode == Mode::Soak;
    living.retain(|worker| !(victims.include(*worker) || soak && *worker == 0));
    let coordinator = random.random_range(0..stage.fleet.coordinators());
    match fault {
        Fault::KillCoordinator => {
            stage.fleet.talk_to(coordinator);
            stage.fleet.coordinator().kill9();
            start_again(stage).await?;
            stage.fleet.talk_to(0);
            return Ok(Some(1));
        }
        Fault::PauseCoordinator => {
            stage.fleet.talk_to(coordinator);
            stage.fleet.coordinator().signal("STOP")?;
            stage.fleet.talk_to(0);
            let asleep = if stage.fleet.coordinators() > 1 { ASLEEP } else { FREEZE };
            victims.asleep.push((Instant::now() + asleep, Sleeper::Coordinator(coordinator)));
            return Ok(Some(0));
        }
        _ => {}
    }
    if living.is_empty() {
        return Ok(None);
    }
    let victim = victims::choose(stage, &living, random).await;
    match fault {
        Fault::KillWorker => {
            stage.fleet.worker(victim).kill9();
            stage.add_worker()?;
        }
        Fault::KillAllWorkers => {
            for victim in &living {
                stage.fleet.worker(*victim).kill9();
                stage.add_worker()?;
            }
            return Ok(Some(u32::try_from(living.len())?));
        }
        Fault::KillEngine => {
            let engines = crate::programs::children(stage.fleet.worker(victim).pid())?;
            // One may have ended by itself.
            let killed = engines.into_iter().filter(|engine| engine.kill9().is_ok()).count();
            return Ok((killed > 0).then_some(u32::try_from(killed)?));
        }
        Fault::TerminateWorker => {
            stage.fleet.worker(victim).signal("TERM")?;
            victims.leaving.insert(victim);
            stage.add_worker()?;
        }
        Fault::Zombie => {
            stage.fleet.worker(victim).signal("STOP")?;
            victims.asleep.push((Instant::now() + ASLEEP, Sleeper::Worker(victim)));
            return Ok(Some(0));
        }
        _ => return Ok(None),
    }
    Ok(Some(1))
}

/// Starts the coordinator that is spoken to, as a service manager does: again, when the database or the
/// broker is away at that moment.
async fn start_again(stage: &mut Stage) -> anyhow::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match stage.fleet.start_coordinator().await {
            Err(_) if Instant::now() < deadline => sleep(AGAIN).await,
            started => return started,
        }
    }
}

/// What a fleet stands on, and the network between.
pub(super) struct Surroundings {
    pub(super) to_coordinators: Vec<Arc<TcpProxy>>,
    pub(super) broker: Option<(Arc<RabbitMqNode>, Arc<TcpProxy>)>,
    pub(super) database: Option<(Arc<PostgresServer>, Arc<TcpProxy>)>,
}

impl Surroundings {
    async fn break_by(&self, fault: Fault) -> anyhow::Result<()> {
        match (fault, &self.broker, &self.database) {
            (
                Fault::CutWorkers
                | Fault::FreezeWorkers
                | Fault::SlowWorkers
                | Fault::OneWayWorkers
                | Fault::ResetWorkers,
                ..,
            ) => disturb(fault, &self.to_coordinators).await,
            (Fault::CutBroker, Some((_, network)), _)
            | (Fault::CutDatabase, _, Some((_, network))) => network.cut(),
            (Fault::StallBroker, Some((_, network)), _)
            | (Fault::StallDatabase, _, Some((_, network))) => stall(network).await,
            (Fault::KillDatabase, _, Some((server, _))) => {
                let server = Arc::clone(server);
                let kill = move || {
                    server.kill9();
                    server.restart()?;
                    server.check_indices()
                };
                tokio::task::spawn_blocking(kill).await?.context("I20")?;
            }
            (fault, Some((node, _)), _) => {
                let node = Arc::clone(node);
                tokio::task::spawn_blocking(move || break_broker(fault, &node)).await??;
            }
            (_, None, _) => {}
        }
        Ok(())
    }
}

async fn stall(network: &TcpProxy) {
    network.freeze();
    sleep(FREEZE).await;
    network.thaw();
}

/// What happens between the workers and all coordinators.
async fn disturb(fault: Fault, networks: &[Arc<TcpProxy>]) {
    let conditions = match fault {
        Fault::SlowWorkers => Conditions {
            latency: Duration::from_millis(2),
            slice: 300,
            bytes_per_second: 100_000,
            ..Conditions::default()
        },
        Fault::OneWayWorkers => {
            Conditions { swallow: Some(Direction::FromTarget), ..Conditions::default() }
        }
        Fault::ResetWorkers => Conditions { reset_after: 10_000, ..Conditions::default() },
        _ => Conditions::default(),
    };
    for network in networks {
        match fault {
            Fault::CutWorkers => network.cut(),
            Fault::FreezeWorkers => network.freeze(),
            _ => network.set(conditions),
        }
    }
    match fault {
        Fault::CutWorkers => return,
        Fault::FreezeWorkers => sleep(FREEZE).await,
        _ => sleep(BAD_WEATHER).await,
    }
    for network in networks {
        network.thaw();
        network.set(Conditions::default());
        if fault == Fault::OneWayWorkers {
            // What was swallowed never comes.
            network.cut();
        }
    }
}

fn break_broker(fault: Fault, node: &RabbitMqNode) -> anyhow::Result<()> {
    let for_a_while = |set: &[&str], reset: &[&str]| {
        node.ctl(set)?;
        std::thread::sleep(FREEZE);
        node.ctl(reset).map(drop)
    };
    match fault {
        Fault::KillBroker => {
            node.kill9();
            node.restart()
        }
        Fault::FreezeBroker => node.frozen(FREEZE),
        Fault::PurgeQueue => node.ctl(&["purge_queue", "stoker.chaos.jobs.default.echo"]).map(drop),
        Fault::CloseBrokerConnections => node.stop_connections(),
        Fault::MemoryAlarm => for_a_while(
            &["set_vm_memory_high_watermark", "absolute", "1MB"],
            &["set_vm_memory_high_watermark", "0.4"],
        ),
        Fault::DiskAlarm => {
            for_a_while(&["set_disk_free_limit", "100000GB"], &["set_disk_free_limit", "50MB"])
        }
        _ => Ok(()),
    }
}

/// Everything runs again, with as many workers as at the start.
pub(super) async fn heal(stage: &mut Stage) -> anyhow::Result<()> {
    for number in 0..stage.fleet.coordinators() {
        stage.fleet.talk_to(number);
        if stage.fleet.coordinator().ended()?.is_some() {
            start_again(stage).await?;
        }
        answers(&stage.fleet).await?;
    }
    stage.fleet.talk_to(0);
    while stage.fleet.living_workers()?.len() < stage.settings.workers as usize {
        stage.add_worker()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn settings(kills: u32) -> Settings {
        Settings {
            kills,
            broker: Broker::RabbitMq,
            store: Store::Postgres,
            coordinators: 2,
            ..Settings::default()
        }
    }

    #[test]
    fn a_long_run_is_dealt_what_a_release_asks_for() {
        let decks = deal(&settings(2_000), &mut StdRng::seed_from_u64(1));
        let all = decks.concat();
        let of = |kind: &[Fault]| all.iter().filter(|fault| kind.contains(fault)).count();
        assert!(all.iter().map(|fault| fault.kills(3)).sum::<u32>() >= 2_000);
        assert!(of(&[Fault::KillBroker]) >= 100);
        assert!(of(&[Fault::KillDatabase]) >= 100);
        assert!(of(&[Fault::CutWorkers, Fault::FreezeWorkers, Fault::CutBroker]) >= 200);
        assert!(of(&[Fault::KillAllWorkers]) >= 20);
    }

    #[test]
    fn a_short_run_has_each_kind_and_a_seed_decides_the_order() {
        let deal = |seed| deal(&settings(10), &mut StdRng::seed_from_u64(seed));
        let kinds: BTreeSet<Fault> = deal(1).concat().into_iter().collect();
        assert_eq!(kinds.len(), 23);
        assert_eq!(deal(1), deal(1));
        assert_ne!(deal(1), deal(2));
    }
}
