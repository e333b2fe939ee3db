//! Going on with an ended job: its working tree, its conversation, its base, and nothing of it that is needed later.

use serde_json::Value;

use crate::support::rehearsal::{Step, task};
use crate::support::{Repo, TestEnv, Tree};

/// A task whose program runs a script in the cell and ends.
fn script(text: &str) -> String {
    task(&[Step::Shell(text), Step::Say("done")])
}

#[track_caller]
fn go_on(env: &TestEnv, job: &str, text: &str) -> Value {
    env.run(&["continue", "--json", job, &script(text)]).flat()
}

fn id(document: &Value) -> &str {
    document["job_id"].as_str().unwrap_or_else(|| panic!("no job id: {document:#}"))
}

/// What a job ended with when it was not to be had: the error's code, and the exit code.
#[track_caller]
fn refused(env: &TestEnv, args: &[&str], code: &str, exit: i32) {
    let out = env.run(args);
    let json = out.json();
    assert_eq!((&json["error"]["code"], out.code), (&code.into(), exit), "{out:?}");
    assert!(json["error"]["hint"].as_str().is_some_and(|hint| !hint.is_empty()), "{json:#}");
}

fn base(env: &TestEnv) -> Repo {
    let repo = env.repo();
    repo.bash("seq 20 > a.txt; mkdir -p d/deep; echo x > d/deep/x; echo k > kind; echo g > gone; printf 'build/\\n' > .gitignore; git add .; git commit -qm base; echo edited >> a.txt");
    repo
}

const FIRST: &str = "sed -i s/^5$/five/ a.txt; rm gone; rm kind; mkdir kind; echo in > kind/in; ln -s ../a.txt d/link; printf '#!/bin/sh\\n' > run.sh; chmod +x run.sh; mkdir -p build; echo b > build/b; rm -r d/deep";
const SECOND: &str = "grep -qx five a.txt; test ! -e gone; test -f kind/in; test -x run.sh; test -L d/link; test ! -e build/b; test ! -e d/deep; git status --porcelain | grep -q a.txt
echo g > gone; sed -i s/^6$/six/ a.txt; rm run.sh; echo more >> kind/in; echo new > new";

#[test]
fn the_work_goes_on_from_where_it_was_and_the_patch_is_against_the_original() {
    let env = TestEnv::new();
    let repo = base(&env);
    let original = repo.tracked_copy();
    let first = env.delegate(&repo, &script(&format!("set -e\n{FIRST}")));
    assert_eq!(first["state"], "completed", "{first:#}");
    // The user goes on, too: nothing of that gets in.
    repo.bash("echo theirs > a.txt; git commit -qam theirs; echo later > later; git add later");
    let untouched = repo.hash_everything();
    let second = go_on(&env, id(&first), &format!("set -e\n{SECOND}\necho reached > reached"));
    assert_eq!(second["state"], "completed", "{second:#}");
    assert_eq!((&second["continues"], &second["head"], &second["dirty"]), (&first["job_id"], &first["head"], &true.into()));
    assert_eq!(second["manifest_verified"], true);
    assert_eq!(repo.hash_everything(), untouched);

    // The whole: against the original base.
    let expected = repo_like(&original, &env);
    expected.bash(&format!("set -e\n{FIRST}\nrm -r build\n{}\necho reached > reached", without_checks(SECOND)));
    let whole = repo_like(&original, &env);
    whole.git_apply(&env.diff(id(&second)));
    assert_eq!(Tree::read(whole.path()), Tree::read(expected.path()));
    // The part: against the first job's end.
    let since = env.run(&["diff", "--since-previous", id(&second)]);
    let step = repo_like(&original, &env);
    step.git_apply(&env.diff(id(&first)));
    step.git_apply(&since.stdout);
    assert_eq!(Tree::read(step.path()), Tree::read(expected.path()));
    let listed = env.run(&["diff", "--since-previous", "--stat", "--json", id(&second)]).json();
    assert_eq!((&listed["since"], listed["files"].as_array().map(Vec::len)), (&first["job_id"], Some(6)), "{listed:#}");
    refused(&env, &["diff", "--since-previous", "--json", id(&first)], "unsupported", 2);

    // The same conversation.
    let threads = [&first, &second].map(|job| {
        let events = env.run(&["logs", "--events", "--json", id(job)]).json()["untrusted_events"].as_array().cloned().unwrap_or_default();
        events.iter().find(|event| event["type"] == "thread.started").expect("a thread")["thread_id"].clone()
    });
    assert_eq!(threads[0], threads[1]);

    // Nothing of the first is needed any more: not for the results, and not for going on once more.
    env.run(&["consume", id(&first)]);
    assert_eq!(env.run(&["diff", "--since-previous", id(&second)]).stdout, since.stdout);
    let third = go_on(&env, id(&second), "grep -qx six a.txt && git add -A && git reset -q --hard");
    assert_eq!((&third["state"], &third["continues"]), (&"completed".into(), &second["job_id"]), "{third:#}");
    assert_eq!(third["no_changes"], true, "all of it was taken back: {third:#}");
    refused(&env, &["continue", "--json", id(&first), "more"], "job_not_found", 9);
}

