//! The conversation so far: items and their parts.

use serde_json::{Map, Value};

use super::forms::{self, Count, Form, want};
use super::rules::{refuse, shown};
use super::tools::check_tools;
use super::{Changes, Verdict};
use crate::weaken;

/// Most items of a conversation.
const MAX_ITEMS: usize = 20_000;
/// Most content parts of all items together.
const MAX_PARTS: usize = 50_000;

/// What a key of an item holds.
#[derive(Clone, Copy)]
enum Key {
    Plain(Form),
    Role,
    /// Text or a list of parts.
    Parts,
    /// What only the provider can read, and only this job may give back.
    Sealed,
    Tools,
    Reasoning,
    /// Who runs a tool search: it must be Codex.
    Client,
    /// A command of the local shell.
    Action,
    /// Arguments as an object, as Codex writes those of a tool search.
    Arguments,
}

const CALL_ID: (&str, Key) = ("call_id", Key::Plain(Form::Id));
const NAME: (&str, Key) = ("name", Key::Plain(Form::Name));
const NAMESPACE: (&str, Key) = ("namespace", Key::Plain(Form::Name));
const CONTENT: (&str, Key) = ("content", Key::Parts);
const OUTPUT: (&str, Key) = ("output", Key::Parts);
const SEALED: (&str, Key) = ("encrypted_content", Key::Sealed);
const CLIENT: (&str, Key) = ("execution", Key::Client);
const TEXT: Key = Key::Plain(Form::Text);

/// The keys of an item of this kind beside `type`, `id`, `role` and `status`.
fn keys(kind: &str) -> Option<&'static [(&'static str, Key)]> {
    Some(match kind {
        "message" => &[CONTENT, ("phase", Key::Plain(Form::Word)), ("end_turn", Key::Plain(Form::Bool))],
        "agent_message" => &[CONTENT, ("author", Key::Plain(Form::Id)), ("recipient", Key::Plain(Form::Id))],
        "reasoning" => &[("summary", Key::Parts), CONTENT, SEALED],
        "function_call" => &[NAME, NAMESPACE, ("arguments", TEXT), CALL_ID, ("encrypted_function_args", Key::Sealed)],
        "custom_tool_call" => &[NAME, NAMESPACE, ("input", TEXT), CALL_ID],
        "function_call_output" | "custom_tool_call_output" => &[NAME, OUTPUT, CALL_ID],
        "tool_search_call" => &[CALL_ID, CLIENT, ("arguments", Key::Arguments)],
        "tool_search_output" => &[CALL_ID, CLIENT, ("tools", Key::Tools)],
        "local_shell_call" => &[CALL_ID, ("action", Key::Action)],
        "local_shell_call_output" => &[CALL_ID, OUTPUT],
        "additional_tools" => &[("tools", Key::Tools)],
        "compaction" | "compaction_summary" | "context_compaction" | "compaction_trigger" => &[SEALED],
        "configuration_update" => &[("reasoning", Key::Reasoning)],
        _ => return None,
    })
}

/// Checks the input items and drops what is only for bookkeeping; true if tools are declared among them.
pub fn check_input(value: &mut Value, tools: &mut Count, changes: &mut Changes<'_>) -> Result<bool, super::Refusal> {
    let list = match value {
        Value::String(_) => return Ok(false),
        Value::Array(list) => list,
        _ => return want(false, "input").map(|()| false),
    };
    Count::new(MAX_ITEMS, "input items").add(list.len())?;
    let mut parts = Count::new(MAX_PARTS, "content parts");
    let mut tools_declared = false;
    for item in list {
        let Value::Object(item) = item else {
            want(false, "an input item")?;
            continue;
        };
        changes.item(item);
        // Without a type an item is a message: the short form of the public interface.
        let kind = item.get("type").map_or("message", |t| t.as_str().unwrap_or_default()).to_owned();
        tools_declared |= kind == "additional_tools";
        let Some(keys) = keys(&kind) else {
            refuse("input_kind", format!("the input kind {:?} is not allowed", shown(&kind)))?;
            continue;
        };
        for (key, value) in item.iter_mut() {
            let form = match key.as_str() {
                "type" => continue,
                "id" => Key::Plain(Form::Id),
                "role" => Key::Role,
                "status" => Key::Plain(Form::Word),
                key => match keys.iter().find(|(known, _)| *known == key) {
                    Some((_, form)) => *form,
                    None => {
                        refuse("input_key", format!("the key {:?} of an input item is not allowed", shown(key)))?;
                        continue;
                    }
                },
            };
            check_value(value, form, key, tools, &mut parts, changes)?;
        }
    }
    Ok(tools_declared)
}

