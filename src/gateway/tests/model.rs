//! Model requests: what passes, what is refused, how it streams.

use super::*;

async fn ready() -> (Gateway, Provider, BufReader<UnixStream>) {
    let (gateway, provider) = (Gateway::start().await, Provider::start().await);
    gateway.admit(1, &provider.upstream, |_| {}).await;
    let slot = gateway.slot(1).await;
    (gateway, provider, slot)
}

#[tokio::test]
async fn a_request_is_rebuilt_and_each_event_passes_before_the_next_is_sent() {
    let (gateway, mut provider, mut slot) = ready().await;
    let mut stream = gateway.open(1, Channel::Model, false).await;
    send(&mut stream, &post(&question().to_string())).await;
    let asked = provider.asked().await;
    let sent = asked.head.to_lowercase();
    assert!(sent.starts_with("post /base/v1/responses http/1.1\r\n"), "{sent}");
    assert!(sent.contains(&format!("authorization: bearer {KEY}\r\n")));
    assert!(!sent.contains("from-the-job") && !sent.contains("responses-lite"), "{sent}");
    let names: Vec<&str> = sent.lines().skip(1).filter_map(|l| l.split_once(':').map(|(name, _)| name)).collect();
    let expected = ["content-type", "accept", "accept-encoding", "user-agent", "authorization", "host", "content-length"];
    assert!(names.iter().all(|n| expected.contains(n)), "{names:?}");
    assert_ne!(asked.body["prompt_cache_key"], "chosen-by-the-job");
    assert_eq!((&asked.body["store"], asked.body.get("client_metadata")), (&json!(false), None));

    asked.begin().await;
    let (status, response_head) = head(&mut stream).await;
    assert_eq!(status, 200);
    assert!(!response_head.contains("secret-of-the-provider"), "{response_head}");
    for n in 0..3 {
        // The upstream has sent nothing beyond this event when the client sees it.
        assert!(chunk(&mut stream).await.unwrap().unwrap().contains(&if n == 0 {
            "response.created".to_owned()
        } else {
            format!("\"delta\":\"{n}\"")
        }));
        asked.event(&json!({"type": "response.output_text.delta", "delta": format!("{}", n + 1)})).await;
    }
    assert!(matches!(told(&mut slot).await, SlotMessage::Answered { answers: 1, .. }));
    chunk(&mut stream).await.unwrap();
    asked.complete(100, 20).await;
    assert!(chunk(&mut stream).await.unwrap().unwrap().contains("response.completed"));
    let usage = Usage { input_tokens: 100, cached_input_tokens: 1, output_tokens: 20, reasoning_output_tokens: 0 };
    assert_eq!(told(&mut slot).await, SlotMessage::Answered { answers: 1, usage });
    assert_eq!(chunk(&mut stream).await, Ok(None));
    let account = gateway.account(1).await;
    assert_eq!((account.requests, account.answers, account.usage, account.running), (1, 1, usage, true));
    drop(asked);
    // The same connection, on both sides, serves the next request.
    send(&mut stream, &post(&question().to_string())).await;
    let asked = provider.asked().await;
    asked.begin().await;
    asked.complete(1, 1).await;
    drop(asked);
    assert!(reply(&mut stream).await.whole);
    gateway.end().await;
    let requests: Vec<Value> = gateway.ledger().into_iter().filter(|l| l["kind"] == "request").collect();
    assert_eq!(requests.len(), 2);
    assert_eq!((&requests[0]["outcome"], &requests[0]["input_tokens"], &requests[0]["model"]), (&json!("ok"), &json!(100), &json!("gpt-5.5")));
    assert_eq!(requests[0]["sha256"].as_str().unwrap().len(), 64);
}

