//! The whole gateway in a temporary directory: jobs on its socket, an upstream on loopback that the test plays.

use std::time::Duration;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, UnixStream};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::*;
use crate::protocol::PROTOCOL_VERSION;
use crate::protocol::admin::{AdminRequest, AdminResponse, Admission, Bringer, GatewayLimits, JobAccount, Upstream};
use crate::protocol::connection::{Channel, Preamble, SlotMessage};
use crate::protocol::manifest::hex;
use crate::protocol::result::Usage;

const KEY: &str = "sk-test-0123456789abcdef";
/// Far above what anything here takes; only a failing test waits for it.
const PATIENCE: Duration = Duration::from_secs(20);

async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.expect("took too long")
}

fn job(n: u8) -> String {
    hex(&[n; 16])
}

fn pass(n: u8) -> String {
    hex(&[n ^ 0xa5; 32])
}

struct Gateway {
    places: Places,
    timing: Timing,
    stop: CancellationToken,
    tasks: TaskTracker,
    directory: Option<tempfile::TempDir>,
}

impl Gateway {
    async fn start() -> Self {
        Self::start_with(Timing { awaited: Duration::from_secs(600), ..Timing::default() }).await
    }

    async fn start_with(timing: Timing) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let places = Places {
            socket: directory.path().join("run/gateway.sock"),
            state: directory.path().join("state"),
            admin_socket: directory.path().join("state/admin.sock"),
        };
        let mut gateway = Self { places, timing, stop: CancellationToken::new(), tasks: TaskTracker::new(), directory: Some(directory) };
        gateway.run().await;
        gateway
    }

    async fn run(&mut self) {
        self.stop = CancellationToken::new();
        self.tasks = TaskTracker::new();
        let (places, timing, stop) = (self.places.clone(), self.timing, self.stop.clone());
        self.tasks.spawn(async move { serve(&places, timing, stop).await.unwrap() });
        while UnixStream::connect(&self.places.socket).await.is_err() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    async fn end(&self) {
        self.stop.cancel();
        self.tasks.close();
        soon(self.tasks.wait()).await;
    }

    async fn admin(&self, request: &AdminRequest) -> AdminResponse {
        let mut stream = BufReader::new(UnixStream::connect(&self.places.admin_socket).await.unwrap());
        admin_line(&mut stream, request).await
    }

    async fn admit(&self, n: u8, upstream: &Upstream, change: impl FnOnce(&mut Admission)) {
        assert_eq!(self.try_admit(n, upstream, change).await, AdminResponse::Ok);
    }

    async fn try_admit(&self, n: u8, upstream: &Upstream, change: impl FnOnce(&mut Admission)) -> AdminResponse {
        let mut admission = Admission {
            job_id: job(n),
            pass_sha256: hex(&Sha256::digest(pass(n))),
            upstream: upstream.clone(),
            credential: matches!(upstream, Upstream::Http { .. }).then(|| KEY.to_owned()),
            allowed_models: Vec::new(),
            token_budget: 0,
            expires_unix: u64::MAX,
            max_running_jobs: 8,
            instance: "test".to_owned(),
            bounds: Default::default(),
            ceilings: Default::default(),
            telemetry: None,
            continues: None,
            settings_read_ms: 0,
            stay: Default::default(),
        };
        change(&mut admission);
        self.admin(&AdminRequest::Admit(admission)).await
    }

    async fn account(&self, n: u8) -> JobAccount {
        match self.admin(&AdminRequest::Job { job_id: job(n) }).await {
            AdminResponse::Job(account) => account,
            other => panic!("{other:?}"),
        }
    }

    async fn open(&self, n: u8, channel: Channel, resume: bool) -> BufReader<UnixStream> {
        let mut stream = UnixStream::connect(&self.places.socket).await.unwrap();
        let preamble = Preamble { version: PROTOCOL_VERSION, job_id: job(n), pass: pass(n), channel, resume };
        let mut line = serde_json::to_vec(&preamble).unwrap();
        line.push(b'\n');
        stream.write_all(&line).await.unwrap();
        BufReader::new(stream)
    }

    /// A slot connection that has been granted.
    async fn slot(&self, n: u8) -> BufReader<UnixStream> {
        let mut slot = self.open(n, Channel::Slot, false).await;
        assert_eq!(told(&mut slot).await, SlotMessage::Granted);
        slot
    }

    async fn post(&self, n: u8, body: &Value) -> Reply {
        let mut stream = self.open(n, Channel::Model, false).await;
        send(&mut stream, &post(&body.to_string())).await;
        reply(&mut stream).await
    }

    fn ledger(&self) -> Vec<Value> {
        ledger::tests::verify(&self.places.state)
    }
}

async fn admin_line(stream: &mut BufReader<UnixStream>, request: &AdminRequest) -> AdminResponse {
    let mut line = serde_json::to_string(request).unwrap();
    line.push('\n');
    stream.write_all(line.as_bytes()).await.unwrap();
    let mut answer = String::new();
    soon(stream.read_line(&mut answer)).await.unwrap();
    serde_json::from_str(&answer).unwrap()
}

async fn told(slot: &mut BufReader<UnixStream>) -> SlotMessage {
    let mut line = String::new();
    soon(slot.read_line(&mut line)).await.unwrap();
    serde_json::from_str(&line).unwrap_or_else(|_| panic!("the slot connection ended: {line:?}"))
}

