//! A gateway process on a temporary directory, and the attacker's end of its socket: raw bytes, no HTTP library.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anchorhold::protocol::manifest::hex;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::provider::{Arrived, Provider};
use crate::arena::Arena;

/// Longer than anything here takes on a slow machine; who meets it has failed.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// How long more of an answer is waited for. The gateway closes a connection that it refuses.
const SILENCE: Duration = Duration::from_millis(400);

/// The gateway under attack, with a provider, and a place where nothing of it may ever arrive.
pub struct Rig {
    child: Mutex<Child>,
    variables: Vec<(String, String)>,
    program: PathBuf,
    directory: tempfile::TempDir,
    pub provider: Provider,
    /// A proxy that the gateway's environment names and a target of redirects.
    pub elsewhere: Provider,
    serial: AtomicU64,
}

/// What a job is admitted with.
#[derive(Debug, Clone)]
pub struct Terms {
    pub models: Vec<&'static str>,
    pub budget: u64,
    /// Seconds until the pass is dead.
    pub lives: u64,
    /// Slots there are from now on.
    pub slots: u32,
    /// `bounds` and `ceilings` of the admission, where they are not the usual ones.
    pub further: Value,
}

impl Default for Terms {
    fn default() -> Self {
        Self { models: Vec::new(), budget: 0, lives: 3600, slots: 100_000, further: json!({}) }
    }
}

/// An admitted job.
pub struct Job {
    pub id: String,
    pub pass: String,
    pub tag: String,
    /// The credential of its upstream.
    pub key: String,
    /// Its slot connection; empty for a job that was not given one.
    pub slot: Option<BufReader<UnixStream>>,
}

impl Rig {
    /// Starts the arena's binary as a gateway.
    pub fn start(arena: &Arena) -> Self {
        Self::start_by(arena, None)
    }

    /// Starts it as a user without privileges, from a shell that allows core files of any size.
    pub fn start_unprivileged(arena: &Arena) -> Self {
        assert!(rustix::process::geteuid().is_root(), "this case needs to run as root, to start the gateway as somebody else");
        Self::start_by(arena, Some(UNPRIVILEGED))
    }

    /// Starts one that waits a second where others wait minutes.
    pub fn start_impatient(arena: &Arena) -> Self {
        Self::start_with(arena, None, &[("ANCHORHOLD_GATEWAY_TIMES".to_owned(), "head=1000,body=1000,client=1000".to_owned())])
    }

    fn start_by(arena: &Arena, user: Option<u32>) -> Self {
        Self::start_with(arena, user, &[])
    }

    fn start_with(arena: &Arena, user: Option<u32>, further: &[(String, String)]) -> Self {
        let variables = [arena.variables(), further].concat();
        let directory = tempfile::Builder::new().prefix("anchorhold-gwattacks-").tempdir().expect("a directory");
        let mut program = arena.binary().to_owned();
        if let Some(user) = user {
            // The tree of the tests may be closed to others.
            program = directory.path().join("anchorhold");
            std::fs::copy(arena.binary(), &program).expect("a copy of the binary");
            std::os::unix::fs::chown(directory.path(), Some(user), Some(user)).expect("a directory of the gateway's user");
        }
        let (provider, elsewhere) = (Provider::start(), Provider::start());
        let child = Mutex::new(spawn(&program, directory.path(), &elsewhere, &variables, user));
        let rig = Self { child, variables, program, directory, provider, elsewhere, serial: AtomicU64::new(0) };
        rig.wait();
        rig
    }

