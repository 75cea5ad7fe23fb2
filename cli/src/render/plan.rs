//! A plan: what would happen and why, what would not, and what is not known.

mod past;
mod reason;

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Value, json};
use stoker_core::fleet::{ClassFindings, Findings, Plan, PoolReport, Prediction, Report, Step};
use stoker_core::ids::PoolName;
use stoker_core::time::Timestamp;

use super::table::{Column, left, pairs, right, table};
use super::text::{count, grouped};
use super::time::{rfc3339, span};
use crate::planning::{Learned, Outcome};

pub(crate) use past::{followed, followed_document};

/// What is shown.
#[derive(Debug)]
pub(crate) struct Page<'a> {
    /// The first line, without its end.
    pub(crate) heading: &'a str,
    /// Empty when there is none.
    pub(crate) broker_problem: &'a str,
    pub(crate) now: Timestamp,
    pub(crate) plan: &'a Plan,
    pub(crate) report: &'a Report,
    /// What it was made from, if that is known.
    pub(crate) basis: Option<Basis<'a>>,
}

/// What a plan was made from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Basis<'a> {
    /// How much of the past was asked for.
    pub(crate) history: Duration,
    pub(crate) outcome: &'a Outcome,
}

const CLASS_COLUMNS: [Column; 7] = [
    left("CLASS"),
    left("PROMISE"),
    right("FOR ITS LOAD"),
    right("LATE LATELY"),
    right("IN TIME NOW"),
    right("WITH THIS PLAN"),
    left("HALF AND 99 % WAIT"),
];

const COLUMNS: [Column; 3] = [left("ACTION"), left("WHAT"), left("WHY")];

/// For people.
pub(crate) fn page(page: &Page<'_>) -> String {
    let mut text = format!("{}\n", page.heading);
    if !page.broker_problem.is_empty() {
        let _ = writeln!(
            text,
            "The broker is not well: {}. Jobs may wait for it.",
            page.broker_problem
        );
    }
    for (name, report) in &page.report.pools {
        text.push('\n');
        match report {
            PoolReport::Held(hold) => {
                let _ = writeln!(
                    text,
                    "pool {name}: HOLD, nothing would be done\n  the planner {hold}"
                );
            }
            PoolReport::Planned(findings) => pool(&mut text, page, (name, findings)),
        }
    }
    let Some(Basis { outcome, .. }) = page.basis else { return text };
    for (title, lines) in [("Assumed", &outcome.assumed), ("Not known", &outcome.unknown)] {
        if !lines.is_empty() {
            let _ = write!(text, "\n{title}:\n");
        }
        for line in lines {
            let _ = writeln!(text, "  {line}");
        }
    }
    text
}

fn pool(text: &mut String, page: &Page<'_>, (name, findings): (&PoolName, &Findings)) {
    let _ = writeln!(text, "pool {name}");
    for line in facts(page, name, findings).lines() {
        let _ = writeln!(text, "  {line}");
    }
    text.push('\n');
    for line in table(&CLASS_COLUMNS, findings.classes.iter().map(class)).lines() {
        let _ = writeln!(text, "  {line}");
    }
    let steps: Vec<&Step> = steps(page, name).collect();
    text.push('\n');
    if steps.is_empty() {
        text.push_str("  nothing would be done\n");
    } else {
        let rows = steps.iter().map(|step| row(step, page.now));
        for line in table(&COLUMNS, rows).lines() {
            let _ = writeln!(text, "  {line}");
        }
    }
    for note in &findings.notes {
        let _ = writeln!(text, "  note: {}", reason::note(note, page.now));
    }
}

fn facts(page: &Page<'_>, name: &PoolName, findings: &Findings) -> String {
    pairs([
        (
            "load",
            format!(
                "{:.2} workers expected, give or take {:.2}{}",
                findings.load,
                findings.deviation,
                learned(page, name)
            ),
        ),
        (
            "workers",
            format!(
                "{} wanted, {:.1} ready, {:.1} booting",
                findings.wanted,
                // A sum of nothing is -0.
                findings.ready + 0.0,
                findings.booting + 0.0
            ),
        ),
        ("waiting", count(findings.waiting, "job")),
        ("late lately", format!("{:.2} % of jobs", findings.late_share * 100.0)),
        ("run time", format!("{} on average", span(findings.service))),
        ("boot", format!("{} expected", span(findings.boot))),
    ])
}

/// What is promised to a class, what it takes, and what becomes of its jobs.
fn class(class: &ClassFindings) -> Vec<String> {
    let share = |share: f64| format!("{:.1} %", share * 100.0);
    vec![
        class.class.to_string(),
        format!("{} in {}", percent(class.objective), span(class.max_wait)),
        grouped(u64::from(class.wanted)),
        format!("{:.2} %", class.late_share * 100.0),
        share(class.prediction.kept),
        share(class.planned.kept),
        format!("{}, {}", wait(class.planned.median), wait(class.planned.p99)),
    ]
}

/// A share that somebody wrote, without what rounding adds.
fn percent(share: f64) -> String {
    let digits = format!("{:.3}", share * 100.0);
    format!("{} %", digits.trim_end_matches('0').trim_end_matches('.'))
}

