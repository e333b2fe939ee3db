//! From sealed changes to a checked patch.
//!
//! The patch is made here, from base bytes that the manifest vouches for and new bytes of the seal, in a throw-away store that never saw the
//! job's git directory, attributes or configuration. Before anyone sees it, it is applied to the base and the tree that comes out is
//! compared with the new one. Should a form of the patch not stand that test (git's rename detection and text diffs have odd corners), the
//! next plainer one is tried: without renames, then all binary.

use std::collections::HashMap;

use super::diff::{self, Part, Record};
use super::risk;
use super::scan::Scanner;
use super::store::{Objects, Store, TreeFile};
use super::{ChangeStatus, FileChange, Risk, ShownPath};
use crate::error::{Code, Error, Result};
use crate::protocol::changes::{Change, Side, side_id};
use crate::protocol::manifest::{Manifest, Mode, ObjectFormat, ObjectId};
use crate::protocol::repo_path::{RepoPath, is_dot_gitmodules};
use crate::weaken;

pub use super::working_tree::{applies, apply};

/// `git apply` takes no patch larger than this (`MAX_APPLY_SIZE`).
const MAX_PATCH: usize = 1023 << 20;
/// Renames with an edit are looked for among at most this many files a side; exact renames always are.
const RENAME_LIMIT: &str = "-l400";

/// Room in the store that a proof takes whatever the patch.
const PROOF_LEAST: u64 = 64 << 10;
/// Room that each changed path takes beside its content: an object's directory and its last block, trees, an entry of the index and its copy.
const PROOF_EACH: u64 = 16 << 10;

/// A checked patch.
#[derive(Debug)]
pub struct Collected {
    /// `git diff --binary --full-index -M`; `None` when nothing changed.
    pub patch: Option<Vec<u8>>,
    /// One entry a changed file, in patch order.
    pub files: Vec<FileChange>,
    /// What a reviewer must look at.
    pub risk: Risk,
    /// Changes that no patch may carry, and why.
    pub left_out: Vec<Dropped>,
}

/// A change that no patch may carry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dropped {
    /// Which.
    pub path: RepoPath,
    /// One of [`crate::protocol::result::KINDS`].
    pub kind: &'static str,
    /// `beneath_submodule`, `gitmodules_symlink`.
    pub why: &'static str,
}

/// Verifies every base against the manifest, makes the patch, applies it to the base and compares with the new tree. Blocking.
///
/// Errors: `job_failed` where the sealed changes contradict the manifest or themselves; `internal_error` where no patch stands the test.
pub fn collect(manifest: &Manifest, changes: &[Change]) -> Result<Collected> {
    let mut left_out = Vec::new();
    let changes = accepted(manifest, changes, &mut left_out)?;
    if changes.is_empty() {
        return Ok(Collected { patch: None, files: Vec::new(), risk: Risk::default(), left_out });
    }
    let sides = Sides::new(manifest.format, &changes)?;
    let mut failed = None;
    for form in [Form::Renames, Form::NoRenames, Form::Binary] {
        // Content may be made for git's comparison to take for ever; a plainer form does not compare.
        let output = match sides.diff(form) {
            Ok(output) => output,
            Err(e) => {
                failed = Some(e);
                continue;
            }
        };
        let (records, patch) = diff::records(&output).ok_or_else(|| Error::internal("make the patch: git's answer is not understood"))?;
        if patch.len() > MAX_PATCH {
            return Err(Error::new(Code::JobFailed, "make the patch: it is over 1 GiB, more than git applies").with_detail("bytes", patch.len()));
        }
        let mut scanner = Scanner::new(records.len());
        let parts = diff::parts(patch, &records, &mut |at, line| scanner.line(at, line));
        let Some(parts) = parts else { continue };
        match sides.proves(patch) {
            Ok(true) => {}
            // No room for the store is no word on the patch, and a plainer form would find none either.
            Err(e) if e.code == Code::SetupFailed => return Err(e),
            Ok(false) | Err(_) => continue,
        }
        let new_sides: HashMap<&[u8], &Side> = changes.iter().filter_map(|c| Some((c.path.as_bytes(), c.new.as_ref()?))).collect();
        let files: Vec<FileChange> =
            records.iter().zip(&parts).map(|(record, part)| file_change(record, part, new_sides.get(record.path.as_slice()).copied())).collect();
        let risk = risk::assess(&records, &files, &scanner, &new_sides, manifest);
        return Ok(Collected { patch: Some(patch.to_vec()), files, risk, left_out });
    }
    // git does not always say that it found no room.
    sides.store.has_room(sides.proof_bytes)?;
    if let Some(e) = failed {
        return Err(e);
    }
    Err(Error::internal("make the patch: applied to the base it does not give the new tree")
        .with_hint("the sealed changes are still there: please report this, and fetch the files from the result until it is mended"))
}

