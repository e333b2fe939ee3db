//! Both sides of a review's scope: the base's tree, the entries of the new side, and what differs.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io::Read as _;

use rustix::fs::FileType;
use rustix::io::Errno;

use super::beneath::{self, Cursor};
use super::blobs::{BlobHasher, Blobs};
use super::listing::{self, Extra};
use super::narrow::Narrow;
use super::pack::{file_mode, why};
use super::review::{ReviewRequest, Untracked};
use super::revision::{self, Argument};
use super::send::Origin;
use super::show::{Half, Pair};
use super::snapshot::{Opened, Planned, ancestors, inspect, over, survey};
use super::trees::{Tree, TreeEntry};
use super::{diff, instructions, untracked};
use crate::config::WorkspaceSettings;
use crate::error::{Code, Error, Result};
use crate::protocol::manifest::{Mode, ObjectId};
use crate::protocol::repo_path::RepoPath;
use crate::review::ReviewScope;

/// Bytes of one side of a file that is compared.
pub const MAX_FILE: u64 = 8 << 20;
/// Bytes of all that is compared: it is held in memory.
const MAX_ALL: u64 = 256 << 20;

/// A path that differs.
#[derive(Debug, Clone)]
pub struct Changed {
    /// Where.
    pub path: RepoPath,
    /// In the base.
    pub old: Option<TreeEntry>,
    /// On the new side.
    pub(super) new: Option<Planned>,
    /// Why the new side cannot be shown though there is one.
    pub unread: Option<&'static str>,
}

/// Both sides, found.
pub struct Sides {
    /// The base of a branch, by the name under which it was found.
    pub base_name: Option<String>,
    /// The repository.
    pub(super) opened: Opened,
    /// The new side, as it is delivered.
    pub(super) entries: Vec<Planned>,
    /// What differs, ascending by path.
    pub changed: Vec<Changed>,
    /// Names in a commit's tree that no working tree may have.
    pub refused: Vec<Vec<u8>>,
    /// Instruction files that the change touches.
    pub instructions: Vec<Vec<u8>>,
    /// Untracked files within the paths.
    pub untracked: u64,
    /// The commit before.
    pub base_commit: Option<ObjectId>,
    /// The commit after.
    pub head_commit: Option<ObjectId>,
    /// The raw commit whose subject is told.
    pub commit: Option<Vec<u8>>,
}

impl Sides {
    /// Finds both sides of a request's scope.
    pub(super) fn of(opened: Opened, caps: &WorkspaceSettings, request: &ReviewRequest, narrow: &Narrow) -> Result<Self> {
        match &request.scope {
            ReviewScope::WorkingTree => working_tree(opened, caps, request, narrow),
            ReviewScope::Branch { base } => {
                let shadow = &opened.shadow;
                if shadow.head.unborn {
                    return Err(Error::new(Code::InvalidScope, "review the branch: there is no commit yet")
                        .with_hint("commit something first, or review the working tree"));
                }
                let (name, base) = revision::base(&opened.repository, shadow, base)?;
                let (head, from) = (shadow.head.id, revision::merge_base(shadow, &base, &shadow.head.id)?);
                let commit = shadow.commit(&head)?;
                let sides = committed(opened, caps, request, narrow, Some(from), head, commit)?;
                Ok(Self { base_name: Some(name), ..sides })
            }
            ReviewScope::Commit { commit } => {
                let shadow = &opened.shadow;
                let id = revision::resolve(&opened.repository, shadow, commit, Argument::Commit)?;
                let commit = shadow.commit(&id)?;
                let parent = revision::first_parent(shadow, &commit, shadow.facts.format.id_len())?;
                committed(opened, caps, request, narrow, parent, id, commit)
            }
        }
    }
}

