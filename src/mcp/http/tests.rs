//! The server over HTTP as a client sees it, as far as that needs no engine: raw requests on loopback, in both eras.

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::access::Access;
use super::serve;
use crate::config::Settings;
use crate::job::Jobs;

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

/// A running server with an engine that is not there.
struct Running {
    address: std::net::SocketAddr,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

/// An answer, taken apart.
#[derive(Debug)]
struct Reply {
    status: u16,
    head: String,
    body: String,
}

impl Reply {
    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.split_once(": ").filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value))
    }

    #[track_caller]
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }

    #[track_caller]
    fn code(&self) -> String {
        self.json()["error"]["code"].as_str().unwrap().to_owned()
    }
}

impl Running {
    async fn start(change: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = Settings::default();
        settings.engine.host = "unix:///nonexistent/engine.sock".into();
        settings.model.upstream = "rehearsal".into();
        change(&mut settings);
        settings.check().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let access = Access::new(&settings, &address, |name| (name == "TOKEN_OF_A_TEST").then(|| TOKEN.to_owned())).unwrap();
        let stop = CancellationToken::new();
        #[expect(clippy::disallowed_methods, reason = "the test awaits the handle itself")]
        let task = tokio::spawn(serve(Jobs::new(settings), access, listener, stop.clone()));
        Self { address, stop, task }
    }

    async fn with_token() -> Self {
        Self::start(|settings| settings.server.token_env = "TOKEN_OF_A_TEST".into()).await
    }

    /// Sends bytes and reads to the end.
    async fn raw(&self, bytes: &[u8]) -> Reply {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        reply(&mut stream).await
    }

    async fn request(&self, line: &str, headers: &[(&str, &str)], body: &str) -> Reply {
        let mut text = format!("{line} HTTP/1.1\r\nConnection: close\r\nContent-Length: {}\r\n", body.len());
        if !headers.iter().any(|(name, _)| *name == "Host") {
            text.push_str("Host: localhost\r\n");
        }
        for (name, value) in headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        self.raw(format!("{text}\r\n{body}").as_bytes()).await
    }

    async fn post(&self, headers: &[(&str, &str)], message: &Value) -> Reply {
        let fixed = [("Content-Type", "application/json"), ("Accept", "application/json, text/event-stream")];
        self.request("POST /mcp", &[&fixed[..], headers].concat(), &message.to_string()).await
    }

