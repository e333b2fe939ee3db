//! G06 to G10: what the body of a request can ask the provider to do.

use serde_json::{Value, json};

use super::rig::{Rig, Terms, good, post, with};
use super::{found, no_body_arrives, none_arrives};
use crate::case::Verdict;

/// A message with this part.
fn message(part: &Value) -> Value {
    json!([{"type": "message", "role": "user", "content": [part]}])
}

/// Tools that the provider would run, in all the places where a tool can be declared.
pub fn hosted_tools(rig: &Rig) -> Verdict {
    let hosted = [
        json!({"type": "web_search"}),
        json!({"type": "web_search", "external_web_access": true}),
        json!({"type": "web_search_preview"}),
        json!({"type": "web_search_preview_2025_03_11"}),
        json!({"type": "web_search_2025_08_26"}),
        json!({"type": "file_search", "vector_store_ids": ["vs_1"]}),
        json!({"type": "code_interpreter", "container": {"type": "auto"}}),
        json!({"type": "image_generation"}),
        json!({"type": "computer_use_preview", "environment": "browser", "display_width": 1, "display_height": 1}),
        json!({"type": "computer"}),
        json!({"type": "mcp", "server_label": "x", "server_url": "http://169.254.169.254/"}),
        json!({"type": "mcp", "server_label": "x", "connector_id": "connector_dropbox"}),
        json!({"type": "shell", "environment": {"type": "container_auto"}}),
        json!({"type": "apply_patch"}),
        json!({"type": "programmatic_tool_calling"}),
        json!({"type": "Web_Search"}),
        json!({"type": "WEB_SEARCH"}),
        json!({"type": " web_search"}),
        json!({"type": "web_search "}),
        json!({"type": "web\u{5f}search\u{200b}"}),
        json!({"type": "function\u{0}web_search"}),
        json!({"type": ["web_search"]}),
        json!({"type": {"web_search": 1}}),
        json!({"type": null}),
        json!({"name": "web_search"}),
        json!({}),
        json!({"type": "tool_search"}),
        json!({"type": "tool_search", "execution": "server"}),
        json!({"type": "tool_search", "execution": "Client"}),
    ];
    let mut bodies = Vec::new();
    for tool in &hosted {
        bodies.push((format!("{tool}"), with("tools", json!([tool]))));
    }
    for tool in hosted.iter().take(12) {
        let function = json!({"type": "function", "name": "f", "parameters": {}});
        let nested = json!([{"type": "namespace", "name": "n", "description": "", "tools": [function, tool]}]);
        bodies.push((format!("in a namespace: {tool}"), with("tools", nested.clone())));
        bodies.push((format!("behind another: {tool}"), with("tools", json!([function, tool]))));
        let declared = json!([{"type": "additional_tools", "role": "developer", "tools": [tool]}, {"role": "user", "content": "x"}]);
        bodies.push((format!("declared by an item: {tool}"), with("input", declared)));
        bodies.push((
            format!("in a namespace of an item: {tool}"),
            with("input", json!([{"type": "additional_tools", "role": "developer", "tools": nested}])),
        ));
        let searched = json!([{"type": "tool_search_output", "call_id": "c", "execution": "client", "tools": [tool]}]);
        bodies.push((format!("found by a search: {tool}"), with("input", searched)));
    }
    no_body_arrives(rig, bodies)
}

/// Keys with which a tool that Codex runs would become one that the provider runs, or tells it more than its form.
pub fn tool_keys(rig: &Rig) -> Verdict {
    let extra = [
        ("server_url", json!("http://169.254.169.254/")),
        ("connector_id", json!("connector_dropbox")),
        ("headers", json!({"Authorization": "x"})),
        ("authorization", json!("x")),
        ("vector_store_ids", json!(["vs_1"])),
        ("container", json!({"type": "auto"})),
        ("file_ids", json!(["file_1"])),
        ("allowed_callers", json!(["programmatic"])),
        ("require_approval", json!("never")),
        ("environment", json!({"type": "container_auto"})),
        ("Type", json!("web_search")),
    ];
    no_body_arrives(
        rig,
        extra.iter().flat_map(|(key, value)| {
            ["function", "custom", "local_shell", "tool_search"].map(|kind| {
                let mut tool = match kind {
                    "local_shell" => json!({"type": kind}),
                    "tool_search" => json!({"type": kind, "execution": "client", "description": "", "parameters": {}}),
                    _ => json!({"type": kind, "name": "f"}),
                };
                tool[*key] = value.clone();
                (format!("{key} of {kind}"), with("tools", json!([tool])))
            })
        }),
    )
}

