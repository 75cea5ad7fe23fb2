//! Going: by whose order, in how long, with what done.

use stoker_core::departure::{DeadMan, RESERVE};
use stoker_proto::v1::{CloudNoticeKind, DrainCause};

use super::*;

fn notice(probe: &mut Probe, left: Duration) {
    let lost_at = Some(probe.now.after(left));
    announce(probe, Announced { lost_at, ..Announced::default() });
}

fn announce(probe: &mut Probe, announced: Announced) {
    probe.state.announced(announced, probe.now);
    probe.look();
}

/// The heartbeat under way, answered.
fn beat(probe: &mut Probe) -> v1::HeartbeatRequest {
    let (request, keys) = probe.heartbeat().expect("the coordinator is told at once");
    let outcomes = vec![HeartbeatOutcome::Continue.into(); keys.len()];
    let result = Ok(HeartbeatResponse { outcomes, register_again: false });
    probe.apply(Event::Heartbeat(HeartbeatAnswer { keys, result }));
    request
}

fn told(probe: &mut Probe) -> v1::WorkerStatus {
    beat(probe).status.unwrap()
}

/// How many items a heartbeat brought to be stored.
fn stored(probe: &mut Probe) -> u32 {
    let attempts = beat(probe).attempts;
    attempts.iter().flat_map(|attempt| &attempt.parts).map(|part| part.items).sum()
}

fn releases(reports: &[Verdict]) -> Vec<(ReleaseReason, u32)> {
    let of = |verdict: &Verdict| match verdict {
        Verdict::Release { reason, parts, .. } => {
            (*reason, parts.iter().map(|part| part.items).sum())
        }
        other => panic!("{other:?}"),
    };
    reports.iter().map(of).collect()
}

fn ended_by(probe: &Probe) -> Option<Cause> {
    probe.effects.iter().find_map(|effect| match effect {
        Effect::End(Ok(cause)) => Some(*cause),
        _ => None,
    })
}

#[test]
fn a_notice_is_told_at_once_with_what_is_left_of_the_machine() {
    let mut probe = Probe::ready();
    notice(&mut probe, Duration::from_mins(2));
    let status = told(&mut probe);
    assert_eq!(status.state(), WorkerState::Draining);
    assert_eq!(status.drain_cause(), DrainCause::Interruption);
    let notice = status.notice.unwrap();
    assert_eq!(notice.kind(), CloudNoticeKind::Interruption);
    assert_eq!(notice.lost_in.map(|left| left.seconds), Some(120));
    assert_eq!(probe.gates().last(), Some(&false), "no further work");
}

#[test]
fn a_job_that_does_not_end_within_the_notice_is_handed_over_at_once_and_without_a_gap() {
    let mut probe = Probe::ready();
    // A second for each item, and one at a time.
    probe.grant(1, &["a"; 1_000]);
    probe.run(3);
    notice(&mut probe, Duration::from_mins(2));
    assert_eq!(stored(&mut probe), 3, "what is done goes with the news");
    assert!(probe.reports().is_empty(), "two batches are with the engine");
    probe.run(2);
    assert_eq!(releases(&probe.reports()), [(ReleaseReason::Interrupted, 2)]);
    assert!(!probe.ended(), "a claim may still be granted");
    probe.apply(Event::ClaimsEnded);
    assert_eq!(ended_by(&probe), Some(Cause::Interruption));
}

#[test]
fn a_job_that_ends_within_the_notice_is_finished_and_the_longer_one_goes() {
    let mut probe = Probe::ready();
    probe.grant(1, &["a", "b", "c"]);
    probe.run(1);
    probe.grant(2, &["d"; 1_000]);
    notice(&mut probe, Duration::from_mins(2));
    assert_eq!(releases(&probe.reports()), [(ReleaseReason::Interrupted, 0)], "none had started");
    assert_eq!(stored(&mut probe), 1);
    probe.run(2);
    assert!(matches!(probe.reports().as_slice(), [Verdict::Complete { .. }]));
}

#[test]
fn what_was_never_measured_stays_until_its_first_batch() {
    let mut probe = Probe::ready();
    probe.grant(1, &["a"; 1_000]);
    notice(&mut probe, Duration::from_mins(2));
    assert!(probe.reports().is_empty());
    probe.run(1);
    probe.run(1);
    assert_eq!(releases(&probe.reports()), [(ReleaseReason::Interrupted, 2)]);
}