fn post(body: &str) -> String {
    format!(
        "POST /v1/responses HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\nx-api-key: from-the-job\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

async fn send(stream: &mut BufReader<UnixStream>, text: &str) {
    stream.write_all(text.as_bytes()).await.unwrap();
}

#[derive(Debug)]
struct Reply {
    status: u16,
    head: String,
    body: String,
    /// Whether the body came to its proper end.
    whole: bool,
}

async fn head(stream: &mut BufReader<UnixStream>) -> (u16, String) {
    let mut head = String::new();
    loop {
        let mut line = String::new();
        if soon(stream.read_line(&mut line)).await.unwrap() == 0 || line == "\r\n" {
            break;
        }
        head.push_str(&line);
    }
    let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0);
    (status, head)
}

/// The next piece of a chunked body; `None` at its end, an error where it breaks off.
async fn chunk(stream: &mut BufReader<UnixStream>) -> Result<Option<String>, ()> {
    let mut size = String::new();
    if soon(stream.read_line(&mut size)).await.map_err(|_| ())? == 0 {
        return Err(());
    }
    let size = usize::from_str_radix(size.trim(), 16).map_err(|_| ())?;
    let mut data = vec![0; size + 2];
    soon(stream.read_exact(&mut data)).await.map_err(|_| ())?;
    data.truncate(size);
    Ok((size > 0).then(|| String::from_utf8(data).unwrap()))
}

async fn reply(stream: &mut BufReader<UnixStream>) -> Reply {
    let (status, head) = head(stream).await;
    let mut body = String::new();
    let mut whole = true;
    if head.to_lowercase().contains("transfer-encoding: chunked") {
        loop {
            match chunk(stream).await {
                Ok(Some(data)) => body.push_str(&data),
                Ok(None) => break,
                Err(()) => {
                    whole = false;
                    break;
                }
            }
        }
    } else if let Some(length) = head.to_lowercase().split("content-length: ").nth(1).and_then(|l| l.lines().next()?.parse().ok()) {
        let mut data = vec![0; length];
        soon(stream.read_exact(&mut data)).await.unwrap();
        body = String::from_utf8(data).unwrap();
    }
    Reply { status, head, body, whole }
}

/// One request that reached the upstream, and the way to answer it.
struct Asked {
    head: String,
    body: Value,
    answer: mpsc::Sender<String>,
}

impl Asked {
    async fn say(&self, text: impl Into<String>) {
        self.answer.send(text.into()).await.unwrap();
    }
    async fn event(&self, data: &Value) {
        let text = format!("data: {data}\n\n");
        self.say(format!("{:x}\r\n{text}\r\n", text.len())).await;
    }
    async fn begin(&self) {
        self.say("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\nx-request-id: secret-of-the-provider\r\ntransfer-encoding: chunked\r\n\r\n").await;
        self.event(&json!({"type": "response.created", "response": {"id": "r"}})).await;
    }
    async fn complete(&self, input: u64, output: u64) {
        let usage =
            json!({"input_tokens": input, "input_tokens_details": {"cached_tokens": 1}, "output_tokens": output, "total_tokens": input + output});
        self.event(&json!({"type": "response.completed", "response": {"id": "r", "usage": usage}})).await;
        self.say("0\r\n\r\n").await;
    }
    /// A whole answer other than success.
    async fn status(&self, status: u16, headers: &str, body: &Value) {
        let body = body.to_string();
        self.say(format!("HTTP/1.1 {status} X\r\n{headers}content-length: {}\r\n\r\n{body}", body.len())).await;
    }
}

struct Provider {
    upstream: Upstream,
    requests: mpsc::Receiver<Asked>,
    _tasks: tokio::task::JoinSet<()>,
}

impl Provider {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base_url = format!("http://{}/base/v1", listener.local_addr().unwrap());
        let (sender, requests) = mpsc::channel(64);
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let sender = sender.clone();
                connections.spawn(async move {
                    let mut stream = BufReader::new(stream);
                    loop {
                        let mut head = String::new();
                        while !head.ends_with("\r\n\r\n") {
                            if stream.read_line(&mut head).await.unwrap_or(0) == 0 {
                                return;
                            }
                        }
                        let length = head.to_lowercase().split("content-length: ").nth(1).unwrap().lines().next().unwrap().parse().unwrap();
                        let mut body = vec![0; length];
                        stream.read_exact(&mut body).await.unwrap();
                        let (answer, mut pieces) = mpsc::channel::<String>(64);
                        if sender.send(Asked { head, body: serde_json::from_slice(&body).unwrap(), answer }).await.is_err() {
                            return;
                        }
                        let mut whole = false;
                        while let Some(piece) = pieces.recv().await {
                            whole = piece.ends_with("0\r\n\r\n");
                            if stream.write_all(piece.as_bytes()).await.is_err() {
                                return;
                            }
                        }
                        if !whole {
                            return;
                        }
                    }
                });
            }
        });
        Self { upstream: Upstream::Http { base_url, authorities: None }, requests, _tasks: tasks }
    }

    async fn asked(&mut self) -> Asked {
        soon(self.requests.recv()).await.unwrap()
    }
}

fn question() -> Value {
    json!({"model": "gpt-5.5", "stream": true, "input": [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hi"}]}],
        "prompt_cache_key": "chosen-by-the-job", "client_metadata": {"x": "y"}})
}

mod claims;
mod clients;
mod model;
mod slots_and_state;
mod spend;
