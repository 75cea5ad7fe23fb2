//! Which sizes a pool's machines should have: the cheapest mix for the whole need, what is there included.
//!
//! What starts at once and what may wait are asked for one after the other, each in its own unit. Of the machines that
//! are there, the cheapest mix that covers what starts at once stays; what is left over of it works for nothing on what may
//! wait, and the others do the rest of that if they do it for the least money.
//!
//! Nobody knows how long a need will last. One that has lasted for some time is taken to last as long again, the rule of
//! who rents skis: machines are exchanged once what the better mix would have saved has paid for the move and for the way
//! back. A single choice of that kind costs at most twice what who knew the future would pay (Karlin et al., 1988). A backlog
//! is known, so there its end is the horizon.
//!
//! A pool all of whose machines and offerings have one shape has nothing to choose here: prices are the concern of
//! [`super::disrupt::consolidation`].

pub(crate) mod batch;
pub(crate) mod exchange;
pub(crate) mod mix;
pub(crate) mod resize;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::ids::InstanceName;

use super::capacity::{Capacity, EPSILON, Need, Shape};
use super::check::DisruptionBudget;
use super::provision::{Candidate, Mode};
use super::report::{LaunchReason, NoRoom, Note};
use super::roster::Member;
use batch::{Backlog, Machine};
use exchange::{Exchange, Rules};
use mix::Kind;
use resize::Resize;

/// What is there, needed and offered.
#[derive(Debug)]
pub(crate) struct View<'a> {
    /// Members by position that neither leave nor are replaced for another reason.
    pub(crate) members: &'a [(usize, &'a Member<'a>)],
    pub(crate) candidates: &'a [Candidate<'a>],
    pub(crate) need: Need,
    /// Seconds of work that may wait.
    pub(crate) work: f64,
    /// Most dollars an hour for a throughput of 1 of what is launched for that.
    pub(crate) limit: f64,
    /// What a launch is paid for before it works, or at least.
    pub(crate) boot: Duration,
    /// Since the last look.
    pub(crate) elapsed: Duration,
    /// Machines that may be replaced at a time; none while others are replaced for another reason.
    pub(crate) budget: u32,
    /// The budget of the fleet file that says so; `None`: there is none, and what one machine takes the place of may be more.
    pub(crate) by: Option<&'a DisruptionBudget>,
    /// Machines that may be launched.
    pub(crate) room: u32,
}

/// Something to launch besides what is missing at once.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Order {
    /// Only of this shape; of any if there is none to prefer.
    pub(crate) shape: Option<Shape>,
    /// In the unit of the mode.
    pub(crate) shortage: f64,
    pub(crate) mode: Mode,
    /// Only of what costs at most this much: dollars an hour for a throughput of 1 in full batches.
    pub(crate) limit: f64,
    pub(crate) reason: LaunchReason,
}

/// How many machines of each shape are to stay; nothing is said of pools of one shape.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Keep(Option<BTreeMap<Shape, u32>>);

impl Keep {
    /// How many of a shape may go when there are `there`.
    fn beyond(&self, shape: Shape, there: u32) -> u32 {
        match &self.0 {
            None => there,
            Some(keep) => there.saturating_sub(keep.get(&shape).copied().unwrap_or(0)),
        }
    }

    /// Whether sizes are told apart.
    pub(crate) const fn tells(&self) -> bool {
        self.0.is_some()
    }
}

/// A count of machines by shape from which those that go are taken off.
#[derive(Debug, Clone)]
pub(crate) struct Census<'a> {
    keep: &'a Keep,
    there: BTreeMap<Shape, u32>,
}

impl<'a> Census<'a> {
    pub(crate) fn new<'b>(keep: &'a Keep, members: impl Iterator<Item = &'b Member<'b>>) -> Self {
        let mut there = BTreeMap::new();
        for member in members {
            *there.entry(member.capacity().shape()).or_default() += 1;
        }
        Self { keep, there }
    }

    /// Whether a machine of this shape is beyond those that are to stay.
    pub(crate) fn spares(&self, shape: Shape) -> bool {
        self.keep.beyond(shape, self.there.get(&shape).copied().unwrap_or(0)) > 0
    }

    pub(crate) fn remove(&mut self, shape: Shape) {
        if let Some(there) = self.there.get_mut(&shape) {
            *there = there.saturating_sub(1);
        }
    }
}

