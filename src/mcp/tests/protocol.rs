//! Lists, hints, bad input.

use rmcp::ServiceError;
use rmcp::model::{CallToolRequestParams, ReadResourceRequestParams};
use serde_json::{Value, json};

use super::super::envelope::repair;
use super::super::tools::{self, ToolName};
use super::{Session, eras};
use crate::error::Code;

/// A tool, and its hints: read-only, destructive, idempotent, open-world.
type Hints = (&'static str, Option<bool>, Option<bool>, Option<bool>, Option<bool>);

/// The contract's table.
const HINTS: [Hints; 17] = [
    ("codex_status", Some(true), None, None, Some(false)),
    ("codex_capabilities", Some(true), None, None, Some(false)),
    ("codex_models", Some(true), None, None, Some(false)),
    ("codex_delegate", Some(false), Some(true), Some(false), Some(true)),
    ("codex_delegate_async", Some(false), Some(true), Some(false), Some(true)),
    ("codex_delegate_dry_run", Some(true), None, None, Some(false)),
    ("codex_consult", Some(false), Some(false), Some(false), Some(true)),
    ("codex_consult_async", Some(false), Some(false), Some(false), Some(true)),
    ("codex_review_changes", Some(false), Some(false), Some(false), Some(true)),
    ("codex_review_changes_async", Some(false), Some(false), Some(false), Some(true)),
    ("codex_dry_run", Some(true), None, None, Some(false)),
    ("codex_job_status", Some(true), None, None, Some(false)),
    ("codex_job_result", Some(true), None, None, Some(false)),
    ("codex_job_consume_result", Some(false), Some(false), Some(false), Some(false)),
    ("codex_job_cancel", Some(false), Some(false), Some(true), Some(false)),
    ("codex_job_list", Some(true), None, None, Some(false)),
    ("codex_transfer", Some(false), Some(false), Some(false), Some(false)),
];

#[tokio::test]
async fn both_eras_get_the_same_tools_in_less_than_40_kb() {
    for era in eras() {
        let session = Session::open(era).await;
        let list = session.client.list_tools(None).await.unwrap();
        let size = serde_json::to_vec(&list).unwrap().len();
        assert!(size < 40_000, "tools/list has {size} bytes");
        let found: Vec<_> = list
            .tools
            .iter()
            .map(|tool| {
                let hints = tool.annotations.clone().unwrap();
                assert!(tool.title.is_some() && tool.description.is_some());
                let words = tool.description.as_ref().unwrap().len();
                assert!((150..1200).contains(&words), "{} is described in {words} bytes", tool.name);
                (tool.name.to_string(), hints.read_only_hint, hints.destructive_hint, hints.idempotent_hint, hints.open_world_hint)
            })
            .collect();
        assert_eq!(found, HINTS.map(|(name, a, b, c, d)| (name.to_owned(), a, b, c, d)));
        session.close().await;
    }
}

#[tokio::test]
async fn the_instructions_are_short() {
    let session = Session::open(eras()[0].clone()).await;
    let text = session.client.peer_info().unwrap().instructions.clone().unwrap();
    assert!(text.len() <= 1500, "{}", text.len());
    session.close().await;
}

/// Checks a value against the few keywords that our schemas use.
fn fits(schema: &Value, value: &Value) -> bool {
    let Value::Object(map) = schema else { return schema != &json!(false) };
    map.iter().all(|(keyword, rule)| match keyword.as_str() {
        "type" => {
            let named = |name: &Value| match name.as_str().unwrap() {
                "object" => value.is_object(),
                "array" => value.is_array(),
                "string" => value.is_string(),
                "boolean" => value.is_boolean(),
                "integer" => value.is_i64() || value.is_u64(),
                "null" => value.is_null(),
                other => panic!("unknown type {other}"),
            };
            rule.as_array().map_or_else(|| named(rule), |names| names.iter().any(named))
        }
        "anyOf" => rule.as_array().unwrap().iter().any(|each| fits(each, value)),
        "enum" => rule.as_array().unwrap().contains(value),
        "const" => rule == value,
        "items" => value.as_array().is_none_or(|items| items.iter().all(|item| fits(rule, item))),
        "required" => rule.as_array().unwrap().iter().all(|key| value.get(key.as_str().unwrap()).is_some()),
        "properties" => rule.as_object().unwrap().iter().all(|(key, each)| value.get(key).is_none_or(|item| fits(each, item))),
        "additionalProperties" | "description" | "default" => true,
        other => panic!("unknown keyword {other}"),
    })
}

#[tokio::test]
async fn answers_fit_their_output_schemas() {
    let session = Session::open(eras()[1].clone()).await;
    for tool in tools::definitions() {
        let schema = Value::Object((*tool.output_schema.unwrap()).clone());
        assert_eq!(schema["type"], "object", "the 2025-11-25 revision wants an object at the top");
        // Unknown arguments fail everywhere.
        let result = session.call(Box::leak(tool.name.into_owned().into_boxed_str()), json!({"no_such_argument": 1})).await;
        assert!(fits(&schema, &result.structured_content.unwrap()));
        assert!(!fits(&schema, &json!({"ok": true})));
        assert!(!fits(&schema, &json!({"ok": false, "meta": {}})));
    }
    let status = session.call("codex_status", json!({})).await;
    let schema = Value::Object(super::super::schema::output(ToolName::Status));
    let content = status.structured_content.unwrap();
    assert!(fits(&schema, &content));
    assert_eq!((&content["ok"], &content["ready"], &content["codex_found"]), (&json!(true), &json!(false), &json!(false)));
    session.close().await;
}

#[tokio::test]
async fn input_schemas_name_what_the_check_takes() {
    for tool in tools::definitions() {
        let schema = Value::Object((*tool.input_schema).clone());
        assert_eq!(schema["additionalProperties"], false);
        let parsed = ToolName::parse(&tool.name).unwrap();
        for parameter in parsed.parameters() {
            let property = &schema["properties"][parameter.name];
            assert!(property["description"].as_str().is_some_and(|text| text.len() > 20), "{} {}", tool.name, parameter.name);
            let required = schema["required"].as_array().is_some_and(|names| names.contains(&json!(parameter.name)));
            assert_eq!(required, parameter.required);
            assert_eq!(property.get("default").is_none(), required, "a default exactly where it may be left out");
        }
    }
}

#[tokio::test]
async fn bad_arguments_are_named_and_never_repeated() {
    for era in eras() {
        let session = Session::open(era).await;
        let secret = "sk-live-0123456789";
        let cases = [
            ("codex_delegate", json!({}), "task"),
            ("codex_delegate", json!({"task": 7}), "task"),
            ("codex_delegate", json!({"task": null}), "task"),
            ("codex_delegate", json!({"task": " \n "}), "task"),
            ("codex_delegate", json!({"task": "x", "isolation": secret}), "isolation"),
            ("codex_delegate", json!({"task": "x", "detail": null}), "detail"),
            ("codex_delegate", json!({"task": "x", "timeout_seconds": 1.5}), "timeout_seconds"),
            ("codex_delegate", json!({"task": "x", "timeout_seconds": secret}), "timeout_seconds"),
            ("codex_delegate", json!({"task": "x", "model": "a\u{1b}b"}), "model"),
            ("codex_delegate", json!({"task": "x", "reasoning_effort": "e".repeat(129)}), "reasoning_effort"),
            ("codex_delegate", json!({"task": "x", "idempotency_key": ""}), "idempotency_key"),
            ("codex_delegate", json!({"task": "x", "idempotency_key": "k".repeat(201)}), "idempotency_key"),
            ("codex_delegate", json!({"task": "x", "workspace": secret}), "workspace"),
            ("codex_delegate_async", json!({"task": "x", "timeout_seconds": 30}), "timeout_seconds"),
            ("codex_delegate", json!({"task": "x", "deadline_seconds": 30}), "deadline_seconds"),
            ("codex_delegate", json!({"task": "x", "queue_seconds": 0}), "queue_seconds"),
            ("codex_delegate", json!({"task": "x", "idle_seconds": 1}), "idle_seconds"),
            ("codex_delegate", json!({"task": "x", "max_tokens": -1}), "max_tokens"),
            ("codex_delegate", json!({"task": "x", "max_tokens": secret}), "max_tokens"),
            ("codex_delegate_async", json!({"task": "x", "deadline_seconds": 9}), "deadline_seconds"),
            ("codex_delegate_async", json!({"task": "x", "deadline_seconds": 604_801}), "deadline_seconds"),
            ("codex_delegate_async", json!({"task": "x", "deadline_seconds": 30.5}), "deadline_seconds"),
            ("codex_delegate_async", json!({"task": "x", "queue_seconds": 2_592_001}), "queue_seconds"),
            ("codex_delegate_async", json!({"task": "x", "queue_seconds": -1}), "queue_seconds"),
            ("codex_delegate_async", json!({"task": "x", "idle_seconds": -1}), "idle_seconds"),
            ("codex_delegate_async", json!({"task": "x", "idle_seconds": 1e300}), "idle_seconds"),
            ("codex_delegate_async", json!({"task": "x", "max_tokens": 1_000_000_000_001_i64}), "max_tokens"),
            ("codex_job_status", json!({"job_id": "a\nb"}), "job_id"),
            ("codex_job_status", json!({"job_id": "x", "wait_seconds": 56}), "wait_seconds"),
            ("codex_job_status", json!({"job_id": "x", "wait_seconds": -1}), "wait_seconds"),
            ("codex_job_status", json!({"job_id": "x", "since_state": "done"}), "since_state"),
            ("codex_job_list", json!({"limit": 0}), "limit"),
            ("codex_job_list", json!({"limit": 1001}), "limit"),
            ("codex_job_list", json!({"status": "queued"}), "status"),
            ("codex_status", json!({"verbose": true}), "verbose"),
            ("codex_delegate", json!({"task": "x", "include_ignored": secret}), "include_ignored"),
            ("codex_delegate", json!({"task": "x", "include_ignored": null}), "include_ignored"),
            ("codex_capabilities", json!({"include_schemas": [secret]}), "include_schemas"),
            ("codex_transfer", json!({"transcript_path": "a\nb"}), "transcript_path"),
        ];
        for (tool, arguments, field) in cases {
            let error = session.error(tool, arguments.clone()).await;
            assert_eq!(error["code"], "invalid_arguments", "{tool} {arguments}");
            assert_eq!(error["invalid_arguments"][0]["field"], field, "{tool} {arguments}");
            assert_eq!(error["details"]["field"], field);
            assert_eq!((&error["temporary"], &error["retry_after_ms"]), (&json!(false), &Value::Null));
            assert_eq!((&error["repair"]["next_step"], &error["repair"]["tool"]), (&json!("correct_arguments"), &json!(tool)));
            assert!(!error.to_string().contains(secret), "{error}");
        }
        // Well within: what fails then is the engine that is not there.
        let bounds = json!({"task": "x", "deadline_seconds": 10, "queue_seconds": 1, "idle_seconds": 0, "max_tokens": 1});
        let started = session.error("codex_delegate_async", bounds).await;
        assert!(started["code"] != "invalid_arguments", "{started}");
        let error = session.error("codex_delegate_async", json!({"task": "x", "idle_seconds": 3})).await;
        assert_eq!(error["invalid_arguments"][0]["reason"], "must be 0 (never) or between 5 and 604800");
        let error = session.error("codex_delegate", json!({secret: 1, "task": "x"})).await;
        assert!(!error.to_string().contains(secret));
        assert_eq!(error["invalid_arguments"][0]["field_withheld"], true);
        let error = session.error("codex_delegate", json!({"isolation": "none", "detail": "all"})).await;
        assert_eq!(error["details"]["fields"], json!(["task", "isolation", "detail"]));
        assert_eq!(error["invalid_arguments"][1]["allowed_values"], json!(["inherit", "ignore-config", "ignore-rules"]));
        session.close().await;
    }
}

#[tokio::test]
async fn bad_workspaces_and_tasks_have_their_own_codes() {
    let session = Session::open(eras()[0].clone()).await;
    for tool in ["codex_delegate", "codex_delegate_async"] {
        for root in ["relative/path", "/nonexistent/anchorhold", ""] {
            let error = session.error(tool, json!({"task": "x", "workspace_root": root})).await;
            assert_eq!(error["code"], "invalid_workspace_root", "{root:?}");
        }
        let error = session.error(tool, json!({"task": "é".repeat(100_001)})).await;
        assert_eq!((&error["code"], &error["limit_bytes"], &error["actual_bytes"]), (&json!("input_too_large"), &json!(200_000), &json!(200_002)));
    }
    for tool in ["codex_job_status", "codex_job_result", "codex_job_consume_result", "codex_job_cancel"] {
        for id in ["", "x", "../../etc/passwd", "0123456789ABCDEF0123456789ABCDEF"] {
            let error = session.error(tool, json!({"job_id": id})).await;
            assert_eq!(error["code"], "job_not_found", "{tool} {id}");
            assert_eq!(error["repair"]["tool"], "codex_job_list");
        }
    }
    session.close().await;
}

#[tokio::test]
async fn a_clients_roots_bound_the_workspace_in_the_old_era_only() {
    let top = tempfile::tempdir().unwrap();
    let other = tempfile::tempdir().unwrap();
    let root = format!("file://{}", top.path().display());
    let arguments = json!({"task": "x", "workspace_root": other.path()});

    let old = Session::with_roots(eras()[0].clone(), vec![root.clone()]).await;
    for tool in ["codex_delegate", "codex_delegate_async"] {
        let error = old.error(tool, arguments.clone()).await;
        assert_eq!((&error["code"], &error["candidate_roots"]), (&json!("workspace_outside_roots"), &json!([top.path()])));
    }
    // Without an argument the first root is taken: the start gets as far as the directory, and names it.
    let result = old.call("codex_delegate_async", json!({"task": "x"})).await.structured_content.unwrap();
    let meta = &result["meta"];
    assert_eq!((&meta["cwd"], &meta["workspace_source"], &meta["roots_source"]), (&json!(top.path()), &json!("roots"), &json!("client")));
    old.close().await;

    let new = Session::with_roots(eras()[1].clone(), vec![root]).await;
    let result = new.call("codex_delegate_async", arguments).await.structured_content.unwrap();
    assert_eq!((&result["meta"]["workspace_source"], &result["meta"]["roots_source"]), (&json!("param"), &json!("probe_failed")));
    assert_eq!(result["meta"]["security_warnings"].as_array().map(Vec::len), Some(1));
    new.close().await;
}

#[tokio::test]
async fn unknown_tools_and_resources_are_protocol_errors() {
    for (index, era) in eras().into_iter().enumerate() {
        let session = Session::open(era).await;
        let Err(ServiceError::McpError(error)) = session.client.call_tool(CallToolRequestParams::new("nope")).await else {
            panic!("an unknown tool is refused")
        };
        assert_eq!(error.code.0, -32602);
        for uri in ["anchorhold://jobs/x/diff", "file:///etc/passwd", "anchorhold://jobs/0123456789abcdef0123456789abcdef/nothing"] {
            let Err(ServiceError::McpError(error)) = session.client.read_resource(ReadResourceRequestParams::new(uri)).await else {
                panic!("an unknown resource is refused")
            };
            assert_eq!(error.code.0, [-32002, -32602][index], "{uri}");
            assert_eq!(error.data.unwrap()["error"]["code"], "resource_not_found");
        }
        let templates = session.client.list_resource_templates(None).await.unwrap().resource_templates;
        let addresses: Vec<_> = templates.iter().map(|template| template.uri_template.as_str()).collect();
        assert_eq!(addresses, ["status", "diff", "events", "report"].map(|part| format!("anchorhold://jobs/{{id}}/{part}")));
        let listed = session.client.list_resources(None).await.unwrap().resources;
        assert!(listed.len() == 6 && listed.iter().all(|resource| resource.uri.starts_with("codex://")), "{listed:?}");
        session.close().await;
    }
}

#[test]
fn every_code_of_the_contract_has_the_contracts_repair() {
    let called = Some(ToolName::Delegate);
    for (code, next_step, tool) in [
        (Code::CodexAuthRequired, "authenticate", Some(ToolName::Status)),
        (Code::UnsupportedIsolation, "use_allowed_value", called),
        (Code::InvalidWorkspaceRoot, "correct_arguments", called),
        (Code::InvalidArguments, "correct_arguments", called),
        (Code::WorkspaceOutsideRoots, "use_workspace_in_roots", called),
        (Code::InputTooLarge, "reduce_input", called),
        (Code::NotAGitRepo, "init_git_repo", None),
        (Code::GitUnavailable, "install_git", None),
        (Code::WorktreeError, "inspect_and_retry", called),
        (Code::NonzeroExit, "inspect_and_retry", called),
        (Code::Internal, "retry_then_report", called),
        (Code::InvalidReasoningEffort, "correct_arguments", called),
        (Code::CodexRateLimited, "retry_after_delay", called),
        (Code::JobNotFound, "list_jobs", Some(ToolName::JobList)),
        (Code::JobRunning, "poll_job_status", Some(ToolName::JobStatus)),
        (Code::JobCancelled, "start_new_job", Some(ToolName::DelegateAsync)),
        (Code::JobFailed, "inspect_and_retry", called),
        (Code::IdempotencyConflict, "use_new_idempotency_key", called),
        (Code::IdempotencyResultUnavailable, "use_new_idempotency_key", called),
        (Code::IdempotencyInProgress, "retry_after_delay", called),
        (Code::InvalidScope, "correct_arguments", called),
        (Code::InvalidJson, "retry_then_report", called),
        (Code::SchemaViolation, "retry_then_report", called),
        (Code::Timeout, "inspect_and_retry", Some(ToolName::DelegateAsync)),
        (Code::ResourceNotFound, "list_resources", None),
    ] {
        let found = repair(code, called);
        assert_eq!((found.next_step, found.tool), (next_step, tool), "{code}");
    }
}
