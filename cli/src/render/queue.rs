//! Queues: how much waits for each model, and the plainest reason why.

use serde::Serialize;
use stoker_proto::v1;

use super::table::{Column, left, or_dash, right, table};
use super::time::{duration_from_wire, span};

/// A queue as a document. Fields are only ever added.
#[derive(Debug, Serialize)]
pub(crate) struct QueueDocument<'a> {
    pool: &'a str,
    model: &'a str,
    queued: u64,
    dispatched: u64,
    leased: u64,
    retry_wait: u64,
    oldest_age_seconds: Option<f64>,
    slots: u32,
    window: u32,
    broker_messages: Option<u64>,
    reason: Option<&'static str>,
}

/// A queue for programs.
pub(crate) fn document(queue: &v1::Queue) -> QueueDocument<'_> {
    QueueDocument {
        pool: &queue.pool,
        model: &queue.model,
        queued: queue.queued,
        dispatched: queue.dispatched,
        leased: queue.leased,
        retry_wait: queue.retry_wait,
        oldest_age_seconds: duration_from_wire(queue.oldest_age.as_ref())
            .map(|age| age.as_secs_f64()),
        slots: queue.slots,
        window: queue.window,
        broker_messages: queue.broker_messages,
        reason: reason(queue),
    }
}

/// Why work waits; `None` when none does.
fn reason(queue: &v1::Queue) -> Option<&'static str> {
    if queue.queued == 0 && queue.dispatched == 0 {
        return (queue.retry_wait > 0).then_some("failed attempts wait for their retry");
    }
    Some(if queue.slots == 0 {
        "no ready worker serves it"
    } else if queue.leased >= u64::from(queue.slots) {
        "all slots are busy"
    } else {
        "on its way to a worker"
    })
}

const COLUMNS: [Column; 9] = [
    left("MODEL"),
    left("POOL"),
    right("QUEUED"),
    right("DISPATCHED"),
    right("RUNNING"),
    right("RETRY"),
    right("OLDEST"),
    right("SLOTS"),
    left("WHY IT WAITS"),
];

/// A line for each queue.
pub(crate) fn rows(queues: &[v1::Queue]) -> String {
    table(&COLUMNS, queues.iter().map(row))
}

fn row(queue: &v1::Queue) -> Vec<String> {
    let oldest = duration_from_wire(queue.oldest_age.as_ref()).map(span);
    vec![
        queue.model.clone(),
        queue.pool.clone(),
        queue.queued.to_string(),
        queue.dispatched.to_string(),
        queue.leased.to_string(),
        queue.retry_wait.to_string(),
        or_dash(oldest.unwrap_or_default()),
        queue.slots.to_string(),
        or_dash(reason(queue).unwrap_or_default()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(queued: u64, leased: u64, slots: u32) -> v1::Queue {
        v1::Queue {
            pool: "default".into(),
            model: "echo".into(),
            queued,
            leased,
            slots,
            ..v1::Queue::default()
        }
    }

    #[test]
    fn the_reason_follows_from_the_numbers() {
        assert_eq!(reason(&queue(0, 3, 4)), None);
        assert_eq!(reason(&queue(5, 0, 0)), Some("no ready worker serves it"));
        assert_eq!(reason(&queue(5, 4, 4)), Some("all slots are busy"));
        assert_eq!(reason(&queue(5, 1, 4)), Some("on its way to a worker"));
        let waiting = v1::Queue { retry_wait: 1, ..queue(0, 0, 0) };
        assert_eq!(reason(&waiting), Some("failed attempts wait for their retry"));
    }

    #[test]
    fn rows_line_up() {
        assert_eq!(
            rows(&[queue(5, 0, 0)]),
            "MODEL  POOL     QUEUED  DISPATCHED  RUNNING  RETRY  OLDEST  SLOTS  WHY IT WAITS\n\
             echo   default       5           0        0      0       -      0  no ready worker serves it\n"
        );
    }
}
