//! The values that cross the broker: queues, hints, and what a broker says about itself.

use std::fmt;

use stoker_core::ids::{DispatchSeq, JobId, ModelName, PoolName};

/// One work queue: the jobs of one model for the workers of one pool.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Queue {
    pub pool: PoolName,
    pub model: ModelName,
}

impl fmt::Display for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.pool, self.model)
    }
}

/// "This job may be claimed": all that a message says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hint {
    pub job: JobId,
    /// The dispatch that this hint belongs to; the coordinator answers an older one with STALE.
    pub seq: DispatchSeq,
    pub queue: Queue,
    /// W3C trace context as header pairs (`traceparent`, `tracestate`). Carried as far as it fits:
    /// at most 8 pairs of visible ASCII with names up to 64 and values up to 1,024 bytes, delivered
    /// sorted by name with the last of equal names. A pair outside these bounds is left out; it
    /// never stops the hint.
    pub trace: Vec<(String, String)>,
}

/// How full a queue is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueDepth {
    /// Messages that no consumer holds.
    pub ready: u64,
    pub consumers: u64,
}

/// Whether publishing can work right now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BrokerHealth {
    Connected,
    /// The broker takes no publishes for lack of memory or disk; consumers go on.
    Blocked {
        reason: String,
    },
    Disconnected {
        /// The last error, with its remedy.
        why: String,
    },
}
