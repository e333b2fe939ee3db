//! A model service on loopback that a test plays: HTTP/1.1 or HTTPS, scripted answer by answer, everything that arrives is kept.

use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

/// One request as it arrived.
#[derive(Debug, Clone)]
pub struct Seen {
    /// `POST /v1/responses HTTP/1.1`
    pub line: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Value,
}

impl Seen {
    /// The only value of a header.
    #[track_caller]
    pub fn header(&self, name: &str) -> &str {
        let values: Vec<&str> = self.headers.iter().filter(|(n, _)| n == name).map(|(_, v)| v.as_str()).collect();
        assert_eq!(values.len(), 1, "{name}: {:?}", self.headers);
        values[0]
    }
}

impl Seen {
    /// How many results of commands the conversation holds: which step of a script comes next, however often it is asked for.
    pub fn step(&self) -> usize {
        let items = self.body["input"].as_array().map_or(&[] as &[Value], Vec::as_slice);
        items.iter().filter(|item| item["type"] == "function_call_output").count()
    }
}

/// Chooses the reply to the n-th request (from 0).
pub type Chooser = dyn Fn(usize, &Seen) -> Option<Reply> + Send + Sync;

/// What the service does with a request.
#[derive(Debug, Clone)]
pub enum Reply {
    /// Codex shall run a command.
    Shell(String),
    /// The turn ends with these words.
    Say(String),
    /// The head and the first event, then nothing.
    Stall,
    /// Nothing at all.
    Hang,
    /// The head and the first event, then the connection is closed.
    Cut,
    /// The head and the first event, then comments that keep the connection alive, without end.
    Comments,
    /// The head and one event that never ends.
    Endless,
    /// Another status with these headers and this body.
    Status(u16, Vec<(String, String)>, String),
    /// Success with these headers, and events as they are written here.
    Raw(Vec<(String, String)>, String),
}

impl Reply {
    pub fn shell(command: &str) -> Self {
        Self::Shell(command.to_owned())
    }

    pub fn say(words: &str) -> Self {
        Self::Say(words.to_owned())
    }

    /// A refusal with an error body of the provider's shape.
    pub fn error(status: u16, headers: &[(&str, &str)], error: &Value) -> Self {
        let headers = headers.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        Self::Status(status, headers, json!({ "error": error }).to_string())
    }
}

/// Tokens that each answer reports.
pub const USAGE: (u64, u64) = (1000, 50);

/// One event as it goes over the wire.
pub fn event(data: &Value) -> String {
    format!("event: {}\ndata: {data}\n\n", data["type"].as_str().expect("a type"))
}

fn events(n: usize, item: &Value) -> String {
    let (input, output) = USAGE;
    let usage = json!({"input_tokens": input, "input_tokens_details": {"cached_tokens": 200}, "output_tokens": output,
        "output_tokens_details": {"reasoning_tokens": 10}, "total_tokens": input + output});
    let id = format!("resp_{n}");
    [
        json!({"type": "response.created", "response": {"id": id}}),
        json!({"type": "response.output_item.done", "output_index": 0, "item": item}),
        json!({"type": "response.completed", "response": {"id": id, "usage": usage}}),
    ]
    .iter()
    .map(event)
    .collect()
}

/// The running service; it ends with this value.
pub struct Provider {
    port: u16,
    scheme: &'static str,
    seen: Arc<Mutex<Vec<Seen>>>,
    ended: Arc<AtomicBool>,
}

impl Provider {
    /// Answers the n-th request with the n-th reply, and all later ones with the last.
    pub fn start(replies: Vec<Reply>) -> Self {
        Self::start_on(TcpListener::bind("127.0.0.1:0").expect("a port"), replies)
    }

    /// The same on a port of the test's.
    pub fn start_on(listener: TcpListener, replies: Vec<Reply>) -> Self {
        Self::serve(listener, in_order(replies), None)
    }

    /// Answers as it is told for each request; with `None` it closes the connection.
    pub fn choosing(choose: impl Fn(usize, &Seen) -> Option<Reply> + Send + Sync + 'static) -> Self {
        Self::serve(TcpListener::bind("127.0.0.1:0").expect("a port"), Arc::new(choose), None)
    }

    /// The same over TLS with a certificate and its key, both PEM files.
    pub fn start_tls(certificate: &Path, key: &Path, replies: Vec<Reply>) -> Self {
        use rustls::pki_types::pem::PemObject as _;
        use rustls::pki_types::{CertificateDer, PrivateKeyDer};
        let chain = CertificateDer::pem_file_iter(certificate).expect("a certificate").map(|c| c.expect("a certificate")).collect();
        let key = PrivateKeyDer::from_pem_file(key).expect("a key");
        let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .expect("a server");
        Self::serve(TcpListener::bind("127.0.0.1:0").expect("a port"), in_order(replies), Some(Arc::new(config)))
    }

