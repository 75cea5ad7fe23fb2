//! A fleet of machines of a server that looks like EC2, and jobs for more of them than it may have.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use stoker_core::fleet::ledger::{Entry, State, StateKind};
use stoker_core::ids::InstanceName;
use stoker_test_ec2::{Ec2Proxy, MotoServer};
use stoker_tests::fleet::{Fleet, Options, PATIENCE, StandIn, echo_fleet};
use stoker_tests::poll;
use stoker_tests::programs::Program;

const REGION: &str = "us-east-1";
/// Calls of a thousand jobs: more than so many machines would do in time.
const CALLS: usize = 6;
/// A call that may have been made is asked after, and repeated a minute later.
pub(crate) const DOUBT: Duration = Duration::from_mins(3);

pub(crate) struct Stage {
    pub(crate) fleet: Fleet,
    moto: &'static MotoServer,
    proxy: Ec2Proxy,
    name: String,
    most: usize,
}

impl Stage {
    /// A fleet of up to `most` machines, and jobs for more.
    pub(crate) async fn set(most: usize) -> anyhow::Result<Self> {
        let moto = tokio::task::spawn_blocking(MotoServer::shared).await??;
        let name = format!("f{}", stoker_runtime::ids::event_id().as_uuid().simple());
        let template = name.clone();
        let create = move || {
            let parameters = [
                ("LaunchTemplateName", template.as_str()),
                ("LaunchTemplateData.ImageId", "ami-12c6146b"),
                ("LaunchTemplateData.InstanceType", "t3.micro"),
            ];
            moto.ask(REGION, "CreateLaunchTemplate", &parameters)
        };
        tokio::task::spawn_blocking(create).await??;
        let proxy = Ec2Proxy::start(moto.address()).await?;
        let text = echo_fleet(&name, "20ms").replace("max-wait = \"60s\"", "max-wait = \"10s\"")
            + &format!(
                r#"
[pools.default.scaling]
max = {most}
[[pools.default.offerings]]
instance-type = "t3.micro"
zone = "us-east-1a"
price = 1.0
[provider.ec2.us-east-1]
launch-templates.default = {{ id = "{name}", version = "1" }}
"#
            );
        let fleet = Fleet::start(Options { fleet: text, ..Options::echo(&name, "20ms") }).await?;
        // Nobody runs them: moto's machines have no workers. They wait, and machines are bought for them.
        for _ in 0..CALLS {
            fleet.submit_many(1_000, 1).await?;
        }
        Ok(Self { fleet, moto, proxy, name, most })
    }

    pub(crate) fn autoscaler(&self, name: &str, point: Option<&str>) -> anyhow::Result<Program> {
        let endpoint = self.proxy.url();
        let mut environment = vec![
            ("STOKER_EC2_ENDPOINT", endpoint.as_str()),
            ("AWS_ACCESS_KEY_ID", "test"),
            ("AWS_SECRET_ACCESS_KEY", "test"),
            ("AWS_EC2_METADATA_DISABLED", "true"),
        ];
        environment.extend(point.map(|point| ("STOKER_CRASH_POINT", point)));
        self.fleet.add_autoscaler(name, &environment)
    }

    /// Calls for machines so far.
    pub(crate) fn launches(&self) -> usize {
        self.proxy.calls("CreateFleet")
    }

    /// The fleet's machines at the server, by the launch that made them: all that ever were, and how many run.
    pub(crate) async fn real(&self) -> anyhow::Result<(BTreeMap<String, usize>, usize)> {
        let (moto, name) = (self.moto, self.name.clone());
        let ask = move || {
            let ours = [("Filter.1.Name", "tag:stoker:fleet"), ("Filter.1.Value.1", &*name)];
            let up = [
                ("Filter.2.Name", "instance-state-name"),
                ("Filter.2.Value.1", "pending"),
                ("Filter.2.Value.2", "running"),
            ];
            let all = moto.ask(REGION, "DescribeInstances", &ours)?;
            anyhow::Ok((all, moto.ask(REGION, "DescribeInstances", &[&ours[..], &up].concat())?))
        };
        let (all, up) = tokio::task::spawn_blocking(ask).await??;
        Ok((by_launch(&all)?, by_launch(&up)?.values().sum()))
    }

