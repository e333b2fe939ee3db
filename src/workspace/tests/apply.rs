//! Patches and the user's tree as it is now.

use super::*;
use crate::error::Code;
use crate::workspace::{Applies, applies, apply, collect};

struct Case {
    repo: Repo,
    base: Tree,
    changes: Vec<Change>,
    patch: Vec<u8>,
}

fn text(lines: std::ops::Range<u32>) -> String {
    lines.map(|n| format!("line {n}\n")).collect()
}

/// A job that changed, made, deleted and replaced.
fn case() -> Case {
    let repo = Repo::empty(&[]);
    repo.write("edit", text(0..40));
    repo.write("gone/only", "x\n");
    repo.write("mode", "m\n");
    repo.write("kind", "k\n");
    repo.write("untouched", "u\n");
    repo.commit("Base");
    let base = repo.snapshot().tree;
    let mut new = base.clone();
    new.insert(b"edit".to_vec(), file(text(0..40).replace("line 20\n", "line twenty\n")));
    new.remove(b"gone/only".as_slice());
    new.insert(b"mode".to_vec(), exec("m\n"));
    new.remove(b"kind".as_slice());
    new.insert(b"kind/inside".to_vec(), link("../edit"));
    new.insert(b"made/here".to_vec(), file("h\n"));
    let changes = changes(&base, &new);
    let patch = collect(&manifest(&base, ObjectFormat::Sha1), &changes).unwrap().patch.unwrap();
    Case { repo, base, changes, patch }
}

impl Case {
    fn applies(&self) -> Applies {
        applies(&self.repo.top(), &self.changes).unwrap()
    }

    fn apply(&self) -> Result<()> {
        apply(&self.repo.top(), &self.changes, &self.patch)
    }

    /// The change stands in the way: said so by both, and nothing is written.
    fn refused(&self, path: &str, why: &str) {
        let found = self.applies();
        assert!(!found.ok && !found.exact);
        let conflicts: Vec<_> = found.conflicts.iter().map(|c| (c.path.path.as_str(), c.why.as_str())).collect();
        assert_eq!(conflicts, [(path, why)]);
        let before = fingerprint(&self.repo.base());
        let error = self.apply().unwrap_err();
        assert_eq!((error.code, error.details["conflicts"][0]["why"].as_str()), (Code::ApplyConflict, Some(why)));
        assert_eq!(fingerprint(&self.repo.base()), before);
    }
}

