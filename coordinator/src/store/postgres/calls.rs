//! Calls that wait for the writer, of any result type.

use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::store::StoreError;

use super::needs::Needs;
use super::unit::Unit;

/// A call in the steps of its life. It may run several times; only the last run counts.
pub(super) trait Call: Send {
    fn needs(&self) -> &Needs;
    /// Runs over the rows that were read.
    fn run(&mut self, unit: &mut Unit<'_>) -> Result<(), ()>;
    /// Answers with what the last run brought.
    fn answer(self: Box<Self>);
    /// Answers that it came to nothing.
    fn refuse(self: Box<Self>, error: StoreError);
}

type Run<T> = Box<dyn FnMut(&mut Unit<'_>) -> Result<T, StoreError> + Send>;

pub(super) struct TypedCall<T> {
    pub(super) needs: Needs,
    /// Room that the call's data take until it is answered.
    pub(super) _room: OwnedSemaphorePermit,
    pub(super) run: Run<T>,
    pub(super) result: Option<Result<T, StoreError>>,
    pub(super) reply: oneshot::Sender<Result<T, StoreError>>,
}

impl<T: Send> Call for TypedCall<T> {
    fn needs(&self) -> &Needs {
        &self.needs
    }

    fn run(&mut self, unit: &mut Unit<'_>) -> Result<(), ()> {
        let result = (self.run)(unit);
        let ran = result.as_ref().map(drop).map_err(drop);
        self.result = Some(result);
        ran
    }

    fn answer(self: Box<Self>) {
        if let Some(result) = self.result {
            // The caller may have gone; what is committed stays.
            let _ = self.reply.send(result);
        }
    }

    fn refuse(self: Box<Self>, error: StoreError) {
        let _ = self.reply.send(Err(error));
    }
}