/// HEAD against what lies in the working tree.
fn working_tree(mut opened: Opened, caps: &WorkspaceSettings, request: &ReviewRequest, narrow: &Narrow) -> Result<Sides> {
    let others = untracked::others(&opened.shadow, &opened.repository, caps)?;
    let seen = others.iter().filter(|extra| narrow.holds(&extra.path)).count() as u64;
    let mut extra: Vec<Extra> = others.clone();
    extra.retain(|extra| match request.untracked {
        Untracked::Include => true,
        Untracked::ExplicitOnly => narrow.names(&extra.path),
        Untracked::Exclude => false,
    });
    if request.include_ignored {
        extra.extend(untracked::included(&opened.shadow, &opened.repository, &opened.root, caps)?);
    }
    let Opened { shadow, repository, root, summary, .. } = &mut opened;
    let entries = survey(shadow, &repository.top, root, caps, &extra, summary)?;
    let base = if shadow.head.unborn { Tree::default() } else { Tree::of(shadow, &shadow.head.id, caps)? };
    let there = base.entries.iter().map(|entry| entry.path.as_bytes()).chain(entries.iter().map(|entry| entry.path.as_bytes()));
    narrow.check(there.chain(others.iter().map(|extra| extra.path.strip_suffix(b"/").unwrap_or(&extra.path))))?;

    let touched = shadow.touched(&repository.top)?;
    let (records, _) = diff::records(&touched)
        .filter(|(_, rest)| rest.is_empty())
        .ok_or_else(|| Error::new(Code::WorktreeError, "compare the working tree with HEAD: git's answer is not understood"))?;
    let mut paths: BTreeSet<&[u8]> = records.iter().map(|record| record.path.as_slice()).collect();
    let planned: BTreeMap<&[u8], &Planned> = entries.iter().map(|entry| (entry.path.as_bytes(), entry)).collect();
    paths.extend(entries.iter().filter(|entry| entry.origin == Origin::Untracked).map(|entry| entry.path.as_bytes()));
    // git was not asked about submodules: their own configuration would be in force.
    paths.extend(entries.iter().filter(|entry| entry.mode == Mode::Submodule).map(|entry| entry.path.as_bytes()));
    paths.extend(base.entries.iter().filter(|entry| entry.mode == Mode::Submodule).map(|entry| entry.path.as_bytes()));
    let mut reader = Reader { cursor: Cursor::new(root), file_mode: shadow.facts.file_mode };
    let mut changed = Vec::new();
    for path in paths {
        let (old, new) = (base.find(path).cloned(), planned.get(path).filter(|entry| entry.origin != Origin::Included).map(|entry| (*entry).clone()));
        let Ok(path) = RepoPath::parse(path) else { continue };
        let mut unread = None;
        match &new {
            Some(new) if new.mode == Mode::Submodule => {
                if old.as_ref().is_some_and(|old| old.mode == Mode::Submodule && old.id == new.id) {
                    continue;
                }
            }
            Some(new) => match reader.id(new, shadow.facts.format) {
                Ok((mode, id)) if old.as_ref().is_some_and(|old| (old.mode, old.id) == (mode, id)) => continue,
                Ok(_) => {}
                Err(why) => unread = Some(why),
            },
            None => match root.lstat(path.as_bytes()).map(|stat| beneath::kind(&stat)) {
                // As git sees it, a directory or a link in the place of a file or above it means that the file is gone.
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) | Ok(FileType::Directory) if old.is_none() => continue,
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) | Ok(FileType::Directory) => {}
                Ok(FileType::RegularFile | FileType::Symlink) => unread = Some("not_sent"),
                Ok(_) => unread = Some("special_file"),
                Err(_) => unread = Some("unreadable"),
            },
        }
        changed.push(Changed { path, old, new, unread });
    }
    summary.dirty = changed.iter().any(|changed| changed.new.as_ref().is_none_or(|new| new.origin == Origin::Tracked));
    let base_commit = (!shadow.head.unborn).then_some(shadow.head.id);
    let commit = if shadow.head.unborn { None } else { Some(shadow.commit(&shadow.head.id)?) };
    let refused = base.refused.clone();
    finish(opened, caps, entries, &base, Found { changed, refused, untracked: seen, base_commit, head_commit: None, commit })
}

/// A commit's tree against another's.
fn committed(
    mut opened: Opened,
    caps: &WorkspaceSettings,
    request: &ReviewRequest,
    narrow: &Narrow,
    from: Option<ObjectId>,
    to: ObjectId,
    commit: Vec<u8>,
) -> Result<Sides> {
    let base = match &from {
        Some(from) => Tree::of(&opened.shadow, from, caps)?,
        None => Tree::default(),
    };
    let tree = Tree::of(&opened.shadow, &to, caps)?;
    narrow.check(base.entries.iter().chain(&tree.entries).map(|entry| entry.path.as_bytes()))?;
    let at_head = to == opened.shadow.head.id && !opened.shadow.head.unborn;
    let summary = &mut opened.summary;
    summary.head = Some(to.to_hex());
    summary.branch = summary.branch.take().filter(|_| at_head);
    let mut entries = Vec::with_capacity(tree.entries.len());
    for entry in &tree.entries {
        over("the length of a path", "max_path", caps.max_path, entry.path.as_bytes().len() as u64)?;
        if entry.mode == Mode::Submodule {
            summary.add_submodule(entry.path.as_bytes());
        } else {
            over("the size of a file", "max_file", caps.max_file.0, entry.size)?;
            summary.files += 1;
            summary.bytes = summary.bytes.saturating_add(entry.size);
        }
        entries.push(planned(entry));
    }
    over("the size of all tracked files", "max_bytes", caps.max_bytes.0, summary.bytes)?;
    for path in &tree.refused {
        summary.leave_out(path, "refused_name");
    }
    if request.include_ignored {
        let included = included(&mut opened, caps, &base, &tree)?;
        entries.extend(included);
        entries.sort_by(|a, b| a.path.cmp(&b.path));
    }
    if opened.subdirectory.as_ref().is_some_and(|at| tree.beneath(at.as_bytes()).next().is_none()) {
        opened.subdirectory = None;
    }
    let changed = differing(&base, &tree);
    let before: HashSet<&Vec<u8>> = base.refused.iter().collect();
    let refused = tree.refused.iter().filter(|path| !before.contains(path)).cloned().collect();
    finish(opened, caps, entries, &base, Found { changed, refused, untracked: 0, base_commit: from, head_commit: Some(to), commit: Some(commit) })
}

