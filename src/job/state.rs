//! Where a job stands, derived from what the engine says about its container. This is the only place that decides it.
//!
//! ```text
//!            create            start              slot               Codex ended, deadline, cancel
//!  (nothing) ──────► preparing ─────► preparing ─► queued ─► running ────────────────► sealing ──► one of the ends
//!                    container:       running,     running,  running,                  running,     exited with a
//!                    created          unpacking    queued    running                   sealing      reason's code
//!                       │                 │           │         │                         │
//!                       │                 └───────────┴────┬────┘ PID 1 died unsealed     │ died again, twice
//!                       │                                  ▼                              ▼
//!                       │                      sealing (needs a second start) ─────────► lost
//!                       ├── delivery failed or was cancelled: a tombstone (never started) says how ──► failed | cancelled
//!                       └── the delivering process died: interrupted, at once where that is known, else once `prepare_by` has passed
//!
//!  ends: completed · failed (also: token budget, memory, disk, provider unreachable) · cancelled · timeout (also: queue timeout, idle) ·
//!        interrupted · lost
//! ```
//! Only these move a job: `start` and the delivery (create, start), `init` (everything inside, by its exit code), `cancel`
//! (a signal, or a tombstone), any passer-by (the second start of a container that died unsealed; a kill of one that is overdue; a new container upon
//! the volumes of one that somebody removed), and `consume` and the sweep (removal). Only the death of the process that delivers, or time alone, moves
//! `preparing` to `interrupted`.

use std::borrow::Cow;

use super::JobState;
use super::deliverer::Life;
use super::labels::JobLabels;
use crate::engine::{ContainerFacts, ContainerState};
use crate::protocol::progress::{Phase, Progress};
use crate::protocol::result::Reason;

/// After so many second starts by one process that did not seal, the job is lost.
pub(super) const MAX_SEAL_ATTEMPTS: u32 = 2;
/// Seconds past the latest possible end (slot wait and deadline) after which a running container is taken for stuck.
pub(super) const OVERDUE_SECONDS: u64 = 120;

/// Where a job stands, and what a passer-by should do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Derived {
    /// The design's state.
    pub state: JobState,
    /// Why it ended.
    pub reason: Option<Reason>,
    /// One sentence of ours.
    pub detail: Cow<'static, str>,
    /// Unix milliseconds of the end, where known.
    pub ended_ms: Option<u64>,
    /// It ended before it sealed: start it once more.
    pub needs_seal: bool,
    /// It should long have ended by itself: kill it, then seal.
    pub overdue: bool,
    /// It is being removed: as good as gone.
    pub gone: bool,
    /// There is no container, and none can be made.
    pub absent: bool,
}

impl Derived {
    fn new(state: JobState, detail: &'static str) -> Self {
        Self { state, reason: None, detail: Cow::Borrowed(detail), ended_ms: None, needs_seal: false, overdue: false, gone: false, absent: false }
    }

    /// The engine holds nothing from which the job could be sealed.
    pub(super) fn absent(detail: String) -> Self {
        Self { detail: Cow::Owned(detail), absent: true, ..Self::ended(Reason::Lost, None) }
    }

    fn ended(reason: Reason, ended_ms: Option<u64>) -> Self {
        Self { reason: Some(reason), ended_ms, ..Self::new(state_of(reason), sentence(reason)) }
    }
}

/// The state behind a reason.
pub(super) fn state_of(reason: Reason) -> JobState {
    match reason {
        Reason::Completed => JobState::Completed,
        Reason::Failed | Reason::TokenBudget | Reason::Memory | Reason::Disk | Reason::ProviderUnreachable => JobState::Failed,
        Reason::Cancelled => JobState::Cancelled,
        Reason::Deadline | Reason::QueueTimeout | Reason::Idle => JobState::Timeout,
        Reason::Interrupted => JobState::Interrupted,
        Reason::Lost => JobState::Lost,
    }
}

fn sentence(reason: Reason) -> &'static str {
    match reason {
        Reason::Completed => "Codex ended its turn.",
        Reason::Failed => "Codex or the job around it failed; the result says how.",
        Reason::Cancelled => "It was cancelled; what was done until then is in the result.",
        Reason::Deadline => "It met its deadline; what was done until then is in the result.",
        Reason::QueueTimeout => "It got no slot in the time that it may wait; Codex never ran.",
        Reason::Idle => "Nothing happened in it for as long as it may be idle; what was done until then is in the result.",
        Reason::TokenBudget => "It used up its token budget; what was done until then is in the result.",
        Reason::Memory => "It used up its memory; what was done until then is in the result.",
        Reason::Disk => "It used up its disk; what was done until then is in the result.",
        Reason::ProviderUnreachable => "No model answer could be had; what was done until then is in the result.",
        Reason::Interrupted => "It was stopped from outside; what was done until then is in the result.",
        Reason::Lost => "Its workspace is gone: nothing can be said about changes.",
    }
}

