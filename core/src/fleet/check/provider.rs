//! Checks where machines are bought: that there is a place for every offering, and something to launch there.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use crate::cloud::region_of;
use crate::fleet::spec::{
    Ec2RegionSpec, FleetSpec, InterruptionsSpec, LaunchTemplateSpec, LocalSpec, ProviderSpec,
};
use crate::ids::{PoolName, RegionName};

use super::Problems;

/// Where machines are bought.
#[derive(Debug, Clone, PartialEq)]
pub enum Provider {
    /// At least one region.
    Ec2(BTreeMap<RegionName, Ec2Region>),
    Local(Local),
}

/// A region of EC2.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ec2Region {
    /// What machines are launched from; every pool that has an offering here is in it.
    pub templates: BTreeMap<PoolName, LaunchTemplate>,
    /// By zone. Empty: the account's own.
    pub subnets: BTreeMap<String, String>,
}

/// A launch template and its version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaunchTemplate {
    /// `lt-...`, or a name.
    pub id: String,
    /// Digits.
    pub version: String,
}

impl fmt::Display for LaunchTemplate {
    /// As a ledger has it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.id, self.version)
    }
}

impl LaunchTemplate {
    /// Reads what [`Display`](fmt::Display) writes; `None` if it is something else.
    pub fn parse(text: &str) -> Option<Self> {
        let (id, version) = text.rsplit_once(':')?;
        let numbered = !version.is_empty() && version.bytes().all(|byte| byte.is_ascii_digit());
        (numbered && !id.is_empty())
            .then(|| Self { id: id.to_owned(), version: version.to_owned() })
    }
}

/// Workers of this machine as machines.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Local {
    pub boot: Duration,
    /// Most of one offering; at least 1.
    pub capacity: u32,
    pub interruptions: Option<Interruptions>,
}

/// How spot workers are taken back.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interruptions {
    /// Mean time that one is left alone; above 0.
    pub every: Duration,
    pub notice: Duration,
    /// From 0 to 1.
    pub silent: f64,
}

impl Local {
    /// The region that all zones of a local fleet are in: `local`, `local-a` and so on.
    pub const REGION: &str = "local";

    pub const DEFAULT_BOOT: Duration = Duration::from_secs(5);
    pub const DEFAULT_CAPACITY: u32 = 8;
    pub const DEFAULT_NOTICE: Duration = Duration::from_mins(2);
}

impl Default for Local {
    fn default() -> Self {
        Self { boot: Self::DEFAULT_BOOT, capacity: Self::DEFAULT_CAPACITY, interruptions: None }
    }
}

impl Provider {
    /// Its name in ledgers, metrics and on screens.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Ec2(_) => "ec2",
            Self::Local(_) => "local",
        }
    }

    /// The regions that it can be asked in.
    pub fn regions(&self) -> BTreeSet<RegionName> {
        match self {
            Self::Ec2(regions) => regions.keys().cloned().collect(),
            Self::Local(_) => RegionName::new(Local::REGION).into_iter().collect(),
        }
    }
}

impl Problems {
    pub(super) fn provider(&mut self, spec: &FleetSpec) -> Option<Provider> {
        let provider = match spec.provider.as_ref()? {
            ProviderSpec { ec2: Some(regions), local: None } => Provider::Ec2(self.ec2(regions)?),
            ProviderSpec { ec2: None, local: Some(local) } => Provider::Local(self.local(local)),
            ProviderSpec { ec2: Some(_), local: Some(_) } => {
                self.add("provider", "has both `ec2` and `local`: keep one");
                return None;
            }
            ProviderSpec { ec2: None, local: None } => {
                self.add("provider", "is empty: add [provider.local] or [provider.ec2.us-east-1]");
                return None;
            }
        };
        for (pool, index, zone) in offerings(spec) {
            if let Some(message) = homeless(&provider, pool, zone) {
                self.add(format!("pools.{pool}.offerings[{index}].zone"), message);
            }
        }
        Some(provider)
    }

