//! The gateway as a process of its own: what others may see of it, and what outlives `kill -9`.
#![expect(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test fails by panicking, its helpers too, and makes its own processes")]

mod support;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use support::provider::{Provider, Reply};

const KEY: &str = "sk-process-0123456789abcdef";
const JOB: &str = "0123456789abcdef0123456789abcdef";
const TASK: &str = "canary-of-the-task";
const PASS: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
/// Somebody without privileges.
const NOBODY: u32 = 65_534;
const PATIENCE: Duration = Duration::from_secs(60);

struct Gateway {
    directory: tempfile::TempDir,
    uid: Option<u32>,
    child: Child,
}

impl Gateway {
    fn start(uid: Option<u32>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        if uid.is_some() {
            std::os::unix::fs::chown(directory.path(), uid, uid).unwrap();
        }
        let child = Self::spawn(&directory, uid);
        let gateway = Self { directory, uid, child };
        gateway.wait();
        gateway
    }

    fn spawn(directory: &tempfile::TempDir, uid: Option<u32>) -> Child {
        let built = Path::new(env!("CARGO_BIN_EXE_anchorhold"));
        let program = directory.path().join("anchorhold");
        // Where another user can reach it: the checkout may lie in somebody's home.
        if !program.exists() && std::fs::hard_link(built, &program).is_err() {
            std::fs::copy(built, &program).unwrap();
        }
        let mut command = Command::new(&program);
        command.args(["gateway", "run"]).env("ANCHORHOLD_GATEWAY_SOCKET", directory.path().join("run/gateway.sock"));
        command.env("ANCHORHOLD_GATEWAY_STATE", directory.path().join("state")).env("CANARY_SECRET", "canary-of-the-caller");
        command.env("HTTPS_PROXY", "http://127.0.0.1:1").env("LD_BIND_NOW", "1").stdout(Stdio::null());
        // The most that it can be made to say.
        let log = std::fs::OpenOptions::new().create(true).append(true).open(directory.path().join("log")).unwrap();
        command.env("ANCHORHOLD_LOG", "trace,hyper=trace,reqwest=trace,rustls=trace").stderr(log);
        if let Some(uid) = uid {
            command.uid(uid).gid(uid);
        }
        command.spawn().unwrap()
    }

