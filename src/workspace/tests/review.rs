//! Reviews of repositories as people have them: what is shown, and what is delivered.

use proptest::prelude::*;

use super::property::pair;
use super::*;
use crate::error::{Code, Error};
use crate::review::{ChangedFile, CoverageStatus, LineRange, ReviewScope};
use crate::workspace::{Origin, ReviewPlan, ReviewRequest, Untracked, manifest_of, plan_review};

pub fn branch(base: &str) -> ReviewRequest {
    ReviewRequest::new(ReviewScope::Branch { base: base.to_owned() })
}

pub fn commit(commit: &str) -> ReviewRequest {
    ReviewRequest::new(ReviewScope::Commit { commit: commit.to_owned() })
}

pub fn working_tree(untracked: Untracked) -> ReviewRequest {
    ReviewRequest { untracked, ..ReviewRequest::new(ReviewScope::WorkingTree) }
}

impl Repo {
    /// Plans a review, and holds it against the promise that nothing of the user's is touched.
    pub fn try_review(&self, request: &ReviewRequest) -> Result<ReviewPlan> {
        let before = fingerprint(&self.top());
        let planned = plan_review(&self.top(), &WorkspaceSettings::default(), request);
        assert_eq!(fingerprint(&self.top()), before, "the repository is as it was");
        planned
    }

    pub fn review(&self, request: &ReviewRequest) -> ReviewPlan {
        self.try_review(request).unwrap_or_else(|e| panic!("{}: {:?}", e.chain(), e.hint))
    }

    pub fn refused(&self, request: &ReviewRequest) -> Error {
        self.try_review(request).err().expect("it is refused")
    }
}

pub fn paths(planned: &ReviewPlan) -> Vec<&str> {
    planned.change.files.iter().map(|file| file.path.as_str()).collect()
}

pub fn text(planned: &ReviewPlan) -> String {
    String::from_utf8_lossy(&planned.diff).into_owned()
}

/// A branch with two commits, whose base has moved on; HEAD on the branch, and edits in the working tree that nobody committed.
fn branched() -> Repo {
    let repo = Repo::new();
    repo.git(&["checkout", "-q", "-b", "feature"]);
    repo.write("a.txt", "one\nTWO\n");
    repo.commit("First");
    repo.write("new.txt", "new\n");
    repo.remove("dir/b.txt");
    repo.commit("Second");
    repo.git(&["checkout", "-q", "main"]);
    repo.write("later.txt", "only on main\n");
    repo.commit("Later");
    repo.git(&["checkout", "-q", "feature"]);
    repo.write("a.txt", "uncommitted\n");
    repo.write("untracked.txt", "SECRET\n");
    repo
}

#[test]
fn a_base_that_nobody_names_is_the_remotes_default_branch() {
    let unnamed = || ReviewRequest::new(crate::workspace::review::scope("branch", None, None).unwrap());
    let base = |planned: &ReviewPlan| match &planned.change.scope {
        ReviewScope::Branch { base } => base.clone(),
        other => panic!("{other:?}"),
    };
    let repo = branched();
    let planned = repo.review(&unnamed());
    assert_eq!((base(&planned).as_str(), paths(&planned)), ("main", vec!["a.txt", "dir/b.txt", "new.txt"]));
    repo.git(&["update-ref", "refs/remotes/origin/main", "main"]);
    assert_eq!(base(&repo.review(&unnamed())), "origin/main");
    // The remote says itself which one it is.
    repo.git(&["update-ref", "refs/remotes/origin/trunk", "feature~1"]);
    repo.git(&["symbolic-ref", "refs/remotes/origin/HEAD", "refs/remotes/origin/trunk"]);
    let planned = repo.review(&unnamed());
    assert_eq!((base(&planned).as_str(), paths(&planned)), ("origin/HEAD", vec!["dir/b.txt", "new.txt"]));
    let other = branched();
    other.git(&["branch", "-m", "main", "elsewhere"]);
    let error = other.refused(&unnamed());
    assert_eq!((error.code, error.details.get("field")), (Code::InvalidBase, Some(&"base".into())));
    assert!(error.hint.unwrap().contains("pass base"));
}

