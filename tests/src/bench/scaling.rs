//! How soon the autoscaler acts, looking once a second as it does by default.

use std::time::Instant;

use serde_json::{Value, json};
use stoker_core::fleet::ledger::Entry;
use stoker_proto::v1::{CloudNoticeKind, ListWorkersRequest};

use crate::fleet::{Fleet, Options, PATIENCE};
use crate::poll;

use super::sample::{Sample, round};

const FLEET: &str = r#"
fleet = "bench-scaling"
[classes.standard]
max-wait = "10s"
[models.echo]
task = "echo"
delay = "100ms"
[pools.default]
models = ["echo"]
[pools.default.scaling]
max = 12
boot = "2s"
[[pools.default.offerings]]
instance-type = "small"
zone = "local"
capacity = "spot"
price = 0.3
[provider.local]
boot = "100ms"
capacity = 12
interruptions = { every = "5s", notice = "30s" }
"#;

/// Measures from the acceptance of a load where there was none to the call that asks for a machine, and from the moment
/// that the coordinator knows of an interruption to the call for its replacement.
///
/// # Errors
/// When something does not happen at all.
pub async fn run(rounds: u32) -> anyhow::Result<Value> {
    let (mut load, mut notice) = (Sample::new(), Sample::new());
    for _ in 0..rounds {
        let options =
            Options { fleet: FLEET.to_owned(), ..Options::echo("bench-scaling", "100ms") };
        let fleet = Fleet::start(options).await?;
        let usual = [("STOKER_INTERVAL", "1s"), ("STOKER_TERM", "10s")];
        let _autoscaler = fleet.add_autoscaler("autoscaler", &usual)?;
        leads(&fleet).await?;
        // Still there when the first machine is taken back, and too little for as many machines as there may be.
        fleet.submit_many(4, 400).await?;
        let began = Instant::now();
        asked(&fleet, 0).await?;
        load.note(began);
        noticed(&fleet).await?;
        let began = Instant::now();
        let before = requested(&fleet.machines().await?);
        asked(&fleet, before).await?;
        notice.note(began);
    }
    let of = |sample: &Sample| {
        json!({
            "count": sample.count(),
            "p50_seconds": round(sample.millis(0.5) / 1e3, 2),
            "max_seconds": round(sample.millis(1.0) / 1e3, 2),
        })
    };
    Ok(json!({ "load_to_launch": of(&load), "notice_to_replacement": of(&notice) }))
}

fn requested(machines: &[Entry]) -> usize {
    machines.iter().filter(|entry| entry.times.requested.is_some()).count()
}

/// Until more than `before` machines were asked for.
async fn asked(fleet: &Fleet, before: usize) -> anyhow::Result<()> {
    poll::until("a launch", PATIENCE, || async {
        let now = requested(&fleet.machines().await?);
        Ok(if now > before { Ok(()) } else { Err(format!("{now} were asked for")) })
    })
    .await
}

/// Until the autoscaler has looked at a fleet without work: its account is written then.
async fn leads(fleet: &Fleet) -> anyhow::Result<()> {
    poll::until("the lead", PATIENCE, || async {
        let request = stoker_proto::v1::ReadLedgerRequest::default();
        let answer = fleet.fleet_calls().await?.read_ledger(request).await?.into_inner();
        let account: stoker_core::fleet::ledger::Account = serde_json::from_slice(&answer.account)?;
        Ok(if account.version > 0 { Ok(()) } else { Err("nobody leads".to_owned()) })
    })
    .await
}

async fn noticed(fleet: &Fleet) -> anyhow::Result<()> {
    poll::until("a notice", PATIENCE, || async {
        let listed = fleet.admin().await?.list_workers(ListWorkersRequest {}).await?.into_inner();
        let notice =
            |worker: &stoker_proto::v1::Worker| worker.notice() == CloudNoticeKind::Interruption;
        let noticed = listed.workers.iter().any(notice);
        Ok(if noticed { Ok(()) } else { Err(format!("{} workers", listed.workers.len())) })
    })
    .await
}
