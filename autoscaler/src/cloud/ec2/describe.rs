//! The fleet's machines, page by page.

use std::collections::BTreeMap;

use aws_sdk_ec2::types::{Filter, Instance, InstanceLifecycleType, InstanceStateName, Reservation};
use stoker_core::fleet::CapacityType;
use stoker_core::ids::{FleetName, InstanceName};
use stoker_core::time::Timestamp;

use super::caller::Caller;
use crate::cloud::error::{CloudError, ErrorClass, Verb};
use crate::cloud::machine::{Machine, MachineState};
use crate::cloud::owner;

/// Pages after which a list is taken to have no end.
const MOST_PAGES: usize = 1_000;

/// Every machine with the fleet's tag and a pool's: its workers.
pub(super) async fn machines(
    caller: &Caller,
    fleet: &FleetName,
    page: i32,
) -> Result<Vec<Machine>, CloudError> {
    let fleet = Filter::builder().name(format!("tag:{}", owner::FLEET)).values(fleet.as_str());
    let workers = Filter::builder().name("tag-key").values(owner::POOL);
    let ours = [fleet.build(), workers.build()];
    let mut machines = Vec::new();
    let mut next: Option<String> = None;
    for _ in 0..MOST_PAGES {
        let describe = || {
            caller
                .client()
                .describe_instances()
                .set_filters(Some(ours.to_vec()))
                .max_results(page)
                .set_next_token(next.clone())
                .send()
        };
        let answer = caller.call(Verb::List, describe).await?;
        for instance in answer.reservations().iter().flat_map(Reservation::instances) {
            machines.push(machine(instance)?);
        }
        next = answer.next_token().filter(|token| !token.is_empty()).map(str::to_owned);
        if next.is_none() {
            return Ok(machines);
        }
    }
    Err(unreadable("a list without an end"))
}

/// A machine as EC2 shows it. A list with one that cannot be read is not whole, so that is an error.
fn machine(instance: &Instance) -> Result<Machine, CloudError> {
    let id = instance.instance_id().unwrap_or_default();
    let name = InstanceName::new(id).map_err(|error| unreadable(&error.to_string()))?;
    let launched = instance.launch_time().and_then(|time| time.to_millis().ok());
    let launched = launched.ok_or_else(|| unreadable(&format!("{id} has no time of launch")))?;
    let spot = instance.instance_lifecycle() == Some(&InstanceLifecycleType::Spot);
    let zone = instance.placement().and_then(|placement| placement.availability_zone());
    let tag = |tag: &aws_sdk_ec2::types::Tag| {
        Some((tag.key()?.to_owned(), tag.value().unwrap_or_default().to_owned()))
    };
    Ok(Machine {
        name,
        instance_type: instance.instance_type().map_or("", |name| name.as_str()).to_owned(),
        zone: zone.unwrap_or_default().to_owned(),
        capacity: if spot { CapacityType::Spot } else { CapacityType::OnDemand },
        state: state(instance.state().and_then(|state| state.name())),
        launched_at: Timestamp::from_unix_millis(launched),
        taken_back: instance
            .state_reason()
            .and_then(|reason| reason.code())
            .is_some_and(takes_back),
        tags: instance.tags().iter().filter_map(tag).collect::<BTreeMap<_, _>>(),
        price: None,
    })
}

/// Whether a code of a state's reason says that EC2 took a spot machine back; see the user guide's table of spot
/// instance states and `StateReason` in the API reference.
fn takes_back(code: &str) -> bool {
    matches!(code, "Server.SpotInstanceTermination" | "Server.SpotInstanceShutdown")
}

/// Only what is on its way out by itself needs no more calls. A stopped machine costs its disks until somebody ends it, and
/// one in a state that this version does not know may cost anything: both are there, and their workers are not.
fn state(name: Option<&InstanceStateName>) -> MachineState {
    match name {
        Some(InstanceStateName::Pending) => MachineState::Pending,
        Some(InstanceStateName::ShuttingDown) => MachineState::Stopping,
        Some(InstanceStateName::Terminated) => MachineState::Terminated,
        _ => MachineState::Running,
    }
}

fn unreadable(what: &str) -> CloudError {
    CloudError::new(ErrorClass::Transient, Verb::List, format!("unreadable answer: {what}"))
}

#[cfg(test)]
mod tests {
    use aws_sdk_ec2::primitives::DateTime;
    use aws_sdk_ec2::types::{InstanceState, StateReason};

    use super::*;

    #[test]
    fn a_machine_says_who_ended_it() {
        let ended = |code: &str| {
            let state = InstanceState::builder().name(InstanceStateName::Terminated).build();
            let instance = Instance::builder()
                .instance_id("i-1")
                .launch_time(DateTime::from_secs(1_700_000_000))
                .state(state)
                .state_reason(StateReason::builder().code(code).build())
                .build();
            machine(&instance).map(|machine| (machine.state, machine.taken_back))
        };
        for code in ["Server.SpotInstanceTermination", "Server.SpotInstanceShutdown"] {
            assert_eq!(ended(code), Ok((MachineState::Terminated, true)), "{code}");
        }
        let ours = ended("Client.UserInitiatedShutdown");
        assert_eq!(ours, Ok((MachineState::Terminated, false)));
    }
}