    fn serve(listener: TcpListener, choose: Arc<Chooser>, tls: Option<Arc<rustls::ServerConfig>>) -> Self {
        let port = listener.local_addr().expect("an address").port();
        let (seen, ended) = (Arc::<Mutex<Vec<Seen>>>::default(), Arc::<AtomicBool>::default());
        let service = Service { choose, seen: Arc::clone(&seen), ended: Arc::clone(&ended) };
        let scheme = if tls.is_some() { "https" } else { "http" };
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if service.ended.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                let (service, tls) = (service.clone(), tls.clone());
                // A peer that goes away is no failure of the test.
                std::thread::spawn(move || match tls {
                    None => service.connection(stream),
                    Some(config) => match rustls::ServerConnection::new(config) {
                        Ok(connection) => service.connection(rustls::StreamOwned::new(connection, stream)),
                        Err(_) => Ok(()),
                    },
                });
            }
        });
        Self { port, scheme, seen, ended }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its base URL with a path.
    pub fn url(&self, path: &str) -> String {
        format!("{}://127.0.0.1:{}{path}", self.scheme, self.port)
    }

    /// What arrived so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().expect("a lock").clone()
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::SeqCst);
        // Wakes the listener; nobody listens any more if this fails.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

#[derive(Clone)]
struct Service {
    choose: Arc<Chooser>,
    seen: Arc<Mutex<Vec<Seen>>>,
    ended: Arc<AtomicBool>,
}

impl Service {
    /// Serves requests until the peer closes.
    fn connection<S: Read + Write>(&self, stream: S) -> std::io::Result<()> {
        let mut stream = BufReader::new(stream);
        while let Some(request) = read_request(&mut stream)? {
            if self.ended.load(Ordering::SeqCst) {
                return Ok(());
            }
            let n = {
                let mut seen = self.seen.lock().expect("a lock");
                seen.push(request.clone());
                seen.len() - 1
            };
            let Some(reply) = (self.choose)(n, &request) else { return Ok(()) };
            if !self.reply(stream.get_mut(), n, &reply)? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Whether the connection goes on.
    fn reply<S: Write>(&self, stream: &mut S, n: usize, reply: &Reply) -> std::io::Result<bool> {
        match reply {
            Reply::Shell(command) => {
                let arguments = json!({"cmd": command, "yield_time_ms": 30000}).to_string();
                let item = json!({"type": "function_call", "name": "exec_command", "arguments": arguments, "call_id": format!("call_{n}")});
                stream_head(stream, &[])?;
                chunk(stream, &events(n, &item))?;
            }
            Reply::Say(words) => {
                let item = json!({"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": words}]});
                stream_head(stream, &[])?;
                chunk(stream, &events(n, &item))?;
            }
            Reply::Raw(headers, text) => {
                stream_head(stream, headers)?;
                chunk(stream, text)?;
            }
            Reply::Stall => {
                stream_head(stream, &[])?;
                chunk(stream, &event(&json!({"type": "response.created", "response": {"id": format!("resp_{n}")}})))?;
                self.wait();
                return Ok(false);
            }
            Reply::Hang => {
                self.wait();
                return Ok(false);
            }
            Reply::Cut => {
                stream_head(stream, &[])?;
                chunk(stream, &event(&json!({"type": "response.created", "response": {"id": format!("resp_{n}")}})))?;
                return Ok(false);
            }
            Reply::Comments => {
                stream_head(stream, &[])?;
                chunk(stream, &event(&json!({"type": "response.created", "response": {"id": format!("resp_{n}")}})))?;
                while !self.ended.load(Ordering::SeqCst) {
                    chunk(stream, ": still here\n\n")?;
                    std::thread::sleep(Duration::from_millis(200));
                }
                return Ok(false);
            }
            Reply::Endless => {
                stream_head(stream, &[])?;
                chunk(stream, "data: ")?;
                let piece = "x".repeat(1 << 20);
                while !self.ended.load(Ordering::SeqCst) {
                    chunk(stream, &piece)?;
                }
                return Ok(false);
            }
            Reply::Status(status, headers, body) => {
                let mut head = format!("HTTP/1.1 {status} Status\r\nContent-Type: application/json\r\nContent-Length: {}\r\n", body.len());
                push_headers(&mut head, headers);
                write!(stream, "{head}\r\n{body}")?;
                stream.flush()?;
                return Ok(true);
            }
        }
        stream.write_all(b"0\r\n\r\n")?;
        stream.flush()?;
        Ok(true)
    }

    fn wait(&self) {
        while !self.ended.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// The n-th reply to the n-th request, and the last one to all later ones.
fn in_order(replies: Vec<Reply>) -> Arc<Chooser> {
    Arc::new(move |n, _| replies.get(n).or(replies.last()).cloned())
}

fn push_headers(head: &mut String, headers: &[(String, String)]) {
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
}

fn stream_head<S: Write>(stream: &mut S, headers: &[(String, String)]) -> std::io::Result<()> {
    let mut head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n".to_owned();
    push_headers(&mut head, headers);
    write!(stream, "{head}\r\n")?;
    stream.flush()
}

fn chunk<S: Write>(stream: &mut S, text: &str) -> std::io::Result<()> {
    write!(stream, "{:x}\r\n{text}\r\n", text.len())?;
    stream.flush()
}

fn read_request<S: Read>(stream: &mut BufReader<S>) -> std::io::Result<Option<Seen>> {
    let mut line = String::new();
    if stream.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut headers = Vec::new();
    loop {
        let mut header = String::new();
        stream.read_line(&mut header)?;
        let Some((name, value)) = header.trim_end().split_once(':') else { break };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let length = headers.iter().find(|(n, _)| n == "content-length").and_then(|(_, v)| v.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    Ok(Some(Seen { line: line.trim_end().to_owned(), headers, body: serde_json::from_slice(&body).unwrap_or_default() }))
}
