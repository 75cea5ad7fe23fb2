//! Where the next page of a list begins: opaque to clients, and good for the same filter only.
//!
//! Not signed: a forged token names another place in the caller's own list, nothing more, since
//! the tenant comes from the call.

use sha2::{Digest as _, Sha256};
use stoker_core::ids::JobId;
use stoker_core::job::FailureReason;
use stoker_core::time::Timestamp;
use stoker_proto::status::FieldViolation;

use crate::store::{Filter, TenantScope};

const VERSION: u8 = 1;
const DIGEST_BYTES: usize = 8;
const TOKEN_BYTES: usize = 1 + 16 + DIGEST_BYTES;

/// The token of the page that begins behind `last`.
pub(super) fn encode(last: JobId, filter: &Filter) -> String {
    let mut bytes = Vec::with_capacity(TOKEN_BYTES);
    bytes.push(VERSION);
    bytes.extend_from_slice(last.as_bytes());
    bytes.extend_from_slice(&digest(filter));
    hex::encode(bytes)
}

/// Where to go on; `None` for the first page, whose token is empty.
pub(super) fn decode(token: &str, filter: &Filter) -> Result<Option<JobId>, FieldViolation> {
    if token.is_empty() {
        return Ok(None);
    }
    let refuse = |problem| Err(FieldViolation::new("page_token", problem));
    let mut bytes = [0; TOKEN_BYTES];
    if hex::decode_to_slice(token, &mut bytes).is_err() || bytes[0] != VERSION {
        return refuse("is not a token of this coordinator: begin again without one");
    }
    let (last, filter_digest) = bytes[1..].split_at(16);
    if filter_digest != digest(filter) {
        return refuse(
            "belongs to a list with other filters: repeat them unchanged, or begin again without \
             a token",
        );
    }
    let last: [u8; 16] = last.try_into().expect("16 bytes were split off");
    Ok(Some(JobId::from_bytes(last)))
}

/// Of everything that decides what is in the list, but not of where a page begins and ends.
fn digest(filter: &Filter) -> [u8; DIGEST_BYTES] {
    let mut digest = Fields(Sha256::new());
    match &filter.scope {
        TenantScope::All => digest.field(b"all"),
        TenantScope::Only(tenant) => {
            digest.field(b"only");
            digest.field(tenant.as_str().as_bytes());
        }
    }
    let mut states: Vec<u8> = filter.states.iter().map(|state| state.number()).collect();
    states.sort_unstable();
    digest.field(&states);
    digest.field(filter.model.as_ref().map_or("", |model| model.as_str()).as_bytes());
    digest.field(filter.class.as_ref().map_or("", |class| class.as_str()).as_bytes());
    for (name, value) in &filter.labels {
        digest.field(name.as_bytes());
        digest.field(value.as_bytes());
    }
    for time in [filter.accepted_after, filter.accepted_before] {
        digest.field(&time.map_or(i64::MIN, Timestamp::as_unix_millis).to_be_bytes());
    }
    let failure = filter.failure.map_or(0, FailureReason::number);
    digest.field(&[u8::from(filter.only_dead_letters), failure]);
    let whole = digest.0.finalize();
    let mut short = [0; DIGEST_BYTES];
    short.copy_from_slice(&whole[..DIGEST_BYTES]);
    short
}

/// Fields with their lengths, so that no two lists of fields run together.
struct Fields(Sha256);

impl Fields {
    fn field(&mut self, bytes: &[u8]) {
        let length = u64::try_from(bytes.len()).expect("a length fits into 64 bits");
        self.0.update(length.to_be_bytes());
        self.0.update(bytes);
    }
}

#[cfg(test)]
mod tests {
    use stoker_core::ids::{ModelName, TenantName};
    use stoker_core::job::StateKind;

    use super::*;

    fn filter() -> Filter {
        Filter {
            scope: TenantScope::Only(TenantName::new("acme").unwrap()),
            states: vec![StateKind::Failed, StateKind::Queued],
            model: Some(ModelName::new("mini").unwrap()),
            class: None,
            labels: [("a".to_owned(), "b".to_owned())].into(),
            accepted_after: None,
            accepted_before: None,
            only_dead_letters: false,
            failure: None,
            before: None,
            limit: 10,
        }
    }

    #[test]
    fn a_token_leads_back_to_its_place_whatever_the_page_size() {
        let last = JobId::from_bytes([7; 16]);
        let token = encode(last, &filter());
        let other_page = Filter {
            limit: 99,
            states: vec![StateKind::Queued, StateKind::Failed],
            before: Some(last),
            ..filter()
        };
        assert_eq!(decode(&token, &other_page), Ok(Some(last)));
        assert_eq!(decode("", &filter()), Ok(None));
    }

    #[test]
    fn a_token_is_good_for_its_own_list_only() {
        let token = encode(JobId::from_bytes([7; 16]), &filter());
        for other in [
            Filter { scope: TenantScope::All, ..filter() },
            Filter { states: vec![], ..filter() },
            Filter { model: None, ..filter() },
            Filter { labels: [("ab".to_owned(), String::new())].into(), ..filter() },
            Filter { only_dead_letters: true, ..filter() },
        ] {
            let violation = decode(&token, &other).unwrap_err();
            assert_eq!(violation.field, "page_token");
            assert!(violation.problem.contains("other filters"), "{violation}");
        }
    }

    #[test]
    fn what_is_not_a_token_is_refused() {
        let token = encode(JobId::from_bytes([7; 16]), &filter());
        let longer = format!("{token}00");
        let newer = format!("02{}", &token[2..]);
        for bad in ["x", "00", &token[2..], longer.as_str(), newer.as_str(), "\u{0}"] {
            let violation = decode(bad, &filter()).unwrap_err();
            assert!(violation.problem.contains("begin again"), "{violation}");
        }
    }
}