/// Predictions look no further than a day.
fn wait(time: Duration) -> String {
    const DAY: Duration = Duration::from_hours(24);
    if time >= DAY { "a day or more".to_owned() } else { span(time) }
}

fn learned(page: &Page<'_>, name: &PoolName) -> String {
    let Some(Basis { history, outcome }) = page.basis else { return String::new() };
    let history = span(history);
    let Learned::Jobs(learned) = &outcome.learned else {
        return ", as the autoscaler has learned".to_owned();
    };
    match learned.get(name) {
        None | Some(0) => {
            format!("; no job was accepted in the last {history}, so nothing is learned")
        }
        Some(jobs) => format!("; learned from {} of the last {history}", count(*jobs, "job")),
    }
}

fn steps<'a>(page: &'a Page<'_>, name: &'a PoolName) -> impl Iterator<Item = &'a Step> {
    page.plan.steps.iter().filter(move |step| match step {
        Step::Launch { pool, .. } | Step::Drain { pool, .. } | Step::Terminate { pool, .. } => {
            pool == name
        }
    })
}

fn row(step: &Step, now: Timestamp) -> Vec<String> {
    match step {
        Step::Launch { offering, count, reason, .. } => vec![
            "launch".to_owned(),
            format!("{} x {offering}", grouped(u64::from(*count))),
            reason.to_string(),
        ],
        Step::Drain { instance, deadline, reason, .. } => vec![
            "drain".to_owned(),
            instance.to_string(),
            format!("{}; within {}", reason::removal(reason, now), span(deadline.since(now))),
        ],
        Step::Terminate { instance, reason, .. } => {
            vec!["terminate".to_owned(), instance.to_string(), reason::removal(reason, now)]
        }
    }
}

/// For programs. Fields are only ever added.
pub(crate) fn document(page: &Page<'_>) -> Value {
    let pools: Vec<Value> = page
        .report
        .pools
        .iter()
        .map(|(name, report)| {
            let mut pool = match report {
                PoolReport::Held(hold) => json!({ "held": hold.to_string() }),
                PoolReport::Planned(findings) => planned(findings, page.now),
            };
            let actions: Vec<Value> =
                steps(page, name).map(|step| action(step, page.now)).collect();
            pool["pool"] = json!(name.as_str());
            pool["actions"] = json!(actions);
            if let Some(Basis { outcome, .. }) = page.basis {
                pool["jobs_learned_from"] = match &outcome.learned {
                    Learned::Autoscaler => Value::Null,
                    Learned::Jobs(jobs) => json!(jobs.get(name)),
                };
            }
            pool
        })
        .collect();
    let mut document = json!({
        "observed_at": rfc3339(page.now),
        "broker_problem": (!page.broker_problem.is_empty()).then_some(page.broker_problem),
        "pools": pools,
    });
    if let Some(Basis { history, outcome }) = page.basis {
        document["history_seconds"] = json!(history.as_secs());
        document["learned_by_autoscaler"] = json!(outcome.learned == Learned::Autoscaler);
        document["assumed"] = json!(outcome.assumed);
        document["not_known"] = json!(outcome.unknown);
    }
    document
}

fn planned(findings: &Findings, now: Timestamp) -> Value {
    let note = |note| json!({ "kind": reason::note_kind(note), "text": reason::note(note, now) });
    json!({
        "held": null,
        "load": findings.load,
        "deviation": findings.deviation,
        "margin": findings.margin,
        "late_share": findings.late_share,
        "wanted": findings.wanted,
        "ready": findings.ready + 0.0,
        "booting": findings.booting + 0.0,
        "waiting": findings.waiting,
        "service_seconds": findings.service.as_secs_f64(),
        "boot_seconds": findings.boot.as_secs_f64(),
        "predicted": predicted(&findings.prediction),
        "classes": findings.classes.iter().map(class_document).collect::<Vec<_>>(),
        "notes": findings.notes.iter().map(note).collect::<Vec<_>>(),
    })
}

fn predicted(prediction: &Prediction) -> Value {
    json!({
        "in_time": prediction.kept,
        "median_wait_seconds": prediction.median.as_secs_f64(),
        "p99_wait_seconds": prediction.p99.as_secs_f64(),
    })
}

fn class_document(class: &ClassFindings) -> Value {
    json!({
        "class": class.class.as_str(),
        "max_wait_seconds": class.max_wait.as_secs_f64(),
        "objective": class.objective,
        "margin": class.margin,
        "late_share": class.late_share,
        "wanted": class.wanted,
        "predicted": predicted(&class.prediction),
        "planned": predicted(&class.planned),
    })
}

fn action(step: &Step, now: Timestamp) -> Value {
    match step {
        Step::Launch { offering, count, reason, .. } => json!({
            "action": "launch",
            "offering": offering.as_str(),
            "count": count,
            "reason": { "kind": reason.kind(), "text": reason.to_string() },
        }),
        Step::Drain { instance, deadline, reason, .. } => json!({
            "action": "drain",
            "instance": instance.as_str(),
            "deadline": rfc3339(*deadline),
            "reason": { "kind": reason.kind(), "text": reason::removal(reason, now) },
        }),
        Step::Terminate { instance, reason, .. } => json!({
            "action": "terminate",
            "instance": instance.as_str(),
            "reason": { "kind": reason.kind(), "text": reason::removal(reason, now) },
        }),
    }
}
