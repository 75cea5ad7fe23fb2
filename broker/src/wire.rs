//! A hint as bytes and headers, and back; nothing else about a message is ours.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use stoker_core::ids::{DispatchSeq, JobId, ModelName, PoolName};

use crate::message::{Hint, Queue};

/// Longest body that is read; the longest one written is shorter.
pub(crate) const MAX_BODY_BYTES: usize = 300;

const VERSION: u32 = 1;
const MAX_TRACE_PAIRS: usize = 8;
const MAX_TRACE_NAME_BYTES: usize = 64;
const MAX_TRACE_VALUE_BYTES: usize = 1024;

/// Why a message is not one of ours. Bounded labels: they are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Malformed {
    #[error("body longer than {MAX_BODY_BYTES} bytes")]
    TooLong,
    #[error("body is not a hint")]
    Unreadable,
    #[error("hint of a version that this program does not know")]
    UnknownVersion,
    #[error("hint for another queue")]
    Misrouted,
}

#[derive(Serialize, Deserialize)]
struct Body {
    v: u32,
    job: JobId,
    seq: DispatchSeq,
    pool: PoolName,
    model: ModelName,
}

pub(crate) fn encode(hint: &Hint) -> Vec<u8> {
    let body = Body {
        v: VERSION,
        job: hint.job,
        seq: hint.seq,
        pool: hint.queue.pool.clone(),
        model: hint.queue.model.clone(),
    };
    serde_json::to_vec(&body).expect("a struct of strings and numbers is always JSON")
}

/// Reads a body that arrived on `queue`; the trace is filled in by the caller.
pub(crate) fn decode(body: &[u8], queue: &Queue) -> Result<Hint, Malformed> {
    #[derive(Deserialize)]
    struct Versioned {
        v: u32,
    }
    if body.len() > MAX_BODY_BYTES {
        return Err(Malformed::TooLong);
    }
    let Versioned { v } = serde_json::from_slice(body).map_err(|_| Malformed::Unreadable)?;
    if v != VERSION {
        return Err(Malformed::UnknownVersion);
    }
    let body: Body = serde_json::from_slice(body).map_err(|_| Malformed::Unreadable)?;
    let hint = Hint {
        job: body.job,
        seq: body.seq,
        queue: Queue { pool: body.pool, model: body.model },
        trace: Vec::new(),
    };
    if hint.queue == *queue { Ok(hint) } else { Err(Malformed::Misrouted) }
}

/// The pairs that are carried, in the order in which they are delivered; see [`Hint::trace`].
pub(crate) fn carried_trace<'a>(
    pairs: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> Vec<(String, String)> {
    let fits = |text: &str, limit: usize| {
        !text.is_empty() && text.len() <= limit && text.bytes().all(|b| (0x20..0x7f).contains(&b))
    };
    let carried: BTreeMap<&str, &str> = pairs
        .into_iter()
        .filter(|(name, value)| {
            fits(name, MAX_TRACE_NAME_BYTES) && fits(value, MAX_TRACE_VALUE_BYTES)
        })
        // The broker's own headers (x-death, x-delivery-count) are not trace context.
        .filter(|(name, _)| !name.starts_with("x-"))
        .collect();
    carried
        .into_iter()
        .take(MAX_TRACE_PAIRS)
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// [`carried_trace`] over owned pairs.
pub(crate) fn carried(pairs: &[(String, String)]) -> Vec<(String, String)> {
    carried_trace(pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())))
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn hint(pool: &str, model: &str) -> Hint {
        Hint {
            job: JobId::from_uuid(Uuid::from_u128(u128::MAX)),
            seq: DispatchSeq::new(u32::MAX),
            queue: Queue {
                pool: PoolName::new(pool).unwrap(),
                model: ModelName::new(model).unwrap(),
            },
            trace: Vec::new(),
        }
    }

    #[test]
    fn a_hint_survives_the_trip() {
        let hint = hint("cpu", "bge-small-en-v1.5");
        assert_eq!(decode(&encode(&hint), &hint.queue), Ok(hint));
    }

    #[test]
    fn the_longest_hint_fits() {
        let long = "a".repeat(63);
        let hint = hint(&long, &long);
        let body = encode(&hint);
        assert!(body.len() < MAX_BODY_BYTES, "{}", body.len());
        assert_eq!(decode(&body, &hint.queue), Ok(hint));
    }

    #[test]
    fn a_later_version_may_add_fields_but_not_change_the_number() {
        let hint = hint("cpu", "m");
        let text = String::from_utf8(encode(&hint)).unwrap();
        let added = text.replace("{\"v\":1,", "{\"v\":1,\"new\":true,");
        assert_eq!(decode(added.as_bytes(), &hint.queue), Ok(hint.clone()));
        let next = text.replace("{\"v\":1,", "{\"v\":2,");
        assert_eq!(decode(next.as_bytes(), &hint.queue), Err(Malformed::UnknownVersion));
        assert_eq!(decode(br#"{"v":2}"#, &hint.queue), Err(Malformed::UnknownVersion));
    }

    #[test]
    fn what_is_not_a_hint_is_named() {
        let queue = hint("cpu", "m").queue;
        for garbage in [&b""[..], b"hello", b"{}", b"\xff\xfe", b"[1]", br#"{"v":1}"#] {
            assert_eq!(decode(garbage, &queue), Err(Malformed::Unreadable));
        }
        let evil = br#"{"v":1,"job":"00000000-0000-0000-0000-000000000001","seq":1,"pool":"../x","model":"m"}"#;
        assert_eq!(decode(evil, &queue), Err(Malformed::Unreadable));
        assert_eq!(decode(&[b' '; 301], &queue), Err(Malformed::TooLong));
        let other = encode(&hint("cpu", "other"));
        assert_eq!(decode(&other, &queue), Err(Malformed::Misrouted));
    }

    #[test]
    fn a_trace_is_bounded_sorted_and_clean() {
        let long = "v".repeat(1025);
        let pairs = [
            ("tracestate", "a=b"),
            ("traceparent", "00-old"),
            ("traceparent", "00-new"),
            ("x-delivery-count", "3"),
            ("", "v"),
            ("long", long.as_str()),
            ("newline", "a\nb"),
        ];
        let expected = [("traceparent", "00-new"), ("tracestate", "a=b")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(carried_trace(pairs), expected);
        let many: Vec<(String, String)> =
            (0..20).map(|n| (format!("k{n:02}"), "v".to_owned())).collect();
        assert_eq!(carried(&many).len(), 8);
    }
}
