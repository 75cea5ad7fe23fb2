//! A simulation: the ways to buy capacity side by side, and what follows from them.

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Value, json};
use stoker_core::fleet::CapacityType;
use stoker_sim::fleet::job::{Workload, count as number, seconds};
use stoker_sim::fleet::suite::days;
use stoker_sim::fleet::ways::{self, Spent, Way, Ways};
use stoker_sim::fleet::world::Setup;

use super::table::{Column, left, right, table};
use super::text::{count, grouped};
use super::time::span;

/// What was simulated, and what came out.
#[derive(Debug)]
pub(crate) struct Simulation<'a> {
    pub(crate) setup: &'a Setup,
    /// Names of the classes, in the order of the setup.
    pub(crate) classes: &'a [String],
    pub(crate) workload: &'a Workload,
    pub(crate) ways: &'a Ways,
}

const COLUMNS: [Column; 9] = [
    left("WAY"),
    right("IN TIME"),
    right("MEAN WAIT"),
    right("P99 WAIT"),
    right("GPU-HOURS"),
    right("COST"),
    right("PER 1000 JOBS"),
    right("LAUNCHES/DAY"),
    right("INTERRUPTED"),
];

/// For people.
pub(crate) fn page(simulation: &Simulation<'_>) -> String {
    let Simulation { ways, .. } = simulation;
    let mut rows: Vec<Vec<String>> = ways.ways.iter().map(|way| row(way, simulation)).collect();
    rows.extend(serverless(simulation));
    rows.push(foresight(simulation));
    let spent = spent(simulation);
    format!("{}\n{}\n{spent}{}", heading(simulation), table(&COLUMNS, rows), verdict(simulation))
}

const SPENT: [Column; 6] = [
    left("WAY"),
    left("CAPACITY"),
    left("OFFERING"),
    right("GPU-HOURS"),
    right("COST"),
    right("LAUNCHES"),
];

/// What each way used of each offering, and of each kind of capacity; nothing where there is one offering.
fn spent(simulation: &Simulation<'_>) -> String {
    if simulation.setup.offerings.len() < 2 {
        return String::new();
    }
    let mut rows = Vec::new();
    for way in &simulation.ways.ways {
        let mut name = way.name.as_str();
        for capacity in [CapacityType::OnDemand, CapacityType::Spot] {
            let used = way.spent.iter().filter(|one| one.capacity == capacity && one.launches > 0);
            let used: Vec<&Spent> = used.collect();
            let mut add = |offering: &str, hours: f64, cost: f64, launches: usize| {
                rows.push(vec![
                    std::mem::take(&mut name).to_owned(),
                    capacity.as_str().to_owned(),
                    offering.to_owned(),
                    format!("{hours:.1}"),
                    dollars(cost),
                    grouped(launches as u64),
                ]);
            };
            for one in &used {
                add(&one.offering, one.hours, one.cost, one.launches);
            }
            if used.len() > 1 {
                let all = total(&used);
                add("all of these", all.hours, all.cost, all.launches);
            }
        }
    }
    format!("{}\n", table(&SPENT, rows))
}

/// What several offerings were used for together.
#[derive(Debug, Default)]
struct Total {
    hours: f64,
    cost: f64,
    launches: usize,
}

fn total(used: &[&Spent]) -> Total {
    let mut all = Total::default();
    for one in used {
        all.hours += one.hours;
        all.cost += one.cost;
        all.launches += one.launches;
    }
    all
}

fn heading(simulation: &Simulation<'_>) -> String {
    let Simulation { setup, workload, .. } = simulation;
    let (jobs, time) = (workload.jobs.len(), millis(workload.end));
    let mean = workload.mean_service();
    let load = mean * number(jobs) / seconds(workload.end).max(1.0);
    let mut text = format!(
        "{} in {time}, {mean:.1} s on average: a mean load of {load:.2} workers\n",
        count(jobs as u64, "job")
    );
    for (class, name) in setup.classes.iter().zip(simulation.classes) {
        let _ = writeln!(
            text,
            "class {name}: {} % start within {}",
            trimmed(class.objective * 100.0),
            millis(class.max_wait)
        );
    }
    let _ = writeln!(text, "boots take {}", millis(setup.boot.mean));
    for offering in &setup.offerings {
        let _ = writeln!(text, "offering {}: ${}/h", offering.name, trimmed(offering.price));
    }
    text
}

