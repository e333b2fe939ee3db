//! What lies between two ends of work on one base: the patch from the one to the other.

use std::collections::BTreeMap;

use super::collect::{Collected, collect};
use crate::error::Result;
use crate::protocol::changes::{Change, Side, side_id};
use crate::protocol::manifest::{Entry, Manifest};
use crate::protocol::repo_path::RepoPath;

/// Both lists are changes of the manifest's tree. The patch is made and proven as that of a job, on the tree that the first list gives. Blocking.
pub fn between(manifest: &Manifest, before: &[Change], now: &[Change]) -> Result<Collected> {
    let mut sides: BTreeMap<&RepoPath, [Option<&Change>; 2]> = BTreeMap::new();
    for (at, list) in [before, now].into_iter().enumerate() {
        for change in list {
            if let Some(slot) = sides.entry(&change.path).or_default().get_mut(at) {
                *slot = Some(change);
            }
        }
    }
    let mut changes = Vec::new();
    for (path, [before, now]) in sides {
        // Where a list is silent the base stands, and the other list tells it.
        let base = before.map_or_else(|| now.and_then(|now| now.base.as_ref()), |before| before.new.as_ref());
        let new = now.map_or_else(|| before.and_then(|before| before.base.as_ref()), |now| now.new.as_ref());
        if base != new {
            changes.push(Change { path: path.clone(), base: base.cloned(), new: new.cloned() });
        }
    }
    collect(&with(manifest, before), &changes)
}

/// The manifest of the tree that the changes give; where content lies is not told.
fn with(manifest: &Manifest, changes: &[Change]) -> Manifest {
    let mut entries: BTreeMap<RepoPath, Entry> = manifest.entries.iter().map(|entry| (entry.path.clone(), entry.clone())).collect();
    for change in changes {
        match &change.new {
            None => drop(entries.remove(&change.path)),
            Some(side) => drop(entries.insert(change.path.clone(), entry(manifest, &change.path, side))),
        }
    }
    Manifest { format: manifest.format, frames: manifest.frames.clone(), entries: entries.into_values().collect() }
}

fn entry(manifest: &Manifest, path: &RepoPath, side: &Side) -> Entry {
    let id = side_id(side, manifest.format);
    Entry { path: path.clone(), mode: side.mode, id, size: side.bytes.len() as u64, frame: 0, offset: 0 }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Checkout, Tree, changes, exec, file, link, manifest, read_tree, tree};
    use super::*;
    use crate::protocol::manifest::ObjectFormat;

    /// The patch between two ends, applied to the first, gives the second.
    fn check(base: &Tree, first: &Tree, second: &Tree) -> Collected {
        let collected = between(&manifest(base, ObjectFormat::Sha1), &changes(base, first), &changes(base, second)).unwrap();
        let checkout = Checkout::new(ObjectFormat::Sha1);
        checkout.fill(first);
        match &collected.patch {
            Some(patch) => checkout.git_apply(patch).unwrap(),
            None => assert_eq!(first, second),
        }
        assert_eq!(read_tree(checkout.path()), *second);
        collected
    }

    #[test]
    fn the_patch_leads_from_the_first_end_to_the_second() {
        let base = tree([(b"a", file("a\n")), (b"b", file("b\n")), (b"gone", file("g\n")), (b"kind", file("k\n"))]);
        let first = tree([(b"a", file("a1\n")), (b"b", file("b\n")), (b"kind/x", file("x\n")), (b"new", file("n\n"))]);
        let second = tree([(b"a", file("a\n")), (b"b", exec("b\n")), (b"gone", file("g\n")), (b"kind", link("b")), (b"new", file("n\nm\n"))]);
        let collected = check(&base, &first, &second);
        let paths: Vec<_> = collected.files.iter().map(|f| f.path.path.as_str()).collect();
        assert_eq!(paths, ["a", "b", "gone", "kind", "kind/x", "new"]);
        check(&base, &second, &first);
        check(&base, &base, &second);
        check(&base, &first, &base);
        assert!(check(&base, &first, &first).patch.is_none());
    }
}
