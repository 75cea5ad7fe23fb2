//! From a request to stored jobs: form, registry, room, commit. All or none.

use bytes::Bytes;
use stoker_core::admission::{self, Depth, FreeDisk};
use stoker_core::fleet::{Fleet, Model};
use stoker_core::ids::{JobId, TenantName};
use stoker_core::request::JobRequest;
use stoker_core::time::Timestamp;
use stoker_proto::convert::{self, MAX_JOBS_PER_BATCH};
use stoker_proto::status::{self, FieldViolation, MAX_VIOLATIONS};
use stoker_proto::v1;
use stoker_runtime::trace_context::TraceContext;
use stoker_runtime::{crash, ids};
use tonic::{Request, Status};

use crate::context::Context;
use crate::grpc::errors;
use crate::grpc::tenant::tenant;
use crate::store::{Lane, NewJob, StoreError, Submitted};

/// Names of models or classes that an error lists.
const MAX_NAMES: usize = 20;

/// Who submits, and as part of which trace.
#[derive(Debug)]
pub(super) struct Caller {
    tenant: TenantName,
    trace: TraceContext,
}

impl Caller {
    pub(super) fn of<T>(request: &Request<T>, fleet: &Fleet) -> Result<Self, Status> {
        let tenant = tenant(request.metadata(), fleet)?;
        // The span of this call, which is a child of the client's.
        let mut trace = TraceContext::current();
        if trace.is_empty() {
            trace = TraceContext::from_headers(request.metadata().as_ref());
        }
        Ok(Self { tenant, trace })
    }
}

/// How the jobs stand in the request, for the paths of fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Single,
    Batch,
}

impl Form {
    fn path(self, index: usize) -> String {
        match self {
            Self::Single => "job".to_owned(),
            Self::Batch => format!("jobs[{index}]"),
        }
    }
}

/// The store answered for another number of jobs than it was asked to store.
#[derive(Debug, thiserror::Error)]
#[error("the store answered for {answered} jobs of {asked}")]
pub(super) struct WrongCount {
    pub(super) asked: usize,
    pub(super) answered: usize,
}

pub(super) async fn submit(
    context: &Context,
    caller: Caller,
    specs: Vec<v1::JobSpec>,
    form: Form,
) -> Result<Vec<v1::SubmitResponse>, Status> {
    let requests =
        check(&context.fleet, specs, form).map_err(|violations| status::invalid(&violations))?;
    if let Err(shed) = admit(context, &caller.tenant, requests.len()) {
        // A repetition needs no room: its jobs are in already.
        return repetition(context, &caller, &requests).await?.ok_or(shed);
    }
    let now = context.now();
    let jobs: Vec<NewJob> =
        requests.into_iter().map(|checked| new_job(checked, &caller, now)).collect();
    let asked = jobs.len();
    let stored = crash::around("submit", context.store.submit(jobs)).await;
    let submitted = stored.map_err(|error| match error {
        StoreError::KeyReused { index, job } => {
            status::key_reused(&format!("{}.idempotency_key", form.path(index)), job)
        }
        error => errors::store(error),
    })?;
    if submitted.len() != asked {
        return Err(errors::internal(&WrongCount { asked, answered: submitted.len() }));
    }
    Ok(submitted
        .into_iter()
        .map(|Submitted { job, created }| v1::SubmitResponse { job_id: job.to_string(), created })
        .collect())
}

/// What the same call was answered before; `None` if it was not.
async fn repetition(
    context: &Context,
    caller: &Caller,
    requests: &[Checked],
) -> Result<Option<Vec<v1::SubmitResponse>>, Status> {
    let keys = requests.iter().map(|checked| checked.request.idempotency.clone());
    let Some(keys) = keys.collect::<Option<Vec<_>>>() else { return Ok(None) };
    let jobs = context.store.repeated(caller.tenant.clone(), keys).await.map_err(errors::store)?;
    let answer = |job: JobId| v1::SubmitResponse { job_id: job.to_string(), created: false };
    Ok(jobs.map(|jobs| jobs.into_iter().map(answer).collect()))
}