/// A choice of a tool that stands in no list of ours.
pub fn tool_choice(rig: &Rig) -> Verdict {
    let choices = [
        json!({"type": "web_search"}),
        json!({"type": "web_search_preview"}),
        json!({"type": "mcp", "server_label": "x"}),
        json!({"type": "file_search"}),
        json!({"type": "code_interpreter"}),
        json!({"type": "image_generation"}),
        json!({"type": "hosted_tool"}),
        json!({"type": "allowed_tools", "mode": "auto", "tools": [{"type": "web_search"}]}),
        json!({"type": "function", "name": "f", "server_url": "http://x"}),
        json!({"type": "function", "name": {"type": "web_search"}}),
        json!("web_search"),
        json!(["web_search"]),
    ];
    no_body_arrives(rig, choices.map(|choice| (choice.to_string(), with("tool_choice", choice))))
}

/// What is no image in the request itself.
pub fn remote_images(rig: &Rig) -> Verdict {
    let urls = [
        "http://169.254.169.254/latest/meta-data/",
        "https://planted.example/?q=secret",
        "HTTPS://planted.example/",
        "//planted.example/x.png",
        "ftp://planted.example/x.png",
        "file:///etc/passwd",
        "gs://bucket/x",
        "s3://bucket/x",
        "sediment://file_1",
        "data:text/html,<img src=http://planted.example>",
        "data:application/pdf;base64,AAAA",
        "Data:image/png;base64,AAAA",
        " data:image/png;base64,AAAA",
        "blob:https://planted.example/1",
        "",
    ];
    let mut bodies: Vec<(String, Value)> = Vec::new();
    for url in urls {
        let part = json!({"type": "input_image", "image_url": url});
        bodies.push((format!("in a message: {url}"), with("input", message(&part))));
    }
    let part = json!({"type": "input_image", "image_url": "https://planted.example/"});
    for kind in ["function_call_output", "custom_tool_call_output", "local_shell_call_output"] {
        bodies.push((format!("in a {kind}"), with("input", json!([{"type": kind, "call_id": "c", "output": [part]}]))));
    }
    bodies.push(("without a URL".into(), with("input", message(&json!({"type": "input_image"})))));
    bodies.push(("without a type of item".into(), with("input", json!([{"role": "user", "content": [part]}]))));
    bodies.push(("in reasoning".into(), with("input", json!([{"type": "reasoning", "summary": [], "content": [part]}]))));
    no_body_arrives(rig, bodies)
}

