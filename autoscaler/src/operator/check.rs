//! Whether what a fleet buys can be bought: rights, launch templates, types, zones and quotas.

use std::collections::BTreeMap;

use stoker_core::fleet::ledger::Quota;
use stoker_core::fleet::{Offering, Policy};
use stoker_core::ids::{OfferingName, PoolName, RegionName};

use crate::cloud::{CloudError, CloudProvider, Launch, LaunchToken};
use crate::market::wanted;

/// What was found, in sentences.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Checked {
    /// What is good to know.
    pub said: Vec<String>,
    /// What keeps offerings from being bought; empty if nothing is known to.
    pub problems: Vec<String>,
}

/// Asks the cloud about everything that a fleet buys. Nothing is launched, so what only a launch can tell stays open: whether
/// there is capacity, and the rights that EC2 looks at for each machine of a launch.
pub async fn check(cloud: &dyn CloudProvider, policy: &Policy) -> Checked {
    let mut checked = Checked::default();
    for region in cloud.regions() {
        let known = checked.problems.len();
        if let Err(error) = cloud.list(&region).await {
            checked.problems.push(format!("{region}: {error}"));
            continue;
        }
        checked.said.push(format!("machines can be listed in {region}"));
        match cloud.setup_problems(&region).await {
            Ok(found) => checked.problems.extend(found),
            Err(error) => checked.problems.push(format!("{region}: {error}")),
        }
        if let Err(error) = offerings(cloud, policy, &region, &mut checked.problems).await {
            checked.problems.push(format!("{region}: {error}"));
        }
        if checked.problems.len() == known {
            rehearse(cloud, policy, &region, &mut checked).await;
        }
        if let Some(types) = wanted(cloud, policy).get(&region) {
            match cloud.quotas(&region, types).await {
                Ok(quotas) => quotas.iter().for_each(|quota| quota_of(quota, &mut checked)),
                // A fleet works without this right: then a launch beyond a quota is tried, and refused.
                Err(error) => {
                    checked.said.push(format!("the quotas of {region} are not known: {error}"));
                }
            }
        }
    }
    checked.problems.sort();
    checked.problems.dedup();
    checked
}

/// What pools buy in a region.
fn of_region<'a>(
    cloud: &'a dyn CloudProvider,
    policy: &'a Policy,
    region: &'a RegionName,
) -> impl Iterator<Item = (&'a PoolName, &'a OfferingName, &'a Offering)> {
    let all = policy.pools.iter().flat_map(|(pool, of)| {
        of.scaling.offerings.iter().map(move |(name, offering)| (pool, name, offering))
    });
    all.filter(move |(_, _, offering)| cloud.region_of(&offering.zone).as_ref() == Some(region))
}

/// Launches of everything that is bought there, dry: whether the rights suffice. One for each pool, zone and capacity type,
/// since rights may differ by the machine's subnet and by whether it is spot, and hardly by its size.
async fn rehearse(
    cloud: &dyn CloudProvider,
    policy: &Policy,
    region: &RegionName,
    checked: &mut Checked,
) {
    let mut kinds = BTreeMap::new();
    for (pool, name, of) in of_region(cloud, policy, region) {
        kinds.entry((pool, &of.zone, of.capacity)).or_insert((name, of));
    }
    let (count, before) = (kinds.len(), checked.problems.len());
    // Under which nothing is launched.
    let token = LaunchToken::new("dry-run").expect("letters and a dash");
    for ((pool, zone, capacity), (name, offering)) in kinds {
        let launch = Launch {
            token: token.clone(),
            pool: pool.clone(),
            template: None,
            offerings: BTreeMap::from([(name.clone(), offering.clone())]),
            count: 1,
            tags: BTreeMap::new(),
        };
        if let Err(error) = cloud.rehearse(&launch).await {
            let kind = format!("{} in {zone}", capacity.as_str());
            checked.problems.push(format!("pool {pool}, {kind}: {error}"));
        }
    }
    if count > 0 && checked.problems.len() == before {
        checked.said.push(format!("launches may be asked for in {region}, by dry runs of {count}"));
    }
}

/// Which offerings of a region the cloud does not sell.
async fn offerings(
    cloud: &dyn CloudProvider,
    policy: &Policy,
    region: &RegionName,
    problems: &mut Vec<String>,
) -> Result<(), CloudError> {
    let types = of_region(cloud, policy, region).map(|(_, _, of)| of.instance_type.clone());
    let known = cloud.types(region, &types.collect()).await?;
    for (pool, _, offering) in of_region(cloud, policy, region) {
        let (name, zone) = (&offering.instance_type, &offering.zone);
        match known.get(name) {
            None => problems.push(format!("pool {pool}: {region} has no {name}")),
            Some(of) if !of.zones.is_empty() && !of.zones.contains(zone) => {
                problems.push(format!("pool {pool}: {zone} has no {name}"));
            }
            Some(_) => {}
        }
    }
    Ok(())
}

