//! `fetch`: a result as a commit, of a job that really ran.

use crate::support::TestEnv;
use crate::support::rehearsal::{Step, task};

#[test]
fn a_result_becomes_a_commit_on_what_was_sent() {
    let env = TestEnv::new();
    let repo = env.repo();
    repo.bash(
        "seq 20 > a.txt; head -c 300000 /dev/urandom > blob; git add .; git commit -qm base; seq 30 > a.txt; head -c 300000 /dev/urandom > blob; echo staged > staged; git add staged
mkdir -p .git/hooks; printf '#!/bin/sh\\ntouch ../marker-hook\\n' > .git/hooks/reference-transaction; chmod +x .git/hooks/reference-transaction",
    );
    let result = env.delegate(&repo, &task(&[Step::Shell("echo agent >> staged; mkdir n; echo n > n/n"), Step::Say("Two files.\u{1b}[31m")]));
    let job = result["job_id"].as_str().expect("a job");
    // What was sent is not to be had from the tree any more.
    repo.bash("git stash -q; git stash drop -q; git reflog expire --expire=all --all; git gc -q --prune=now; rm -f ../marker-hook");
    let before = repo.hash_everything();
    let out = env.run(&["fetch", "--json", job]).json();
    let reference = format!("refs/anchorhold/{job}");
    assert_eq!((&out["reference"], &out["already_there"]), (&reference.as_str().into(), &false.into()), "{out:#}");
    assert_eq!(repo.markers(), Vec::<String>::new());
    let kept = |path: &std::path::Path| !path.to_string_lossy().contains("/.git/objects/pack") && !path.to_string_lossy().contains("/.git/refs");
    let only =
        |all: std::collections::BTreeMap<std::path::PathBuf, (u32, Vec<u8>)>| all.into_iter().filter(|(path, _)| kept(path)).collect::<Vec<_>>();
    assert_eq!(only(repo.hash_everything()), only(before), "branch, index, files, configuration, hooks");
    repo.bash(&format!(
        "test \"$(git diff --name-only {reference}^ {reference} | tr '\\n' ' ')\" = 'n/n staged '
test \"$(git rev-parse {reference}~2)\" = \"$(git rev-parse HEAD)\"
test \"$(git show {reference}^:a.txt | wc -l)\" = 30; test \"$(git show {reference}:staged | tail -1)\" = agent
git fsck --strict; git log -1 --format=%B {reference} | grep -F '    Two files.\\u{{1b}}[31m'; test -z \"$(git status --porcelain --untracked-files=no)\""
    ));
    // Once more, for people: the same, and it says what it is.
    let text = env.run(&["fetch", job]).text();
    assert!(
        text.contains("was there already")
            && text.contains("the files as they were sent with the job")
            && text.contains(&format!("git show {reference}")),
        "{text}"
    );
}

#[test]
fn what_has_no_changes_or_no_repository_is_said() {
    let env = TestEnv::new();
    let repo = env.repo();
    repo.bash("echo x > f; git add .; git commit -qm base");
    let nothing = env.delegate(&repo, &task(&[Step::Say("nothing to do")]));
    let out = env.run(&["fetch", "--json", nothing["job_id"].as_str().expect("a job")]).json();
    assert_eq!((&out["no_changes"], &out["reference"]), (&true.into(), &serde_json::Value::Null), "{out:#}");
    repo.bash("test ! -e .git/refs/anchorhold");
    let result = env.delegate(&repo, &task(&[Step::Shell("echo y > f"), Step::Say("done")]));
    let other = env.repo();
    other.bash("echo other > o; git add .; git commit -qm other");
    let out = env.run(&["fetch", "--json", "-C", other.path().to_str().expect("a path"), result["job_id"].as_str().expect("a job")]);
    assert_eq!((&out.json()["error"]["code"], out.code), (&"worktree_error".into(), 2), "{out:?}");
    // A clone of it does.
    let clone = env.directory().join("clone");
    repo.bash(&format!("git clone -q . {}", clone.display()));
    let out = env.run(&["fetch", "--json", "-C", clone.to_str().expect("a path"), result["job_id"].as_str().expect("a job")]).json();
    assert_eq!((&out["base_commit"], &out["head"]), (&serde_json::Value::Null, &result["head"]), "{out:#}");
}
