//! The provider as the attacks see it: keeps the bytes of every request that arrives, and answers as a case tells it.
//!
//! A job's upstream is `http://127.0.0.1:<port>/<tag>`: the tag tells whose request arrived, and chooses the script. What comes under no known tag
//! is kept too; nothing may.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

/// One request, byte for byte.
#[derive(Debug, Clone)]
pub struct Arrived {
    /// The first part of its path.
    pub tag: String,
    /// Request line and headers as they came.
    pub head: String,
    pub body: Vec<u8>,
}

impl Arrived {
    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// Whether these words stand anywhere in it, in any case.
    pub fn holds(&self, words: &str) -> bool {
        let all = format!("{}{}", self.head, String::from_utf8_lossy(&self.body)).to_ascii_lowercase();
        all.contains(&words.to_ascii_lowercase())
    }

    /// The names of its headers, in lower case.
    pub fn header_names(&self) -> Vec<String> {
        self.head.lines().skip(1).filter_map(|line| Some(line.split_once(':')?.0.to_ascii_lowercase())).collect()
    }
}

/// What the provider does with the n-th request of a job (from 0). `Ok(true)`: the connection goes on.
pub type Script = Arc<dyn Fn(usize, &Arrived, &mut TcpStream) -> std::io::Result<bool> + Send + Sync>;

/// The running service; it ends with this value.
pub struct Provider {
    port: u16,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    arrived: Mutex<Vec<Arrived>>,
    /// Connections that were accepted, whether or not a request came.
    connections: Mutex<usize>,
    scripts: Mutex<HashMap<String, Script>>,
    ended: AtomicBool,
}

impl Provider {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let shared = Arc::<Shared>::default();
        let service = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if service.ended.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                *service.connections.lock().expect("a lock") += 1;
                let service = Arc::clone(&service);
                // A peer that goes away is no failure of the test.
                std::thread::spawn(move || service.connection(stream));
            }
        });
        Self { port, shared }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Answers the requests under this tag so; without a script each gets a short turn.
    pub fn script(&self, tag: &str, script: impl Fn(usize, &Arrived, &mut TcpStream) -> std::io::Result<bool> + Send + Sync + 'static) {
        self.shared.scripts.lock().expect("a lock").insert(tag.to_owned(), Arc::new(script));
    }

    /// What arrived under this tag.
    pub fn arrived(&self, tag: &str) -> Vec<Arrived> {
        self.shared.arrived.lock().expect("a lock").iter().filter(|a| a.tag == tag).cloned().collect()
    }

    /// All that arrived.
    pub fn everything(&self) -> Vec<Arrived> {
        self.shared.arrived.lock().expect("a lock").clone()
    }

    pub fn connections(&self) -> usize {
        *self.shared.connections.lock().expect("a lock")
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        // Wakes the listener; nobody listens any more if this fails.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

impl Shared {
    fn connection(&self, stream: TcpStream) -> std::io::Result<()> {
        let mut reader = BufReader::new(stream.try_clone()?);
        let mut writer = stream;
        while let Some(request) = read_request(&mut reader)? {
            let (n, script) = {
                let mut arrived = self.arrived.lock().expect("a lock");
                let n = arrived.iter().filter(|a| a.tag == request.tag).count();
                arrived.push(request.clone());
                (n, self.scripts.lock().expect("a lock").get(&request.tag).cloned())
            };
            let goes_on = match script {
                Some(script) => script(n, &request, &mut writer)?,
                None => say(&mut writer, "done").map(|()| true)?,
            };
            if !goes_on {
                return Ok(());
            }
        }
        Ok(())
    }
}

fn read_request(stream: &mut BufReader<TcpStream>) -> std::io::Result<Option<Arrived>> {
    let mut head = String::new();
    loop {
        let before = head.len();
        if stream.read_line(&mut head)? == 0 {
            return Ok(None);
        }
        if head[before..].trim_end().is_empty() {
            break;
        }
    }
    let target = head.split(' ').nth(1).unwrap_or_default();
    let tag = target.trim_start_matches('/').split('/').next().unwrap_or_default().to_owned();
    let length = head.lines().filter_map(|l| l.split_once(':')).find(|(n, _)| n.eq_ignore_ascii_case("content-length"));
    let mut body = vec![0; length.and_then(|(_, v)| v.trim().parse().ok()).unwrap_or(0)];
    stream.read_exact(&mut body)?;
    Ok(Some(Arrived { tag, head, body }))
}

/// One event as it goes over the wire.
pub fn event(data: &Value) -> String {
    format!("event: {}\ndata: {data}\n\n", data["type"].as_str().expect("a type"))
}

/// The event that opens an answer.
pub fn created() -> String {
    event(&json!({"type": "response.created", "response": {"id": "resp_1"}}))
}

/// A piece of text.
pub fn delta(text: &str) -> String {
    event(&json!({"type": "response.output_text.delta", "item_id": "msg_1", "output_index": 0, "content_index": 0, "delta": text}))
}

/// An item that is complete.
pub fn item(item: &Value) -> String {
    event(&json!({"type": "response.output_item.done", "output_index": 0, "item": item}))
}

/// The event that closes an answer, with this many tokens of input and output.
pub fn completed(input: u64, output: u64) -> String {
    let usage = json!({"input_tokens": input, "input_tokens_details": {"cached_tokens": 0}, "output_tokens": output,
        "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": input + output});
    event(&json!({"type": "response.completed", "response": {"id": "resp_1", "usage": usage}}))
}

/// A whole answer of a few tokens that says this.
pub fn said(words: &str) -> String {
    let message =
        json!({"type": "message", "role": "assistant", "id": "msg_1", "content": [{"type": "output_text", "text": words, "annotations": []}]});
    format!("{}{}{}", created(), item(&message), completed(10, 5))
}

/// The head of an answer that streams, with these headers.
pub fn stream_head(stream: &mut TcpStream, headers: &str) -> std::io::Result<()> {
    write!(stream, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n{headers}\r\n")?;
    stream.flush()
}

pub fn chunk(stream: &mut TcpStream, text: &str) -> std::io::Result<()> {
    write!(stream, "{:x}\r\n{text}\r\n", text.len())?;
    stream.flush()
}

/// The whole of a streamed answer.
pub fn answer(stream: &mut TcpStream, events: &str) -> std::io::Result<()> {
    stream_head(stream, "")?;
    chunk(stream, events)?;
    stream.write_all(b"0\r\n\r\n")
}

pub fn say(stream: &mut TcpStream, words: &str) -> std::io::Result<()> {
    answer(stream, &said(words))
}

/// Another status, with further headers (each ending in CR LF) and a body.
pub fn status(stream: &mut TcpStream, status: u16, headers: &str, body: &str) -> std::io::Result<()> {
    write!(stream, "HTTP/1.1 {status} Status\r\nContent-Type: application/json\r\nContent-Length: {}\r\n{headers}\r\n{body}", body.len())?;
    stream.flush()
}

/// Waits until the gateway has gone away, or this long.
pub fn until_gone(stream: &TcpStream, at_most: Duration) {
    let _ = stream.set_read_timeout(Some(at_most));
    let mut one = [0u8; 1];
    let _ = (&*stream).read(&mut one);
    let _ = stream.set_read_timeout(None);
}