/// What a quota allows, and which types it does not allow at all.
fn quota_of(quota: &Quota, checked: &mut Checked) {
    let mut fit = Vec::new();
    for (name, units) in &quota.units {
        match quota.machines_of(name) {
            Some(0) => checked.problems.push(format!(
                "the account's quota ({quota}) does not allow one {name}, which takes {units}: ask the \
                 cloud for more"
            )),
            Some(machines) => fit.push(format!("{machines} of {name}")),
            None => {}
        }
    }
    if !fit.is_empty() {
        checked.said.push(format!("the account's quota ({quota}) allows {}", fit.join(" or ")));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;
    use std::time::Duration;

    use stoker_core::fleet::CapacityType;
    use stoker_core::ids::FleetName;
    use stoker_runtime::clock::SystemClock;

    use super::*;
    use crate::cloud::memory::{Fault, MemoryCloud, MemoryConfig};
    use crate::cloud::{ErrorClass, MachineType, Verb};

    const LISTED: &str = "machines can be listed in us-east-1";
    const ALLOWED: &str = "launches may be asked for in us-east-1, by dry runs of 1";

    /// What the fleet buys.
    const G5: &[&str] = &["g5"];

    /// A cloud that sells these types.
    fn cloud(types: &[&str]) -> MemoryCloud {
        let alike = MachineType {
            vcpus: 4,
            memory_mib: 16_384,
            gpus: Vec::new(),
            local_disk_gb: 0,
            spot: true,
            zones: BTreeSet::from(["us-east-1a".to_owned()]),
        };
        let config = MemoryConfig {
            regions: vec![RegionName::new("us-east-1").unwrap()],
            stock: BTreeMap::new(),
            types: types.iter().map(|name| ((*name).to_owned(), alike.clone())).collect(),
            quotas: BTreeMap::new(),
            boot: Duration::ZERO,
            stop: Duration::ZERO,
            lag: Duration::ZERO,
            seed: 1,
        };
        MemoryCloud::new(config, Arc::new(SystemClock::new()))
    }

    async fn found(cloud: &MemoryCloud) -> Checked {
        let text = "fleet = 'x'\n[classes.standard]\nmax-wait = '60s'\n[models.echo]\ntask = 'echo'\n[pools.default]\nmodels = ['echo']\n\
            [[pools.default.offerings]]\ninstance-type = 'g5'\nzone = 'us-east-1a'\nprice = 1\n";
        let spec: stoker_core::fleet::FleetSpec =
            stoker_runtime::config::parse_toml(text, "test").unwrap();
        let provider = cloud.provider(FleetName::new("x").unwrap());
        check(&provider, &Policy::of(&spec.check().unwrap())).await
    }

    #[tokio::test]
    async fn what_can_be_bought_has_no_problem() {
        let checked = found(&cloud(G5)).await;
        assert_eq!(
            checked,
            Checked { said: vec![LISTED.to_owned(), ALLOWED.to_owned()], problems: Vec::new() }
        );
    }

    #[tokio::test]
    async fn a_type_that_is_not_sold_is_a_problem() {
        assert_eq!(found(&cloud(&[])).await.problems, ["pool default: us-east-1 has no g5"]);
    }

    #[tokio::test]
    async fn what_machines_are_launched_from_is_looked_at_and_has_to_be_readable() {
        let cloud = cloud(G5);
        let no_template = "pool default: the launch template lt-1:3 is not there".to_owned();
        cloud.set_setup_problems(vec![no_template.clone()]);
        assert_eq!(found(&cloud).await.problems, [no_template]);
        cloud.fail_next(Verb::Setup, Fault::Refused(ErrorClass::Auth));
        let problems = found(&cloud).await.problems;
        let [unread] = &problems[..] else { panic!("{problems:?}") };
        assert!(unread.contains("read what machines are launched from"), "{unread}");
    }

    #[tokio::test]
    async fn a_launch_that_may_not_be_asked_for_is_a_problem_of_its_pool() {
        let cloud = cloud(G5);
        cloud.fail_next(Verb::Rehearse, Fault::Refused(ErrorClass::Auth));
        let checked = found(&cloud).await;
        let [denied] = &checked.problems[..] else { panic!("{checked:?}") };
        assert!(denied.starts_with("pool default, on-demand in us-east-1a: "), "{denied}");
        assert_eq!((checked.said, cloud.calls(Verb::Launch)), (vec![LISTED.to_owned()], 0));
    }

    #[tokio::test]
    async fn a_quota_is_said_and_one_that_allows_no_machine_is_a_problem() {
        let cloud = cloud(G5);
        cloud.set_quota(CapacityType::Spot, 0);
        cloud.set_quota(CapacityType::OnDemand, 5);
        let checked = found(&cloud).await;
        let allowed = "the account's quota (machines of on-demand in us-east-1: 5) allows 5 of g5";
        assert_eq!(checked.said, [LISTED, ALLOWED, allowed]);
        assert_eq!(checked.problems, Vec::<String>::new(), "no spot is bought");
        cloud.set_quota(CapacityType::OnDemand, 0);
        let none = "the account's quota (machines of on-demand in us-east-1: 0) does not allow one g5, \
                    which takes 1: ask the cloud for more";
        assert_eq!(found(&cloud).await.problems, [none]);
    }

    #[tokio::test]
    async fn quotas_that_may_not_be_read_are_no_problem() {
        let cloud = cloud(G5);
        cloud.fail_next(Verb::Quotas, Fault::Refused(ErrorClass::Auth));
        let checked = found(&cloud).await;
        assert_eq!(checked.problems, Vec::<String>::new());
        assert!(checked.said[2].contains("quotas of us-east-1 are not known"), "{checked:?}");
    }
}
