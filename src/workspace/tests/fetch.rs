//! Results as commits of the user's repository: what is written there, and what must not run or be met on the way.

use std::collections::HashMap;

use super::*;
use crate::error::Code;
use crate::workspace::ShownPath;
use crate::workspace::fetch::{FetchRequest, Fetched, prepare};

const JOB: &str = "00112233445566778899aabbccddeeff";
const REFERENCE: &str = "refs/anchorhold/00112233445566778899aabbccddeeff";

/// Fetches what a job made of a snapshot into the repository that `directory` lies in.
fn fetch_into(directory: &Path, snapshot: &Snapshot, new: &Tree) -> Result<Fetched> {
    let changes = changes(&snapshot.tree, new);
    let request = FetchRequest {
        directory: directory.to_owned(),
        roots: Vec::new(),
        caps: WorkspaceSettings::default(),
        job: JOB.to_owned(),
        head: snapshot.summary.head.clone(),
        manifest: snapshot.manifest.clone(),
        snapshot: snapshot.summary.clone(),
        unix_seconds: 1_700_000_000,
        words: "\nThe agent says:\n\n    done\n".to_owned(),
    };
    let prepared = prepare(request)?;
    let contents: HashMap<_, _> = prepared.missing().iter().map(|entry| (entry.id, snapshot.tree[entry.path.as_bytes()].1.clone())).collect();
    prepared.finish(&changes, &contents)
}

fn fetch(repo: &Repo, snapshot: &Snapshot, new: &Tree) -> Result<Fetched> {
    fetch_into(&repo.top(), snapshot, new)
}

