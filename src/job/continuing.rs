//! A job that goes on with another: what it has in place of a snapshot, and the difference to the other's end.
//!
//! The cell is delivered as the one before was, frame by frame out of that one's container, and then that job's changes, which were checked here and
//! are written anew, and its conversation, whose bytes nobody looks at. So the new job has the old one's base, its patch is against that base, and it
//! needs nothing of the old job once it is delivered. Nothing is unpacked here and no volume is shared: the two never see each other.

use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::deliver::sha256_hex;
use super::labels::JobLabels;
use super::service::Core;
use super::{JobId, JobResult, JobState, collect, delivered, download, status};
use crate::engine::ContainerRef;
use crate::error::{Code, Error, Result};
use crate::protocol::changes::{self, ChangesCaps};
use crate::protocol::manifest::{Frame, Manifest, ManifestCaps};
use crate::protocol::paths;
use crate::protocol::request::is_conversation;
use crate::workspace::{Collected, SnapshotSummary};
use crate::{fault, weaken};

/// Frames that are held at once, on their way from one container to the other.
const FRAMES_IN_FLIGHT: usize = 2;

/// What goes into the new cell.
pub(super) struct Kept {
    /// Facts of the job that is gone on with.
    pub labels: JobLabels,
    /// The manifest, as it was delivered.
    pub manifest: Bytes,
    /// Its SHA-256, hex.
    pub manifest_sha256: String,
    /// What the snapshot said about itself.
    pub summary: SnapshotSummary,
    /// The changes, as a document of ours.
    pub previous: Bytes,
    /// Its SHA-256, hex; a label of the new job, which the job cannot change.
    pub previous_sha256: String,
    /// The conversation, as it was kept.
    pub session: Bytes,
    /// Its id.
    pub conversation: String,
    container: ContainerRef,
    frames: Vec<Frame>,
}

fn impossible(why: &str) -> Error {
    Error::new(Code::Unsupported, format!("go on with the job: {why}")).with_hint("start a new job")
}

/// Looks at the job, and takes of it what is small. `workspace` is the directory that the caller names: a job of another one is not found.
pub(super) async fn find(core: &Core, before: &JobId, workspace: &Path) -> Result<Kept> {
    let seen = status::observe(core, before).await?.ok_or_else(super::id::not_found)?;
    let labels = seen.found.labels;
    if labels.workspace != workspace && !weaken::off("continue.workspace") {
        return Err(super::id::not_found());
    }
    if !labels.kind.makes_patch() {
        return Err(impossible("it is a question or a review, which leaves no work behind"));
    }
    if labels.version != env!("CARGO_PKG_VERSION") {
        return Err(impossible("another version of Anchorhold made it").with_detail("version", labels.version));
    }
    let harvest = match collect::collect(core, before).await {
        Err(e) if e.details.contains_key("never_ran") => return Err(impossible("it never ran").with_source(e)),
        Err(e) if e.code == Code::JobRunning => return Err(e.with_detail("job_id", before.as_str())),
        harvest => harvest?,
    };
    let JobResult { status, sealed, changes, snapshot, manifest_verified, .. } = harvest.result;
    let sealed = match sealed {
        Some(sealed) => sealed,
        None if status.state == JobState::Lost => {
            return Err(Error::new(Code::JobLost, "go on with the job: nothing is left of its workspace").with_hint("start a new job"));
        }
        None => return Err(impossible("it never ran")),
    };
    if !sealed.seal.complete {
        return Err(impossible("its working tree could not be sealed whole, so what it left is not known"));
    }
    let Some(conversation) = sealed.codex.thread_id.filter(|id| is_conversation(id)) else {
        return Err(impossible("it ended before Codex had begun a conversation"));
    };
    if !manifest_verified {
        return Err(Error::new(Code::GatewayUnavailable, "go on with the job: the gateway does not know it, or cannot be asked")
            .with_hint("`anchorhold doctor` says how the gateway is; if it was made anew, start a new job"));
    }
    let container = harvest.seen.found.container();
    let (facts, session) =
        tokio::join!(collect::find_facts(core, before, &container), download::file(core, &container, paths::SESSION_FILE, paths::MAX_SESSION));
    let (Some(mut facts), Some(session)) = (facts?, session?) else {
        return Err(gone(core, before, impossible("its conversation was not kept, because there was no room or it was too long")).await);
    };
    if facts.manifest_sha256 != sealed.manifest_sha256 {
        return Err(Error::new(Code::JobFailed, "go on with the job: the manifest is not the one that was delivered").with_hint("start a new job"));
    }
    let read = core.tasks.spawn_blocking(move || -> std::io::Result<_> {
        let mut manifest = Vec::new();
        facts.manifest.read_to_end(&mut manifest)?;
        let frames = Manifest::read(manifest.as_slice(), ManifestCaps::default())?.frames;
        let mut conversation = Vec::new();
        session.into_reader()?.read_to_end(&mut conversation)?;
        Ok((manifest, facts.manifest_sha256, frames, changes::write(&changes)?, conversation))
    });
    let read = read.await.map_err(|e| Error::internal("go on with the job").with_source(e))?;
    let (manifest, manifest_sha256, frames, previous, session) =
        read.map_err(|e| Error::new(Code::JobFailed, "go on with the job: what it left cannot be read").with_source(e))?;
    Ok(Kept {
        labels,
        manifest: manifest.into(),
        manifest_sha256,
        summary: snapshot,
        previous_sha256: sha256_hex(&previous),
        previous: previous.into(),
        session: session.into(),
        conversation,
        container,
        frames,
    })
}

