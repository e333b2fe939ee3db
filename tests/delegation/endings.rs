//! Every end has its reason, and partial work comes back with each.

use crate::support::{Repo, TestEnv};

fn task(program: &str) -> String {
    format!("Run the rehearsal.\n```rehearsal\n{program}\n```\n")
}

fn repo(env: &TestEnv) -> Repo {
    let repo = env.repo();
    repo.bash("seq 5 > f; git add .; git commit -qm base");
    repo
}

/// State, reason, error code, exit code.
type End = (&'static str, &'static str, &'static str, i32);

/// A bad end: the document says why, the exit code too, and the work done before is in the patch.
#[track_caller]
fn ended(env: &TestEnv, repo: &Repo, program: &str, flags: &[&str], (state, reason, code, exit): End) -> serde_json::Value {
    let task = task(program);
    let mut args = vec!["delegate", "--json"];
    args.extend(flags);
    args.push(&task);
    let out = env.run_in(repo.path(), &args);
    let json = out.flat();
    assert_eq!(json["state"], state, "{json:#}");
    assert_eq!(json["reason"], reason, "{json:#}");
    assert_eq!(json["error"]["code"], code, "{json:#}");
    assert_eq!(out.code, exit, "{json:#}");
    let patch = env.diff(json["job_id"].as_str().expect("job id"));
    assert!(String::from_utf8_lossy(&patch).contains("+partial"), "{json:#}");
    repo.tracked_copy().git_apply(&patch);
    json
}

#[test]
fn a_refused_key() {
    let env = TestEnv::new();
    ended(&env, &repo(&env), "shell echo partial > p\nfault 401", &[], ("failed", "failed", "codex_auth_required", 4));
}

#[test]
fn a_used_up_quota_says_when_it_resets() {
    let env = TestEnv::new();
    let json = ended(&env, &repo(&env), "shell echo partial > p\nfault quota", &[], ("failed", "failed", "codex_rate_limited", 4));
    let error = &json["error"];
    assert!(error["message"].as_str().is_some_and(|m| m.contains("quota")), "{json:#}");
    assert!(error["retry_after_ms"].is_u64() || error["hint"].as_str().is_some_and(|h| h.contains("reset")), "{json:#}");
}

#[test]
fn a_provider_that_fails_for_ever() {
    let env = TestEnv::new();
    ended(&env, &repo(&env), "shell echo partial > p\nfault 400", &[], ("failed", "failed", "nonzero_exit", 5));
}

#[test]
fn a_provider_that_recovers_is_no_failure() {
    let env = TestEnv::new();
    let repo = repo(&env);
    let result = env.delegate(&repo, &task("fault 503 times=2\nshell echo whole > p\nmessage done"));
    assert_eq!(result["state"], "completed", "{result:#}");
}

#[test]
fn a_deadline() {
    let env = TestEnv::new();
    ended(&env, &repo(&env), "shell echo partial > p\nshell sleep 600", &["--deadline", "10"], ("timeout", "deadline", "timeout", 7));
}

#[test]
fn a_token_budget() {
    let env = TestEnv::new();
    let program = "usage input=50000 output=9990\nshell echo partial > p\nusage input=900 output=200\nshell echo more > q\nmessage done";
    ended(&env, &repo(&env), program, &["--max-tokens", "60000"], ("failed", "token_budget", "token_budget", 6));
}

#[test]
fn an_unreachable_provider() {
    // Nothing listens there: the gateway's own loopback.
    let owner = TestEnv::new();
    let env = owner
        .with("ANCHORHOLD_MODEL_UPSTREAM", "http://127.0.0.1:9/v1")
        .with("ANCHORHOLD_MODEL_UNREACHABLE_SECONDS", "3")
        .with("OPENAI_API_KEY", "test-key-not-real");
    let repo = repo(&env);
    let out = env.run_in(repo.path(), &["delegate", "--json", "do it"]);
    let json = out.flat();
    assert_eq!(json["reason"], "provider_unreachable", "{json:#}");
    assert_eq!((json["error"]["code"].as_str(), out.code), (Some("provider_unreachable"), 4), "{json:#}");
    assert!(!out.text().contains("test-key-not-real"));
}

#[test]
fn a_cancelled_job_keeps_its_work() {
    let env = TestEnv::new();
    let repo = repo(&env);
    let job = env.detach(&repo, &task("shell echo partial > p\nshell sleep 600"));
    env.wait_for(&job, |s| s["state"] == "running" && s["answers"].as_u64().is_some_and(|n| n >= 2));
    let cancelled = env.run(&["cancel", "--json", &job]).flat();
    assert_eq!(cancelled["state"], "cancelled", "{cancelled:#}");
    // Idempotent.
    assert_eq!(env.run(&["cancel", "--json", &job]).flat()["state"], "cancelled");
    assert!(String::from_utf8_lossy(&env.diff(&job)).contains("+partial"));
}

#[test]
fn a_killed_container_is_sealed_by_a_second_start() {
    let env = TestEnv::new();
    let repo = repo(&env);
    let job = env.detach(&repo, &task("shell echo partial > p\nshell sleep 600"));
    env.wait_for(&job, |s| s["state"] == "running" && s["answers"].as_u64().is_some_and(|n| n >= 2));
    env.docker(&["kill", &format!("anchorhold-{job}")]);
    let out = env.run(&["result", "--json", &job]);
    let json = out.flat();
    assert_eq!(json["state"], "interrupted", "{json:#}");
    assert!(String::from_utf8_lossy(&env.diff(&job)).contains("+partial"));
}

#[test]
fn a_stopped_container_seals_at_once() {
    let env = TestEnv::new();
    let repo = repo(&env);
    let job = env.detach(&repo, &task("shell echo partial > p\nshell sleep 600"));
    env.wait_for(&job, |s| s["state"] == "running" && s["answers"].as_u64().is_some_and(|n| n >= 2));
    env.docker(&["stop", &format!("anchorhold-{job}")]);
    let json = env.run(&["result", "--json", &job]).flat();
    assert_eq!((json["state"].as_str(), json["reason"].as_str()), (Some("interrupted"), Some("interrupted")), "{json:#}");
    assert!(String::from_utf8_lossy(&env.diff(&job)).contains("+partial"));
}

#[test]
fn a_lost_workspace_is_lost_and_not_empty() {
    let env = TestEnv::new();
    let repo = repo(&env);
    let job = env.detach(&repo, &task("shell echo partial > p\nshell sleep 600"));
    env.wait_for(&job, |s| s["state"] == "running");
    env.docker(&["rm", "-f", &format!("anchorhold-{job}")]);
    env.docker(&["volume", "rm", &format!("anchorhold-{job}-workspace")]);
    let out = env.run(&["result", "--json", &job]);
    let json = out.flat();
    assert_eq!(json["error"]["code"], "job_lost", "{json:#}");
    assert_ne!(json["no_changes"], true);
    env.run(&["consume", "--json", &job]);
    let swept = (0..60).any(|_| {
        let gone = env.leftovers().is_empty();
        if !gone {
            std::thread::sleep(std::time::Duration::from_secs(1));
        }
        gone
    });
    assert!(swept, "{:?}", env.leftovers());
}

#[test]
fn consumed_exactly_once() {
    let env = TestEnv::new();
    let repo = repo(&env);
    let result = env.delegate(&repo, &task("shell echo partial > p\nmessage done"));
    let job = result["job_id"].as_str().expect("job id").to_owned();
    let outcomes: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..6).map(|_| scope.spawn(|| env.run(&["consume", "--json", &job]))).collect();
        threads.into_iter().map(|t| t.join().expect("thread")).collect()
    });
    let won = outcomes.iter().filter(|o| o.code == 0).count();
    assert_eq!(won, 1, "{outcomes:?}");
    assert!(outcomes.iter().filter(|o| o.code != 0).all(|o| o.json()["error"]["code"] == "job_not_found"), "{outcomes:?}");
    assert_eq!(env.leftovers(), Vec::<String>::new());
}