    /// The ledger, which has every launch of the server, each of one machine.
    pub(crate) async fn known_once(
        &self,
        launches: &BTreeMap<String, usize>,
    ) -> anyhow::Result<Vec<Entry>> {
        ensure!(launches.values().all(|machines| *machines == 1), "bought twice: {launches:?}");
        let machines = self.fleet.machines().await?;
        let known: BTreeSet<String> = machines.iter().map(|entry| entry.id.to_string()).collect();
        for launch in launches.keys() {
            ensure!(known.contains(launch), "{launch} stands in no entry");
        }
        Ok(machines)
    }

    /// Waits for so many machines that run; there are never more than the fleet may have.
    pub(crate) async fn until_running(&self, count: usize) -> anyhow::Result<()> {
        let seen = poll::until("machines", DOUBT, || async {
            let (_, running) = self.real().await?;
            let done = running == count || running > self.most;
            Ok(if done { Ok(running) } else { Err(format!("{running} run")) })
        })
        .await?;
        ensure!(seen == count, "{seen} machines run at once");
        Ok(())
    }

    /// Waits until none runs and the ledger knows it. All launches that ever were.
    pub(crate) async fn until_gone(&self) -> anyhow::Result<BTreeMap<String, usize>> {
        self.until_running(0).await?;
        poll::until("the ledger to know it", PATIENCE, || async {
            let machines = self.fleet.machines().await?;
            let open = machines.iter().filter(|entry| entry.state.counts()).count();
            Ok(if open == 0 { Ok(()) } else { Err(format!("{open} are open")) })
        })
        .await?;
        let (launches, running) = self.real().await?;
        ensure!(running == 0, "{running} run");
        Ok(launches)
    }

    /// Puts a worker on each of so many machines, and waits until the ledger has them as ready.
    pub(crate) async fn staff(&self, count: usize) -> anyhow::Result<Vec<StandIn>> {
        let launched = |entry: &Entry| match &entry.state {
            State::Launched { instance } => Some(instance.clone()),
            _ => None,
        };
        let machines = poll::until("machines in the ledger", DOUBT, || async {
            let machines: BTreeSet<InstanceName> =
                self.fleet.machines().await?.iter().filter_map(launched).collect();
            let found = machines.len();
            Ok(if found == count { Ok(machines) } else { Err(format!("{found} are there")) })
        })
        .await?;
        let mut workers = Vec::new();
        for machine in machines {
            workers.push(self.fleet.add_stand_in(machine.as_str(), "").await?);
        }
        poll::until("ready machines in the ledger", PATIENCE, || async {
            let states = self.fleet.machines_by_state().await?;
            let ready = states.get(&StateKind::Ready).copied().unwrap_or_default();
            Ok(if ready == count { Ok(()) } else { Err(format!("{states:?}")) })
        })
        .await?;
        Ok(workers)
    }

    /// Autoscalers die one after the other, each at its point; then one lives.
    pub(crate) async fn die_at(&self, points: &[&str], way: &str) -> anyhow::Result<Program> {
        for (number, point) in points.iter().enumerate() {
            let mut autoscaler = self.autoscaler(&format!("{way}-{number}"), Some(point))?;
            let seen = poll::until(&format!("the death at {point}"), DOUBT, || {
                let ended = autoscaler.ended();
                async move {
                    let (_, running) = self.real().await?;
                    let done = ended?.is_some() || running > self.most;
                    Ok(if done { Ok(running) } else { Err(format!("it lives; {running} run")) })
                }
            })
            .await
            .with_context(|| autoscaler.log_tail())?;
            ensure!(seen <= self.most, "{seen} machines run at once");
        }
        self.autoscaler(&format!("{way}-last"), None)
    }
}

/// How many machines of an answer have which launch.
fn by_launch(answer: &str) -> anyhow::Result<BTreeMap<String, usize>> {
    let mut launches = BTreeMap::new();
    for tag in answer.split("<key>stoker:launch</key>").skip(1) {
        let value = tag.split("<value>").nth(1).and_then(|rest| rest.split("</value>").next());
        let launch = value.context("a tag without its value")?;
        *launches.entry(launch.to_owned()).or_default() += 1;
    }
    Ok(launches)
}
