//! The bytes of requests under way, bounded over all calls: a message is decoded before anybody can say
//! whether there is a place for what it asks.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::sync::OwnedSemaphorePermit;
use tonic::Status;
use tonic::body::Body;

use crate::room::Room;

/// What one call has brought; given back when the call ends.
#[derive(Debug, Clone)]
pub(super) struct Weight(Arc<Mutex<Held>>);

#[derive(Debug)]
enum Held {
    /// Nothing came yet.
    Nothing,
    Some(OwnedSemaphorePermit),
    /// The call was answered. What a stream brings afterwards is its own business: see its limits.
    Answered,
}

impl Weight {
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(Held::Nothing)))
    }

    /// Gives back what was taken, and takes no more.
    pub(super) fn give_back(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Held::Answered;
    }

    /// False when there is no room for so many more bytes.
    fn add(&self, bytes: usize, room: &Room) -> bool {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(*held, Held::Answered) {
            return true;
        }
        let Some(more) = room.take(bytes) else { return false };
        match &mut *held {
            Held::Some(permit) => permit.merge(more),
            Held::Nothing | Held::Answered => *held = Held::Some(more),
        }
        true
    }
}

/// A request's body that takes room for what it brings.
pub(super) struct Weighed {
    body: Body,
    weight: Weight,
    room: Room,
    refusal: fn() -> Status,
}

impl Weighed {
    /// `refusal` is what a caller is told when there is no room.
    pub(super) fn around(body: Body, weight: Weight, room: Room, refusal: fn() -> Status) -> Body {
        Body::new(Self { body, weight, room, refusal })
    }
}

impl http_body::Body for Weighed {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        let bytes = frame.as_ref().and_then(|frame| frame.as_ref().ok()?.data_ref());
        if bytes.is_some_and(|bytes| !self.weight.add(bytes.len(), &self.room)) {
            return Poll::Ready(Some(Err((self.refusal)())));
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
