//! The past of a running fleet, from its coordinator.

use stoker_core::time::Timestamp;
use stoker_proto::v1;

use super::arrivals::{Arrival, Arrivals};
use crate::client::Client;
use crate::failure::Failure;
use crate::render::job;
use crate::render::time::{from_wire, to_wire};

const PAGE: u32 = 1000;

/// More jobs than this are exported to a file and thinned by whoever needs them.
const MOST: usize = 5_000_000;

/// The tenant's jobs that were accepted since then.
pub(crate) async fn fetch(client: &Client, since: Timestamp) -> Result<Arrivals, Failure> {
    let (mut jobs, mut never_ran) = (Vec::new(), 0);
    let mut request = v1::ListRequest {
        page_size: PAGE,
        accepted_after: Some(to_wire(since)),
        ..v1::ListRequest::default()
    };
    loop {
        let answer = client.list(request.clone()).await?;
        for job in &answer.jobs {
            match arrival(job) {
                Some(arrival) => jobs.push(arrival),
                None => never_ran += 1,
            }
        }
        if jobs.len() > MOST {
            return Err(Failure::usage(format!("there are more than {MOST} jobs"))
                .hint("take a shorter time with --since"));
        }
        if answer.next_page_token.is_empty() {
            return Ok(Arrivals::Jobs { jobs, never_ran });
        }
        request.page_token = answer.next_page_token;
    }
}

/// `None` for a job that ended before it ran.
fn arrival(job: &v1::Job) -> Option<Arrival> {
    let at = from_wire(job.accepted_at.as_ref())?;
    if job.finished_at.is_some() && job.started_at.is_none() {
        return None;
    }
    #[expect(clippy::cast_precision_loss, reason = "milliseconds since 1970 are below 2^52")]
    let at = at.as_unix_millis() as f64 / 1e3;
    Some(Arrival {
        at,
        service: job::run(job).map(|run| run.as_secs_f64()),
        class: Some(job.class.clone()).filter(|class| !class.is_empty()),
        model: Some(job.model.clone()).filter(|model| !model.is_empty()),
        pool: Some(job.pool.clone()).filter(|pool| !pool.is_empty()),
    })
}
