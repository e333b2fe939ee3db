//! Back into the user's tree: whether the changes apply now, and applying them. Only a person asks for the second.
//!
//! Every look and every write goes beneath the root and never through a symbolic link. When each touched file is byte for byte as it was
//! sent, the new bytes are written directly; otherwise `git apply` decides, with a git directory of ours and neutral attributes.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::Command;

use rustix::fs::{AtFlags, FileType, Mode as Bits, OFlags};
use rustix::io::Errno;

use super::beneath::{self, Root, split};
use super::collect::{Form, Sides};
use super::shadow::{self, Facts};
use super::snapshot::ancestors;
use super::{Applies, Conflict, ShownPath, diff};
use crate::error::{Code, Error, Result};
use crate::protocol::changes::{Change, Side};
use crate::protocol::manifest::{Mode, ObjectFormat};

/// How many conflicts are listed.
const SHOWN: usize = 50;
/// Entries of one directory tree that are looked at where a file shall take its place.
const MAX_WALK: usize = 10_000;

/// Whether the changes apply to the tree as it is now; reads it, runs nothing of the repository's. `root` is the top of the working tree. Blocking.
pub fn applies(root: &Path, changes: &[Change]) -> Result<Applies> {
    let found = examine(&open(root)?, changes);
    if found.iter().all(|c| matches!(c.why, "changed_since" | "mode_changed")) {
        // Other edits to the same files: git knows whether they are in the way.
        let ok = found.is_empty() || apply_with_git(root, &patch_of(changes)?, &["--check"])?;
        if ok {
            return Ok(Applies { ok, exact: found.is_empty(), conflicts: Vec::new() });
        }
    }
    Ok(Applies { ok: false, exact: false, conflicts: shown(&found) })
}

/// Applies the changes to the tree: all or nothing as far as a file system lets it. Blocking. [`Code::ApplyConflict`] otherwise, with the
/// conflicts in the details. `root` is the top of the working tree; its git directory and index are never touched.
pub fn apply(root: &Path, changes: &[Change], patch: &[u8]) -> Result<()> {
    let conflict = |conflicts: &[Obstacle<'_>]| {
        let mut listed = shown(conflicts);
        listed.truncate(SHOWN);
        Error::new(Code::ApplyConflict, "apply the patch: the working tree is not as it was when it was sent")
            .with_hint("commit or stash what you changed since, or apply the diff by hand with `git apply --3way`")
            .with_detail("conflicts", serde_json::to_value(listed).unwrap_or_default())
    };
    let tree = open(root)?;
    let found = examine(&tree, changes);
    if found.is_empty() {
        return write_all(&tree, changes);
    }
    let only_content = found.iter().all(|c| matches!(c.why, "changed_since" | "mode_changed"));
    // git apply checks every file before it writes the first.
    if only_content && apply_with_git(root, patch, &["--check"])? && apply_with_git(root, patch, &[])? {
        return Ok(());
    }
    Err(conflict(&found))
}

fn open(root: &Path) -> Result<Root> {
    let real = super::repo::check_root(root)?;
    Root::open(&real).map_err(|e| Error::new(Code::InvalidWorkspaceRoot, "open the working tree").with_source(e))
}

struct Obstacle<'a> {
    path: &'a [u8],
    why: &'static str,
}

fn shown(found: &[Obstacle<'_>]) -> Vec<Conflict> {
    found.iter().take(SHOWN).map(|o| Conflict { path: ShownPath::new(o.path), why: o.why.to_owned() }).collect()
}

/// Compares every touched path with its base.
fn examine<'a>(tree: &Root, changes: &'a [Change]) -> Vec<Obstacle<'a>> {
    let deleted: BTreeSet<&[u8]> = changes.iter().filter(|c| c.base.is_some() && c.new.is_none()).map(|c| c.path.as_bytes()).collect();
    changes
        .iter()
        .filter_map(|change| {
            let path = change.path.as_bytes();
            let why = match &change.base {
                Some(base) => differs(tree, path, base),
                None => occupied(tree, path, &deleted),
            }?;
            Some(Obstacle { path, why })
        })
        .collect()
}

