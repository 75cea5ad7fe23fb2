//! The coordinator as the autoscaler calls it: the lead, the ledger, what waits, and who works.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use stoker_core::fleet::Memory;
use stoker_core::fleet::execute::Writes;
use stoker_core::fleet::ledger::{Account, Entry, Ledger, Switch};
use stoker_core::ids::{Epoch, FleetName, WorkerId};
use stoker_core::time::Timestamp;
use stoker_core::units::HumanDuration;
use stoker_proto::client::{self, AddressError};
use stoker_proto::status::{Reason, explain};
use stoker_proto::token::Credentials;
use stoker_proto::v1::admin_service_client::AdminServiceClient;
use stoker_proto::v1::fleet_service_client::FleetServiceClient;
use stoker_proto::{convert, v1};
use stoker_runtime::ids;
use stoker_runtime::secret::Secret;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Code, Status};

/// For every call: a coordinator that is slower is as good as away.
const CALL_LIMIT: Duration = Duration::from_secs(10);
const PAGE: u32 = 1_000;

/// The connection, and what each call shows.
type Calls = InterceptedService<Channel, Credentials>;

/// Calls to one coordinator, under the name of one run of the autoscaler.
#[derive(Debug, Clone)]
pub struct Coordinator {
    fleet: FleetServiceClient<Calls>,
    admin: AdminServiceClient<Calls>,
    holder: String,
}

/// Why a call brought nothing.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    #[error("the coordinator: {0}")]
    Refused(String),
    #[error("the coordinator's answer cannot be used: {0}")]
    Unreadable(String),
    #[error(
        "the coordinator runs the fleet `{theirs}`, and the fleet file is of `{ours}`: one of them is the wrong one"
    )]
    OtherFleet { ours: FleetName, theirs: String },
    /// What is written with a wrong time would be wrong for long: money, deadlines, pauses.
    #[error("this machine's clock and the coordinator's are {} apart: set the wrong one", HumanDuration::new(*.0))]
    ClockOff(Duration),
}

/// The right to write and to call the cloud.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reign {
    pub epoch: Epoch,
    /// By this machine's own clock, counted from before the call: never longer than the coordinator allows.
    pub until: Instant,
}

/// The ledger as it was read.
#[derive(Debug, Clone, PartialEq)]
pub struct Read {
    pub ledger: Ledger,
    pub switch: Switch,
    /// If it was asked for, is there, and is of a version that can be read.
    pub memory: Option<Memory>,
    /// By the coordinator's clock.
    pub read_at: Timestamp,
}

/// How much of the ledger is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    Ledger,
    /// Also what the planner has learned.
    All,
}

/// What became of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    Committed,
    /// Somebody else leads or wrote, or the switch was set: the next round sees it.
    Outrun,
}

impl Coordinator {
    /// Does not connect yet. `token` is what a coordinator may ask autoscalers for.
    pub fn new(address: &str, token: Option<&Secret>) -> Result<Self, AddressError> {
        let channel = client::endpoint(address)?.timeout(CALL_LIMIT).connect_lazy();
        let credentials = Credentials::new(token.map(Secret::expose));
        let calls = InterceptedService::new(channel, credentials);
        let limit = client::MAX_RESPONSE_BYTES;
        Ok(Self {
            fleet: FleetServiceClient::new(calls.clone()).max_decoding_message_size(limit),
            admin: AdminServiceClient::new(calls).max_decoding_message_size(limit),
            holder: ids::event_id().as_uuid().to_string(),
        })
    }

    /// Takes or keeps the lead; `None` while another has it.
    pub async fn lead(&self, term: Duration) -> Result<Option<Reign>, CallError> {
        let asked = Instant::now();
        let request = v1::LeadRequest {
            holder: self.holder.clone(),
            term: Some(convert::wire_duration(term)),
            resign: false,
        };
        let answer =
            self.fleet.clone().lead(request).await.map_err(|status| refused(&status))?.into_inner();
        if !answer.leads {
            return Ok(None);
        }
        let remaining = convert::required(answer.remaining.as_ref(), "remaining")
            .and_then(|wire| convert::duration(wire, "remaining"));
        let until = asked + remaining.map_err(unreadable)?;
        Ok(Some(Reign { epoch: Epoch::new(answer.epoch), until }))
    }

    /// Gives the lead up, so that a successor need not wait for its end.
    pub async fn resign(&self) -> Result<(), CallError> {
        let request = v1::LeadRequest { holder: self.holder.clone(), term: None, resign: true };
        self.fleet.clone().lead(request).await.map_err(|status| refused(&status))?;
        Ok(())
    }

