//! The state by itself: what it does at which time, without engines or a network.

use std::sync::Arc;

use async_trait::async_trait;
use stoker_broker::{AckError, Acker};
use stoker_core::departure::DeadMan;
use stoker_core::fleet::prompts::Prompts;
use stoker_core::ids::{Attempt, FleetName, JobId, LeaseToken, ModelName};
use stoker_core::time::Timestamp;
use stoker_engine_api::{
    EngineInfo, ItemInput, ItemKey, ItemOutput, LoadSeconds, TaskKind, ToEngine,
};
use stoker_proto::v1::{HeartbeatOutcome, HeartbeatResponse, ReleaseReason, WorkerState};
use stoker_runtime::trace_context::TraceContext;
use tokio::sync::Semaphore;

use super::*;
use crate::attempt::{Fence, Work};
use crate::board::FailureKind;
use crate::config::OnRebalance;
use crate::link::{LinkError, Registration};
use crate::report::Verdict;
use crate::supervisor::{EngineHandle, EngineNews, Exit};

mod departures;
mod probe;
mod residency;
mod telling;

use probe::Probe;

const INTERVAL: Duration = Duration::from_secs(5);

#[test]
fn work_is_wanted_once_registered_with_a_warm_engine() {
    let mut probe = Probe::new();
    probe.engine_ready();
    assert!(probe.gates().is_empty());
    assert!(probe.state.readiness().unwrap_err().contains("registered"));
    probe.register();
    assert_eq!(probe.gates(), [true]);
    assert!(probe.state.readiness().unwrap_err().contains("not consumed yet"));
    probe.intake(Ok(()));
    assert_eq!(probe.state.readiness(), Ok(()));
    probe.engine(EngineNews::Lost { exit: Exit::Signal { signal: 9 } });
    assert_eq!(probe.gates(), [false]);
    assert!(probe.state.readiness().unwrap_err().contains("echo"));
    probe.engine_ready();
    assert_eq!(probe.gates(), [true]);
    probe.apply(Event::Session(SessionNews::Cordon(true)));
    assert_eq!(probe.gates(), [false]);
    probe.apply(Event::Session(SessionNews::Cordon(false)));
    assert_eq!(probe.gates(), [true]);
}

#[test]
fn a_worker_that_gets_no_work_is_not_ready_and_says_why() {
    let mut probe = Probe::ready();
    let state = |probe: &mut Probe| probe.heartbeat().unwrap().0.status.unwrap().state();
    assert_eq!(probe.state.readiness(), Ok(()));
    probe.intake(Err("access refused"));
    let reason = probe.state.readiness().unwrap_err();
    assert!(reason.contains("echo") && reason.contains("access refused"), "{reason}");
    assert_eq!(state(&mut probe), WorkerState::Starting);
    probe.intake(Ok(()));
    probe.apply(Event::Claiming(Err("not from you".to_owned())));
    let reason = probe.state.readiness().unwrap_err();
    assert!(reason.contains("refuses claims") && reason.contains("not from you"), "{reason}");
    probe.apply(Event::Claiming(Ok(())));
    assert_eq!(probe.state.readiness(), Ok(()));
    probe.apply(Event::Session(SessionNews::Cordon(true)));
    probe.intake(Err("closed on purpose"));
    assert_eq!(probe.state.readiness(), Ok(()), "its gate is closed");
}

#[test]
fn a_lost_registration_changes_nothing_for_work_under_way() {
    let mut probe = Probe::ready();
    probe.grant(1, &["a"]);
    probe.gates();
    probe.apply(Event::Session(SessionNews::Lost));
    assert!(probe.gates().is_empty());
    probe.run(1);
    assert!(matches!(probe.reports().as_slice(), [Verdict::Complete { .. }]));
}

#[test]
fn heartbeats_go_out_in_time_one_by_one_and_name_every_attempt() {
    let mut probe = Probe::ready();
    probe.grant(1, &["a"]);
    assert!(probe.heartbeat().is_none(), "not before it is due");
    probe.later(INTERVAL);
    let (request, keys) = probe.heartbeat().unwrap();
    assert_eq!((request.attempts.len(), keys.len()), (1, 1));
    let status = request.status.unwrap();
    assert_eq!((status.state(), status.busy_slots), (WorkerState::Ready, 1));
    assert_eq!(status.resident_models, ["echo"]);
    assert_eq!(status.remaining, None, "nothing was measured yet");
    probe.later(INTERVAL * 3);
    assert!(probe.heartbeat().is_none(), "one at a time");
    let result = Err(LinkError::TimedOut { after: INTERVAL });
    probe.apply(Event::Heartbeat(HeartbeatAnswer { keys, result }));
    assert!(probe.heartbeat().is_some());
}

