//! A fleet of its own on the moto server that all tests share.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use async_trait::async_trait;
use stoker_autoscaler::cloud::contract::{Harness, Support};
use stoker_autoscaler::cloud::ec2::{Access, Ec2, Ec2Config, Ec2Limits};
use stoker_autoscaler::cloud::memory::Fault;
use stoker_autoscaler::cloud::{CloudProvider, ErrorClass, Launch, LaunchToken, Verb, owner};
use stoker_core::fleet::{CapacityType, Ec2Region, LaunchTemplate, Offering};
use stoker_core::ids::{FleetName, InstanceName, OfferingName, PoolName, RegionName};
use stoker_core::money::{HourlyPrice, Money};
use stoker_core::time::Timestamp;
use stoker_runtime::clock::{Clock as _, ManualClock, SystemClock};
use stoker_runtime::secret::Secret;
use stoker_test_ec2::{Ec2Proxy, MotoServer, Order};

pub(crate) const EAST: &str = "us-east-1";
pub(crate) const WEST: &str = "us-west-2";
const ZONES: [&str; 4] = ["us-east-1a", "us-east-1b", "us-west-2a", "us-west-2b"];

/// As small as EC2 allows, so that there are several.
const PAGE: u16 = 5;

pub(crate) struct Stage {
    pub(crate) ours: Ec2,
    theirs: Ec2,
    pub(crate) proxy: Ec2Proxy,
    moto: &'static MotoServer,
    fleet: String,
    regions: BTreeMap<RegionName, Ec2Region>,
}

impl Stage {
    pub(crate) async fn set() -> anyhow::Result<Self> {
        Self::with(Ec2Limits { page: PAGE, ..Ec2Limits::default() }).await
    }

    pub(crate) async fn with(limits: Ec2Limits) -> anyhow::Result<Self> {
        let moto = tokio::task::spawn_blocking(MotoServer::shared).await??;
        let name = format!("f{}", stoker_runtime::ids::event_id().as_uuid().simple());
        let (regions, name) = tokio::task::spawn_blocking(move || {
            Ok::<_, anyhow::Error>((regions(moto, &name)?, name))
        })
        .await??;
        let proxy = Ec2Proxy::start(moto.address()).await?;
        let endpoint = proxy.url();
        let ours = connect(&name, &regions, &endpoint, limits).await?;
        let theirs = connect("another", &regions, &endpoint, limits).await?;
        Ok(Self { ours, theirs, proxy, moto, fleet: name, regions })
    }

    /// The launch template of the fleet's pool.
    pub(crate) fn template(&self, region: &str) -> String {
        self.regions[&Self::region(region)].templates.values().next().expect("one pool").id.clone()
    }

    /// The subnet of one of the zones.
    pub(crate) fn subnet(&self, zone: &str) -> String {
        let all = self.regions.values().flat_map(|region| &region.subnets);
        all.into_iter().find(|(of, _)| *of == zone).expect("one of the zones").1.clone()
    }

    /// Another launch template in the east, of this image; its id.
    pub(crate) async fn make_template(&self, image: &'static str) -> anyhow::Result<String> {
        let (moto, name) = (self.moto, stoker_runtime::ids::event_id().to_string());
        let make = move || {
            let image = ("LaunchTemplateData.ImageId", image);
            moto.ask(EAST, "CreateLaunchTemplate", &[("LaunchTemplateName", &*name), image])
        };
        let answer = tokio::task::spawn_blocking(make).await??;
        between(&answer, "<launchTemplateId>").context("a template's id")
    }

    /// Starts a machine that has the fleet's tag, and no pool's.
    pub(crate) async fn run_coordinator(&self) -> anyhow::Result<()> {
        let (moto, fleet) = (self.moto, self.fleet.clone());
        let run = move || {
            let parameters = [
                ("ImageId", "ami-12c6146b"),
                ("InstanceType", "t3.micro"),
                ("MinCount", "1"),
                ("MaxCount", "1"),
                ("TagSpecification.1.ResourceType", "instance"),
                ("TagSpecification.1.Tag.1.Key", owner::FLEET),
                ("TagSpecification.1.Tag.1.Value", fleet.as_str()),
            ];
            moto.ask(EAST, "RunInstances", &parameters)
        };
        let answer = tokio::task::spawn_blocking(run).await??;
        anyhow::ensure!(answer.contains(&self.fleet), "it carries the fleet's tag: {answer}");
        Ok(())
    }

    /// Asks the server itself, about one machine.
    pub(crate) async fn change(
        &self,
        action: &'static str,
        name: &InstanceName,
        more: &'static [(&'static str, &'static str)],
    ) -> anyhow::Result<()> {
        let (moto, id) = (self.moto, name.to_string());
        let change = move || {
            let name =
                if action == "ModifyInstanceAttribute" { "InstanceId" } else { "InstanceId.1" };
            moto.ask(EAST, action, &[&[(name, id.as_str())], more].concat())
        };
        tokio::task::spawn_blocking(change).await??;
        Ok(())
    }

    pub(crate) fn launch(region: &str, count: u32) -> Launch {
        let mut offerings = offerings();
        offerings.retain(|_, offering| {
            offering.zone.starts_with(region) && offering.capacity == CapacityType::Spot
        });
        let token = stoker_runtime::ids::event_id().to_string();
        Launch {
            token: LaunchToken::new(&token).expect("a UUID is a token"),
            pool: PoolName::new("contract").expect("a valid name"),
            template: None,
            offerings,
            count,
            tags: BTreeMap::new(),
        }
    }

    pub(crate) fn region(name: &str) -> RegionName {
        RegionName::new(name).expect("a valid name")
    }
}