    /// Reads open entries, and those that ended since a time.
    pub async fn ledger(&self, since: Timestamp, ask: Ask) -> Result<Read, CallError> {
        let mut request = v1::ReadLedgerRequest {
            ended_since: Some(convert::wire_timestamp(since)),
            page_size: PAGE,
            page_token: String::new(),
            with_memory: ask == Ask::All,
        };
        let (mut entries, mut first) = (BTreeMap::new(), None);
        loop {
            let answer = self.fleet.clone().read_ledger(request.clone()).await;
            let answer = answer.map_err(|status| refused(&status))?.into_inner();
            for document in &answer.entries {
                let entry: Entry = serde_json::from_slice(document).map_err(unreadable)?;
                entries.insert(entry.id, entry);
            }
            let next = answer.next_page_token.clone();
            first.get_or_insert(answer);
            if next.is_empty() {
                break;
            }
            request = v1::ReadLedgerRequest { page_token: next, with_memory: false, ..request };
        }
        let first = first.unwrap_or_default();
        let account: Account = serde_json::from_slice(&first.account).map_err(unreadable)?;
        let switch = convert::required(first.switch.as_ref(), "switch")
            .and_then(convert::fleet_switch)
            .map_err(unreadable)?;
        let memory = match first.memory.as_slice() {
            [] => None,
            document => serde_json::from_slice(document)
                .inspect_err(|error| {
                    tracing::warn!(%error, "what was learned cannot be read; it is learned anew");
                })
                .ok(),
        };
        let read_at = convert::required(first.read_at.as_ref(), "read_at")
            .and_then(|at| convert::timestamp(at, "read_at"))
            .map_err(unreadable)?;
        Ok(Read { ledger: Ledger { entries, account }, switch, memory, read_at })
    }

    /// Writes all or nothing. After an error it is not known whether it was written.
    pub async fn write(
        &self,
        epoch: Epoch,
        switch: &Switch,
        writes: &Writes,
        memory: Option<Vec<u8>>,
    ) -> Result<Written, CallError> {
        let document = |value: Result<Vec<u8>, _>| value.map_err(unreadable);
        let entries = writes.entries.iter().map(|entry| document(serde_json::to_vec(entry)));
        let account = writes.account.as_ref().map(|account| document(serde_json::to_vec(account)));
        let request = v1::WriteLedgerRequest {
            holder: self.holder.clone(),
            epoch: epoch.number(),
            switch_version: switch.version,
            entries: entries.collect::<Result<_, _>>()?,
            account: account.transpose()?,
            memory,
        };
        match self.fleet.clone().write_ledger(request).await {
            Ok(_) => Ok(Written::Committed),
            Err(status) if is_outrun(&status) => Ok(Written::Outrun),
            Err(status) => Err(refused(&status)),
        }
    }

    /// What waits, and what happened to jobs that were accepted so lately.
    pub async fn demand(&self, past: Duration) -> Result<v1::ObserveDemandResponse, CallError> {
        let request = v1::ObserveDemandRequest { history: Some(convert::wire_duration(past)) };
        let answer = self.admin.clone().observe_demand(request).await;
        Ok(answer.map_err(|status| refused(&status))?.into_inner())
    }

    pub async fn workers(&self) -> Result<v1::ListWorkersResponse, CallError> {
        let answer = self.admin.clone().list_workers(v1::ListWorkersRequest {}).await;
        Ok(answer.map_err(|status| refused(&status))?.into_inner())
    }

    /// Tells a worker to take no more work, and to be done in time.
    pub async fn drain(&self, worker: WorkerId, within: Duration) -> Result<(), CallError> {
        let within = Some(convert::wire_duration(within));
        let request = v1::DrainWorkerRequest { worker_id: worker.to_string(), within };
        self.admin.clone().drain_worker(request).await.map_err(|status| refused(&status))?;
        Ok(())
    }

    /// Whether it is this fleet's.
    ///
    /// # Errors
    /// When it is another's, or cannot be asked.
    pub async fn is_of(&self, fleet: &FleetName) -> Result<(), CallError> {
        let theirs = self.status().await?.fleet;
        if theirs == fleet.as_str() {
            return Ok(());
        }
        Err(CallError::OtherFleet { ours: fleet.clone(), theirs })
    }

    /// Whether it is this fleet's, and lets this autoscaler lead.
    ///
    /// # Errors
    /// As [`is_of`](Self::is_of), and when the token is not what it asks for.
    pub async fn admits(&self, fleet: &FleetName) -> Result<(), CallError> {
        self.is_of(fleet).await?;
        // Whoever does not lead gives up nothing.
        self.resign().await
    }

    async fn status(&self) -> Result<v1::FleetStatusResponse, CallError> {
        let answer = self.admin.clone().fleet_status(v1::FleetStatusRequest {}).await;
        Ok(answer.map_err(|status| refused(&status))?.into_inner())
    }

    /// Orders the end of every machine.
    pub async fn panic(&self, by: &str, why: &str) -> Result<(), CallError> {
        let mode = v1::FleetMode::Panic.into();
        let request = v1::SetSwitchRequest { mode, by: by.to_owned(), why: why.to_owned() };
        self.fleet.clone().set_switch(request).await.map_err(|status| refused(&status))?;
        Ok(())
    }
}

/// Whether a write was refused because of what somebody else did meanwhile.
fn is_outrun(status: &Status) -> bool {
    let outrun = [Reason::NotFleetLeader, Reason::LedgerConflict, Reason::SwitchChanged];
    explain(status).reason.is_some_and(|reason| outrun.contains(&reason))
}

fn refused(status: &Status) -> CallError {
    let message = status.message();
    CallError::Refused(match status.code() {
        Code::Unavailable if message.is_empty() => "it cannot be reached".to_owned(),
        _ => message.to_owned(),
    })
}

fn unreadable(error: impl std::fmt::Display) -> CallError {
    CallError::Unreadable(error.to_string())
}
