//! Autoscalers of a fleet, and the ledger that they keep.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context as _;
use stoker_core::fleet::ledger::{Entry, StateKind};
use stoker_core::ids::MachineId;
use stoker_proto::v1::fleet_service_client::FleetServiceClient;
use stoker_proto::v1::{EndMachineRequest, FleetMode, ReadLedgerRequest, SetSwitchRequest};
use stoker_proto::{client, well_known};
use tonic::transport::Channel;

use super::Fleet;
use crate::programs::Program;

impl Fleet {
    /// Starts an autoscaler that looks five times a second and keeps its lead for a second, unless these variables
    /// say otherwise.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn add_autoscaler(
        &self,
        name: &str,
        environment: &[(&str, &str)],
    ) -> anyhow::Result<Program> {
        let mut command = self.command("stoker-autoscaler")?;
        command
            .args(["--journal", &self.path("journal"), "--machines", &self.path("machines")])
            .envs([("STOKER_INTERVAL", "200ms"), ("STOKER_TERM", "1s")])
            .env("STOKER_COORDINATOR", self.address())
            .envs(environment.iter().copied());
        Program::start(name, command, &self.log(name))
    }

    /// # Errors
    /// When the coordinator cannot be reached.
    pub async fn fleet_calls(&self) -> anyhow::Result<FleetServiceClient<Channel>> {
        let channel = client::endpoint(&self.address())?.connect().await?;
        Ok(FleetServiceClient::new(channel).max_decoding_message_size(client::MAX_RESPONSE_BYTES))
    }

    /// Every machine that there ever was.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub async fn machines(&self) -> anyhow::Result<Vec<Entry>> {
        let mut machines = Vec::new();
        let mut request = ReadLedgerRequest {
            ended_since: Some(well_known::Timestamp { seconds: 0, nanos: 0 }),
            ..ReadLedgerRequest::default()
        };
        loop {
            let page = self.fleet_calls().await?.read_ledger(request.clone()).await?.into_inner();
            for entry in &page.entries {
                machines.push(serde_json::from_slice(entry).context("an entry of the ledger")?);
            }
            if page.next_page_token.is_empty() {
                return Ok(machines);
            }
            request.page_token = page.next_page_token;
        }
    }

    /// How many machines are in which state.
    ///
    /// # Errors
    /// As [`Fleet::machines`].
    pub async fn machines_by_state(&self) -> anyhow::Result<BTreeMap<StateKind, usize>> {
        let mut states = BTreeMap::new();
        for entry in self.machines().await? {
            *states.entry(entry.state.kind()).or_default() += 1;
        }
        Ok(states)
    }

    /// Orders the end of a machine, after this time for its work.
    ///
    /// # Errors
    /// When the order is refused.
    pub async fn end_machine(&self, machine: MachineId, within: Duration) -> anyhow::Result<()> {
        let (by, why) = ("test".to_owned(), "to see what follows".to_owned());
        let within =
            Some(well_known::Duration { seconds: i64::try_from(within.as_secs())?, nanos: 0 });
        let machine_id = machine.to_string();
        let request = EndMachineRequest { machine_id, by, why, within };
        self.fleet_calls().await?.end_machine(request).await?;
        Ok(())
    }

    /// Sets the switch.
    ///
    /// # Errors
    /// When it cannot be set.
    pub async fn switch(&self, mode: FleetMode) -> anyhow::Result<()> {
        let (by, why) = ("test".to_owned(), "to see what follows".to_owned());
        let request = SetSwitchRequest { mode: mode.into(), by, why };
        self.fleet_calls().await?.set_switch(request).await?;
        Ok(())
    }
}
