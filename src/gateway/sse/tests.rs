use serde_json::json;

use super::*;
use crate::gateway::seal;

const JOB: &str = "00112233445566778899aabbccddeeff";

const STREAM: &str = "event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"id\":\"r\"}}\n\n: keep-alive\n\nid: 7\r\nevent: x\r\ndata: {\"type\":\"response.output_text.delta\",\r\ndata: \"delta\":\"h\\u00ed\"}\r\n\r\ndata: {\"type\":\"response.completed\",\"response\":{\"id\":\"r\",\"usage\":{\"input_tokens\":10,\"input_tokens_details\":{\"cached_tokens\":2},\"output_tokens\":5,\"output_tokens_details\":{\"reasoning_tokens\":1},\"total_tokens\":15}}}\n\ndata: after\n\n";

fn run(text: &[u8], piece: usize, key: Option<&Secret>) -> (Result<(), Cut>, String, Option<End>, Option<Usage>) {
    let mut reader = Reader::new(key, JOB);
    let mut out = Vec::new();
    let mut result = Ok(());
    for chunk in text.chunks(piece) {
        result = reader.push(chunk, &mut out);
        if result.is_err() {
            break;
        }
    }
    (result, String::from_utf8(out).unwrap(), reader.end.clone(), reader.usage)
}

#[test]
fn events_pass_in_any_division_into_pieces() {
    let expected = "event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"id\":\"r\"}}\n\nevent: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"delta\":\"hí\"}\n\n";
    for piece in 1..STREAM.len() {
        let (result, out, end, usage) = run(STREAM.as_bytes(), piece, None);
        assert_eq!(result, Ok(()));
        assert!(out.starts_with(expected), "{piece}: {out}");
        assert!(out.ends_with("\n\n") && !out.contains("after"));
        assert_eq!(end, Some(End::Done));
        assert_eq!(usage, Some(Usage { input_tokens: 10, cached_input_tokens: 2, output_tokens: 5, reasoning_output_tokens: 1 }));
    }
}

#[test]
fn an_event_passes_before_the_next_one_comes() {
    let mut reader = Reader::new(None, JOB);
    let mut out = Vec::new();
    reader.push(b"data: {\"type\":\"response.created\"}\n", &mut out).unwrap();
    assert!(out.is_empty());
    reader.push(b"\n", &mut out).unwrap();
    assert!(!out.is_empty());
}

#[test]
fn what_is_no_event_is_cut() {
    for bad in [
        "<html>busy</html>\n\n",
        "data: not json\n\n",
        "data: {\"no\":\"type\"}\n\n",
        "data: {\"type\":\"a\\nb\"}\n\n",
        "data: {\"type\":\"x\"}\rdata: {\"type\":\"y\"}\n\n",
        "data: {\"type\":\"response.created\",\"type\":\"response.failed\"}\n\n",
        "eventual: x\n\n",
    ] {
        assert_eq!(run(bad.as_bytes(), 3, None).0, Err(Cut::Garbage), "{bad}");
    }
    assert_eq!(run(b"data: \xff\n\n", 100, None).0, Err(Cut::Garbage));
    assert_eq!(run(&vec![b'x'; MAX_EVENT + 1], 65536, None).0, Err(Cut::TooLarge));
}

#[test]
fn failures_are_written_anew_and_end_the_answer() {
    let text = "data: {\"type\":\"response.failed\",\"response\":{\"error\":{\"code\":\"insufficient_quota\",\"message\":\"org-SECRET\"}}}\n\n";
    let (_, out, end, _) = run(text.as_bytes(), 1000, None);
    assert!(out.contains("insufficient_quota") && !out.contains("SECRET"));
    assert!(matches!(end, Some(End::Failed(f)) if f.error.kind == "quota"));
    let (_, out, end, _) = run(b"data: {\"type\":\"error\",\"code\":\"server_error\",\"message\":\"SECRET\"}\n\n", 1000, None);
    assert!(out.contains("response.failed") && !out.contains("SECRET"));
    assert!(matches!(end, Some(End::Failed(_))));
}

fn line(event: &Value) -> String {
    format!("data: {event}\n\n")
}

fn delta(text: &str) -> String {
    line(&json!({"type": "response.output_text.delta", "item_id": "msg_1", "output_index": 0, "content_index": 0, "delta": text}))
}

