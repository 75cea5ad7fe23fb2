//! A worker's stream: it is in the registry as long as this stays open.

use std::sync::Arc;
use std::time::Duration;

use stoker_core::fleet::{Fleet, Notice};
use stoker_core::ids::{InstanceName, ModelName, PoolName, WorkerId};
use stoker_core::time::Timestamp;
use stoker_proto::client::MAX_REQUEST_BYTES;
use stoker_proto::convert;
use stoker_proto::status::{self, FieldViolation, Reason};
use stoker_proto::v1;
use stoker_proto::v1::register_response::Command as WireCommand;
use stoker_runtime::crash;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use crate::context::Context;
use crate::grpc::errors;
use crate::grpc::jobs::submit::names;
use crate::grpc::streams::{self, Ended, Sink, Stop, StreamKind};
use crate::metrics;
use crate::registry::{
    COMMAND_BACKLOG, Command, CommandStream, Cordon, Need, Registration, Report, Residency,
    WorkerState,
};

const MAX_SLOTS: u32 = 4_096;
const MAX_MODELS: usize = 256;
const MAX_TEXT_BYTES: usize = 255;

/// Room in a message for everything but results.
const ENVELOPE_BYTES: usize = 1 << 20;

/// Largest total of result bytes in one call of a worker.
const MAX_RESULT_BYTES: usize = MAX_REQUEST_BYTES - ENVELOPE_BYTES;

pub(super) async fn register(
    context: &Arc<Context>,
    mut request: v1::RegisterRequest,
) -> Result<ReceiverStream<Result<v1::RegisterResponse, Status>>, Status> {
    let presented = request.identity.take();
    let registration =
        registration(&context.fleet, request).map_err(|violations| status::invalid(&violations))?;
    admit(context, &registration, presented.as_ref())?;
    let slot = context.stream_slots.open(StreamKind::Register)?;
    let worker = registration.id;
    let (pool, slots) = (registration.pool.clone(), registration.slots);
    let instance = registration.instance.clone();
    let stream = context
        .registry
        .register(registration)
        .map_err(|full| status::exhausted(Reason::TooManyStreams, full, Duration::from_secs(10)))?;
    // Asked once the worker can be found: whoever ends its machine from now on tells it.
    if let Some(instance) = instance
        && let Err(error) = heed_ledger(context, worker, instance).await
    {
        context.registry.stream_ended(worker, stream.id);
        return Err(error);
    }
    tracing::info!(%worker, %pool, slots, "a worker registered");
    // Its slots may count at once: it was ready before, and its stream broke.
    context.events.dispatcher.notify_one();

    let (sink, messages) = mpsc::channel(COMMAND_BACKLOG);
    let context = Arc::clone(context);
    let tasks = context.streams.clone();
    tasks.clone().spawn("worker-stream", async move {
        let id = stream.id;
        let body = commands(sink.clone(), registered(&context.fleet), stream);
        let ended = streams::run(sink, &tasks, body).await;
        let gone = context.registry.stream_ended(worker, id);
        drop(slot);
        // A coordinator that goes away must not hurry its workers' leases.
        if gone && ended != Ended::Shutdown {
            tracing::info!(%worker, "the stream of a worker broke; its leases end soon");
            let disconnect = crash::around("disconnect", context.store.disconnect(worker));
            if let Err(error) = disconnect.await {
                tracing::warn!(
                    %worker,
                    error = &error as &dyn std::error::Error,
                    "the leases of a lost worker could not be shortened; they run out by themselves"
                );
            }
        }
    });
    Ok(ReceiverStream::new(messages))
}

/// Refuses a worker that does not prove that it runs on the machine that it names, if that is asked for.
fn admit(
    context: &Context,
    registration: &Registration,
    presented: Option<&v1::InstanceIdentity>,
) -> Result<(), Status> {
    let Some(identity) = &context.identity else { return Ok(()) };
    let Registration { id, host, instance, .. } = registration;
    identity.check(instance.as_ref(), presented, context.now()).map_err(|error| {
        metrics::registration_refused(error.reason());
        let instance = instance.as_ref().map(tracing::field::display);
        tracing::warn!(
            worker = %id,
            host,
            instance,
            error = &error as &dyn std::error::Error,
            "a worker was not let in"
        );
        errors::identity(&error)
    })
}

