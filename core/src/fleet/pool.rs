//! One pool's plan: look, expect, want, buy, give up.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::ids::{ClassName, ModelName, PoolName};
use crate::time::Timestamp;

use super::backlog;
use super::caps::Allowance;
use super::demand::News;
use super::disrupt::budget::{Budgets, Room};
use super::disrupt::headroom::Headroom;
use super::disrupt::{self, Marks, Scene};
use super::expectation::{Expected, Stock};
use super::input::{self, Hold, Input};
use super::launch::{self, Shortage};
use super::memory::PoolMemory;
use super::patience;
use super::plan::Step;
use super::policy::PoolPolicy;
use super::provision::{self, Candidate};
use super::removal::Removal;
use super::report::{Findings, Note};
use super::roster::{Member, Roster};
use super::sizing::resize::Resize;
use super::sizing::{self, Sizing};
use super::snapshot::{InstanceState, PoolSnapshot};
use super::spec::DisruptionReason;
use super::terms;
use super::want::{self, Want};

/// Jobs that run for fewer seconds than this are done long before a drain ends.
const SHORT_RUN: f64 = 180.0;

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
    let roster = Roster::new(input.instances, &policy.scaling);
    let mut notes = observe(context, memory, (&input, &roster), boot);

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
    let (candidates, paused) = provision::candidates(&policy.scaling, &memory.risks, boot, now);
    notes.extend(want.notes.iter().cloned().chain(paused));
    let mut budgets = budgets(context, (&roster, &gone), &want, &memory.resize);
    let marks = marks(context, (&roster, &gone), &candidates, &mut budgets);

    let spares = launch::spares(memory, &roster.counts(), policy);
    let there = (&roster, &gone[..], &marks);
    let sized = sized(context, memory, there, (&want, spares), (&candidates, &mut budgets));
    notes.extend(marks.notes.iter().chain(&sized.notes).cloned());

    let expected =
        Expected { context, roster: &roster, outlook: &outlook, due: &due, terms: &terms };
    let predictions = expected.of_staying(&gone);
    let shortage = Shortage {
        want: &want,
        spares,
        staying: ready + booting,
        marked: capacity_of(&roster, &marks),
        leaving: roster.members.iter().filter(|m| m.instance.leaving()).count() + dead.len(),
        orders: &sized.orders,
        broken: expected.is_broken(&predictions),
        waiting: input.waiting,
    };
    let mut steps = launch::steps(context, memory, (&shortage, &candidates), allowance, &mut notes);
    settle(&sized, &steps, &roster, &mut memory.resize);

    let removal = Removal {
        roster: &roster,
        want: &want,
        spares,
        marks: &marks,
        headroom: Headroom::new((&roster, &policy.scaling), &candidates, (allowance, &steps)),
        keep: &sized.keep,
        resize: &memory.resize,
        demand: &memory.demand,
        waiting: (input.waiting > 0, want.bulk_work > 0.0),
        dead,
        interrupted,
    };
    let bounds = (&mut memory.surplus_since, &mut budgets);
    steps.extend(removal.steps(context, bounds, &mut gone, &mut notes));
    notes.extend(budgets.notes());
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
    boot: Duration,
) -> Vec<Note> {
    let now = context.now;
    let terms = terms::terms(context.policy, &memory.demand, (boot, context.warm_for), now);
    let elapsed = memory.planned_at.map_or(Duration::ZERO, |before| now.since(before));
    // Long jobs that could have waited and run now are not to be handed over only because nothing waits behind
    // them; and of a time in which nobody looked nothing is known.
    let is_short =
        |model: &&ModelName| memory.demand.measured(model).is_some_and(|mean| mean <= SHORT_RUN);
    let little = patience::little(&context.policy.scaling, &memory.risks, terms.boot);
    let may_go = input.bulk_running == 0 || little > 0.0 && input.bulk_models.iter().all(is_short);
    if !may_go || elapsed > input::STALE_AFTER {
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
        let counts = |class: &ClassName| terms::is_prompt(context.policy, class, boot);
        news = News { cold, ..memory.demand.news(&since, counts) };
    }
    memory.demand.observe(&news, &terms, now);
    for class in &input.present {
        memory.demand.see(class, now);
    }
    for member in roster.members.iter().filter(|member| member.offering.is_none()) {
        notes.push(Note::UnknownOffering { instance: member.instance.name.clone() });
    }
    for instance in roster.members.iter().map(|member| member.instance) {
        if let (Some(told), None) = (instance.remaining, instance.credible_remaining()) {
            notes.push(Note::EndlessWork { instance: instance.name.clone(), told });
        }
    }
    notes
}

