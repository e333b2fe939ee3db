//! What the tests of this module share: real repositories, snapshots unpacked again, trees as maps.

mod apply;
mod crafted;
mod fetch;
mod hostile;
mod patch;
mod property;
mod review;
mod review_hostile;
mod send;
mod snapshot;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use super::{Collected, Plan, SnapshotSummary};
use crate::config::WorkspaceSettings;
use crate::error::Result;
use crate::protocol::changes::{Change, Side};
use crate::protocol::manifest::{Entry, Frame, Manifest, ManifestCaps, Mode, ObjectFormat};
use crate::protocol::repo_path::RepoPath;

/// Path bytes to mode and content; a submodule's content is empty.
pub type Tree = BTreeMap<Vec<u8>, Content>;

pub fn os(bytes: &[u8]) -> &OsStr {
    OsStr::from_bytes(bytes)
}

/// A user's git: the repository's configuration is in force, the machine's is not.
pub fn git_command(dir: &Path, args: &[&str]) -> Command {
    let mut command = crate::process::command("git", dir);
    command.env("HOME", "/nonexistent").env("GIT_CONFIG_NOSYSTEM", "1").args(args);
    for role in ["AUTHOR", "COMMITTER"] {
        command.env(format!("GIT_{role}_NAME"), "Tester").env(format!("GIT_{role}_EMAIL"), "tester@example.com");
    }
    command
}

pub fn git_output(dir: &Path, args: &[&str]) -> Output {
    git_command(dir, args).output().unwrap()
}

pub fn git(dir: &Path, args: &[&str]) -> String {
    let output = git_output(dir, args);
    assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
}

/// A repository in a directory of its own; `outside` lies beside it.
pub struct Repo {
    base: tempfile::TempDir,
}

impl Repo {
    pub fn empty(args: &[&str]) -> Self {
        let repo = Self { base: tempfile::tempdir().unwrap() };
        std::fs::create_dir(repo.top()).unwrap();
        git(&repo.top(), &[&["init", "-q", "-b", "main"], args].concat());
        repo
    }

    /// With a few committed files.
    pub fn new() -> Self {
        let repo = Self::empty(&[]);
        repo.write("a.txt", "one\ntwo\n");
        repo.write("dir/b.txt", "b\n");
        repo.write("dir/deep/c.txt", "c\n");
        repo.commit("Start here\n\nBody.");
        repo
    }

    pub fn base(&self) -> PathBuf {
        self.base.path().canonicalize().unwrap()
    }

    pub fn top(&self) -> PathBuf {
        self.base.path().canonicalize().unwrap().join("repo")
    }

    pub fn path(&self, path: impl AsRef<[u8]>) -> PathBuf {
        self.top().join(os(path.as_ref()))
    }

    pub fn write(&self, path: impl AsRef<[u8]>, content: impl AsRef<[u8]>) {
        write_file(&self.path(path), content.as_ref());
    }

    pub fn link(&self, path: impl AsRef<[u8]>, target: impl AsRef<[u8]>) {
        std::os::unix::fs::symlink(os(target.as_ref()), self.path(path)).unwrap();
    }

    pub fn remove(&self, path: impl AsRef<[u8]>) {
        std::fs::remove_file(self.path(path)).unwrap();
    }

    pub fn git(&self, args: &[&str]) -> String {
        git(&self.top(), args)
    }

    pub fn commit(&self, message: &str) {
        self.git(&["add", "-A"]);
        self.git(&["commit", "-q", "--no-verify", "-m", message]);
    }

    pub fn plan(&self) -> Result<Plan> {
        super::plan(&self.top(), &WorkspaceSettings::default())
    }

    pub fn snapshot(&self) -> Snapshot {
        unpack(self.plan().unwrap())
    }
}

pub fn write_file(path: &Path, content: &[u8]) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, content).unwrap();
}

/// A snapshot as the other side sees it.
pub struct Snapshot {
    pub manifest: Manifest,
    pub tree: Tree,
    pub summary: SnapshotSummary,
}

