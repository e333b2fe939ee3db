//! Files of a repository that tell Codex what to do, and where a review takes them from.
//!
//! What Codex 0.169 loads, seen by `strace` of the real binary as a job starts it (`--ignore-user-config`, plugins and apps off): in each directory
//! from the top of the repository down to the working directory `AGENTS.override.md`, else `AGENTS.md`; `.agents/skills/*/SKILL.md` and
//! `.codex/skills/*/SKILL.md`; `.codex/config.toml`, which it then leaves alone in a directory that nobody trusts; and beside skills and above them
//! `.codex-plugin`, `.claude-plugin` and `.cursor-plugin` for `plugin.json`. Links are followed, in any component. It looks for no `CLAUDE.md` and no
//! `.mcp.json`: `project_doc_fallback_filenames` is empty unless a user's own configuration says otherwise, and the usual entry there is `CLAUDE.md`, so
//! that is on the list as well. `AGENTS.md` in other directories is read by the agent itself when it works there, as its prompt tells it.
//!
//! A change under review may come from anybody, so the reviewer gets these files as they are in the base: what the change does to them is in the diff,
//! where it is text to judge, not an order.

use std::collections::HashSet;

use super::SnapshotSummary;
use super::blobs::Blobs;
use super::send::Origin;
use super::snapshot::{Planned, ancestors};
use super::trees::{Tree, TreeEntry};
use crate::error::Result;
use crate::protocol::manifest::Mode;
use crate::protocol::repo_path::RepoPath;
use crate::weaken;

/// Names of files, in any directory.
const FILES: [&[u8]; 3] = [b"AGENTS.md", b"AGENTS.override.md", b"CLAUDE.md"];
/// The documents of a project that Codex loads.
const DOCUMENTS: [&[u8]; 2] = [b"AGENTS.override.md", b"AGENTS.md"];
/// Names of directories, anywhere: all that lies in them.
const DIRECTORIES: [&[u8]; 5] = [b".agents", b".codex", b".codex-plugin", b".claude-plugin", b".cursor-plugin"];
/// Links that are followed one after the other.
const MAX_LINKS: usize = 16;
/// Longest text of a link that is followed.
const MAX_LINK: u64 = 4096;
/// Files that links of the base bring.
const MAX_LINKED: usize = 2_000;

/// Whether a path is, or lies in, a file or directory that Codex takes instructions or tools from. Letter case counts, as it does in a cell.
pub fn is_instruction(path: &[u8]) -> bool {
    path.split(|b| *b == b'/').any(|part| FILES.contains(&part) || DIRECTORIES.contains(&part))
}

/// What decides which instruction files Codex loads at its start.
pub(super) struct AtStart<'a> {
    /// Where it starts; `None`: the top.
    pub(super) directory: Option<&'a RepoPath>,
    /// `project_doc_fallback_filenames`: read where a directory has neither of the two `AGENTS` files, the first that is there.
    pub(super) fallbacks: &'a [String],
    /// Whether a path is delivered.
    pub(super) delivered: &'a dyn Fn(&[u8]) -> bool,
}

impl AtStart<'_> {
    /// Whether it is an instruction file of this job.
    pub(super) fn is_instruction(&self, path: &[u8]) -> bool {
        let name = path.rsplit(|b| *b == b'/').next().unwrap_or_default();
        is_instruction(path) || self.fallbacks.iter().any(|fallback| fallback.as_bytes() == name)
    }

    /// Whether Codex loads it when it starts; else the agent may come upon it.
    pub(super) fn loads(&self, path: &[u8]) -> bool {
        let parts: Vec<&[u8]> = path.split(|b| *b == b'/').collect();
        if let Some(at) = parts.iter().position(|part| DIRECTORIES.contains(part)) {
            let skill = matches!(parts.get(at..), Some([b".agents" | b".codex", b"skills", .., b"SKILL.md"]));
            return skill && self.on_the_way(&parts.get(..at).unwrap_or_default().join(&b'/'));
        }
        let Some((name, above)) = parts.split_last() else { return false };
        let above = above.join(&b'/');
        let beside = |other: &[u8]| if above.is_empty() { other.to_vec() } else { [above.as_slice(), other].join(&b'/') };
        // Of each directory the first of these that is there, and no other.
        let documents: Vec<&[u8]> = DOCUMENTS.iter().copied().chain(self.fallbacks.iter().map(String::as_bytes)).collect();
        let Some(at) = documents.iter().position(|document| document == name) else { return false };
        self.on_the_way(&above) && !documents.iter().take(at).any(|other| (self.delivered)(&beside(other)))
    }

    /// Whether a directory is the one where Codex starts, or lies above it.
    fn on_the_way(&self, directory: &[u8]) -> bool {
        let start = self.directory.map_or(&b""[..], |at| at.as_bytes());
        directory.is_empty() || start == directory || start.strip_prefix(directory).is_some_and(|rest| rest.starts_with(b"/"))
    }
}

