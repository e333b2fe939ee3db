//! G12 and G15: the credential, and what in a job looks like one.

use std::path::Path;

use serde_json::{Value, json};

use super::provider::{self, completed, created, delta, event, item};
use super::rig::{Job, Rig, Terms, good, post, post_with, preamble};
use super::{found, served};
use crate::case::Verdict;

/// What a job could put together from an answer: its bytes, and each kind of text that comes in pieces, joined.
fn readable(answer: &str) -> String {
    let mut all = answer.to_owned();
    let mut joined = String::new();
    for line in answer.lines().filter_map(|line| line.strip_prefix("data: ")) {
        let Ok(event) = serde_json::from_str::<Value>(line) else { continue };
        if let Some(piece) = event["delta"].as_str() {
            joined.push_str(piece);
        }
        // Escapes are undone by writing it anew.
        all.push_str(&event.to_string());
    }
    all + &joined
}

/// A name, and how the provider tells this key.
type Way = (&'static str, fn(&str) -> String);

/// Sends a request for each way of telling the key; the finding if one reaches the job.
fn told(rig: &Rig, ways: &[Way]) -> Verdict {
    for (name, way) in ways {
        let job = rig.job(&Terms::default());
        let events = way(&job.key);
        rig.provider.script(&job.tag, move |n, _, stream| {
            if n == 0 { provider::answer(stream, &events) } else { provider::say(stream, "done") }.map(|()| true)
        });
        let answer = rig.ask(&job, &good());
        assert_eq!(rig.arrived(&job).len(), 1, "{name}: the request did not arrive: {answer:?}");
        if readable(&answer.text()).contains(&job.key) {
            return Verdict::Breached(format!("{name}: the job read its provider's key"));
        }
        rig.must_serve(&job);
    }
    Verdict::Blocked(format!("{} ways of telling it were cut off", ways.len()))
}

pub fn in_an_answer(rig: &Rig) -> Verdict {
    told(
        rig,
        &[
            ("in a text", |key| created() + &delta(&format!("it is {key}!")) + &completed(1, 1)),
            ("in an item", |key| {
                created()
                    + &item(&json!({"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": key}]}))
                    + &completed(1, 1)
            }),
            ("as arguments", |key| {
                created()
                    + &item(&json!({"type": "function_call", "call_id": "c", "name": "f", "arguments": json!({"k": key}).to_string()}))
                    + &completed(1, 1)
            }),
            ("in the first event", |key| {
                event(&json!({"type": "response.created", "response": {"id": "resp_1", "instructions": key}})) + &completed(1, 1)
            }),
            ("in the last event", |key| {
                created()
                    + &event(
                        &json!({"type": "response.completed", "response": {"id": format!("resp_{key}"), "usage": {"input_tokens": 1, "output_tokens": 1}}}),
                    )
            }),
        ],
    )
}

/// The key as the name of a field or of an event, in a comment, an id: what is not rebuilt would carry it.
pub fn beside_an_answer(rig: &Rig) -> Verdict {
    told(
        rig,
        &[
            ("as a name", |key| {
                let mut named = json!({"type": "response.created", "response": {"id": "resp_1"}});
                named["response"][key] = json!(1);
                event(&named) + &completed(1, 1)
            }),
            ("in a comment", |key| format!(": {key}\n\n") + &created() + &completed(1, 1)),
            ("as an event's id", |key| format!("id: {key}\n") + &created() + &completed(1, 1)),
            ("as an event's name", |key| {
                format!("event: {key}\ndata: {{\"type\":\"response.created\",\"response\":{{\"id\":\"r\"}}}}\n\n") + &completed(1, 1)
            }),
            ("as a type", |key| format!("event: x\ndata: {{\"type\":\"{key}\"}}\n\n") + &completed(1, 1)),
            ("after the end", |key| created() + &completed(1, 1) + &delta(key)),
        ],
    )
}

