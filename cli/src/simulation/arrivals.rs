//! Arrivals of jobs: what a file says of them, and the workload that they make.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::SystemTime;

use serde::Deserialize;
use stoker_sim::fleet::intervals::{Intervals, Making};
use stoker_sim::fleet::job::{Job, Workload, millis};
use stoker_sim::fleet::service::Service;
use stoker_sim::fleet::table::Table;

/// A job that arrived.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Arrival {
    /// Seconds since some moment that all arrivals share.
    pub(crate) at: f64,
    /// Seconds that it ran; `None` when that is not known.
    pub(crate) service: Option<f64>,
    pub(crate) class: Option<String>,
    pub(crate) model: Option<String>,
    pub(crate) pool: Option<String>,
}

/// What is known of the past.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Arrivals {
    Jobs {
        jobs: Vec<Arrival>,
        /// Jobs that ended before they could run, which say nothing about the load.
        never_ran: u64,
    },
    /// Jobs that arrived in each interval, or how many a second.
    Intervals(Intervals),
}

/// Of which jobs a workload is made, and how those that lack something are completed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Part<'a> {
    /// Names of the classes, in the order of the simulation.
    pub(crate) classes: &'a [String],
    /// Position of the class of jobs that name none, or one that is not there.
    pub(crate) default_class: usize,
    /// Only jobs of this pool, where they say of which they are.
    pub(crate) pool: Option<&'a str>,
    /// Mean run time in seconds where none is known.
    pub(crate) service: f64,
    /// Of arrivals and run times that are drawn.
    pub(crate) seed: u64,
}

/// A workload, and what a user should know about how it was made.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Made {
    pub(crate) workload: Workload,
    pub(crate) notes: Vec<String>,
}

/// The forms of files.
pub(crate) const FORMS: &str = "write CSV with the columns t_s,service_s (a row per job, optionally with class and \
     model), t_s,count (a row per interval) or t_s,rate (jobs a second until the next row), JSON lines like \
     {\"t_s\": 12.5, \"service_s\": 3.1}, or the output of `stoker list --all -o json`";

/// Reads a file; `name` stands for it in errors.
pub(crate) fn parse(name: &str, bytes: &[u8]) -> Result<Arrivals, String> {
    let text = std::str::from_utf8(bytes).map_err(|_| format!("{name} is not UTF-8 text"))?;
    let text = text.trim_start_matches('\u{feff}');
    let first = text.trim_start();
    if first.is_empty() {
        return Err(format!("{name} is empty; {FORMS}"));
    }
    if !first.starts_with('{') {
        return table(name, text);
    }
    if first[1..].trim_start().starts_with("\"jobs\"") {
        let list: List =
            serde_json::from_str(text).map_err(|e| format!("{name}: not JSON: {e}"))?;
        return jobs(name, list.jobs.into_iter().enumerate());
    }
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let rows = lines.map(|(index, line)| {
        let row = serde_json::from_str::<Row>(line);
        row.map(|row| (index, row)).map_err(|e| format!("{name}:{}: {e}", index + 1))
    });
    jobs(name, rows.collect::<Result<Vec<_>, _>>()?.into_iter())
}

fn table(name: &str, text: &str) -> Result<Arrivals, String> {
    let table = Table::parse(Path::new(name), text);
    let said = |error: stoker_sim::fleet::table::TraceError| error.to_string();
    let unknown = || format!("{name} has the columns {}; {FORMS}", table.names().join(", "));
    if !table.has("t_s") {
        return Err(unknown());
    }
    if table.rows().next().is_none() {
        return Err(format!("{name} has no rows"));
    }
    if !table.has("service_s") {
        let intervals = Intervals::of(&table).map_err(said)?;
        return intervals.map(Arrivals::Intervals).ok_or_else(unknown);
    }
    let at = table.column("t_s").map_err(said)?;
    let mut jobs = Vec::with_capacity(at.len());
    for (row, at) in table.rows().zip(at) {
        let service = row.number("service_s").map_err(said)?;
        if service.is_some_and(|seconds| seconds < 0.0) {
            return Err(said(row.wrong("`service_s` is below 0")));
        }
        let text = |column: &str| row.cell(column).map(str::to_owned);
        jobs.push(Arrival { at, service, class: text("class"), model: text("model"), pool: None });
    }
    Ok(Arrivals::Jobs { jobs, never_ran: 0 })
}

