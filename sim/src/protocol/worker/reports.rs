//! Ends of attempts on their way to the coordinator, until there is a definitive answer.

use std::time::Duration;

use stoker_core::job::{AttemptError, FailureKind};
use stoker_core::worker::{
    AfterReport, Definitive, Instead, Phase, ReportKind, ReportReply, after_report,
};

use super::super::tally::Bite;
use super::super::types::{Answer, Ask, Caller, Fence, Node, Part, Purpose, number};
use super::super::world::World;
use super::{Body, Report, Task};

/// Calls under way at once.
const CALLS: usize = 4;
/// How long a worker waits for the answer to a report.
const LIMIT: Duration = Duration::from_secs(30);

impl World {
    /// An attempt of this process has come to its end.
    pub(super) fn report(&mut self, node: Node, key: u64, kind: ReportKind, body: Body) {
        let name = self.fresh();
        let Ok(machine) = self.alive(node) else { return };
        let Some(held) = machine.held.get_mut(&key) else { return };
        held.phase = Phase::Reporting;
        let fence = held.fence;
        let report = Report { held: Some(key), fence, kind, body, calling: false };
        machine.reports.insert(name, report);
        self.pump_reports(node);
    }

    pub(super) fn pump_reports(&mut self, node: Node) {
        let now = self.now();
        while let Ok(machine) = self.alive(node)
            && machine.reports_wait_until <= now
        {
            // One call at a time tries whether a coordinator that was away is back.
            let most = if machine.reporting { CALLS } else { 1 };
            let calling = machine.reports.values().filter(|report| report.calling).count();
            let next = machine.reports.iter_mut().find(|(_, report)| !report.calling);
            let Some((key, report)) = next.filter(|_| calling < most) else { return };
            report.calling = true;
            let (key, fence) = (*key, report.fence);
            let ask = match report.body.clone() {
                Body::Result(parts) => Ask::Complete { fence, parts },
                Body::Failure(error) => Ask::Fail { fence, error },
                Body::HandBack(reason, parts) => Ask::Release { fence, reason, parts },
            };
            let to = self.coordinator_for(node);
            self.call((Caller::Worker(node), to), Purpose::Report { key }, ask, LIMIT);
        }
    }

    pub(super) fn report_answered(&mut self, node: Node, key: u64, answer: &Answer) {
        let reply = match answer {
            Answer::Recorded => ReportReply::Recorded,
            Answer::NoUse => ReportReply::Fenced,
            Answer::Incomplete => ReportReply::Refused,
            _ => ReportReply::Unanswered,
        };
        let forget = reply == ReportReply::Unanswered && self.forgets_unanswered();
        let Ok(machine) = self.alive(node) else { return };
        let Some(report) = machine.reports.get_mut(&key) else { return };
        report.calling = false;
        let job = report.fence.job;
        let after = after_report(report.kind, reply);
        if reply != ReportReply::Unanswered {
            machine.reporting = true;
            machine.report_failures = 0;
        }
        match after {
            _ if forget => self.settled(node, key, Definitive::Lost),
            AfterReport::Settle(end) => {
                if reply == ReportReply::Fenced {
                    self.checker.no_use(job);
                }
                self.settled(node, key, end);
            }
            AfterReport::SendAgain => self.send_again(node, key),
            AfterReport::Fail(instead) => {
                let kind = match instead {
                    Instead::ResultRefused => FailureKind::Permanent,
                    Instead::ResultLost => FailureKind::Retryable,
                };
                let code = format!("{instead:?}");
                report.kind = ReportKind::Fail;
                report.body = Body::Failure(AttemptError { kind, code, message: String::new() });
            }
        }
        self.try_claims(node);
        self.pump_reports(node);
        self.check_drain(node);
    }

    fn settled(&mut self, node: Node, key: u64, end: Definitive) {
        let Ok(machine) = self.alive(node) else { return };
        let Some(report) = machine.reports.remove(&key) else { return };
        let files = machine.spool.len();
        machine.spool.retain(|(fence, _)| *fence != report.fence);
        let delivered = files - machine.spool.len();
        self.checker.tally.add(Bite::Spooled, delivered as u64);
        let job = number(report.fence.job);
        let Ok(machine) = self.alive(node) else { return };
        let held = report.held.and_then(|key| machine.held.remove(&key));
        if let Some(held) = held {
            self.ack(held.delivery);
        }
        let kind = report.kind;
        self.note(format_args!("worker {node} is done with job {job}: {kind:?} is {end:?}"));
    }

    /// Keeps a report that nobody answered, and takes no further work until one is answered.
    fn send_again(&mut self, node: Node, key: u64) {
        let to_file = self.random.chance(0.2);
        let now = self.now();
        let Ok(machine) = self.alive(node) else { return };
        machine.reporting = false;
        machine.report_failures += 1;
        let most = 50_u64 << machine.report_failures.min(5);
        if let Some(report) = machine.reports.get(&key)
            && let Body::Result(parts) = &report.body
            && to_file
        {
            // Memory is short.
            Self::keep(&mut machine.spool, report.fence, parts);
        }
        let delay = self.random.millis(25, most);
        if let Ok(machine) = self.alive(node) {
            machine.reports_wait_until = now.after(delay);
        }
        self.later(node, delay, Task::Report);
    }

    /// Results of an earlier process on this machine.
    pub(super) fn load_spool(&mut self, node: Node) {
        let Ok(machine) = self.alive(node) else { return };
        let spooled = machine.spool.clone();
        for (fence, parts) in spooled {
            let name = self.fresh();
            let Ok(machine) = self.alive(node) else { return };
            let (kind, body) = (ReportKind::Inherited, Body::Result(parts));
            machine.reports.insert(name, Report { held: None, fence, kind, body, calling: false });
        }
        self.pump_reports(node);
    }

    /// What could not be delivered goes to files; the rest is lost with the process.
    pub(super) fn give_up_reports(&mut self, node: Node) {
        let Ok(machine) = self.alive(node) else { return };
        for report in std::mem::take(&mut machine.reports).into_values() {
            if let Body::Result(parts) = &report.body {
                Self::keep(&mut machine.spool, report.fence, parts);
            }
        }
    }

    /// Writes a result to a file, if it is in none.
    fn keep(spool: &mut Vec<(Fence, Vec<Part>)>, fence: Fence, parts: &[Part]) {
        if spool.iter().all(|(kept, _)| *kept != fence) {
            spool.push((fence, parts.to_vec()));
        }
    }
}
