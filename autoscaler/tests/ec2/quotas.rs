//! What the account may have, as Service Quotas says it. moto knows no quota of EC2, so the proxy answers.

use std::collections::{BTreeMap, BTreeSet};

use stoker_autoscaler::cloud::{CloudProvider as _, ErrorClass};
use stoker_core::fleet::CapacityType::{self, OnDemand, Spot};
use stoker_test_ec2::Order;

use crate::stage::{EAST, Stage};

fn types(named: &[(&str, CapacityType)]) -> BTreeSet<(String, CapacityType)> {
    named.iter().map(|(name, capacity)| ((*name).to_owned(), *capacity)).collect()
}

fn answer(value: &str) -> Order {
    Order::Answer(format!(r#"{{"Quota":{{"ServiceCode":"ec2","Value":{value}}}}}"#))
}

fn refusal(status: u16, code: &str) -> Order {
    Order::Error { status, code: code.to_owned() }
}

#[tokio::test(flavor = "multi_thread")]
async fn types_of_a_family_share_a_quota_on_vcpus_and_capacity_types_have_their_own() {
    let stage = Stage::set().await.unwrap();
    // In the order in which they are asked for: on demand first.
    stage.proxy.next("GetServiceQuota", answer("8.0"));
    stage.proxy.next("GetServiceQuota", answer("64.0"));
    let wanted = types(&[("g5.xlarge", Spot), ("g4dn.2xlarge", Spot), ("g5.xlarge", OnDemand)]);
    let quotas = stage.ours.quotas(&Stage::region(EAST), &wanted).await.unwrap();
    let [on_demand, spot] = &quotas[..] else { panic!("two quotas: {quotas:?}") };
    let units = |units: &[(&str, u32)]| -> BTreeMap<String, u32> {
        units.iter().map(|(name, units)| ((*name).to_owned(), *units)).collect()
    };
    assert_eq!((on_demand.capacity, on_demand.most), (OnDemand, 8));
    assert_eq!(on_demand.units, units(&[("g5.xlarge", 4)]));
    assert_eq!((spot.capacity, spot.most, spot.machines_of("g5.xlarge")), (Spot, 64, Some(16)));
    assert_eq!(spot.units, units(&[("g4dn.2xlarge", 8), ("g5.xlarge", 4)]));
    assert_eq!(spot.region, EAST);
    assert_eq!(spot.name, "All G and VT Spot Instance Requests, L-3819A6DF");
    let asked = stage.proxy.last("GetServiceQuota").pop().unwrap().1;
    assert!(asked.contains("\"ec2\"") && asked.contains("\"L-3819A6DF\""), "{asked}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quota_that_a_region_does_not_have_bounds_nothing() {
    let stage = Stage::set().await.unwrap();
    stage.proxy.next("GetServiceQuota", refusal(400, "NoSuchResourceException"));
    let wanted = types(&[("p5.48xlarge", Spot)]);
    assert_eq!(stage.ours.quotas(&Stage::region(EAST), &wanted).await.unwrap(), []);
    assert_eq!(stage.proxy.calls("GetServiceQuota"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn quotas_are_asked_for_only_where_a_type_counts_towards_one() {
    let stage = Stage::set().await.unwrap();
    let wanted = types(&[("inf2.xlarge", OnDemand), ("nothing", Spot)]);
    assert_eq!(stage.ours.quotas(&Stage::region(EAST), &wanted).await.unwrap(), []);
    assert_eq!(stage.proxy.calls("GetServiceQuota"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_of_the_other_service_has_its_class() {
    let wanted = types(&[("g5.xlarge", Spot)]);
    for (status, code, class) in [
        (400, "AccessDeniedException", ErrorClass::Auth),
        (400, "TooManyRequestsException", ErrorClass::Throttle),
        (500, "ServiceException", ErrorClass::Transient),
    ] {
        let stage = Stage::set().await.unwrap();
        // It is asked again where nothing was done.
        for _ in 0..3 {
            stage.proxy.next("GetServiceQuota", refusal(status, code));
        }
        let failed = stage.ours.quotas(&Stage::region(EAST), &wanted).await.unwrap_err();
        assert_eq!((failed.class, failed.code.as_deref()), (class, Some(code)), "{failed}");
    }
}
