//! `codex_capabilities`: what this server is, what its tools cost and how they fail, and whole schemas for clients that read no resources.

use serde_json::{Map, Value, json};

use super::call::{Answer, FINGERPRINT, Reply, SERVER_VERSION};
use super::contracts::Contract;
use super::render;
use super::schema;
use super::server::Call;
use super::tools::ToolName;
use crate::error::Code;
use crate::job::Isolation;

/// Names of the schemas that can be asked for.
pub const SCHEMAS: [&str; 5] = ["error-envelope", "result-meta", "capabilities-result", "status-result", "parameter-contracts"];
/// How much is said.
pub const DETAILS: [&str; 3] = ["summary", "full", "contracts"];

const ARGUMENTS: &[Code] = &[Code::InvalidArguments, Code::Internal];
const PLACE: &[Code] = &[Code::InvalidWorkspaceRoot, Code::WorkspaceOutsideRoots];
const REPOSITORY: &[Code] =
    &[Code::NotAGitRepo, Code::GitUnavailable, Code::WorktreeError, Code::UnsafeRepository, Code::WorkspaceTooLarge, Code::InputTooLarge];
const RUN_AS: &[Code] = &[Code::InvalidModel, Code::InvalidReasoningEffort, Code::InvalidConfig];
const CHANGE: &[Code] = &[Code::InvalidScope, Code::InvalidBase, Code::InvalidCommit, Code::InvalidPaths];
const ENGINE: &[Code] = &[Code::EngineUnavailable, Code::EngineError, Code::SetupFailed];
const START: &[Code] = &[
    Code::ImageMissing,
    Code::ImageMismatch,
    Code::IsolationMismatch,
    Code::GatewayUnavailable,
    Code::CodexAuthRequired,
    Code::IdempotencyConflict,
    Code::IdempotencyResultUnavailable,
    Code::IdempotencyInProgress,
];
const END: &[Code] = &[
    Code::JobRunning,
    Code::Timeout,
    Code::TokenBudget,
    Code::GatewayLimit,
    Code::OutOfMemory,
    Code::OutOfDisk,
    Code::CodexAuthRequired,
    Code::CodexRateLimited,
    Code::ProviderUnreachable,
    Code::NonzeroExit,
    Code::JobCancelled,
    Code::JobFailed,
    Code::JobLost,
    Code::InvalidJson,
    Code::SchemaViolation,
];
const JOB: &[Code] = &[Code::JobNotFound];

/// Which errors a tool may give, each once.
pub fn error_codes(tool: ToolName) -> Vec<Code> {
    let groups: Vec<&[Code]> = match tool {
        ToolName::Status | ToolName::Capabilities | ToolName::Models => vec![ARGUMENTS],
        ToolName::Transfer => vec![ARGUMENTS, PLACE, &[Code::TransferUnsupported]],
        ToolName::DelegateDryRun => vec![ARGUMENTS, PLACE, REPOSITORY, RUN_AS],
        ToolName::DryRun => vec![ARGUMENTS, PLACE, REPOSITORY, CHANGE, RUN_AS],
        ToolName::Delegate | ToolName::Consult => vec![ARGUMENTS, PLACE, REPOSITORY, RUN_AS, ENGINE, START, END],
        ToolName::Review => vec![ARGUMENTS, PLACE, REPOSITORY, CHANGE, RUN_AS, ENGINE, START, END],
        ToolName::DelegateAsync | ToolName::ConsultAsync => vec![ARGUMENTS, PLACE, REPOSITORY, RUN_AS, ENGINE, START],
        ToolName::ReviewAsync => vec![ARGUMENTS, PLACE, REPOSITORY, CHANGE, RUN_AS, ENGINE, START],
        ToolName::JobStatus | ToolName::JobCancel => vec![ARGUMENTS, PLACE, JOB, ENGINE],
        ToolName::JobResult => vec![ARGUMENTS, PLACE, JOB, ENGINE, END],
        ToolName::JobConsumeResult => vec![ARGUMENTS, PLACE, JOB, ENGINE, END, &[Code::Unsupported]],
        ToolName::JobList => vec![ARGUMENTS, PLACE, ENGINE],
    };
    let mut codes: Vec<Code> = Vec::new();
    for code in groups.into_iter().flatten() {
        if !codes.contains(code) {
            codes.push(*code);
        }
    }
    // A delegation has no answer that could be of another form.
    codes.retain(|code| tool != ToolName::Delegate && tool != ToolName::Consult || !matches!(code, Code::InvalidJson | Code::SchemaViolation));
    codes
}

