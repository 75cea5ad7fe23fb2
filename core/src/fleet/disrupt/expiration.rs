//! Instances that are older than the pool allows.

use crate::fleet::report::RemoveReason;
use crate::fleet::roster::Member;

use super::Scene;

/// Whether an instance is to be replaced for its age.
pub(crate) fn marks(scene: &Scene<'_>, member: &Member<'_>) -> Option<RemoveReason> {
    let age = member.age(scene.now);
    scene.expire_after.filter(|longest| age > *longest).map(|_| RemoveReason::Expired { age })
}
