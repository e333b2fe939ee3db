//! The error envelope: `{ok: false, error, meta}`, and what a caller can do about each code.

use serde_json::{Map, Value, json};

use super::tools::ToolName;
use crate::display;
use crate::error::{Code, Error};
use crate::protocol::request::JobKind;

/// Entries of a list in the details of an error.
const MAX_DETAILS: usize = 100;

/// The machine-readable next step for a code, and the tool that takes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Repair {
    /// A word of the contract, or one of ours where the contract has none.
    pub next_step: &'static str,
    /// The tool to call.
    pub tool: Option<ToolName>,
    /// What to do, where the error itself does not say.
    pub otherwise: &'static str,
}

/// The one table from code to repair.
pub fn repair(code: Code, called: Option<ToolName>) -> Repair {
    let step = |next_step, tool, otherwise| Repair { next_step, tool, otherwise };
    match code {
        Code::InvalidArguments => step("correct_arguments", called, "correct the arguments after the tool's input schema"),
        Code::InvalidWorkspaceRoot => step("correct_arguments", called, "pass the absolute path of an existing directory as workspace_root"),
        Code::InvalidReasoningEffort => step("correct_arguments", called, "pass low, medium or high, or leave reasoning_effort out"),
        Code::InvalidModel => step("correct_arguments", called, "pass a model that the provider and the settings allow, or leave model out"),
        Code::InvalidScope => step("correct_arguments", called, "use working_tree, branch with base, or commit with commit"),
        Code::InvalidBase => step("correct_arguments", called, "pass a branch, tag or commit that this repository has as base"),
        Code::InvalidCommit => step("correct_arguments", called, "pass a commit that this repository has"),
        Code::InvalidPaths => step("correct_arguments", called, "pass paths relative to workspace_root that the change touches"),
        Code::UnsupportedIsolation => step("use_allowed_value", called, "use inherit, ignore-config or ignore-rules"),
        Code::WorkspaceOutsideRoots => step("use_workspace_in_roots", called, "use a directory inside one of the candidate roots"),
        Code::InputTooLarge => step("reduce_input", called, "shorten the task; name files instead of quoting them"),
        Code::WorkspaceTooLarge => {
            step("reduce_input", called, "delegate on a smaller repository, or raise the caps under [workspace] in the settings")
        }
        Code::NotAGitRepo => step("init_git_repo", None, "run git init and commit, or pass a directory inside a repository"),
        Code::GitUnavailable => step("install_git", None, "install git on the machine of this server"),
        Code::WorktreeError => step("inspect_and_retry", called, "make at least one commit and check the repository with git fsck"),
        Code::UnsafeRepository => step("inspect_and_retry", called, "run this server as the repository's owner"),
        Code::InvalidConfig => step("correct_config", Some(ToolName::Status), "correct the settings file or the ANCHORHOLD_ variable"),
        Code::EngineUnavailable => step("start_engine", Some(ToolName::Status), "start the container engine, or point DOCKER_HOST at one"),
        Code::EngineError => step("inspect_and_retry", Some(ToolName::Status), "see what the engine says, then retry"),
        Code::ImageMissing => step("build_image", Some(ToolName::Status), "run `anchorhold image build` on the machine of this server"),
        Code::ImageMismatch => step("build_image", Some(ToolName::Status), "run `anchorhold image build` again: the image is of another build"),
        Code::IsolationMismatch => {
            step("inspect_and_retry", Some(ToolName::Status), "run `anchorhold doctor`: the engine does not enforce what a job must have")
        }
        Code::GatewayUnavailable => step("inspect_and_retry", Some(ToolName::Status), "look at the gateway container's log, then retry"),
        Code::CodexAuthRequired => step("authenticate", Some(ToolName::Status), "set the API key for the server's process and start it again"),
        Code::CodexRateLimited => step("retry_after_delay", called, "wait for retry_after_ms, or until the quota resets"),
        Code::ProviderUnreachable => step("inspect_and_retry", called, "check the gateway's network and the provider's status"),
        Code::NonzeroExit => step("inspect_and_retry", called, "read the job's events resource for what went wrong"),
        Code::Timeout => {
            step("inspect_and_retry", Some(ToolName::DelegateAsync), "review the partial work, then split the task or use the async tool")
        }
        Code::TokenBudget => step("inspect_and_retry", called, "review the partial work, then split the task or raise limits.tokens"),
        Code::OutOfMemory => step("inspect_and_retry", called, "review the partial work, then raise limits.memory"),
        Code::GatewayLimit => step("inspect_and_retry", called, "review the partial work, then raise the ceiling that the message names"),
        Code::OutOfDisk => step("inspect_and_retry", called, "review the partial work, then raise limits.disk"),
        Code::JobNotFound => step("list_jobs", Some(ToolName::JobList), "take a job id from the list"),
        Code::JobRunning => step("poll_job_status", Some(ToolName::JobStatus), "ask again after retry_after_ms"),
        Code::WaitTimeout => step("poll_job_status", Some(ToolName::JobStatus), "wait again: the jobs go on"),
        Code::JobCancelled => step("start_new_job", Some(ToolName::DelegateAsync), "review the partial work, or start again"),
        Code::InvalidJson | Code::SchemaViolation => step("retry_then_report", called, "retry once; the findings noted on the way are in `partial`"),
        Code::JobFailed => step("inspect_and_retry", called, "review the partial work and the events resource"),
        Code::JobLost => step("start_new_job", Some(ToolName::DelegateAsync), "start again: nothing can be said about this job"),
        Code::IdempotencyInProgress => step("retry_after_delay", called, "call again after retry_after_ms: another start with this key is under way"),
        Code::IdempotencyConflict | Code::IdempotencyResultUnavailable => step("use_new_idempotency_key", called, "use a new key, or none"),
        Code::ApplyConflict => step("inspect_and_retry", None, "apply by hand, or delegate again on the present tree"),
        Code::ResourceNotFound => step("list_resources", None, "use a URI of the resource templates with the id of a job"),
        Code::LedgerBroken => step("inspect_and_retry", None, "keep a copy of the gateway's volume, and find out who could write to it"),
        Code::TransferUnsupported => step("use_alternative", None, "put what Codex must know into the task, or into extra_context"),
        Code::Unsupported => step("use_alternative", None, "see the message"),
        Code::SetupFailed => step("inspect_and_retry", Some(ToolName::Status), "run `anchorhold doctor` on the machine of this server"),
        Code::Interrupted => step("start_new_job", Some(ToolName::DelegateAsync), "review the partial work, or start again"),
        // The command line's own: over MCP a review's result says both.
        Code::ReviewFindings | Code::ReviewPartial => step("inspect_and_retry", called, "read the findings in the result"),
        Code::Internal => step("retry_then_report", called, "retry once; if it stays, report it with the meta block"),
    }
}

