//! The cloud that a fleet file names.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use stoker_core::fleet::{Fleet, Local as LocalSettings, Policy, Provider};
use stoker_runtime::child::ChildPlan;
use stoker_runtime::clock::Clock;
use stoker_runtime::tasks::Tasks;

use crate::cloud::CloudProvider;
use crate::cloud::local::{Local, LocalConfig, LocalError};
use crate::config::Config;

/// Time that a local worker has to go when its machine is ended.
const LOCAL_GRACE: Duration = Duration::from_secs(30);
/// How long the last workers of this machine are waited for.
const LOCAL_END: Duration = Duration::from_secs(40);
/// Lists cost EC2's budget of calls, and the workers themselves say most of what is to be known.
#[cfg(feature = "ec2")]
const EC2_LIST_EVERY: Duration = Duration::from_secs(15);
const LOCAL_LIST_EVERY: Duration = Duration::from_secs(1);

/// A cloud, and how often it is looked at.
#[derive(Debug, Clone)]
pub struct Opened {
    pub cloud: Arc<dyn CloudProvider>,
    pub list_every: Duration,
    /// If it is this machine.
    pub local: Option<Arc<Local>>,
}

/// Why a cloud cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ProviderError {
    #[error("the fleet file does not say where machines are bought: add the table `provider`")]
    None,
    #[error("this machine cannot be used as a cloud")]
    Local(#[from] LocalError),
    #[error("cannot find this program's own folder, where the worker should be")]
    Folder(#[source] std::io::Error),
    #[error(
        "there is no worker at {}: build it, or name it with --worker or STOKER_WORKER",
        .0.display()
    )]
    NoWorker(PathBuf),
    #[error(
        "[provider.ec2] needs a build with the feature `ec2`: run `make build-ec2`, or \
         cargo build --release -p stoker-autoscaler --features ec2"
    )]
    NoEc2,
}

impl Opened {
    /// Opens what the configuration names. Of EC2 nothing is asked yet.
    pub async fn open(
        config: &Config,
        clock: &Arc<dyn Clock>,
        tasks: &Tasks,
    ) -> Result<Self, ProviderError> {
        match &config.fleet.provider {
            None => Err(ProviderError::None),
            Some(Provider::Local(settings)) => local(config, *settings, clock, tasks).await,
            #[cfg(feature = "ec2")]
            Some(Provider::Ec2(regions)) => {
                let cloud = ec2(config, regions.clone(), clock).await;
                Ok(Self { cloud, list_every: EC2_LIST_EVERY, local: None })
            }
            #[cfg(not(feature = "ec2"))]
            Some(Provider::Ec2(_)) => Err(ProviderError::NoEc2),
        }
    }

    /// Lets what runs on this machine go.
    pub async fn close(self) {
        if let Some(local) = self.local
            && let Err(left) = local.close(LOCAL_END).await
        {
            tracing::warn!(?left, "workers did not go in time");
        }
    }
}

async fn local(
    config: &Config,
    settings: LocalSettings,
    clock: &Arc<dyn Clock>,
    tasks: &Tasks,
) -> Result<Opened, ProviderError> {
    let beside = std::env::current_exe().map_err(ProviderError::Folder)?;
    let beside = beside.with_file_name("stoker-worker");
    let worker = config.worker.clone().unwrap_or(beside);
    if !worker.is_file() {
        return Err(ProviderError::NoWorker(worker));
    }
    let environment = config.worker_environment().map_err(ProviderError::Folder)?;
    let arguments = vec!["--exit-on-stdin-eof".into()];
    let config = LocalConfig {
        fleet: config.fleet.name.clone(),
        settings,
        offerings: offerings(&config.fleet),
        folder: config.machines.clone(),
        worker: ChildPlan { program: worker, arguments, environment },
        grace: LOCAL_GRACE,
        seed: rand::random(),
    };
    let local = Arc::new(Local::start(config, Arc::clone(clock), tasks).await?);
    let cloud = Arc::clone(&local) as Arc<dyn CloudProvider>;
    Ok(Opened { cloud, list_every: LOCAL_LIST_EVERY, local: Some(local) })
}

fn offerings(
    fleet: &Fleet,
) -> std::collections::BTreeMap<stoker_core::ids::OfferingName, stoker_core::fleet::Offering> {
    let pools = Policy::of(fleet).pools.into_values();
    pools.flat_map(|pool| pool.scaling.offerings).collect()
}

#[cfg(feature = "ec2")]
async fn ec2(
    config: &Config,
    regions: std::collections::BTreeMap<
        stoker_core::ids::RegionName,
        stoker_core::fleet::Ec2Region,
    >,
    clock: &Arc<dyn Clock>,
) -> Arc<dyn CloudProvider> {
    use crate::cloud::ec2::{Access, Ec2, Ec2Config, Ec2Limits};
    let config = Ec2Config {
        fleet: config.fleet.name.clone(),
        regions,
        endpoint: config.ec2_endpoint.clone(),
        access: Access::Found,
        limits: Ec2Limits::default(),
    };
    Arc::new(Ec2::connect(config, Arc::clone(clock)).await)
}
