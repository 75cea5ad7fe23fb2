//! One simulated machine.

use crate::fleet::job::Millis;

/// Number of an instance, in order of launch.
pub type InstanceId = usize;

/// Where an instance is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    Booting,
    Idle,
    Busy,
    Gone,
}

/// A machine that was launched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    pub id: InstanceId,
    /// Index of its offering.
    pub offering: usize,
    pub phase: Phase,
    pub launched: Millis,
    /// When it is ready, or was.
    pub ready_at: Millis,
    /// Since when it has had nothing to do; meaningless unless it is idle.
    pub idle_since: Millis,
    /// End of what it runs; meaningless unless it is busy.
    pub busy_until: Millis,
    /// Indices of the jobs that it runs.
    pub running: Vec<usize>,
    /// Takes no further work, on a policy's order.
    pub draining: bool,
    /// When the cloud takes it, once that has been announced.
    pub doomed_at: Option<Millis>,
    /// Counts changes, so that an event which has been overtaken is told from a valid one.
    pub epoch: u32,
}

impl Instance {
    /// Whether it is on its way out, by order or by interruption.
    pub fn leaving(&self) -> bool {
        self.draining || self.doomed_at.is_some()
    }

    /// Whether it is ready and may be given jobs.
    pub fn takes_work(&self) -> bool {
        matches!(self.phase, Phase::Idle | Phase::Busy) && !self.leaving()
    }

    /// Least useful first: booting, idle, busy.
    pub fn rank_to_leave(&self) -> u8 {
        match self.phase {
            Phase::Booting => 0,
            Phase::Idle => 1,
            Phase::Busy | Phase::Gone => 2,
        }
    }
}
