//! The world: load that comes and goes, a provider's and an operator's moods, and two autoscalers.

use std::collections::BTreeMap;
use std::time::Duration;

use stoker_core::fleet::execute::{Site, Sites};
use stoker_core::fleet::ledger::Mode;
use stoker_core::fleet::{
    AtLimit, Budget, CapacityType, Disruption, Offering, Policy, PoolPolicy, Scaling,
};
use stoker_core::ids::{OfferingName, PoolName};
use stoker_core::money::{HourlyPrice, Money};
use stoker_core::time::Timestamp;

use crate::protocol::random::Random;

use super::autoscaler::{Around, Autoscaler};
use super::cloud::Cloud;
use super::referee::{Bounds, Referee, Violation};
use super::sabotage::Sabotage;
use super::store::Store;
use super::tally::Tally;
use super::workers::Workers;

/// Time between two looks at the world.
const TICK: Duration = Duration::from_secs(5);
const START: Timestamp = Timestamp::from_unix_millis(1_700_000_000_000);
const INSTANCES: u32 = 12;
const LAUNCHES: u32 = 10;
const PRICE: Money = Money::from_micros(1_000_000);

#[derive(Debug)]
pub(super) struct World {
    pub(super) now: Timestamp,
    random: Random,
    cloud: Cloud,
    store: Store,
    workers: Workers,
    referee: Referee,
    autoscalers: [Autoscaler; 2],
    policy: Policy,
    sites: Sites,
    wanted: u32,
    next_wanted: Timestamp,
    /// When an operator sets the switch back.
    run_again: Option<Timestamp>,
    bug: Option<Sabotage>,
    tally: Tally,
}

impl World {
    pub(super) fn new(seed: u64, bug: Option<Sabotage>) -> Self {
        let random = Random::new(seed, 0);
        let policy = policy(seed);
        let bounds = Bounds {
            instances: INSTANCES,
            launches: LAUNCHES,
            per_day: policy.budget.per_day,
            at_limit: policy.budget.at_limit,
            prices: prices(&policy),
        };
        Self {
            now: START,
            random,
            cloud: Cloud::new(Random::new(seed, 1), START),
            store: Store::default(),
            workers: Workers::new(Random::new(seed, 2), START),
            referee: Referee::new(bounds, START),
            autoscalers: [3, 4].map(|stream| {
                let who = usize::try_from(stream).unwrap_or(0);
                Autoscaler::new(who, Random::new(seed, stream), bug, START)
            }),
            sites: sites(&policy),
            policy,
            wanted: 0,
            next_wanted: START,
            run_again: None,
            bug,
            tally: Tally::default(),
        }
    }

    /// One tick; the violation, if a rule was broken.
    pub(super) fn tick(&mut self) -> Option<&Violation> {
        self.now = self.now.after(TICK);
        self.moods();
        self.cloud.pass(self.now);
        self.workers.pass(&self.cloud, self.now);
        self.store.forget(self.now);
        let mut around = Around {
            cloud: &mut self.cloud,
            store: &mut self.store,
            workers: &mut self.workers,
            referee: &mut self.referee,
            tally: &mut self.tally,
            policy: &self.policy,
            sites: &self.sites,
            wanted: self.wanted,
            bug: self.bug,
            now: self.now,
        };
        for autoscaler in &mut self.autoscalers {
            autoscaler.act(&mut around);
        }
        self.referee.look(&self.cloud, &self.store, self.now);
        self.referee.violation.as_ref()
    }

    pub(super) fn tally(&self) -> Tally {
        let mut tally = self.tally;
        tally.merge(&self.cloud.tally);
        tally.reigns = self.store.reigns();
        tally
    }

    /// True about once in this time.
    fn once_in(&mut self, mean: Duration) -> bool {
        self.random.chance(TICK.as_secs_f64() / mean.as_secs_f64())
    }