/// Sends a worker away at once whose machine is being ended, as every coordinator's ledger says.
async fn heed_ledger(
    context: &Context,
    worker: WorkerId,
    instance: InstanceName,
) -> Result<(), Status> {
    if context.store.is_leaving(instance.clone()).await.map_err(errors::store)? {
        tracing::info!(%worker, %instance, "a worker came from a machine that is being ended");
        context.registry.send_away(worker);
    }
    Ok(())
}

/// Passes commands on until a newer stream of the worker takes over.
async fn commands(
    sink: Sink<v1::RegisterResponse>,
    first: v1::Registered,
    mut stream: CommandStream,
) -> Result<(), Stop> {
    streams::send(&sink, response(WireCommand::Registered(first))).await?;
    while let Some(command) = stream.commands.recv().await {
        streams::send(&sink, response(wire_command(command))).await?;
    }
    Ok(())
}

fn registered(fleet: &Fleet) -> v1::Registered {
    let lease = &fleet.job_policy.lease;
    v1::Registered {
        fleet: fleet.name.to_string(),
        heartbeat_interval: Some(convert::wire_duration(lease.heartbeat)),
        lease: Some(convert::wire_duration(lease.ttl)),
        max_message_bytes: MAX_RESULT_BYTES as u64,
    }
}

fn response(command: WireCommand) -> v1::RegisterResponse {
    v1::RegisterResponse { command: Some(command) }
}

fn wire_command(command: Command) -> WireCommand {
    match command {
        Command::StopAttempt { job, attempt, reason } => {
            WireCommand::StopAttempt(v1::StopAttempt {
                job_id: job.to_string(),
                attempt: attempt.number(),
                reason: reason.to_owned(),
            })
        }
        Command::Cordon(cordon) => {
            WireCommand::Cordon(v1::Cordon { cordoned: cordon == Cordon::Set })
        }
        Command::Drain { within } => {
            WireCommand::Drain(v1::Drain { within: within.map(convert::wire_duration) })
        }
        Command::Needs(needs) => {
            let need = |Need { model, jobs, slack_ms }| {
                let model = String::from(model);
                v1::ModelNeed { model, jobs, slack_ms }
            };
            WireCommand::Needs(v1::Needs { models: needs.into_iter().map(need).collect() })
        }
    }
}

fn registration(
    fleet: &Fleet,
    request: v1::RegisterRequest,
) -> Result<Registration, Vec<FieldViolation>> {
    let mut violations = Vec::new();
    let mut note = |violation| violations.push(violation);
    let id = convert::worker_id(&request.worker_id, "worker_id").map_err(&mut note).ok();
    let pool = pool(fleet, &request.pool).map_err(&mut note).ok();
    let models = match &pool {
        Some(pool) => models(fleet, pool, &request.models).map_err(&mut note).ok(),
        None => None,
    };
    if !(1..=MAX_SLOTS).contains(&request.slots) {
        let problem = format!("is {}: a worker has 1 to {MAX_SLOTS} slots", request.slots);
        note(FieldViolation::new("slots", problem));
    }
    for (field, text) in [
        ("version", &request.version),
        ("host", &request.host),
        ("device", &request.device),
        ("metrics_address", &request.metrics_address),
    ] {
        if text.len() > MAX_TEXT_BYTES || text.chars().any(char::is_control) {
            let problem = format!("must be at most {MAX_TEXT_BYTES} bytes of printable text");
            note(FieldViolation::new(field, problem));
        }
    }
    let instance = instance(&request.instance).map_err(&mut note).ok();
    match (id, pool, models, instance) {
        (Some(id), Some(pool), Some(models), Some(instance)) if violations.is_empty() => {
            Ok(Registration {
                id,
                pool,
                models,
                slots: request.slots,
                version: request.version,
                host: request.host,
                pid: request.pid,
                device: request.device,
                metrics_address: request.metrics_address,
                instance,
            })
        }
        _ => Err(violations),
    }
}

/// Empty: it runs on no machine of a cloud.
fn instance(text: &str) -> Result<Option<InstanceName>, FieldViolation> {
    if text.is_empty() {
        return Ok(None);
    }
    let name = InstanceName::new(text);
    name.map(Some).map_err(|error| FieldViolation::new("instance", error.to_string()))
}

fn pool(fleet: &Fleet, name: &str) -> Result<PoolName, FieldViolation> {
    let known = fleet.pools.get_key_value(name).map(|(name, _)| name.clone());
    known.ok_or_else(|| {
        let pools = names(fleet.pools.keys());
        let problem = format!(
            "the fleet `{}` has no pool `{name}`; it has: {pools} (do worker and coordinator read \
             the same fleet.toml?)",
            fleet.name
        );
        FieldViolation::new("pool", problem)
    })
}

