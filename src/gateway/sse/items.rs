//! Items of an answer, written anew from what Codex 0.169 reads of them.
//!
//! Only what the cell itself acts on or shows comes through: text, reasoning, and calls of tools that Codex runs. An item of a tool that the provider
//! ran is dropped, so that no job sees a search or a file that it had no way to ask for.

use serde_json::{Map, Value};

use crate::gateway::seal;

/// What a key of an item holds.
#[derive(Clone, Copy)]
enum Key {
    Text,
    Bool,
    /// Text or a list of parts.
    Parts,
    /// What only the provider can read: leaves with the job's seal on it.
    Sealed,
    /// Text, or an object of anything.
    Arguments,
    /// A command of the local shell.
    Action,
}

const CALL_ID: (&str, Key) = ("call_id", Key::Text);
const NAME: (&str, Key) = ("name", Key::Text);
const NAMESPACE: (&str, Key) = ("namespace", Key::Text);
const CONTENT: (&str, Key) = ("content", Key::Parts);
const SEALED: (&str, Key) = ("encrypted_content", Key::Sealed);

/// The keys of an item beside `type`, `id` and `status`; `None`: dropped.
fn keys(kind: &str) -> Option<&'static [(&'static str, Key)]> {
    Some(match kind {
        "message" => &[("role", Key::Text), CONTENT, ("phase", Key::Text), ("end_turn", Key::Bool)],
        "agent_message" => &[CONTENT, ("author", Key::Text), ("recipient", Key::Text)],
        "reasoning" => &[("summary", Key::Parts), CONTENT, SEALED],
        "function_call" => &[NAME, NAMESPACE, ("arguments", Key::Text), CALL_ID, ("encrypted_function_args", Key::Sealed)],
        "custom_tool_call" => &[NAME, NAMESPACE, ("input", Key::Text), CALL_ID],
        "tool_search_call" => &[CALL_ID, ("execution", Key::Text), ("arguments", Key::Arguments)],
        "local_shell_call" => &[CALL_ID, ("action", Key::Action)],
        "compaction" | "compaction_summary" | "context_compaction" => &[SEALED],
        _ => return None,
    })
}

/// Rebuilds an item; `None` where it is none that Codex may get.
pub fn rebuild(item: &Value, cache_key: &str) -> Option<Value> {
    let Value::Object(item) = item else { return None };
    let kind = item.get("type")?.as_str()?;
    let keys = keys(kind)?;
    // A search that the provider has made, not one that Codex is asked to make.
    if kind == "tool_search_call" && item.get("execution").and_then(Value::as_str) != Some("client") {
        return None;
    }
    let mut rebuilt = Map::with_capacity(item.len());
    for (key, value) in item {
        let form = match key.as_str() {
            "type" | "id" | "status" => Key::Text,
            key => match keys.iter().find(|(known, _)| *known == key) {
                Some((_, form)) => *form,
                None => continue,
            },
        };
        let value = match (form, value) {
            (_, Value::Null) => Value::Null,
            (Key::Text | Key::Parts | Key::Arguments, Value::String(_)) | (Key::Bool, Value::Bool(_)) | (Key::Arguments, Value::Object(_)) => {
                value.clone()
            }
            (Key::Sealed, Value::String(text)) => Value::String(seal::close(cache_key, text)),
            (Key::Parts, Value::Array(list)) => Value::Array(list.iter().filter_map(|value| part(value, cache_key)).collect()),
            (Key::Action, Value::Object(action)) => self::action(action)?,
            _ => continue,
        };
        rebuilt.insert(key.clone(), value);
    }
    Some(Value::Object(rebuilt))
}

/// Rebuilds a content part; citations and the like, with the addresses in them, stay outside.
pub fn part(part: &Value, cache_key: &str) -> Option<Value> {
    let kind = part.get("type")?.as_str()?;
    let key = match kind {
        "output_text" | "input_text" | "text" | "summary_text" | "reasoning_text" => "text",
        "refusal" => "refusal",
        "encrypted_content" => "encrypted_content",
        _ => return None,
    };
    let text = part.get(key)?.as_str()?;
    // What agents of one job tell each other encrypted is that job's alone, too.
    let text = if key == "encrypted_content" { seal::close(cache_key, text) } else { text.to_owned() };
    Some(Value::Object(Map::from_iter([("type".to_owned(), kind.into()), (key.to_owned(), text.into())])))
}

fn action(action: &Map<String, Value>) -> Option<Value> {
    if action.get("type").and_then(Value::as_str) != Some("exec") {
        return None;
    }
    let known = action.iter().filter(|(key, value)| match key.as_str() {
        "type" | "working_directory" | "user" => value.is_string() || value.is_null(),
        "command" => value.as_array().is_some_and(|list| list.iter().all(Value::is_string)),
        "timeout_ms" => value.is_u64() || value.is_null(),
        "env" => value.is_null() || value.as_object().is_some_and(|map| map.values().all(Value::is_string)),
        _ => false,
    });
    Some(Value::Object(known.map(|(key, value)| (key.clone(), value.clone())).collect()))
}
