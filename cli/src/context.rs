//! What every command is given: the outputs, the coordinator, the time and the background tasks.

use std::time::Duration;

use stoker_runtime::clock::SystemClock;
use stoker_runtime::tasks::Tasks;
use tokio_util::sync::CancellationToken;

use crate::args::Global;
use crate::client::Client;
use crate::failure::Failure;
use crate::terminal::Terminal;

/// How long background tasks may take to end with the command.
const TASKS_END: Duration = Duration::from_secs(5);

/// What every command is given.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) terminal: Terminal,
    /// Not connected before the first call.
    pub(crate) client: Client,
    pub(crate) clock: SystemClock,
    pub(crate) tasks: Tasks,
}

impl Context {
    /// Must be called on a tokio runtime.
    pub(crate) fn new(global: &Global, terminal: Terminal) -> Result<Self, Failure> {
        Ok(Self {
            terminal,
            client: Client::new(global.try_into()?)?,
            clock: SystemClock::new(),
            tasks: Tasks::new(CancellationToken::new()),
        })
    }

    /// Ends what still runs in the background.
    pub(crate) async fn end(&self) {
        if let Err(left) = self.tasks.close_and_wait(TASKS_END).await {
            tracing::warn!(?left, "tasks did not end with the command");
        }
    }
}
