//! The registration: a stream that stays open as long as the worker lives and brings commands.

use std::mem::discriminant;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use stoker_proto::v1;
use stoker_proto::v1::register_response::Command;
use stoker_runtime::retry::Delays;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tonic::Streaming;
use tracing::{info, warn};

use super::{Link, LinkError};
use crate::agent::Event;
use crate::interruption::Instance;
use crate::metrics;

const FIRST_RETRY: Duration = Duration::from_millis(100);
/// Short: leases last only a little longer than the stream.
const LAST_RETRY: Duration = Duration::from_secs(1);

/// A worker that is not let in waits for a person.
const LAST_RETRY_REFUSED: Duration = Duration::from_secs(15);

/// From the call to the coordinator's first message.
const REGISTER_LIMIT: Duration = Duration::from_secs(10);

/// What the coordinator fixed for this worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registration {
    pub fleet: String,
    pub heartbeat_interval: Duration,
    /// Most result bytes in one call.
    pub max_message_bytes: usize,
}

impl Registration {
    const DEFAULT_HEARTBEAT: Duration = Duration::from_secs(5);
    const DEFAULT_MESSAGE_BYTES: usize = 3 << 20;
    const MIN_HEARTBEAT: Duration = Duration::from_millis(10);

    fn of(registered: v1::Registered) -> Self {
        let interval = registered.heartbeat_interval.and_then(|d| Duration::try_from(d).ok());
        let bytes = usize::try_from(registered.max_message_bytes).unwrap_or(usize::MAX);
        Self {
            fleet: registered.fleet,
            heartbeat_interval: interval
                .filter(|interval| !interval.is_zero())
                .unwrap_or(Self::DEFAULT_HEARTBEAT)
                .max(Self::MIN_HEARTBEAT),
            max_message_bytes: if bytes == 0 { Self::DEFAULT_MESSAGE_BYTES } else { bytes },
        }
    }
}

/// What comes down the stream.
#[derive(Debug, PartialEq)]
pub enum SessionNews {
    Registered(Registration),
    /// The stream broke; it is being opened again.
    Lost,
    StopAttempt {
        job_id: String,
        attempt: u32,
        reason: String,
    },
    Cordon(bool),
    /// `None`: within the worker's own grace period.
    Drain(Option<Duration>),
    /// What waits, as far as it is this worker's to do.
    Needs(v1::Needs),
    /// The very first registration was refused: this worker does not fit the coordinator's fleet.
    Refused(String),
}

/// A worker's registration, over and over.
#[derive(Debug)]
pub struct Session {
    link: Link,
    request: v1::RegisterRequest,
    instance: watch::Receiver<Option<Instance>>,
    events: mpsc::Sender<Event>,
    again: Arc<Notify>,
    ever_registered: bool,
    /// What was last complained of since it was registered.
    complained: Option<LinkError>,
}

enum Ended {
    Lost(LinkError),
    /// A new registration was asked for.
    Again,
    AgentGone,
}

impl Session {
    /// `instance` is the machine, as soon as it is known; `again` asks for a new registration while the
    /// stream seems to be fine.
    pub fn new(
        link: Link,
        request: v1::RegisterRequest,
        instance: watch::Receiver<Option<Instance>>,
        events: mpsc::Sender<Event>,
        again: Arc<Notify>,
    ) -> Self {
        let (ever_registered, complained) = (false, None);
        Self { link, request, instance, events, again, ever_registered, complained }
    }

