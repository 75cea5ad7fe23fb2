//! `FleetService`: what autoscalers agree by, and operators stop them with.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use stoker_core::fleet::ledger::{Account, EndOrder, Entry};
use stoker_core::ids::{Epoch, InstanceName, MachineId};
use stoker_proto::client::MAX_MEMORY_BYTES;
use stoker_proto::convert::{self, wire_duration, wire_timestamp};
use stoker_proto::status::{self, FieldViolation, Reason, Resource};
use stoker_proto::v1;
use stoker_proto::v1::fleet_service_server::FleetService;
use tonic::{Request, Response, Status};
use uuid::Uuid;

use crate::context::Context;
use crate::metrics;
use crate::store::{LedgerQuery, LedgerWrite, LedgerWritten, MachineEnded, WorkerOrder, leaving};

use super::errors;

const SHORTEST_TERM: Duration = Duration::from_secs(1);
const LONGEST_TERM: Duration = Duration::from_mins(1);
const PAGE: u32 = 500;
const LARGEST_PAGE: u32 = 1_000;
/// Entries in one write, which may end a whole fleet, and bytes of each document.
const MOST_ENTRIES: usize = 10_000;
const MOST_ENTRY_BYTES: usize = 16 << 10;
const MOST_ACCOUNT_BYTES: usize = 1 << 20;
const MOST_REASON_CHARS: usize = 200;
/// For a worker to be done before its machine ends.
const LONGEST_DRAIN: Duration = Duration::from_hours(24);

/// The service.
#[derive(Debug)]
pub(super) struct FleetCalls {
    context: Arc<Context>,
}

impl FleetCalls {
    pub(super) fn new(context: Arc<Context>) -> Self {
        Self { context }
    }

    /// Gives no more work to machines that are being ended, wherever their workers have their streams. A worker
    /// that registers later finds its machine in the ledger.
    async fn clear(&self, entries: &[Entry]) -> Result<(), Status> {
        let machines: BTreeSet<InstanceName> =
            entries.iter().filter_map(|entry| leaving(&entry.state).cloned()).collect();
        if machines.is_empty() {
            return Ok(());
        }
        for worker in self.context.registry.on_machines(&machines) {
            tracing::info!(%worker, "the machine of a worker is being ended");
            self.context.registry.send_away(worker);
            let order = WorkerOrder::Drain(None);
            self.context.store.order_worker(worker, order).await.map_err(errors::store)?;
        }
        Ok(())
    }
}

#[tonic::async_trait]
impl FleetService for FleetCalls {
    async fn lead(
        &self,
        request: Request<v1::LeadRequest>,
    ) -> Result<Response<v1::LeadResponse>, Status> {
        let v1::LeadRequest { holder, term, resign } = request.into_inner();
        let holder = uuid(&holder, "holder").map_err(refuse)?;
        let store = &self.context.store;
        if resign {
            store.resign_fleet(holder).await.map_err(errors::store)?;
            return Ok(Response::new(v1::LeadResponse::default()));
        }
        let term = self::term(term.as_ref()).map_err(refuse)?;
        let reign = store.lead_fleet(holder, term).await.map_err(errors::store)?;
        let leads = reign.holder == holder && !reign.remaining.is_zero();
        metrics::fleet_epoch(reign.epoch);
        Ok(Response::new(v1::LeadResponse {
            leads,
            epoch: reign.epoch.number(),
            leader: if reign.epoch.number() == 0 {
                String::new()
            } else {
                reign.holder.to_string()
            },
            remaining: Some(wire_duration(reign.remaining)),
        }))
    }

    async fn read_ledger(
        &self,
        request: Request<v1::ReadLedgerRequest>,
    ) -> Result<Response<v1::ReadLedgerResponse>, Status> {
        let query = query(&request.into_inner()).map_err(refuse)?;
        let page = self.context.store.ledger(query).await.map_err(errors::store)?;
        let entries = page.entries.iter().map(document).collect::<Result<_, _>>()?;
        Ok(Response::new(v1::ReadLedgerResponse {
            entries,
            next_page_token: page.next.map_or_else(String::new, |id| id.to_string()),
            account: document(&page.account)?,
            switch: Some(convert::wire_fleet_switch(&page.switch)),
            memory: page.memory.map(Vec::from).unwrap_or_default(),
            read_at: Some(wire_timestamp(page.read_at)),
            budget: Some(convert::wire_fleet_budget(&self.context.fleet.budget)),
        }))
    }

