//! A working tree's content as git sees it.

use std::collections::BTreeMap;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

/// Paths with mode and bytes; `.git` at the top and empty directories are no part of it.
#[derive(PartialEq, Eq)]
pub struct Tree(BTreeMap<Vec<u8>, (&'static str, Vec<u8>)>);

impl Tree {
    /// Reads a directory, following no link.
    pub fn read(top: &Path) -> Self {
        let mut files = BTreeMap::new();
        let mut todo = vec![top.to_owned()];
        while let Some(dir) = todo.pop() {
            for entry in std::fs::read_dir(&dir).expect("directory") {
                let path = entry.expect("entry").path();
                let name = path.strip_prefix(top).expect("below").as_os_str().as_bytes().to_vec();
                let meta = path.symlink_metadata().expect("there");
                if name == b".git" {
                } else if meta.is_symlink() {
                    files.insert(name, ("link", std::fs::read_link(&path).expect("link").into_os_string().into_vec()));
                } else if meta.is_dir() {
                    todo.push(path);
                } else {
                    let mode = if meta.permissions().mode() & 0o100 == 0 { "file" } else { "executable" };
                    files.insert(name, (mode, std::fs::read(&path).expect("file")));
                }
            }
        }
        Self(files)
    }
}

impl std::fmt::Debug for Tree {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_map()
            .entries(self.0.iter().map(|(name, (mode, bytes))| {
                (name.escape_ascii().to_string(), format!("{mode} {} bytes: {}", bytes.len(), bytes[..bytes.len().min(60)].escape_ascii()))
            }))
            .finish()
    }
}
