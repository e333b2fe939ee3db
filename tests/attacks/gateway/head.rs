//! G01 to G05: what can be said in a request's head, and around it.

use super::rig::{PATH, Rig, Terms, good, post, post_with, request};
use super::{found, none_arrives};
use crate::case::Verdict;

fn lines(rig: &Rig, lines: &[&str]) -> Verdict {
    let body = good().to_string();
    let attempts: Vec<(String, Vec<u8>)> = lines.iter().map(|line| ((*line).to_owned(), request(line, "", body.as_bytes()))).collect();
    none_arrives(rig, &Terms::default(), &attempts)
}

pub fn methods(rig: &Rig) -> Verdict {
    let all: Vec<String> = ["GET", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "post", "PoST", "POSTS", "QUERY", "PROPFIND"]
        .iter()
        .map(|method| format!("{method} {PATH} HTTP/1.1"))
        .collect();
    lines(rig, &all.iter().map(String::as_str).collect::<Vec<_>>())
}

pub fn paths(rig: &Rig) -> Verdict {
    lines(
        rig,
        &[
            "POST /v1/files HTTP/1.1",
            "GET /v1/models HTTP/1.1",
            "POST /v1/chat/completions HTTP/1.1",
            "POST /v1/completions HTTP/1.1",
            "POST /v1/embeddings HTTP/1.1",
            "GET /v1/responses/resp_1 HTTP/1.1",
            "DELETE /v1/responses/resp_1 HTTP/1.1",
            "POST /v1/responses/resp_1/cancel HTTP/1.1",
            "POST /v1/responses/compact HTTP/1.1",
            "GET /v1/organization/admin_api_keys HTTP/1.1",
            "POST /v1/realtime/sessions HTTP/1.1",
            "POST /responses HTTP/1.1",
            "POST / HTTP/1.1",
            "POST * HTTP/1.1",
            "OPTIONS * HTTP/1.1",
        ],
    )
}

pub fn path_tricks(rig: &Rig) -> Verdict {
    lines(
        rig,
        &[
            "POST //v1/responses HTTP/1.1",
            "POST /v1//responses HTTP/1.1",
            "POST /v1/responses/ HTTP/1.1",
            "POST /v1/responses// HTTP/1.1",
            "POST /v1/./responses HTTP/1.1",
            "POST /./v1/responses HTTP/1.1",
            "POST /v1/files/../responses HTTP/1.1",
            "POST /v1/responses/../files HTTP/1.1",
            "POST /v1/responses/.. HTTP/1.1",
            "POST /v1/files/%2e%2e/responses HTTP/1.1",
            "POST /v1/responses/%2e%2e/files HTTP/1.1",
            "POST /v1%2fresponses HTTP/1.1",
            "POST /v1%2Fresponses HTTP/1.1",
            "POST /v1/%72esponses HTTP/1.1",
            "POST /v1/responses%00 HTTP/1.1",
            "POST /v1/responses%20 HTTP/1.1",
            "POST /v1/responses%3f HTTP/1.1",
            "POST /v1/responses;x HTTP/1.1",
            "POST /v1;x/responses HTTP/1.1",
            "POST /V1/responses HTTP/1.1",
            "POST /v1/Responses HTTP/1.1",
            "POST /v1\\responses HTTP/1.1",
            "POST \\v1\\responses HTTP/1.1",
            "POST /v1/respons\u{435}s HTTP/1.1",
            "POST /v1/responses\u{200b} HTTP/1.1",
            "POST v1/responses HTTP/1.1",
            "POST /v1/responses.json HTTP/1.1",
        ],
    )
}

pub fn query(rig: &Rig) -> Verdict {
    lines(rig, &["POST /v1/responses?x=1 HTTP/1.1", "POST /v1/responses?api-version=1 HTTP/1.1", "POST /v1/responses? HTTP/1.1"])
}

