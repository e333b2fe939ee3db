//! The patch must be right: what the real Codex did in the cell is exactly what the patch does to a clean copy of the base.
//!
//! The oracle is the host: each case's script runs once in the cell, told to the real Codex by a rehearsal program, and once here on a copy
//! of the tracked files. `git apply` of the patch to another copy must give the same tree, byte for byte and mode for mode.

use crate::support::{Repo, TestEnv, Tree};

/// Runs `script` in the cell and on the host and compares; returns the result document for further looks.
#[track_caller]
fn check(setup: &str, script: &str) -> (TestEnv, Repo, serde_json::Value) {
    let env = TestEnv::new();
    let repo = env.repo();
    repo.bash(setup);
    let result = env.delegate(&repo, &rehearse(script));
    assert_eq!(result["state"], "completed", "{result:#}");
    compare(&env, &repo, script, &result);
    (env, repo, result)
}

/// A task whose rehearsal program runs a whole shell script, whatever characters it holds.
fn rehearse(script: &str) -> String {
    use base64::Engine as _;
    let packed = base64::engine::general_purpose::STANDARD.encode(format!("set -e\n{script}"));
    format!("Run the rehearsal.\n```rehearsal\nshell echo {packed} | base64 -d > /tmp/s && bash /tmp/s && echo rehearsed\nmessage done\n```\n")
}

#[track_caller]
fn compare(env: &TestEnv, repo: &Repo, script: &str, result: &serde_json::Value) {
    let base = repo.tracked_copy();
    let expected = repo.tracked_copy();
    expected.bash(&format!("set -e\n{script}"));
    let job = result["job_id"].as_str().expect("job id");
    let patch = env.diff(job);
    base.git_apply(&patch);
    assert_eq!(Tree::read(base.path()), Tree::read(expected.path()));
    // The tool's own word on the same question.
    if !patch.is_empty() {
        assert_eq!(result["applies"]["ok"], true, "{result:#}");
    }
}

#[test]
fn text_is_changed_and_added() {
    let (_env, _repo, result) = check("seq 100 > a.txt; git add .", "sed -i 's/^50$/fifty/' a.txt; mkdir -p d/e; echo new > d/e/f.txt");
    assert_eq!(result["files"].as_array().map(Vec::len), Some(2));
    assert_eq!(result["no_changes"], false);
}

#[test]
fn binary_new_and_changed() {
    let (_env, _repo, result) = check(
        "head -c 3000 /dev/zero | tr '\\0' '\\377' > blob.bin; printf 'a\\0b' > small.bin; git add .",
        "printf '\\000\\001\\002\\377new' > new.bin; printf 'x\\0y' >> blob.bin; printf 'a\\0c' > small.bin",
    );
    assert_eq!(result["risk"]["binaries"].as_array().map(Vec::len), Some(3), "{result:#}");
}

#[test]
fn latin1_and_invalid_utf8() {
    check(
        "printf 'caf\\351\\nna\\357ve\\n' > latin1.txt; git add .",
        "printf 'cr\\350me\\n' >> latin1.txt; printf '\\200\\201 text\\n' > invalid.txt",
    );
}

#[test]
fn crlf_and_no_newline_at_the_end() {
    check(
        "printf 'one\\r\\ntwo\\r\\nthree\\r\\n' > crlf.txt; printf 'last line' > noeol.txt; printf 'x\\n' > eol.txt; git add .",
        "printf 'one\\r\\nTWO\\r\\nthree\\r\\n' > crlf.txt; printf 'last line!' > noeol.txt; printf 'x' > eol.txt; printf 'cr only\\r' > cr.txt",
    );
}

#[test]
fn rename_and_rename_with_edit() {
    let (_env, _repo, result) = check(
        "seq 200 > moved.txt; seq 300 500 > edited.txt; git add .",
        "mkdir sub; mv moved.txt sub/moved.txt; mv edited.txt renamed.txt; sed -i 's/^400$/four hundred/' renamed.txt",
    );
    let renamed = result["files"].as_array().expect("files").iter().filter(|f| f["status"] == "renamed").count();
    assert_eq!(renamed, 2, "{result:#}");
}

