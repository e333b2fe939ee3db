//! Names from the index: what `git ls-files` says in the shadow, parsed as hostile bytes.

use std::path::Path;

use super::run::{Bounds, run_ok_within};
use super::send::Origin;
use super::shadow::Shadow;
use crate::config::WorkspaceSettings;
use crate::error::{Code, Error, Result};
use crate::protocol::manifest::{Mode, ObjectId};
use crate::weaken;

/// Bytes of git's answer whatever the caps are, and for each file that they allow: an index of version 4 names a long path in a few bytes.
const ANSWER_BYTES: (u64, u64) = (64 << 20, 512);
/// git holds the whole index, each path in full.
const GIT_MEMORY: u64 = 512 << 20;

/// Bounds of a listing with as many files as the caps allow.
pub fn bounds(caps: &WorkspaceSettings) -> Bounds {
    let output = ANSWER_BYTES.0.saturating_add(caps.max_files.saturating_mul(ANSWER_BYTES.1));
    Bounds { output, memory: Some(GIT_MEMORY.saturating_add(output.saturating_mul(4))), ..Bounds::default() }
}

/// One path of the index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listed<'a> {
    /// Its bytes, not yet checked.
    pub path: &'a [u8],
    /// What the index says it is.
    pub mode: Mode,
    /// The staged object; for a submodule its commit.
    pub id: ObjectId,
    /// The sparse checkout leaves it out (`skip-worktree`).
    pub skip: bool,
    /// It has more than one stage.
    pub unmerged: bool,
    /// Why it is listed.
    pub origin: Origin,
}

/// A path that the index does not list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extra {
    /// Its bytes, not yet checked; a slash at the end: a repository of its own.
    pub path: Vec<u8>,
    /// Why it is listed.
    pub origin: Origin,
}

/// Asks git for the whole index; a sparse index is expanded. `top` is the working tree.
pub fn list(shadow: &Shadow, top: &Path, caps: &WorkspaceSettings) -> Result<Vec<u8>> {
    let bounds = if weaken::off("export.git_output") { Bounds::default() } else { bounds(caps) };
    let ask = |how: &[&str]| {
        let mut command = shadow.git();
        command.args(["ls-files", "-z", "--full-name"]).args(how);
        if weaken::off("export.untracked") {
            command.env("GIT_WORK_TREE", top).current_dir(top);
        }
        run_ok_within(command, "list the tracked files", Code::WorktreeError, bounds)
            .map_err(|e| if e.hint.is_some() { e } else { e.with_hint("see what `git ls-files` and `git fsck` say in the repository") })
    };
    let mut listed = ask(&["-t", "--stage"])?;
    if weaken::off("export.untracked") {
        for path in ask(&["--others"])?.split(|b| *b == 0).filter(|path| !path.is_empty()) {
            listed.extend([b"H 100644 0000000000000000000000000000000000000000 0\t".as_slice(), path, b"\0"].concat());
        }
    }
    Ok(listed)
}

/// Parses `<tag> <mode> <id> <stage>\t<path>\0…`: sorted by path bytes, each path once.
pub fn parse(output: &[u8]) -> Result<Vec<Listed<'_>>> {
    let mut entries: Vec<Listed<'_>> = Vec::new();
    let mut sorted = true;
    for record in output.split(|b| *b == 0).filter(|r| !r.is_empty()) {
        let entry = parse_record(record).ok_or_else(|| Error::new(Code::WorktreeError, "list the tracked files: git's answer is not understood"))?;
        match entries.last_mut() {
            Some(last) if last.path == entry.path => *last = merge(*last, entry),
            last => {
                sorted &= last.is_none_or(|last| last.path < entry.path);
                entries.push(entry);
            }
        }
    }
    if !sorted {
        // A crafted index: git itself never writes one that is out of order.
        entries.sort_by(|a, b| a.path.cmp(b.path));
        entries.dedup_by(|later, first| {
            let same = later.path == first.path;
            if same {
                *first = merge(*first, *later);
            }
            same
        });
    }
    Ok(entries)
}

/// Adds untracked paths to what the index lists; a tracked path stays what it is, and of two untracked ones the first counts.
pub fn add<'a>(listed: &mut Vec<Listed<'a>>, extra: &'a [Extra], id: ObjectId) {
    if extra.is_empty() {
        return;
    }
    listed.extend(extra.iter().map(|extra| Listed { path: &extra.path, mode: Mode::File, id, skip: false, unmerged: false, origin: extra.origin }));
    listed.sort_by(|a, b| a.path.cmp(b.path));
    listed.dedup_by(|later, first| later.path == first.path);
}

fn merge<'a>(first: Listed<'a>, later: Listed<'a>) -> Listed<'a> {
    Listed { unmerged: true, skip: first.skip && later.skip, ..first }
}

fn parse_record(record: &[u8]) -> Option<Listed<'_>> {
    let tab = record.iter().position(|b| *b == b'\t')?;
    let (facts, path) = (record.get(..tab)?, record.get(tab + 1..)?);
    let mut words = facts.split(|b| *b == b' ');
    let (tag, mode, id, stage) = (words.next()?, words.next()?, words.next()?, words.next()?);
    let mode = match mode {
        b"120000" => Mode::Symlink,
        b"160000" => Mode::Submodule,
        b"100755" => Mode::Executable,
        _ if mode.starts_with(b"100") => Mode::File,
        _ => return None,
    };
    Some(Listed { path, mode, id: ObjectId::parse(id)?, skip: tag == b"S", unmerged: stage != b"0", origin: Origin::Tracked })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0123456789012345678901234567890123456789";

    #[test]
    fn stages_become_one_and_order_is_restored() {
        let text = format!("H 100644 {ID} 0\tz\0M 100644 {ID} 1\tb\0M 100755 {ID} 2\tb\0S 120000 {ID} 0\ta\tb\n\0H 160000 {ID} 0\tm\0");
        let listed = parse(text.as_bytes()).unwrap();
        let shown: Vec<_> = listed.iter().map(|e| (e.path, e.mode, e.skip, e.unmerged)).collect();
        assert_eq!(
            shown,
            [
                (&b"a\tb\n"[..], Mode::Symlink, true, false),
                (b"b", Mode::File, false, true),
                (b"m", Mode::Submodule, false, false),
                (b"z", Mode::File, false, false)
            ]
        );
    }

    #[test]
    fn nonsense_is_an_error() {
        for text in ["H 100644 0\ta\0", "H 040000 0123456789012345678901234567890123456789 0\ta/\0", "x"] {
            assert_eq!(parse(text.as_bytes()).unwrap_err().code, Code::WorktreeError, "{text}");
        }
    }
}
