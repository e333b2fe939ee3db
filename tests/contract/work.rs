//! What makes a job: with a real engine, the real Codex CLI and the scripted model.

use serde_json::{Value, json};

use super::repository;
use super::support::Environment;
use super::support::rehearsal::{Step, task};
use super::table::complete;
use super::wire::Client;

const META: [&str; 11] =
    ["cwd", "tier", "sandbox", "isolation", "timeout_seconds", "elapsed_ms", "job_id", "job_kind", "usage", "fingerprint", "server_version"];

#[track_caller]
fn meta(content: &Value, kind: &str) {
    let meta = &content["meta"];
    for field in META {
        assert!(meta.get(field).is_some_and(|value| !value.is_null()), "no {field} in {meta:#}");
    }
    assert_eq!(meta["job_kind"], kind);
    for list in ["compat_warnings", "security_warnings", "redacted_paths"] {
        assert!(meta[list].is_array(), "{list} in {meta:#}");
    }
    for count in ["input_tokens", "cached_input_tokens", "output_tokens", "total_tokens"] {
        assert!(meta["usage"][count].is_u64(), "{count} in {meta:#}");
    }
}

/// Start in the background, poll, read, read again, consume; each step as the handle's follow-up and the status say.
#[test]
fn a_delegation_in_the_background_goes_as_the_contract_says() {
    let environment = Environment::new();
    let repository = repository(&environment);
    let before = repository.fingerprint();
    let mut client = Client::open(&environment);
    let steps = task(&[Step::Shell("echo '# more' >> src/a.rs; echo new > new.txt"), Step::Say("I did it.")]);
    let arguments = json!({
        "task": steps, "workspace_root": repository.text(), "model": null, "reasoning_effort": "low", "isolation": "ignore-config",
        "idempotency_key": "contract-1"
    });
    let handle = client.ok("codex_delegate_async", &arguments);
    complete("codex_delegate_async", &handle);
    let id = handle["job_id"].as_str().unwrap().to_owned();
    assert!(id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit()));
    assert_eq!((&handle["kind"], &handle["status"], &handle["expires_at"]), (&json!("delegate"), &json!("running"), &Value::Null));
    assert_eq!((&handle["follow_up"]["tool"], &handle["follow_up"]["arguments"]), (&json!("codex_job_status"), &json!({"job_id": id})));
    assert_eq!((&handle["meta"]["isolation"], &handle["meta"]["idempotency_replayed"]), (&json!("ignore-config"), &json!(false)));

    // The same call again is the same job; another one under its key is none.
    let again = client.ok("codex_delegate_async", &arguments);
    assert_eq!((&again["job_id"], &again["meta"]["idempotency_replayed"]), (&json!(id), &json!(true)));
    let mut other = arguments.clone();
    other["task"] = json!("something else");
    let conflict = client.error("codex_delegate_async", &other);
    assert_eq!((&conflict["code"], &conflict["repair"]["next_step"]), (&json!("idempotency_conflict"), &json!("use_new_idempotency_key")));
    other = arguments.clone();
    other["include_ignored"] = json!(true);
    assert_eq!(client.error("codex_delegate_async", &other)["code"], "idempotency_conflict");

    let follow_up = handle["follow_up"].clone();
    let status = client.ok(follow_up["tool"].as_str().unwrap(), &follow_up["arguments"]);
    complete("codex_job_status", &status);
    let status = client.ended(&id);
    assert_eq!((&status["status"], &status["result_ok"]), (&json!("done"), &json!(true)), "{status:#}");
    assert!(status["expires_at"].is_string() && status["workspace"]["cwd"].is_string() && status["elapsed_ms"].is_u64());

    let list = client.ok("codex_job_list", &json!({"workspace_root": repository.text(), "limit": 10, "status": "done"}));
    complete("codex_job_list", &list);
    for field in ["job_id", "kind", "status", "started_at", "elapsed_ms", "result_available", "result_ok", "expires_at"] {
        assert!(list["jobs"][0].get(field).is_some(), "{field}");
    }

    let result = client.ok("codex_job_result", &json!({"job_id": id, "workspace_root": repository.text(), "detail": "full"}));
    complete("codex_delegate", &result);
    meta(&result, "delegate");
    assert_eq!((&result["tool"], &result["meta"]["tier"]), (&json!("codex_delegate"), &json!("propose")));
    assert!(result["raw_response"]["text"].as_str().unwrap().contains("I did it.") && result["raw_response"]["session_id"].is_string());
    let diff = result["diff"].as_str().unwrap();
    assert!(diff.contains("+# more") && diff.contains("new.txt"));
    assert_eq!(client.ok("codex_job_result", &json!({"job_id": id}))["raw_response"]["text"], Value::Null);

    let elsewhere = client.error("codex_job_result", &json!({"job_id": id, "workspace_root": environment.path()}));
    assert_eq!(elsewhere["code"], "job_not_found");
    let consumed = client.ok("codex_job_consume_result", &json!({"job_id": id, "detail": "summary"}));
    assert_eq!(consumed["diff"], result["diff"]);
    let gone = client.error("codex_job_consume_result", &json!({"job_id": id}));
    assert_eq!((&gone["code"], &gone["repair"]["next_step"]), (&json!("job_not_found"), &json!("list_jobs")));
    let used = client.error("codex_delegate_async", &arguments);
    assert_eq!((&used["code"], &used["repair"]["next_step"]), (&json!("idempotency_result_unavailable"), &json!("use_new_idempotency_key")));
    assert_eq!(repository.fingerprint(), before);
    environment.nothing_is_left();
}

