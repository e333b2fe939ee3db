//! The built program as an MCP server: over real pipes, with a real engine and the real Codex CLI, driven by rmcp's client and by the
//! Python client.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, its helpers too")]

mod support;

use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use rmcp::model::{
    CallToolRequestParams, CallToolResult, ClientCapabilities, ClientConfig, Implementation, ProgressNotificationParam, ProtocolVersion,
    ReadResourceRequestParams, ResourceContents,
};
use rmcp::service::{NotificationContext, PeerRequestOptions, RoleClient, RunningService};
use rmcp::transport::TokioChildProcess;
use rmcp::{ClientHandler, ClientLifecycleMode, ClientServiceExt as _, ServiceError};
use serde_json::{Value, json};
use support::rehearsal::{Step, task};
use support::{Environment, Repository};

const LEGACY: ClientLifecycleMode = ClientLifecycleMode::Initialize;

fn modern() -> ClientLifecycleMode {
    ClientLifecycleMode::Discover { preferred_versions: vec![ProtocolVersion::V_2026_07_28] }
}

/// Keeps the progress notifications that it gets.
#[derive(Clone, Default)]
struct Listener(Arc<Mutex<Vec<(f64, String)>>>);

impl ClientHandler for Listener {
    fn get_info(&self) -> ClientConfig {
        ClientConfig::new(ClientCapabilities::default(), Implementation::new("test", "0"))
    }

    async fn on_progress(&self, progress: ProgressNotificationParam, _context: NotificationContext<RoleClient>) {
        self.0.lock().unwrap().push((progress.progress, progress.message.unwrap_or_default()));
    }
}

/// A running server and its client.
struct Session {
    client: RunningService<RoleClient, Listener>,
    heard: Listener,
}

impl Session {
    async fn open(environment: &Environment, era: ClientLifecycleMode) -> Self {
        let command = tokio::process::Command::from(environment.anchorhold(&["mcp"]));
        let (transport, _) = TokioChildProcess::builder(command).stderr(Stdio::inherit()).spawn().unwrap();
        let heard = Listener::default();
        let client = heard.clone().serve_with_lifecycle(transport, era).await.unwrap();
        Self { client, heard }
    }

    async fn result(&self, tool: &'static str, arguments: Value) -> CallToolResult {
        let Value::Object(arguments) = arguments else { panic!("arguments are an object") };
        self.client.call_tool(CallToolRequestParams::new(tool).with_arguments(arguments)).await.unwrap()
    }

    /// The structured content of a call that must succeed.
    async fn call(&self, tool: &'static str, arguments: Value) -> Value {
        let result = self.result(tool, arguments).await;
        let content = result.structured_content.unwrap();
        assert_eq!(content["ok"], true, "{tool}: {content:#}");
        assert_ne!(result.is_error, Some(true));
        content
    }

    /// The whole envelope of a call that must fail.
    async fn failure(&self, tool: &'static str, arguments: Value) -> Value {
        let result = self.result(tool, arguments).await;
        let content = result.structured_content.unwrap();
        assert_eq!((&content["ok"], result.is_error), (&json!(false), Some(true)), "{tool}: {content:#}");
        content
    }

