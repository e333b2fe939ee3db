//! The two verbs that end a job: consume (nothing is left) and cancel (the partial work is sealed).

use std::time::Duration;

use tracing::Instrument as _;

use super::service::Core;
use super::status::{self, Observed};
use super::{JobId, JobResult, JobStatus, bury, collect, restore, seal, spec};
use crate::engine::{ContainerRef, ContainerState};
use crate::error::{Error, Result};
use crate::fault;
use crate::telemetry::{TraceContext, step};

/// How long a cancel waits for the seal before it returns what is true then.
const SEALED_WITHIN: Duration = Duration::from_secs(10);
/// How often the signal is sent meanwhile; it may come more than once.
const SIGNAL_EVERY: Duration = Duration::from_secs(1);
/// A job that is being delivered may start between a look and a signal.
const CANCEL_ROUNDS: u32 = 4;

/// A job that was taken out of everybody's sight by one caller, who removes it or gives it back.
pub struct Claimed {
    id: JobId,
    /// `None`: the engine holds no container of it.
    container: Option<ContainerRef>,
    trace: TraceContext,
}

/// The result, and nothing is left. The rename is what decides among several callers: one wins, the others find no such job.
pub(super) async fn consume(core: &Core, id: &JobId) -> Result<JobResult> {
    let (claimed, result) = claim(core, id).await?;
    finish(core, claimed).await;
    Ok(result)
}

/// Removes what was claimed.
pub(super) async fn finish(core: &Core, claimed: Claimed) {
    let span = step!("consume", claimed.id, claimed.trace);
    finish_inside(core, claimed).instrument(span).await;
}

async fn finish_inside(core: &Core, claimed: Claimed) {
    match &claimed.container {
        Some(container) => drop(bury::remove(core, &claimed.id, container).await),
        None => {
            if let Err(e) = restore::forget(core, &claimed.id).await {
                tracing::warn!(job_id = %claimed.id, error = e.chain(), "left for the sweep");
            }
        }
    }
    core.deliveries.forget_sent(&claimed.id);
}

/// Puts back what was claimed, as if nobody had asked.
pub(super) async fn give_back(core: &Core, claimed: Claimed) -> Result<()> {
    let Some(container) = &claimed.container else { return Ok(()) };
    if core.engine().await?.rename_container(container, &spec::job_name(&claimed.id)?).await? {
        return Ok(());
    }
    Err(Error::new(crate::error::Code::EngineError, "keep the job: somebody else has removed it meanwhile"))
}

/// The result, and the job is this caller's. A tombstone is consumed at once: its error is its result.
pub(super) async fn claim(core: &Core, id: &JobId) -> Result<(Claimed, JobResult)> {
    let outcome = collect::collect(core, id).await;
    let (seen, outcome) = match outcome {
        Ok(harvest) => (harvest.seen, Ok(harvest.result)),
        // A tombstone is consumed too: its error is its result.
        Err(error) => match status::observe(core, id).await? {
            Some(seen) if seen.found.labels.ended.is_some() => (seen, Err(error)),
            _ => return Err(error),
        },
    };
    fault::point("consume.collected");
    if seen.found.facts.state == ContainerState::Restarting {
        // Somebody gave it a restart policy, and what is being started again takes no other name.
        core.engine().await?.stop_container(&seen.found.container()).await?;
    }
    let container = (!seen.derived.absent).then(|| seen.found.container());
    if let Some(container) = &container {
        bury::forget_tombstone(core, id).await?;
        if !bury::claim(core, id, container).await? {
            return Err(super::id::not_found());
        }
    }
    fault::point("consume.claimed");
    let claimed = Claimed { id: id.clone(), container, trace: seen.found.labels.trace() };
    match outcome {
        Ok(result) => Ok((claimed, result)),
        Err(e) => {
            finish(core, claimed).await;
            Err(e)
        }
    }
}

/// Ends a job and waits until its work is sealed. One that has ended is left as it is.
pub(super) async fn cancel(core: &Core, id: &JobId) -> Result<JobStatus> {
    // While the engine unpacks an upload it answers nothing else about that container: a delivery of ours is stopped at its source.
    core.deliveries.stop(id).await;
    for _ in 0..CANCEL_ROUNDS {
        let Some(seen) = status::observe(core, id).await? else {
            return Err(core.deliveries.failure(id).unwrap_or_else(super::id::not_found));
        };
        let span = step!("cancel", id, seen.found.labels.trace());
        if let Some(status) = cancel_once(core, seen).instrument(span).await? {
            return Ok(status);
        }
    }
    Err(Error::new(crate::error::Code::EngineError, "cancel the job: its container keeps changing").with_hint("try again"))
}

/// `None`: it changed meanwhile, look again.
async fn cancel_once(core: &Core, seen: Observed) -> Result<Option<JobStatus>> {
    if seen.derived.state.is_final() {
        return Ok(Some(seen.status()));
    }
    let engine = core.engine().await?;
    let container = seen.found.container();
    fault::point("cancel.seen");
    match seen.found.facts.state {
        // It only needs its seal.
        ContainerState::Created if seen.derived.needs_seal => Ok(Some(seal::seal_again(core, seen).await?.status())),
        ContainerState::Created => {
            // The delivery, here or elsewhere, finds its container gone and stops.
            if !bury::cancelled_before_start(core, &seen.found.labels, &container, &seen.found.facts.image_id).await? {
                // It has started meanwhile, or another cancel was first.
                return Ok(None);
            }
            Ok(status::observe(core, &seen.found.labels.id).await?.map(|seen| seen.status()))
        }
        ContainerState::Running | ContainerState::Restarting | ContainerState::Paused => {
            // A paused process takes the signal when it is thawed; sending it first leaves it no time to go on.
            let signalled = engine.signal_container(&container, "SIGUSR1").await;
            if seen.found.facts.state == ContainerState::Paused {
                engine.unpause_container(&container).await?;
                if !matches!(signalled, Ok(true)) {
                    engine.signal_container(&container, "SIGUSR1").await?;
                }
            } else {
                signalled?;
            }
            fault::point("cancel.signalled");
            let ending = async {
                // Again and again: a first process that has just started has no ear for signals yet, and the kernel keeps none for it.
                loop {
                    match tokio::time::timeout(SIGNAL_EVERY, engine.wait_container(&container)).await {
                        Ok(ended) => return ended,
                        Err(_) => drop(engine.signal_container(&container, "SIGUSR1").await?),
                    }
                }
            };
            if let Ok(ended) = tokio::time::timeout(SEALED_WITHIN, ending).await {
                ended?;
            }
            let now = status::observe(core, &seen.found.labels.id).await?.ok_or_else(super::id::not_found)?;
            Ok(Some(seal::seal_again(core, now).await?.status()))
        }
        // It died unsealed: what there is gets sealed, and it keeps the reason for which it died.
        ContainerState::Exited => Ok(Some(seal::seal_again(core, seen).await?.status())),
        ContainerState::Removing | ContainerState::Dead => Ok(None),
    }
}
