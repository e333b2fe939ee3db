//! A git repository on the host to delegate on.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anchorhold::process;

/// A directory, usually a repository's top.
pub struct Repo {
    path: PathBuf,
}

impl Repo {
    /// Makes the directory.
    pub fn new(path: &Path) -> Self {
        std::fs::create_dir_all(path).expect("directory");
        Self { path: path.to_owned() }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A place below.
    pub fn at(&self, below: &str) -> Self {
        Self { path: self.path.join(below) }
    }

    /// Runs a script here; it must succeed.
    #[track_caller]
    pub fn bash(&self, script: &str) {
        let mut command = process::command("bash", &self.path);
        command.args(["-euc", script]).env("HOME", self.path.parent().expect("parent")).env("LC_ALL", "C.UTF-8");
        for who in ["AUTHOR", "COMMITTER"] {
            command.env(format!("GIT_{who}_NAME"), "Test").env(format!("GIT_{who}_EMAIL"), "test@localhost");
        }
        let out = command.output().expect("bash runs");
        assert!(out.status.success(), "{script}\n{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    }

    /// The tracked files as they lie in the working tree, copied to a directory beside this one that is in no repository.
    pub fn tracked_copy(&self) -> Self {
        use std::os::unix::ffi::OsStrExt as _;
        let copy = tempfile::Builder::new().prefix("copy-").tempdir_in(self.path.parent().expect("parent")).expect("directory").keep();
        let out = process::command("git", &self.path).args(["ls-files", "-z"]).output().expect("git runs");
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        for name in out.stdout.split(|b| *b == 0).filter(|n| !n.is_empty()).map(std::ffi::OsStr::from_bytes) {
            let (from, to) = (self.path.join(name), copy.join(name));
            let Ok(meta) = from.symlink_metadata() else { continue };
            std::fs::create_dir_all(to.parent().expect("parent")).expect("directory");
            if meta.is_symlink() {
                // Unmerged paths are listed once a stage.
                let _ = std::os::unix::fs::symlink(std::fs::read_link(&from).expect("link"), &to);
            } else if meta.is_file() {
                std::fs::copy(&from, &to).expect("copy");
            }
        }
        Self { path: copy }
    }

    /// Applies a patch as any user would; an empty patch changes nothing.
    #[track_caller]
    pub fn git_apply(&self, patch: &[u8]) {
        if patch.is_empty() {
            return;
        }
        let mut command = process::command("git", &self.path);
        let mut child = command
            .args(["apply", "--whitespace=nowarn", "-"])
            .env("GIT_CEILING_DIRECTORIES", self.path.parent().expect("parent"))
            .stdin(Stdio::piped())
            .spawn()
            .expect("git runs");
        child.stdin.take().expect("stdin").write_all(patch).expect("git reads");
        let out = child.wait_with_output().expect("git ends");
        assert!(
            out.status.success(),
            "git apply: {}\n{}",
            String::from_utf8_lossy(&out.stderr),
            String::from_utf8_lossy(&patch[..patch.len().min(4000)])
        );
    }

    /// Every file below, `.git` included, with mode and content: equal only if byte for byte the same.
    pub fn hash_everything(&self) -> BTreeMap<PathBuf, (u32, Vec<u8>)> {
        use sha2::Digest as _;
        use std::os::unix::fs::PermissionsExt as _;
        let mut all = BTreeMap::new();
        let mut todo = vec![self.path.clone()];
        while let Some(path) = todo.pop() {
            let meta = path.symlink_metadata().expect("there");
            let content = if meta.is_dir() {
                todo.extend(std::fs::read_dir(&path).expect("directory").map(|e| e.expect("entry").path()));
                Vec::new()
            } else if meta.is_symlink() {
                std::os::unix::ffi::OsStringExt::into_vec(std::fs::read_link(&path).expect("link").into_os_string())
            } else {
                sha2::Sha256::digest(std::fs::read(&path).expect("file")).to_vec()
            };
            all.insert(path, (meta.permissions().mode(), content));
        }
        all
    }

    /// Files beside this repository whose names begin with `marker`: left by something that ran and should not have.
    pub fn markers(&self) -> Vec<String> {
        let parent = self.path.parent().expect("parent");
        let mut names: Vec<String> =
            std::fs::read_dir(parent).expect("directory").map(|e| e.expect("entry").file_name().to_string_lossy().into_owned()).collect();
        names.retain(|n| n.starts_with("marker"));
        names
    }
}