/// Packs, then unpacks by the manifest alone; checks every id and every size on the way.
pub fn unpack(plan: Plan) -> Snapshot {
    let mut frames: Vec<Vec<u8>> = Vec::new();
    let packed = super::pack(plan, &mut |index, frame| {
        assert_eq!(index as usize, frames.len());
        frames.push(frame);
        Ok(())
    })
    .unwrap();
    let manifest = Manifest::read(packed.manifest.as_slice(), ManifestCaps::default()).unwrap();
    use sha2::Digest as _;
    assert_eq!(packed.manifest_sha256, crate::protocol::manifest::hex(&sha2::Sha256::digest(&packed.manifest)));
    assert_eq!(manifest.frames.len(), frames.len());
    let plain: Vec<Vec<u8>> = frames.iter().map(|f| zstd::decode_all(f.as_slice()).unwrap()).collect();
    for ((said, zstd), plain) in manifest.frames.iter().zip(&frames).zip(&plain) {
        assert_eq!((said.compressed, said.plain), (zstd.len() as u64, plain.len() as u64));
        assert_eq!(zstd[4] & 4, 4, "the frame carries a checksum (RFC 8878, 3.1.1.1.1)");
    }
    let mut tree = Tree::new();
    for entry in &manifest.entries {
        let content = match entry.mode {
            Mode::Submodule => Vec::new(),
            _ => {
                let at = usize::try_from(entry.offset).unwrap();
                let content = plain[entry.frame as usize][at..at + usize::try_from(entry.size).unwrap()].to_vec();
                assert_eq!(entry.id, manifest.format.hash("blob", &content));
                content
            }
        };
        tree.insert(entry.path.as_bytes().to_vec(), (entry.mode, content));
    }
    Snapshot { manifest, tree, summary: packed.summary }
}

/// Mode bits, time of change in seconds and nanoseconds, content.
pub type Print = (u32, i64, i64, Vec<u8>);

/// Everything below a directory, git directory included: kind, mode, time of change, content.
pub fn fingerprint(dir: &Path) -> BTreeMap<PathBuf, Print> {
    let mut all = BTreeMap::new();
    let mut todo = vec![dir.to_owned()];
    while let Some(at) = todo.pop() {
        let meta = at.symlink_metadata().unwrap();
        let content = if meta.is_dir() {
            todo.extend(std::fs::read_dir(&at).unwrap().map(|e| e.unwrap().path()));
            Vec::new()
        } else if meta.is_symlink() {
            std::fs::read_link(&at).unwrap().as_os_str().as_bytes().to_vec()
        } else if meta.is_file() {
            std::fs::read(&at).unwrap()
        } else {
            Vec::new()
        };
        all.insert(at, (meta.mode(), meta.mtime(), meta.mtime_nsec(), content));
    }
    all
}

pub fn file(content: impl AsRef<[u8]>) -> (Mode, Vec<u8>) {
    (Mode::File, content.as_ref().to_vec())
}

pub fn exec(content: impl AsRef<[u8]>) -> (Mode, Vec<u8>) {
    (Mode::Executable, content.as_ref().to_vec())
}

pub fn link(target: impl AsRef<[u8]>) -> (Mode, Vec<u8>) {
    (Mode::Symlink, target.as_ref().to_vec())
}

/// One entry of a [`Tree`].
pub type Content = (Mode, Vec<u8>);

pub fn tree<const N: usize>(entries: [(&[u8], Content); N]) -> Tree {
    entries.into_iter().map(|(path, entry)| (path.to_vec(), entry)).collect()
}

/// The changes that a seal would hold.
pub fn changes(base: &Tree, new: &Tree) -> Vec<Change> {
    let side = |entry: Option<&(Mode, Vec<u8>)>| entry.map(|(mode, bytes)| Side { mode: *mode, bytes: bytes.clone() });
    let paths: std::collections::BTreeSet<&Vec<u8>> = base.keys().chain(new.keys()).collect();
    paths
        .into_iter()
        .filter(|path| base.get(*path) != new.get(*path))
        .map(|path| Change { path: RepoPath::parse(path).unwrap(), base: side(base.get(path)), new: side(new.get(path)) })
        .collect()
}

/// A manifest of a tree, with one frame.
pub fn manifest(tree: &Tree, format: ObjectFormat) -> Manifest {
    let mut plain = 0;
    let entries = tree
        .iter()
        .map(|(path, (mode, bytes))| {
            let size = bytes.len() as u64;
            plain += size;
            Entry { path: RepoPath::parse(path).unwrap(), mode: *mode, id: format.hash("blob", bytes), size, frame: 0, offset: plain - size }
        })
        .collect();
    Manifest { format, frames: vec![Frame { compressed: plain, plain }], entries }
}

/// Writes a tree below a directory that is there.
pub fn write_tree(dir: &Path, tree: &Tree) {
    for (path, (mode, bytes)) in tree {
        let at = dir.join(os(path));
        std::fs::create_dir_all(at.parent().unwrap()).unwrap();
        match mode {
            Mode::Symlink => std::os::unix::fs::symlink(os(bytes), &at).unwrap(),
            Mode::Submodule => std::fs::create_dir(&at).unwrap(),
            Mode::File => std::fs::write(&at, bytes).unwrap(),
            Mode::Executable => {
                std::fs::write(&at, bytes).unwrap();
                std::fs::set_permissions(&at, std::fs::Permissions::from_mode(0o755)).unwrap();
            }
        }
    }
}

