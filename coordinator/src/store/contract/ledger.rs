//! The fleet's ledger: one leader, its writes in order, and an operator's word above it.

use std::time::Duration;

use bytes::Bytes;
use stoker_core::fleet::CapacityType;
use stoker_core::fleet::ledger::{
    Account, EndOrder, Ending, Entry, Event, Leave, Mode, Order, State, StateKind, Switch, apply,
};
use stoker_core::ids::{Epoch, InstanceName, MachineId, OfferingName, PoolName};
use stoker_core::money::{HourlyPrice, Money};
use stoker_core::time::Timestamp;
use stoker_runtime::ids;
use uuid::Uuid;

use super::world::{START, World};
use crate::store::{LedgerPage, LedgerQuery, LedgerWrite, LedgerWritten, MachineEnded, Reign};

const TERM: Duration = Duration::from_secs(5);
const ALL: LedgerQuery =
    LedgerQuery { ended_since: Some(START), after: None, limit: 100, with_memory: true };

fn holder() -> Uuid {
    *ids::event_id().as_uuid()
}

fn entry() -> Entry {
    let order = Order {
        pool: PoolName::new("default").unwrap(),
        offering: OfferingName::new("g5.a.spot").unwrap(),
        provider: "memory".into(),
        region: "r".into(),
        zone: "a".into(),
        instance_type: "g5".into(),
        capacity: CapacityType::Spot,
        price: HourlyPrice::new(Money::from_micros(1_000_000)),
        template: "lt-1".into(),
        reason: "load".into(),
    };
    let id = ids::machine_id(START);
    next(&Entry::intended(id, Epoch::new(1), order, START), &Event::Asked)
}

/// The entry after an event, as it is written next.
fn next(entry: &Entry, event: &Event) -> Entry {
    let after = apply(entry, event, START).unwrap();
    Entry { version: entry.version + 1, ..after }
}

fn gone(entry: &Entry, at: Timestamp) -> Entry {
    let instance = InstanceName::new("i-1").unwrap();
    let entry = next(entry, &Event::Found { instance, launched_at: START });
    let after = apply(&entry, &Event::Ended { why: Ending::Elsewhere }, at).unwrap();
    Entry { version: entry.version, ..after }
}

fn account(version: u64, intents: u64) -> Account {
    Account { version, intents, ..Account::default() }
}

