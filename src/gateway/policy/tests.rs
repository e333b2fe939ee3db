use serde_json::json;

use super::*;

const KEY: &str = "0123456789abcdef";

fn verdict(value: &Value) -> Result<Value, &'static str> {
    check(value.to_string().as_bytes(), &Terms { allowed_models: &[], cache_key: KEY, earlier_keys: &[] }).map(|a| a.request).map_err(|r| r.code)
}

/// A request as Codex sends it, in the form for a model without code mode.
fn plain() -> Value {
    let mut request = plain_request();
    // Pictures, found tools and other agents, as three further runs of Codex sent them.
    let further = json!([{"type": "function_call_output", "call_id": "c3", "output": [{"type": "input_image", "image_url": "data:image/png;base64,AA+/", "detail": "high"}]},
            {"type": "tool_search_call", "call_id": "c4", "execution": "client", "arguments": {"query": "agent", "limit": 3}},
            {"type": "tool_search_output", "call_id": "c4", "status": "completed", "execution": "client", "tools": [{"type": "namespace", "name": "multi_agent_v1",
                "description": "", "tools": [{"type": "function", "name": "spawn_agent", "description": "", "strict": false, "defer_loading": true,
                    "parameters": {"type": "object", "properties": {"$ref": {"type": "string"}}, "required": [], "additionalProperties": false}}]}]},
            {"type": "function_call", "name": "spawn_agent", "namespace": "multi_agent_v1", "arguments": "{}", "call_id": "c5"},
            {"type": "message", "role": "assistant", "phase": "final_answer", "content": [{"type": "output_text", "text": "done"}]}]);
    request["input"].as_array_mut().unwrap().extend(further.as_array().unwrap().clone());
    request
}

fn plain_request() -> Value {
    json!({
        "model": "gpt-5.5", "stream": true, "tool_choice": "auto", "parallel_tool_calls": true, "reasoning": {"effort": "medium"}, "store": false,
        "include": ["reasoning.encrypted_content"], "prompt_cache_key": "thread", "text": {"verbosity": "low"},
        "client_metadata": {"session_id": "s"},
        "tools": [
            {"type": "function", "name": "exec_command", "description": "", "strict": false, "parameters": {"type": "object", "properties": {"url": {}}}},
            {"type": "custom", "name": "apply_patch", "description": "", "format": {"type": "grammar", "syntax": "lark", "definition": "x"}},
            {"type": "tool_search", "execution": "client", "description": "", "parameters": {}},
            {"type": "namespace", "name": "multi_agent_v1", "description": "", "tools": [{"type": "function", "name": "f", "parameters": {}}]}
        ],
        "input": [
            {"type": "message", "id": "msg_1", "role": "developer", "content": [{"type": "input_text", "text": "see https://example.com"}]},
            {"type": "function_call", "name": "exec_command", "arguments": "{}", "call_id": "c1"},
            {"type": "function_call_output", "id": "o", "call_id": "c1", "output": "text"},
            {"type": "custom_tool_call", "call_id": "c2", "name": "apply_patch", "input": "x"},
            {"type": "custom_tool_call_output", "call_id": "c2", "output": [{"type": "input_text", "text": "y"}]},
            {"type": "reasoning", "id": "rs", "summary": [{"type": "summary_text", "text": "t"}], "content": null, "encrypted_content": seal::close(KEY, "zzz")},
            {"type": "message", "role": "user", "content": [{"type": "input_image", "image_url": "data:image/png;base64,AAAA"}]}
        ]
    })
}

fn code_mode() -> Value {
    json!({
        "model": "gpt-5.6-sol", "stream": true, "store": false, "reasoning": {"effort": "low", "context": "all_turns"},
        "input": [
            {"type": "additional_tools", "id": "at", "role": "developer", "tools": [
                {"type": "namespace", "name": "functions", "description": "", "tools": [
                    {"type": "custom", "name": "exec", "description": "", "format": {"type": "grammar"}}, {"type": "function", "name": "wait"}]}]},
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "task"}]}
        ]
    })
}