#[test]
fn a_branch_is_what_it_did_since_it_left_its_base() {
    let repo = branched();
    let planned = repo.review(&branch("main"));
    assert_eq!(paths(&planned), ["a.txt", "dir/b.txt", "new.txt"]);
    assert_eq!(
        planned.change.files[0],
        ChangedFile { path: "a.txt".into(), old_path: None, shown: vec![LineRange { start: 1, end: 2 }], added: 1, removed: 1 }
    );
    assert!(planned.change.files[1].shown.is_empty() && planned.change.files[1].removed == 1, "a deletion has no line of the new side");
    assert_eq!(planned.change.base_commit, Some(repo.git(&["merge-base", "main", "HEAD"])));
    assert_eq!(planned.change.head_commit, Some(repo.git(&["rev-parse", "HEAD"])));
    assert_eq!((planned.coverage.status, planned.coverage.untracked_files_detected), (CoverageStatus::Full, 0));
    assert_eq!((planned.plan.summary().branch.as_deref(), planned.plan.summary().dirty), (Some("feature"), false));
    assert_eq!(planned.plan.head_subject(), Some("Second"));
    let files = planned.plan.summary().files;
    let snapshot = unpack(planned.plan);
    assert_eq!(snapshot.tree, tree([(b"a.txt", file("one\nTWO\n")), (b"dir/deep/c.txt", file("c\n")), (b"new.txt", file("new\n"))]));
    assert_eq!((files, snapshot.summary.files, snapshot.summary.untracked_sent), (3, 3, false));
}

#[test]
fn a_base_has_many_names() {
    let repo = branched();
    let id = repo.git(&["rev-parse", "main"]);
    repo.git(&["tag", "-a", "-m", "note", "v1", "main"]);
    repo.git(&["tag", "-a", "-m", "note of a note", "v2", "v1"]);
    repo.git(&["update-ref", "refs/remotes/origin/trunk", "main"]);
    repo.git(&["update-ref", "refs/heads/caf\u{e9}/x", "main"]);
    repo.git(&["symbolic-ref", "refs/remotes/origin/HEAD", "refs/remotes/origin/trunk"]);
    repo.git(&["update-ref", "refs/heads/--upload-pack=x", "main"]);
    write_file(&repo.top().join(".git/FETCH_HEAD"), format!("{id}\t\tbranch 'main' of somewhere\n").as_bytes());
    repo.git(&["pack-refs", "--all"]);
    repo.git(&["update-ref", "refs/heads/loose", "main"]);
    let expected = repo.review(&branch("main")).diff;
    for base in [
        &id,
        &id[..7],
        &id.to_uppercase()[..9],
        "v1",
        "v2",
        "v2^{}",
        "tags/v1",
        "refs/heads/main",
        "heads/main",
        "origin/trunk",
        "trunk",
        "origin",
        "caf\u{e9}/x",
        "FETCH_HEAD",
        "loose",
        "refs/heads/--upload-pack=x",
        "HEAD~2",
        "@^^",
        "main^{commit}~0",
    ] {
        assert_eq!(repo.review(&branch(base)).diff, expected, "{base}");
    }
}

#[test]
fn a_base_that_is_no_commit_or_not_here_says_what_to_do() {
    let repo = branched();
    repo.git(&["tag", "tree", "HEAD^{tree}"]);
    repo.git(&["tag", "blob", "HEAD:a.txt"]);
    for base in ["tree", "blob"] {
        let error = repo.refused(&branch(base));
        assert!(error.code == Code::InvalidBase && error.message.contains("no commit"), "{error:?}");
    }
    for (base, fetch) in [
        ("origin/main", "git fetch origin main:refs/remotes/origin/main"),
        ("release/2.x", "git fetch origin release/2.x:refs/remotes/origin/release/2.x"),
        ("deadbeefdeadbeef", "git fetch origin"),
        ("$(touch${IFS}x)", "git fetch origin BRANCH"),
    ] {
        let error = repo.refused(&branch(base));
        assert!(error.code == Code::InvalidBase && error.hint.as_ref().unwrap().contains(fetch), "{base}: {error:?}");
        assert!(!error.message.contains(base), "a rejected value is not repeated");
    }
    let error = repo.refused(&branch("HEAD~50"));
    assert!(error.code == Code::InvalidBase && error.message.contains("go back"), "{error:?}");
    for base in ["--all", "-h", "", "a b", "main..feature", "HEAD:a.txt", "main\n", ":/First", "HEAD^{tree}"] {
        assert_eq!(repo.refused(&branch(base)).code, Code::InvalidBase, "{base}");
        assert_eq!(repo.refused(&commit(base)).code, Code::InvalidCommit, "{base}");
    }
    repo.git(&["checkout", "-q", "-f", "--orphan", "other"]);
    repo.commit("Another root");
    assert!(repo.refused(&branch("main")).message.contains("no history"));
}

