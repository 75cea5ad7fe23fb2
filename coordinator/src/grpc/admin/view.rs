//! Workers, classes and what workers have to prove, for operators.

use stoker_core::fleet::{Class, Notice};
use stoker_core::ids::{ClassName, WorkerId};
use stoker_proto::convert;
use stoker_proto::status;
use stoker_proto::v1;
use tonic::Status;

use crate::identity::{Certificate, Identity};
use crate::registry::{Residency, WorkerState, WorkerView};

pub(super) fn worker_id(text: &str) -> Result<WorkerId, Status> {
    convert::worker_id(text, "worker_id").map_err(|violation| status::invalid(&[violation]))
}

pub(super) fn class((name, class): (&ClassName, &Class)) -> v1::ClassPromise {
    v1::ClassPromise {
        name: name.to_string(),
        max_wait: Some(convert::wire_duration(class.max_wait)),
        objective: class.objective,
    }
}

pub(super) fn identity_check(identity: &Identity) -> v1::IdentityCheck {
    let certificate = |certificate: &Certificate| v1::IdentityCertificate {
        file: certificate.file.display().to_string(),
        serial: certificate.serial(),
        expires_at: Some(convert::wire_timestamp(certificate.not_after)),
    };
    let Identity { rules, certificates } = identity;
    v1::IdentityCheck {
        accounts: rules.accounts.iter().map(ToString::to_string).collect(),
        regions: rules.regions.iter().map(ToString::to_string).collect(),
        certificates: certificates.iter().map(certificate).collect(),
    }
}

/// A worker, and how many leases it has in the store. A job that was just granted counts, though the worker
/// has not told of it yet: whoever ends machines that are idle relies on that.
pub(super) fn worker(view: WorkerView, leases: u64) -> v1::Worker {
    let leases = u32::try_from(leases).unwrap_or(u32::MAX);
    // It told of what it held then.
    let remaining = view.remaining.filter(|_| leases <= view.busy_slots);
    let registration = view.registration;
    let (notice, lost_at) = match view.notice {
        None => (v1::CloudNoticeKind::Unspecified, None),
        Some(Notice::Rebalance) => (v1::CloudNoticeKind::Rebalance, None),
        Some(Notice::Interruption { lost_at }) => {
            (v1::CloudNoticeKind::Interruption, Some(convert::wire_timestamp(lost_at)))
        }
    };
    v1::Worker {
        id: registration.id.to_string(),
        pool: registration.pool.to_string(),
        models: registration.models.iter().map(ToString::to_string).collect(),
        state: state(view.state).into(),
        slots: registration.slots,
        busy_slots: view.busy_slots.max(leases),
        utilization: view.utilization,
        resident_models: view.resident_models.iter().map(ToString::to_string).collect(),
        version: registration.version,
        host: registration.host,
        pid: registration.pid,
        device: registration.device,
        metrics_address: registration.metrics_address,
        registered_at: Some(convert::wire_timestamp(view.registered_at)),
        last_seen_at: Some(convert::wire_timestamp(view.last_seen_at)),
        drain_cause: convert::wire_drain_cause(view.drain_cause).into(),
        notice: notice.into(),
        lost_at,
        instance: registration.instance.map(String::from).unwrap_or_default(),
        residency: view.residency.as_ref().map(Residency::tell),
        idle_since: view.idle_since.filter(|_| leases == 0).map(convert::wire_timestamp),
        remaining: remaining.map(convert::wire_duration),
    }
}

const fn state(state: WorkerState) -> v1::WorkerState {
    match state {
        WorkerState::Starting => v1::WorkerState::Starting,
        WorkerState::Ready => v1::WorkerState::Ready,
        WorkerState::Cordoned => v1::WorkerState::Cordoned,
        WorkerState::Draining => v1::WorkerState::Draining,
        WorkerState::Lost => v1::WorkerState::Lost,
    }
}
