//! What waits in the lanes of one queue, brought together by tenant.

use stoker_core::ids::JobId;
use stoker_core::time::Timestamp;

use super::lanes::LaneEntry;
use super::types::WaitingTenant;

/// Jobs of one lane, least slack first, with the time by which each should start.
pub(super) type Heads = Vec<(JobId, Timestamp)>;

/// The lanes' jobs by tenant: up to `heads` of each, least slack first.
pub(super) fn by_tenant(lanes: Vec<(LaneEntry, Heads)>, heads: u32) -> Vec<WaitingTenant> {
    let mut tenants: Vec<WaitingTenant> = Vec::new();
    for (LaneEntry { id: _, names, counts }, first) in lanes {
        let index = tenants.iter().position(|tenant| tenant.tenant == names.tenant);
        let index = index.unwrap_or_else(|| {
            let tenant = names.tenant.clone();
            tenants.push(WaitingTenant { tenant, in_flight: 0, heads: Vec::new() });
            tenants.len() - 1
        });
        let tenant = &mut tenants[index];
        let in_flight = u32::try_from(counts.in_flight()).unwrap_or(u32::MAX);
        tenant.in_flight = tenant.in_flight.saturating_add(in_flight);
        tenant.heads.extend(first);
    }
    for tenant in &mut tenants {
        tenant.heads.sort_by_key(|(job, start_by)| (*start_by, *job));
        tenant.heads.truncate(heads as usize);
    }
    tenants.retain(|tenant| !tenant.heads.is_empty() || tenant.in_flight > 0);
    tenants
}
