//! Promises about ends, ordered by us or by the cloud.

use std::collections::BTreeSet;

use stoker_core::ids::{InstanceName, RegionName};

use super::{Harness, Support, launched, live_of, names, never_more_than, region, spot, until};
use crate::cloud::error::ErrorClass;
use crate::cloud::provider::Terminated;

pub async fn ended_machines_end_and_may_be_ended_again(harness: &dyn Harness) {
    let launch = spot(harness, 3);
    let answer = launched(harness, &launch).await;
    live_of(harness, &launch, 3).await;
    let (gone, stays) = (names(&answer.machines[..2]), names(&answer.machines[2..]));
    let region = region(harness);
    for _ in 0..2 {
        let ends = harness.cloud().terminate(&region, &gone).await;
        assert_eq!(ends.keys().cloned().collect::<BTreeSet<_>>(), gone, "an answer for each");
        for (name, end) in ends {
            assert_eq!(end, Ok(Terminated::Accepted), "{name}");
        }
    }
    let left = live_of(harness, &launch, 1).await;
    assert_eq!(names(&left), stays);
}

pub async fn an_unknown_machine_keeps_no_other_from_its_end(harness: &dyn Harness) {
    let launch = spot(harness, 3);
    let ours = names(&launched(harness, &launch).await.machines);
    live_of(harness, &launch, 3).await;
    let never = ["i-0123456789abcdef0", "i-0fedcba9876543210"];
    let never = never.map(|name| InstanceName::new(name).expect("a valid name"));
    let all = ours.iter().chain(&never).cloned().collect();
    let ends = harness.cloud().terminate(&region(harness), &all).await;
    assert_eq!(ends.keys().cloned().collect::<BTreeSet<_>>(), all);
    for (name, end) in ends {
        let expected =
            if ours.contains(&name) { Terminated::Accepted } else { Terminated::NotFound };
        assert_eq!(end, Ok(expected), "{name}");
    }
    live_of(harness, &launch, 0).await;
}

pub async fn an_interrupted_machine_ends(harness: &dyn Harness) {
    let launch = spot(harness, 2);
    let answer = launched(harness, &launch).await;
    live_of(harness, &launch, 2).await;
    let support = harness.interrupt(&answer.machines[0].name).await;
    if support == Support::Impossible {
        return;
    }
    let left = live_of(harness, &launch, 1).await;
    assert_eq!(left[0].name, answer.machines[1].name);
    assert!(!left[0].taken_back, "nobody takes this one back");
    until(harness, "the one that was taken back", |machines| {
        let gone = machines.iter().find(|machine| machine.name == answer.machines[0].name)?;
        assert_eq!(gone.taken_back, support == Support::Done, "who ended it");
        Some(())
    })
    .await;
    never_more_than(harness, &launch, 1).await;
}

pub async fn a_region_that_is_not_there_is_invalid(harness: &dyn Harness) {
    let nowhere = RegionName::new("nowhere-1").expect("a valid name");
    assert!(!harness.cloud().regions().contains(&nowhere));
    let error = harness.cloud().list(&nowhere).await.expect_err("no such region");
    assert_eq!(error.class, ErrorClass::Invalid, "{error}");

    let launch = spot(harness, 1);
    let ours = names(&launched(harness, &launch).await.machines);
    for (name, end) in harness.cloud().terminate(&nowhere, &ours).await {
        assert_eq!(end.expect_err("no such region").class, ErrorClass::Invalid, "{name}");
    }
    until(harness, "the machine, unharmed", |machines| {
        machines.iter().find(|machine| ours.contains(&machine.name) && machine.state.is_up())?;
        Some(())
    })
    .await;
}
