//! A leader that stands still while another takes over, and then goes on.

use anyhow::{Context as _, ensure};
use stoker_proto::v1::FleetMode;
use stoker_tests::fleet::PATIENCE;
use stoker_tests::poll;
use stoker_tests::programs::Program;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::stage::Stage;

const MACHINES: usize = 10;
const LEADS: &str = "stoker_autoscaler_leader 1";
const FOLLOWS: &str = "stoker_autoscaler_leader 0";

/// Waits until an autoscaler says this in its metrics.
async fn until_says(autoscaler: &Program, what: &str) -> anyhow::Result<()> {
    poll::until(what, PATIENCE, || async {
        let metrics = metrics(autoscaler).await?;
        let said = metrics.lines().find(|line| line.starts_with("stoker_autoscaler_leader"));
        Ok(if said == Some(what) { Ok(()) } else { Err(format!("{said:?}")) })
    })
    .await
    .with_context(|| autoscaler.log_tail())
}

async fn metrics(autoscaler: &Program) -> anyhow::Result<String> {
    let log = autoscaler.log();
    let line = log.lines().find(|line| line.contains("metrics are served"));
    let address = line.and_then(|line| line.split("127.0.0.1:").nth(1));
    let port: String =
        address.unwrap_or_default().chars().take_while(char::is_ascii_digit).collect();
    let mut stream = TcpStream::connect(format!("127.0.0.1:{port}")).await?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: stoker\r\nconnection: close\r\n\r\n").await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

/// P8 and P9: what it had in mind is of a time that is over.
#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_stood_still_and_goes_on_changes_nothing() -> anyhow::Result<()> {
    let stage = Stage::set(MACHINES).await?;
    let mut first = stage.autoscaler("first", None)?;
    poll::until("a launch", PATIENCE, || async {
        let calls = stage.launches();
        Ok(if calls > 0 { Ok(()) } else { Err(format!("{calls} calls")) })
    })
    .await
    .with_context(|| first.log_tail())?;
    // In the midst of buying, with a plan in mind and calls on their way.
    first.signal("STOP")?;
    let second = stage.autoscaler("second", None)?;
    until_says(&second, LEADS).await?;
    stage.until_running(MACHINES).await?;
    let (bought, _) = stage.real().await?;
    stage.known_once(&bought).await?;
    // From now on what the first had in mind is wrong.
    stage.fleet.switch(FleetMode::Panic).await?;
    let before = stage.until_gone().await?;
    ensure!(before == bought, "bought since: {before:?}");
    let written = stage.fleet.machines().await?;

    first.signal("CONT")?;
    until_says(&first, FOLLOWS).await?;
    // It waits for its calls before it ends: then whatever it was about to do is done.
    first.signal("TERM")?;
    let status = first.wait(PATIENCE).await?;
    ensure!(status.success(), "{status}: {}", first.log_tail());
    let (after, running) = stage.real().await?;
    ensure!((after == before, running) == (true, 0), "{running} run: {after:?}");
    let unchanged = stage.fleet.machines().await? == written;
    ensure!(unchanged, "the ledger was written by a leader of the past");
    until_says(&second, LEADS).await?;
    Ok(())
}
