//! The benchmark: every policy on every trace, as a page with tables and plots.

mod spot;

use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use crate::fleet::baseline::fixed::Static;
use crate::fleet::bound;
use crate::fleet::catalog::PolicyName;
use crate::fleet::job::{HOUR_MS, Workload, count};
use crate::fleet::parallel;
use crate::fleet::planner::Stoker;
use crate::fleet::plot::{self, Labels, Point};
use crate::fleet::score::Outcome;
use crate::fleet::suite::{self, Comparison};
use crate::fleet::world::{self, Setup};

use crate::fleet::cases::{self, Case};
use crate::fleet::speed;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// What the tables' column of settings means.
const SETTINGS: &str = "Each policy runs with the settings of its document (`default`) and with each of a grid, of which the tables have the cheapest that keeps 99 % in hindsight on that very trace (`tuned`), or if none does the one that comes nearest (`nearest`). The plots have all of them. Waits are D, service times S, boots B; `fewest` is found in hindsight as well.";

/// The simulator against another one's numbers: four instances on the `GenTD26` trace gave a mean wait of 1.0 s, a 99th
/// percentile of 19.6 s, 99.7 % within 60 s and 1344 hours.
pub fn cross_check(folder: &Path) -> Result<String> {
    let outcome = world::run(&Setup::simple(60, 180), &cases::gentd26(folder)?, &mut Static(4));
    let line = format!(
        "{}: mean wait {:.1} s, p99 {:.1} s, {:.1} % within 60 s, {:.0} GPU-h",
        outcome.policy,
        outcome.mean_wait,
        outcome.p99,
        outcome.attainment * 100.0,
        outcome.hours()
    );
    let near = |value: f64, expected: f64, by: f64| (value - expected).abs() <= by;
    let agrees = near(outcome.mean_wait, 1.0, 0.05)
        && near(outcome.p99, 19.6, 0.3)
        && near(outcome.attainment, 0.997, 0.0005)
        && near(outcome.hours(), 1344.0, 0.5);
    if agrees { Ok(line) } else { Err(format!("the simulator is off: {line}").into()) }
}

/// Runs all of it and writes `results.md` and plots into the folder `output`.
pub fn write(folder: &Path, output: &Path) -> Result<String> {
    fs::create_dir_all(output)?;
    let mut page = String::from("# Results of the autoscaler's benchmark\n\n");
    page.push_str("Written by `make bench-autoscaler`; [autoscaling.md](../autoscaling.md) says what it means.\n\n");
    writeln!(page, "Cross-check: {}.\n\nSpeed: {}.\n", cross_check(folder)?, speed::report())?;
    let cases = cases::all(folder)?;
    let mut summary = String::from(
        "| trace | Stoker | best other that keeps 99 %, in hindsight | perfect foresight | fluid bound | launches a day, of foresight |\n|---|---|---|---|---|---|\n",
    );
    let mut tables = String::new();
    for case in &cases {
        compare(case, output, (&mut summary, &mut tables))?;
    }
    writeln!(page, "## Wait 60 s, boot 180 s, on-demand\n\n{summary}")?;
    writeln!(page, "## Settings\n\n{SETTINGS}\n\n{}", suite::settings_table())?;
    writeln!(page, "## Other boots and waits\n\n{}", variants(&cases))?;
    writeln!(page, "## Parts of the traces\n\n{}", parts(&cases))?;
    page.push_str(&spot::sections(folder, &cases)?);
    writeln!(page, "## A rough world\n\n{}", rough(&cases))?;
    page.push_str(&tables);
    let path = output.join("results.md");
    fs::write(&path, page.trim_end().to_owned() + "\n")?;
    Ok(format!("wrote {}", path.display()))
}

/// The part with spot alone.
pub fn spot(folder: &Path) -> Result<String> {
    spot::sections(folder, &cases::all(folder)?)
}

fn brief(outcome: &Outcome) -> String {
    format!("{:.2} % for {:.0}", outcome.attainment * 100.0, outcome.hours())
}

fn ours(setup: &Setup, workload: &Workload) -> Outcome {
    world::run(setup, workload, &mut Stoker::new(setup))
}

