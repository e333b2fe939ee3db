//! A client of the MCP server over pipes, by hand: an attacker keeps to no library.

#![expect(clippy::needless_pass_by_value, reason = "calls with `json!` in place read better")]

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use serde_json::{Value, json};

use crate::support::TestEnv;

pub struct Client {
    child: Child,
    input: ChildStdin,
    lines: BufReader<ChildStdout>,
    next: u64,
    roots: Vec<PathBuf>,
}

impl Client {
    /// A server in a directory, asked to begin; with `roots` it asks for them and gets these.
    pub fn open(env: &TestEnv, directory: &Path, roots: &[&Path]) -> Self {
        let mut child = env.command(directory, &["mcp"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the server starts");
        let input = child.stdin.take().expect("its input");
        let lines = BufReader::new(child.stdout.take().expect("its output"));
        let mut client = Self { child, input, lines, next: 0, roots: roots.iter().map(|root| (*root).to_owned()).collect() };
        let capabilities = if roots.is_empty() { json!({}) } else { json!({"roots": {}}) };
        let hello = json!({"protocolVersion": "2025-11-25", "capabilities": capabilities, "clientInfo": {"name": "attacker", "version": "0"}});
        client.request("initialize", hello);
        client.send(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"}));
        client
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Bytes as they are.
    pub fn send_bytes(&mut self, bytes: &[u8]) {
        self.input.write_all(bytes).and_then(|()| self.input.flush()).expect("the server reads");
    }

    pub fn send(&mut self, message: &Value) {
        self.send_bytes(format!("{message}\n").as_bytes());
    }

    /// Sends a request and gives its whole answer.
    pub fn request(&mut self, method: &str, params: Value) -> Value {
        self.next += 1;
        let id = self.next;
        self.send(&json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}));
        loop {
            let mut line = String::new();
            assert!(self.lines.read_line(&mut line).expect("a line") > 0, "the server ended instead of answering {method}");
            let message: Value = serde_json::from_str(&line).expect("one message a line");
            if message["method"] == "roots/list" {
                let roots: Vec<Value> = self.roots.iter().map(|root| json!({"uri": format!("file://{}", root.display())})).collect();
                self.send(&json!({"jsonrpc": "2.0", "id": message["id"], "result": {"roots": roots}}));
            } else if message["id"] == id && message.get("method").is_none() {
                return message;
            }
        }
    }

    /// Calls a tool; the whole result.
    pub fn tool(&mut self, name: &str, arguments: Value) -> Value {
        self.request("tools/call", json!({"name": name, "arguments": arguments}))["result"].clone()
    }

    /// Reads a resource; the whole answer.
    pub fn resource(&mut self, uri: &str) -> Value {
        self.request("resources/read", json!({ "uri": uri }))
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // Our own child: it would end with its input, and this makes sure.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