fn models(
    fleet: &Fleet,
    pool: &PoolName,
    texts: &[String],
) -> Result<Vec<ModelName>, FieldViolation> {
    let known = fleet.pools.get(pool).map(|pool| pool.models.as_slice()).unwrap_or_default();
    let served = || names(known.iter());
    if texts.is_empty() {
        let problem = format!("is empty: name some of the pool's models: {}", served());
        return Err(FieldViolation::new("models", problem));
    }
    if texts.len() > MAX_MODELS {
        let problem = format!("has {} models and may have {MAX_MODELS}", texts.len());
        return Err(FieldViolation::new("models", problem));
    }
    let mut models: Vec<ModelName> = Vec::with_capacity(texts.len());
    for (index, text) in texts.iter().enumerate() {
        let Some(model) = known.iter().find(|model| model.as_str() == text) else {
            let problem = format!(
                "the pool `{pool}` does not serve the model `{text}`; it serves: {}",
                served()
            );
            return Err(FieldViolation::new(format!("models[{index}]"), problem));
        };
        if !models.contains(model) {
            models.push(model.clone());
        }
    }
    Ok(models)
}

/// What a worker says about itself. Figures are made to fit: they are shown, not relied on.
pub(super) fn report(status: &v1::WorkerStatus, now: Timestamp) -> Result<Report, Status> {
    let state = match v1::WorkerState::try_from(status.state) {
        Ok(v1::WorkerState::Starting) => WorkerState::Starting,
        Ok(v1::WorkerState::Ready) => WorkerState::Ready,
        Ok(v1::WorkerState::Cordoned) => WorkerState::Cordoned,
        Ok(v1::WorkerState::Draining) => WorkerState::Draining,
        Ok(v1::WorkerState::Lost | v1::WorkerState::Unspecified) | Err(_) => {
            let problem = format!(
                "{} is not a state that a worker can be in: say starting, ready, cordoned or draining",
                status.state
            );
            return Err(status::invalid_field("status.state", problem));
        }
    };
    let utilization =
        if status.utilization.is_finite() { status.utilization.clamp(0.0, 1.0) } else { 0.0 };
    let resident_models = status
        .resident_models
        .iter()
        .take(MAX_MODELS)
        .filter_map(|name| ModelName::new(name).ok())
        .collect();
    Ok(Report {
        state,
        busy_slots: status.busy_slots,
        utilization,
        resident_models,
        drain_cause: convert::drain_cause(status.drain_cause()),
        notice: status.notice.as_ref().and_then(|notice| cloud_notice(notice, now)),
        residency: status.residency.as_ref().map(|told| Residency::hear(told, MAX_MODELS)),
        // What is too long to be believed is the planner's to say.
        remaining: convert::told_duration(status.remaining.as_ref()),
    })
}

/// A notice of an interruption without a usable time is one that is about to happen.
fn cloud_notice(notice: &v1::CloudNotice, now: Timestamp) -> Option<Notice> {
    match notice.kind() {
        v1::CloudNoticeKind::Unspecified => None,
        v1::CloudNoticeKind::Rebalance => Some(Notice::Rebalance),
        v1::CloudNoticeKind::Interruption => {
            let lost_in = notice.lost_in.and_then(|told| Duration::try_from(told).ok());
            Some(Notice::Interruption { lost_at: now.after(lost_in.unwrap_or_default()) })
        }
    }
}

#[cfg(test)]
mod tests {
    use stoker_core::departure::Cause;

    use super::*;
    use crate::testing::fleet;

    fn good() -> v1::RegisterRequest {
        v1::RegisterRequest {
            worker_id: WorkerId::from_bytes([1; 16]).to_string(),
            pool: "default".to_owned(),
            models: vec!["mini".to_owned(), "mini".to_owned()],
            slots: 4,
            version: "0.1.0".to_owned(),
            host: "box".to_owned(),
            pid: 7,
            device: "cpu".to_owned(),
            metrics_address: String::new(),
            instance: "i-0abc".to_owned(),
            identity: None,
        }
    }

    #[test]
    fn a_good_registration_is_read() {
        let registration = registration(&fleet(""), good()).unwrap();
        assert_eq!(registration.models.len(), 1);
        assert_eq!(registration.slots, 4);
        assert_eq!(registration.instance.unwrap().as_str(), "i-0abc");
        let nowhere = v1::RegisterRequest { instance: String::new(), ..good() };
        assert_eq!(super::registration(&fleet(""), nowhere).unwrap().instance, None);
    }

