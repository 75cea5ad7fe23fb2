//! Calls one region of EC2: within time limits, and again only where nothing was done and the budget has room.

use std::collections::BTreeMap;
use std::error::Error;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_sdk_ec2::Client;
use aws_sdk_ec2::error::{ProvideErrorMetadata, SdkError};
use stoker_core::cloud::{ErrorClass, RetryBudget, reaction};
use stoker_core::ids::RegionName;
use stoker_runtime::clock::Clock;
use tracing::debug;

use super::config::Ec2Limits;
use super::failure;
use crate::cloud::error::{CloudError, Verb};
use crate::metrics;

/// Tries at one call.
const TRIES: u32 = 3;
/// A delay that is longer is left to whoever plans the next call.
const LONGEST_DELAY: Duration = Duration::from_secs(5);
/// Repetitions of one kind of call in a row, and how long it takes for one to come back.
const BUDGET: u32 = 10;
const REFILL: Duration = Duration::from_secs(10);

/// A region and what is left of its budgets.
#[derive(Debug)]
pub(super) struct Caller {
    client: Client,
    region: RegionName,
    limits: Ec2Limits,
    clock: Arc<dyn Clock>,
    budgets: Mutex<BTreeMap<Verb, RetryBudget>>,
}

impl Caller {
    pub(super) fn new(
        client: Client,
        region: RegionName,
        limits: Ec2Limits,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let full = RetryBudget::new(BUDGET, REFILL);
        let budgets = Mutex::new(Verb::ALL.map(|verb| (verb, full)).into());
        Self { client, region, limits, clock, budgets }
    }

    pub(super) const fn client(&self) -> &Client {
        &self.client
    }

    /// Calls once, and again after failures that changed nothing.
    pub(super) async fn call<T, E, F>(
        &self,
        verb: Verb,
        send: impl Fn() -> F + Send + Sync,
    ) -> Result<T, CloudError>
    where
        F: Future<Output = Result<T, SdkError<E>>> + Send,
        E: ProvideErrorMetadata + Error + Send + Sync + 'static,
        T: Send,
    {
        let limit = self.limits.of(verb);
        let mut failures = 0;
        loop {
            let outcome = match tokio::time::timeout(limit, send()).await {
                Ok(answer) => answer.map_err(|error| failure::sort(verb, &error)),
                Err(_) => Err(failure::too_slow(verb, limit)),
            };
            metrics::called(verb, outcome.as_ref().err().map(|error| error.class));
            let Err(error) = outcome else { return outcome };
            failures += 1;
            let Some(bound) = self.again(verb, error.class, failures) else { return Err(error) };
            debug!(region = %self.region, %error, failures, "a call to EC2 failed; trying again");
            tokio::time::sleep(bound.mul_f64(stoker_runtime::ids::jitter())).await;
        }
    }

    /// The longest delay before another try; `None`: there is none.
    fn again(&self, verb: Verb, class: ErrorClass, failures: u32) -> Option<Duration> {
        // What may have been done is for the ledger to find out, and credentials do not come within seconds.
        let harmless = matches!(class, ErrorClass::Throttle | ErrorClass::Transient);
        let bound = reaction(class).again.bound(failures)?;
        if !harmless || failures >= TRIES || bound > LONGEST_DELAY {
            return None;
        }
        let now = self.clock.now();
        let mut budgets = self.budgets.lock().unwrap_or_else(PoisonError::into_inner);
        budgets.get_mut(&verb)?.take(now).then_some(bound)
    }
}