fn check_value(value: &mut Value, form: Key, key: &str, tools: &mut Count, parts: &mut Count, changes: &mut Changes<'_>) -> Verdict {
    match form {
        Key::Plain(form) => forms::check(value, form, key),
        Key::Role => want(value.is_null() || matches!(value.as_str(), Some("user" | "assistant" | "developer" | "system")), "role"),
        Key::Parts => check_parts(value, parts, changes),
        Key::Sealed => changes.unseal(value),
        Key::Tools => check_tools(value, 0, tools),
        Key::Reasoning => forms::check_reasoning(value),
        Key::Client if value.as_str() == Some("client") => Ok(()),
        Key::Client => refuse("hosted_call", "a tool search is allowed only where Codex runs it itself"),
        Key::Arguments => want(value.is_object() || value.is_string() || value.is_null(), key),
        Key::Action => check_action(value),
    }
}

/// A command that Codex ran in the cell.
fn check_action(value: &Value) -> Verdict {
    let Value::Object(action) = value else { return want(false, "action") };
    if action.get("type").and_then(Value::as_str) != Some("exec") {
        return refuse("hosted_call", "only commands of the local shell are allowed");
    }
    action.iter().try_for_each(|(key, value)| {
        let good = match key.as_str() {
            "type" => true,
            "command" => value.as_array().is_some_and(|list| list.iter().all(Value::is_string)),
            "timeout_ms" => value.is_null() || value.is_u64(),
            "working_directory" | "user" => value.is_null() || value.is_string(),
            "env" => value.is_null() || value.as_object().is_some_and(|map| map.values().all(Value::is_string)),
            _ => false,
        };
        want(good, "action")
    })
}

/// Text, or a list of parts of which none makes the provider fetch anything.
fn check_parts(value: &mut Value, count: &mut Count, changes: &mut Changes<'_>) -> Verdict {
    let list = match value {
        Value::String(_) | Value::Null => return Ok(()),
        Value::Array(list) => list,
        _ => return want(false, "content"),
    };
    count.add(list.len())?;
    for part in list {
        let Value::Object(part) = part else {
            want(false, "content")?;
            continue;
        };
        let kind = part.get("type").and_then(Value::as_str).unwrap_or_default().to_owned();
        let keys: &[&str] = match kind.as_str() {
            "input_text" | "output_text" | "text" | "summary_text" | "reasoning_text" => &["type", "text"],
            "refusal" => &["type", "refusal"],
            "encrypted_content" => &["type", "encrypted_content"],
            "input_image" => &["type", "image_url", "detail"],
            _ => {
                refuse("content_kind", format!("the content kind {:?} is not allowed", shown(&kind)))?;
                continue;
            }
        };
        for (key, value) in part.iter_mut() {
            // The two that the public interface adds to a model's own text, when they say nothing.
            if matches!(key.as_str(), "annotations" | "logprobs") && value.as_array().is_some_and(Vec::is_empty) {
                continue;
            }
            if !keys.contains(&key.as_str()) {
                refuse("content_key", format!("the key {:?} of a content part is not allowed", shown(key)))?;
            } else if key == "encrypted_content" {
                changes.unseal(value)?;
            } else if key == "detail" {
                forms::check(value, Form::Word, "content")?;
            } else {
                want(value.is_string() || value.is_null(), "content")?;
            }
        }
        if kind == "input_image" && !part.get("image_url").and_then(Value::as_str).is_some_and(is_image_data) {
            refuse("remote_content", "an image must be given as base64 data of a known kind, not as a URL or a file id")?;
        }
    }
    Ok(())
}

/// Whether a URL is the picture itself. Kinds that hold more than pixels (SVG) could name further addresses.
fn is_image_data(url: &str) -> bool {
    let Some(rest) = url.strip_prefix("data:image/") else { return false };
    let Some((kind, data)) = rest.split_once(";base64,") else { return false };
    ["png", "jpeg", "jpg", "gif", "webp"].contains(&kind) && data.bytes().all(|b| b.is_ascii_alphanumeric() || b"+/=".contains(&b))
}

impl Changes<'_> {
    /// Takes from an item what is bookkeeping of Codex, or what the provider would look up.
    fn item(&mut self, item: &mut Map<String, Value>) {
        for key in ["internal_chat_message_metadata_passthrough", "metadata"] {
            if item.contains_key(key) && !weaken::off("policy.metadata") {
                item.shift_remove(key);
                self.note("metadata");
            }
        }
        // With `store` off nothing of ours is stored, so an id can only name what somebody else stored: the provider takes that in place of the
        // item's own content. The item itself is whole without it.
        if item.contains_key("id") && !weaken::off("policy.item_id") {
            item.shift_remove("id");
            self.note("item_id");
        }
    }
}
