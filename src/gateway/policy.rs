//! What a job may ask: the request as the pinned Codex sends it, and nothing else.
//!
//! The parsed tree is checked against lists of what is allowed, changed where the job has no say, and written anew; no byte of the job's own
//! request travels on. The lists were taken from real requests of Codex 0.169 (plain tools, `apply_patch`, code mode) and from the item kinds
//! that its binary names. Everything with which the *provider* would act on its own — hosted tools, URLs and files to fetch, stored state of other
//! responses, work in the background — is refused, since it would be a way out of the cell.

use serde_json::{Map, Value};

use super::json;

/// Largest request body, counted while it is read.
pub const MAX_BODY: usize = 8 << 20;

/// A request that may go to the provider.
#[derive(Debug)]
pub struct Accepted {
    /// The rebuilt request.
    pub request: Value,
    /// The model that it names.
    pub model: String,
    /// Its tools come as an input item ("responses lite"), which the provider wants to be told in a header.
    pub additional_tools: bool,
}

/// A request that may not; the text goes to the job and names no more than one short key of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Stable, for the ledger.
    pub code: &'static str,
    /// One sentence.
    pub message: String,
}

fn refuse<T>(code: &'static str, message: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal { code, message: message.into() })
}

/// What the policy must know about the job.
pub struct Terms<'a> {
    /// Empty: any well-formed one.
    pub allowed_models: &'a [String],
    /// Stands for the job where the provider wants to tell callers apart; random, so that jobs cannot see each other's cache.
    pub cache_key: &'a str,
}

/// Checks and rebuilds a request body.
pub fn check(body: &[u8], terms: &Terms<'_>) -> Result<Accepted, Refusal> {
    let value = json::parse(body).map_err(|fault| Refusal {
        code: match fault {
            json::Fault::Malformed => "malformed_json",
            json::Fault::TooDeep => "json_too_deep",
            json::Fault::TooMany => "json_too_large",
            json::Fault::DuplicateKey => "duplicate_key",
        },
        message: fault.to_string(),
    })?;
    let Value::Object(asked) = value else { return refuse("not_an_object", "the body is not a JSON object") };
    let mut request = Map::with_capacity(asked.len());
    let mut additional_tools = false;
    for (key, mut value) in asked {
        match key.as_str() {
            "model" | "stream" | "store" => {}
            "instructions" => want(value.is_string() || value.is_null(), "instructions")?,
            "input" => additional_tools = check_input(&mut value)?,
            "tools" => check_tools(&value, 0)?,
            "tool_choice" => check_tool_choice(&value)?,
            "parallel_tool_calls" => want(value.is_boolean(), "parallel_tool_calls")?,
            "reasoning" => check_flat(&value, &["effort", "summary", "context"], "reasoning")?,
            "text" => check_text(&value)?,
            "include" => {
                let only_reasoning = value.as_array().is_some_and(|list| list.iter().all(|v| v == "reasoning.encrypted_content"));
                if !only_reasoning {
                    return refuse("include", "only reasoning.encrypted_content may be included");
                }
            }
            "truncation" => want(matches!(value.as_str(), Some("auto" | "disabled")), "truncation")?,
            "temperature" | "top_p" => want(value.is_number() || value.is_null(), "temperature")?,
            "max_output_tokens" => want(value.as_u64().is_some_and(|n| n <= 1 << 20), "max_output_tokens")?,
            "prompt_cache_key" | "user" | "safety_identifier" => value = Value::String(terms.cache_key.to_owned()),
            // Dropped: they would carry what the job chose to the provider's records, or buy priority.
            "client_metadata" | "metadata" | "service_tier" => continue,
            "previous_response_id" | "conversation" | "prompt" | "background" => {
                return refuse("stored_state", format!("{key} is not allowed: a job may use no stored state and no background work"));
            }
            _ => return refuse("unknown_key", format!("the request key {:?} is not allowed", shown(&key))),
        }
        request.insert(key, value);
    }
    let Some(model) = request.get("model").and_then(Value::as_str).map(str::to_owned) else { return refuse("model", "no model is named") };
    if !model_allowed(&model, terms.allowed_models) {
        return refuse("model", format!("the model {:?} is not allowed for this job", shown(&model)));
    }
    if !request.contains_key("input") {
        return refuse("input", "no input is given");
    }
    request.insert("stream".to_owned(), Value::Bool(true));
    request.insert("store".to_owned(), Value::Bool(false));
    Ok(Accepted { request: Value::Object(request), model, additional_tools })
}

