//! The working tree as the job before left it: its changes are made in the unpacked tree, by the agent, before Codex starts.
//!
//! The table of stamps is that of the tree as it was delivered, so the seal compares with the original base and not with this. Nothing runs beside it, but
//! no link is followed all the same: the changes are a job's.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::fd::{AsFd as _, OwnedFd};

use rustix::fs::{AtFlags, Mode as FileMode, OFlags, openat, unlinkat};
use rustix::io::Errno;

use super::unpack::{Directories, FromStart};
use crate::protocol::changes::{ChangesCaps, SideFacts, each};
use crate::protocol::manifest::Mode;
use crate::protocol::repo_path::RepoPath;

/// Longest text of a link that the kernel takes.
const MAX_LINK: u64 = 4095;

/// What the tree has more than it was delivered with; rather more.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Made {
    /// Files and links.
    pub entries: u64,
    /// Bytes on disk.
    pub disk_bytes: u64,
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

fn at_path(e: &io::Error, path: &RepoPath) -> io::Error {
    io::Error::new(e.kind(), format!("{}: {e}", crate::display::line(path.as_bytes())))
}

/// Makes the changes of a document. What is gone goes first, so that a directory can stand where a file was, and a file where a directory was.
pub fn make(workspace: &OwnedFd, document: &File) -> io::Result<Made> {
    let mut gone = |path: RepoPath, _: Option<SideFacts>, new: Option<SideFacts>, _: &mut dyn Read| match new {
        Some(_) => Ok(()),
        None => remove(workspace, &path).map_err(|e| at_path(&e, &path)),
    };
    each(BufReader::new(FromStart::new(document)), ChangesCaps::default(), &mut gone)?;
    let mut directories = Directories::new(workspace.try_clone()?);
    let mut made = Made::default();
    let mut put = |path: RepoPath, base: Option<SideFacts>, new: Option<SideFacts>, content: &mut dyn Read| -> io::Result<()> {
        let Some((mode, size)) = new else { return Ok(()) };
        let skipped = base.map_or(0, |(_, size)| size);
        if io::copy(&mut content.take(skipped), &mut io::sink())? != skipped {
            return Err(invalid("the changes are cut"));
        }
        made.entries += 1;
        made.disk_bytes = made.disk_bytes.saturating_add(size.next_multiple_of(4096));
        write(&mut directories, &path, base.is_some(), mode, size, content).map_err(|e| at_path(&e, &path))
    };
    each(BufReader::new(FromStart::new(document)), ChangesCaps::default(), &mut put)?;
    Ok(made)
}

/// Removes a file or link, and the directories that it leaves empty: git knows none.
fn remove(workspace: &OwnedFd, path: &RepoPath) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut above = vec![(workspace.try_clone()?, &b""[..])];
    for name in path.parent().unwrap_or_default().split(|b| *b == b'/').filter(|name| !name.is_empty()) {
        let Some((parent, _)) = above.last() else { continue };
        let fd = openat(parent, name, flags, FileMode::empty())?;
        above.push((fd, name));
    }
    let mut name = path.file_name();
    let mut how = AtFlags::empty();
    while let Some((parent, own)) = above.pop() {
        match unlinkat(&parent, name, how) {
            Ok(()) => {}
            Err(Errno::NOTEMPTY | Errno::EXIST) if how == AtFlags::REMOVEDIR => return Ok(()),
            Err(e) => return Err(e.into()),
        }
        (name, how) = (own, AtFlags::REMOVEDIR);
        if name.is_empty() {
            return Ok(());
        }
    }
    Ok(())
}

