//! What will be sent: names from the index, facts from the working tree, no content yet.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::Instant;

use rustix::fs::FileType;
use rustix::io::Errno;

use super::beneath::{self, Cursor, Root};
use super::listing::{self, Extra, Listed};
use super::names::Name;
use super::repo::{self, Repository};
use super::send::Origin;
use super::shadow::Shadow;
use super::{LeftOut, ShownPath, SnapshotSummary, untracked};
use crate::config::WorkspaceSettings;
use crate::error::{Code, Error, Result};
use crate::protocol::manifest::{Mode, ObjectFormat, ObjectId};
use crate::protocol::repo_path::RepoPath;
use crate::weaken;

pub use super::pack::{Packed, pack};

/// How many paths a list of the summary holds; the counts beside them are complete.
const SHOWN: usize = 200;

/// A checked list of what will be sent; no content has been read yet.
pub struct Plan {
    repository: Repository,
    pub(super) root: Root,
    subdirectory: Option<RepoPath>,
    head_subject: Option<String>,
    pub(super) summary: SnapshotSummary,
    pub(super) format: ObjectFormat,
    pub(super) file_mode: bool,
    pub(super) caps: WorkspaceSettings,
    /// Where bytes of commits come from, for entries that have such an origin.
    pub(super) shadow: Shadow,
    /// Strictly ascending by path bytes; no entry lies beneath another.
    pub(super) entries: Vec<Planned>,
}

/// One entry that will be sent.
#[derive(Debug, Clone)]
pub(super) struct Planned {
    pub(super) path: RepoPath,
    /// What the index says, and the disk decides when it is read; what the tree says for bytes of a commit.
    pub(super) mode: Mode,
    /// The commit of a submodule; the blob for bytes of a commit.
    pub(super) id: ObjectId,
    /// As it was when the plan was made; 0 for a submodule.
    pub(super) size: u64,
    pub(super) origin: Origin,
}

/// What no commit holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Uncommitted {
    /// Tracked files that differ from HEAD; `None`: an object that is needed to tell is not there (partial clone).
    pub tracked: Option<u64>,
    /// Untracked files that no rule ignores; a repository of its own counts as one.
    pub untracked: u64,
}

/// What else than the tracked files is sent.
#[derive(Debug, Clone, Copy, Default)]
pub struct PlanOptions {
    /// Also the untracked and ignored files that the patterns in `.worktreeinclude` at the top match.
    pub include_ignored: bool,
}

/// Finds the repository, lists and checks what will be sent. Blocking; about as long as `git status`.
///
/// Errors: `invalid_workspace_root`, `not_a_git_repo`, `unsafe_repository`, `worktree_error`, `workspace_too_large`, `git_unavailable`.
pub fn plan(workspace_root: &Path, caps: &WorkspaceSettings) -> Result<Plan> {
    plan_within(workspace_root, &[], caps)
}

/// Like [`plan`]; every part of the repository must lie beneath one of the roots, where there are any: its top, its git directory, its
/// objects. `workspace_outside_roots` otherwise.
pub fn plan_within(workspace_root: &Path, roots: &[PathBuf], caps: &WorkspaceSettings) -> Result<Plan> {
    plan_with(workspace_root, roots, caps, PlanOptions::default())
}

/// Like [`plan_within`], with more than the tracked files.
pub fn plan_with(workspace_root: &Path, roots: &[PathBuf], caps: &WorkspaceSettings, options: PlanOptions) -> Result<Plan> {
    let start = Instant::now();
    let mut opened = Opened::new(workspace_root, roots, caps)?;
    if opened.shadow.head.unborn {
        return Err(Error::new(Code::WorktreeError, "read HEAD: there is no commit yet")
            .with_hint("commit something first: `git add -A && git commit -m start`"));
    }
    let extra = if options.include_ignored { untracked::included(&opened.shadow, &opened.repository, &opened.root, caps)? } else { Vec::new() };
    let Opened { repository, shadow, root, summary, .. } = &mut opened;
    let (entries, commit, dirty) = std::thread::scope(|scope| {
        let dirty = scope.spawn(|| shadow.dirty(&repository.top));
        let commit = scope.spawn(|| shadow.commit(&shadow.head.id));
        let entries = survey(shadow, &repository.top, root, caps, &extra, summary);
        let lost = || Err(Error::internal("a thread that reads the repository ended early"));
        (
            entries,
            commit.join().unwrap_or_else(|_| lost()),
            dirty.join().unwrap_or_else(|_| Err(Error::internal("the comparison with HEAD ended early"))),
        )
    });
    let (entries, commit) = (entries?, commit?);
    opened.summary.dirty = dirty?;
    opened.summary.plan_ms = millis(start);
    Ok(opened.into_plan(caps, entries, Some(&commit)))
}

