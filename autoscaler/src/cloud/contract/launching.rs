//! Promises about launches that meet no fault.

use std::collections::{BTreeMap, BTreeSet};

use stoker_core::fleet::CapacityType;

use super::{
    ENOUGH, Harness, Support, fresh_token, launched, live_of, names, never_more_than, of, region,
    spot, until,
};
use crate::cloud::error::ErrorClass;
use crate::cloud::machine::MachineState;
use crate::cloud::owner;
use crate::cloud::request::Launch;

pub async fn machines_are_launched_as_asked_and_carry_their_owners_tags(harness: &dyn Harness) {
    let on_demand = Launch { offerings: of(harness, CapacityType::OnDemand), ..spot(harness, 1) };
    for launch in [spot(harness, 2), Launch { token: fresh_token(), ..on_demand }] {
        let answer = launched(harness, &launch).await;
        assert_eq!(names(&answer.machines).len(), answer.machines.len(), "names are unique");
        let listed = live_of(harness, &launch, launch.count).await;
        assert_eq!(names(&listed), names(&answer.machines));
        for machine in answer.machines.iter().chain(&listed) {
            let offering = machine.offering().expect("it is of an offering");
            assert!(launch.offerings.contains_key(&offering), "{offering} was asked for");
            assert_eq!(machine.pool().as_ref(), Some(&launch.pool));
            assert_eq!(machine.token().as_ref(), Some(&launch.token));
            assert!(machine.tags.contains_key(owner::FLEET), "{:?}", machine.tags);
            assert_eq!(machine.tags.get("version").map(String::as_str), Some("7"));
        }
    }
}

pub async fn a_machine_boots(harness: &dyn Harness) {
    let launch = spot(harness, 1);
    let answer = launched(harness, &launch).await;
    assert!(answer.machines[0].state.is_up(), "{:?}", answer.machines);
    until(harness, "a running machine", |machines| {
        let mut ours = machines.iter().filter(|m| m.token().as_ref() == Some(&launch.token));
        ours.find(|machine| machine.state == MachineState::Running).map(|_| ())
    })
    .await;
}

pub async fn the_same_launch_twice_is_one(harness: &dyn Harness) {
    let launch = spot(harness, 2);
    let first = launched(harness, &launch).await;
    let again = launched(harness, &launch).await;
    assert_eq!(names(&again.machines), names(&first.machines));
    live_of(harness, &launch, 2).await;
    never_more_than(harness, &launch, 2).await;
}

pub async fn a_token_is_for_one_launch(harness: &dyn Harness) {
    let launch = spot(harness, 1);
    launched(harness, &launch).await;
    let other = Launch { count: 3, ..launch.clone() };
    let error = harness.cloud().launch(&other).await.expect_err("another launch under its token");
    assert_eq!(error.class, ErrorClass::Invalid, "{error}");
    never_more_than(harness, &launch, 1).await;
}

pub async fn many_machines_are_launched_and_listed_whole(harness: &dyn Harness) {
    let launch = spot(harness, ENOUGH);
    let answer = launched(harness, &launch).await;
    let listed = live_of(harness, &launch, ENOUGH).await;
    assert_eq!(names(&listed), names(&answer.machines));
}

pub async fn an_impossible_launch_is_refused(harness: &dyn Harness) {
    let good = spot(harness, 1);
    let of_both = harness.offerings();
    let forged = BTreeMap::from([(owner::FLEET.to_owned(), "other".to_owned())]);
    for bad in [
        Launch { offerings: BTreeMap::new(), ..good.clone() },
        Launch { offerings: of_both, ..good.clone() },
        Launch { count: 0, ..good.clone() },
        Launch { tags: forged, ..good.clone() },
    ] {
        let error = harness.cloud().launch(&bad).await.expect_err("it cannot be carried out");
        assert_eq!(error.class, ErrorClass::Invalid, "{error}");
    }
    never_more_than(harness, &good, 0).await;
    launched(harness, &good).await;
}

pub async fn another_fleet_sees_nothing(harness: &dyn Harness) {
    let Some(stranger) = harness.stranger() else { return };
    let launch = spot(harness, 1);
    launched(harness, &launch).await;
    live_of(harness, &launch, 1).await;
    let seen = stranger.list(&region(harness)).await.expect("listing works");
    assert_eq!(seen, []);
}

pub async fn what_is_short_is_refused_with_its_offerings(harness: &dyn Harness) {
    if harness.leave(1).await == Support::Impossible {
        return;
    }
    let launch = spot(harness, 3);
    let answer = harness.cloud().launch(&launch).await.expect("an answer, with refusals");
    assert_eq!(answer.machines.len(), 1, "{answer:?}");
    let asked: BTreeSet<_> = launch.offering_names();
    assert!(!answer.refusals.is_empty());
    for refusal in &answer.refusals {
        assert_eq!(refusal.error.class, ErrorClass::Capacity, "{refusal:?}");
        assert!(!refusal.offerings.is_empty() && refusal.offerings.is_subset(&asked));
    }
    let again = harness.cloud().launch(&launch).await.expect("the same answer");
    assert_eq!(names(&again.machines), names(&answer.machines), "also when there is more by now");
    never_more_than(harness, &launch, 1).await;
}
