//! The resources `codex://…`: whole schemas for clients that want more than `tools/list` says. Each is made from the tables that answers and checks are made from.

use rmcp::model::{CacheScope, ReadResourceResult, Resource};
use serde_json::{Map, Value, json};

use super::call::{ALWAYS, Form, KEYS};
use super::tools::ToolName;
use super::{envelope, models, render, schema};
use crate::config::ModelSettings;
use crate::display;
use crate::error::Code;

/// How long a client may keep one: they change with the build.
const TTL_MS: u64 = 3_600_000;

/// One of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Contract {
    /// What `codex_models` answers.
    Models,
    /// An error.
    ErrorEnvelope,
    /// The meta block.
    ResultMeta,
    /// What `codex_capabilities` answers.
    CapabilitiesResult,
    /// What `codex_status` answers.
    StatusResult,
    /// Every parameter of every tool.
    Params,
}

impl Contract {
    /// In the order of `resources/list`.
    pub const ALL: [Self; 6] = [Self::Models, Self::ErrorEnvelope, Self::ResultMeta, Self::CapabilitiesResult, Self::StatusResult, Self::Params];

    /// The address.
    pub fn uri(self) -> &'static str {
        match self {
            Self::Models => "codex://models",
            Self::ErrorEnvelope => "codex://error-envelope",
            Self::ResultMeta => "codex://result-meta",
            Self::CapabilitiesResult => "codex://capabilities-result",
            Self::StatusResult => "codex://status-result",
            Self::Params => "codex://params",
        }
    }

    /// The one of this address.
    pub fn parse(uri: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|contract| contract.uri() == uri)
    }

    fn about(self) -> (&'static str, &'static str) {
        match self {
            Self::Models => ("Models", "Which model names a job may have: what codex_models answers."),
            Self::ErrorEnvelope => ("Error envelope", "Schema of every error, with each code: whether it is temporary and what to do."),
            Self::ResultMeta => ("Meta block", "Schema of `meta` in results."),
            Self::CapabilitiesResult => ("Result of codex_capabilities", "Its output schema."),
            Self::StatusResult => ("Result of codex_status", "Its output schema."),
            Self::Params => ("Parameters", "Each parameter with its meaning, its schema and the tools that take it."),
        }
    }

    fn mime_type(self) -> &'static str {
        match self {
            Self::Models | Self::Params => "application/json",
            _ => "application/schema+json",
        }
    }

    /// The name by which `codex_capabilities` gives it; `None`: it does not.
    pub fn word(self) -> Option<&'static str> {
        Some(match self {
            Self::Models => return None,
            Self::ErrorEnvelope => "error-envelope",
            Self::ResultMeta => "result-meta",
            Self::CapabilitiesResult => "capabilities-result",
            Self::StatusResult => "status-result",
            Self::Params => "parameter-contracts",
        })
    }

    /// Its content.
    pub fn content(self, settings: &ModelSettings) -> Value {
        match self {
            Self::Models => models::catalogue(settings),
            Self::ErrorEnvelope => error_envelope(),
            Self::ResultMeta => dialect("Meta block of a result", result_meta()),
            Self::CapabilitiesResult => dialect("Result of codex_capabilities", schema::output(ToolName::Capabilities)),
            Self::StatusResult => dialect("Result of codex_status", schema::output(ToolName::Status)),
            Self::Params => params(),
        }
    }
}

/// What `resources/list` gives.
pub fn list() -> Vec<Resource> {
    Contract::ALL
        .into_iter()
        .map(|contract| {
            let (title, description) = contract.about();
            let name = contract.uri().replace("://", "-");
            Resource::new(contract.uri(), name).with_title(title).with_description(description).with_mime_type(contract.mime_type())
        })
        .collect()
}

/// What `resources/read` gives.
pub fn read(contract: Contract, settings: &ModelSettings) -> ReadResourceResult {
    let text = display::json(&contract.content(settings).to_string());
    let contents = render::contents(text.as_bytes(), contract.uri(), contract.mime_type());
    // The models are those of this server's settings.
    let scope = if contract == Contract::Models { CacheScope::Private } else { CacheScope::Public };
    ReadResourceResult::new(vec![contents]).with_ttl_ms(TTL_MS).with_cache_scope(scope)
}

fn dialect(title: &str, mut schema: Map<String, Value>) -> Value {
    schema.insert("$schema".into(), json!("https://json-schema.org/draft/2020-12/schema"));
    schema.insert("title".into(), json!(title));
    Value::Object(schema)
}

/// The meta block: six keys are always there, the others where they are not null.
fn result_meta() -> Map<String, Value> {
    let properties: Map<String, Value> = KEYS
        .iter()
        .map(|(key, form)| {
            let form = match form {
                Form::Text => json!({"type": ["string", "null"]}),
                Form::Integer => json!({"type": ["integer", "null"]}),
                Form::Flag => json!({"type": ["boolean", "null"]}),
                Form::List => json!({"type": ["array", "null"], "items": {"type": "string"}}),
                Form::Object => json!({"type": ["object", "null"]}),
            };
            ((*key).to_owned(), form)
        })
        .collect();
    let mut schema = Map::new();
    schema.insert("type".into(), json!("object"));
    schema.insert("properties".into(), Value::Object(properties));
    schema.insert("required".into(), json!(ALWAYS));
    schema.insert("additionalProperties".into(), json!(false));
    schema
}

fn error_envelope() -> Value {
    let mut steps: Vec<&str> = Code::ALL.iter().map(|code| envelope::repair(*code, None).next_step).collect();
    steps.sort_unstable();
    steps.dedup();
    let tools: Vec<&str> = ToolName::ALL.into_iter().map(ToolName::as_str).collect();
    let codes: Map<String, Value> = Code::ALL
        .iter()
        .map(|code| {
            let repair = envelope::repair(*code, None);
            let row = json!({"temporary": code.temporary(), "next_step": repair.next_step, "tool": repair.tool.map(ToolName::as_str), "alternative": repair.otherwise});
            (code.as_str().to_owned(), row)
        })
        .collect();
    let error = envelope::schema(&codes.keys().cloned().collect::<Vec<_>>(), &steps, &tools);
    let mut schema = Map::new();
    schema.insert("type".into(), json!("object"));
    schema.insert("properties".into(), json!({"ok": {"const": false}, "error": error, "partial": {"type": "object"}, "meta": result_meta()}));
    schema.insert("required".into(), json!(["ok", "error", "meta"]));
    schema.insert("additionalProperties".into(), json!(false));
    schema.insert("x-codes".into(), Value::Object(codes));
    dialect("Error envelope", schema)
}

fn params() -> Value {
    let mut params: Map<String, Value> = Map::new();
    for tool in ToolName::ALL {
        for parameter in tool.parameters() {
            let entry = params.entry(parameter.name).or_insert_with(|| json!([]));
            let (schema, name) = (parameter.schema(), json!(tool.as_str()));
            let Value::Array(forms) = entry else { continue };
            // A parameter of one name may mean different things to different tools.
            match forms.iter_mut().find(|form| form["schema"] == schema) {
                Some(form) => {
                    if let Some(tools) = form["tools"].as_array_mut() {
                        tools.push(name);
                    }
                }
                None => forms.push(json!({"schema": schema, "required": parameter.required, "tools": [name]})),
            }
        }
    }
    json!({"description": "Each parameter with its schema (which carries its meaning), and the tools that take it.", "params": params})
}
