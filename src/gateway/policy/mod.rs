//! What a job may ask: the request as the pinned Codex sends it, and nothing else.
//!
//! The parsed tree is checked against lists of what is allowed, changed where the job has no say, and written anew; no byte of the job's own
//! request travels on. The lists were taken from real requests of Codex 0.169 (plain tools, `apply_patch`, code mode, images, tool search, agents)
//! and from the item kinds that its binary names. Everything with which the *provider* would act on its own — hosted tools, URLs and files to fetch,
//! stored state of other responses, work in the background — is refused, since it would be a way out of the cell.
//!
//! `rules` names every rule; `forms`, `tools` and `input` hold what each part of a request may look like.

mod forms;
mod input;
mod rules;
mod tools;

use serde_json::{Map, Value};

use self::forms::{Count, Form, want};
use self::rules::{refuse, shown};
use super::json;
use super::seal;
use crate::weaken;

/// Largest request body, counted while it is read.
pub const MAX_BODY: usize = 8 << 20;
/// Most tokens that one answer may be asked to have.
const MAX_OUTPUT_TOKENS: u64 = 1 << 20;

/// A request that may go to the provider.
#[derive(Debug)]
pub struct Accepted {
    /// The rebuilt request.
    pub request: Value,
    /// The model that it names.
    pub model: String,
    /// Its tools come as an input item ("responses lite"), which the provider wants to be told in a header.
    pub additional_tools: bool,
    /// What was changed in it, by name of the forced value; for the ledger.
    pub forced: Vec<&'static str>,
}

/// A request that may not; the text goes to the job and names no more than one short key of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Stable, for the ledger.
    pub code: &'static str,
    /// One sentence.
    pub message: String,
}

/// What a rule says of a part of a request.
type Verdict = Result<(), Refusal>;

/// What the policy must know about the job.
pub struct Terms<'a> {
    /// Empty: any well-formed one.
    pub allowed_models: &'a [String],
    /// Stands for the job where the provider wants to tell callers apart; random, so that jobs cannot see each other's cache.
    pub cache_key: &'a str,
    /// Those of the jobs that this one goes on with: what their answers held encrypted may come back, too.
    pub earlier_keys: &'a [String],
}

/// What is changed on the way, and noted for the ledger.
struct Changes<'a> {
    cache_key: &'a str,
    earlier_keys: &'a [String],
    forced: Vec<&'static str>,
}

impl Changes<'_> {
    fn note(&mut self, what: &'static str) {
        if !self.forced.contains(&what) {
            self.forced.push(what);
        }
    }

    /// Takes our seal off what only the provider can read; refuses what neither this job's answers held nor those of the jobs that it goes on with.
    fn unseal(&mut self, value: &mut Value) -> Verdict {
        match value {
            Value::Null => Ok(()),
            Value::String(text) => match seal::open_any(self.cache_key, self.earlier_keys, text) {
                Some(length) => {
                    text.truncate(length);
                    Ok(())
                }
                None => refuse("sealed", "encrypted content is allowed only where an answer to this job held it"),
            },
            _ => want(false, "encrypted_content"),
        }
    }
}

