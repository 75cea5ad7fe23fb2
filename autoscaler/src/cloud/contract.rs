//! What every cloud must do, as functions over a [`Harness`]; [`cloud_contract!`] makes tests.
//!
//! The suite checks the promises of [`CloudProvider`], not implementations: how long a machine takes to boot or a list
//! to show it is a cloud's own affair, within [`PATIENCE`].
//!
//! [`cloud_contract!`]: crate::cloud_contract

mod ending;
mod launching;
mod market;
mod trouble;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use async_trait::async_trait;
use stoker_core::fleet::{CapacityType, Offering};
use stoker_core::ids::{InstanceName, OfferingName, PoolName, RegionName};
use tokio::time::Instant;

use super::error::Verb;
use super::machine::Machine;
use super::memory::Fault;
use super::provider::CloudProvider;
use super::request::{Launch, Launched};
use super::token::LaunchToken;

pub use ending::*;
pub use launching::*;
pub use market::*;
pub use trouble::*;

/// Longest wait for anything that must happen.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// Machines that a cloud under test can give at a time.
pub const ENOUGH: u32 = 24;

/// One cloud that no other test uses.
#[async_trait]
pub trait Harness: Send + Sync {
    /// The cloud as one fleet sees it.
    fn cloud(&self) -> &dyn CloudProvider;
    /// The same cloud as another fleet sees it; `None` if only one fleet can use it.
    fn stranger(&self) -> Option<&dyn CloudProvider>;
    /// Offerings of one region: at least two of spot and one on demand, of [`ENOUGH`] machines together and each.
    fn offerings(&self) -> BTreeMap<OfferingName, Offering>;
    /// Of the next launch only so many machines can be had.
    async fn leave(&self, count: u32) -> Support;
    /// The next call of a kind meets a fault.
    async fn fail_next(&self, verb: Verb, fault: Fault) -> Support;
    /// Takes a spot machine back.
    async fn interrupt(&self, name: &InstanceName) -> Support;
    /// Lets some time pass.
    async fn pass(&self);
}

/// Whether a harness can make something happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Support {
    Done,
    /// As far as somebody else's order goes: it looks like that, and not like the cloud's own doing.
    ByHand,
    /// The implementation cannot get into this situation.
    Impossible,
}

/// Makes one test per promise; `$harness` is an async expression that gives a fresh [`Harness`].
#[macro_export]
macro_rules! cloud_contract {
    ($harness:expr) => {
        $crate::cloud_contract! { @tests $harness;
            machines_are_launched_as_asked_and_carry_their_owners_tags
            a_machine_boots
            the_same_launch_twice_is_one
            a_token_is_for_one_launch
            many_machines_are_launched_and_listed_whole
            an_impossible_launch_is_refused
            another_fleet_sees_nothing
            what_is_short_is_refused_with_its_offerings
            ended_machines_end_and_may_be_ended_again
            an_unknown_machine_keeps_no_other_from_its_end
            an_interrupted_machine_ends
            a_region_that_is_not_there_is_invalid
            a_refused_launch_has_its_class_and_leaves_nothing
            a_launch_that_was_not_looked_at_can_be_repeated
            a_launch_whose_answer_is_lost_can_be_found_and_repeated
            a_launch_that_never_arrived_can_be_repeated
            a_list_is_whole_or_an_error_and_never_in_doubt
            an_end_whose_answer_is_lost_can_be_repeated
            spot_prices_are_known
            types_are_known
            what_works_has_no_problems
            quotas_are_of_what_was_asked_for
        }
    };
    (@tests $harness:expr; $($name:ident)*) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            let harness = $harness.await;
            $crate::cloud::contract::$name(&harness).await;
        }
    )*};
}

/// The offerings of a capacity type.
fn of(harness: &dyn Harness, capacity: CapacityType) -> BTreeMap<OfferingName, Offering> {
    let mut offerings = harness.offerings();
    offerings.retain(|_, offering| offering.capacity == capacity);
    assert!(!offerings.is_empty(), "the harness offers {}", capacity.as_str());
    offerings
}

fn region(harness: &dyn Harness) -> RegionName {
    let offerings = harness.offerings();
    let (_, first) = offerings.first_key_value().expect("the harness has offerings");
    harness.cloud().region_of(&first.zone).expect("a zone of the cloud's")
}

/// A launch of spot machines under a token that no other test of the suite uses.
fn spot(harness: &dyn Harness, count: u32) -> Launch {
    Launch {
        token: fresh_token(),
        pool: PoolName::new("contract").expect("a valid name"),
        template: None,
        offerings: of(harness, CapacityType::Spot),
        count,
        tags: BTreeMap::from([("version".to_owned(), "7".to_owned())]),
    }
}

fn fresh_token() -> LaunchToken {
    let id = stoker_runtime::ids::event_id();
    LaunchToken::new(&id.to_string()).expect("a UUID is a token")
}

/// Launches all that is asked for.
async fn launched(harness: &dyn Harness, launch: &Launch) -> Launched {
    let launched = harness.cloud().launch(launch).await.expect("the launch works");
    let count = u32::try_from(launched.machines.len()).expect("few machines");
    assert_eq!((count, &launched.refusals), (launch.count, &vec![]), "nothing is missing");
    launched
}

fn names(machines: &[Machine]) -> BTreeSet<InstanceName> {
    machines.iter().map(|machine| machine.name.clone()).collect()
}

/// Lists until `seen` brings something, and says what was there last if it never does.
async fn until<T>(
    harness: &dyn Harness,
    what: &str,
    mut seen: impl FnMut(&[Machine]) -> Option<T>,
) -> T {
    let region = region(harness);
    let deadline = Instant::now() + PATIENCE;
    loop {
        let listed = harness.cloud().list(&region).await;
        let status = match listed {
            Ok(machines) => match seen(&machines) {
                Some(found) => return found,
                None => format!("{machines:?}"),
            },
            Err(error) => error.to_string(),
        };
        assert!(Instant::now() < deadline, "waited for {what}; last seen: {status}");
        harness.pass().await;
    }
}

/// The live machines of a launch, once there are so many.
async fn live_of(harness: &dyn Harness, launch: &Launch, count: u32) -> Vec<Machine> {
    until(harness, &format!("{count} live machines"), |machines| {
        let live: Vec<Machine> = live(machines, &launch.token).cloned().collect();
        (u32::try_from(live.len()) == Ok(count)).then_some(live)
    })
    .await
}

/// Checks over several looks that there are never more live machines of a launch than `count`.
async fn never_more_than(harness: &dyn Harness, launch: &Launch, count: usize) {
    let region = region(harness);
    for _ in 0..10 {
        let machines = harness.cloud().list(&region).await.expect("listing works");
        let found = live(&machines, &launch.token).count();
        assert!(found <= count, "{found} live machines where {count} are allowed: {machines:?}");
        harness.pass().await;
    }
}

fn live<'a>(machines: &'a [Machine], token: &LaunchToken) -> impl Iterator<Item = &'a Machine> {
    machines
        .iter()
        .filter(|machine| machine.state.is_live() && machine.token().as_ref() == Some(token))
}