    fn ec2(
        &mut self,
        regions: &BTreeMap<RegionName, Ec2RegionSpec>,
    ) -> Option<BTreeMap<RegionName, Ec2Region>> {
        if regions.is_empty() {
            self.add("provider.ec2", "has no region: add one, such as [provider.ec2.us-east-1]");
            return None;
        }
        let mut checked = BTreeMap::new();
        for (name, region) in regions {
            let key = |field: &str| format!("provider.ec2.{name}.{field}");
            let mut templates = BTreeMap::new();
            for (pool, LaunchTemplateSpec { id, version }) in &region.launch_templates {
                let template = LaunchTemplate { id: id.clone(), version: version.clone() };
                if LaunchTemplate::parse(&template.to_string()).as_ref() != Some(&template) {
                    let message = "needs an id, such as \"lt-0123456789abcdef0\", and a version, \
                                   which is a number";
                    self.add(key(&format!("launch-templates.{pool}")), message);
                }
                templates.insert(pool.clone(), template);
            }
            for (zone, subnet) in &region.subnets {
                if region_of(&BTreeSet::from([name.clone()]), zone).is_none() {
                    self.add(key("subnets"), format!("`{zone}` is no zone of {name}"));
                }
                if !subnet.starts_with("subnet-") {
                    self.add(
                        key("subnets"),
                        format!("`{subnet}` is no subnet, such as subnet-0a1b"),
                    );
                }
            }
            checked.insert(name.clone(), Ec2Region { templates, subnets: region.subnets.clone() });
        }
        Some(checked)
    }

    fn local(&mut self, local: &LocalSpec) -> Local {
        let capacity = local.capacity.unwrap_or(Local::DEFAULT_CAPACITY);
        if capacity == 0 {
            self.add("provider.local.capacity", "must be at least 1");
        }
        let interruptions = local.interruptions.as_ref();
        Local {
            boot: local.boot.map_or(Local::DEFAULT_BOOT, Into::into),
            capacity,
            interruptions: interruptions.map(|written| self.interruptions(written)),
        }
    }

    fn interruptions(&mut self, written: &InterruptionsSpec) -> Interruptions {
        let key = |field: &str| format!("provider.local.interruptions.{field}");
        let (every, silent) = (written.every.get(), written.silent);
        if every < Duration::from_secs(1) {
            self.add(key("every"), "must be at least 1s");
        }
        if !(0.0..=1.0).contains(&silent) {
            self.add(key("silent"), format!("{silent} is not a fraction from 0 to 1"));
        }
        let notice = written.notice.map_or(Local::DEFAULT_NOTICE, Into::into);
        Interruptions { every, notice, silent }
    }
}

/// Pool, place in its list and zone of every offering.
fn offerings(spec: &FleetSpec) -> impl Iterator<Item = (&PoolName, usize, &str)> {
    spec.pools.iter().flat_map(|(name, pool)| {
        let offerings = pool.offerings.iter().enumerate();
        offerings.map(move |(index, offering)| (name, index, offering.zone.as_str()))
    })
}

