//! The fleet's ledger as the coordinator keeps it, read whole.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::de::DeserializeOwned;
use stoker_core::fleet::ledger::{Account, Entry, Spend, Switch};
use stoker_core::fleet::{Budget, Memory};
use stoker_core::ids::MachineId;
use stoker_core::time::Timestamp;
use stoker_proto::convert;
use stoker_proto::v1;

use super::Client;
use crate::failure::Failure;
use crate::render::time::{from_wire, to_wire};

/// Entries in one answer.
const PAGE: u32 = 1_000;

/// An autoscaler that is at work writes its account far more often.
const WRITES_WITHIN: Duration = Duration::from_mins(2);

/// The ledger, as it was at one time.
#[derive(Debug, Clone)]
pub(crate) struct LedgerView {
    /// Those that count, and those that ended since the time that was asked for.
    pub(crate) entries: BTreeMap<MachineId, Entry>,
    pub(crate) account: Account,
    pub(crate) switch: Switch,
    /// Of the coordinator's fleet file; `None`: it does not say.
    pub(crate) budget: Option<Budget>,
    pub(crate) read_at: Timestamp,
    /// What the planner has learned, where that was asked for and can be read.
    pub(crate) memory: Option<Memory>,
}

impl LedgerView {
    /// How long nothing was written, if that is longer than it takes an autoscaler that is at work. `None` as well if none
    /// has ever written.
    pub(crate) fn silence(&self) -> Option<Duration> {
        let silent = self.read_at.since(self.account.spend.charged_until?);
        (silent > WRITES_WITHIN).then_some(silent)
    }

    /// Machines that may be there.
    pub(crate) fn open(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values().filter(|entry| entry.state.counts())
    }

    /// What was spent in this day and month, up to when it was read: the autoscaler's own account, charged on.
    pub(crate) fn spend(&self) -> Spend {
        let mut spend = self.account.spend;
        spend.charge(&self.entries, self.read_at);
        spend
    }
}

impl Client {
    /// The ledger with what ended since `ended_since`, and with all that is still to be charged for.
    pub(crate) async fn ledger(&self, ended_since: Timestamp) -> Result<LedgerView, Failure> {
        let view = self.ledger_since(ended_since).await?;
        let needed = view.account.needed_since(view.read_at);
        if needed < ended_since { self.ledger_since(needed).await } else { Ok(view) }
    }

    /// The ledger with what ended since `ended_since` only.
    pub(crate) async fn ledger_since(&self, ended_since: Timestamp) -> Result<LedgerView, Failure> {
        self.whole_ledger(v1::ReadLedgerRequest {
            ended_since: Some(to_wire(ended_since)),
            ..v1::ReadLedgerRequest::default()
        })
        .await
    }

    /// The ledger with what is there, and what the planner has learned.
    pub(crate) async fn ledger_and_memory(&self) -> Result<LedgerView, Failure> {
        let request = v1::ReadLedgerRequest { with_memory: true, ..Default::default() };
        self.whole_ledger(request).await
    }

    async fn whole_ledger(
        &self,
        mut request: v1::ReadLedgerRequest,
    ) -> Result<LedgerView, Failure> {
        request.page_size = PAGE;
        let (mut entries, mut memory) = (BTreeMap::new(), Vec::new());
        loop {
            let answer = self.read_ledger(request.clone()).await?;
            if request.with_memory {
                memory.clone_from(&answer.memory);
                request.with_memory = false;
            }
            for json in &answer.entries {
                let entry: Entry = self.parse(json, "an entry")?;
                entries.insert(entry.id, entry);
            }
            // What changes between two pages shows in the account of the last.
            if answer.next_page_token.is_empty() {
                // One of another version says nothing here; then the past is lived through again.
                let memory = serde_json::from_slice(&memory).ok();
                return Ok(LedgerView { memory, ..self.view(entries, &answer)? });
            }
            request.page_token = answer.next_page_token;
        }
    }

    fn view(
        &self,
        entries: BTreeMap<MachineId, Entry>,
        last: &v1::ReadLedgerResponse,
    ) -> Result<LedgerView, Failure> {
        let incomplete = || self.malformed("read the fleet's ledger");
        let switch = last.switch.as_ref().ok_or_else(incomplete)?;
        let switch = convert::fleet_switch(switch).map_err(|problem| {
            Failure::failed(format!("cannot read the fleet's ledger: {problem}"))
        })?;
        let read_at = from_wire(last.read_at.as_ref()).ok_or_else(incomplete)?;
        let account = self.parse(&last.account, "the account")?;
        let budget = last.budget.as_ref().map(convert::fleet_budget);
        Ok(LedgerView { entries, account, switch, budget, read_at, memory: None })
    }

    /// Orders the end of a machine; answers it with the order.
    pub(crate) async fn order_end(&self, order: v1::EndMachineRequest) -> Result<Entry, Failure> {
        let answer = self.end_machine(order).await?;
        self.parse(&answer.entry, "the entry")
    }

    fn parse<T: DeserializeOwned>(&self, json: &[u8], what: &str) -> Result<T, Failure> {
        serde_json::from_slice(json).map_err(|error| {
            let problem = format!("{what} is not what this version reads there: {error}");
            Failure::failed(format!("cannot read the ledger of {}: {problem}", self.server()))
                .hint("use the version of this command that the coordinator has: `stoker version`")
        })
    }
}
