//! Removing what a job is made of, and the tombstone of a job that never ran.
//!
//! A container's labels cannot be changed, so how a job ended that never started is said by another container: made under the
//! job's name from the same image, never started, its labels those of the job and the end. Any process reads it
//! like every other job, and retention removes it. It costs one container and one volume, both empty: the volume has the same labels and says the same where
//! somebody's prune has taken the container ([`super::restore`]). The tombstone is made under a name of its own before the job's container is
//! taken away, and gets the job's name afterwards: a process may die at any instant of that, and whoever comes by finds the job or puts its tombstone up.

use super::JobId;
use super::away::Absence;
use super::labels::{Ended, JobLabels};
use super::service::Core;
use super::spec;
use crate::engine::{ContainerFacts, ContainerRef, ContainerState, Engine, ObjectName, Removal};
use crate::error::{Code, Error, Result};
use crate::protocol::result::Reason;
use crate::{fault, weaken};

/// Milliseconds after which nobody is about to put up a tombstone any more.
const LYING_MS: u64 = 30_000;
/// Said of a job whose container somebody took away.
pub(super) const REMOVED_FIRST: &str = "Its container was removed from outside before it started; nothing has run.";
/// What a removal that is under way is given to end.
const SETTLE: std::time::Duration = std::time::Duration::from_secs(1);
/// How long the removal of a container may take, and how often it is looked whether its name is free.
const PUT_UP_WITHIN: std::time::Duration = std::time::Duration::from_secs(10);
const PUT_UP_RETRY: std::time::Duration = std::time::Duration::from_millis(25);

/// Takes a job's name away from its container: of several callers exactly one gets `true`, and removes what is left. Where the engine's answer got lost, and
/// only there, the caller who finds it done takes it for its own: a result that two callers get is better than one that nobody gets.
pub(super) async fn claim(core: &Core, id: &JobId, container: &ContainerRef) -> Result<bool> {
    let engine = core.engine().await?;
    let taken = spec::consumed_name(id)?;
    if engine.rename_container(container, &taken).await? {
        return Ok(true);
    }
    let holder = ContainerRef::Name(taken.clone());
    // Somebody else was first; or the name is held by what a process left that died after it had put up this tombstone.
    let (Some(this), Some(left)) = tokio::try_join!(engine.inspect_container(container), engine.inspect_container(&holder))? else {
        return Ok(false);
    };
    if this.id == left.id || this.name != spec::job_name(id)?.as_str() {
        return Ok(false);
    }
    engine.remove_container(&ContainerRef::Id(left.id)).await?;
    engine.rename_container(container, &taken).await
}

/// Removes a claimed container, its volumes and its pass. What cannot be removed now is found by the sweep; the errors are returned.
pub(super) async fn remove(core: &Core, id: &JobId, container: &ContainerRef) -> Vec<String> {
    let engine = match core.engine().await {
        Ok(engine) => engine,
        Err(e) => return vec![e.chain()],
    };
    // The pass first: volumes without a container are restored unless the gateway says that their job was removed by our rules.
    core.gateway.revoke(&engine, &core.settings, id.as_str()).await;
    fault::point("remove.pass");
    let mut problems = Vec::new();
    let removed = match engine.remove_container(container).await {
        // Gone, or another process is at it, and until that one is through its volumes are in use.
        Ok(false) if !weaken::off("fault.other_removal") => wait_until_gone(&engine, container).await,
        Ok(_) => Ok(()),
        Err(e) => Err(e),
    };
    problems.extend(removed.err().map(|e| e.chain()));
    fault::point("remove.container");
    match spec::volume_names(id).and_then(|[workspace, own]| Ok([workspace, own, spec::word_name(id)?])) {
        Ok(names) => problems.extend(remove_volumes(core, &names).await),
        Err(e) => problems.push(e.chain()),
    }
    for problem in &problems {
        tracing::warn!(job_id = %id, problem, "left for the sweep");
    }
    problems
}

/// Waits for a removal that another process has asked for.
async fn wait_until_gone(engine: &Engine, container: &ContainerRef) -> Result<()> {
    let until = tokio::time::Instant::now() + PUT_UP_WITHIN;
    while engine.inspect_container(container).await?.is_some() && tokio::time::Instant::now() < until {
        tokio::time::sleep(PUT_UP_RETRY).await;
    }
    Ok(())
}

/// Removes volumes that no container holds any more; the errors.
async fn remove_volumes(core: &Core, names: &[ObjectName]) -> Vec<String> {
    let removals = names.iter().map(async |name| remove_volume(core, name).await.inspect(|_| fault::point("remove.volume")));
    futures_util::future::join_all(removals).await.into_iter().filter_map(|outcome| outcome.err().map(|e| e.chain())).collect()
}

