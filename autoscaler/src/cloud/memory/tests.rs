use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use stoker_core::fleet::{CapacityType, Offering};
use stoker_core::ids::{FleetName, InstanceName, OfferingName, PoolName, RegionName};
use stoker_core::money::{HourlyPrice, Money};
use stoker_core::time::Timestamp;
use stoker_runtime::clock::ManualClock;

use super::{Fault, FaultRate, MemoryCloud, MemoryConfig, MemoryProvider};
use crate::cloud::contract::{ENOUGH, Harness, Support};
use crate::cloud::{
    CloudProvider, ErrorClass, Launch, LaunchToken, MachineState, MachineType, Terminated, Verb,
    latest_prices,
};

fn sold(zone: &str, capacity: CapacityType, cents: i64) -> (OfferingName, (Offering, u32)) {
    let offering = Offering {
        instance_type: "g5.xlarge".to_owned(),
        zone: zone.to_owned(),
        capacity,
        price: HourlyPrice::new(Money::from_micros(cents * 10_000)),
        speed: 1.0,
        bulk_speed: 1.0,
    };
    let name = format!("g5.xlarge.{zone}.{}", capacity.as_str());
    (OfferingName::new(&name).unwrap(), (offering, ENOUGH))
}

fn config(lag: Duration) -> MemoryConfig {
    let zones = ["us-east-1a", "us-east-1b"];
    let what = MachineType {
        vcpus: 4,
        memory_mib: 16_384,
        gpus: Vec::new(),
        local_disk_gb: 0,
        spot: true,
        zones: zones.map(str::to_owned).into(),
    };
    MemoryConfig {
        regions: vec![RegionName::new("us-east-1").unwrap()],
        stock: BTreeMap::from([
            sold(zones[0], CapacityType::Spot, 40),
            sold(zones[1], CapacityType::Spot, 30),
            sold(zones[0], CapacityType::OnDemand, 100),
        ]),
        types: BTreeMap::from([("g5.xlarge".to_owned(), what)]),
        quotas: BTreeMap::new(),
        boot: Duration::from_mins(2),
        stop: Duration::from_secs(30),
        lag,
        seed: 1,
    }
}

struct Memory {
    cloud: MemoryCloud,
    clock: ManualClock,
    ours: MemoryProvider,
    theirs: MemoryProvider,
}

impl Memory {
    fn new(lag: Duration) -> Self {
        let clock = ManualClock::new(Timestamp::from_unix_millis(1_000_000_000));
        let cloud = MemoryCloud::new(config(lag), Arc::new(clock.clone()));
        let provider = |name| cloud.provider(FleetName::new(name).unwrap());
        let (ours, theirs) = (provider("ours"), provider("theirs"));
        Self { cloud, clock, ours, theirs }
    }

    fn region() -> RegionName {
        RegionName::new("us-east-1").unwrap()
    }

    fn launch(token: &str, count: u32) -> Launch {
        let stock = config(Duration::ZERO).stock;
        let spot = stock.into_iter().filter(|(_, (sold, _))| sold.capacity == CapacityType::Spot);
        Launch {
            token: LaunchToken::new(token).unwrap(),
            pool: PoolName::new("p").unwrap(),
            template: None,
            offerings: spot.map(|(name, (offering, _))| (name, offering)).collect(),
            count,
            tags: BTreeMap::new(),
        }
    }
}

#[async_trait]
impl Harness for Memory {
    fn cloud(&self) -> &dyn CloudProvider {
        &self.ours
    }

    fn stranger(&self) -> Option<&dyn CloudProvider> {
        Some(&self.theirs)
    }

    fn offerings(&self) -> BTreeMap<OfferingName, Offering> {
        let stock = config(Duration::ZERO).stock;
        stock.into_iter().map(|(name, (offering, _))| (name, offering)).collect()
    }

    async fn leave(&self, count: u32) -> Support {
        for (index, name) in self.offerings().keys().enumerate() {
            let is_first_spot = index == self.offerings().len() - 1;
            self.cloud.set_capacity(name, if is_first_spot { count } else { 0 });
        }
        Support::Done
    }

    async fn fail_next(&self, verb: Verb, fault: Fault) -> Support {
        self.cloud.fail_next(verb, fault);
        Support::Done
    }

    async fn interrupt(&self, name: &InstanceName) -> Support {
        assert!(self.cloud.interrupt(name), "{name} is there");
        Support::Done
    }

    async fn pass(&self) {
        self.clock.advance(Duration::from_secs(10));
    }
}

mod prompt {
    crate::cloud_contract!(std::future::ready(super::Memory::new(std::time::Duration::ZERO)));
}

mod lagging {
    crate::cloud_contract!(std::future::ready(super::Memory::new(std::time::Duration::from_secs(
        90
    ))));
}