#[test]
fn a_commit_against_its_first_parent() {
    let repo = branched();
    let planned = repo.review(&commit("HEAD~1"));
    assert_eq!(paths(&planned), ["a.txt"]);
    assert_eq!(planned.plan.summary().branch, None, "it is not HEAD that is delivered");
    assert!(unpack(planned.plan).tree.contains_key(b"dir/b.txt".as_slice()));
    let root = repo.review(&commit("HEAD~2"));
    assert_eq!((paths(&root), root.change.base_commit.as_deref()), (vec!["a.txt", "dir/b.txt", "dir/deep/c.txt"], None));
    assert!(text(&root).contains("new file mode 100644"));
    repo.git(&["checkout", "-q", "-f", "main"]);
    repo.git(&["merge", "-q", "--no-edit", "feature"]);
    assert_eq!(paths(&repo.review(&commit("main"))), ["a.txt", "dir/b.txt", "new.txt"], "a merge against its first parent");
    assert_eq!(paths(&repo.review(&commit("main^2"))), ["dir/b.txt", "new.txt"]);
}

#[test]
fn nothing_to_review_is_no_error() {
    let repo = Repo::new();
    for request in [working_tree(Untracked::Include), branch("HEAD"), branch("main")] {
        let planned = repo.review(&request);
        assert!(planned.nothing_to_review() && planned.diff.is_empty() && planned.coverage.status == CoverageStatus::Full);
        assert_eq!(unpack(planned.plan).tree.len(), 3);
    }
    repo.write("untracked", "u");
    let planned = repo.review(&working_tree(Untracked::ExplicitOnly));
    assert!(planned.nothing_to_review() && planned.coverage.status == CoverageStatus::None);
    assert_eq!((planned.coverage.untracked_files_detected, planned.coverage.untracked_files_omitted), (1, 1));
}

#[test]
fn a_working_tree_against_head() {
    let repo = Repo::new();
    repo.write("moved.txt", "line\n".repeat(30));
    repo.write("tool", "#!/bin/sh\n");
    repo.write("touched", "same\n");
    repo.write("was-dir/x", "x\n");
    repo.link("link", "a.txt");
    repo.commit("More");
    repo.write("a.txt", "one\n2\n");
    repo.git(&["mv", "moved.txt", "here.txt"]);
    std::fs::set_permissions(repo.path("tool"), std::fs::Permissions::from_mode(0o755)).unwrap();
    repo.remove("dir/b.txt");
    repo.write("touched", "same\n");
    repo.write("staged", "s\n");
    repo.git(&["add", "staged"]);
    repo.write("staged", "then edited\n");
    std::fs::remove_dir_all(repo.path("was-dir")).unwrap();
    repo.link("was-dir", "/etc");
    repo.remove("link");
    repo.link("link", "tool");
    let planned = repo.review(&working_tree(Untracked::Exclude));
    let shown = text(&planned);
    assert_eq!(paths(&planned), ["a.txt", "dir/b.txt", "here.txt", "link", "staged", "tool", "was-dir/x"], "{shown}");
    assert_eq!(planned.change.files[2].old_path.as_deref(), Some("moved.txt"));
    assert!(shown.contains("+then edited\n") && shown.contains("old mode 100644\nnew mode 100755\n"));
    assert_eq!((planned.change.head_commit.as_deref(), planned.plan.summary().dirty), (None, true));
    let snapshot = unpack(planned.plan);
    assert_eq!(snapshot.tree[b"staged".as_slice()], file("then edited\n"));
    assert!(!snapshot.tree.contains_key(b"was-dir".as_slice()), "the link is untracked");
}