/// Files of the working tree that the base's `.worktreeinclude` names: the change may be anybody's, and is not asked.
fn included(opened: &mut Opened, caps: &WorkspaceSettings, base: &Tree, tree: &Tree) -> Result<Vec<Planned>> {
    let Some(file) = base.find(untracked::INCLUDE_FILE).filter(|entry| matches!(entry.mode, Mode::File | Mode::Executable)) else {
        return Ok(Vec::new());
    };
    let mut patterns = Vec::new();
    Blobs::new(&opened.shadow, untracked::MAX_INCLUDE)?.append(&file.id, untracked::MAX_INCLUDE, &mut patterns)?;
    let mut extra = untracked::matching(&opened.shadow, &opened.repository, caps, &patterns)?;
    extra.retain(|extra| {
        let path = extra.path.as_slice();
        tree.find(path).is_none() && tree.beneath(path).next().is_none() && !ancestors(path).any(|above| tree.find(above).is_some())
    });
    let mut listed = Vec::new();
    listing::add(&mut listed, &extra, opened.shadow.facts.format.hash("blob", b""));
    inspect(&opened.root, listed, caps, &mut opened.summary)
}

fn planned(entry: &TreeEntry) -> Planned {
    Planned { path: entry.path.clone(), mode: entry.mode, id: entry.id, size: entry.size, origin: Origin::Commit }
}

/// What differs between two trees.
fn differing(base: &Tree, tree: &Tree) -> Vec<Changed> {
    let mut changed = Vec::new();
    let (mut old, mut new) = (base.entries.iter().peekable(), tree.entries.iter().peekable());
    loop {
        let (before, after) = match (old.peek(), new.peek()) {
            (None, None) => return changed,
            (Some(a), Some(b)) if a.path == b.path => (old.next(), new.next()),
            (Some(a), b) if b.is_none_or(|b| a.path < b.path) => (old.next(), None),
            _ => (None, new.next()),
        };
        let same = matches!((before, after), (Some(a), Some(b)) if (a.mode, a.id) == (b.mode, b.id));
        if let Some(entry) = after.or(before).filter(|_| !same) {
            changed.push(Changed { path: entry.path.clone(), old: before.cloned(), new: after.map(planned), unread: None });
        }
    }
}

struct Found {
    changed: Vec<Changed>,
    refused: Vec<Vec<u8>>,
    untracked: u64,
    base_commit: Option<ObjectId>,
    head_commit: Option<ObjectId>,
    commit: Option<Vec<u8>>,
}

fn finish(mut opened: Opened, caps: &WorkspaceSettings, entries: Vec<Planned>, base: &Tree, found: Found) -> Result<Sides> {
    let paths: HashSet<Vec<u8>> = found.changed.iter().map(|changed| changed.path.as_bytes().to_vec()).collect();
    let Opened { shadow, summary, .. } = &mut opened;
    let replaced = instructions::from_base(entries, base, &paths, &mut || Blobs::new(shadow, caps.max_file.0), summary)?;
    summary.files = replaced.entries.iter().filter(|entry| entry.mode != Mode::Submodule).count() as u64;
    summary.bytes = replaced.entries.iter().map(|entry| entry.size).sum();
    let Found { changed, refused, untracked, base_commit, head_commit, commit } = found;
    Ok(Sides {
        base_name: None,
        opened,
        entries: replaced.entries,
        changed,
        refused,
        instructions: replaced.touched,
        untracked,
        base_commit,
        head_commit,
        commit,
    })
}

/// Reads files of the working tree as they are now.
struct Reader<'a> {
    cursor: Cursor<'a>,
    file_mode: bool,
}