#[tokio::test]
async fn a_machine_that_was_just_launched_may_be_missing_and_cannot_be_ended_then() {
    let memory = Memory::new(Duration::from_secs(90));
    let launched = memory.ours.launch(&Memory::launch("t", 1)).await.unwrap();
    let name = launched.machines[0].name.clone();
    // Nothing has happened since, so that no list can be as young.
    memory.clock.advance(Duration::from_millis(1));
    let ends = memory.ours.terminate(&Memory::region(), &BTreeSet::from([name.clone()])).await;
    assert_eq!(ends[&name], Ok(Terminated::NotFound));
    assert_eq!(memory.ours.list(&Memory::region()).await.unwrap(), []);
    assert_eq!(memory.cloud.machines().len(), 1, "it runs all the same");
    memory.clock.advance(Duration::from_secs(90));
    assert_eq!(memory.ours.list(&Memory::region()).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_machine_boots_runs_stops_and_is_gone() {
    let memory = Memory::new(Duration::ZERO);
    let launched = memory.ours.launch(&Memory::launch("t", 1)).await.unwrap();
    let state = || memory.cloud.machines().first().map(|machine| machine.state);
    assert_eq!(state(), Some(MachineState::Pending));
    memory.clock.advance(Duration::from_mins(2));
    assert_eq!(state(), Some(MachineState::Running));
    assert!(memory.cloud.interrupt(&launched.machines[0].name));
    assert!(!memory.cloud.interrupt(&launched.machines[0].name), "once");
    assert_eq!(state(), Some(MachineState::Stopping));
    memory.clock.advance(Duration::from_secs(30));
    assert_eq!(state(), Some(MachineState::Terminated));
    memory.clock.advance(Duration::from_hours(2));
    memory.ours.list(&Memory::region()).await.unwrap();
    assert_eq!(state(), None, "no longer shown");
}

#[tokio::test]
async fn the_cheapest_are_taken_first_and_a_quota_is_for_all_of_a_kind() {
    let memory = Memory::new(Duration::ZERO);
    memory.cloud.set_quota(CapacityType::Spot, ENOUGH + 1);
    let answer = memory.ours.launch(&Memory::launch("t", ENOUGH + 3)).await.unwrap();
    let in_zone = |zone| answer.machines.iter().filter(|machine| machine.zone == zone).count();
    assert_eq!((in_zone("us-east-1b"), in_zone("us-east-1a")), (ENOUGH as usize, 1));
    assert_eq!(answer.refusals.len(), 1);
    assert_eq!(answer.refusals[0].error.class, ErrorClass::Quota);
}

#[tokio::test]
async fn prices_change_and_what_runs_keeps_what_it_was_bought_for() {
    let memory = Memory::new(Duration::ZERO);
    let price = |micros| HourlyPrice::new(Money::from_micros(micros));
    memory.clock.advance(Duration::from_mins(1));
    memory.cloud.set_spot_price("g5.xlarge", "us-east-1b", price(5));
    let first = memory.ours.launch(&Memory::launch("a", 1)).await.unwrap();
    memory.clock.advance(Duration::from_hours(1));
    memory.cloud.set_spot_price("g5.xlarge", "us-east-1b", price(6));
    let second = memory.ours.launch(&Memory::launch("b", 1)).await.unwrap();
    assert_eq!(first.machines[0].price, Some(price(5)));
    assert_eq!(second.machines[0].price, Some(price(6)));

    let types = BTreeSet::from(["g5.xlarge".to_owned()]);
    let now = Timestamp::from_unix_millis(1_000_000_000).after(Duration::from_mins(30));
    let history = memory.ours.prices(&Memory::region(), &types, now).await.unwrap();
    let of_b = history.iter().filter(|price| price.zone == "us-east-1b").count();
    assert_eq!(of_b, 2, "the one in force then, and the one since: {history:?}");
    let latest = latest_prices(&history, Timestamp::MAX);
    assert_eq!(latest[&("g5.xlarge".to_owned(), "us-east-1b".to_owned())].price, price(6));
}

#[tokio::test]
async fn with_a_fault_in_every_other_call_no_launch_is_lost_or_doubled() {
    let memory = Memory::new(Duration::from_mins(1));
    let faults = [Fault::Refused(ErrorClass::Throttle), Fault::LostBefore, Fault::LostAfter];
    memory
        .cloud
        .set_faults(faults.map(|fault| FaultRate { verb: Verb::Launch, fault, rate: 0.16 }).into());
    let mut failures = 0;
    for number in 0..10 {
        let launch = Memory::launch(&format!("t-{number}"), 2);
        while memory.ours.launch(&launch).await.is_err() {
            failures += 1;
            assert!(failures < 1_000, "it gets through");
        }
    }
    assert!(failures > 2, "{failures}: the faults were at work");
    assert_eq!(memory.cloud.machines().len(), 20);
    assert_eq!(memory.cloud.calls(Verb::Launch), 10 + failures);
}