/// Events of an answer, rebuilt.
fn rebuilt(events: &[Value]) -> (Vec<Value>, u64) {
    let mut reader = Reader::new(None, JOB);
    let mut out = Vec::new();
    reader.push(events.iter().map(line).collect::<String>().as_bytes(), &mut out).unwrap();
    let text = String::from_utf8(out).unwrap();
    (text.lines().filter_map(|l| l.strip_prefix("data: ")).map(|l| serde_json::from_str(l).unwrap()).collect(), reader.dropped)
}

#[test]
fn what_codex_reads_comes_through() {
    let events = [
        json!({"type": "response.created", "response": {"id": "r", "object": "response", "status": "in_progress"}}),
        json!({"type": "response.output_item.added", "output_index": 0, "item": {"type": "message", "id": "m", "role": "assistant", "status": "in_progress", "content": []}}),
        json!({"type": "response.output_text.delta", "item_id": "m", "output_index": 0, "content_index": 0, "sequence_number": 4, "delta": "\u{202e}\"\n"}),
        json!({"type": "response.output_item.done", "output_index": 0, "item": {"type": "message", "id": "m", "role": "assistant", "phase": "final_answer", "content": [{"type": "output_text", "text": "x"}]}}),
        json!({"type": "response.output_item.done", "item": {"type": "function_call", "id": "f", "name": "exec_command", "arguments": "{\"cmd\":\"ls\"}", "call_id": "c"}}),
        json!({"type": "response.output_item.done", "item": {"type": "custom_tool_call", "id": "f", "name": "apply_patch", "input": "*** Begin", "call_id": "c"}}),
        json!({"type": "response.output_item.done", "item": {"type": "tool_search_call", "call_id": "c", "execution": "client", "arguments": {"query": "q", "limit": 3}}}),
        json!({"type": "response.output_item.done", "item": {"type": "local_shell_call", "call_id": "c", "status": "completed", "action": {"type": "exec", "command": ["ls"], "timeout_ms": 5}}}),
        json!({"type": "response.custom_tool_call_input.delta", "item_id": "f", "call_id": "c", "delta": "*** "}),
        json!({"type": "response.function_call_arguments.done", "item_id": "f", "arguments": "{}"}),
        json!({"type": "response.reasoning_summary_part.added", "item_id": "rs", "summary_index": 0, "part": {"type": "summary_text", "text": ""}}),
        json!({"type": "response.reasoning_summary_text.delta", "item_id": "rs", "summary_index": 0, "delta": "so"}),
        json!({"type": "response.completed", "response": {"id": "r", "status": "completed", "end_turn": true, "usage": {"input_tokens": 3,
            "input_tokens_details": {"cached_tokens": 1, "cache_write_tokens": 0}, "output_tokens": 2, "output_tokens_details": {"reasoning_tokens": 1}, "total_tokens": 5}}}),
    ];
    let (out, dropped) = rebuilt(&events);
    assert_eq!((out.len(), dropped), (events.len(), 0));
    for (event, out) in events.iter().zip(&out) {
        assert_eq!(event, out);
    }
}

#[test]
fn what_codex_does_not_read_stays_outside() {
    let done = |item: Value| json!({"type": "response.output_item.done", "item": item});
    let dropped = [
        json!({"type": "response.web_search_call.searching", "item_id": "ws"}),
        json!({"type": "response.mcp_call.in_progress"}),
        json!({"type": "response.metadata", "headers": {"x": "y"}}),
        json!({"type": "keepalive"}),
        done(json!({"type": "web_search_call", "id": "ws", "action": {"type": "search", "query": "q"}})),
        done(json!({"type": "mcp_call", "name": "f", "arguments": "{}", "output": "x", "server_label": "s"})),
        done(json!({"type": "mcp_approval_request", "id": "a"})),
        done(json!({"type": "code_interpreter_call", "code": "x"})),
        done(json!({"type": "image_generation_call", "result": "AAAA"})),
        done(json!({"type": "computer_call", "action": {}})),
        done(json!({"type": "shell_call", "action": {"commands": ["x"]}})),
        done(json!({"type": "tool_search_call", "execution": "server", "arguments": {}})),
        done(json!({"type": "local_shell_call", "call_id": "c", "action": {"type": "open_page", "url": "u"}})),
        done(json!({"type": "Function_Call", "name": "exec_command"})),
        done(json!("function_call")),
        json!({"type": "response.output_item.done"}),
        json!({"type": "response.content_part.done", "part": {"type": "output_image", "image_url": "https://x"}}),
    ];
    let (out, count) = rebuilt(&dropped);
    assert_eq!((out.as_slice(), count), ([].as_slice(), dropped.len() as u64));
    // Known events keep only their known fields.
    let secret = "SECRET";
    let (out, _) = rebuilt(&[
        json!({"type": "response.created", "response": {"id": "r", "instructions": secret, "prompt_cache_key": secret, "tools": [secret], "user": secret}, "headers": {"a": secret}}),
        json!({"type": "response.output_text.delta", "delta": "x", "logprobs": [secret], "obfuscation": secret}),
        done(json!({"type": "message", "role": "assistant", "secret": secret, "metadata": {"a": secret},
            "content": [{"type": "output_text", "text": "x", "annotations": [{"type": "url_citation", "url": secret}]}, {"type": "output_audio", "data": secret}]})),
        json!({"type": "response.completed", "response": {"id": "r", "metadata": {"a": secret}, "error": secret, "output": [secret],
            "usage": {"input_tokens": 1, "output_tokens": 1, "total_tokens": 2, "cost": secret, "org": 7}}}),
    ]);
    assert_eq!(out.len(), 4);
    assert!(!serde_json::to_string(&out).unwrap().contains(secret), "{out:?}");
    assert!(out[3]["response"]["usage"].get("org").is_none());
}

