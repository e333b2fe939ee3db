//! Git directories that somebody made by hand.

use super::snapshot::fifo;
use super::*;
use crate::error::Code;
use crate::workspace::{plan, plan_within};

fn planned(repo: &Repo, roots: &[PathBuf]) -> Result<Plan> {
    plan_within(&repo.top(), roots, &WorkspaceSettings::default())
}

#[test]
fn alternates_are_followed_by_us_and_only_beneath_the_roots() {
    let repo = Repo::new();
    for name in ["one", "two"] {
        git(&repo.base(), &["clone", "-q", "--shared", "repo", name]);
    }
    // A list of a list, with a loop, one that is missing, a comment, and HEAD's objects only at the end of it.
    let list = |name: &str, text: String| write_file(&repo.base().join(name).join(".git/objects/info/alternates"), text.as_bytes());
    let objects = |name: &str| repo.base().join(name).join(".git/objects").display().to_string();
    list("one", format!("# none\n/nonexistent\n\"{}\"\n", objects("two")));
    list("two", format!("{}\n{}\n", objects("one"), objects("repo")));
    let settings = WorkspaceSettings::default();
    let found = plan(&repo.base().join("one"), &settings).unwrap();
    assert_eq!((found.summary().files, found.summary().dirty, found.head_subject()), (3, false, None));
    assert!(plan_within(&repo.base().join("one"), &[repo.base()], &settings).is_ok());
    let walled = plan_within(&repo.base().join("one"), &[repo.base().join("one"), repo.base().join("two")], &settings);
    assert_eq!(walled.err().unwrap().code, Code::WorkspaceOutsideRoots);
    std::fs::remove_file(repo.base().join("two/.git/objects/info/alternates")).unwrap();
    fifo(&repo.base().join("two/.git/objects/info/alternates"));
    assert_eq!(plan(&repo.base().join("one"), &settings).err().unwrap().code, Code::UnsafeRepository);
}

#[test]
fn the_repository_may_not_reach_out_of_the_roots() {
    let repo = Repo::new();
    assert!(planned(&repo, &[repo.top()]).is_ok());
    let below = plan_within(&repo.path("dir"), &[repo.path("dir")], &WorkspaceSettings::default());
    assert_eq!(below.err().unwrap().code, Code::WorkspaceOutsideRoots);
    std::fs::rename(repo.top().join(".git"), repo.base().join("git")).unwrap();
    repo.write(".git", "gitdir: ../git");
    assert!(planned(&repo, &[repo.base()]).is_ok());
    assert_eq!(planned(&repo, &[repo.top()]).err().unwrap().code, Code::WorkspaceOutsideRoots);
}

#[test]
fn a_git_file_that_points_elsewhere_hands_over_no_words() {
    let private = Repo::new();
    let repo = Repo::new();
    std::fs::remove_dir_all(repo.top().join(".git")).unwrap();
    repo.write(".git", format!("gitdir: {}", private.top().join(".git").display()));
    assert_eq!(repo.plan().unwrap().head_subject(), None);
    // A worktree that the other repository does not know of.
    private.git(&["worktree", "add", "-q", &private.base().join("side").display().to_string()]);
    std::fs::copy(private.base().join("side/.git"), repo.top().join(".git")).unwrap();
    assert_eq!(repo.plan().unwrap().head_subject(), None);
    assert_eq!(plan(&private.base().join("side"), &WorkspaceSettings::default()).unwrap().head_subject(), Some("Start here"));
    // Objects by a link.
    let linked = Repo::new();
    let objects = linked.top().join(".git/objects");
    std::fs::rename(&objects, linked.base().join("objects")).unwrap();
    std::os::unix::fs::symlink(linked.base().join("objects"), &objects).unwrap();
    assert_eq!(linked.plan().unwrap().head_subject(), None);
}

#[test]
fn special_files_among_the_objects_are_refused_at_once() {
    let repo = Repo::new();
    fifo(&repo.top().join(".git/objects/pack/pack-0.idx"));
    assert_eq!(repo.plan().err().unwrap().code, Code::UnsafeRepository);
}

#[test]
fn unknown_extensions_are_refused_where_git_refuses_them() {
    let repo = Repo::new();
    repo.git(&["config", "extensions.evil", "true"]);
    assert!(repo.plan().is_ok(), "version 0 gives extensions no meaning");
    repo.git(&["config", "core.repositoryFormatVersion", "1"]);
    let error = repo.plan().err().unwrap();
    assert!(error.code == Code::WorktreeError && error.message.contains("evil"), "{error:?}");
}

#[test]
fn only_the_shared_index_that_is_named_is_copied() {
    let repo = Repo::new();
    repo.git(&["update-index", "--split-index"]);
    repo.write("new", "n");
    repo.git(&["add", "new"]);
    for n in 0..20 {
        let name = repo.top().join(format!(".git/sharedindex.{n:040}"));
        std::fs::File::create(name).unwrap().set_len(60 << 20).unwrap();
    }
    assert_eq!(repo.snapshot().tree.len(), 4);
}

#[test]
fn a_root_that_became_a_link_is_not_opened() {
    let repo = Repo::new();
    std::os::unix::fs::symlink("repo", repo.base().join("link")).unwrap();
    assert!(super::super::beneath::Root::open(&repo.top()).is_ok());
    assert!(super::super::beneath::Root::open(&repo.base().join("link")).is_err());
    assert!(super::super::beneath::Root::open(&repo.base().join("link/dir")).is_err());
}

#[test]
fn files_that_grow_after_the_plan_do_not_fill_the_memory() {
    let repo = Repo::new();
    for n in 0..6 {
        repo.write(format!("grows{n}"), "x");
    }
    repo.commit("Small");
    let plan = repo.plan().unwrap();
    for n in 0..6 {
        std::fs::OpenOptions::new().write(true).open(repo.path(format!("grows{n}"))).unwrap().set_len(7 << 20).unwrap();
    }
    let snapshot = unpack(plan);
    let sent: u64 = snapshot.manifest.frames.iter().map(|frame| frame.plain).sum();
    assert!(sent <= 16 << 20, "{sent}");
    assert_eq!(snapshot.summary.left_out.iter().filter(|l| l.why == "changed_while_read").count(), 4);
    assert!(snapshot.tree.contains_key(b"a.txt".as_slice()));
}
