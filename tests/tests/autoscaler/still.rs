//! A leader that stands still while another takes over, and then goes on.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Context as _, ensure};
use stoker_proto::v1::FleetMode;
use stoker_tests::fleet::PATIENCE;
use stoker_tests::programs::Program;
use stoker_tests::{metrics, poll};

use crate::stage::Stage;

const MACHINES: usize = 10;
const LEADS: &str = "stoker_autoscaler_leader 1";
const FOLLOWS: &str = "stoker_autoscaler_leader 0";

/// Waits until an autoscaler says this in its metrics.
async fn until_says(autoscaler: &Program, what: &str) -> anyhow::Result<()> {
    poll::until(what, PATIENCE, || async {
        let metrics = metrics::read(served(autoscaler)?).await?;
        let said = metrics.lines().find(|line| line.starts_with("stoker_autoscaler_leader"));
        Ok(if said == Some(what) { Ok(()) } else { Err(format!("{said:?}")) })
    })
    .await
    .with_context(|| autoscaler.log_tail())
}

/// Where it serves its metrics, by its log.
fn served(autoscaler: &Program) -> anyhow::Result<SocketAddr> {
    let log = autoscaler.log();
    let line = log.lines().find(|line| line.contains("metrics are served"));
    let port = line.and_then(|line| line.split("127.0.0.1:").nth(1)).unwrap_or_default();
    let port: String = port.chars().take_while(char::is_ascii_digit).collect();
    Ok((Ipv4Addr::LOCALHOST, port.parse::<u16>()?).into())
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