fn differs(tree: &Root, path: &[u8], base: &Side) -> Option<&'static str> {
    let (parent, name) = split(path);
    let looked = tree.dir(parent).and_then(|dir| beneath::lstat(&dir, name).map(|stat| (dir, stat)));
    let (dir, stat) = match looked {
        Ok(looked) => looked,
        Err(Errno::LOOP) => return Some("beyond_symlink"),
        Err(Errno::NOENT | Errno::NOTDIR) => return Some("missing"),
        Err(_) => return Some("changed_since"),
    };
    match (beneath::kind(&stat), base.mode) {
        (FileType::Symlink, Mode::Symlink) => {
            let same = beneath::read_link(&dir, name).is_ok_and(|text| text == base.bytes);
            (!same).then_some("changed_since")
        }
        (FileType::RegularFile, Mode::File | Mode::Executable) => {
            let same = beneath::size(&stat) == base.bytes.len() as u64 && same_content(&dir, name, &base.bytes);
            let executable = stat.st_mode & 0o100 != 0;
            if !same {
                Some("changed_since")
            } else if executable != (base.mode == Mode::Executable) {
                Some("mode_changed")
            } else {
                None
            }
        }
        _ => Some("changed_since"),
    }
}

fn same_content(dir: &OwnedFd, name: &[u8], expected: &[u8]) -> bool {
    let Ok((mut file, _)) = beneath::open_file(dir, name) else { return false };
    let mut piece = vec![0; 1 << 16];
    let mut left = expected;
    loop {
        match file.read(&mut piece) {
            Ok(0) => return left.is_empty(),
            Ok(n) => match piece.get(..n).and_then(|got| left.strip_prefix(got)) {
                Some(rest) => left = rest,
                None => return false,
            },
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) => return false,
        }
    }
}

/// Whether something stands where a new path shall be.
fn occupied(tree: &Root, path: &[u8], deleted: &BTreeSet<&[u8]>) -> Option<&'static str> {
    // A file above that the changes delete makes room; its own state is examined with its own change.
    if ancestors(path).any(|above| deleted.contains(above)) {
        return None;
    }
    match tree.lstat(path) {
        Err(Errno::NOENT) => None,
        Err(Errno::LOOP) => Some("beyond_symlink"),
        Ok(stat) if beneath::kind(&stat) == FileType::Directory => {
            let mut budget = MAX_WALK;
            (!all_deleted(tree, path, deleted, &mut budget)).then_some("exists_already")
        }
        Ok(_) | Err(_) => Some("exists_already"),
    }
}

/// Whether a directory holds nothing but files that the changes delete.
fn all_deleted(tree: &Root, dir: &[u8], deleted: &BTreeSet<&[u8]>, budget: &mut usize) -> bool {
    let mut todo = vec![dir.to_vec()];
    while let Some(dir) = todo.pop() {
        let listed = tree.dir(&dir).and_then(|fd| rustix::fs::openat(&fd, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Bits::empty()));
        let Ok(entries) = listed.and_then(rustix::fs::Dir::new) else { return false };
        for entry in entries {
            let Ok(entry) = entry else { return false };
            let name = entry.file_name().to_bytes();
            if matches!(name, b"." | b"..") {
                continue;
            }
            match budget.checked_sub(1) {
                Some(left) => *budget = left,
                None => return false,
            }
            let path = [dir.as_slice(), b"/", name].concat();
            match tree.lstat(&path) {
                Ok(stat) if beneath::kind(&stat) == FileType::Directory => todo.push(path),
                Ok(_) if deleted.contains(path.as_slice()) => {}
                _ => return false,
            }
        }
    }
    true
}

/// The patch of the changes alone; not proven here, `git apply` says itself what it can do with it.
fn patch_of(changes: &[Change]) -> Result<Vec<u8>> {
    let changes: Vec<&Change> = changes.iter().filter(|c| c.base != c.new).collect();
    let output = Sides::new(ObjectFormat::Sha1, &changes)?.diff(Form::Renames)?;
    diff::records(&output).map(|(_, patch)| patch.to_vec()).ok_or_else(|| Error::internal("make the patch: git's answer is not understood"))
}