#[test]
fn what_only_the_provider_reads_is_sealed_for_the_job() {
    let (out, _) = rebuilt(&[
        json!({"type": "response.output_item.done", "item": {"type": "reasoning", "id": "rs", "summary": [], "encrypted_content": "gAAAA"}}),
    ]);
    let sealed = out[0]["item"]["encrypted_content"].as_str().unwrap();
    assert_eq!(seal::open(JOB, sealed), Some(5));
    assert_eq!(seal::open(&JOB.replace('0', "9"), sealed), None);
}

#[test]
fn an_answer_is_bounded() {
    let deep = format!("data: {{\"type\":\"response.output_item.done\",\"item\":{}{}}}\n\n", "[".repeat(100), "]".repeat(100));
    assert_eq!(run(deep.as_bytes(), 1000, None).0, Err(Cut::Garbage));
    let twice = "data: {\"type\":\"response.output_item.done\",\"item\":{\"type\":\"message\",\"type\":\"function_call\"}}\n\n";
    assert_eq!(run(twice.as_bytes(), 1000, None).0, Err(Cut::Garbage));
    let mut reader = Reader::new(None, JOB);
    reader.taken = MAX_ANSWER;
    assert_eq!(reader.push(b":\n\n", &mut Vec::new()), Err(Cut::TooLarge));
    let mut reader = Reader::new(None, JOB);
    reader.dropped = MAX_EVENTS;
    assert_eq!(reader.push(b"data: {\"type\":\"x\"}\n\n", &mut Vec::new()), Err(Cut::TooLarge));
}