pub fn escaped(rig: &Rig) -> Verdict {
    fn escapes(text: &str, upper: bool) -> String {
        text.bytes().map(|b| if upper { format!("\\u{b:04X}") } else { format!("\\u{b:04x}") }).collect()
    }
    fn framed(text: &str) -> String {
        format!("event: response.output_text.delta\ndata: {{\"type\":\"response.output_text.delta\",\"item_id\":\"m\",\"delta\":\"{text}\"}}\n\n")
    }
    told(
        rig,
        &[
            ("all by escapes", |key| created() + &framed(&escapes(key, false)) + &completed(1, 1)),
            ("all by upper-case escapes", |key| created() + &framed(&escapes(key, true)) + &completed(1, 1)),
            ("one by an escape", |key| created() + &framed(&format!("{}{}", escapes(&key[..1], false), &key[1..])) + &completed(1, 1)),
            ("in a name", |key| {
                let name = escapes(key, false);
                format!("event: response.created\ndata: {{\"type\":\"response.created\",\"response\":{{\"id\":\"r\",\"{name}\":1}}}}\n\n")
                    + &completed(1, 1)
            }),
            ("over two data lines", |key| {
                created()
                    + &format!("data: {{\"type\":\"response.output_text.delta\",\"item_id\":\"m\",\ndata: \"delta\":\"{key}\"}}\n\n")
                    + &completed(1, 1)
            }),
        ],
    )
}

pub fn in_pieces(rig: &Rig) -> Verdict {
    told(
        rig,
        &[
            ("in halves", |key| created() + &delta(&key[..key.len() / 2]) + &delta(&key[key.len() / 2..]) + &completed(1, 1)),
            ("letter by letter", |key| created() + &key.chars().map(|c| delta(&c.to_string())).collect::<String>() + &completed(1, 1)),
            ("with other events between", |key| {
                let idle = event(&json!({"type": "response.in_progress", "response": {"id": "resp_1"}}));
                created() + &delta(&key[..9]) + &idle + &delta(&key[9..]) + &completed(1, 1)
            }),
            ("in pieces of arguments", |key| {
                let piece = |text: &str| {
                    event(&json!({"type": "response.function_call_arguments.delta", "item_id": "fc_1", "output_index": 0, "delta": text}))
                };
                created() + &piece(&key[..9]) + &piece(&key[9..]) + &completed(1, 1)
            }),
            ("in escaped pieces", |key| {
                let first: String = key[..9].bytes().map(|b| format!("\\u{b:04x}")).collect();
                let piece = format!("data: {{\"type\":\"response.output_text.delta\",\"item_id\":\"m\",\"delta\":\"{first}\"}}\n\n");
                created() + &piece + &delta(&key[9..]) + &completed(1, 1)
            }),
        ],
    )
}

/// Failures in which the provider repeats the key, and names its own: none of its words comes through.
pub fn in_a_failure(rig: &Rig) -> Verdict {
    let mut tried = 0;
    for status in [400, 401, 403, 404, 409, 413, 422, 429, 500, 502, 503, 529] {
        let job = rig.job_answered(&Terms::default(), move |n, arrived, stream| {
            let key = key_of(arrived);
            let error = json!({"error": {"message": format!("planted: Incorrect API key provided: {key}, org-planted"), "type": format!("planted {key}"),
                "code": key, "param": key, "resets_at": key}});
            let headers = format!("x-request-id: planted {key}\r\nSet-Cookie: planted={key}\r\nopenai-organization: planted\r\nRetry-After: {key}\r\nWWW-Authenticate: {key}\r\n");
            match n {
                0 => provider::status(stream, status, &headers, &error.to_string()).map(|()| true),
                1 => provider::status(stream, status, &headers, &format!("<html>planted {key}")).map(|()| true),
                _ => provider::say(stream, "done").map(|()| true),
            }
        });
        for _ in 0..2 {
            tried += 1;
            let answer = rig.ask(&job, &good());
            assert!(answer.status().is_some_and(|s| s >= 400), "{status}: {answer:?}");
            if let Some(place) = leaked(rig, &job, &answer.text()) {
                return Verdict::Breached(format!("status {status}: {place}"));
            }
        }
        rig.must_serve(&job);
    }
    Verdict::Blocked(format!("{tried} failures came in our words"))
}

