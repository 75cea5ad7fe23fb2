//! What the provider allows the account, as the autoscaler read it last.

use stoker_core::fleet::ledger::Quota;

use super::Finding;
use crate::client::LedgerView;

const CHECK: &str = "quota";
const RAISE: &str =
    "ask the cloud for more under this name, or add offerings of another type or region";

/// One for each quota that bounds what the fleet buys; none where the provider tells nothing.
pub(super) fn findings(ledger: &LedgerView) -> impl Iterator<Item = Finding> {
    ledger.account.quotas.iter().map(|quota| finding(quota, ledger))
}

fn finding(quota: &Quota, ledger: &LedgerView) -> Finding {
    let taken = quota.taken(&ledger.entries);
    let (mut fit, mut missing) = (Vec::new(), Vec::new());
    for name in quota.units.keys() {
        match quota.machines_of(name) {
            Some(0) => missing.push(name.as_str()),
            Some(machines) => fit.push(format!("{machines} of {name}")),
            None => {}
        }
    }
    if !missing.is_empty() {
        let what = format!("{quota}, which does not allow one {}", missing.join(" or one "));
        return Finding::problem(CHECK, what, RAISE);
    }
    let what = format!("{quota}, {taken} of it in use: {} in all", fit.join(" or "));
    let least = quota.units.values().copied().filter(|units| *units > 0).min().unwrap_or(0);
    if quota.most.saturating_sub(taken) < least {
        return Finding::warning(CHECK, format!("{what}; nothing more fits"), RAISE);
    }
    Finding::good(CHECK, what)
}