#[test]
fn the_credential_never_passes() {
    use base64::Engine as _;
    const KEY: &str = "sk-pr/oj+0123456789-abcdefgh~XYZ";
    let key = Secret::new(KEY.to_owned()).unwrap();
    let base64 = |before: &str| base64::engine::general_purpose::STANDARD.encode(format!("{before}{KEY} after"));
    let escaped: String = KEY.bytes().map(|b| format!("\\u{b:04x}")).collect();
    let percent: String = KEY.bytes().map(|b| format!("%{b:02X}")).collect();
    let item = |item: Value| line(&json!({"type": "response.output_item.done", "item": item}));
    let call = |arguments: &str| item(json!({"type": "function_call", "name": "f", "arguments": arguments, "call_id": "c"}));
    let other = |kind: &str, index: u64, text: &str| line(&json!({"type": kind, "output_index": index, "delta": text}));
    let (left, right) = KEY.split_at(12);
    let single: Vec<String> = KEY.chars().map(|c| delta(&c.to_string())).collect();
    let interleaved: Vec<String> = KEY
        .chars()
        .flat_map(|c| {
            [delta(&c.to_string()), other("response.function_call_arguments.delta", 1, "noise noise"), other("response.reasoning_text.delta", 2, "-")]
        })
        .collect();
    let cases: Vec<(&str, String)> = vec![
        ("plain", delta(&format!("your key {KEY} is"))),
        ("escaped by JSON", format!("data: {{\"type\":\"response.output_text.delta\",\"delta\":\"{escaped}\"}}\n\n")),
        ("escaped twice", call(&format!("{{\"cmd\":\"{escaped}\"}}"))),
        ("escaped once inside", call(&format!("{{\"cmd\":\"echo {}\"}}", KEY.replace('/', "\\u002f").replace('~', "\\u007E")))),
        ("in pieces", [delta(&format!("so {left}")), delta(right)].concat()),
        ("character by character", single.concat()),
        ("interleaved", interleaved.concat()),
        ("over kinds", [delta(left), other("response.reasoning_summary_text.delta", 0, right)].concat()),
        ("over items", [call(left), item(json!({"type": "message", "content": [{"type": "output_text", "text": right}]}))].concat()),
        ("an id", line(&json!({"type": "response.output_text.delta", "item_id": KEY, "delta": "x"}))),
        ("an item's id", item(json!({"type": "message", "id": KEY}))),
        ("an object's key", item(json!({"type": "tool_search_call", "execution": "client", "arguments": {KEY: 1}}))),
        ("deep in arguments", item(json!({"type": "tool_search_call", "execution": "client", "arguments": {"a": [[{"b": KEY}]]}}))),
        ("a tool's input", item(json!({"type": "custom_tool_call", "name": "apply_patch", "input": format!("+{KEY}")}))),
        ("a command", item(json!({"type": "local_shell_call", "action": {"type": "exec", "command": ["echo", KEY]}}))),
        ("reasoning", item(json!({"type": "reasoning", "summary": [{"type": "summary_text", "text": KEY}]}))),
        ("the end", line(&json!({"type": "response.completed", "response": {"id": KEY, "usage": {}}}))),
        ("base64", delta(&base64(""))),
        ("base64, 1", delta(&base64("x"))),
        ("base64, 2", delta(&base64("xy"))),
        (
            "base64 of a header in pieces",
            base64("Authorization: Bearer ").as_bytes().chunks(7).map(|c| delta(std::str::from_utf8(c).unwrap())).collect(),
        ),
        ("base64url", delta(&base64("").replace('+', "-").replace('/', "_"))),
        ("hex", delta(&crate::protocol::manifest::hex(KEY.as_bytes()))),
        ("HEX", delta(&crate::protocol::manifest::hex(KEY.as_bytes()).to_uppercase())),
        ("URL", delta(&percent)),
        ("URL, what must be", delta(&KEY.replace('/', "%2f").replace('+', "%2B"))),
        ("URL in pieces", percent.as_bytes().chunks(5).map(|c| delta(std::str::from_utf8(c).unwrap())).collect()),
    ];
    for (what, text) in cases {
        for piece in [7, text.len()] {
            let (result, out, ..) = run(text.as_bytes(), piece, Some(&key));
            assert_eq!(result, Err(Cut::Credential), "{what}");
            assert!(!out.contains(KEY), "{what}: {out}");
        }
        // The same without a credential to look for: it is the guard that cuts.
        assert_eq!(run(text.as_bytes(), 1000, None).0, Ok(()), "{what}");
    }
    // What is like it and is not it.
    for text in [delta(left), delta(&KEY[1..]), [delta(left), delta("é"), delta(right)].concat(), delta(&base64("")[..30])] {
        assert_eq!(run(text.as_bytes(), 7, Some(&key)).0, Ok(()), "{text}");
    }
}

#[test]
fn a_field_that_is_not_passed_on_may_hold_anything() {
    let key = Secret::new("sk-0123456789".to_owned()).unwrap();
    let (result, out, ..) =
        run(b"data: {\"type\":\"response.created\",\"sk-0123456789\":1,\"response\":{\"user\":\"sk-0123456789\"}}\n\n", 7, Some(&key));
    assert_eq!(result, Ok(()));
    assert!(out.contains("response.created") && !out.contains("6789"), "{out}");
}

proptest::proptest! {
    /// Whatever the provider sends: no panic, the same outcome in any division, and nothing out that is not an event with a plain type.
    #[test]
    fn hostile_answers(text in "(data: |event: |: |\\{\"type\":\"|response\\.failed|error|a\\.b|\"|\\}|\n|\r\n|\r|\n\n|[a-z]|é|\\\\u00){0,40}", piece in 1usize..9) {
        let whole = run(text.as_bytes(), text.len().max(1), None);
        let pieces = run(text.as_bytes(), piece, None);
        proptest::prop_assert_eq!(&whole.0, &pieces.0);
        proptest::prop_assert_eq!(&whole.1, &pieces.1);
        for event in whole.1.split_terminator("\n\n") {
            proptest::prop_assert!(event.starts_with("event: ") && event.contains("\ndata: "), "{}", event);
        }
    }
}
