//! `anchorhold audit` on the ledger that a real `anchorhold gateway run` wrote, and on the same after somebody changed it.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, its helpers too")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use anchorhold::protocol::PROTOCOL_VERSION;
use anchorhold::protocol::admin::{AdminRequest, AdminResponse, Admission, Upstream};
use anchorhold::protocol::connection::{Channel, Preamble};
use anchorhold::protocol::ledger::Head;
use anchorhold::protocol::manifest::hex;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

const JOB: &str = "0123456789abcdef0123456789abcdef";
const OTHER: &str = "fedcba9876543210fedcba9876543210";

/// The gateway in a directory of its own.
struct Gateway {
    dir: tempfile::TempDir,
    process: Child,
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[expect(clippy::disallowed_methods, reason = "drives the built binary; the environment is emptied just below")]
fn anchorhold(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_anchorhold"));
    command.env_clear().current_dir(dir).env("HOME", dir).stdin(Stdio::null());
    command
}

impl Gateway {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut command = anchorhold(dir.path());
        command.env("ANCHORHOLD_GATEWAY_SOCKET", dir.path().join("run/gateway.sock")).env("ANCHORHOLD_GATEWAY_STATE", dir.path().join("state"));
        let process = command.args(["gateway", "run"]).stderr(Stdio::null()).spawn().unwrap();
        let gateway = Self { dir, process };
        for _ in 0..2000 {
            if UnixStream::connect(gateway.socket()).is_ok() {
                return gateway;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("the gateway does not listen");
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("run/gateway.sock")
    }

    fn admin(&self, request: &AdminRequest) -> AdminResponse {
        let mut stream = UnixStream::connect(self.dir.path().join("state/admin.sock")).unwrap();
        stream.write_all((serde_json::to_string(request).unwrap() + "\n").as_bytes()).unwrap();
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap()
    }

    fn admit(&self, job: &str) {
        let admission = Admission {
            job_id: job.to_owned(),
            pass_sha256: hex(&Sha256::digest(pass(job))),
            upstream: Upstream::Rehearsal,
            credential: None,
            allowed_models: Vec::new(),
            token_budget: 0,
            expires_unix: u64::MAX,
            max_running_jobs: 4,
            instance: "test".to_owned(),
            bounds: Default::default(),
            ceilings: Default::default(),
            telemetry: None,
            continues: None,
            settings_read_ms: 0,
            stay: Default::default(),
        };
        assert_eq!(self.admin(&AdminRequest::Admit(admission)), AdminResponse::Ok);
    }

    fn open(&self, job: &str, channel: Channel) -> UnixStream {
        let mut stream = UnixStream::connect(self.socket()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let preamble = Preamble { version: PROTOCOL_VERSION, job_id: job.to_owned(), pass: pass(job), channel, resume: false };
        stream.write_all((serde_json::to_string(&preamble).unwrap() + "\n").as_bytes()).unwrap();
        stream
    }

    /// A connection that holds a slot.
    fn slot(&self, job: &str) -> BufReader<UnixStream> {
        let mut slot = BufReader::new(self.open(job, Channel::Slot));
        let mut line = String::new();
        slot.read_line(&mut line).unwrap();
        assert!(line.contains("granted"), "{line}");
        slot
    }

    fn post(&self, job: &str, body: &Value) -> String {
        let mut stream = self.open(job, Channel::Model);
        let body = body.to_string();
        let head = "POST /v1/responses HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\nconnection: close\r\n";
        stream.write_all(format!("{head}content-length: {}\r\n\r\n{body}", body.len()).as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    fn audit(&self, args: &[&str]) -> Output {
        anchorhold(self.dir.path()).arg("audit").args(args).output().unwrap()
    }
}

fn pass(job: &str) -> String {
    hex(&Sha256::digest(job))
}

fn document(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {output:?}"))
}

#[test]
fn a_real_ledger_holds_and_every_tampering_is_found() {
    let gateway = Gateway::start();
    gateway.admit(JOB);
    gateway.admit(OTHER);
    let _slots = (gateway.slot(JOB), gateway.slot(OTHER));
    let question = json!({"model": "m", "input": "```rehearsal\nmessage fine\n```", "client_metadata": {"a": "b"}, "store": true});
    assert!(gateway.post(JOB, &question).contains("response.completed"));
    assert!(gateway.post(OTHER, &question).contains("response.completed"));
    let hosted = json!({"model": "m", "input": "x", "tools": [{"type": "web_search"}]});
    assert!(gateway.post(JOB, &hosted).contains("hosted_tool"));
    let AdminResponse::Status { ledger_head: head, policy_sha256, .. } = gateway.admin(&AdminRequest::Status) else { panic!() };
    let AdminResponse::Job(account) = gateway.admin(&AdminRequest::Job { job_id: JOB.to_owned() }) else { panic!() };
    assert_eq!((&account.ledger_head, &account.policy_sha256), (&head, &policy_sha256));

    let ledger = gateway.dir.path().join("state/ledger.jsonl");
    let whole = std::fs::read_to_string(&ledger).unwrap();
    let noted = format!("{}:{}", head.seq, head.sha256);
    let verified = gateway.audit(&["verify", "--json", "--file", "state/ledger.jsonl", "--head", &noted]);
    let report = &document(&verified)["report"];
    assert_eq!(verified.status.code(), Some(0), "{report:#}");
    assert_eq!(serde_json::from_value::<Head>(report["head"].clone()).unwrap(), head);
    assert_eq!((&report["policy_sha256"], &report["from_the_beginning"], &report["unknown"]), (&json!(policy_sha256), &json!(true), &json!([])));

    let shown = document(&gateway.audit(&["show", "--json", &JOB[..6], "--file", "state/ledger.jsonl"]));
    let lines = shown["lines"].as_array().unwrap();
    assert_eq!(lines.iter().map(|l| l["kind"].as_str().unwrap()).collect::<Vec<_>>(), ["admit", "request", "request"]);
    assert_eq!((&lines[1]["outcome"], &lines[1]["forced"]), (&json!("ok"), &json!(["metadata", "store"])));
    assert_eq!((&lines[2]["outcome"], &lines[2]["status"]), (&json!("hosted_tool"), &json!(400)));
    assert!(lines.iter().all(|l| l["job"] == JOB));

    let all: Vec<&str> = whole.split_inclusive('\n').collect();
    let (first, last) = (all[0], all.len() - 1);
    let without = |from: usize, to: usize| all[..from].iter().chain(&all[to..]).copied().collect::<String>();
    for (what, text, wrong, args) in [
        ("edit", whole.replacen("hosted_tool", "ok_________", 1), "chain", vec![]),
        ("delete", without(2, 3), "sequence", vec![]),
        ("insert", [without(3, last + 1).as_str(), all[2]].concat(), "sequence", vec![]),
        ("reorder", [first, all[2], all[1]].concat(), "sequence", vec![]),
        ("head cut", without(0, 2), "head_missing", vec![]),
        ("half a line cut", whole[..whole.len() - 20].to_owned(), "torn", vec![]),
        ("tail cut", without(last, last + 1), "tail_missing", vec!["--head", &noted]),
        ("garbage", format!("{whole}\u{1b}[2J\n"), "unreadable", vec![]),
    ] {
        // An edit of the last line is seen by what follows it only; there is a head for that.
        let args = if what == "edit" { vec!["--head", noted.as_str()] } else { args };
        std::fs::write(gateway.dir.path().join("copy.jsonl"), text).unwrap();
        let broken = gateway.audit(&[&["verify", "--json", "--file", "copy.jsonl"], args.as_slice()].concat());
        let said = document(&broken);
        assert_eq!(
            (broken.status.code(), &said["ok"], &said["error"]["code"]),
            (Some(12), &json!(false), &json!("ledger_broken")),
            "{what}: {said:#}"
        );
        let found = said["report"]["break"]["wrong"].as_str().unwrap();
        assert!(found == wrong || (what == "edit" && found == "other_history"), "{what}: {said:#}");
        let told = gateway.audit(&["show", "--file", "copy.jsonl", "--head", &noted]);
        assert_eq!(told.status.code(), Some(12), "{what}");
        assert!(!told.stdout.contains(&0x1b) && !told.stderr.contains(&0x1b), "{what}");
    }
}

#[test]
fn arguments_that_mean_nothing_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    for args in [
        &["audit"][..],
        &["audit", "verify", "--head", "1:xyz"],
        &["audit", "verify", "--head", &format!("0:{}", "a".repeat(64))],
        &["audit", "verify", "--partial"],
        &["audit", "verify", "--file", "not-there.jsonl"],
        &["audit", "show", "../x"],
    ] {
        let refused = anchorhold(dir.path()).args(args).output().unwrap();
        assert_eq!(refused.status.code(), Some(2), "{args:?}: {refused:?}");
    }
}
