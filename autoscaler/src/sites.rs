//! Where each pool's offerings are bought, and what boots there.

use stoker_core::cloud::region_of;
use stoker_core::fleet::execute::{Site, Sites};
use stoker_core::fleet::{Fleet, Offering, Policy, Provider};
use stoker_core::ids::PoolName;

/// The sites of every pool that is scaled; empty without a provider. An offering in no region is left out, which a
/// checked fleet does not have.
pub fn sites(fleet: &Fleet) -> Sites {
    let Some(provider) = &fleet.provider else { return Sites::default() };
    let pools = Policy::of(fleet).pools.into_iter().map(|(pool, policy)| {
        let offerings = policy.scaling.offerings.iter();
        let sites = offerings
            .filter_map(|(name, offering)| Some((name.clone(), site(provider, &pool, offering)?)));
        let sites = sites.collect();
        (pool, sites)
    });
    pools.collect()
}

fn site(provider: &Provider, pool: &PoolName, offering: &Offering) -> Option<Site> {
    let region = region_of(&provider.regions(), &offering.zone)?;
    let template = match provider {
        Provider::Ec2(regions) => regions.get(&region)?.templates.get(pool)?.to_string(),
        // What runs here is the program that lies here.
        Provider::Local(_) => format!("local:{pool}"),
    };
    Some(Site { provider: provider.name().to_owned(), region: region.to_string(), template })
}

#[cfg(test)]
mod tests {
    use stoker_core::fleet::FleetSpec;
    use stoker_runtime::config::parse_toml;

    use super::*;

    fn sites_of(provider: &str, zone: &str) -> Vec<(String, String, String)> {
        let text = format!(
            "fleet = 'x'\n[classes.standard]\nmax-wait = '60s'\n[models.echo]\ntask = 'echo'\n[pools.default]\nmodels = ['echo']\n\
             [[pools.default.offerings]]\ninstance-type = 'g5'\nzone = '{zone}'\nprice = 1\n{provider}"
        );
        let fleet = parse_toml::<FleetSpec>(&text, "test").unwrap().check().unwrap();
        let sites = sites(&fleet).into_values().flat_map(std::collections::BTreeMap::into_values);
        sites.map(|site| (site.provider, site.region, site.template)).collect()
    }

    #[test]
    fn an_offering_is_bought_in_the_region_of_its_zone_from_its_pools_template() {
        let ec2 = "[provider.ec2.us-east-1]\nlaunch-templates.default = { id = 'lt-0a', version = '3' }\n";
        let found = sites_of(ec2, "us-east-1a");
        assert_eq!(found, [("ec2".into(), "us-east-1".into(), "lt-0a:3".into())]);
        let found = sites_of("[provider.local]\n", "local-a");
        assert_eq!(found, [("local".into(), "local".into(), "local:default".into())]);
        assert_eq!(sites_of("", "us-east-1a"), []);
    }
}