/// Refuses new jobs while there is no room for them.
pub(in crate::grpc) fn admit(
    context: &Context,
    tenant: &TenantName,
    jobs: usize,
) -> Result<(), Status> {
    let Some(known) = context.fleet.tenants.get(tenant) else { return Ok(()) };
    let counts = context.store.counts();
    let depth = Depth { fleet: counts.total().open(), tenant: counts.of_tenant(tenant).open() };
    let disk = context.store.free_disk().map_or(FreeDisk::Unknown, FreeDisk::Bytes);
    let asked = u64::try_from(jobs).unwrap_or(u64::MAX);
    admission::check(asked, depth, &context.fleet.limits, known, disk)
        .map_err(|shed| status::shed(&shed))
}

/// A request whose names are all known.
#[derive(Debug)]
struct Checked {
    request: JobRequest<Bytes>,
    lane: Lane,
    class: stoker_core::ids::ClassName,
    max_wait: std::time::Duration,
}

/// All jobs of a call, or what is wrong with any of them.
fn check(
    fleet: &Fleet,
    specs: Vec<v1::JobSpec>,
    form: Form,
) -> Result<Vec<Checked>, Vec<FieldViolation>> {
    if specs.is_empty() {
        return Err(vec![FieldViolation::new("jobs", "is empty: submit at least one job")]);
    }
    if specs.len() > MAX_JOBS_PER_BATCH {
        let problem =
            format!("has {} jobs and may have {MAX_JOBS_PER_BATCH}: split the call", specs.len());
        return Err(vec![FieldViolation::new("jobs", problem)]);
    }
    let mut checked = Vec::with_capacity(specs.len());
    let mut violations = Vec::new();
    for (index, spec) in specs.into_iter().enumerate() {
        match check_one(fleet, spec, &form.path(index)) {
            Ok(job) => checked.push(job),
            Err(found) => violations.extend(found),
        }
        if violations.len() >= MAX_VIOLATIONS {
            break;
        }
    }
    if violations.is_empty() { Ok(checked) } else { Err(violations) }
}

fn check_one(fleet: &Fleet, spec: v1::JobSpec, path: &str) -> Result<Checked, Vec<FieldViolation>> {
    // Also when the form is wrong, so that one answer tells everything.
    let mut violations: Vec<FieldViolation> = [
        known_model(fleet, &spec.model, path),
        known_class(fleet, &spec.class, path),
        known_prompt(fleet, &spec, path),
        some_labels(fleet, &spec, path),
    ]
    .into_iter()
    .filter_map(Result::err)
    .collect();
    let request = match convert::job_request(spec, &fleet.limits, path) {
        Ok(request) => request,
        Err(found) => {
            // The form's own words about a field come first.
            violations.retain(|one| found.iter().all(|other| other.field != one.field));
            return Err(found.into_iter().chain(violations).collect());
        }
    };
    let class = request.class.clone().unwrap_or_else(|| fleet.default_class.clone());
    let (Some(model), Some(known_class)) =
        (fleet.models.get(&request.model), fleet.classes.get(&class))
    else {
        return Err(violations);
    };
    if model.task != request.task {
        violations.push(wrong_task(&request, model, path));
    }
    if !violations.is_empty() {
        return Err(violations);
    }
    let lane = Lane { pool: model.pool.clone(), model: request.model.clone() };
    Ok(Checked { request, lane, class, max_wait: known_class.max_wait })
}

fn known_model(fleet: &Fleet, name: &str, path: &str) -> Result<(), FieldViolation> {
    if fleet.models.contains_key(name) {
        return Ok(());
    }
    let known = names(fleet.models.keys());
    let problem = format!("this fleet has no model `{name}`; it has: {known}");
    Err(FieldViolation::new(format!("{path}.model"), problem))
}

