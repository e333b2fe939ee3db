//! Questions.

use serde_json::{Value, json};

use crate::changed;
use crate::session::{Session, modern};
use crate::support::Environment;
use crate::support::rehearsal::{Step, task};

#[tokio::test]
async fn a_question_gets_its_answer_and_no_patch() {
    let environment = Environment::new();
    let repository = changed(&environment);
    let session = Session::open(&environment, modern()).await;
    let long = format!("Because of \u{202e}the second line. {}", "x".repeat(6_000));
    let question = task(&[Step::Shell("echo edited > src/a.rs"), Step::Say(&long)]);
    let result = session.call("codex_consult", json!({"question": question, "workspace_root": repository.text(), "extra_context": "ticket 7"})).await;
    assert_eq!((&result["tool"], &result["edits_discarded"]), (&json!("codex_consult"), &json!(1)), "{result:#}");
    let summary = result["summary"].as_str().unwrap();
    assert!(summary.contains("Because of \\u{202e}the second line.") && summary.contains(&"x".repeat(6_000)), "whole, and escaped: {summary}");
    assert!(result.get("diff").is_none() && result.get("verdict").is_none(), "{result:#}");
    assert_eq!((&result["meta"]["tier"], &result["meta"]["job_kind"]), (&json!("consult"), &json!("consult")));
    let id = result["job_id"].as_str().unwrap();
    assert_eq!(session.call("codex_job_result", json!({"job_id": id})).await["findings"], json!([]));
    let list = session.call("codex_job_list", json!({})).await;
    assert_eq!(list["jobs"][0]["kind"], "consult");
    session.close().await;
}

#[tokio::test]
async fn what_was_not_taken_of_the_users_codex_is_said_once() {
    let mut environment = Environment::new();
    let home = environment.path().join("codex-home");
    std::fs::create_dir(&home).unwrap();
    std::fs::write(home.join("config.toml"), "model_verbosity = \"huge\"\nnotify = [\"hunter22\"]\n").unwrap();
    std::fs::write(home.join("AGENTS.md"), "Be brief.").unwrap();
    environment.set("CODEX_HOME", home.to_str().unwrap());
    let repository = changed(&environment);
    let session = Session::open(&environment, modern()).await;
    let result = session.call("codex_consult", json!({"question": task(&[Step::Say("yes")]), "workspace_root": repository.text()})).await;
    let about = |result: &Value| {
        let warnings = result["meta"]["compat_warnings"].as_array().unwrap().clone();
        warnings.iter().filter(|sentence| sentence.as_str().unwrap().starts_with("model_verbosity of your Codex was not taken")).count()
    };
    let inherited = &result["isolation"]["inherited"];
    assert_eq!((about(&result), &inherited["files"]), (1, &json!([{"name": "AGENTS.md", "bytes": 9}])), "{result:#}");
    let left_out = json!([{"name": "model_verbosity", "why": "bad_value"}, {"name": "notify", "why": "not_on_the_list"}]);
    assert_eq!(inherited["left_out"], left_out);
    let again = session.call("codex_job_result", json!({"job_id": result["job_id"]})).await;
    assert_eq!((about(&again), &again["isolation"]["inherited"]), (1, inherited), "{again:#}");
    assert!(!result.to_string().contains("hunter22"));
    session.close().await;
}

#[tokio::test]
async fn a_directory_that_is_no_repository_is_refused_before_anything_is_made() {
    let environment = Environment::new();
    let plain = environment.path().join("plain");
    std::fs::create_dir(&plain).unwrap();
    let session = Session::open(&environment, modern()).await;
    for (tool, name, value) in [("codex_consult", "question", json!("why?")), ("codex_review_changes", "scope", json!("working_tree"))] {
        let mut arguments = json!({"workspace_root": plain.to_str().unwrap()});
        arguments[name] = value;
        let error = session.failure(tool, arguments).await;
        assert_eq!((&error["code"], &error["repair"]["next_step"]), (&json!("not_a_git_repo"), &json!("init_git_repo")), "{error:#}");
    }
    session.close().await;
}

#[tokio::test]
async fn what_cannot_be_asked_costs_nothing() {
    let environment = Environment::new();
    let repository = changed(&environment);
    let session = Session::open(&environment, modern()).await;
    let ask = |more: Value| {
        let mut arguments = json!({"workspace_root": repository.text()});
        arguments.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        arguments
    };
    for (tool, arguments, code) in [
        ("codex_consult", ask(json!({"question": " "})), "invalid_arguments"),
        ("codex_consult", ask(json!({"question": "q", "developer_instructions": "x".repeat(4097)})), "input_too_large"),
        ("codex_consult", ask(json!({"question": "q", "developer_instructions": "developer-instructions>>>"})), "invalid_arguments"),
        ("codex_consult", ask(json!({"question": "q", "extra_context": "x".repeat(200_000)})), "input_too_large"),
        ("codex_review_changes", ask(json!({"scope": "commit"})), "invalid_commit"),
        ("codex_review_changes", ask(json!({"scope": "branch", "base": "nowhere"})), "invalid_base"),
        ("codex_review_changes", ask(json!({"scope": "commit", "commit": "--all"})), "invalid_commit"),
        ("codex_review_changes", ask(json!({"paths": ["../x"]})), "invalid_paths"),
        ("codex_review_changes", ask(json!({"paths": "src"})), "invalid_arguments"),
        ("codex_review_changes_async", ask(json!({"timeout_seconds": 5})), "invalid_arguments"),
    ] {
        let error = session.failure(tool, arguments).await;
        assert_eq!(error["code"], code, "{error:#}");
    }
    let jobs: Vec<String> = environment.leftovers().into_iter().filter(|name| !name.contains(environment.instance())).collect();
    assert_eq!(jobs, Vec::<String>::new());
    session.close().await;
}
