//! A bare MCP client over stdio: JSON lines, no library between the clock and the server.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use super::figures::unix_ms;
use super::world::World;

/// A running `anchorhold mcp`.
pub struct Client {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    next: u64,
}

/// A result and what polling added to it.
pub struct Finished {
    pub result: Value,
    /// Milliseconds between the job's end and the poll that saw it: no cost of the product's.
    pub poll_waste_ms: f64,
}

impl Client {
    /// Starts a server and shakes hands.
    pub fn start(world: &World) -> Self {
        let mut child = world.anchorhold(&["mcp"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("starts");
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().expect("stdout"));
        let mut client = Self { child, input, output, next: 0 };
        client.request("initialize", &json!({"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "bench", "version": "0"}}));
        client.send(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"}));
        client
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    fn send(&mut self, message: &Value) {
        let input = self.input.as_mut().expect("open");
        writeln!(input, "{message}").expect("the server reads");
        input.flush().expect("the server reads");
    }

    /// One request and its answer.
    pub fn request(&mut self, method: &str, params: &Value) -> Value {
        self.next += 1;
        let id = self.next;
        self.send(&json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}));
        loop {
            let mut line = String::new();
            assert!(self.output.read_line(&mut line).expect("the server answers") > 0, "the server ended");
            let answer: Value = serde_json::from_str(&line).expect("JSON");
            if answer["id"] == id {
                return answer["result"].clone();
            }
        }
    }

    fn call(&mut self, tool: &str, arguments: &Value) -> Value {
        let result = self.request("tools/call", &json!({"name": tool, "arguments": arguments}));
        let content = result["structuredContent"].clone();
        assert_eq!(content["ok"], true, "{tool}: {content:#}");
        content
    }

    pub fn delegate_async(&mut self, repo: &Path, task: &str) -> String {
        let handle = self.call("codex_delegate_async", &json!({"task": task, "workspace_root": repo, "model": "gpt-5.5"}));
        handle["job_id"].as_str().expect("job id").to_owned()
    }

    pub fn delegate(&mut self, repo: &Path, task: &str) -> Value {
        self.call("codex_delegate", &json!({"task": task, "workspace_root": repo, "model": "gpt-5.5"}))
    }

    fn status(&mut self, job: &str) -> Value {
        self.call("codex_job_status", &json!({"job_id": job}))
    }

    pub fn wait_running(&mut self, job: &str) {
        while self.status(job)["answers"].as_u64().unwrap_or(0) == 0 {
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    pub fn result_when_done(&mut self, job: &str) -> Finished {
        loop {
            let before = unix_ms();
            if self.status(job)["status"] != "running" {
                let result = self.call("codex_job_result", &json!({"job_id": job}));
                // The status call that saw the end began at `before`; the seal may have been up to one pause earlier.
                let sealed = result["timings"]["sealed_unix_ms"].as_f64().unwrap_or(before);
                return Finished { result, poll_waste_ms: (before - sealed).clamp(0.0, 20.0) };
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub fn cancel(&mut self, job: &str) {
        self.call("codex_job_cancel", &json!({"job_id": job}));
    }

    /// Waits for the end and removes the job.
    pub fn finish(&mut self, job: &str) {
        while self.status(job)["status"] == "running" {
            std::thread::sleep(Duration::from_millis(20));
        }
        self.request("tools/call", &json!({"name": "codex_job_consume_result", "arguments": {"job_id": job}}));
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        drop(self.input.take());
        let _ = self.child.wait();
    }
}
