//! A job's container, made once although the engine's answer may get lost.

use std::time::Duration;

use tokio::time::Instant;

use crate::engine::{ContainerId, ContainerRef, ContainerSpec, Engine, outcome_unknown};
use crate::error::{Error, Result};

/// How long an engine that is busy may hold a name for a container that it is still making.
const SETTLE_WITHIN: Duration = Duration::from_secs(60);
const RETRY_AFTER: Duration = Duration::from_millis(250);

/// Who has the name of a container that is to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Holder {
    /// A container of this very specification had it, and was removed.
    Ourselves,
    /// Nobody, as far as the engine shows.
    Nobody,
    /// A container that is none of ours.
    Another,
}

/// Creates a container whose labels nobody else gives.
///
/// Where the answer was lost, what was made is looked for by its name, removed, and made again: what the engine warned of is in that answer, and a cell
/// that is weaker than asked must not pass for whole. It was never started, and its volumes, empty still, are used by the second one. Of two lost answers in
/// a row the error is given back; what may be left then carries the job's labels, and the sweep finds it.
///
/// An engine that is slow may be at the first one still: it shows no container, and yet the name is taken. Then it is waited for.
pub(super) async fn container(engine: &Engine, spec: &ContainerSpec) -> Result<(ContainerId, Vec<String>)> {
    let lost = match engine.create_container(spec).await {
        Err(e) if outcome_unknown(&e) => e,
        done => return done,
    };
    tracing::debug!(name = spec.name.as_str(), "the answer to a create was lost");
    let until = Instant::now() + SETTLE_WITHIN;
    loop {
        let Ok(holder) = remove_own(engine, spec).await else { return Err(lost) };
        let made = engine.create_container(spec).await;
        match &made {
            Err(e) if is_conflict(e) && holder != Holder::Another && Instant::now() < until => tokio::time::sleep(RETRY_AFTER).await,
            Err(e) if outcome_unknown(e) => {
                if let Err(e) = remove_own(engine, spec).await {
                    tracing::debug!(error = e.chain(), "what may have been made is left for the sweep");
                }
                return made;
            }
            _ => return made,
        }
    }
}

fn is_conflict(error: &Error) -> bool {
    error.details.get("conflict") == Some(&true.into())
}

/// Removes the container of this name if it is of this very specification.
async fn remove_own(engine: &Engine, spec: &ContainerSpec) -> Result<Holder> {
    let Some(facts) = engine.inspect_container(&ContainerRef::Name(spec.name.clone())).await? else { return Ok(Holder::Nobody) };
    // The image's own labels are there, too.
    if spec.labels.iter().all(|(name, value)| facts.labels.get(name) == Some(value)) {
        engine.remove_container(&ContainerRef::Id(facts.id)).await?;
        return Ok(Holder::Ourselves);
    }
    Ok(Holder::Another)
}
