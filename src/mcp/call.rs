//! What every answer carries: the meta block, and the two shapes of an answer.

use rmcp::model::{CallToolResult, ContentBlock};
use serde_json::{Map, Value, json};

use super::envelope;
use super::tools::ToolName;
use super::workspace::Place;
use crate::error::Error;
use crate::job::JobStatus;
use crate::protocol::request::JobKind;

/// Names the shapes of this version's results, as clients of the contract expect.
pub const FINGERPRINT: &str = "anchorhold/0.1/schema-2";
/// Of this server.
pub const SERVER_VERSION: &str = env!("CARGO_PKG_VERSION");

/// Present in every meta block, also where they are null.
pub const ALWAYS: [&str; 6] = ["cwd", "tier", "sandbox", "isolation", "timeout_seconds", "elapsed_ms"];

/// What a key of the meta block holds, where it is not null.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// A text.
    Text,
    /// A whole number.
    Integer,
    /// True or false.
    Flag,
    /// A list of texts.
    List,
    /// An object.
    Object,
}

/// Every key that a meta block may have, in the order in which it shows them; `codex://result-meta` is made from it.
pub const KEYS: [(&str, Form); 36] = [
    ("cwd", Form::Text),
    ("workspace_source", Form::Text),
    ("workspace_warning", Form::Text),
    ("roots_source", Form::Text),
    ("tier", Form::Text),
    ("sandbox", Form::Text),
    ("isolation", Form::Text),
    ("model", Form::Text),
    ("reasoning_effort", Form::Text),
    ("developer_instructions", Form::Object),
    ("codex_version", Form::Text),
    ("scope", Form::Text),
    ("base", Form::Text),
    ("commit", Form::Text),
    ("paths", Form::List),
    ("timeout_seconds", Form::Integer),
    ("elapsed_ms", Form::Integer),
    ("command_exit_code", Form::Integer),
    ("session_id", Form::Text),
    ("truncated", Form::Flag),
    ("truncation_hint", Form::Text),
    ("compat_warnings", Form::List),
    ("security_warnings", Form::List),
    ("redacted_paths", Form::List),
    ("untrusted_fields", Form::List),
    ("untrusted_boundary", Form::Text),
    ("usage", Form::Object),
    ("rate_limit", Form::Object),
    ("context_summary", Form::Object),
    ("job_id", Form::Text),
    ("job_kind", Form::Text),
    ("continues", Form::Text),
    ("idempotency_replayed", Form::Flag),
    ("request_id", Form::Text),
    ("fingerprint", Form::Text),
    ("server_version", Form::Text),
];

/// The meta block of one answer.
#[derive(Debug, Clone)]
pub struct Meta(Map<String, Value>);

impl Meta {
    /// With what is known of any call.
    pub fn new(request_id: &str) -> Self {
        let mut meta = Self(KEYS.iter().map(|(key, _)| ((*key).to_owned(), Value::Null)).collect());
        meta.set("tier", "propose");
        meta.set("sandbox", "container");
        meta.set("elapsed_ms", 0);
        for list in ["compat_warnings", "security_warnings", "redacted_paths"] {
            meta.set(list, json!([]));
        }
        meta.set("request_id", request_id);
        meta.set("fingerprint", FINGERPRINT);
        meta.set("server_version", SERVER_VERSION);
        meta
    }

    /// Sets one of the keys.
    pub fn set(&mut self, key: &'static str, value: impl Into<Value>) {
        debug_assert!(KEYS.iter().any(|(known, _)| *known == key), "{key} is not a key of the meta block");
        self.0.insert(key.to_owned(), value.into());
    }

    /// Adds a sentence to one of the lists of warnings.
    pub fn warn(&mut self, key: &'static str, sentence: &str) {
        if let Some(Value::Array(list)) = self.0.get_mut(key) {
            list.push(json!(sentence));
        }
    }

    /// Where the call was about.
    pub fn place(&mut self, place: &Place) {
        self.set("cwd", shown(&place.path));
        self.set("workspace_source", place.source);
        self.set("workspace_warning", place.warning.clone());
        self.set("roots_source", place.roots_source);
        if matches!(place.source, "param" | "job") && place.roots_source == "probe_failed" {
            self.warn("security_warnings", "the client's roots could not be asked for, so workspace_root was not compared with them");
        }
    }

