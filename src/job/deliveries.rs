//! What this process remembers of the jobs that it delivers: whether that is done, how it failed, and what was sent.
//!
//! A convenience, not a record: a process that dies takes it along, and others read tombstones and the gateway's ledger instead.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::JobId;
use crate::error::{Error, Result};
use crate::workspace::SnapshotSummary;

/// More than anybody asks about again.
const MAX_REMEMBERED: usize = 1_000;
/// Bytes of manifests that are kept, so that the process which delivered a job need not download what it sent.
const MAX_MANIFESTS: usize = 8 << 20;

#[derive(Default)]
pub(super) struct Deliveries {
    known: Mutex<HashMap<JobId, Delivery>>,
}

struct Delivery {
    outcome: watch::Receiver<Option<Option<Told>>>,
    manifest_sha256: Option<String>,
    sent: Option<Sent>,
    stop: CancellationToken,
    made: u64,
}

/// What was sent beside the contents.
#[derive(Clone)]
pub(super) struct Sent {
    /// The manifest document.
    pub manifest: Bytes,
    /// Its SHA-256, hex.
    pub manifest_sha256: String,
    /// What the snapshot says about itself.
    pub summary: SnapshotSummary,
    /// The facts of a review, as a document.
    pub review: Option<Bytes>,
}

impl Sent {
    fn bytes(&self) -> usize {
        self.manifest.len() + self.review.as_ref().map_or(0, Bytes::len)
    }
}

/// An error that can be told more than once.
#[derive(Clone)]
struct Told {
    code: crate::error::Code,
    message: String,
    hint: Option<String>,
    retry_after_ms: Option<u64>,
    details: serde_json::Map<String, serde_json::Value>,
}

impl Told {
    fn new(error: &Error) -> Self {
        Self {
            code: error.code,
            message: error.chain(),
            hint: error.hint.clone(),
            retry_after_ms: error.retry_after_ms,
            details: error.details.clone(),
        }
    }

    fn tell(self) -> Error {
        let mut error = Error::new(self.code, self.message);
        error.hint = self.hint;
        error.retry_after_ms = self.retry_after_ms;
        error.details = self.details;
        error
    }
}

/// Ends the wait of all who wait for a delivery.
pub(super) struct Pending {
    /// Somebody cancelled the job: the delivery is to be given up.
    pub stop: CancellationToken,
    outcome: watch::Sender<Option<Option<Told>>>,
}

impl Pending {
    /// It is done, or has failed.
    pub(super) fn finish(self, outcome: &Result<()>) {
        self.outcome.send_replace(Some(outcome.as_ref().err().map(Told::new)));
    }
}

/// A delivery whose task ended early must not look as if it went on.
impl Drop for Pending {
    fn drop(&mut self) {
        if self.outcome.borrow().is_none() {
            self.outcome.send_replace(Some(Some(Told::new(&Error::internal("deliver the job: its task ended early")))));
        }
    }
}

impl Deliveries {
    fn known(&self) -> MutexGuard<'_, HashMap<JobId, Delivery>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A delivery begins.
    pub(super) fn begin(&self, id: &JobId) -> Pending {
        let (sender, outcome) = watch::channel(None);
        let stop = CancellationToken::new();
        let mut known = self.known();
        let made = known.values().map(|delivery| delivery.made).max().map_or(0, |newest| newest + 1);
        if known.len() >= MAX_REMEMBERED
            && let Some(oldest) = known.iter().filter(|(_, d)| d.outcome.borrow().is_some()).min_by_key(|(_, d)| d.made).map(|(id, _)| id.clone())
        {
            known.remove(&oldest);
        }
        known.insert(id.clone(), Delivery { outcome, manifest_sha256: None, sent: None, stop: stop.clone(), made });
        Pending { stop, outcome: sender }
    }

    /// Gives up a delivery of this process that is not done yet, and waits until that has happened.
    pub(super) async fn stop(&self, id: &JobId) {
        if let Some(delivery) = self.known().get(id) {
            delivery.stop.cancel();
        }
        // How it ended is read from the engine.
        let _ = self.wait(id).await;
    }

    /// What was sent.
    pub(super) fn set_manifest(&self, id: &JobId, sha256: &str) {
        if let Some(delivery) = self.known().get_mut(id) {
            delivery.manifest_sha256 = Some(sha256.to_owned());
        }
    }

    /// Keeps what was sent, as far as there is room; the oldest goes first.
    pub(super) fn keep(&self, id: &JobId, sent: Sent) {
        let mut known = self.known();
        let Some(delivery) = known.get_mut(id) else { return };
        delivery.sent = Some(sent);
        loop {
            let held: usize = known.values().filter_map(|delivery| delivery.sent.as_ref().map(Sent::bytes)).sum();
            if held <= MAX_MANIFESTS {
                return;
            }
            match known.values_mut().filter(|delivery| delivery.sent.is_some()).min_by_key(|delivery| delivery.made) {
                Some(oldest) => oldest.sent = None,
                None => return,
            }
        }
    }

    /// What was kept.
    pub(super) fn sent(&self, id: &JobId) -> Option<Sent> {
        self.known().get(id)?.sent.clone()
    }

