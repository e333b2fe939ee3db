//! What [`super::fetch`] puts into the user's git directory: one pack and one reference. Nothing else of ours writes there.
//!
//! Both go beneath the git directory and never through a link: a repository may have put one where they belong. Both are written whole beside their place
//! first, and a reference only after the pack that holds its commit is on the disk.

use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use rustix::fs::{AtFlags, Mode as Bits, OFlags};
use rustix::io::Errno;

use super::beneath::{Root, split};
use super::refs::References;
use super::repo::{Repository, unsafe_repository};
use crate::error::{Code, Error, Result};
use crate::protocol::manifest::ObjectId;

/// A pack that git has written, with its index.
pub struct Pack {
    /// Where.
    pub dir: PathBuf,
    /// `pack-<id>`, without the ending.
    pub name: String,
}

fn failed(e: Errno) -> Error {
    match e {
        Errno::LOOP | Errno::NOTDIR | Errno::XDEV => unsafe_repository("a link or a file stands in its git directory where a directory belongs"),
        e => Error::new(Code::WorktreeError, "write into the repository's git directory")
            .with_hint("see that it is writable and has free space")
            .with_source(e),
    }
}

fn open(repository: &Repository) -> Result<Root> {
    Root::open(&repository.common_dir).map_err(failed)
}

/// Puts a pack among the repository's objects; one that is there already is the same.
pub fn pack(repository: &Repository, pack: &Pack) -> Result<()> {
    let dir = make(&open(repository)?, b"objects/pack").map_err(failed)?;
    // The index goes last: git sees a pack by it.
    for ending in ["pack", "idx"] {
        let name = format!("{}.{ending}", pack.name);
        let mut from = std::fs::File::open(pack.dir.join(&name)).map_err(super::shadow::temporary)?;
        let own = format!("tmp_anchorhold-{}", uuid::Uuid::new_v4().simple());
        let put = || -> rustix::io::Result<()> {
            let mut to = create(&dir, &own)?;
            std::io::copy(&mut from, &mut to).and_then(|_| to.sync_all()).map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::IO))?;
            rustix::fs::fchmod(&to, Bits::from_raw_mode(0o444))?;
            rustix::fs::renameat(&dir, own.as_str(), &dir, name.as_str())
        };
        put_or_remove(&dir, &own, put).map_err(failed)?;
    }
    sync(&dir)
}

/// Makes a reference that is not there yet.
pub fn reference(repository: &Repository, references: &References<'_>, name: &str, id: &ObjectId) -> Result<()> {
    if let Some(done) = references.create_in_tables(name, id) {
        return done;
    }
    let (above, last) = split(name.as_bytes());
    let dir = make(&open(repository)?, above).map_err(failed)?;
    let last = String::from_utf8_lossy(last);
    let lock = format!("{last}.lock");
    let put = || -> rustix::io::Result<()> {
        let mut file = create(&dir, &lock)?;
        file.write_all(format!("{}\n", id.to_hex()).as_bytes())
            .and_then(|()| file.sync_all())
            .map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::IO))?;
        rustix::fs::renameat(&dir, lock.as_str(), &dir, last.as_ref())
    };
    match put_or_remove(&dir, &lock, put) {
        Ok(()) => sync(&dir),
        Err(Errno::EXIST) => Err(Error::new(Code::WorktreeError, "write the reference: somebody else is writing it just now")
            .with_hint(format!("try again; if nobody is, remove {name}.lock in the git directory"))),
        Err(e) => Err(failed(e)),
    }
}

/// Carries out a write; what it leaves under its temporary name is removed, unless it is somebody else's.
fn put_or_remove(dir: &OwnedFd, own: &str, put: impl FnOnce() -> rustix::io::Result<()>) -> rustix::io::Result<()> {
    put().inspect_err(|e| {
        if *e != Errno::EXIST {
            let _ = rustix::fs::unlinkat(dir, own, AtFlags::empty());
        }
    })
}

fn create(dir: &OwnedFd, name: &str) -> rustix::io::Result<std::fs::File> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(dir, name, flags, Bits::from_raw_mode(0o666))?.into())
}

/// A directory beneath the root; what is missing of it is made.
fn make(root: &Root, path: &[u8]) -> rustix::io::Result<OwnedFd> {
    let ends = path.iter().enumerate().filter(|(_, b)| **b == b'/').map(|(at, _)| at).chain([path.len()]);
    for end in ends {
        let part = path.get(..end).unwrap_or_default();
        let (above, name) = split(part);
        match rustix::fs::mkdirat(root.dir(above)?, name, Bits::from_raw_mode(0o777)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(e) => return Err(e),
        }
    }
    root.dir(path)
}

/// Names of a directory are on the disk only when it says so itself.
fn sync(dir: &OwnedFd) -> Result<()> {
    let open = rustix::fs::openat(dir, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Bits::empty());
    open.and_then(rustix::fs::fsync).map_err(failed)
}
