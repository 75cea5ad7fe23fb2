//! Worker processes of this machine as if they were machines, with boot times, prices, bounded capacity and spot
//! interruptions.
//!
//! A worker's process ends with the provider: it is asked to go when the provider ends in order, and its standard input
//! closes however the provider ends. What was launched stands in files, so that a provider that is started again
//! knows what it launched before: a process that is still there is shown as on its way out until it is gone, and killed
//! when its time is up. So no machine is ever forgotten, and no launch made twice.

mod book;
mod imds;
mod life;
mod process;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use stoker_core::fleet::ledger::Quota;
use stoker_core::fleet::{CapacityType, Local as LocalSettings, Offering};
use stoker_core::ids::{FleetName, InstanceName, OfferingName, RegionName};
use stoker_core::time::Timestamp;
use stoker_runtime::child::ChildPlan;
use stoker_runtime::clock::Clock;
use stoker_runtime::tasks::Tasks;
use tokio::sync::mpsc;

use super::error::{CloudError, ErrorClass, Verb};
use super::machine::Machine;
use super::market::{MachineType, SpotPrice};
use super::owner;
use super::provider::{CloudProvider, Terminated};
use super::request::{Launch, Launched};
use book::Book;
use life::Order;

pub use book::LocalError;

/// Orders under way to one machine.
const MOST_ORDERS: usize = 8;

/// What a local cloud is like.
#[derive(Debug, Clone)]
pub struct LocalConfig {
    pub fleet: FleetName,
    pub settings: LocalSettings,
    /// What it sells.
    pub offerings: BTreeMap<OfferingName, Offering>,
    /// Where it keeps what it launched, and the workers' logs and spools. Of this fleet alone.
    pub folder: PathBuf,
    /// How a worker is started. It learns its pool, spool and metadata service from variables that are added.
    pub worker: ChildPlan,
    /// Time that a worker has to go when its machine is ended, as between an order and the power switch.
    pub grace: Duration,
    /// Of all chance in it.
    pub seed: u64,
}

/// This machine as one fleet's cloud. Dropping it asks all workers to go.
#[derive(Debug)]
pub struct Local {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    config: LocalConfig,
    book: Arc<Book>,
    clock: Arc<dyn Clock>,
    tasks: Tasks,
    started_at: Timestamp,
    region: RegionName,
    orders: Mutex<BTreeMap<InstanceName, mpsc::Sender<Order>>>,
    chance: Mutex<StdRng>,
}

impl Local {
    /// Opens the cloud, and takes care of what an earlier one left behind. Its tasks are a group inside `tasks`.
    ///
    /// # Errors
    /// When the folder cannot be used.
    pub async fn start(
        config: LocalConfig,
        clock: Arc<dyn Clock>,
        tasks: &Tasks,
    ) -> Result<Self, LocalError> {
        let (folder, now) = (config.folder.clone(), clock.now());
        let opened = tokio::task::spawn_blocking(move || Book::open(&folder, now)).await;
        let (book, left) = opened.map_err(|_| LocalError::Ended)??;
        let shared = Arc::new(Shared {
            book: Arc::new(book),
            tasks: tasks.child(),
            started_at: now,
            region: RegionName::new(LocalSettings::REGION).expect("`local` is a valid name"),
            orders: Mutex::default(),
            chance: Mutex::new(StdRng::seed_from_u64(config.seed)),
            clock,
            config,
        });
        for (name, process) in left {
            let task = life::outlive(Arc::clone(&shared), name, process);
            shared.tasks.spawn("local machine of before", task);
        }
        Ok(Self { shared })
    }

    /// Takes a spot machine back, after `notice` if there is one; false if there is no such machine.
    pub fn interrupt(&self, name: &InstanceName, notice: Option<Duration>) -> bool {
        self.shared.order(name, Order::Interrupt { notice })
    }

    /// Asks all workers to go and waits for them.
    ///
    /// # Errors
    /// What was still there after `deadline`, and has been killed.
    pub async fn close(&self, deadline: Duration) -> Result<(), Vec<&'static str>> {
        self.shared.tasks.close_and_wait(deadline).await
    }

    fn known(&self, region: &RegionName, verb: Verb) -> Result<(), CloudError> {
        if *region == self.shared.region {
            return Ok(());
        }
        let message = format!("there is no region {region}: this machine is `local`");
        Err(CloudError::new(ErrorClass::Invalid, verb, message))
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        self.shared.tasks.shutdown_token().cancel();
    }
}

impl Shared {
    /// Tells a machine something; false if it is not there.
    fn order(&self, name: &InstanceName, order: Order) -> bool {
        // Full: it has been told often enough.
        self.orders().get(name).is_some_and(|orders| {
            !matches!(orders.try_send(order), Err(mpsc::error::TrySendError::Closed(_)))
        })
    }

    fn orders(&self) -> MutexGuard<'_, BTreeMap<InstanceName, mpsc::Sender<Order>>> {
        self.orders.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(self: &Arc<Self>, machine: &Machine) {
        let (sender, orders) = mpsc::channel(MOST_ORDERS);
        self.orders().insert(machine.name.clone(), sender);
        let task = life::live(Arc::clone(self), machine.clone(), orders);
        self.tasks.spawn("local machine", task);
    }
}

