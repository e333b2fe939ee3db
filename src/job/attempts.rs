//! One snapshot for several jobs: planned once, packed once into an unnamed file, delivered as often as there are attempts. So all of them begin with
//! the same bytes, whatever is edited while they start.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use bytes::Bytes;

use super::check;
use super::service::Core;
use super::start::{self, Origin};
use super::{Begun, StartRequest, StartedJob};
use crate::error::{Code, Error, Result};
use crate::workspace::{PlanOptions, SnapshotSummary};

/// Most attempts at one task.
pub const MAX_ATTEMPTS: u8 = 8;

/// A packed snapshot.
pub(super) struct Packed {
    /// What the jobs take over from it.
    pub origin: Origin,
    /// The manifest.
    pub manifest: Bytes,
    /// Its SHA-256, hex.
    pub manifest_sha256: String,
    /// What the snapshot says about itself.
    pub summary: SnapshotSummary,
    /// Frames one after the other.
    file: File,
    /// Where each begins and how long it is.
    places: Vec<(u64, usize)>,
}

impl Packed {
    /// Reads the working tree. Blocking.
    fn new(core: &Core, request: &StartRequest) -> Result<Self> {
        let kept = |e: io::Error| {
            Error::new(Code::SetupFailed, "keep the snapshot for all attempts")
                .with_hint("see that TMPDIR names a writable directory with free space")
                .with_source(e)
        };
        let workspace = check::workspace(&core.settings.roots, &request.workspace_root)?;
        let options = PlanOptions { include_ignored: request.include_ignored };
        let plan = crate::workspace::plan_with(&workspace, &core.settings.roots.allow, &core.settings.workspace, options)?;
        let origin = Origin::of_plan(&plan);
        let mut file = tempfile::tempfile().map_err(kept)?;
        let (mut places, mut at) = (Vec::new(), 0u64);
        let packed = crate::workspace::pack(plan, &mut |_, frame| {
            file.write_all(&frame)?;
            places.push((at, frame.len()));
            at += frame.len() as u64;
            Ok(())
        })?;
        Ok(Self { origin, manifest: packed.manifest.into(), manifest_sha256: packed.manifest_sha256, summary: packed.summary, file, places })
    }

    /// The frames in their order, read when they are asked for.
    pub(super) fn frames(&self) -> impl Iterator<Item = io::Result<Bytes>> {
        self.places.iter().map(|(at, len)| {
            let mut frame = vec![0; *len];
            self.file.read_exact_at(&mut frame, *at)?;
            Ok(frame.into())
        })
    }
}

/// A snapshot that several jobs are started on; see [`super::Jobs::snapshot`].
#[derive(Clone)]
pub struct Snapshot(pub(super) Arc<Packed>);

/// Takes one.
pub(super) async fn snapshot(core: &Arc<Core>, request: StartRequest) -> Result<Snapshot> {
    let reading = core.clone();
    let packed = core.tasks.spawn_blocking(move || Packed::new(&reading, &request)).await;
    Ok(Snapshot(Arc::new(packed.map_err(|e| Error::internal("take the snapshot").with_source(e))??)))
}

/// Starts one of the jobs.
pub(super) async fn begin_on(core: Arc<Core>, request: StartRequest, snapshot: Snapshot) -> Result<StartedJob> {
    match start::begin(core, request, Some(snapshot.0)).await? {
        Begun::Job(started) => Ok(started),
        Begun::NothingToReview(_) => Err(Error::internal("start an attempt: it is no delegation")),
    }
}
