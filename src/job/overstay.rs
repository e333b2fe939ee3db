//! Jobs that somebody froze, from outside, past their own end: `docker pause`, or a SIGSTOP to the first process.
//!
//! A job ends itself at its deadline, by a clock that goes on while it is frozen. So nothing has to be killed: whoever looks at it thaws it, and it ends at once with
//! its true reason. What does not end then is overdue, and killed.

use super::log;
use super::service::Core;
use super::status::Observed;
use crate::engine::ContainerState;
use crate::error::Result;
use crate::protocol::progress::Phase;

/// Seconds past its own end that a container which is not paused is given to end by itself.
const GRACE_SECONDS: u64 = 10;

/// Thaws a job that should have ended by itself; whether that was done.
pub(super) async fn thaw_if_due(core: &Core, seen: &Observed) -> Result<bool> {
    let labels = &seen.found.labels;
    let grace = match seen.found.facts.state {
        ContainerState::Paused => 0,
        ContainerState::Running => GRACE_SECONDS,
        _ => return Ok(false),
    };
    // Most are far from it, and need no look at the whole log.
    let shortest = labels.deadline_seconds.min(labels.queue_seconds).saturating_add(grace).saturating_mul(1000);
    if seen.now_ms < seen.found.facts.started_unix_ms.unwrap_or(labels.created_ms).saturating_add(shortest) {
        return Ok(false);
    }
    let container = seen.found.container();
    let records = log::all(core, &container).await?;
    let since = |phase: Phase| records.iter().find(|record| record.phase == phase).map(|record| record.ms);
    let (from, seconds) = match (since(Phase::Sealing), since(Phase::Running), since(Phase::Queued)) {
        // No clock ends a seal; where it is only slow there is nothing to thaw.
        (Some(_), ..) if grace > 0 => return Ok(false),
        (Some(sealing), ..) => (sealing, 0),
        (None, Some(running), _) => (running, labels.deadline_seconds),
        (None, None, Some(queued)) => (queued, labels.queue_seconds),
        (None, None, None) => {
            (seen.found.facts.started_unix_ms.unwrap_or(labels.created_ms), labels.queue_seconds.saturating_add(labels.deadline_seconds))
        }
    };
    if seen.now_ms < from.saturating_add(seconds.saturating_add(grace).saturating_mul(1000)) {
        return Ok(false);
    }
    tracing::info!(job_id = %labels.id, "it was frozen past its own end: thawing it");
    let engine = core.engine().await?;
    match seen.found.facts.state {
        ContainerState::Paused => engine.unpause_container(&container).await?,
        _ => drop(engine.signal_container(&container, "SIGCONT").await?),
    }
    Ok(true)
}