    /// A request of the newer era; its result or error.
    async fn modern(&self, method: &str, name: &str, mut params: Value) -> Value {
        params["_meta"] = json!({"io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": {},
            "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "0"}});
        let mut headers = vec![("MCP-Protocol-Version", "2026-07-28"), ("Mcp-Method", method)];
        if !name.is_empty() {
            headers.push(("Mcp-Name", name));
        }
        self.post(&headers, &json!({"jsonrpc": "2.0", "id": 7, "method": method, "params": params})).await.json()
    }

    async fn legacy(&self, method: &str, params: Value) -> Value {
        self.post(&[("MCP-Protocol-Version", "2025-11-25")], &json!({"jsonrpc": "2.0", "id": 7, "method": method, "params": params})).await.json()
    }

    async fn end(self) {
        self.stop.cancel();
        self.task.await.unwrap();
    }
}

async fn reply(stream: &mut TcpStream) -> Reply {
    let mut bytes = Vec::new();
    // A connection that is reset after its answer is one that was answered.
    let _ = stream.read_to_end(&mut bytes).await;
    let text = String::from_utf8(bytes).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
    Reply { status, head: head.to_owned(), body: body.to_owned() }
}

fn hello() -> Value {
    json!({"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "test", "version": "0"}})
}

#[tokio::test]
async fn both_eras_are_answered_without_a_session() {
    let server = Running::start(|_| {}).await;
    let discovered = server.modern("server/discover", "", json!({})).await;
    assert!(discovered["result"]["supportedVersions"].as_array().unwrap().contains(&json!("2026-07-28")), "{discovered:#}");
    let answer = server.post(&[], &json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": hello()})).await;
    assert_eq!((answer.status, answer.header("mcp-session-id")), (200, None));
    let initialized = answer.json()["result"].clone();
    assert_eq!(initialized["protocolVersion"], "2025-11-25");
    assert_eq!(initialized["capabilities"]["resources"]["subscribe"], Value::Null, "nobody could be told");
    let note = server.post(&[("MCP-Protocol-Version", "2025-11-25")], &json!({"jsonrpc": "2.0", "method": "notifications/initialized"})).await;
    assert_eq!(note.status, 202);
    let old = server.legacy("tools/list", json!({})).await;
    let new = server.modern("tools/list", "", json!({})).await;
    assert!(old["result"]["tools"].as_array().unwrap().len() >= 8);
    assert_eq!(old["result"]["tools"], new["result"]["tools"]);
    let subscribed = server.legacy("resources/subscribe", json!({"uri": format!("anchorhold://jobs/{}/status", "0".repeat(32))})).await;
    assert_eq!(subscribed["error"]["data"]["error"]["code"], "unsupported", "{subscribed:#}");
    server.end().await;
}

#[tokio::test]
async fn a_call_must_say_which_directory_it_means() {
    let server = Running::start(|_| {}).await;
    for tool in ["codex_delegate", "codex_delegate_async"] {
        let params = json!({"name": tool, "arguments": {"task": "x"}});
        for answer in [server.modern("tools/call", tool, params.clone()).await, server.legacy("tools/call", params.clone()).await] {
            let error = &answer["result"]["structuredContent"]["error"];
            assert_eq!((&error["code"], &error["details"]["field"]), (&json!("invalid_arguments"), &json!("workspace_root")), "{answer:#}");
        }
    }
    server.end().await;
}

#[tokio::test]
async fn what_is_refused_has_a_status_and_a_code() {
    let server = Running::with_token().await;
    let bearer = format!("Bearer {TOKEN}");
    let known = ("Authorization", bearer.as_str());
    let ping = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}});
    assert_eq!(server.post(&[known], &ping).await.status, 200);

    let refused = server.post(&[], &ping).await;
    assert_eq!(
        (refused.status, refused.code().as_str(), refused.header("www-authenticate")),
        (401, "unauthorized", Some("Bearer realm=\"anchorhold\""))
    );
    let wrong = server.post(&[("Authorization", "Bearer 0123456789abcdef0123456789abcdee")], &ping).await;
    assert_eq!((wrong.status, wrong.code().as_str()), (401, "unauthorized"));
    assert!(wrong.header("www-authenticate").unwrap().contains("invalid_token"));
    for text in [&refused.body, &wrong.body, &refused.head, &wrong.head] {
        assert!(!text.contains(TOKEN));
    }

    let foreign = server.post(&[known, ("Host", "evil.example")], &ping).await;
    assert_eq!((foreign.status, foreign.code().as_str()), (403, "foreign_host"));
    let page = server.post(&[known, ("Origin", "https://evil.example")], &ping).await;
    assert_eq!((page.status, page.code().as_str(), page.header("access-control-allow-origin")), (403, "foreign_origin", None));
    let preflight = server.request("OPTIONS /mcp", &[("Origin", "https://evil.example")], "").await;
    assert_eq!(preflight.status, 403);

    assert_eq!(server.request("GET /", &[], "").await.code(), "not_found");
    assert_eq!(server.request("GET /.well-known/oauth-protected-resource", &[], "").await.status, 404);
    for method in ["GET", "DELETE", "PUT", "OPTIONS"] {
        let answer = server.request(&format!("{method} /mcp"), &[known], "").await;
        assert_eq!((answer.status, answer.header("allow"), answer.code().as_str()), (405, Some("POST"), "method_not_allowed"), "{method}");
    }
    assert_eq!(server.request("POST /metrics", &[known], "").await.header("allow"), Some("GET, HEAD"));
    assert_eq!(server.request("GET /metrics", &[], "").await.status, 401);

    let json = ("Content-Type", "application/json");
    let unacceptable = server.request("POST /mcp", &[known, json], "{}").await;
    assert_eq!((unacceptable.status, unacceptable.code().as_str()), (406, "not_acceptable"));
    let both = ("Accept", "application/json, text/event-stream");
    for (kind, body) in [("text/plain", "{}"), ("application/json", "no JSON"), ("application/json", "[1,2]")] {
        let answer = server.request("POST /mcp", &[known, both, ("Content-Type", kind)], body).await;
        assert_eq!((answer.status, answer.code().as_str()), (415, "unsupported_media_type"), "{kind} {body}");
    }
    assert_eq!(server.post(&[known, ("MCP-Protocol-Version", "1999-01-01")], &ping).await.code(), "bad_request");
    server.end().await;
}

#[tokio::test]
async fn health_needs_nothing_and_metrics_count() {
    let server = Running::with_token().await;
    for (line, host) in [("GET /healthz", "evil.example"), ("HEAD /healthz", "10.0.0.7:80")] {
        let answer = server.request(line, &[("Host", host)], "").await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    assert_eq!(server.request("GET /healthz", &[], "").await.json(), json!({"ok": true}));
    let bearer = format!("Bearer {TOKEN}");
    let known = ("Authorization", bearer.as_str());
    let call = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "codex_job_list", "arguments": {}}});
    let answer = server.post(&[known], &call).await.json();
    assert_eq!(answer["result"]["structuredContent"]["error"]["code"], "engine_unavailable", "{answer:#}");
    server.post(&[], &call).await;
    let page = server.request("GET /metrics", &[known], "").await;
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/plain; version=0.0.4; charset=utf-8")));
    for line in [
        "anchorhold_tool_calls_total{tool=\"codex_job_list\",outcome=\"engine_unavailable\"} 1",
        "anchorhold_http_answers_total{path=\"/mcp\",status=\"200\"} 1",
        "anchorhold_http_answers_total{path=\"/mcp\",status=\"401\"} 1",
        "anchorhold_http_answers_total{path=\"/healthz\",status=\"200\"} 3",
        "anchorhold_jobs_started_total 0",
        "anchorhold_http_clients 1",
        "anchorhold_engine_up 0",
    ] {
        assert!(page.body.lines().any(|there| there == line), "{line} in\n{}", page.body);
    }
    server.end().await;
}

