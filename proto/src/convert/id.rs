//! Ids from the wire.

use std::str::FromStr;

use stoker_core::ids::{ClaimId, JobId, ParseIdError, WorkerId};

use crate::status::FieldViolation;

use super::violations::collect;

pub fn job_id(text: &str, field: &str) -> Result<JobId, FieldViolation> {
    parse(text, field)
}

pub fn worker_id(text: &str, field: &str) -> Result<WorkerId, FieldViolation> {
    parse(text, field)
}

pub fn claim_id(text: &str, field: &str) -> Result<ClaimId, FieldViolation> {
    parse(text, field)
}

/// A list of 1 to `most` job ids, in its order.
pub fn job_ids(
    texts: &[String],
    field: &str,
    most: usize,
) -> Result<Vec<JobId>, Vec<FieldViolation>> {
    if texts.is_empty() {
        return Err(vec![FieldViolation::new(field, "is empty: name at least one job")]);
    }
    if texts.len() > most {
        let problem = format!("has {} ids and may have {most}: split the call", texts.len());
        return Err(vec![FieldViolation::new(field, problem)]);
    }
    collect(texts.iter().enumerate().map(|(index, text)| {
        job_id(text, &format!("{field}[{index}]")).map_err(|violation| vec![violation])
    }))
}

fn parse<T: FromStr<Err = ParseIdError>>(text: &str, field: &str) -> Result<T, FieldViolation> {
    if text.is_empty() {
        return Err(FieldViolation::new(field, "is missing"));
    }
    text.parse().map_err(|error: ParseIdError| FieldViolation::new(field, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_or_refused_by_name() {
        let id = JobId::from_bytes([3; 16]);
        assert_eq!(job_id(&id.to_string(), "job_id").unwrap(), id);
        let error = job_id("nonsense", "job_id").unwrap_err();
        assert!(error.to_string().starts_with("job_id: `nonsense` is not a job id"), "{error}");
        assert_eq!(worker_id("", "worker_id").unwrap_err().problem, "is missing");
        assert!(claim_id("\u{0}", "c").is_err());
    }

    #[test]
    fn lists_of_ids_have_bounds_and_report_each_bad_one() {
        let good = JobId::from_bytes([3; 16]).to_string();
        assert_eq!(job_ids(&[good.clone(), good.clone()], "ids", 2).unwrap().len(), 2);
        assert!(job_ids(&[], "ids", 2).is_err());
        assert!(job_ids(&[good.clone(), good.clone(), good.clone()], "ids", 2).is_err());
        let errors = job_ids(&["x".into(), good, "y".into()], "ids", 9).unwrap_err();
        let fields: Vec<&str> = errors.iter().map(|error| error.field.as_str()).collect();
        assert_eq!(fields, ["ids[0]", "ids[2]"]);
    }
}
