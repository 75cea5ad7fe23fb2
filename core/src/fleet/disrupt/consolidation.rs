//! Work that could run cheaper on a machine that does at least as much: on spot again after a bridge, or on a newer
//! type. What is larger or smaller is the concern of [`crate::fleet::sizing`], which looks at all of a pool.

use crate::fleet::capacity::{Capacity, EPSILON};
use crate::fleet::provision::Candidate;
use crate::fleet::report::RemoveReason;
use crate::fleet::roster::Member;

use super::Scene;

/// A successor has to cost at most this share of what it replaces, so that the move pays and prices that
/// swing a little move nothing.
const SHARE: f64 = 0.8;

/// Whether an instance is to be replaced by something cheaper. That one is still booting does not matter: it
/// bridges until its successor is ready.
pub(crate) fn marks(scene: &Scene<'_>, member: &Member<'_>) -> Option<RemoveReason> {
    let own = member.capacity();
    let limit = member.price() * SHARE;
    let takes_its_place = |candidate: &Candidate<'_>| {
        let capacity = Capacity::of(candidate.offering);
        capacity.prompt >= own.prompt - EPSILON
            && capacity.bulk >= own.bulk - EPSILON
            && candidate.price <= limit
    };
    scene.candidates.iter().any(takes_its_place).then_some(RemoveReason::Cheaper)
}