#[tokio::test]
async fn a_page_that_is_named_may_call() {
    let server = Running::start(|settings| settings.server.allowed_origins = vec!["http://localhost:6274".into()]).await;
    let page = ("Origin", "http://localhost:6274");
    let preflight = server.request("OPTIONS /mcp", &[page], "").await;
    assert_eq!((preflight.status, preflight.header("access-control-allow-origin")), (204, Some("http://localhost:6274")));
    assert!(preflight.header("access-control-allow-headers").unwrap().contains("authorization"));
    let list = server.post(&[page], &json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}})).await;
    assert_eq!((list.status, list.header("access-control-allow-origin"), list.header("vary")), (200, Some("http://localhost:6274"), Some("Origin")));
    assert_eq!(server.post(&[("Origin", "http://localhost:1")], &json!({})).await.status, 403);
    server.end().await;
}

#[tokio::test]
async fn bodies_have_a_size_and_a_time() {
    let server = Running::start(|settings| {
        settings.server.max_body = crate::config::ByteSize(2000);
        settings.server.transfer_seconds = 1;
    })
    .await;
    let head = "POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nAccept: application/json, text/event-stream\r\n";
    let announced = server.raw(format!("{head}Content-Length: 2001\r\n\r\n").as_bytes()).await;
    assert_eq!((announced.status, announced.code().as_str(), announced.header("connection")), (413, "body_too_large", Some("close")));
    let chunk = format!("{:x}\r\n{}\r\n", 1500, "x".repeat(1500));
    let chunked = server.raw(format!("{head}Transfer-Encoding: chunked\r\n\r\n{chunk}{chunk}").as_bytes()).await;
    assert_eq!((chunked.status, chunked.code().as_str()), (413, "body_too_large"));
    let slow = server.raw(format!("{head}Content-Length: 100\r\n\r\n{{").as_bytes()).await;
    assert_eq!((slow.status, slow.code().as_str()), (408, "body_timeout"));
    server.end().await;
}

#[tokio::test]
async fn heads_have_a_time_and_clients_a_number() {
    let server = Running::start(|settings| {
        settings.server.head_seconds = 1;
        settings.server.max_connections = 1;
    })
    .await;
    let mut slow = TcpStream::connect(server.address).await.unwrap();
    slow.write_all(b"POST /mcp HTTP/1.1\r\nHost: local").await.unwrap();
    assert_eq!(reply(&mut slow).await.status, 0, "it is closed without an answer");
    // A body that is announced and does not come holds the one place there is, once the server has seen its head.
    let mut first = TcpStream::connect(server.address).await.unwrap();
    first.write_all(b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n").await.unwrap();
    let second = loop {
        let answer = server.request("GET /metrics", &[], "").await;
        if answer.status != 200 {
            break answer;
        }
    };
    assert_eq!((second.status, second.code().as_str(), second.header("retry-after")), (503, "too_many_connections", Some("1")));
    assert_eq!(server.request("GET /healthz", &[], "").await.status, 200, "health asks for no place");
    drop(first);
    loop {
        // The place is free when the server has seen the end.
        if server.request("GET /metrics", &[], "").await.status == 200 {
            break;
        }
        tokio::task::yield_now().await;
    }
    server.end().await;
}

#[tokio::test]
async fn the_end_closes_idle_connections_and_ends_listeners() {
    let server = Running::start(|_| {}).await;
    let idle = TcpStream::connect(server.address).await.unwrap();
    let params = json!({"notifications": {"resourceSubscriptions": []},
        "_meta": {"io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": {}}});
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": "subscriptions/listen", "params": params}).to_string();
    let mut listener = TcpStream::connect(server.address).await.unwrap();
    let head = "POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nAccept: application/json, text/event-stream\r\n\
        MCP-Protocol-Version: 2026-07-28\r\nMcp-Method: subscriptions/listen\r\n";
    listener.write_all(format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()).as_bytes()).await.unwrap();
    listener.readable().await.unwrap();
    let address = server.address;
    server.end().await;
    let said = reply(&mut listener).await;
    assert!(said.status == 200 && said.head.contains("text/event-stream"), "{said:?}");
    drop(idle);
    assert!(TcpStream::connect(address).await.is_err(), "nobody listens any more");
}
