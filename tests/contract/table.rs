//! The contract as its own server says it: tools, hints, parameters, fields.

/// One tool.
pub struct Tool {
    pub name: &'static str,
    /// Read-only, destructive, idempotent, open-world.
    pub hints: [Option<bool>; 4],
    /// With the required ones marked by a star.
    pub parameters: &'static [&'static str],
    /// Of a success.
    pub fields: &'static [&'static str],
}

const READS: [Option<bool>; 4] = [Some(true), None, None, Some(false)];
const CHANGES: [Option<bool>; 4] = [Some(false), Some(true), Some(false), Some(true)];
const RUNS: [Option<bool>; 4] = [Some(false), Some(false), Some(false), Some(true)];
const KEEPS: [Option<bool>; 4] = [Some(false), Some(false), Some(false), Some(false)];

const HANDLE: &[&str] = &[
    "ok", "job_id", "kind", "status", "started_at", "deadline_seconds", "poll_after_ms", "ttl_seconds", "expires_at", "meta", "follow_up", "fingerprint",
    "server_version",
];
const STATUS: &[&str] = &[
    "ok", "job_id", "kind", "status", "started_at", "elapsed_ms", "deadline_seconds", "poll_after_ms", "ttl_seconds", "expires_at", "result_available",
    "result_ok", "detail", "cleanup_warnings", "events_seen", "last_event_at", "event_age_ms", "workspace", "fingerprint", "server_version",
];
const RESULT: &[&str] = &["ok", "tool", "summary", "findings", "questions", "assumptions", "next_steps", "raw_response", "meta"];

/// All seventeen.
pub const TOOLS: [Tool; 17] = [
    Tool {
        name: "codex_status",
        hints: READS,
        parameters: &[],
        fields: &[
            "ok", "codex_found", "codex_version", "codex_authenticated", "auth_detail", "version_supported", "version_warning", "flags_warning", "ready",
            "readiness_detail", "extra_args_configured", "extra_args_count", "extra_args_valid", "raw_defaults", "resolved_defaults", "rate_limit", "caveat",
            "fingerprint", "server_version",
        ],
    },
    Tool { name: "codex_transfer", hints: KEEPS, parameters: &["transcript_path*", "workspace_root"], fields: &[] },
    Tool {
        name: "codex_capabilities",
        hints: READS,
        parameters: &["include_schemas", "detail"],
        fields: &[
            "ok", "name", "version", "fingerprint", "server_version", "fingerprint_covers", "transport", "stability", "active_tools", "free_tools",
            "tool_details", "tiers", "sandboxes", "scope", "negative_scope", "prerequisites", "deprecation_policy", "tool_error_carrier", "protocol_revision",
            "annotations_reading", "resource_error_carrier", "error_envelope_resource", "result_meta_resource",
        ],
    },
    Tool {
        name: "codex_models",
        hints: READS,
        parameters: &[],
        fields: &["ok", "source", "models", "fetched_at", "cache_client_version", "advisory", "unavailable_reason", "fingerprint", "server_version"],
    },
    Tool {
        name: "codex_consult",
        hints: RUNS,
        parameters: &[
            "question*", "workspace_root", "extra_context", "model", "reasoning_effort", "developer_instructions", "isolation", "timeout_seconds", "detail",
            "idempotency_key",
        ],
        fields: RESULT,
    },
    Tool {
        name: "codex_review_changes",
        hints: RUNS,
        parameters: &[
            "scope", "base", "commit", "paths", "untracked", "workspace_root", "extra_context", "model", "reasoning_effort", "developer_instructions",
            "isolation", "timeout_seconds", "detail", "idempotency_key",
        ],
        fields: &[
            "ok", "tool", "summary", "findings", "questions", "assumptions", "next_steps", "raw_response", "meta", "verdict", "confidence", "review_status",
            "coverage",
        ],
    },
    Tool {
        name: "codex_delegate",
        hints: CHANGES,
        parameters: &["task*", "workspace_root", "model", "reasoning_effort", "isolation", "timeout_seconds", "detail", "idempotency_key"],
        fields: &["ok", "tool", "summary", "findings", "questions", "assumptions", "next_steps", "raw_response", "meta", "diff"],
    },
    Tool {
        name: "codex_delegate_async",
        hints: CHANGES,
        parameters: &["task*", "workspace_root", "model", "reasoning_effort", "isolation", "idempotency_key"],
        fields: HANDLE,
    },
    Tool {
        name: "codex_consult_async",
        hints: RUNS,
        parameters: &[
            "question*", "workspace_root", "extra_context", "model", "reasoning_effort", "developer_instructions", "isolation", "idempotency_key",
        ],
        fields: HANDLE,
    },
    Tool {
        name: "codex_review_changes_async",
        hints: RUNS,
        parameters: &[
            "scope", "base", "commit", "paths", "untracked", "workspace_root", "extra_context", "model", "reasoning_effort", "developer_instructions",
            "isolation", "idempotency_key",
        ],
        fields: HANDLE,
    },
    Tool {
        name: "codex_dry_run",
        hints: READS,
        parameters: &["scope", "base", "commit", "paths", "untracked", "workspace_root", "extra_context", "model", "reasoning_effort", "isolation"],
        fields: &[
            "ok", "tool", "cwd", "workspace_source", "workspace_warning", "roots_source", "tier", "sandbox", "isolation", "model", "reasoning_effort", "scope",
            "base", "commit", "paths", "context_summary", "would_call_model", "prompt_bytes", "coverage", "max_input_bytes", "truncated", "truncation_hint",
            "redacted_paths_count", "redacted_paths", "security_warnings", "deadline_advisory", "fingerprint", "server_version",
        ],
    },
    Tool {
        name: "codex_delegate_dry_run",
        hints: READS,
        parameters: &["task*", "workspace_root", "model", "reasoning_effort", "isolation"],
        fields: &[
            "ok", "tool", "cwd", "workspace_source", "workspace_warning", "roots_source", "tier", "sandbox", "isolation", "model", "reasoning_effort",
            "prompt_bytes", "max_input_bytes", "worktree_plan", "deadline_advisory", "fingerprint", "server_version",
        ],
    },
    Tool { name: "codex_job_status", hints: READS, parameters: &["job_id*", "workspace_root"], fields: STATUS },
    Tool { name: "codex_job_result", hints: READS, parameters: &["job_id*", "workspace_root", "detail"], fields: RESULT },
    Tool { name: "codex_job_consume_result", hints: KEEPS, parameters: &["job_id*", "workspace_root", "detail"], fields: RESULT },
    Tool {
        name: "codex_job_cancel",
        hints: [Some(false), Some(false), Some(true), Some(false)],
        parameters: &["job_id*", "workspace_root"],
        fields: STATUS,
    },
    Tool {
        name: "codex_job_list",
        hints: READS,
        parameters: &["workspace_root", "limit", "status"],
        fields: &["ok", "jobs", "workspace", "truncated", "truncation_hint", "fingerprint", "server_version"],
    },
];

/// A tool by its name.
pub fn tool(name: &str) -> &'static Tool {
    TOOLS.iter().find(|tool| tool.name == name).unwrap()
}

/// Every field that the contract promises of a success is there.
#[track_caller]
pub fn complete(name: &str, content: &serde_json::Value) {
    for field in tool(name).fields {
        assert!(content.get(field).is_some(), "{name}: no {field} in {content:#}");
    }
}