    async fn write_ledger(
        &self,
        request: Request<v1::WriteLedgerRequest>,
    ) -> Result<Response<v1::WriteLedgerResponse>, Status> {
        let write = write(request.into_inner()).map_err(refuse)?;
        let entries = write.entries.clone();
        let epoch = write.epoch;
        let written = self.context.store.write_ledger(write).await.map_err(errors::store)?;
        metrics::ledger_written(&written, &entries);
        match refusal(&written, epoch) {
            // If this fails the write is there all the same: it is answered as written when it comes again.
            None => {
                self.clear(&entries).await?;
                Ok(Response::new(v1::WriteLedgerResponse {}))
            }
            Some(status) => Err(status),
        }
    }

    async fn set_switch(
        &self,
        request: Request<v1::SetSwitchRequest>,
    ) -> Result<Response<v1::SetSwitchResponse>, Status> {
        let v1::SetSwitchRequest { mode, by, why } = request.into_inner();
        let mode = convert::fleet_mode(mode, "mode").map_err(refuse)?;
        for (text, field) in [(&by, "by"), (&why, "why")] {
            said(text, field).map_err(refuse)?;
        }
        let switch = self.context.store.set_switch(mode, by, why).await.map_err(errors::store)?;
        tracing::warn!(mode = mode.name(), by = switch.by, why = switch.why, "the fleet's switch");
        let switch = Some(convert::wire_fleet_switch(&switch));
        Ok(Response::new(v1::SetSwitchResponse { switch }))
    }

    async fn end_machine(
        &self,
        request: Request<v1::EndMachineRequest>,
    ) -> Result<Response<v1::EndMachineResponse>, Status> {
        let (machine, order) = end_order(request.into_inner()).map_err(refuse)?;
        let (by, why) = (order.by.clone(), order.why.clone());
        let ended = self.context.store.end_machine(machine, order).await.map_err(errors::store)?;
        let entry = match ended {
            MachineEnded::Written(entry) => *entry,
            MachineEnded::Unknown => return Err(status::not_found(Resource::Machine, machine)),
            MachineEnded::Refused(illegal) => {
                return Err(status::failed_precondition(
                    Reason::MachineNotThere,
                    &format!("machine {machine}"),
                    illegal,
                    "one that was asked for can be ended once the provider has made it, which takes \
                     seconds; one that is gone needs no end",
                ));
            }
        };
        let state = entry.state.kind().name();
        tracing::warn!(%machine, state, by, why, "an operator ends a machine");
        // If this fails the order is there all the same: it is given again with the same call.
        self.clear(std::slice::from_ref(&entry)).await?;
        Ok(Response::new(v1::EndMachineResponse { entry: document(&entry)? }))
    }
}

fn refuse(violation: FieldViolation) -> Status {
    status::invalid(&[violation])
}

fn uuid(text: &str, field: &str) -> Result<Uuid, FieldViolation> {
    let found = Uuid::try_parse(text).ok().filter(|uuid| !uuid.is_nil());
    found.ok_or_else(|| {
        FieldViolation::new(field, "is not the UUID of a process: make a random one at its start")
    })
}

fn term(wire: Option<&stoker_proto::well_known::Duration>) -> Result<Duration, FieldViolation> {
    let term = convert::duration(convert::required(wire, "term")?, "term")?;
    if (SHORTEST_TERM..=LONGEST_TERM).contains(&term) {
        return Ok(term);
    }
    Err(FieldViolation::new("term", "must be 1 s to 60 s"))
}

/// Who or why, in so many words that a log line has room for them.
fn said(text: &str, field: &str) -> Result<(), FieldViolation> {
    let chars = text.trim().chars().count();
    if (1..=MOST_REASON_CHARS).contains(&chars) && !text.chars().any(char::is_control) {
        return Ok(());
    }
    let problem = "must have 1 to 200 characters, none of them a control character";
    Err(FieldViolation::new(field, problem))
}

