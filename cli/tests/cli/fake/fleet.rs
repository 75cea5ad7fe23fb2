//! The fake's ledger: what a test puts there, and the switch.

use std::time::Duration;

use stoker_core::fleet::ledger::{Account, EndOrder, Entry};
use stoker_core::time::Timestamp;
use stoker_proto::v1;
use stoker_proto::v1::fleet_service_server::FleetService;
use stoker_proto::well_known;
use tonic::{Request, Response, Status};

use super::{Handler, NOW};

/// Script and memory of the fake's ledger.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    pub(crate) entries: Vec<Entry>,
    pub(crate) account: Account,
    pub(crate) switch: Option<v1::FleetSwitch>,
    pub(crate) budget: Option<v1::FleetBudget>,
}

fn document(value: &impl serde::Serialize) -> Vec<u8> {
    serde_json::to_vec(value).unwrap()
}

#[tonic::async_trait]
impl FleetService for Handler {
    async fn lead(
        &self,
        _: Request<v1::LeadRequest>,
    ) -> Result<Response<v1::LeadResponse>, Status> {
        Err(Status::unimplemented("the command never leads"))
    }

    /// One entry a page: nothing may rely on the size.
    async fn read_ledger(
        &self,
        request: Request<v1::ReadLedgerRequest>,
    ) -> Result<Response<v1::ReadLedgerResponse>, Status> {
        let asked = request.get_ref();
        self.begin(format!("ledger {:?}", asked.page_token), request.metadata())?;
        let state = self.0.lock().unwrap();
        let since = asked
            .ended_since
            .as_ref()
            .map(|at| at.seconds * 1_000 + i64::from(at.nanos) / 1_000_000);
        let told = |entry: &&Entry| {
            entry
                .times
                .ended
                .is_none_or(|at| since.is_some_and(|since| at.as_unix_millis() >= since))
        };
        let start: usize = asked.page_token.parse().unwrap_or(0);
        let entries: Vec<&Entry> = state.ledger.entries.iter().filter(told).collect();
        let page = entries.get(start).map(document);
        let more = start + 1 < entries.len();
        Ok(Response::new(v1::ReadLedgerResponse {
            entries: page.into_iter().collect(),
            next_page_token: if more { (start + 1).to_string() } else { String::new() },
            account: document(&state.ledger.account),
            switch: Some(state.ledger.switch.clone().unwrap_or_else(|| v1::FleetSwitch {
                mode: v1::FleetMode::Run.into(),
                ..v1::FleetSwitch::default()
            })),
            memory: Vec::new(),
            read_at: Some(well_known::Timestamp { seconds: NOW, nanos: 0 }),
            budget: state.ledger.budget,
        }))
    }

    async fn write_ledger(
        &self,
        _: Request<v1::WriteLedgerRequest>,
    ) -> Result<Response<v1::WriteLedgerResponse>, Status> {
        Err(Status::unimplemented("the command never writes the ledger"))
    }

    async fn set_switch(
        &self,
        request: Request<v1::SetSwitchRequest>,
    ) -> Result<Response<v1::SetSwitchResponse>, Status> {
        let v1::SetSwitchRequest { mode, by, why } = request.get_ref().clone();
        self.begin(format!("switch {mode} {by}: {why}"), request.metadata())?;
        let mut state = self.0.lock().unwrap();
        let set_at = Some(well_known::Timestamp { seconds: NOW, nanos: 0 });
        let switch = v1::FleetSwitch { mode, version: 1, by, why, set_at };
        state.ledger.switch = Some(switch.clone());
        Ok(Response::new(v1::SetSwitchResponse { switch: Some(switch) }))
    }

    async fn end_machine(
        &self,
        request: Request<v1::EndMachineRequest>,
    ) -> Result<Response<v1::EndMachineResponse>, Status> {
        let v1::EndMachineRequest { machine_id, by, why, within } = request.get_ref().clone();
        let time = within.map(|time| time.seconds);
        self.begin(format!("end {machine_id} {time:?} {by}: {why}"), request.metadata())?;
        let state = self.0.lock().unwrap();
        let mut entries = state.ledger.entries.iter();
        let entry = entries.find(|entry| entry.id.to_string() == machine_id);
        let entry = entry.ok_or_else(|| Status::not_found("no such machine"))?;
        let within = time.map(|seconds| Duration::from_secs(u64::try_from(seconds).unwrap()));
        let now = Timestamp::from_unix_millis(NOW * 1_000);
        let ended = EndOrder { by, why, within }.carry_out(entry, now);
        let ended = ended.map_err(|error| Status::failed_precondition(error.to_string()))?;
        Ok(Response::new(v1::EndMachineResponse { entry: document(&ended) }))
    }
}
