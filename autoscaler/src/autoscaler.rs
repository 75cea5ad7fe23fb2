//! One autoscaler: leads, looks, plans, writes, calls. What it knows besides the ledger may be lost at any time.

mod outdated;
mod snapshot;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use stoker_core::fleet::drift::Wanted;
use stoker_core::fleet::execute::{
    Executed, Finding, Outcome, Proposal, Rules, Sites, Situation, step,
};
use stoker_core::fleet::journal::{Line, Record};
use stoker_core::fleet::ledger::{Ledger, Mode, WorkerList, instances};
use stoker_core::fleet::{self, Fleet, INTERVAL, Memory, Plan, Planned, Policy, Reading, Snapshot};
use stoker_core::ids::{Epoch, FleetName, PoolName};
use stoker_core::time::Timestamp;
use stoker_proto::client::MAX_MEMORY_BYTES;
use stoker_proto::convert::{self, Seen};
use stoker_proto::v1;
use stoker_runtime::clock::Clock;
use stoker_runtime::{crash, ids};

use crate::cloud::CloudProvider;
use crate::coordinator::{Ask, CallError, Coordinator, Read, Reign, Written};
use crate::hands::Hands;
use crate::journal::Journal;
use crate::market::Market;
use crate::metrics;
use crate::totals::Totals;
use crate::watch::Watch;
use outdated::mark_outdated;
use snapshot::{News, snapshot};

/// What happened to jobs that were accepted so lately is asked for: long enough to hear of most of their ends.
const PAST: Duration = Duration::from_mins(30);
/// The longest that is lived through when nothing was learned yet.
const WHOLE_PAST: Duration = Duration::from_hours(8 * 24 - 1);
/// What was learned is written this often.
const REMEMBER_EVERY: Duration = Duration::from_mins(1);
/// The coordinator may spend a twentieth of its time on telling what waits.
const DEMAND_SHARE: u32 = 20;
/// Calls under way are waited for at the end.
const LAST_CALLS: Duration = Duration::from_mins(1);
/// A write with more entries goes without what was learned.
const MOST_BESIDE_MEMORY: usize = 1_000;

/// The parts of an autoscaler.
#[derive(Debug)]
pub struct Parts {
    pub fleet: Arc<Fleet>,
    pub sites: Sites,
    pub rules: Rules,
    pub coordinator: Coordinator,
    pub cloud: Arc<dyn CloudProvider>,
    pub clock: Arc<dyn Clock>,
    pub journal: Journal,
    /// How long the lead is kept without a word.
    pub term: Duration,
    /// How often the cloud's machines are listed.
    pub list_every: Duration,
    /// The version that workers are to be of; `None`: whatever their template brings.
    pub worker_version: Option<String>,
}

/// An autoscaler between two rounds.
#[derive(Debug)]
pub struct Autoscaler {
    fleet: FleetName,
    /// Whether the coordinator was found to be this fleet's: another's ledger is not to be led.
    is_ours: bool,
    policy: Policy,
    sites: Sites,
    rules: Rules,
    coordinator: Coordinator,
    clock: Arc<dyn Clock>,
    journal: Journal,
    market: Market,
    hands: Hands,
    /// While it leads.
    head: Option<Head>,
    demand: Demand,
    watch: Watch,
    term: Duration,
    /// The version that workers are to be of, and since when.
    wanted: Option<(String, Timestamp)>,
}

/// What the leader has in mind.
#[derive(Debug)]
struct Head {
    epoch: Epoch,
    memory: Memory,
    remembered: Instant,
    totals: Totals,
    planned: Option<Instant>,
    /// What a plan was last made for.
    news: News,
    /// Jobs that a worker runs at a time, by pool, as last known.
    slots: BTreeMap<PoolName, f64>,
    outcomes: Vec<Outcome>,
    charged: Timestamp,
}

/// What is asked for less often than once a round.
#[derive(Debug, Default)]
struct Demand {
    answer: Option<Result<(Timestamp, v1::ObserveDemandResponse), String>>,
    next: Option<Instant>,
}

/// What a round came to.
#[derive(Debug)]
struct Round {
    reign: Reign,
    now: Timestamp,
    executed: Executed,
    lines: Vec<Line>,
}

