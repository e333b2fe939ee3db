//! The second start of a container that died before it sealed, and the end of one that should long have ended.

use tracing::Instrument as _;

use super::JobId;
use super::restore;
use super::service::Core;
use super::status::{self, Observed};
use crate::engine::{ContainerState, UploadStream};
use crate::error::{Error, Result};
use crate::protocol::paths;
use crate::telemetry::step;
use crate::{fault, weaken};

/// How long a second start may take to seal: it walks the whole workspace.
const SEAL_WITHIN: std::time::Duration = std::time::Duration::from_secs(180);

/// Starts it again, only to seal, until it is sealed or lost; returns where it stands then.
///
/// How often that was tried is not written down anywhere: each process tries [`MAX_SEAL_ATTEMPTS`](super::state::MAX_SEAL_ATTEMPTS) times
/// before it calls the job lost, so they all come to the same answer.
pub(super) async fn seal_again(core: &Core, mut seen: Observed) -> Result<Observed> {
    while seen.derived.needs_seal && !weaken::off("fault.second_start") {
        let labels = &seen.found.labels;
        seen = seal_once(core, &labels.id).instrument(step!("seal", labels.id, labels.trace())).await?;
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
    tracing::info!(job_id = %id, exit_code = now.found.facts.exit_code, "it died unsealed: starting it again to seal");
    let engine = core.engine().await?;
    if now.found.facts.state == ContainerState::Created && !restore::may_start(core, &now).await? {
        return status::observe(core, id).await?.ok_or_else(super::id::not_found);
    }
    if now.found.facts.oom_killed {
        // Nothing runs in it, and only root of the container may write there. Without it the job is called interrupted, which is true as well.
        if let Err(e) = engine.upload(&container, paths::JOB_STATE, memory_note()?).await {
            tracing::warn!(job_id = %id, error = e.chain(), "could not leave word of the kill");
        }
    }
    fault::point("seal.before_start");
    engine.start_container(&container).await?;
    fault::point("seal.started");
    let ended = tokio::time::timeout(SEAL_WITHIN, engine.wait_container(&container)).await;
    match ended {
        Ok(code) => tracing::debug!(job_id = %id, code = code?, "started again"),
        // It goes on, and whoever asks next finds it running.
        Err(_) => tracing::warn!(job_id = %id, "sealing takes long"),
    }
    let after = status::observe(core, id).await?.ok_or_else(super::id::not_found)?;
    if after.derived.needs_seal {
        core.count_seal_attempt(id);
        return status::observe(core, id).await?.ok_or_else(super::id::not_found);
    }
    Ok(after)
}

/// A tar stream with one empty file.
fn memory_note() -> Result<UploadStream> {
    let failed = |e: std::io::Error| Error::internal("write a note").with_source(e);
    let mut tar = tar::Builder::new(Vec::new());
    let mut entry = |name: &str, kind, mode| {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_mtime(1);
        header.set_size(0);
        // `append_data` would drop the "./", which must come first so that no engine takes the stream for a compressed one.
        if let Some(field) = header.as_old_mut().name.get_mut(..name.len()) {
            field.copy_from_slice(name.as_bytes());
        }
        header.set_cksum();
        tar.append(&header, std::io::empty())
    };
    entry("./", tar::EntryType::Directory, 0o700).map_err(failed)?;
    entry(paths::KILLED_FOR_MEMORY, tar::EntryType::Regular, 0o600).map_err(failed)?;
    let stream = bytes::Bytes::from(tar.into_inner().map_err(failed)?);
    Ok(Box::pin(futures_util::stream::iter([Ok(stream)])))
}

/// Kills a container that is past every limit: its own clock has failed.
pub(super) async fn kill_overdue(core: &Core, seen: &Observed) -> Result<()> {
    tracing::warn!(job_id = %seen.found.labels.id, "it runs past every limit: killing it");
    let engine = core.engine().await?;
    let container = seen.found.container();
    // A frozen process takes no signal, but the engine's kill ends it where the kernel lets it; thawing first always works.
    if seen.found.facts.state == crate::engine::ContainerState::Paused {
        engine.unpause_container(&container).await?;
    }
    engine.signal_container(&container, "SIGKILL").await.map(|_| ())
}
