//! A client that knows no library: one JSON message a line.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use serde_json::{Value, json};

use crate::support::Environment;

/// The server's process and both ends of it.
pub struct Client {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    last: u64,
}

impl Client {
    /// Shakes hands in the era that such clients speak.
    pub fn open(environment: &Environment) -> Self {
        Self::in_directory(environment, environment.path())
    }

    /// The same, started in a directory of choice.
    pub fn in_directory(environment: &Environment, directory: &std::path::Path) -> Self {
        let mut command = environment.anchorhold(&["mcp"]);
        let mut child = command.current_dir(directory).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (input, output) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        let mut client = Self { child, input, output, last: 0 };
        let hello = json!({"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "contract", "version": "0.24.0"}});
        let answer = client.request("initialize", &hello);
        assert_eq!(answer["result"]["protocolVersion"], "2025-11-25");
        assert!(answer["result"]["capabilities"]["tools"].is_object() && answer["result"]["capabilities"]["resources"].is_object());
        client.write(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"}));
        client
    }

    fn write(&mut self, message: &Value) {
        self.input.write_all(format!("{message}\n").as_bytes()).unwrap();
    }

    /// A request and its whole answer; what is told in between is passed over.
    pub fn request(&mut self, method: &str, params: &Value) -> Value {
        self.last += 1;
        let id = self.last;
        self.write(&json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}));
        loop {
            let mut line = String::new();
            assert!(self.output.read_line(&mut line).unwrap() > 0, "the server ended during {method}");
            let message: Value = serde_json::from_str(&line).unwrap();
            if message["id"] == id {
                return message;
            }
        }
    }

    /// A tool's structured content; its text says the same.
    pub fn tool(&mut self, name: &str, arguments: &Value) -> Value {
        let answer = self.request("tools/call", &json!({"name": name, "arguments": arguments}));
        let result = &answer["result"];
        let content = result["structuredContent"].clone();
        let text: Value = serde_json::from_str(result["content"][0]["text"].as_str().unwrap_or_else(|| panic!("{name}: {answer:#}"))).unwrap();
        assert_eq!(text, content, "{name}");
        assert_eq!(result["isError"] == true, content["ok"] == false, "{name}: {content:#}");
        content
    }

    /// The same of a call that must succeed.
    pub fn ok(&mut self, name: &str, arguments: &Value) -> Value {
        let content = self.tool(name, arguments);
        assert_eq!(content["ok"], true, "{name}: {content:#}");
        content
    }

    /// The error of a call that must fail; every envelope has what the contract promises.
    pub fn error(&mut self, name: &str, arguments: &Value) -> Value {
        let content = self.tool(name, arguments);
        assert_eq!(content["ok"], false, "{name}: {content:#}");
        let (error, meta) = (&content["error"], &content["meta"]);
        for field in ["code", "message", "temporary", "retry_after_ms", "repair", "details", "invalid_arguments"] {
            assert!(error.get(field).is_some(), "{name}: no {field} in {error:#}");
        }
        assert!(error["repair"]["next_step"].is_string() && error["repair"]["alternative"].is_string(), "{error:#}");
        for field in ["cwd", "tier", "sandbox", "isolation", "timeout_seconds", "elapsed_ms"] {
            assert!(meta.get(field).is_some(), "{name}: no {field} in {meta:#}");
        }
        error.clone()
    }

    /// A resource's text as JSON, and its kind.
    pub fn resource(&mut self, uri: &str) -> (Value, String) {
        let answer = self.request("resources/read", &json!({"uri": uri}));
        let content = &answer["result"]["contents"][0];
        let text = content["text"].as_str().unwrap_or_else(|| panic!("{uri}: {answer:#}"));
        (serde_json::from_str(text).unwrap(), content["mimeType"].as_str().unwrap().to_owned())
    }

    /// Polls as such a client does, to the end.
    pub fn ended(&mut self, job: &str) -> Value {
        for _ in 0..600 {
            let status = self.ok("codex_job_status", &json!({"job_id": job}));
            if status["result_available"] == true {
                return status;
            }
            assert_eq!(status["status"], "running");
            assert!((1000..=10_000).contains(&status["poll_after_ms"].as_u64().unwrap()));
            std::thread::sleep(std::time::Duration::from_millis(300));
        }
        panic!("the job does not end");
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // A test that fails must not leave a server.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
