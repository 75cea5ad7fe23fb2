//! The coordinator as the commands see it: one method for each call, with retries and readable errors.

mod connection;
mod ledger;
mod refusal;
mod results;
mod watch;

use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use stoker_proto::client::MAX_RESPONSE_BYTES;
use stoker_proto::v1;
use stoker_proto::v1::admin_service_client::AdminServiceClient;
use stoker_proto::v1::fleet_service_client::FleetServiceClient;
use stoker_proto::v1::job_service_client::JobServiceClient;
use stoker_runtime::error::chain;
use stoker_runtime::retry::{RetryError, RetryPolicy, Retryable, retry};
use stoker_runtime::secret::Secret;
use stoker_runtime::token::{self, Bearer};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::{Response, Status};

use crate::args::Global;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::terminal::note;
use connection::{Connection, Connections};

pub(crate) use ledger::LedgerView;
pub(crate) use results::{ResultStream, scores, vectors};
pub(crate) use watch::{Coordinator, Update, Wanted, follow, watch};

/// A longer time limit is a typo, and far beyond it clocks overflow.
const LONGEST_TIMEOUT: Duration = Duration::from_hours(365 * 24);

/// Who is called, for whom, and how long a call may take.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) server: String,
    pub(crate) tenant: Option<String>,
    /// Shown with calls of operators only.
    pub(crate) operator_token: Option<Secret>,
    pub(crate) timeout: Duration,
}

impl TryFrom<&Global> for Settings {
    type Error = Failure;

    fn try_from(global: &Global) -> Result<Self, Failure> {
        // A secret that could not be read leaves an empty variable; most calls need none.
        let token = global.operator_token.clone().filter(|token| !token.expose().is_empty());
        let file = global.operator_token_file.clone();
        let operator_token = token::read(Bearer::Operator, token, file)
            .map_err(|error| Failure::usage(chain(&error)))?;
        Ok(Self {
            server: global.server.clone(),
            tenant: global.tenant.clone(),
            operator_token,
            timeout: global.timeout.get(),
        })
    }
}

/// How long a coordinator that is not there is waited for.
#[derive(Debug, Clone, Copy)]
enum Patience {
    /// What changes nothing: a person waits for the answer.
    Brief,
    /// Accepting work: an input that took long to make should not be lost to a restart.
    Long,
    /// What must not be done twice.
    None,
}

impl Patience {
    const fn bound(self) -> Duration {
        match self {
            Self::Brief => Duration::from_secs(2),
            Self::Long => Duration::from_secs(20),
            Self::None => Duration::ZERO,
        }
    }
}

/// A client of one coordinator. Clones share the connection.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    jobs: JobServiceClient<Connection>,
    admin: AdminServiceClient<Connection>,
    fleet: FleetServiceClient<Connection>,
    server: String,
    timeout: Duration,
}

