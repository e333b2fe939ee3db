//! Following a job to its end.

use std::time::Duration;

use futures_util::StreamExt as _;

use super::log::Lines;
use super::service::Core;
use super::status::{self, Observed};
use super::{JobId, JobStatus, overstay, seal};
use crate::engine::ContainerState;
use crate::error::Result;
use crate::protocol::progress::Progress;

/// How often a container that another process delivers is looked at.
const DELIVERY_POLL: Duration = Duration::from_millis(200);
/// How often a running one is looked at, for the case that its own clock has failed.
const CHECK_EVERY: Duration = Duration::from_secs(30);
/// What the log may still bring after the container has ended.
const LAST_LINES: Duration = Duration::from_millis(300);

/// Calls `on_progress` for each record of the job's log, each once; returns the final status.
pub(super) async fn watch(core: &Core, id: &JobId, on_progress: &mut (dyn FnMut(&Progress) + Send)) -> Result<JobStatus> {
    let mut told = 0;
    // How the delivery failed is in the tombstone; where there is none, the failure itself is the answer.
    let delivered = core.deliveries.wait(id).await;
    loop {
        let seen = match (status::observe(core, id).await?, &delivered) {
            (Some(seen), _) => seen,
            (None, Err(_)) => return Err(core.deliveries.failure(id).unwrap_or_else(super::id::not_found)),
            (None, Ok(())) => return Err(super::id::not_found()),
        };
        if seen.derived.overdue {
            seal::kill_overdue(core, &seen).await?;
        }
        overstay::thaw_if_due(core, &seen).await?;
        if seen.derived.absent {
            return Ok(seen.status());
        }
        match seen.found.facts.state {
            _ if seen.derived.needs_seal => {
                seal::seal_again(core, seen).await?;
            }
            ContainerState::Created if !seen.derived.state.is_final() => tokio::time::sleep(DELIVERY_POLL).await,
            ContainerState::Created => return Ok(seen.status()),
            ContainerState::Running | ContainerState::Paused | ContainerState::Restarting => {
                follow(core, &seen, &mut told, on_progress).await?;
            }
            _ => {
                // What was logged before anybody followed.
                follow(core, &seen, &mut told, on_progress).await?;
                return Ok(seen.status());
            }
        }
    }
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
    let check = tokio::time::sleep(CHECK_EVERY);
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
