//! Workers of this machine that are bought and given back as machines.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use stoker_core::fleet::CapacityType;
use stoker_core::fleet::ledger::{Ending, Entry, State};
use stoker_proto::v1::{FleetMode, JobState};
use stoker_tests::fleet::{Fleet, Options, PATIENCE, echo_fleet};
use stoker_tests::poll;

/// A fleet that scales between no machine and three. A boot is shorter than the wait that is allowed on any machine,
/// so that no idle machine is kept for a job that would be late.
fn scaled(name: &str, delay: &str, interruptions: &str) -> Options {
    let fleet = echo_fleet(name, delay).replace("max-wait = \"60s\"", "max-wait = \"20s\"")
        + &format!(
            r#"
[pools.default.scaling]
max = 3
boot = "2s"
[[pools.default.offerings]]
instance-type = "small"
zone = "local"
capacity = "spot"
price = 0.3
[[pools.default.offerings]]
instance-type = "small"
zone = "local"
price = 1.0
[provider.local]
boot = "200ms"
{interruptions}
"#
        );
    Options { fleet, ..Options::echo(name, delay) }
}

/// A machine is paid for a minute at least, and looked at a few times before it goes.
async fn until_machines(
    fleet: &Fleet,
    what: &str,
    holds: impl Fn(&[Entry]) -> bool,
) -> anyhow::Result<Vec<Entry>> {
    poll::until(what, PATIENCE * 3, || async {
        let machines = fleet.machines().await?;
        Ok(if holds(&machines) { Ok(machines) } else { Err(format!("{machines:#?}")) })
    })
    .await
}

