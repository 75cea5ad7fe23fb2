//! Stoker's own planner in the simulated world: the code that production runs, fed with what it would observe.

use std::collections::BTreeMap;
use std::time::Duration;

use stoker_core::fleet::{
    self, Budget, CapacityType, Class, Disruption, Instance, InstanceState, Market, Memory, Notice,
    PoolPolicy, PoolSnapshot, Queue, Reading, Report, Scaling, Snapshot, Step, Waiting,
};
use stoker_core::ids::{ClassName, InstanceName, ModelName, OfferingName, PoolName};
use stoker_core::money::{HourlyPrice, Money};
use stoker_core::time::Timestamp;

use crate::fleet::job::Millis;
use crate::fleet::policy::{Orders, Policy, View};
use crate::fleet::world::Setup;
use crate::fleet::world::instance::{Instance as Machine, Phase};

/// The planner with its memory.
#[derive(Debug)]
pub struct Stoker {
    policy: fleet::Policy,
    memory: Memory,
    pool: PoolName,
    models: Vec<ModelName>,
    classes: Vec<ClassName>,
    offerings: Vec<OfferingName>,
    /// The last report, for whoever wants to know why.
    pub report: Report,
    /// Steps of the last plan.
    pub steps: Vec<Step>,
}

/// A name that the numbers of a simulation make.
fn name<T, E: std::fmt::Debug>(text: &str, new: impl Fn(&str) -> Result<T, E>) -> T {
    new(text).expect("letters, digits and dashes are a name")
}

fn duration(millis: Millis) -> Duration {
    Duration::from_millis(u64::try_from(millis).unwrap_or(0))
}

/// Simulations start at midnight of a Monday.
fn timestamp(millis: Millis) -> Timestamp {
    const MONDAY: Millis = 4 * 24 * 3_600_000;
    Timestamp::from_unix_millis(MONDAY + millis)
}

impl Stoker {
    /// The default configuration: all it is told are the classes and the offerings of the setup.
    pub fn new(setup: &Setup) -> Self {
        let class_name = |index: usize| name(&format!("c{index}"), ClassName::new);
        let classes: Vec<ClassName> = (0..setup.classes.len()).map(class_name).collect();
        let offering_name = |index: usize| name(&format!("o{index}"), OfferingName::new);
        let offerings: Vec<OfferingName> = (0..setup.offerings.len()).map(offering_name).collect();
        let class = |class: &crate::fleet::job::Class| Class {
            max_wait: duration(class.max_wait),
            objective: class.objective,
            cold_start: true,
        };
        let offering = |offering: &crate::fleet::market::Offering| fleet::Offering {
            instance_type: offering.instance_type.clone(),
            zone: offering.zone.clone(),
            capacity: if offering.spot { CapacityType::Spot } else { CapacityType::OnDemand },
            price: HourlyPrice::new(Money::from_dollars(offering.price).unwrap_or(Money::MAX)),
            speed: offering.speed,
            bulk_speed: offering.speed * offering.batch.gain(),
        };
        let scaling = Scaling {
            min: 0,
            max: u32::try_from(setup.max_instances).unwrap_or(u32::MAX),
            warm: 0,
            boot: duration(setup.boot.mean),
            expire_after: None,
            disruption: Disruption::default(),
            offerings: offerings
                .iter()
                .cloned()
                .zip(setup.offerings.iter().map(offering))
                .collect(),
        };
        let pool_policy = PoolPolicy {
            classes: classes.iter().cloned().zip(setup.classes.iter().map(class)).collect(),
            scaling,
        };
        let pool = name("pool", PoolName::new);
        let pools = BTreeMap::from([(pool.clone(), pool_policy)]);
        Self {
            policy: fleet::Policy { pools, ..fleet::Policy::default() },
            memory: Memory::default(),
            pool,
            models: Vec::new(),
            classes,
            offerings,
            report: Report::default(),
            steps: Vec::new(),
        }
    }

    /// The same for a pool of a fleet file: its floor, its bounds and what may be spent. Classes, offerings and boots are
    /// those of the setup, in the pool's order.
    #[must_use]
    pub fn of_pool(mut self, pool: &PoolPolicy, budget: Budget) -> Self {
        self.policy.budget = budget;
        for policy in self.policy.pools.values_mut() {
            let Scaling { min, max, warm, boot: _, expire_after, disruption, offerings: _ } =
                pool.scaling.clone();
            let mine = policy.scaling.clone();
            policy.scaling = Scaling { min, max, warm, expire_after, disruption, ..mine };
            for (name, class) in self.classes.iter().zip(pool.classes.values()) {
                if let Some(mine) = policy.classes.get_mut(name) {
                    mine.cold_start = class.cold_start;
                }
            }
        }
        self
    }

