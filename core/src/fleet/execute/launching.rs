//! Launches of the plan, as far as the caps, the pools' bounds and the breaker go: all of them checked against the
//! ledger, whatever the planner thought.

use std::collections::{BTreeMap, BTreeSet};

use crate::fleet::caps::{Allowance, Cap, LAUNCH_WINDOW};
use crate::fleet::check::Offering;
use crate::fleet::ledger::{Entry, Event, Failure, Mode, Order, State};
use crate::fleet::plan::Step;
use crate::ids::{MachineId, OfferingName, PoolName};

use super::Site;
use super::breaker::{Verdict, verdict};
use super::finding::Finding;
use super::outcomes::market;
use super::pause::{self, Held};
use super::quota;
use super::turn::Turn;

/// What the plan wants of one offering.
struct Wish<'a> {
    pool: &'a PoolName,
    name: &'a OfferingName,
    offering: &'a Offering,
    site: &'a Site,
    count: u32,
    reason: String,
}

pub(super) fn follow_plan(turn: &mut Turn<'_>, fresh: &mut dyn FnMut() -> MachineId) {
    if turn.situation.mode != Mode::Run {
        return;
    }
    let wishes = wishes(turn);
    if !wishes.is_empty() {
        let mut allowance = allowance(turn);
        for wish in &wishes {
            grant(turn, wish, &mut allowance, fresh);
        }
    }
    ask(turn);
}

fn wishes<'a>(turn: &mut Turn<'a>) -> Vec<Wish<'a>> {
    let situation = turn.situation;
    let Some(proposal) = situation.proposal else { return Vec::new() };
    let launches = |step: &Step| matches!(step, Step::Launch { .. });
    if !proposal.plan.steps.iter().any(launches) {
        return Vec::new();
    }
    if proposal.intents != turn.account.intents {
        turn.findings.push(Finding::OldPlan);
        return Vec::new();
    }
    let mut wishes = Vec::new();
    for step in &proposal.plan.steps {
        let Step::Launch { pool, offering: name, count, reason } = step else { continue };
        let known = situation.policy.pools.get(pool);
        let offering = known.and_then(|known| known.scaling.offerings.get(name));
        let site = situation.sites.get(pool).and_then(|sites| sites.get(name));
        let Some((offering, site)) = offering.zip(site) else {
            let (pool, offering) = (pool.clone(), name.clone());
            turn.findings.push(Finding::NoSite { pool, offering });
            continue;
        };
        let (count, reason) = (*count, reason.to_string());
        wishes.push(Wish { pool, name, offering, site, count, reason });
    }
    wishes
}

/// What may be bought, by the ledger. Machines in no entry count as well: they cost and take up places.
fn allowance(turn: &Turn<'_>) -> Allowance {
    let (mut count, per_hour) = turn.running();
    count = count.saturating_add(u32::try_from(turn.account.orphans.len()).unwrap_or(u32::MAX));
    let lately = |entry: &&Entry| {
        let never_asked = matches!(entry.state, State::Failed { class: Failure::CalledOff, .. });
        !never_asked && turn.now().since(entry.times.intended) <= LAUNCH_WINDOW
    };
    let launches = turn.entries.values().filter(lately).count();
    let launches = u32::try_from(launches).unwrap_or(u32::MAX);
    let so_far = (turn.account.spend.day_spent, turn.account.spend.month_spent);
    Allowance::of(&turn.situation.policy.budget, (count, per_hour), launches, so_far)
}

fn grant(
    turn: &mut Turn<'_>,
    wish: &Wish<'_>,
    allowance: &mut Allowance,
    fresh: &mut dyn FnMut() -> MachineId,
) {
    let most = most(turn, wish);
    let mut granted = 0;
    let mut cap: Option<Cap> = None;
    while granted < most {
        let (taken, forbids) = allowance.take(1, wish.offering.price.hour());
        if taken == 0 {
            cap = forbids;
            break;
        }
        let now = turn.now();
        let entry = Entry::intended(fresh(), turn.situation.epoch, order(wish), now);
        turn.account.intents += 1;
        turn.entries.insert(entry.id, entry);
        granted += 1;
    }
    if let Some(cap) = cap {
        turn.findings.push(Finding::Capped { cap, wanted: wish.count, allowed: granted });
    }
}

/// How many the pool's bound and the breaker let through.
fn most(turn: &mut Turn<'_>, wish: &Wish<'_>) -> u32 {
    let template = &wish.site.template;
    let open = || turn.entries.values().filter(|entry| entry.state.counts());
    let of_pool = open().filter(|entry| entry.order.pool == *wish.pool).count();
    let boots = |entry: &&Entry| {
        let boots = matches!(
            entry.state,
            State::Intended | State::Requested { .. } | State::Launched { .. }
        );
        boots && entry.order.template == *template
    };
    let boots = open().filter(boots).count();
    let max = turn.situation.policy.pools.get(wish.pool).map_or(0, |pool| pool.scaling.max);
    let room = max.saturating_sub(u32::try_from(of_pool).unwrap_or(u32::MAX));
    if room < wish.count {
        turn.findings.push(Finding::PoolFull { pool: wish.pool.clone(), max });
    }
    let tried = pause_lets(turn, wish);
    let breaker = turn.account.breakers.get(template);
    let trips = breaker.map_or(0, |breaker| breaker.trips);
    let let_through = match verdict(breaker, turn.now()) {
        Verdict::Closed => u32::MAX,
        Verdict::HalfOpen if boots == 0 => 1,
        Verdict::HalfOpen => 0,
        Verdict::Open { until } => {
            let template = template.clone();
            turn.findings.push(Finding::BootLoop { template, until, trips });
            held_back(turn, wish);
            return 0;
        }
    };
    if let_through < wish.count {
        turn.findings.push(Finding::OneBootAtATime { template: template.clone() });
    }
    let fits = quota_lets(turn, wish);
    wish.count.min(room).min(let_through).min(tried).min(fits)
}

