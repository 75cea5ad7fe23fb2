//! Machines of Amazon EC2, through its SDK.
//!
//! A launch is one `CreateFleet` of the type `instant`: one synchronous try over the offerings of the launch, of which EC2
//! picks by price and by how likely it is to take them back. The autoscaler names one offering and one machine, so that
//! the choice is the planner's. What EC2 could not give stands in the errors of an answer that is a success.
//!
//! The SDK's own repetitions are turned off. They would try again where capacity is missing, hide that an outcome is
//! not known, and share one budget among all calls; `caller` repeats by class, each kind of call within its own budget,
//! and only where nothing was done. The SDK has no time limits either; each kind of call has one here.

mod caller;
mod codes;
mod config;
mod describe;
mod failure;
mod fleet;
mod quotas;
mod setup;
mod terminate;
mod wares;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use async_trait::async_trait;
use aws_config::{BehaviorVersion, Region};
use aws_sdk_ec2::Client;
use aws_sdk_ec2::config::retry::RetryConfig;
use aws_sdk_ec2::config::timeout::TimeoutConfig;
use aws_smithy_http_client::tls;
use stoker_core::fleet::ledger::Quota;
use stoker_core::fleet::{CapacityType, Ec2Region};
use stoker_core::ids::{FleetName, InstanceName, RegionName};
use stoker_core::time::Timestamp;
use stoker_runtime::clock::Clock;

use super::error::{CloudError, ErrorClass, Verb};
use super::machine::Machine;
use super::market::{MachineType, SpotPrice};
use super::owner;
use super::provider::{CloudProvider, Terminated};
use super::request::{Launch, Launched};
use caller::Caller;

pub use config::{Access, Ec2Config, Ec2Limits};

/// EC2 as one fleet sees it.
#[derive(Debug)]
pub struct Ec2 {
    fleet: FleetName,
    regions: BTreeMap<RegionName, Place>,
    names: BTreeSet<RegionName>,
    clock: Arc<dyn Clock>,
    page: i32,
}

/// A region, how to reach it, and what machines there are launched from.
#[derive(Debug)]
struct Place {
    caller: Caller,
    quotas: aws_sdk_servicequotas::Client,
    setup: Ec2Region,
}

impl Ec2 {
    /// Looks for credentials and makes a client for each region. Nothing is asked of EC2 yet.
    pub async fn connect(config: Ec2Config, clock: Arc<dyn Clock>) -> Self {
        let http = aws_smithy_http_client::Builder::new()
            .tls_provider(tls::Provider::Rustls(tls::rustls_provider::CryptoMode::Ring))
            .build_https();
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(config.limits.connect)
            .operation_attempt_timeout(config.limits.longest())
            .operation_timeout(config.limits.longest())
            .build();
        let mut loader = aws_config::defaults(BehaviorVersion::latest())
            .http_client(http)
            .timeout_config(timeouts)
            .retry_config(RetryConfig::disabled());
        if let Some(endpoint) = &config.endpoint {
            loader = loader.endpoint_url(endpoint);
        }
        if let Access::Fixed { key, secret } = &config.access {
            loader = loader.credentials_provider(aws_credential_types::Credentials::new(
                key.expose(),
                secret.expose(),
                None,
                None,
                "fixed",
            ));
        }
        // Each client has its region; this one only keeps the loader from looking for one.
        let names: BTreeSet<RegionName> = config.regions.keys().cloned().collect();
        if let Some(first) = names.first() {
            loader = loader.region(Region::new(first.to_string()));
        }
        let shared = loader.load().await;
        let place = |(name, setup): (RegionName, Ec2Region)| {
            let settings = aws_sdk_ec2::config::Builder::from(&shared)
                .region(Region::new(name.to_string()))
                .build();
            let client = Client::from_conf(settings);
            let caller = Caller::new(client, name.clone(), config.limits, Arc::clone(&clock));
            let settings = aws_sdk_servicequotas::config::Builder::from(&shared)
                .region(Region::new(name.to_string()))
                .build();
            let quotas = aws_sdk_servicequotas::Client::from_conf(settings);
            (name, Place { caller, quotas, setup })
        };
        let regions = config.regions.into_iter().map(place).collect();
        Self { fleet: config.fleet, regions, names, page: config.limits.page(), clock }
    }