#[test]
fn more_attempts_than_fit_in_a_call_are_told_of_in_several() {
    let mut probe = Probe::ready();
    for _ in 0..1_500 {
        probe.grant(1, &["a"]);
    }
    probe.later(INTERVAL);
    let mut told = Vec::new();
    while let Some((request, keys)) = probe.heartbeat() {
        assert!(keys.len() <= 1_000);
        let outcomes = vec![HeartbeatOutcome::Continue.into(); request.attempts.len()];
        told.extend(keys.clone());
        let result = Ok(HeartbeatResponse { outcomes, register_again: false });
        probe.apply(Event::Heartbeat(HeartbeatAnswer { keys, result }));
    }
    assert_eq!(told.len(), 1_500);
    assert!(told.is_sorted());
}

#[test]
fn utilization_is_the_share_of_time_in_which_engines_computed() {
    let mut probe = Probe::ready();
    probe.grant(1, &["a", "b"]);
    probe.run(2);
    probe.later(INTERVAL);
    let (request, _) = probe.heartbeat().unwrap();
    let utilization = request.status.unwrap().utilization;
    assert!((utilization - 0.4).abs() < 1e-9, "two of five seconds: {utilization}");
}

#[test]
fn a_heartbeat_tells_how_long_what_is_held_still_takes() {
    let mut probe = Probe::ready();
    probe.grant(1, &["a", "b", "c"]);
    probe.run(1);
    probe.later(INTERVAL);
    let (request, _) = probe.heartbeat().unwrap();
    let told = request.status.unwrap().remaining.unwrap();
    // Two items of a second each, and a quarter more.
    assert_eq!((told.seconds, told.nanos), (2, 500_000_000));
}

#[test]
fn a_wish_to_register_from_before_the_registration_is_not_followed() {
    let asks = |probe: &mut Probe| {
        let result = Ok(HeartbeatResponse { outcomes: vec![], register_again: true });
        probe.apply(Event::Heartbeat(HeartbeatAnswer { keys: vec![], result }));
        let wishes = probe.effects.iter().filter(|e| matches!(e, Effect::RegisterAgain)).count();
        probe.effects.retain(|effect| !matches!(effect, Effect::RegisterAgain));
        wishes
    };
    let mut probe = Probe::ready();
    probe.later(INTERVAL);
    probe.heartbeat().unwrap();
    assert_eq!(asks(&mut probe), 1, "the coordinator does not know this worker");
    probe.later(INTERVAL);
    probe.heartbeat().unwrap();
    probe.register();
    assert_eq!(asks(&mut probe), 0, "it has registered since");
}

#[test]
fn a_job_that_ends_during_a_heartbeat_is_reported_after_it() {
    let mut probe = Probe::ready();
    probe.grant(1, &["a", "b"]);
    probe.run(1);
    probe.later(INTERVAL);
    let (request, keys) = probe.heartbeat().unwrap();
    assert_eq!(request.attempts[0].parts.len(), 1);
    probe.run(1);
    assert!(probe.reports().is_empty(), "its checkpoint may be stored or not");
    let outcomes = vec![HeartbeatOutcome::Continue.into()];
    let result = Ok(HeartbeatResponse { outcomes, register_again: false });
    probe.apply(Event::Heartbeat(HeartbeatAnswer { keys, result }));
    let reports = probe.reports();
    let [Verdict::Complete { parts, busy }] = reports.as_slice() else { panic!("{reports:?}") };
    assert_eq!((parts.len(), parts[0].first_item), (1, 1));
    assert_eq!(*busy, Duration::from_secs(2));
}

#[test]
fn a_lost_heartbeat_repeats_its_checkpoint() {
    let mut probe = Probe::ready();
    probe.grant(1, &["a", "b"]);
    probe.run(1);
    probe.later(INTERVAL);
    let (_, keys) = probe.heartbeat().unwrap();
    let result = Err(LinkError::TimedOut { after: INTERVAL });
    probe.apply(Event::Heartbeat(HeartbeatAnswer { keys, result }));
    probe.run(1);
    let reports = probe.reports();
    let [Verdict::Complete { parts, .. }] = reports.as_slice() else { panic!("{reports:?}") };
    assert_eq!(parts.iter().map(|part| part.first_item).collect::<Vec<_>>(), [0, 1]);
}