fn compare(
    case: &Case,
    output: &Path,
    (summary, tables): (&mut String, &mut String),
) -> Result<()> {
    let (setup, workload) = (Setup::simple(60, 180), &case.workload);
    let comparison = Comparison::run(&setup, workload);
    let bound = bound::lower_bound(&setup, workload, 60)?;
    let best = comparison.best_other(0.99);
    let best = best.map_or_else(|| "none".to_owned(), |o| format!("{} ({})", brief(o), o.policy));
    let mine = comparison.ours().map_or(String::new(), brief);
    let foresight = comparison.clairvoyant.hours;
    let days = suite::days(workload);
    let a_day = |launches: usize| count(launches) / days;
    let launches = comparison.ours().map_or(0.0, |ours| a_day(ours.usage.launches));
    writeln!(
        summary,
        "| {} | {mine} | {best} | {foresight:.0} | {bound:.0} | {launches:.0}, {:.0} |",
        workload.name,
        a_day(comparison.clairvoyant.launches)
    )?;
    writeln!(tables, "## {}\n\n{}, {} jobs.\n", workload.name, case.note, workload.jobs.len())?;
    let slug = workload.name.to_lowercase().replace(',', "").replace(' ', "-");
    let points: Vec<Point> = comparison
        .runs
        .iter()
        .map(|run| Point {
            name: run.name(),
            x: run.outcome.hours(),
            y: run.outcome.attainment,
            ours: run.policy == PolicyName::Stoker,
        })
        .collect();
    let labels = Labels { title: &workload.name, x: "GPU-hours", y: "jobs started within 60 s" };
    fs::write(output.join(format!("{slug}.svg")), plot::scatter(&labels, &points, 0.99))?;
    writeln!(tables, "![cost and kept promises]({slug}.svg)\n")?;
    writeln!(tables, "{}", comparison.table(days))?;
    writeln!(tables, "{}", comparison.front_table())?;
    Ok(())
}

/// Boots of 60, 180 and 420 s and waits of 30, 60 and 300 s.
fn variants(cases: &[Case]) -> String {
    let mut table = String::from(
        "Share of jobs in time, for GPU-hours, over those of perfect foresight.\n\n| trace | wait 30 s | wait 300 s | boot 60 s | boot 420 s |\n|---|---|---|---|---|\n",
    );
    let row = |Case { workload, .. }: &Case| {
        let mut row = format!("| {} |", workload.name);
        for (wait, boot) in [(30, 180), (300, 180), (60, 60), (60, 420)] {
            let setup = Setup::simple(wait, boot);
            let outcome = ours(&setup, workload);
            let foresight = crate::fleet::clairvoyant::schedule(&setup, workload).hours;
            let _ = write!(row, " {}, {:.2} |", brief(&outcome), outcome.hours() / foresight);
        }
        row + "\n"
    };
    table.extend(parallel::map(cases, row));
    table
}

/// The halves of each trace of several days, each from an empty memory.
fn parts(cases: &[Case]) -> String {
    let mut table = String::from("| trace | first half | second half |\n|---|---|---|\n");
    let setup = Setup::simple(60, 180);
    let long: Vec<&Case> = cases.iter().filter(|c| c.workload.end >= 48 * HOUR_MS).collect();
    table.extend(parallel::map(&long, |Case { workload, .. }| {
        let middle = workload.end / 2;
        let halves = [workload.part(0, middle), workload.part(middle, workload.end)];
        let [first, second] = halves.map(|half| brief(&ours(&setup, &half)));
        format!("| {} | {first} | {second} |\n", workload.name)
    }));
    table
}

/// Boots that vary, and launches that fail.
fn rough(cases: &[Case]) -> String {
    let mut table = String::from(
        "Boots lognormal with sigma 0.25 around 180 s, 3 % of launches refused.\n\n| trace | kept, for GPU-hours |\n|---|---|\n",
    );
    let mut setup = Setup::simple(60, 180);
    setup.boot.sigma = 0.25;
    setup.boot.failures = 0.03;
    table.extend(parallel::map(cases, |Case { workload, .. }| {
        format!("| {} | {} |\n", workload.name, brief(&ours(&setup, workload)))
    }));
    table
}