#[test]
fn what_codex_sends_passes_and_is_rebuilt() {
    let rebuilt = verdict(&plain()).unwrap();
    let mut expected = plain();
    expected["prompt_cache_key"] = json!(KEY);
    expected.as_object_mut().unwrap().shift_remove("client_metadata");
    for item in expected["input"].as_array_mut().unwrap() {
        item.as_object_mut().unwrap().shift_remove("id");
    }
    expected["input"][5]["encrypted_content"] = json!("zzz");
    assert_eq!(rebuilt, expected);
    let accepted = check(code_mode().to_string().as_bytes(), &Terms { allowed_models: &[], cache_key: KEY, earlier_keys: &[] }).unwrap();
    assert!(accepted.additional_tools);
    assert_eq!(accepted.model, "gpt-5.6-sol");
}

/// What Codex makes of `--output-schema`: seen in a request of Codex 0.169.
#[test]
fn the_form_of_a_review_passes_as_codex_sends_it() {
    let mut request = plain();
    request["text"] = json!({"verbosity": "low", "format": {"type": "json_schema", "strict": true, "schema": crate::review::schema::document(), "name": "codex_output_schema"}});
    let rebuilt = verdict(&request).unwrap();
    assert_eq!(rebuilt["text"], request["text"]);
    for (pointer, value, code) in [
        ("/text/format/schema", json!({"$ref": "https://evil.example/schema"}), "schema_ref"),
        ("/text/format/schema", json!("https://evil.example/schema"), "malformed"),
        ("/text/format/name", json!("a b"), "malformed"),
        ("/text/format/type", json!("grammar"), "malformed"),
    ] {
        let mut request = request.clone();
        *request.pointer_mut(pointer).unwrap() = value;
        assert_eq!(verdict(&request), Err(code), "{pointer}");
    }
}

#[test]
fn streaming_is_forced_on_and_storing_off() {
    let mut request = plain();
    request["stream"] = json!(false);
    request["store"] = json!(true);
    request["service_tier"] = json!("priority");
    request["metadata"] = json!({"leak": "x"});
    request["user"] = json!("somebody");
    let rebuilt = verdict(&request).unwrap();
    assert_eq!(rebuilt["stream"], json!(true));
    assert_eq!(rebuilt["store"], json!(false));
    assert_eq!(rebuilt["user"], json!(KEY));
    assert!(rebuilt.get("service_tier").is_none() && rebuilt.get("metadata").is_none());
}

