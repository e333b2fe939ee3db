//! The files of a commit: what `git ls-tree` says in the shadow, taken as hostile bytes.

use super::blobs::missing_objects;
use super::listing::bounds;
use super::run::run_ok_within;
use super::shadow::Shadow;
use super::snapshot::{ancestors, over};
use crate::config::WorkspaceSettings;
use crate::error::{Code, Error, Result};
use crate::protocol::manifest::{Mode, ObjectId};
use crate::protocol::repo_path::RepoPath;

/// A file, link or submodule of a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreeEntry {
    /// Where.
    pub path: RepoPath,
    /// What.
    pub mode: Mode,
    /// Its blob; for a submodule its commit.
    pub id: ObjectId,
    /// Bytes; 0 for a submodule.
    pub size: u64,
}

/// All of a commit, ascending by path bytes; none lies beneath another.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tree {
    /// Its files.
    pub entries: Vec<TreeEntry>,
    /// Names that no working tree may have.
    pub refused: Vec<Vec<u8>>,
}

impl Tree {
    /// Of a commit or tree that is there. Errors: `worktree_error` where objects are missing, `workspace_too_large`.
    pub fn of(shadow: &Shadow, id: &ObjectId, caps: &WorkspaceSettings) -> Result<Self> {
        let mut command = shadow.git();
        command.args(["-c", "core.maxTreeDepth=4096", "ls-tree", "-r", "-z", "-l", "--full-tree", "--end-of-options"]).arg(id.to_hex());
        let output = run_ok_within(command, "list the files of a commit", Code::WorktreeError, bounds(caps))
            .map_err(|e| if e.hint.is_some() { e } else { e.with_hint("`git fsck` says what is missing; in a partial clone fetch it first") })?;
        let tree = parse(&output)?;
        over("the number of files of a commit", "max_files", caps.max_files, tree.entries.len() as u64)?;
        Ok(tree)
    }

    /// The entry at a path.
    pub fn find(&self, path: &[u8]) -> Option<&TreeEntry> {
        self.entries.binary_search_by(|entry| entry.path.as_bytes().cmp(path)).ok().and_then(|at| self.entries.get(at))
    }

    /// The entries beneath a directory.
    pub fn beneath(&self, dir: &[u8]) -> impl Iterator<Item = &TreeEntry> {
        let prefix = [dir, b"/"].concat();
        let from = self.entries.partition_point(|entry| entry.path.as_bytes() < prefix.as_slice());
        self.entries.get(from..).unwrap_or_default().iter().take_while(move |entry| entry.path.as_bytes().starts_with(&prefix))
    }
}

/// Parses `<mode> <kind> <id> <size>\t<path>\0…`. Errors: `worktree_error` for an answer that is not of that form, and where an object is missing.
pub fn parse(output: &[u8]) -> Result<Tree> {
    let mut tree = Tree::default();
    for record in output.split(|b| *b == 0).filter(|record| !record.is_empty()) {
        let not_understood = || Error::new(Code::WorktreeError, "list the files of a commit: git's answer is not understood");
        let tab = record.iter().position(|b| *b == b'\t').ok_or_else(not_understood)?;
        let (facts, path) = (record.get(..tab).unwrap_or_default(), record.get(tab + 1..).unwrap_or_default());
        let facts = std::str::from_utf8(facts).map_err(|_| not_understood())?;
        let mut words = facts.split_ascii_whitespace();
        let (Some(mode), Some(_), Some(id), Some(size)) = (words.next(), words.next(), words.next(), words.next()) else {
            return Err(not_understood());
        };
        let mode = mode_of(mode).ok_or_else(not_understood)?;
        let id = ObjectId::parse(id.as_bytes()).ok_or_else(not_understood)?;
        let size = match (mode, size) {
            (Mode::Submodule, _) => 0,
            (_, "BAD") => return Err(missing_objects()),
            (_, size) => size.parse().map_err(|_| not_understood())?,
        };
        match RepoPath::parse(path) {
            Ok(path) => tree.entries.push(TreeEntry { path, mode, id, size }),
            Err(_) => tree.refused.push(path.to_vec()),
        }
    }
    // git writes neither of these; a crafted tree may have a name twice, or as a file and a directory.
    tree.entries.sort_by(|a, b| a.path.cmp(&b.path));
    tree.entries.dedup_by(|later, first| {
        let same = later.path == first.path;
        if same {
            tree.refused.push(later.path.as_bytes().to_vec());
        }
        same
    });
    let taken: std::collections::HashSet<Vec<u8>> = crafted(&tree.entries);
    if !taken.is_empty() {
        tree.entries.retain(|entry| {
            let refused = taken.contains(entry.path.as_bytes());
            if refused {
                tree.refused.push(entry.path.as_bytes().to_vec());
            }
            !refused
        });
    }
    Ok(tree)
}