fn contradiction(what: &str) -> Error {
    Error::new(Code::JobFailed, format!("verify the sealed changes: {what}"))
        .with_hint("the seal cannot be trusted, so no patch is made from it; consume the job and delegate again")
}

/// Checks every change against the manifest and the others; drops those that no patch may carry.
fn accepted<'a>(manifest: &Manifest, changes: &'a [Change], left_out: &mut Vec<Dropped>) -> Result<Vec<&'a Change>> {
    if !changes.is_sorted_by(|a, b| a.path < b.path) {
        return Err(contradiction("paths are out of order"));
    }
    let find = |path: &[u8]| changes.binary_search_by(|c| c.path.as_bytes().cmp(path)).ok().and_then(|at| changes.get(at));
    let mut kept = Vec::with_capacity(changes.len());
    // Directories of the path before that were found good: paths ascend, so each directory is looked at once.
    let (mut before, mut good): (&[u8], Vec<usize>) = (b"", Vec::new());
    for change in changes.iter().filter(|c| c.base != c.new) {
        let path = change.path.as_bytes();
        let kind = if change.new.as_ref().or(change.base.as_ref()).is_some_and(|side| side.mode == Mode::Symlink) { "symlink" } else { "file" };
        let mut drop = |why| left_out.push(Dropped { path: change.path.clone(), kind, why });
        match (manifest.find(path), &change.base) {
            (Some(entry), _) if entry.mode == Mode::Submodule => {
                drop("beneath_submodule");
                continue;
            }
            (Some(entry), Some(base)) if entry.mode == base.mode && entry.id == side_id(base, manifest.format) => {}
            (None, None) => {}
            _ if weaken::off("collect.base_check") => {}
            _ => return Err(contradiction("the base of a path is not what was delivered")),
        }
        let Some(new) = &change.new else {
            kept.push(change);
            continue;
        };
        // The reader of the sealed changes refuses it, too: one rule in two places.
        if new.mode == Mode::Submodule && !weaken::off("collect.types") {
            return Err(contradiction("a submodule has no content"));
        }
        // Nothing may stay above the new path, nor beneath it.
        let mut refused = None;
        let common = before.iter().zip(path).take_while(|(a, b)| a == b).count();
        while good.pop_if(|len| *len >= common).is_some() {}
        before = path;
        for above in super::snapshot::ancestors(path) {
            if good.last().is_some_and(|len| above.len() <= *len) {
                continue;
            }
            good.push(above.len());
            let gone = || find(above).is_some_and(|c| c.new.is_none());
            match manifest.find(above) {
                Some(entry) if entry.mode == Mode::Submodule => {
                    refused = Some("beneath_submodule");
                    good.clear();
                    break;
                }
                Some(_) if gone() => {}
                None if find(above).is_none() => {}
                _ => return Err(contradiction("a path lies beneath a file")),
            }
        }
        let prefix = [path, b"/"].concat();
        let from = manifest.entries.partition_point(|e| e.path.as_bytes() < prefix.as_slice());
        for entry in manifest.entries.get(from..).unwrap_or_default().iter().take_while(|e| e.path.as_bytes().starts_with(&prefix)) {
            if entry.mode == Mode::Submodule {
                refused = Some("beneath_submodule");
            } else if find(entry.path.as_bytes()).is_none_or(|c| c.new.is_some()) {
                return Err(contradiction("a path lies beneath a file"));
            }
        }
        if new.mode == Mode::Symlink && is_dot_gitmodules(change.path.file_name()) {
            refused = Some("gitmodules_symlink");
        }
        match refused {
            Some(why) => drop(why),
            None => kept.push(change),
        }
    }
    Ok(kept)
}