fn write(directories: &mut Directories, path: &RepoPath, replaces: bool, mode: Mode, size: u64, content: &mut dyn Read) -> io::Result<()> {
    let (directory, name) = (directories.enter(path.parent().unwrap_or_default())?, path.file_name());
    if replaces {
        // A new file, not the old one written over: so the seal sees that it is another.
        unlinkat(directory, name, AtFlags::empty())?;
    }
    if mode == Mode::Symlink {
        if size == 0 || size > MAX_LINK {
            return Err(invalid("a link's target has an impossible length"));
        }
        let mut target = Vec::new();
        content.take(size).read_to_end(&mut target)?;
        return Ok(rustix::fs::symlinkat(target.as_slice(), directory, name)?);
    }
    let bits = FileMode::from_raw_mode(if mode == Mode::Executable { 0o755 } else { 0o644 });
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut file: File = openat(directory, name, flags, bits)?.into();
    if io::copy(&mut content.take(size), &mut file)? != size {
        return Err(invalid("the changes are cut"));
    }
    // Whatever the mask of this process is.
    Ok(rustix::fs::fchmod(file.as_fd(), bits)?)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::Path;

    use super::super::part::open_root;
    use super::*;
    use crate::protocol::changes::{self, Change, Side};

    fn side(mode: Mode, bytes: &[u8]) -> Option<Side> {
        Some(Side { mode, bytes: bytes.to_vec() })
    }

    fn change(path: &[u8], base: Option<Side>, new: Option<Side>) -> Change {
        Change { path: RepoPath::parse(path).unwrap(), base, new }
    }

    fn check(dir: &Path, list: &[Change]) -> io::Result<Made> {
        let mut document = tempfile::tempfile().unwrap();
        document.write_all(&changes::write(list).unwrap()).unwrap();
        make(&open_root(dir).unwrap(), &document)
    }

    fn tree() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for path in ["edit", "kind", "d/e/f", "d/e/g", "swap/in"] {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "old").unwrap();
        }
        dir
    }

    #[test]
    fn files_come_change_swap_places_with_directories_and_go() {
        let dir = tree();
        let file = |bytes: &[u8]| side(Mode::File, bytes);
        let made = check(
            dir.path(),
            &[
                change(b"d/e/f", file(b"old"), None),
                change(b"d/e/g", file(b"old"), None),
                change(b"edit", file(b"old"), side(Mode::Executable, b"new")),
                change(b"kind", file(b"old"), None),
                change(b"kind/inside", None, side(Mode::Symlink, b"../edit")),
                change(b"new/deep/x", None, file(b"")),
                change(b"swap", None, file(b"a file now")),
                change(b"swap/in", file(b"old"), None),
            ],
        );
        assert_eq!(made.unwrap(), Made { entries: 4, disk_bytes: 3 * 4096 });
        let at = |path: &str| dir.path().join(path);
        assert!(!at("d").exists(), "directories that are left empty go");
        assert_eq!((std::fs::read(at("edit")).unwrap(), at("edit").metadata().unwrap().permissions().mode() & 0o777), (b"new".to_vec(), 0o755));
        assert_eq!(std::fs::read_link(at("kind/inside")).unwrap(), Path::new("../edit"));
        assert_eq!((std::fs::read(at("swap")).unwrap(), std::fs::read(at("new/deep/x")).unwrap()), (b"a file now".to_vec(), Vec::new()));
    }

    #[test]
    fn no_link_is_followed_and_nothing_is_written_over() {
        let outside = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("f"), "theirs").unwrap();
        let dir = tree();
        std::os::unix::fs::symlink(outside.path(), dir.path().join("out")).unwrap();
        let file = |bytes: &[u8]| side(Mode::File, bytes);
        for bad in [
            change(b"out/f", file(b"theirs"), None),
            change(b"out/f", file(b"theirs"), file(b"x")),
            change(b"out/new", None, file(b"x")),
            change(b"edit", None, file(b"x")),
            change(b"edit/below", None, file(b"x")),
            change(b"missing", file(b"old"), None),
            change(b"l", None, side(Mode::Symlink, b"")),
        ] {
            assert!(check(dir.path(), std::slice::from_ref(&bad)).is_err(), "{bad:?}");
        }
        assert_eq!(std::fs::read(outside.path().join("f")).unwrap(), b"theirs");
        assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 1);
        assert_eq!(std::fs::read(dir.path().join("edit")).unwrap(), b"old");
    }
}