/// Says it. Nothing is asked or read.
pub fn capabilities(call: &Call<'_>) -> Answer {
    let detail = call.arguments.text("detail").unwrap_or("summary");
    let names =
        |wanted: bool| -> Vec<&str> { ToolName::ALL.into_iter().filter(|tool| tool.starts().is_some() == wanted).map(ToolName::as_str).collect() };
    let over_http = call.own_directory.is_none();
    let revision = call.context.protocol_version().map(|version| version.as_str().to_owned());
    let mut value = Map::new();
    value.insert("ok".into(), json!(true));
    value.insert("name".into(), json!("anchorhold"));
    value.insert("version".into(), json!(SERVER_VERSION));
    value.insert("transport".into(), json!(if over_http { "http" } else { "stdio" }));
    value.insert("protocol_revision".into(), json!(revision));
    value.insert("stability".into(), json!("beta"));
    value.insert("fingerprint".into(), json!(FINGERPRINT));
    value.insert(
        "fingerprint_covers".into(),
        json!(["tool_names", "tool_input_schemas", "tool_output_schemas", "error_codes", "error_envelope_schema", "result_meta_schema"]),
    );
    value.insert("active_tools".into(), json!(names(true)));
    value.insert("free_tools".into(), json!(names(false)));
    if detail != "contracts" {
        value.insert("tool_details".into(), ToolName::ALL.into_iter().map(|tool| row(tool, detail == "full")).collect());
    }
    value.insert("tiers".into(), json!(["consult", "propose"]));
    value.insert("sandboxes".into(), json!(["container"]));
    value.insert("isolations".into(), json!(Isolation::VALUES));
    value.insert("scope".into(), json!(SCOPE));
    value.insert("negative_scope".into(), json!(NEGATIVE_SCOPE));
    value.insert(
        "prerequisites".into(),
        json!(["a container engine", "the runtime image: `anchorhold image build`", "an API key of the model provider", "git"]),
    );
    value.insert("deprecation_policy".into(), json!("No tool is deprecated. Fields are added, not changed; CHANGELOG.md tells of both."));
    value.insert(
        "tool_error_carrier".into(),
        json!("a tool result with isError: true; the envelope is in structuredContent, and content[0].text repeats it as JSON"),
    );
    value.insert(
        "resource_error_carrier".into(),
        json!(
            "a JSON-RPC error whose data has the fields of the error (code, message, repair, …) and the whole envelope; classify by error.data.code"
        ),
    );
    value.insert("annotations_reading".into(), json!("readOnlyHint: the call makes no job and spends nothing. destructiveHint: the work is to change files, in a copy; the user's own files never change."));
    for (field, contract) in [("error_envelope_resource", Contract::ErrorEnvelope), ("result_meta_resource", Contract::ResultMeta)] {
        value.insert(field.into(), json!(contract.uri()));
    }
    let wanted = call.arguments.texts("include_schemas");
    if !wanted.is_empty() {
        let settings = &call.jobs.settings().model;
        let given = Contract::ALL.into_iter().filter_map(|contract| Some((contract.word()?, contract)));
        let given = given.filter(|(word, _)| wanted.iter().any(|asked| asked == word));
        value.insert("schemas".into(), Value::Object(given.map(|(word, contract)| (word.to_owned(), contract.content(settings))).collect()));
    }
    Ok(Reply::from(render::signed(value)))
}

const SCOPE: [&str; 3] = [
    "Make a change and return it as a patch that was never applied.",
    "Review a change of git and return structured findings.",
    "Answer a question about a repository.",
];

const NEGATIVE_SCOPE: [&str; 4] = [
    "Does not change the user's files, and has no tool that applies a patch.",
    "Gives a job no network, no credential and no file of the host: only a copy of what codex_delegate_dry_run and codex_dry_run list.",
    "Does not keep that copy from the model provider: what Codex reads of it, and your words, are sent there.",
    "Reads no transcript and no session of the user's: codex_transfer is always refused.",
];

fn row(tool: ToolName, full: bool) -> Value {
    let mut row = Map::new();
    row.insert("name".into(), json!(tool.as_str()));
    row.insert("cost".into(), json!(if tool.starts().is_some() { "active" } else { "free" }));
    row.insert("stability".into(), Value::Null);
    if full {
        let named = |required: bool| -> Vec<&str> {
            tool.parameters().iter().filter(|parameter| parameter.required == required).map(|parameter| parameter.name).collect()
        };
        row.insert("use_when".into(), json!(tool.description()));
        row.insert("required_params".into(), json!(named(true)));
        row.insert("key_optional_params".into(), json!(named(false)));
        row.insert("returns".into(), json!(schema::fields(tool)));
    }
    row.insert("error_codes".into(), error_codes(tool).into_iter().map(|code| json!(code.as_str())).collect());
    if let Some((_, false)) = tool.starts() {
        row.insert("async_lifecycle".into(), lifecycle());
    }
    row.insert("deprecation".into(), Value::Null);
    Value::Object(row)
}

/// Which tools and fields a client polls with.
fn lifecycle() -> Value {
    json!({
        "native_task_support": true,
        "progress_support": "resources",
        "lifecycle": "codex_job_*",
        "poll_tool": ToolName::JobStatus.as_str(),
        "result_tool": ToolName::JobResult.as_str(),
        "consume_tool": ToolName::JobConsumeResult.as_str(),
        "cancel_tool": ToolName::JobCancel.as_str(),
        "list_tool": ToolName::JobList.as_str(),
        "status_field": "status",
        "result_ready_field": "result_available",
        "result_ok_field": "result_ok",
        "poll_after_field": "poll_after_ms",
        "activity_support": "codex_events",
        "event_count_field": "events_seen",
        "last_event_field": "last_event_at",
        "event_age_field": "event_age_ms",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_comes_from_a_tool_or_from_elsewhere() {
        // The command line's own, a resource's, and a word that a check of the arguments says first.
        let elsewhere = [
            Code::UnsupportedIsolation,
            Code::ReviewFindings,
            Code::ReviewPartial,
            Code::ApplyConflict,
            Code::ResourceNotFound,
            Code::LedgerBroken,
            Code::WaitTimeout,
            Code::Interrupted,
        ];
        for code in Code::ALL {
            let told = ToolName::ALL.into_iter().any(|tool| error_codes(tool).contains(code));
            assert_eq!(told, !elsewhere.contains(code), "{code}");
        }
    }

    #[test]
    fn the_schemas_that_can_be_asked_for_are_those_that_there_are() {
        let words: Vec<_> = Contract::ALL.into_iter().filter_map(Contract::word).collect();
        assert_eq!(words, SCHEMAS);
    }
}
