//! From sealed changes to a checked patch.

use std::path::Path;

use super::{Applies, FileChange, Risk};
use crate::error::{Error, Result};
use crate::protocol::changes::Change;
use crate::protocol::manifest::Manifest;

/// A checked patch.
pub struct Collected {
    /// `git diff --binary --full-index -M`; `None` when nothing changed.
    pub patch: Option<Vec<u8>>,
    /// One entry a changed file, in patch order.
    pub files: Vec<FileChange>,
    /// What a reviewer must look at.
    pub risk: Risk,
}

/// Verifies every base against the manifest, makes the patch, applies it to the base and compares with the new tree. Blocking.
pub fn collect(_manifest: &Manifest, _changes: &[Change]) -> Result<Collected> {
    Err(Error::internal("not built"))
}

/// Whether the changes apply to the tree as it is now; reads it, runs nothing. Blocking.
pub fn applies(_root: &Path, _changes: &[Change]) -> Result<Applies> {
    Err(Error::internal("not built"))
}

/// Applies the changes to the tree: all or nothing as far as a file system lets it. Blocking. [`crate::error::Code::ApplyConflict`] otherwise.
pub fn apply(_root: &Path, _changes: &[Change], _patch: &[u8]) -> Result<()> {
    Err(Error::internal("not built"))
}
