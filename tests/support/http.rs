//! `anchorhold serve` as a client on the network sees it: a server that a test starts, and requests by hand.

#![expect(clippy::needless_pass_by_value, reason = "calls with `json!` in place read better")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

/// Long enough for a slow, shared machine; a test that meets it has failed.
const PATIENCE: Duration = Duration::from_secs(600);

/// An answer, taken apart.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Reply {
    /// The whole body as JSON, or the last event of a stream.
    #[track_caller]
    pub fn json(&self) -> Value {
        let text = String::from_utf8_lossy(&self.body);
        let text = self.events().pop().unwrap_or_else(|| text.into_owned());
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }

    /// The data of each event, where it is a stream.
    pub fn events(&self) -> Vec<String> {
        let text = String::from_utf8_lossy(&self.body);
        let stream = self.headers.iter().any(|(name, value)| name == "content-type" && value.starts_with("text/event-stream"));
        text.lines().filter(|_| stream).filter_map(|line| line.strip_prefix("data:")).map(|data| data.trim().to_owned()).collect()
    }
}

/// Where a server is, and what it wants to know.
#[derive(Debug, Clone)]
pub struct Remote {
    pub address: SocketAddr,
    pub token: Option<String>,
}

impl Remote {
    /// A new connection with this request sent.
    pub fn open(&self, line: &str, headers: &[(&str, &str)], body: &[u8]) -> std::io::Result<TcpStream> {
        let mut stream = TcpStream::connect(self.address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut head = format!("{line} HTTP/1.1\r\nConnection: close\r\nContent-Length: {}\r\n", body.len());
        if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
            head.push_str("Host: localhost\r\n");
        }
        if let Some(token) = &self.token {
            head.push_str(&format!("Authorization: Bearer {token}\r\n"));
        }
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        stream.write_all(format!("{head}\r\n").as_bytes())?;
        stream.write_all(body)?;
        Ok(stream)
    }

    /// A request and its answer.
    #[track_caller]
    pub fn request(&self, line: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
        read(self.open(line, headers, body).expect("a connection"))
    }

    /// A request of the protocol of 2026-07-28, sent.
    #[track_caller]
    pub fn send(&self, method: &str, params: Value) -> TcpStream {
        let mut params = params;
        let name = ["name", "uri", "taskId"].iter().find_map(|key| params[key].as_str()).unwrap_or_default().to_owned();
        let meta = &mut params["_meta"];
        meta["io.modelcontextprotocol/protocolVersion"] = json!("2026-07-28");
        meta["io.modelcontextprotocol/clientCapabilities"] = json!({});
        meta["io.modelcontextprotocol/clientInfo"] = json!({"name": "test", "version": "0"});
        let mut headers = vec![
            ("Content-Type", "application/json"),
            ("Accept", "application/json, text/event-stream"),
            ("MCP-Protocol-Version", "2026-07-28"),
            ("Mcp-Method", method),
        ];
        if !name.is_empty() {
            headers.push(("Mcp-Name", &name));
        }
        let message = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
        self.open("POST /mcp", &headers, message.to_string().as_bytes()).expect("a connection")
    }

    /// The same of the protocol of 2025-11-25.
    #[track_caller]
    pub fn send_legacy(&self, method: &str, params: Value) -> TcpStream {
        let headers =
            [("Content-Type", "application/json"), ("Accept", "application/json, text/event-stream"), ("MCP-Protocol-Version", "2025-11-25")];
        let message = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
        self.open("POST /mcp", &headers, message.to_string().as_bytes()).expect("a connection")
    }

    /// The structured content of a tool's answer.
    #[track_caller]
    pub fn tool(&self, tool: &str, arguments: Value) -> Value {
        let reply = read(self.send("tools/call", json!({"name": tool, "arguments": arguments})));
        let answer = reply.json();
        assert!(answer["result"]["structuredContent"].is_object(), "{tool}: {answer:#}");
        answer["result"]["structuredContent"].clone()
    }

    /// Asks for a job until it has ended.
    #[track_caller]
    pub fn ended(&self, job: &str) -> Value {
        let start = std::time::Instant::now();
        loop {
            let status = self.tool("codex_job_status", json!({"job_id": job, "wait_seconds": 20}));
            if status["result_available"] == true {
                return status;
            }
            assert!(start.elapsed() < PATIENCE, "the job does not end: {status:#}");
        }
    }
}

/// Reads an answer to its end.
#[track_caller]
pub fn read(stream: TcpStream) -> Reply {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    let mut next = |reader: &mut BufReader<TcpStream>| {
        line.clear();
        reader.read_line(&mut line).expect("a line of the head");
        line.trim_end().to_owned()
    };
    let first = next(&mut reader);
    let status = first.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or_else(|| panic!("no status: {first:?}"));
    let mut headers = Vec::new();
    loop {
        let header = next(&mut reader);
        let Some((name, value)) = header.split_once(':') else { break };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let mut rest = Vec::new();
    reader.read_to_end(&mut rest).expect("the body");
    let chunked = headers.iter().any(|(name, value)| name == "transfer-encoding" && value == "chunked");
    Reply { status, headers, body: if chunked { unchunked(&rest) } else { rest } }
}

fn unchunked(mut rest: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(end) = rest.windows(2).position(|pair| pair == b"\r\n") {
        let size = std::str::from_utf8(&rest[..end]).ok().and_then(|text| usize::from_str_radix(text, 16).ok()).expect("a chunk's size");
        if size == 0 {
            break;
        }
        body.extend_from_slice(&rest[end + 2..end + 2 + size]);
        rest = &rest[end + 4 + size..];
    }
    body
}

/// A server of a test, ended when dropped.
pub struct Served {
    pub remote: Remote,
    child: Child,
}

impl Served {
    /// Starts `anchorhold serve --json …`; what it says where it does not begin.
    pub fn start(mut command: Command, token: Option<&str>) -> Result<Self, Value> {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("the server starts");
        let output = child.stdout.take().expect("its output");
        let mut documents = serde_json::Deserializer::from_reader(output).into_iter::<Value>();
        let said = documents.next().expect("a document").expect("JSON");
        let Some(address) = said["serve"]["address"].as_str() else {
            let _ = child.wait();
            return Err(said);
        };
        let mut address: SocketAddr = address.parse().expect("an address");
        if address.ip().is_unspecified() {
            address.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
        }
        Ok(Self { remote: Remote { address, token: token.map(ToOwned::to_owned) }, child })
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Asks it to end.
    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw).expect("a pid");
        rustix::process::kill_process(pid, signal).expect("our own child");
    }

    /// Its exit code, once it has ended.
    pub fn wait(mut self) -> Option<i32> {
        self.child.wait().expect("it ends").code()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // Our own child: one that has ended is only collected.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
