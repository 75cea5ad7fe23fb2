//! Which findings a person is told of, and how often.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use stoker_core::cloud::Human;
use stoker_core::fleet::execute::Finding;

use crate::metrics;

/// The same kind is said again after so long, if it goes on.
const SAY_AGAIN: Duration = Duration::from_mins(10);
/// What a person is needed for if it lasts has lasted for so long.
const LASTS: Duration = Duration::from_mins(1);
/// What was not found for so long is over. Plans, and what is found in them, are a quarter of a minute apart.
const OVER: Duration = Duration::from_mins(2);

/// What was found lately, by kind.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    kinds: BTreeMap<&'static str, Lately>,
}

#[derive(Debug)]
struct Lately {
    since: Instant,
    last: Instant,
    said: Option<Instant>,
}

impl Watch {
    /// Counts what a step found, and warns of what needs a person.
    pub(crate) fn look(&mut self, findings: &[Finding]) {
        for finding in findings {
            tracing::debug!(%finding, "found");
            metrics::found(finding);
        }
        for (finding, more) in self.worth_saying(findings, Instant::now()) {
            tracing::warn!(%finding, kind = finding.kind(), more, "a person is needed");
        }
    }

    /// One of each kind that is to be said now, and how many more there are.
    fn worth_saying<'a>(
        &mut self,
        findings: &'a [Finding],
        now: Instant,
    ) -> Vec<(&'a Finding, usize)> {
        self.kinds.retain(|_, lately| now.duration_since(lately.last) < OVER);
        let mut kinds: BTreeMap<&'static str, Vec<&Finding>> = BTreeMap::new();
        for finding in findings.iter().filter(|finding| finding.human() != Human::NotNeeded) {
            kinds.entry(finding.kind()).or_default().push(finding);
        }
        let mut said = Vec::new();
        for (kind, mut found) in kinds {
            // The most urgent stands for all.
            found.sort_by_key(|finding| std::cmp::Reverse(finding.human()));
            let Some((first, others)) = found.split_first() else { continue };
            let fresh = Lately { since: now, last: now, said: None };
            let lately = self.kinds.entry(kind).or_insert(fresh);
            lately.last = now;
            let due = first.human() == Human::Now || now.duration_since(lately.since) >= LASTS;
            let again = lately.said.is_none_or(|said| now.duration_since(said) >= SAY_AGAIN);
            if due && again {
                lately.said = Some(now);
                said.push((*first, others.len()));
            }
        }
        said
    }
}

#[cfg(test)]
mod tests {
    use stoker_core::fleet::ledger::Failure;
    use stoker_core::ids::MachineId;

    use super::*;

    fn said(watch: &mut Watch, findings: &[Finding], at: Instant) -> Vec<(&'static str, usize)> {
        let said = watch.worth_saying(findings, at).into_iter();
        said.map(|(finding, more)| (finding.kind(), more)).collect()
    }

    #[test]
    fn what_needs_a_person_is_said_once_for_its_kind_and_again_when_it_goes_on() {
        let (mut watch, start) = (Watch::default(), Instant::now());
        let held = Finding::MassTermination { held: 4, allowed: 3 };
        let findings = [held.clone(), held, Finding::OldPlan];
        assert_eq!(said(&mut watch, &findings, start), [("mass-termination", 1)]);
        let mut now = start;
        for _ in 0..9 {
            now += Duration::from_mins(1);
            assert_eq!(said(&mut watch, &findings, now), []);
        }
        now += Duration::from_mins(1);
        assert_eq!(said(&mut watch, &findings, now), [("mass-termination", 1)]);
        // It was over, and has come back.
        now += Duration::from_mins(3);
        assert_eq!(said(&mut watch, &findings[..1], now), [("mass-termination", 0)]);
    }

    #[test]
    fn what_may_pass_by_itself_is_said_when_it_lasts() {
        let (mut watch, start) = (Watch::default(), Instant::now());
        let unknown = Finding::ListingUnknown { region: "r".into(), why: "away".into() };
        let findings = [unknown];
        assert_eq!(said(&mut watch, &findings, start), []);
        assert_eq!(said(&mut watch, &findings, start + Duration::from_secs(59)), []);
        let later = start + Duration::from_mins(1);
        assert_eq!(said(&mut watch, &findings, later), [("listing-unknown", 0)]);
    }

    #[test]
    fn a_launch_that_no_repetition_mends_is_said_at_once_and_a_sold_out_offering_never() {
        let (mut watch, start) = (Watch::default(), Instant::now());
        let machine = MachineId::from_bytes([1; 16]);
        let failed = |class| Finding::LaunchFailed { machine, class, why: String::new() };
        assert_eq!(said(&mut watch, &[failed(Failure::Capacity)], start), []);
        let findings = [failed(Failure::Quota), failed(Failure::Auth)];
        assert_eq!(said(&mut watch, &findings, start), [("launch-failed", 1)]);
    }
}
