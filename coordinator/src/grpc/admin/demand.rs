//! The load in numbers, as the autoscaler plans with it.

use std::time::Duration;

use stoker_proto::convert::{self, wire_timestamp};
use stoker_proto::status;
use stoker_proto::v1;
use tonic::Status;

use crate::context::Context;
use crate::grpc::errors;
use crate::store::Demand;

/// The planner remembers no more than this.
const LONGEST_HISTORY: Duration = Duration::from_hours(8 * 24);

pub(super) async fn observe(
    context: &Context,
    request: &v1::ObserveDemandRequest,
) -> Result<v1::ObserveDemandResponse, Status> {
    let history = request.history.as_ref();
    let history = history
        .map(|history| convert::duration(history, "history"))
        .transpose()
        .map_err(|violation| status::invalid(&[violation]))?;
    let now = context.now();
    let since = history.map(|history| now.before(history.min(LONGEST_HISTORY)));
    let demands = context.store.demand(since).await.map_err(errors::store)?;
    Ok(v1::ObserveDemandResponse {
        observed_at: Some(wire_timestamp(now)),
        demands: demands.into_iter().map(wire).collect(),
    })
}

fn wire(demand: Demand) -> v1::Demand {
    let waiting = demand.waiting.into_iter();
    let slots = demand.slots.into_iter();
    v1::Demand {
        pool: demand.lane.pool.to_string(),
        model: demand.lane.model.to_string(),
        class: demand.class.to_string(),
        running: demand.running,
        waiting: waiting
            .map(|(start_by, jobs)| v1::WaitingJobs {
                start_by: Some(wire_timestamp(start_by)),
                jobs,
            })
            .collect(),
        slots: slots
            .map(|(begins_at, slot)| v1::DemandSlot {
                begins_at: Some(wire_timestamp(begins_at)),
                accepted: slot.accepted,
                started: slot.started,
                started_late: slot.started_late,
                measured: slot.measured,
                run_seconds: slot.run_seconds,
                run_seconds_squared: slot.run_seconds_squared,
            })
            .collect(),
    }
}