/// What is decided about sizes.
#[derive(Debug, Default)]
pub(crate) struct Sizing {
    pub(crate) keep: Keep,
    pub(crate) orders: Vec<Order>,
    /// Machines that are marked if the orders are launched.
    pub(crate) replaced: Vec<InstanceName>,
    /// Machines that would be replaced, too, or that could be if the budget was larger.
    pub(crate) withheld: u32,
    pub(crate) notes: Vec<Note>,
}

/// Decides about sizes. The memory learns what was missed, and forgets marks that are not wanted any more.
pub(crate) fn plan(view: &View<'_>, resize: &mut Resize) -> Sizing {
    let members = view.members.iter().map(|(_, member)| member.capacity().shape());
    let offered = view.candidates.iter().map(|one| Capacity::of(one.offering).shape());
    if members.chain(offered).collect::<BTreeSet<Shape>>().len() <= 1 {
        *resize = Resize::default();
        return alike(view);
    }
    let stock = Stock::new(view);
    let offered = offered_kinds(view.candidates);
    let mix = mix::cheapest(view.need.prompt, &stock.kinds);
    let kept: Vec<u32> = match &mix {
        Some(counts) => counts.clone(),
        None => stock.kinds.iter().map(|kind| kind.count).collect(),
    };
    let mut sizing = Sizing::default();
    let mut keep: BTreeMap<Shape, u32> = BTreeMap::new();
    for (kind, count) in stock.kinds.iter().zip(&kept) {
        *keep.entry(kind.capacity.shape()).or_default() += count;
    }
    batches(view, (&stock, &kept, &offered), (&mut keep, resize), &mut sizing);
    sizing.keep = Keep(Some(keep));
    trim(view, &sizing.keep, resize);
    if mix.is_some() {
        sizes(view, (&stock, &kept, &offered), resize, &mut sizing);
    }
    sizing
}

/// Members whose price is known, by kind, and the workers of speed 1 that are needed of them. The others are replaced for that, not
/// for their size.
fn priced(stock: &Stock<'_>, kept: &[u32], need: f64) -> (Vec<Kind>, f64) {
    let mut of_others = 0.0;
    let kinds = stock.kinds.iter().zip(kept).map(|(kind, count)| {
        if kind.price < UNKNOWN_PRICE {
            return Kind { count: *count, ..*kind };
        }
        of_others += kind.capacity.prompt * f64::from(*count);
        Kind { count: 0, ..*kind }
    });
    let kinds = kinds.collect();
    (kinds, (need - of_others).max(0.0))
}

/// With machines of one shape, what may wait is met with what is missing for it.
fn alike(view: &View<'_>) -> Sizing {
    let have: Capacity = view.members.iter().map(|(_, member)| member.capacity()).sum();
    let shortage = view.need.bulk - have.beside(view.need.prompt);
    let reason = LaunchReason::Bulk { seconds: view.work };
    if view.work > EPSILON && view.need.bulk <= EPSILON {
        return Sizing { notes: patient(view), ..Sizing::default() };
    }
    if shortage <= EPSILON {
        return Sizing::default();
    }
    if !view.candidates.iter().any(|one| one.job_price() <= view.limit) {
        return Sizing { notes: patient(view), ..Sizing::default() };
    }
    let limit = view.limit;
    let order = Order { shape: None, shortage, mode: Mode::Bulk, limit, reason };
    Sizing { orders: vec![order], ..Sizing::default() }
}

/// Work that waits for more of its kind, or for what is cheap. Without a bound there is nothing to be had.
fn patient(view: &View<'_>) -> Vec<Note> {
    let waits = view.limit.is_finite().then_some(Note::Patient { seconds: view.work });
    waits.into_iter().collect()
}

/// The members, by what they are and cost.
#[derive(Debug)]
struct Stock<'a> {
    kinds: Vec<Kind>,
    /// Of each kind, those that have the least to hand over first.
    members: Vec<Vec<&'a Member<'a>>>,
}

/// What is of no known price is dear.
const UNKNOWN_PRICE: f64 = 1e6;

