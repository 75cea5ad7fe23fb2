//! The part of the benchmark with recorded spot capacity.

use std::fmt::Write as _;
use std::path::Path;

use super::{Result, ours};
use crate::fleet::baseline::cant_be_late::CantBeLate;
use crate::fleet::baseline::skyserve::SkyServe;
use crate::fleet::cases::Case;
use crate::fleet::job::Workload;
use crate::fleet::market::Offering;
use crate::fleet::score::Outcome;
use crate::fleet::trace::{self, Table};
use crate::fleet::world::{self, Setup};

const CAPACITIES: [(&str, &str); 2] = [
    ("spot/aws_p3.2xlarge_3zone_upto16_2023-08.csv", "3 zones, up to 16"),
    ("spot/aws_p3.2xlarge_9zone_0or1_2023-02.csv", "9 zones, 0 or 1"),
];

/// The usual price of on-demand over that of spot.
const RATIO: f64 = 2.45;

/// On-demand at 1 an hour, and spot in the zones of a trace.
fn setup(zones: &Table, workload: &Workload, (wait_s, ratio): (i64, f64)) -> Result<Setup> {
    let mut setup = Setup::simple(wait_s, 180);
    for zone in zones.names().iter().skip(1) {
        let capacity = trace::capacity(zones, zone, workload.end)?;
        setup.offerings.push(Offering::spot(zone, 1.0 / ratio, Some(capacity)));
    }
    Ok(setup)
}

fn kept(outcome: &Outcome) -> String {
    format!("{:.2} %", outcome.attainment * 100.0)
}

fn hedge(setup: &Setup, workload: &Workload) -> Outcome {
    let rate = 0.7 / workload.mean_service();
    world::run(setup, workload, &mut SkyServe::new(rate, 1, 1))
}

/// All of it, as sections of the page.
pub(in crate::fleet) fn sections(folder: &Path, cases: &[Case]) -> Result<String> {
    Ok(format!(
        "## With spot\n\n{}\n## Other prices of spot\n\n{}\n## Spot, and jobs that may wait\n\n{}\n",
        at_60_s(folder, cases)?,
        prices(folder, cases)?,
        patient(folder, cases)?
    ))
}

/// Waits of 60 s, against on-demand only.
fn at_60_s(folder: &Path, cases: &[Case]) -> Result<String> {
    let mut table = String::from(
        "On-demand costs 1 an hour, spot 1/2.45; capacity as recorded, two minutes of notice.\n\n| capacity | trace | on-demand only | with spot | cost ratio | SpotHedge (rate 0.7/S, one extra) | Can't Be Late |\n|---|---|---|---|---|---|---|\n",
    );
    for (file, name) in CAPACITIES {
        let zones = Table::read(&folder.join(file))?;
        for Case { workload, .. } in cases.iter().take(3) {
            let only = ours(&Setup::simple(60, 180), workload);
            let setup = setup(&zones, workload, (60, RATIO))?;
            let (mixed, hedge) = (ours(&setup, workload), hedge(&setup, workload));
            let late = world::run(&setup, workload, &mut CantBeLate::default());
            let cost = |o: &Outcome| o.usage.cost / only.usage.cost;
            writeln!(
                table,
                "| {name} | {} | {} for {:.0} | {} for {:.0} | {:.3} | {}, {:.3} | {}, {:.3} |",
                workload.name,
                kept(&only),
                only.usage.cost,
                kept(&mixed),
                mixed.usage.cost,
                cost(&mixed),
                kept(&hedge),
                cost(&hedge),
                kept(&late),
                cost(&late),
            )?;
        }
    }
    Ok(table)
}

/// Cheaper and dearer spot.
fn prices(folder: &Path, cases: &[Case]) -> Result<String> {
    let mut table = String::from(
        "Share in time and cost over that of on-demand only, by the price of on-demand over that of spot.\n\n| capacity | trace | 1.8 | 2.45 | 3 |\n|---|---|---|---|---|\n",
    );
    for (file, name) in CAPACITIES {
        let zones = Table::read(&folder.join(file))?;
        for Case { workload, .. } in cases.iter().take(3) {
            let only = ours(&Setup::simple(60, 180), workload);
            write!(table, "| {name} | {} |", workload.name)?;
            for ratio in [1.8, RATIO, 3.0] {
                let mixed = ours(&setup(&zones, workload, (60, ratio))?, workload);
                let cost = mixed.usage.cost / only.usage.cost;
                write!(table, " {}, {cost:.3} |", kept(&mixed))?;
            }
            table.push('\n');
        }
    }
    Ok(table)
}

/// Jobs that may wait for hours, where "Can't Be Late" is at home.
fn patient(folder: &Path, cases: &[Case]) -> Result<String> {
    let mut table = String::from(
        "All jobs may wait as long as is said. Share in time for dollars, at 1 for on-demand and 1/2.45 for spot.\n\n| capacity | trace | wait | Stoker | Can't Be Late | SpotHedge |\n|---|---|---|---|---|---|\n",
    );
    for (file, name) in CAPACITIES {
        let zones = Table::read(&folder.join(file))?;
        for Case { workload, .. } in cases.iter().take(3) {
            for hours in [1, 4] {
                let setup = setup(&zones, workload, (hours * 3600, RATIO))?;
                let late = world::run(&setup, workload, &mut CantBeLate::default());
                let runs = [ours(&setup, workload), late, hedge(&setup, workload)];
                write!(table, "| {name} | {} | {hours} h |", workload.name)?;
                for run in &runs {
                    write!(table, " {} for {:.0} |", kept(run), run.usage.cost)?;
                }
                table.push('\n');
            }
        }
    }
    Ok(table)
}