/// Replaces a container that never started by a tombstone; `false`: somebody else took the job away first.
pub(super) async fn entomb(core: &Core, labels: &JobLabels, container: &ContainerRef, image_id: &str, ended: Ended) -> Result<bool> {
    let id = &labels.id;
    let labels = JobLabels { ended: Some(ended), ..labels.clone() };
    let engine = core.engine().await?;
    let late = weaken::off("fault.tombstone_first");
    if !late {
        make_tombstone(&engine, image_id, &labels).await?;
    }
    fault::point("bury.made");
    // The engine decides between this and a start that was asked for before: what has started is not said to have never run.
    let removal = engine.remove_unstarted(container).await?;
    fault::point("bury.claimed");
    if late {
        make_tombstone(&engine, image_id, &labels).await?;
    }
    if removal == Removal::Started {
        forget_tombstone(core, id).await?;
        return Ok(false);
    }
    put_up(&engine, id).await?;
    fault::point("bury.named");
    if removal == Removal::Removed {
        // Its pass is not revoked: that is said of jobs that are removed for good. Nobody holds it any more.
        for problem in remove_volumes(core, &spec::volume_names(id)?).await {
            tracing::warn!(job_id = %id, problem, "left for the sweep");
        }
    }
    Ok(removal == Removal::Removed)
}

async fn make_tombstone(engine: &Engine, image_id: &str, labels: &JobLabels) -> Result<()> {
    match super::create::container(engine, &spec::tombstone(image_id, labels)?).await {
        // Where one is there, another process buries it too, or died over that. What it had to say is as true.
        Err(e) if e.details.get("conflict") != Some(&true.into()) => Err(e),
        Ok(_) | Err(_) => Ok(()),
    }
}

/// Gives a tombstone the job's name. Of several each does this, because the one that took the job away may die before; and the name is free only
/// when the removal is through.
async fn put_up(engine: &Engine, id: &JobId) -> Result<()> {
    let (lying, own) = (ContainerRef::Name(spec::tombstone_name(id)?), spec::job_name(id)?);
    let until = tokio::time::Instant::now() + PUT_UP_WITHIN;
    while !engine.rename_container(&lying, &own).await? && engine.inspect_container(&lying).await?.is_some() && tokio::time::Instant::now() < until {
        tokio::time::sleep(PUT_UP_RETRY).await;
    }
    Ok(())
}

/// For a job that is not found: puts up the tombstone that another process left lying. Its facts, if there is one.
pub(super) async fn finish(core: &Core, id: &JobId) -> Result<Option<ContainerFacts>> {
    let engine = core.engine().await?;
    let (lying, own) = (spec::tombstone_name(id)?, spec::job_name(id)?);
    if let Some(facts) = engine.inspect_container(&ContainerRef::Name(lying)).await? {
        engine.rename_container(&ContainerRef::Id(facts.id), &own).await?;
    }
    // Without one, too: another process may have put it up between the two looks.
    engine.inspect_container(&ContainerRef::Name(own)).await
}

/// The same for all of a list: puts up those whose jobs are gone, and removes old ones beside a job that lives.
pub(super) async fn finish_all(core: &Core, rows: &mut [ContainerFacts]) -> Result<()> {
    let lying = |row: &ContainerFacts| JobLabels::parse(&row.labels).filter(|labels| row.name == format!("anchorhold-{}-tombstone", labels.id));
    if !rows.iter().any(|row| row.name.ends_with("-tombstone")) {
        return Ok(());
    }
    let names: std::collections::HashSet<String> = rows.iter().map(|row| row.name.clone()).collect();
    let engine = core.engine().await?;
    for row in rows.iter_mut() {
        let Some(labels) = lying(row) else { continue };
        let own = spec::job_name(&labels.id)?;
        let container = ContainerRef::Id(row.id.clone());
        if !names.contains(own.as_str()) {
            if engine.rename_container(&container, &own).await? {
                own.as_str().clone_into(&mut row.name);
            }
        } else if labels.ended.is_some_and(|ended| core.now_ms() > ended.at_ms.saturating_add(LYING_MS)) {
            engine.remove_container(&container).await?;
            forget_word(&engine, &labels.id).await?;
        }
    }
    Ok(())
}

/// Before a job is taken away for good: no tombstone may be left that would speak of it again.
pub(super) async fn forget_tombstone(core: &Core, id: &JobId) -> Result<()> {
    let engine = core.engine().await?;
    if engine.remove_container(&ContainerRef::Name(spec::tombstone_name(id)?)).await? {
        forget_word(&engine, id).await?;
    }
    Ok(())
}

