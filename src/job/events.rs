//! Nudges: "something happened to this job's container", from one stream of engine events for the whole process.
//!
//! The stream is opened when the first listener comes and closed when the last one goes, so a process that waits for nothing costs the engine nothing.
//! A nudge says only that it is worth to look: a stream that had to be opened again nudges everybody, which covers what happened meanwhile.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::service::Core;
use super::{JobId, labels};
use crate::engine::{EventFeed, News};

/// Between two attempts to reach an engine that does not answer.
const CONNECT_AGAIN: Duration = Duration::from_secs(1);

/// What a first look waits for the stream.
const OPEN_WITHIN: Duration = Duration::from_secs(1);

#[derive(Default)]
pub(super) struct Events {
    known: Mutex<Known>,
    tasks: TaskTracker,
    closing: CancellationToken,
}

#[derive(Default)]
struct Known {
    jobs: HashMap<JobId, Listened>,
    /// The stream is open: nothing is missed.
    open: bool,
    /// Ends the task that reads the stream.
    feed: Option<CancellationToken>,
}

struct Listened {
    count: watch::Sender<u64>,
    listeners: usize,
}

/// One listener's view of one job. Dropping it is unsubscribing.
pub(super) struct Nudges {
    core: Arc<Core>,
    id: JobId,
    count: watch::Receiver<u64>,
}

impl Events {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Listens to what happens to a job's containers from now on. The first nudge may come without anything having happened.
    pub(super) fn listen(core: &Arc<Core>, id: &JobId) -> Nudges {
        let this = &core.events;
        let mut known = this.known();
        let listened = known.jobs.entry(id.clone()).or_insert_with(|| Listened { count: watch::Sender::new(0), listeners: 0 });
        listened.listeners += 1;
        let count = listened.count.subscribe();
        if known.feed.is_none() {
            let stop = this.closing.child_token();
            known.feed = Some(stop.clone());
            let core = core.clone();
            this.tasks.spawn(async move {
                tokio::select! {
                    () = read(&core) => {}
                    () = stop.cancelled() => {}
                }
            });
        }
        Nudges { core: core.clone(), id: id.clone(), count }
    }

    fn set_open(&self, open: bool) {
        self.known().open = open;
    }

    fn nudge(&self, id: Option<&JobId>) {
        let known = self.known();
        let nudge = |listened: &Listened| listened.count.send_modify(|count| *count += 1);
        match id {
            Some(id) => known.jobs.get(id).into_iter().for_each(nudge),
            None => known.jobs.values().for_each(nudge),
        }
    }

    /// Closes the stream, whoever listens.
    pub(super) async fn close(&self) {
        self.closing.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// Reads the engine's events for ever.
async fn read(core: &Core) {
    let engine = loop {
        match core.engine().await {
            Ok(engine) => break engine,
            Err(e) => tracing::debug!(error = e.chain(), "no engine to hear events from"),
        }
        tokio::time::sleep(CONNECT_AGAIN).await;
    };
    let mut feed = EventFeed::new(engine, &[(labels::INSTANCE, core.settings.engine.instance.as_str())]);
    loop {
        match feed.next().await {
            News::Opened => {
                core.events.set_open(true);
                core.events.nudge(None);
            }
            News::Happened(event) => {
                tracing::debug!(action = event.action, "an engine event");
                if let Some(id) = event.attributes.get(labels::JOB).and_then(|id| id.parse().ok()) {
                    core.events.nudge(Some(&id));
                }
            }
            News::Lost => core.events.set_open(false),
        }
    }
}

impl Nudges {
    /// Waits until the stream is open, so that a look from then on need not be repeated; not for long where the engine does not answer.
    pub(super) async fn opened(&mut self) {
        let open = self.core.events.known().open;
        if !open {
            let _ = tokio::time::timeout(OPEN_WITHIN, self.next()).await;
        }
    }

    /// Returns once something may have happened since the last call. Dropping the future loses nothing.
    pub(super) async fn next(&mut self) {
        if self.count.changed().await.is_err() {
            // Cannot be: the sender goes after its last listener.
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for Nudges {
    fn drop(&mut self) {
        let mut known = self.core.events.known();
        let last = known.jobs.get_mut(&self.id).is_some_and(|listened| {
            listened.listeners -= 1;
            listened.listeners == 0
        });
        if last {
            known.jobs.remove(&self.id);
        }
        if known.jobs.is_empty()
            && let Some(feed) = known.feed.take()
        {
            known.open = false;
            feed.cancel();
        }
    }
}
