//! Looks at the worker's GPU again and again, and tells when it becomes sick or well.
//!
//! The driver may not return from a call when its device is broken, so that looks have a thread of
//! their own, which nobody waits for.

use std::io;
use std::sync::mpsc::{self as std_mpsc, SyncSender};
use std::thread;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::fitness::{History, Sight, judge};
use super::nvml::Usage;
use super::{About, Nvml};
use crate::agent::Event;
use crate::metrics;

/// From one look to the next.
const EVERY: Duration = Duration::from_secs(10);

/// How long a look may take until the device counts as lost.
const LIMIT: Duration = Duration::from_secs(30);

type Answer = (Sight, Usage);

/// What the thread is asked.
#[derive(Debug)]
enum Question {
    Look(oneshot::Sender<Answer>),
    UsedBy { pid: u32, answer: oneshot::Sender<Option<u64>> },
}

/// Questions that may wait for the thread: a look, and one for each of some engines.
const QUESTIONS: usize = 16;

/// Says what processes use of the GPU's memory.
#[derive(Debug, Clone)]
pub struct GpuMeter(SyncSender<Question>);

impl GpuMeter {
    /// `None`: the driver does not tell. As long as it does not answer, this does not end.
    pub async fn read(&self, pid: u32) -> Option<u64> {
        let (answer, answered) = oneshot::channel();
        self.0.try_send(Question::UsedBy { pid, answer }).ok()?;
        answered.await.ok().flatten()
    }
}

/// Looks until `stop`; the events are changes of fitness.
///
/// # Errors
/// When the thread cannot be started.
pub fn watch(
    nvml: Nvml,
    about: About,
    events: mpsc::Sender<Event>,
    stop: CancellationToken,
) -> io::Result<(impl Future<Output = ()> + Send + 'static, GpuMeter)> {
    let (questions, asked) = std_mpsc::sync_channel(QUESTIONS);
    let uuid = about.uuid.clone();
    let body = move || {
        while let Ok(question) = asked.recv() {
            // Who does not wait any more has given up on the device.
            match question {
                Question::Look(answer) => {
                    let _ = answer.send(nvml.look(&uuid));
                }
                Question::UsedBy { pid, answer } => {
                    let _ = answer.send(nvml.used_by(&uuid, pid));
                }
            }
        }
    };
    thread::Builder::new().name("gpu".to_owned()).spawn(body)?;
    let meter = GpuMeter(questions.clone());
    let watched = async move {
        let watched = stop.run_until_cancelled(run(questions, about, events));
        watched.await;
    };
    Ok((watched, meter))
}

async fn run(questions: SyncSender<Question>, about: About, events: mpsc::Sender<Event>) {
    let mut history = History::default();
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let (sight, usage) = ask(&questions).await;
        let before = history.fitness().result();
        history = judge(history, &sight);
        let fitness = history.fitness().result();
        metrics::gpu(&usage, &sight, history.fitness());
        if fitness == before {
            continue;
        }
        match &fitness {
            Ok(()) => info!(device = about.index, uuid = about.uuid, "the GPU is fit again"),
            Err(reason) => {
                warn!(
                    device = about.index,
                    uuid = about.uuid,
                    reason,
                    "the GPU is sick: quarantined"
                );
            }
        }
        if events.send(Event::Device(fitness)).await.is_err() {
            return;
        }
    }
}

/// One look. A thread that is still busy with the one before has been given up already.
async fn ask(questions: &SyncSender<Question>) -> Answer {
    let (answer_tx, answer) = oneshot::channel();
    let silent = || {
        let reason = "its driver does not answer".to_owned();
        (Sight::Lost { reason }, Usage::default())
    };
    if questions.try_send(Question::Look(answer_tx)).is_err() {
        return silent();
    }
    match timeout(LIMIT, answer).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(_)) | Err(_) => silent(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_driver_that_does_not_answer_makes_the_device_lost() {
        let (questions, asked) = std_mpsc::sync_channel(1);
        assert!(matches!(ask(&questions).await.0, Sight::Lost { .. }), "nobody takes the question");
        assert!(matches!(ask(&questions).await.0, Sight::Lost { .. }), "the first one waits still");
        drop(asked);
        assert!(matches!(ask(&questions).await.0, Sight::Lost { .. }), "the thread is gone");
    }
}