pub fn in_a_failed_event(rig: &Rig) -> Verdict {
    let events: [fn(&str) -> Value; 4] = [
        |key| json!({"type": "response.failed", "response": {"id": format!("planted {key}"), "error": {"code": key, "message": format!("planted {key}")}}}),
        |key| json!({"type": "response.failed", "response": {"error": {"code": "rate_limit_exceeded", "message": format!("planted {key} try again in 1s")}}}),
        |key| json!({"type": "error", "code": "server_error", "message": format!("planted {key}"), "param": key}),
        |key| json!({"type": "error", "error": {"type": key, "message": format!("planted {key}")}}),
    ];
    for make in events {
        let job = rig.job_answered(&Terms::default(), move |n, arrived, stream| {
            if n > 0 { provider::say(stream, "done") } else { provider::answer(stream, &(created() + &event(&make(&key_of(arrived))))) }
                .map(|()| true)
        });
        let answer = rig.ask(&job, &good());
        served(&job, &answer);
        if let Some(place) = leaked(rig, &job, &answer.text()) {
            return Verdict::Breached(place);
        }
        rig.must_serve(&job);
    }
    Verdict::Blocked("4 failed answers came in our words".into())
}

/// The provider's headers end at the gateway too.
pub fn in_headers(rig: &Rig) -> Verdict {
    let job = rig.job_answered(&Terms::default(), |_, arrived, stream| {
        let key = key_of(arrived);
        provider::stream_head(
            stream,
            &format!("Set-Cookie: planted={key}\r\nx-request-id: {key}\r\nLocation: http://planted/\r\nopenai-organization: planted\r\n"),
        )?;
        provider::chunk(stream, &provider::said("done"))?;
        std::io::Write::write_all(stream, b"0\r\nX-Trailer: planted\r\n\r\n").map(|()| true)
    });
    let answer = rig.ask(&job, &good());
    served(&job, &answer);
    let strangers: Vec<String> = answer
        .header_names()
        .into_iter()
        .filter(|n| !["content-type", "transfer-encoding", "connection", "cache-control"].contains(&n.as_str()))
        .collect();
    found(
        leaked(rig, &job, &answer.text()).or_else(|| strangers.first().map(|name| format!("the header {name}"))),
        "status 200 with our headers only",
    )
}

/// A redirect would carry the key, or the conversation, to whom the provider names.
pub fn redirects(rig: &Rig) -> Verdict {
    for status in [300, 301, 302, 303, 305, 307, 308, 401, 200] {
        let before = rig.elsewhere.connections();
        let target = format!("http://127.0.0.1:{}/planted", rig.elsewhere.port());
        let job = rig.job_answered(&Terms::default(), move |n, _, stream| {
            let headers = format!("Location: {target}\r\nRefresh: 0; url={target}\r\nContent-Location: {target}\r\n");
            if n > 0 { provider::say(stream, "done") } else { provider::status(stream, status, &headers, "{}") }.map(|()| true)
        });
        let answer = rig.ask(&job, &good());
        assert_eq!(rig.arrived(&job).len(), 1, "{status}: the request did not arrive: {answer:?}");
        if rig.elsewhere.connections() != before || answer.text().contains("/planted") {
            let arrived = rig.elsewhere.everything();
            return Verdict::Breached(format!("{status}: followed, or told the job: {:?} {:?}", arrived.last().map(|a| &a.head), answer.text()));
        }
        rig.must_serve(&job);
    }
    Verdict::Blocked("none of 9 was followed or told".into())
}

/// Six variables in the gateway's environment name a proxy; requests go past it.
pub fn proxies(rig: &Rig) -> Verdict {
    let job = rig.job(&Terms::default());
    let before = rig.elsewhere.everything().len();
    let answer = rig.ask(&job, &good());
    let through = rig.elsewhere.everything().len() - before;
    if through == 0 {
        rig.must_serve(&job);
    }
    Verdict::of(through > 0, format!("{through} requests went through the proxy, {:?}", answer.status()))
}

/// After answers, failures and refusals full of it: the key lies in its file and nowhere else.
pub fn resting_places(rig: &Rig) -> Verdict {
    let job = rig.job_answered(&Terms::default(), |n, arrived, stream| {
        let key = key_of(arrived);
        match n {
            0 => provider::answer(stream, &(created() + &delta(&key) + &completed(1, 1))).map(|()| true),
            1 => provider::status(stream, 401, &format!("x: {key}\r\n"), &key).map(|()| true),
            2 => provider::answer(stream, &format!("garbage {key}\n\n")).map(|()| true),
            3 => std::io::Write::write_all(stream, format!("HTTP/1.1 {key}\r\n\r\n").as_bytes()).map(|()| false),
            _ => provider::say(stream, "done").map(|()| true),
        }
    });
    for _ in 0..4 {
        rig.ask(&job, &good());
    }
    // The attacker may know a part of it, and ask to have it logged.
    rig.raw(&job, &post_with(&format!("X: {}\r\n", job.key), job.key.as_bytes()));
    rig.raw(&job, format!("GET /{} HTTP/1.1\r\n\r\n", job.key).as_bytes());
    rig.open_with(format!("{}\n", job.key).as_bytes());
    rig.must_serve(&job);
    let mut places = Vec::new();
    search(rig.directory(), &job.key, &mut places);
    places.retain(|place| !place.starts_with("state/credentials/"));
    for name in ["cmdline", "environ"] {
        if rig.proc(name).contains(&job.key) {
            places.push(format!("/proc/<gateway>/{name}"));
        }
    }
    found(places.pop(), "in no log, ledger, record, argument or variable")
}