/// Paths that lie beneath another entry.
fn crafted(entries: &[TreeEntry]) -> std::collections::HashSet<Vec<u8>> {
    let is_entry = |path: &[u8]| entries.binary_search_by(|entry| entry.path.as_bytes().cmp(path)).is_ok();
    // A directory's own name comes before what lies in it, with only names in between that go on with a byte below the slash.
    let mut dir: (&[u8], bool) = (b"", false);
    let mut found = std::collections::HashSet::new();
    for entry in entries {
        let path = entry.path.as_bytes();
        let parent = entry.path.parent().unwrap_or_default();
        if parent != dir.0 {
            dir = (parent, !parent.is_empty() && ancestors(path).any(is_entry));
        }
        if dir.1 {
            found.insert(path.to_vec());
        }
    }
    found
}

/// As git reads a mode: any file is one with or without the executable bit.
fn mode_of(text: &str) -> Option<Mode> {
    let mode = u32::from_str_radix(text, 8).ok()?;
    Some(match mode & 0o170_000 {
        0o100_000 if mode & 0o100 != 0 => Mode::Executable,
        0o100_000 => Mode::File,
        0o120_000 => Mode::Symlink,
        0o160_000 => Mode::Submodule,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crafted_trees_lose_what_cannot_be() {
        let id = "0123456789012345678901234567890123456789";
        let line = |mode: &str, path: &str| format!("{mode} blob {id}       3\t{path}\0");
        let text = [
            line("100644", "a"),
            line("100644", "a-b"),
            line("100755", "a/x"),
            line("100664", "b"),
            line("120000", "b"),
            line("100644", ".git/config"),
            line("160000", "m").replace("      3", "      -"),
            line("100644", "../x"),
        ];
        let tree = parse(text.concat().as_bytes()).unwrap();
        let shown: Vec<_> = tree.entries.iter().map(|e| (e.path.as_bytes(), e.mode, e.size)).collect();
        assert_eq!(shown, [(&b"a"[..], Mode::File, 3), (b"a-b", Mode::File, 3), (b"b", Mode::File, 3), (b"m", Mode::Submodule, 0)]);
        assert_eq!(tree.refused.iter().map(Vec::as_slice).collect::<Vec<_>>(), [&b".git/config"[..], b"../x", b"b", b"a/x"]);
        assert_eq!(tree.beneath(b"a").count(), 0);
    }

    #[test]
    fn what_is_missing_or_strange_is_an_error() {
        let id = "0123456789012345678901234567890123456789";
        assert!(parse(format!("100644 blob {id}     BAD\ta\0").as_bytes()).unwrap_err().hint.unwrap().contains("git archive"));
        for text in ["x", "100644 blob 1 1\ta\0", "40000 tree 0123456789012345678901234567890123456789 -\ta\0"] {
            assert_eq!(parse(text.as_bytes()).unwrap_err().code, Code::WorktreeError, "{text}");
        }
    }
}