#[test]
fn mode_only() {
    let (_env, _repo, result) = check("echo '#!/bin/sh' > run.sh; echo x > was.sh; chmod +x was.sh; git add .", "chmod +x run.sh; chmod -x was.sh");
    assert_eq!(result["risk"]["executables"].as_array().map(Vec::len), Some(1), "{result:#}");
}

#[test]
fn symlinks_new_changed_and_to_a_directory() {
    let (_env, _repo, result) = check(
        "echo t > target; ln -s target link; mkdir dir; echo f > dir/f; git add .",
        "ln -sfn dir/f link; ln -s dir todir; ln -s /etc/passwd escape; ln -s missing dangling",
    );
    let links = result["risk"]["symlinks"].as_array().expect("symlinks");
    assert_eq!(links.len(), 4, "{result:#}");
    assert!(links.iter().any(|l| l["path"] == "escape" && l["note"].as_str().is_some_and(|n| n.contains("/etc/passwd"))), "{result:#}");
}

#[test]
fn deletes_and_empty_files() {
    check("echo a > a; mkdir d; echo b > d/b; : > empty; git add .", "rm a d/b; rmdir d; : > new-empty; echo full > empty");
}

#[test]
fn file_directory_and_symlink_swap() {
    check(
        "echo f > file; mkdir dir; echo a > dir/a; ln -s file link; echo g > file2; git add .",
        "rm file; mkdir file; echo x > file/x; rm -r dir; echo now > dir; rm link; mkdir link; echo y > link/y; rm file2; ln -s dir file2",
    );
}

#[test]
fn names_of_every_kind() {
    check(
        "touch keep; git add .",
        r#"echo 1 > $'new\nline'; echo 2 > $'tab\there'; echo 3 > 'quo"te'; echo 4 > "apos'trophe"; echo 5 > ./-dash; echo 6 > $'latin\xe9'; echo 7 > 'back\slash'
echo 8 > "$(printf 'n%.0s' $(seq 255))"; mkdir $'d\xff'; echo 9 > $'d\xff/ x '; echo 10 > 'trailing '; echo 11 > $'cr\r'; echo 12 > 'ümläut'; echo 13 > $'bidi\u202ename'"#,
    );
}

#[test]
fn names_of_every_kind_change_and_go() {
    check(
        r#"echo 1 > $'new\nline'; echo 2 > $'tab\there'; echo 3 > 'quo"te'; echo 5 > ./-dash; echo 6 > $'latin\xe9'; echo 8 > "$(printf 'n%.0s' $(seq 255))"; git add ."#,
        r#"echo more >> $'new\nline'; rm $'tab\there'; chmod +x 'quo"te'; mv ./-dash ./--version; echo x >> $'latin\xe9'; rm n*"#,
    );
}

#[test]
fn dirty_tree_with_a_changed_binary() {
    let (_env, _repo, result) = check(
        "printf 'bin\\0one' > data.bin; echo one > text; git add .; git commit -qm base; printf 'bin\\0two' > data.bin; echo two > text; echo untracked > untracked",
        "cat data.bin text > seen; echo three >> text; test ! -e untracked",
    );
    assert_eq!(result["dirty"], true);
}

#[test]
fn five_megabytes_of_patch() {
    let (env, _repo, result) = check("seq 300000 > big.txt; git add .", "seq 300000 | awk '{print $1 * 7}' > big.txt");
    let patch = env.diff(result["job_id"].as_str().expect("job id"));
    assert!(patch.len() > 4_000_000, "{}", patch.len());
}