/// Checks and rebuilds a request body.
pub fn check(body: &[u8], terms: &Terms<'_>) -> Result<Accepted, Refusal> {
    let value = json::parse(body).map_err(|fault| Refusal { code: fault.code(), message: fault.to_string() })?;
    let Value::Object(asked) = value else {
        return Err(Refusal { code: "not_an_object", message: "the body is not a JSON object".to_owned() });
    };
    let mut changes = Changes { cache_key: terms.cache_key, earlier_keys: terms.earlier_keys, forced: Vec::new() };
    let mut tools = Count::new(tools::MAX_TOOLS, "tools");
    let mut request = Map::with_capacity(asked.len() + 1);
    let mut additional_tools = false;
    for (key, mut value) in asked {
        match key.as_str() {
            "model" | "stream" | "store" | "prompt_cache_key" => {}
            "instructions" => forms::check(&value, Form::Text, "instructions")?,
            "input" => additional_tools = input::check_input(&mut value, &mut tools, &mut changes)?,
            "tools" => tools::check_tools(&value, 0, &mut tools)?,
            "tool_choice" => tools::check_tool_choice(&value)?,
            "parallel_tool_calls" => want(value.is_boolean(), "parallel_tool_calls")?,
            "reasoning" => forms::check_reasoning(&value)?,
            "text" => check_text(&value)?,
            "include" => {
                let only_reasoning = value.as_array().is_some_and(|list| list.iter().all(|v| v == "reasoning.encrypted_content"));
                if !only_reasoning {
                    refuse("include", "only reasoning.encrypted_content may be included")?;
                }
            }
            "truncation" => want(matches!(value.as_str(), Some("auto" | "disabled")), "truncation")?,
            "temperature" | "top_p" => want(value.is_number() || value.is_null(), "temperature")?,
            "max_output_tokens" => want(value.as_u64().is_some_and(|n| n <= MAX_OUTPUT_TOKENS), "max_output_tokens")?,
            "user" | "safety_identifier" if !weaken::off("policy.user") => {
                changes.note("user");
                value = Value::String(terms.cache_key.to_owned());
            }
            // Would carry what the job chose to the provider's records, where somebody else may read it.
            "client_metadata" | "metadata" if !weaken::off("policy.metadata") => {
                changes.note("metadata");
                continue;
            }
            // Wishes about how the service is rendered: they cost the user money or change what is sent back.
            "service_tier" | "stream_options" | "prompt_cache_options" | "access_programs" if !weaken::off("policy.service_tier") => {
                changes.note("service_tier");
                continue;
            }
            "user"
            | "safety_identifier"
            | "client_metadata"
            | "metadata"
            | "service_tier"
            | "stream_options"
            | "prompt_cache_options"
            | "access_programs" => {}
            "previous_response_id" | "conversation" | "prompt" | "background" => {
                refuse("stored_state", format!("{key} is not allowed: a job may use no stored state and no background work"))?;
            }
            _ => refuse("unknown_key", format!("the request key {:?} is not allowed", shown(&key)))?,
        }
        request.insert(key, value);
    }
    let model = request.get("model").and_then(Value::as_str).unwrap_or_default().to_owned();
    if !model_allowed(&model, terms.allowed_models) {
        refuse("model", format!("the model {:?} is not allowed for this job", shown(&model)))?;
    }
    want(request.contains_key("input"), "input")?;
    if !weaken::off("policy.force_stream") {
        force(&mut request, "stream", Value::Bool(true), &mut changes);
    }
    if !weaken::off("policy.force_store") {
        force(&mut request, "store", Value::Bool(false), &mut changes);
    }
    // Also where none was given: without one, the provider's cache is shared by all who use this credential, and the count of cached tokens
    // tells what others asked.
    if !weaken::off("policy.cache_key") {
        request.insert("prompt_cache_key".to_owned(), Value::String(terms.cache_key.to_owned()));
    }
    Ok(Accepted { request: Value::Object(request), model, additional_tools, forced: changes.forced })
}

/// Sets a value, and notes it where the job asked for another one.
fn force(request: &mut Map<String, Value>, key: &'static str, value: Value, changes: &mut Changes<'_>) {
    if request.get(key).is_some_and(|asked| *asked != value) {
        changes.note(key);
    }
    request.insert(key.to_owned(), value);
}

/// Whether a model may be named: one of `allowed`, byte by byte, or with an empty list any well-formed name.
pub fn model_allowed(model: &str, allowed: &[String]) -> bool {
    well_formed_model(model) && (allowed.is_empty() || allowed.iter().any(|m| m == model))
}

/// `^[A-Za-z0-9][A-Za-z0-9._:/-]{0,127}$`
pub fn well_formed_model(model: &str) -> bool {
    model.len() <= 128
        && model.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric())
        && model.bytes().all(|b| b.is_ascii_alphanumeric() || b"._:/-".contains(&b))
}

/// `text`: how long, and in which form.
fn check_text(value: &Value) -> Verdict {
    let Value::Object(map) = value else { return want(value.is_null(), "text") };
    map.iter().try_for_each(|(key, value)| match (key.as_str(), value) {
        ("verbosity", value) => forms::check(value, Form::Word, "text.verbosity"),
        ("format", Value::Null) => Ok(()),
        ("format", Value::Object(format)) => format.iter().try_for_each(|(key, value)| match key.as_str() {
            "type" => want(matches!(value.as_str(), Some("text" | "json_schema" | "json_object")), "text.format.type"),
            "name" => forms::check(value, Form::Name, "text.format.name"),
            "description" => forms::check(value, Form::Description, "text.format.description"),
            "strict" => forms::check(value, Form::Bool, "text.format.strict"),
            "schema" => {
                want(value.is_object(), "text.format.schema")?;
                forms::check_schema(value)
            }
            _ => want(false, "text.format"),
        }),
        _ => want(false, "text"),
    })
}

#[cfg(test)]
mod tests;
