//! The tasks extension: a second view of the same jobs, for clients that declare it.

use rmcp::model::{CallToolRequestParams, CallToolResponse, CancelTaskParams, ErrorCode, GetTaskParams, GetTaskResult, TaskPayload, TaskStatus};
use serde_json::{Value, json};

use crate::session::{LEGACY, Session, modern};
use crate::small;
use crate::support::rehearsal::{Step, task};
use crate::support::{Environment, Repository};

async fn start(session: &Session, tool: &'static str, repository: &Repository, steps: &[Step<'_>]) -> rmcp::model::Task {
    let Value::Object(arguments) = json!({"task": task(steps), "workspace_root": repository.text()}) else { panic!() };
    match session.client.call_tool_once(CallToolRequestParams::new(tool).with_arguments(arguments)).await.unwrap() {
        CallToolResponse::Task(made) => made.task,
        other => panic!("a task: {other:?}"),
    }
}

async fn ended(session: &Session, id: &str) -> GetTaskResult {
    for _ in 0..600 {
        let found = session.client.get_task(GetTaskParams::new(id)).await.unwrap();
        if found.task.status() != TaskStatus::Working {
            return found;
        }
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
    panic!("the task does not end")
}

#[tokio::test]
async fn a_task_is_a_job_for_any_process_and_ends_with_the_tools_result() {
    let environment = Environment::new();
    let repository = small(&environment);
    let (one, other) = (Session::with_tasks(&environment, modern()).await, Session::with_tasks(&environment, modern()).await);
    for tool in ["codex_delegate", "codex_delegate_async"] {
        let made = start(&one, tool, &repository, &[Step::Shell("echo a > a"), Step::Say("did it")]).await;
        assert_eq!(made.status, TaskStatus::Working);
        assert!(made.ttl_ms >= Some(86_400_000) && made.poll_interval_ms.is_some());
        let id = made.task_id;
        let found = ended(&other, &id).await;
        let TaskPayload::Completed { result } = &found.task.payload else { panic!("{found:?}") };
        let content = &result["structuredContent"];
        assert_eq!((&content["ok"], &content["job_id"], &content["files_count"]), (&json!(true), &json!(id), &json!(1)), "{content:#}");
        assert_eq!(one.call("codex_job_status", json!({"job_id": id})).await["state"], "completed", "the same job by the tools");
        one.call("codex_job_consume_result", json!({"job_id": id})).await;
        let gone = other.client.get_task(GetTaskParams::new(&id)).await.unwrap_err();
        let rmcp::ServiceError::McpError(error) = gone else { panic!("{gone:?}") };
        assert_eq!(error.code, ErrorCode::INVALID_PARAMS);
    }
    let failed = start(&one, "codex_delegate", &repository, &[Step::Delay(300), Step::Say("too late")]).await;
    one.client.cancel_task(CancelTaskParams::new(&failed.task_id)).await.unwrap();
    assert_eq!(ended(&other, &failed.task_id).await.task.status(), TaskStatus::Cancelled);
    one.close().await;
    other.close().await;
}

#[tokio::test]
async fn who_does_not_declare_it_sees_no_task() {
    let environment = Environment::new();
    let repository = small(&environment);
    for era in [LEGACY, modern()] {
        let session = Session::open(&environment, era).await;
        let id = session.start(&repository, &[Step::Say("nothing")]).await;
        let refused = session.client.get_task(GetTaskParams::new(&id)).await.unwrap_err();
        println!("{refused:?}");
        session.until(&id, "completed").await;
        session.close().await;
    }
}