/// Derives where a job stands. `last` is the last progress record of its log, `seal_attempts` the second starts that
/// this process has seen fail. `deliverer` counts only before the start: it must have been looked at before `facts` were taken, because a
/// process that has started a job may end.
pub(super) fn derive(
    facts: &ContainerFacts,
    labels: &JobLabels,
    last: Option<&Progress>,
    now_ms: u64,
    seal_attempts: u32,
    deliverer: Life,
) -> Derived {
    // A tombstone was never started and never will be.
    if let Some(ended) = &labels.ended {
        return Derived { detail: Cow::Owned(ended.detail.clone()), ..Derived::ended(ended.reason, Some(ended.at_ms)) };
    }
    match facts.state {
        ContainerState::Created if labels.restored.is_some() && seal_attempts < MAX_SEAL_ATTEMPTS => Derived {
            needs_seal: true,
            ..Derived::new(JobState::Sealing, "Somebody removed its container; it is made again upon what is left, only to seal.")
        },
        ContainerState::Created if labels.restored.is_some() => Derived {
            detail: Cow::Borrowed(
                "Somebody removed its container, and one that was made again could not be started: nothing can be said about changes.",
            ),
            ..Derived::ended(Reason::Lost, None)
        },
        // When it died nobody knows.
        ContainerState::Created if deliverer == Life::Gone => Derived {
            detail: Cow::Borrowed("The process that delivered it is gone, and the job had not started; nothing has run."),
            ..Derived::ended(Reason::Interrupted, None)
        },
        ContainerState::Created if now_ms / 1000 <= labels.prepare_by => Derived::new(JobState::Preparing, "The workspace is being delivered."),
        ContainerState::Created => Derived {
            detail: Cow::Borrowed("It was not delivered in the time allowed for that; nothing has run."),
            ..Derived::ended(Reason::Interrupted, Some(labels.prepare_by.saturating_mul(1000)))
        },
        // Told by a restart policy to start again what has ended; it ends at once with the same code.
        ContainerState::Restarting if facts.exit_code.and_then(Reason::from_exit_code).is_some() => {
            Derived::ended(facts.exit_code.and_then(Reason::from_exit_code).unwrap_or(Reason::Lost), facts.finished_unix_ms)
        }
        ContainerState::Running | ContainerState::Restarting | ContainerState::Paused if labels.restored.is_some() => Derived {
            overdue: overdue(facts, labels, now_ms),
            ..Derived::new(JobState::Sealing, "Somebody removed its container; it was made again upon what is left, only to seal.")
        },
        // It runs although it has ended once: this is its second start, and its last record may still be of the first.
        ContainerState::Running | ContainerState::Restarting | ContainerState::Paused if facts.finished_unix_ms.is_some() => Derived {
            overdue: overdue(facts, labels, now_ms),
            ..Derived::new(JobState::Sealing, "It died before it sealed; it was started once more, only to seal.")
        },
        ContainerState::Running | ContainerState::Restarting => {
            Derived { overdue: overdue(facts, labels, now_ms), ..inside(last.map(|record| record.phase)) }
        }
        ContainerState::Paused => Derived {
            overdue: overdue(facts, labels, now_ms),
            detail: Cow::Borrowed("Somebody paused the container; cancel ends it, `docker unpause` lets it go on."),
            ..inside(last.map(|record| record.phase))
        },
        ContainerState::Removing => Derived { gone: true, ..Derived::ended(Reason::Lost, facts.finished_unix_ms) },
        ContainerState::Exited => match facts.exit_code.and_then(Reason::from_exit_code) {
            Some(reason) => Derived::ended(reason, facts.finished_unix_ms),
            None if seal_attempts >= MAX_SEAL_ATTEMPTS => Derived {
                detail: Cow::Borrowed("It died before it sealed, and starting it again did not seal it: nothing can be said about changes."),
                ..Derived::ended(Reason::Lost, facts.finished_unix_ms)
            },
            None => Derived {
                needs_seal: true,
                ended_ms: facts.finished_unix_ms,
                ..Derived::new(JobState::Sealing, "It died before it sealed; it is started once more, only to seal.")
            },
        },
        ContainerState::Dead => Derived {
            detail: Cow::Borrowed("The engine calls the container dead: nothing can be said about changes."),
            ..Derived::ended(Reason::Lost, facts.finished_unix_ms)
        },
    }
}

fn inside(phase: Option<Phase>) -> Derived {
    match phase {
        None => Derived::new(JobState::Preparing, "The container is starting."),
        Some(Phase::Unpacking) => Derived::new(JobState::Preparing, "The workspace is being unpacked."),
        Some(Phase::Queued) => Derived::new(JobState::Queued, "It waits for a slot."),
        Some(Phase::Running) => Derived::new(JobState::Running, "Codex runs."),
        Some(Phase::Sealing | Phase::Sealed) => Derived::new(JobState::Sealing, "The result is being sealed."),
    }
}

fn overdue(facts: &ContainerFacts, labels: &JobLabels, now_ms: u64) -> bool {
    now_ms >= overdue_from(facts, labels)
}

/// Unix milliseconds from which on a running container is taken for stuck.
pub(super) fn overdue_from(facts: &ContainerFacts, labels: &JobLabels) -> u64 {
    let from = facts.started_unix_ms.unwrap_or(labels.created_ms.max(labels.prepare_by.saturating_mul(1000)));
    let allowed = labels.queue_seconds.saturating_add(labels.deadline_seconds).saturating_add(OVERDUE_SECONDS);
    from.saturating_add(allowed.saturating_mul(1000)).saturating_add(1)
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
