//! The journal of the autoscaler: what it saw, planned and did, one line each, so that a decision of the past can
//! be explained and lived through again.
//!
//! These are the values; as JSON, one [`Line`] is one line of the file. Reading and writing files is the caller's.

use serde::{Deserialize, Serialize};

use crate::ids::Epoch;
use crate::time::Timestamp;

use super::execute::{Executed, Outcome};
use super::ledger::Mode;
use super::plan::{Plan, Planned};
use super::report::Report;
use super::snapshot::Snapshot;

/// One line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Line {
    pub at: Timestamp,
    /// The reign of the autoscaler that wrote it.
    pub epoch: Epoch,
    pub record: Record,
}

/// What a line tells.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Record {
    /// The planner was asked: what it saw, and what it said.
    Planned { snapshot: Box<Snapshot>, plan: Plan, report: Report },
    /// A step of the executor, if it did or found something. `committed`: whether its writes were taken, and so
    /// its commands given.
    Executed { mode: Mode, executed: Box<Executed>, committed: bool },
    /// What came of commands.
    Outcomes { outcomes: Vec<Outcome> },
}

impl Line {
    /// The line of a plan.
    pub fn planned(at: Timestamp, epoch: Epoch, snapshot: &Snapshot, planned: &Planned) -> Self {
        let (plan, report) = (planned.plan.clone(), planned.report.clone());
        let snapshot = Box::new(snapshot.clone());
        Self { at, epoch, record: Record::Planned { snapshot, plan, report } }
    }
}

/// What a journal says of one time: the last plan before it, and what was done about it until then.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Moment {
    /// The line of the plan; `None` if the journal begins later.
    pub planned: Option<Line>,
    /// Steps and outcomes since then.
    pub since: Vec<Line>,
}

/// The moment of a time. Lines may come in any order, as those of two autoscalers do.
pub fn moment(lines: impl IntoIterator<Item = Line>, at: Timestamp) -> Moment {
    let mut lines: Vec<Line> = lines.into_iter().filter(|line| line.at <= at).collect();
    lines.sort_by_key(|line| line.at);
    let is_plan = |line: &Line| matches!(line.record, Record::Planned { .. });
    let Some(last) = lines.iter().rposition(is_plan) else {
        return Moment { planned: None, since: lines };
    };
    let since = lines.split_off(last + 1);
    Moment { planned: lines.pop(), since }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use crate::fleet::execute::{Command, Finding};
    use crate::fleet::report::{LaunchReason, PoolReport};
    use crate::fleet::{Cap, Hold, Part, Step};
    use crate::ids::{MachineId, OfferingName, PoolName};

    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_unix_millis(1_700_000_000_000).after(Duration::from_secs(seconds))
    }

    fn pool() -> PoolName {
        PoolName::new("default").unwrap()
    }

    fn planned(seconds: u64) -> Line {
        let offering = OfferingName::new("g5.a.spot").unwrap();
        let reason = LaunchReason::Load { wanted: 2, have: 0.5 };
        let launch = Step::Launch { pool: pool(), offering, count: 2, reason };
        let hold = Hold::Stale { part: Part::Queues, age: Duration::from_secs(100) };
        let pools = BTreeMap::from([(pool(), PoolReport::Held(hold))]);
        let planned = Planned {
            plan: Plan { steps: vec![launch] },
            report: Report { pools },
            memory: crate::fleet::Memory::default(),
        };
        Line::planned(at(seconds), Epoch::new(1), &Snapshot::default(), &planned)
    }

    fn executed(seconds: u64) -> Line {
        let machine = MachineId::from_bytes([7; 16]);
        let executed = Executed {
            commands: vec![Command::Launch { machine }],
            findings: vec![Finding::Capped { cap: Cap::Instances(3), wanted: 2, allowed: 1 }],
            ..Executed::default()
        };
        let executed = Box::new(executed);
        let record = Record::Executed { mode: Mode::Run, executed, committed: true };
        Line { at: at(seconds), epoch: Epoch::new(1), record }
    }

    #[test]
    fn lines_survive_being_written_down() {
        for line in [planned(1), executed(2)] {
            let text = toml::to_string(&line).unwrap();
            assert_eq!(toml::from_str::<Line>(&text).unwrap(), line, "{text}");
        }
    }

    #[test]
    fn a_moment_is_the_last_plan_and_what_was_done_about_it() {
        let lines = [executed(40), planned(15), executed(16), planned(30), planned(0)];
        let moment = |seconds| moment(lines.clone(), at(seconds));
        assert_eq!(moment(20), Moment { planned: Some(planned(15)), since: vec![executed(16)] });
        assert_eq!(moment(35), Moment { planned: Some(planned(30)), since: Vec::new() });
        assert_eq!(moment(50).since, [executed(40)]);
        let early = super::moment(lines, at(0).before(Duration::from_secs(1)));
        assert_eq!(early, Moment::default());
    }
}
