//! Files that the index does not list: those that nobody ignores, and those that `.worktreeinclude` asks for.
//!
//! git walks the tree in the shadow, so that the rules are git's own. Rules are the `.gitignore` files, the repository's `info/exclude` and the user's own
//! list; what the repository's configuration names is not read.

use std::io::Read as _;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::beneath::{self, Root};
use super::listing::{self, Extra};
use super::repo::{Repository, read_small};
use super::run::{run, run_ok_within};
use super::send::Origin;
use super::shadow::{Shadow, temporary};
use crate::config::WorkspaceSettings;
use crate::error::{Code, Error, Result};

/// The file with the patterns, at the top of the working tree.
pub const INCLUDE_FILE: &[u8] = b".worktreeinclude";
/// Its largest size.
pub const MAX_INCLUDE: u64 = 64 << 10;
/// Largest list of ignore rules outside of the tree.
const MAX_EXCLUDE: u64 = 1 << 20;

/// Untracked files that no rule excludes. A repository of its own is one path with a slash at its end.
pub fn others(shadow: &Shadow, repository: &Repository, caps: &WorkspaceSettings) -> Result<Vec<Extra>> {
    let at = shadow.path();
    let own = optional(&repository.common_dir.join("info/exclude"))?;
    std::fs::write(at.join("info/exclude"), own).map_err(temporary)?;
    let users = match users_list() {
        // One that cannot be read is passed over, as git does.
        Some(path) => optional(&path).unwrap_or_default(),
        None => Vec::new(),
    };
    std::fs::write(at.join("info/exclude-user"), users).map_err(temporary)?;
    let mut setting = std::ffi::OsString::from("core.excludesFile=");
    setting.push(at.join("info/exclude-user"));
    let how = ["--others".as_ref(), "--exclude-standard".as_ref()];
    list(shadow, repository, caps, &["-c".as_ref(), &setting, "ls-files".as_ref()], &how, Origin::Untracked)
}

/// Untracked files, ignored or not, that match the patterns in the working tree's `.worktreeinclude`.
pub fn included(shadow: &Shadow, repository: &Repository, root: &Root, caps: &WorkspaceSettings) -> Result<Vec<Extra>> {
    match patterns(root)? {
        Some(patterns) => matching(shadow, repository, caps, &patterns),
        None => Ok(Vec::new()),
    }
}

/// Untracked files, ignored or not, that match patterns in the syntax of `.gitignore`.
pub fn matching(shadow: &Shadow, repository: &Repository, caps: &WorkspaceSettings, patterns: &[u8]) -> Result<Vec<Extra>> {
    let file = shadow.path().join("info/include");
    std::fs::write(&file, patterns).map_err(temporary)?;
    let mut from = std::ffi::OsString::from("--exclude-from=");
    from.push(&file);
    let how = ["--others".as_ref(), "--ignored".as_ref(), from.as_os_str()];
    let mut found = list(shadow, repository, caps, &["ls-files".as_ref()], &how, Origin::Included)?;
    // A repository of its own is not walked: it cannot be taken in.
    found.retain(|extra| !extra.path.ends_with(b"/"));
    Ok(found)
}

fn list(
    shadow: &Shadow,
    repository: &Repository,
    caps: &WorkspaceSettings,
    command: &[&std::ffi::OsStr],
    how: &[&std::ffi::OsStr],
    origin: Origin,
) -> Result<Vec<Extra>> {
    let mut git = shadow.git();
    git.env("GIT_WORK_TREE", &repository.top).args(command).args(["-z", "--full-name"]).args(how);
    let output = run_ok_within(git, "list the untracked files", Code::WorktreeError, listing::bounds(caps))?;
    let paths = output.split(|b| *b == 0).filter(|path| !path.is_empty());
    Ok(paths.map(|path| Extra { path: path.to_vec(), origin }).collect())
}

/// The patterns of the working tree; `None`: there is no such file. Only a regular file counts, no link.
fn patterns(root: &Root) -> Result<Option<Vec<u8>>> {
    let opened = root.dir(b"").and_then(|top| beneath::open_file(&top, INCLUDE_FILE));
    let refused = |why: &str| {
        Error::new(Code::WorktreeError, format!("read .worktreeinclude: {why}")).with_hint("make it a small text file, or leave ignored files out")
    };
    let mut text = Vec::new();
    match opened {
        Ok((file, _)) => file.take(MAX_INCLUDE + 1).read_to_end(&mut text).map_err(|e| refused("it cannot be read").with_source(e))?,
        Err(Errno::NOENT) => return Ok(None),
        Err(_) => return Err(refused("it is not a regular file")),
    };
    if text.len() as u64 > MAX_INCLUDE {
        return Err(refused("it is over 64 KiB"));
    }
    Ok(Some(text))
}

fn optional(path: &Path) -> Result<Vec<u8>> {
    match read_small(path, MAX_EXCLUDE) {
        Ok(text) => Ok(text),
        Err(e) if matches!(e.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => Ok(Vec::new()),
        // Without it, files would count as untracked that the user ignores.
        Err(e) => Err(Error::new(Code::WorktreeError, "read the repository's info/exclude").with_source(e)),
    }
}

/// The user's own `core.excludesFile`, else git's default for it.
fn users_list() -> Option<PathBuf> {
    let home = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let mut command = crate::process::command("git", Path::new("/"));
    for name in ["HOME", "XDG_CONFIG_HOME"] {
        if let Some(value) = home(name) {
            command.env(name, value);
        }
    }
    // A GIT_DIR that does not exist: no repository is looked for.
    command.env("GIT_DIR", "/dev/null").args(["config", "--global", "--type=path", "-z", "--get", "core.excludesFile"]);
    if let Ok(output) = run(command, None, "read core.excludesFile")
        && output.status.success()
        && let Some(value) = output.stdout.strip_suffix(b"\0")
    {
        return Some(PathBuf::from(std::ffi::OsString::from_vec(value.to_vec()))).filter(|path| path.is_absolute());
    }
    let config = home("XDG_CONFIG_HOME").or_else(|| Some(home("HOME")?.join(".config")));
    config.map(|dir| dir.join("git/ignore"))
}
