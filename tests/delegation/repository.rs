//! Every form of repository that people have.

use crate::support::{Repo, TestEnv};

/// A task whose rehearsal program runs one shell step.
fn shell(step: &str) -> String {
    format!("Run the rehearsal.\n```rehearsal\nshell {step}\nmessage done\n```\n")
}

#[track_caller]
fn delegate(env: &TestEnv, repo: &Repo, step: &str) -> serde_json::Value {
    let result = env.delegate(repo, &shell(step));
    assert_eq!(result["state"], "completed", "{result:#}");
    result
}

#[track_caller]
fn patch(env: &TestEnv, result: &serde_json::Value) -> String {
    String::from_utf8(env.diff(result["job_id"].as_str().expect("job id"))).expect("text")
}

#[test]
fn a_subdirectory_is_where_codex_starts() {
    let env = TestEnv::new();
    let repo = env.repo();
    repo.bash("mkdir -p a/b; echo x > a/b/f; echo top > top; git add .; git commit -qm base");
    let result = delegate(&env, &repo.at("a/b"), "pwd > where; cat ../../top >> where");
    let patch = patch(&env, &result);
    assert!(patch.contains("b/a/b/where") && patch.contains("+/workspace/a/b\n+top"), "{patch}");
    assert_eq!(result["applies"]["ok"], true);
}

#[test]
fn a_linked_worktree() {
    let env = TestEnv::new();
    let repo = env.repo();
    repo.bash("echo x > f; git add .; git commit -qm base; git worktree add -q linked -b other; echo y > linked/f");
    let linked = repo.at("linked");
    let before = linked.hash_everything();
    let result = delegate(&env, &linked, "cat f > seen");
    assert!(patch(&env, &result).contains("+y"));
    assert_eq!(linked.hash_everything(), before);
}

#[test]
fn a_shallow_clone() {
    let env = TestEnv::new();
    let repo = env.repo();
    repo.bash("for i in 1 2 3; do echo $i > f; git add .; git commit -qm c$i; done; git clone -q --depth 1 file://$PWD shallow");
    let result = delegate(&env, &repo.at("shallow"), "cat f > seen");
    assert_eq!(result["snapshot"]["shallow"], true, "{result:#}");
    assert!(patch(&env, &result).contains("+3"));
}

#[test]
fn a_sparse_checkout_deletes_nothing() {
    let env = TestEnv::new();
    let repo = env.repo();
    repo.bash("mkdir in out; echo 1 > in/f; echo 2 > out/g; git add .; git commit -qm base; git sparse-checkout set in");
    let result = delegate(&env, &repo, "test ! -e out/g; echo new > in/new");
    let patch = patch(&env, &result);
    assert!(patch.contains("in/new") && !patch.contains("out/g"), "{patch}");
    assert_eq!(result["snapshot"]["sparse_files"], 1, "{result:#}");
}

#[test]
fn a_sha256_repository() {
    let env = TestEnv::new();
    let repo = env.repo_with("--object-format=sha256");
    repo.bash("seq 9 > f; printf 'a\\0b' > bin; git add .; git commit -qm base");
    let result = delegate(&env, &repo, "git log --oneline | grep . && echo 10 >> f && printf 'c\\0d' > bin");
    let patch = env.diff(result["job_id"].as_str().expect("job id"));
    let copy = repo.tracked_copy();
    copy.bash("git init -q --object-format=sha256 .");
    copy.git_apply(&patch);
    assert_eq!(std::fs::read(copy.path().join("bin")).expect("bin"), b"c\0d");
}

#[test]
fn intent_to_add_and_unmerged_entries() {
    let env = TestEnv::new();
    let repo = env.repo();
    repo.bash(
        "echo base > f; git add .; git commit -qm base; git checkout -qb other; echo other > f; git commit -qam other; git checkout -q -; echo mine > f; git commit -qam mine
git merge -q other || true; echo planned > planned; git add -N planned",
    );
    let result = delegate(&env, &repo, "cat planned f > seen");
    let patch = patch(&env, &result);
    assert!(patch.contains("+planned") && patch.contains("+<<<<<<<"), "{patch}");
    assert_eq!(result["snapshot"]["unmerged_files"], 1, "{result:#}");
}

