//! The two verbs that end a job: consume (nothing is left) and cancel (the partial work is sealed).

use std::sync::Arc;
use std::time::Duration;

use tracing::Instrument as _;

use super::claim::{self, Right, Word};
use super::service::Core;
use super::status::{self, Observed};
use super::{JobId, JobResult, JobStatus, bury, collect, restore, seal, spec};
use crate::engine::{ContainerRef, ContainerState};
use crate::error::{Code, Error, Result};
use crate::fault;
use crate::telemetry::{TraceContext, step};

/// How long a cancel waits for the seal before it returns what is true then.
const SEALED_WITHIN: Duration = Duration::from_secs(10);
/// How often the signal is sent meanwhile; it may come more than once.
const SIGNAL_EVERY: Duration = Duration::from_secs(1);
/// How long another process that consumes the job is waited for.
const OTHER_WITHIN: Duration = Duration::from_secs(2);
/// A job that is being delivered may start between a look and a signal.
const CANCEL_ROUNDS: u32 = 4;

/// A job whose result this caller alone may show. Once it is shown the job is removed ([`finish`]); else it is given back, also where this is dropped.
pub struct Claimed {
    core: Arc<Core>,
    id: JobId,
    /// `None`: the engine holds no container of it.
    container: Option<ContainerRef>,
    /// Somebody gave it a restart policy, and what is being started again takes no other name.
    restarting: bool,
    trace: TraceContext,
    hold: Hold,
}

/// By what a job is held.
enum Hold {
    /// By the gateway's word: nothing of the job is touched, and everybody sees it.
    Right(Right),
    /// By the engine's, where the gateway has none: it is out of everybody's sight.
    Taken,
    /// By nothing any more.
    Over,
}

/// What a caller gets who may show a job's result. A job that never ran has an error for a result.
pub type Consumed = (Claimed, Result<JobResult>);

/// The result, and nothing is left.
pub(super) async fn consume(core: &Arc<Core>, id: &JobId) -> Result<JobResult> {
    let (claimed, result) = claim(core, id).await?;
    finish(claimed).await?;
    result
}

/// The result, and the right to show it: of several callers one gets it. One that dies before [`finish`] has lost nothing: whoever comes next finds that
/// it is dead and takes its place.
pub(super) async fn claim(core: &Arc<Core>, id: &JobId) -> Result<Consumed> {
    let (seen, result) = match collect::collect(core, id).await {
        Ok(harvest) => (harvest.seen, Ok(harvest.result)),
        // A tombstone is consumed too: its error is its result.
        Err(error) => match status::observe(core, id).await? {
            Some(seen) if seen.found.labels.ended.is_some() => (seen, Err(error)),
            _ => return Err(error),
        },
    };
    fault::point("consume.collected");
    let mut claimed = Claimed {
        core: core.clone(),
        id: id.clone(),
        container: (!seen.derived.absent).then(|| seen.found.container()),
        restarting: seen.found.facts.state == ContainerState::Restarting,
        trace: seen.found.labels.trace(),
        hold: Hold::Over,
    };
    claimed.hold = match claim::ask(core, &core.engine().await?, id, OTHER_WITHIN).await {
        Word::Ours(right) => {
            let taken_over = right.taken_over;
            claimed.hold = Hold::Right(right);
            if taken_over && claimed.is_taken().await? {
                return Err(super::id::not_found());
            }
            std::mem::replace(&mut claimed.hold, Hold::Over)
        }
        Word::Theirs => return Err(claim::being_consumed()),
        Word::Unknown | Word::Silent(_) if claimed.take().await? => Hold::Taken,
        // Nobody but the gateway knows of it, so nobody has taken it either.
        Word::Silent(error) if claimed.container.is_none() => return Err(error),
        Word::Unknown | Word::Silent(_) => return Err(super::id::not_found()),
    };
    fault::point("consume.claimed");
    Ok((claimed, result))
}

