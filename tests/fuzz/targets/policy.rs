//! The request policy: what is taken is rebuilt so that it would be taken again unchanged, and holds nothing with which the provider would act on
//! its own. The judge is written from the promise, not from the policy's own lists.

use anchorhold::gateway::readers::{Terms, check, close_seal, parse_json};
use serde_json::{Value, json};

const KEY: &str = "per-job-0123456789abcdef";

pub fn run(data: &[u8]) {
    // A value of the tree takes up to some 80 bytes and may come from two of the text.
    let parsed = super::within(data.len(), 64 << 10, 400, || parse_json(data));
    let ordinary = serde_json::from_slice::<Value>(data);
    match &parsed {
        Ok(value) => assert_eq!(Some(value), ordinary.as_ref().ok(), "two readers, two meanings"),
        Err(fault) => assert!(ordinary.is_err() || !fault.to_string().contains("not valid"), "refused as malformed, and it is not"),
    }
    let Ok(accepted) = super::within(data.len(), 64 << 10, 400, || check(data, &terms())) else { return };
    assert!(parsed.is_ok());
    judge(&accepted.request);
    assert_eq!(accepted.request["model"], json!(accepted.model));
    let text = accepted.request.to_string();
    assert!(text.len() <= data.len() * 6 + 256, "the rebuilt request is much larger");
    // The seal is off what only the provider can read: here it comes on again.
    let mut sealed = accepted.request.clone();
    close(&mut sealed);
    match check(sealed.to_string().as_bytes(), &terms()) {
        Ok(again) => {
            assert!(alike(&again.request, &accepted.request), "rebuilt twice it differs: {text} and {}", again.request);
            assert_eq!(again.additional_tools, accepted.additional_tools);
        }
        Err(refusal) => panic!("what we send is refused: {refusal:?}"),
    }
}

fn close(value: &mut Value) {
    match value {
        Value::Array(list) => list.iter_mut().for_each(close),
        Value::Object(map) => {
            for (key, value) in map {
                match value {
                    Value::String(text) if key == "encrypted_content" => *text = close_seal(KEY, text),
                    _ if FREE.contains(&key.as_str()) => {}
                    _ => close(value),
                }
            }
        }
        _ => {}
    }
}

fn terms() -> Terms<'static> {
    Terms { allowed_models: &[], cache_key: KEY, earlier_keys: &[] }
}

/// The same but for the last digit of a fraction: the reader of numbers is fast, not exact.
fn alike(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| alike(a, b)),
        (Value::Object(a), Value::Object(b)) => a.len() == b.len() && a.iter().zip(b).all(|((k, a), (l, b))| k == l && alike(a, b)),
        (Value::Number(a), Value::Number(b)) if a.is_f64() && b.is_f64() => {
            let (a, b) = (a.as_f64().unwrap_or(0.0), b.as_f64().unwrap_or(0.0));
            (a - b).abs() <= a.abs() * 1e-15
        }
        _ => a == b,
    }
}

/// Fails if a request would make the provider fetch, store, run or look up anything.
pub fn judge(request: &Value) {
    let top = request.as_object().expect("an object");
    assert_eq!(top.get("store"), Some(&json!(false)));
    assert_eq!(top.get("stream"), Some(&json!(true)));
    for key in ["user", "safety_identifier", "prompt_cache_key"] {
        assert!(top.get(key).is_none_or(|v| v == KEY), "{key} is the job's own");
    }
    for key in ["background", "previous_response_id", "conversation", "prompt", "metadata", "client_metadata", "service_tier", "webhook"] {
        assert!(!top.contains_key(key), "{key} passes");
    }
    walk(request);
}

/// Keys whose values describe what Codex's own tools take: words there are data.
const FREE: [&str; 7] = ["parameters", "output_schema", "schema", "arguments", "format", "action", "encrypted_function_args"];
const NEVER: [&str; 12] = [
    "file_id",
    "file_url",
    "file_data",
    "server_url",
    "server_label",
    "vector_store_ids",
    "container",
    "container_id",
    "connector_id",
    "authorization",
    "headers",
    "url",
];
const HOSTED: [&str; 14] = [
    "web_search",
    "web_search_preview",
    "file_search",
    "code_interpreter",
    "mcp",
    "image_generation",
    "computer",
    "computer_use_preview",
    "shell",
    "item_reference",
    "input_file",
    "input_audio",
    "mcp_call",
    "web_search_call",
];

