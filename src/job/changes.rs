//! Waiting for a job to change: its state, followed once for everybody in this process who waits for it.
//!
//! ```text
//!  engine events ──► nudge ──► one look ──► state ──► all who wait
//!  container log ──► record ─────────────────┘
//! ```
//! What happens to the container (created, started, died, renamed, removed, paused) comes as an engine event and costs one look. What happens inside a
//! running one (unpacking, queued, running, sealing) are records of its log, which is followed and costs nothing more. Time alone moves a job at two
//! moments that are known before (its delivery is overdue, its end is), so a clock is set for those. There is no poll.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::deliverer::Life;
use super::events::{Events, Nudges};
use super::log::Lines;
use super::service::Core;
use super::status::{self, Observed};
use super::{JobId, JobState, state};
use crate::engine::{ByteStream, ContainerState};
use crate::error::Result;

/// A job that is being replaced by its tombstone has no container of its name for a moment.
const GONE_WITHIN: Duration = Duration::from_secs(2);
/// Between two looks at an engine that gives errors, and at a log that ends while its container runs: the first pause, doubled up to the second.
const PAUSES: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(20));
/// An engine that gives errors for so long is said to.
const UNREACHABLE_AFTER: Duration = Duration::from_secs(60);
/// A look without any reason: connections can die without a word.
const LOOK_ANYWAY: Duration = Duration::from_secs(300);
/// How soon one that seals in a second start is looked at.
const SECOND_START: Duration = Duration::from_secs(5);

/// What is known of a job by who follows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stand {
    /// Nobody has looked yet.
    Unknown,
    /// In this state.
    At(JobState),
    /// There is no such job (any more).
    Gone,
    /// The engine has given errors for a minute; it is still being tried.
    Unreachable,
}

#[derive(Default)]
pub(super) struct Changes {
    followed: Mutex<HashMap<JobId, Followed>>,
    tasks: TaskTracker,
    closing: CancellationToken,
}

struct Followed {
    stand: watch::Receiver<Stand>,
    followers: usize,
    stop: CancellationToken,
}

/// Follows one job's state. Dropping it ends that.
pub struct Following {
    core: Arc<Core>,
    id: JobId,
    stand: watch::Receiver<Stand>,
}

impl Changes {
    fn followed(&self) -> MutexGuard<'_, HashMap<JobId, Followed>> {
        self.followed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Follows a job; several who follow the same one share the work.
    pub(super) fn follow(core: &Arc<Core>, id: &JobId) -> Following {
        let mut followed = core.changes.followed();
        let entry = followed.entry(id.clone()).or_insert_with(|| {
            let (sender, stand) = watch::channel(Stand::Unknown);
            let stop = core.changes.closing.child_token();
            let (core, id, stopped) = (core.clone(), id.clone(), stop.clone());
            let tasks = core.changes.tasks.clone();
            tasks.spawn(async move {
                tokio::select! {
                    () = follow(&core, &id, &sender) => {}
                    () = stopped.cancelled() => return,
                }
                // What was said last stays to be read until the last follower is gone.
                stopped.cancelled().await;
            });
            Followed { stand, followers: 0, stop }
        });
        entry.followers += 1;
        Following { core: core.clone(), id: id.clone(), stand: entry.stand.clone() }
    }