/// Removes what was claimed and shown: takes it out of everybody's sight and then apart.
pub(super) async fn finish(claimed: Claimed) -> Result<()> {
    if let Some(taken) = hide(claimed).await? {
        remove(taken).await;
    }
    Ok(())
}

/// Takes what was claimed and shown out of everybody's sight, which a sweep finishes if nobody else does; `None`: somebody else removes it.
pub(super) async fn hide(mut claimed: Claimed) -> Result<Option<Claimed>> {
    let span = step!("consume", claimed.id, claimed.trace);
    async {
        fault::point("consume.shown");
        let taken = match std::mem::replace(&mut claimed.hold, Hold::Over) {
            Hold::Taken => true,
            Hold::Over => false,
            Hold::Right(right) => {
                let taken = if claimed.container.is_some() { claimed.take().await } else { Ok(true) };
                if !matches!(taken, Ok(true)) {
                    claim::give_back(&claimed.core, &claimed.core.engine().await?, &claimed.id, right).await;
                }
                taken?
            }
        };
        fault::point("consume.renamed");
        Ok(taken.then_some(claimed))
    }
    .instrument(span)
    .await
}

/// Removes what was hidden.
pub(super) async fn remove(hidden: Claimed) {
    let (core, id) = (&hidden.core, &hidden.id);
    let span = step!("remove", hidden.id, hidden.trace);
    async {
        match &hidden.container {
            Some(container) => drop(bury::remove(core, id, container).await),
            None => {
                if let Err(e) = restore::forget(core, id).await {
                    tracing::warn!(job_id = %id, error = e.chain(), "left for the sweep");
                }
            }
        }
        core.deliveries.forget_sent(id);
    }
    .instrument(span)
    .await;
}

/// Gives back what was claimed, as if nobody had asked.
pub(super) async fn give_back(mut claimed: Claimed) -> Result<()> {
    let engine = claimed.core.engine().await?;
    match (std::mem::replace(&mut claimed.hold, Hold::Over), &claimed.container) {
        (Hold::Right(right), _) => claim::give_back(&claimed.core, &engine, &claimed.id, right).await,
        (Hold::Taken, Some(container)) if !engine.rename_container(container, &spec::job_name(&claimed.id)?).await? => {
            return Err(Error::new(Code::EngineError, "keep the job: somebody else has removed it meanwhile"));
        }
        (Hold::Taken | Hold::Over, _) => {}
    }
    Ok(())
}

impl Claimed {
    /// Takes it away from everybody else; `false`: somebody was first, or there is nothing to take.
    async fn take(&self) -> Result<bool> {
        let Some(container) = &self.container else { return restore::remove_volumes(&self.core, &self.id).await };
        if self.restarting {
            self.core.engine().await?.stop_container(container).await?;
        }
        bury::forget_tombstone(&self.core, &self.id).await?;
        bury::claim(&self.core, &self.id, container).await
    }

    /// Whether the one before had come so far that it had shown the result and taken the job away.
    async fn is_taken(&self) -> Result<bool> {
        let Some(container) = &self.container else { return Ok(false) };
        let facts = self.core.engine().await?.inspect_container(container).await?;
        Ok(facts.is_some_and(|facts| spec::is_consumed(&facts.name, &self.id)))
    }
}

impl Drop for Claimed {
    fn drop(&mut self) {
        let Hold::Right(right) = std::mem::replace(&mut self.hold, Hold::Over) else { return };
        // Whoever waited for it went away; a process that ends has no more to say, and its claim ends with it.
        if tokio::runtime::Handle::try_current().is_ok() {
            let (core, id) = (self.core.clone(), self.id.clone());
            self.core.tasks.spawn(async move {
                if let Ok(engine) = core.engine().await {
                    claim::give_back(&core, &engine, &id, right).await;
                }
            });
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
    Err(Error::new(Code::EngineError, "cancel the job: its container keeps changing").with_hint("try again"))
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