#[derive(Deserialize)]
struct List {
    jobs: Vec<Row>,
}

/// A job of `stoker list -o json`, or a line of a file of one's own. Other fields are of no interest.
#[derive(Deserialize)]
struct Row {
    t_s: Option<f64>,
    accepted_at: Option<String>,
    service_s: Option<f64>,
    run_seconds: Option<f64>,
    started_at: Option<String>,
    finished_at: Option<String>,
    class: Option<String>,
    model: Option<String>,
    pool: Option<String>,
}

fn jobs(name: &str, rows: impl Iterator<Item = (usize, Row)>) -> Result<Arrivals, String> {
    let (mut jobs, mut never_ran) = (Vec::new(), 0);
    for (index, row) in rows {
        let place = || format!("{name}:{}", index + 1);
        let at = match (&row.t_s, &row.accepted_at) {
            (Some(at), _) if at.is_finite() => *at,
            (_, Some(time)) => {
                unix_seconds(time).ok_or_else(|| format!("{}: `{time}` is not a time", place()))?
            }
            (_, None) => {
                return Err(format!("{}: has no `t_s` or `accepted_at`; {FORMS}", place()));
            }
        };
        let service = row.service_s.or(row.run_seconds).filter(|s| s.is_finite() && *s >= 0.0);
        if row.finished_at.is_some() && row.started_at.is_none() && service.is_none() {
            never_ran += 1;
            continue;
        }
        let Row { class, model, pool, .. } = row;
        let model = model.filter(|name| !name.is_empty());
        jobs.push(Arrival { at, service, class, model, pool });
    }
    Ok(Arrivals::Jobs { jobs, never_ran })
}

fn unix_seconds(text: &str) -> Option<f64> {
    let time = humantime::parse_rfc3339(text).ok()?;
    Some(time.duration_since(SystemTime::UNIX_EPOCH).ok()?.as_secs_f64())
}

/// Spread of run times over their mean where only counts are known.
const SPREAD: f64 = 0.7;

impl Arrivals {
    /// The workload: it begins with the minute of the first arrival and ends when the last job would be done if none had to
    /// wait, or with the last interval.
    pub(crate) fn workload(&self, part: &Part<'_>) -> Result<Made, String> {
        let service = Service { mean: part.service, cv: SPREAD };
        match self {
            Self::Intervals(intervals) => {
                let total = intervals.jobs();
                if total > MOST_JOBS {
                    return Err(format!("{total:.0} jobs are more than {MOST_JOBS:.0}"));
                }
                let making = Making { scale: 1.0, service, seed: part.seed };
                let mut workload = intervals.workload("intervals", &making);
                for job in &mut workload.jobs {
                    job.class = part.default_class;
                }
                let note = format!(
                    "run times are not in the file: {} s on average are assumed (--service)",
                    part.service
                );
                Ok(Made { workload, notes: vec![note] })
            }
            Self::Jobs { jobs, never_ran } => of_jobs(jobs, *never_ran, part),
        }
    }
}

/// More would need more memory than a small machine has.
const MOST_JOBS: f64 = 50e6;