#[test]
fn a_secret_file_is_flagged_and_never_altered() {
    let secret = "TOKEN=ghp_0123456789abcdefghijklmnopqrstuvwxyz";
    let (env, _repo, result) = check("echo x > x; git add .", &format!("echo {secret} > .env; echo 'key = \"{secret}\"' > settings.py"));
    assert!(String::from_utf8_lossy(&env.diff(result["job_id"].as_str().expect("job id"))).contains(secret));
    let flagged: Vec<_> = result["risk"]["secrets"].as_array().expect("secrets").iter().map(|s| s["path"].as_str().unwrap_or_default()).collect();
    assert!(flagged.contains(&".env") && flagged.contains(&"settings.py"), "{result:#}");
}

#[test]
fn the_agent_commits_and_resets() {
    // A commit, a reset and a checkout change nothing about what counts: the working tree.
    check(
        "seq 10 > a; echo b > b; git add .",
        "if [ ! -d .git ]; then echo 1 > c; echo more >> a; exit 0; fi
git status --porcelain | grep . && exit 1
git log --oneline | wc -l | grep -qx 1
echo 1 > c; git add -A; git commit -qm work; echo more >> a; git diff --quiet && exit 1; git commit -qam again; git reset -q --soft HEAD~2; git stash list",
    );
}

#[test]
fn the_agent_deletes_the_git_directory() {
    check("echo a > a; git add .", "rm -rf .git; echo b > b");
}

#[test]
fn the_agent_makes_its_own_git_directory_hostile() {
    let marker = "/tmp/anchorhold-marker-of-the-cell";
    let (_env, _repo, _result) = check(
        "echo a > a; git add .",
        &format!(
            "echo b > b; if [ -d .git ]; then rm -rf .git; git init -q .; git config core.fsmonitor 'touch {marker}'; git config diff.external 'touch {marker}'; mkdir -p .git/hooks; printf '#!/bin/sh\\ntouch {marker}\\n' > .git/hooks/post-index-change; chmod +x .git/hooks/post-index-change; fi"
        ),
    );
    assert!(!std::path::Path::new(marker).exists());
}

#[test]
fn attributes_of_the_agent_steer_nothing() {
    let (_env, _repo, result) = check(
        "seq 5 > a.txt; git add .",
        "printf '* -diff\\n*.txt filter=evil eol=crlf\\n*.md binary\\n' > .gitattributes; echo 6 >> a.txt; echo '# t' > b.md",
    );
    let text = result["files"].as_array().expect("files").iter().all(|f| f["binary"] == false);
    assert!(text, "{result:#}");
    assert_eq!(result["risk"]["git_files"].as_array().map(Vec::len), Some(1), "{result:#}");
}

#[test]
fn an_ignore_file_hides_nothing() {
    check("echo a > a; git add .", "printf '*\\n' > .gitignore; echo hidden > hidden.txt; mkdir node_modules; echo m > node_modules/m.js");
}

#[test]
fn what_the_base_ignores_is_left_out_and_reported() {
    let env = TestEnv::new();
    let repo = env.repo();
    repo.bash("printf '*.log\\n__pycache__/\\n!keep.log\\n' > .gitignore; mkdir -p pkg; echo a > pkg/a.py; echo old > pkg/tracked.log; git add -f .");
    // The agent's own rules, a changed one among them, hide and show nothing.
    let shown = "echo k > keep.log; echo h > hidden.txt; mkdir -p node_modules; echo m > node_modules/m.js; printf '*\\n' > pkg/.gitignore; echo new > pkg/tracked.log
printf '*\\n!x.log\\n' > .gitignore";
    let left_out =
        "mkdir -p pkg/__pycache__/deep; echo c > pkg/__pycache__/a.pyc; echo c > pkg/__pycache__/deep/b.pyc; echo x > x.log; echo y > pkg/y.log";
    let result = env.delegate(&repo, &rehearse(&format!("{shown}\n{left_out}")));
    assert_eq!(result["state"], "completed", "{result:#}");
    compare(&env, &repo, shown, &result);
    let ignored: Vec<_> = result["ignored"].as_array().expect("ignored").iter().map(|i| i["path"].as_str().unwrap_or_default()).collect();
    assert_eq!(ignored, ["pkg/__pycache__/", "pkg/y.log", "x.log"]);
    assert_eq!((&result["ignored_count"], &result["refused_count"]), (&3.into(), &0.into()), "{result:#}");
}