/// What went wrong, or that somebody has removed the job meanwhile, which explains it.
async fn gone(core: &Core, before: &JobId, other: Error) -> Error {
    match status::observe(core, before).await {
        Ok(None) => consumed(),
        _ => other,
    }
}

/// It was there when the new job began, and is not any more.
pub(super) fn consumed() -> Error {
    Error::new(Code::JobNotFound, "go on with the job: it was consumed or removed meanwhile").with_hint("start a new job")
}

impl Kept {
    /// The frames in their order, as they come out of the other container.
    pub(super) fn frames(&self, core: &Arc<Core>) -> mpsc::Receiver<Result<Bytes>> {
        let (sender, receiver) = mpsc::channel(FRAMES_IN_FLIGHT);
        let (core, container, frames, before) = (core.clone(), self.container.clone(), self.frames.clone(), self.labels.id.clone());
        let tasks = core.tasks.clone();
        tasks.spawn(async move {
            for (number, frame) in (0u32..).zip(frames) {
                fault::point("continue.frame");
                let taken = match take(&core, &container, number, &frame).await {
                    Err(e) => Err(gone(&core, &before, e).await),
                    taken => taken,
                };
                let failed = taken.is_err();
                // Nobody listens when the delivery was given up.
                if sender.send(taken).await.is_err() || failed {
                    return;
                }
            }
        });
        receiver
    }
}

async fn take(core: &Core, container: &ContainerRef, number: u32, frame: &Frame) -> Result<Bytes> {
    let mut piece = delivered::frame(core, container, number, frame).await?;
    let bytes = core.tasks.spawn_blocking(move || piece.bytes()).await.map_err(|e| Error::internal("read a frame").with_source(e))?;
    let bytes = bytes.map_err(|e| Error::internal("read a frame").with_source(e))?;
    if bytes.len() as u64 != frame.compressed {
        return Err(Error::new(Code::JobFailed, "go on with the job: a part of its files has another size").with_hint("start a new job"));
    }
    Ok(bytes.into())
}

/// The difference between the end of the job before and the end of this one, as a patch that was proven on that job's tree.
pub(super) async fn since_previous(core: &Core, result: &JobResult) -> Result<Collected> {
    let seen = status::observe(core, &result.status.job_id).await?.ok_or_else(super::id::not_found)?;
    let found = seen.found;
    let Some(expected) = found.labels.previous_sha256.clone() else {
        return Err(Error::new(Code::Unsupported, "compare with the job before: this one does not go on with another")
            .with_hint("leave --since-previous out"));
    };
    let damaged = || {
        Error::new(Code::JobFailed, "compare with the job before: its changes are not those that were delivered")
            .with_hint("the job was tampered with or damaged; `anchorhold diff` compares with the original base")
    };
    let mut document = download::file(core, &found.container(), paths::PREVIOUS, collect::MAX_CHANGES).await?.ok_or_else(damaged)?;
    if document.sha256 != expected && !weaken::off("continue.previous") {
        return Err(damaged());
    }
    let manifest = delivered::manifest(core, &found, result).await?;
    let now = result.changes.clone();
    let compared = core.tasks.spawn_blocking(move || {
        let reader = document.reader().map_err(|e| damaged().with_source(e))?;
        let before = changes::read(std::io::BufReader::new(reader), ChangesCaps::default()).map_err(|e| damaged().with_source(e))?;
        crate::workspace::between(&manifest, &before, &now)
    });
    compared.await.map_err(|e| Error::internal("compare with the job before").with_source(e))?
}
