//! Workers that are only a voice: they say on which machine they run, and go when they are told to. They do no work.

use std::time::Duration;

use anyhow::Context as _;
use stoker_proto::client;
use stoker_proto::v1::register_response::Command;
use stoker_proto::v1::worker_service_client::WorkerServiceClient;
use stoker_proto::v1::{
    HeartbeatRequest, RegisterRequest, RegisterResponse, WorkerState, WorkerStatus,
};
use stoker_runtime::ids;
use tokio::task::JoinSet;
use tonic::Streaming;
use tonic::transport::Channel;

use super::Fleet;

const BEAT: Duration = Duration::from_secs(1);

/// A worker that only says that it is there. Dropping it ends it without a word.
#[derive(Debug)]
pub struct StandIn {
    _life: JoinSet<()>,
}

impl Fleet {
    /// A worker of the pool `default` that says to run on this machine and to be of this version. It runs no job; told to
    /// drain, it says that it does, and has nothing to finish.
    ///
    /// # Errors
    /// When it is not let in.
    pub async fn add_stand_in(&self, instance: &str, version: &str) -> anyhow::Result<StandIn> {
        let channel = client::endpoint(&self.address())?.connect().await?;
        let mut calls = WorkerServiceClient::new(channel);
        let worker_id = ids::worker_id().to_string();
        let registration = RegisterRequest {
            worker_id: worker_id.clone(),
            pool: "default".to_owned(),
            models: vec!["echo".to_owned()],
            slots: 1,
            version: version.to_owned(),
            instance: instance.to_owned(),
            ..RegisterRequest::default()
        };
        let mut commands = calls.register(registration).await?.into_inner();
        commands.message().await?.context("its stream ended")?;
        let mut voice = Voice { calls, worker_id, state: WorkerState::Ready };
        voice.beat().await?;
        // What it says after its fleet is gone, nobody hears.
        let mut life = JoinSet::new();
        life.spawn(async move { drop(voice.live(commands).await) });
        Ok(StandIn { _life: life })
    }
}

struct Voice {
    calls: WorkerServiceClient<Channel>,
    worker_id: String,
    state: WorkerState,
}

impl Voice {
    async fn live(&mut self, mut commands: Streaming<RegisterResponse>) -> anyhow::Result<()> {
        let mut beats = tokio::time::interval(BEAT);
        loop {
            // Both can be dropped: a command that was not taken yet stays in the stream.
            tokio::select! {
                command = commands.message() => {
                    let command = command?.context("its stream ended")?.command;
                    if matches!(command, Some(Command::Drain(_))) {
                        self.state = WorkerState::Draining;
                        self.beat().await?;
                    }
                }
                _ = beats.tick() => self.beat().await?,
            }
        }
    }

    async fn beat(&mut self) -> anyhow::Result<()> {
        let status = WorkerStatus { state: self.state.into(), ..WorkerStatus::default() };
        let worker_id = self.worker_id.clone();
        let request = HeartbeatRequest { worker_id, attempts: Vec::new(), status: Some(status) };
        self.calls.heartbeat(request).await?;
        Ok(())
    }
}
