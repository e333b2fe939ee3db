//! What the job's volumes hold: bytes on disk and names, by walking them.

use std::io;
use std::path::Path;

use rustix::fs::{AtFlags, Dir, FileType, Mode as FileMode, OFlags, openat, statat};
use serde::{Deserialize, Serialize};

/// Levels that are entered; each costs a descriptor and a buffer. Below, anything could hide, so it is reported.
const DEEPEST: usize = 6_000;

/// What some directories hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Usage {
    /// Bytes on disk; hard links count their share.
    pub bytes: u64,
    /// Files, directories, links and everything else with a name.
    pub inodes: u64,
    /// There are directories too deep to be looked into.
    pub too_deep: bool,
    /// The newest change of any of them, in seconds since 1970; the agent cannot set it (`ctime`).
    #[serde(default)]
    pub newest: u64,
}

/// Measures without following links, and without stopping at what vanishes while the agent works.
pub fn usage(roots: &[&Path]) -> io::Result<Usage> {
    super::privileges::raise_descriptor_limit();
    let mut total = Usage::default();
    for root in roots {
        measure(root, DEEPEST, &mut total)?;
    }
    Ok(total)
}

/// When it was last changed, in seconds since 1970.
fn changed(stat: &rustix::fs::Stat) -> u64 {
    u64::try_from(stat.st_ctime).unwrap_or(0)
}

fn measure(root: &Path, deepest: usize, total: &mut Usage) -> io::Result<()> {
    let top = super::part::open_root(root)?;
    // A name that went is told by its directory alone.
    total.newest = total.newest.max(changed(&rustix::fs::fstat(&top)?));
    let mut levels = vec![Dir::new(top)?];
    while let Some(dir) = levels.last_mut() {
        let Some(Ok(item)) = dir.read() else {
            levels.pop();
            continue;
        };
        if matches!(item.file_name().to_bytes(), b"." | b"..") {
            continue;
        }
        let Ok(stat) = statat(dir.fd()?, item.file_name(), AtFlags::SYMLINK_NOFOLLOW) else { continue };
        let blocks = u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512);
        #[expect(clippy::useless_conversion, reason = "the field types differ between architectures")]
        let links = u64::from(stat.st_nlink).max(1);
        let is_dir = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        total.bytes = total.bytes.saturating_add(if is_dir { blocks } else { blocks / links });
        total.inodes = total.inodes.saturating_add(1);
        total.newest = total.newest.max(changed(&stat));
        if !is_dir {
            continue;
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = if levels.len() < deepest {
            let parent = levels.last().map(Dir::fd).transpose()?;
            parent.map(|parent| openat(parent, item.file_name(), flags, FileMode::empty()))
        } else {
            Some(Err(rustix::io::Errno::MFILE))
        };
        match opened {
            Some(Ok(fd)) => levels.push(Dir::new(fd)?),
            Some(Err(rustix::io::Errno::MFILE | rustix::io::Errno::NFILE)) => total.too_deep = true,
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    #[test]
    fn what_is_on_disk_counts() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("d")).unwrap();
        std::fs::write(dir.path().join("d/f"), vec![7; 300_000]).unwrap();
        std::fs::hard_link(dir.path().join("d/f"), dir.path().join("g")).unwrap();
        File::create(dir.path().join("sparse")).unwrap().set_len(1 << 40).unwrap();
        std::os::unix::fs::symlink("/", dir.path().join("out")).unwrap();
        let usage = usage(&[dir.path()]).unwrap();
        assert!((300_000..400_000).contains(&usage.bytes), "{usage:?}");
        assert_eq!((usage.inodes, usage.too_deep), (5, false));
    }

    #[test]
    fn what_lies_too_deep_is_reported() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("a/b/c/d")).unwrap();
        let mut total = Usage::default();
        measure(dir.path(), 3, &mut total).unwrap();
        assert_eq!((total.inodes, total.too_deep), (3, true));
        let mut total = Usage::default();
        measure(dir.path(), 5, &mut total).unwrap();
        assert_eq!((total.inodes, total.too_deep), (4, false));
    }
}