#[tokio::test]
async fn a_job_that_goes_on_with_another_gives_back_what_that_one_was_given() {
    let (gateway, mut provider, _slot) = ready().await;
    let mut stream = gateway.open(1, Channel::Model, false).await;
    send(&mut stream, &post(&question().to_string())).await;
    let asked = provider.asked().await;
    asked.begin().await;
    let item = json!({"type": "reasoning", "summary": [], "encrypted_content": "gAAAA"});
    asked.event(&json!({"type": "response.output_item.done", "output_index": 0, "item": item})).await;
    asked.complete(1, 1).await;
    drop(asked);
    let answer = reply(&mut stream).await.body;
    let events = answer.lines().filter_map(|line| serde_json::from_str::<Value>(line.strip_prefix("data: ")?).ok());
    let sealed = events.filter_map(|event| event["item"]["encrypted_content"].as_str().map(str::to_owned)).next().unwrap();
    let mut given_back = question();
    given_back["input"] = json!([{"type": "reasoning", "summary": [], "encrypted_content": sealed}]);

    gateway.admit(2, &provider.upstream, |admission| admission.continues = Some(job(1))).await;
    gateway.admit(3, &provider.upstream, |admission| admission.continues = Some(job(2))).await;
    gateway.admit(4, &provider.upstream, |_| {}).await;
    let _slots = (gateway.slot(2).await, gateway.slot(3).await, gateway.slot(4).await);
    for n in [2, 3] {
        let mut stream = gateway.open(n, Channel::Model, false).await;
        send(&mut stream, &post(&given_back.to_string())).await;
        let asked = provider.asked().await;
        assert_eq!(asked.body["input"][0]["encrypted_content"], "gAAAA");
        asked.begin().await;
        asked.complete(1, 1).await;
        drop(asked);
        assert!(reply(&mut stream).await.whole);
    }
    assert!(gateway.post(4, &given_back).await.body.contains("encrypted content"), "a job that goes on with nothing");

    // Only where the same provider is asked, within an instance, and as long as the job is known. Who was admitted keeps what it has.
    let refused = async |change: &dyn Fn(&mut Admission), upstream: &Upstream| match gateway.try_admit(5, upstream, |a| change(a)).await {
        AdminResponse::Error { code, .. } => code,
        other => panic!("{other:?}"),
    };
    let continues = |admission: &mut Admission| admission.continues = Some(job(1));
    assert_eq!(refused(&continues, &Upstream::Rehearsal).await, "invalid");
    let other = |admission: &mut Admission| (admission.continues, admission.instance) = (Some(job(1)), "other".to_owned());
    assert_eq!(refused(&other, &provider.upstream).await, "unknown_job");
    assert_eq!(gateway.admin(&AdminRequest::Revoke { job_id: job(1) }).await, AdminResponse::Ok);
    assert_eq!(refused(&continues, &provider.upstream).await, "unknown_job");
    gateway.admit(2, &provider.upstream, |admission| admission.continues = Some(job(1))).await;
    let mut stream = gateway.open(2, Channel::Model, false).await;
    send(&mut stream, &post(&given_back.to_string())).await;
    assert_eq!(provider.asked().await.body["input"][0]["encrypted_content"], "gAAAA");
}

#[tokio::test]
async fn code_mode_is_told_to_the_provider() {
    let (gateway, mut provider, _slot) = ready().await;
    let mut request = question();
    request["input"].as_array_mut().unwrap().insert(0, json!({"type": "additional_tools", "role": "developer", "tools": []}));
    let mut stream = gateway.open(1, Channel::Model, false).await;
    send(&mut stream, &post(&request.to_string())).await;
    assert!(provider.asked().await.head.to_lowercase().contains("x-openai-internal-codex-responses-lite: true\r\n"));
    gateway.end().await;
}