    /// What the work may come to: the contract's word.
    pub fn of_kind(&mut self, kind: JobKind) {
        self.set("tier", if kind.makes_patch() { "propose" } else { "consult" });
        self.set("job_kind", kind.as_str());
    }

    /// What a job's status tells.
    pub fn job(&mut self, status: &JobStatus) {
        self.of_kind(status.kind);
        self.set("cwd", shown(&status.workspace));
        self.set("model", status.model.clone());
        self.set("timeout_seconds", status.deadline_seconds);
        self.set("elapsed_ms", status.elapsed_ms);
        self.set("job_id", status.job_id.as_str());
        // Said once, though an awaited call tells its job's status twice.
        let said = self.0.get("compat_warnings").and_then(Value::as_array).cloned().unwrap_or_default();
        for sentence in status.settings_warnings().into_iter().map(|sentence| crate::display::clip(sentence.as_bytes(), 300)) {
            if !said.contains(&json!(sentence)) {
                self.warn("compat_warnings", &sentence);
            }
        }
        if let Some(before) = &status.continues {
            self.set("continues", before.as_str());
        }
    }

    /// For a delivered result: without nulls, but for the six that are always there.
    pub fn delivered(self) -> Map<String, Value> {
        self.0.into_iter().filter(|(key, value)| !value.is_null() || ALWAYS.contains(&key.as_str())).collect()
    }

    /// For a handle: with nulls.
    pub fn whole(self) -> Map<String, Value> {
        self.0
    }
}

/// A path as text, with what deceives the eye made visible.
pub fn shown(path: &std::path::Path) -> String {
    crate::display::line(path.as_os_str().as_encoded_bytes())
}

/// A success.
pub struct Reply {
    /// The structured content.
    pub value: Value,
    /// What follows the text block: links and embedded resources.
    pub blocks: Vec<ContentBlock>,
}

impl From<Value> for Reply {
    fn from(value: Value) -> Self {
        Self { value, blocks: Vec::new() }
    }
}

/// A failure, with the work that a job left behind.
pub struct Failure {
    /// What went wrong.
    pub error: Error,
    /// The fields of a success.
    pub partial: Option<Value>,
    /// Where more is known than of any call.
    pub meta: Option<Meta>,
    /// What follows the text block.
    pub blocks: Vec<ContentBlock>,
}

impl Failure {
    /// An error with a meta block.
    pub fn with_meta(error: Error, meta: Meta) -> Box<Self> {
        Box::new(Self { error, partial: None, meta: Some(meta), blocks: Vec::new() })
    }
}

impl From<Error> for Box<Failure> {
    fn from(error: Error) -> Self {
        Self::new(Failure { error, partial: None, meta: None, blocks: Vec::new() })
    }
}

/// What a tool's handler gives back.
pub type Answer = std::result::Result<Reply, Box<Failure>>;

/// The last gate: whatever a field holds, no text of an answer steers a terminal or hides from a reader. `diff` may be an exact patch, and is held
/// to that by who makes it.
fn seen(value: Value) -> Value {
    match value {
        Value::String(text) if text.chars().any(crate::display::is_deceptive) => Value::String(crate::display::text(text.as_bytes())),
        Value::Array(items) => Value::Array(items.into_iter().map(seen).collect()),
        Value::Object(map) => {
            Value::Object(map.into_iter().map(|(key, value)| if key == "diff" { (key, value) } else { (key, seen(value)) }).collect())
        }
        other => other,
    }
}

/// The result on the wire. The text block repeats the structured content as JSON: clients of the contract read either, and a patch
/// is inline only up to 200,000 bytes, so that twice stays bearable.
pub fn to_result(answer: Answer, tool: ToolName, request_id: &str) -> CallToolResult {
    let (mut result, blocks) = match answer {
        Ok(reply) => (CallToolResult::structured(seen(reply.value)), reply.blocks),
        Err(failure) => {
            let meta = failure.meta.unwrap_or_else(|| Meta::new(request_id)).delivered();
            (CallToolResult::structured_error(seen(envelope::failure(&failure.error, Some(tool), failure.partial, meta))), failure.blocks)
        }
    };
    result.content.extend(blocks);
    result
}