    fn wait(&self) {
        let until = Instant::now() + PATIENCE;
        while UnixStream::connect(self.socket()).is_err() {
            assert!(Instant::now() < until, "the gateway does not listen");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    fn again(&mut self) {
        self.child = Self::spawn(&self.directory, self.uid);
        self.wait();
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("run/gateway.sock")
    }

    fn proc(&self, name: &str) -> String {
        String::from_utf8_lossy(&std::fs::read(format!("/proc/{}/{name}", self.child.id())).unwrap()).into_owned()
    }

    fn admin(&self, request: &Value) -> Value {
        let mut stream = BufReader::new(UnixStream::connect(self.directory.path().join("state/admin.sock")).unwrap());
        stream.get_mut().write_all(format!("{request}\n").as_bytes()).unwrap();
        let mut line = String::new();
        stream.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap()
    }

    fn admit(&self, base_url: &str, key: &str, budget: u64) {
        let answer = self.admin(&json!({"op": "admit", "job_id": JOB, "pass_sha256": hex(&Sha256::digest(PASS)), "credential": key,
            "upstream": {"kind": "http", "base_url": base_url}, "allowed_models": [], "token_budget": budget, "expires_unix": u64::MAX,
            "max_running_jobs": 1, "instance": "test"}));
        assert_eq!(answer["type"], "ok", "{answer}");
    }

    fn account(&self) -> Value {
        self.admin(&json!({"op": "job", "job_id": JOB}))
    }

    fn open(&self, channel: &str) -> UnixStream {
        let mut stream = UnixStream::connect(self.socket()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let line = json!({"version": anchorhold::protocol::PROTOCOL_VERSION, "job_id": JOB, "pass": PASS, "channel": channel});
        stream.write_all(format!("{line}\n").as_bytes()).unwrap();
        stream
    }

    fn slot(&self) -> UnixStream {
        let mut slot = self.open("slot");
        let mut said = [0; 18];
        slot.read_exact(&mut said).unwrap();
        assert_eq!(&said, b"{\"type\":\"granted\"}");
        slot
    }

    /// Asks for a path that there is not.
    fn ask_for(&self, path: &str) {
        let mut stream = self.open("model");
        stream.write_all(format!("POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n").as_bytes()).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        assert!(text.starts_with("HTTP/1.1 404"), "{text}");
    }

    /// Asks and reads until this stands in what comes.
    fn ask(&self, until: &str) -> (UnixStream, String) {
        let mut stream = self.open("model");
        let body = json!({"model": "m", "input": TASK}).to_string();
        let head = format!("POST /v1/responses HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n", body.len());
        stream.write_all((head + &body).as_bytes()).unwrap();
        let mut text = String::new();
        let mut piece = [0; 4096];
        while !text.contains(until) {
            let read = stream.read(&mut piece).unwrap();
            assert!(read > 0, "it ended before {until:?}: {text}");
            text.push_str(&String::from_utf8_lossy(&piece[..read]));
        }
        (stream, text)
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn hex(bytes: &[u8]) -> String {
    anchorhold::protocol::manifest::hex(bytes)
}

fn base_url(provider: &Provider) -> String {
    provider.url("/v1")
}

/// At its most talkative it says what happened and to which job, and nothing of what passed.
#[test]
fn the_log_holds_no_key_no_pass_and_no_word_of_a_request() {
    let provider = Provider::start(vec![Reply::say("canary-of-the-answer")]);
    let gateway = Gateway::start(None);
    gateway.admit(&base_url(&provider), KEY, 0);
    let _slot = gateway.slot();
    let (_, answer) = gateway.ask("canary-of-the-answer");
    gateway.ask_for("/v1/canary-of-a-path");
    // The words were there to be found.
    let seen = &provider.seen()[0];
    assert!(seen.header("authorization").contains(KEY) && seen.body.to_string().contains(TASK) && answer.contains("canary-of-the-answer"));
    let until = Instant::now() + PATIENCE;
    let log = loop {
        let log = std::fs::read_to_string(gateway.directory.path().join("log")).unwrap();
        if log.matches("a model request ended").count() == 2 {
            break log;
        }
        assert!(Instant::now() < until, "{log}");
        std::thread::sleep(Duration::from_millis(20));
    };
    for word in [KEY, PASS, &PASS[..20], TASK, "canary"] {
        assert!(!log.contains(word), "{word} in {log}");
    }
    for line in log.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        assert!(line["target"].as_str().unwrap().starts_with("anchorhold"), "{line}");
        assert!(line["message"] != "a model request ended" || line["job_id"] == JOB, "{line}");
    }
}

#[test]
fn what_was_under_way_when_the_gateway_was_killed_is_charged() {
    let provider = Provider::start(vec![Reply::Stall]);
    let mut gateway = Gateway::start(None);
    gateway.admit(&base_url(&provider), KEY, 5000);
    let slot = gateway.slot();
    let (stream, _) = gateway.ask("response.created");
    assert_eq!((&gateway.account()["charged_tokens"], &gateway.account()["reserved_tokens"]), (&json!(0), &json!(5000)));
    gateway.kill();
    drop((slot, stream));
    gateway.again();
    let account = gateway.account();
    assert_eq!((&account["charged_tokens"], &account["reserved_tokens"]), (&json!(5000), &json!(0)), "{account}");
    let _slot = gateway.slot();
    let (_, text) = gateway.ask("token_budget");
    assert!(text.starts_with("HTTP/1.1 400"), "{text}");
    assert_eq!(provider.seen().len(), 1);
}

#[test]
fn the_process_is_closed_to_others() {
    if !rustix::process::geteuid().is_root() {
        // Another user is needed to look from.
        return;
    }
    let provider = Provider::start(vec![Reply::say("done")]);
    let gateway = Gateway::start(Some(NOBODY));
    gateway.admit(&base_url(&provider), KEY, 0);
    let _slot = gateway.slot();
    gateway.ask("response.completed");
    let limits = gateway.proc("limits");
    let core: Vec<&str> = limits.lines().find(|l| l.starts_with("Max core file size")).unwrap().split_whitespace().skip(4).take(2).collect();
    assert_eq!(core, ["0", "0"]);
    // The environment is gone but for what is ours.
    let environment = gateway.proc("environ");
    let names: Vec<&str> = environment.split('\0').filter_map(|v| v.split_once('=')).map(|(name, _)| name).collect();
    assert!(!names.is_empty() && names.iter().all(|n| *n == "PATH" || n.starts_with("ANCHORHOLD_")), "{names:?}");
    assert!(!gateway.proc("cmdline").contains(KEY));
    // Its own user cannot read it; that of another process of that user can be read, so the attempt is a real one.
    let read = |pid: u32| {
        let out = Command::new("cat").arg(format!("/proc/{pid}/environ")).uid(NOBODY).gid(NOBODY).stderr(Stdio::null()).output().unwrap();
        out.stdout
    };
    let mut other = Command::new("sleep").arg("600").env_clear().env("VISIBLE", "yes").uid(NOBODY).gid(NOBODY).spawn().unwrap();
    let until = Instant::now() + PATIENCE;
    while !read(other.id()).starts_with(b"VISIBLE") {
        assert!(Instant::now() < until, "the control shows nothing");
    }
    assert_eq!(read(gateway.child.id()), b"");
    other.kill().unwrap();
    other.wait().unwrap();
    // The key's own pages at least are locked.
    let locked: u64 =
        gateway.proc("status").lines().find_map(|l| l.strip_prefix("VmLck:")).unwrap().split_whitespace().next().unwrap().parse().unwrap();
    let status = gateway.admin(&json!({"op": "status"}));
    let said = status["not_enforced"].to_string();
    assert!(locked >= 4 || said.contains("cannot be locked"), "{locked} {said}");
    let credentials = gateway.directory.path().join("state/credentials");
    let files: Vec<_> = std::fs::read_dir(credentials).unwrap().map(|e| e.unwrap()).collect();
    assert_eq!(files.len(), 1);
    assert_eq!(files[0].metadata().unwrap().permissions().mode() & 0o7777, 0o400);
}

#[test]
fn a_hangup_takes_the_key_that_stands_in_the_file_now() {
    let provider = Provider::start(vec![Reply::say("done")]);
    let gateway = Gateway::start(None);
    gateway.admit(&base_url(&provider), KEY, 0);
    let _slot = gateway.slot();
    gateway.ask("response.completed");
    let file = std::fs::read_dir(gateway.directory.path().join("state/credentials")).unwrap().next().unwrap().unwrap().path();
    let fresh = "sk-rotated-0123456789abcdef";
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::write(&file, fresh).unwrap();
    rustix::process::kill_process(rustix::process::Pid::from_child(&gateway.child), rustix::process::Signal::HUP).unwrap();
    let ledger = gateway.directory.path().join("state/ledger.jsonl");
    let until = Instant::now() + PATIENCE;
    while !std::fs::read_to_string(&ledger).unwrap().contains("\"reload\"") {
        assert!(Instant::now() < until, "the hangup was not heard");
        std::thread::sleep(Duration::from_millis(5));
    }
    gateway.ask("response.completed");
    let keys: Vec<String> = provider.seen().iter().map(|seen| seen.header("authorization").to_owned()).collect();
    assert_eq!(keys, [format!("Bearer {KEY}"), format!("Bearer {fresh}")]);
}
