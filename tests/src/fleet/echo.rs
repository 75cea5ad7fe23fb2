//! Fleets that echo: the engine that does nothing but take its time.

use std::time::Duration;

use anyhow::ensure;
use stoker_proto::v1::job_input::Task;
use stoker_proto::v1::{EchoInput, Job, JobInput, JobSpec, JobState, SubmitBatchRequest};

use super::Fleet;

/// Of the fleets that [`echo_fleet`] makes.
pub const LEASE: Duration = Duration::from_secs(6);

/// A fleet with the echo model alone; `delay` is how long it takes for an item.
pub fn echo_fleet(name: &str, delay: &str) -> String {
    format!(
        r#"
fleet = "{name}"
[classes.standard]
max-wait = "60s"
[models.echo]
task = "echo"
delay = "{delay}"
[pools.default]
models = ["echo"]
[lease]
ttl = "6s"
heartbeat = "1s"
disconnect-grace = "500ms"
cancel-grace = "2s"
redispatch-after = "3s"
[retry]
base-delay = "50ms"
"#
    )
}

/// The request for an echo job.
pub fn echo_job(texts: Vec<String>) -> JobSpec {
    JobSpec {
        model: "echo".to_owned(),
        input: Some(JobInput { task: Some(Task::Echo(EchoInput { texts })) }),
        ..JobSpec::default()
    }
}

/// Texts that tell the items of all jobs of a batch apart.
pub fn texts(job: usize, items: usize) -> Vec<String> {
    (0..items).map(|item| format!("text {item} of job {job}")).collect()
}

impl Fleet {
    /// Submits echo jobs of so many [`texts`] in one call; answers their ids.
    ///
    /// # Errors
    /// When they are not accepted.
    pub async fn submit_many(&self, jobs: usize, items: usize) -> anyhow::Result<Vec<String>> {
        let jobs = (0..jobs).map(|job| echo_job(texts(job, items))).collect();
        let answer = self.jobs().await?.submit_batch(SubmitBatchRequest { jobs }).await?;
        Ok(answer.into_inner().jobs.into_iter().map(|job| job.job_id).collect())
    }

    /// Waits for all jobs of [`Fleet::submit_many`]; answers them as they ended.
    ///
    /// # Errors
    /// When one does not come back whole and in order, or was charged with an error or a crash.
    pub async fn all_succeed(&self, ids: &[String]) -> anyhow::Result<Vec<Job>> {
        let mut jobs = Vec::new();
        for (number, id) in ids.iter().enumerate() {
            let job = self.wait_for(id, &[JobState::Succeeded]).await?;
            let expected = texts(number, usize::try_from(job.items_total)?);
            ensure!(self.echoed(id).await? == expected, "job {id} answers something else");
            ensure!((job.failures, job.crashes) == (0, 0), "{job:?}");
            jobs.push(job);
        }
        Ok(jobs)
    }
}