    async fn start(&self, repository: &Repository, steps: &[Step<'_>]) -> String {
        let handle = self.call("codex_delegate_async", json!({"task": task(steps), "workspace_root": repository.text()})).await;
        assert_eq!((&handle["status"], &handle["kind"]), (&json!("running"), &json!("delegate")));
        assert_eq!(handle["follow_up"]["tool"], "codex_job_status");
        handle["job_id"].as_str().unwrap().to_owned()
    }

    /// Polls as a client would, to the end.
    async fn ended(&self, id: &str) -> Value {
        for _ in 0..600 {
            let status = self.call("codex_job_status", json!({"job_id": id})).await;
            if status["result_available"] == true {
                return status;
            }
            assert_eq!(status["status"], "running");
            let pause = status["poll_after_ms"].as_u64().unwrap();
            assert!((1000..=10_000).contains(&pause));
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        panic!("the job does not end");
    }

    async fn resource(&self, uri: &str) -> Result<Vec<u8>, ServiceError> {
        let read = self.client.read_resource(ReadResourceRequestParams::new(uri)).await?;
        Ok(match &read.contents[0] {
            ResourceContents::TextResourceContents { text, .. } => text.as_bytes().to_vec(),
            ResourceContents::BlobResourceContents { blob, .. } => base64::engine::general_purpose::STANDARD.decode(blob).unwrap(),
            _ => panic!("an unknown kind of resource"),
        })
    }

    async fn close(self) {
        self.client.cancel().await.unwrap();
    }
}

/// A repository with one file of a line.
fn small(environment: &Environment) -> Repository {
    environment.repository("repository", &[("hello.txt", b"hello\n".as_slice()), ("src/a.rs", b"fn a() {}\n".as_slice())])
}

#[tokio::test]
async fn without_an_engine_the_tools_are_there_and_the_end_is_prompt() {
    let mut environment = Environment::new();
    environment.set("ANCHORHOLD_ENGINE_HOST", "unix:///nonexistent/engine.sock");
    let repository = small(&environment);
    for era in [LEGACY, modern()] {
        let session = Session::open(&environment, era).await;
        assert_eq!(session.client.list_tools(None).await.unwrap().tools.len(), 17);
        let status = session.call("codex_status", json!({})).await;
        assert_eq!(status["ready"], false);
        assert!(status["readiness_detail"].as_str().unwrap().starts_with("engine: "), "{status:#}");
        let envelope = session.failure("codex_delegate", json!({"task": "x", "workspace_root": repository.text()})).await;
        assert_eq!(envelope["error"]["code"], "engine_unavailable", "{envelope:#}");
        assert_eq!(envelope["error"]["repair"]["tool"], "codex_status");
        session.close().await;
    }
}

#[test]
fn closing_the_input_ends_the_server() {
    let environment = Environment::new();
    for first in [
        "",
        "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"initialize\",\"params\":{\"protocolVersion\":\"2025-11-25\",\"capabilities\":{},\"clientInfo\":{\"name\":\"t\",\"version\":\"0\"}}}\n",
    ] {
        use std::io::Write as _;
        let mut child = environment.anchorhold(&["mcp"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut input = child.stdin.take().unwrap();
        input.write_all(first.as_bytes()).unwrap();
        drop(input);
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        for line in String::from_utf8(output.stdout).unwrap().lines() {
            let message: Value = serde_json::from_str(line).unwrap();
            assert_eq!(message["jsonrpc"], "2.0", "nothing but the protocol is on standard output");
        }
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn an_idle_server_is_small() {
    let environment = Environment::new();
    // The release binary, as users have it: `make test` names it.
    let binary = std::env::var("ANCHORHOLD_TEST_BIN").unwrap_or_else(|_| env!("CARGO_BIN_EXE_anchorhold").to_owned());
    let mut command = tokio::process::Command::from(environment.command(&binary));
    command.arg("mcp");
    let (transport, _) = TokioChildProcess::builder(command).spawn().unwrap();
    let id = transport.id().unwrap();
    let client = Listener::default().serve_with_lifecycle(transport, LEGACY).await.unwrap();
    client.list_tools(None).await.unwrap();
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    let kilobytes: u64 = resident.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(kilobytes < 25_000, "{kilobytes} kB");
    client.cancel().await.unwrap();
}

#[tokio::test]
async fn a_delegation_from_start_to_consume() {
    for era in [LEGACY, modern()] {
        let environment = Environment::new();
        let repository = small(&environment);
        repository.write("hello.txt", b"hello, uncommitted\n");
        let before = repository.fingerprint();
        let session = Session::open(&environment, era).await;
        let id = session.start(&repository, &[Step::Shell("sed -i s/hello/goodbye/ hello.txt && echo new > new.txt"), Step::Say("changed it")]).await;
        let status = session.ended(&id).await;
        assert_eq!((&status["status"], &status["result_ok"], &status["reason"]), (&json!("done"), &json!(true), &json!("completed")));
        assert!(status["expires_at"].is_string());

        let result = session.call("codex_job_result", json!({"job_id": id})).await;
        let diff = result["diff"].as_str().unwrap();
        assert!(diff.contains("+goodbye, uncommitted") && diff.contains("new.txt"), "{diff}");
        assert_eq!((&result["files_count"], &result["no_changes"], &result["applies"]["ok"]), (&json!(2), &json!(false), &json!(true)));
        assert!(result["summary"].as_str().unwrap().contains("changed it"));
        assert_eq!(result["raw_response"]["text"], Value::Null);
        let meta = &result["meta"];
        assert_eq!(
            (&meta["job_id"], &meta["cwd"], &meta["isolation"]),
            (&json!(id), &json!(repository.path().canonicalize().unwrap()), &json!("inherit"))
        );
        let full = session.call("codex_job_result", json!({"job_id": id, "detail": "full"})).await;
        assert!(full["raw_response"]["text"].as_str().unwrap().contains("changed it"));

        let uri = result["diff_resource"].as_str().unwrap();
        assert_eq!(session.resource(uri).await.unwrap(), diff.as_bytes());
        let report: Value = serde_json::from_slice(&session.resource(&uri.replace("/diff", "/report")).await.unwrap()).unwrap();
        assert_eq!(report["files_count"], 2);
        assert!(!session.resource(&uri.replace("/diff", "/events")).await.unwrap().is_empty());

        let envelope = session.failure("codex_job_result", json!({"job_id": id, "workspace_root": environment.path()})).await;
        assert_eq!(envelope["error"]["code"], "job_not_found", "another workspace's job is not found");

        let consumed = session.call("codex_job_consume_result", json!({"job_id": id, "workspace_root": repository.text()})).await;
        assert_eq!((&consumed["diff"], &consumed["diff_resource"]), (&result["diff"], &Value::Null));
        for tool in ["codex_job_status", "codex_job_result", "codex_job_consume_result", "codex_job_cancel"] {
            assert_eq!(session.failure(tool, json!({"job_id": id})).await["error"]["code"], "job_not_found");
        }
        assert!(session.resource(uri).await.is_err());
        assert_eq!(repository.fingerprint(), before, "the tree and .git are as they were");
        environment.nothing_is_left();
        session.close().await;
    }
}

#[tokio::test]
async fn a_synchronous_call_tells_what_codex_does() {
    let environment = Environment::new();
    let repository = small(&environment);
    let session = Session::open(&environment, LEGACY).await;
    let steps = [Step::Shell("sleep 2; echo one > one.txt"), Step::Shell("sleep 2; echo two > two.txt"), Step::Say("two files")];
    let Value::Object(arguments) = json!({"task": task(&steps), "workspace_root": repository.text(), "timeout_seconds": 120}) else {
        panic!("arguments are an object")
    };
    let request = rmcp::model::ClientRequest::CallToolRequest(rmcp::model::CallToolRequest::new(
        CallToolRequestParams::new("codex_delegate").with_arguments(arguments),
    ));
    // rmcp's client puts a progress token into every request.
    let handle = session.client.send_cancellable_request(request, PeerRequestOptions::no_options()).await.unwrap();
    let rmcp::model::ServerResult::CallToolResult(result) = handle.await_response().await.unwrap() else { panic!("a tool's result") };
    let content = result.structured_content.unwrap();
    assert_eq!((&content["ok"], &content["files_count"]), (&json!(true), &json!(2)), "{content:#}");
    let heard = session.heard.0.lock().unwrap().clone();
    assert!(heard.windows(2).all(|pair| pair[0].0 < pair[1].0), "the numbers increase: {heard:?}");
    assert!(heard.iter().any(|(_, message)| message.starts_with("running; the agent's words: ")), "{heard:?}");
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(session.heard.0.lock().unwrap().len(), heard.len(), "none after the end");
    session.close().await;
}

#[tokio::test]
async fn a_time_limit_keeps_the_work() {
    let environment = Environment::new();
    let repository = small(&environment);
    let session = Session::open(&environment, LEGACY).await;
    let steps = [Step::Shell("echo part > part.txt"), Step::Delay(300), Step::Say("too late")];
    let arguments = json!({"task": task(&steps), "workspace_root": repository.text(), "timeout_seconds": 1});
    let envelope = session.failure("codex_delegate", arguments).await;
    assert_eq!((&envelope["error"]["code"], &envelope["error"]["temporary"]), (&json!("timeout"), &json!(true)), "{envelope:#}");
    assert!(envelope["partial"]["diff"].as_str().unwrap().contains("+part"));
    assert_eq!(envelope["meta"]["timeout_seconds"], 10, "clamped");
    session.close().await;
}

#[tokio::test]
async fn a_callers_bounds_are_the_jobs() {
    let mut environment = Environment::new();
    environment.set("ANCHORHOLD_LIMITS_TOKENS", "50000");
    let repository = small(&environment);
    let session = Session::open(&environment, modern()).await;
    let ask = |steps: &[Step<'_>], bounds: Value| {
        let mut arguments = json!({"task": task(steps), "workspace_root": repository.text()});
        arguments.as_object_mut().unwrap().extend(bounds.as_object().unwrap().clone());
        arguments
    };
    // Nothing happens any more; the settings would wait for ten minutes.
    let idle = ask(&[Step::Shell("echo part > part.txt; sleep 600"), Step::Say("too late")], json!({"idle_seconds": 5, "deadline_seconds": 201}));
    let handle = session.call("codex_delegate_async", idle).await;
    assert_eq!(handle["deadline_seconds"], 201, "{handle:#}");
    let status = session.ended(handle["job_id"].as_str().unwrap()).await;
    assert_eq!((&status["status"], &status["reason"]), (&json!("timeout"), &json!("idle")), "{status:#}");
    // Less than one request of Codex may cost; and a cap of the settings is not raised.
    let spent = session.failure("codex_delegate", ask(&[Step::Say("done")], json!({"max_tokens": 100}))).await;
    assert_eq!(spent["error"]["code"], "token_budget", "{spent:#}");
    let refused = session.failure("codex_delegate_async", ask(&[Step::Say("done")], json!({"max_tokens": 50_001}))).await;
    assert_eq!(refused["error"]["invalid_arguments"], json!([{"field": "max_tokens", "reason": "must be between 1 and 50000"}]));
    session.close().await;
}

#[tokio::test]
async fn jobs_outlive_their_client_are_listed_and_can_be_cancelled() {
    let environment = Environment::new();
    let repository = small(&environment);
    let first = Session::open(&environment, LEGACY).await;
    let id = first.start(&repository, &[Step::Shell("echo part > part.txt"), Step::Delay(300), Step::Say("too late")]).await;
    first.close().await;

    let second = Session::open(&environment, modern()).await;
    let listed = second.call("codex_job_list", json!({"status": "running"})).await;
    assert_eq!(listed["jobs"][0]["job_id"], json!(id), "{listed:#}");
    assert_eq!(listed["truncated"], false);
    let elsewhere = second.call("codex_job_list", json!({"workspace_root": environment.path()})).await;
    assert_eq!(elsewhere["jobs"], json!([]));
    let envelope = second.failure("codex_job_result", json!({"job_id": id})).await;
    let error = &envelope["error"];
    assert_eq!((&error["code"], &error["temporary"], &error["repair"]["arguments"]), (&json!("job_running"), &json!(true), &json!({"job_id": id})));

    // Let it do its first step, so that there is work to keep.
    for _ in 0..100 {
        let status = second.call("codex_job_status", json!({"job_id": id})).await;
        // Thread, turn, and the begin and end of the command.
        if status["events_seen"].as_u64() >= Some(4) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    second.call("codex_job_cancel", json!({"job_id": id})).await;
    let status = second.ended(&id).await;
    assert_eq!((&status["status"], &status["result_ok"]), (&json!("cancelled"), &json!(false)));
    second.call("codex_job_cancel", json!({"job_id": id})).await;
    let envelope = second.failure("codex_job_consume_result", json!({"job_id": id})).await;
    assert_eq!(envelope["error"]["code"], "job_cancelled");
    assert!(envelope["partial"]["diff"].as_str().unwrap().contains("+part"), "{envelope:#}");
    environment.nothing_is_left();
    second.close().await;
}

#[tokio::test]
async fn a_key_starts_one_job() {
    let environment = Environment::new();
    let repository = small(&environment);
    let session = Session::open(&environment, LEGACY).await;
    let arguments = json!({"task": task(&[Step::Say("nothing to do")]), "workspace_root": repository.text(), "idempotency_key": "once"});
    let one = session.call("codex_delegate_async", arguments.clone()).await;
    let two = session.call("codex_delegate_async", arguments).await;
    assert_eq!(one["job_id"], two["job_id"]);
    assert_eq!((&one["meta"]["idempotency_replayed"], &two["meta"]["idempotency_replayed"]), (&json!(false), &json!(true)));
    let other = json!({"task": "something else", "workspace_root": repository.text(), "idempotency_key": "once"});
    assert_eq!(session.failure("codex_delegate_async", other).await["error"]["code"], "idempotency_conflict");
    let id = one["job_id"].as_str().unwrap();
    session.ended(id).await;
    let result = session.call("codex_job_result", json!({"job_id": id})).await;
    assert_eq!((&result["no_changes"], &result["diff"]), (&json!(true), &Value::Null), "{result:#}");
    session.close().await;
}

#[tokio::test]
async fn a_large_patch_is_a_resource_and_comes_whole_with_the_consume() {
    let environment = Environment::new();
    let repository = small(&environment);
    let session = Session::open(&environment, LEGACY).await;
    let id = session.start(&repository, &[Step::Shell("seq 1 60000 > numbers.txt; printf 'caf\\351\\n' > latin.txt")]).await;
    session.ended(&id).await;
    let result = session.call("codex_job_result", json!({"job_id": id})).await;
    assert_eq!((&result["diff_inline"], &result["meta"]["truncated"]), (&json!(false), &json!(true)));
    let patch = session.resource(result["diff_resource"].as_str().unwrap()).await.unwrap();
    assert_eq!(result["diff_bytes"], json!(patch.len()));
    let clone = repository.applied(&patch, "clone");
    assert_eq!(std::fs::read(clone.path().join("latin.txt")).unwrap(), b"caf\xe9\n");
    let consumed = session.result("codex_job_consume_result", json!({"job_id": id})).await;
    let embedded = serde_json::to_value(&consumed.content[1]).unwrap();
    let blob = embedded["resource"]["blob"].as_str().unwrap();
    assert_eq!(base64::engine::general_purpose::STANDARD.decode(blob).unwrap(), patch);
    session.close().await;
}

#[tokio::test]
async fn what_is_no_repository_is_refused_and_leaves_nothing() {
    let environment = Environment::new();
    let plain = environment.path().join("plain");
    std::fs::create_dir(&plain).unwrap();
    let empty = environment.path().join("empty");
    std::fs::create_dir(&empty).unwrap();
    assert!(anchorhold::process::command("git", &empty).args(["init", "-q"]).status().unwrap().success());
    let session = Session::open(&environment, LEGACY).await;
    for (path, code) in [(&plain, "not_a_git_repo"), (&empty, "worktree_error")] {
        for tool in ["codex_delegate", "codex_delegate_async"] {
            let envelope = session.failure(tool, json!({"task": "x", "workspace_root": path})).await;
            assert_eq!(envelope["error"]["code"], code, "{envelope:#}");
        }
    }
    assert_eq!(environment.leftovers(), Vec::<String>::new());
    session.close().await;
}

#[test]
fn the_python_client_gets_through_in_both_eras() {
    let environment = Environment::new();
    let repository = small(&environment);
    let python = support::python::interpreter();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/mcp_python.py");
    for mode in ["auto", "legacy"] {
        let output = environment
            .command(&python)
            .args([script, env!("CARGO_BIN_EXE_anchorhold"), mode, &repository.text()])
            .arg(task(&[Step::Shell("echo python > python.txt"), Step::Say("wrote it")]))
            .output()
            .unwrap();
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{mode}: {out}\n{err}");
        assert!(out.contains("all passed"), "{mode}: {out}");
    }
    environment.nothing_is_left();
}

#[tokio::test]
async fn an_ended_delegation_is_gone_on_with() {
    let environment = Environment::new();
    let repository = environment.repository("repository", &[("f", b"1\n2\n3\n")]);
    let other = environment.repository("other", &[("g", b"g\n")]);
    let session = Session::open(&environment, modern()).await;
    let first = session.start(&repository, &[Step::Shell("echo four >> f; echo new > n"), Step::Say("first")]).await;
    session.ended(&first).await;
    let go_on = |more: Value| {
        let mut arguments = json!({"task": task(&[Step::Shell("cat n >> f; rm n"), Step::Say("second")]), "continue_job_id": first});
        arguments.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        arguments
    };
    // Its directory need not be named; another one's job is none.
    let second = session.call("codex_delegate", go_on(json!({}))).await;
    assert_eq!((&second["meta"]["continues"], &second["meta"]["cwd"]), (&json!(first), &json!(repository.text())), "{second:#}");
    let diff = second["diff"].as_str().unwrap();
    assert!(diff.contains("+four\n+new\n") && !diff.contains("b/n"), "{diff}");
    let status = session.call("codex_job_status", json!({"job_id": second["job_id"]})).await;
    assert_eq!(status["continues"], json!(first));
    let handle = session.call("codex_delegate_async", go_on(json!({"workspace_root": repository.text()}))).await;
    session.ended(handle["job_id"].as_str().unwrap()).await;
    for (arguments, code) in [
        (go_on(json!({"workspace_root": other.text()})), "job_not_found"),
        (go_on(json!({"continue_job_id": "0".repeat(32)})), "job_not_found"),
        (go_on(json!({"continue_job_id": "nonsense"})), "job_not_found"),
    ] {
        let failure = session.failure("codex_delegate_async", arguments).await;
        assert_eq!(failure["error"]["code"], code, "{failure:#}");
    }
    session.call("codex_job_consume_result", json!({"job_id": first})).await;
    let failure = session.failure("codex_delegate", go_on(json!({}))).await;
    assert_eq!(failure["error"]["code"], "job_not_found", "{failure:#}");
}