    fn snapshot(&self, view: &View<'_>) -> Snapshot {
        let at = timestamp(view.now);
        let markets = self.offerings.iter().cloned().zip(view.tallies.iter().map(|tally| Market {
            launched: tally.launched as u64,
            refused: tally.refused as u64,
            interrupted: tally.interrupted as u64,
            held_back: 0,
        }));
        let instances = view.instances.iter().map(|machine| self.instance(machine, at)).collect();
        let pool = PoolSnapshot {
            queues: Reading::Known { at, value: self.queues(view) },
            instances: Reading::Known { at, value: instances },
            markets: markets.collect(),
        };
        Snapshot { pools: BTreeMap::from([(self.pool.clone(), pool)]) }
    }

    /// The queues that have had a job, and one of each class.
    fn queues(&self, view: &View<'_>) -> Vec<Queue> {
        let mut queues = Vec::new();
        let mut place = vec![0; self.classes.len() * self.models.len()];
        for (class, model, lane) in view.totals.lanes() {
            if lane.arrived == 0 && model > 0 {
                continue;
            }
            place[class * self.models.len() + model] = queues.len();
            queues.push(Queue {
                running: lane.running as u64,
                arrived: lane.arrived as u64,
                started: lane.started as u64,
                started_late: lane.started_late as u64,
                finished: lane.finished as u64,
                service_seconds: lane.service,
                service_squares: lane.service_squares,
                ..Queue::new(self.classes[class].clone(), self.models[model].clone())
            });
        }
        for job in view.waiting.jobs() {
            // Ages to the second, as a store would group them.
            let age = duration((view.now - job.at) / 1000 * 1000);
            let waiting = &mut queues[place[job.class * self.models.len() + job.model]].waiting;
            match waiting.last_mut() {
                Some(last) if last.age == age => last.jobs += 1,
                _ => waiting.push(Waiting { age, jobs: 1 }),
            }
        }
        queues
    }

    fn instance(&self, machine: &Machine, now: Timestamp) -> Instance {
        let running = u32::try_from(machine.running.len()).unwrap_or(u32::MAX);
        let state = match machine.phase {
            Phase::Booting => InstanceState::Booting,
            _ if machine.draining => InstanceState::Draining { running, since: now },
            Phase::Idle | Phase::Busy | Phase::Gone => InstanceState::Ready {
                ready_at: timestamp(machine.ready_at),
                running,
                idle_since: (running == 0).then(|| timestamp(machine.idle_since)),
            },
        };
        Instance {
            name: name(&format!("i-{}", machine.id), InstanceName::new),
            offering: self.offerings[machine.offering].clone(),
            state,
            launched_at: timestamp(machine.launched),
            seen_at: now,
            notice: machine
                .doomed_at
                .map(|lost_at| Notice::Interruption { lost_at: timestamp(lost_at) }),
            outdated: false,
            warm: Vec::new(),
            // As a worker tells it of jobs of many items.
            remaining: (running > 0).then(|| timestamp(machine.busy_until).since(now)),
        }
    }

    fn index_of(&self, offering: &OfferingName) -> Option<usize> {
        self.offerings.iter().position(|name| name == offering)
    }
}

fn id_of(instance: &InstanceName) -> Option<usize> {
    instance.as_str().strip_prefix("i-")?.parse().ok()
}

impl Policy for Stoker {
    fn name(&self) -> String {
        "Stoker".to_owned()
    }

    fn interval(&self) -> Millis {
        Millis::try_from(fleet::INTERVAL.as_millis()).unwrap_or(15_000)
    }

    fn reacts_to_notices(&self) -> bool {
        true
    }

    fn act(&mut self, view: &View<'_>, orders: &mut Orders) {
        if self.models.len() != view.models.len() {
            // What a model is called is nothing to go by; a number is always a name.
            let model_name = |index: usize| name(&format!("m{index}"), ModelName::new);
            self.models = (0..view.models.len()).map(model_name).collect();
        }
        let snapshot = self.snapshot(view);
        let memory = std::mem::take(&mut self.memory);
        let planned = fleet::plan(&self.policy, &snapshot, memory, timestamp(view.now));
        self.memory = planned.memory;
        self.report = planned.report;
        self.steps = planned.plan.steps;
        for step in &self.steps {
            match step {
                Step::Launch { offering, count, .. } => {
                    if let Some(index) = self.index_of(offering) {
                        orders.launch(index, *count as usize);
                    }
                }
                Step::Drain { instance, .. } | Step::Terminate { instance, .. } => {
                    orders.drains.extend(id_of(instance));
                }
            }
        }
    }
}