    /// Waits until somebody listens.
    fn wait(&self) {
        let begun = Instant::now();
        while UnixStream::connect(self.socket()).is_err() {
            assert!(begun.elapsed() < PATIENCE, "the gateway does not start: {}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Kills the gateway in the middle of whatever it does, and starts it again on what it left.
    pub fn crash(&self) {
        let mut child = self.child.lock().expect("a lock");
        child.kill().expect("a kill");
        child.wait().expect("its end");
        *child = spawn(&self.program, self.directory.path(), &self.elsewhere, &self.variables, None);
        drop(child);
        self.wait();
    }

    pub fn pid(&self) -> u32 {
        self.child.lock().expect("a lock").id()
    }

    pub fn socket(&self) -> PathBuf {
        self.directory.path().join("run/gateway.sock")
    }

    pub fn state(&self) -> PathBuf {
        self.directory.path().join("state")
    }

    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// One file below `/proc/<gateway>/`.
    pub fn proc(&self, name: &str) -> String {
        std::fs::read_to_string(format!("/proc/{}/{name}", self.pid())).unwrap_or_else(|e| panic!("/proc/<gateway>/{name}: {e}"))
    }

    /// Its resident memory in MiB: most ever (`VmHWM`) or now (`VmRSS`).
    pub fn memory(&self, line: &str) -> u64 {
        let status = self.proc("status");
        let value = status.lines().find_map(|l| l.strip_prefix(line)?.strip_prefix(':')).unwrap_or_else(|| panic!("{line} in {status}"));
        value.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") / 1024
    }

    /// All that it logged.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.directory.path().join("log")).unwrap_or_default()).into_owned()
    }

    /// Its ledger, raw.
    pub fn ledger_text(&self) -> String {
        std::fs::read_to_string(self.state().join("ledger.jsonl")).unwrap_or_default()
    }

    /// Its ledger's lines about a job's requests.
    pub fn requests_of(&self, job: &Job) -> Vec<Value> {
        let lines = self.ledger_text();
        let all = lines.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        all.filter(|line| line["kind"] == "request" && line["job"] == job.id.as_str()).collect()
    }

    /// One request to the control socket, as those who hold the engine make it.
    pub fn admin(&self, request: &Value) -> Value {
        let mut stream = UnixStream::connect(self.state().join("admin.sock")).expect("the control socket");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        writeln!(stream, "{request}").expect("a request");
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).expect("a response");
        serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line}"))
    }

    /// What the gateway says about a job to those who hold the engine.
    pub fn account(&self, job: &Job) -> Value {
        self.admin(&json!({"op": "job", "job_id": job.id}))
    }

    /// Admits a job that does not yet ask for a slot.
    pub fn admit(&self, terms: &Terms) -> Job {
        let n = self.serial.fetch_add(1, Ordering::Relaxed);
        let tag = format!("job{n}");
        let random = || uuid::Uuid::new_v4().simple().to_string();
        let (id, pass, key) = (random(), format!("{}{}", random(), random()), format!("sk-attack-{}", random()));
        let expires = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a clock").as_secs() + terms.lives;
        let mut admission = json!({
            "op": "admit", "job_id": id, "pass_sha256": hex(&Sha256::digest(&pass)), "credential": key, "allowed_models": terms.models,
            "upstream": {"kind": "http", "base_url": format!("http://127.0.0.1:{}/{tag}", self.provider.port())},
            "token_budget": terms.budget, "expires_unix": expires, "max_running_jobs": terms.slots, "instance": "attack"
        });
        for (key, value) in terms.further.as_object().into_iter().flatten() {
            admission[key] = value.clone();
        }
        let answer = self.admin(&admission);
        assert_eq!(answer["type"], "ok", "{answer}");
        Job { id, pass, tag, key, slot: None }
    }

    /// Admits a job and waits for its slot.
    pub fn job(&self, terms: &Terms) -> Job {
        let mut job = self.admit(terms);
        self.take_slot(&mut job);
        job
    }

    /// Opens the job's slot connection and waits until it is granted.
    pub fn take_slot(&self, job: &mut Job) {
        let mut slot = BufReader::new(self.open_with(&preamble(&job.id, &job.pass, "slot")).0);
        slot.get_ref().set_read_timeout(Some(PATIENCE)).expect("a timeout");
        loop {
            let mut line = String::new();
            slot.read_line(&mut line).expect("a slot");
            if line.contains("granted") {
                break;
            }
            assert!(line.contains("queued"), "no slot: {line}");
        }
        job.slot = Some(slot);
    }