/// A repository that may be read, and its working tree.
pub(super) struct Opened {
    pub(super) repository: Repository,
    pub(super) subdirectory: Option<RepoPath>,
    pub(super) shadow: Shadow,
    pub(super) root: Root,
    pub(super) summary: SnapshotSummary,
}

impl Opened {
    /// Finds and checks it. There may be no commit yet.
    pub(super) fn new(workspace_root: &Path, roots: &[PathBuf], caps: &WorkspaceSettings) -> Result<Self> {
        let asked = repo::check_root(workspace_root)?;
        let repository = repo::find(&asked)?;
        let subdirectory = subdirectory(&asked, &repository.top)?;
        let shadow = Shadow::of(&repository, roots, caps)?;
        let root = Root::open(&repository.top).map_err(|e| Error::new(Code::InvalidWorkspaceRoot, "open the workspace root").with_source(e))?;
        let summary = SnapshotSummary {
            object_format: Some(shadow.facts.format),
            head: (!shadow.head.unborn).then(|| shadow.head.id.to_hex()),
            branch: shadow.head.branch.clone(),
            shallow: shadow.shallow,
            ..SnapshotSummary::default()
        };
        Ok(Self { repository, subdirectory, shadow, root, summary })
    }

    /// The plan of these entries; `commit` is the raw commit whose subject is told.
    pub(super) fn into_plan(self, caps: &WorkspaceSettings, entries: Vec<Planned>, commit: Option<&[u8]>) -> Plan {
        Plan {
            repository: self.repository,
            root: self.root,
            subdirectory: self.subdirectory,
            head_subject: commit.filter(|_| self.shadow.own).and_then(subject),
            summary: self.summary,
            format: self.shadow.facts.format,
            file_mode: self.shadow.facts.file_mode,
            caps: caps.clone(),
            shadow: self.shadow,
            entries,
        }
    }
}

impl Plan {
    /// Top of the working tree, absolute and free of links.
    pub fn root(&self) -> &Path {
        &self.repository.top
    }
    /// Where the caller's directory lies below the top.
    pub fn subdirectory(&self) -> Option<&RepoPath> {
        self.subdirectory.as_ref()
    }
    /// Subject line of HEAD, escaped for display and bounded.
    pub fn head_subject(&self) -> Option<&str> {
        self.head_subject.as_deref()
    }
    /// HEAD, branch, dirty flag, counts; `files` and `bytes` are those planned.
    pub fn summary(&self) -> &SnapshotSummary {
        &self.summary
    }
    /// What differs from HEAD, for somebody who only wants to know: the delivery does not ask. Blocking; walks the tree.
    ///
    /// Errors: as [`plan`].
    pub fn uncommitted(&self) -> Result<Uncommitted> {
        let untracked = untracked::others(&self.shadow, &self.repository, &self.caps)?.len() as u64;
        Ok(Uncommitted { tracked: self.shadow.count_changed(&self.repository.top)?, untracked })
    }
}

pub(super) fn millis(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}

impl SnapshotSummary {
    pub(super) fn leave_out(&mut self, path: &[u8], why: &str) {
        self.left_out_count += 1;
        if self.left_out.len() < SHOWN {
            self.left_out.push(LeftOut { path: ShownPath::new(path), why: why.to_owned() });
        }
    }

    pub(super) fn add_lfs_pointer(&mut self, path: &[u8]) {
        self.lfs_pointer_count += 1;
        if self.lfs_pointers.len() < SHOWN {
            self.lfs_pointers.push(ShownPath::new(path));
        }
    }