/// What became of the instruction files.
#[derive(Debug, Default)]
pub(super) struct Replaced {
    /// What is delivered.
    pub(super) entries: Vec<Planned>,
    /// Instruction files that the change touches, also by way of a link of the base.
    pub(super) touched: Vec<Vec<u8>>,
}

/// Puts the base's instruction files in the place of those that a change touches. `changed` holds every path of the change, both sides.
pub(super) fn from_base(
    entries: Vec<Planned>,
    base: &Tree,
    changed: &HashSet<Vec<u8>>,
    blobs: &mut dyn FnMut() -> Result<Blobs>,
    summary: &mut SnapshotSummary,
) -> Result<Replaced> {
    if weaken::off("review.base_instructions") {
        return Ok(Replaced { entries, touched: Vec::new() });
    }
    let mut found = Replaced::default();
    let mut links = Links { base, reader: None, start: blobs };
    let mut added: Vec<Planned> = Vec::new();
    // Of the base: what the change touches, and what its links lead to.
    let mut held: HashSet<Vec<u8>> = HashSet::new();
    for entry in base.entries.iter().filter(|entry| is_instruction(entry.path.as_bytes())) {
        let path = entry.path.as_bytes();
        let is_changed = changed.contains(path);
        if entry.mode != Mode::Symlink {
            if is_changed {
                found.touched.push(path.to_vec());
                held.insert(path.to_vec());
                added.push(planned(entry, entry.path.clone()));
            }
            continue;
        }
        // A link would lead to the change's own files: what it leads to in the base stands in its place.
        let target = links.follow(path)?;
        let targets: Vec<&TreeEntry> = target.iter().flat_map(|at| base.find(at).into_iter().chain(base.beneath(at))).collect();
        let through =
            targets.iter().any(|entry| changed.contains(entry.path.as_bytes())) || target.as_ref().is_some_and(|at| adds_beneath(changed, at));
        if is_changed || through {
            found.touched.push(path.to_vec());
        }
        if !is_changed && !through && !targets.is_empty() {
            continue;
        }
        held.insert(path.to_vec());
        for entry in targets.into_iter().filter(|entry| matches!(entry.mode, Mode::File | Mode::Executable)) {
            let rest = target.as_ref().and_then(|at| entry.path.as_bytes().strip_prefix(at.as_slice())).unwrap_or_default();
            if let Ok(path) = RepoPath::parse(&[path, rest].concat())
                && added.len() < MAX_LINKED
            {
                added.push(planned(entry, path));
            }
        }
    }
    for path in changed.iter().filter(|path| is_instruction(path) && base.find(path).is_none()) {
        found.touched.push(path.clone());
    }
    // Beneath a link of the base that is now a directory, too.
    let is_held = |path: &[u8]| held.contains(path) || ancestors(path).any(|above| held.contains(above));
    let unchanged = |entry: &Planned| base.find(entry.path.as_bytes()).is_some() && !changed.contains(entry.path.as_bytes());
    let taken: HashSet<&[u8]> = added.iter().map(|entry| entry.path.as_bytes()).collect();
    found.entries = Vec::with_capacity(entries.len() + added.len());
    for entry in entries {
        let path = entry.path.as_bytes();
        if !is_instruction(path) || unchanged(&entry) && !is_held(path) {
            found.entries.push(entry);
        } else if !taken.contains(path) {
            summary.leave_out(path, "agent_instructions");
        }
    }
    let there: HashSet<Vec<u8>> = found.entries.iter().map(|entry| entry.path.as_bytes().to_vec()).collect();
    // Where the change has a file in place of the directory, nothing would be loaded from there.
    added.retain(|entry| !there.contains(entry.path.as_bytes()) && !ancestors(entry.path.as_bytes()).any(|above| there.contains(above)));
    found.entries.extend(added);
    found.entries.sort_by(|a, b| a.path.cmp(&b.path));
    found.entries.dedup_by(|later, first| later.path == first.path);
    found.touched.sort();
    found.touched.dedup();
    Ok(found)
}

/// Whether the change brings something into a directory of the base.
fn adds_beneath(changed: &HashSet<Vec<u8>>, dir: &[u8]) -> bool {
    changed.iter().any(|path| path == dir || path.strip_prefix(dir).is_some_and(|rest| rest.starts_with(b"/")))
}

fn planned(entry: &TreeEntry, path: RepoPath) -> Planned {
    Planned { path, mode: entry.mode, id: entry.id, size: entry.size, origin: Origin::Base }
}

