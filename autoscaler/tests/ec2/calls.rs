//! What goes over the wire to EC2, and how often.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use stoker_autoscaler::cloud::contract::PATIENCE;
use stoker_autoscaler::cloud::ec2::Ec2Limits;
use stoker_autoscaler::cloud::{
    CloudProvider as _, ErrorClass, Launch, MachineState, Terminated, Verb, owner,
};
use stoker_core::fleet::CapacityType;
use stoker_core::ids::PoolName;
use stoker_test_ec2::Order;

use crate::stage::{EAST, EPOCH, Stage, WEST, action, connect};

fn error(status: u16, code: &str) -> Order {
    Order::Error { status, code: code.to_owned() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_launch_is_one_instant_fleet_over_all_offerings() {
    let stage = Stage::set().await.unwrap();
    let launch = Launch {
        tags: BTreeMap::from([("version".to_owned(), "7".to_owned())]),
        ..Stage::launch(EAST, 2)
    };
    stage.ours.launch(&launch).await.unwrap();
    let sent: BTreeMap<String, String> = stage.proxy.last("CreateFleet").into_iter().collect();
    let said = |key: &str| sent.get(key).map(String::as_str);
    assert_eq!(said("Type"), Some("instant"));
    assert_eq!(said("ClientToken"), Some(launch.token.as_str()));
    assert_eq!(said("TargetCapacitySpecification.TotalTargetCapacity"), Some("2"));
    assert_eq!(said("TargetCapacitySpecification.DefaultTargetCapacityType"), Some("spot"));
    assert_eq!(said("SpotOptions.AllocationStrategy"), Some("price-capacity-optimized"));
    assert_eq!(said("LaunchTemplateConfigs.1.LaunchTemplateSpecification.Version"), Some("1"));
    for number in ["1", "2"] {
        let overrides = format!("LaunchTemplateConfigs.1.Overrides.{number}");
        assert_eq!(said(&format!("{overrides}.InstanceType")), Some("g5.xlarge"));
        assert!(said(&format!("{overrides}.SubnetId")).is_some_and(|id| id.starts_with("subnet-")));
    }
    let tags: BTreeSet<&str> = sent
        .iter()
        .filter(|(key, _)| key.starts_with("TagSpecification") && key.ends_with(".Key"))
        .map(|(_, value)| value.as_str())
        .collect();
    assert_eq!(tags, BTreeSet::from([owner::FLEET, owner::POOL, owner::LAUNCH, "version"]));
    let tagged: BTreeSet<&str> = sent
        .iter()
        .filter(|(key, _)| key.ends_with(".ResourceType"))
        .map(|(_, value)| value.as_str())
        .collect();
    assert_eq!(tagged, BTreeSet::from(["instance", "network-interface", "volume"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn regions_are_apart() {
    let stage = Stage::set().await.unwrap();
    for (region, other) in [(EAST, WEST), (WEST, EAST)] {
        let launched = stage.ours.launch(&Stage::launch(region, 1)).await.unwrap();
        assert!(launched.machines[0].zone.starts_with(region), "{launched:?}");
        let here = stage.ours.list(&Stage::region(region)).await.unwrap();
        assert!(here.iter().any(|machine| machine.name == launched.machines[0].name));
        let there = stage.ours.list(&Stage::region(other)).await.unwrap();
        assert!(there.iter().all(|machine| machine.zone.starts_with(other)), "{there:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_list_is_read_page_by_page() {
    let stage = Stage::set().await.unwrap();
    stage.ours.launch(&Stage::launch(EAST, 12)).await.unwrap();
    let before = stage.proxy.calls("DescribeInstances");
    let listed = stage.ours.list(&Stage::region(EAST)).await.unwrap();
    assert_eq!(listed.len(), 12);
    assert_eq!(stage.proxy.calls("DescribeInstances") - before, 3, "of five each");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_fails_is_read_again_and_a_list_without_it_is_an_error() {
    let stage = Stage::set().await.unwrap();
    stage.ours.launch(&Stage::launch(EAST, 12)).await.unwrap();
    let internal = || error(500, "InternalError");
    stage.proxy.next("DescribeInstances", Order::Delay(Duration::ZERO));
    stage.proxy.next("DescribeInstances", internal());
    assert_eq!(stage.ours.list(&Stage::region(EAST)).await.unwrap().len(), 12);
    stage.proxy.next("DescribeInstances", Order::Delay(Duration::ZERO));
    for _ in 0..3 {
        stage.proxy.next("DescribeInstances", internal());
    }
    let failed = stage.ours.list(&Stage::region(EAST)).await.unwrap_err();
    assert_eq!(failed.class, ErrorClass::Transient, "{failed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn capacity_quota_and_doubt_are_not_tried_again() {
    let stage = Stage::set().await.unwrap();
    for (order, class) in [
        // Of this the SDK would make three calls.
        (error(500, "InsufficientInstanceCapacity"), ErrorClass::Capacity),
        (error(400, "MaxSpotInstanceCountExceeded"), ErrorClass::Quota),
        (error(401, "AuthFailure"), ErrorClass::Auth),
        (error(500, "InternalError"), ErrorClass::Unknown),
        (error(502, "BadGateway"), ErrorClass::Unknown),
        (Order::CutBefore, ErrorClass::Unknown),
    ] {
        let before = stage.proxy.calls("CreateFleet");
        stage.proxy.next("CreateFleet", order.clone());
        let failed = stage.ours.launch(&Stage::launch(EAST, 1)).await.unwrap_err();
        assert_eq!(failed.class, class, "{order:?}: {failed}");
        assert_eq!(stage.proxy.calls("CreateFleet") - before, 1, "{order:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_name_their_code() {
    let stage = Stage::set().await.unwrap();
    for (code, class) in [
        ("UnfulfillableCapacity", ErrorClass::Capacity),
        ("VcpuLimitExceeded", ErrorClass::Quota),
        ("RequestLimitExceeded", ErrorClass::Throttle),
        ("InvalidAMIID.NotFound", ErrorClass::Invalid),
        ("InternalError", ErrorClass::Transient),
    ] {
        stage.proxy.next("CreateFleet", Order::Leave { count: 1, code: code.to_owned() });
        let launched = stage.ours.launch(&Stage::launch(EAST, 2)).await.unwrap();
        assert_eq!(launched.machines.len(), 1);
        let error = &launched.refusals[0].error;
        assert_eq!((error.class, error.code.as_deref()), (class, Some(code)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn repetitions_are_bounded_by_a_budget() {
    let stage = Stage::set().await.unwrap();
    let mut calls = Vec::new();
    for _ in 0..7 {
        for _ in 0..3 {
            stage.proxy.next("DescribeSpotPriceHistory", error(503, "Unavailable"));
        }
        let before = stage.proxy.calls("DescribeSpotPriceHistory");
        let types = BTreeSet::from(["g5.xlarge".to_owned()]);
        // The clock stands still, so nothing comes back.
        let failed = stage.ours.prices(&Stage::region(EAST), &types, EPOCH).await.unwrap_err();
        assert_eq!(failed.class, ErrorClass::Transient);
        calls.push(stage.proxy.calls("DescribeSpotPriceHistory") - before);
    }
    assert_eq!(calls, [3, 3, 3, 3, 3, 1, 1], "ten repetitions");
    stage.ours.list(&Stage::region(EAST)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_hangs_ends_in_doubt() {
    let limits = Ec2Limits { launch: Duration::from_millis(300), ..Ec2Limits::default() };
    let stage = Stage::with(limits).await.unwrap();
    stage.proxy.next(action(Verb::Launch), Order::Delay(PATIENCE));
    let failed = stage.ours.launch(&Stage::launch(EAST, 1)).await.unwrap_err();
    assert_eq!(failed.class, ErrorClass::Unknown, "{failed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_never_left_is_not_in_doubt() {
    let pool = PoolName::new("contract").unwrap();
    let template = stoker_core::fleet::LaunchTemplate { id: "lt-0".into(), version: "1".into() };
    let region = stoker_core::fleet::Ec2Region {
        templates: BTreeMap::from([(pool, template)]),
        subnets: BTreeMap::new(),
    };
    let regions = BTreeMap::from([(Stage::region(EAST), region)]);
    // Nobody listens on the port of a listener that is gone.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let ec2 = connect("f", &regions, &endpoint, Ec2Limits::default()).await.unwrap();
    let failed = ec2.launch(&Stage::launch(EAST, 1)).await.unwrap_err();
    assert_eq!(failed.class, ErrorClass::Transient, "{failed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_without_a_launch_template_is_invalid_before_anything_is_asked() {
    let stage = Stage::set().await.unwrap();
    let launch = Launch { pool: PoolName::new("other").unwrap(), ..Stage::launch(EAST, 1) };
    let failed = stage.ours.launch(&launch).await.unwrap_err();
    assert_eq!(failed.class, ErrorClass::Invalid, "{failed}");
    assert_eq!(stage.proxy.calls("CreateFleet"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_launch_is_of_the_template_that_it_names_whatever_the_cloud_is_set_up_with() {
    let stage = Stage::set().await.unwrap();
    let template = Some("lt-0123456789abcdef0:7".to_owned());
    // moto has no such template.
    let _ = stage.ours.launch(&Launch { template, ..Stage::launch(EAST, 1) }).await;
    let sent: BTreeMap<String, String> = stage.proxy.last("CreateFleet").into_iter().collect();
    let said = |key: &str| {
        let key = format!("LaunchTemplateConfigs.1.LaunchTemplateSpecification.{key}");
        sent.get(&key).map(String::as_str)
    };
    assert_eq!(said("LaunchTemplateId"), Some("lt-0123456789abcdef0"));
    assert_eq!(said("Version"), Some("7"));
    let template = Some("no version".to_owned());
    let launch = Launch { template, ..Stage::launch(EAST, 1) };
    let failed = stage.ours.launch(&launch).await.unwrap_err();
    assert_eq!(failed.class, ErrorClass::Invalid, "{failed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_type_says_what_gpus_it_has() {
    let stage = Stage::set().await.unwrap();
    let types = ["g5.xlarge", "p4d.24xlarge", "t3.micro"].map(str::to_owned).into();
    let known = stage.ours.types(&Stage::region(EAST), &types).await.unwrap();
    let gpus = |name: &str| {
        let gpu = known[name].gpus.first();
        gpu.map(|gpu| (gpu.name.as_str(), gpu.count, gpu.memory_mib))
    };
    assert_eq!(gpus("g5.xlarge"), Some(("A10G", 1, 22_888)));
    assert_eq!(gpus("p4d.24xlarge"), Some(("A100", 8, 40_960)));
    assert_eq!(gpus("t3.micro"), None);
    assert_eq!((known["g5.xlarge"].vcpus, known["g5.xlarge"].local_disk_gb), (4, 250));
    assert!(known["g5.xlarge"].spot);
}

#[tokio::test(flavor = "multi_thread")]
async fn on_demand_machines_are_not_taken_for_spot() {
    let stage = Stage::set().await.unwrap();
    let launch = Stage::launch(EAST, 1);
    let offerings = stoker_autoscaler::cloud::contract::Harness::offerings(&stage);
    let on_demand = offerings.into_iter().filter(|(_, o)| o.capacity == CapacityType::OnDemand);
    let launch = Launch { offerings: on_demand.collect(), ..launch };
    let launched = stage.ours.launch(&launch).await.unwrap();
    let listed = stage.ours.list(&Stage::region(EAST)).await.unwrap();
    let found = listed.iter().find(|machine| machine.name == launched.machines[0].name).unwrap();
    assert_eq!(found.capacity, CapacityType::OnDemand);
}

#[tokio::test(flavor = "multi_thread")]
async fn machines_of_the_fleet_that_are_no_workers_are_not_listed() {
    let stage = Stage::set().await.unwrap();
    let launched = stage.ours.launch(&Stage::launch(EAST, 1)).await.unwrap();
    stage.run_coordinator().await.unwrap();
    let listed = stage.ours.list(&Stage::region(EAST)).await.unwrap();
    let names: Vec<_> = listed.iter().map(|machine| &machine.name).collect();
    assert_eq!(names, [&launched.machines[0].name]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_cannot_be_ended_keeps_no_other_from_its_end() {
    let stage = Stage::set().await.unwrap();
    let launched = stage.ours.launch(&Stage::launch(EAST, 5)).await.unwrap();
    let names: BTreeSet<_> = launched.machines.iter().map(|machine| machine.name.clone()).collect();
    let protected = launched.machines[2].name.clone();
    let protect = &[("DisableApiTermination.Value", "true")];
    stage.change("ModifyInstanceAttribute", &protected, protect).await.unwrap();
    let ends = stage.ours.terminate(&Stage::region(EAST), &names).await;
    for name in &names {
        let end = &ends[name];
        if *name == protected {
            assert_eq!(end.as_ref().unwrap_err().class, ErrorClass::Invalid, "{end:?}");
        } else {
            assert_eq!(*end.as_ref().unwrap(), Terminated::Accepted);
        }
    }
    let listed = stage.ours.list(&Stage::region(EAST)).await.unwrap();
    let up: Vec<_> = listed.iter().filter(|m| m.state.is_up()).map(|m| &m.name).collect();
    assert_eq!(up, [&protected]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_machine_is_there_and_can_be_ended() {
    let stage = Stage::set().await.unwrap();
    let on_demand = stoker_autoscaler::cloud::contract::Harness::offerings(&stage)
        .into_iter()
        .filter(|(_, offering)| offering.capacity == CapacityType::OnDemand)
        .collect();
    let launch = Launch { offerings: on_demand, ..Stage::launch(EAST, 1) };
    let launched = stage.ours.launch(&launch).await.unwrap();
    let name = &launched.machines[0].name;
    stage.change("StopInstances", name, &[]).await.unwrap();
    let seen = async || {
        let listed = stage.ours.list(&Stage::region(EAST)).await.unwrap();
        listed.iter().find(|machine| machine.name == *name).map(|machine| machine.state)
    };
    assert_eq!(seen().await, Some(MachineState::Running));
    stage.ours.terminate(&Stage::region(EAST), &BTreeSet::from([name.clone()])).await;
    assert_eq!(seen().await, Some(MachineState::Terminated));
}