#[test]
fn a_result_asked_for_too_early() {
    let env = TestEnv::new();
    let repo = repo(&env);
    let job = env.detach(&repo, &task("shell sleep 600"));
    let out = env.run(&["result", "--json", &job]);
    assert_eq!((out.code, out.json()["error"]["code"].as_str().unwrap_or_default()), (10, "job_running"), "{out:?}");
    env.run(&["cancel", "--json", &job]);
}

#[test]
fn more_jobs_than_slots_wait_their_turn() {
    let env = TestEnv::new();
    let repo = repo(&env);
    let results: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..6)
            .map(|n| {
                scope.spawn({
                    let (env, repo) = (&env, &repo);
                    move || env.delegate(repo, &task(&format!("shell echo {n} > out; sleep 1\nmessage done")))
                })
            })
            .collect();
        threads.into_iter().map(|t| t.join().expect("thread")).collect()
    });
    assert!(results.iter().all(|r| r["state"] == "completed"), "{results:#?}");
}

#[test]
fn every_model_family_runs_its_tools() {
    let env = TestEnv::new();
    let repo = repo(&env);
    for model in ["scripted", "gpt-5.5", "gpt-5.6"] {
        let program = "shell echo from-shell > s\npatch <<END\n*** Begin Patch\n*** Add File: by-patch\n+patched\n*** End Patch\nEND\nmessage done";
        let out = env.run_in(repo.path(), &["delegate", "--json", "--model", model, &task(program)]);
        let json = out.flat();
        assert_eq!(json["state"], "completed", "{model}: {json:#}");
        let patch = String::from_utf8(env.diff(json["job_id"].as_str().expect("job id"))).expect("text");
        assert!(patch.contains("+from-shell") && patch.contains("+patched"), "{model}: {patch}");
    }
}
