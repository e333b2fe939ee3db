//! Following a job to its end, over an engine that goes away and comes back.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;

use super::away::Absence;
use super::changes::next_by_time;
use super::events::{Events, Nudges};
use super::log::Lines;
use super::service::Core;
use super::status::{self, Observed};
use super::{JobId, JobStatus, overstay, seal};
use crate::engine::ContainerState;
use crate::error::Result;
use crate::protocol::progress::Progress;

/// What the log may still bring after the container has ended.
const LAST_LINES: Duration = Duration::from_millis(300);

/// Calls `on_progress` for each record of the job's log, each once; returns the final status.
pub(super) async fn watch(core: &Arc<Core>, id: &JobId, on_progress: &mut (dyn FnMut(&Progress) + Send)) -> Result<JobStatus> {
    let mut told = 0;
    let mut nudges = None;
    // How the delivery failed is in the tombstone; where there is none, the failure itself is the answer.
    let delivered = core.deliveries.wait(id).await;
    let mut absence = Absence::new(core.settings.engine.away_seconds);
    loop {
        let seen = match (status::observe(core, id).await, &delivered) {
            // No tombstone could be made, as on a full disk: this process alone knows why.
            (Ok(Some(seen)), Err(_)) if seen.found.facts.state == ContainerState::Created && seen.found.labels.ended.is_none() => {
                return core.deliveries.failure(id).map_or_else(|| Ok(seen.status()), Err);
            }
            (Ok(Some(seen)), _) => seen,
            (Ok(None), Err(_)) => return Err(core.deliveries.failure(id).unwrap_or_else(super::id::not_found)),
            (Ok(None), Ok(())) => return Err(super::id::not_found()),
            (Err(e), _) => {
                absence.wait(e).await?;
                continue;
            }
        };
        match step(core, seen, &mut told, &mut nudges, on_progress).await {
            Ok(Some(status)) => return Ok(status),
            Ok(None) => absence.over(),
            Err(e) => absence.wait(e).await?,
        }
    }
}

/// Waits for what comes next in a job that was just looked at; its status where it has ended.
async fn step(
    core: &Arc<Core>,
    seen: Observed,
    told: &mut usize,
    nudges: &mut Option<Nudges>,
    on_progress: &mut (dyn FnMut(&Progress) + Send),
) -> Result<Option<JobStatus>> {
    if seen.derived.overdue {
        seal::kill_overdue(core, &seen).await?;
    }
    overstay::thaw_if_due(core, &seen).await?;
    if seen.derived.absent {
        return Ok(Some(seen.status()));
    }
    // A restart policy starts it again and again, so that the engine never tells of an end.
    if seen.found.facts.state == ContainerState::Restarting && seen.derived.state.is_final() {
        return Ok(Some(seen.status()));
    }
    match seen.found.facts.state {
        _ if seen.derived.needs_seal => {
            seal::seal_again(core, seen).await?;
        }
        // Another process delivers it: the engine tells of the start. Listened to from before the next look on, so that nothing is missed.
        ContainerState::Created if !seen.derived.state.is_final() => match nudges {
            None => *nudges = Some(Events::listen(core, &seen.found.labels.id)),
            Some(nudges) => {
                let _ = tokio::time::timeout(next_by_time(&seen, core.now_ms()), nudges.next()).await;
            }
        },
        ContainerState::Created => return Ok(Some(seen.status())),
        ContainerState::Running | ContainerState::Paused | ContainerState::Restarting => {
            follow(core, &seen, told, on_progress).await?;
        }
        _ => {
            // What was logged before anybody followed; the end is known without it.
            if let Err(e) = follow(core, &seen, told, on_progress).await {
                tracing::debug!(error = e.chain(), "the last of the log could not be read");
            }
            return Ok(Some(seen.status()));
        }
    }
    Ok(None)
}

/// Follows the log until the container ends or it is time to look at it again. `told` records are known already.
async fn follow(core: &Core, seen: &Observed, told: &mut usize, on_progress: &mut (dyn FnMut(&Progress) + Send)) -> Result<()> {
    let engine = core.engine().await?;
    let container = seen.found.container();
    let mut log = engine.logs(&container, true, None).await?;
    let mut lines = Lines::default();
    let mut number = 0;
    let ended = engine.wait_container(&container);
    tokio::pin!(ended);
    let check = tokio::time::sleep(next_by_time(seen, core.now_ms()));
    tokio::pin!(check);
    let last_lines = tokio::time::sleep(LAST_LINES);
    tokio::pin!(last_lines);
    let mut has_ended = false;
    let mut log_open = true;
    while !has_ended || log_open {
        tokio::select! {
            chunk = log.next(), if log_open => match chunk {
                Some(Ok(chunk)) => lines.push(&chunk, &mut |record| {
                    number += 1;
                    if number > *told {
                        *told = number;
                        on_progress(&record);
                    }
                }),
                // A log that breaks off is opened again by the next round, or its job has ended.
                Some(Err(_)) | None => log_open = false,
            },
            code = &mut ended, if !has_ended => {
                code?;
                has_ended = true;
                last_lines.as_mut().reset(tokio::time::Instant::now() + LAST_LINES);
            }
            () = &mut last_lines, if has_ended => break,
            () = &mut check => break,
        }
    }
    Ok(())
}