#[tokio::test]
async fn whatever_is_not_the_one_request_is_refused_and_nothing_reaches_the_provider() {
    let (gateway, mut provider, _slot) = ready().await;
    let body = question().to_string();
    let with = |line: &str, headers: &str| {
        format!("{line} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n{headers}content-length: {}\r\n\r\n{body}", body.len())
    };
    let rows: Vec<(String, &[u16])> = vec![
        (with("GET /v1/responses", ""), &[405]),
        (with("PUT /v1/responses", ""), &[405]),
        (with("POST /v1/responses/", ""), &[404]),
        (with("POST /v1/responses?x=1", ""), &[404]),
        (with("POST /v1//responses", ""), &[404]),
        (with("POST /v1/./responses", ""), &[404]),
        (with("POST /v1/files/../responses", ""), &[404]),
        (with("POST /v1/%72esponses", ""), &[404]),
        (with("POST /V1/responses", ""), &[404]),
        (with("POST /v1/responses;x", ""), &[404]),
        (with("POST /v1/models", ""), &[404]),
        (with("POST http://169.254.169.254/v1/responses", ""), &[404]),
        (with("POST https://api.openai.com/v1/responses", ""), &[404]),
        (with("CONNECT api.openai.com:443", ""), &[404]),
        (with("OPTIONS *", ""), &[404]),
        (with("GET /v1/responses", "connection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n"), &[426]),
        (with("POST /v1/responses", "connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\n"), &[426]),
        (with("POST /v1/responses", "content-encoding: gzip\r\n"), &[415]),
        (with("POST /v1/responses", "content-type: text/plain\r\n"), &[415]),
        (with("POST /v1/responses", "transfer-encoding: chunked\r\n"), &[400]),
        (with("POST /v1/responses", "content-length: 3\r\n"), &[400]),
        (with("POST /v1/responses", "bad header: x\r\n"), &[400]),
        (with("POST /v1/responses", " folded: x\r\n"), &[400]),
        (with("POST /v1/responses", &"x-many: y\r\n".repeat(100)), &[431]),
        (with("POST /v1/responses", &format!("x-big: {}\r\n", "y".repeat(200_000))), &[431, 0]),
        (with("POST /v1/responses", "").replace("HTTP/1.1", "HTTP/1.0"), &[505]),
        (post("{\"model\":1}"), &[400]),
        (post(&question().to_string().replace("gpt-5.5", "../x")), &[400]),
        (post(&json!({"model": "m", "input": "x", "tools": [{"type": "web_search"}]}).to_string()), &[400]),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(), &[400, 505, 0]),
    ];
    for (text, statuses) in rows {
        let mut stream = gateway.open(1, Channel::Model, false).await;
        // The peer may answer and close before it has read all.
        let _ = stream.write_all(text.as_bytes()).await;
        let (status, _) = soon(head_or_none(&mut stream)).await;
        assert!(statuses.contains(&status), "{status} for {}", &text[..text.len().min(90)]);
    }
    assert!(provider.requests.try_recv().is_err());
    assert_eq!(gateway.account(1).await.answers, 0);
    gateway.end().await;
}

/// Like [`head`], but a connection that is reset counts as no status.
async fn head_or_none(stream: &mut BufReader<UnixStream>) -> (u16, String) {
    let mut line = String::new();
    match stream.read_line(&mut line).await {
        Ok(1..) => (line.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0), line),
        _ => (0, line),
    }
}

#[tokio::test]
async fn the_body_is_bounded_while_it_comes() {
    let (gateway, mut provider, _slot) = ready().await;
    // Announced too large.
    let mut stream = gateway.open(1, Channel::Model, false).await;
    send(&mut stream, "POST /v1/responses HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 9000000\r\n\r\n").await;
    assert_eq!(reply(&mut stream).await.status, 413);
    // Grown too large.
    let mut stream = gateway.open(1, Channel::Model, false).await;
    send(&mut stream, "POST /v1/responses HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n").await;
    let piece = format!("100000\r\n{}\r\n", "x".repeat(1 << 20));
    for _ in 0..9 {
        let _ = stream.write_all(piece.as_bytes()).await;
    }
    assert_eq!(head_or_none(&mut stream).await.0, 413);
    // A large one within bounds passes.
    let mut request = question();
    request["input"][0]["content"][0]["text"] = json!("y".repeat(7 << 20));
    let mut stream = gateway.open(1, Channel::Model, false).await;
    send(&mut stream, &post(&request.to_string())).await;
    let asked = provider.asked().await;
    assert_eq!(asked.body["input"], request["input"]);
    gateway.end().await;
}

#[tokio::test]
async fn slow_clients_are_left() {
    let timing =
        Timing { preamble: Duration::from_millis(100), head: Duration::from_millis(200), body: Duration::from_millis(200), ..Timing::default() };
    let gateway = Gateway::start_with(timing).await;
    gateway.admit(1, &Upstream::Rehearsal, |_| {}).await;
    let _slot = gateway.slot(1).await;
    let mut silent = UnixStream::connect(&gateway.places.socket).await.unwrap();
    assert_eq!(soon(silent.read(&mut [0; 1])).await.unwrap(), 0);
    let mut endless = UnixStream::connect(&gateway.places.socket).await.unwrap();
    endless.write_all(&[b'x'; Preamble::MAX_LINE]).await.unwrap();
    assert!(matches!(soon(endless.read(&mut [0; 1])).await, Ok(0) | Err(_)));
    let mut stream = gateway.open(1, Channel::Model, false).await;
    send(&mut stream, "POST /v1/respo").await;
    assert!([408, 0].contains(&head_or_none(&mut stream).await.0));
    let mut stream = gateway.open(1, Channel::Model, false).await;
    send(&mut stream, "POST /v1/responses HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{").await;
    assert_eq!(reply(&mut stream).await.status, 408);
    gateway.end().await;
}