/// The schema of the `error` object; a test holds every envelope against it.
pub fn schema(codes: &[String], steps: &[&str], tools: &[&str]) -> Value {
    json!({
        "type": "object",
        "properties": {
            "code": {"enum": codes},
            "message": {"type": "string"},
            "temporary": {"type": "boolean"},
            "retry_after_ms": {"type": ["integer", "null"]},
            "repair": {
                "type": "object",
                "properties": {
                    "next_step": {"enum": steps}, "tool": {"enum": tools}, "arguments": {"type": "object"}, "alternative": {"type": "string"}
                },
                "required": ["next_step", "alternative"],
                "additionalProperties": false
            },
            "details": {"type": "object"},
            "invalid_arguments": {"type": "array", "items": {
                "type": "object",
                "properties": {
                    "field": {"type": ["string", "null"]}, "field_withheld": {"type": "boolean"}, "reason": {"type": "string"},
                    "allowed_values": {"type": "array"}
                },
                "required": ["field", "reason"],
                "additionalProperties": false
            }},
            "limit_bytes": {"type": "integer"},
            "actual_bytes": {"type": "integer"},
            "candidate_roots": {"type": "array", "items": {"type": "string"}}
        },
        "required": ["code", "message", "temporary", "retry_after_ms", "repair", "details", "invalid_arguments"],
        "additionalProperties": false
    })
}

/// The `error` object. Details that have a place of their own in the contract are lifted to it.
pub fn error_object(error: &Error, called: Option<ToolName>) -> Value {
    let mut repair = repair(error.code, called);
    if repair.tool == Some(ToolName::DelegateAsync) {
        // The same kind of work once more.
        let kind = error.details.get("kind").and_then(Value::as_str).and_then(JobKind::parse);
        let kind = kind.or_else(|| called.and_then(|tool| Some(tool.starts()?.0))).unwrap_or(JobKind::Delegate);
        repair.tool = Some(ToolName::in_background(kind));
    }
    let mut details = error.details.clone();
    let mut object = Map::new();
    object.insert("code".into(), json!(error.code.as_str()));
    // Messages hold no job's words; paths and an engine's answers in them are still shown with care.
    object.insert("message".into(), json!(display::clip(error.chain().as_bytes(), 2000)));
    object.insert("temporary".into(), json!(error.code.temporary()));
    let retry_after_ms = error.retry_after_ms.or(match error.code {
        Code::JobRunning => Some(1000),
        _ => None,
    });
    object.insert("retry_after_ms".into(), json!(retry_after_ms));
    let mut step = Map::new();
    step.insert("next_step".into(), json!(repair.next_step));
    if let Some(tool) = repair.tool {
        step.insert("tool".into(), json!(tool.as_str()));
        let arguments = match tool {
            ToolName::JobStatus => details.get("job_id").map(|id| json!({ "job_id": id })),
            ToolName::Status | ToolName::JobList => Some(json!({})),
            _ => None,
        };
        if let Some(arguments) = arguments {
            step.insert("arguments".into(), arguments);
        }
    }
    let alternative = error.hint.as_deref().unwrap_or(repair.otherwise);
    step.insert("alternative".into(), json!(display::bounded(alternative.as_bytes(), 1000)));
    object.insert("repair".into(), Value::Object(step));
    for key in ["invalid_arguments", "limit_bytes", "actual_bytes", "candidate_roots"] {
        if let Some(value) = details.shift_remove(key) {
            object.insert(key.into(), super::render::clean(value, MAX_DETAILS));
        }
    }
    if error.code == Code::InvalidArguments
        && let (Some(field), Some(reason)) = (details.get("field"), details.get("reason"))
    {
        object.entry("invalid_arguments").or_insert_with(|| json!([{"field": field, "reason": reason}]));
    }
    object.insert("details".into(), super::render::clean(Value::Object(details), MAX_DETAILS));
    object.entry("invalid_arguments").or_insert_with(|| json!([]));
    Value::Object(object)
}

/// The whole envelope; `partial` holds the fields of a success where a job that ended badly left work behind.
pub fn failure(error: &Error, called: Option<ToolName>, partial: Option<Value>, meta: Map<String, Value>) -> Value {
    let mut envelope = Map::new();
    envelope.insert("ok".into(), json!(false));
    envelope.insert("error".into(), error_object(error, called));
    if let Some(partial) = partial {
        envelope.insert("partial".into(), partial);
    }
    envelope.insert("meta".into(), Value::Object(meta));
    Value::Object(envelope)
}
