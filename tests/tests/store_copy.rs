//! A store is moved from `SQLite` to Postgres by the coordinator's own command, and nothing is lost.

use std::process::Command;

use anyhow::{Context as _, ensure};
use stoker_proto::v1::{JobState, SubmitRequest};
use stoker_tests::fleet::{Fleet, Options, PATIENCE, echo_job};
use stoker_tests::postgres::PostgresServer;
use stoker_tests::programs::program;

/// Runs `copy-store`; answers what it printed, or what it complained of.
fn copy(data: &std::path::Path, store: &str) -> anyhow::Result<Result<String, String>> {
    let output = Command::new(program("stoker-coordinator")?)
        .arg("--data")
        .arg(data)
        .arg("copy-store")
        .env("STOKER_STORE", store)
        .output()
        .context("running stoker-coordinator")?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let done = output.status.success();
    Ok(if done { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_is_moved_with_all_that_it_holds() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let data = folder.path().join("data");
    let url = PostgresServer::shared()?.database()?;
    let options = Options { data: Some(data.clone()), ..Options::echo("move", "0ms") };
    let mut fleet = Fleet::start(options.clone()).await?;
    let in_use = copy(&data, &url)?.expect_err("a coordinator uses the store");
    ensure!(in_use.contains("another coordinator uses it"), "{in_use}");
    fleet.add_worker()?;
    fleet.ready(1).await?;
    let done = fleet.submit(vec!["one".into(), "two".into()]).await?;
    fleet.wait_for(&done, &[JobState::Succeeded]).await?;
    fleet.worker(0).signal("TERM")?;
    fleet.worker(0).wait(PATIENCE).await?;
    let key = "the-same-call-again".to_owned();
    let job = || {
        let spec = stoker_proto::v1::JobSpec {
            idempotency_key: key.clone(),
            ..echo_job(vec!["three".to_owned()])
        };
        SubmitRequest { job: Some(spec) }
    };
    let waiting = fleet.jobs().await?.submit(job()).await?.into_inner().job_id;
    fleet.coordinator().signal("TERM")?;
    fleet.coordinator().wait(PATIENCE).await?;

    let copied = copy(&data, &url)?.map_err(anyhow::Error::msg)?;
    ensure!(copied.contains("copied 2 jobs and 1 parts of results"), "{copied}");
    let again = copy(&data, &url)?.expect_err("the database is not empty any more");
    ensure!(again.contains("holds jobs already"), "{again}");

    let mut fleet = Fleet::start(Options { store: Some(url.clone()), ..options }).await?;
    assert_eq!(fleet.job(&done).await?.state(), JobState::Succeeded);
    assert_eq!(fleet.echoed(&done).await?, ["one", "two"]);
    let repeated = fleet.jobs().await?.submit(job()).await?.into_inner().job_id;
    assert_eq!(repeated, waiting, "the idempotency key came along");
    fleet.add_worker()?;
    fleet.wait_for(&waiting, &[JobState::Succeeded]).await?;
    assert_eq!(fleet.echoed(&waiting).await?, ["three"]);
    let in_use = copy(&data, &url)?.expect_err("a coordinator uses the database");
    ensure!(in_use.contains("uses this database"), "{in_use}");
    Ok(())
}