#[test]
fn untracked_files_are_taken_in_as_asked() {
    let repo = Repo::new();
    repo.write(".gitignore", "*.log\n");
    repo.commit("Ignore");
    repo.write("x/one.rs", "1\n");
    repo.write("two.rs", "2\n");
    repo.write("noise.log", "SECRET");
    write_file(&repo.top().join(".git/info/exclude"), b"private\n");
    repo.write("private", "SECRET");
    git(&repo.top(), &["init", "-q", "nested"]);
    repo.write("nested/file", "SECRET");
    let counts = |planned: &ReviewPlan| (planned.coverage.untracked_files_detected, planned.coverage.untracked_files_omitted);
    let named = |names: &[&str], untracked| ReviewRequest { paths: names.iter().map(|n| (*n).to_owned()).collect(), ..working_tree(untracked) };

    let none = repo.review(&working_tree(Untracked::Exclude));
    assert_eq!((paths(&none).len(), counts(&none), none.coverage.status), (0, (3, 3), CoverageStatus::None));
    let all = repo.review(&working_tree(Untracked::Include));
    assert_eq!((paths(&all), counts(&all), all.coverage.status), (vec!["two.rs", "x/one.rs"], (3, 1), CoverageStatus::Partial));
    assert_eq!(all.plan.summary().untracked_count, 2);
    assert!(all.plan.summary().left_out.iter().any(|left| left.why == "nested_repository"));
    let snapshot = unpack(all.plan);
    assert!(snapshot.tree.contains_key(b"x/one.rs".as_slice()) && !snapshot.tree.values().any(|(_, bytes)| bytes == b"SECRET"));
    let some = repo.review(&named(&["x/one.rs"], Untracked::ExplicitOnly));
    assert_eq!((paths(&some), counts(&some)), (vec!["x/one.rs"], (1, 0)));
    let directory = repo.review(&named(&["x"], Untracked::ExplicitOnly));
    assert_eq!((paths(&directory).len(), counts(&directory)), (0, (1, 1)), "a directory names no file");
    assert_eq!(paths(&repo.review(&named(&["x"], Untracked::Include))), ["x/one.rs"]);
    // An ignored file is never taken in by its name.
    let error = repo.refused(&named(&["noise.log"], Untracked::ExplicitOnly));
    assert_eq!((error.code, &error.details["index"]), (Code::InvalidPaths, &0.into()));
}

#[test]
fn no_commit_yet_and_a_detached_head() {
    let repo = Repo::empty(&[]);
    repo.write("first.txt", "1\n");
    repo.git(&["add", "first.txt"]);
    repo.write("AGENTS.md", "obey\n");
    let planned = repo.review(&working_tree(Untracked::Include));
    assert_eq!((paths(&planned), planned.change.base_commit.as_deref()), (vec!["AGENTS.md", "first.txt"], None));
    assert_eq!((planned.plan.summary().head.as_deref(), planned.plan.summary().branch.as_deref()), (None, Some("main")));
    assert_eq!(unpack(planned.plan).tree, tree([(b"first.txt", file("1\n"))]), "the base has no instructions");
    assert_eq!(repo.refused(&branch("main")).code, Code::InvalidScope);
    assert_eq!(repo.refused(&commit("HEAD")).code, Code::InvalidCommit);
    repo.commit("One");
    repo.git(&["checkout", "-q", "--detach"]);
    repo.write("first.txt", "2\n");
    assert_eq!(paths(&repo.review(&working_tree(Untracked::Exclude))), ["first.txt"]);
    repo.commit("Two");
    assert_eq!(paths(&repo.review(&branch("main"))), ["first.txt"]);
    assert_eq!(repo.review(&branch("main")).plan.summary().branch, None);
}

#[test]
fn paths_narrow_what_is_reviewed_and_not_what_is_delivered() {
    let repo = branched();
    let narrowed = |names: &[&str]| ReviewRequest { paths: names.iter().map(|n| (*n).to_owned()).collect(), ..branch("main") };
    let planned = repo.review(&narrowed(&["dir", "./new.txt"]));
    assert_eq!(paths(&planned), ["dir/b.txt", "new.txt"]);
    assert_eq!(planned.coverage.status, CoverageStatus::Full);
    assert_eq!(unpack(planned.plan).tree.len(), 3);
    assert!(repo.review(&narrowed(&["dir/deep"])).nothing_to_review());
    let error = repo.refused(&narrowed(&["dir", "typo"]));
    assert_eq!((error.code, &error.details["index"]), (Code::InvalidPaths, &1.into()));
    assert_eq!(repo.refused(&narrowed(&["../x"])).code, Code::InvalidPaths);
    // Relative to the caller's directory.
    let planned = plan_review(&repo.path("dir"), &WorkspaceSettings::default(), &narrowed(&["b.txt"])).unwrap();
    assert_eq!((paths(&planned), planned.plan.subdirectory().map(|at| at.as_bytes().to_vec())), (vec!["dir/b.txt"], Some(b"dir".to_vec())));
}

