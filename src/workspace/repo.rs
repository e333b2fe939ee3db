//! Finds the user's repository without git, and decides whether it may be read.
//!
//! git's own discovery reads the configuration it finds on the way; ours looks for a `.git` directory, or a `.git` file with `gitdir:`
//! (linked worktrees, submodules), and never at `core.worktree`.

use std::io::Read as _;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use crate::error::{Code, Error, Result};

/// Where a repository's parts lie; all paths are absolute and free of links.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repository {
    /// Top of the working tree.
    pub top: PathBuf,
    /// The worktree's own git directory: HEAD and index.
    pub git_dir: PathBuf,
    /// The git directory shared by all worktrees: objects, refs, config.
    pub common_dir: PathBuf,
}

impl Repository {
    /// Whether the git directory belongs to this working tree: it lies beneath it, or says so itself (a linked worktree by its `gitdir` file, a
    /// submodule by `core.worktree`). A `.git` file alone may point at any repository of the caller's.
    pub fn is_own(&self, work_tree: Option<&[u8]>) -> bool {
        if self.git_dir.starts_with(&self.top) && self.common_dir.starts_with(&self.top) {
            return true;
        }
        let same = |path: PathBuf| path.canonicalize().is_ok_and(|real| real == self.top);
        if self.git_dir != self.common_dir {
            // Beneath `worktrees/` of the common directory, or else the common directory has no part in it.
            let listed = self.git_dir.parent().is_some_and(|parent| parent == self.common_dir.join("worktrees"));
            let back = read_small(&self.git_dir.join("gitdir"), MAX_POINTER).unwrap_or_default();
            let back = self.git_dir.join(std::ffi::OsStr::from_bytes(back.trim_ascii()));
            return listed && back.file_name() == Some(".git".as_ref()) && back.parent().is_some_and(|dir| same(dir.to_owned()));
        }
        work_tree.is_some_and(|path| same(self.git_dir.join(std::ffi::OsStr::from_bytes(path))))
    }
}

/// Longest `.git` or `commondir` file that is read.
const MAX_POINTER: u64 = 8192;

/// Checks a caller's `workspace_root` and returns it free of links.
pub fn check_root(root: &Path) -> Result<PathBuf> {
    let invalid = |why: &str| {
        Error::new(Code::InvalidWorkspaceRoot, format!("use the workspace root: {why}"))
            .with_hint("pass the absolute path of an existing directory inside a git repository")
            .with_detail("field", "workspace_root")
    };
    if !root.is_absolute() {
        return Err(invalid("it is not an absolute path"));
    }
    let real = root.canonicalize().map_err(|e| invalid("it does not exist or cannot be reached").with_source(e))?;
    if !real.is_dir() {
        return Err(invalid("it is not a directory"));
    }
    if real == Path::new("/") {
        return Err(invalid("the root of the file system is refused"));
    }
    Ok(real)
}

/// Walks up from a checked directory to the repository that it lies in, and refuses one that is not the caller's.
pub fn find(start: &Path) -> Result<Repository> {
    let mut at = Some(start);
    while let Some(dir) = at {
        let dot_git = dir.join(".git");
        // Stricter than git, which goes on to the directories above when a `.git` is broken: the next repository there may be another one (a
        // home directory under version control), and its files were not asked for.
        if is_there(&dot_git)? {
            if dir == Path::new("/") {
                return Err(unsafe_repository("its top is the root of the file system"));
            }
            let found = std::fs::metadata(&dot_git).map_err(unreadable)?;
            let git_dir = if found.is_dir() { dot_git } else { follow_pointer(&dot_git, dir)? };
            if crate::weaken::off("export.discovery") && !is_git_dir(&git_dir) {
                at = dir.parent();
                continue;
            }
            return open(dir, &git_dir);
        }
        if is_git_dir(dir) {
            return Err(Error::new(
                Code::WorktreeError,
                "read the repository: it is bare (or the workspace root lies in a git directory), there is no working tree",
            )
            .with_hint("make a working tree with `git worktree add` and pass its path"));
        }
        at = dir.parent();
    }
    Err(Error::new(Code::NotAGitRepo, "find a git repository: neither the workspace root nor a directory above it holds one")
        .with_hint("run `git init && git add -A && git commit -m start` there, or pass a directory inside a repository"))
}

