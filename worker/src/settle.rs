//! Acknowledges deliveries beside everything else, so that a slow broker holds up nothing.

use futures::stream::{FuturesUnordered, StreamExt};
use tokio::sync::mpsc;

use crate::attempt::Ticket;

/// Acknowledgements under way at once.
const AT_ONCE: usize = 64;

/// Settles tickets until there can be no more.
pub(crate) async fn run(mut tickets: mpsc::Receiver<Ticket>) {
    let mut under_way = FuturesUnordered::new();
    let mut open = true;
    while open || !under_way.is_empty() {
        // Both branches are cancel-safe.
        tokio::select! {
            ticket = tickets.recv(), if open && under_way.len() < AT_ONCE => match ticket {
                Some(ticket) => under_way.push(ticket.settle()),
                None => open = false,
            },
            Some(()) = under_way.next() => {}
        }
    }
}
