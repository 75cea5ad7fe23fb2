//! An instant fleet: how a launch asks for it, and what its answer says. No I/O.

use std::collections::{BTreeMap, BTreeSet};

use aws_sdk_ec2::operation::create_fleet::CreateFleetInput;
use aws_sdk_ec2::operation::create_fleet::CreateFleetOutput;
use aws_sdk_ec2::operation::create_fleet::builders::CreateFleetInputBuilder;
use aws_sdk_ec2::types::{
    CreateFleetError, CreateFleetInstance, DefaultTargetCapacityType,
    FleetLaunchTemplateConfigRequest, FleetLaunchTemplateOverrides,
    FleetLaunchTemplateOverridesRequest, FleetLaunchTemplateSpecificationRequest,
    FleetOnDemandAllocationStrategy, FleetType, InstanceType, OnDemandOptionsRequest, ResourceType,
    SpotAllocationStrategy, SpotOptionsRequest, Tag, TagSpecification,
    TargetCapacitySpecificationRequest,
};
use stoker_core::fleet::{CapacityType, Ec2Region, LaunchTemplate, Offering};
use stoker_core::ids::{InstanceName, OfferingName};
use stoker_core::time::Timestamp;

use super::codes::class_in_fleet;
use crate::cloud::error::{CloudError, ErrorClass, Verb};
use crate::cloud::machine::{Machine, MachineState};
use crate::cloud::request::{Launch, Launched, Refusal};

/// What a launch asks for.
pub(super) fn request(
    launch: &Launch,
    setup: &Ec2Region,
    capacity: CapacityType,
    tags: &BTreeMap<String, String>,
) -> Result<CreateFleetInputBuilder, CloudError> {
    let template = template(launch, setup)?;
    let named = FleetLaunchTemplateSpecificationRequest::builder().version(&template.version);
    let named = if template.id.starts_with("lt-") {
        named.launch_template_id(&template.id)
    } else {
        named.launch_template_name(&template.id)
    };
    let mut from =
        FleetLaunchTemplateConfigRequest::builder().launch_template_specification(named.build());
    for offering in launch.offerings.values() {
        from = from.overrides(overrides(offering, setup));
    }
    let count = i32::try_from(launch.count).unwrap_or(i32::MAX);
    let target = TargetCapacitySpecificationRequest::builder().total_target_capacity(count);
    let request = CreateFleetInput::builder()
        .r#type(FleetType::Instant)
        .client_token(launch.token.as_str())
        .launch_template_configs(from.build())
        .tag_specifications(tagged(ResourceType::Instance, tags))
        .tag_specifications(tagged(ResourceType::Volume, tags))
        .tag_specifications(tagged(ResourceType::NetworkInterface, tags));
    Ok(match capacity {
        CapacityType::Spot => {
            let cheap_and_lasting = SpotAllocationStrategy::PriceCapacityOptimized;
            let options = SpotOptionsRequest::builder().allocation_strategy(cheap_and_lasting);
            let target = target.default_target_capacity_type(DefaultTargetCapacityType::Spot);
            request.spot_options(options.build()).target_capacity_specification(target.build())
        }
        CapacityType::OnDemand => {
            let cheap = FleetOnDemandAllocationStrategy::LowestPrice;
            let options = OnDemandOptionsRequest::builder().allocation_strategy(cheap);
            let target = target.default_target_capacity_type(DefaultTargetCapacityType::OnDemand);
            request.on_demand_options(options.build()).target_capacity_specification(target.build())
        }
    })
}

/// A repetition has to be of the template of the first time, whatever the fleet file says by now. With other subnets it is
/// refused, and the machine of the first time is looked for.
fn template(launch: &Launch, setup: &Ec2Region) -> Result<LaunchTemplate, CloudError> {
    let invalid = |message: String| CloudError::new(ErrorClass::Invalid, Verb::Launch, message);
    let Some(named) = &launch.template else {
        let set_up = setup.templates.get(&launch.pool).cloned();
        return set_up.ok_or_else(|| {
            invalid(format!("the pool {} has no launch template in this region", launch.pool))
        });
    };
    LaunchTemplate::parse(named)
        .ok_or_else(|| invalid(format!("`{named}` is no launch template with its version")))
}

/// A subnet says in which zone it is; EC2 takes only one of the two together with a template's network.
fn overrides(offering: &Offering, setup: &Ec2Region) -> FleetLaunchTemplateOverridesRequest {
    let instance_type = InstanceType::from(offering.instance_type.as_str());
    let request = FleetLaunchTemplateOverridesRequest::builder().instance_type(instance_type);
    match setup.subnets.get(&offering.zone) {
        Some(subnet) => request.subnet_id(subnet).build(),
        None => request.availability_zone(&offering.zone).build(),
    }
}