/// Reads it back; `.git` at the top is not part of it. Empty directories are, so that none is left behind unseen.
pub fn read_tree(dir: &Path) -> Tree {
    let mut tree = Tree::new();
    let mut todo = vec![dir.to_owned()];
    while let Some(at) = todo.pop() {
        let mut empty = true;
        for entry in std::fs::read_dir(&at).unwrap() {
            let path = entry.unwrap().path();
            empty = false;
            let name = path.strip_prefix(dir).unwrap().as_os_str().as_bytes().to_vec();
            let meta = path.symlink_metadata().unwrap();
            if name == b".git" {
                continue;
            }
            if meta.is_dir() {
                todo.push(path);
            } else if meta.is_symlink() {
                tree.insert(name, link(std::fs::read_link(&path).unwrap().as_os_str().as_bytes()));
            } else {
                let mode = if meta.mode() & 0o100 != 0 { Mode::Executable } else { Mode::File };
                tree.insert(name, (mode, std::fs::read(&path).unwrap()));
            }
        }
        if empty && at != dir {
            tree.insert([at.strip_prefix(dir).unwrap().as_os_str().as_bytes(), b"/"].concat(), (Mode::Submodule, Vec::new()));
        }
    }
    tree
}

/// A directory with a git repository in it, in which trees are checked out again and again.
pub struct Checkout {
    dir: tempfile::TempDir,
    format: ObjectFormat,
}

impl Checkout {
    pub fn new(format: ObjectFormat) -> Self {
        let dir = tempfile::tempdir().unwrap();
        git(dir.path(), &["init", "-q", &format!("--object-format={}", format.as_str())]);
        Self { dir, format }
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Replaces everything but the git directory.
    pub fn fill(&self, tree: &Tree) {
        for entry in std::fs::read_dir(self.path()).unwrap() {
            let entry = entry.unwrap();
            if entry.file_name() == ".git" {
                continue;
            }
            if entry.file_type().unwrap().is_dir() { std::fs::remove_dir_all(entry.path()) } else { std::fs::remove_file(entry.path()) }.unwrap();
        }
        write_tree(self.path(), tree);
    }

    /// A user's plain `git apply`.
    pub fn git_apply(&self, patch: &[u8]) -> std::result::Result<(), String> {
        use io::Write as _;
        let mut command = git_command(self.path(), &["apply", "-"]);
        let mut child = command.stdin(std::process::Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let output = std::thread::scope(|scope| {
            scope.spawn(move || drop(stdin.write_all(patch)));
            child.wait_with_output().unwrap()
        });
        if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
    }
}

/// The test of tests: base and new become a patch; plain `git apply` on a checkout of the base gives the new tree exactly, so does our own
/// `apply`; the parts of the files tile the patch.
pub fn check_in(checkout: &Checkout, base: &Tree, new: &Tree) -> Collected {
    let changes = changes(base, new);
    let collected = super::collect(&manifest(base, checkout.format), &changes).unwrap();
    assert!(collected.left_out.is_empty());
    let Some(patch) = &collected.patch else {
        assert!(changes.is_empty() && collected.files.is_empty());
        return collected;
    };
    let mut at = 0;
    for file in &collected.files {
        assert_eq!(file.patch_offset, at);
        at += file.patch_bytes;
        let start = usize::try_from(file.patch_offset).unwrap();
        assert!(patch[start..].starts_with(b"diff --git "));
    }
    assert_eq!(at, patch.len() as u64);
    checkout.fill(base);
    // A defect of git 2.47's `apply` in a working tree: where a link that leads to itself becomes a directory it meets ELOOP. Ours, below, does it.
    let circular = |path: &Vec<u8>| {
        let met = std::fs::metadata(checkout.path().join(os(path)));
        met.is_err_and(|e| e.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()))
    };
    let becomes_directory = |path: &[u8]| new.keys().any(|other| other.starts_with(&[path, b"/"].concat()));
    if !base.iter().any(|(path, (mode, _))| *mode == Mode::Symlink && becomes_directory(path) && circular(path)) {
        checkout.git_apply(patch).unwrap_or_else(|e| panic!("git apply: {e}\n{}", patch.escape_ascii()));
        assert_eq!(read_tree(checkout.path()), *new, "{}", patch.escape_ascii());
    }
    checkout.fill(base);
    let applies = super::applies(checkout.path(), &changes).unwrap();
    assert!(applies.ok && applies.exact, "{applies:?}");
    super::apply(checkout.path(), &changes, patch).unwrap();
    assert_eq!(read_tree(checkout.path()), *new);
    collected
}

pub fn check(base: &Tree, new: &Tree) -> Collected {
    check_in(&Checkout::new(ObjectFormat::Sha1), base, new)
}