fn open(machines: &[Entry]) -> usize {
    machines.iter().filter(|entry| entry.state.counts()).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn load_brings_machines_and_its_end_takes_them_away() -> anyhow::Result<()> {
    let fleet = Fleet::start(scaled("scaled", "20ms", "")).await?;
    let mut autoscaler = fleet.add_autoscaler("autoscaler", &[])?;
    let jobs = fleet.submit_many(40, 20).await?;
    fleet.all_succeed(&jobs).await?;
    let machines = until_machines(&fleet, "no machine", |machines| open(machines) == 0).await?;
    let worked = machines.iter().filter(|entry| entry.times.ready.is_some()).count();
    ensure!((1..=3).contains(&worked), "{machines:#?}");
    for entry in &machines {
        ensure!(entry.order.capacity == CapacityType::Spot, "spot is cheaper: {entry:#?}");
        // Nobody but us ended it.
        ensure!(
            matches!(entry.state, State::Gone { why: Ending::Terminated(_), .. }),
            "{entry:#?}"
        );
    }
    ensure!(autoscaler.ended()?.is_none(), "it goes on:\n{}", autoscaler.log_tail());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_is_taken_back_is_replaced_and_its_work_goes_on() -> anyhow::Result<()> {
    let taken = r#"interruptions = { every = "4s", notice = "2s" }"#;
    let fleet = Fleet::start(scaled("taken", "20ms", taken)).await?;
    let _autoscaler = fleet.add_autoscaler("autoscaler", &[])?;
    let jobs = fleet.submit_many(60, 40).await?;
    let interrupted = |machines: &[Entry]| {
        let why =
            |entry: &Entry| matches!(entry.state, State::Gone { why: Ending::Interrupted, .. });
        machines.iter().any(why)
    };
    until_machines(&fleet, "a machine that was taken back", interrupted).await?;
    for id in &jobs {
        let job = fleet.wait_for(id, &[JobState::Succeeded]).await?;
        ensure!((job.failures, job.crashes) == (0, 0), "{job:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn another_autoscaler_takes_over_and_no_job_is_lost() -> anyhow::Result<()> {
    let fleet = Fleet::start(scaled("followed", "20ms", "")).await?;
    let mut first = fleet.add_autoscaler("autoscaler-0", &[])?;
    let jobs = fleet.submit_many(60, 40).await?;
    until_machines(&fleet, "a worker", |machines| {
        machines.iter().any(|entry| entry.times.ready.is_some())
    })
    .await?;
    // Its workers end with it: they are of its machine.
    first.kill9();
    let _second = fleet.add_autoscaler("autoscaler-1", &[])?;
    for id in &jobs {
        fleet.wait_for(id, &[JobState::Succeeded]).await?;
    }
    until_machines(&fleet, "no machine", |machines| open(machines) == 0).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_switch_holds_drains_and_ends() -> anyhow::Result<()> {
    let fleet = Fleet::start(scaled("switched", "50ms", "")).await?;
    fleet.switch(FleetMode::Freeze).await?;
    let _autoscaler = fleet.add_autoscaler("autoscaler", &[])?;
    let jobs = fleet.submit_many(30, 40).await?;
    // A frozen fleet that does nothing can only be seen to do nothing for a while.
    tokio::time::sleep(Duration::from_secs(2)).await;
    ensure!(fleet.machines().await?.is_empty(), "nothing is bought while it is frozen");
    fleet.switch(FleetMode::Run).await?;
    until_machines(&fleet, "a worker", |machines| {
        machines.iter().any(|entry| entry.times.ready.is_some())
    })
    .await?;
    fleet.switch(FleetMode::Panic).await?;
    until_machines(&fleet, "no machine", |machines| open(machines) == 0).await?;
    fleet.switch(FleetMode::Run).await?;
    for id in &jobs {
        let job = fleet.wait_for(id, &[JobState::Succeeded]).await?;
        ensure!((job.failures, job.crashes) == (0, 0), "a panic costs no failure: {job:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_autoscaler_does_not_lead_the_ledger_of_another_fleet() -> anyhow::Result<()> {
    let theirs = Fleet::start(scaled("theirs", "20ms", "")).await?;
    let ours = Fleet::start(scaled("ours", "20ms", "")).await?;
    theirs.submit_many(10, 10).await?;
    let wrong = [("STOKER_COORDINATOR", &*theirs.address())];
    let autoscaler = ours.add_autoscaler("autoscaler", &wrong)?;
    poll::until("it to say so", PATIENCE, || async {
        let said = autoscaler.log_tail();
        Ok(if said.contains("runs the fleet `theirs`") { Ok(()) } else { Err(said) })
    })
    .await?;
    ensure!(
        theirs.machines().await?.is_empty(),
        "nothing is bought for a fleet that is not its own"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_ends_one_machine_and_no_work_is_lost() -> anyhow::Result<()> {
    let fleet = Fleet::start(scaled("ordered", "50ms", "")).await?;
    let _autoscaler = fleet.add_autoscaler("autoscaler", &[])?;
    let jobs = fleet.submit_many(30, 40).await?;
    let works = |entry: &Entry| matches!(entry.state, State::Ready { .. });
    let machines =
        until_machines(&fleet, "a worker", |machines| machines.iter().any(works)).await?;
    let named = machines.iter().find(|entry| works(entry)).context("a worker")?;
    // Frozen, the autoscaler ends nothing of its own, and this one all the same.
    fleet.switch(FleetMode::Freeze).await?;
    fleet.end_machine(named.id, PATIENCE).await?;
    let ordered = |entry: &Entry| {
        let how = &entry.state;
        matches!(how, State::Gone { why: Ending::Terminated(why), .. } if why.is_ordered())
    };
    let gone = |entry: &Entry| entry.id == named.id && ordered(entry);
    until_machines(&fleet, "its end", |machines| machines.iter().any(gone)).await?;
    fleet.switch(FleetMode::Run).await?;
    for id in &jobs {
        let job = fleet.wait_for(id, &[JobState::Succeeded]).await?;
        ensure!((job.failures, job.crashes, job.lost_workers) == (0, 0, 0), "{job:?}");
    }
    Ok(())
}