/// Links of a tree, followed within it.
struct Links<'a> {
    base: &'a Tree,
    reader: Option<Blobs>,
    start: &'a mut dyn FnMut() -> Result<Blobs>,
}

impl Links<'_> {
    /// Where a link leads, through all others; `None`: out of the tree, or in a circle.
    fn follow(&mut self, path: &[u8]) -> Result<Option<Vec<u8>>> {
        // Components still to go, nearest last.
        let mut todo: Vec<Vec<u8>> = path.rsplit(|b| *b == b'/').map(<[u8]>::to_vec).collect();
        let mut at: Vec<u8> = Vec::new();
        let mut left = MAX_LINKS;
        while let Some(part) = todo.pop() {
            match part.as_slice() {
                b"" | b"." => continue,
                b".." => {
                    if at.is_empty() {
                        return Ok(None);
                    }
                    at.truncate(at.iter().rposition(|b| *b == b'/').unwrap_or(0));
                    continue;
                }
                part => {
                    let parent = at.len();
                    if parent > 0 {
                        at.push(b'/');
                    }
                    at.extend(part);
                    let Some(link) = self.base.find(&at).filter(|entry| entry.mode == Mode::Symlink) else { continue };
                    if left == 0 || link.size > MAX_LINK {
                        return Ok(None);
                    }
                    left -= 1;
                    let text = self.read(link)?;
                    if text.starts_with(b"/") {
                        return Ok(None);
                    }
                    at.truncate(parent);
                    todo.extend(text.rsplit(|b| *b == b'/').map(<[u8]>::to_vec));
                }
            }
        }
        Ok((!at.is_empty()).then_some(at))
    }

    fn read(&mut self, link: &TreeEntry) -> Result<Vec<u8>> {
        if self.reader.is_none() {
            self.reader = Some((self.start)()?);
        }
        let mut text = Vec::new();
        if let Some(reader) = &mut self.reader {
            reader.append(&link.id, MAX_LINK, &mut text)?;
        }
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_codex_takes_instructions_from() {
        for path in [
            "AGENTS.md",
            "a/b/AGENTS.override.md",
            ".codex/config.toml",
            "sub/.agents/skills/x/SKILL.md",
            "x/.codex-plugin/plugin.json",
            ".agents",
            "CLAUDE.md",
            "AGENTS.md/inside",
        ] {
            assert!(is_instruction(path.as_bytes()), "{path}");
        }
        for path in ["docs/agents.md", "AGENTS.md.txt", "src/codex/mod.rs", "codex/config.toml", "skills/x/SKILL.md", ".claude/settings.json"] {
            assert!(!is_instruction(path.as_bytes()), "{path}");
        }
    }

    #[test]
    fn what_loads_at_the_start_lies_on_the_way_to_the_working_directory() {
        let sub = RepoPath::parse(b"sub/deep").unwrap();
        let loads = |path: &str, directory| AtStart { directory, fallbacks: &[], delivered: &|_| false }.loads(path.as_bytes());
        for (path, at_top, in_sub) in [
            ("AGENTS.md", true, true),
            ("sub/AGENTS.md", false, true),
            ("sub/deep/AGENTS.override.md", false, true),
            ("sub/de/AGENTS.md", false, false),
            ("sub/deep/er/AGENTS.md", false, false),
            (".agents/skills/a/SKILL.md", true, true),
            ("sub/.codex/skills/a/SKILL.md", false, true),
            (".codex/config.toml", false, false),
            (".agents/skills/a/script.sh", false, false),
            ("CLAUDE.md", false, false),
            ("AGENTS.md/inside", false, false),
            ("src/main.rs", false, false),
        ] {
            assert_eq!((loads(path, None), loads(path, Some(&sub))), (at_top, in_sub), "{path}");
        }
    }

    #[test]
    fn of_each_directory_the_first_document_loads() {
        let fallbacks = ["CLAUDE.md".to_owned(), "NOTES".to_owned()];
        let sub = RepoPath::parse(b"d").unwrap();
        let all = ["AGENTS.md", "AGENTS.override.md", "CLAUDE.md", "d/CLAUDE.md", "d/NOTES", "e/NOTES"];
        let codex = AtStart { directory: Some(&sub), fallbacks: &fallbacks, delivered: &|path| all.iter().any(|at| at.as_bytes() == path) };
        let loaded: Vec<&str> = all.into_iter().filter(|path| codex.loads(path.as_bytes())).collect();
        assert_eq!(loaded, ["AGENTS.override.md", "d/CLAUDE.md"]);
        assert!(codex.is_instruction(b"e/NOTES") && !codex.is_instruction(b"NOTES/x"));
    }
}
