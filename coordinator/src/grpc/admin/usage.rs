//! What attempts took of workers' time.

use std::time::Duration;

use stoker_core::time::Timestamp;
use stoker_proto::convert::{self, wire_duration};
use stoker_proto::status::{self, FieldViolation};
use stoker_proto::v1;
use tonic::Status;

use crate::context::Context;
use crate::grpc::errors;
use crate::store::Usage;

/// A bill is looked at for this month and the last.
const LONGEST: Duration = Duration::from_hours(62 * 24);

pub(super) async fn observe(
    context: &Context,
    request: &v1::ObserveUsageRequest,
) -> Result<v1::ObserveUsageResponse, Status> {
    let now = context.now();
    let (from, until) = period(request, now).map_err(|violation| status::invalid(&[violation]))?;
    let usage = context.store.usage(from, until).await.map_err(errors::store)?;
    Ok(v1::ObserveUsageResponse { usage: usage.iter().map(wire).collect() })
}

fn period(
    request: &v1::ObserveUsageRequest,
    now: Timestamp,
) -> Result<(Timestamp, Timestamp), FieldViolation> {
    let from = convert::timestamp(convert::required(request.from.as_ref(), "from")?, "from")?;
    if now.since(from) > LONGEST {
        return Err(FieldViolation::new("from", "must be at most 62 days ago"));
    }
    let until = request.until.as_ref();
    let until = until.map(|until| convert::timestamp(until, "until")).transpose()?;
    Ok((from, until.unwrap_or(now).min(now)))
}

fn wire(usage: &Usage) -> v1::Usage {
    v1::Usage {
        day: usage.day,
        pool: usage.lane.pool.to_string(),
        model: usage.lane.model.to_string(),
        tenant: usage.tenant.to_string(),
        attempts: usage.attempts,
        taken: Some(wire_duration(usage.taken)),
        busy: Some(wire_duration(usage.busy)),
    }
}