#[test]
fn ignored_paths_alone_are_no_change() {
    let env = TestEnv::new();
    let repo = env.repo();
    repo.bash("printf 'target/\\n' > .gitignore; echo a > a; git add .");
    let result = env.delegate(
        &repo,
        &rehearse("mkdir -p target/debug; head -c 3000000 /dev/zero > target/debug/bin; git status --porcelain | grep . && exit 1; true"),
    );
    assert_eq!((&result["no_changes"], &result["ignored_count"]), (&true.into(), &1.into()), "{result:#}");
}

#[test]
fn nothing_changed_is_proven() {
    let (env, _repo, result) = check("seq 5 > a; git add .", "cat a; touch a; cp a b; rm b");
    assert_eq!(result["no_changes"], true, "{result:#}");
    assert!(result["diff"].is_null() || result["diff"] == "", "{result:#}");
    assert!(env.diff(result["job_id"].as_str().expect("job id")).is_empty());
}

#[test]
fn everything_deleted() {
    let (_env, _repo, result) = check("mkdir -p a/b; echo 1 > a/b/c; echo 2 > d; ln -s d e; git add .", "rm -rf a d e");
    assert_eq!(result["files"].as_array().map(Vec::len), Some(3));
    assert_eq!(result["no_changes"], false);
}

#[test]
fn content_that_imitates_a_patch() {
    let (_env, _repo, result) = check(
        "printf 'diff --git a/x b/x\\n--- a/x\\n+++ b/x\\n@@ -1 +1 @@\\n-a\\n+b\\n' > fake.patch; git add .",
        "printf 'diff --git a/evil b/evil\\nnew file mode 100644\\n--- /dev/null\\n+++ b/evil\\n@@ -0,0 +1 @@\\n+x\\n-- \\n2.47\\n' > fake.patch; printf -- '--- a/y\\n+++ b/y\\n' > y",
    );
    assert_eq!(result["files"].as_array().map(Vec::len), Some(2), "{result:#}");
}

#[test]
fn risky_files_are_pointed_at() {
    let (_env, _repo, result) = check(
        "echo a > a; git add .",
        "mkdir -p .github/workflows .vscode .codex; echo 'on: push' > .github/workflows/ci.yml; echo '{}' > .vscode/tasks.json; echo x > .envrc; echo 'fn main(){}' > build.rs
echo instructions > AGENTS.md; echo x > .codex/config.toml; echo '{}' > .mcp.json; echo x > .gitmodules",
    );
    assert!(result["risk"]["runs_code"].as_array().is_some_and(|l| l.len() >= 4), "{result:#}");
    assert!(result["risk"]["agent_instructions"].as_array().is_some_and(|l| l.len() >= 3), "{result:#}");
    assert_eq!(result["risk"]["git_files"].as_array().map(Vec::len), Some(1), "{result:#}");
}

#[test]
fn special_files_and_nested_git_directories_are_reported() {
    let env = TestEnv::new();
    let repo = env.repo();
    repo.bash("echo a > a; git add .");
    let result = env
        .delegate(&repo, &rehearse("mkfifo pipe; mkdir -p sub/.git; echo x > sub/.git/config; echo ok > ok; mkdir -p '.GIT'; echo y > .GIT/config"));
    assert_eq!(result["state"], "completed", "{result:#}");
    assert_eq!(result["files"].as_array().map(Vec::len), Some(1), "{result:#}");
    assert!(result["refused_count"].as_u64().is_some_and(|n| n >= 3), "{result:#}");
}