#[test]
fn an_unchanged_tree_takes_the_changes_exactly() {
    let case = case();
    assert_eq!(case.applies(), Applies { ok: true, exact: true, conflicts: Vec::new() });
    std::fs::set_permissions(case.repo.path("edit"), std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::set_permissions(case.repo.path("mode"), std::fs::Permissions::from_mode(0o640)).unwrap();
    let git_before = fingerprint(&case.repo.top().join(".git"));
    case.apply().unwrap();
    assert_eq!(fingerprint(&case.repo.top().join(".git")), git_before);
    let now = read_tree(&case.repo.top());
    let mut expected = case.base.clone();
    for change in &case.changes {
        match &change.new {
            Some(side) => drop(expected.insert(change.path.as_bytes().to_vec(), (side.mode, side.bytes.clone()))),
            None => drop(expected.remove(change.path.as_bytes())),
        }
    }
    assert_eq!(now, expected);
    let bits = |path: &str| case.repo.path(path).metadata().unwrap().mode() & 0o777;
    assert_eq!((bits("edit"), bits("mode")), (0o600, 0o750));
    // Twice does not apply.
    assert_eq!(case.apply().unwrap_err().code, Code::ApplyConflict);
}

#[test]
fn an_edit_elsewhere_in_the_file_is_kept() {
    let case = case();
    case.repo.write("edit", format!("first\n{}", text(0..40)));
    assert_eq!(case.applies(), Applies { ok: true, exact: false, conflicts: Vec::new() });
    case.apply().unwrap();
    let now = read_tree(&case.repo.top());
    assert_eq!(now[b"edit".as_slice()].1, format!("first\n{}", text(0..40).replace("line 20\n", "line twenty\n")).into_bytes());
    assert_eq!(now[b"kind/inside".as_slice()], link("../edit"));
}

#[test]
fn each_obstacle_has_its_name() {
    let with = |prepare: &dyn Fn(&Repo)| {
        let case = case();
        prepare(&case.repo);
        case
    };
    with(&|r| r.write("edit", text(0..40).replace("line 20\n", "mine\n"))).refused("edit", "changed_since");
    with(&|r| r.write("gone/only", "y\n")).refused("gone/only", "changed_since");
    with(&|r| r.remove("mode")).refused("mode", "missing");
    with(&|r| r.write("made/here", "untracked\n")).refused("made/here", "exists_already");
    with(&|r| r.write("made/here/deeper", "untracked\n")).refused("made/here", "exists_already");
    with(&|r| r.write("made", "a file\n")).refused("made/here", "exists_already");
    with(&|r| {
        write_file(&r.base().join("outside/keep"), b"CANARY");
        r.link("made", "../outside");
    })
    .refused("made/here", "beyond_symlink");
    with(&|r| {
        std::fs::remove_dir_all(r.path("gone")).unwrap();
        write_file(&r.base().join("outside/only"), b"x\n");
        r.link("gone", "../outside");
    })
    .refused("gone/only", "beyond_symlink");
    with(&|r| {
        r.remove("edit");
        r.link("edit", "untouched");
    })
    .refused("edit", "changed_since");
}

#[test]
fn a_mode_that_differs_is_named() {
    let case = case();
    std::fs::set_permissions(case.repo.path("edit"), std::fs::Permissions::from_mode(0o755)).unwrap();
    // git warns and takes it.
    assert_eq!(case.applies(), Applies { ok: true, exact: false, conflicts: Vec::new() });
}

#[test]
fn a_directory_gives_way_only_when_nothing_of_the_users_is_in_it() {
    let base = tree([(b"d/x", file("x")), (b"d/e/y", file("y"))]);
    let new = tree([(b"d", file("now a file\n"))]);
    let changes = changes(&base, &new);
    let patch = collect(&manifest(&base, ObjectFormat::Sha1), &changes).unwrap().patch.unwrap();
    let checkout = Checkout::new(ObjectFormat::Sha1);
    checkout.fill(&base);
    std::fs::create_dir(checkout.path().join("d/empty")).unwrap();
    assert!(applies(checkout.path(), &changes).unwrap().exact);
    apply(checkout.path(), &changes, &patch).unwrap();
    assert_eq!(read_tree(checkout.path()), new);
    checkout.fill(&base);
    std::fs::write(checkout.path().join("d/mine"), "untracked").unwrap();
    assert_eq!(applies(checkout.path(), &changes).unwrap().conflicts[0].why, "exists_already");
    assert_eq!(apply(checkout.path(), &changes, &patch).unwrap_err().code, Code::ApplyConflict);
    assert!(checkout.path().join("d/x").exists());
}

#[test]
fn a_binary_patch_of_a_sha256_repository_applies_beside_other_edits() {
    let base = tree([(b"bin", file(b"\0\x01")), (b"t", file(text(0..30)))]);
    let mut new = base.clone();
    new.insert(b"bin".to_vec(), file(b"\0\x02"));
    new.insert(b"t".to_vec(), file(text(0..31)));
    let changes = changes(&base, &new);
    let patch = collect(&manifest(&base, ObjectFormat::Sha256), &changes).unwrap().patch.unwrap();
    let checkout = Checkout::new(ObjectFormat::Sha256);
    checkout.fill(&base);
    std::fs::write(checkout.path().join("t"), format!("mine\n{}", text(0..30))).unwrap();
    let found = applies(checkout.path(), &changes).unwrap();
    assert!(found.ok && !found.exact);
    apply(checkout.path(), &changes, &patch).unwrap();
    assert_eq!(std::fs::read(checkout.path().join("bin")).unwrap(), b"\0\x02");
}
