//! Taking instances out: one reason per file, in the order in which they are looked at.
//!
//! Interruption and liveness act on what is lost anyway. Drift, expiration and consolidation only mark: a marked
//! instance does not count as capacity, so that a successor is launched, and it is drained once the others suffice without
//! it; in a pool that is as large as it may be, [`headroom`] says what goes without. The same happens to machines that
//! others of another size replace, which [`super::sizing`] decides. Emptiness
//! removes what is left over. Nothing here ends a worker that runs a job: it is drained, and
//! the drain has a deadline.

pub(crate) mod consolidation;
pub(crate) mod drift;
pub(crate) mod emptiness;
pub(crate) mod expiration;
pub(crate) mod headroom;
pub(crate) mod interruption;
pub(crate) mod liveness;

use crate::time::Timestamp;

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
    /// How many may be replaced at a time.
    pub(crate) budget: usize,
    pub(crate) notes: Vec<Note>,
}

/// One in so many of a pool's workers may be replaced at a time; at least one. Those that boot are successors.
const REPLACED_AT_A_TIME: usize = 2;

/// Marks what is to be replaced, the most urgent reasons first, as far as the disruption budget goes.
pub(crate) fn marks(scene: &Scene<'_>, gone: &[usize]) -> Marks {
    let staying: Vec<(usize, &Member<'_>)> = scene.roster.staying(gone).collect();
    let working = staying.iter().filter(|(_, member)| member.instance.works()).count();
    let budget = working.div_ceil(REPLACED_AT_A_TIME).max(1);
    let mut marks = Marks { budget, ..Marks::default() };
    let rules: [fn(&Scene<'_>, &Member<'_>) -> Option<RemoveReason>; 3] =
        [expiration::marks, drift::marks, consolidation::marks];
    for rule in rules {
        for (at, member) in &staying {
            let Some(reason) = rule(scene, member) else { continue };
            if marks.replace.iter().any(|(other, _)| other == at) {
                continue;
            }
            if marks.replace.len() < budget {
                marks.replace.push((*at, reason));
            } else {
                let instance = member.instance.name.clone();
                let behind = u32::try_from(marks.replace.len()).unwrap_or(u32::MAX);
                marks.notes.push(Note::Waits { instance, behind });
            }
        }
    }
    marks
}
