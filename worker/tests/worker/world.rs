//! What the fake coordinator knows: jobs with their fences, and the faults it was asked for.

use std::collections::BTreeMap;
use std::fmt;

use stoker_core::ids::{DispatchSeq, JobId};
use stoker_proto::v1;
use stoker_proto::v1::result_part::Output;

/// What a heartbeat of a leased attempt is answered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Told {
    #[default]
    Continue,
    Stop,
    Fenced,
}

/// What is wrong with the grants of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BadGrant {
    /// No input, as one of a kind that the worker does not know.
    Input,
    /// The token is cut short.
    Token,
}

/// A job and everything that was said about it.
#[derive(Default)]
pub(crate) struct Job {
    pub(crate) model: String,
    pub(crate) texts: Vec<String>,
    pub(crate) seq: u32,
    pub(crate) attempt: u32,
    /// The dispatch whose hint was claimed last.
    pub(crate) claimed_seq: u32,
    /// The current attempt holds a lease.
    pub(crate) leased: bool,
    pub(crate) run_alone: bool,
    pub(crate) bad_grant: Option<BadGrant>,
    /// What heartbeats are told.
    pub(crate) told: Told,
    /// Claims to be deferred before one is granted.
    pub(crate) defer: u32,
    /// Claim ids that were seen, in order.
    pub(crate) claim_ids: Vec<String>,
    pub(crate) granted_to: Option<(String, v1::Grant)>,
    /// Parts that are stored, in order.
    pub(crate) parts: Vec<v1::ResultPart>,
    /// Parts of each completion that was recorded.
    pub(crate) completed: Vec<Vec<v1::ResultPart>>,
    pub(crate) failures: Vec<v1::AttemptFailure>,
    pub(crate) releases: Vec<v1::AttemptRelease>,
}

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Job")
            .field("items", &self.texts.len())
            .field("stored", &self.stored_items())
            .field("attempt", &self.attempt)
            .field("leased", &self.leased)
            .field("claims", &self.claim_ids.len())
            .field("completed", &self.completed.len())
            .field("failures", &self.failures)
            .field("releases", &self.releases.len())
            .finish_non_exhaustive()
    }
}

impl Job {
    pub(crate) fn is_done(&self) -> bool {
        !self.completed.is_empty()
    }

    pub(crate) fn stored_items(&self) -> u32 {
        self.parts.iter().map(|part| part.items).sum()
    }

    /// The texts of all stored parts.
    pub(crate) fn results(&self) -> Vec<String> {
        let of = |part: &v1::ResultPart| match &part.output {
            Some(Output::Texts(texts)) => texts.texts.clone(),
            other => panic!("{other:?}"),
        };
        self.parts.iter().flat_map(of).collect()
    }

    /// Stores parts that are not stored yet; a gap is an error of the worker.
    fn store(&mut self, parts: &[v1::ResultPart]) {
        for part in parts {
            let next = self.stored_items();
            if part.first_item < next {
                assert!(part.first_item + part.items <= next, "a part that is stored in part");
                continue;
            }
            assert_eq!(part.first_item, next, "a gap in the results");
            self.parts.push(part.clone());
        }
    }

    fn is_current(&self, fence: &v1::Fence) -> bool {
        self.leased && fence.attempt == self.attempt && fence.token == token(self.attempt)
    }
}

/// What becomes of every claim call.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum ClaimFault {
    #[default]
    Answered,
    Away,
    /// As wrong: repeating it changes nothing.
    Refused,
}

/// What goes wrong on request.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    pub(crate) claims: ClaimFault,
    /// Claims that are granted, but not answered.
    pub(crate) lose_claim_answers: u32,
    pub(crate) completes_away: bool,
    /// Completions that are recorded, but not answered.
    pub(crate) lose_complete_answers: u32,
    /// Completions with this text are refused as invalid.
    pub(crate) refuse_text: Option<String>,
    pub(crate) register_again: bool,
    /// Registrations that are not let in.
    pub(crate) refuse_registrations: u32,
    /// Consumers are refused, as by a broker with other permissions.
    pub(crate) refuse_consumers: bool,
}

#[derive(Debug, Default)]
pub(crate) struct World {
    pub(crate) jobs: BTreeMap<String, Job>,
    pub(crate) faults: Faults,
    pub(crate) registrations: Vec<v1::RegisterRequest>,
    pub(crate) claim_calls: Vec<usize>,
    pub(crate) complete_calls: usize,
    pub(crate) last_status: Option<v1::WorkerStatus>,
    pub(crate) heartbeats: usize,
}

impl World {
    pub(crate) fn job(&self, id: JobId) -> &Job {
        &self.jobs[&id.to_string()]
    }

    pub(crate) fn job_mut(&mut self, id: JobId) -> &mut Job {
        self.jobs.get_mut(&id.to_string()).unwrap()
    }

