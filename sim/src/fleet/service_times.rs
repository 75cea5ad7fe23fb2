//! A table of service times: how long each model's jobs run on each instance type.

use std::collections::BTreeMap;

use crate::fleet::market::Offering;
use crate::fleet::service::{Alone, Batch, Service, ServiceTime};
use crate::fleet::table::{Row, Table, TraceError};

/// The columns of the file, for messages and help.
pub const COLUMNS: &str =
    "model, instance_type, and times or mean_s; optionally cv, batch, batch_growth";

/// A model in any table: jobs whose model is not known are of none that has a name.
const ANY: &str = "*";

/// What the file says, by model and instance type.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ServiceTimes(BTreeMap<(String, String), ServiceTime>);

/// Why a table does not fit the pool or the jobs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ServiceTimesError {
    #[error(
        "the service times name the instance type `{name}`, of which the pool has no offering; it has: {}",
        known.join(", ")
    )]
    InstanceType { name: String, known: Vec<String> },
    #[error(
        "the service times name the model `{name}`, of which there are no jobs; there are those of: {}",
        known.join(", ")
    )]
    Model { name: String, known: Vec<String> },
}

impl ServiceTimes {
    /// Takes a table with a row per model and instance type: `times`, as many times as long as on the reference
    /// worker, or `mean_s` and `cv`, a distribution of its own; and with `batch` and `batch_growth` how many jobs
    /// run at once there.
    pub fn of(table: &Table) -> Result<Self, TraceError> {
        table.needs(&["model", "instance_type"])?;
        let mut times = BTreeMap::new();
        for row in table.rows() {
            let key = (row.text("model")?.to_owned(), row.text("instance_type")?.to_owned());
            let time = ServiceTime { alone: alone(&row)?, batch: batch(&row)? };
            if times.insert(key, time).is_some() {
                return Err(row.wrong("this model and instance type stand in the table twice"));
            }
        }
        Ok(Self(times))
    }

    /// Tells the offerings. What the table does not name runs as the offering's speed has it.
    pub fn apply(
        &self,
        models: &[String],
        offerings: &mut [Offering],
    ) -> Result<(), ServiceTimesError> {
        for (model, kind) in self.0.keys() {
            if !offerings.iter().any(|offering| offering.instance_type == *kind) {
                let mut known: Vec<String> =
                    offerings.iter().map(|offering| offering.instance_type.clone()).collect();
                known.sort();
                known.dedup();
                return Err(ServiceTimesError::InstanceType { name: kind.clone(), known });
            }
            if model != ANY && !models.contains(model) {
                let known = models.to_vec();
                return Err(ServiceTimesError::Model { name: model.clone(), known });
            }
        }
        for offering in offerings {
            let of = |model: &String| self.get(model, &offering.instance_type);
            offering.times = models.iter().map(of).collect();
        }
        Ok(())
    }

    fn get(&self, model: &str, kind: &str) -> Option<ServiceTime> {
        let key = |model: &str| (model.to_owned(), kind.to_owned());
        self.0.get(&key(model)).or_else(|| self.0.get(&key(ANY))).copied()
    }
}

fn alone(row: &Row<'_>) -> Result<Alone, TraceError> {
    let above_zero = |number: f64| number > 0.0 && number <= 1e6;
    match (row.number("times")?, row.number("mean_s")?, row.number("cv")?) {
        (Some(times), None, None) if above_zero(times) => Ok(Alone::Times(times)),
        (None, Some(mean), cv) if above_zero(mean) && (0.0..=10.0).contains(&cv.unwrap_or(0.0)) => {
            Ok(Alone::Drawn(Service { mean, cv: cv.unwrap_or(0.0) }))
        }
        (None, None, _) => Err(row.wrong("it has neither times nor mean_s")),
        (Some(_), Some(_), _) => Err(row.wrong("it has both times and mean_s")),
        (Some(_), None, Some(_)) => Err(row.wrong("cv goes with mean_s, not with times")),
        (Some(_), ..) => Err(row.wrong("times must be above 0 and at most a million")),
        (None, Some(_), _) => {
            Err(row
                .wrong("mean_s must be above 0 and at most a million seconds, and cv from 0 to 10"))
        }
    }
}

fn batch(row: &Row<'_>) -> Result<Option<Batch>, TraceError> {
    let (size, growth) = (row.number("batch")?, row.number("batch_growth")?);
    let growth = growth.unwrap_or(0.0);
    let Some(size) = size else { return Ok(None) };
    if size.fract() != 0.0 || !(1.0..=1024.0).contains(&size) {
        return Err(row.wrong("batch must be a whole number from 1 to 1024"));
    }
    if !(0.0..=1e6).contains(&growth) {
        return Err(row.wrong("batch_growth must be from 0 to a million"));
    }
    let size = u32::try_from(crate::fleet::job::whole(size)).unwrap_or(1);
    Ok(Some(Batch { size, growth }))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn table(text: &str) -> Result<ServiceTimes, TraceError> {
        ServiceTimes::of(&Table::parse(Path::new("times.csv"), text))
    }

    #[test]
    fn a_model_runs_as_its_row_says_and_the_others_as_the_row_of_all() {
        let times = table(
            "model,instance_type,times,mean_s,cv,batch\nbert,g5,0.5,,,8\n*,g5,2,,,\nllama,g6,,9,0.5,\n",
        );
        let times = times.unwrap();
        let models = ["bert", "llama"].map(str::to_owned);
        let of =
            |kind: &str| Offering { instance_type: kind.to_owned(), ..Offering::on_demand(1.0) };
        let mut offerings = [of("g5"), of("g6")];
        times.apply(&models, &mut offerings).unwrap();
        let [g5, g6] = &offerings;
        let alone = |offering: &Offering, model: usize| offering.times[model].map(|t| t.alone);
        assert_eq!(alone(g5, 0), Some(Alone::Times(0.5)));
        assert_eq!(alone(g5, 1), Some(Alone::Times(2.0)));
        assert_eq!(g5.batch_of(0).size, 8);
        assert_eq!((alone(g6, 0), g6.batch_of(0)), (None, Batch::ONE));
        assert_eq!(alone(g6, 1), Some(Alone::Drawn(Service { mean: 9.0, cv: 0.5 })));
        assert!(!g5.is_reference() && !g6.is_reference());
        let error = times.apply(&models[..1], &mut offerings).unwrap_err().to_string();
        assert!(
            error.ends_with("model `llama`, of which there are no jobs; there are those of: bert")
        );
        let error = times.apply(&models, &mut offerings[..1]).unwrap_err().to_string();
        assert!(error.contains("instance type `g6`") && error.ends_with("it has: g5"), "{error}");
    }

    #[test]
    fn what_is_wrong_with_a_row_is_said_with_file_and_line() {
        for (text, said) in [
            ("model,times\na,1\n", "times.csv has no column `instance_type`; it has: model, times"),
            ("model,instance_type\n\na,g5\n", "times.csv, line 3: it has neither times nor mean_s"),
            ("model,instance_type,times\na,,1\n", "times.csv, line 2: `instance_type` is empty"),
            ("model,instance_type,times\na,g5,x\n", "times.csv, line 2: `x` is not a number"),
            ("model,instance_type,times\na,g5,0\n", "line 2: times must be above 0"),
            ("model,instance_type,times\na,g5,1\na,g5,1\n", "line 3: this model and instance type"),
            ("model,instance_type,times,batch\na,g5,1,0\n", "line 2: batch must be a whole number"),
        ] {
            let error = table(text).unwrap_err().to_string();
            assert!(error.contains(said), "{text}: {error}");
        }
    }
}