pub fn other_targets(rig: &Rig) -> Verdict {
    lines(
        rig,
        &[
            "POST http://127.0.0.1/v1/responses HTTP/1.1",
            "POST http://169.254.169.254/v1/responses HTTP/1.1",
            "POST https://api.openai.com/v1/responses HTTP/1.1",
            "POST http://a@b/v1/responses HTTP/1.1",
            "POST file:///v1/responses HTTP/1.1",
            "CONNECT 127.0.0.1:80 HTTP/1.1",
            "CONNECT api.openai.com:443 HTTP/1.1",
        ],
    )
}

pub fn versions(rig: &Rig) -> Verdict {
    lines(
        rig,
        &[
            "POST /v1/responses HTTP/1.0",
            "POST /v1/responses HTTP/0.9",
            "POST /v1/responses HTTP/2.0",
            "POST /v1/responses HTTP/1.2",
            "POST /v1/responses http/1.1",
            "POST /v1/responses",
            "POST /v1/responses HTTP/1.1 HTTP/1.1",
        ],
    )
}

/// Bytes from which two readers would make out different requests. A whole good request stands inside each; it must not be found in there, nor may one
/// request become two.
pub fn smuggling(rig: &Rig) -> Verdict {
    let inner = String::from_utf8(post(good().to_string().as_bytes())).expect("text");
    let body = good().to_string();
    let n = body.len();
    let chunked = format!("{n:x}\r\n{body}\r\n0\r\n\r\n");
    let head = |headers: &str| format!("POST {PATH} HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\n{headers}\r\n");
    let bad = vec![
        ("both lengths, differing", head(&format!("Content-Length: {n}\r\nContent-Length: {}\r\n", n + 1)) + &body),
        ("two lengths in one line", head(&format!("Content-Length: {n}, {}\r\n", n + 1)) + &body),
        ("a signed length", head(&format!("Content-Length: +{n}\r\n")) + &body),
        ("a hexadecimal length", head(&format!("Content-Length: 0x{n:x}\r\n")) + &body),
        ("a negative length", head("Content-Length: -1\r\n") + &body),
        ("an immense length", head("Content-Length: 99999999999999999999999\r\n") + &body),
        ("a coding that is none", head("Transfer-Encoding: xchunked\r\n") + &chunked),
        ("chunked, then identity", head("Transfer-Encoding: chunked, identity\r\n") + &chunked),
        ("identity", head("Transfer-Encoding: identity\r\n") + &chunked),
        ("a folded coding", head("Transfer-Encoding:\r\n chunked\r\n") + &chunked),
        ("a folded header", head(&format!("X: a\r\n b\r\nContent-Length: {n}\r\n")) + &body),
        ("a space before the colon", head(&format!("Content-Length : {n}\r\n")) + &body),
        ("NUL in a header", head(&format!("X: a\0b\r\nContent-Length: {n}\r\n")) + &body),
        ("NUL in a name", head(&format!("X\0Y: a\r\nContent-Length: {n}\r\n")) + &body),
        ("a lone carriage return", head(&format!("X: a\rContent-Length: 3\r\nContent-Length: {n}\r\n")) + &body),
        ("a header without a colon", head(&format!("nothing\r\nContent-Length: {n}\r\n")) + &body),
        ("a chunk size too long", head("Transfer-Encoding: chunked\r\n") + &format!("10000000000000000{n:x}\r\n{body}\r\n0\r\n\r\n")),
        ("a negative chunk", head("Transfer-Encoding: chunked\r\n") + &format!("-{n:x}\r\n{body}\r\n0\r\n\r\n")),
        ("a chunk with 0x", head("Transfer-Encoding: chunked\r\n") + &format!("0x{n:x}\r\n{body}\r\n0\r\n\r\n")),
        ("a chunk too short for its data", head("Transfer-Encoding: chunked\r\n") + &format!("{:x}\r\n{body}\r\n0\r\n\r\n", n - 5)),
        ("no length", head("Connection: close\r\n") + &body),
    ];
    let attempts: Vec<(String, Vec<u8>)> = bad.into_iter().map(|(name, text)| (name.to_owned(), text.into_bytes())).collect();
    let stopped = none_arrives(rig, &Terms::default(), &attempts);
    if stopped.breached() {
        return stopped;
    }
    // What is served may be served once, as what it says; nothing behind it is a request of its own.
    let once = [
        ("both framings", head("Content-Length: 3\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n") + &chunked + &inner),
        ("both framings, chunked first", head("Transfer-Encoding: chunked\r\nContent-Length: 3\r\nConnection: close\r\n") + &chunked + &inner),
        ("a request behind one that closes", String::from_utf8(post(body.as_bytes())).expect("text") + &inner),
        ("a request behind a refused one", format!("GET {PATH} HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n{inner}")),
        ("a request in an unread body", format!("GET {PATH} HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n{inner}", inner.len())),
        ("a request in a body too large", head("Content-Length: 9000000\r\n") + &inner),
        (
            "a chunk extension with a request",
            head("Transfer-Encoding: chunked\r\nConnection: close\r\n") + &format!("{n:x};x=\"{PATH}\"\r\n{body}\r\n0\r\n\r\n{inner}"),
        ),
        (
            "a trailer",
            head("Transfer-Encoding: chunked\r\nConnection: close\r\n") + &format!("{n:x}\r\n{body}\r\n0\r\nAuthorization: Bearer x\r\n\r\n"),
        ),
    ];
    for (name, text) in once {
        let job = rig.job(&Terms::default());
        rig.raw(&job, text.as_bytes());
        let arrived = rig.arrived(&job);
        if arrived.len() > 1 || arrived.iter().any(|a| a.holds("Bearer x")) {
            return Verdict::Breached(format!("{name}: {} requests arrived: {arrived:?}", arrived.len()));
        }
        rig.must_serve(&job);
    }
    Verdict::Blocked(format!("{} and 8 more, each at most one request", stopped.detail()))
}

