//! Idempotency keys: labels of the job while it is there, and in the gateway's memory for the retention time after that.

use serde_json::{Value, json};

use crate::session::{LEGACY, Session, modern};
use crate::small;
use crate::support::Environment;
use crate::support::rehearsal::{Step, task};

#[tokio::test]
async fn a_key_names_one_job_also_when_that_is_consumed() {
    let environment = Environment::new();
    let repository = small(&environment);
    let (one, two) = (Session::open(&environment, LEGACY).await, Session::open(&environment, modern()).await);
    let work = task(&[Step::Shell("echo a > a"), Step::Say("did it")]);
    let arguments = json!({"task": work, "workspace_root": repository.text(), "idempotency_key": "once", "timeout_seconds": 120});
    let first = one.call("codex_delegate", arguments.clone()).await;
    assert_eq!(first["meta"]["idempotency_replayed"], false, "{:#}", first["meta"]);
    // Another process, and the job has ended: the same result, unpaid.
    let again = two.call("codex_delegate", arguments.clone()).await;
    assert_eq!((&again["job_id"], &again["meta"]["idempotency_replayed"]), (&first["job_id"], &json!(true)));
    assert_eq!(again["diff"], first["diff"]);
    let other = json!({"task": work, "workspace_root": repository.text(), "idempotency_key": "once", "timeout_seconds": 121});
    let conflict = two.failure("codex_delegate", other).await;
    assert_eq!((&conflict["code"], &conflict["repair"]["next_step"]), (&json!("idempotency_conflict"), &json!("use_new_idempotency_key")));
    assert_eq!((&conflict["details"]["field"], &conflict["temporary"]), (&json!("idempotency_key"), &json!(false)));
    one.call("codex_job_consume_result", json!({"job_id": first["job_id"]})).await;
    let used = two.failure("codex_delegate", arguments).await;
    assert_eq!((&used["code"], &used["repair"]["next_step"]), (&json!("idempotency_result_unavailable"), &json!("use_new_idempotency_key")));
    let other = json!({"task": work, "workspace_root": repository.text(), "idempotency_key": "twice", "timeout_seconds": 120});
    let anew = two.call("codex_delegate", other).await;
    assert_eq!((anew["job_id"] == first["job_id"], &anew["meta"]["idempotency_replayed"]), (false, &json!(false)));
    one.close().await;
    two.close().await;
}

#[test]
fn the_command_line_replays_and_refuses_as_well() {
    let environment = Environment::new();
    let repository = small(&environment);
    let delegate = |words: &str| {
        let work = task(&[Step::Say(words)]);
        let output =
            environment.anchorhold(&["delegate", "--json", "--detach", "--idempotency-key", "k", "-C", &repository.text(), &work]).output().unwrap();
        (output.status.code(), serde_json::from_slice::<Value>(&output.stdout).unwrap())
    };
    let (code, first) = delegate("one");
    assert_eq!((code, &first["replayed"]), (Some(0), &json!(false)), "{first:#}");
    let (code, second) = delegate("one");
    assert_eq!((code, &second["replayed"], &second["job_id"]), (Some(0), &json!(true), &first["job_id"]), "{second:#}");
    let (code, other) = delegate("two");
    assert_eq!((code, &other["error"]["code"]), (Some(2), &json!("idempotency_conflict")));
    let id = first["job_id"].as_str().unwrap();
    assert_eq!(environment.anchorhold(&["wait", "--quiet", id]).status().unwrap().code(), Some(0));
    assert!(environment.anchorhold(&["consume", "--json", id]).output().unwrap().status.success());
    let (code, used) = delegate("one");
    assert_eq!((code, &used["error"]["code"]), (Some(9), &json!("idempotency_result_unavailable")));
}