/// How many the account may still have.
fn quota_lets(turn: &mut Turn<'_>, wish: &Wish<'_>) -> u32 {
    let Offering { instance_type, capacity, .. } = wish.offering;
    let kind = (wish.site.region.as_str(), *capacity, instance_type.as_str());
    let Some(room) = quota::room(turn.situation.quotas, kind, &turn.entries) else {
        return u32::MAX;
    };
    if room.machines < wish.count {
        turn.findings.push(Finding::QuotaReached {
            quota: room.quota.to_string(),
            instance_type: instance_type.clone(),
            wanted: wish.count,
            allowed: room.machines,
        });
        held_back(turn, wish);
    }
    room.machines
}

/// How many a pause of the region or the offering lets through.
fn pause_lets(turn: &mut Turn<'_>, wish: &Wish<'_>) -> u32 {
    let scopes = pause::scopes(&wish.site.region, wish.pool, wish.name);
    let Some((held, what)) = pause::held(&turn.account.pauses, &scopes, turn.now()) else {
        return u32::MAX;
    };
    match held {
        Held::Until(until) => {
            turn.findings.push(Finding::Paused { what, until });
            held_back(turn, wish);
            0
        }
        Held::OneAtATime => {
            let lets = u32::from(!is_tried(turn, &what));
            if lets < wish.count {
                turn.findings.push(Finding::OneTryAtATime { what });
            }
            lets
        }
    }
}

/// Whether a launch of what a pause is about has been asked for, or is about to be.
fn is_tried(turn: &Turn<'_>, scope: &String) -> bool {
    turn.entries.values().any(|entry| {
        let order = &entry.order;
        matches!(entry.state, State::Intended | State::Requested { .. })
            && pause::scopes(&order.region, &order.pool, &order.offering).contains(scope)
    })
}

/// Lets the planner know that the offering is not to be had, so that it looks elsewhere.
fn held_back(turn: &mut Turn<'_>, wish: &Wish<'_>) {
    market(turn, (wish.pool, wish.name), |market| market.held_back += 1);
}

fn order(wish: &Wish<'_>) -> Order {
    let Offering { instance_type, zone, capacity, price, .. } = wish.offering.clone();
    let Site { provider, region, template } = wish.site.clone();
    Order {
        pool: wish.pool.clone(),
        offering: wish.name.clone(),
        provider,
        region,
        zone,
        instance_type,
        capacity,
        price,
        template,
        reason: wish.reason.clone(),
    }
}

/// Asks for what is intended, the oldest first, so many in a step and no template that does not boot. What a pause
/// holds is called off: the next plan may get it elsewhere.
fn ask(turn: &mut Turn<'_>) {
    call_off_paused(turn);
    let intended = turn.entries.values().filter(|entry| entry.state == State::Intended);
    let mut intended: Vec<_> = intended.map(|e| (e.times.intended, e.id)).collect();
    intended.sort_unstable();
    let most = usize::try_from(turn.situation.rules.calls_per_step).unwrap_or(usize::MAX);
    let paused: BTreeMap<String, bool> = turn
        .account
        .breakers
        .iter()
        .map(|(t, b)| (t.clone(), matches!(verdict(Some(b), turn.now()), Verdict::Open { .. })))
        .collect();
    let may = |turn: &Turn<'_>, id: &MachineId| {
        let template = turn.entries.get(id).map(|entry| &entry.order.template);
        template.is_some_and(|template| !paused.get(template).copied().unwrap_or(false))
    };
    let ids: Vec<MachineId> =
        intended.into_iter().map(|(_, id)| id).filter(|id| may(turn, id)).take(most).collect();
    for id in ids {
        turn.apply(id, &Event::Asked);
    }
}

/// A pause may have begun after these were granted: of the others that it is about, one stays.
fn call_off_paused(turn: &mut Turn<'_>) {
    let mut tried: BTreeSet<String> = BTreeSet::new();
    for entry in turn.entries.values() {
        if matches!(entry.state, State::Requested { .. }) {
            let order = &entry.order;
            tried.extend(pause::scopes(&order.region, &order.pool, &order.offering));
        }
    }
    for id in turn.open() {
        let Some(entry) = turn.entries.get(&id).filter(|e| e.state == State::Intended) else {
            continue;
        };
        let order = &entry.order;
        let scopes = pause::scopes(&order.region, &order.pool, &order.offering);
        let may = match pause::held(&turn.account.pauses, &scopes, turn.now()) {
            None => true,
            Some((Held::Until(_), _)) => false,
            Some((Held::OneAtATime, what)) => tried.insert(what),
        };
        if !may {
            let why = "launches like it fail".to_owned();
            turn.apply(id, &Event::CalledOff { why });
        }
    }
}