#[test]
fn jobs_wait_for_an_engine_but_not_for_ever() {
    let mut probe = Probe::ready();
    probe.grant(1, &["a"]);
    probe.grant(2, &["b"]);
    probe.run(0);
    probe.engine(EngineNews::Lost { exit: Exit::Signal { signal: 9 } });
    let reports = probe.reports();
    let [Verdict::Fail(failure)] = reports.as_slice() else { panic!("{reports:?}") };
    assert_eq!((failure.kind, failure.code), (FailureKind::Crash, "ENGINE_CRASHED"));
    probe.later(Duration::from_secs(9));
    assert!(probe.reports().is_empty());
    assert!(probe.state.wake_at().unwrap() <= probe.now.after(Duration::from_secs(1)));
    probe.later(Duration::from_secs(1));
    let reports = probe.reports();
    let [Verdict::Release { reason, .. }] = reports.as_slice() else { panic!("{reports:?}") };
    assert_eq!(*reason, ReleaseReason::Unavailable);
}

#[test]
fn a_job_for_another_task_fails_for_good() {
    let mut probe = Probe::ready();
    probe.state.models[0].plan.task = TaskKind::TextEmbedding;
    probe.grant(1, &["a"]);
    let reports = probe.reports();
    let [Verdict::Fail(failure)] = reports.as_slice() else { panic!("{reports:?}") };
    assert_eq!((failure.kind, failure.code), (FailureKind::Permanent, "WRONG_TASK"));
    assert!(failure.message.contains("text-embedding") && failure.message.contains("echo"));
}

#[test]
fn a_drain_ends_when_work_and_claims_have_ended() {
    let mut probe = Probe::ready();
    probe.grant(1, &["a"]);
    probe.state.drain(Cause::Shutdown, None, probe.now);
    probe.look();
    assert!(probe.effects.iter().any(|effect| matches!(effect, Effect::StopClaiming)));
    assert_eq!(probe.gates().last(), Some(&false));
    probe.grant(2, &["late"]);
    let reports = probe.reports();
    assert!(matches!(
        reports.as_slice(),
        [Verdict::Release { reason: ReleaseReason::Draining, .. }]
    ));
    probe.run(1);
    assert_eq!(probe.reports().len(), 1);
    assert!(!probe.ended(), "a claim may still be granted");
    probe.apply(Event::ClaimsEnded);
    assert!(probe.ended());
}

#[test]
fn a_drain_gives_back_what_is_left_at_its_deadline() {
    let mut probe = Probe::ready();
    probe.grant(1, &["a", "b"]);
    probe.run(1);
    probe.apply(Event::Session(SessionNews::Drain(Some(Duration::from_secs(2)))));
    probe.state.drain(Cause::Shutdown, None, probe.now);
    let (request, keys) = probe.heartbeat().expect("the coordinator is told at once");
    assert_eq!(request.status.unwrap().state(), WorkerState::Draining);
    let outcomes = vec![HeartbeatOutcome::Continue.into()];
    let result = Ok(HeartbeatResponse { outcomes, register_again: false });
    probe.apply(Event::Heartbeat(HeartbeatAnswer { keys, result }));
    probe.later(Duration::from_secs(1));
    assert!(probe.reports().is_empty() && !probe.ended());
    probe.later(Duration::from_secs(1));
    let reports = probe.reports();
    let [Verdict::Release { reason: ReleaseReason::Draining, parts, .. }] = reports.as_slice()
    else {
        panic!("{reports:?}")
    };
    assert!(parts.len() <= 1);
    assert!(probe.ended(), "even if a claim is still under way");
}

#[test]
fn a_sick_device_takes_no_work_and_gives_back_what_it_has() {
    let mut probe = Probe::ready();
    probe.grant(1, &["a", "b"]);
    probe.run(1);
    assert_eq!(probe.gates(), [true]);

    probe.apply(Event::Device(Err("2 memory errors".to_owned())));
    let reports = probe.reports();
    let [Verdict::Release { reason: ReleaseReason::Unavailable, parts, .. }] = &reports[..] else {
        panic!("not given back: {reports:?}")
    };
    assert_eq!(parts.len(), 1, "what was computed before goes along");
    assert_eq!(probe.gates(), [false]);
    let reason = probe.state.readiness().unwrap_err();
    assert!(reason.contains("quarantined") && reason.contains("2 memory errors"), "{reason}");
    let (request, _) = probe.heartbeat().expect("the coordinator is told at once");
    let status = request.status.unwrap();
    let why = v1::DrainCause::Device;
    assert_eq!((status.state(), status.drain_cause()), (WorkerState::Cordoned, why));

    probe.apply(Event::Device(Ok(())));
    assert_eq!((probe.gates(), probe.state.readiness()), (vec![true], Ok(())));
}