/// The pass is kept only as a digest.
pub fn passes_at_rest(rig: &Rig) -> Verdict {
    let job = rig.job(&Terms::default());
    rig.must_serve(&job);
    rig.open_with(format!("{{\"pass\":\"{}\"}}\n", job.pass).as_bytes());
    let mut places = Vec::new();
    search(rig.directory(), &job.pass, &mut places);
    found(places.pop(), "in no file of the gateway")
}

/// What stands in a job's configuration in place of a key opens nothing.
pub fn dummy_key(rig: &Rig) -> Verdict {
    let job = rig.job(&Terms::default());
    let dummies = ["not-a-key", "Not-A-Key", "anchorhold", "x", "", &job.id, &job.tag];
    for dummy in dummies {
        let with_header = post_with(&format!("Authorization: Bearer {dummy}\r\n"), good().to_string().as_bytes());
        for first in
            [preamble(&job.id, dummy, "model"), preamble(dummy, dummy, "model"), preamble(&dummy.to_uppercase(), &job.pass, "model"), Vec::new()]
        {
            let mut conn = rig.open_with(&first);
            conn.send(&with_header);
            conn.answer(std::time::Duration::from_millis(300));
        }
    }
    let arrived = rig.arrived(&job);
    if let Some(request) = arrived.first() {
        return Verdict::Breached(format!("it opened the gateway: {}", request.head));
    }
    // As a header beside a good pass it changes nothing.
    rig.raw(&job, &post_with("Authorization: Bearer not-a-key\r\n", good().to_string().as_bytes()));
    let arrived = rig.arrived(&job);
    assert_eq!(arrived.len(), 1, "a request with a good pass is served");
    found((!arrived[0].holds(&job.key) || arrived[0].holds("not-a-key")).then(|| arrived[0].head.clone()), "it is neither a pass nor a credential")
}

/// The key in a request as it arrived.
fn key_of(arrived: &provider::Arrived) -> String {
    let line = arrived.head.lines().find_map(|l| l.strip_prefix("authorization: Bearer ").or_else(|| l.strip_prefix("Authorization: Bearer ")));
    line.expect("a credential").to_owned()
}

/// Where the key, or a word that the provider planted, came out.
fn leaked(rig: &Rig, job: &Job, answer: &str) -> Option<String> {
    let account = rig.account(job).to_string();
    let places = [("the answer", answer.to_owned()), ("the log", rig.log()), ("the ledger", rig.ledger_text()), ("the account", account)];
    let place = places.iter().find(|(_, text)| text.contains(&job.key) || text.contains("planted"));
    place.map(|(name, text)| {
        let at = text.find(&job.key).or_else(|| text.find("planted")).unwrap_or_default();
        format!("in {name}: …{}", super::excerpt(&text.as_bytes()[at.saturating_sub(60)..]))
    })
}

/// Files below a directory that hold these words, by their relative names.
fn search(root: &Path, words: &str, found: &mut Vec<String>) {
    fn walk(root: &Path, directory: &Path, words: &str, found: &mut Vec<String>) {
        for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
            let path = entry.path();
            let name = path.strip_prefix(root).expect("beneath it").display().to_string();
            if name.contains(words) {
                found.push(name.clone());
            }
            if path.is_dir() {
                walk(root, &path, words, found);
            } else if path.is_file() && String::from_utf8_lossy(&std::fs::read(&path).unwrap_or_default()).contains(words) {
                found.push(name);
            }
        }
    }
    walk(root, root, words, found);
}

/// Kept for the cases that send it themselves.
pub fn good_bytes() -> Vec<u8> {
    post(good().to_string().as_bytes())
}
