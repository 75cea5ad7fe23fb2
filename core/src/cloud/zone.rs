//! Which region a zone is in.

use std::collections::BTreeSet;

use crate::ids::RegionName;

/// The region whose name a zone's begins with, as `us-east-1a` and `us-east-1-bos-1a` do with `us-east-1`. The longest,
/// if there are several. What follows a region's name is never a digit: `us-east-11a` is not in `us-east-1`.
pub fn region_of(regions: &BTreeSet<RegionName>, zone: &str) -> Option<RegionName> {
    let holds = |region: &&RegionName| {
        let rest = zone.strip_prefix(region.as_str());
        rest.is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_digit()))
    };
    regions.iter().filter(holds).max_by_key(|region| region.as_str().len()).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zone_is_in_the_region_that_it_is_named_after() {
        let regions = ["us-east-1", "us-east-11", "us-west-2", "local"];
        let regions = regions.map(|name| RegionName::new(name).unwrap()).into();
        for (zone, region) in [
            ("us-east-1a", Some("us-east-1")),
            ("us-east-11a", Some("us-east-11")),
            ("us-east-1-bos-1a", Some("us-east-1")),
            ("us-west-2d", Some("us-west-2")),
            ("us-west-1a", None),
            ("local", Some("local")),
            ("", None),
        ] {
            let found = region_of(&regions, zone);
            assert_eq!(found.as_ref().map(RegionName::as_str), region, "{zone}");
        }
    }
}
