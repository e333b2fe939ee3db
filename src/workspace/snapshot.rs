//! From the user's tree to frames and a manifest.

use std::io;
use std::path::Path;

use super::SnapshotSummary;
use crate::config::WorkspaceSettings;
use crate::error::{Error, Result};
use crate::protocol::repo_path::RepoPath;

/// A checked list of what will be sent; no content has been read yet.
pub struct Plan {}

/// What [`pack`] leaves behind.
pub struct Packed {
    /// The manifest document.
    pub manifest: Vec<u8>,
    /// Its SHA-256, hex.
    pub manifest_sha256: String,
    /// What was sent, complete.
    pub summary: SnapshotSummary,
}

/// Finds the repository, lists and checks what will be sent. Blocking; about as long as `git status`.
pub fn plan(_workspace_root: &Path, _caps: &WorkspaceSettings) -> Result<Plan> {
    Err(Error::internal("not built"))
}

impl Plan {
    /// Top of the working tree.
    pub fn root(&self) -> &Path {
        Path::new("/")
    }
    /// Where the caller's directory lies below the top.
    pub fn subdirectory(&self) -> Option<&RepoPath> {
        None
    }
    /// Subject line of HEAD.
    pub fn head_subject(&self) -> Option<&str> {
        None
    }
    /// HEAD, branch, dirty flag, counts; `files` and `bytes` are those planned.
    pub fn summary(&self) -> &SnapshotSummary {
        unreachable_summary()
    }
}

/// Reads, hashes and compresses; gives `sink` each frame (index, zstd file) in order, as soon as it is ready. Blocking, uses threads.
pub fn pack(_plan: Plan, _sink: &mut dyn FnMut(u32, Vec<u8>) -> io::Result<()>) -> Result<Packed> {
    Err(Error::internal("not built"))
}

fn unreachable_summary() -> &'static SnapshotSummary {
    static EMPTY: std::sync::OnceLock<SnapshotSummary> = std::sync::OnceLock::new();
    EMPTY.get_or_init(SnapshotSummary::default)
}