/// What a round is based on.
#[derive(Debug)]
struct Look {
    read: Read,
    read_at: Timestamp,
    workers: Reading<WorkerList>,
    seen: Seen,
    /// What was found on the way.
    findings: Vec<Finding>,
}

impl Autoscaler {
    pub fn new(parts: Parts) -> Self {
        let Parts { fleet, sites, rules, coordinator, cloud, clock, journal, .. } = parts;
        let Parts { term, list_every, worker_version, .. } = parts;
        let wanted = worker_version.map(|version| (version, clock.now()));
        let policy = Policy::of(&fleet);
        metrics::budget(&policy.budget);
        Self {
            fleet: fleet.name.clone(),
            is_ours: false,
            market: Market::new(Arc::clone(&cloud), Arc::clone(&clock), list_every),
            hands: Hands::new(cloud, coordinator.clone(), Arc::clone(&clock)),
            policy,
            sites,
            rules,
            coordinator,
            clock,
            journal,
            head: None,
            demand: Demand::default(),
            watch: Watch::default(),
            term,
            wanted,
        }
    }

    /// One round, of at most some seconds. True while this autoscaler leads.
    ///
    /// # Errors
    /// When the coordinator cannot be asked or told. Nothing was decided then, and what was under way goes on.
    pub async fn round(&mut self) -> Result<bool, CallError> {
        if !self.is_ours {
            self.coordinator.is_of(&self.fleet).await?;
            self.is_ours = true;
        }
        // Without an answer it may lead still, and what came of its calls is told in a later round.
        let led = self.coordinator.lead(self.term).await.inspect_err(|_| metrics::leads(0))?;
        let epoch = led.map(|reign| reign.epoch);
        if self.head.as_ref().is_some_and(|head| Some(head.epoch) != epoch) {
            // What it asked for is another's to find out, and what it knows is old.
            self.head = None;
            self.hands.outcomes();
        }
        let Some(reign) = led else {
            metrics::leads(0);
            return Ok(false);
        };
        metrics::leads(1);
        self.market.refresh(&self.policy);
        let look = match self.look().await {
            Err(error @ CallError::ClockOff(_)) => {
                // One whose clock is right should lead.
                self.head = None;
                metrics::leads(0);
                self.resign().await;
                return Err(error);
            }
            look => look?,
        };
        self.ask_demand().await;
        if self.head.is_none() {
            self.head = Some(self.begin(&look, reign.epoch).await?);
            tracing::info!(epoch = reign.epoch.number(), "leads the fleet");
        }
        self.decide(reign, look).await?;
        Ok(true)
    }

    /// Waits for the calls under way and gives the lead up.
    pub async fn end(mut self) {
        self.hands.finish(LAST_CALLS).await;
        if self.head.is_some() {
            self.resign().await;
        }
    }

    async fn resign(&self) {
        if let Err(error) = self.coordinator.resign().await {
            tracing::warn!(%error, "the lead could not be given up; it ends by itself");
        }
    }

    async fn look(&self) -> Result<Look, CallError> {
        let read_at = self.clock.now();
        let lately = read_at.before(Duration::from_hours(1));
        let (read, workers) = tokio::join!(
            self.coordinator
                .ledger(lately, if self.head.is_none() { Ask::All } else { Ask::Ledger }),
            self.coordinator.workers(),
        );
        let mut read = read?;
        if let Some(off) = fleet::clock_off(read.read_at, (read_at, self.clock.now())) {
            return Err(CallError::ClockOff(off));
        }
        let needed = read.ledger.account.needed_since(read_at);
        if needed < lately {
            // After a long absence what ended in it is still to be charged.
            read.ledger = self.coordinator.ledger(needed, Ask::Ledger).await?.ledger;
        }
        let now = self.clock.now();
        let seen = workers.map_err(|error| error.to_string());
        let seen = seen.and_then(|answer| Ok((convert::workers_seen(&answer, now)?, answer)));
        let mut findings = Vec::new();
        let (workers, seen) = match seen {
            Ok((mut seen, answer)) => {
                let wanted = self.wanted.as_ref();
                let wanted = wanted.map(|(version, since)| Wanted { version, since: *since });
                findings = mark_outdated(&mut seen, &read.ledger, &self.sites, wanted);
                (Reading::Known { at: now, value: seen.list.clone() }, (seen, Some(answer)))
            }
            Err(why) => (Reading::Unknown { why }, (Seen::default(), None)),
        };
        let (mut seen, answer) = seen;
        if let Some(answer) = answer {
            let pools = self.policy.pools.keys();
            seen.slots = pools
                .filter_map(|pool| Some((pool.clone(), convert::mean_slots(&answer, pool)?)))
                .collect();
        }
        Ok(Look { read, read_at, workers, seen, findings })
    }

