//! Workers beyond what is wanted: launches that are not ready yet are called off, the latest first; then idle
//! workers go, the dearest first, once their minimum bill is used up.

use std::cmp::Reverse;
use std::time::Duration;

use crate::fleet::number::ceil;
use crate::fleet::report::{Note, RemoveReason};
use crate::fleet::roster::{Member, Roster};
use crate::fleet::snapshot::InstanceState;
use crate::time::Timestamp;

/// EC2 bills at least this much of an instance.
const LEAST_BILL: Duration = Duration::from_mins(1);

/// How much is there, and how much of it is wanted, in workers of speed 1.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Balance {
    pub(crate) wanted: f64,
    pub(crate) have: f64,
}

/// Positions to terminate, with reasons, of members that neither leave nor stand in `gone`.
pub(crate) fn removals(
    roster: &Roster<'_>,
    gone: &[usize],
    balance: Balance,
    now: Timestamp,
) -> (Vec<(usize, RemoveReason)>, Option<Note>) {
    let mut removed = called_off(roster, gone, balance);
    // Only what is ready can be given up for something that is ready.
    let booting: f64 = booting(roster, gone).map(|(_, member)| member.speed()).sum();
    let mut have = balance.have - booting;
    let mut idle: Vec<(usize, &Member<'_>, Timestamp)> = roster
        .staying(gone)
        .filter_map(|(at, member)| member.idle_since().map(|since| (at, member, since)))
        .collect();
    idle.sort_by(|(_, a, a_since), (_, b, b_since)| {
        b.unit_price().total_cmp(&a.unit_price()).then(a_since.cmp(b_since))
    });
    let mut paid = 0;
    for (at, member, _) in idle {
        if have - member.speed() < balance.wanted - 1e-9 {
            continue;
        }
        if member.age(now) < LEAST_BILL {
            paid += 1;
            continue;
        }
        let wanted = ceil(balance.wanted);
        removed.push((at, RemoveReason::Empty { wanted, have }));
        have -= member.speed();
    }
    let busy = ceil(have - balance.wanted - f64::from(paid));
    let note = (have - balance.wanted >= 1.0).then_some(Note::Surplus { busy, paid });
    (removed, note)
}

fn booting<'a>(
    roster: &'a Roster<'a>,
    gone: &'a [usize],
) -> impl Iterator<Item = (usize, &'a Member<'a>)> {
    let boots = |(_, member): &(usize, &Member<'_>)| {
        matches!(member.instance.state, InstanceState::Booting)
    };
    roster.staying(gone).filter(boots)
}

/// Boots that are not wanted any more. One that is cheaper than a worker at hand is let be: it takes that one's
/// place when it is ready.
fn called_off(roster: &Roster<'_>, gone: &[usize], balance: Balance) -> Vec<(usize, RemoveReason)> {
    let ready = roster.staying(gone).filter(|(_, member)| member.instance.works());
    let dearest = ready.map(|(_, member)| member.unit_price()).fold(0.0, f64::max);
    let mut boots: Vec<(usize, &Member<'_>)> =
        booting(roster, gone).filter(|(_, member)| member.unit_price() >= dearest).collect();
    boots.sort_by_key(|(_, member)| Reverse(member.instance.launched_at));
    let (mut removed, mut have) = (Vec::new(), balance.have);
    for (at, member) in boots {
        if have - member.speed() >= balance.wanted - 1e-9 {
            removed.push((at, RemoveReason::CalledOff { wanted: ceil(balance.wanted), have }));
            have -= member.speed();
        }
    }
    removed
}
