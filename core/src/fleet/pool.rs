//! One pool's plan: look, expect, want, buy, give up.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::ids::{ClassName, PoolName};
use crate::time::Timestamp;

use super::backlog;
use super::caps::Allowance;
use super::demand::{News, Terms};
use super::disrupt::emptiness::Balance;
use super::disrupt::{self, Marks, Scene};
use super::expectation::{Expected, Stock};
use super::input::{self, Hold, Input};
use super::launch::{self, Shortage};
use super::memory::PoolMemory;
use super::number::ceil;
use super::plan::Step;
use super::policy::PoolPolicy;
use super::provision;
use super::report::{Findings, Note, RemoveReason};
use super::roster::{Member, Roster};
use super::snapshot::{InstanceState, PoolSnapshot};
use super::terms;
use super::want::{self, Want};

/// What a pool's plan is made from, besides its memory and what may be bought.
#[derive(Debug)]
pub(crate) struct Context<'a> {
    pub(crate) name: &'a PoolName,
    pub(crate) policy: &'a PoolPolicy,
    pub(crate) observed: Option<&'a PoolSnapshot>,
    /// A class for which the last worker has to stay.
    pub(crate) warm_for: Option<&'a ClassName>,
    pub(crate) now: Timestamp,
}

/// Plans for one pool, or says what it waits for; then the memory is as it was.
pub(crate) fn plan(
    context: &Context<'_>,
    memory: &mut PoolMemory,
    allowance: &mut Allowance,
) -> Result<(Vec<Step>, Findings), Hold> {
    let Context { policy, now, .. } = *context;
    forward(memory, now)?;
    let boot = memory.boot.or(policy.scaling.boot);
    let input = input::read(context.observed, policy, boot, now)?;
    let known = terms::terms(policy, &memory.demand, (boot, context.warm_for), now);
    let roster = Roster::new(input.instances, &policy.scaling);
    let mut notes = observe(context, memory, (&input, &roster), &known);

    // Classes whose first jobs have just been seen count from now on.
    let terms = terms::terms(policy, &memory.demand, (boot, context.warm_for), now);
    let outlook = memory.demand.outlook(&terms, now);
    let (dead, dead_note) = disrupt::liveness::dead(&roster, boot, now);
    notes.extend(dead_note);
    let interrupted = disrupt::interruption::drains(&roster, now);
    let mut gone: Vec<usize> = dead.iter().map(|(at, _)| *at).collect();
    let ready = capacity(&roster, &gone, |member| member.instance.works());
    let booting = capacity(&roster, &gone, |member| !member.instance.works());

    let due = backlog::due(&input.prompt, &memory.demand, &outlook);
    let want = want::want(policy, (&input, &due), memory, (&outlook, &terms), (ready, now));
    notes.extend(want.notes.iter().cloned());
    let (candidates, paused) = provision::candidates(&policy.scaling, &memory.risks, boot, now);
    notes.extend(paused);
    let scene = Scene {
        roster: &roster,
        candidates: &candidates,
        expire_after: policy.scaling.expire_after,
        now,
    };
    let marks = disrupt::marks(&scene, &gone);
    notes.extend(marks.notes.iter().cloned());

    let expected =
        Expected { context, roster: &roster, outlook: &outlook, due: &due, terms: &terms };
    let predictions = expected.of_staying(&gone);
    let spares = launch::spares(memory, &roster.counts(), policy);
    let shortage = Shortage {
        want: &want,
        spares,
        staying: ready + booting,
        marked: capacity_of(&roster, &marks),
        leaving: roster.members.iter().filter(|m| m.instance.leaving()).count() + dead.len(),
        bulk: bulk_capacity(&roster, &gone, &want),
        broken: expected.is_broken(&predictions),
        waiting: input.waiting,
    };
    let mut steps = launch::steps(context, memory, (&shortage, &candidates), allowance, &mut notes);

    let removal =
        Removal { roster: &roster, want: &want, spares, marks: &marks, dead, interrupted };
    steps.extend(removal.steps(context, &mut memory.surplus_since, &mut gone, &mut notes));
    memory.planned_at = Some(now);
    let planned = expected.of_plan(&steps, &predictions);
    expected.note(&planned, &mut memory.demand);
    let stock = Stock { wanted: want.prompt, ready, booting, waiting: input.waiting };
    Ok((steps, expected.findings(memory, stock, (&predictions, &planned), notes)))
}

