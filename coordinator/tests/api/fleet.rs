//! The fleet's ledger over the wire.

use stoker_coordinator::config::BrokerChoice;
use stoker_core::fleet::CapacityType;
use stoker_core::fleet::ledger::{Account, Ending, Entry, Event, Leave, Order, StateKind, apply};
use stoker_core::ids::{Epoch, InstanceName, OfferingName, PoolName};
use stoker_core::money::{HourlyPrice, Money};
use stoker_core::time::Timestamp;
use stoker_proto::status::Reason;
use stoker_proto::v1;
use stoker_proto::v1::claim_outcome::Outcome;
use stoker_proto::v1::fleet_service_client::FleetServiceClient;
use stoker_proto::v1::register_response::Command;
use stoker_proto::well_known;
use stoker_runtime::clock::{Clock as _, SystemClock};
use stoker_runtime::ids;
use tonic::Code;
use tonic::transport::Channel;

use crate::fixture::{Coordinator, Worker, claim, refused};

async fn client(coordinator: &Coordinator) -> FleetServiceClient<Channel> {
    FleetServiceClient::new(coordinator.channel().await)
}

fn seconds(seconds: i64) -> well_known::Duration {
    well_known::Duration { seconds, nanos: 0 }
}

fn entry() -> Entry {
    let now = Timestamp::from_unix_millis(1_700_000_000_000);
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
    Entry { version: 1, ..Entry::intended(ids::machine_id(now), Epoch::new(1), order, now) }
}

/// An autoscaler that leads.
struct Leader {
    fleet: FleetServiceClient<Channel>,
    holder: String,
    epoch: u64,
}

impl Leader {
    async fn of(coordinator: &Coordinator) -> Self {
        let mut fleet = client(coordinator).await;
        let holder = ids::worker_id().to_string();
        let term = Some(seconds(30));
        let ask = v1::LeadRequest { holder: holder.clone(), term, resign: false };
        let lead = fleet.lead(ask).await.unwrap().into_inner();
        assert!(lead.leads, "{lead:?}");
        Self { fleet, holder, epoch: lead.epoch }
    }

    async fn write(&mut self, entry: &Entry) {
        self.write_all(std::slice::from_ref(entry)).await;
    }

    async fn write_all(&mut self, entries: &[Entry]) {
        let write = v1::WriteLedgerRequest {
            holder: self.holder.clone(),
            epoch: self.epoch,
            switch_version: 0,
            entries: entries.iter().map(|entry| serde_json::to_vec(entry).unwrap()).collect(),
            account: None,
            memory: None,
        };
        self.fleet.write_ledger(write).await.unwrap();
    }

    /// Writes what the entry becomes by an event.
    async fn next(&mut self, entry: &Entry, event: Event) -> Entry {
        // Of now: what ended long ago is forgotten.
        let after = apply(entry, &event, SystemClock::new().now()).unwrap();
        let after = Entry { version: entry.version + 1, ..after };
        self.write(&after).await;
        after
    }
}

#[tokio::test]
async fn a_large_fleet_is_written_at_once() {
    let coordinator = Coordinator::start("").await;
    let mut leader = Leader::of(&coordinator).await;
    // A panic ends all of them in one step.
    let now = SystemClock::new().now();
    let fleet: Vec<Entry> =
        (0..3_000).map(|_| Entry { id: ids::machine_id(now), ..entry() }).collect();
    leader.write_all(&fleet).await;
    let asked = |entry: &Entry| {
        let after = apply(entry, &Event::Asked, now).unwrap();
        Entry { version: entry.version + 1, ..after }
    };
    leader.write_all(&fleet.iter().map(asked).collect::<Vec<_>>()).await;
    let ask = v1::ReadLedgerRequest { page_size: 1_000, ..Default::default() };
    let read = leader.fleet.read_ledger(ask).await.unwrap().into_inner();
    assert_eq!(read.entries.len(), 1_000);
    assert!(!read.next_page_token.is_empty());
    coordinator.stop().await;
}

