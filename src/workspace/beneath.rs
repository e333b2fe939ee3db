//! Files beneath a root, never through a symbolic link: not in the last component and not in any before it.
//!
//! `openat2` with `RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS` lets the kernel see to it in one call; where it is not
//! there (kernel before 5.6, or a seccomp filter that hides it) each component is opened on its own with `O_NOFOLLOW`.

use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

use crate::weaken;

/// A directory whose content is reached through its descriptor alone.
pub struct Root {
    fd: OwnedFd,
    no_openat2: AtomicBool,
}

const DIRECTORY: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// Splits a path at its last slash: parent (empty at the top) and name.
pub fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|b| *b == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (b"", path),
    }
}

impl Root {
    /// Opens the root itself by a path that was found to be free of links: `ELOOP` where one has come into it since.
    pub fn open(path: &Path) -> rustix::io::Result<Self> {
        let no_links = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let fd = match rustix::fs::openat2(rustix::fs::CWD, path, DIRECTORY, Mode::empty(), no_links) {
            Err(Errno::NOSYS | Errno::PERM | Errno::AGAIN) => rustix::fs::open(path, DIRECTORY | OFlags::NOFOLLOW, Mode::empty())?,
            Err(Errno::LOOP) if weaken::off("export.root_links") => rustix::fs::open(path, DIRECTORY, Mode::empty())?,
            other => other?,
        };
        Ok(Self { fd, no_openat2: AtomicBool::new(false) })
    }

    /// A directory beneath; the root itself for the empty path. `ELOOP`: a component is a symbolic link; `ENOTDIR`: another non-directory.
    pub fn dir(&self, path: &[u8]) -> rustix::io::Result<OwnedFd> {
        if path.is_empty() {
            return rustix::fs::openat(&self.fd, ".", DIRECTORY, Mode::empty());
        }
        if weaken::off("export.beneath") {
            return rustix::fs::openat(&self.fd, path, DIRECTORY, Mode::empty());
        }
        if !self.no_openat2.load(Ordering::Relaxed) {
            let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
            // EAGAIN: something was renamed meanwhile, the kernel asks to try again.
            for _ in 0..16 {
                match rustix::fs::openat2(&self.fd, path, DIRECTORY, Mode::empty(), beneath) {
                    Err(Errno::AGAIN) => {}
                    Err(Errno::NOSYS | Errno::PERM) => {
                        self.no_openat2.store(true, Ordering::Relaxed);
                        break;
                    }
                    other => return other,
                }
            }
        }
        self.walk(path)
    }

    /// [`Root::dir`] without `openat2`.
    fn walk(&self, path: &[u8]) -> rustix::io::Result<OwnedFd> {
        let mut at = rustix::fs::openat(&self.fd, ".", DIRECTORY, Mode::empty())?;
        for component in path.split(|b| *b == b'/') {
            if matches!(component, b"" | b"." | b"..") {
                return Err(Errno::XDEV);
            }
            at = match rustix::fs::openat(&at, component, DIRECTORY | OFlags::NOFOLLOW, Mode::empty()) {
                // O_DIRECTORY goes before O_NOFOLLOW: a link is told from other things by looking at it.
                Err(Errno::NOTDIR) if is_link(&lstat(&at, component)?) => return Err(Errno::LOOP),
                other => other?,
            };
        }
        Ok(at)
    }

    /// The entry at a path, not following it.
    pub fn lstat(&self, path: &[u8]) -> rustix::io::Result<Stat> {
        let (parent, name) = split(path);
        lstat(&self.dir(parent)?, name)
    }
}

/// A directory kept open while one path after the other is looked up: neighbours in a sorted list share their parent.
pub struct Cursor<'a> {
    root: &'a Root,
    last: Option<(Vec<u8>, rustix::io::Result<OwnedFd>)>,
}

impl<'a> Cursor<'a> {
    /// Nothing open yet.
    pub fn new(root: &'a Root) -> Self {
        Self { root, last: None }
    }

