//! Output schemas: what a caller may rely on, and no more. Each is `anyOf [success, error]`; fields beyond these may be there.

use serde_json::{Map, Value, json};

use super::tools::{STATUS_WORDS, ToolName};
use crate::protocol::request::JobKind;
use crate::review::{Severity, Verdict};

/// The output schema of a tool.
pub fn output(tool: ToolName) -> Map<String, Value> {
    let success = match tool {
        ToolName::Status => success(
            json!({
                "codex_found": {"type": "boolean"}, "codex_version": TEXT_OR_NULL, "codex_authenticated": {"type": ["boolean", "null"]},
                "ready": {"type": "boolean"}, "readiness_detail": {"type": "string"}, "checks": {"type": "array"},
                "raw_defaults": {"type": "object"}, "resolved_defaults": {"type": "object"}, "rate_limit": {"type": "object"}, "caveat": {"type": "string"}
            }),
            &["codex_found", "ready", "readiness_detail", "raw_defaults", "resolved_defaults", "caveat"],
        ),
        ToolName::Capabilities => success(
            json!({
                "name": {"type": "string"}, "version": {"type": "string"}, "active_tools": {"type": "array"}, "free_tools": {"type": "array"},
                "tool_details": {"type": "array"}, "schemas": {"type": "object"}
            }),
            &["name", "version", "active_tools", "free_tools"],
        ),
        ToolName::Models => success(
            json!({
                "source": {"type": "string"}, "advisory": {"type": "string"}, "default_model": TEXT_OR_NULL,
                "models": {"type": "array", "items": {"type": "object", "properties": {"slug": {"type": "string"}}, "required": ["slug"]}}
            }),
            &["source", "advisory", "models"],
        ),
        ToolName::Transfer => success(
            json!({"thread_id": {"type": "string"}, "resume_command": {"type": "string"}, "source_path": {"type": "string"}}),
            &["thread_id", "resume_command", "source_path", "meta"],
        ),
        ToolName::DelegateDryRun => success(preview(json!({"worktree_plan": {"type": "object"}})), &PREVIEWED),
        ToolName::DryRun => success(preview(json!({"context_summary": {"type": "object"}, "coverage": {"type": "object"}})), &PREVIEWED),
        ToolName::Delegate => success(with(patch()), &["tool", "job_id", "summary", "diff", "no_changes", "meta"]),
        ToolName::Consult => success(with(json!({})), &["tool", "job_id", "summary", "meta"]),
        ToolName::Review => success(with(review()), &["tool", "summary", "verdict", "review_status", "coverage", "findings", "meta"]),
        // Of any kind: what only one kind has is not promised.
        ToolName::JobResult | ToolName::JobConsumeResult => success(
            with(
                json!({"diff": TEXT_OR_NULL, "no_changes": {"type": "boolean"}, "verdict": {"type": "string"}, "review_status": {"type": "string"}}),
            ),
            &["tool", "job_id", "summary", "meta"],
        ),
        ToolName::DelegateAsync | ToolName::ConsultAsync | ToolName::ReviewAsync => success(
            json!({
                "job_id": if tool == ToolName::ReviewAsync { json!(TEXT_OR_NULL) } else { json!({"type": "string"}) }, "kind": {"type": "string"}, "status": {"enum": STATUS_WORDS}, "state": {"type": "string"},
                "started_at": {"type": "string"}, "deadline_seconds": {"type": "integer"}, "poll_after_ms": {"type": "integer"},
                "ttl_seconds": {"type": "integer"}, "expires_at": TEXT_OR_NULL, "follow_up": {"type": "object"}, "meta": {"type": "object"}
            }),
            &["job_id", "status", "poll_after_ms", "follow_up", "meta"],
        ),
        ToolName::JobCancel => success(
            json!({"job_id": {"type": "string"}, "status": {"enum": STATUS_WORDS}, "state": {"type": "string"}, "result_available": {"type": "boolean"}}),
            &["job_id", "status", "poll_after_ms", "result_available"],
        ),
        ToolName::JobStatus => success(
            json!({
                "job_id": {"type": "string"}, "kind": {"type": "string"}, "status": {"enum": STATUS_WORDS}, "state": {"type": "string"},
                "reason": TEXT_OR_NULL, "detail": {"type": "string"}, "elapsed_ms": {"type": "integer"}, "poll_after_ms": {"type": "integer"},
                "expires_at": TEXT_OR_NULL, "result_available": {"type": "boolean"}, "result_ok": {"type": ["boolean", "null"]},
                "queue_position": {"type": ["integer", "null"]}, "untrusted_activity": TEXT_OR_NULL
            }),
            &["job_id", "status", "poll_after_ms", "result_available"],
        ),
        ToolName::JobList => success(
            json!({
                "jobs": {"type": "array", "items": {
                    "type": "object",
                    "properties": {"job_id": {"type": "string"}, "status": {"enum": STATUS_WORDS}, "workspace": {"type": "string"}},
                    "required": ["job_id", "status"]
                }},
                "truncated": {"type": "boolean"}, "truncation_hint": TEXT_OR_NULL
            }),
            &["jobs", "truncated"],
        ),
    };
    // Its fields are in `codex://error-envelope`: here they would stand once a tool.
    let error = json!({"properties": {"ok": {"const": false}}, "required": ["ok", "error", "meta"]});
    let mut schema = Map::new();
    schema.insert("type".into(), json!("object"));
    schema.insert("anyOf".into(), json!([success, error]));
    schema
}