#[test]
fn submodules_and_lfs_pointers_are_reported() {
    let env = TestEnv::new();
    let repo = env.repo();
    repo.bash(
        "git init -q sub; (cd sub; echo s > s; git add .; git commit -qm s); git -c protocol.file.allow=always submodule add -q ./sub mod 2>/dev/null || git submodule add -q ./sub sub
printf 'version https://git-lfs.github.com/spec/v1\\noid sha256:%064d\\nsize 123\\n' 1 > big.bin; git add .; git commit -qm base",
    );
    let result = delegate(&env, &repo, "for d in sub mod; do test -d $d && echo lost > $d/inside; done; echo kept > kept");
    assert_eq!(result["snapshot"]["submodule_count"], 2, "{result:#}");
    assert_eq!(result["snapshot"]["lfs_pointer_count"], 1, "{result:#}");
    // A file in a submodule cannot be part of the patch, and is not silently lost either.
    assert!(result["refused"].as_array().is_some_and(|r| r.iter().any(|r| r["why"] == "inside_submodule")), "{result:#}");
    assert!(patch(&env, &result).contains("kept"));
}

#[test]
fn untracked_and_ignored_files_stay_at_home() {
    let env = TestEnv::new();
    let repo = env.repo();
    repo.bash("echo '*.log' > .gitignore; git add .; git commit -qm base; echo secret > .env; echo l > x.log");
    let result = delegate(&env, &repo, "test ! -e .env && test ! -e x.log && ls -A | sort > seen");
    let patch = patch(&env, &result);
    assert!(patch.contains("+.gitignore") && !patch.contains("+.env"), "{patch}");
}

#[test]
fn an_untracked_file_in_the_way_is_said() {
    let env = TestEnv::new();
    let repo = env.repo();
    repo.bash("echo x > f; git add .; git commit -qm base; echo mine > new");
    let result = delegate(&env, &repo, "echo theirs > new");
    assert_eq!(result["applies"]["ok"], false, "{result:#}");
    assert_eq!(result["applies"]["conflicts"][0]["path"], "new", "{result:#}");
    // And `apply` refuses, changing nothing.
    let out = env.run_in(repo.path(), &["apply", result["job_id"].as_str().expect("job id"), "--json"]);
    assert_eq!(out.code, 11, "{out:?}");
    assert_eq!(out.json()["error"]["code"], "apply_conflict");
    assert_eq!(std::fs::read(repo.path().join("new")).expect("new"), b"mine\n");
}

#[test]
fn apply_changes_the_working_tree_and_nothing_else() {
    let env = TestEnv::new();
    let repo = env.repo();
    repo.bash("seq 5 > f; echo gone > gone; git add .; git commit -qm base");
    let result = delegate(&env, &repo, "echo 6 >> f; rm gone; mkdir d; printf '#!/bin/sh\\n' > d/run; chmod +x d/run; ln -s f link");
    let git_before = repo.at(".git").hash_everything();
    let out = env.run_in(repo.path(), &["apply", result["job_id"].as_str().expect("job id"), "--json"]);
    assert_eq!(out.code, 0, "{out:?}");
    repo.bash("test \"$(tail -1 f)\" = 6; test ! -e gone; test -x d/run; test \"$(readlink link)\" = f");
    assert_eq!(repo.at(".git").hash_everything(), git_before);
}

#[test]
fn the_users_tree_is_untouched_and_its_configuration_never_runs() {
    let env = TestEnv::new();
    let repo = env.repo();
    repo.bash(
        r#"echo x > f; printf '* filter=evil diff=evil\n' > .gitattributes; git add .; git commit -qm base; echo y > f
M=$PWD/../marker
mkdir -p hooks; for h in post-index-change reference-transaction pre-commit post-checkout; do printf '#!/bin/sh\ntouch %s-hook\n' $M > hooks/$h; chmod +x hooks/$h; done
git config core.hooksPath $PWD/hooks; git config core.fsmonitor "touch $M-fsmonitor; false"; git config filter.evil.clean "touch $M-clean; cat"; git config filter.evil.smudge "touch $M-smudge; cat"
git config diff.external "touch $M-external; true"; git config diff.evil.textconv "touch $M-textconv; cat"; git config core.pager "touch $M-pager; cat"; git config alias.ls-files '!touch '$M'-alias'
git config core.sshCommand "touch $M-ssh"; printf '[core]\n\tfsmonitor = touch %s-include\n' $M > extra; git config include.path $PWD/extra"#,
    );
    let before = repo.hash_everything();
    let result = delegate(&env, &repo, "cat f > seen");
    env.run_in(repo.path(), &["result", result["job_id"].as_str().expect("job id"), "--json"]);
    assert_eq!(repo.hash_everything(), before);
    assert_eq!(repo.markers(), Vec::<String>::new());
    // The control: the same repository does run its configuration for plain git.
    repo.bash("git status >/dev/null 2>&1; git diff >/dev/null 2>&1; true");
    assert!(!repo.markers().is_empty());
}
