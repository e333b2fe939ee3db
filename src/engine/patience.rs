//! How long a call may take, what is asked again, and what is known of a call that got no answer.
//!
//! A read changes nothing, so it is asked again twice, after short pauses, when the connection broke or the engine had a failure of its own. What
//! changes something is first looked up where its answer was lost: the engine may have done it.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bollard::errors::Error as Bollard;
use bytes::Bytes;
use futures_util::Stream;
use tokio::time::Instant;

use super::failure::{self, Fate};
use super::{ByteStream, Engine, UploadStream};
use crate::error::{Code, Error, Result};

/// Before the second and the third try of a read.
const PAUSES: [Duration; 2] = [Duration::from_millis(100), Duration::from_millis(500)];
/// Removing may have to delete very many files: so many times the bound of other calls.
const REMOVAL_FACTOR: u32 = 10;
/// How often an upload is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(250);

impl Engine {
    /// A call that answers at once even on a busy host: within `[engine] answer_seconds`.
    pub(super) async fn short<T>(&self, what: &str, call: impl Future<Output = T>) -> Result<T> {
        self.within(self.answer, what, call).await
    }

    /// A call that may delete very many files.
    pub(super) async fn removal<T>(&self, what: &str, call: impl Future<Output = T>) -> Result<T> {
        self.within(self.answer.saturating_mul(REMOVAL_FACTOR), what, call).await
    }

    async fn within<T>(&self, limit: Duration, what: &str, call: impl Future<Output = T>) -> Result<T> {
        tokio::time::timeout(limit, call).await.map_err(|_| failure::silent(what, &self.host))
    }

    /// A call that changes nothing: asked again when the connection broke or the engine failed. No answer in time is not waited for twice.
    pub(super) async fn read<T, F>(&self, what: &str, call: impl Fn() -> F) -> Result<Result<T, Bollard>>
    where
        F: Future<Output = Result<T, Bollard>>,
    {
        for pause in PAUSES {
            match self.short(what, call()).await? {
                Err(e) if failure::passing(&e) => {
                    tracing::debug!(what, "the engine gave no good answer; asking again");
                    tokio::time::sleep(pause).await;
                }
                done => return Ok(done),
            }
        }
        self.short(what, call()).await
    }

    /// A call that may be made twice with the same outcome: made again once when its answer was lost. Also gives whether it was made again.
    pub(super) async fn again<T, F>(&self, what: &str, limit: Duration, call: impl Fn() -> F) -> Result<(Result<T, Bollard>, bool)>
    where
        F: Future<Output = Result<T, Bollard>>,
    {
        match self.within(limit, what, call()).await? {
            Err(e) if failure::fate(&e) == Fate::Unknown => {
                tokio::time::sleep(PAUSES[0]).await;
                Ok((self.within(limit, what, call()).await?, true))
            }
            done => Ok((done, false)),
        }
    }

    pub(super) fn removal_limit(&self) -> Duration {
        self.answer.saturating_mul(REMOVAL_FACTOR)
    }

    /// A stream that must go on bringing something until it ends.
    pub(super) fn steady(&self, stream: ByteStream, what: &'static str) -> ByteStream {
        use futures_util::StreamExt as _;
        let (limit, host) = (self.answer, self.host.clone());
        Box::pin(futures_util::stream::unfold(Some(stream), move |stream| {
            let host = host.clone();
            async move {
                let mut stream = stream?;
                match tokio::time::timeout(limit, stream.next()).await {
                    Ok(Some(item)) => Some((item, Some(stream))),
                    Ok(None) => None,
                    Err(_) => Some((Err(failure::silent(what, &host)), None)),
                }
            }
        }))
    }

    /// An upload of any length, as long as the engine goes on taking it, and answers in time after the last byte.
    pub(super) async fn while_taken<F>(&self, what: &str, body: UploadStream, call: impl FnOnce(UploadStream) -> F) -> Result<Result<(), Bollard>>
    where
        F: Future<Output = Result<(), Bollard>>,
    {
        let meter = Arc::new(Meter::default());
        let began = Instant::now();
        let call = call(Box::pin(Metered { body, meter: meter.clone(), began }));
        tokio::pin!(call);
        loop {
            tokio::select! {
                done = &mut call => return Ok(done),
                () = tokio::time::sleep(LOOK_EVERY) => {
                    if let Some(since) = meter.engine_owes_since() && began.elapsed() > Duration::from_millis(since).saturating_add(self.answer) {
                        return Err(failure::silent(what, &self.host));
                    }
                }
            }
        }
    }
}

/// The error for a call that may have been carried out although no answer came.
pub(super) fn unknown(e: Error) -> Error {
    e.with_detail("outcome", "unknown")
}

/// Whether it is not known what became of the call behind this error.
pub fn outcome_unknown(e: &Error) -> bool {
    e.details.get("outcome").is_some_and(|outcome| outcome == "unknown")
}

/// Whether the engine is away, or has a failure of its own, so that the same call may succeed in a moment.
pub fn engine_is_away(e: &Error) -> bool {
    e.code == Code::EngineUnavailable
        || e.code == Code::EngineError && e.details.get("status").and_then(serde_json::Value::as_u64).is_some_and(|status| status >= 500)
}

/// When whose turn began in an upload, in milliseconds since its beginning.
#[derive(Default)]
struct Meter {
    /// 0: the body is being waited for.
    engine_since: AtomicU64,
}

impl Meter {
    fn engine_owes_since(&self) -> Option<u64> {
        Some(self.engine_since.load(Ordering::Relaxed)).filter(|since| *since > 0)
    }
}

/// Notes when a chunk was handed over and none was asked for since.
struct Metered {
    body: UploadStream,
    meter: Arc<Meter>,
    began: Instant,
}

impl Stream for Metered {
    type Item = std::io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let polled = self.body.as_mut().poll_next(cx);
        let since = match polled {
            Poll::Pending => 0,
            Poll::Ready(_) => u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX).max(1),
        };
        self.meter.engine_since.store(since, Ordering::Relaxed);
        polled
    }
}
