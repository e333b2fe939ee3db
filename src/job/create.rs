//! A job's container, made once although the engine's answer may get lost.

use std::time::{Duration, Instant};

use super::labels;
use crate::engine::{ContainerFacts, ContainerId, ContainerRef, ContainerSpec, Engine, outcome_unknown};
use crate::error::{Error, Result};

/// What an engine that is still at a creation whose answer we did not wait for is given to end it.
const STILL_AT_IT: Duration = Duration::from_secs(60);
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// Creates a container whose labels nobody else gives.
///
/// Where the answer was lost, what was made is looked for by its name, removed, and made again: what the engine warned of is in that answer, and a cell
/// that is weaker than asked must not pass for whole. It was never started, and its volumes, empty still, are used by the second one. An engine that is only
/// slow may hold the name of what nobody can look at yet; that is waited for. Of two lost answers in a row the error is given back. Whatever the error, the
/// volumes that the engine made before it failed are taken away: without a container they look like those of a job that somebody removed.
pub(super) async fn container(engine: &Engine, spec: &ContainerSpec) -> Result<(ContainerId, Vec<String>)> {
    let lost = match engine.create_container(spec).await {
        Err(e) if outcome_unknown(&e) => e,
        made => return or_nothing(engine, spec, made).await,
    };
    tracing::debug!(name = spec.name.as_str(), "the answer to a create was lost");
    let until = Instant::now() + STILL_AT_IT;
    loop {
        if remove_own(engine, spec).await.is_err() {
            return Err(lost);
        }
        match engine.create_container(spec).await {
            Err(e) if is_conflict(&e) && Instant::now() < until => match find(engine, spec).await {
                // Somebody else's.
                Ok(Some(facts)) if !is_own(&facts, spec) => return Err(e),
                _ => tokio::time::sleep(LOOK_AGAIN).await,
            },
            made => return or_nothing(engine, spec, made).await,
        }
    }
}

/// What was made; or the error, and nothing. An engine refuses a name that is taken before it makes anything.
async fn or_nothing<T>(engine: &Engine, spec: &ContainerSpec, made: Result<T>) -> Result<T> {
    if made.as_ref().is_err_and(|e| !is_conflict(e))
        && let Err(e) = forget(engine, spec).await
    {
        tracing::debug!(error = e.chain(), "what may have been made is left for the sweep");
    }
    made
}

fn is_conflict(e: &Error) -> bool {
    e.details.get("conflict") == Some(&true.into())
}

async fn find(engine: &Engine, spec: &ContainerSpec) -> Result<Option<ContainerFacts>> {
    engine.inspect_container(&ContainerRef::Name(spec.name.clone())).await
}

/// Whether it is of this very specification; the image's own labels are there, too.
fn is_own(facts: &ContainerFacts, spec: &ContainerSpec) -> bool {
    spec.labels.iter().all(|(name, value)| facts.labels.get(name) == Some(value))
}

/// Removes the container of this name if it is of this very specification.
async fn remove_own(engine: &Engine, spec: &ContainerSpec) -> Result<()> {
    if let Some(facts) = find(engine, spec).await?
        && is_own(&facts, spec)
    {
        engine.remove_container(&ContainerRef::Id(facts.id)).await?;
    }
    Ok(())
}

/// Removes the container, and the job's own volumes.
async fn forget(engine: &Engine, spec: &ContainerSpec) -> Result<()> {
    remove_own(engine, spec).await?;
    for own in spec.volumes.iter().filter(|volume| volume.labels.contains_key(labels::JOB)) {
        engine.remove_volume(&own.volume).await?;
    }
    Ok(())
}