fn end_order(request: v1::EndMachineRequest) -> Result<(MachineId, EndOrder), FieldViolation> {
    let v1::EndMachineRequest { machine_id, by, why, within } = request;
    let machine: MachineId = machine_id
        .parse()
        .map_err(|_| FieldViolation::new("machine_id", "is no id of a machine: see the ledger"))?;
    for (text, field) in [(&by, "by"), (&why, "why")] {
        said(text, field)?;
    }
    let within = within.as_ref().map(|time| convert::duration(time, "within")).transpose()?;
    if within.is_some_and(|within| within > LONGEST_DRAIN) {
        return Err(FieldViolation::new("within", "must be at most 24 h"));
    }
    Ok((machine, EndOrder { by, why, within }))
}

fn query(request: &v1::ReadLedgerRequest) -> Result<LedgerQuery, FieldViolation> {
    let v1::ReadLedgerRequest { ended_since, page_size, page_token, with_memory } = request;
    if *page_size > LARGEST_PAGE {
        return Err(FieldViolation::new("page_size", "must be at most 1000"));
    }
    let ended_since =
        ended_since.as_ref().map(|at| convert::timestamp(at, "ended_since")).transpose()?;
    let after = (!page_token.is_empty())
        .then(|| page_token.parse::<MachineId>())
        .transpose()
        .map_err(|_| FieldViolation::new("page_token", "is of no answer: begin again"))?;
    let limit = if *page_size == 0 { PAGE } else { *page_size };
    Ok(LedgerQuery { ended_since, after, limit, with_memory: *with_memory })
}

fn write(request: v1::WriteLedgerRequest) -> Result<LedgerWrite, FieldViolation> {
    let v1::WriteLedgerRequest { holder, epoch, switch_version, entries, account, memory } =
        request;
    if entries.len() > MOST_ENTRIES {
        return Err(FieldViolation::new("entries", "are more than 10000: split the write"));
    }
    let memory = memory.map(Bytes::from);
    if memory.as_ref().is_some_and(|memory| memory.len() > MAX_MEMORY_BYTES) {
        return Err(FieldViolation::new("memory", "is larger than 8 MiB"));
    }
    let mut read: Vec<Entry> = Vec::with_capacity(entries.len());
    let mut machines = BTreeSet::new();
    for (index, json) in entries.iter().enumerate() {
        let field = format!("entries[{index}]");
        let entry: Entry = parse(json, &field, MOST_ENTRY_BYTES)?;
        if !machines.insert(entry.id) {
            return Err(FieldViolation::new(field, "is of a machine that stands there before"));
        }
        read.push(entry);
    }
    let account =
        account.map(|json| parse::<Account>(&json, "account", MOST_ACCOUNT_BYTES)).transpose()?;
    let (holder, epoch) = (uuid(&holder, "holder")?, Epoch::new(epoch));
    Ok(LedgerWrite { holder, epoch, switch_version, entries: read, account, memory })
}

fn parse<T: DeserializeOwned>(json: &[u8], field: &str, most: usize) -> Result<T, FieldViolation> {
    if json.len() > most {
        let problem = format!("has {} bytes and may have {most}", json.len());
        return Err(FieldViolation::new(field, problem));
    }
    serde_json::from_slice(json).map_err(|error| {
        FieldViolation::new(field, format!("is not what this version writes there: {error}"))
    })
}

fn document(value: &impl serde::Serialize) -> Result<Vec<u8>, Status> {
    serde_json::to_vec(value).map_err(|error| errors::internal(&error))
}

fn refusal(written: &LedgerWritten, epoch: Epoch) -> Option<Status> {
    let subject = format!("epoch {epoch}");
    let (reason, message, remedy) = match written {
        LedgerWritten::Written => return None,
        LedgerWritten::NotLeading => (
            Reason::NotFleetLeader,
            "another autoscaler has led since".to_owned(),
            "make no call that the write was for, and ask for the lead again",
        ),
        LedgerWritten::SwitchChanged => (
            Reason::SwitchChanged,
            "an operator has set the switch since it was read".to_owned(),
            "read the ledger and decide again",
        ),
        LedgerWritten::Conflict { what } => {
            (Reason::LedgerConflict, what.clone(), "read the ledger and decide again")
        }
        LedgerWritten::Full => (
            Reason::LedgerFull,
            "so many machines count already that something must be wrong".to_owned(),
            "look at what the fleet launches, and at its caps",
        ),
    };
    Some(status::failed_precondition(reason, &subject, message, remedy))
}
