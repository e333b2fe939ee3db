//! The agent's name: `/etc/passwd` and `/etc/group` of a cell.
//!
//! Each job has a uid of its own, and many programs fail without a name for it (`whoami`, `getpass.getuser()`, ssh, npm). The image's root is
//! read-only and the same for all, so its two files are links to these, on a volume where only root writes: the agent cannot give itself another name.

use std::fs;
use std::io::{self, Read as _};
use std::path::Path;

use super::home::own_directory;
use crate::protocol::paths;

/// The agent's name.
const NAME: &str = "agent";
/// Longest list of the image's own users that is taken over.
const MAX_IMAGE: u64 = 256 << 10;
/// What stands there where an image brings no list.
const BARE_USERS: &str = "root:x:0:0:root:/root:/usr/sbin/nologin\n";
const BARE_GROUPS: &str = "root:x:0:\n";

/// Writes both files. PID 1 is their owner.
pub(super) fn prepare(uid: u32) -> io::Result<()> {
    write(Path::new(paths::NAMES), Path::new("/etc"), uid)
}

fn write(target: &Path, image: &Path, uid: u32) -> io::Result<()> {
    own_directory(target, 0o755)?;
    let users = format!("{NAME}:x:{uid}:{uid}:{NAME}:{}:/bin/bash\n", paths::HOME);
    let groups = format!("{NAME}:x:{uid}:\n");
    for (file, bare, own) in [("passwd", BARE_USERS, users), ("group", BARE_GROUPS, groups)] {
        let listed = read(&image.join(format!("{file}.image"))).unwrap_or_else(|| bare.to_owned());
        // The first line with a name or a number counts.
        let path = target.join(file);
        fs::write(&path, own + &listed)?;
        set_mode(&path)?;
    }
    Ok(())
}

fn read(path: &Path) -> Option<String> {
    let mut text = String::new();
    fs::File::open(path).ok()?.take(MAX_IMAGE).read_to_string(&mut text).ok()?;
    Some(text)
}

fn set_mode(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(path, fs::Permissions::from_mode(0o644))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_agent_comes_first_and_the_images_users_stay() {
        let dir = tempfile::tempdir().unwrap();
        let (target, image) = (dir.path().join("etc"), dir.path().join("image"));
        fs::create_dir(&image).unwrap();
        fs::write(image.join("passwd.image"), "root:x:0:0::/root:/bin/sh\nagent:x:5:5::/:/bin/sh\n").unwrap();
        write(&target, &image, 2_000_007).unwrap();
        let users = fs::read_to_string(target.join("passwd")).unwrap();
        assert_eq!(users.lines().next(), Some("agent:x:2000007:2000007:agent:/job/home:/bin/bash"));
        assert!(users.contains("root:x:0:0::/root"));
        assert_eq!(fs::read_to_string(target.join("group")).unwrap(), format!("agent:x:2000007:\n{BARE_GROUPS}"));
        // A second start, on what the first one left.
        write(&target, &image, 2_000_007).unwrap();
    }
}
