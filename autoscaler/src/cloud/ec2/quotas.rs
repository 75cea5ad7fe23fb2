//! How much the account may have: the quotas on vCPUs, which AWS keeps by family of types, region and capacity type.

use std::collections::{BTreeMap, BTreeSet};

use aws_sdk_servicequotas::Client;
use aws_sdk_servicequotas::types::ServiceQuota;
use stoker_core::fleet::CapacityType;
use stoker_core::fleet::ledger::Quota;
use stoker_core::ids::RegionName;

use super::caller::Caller;
use super::wares;
use crate::cloud::error::{CloudError, Verb};

use CapacityType::{OnDemand, Spot};

/// The service that the quotas are of, in the words of Service Quotas.
const SERVICE: &str = "ec2";
/// What Service Quotas says of one that the region does not have.
const NONE: &str = "NoSuchResourceException";

/// A quota on vCPUs.
#[derive(Debug, PartialEq, Eq)]
struct Kind {
    code: &'static str,
    name: &'static str,
    capacity: CapacityType,
    /// Families that count towards it: `g` is any generation of it, `p4` that one.
    families: &'static [&'static str],
}

const STANDARD: &[&str] = &["a", "c", "d", "h", "i", "m", "r", "t", "z"];

/// As AWS lists them for EC2. A type of none of them is not bounded here, but by EC2 itself.
const KINDS: [Kind; 7] = [
    Kind {
        code: "L-DB2E81BA",
        name: "Running On-Demand G and VT instances",
        capacity: OnDemand,
        families: &["g", "gr", "vt"],
    },
    Kind {
        code: "L-417A185B",
        name: "Running On-Demand P instances",
        capacity: OnDemand,
        families: &["p"],
    },
    Kind {
        code: "L-1216C47A",
        name: "Running On-Demand Standard (A, C, D, H, I, M, R, T, Z) instances",
        capacity: OnDemand,
        families: STANDARD,
    },
    Kind {
        code: "L-3819A6DF",
        name: "All G and VT Spot Instance Requests",
        capacity: Spot,
        families: &["g", "gr", "vt"],
    },
    Kind {
        code: "L-7212CCBC",
        name: "All P4, P3 and P2 Spot Instance Requests",
        capacity: Spot,
        families: &["p2", "p3", "p4"],
    },
    Kind {
        code: "L-C4BD4855",
        name: "All P5 Spot Instance Requests",
        capacity: Spot,
        families: &["p5"],
    },
    Kind {
        code: "L-34B43A08",
        name: "All Standard (A, C, D, H, I, M, R, T, Z) Spot Instance Requests",
        capacity: Spot,
        families: STANDARD,
    },
];

/// The quotas that these types count towards.
pub(super) async fn read(
    (caller, client): (&Caller, &Client),
    region: &RegionName,
    types: &BTreeSet<(String, CapacityType)>,
) -> Result<Vec<Quota>, CloudError> {
    let wanted: BTreeSet<String> = types
        .iter()
        .filter(|(name, capacity)| kind_of(name, *capacity).is_some())
        .map(|(name, _)| name.clone())
        .collect();
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let vcpus = wares::vcpus(caller, Verb::Quotas, &wanted).await?;
    let mut quotas = Vec::new();
    for kind in &KINDS {
        let units: BTreeMap<String, u32> = types
            .iter()
            .filter(|(name, capacity)| kind_of(name, *capacity) == Some(kind))
            .filter_map(|(name, _)| Some((name.clone(), *vcpus.get(name)?)))
            .filter(|(_, units)| *units > 0)
            .collect();
        if units.is_empty() {
            continue;
        }
        if let Some(most) = value(caller, client, kind).await? {
            let name = format!("{}, {}", kind.name, kind.code);
            let (region, capacity) = (region.to_string(), kind.capacity);
            quotas.push(Quota { name, region, capacity, most, units });
        }
    }
    Ok(quotas)
}

/// How many vCPUs a quota allows; `None` if the region has no such quota.
async fn value(caller: &Caller, client: &Client, kind: &Kind) -> Result<Option<u32>, CloudError> {
    let get = || client.get_service_quota().service_code(SERVICE).quota_code(kind.code).send();
    match caller.call(Verb::Quotas, get).await {
        Ok(answer) => Ok(answer.quota().and_then(ServiceQuota::value).map(whole)),
        Err(error) if error.code.as_deref() == Some(NONE) => Ok(None),
        Err(error) => Err(error),
    }
}

/// A number of vCPUs, which AWS writes as one with a fraction.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "what is below nothing or beyond all bounds stays at the bound"
)]
fn whole(value: f64) -> u32 {
    value.floor() as u32
}

/// The quota that a type counts towards: by the letters that its name begins with, and the generation behind them.
fn kind_of(instance_type: &str, capacity: CapacityType) -> Option<&'static Kind> {
    let family = instance_type.split('.').next()?;
    let letters = family.len() - family.trim_start_matches(|c: char| c.is_ascii_lowercase()).len();
    let behind = &family[letters..];
    let digits = behind.len() - behind.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let names = [&family[..letters], &family[..letters + digits]];
    let is_of = |kind: &&Kind| {
        kind.capacity == capacity && kind.families.iter().any(|family| names.contains(family))
    };
    KINDS.iter().find(is_of)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_counts_towards_the_quota_of_its_family_and_capacity_type() {
        for (name, on_demand, spot) in [
            ("g5.xlarge", Some("L-DB2E81BA"), Some("L-3819A6DF")),
            ("g6e.12xlarge", Some("L-DB2E81BA"), Some("L-3819A6DF")),
            ("gr6.4xlarge", Some("L-DB2E81BA"), Some("L-3819A6DF")),
            ("vt1.3xlarge", Some("L-DB2E81BA"), Some("L-3819A6DF")),
            ("p4d.24xlarge", Some("L-417A185B"), Some("L-7212CCBC")),
            ("p5en.48xlarge", Some("L-417A185B"), Some("L-C4BD4855")),
            // Where AWS counts spot requests for it is not known here.
            ("p6-b200.48xlarge", Some("L-417A185B"), None),
            ("t3.micro", Some("L-1216C47A"), Some("L-34B43A08")),
            ("c7i.large", Some("L-1216C47A"), Some("L-34B43A08")),
            ("inf2.xlarge", None, None),
            ("trn1.2xlarge", None, None),
            ("u-6tb1.metal", None, None),
            ("", None, None),
            ("ä5.xlarge", None, None),
        ] {
            let code = |capacity| kind_of(name, capacity).map(|kind| kind.code);
            assert_eq!((code(OnDemand), code(Spot)), (on_demand, spot), "{name}");
        }
    }

    #[test]
    fn a_number_of_vcpus_is_whole_and_within_bounds() {
        let read = [0.0, 64.0, 5.9, -1.0, 1e12, f64::NAN].map(whole);
        assert_eq!(read, [0, 64, 5, 0, u32::MAX, 0]);
    }
}
