//! The second start of a container that died before it sealed, and the end of one that should long have ended.

use super::collect::SEAL_WITHIN;
use super::service::Core;
use super::status::{self, Observed};
use crate::error::Result;

/// Starts it again, only to seal, and waits for that; returns where it stands then.
pub(super) async fn seal_again(core: &Core, seen: Observed) -> Result<Observed> {
    let id = seen.found.labels.id.clone();
    // One of this process at a time; another process that does the same finds it running, which is fine.
    let turn = core.seal_turn(&id);
    let _alone = turn.lock().await;
    let now = status::observe(core, &id).await?.ok_or_else(super::id::not_found)?;
    if !now.derived.needs_seal {
        return Ok(now);
    }
    let container = now.found.container();
    tracing::info!(job = %id, exit_code = now.found.facts.exit_code, "it died unsealed: starting it again to seal");
    let engine = core.engine().await?;
    engine.start_container(&container).await?;
    let ended = tokio::time::timeout(SEAL_WITHIN, engine.wait_container(&container)).await;
    if let Ok(ended) = ended {
        ended?;
    }
    let after = status::observe(core, &id).await?.ok_or_else(super::id::not_found)?;
    if after.derived.needs_seal {
        core.count_seal_attempt(&id);
        return status::observe(core, &id).await?.ok_or_else(super::id::not_found);
    }
    Ok(after)
}

/// Kills a container that is past every limit: its own clock has failed.
pub(super) async fn kill_overdue(core: &Core, seen: &Observed) -> Result<()> {
    tracing::warn!(job = %seen.found.labels.id, "it runs past every limit: killing it");
    let engine = core.engine().await?;
    let container = seen.found.container();
    // A frozen process takes no signal, but the engine's kill ends it where the kernel lets it; thawing first always works.
    if seen.found.facts.state == crate::engine::ContainerState::Paused {
        engine.unpause_container(&container).await?;
    }
    engine.signal_container(&container, "SIGKILL").await.map(|_| ())
}