/// A copy of a directory beside it.
fn repo_like(repo: &Repo, env: &TestEnv) -> Repo {
    let copy = Repo::new(&env.directory().join("copy"));
    copy.bash(&format!("cp -a {}/. .", repo.path().display()));
    copy
}

/// The second line on: what changes something.
fn without_checks(script: &str) -> &str {
    script.split_once('\n').expect("two lines").1
}

#[test]
fn partial_work_of_a_cancelled_job_goes_on() {
    let env = TestEnv::new();
    let repo = base(&env);
    let job = env.detach(&repo, &task(&[Step::Shell("echo half > work"), Step::Shell("echo reached > two; sleep 600"), Step::Say("never")]));
    env.wait_for(&job, |status| status["untrusted_activity"].as_str().is_some_and(|said| said.contains("sleep")));
    refused(&env, &["continue", "--json", &job, "more"], "job_running", 10);
    env.run(&["cancel", &job]);
    env.wait_for(&job, |status| status["state"] == "cancelled");
    let second = go_on(&env, &job, "cat work two > both");
    assert_eq!(second["state"], "completed", "{second:#}");
    assert!(String::from_utf8_lossy(&env.diff(id(&second))).contains("+half\n+reached\n"), "{second:#}");
}

#[test]
fn a_subdirectory_stays_where_codex_begins() {
    let env = TestEnv::new();
    let repo = base(&env);
    let below = repo.path().join("d");
    let first = env.run_in(&below, &["delegate", "--json", &script("pwd > here")]).flat();
    let second = go_on(&env, id(&first), "pwd >> here");
    let patch = String::from_utf8_lossy(&env.diff(id(&second))).into_owned();
    assert!(patch.contains("b/d/here") && patch.contains("+/workspace/d\n+/workspace/d\n"), "{patch}");
}

#[test]
fn what_cannot_be_gone_on_with_is_refused_and_makes_no_job() {
    let env = TestEnv::new();
    let repo = base(&env);
    let question = env.run_in(repo.path(), &["consult", "--json", "what is it?"]).flat();
    refused(&env, &["continue", "--json", id(&question), "more"], "unsupported", 2);
    refused(&env, &["continue", "--json", &"0".repeat(32), "more"], "job_not_found", 9);
    refused(&env, &["continue", "--json", id(&question), "  "], "invalid_arguments", 2);
    // Cancelled in the queue: Codex never began.
    let env = env.with("ANCHORHOLD_LIMITS_DEADLINE_SECONDS", "120");
    let made = env.leftovers().len();
    let first = env.delegate(&repo, &script("echo 1 > one"));
    // Under a key the same call names the same job.
    let args = ["continue", "--json", "--idempotency-key", "k", id(&first), &script("echo 2 > two")];
    let (once, again) = (env.run(&args).flat(), env.run(&args).flat());
    assert_eq!((id(&once), &once["state"]), (id(&again), &"completed".into()), "{once:#}");
    refused(&env, &["continue", "--json", "--idempotency-key", "k", id(&first), "something else"], "idempotency_conflict", 2);
    assert_eq!(env.leftovers().len(), made + 2 * 3, "two jobs: a container and two volumes each");
}
