//! The recorded workloads that policies are judged on, and how each is read.

use std::error::Error;
use std::fmt::Write as _;
use std::path::Path;

use crate::fleet::intervals::{Intervals, Making, Values};
use crate::fleet::job::{Job, Millis, Workload};
use crate::fleet::market::Offering;
use crate::fleet::service::Service;
use crate::fleet::table::Table;
use crate::fleet::trace;

/// A recorded workload.
#[derive(Debug)]
pub struct Case {
    pub workload: Workload,
    pub note: &'static str,
}

/// Files that the benchmark reads, under the folder of traces.
const FILES: [&str; 10] = [
    "arrivals/azure_llm2023_conv.csv",
    "arrivals/gentd26_gateway_qps57s.csv",
    "arrivals/gentd26_sd_requests.csv",
    "arrivals/servegen_mlarge_2rps_permin.csv",
    "arrivals/servegen_mmimage_1rps_permin.csv",
    "arrivals/twitter_permin.csv",
    "spot/aws_p3.2xlarge_3zone_upto16_2023-08.csv",
    "spot/aws_p3.2xlarge_9zone_0or1_2023-02.csv",
    "spot/aws_k80_v100_2zone_0or1_2022-10.csv",
    "spot/bamboo_aws_g4dn_live.csv",
];

/// A recorded spot market: which columns of which file are the zones of one instance type.
#[derive(Debug, Clone, Copy)]
pub struct Market {
    pub name: &'static str,
    pub file: &'static str,
    /// End of the columns' names; empty: all of them.
    pub columns: &'static str,
}

/// All of them. Of the file with four types, those that have a single V100 are taken: the others are other machines.
pub const MARKETS: [Market; 4] = [
    Market { name: "3 zones, up to 16", file: FILES[6], columns: "" },
    Market { name: "9 zones, 0 or 1", file: FILES[7], columns: "" },
    Market { name: "2 zones, 0 or 1", file: FILES[8], columns: "_v100_1" },
    Market { name: "1 group, up to 24", file: FILES[9], columns: "" },
];

impl Market {
    /// Spot offerings of its zones at a price, repeated until `end`.
    pub fn offerings(
        &self,
        folder: &Path,
        (price, end): (f64, Millis),
    ) -> Result<Vec<Offering>, Box<dyn Error>> {
        let table = Table::read(&folder.join(self.file))?;
        let is_zone = |name: &&String| *name != "t_s" && name.ends_with(self.columns);
        let offering = |zone: &String| {
            let capacity = trace::capacity(&table, zone, end)?;
            Ok(Offering::spot(zone, price, Some(capacity)))
        };
        table.names().iter().filter(is_zone).map(offering).collect()
    }
}

/// Of what the counted traces leave open.
const SEED: u64 = 3;

/// Says whether every trace is there and readable.
pub fn check(folder: &Path) -> Result<String, Box<dyn Error>> {
    let mut text = String::new();
    for file in FILES {
        let table = Table::read(&folder.join(file))?;
        let rows = table.column("t_s")?.len();
        writeln!(text, "{file}: {rows} rows of {}", table.names().join(", "))?;
    }
    Ok(text)
}

/// Stable Diffusion requests, 14 days, moved within their second. Copies of them are shifted by days.
pub fn gentd26(folder: &Path) -> Result<Workload, Box<dyn Error>> {
    let table = Table::read(&folder.join(FILES[2]))?;
    Ok(trace::requests(&table, "GenTD26 x1", 1)?.in_whole_days())
}

/// All of them.
pub fn all(folder: &Path) -> Result<Vec<Case>, Box<dyn Error>> {
    let x1 = gentd26(folder)?;
    let mut x7 = x1.day_shifted(7, 2);
    "GenTD26 x7".clone_into(&mut x7.name);
    let counts = |file: &str, name: &str, (scale, service)| -> Result<Workload, Box<dyn Error>> {
        let (at, counts) = Table::read(&folder.join(file))?.intervals("count")?;
        let intervals = Intervals { at, values: Values::Counts(counts) };
        Ok(intervals.workload(name, &Making { scale, service, seed: SEED }))
    };
    // A stream of 2500 prompt tokens and 40 written tokens a second on one GPU, of mean 4.5 s.
    let llm = Service { mean: 4.5, cv: 0.8 };
    let mlarge = counts(FILES[3], "ServeGen m-large 2 rps", (1.0, llm))?;
    let mmimage = counts(FILES[4], "ServeGen mm-image 1 rps", (1.0, llm))?;
    let shape = Service { mean: 20.0, cv: 0.8 };
    let twitter = counts(FILES[5], "Twitter, mean load 10", (0.5 / 63.78, shape))?;
    let gateway = gateway(&Table::read(&folder.join(FILES[1]))?)?;
    let azure = trace::tokens(&Table::read(&folder.join(FILES[0]))?, "Azure conv", (2500.0, 40.0))?;
    let case = |workload, note| Case { workload, note };
    Ok(vec![
        case(x7, "seven copies, each two days later: it repeats exactly after two days"),
        case(aperiodic(&x1), "the same seven copies, each two days and eleven minutes later"),
        case(x1, "14 days of Stable Diffusion requests"),
        case(mlarge, "7 days of language-model requests"),
        case(mmimage, "one day"),
        case(gateway, "22 hours"),
        case(twitter, "10 days of tweets, an arrival shape, in steps of a minute"),
        case(azure, "one hour"),
    ])
}

/// A rate per 57 s, taken as so many jobs.
fn gateway(table: &Table) -> Result<Workload, Box<dyn Error>> {
    let (at, qps) = table.intervals("qps")?;
    let counts = Values::Counts(qps.iter().map(|qps| qps * 57.0).collect());
    let making = Making { scale: 0.2, service: Service { mean: 26.0, cv: 0.7 }, seed: SEED };
    Ok(Intervals { at, values: counts }.workload("GenTD26 gateway, a fifth", &making))
}

/// Copies that do not repeat after a whole number of days, so that what is learned of one day is not what another
/// brings to the second.
fn aperiodic(x1: &Workload) -> Workload {
    let by = (2 * 24 * 60 + 11) * 60_000;
    let copy = |n: i64| {
        x1.jobs.iter().map(move |job| Job { at: (job.at + n * by).rem_euclid(x1.end), ..*job })
    };
    Workload::new("GenTD26 x7, not periodic", (0..7).flat_map(copy).collect(), x1.end)
        .of_models(x1.models.clone())
}