/// Calls with one request and one answer.
macro_rules! calls {
    ($($(#[$doc:meta])* $name:ident of $service:ident, $patience:ident, $what:literal:
        $request:ident -> $response:ident;)*) => {
        impl Client {
            $(
                $(#[$doc])*
                pub(crate) async fn $name(
                    &self,
                    request: v1::$request,
                ) -> Result<v1::$response, Failure> {
                    let call = || {
                        let mut service = self.$service.clone();
                        let request = request.clone();
                        async move { service.$name(request).await.map(Response::into_inner) }
                    };
                    Box::pin(self.call($what, Patience::$patience, call)).await
                }
            )*
        }
    };
}

calls! {
    submit_batch of jobs, Long, "submit the jobs": SubmitBatchRequest -> SubmitBatchResponse;
    get of jobs, Brief, "get the job": GetRequest -> GetResponse;
    list of jobs, Brief, "list jobs": ListRequest -> ListResponse;
    cancel of jobs, Brief, "cancel the job": CancelRequest -> CancelResponse;
    retry of jobs, Brief, "retry the job": RetryRequest -> RetryResponse;
    // Submitting begins with it.
    list_models of jobs, Long, "list models": ListModelsRequest -> ListModelsResponse;
    fleet_status of admin, Brief, "get the fleet's status":
        FleetStatusRequest -> FleetStatusResponse;
    list_queues of admin, Brief, "list queues": ListQueuesRequest -> ListQueuesResponse;
    observe_demand of admin, Brief, "observe the demand":
        ObserveDemandRequest -> ObserveDemandResponse;
    observe_usage of admin, Brief, "add up what attempts took":
        ObserveUsageRequest -> ObserveUsageResponse;
    explain_job of admin, Brief, "explain the job": ExplainJobRequest -> ExplainJobResponse;
    list_workers of admin, Brief, "list workers": ListWorkersRequest -> ListWorkersResponse;
    cordon_worker of admin, Brief, "cordon the worker":
        CordonWorkerRequest -> CordonWorkerResponse;
    drain_worker of admin, Brief, "drain the worker": DrainWorkerRequest -> DrainWorkerResponse;
    list_dead_letters of admin, Brief, "list dead letters":
        ListDeadLettersRequest -> ListDeadLettersResponse;
    get_dead_letter of admin, Brief, "get the dead letter":
        GetDeadLetterRequest -> GetDeadLetterResponse;
    redrive_dead_letters of admin, None, "redrive dead letters":
        RedriveDeadLettersRequest -> RedriveDeadLettersResponse;
    discard_dead_letters of admin, None, "discard dead letters":
        DiscardDeadLettersRequest -> DiscardDeadLettersResponse;
    read_ledger of fleet, Brief, "read the fleet's ledger":
        ReadLedgerRequest -> ReadLedgerResponse;
    // Setting it to the same twice does what setting it once does.
    set_switch of fleet, Brief, "set the fleet's switch": SetSwitchRequest -> SetSwitchResponse;
    end_machine of fleet, Brief, "end the machine": EndMachineRequest -> EndMachineResponse;
}

impl Client {
    /// Checks the settings; connects at the first call. Must be called on a tokio runtime.
    pub(crate) fn new(settings: Settings) -> Result<Self, Failure> {
        let Connections { tenant, operator } = connection::open(&settings)?;
        Ok(Self {
            jobs: JobServiceClient::new(tenant).max_decoding_message_size(MAX_RESPONSE_BYTES),
            admin: AdminServiceClient::new(operator.clone())
                .max_decoding_message_size(MAX_RESPONSE_BYTES),
            fleet: FleetServiceClient::new(operator).max_decoding_message_size(MAX_RESPONSE_BYTES),
            server: settings.server,
            timeout: settings.timeout.min(LONGEST_TIMEOUT),
        })
    }

    /// Gets a job without the reason why it waits.
    pub(crate) async fn job(&self, id: &str) -> Result<v1::Job, Failure> {
        let response = self.get(v1::GetRequest { job_id: id.to_owned() }).await?;
        response.job.ok_or_else(|| self.malformed("get the job"))
    }

    /// The coordinator's address, as it was given.
    pub(crate) fn server(&self) -> &str {
        &self.server
    }

    /// Whether the coordinator answers right now; its status if so.
    pub(crate) async fn probe(&self) -> Option<v1::FleetStatusResponse> {
        let mut admin = self.admin.clone();
        let call = admin.fleet_status(v1::FleetStatusRequest {});
        let answer = tokio::time::timeout(self.timeout, call).await.ok()?;
        answer.ok().map(Response::into_inner)
    }

    /// An answer that lacks what its definition says is always there.
    pub(crate) fn malformed(&self, what: &str) -> Failure {
        Failure::failed(format!("cannot {what}: the answer of {} is incomplete", self.server))
            .hint("this command and the coordinator may have different versions: `stoker version`")
    }

    async fn call<T, F, Answer>(
        &self,
        what: &'static str,
        patience: Patience,
        mut call: F,
    ) -> Result<T, Failure>
    where
        F: FnMut() -> Answer,
        Answer: Future<Output = Result<T, Status>>,
    {
        let give_up = Instant::now() + patience.bound();
        let told = AtomicBool::new(false);
        let classify = |error: &CallError| match error {
            CallError::Status(status) if Instant::now() < give_up => {
                let again = within(refusal::retryable(status), give_up);
                if again != Retryable::Permanent && !told.swap(true, Ordering::Relaxed) {
                    self.tell_of_retries(patience);
                }
                again
            }
            CallError::Status(_) | CallError::TimedOut => Retryable::Permanent,
        };
        // The last try may begin just before the patience ends and take its whole time.
        let policy = RetryPolicy {
            initial: Duration::from_millis(400),
            max_interval: Duration::from_secs(2),
            multiplier: 2.0,
            max_elapsed: Some(patience.bound() + self.timeout),
        };
        let attempt = || {
            let answer = call();
            async move {
                match tokio::time::timeout(self.timeout, answer).await {
                    Ok(answer) => answer.map_err(CallError::Status),
                    Err(_) => Err(CallError::TimedOut),
                }
            }
        };
        retry(policy, what, &CancellationToken::new(), attempt, classify)
            .await
            .map_err(|error| self.give_up(what, error))
    }

    fn tell_of_retries(&self, patience: Patience) {
        if let Patience::Long = patience {
            let bound = crate::render::time::span(patience.bound());
            note(&format!("{} is unavailable; trying again for up to {bound}", self.server));
        }
    }

    fn give_up(&self, what: &'static str, error: RetryError<CallError>) -> Failure {
        match error.into_source() {
            Some(CallError::Status(status)) => refusal::failure(what, &self.server, &status),
            Some(CallError::TimedOut) | None => self.timed_out(what),
        }
    }

    fn timed_out(&self, what: &str) -> Failure {
        let limit = crate::render::time::span(self.timeout);
        Failure::new(
            Exit::TimedOut,
            format!("cannot {what}: {} did not answer within {limit}", self.server),
        )
        .hint("try again, or allow more time with --timeout")
    }
}

/// Coming back after the patience has ended is no use.
fn within(again: Retryable, give_up: Instant) -> Retryable {
    match again {
        Retryable::After(delay) if Instant::now() + delay > give_up => Retryable::Permanent,
        other => other,
    }
}

/// Why one try failed.
#[derive(Debug, thiserror::Error)]
enum CallError {
    #[error(transparent)]
    Status(Status),
    #[error("no answer in time")]
    TimedOut,
}