    /// Registers, passes commands on, and registers again until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut delays = Delays::new(FIRST_RETRY, LAST_RETRY);
        let mut refused = Delays::new(LAST_RETRY, LAST_RETRY_REFUSED);
        loop {
            let ended = tokio::select! {
                ended = self.once(&mut delays) => ended,
                () = stop.cancelled() => return,
            };
            metrics::disconnected();
            let error = match ended {
                Ended::AgentGone => return,
                Ended::Again => continue,
                Ended::Lost(error) => error,
            };
            self.complain(&error);
            let delays = match &error {
                LinkError::NotAdmitted { .. } => &mut refused,
                LinkError::Unreachable { .. }
                | LinkError::TimedOut { .. }
                | LinkError::Refused { .. } => {
                    refused.reset();
                    &mut delays
                }
            };
            let goes_on = tokio::select! {
                goes_on = delays.wait(&stop) => goes_on,
                // What the coordinator may have missed is known now.
                () = changed(&mut self.instance) => true,
            };
            if !goes_on {
                return;
            }
        }
    }

    /// Each kind of trouble once until it is over.
    fn complain(&mut self, error: &LinkError) {
        if !self.complained.as_ref().is_some_and(|before| is_same_trouble(before, error)) {
            let coordinator = self.link.address();
            warn!(%coordinator, %error, "not registered with the coordinator; trying again");
            self.complained = Some(error.clone());
        }
    }

    async fn once(&mut self, delays: &mut Delays) -> Ended {
        let (mut stream, registration) = match self.open().await {
            Ok(opened) => opened,
            Err(error) => return self.refused(error).await,
        };
        delays.reset();
        self.ever_registered = true;
        self.complained = None;
        // What was asked for before is done: another one would end this stream, and with it leases.
        let _ = self.again.notified().now_or_never();
        metrics::connected();
        info!(fleet = registration.fleet, worker = self.request.worker_id, "registered");
        if !self.tell(SessionNews::Registered(registration)).await {
            return Ended::AgentGone;
        }
        let ended = self.follow(&mut stream).await;
        if !self.tell(SessionNews::Lost).await {
            return Ended::AgentGone;
        }
        ended
    }

    async fn open(&mut self) -> Result<(Streaming<v1::RegisterResponse>, Registration), LinkError> {
        let mut client = self.link.workers.clone();
        let instance = self.instance.borrow_and_update().clone();
        let name = instance.as_ref().map(|instance| instance.name.to_string());
        self.request.instance = name.unwrap_or_default();
        let identity = instance.and_then(|instance| instance.identity);
        self.request.identity = identity.map(|identity| identity.for_coordinator());
        let opening = async {
            let response = client.register(self.request.clone()).await;
            let mut stream = response.map_err(|status| LinkError::of(&status))?.into_inner();
            let first = stream.message().await.map_err(|status| LinkError::of(&status))?;
            match first.and_then(|message| message.command) {
                Some(Command::Registered(registered)) => Ok((stream, Registration::of(registered))),
                _ => Err(LinkError::Unreachable {
                    reason: "it did not confirm the registration".to_owned(),
                }),
            }
        };
        match timeout(REGISTER_LIMIT, opening).await {
            Ok(opened) => opened,
            Err(_) => Err(LinkError::TimedOut { after: REGISTER_LIMIT }),
        }
    }

    /// A refusal of the first registration is the operator's to mend; later ones may pass, for
    /// example while the coordinator restarts with another file.
    async fn refused(&self, error: LinkError) -> Ended {
        if let (LinkError::Refused { reason, .. }, false) = (&error, self.ever_registered)
            && !self.tell(SessionNews::Refused(reason.clone())).await
        {
            return Ended::AgentGone;
        }
        Ended::Lost(error)
    }

    async fn follow(&mut self, stream: &mut Streaming<v1::RegisterResponse>) -> Ended {
        loop {
            // All branches are cancel-safe.
            let message = tokio::select! {
                message = stream.message() => message,
                () = self.again.notified() => return Ended::Again,
                () = changed(&mut self.instance) => return Ended::Again,
            };
            let news = match message {
                Ok(Some(message)) => message.command.map(news),
                Ok(None) => {
                    let reason = "it ended the registration".to_owned();
                    return Ended::Lost(LinkError::Unreachable { reason });
                }
                Err(status) => return Ended::Lost(LinkError::of(&status)),
            };
            if let Some(news) = news
                && !self.tell(news).await
            {
                return Ended::AgentGone;
            }
        }
    }

    async fn tell(&self, news: SessionNews) -> bool {
        self.events.send(Event::Session(news)).await.is_ok()
    }
}

/// A coordinator that is away is that in many words; why a worker is not let in is for a person to read.
fn is_same_trouble(before: &LinkError, now: &LinkError) -> bool {
    match (before, now) {
        (
            LinkError::NotAdmitted { reason: before, .. },
            LinkError::NotAdmitted { reason: now, .. },
        ) => before == now,
        (before, now) => discriminant(before) == discriminant(now),
    }
}

/// Waits until more is known of the machine than the registration said, which may be never.
async fn changed(instance: &mut watch::Receiver<Option<Instance>>) {
    if instance.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

fn news(command: Command) -> SessionNews {
    match command {
        Command::Registered(registered) => SessionNews::Registered(Registration::of(registered)),
        Command::StopAttempt(v1::StopAttempt { job_id, attempt, reason }) => {
            SessionNews::StopAttempt { job_id, attempt, reason }
        }
        Command::Cordon(cordon) => SessionNews::Cordon(cordon.cordoned),
        Command::Drain(drain) => {
            SessionNews::Drain(drain.within.and_then(|within| Duration::try_from(within).ok()))
        }
        Command::Needs(needs) => SessionNews::Needs(needs),
    }
}

#[cfg(test)]
mod tests {
    use tonic::Status;

    use super::*;

    #[test]
    fn another_reason_not_to_let_a_worker_in_is_another_trouble() {
        let nameless = LinkError::of(&Status::permission_denied("it names no machine"));
        let unproven = LinkError::of(&Status::unauthenticated("it proves nothing"));
        let away = LinkError::of(&Status::unavailable("connection refused"));
        let gone = LinkError::of(&Status::unavailable("connection reset"));
        assert!(matches!(nameless, LinkError::NotAdmitted { .. }) && nameless.is_transient());
        assert!(is_same_trouble(&nameless, &nameless) && is_same_trouble(&away, &gone));
        assert!(!is_same_trouble(&nameless, &unproven));
        assert!(!is_same_trouble(&unproven, &away) && !is_same_trouble(&away, &unproven));
    }
}