    /// What waits, as often as it costs the coordinator little.
    async fn ask_demand(&mut self) {
        let begun = Instant::now();
        if self.demand.next.is_some_and(|next| begun < next) {
            return;
        }
        let answer = self.coordinator.demand(PAST).await;
        let now = self.clock.now();
        self.demand.answer =
            Some(answer.map(|answer| (now, answer)).map_err(|error| error.to_string()));
        self.demand.next = Some(Instant::now() + begun.elapsed() * DEMAND_SHARE);
    }

    /// What was learned by whoever led before, or what can be learned from the records.
    async fn begin(&self, look: &Look, epoch: Epoch) -> Result<Head, CallError> {
        let now = self.clock.now();
        let memory = match &look.read.memory {
            Some(memory) => memory.clone().taken_over(),
            None => self.recall(look, now).await,
        };
        Ok(Head {
            epoch,
            memory,
            remembered: Instant::now(),
            totals: Totals::default(),
            planned: None,
            news: News::default(),
            slots: BTreeMap::new(),
            outcomes: Vec::new(),
            charged: now,
        })
    }

    async fn recall(&self, look: &Look, now: Timestamp) -> Memory {
        let answer = match self.coordinator.demand(WHOLE_PAST).await {
            Ok(answer) => answer,
            Err(error) => {
                tracing::warn!(%error, "the past cannot be read; the load is learned anew");
                return Memory::default();
            }
        };
        let machines = match &look.workers {
            Reading::Known { value, .. } => instances(&look.read.ledger, value),
            Reading::Unknown { .. } => BTreeMap::new(),
        };
        let past = self.policy.pools.iter().map(|(name, pool)| {
            let slots = look.seen.slots.get(name).copied().unwrap_or(1.0);
            // What was measured on fast machines is more work than it took time.
            let speed = pool.mean_speed(machines.get(name).map(Vec::as_slice).unwrap_or_default());
            (name.clone(), convert::past_slots(&answer, name, slots / speed))
        });
        fleet::recall(&self.policy, &past.collect(), Memory::default(), now)
    }

    async fn decide(&mut self, reign: Reign, look: Look) -> Result<(), CallError> {
        let Some(head) = &mut self.head else { return Ok(()) };
        let now = self.clock.now();
        let Look { read, read_at, workers, seen, findings } = look;
        let policy = self.market.priced(&self.policy);
        head.slots.extend(seen.slots.clone());
        let snapshot = snapshot(&policy, &read.ledger, &workers, &self.demand, head);
        let news = News::of(&snapshot, &read.switch);
        let due = head.planned.is_none_or(|planned| planned.elapsed() >= INTERVAL)
            || news.is_urgent_after(&head.news);
        let mut lines = Vec::new();
        let proposal = due.then(|| {
            let (plan, line) = head.plan(&policy, &snapshot, reign.epoch, now);
            lines.push(line);
            Proposal { plan, intents: read.ledger.account.intents }
        });
        head.news = news;
        head.outcomes.extend(self.hands.outcomes());
        if !head.outcomes.is_empty() {
            let outcomes = head.outcomes.clone();
            lines.push(Line { at: now, epoch: reign.epoch, record: Record::Outcomes { outcomes } });
        }
        let situation = Situation {
            policy: &policy,
            sites: &self.sites,
            rules: &self.rules,
            epoch: reign.epoch,
            mode: read.switch.mode,
            read_at,
            listings: &self.market.listings(),
            workers: &workers,
            outcomes: &head.outcomes,
            proposal: proposal.as_ref(),
            quotas: &self.market.quotas(),
            now,
        };
        let mut fresh = || ids::machine_id(now);
        let mut executed = step(&read.ledger, &situation, &mut fresh);
        if due {
            // As often as what a plan finds; each round would fill the journal.
            executed.findings.extend(findings);
        }
        let mut round = Round { reign, now, executed, lines };
        let committed = self.write(&read, &mut round).await;
        self.journal.write(&round.lines);
        if !committed? {
            tracing::info!("somebody else wrote or spoke meanwhile; looking again");
            return Ok(());
        }
        let plan = proposal.as_ref().map(|proposal| &proposal.plan);
        metrics::written(&read.ledger, &round.executed.writes.entries, plan);
        let mut after = read.ledger.clone();
        round.executed.writes.apply_to(&mut after);
        let commands = round.executed.commands;
        self.hands.start(commands, &after.entries, &seen.of_machine, reign.until);
        self.measure(&read.ledger, (&policy, &seen.list), now);
        Ok(())
    }

