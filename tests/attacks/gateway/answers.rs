//! G17: what the provider's answers may say to a job.

use serde_json::{Value, json};

use super::found;
use super::provider::{self, completed, created, delta, event, item};
use super::rig::{Rig, Terms, good};
use crate::case::Verdict;

/// Whether this word reaches the job when these events carry it. The stream's end follows them.
fn reaches(rig: &Rig, word: &str, events: String) -> bool {
    let job = rig.job_answered(&Terms::default(), move |n, _, stream| {
        if n == 0 { provider::answer(stream, &(created() + &events + &completed(1, 1))) } else { provider::say(stream, "done") }.map(|()| true)
    });
    let answer = rig.ask(&job, &good());
    assert_eq!(rig.arrived(&job).len(), 1, "the request did not arrive: {answer:?}");
    rig.must_serve(&job);
    answer.text().contains(word)
}

fn none_reaches(rig: &Rig, all: impl IntoIterator<Item = (String, String)>) -> Verdict {
    let mut tried = 0;
    for (name, events) in all {
        tried += 1;
        if reaches(rig, "planted", events) {
            return Verdict::Breached(format!("{name} reached the job"));
        }
    }
    assert!(reaches(rig, "planted", delta("planted")), "what may come through does");
    Verdict::Blocked(format!("none of {tried} came through"))
}

fn none_of_these_events(rig: &Rig, all: &[Value]) -> Verdict {
    none_reaches(rig, all.iter().map(|data| (data["type"].to_string(), event(data))))
}

/// Events of no kind that Codex knows.
pub fn unknown_events(rig: &Rig) -> Verdict {
    none_of_these_events(
        rig,
        &[
            json!({"type": "response.planted", "text": "planted"}),
            json!({"type": "planted", "delta": "planted"}),
            json!({"type": "session.created", "session": {"instructions": "planted"}}),
            json!({"type": "codex.command", "command": "planted"}),
            json!({"type": "response.mcp_call.completed", "item_id": "planted"}),
            json!({"type": "response.web_search_call.searching", "item_id": "planted"}),
            json!({"type": "response.image_generation_call.partial_image", "partial_image_b64": "planted"}),
            json!({"type": "response.audio.delta", "delta": "planted"}),
        ],
    )
}

/// Calls of tools that the provider runs, which the request cannot have asked for.
pub fn hosted_calls(rig: &Rig) -> Verdict {
    let items = [
        json!({"type": "web_search_call", "id": "planted", "status": "completed", "action": {"type": "open_page", "url": "http://planted/"}}),
        json!({"type": "mcp_call", "id": "planted", "server_label": "x", "name": "planted", "arguments": "{}"}),
        json!({"type": "mcp_approval_request", "id": "planted", "server_label": "x", "name": "planted", "arguments": "{}"}),
        json!({"type": "mcp_list_tools", "server_label": "planted", "tools": []}),
        json!({"type": "code_interpreter_call", "id": "planted", "container_id": "c", "code": "planted"}),
        json!({"type": "image_generation_call", "id": "planted", "result": "planted"}),
        json!({"type": "computer_call", "id": "planted", "call_id": "c", "action": {"type": "type", "text": "planted"}}),
        json!({"type": "planted_call", "text": "planted"}),
        json!({"text": "planted"}),
        json!("planted"),
    ];
    none_reaches(rig, items.iter().map(|call| (call["type"].to_string(), item(call))))
}

/// Fields that stand in no list, beside those that do.
pub fn unknown_fields(rig: &Rig) -> Verdict {
    none_reaches(
        rig,
        [
            (
                "of an event".to_owned(),
                event(&json!({"type": "response.output_text.delta", "item_id": "m", "delta": "x", "obfuscation": "planted", "planted": 1})),
            ),
            (
                "of a response".to_owned(),
                event(
                    &json!({"type": "response.in_progress", "response": {"id": "r", "instructions": "planted", "metadata": {"a": "planted"}, "user": "planted"}}),
                ),
            ),
        ],
    )
}

/// What is no event: another reader might take it for one.
pub fn not_events(rig: &Rig) -> Verdict {
    none_reaches(
        rig,
        [
            ("a comment", ": planted\n\n".to_owned()),
            ("an id", format!("id: planted\n{}", delta("x"))),
            ("a retry time", format!("retry: 1\nid: planted\n{}", delta("x"))),
            ("an event's name", "event: planted\ndata: {\"type\":\"response.output_text.delta\",\"item_id\":\"m\",\"delta\":\"x\"}\n\n".to_owned()),
            ("a line of its own", "planted\n\n".to_owned()),
            ("HTML", "<html>planted</html>\n\n".to_owned()),
            ("data that is no JSON", "data: planted\n\n".to_owned()),
            ("data without a type", "data: {\"planted\":1}\n\n".to_owned()),
            ("a type with a line in it", "data: {\"type\":\"a\\nplanted\"}\n\n".to_owned()),
            ("a type twice", "data: {\"type\":\"response.created\",\"type\":\"planted\"}\n\n".to_owned()),
            ("a lone carriage return", "data: {\"type\":\"response.in_progress\"}\rdata: planted\n\n".to_owned()),
            ("behind the end", format!("{}{}", completed(1, 1), delta("planted"))),
        ]
        .map(|(name, events)| (name.to_owned(), events)),
    )
}

/// An answer of another kind than a stream of events.
pub fn other_answers(rig: &Rig) -> Verdict {
    for kind in ["application/json", "text/html", "text/plain", "", "application/octet-stream", "text/event-streams"] {
        let job = rig.job_answered(&Terms::default(), move |n, _, stream| {
            if n > 0 {
                return provider::say(stream, "done").map(|()| true);
            }
            let body = delta("planted");
            let head = format!("HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            std::io::Write::write_all(stream, head.as_bytes()).map(|()| true)
        });
        let answer = rig.ask(&job, &good());
        assert_eq!(rig.arrived(&job).len(), 1, "{kind}: the request did not arrive: {answer:?}");
        if answer.text().contains("planted") {
            return Verdict::Breached(format!("{kind:?} reached the job"));
        }
        rig.must_serve(&job);
    }
    Verdict::Blocked("6 kinds of body were cut off".into())
}

/// An event that is too large is cut at a bound, not collected and passed on.
pub fn huge_events(rig: &Rig) -> Verdict {
    const MIB: usize = 1 << 20;
    let job = rig.job_answered(&Terms::default(), move |n, _, stream| {
        if n > 0 {
            return provider::say(stream, "done").map(|()| true);
        }
        provider::stream_head(stream, "")?;
        provider::chunk(stream, "data: {\"type\":\"response.output_text.delta\",\"delta\":\"planted")?;
        let piece = "a".repeat(MIB);
        for _ in 0..24 {
            provider::chunk(stream, &piece)?;
        }
        provider::chunk(stream, "\"}\n\n")?;
        provider::chunk(stream, &completed(1, 1)).map(|()| false)
    });
    let answer = rig.ask(&job, &good());
    let (memory, bytes) = (rig.memory("VmHWM"), answer.bytes.len());
    rig.must_serve(&job);
    let finding = (memory > 150 || bytes > 10 * MIB).then(|| format!("{memory} MiB resident, {bytes} bytes came through"));
    found(finding, format!("cut off; at most {memory} MiB resident"))
}
