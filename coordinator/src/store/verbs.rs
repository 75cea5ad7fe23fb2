//! The verbs that change jobs, over the rows of one open transaction.
//!
//! A verb that answers an error has changed nothing, or found what must not be: then the store undoes
//! the transaction.

mod claim;
mod control;
mod dispatch;
mod settle;
mod submit;
mod sweep;

pub(super) use claim::claim;
pub(super) use control::{cancel, discard, retry};
pub(super) use dispatch::{clear_outbox, dispatch, entry};
pub(super) use settle::{complete, fail, heartbeat, release};
pub(super) use submit::submit;
pub(super) use sweep::{Sweep, disconnect, grant_amnesty, sweep};
