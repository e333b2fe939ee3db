//! What was found is not lost: an early end, or an answer that cannot be used, leaves the notes.

use serde_json::{Value, json};

use crate::session::{Session, modern};
use crate::support::rehearsal::{Step, task};
use crate::support::{Environment, Repository};
use crate::{changed, finding};

pub fn note(severity: &str, title: &str) -> String {
    format!("echo '{}' >> /job/home/findings.jsonl", finding(severity, title, "src/a.rs", 2))
}

/// A review that must end badly: its error and its partial work.
async fn ends(session: &Session, repository: &Repository, context: &str, seconds: u32, code: &str) -> Value {
    let arguments = json!({"workspace_root": repository.text(), "extra_context": context, "timeout_seconds": seconds});
    let content = session.result("codex_review_changes", arguments).await.structured_content.unwrap();
    assert_eq!((&content["ok"], &content["error"]["code"]), (&json!(false), &json!(code)), "{content:#}");
    let partial = content["partial"].clone();
    assert_eq!((&partial["partial"], &partial["review_status"]), (&json!(true), &json!("partial")), "{content:#}");
    assert!(partial["partial_detail"].is_string() && partial["coverage"]["status"].is_string(), "{content:#}");
    content
}

#[tokio::test]
async fn a_deadline_leaves_what_was_noted() {
    let environment = Environment::new();
    let repository = changed(&environment);
    let session = Session::open(&environment, modern()).await;
    let context = task(&[Step::Shell(&note("low", "small")), Step::Shell(&note("critical", "grave")), Step::Shell("sleep 600")]);
    let content = ends(&session, &repository, &context, 30, "timeout").await;
    let titles: Vec<_> = content["partial"]["findings"].as_array().unwrap().iter().map(|f| f["title"].as_str().unwrap()).collect();
    assert_eq!((titles, &content["partial"]["verdict"]), (vec!["grave", "small"], &json!("fail")), "{content:#}");
    // Kept for whoever asks later.
    let id = content["meta"]["job_id"].as_str().unwrap();
    assert_eq!(session.failure("codex_job_result", json!({"job_id": id})).await["code"], "timeout");
    session.close().await;
}

#[tokio::test]
async fn a_token_budget_leaves_what_was_noted() {
    let mut environment = Environment::new();
    environment.set("ANCHORHOLD_LIMITS_TOKENS", "60000");
    let repository = changed(&environment);
    let session = Session::open(&environment, modern()).await;
    let context = format!(
        "````rehearsal\nusage input=50000 output=9990\nshell {}\nusage input=900 output=200\nshell true\nmessage done\n````",
        note("high", "one")
    );
    let content = ends(&session, &repository, &context, 600, "token_budget").await;
    assert_eq!(content["partial"]["findings"][0]["title"], "one", "{content:#}");
    session.close().await;
}

#[tokio::test]
async fn an_answer_in_another_form_is_said_and_kept() {
    let environment = Environment::new();
    let repository = changed(&environment);
    let session = Session::open(&environment, modern()).await;
    for (said, code) in [("I like it.", "invalid_json"), (r#"{"verdict": "splendid"}"#, "schema_violation")] {
        let context = task(&[Step::Shell(&note("medium", "noted")), Step::Say(said)]);
        let content = ends(&session, &repository, &context, 600, code).await;
        assert_eq!(content["error"]["repair"]["next_step"], "retry_then_report");
        assert_eq!(content["error"]["temporary"], true);
        assert!(!content["error"]["message"].as_str().unwrap().contains("splendid"), "an agent's words are in no error");
        assert_eq!(content["partial"]["raw_response"]["text"], said);
        assert_eq!(content["partial"]["findings"][0]["title"], "noted");
    }
    session.close().await;
}

#[tokio::test]
async fn notes_that_are_no_file_say_nothing_and_harm_nothing() {
    let environment = Environment::new();
    let repository = changed(&environment);
    let session = Session::open(&environment, modern()).await;
    for spoil in [
        "ln -s /job/in/request.json /job/home/findings.jsonl",
        "mkfifo /job/home/findings.jsonl",
        "head -c 3000000 /dev/zero > /job/home/findings.jsonl",
    ] {
        let content = ends(&session, &repository, &task(&[Step::Shell(spoil), Step::Say("no")]), 600, "invalid_json").await;
        assert_eq!(content["partial"]["findings"], json!([]), "{content:#}");
        assert_eq!(content["partial"]["verdict"], "unknown");
    }
    session.close().await;
}
