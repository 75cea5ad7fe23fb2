//! What workers say about attempts: claims, fences, errors.

use stoker_core::ids::{Attempt, ClaimId, DispatchSeq, JobId, LeaseToken};
use stoker_core::job::AttemptError;

use crate::status::FieldViolation;
use crate::text::clean;
use crate::v1;

use super::enums::failure_kind;
use super::id::{claim_id, job_id};
use super::violations::{Violations, collect, required};

/// Most claims in one call.
pub const MAX_CLAIMS: usize = 256;
/// Longest error message that is kept, in bytes.
const MAX_MESSAGE_BYTES: usize = 2048;
const MAX_CODE_BYTES: usize = 63;

/// Names one attempt and proves the right to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fence {
    pub job: JobId,
    pub attempt: Attempt,
    pub token: LeaseToken,
}

/// A worker asks for what a delivery points to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    pub job: JobId,
    pub seq: DispatchSeq,
    pub claim: ClaimId,
}

pub fn fence(fence: Option<&v1::Fence>, path: &str) -> Result<Fence, FieldViolation> {
    let fence = required(fence, path)?;
    let job = job_id(&fence.job_id, &format!("{path}.job_id"))?;
    let attempt = Attempt::new(fence.attempt).ok_or_else(|| {
        FieldViolation::new(format!("{path}.attempt"), "is 0: attempts are numbered from 1")
    })?;
    let token: [u8; 16] = fence.token.as_slice().try_into().map_err(|_| {
        let problem = format!("has {} bytes: a lease token has 16", fence.token.len());
        FieldViolation::new(format!("{path}.token"), problem)
    })?;
    Ok(Fence { job, attempt, token: LeaseToken::from_bytes(token) })
}

pub fn wire_fence(fence: &Fence) -> v1::Fence {
    v1::Fence {
        job_id: fence.job.to_string(),
        attempt: fence.attempt.number(),
        token: fence.token.as_bytes().to_vec(),
    }
}

/// The claims of one call, in order. At most [`MAX_CLAIMS`].
pub fn claims(claims: &[v1::Claim], path: &str) -> Result<Vec<Claim>, Vec<FieldViolation>> {
    if claims.len() > MAX_CLAIMS {
        let problem = format!("has {} claims and may have {MAX_CLAIMS}", claims.len());
        return Err(vec![FieldViolation::new(path, problem)]);
    }
    collect(claims.iter().enumerate().map(|(index, one)| claim(one, &format!("{path}[{index}]"))))
}

fn claim(claim: &v1::Claim, path: &str) -> Result<Claim, Vec<FieldViolation>> {
    let mut violations = Violations::default();
    let job = violations.note(job_id(&claim.job_id, &format!("{path}.job_id")));
    let id = violations.note(claim_id(&claim.claim_id, &format!("{path}.claim_id")));
    if claim.dispatch_seq == 0 {
        let field = format!("{path}.dispatch_seq");
        violations.add(FieldViolation::new(field, "is 0: dispatches are numbered from 1"));
    }
    match (job, id) {
        (Some(job), Some(claim_id)) if violations.is_empty() => {
            Ok(Claim { job, seq: DispatchSeq::new(claim.dispatch_seq), claim: claim_id })
        }
        _ => Err(violations.into_vec()),
    }
}

/// The error of a failed attempt.
///
/// Code and message are made to fit rather than refused: a worker that cannot get rid of a bad
/// report would hold its delivery forever.
pub fn attempt_error(
    failure: &v1::AttemptFailure,
    path: &str,
) -> Result<AttemptError, FieldViolation> {
    let kind = failure_kind(failure.kind, &format!("{path}.kind"))?;
    let code = &failure.code;
    let is_code = (1..=MAX_CODE_BYTES).contains(&code.len())
        && code.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_');
    Ok(AttemptError {
        kind,
        code: if is_code { code.clone() } else { "UNCLASSIFIED".to_owned() },
        message: clean(&failure.message, MAX_MESSAGE_BYTES),
    })
}

#[cfg(test)]
mod tests {
    use stoker_core::job::FailureKind;

    use super::*;

    fn good() -> Fence {
        Fence {
            job: JobId::from_bytes([1; 16]),
            attempt: Attempt::FIRST,
            token: LeaseToken::from_bytes([2; 16]),
        }
    }

    #[test]
    fn fences_survive_the_wire() {
        assert_eq!(fence(Some(&wire_fence(&good())), "fence").unwrap(), good());
    }

    #[test]
    fn broken_fences_are_refused_by_field() {
        let wire = wire_fence(&good());
        for (broken, field) in [
            (None, "f"),
            (Some(v1::Fence { job_id: "x".into(), ..wire.clone() }), "f.job_id"),
            (Some(v1::Fence { attempt: 0, ..wire.clone() }), "f.attempt"),
            (Some(v1::Fence { token: vec![0; 15], ..wire.clone() }), "f.token"),
            (Some(v1::Fence { token: vec![0; 17], ..wire }), "f.token"),
        ] {
            assert_eq!(fence(broken.as_ref(), "f").unwrap_err().field, field);
        }
    }

    #[test]
    fn claims_are_checked_one_by_one_and_bounded() {
        let id = JobId::from_bytes([1; 16]).to_string();
        let good = v1::Claim { job_id: id.clone(), dispatch_seq: 1, claim_id: id };
        assert_eq!(claims(&[good.clone(), good.clone()], "claims").unwrap().len(), 2);
        assert!(claims(&vec![good.clone(); MAX_CLAIMS + 1], "claims").is_err());
        let bad = v1::Claim { dispatch_seq: 0, claim_id: String::new(), ..good.clone() };
        let errors = claims(&[good, bad], "claims").unwrap_err();
        let fields: Vec<&str> = errors.iter().map(|error| error.field.as_str()).collect();
        assert_eq!(fields, ["claims[1].claim_id", "claims[1].dispatch_seq"]);
    }

    #[test]
    fn an_error_report_is_made_to_fit() {
        let report = |code: &str, message: &str| v1::AttemptFailure {
            fence: None,
            kind: v1::FailureKind::Crash.into(),
            code: code.to_owned(),
            message: message.to_owned(),
        };
        let error = attempt_error(&report("OUT_OF_MEMORY", "\u{1b}[31mred"), "f").unwrap();
        assert_eq!((error.kind, error.code.as_str()), (FailureKind::Crash, "OUT_OF_MEMORY"));
        assert_eq!(error.message, "\u{fffd}[31mred");
        let error = attempt_error(&report("no\u{0}code", &"m".repeat(1 << 20)), "f").unwrap();
        assert_eq!(error.code, "UNCLASSIFIED");
        assert!(error.message.len() < 3000);
        let nameless = v1::AttemptFailure { kind: 0, ..report("A", "") };
        assert_eq!(attempt_error(&nameless, "f").unwrap_err().field, "f.kind");
    }
}
