//! Ends machines in batches. EC2 refuses a whole batch for one machine that it does not know, that is protected from
//! termination, or that the caller may not end, so such a batch is halved until that one is found.

use std::collections::{BTreeMap, BTreeSet};

use stoker_core::ids::InstanceName;

use super::caller::Caller;
use crate::cloud::error::{CloudError, ErrorClass, Verb};
use crate::cloud::provider::Terminated;

/// Machines that are ended in one call. EC2 takes more, and is slower to answer then.
const BATCH: usize = 50;

/// Ends machines, with an answer for each.
pub(super) async fn machines(
    caller: &Caller,
    names: &BTreeSet<InstanceName>,
) -> BTreeMap<InstanceName, Result<Terminated, CloudError>> {
    let names: Vec<InstanceName> = names.iter().cloned().collect();
    let mut left: Vec<&[InstanceName]> = names.chunks(BATCH).collect();
    let mut ends = BTreeMap::new();
    while let Some(batch) = left.pop() {
        let end = match end(caller, batch).await {
            Ok(()) => Ok(Terminated::Accepted),
            Err(error) if may_be_of_one(&error) && batch.len() > 1 => {
                let (first, second) = batch.split_at(batch.len() / 2);
                left.extend([second, first]);
                continue;
            }
            Err(error) if is_unknown(&error) => Ok(Terminated::NotFound),
            Err(error) => Err(error),
        };
        ends.extend(batch.iter().map(|name| (name.clone(), end.clone())));
    }
    ends
}

async fn end(caller: &Caller, batch: &[InstanceName]) -> Result<(), CloudError> {
    let ids: Vec<String> = batch.iter().map(ToString::to_string).collect();
    let terminate =
        || caller.client().terminate_instances().set_instance_ids(Some(ids.clone())).send();
    caller.call(Verb::Terminate, terminate).await.map(|_| ())
}

/// Whether the others of a batch may be ended although the whole of it was refused so.
const fn may_be_of_one(error: &CloudError) -> bool {
    matches!(error.class, ErrorClass::Invalid | ErrorClass::Auth)
}

/// Whether EC2 says that one of the names is of no machine.
fn is_unknown(error: &CloudError) -> bool {
    let code = error.code.as_deref().unwrap_or_default();
    matches!(code, "InvalidInstanceID.NotFound" | "InvalidInstanceID.Malformed")
}