fn is_there(dot_git: &Path) -> Result<bool> {
    match dot_git.symlink_metadata() {
        Ok(_) => Ok(true),
        Err(e) if matches!(e.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => Ok(false),
        Err(e) => Err(unreadable(e)),
    }
}

fn unreadable(e: std::io::Error) -> Error {
    Error::new(Code::WorktreeError, "read the repository: its git directory is not there or cannot be read")
        .with_hint("`git worktree repair` mends a moved worktree; a `.git` that belongs to no repository must go")
        .with_source(e)
}

fn is_git_dir(dir: &Path) -> bool {
    let common = common_dir(dir).unwrap_or_else(|_| dir.to_owned());
    dir.join("HEAD").symlink_metadata().is_ok() && common.join("objects").is_dir() && common.join("refs").symlink_metadata().is_ok()
}

fn open(top: &Path, git_dir: &Path) -> Result<Repository> {
    let git_dir = git_dir.canonicalize().map_err(unreadable)?;
    let common_dir = common_dir(&git_dir)?.canonicalize().map_err(unreadable)?;
    if !is_git_dir(&git_dir) {
        return Err(unreadable(std::io::ErrorKind::NotFound.into()));
    }
    let repository = Repository { top: top.to_owned(), git_dir, common_dir };
    check_owner(&repository)?;
    Ok(repository)
}

/// `gitdir: <path>`, relative to the directory of the file.
fn follow_pointer(file: &Path, dir: &Path) -> Result<PathBuf> {
    let broken =
        || Error::new(Code::WorktreeError, "read the repository: its .git file has no gitdir line").with_hint("`git worktree repair` may mend it");
    let text = read_small(file, MAX_POINTER).map_err(|e| broken().with_source(e))?;
    let target = text.strip_prefix(b"gitdir:").ok_or_else(broken)?.trim_ascii();
    Ok(dir.join(std::ffi::OsStr::from_bytes(target)))
}

fn common_dir(git_dir: &Path) -> Result<PathBuf> {
    match read_small(&git_dir.join("commondir"), MAX_POINTER) {
        Ok(text) => Ok(git_dir.join(std::ffi::OsStr::from_bytes(text.trim_ascii()))),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(git_dir.to_owned()),
        Err(e) => Err(Error::new(Code::WorktreeError, "read the repository: its commondir file cannot be read").with_source(e)),
    }
}

/// Opens a file of a git directory for reading: only a regular file, never blocking on a FIFO.
pub fn open_regular(path: &Path) -> std::io::Result<std::fs::File> {
    let flags = i32::try_from((rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOCTTY).bits()).unwrap_or(0);
    if crate::weaken::off("export.git_dir_files") {
        return std::fs::File::open(path);
    }
    let file = std::fs::OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(std::io::Error::new(std::io::ErrorKind::InvalidData, "not a regular file"));
    }
    Ok(file)
}

/// Reads a regular file of at most `max` bytes.
pub fn read_small(path: &Path, max: u64) -> std::io::Result<Vec<u8>> {
    let mut text = Vec::new();
    open_regular(path)?.take(max + 1).read_to_end(&mut text)?;
    if text.len() as u64 > max {
        return Err(std::io::Error::new(std::io::ErrorKind::InvalidData, "larger than expected"));
    }
    Ok(text)
}

pub(super) fn unsafe_repository(why: &str) -> Error {
    Error::new(Code::UnsafeRepository, format!("read the repository: {why}"))
}

/// git's rule of `safe.directory`: who owns a repository decides what git does in it.
fn check_owner(repository: &Repository) -> Result<()> {
    check_owners(&repository.top, &[&repository.top, &repository.git_dir, &repository.common_dir], "it belongs to another user")
}

/// Refuses parts of a repository that belong to another user, unless the caller's own configuration trusts it.
pub fn check_owners(top: &Path, parts: &[&Path], why: &str) -> Result<()> {
    let owner = |path: &Path| std::fs::metadata(path).map(|m| m.uid());
    let me = rustix::process::geteuid().as_raw();
    let mut mine = vec![me];
    if me == 0 {
        mine.extend(std::env::var("SUDO_UID").ok().and_then(|uid| uid.parse::<u32>().ok()));
    }
    let foreign = parts.iter().any(|path| owner(path).map_or(true, |uid| !mine.contains(&uid)));
    if !foreign || crate::weaken::off("export.owner") || is_listed(top, &safe_directories()) {
        return Ok(());
    }
    Err(unsafe_repository(why).with_hint(format!("if you trust it: git config --global --add safe.directory {}", top.display())))
}

/// The allowed roots are walls for all that is read: the top may lie above the caller's directory, and a git directory anywhere.
pub fn check_roots(roots: &[PathBuf], parts: &[&Path]) -> Result<()> {
    if roots.is_empty() || crate::weaken::off("export.roots") {
        return Ok(());
    }
    let allowed: Vec<PathBuf> = roots.iter().filter_map(|root| root.canonicalize().ok()).collect();
    if parts.iter().all(|part| allowed.iter().any(|root| part.starts_with(root))) {
        return Ok(());
    }
    Err(Error::new(Code::WorkspaceOutsideRoots, "read the repository: part of it lies outside of the allowed roots")
        .with_hint("its top, its git directory and its alternate objects must all lie beneath one of the roots")
        .with_detail("field", "workspace_root")
        .with_detail("candidate_roots", roots.iter().map(|root| root.display().to_string()).collect::<Vec<_>>()))
}