    fn add_extra(&mut self, path: &[u8], origin: Origin) {
        let (list, count) = match origin {
            Origin::Untracked => (&mut self.untracked, &mut self.untracked_count),
            Origin::Included => (&mut self.included, &mut self.included_count),
            Origin::Tracked | Origin::Commit | Origin::Base => return,
        };
        self.untracked_sent = true;
        *count += 1;
        self.included_secret_named += u64::from(origin == Origin::Included && Name::new(path).secret());
        if list.len() < SHOWN {
            list.push(ShownPath::new(path));
        }
    }

    pub(super) fn add_submodule(&mut self, path: &[u8]) {
        self.submodule_count += 1;
        if self.submodules.len() < SHOWN {
            self.submodules.push(ShownPath::new(path));
        }
    }
}

fn subdirectory(asked: &Path, top: &Path) -> Result<Option<RepoPath>> {
    use std::os::unix::ffi::OsStrExt as _;
    let below = asked.strip_prefix(top).map_err(|_| Error::internal("the workspace root does not lie in its repository"))?;
    if below.as_os_str().is_empty() {
        return Ok(None);
    }
    RepoPath::parse(below.as_os_str().as_bytes()).map(Some).map_err(|e| {
        Error::new(Code::InvalidWorkspaceRoot, "use the workspace root: it lies in a git directory or has a name that is refused").with_source(e)
    })
}

/// The first line of a commit's message.
fn subject(commit: &[u8]) -> Option<String> {
    let at = commit.windows(2).position(|pair| pair == b"\n\n")?;
    let line = commit.get(at + 2..)?.split(|b| *b == b'\n').map(<[u8]>::trim_ascii).find(|line| !line.is_empty())?;
    let shown = crate::display::line(line.get(..line.len().min(1000))?);
    Some(shown.chars().take(200).collect())
}

/// Over a cap: what, how much is allowed, how much there is.
pub(super) fn too_large(what: &str, setting: &str, limit: u64, actual: u64) -> Error {
    Error::new(Code::WorkspaceTooLarge, format!("take the workspace: {what} {actual} is over the limit of {limit}"))
        .with_hint(format!("raise workspace.{setting} in the settings, or leave large parts out with a sparse checkout"))
        .with_detail("cap", setting)
        .with_detail("limit", limit)
        .with_detail("actual", actual)
}

/// [`too_large`], if it is.
pub(super) fn over(what: &str, setting: &str, limit: u64, actual: u64) -> Result<()> {
    if actual > limit && !weaken::off("export.caps") { Err(too_large(what, setting, limit, actual)) } else { Ok(()) }
}