    fn place(&self, region: &RegionName, verb: Verb) -> Result<&Place, CloudError> {
        self.regions.get(region).ok_or_else(|| {
            let message = format!("the region {region} is not configured");
            CloudError::new(ErrorClass::Invalid, verb, message)
        })
    }
}

#[async_trait]
impl CloudProvider for Ec2 {
    fn regions(&self) -> BTreeSet<RegionName> {
        self.names.clone()
    }

    fn region_of(&self, zone: &str) -> Option<RegionName> {
        stoker_core::cloud::region_of(&self.names, zone)
    }

    async fn launch(&self, launch: &Launch) -> Result<Launched, CloudError> {
        let (capacity, region) = launch.check(|zone| self.region_of(zone))?;
        let Place { caller, setup, .. } = self.place(&region, Verb::Launch)?;
        let tags = owner::tags(&self.fleet, &launch.pool, &launch.token, &launch.tags);
        let request = fleet::request(launch, setup, capacity, &tags)?;
        let answer =
            caller.call(Verb::Launch, || request.clone().send_with(caller.client())).await?;
        let order = fleet::Order { launch, setup, capacity, tags: &tags, now: self.clock.now() };
        Ok(order.read(&answer))
    }

    async fn rehearse(&self, launch: &Launch) -> Result<(), CloudError> {
        let (capacity, region) = launch.check(|zone| self.region_of(zone))?;
        let Place { caller, setup, .. } = self.place(&region, Verb::Rehearse)?;
        let tags = owner::tags(&self.fleet, &launch.pool, &launch.token, &launch.tags);
        let request = fleet::request(launch, setup, capacity, &tags)?.dry_run(true);
        let answer =
            caller.call(Verb::Rehearse, || request.clone().send_with(caller.client())).await;
        match answer {
            Err(error) if error.code.as_deref() == Some(codes::DRY_RUN) => Ok(()),
            Err(error) => Err(error),
            Ok(_) => {
                let message = "this endpoint carried a dry run out; end what it launched";
                Err(CloudError::new(ErrorClass::Invalid, Verb::Rehearse, message))
            }
        }
    }

    async fn list(&self, region: &RegionName) -> Result<Vec<Machine>, CloudError> {
        let place = self.place(region, Verb::List)?;
        describe::machines(&place.caller, &self.fleet, self.page).await
    }

    async fn terminate(
        &self,
        region: &RegionName,
        names: &BTreeSet<InstanceName>,
    ) -> BTreeMap<InstanceName, Result<Terminated, CloudError>> {
        match self.place(region, Verb::Terminate) {
            Ok(place) => terminate::machines(&place.caller, names).await,
            Err(error) => names.iter().map(|name| (name.clone(), Err(error.clone()))).collect(),
        }
    }

    async fn prices(
        &self,
        region: &RegionName,
        types: &BTreeSet<String>,
        since: Timestamp,
    ) -> Result<Vec<SpotPrice>, CloudError> {
        let place = self.place(region, Verb::Prices)?;
        wares::prices(&place.caller, types, since).await
    }

    async fn types(
        &self,
        region: &RegionName,
        types: &BTreeSet<String>,
    ) -> Result<BTreeMap<String, MachineType>, CloudError> {
        let place = self.place(region, Verb::Types)?;
        wares::types(&place.caller, types).await
    }

    async fn quotas(
        &self,
        region: &RegionName,
        types: &BTreeSet<(String, CapacityType)>,
    ) -> Result<Vec<Quota>, CloudError> {
        let Place { caller, quotas, .. } = self.place(region, Verb::Quotas)?;
        quotas::read((caller, quotas), region, types).await
    }

    async fn setup_problems(&self, region: &RegionName) -> Result<Vec<String>, CloudError> {
        let place = self.place(region, Verb::Setup)?;
        setup::problems(&place.caller, region, &place.setup).await
    }
}
