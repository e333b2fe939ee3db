//! What the gateway adds to a streamed answer, and what it weighs, against the same upstream reached directly.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anchorhold::protocol::admin::{AdminRequest, Admission, Upstream};
use anchorhold::protocol::connection::{Channel, Preamble};
use sha2::Digest as _;

use super::figures::{Figure, median, rss_mb};
use super::world::World;

const JOB: &str = "00000000000000000000000000000001";
/// A body as Codex sends it, as far as the policy looks.
const BODY: &str =
    r#"{"model":"gpt-5.5","stream":true,"store":false,"input":[{"type":"message","role":"user","content":[{"type":"input_text","text":"bench"}]}]}"#;
/// Bytes of the streamed answer for the rate.
const STREAM: usize = 32 << 20;

/// A gateway process with its sockets in a temporary directory.
pub struct Gateway {
    child: Child,
    dir: tempfile::TempDir,
}

impl Gateway {
    /// Starts it and waits for its control socket.
    pub fn start(world: &World) -> Self {
        let dir = tempfile::tempdir().expect("directory");
        for sub in ["run", "state"] {
            std::fs::create_dir(dir.path().join(sub)).expect("directory");
        }
        let child = world
            .anchorhold(&["gateway", "run"])
            .env("ANCHORHOLD_GATEWAY_SOCKET", dir.path().join("run/gateway.sock"))
            .env("ANCHORHOLD_GATEWAY_STATE", dir.path().join("state"))
            .stdin(Stdio::null())
            .spawn()
            .expect("starts");
        let gateway = Self { child, dir };
        let start = Instant::now();
        while UnixStream::connect(gateway.admin()).is_err() || UnixStream::connect(gateway.socket()).is_err() {
            assert!(start.elapsed() < Duration::from_secs(20), "the gateway does not listen");
            std::thread::sleep(Duration::from_millis(5));
        }
        gateway
    }

    fn admin(&self) -> PathBuf {
        self.dir.path().join("state/admin.sock")
    }

    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("run/gateway.sock")
    }

    /// Admits a job and takes its slot; the slot is held by the connection that is returned.
    pub fn admit(&self, job: &str, upstream: Upstream) -> UnixStream {
        let pass_sha256 = anchorhold::protocol::manifest::hex(&sha2::Sha256::digest(pass().as_bytes()));
        let admission = Admission {
            job_id: job.to_owned(),
            pass_sha256,
            upstream,
            credential: Some("bench-credential-not-real".to_owned()),
            allowed_models: Vec::new(),
            token_budget: 0,
            expires_unix: u64::MAX / 4,
            max_running_jobs: 100,
            instance: "bench".to_owned(),
            bounds: Default::default(),
            ceilings: Default::default(),
            telemetry: None,
            continues: None,
            settings_read_ms: 0,
            stay: Default::default(),
        };
        let mut admin = BufReader::new(UnixStream::connect(self.admin()).expect("control socket"));
        writeln!(admin.get_mut(), "{}", serde_json::to_string(&AdminRequest::Admit(admission)).expect("JSON")).expect("written");
        let mut line = String::new();
        admin.read_line(&mut line).expect("answered");
        assert!(line.contains("\"ok\""), "{line}");
        let mut slot = self.connect(job, Channel::Slot);
        let mut line = String::new();
        BufReader::new(&mut slot).read_line(&mut line).expect("slot");
        assert!(line.contains("granted"), "{line}");
        slot
    }

    /// A connection that said its preamble.
    pub fn connect(&self, job: &str, channel: Channel) -> UnixStream {
        let mut stream = UnixStream::connect(self.socket()).expect("socket");
        let preamble = Preamble { version: anchorhold::protocol::PROTOCOL_VERSION, job_id: job.to_owned(), pass: pass(), channel, resume: false };
        writeln!(stream, "{}", serde_json::to_string(&preamble).expect("JSON")).expect("written");
        stream
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn pass() -> String {
    "7".repeat(64)
}

/// All figures of the gateway.
pub fn figures(world: &World, runs: usize) -> Vec<Figure> {
    let gateway = Gateway::start(world);
    let upstream = TcpListener::bind("127.0.0.1:0").expect("port");
    let port = upstream.local_addr().expect("address").port();
    std::thread::spawn(move || {
        for stream in upstream.incoming().flatten() {
            std::thread::spawn(move || serve(stream));
        }
    });
    let http = |path: &str| Upstream::Http { base_url: format!("http://127.0.0.1:{port}/{path}"), authorities: None };
    let direct = |path: &'static str| move || (TcpStream::connect(("127.0.0.1", port)).expect("upstream"), path);

    // First byte: one kept connection each, as Codex keeps its own.
    let _slot = gateway.admit(JOB, http("first"));
    let mut kept = BufReader::new(direct("first")().0);
    let direct_first = median(runs * 5, || first_byte(&mut kept, "/first/responses"));
    let mut kept = BufReader::new(gateway.connect(JOB, Channel::Model));
    let through_first = median(runs * 5, || first_byte(&mut kept, "/v1/responses"));

    let rate_job = "00000000000000000000000000000002";
    let _rate_slot = gateway.admit(rate_job, http("rate"));
    let direct_rate = median(runs.min(5), || all_bytes(BufReader::new(direct("rate")().0), "/rate/responses"));
    let through_rate = median(runs.min(5), || all_bytes(BufReader::new(gateway.connect(rate_job, Channel::Model)), "/v1/responses"));

    // Fifty streams that stay open: an answer that has begun and does not end.
    let mut held = Vec::new();
    for n in 0..50 {
        let job = format!("{:032x}", 100 + n / 2);
        if n % 2 == 0 {
            held.push(gateway.admit(&job, http("hold")));
        }
        let mut stream = BufReader::new(gateway.connect(&job, Channel::Model));
        first_byte(&mut stream, "/v1/responses");
        held.push(stream.into_inner());
    }
    let memory = rss_mb(gateway.child.id());
    drop(held);
    vec![
        Figure::absolute("gateway: added time to the first byte", (through_first - direct_first) * 1000.0, "ms", 2.0),
        Figure::at_least("gateway: streaming rate against a direct connection", direct_rate / through_rate, "×", 0.5),
        Figure::absolute("memory: gateway with 50 streams", memory, "MB", 30.0),
    ]
}

/// Sends a request and measures until the first event has arrived; reads the rest of a short answer.
fn first_byte<S: Read + Write>(stream: &mut BufReader<S>, path: &str) -> f64 {
    let start = Instant::now();
    send(stream.get_mut(), path);
    let seconds = loop {
        let mut line = String::new();
        assert!(stream.read_line(&mut line).expect("answered") > 0, "the connection ended");
        if line.starts_with("data:") {
            break start.elapsed().as_secs_f64();
        }
    };
    // A held stream says nothing more; a short one ends with the last chunk.
    while !stream.buffer().is_empty() || path.starts_with("/first") {
        let mut line = String::new();
        stream.read_line(&mut line).expect("answered");
        if line == "0\r\n" {
            stream.read_line(&mut line).expect("answered");
            break;
        }
    }
    seconds
}

fn all_bytes<S: Read + Write>(mut stream: BufReader<S>, path: &str) -> f64 {
    let start = Instant::now();
    send(stream.get_mut(), path);
    let mut buffer = vec![0; 1 << 16];
    let mut tail = Vec::new();
    let mut total = 0;
    while !tail.ends_with(b"0\r\n\r\n") {
        let read = stream.read(&mut buffer).expect("answered");
        assert!(read > 0, "the stream was cut after {total} bytes");
        total += read;
        tail.extend_from_slice(&buffer[read.saturating_sub(16)..read]);
        tail.drain(..tail.len().saturating_sub(16));
    }
    assert!(total > STREAM, "only {total} bytes came");
    start.elapsed().as_secs_f64()
}

fn send(stream: &mut impl Write, path: &str) {
    let request =
        format!("POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{BODY}", BODY.len());
    stream.write_all(request.as_bytes()).expect("written");
}

/// The upstream: a short answer, a long one, or one that does not end, by the first part of the path.
fn serve(stream: TcpStream) {
    stream.set_nodelay(true).expect("nodelay");
    let mut stream = BufReader::new(stream);
    loop {
        let (mut first, mut length) = (String::new(), 0);
        if stream.read_line(&mut first).unwrap_or(0) == 0 {
            return;
        }
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            if line == "\r\n" {
                break;
            }
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().expect("length");
            }
        }
        stream.read_exact(&mut vec![0; length]).expect("body");
        if answer(stream.get_mut(), &first).is_err() {
            return;
        }
    }
}

