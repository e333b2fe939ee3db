//! A raw client of `anchorhold mcp`, whose server may be killed at any instant.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout};

use serde_json::{Value, json};

use crate::world::World;

pub struct Server {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    last: u64,
}

impl Server {
    /// Starts a server and shakes hands.
    pub fn open(world: &World, variables: &[(&str, &str)]) -> Self {
        let mut command = world.command(&["mcp"], variables);
        let piped = std::process::Stdio::piped;
        let mut child = command.stdin(piped()).stdout(piped()).stderr(std::process::Stdio::null()).spawn().expect("the server starts");
        let (input, output) = (child.stdin.take(), BufReader::new(child.stdout.take().expect("its output")));
        let mut server = Self { child, input, output, last: 0 };
        let hello = json!({"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "faults", "version": "0"}});
        server.request("initialize", &hello);
        server.answer().expect("a greeting");
        server.write(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"}));
        server
    }

    /// Calls a tool and does not wait.
    pub fn send(&mut self, tool: &str, arguments: &Value) {
        self.request("tools/call", &json!({"name": tool, "arguments": arguments}));
    }

    /// Calls a tool; its structured content, or nothing where the server is gone.
    pub fn call(&mut self, tool: &str, arguments: &Value) -> Option<Value> {
        self.send(tool, arguments);
        Some(self.answer()?["result"]["structuredContent"].clone())
    }

    /// As by `kill -9`.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        self.child.wait().expect("it ends");
    }

    /// The client goes away; waits until the server has ended.
    pub fn close(&mut self) {
        self.input = None;
        self.child.wait().expect("it ends");
    }

    /// The server's process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    fn request(&mut self, method: &str, parameters: &Value) {
        self.last += 1;
        self.write(&json!({"jsonrpc": "2.0", "id": self.last, "method": method, "params": parameters}));
    }

    fn write(&mut self, message: &Value) {
        // One that was killed meanwhile takes nothing.
        if let Some(input) = &mut self.input {
            let _ = input.write_all(format!("{message}\n").as_bytes()).and_then(|()| input.flush());
        }
    }

    /// The answer to the last request; nothing where the server is gone.
    pub fn answer(&mut self) -> Option<Value> {
        loop {
            let mut line = String::new();
            if self.output.read_line(&mut line).unwrap_or(0) == 0 {
                return None;
            }
            let message: Value = serde_json::from_str(&line).unwrap_or_default();
            if message["id"] == self.last && message.get("method").is_none() {
                return Some(message);
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}