    /// The parent directory of a path, and the path's name in it.
    pub fn at<'p>(&mut self, path: &'p [u8]) -> rustix::io::Result<(&OwnedFd, &'p [u8])> {
        let (parent, name) = split(path);
        if !matches!(&self.last, Some((last, _)) if last == parent) {
            self.last = Some((parent.to_vec(), self.root.dir(parent)));
        }
        match &self.last {
            Some((_, Ok(fd))) => Ok((fd, name)),
            Some((_, Err(e))) => Err(*e),
            None => Err(Errno::IO),
        }
    }
}

/// The entry in a directory, not following it.
pub fn lstat(dir: &OwnedFd, name: &[u8]) -> rustix::io::Result<Stat> {
    rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)
}

/// What kind of entry.
pub fn kind(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

/// Whether it is a symbolic link.
pub fn is_link(stat: &Stat) -> bool {
    kind(stat) == FileType::Symlink
}

/// Bytes of an entry.
pub fn size(stat: &Stat) -> u64 {
    u64::try_from(stat.st_size).unwrap_or(0)
}

/// Opens a regular file for reading. Never blocks, never follows; anything else than a regular file is `ENOENT`-like [`Errno::NXIO`].
pub fn open_file(dir: &OwnedFd, name: &[u8]) -> rustix::io::Result<(std::fs::File, Stat)> {
    let mut flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    if weaken::off("export.nofollow") {
        flags -= OFlags::NOFOLLOW;
    }
    if weaken::off("export.nonblock") {
        flags -= OFlags::NONBLOCK;
    }
    let fd = rustix::fs::openat(dir.as_fd(), name, flags, Mode::empty())?;
    let stat = rustix::fs::fstat(&fd)?;
    if kind(&stat) != FileType::RegularFile && !weaken::off("export.regular_only") {
        return Err(Errno::NXIO);
    }
    Ok((fd.into(), stat))
}

/// The text of a symbolic link; `EINVAL` where it is none.
pub fn read_link(dir: &OwnedFd, name: &[u8]) -> rustix::io::Result<Vec<u8>> {
    rustix::fs::readlinkat(dir, name, Vec::new()).map(std::ffi::CString::into_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("a/b")).unwrap();
        std::fs::write(dir.path().join("a/b/file"), "x").unwrap();
        std::os::unix::fs::symlink("b", dir.path().join("a/link")).unwrap();
        std::os::unix::fs::symlink("/etc", dir.path().join("out")).unwrap();
        dir
    }

    #[test]
    fn no_link_is_followed_with_and_without_openat2() {
        let dir = tree();
        for no_openat2 in [false, true] {
            let root = Root::open(dir.path()).unwrap();
            root.no_openat2.store(no_openat2, Ordering::Relaxed);
            assert_eq!(size(&root.lstat(b"a/b/file").unwrap()), 1);
            assert!(is_link(&root.lstat(b"a/link").unwrap()));
            assert!(is_link(&root.lstat(b"out").unwrap()));
            assert_eq!(root.lstat(b"a/link/file").unwrap_err(), Errno::LOOP);
            assert_eq!(root.lstat(b"out/passwd").unwrap_err(), Errno::LOOP);
            assert_eq!(root.lstat(b"a/b/file/x").unwrap_err(), Errno::NOTDIR);
            assert_eq!(root.lstat(b"a/c/x").unwrap_err(), Errno::NOENT);
            assert!(root.dir(b"../etc").is_err());
            assert!(root.dir(b"/etc").is_err());
        }
    }

    #[test]
    fn only_regular_files_open_and_nothing_blocks() {
        let dir = tree();
        rustix::fs::mknodat(rustix::fs::CWD, dir.path().join("fifo"), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        let root = Root::open(dir.path()).unwrap();
        let top = root.dir(b"").unwrap();
        assert_eq!(open_file(&top, b"fifo").unwrap_err(), Errno::NXIO);
        assert_eq!(open_file(&top, b"out").unwrap_err(), Errno::LOOP);
        assert_eq!(read_link(&top, b"out").unwrap(), b"/etc");
        assert_eq!(read_link(&top, b"a").unwrap_err(), Errno::INVAL);
    }
}