fn row(way: &Way, simulation: &Simulation<'_>) -> Vec<String> {
    let outcome = &way.outcome;
    let name = if way.keeps { way.name.clone() } else { format!("{} *", way.name) };
    vec![
        name,
        format!("{:.2} %", outcome.attainment * 100.0),
        in_seconds(outcome.mean_wait),
        in_seconds(outcome.p99),
        format!("{:.1}", outcome.hours()),
        dollars(outcome.usage.cost),
        per_thousand(outcome.usage.cost, simulation),
        format!("{:.1}", number(outcome.usage.launches) / days(simulation.workload)),
        grouped(outcome.usage.interrupted as u64),
    ]
}

fn serverless(simulation: &Simulation<'_>) -> Option<Vec<String>> {
    let serverless = &simulation.ways.serverless;
    let cost = serverless.cost?;
    let unknown = || "-".to_owned();
    Some(vec![
        "serverless, run time alone".to_owned(),
        unknown(),
        unknown(),
        unknown(),
        format!("{:.1}", serverless.gpu_seconds / 3600.0),
        dollars(cost),
        per_thousand(cost, simulation),
        unknown(),
        unknown(),
    ])
}

fn foresight(simulation: &Simulation<'_>) -> Vec<String> {
    let Simulation { ways, workload, .. } = simulation;
    vec![
        format!("perfect foresight, {} alone", foresight_on(simulation)),
        "100.00 %".to_owned(),
        "-".to_owned(),
        "-".to_owned(),
        format!("{:.1}", ways.foresight.hours),
        dollars(ways.foresight.cost),
        per_thousand(ways.foresight.cost, simulation),
        format!("{:.1}", number(ways.foresight.launches) / days(workload)),
        "-".to_owned(),
    ]
}

/// The offering that the schedule made with perfect foresight uses.
fn foresight_on<'a>(simulation: &Simulation<'a>) -> &'a str {
    let offering = simulation.setup.offerings.get(simulation.ways.foresight.offering);
    offering.map_or("no offering", |offering| offering.name.as_str())
}

/// Days that say little about what the planner makes of weeks.
const LITTLE_DAYS: f64 = 2.0;

/// What follows, in sentences.
fn verdict(simulation: &Simulation<'_>) -> String {
    let ways = &simulation.ways.ways;
    let mut text = String::new();
    if ways.iter().any(|way| !way.keeps) {
        text.push_str("* breaks a class's promise more often than it may\n");
    }
    if days(simulation.workload) < LITTLE_DAYS {
        text.push_str("The planner learns as it goes; this is little time to learn from.\n");
    }
    let Some(best) = ways::cheapest(ways) else {
        text.push_str("No way keeps every promise: shorten the boot, lengthen the wait, or lower the objective.\n");
        return text;
    };
    let cost = best.outcome.usage.cost;
    let _ = writeln!(text, "Cheapest that keeps every promise: {}, {}.", best.name, dollars(cost));
    for other in ways.iter().filter(|way| way.keeps && way.name != best.name && cost > 0.0) {
        let times = other.outcome.usage.cost / cost;
        let _ = writeln!(text, "{} costs {times:.2} times as much.", other.name);
    }
    if let Some(serverless) = simulation.ways.serverless.cost.filter(|_| cost > 0.0) {
        let times = serverless / cost;
        let _ = writeln!(
            text,
            "Serverless at that price costs {times:.2} times as much, for run time alone."
        );
    }
    if let Some(price) = simulation.ways.serverless.breaks_even_at {
        let _ = writeln!(
            text,
            "Serverless is cheaper below ${price:.6} per GPU-second (${:.2} per hour of use), cold starts and idle time included.",
            price * 3600.0
        );
    }
    text
}