#[tokio::test]
async fn a_pass_that_is_not_valid_gets_403_and_a_job_without_a_slot_503() {
    let gateway = Gateway::start().await;
    assert_eq!(gateway.post(7, &question()).await.status, 403);
    gateway.admit(1, &Upstream::Rehearsal, |_| {}).await;
    let unslotted = gateway.post(1, &question()).await;
    assert_eq!((unslotted.status, unslotted.body.contains("no_slot")), (503, true));
    let mut slot = gateway.slot(1).await;
    assert_eq!(gateway.post(1, &question()).await.status, 200);
    // Another job's pass, and an expired one.
    gateway.admit(2, &Upstream::Rehearsal, |a| a.pass_sha256 = hex(&Sha256::digest(pass(3)))).await;
    assert_eq!(gateway.post(2, &question()).await.status, 403);
    gateway.admit(3, &Upstream::Rehearsal, |a| a.expires_unix = 1).await;
    assert_eq!(gateway.post(3, &question()).await.status, 403);
    let mut refused = gateway.open(3, Channel::Slot, false).await;
    assert!(matches!(told(&mut refused).await, SlotMessage::Refused { .. }));
    // A revoked pass cuts what is open.
    let mut open = gateway.open(1, Channel::Model, false).await;
    send(&mut open, &post(&json!({"model": "m", "input": "```rehearsal\nfault stall\nmessage x\n```"}).to_string())).await;
    assert_eq!(head(&mut open).await.0, 200);
    assert_eq!(gateway.admin(&AdminRequest::Revoke { job_id: job(1) }).await, AdminResponse::Ok);
    let mut rest = String::new();
    soon(open.read_to_string(&mut rest)).await.unwrap();
    let mut last = Vec::new();
    soon(slot.read_to_end(&mut last)).await.unwrap();
    assert!(String::from_utf8_lossy(&last).contains("refused"));
    assert_eq!(gateway.post(1, &question()).await.status, 403);
    gateway.end().await;
}

#[tokio::test]
async fn the_credential_is_cut_out_of_answers_and_kept_out_of_errors() {
    let (gateway, mut provider, _slot) = ready().await;
    let mut stream = gateway.open(1, Channel::Model, false).await;
    send(&mut stream, &post(&question().to_string())).await;
    let asked = provider.asked().await;
    asked.begin().await;
    asked.event(&json!({"type": "response.output_text.delta", "delta": format!("the key is {KEY}!")})).await;
    let cut = reply(&mut stream).await;
    assert!(!cut.whole && !cut.body.contains("sk-test"), "{cut:?}");
    let mut stream = gateway.open(1, Channel::Model, false).await;
    send(&mut stream, &post(&question().to_string())).await;
    let asked = provider.asked().await;
    asked.status(401, "", &json!({"error": {"message": format!("Incorrect API key provided: {KEY}"), "code": "invalid_api_key"}})).await;
    let refused = reply(&mut stream).await;
    assert_eq!(refused.status, 401);
    assert!(!refused.body.contains("sk-test") && !refused.head.contains("sk-test"));
    let error = gateway.account(1).await.last_error.unwrap();
    assert_eq!((error.kind.as_str(), error.status), ("auth", Some(401)));
    gateway.end().await;
    // Nowhere in the volume but in its one file.
    let credentials = gateway.places.state.join("credentials");
    for entry in walk(&gateway.places.state) {
        let holds = std::fs::read(&entry).unwrap().windows(KEY.len()).any(|w| w == KEY.as_bytes());
        assert_eq!(holds, entry.starts_with(&credentials), "{}", entry.display());
        if holds {
            use std::os::unix::fs::PermissionsExt as _;
            assert_eq!(std::fs::metadata(&entry).unwrap().permissions().mode() & 0o777, 0o400);
        }
    }
}

fn walk(directory: &std::path::Path) -> Vec<std::path::PathBuf> {
    std::fs::read_dir(directory)
        .unwrap()
        .flat_map(|e| {
            let path = e.unwrap().path();
            if path.is_dir() { walk(&path) } else { vec![path] }
        })
        .collect()
}