/// What a commit holds, as git itself checks it out elsewhere.
fn tree_of(repo: &Repo, commit: &str) -> Tree {
    let place = tempfile::tempdir().unwrap();
    let index = place.path().join("index");
    let out = place.path().join("out");
    std::fs::create_dir(&out).unwrap();
    for args in [vec!["read-tree", commit], vec!["checkout-index", "-a", &format!("--prefix={}/", out.display())]] {
        let output = git_command(&repo.top(), &args).env("GIT_INDEX_FILE", &index).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    read_tree(&out)
}

/// Everything below: kind, mode and content, and outside of the git directory also when it was changed. Within it git's own maintenance after a commit
/// makes and removes a lock.
fn everything(repo: &Repo) -> BTreeMap<PathBuf, Print> {
    let all = fingerprint(&repo.base()).into_iter();
    all.map(|(path, (mode, seconds, nanos, content))| {
        let timed = !path.to_string_lossy().contains("/.git");
        (path, if timed { (mode, seconds, nanos, content) } else { (mode, 0, 0, content) })
    })
    .filter(|(path, _)| !path.ends_with("objects/maintenance.lock"))
    .collect()
}

/// Everything but what a fetch may add.
fn rest(repo: &Repo) -> BTreeMap<PathBuf, Print> {
    let mut all = everything(repo);
    all.retain(|path, _| !["/.git/objects/pack", "/.git/refs/anchorhold"].iter().any(|added| path.to_string_lossy().contains(added)));
    all
}

/// A new file, a changed one, one that became a link and one that is gone.
fn changed(base: &Tree) -> Tree {
    let mut new = base.clone();
    new.insert(b"a.txt".to_vec(), file("one\ntwo\nthree\n"));
    new.insert(b"new/deep/x".to_vec(), exec("#!/bin/sh\n"));
    new.insert(b"dir/b.txt".to_vec(), link("../a.txt"));
    new.remove(b"dir/deep/c.txt".as_slice());
    new
}

#[test]
fn the_parent_of_a_result_on_a_clean_tree_is_head() {
    let repo = Repo::new();
    let snapshot = repo.snapshot();
    let new = changed(&snapshot.tree);
    let before = rest(&repo);
    let fetched = fetch(&repo, &snapshot, &new).unwrap();
    assert_eq!((fetched.reference.as_str(), fetched.base_commit.as_deref(), fetched.already_there), (REFERENCE, None, false));
    assert_eq!(repo.git(&["rev-parse", REFERENCE]), fetched.commit);
    assert_eq!(repo.git(&["rev-parse", &format!("{REFERENCE}^")]), repo.git(&["rev-parse", "HEAD"]));
    assert_eq!(tree_of(&repo, REFERENCE), new);
    assert_eq!(
        repo.git(&["log", "-1", "--format=%an <%ae> %ad|%s", "--date=unix", REFERENCE]),
        format!("Anchorhold <job@anchorhold.invalid> 1700000000|Result of the Anchorhold job {JOB}: 4 files")
    );
    assert_eq!(rest(&repo), before, "branch, index, files and configuration");
    assert_eq!(repo.git(&["status", "--porcelain"]), "");
    repo.git(&["fsck", "--strict"]);
    // Once more: the same, and nothing is written.
    let whole = everything(&repo);
    let again = fetch(&repo, &snapshot, &new).unwrap();
    assert_eq!(again, Fetched { already_there: true, ..fetched });
    assert_eq!(everything(&repo), whole);
}

#[test]
fn edits_that_were_not_committed_stand_in_a_commit_of_their_own() {
    let repo = Repo::new();
    repo.write("a.txt", "edited\n");
    repo.write("staged", "staged\n");
    repo.git(&["add", "staged"]);
    repo.remove("dir/b.txt");
    repo.write("untracked", "u\n");
    let snapshot = repo.snapshot();
    let mut new = snapshot.tree.clone();
    new.insert(b"staged".to_vec(), file("the agent's\n"));
    // The tree goes on meanwhile.
    repo.write("a.txt", "edited again\n");
    let fetched = fetch(&repo, &snapshot, &new).unwrap();
    let base = fetched.base_commit.clone().unwrap();
    assert_eq!(repo.git(&["rev-parse", &format!("{REFERENCE}^")]), base);
    assert_eq!(repo.git(&["rev-parse", &format!("{base}^")]), repo.git(&["rev-parse", "HEAD"]));
    assert_eq!((tree_of(&repo, &base), tree_of(&repo, REFERENCE)), (snapshot.tree.clone(), new.clone()));
    assert_eq!(repo.git(&["diff", "--name-only", &base, REFERENCE]), "staged");
    repo.git(&["fsck", "--strict"]);
    assert!(fetch(&repo, &snapshot, &new).unwrap().already_there);
}

#[test]
fn content_that_is_not_what_was_sent_makes_no_commit() {
    let repo = Repo::new();
    repo.write("a.txt", "edited\n");
    let snapshot = repo.snapshot();
    let mut lying = Snapshot { manifest: snapshot.manifest.clone(), tree: snapshot.tree.clone(), summary: snapshot.summary.clone() };
    let mut new = snapshot.tree.clone();
    new.insert(b"n".to_vec(), file("n"));
    lying.tree.insert(b"a.txt".to_vec(), file("another\n"));
    new.insert(b"a.txt".to_vec(), file("another\n"));
    assert_eq!(fetch(&repo, &lying, &new).unwrap_err().code, Code::JobFailed);
    assert!(!repo.path(".git/refs/anchorhold").exists());
}

#[test]
fn what_was_not_sent_stays_as_in_head() {
    let repo = Repo::new();
    repo.remove("dir/b.txt");
    std::os::unix::net::UnixListener::bind(repo.path("dir/b.txt")).unwrap();
    let snapshot = repo.snapshot();
    assert_eq!(snapshot.summary.left_out_count, 1);
    let mut new = snapshot.tree.clone();
    new.insert(b"a.txt".to_vec(), file("x\n"));
    let fetched = fetch(&repo, &snapshot, &new).unwrap();
    assert_eq!((fetched.not_sent, fetched.base_commit), (1, None));
    assert_eq!(repo.git(&["diff", "--name-only", "HEAD", REFERENCE]), "a.txt");
    // A change where that is cannot be said.
    repo.git(&["update-ref", "-d", REFERENCE]);
    new.insert(b"dir/b.txt/inside".to_vec(), file("x\n"));
    assert_eq!(fetch(&repo, &snapshot, &new).unwrap_err().code, Code::ApplyConflict);
}

#[test]
fn ignored_files_that_were_sent_get_into_no_commit() {
    let repo = Repo::new();
    let mut snapshot = repo.snapshot();
    snapshot.tree.insert(b".env".to_vec(), file("SECRET=1\n"));
    snapshot.manifest = manifest(&snapshot.tree, ObjectFormat::Sha1);
    snapshot.summary.included = vec![ShownPath::new(b".env")];
    snapshot.summary.included_count = 1;
    let mut new = changed(&snapshot.tree);
    new.insert(b".env".to_vec(), file("SECRET=2\n"));
    let fetched = fetch(&repo, &snapshot, &new).unwrap();
    assert_eq!((fetched.ignored, fetched.base_commit), (1, None));
    assert!(!tree_of(&repo, REFERENCE).contains_key(b".env".as_slice()));
    snapshot.summary.included_count = 2;
    assert_eq!(fetch(&repo, &snapshot, &new).unwrap_err().code, Code::Unsupported);
}

#[test]
fn nothing_of_the_repository_runs() {
    let repo = Repo::new();
    let marker = repo.base().join("marker");
    repo.write("a.txt", "edited\n");
    for hook in ["reference-transaction", "post-index-change", "pre-commit", "commit-msg", "post-commit", "post-rewrite"] {
        let path = repo.path(format!(".git/hooks/{hook}"));
        write_file(&path, format!("#!/bin/sh\ntouch {}\n", marker.display()).as_bytes());
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let touch = format!("touch {}", marker.display());
    for key in ["core.fsmonitor", "filter.evil.clean", "filter.evil.smudge", "diff.external", "gpg.program", "alias.commit-tree"] {
        repo.git(&["config", key, &touch]);
    }
    repo.git(&["config", "commit.gpgSign", "true"]);
    write_file(&repo.path(".git/info/attributes"), b"* filter=evil\n");
    let snapshot = repo.snapshot();
    let fetched = fetch(&repo, &snapshot, &changed(&snapshot.tree)).unwrap();
    assert!(!marker.exists());
    // The hooks are real: a reference that the user's own git writes runs one.
    repo.git(&["update-ref", "refs/heads/other", &fetched.commit]);
    assert!(marker.exists());
}

#[test]
fn no_link_in_the_git_directory_leads_out() {
    for place in ["refs/anchorhold", "objects/pack", "refs"] {
        let repo = Repo::new();
        let snapshot = repo.snapshot();
        let outside = repo.base().join("outside");
        std::fs::create_dir(&outside).unwrap();
        let at = repo.path(format!(".git/{place}"));
        if at.exists() {
            if place == "refs" {
                repo.git(&["pack-refs", "--all"]);
            }
            std::fs::remove_dir_all(&at).unwrap();
        }
        std::os::unix::fs::symlink(&outside, &at).unwrap();
        let error = fetch(&repo, &snapshot, &changed(&snapshot.tree)).unwrap_err();
        assert_eq!(error.code, Code::UnsafeRepository, "{place}: {}", error.chain());
        assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0, "{place}");
    }
}

#[test]
fn only_the_repository_of_the_job_and_only_its_own_git_directory() {
    let repo = Repo::new();
    let snapshot = repo.snapshot();
    let new = changed(&snapshot.tree);
    let other = Repo::empty(&[]);
    other.write("x", "x");
    other.commit("Other");
    let error = fetch(&other, &snapshot, &new).unwrap_err();
    assert!(error.code == Code::WorktreeError && error.hint.unwrap().contains("--workspace"));
    // A `.git` file that leads to somebody's repository.
    let foreign = repo.base().join("foreign");
    write_file(&foreign.join(".git"), format!("gitdir: {}\n", repo.path(".git").display()).as_bytes());
    assert_eq!(fetch_into(&foreign, &snapshot, &new).unwrap_err().code, Code::UnsafeRepository);
    assert!(!repo.path(".git/refs/anchorhold").exists());
    let format = Repo::empty(&["--object-format=sha256"]);
    format.write("x", "x");
    format.commit("Other");
    assert_eq!(fetch(&format, &snapshot, &new).unwrap_err().code, Code::WorktreeError);
}

#[test]
fn a_reference_that_says_something_else_stays() {
    let repo = Repo::new();
    let snapshot = repo.snapshot();
    repo.git(&["update-ref", REFERENCE, "HEAD"]);
    let error = fetch(&repo, &snapshot, &changed(&snapshot.tree)).unwrap_err();
    assert!(error.code == Code::InvalidArguments && error.hint.unwrap().contains("update-ref -d"));
    repo.git(&["pack-refs", "--all"]);
    assert_eq!(fetch(&repo, &snapshot, &changed(&snapshot.tree)).unwrap_err().code, Code::InvalidArguments);
    repo.git(&["update-ref", "-d", REFERENCE]);
    write_file(&repo.path(format!(".git/{REFERENCE}.lock")), b"");
    assert_eq!(fetch(&repo, &snapshot, &changed(&snapshot.tree)).unwrap_err().code, Code::WorktreeError);
    assert!(repo.path(format!(".git/{REFERENCE}.lock")).exists(), "it is somebody else's");
    std::fs::remove_file(repo.path(format!(".git/{REFERENCE}.lock"))).unwrap();
    assert!(!fetch(&repo, &snapshot, &changed(&snapshot.tree)).unwrap().already_there);
}

#[test]
fn other_kinds_of_repository() {
    for args in [&["--object-format=sha256"][..], &["--ref-format=reftable"]] {
        let repo = Repo::empty(args);
        repo.write("a.txt", "one\n");
        repo.write("dir/b.txt", "b\n");
        repo.write("dir/deep/c.txt", "c\n");
        repo.commit("Start");
        repo.write("a.txt", "edited\n");
        let snapshot = repo.snapshot();
        let new = changed(&snapshot.tree);
        let fetched = fetch(&repo, &snapshot, &new).unwrap();
        assert_eq!(repo.git(&["rev-parse", REFERENCE]), fetched.commit, "{args:?}");
        assert_eq!(tree_of(&repo, REFERENCE), new);
        assert!(fetch(&repo, &snapshot, &new).unwrap().already_there);
        repo.git(&["fsck", "--strict"]);
        // A linked worktree shares references and objects with it.
        let linked = repo.base().join("linked");
        repo.git(&["worktree", "add", "-q", linked.to_str().unwrap()]);
        repo.git(&["update-ref", "-d", REFERENCE]);
        assert!(!fetch_into(&linked, &snapshot, &new).unwrap().already_there);
        assert_eq!(repo.git(&["rev-parse", REFERENCE]), fetched.commit, "{args:?}");
    }
}