/// Each row changes one thing in a good request; the code says which rule refused it.
#[test]
fn the_policy_table() {
    let image = |url: &str| json!([{"type": "message", "role": "user", "content": [{"type": "input_image", "image_url": url}]}]);
    let rows: Vec<(&str, Value, &str)> = vec![
        ("/previous_response_id", json!("resp_1"), "stored_state"),
        ("/conversation", json!("conv_1"), "stored_state"),
        ("/prompt", json!({"id": "pmpt_1"}), "stored_state"),
        ("/background", json!(true), "stored_state"),
        ("/webhook", json!("https://evil.example"), "unknown_key"),
        ("/container", json!("c"), "unknown_key"),
        ("/include", json!(["file_search_call.results"]), "include"),
        ("/reasoning", json!({"effort": {"x": 1}}), "malformed"),
        ("/text", json!({"format": {"type": "json_schema", "url": "x"}}), "malformed"),
        ("/tool_choice", json!({"type": "mcp", "server_label": "x"}), "tool_choice"),
        ("/tools", json!([{"type": "web_search"}]), "hosted_tool"),
        ("/tools", json!([{"type": "web_search_preview"}]), "hosted_tool"),
        ("/tools", json!([{"type": "file_search", "vector_store_ids": ["v"]}]), "hosted_tool"),
        ("/tools", json!([{"type": "code_interpreter", "container": {"type": "auto"}}]), "hosted_tool"),
        ("/tools", json!([{"type": "mcp", "server_url": "http://169.254.169.254"}]), "hosted_tool"),
        ("/tools", json!([{"type": "image_generation"}]), "hosted_tool"),
        ("/tools", json!([{"type": "computer_use_preview"}]), "hosted_tool"),
        ("/tools", json!([{"type": "shell", "environment": {}}]), "hosted_tool"),
        ("/tools", json!([{"type": "tool_search", "execution": "server"}]), "hosted_tool"),
        ("/tools", json!([{"type": "tool_search"}]), "hosted_tool"),
        ("/tools", json!([{"type": "function", "name": "f", "server_url": "x"}]), "tool_key"),
        ("/tools", json!([{"type": "namespace", "name": "n", "tools": [{"type": "mcp"}]}]), "hosted_tool"),
        ("/tools", json!([{"type": "namespace", "name": "n", "tools": [{"type": "namespace", "tools": []}]}]), "hosted_tool"),
        ("/tools", json!({"type": "function"}), "malformed"),
        ("/input", json!([{"type": "item_reference", "id": "msg_of_another_job"}]), "input_kind"),
        ("/input", json!([{"type": "web_search_call"}]), "input_kind"),
        ("/input", json!([{"type": "mcp_approval_response"}]), "input_kind"),
        ("/input", json!([{"type": 7}]), "input_kind"),
        ("/input", json!([{"type": "message", "role": "user", "content": "x", "file_id": "f"}]), "input_key"),
        ("/input", json!([{"type": "additional_tools", "tools": [{"type": "web_search"}]}]), "hosted_tool"),
        ("/input", json!([{"type": "tool_search_output", "execution": "client", "tools": [{"type": "mcp"}]}]), "hosted_tool"),
        ("/input", json!([{"type": "message", "content": [{"type": "input_file", "file_url": "https://x"}]}]), "content_kind"),
        ("/input", json!([{"type": "message", "content": [{"type": "input_image", "file_id": "f"}]}]), "content_key"),
        ("/input", json!([{"type": "function_call_output", "output": [{"type": "input_image", "image_url": "https://x/a.png"}]}]), "remote_content"),
        ("/input", image("https://evil.example/a.png"), "remote_content"),
        ("/input", image("DATA:text/html,x"), "remote_content"),
        ("/input", json!([["x"]]), "malformed"),
        ("/input", json!({"type": "message"}), "malformed"),
        ("/model", json!("../etc"), "model"),
        ("/model", json!("a b"), "model"),
        ("/model", json!(""), "model"),
        ("/model", json!(["gpt-5.5"]), "model"),
        ("/model", json!("x".repeat(129)), "model"),
        ("/max_output_tokens", json!(-1), "malformed"),
        ("/truncation", json!("all"), "malformed"),
        ("/instructions", json!(["x"]), "malformed"),
        ("/reasoning", json!({"effort": "HIGH "}), "malformed"),
        ("/reasoning", json!({"effort": "x".repeat(33)}), "too_long"),
        ("/text", json!({"format": {"type": "json_schema", "schema": {"$ref": "https://evil.example/s.json"}}}), "schema_ref"),
        (
            "/text",
            json!({"format": {"type": "json_schema", "schema": {"properties": {"a": {"items": [{"$dynamicRef": "file:///etc"}]}}}}}),
            "schema_ref",
        ),
        ("/text", json!({"format": {"type": "json_schema", "schema": {"$schema": "https://evil.example/draft"}}}), "schema_ref"),
        ("/text", json!({"format": {"type": "grammar"}}), "malformed"),
        ("/tool_choice", json!({"type": "allowed_tools", "tools": [{"type": "web_search"}]}), "tool_choice"),
        ("/tool_choice", json!({"type": "hosted", "name": "x"}), "tool_choice"),
        ("/tool_choice", json!("web_search"), "tool_choice"),
        ("/tools", json!([{"type": "Web_Search"}]), "hosted_tool"),
        ("/tools", json!([{"type": " function"}]), "hosted_tool"),
        ("/tools", json!([{"type": "functi\u{043e}n", "name": "f"}]), "hosted_tool"),
        ("/tools", json!([{"type": ["function"]}]), "hosted_tool"),
        ("/tools", json!([{}]), "hosted_tool"),
        ("/tools", json!([{"type": "web_search_2025_08_26"}]), "hosted_tool"),
        ("/tools", json!([{"type": "function", "name": "f", "parameters": {"$ref": "http://169.254.169.254/"}}]), "schema_ref"),
        ("/tools", json!([{"type": "function", "name": "f", "parameters": "http://x"}]), "malformed"),
        ("/tools", json!([{"type": "function", "name": "f\n"}]), "malformed"),
        ("/tools", json!([{"type": "function", "name": "f".repeat(300)}]), "too_long"),
        ("/tools", json!([{"type": "function", "name": "f", "description": "x".repeat(200_000)}]), "too_long"),
        ("/tools", json!([{"type": "custom", "name": "f", "format": {"type": "grammar", "url": "x"}}]), "malformed"),
        ("/tools", json!([{"type": "namespace", "name": "n", "tools": [{"type": "function", "name": "f", "server_url": "x"}]}]), "tool_key"),
        ("/tools", Value::Array(vec![json!({"type": "local_shell"}); 1025]), "too_many"),
        ("/input", Value::Array(vec![json!({"type": "message", "role": "user", "content": "x"}); 20_001]), "too_many"),
        ("/input", json!([{"type": "message", "role": "user", "content": vec![json!({"type": "input_text", "text": ""}); 50_001]}]), "too_many"),
        ("/input", json!([{"type": "message", "role": "tool", "content": "x"}]), "malformed"),
        ("/input", json!([{"type": "tool_search_call", "execution": "server", "call_id": "c", "arguments": {}}]), "hosted_call"),
        ("/input", json!([{"type": "local_shell_call", "call_id": "c", "action": {"type": "open_page", "url": "https://x"}}]), "hosted_call"),
        (
            "/input",
            json!([{"type": "local_shell_call", "call_id": "c", "action": {"type": "exec", "command": ["a"], "container": "c"}}]),
            "malformed",
        ),
        ("/input", json!([{"type": "function_call", "call_id": "c", "name": "f", "arguments": {"x": 1}}]), "malformed"),
        ("/input", json!([{"type": "function_call", "call_id": "c\u{0}", "name": "f", "arguments": ""}]), "malformed"),
        ("/input", json!([{"type": "reasoning", "summary": [], "encrypted_content": "gAAAA-of-another-job"}]), "sealed"),
        ("/input", json!([{"type": "reasoning", "summary": [], "encrypted_content": seal::close("another job's", "gAAAA")}]), "sealed"),
        ("/input", json!([{"type": "compaction", "encrypted_content": "gAAAA"}]), "sealed"),
        ("/input", json!([{"type": "message", "role": "user", "content": [{"type": "input_audio", "data": ""}]}]), "content_kind"),
        ("/input", json!([{"type": "message", "role": "user", "content": [{"type": "input_text", "text": {"url": "x"}}]}]), "malformed"),
        (
            "/input",
            json!([{"type": "message", "role": "user", "content": [{"type": "output_text", "text": "", "annotations": [{"type": "file_citation"}]}]}]),
            "content_key",
        ),
        ("/input", image("data:image/svg+xml;base64,AAAA"), "remote_content"),
        ("/input", image("data:image/png;base64,AAAA#https://x"), "remote_content"),
        ("/input", image("data:image/png,AAAA"), "remote_content"),
        ("/input", image(" data:image/png;base64,AAAA"), "remote_content"),
        ("/input", image("//evil.example/a.png"), "remote_content"),
        ("/input", json!([{"type": "message", "role": "user", "content": [{"type": "input_image", "detail": "low"}]}]), "remote_content"),
    ];
    for (pointer, value, code) in rows {
        let mut request = plain();
        request.as_object_mut().unwrap().insert(pointer[1..].to_owned(), value.clone());
        assert_eq!(verdict(&request).unwrap_err(), code, "{pointer} = {value}");
    }
    for (missing, code) in [("model", "model"), ("input", "malformed")] {
        let mut request = plain();
        request.as_object_mut().unwrap().shift_remove(missing);
        assert_eq!(verdict(&request).unwrap_err(), code);
    }
}