fn walk(value: &Value) {
    match value {
        Value::Array(list) => list.iter().for_each(walk),
        Value::Object(map) => {
            for (key, value) in map {
                assert!(!NEVER.contains(&key.as_str()), "the key {key} passes");
                if key == "type" {
                    assert!(value.as_str().is_none_or(|kind| !HOSTED.contains(&kind)), "the type {value} passes");
                }
                if key == "image_url" {
                    assert!(value.as_str().is_none_or(|url| url.starts_with("data:image/")), "an image from {value}");
                }
                if key == "execution" {
                    assert!(value != "server", "a search at the provider");
                }
                if !FREE.contains(&key.as_str()) {
                    walk(value);
                }
            }
        }
        _ => {}
    }
}

pub fn seeds() -> Vec<Vec<u8>> {
    let sealed = close_seal(KEY, "zzz");
    let documents = [
        json!({
            "model": "gpt-5.5", "stream": true, "tool_choice": "auto", "parallel_tool_calls": true, "reasoning": {"effort": "medium"}, "store": false,
            "include": ["reasoning.encrypted_content"], "prompt_cache_key": "thread", "text": {"verbosity": "low"}, "client_metadata": {"s": "s"},
            "tools": [
                {"type": "function", "name": "exec_command", "description": "", "strict": false, "parameters": {"type": "object", "properties": {"url": {}}}},
                {"type": "custom", "name": "apply_patch", "description": "", "format": {"type": "grammar", "syntax": "lark", "definition": "x"}},
                {"type": "tool_search", "execution": "client", "description": "", "parameters": {}},
                {"type": "namespace", "name": "n", "description": "", "tools": [{"type": "function", "name": "f", "parameters": {}}]}
            ],
            "input": [{"type": "message", "id": "msg_1", "role": "developer", "content": [{"type": "input_text", "text": "see https://example.com"}]}]
        }),
        json!({"model": "m", "input": [
            {"type": "function_call", "name": "exec_command", "arguments": "{}", "call_id": "c1"},
            {"type": "function_call_output", "id": "o", "call_id": "c1", "output": "text"},
            {"type": "custom_tool_call", "call_id": "c2", "name": "apply_patch", "input": "x"},
            {"type": "custom_tool_call_output", "call_id": "c2", "output": [{"type": "input_text", "text": "y"}]},
            {"type": "reasoning", "id": "rs", "summary": [{"type": "summary_text", "text": "t"}], "content": null, "encrypted_content": sealed},
            {"type": "message", "role": "user", "content": [{"type": "input_image", "image_url": "data:image/png;base64,AAAA"}]}
        ]}),
        json!({"model": "m", "user": "u", "metadata": {"a": 1}, "service_tier": "priority", "temperature": 0.5, "top_p": 1, "max_output_tokens": 9,
            "truncation": "auto", "text": {"format": {"type": "json_schema", "name": "n", "schema": {}, "strict": true}},
            "tool_choice": {"type": "function", "name": "f"}, "input": [
            {"type": "additional_tools", "id": "at", "role": "developer", "tools": [{"type": "custom", "name": "exec", "format": {"type": "grammar"}}]},
            {"type": "tool_search_call", "call_id": "c", "execution": "client", "arguments": {"a": 1}},
            {"type": "tool_search_output", "call_id": "c", "execution": "client", "tools": [{"type": "function", "name": "wait"}]},
            {"type": "local_shell_call", "call_id": "l", "action": {"type": "exec", "command": ["ls"]}},
            {"type": "configuration_update", "reasoning": {"effort": "low"}},
            {"type": "compaction", "encrypted_content": sealed}
        ]}),
    ];
    let refused = [
        json!({"model": "m", "input": "x", "tools": [{"type": "web_search"}, {"type": "mcp", "server_url": "http://x"}]}),
        json!({"model": "m", "input": [{"type": "item_reference", "id": "msg"}], "previous_response_id": "r", "store": true}),
    ];
    let twice = br#"{"model":"m","input":"x","store":false,"store":true,"a":{"b":1,"b":2}}"#.to_vec();
    documents.iter().chain(&refused).map(|d| d.to_string().into_bytes()).chain([twice]).collect()
}