fn tagged(what: ResourceType, tags: &BTreeMap<String, String>) -> TagSpecification {
    let tag = |(key, value): (&String, &String)| Tag::builder().key(key).value(value).build();
    TagSpecification::builder()
        .resource_type(what)
        .set_tags(Some(tags.iter().map(tag).collect()))
        .build()
}

/// A launch whose answer is read.
#[derive(Debug)]
pub(super) struct Order<'a> {
    pub(super) launch: &'a Launch,
    pub(super) setup: &'a Ec2Region,
    pub(super) capacity: CapacityType,
    pub(super) tags: &'a BTreeMap<String, String>,
    pub(super) now: Timestamp,
}

impl Order<'_> {
    /// What was launched, and why the rest was not.
    pub(super) fn read(&self, answer: &CreateFleetOutput) -> Launched {
        let machines: Vec<Machine> =
            answer.instances().iter().flat_map(|part| self.machines(part)).collect();
        if machines.len() >= usize::try_from(self.launch.count).unwrap_or(usize::MAX) {
            // Errors then are of offerings that others stood in for.
            return Launched { machines, refusals: Vec::new() };
        }
        let mut refusals = self.refusals(answer.errors());
        if refusals.is_empty() {
            let message = "EC2 launched fewer machines than it was asked for, and does not say why";
            let error = CloudError::new(ErrorClass::Capacity, Verb::Launch, message);
            refusals.push(Refusal { offerings: self.launch.offering_names(), error });
        }
        Launched { machines, refusals }
    }

    fn machines(&self, part: &CreateFleetInstance) -> Vec<Machine> {
        let overrides = part.launch_template_and_overrides().and_then(|both| both.overrides());
        let instance_type =
            part.instance_type().or_else(|| overrides.and_then(|o| o.instance_type()));
        let instance_type = instance_type.map_or("", InstanceType::as_str);
        let zone = part
            .availability_zone()
            .map(str::to_owned)
            .or_else(|| overrides.and_then(|overrides| self.zone(overrides)))
            .or_else(|| self.only_zone_of(instance_type))
            .unwrap_or_default();
        let names = part.instance_ids().iter().filter_map(|id| InstanceName::new(id).ok());
        let machine = |name| Machine {
            name,
            instance_type: instance_type.to_owned(),
            zone: zone.clone(),
            capacity: self.capacity,
            state: MachineState::Pending,
            launched_at: self.now,
            taken_back: false,
            tags: self.tags.clone(),
            price: None,
        };
        names.map(machine).collect()
    }

    fn zone(&self, overrides: &FleetLaunchTemplateOverrides) -> Option<String> {
        let subnet = overrides.subnet_id();
        let of_subnet = self.setup.subnets.iter().find(|(_, id)| Some(id.as_str()) == subnet);
        let named = overrides.availability_zone().map(str::to_owned);
        named.or_else(|| of_subnet.map(|(zone, _)| zone.clone()))
    }

    /// The zone that machines of a type are in, if the launch leaves no choice.
    fn only_zone_of(&self, instance_type: &str) -> Option<String> {
        let of_type = |offering: &&Offering| offering.instance_type == instance_type;
        let zones: BTreeSet<_> =
            self.launch.offerings.values().filter(of_type).map(|o| o.zone.clone()).collect();
        if zones.len() == 1 { zones.into_iter().next() } else { None }
    }

    /// One refusal for each code.
    fn refusals(&self, errors: &[CreateFleetError]) -> Vec<Refusal> {
        let mut by_code: BTreeMap<&str, Refusal> = BTreeMap::new();
        for error in errors {
            let code = error.error_code().unwrap_or_default();
            let refusal = by_code.entry(code).or_insert_with(|| {
                let message = error.error_message().unwrap_or("no reason given");
                let sorted = CloudError::new(class_in_fleet(code), Verb::Launch, message);
                Refusal { offerings: BTreeSet::new(), error: sorted.with_code(code) }
            });
            refusal.offerings.extend(self.offerings_of(error));
        }
        by_code.into_values().collect()
    }

    /// What an error is about: all of the launch, if it does not say.
    fn offerings_of(&self, error: &CreateFleetError) -> BTreeSet<OfferingName> {
        let all = || self.launch.offering_names();
        let overrides = error.launch_template_and_overrides().and_then(|both| both.overrides());
        let Some(overrides) = overrides else { return all() };
        let (instance_type, zone) = (overrides.instance_type(), self.zone(overrides));
        let meant = |offering: &Offering| {
            instance_type.is_none_or(|name| name.as_str() == offering.instance_type)
                && zone.as_ref().is_none_or(|zone| *zone == offering.zone)
        };
        let offerings = self.launch.offerings.iter().filter(|(_, offering)| meant(offering));
        let names: BTreeSet<_> = offerings.map(|(name, _)| name.clone()).collect();
        if names.is_empty() { all() } else { names }
    }
}