    /// Ends all following.
    pub(super) async fn close(&self) {
        self.closing.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl Following {
    /// What is known now.
    pub fn now(&self) -> Stand {
        *self.stand.borrow()
    }

    /// Waits until the job is known to stand elsewhere than `known`, and says where. Two changes in a row may be told as one. Dropping the future
    /// loses nothing.
    pub async fn beyond(&mut self, known: Stand) -> Stand {
        match self.stand.wait_for(|stand| *stand != known && *stand != Stand::Unknown).await.map(|stand| *stand) {
            Ok(stand) => stand,
            // The process is winding up.
            Err(_) => std::future::pending().await,
        }
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        let mut followed = self.core.changes.followed();
        let last = followed.get_mut(&self.id).is_some_and(|entry| {
            entry.followers -= 1;
            entry.followers == 0
        });
        if last && let Some(entry) = followed.remove(&self.id) {
            entry.stop.cancel();
        }
    }
}

fn tell(stand: &watch::Sender<Stand>, now: Stand) {
    stand.send_if_modified(|known| {
        let new = *known != now;
        *known = now;
        new
    });
}

/// Tells where a job stands until it is gone.
async fn follow(core: &Arc<Core>, id: &JobId, stand: &watch::Sender<Stand>) {
    let mut nudges = Events::listen(core, id);
    nudges.opened().await;
    let mut pause = PAUSES.0;
    let mut failing: Option<Instant> = None;
    let mut missed = false;
    loop {
        match stay(core, id, stand, &mut nudges).await {
            Ok(Stayed::Changed) => {
                (pause, failing, missed) = (PAUSES.0, None, false);
                continue;
            }
            Ok(Stayed::LogEnded) => (failing, missed) = (None, false),
            Ok(Stayed::Missing) if missed => return tell(stand, Stand::Gone),
            Ok(Stayed::Missing) => {
                (failing, missed) = (None, true);
                // Its removal is told, or its tombstone's creation.
                let _ = tokio::time::timeout(GONE_WITHIN, nudges.next()).await;
                continue;
            }
            Err(e) => {
                tracing::debug!(job = %id, error = e.chain(), "could not look at a job that is waited for");
                if failing.get_or_insert_with(Instant::now).elapsed() >= UNREACHABLE_AFTER {
                    tell(stand, Stand::Unreachable);
                }
            }
        }
        let _ = tokio::time::timeout(pause, nudges.next()).await;
        pause = (pause * 2).min(PAUSES.1);
    }
}

/// Why it is time for another look.
enum Stayed {
    /// Something happened, or the time for it has come.
    Changed,
    /// The log ended: the container has, or the log was cut.
    LogEnded,
    /// There is no such job.
    Missing,
}

/// Looks at a job, tells where it stands, and stays until another look is due.
async fn stay(core: &Arc<Core>, id: &JobId, stand: &watch::Sender<Stand>, nudges: &mut Nudges) -> Result<Stayed> {
    let Some(seen) = status::observe(core, id).await? else { return Ok(Stayed::Missing) };
    let seen = core.attend(seen).await;
    tell(stand, Stand::At(seen.derived.state));
    let due = tokio::time::sleep(next_by_time(&seen, core.now_ms()));
    let running = matches!(seen.found.facts.state, ContainerState::Running | ContainerState::Paused | ContainerState::Restarting);
    let mut log = match running {
        // The last line again and what follows: older lines would tell of states that are past.
        true => Some(core.engine().await?.logs(&seen.found.container(), true, Some(1)).await?),
        false => None,
    };
    tokio::pin!(due);
    let mut lines = Lines::default();
    loop {
        tokio::select! {
            () = nudges.next() => return Ok(Stayed::Changed),
            () = &mut due => return Ok(Stayed::Changed),
            chunk = next_chunk(&mut log) => match chunk {
                Some(Ok(chunk)) => lines.push(&chunk, &mut |record| {
                    let derived = state::derive(&seen.found.facts, &seen.found.labels, Some(&record), core.now_ms(), core.seal_attempts(id), Life::Unknown);
                    tell(stand, Stand::At(derived.state));
                }),
                Some(Err(_)) | None => return Ok(Stayed::LogEnded),
            },
        }
    }
}

async fn next_chunk(log: &mut Option<ByteStream>) -> Option<Result<bytes::Bytes>> {
    match log {
        Some(log) => log.next().await,
        None => std::future::pending().await,
    }
}

/// How long nothing but an event or a record can change where this job stands.
pub(super) fn next_by_time(seen: &Observed, now_ms: u64) -> Duration {
    if seen.derived.state.is_final() {
        return LOOK_ANYWAY;
    }
    // A second start takes seconds, and a restart policy may hide its end.
    if seen.found.facts.finished_unix_ms.is_some() {
        return SECOND_START;
    }
    let at = match seen.found.facts.state {
        ContainerState::Created => seen.found.labels.prepare_by.saturating_add(1).saturating_mul(1000),
        // Its clock goes on while it is frozen, and whoever looks after its end thaws it.
        ContainerState::Paused => {
            let from = seen.found.facts.started_unix_ms.unwrap_or(seen.found.labels.created_ms);
            from.saturating_add(seen.found.labels.deadline_seconds.saturating_mul(1000))
        }
        _ => state::overdue_from(&seen.found.facts, &seen.found.labels),
    };
    // A moment that has passed without a change is not waited for again and again.
    Duration::from_millis(at.saturating_sub(now_ms)).clamp(Duration::from_secs(5), LOOK_ANYWAY)
}

#[cfg(test)]
mod tests {
    use super::super::labels::tests::sample;
    use super::*;
    use crate::engine::{ContainerFacts, ContainerId};

    fn seen(state: ContainerState) -> Observed {
        let facts = status::just_created(ContainerId::parse(&"a".repeat(64)).unwrap(), &sample(), "i");
        let facts = ContainerFacts { state, started_unix_ms: Some(1_100_000), ..facts };
        let found = status::Found::from_facts(facts, "default").unwrap();
        let derived = state::derive(&found.facts, &found.labels, None, 1_200_000, 0, Life::Unknown);
        Observed { found, last: None, derived, now_ms: 1_200_000 }
    }

    #[test]
    fn the_next_look_is_when_time_alone_can_change_it() {
        // prepare_by is second 2000.
        assert_eq!(next_by_time(&seen(ContainerState::Created), 1_990_000), Duration::from_secs(11));
        assert_eq!(next_by_time(&seen(ContainerState::Created), 1_000_000), LOOK_ANYWAY);
        assert_eq!(next_by_time(&seen(ContainerState::Created), 9_000_000), Duration::from_secs(5), "never a busy loop");
        let end = 1_100_000 + (600 + 1800 + 120) * 1000;
        assert_eq!(next_by_time(&seen(ContainerState::Running), end - 30_000), Duration::from_millis(30_001));
        assert_eq!(next_by_time(&seen(ContainerState::Dead), 0), LOOK_ANYWAY);
    }

    #[test]
    fn only_what_is_new_is_told() {
        let (sender, mut stand) = watch::channel(Stand::Unknown);
        tell(&sender, Stand::At(JobState::Queued));
        assert!(stand.has_changed().unwrap());
        stand.mark_unchanged();
        tell(&sender, Stand::At(JobState::Queued));
        assert!(!stand.has_changed().unwrap());
        tell(&sender, Stand::Gone);
        assert_eq!(*stand.borrow_and_update(), Stand::Gone);
    }
}