#[test]
fn what_is_not_shown_is_told() {
    let repo = Repo::new();
    repo.write("binary", b"\0\x01");
    repo.commit("Binary");
    repo.write("binary", b"\0\x02");
    repo.write("huge", "x".repeat(9 << 20));
    repo.write("long", "line\n".repeat(4000));
    repo.write("a.txt", "one\n2\n");
    repo.commit("Changes");
    let planned = repo.review(&ReviewRequest { max_diff: 5000, ..commit("HEAD") });
    assert_eq!(paths(&planned), ["a.txt", "binary", "long", "huge"]);
    let omitted: Vec<_> = planned.omitted.iter().map(|o| (o.path.path.as_str(), o.why)).collect();
    assert_eq!(omitted, [("binary", "binary"), ("huge", "too_large"), ("long", "over_limit")]);
    assert_eq!((planned.coverage.status, planned.coverage.omission_reasons.len()), (CoverageStatus::Partial, 3));
    assert!(text(&planned).contains("Binary files a/binary and b/binary differ\n") && planned.diff.len() <= 5000);
    assert_eq!(unpack(planned.plan).tree[b"huge".as_slice()].1.len(), 9 << 20, "what is not shown is delivered all the same");
}

#[test]
fn instruction_files_are_those_of_the_base() {
    let repo = Repo::new();
    repo.write("AGENTS.md", "base\n");
    repo.write("kept/AGENTS.md", "kept\n");
    repo.write("gone/AGENTS.md", "gone\n");
    repo.write(".codex/config.toml", "base = 1\n");
    repo.write("shared/guide.md", "base guide\n");
    repo.write("skills/review/SKILL.md", "base skill\n");
    repo.write("skills/review/tool.sh", "base tool\n");
    std::fs::create_dir(repo.path(".agents")).unwrap();
    repo.link(".agents/skills", "../skills");
    repo.link("linked-AGENTS.md", "AGENTS.md");
    std::fs::create_dir(repo.path("by-link")).unwrap();
    repo.link("by-link/AGENTS.md", "../shared/guide.md");
    repo.link("by-link/CLAUDE.md", "/etc/passwd");
    repo.commit("Base");
    repo.git(&["checkout", "-q", "-b", "evil"]);
    repo.write("AGENTS.md", "EVIL\n");
    repo.write("AGENTS.override.md", "EVIL\n");
    repo.write("new/AGENTS.md", "EVIL\n");
    repo.remove("gone/AGENTS.md");
    std::fs::remove_dir_all(repo.path(".codex")).unwrap();
    repo.link(".codex", "hidden");
    repo.write("hidden/config.toml", "evil but plain\n");
    repo.write("shared/guide.md", "EVIL\n");
    repo.write("skills/review/SKILL.md", "EVIL\n");
    repo.write("skills/more/SKILL.md", "EVIL\n");
    repo.write("src.rs", "fn main() {}\n");
    repo.commit("Evil");
    let planned = repo.review(&branch("main"));
    let shown = text(&planned);
    assert!(shown.contains("-base\n+EVIL\n"), "the diff shows what the change does to them");
    assert_eq!(
        planned.change.instruction_files,
        [".agents/skills", ".codex", ".codex/config.toml", "AGENTS.md", "AGENTS.override.md", "by-link/AGENTS.md", "gone/AGENTS.md", "new/AGENTS.md"]
    );
    let manifest = manifest_of(&planned.plan, &[]).unwrap();
    assert!(
        manifest
            .instruction_files
            .iter()
            .filter(|f| f.path.path != "kept/AGENTS.md" && f.path.path != "by-link/CLAUDE.md")
            .all(|f| f.origin == Origin::Base)
    );
    let snapshot = unpack(planned.plan);
    let at = |path: &str| snapshot.tree.get(path.as_bytes()).cloned();
    assert_eq!(at("AGENTS.md"), Some(file("base\n")));
    assert_eq!(at("kept/AGENTS.md"), Some(file("kept\n")));
    assert_eq!(at("gone/AGENTS.md"), Some(file("gone\n")));
    assert_eq!(at(".codex/config.toml"), Some(file("base = 1\n")));
    // What links led to stands in their place; beside them the change's own files are as they are: text to review.
    assert_eq!(at("by-link/AGENTS.md"), Some(file("base guide\n")));
    assert_eq!(at(".agents/skills/review/SKILL.md"), Some(file("base skill\n")));
    assert_eq!(at(".agents/skills/review/tool.sh"), Some(file("base tool\n")));
    assert_eq!(at("shared/guide.md"), Some(file("EVIL\n")));
    for absent in ["AGENTS.override.md", "new/AGENTS.md", ".codex", ".agents/skills", ".agents/skills/more/SKILL.md", "by-link/CLAUDE.md"] {
        assert_eq!(at(absent), None, "{absent}");
    }
    assert_eq!(at("linked-AGENTS.md"), Some(link("AGENTS.md")));
    let left: Vec<_> = snapshot.summary.left_out.iter().filter(|l| l.why == "agent_instructions").map(|l| l.path.path.as_str()).collect();
    assert_eq!(left, [".agents/skills", ".codex", "AGENTS.override.md", "by-link/CLAUDE.md", "new/AGENTS.md"]);
}

