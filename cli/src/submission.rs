//! Handing jobs over to the coordinator, call by call.

use serde::Serialize;
use stoker_proto::v1;
use tracing::Instrument as _;

use crate::client::Client;
use crate::failure::Failure;
use crate::render::text::count;
use crate::spec;

/// A job that the coordinator has promised to run.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Accepted {
    pub(crate) id: String,
    /// False if an earlier call with the same key had made it.
    pub(crate) created: bool,
    pub(crate) items: u64,
}

/// Some jobs were accepted, then a call failed.
#[derive(Debug)]
pub(crate) struct Interrupted {
    pub(crate) accepted: Vec<Accepted>,
    pub(crate) failure: Failure,
}

/// Submits all of `jobs`, in as many calls as they need, in order.
pub(crate) async fn submit(
    client: &Client,
    jobs: Vec<v1::JobSpec>,
) -> Result<Vec<Accepted>, Interrupted> {
    let total = jobs.len();
    let mut accepted = Vec::with_capacity(total);
    for call in spec::calls(jobs) {
        // The trace of each job begins here.
        let span = tracing::info_span!("submit", jobs = call.jobs.len());
        match submit_call(client, call).instrument(span).await {
            Ok(more) => accepted.extend(more),
            Err(failure) if accepted.is_empty() => return Err(Interrupted { accepted, failure }),
            Err(failure) => {
                let done = accepted.len() as u64;
                let failure = failure.hint(format!(
                    "{} of {} had been accepted before",
                    done,
                    count(total as u64, "job")
                ));
                return Err(Interrupted { accepted, failure });
            }
        }
    }
    Ok(accepted)
}

async fn submit_call(
    client: &Client,
    call: v1::SubmitBatchRequest,
) -> Result<Vec<Accepted>, Failure> {
    let items: Vec<_> = call.jobs.iter().map(|job| spec::items(job) as u64).collect();
    let answer = client.submit_batch(call).await?;
    if answer.jobs.len() != items.len() {
        return Err(client.malformed("submit the jobs"));
    }
    let jobs = answer.jobs.into_iter().zip(items);
    Ok(jobs.map(|(job, items)| Accepted { id: job.job_id, created: job.created, items }).collect())
}