/// Whether a model may be named: one of `allowed`, or with an empty list any well-formed name.
pub fn model_allowed(model: &str, allowed: &[String]) -> bool {
    if !allowed.is_empty() {
        return allowed.iter().any(|m| m == model);
    }
    well_formed_model(model)
}

/// `^[A-Za-z0-9][A-Za-z0-9._:/-]{0,127}$`
pub fn well_formed_model(model: &str) -> bool {
    model.len() <= 128
        && model.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric())
        && model.bytes().all(|b| b.is_ascii_alphanumeric() || b"._:/-".contains(&b))
}

/// A job's word, short and plain enough for a message.
fn shown(text: &str) -> String {
    text.chars().filter(char::is_ascii_graphic).take(40).collect()
}

fn want(good: bool, what: &str) -> Result<(), Refusal> {
    if good { Ok(()) } else { refuse("malformed", format!("{what} has a form that is not allowed")) }
}

/// An object whose keys are listed and whose values are plain.
fn check_flat(value: &Value, keys: &[&str], what: &str) -> Result<(), Refusal> {
    match value {
        Value::Null => Ok(()),
        Value::Object(map) => want(map.iter().all(|(k, v)| keys.contains(&k.as_str()) && !v.is_object() && !v.is_array()), what),
        _ => want(false, what),
    }
}

fn check_text(value: &Value) -> Result<(), Refusal> {
    let Value::Object(map) = value else { return want(value.is_null(), "text") };
    for (key, value) in map {
        match key.as_str() {
            "verbosity" => want(value.is_string() || value.is_null(), "text.verbosity")?,
            "format" => {
                let keys_known = value.as_object().is_some_and(|f| {
                    f.keys().all(|k| ["type", "name", "schema", "strict", "description"].contains(&k.as_str()))
                        && matches!(f.get("type").and_then(Value::as_str), Some("text" | "json_schema" | "json_object"))
                });
                want(keys_known, "text.format")?;
            }
            _ => want(false, "text")?,
        }
    }
    Ok(())
}

fn check_tool_choice(value: &Value) -> Result<(), Refusal> {
    match value {
        Value::String(choice) => want(matches!(choice.as_str(), "auto" | "none" | "required"), "tool_choice"),
        Value::Object(map) => {
            let kind_known = matches!(map.get("type").and_then(Value::as_str), Some("function" | "custom"));
            want(kind_known && map.iter().all(|(k, v)| matches!(k.as_str(), "type" | "name") && v.is_string()), "tool_choice")
        }
        _ => want(false, "tool_choice"),
    }
}

/// Tools that Codex itself runs. A tool that the provider would run is refused by not being here.
fn check_tools(value: &Value, depth: usize) -> Result<(), Refusal> {
    let list = match value {
        Value::Array(list) => list,
        Value::Null => return Ok(()),
        _ => return want(false, "tools"),
    };
    for tool in list {
        let Value::Object(tool) = tool else { return want(false, "tools") };
        let kind = tool.get("type").and_then(Value::as_str).unwrap_or_default();
        let keys: &[&str] = match kind {
            "function" => &["type", "name", "description", "strict", "parameters", "output_schema", "defer_loading"],
            "custom" => &["type", "name", "description", "format", "defer_loading"],
            "namespace" if depth == 0 => &["type", "name", "description", "tools"],
            "tool_search" => &["type", "execution", "description", "parameters"],
            "local_shell" => &["type"],
            _ => return refuse("hosted_tool", format!("the tool kind {:?} is not allowed", shown(kind))),
        };
        if kind == "tool_search" && tool.get("execution").and_then(Value::as_str) != Some("client") {
            return refuse("hosted_tool", "a tool search is allowed only where Codex runs it itself");
        }
        if let Some(key) = tool.keys().find(|k| !keys.contains(&k.as_str())) {
            return refuse("tool_key", format!("the key {:?} of a tool is not allowed", shown(key)));
        }
        if let Some(inner) = tool.get("tools") {
            check_tools(inner, depth + 1)?;
        }
    }
    Ok(())
}