/// Why nothing can be launched for a pool in a zone.
fn homeless(provider: &Provider, pool: &PoolName, zone: &str) -> Option<String> {
    let regions = provider.regions();
    let Some(region) = region_of(&regions, zone) else {
        let regions: Vec<_> = regions.iter().map(RegionName::as_str).collect();
        return Some(format!("`{zone}` is in no region of the provider: {}", regions.join(", ")));
    };
    let Provider::Ec2(places) = provider else { return None };
    let place = places.get(&region)?;
    if !place.templates.contains_key(pool) {
        return Some(format!(
            "there is nothing to launch: add [provider.ec2.{region}.launch-templates.{pool}]"
        ));
    }
    let no_subnet = !place.subnets.is_empty() && !place.subnets.contains_key(zone);
    no_subnet.then(|| format!("has no subnet: add `{zone}` to provider.ec2.{region}.subnets"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::Fleet;

    const FLEET: &str = r#"
        fleet = "f"
        classes.standard = { max-wait = "60s" }
        models.m = { task = "echo" }
        [pools.p]
        models = ["m"]
        [[pools.p.offerings]]
        instance-type = "g5.xlarge"
        zone = "us-east-1a"
        price = 1.0
    "#;

    const EC2: &str = r#"
        [provider.ec2.us-east-1]
        subnets = { us-east-1a = "subnet-0a" }
        launch-templates.p = { id = "lt-0b", version = "3" }
    "#;

    fn check(provider: &str) -> Result<Fleet, String> {
        let spec: FleetSpec =
            toml::from_str(&format!("{FLEET}{provider}")).map_err(|error| error.to_string())?;
        spec.check().map_err(|problems| {
            problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
        })
    }

    #[test]
    fn a_fleet_without_a_provider_buys_nothing() {
        assert_eq!(check("").unwrap().provider, None);
    }

    #[test]
    fn regions_are_read() {
        let Some(Provider::Ec2(regions)) = check(EC2).unwrap().provider else { panic!() };
        let (name, region) = regions.first_key_value().unwrap();
        assert_eq!(name.as_str(), "us-east-1");
        let template = region.templates.values().next().unwrap();
        assert_eq!((template.id.as_str(), template.version.as_str()), ("lt-0b", "3"));
        assert_eq!(region.subnets["us-east-1a"], "subnet-0a");
        let template = LaunchTemplate { id: "workers".into(), version: "12".into() };
        assert_eq!(LaunchTemplate::parse(&template.to_string()), Some(template));
        for text in ["", ":3", "lt-0b", "lt-0b:", "lt-0b:$Latest"] {
            assert_eq!(LaunchTemplate::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_local_cloud_is_read() {
        let local = |more: &str| {
            let fleet = format!("{FLEET}[provider.local]\n{more}");
            let spec: FleetSpec = toml::from_str(&fleet.replace("us-east-1a", "local-a")).unwrap();
            spec.check().unwrap().provider
        };
        assert_eq!(local(""), Some(Provider::Local(Local::default())));
        let more = "boot = \"2s\"\ncapacity = 3\n\
                    interruptions = { every = \"1m\", notice = \"10s\", silent = 0.5 }";
        let (every, notice) = (Duration::from_mins(1), Duration::from_secs(10));
        let interruptions = Some(Interruptions { every, notice, silent: 0.5 });
        let expected = Local { boot: Duration::from_secs(2), capacity: 3, interruptions };
        assert_eq!(local(more), Some(Provider::Local(expected)));
    }

    #[test]
    fn every_bad_value_is_named_with_its_key() {
        for (provider, said) in [
            ("[provider]", "provider: is empty"),
            ("[provider.ec2]", "provider.ec2: has no region"),
            ("[provider.local]\n[provider.ec2.us-east-1]", "provider: has both"),
            ("[provider.local]", "pools.p.offerings[0].zone: `us-east-1a` is in no region"),
            ("[provider.local]\ncapacity = 0", "provider.local.capacity"),
            ("[provider.local]\ninterruptions = { every = \"0s\" }", "interruptions.every"),
            (
                "[provider.local]\ninterruptions = { every = \"1m\", silent = 2 }",
                "interruptions.silent",
            ),
            ("[provider.gcp]", "gcp"),
            (&EC2.replace("us-east-1]", "us-west-2]"), "in no region of the provider: us-west-2"),
            (&EC2.replace("templates.p", "templates.q"), "launch-templates.p]"),
            (&EC2.replace("us-east-1a =", "us-east-1b ="), "has no subnet"),
            (&EC2.replace("us-east-1a =", "eu-west-1a ="), "is no zone of us-east-1"),
            (&EC2.replace("subnet-0a", "0a"), "is no subnet"),
            (&EC2.replace("lt-0b", ""), "needs an id"),
            (&EC2.replace("\"3\"", "\"$Latest\""), "a version, which is a number"),
        ] {
            let problems = check(provider).unwrap_err();
            assert!(problems.contains(said), "{provider}: {problems}");
        }
    }
}