/// The user's own list; their global configuration is theirs to trust, the repository's is not asked.
fn safe_directories() -> Vec<Vec<u8>> {
    let mut command = crate::process::command("git", Path::new("/"));
    for name in ["HOME", "XDG_CONFIG_HOME"] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    // A GIT_DIR that does not exist: no repository is looked for.
    command.env("GIT_DIR", "/dev/null").args(["config", "--global", "--type=path", "-z", "--get-all", "safe.directory"]);
    match super::run::run(command, None, "read safe.directory") {
        Ok(output) if output.status.success() => {
            output.stdout.strip_suffix(b"\0").unwrap_or(&output.stdout).split(|b| *b == 0).map(<[u8]>::to_vec).collect()
        }
        _ => Vec::new(),
    }
}

/// git's reading of the list: an empty value forgets those before it, `*` is all, `dir/*` all beneath.
fn is_listed(top: &Path, list: &[Vec<u8>]) -> bool {
    let mut listed = false;
    for value in list {
        let value = value.as_slice();
        if value.is_empty() {
            listed = false;
        } else if value == b"*" {
            listed = true;
        } else if let Some(prefix) = value.strip_suffix(b"/*") {
            listed |= top.starts_with(PathBuf::from(std::ffi::OsString::from_vec(prefix.to_vec()))) && top.as_os_str().as_bytes() != prefix;
        } else {
            let named = Path::new(std::ffi::OsStr::from_bytes(value));
            listed |= named == top || named.canonicalize().is_ok_and(|real| real == top);
        }
    }
    listed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roots_that_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("file"), "").unwrap();
        for bad in [Path::new("relative"), Path::new("/"), &dir.path().join("missing"), &dir.path().join("file")] {
            assert_eq!(check_root(bad).unwrap_err().code, Code::InvalidWorkspaceRoot, "{bad:?}");
        }
        assert_eq!(find(&check_root(dir.path()).unwrap()).unwrap_err().code, Code::NotAGitRepo);
    }

    #[test]
    fn safe_directory_values_are_read_as_git_reads_them() {
        let top = Path::new("/srv/code/repo");
        let listed = |values: &[&str]| is_listed(top, &values.iter().map(|v| v.as_bytes().to_vec()).collect::<Vec<_>>());
        assert!(listed(&["*"]) && listed(&["/srv/code/repo"]) && listed(&["/srv/code/*"]) && listed(&["/srv/*"]));
        assert!(!listed(&[]) && !listed(&["*", ""]) && !listed(&["/srv/code"]) && !listed(&["/srv/code/repo/*"]) && !listed(&["/srv/co*"]));
    }

    #[test]
    fn a_broken_git_directory_does_not_lead_to_the_repository_above() {
        let dir = tempfile::tempdir().unwrap();
        for sub in [".git/objects", ".git/refs", "in/empty/.git", "in/dangling", "in/loop"] {
            std::fs::create_dir_all(dir.path().join(sub)).unwrap();
        }
        std::fs::write(dir.path().join(".git/HEAD"), "ref: refs/heads/main").unwrap();
        std::os::unix::fs::symlink("nowhere", dir.path().join("in/dangling/.git")).unwrap();
        std::os::unix::fs::symlink(".git", dir.path().join("in/loop/.git")).unwrap();
        let root = check_root(dir.path()).unwrap();
        assert_eq!(find(&root.join("in")).unwrap().top, root);
        for broken in ["empty", "dangling", "loop"] {
            assert_eq!(find(&root.join("in").join(broken)).unwrap_err().code, Code::WorktreeError, "{broken}");
        }
    }

    #[test]
    fn roots_are_walls_for_every_part() {
        let dir = tempfile::tempdir().unwrap();
        let real = dir.path().canonicalize().unwrap();
        std::fs::create_dir(real.join("in")).unwrap();
        assert!(check_roots(&[], &[Path::new("/etc")]).is_ok());
        assert!(check_roots(&[real.join("in")], &[&real.join("in"), &real.join("in/x")]).is_ok());
        for part in [real.clone(), real.join("inside"), "/etc".into()] {
            assert_eq!(check_roots(&[real.join("in")], &[&real.join("in"), &part]).unwrap_err().code, Code::WorkspaceOutsideRoots);
        }
        assert!(check_roots(&[real.join("missing")], &[&real]).is_err());
    }

    #[test]
    fn a_git_file_without_gitdir_is_named() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(".git"), "nonsense").unwrap();
        let root = check_root(dir.path()).unwrap();
        assert_eq!(find(&root).unwrap_err().code, Code::WorktreeError);
        std::fs::write(dir.path().join(".git"), "gitdir: nowhere\n").unwrap();
        assert_eq!(find(&root).unwrap_err().code, Code::WorktreeError);
    }
}