/// What a preview promises.
const PREVIEWED: [&str; 7] = ["tool", "cwd", "isolation", "prompt_bytes", "max_input_bytes", "would_call_model", "manifest"];

/// What both previews have, and more.
fn preview(more: Value) -> Value {
    let mut all = json!({
        "tool": {"type": "string"}, "cwd": {"type": "string"}, "isolation": {"type": "string"}, "prompt_bytes": {"type": "integer"},
        "max_input_bytes": {"type": "integer"}, "would_call_model": {"type": "boolean"}, "manifest": {"type": "object"},
        "security_warnings": {"type": "array"}, "truncated": {"type": "boolean"}, "deadline_advisory": TEXT_OR_NULL
    });
    if let (Some(all), Value::Object(more)) = (all.as_object_mut(), more) {
        all.extend(more);
    }
    all
}

/// The fields of a success that a tool's schema names.
pub fn fields(tool: ToolName) -> Vec<String> {
    let schema = output(tool);
    schema.get("anyOf").and_then(|forms| forms[0]["properties"].as_object()).map(|fields| fields.keys().cloned().collect()).unwrap_or_default()
}

/// What every result has, and more.
fn with(more: Value) -> Value {
    let mut all = json!({
        "tool": {"type": "string"}, "job_id": TEXT_OR_NULL, "summary": {"type": "string"}, "findings": {"type": "array"},
        "raw_response": {"type": "object"}, "meta": {"type": "object"}
    });
    if let (Some(all), Value::Object(more)) = (all.as_object_mut(), more) {
        all.extend(more);
    }
    all
}

fn patch() -> Value {
    json!({
        "diff": TEXT_OR_NULL, "diff_inline": {"type": "boolean"}, "diff_bytes": {"type": "integer"}, "diff_resource": TEXT_OR_NULL,
        "no_changes": {"type": "boolean"}, "files": {"type": "array"}, "risk": {"type": "object"},
        "applies": {"type": ["object", "null"]}, "ignored": {"type": "array"}, "ignored_count": {"type": "integer"}
    })
}

fn review() -> Value {
    json!({
        "verdict": {"enum": Verdict::ALL.map(Verdict::as_str)}, "confidence": {"enum": ["low", "medium", "high", null]},
        "review_status": {"enum": ["completed", "partial", "not_run"]},
        "coverage": {"type": "object"}, "partial": {"type": "boolean"}, "instruction_files": {"type": "array"},
        "findings": {"type": "array", "items": {
            "type": "object",
            "properties": {
                "severity": {"enum": Severity::ALL.map(Severity::as_str)}, "title": {"type": "string"}, "file": TEXT_OR_NULL,
                "line": {"type": ["integer", "null"]}, "line_end": {"type": ["integer", "null"]}
            },
            "required": ["severity", "title", "file", "line", "line_end"]
        }}
    })
}

/// What a job in the background gives a client that takes tasks: its handle, or the job's result.
pub fn handle_or_result(kind: JobKind) -> Map<String, Value> {
    let mut schema = output(ToolName::in_background(kind));
    let more = output(ToolName::of(kind));
    if let (Some(Value::Array(forms)), Some(Value::Array(results))) = (schema.get_mut("anyOf"), more.get("anyOf")) {
        // The first is a success, the second an error, which both share.
        forms.extend(results.first().cloned());
    }
    schema
}

/// `{"type": ["string", "null"]}`, which most schemas need several times. A reference to a definition would take more bytes.
const TEXT_OR_NULL: Nullable = Nullable { kind: ["string", "null"] };

#[derive(Clone, Copy, serde::Serialize)]
struct Nullable {
    #[serde(rename = "type")]
    kind: [&'static str; 2],
}

fn success(properties: Value, required: &[&str]) -> Value {
    let mut all = Map::new();
    all.insert("ok".into(), json!({"const": true}));
    if let Value::Object(properties) = properties {
        all.extend(properties);
    }
    let required: Vec<&str> = std::iter::once("ok").chain(required.iter().copied()).collect();
    json!({"properties": all, "required": required})
}
