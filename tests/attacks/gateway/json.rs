//! G16: documents that two readers would read differently, and documents that cost more than their text.

use serde_json::json;

use super::rig::{Rig, Terms, good, post, post_with};
use super::{no_body_arrives, none_arrives};
use crate::case::Verdict;

/// The beginning of a good request, to which more is added.
const OPEN: &str = r#"{"model":"gpt-5.5","stream":true"#;

pub fn duplicate_keys(rig: &Rig) -> Verdict {
    no_body_arrives(
        rig,
        [
            ("the input twice", format!(r#"{OPEN},"input":"a","input":[{{"type":"item_reference","id":"x"}}]}}"#)),
            ("the tools twice", format!(r#"{OPEN},"input":"a","tools":[],"tools":[{{"type":"web_search"}}]}}"#)),
            ("the type twice", format!(r#"{OPEN},"input":"a","tools":[{{"type":"web_search","type":"function","name":"f"}}]}}"#)),
            ("the type twice, the other way", format!(r#"{OPEN},"input":"a","tools":[{{"type":"function","name":"f","type":"web_search"}}]}}"#)),
            ("written with an escape", format!(r#"{OPEN},"input":"a","\u0069nput":"b"}}"#)),
            ("the model twice", format!(r#"{OPEN},"model":"o3-pro","input":"a"}}"#)),
            ("deep in a schema", format!(r#"{OPEN},"input":"a","tools":[{{"type":"function","name":"f","parameters":{{"a":{{"b":1,"b":2}}}}}}]}}"#)),
        ],
    )
}

pub fn malformed(rig: &Rig) -> Verdict {
    let good = good().to_string();
    let bytes = |text: &[u8]| [OPEN.as_bytes(), b",\"input\":\"", text, b"\"}"].concat();
    let bad: Vec<(&str, Vec<u8>)> = vec![
        ("nothing", Vec::new()),
        ("two documents", format!("{good}{good}").into_bytes()),
        ("something behind it", format!("{good} x").into_bytes()),
        ("NUL behind it", format!("{good}\0").into_bytes()),
        ("a byte order mark", [b"\xef\xbb\xbf", good.as_bytes()].concat()),
        ("UTF-16", good.encode_utf16().flat_map(u16::to_le_bytes).collect()),
        ("a byte that is no UTF-8", bytes(b"\xff")),
        ("an overlong slash", bytes(b"\xc0\xaf")),
        ("a surrogate in UTF-8", bytes(b"\xed\xa0\x80")),
        ("half a character", bytes(b"\xe2\x82")),
        ("beyond the last character", bytes(b"\xf4\x90\x80\x80")),
        ("half a surrogate pair", bytes(br"\ud800")),
        ("a raw control character", bytes(b"\x01")),
        ("an escape that is none", bytes(br"\x41")),
        ("a comma too many", format!(r#"{OPEN},"input":"a",}}"#).into_bytes()),
        ("a comment", format!(r#"{OPEN},/* */"input":"a"}}"#).into_bytes()),
        ("single quotes", good.replace('"', "'").into_bytes()),
        ("NaN", format!(r#"{OPEN},"input":"a","temperature":NaN}}"#).into_bytes()),
        ("a number that is none", format!(r#"{OPEN},"input":"a","temperature":1e99999}}"#).into_bytes()),
        ("a leading zero", format!(r#"{OPEN},"input":"a","temperature":01}}"#).into_bytes()),
        ("cut off", good.as_bytes()[..good.len() - 1].to_vec()),
    ];
    let attempts: Vec<(String, Vec<u8>)> = bad.into_iter().map(|(name, body)| (name.to_owned(), post(&body))).collect();
    none_arrives(rig, &Terms::default(), &attempts)
}

pub fn no_object(rig: &Rig) -> Verdict {
    no_body_arrives(rig, [("an array", json!([good()])), ("text", json!("x")), ("null", json!(null)), ("a number", json!(7)), ("true", json!(true))])
}

pub fn depth(rig: &Rig) -> Verdict {
    let nested = |depth: usize, open: &str, close: &str| {
        let schema = format!("{}1{}", open.repeat(depth), close.repeat(depth));
        format!(r#"{OPEN},"input":"a","tools":[{{"type":"function","name":"f","parameters":{schema}}}]}}"#)
    };
    no_body_arrives(
        rig,
        [
            ("70 arrays", nested(70, "[", "]")),
            ("100 objects", nested(100, r#"{"a":"#, "}")),
            ("120 arrays", nested(120, "[", "]")),
            ("100 000 arrays", nested(100_000, "[", "]")),
            ("a million arrays that never close", format!(r#"{OPEN},"input":{}"#, "[".repeat(1_000_000))),
        ],
    )
}

/// Small texts that become large trees.
pub fn values(rig: &Rig) -> Verdict {
    let list = |n: usize, value: &str| {
        let all = vec![value; n].join(",");
        format!(r#"{OPEN},"input":"a","tools":[{{"type":"function","name":"f","parameters":{{"type":"object","enum":[{all}]}}}}]}}"#)
    };
    no_body_arrives(
        rig,
        [("half a million numbers", list(500_000, "1")), ("two million numbers", list(2_000_000, "1")), ("a million objects", list(1_000_000, "{}"))],
    )
}

/// Bodies over the limit, announced or not.
pub fn size(rig: &Rig) -> Verdict {
    let body = format!(r#"{OPEN},"input":"{}"}}"#, "a".repeat(9 << 20));
    let chunked =
        "POST /v1/responses HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n";
    let pieces: String =
        body.as_bytes().chunks(1 << 20).map(|piece| format!("{:x}\r\n{}\r\n", piece.len(), String::from_utf8_lossy(piece))).collect();
    let attempts =
        vec![("announced".to_owned(), post_with("", body.as_bytes())), ("in chunks".to_owned(), format!("{chunked}{pieces}0\r\n\r\n").into_bytes())];
    none_arrives(rig, &Terms::default(), &attempts)
}

/// A request without what makes it one.
pub fn without_input(rig: &Rig) -> Verdict {
    let mut body = good();
    body.as_object_mut().expect("an object").shift_remove("input");
    no_body_arrives(rig, [("no input", body)])
}
