//! Tools: those that Codex runs in the cell. What the provider would run is refused by not being listed.

use serde_json::Value;

use super::Verdict;
use super::forms::{Count, Form, check, check_flat, check_schema, want};
use super::rules::{refuse, shown};

/// Most tools in one request, those inside of namespaces too. Codex 0.169 declares some twenty.
pub const MAX_TOOLS: usize = 1024;

/// What a key of a tool holds.
#[derive(Clone, Copy)]
enum Key {
    /// Checked already.
    Type,
    Plain(Form),
    /// A JSON schema.
    Schema,
    /// A grammar, or plain text.
    Format,
    /// Further tools; in a namespace only.
    Tools,
}

const NAME: (&str, Key) = ("name", Key::Plain(Form::Name));
const DESCRIPTION: (&str, Key) = ("description", Key::Plain(Form::Description));
const TYPE: (&str, Key) = ("type", Key::Type);
const DEFER: (&str, Key) = ("defer_loading", Key::Plain(Form::Bool));
const PARAMETERS: (&str, Key) = ("parameters", Key::Schema);

fn keys(kind: &str, depth: usize) -> Option<&'static [(&'static str, Key)]> {
    Some(match kind {
        "function" => &[TYPE, NAME, DESCRIPTION, ("strict", Key::Plain(Form::Bool)), PARAMETERS, ("output_schema", Key::Schema), DEFER],
        "custom" => &[TYPE, NAME, DESCRIPTION, ("format", Key::Format), DEFER],
        "namespace" if depth == 0 => &[TYPE, NAME, DESCRIPTION, ("tools", Key::Tools)],
        "tool_search" => &[TYPE, ("execution", Key::Plain(Form::Word)), DESCRIPTION, PARAMETERS],
        "local_shell" => &[TYPE],
        _ => return None,
    })
}

/// Checks a list of tools.
pub fn check_tools(value: &Value, depth: usize, count: &mut Count) -> Verdict {
    let list = match value {
        Value::Array(list) => list,
        Value::Null => return Ok(()),
        _ => return want(false, "tools"),
    };
    count.add(list.len())?;
    for tool in list {
        let Value::Object(tool) = tool else {
            want(false, "tools")?;
            continue;
        };
        let kind = tool.get("type").and_then(Value::as_str).unwrap_or_default();
        let Some(keys) = keys(kind, depth) else {
            refuse("hosted_tool", format!("the tool kind {:?} is not allowed", shown(kind)))?;
            continue;
        };
        if kind == "tool_search" && tool.get("execution").and_then(Value::as_str) != Some("client") {
            refuse("hosted_tool", "a tool search is allowed only where Codex runs it itself")?;
        }
        for (key, value) in tool {
            match keys.iter().find(|(known, _)| known == key).map(|(_, form)| *form) {
                Some(Key::Type) => {}
                Some(Key::Plain(form)) => check(value, form, "a tool")?,
                Some(Key::Schema) => {
                    want(value.is_object() || value.is_null(), "a tool's schema")?;
                    check_schema(value)?;
                }
                Some(Key::Format) => {
                    check_flat(value, &[("type", Form::Word), ("syntax", Form::Word), ("definition", Form::Description)], "a tool's format")?;
                }
                Some(Key::Tools) => check_tools(value, depth + 1, count)?,
                None => refuse("tool_key", format!("the key {:?} of a tool is not allowed", shown(key)))?,
            }
        }
    }
    Ok(())
}

/// `tool_choice`: a word, or one tool of the cell.
pub fn check_tool_choice(value: &Value) -> Verdict {
    let good = match value {
        Value::String(choice) => matches!(choice.as_str(), "auto" | "none" | "required"),
        Value::Object(map) => {
            matches!(map.get("type").and_then(Value::as_str), Some("function" | "custom"))
                && map.iter().all(|(k, v)| k == "type" || (k == "name" && check(v, Form::Name, "").is_ok()))
        }
        _ => false,
    };
    if good { Ok(()) } else { refuse("tool_choice", "this choice of a tool is not allowed") }
}
