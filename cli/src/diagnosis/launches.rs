//! What the cloud said to launches of the last hour: credentials, quotas and templates show nowhere else from here.

use std::collections::BTreeMap;

use stoker_core::cloud::{Human, reaction};
use stoker_core::fleet::ledger::{Entry, Failure, State};
use stoker_core::time::Timestamp;

use super::{Finding, Level};
use crate::client::LedgerView;
use crate::render::text::shorten;
use crate::render::time::span;

const CHECK: &str = "launches";
/// Of what a cloud says; some say much.
const MOST_CHARS: usize = 160;

/// One for each kind of failure that a person has to do something about, and for each template that does not boot.
pub(super) fn findings(ledger: &LedgerView) -> Vec<Finding> {
    let failed = failed(ledger);
    let mut findings: Vec<Finding> =
        failed.iter().filter_map(|(class, entries)| refused(*class, entries)).collect();
    findings.extend(closed(ledger));
    if findings.is_empty() {
        let copes: usize = failed.values().map(Vec::len).sum();
        findings.push(Finding::good(
            CHECK,
            match copes {
                0 => "none has failed".to_owned(),
                some => {
                    let kinds: Vec<&str> = failed.keys().map(|class| class.name()).collect();
                    format!("{some} failed ({}), and the fleet copes", kinds.join(", "))
                }
            },
        ));
    }
    findings
}

/// Launches that failed, and no later one of the kind went well; the last one first.
fn failed(ledger: &LedgerView) -> BTreeMap<Failure, Vec<&Entry>> {
    let mut failed: BTreeMap<Failure, Vec<&Entry>> = BTreeMap::new();
    for entry in ledger.entries.values() {
        let State::Failed { class, .. } = &entry.state else { continue };
        let over = ledger.entries.values().any(|other| is_after(other, *class, entry));
        if *class != Failure::CalledOff && !over {
            failed.entry(*class).or_default().push(entry);
        }
    }
    for entries in failed.values_mut() {
        entries.sort_by_key(|entry| std::cmp::Reverse(entry.times.ended));
    }
    failed
}

/// Whether a machine was had after a launch failed that would not have been if its cause were still there.
fn is_after(machine: &Entry, class: Failure, failed: &Entry) -> bool {
    let (had, wanted) = (&machine.order, &failed.order);
    let alike = match class {
        Failure::Auth => had.region == wanted.region,
        Failure::Capacity
        | Failure::Quota
        | Failure::Throttled
        | Failure::Invalid
        | Failure::Transient
        | Failure::Unknown
        | Failure::NeverSeen
        | Failure::CalledOff => (&had.pool, &had.offering) == (&wanted.pool, &wanted.offering),
    };
    alike && machine.times.launched.is_some() && machine.times.launched > failed.times.ended
}

fn refused(class: Failure, entries: &[&Entry]) -> Option<Finding> {
    let human = class.class().map_or(Human::NotNeeded, |class| reaction(class).human);
    let level = match human {
        Human::NotNeeded => return None,
        Human::Soon => Level::Warning,
        Human::Now => Level::Problem,
    };
    let last = entries.first()?;
    let State::Failed { why, .. } = &last.state else { return None };
    let number = entries.len();
    let (pool, offering) = (&last.order.pool, &last.order.offering);
    let why = shorten(why, MOST_CHARS);
    let what =
        format!("{number} refused ({}), the last one of {offering} in {pool}: {why}", class.name());
    Some(Finding::new(CHECK, level, what, remedy(class)))
}

const fn remedy(class: Failure) -> &'static str {
    match class {
        Failure::Auth => {
            "give the autoscaler's role what it may not do; `stoker-autoscaler check` where it runs says more"
        }
        Failure::Quota => {
            "have the account's quota of this kind of machine raised, or add offerings of another type or region"
        }
        Failure::Invalid => {
            "mend the launch template, or the offering in the fleet file: the cloud can never do this"
        }
        Failure::Capacity
        | Failure::Throttled
        | Failure::Transient
        | Failure::Unknown
        | Failure::NeverSeen
        | Failure::CalledOff => "see the autoscaler's log",
    }
}

/// Templates whose machines do not come to work.
fn closed(ledger: &LedgerView) -> Vec<Finding> {
    let now = ledger.read_at;
    let open = |until: &Timestamp| *until > now;
    let breakers = ledger.account.breakers.iter();
    breakers
        .filter_map(|(template, breaker)| {
            let until = breaker.open_until.filter(open)?;
            let what = format!(
                "machines of the template {template} do not come to work; none is launched for {}",
                span(until.since(now))
            );
            let remedy = "look at the log of one that boots (its console, or the worker's service); mend the template";
            Some(Finding::problem(CHECK, what, remedy))
        })
        .collect()
}
