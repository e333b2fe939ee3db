//! The second start of a container that died before it sealed, and the end of one that should long have ended.

use super::JobId;
use super::service::Core;
use super::status::{self, Observed};
use crate::error::Result;

/// How long a second start may take to seal: it walks the whole workspace.
const SEAL_WITHIN: std::time::Duration = std::time::Duration::from_secs(180);

/// Starts it again, only to seal, until it is sealed or lost; returns where it stands then.
///
/// How often that was tried is not written down anywhere: each process tries [`MAX_SEAL_ATTEMPTS`](super::state::MAX_SEAL_ATTEMPTS) times
/// before it calls the job lost, so they all come to the same answer.
pub(super) async fn seal_again(core: &Core, mut seen: Observed) -> Result<Observed> {
    while seen.derived.needs_seal {
        seen = seal_once(core, &seen.found.labels.id).await?;
    }
    Ok(seen)
}

async fn seal_once(core: &Core, id: &JobId) -> Result<Observed> {
    // One of this process at a time; another process that does the same finds it running, which is fine.
    let turn = core.seal_turn(id);
    let _alone = turn.lock().await;
    let now = status::observe(core, id).await?.ok_or_else(super::id::not_found)?;
    if !now.derived.needs_seal {
        return Ok(now);
    }
    let container = now.found.container();
    tracing::info!(job = %id, exit_code = now.found.facts.exit_code, "it died unsealed: starting it again to seal");
    let engine = core.engine().await?;
    engine.start_container(&container).await?;
    let ended = tokio::time::timeout(SEAL_WITHIN, engine.wait_container(&container)).await;
    match ended {
        Ok(code) => tracing::debug!(job = %id, code = code?, "started again"),
        // It goes on, and whoever asks next finds it running.
        Err(_) => tracing::warn!(job = %id, "sealing takes long"),
    }
    let after = status::observe(core, id).await?.ok_or_else(super::id::not_found)?;
    if after.derived.needs_seal {
        core.count_seal_attempt(id);
        return status::observe(core, id).await?.ok_or_else(super::id::not_found);
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