impl<'a> Stock<'a> {
    fn new(view: &View<'a>) -> Self {
        let mut kinds: BTreeMap<(Shape, u64), (Kind, Vec<&Member<'_>>)> = BTreeMap::new();
        for (_, member) in view.members {
            let named = |one: &&Candidate<'_>| *one.name == member.instance.offering;
            let offered = view.candidates.iter().find(named).map(|one| one.price);
            let own = member.offering.map(|offering| offering.price.hour().dollars());
            let price = offered.or(own).unwrap_or(UNKNOWN_PRICE);
            let capacity = member.capacity();
            let (kind, alike) = kinds
                .entry((capacity.shape(), price.to_bits()))
                .or_insert_with(|| (Kind { capacity, price, count: 0 }, Vec::new()));
            kind.count += 1;
            alike.push(member);
        }
        let (kinds, mut members): (Vec<Kind>, Vec<Vec<&Member<'_>>>) = kinds.into_values().unzip();
        for alike in &mut members {
            alike.sort_by_key(|member| member.instance.running());
        }
        Self { kinds, members }
    }

    /// The machines beyond `kept` of each kind, by what a job costs on them. One that is marked leaves for nothing more.
    fn others(&self, kept: &[u32], marked: &[InstanceName]) -> Vec<(Machine, &'a Member<'a>)> {
        let mut others = Vec::new();
        for ((kind, members), kept) in self.kinds.iter().zip(&self.members).zip(kept) {
            let beyond = usize::try_from(kind.count.saturating_sub(*kept)).unwrap_or(usize::MAX);
            for member in members.iter().take(beyond) {
                let ready = member.instance.works() && !marked.contains(&member.instance.name);
                let Kind { capacity, price, .. } = *kind;
                others.push((Machine { capacity, price, ready }, *member));
            }
        }
        others.sort_by(|(a, _), (b, _)| a.job_price().total_cmp(&b.job_price()));
        others
    }
}

/// One kind for each shape that can be launched, at its lowest price.
fn offered_kinds(candidates: &[Candidate<'_>]) -> Vec<Kind> {
    let mut kinds: BTreeMap<Shape, Kind> = BTreeMap::new();
    for one in candidates {
        let kind = Kind { capacity: Capacity::of(one.offering), price: one.price, count: u32::MAX };
        let cheapest = kinds.entry(kind.capacity.shape()).or_insert(kind);
        if kind.price < cheapest.price {
            *cheapest = kind;
        }
    }
    kinds.into_values().collect()
}

fn hours(duration: Duration) -> f64 {
    duration.as_secs_f64() / 3600.0
}

/// What may wait: who works it off, and who is not needed for it when that is there.
fn batches(
    view: &View<'_>,
    (stock, kept, offered): (&Stock<'_>, &[u32], &[Kind]),
    (keep, resize): (&mut BTreeMap<Shape, u32>, &Resize),
    sizing: &mut Sizing,
) {
    if view.work <= EPSILON {
        return;
    }
    if view.need.bulk <= EPSILON {
        sizing.notes.extend(patient(view));
        return;
    }
    let others = stock.others(kept, &resize.marked);
    let machines: Vec<Machine> = others.iter().map(|(machine, _)| *machine).collect();
    let kept = stock.kinds.iter().zip(kept).map(|(kind, count)| Capacity {
        prompt: kind.capacity.prompt * f64::from(*count),
        bulk: kind.capacity.bulk * f64::from(*count),
    });
    let backlog = Backlog {
        work: view.work,
        rate: view.need.bulk,
        free: kept.sum::<Capacity>().beside(view.need.prompt),
        boot_hours: hours(view.boot),
        room: view.room,
    };
    let cheap = |kind: &&Kind| kind.price / kind.capacity.bulk <= view.limit;
    let cheap: Vec<Kind> = offered.iter().filter(cheap).copied().collect();
    let choice = batch::choose(&machines, &cheap, &backlog);
    if choice.launch.is_none() && cheap.len() < offered.len() && !choice.dollars.is_finite() {
        sizing.notes.extend(patient(view));
    }
    let (stay, leave) = others.split_at(choice.stay.min(others.len()));
    for (machine, _) in stay {
        *keep.entry(machine.capacity.shape()).or_default() += 1;
    }
    let mut successors = 0;
    if let Some((shape, count)) = choice.launch
        && let Some(kind) = offered.iter().find(|kind| kind.capacity.shape() == shape)
    {
        sizing.orders.push(Order {
            shape: Some(shape),
            shortage: f64::from(count) * kind.capacity.bulk,
            mode: Mode::Bulk,
            limit: view.limit,
            reason: LaunchReason::Bulk { seconds: view.work },
        });
        successors = count;
    }
    // Nobody is marked without a successor, and as many at a time as the budget says, or as one takes the place of.
    let marked = resize.marked.len();
    let budget = usize::try_from(view.budget).unwrap_or(usize::MAX).saturating_sub(marked);
    let most = if successors == 1 && view.by.is_none() { leave.len() } else { budget };
    if successors > 0 && view.budget > 0 {
        let names = leave.iter().rev().map(|(_, member)| member.instance.name.clone());
        sizing.replaced.extend(names.take(most));
    }
    if successors > 0 && view.by.is_some() {
        let beyond = leave.len().saturating_sub(most.saturating_add(marked));
        sizing.withheld = u32::try_from(beyond).unwrap_or(u32::MAX);
    }
}

/// Marks stay only on what is not to stay.
fn trim(view: &View<'_>, keep: &Keep, resize: &mut Resize) {
    let mut census = Census::new(keep, view.members.iter().map(|(_, member)| *member));
    let shape_of = |name: &InstanceName| {
        let found = view.members.iter().find(|(_, member)| member.instance.name == *name);
        found.map(|(_, member)| member.capacity().shape())
    };
    resize.marked.retain(|name| {
        let Some(shape) = shape_of(name).filter(|shape| census.spares(*shape)) else {
            return false;
        };
        census.remove(shape);
        true
    });
    let ready = view.members.iter().filter(|(_, member)| member.instance.works());
    let ready = ready.map(|(_, member)| member.capacity()).sum();
    resize.wait(ready, view.elapsed, view.boot);
}

/// What starts at once: whether machines of other sizes have been cheaper for long enough.
fn sizes(
    view: &View<'_>,
    (stock, kept, offered): (&Stock<'_>, &[u32], &[Kind]),
    resize: &mut Resize,
    sizing: &mut Sizing,
) {
    let (kinds, need) = priced(stock, kept, view.need.prompt);
    let rules = Rules {
        need,
        boot_hours: hours(view.boot),
        budget: view.budget,
        firm: view.by.is_some(),
        room: view.room,
    };
    // One exchange after the other, each for what is left by the one before.
    let busy = !resize.marked.is_empty() || !sizing.replaced.is_empty();
    let found = if busy { None } else { exchange::best(&kinds, offered, &rules) };
    let saving = found.as_ref().map(|exchange| exchange.saving);
    // Nothing is missed while others are replaced for another reason.
    if view.budget > 0 {
        resize.observe(saving, hours(view.elapsed), rules.boot_hours);
    }
    if found.is_none() && !busy && rules.firm {
        let free = Rules { budget: u32::MAX, firm: false, ..rules };
        let larger = exchange::best(&kinds, offered, &free);
        sizing.withheld = larger.map_or(0, |exchange| exchange.out.iter().sum());
    }
    if found.is_none() && !busy && view.room == 0 {
        let roomy = exchange::best(&kinds, offered, &Rules { room: u32::MAX, ..rules });
        let saving = roomy.map(|exchange| exchange.saving);
        sizing.notes.extend(saving.map(|saving| Note::NoRoom(NoRoom::Sizes { saving })));
    }
    let Some(exchange) = found else { return };
    let Exchange { saving, cost, .. } = exchange;
    if view.budget == 0 || resize.missed < cost {
        sizing.notes.push(Note::OtherSizes { saving, missed: resize.missed, cost });
        return;
    }
    for (members, out) in stock.members.iter().zip(&exchange.out) {
        let count = usize::try_from(*out).unwrap_or(usize::MAX);
        let names = members.iter().take(count).map(|member| member.instance.name.clone());
        sizing.replaced.extend(names);
    }
    let of = exchange.out.iter().sum();
    if let Some(kind) = offered.iter().find(|kind| kind.capacity.shape() == exchange.shape) {
        sizing.orders.push(Order {
            shape: Some(exchange.shape),
            shortage: f64::from(exchange.count) * kind.capacity.prompt,
            mode: Mode::Prompt,
            limit: f64::INFINITY,
            reason: LaunchReason::Resize { of, saving },
        });
    }
}
