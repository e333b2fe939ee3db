//! Temporary git directories that do not outlive the process for long.
//!
//! Whoever makes one holds a lock on it. The kernel releases that when the process dies, however it dies; a later process takes a directory whose
//! lock is free for one that nobody needs any more, and removes it.

use std::fs::File;
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::time::Duration;

use rustix::fs::{FlockOperation, Mode, OFlags, flock, open};

const PREFIX: &str = "anchorhold-git-";
/// A younger one may just be being made and not be locked yet.
const YOUNG: Duration = Duration::from_secs(10);

/// A new directory, mode 0700; removed when dropped.
pub struct Scratch {
    dir: tempfile::TempDir,
    _held: File,
}

impl Scratch {
    /// Makes one where temporary files go.
    pub fn new() -> io::Result<Self> {
        let dir = tempfile::Builder::new().prefix(PREFIX).permissions(std::fs::Permissions::from_mode(0o700)).tempdir()?;
        let held = directory(dir.path())?;
        // Some file systems have no locks; there a directory is left when its process is killed.
        let _ = flock(&held, FlockOperation::NonBlockingLockExclusive);
        Ok(Self { dir, _held: held })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }
}

/// Removes the directories that dead processes of this user left; how many.
pub fn sweep() -> u64 {
    sweep_in(&std::env::temp_dir(), YOUNG)
}

fn sweep_in(place: &Path, young: Duration) -> u64 {
    let Ok(entries) = std::fs::read_dir(place) else { return 0 };
    let ours = entries.flatten().filter(|entry| entry.file_name().to_str().is_some_and(|name| name.starts_with(PREFIX)));
    ours.filter(|entry| remove_if_left(&entry.path(), young).unwrap_or(false)).count() as u64
}

fn remove_if_left(path: &Path, young: Duration) -> io::Result<bool> {
    let held = directory(path)?;
    let meta = held.metadata()?;
    let of_this_user = meta.uid() == rustix::process::geteuid().as_raw() && meta.mode() & 0o777 == 0o700;
    let old = meta.modified()?.elapsed().is_ok_and(|age| age >= young);
    if !of_this_user || !old || flock(&held, FlockOperation::NonBlockingLockExclusive).is_err() {
        return Ok(false);
    }
    // Follows no link on the way down.
    std::fs::remove_dir_all(path)?;
    Ok(true)
}

/// A directory itself, not one that a link leads to.
fn directory(path: &Path) -> io::Result<File> {
    Ok(open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_holds_is_removed_and_nothing_else() {
        let place = tempfile::tempdir().unwrap();
        let make = |name: &str, mode| {
            let path = place.path().join(name);
            std::fs::create_dir_all(path.join("objects/pack")).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            path
        };
        let left = make("anchorhold-git-left", 0o700);
        let held = make("anchorhold-git-held", 0o700);
        let open = make("anchorhold-git-open", 0o755);
        let other = make("other", 0o700);
        std::os::unix::fs::symlink(&other, place.path().join("anchorhold-git-link")).unwrap();
        let lock = directory(&held).unwrap();
        flock(&lock, FlockOperation::NonBlockingLockExclusive).unwrap();
        assert_eq!(sweep_in(place.path(), Duration::from_secs(600)), 0, "they are young");
        assert_eq!(sweep_in(place.path(), Duration::ZERO), 1);
        assert!(!left.exists() && held.exists() && open.exists() && other.exists());
        drop(lock);
        assert_eq!(sweep_in(place.path(), Duration::ZERO), 1);
        assert!(!held.exists());
    }

    #[test]
    fn one_that_is_in_use_is_locked_and_goes_when_it_is_dropped() {
        let scratch = Scratch::new().unwrap();
        let path = scratch.path().to_owned();
        assert!(!remove_if_left(&path, Duration::ZERO).unwrap());
        drop(scratch);
        assert!(!path.exists());
    }
}
