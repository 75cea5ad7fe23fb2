//! A fleet that asks those who change it for tokens.

use std::process::Output;

use anyhow::ensure;
use stoker_core::fleet::ledger::State;
use stoker_tests::fleet::{Fleet, Options, PATIENCE, echo_fleet};
use stoker_tests::poll;
use stoker_tests::programs::command;

const OPERATOR: &str = "0123456789abcdef-operator";
const AUTOSCALER: &str = "0123456789abcdef-autoscaler";

fn scaled() -> Options {
    let more = "[[pools.default.offerings]]\ninstance-type = 'small'\nzone = 'local'\nprice = 1.0\n\
                [provider.local]\nboot = '200ms'\n";
    Options { fleet: echo_fleet("guarded", "20ms") + more, ..Options::echo("guarded", "20ms") }
}

fn stoker(fleet: &Fleet, token: Option<&str>, arguments: &[&str]) -> anyhow::Result<Output> {
    let mut command = command("stoker")?;
    command.args(["--server", &fleet.address()]).args(arguments);
    command.envs(token.map(|token| ("STOKER_OPERATOR_TOKEN", token)));
    Ok(command.output()?)
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_decide_who_leads_and_who_operates() -> anyhow::Result<()> {
    let mut fleet = Fleet::start(scaled()).await?;
    fleet.coordinator().kill9();
    let tokens = [("STOKER_OPERATOR_TOKEN", OPERATOR), ("STOKER_AUTOSCALER_TOKEN", AUTOSCALER)];
    fleet.start_coordinator_with(&tokens).await?;
    let jobs = fleet.submit_many(4, 4).await?;

    // An operator's token leads no more than none does.
    let stranger = fleet.add_autoscaler("stranger", &[("STOKER_AUTOSCALER_TOKEN", OPERATOR)])?;
    poll::until("it to say what it lacks", PATIENCE, || async {
        let said = stranger.log_tail();
        Ok(if said.contains("--autoscaler-token-file") { Ok(()) } else { Err(said) })
    })
    .await?;
    ensure!(fleet.machines().await?.is_empty(), "nothing is bought by a stranger");
    drop(stranger);

    let freeze = ["fleet", "freeze", "--why", "drill", "--by", "ann"];
    for token in [None, Some(AUTOSCALER), Some(OPERATOR)] {
        let run = stoker(&fleet, token, &freeze)?;
        let told = String::from_utf8_lossy(&run.stderr);
        // The autoscaler's own tool panics with its token: it may set the switch.
        let expected = if token.is_none() { 5 } else { 0 };
        ensure!(run.status.code() == Some(expected), "{token:?}: {told}");
        ensure!(token.is_some() || told.contains("OPERATOR_TOKEN_WRONG"), "{told}");
        ensure!(!told.contains("0123456789abcdef"), "a token is repeated: {told}");
    }
    let thaw = ["fleet", "run", "--why", "the drill is over", "--by", "ann"];
    ensure!(stoker(&fleet, Some(OPERATOR), &thaw)?.status.success());

    let _leader = fleet.add_autoscaler("leader", &[("STOKER_AUTOSCALER_TOKEN", AUTOSCALER)])?;
    let ready = poll::until("a worker", PATIENCE, || async {
        let machines = fleet.machines().await?;
        let ready = machines.iter().find(|entry| matches!(entry.state, State::Ready { .. }));
        Ok(ready.map(|entry| entry.id.to_string()).ok_or_else(|| format!("{machines:#?}")))
    })
    .await?;
    fleet.all_succeed(&jobs).await?;
    let end = ["fleet", "terminate", &ready, "--why", "drill", "--by", "ann", "--yes", "--now"];
    ensure!(stoker(&fleet, Some(AUTOSCALER), &end)?.status.code() == Some(5), "no operator");
    ensure!(stoker(&fleet, Some(OPERATOR), &end)?.status.success());
    Ok(())
}
