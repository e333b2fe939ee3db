//! The response rebuilder: what leaves it parses as events of the type they say, holds no credential whichever way it is written, and does not hang
//! on how the bytes were divided.

use anchorhold::gateway::readers::{Cut, Reader, Secret};
use serde_json::Value;

/// Starts twice with the same letters, so that a wrong search would miss it.
const KEY: &str = "sk-sk-0123456789ab";
/// The job's, with which it gets what only the provider can read.
const CACHE_KEY: &str = "per-job-0123456789abcdef";

pub fn run(data: &[u8]) {
    let mut source = super::Source(data);
    let how = source.byte();
    let text = source.0;
    let key = Secret::new(KEY.to_owned()).expect("a credential");
    let whole = super::within(data.len(), 64 << 10, 64, || read(&[text], Some(&key)));
    let parts = read(&super::pieces(text, how), Some(&key));
    assert_eq!(whole.0, parts.0, "the division decides how it ends");
    assert_eq!(String::from_utf8_lossy(&whole.1), String::from_utf8_lossy(&parts.1), "the division decides what passes");
    assert_eq!(whole.2, parts.2);
    judge(&whole.1);
    if !text.windows(3).any(|w| w == b"sk-") && !text.contains(&b'\\') {
        assert_ne!(whole.0, Err(Cut::Credential), "cut for a credential that is not there");
    }
    // What passed would pass again, and as it is, but that a seal would be sealed again.
    if String::from_utf8_lossy(&whole.1).contains("encrypted_content") {
        return;
    }
    let again = read(&[&whole.1], Some(&key));
    assert_eq!(again.0, Ok(()), "what we send is refused");
    assert_eq!(String::from_utf8_lossy(&again.1), String::from_utf8_lossy(&whole.1), "rebuilt twice it differs");
}

fn read(pieces: &[&[u8]], key: Option<&Secret>) -> (Result<(), Cut>, Vec<u8>, String) {
    let mut reader = Reader::new(key, CACHE_KEY);
    let mut out = Vec::new();
    let result = pieces.iter().try_for_each(|piece| reader.push(piece, &mut out));
    (result, out, format!("{:?} {:?} {}", reader.end, reader.usage, reader.events))
}

/// Fails on anything that is not a plain sequence of events, or tells the credential.
pub fn judge(out: &[u8]) {
    let text = std::str::from_utf8(out).expect("text");
    assert!(!text.contains('\r'));
    let mut deltas = String::new();
    for block in text.split_terminator("\n\n") {
        let (event, data) = block.split_once('\n').unwrap_or_else(|| panic!("no event: {block:?}"));
        let kind = event.strip_prefix("event: ").unwrap_or_else(|| panic!("no event: {block:?}"));
        let data: Vec<&str> =
            data.split('\n').map(|line| line.strip_prefix("data: ").unwrap_or_else(|| panic!("a line between: {line:?}"))).collect();
        let value: Value = serde_json::from_str(&data.join("\n")).unwrap_or_else(|e| panic!("{e}: {data:?}"));
        assert_eq!(value["type"], *kind, "the two types differ");
        assert!(!value.to_string().contains(KEY) && !tells(&value), "the credential passes");
        deltas.push_str(value["delta"].as_str().unwrap_or_default());
    }
    assert!(out.is_empty() || text.ends_with("\n\n"));
    assert!(!deltas.contains(KEY), "the credential passes in pieces");
}

fn tells(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains(KEY),
        Value::Array(list) => list.iter().any(tells),
        Value::Object(map) => map.iter().any(|(k, v)| k.contains(KEY) || tells(v)),
        _ => false,
    }
}

pub fn seeds() -> Vec<Vec<u8>> {
    let texts = [
        "\x01event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"id\":\"r\"}}\n\n: keep-alive\n\nid: 7\r\nevent: x\r\ndata: {\"type\":\"response.output_text.delta\",\r\ndata: \"delta\":\"h\\u00ed\"}\r\n\r\ndata: {\"type\":\"response.completed\",\"response\":{\"usage\":{\"input_tokens\":10,\"input_tokens_details\":{\"cached_tokens\":2},\"output_tokens\":5,\"output_tokens_details\":{\"reasoning_tokens\":1}}}}\n\ndata: after\n\n",
        "\x09data: {\"type\":\"response.output_text.delta\",\"delta\":\"sk-sk-0123\"}\n\ndata: {\"type\":\"response.output_text.delta\",\"delta\":\"456789ab\"}\n\n",
        "\x02data: {\"type\":\"response.output_text.delta\",\"delta\":\"sk-s\\u006b-0123456789ab\"}\n\n",
        "\x03data: {\"type\":\"response.failed\",\"response\":{\"error\":{\"code\":\"rate_limit_exceeded\",\"message\":\"try again in 1.5s\"}}}\n\n",
        "\x04data: {\"type\":\"error\",\"code\":\"server_error\",\"message\":\"x\"}\n\ndata: [DONE]\n\n",
        "\x05data: {\"type\":\"response.output_item.done\",\"item\":{\"type\":\"function_call\",\"arguments\":\"{}\"}}\n\ndata: {\"type\":\"response.incomplete\",\"response\":{\"usage\":null}}\n\n",
    ];
    texts.map(|text| text.as_bytes().to_vec()).into()
}
