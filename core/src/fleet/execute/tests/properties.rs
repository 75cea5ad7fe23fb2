//! What holds in any situation, likely or not.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;

use crate::fleet::check::Budget;
use crate::fleet::execute::{
    Command, EndedBy, Executed, Listings, Machine, MachineState, Outcome, Proposal, Rules,
    Situation, step,
};
use crate::fleet::ledger::{
    Failure, Ledger, Mode, Presence, Quota, State, StateKind, WorkerList, WorkerSeen,
};
use crate::fleet::plan::{Plan, Step};
use crate::fleet::report::{LaunchReason, RemoveReason};
use crate::fleet::snapshot::Reading;
use crate::fleet::spec::CapacityType;
use crate::ids::{Epoch, InstanceName, MachineId, WorkerId};
use crate::time::Timestamp;

use super::stage::{instance, offering, policy, pool, sites};

const START: Timestamp = Timestamp::from_unix_millis(1_700_000_000_000);
const CAP: u32 = 6;
/// Machines that the account may have.
const QUOTA: u32 = 5;

fn quota() -> Quota {
    Quota {
        name: "All G Spot Requests".into(),
        region: "r".into(),
        capacity: CapacityType::Spot,
        most: 4 * QUOTA + 3,
        units: [("g5".to_owned(), 4)].into(),
    }
}

/// What a round brings; numbers stand for machines, taken modulo those there are.
#[derive(Debug, Clone)]
struct Round {
    wait: u64,
    mode: Mode,
    launch: u32,
    remove: Vec<(usize, bool)>,
    outcomes: Vec<(usize, u8)>,
    listed: Option<Vec<(usize, u8)>>,
    workers: Option<Vec<(usize, u8, u32)>>,
    strangers: u32,
}

fn any_round() -> impl Strategy<Value = Round> {
    let mode = prop_oneof![
        8 => Just(Mode::Run), 1 => Just(Mode::Freeze), 1 => Just(Mode::Drain), 1 => Just(Mode::Panic)
    ];
    let removals = prop::collection::vec((0_usize..20, any::<bool>()), 0..3);
    let outcomes = prop::collection::vec((0_usize..20, 0_u8..6), 0..6);
    let listed = prop::option::weighted(0.9, prop::collection::vec((0_usize..20, 0_u8..5), 0..20));
    let workers =
        prop::option::weighted(0.9, prop::collection::vec((0_usize..20, 0_u8..4, 0_u32..3), 0..12));
    (0_u64..400, mode, 0_u32..8, removals, outcomes, listed, workers, 0_u32..3).prop_map(
        |(wait, mode, launch, remove, outcomes, listed, workers, strangers)| Round {
            wait,
            mode,
            launch,
            remove,
            outcomes,
            listed,
            workers,
            strangers,
        },
    )
}

struct Play {
    ledger: Ledger,
    now: Timestamp,
    ids: u32,
}

impl Play {
    fn nth(&self, number: usize) -> Option<MachineId> {
        let ids: Vec<MachineId> = self.ledger.entries.keys().copied().collect();
        (!ids.is_empty()).then(|| ids[number % ids.len()])
    }

    /// A machine's name: one of its own for each entry.
    fn instance_of(&self, id: MachineId) -> InstanceName {
        let known = self.ledger.entries.get(&id).and_then(|entry| entry.state.instance().cloned());
        known.unwrap_or_else(|| InstanceName::new(&format!("m-{id}")).unwrap())
    }

    fn outcome(&self, number: usize, kind: u8) -> Option<Outcome> {
        let machine = self.nth(number)?;
        let (instance, launched_at) = (self.instance_of(machine), self.now);
        let why = "so".to_owned();
        Some(match kind {
            0 | 1 => Outcome::Launched { machine, instance, launched_at },
            2 => Outcome::Refused { machine, class: Failure::Capacity, why },
            3 => Outcome::Resolved { machine, found: None, asked_at: self.now },
            4 => Outcome::Refused { machine, class: Failure::Invalid, why },
            _ => Outcome::Unsure { machine, why },
        })
    }

    fn listings(&self, round: &Round) -> Listings {
        let Some(listed) = &round.listed else {
            return [("r".to_owned(), Reading::Unknown { why: "away".into() })].into();
        };
        let mut machines: BTreeMap<InstanceName, Machine> = BTreeMap::new();
        let mut add = |tag: Option<MachineId>, instance: InstanceName, state| {
            let (pool, offering, launched_at) = (Some(pool()), Some(offering()), self.now);
            let machine = Machine { instance, tag, pool, offering, state, launched_at };
            machines.insert(machine.instance.clone(), machine);
        };
        for (number, state) in listed {
            let Some(id) = self.nth(*number) else { continue };
            let state = match state {
                0 => MachineState::Pending,
                1 | 2 => MachineState::Running,
                3 => MachineState::ShuttingDown,
                _ => MachineState::Ended(EndedBy::Interruption),
            };
            add(Some(id), self.instance_of(id), state);
        }
        for number in 0..round.strangers {
            add(None, instance(number), MachineState::Running);
        }
        let value = machines.into_values().collect();
        [("r".to_owned(), Reading::Known { at: self.now, value })].into()
    }

