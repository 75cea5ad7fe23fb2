//! Instances that run another image or configuration than new ones would.

use crate::fleet::report::RemoveReason;
use crate::fleet::roster::Member;

use super::Scene;

/// Whether an instance is to be replaced by one with the present configuration.
pub(crate) fn marks(_: &Scene<'_>, member: &Member<'_>) -> Option<RemoveReason> {
    let drifted = member.instance.outdated || member.offering.is_none();
    drifted.then_some(RemoveReason::Outdated)
}
