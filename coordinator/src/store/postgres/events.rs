//! What one coordinator tells the others of a transaction, as text that a later version can add to.

use serde::{Deserialize, Serialize};
use stoker_core::ids::{Attempt, DispatchSeq, JobId, WorkerId};
use stoker_core::job::{Effect, StateKind};
use stoker_core::time::Timestamp;
use uuid::Uuid;

use crate::store::lanes::{Delta, LaneId, SharedLanes};
use crate::store::{Change, StoreError};

/// One transaction's changes. The names are short since there are many of them.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Body {
    #[serde(rename = "c", skip_serializing_if = "Vec::is_empty")]
    changes: Vec<Wire>,
    /// Jobs that are gone, by lane and state.
    #[serde(rename = "r", skip_serializing_if = "Vec::is_empty")]
    removed: Vec<(LaneId, u8)>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Wire {
    #[serde(rename = "j")]
    job: Uuid,
    #[serde(rename = "l")]
    lane: LaneId,
    /// 0 for a new job.
    #[serde(rename = "f")]
    from: u8,
    #[serde(rename = "t")]
    to: u8,
    /// Worker and attempt that are to stop.
    #[serde(rename = "s", skip_serializing_if = "Option::is_none")]
    stop: Option<(Uuid, u32)>,
    /// Number of the dispatch to publish.
    #[serde(rename = "p", skip_serializing_if = "Option::is_none")]
    publish: Option<u32>,
    #[serde(rename = "a", skip_serializing_if = "Option::is_none")]
    sweep_at: Option<i64>,
}

/// The text for a transaction's changes; `None` when there are none.
pub(super) fn encode(changes: &[Change], deltas: &[Delta]) -> Option<String> {
    let mut body = Body::default();
    for (change, delta) in changes.iter().zip(deltas) {
        let mut wire = Wire {
            job: *change.job.as_uuid(),
            lane: delta.lane,
            from: change.from.map_or(0, StateKind::number),
            to: change.to.number(),
            ..Wire::default()
        };
        for effect in &change.effects {
            match *effect {
                Effect::Publish { seq } => wire.publish = Some(seq.number()),
                Effect::StopAttempt { worker, attempt } => {
                    wire.stop = Some((*worker.as_uuid(), attempt.number()));
                }
                Effect::WakeSweeper { at } => wire.sweep_at = Some(at.as_unix_millis()),
                // Follows from the change itself.
                Effect::WakeDispatcher => {}
            }
        }
        body.changes.push(wire);
    }
    if body.changes.is_empty() {
        return None;
    }
    serde_json::to_string(&body).ok()
}

/// The text for jobs that retention removed.
pub(super) fn encode_removed(removed: &[(LaneId, StateKind)]) -> Option<String> {
    let removed = removed.iter().map(|(lane, state)| (*lane, state.number())).collect();
    serde_json::to_string(&Body { changes: Vec::new(), removed }).ok()
}

/// What another coordinator told.
///
/// # Errors
/// [`StoreError::Corrupt`] when it makes no sense, or names a lane that is not known yet.
pub(super) fn decode(
    text: &str,
    lanes: &SharedLanes,
) -> Result<(Vec<Change>, Vec<Delta>), StoreError> {
    let wrong = |what: &str| StoreError::Corrupt(format!("an event {what}"));
    let body: Body = serde_json::from_str(text).map_err(|_| wrong("is not JSON of ours"))?;
    let (mut changes, mut deltas) = (Vec::new(), Vec::new());
    for wire in body.changes {
        let names = lanes.names(wire.lane).ok_or_else(|| wrong("names an unknown lane"))?;
        let to = StateKind::from_number(wire.to).ok_or_else(|| wrong("names no state"))?;
        let from = StateKind::from_number(wire.from);
        deltas.push(Delta { lane: wire.lane, from, to: Some(to) });
        changes.push(Change {
            job: JobId::from_uuid(wire.job),
            class: names.class.clone(),
            lane: names.lane.clone(),
            from,
            to,
            effects: effects(&wire),
            waited: None,
        });
    }
    for (lane, state) in body.removed {
        deltas.push(Delta { lane, from: StateKind::from_number(state), to: None });
    }
    Ok((changes, deltas))
}

fn effects(wire: &Wire) -> Vec<Effect> {
    let stop = wire.stop.and_then(|(worker, attempt)| {
        let (worker, attempt) = (WorkerId::from_uuid(worker), Attempt::new(attempt)?);
        Some(Effect::StopAttempt { worker, attempt })
    });
    let publish = wire.publish.map(|seq| Effect::Publish { seq: DispatchSeq::new(seq) });
    let at = wire.sweep_at.map(Timestamp::from_unix_millis);
    let sweep = at.map(|at| Effect::WakeSweeper { at });
    stop.into_iter().chain(publish).chain(sweep).collect()
}

#[cfg(test)]
mod tests {
    use stoker_core::ids::{ClassName, ModelName, PoolName, TenantName};

    use super::*;
    use crate::store::Lane;
    use crate::store::lanes::LaneNames;

    fn lanes() -> SharedLanes {
        let lanes = SharedLanes::default();
        let pool = PoolName::new("cpu").unwrap();
        let lane = Lane { pool, model: ModelName::new("mini").unwrap() };
        let tenant = TenantName::new("t").unwrap();
        lanes.add(7, LaneNames { tenant, class: ClassName::new("c").unwrap(), lane });
        lanes
    }

    #[test]
    fn what_others_act_on_comes_through() {
        let lanes = lanes();
        let effects = vec![
            Effect::StopAttempt { worker: WorkerId::from_bytes([2; 16]), attempt: Attempt::FIRST },
            Effect::Publish { seq: DispatchSeq::new(3) },
            Effect::WakeSweeper { at: Timestamp::from_unix_millis(5) },
        ];
        let change = Change {
            job: JobId::from_bytes([1; 16]),
            class: ClassName::new("c").unwrap(),
            lane: lanes.names(7).unwrap().lane.clone(),
            from: Some(StateKind::Leased),
            to: StateKind::Expired,
            effects,
            waited: None,
        };
        let (from, to) = (Some(StateKind::Leased), Some(StateKind::Expired));
        let text = encode(std::slice::from_ref(&change), &[Delta { lane: 7, from, to }]).unwrap();
        let (changes, deltas) = decode(&text, &lanes).unwrap();
        assert_eq!(format!("{changes:?}"), format!("{:?}", [change]));
        assert_eq!((deltas[0].lane, deltas[0].from, deltas[0].to), (7, from, to));
        let removed = encode_removed(&[(7, StateKind::Failed)]).unwrap();
        let (changes, deltas) = decode(&removed, &lanes).unwrap();
        assert!(changes.is_empty());
        assert_eq!((deltas[0].from, deltas[0].to), (Some(StateKind::Failed), None));
        assert_eq!(encode(&[], &[]), None);
    }

    #[test]
    fn a_lane_that_is_not_known_yet_and_nonsense_are_told_apart_from_news() {
        let text = r#"{"c":[{"j":"00000000-0000-0000-0000-000000000001","l":8,"f":0,"t":1}]}"#;
        assert!(decode(text, &lanes()).is_err());
        assert!(decode("{", &lanes()).is_err());
        let newer =
            r#"{"x":1,"c":[{"j":"00000000-0000-0000-0000-000000000001","l":7,"t":1,"y":2}]}"#;
        assert_eq!(decode(newer, &lanes()).unwrap().0.len(), 1, "a later version may add to it");
    }
}