    /// Reports what the ledger has, and what the time since the last report has cost.
    fn measure(&mut self, ledger: &Ledger, of: (&Policy, &WorkerList), now: Timestamp) {
        if let Some(head) = &mut self.head {
            let elapsed = now.since(head.charged);
            head.charged = now;
            metrics::ledger(ledger, of, elapsed, now);
        }
    }

    /// Writes what was decided, and what was learned now and again. False: somebody else was faster, so nothing of it
    /// holds.
    async fn write(&mut self, read: &Read, round: &mut Round) -> Result<bool, CallError> {
        let Some(head) = &mut self.head else { return Ok(false) };
        let writes = &round.executed.writes;
        let remembers = head.remembered.elapsed() >= REMEMBER_EVERY;
        let mut written = Ok(Written::Committed);
        if !writes.is_empty() || remembers {
            let memory = remembers.then(|| head.document(writes.entries.len())).flatten();
            let write = self.coordinator.write(round.reign.epoch, &read.switch, writes, memory);
            // Cut off here, the writes may be committed and the calls not made: they are in doubt, and asked after.
            written = crash::around("ledger", write).await;
        }
        let committed = matches!(written, Ok(Written::Committed));
        if committed {
            // What came of calls stands in the ledger now.
            head.outcomes.clear();
            if remembers {
                head.remembered = Instant::now();
            }
        }
        self.watch.look(&round.executed.findings);
        round.report(read.switch.mode, &written);
        written.map(|_| committed)
    }
}

impl Head {
    /// What was learned, for a write with so many entries. Left out where it would be too much for one request: what stands
    /// in the ledger is worth more.
    fn document(&self, entries: usize) -> Option<Vec<u8>> {
        if entries > MOST_BESIDE_MEMORY {
            return None;
        }
        match serde_json::to_vec(&self.memory) {
            Ok(document) if document.len() <= MAX_MEMORY_BYTES => Some(document),
            Ok(document) => {
                tracing::warn!(bytes = document.len(), "what was learned is too large to be kept");
                None
            }
            Err(error) => {
                tracing::warn!(%error, "what was learned cannot be kept");
                None
            }
        }
    }

    /// Asks the planner. Answers also the line of the journal.
    fn plan(
        &mut self,
        policy: &Policy,
        snapshot: &Snapshot,
        epoch: Epoch,
        now: Timestamp,
    ) -> (Plan, Line) {
        let memory = std::mem::take(&mut self.memory);
        let planned = fleet::plan(policy, snapshot, memory, now);
        metrics::planned(&planned.plan, &planned.report);
        let line = Line::planned(now, epoch, snapshot, &planned);
        let Planned { plan, memory, .. } = planned;
        self.memory = memory;
        self.planned = Some(Instant::now());
        (plan, line)
    }
}

impl Round {
    /// Notes a step that did or found something, for the journal and the log.
    fn report(&mut self, mode: Mode, written: &Result<Written, CallError>) {
        let committed = matches!(written, Ok(Written::Committed));
        let executed = &self.executed;
        for entry in &executed.writes.entries {
            tracing::info!(
                machine = %entry.id,
                offering = %entry.order.offering,
                state = entry.state.kind().name(),
                committed,
                "a machine"
            );
        }
        let nothing = executed.writes.entries.is_empty()
            && executed.commands.is_empty()
            && executed.findings.is_empty();
        if nothing {
            return;
        }
        let executed = Box::new(executed.clone());
        let record = Record::Executed { mode, executed, committed };
        self.lines.push(Line { at: self.now, epoch: self.reign.epoch, record });
    }
}
