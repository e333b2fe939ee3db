//! The part of `docs/REFERENCE.md` that is about the protocol: tools and resources as a client gets them, and what each error asks for.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::super::envelope::repair;
use super::{Session, eras};
use crate::error::Code;

/// Sections in Markdown.
pub(crate) async fn markdown() -> String {
    let session = Session::open(eras()[0].clone()).await;
    let tools = serde_json::to_value(session.client.list_tools(None).await.unwrap()).unwrap();
    let templates = serde_json::to_value(session.client.list_resource_templates(None).await.unwrap()).unwrap();
    let fixed = serde_json::to_value(session.client.list_resources(None).await.unwrap()).unwrap();
    session.close().await;
    let mut text = "## Tools\n\nA parameter that is not required may be left out; null stands for the same where its type has it. Results are `structuredContent`, and the same JSON as text; \
                    more fields than these may be there ([MCP.md](MCP.md#results)).\n"
        .to_owned();
    for tool in tools["tools"].as_array().unwrap() {
        text.push_str(&one_tool(tool));
    }
    text.push_str("\n## Resources\n\n| address | type | what |\n|---|---|---|\n");
    let all = fixed["resources"].as_array().into_iter().flatten().chain(templates["resourceTemplates"].as_array().unwrap());
    for each in all {
        let address = each.get("uriTemplate").or(each.get("uri")).unwrap();
        let _ =
            writeln!(text, "| {} | {} | **{}.** {} |", code(address), code(&each["mimeType"]), words(&each["title"]), words(&each["description"]));
    }
    text.push_str(
        "\n## Errors\n\nOver MCP an error is `{ok: false, error: {code, message, temporary, retry_after_ms, repair, …}, meta}`; the command line prints the same code. `exit` is its \
         exit code, *temporary* says that the same call may succeed later. The hint is what stands in `repair.alternative` where the error has none of its own.\n\n\
         | code | exit | temporary | `repair.next_step` | `repair.tool` | hint |\n|---|---|---|---|---|---|\n",
    );
    for each in Code::ALL {
        let step = repair(*each, None);
        let tool = step.tool.map(|tool| format!("`{}`", tool.as_str())).unwrap_or_default();
        let temporary = if each.temporary() { "yes" } else { "" };
        let _ = writeln!(text, "| `{each}` | {} | {temporary} | `{}` | {tool} | {} |", each.exit_code(), step.next_step, cell(step.otherwise));
    }
    text
}

fn one_tool(tool: &Value) -> String {
    let mut text = format!("\n### `{}`\n\n**{}.** {}\n\n", tool["name"].as_str().unwrap(), words(&tool["title"]), words(&tool["description"]));
    let hints: Vec<String> = tool["annotations"].as_object().into_iter().flatten().map(|(name, value)| format!("`{name}: {value}`")).collect();
    let _ = writeln!(text, "Hints: {}\n", hints.join(", "));
    let input = &tool["inputSchema"];
    let properties = input["properties"].as_object().filter(|all| !all.is_empty());
    if let Some(properties) = properties {
        text.push_str("| parameter | type | default | meaning |\n|---|---|---|---|\n");
        for (name, schema) in properties {
            let required = input["required"].as_array().is_some_and(|names| names.contains(&json!(name)));
            let default = if required { "required".to_owned() } else { code(&schema["default"]) };
            let _ = writeln!(text, "| `{name}` | {}{} | {default} | {} |", kind(schema, input), limits(schema), words(&schema["description"]));
        }
    } else {
        text.push_str("It takes nothing.\n");
    }
    let output = &tool["outputSchema"];
    // The first form is a success, the second an error, which all share.
    let success = resolved(output.pointer("/anyOf/0").unwrap_or(output), output);
    let required = success["required"].as_array().map_or(&[] as &[Value], Vec::as_slice);
    text.push_str("\n| result | type | |\n|---|---|---|\n");
    for (name, schema) in success["properties"].as_object().into_iter().flatten() {
        let always = if required.contains(&json!(name)) { "always" } else { "" };
        let _ = writeln!(text, "| `{name}` | {} | {always} |", kind(schema, output));
    }
    text
}

/// A schema, or the one to which it refers.
fn resolved<'a>(schema: &'a Value, root: &'a Value) -> &'a Value {
    match schema["$ref"].as_str() {
        Some(at) => resolved(root.pointer(at.trim_start_matches('#')).unwrap(), root),
        None => schema,
    }
}

/// A schema's type in words.
fn kind(schema: &Value, root: &Value) -> String {
    let schema = resolved(schema, root);
    if let Some(value) = schema.get("const") {
        return code(value);
    }
    if let Some(values) = schema["enum"].as_array() {
        return values.iter().map(code).collect::<Vec<_>>().join(", ");
    }
    if let Some(forms) = schema["anyOf"].as_array() {
        return forms.iter().map(|form| kind(form, root)).collect::<Vec<_>>().join(" or ");
    }
    let names = match &schema["type"] {
        Value::String(name) => vec![name.clone()],
        Value::Array(names) => names.iter().map(words).collect(),
        _ => vec!["any".to_owned()],
    };
    let items = &schema["items"];
    let of = match (items["properties"].as_object(), items.get("type").or(items.get("$ref"))) {
        (Some(fields), _) => format!(" of objects with {}", fields.keys().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")),
        (None, Some(_)) => format!(" of {}", kind(items, root)),
        (None, None) => String::new(),
    };
    format!("{}{of}", names.join(" or "))
}

/// What a schema bounds.
fn limits(schema: &Value) -> String {
    let mut limits = Vec::new();
    let number = |key: &str| schema.get(key).filter(|value| value.is_number());
    if let (Some(least), Some(most)) = (number("minimum"), number("maximum")) {
        limits.push(format!("{least} to {most}"));
    }
    for (key, what) in [("minLength", "at least {} characters"), ("maxLength", "at most {} characters"), ("maxItems", "at most {} entries")] {
        if let Some(bound) = number(key) {
            let text = what.replace("{}", &bound.to_string());
            limits.push(if bound == 1 { text.replace("characters", "character") } else { text });
        }
    }
    if schema.get("pattern").is_some() {
        limits.push("no control characters".to_owned());
    }
    if limits.is_empty() { String::new() } else { format!("; {}", limits.join("; ")) }
}

fn code(value: &Value) -> String {
    match value {
        Value::String(text) => format!("`{}`", cell(text)),
        Value::Null => "null".to_owned(),
        other => format!("`{other}`"),
    }
}

fn words(value: &Value) -> String {
    cell(value.as_str().unwrap_or_default())
}

/// Text in a table's cell.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").split_whitespace().collect::<Vec<_>>().join(" ")
}