/// What the working tree holds at a listed path.
enum Found {
    Send { size: u64, device: u64, inode: u64, single: bool },
    Missing,
    LeftOut(&'static str),
}

/// Looks at every path that the index lists, and at the extra ones.
pub(super) fn survey(
    shadow: &Shadow,
    top: &Path,
    root: &Root,
    caps: &WorkspaceSettings,
    extra: &[Extra],
    summary: &mut SnapshotSummary,
) -> Result<Vec<Planned>> {
    let output = listing::list(shadow, top, caps)?;
    let mut listed = listing::parse(&output)?;
    listing::add(&mut listed, extra, shadow.facts.format.hash("blob", b""));
    inspect(root, listed, caps, summary)
}

/// Looks at listed paths, sorted and each once.
pub(super) fn inspect(root: &Root, mut listed: Vec<Listed<'_>>, caps: &WorkspaceSettings, summary: &mut SnapshotSummary) -> Result<Vec<Planned>> {
    over("the number of tracked files", "max_files", caps.max_files, listed.len() as u64)?;
    over("the length of a path", "max_path", caps.max_path, listed.iter().map(|e| e.path.len() as u64).max().unwrap_or(0))?;
    let mut paths = Vec::with_capacity(listed.len());
    let submodules: HashSet<&[u8]> = listed.iter().filter(|e| e.mode == Mode::Submodule).map(|e| e.path).collect();
    listed.retain(|entry| match RepoPath::parse(entry.path) {
        // A crafted index: the submodule is sent as an empty directory, so nothing can lie in it.
        Ok(path) if submodules.is_empty() || !ancestors(entry.path).any(|above| submodules.contains(above)) => {
            paths.push(path);
            true
        }
        _ => {
            let nested = entry.origin != Origin::Tracked && entry.path.ends_with(b"/");
            summary.leave_out(entry.path, if nested { "nested_repository" } else { "refused_name" });
            false
        }
    });
    let found = stat_all(root, &listed);
    let mut entries = Vec::with_capacity(listed.len());
    let mut inodes = HashSet::new();
    for ((listed, path), found) in listed.iter().zip(paths).zip(found) {
        summary.unmerged_files += u64::from(listed.unmerged);
        match found {
            Found::Missing if listed.skip => summary.sparse_files += 1,
            Found::Missing if listed.mode == Mode::Submodule => {
                summary.add_submodule(listed.path);
                entries.push(Planned { path, mode: listed.mode, id: listed.id, size: 0, origin: listed.origin });
            }
            Found::Missing => summary.deleted_files += u64::from(listed.origin == Origin::Tracked),
            Found::LeftOut("directory") if listed.mode == Mode::Submodule => {
                summary.add_submodule(listed.path);
                entries.push(Planned { path, mode: listed.mode, id: listed.id, size: 0, origin: listed.origin });
            }
            Found::LeftOut(why) => summary.leave_out(listed.path, why),
            // One directory entry under two tracked names: a file system that folds case or normalises. On one that tells the
            // names apart both files are real, and both are sent.
            Found::Send { device, inode, single: true, .. } if !inodes.insert((device, inode)) => summary.leave_out(listed.path, "case_collision"),
            Found::Send { size, .. } => {
                over("the size of a file", "max_file", caps.max_file.0, size)
                    .map_err(|e| e.with_detail("path", crate::display::line(listed.path)))?;
                summary.files += 1;
                summary.bytes = summary.bytes.saturating_add(size);
                let mode = if listed.mode == Mode::Submodule { Mode::File } else { listed.mode };
                summary.add_extra(listed.path, listed.origin);
                entries.push(Planned { path, mode, id: listed.id, size, origin: listed.origin });
            }
        }
    }
    over("the size of all tracked files", "max_bytes", caps.max_bytes.0, summary.bytes)?;
    Ok(entries)
}

/// The directories above a path, nearest last.
pub(super) fn ancestors(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.iter().enumerate().filter(|(_, b)| **b == b'/').map(|(at, _)| &path[..at])
}

/// Looks at every path beneath the root with a few threads.
fn stat_all(root: &Root, listed: &[Listed<'_>]) -> Vec<Found> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(8);
    let chunk = listed.len().div_ceil(threads).max(512);
    std::thread::scope(|scope| {
        let parts: Vec<_> = listed.chunks(chunk).map(|part| (part.len(), scope.spawn(move || stat_part(root, part)))).collect();
        parts.into_iter().flat_map(|(len, part)| part.join().unwrap_or_else(|_| (0..len).map(|_| Found::LeftOut("unreadable")).collect())).collect()
    })
}

fn stat_part(root: &Root, part: &[Listed<'_>]) -> Vec<Found> {
    let mut cursor = Cursor::new(root);
    part.iter()
        .map(|entry| match cursor.at(entry.path).and_then(|(dir, name)| beneath::lstat(dir, name)) {
            Ok(stat) => match beneath::kind(&stat) {
                FileType::RegularFile | FileType::Symlink => {
                    Found::Send { size: beneath::size(&stat), device: stat.st_dev, inode: stat.st_ino, single: stat.st_nlink == 1 }
                }
                FileType::Directory => Found::LeftOut("directory"),
                FileType::Fifo if weaken::off("export.regular_only") => Found::Send { size: 0, device: 0, inode: 0, single: false },
                _ => Found::LeftOut("special_file"),
            },
            Err(Errno::NOENT | Errno::NOTDIR) => Found::Missing,
            Err(Errno::LOOP) => Found::LeftOut("beyond_symlink"),
            Err(_) => Found::LeftOut("unreadable"),
        })
        .collect()
}