/// What is to be replaced by its like.
fn marks(
    context: &Context<'_>,
    (roster, gone): (&Roster<'_>, &[usize]),
    candidates: &[Candidate<'_>],
    budgets: &mut Budgets<'_>,
) -> Marks {
    let expire_after = context.policy.scaling.expire_after;
    disrupt::marks(&Scene { roster, candidates, expire_after, now: context.now }, gone, budgets)
}

/// What may be taken out, less the machines that wait for successors of another size.
fn budgets<'a>(
    context: &Context<'a>,
    (roster, gone): (&Roster<'_>, &[usize]),
    want: &Want,
    resize: &Resize,
) -> Budgets<'a> {
    let disruption = &context.policy.scaling.disruption;
    let wanted = if want.bulk_work > 0.0 { f64::INFINITY } else { f64::from(want.prompt) };
    let mut budgets = Budgets::new(disruption, (roster, gone), wanted, context.now);
    let marked = roster.staying(gone).filter(|(_, m)| resize.marked.contains(&m.instance.name));
    marked.for_each(|_| budgets.count_marked(DisruptionReason::Resized));
    budgets
}

fn capacity(roster: &Roster<'_>, gone: &[usize], counts: impl Fn(&Member<'_>) -> bool) -> f64 {
    roster.staying(gone).filter(|(_, m)| counts(m)).map(|(_, m)| m.speed()).sum()
}

fn capacity_of(roster: &Roster<'_>, marks: &Marks) -> f64 {
    let marked = marks.replace.iter().filter_map(|(at, _)| roster.members.get(*at));
    marked.map(Member::speed).sum()
}

/// Decides about sizes, for what is not lost or replaced anyway.
fn sized(
    context: &Context<'_>,
    memory: &mut PoolMemory,
    (roster, gone, marks): (&Roster<'_>, &[usize], &Marks),
    (want, spares): (&Want, u32),
    (candidates, budgets): (&[Candidate<'_>], &mut Budgets<'_>),
) -> Sizing {
    let Context { policy, now, .. } = *context;
    let members: Vec<(usize, &Member<'_>)> = roster
        .staying(gone)
        .filter(|(at, _)| marks.replace.iter().all(|(marked, _)| marked != at))
        .collect();
    let elapsed = memory.planned_at.map_or(Duration::ZERO, |before| now.since(before));
    let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    let scaling = &policy.scaling;
    let boot = memory.boot.or(scaling.boot);
    let room = scaling.max.saturating_sub(count(roster.members.len()));
    let Room { left, by } = budgets.room(DisruptionReason::Resized);
    let marked = if by.is_some() { memory.resize.marked.len() } else { 0 };
    let view = sizing::View {
        members: &members,
        candidates,
        need: want.need(spares),
        work: want.bulk_work,
        limit: patience::limit(want, (scaling, room), &memory.risks, boot),
        boot: boot.max(disrupt::emptiness::LEAST_BILL),
        // Of a time in which nobody looked nothing is known.
        elapsed: if elapsed > input::STALE_AFTER { Duration::ZERO } else { elapsed },
        budget: if marks.replace.is_empty() { count(left.saturating_add(marked)) } else { 0 },
        by,
        room,
    };
    let sizing = sizing::plan(&view, &mut memory.resize);
    if let (Some(budget), true) = (by, marks.replace.is_empty()) {
        budgets.withhold(DisruptionReason::Resized, budget, sizing.withheld);
    }
    sizing
}

/// Marks what has successors now, if they were launched: bounds may have forbidden it.
fn settle(sized: &Sizing, steps: &[Step], roster: &Roster<'_>, resize: &mut Resize) {
    let ordered = |step: &Step| match step {
        Step::Launch { reason, .. } => sized.orders.iter().any(|order| order.reason == *reason),
        Step::Drain { .. } | Step::Terminate { .. } => false,
    };
    if sized.replaced.is_empty() || !steps.iter().any(ordered) {
        return;
    }
    let ready = roster.staying(&[]).filter(|(_, member)| member.instance.works());
    resize.mark(&sized.replaced, ready.map(|(_, member)| member.capacity()).sum());
}
