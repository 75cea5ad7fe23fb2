//! To many machines of EC2 and back, while autoscalers die at every point.

use anyhow::ensure;
use stoker_core::fleet::ledger::{Ending, Leave, State, Times};
use stoker_proto::v1::FleetMode;

use crate::stage::Stage;

const MACHINES: usize = 50;

/// Where autoscalers die on the way up: before anything is bought, and in the midst of it.
const UP: [&str; 2] = ["ledger.before", "launch.after@10"];
/// Where they leave launches that stand in the ledger and were not made, and where the next ones die that look for them.
const IN_DOUBT: [&str; 4] = ["ledger.after", "launch.before@3", "resolve.before", "resolve.after"];
/// Where they die on the way down.
const DOWN: [&str; 6] = [
    "ledger.before",
    "ledger.after",
    "drain.before",
    "drain.after",
    "terminate.before",
    "terminate.after",
];

#[tokio::test(flavor = "multi_thread")]
async fn no_machine_is_orphaned_or_bought_twice_wherever_an_autoscaler_dies() -> anyhow::Result<()>
{
    let stage = Stage::set(MACHINES).await?;
    let living = stage.die_at(&UP, "up").await?;
    stage.until_running(MACHINES).await?;
    // With workers on them, they have to be drained before they end.
    let _workers = stage.staff(MACHINES).await?;
    drop(living);

    stage.fleet.switch(FleetMode::Drain).await?;
    let _living = stage.die_at(&DOWN, "down").await?;
    let launches = stage.until_gone().await?;
    let machines = stage.known_once(&launches).await?;
    let drained = machines.iter().filter(|entry| {
        let State::Gone { why, .. } = &entry.state else { return false };
        entry.times.draining.is_some() && *why == Ending::Terminated(Leave::DrainSwitch)
    });
    let drained = drained.count();
    ensure!(drained == MACHINES, "{drained} of {MACHINES} were drained: {machines:#?}");
    let there = machines.iter().filter(|entry| matches!(entry.state, State::Gone { .. })).count();
    ensure!(there == launches.len(), "{there} of {} machines were known", launches.len());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_launch_in_doubt_is_asked_for_again_and_made_once() -> anyhow::Result<()> {
    let most = 10;
    let stage = Stage::set(most).await?;
    let _living = stage.die_at(&IN_DOUBT, "doubt").await?;
    stage.until_running(most).await?;
    let (launches, _) = stage.real().await?;
    let machines = stage.known_once(&launches).await?;
    let again = machines.iter().filter(|entry| {
        let Times { requested, asked, .. } = entry.times;
        asked > requested
    });
    ensure!(again.count() > 0, "nothing was asked for again: {machines:#?}");
    stage.fleet.switch(FleetMode::Panic).await?;
    let ended = stage.until_gone().await?;
    ensure!(ended == launches, "bought since: {ended:?}");
    Ok(())
}