#[test]
fn a_body_that_can_be_read_in_two_ways_is_not_read() {
    let deep = format!(r#"{{"model":"m","input":"x","tools":{}{}}}"#, "[".repeat(64), "]".repeat(64));
    for (body, code) in [
        (b"[]".as_slice(), "not_an_object"),
        (br#"{"model":"a","model":"b"}"#, "duplicate_key"),
        (br#"{"model":"a","input":[{"type":"message","t\u0079pe":"item_reference"}]}"#, "duplicate_key"),
        (br#"{"model":"a","stor\u0065":true,"store":false}"#, "duplicate_key"),
        (b"\xef\xbb\xbf{}", "malformed_json"),
        (b"{} {}", "malformed_json"),
        (b"{}\0", "malformed_json"),
        (b"{\"model\":\"\xc0\xae\"}", "malformed_json"),
        (br#"{"model":"\ud800"}"#, "malformed_json"),
        (b"{'model':1}", "malformed_json"),
        (b"{\"a\":1,}", "malformed_json"),
        (b"{\"temperature\":1e999}", "malformed_json"),
        (b"{\"temperature\":+1}", "malformed_json"),
        (b"{\"m\":\"\n\"}", "malformed_json"),
        (b"", "malformed_json"),
        (deep.as_bytes(), "json_too_deep"),
    ] {
        let refused = check(body, &Terms { allowed_models: &[], cache_key: KEY, earlier_keys: &[] }).unwrap_err();
        assert_eq!(refused.code, code, "{}", String::from_utf8_lossy(body));
    }
}

#[test]
fn what_the_job_may_not_choose_is_forced_and_noted() {
    let accepted = |change: fn(&mut Value)| {
        let mut request = json!({"model": "m", "input": [{"type": "message", "role": "user", "content": "x"}]});
        change(&mut request);
        check(request.to_string().as_bytes(), &Terms { allowed_models: &[], cache_key: KEY, earlier_keys: &[] }).unwrap()
    };
    let bare = accepted(|_| {});
    assert_eq!(bare.request["prompt_cache_key"], KEY, "a cache that is shared tells what others asked");
    assert!(bare.forced.is_empty() && bare.request.get("user").is_none());
    let all = accepted(|request| {
        request["store"] = json!(true);
        request["stream"] = json!(false);
        request["prompt_cache_key"] = json!({"any": "thing"});
        request["safety_identifier"] = json!("s");
        request["client_metadata"] = json!({"a": "b"});
        request["stream_options"] = json!({"include_obfuscation": true});
        request["input"][0]["id"] = json!("msg_of_another_job");
        request["input"][0]["metadata"] = json!({"a": "b"});
    });
    let forced = ["service_tier", "metadata", "item_id", "user", "stream", "store"];
    assert!(forced.iter().all(|f| all.forced.contains(f)) && all.forced.len() == forced.len(), "{:?}", all.forced);
    let expected = json!({"model": "m", "input": [{"type": "message", "role": "user", "content": "x"}], "store": false, "stream": true,
        "prompt_cache_key": KEY, "safety_identifier": KEY});
    assert_eq!(all.request, expected);
}

/// A rule that is named nowhere in the table could not be taken away, and its mutation would be missing.
#[test]
fn every_refusal_is_in_the_table_and_every_rule_is_used() {
    let sources = [include_str!("mod.rs"), include_str!("forms.rs"), include_str!("tools.rs"), include_str!("input.rs")].concat();
    let mut used: Vec<&str> = sources
        .split("refuse(\"")
        .skip(1)
        .map(|rest| rest.split('"').next().unwrap())
        .chain(["json_too_deep", "json_too_large", "duplicate_key"])
        .collect();
    used.sort_unstable();
    used.dedup();
    let mut listed: Vec<&str> = rules::RULES.iter().map(|rule| rule.code).collect();
    listed.sort_unstable();
    assert_eq!(used, listed);
}

#[test]
fn only_listed_models_where_there_is_a_list() {
    let allowed = ["gpt-5.5".to_owned()];
    assert!(model_allowed("gpt-5.5", &allowed));
    for other in [
        "gpt-5.5-pro",
        "gpt-5",
        "GPT-5.5",
        "gpt-5.5 ",
        " gpt-5.5",
        "gpt-5.5\n",
        "gpt-5.5\0",
        "gpt\u{2010}5.5",
        "g\u{200b}pt-5.5",
        "ｇpt-5.5",
        "gpt-5.5/",
        "",
    ] {
        assert!(!model_allowed(other, &allowed), "{other:?}");
        let mut request = plain();
        request["model"] = json!(other);
        let refused = check(request.to_string().as_bytes(), &Terms { allowed_models: &allowed, cache_key: KEY, earlier_keys: &[] }).unwrap_err();
        assert_eq!(refused.code, "model", "{other:?}");
    }
    assert!(model_allowed("vendor/model-1.0:free", &[]));
}

#[test]
fn a_refusal_repeats_little_of_the_request() {
    let mut request = plain();
    request.as_object_mut().unwrap().insert("k\u{202e}\n".to_owned() + &"y".repeat(500), json!(1));
    let refusal = check(request.to_string().as_bytes(), &Terms { allowed_models: &[], cache_key: KEY, earlier_keys: &[] }).unwrap_err();
    assert!(refusal.message.len() < 120 && refusal.message.is_ascii(), "{refusal:?}");
}

proptest::proptest! {
    /// Changes anywhere in a good request: no panic, and what passes still has everything forced that is forced.
    #[test]
    fn hostile_requests(at in 0usize..2000, bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..6), cut in 0usize..4) {
        let mut text = plain().to_string().into_bytes();
        let at = at.min(text.len());
        text.splice(at..(at + cut).min(text.len()), bytes);
        if let Ok(accepted) = check(&text, &Terms { allowed_models: &[], cache_key: KEY, earlier_keys: &[] }) {
            proptest::prop_assert_eq!(&accepted.request["store"], &json!(false));
            proptest::prop_assert_eq!(&accepted.request["stream"], &json!(true));
            proptest::prop_assert!(accepted.request.get("prompt_cache_key").is_none_or(|k| k == KEY));
            proptest::prop_assert!(well_formed_model(&accepted.model));
        }
    }
}

#[test]
fn a_continued_job_gives_back_what_its_predecessors_were_given_and_nothing_else() {
    let earlier = ["key of the first".to_owned(), "key of the second".to_owned()];
    let with = |sealed: String| {
        let request = json!({"model": "m", "input": [{"type": "reasoning", "summary": [], "encrypted_content": sealed}]}).to_string();
        let terms = Terms { allowed_models: &[], cache_key: KEY, earlier_keys: &earlier };
        check(request.as_bytes(), &terms).map(|accepted| accepted.request["input"][0]["encrypted_content"].clone()).map_err(|refusal| refusal.code)
    };
    for key in [KEY, &earlier[0], &earlier[1]] {
        assert_eq!(with(seal::close(key, "gAAAA")), Ok(json!("gAAAA")), "{key}");
    }
    assert_eq!(with(seal::close("key of somebody else", "gAAAA")), Err("sealed"));
    assert_eq!(with("gAAAA".to_owned()), Err("sealed"));
}
