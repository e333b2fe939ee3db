//! The moment at which a request leaves for the provider. It is written down just before its first byte goes out, when the connection stands already:
//! so a provider that could not be reached costs nothing, whoever dies when, and one that may have the request is paid for.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

use super::registry::{Registry, Reservation};

/// Where a request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// No byte of it has left.
    Here,
    /// The provider may have it.
    Gone,
    /// It could not be written down, so it stays.
    Kept,
    /// It is settled: what has not left by now stays.
    Settled,
}

/// One request's departure.
pub struct Departure {
    registry: Arc<Registry>,
    job_id: String,
    tokens: u64,
    paid: bool,
    stage: Mutex<Stage>,
}

impl Departure {
    /// Of a request of this job with this reservation.
    pub fn new(registry: Arc<Registry>, job_id: String, reservation: &Reservation) -> Self {
        Self { registry, job_id, tokens: reservation.tokens, paid: reservation.paid(), stage: Mutex::new(Stage::Here) }
    }

    /// The request leaves now; false where it must not.
    pub fn leave(&self) -> bool {
        let mut stage = self.stage.lock().unwrap_or_else(PoisonError::into_inner);
        if *stage == Stage::Here {
            *stage = if self.registry.depart(&self.job_id, self.tokens, self.paid).is_ok() { Stage::Gone } else { Stage::Kept };
        }
        *stage == Stage::Gone
    }

    /// It was held back because it could not be written down.
    pub fn kept(&self) -> bool {
        *self.stage.lock().unwrap_or_else(PoisonError::into_inner) == Stage::Kept
    }

    /// Nothing leaves any more; whether the provider may have the request.
    pub fn close(&self) -> bool {
        let mut stage = self.stage.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *stage, Stage::Settled) == Stage::Gone
    }
}

/// A request's body, which leaves when it is first asked for: HTTP/1.1 asks when the connection stands, and writes nothing before.
pub struct Outgoing {
    body: Option<Bytes>,
    departure: Arc<Departure>,
}

impl Outgoing {
    /// A body with its departure.
    pub fn new(body: Bytes, departure: Arc<Departure>) -> Self {
        Self { body: Some(body), departure }
    }
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        Poll::Ready(match self.body.take() {
            None => None,
            Some(body) if self.departure.leave() => Some(Ok(Frame::data(body))),
            Some(_) => Some(Err(std::io::Error::other("the request is held back"))),
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.body.as_ref().map_or(0, |body| body.len() as u64))
    }
}
