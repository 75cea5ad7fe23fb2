//! Pages of jobs.

use stoker_core::ids::{ClassName, ModelName, ParseIdError};
use stoker_core::time::Timestamp;
use stoker_proto::convert;
use stoker_proto::status::{self, FieldViolation};
use stoker_proto::v1;
use stoker_proto::well_known;
use tonic::Status;

use crate::context::Context;
use crate::grpc::{errors, page_token};
use crate::store::{Filter, Page, TenantScope};

const DEFAULT_PAGE: u32 = 100;
const MAX_PAGE: u32 = 1_000;

/// More pairs than a job can have match nothing.
const MAX_LABELS: usize = 16;

pub(super) async fn list(
    context: &Context,
    scope: TenantScope,
    request: v1::ListRequest,
) -> Result<v1::ListResponse, Status> {
    let filter = filter(scope, request).map_err(|violations| status::invalid(&violations))?;
    let (page, next_page_token) = page(context, filter).await?;
    let jobs = page.jobs.iter().map(convert::job).collect();
    Ok(v1::ListResponse { jobs, next_page_token })
}

/// One page and the token of the next.
pub(in crate::grpc) async fn page(
    context: &Context,
    filter: Filter,
) -> Result<(Page, String), Status> {
    let page = context.store.list(filter.clone()).await.map_err(errors::store)?;
    let token = page.next.map(|last| page_token::encode(last, &filter)).unwrap_or_default();
    Ok((page, token))
}

fn filter(scope: TenantScope, request: v1::ListRequest) -> Result<Filter, Vec<FieldViolation>> {
    let mut noted = Vec::new();
    let mut filter = Filter {
        scope,
        states: note(&mut noted, convert::state_filter(&request.states, "states")),
        model: note(&mut noted, name(&request.model, "model", ModelName::new)),
        class: note(&mut noted, name(&request.class, "class", ClassName::new)),
        labels: request.labels,
        accepted_after: note(&mut noted, time(request.accepted_after.as_ref(), "accepted_after")),
        accepted_before: note(
            &mut noted,
            time(request.accepted_before.as_ref(), "accepted_before"),
        ),
        only_dead_letters: false,
        failure: None,
        before: None,
        limit: note(&mut noted, page_size(request.page_size)),
    };
    if filter.labels.len() > MAX_LABELS {
        let problem = format!("has {} pairs: a job has at most {MAX_LABELS}", filter.labels.len());
        noted.push(FieldViolation::new("labels", problem));
    }
    filter.before = note(&mut noted, page_token::decode(&request.page_token, &filter));
    if noted.is_empty() { Ok(filter) } else { Err(noted) }
}

/// The size of a page; 0 means 100.
pub(in crate::grpc) fn page_size(asked: u32) -> Result<u32, FieldViolation> {
    match asked {
        0 => Ok(DEFAULT_PAGE),
        1..=MAX_PAGE => Ok(asked),
        _ => {
            let problem = format!("is {asked}: ask for 1 to {MAX_PAGE}, or 0 for {DEFAULT_PAGE}");
            Err(FieldViolation::new("page_size", problem))
        }
    }
}

/// A name to filter by; `None`, when it is empty: any.
pub(in crate::grpc) fn name<N>(
    text: &str,
    field: &str,
    parse: impl Fn(&str) -> Result<N, ParseIdError>,
) -> Result<Option<N>, FieldViolation> {
    if text.is_empty() {
        return Ok(None);
    }
    parse(text).map(Some).map_err(|error| FieldViolation::new(field, error))
}

/// The value, or its default after its violation was noted.
pub(in crate::grpc) fn note<T: Default>(
    noted: &mut Vec<FieldViolation>,
    result: Result<T, FieldViolation>,
) -> T {
    result.unwrap_or_else(|violation| {
        noted.push(violation);
        T::default()
    })
}

fn time(
    value: Option<&well_known::Timestamp>,
    field: &str,
) -> Result<Option<Timestamp>, FieldViolation> {
    value.map(|value| convert::timestamp(value, field)).transpose()
}

#[cfg(test)]
mod tests {
    use stoker_core::ids::JobId;

    use super::*;

    #[test]
    fn an_empty_request_lists_everything_of_the_tenant() {
        let filter = filter(TenantScope::All, v1::ListRequest::default()).unwrap();
        assert_eq!(filter.limit, 100);
        assert!(filter.states.is_empty() && filter.model.is_none() && filter.before.is_none());
    }

    #[test]
    fn bad_fields_are_all_named() {
        let nowhen = well_known::Timestamp { seconds: i64::MAX, nanos: 0 };
        let request = v1::ListRequest {
            page_size: 1_001,
            page_token: "zz".to_owned(),
            states: vec![1, 99],
            model: "Not A Name".to_owned(),
            class: "/".to_owned(),
            labels: (0..17).map(|n| (n.to_string(), String::new())).collect(),
            accepted_after: Some(nowhen),
            accepted_before: Some(nowhen),
        };
        let violations = filter(TenantScope::All, request).unwrap_err();
        let fields: Vec<&str> = violations.iter().map(|one| one.field.as_str()).collect();
        assert_eq!(
            fields,
            [
                "states[1]",
                "model",
                "class",
                "accepted_after",
                "accepted_before",
                "page_size",
                "labels",
                "page_token"
            ]
        );
    }

    #[test]
    fn a_token_continues_its_own_list() {
        let request = v1::ListRequest { model: "mini".to_owned(), ..v1::ListRequest::default() };
        let last = JobId::from_bytes([3; 16]);
        let first = filter(TenantScope::All, request.clone()).unwrap();
        let page_token = page_token::encode(last, &first);
        let next = v1::ListRequest { page_token: page_token.clone(), ..request };
        assert_eq!(filter(TenantScope::All, next).unwrap().before, Some(last));
        let other = v1::ListRequest { page_token, ..v1::ListRequest::default() };
        assert_eq!(filter(TenantScope::All, other).unwrap_err()[0].field, "page_token");
    }
}