/// `git apply` in the tree, with a git directory of ours: no configuration and no attributes of the repository are in force.
///
/// The ids in a binary patch tell git what it may be applied to, and are read only by a git directory of the same object format; the patch
/// does not say which, so the rarer one comes second. A refused patch writes nothing.
fn apply_with_git(root: &Path, patch: &[u8], more: &[&str]) -> Result<bool> {
    for format in [ObjectFormat::Sha1, ObjectFormat::Sha256] {
        let own = shadow::bare(&Facts::own(format))?;
        let mut command: Command = crate::process::git(own.path(), root);
        command.env("GIT_WORK_TREE", root).args(["apply", "--whitespace=nowarn", "-p1"]).args(more).arg("-");
        if super::run::run(command, Some(patch), "apply the patch")?.status.success() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Writes all sides, after everything was examined. New content is written beside its place first, so that a full disk is met before the first
/// change; a failure later puts back what was done.
fn write_all(tree: &Root, changes: &[Change]) -> Result<()> {
    let mut staged: Vec<(&Change, Staged)> = Vec::new();
    for change in changes.iter().filter(|c| c.base != c.new) {
        if let Some(new) = &change.new {
            match stage(tree, change, new) {
                Ok(file) => staged.push((change, file)),
                Err(e) => {
                    discard(tree, staged.iter().map(|(_, file)| file));
                    return Err(write_failed(e));
                }
            }
        }
    }
    let mut done: Vec<&Change> = Vec::new();
    if let Err(e) = exchange(tree, changes, &staged, &mut done) {
        discard(tree, staged.iter().map(|(_, file)| file));
        return Err(match restore(tree, &done) {
            Ok(()) => write_failed(e).with_hint("the working tree was put back as it was; mend the cause and apply again"),
            Err(_) => write_failed(e).with_hint("the working tree may hold part of the changes: look at `git status`"),
        });
    }
    Ok(())
}

fn write_failed(e: Errno) -> Error {
    let error = Error::new(Code::SetupFailed, "write into the working tree").with_source(e);
    error.with_hint("nothing was changed; see that the working tree is writable and has free space")
}

/// New content under a temporary name.
struct Staged {
    dir: Vec<u8>,
    name: Vec<u8>,
}

fn discard<'a>(tree: &Root, staged: impl Iterator<Item = &'a Staged>) {
    for file in staged {
        if let Ok(dir) = tree.dir(&file.dir) {
            let _ = rustix::fs::unlinkat(&dir, file.name.as_slice(), AtFlags::empty());
        }
    }
}

/// Writes a side into the deepest directory above its place that is already there.
fn stage(tree: &Root, change: &Change, side: &Side) -> rustix::io::Result<Staged> {
    let mut at = split(change.path.as_bytes()).0;
    let dir = loop {
        match tree.dir(at) {
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) if !at.is_empty() => at = split(at).0,
            other => break other?,
        }
    };
    let name = format!(".anchorhold-{}.tmp", uuid::Uuid::new_v4().simple()).into_bytes();
    let written = if side.mode == Mode::Symlink {
        rustix::fs::symlinkat(std::ffi::OsStr::new(&lossless(&side.bytes)?), &dir, name.as_slice())
    } else {
        stage_file(tree, &dir, &name, change, side)
    };
    match written {
        Ok(()) => Ok(Staged { dir: at.to_vec(), name }),
        Err(e) => {
            let _ = rustix::fs::unlinkat(&dir, name.as_slice(), AtFlags::empty());
            Err(e)
        }
    }
}

/// A link's text as the system takes it: not empty, without NUL.
fn lossless(bytes: &[u8]) -> rustix::io::Result<std::ffi::OsString> {
    use std::os::unix::ffi::OsStringExt as _;
    if bytes.is_empty() || bytes.contains(&0) { Err(Errno::INVAL) } else { Ok(std::ffi::OsString::from_vec(bytes.to_vec())) }
}

fn stage_file(tree: &Root, dir: &OwnedFd, name: &[u8], change: &Change, side: &Side) -> rustix::io::Result<()> {
    // The user's umask decides for a new file, the old file's bits for one that is replaced.
    let create = Bits::from_raw_mode(if side.mode == Mode::Executable { 0o777 } else { 0o666 });
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut file = std::fs::File::from(rustix::fs::openat(dir, name, flags, create)?);
    file.write_all(&side.bytes).map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::IO))?;
    if change.base.as_ref().is_some_and(|base| base.mode != Mode::Symlink)
        && let Ok(stat) = tree.lstat(change.path.as_bytes())
        && beneath::kind(&stat) == FileType::RegularFile
    {
        let old = stat.st_mode & 0o777;
        let bits = if side.mode == Mode::Executable { old | (old & 0o444) >> 2 } else { old & !0o111 };
        rustix::fs::fchmod(&file, Bits::from_raw_mode(bits))?;
    }
    Ok(())
}