fn known_class(fleet: &Fleet, name: &str, path: &str) -> Result<(), FieldViolation> {
    if name.is_empty() || fleet.classes.contains_key(name) {
        return Ok(());
    }
    let known = names(fleet.classes.keys());
    let problem = format!("this fleet has no class `{name}`; it has: {known}");
    Err(FieldViolation::new(format!("{path}.class"), problem))
}

fn known_prompt(fleet: &Fleet, spec: &v1::JobSpec, path: &str) -> Result<(), FieldViolation> {
    let (Some(model), Some(input)) = (fleet.models.get(spec.model.as_str()), &spec.input) else {
        return Ok(());
    };
    if model.prompts.prefix(convert::input_prompt(input)).is_some() {
        return Ok(());
    }
    let known = names(model.prompts.names());
    let problem = if known.is_empty() {
        format!("the model `{}` has no prompts: leave it out", spec.model)
    } else {
        format!("the model `{}` has no such prompt; it has: {known}", spec.model)
    };
    Err(FieldViolation::new(format!("{path}.input.text_embedding.prompt"), problem))
}

/// A model that compares images with labels needs some: the job's, or else its own.
fn some_labels(fleet: &Fleet, spec: &v1::JobSpec, path: &str) -> Result<(), FieldViolation> {
    let task = spec.input.as_ref().and_then(|input| input.task.as_ref());
    let Some(v1::job_input::Task::ImageClassification(input)) = task else { return Ok(()) };
    match fleet.models.get(spec.model.as_str()) {
        Some(model) if model.zero_shot.labels_for(&input.labels).is_empty() => {
            let problem = format!(
                "is empty, and the model `{}` has no labels of its own: name what to look for",
                spec.model
            );
            let field = format!("{path}.input.image_classification.labels");
            Err(FieldViolation::new(field, problem))
        }
        Some(_) | None => Ok(()),
    }
}

fn wrong_task(request: &JobRequest<Bytes>, model: &Model, path: &str) -> FieldViolation {
    let problem = format!(
        "the model `{}` does {}: give it `input.{}`, not `input.{}`, or choose another model",
        request.model,
        model.task.name(),
        convert::input_field(model.task),
        convert::input_field(request.task)
    );
    FieldViolation::new(format!("{path}.input"), problem)
}

/// Some of the names, in their order.
pub(in crate::grpc) fn names<N: ToString>(all: impl ExactSizeIterator<Item = N>) -> String {
    let more = all.len().saturating_sub(MAX_NAMES);
    let text = all.take(MAX_NAMES).map(|name| name.to_string()).collect::<Vec<_>>().join(", ");
    if more == 0 { text } else { format!("{text} and {more} more") }
}

fn new_job(checked: Checked, caller: &Caller, now: Timestamp) -> NewJob {
    let Checked { request, lane, class, max_wait } = checked;
    NewJob {
        id: ids::job_id(now),
        tenant: caller.tenant.clone(),
        class,
        lane,
        task: request.task,
        input: request.input,
        items: request.items,
        idempotency: request.idempotency,
        accepted_at: now,
        deadline_at: request.deadline_after.map_or(Timestamp::MAX, |after| now.after(after)),
        start_by: now.after(max_wait),
        labels: request.labels,
        trace: caller.trace.clone(),
    }
}

#[cfg(test)]
mod tests {
    use stoker_core::request::Task;

    use super::*;
    use crate::testing::fleet;

    fn echo(model: &str, class: &str, texts: &[&str]) -> v1::JobSpec {
        let texts = texts.iter().map(ToString::to_string).collect();
        v1::JobSpec {
            model: model.to_owned(),
            class: class.to_owned(),
            input: Some(convert::input_of(Task::Echo, texts)),
            ..v1::JobSpec::default()
        }
    }

    fn fields(result: Result<Vec<Checked>, Vec<FieldViolation>>) -> Vec<String> {
        result.unwrap_err().into_iter().map(|violation| violation.field).collect()
    }