    fn workers(&self, round: &Round) -> Reading<WorkerList> {
        let Some(seen) = &round.workers else { return Reading::Unknown { why: "away".into() } };
        let worker = |(number, presence, running): &(usize, u8, u32)| {
            let machine = self.nth(*number)?;
            let presence =
                [Presence::Starting, Presence::Ready, Presence::Draining, Presence::Lost]
                    [usize::from(*presence)];
            Some(WorkerSeen {
                id: WorkerId::from_bytes(*machine.as_bytes()),
                machine: Some(machine),
                instance: None,
                presence,
                running: *running,
                idle_since: None,
                seen_at: self.now,
                notice: None,
                outdated: false,
                warm: Vec::new(),
                remaining: None,
            })
        };
        let workers = seen.iter().filter_map(worker).collect();
        let complete_since = START.before(Duration::from_hours(1));
        Reading::Known { at: self.now, value: WorkerList { complete_since, workers } }
    }

    fn plan(&self, round: &Round) -> Plan {
        let reason = LaunchReason::Load { wanted: 1, have: 0.0 };
        let (pool, offering) = (pool(), offering());
        let mut steps =
            vec![Step::Launch { pool: pool.clone(), offering, count: round.launch, reason }];
        for (number, drains) in &round.remove {
            let Some(id) = self.nth(*number) else { continue };
            let (pool, instance) = (pool.clone(), self.ledger.entries[&id].name());
            let deadline = self.now.after(Duration::from_mins(10));
            steps.push(if *drains {
                Step::Drain { pool, instance, deadline, reason: RemoveReason::Cheaper }
            } else {
                let reason = RemoveReason::Dead { silent: Duration::from_mins(9) };
                Step::Terminate { pool, instance, reason }
            });
        }
        Plan { steps }
    }

    /// One step, and the same again with its writes committed.
    fn round(&mut self, round: &Round) -> Played {
        self.now = self.now.after(Duration::from_secs(round.wait));
        let mut policy = policy();
        policy.budget = Budget { max_instances: CAP, ..Budget::default() };
        let (sites, rules) = (sites(), Rules::default());
        let quotas = [quota()];
        let (listings, workers) = (self.listings(round), self.workers(round));
        let outcomes: Vec<Outcome> = round
            .outcomes
            .iter()
            .filter_map(|(number, kind)| self.outcome(*number, *kind))
            .collect();
        let proposal = Proposal { plan: self.plan(round), intents: self.ledger.account.intents };
        let situation = Situation {
            policy: &policy,
            sites: &sites,
            rules: &rules,
            epoch: Epoch::new(1),
            mode: round.mode,
            read_at: self.now,
            listings: &listings,
            workers: &workers,
            outcomes: &outcomes,
            proposal: Some(&proposal),
            quotas: &quotas,
            now: self.now,
        };
        let mut fresh = || {
            self.ids += 1;
            MachineId::from_bytes(u128::from(self.ids).to_be_bytes())
        };
        let before = self.ledger.clone();
        let first = step(&before, &situation, &mut fresh);
        first.writes.apply_to(&mut self.ledger);
        let again = Situation { outcomes: &[], ..situation };
        let second = step(&self.ledger, &again, &mut fresh);
        Played { before, first, second, listings }
    }
}

/// What came of a round.
struct Played {
    before: Ledger,
    first: Executed,
    second: Executed,
    listings: Listings,
}

/// How many jobs the worker of a machine runs, as the round's list says; `None` if none is heard of.
fn running(round: &Round, play: &Ledger, id: MachineId) -> Option<u32> {
    let ids: Vec<MachineId> = play.entries.keys().copied().collect();
    let workers = round.workers.as_ref()?;
    let of_it =
        workers.iter().filter(|(number, ..)| ids.get(number % ids.len().max(1)) == Some(&id));
    // The last of equals is the one that counts.
    let mut there = of_it.filter(|(_, presence, _)| *presence != 3);
    there.next_back().map(|(_, _, running)| *running)
}

fn is_busy(round: &Round, play: &Ledger, id: MachineId) -> bool {
    running(round, play, id).is_some_and(|running| running > 0)
}