/// Requests on one connection are told apart by the gateway alone: each is checked, and each arrives as one.
pub fn pipelining(rig: &Rig) -> Verdict {
    let job = rig.job(&Terms::default());
    let good = good().to_string();
    let open =
        |body: &str| format!("POST {PATH} HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    let bad = good.replace("\"input\"", "\"conversation\":\"conv_smuggled\",\"input\"");
    let mut conn = rig.open(&job);
    conn.send((open(&good) + &open(&bad) + &open(&good)).as_bytes());
    let answer = conn.answer(std::time::Duration::from_millis(800));
    let arrived = rig.arrived(&job);
    assert!(answer.statuses().first() == Some(&200) && !arrived.is_empty(), "the first request was not served: {answer:?}");
    let smuggled = arrived.iter().any(|a| a.holds("conv_smuggled"));
    let finding = (smuggled || arrived.len() > 1).then(|| format!("{} requests arrived, the bad one among them: {smuggled}", arrived.len()));
    found(finding, format!("the refused request ended the connection: {:?}", answer.statuses()))
}

pub fn upgrades(rig: &Rig) -> Verdict {
    let body = good().to_string();
    let websocket = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let attempts = vec![
        ("websocket by GET".to_owned(), format!("GET {PATH} HTTP/1.1\r\nHost: h\r\n{websocket}\r\n").into_bytes()),
        ("websocket by POST".to_owned(), post_with("Upgrade: websocket\r\n", body.as_bytes())),
        ("h2c".to_owned(), post_with("Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n", body.as_bytes())),
        ("an upgrade to TLS".to_owned(), post_with("Upgrade: TLS/1.2\r\n", body.as_bytes())),
        ("HTTP/2 with prior knowledge".to_owned(), b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00".to_vec()),
    ];
    none_arrives(rig, &Terms::default(), &attempts)
}

/// What asks for a tunnel, or for a go-ahead before the body is checked, opens none.
pub fn tunnels(rig: &Rig) -> Verdict {
    let mut findings = Vec::new();
    for line in ["CONNECT 127.0.0.1:{port} HTTP/1.1", "GET http://127.0.0.1:{port}/ HTTP/1.1", "OPTIONS http://127.0.0.1:{port}/ HTTP/1.1"] {
        let job = rig.job(&Terms::default());
        let before = rig.elsewhere.connections();
        let line = line.replace("{port}", &rig.elsewhere.port().to_string());
        let answer = rig.raw(&job, format!("{line}\r\nHost: h\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n").as_bytes());
        if rig.elsewhere.connections() != before || answer.status().is_some_and(|s| s < 300) {
            findings.push(format!("{line}: {:?}", answer.text()));
        }
        rig.must_serve(&job);
    }
    found(findings.pop(), "no connection was opened")
}

/// Whatever a body is said to be, only plain JSON text is read as such.
pub fn body_kinds(rig: &Rig) -> Verdict {
    let body = good().to_string();
    let head = |kind: &str| {
        format!("POST {PATH} HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: {}\r\n{kind}\r\n{body}", body.len()).into_bytes()
    };
    let attempts = [
        "",
        "Content-Type: text/plain\r\n",
        "Content-Type: application/x-www-form-urlencoded\r\n",
        "Content-Type: multipart/form-data; boundary=x\r\n",
        "Content-Type: application/json\r\nContent-Type: text/plain\r\n",
        "Content-Type: application/jsonl\r\n",
        "Content-Type: \u{fffd}\r\n",
    ];
    none_arrives(rig, &Terms::default(), &attempts.map(|kind| (format!("{kind:?}"), head(kind))))
}

pub fn body_codings(rig: &Rig) -> Verdict {
    let body = good().to_string();
    let attempts = ["gzip", "deflate", "br", "zstd", "identity, gzip", "x", ""];
    let mut all: Vec<(String, Vec<u8>)> =
        attempts.iter().map(|coding| ((*coding).to_owned(), post_with(&format!("Content-Encoding: {coding}\r\n"), body.as_bytes()))).collect();
    all.push(("twice".to_owned(), post_with("Content-Encoding: identity\r\nContent-Encoding: gzip\r\n", body.as_bytes())));
    none_arrives(rig, &Terms::default(), &all)
}

/// Headers of the job end at the gateway; the provider sees exactly ours.
pub fn headers(rig: &Rig) -> Verdict {
    const OURS: &[&str] = &["host", "content-type", "accept", "accept-encoding", "user-agent", "authorization", "content-length"];
    let job = rig.job(&Terms::default());
    let theirs = [
        "Authorization: Bearer sk-planted",
        "authorization: Basic planted",
        "x-api-key: planted",
        "api-key: planted",
        "Cookie: session=planted",
        "OpenAI-Organization: planted",
        "OpenAI-Project: planted",
        "OpenAI-Beta: planted",
        "X-Forwarded-For: 10.0.0.1",
        "X-Forwarded-Host: planted",
        "Forwarded: for=planted",
        "X-HTTP-Method-Override: DELETE",
        "X-Original-URL: /v1/files/planted",
        "X-Rewrite-URL: /v1/files/planted",
        "Host: planted.example",
        "Referer: http://planted.example/",
        "User-Agent: planted",
        "Accept: planted/planted",
        "Accept-Encoding: gzip, planted",
        "TE: trailers",
        "Proxy-Authorization: Basic planted",
        "Idempotency-Key: planted",
        "traceparent: planted",
        "x-openai-internal-codex-responses-lite: planted",
        "Expect: 100-continue",
    ];
    let answer = rig.raw(&job, &post_with(&(theirs.join("\r\n") + "\r\n"), good().to_string().as_bytes()));
    let mut findings = Vec::new();
    for theirs in theirs {
        rig.raw(&job, &post_with(&format!("{theirs}\r\n"), good().to_string().as_bytes()));
    }
    let arrived = rig.arrived(&job);
    assert!(arrived.len() > theirs.len() / 2, "most of these requests are served: {} were; {answer:?}", arrived.len());
    for request in &arrived {
        let strangers: Vec<String> = request.header_names().into_iter().filter(|name| !OURS.contains(&name.as_str())).collect();
        let expected = format!("authorization: Bearer {}", job.key);
        if !strangers.is_empty() || request.holds("planted") || request.holds("10.0.0.1") || !request.holds(&expected) {
            findings.push(format!("arrived: {}", request.head));
        }
    }
    found(findings.pop(), format!("{} requests arrived with our headers only", arrived.len()))
}
