//! Work that could run cheaper elsewhere: on spot again after a bridge, or on a larger or smaller type.

use crate::fleet::report::RemoveReason;
use crate::fleet::roster::Member;

use super::Scene;

/// A successor has to cost at most this share of what it replaces, so that the move pays and prices that
/// swing a little move nothing.
const SHARE: f64 = 0.8;

/// Whether an instance is to be replaced by something cheaper. That one is still booting does not matter: it
/// bridges until its successor is ready.
pub(crate) fn marks(scene: &Scene<'_>, member: &Member<'_>) -> Option<RemoveReason> {
    let limit = member.unit_price() * SHARE;
    // A larger type that would stand half empty is not cheaper: compare what covers this one's work.
    let cost = |candidate: &crate::fleet::provision::Candidate<'_>| {
        candidate.price / candidate.offering.speed.min(member.speed())
    };
    let cheaper = scene.candidates.iter().any(|candidate| cost(candidate) <= limit);
    cheaper.then_some(RemoveReason::Cheaper)
}
