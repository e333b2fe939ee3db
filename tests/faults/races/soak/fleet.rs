//! MCP servers that live through a soak, each used by many threads at once; one of them is killed now and then and replaced.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, RwLock};

use serde_json::{Value, json};

use crate::world::World;

/// Who waits for which answer; `None`: the server is gone, and nobody needs to wait.
type Waiting = Arc<Mutex<Option<HashMap<u64, Sender<Value>>>>>;

/// One server and its client.
pub struct Server {
    child: Mutex<Child>,
    input: Mutex<Option<ChildStdin>>,
    waiting: Waiting,
    last: AtomicU64,
    pid: u32,
}

impl Server {
    fn open(world: &World) -> Self {
        let mut command = world.command(&["mcp"], &[]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("the server starts");
        let (input, output) = (child.stdin.take(), child.stdout.take().expect("its output"));
        let waiting: Waiting = Arc::new(Mutex::new(Some(HashMap::new())));
        let told = waiting.clone();
        std::thread::spawn(move || hear(output, &told));
        let pid = child.id();
        let server = Self { child: Mutex::new(child), input: Mutex::new(input), waiting, last: AtomicU64::new(0), pid };
        let hello = json!({"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "soak", "version": "0"}});
        server.ask("initialize", &hello).expect("a greeting");
        server.write(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"}));
        server
    }

    /// Calls a tool; its structured content. `None`: the server is gone.
    pub fn call(&self, tool: &str, arguments: &Value) -> Option<Value> {
        let answer = self.ask("tools/call", &json!({"name": tool, "arguments": arguments}))?;
        assert!(answer["error"].is_null(), "{tool}: {answer:#}");
        Some(answer["result"]["structuredContent"].clone())
    }

    fn ask(&self, method: &str, parameters: &Value) -> Option<Value> {
        let id = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        let (sender, answer): (_, Receiver<Value>) = channel();
        self.waiting.lock().expect("no poison").as_mut()?.insert(id, sender);
        self.write(&json!({"jsonrpc": "2.0", "id": id, "method": method, "params": parameters}));
        answer.recv().ok()
    }

    fn write(&self, message: &Value) {
        // One that was killed meanwhile takes nothing.
        if let Some(input) = self.input.lock().expect("no poison").as_mut() {
            let _ = input.write_all(format!("{message}\n").as_bytes()).and_then(|()| input.flush());
        }
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// As by `kill -9`.
    pub fn kill(&self) {
        let mut child = self.child.lock().expect("no poison");
        let _ = child.kill();
        child.wait().expect("it ends");
    }

    /// The client goes away, and the server with it.
    fn close(&self) {
        *self.input.lock().expect("no poison") = None;
        self.child.lock().expect("no poison").wait().expect("it ends");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Hands each answer to who waits for it, until the server is gone.
fn hear(output: ChildStdout, waiting: &Waiting) {
    for line in BufReader::new(output).lines().map_while(Result::ok) {
        let Ok(message) = serde_json::from_str::<Value>(&line) else { continue };
        let Some(id) = message["id"].as_u64().filter(|_| message["method"].is_null()) else { continue };
        if let Some(sender) = waiting.lock().expect("no poison").as_mut().and_then(|waiting| waiting.remove(&id)) {
            // Whoever asked may have given up.
            let _ = sender.send(message);
        }
    }
    *waiting.lock().expect("no poison") = None;
}

/// Some servers that stay, and behind them one that is killed and replaced.
pub struct Fleet {
    stay: Vec<Arc<Server>>,
    victim: RwLock<Arc<Server>>,
}

impl Fleet {
    pub fn open(world: &World, stay: usize) -> Self {
        let stay = (0..stay).map(|_| Arc::new(Server::open(world))).collect();
        Self { stay, victim: RwLock::new(Arc::new(Server::open(world))) }
    }

    /// The servers that stay, and the one that does not.
    pub fn count(&self) -> usize {
        self.stay.len() + 1
    }

    /// One by its place; the last one is the victim.
    pub fn server(&self, at: usize) -> Arc<Server> {
        self.stay.get(at).cloned().unwrap_or_else(|| self.victim.read().expect("no poison").clone())
    }

    pub fn stay(&self) -> &[Arc<Server>] {
        &self.stay
    }

    /// Whether the server at this place is the victim.
    pub fn is_victim(&self, at: usize) -> bool {
        at >= self.stay.len()
    }

    /// Kills the victim and puts a new server in its place.
    pub fn kill_victim(&self, world: &World) {
        let mut victim = self.victim.write().expect("no poison");
        victim.kill();
        *victim = Arc::new(Server::open(world));
    }

    /// Calls a tool, again at the next server where one died over it; whether one did.
    pub fn call(&self, at: usize, tool: &str, arguments: &Value) -> (Value, bool) {
        let mut died = false;
        loop {
            match self.server(at).call(tool, arguments) {
                Some(answer) => return (answer, died),
                None => {
                    assert!(self.is_victim(at), "a server that nobody killed is gone");
                    died = true;
                    // Its successor comes as soon as the killer has the lock again.
                    std::thread::yield_now();
                }
            }
        }
    }

    /// All clients go away.
    pub fn close(self) {
        self.stay.iter().for_each(|server| server.close());
        self.victim.read().expect("no poison").close();
    }
}