#[tokio::test]
async fn an_autoscaler_leads_writes_and_is_stopped() {
    let coordinator = Coordinator::start("[budget]\nmax-instances = 3\nper-day = 12.5\n").await;
    let mut fleet = client(&coordinator).await;
    let holder = ids::worker_id().to_string();
    let ask = v1::LeadRequest { holder: holder.clone(), term: Some(seconds(30)), resign: false };
    let lead = fleet.lead(ask.clone()).await.unwrap().into_inner();
    assert!(lead.leads && lead.epoch == 1 && lead.leader == holder, "{lead:?}");
    let other = v1::LeadRequest { holder: ids::worker_id().to_string(), ..ask };
    let theirs = fleet.lead(other.clone()).await.unwrap().into_inner();
    assert!(!theirs.leads && theirs.leader == holder, "{theirs:?}");

    let entry = entry();
    let account = Account { version: 1, intents: 1, ..Account::default() };
    let write = v1::WriteLedgerRequest {
        holder: holder.clone(),
        epoch: lead.epoch,
        switch_version: 0,
        entries: vec![serde_json::to_vec(&entry).unwrap()],
        account: Some(serde_json::to_vec(&account).unwrap()),
        memory: Some(b"learned".to_vec()),
    };
    let stranger = v1::WriteLedgerRequest { holder: other.holder.clone(), ..write.clone() };
    assert_eq!(refused(fleet.write_ledger(stranger).await).reason, Some(Reason::NotFleetLeader));
    fleet.write_ledger(write.clone()).await.unwrap();
    fleet.write_ledger(write.clone()).await.unwrap();
    let ask = v1::ReadLedgerRequest { with_memory: true, ..v1::ReadLedgerRequest::default() };
    let read = fleet.read_ledger(ask).await.unwrap().into_inner();
    assert_eq!(read.memory, b"learned");
    let stored: Entry = serde_json::from_slice(&read.entries[0]).unwrap();
    assert_eq!((read.entries.len(), stored), (1, entry));
    assert_eq!(serde_json::from_slice::<Account>(&read.account).unwrap(), account);
    assert_eq!(read.switch.unwrap().mode(), v1::FleetMode::Run);
    let budget = read.budget.unwrap();
    assert_eq!((budget.max_instances, budget.per_day_micros), (Some(3), Some(12_500_000)));
    assert_eq!(budget.per_hour_micros, None);

    let set = v1::SetSwitchRequest {
        mode: v1::FleetMode::Freeze.into(),
        by: "me".into(),
        why: "drill".into(),
    };
    let switch = fleet.set_switch(set).await.unwrap().into_inner().switch.unwrap();
    assert_eq!((switch.mode(), switch.version), (v1::FleetMode::Freeze, 1));
    let new = v1::WriteLedgerRequest { account: None, entries: vec![], ..write };
    assert_eq!(refused(fleet.write_ledger(new).await).reason, Some(Reason::SwitchChanged));
    coordinator.stop().await;
}

#[tokio::test]
async fn what_is_no_ledger_is_refused_with_its_field() {
    let coordinator = Coordinator::start("").await;
    let mut fleet = client(&coordinator).await;
    let holder = ids::worker_id().to_string();
    for (holder, term) in
        [("", Some(seconds(9))), (holder.as_str(), None), (&holder, Some(seconds(600)))]
    {
        let request = v1::LeadRequest { holder: holder.to_owned(), term, resign: false };
        assert_eq!(refused(fleet.lead(request).await).code, Code::InvalidArgument);
    }
    let good = serde_json::to_vec(&entry()).unwrap();
    let write = |entries: Vec<Vec<u8>>, account: Option<Vec<u8>>| v1::WriteLedgerRequest {
        holder: holder.clone(),
        epoch: 1,
        switch_version: 0,
        entries,
        account,
        memory: None,
    };
    let cases = [
        (write(vec![good.clone(), b"{}".to_vec()], None), "entries[1]"),
        (write(vec![good.clone(), good], None), "entries[1]"),
        (write(vec![vec![b' '; 20_000]], None), "entries[0]"),
        (write(vec![vec![]; 10_001], None), "entries"),
        (write(vec![], Some(b"nothing".to_vec())), "account"),
        (
            v1::WriteLedgerRequest { memory: Some(vec![0; 9 << 20]), ..write(vec![], None) },
            "memory",
        ),
    ];
    for (request, field) in cases {
        let explained = refused(fleet.write_ledger(request).await);
        assert_eq!(explained.violations[0].field, field, "{explained}");
    }
    let set = |mode, by: &str, why: &str| v1::SetSwitchRequest {
        mode,
        by: by.to_owned(),
        why: why.to_owned(),
    };
    for request in [set(0, "me", "x"), set(9, "me", "x"), set(1, " ", "x"), set(1, "me", "a\nb")] {
        assert_eq!(refused(fleet.set_switch(request).await).code, Code::InvalidArgument);
    }
    let request = v1::ReadLedgerRequest { page_token: "x".into(), ..Default::default() };
    assert_eq!(refused(fleet.read_ledger(request).await).violations[0].field, "page_token");
    coordinator.stop().await;
}