/// Whether the provider says that a machine has ended.
fn has_ended(listings: &Listings, name: &InstanceName) -> bool {
    let Some(Reading::Known { value, .. }) = listings.get("r") else { return false };
    let mut listed = value.iter().filter(|machine| machine.instance == *name);
    listed.any(|machine| matches!(machine.state, MachineState::Ended(_)))
}

/// What leaves the ledger's count has ended by the provider's word, or is in no listing and nobody is heard on it; and
/// of what may be at work only a few are told to end.
fn check_ends(played: &Played, after: &Ledger, round: &Round) -> Result<(), TestCaseError> {
    let mut blind = 0;
    for (id, old) in &played.before.entries {
        let gone = || TestCaseError::fail(format!("an entry is gone: {old:?}"));
        let new = after.entries.get(id).ok_or_else(gone)?;
        let name = old.state.instance();
        if let Some(name) = name.filter(|_| old.state.counts() && !new.state.counts()) {
            let heard = running(round, &played.before, *id).is_some();
            let known = round.workers.is_some();
            prop_assert!(
                has_ended(&played.listings, name) || (known && !heard),
                "given up while it may be there: {new:?}"
            );
        }
        if let (State::Terminating { why, .. }, false) =
            (&new.state, old.state.kind() == StateKind::Terminating)
        {
            blind += usize::from(why.is_blind());
        }
    }
    prop_assert!(blind <= (after.entries.len() / 10).max(3), "{blind} were ended blindly");
    Ok(())
}

fn check(
    before: &Ledger,
    after: &Ledger,
    round: &Round,
    done: &Executed,
) -> Result<(), TestCaseError> {
    let launched = done.writes.entries.iter().filter(|entry| entry.version == 1);
    let adopted =
        done.writes.entries.iter().filter(|e| e.version == 1 && e.times.launched.is_some());
    let new = launched.count() - adopted.count();
    if new > 0 {
        prop_assert!(after.open().count() <= CAP as usize, "above the cap");
        prop_assert!(after.open().count() <= QUOTA as usize, "above the quota");
        prop_assert_eq!(round.mode, Mode::Run);
    }
    for entry in &done.writes.entries {
        let version = before.entries.get(&entry.id).map_or(0, |old| old.version);
        prop_assert_eq!(entry.version, version + 1);
    }
    for command in &done.commands {
        match command {
            Command::Launch { machine } => {
                prop_assert_eq!(round.mode, Mode::Run);
                let written = done.writes.entries.iter().any(|entry| entry.id == *machine);
                prop_assert!(written, "a launch is in the ledger before it is made");
            }
            Command::Terminate { machine, .. } => {
                prop_assert!(round.mode != Mode::Freeze);
                let entry = &after.entries[machine];
                prop_assert_eq!(entry.state.kind(), StateKind::Terminating);
                let began_now = before
                    .entries
                    .get(machine)
                    .is_none_or(|e| e.state.kind() != StateKind::Terminating);
                let overdue = before.entries.get(machine).is_some_and(|old| {
                    matches!(old.state, State::Draining { deadline, .. } if entry.times.terminating >= Some(deadline))
                });
                if began_now && !overdue && round.mode != Mode::Panic {
                    prop_assert!(
                        !is_busy(round, before, *machine),
                        "a busy worker was ended: {entry:?}"
                    );
                }
            }
            Command::Drain { machine, .. } => {
                prop_assert!(round.mode != Mode::Freeze);
                prop_assert_eq!(after.entries[machine].state.kind(), StateKind::Draining);
            }
            Command::Resolve { machine } => {
                prop_assert_eq!(after.entries[machine].state.kind(), StateKind::Requested);
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn whatever_happens_the_rules_are_kept(rounds in prop::collection::vec(any_round(), 1..12)) {
        let mut play = Play { ledger: Ledger::default(), now: START, ids: 0 };
        for round in &rounds {
            let played = play.round(round);
            let after = play.ledger.clone();
            let Played { before, first, second, .. } = &played;
            check(before, &after, round, first)?;
            check_ends(&played, &after, round)?;
            // The same again launches nothing more, and takes in nothing twice.
            let is_new = |entry: &&crate::fleet::ledger::Entry| entry.version == 1;
            prop_assert_eq!(second.writes.entries.iter().filter(is_new).count(), 0);
            let relaunches = |command: &&Command| matches!(command, Command::Launch { machine }
                if !first.commands.contains(&Command::Launch { machine: *machine }));
            prop_assert_eq!(second.commands.iter().filter(relaunches).count(), 0, "{:?}", second);
        }
    }
}
