//! What the account may have bounds launches, by what machines of a type take of it.

use super::stage::{offering, pool};
use super::*;
use crate::fleet::ledger::Quota;
use crate::fleet::spec::CapacityType;
use crate::ids::OfferingName;

fn quota(most: u32, units: u32) -> Quota {
    Quota {
        name: "All G Spot Requests".into(),
        region: "r".into(),
        capacity: CapacityType::Spot,
        most,
        units: [("g5".to_owned(), units)].into(),
    }
}

fn reached(done: &Executed) -> Vec<(u32, u32)> {
    let found = |finding: &Finding| {
        let Finding::QuotaReached { wanted, allowed, .. } = finding else { return None };
        Some((*wanted, *allowed))
    };
    done.findings.iter().filter_map(found).collect()
}

#[test]
fn launches_stay_within_the_accounts_quota_and_the_planner_hears_of_it() {
    let mut stage = Stage::new();
    stage.quotas = vec![quota(20, 4)];
    stage.want(3);
    let done = stage.step();
    assert_eq!((stage.ledger.open().count(), reached(&done)), (3, vec![]), "it fits");
    stage.want(8);
    let done = stage.step();
    assert_eq!((stage.ledger.open().count(), reached(&done)), (5, vec![(8, 2)]));
    let held = |stage: &Stage| stage.ledger.account.markets[&pool()][&offering()].held_back;
    assert_eq!(held(&stage), 1, "it looks elsewhere");
    stage.want(1);
    let done = stage.step();
    assert_eq!((stage.ledger.open().count(), reached(&done)), (5, vec![(1, 0)]));
    assert!(done.commands.is_empty(), "{done:?}");
}

#[test]
fn what_is_known_of_quotas_stands_in_the_account_until_something_else_is() {
    let mut stage = Stage::new();
    stage.quotas = vec![quota(20, 4)];
    let _ = stage.step();
    assert_eq!(stage.ledger.account.quotas, [quota(20, 4)]);
    stage.quotas = Vec::new();
    let _ = stage.step();
    assert_eq!(stage.ledger.account.quotas, [quota(20, 4)], "nothing was read yet");
    stage.quotas = vec![quota(24, 4)];
    let _ = stage.step();
    assert_eq!(stage.ledger.account.quotas, [quota(24, 4)]);
}

#[test]
fn a_machine_that_is_gone_takes_nothing_of_a_quota() {
    let mut stage = Stage::new();
    stage.quotas = vec![quota(8, 4)];
    let machines = stage.ready(2, 0);
    stage.relist(machines[0], MachineState::Ended(EndedBy::Interruption));
    let _ = stage.step();
    stage.want(2);
    let _ = stage.step();
    assert_eq!(stage.ledger.open().count(), 2);
}

#[test]
fn a_quota_of_nothing_forbids_everything_and_one_of_others_nothing() {
    let mut stage = Stage::new();
    stage.quotas = vec![quota(3, 4)];
    stage.want(1);
    let done = stage.step();
    assert_eq!((stage.ledger.entries.len(), reached(&done)), (0, vec![(1, 0)]));
    let elsewhere = Quota { region: "s".into(), ..quota(0, 4) };
    let on_demand = Quota { capacity: CapacityType::OnDemand, ..quota(0, 4) };
    let other = Quota { units: [("p5".to_owned(), 192)].into(), ..quota(0, 4) };
    stage.quotas = vec![elsewhere, on_demand, other];
    stage.want(2);
    let _ = stage.step();
    assert_eq!(stage.ledger.open().count(), 2);
}

#[test]
fn a_quota_is_for_all_pools_and_types_that_count_towards_it() {
    let mut stage = Stage::new();
    let large = OfferingName::new("g5.large.spot").unwrap();
    stage.offer(&large);
    for pool in stage.policy.pools.values_mut() {
        pool.scaling.offerings.get_mut(&large).unwrap().instance_type = "g5-large".into();
    }
    let units = [("g5".to_owned(), 4), ("g5-large".to_owned(), 16)].into();
    stage.quotas = vec![Quota { units, ..quota(24, 4) }];
    stage.want_of(&large, 5);
    let _ = stage.step();
    assert_eq!(stage.ledger.open().count(), 1);
    stage.want(5);
    let done = stage.step();
    assert_eq!((stage.ledger.open().count(), reached(&done)), (3, vec![(5, 2)]));
    let said = done.findings.iter().map(ToString::to_string).find(|said| said.contains("Spot"));
    assert_eq!(
        said.unwrap(),
        "5 launches of g5 are wanted, the account's quota (All G Spot Requests in r: 24) allows 2"
    );
}