    /// A job with a script of its own at the provider.
    pub fn job_answered(
        &self,
        terms: &Terms,
        script: impl Fn(usize, &Arrived, &mut std::net::TcpStream) -> std::io::Result<bool> + Send + Sync + 'static,
    ) -> Job {
        let job = self.job(terms);
        self.provider.script(&job.tag, script);
        job
    }

    /// A connection on which this was said first.
    pub fn open_with(&self, first: &[u8]) -> Conn {
        let mut conn = Conn(UnixStream::connect(self.socket()).expect("the gateway's socket"));
        conn.send(first);
        conn
    }

    /// A model connection of a job.
    pub fn open(&self, job: &Job) -> Conn {
        self.open_with(&preamble(&job.id, &job.pass, "model"))
    }

    /// Sends raw bytes on a fresh model connection and reads what comes back.
    pub fn raw(&self, job: &Job, bytes: &[u8]) -> Answer {
        let mut conn = self.open(job);
        conn.send(bytes);
        // A verdict may not come before the answer does.
        let begun = Instant::now();
        let mut first = [0u8; 1];
        conn.0.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
        match conn.0.read(&mut first) {
            Ok(1) => {}
            _ => return Answer { bytes: Vec::new(), closed: begun.elapsed() < Duration::from_secs(10) },
        }
        let rest = conn.answer(SILENCE);
        Answer { bytes: [&first[..], &rest.bytes].concat(), closed: rest.closed }
    }

    /// An ordinary request with this body; the whole answer is awaited.
    pub fn ask(&self, job: &Job, body: &Value) -> Answer {
        let mut conn = self.open(job);
        conn.send(&post(body.to_string().as_bytes()));
        conn.answer(PATIENCE)
    }

    /// What arrived at the provider for a job.
    pub fn arrived(&self, job: &Job) -> Vec<Arrived> {
        self.provider.arrived(&job.tag)
    }

    /// The same attempt fails of itself in a gateway that serves nobody; so a good request must be served after each case.
    pub fn must_serve(&self, job: &Job) {
        let before = self.arrived(job).len();
        let answer = self.ask(job, &good());
        assert!(answer.status() == Some(200) && answer.text().contains("response.completed"), "a good request was not served: {answer:?}");
        assert_eq!(self.arrived(job).len(), before + 1, "a good request did not arrive");
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        let mut child = self.child.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let _ = child.kill();
        let _ = child.wait();
    }
}

/// Starts the gateway as its container does, from a shell that allows core files of any size and as much locked memory as it may. Its environment
/// names a proxy and holds a canary.
#[expect(clippy::disallowed_methods, reason = "it is started as its container starts it, not as a helper of ours")]
fn spawn(program: &Path, directory: &Path, proxy: &Provider, variables: &[(String, String)], user: Option<u32>) -> Child {
    let limits = "ulimit -c unlimited; ulimit -l unlimited 2>/dev/null";
    let mut command = Command::new("/bin/sh");
    match user {
        None => command.args(["-c", &format!("{limits}; exec \"$0\" gateway run")]),
        Some(user) => command.args(["-c", &format!("{limits}; exec setpriv --reuid={user} --regid={user} --clear-groups -- \"$0\" gateway run")]),
    };
    command.arg(program).env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").envs(variables.iter().cloned());
    for name in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"] {
        command.env(name, format!("http://127.0.0.1:{}", proxy.port()));
    }
    let log = File::options().create(true).append(true).open(directory.join("log")).expect("a log");
    command
        .env("ANCHORHOLD_GATEWAY_SOCKET", directory.join("run/gateway.sock"))
        .env("ANCHORHOLD_GATEWAY_STATE", directory.join("state"))
        .env("ANCHORHOLD_LOG", "trace")
        .env("GATEWAY_CANARY", "canary-of-the-gateway")
        .current_dir(directory)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .expect("the gateway")
}