#[tokio::test]
async fn a_machine_that_is_being_ended_gets_no_more_work() {
    let coordinator = Coordinator::start("").await;
    let mut leader = Leader::of(&coordinator).await;
    let mut leaving = Worker::on(&coordinator, "i-1").await;
    let mut staying = Worker::on(&coordinator, "i-2").await;
    for worker in [&mut leaving, &mut staying] {
        worker.beat(v1::WorkerState::Ready).await;
    }
    let new = entry();
    leader.write(&new).await;
    let launched_at = new.times.intended;
    let found = Event::Found { instance: InstanceName::new("i-1").unwrap(), launched_at };
    let launched = leader.next(&new, found).await;
    let held_job = coordinator.submit(&["a"]).await;
    let held = leaving.take(&coordinator, &held_job).await;

    leader.next(&launched, Event::Terminate { why: Leave::Panic }).await;
    assert_eq!(leaving.command().await, Command::Drain(v1::Drain { within: None }));
    let job = coordinator.submit(&["b"]).await;
    let dispatched = coordinator.wait_for(&job, v1::JobState::Dispatched).await;
    let ask = claim(&job, dispatched.dispatches);
    let outcomes = leaving.claim(vec![ask]).await.unwrap();
    assert_eq!(outcomes, [Outcome::Deferred(v1::ClaimDeferred {})]);
    let waiting = coordinator.get(&job).await;
    assert_eq!((waiting.state(), waiting.attempts), (v1::JobState::Dispatched, 0));
    staying.take(&coordinator, &job).await;
    // What it holds it may still end or give back.
    let released = leaving.release(&held.fence, v1::ReleaseReason::Draining, vec![]).await;
    assert_eq!(released.unwrap(), v1::SettleOutcome::Recorded);
}

#[tokio::test]
async fn a_worker_that_comes_from_a_machine_that_is_being_ended_is_sent_away_first() {
    let coordinator = Coordinator::start("").await;
    let mut leader = Leader::of(&coordinator).await;
    let new = entry();
    leader.write(&new).await;
    let launched_at = new.times.intended;
    let found = Event::Found { instance: InstanceName::new("i-1").unwrap(), launched_at };
    let launched = leader.next(&new, found).await;
    let ending = leader.next(&launched, Event::Terminate { why: Leave::NeverRegistered }).await;
    let mut late = Worker::on(&coordinator, "i-1").await;
    assert_eq!(late.command().await, Command::Drain(v1::Drain { within: None }));
    leader.next(&ending, Event::Ended { why: Ending::Vanished }).await;
    // After a restart as well: the ledger knows.
    let coordinator =
        Coordinator::start_in(coordinator.stop().await, "", BrokerChoice::Embedded).await;
    let mut later = Worker::on(&coordinator, "i-1").await;
    assert_eq!(later.command().await, Command::Drain(v1::Drain { within: None }));
    let mut other = Worker::on(&coordinator, "i-2").await;
    other.beat(v1::WorkerState::Ready).await;
    let job = coordinator.submit(&["a"]).await;
    other.take(&coordinator, &job).await;
}

#[tokio::test]
async fn an_operator_ends_one_machine_and_its_worker_gets_no_more_work() {
    let coordinator = Coordinator::start("").await;
    let mut leader = Leader::of(&coordinator).await;
    let mut worker = Worker::on(&coordinator, "i-1").await;
    worker.beat(v1::WorkerState::Ready).await;
    let new = entry();
    leader.write(&new).await;
    let mut fleet = client(&coordinator).await;
    let order = |within| v1::EndMachineRequest {
        machine_id: new.id.to_string(),
        by: "ann".into(),
        why: "its disk is odd".into(),
        within,
    };
    let launched_at = new.times.intended;
    let asked = leader.next(&new, Event::Asked).await;
    let early = refused(fleet.end_machine(order(None)).await);
    assert_eq!(
        (early.code, early.reason),
        (Code::FailedPrecondition, Some(Reason::MachineNotThere))
    );
    let found = Event::Found { instance: InstanceName::new("i-1").unwrap(), launched_at };
    let launched = leader.next(&asked, found).await;
    let ready = leader.next(&launched, Event::Registered { worker: ids::worker_id() }).await;

    let mut ended = async |within| -> Entry {
        let answer = fleet.end_machine(order(within)).await.unwrap().into_inner();
        serde_json::from_slice(&answer.entry).unwrap()
    };
    let draining = ended(Some(seconds(60))).await;
    assert_eq!((draining.state.kind(), draining.version), (StateKind::Draining, ready.version + 1));
    assert_eq!(ended(Some(seconds(60))).await, draining, "given again it changes nothing");
    let ending = ended(None).await;
    assert_eq!(ending.state.kind(), StateKind::Terminating);
    assert_eq!(worker.command().await, Command::Drain(v1::Drain { within: None }));
    leader.next(&ending, Event::Ended { why: Ending::Elsewhere }).await;
    let late = refused(fleet.end_machine(order(None)).await);
    assert_eq!(late.reason, Some(Reason::MachineNotThere));

    let unknown = v1::EndMachineRequest { machine_id: entry().id.to_string(), ..order(None) };
    assert_eq!(refused(fleet.end_machine(unknown).await).code, Code::NotFound);
    for (wrong, field) in [
        (v1::EndMachineRequest { machine_id: "i-1".into(), ..order(None) }, "machine_id"),
        (v1::EndMachineRequest { why: String::new(), ..order(None) }, "why"),
        (v1::EndMachineRequest { by: "a\nb".into(), ..order(None) }, "by"),
        (order(Some(seconds(86_401))), "within"),
    ] {
        let refused = refused(fleet.end_machine(wrong).await);
        assert_eq!(
            (refused.code, refused.violations[0].field.as_str()),
            (Code::InvalidArgument, field)
        );
    }
    coordinator.stop().await;
}