    fn moods(&mut self) {
        let (now, hour) = (self.now, Duration::from_hours(1));
        if now >= self.next_wanted {
            self.wanted = self.random.number(0, INSTANCES + 4);
            self.next_wanted = now.after(self.random.wait(hour));
        }
        if self.once_in(hour * 8) {
            self.cloud.sold_out_until = now.after(self.random.millis(60_000, 1_800_000));
        }
        if self.cloud.out_since(now).is_none() && self.once_in(hour * 24) {
            self.cloud.out = (now, now.after(self.random.millis(1_800_000, 4_200_000)));
        }
        if self.once_in(hour * 8) {
            self.cloud.blind_until = now.after(self.random.millis(10_000, 240_000));
        }
        if self.once_in(hour * 24) {
            self.cloud.boots_fail_until = now.after(self.random.millis(600_000, 7_200_000));
        }
        if self.once_in(hour * 6) {
            self.workers.restart_coordinator(now);
        }
        if self.once_in(hour) {
            self.workers.cut_off(now);
        }
        if self.once_in(hour * 20) {
            // Somebody else's hand, or a call that nobody remembers.
            let pool = PoolName::new("default").expect("a name");
            let offering = OfferingName::new("g5.a.spot").expect("a name");
            self.cloud.make(None, (&pool, &offering), now);
            self.tally.orphans += 1;
        }
        self.interruptions();
        self.operator();
    }

    fn interruptions(&mut self) {
        let names: Vec<_> = self.cloud.machines.keys().cloned().collect();
        for name in names {
            if !self.once_in(Duration::from_hours(12)) {
                continue;
            }
            let notice = if self.random.chance(0.8) { 120 } else { 0 };
            let at = self.now.after(Duration::from_secs(notice));
            if let Some(real) = self.cloud.machines.get_mut(&name).filter(|real| real.runs()) {
                real.lost_at.get_or_insert(at);
                self.tally.interruptions += 1;
            }
        }
    }

    fn operator(&mut self) {
        if let Some(at) = self.run_again {
            if self.now >= at {
                self.store.set(Mode::Run, self.now);
                self.run_again = None;
            }
        } else if self.once_in(Duration::from_hours(15)) {
            let modes = [Mode::Freeze, Mode::Drain, Mode::Panic];
            let mode = modes[self.random.index(modes.len())];
            self.tally.panics += u64::from(mode == Mode::Panic);
            self.store.set(mode, self.now);
            let lasts = self.random.millis(300_000, 2_400_000);
            self.run_again = Some(self.now.after(lasts));
        }
    }
}

/// One pool; every other seed has a budget that does not last the day. Half of them keep it strictly.
fn policy(seed: u64) -> Policy {
    let offering = Offering {
        instance_type: "g5".into(),
        zone: "a".into(),
        capacity: CapacityType::Spot,
        price: HourlyPrice::new(PRICE),
        speed: 1.0,
        bulk_speed: 1.0,
    };
    let offerings = [(OfferingName::new("g5.a.spot").expect("a name"), offering)].into();
    let scaling = Scaling {
        min: 0,
        max: INSTANCES + 2,
        warm: 0,
        boot: Duration::from_mins(3),
        expire_after: None,
        disruption: Disruption::default(),
        offerings,
    };
    let pool = PoolName::new("default").expect("a name");
    let hours = if seed.is_multiple_of(2) { 24 } else { 8 };
    let budget = Budget {
        max_instances: INSTANCES,
        max_launches: LAUNCHES,
        per_day: PRICE.times(INSTANCES * hours),
        at_limit: if seed % 4 < 2 { AtLimit::Drain } else { AtLimit::Stop },
        ..Budget::default()
    };
    let classes = BTreeMap::new();
    Policy { pools: [(pool, PoolPolicy { classes, scaling })].into(), budget }
}

fn sites(policy: &Policy) -> Sites {
    let site = Site { provider: "memory".into(), region: "r".into(), template: "lt-1".into() };
    let of_pool = |pool: &PoolPolicy| {
        pool.scaling.offerings.keys().map(|name| (name.clone(), site.clone())).collect()
    };
    policy.pools.iter().map(|(name, pool)| (name.clone(), of_pool(pool))).collect()
}

fn prices(policy: &Policy) -> BTreeMap<String, HourlyPrice> {
    let pools = policy.pools.values();
    let offerings = pools.flat_map(|pool| &pool.scaling.offerings);
    offerings.map(|(name, offering)| (name.to_string(), offering.price)).collect()
}