    #[test]
    fn a_good_job_gets_pool_class_and_the_latest_start() {
        let checked = check(&fleet(""), vec![echo("echo", "", &["a"])], Form::Single).unwrap();
        let caller =
            Caller { tenant: TenantName::new("acme").unwrap(), trace: TraceContext::default() };
        let now = Timestamp::from_unix_millis(1_000);
        let job = new_job(checked.into_iter().next().unwrap(), &caller, now);
        assert_eq!(job.class.as_str(), "standard");
        assert_eq!(job.lane.to_string(), "default/echo");
        assert_eq!(job.start_by, Timestamp::from_unix_millis(61_000));
        assert_eq!(job.deadline_at, Timestamp::MAX);
        assert_eq!(job.tenant.as_str(), "acme");
    }

    #[test]
    fn everything_that_is_wrong_with_a_batch_is_told_at_once() {
        let specs = vec![
            echo("echo", "", &["fine"]),
            echo("ecco", "fast", &["a"]),
            echo("mini", "", &["b"]),
            echo("nope", "", &[]),
            echo("", "", &["c"]),
        ];
        assert_eq!(
            fields(check(&fleet(""), specs, Form::Batch)),
            [
                "jobs[1].model",
                "jobs[1].class",
                "jobs[2].input",
                "jobs[3].input.echo.texts",
                "jobs[3].model",
                "jobs[4].model",
            ]
        );
    }

    #[test]
    fn errors_name_what_there_is_and_what_would_fit() {
        let text = |specs| -> String {
            let violations = check(&fleet(""), specs, Form::Single).unwrap_err();
            violations.iter().map(ToString::to_string).collect()
        };
        let error = text(vec![echo("mega", "", &["a"])]);
        assert!(error.contains("no model `mega`; it has: echo, mini"), "{error}");
        let error = text(vec![echo("echo", "fast", &["a"])]);
        assert!(error.contains("no class `fast`; it has: bulk, standard"), "{error}");
        let error = text(vec![echo("mini", "", &["a"])]);
        assert!(error.contains("does text-embedding: give it `input.text_embedding`"), "{error}");
    }

    #[test]
    fn a_prompt_must_be_the_model_s() {
        let more = "[models.mini.prompts]\nquery = 'query: '\npassage = 'passage: '\n";
        let asking = |prompt: &str| {
            let input = v1::TextEmbeddingInput { texts: vec!["a".into()], prompt: prompt.into() };
            let task = Some(v1::job_input::Task::TextEmbedding(input));
            v1::JobSpec { input: Some(v1::JobInput { task }), ..echo("mini", "", &[]) }
        };
        let check = |more, prompt| check(&fleet(more), vec![asking(prompt)], Form::Single);
        assert!(check(more, "").is_ok() && check(more, "query").is_ok() && check("", "").is_ok());
        let problem = |more| check(more, "Query").unwrap_err()[0].to_string();
        assert!(problem(more).contains("text_embedding.prompt"), "{}", problem(more));
        assert!(problem(more).contains("it has: passage, query"), "{}", problem(more));
        assert!(problem("").contains("has no prompts"), "{}", problem(""));
    }

    #[test]
    fn batches_have_bounds() {
        let fleet = fleet("");
        assert_eq!(fields(check(&fleet, vec![], Form::Batch)), ["jobs"]);
        let specs = vec![echo("echo", "", &["a"]); MAX_JOBS_PER_BATCH + 1];
        assert_eq!(fields(check(&fleet, specs, Form::Batch)), ["jobs"]);
        let bad = vec![echo("nope", "", &["a"]); MAX_JOBS_PER_BATCH];
        assert_eq!(fields(check(&fleet, bad, Form::Batch)).len(), MAX_VIOLATIONS);
    }

    #[test]
    fn long_lists_of_names_are_cut() {
        let all: Vec<u32> = (1..=25).collect();
        assert!(names(all.iter()).ends_with("19, 20 and 5 more"));
    }
}
