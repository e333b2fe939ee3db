//! A job's container, made once although the engine's answer may get lost.

use crate::engine::{ContainerId, ContainerRef, ContainerSpec, Engine, outcome_unknown};
use crate::error::Result;

/// Creates a container whose labels nobody else gives.
///
/// Where the answer was lost, what was made is looked for by its name, removed, and made again: what the engine warned of is in that answer, and a cell
/// that is weaker than asked must not pass for whole. It was never started, and its volumes, empty still, are used by the second one. Of two lost answers in
/// a row the error is given back; what may be left then carries the job's labels, and the sweep finds it.
pub(super) async fn container(engine: &Engine, spec: &ContainerSpec) -> Result<(ContainerId, Vec<String>)> {
    let lost = match engine.create_container(spec).await {
        Err(e) if outcome_unknown(&e) => e,
        done => return done,
    };
    tracing::debug!(name = spec.name.as_str(), "the answer to a create was lost");
    if remove_own(engine, spec).await.is_err() {
        return Err(lost);
    }
    let made = engine.create_container(spec).await;
    if made.as_ref().is_err_and(outcome_unknown)
        && let Err(e) = remove_own(engine, spec).await
    {
        tracing::debug!(error = e.chain(), "what may have been made is left for the sweep");
    }
    made
}

/// Removes the container of this name if it is of this very specification.
async fn remove_own(engine: &Engine, spec: &ContainerSpec) -> Result<()> {
    let Some(facts) = engine.inspect_container(&ContainerRef::Name(spec.name.clone())).await? else { return Ok(()) };
    // The image's own labels are there, too.
    if spec.labels.iter().all(|(name, value)| facts.labels.get(name) == Some(value)) {
        engine.remove_container(&ContainerRef::Id(facts.id)).await?;
    }
    Ok(())
}
