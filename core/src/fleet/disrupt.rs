//! Taking instances out: one reason per file, in the order in which they are looked at.
//!
//! Interruption and liveness act on what is lost anyway. Drift, expiration and consolidation only mark: a marked
//! instance does not count as capacity, so that a successor is launched, and it is drained once the others suffice without
//! it; in a pool that is as large as it may be, [`headroom`] says what goes without. The same happens to machines that
//! others of another size replace, which [`super::sizing`] decides. Emptiness
//! removes what is left over. Nothing here ends a worker that runs a job: it is drained, and
//! the drain has a deadline. What could as well stay for a while is taken out as far as the budgets go.

pub(crate) mod budget;
pub(crate) mod consolidation;
pub(crate) mod drift;
pub(crate) mod emptiness;
pub(crate) mod expiration;
pub(crate) mod headroom;
pub(crate) mod interruption;
pub(crate) mod liveness;

use crate::time::Timestamp;

use budget::{Budgets, Room, reason_of};

use super::provision::Candidate;
use super::report::{Note, RemoveReason};
use super::roster::{Member, Roster};

/// What the rules look at.
#[derive(Debug)]
pub(crate) struct Scene<'a> {
    pub(crate) roster: &'a Roster<'a>,
    pub(crate) candidates: &'a [Candidate<'a>],
    /// Age at which an instance is replaced.
    pub(crate) expire_after: Option<std::time::Duration>,
    pub(crate) now: Timestamp,
}

/// Instances to be replaced, by position, each with its reason.
#[derive(Debug, Default)]
pub(crate) struct Marks {
    pub(crate) replace: Vec<(usize, RemoveReason)>,
    pub(crate) notes: Vec<Note>,
}

/// Marks what is to be replaced, the most urgent reasons first, as far as the budgets go.
pub(crate) fn marks(scene: &Scene<'_>, gone: &[usize], budgets: &mut Budgets<'_>) -> Marks {
    let staying: Vec<(usize, &Member<'_>)> = scene.roster.staying(gone).collect();
    let mut marks = Marks::default();
    let rules: [fn(&Scene<'_>, &Member<'_>) -> Option<RemoveReason>; 3] =
        [expiration::marks, drift::marks, consolidation::marks];
    for rule in rules {
        for (at, member) in &staying {
            let Some(reason) = rule(scene, member) else { continue };
            if marks.replace.iter().any(|(other, _)| other == at) {
                continue;
            }
            let Some(kind) = reason_of(&reason) else { continue };
            match budgets.room(kind) {
                Room { left: 0, by: Some(budget) } => budgets.withhold(kind, budget, 1),
                Room { left: 0, by: None } => {
                    let instance = member.instance.name.clone();
                    let behind = u32::try_from(marks.replace.len()).unwrap_or(u32::MAX);
                    marks.notes.push(Note::Waits { instance, behind });
                }
                Room { .. } => {
                    budgets.count(kind);
                    marks.replace.push((*at, reason));
                }
            }
        }
    }
    marks
}