/// Removes the word of a tombstone, unless another one holds it.
async fn forget_word(engine: &Engine, id: &JobId) -> Result<()> {
    match engine.remove_volume(&spec::word_name(id)?).await {
        Err(e) if e.details.get("in_use") != Some(&true.into()) => Err(e),
        Ok(_) | Err(_) => Ok(()),
    }
}

/// A delivery failed: says so, and leaves nothing of it behind. An engine that went away is waited for, because nobody else knows of the failure.
pub(super) async fn failed_delivery(core: &Core, labels: &JobLabels, container: &ContainerRef, image_id: &str, error: &Error) {
    let hint = error.hint.as_deref().map(|hint| format!(" To mend it: {hint}.")).unwrap_or_default();
    let ended = Ended {
        reason: Reason::Failed,
        code: error.code,
        detail: format!("It could not be delivered and never ran: {}.{hint}", error.chain()),
        at_ms: core.now_ms(),
    };
    let mut absence = Absence::new(core.settings.engine.away_seconds);
    while let Err(e) = say_it_failed(core, labels, container, image_id, ended.clone()).await {
        if let Err(e) = absence.wait(e).await {
            tracing::warn!(job_id = %labels.id, error = e.chain(), "could not leave word of a failed delivery");
            return;
        }
    }
}

/// Where somebody removed the container meanwhile, that is how it ended: by a tombstone of whoever cancelled it, which then has the job's name, or from outside.
async fn say_it_failed(core: &Core, labels: &JobLabels, container: &ContainerRef, image_id: &str, mut ended: Ended) -> Result<()> {
    let engine = core.engine().await?;
    if is_removed(&engine, container).await? {
        // A word that another process left of it stands, with its tombstone or without.
        if finish(core, &labels.id).await?.is_some() {
            return Ok(());
        }
        let revoke = async || core.gateway.revoke(&engine, &core.settings, labels.id.as_str()).await;
        let (of_it, word) = ([(super::labels::JOB, labels.id.as_str())], spec::word_name(&labels.id)?);
        let mut left = engine.list_volumes(&of_it).await?;
        if left.iter().any(|(name, _)| *name == word) {
            // It stands without its tombstone; or somebody consumes the job just now.
            tokio::time::sleep(SETTLE).await;
            left = engine.list_volumes(&of_it).await?;
            if left.iter().any(|(name, _)| *name == word) {
                return Ok(());
            }
        }
        if left.is_empty() {
            // Consumed. Whoever did it may have revoked the pass before it was given.
            revoke().await;
            return Ok(());
        }
        if weaken::off("fault.word_first") {
            revoke().await;
        }
        fault::point("bury.undelivered");
        ended.reason = Reason::Interrupted;
        ended.code = Code::JobLost;
        REMOVED_FIRST.clone_into(&mut ended.detail);
    }
    entomb(core, labels, container, image_id, ended).await.map(drop)
}

/// Whether the container is gone, or going: an engine that has begun to remove one no longer starts it, and shows it for a moment longer.
async fn is_removed(engine: &Engine, container: &ContainerRef) -> Result<bool> {
    let until = tokio::time::Instant::now() + PUT_UP_WITHIN;
    loop {
        match engine.inspect_container(container).await? {
            None => return Ok(true),
            Some(facts) if !matches!(facts.state, ContainerState::Removing | ContainerState::Dead) => return Ok(false),
            Some(_) => {
                fault::point("bury.marked");
                if weaken::off("fault.marked") {
                    return Ok(false);
                }
                if tokio::time::Instant::now() >= until {
                    return Ok(true);
                }
                tokio::time::sleep(PUT_UP_RETRY).await;
            }
        }
    }
}

/// Ends a job that has not started yet; `false`: it has changed meanwhile.
pub(super) async fn cancelled_before_start(core: &Core, labels: &JobLabels, container: &ContainerRef, image_id: &str) -> Result<bool> {
    let ended = Ended {
        reason: Reason::Cancelled,
        code: Code::JobCancelled,
        detail: "It was cancelled before it started; nothing has run.".to_owned(),
        at_ms: core.now_ms(),
    };
    entomb(core, labels, container, image_id, ended).await
}

/// Removes a volume by name where no container holds it.
pub(super) async fn remove_volume(core: &Core, name: &ObjectName) -> Result<bool> {
    if weaken::off("fault.remove_volumes") {
        return Ok(false);
    }
    core.engine().await?.remove_volume(name).await
}