/// Time that is planned twice would be learned twice. A small step back does no harm, and after a large one the old
/// time was the wrong one.
fn forward(memory: &PoolMemory, now: Timestamp) -> Result<(), Hold> {
    let by = memory.planned_at.map_or(Duration::ZERO, |before| before.since(now));
    let harmful = by > Duration::from_secs(1) && by < input::STALE_AFTER;
    if harmful { Err(Hold::ClockWentBack { by }) } else { Ok(()) }
}

/// Brings the memory up to date with what was observed.
fn observe(
    context: &Context<'_>,
    memory: &mut PoolMemory,
    (input, roster): (&Input<'_>, &Roster<'_>),
    terms: &Terms,
) -> Vec<Note> {
    let now = context.now;
    let elapsed = memory.planned_at.map_or(Duration::ZERO, |before| now.since(before));
    // Long jobs that could have waited and run now are not to be handed over only because nothing waits behind
    // them; and of a time in which nobody looked nothing is known.
    if input.bulk_running > 0 || elapsed > input::STALE_AFTER {
        memory.surplus_since = None;
    }
    let counts = roster.counts();
    if let Some(observed) = context.observed {
        let mut troubled = BTreeSet::new();
        for (name, market) in &observed.markets {
            let live = counts.get(name).copied().unwrap_or(0);
            let risk = memory.risks.entry(name.clone()).or_default();
            if risk.observe(*market, u64::from(live), elapsed, now) {
                troubled.insert(name);
            }
        }
        memory.ties.observe(&troubled, elapsed, now);
    }
    memory.boot.observe(roster.members.iter().filter_map(|member| match member.instance.state {
        InstanceState::Ready { ready_at, .. } => Some((member.instance.launched_at, ready_at)),
        InstanceState::Booting | InstanceState::Draining { .. } => None,
    }));
    let mut notes = Vec::new();
    let cold = !roster.members.iter().any(|member| member.instance.works());
    let before = memory.counters.replace(input.counters.clone());
    let since = before.as_ref().map(|before| input.counters.since(before));
    notes.extend(matches!(since, Some(None)).then_some(Note::CounterReset));
    let mut news = News { cold, ..News::default() };
    if let Some(mut since) = since.flatten() {
        notes.extend(since.believed(&input.counters, elapsed));
        since.arrived().for_each(|class| memory.demand.see(class, now));
        let counts = |class: &ClassName| terms::is_prompt(context.policy, class, terms.boot);
        news = News { cold, ..memory.demand.news(&since, counts) };
    }
    memory.demand.observe(&news, terms, now);
    for class in &input.present {
        memory.demand.see(class, now);
    }
    for member in roster.members.iter().filter(|member| member.offering.is_none()) {
        notes.push(Note::UnknownOffering { instance: member.instance.name.clone() });
    }
    notes
}

fn capacity(roster: &Roster<'_>, gone: &[usize], counts: impl Fn(&Member<'_>) -> bool) -> f64 {
    roster.staying(gone).filter(|(_, m)| counts(m)).map(|(_, m)| m.speed()).sum()
}

fn capacity_of(roster: &Roster<'_>, marks: &Marks) -> f64 {
    let marked = marks.replace.iter().filter_map(|(at, _)| roster.members.get(*at));
    marked.map(Member::speed).sum()
}

/// What the workers can do for jobs that may wait, besides what is wanted of them for the others.
fn bulk_capacity(roster: &Roster<'_>, gone: &[usize], want: &Want) -> f64 {
    let prompt = capacity(roster, gone, |_| true);
    let bulk: f64 = roster.staying(gone).map(|(_, member)| member.bulk_speed()).sum();
    if prompt > 0.0 { bulk * (1.0 - f64::from(want.prompt) / prompt).max(0.0) } else { 0.0 }
}