/// For programs. Fields are only ever added.
pub(crate) fn document(simulation: &Simulation<'_>, notes: &[String]) -> Value {
    let Simulation { setup, classes, workload, ways } = simulation;
    let class = |(class, name): (&stoker_sim::fleet::job::Class, &String)| {
        json!({
            "name": name,
            "max_wait_seconds": seconds(class.max_wait),
            "objective": class.objective,
        })
    };
    let offering = |offering: &stoker_sim::fleet::market::Offering| {
        json!({
            "name": offering.name,
            "instance_type": offering.instance_type,
            "zone": offering.zone,
            "spot": offering.spot,
            "dollars_per_hour": offering.price,
            "speed": offering.speed,
            "batch": offering.batch.size,
            "batch_growth": offering.batch.growth,
            "interruptions_per_hour": offering.losses_per_hour,
            "capacity_is_bounded": offering.capacity.is_some(),
        })
    };
    json!({
        "workload": {
            "jobs": workload.jobs.len(),
            "days": days(workload),
            "mean_service_seconds": workload.mean_service(),
            "models": workload.models.len(),
        },
        "classes": setup.classes.iter().zip(*classes).map(class).collect::<Vec<_>>(),
        "offerings": setup.offerings.iter().map(offering).collect::<Vec<_>>(),
        "boot_seconds": seconds(setup.boot.mean),
        "seed": setup.seed,
        "ways": ways.ways.iter().map(|way| of_way(way, classes)).collect::<Vec<_>>(),
        "serverless": {
            "gpu_seconds": ways.serverless.gpu_seconds,
            "cost_dollars": ways.serverless.cost,
            "breaks_even_at_dollars_per_gpu_second": ways.serverless.breaks_even_at,
        },
        "perfect_foresight": {
            "gpu_hours": ways.foresight.hours,
            "cost_dollars": ways.foresight.cost,
            "launches": ways.foresight.launches,
            "offering": foresight_on(simulation),
        },
        "cheapest": ways::cheapest(&ways.ways).map(|way| &way.name),
        "notes": notes,
    })
}

fn of_way(way: &Way, classes: &[String]) -> Value {
    let outcome = &way.outcome;
    let by_class: serde_json::Map<String, Value> =
        classes.iter().cloned().zip(outcome.by_class.iter().map(|share| json!(share))).collect();
    json!({
        "name": way.name,
        "keeps_promises": way.keeps,
        "in_time": outcome.attainment,
        "in_time_by_class": by_class,
        "mean_wait_seconds": outcome.mean_wait,
        "p50_wait_seconds": outcome.p50,
        "p95_wait_seconds": outcome.p95,
        "p99_wait_seconds": outcome.p99,
        "gpu_hours": outcome.hours(),
        "cost_dollars": outcome.usage.cost,
        "launches": outcome.usage.launches,
        "interrupted": outcome.usage.interrupted,
        "jobs_cut_short": outcome.usage.cut_short,
        "jobs_run_again": outcome.usage.rerun,
        "by_capacity": {
            "on_demand": of_capacity(way, CapacityType::OnDemand),
            "spot": of_capacity(way, CapacityType::Spot),
        },
        "by_offering": way.spent.iter().map(|one| json!({
            "offering": one.offering,
            "capacity": one.capacity.as_str(),
            "gpu_hours": one.hours,
            "cost_dollars": one.cost,
            "launches": one.launches,
        })).collect::<Vec<_>>(),
    })
}

fn of_capacity(way: &Way, capacity: CapacityType) -> Value {
    let of_kind: Vec<&Spent> = way.spent.iter().filter(|one| one.capacity == capacity).collect();
    let all = total(&of_kind);
    json!({ "gpu_hours": all.hours, "cost_dollars": all.cost, "launches": all.launches })
}

fn per_thousand(cost: f64, simulation: &Simulation<'_>) -> String {
    dollars(cost / number(simulation.workload.jobs.len()).max(1.0) * 1000.0)
}

fn dollars(amount: f64) -> String {
    if amount >= 1000.0 { format!("${amount:.0}") } else { format!("${amount:.2}") }
}

fn in_seconds(time: f64) -> String {
    if time < 10.0 { format!("{time:.1}s") } else { span(Duration::from_secs_f64(time.min(1e9))) }
}

fn millis(time: i64) -> String {
    span(Duration::from_millis(u64::try_from(time).unwrap_or(0)))
}

/// Without zeros at the end.
fn trimmed(number: f64) -> String {
    let text = format!("{number:.4}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_short() {
        assert_eq!(dollars(1.5), "$1.50");
        assert_eq!(dollars(12_345.6), "$12346");
        assert_eq!(in_seconds(0.25), "0.2s");
        assert_eq!(in_seconds(f64::INFINITY), in_seconds(1e9));
        assert_eq!((trimmed(99.0), trimmed(1.006)), ("99".to_owned(), "1.006".to_owned()));
    }
}