impl Reader<'_> {
    /// Kind and id of a file; the reason where it cannot be read.
    fn id(&mut self, entry: &Planned, format: crate::protocol::manifest::ObjectFormat) -> Result<(Mode, ObjectId), &'static str> {
        let mut hasher = None;
        let (mode, size) = self.read(entry, &mut |size, piece| {
            let hasher = hasher.get_or_insert_with(|| BlobHasher::new(format, size));
            hasher.update(piece);
        })?;
        let hasher = hasher.unwrap_or_else(|| BlobHasher::new(format, size));
        hasher.finish().map(|id| (mode, id)).map_err(|_| "unreadable")
    }

    /// Hands on a file in pieces, each with the whole size; kind and size.
    fn read(&mut self, entry: &Planned, sink: &mut dyn FnMut(u64, &[u8])) -> Result<(Mode, u64), &'static str> {
        let (dir, name) = self.cursor.at(entry.path.as_bytes()).map_err(why)?;
        match beneath::read_link(dir, name) {
            Ok(text) => {
                let size = text.len() as u64;
                sink(size, &text);
                return Ok((Mode::Symlink, size));
            }
            Err(Errno::INVAL) => {}
            Err(e) => return Err(why(e)),
        }
        let (file, stat) = beneath::open_file(dir, name).map_err(why)?;
        let size = beneath::size(&stat);
        let mut file = file.take(size);
        let (mut piece, mut left) = (vec![0; 1 << 16], size);
        loop {
            match file.read(&mut piece) {
                Ok(0) => break,
                Ok(n) => {
                    left = left.saturating_sub(n as u64);
                    sink(size, piece.get(..n).unwrap_or_default());
                }
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(_) => return Err("unreadable"),
            }
        }
        if left == 0 { Ok((file_mode(self.file_mode, entry.mode, stat.st_mode), size)) } else { Err("changed_while_read") }
    }
}

/// What loading a changed path gave.
pub enum Loaded {
    /// Both sides.
    Pair(Pair),
    /// It does not differ any more.
    Same,
    /// It cannot be shown, for this reason.
    Omitted(&'static str),
}

/// Brings content of changed paths into memory, within bounds.
pub struct Loader<'a> {
    opened: &'a Opened,
    caps: &'a WorkspaceSettings,
    blobs: Option<Blobs>,
    reader: Reader<'a>,
    left: u64,
}

impl<'a> Loader<'a> {
    /// Nothing loaded yet.
    pub(super) fn new(opened: &'a Opened, caps: &'a WorkspaceSettings) -> Self {
        let reader = Reader { cursor: Cursor::new(&opened.root), file_mode: opened.shadow.facts.file_mode };
        Self { opened, caps, blobs: None, reader, left: MAX_ALL }
    }

    /// Both sides of a path.
    pub fn pair(&mut self, changed: &Changed) -> Result<Loaded> {
        if let Some(why) = changed.unread {
            return Ok(Loaded::Omitted(why));
        }
        let (before, after) = (changed.old.as_ref().map_or(0, |old| old.size), changed.new.as_ref().map_or(0, |new| new.size));
        if before.max(after) > MAX_FILE {
            return Ok(Loaded::Omitted("too_large"));
        }
        let Some(left) = self.left.checked_sub(before + after) else { return Ok(Loaded::Omitted("over_limit")) };
        self.left = left;
        let old = match &changed.old {
            Some(old) => Some(self.blob(old.mode, old.id, old.size)?),
            None => None,
        };
        let new = match &changed.new {
            Some(new) if new.origin.is_committed() || new.mode == Mode::Submodule => Some(self.blob(new.mode, new.id, new.size)?),
            Some(new) => {
                let mut bytes = Vec::new();
                match self.reader.read(new, &mut |_, piece| bytes.extend_from_slice(piece)) {
                    Ok((_, size)) if size > MAX_FILE => return Ok(Loaded::Omitted("too_large")),
                    Ok((mode, _)) => Some(Half { mode, id: self.opened.shadow.facts.format.hash("blob", &bytes), bytes }),
                    Err(why) => return Ok(Loaded::Omitted(why)),
                }
            }
            None => None,
        };
        if let (Some(a), Some(b)) = (&old, &new)
            && (a.mode, a.id) == (b.mode, b.id)
        {
            return Ok(Loaded::Same);
        }
        Ok(Loaded::Pair(Pair { path: changed.path.clone(), old, new }))
    }

    fn blob(&mut self, mode: Mode, id: ObjectId, size: u64) -> Result<Half> {
        let mut bytes = Vec::new();
        if mode != Mode::Submodule {
            if self.blobs.is_none() {
                self.blobs = Some(Blobs::new(&self.opened.shadow, self.caps.max_file.0)?);
            }
            if let Some(blobs) = &mut self.blobs {
                blobs.append(&id, size, &mut bytes)?;
            }
        }
        Ok(Half { mode, id, bytes })
    }
}