#[async_trait]
impl CloudProvider for Local {
    fn regions(&self) -> BTreeSet<RegionName> {
        BTreeSet::from([self.shared.region.clone()])
    }

    fn region_of(&self, zone: &str) -> Option<RegionName> {
        stoker_core::cloud::region_of(&self.regions(), zone)
    }

    async fn launch(&self, launch: &Launch) -> Result<Launched, CloudError> {
        launch.check(|zone| self.region_of(zone))?;
        let shared = &self.shared;
        let capacity = shared.config.settings.capacity;
        let stock = shared.config.offerings.iter();
        let stock = stock.map(|(name, sold)| (name.clone(), (sold.clone(), capacity))).collect();
        let tags = owner::tags(&shared.config.fleet, &launch.pool, &launch.token, &launch.tags);
        let (asked, now) = (launch.clone(), shared.clock.now());
        let made = shared.book.with(move |pages| pages.launch(&asked, &stock, &tags, now)).await;
        let (launched, is_new) = made.unwrap_or_else(|error| Err(error.into()))?;
        if is_new {
            for machine in &launched.machines {
                shared.begin(machine);
            }
        }
        Ok(launched)
    }

    async fn rehearse(&self, launch: &Launch) -> Result<(), CloudError> {
        launch.check(|zone| self.region_of(zone))?;
        Ok(())
    }

    async fn list(&self, region: &RegionName) -> Result<Vec<Machine>, CloudError> {
        self.known(region, Verb::List)?;
        let now = self.shared.clock.now();
        let listed = self.shared.book.with(move |pages| pages.list(now)).await;
        listed
            .map_err(|error| CloudError::new(ErrorClass::Transient, Verb::List, error.to_string()))
    }

    async fn terminate(
        &self,
        region: &RegionName,
        names: &BTreeSet<InstanceName>,
    ) -> BTreeMap<InstanceName, Result<Terminated, CloudError>> {
        let answer = |end: Result<Terminated, CloudError>| {
            move |name: &InstanceName| (name.clone(), end.clone())
        };
        if let Err(error) = self.known(region, Verb::Terminate) {
            return names.iter().map(answer(Err(error))).collect();
        }
        let mut ends = BTreeMap::new();
        for name in names {
            let stopping = name.clone();
            let known = self.shared.book.with(move |pages| pages.stopping(&stopping)).await;
            let end = match known {
                Ok(true) => {
                    // One that has ended already hears nothing.
                    self.shared.order(name, Order::Terminate);
                    Ok(Terminated::Accepted)
                }
                Ok(false) => Ok(Terminated::NotFound),
                Err(error) => {
                    let class = Verb::Terminate.unanswered();
                    Err(CloudError::new(class, Verb::Terminate, error.to_string()))
                }
            };
            ends.insert(name.clone(), end);
        }
        ends
    }

    async fn prices(
        &self,
        region: &RegionName,
        types: &BTreeSet<String>,
        _since: Timestamp,
    ) -> Result<Vec<SpotPrice>, CloudError> {
        self.known(region, Verb::Prices)?;
        let asked = |sold: &&Offering| {
            sold.capacity == CapacityType::Spot && types.contains(&sold.instance_type)
        };
        let price = |sold: &Offering| SpotPrice {
            instance_type: sold.instance_type.clone(),
            zone: sold.zone.clone(),
            since: self.shared.started_at,
            price: sold.price,
        };
        Ok(self.shared.config.offerings.values().filter(asked).map(price).collect())
    }

    async fn types(
        &self,
        region: &RegionName,
        types: &BTreeSet<String>,
    ) -> Result<BTreeMap<String, MachineType>, CloudError> {
        self.known(region, Verb::Types)?;
        let mut found = BTreeMap::new();
        for sold in self.shared.config.offerings.values() {
            if types.contains(&sold.instance_type) {
                let what = found.entry(sold.instance_type.clone()).or_insert_with(this_machine);
                what.spot |= sold.capacity == CapacityType::Spot;
                what.zones.insert(sold.zone.clone());
            }
        }
        Ok(found)
    }

    async fn quotas(
        &self,
        region: &RegionName,
        _types: &BTreeSet<(String, CapacityType)>,
    ) -> Result<Vec<Quota>, CloudError> {
        self.known(region, Verb::Quotas)?;
        // What may run here is the capacity of each offering.
        Ok(Vec::new())
    }

    async fn setup_problems(&self, region: &RegionName) -> Result<Vec<String>, CloudError> {
        self.known(region, Verb::Setup)?;
        // The program that is started was found when this was.
        Ok(Vec::new())
    }
}

/// All workers share this machine, so that each type is this one. Its GPUs are the workers' affair.
fn this_machine() -> MachineType {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = memory.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib = total.and_then(|total| total.trim().trim_end_matches("kB").trim().parse().ok());
    MachineType {
        vcpus: u32::try_from(cores).unwrap_or(u32::MAX),
        memory_mib: kib.map_or(0, |kib: u64| kib >> 10),
        gpus: Vec::new(),
        local_disk_gb: 0,
        spot: false,
        zones: BTreeSet::new(),
    }
}