#[test]
fn uncommitted_instructions_are_not_obeyed_either() {
    let repo = Repo::new();
    repo.write("AGENTS.md", "base\n");
    repo.write("sub/AGENTS.md", "same\n");
    repo.commit("Base");
    repo.write("AGENTS.md", "edited\n");
    repo.write("sub/AGENTS.md", "same\n");
    repo.write(".agents/skills/x/SKILL.md", "untracked\n");
    let planned = repo.review(&working_tree(Untracked::Include));
    assert_eq!(planned.change.instruction_files, [".agents/skills/x/SKILL.md", "AGENTS.md"]);
    let snapshot = unpack(planned.plan);
    assert_eq!(snapshot.tree[b"AGENTS.md".as_slice()], file("base\n"));
    assert!(!snapshot.tree.contains_key(b".agents/skills/x/SKILL.md".as_slice()));
}

#[test]
fn a_shallow_clone_says_how_to_get_what_is_missing() {
    let repo = branched();
    repo.git(&["checkout", "-q", "-f", "feature"]);
    let clone = |name: &str, depth: &str| {
        let url = format!("file://{}", repo.top().display());
        git(&repo.base(), &["clone", "-q", "--depth", depth, "--no-single-branch", &url, name]);
        repo.base().join(name)
    };
    let review = |at: &Path, request: &ReviewRequest| plan_review(at, &WorkspaceSettings::default(), request);
    let one = clone("one", "1");
    let error = review(&one, &branch("origin/main")).err().unwrap();
    assert!(error.code == Code::InvalidBase && error.hint.as_ref().unwrap().contains("git fetch --unshallow"), "{error:?}");
    let error = review(&one, &commit("HEAD")).err().unwrap();
    assert!(error.code == Code::InvalidCommit && error.hint.as_ref().unwrap().contains("git fetch --deepen"), "{error:?}");
    let error = review(&one, &commit("HEAD~1")).err().unwrap();
    assert!(error.code == Code::InvalidCommit && error.hint.as_ref().unwrap().contains("--deepen"), "{error:?}");
    assert!(review(&one, &working_tree(Untracked::Include)).unwrap().nothing_to_review());
    let two = clone("two", "2");
    let planned = review(&two, &commit("HEAD")).unwrap();
    assert!(paths(&planned) == ["dir/b.txt", "new.txt"] && planned.plan.summary().shallow);
    // A pipeline's checkout: the commit alone, detached, and the base fetched as the hint says.
    let deep = clone("deep", "3");
    git(&deep, &["checkout", "-q", "--detach"]);
    assert_eq!(paths(&review(&deep, &branch("main")).unwrap()), ["a.txt", "dir/b.txt", "new.txt"]);
}