    pub(crate) fn seq(&self, id: JobId) -> DispatchSeq {
        DispatchSeq::new(self.job(id).seq)
    }

    /// Remembers claims, whatever becomes of them.
    pub(crate) fn saw_claims(&mut self, claims: &[v1::Claim]) {
        for claim in claims {
            if let Some(job) = self.jobs.get_mut(&claim.job_id) {
                job.claim_ids.push(claim.claim_id.clone());
            }
        }
    }

    pub(crate) fn claim(&mut self, claim: &v1::Claim) -> v1::ClaimOutcome {
        use v1::claim_outcome::Outcome;
        let refused = |refusal: v1::ClaimRefusal| Outcome::Refused(refusal.into());
        let Some(job) = self.jobs.get_mut(&claim.job_id) else {
            return v1::ClaimOutcome { outcome: Some(refused(v1::ClaimRefusal::Unknown)) };
        };
        let outcome = match &job.granted_to {
            Some((id, grant)) if *id == claim.claim_id => Outcome::Granted(Box::new(grant.clone())),
            _ if job.is_done() => refused(v1::ClaimRefusal::Terminal),
            _ if job.leased => refused(v1::ClaimRefusal::Busy),
            _ if claim.dispatch_seq <= job.claimed_seq => refused(v1::ClaimRefusal::Stale),
            _ if job.defer > 0 => {
                job.defer -= 1;
                Outcome::Deferred(v1::ClaimDeferred {})
            }
            _ => {
                let grant = grant(job);
                job.granted_to = Some((claim.claim_id.clone(), grant.clone()));
                Outcome::Granted(Box::new(grant))
            }
        };
        v1::ClaimOutcome { outcome: Some(outcome) }
    }

    pub(crate) fn heartbeat(&mut self, progress: &v1::AttemptProgress) -> v1::HeartbeatOutcome {
        let fence = progress.fence.as_ref().unwrap();
        let Some(job) = self.jobs.get_mut(&fence.job_id) else {
            return v1::HeartbeatOutcome::Fenced;
        };
        if job.told == Told::Fenced || !job.is_current(fence) {
            return v1::HeartbeatOutcome::Fenced;
        }
        job.store(&progress.parts);
        match job.told {
            Told::Stop => v1::HeartbeatOutcome::Stop,
            Told::Continue | Told::Fenced => v1::HeartbeatOutcome::Continue,
        }
    }

    pub(crate) fn complete(&mut self, completion: &v1::Completion) -> v1::CompleteOutcome {
        let fence = completion.fence.as_ref().unwrap();
        let Some(job) = self.jobs.get_mut(&fence.job_id) else {
            return v1::CompleteOutcome::Fenced;
        };
        if fence.token != token(fence.attempt) {
            return v1::CompleteOutcome::Fenced;
        }
        if job.is_done() {
            return v1::CompleteOutcome::AlreadyRecorded;
        }
        job.store(&completion.parts);
        assert_eq!(job.stored_items() as usize, job.texts.len(), "complete without all results");
        job.completed.push(completion.parts.clone());
        job.leased = false;
        v1::CompleteOutcome::Recorded
    }

    pub(crate) fn fail(&mut self, failure: &v1::AttemptFailure) -> v1::SettleOutcome {
        let fence = failure.fence.as_ref().unwrap();
        match self.jobs.get_mut(&fence.job_id).filter(|job| job.is_current(fence)) {
            Some(job) => {
                job.failures.push(failure.clone());
                job.leased = false;
                v1::SettleOutcome::Recorded
            }
            None => v1::SettleOutcome::Fenced,
        }
    }

    pub(crate) fn release(&mut self, release: &v1::AttemptRelease) -> v1::SettleOutcome {
        let fence = release.fence.as_ref().unwrap();
        match self.jobs.get_mut(&fence.job_id).filter(|job| job.is_current(fence)) {
            Some(job) => {
                job.store(&release.parts);
                job.releases.push(release.clone());
                job.leased = false;
                v1::SettleOutcome::Recorded
            }
            None => v1::SettleOutcome::Fenced,
        }
    }
}

fn token(attempt: u32) -> Vec<u8> {
    vec![u8::try_from(attempt).unwrap(); 16]
}

fn grant(job: &mut Job) -> v1::Grant {
    job.attempt += 1;
    job.claimed_seq = job.seq;
    job.leased = true;
    let input = v1::job_input::Task::Echo(v1::EchoInput { texts: job.texts.clone() });
    v1::Grant {
        attempt: job.attempt,
        token: if job.bad_grant == Some(BadGrant::Token) { vec![1] } else { token(job.attempt) },
        model: job.model.clone(),
        input: Some(v1::JobInput {
            task: Some(input).filter(|_| job.bad_grant != Some(BadGrant::Input)),
        }),
        first_item: job.stored_items(),
        run_alone: job.run_alone,
        slack: None,
        trace: BTreeMap::new(),
        begun: None,
    }
}