/// A user and group that own nothing else.
pub const UNPRIVILEGED: u32 = 64_017;

/// The attacker's end of a connection.
pub struct Conn(pub UnixStream);

impl Conn {
    /// Writes; a gateway that has closed already is an answer too, not a failure. A gateway that reads nothing is given up soon.
    pub fn send(&mut self, bytes: &[u8]) -> bool {
        self.0.set_write_timeout(Some(Duration::from_secs(5))).expect("a timeout");
        self.0.write_all(bytes).and_then(|()| self.0.flush()).is_ok()
    }

    /// Everything that comes until the gateway closes, or nothing has come for this long.
    pub fn answer(&mut self, silence: Duration) -> Answer {
        let mut bytes = Vec::new();
        let mut buffer = vec![0u8; 64 << 10];
        self.0.set_read_timeout(Some(silence)).expect("a timeout");
        let closed = loop {
            match self.0.read(&mut buffer) {
                Ok(0) => break true,
                Ok(n) => bytes.extend_from_slice(&buffer[..n]),
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => break !matches!(e.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut),
            }
        };
        Answer { bytes, closed }
    }

    /// Reads until these words have come; what came.
    pub fn until(&mut self, words: &str, at_most: Duration) -> String {
        let begun = Instant::now();
        let mut text = String::new();
        let mut buffer = vec![0u8; 64 << 10];
        self.0.set_read_timeout(Some(Duration::from_millis(100))).expect("a timeout");
        while begun.elapsed() < at_most && !text.contains(words) {
            match self.0.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => text.push_str(&String::from_utf8_lossy(&buffer[..n])),
                Err(_) => {}
            }
        }
        text
    }
}

/// What came back.
#[derive(Debug)]
pub struct Answer {
    pub bytes: Vec<u8>,
    /// The gateway closed the connection.
    pub closed: bool,
}

impl Answer {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    /// The status of the first response.
    pub fn status(&self) -> Option<u16> {
        self.text().strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()
    }

    /// The statuses of all responses.
    pub fn statuses(&self) -> Vec<u16> {
        self.text().split("HTTP/1.1 ").skip(1).filter_map(|rest| rest.get(..3)?.parse().ok()).collect()
    }

    /// The names of the first response's headers, in lower case.
    pub fn header_names(&self) -> Vec<String> {
        let text = self.text();
        let head = text.split("\r\n\r\n").next().unwrap_or_default();
        head.lines().skip(1).filter_map(|line| Some(line.split_once(':')?.0.to_ascii_lowercase())).collect()
    }
}

/// The first line of a connection.
pub fn preamble(job_id: &str, pass: &str, channel: &str) -> Vec<u8> {
    let mut line =
        json!({"version": anchorhold::protocol::PROTOCOL_VERSION, "job_id": job_id, "pass": pass, "channel": channel, "resume": false}).to_string();
    line.push('\n');
    line.into_bytes()
}

/// An HTTP request with this body, as Codex writes it, on a connection that ends with it.
pub fn post(body: &[u8]) -> Vec<u8> {
    post_with("", body)
}

/// The same with further headers, each ending in CR LF.
pub fn post_with(headers: &str, body: &[u8]) -> Vec<u8> {
    request(&format!("POST {PATH} HTTP/1.1"), headers, body)
}

/// A request with this first line.
pub fn request(line: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "{line}\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n{headers}\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

/// The one path there is.
pub const PATH: &str = "/v1/responses";

/// A request that is served.
pub fn good() -> Value {
    json!({"model": "gpt-5.5", "input": "say something", "stream": true})
}

/// The same with one thing changed.
pub fn with(key: &str, value: impl Into<Value>) -> Value {
    let mut body = good();
    body[key] = value.into();
    body
}