    #[test]
    fn bad_registrations_are_refused_by_field_with_what_is_known() {
        let long = "x".repeat(256);
        for (bad, field, part) in [
            (v1::RegisterRequest { worker_id: "x".into(), ..good() }, "worker_id", "UUID"),
            (v1::RegisterRequest { pool: "gpu".into(), ..good() }, "pool", "it has: default"),
            (
                v1::RegisterRequest { models: vec!["mini".into(), "mega".into()], ..good() },
                "models[1]",
                "it serves: mini, echo",
            ),
            (v1::RegisterRequest { models: vec![], ..good() }, "models", "mini, echo"),
            (v1::RegisterRequest { slots: 0, ..good() }, "slots", "1 to 4096"),
            (v1::RegisterRequest { slots: u32::MAX, ..good() }, "slots", "1 to 4096"),
            (v1::RegisterRequest { host: long, ..good() }, "host", "255 bytes"),
            (v1::RegisterRequest { device: "\u{1b}[2J".into(), ..good() }, "device", "printable"),
            (v1::RegisterRequest { instance: "i 1".into(), ..good() }, "instance", "i 1"),
        ] {
            let violations = registration(&fleet(""), bad).unwrap_err();
            assert_eq!(violations[0].field, field);
            assert!(violations[0].problem.contains(part), "{}", violations[0]);
        }
        let all = registration(&fleet(""), v1::RegisterRequest::default()).unwrap_err();
        let fields: Vec<&str> = all.iter().map(|one| one.field.as_str()).collect();
        assert_eq!(fields, ["worker_id", "pool", "slots"]);
    }

    #[test]
    fn reports_are_made_to_fit_but_a_state_is_needed() {
        let status = v1::WorkerStatus {
            state: v1::WorkerState::Ready.into(),
            busy_slots: 3,
            utilization: f64::NAN,
            resident_models: vec!["mini".into(), "not a name".into()],
            ..v1::WorkerStatus::default()
        };
        let now = Timestamp::from_unix_millis(5_000);
        let read = report(&status, now).unwrap();
        assert_eq!(read.state, WorkerState::Ready);
        assert!(read.utilization.abs() < f64::EPSILON);
        assert_eq!(read.resident_models.len(), 1);
        for (seconds, told) in [(90, Some(Duration::from_secs(90))), (-1, None), (i64::MAX, None)] {
            let remaining = Some(stoker_proto::well_known::Duration { seconds, nanos: 0 });
            let status = v1::WorkerStatus { remaining, ..status.clone() };
            assert_eq!(report(&status, now).unwrap().remaining, told, "{seconds}");
        }
        for state in [0, i32::from(v1::WorkerState::Lost), 99] {
            let status = v1::WorkerStatus { state, ..status.clone() };
            let error = report(&status, now).unwrap_err();
            assert!(error.message().starts_with("status.state"), "{error}");
        }
    }

    #[test]
    fn what_the_cloud_announced_is_dated_by_this_clock() {
        let now = Timestamp::from_unix_millis(5_000);
        let heard = |kind: v1::CloudNoticeKind, seconds: Option<i64>| {
            let lost_in =
                seconds.map(|seconds| stoker_proto::well_known::Duration { seconds, nanos: 0 });
            let notice = Some(v1::CloudNotice { kind: kind.into(), lost_in });
            let state = v1::WorkerState::Draining.into();
            let drain_cause = v1::DrainCause::Interruption.into();
            let status =
                v1::WorkerStatus { state, drain_cause, notice, ..v1::WorkerStatus::default() };
            let report = report(&status, now).unwrap();
            assert_eq!(report.drain_cause, Some(Cause::Interruption));
            report.notice
        };
        let lost_at =
            |millis| Some(Notice::Interruption { lost_at: Timestamp::from_unix_millis(millis) });
        assert_eq!(heard(v1::CloudNoticeKind::Interruption, Some(90)), lost_at(95_000));
        assert_eq!(heard(v1::CloudNoticeKind::Interruption, Some(-1)), lost_at(5_000));
        assert_eq!(heard(v1::CloudNoticeKind::Interruption, None), lost_at(5_000));
        assert_eq!(heard(v1::CloudNoticeKind::Rebalance, None), Some(Notice::Rebalance));
        assert_eq!(heard(v1::CloudNoticeKind::Unspecified, Some(9)), None);
    }
}