/// Waits until `holder` leads: on some stores time is real.
async fn lead(world: &World, holder: Uuid) -> Reign {
    let tries = 200;
    for _ in 0..tries {
        let reign = world.store.lead_fleet(holder, TERM).await.unwrap();
        if reign.holder == holder {
            return reign;
        }
        world.pass(1);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the term of the one before does not end")
}

async fn write(world: &World, by: Reign, entries: &[&Entry]) -> LedgerWritten {
    let entries = entries.iter().map(|entry| (*entry).clone()).collect();
    let Reign { holder, epoch, .. } = by;
    let write =
        LedgerWrite { holder, epoch, switch_version: 0, entries, account: None, memory: None };
    world.store.write_ledger(write).await.unwrap()
}

async fn read(world: &World) -> LedgerPage {
    world.store.ledger(ALL).await.unwrap()
}

pub async fn one_autoscaler_leads_and_the_past_writes_nothing(world: World) {
    let (first, second) = (holder(), holder());
    let reign = lead(&world, first).await;
    assert!(reign.remaining > Duration::ZERO && reign.remaining <= TERM, "{reign:?}");
    let other = world.store.lead_fleet(second, TERM).await.unwrap();
    assert_eq!((other.holder, other.epoch), (first, reign.epoch));
    assert_eq!(lead(&world, first).await.epoch, reign.epoch, "the same reign goes on");
    // The one that pauses is followed; when it wakes up, its writes are refused.
    let successor = lead(&world, second).await;
    assert!(successor.epoch > reign.epoch);
    assert_eq!(write(&world, reign, &[&entry()]).await, LedgerWritten::NotLeading);
    // Neither its own epoch nor another's helps.
    let forged = Reign { epoch: successor.epoch, ..reign };
    assert_eq!(write(&world, forged, &[&entry()]).await, LedgerWritten::NotLeading);
    assert!(read(&world).await.entries.is_empty());
    assert_eq!(write(&world, successor, &[&entry()]).await, LedgerWritten::Written);
    // One that resigns is followed at once.
    world.store.resign_fleet(second).await.unwrap();
    assert_eq!(world.store.lead_fleet(first, TERM).await.unwrap().holder, first);
}

pub async fn a_machine_is_written_version_by_version(world: World) {
    let reign = lead(&world, holder()).await;
    let new = entry();
    let found = gone(&new, START);
    assert!(matches!(write(&world, reign, &[&found]).await, LedgerWritten::Conflict { .. }));
    assert_eq!(write(&world, reign, &[&new]).await, LedgerWritten::Written);
    // Another that thinks it is new, and one that left a version out.
    let other = Entry { epoch: Epoch::new(9), ..new.clone() };
    assert!(matches!(write(&world, reign, &[&other]).await, LedgerWritten::Conflict { .. }));
    let later = Entry { version: 3, ..found.clone() };
    let unrelated = entry();
    let refused = write(&world, reign, &[&unrelated, &later]).await;
    assert!(matches!(refused, LedgerWritten::Conflict { .. }), "{refused:?}");
    assert_eq!(read(&world).await.entries, [new], "all or nothing");
    assert_eq!(write(&world, reign, &[&found]).await, LedgerWritten::Written);
    assert_eq!(read(&world).await.entries, [found]);
}

pub async fn a_repeated_write_is_answered_as_the_first(world: World) {
    let reign = lead(&world, holder()).await;
    let Reign { holder: by, epoch, .. } = reign;
    let whole = LedgerWrite {
        holder: by,
        epoch,
        switch_version: 0,
        entries: vec![entry(), entry()],
        account: Some(account(1, 2)),
        memory: None,
    };
    for _ in 0..2 {
        let written = world.store.write_ledger(whole.clone()).await.unwrap();
        assert_eq!(written, LedgerWritten::Written);
    }
    // Also when others have led and switched since.
    world.store.resign_fleet(by).await.unwrap();
    lead(&world, holder()).await;
    world.store.set_switch(Mode::Freeze, "me".into(), "drill".into()).await.unwrap();
    let written = world.store.write_ledger(whole.clone()).await.unwrap();
    assert_eq!(written, LedgerWritten::Written);
    let other = LedgerWrite { account: Some(account(1, 9)), ..whole };
    assert_eq!(world.store.write_ledger(other).await.unwrap(), LedgerWritten::NotLeading);
    let page = read(&world).await;
    assert_eq!((page.entries.len(), page.account), (2, account(1, 2)));
}

pub async fn nothing_is_written_under_another_switch(world: World) {
    let reign = lead(&world, holder()).await;
    assert_eq!(read(&world).await.switch, Switch::default());
    let set = world.store.set_switch(Mode::Panic, "me".into(), "drill".into()).await.unwrap();
    assert_eq!((set.mode, set.version), (Mode::Panic, 1));
    assert_eq!(read(&world).await.switch, set);
    assert_eq!(write(&world, reign, &[&entry()]).await, LedgerWritten::SwitchChanged);
    let Reign { holder, epoch, .. } = reign;
    let memory = Some(Bytes::from_static(b"learned"));
    let entries = vec![entry()];
    let known = LedgerWrite { holder, epoch, switch_version: 1, entries, account: None, memory };
    assert_eq!(world.store.write_ledger(known).await.unwrap(), LedgerWritten::Written);
    let page = read(&world).await;
    assert_eq!(page.memory.as_deref(), Some(&b"learned"[..]));
    let without = LedgerQuery { with_memory: false, ..ALL };
    assert_eq!(world.store.ledger(without).await.unwrap().memory, None);
}

pub async fn the_ledger_is_read_in_pages_and_forgets_what_ended_long_ago(world: World) {
    let reign = lead(&world, holder()).await;
    let new: Vec<Entry> = (0..5).map(|_| entry()).collect();
    let all: Vec<&Entry> = new.iter().collect();
    assert_eq!(write(&world, reign, &all).await, LedgerWritten::Written);
    let end = START.after(Duration::from_mins(10));
    let ended: Vec<Entry> = new[..2].iter().map(|entry| gone(entry, end)).collect();
    let all: Vec<&Entry> = ended.iter().collect();
    assert_eq!(write(&world, reign, &all).await, LedgerWritten::Written);

    let page = read(&world).await;
    assert_eq!((page.entries.len(), page.next), (5, None));
    assert_eq!(page.open, [(StateKind::Requested, 3)].into());
    let mut ids: Vec<MachineId> = Vec::new();
    let mut query = LedgerQuery { limit: 2, ..ALL };
    loop {
        let page = world.store.ledger(query).await.unwrap();
        ids.extend(page.entries.iter().map(|entry| entry.id));
        let Some(next) = page.next else { break };
        query.after = Some(next);
    }
    let mut sorted = ids.clone();
    sorted.sort_unstable();
    sorted.dedup();
    assert_eq!((ids.len(), &ids), (5, &sorted));
    let later = Some(end.after(Duration::from_millis(1)));
    for ended_since in [None, later] {
        let open = world.store.ledger(LedgerQuery { ended_since, ..ALL }).await.unwrap();
        assert_eq!(open.entries.len(), 3);
    }
    assert_eq!(world.store.expire_machines(end, 10).await.unwrap(), 0);
    let after = end.after(Duration::from_millis(1));
    assert_eq!(world.store.expire_machines(after, 1).await.unwrap(), 1);
    assert_eq!(world.store.expire_machines(after, 10).await.unwrap(), 1);
    assert_eq!(read(&world).await.entries.len(), 3, "what counts is never forgotten");
}

pub async fn a_machine_is_left_from_its_end_on(world: World) {
    let reign = lead(&world, holder()).await;
    let name = |text| InstanceName::new(text).unwrap();
    let leaving = async |text| world.store.is_leaving(name(text)).await.unwrap();
    let new = entry();
    assert_eq!(write(&world, reign, &[&new]).await, LedgerWritten::Written);
    let launched = next(&new, &Event::Found { instance: name("i-1"), launched_at: START });
    assert_eq!(write(&world, reign, &[&launched]).await, LedgerWritten::Written);
    assert!(!leaving("i-1").await);
    let ending = next(&launched, &Event::Terminate { why: Leave::Orphan });
    assert_eq!(write(&world, reign, &[&ending]).await, LedgerWritten::Written);
    assert!(leaving("i-1").await && !leaving("i-2").await);
    let gone = next(&ending, &Event::Ended { why: Ending::Elsewhere });
    assert_eq!(write(&world, reign, &[&gone]).await, LedgerWritten::Written);
    assert!(leaving("i-1").await, "a worker that comes from there is none of the fleet's");
}

pub async fn an_operators_order_stands_above_the_leader(world: World) {
    let reign = lead(&world, holder()).await;
    let order = EndOrder { by: "ann".into(), why: "odd".into(), within: None };
    let end = async |machine, order: &EndOrder| {
        world.store.end_machine(machine, order.clone()).await.unwrap()
    };
    let new = entry();
    assert_eq!(end(new.id, &order).await, MachineEnded::Unknown);
    assert_eq!(write(&world, reign, &[&new]).await, LedgerWritten::Written);
    // What may have been asked for may be there.
    assert!(matches!(end(new.id, &order).await, MachineEnded::Refused(_)));
    assert_eq!(read(&world).await.entries, std::slice::from_ref(&new));

    let instance = InstanceName::new("i-1").unwrap();
    let launched = next(&new, &Event::Found { instance: instance.clone(), launched_at: START });
    assert_eq!(write(&world, reign, &[&launched]).await, LedgerWritten::Written);
    let MachineEnded::Written(ending) = end(new.id, &order).await else { panic!() };
    assert_eq!((ending.version, ending.state.kind()), (3, StateKind::Terminating));
    assert!(matches!(&ending.state, State::Terminating { why, .. } if why.is_ordered()));
    assert_eq!(read(&world).await.entries, [(*ending).clone()]);
    assert!(world.store.is_leaving(instance).await.unwrap());
    // The leader did not know of it, and has to look again; the same order again is answered as before.
    let worker = ids::worker_id();
    let ready = next(&launched, &Event::Registered { worker });
    assert!(matches!(write(&world, reign, &[&ready]).await, LedgerWritten::Conflict { .. }));
    assert_eq!(end(new.id, &order).await, MachineEnded::Written(ending.clone()));
    let gone = next(&ending, &Event::Ended { why: Ending::Elsewhere });
    assert_eq!(write(&world, reign, &[&gone]).await, LedgerWritten::Written);
    assert!(matches!(end(new.id, &order).await, MachineEnded::Refused(_)));
}