pub(crate) async fn connect(
    fleet: &str,
    regions: &BTreeMap<RegionName, Ec2Region>,
    endpoint: &str,
    limits: Ec2Limits,
) -> anyhow::Result<Ec2> {
    let config = Ec2Config {
        fleet: FleetName::new(fleet)?,
        regions: regions.clone(),
        endpoint: Some(endpoint.to_owned()),
        access: Access::Fixed { key: Secret::new("test"), secret: Secret::new("test") },
        limits,
    };
    // It stands still: what is left of a budget does not depend on how fast a test runs.
    let clock = ManualClock::new(SystemClock::new().now());
    Ok(Ec2::connect(config, Arc::new(clock)).await)
}

/// Both regions, with the launch template of the fleet's pool, and the subnets that moto has from the start.
fn regions(moto: &MotoServer, fleet: &str) -> anyhow::Result<BTreeMap<RegionName, Ec2Region>> {
    let mut regions = BTreeMap::new();
    for name in [EAST, WEST] {
        let template = moto.ask(
            name,
            "CreateLaunchTemplate",
            &[
                ("LaunchTemplateName", fleet),
                ("LaunchTemplateData.ImageId", "ami-12c6146b"),
                ("LaunchTemplateData.InstanceType", "t3.micro"),
            ],
        )?;
        let id = between(&template, "<launchTemplateId>").context("a template's id")?;
        let mut subnets = BTreeMap::new();
        for zone in ZONES.iter().filter(|zone| zone.starts_with(name)) {
            let filter = [("Filter.1.Name", "availability-zone"), ("Filter.1.Value.1", *zone)];
            let found = moto.ask(name, "DescribeSubnets", &filter)?;
            let subnet = between(&found, "<subnetId>").context("a default subnet")?;
            subnets.insert((*zone).to_owned(), subnet);
        }
        let template = LaunchTemplate { id, version: "1".to_owned() };
        let templates = BTreeMap::from([(PoolName::new("contract")?, template)]);
        regions.insert(RegionName::new(name)?, Ec2Region { templates, subnets });
    }
    Ok(regions)
}

/// What stands behind a tag.
fn between(text: &str, tag: &str) -> Option<String> {
    let (_, rest) = text.split_once(tag)?;
    rest.split_once('<').map(|(value, _)| value.to_owned())
}

fn offerings() -> BTreeMap<OfferingName, Offering> {
    let mut offerings = BTreeMap::new();
    for zone in ZONES {
        for (capacity, cents) in [(CapacityType::Spot, 40), (CapacityType::OnDemand, 100)] {
            let name = format!("g5.xlarge.{zone}.{}", capacity.as_str());
            let offering = Offering {
                instance_type: "g5.xlarge".to_owned(),
                zone: zone.to_owned(),
                capacity,
                price: HourlyPrice::new(Money::from_micros(cents * 10_000)),
                speed: 1.0,
                bulk_speed: 1.0,
            };
            offerings.insert(OfferingName::new(&name).expect("a valid name"), offering);
        }
    }
    offerings
}

pub(crate) const fn action(verb: Verb) -> &'static str {
    match verb {
        Verb::Launch | Verb::Rehearse => "CreateFleet",
        Verb::List => "DescribeInstances",
        Verb::Terminate => "TerminateInstances",
        Verb::Prices => "DescribeSpotPriceHistory",
        Verb::Types => "DescribeInstanceTypes",
        Verb::Setup => "DescribeLaunchTemplateVersions",
        Verb::Quotas => "GetServiceQuota",
    }
}

/// How EC2 says it.
fn order(fault: Fault) -> Order {
    let error = |status, code: &str| Order::Error { status, code: code.to_owned() };
    match fault {
        Fault::LostBefore => Order::CutBefore,
        Fault::LostAfter => Order::CutAfter,
        Fault::Refused(ErrorClass::Capacity) => error(500, "InsufficientInstanceCapacity"),
        Fault::Refused(ErrorClass::Quota) => error(400, "VcpuLimitExceeded"),
        Fault::Refused(ErrorClass::Throttle) => error(503, "RequestLimitExceeded"),
        Fault::Refused(ErrorClass::Auth) => error(403, "UnauthorizedOperation"),
        Fault::Refused(ErrorClass::Invalid) => error(400, "InvalidAMIID.NotFound"),
        Fault::Refused(ErrorClass::Transient) => error(503, "Unavailable"),
        Fault::Refused(ErrorClass::Unknown) => error(500, "InternalError"),
    }
}

#[async_trait]
impl Harness for Stage {
    fn cloud(&self) -> &dyn CloudProvider {
        &self.ours
    }

    fn stranger(&self) -> Option<&dyn CloudProvider> {
        Some(&self.theirs)
    }

    fn offerings(&self) -> BTreeMap<OfferingName, Offering> {
        let mut offerings = offerings();
        offerings.retain(|_, offering| offering.zone.starts_with(EAST));
        offerings
    }

    async fn leave(&self, count: u32) -> Support {
        let code = "InsufficientInstanceCapacity".to_owned();
        self.proxy.next(action(Verb::Launch), Order::Leave { count, code });
        Support::Done
    }

    async fn fail_next(&self, verb: Verb, fault: Fault) -> Support {
        self.proxy.next(action(verb), order(fault));
        Support::Done
    }

    async fn interrupt(&self, name: &InstanceName) -> Support {
        let (moto, name) = (self.moto, name.to_string());
        let end = move || moto.ask(EAST, "TerminateInstances", &[("InstanceId.1", &name)]);
        tokio::task::spawn_blocking(end).await.expect("no panic").expect("moto ends it");
        Support::ByHand
    }

    async fn pass(&self) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A time long ago.
pub(crate) const EPOCH: Timestamp = Timestamp::from_unix_millis(0);
