//! Publishing: lanes that each keep one window of unconfirmed messages on a channel of their own.
//!
//! Several lanes hide each other's waits; one channel per lane keeps a window's returns apart
//! (see [`super::window`]).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::future::join_all;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Confirmation};
use tokio::sync::{Mutex, mpsc, oneshot, watch};
use tokio::time::timeout;

use super::failure::bounded;
use super::live::Live;
use super::window::{self, Answer};
use crate::error::{BrokerError, PublishError};
use crate::message::{Hint, Queue};
use crate::topology::Topology;
use crate::wire;

pub(super) const LANES: usize = 4;

const PERSISTENT: u8 = 2;

pub(super) type Outcomes = Vec<Result<(), PublishError>>;

/// A short run of hints that stays together and in order.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) messages: Vec<Outgoing>,
    pub(super) done: oneshot::Sender<Outcomes>,
}

/// A hint ready for the wire.
#[derive(Debug)]
pub(super) struct Outgoing {
    queue: Queue,
    routing_key: String,
    message_id: String,
    body: Vec<u8>,
    headers: FieldTable,
}

impl Outgoing {
    /// The message id is unique per publish, so that a returned one can't be mistaken.
    pub(super) fn new(hint: Hint, topology: &Topology) -> Self {
        static PUBLISHES: AtomicU64 = AtomicU64::new(0);
        let number = PUBLISHES.fetch_add(1, Ordering::Relaxed);
        let mut headers = FieldTable::default();
        for (name, value) in wire::carried(&hint.trace) {
            headers.insert(name.into(), AMQPValue::LongString(value.into()));
        }
        Self {
            routing_key: topology.routing_key(&hint.queue),
            message_id: format!("{}:{}:{number}", hint.job, hint.seq.number()),
            body: wire::encode(&hint),
            headers,
            queue: hint.queue,
        }
    }
}

/// What lanes share.
#[derive(Debug)]
pub(super) struct Intake {
    runs: Mutex<mpsc::Receiver<Run>>,
    pub(super) exchange: String,
    pub(super) publish_timeout: Duration,
    /// A lane takes runs up to this many messages into one window.
    pub(super) window: usize,
    /// Bumped when a message came back from a queue that should exist.
    pub(super) missing: watch::Sender<u64>,
}

impl Intake {
    pub(super) fn new(
        runs: mpsc::Receiver<Run>,
        exchange: String,
        publish_timeout: Duration,
        window: usize,
    ) -> Self {
        let missing = watch::Sender::new(0);
        Self { runs: Mutex::new(runs), exchange, publish_timeout, window, missing }
    }

    /// The next window: whatever waits, up to half a window beyond which a run may still fit.
    /// Cancel-safe: nothing is awaited after the first run is taken.
    async fn next_window(&self) -> Option<Vec<Run>> {
        let mut runs = self.runs.lock().await;
        let first = runs.recv().await?;
        let mut taken = first.messages.len();
        let mut window = vec![first];
        while taken <= self.window / 2 {
            let Ok(run) = runs.try_recv() else { break };
            taken += run.messages.len();
            window.push(run);
        }
        Some(window)
    }
}

/// Publishes windows until the connection ends.
pub(super) async fn run(live: Arc<Live>, intake: Arc<Intake>) {
    let mut channel = None;
    loop {
        let window = tokio::select! {
            _ = live.ended() => return,
            window = intake.next_window() => window,
        };
        let Some(window) = window else { return };
        // Callers that stopped waiting publish again; sending their old run would only double it.
        let window: Vec<Run> = window.into_iter().filter(|run| !run.done.is_closed()).collect();
        if window.is_empty() {
            continue;
        }
        let answers = tokio::select! {
            biased;
            why = live.ended() => Err(PublishError::Unconfirmed { why }),
            answers = publish_window(&live, &intake, &mut channel, &window) => answers,
        };
        conclude(window, answers, &intake);
    }
}

/// All answers of a window. After an error the channel is not used again.
async fn publish_window(
    live: &Live,
    intake: &Intake,
    channel: &mut Option<Channel>,
    window: &[Run],
) -> Result<Vec<Answer>, PublishError> {
    let open = match channel.take() {
        Some(open) => open,
        None => confirming_channel(live)
            .await
            .map_err(|error| PublishError::Disconnected { why: error.to_string() })?,
    };
    let messages = window.iter().flat_map(|run| &run.messages);
    let publishes = join_all(messages.map(|message| publish(&open, &intake.exchange, message)));
    let Ok(answers) = timeout(intake.publish_timeout, publishes).await else {
        // A blocked broker is silent for a reason, and its connection is still good.
        if !live.connection.status().blocked() {
            live.end("publishes were not confirmed in time");
        }
        return Err(PublishError::TimedOut { after: intake.publish_timeout });
    };
    let answers: Vec<Answer> = answers.into_iter().map(Answer::from_lapin).collect();
    match answers.iter().find(|answer| matches!(answer, Answer::Failed(_) | Answer::Unasked)) {
        Some(failed) => live.end(format!("a publish failed: {failed:?}")),
        None => *channel = Some(open),
    }
    Ok(answers)
}

async fn publish(
    channel: &Channel,
    exchange: &str,
    message: &Outgoing,
) -> Result<Confirmation, lapin::Error> {
    let properties = BasicProperties::default()
        .with_delivery_mode(PERSISTENT)
        .with_content_type("application/json".into())
        .with_message_id(message.message_id.as_str().into())
        .with_headers(message.headers.clone());
    let options = BasicPublishOptions { mandatory: true, ..Default::default() };
    let (exchange, key) = (exchange.into(), message.routing_key.as_str().into());
    channel.basic_publish(exchange, key, options, &message.body, properties).await?.await
}

async fn confirming_channel(live: &Live) -> Result<Channel, BrokerError> {
    let channel = live.open_channel().await?;
    let select = channel.confirm_select(ConfirmSelectOptions::default());
    bounded("asking for publisher confirms", live.request_timeout(), select)
        .await
        .inspect_err(|error| live.end_if_doubtful(error))?;
    Ok(channel)
}

/// Tells every caller of the window its outcomes.
fn conclude(window: Vec<Run>, answers: Result<Vec<Answer>, PublishError>, intake: &Intake) {
    let sent: Vec<(String, Queue)> = window
        .iter()
        .flat_map(|run| &run.messages)
        .map(|message| (message.message_id.clone(), message.queue.clone()))
        .collect();
    let mut outcomes = match answers {
        Ok(answers) => window::settle(&sent, &answers),
        Err(error) => vec![Err(error); sent.len()],
    };
    if outcomes.iter().any(|outcome| matches!(outcome, Err(PublishError::Unroutable { .. }))) {
        intake.missing.send_modify(|count| *count += 1);
    }
    for run in window {
        let rest = outcomes.split_off(run.messages.len());
        // The caller may have stopped waiting.
        drop(run.done.send(outcomes));
        outcomes = rest;
    }
}