#[test]
fn work_is_over_before_the_machine_is() {
    let mut probe = Probe::ready();
    probe.grant(1, &["a", "b"]);
    let left = Duration::from_mins(1);
    notice(&mut probe, left);
    probe.later(left.saturating_sub(RESERVE + Duration::from_secs(1)));
    assert!(probe.reports().is_empty() && !probe.ended());
    probe.later(Duration::from_secs(1));
    assert_eq!(releases(&probe.reports()), [(ReleaseReason::Interrupted, 0)]);
    assert!(probe.ended(), "even if a claim is still under way");
}

#[test]
fn a_stronger_cause_and_the_shorter_time_win() {
    let mut probe = Probe::ready();
    probe.grant(1, &["a", "b"]);
    probe.apply(Event::Session(SessionNews::Drain(Some(Duration::from_hours(1)))));
    assert_eq!(told(&mut probe).drain_cause(), DrainCause::Operator);
    notice(&mut probe, Duration::from_secs(10));
    assert_eq!(told(&mut probe).drain_cause(), DrainCause::Interruption);
    probe.state.drain(Cause::Shutdown, None, probe.now);
    probe.later(Duration::from_secs(5));
    assert_eq!(releases(&probe.reports()), [(ReleaseReason::Interrupted, 0)]);
    assert_eq!(ended_by(&probe), Some(Cause::Interruption));
}

#[test]
fn a_recommendation_is_reported_and_followed_as_set() {
    for (on_rebalance, state, cause, gates) in [
        (OnRebalance::CarryOn, WorkerState::Ready, DrainCause::Unspecified, Vec::new()),
        (OnRebalance::Cordon, WorkerState::Cordoned, DrainCause::Rebalance, vec![false]),
        (OnRebalance::Drain, WorkerState::Draining, DrainCause::Rebalance, vec![false]),
    ] {
        let mut probe = Probe::ready_with(on_rebalance, None);
        probe.gates();
        announce(&mut probe, Announced { rebalance: true, ..Announced::default() });
        let status = told(&mut probe);
        assert_eq!((status.state(), status.drain_cause()), (state, cause), "{on_rebalance:?}");
        assert_eq!(status.notice.unwrap().kind(), CloudNoticeKind::Rebalance);
        assert_eq!(probe.gates(), gates, "{on_rebalance:?}");
        announce(&mut probe, Announced { rebalance: true, ..Announced::default() });
        assert_eq!(probe.gates(), Vec::<bool>::new(), "once");
    }
}

#[test]
fn an_idle_worker_that_nobody_reaches_goes_for_good() {
    let switch = Some(DeadMan { after: Duration::from_mins(10) });
    let mut probe = Probe::ready_with(OnRebalance::CarryOn, switch);
    let cut_off = |probe: &mut Probe| {
        if let Some((_, keys)) = probe.heartbeat() {
            let result = Err(LinkError::TimedOut { after: INTERVAL });
            probe.apply(Event::Heartbeat(HeartbeatAnswer { keys, result }));
        }
    };
    for _ in 0..3 {
        probe.later(Duration::from_mins(9));
        probe.answer(|_| HeartbeatOutcome::Continue);
    }
    probe.grant(1, &["a"]);
    for _ in 0..20 {
        probe.later(Duration::from_mins(1));
        cut_off(&mut probe);
    }
    assert!(!probe.state.is_draining(), "it works");
    probe.run(1);
    assert!(matches!(probe.reports().as_slice(), [Verdict::Complete { .. }]), "not delivered");
    for _ in 0..9 {
        probe.later(Duration::from_mins(1));
        cut_off(&mut probe);
    }
    assert!(!probe.state.is_draining(), "idle for nine minutes");
    let wake = probe.state.wake_at().expect("it looks again by itself");
    assert!(wake <= probe.now.after(Duration::from_mins(1)));
    probe.later(Duration::from_mins(1));
    assert_eq!(ended_by(&probe), Some(Cause::CutOff));
}

#[test]
fn without_the_switch_a_worker_waits_for_its_coordinator_for_ever() {
    let mut probe = Probe::ready();
    probe.later(Duration::from_hours(1_000));
    assert!(!probe.state.is_draining());
}