/// In which form the patch is made, best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// With renames.
    Renames,
    /// A rename is a deletion and a creation.
    NoRenames,
    /// And all content is binary.
    Binary,
}

/// Both trees in a store; they hold only the touched paths.
pub(super) struct Sides<'a> {
    store: Store,
    format: ObjectFormat,
    base_files: Vec<TreeFile<'a>>,
    base: ObjectId,
    new: ObjectId,
    /// What git may write into the store while it proves a patch, in bytes; rather more.
    proof_bytes: u64,
}

impl<'a> Sides<'a> {
    /// From changes in ascending order of their paths.
    pub(super) fn new(format: ObjectFormat, changes: &[&'a Change]) -> Result<Self> {
        let mut objects = Objects::new(format);
        let (mut base_files, mut new_files) = (Vec::new(), Vec::new());
        let mut proof_bytes = PROOF_LEAST;
        for change in changes {
            let new = change.new.as_ref().map_or(0, |side| side.bytes.len() as u64);
            proof_bytes = proof_bytes.saturating_add(new).saturating_add(PROOF_EACH);
            for (side, files) in [(&change.base, &mut base_files), (&change.new, &mut new_files)] {
                if let Some(side) = side {
                    let id = side_id(side, format);
                    objects.blob(id, &side.bytes);
                    files.push(TreeFile { path: &change.path, mode: side.mode, id });
                }
            }
        }
        let (base, new) = (objects.tree(&base_files), objects.tree(&new_files));
        Ok(Self { store: Store::new(&objects)?, format, base_files, base, new, proof_bytes })
    }

    /// `git diff-tree` from the base to the new tree: records, then the patch.
    pub(super) fn diff(&self, form: Form) -> Result<Vec<u8>> {
        if form == Form::Binary {
            self.store.all_binary()?;
        }
        let mut command = self.store.git();
        command.args(["diff-tree", "-r", "-z", "--raw", "-p", "--binary", "--full-index", "--no-ext-diff", "--no-textconv", "--no-color"]);
        command.args(["--src-prefix=a/", "--dst-prefix=b/", "--submodule=short", "--no-indent-heuristic", "--diff-algorithm=myers", "-U3"]);
        command.args(if form == Form::Renames { ["-M", RENAME_LIMIT].as_slice() } else { ["--no-renames"].as_slice() });
        command.args([self.base.to_hex(), self.new.to_hex()]);
        super::run::run_ok(command, None, "make the patch", Code::Internal)
    }

    /// Whether the patch, applied to the base, gives the new tree.
    fn proves(&self, patch: &[u8]) -> Result<bool> {
        self.store.write_index(self.format, &self.base_files)?;
        let mut command = self.store.git();
        command.args(["apply", "--cached", "--whitespace=nowarn", "-p1", "-"]);
        if !super::run::run(command, Some(patch), "check the patch")?.status.success() {
            return Ok(false);
        }
        let mut command = self.store.git();
        command.arg("write-tree");
        let tree = super::run::run(command, None, "check the patch")?;
        Ok(tree.stdout.trim_ascii() == self.new.to_hex().as_bytes())
    }
}

fn file_change(record: &Record, part: &Part, new: Option<&Side>) -> FileChange {
    let status = match record.status {
        b'A' => ChangeStatus::Added,
        b'D' => ChangeStatus::Deleted,
        b'R' => ChangeStatus::Renamed,
        b'T' => ChangeStatus::TypeChanged,
        _ if record.same_content => ChangeStatus::ModeChanged,
        _ => ChangeStatus::Modified,
    };
    FileChange {
        path: ShownPath::new(&record.path),
        old_path: record.old_path.as_deref().map(ShownPath::new),
        status,
        old_mode: record.old_mode.map(|m| m.as_str().to_owned()),
        new_mode: record.new_mode.map(|m| m.as_str().to_owned()),
        additions: (!part.binary).then_some(part.added),
        deletions: (!part.binary).then_some(part.removed),
        binary: part.binary,
        new_bytes: new.map(|side| side.bytes.len() as u64),
        patch_offset: part.offset as u64,
        patch_bytes: part.len as u64,
    }
}