/// More workers than are wanted, none of them idle, for this long: one of them goes.
const SURPLUS: Duration = Duration::from_mins(5);

/// What is taken out.
struct Removal<'a> {
    roster: &'a Roster<'a>,
    want: &'a Want,
    spares: u32,
    marks: &'a Marks,
    dead: Vec<(usize, RemoveReason)>,
    interrupted: Vec<(usize, RemoveReason, Timestamp)>,
}

impl Removal<'_> {
    fn steps(
        &self,
        context: &Context<'_>,
        surplus_since: &mut Option<Timestamp>,
        gone: &mut Vec<usize>,
        notes: &mut Vec<Note>,
    ) -> Vec<Step> {
        let mut steps = Vec::new();
        for (at, reason) in &self.dead {
            steps.extend(self.terminate(context, *at, *reason));
        }
        for (at, reason, deadline) in &self.interrupted {
            steps.extend(self.drain(context, *at, (*reason, *deadline)));
        }
        let wanted = f64::from(self.want.prompt) + self.want.bulk;
        let marked: Vec<usize> = self.marks.replace.iter().map(|(at, _)| *at).collect();
        let mut others = gone.clone();
        others.extend(&marked);
        // A marked instance goes once the others do without it, whether or not it is busy.
        let mut ready = capacity(self.roster, gone, |m| m.instance.works());
        let mut successors = capacity(self.roster, &others, |m| m.instance.works());
        let all_wanted = wanted + f64::from(self.spares);
        for (at, reason) in &self.marks.replace {
            let Some(member) = self.roster.members.get(*at) else { continue };
            let speed = if member.instance.works() { member.speed() } else { 0.0 };
            // Nobody comes after one that is not needed.
            if member.idle_since().is_some() && ready - speed >= all_wanted - 1e-9 {
                let reason = RemoveReason::Empty { wanted: ceil(all_wanted), have: ready };
                ready -= speed;
                gone.push(*at);
                steps.extend(self.terminate(context, *at, reason));
                continue;
            }
            if successors < member.speed() || ready - speed < wanted - 1e-9 {
                continue;
            }
            ready -= speed;
            successors -= member.speed();
            gone.push(*at);
            let deadline = context.now.after(disrupt::liveness::DRAIN);
            steps.extend(self.drain(context, *at, (*reason, deadline)));
        }
        // Successors are not left over while what they replace is still there.
        let have = capacity(self.roster, &others, |_| true);
        let balance = Balance { wanted: all_wanted, have };
        let removals = disrupt::emptiness::removals(self.roster, &others, balance, context.now);
        notes.extend(removals.note);
        for (at, reason) in removals.terminate {
            steps.extend(self.terminate(context, at, reason));
        }
        let Some(at) = removals.spare else {
            *surplus_since = None;
            return steps;
        };
        let span = context.now.since(*surplus_since.get_or_insert(context.now));
        if span >= SURPLUS {
            let (wanted, have) = (ceil(balance.wanted), removals.have);
            let reason = RemoveReason::Spare { wanted, have, span };
            let deadline = context.now.after(disrupt::liveness::DRAIN);
            steps.extend(self.drain(context, at, (reason, deadline)));
            // The next one has its own time.
            *surplus_since = None;
        }
        steps
    }

    fn terminate(&self, context: &Context<'_>, at: usize, reason: RemoveReason) -> Option<Step> {
        let instance = self.roster.members.get(at)?.instance.name.clone();
        Some(Step::Terminate { pool: context.name.clone(), instance, reason })
    }

    fn drain(
        &self,
        context: &Context<'_>,
        at: usize,
        (reason, deadline): (RemoveReason, Timestamp),
    ) -> Option<Step> {
        let instance = self.roster.members.get(at)?.instance.name.clone();
        Some(Step::Drain { pool: context.name.clone(), instance, deadline, reason })
    }
}