/// Checks the input items, drops what is only for bookkeeping; true if tools are declared among them.
fn check_input(value: &mut Value) -> Result<bool, Refusal> {
    let list = match value {
        Value::String(_) => return Ok(false),
        Value::Array(list) => list,
        _ => return refuse("malformed", "input has a form that is not allowed"),
    };
    let mut tools_declared = false;
    for item in list {
        let Value::Object(item) = item else { return refuse("malformed", "an input item is not an object") };
        item.shift_remove("internal_chat_message_metadata_passthrough");
        item.shift_remove("metadata");
        // Without a type an item is a message: the short form of the public interface.
        let kind = item.get("type").map_or("message", |t| t.as_str().unwrap_or_default());
        let keys: &[&str] = match kind {
            "message" => &["content", "phase", "end_turn"],
            "agent_message" => &["content", "author", "recipient"],
            "reasoning" => &["summary", "content", "encrypted_content"],
            "function_call" => &["name", "namespace", "arguments", "call_id", "encrypted_function_args"],
            "custom_tool_call" => &["name", "namespace", "input", "call_id"],
            "function_call_output" | "custom_tool_call_output" => &["name", "output", "call_id"],
            "tool_search_call" => &["call_id", "execution", "arguments"],
            "tool_search_output" => &["call_id", "execution", "tools"],
            "local_shell_call" => &["call_id", "action"],
            "local_shell_call_output" => &["call_id", "output"],
            "additional_tools" => &["tools"],
            "compaction" | "compaction_summary" | "context_compaction" | "compaction_trigger" => &["encrypted_content"],
            "configuration_update" => &["reasoning"],
            _ => return refuse("input_kind", format!("the input kind {:?} is not allowed", shown(kind))),
        };
        tools_declared |= kind == "additional_tools";
        for (key, value) in item.iter() {
            if !matches!(key.as_str(), "type" | "id" | "role" | "status") && !keys.contains(&key.as_str()) {
                return refuse("input_key", format!("the key {:?} of an input item is not allowed", shown(key)));
            }
            match key.as_str() {
                "content" | "output" | "summary" => check_parts(value)?,
                "tools" => check_tools(value, 0)?,
                "reasoning" => check_flat(value, &["effort", "summary", "context"], "reasoning")?,
                "action" => {
                    let local = value.get("type").and_then(Value::as_str) == Some("exec");
                    want(local, "action")?;
                }
                // Codex writes the arguments of a tool search as an object, those of a function as text.
                "arguments" => want(value.is_string() || kind == "tool_search_call", "arguments")?,
                _ => want(!value.is_object() && !value.is_array(), key)?,
            }
        }
    }
    Ok(tools_declared)
}

/// Text, or a list of parts of which none makes the provider fetch anything.
fn check_parts(value: &Value) -> Result<(), Refusal> {
    let list = match value {
        Value::String(_) | Value::Null => return Ok(()),
        Value::Array(list) => list,
        _ => return want(false, "content"),
    };
    for part in list {
        let Value::Object(part) = part else { return want(false, "content") };
        let kind = part.get("type").and_then(Value::as_str).unwrap_or_default();
        let keys: &[&str] = match kind {
            "input_text" | "output_text" | "text" | "summary_text" | "reasoning_text" => &["type", "text"],
            "refusal" => &["type", "refusal"],
            "encrypted_content" => &["type", "encrypted_content"],
            "input_image" => &["type", "image_url", "detail"],
            _ => return refuse("content_kind", format!("the content kind {:?} is not allowed", shown(kind))),
        };
        for (key, value) in part {
            // The two that the public interface adds to a model's own text, when they say nothing.
            if matches!(key.as_str(), "annotations" | "logprobs") && value.as_array().is_some_and(Vec::is_empty) {
                continue;
            }
            if !keys.contains(&key.as_str()) {
                return refuse("content_key", format!("the key {:?} of a content part is not allowed", shown(key)));
            }
            if !(value.is_string() || value.is_null()) {
                return want(false, "content");
            }
        }
        if kind == "input_image" && !part.get("image_url").and_then(Value::as_str).is_some_and(|url| url.starts_with("data:image/")) {
            return refuse("remote_content", "an image must be given as data, not as a URL or a file id");
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "policy_tests.rs"]
mod tests;