/// Files that the provider keeps, and parts of other kinds.
pub fn files(rig: &Rig) -> Verdict {
    let parts = [
        json!({"type": "input_file", "file_id": "file_1"}),
        json!({"type": "input_file", "file_url": "http://169.254.169.254/"}),
        json!({"type": "input_file", "filename": "a.pdf", "file_data": "data:application/pdf;base64,AAAA"}),
        json!({"type": "Input_File", "file_id": "file_1"}),
        json!({"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}),
        json!({"type": "input_video", "video_url": "http://planted.example/"}),
        json!({"type": "image_url", "image_url": {"url": "http://planted.example/"}}),
        json!({"type": "computer_screenshot", "image_url": "http://planted.example/"}),
        json!({"type": "file_reference", "file_id": "file_1"}),
        json!({"file_id": "file_1"}),
    ];
    no_body_arrives(rig, parts.map(|part| (part.to_string(), with("input", message(&part)))))
}

/// Keys of an allowed part that name something elsewhere.
pub fn part_keys(rig: &Rig) -> Verdict {
    let image = "data:image/png;base64,AAAA";
    let parts = [
        json!({"type": "input_image", "image_url": image, "file_id": "file_1"}),
        json!({"type": "input_image", "image_url": image, "url": "http://planted.example/"}),
        json!({"type": "input_image", "image_url": image, "FILE_ID": "file_1"}),
        json!({"type": "input_text", "text": "x", "file_id": "file_1"}),
        json!({"type": "input_text", "text": "x", "image_url": "http://planted.example/"}),
        json!({"type": "input_text", "text": "x", "cache_control": {"type": "ephemeral"}}),
        json!({"type": "output_text", "text": "x", "annotations": [{"type": "file_citation", "file_id": "file_1", "index": 0}]}),
        json!({"type": "output_text", "text": "x", "annotations": [{"type": "url_citation", "url": "http://planted.example/"}]}),
    ];
    no_body_arrives(rig, parts.map(|part| (part.to_string(), with("input", message(&part)))))
}

/// Stored state of other responses, and work that goes on without the job.
pub fn stored_state(rig: &Rig) -> Verdict {
    let asked = [
        ("previous_response_id", json!("resp_of_another_job")),
        ("conversation", json!("conv_of_another_job")),
        ("conversation", json!({"id": "conv_of_another_job"})),
        ("prompt", json!({"id": "pmpt_1", "variables": {}})),
        ("background", json!(true)),
        ("background", json!("true")),
        ("background", json!(1)),
    ];
    no_body_arrives(rig, asked.map(|(key, value)| (format!("{key}: {value}"), with(key, value))))
}

/// Whatever a job says about storing and streaming, the provider is told ours.
pub fn storing(rig: &Rig) -> Verdict {
    let job = rig.job(&Terms::default());
    for (key, value) in [
        ("store", json!(true)),
        ("store", json!(null)),
        ("store", json!("false")),
        ("store", json!({"a": 1})),
        ("stream", json!(false)),
        ("stream", json!("x")),
        ("background", json!(false)),
        ("background", json!(null)),
    ] {
        rig.ask(&job, &with(key, value));
    }
    rig.must_serve(&job);
    let arrived = rig.arrived(&job);
    let bad = arrived
        .iter()
        .map(super::provider::Arrived::json)
        .find(|b| b["store"] != json!(false) || b["stream"] != json!(true) || b["background"] == json!(true));
    found(bad.map(|b| b.to_string()), format!("{} requests arrived, none of them stored", arrived.len()))
}

/// Items that stand for something that the provider keeps, or for calls of its own tools.
pub fn item_kinds(rig: &Rig) -> Verdict {
    let items = [
        json!({"type": "item_reference", "id": "msg_of_another_job"}),
        json!({"type": "file_search_call", "id": "fs_1", "queries": ["x"], "status": "completed"}),
        json!({"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {"type": "open_page", "url": "http://planted.example/"}}),
        json!({"type": "computer_call_output", "call_id": "c", "output": {"type": "computer_screenshot", "file_id": "file_1"}}),
        json!({"type": "code_interpreter_call", "id": "ci_1", "container_id": "cntr_1", "code": "x"}),
        json!({"type": "image_generation_call", "id": "ig_1", "result": "x"}),
        json!({"type": "mcp_list_tools", "server_label": "x", "tools": []}),
        json!({"type": "mcp_approval_response", "approval_request_id": "x", "approve": true}),
        json!({"type": "mcp_call", "server_label": "x", "name": "x", "arguments": "{}"}),
        json!({"type": "shell_call", "action": {"commands": ["x"]}}),
        json!({"type": "Item_Reference", "id": "msg_1"}),
        json!({"type": null, "id": "msg_1"}),
        json!({"type": 7}),
    ];
    no_body_arrives(rig, items.map(|item| (item.to_string(), with("input", json!([item])))))
}

/// Keys of an allowed item that name something elsewhere.
pub fn item_keys(rig: &Rig) -> Verdict {
    let items = [
        json!({"type": "message", "role": "user", "content": "x", "file_id": "file_1"}),
        json!({"type": "message", "role": "user", "content": "x", "conversation": "conv_1"}),
        json!({"type": "message", "role": "user", "content": "x", "attachments": [{"file_id": "file_1"}]}),
        json!({"type": "function_call_output", "call_id": "c", "output": "x", "server_url": "http://planted.example/"}),
        json!({"type": "reasoning", "summary": [], "previous_response_id": "resp_1"}),
        json!({"type": "additional_tools", "tools": [], "server_url": "http://planted.example/"}),
        json!({"type": "compaction", "encrypted_content": "x", "created_by": "x"}),
    ];
    no_body_arrives(rig, items.map(|item| (item.to_string(), with("input", json!([item])))))
}

/// Values of another form than Codex sends, in which something could hide.
pub fn forms(rig: &Rig) -> Verdict {
    let changed = [
        ("instructions", json!([{"type": "item_reference", "id": "x"}])),
        ("instructions", json!({"file_id": "file_1"})),
        ("input", json!(7)),
        ("input", json!({"type": "item_reference", "id": "x"})),
        ("input", json!(["text"])),
        ("input", json!([{"role": "user", "content": {"type": "input_file", "file_id": "file_1"}}])),
        ("input", json!([{"role": "user", "content": ["text"]}])),
        ("input", json!([{"role": "user", "content": [{"type": "input_text", "text": {"file_id": "file_1"}}]}])),
        ("input", json!([{"role": {"file_id": "file_1"}, "content": "x"}])),
        ("input", json!([{"type": "function_call", "call_id": "c", "name": "f", "arguments": {"file_id": "file_1"}}])),
        ("input", json!([{"type": "local_shell_call", "call_id": "c", "action": {"type": "open_page", "url": "http://planted.example/"}}])),
        ("tools", json!({"type": "web_search"})),
        ("tools", json!(["web_search"])),
        ("tools", json!("web_search")),
        ("parallel_tool_calls", json!({"a": 1})),
        ("reasoning", json!({"effort": {"file_id": "file_1"}})),
        ("reasoning", json!({"generate_summary": "x"})),
        ("reasoning", json!([])),
        ("text", json!({"format": {"type": "json_schema", "file_id": "file_1"}})),
        ("text", json!({"format": {"type": "grammar"}})),
        ("text", json!({"verbosity": {"a": 1}})),
        ("text", json!({"other": 1})),
        ("truncation", json!("x")),
        ("temperature", json!("x")),
        ("max_output_tokens", json!("many")),
        ("max_output_tokens", json!(-1)),
        ("max_output_tokens", json!(1e300)),
    ];
    no_body_arrives(rig, changed.map(|(key, value)| (format!("{key}: {value}"), with(key, value))))
}

pub fn includes(rig: &Rig) -> Verdict {
    let lists = [
        json!(["web_search_call.action.sources"]),
        json!(["file_search_call.results"]),
        json!(["code_interpreter_call.outputs"]),
        json!(["computer_call_output.output.image_url"]),
        json!(["message.input_image.image_url"]),
        json!(["message.output_text.logprobs"]),
        json!(["reasoning.encrypted_content", "file_search_call.results"]),
        json!("file_search_call.results"),
        json!([["file_search_call.results"]]),
        json!({"file_search_call.results": true}),
    ];
    no_body_arrives(rig, lists.map(|list| (list.to_string(), with("include", list))))
}

/// Keys that no list of ours names.
pub fn unknown_keys(rig: &Rig) -> Verdict {
    let keys = [
        "webhook",
        "webhook_url",
        "callback",
        "container",
        "containers",
        "file_ids",
        "vector_store_ids",
        "messages",
        "functions",
        "modalities",
        "audio",
        "n",
        "logit_bias",
        "extra_body",
        "mcp_servers",
        "hosted_tools",
        "Tools",
        "TOOLS",
        "tools ",
        "\u{200b}tools",
        "tools\u{0}",
        "previous_Response_id",
        "Conversation",
        "store ",
        "moderation",
        "context_management",
        "prompt_cache_retention",
        "max_tool_calls",
        "top_logprobs",
        "",
    ];
    no_body_arrives(rig, keys.map(|key| (format!("{key:?}"), with(key, json!([{"type": "web_search"}])))))
}

pub fn models(rig: &Rig) -> Verdict {
    let terms = Terms { models: vec!["gpt-5.5"], ..Terms::default() };
    let names = [
        json!("gpt-5.5-pro"),
        json!("gpt-5"),
        json!("gpt-5.50"),
        json!("GPT-5.5"),
        json!("Gpt-5.5"),
        json!(" gpt-5.5"),
        json!("gpt-5.5 "),
        json!("gpt-5.5\n"),
        json!("gpt-5.5\u{0}"),
        json!("gpt\u{2010}5.5"),
        json!("gpt-5\u{ff0e}5"),
        json!("g\u{440}t-5.5"),
        json!("gpt-5.5\u{200b}"),
        json!("openai/gpt-5.5"),
        json!("ft:gpt-5.5:org::x"),
        json!("gpt-5.5,o3"),
        json!(""),
        json!(["gpt-5.5"]),
        json!({"id": "gpt-5.5"}),
        json!(null),
    ];
    let attempts: Vec<(String, Vec<u8>)> =
        names.iter().map(|name| (name.to_string(), post(with("model", name.clone()).to_string().as_bytes()))).collect();
    let mut without = good();
    without.as_object_mut().expect("an object").shift_remove("model");
    let without = ("no model".to_owned(), post(without.to_string().as_bytes()));
    none_arrives(rig, &terms, &[attempts, vec![without]].concat())
}

/// Without a list a name must still be a name, not a path or a sentence.
pub fn model_names(rig: &Rig) -> Verdict {
    let names = [" gpt-5.5", "gpt 5.5", "../files", "gpt-5.5?x=1", "gpt-5.5\r\nX: y", "g\u{440}t-5.5", "-x", "gpt-5.5\u{0}", &"x".repeat(129), ""];
    no_body_arrives(rig, names.map(|name| (format!("{name:?}"), with("model", name))))
}

/// Calls that say that the provider, not Codex, ran them.
pub fn hosted_calls(rig: &Rig) -> Verdict {
    let items = [
        json!({"type": "tool_search_call", "call_id": "c", "execution": "server", "arguments": {"query": "x"}}),
        json!({"type": "tool_search_call", "call_id": "c", "execution": null, "arguments": {}}),
        json!({"type": "tool_search_output", "call_id": "c", "execution": "server", "tools": []}),
        json!({"type": "local_shell_call", "call_id": "c", "action": {"type": "open_page", "url": "http://planted.example/"}}),
        json!({"type": "local_shell_call", "call_id": "c", "action": {"type": "Exec", "command": ["x"]}}),
    ];
    no_body_arrives(rig, items.map(|item| (item.to_string(), with("input", json!([item])))))
}

/// An item's id may be looked up in place of the item itself.
pub fn item_ids(rig: &Rig) -> Verdict {
    let job = rig.job(&Terms::default());
    for item in [
        json!({"type": "message", "id": "msg_planted", "role": "user", "content": "x"}),
        json!({"type": "reasoning", "id": "rs_planted", "summary": []}),
        json!({"type": "function_call", "id": "fc_planted", "call_id": "c", "name": "f", "arguments": "{}"}),
        json!({"type": "compaction", "id": "cmp_planted"}),
        json!({"id": "msg_planted", "role": "user", "content": "x"}),
    ] {
        rig.ask(&job, &with("input", json!([item])));
    }
    rig.must_serve(&job);
    let arrived = rig.arrived(&job);
    found(
        arrived.iter().find(|a| a.holds("planted")).map(|a| super::excerpt(&a.body)),
        format!("{} requests arrived, none with an id", arrived.len()),
    )
}

/// A schema that has its reader fetch another document.
pub fn schema_references(rig: &Rig) -> Verdict {
    let schemas = [
        json!({"$ref": "http://169.254.169.254/latest"}),
        json!({"$ref": "https://planted.example/schema.json"}),
        json!({"$ref": "file:///etc/passwd"}),
        json!({"$ref": "other.json"}),
        json!({"$id": "https://planted.example/"}),
        json!({"$schema": "https://planted.example/"}),
        json!({"$dynamicRef": "https://planted.example/"}),
        json!({"properties": {"a": {"items": [{"$ref": "https://planted.example/"}]}}}),
    ];
    let mut bodies = Vec::new();
    for schema in schemas {
        bodies.push((format!("of a tool: {schema}"), with("tools", json!([{"type": "function", "name": "f", "parameters": schema}]))));
        bodies.push((format!("of the answer: {schema}"), with("text", json!({"format": {"type": "json_schema", "name": "n", "schema": schema}}))));
    }
    no_body_arrives(rig, bodies)
}

/// More of everything than any conversation has.
pub fn too_many(rig: &Rig) -> Verdict {
    let tool = json!({"type": "local_shell"});
    let part = json!({"type": "input_text", "text": ""});
    let item = json!({"role": "user", "content": ""});
    no_body_arrives(
        rig,
        [
            ("2000 tools", with("tools", vec![tool.clone(); 2000])),
            ("tools in namespaces", with("tools", vec![json!({"type": "namespace", "name": "n", "description": "", "tools": vec![tool; 100]}); 50])),
            ("30 000 items", with("input", vec![item; 30_000])),
            ("60 000 parts", with("input", vec![json!({"role": "user", "content": vec![part; 600]}); 100])),
        ],
    )
}

/// Names that are texts.
pub fn too_long(rig: &Rig) -> Verdict {
    let long = "x".repeat(300);
    let longer = "x".repeat(200_000);
    no_body_arrives(
        rig,
        [
            ("a tool's name", with("tools", json!([{"type": "function", "name": long, "parameters": {}}]))),
            ("a tool's description", with("tools", json!([{"type": "function", "name": "f", "description": longer, "parameters": {}}]))),
            ("a call's id", with("input", json!([{"type": "function_call", "call_id": long, "name": "f", "arguments": "{}"}]))),
            ("an effort", with("reasoning", json!({"effort": long}))),
            ("a phase", with("input", json!([{"role": "user", "content": "x", "phase": long}]))),
        ],
    )
}

/// What tells the provider's records who asks is ours, and random for each job.
pub fn identity(rig: &Rig) -> Verdict {
    let mut seen: Vec<(String, String)> = Vec::new();
    for key in ["prompt_cache_key", "user", "safety_identifier"] {
        for _ in 0..2 {
            let job = rig.job(&Terms::default());
            rig.ask(&job, &with(key, "planted"));
            rig.ask(&job, &with(key, json!({"planted": ["planted"]})));
            let arrived = rig.arrived(&job);
            assert!(!arrived.is_empty(), "{key}: nothing arrived");
            for request in arrived {
                let told = request.json()[key].to_string();
                if request.holds("planted") || request.holds(&job.id) || seen.iter().any(|(other, theirs)| *theirs == told && *other != job.id) {
                    return Verdict::Breached(format!("{key}: {told}"));
                }
                seen.push((job.id.clone(), told));
            }
        }
    }
    Verdict::Blocked(format!("{} requests, each with its job's random word", seen.len()))
}

/// What a job would leave in the provider's records, or buy there, is dropped.
pub fn metadata(rig: &Rig) -> Verdict {
    let job = rig.job(&Terms::default());
    let mut sent = 0;
    for (key, value) in [
        ("metadata", json!({"planted": "planted"})),
        ("metadata", json!("planted")),
        ("client_metadata", json!({"session": "planted"})),
        ("input", json!([{"role": "user", "content": "x", "metadata": {"planted": 1}}])),
        ("input", json!([{"role": "user", "content": "x", "internal_chat_message_metadata_passthrough": {"planted": 1}}])),
    ] {
        sent += 1;
        rig.ask(&job, &with(key, value));
    }
    rig.must_serve(&job);
    let arrived = rig.arrived(&job);
    let bad = arrived.iter().find(|a| a.holds("planted") || a.holds("metadata"));
    found(bad.map(|a| super::excerpt(&a.body)), format!("{sent} were sent, {} arrived without it", arrived.len()))
}

/// Wishes about the service that cost more, or change what is sent back.
pub fn service(rig: &Rig) -> Verdict {
    let job = rig.job(&Terms::default());
    for (key, value) in [
        ("service_tier", json!("priority")),
        ("service_tier", json!({"planted": 1})),
        ("stream_options", json!({"include_obfuscation": false})),
        ("stream_options", json!("planted")),
    ] {
        rig.ask(&job, &with(key, value));
    }
    rig.must_serve(&job);
    let arrived = rig.arrived(&job);
    let bad = arrived.iter().find(|a| ["planted", "priority", "service_tier", "stream_options"].iter().any(|word| a.holds(word)));
    found(bad.map(|a| super::excerpt(&a.body)), format!("{} requests arrived without one", arrived.len()))
}
