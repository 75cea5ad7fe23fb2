//! Publishing: lanes that each keep one window of unconfirmed messages on a channel of their own.
//!
//! Several lanes hide each other's waits; one channel per lane keeps a window's returns apart
//! (see [`super::window`]).

use std::sync::Arc;

use futures::future::join_all;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{BasicProperties, Channel, Confirmation};
use tokio::time::{Instant, timeout_at};

use super::failure::bounded;
use super::gate::Blame;
use super::intake::{Intake, Outgoing, Run};
use super::live::Live;
use super::window::{self, Answer};
use crate::error::{BrokerError, PublishError};
use crate::message::Queue;

pub(super) const LANES: usize = 4;

const PERSISTENT: u8 = 2;

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

/// All answers of a window. Unless they are complete, the channel is not used again.
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
    // Sooner than the caller's, who then learns which queue it was.
    let deadline = Instant::now() + intake.publish_timeout.mul_f64(0.8);
    let publishes = window.iter().flat_map(|run| &run.messages).map(async |message| {
        match timeout_at(deadline, publish(&open, &intake.exchange, message)).await {
            Ok(answer) => Answer::from_lapin(answer),
            Err(_) => Answer::Late,
        }
    });
    let answers = join_all(publishes).await;
    if answers.iter().all(|answer| matches!(answer, Answer::Ack { .. } | Answer::Nack { .. })) {
        *channel = Some(open);
    } else {
        live.doubt();
    }
    // A blocked broker is silent for a reason that is no queue's fault.
    if !live.connection.status().blocked() {
        watch_queues(intake, window, &answers);
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
        .inspect_err(|error| live.doubt_after(error))?;
    Ok(channel)
}

/// Learns which queues confirm and which do not.
fn watch_queues(intake: &Intake, window: &[Run], answers: &[Answer]) {
    let mut gate = intake.gate();
    let mut messages = window.iter().flat_map(|run| &run.messages).peekable();
    let first = messages.peek().map(|message| &message.queue);
    let alone = messages.clone().all(|message| Some(&message.queue) == first);
    let blame = if alone { Blame::Certain } else { Blame::Shared };
    for (message, answer) in messages.zip(answers) {
        let queue = &message.queue;
        match answer {
            Answer::Late if gate.late(queue, blame, Instant::now()) => {
                tracing::warn!(%queue, "the queue does not confirm: it is tried apart from others");
            }
            Answer::Ack { .. } | Answer::Nack { .. } if gate.confirmed(queue) => {
                tracing::info!(%queue, "the queue confirms again");
            }
            Answer::Ack { .. }
            | Answer::Nack { .. }
            | Answer::Late
            | Answer::Failed(_)
            | Answer::Unasked => {}
        }
    }
}

/// Tells every caller of the window its outcomes.
fn conclude(window: Vec<Run>, answers: Result<Vec<Answer>, PublishError>, intake: &Intake) {
    let sent: Vec<(String, Queue)> = window
        .iter()
        .flat_map(|run| &run.messages)
        .map(|message| (message.message_id.clone(), message.queue.clone()))
        .collect();
    let mut outcomes = match answers {
        Ok(answers) => {
            // A channel that fails may be for want of the exchange.
            let failed = answers.iter().any(|answer| matches!(answer, Answer::Failed(_)));
            let outcomes = window::settle(&sent, &answers);
            let came_back = |outcome: &_| matches!(outcome, Err(PublishError::Unroutable { .. }));
            if failed || outcomes.iter().any(came_back) {
                intake.something_is_missing();
            }
            outcomes
        }
        Err(error) => vec![Err(error); sent.len()],
    };
    for run in window {
        let rest = outcomes.split_off(run.messages.len());
        // The caller may have stopped waiting.
        drop(run.done.send(outcomes));
        outcomes = rest;
    }
}