#[test]
fn a_job_that_runs_is_polled_and_cancelled() {
    let environment = Environment::new();
    let repository = repository(&environment);
    let mut client = Client::open(&environment);
    let steps = task(&[Step::Shell("echo part > part.txt; sleep 600"), Step::Say("late")]);
    let handle = client.ok("codex_delegate_async", &json!({"task": steps, "workspace_root": repository.text()}));
    let id = handle["job_id"].as_str().unwrap().to_owned();
    let running = client.error("codex_job_result", &json!({"job_id": id}));
    assert_eq!((&running["code"], &running["temporary"]), (&json!("job_running"), &json!(true)));
    assert!(running["retry_after_ms"].as_u64().unwrap() >= 1_000);
    assert_eq!((&running["repair"]["tool"], &running["repair"]["arguments"]), (&json!("codex_job_status"), &json!({"job_id": id})));
    assert_eq!(client.error("codex_job_consume_result", &json!({"job_id": id}))["code"], "job_running");
    let cancelled = client.ok("codex_job_cancel", &json!({"job_id": id, "workspace_root": repository.text()}));
    complete("codex_job_cancel", &cancelled);
    let status = client.ended(&id);
    assert_eq!((&status["status"], &status["result_ok"]), (&json!("cancelled"), &json!(false)), "{status:#}");
    complete("codex_job_cancel", &client.ok("codex_job_cancel", &json!({"job_id": id})));
    let error = client.error("codex_job_result", &json!({"job_id": id}));
    assert_eq!((&error["code"], &error["repair"]["next_step"]), (&json!("job_cancelled"), &json!("start_new_job")));
}

/// Answers of the three tools that wait, each with all of its parameters.
#[test]
fn the_tools_that_wait_answer_with_the_contracts_fields() {
    let environment = Environment::new();
    let repository = repository(&environment);
    let mut client = Client::open(&environment);
    let root = repository.text();

    let steps = task(&[Step::Shell("echo new > new.txt"), Step::Say("done")]);
    let delegated = client.ok(
        "codex_delegate",
        &json!({"task": steps, "workspace_root": root, "model": "gpt-5.5", "reasoning_effort": "low", "isolation": "ignore-rules",
            "timeout_seconds": 300, "detail": "summary", "idempotency_key": "wait-1"}),
    );
    complete("codex_delegate", &delegated);
    meta(&delegated, "delegate");
    assert_eq!((&delegated["meta"]["model"], &delegated["meta"]["timeout_seconds"]), (&json!("gpt-5.5"), &json!(300)));

    let asked = client.ok(
        "codex_consult",
        &json!({"question": task(&[Step::Say("Because.")]), "workspace_root": root, "extra_context": "ticket 7", "model": null, "reasoning_effort": null,
            "developer_instructions": "Be brief.", "isolation": null, "timeout_seconds": null, "detail": "full", "idempotency_key": null}),
    );
    complete("codex_consult", &asked);
    meta(&asked, "consult");
    assert!(asked["summary"].as_str().unwrap().contains("Because.") && asked["meta"]["tier"] == "consult");
    assert_eq!(asked["meta"]["developer_instructions"]["bytes"], 9);
    assert!(asked["meta"]["developer_instructions"]["sha256"].is_string() && !asked.to_string().contains("Be brief."));

    let said = json!({"verdict": "concerns", "confidence": 0.5, "summary": "Hm.", "findings": [{"severity": "low", "title": "a name", "file": "src/a.rs",
        "line": 2, "line_end": 2, "evidence": "seen", "risk": "none", "recommendation": "rename"}], "questions": [], "assumptions": [], "next_steps": []});
    let reviewed = client.ok(
        "codex_review_changes",
        &json!({"scope": "branch", "base": "base", "commit": null, "paths": ["src"], "untracked": "exclude", "workspace_root": root,
            "extra_context": task(&[Step::Say(&said.to_string())]), "model": null, "reasoning_effort": null, "developer_instructions": "Look at names.",
            "isolation": "inherit", "timeout_seconds": 300, "detail": "summary", "idempotency_key": "wait-3"}),
    );
    complete("codex_review_changes", &reviewed);
    meta(&reviewed, "review");
    assert_eq!(
        (&reviewed["verdict"], &reviewed["confidence"], &reviewed["review_status"]),
        (&json!("concerns"), &json!("medium"), &json!("completed"))
    );
    for field in ["severity", "title", "file", "line", "line_end", "evidence", "risk", "recommendation"] {
        assert!(reviewed["findings"][0].get(field).is_some(), "{field}");
    }
    assert_eq!((&reviewed["coverage"]["status"], &reviewed["coverage"]["redaction"]), (&json!("complete"), &Value::Null));
    assert_eq!((&reviewed["meta"]["base"], &reviewed["meta"]["paths"]), (&json!("base"), &json!(["src"])));

    // Their background forms, to the handle.
    for (tool, arguments) in [
        ("codex_consult_async", json!({"question": task(&[Step::Say("x")]), "extra_context": null, "developer_instructions": null})),
        ("codex_review_changes_async", json!({"scope": "commit", "commit": "HEAD", "extra_context": task(&[Step::Say(&said.to_string())])})),
    ] {
        let mut arguments = arguments;
        arguments["workspace_root"] = json!(root);
        let handle = client.ok(tool, &arguments);
        complete(tool, &handle);
        let id = handle["job_id"].as_str().unwrap().to_owned();
        client.ended(&id);
        client.ok("codex_job_consume_result", &json!({"job_id": id}));
    }
}