fn of_jobs(all: &[Arrival], never_ran: u64, part: &Part<'_>) -> Result<Made, String> {
    let here = |job: &&Arrival| match (&job.pool, part.pool) {
        (Some(of), Some(wanted)) => of == wanted,
        (None, _) | (_, None) => true,
    };
    let jobs: Vec<&Arrival> = all.iter().filter(here).collect();
    let first = jobs.iter().map(|job| job.at).min_by(f64::total_cmp);
    let Some(first) = first else { return Err("there are no jobs to simulate".to_owned()) };
    let start = (first / 60.0).floor() * 60.0;
    let known: Vec<f64> = jobs.iter().filter_map(|job| job.service).collect();
    let mean = match known.len() {
        0 => part.service,
        count => known.iter().sum::<f64>() / stoker_sim::fleet::job::count(count),
    };
    let (mut unknown_class, mut made) = (0, Vec::with_capacity(jobs.len()));
    let mut models = Models::default();
    for job in &jobs {
        let class = job.class.as_ref().and_then(|name| part.classes.iter().position(|c| c == name));
        unknown_class += u64::from(job.class.is_some() && class.is_none());
        made.push(Job {
            at: millis(job.at - start),
            service: millis(job.service.unwrap_or(mean)).max(1),
            class: class.unwrap_or(part.default_class),
            model: models.index(job.model.as_deref()),
        });
    }
    let assumed = jobs.len() - known.len();
    let mut notes = Vec::new();
    let mut note = |number: u64, what: &str| {
        if number > 0 {
            notes.push(format!("{} {what}", crate::render::text::count(number, "job")));
        }
    };
    note((all.len() - jobs.len()) as u64, "of other pools left out");
    note(never_ran, "that ended before they ran left out");
    note(assumed as u64, &format!("without a run time taken to run {mean:.2} s"));
    note(unknown_class, "of classes that the fleet file does not name taken for the default class");
    let workload = Workload::covering("history", made).of_models(models.names);
    Ok(Made { workload, notes })
}

/// Names of models in the order in which they come.
#[derive(Debug, Default)]
struct Models {
    names: Vec<String>,
    places: BTreeMap<String, usize>,
}

/// What jobs are of that name no model.
const NO_MODEL: &str = "unnamed";