    /// A job is gone: what was sent is of no more use.
    pub(super) fn forget_sent(&self, id: &JobId) {
        if let Some(delivery) = self.known().get_mut(id) {
            delivery.sent = None;
        }
    }

    /// The digest of what this process sent.
    pub(super) fn manifest(&self, id: &JobId) -> Option<String> {
        self.known().get(id)?.manifest_sha256.clone()
    }

    /// How a delivery of this process failed.
    pub(super) fn failure(&self, id: &JobId) -> Option<Error> {
        let told = self.known().get(id)?.outcome.borrow().clone()??;
        Some(told.tell())
    }

    /// Whether this process delivered the job and is done with that, well or badly.
    pub(super) fn is_over(&self, id: &JobId) -> bool {
        self.known().get(id).is_some_and(|delivery| delivery.outcome.borrow().is_some())
    }

    /// Waits until a delivery of this process is done; at once for a job of another.
    pub(super) async fn wait(&self, id: &JobId) -> Result<()> {
        let Some(mut outcome) = self.known().get(id).map(|delivery| delivery.outcome.clone()) else { return Ok(()) };
        match outcome.wait_for(Option::is_some).await.map(|outcome| outcome.clone()) {
            Ok(Some(Some(told))) => Err(told.tell()),
            Ok(_) => Ok(()),
            Err(_) => Err(Error::internal("deliver the job: its task ended early")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Code;

    #[tokio::test]
    async fn waiting_ends_with_the_outcome_and_a_failure_is_told_again() {
        let deliveries = Deliveries::default();
        let (good, bad) = (JobId::random(), JobId::random());
        assert!(deliveries.wait(&good).await.is_ok(), "a job of another process");
        let (one, two) = (deliveries.begin(&good), deliveries.begin(&bad));
        deliveries.set_manifest(&good, "ab");
        assert!(deliveries.failure(&bad).is_none() && !deliveries.is_over(&bad), "not yet");
        let failed = Err(Error::new(Code::EngineError, "upload").with_hint("h").with_source(std::io::Error::other("cut")));
        let ((), first, second) = tokio::join!(
            async {
                one.finish(&Ok(()));
                two.finish(&failed);
            },
            deliveries.wait(&good),
            deliveries.wait(&bad)
        );
        assert!(first.is_ok());
        for error in [second.unwrap_err(), deliveries.failure(&bad).unwrap()] {
            assert_eq!((error.code, error.message.as_str(), error.hint.as_deref()), (Code::EngineError, "upload: cut", Some("h")));
        }
        assert!(deliveries.is_over(&good) && deliveries.is_over(&bad) && !deliveries.is_over(&JobId::random()));
        assert_eq!(deliveries.manifest(&good).as_deref(), Some("ab"));
        assert!(deliveries.failure(&good).is_none());
    }

    #[tokio::test]
    async fn a_delivery_can_be_stopped_and_one_that_is_done_is_left() {
        let deliveries = Deliveries::default();
        let id = JobId::random();
        deliveries.stop(&id).await;
        let pending = deliveries.begin(&id);
        let worker = async {
            pending.stop.cancelled().await;
            pending.finish(&Err(Error::new(Code::JobCancelled, "x")));
        };
        tokio::join!(worker, deliveries.stop(&id));
        assert_eq!(deliveries.failure(&id).unwrap().code, Code::JobCancelled);
        deliveries.stop(&id).await;
    }

    #[test]
    fn what_was_sent_is_kept_within_bounds() {
        let deliveries = Deliveries::default();
        let sent = |len| Sent { manifest: vec![0; len].into(), manifest_sha256: "ab".into(), summary: SnapshotSummary::default(), review: None };
        let ids: Vec<JobId> = (0..3).map(|_| JobId::random()).collect();
        let _pending: Vec<Pending> = ids.iter().map(|id| deliveries.begin(id)).collect();
        for id in &ids {
            deliveries.keep(id, sent(MAX_MANIFESTS / 2));
        }
        assert_eq!(ids.iter().map(|id| deliveries.sent(id).is_some()).collect::<Vec<_>>(), [false, true, true]);
        deliveries.forget_sent(&ids[1]);
        assert!(deliveries.sent(&ids[1]).is_none());
        deliveries.keep(&ids[0], sent(MAX_MANIFESTS + 1));
        assert!(deliveries.sent(&ids[0]).is_none(), "one that is too large is not kept");
    }

    #[tokio::test]
    async fn a_task_that_vanished_is_an_error_and_memory_is_bounded() {
        let deliveries = Deliveries::default();
        let lost = JobId::random();
        drop(deliveries.begin(&lost));
        assert_eq!(deliveries.wait(&lost).await.unwrap_err().code, Code::Internal);
        assert_eq!(deliveries.failure(&lost).unwrap().code, Code::Internal, "whoever watches it is told that");
        assert!(deliveries.is_over(&lost), "nobody delivers it any more");
        for _ in 0..MAX_REMEMBERED * 2 {
            deliveries.begin(&JobId::random()).finish(&Ok(()));
        }
        assert_eq!(deliveries.known().len(), MAX_REMEMBERED);
    }
}
