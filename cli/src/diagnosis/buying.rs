//! The autoscaler as its ledger shows it, the budget, and the cloud as far as it can be seen from here.

use stoker_core::fleet::Provider;
use stoker_core::fleet::ledger::Mode;
use stoker_core::money::Money;

use super::{Evidence, Finding, Level, launches, quotas, work};
use crate::client::LedgerView;
use crate::render::machine::neglect;
use crate::render::money::{dollars, of_cap};
use crate::render::time::span;

/// Of a budget, from when on it is worth a warning.
const NEARLY_SPENT: f64 = 0.8;

pub(super) fn findings(evidence: &Evidence) -> Vec<Finding> {
    let mut findings = Vec::new();
    match &evidence.ledger {
        Ok(ledger) => {
            findings.push(autoscaler(evidence, ledger));
            findings.push(switch(ledger));
            findings.push(budget(ledger));
            findings.extend(launches::findings(ledger));
            findings.extend(quotas::findings(ledger));
        }
        Err(why) => findings.push(work::unread("autoscaler", why)),
    }
    findings.push(cloud(evidence));
    findings
}

/// Whether the fleet file has anything to buy.
fn buys(evidence: &Evidence) -> bool {
    evidence
        .fleet()
        .is_some_and(|fleet| fleet.pools.values().any(|pool| !pool.scaling.offerings.is_empty()))
}

fn autoscaler(evidence: &Evidence, ledger: &LedgerView) -> Finding {
    let check = "autoscaler";
    let start = "start `stoker-autoscaler`, or see in its log why it does not get on";
    if let Some(problem) = neglect(ledger) {
        return Finding::problem(check, problem, start);
    }
    let wrote = ledger.account.spend.charged_until;
    match (wrote, ledger.silence()) {
        (_, Some(silent)) if buys(evidence) => {
            Finding::problem(check, format!("has written nothing for {}", span(silent)), start)
        }
        (None, _) if buys(evidence) => Finding::problem(
            check,
            "pools have offerings, and no autoscaler has ever written the ledger",
            start,
        ),
        (Some(at), None) => {
            let ago = span(ledger.read_at.since(at));
            Finding::good(check, format!("wrote its account {ago} ago"))
        }
        (_, Some(_)) | (None, None) => Finding::good(check, "none, and nothing to buy"),
    }
}

fn switch(ledger: &LedgerView) -> Finding {
    let switch = &ledger.switch;
    if switch.mode == Mode::Run {
        return Finding::good("switch", "run");
    }
    Finding::warning(
        "switch",
        format!("{}, by {}: {}", switch.mode, switch.by, switch.why),
        "`stoker fleet run --why TEXT` lets machines be bought again",
    )
}

fn budget(ledger: &LedgerView) -> Finding {
    let Some(budget) = ledger.budget else {
        let what = "the coordinator does not tell it";
        let remedy = "use a coordinator of this version";
        return Finding::new("budget", Level::Unchecked, what, remedy);
    };
    let account = ledger.spend();
    let used = [
        ("today", account.day_spent, budget.per_day),
        ("this month", account.month_spent, budget.per_month),
    ];
    let ratio = |spent: Money, cap: Money| {
        if cap == Money::MAX { 0.0 } else { spent.dollars() / cap.dollars().max(1e-6) }
    };
    let worst = used.into_iter().max_by(|a, b| ratio(a.1, a.2).total_cmp(&ratio(b.1, b.2)));
    let remedy = "`stoker cost` says what for; raise [budget] in the fleet file if it is worth it";
    match worst {
        Some((when, spent, cap)) if ratio(spent, cap) >= 1.0 => Finding::problem(
            "budget",
            format!("{} {when}: nothing more is bought", of_cap(spent, Some(cap))),
            remedy,
        ),
        Some((when, spent, cap)) if ratio(spent, cap) >= NEARLY_SPENT => {
            Finding::warning("budget", format!("{} {when}", of_cap(spent, Some(cap))), remedy)
        }
        Some(_) | None if ledger.open().count() > 0 && budget.per_month == Money::MAX => {
            Finding::warning(
                "budget",
                format!("{} this month, and no cap", dollars(account.month_spent)),
                "set per-month in [budget] of the fleet file: nothing else bounds the bill",
            )
        }
        Some(_) | None => Finding::good(
            "budget",
            of_cap(account.month_spent, Some(budget.per_month)) + " this month",
        ),
    }
}

/// The SDK of a cloud is in the autoscaler only.
fn cloud(evidence: &Evidence) -> Finding {
    match evidence.fleet().map(|fleet| &fleet.provider) {
        Some(Some(Provider::Ec2(_))) => Finding::new(
            "cloud",
            Level::Unchecked,
            "credentials and machine types can be asked for by the autoscaler only; what launches met and the quotas that it read stand above",
            "run `stoker-autoscaler check` where the autoscaler runs",
        ),
        Some(Some(Provider::Local(_))) => {
            Finding::good("cloud", "machines are processes of this one")
        }
        Some(None) => Finding::good("cloud", "the fleet file names none"),
        None => Finding::new(
            "cloud",
            Level::Unchecked,
            "not known without a valid fleet file",
            "name the file with --fleet",
        ),
    }
}