impl Models {
    fn index(&mut self, name: Option<&str>) -> usize {
        let name = name.unwrap_or(NO_MODEL);
        if let Some(place) = self.places.get(name) {
            return *place;
        }
        self.names.push(name.to_owned());
        self.places.insert(name.to_owned(), self.names.len() - 1);
        self.names.len() - 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PART: Part<'_> =
        Part { classes: &[], default_class: 0, pool: None, service: 20.0, seed: 1 };

    fn made(text: &str, part: &Part<'_>) -> Made {
        parse("in", text.as_bytes()).unwrap().workload(part).unwrap()
    }

    #[test]
    fn jobs_come_as_csv_as_lines_and_as_a_list() {
        let csv = made("t_s,service_s\n7205,20\n7207.5,3\n", &PART);
        let lines = "{\"t_s\": 7205, \"service_s\": 20}\n\n{\"t_s\": 7207.5, \"service_s\": 3}\n";
        assert_eq!(made(lines, &PART), csv);
        let list = r#"{"jobs":[
            {"id":"1","accepted_at":"1970-01-01T02:00:05.000Z","run_seconds":20.0,"state":"succeeded"},
            {"id":"2","accepted_at":"1970-01-01T02:00:07.500Z","run_seconds":3.0}
        ]}"#;
        assert_eq!(made(list, &PART), csv);
        let jobs = &csv.workload.jobs;
        assert_eq!((jobs[0].at, jobs[0].service, jobs[1].at), (5_000, 20_000, 7_500));
        assert_eq!(csv.workload.end, 25_000);
    }

    #[test]
    fn a_trace_that_is_a_second_longer_than_a_day_is_no_day_longer() {
        let end = |text: &str| made(text, &PART).workload.end;
        assert_eq!(end("t_s,service_s\n0,2\n86399,1\n"), 86_400_000);
        assert_eq!(end("t_s,service_s\n0,2\n86400,1\n"), 86_401_000);
        // Nor do the hours before the first job count.
        assert_eq!(end("t_s,service_s\n3599,1\n7199,1\n"), 3_660_000);
    }

    #[test]
    fn counts_are_spread_and_the_assumed_run_time_is_said() {
        let made = made("t_s,count\n0,3\n60,0\n120,2\n", &PART);
        assert_eq!((made.workload.jobs.len(), made.workload.end), (5, 180_000));
        assert!(made.notes[0].contains("20 s on average are assumed"), "{:?}", made.notes);
    }

    #[test]
    fn rates_are_drawn_by_seed() {
        let text = "t_s,rate\n0,0.1\n600,0.5\n";
        let first = made(text, &PART);
        assert!((250..480).contains(&first.workload.jobs.len()), "{}", first.workload.jobs.len());
        assert_eq!(first.workload.end, 1_200_000);
        assert_eq!(made(text, &PART), first);
        assert_ne!(made(text, &Part { seed: 2, ..PART }), first);
    }

    #[test]
    fn jobs_keep_their_models_and_one_without_a_run_time_is_completed() {
        let made = made("t_s,service_s,model\n0,10,bert\n1,,llama\n2,20,bert\n", &PART);
        assert_eq!(made.workload.models, ["bert", "llama"]);
        let jobs: Vec<_> = made.workload.jobs.iter().map(|job| (job.service, job.model)).collect();
        assert_eq!(jobs, [(10_000, 0), (15_000, 1), (20_000, 0)]);
        assert_eq!(made.notes, ["1 job without a run time taken to run 15.00 s"]);
    }

    #[test]
    fn what_a_job_lacks_is_completed_and_counted() {
        let text = r#"{"t_s": 0, "service_s": 10, "class": "bulk", "pool": "a"}
{"t_s": 1, "class": "odd", "pool": "a"}
{"t_s": 2, "service_s": 1, "pool": "b"}
{"t_s": 3, "finished_at": "2026-01-01T00:00:00Z"}"#;
        let classes = ["standard".to_owned(), "bulk".to_owned()];
        let made = made(text, &Part { classes: &classes, pool: Some("a"), ..PART });
        let jobs: Vec<_> = made.workload.jobs.iter().map(|job| (job.service, job.class)).collect();
        assert_eq!(jobs, [(10_000, 1), (10_000, 0)]);
        assert_eq!(made.notes.len(), 4, "{:?}", made.notes);
        assert!(made.notes[1].starts_with("1 job that ended before"), "{:?}", made.notes);
    }

    #[test]
    fn what_cannot_be_read_is_named_with_the_forms() {
        for (text, said) in [
            ("", "in is empty; write CSV"),
            ("a,b\n1,2\n", "in has the columns a, b; write CSV"),
            ("t_s,count\n", "in has no rows"),
            ("t_s,count\nx,1\n", "in, line 2: `x` is not a number"),
            ("t_s,n\n0,1\n", "in has the columns t_s, n; write CSV"),
            ("t_s,rate\n0,1\n0,2\n", "in, line 3: `t_s` is not after that of the row before"),
            ("t_s,rate\n0,1\n60,-2\n", "in, line 3: `rate` is below 0"),
            ("t_s,rate\n0,1\n60\n", "in, line 3: `rate` is empty"),
            ("t_s,rate\n0,1\n", "in: it has a single rate; add a row"),
            ("t_s,service_s\n0,-1\n", "in, line 2: `service_s` is below 0"),
            ("t_s,service_s\n,1\n", "in, line 2: `t_s` is empty"),
            ("{\"t\": 1}", "in:1: has no `t_s` or `accepted_at`; write CSV"),
            ("{\"t_s\": 1}\n{\"t_s\" 2}", "in:2: expected `:`"),
            ("{\"accepted_at\": \"noon\"}", "in:1: `noon` is not a time"),
        ] {
            let error = parse("in", text.as_bytes()).unwrap_err();
            assert!(error.contains(said), "{text}: {error}");
        }
        let none = parse("in", b"{\"jobs\":[]}").unwrap().workload(&PART).unwrap_err();
        assert_eq!(none, "there are no jobs to simulate");
    }
}