#[tokio::test]
async fn failures_of_the_provider_are_told_in_our_words() {
    let (gateway, mut provider, mut slot) = ready().await;
    let mut stream = gateway.open(1, Channel::Model, false).await;
    send(&mut stream, &post(&question().to_string())).await;
    provider
        .asked()
        .await
        .status(429, "retry-after: 17\r\n", &json!({"error": {"message": "org-SECRET", "type": "tokens", "code": "rate_limit_exceeded"}}))
        .await;
    let limited = reply(&mut stream).await;
    assert_eq!(limited.status, 429);
    assert!(limited.head.contains("retry-after: 17") && limited.body.contains("rate_limit_exceeded") && !limited.body.contains("SECRET"));
    let SlotMessage::Failed { error } = told(&mut slot).await else { panic!() };
    assert_eq!((error.kind.as_str(), error.retry_after_seconds), ("rate_limit", Some(17)));
    // A redirect is not followed.
    let mut stream = gateway.open(1, Channel::Model, false).await;
    send(&mut stream, &post(&question().to_string())).await;
    provider.asked().await.status(307, "location: http://127.0.0.1:1/\r\n", &json!({})).await;
    assert_eq!(reply(&mut stream).await.status, 503);
    // An answer that breaks off breaks off here too, and is charged by estimate.
    let mut stream = gateway.open(1, Channel::Model, false).await;
    send(&mut stream, &post(&question().to_string())).await;
    let asked = provider.asked().await;
    asked.begin().await;
    drop(asked);
    assert!(!reply(&mut stream).await.whole);
    assert_eq!(gateway.account(1).await.last_error.unwrap().kind, "cut");
    // Nobody listens.
    gateway.admit(1, &Upstream::Http { base_url: "http://127.0.0.1:1".to_owned(), authorities: None }, |_| {}).await;
    let unreachable = gateway.post(1, &question()).await;
    assert_eq!(unreachable.status, 503);
    assert_eq!(gateway.account(1).await.last_error.unwrap().kind, "unreachable");
    gateway.end().await;
    let cut: Vec<Value> = gateway.ledger().into_iter().filter(|l| l["error"] == "cut").collect();
    assert!(cut[0]["estimated_tokens"].as_u64().unwrap() > 0);
}

#[tokio::test]
async fn a_silent_provider_is_given_up() {
    let timing = Timing { first_byte: Duration::from_millis(100), idle: Duration::from_millis(100), ..Timing::default() };
    let (gateway, mut provider) = (Gateway::start_with(timing).await, Provider::start().await);
    gateway.admit(1, &provider.upstream, |_| {}).await;
    let _slot = gateway.slot(1).await;
    assert_eq!(gateway.post(1, &question()).await.status, 503);
    let _first = provider.asked().await;
    let mut stream = gateway.open(1, Channel::Model, false).await;
    send(&mut stream, &post(&question().to_string())).await;
    let asked = provider.asked().await;
    asked.begin().await;
    assert!(!reply(&mut stream).await.whole);
    gateway.end().await;
}

#[tokio::test]
async fn a_client_that_goes_away_ends_its_request_and_is_charged() {
    let (gateway, mut provider, mut slot) = ready().await;
    let mut stream = gateway.open(1, Channel::Model, false).await;
    send(&mut stream, &post(&question().to_string())).await;
    let asked = provider.asked().await;
    asked.begin().await;
    head(&mut stream).await;
    assert!(matches!(told(&mut slot).await, SlotMessage::Answered { .. }));
    drop(stream);
    // The gateway closes its side too.
    soon(asked.answer.closed_or_full()).await;
    gateway.end().await;
    let line = gateway.ledger().into_iter().find(|l| l["kind"] == "request").unwrap();
    assert_eq!(line["outcome"], "client_gone");
    assert!(line["estimated_tokens"].as_u64().unwrap() > 0);
}

pub(super) trait ClosedOrFull {
    async fn closed_or_full(&self);
}

impl ClosedOrFull for mpsc::Sender<String> {
    /// Waits until the connection behind is seen to be closed: it takes pieces until a write fails.
    async fn closed_or_full(&self) {
        while self.send("1\r\n:\r\n".to_owned()).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

#[tokio::test]
async fn no_more_than_four_requests_of_a_job_are_under_way() {
    let (gateway, mut provider, _slot) = ready().await;
    let mut streams = Vec::new();
    for _ in 0..6 {
        let mut stream = gateway.open(1, Channel::Model, false).await;
        send(&mut stream, &post(&question().to_string())).await;
        streams.push(stream);
    }
    let mut asked = Vec::new();
    for _ in 0..4 {
        asked.push(provider.asked().await);
    }
    assert!(tokio::time::timeout(Duration::from_millis(100), provider.requests.recv()).await.is_err());
    let first = asked.remove(0);
    first.begin().await;
    first.complete(1, 1).await;
    drop(first);
    provider.asked().await;
    gateway.end().await;
}