/// Ignored inputs are there when they are asked for, are no new files of the patch, and what is changed in them fits the tree.
#[test]
fn ignored_inputs_come_on_request_and_the_patch_still_fits() {
    let environment = Environment::new();
    let repository = repository(&environment);
    let before = repository.fingerprint();
    let mut client = Client::open(&environment);
    let look = "test -e build/cache.txt && test -e .env && test ! -e build/other.txt && test ! -e notes.txt && echo there > seen.txt; \
                echo new > build/new.txt; echo '# more' >> src/a.rs";
    let steps = task(&[Step::Shell(look), Step::Say("looked")]);
    let without = client.ok("codex_delegate", &json!({"task": steps, "workspace_root": repository.text()}));
    assert!(!without["diff"].as_str().unwrap().contains("seen.txt") && without["snapshot"]["included_count"] == 0, "{without:#}");

    let with = client.ok("codex_delegate", &json!({"task": steps, "workspace_root": repository.text(), "include_ignored": true}));
    let files: Vec<&str> = with["files"].as_array().unwrap().iter().map(|file| file["path"].as_str().unwrap()).collect();
    assert_eq!(files, ["seen.txt", "src/a.rs"], "{with:#}");
    assert_eq!((&with["snapshot"]["included_count"], &with["applies"]["ok"]), (&json!(2), &json!(true)));
    let warned =
        with["meta"]["security_warnings"].as_array().unwrap().iter().any(|warning| warning.as_str().unwrap().contains("1 with a name that usually"));
    assert!(warned && without["meta"]["security_warnings"] == json!([]), "{with:#}");
    assert_eq!(with["ignored"][0]["path"], "build/new.txt", "what the agent makes where the rules ignore it stays out");

    // A change to one of them is a change of the tree, and told as such.
    let steps = task(&[Step::Shell("echo CHANGED=1 >> .env; unlink build/cache.txt"), Step::Say("changed")]);
    let changed = client.ok("codex_delegate", &json!({"task": steps, "workspace_root": repository.text(), "include_ignored": true}));
    let found: Vec<_> =
        changed["files"].as_array().unwrap().iter().map(|file| (file["path"].as_str().unwrap(), file["status"].as_str().unwrap())).collect();
    assert_eq!(found, [(".env", "modified"), ("build/cache.txt", "deleted")], "{changed:#}");
    assert_eq!((&changed["applies"]["ok"], &changed["applies"]["exact"]), (&json!(true), &json!(true)));
    assert!(changed["meta"]["compat_warnings"].as_array().unwrap().iter().any(|warning| warning.as_str().unwrap().contains(".worktreeinclude")));
    assert_eq!(repository.fingerprint(), before);
    // The command line applies it to the tree that it came from.
    let id = changed["job_id"].as_str().unwrap();
    let applied = environment.anchorhold(&["apply", id, "-C", &repository.text()]).output().unwrap();
    assert!(applied.status.success(), "{}", String::from_utf8_lossy(&applied.stderr));
    assert_eq!(std::fs::read(repository.path().join(".env")).unwrap(), b"TOKEN=1\nCHANGED=1\n");
    assert!(!repository.path().join("build/cache.txt").exists());
}