#[test]
fn every_kind_of_repository() {
    for args in [&["--object-format=sha256"][..], &["--ref-format=reftable"]] {
        let repo = Repo::empty(args);
        repo.write("a", "1\n");
        repo.commit("One");
        repo.git(&["checkout", "-q", "-b", "work/one"]);
        repo.git(&["tag", "-a", "-m", "m", "v1"]);
        repo.write("a", "2\n");
        repo.commit("Two");
        assert_eq!(paths(&repo.review(&branch("main"))), ["a"], "{args:?}");
        assert_eq!(paths(&repo.review(&branch("v1"))), ["a"], "{args:?}");
        assert_eq!(repo.refused(&branch("missing")).code, Code::InvalidBase);
        let planned = repo.review(&commit("HEAD"));
        assert_eq!(unpack(planned.plan).tree, tree([(b"a", file("2\n"))]));
        // A worktree beside it has a HEAD of its own.
        repo.git(&["worktree", "add", "-q", "--detach", "../beside", "main"]);
        let beside = plan_review(&repo.base().join("beside"), &WorkspaceSettings::default(), &branch("work/one")).unwrap();
        assert!(beside.nothing_to_review());
    }
}

#[test]
fn submodules_are_named_and_not_entered() {
    let other = Repo::new();
    let repo = Repo::new();
    repo.git(&["-c", "protocol.file.allow=always", "submodule", "--quiet", "add", &other.top().display().to_string(), "module"]);
    repo.commit("Module");
    let before = repo.git(&["rev-parse", "HEAD"]);
    git(&repo.path("module"), &["commit", "-q", "--allow-empty", "-m", "x"]);
    repo.git(&["add", "module"]);
    let staged = repo.review(&working_tree(Untracked::Exclude));
    assert!(paths(&staged) == ["module"] && text(&staged).contains("+Subproject commit "));
    repo.commit("Bump");
    let planned = repo.review(&branch(&before));
    assert_eq!(paths(&planned), ["module"]);
    let snapshot = unpack(planned.plan);
    assert_eq!((snapshot.tree[b"module".as_slice()].0, snapshot.summary.submodule_count), (Mode::Submodule, 1));
}

/// For random pairs of trees, as two commits and as a commit and a working tree: both scopes show the same diff, which gives the new tree when
/// git applies it to the old one, and deliver the new tree.
#[test]
fn the_diff_is_the_change() {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(60);
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        cases,
        failure_persistence: None,
        max_shrink_iters: 60,
        ..ProptestConfig::default()
    });
    let outcome = runner.run(&pair(), |(base, new)| {
        let checkout = Checkout::new(ObjectFormat::Sha1);
        let at = checkout.path().canonicalize().unwrap();
        let review = |request: &ReviewRequest| plan_review(&at, &WorkspaceSettings::default(), request).unwrap();
        checkout.fill(&base);
        git(&at, &["add", "-A"]);
        git(&at, &["commit", "-q", "--allow-empty", "-m", "base"]);
        checkout.fill(&new);
        let lying = review(&working_tree(Untracked::Include));
        git(&at, &["add", "-A"]);
        git(&at, &["commit", "-q", "--allow-empty", "-m", "new"]);
        let committed = review(&commit("HEAD"));
        assert_eq!(lying.diff, committed.diff, "{}\n---\n{}", lying.diff.escape_ascii(), committed.diff.escape_ascii());
        assert_eq!(lying.change.files, committed.change.files);
        assert_eq!(committed.nothing_to_review(), base == new);
        for file in &committed.change.files {
            let lines = |range: &LineRange| u64::from(range.end - range.start) + 1;
            assert!(file.shown.iter().all(|range| range.start >= 1 && range.end >= range.start));
            assert!(file.shown.iter().map(lines).sum::<u64>() >= file.added);
            assert!(file.shown.is_sorted_by(|a, b| a.end < b.start));
        }
        let (diff, complete) = (committed.diff.clone(), committed.omitted.is_empty());
        assert_eq!(unpack(committed.plan).tree, new);
        assert_eq!(unpack(lying.plan).tree, new);
        if complete && base != new {
            // As a change of the index: in a working tree git 2.47 stumbles over links that lead to themselves.
            git(&at, &["read-tree", "HEAD~1"]);
            let mut child = git_command(&at, &["apply", "--cached", "-"]).stdin(std::process::Stdio::piped()).spawn().unwrap();
            io::Write::write_all(&mut child.stdin.take().unwrap(), &diff).unwrap();
            let output = child.wait_with_output().unwrap();
            assert!(output.status.success(), "{}\n{}", String::from_utf8_lossy(&output.stderr), diff.escape_ascii());
            assert_eq!(git(&at, &["write-tree"]), git(&at, &["rev-parse", "HEAD^{tree}"]));
        }
        Ok(())
    });
    if let Err(e) = outcome {
        panic!("{e}");
    }
}