fn answer(out: &mut TcpStream, first: &str) -> std::io::Result<()> {
    out.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")?;
    let mut event = |kind: &str, rest: &str| {
        let text = format!("event: {kind}\ndata: {{\"type\":\"{kind}\"{rest}}}\n\n");
        write!(out, "{:x}\r\n{text}\r\n", text.len())
    };
    event("response.created", ",\"response\":{\"id\":\"resp_1\"}")?;
    if first.contains("/hold/") {
        std::thread::sleep(Duration::from_secs(300));
        return Ok(());
    }
    if first.contains("/rate/") {
        let rest = format!(",\"item_id\":\"m\",\"output_index\":0,\"content_index\":0,\"delta\":\"{}\"", "word ".repeat(200));
        for _ in 0..STREAM / 1000 {
            event("response.output_text.delta", &rest)?;
        }
    }
    event("response.completed", ",\"response\":{\"id\":\"resp_1\",\"usage\":{\"input_tokens\":1,\"output_tokens\":1,\"total_tokens\":2}}")?;
    out.write_all(b"0\r\n\r\n")
}

/// Relays a loopback port to the gateway's socket with the model preamble, so that Codex can be run by hand beside a job.
pub fn forward(gateway: &Gateway, job: &'static str) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("port");
    let port = listener.local_addr().expect("address").port();
    let socket = gateway.socket();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let gateway = connect(&socket, job);
            let (mut from, mut to) = (stream.try_clone().expect("clone"), gateway.try_clone().expect("clone"));
            std::thread::spawn(move || {
                let _ = std::io::copy(&mut from, &mut to);
                let _ = to.shutdown(std::net::Shutdown::Write);
            });
            let (mut from, mut to) = (gateway, stream);
            std::thread::spawn(move || {
                let _ = std::io::copy(&mut from, &mut to);
                let _ = to.shutdown(std::net::Shutdown::Write);
            });
        }
    });
    port
}

fn connect(socket: &Path, job: &str) -> UnixStream {
    let mut stream = UnixStream::connect(socket).expect("socket");
    let preamble =
        Preamble { version: anchorhold::protocol::PROTOCOL_VERSION, job_id: job.to_owned(), pass: pass(), channel: Channel::Model, resume: false };
    writeln!(stream, "{}", serde_json::to_string(&preamble).expect("JSON")).expect("written");
    stream
}