/// Deletions first (they make room), then the new files into their places.
fn exchange<'a>(tree: &Root, changes: &'a [Change], staged: &[(&'a Change, Staged)], done: &mut Vec<&'a Change>) -> rustix::io::Result<()> {
    for change in changes.iter().filter(|c| c.new.is_none() && c.base.is_some()) {
        let (parent, name) = split(change.path.as_bytes());
        rustix::fs::unlinkat(tree.dir(parent)?, name, AtFlags::empty())?;
        done.push(change);
    }
    for (change, file) in staged {
        let path = change.path.as_bytes();
        let (parent, name) = split(path);
        let to = make_dirs(tree, parent)?;
        if change.base.is_none() {
            remove_empty_tree(tree, path);
        }
        rustix::fs::renameat(tree.dir(&file.dir)?, file.name.as_slice(), &to, name)?;
        done.push(change);
    }
    // As git does: a directory that lost its last file goes.
    for change in changes.iter().filter(|c| c.new.is_none()) {
        remove_empty_above(tree, change.path.as_bytes());
    }
    Ok(())
}

/// Opens a directory beneath the root, making what is missing.
fn make_dirs(tree: &Root, path: &[u8]) -> rustix::io::Result<OwnedFd> {
    match tree.dir(path) {
        Err(Errno::NOENT) => {}
        other => return other,
    }
    for part in ancestors(path).chain(std::iter::once(path)) {
        let (parent, name) = split(part);
        match rustix::fs::mkdirat(tree.dir(parent)?, name, Bits::from_raw_mode(0o777)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(e) => return Err(e),
        }
    }
    tree.dir(path)
}

/// Removes a directory that holds nothing but empty directories; anything else stays, and the rename over it says so.
fn remove_empty_tree(tree: &Root, path: &[u8]) {
    let mut dirs = vec![path.to_vec()];
    let mut at = 0;
    while let Some(dir) = dirs.get(at).cloned() {
        at += 1;
        let listed = tree.dir(&dir).and_then(|fd| rustix::fs::openat(&fd, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Bits::empty()));
        let Ok(entries) = listed.and_then(rustix::fs::Dir::new) else { continue };
        for entry in entries.flatten() {
            let name = entry.file_name().to_bytes();
            if !matches!(name, b"." | b"..") && dirs.len() < MAX_WALK {
                dirs.push([dir.as_slice(), b"/", name].concat());
            }
        }
    }
    for dir in dirs.iter().rev() {
        remove_dir(tree, dir);
    }
}

fn remove_empty_above(tree: &Root, path: &[u8]) {
    let mut at = split(path).0;
    while !at.is_empty() && remove_dir(tree, at) {
        at = split(at).0;
    }
}

fn remove_dir(tree: &Root, path: &[u8]) -> bool {
    let (parent, name) = split(path);
    match tree.dir(parent) {
        Ok(dir) => matches!(rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR), Ok(()) | Err(Errno::NOENT)),
        Err(Errno::NOENT) => true,
        Err(_) => false,
    }
}

/// Puts the base of each change back, latest first.
fn restore(tree: &Root, done: &[&Change]) -> rustix::io::Result<()> {
    for change in done.iter().rev() {
        let path = change.path.as_bytes();
        let (parent, name) = split(path);
        match &change.base {
            None => {
                rustix::fs::unlinkat(tree.dir(parent)?, name, AtFlags::empty())?;
                remove_empty_above(tree, path);
            }
            Some(base) => {
                let to = make_dirs(tree, parent)?;
                let file = stage(tree, change, base)?;
                rustix::fs::renameat(tree.dir(&file.dir)?, file.name.as_slice(), &to, name)?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::repo_path::RepoPath;

    #[test]
    fn a_failure_on_the_way_puts_everything_back() {
        let dir = tempfile::tempdir().unwrap();
        let at = |path: &str| dir.path().join(path);
        std::fs::write(at("edit"), "old").unwrap();
        std::fs::create_dir(at("gone")).unwrap();
        std::fs::write(at("gone/only"), "x").unwrap();
        // Appeared after the examination: the last rename meets a directory that is not empty.
        std::fs::create_dir(at("zz")).unwrap();
        std::fs::write(at("zz/mine"), "m").unwrap();
        let side = |text: &str| Some(Side { mode: Mode::File, bytes: text.as_bytes().to_vec() });
        let change = |path: &str, base, new| Change { path: RepoPath::parse(path.as_bytes()).unwrap(), base, new };
        let changes = [
            change("edit", side("old"), side("new")),
            change("gone/only", side("x"), None),
            change("made/here", None, side("h")),
            change("zz", None, side("z")),
        ];
        let error = write_all(&Root::open(dir.path()).unwrap(), &changes).unwrap_err();
        assert!(error.hint.unwrap().contains("put back"));
        assert_eq!(std::fs::read(at("edit")).unwrap(), b"old");
        assert_eq!(std::fs::read(at("gone/only")).unwrap(), b"x");
        assert_eq!(std::fs::read(at("zz/mine")).unwrap(), b"m");
        let mut names: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["edit", "gone", "zz"]);
    }
}
