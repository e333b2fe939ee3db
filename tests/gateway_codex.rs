//! The gateway and the real Codex CLI, joined as in a cell: Codex speaks HTTP to a loopback port, a forwarder writes the preamble and copies bytes.
//!
//! `ANCHORHOLD_TEST_CODEX` names the Codex binary, with `codex-code-mode-host` beside it.
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test: outside of #[test] functions the lints do not see that")]

use std::path::{Path, PathBuf};
use std::time::Duration;

use anchorhold::gateway::{Places, Timing, serve};
use anchorhold::protocol::admin::{AdminRequest, AdminResponse, Admission, JobAccount, Upstream};
use anchorhold::protocol::connection::{Channel, Preamble, SlotMessage};
use anchorhold::protocol::manifest::hex;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, UnixStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

const PASS: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

fn codex() -> PathBuf {
    let path = std::env::var_os("ANCHORHOLD_TEST_CODEX")
        .map(PathBuf::from)
        .expect("set ANCHORHOLD_TEST_CODEX to the Codex binary (`make test` does), with codex-code-mode-host beside it");
    assert!(path.is_file(), "{} is not there", path.display());
    path
}

/// A gateway, one admitted job with its slot, and a loopback port that is joined to it.
struct Cell {
    directory: tempfile::TempDir,
    job_id: String,
    places: Places,
    port: u16,
    stop: CancellationToken,
    tasks: TaskTracker,
    slot: BufReader<UnixStream>,
}

/// What one run of Codex did.
struct Run {
    code: Option<i32>,
    events: Vec<Value>,
    text: String,
    messages: Vec<SlotMessage>,
    account: JobAccount,
}

impl Run {
    fn has(&self, kind: &str) -> bool {
        self.events.iter().any(|e| e["type"] == kind)
    }
    fn items(&self, kind: &str) -> Vec<&Value> {
        self.events.iter().filter(|e| e["type"] == "item.completed" && e["item"]["type"] == kind).map(|e| &e["item"]).collect()
    }
    fn reconnects(&self) -> usize {
        self.events.iter().filter(|e| e["type"] == "error" && e["message"].as_str().is_some_and(|m| m.starts_with("Reconnecting"))).count()
    }
    fn error_kind(&self) -> Option<&str> {
        self.account.last_error.as_ref().map(|e| e.kind.as_str())
    }
}

impl Cell {
    async fn start(token_budget: u64) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let places = Places {
            socket: directory.path().join("run/gateway.sock"),
            state: directory.path().join("state"),
            admin_socket: directory.path().join("state/admin.sock"),
        };
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let (served, stopped) = (places.clone(), stop.clone());
        tasks.spawn(async move { serve(&served, Timing::default(), stopped).await.unwrap() });
        while !places.socket.exists() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let job_id = "0123456789abcdef0123456789abcdef".to_owned();
        let admission = Admission {
            job_id: job_id.clone(),
            pass_sha256: hex(&Sha256::digest(PASS)),
            upstream: Upstream::Rehearsal,
            credential: None,
            allowed_models: Vec::new(),
            token_budget,
            expires_unix: u64::MAX,
            max_running_jobs: 1,
            instance: "test".to_owned(),
            bounds: Default::default(),
            ceilings: Default::default(),
            telemetry: None,
            continues: None,
            settings_read_ms: 0,
            stay: Default::default(),
        };
        assert_eq!(admin(&places, &AdminRequest::Admit(admission)).await, AdminResponse::Ok);
        let slot = BufReader::new(connect(&places.socket, &job_id, Channel::Slot).await);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (socket, job, forwarders, stopped) = (places.socket.clone(), job_id.clone(), tasks.clone(), stop.clone());
        tasks.spawn(async move {
            loop {
                let mut outer = tokio::select! { c = listener.accept() => c.unwrap().0, () = stopped.cancelled() => return };
                let (socket, job) = (socket.clone(), job.clone());
                forwarders.spawn(async move {
                    let mut inner = connect(&socket, &job, Channel::Model).await;
                    let _ = tokio::io::copy_bidirectional(&mut outer, &mut inner).await;
                });
            }
        });
        let mut cell = Self { directory, job_id, places, port, stop, tasks, slot };
        assert_eq!(cell.message().await, Some(SlotMessage::Granted));
        cell
    }

    fn workspace(&self) -> PathBuf {
        self.directory.path().join("workspace")
    }

    fn read(&self, name: &str) -> Option<String> {
        std::fs::read_to_string(self.workspace().join(name)).ok()
    }

    /// The next message; `None` when the gateway has closed the connection.
    async fn message(&mut self) -> Option<SlotMessage> {
        let mut line = String::new();
        let read = self.slot.read_line(&mut line).await.unwrap();
        (read > 0).then(|| serde_json::from_str(&line).unwrap())
    }

    /// Ends the pass and gives everything that was said on the slot's connection before that.
    async fn all_messages(&mut self) -> Vec<SlotMessage> {
        assert_eq!(admin(&self.places, &AdminRequest::Revoke { job_id: self.job_id.clone() }).await, AdminResponse::Ok);
        let mut messages = Vec::new();
        while let Some(message) = self.message().await {
            messages.push(message);
        }
        assert!(matches!(messages.pop(), Some(SlotMessage::Refused { .. })), "the last word is that the pass is dead");
        messages
    }

    /// Runs Codex to its end; once per cell.
    async fn run(&mut self, model: &str, task: &str, extra: &[&str]) -> Run {
        let home = self.directory.path().join("home");
        let workspace = self.workspace();
        std::fs::create_dir_all(home.join(".codex")).unwrap();
        std::fs::create_dir_all(&workspace).unwrap();
        let provider = format!(
            "model_providers.cell={{name=\"cell\",base_url=\"http://127.0.0.1:{}/v1\",wire_api=\"responses\",env_key=\"CELL_KEY\"{}}}",
            self.port,
            extra.first().unwrap_or(&"")
        );
        // A hang is a failure (exit code 124), not a test run without an end.
        let mut command = anchorhold::process::command("timeout", &workspace);
        command
            .args(["--kill-after=1", "240"])
            .arg(codex())
            .env("HOME", &home)
            .env("CODEX_HOME", home.join(".codex"))
            .env("CELL_KEY", "placeholder")
            .args(["exec", "--json", "--ephemeral", "--ignore-user-config", "--ignore-rules", "--strict-config", "--skip-git-repo-check"])
            .args(["--dangerously-bypass-approvals-and-sandbox", "--disable", "plugins", "--disable", "apps", "-c", "analytics.enabled=false"])
            .args(["-c", "check_for_update_on_startup=false", "-c", "web_search=\"disabled\"", "-c", "model_provider=cell", "-c", &provider])
            .args(["-m", model, "--", task]);
        let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let events = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
        let AdminResponse::Job(account) = admin(&self.places, &AdminRequest::Job { job_id: self.job_id.clone() }).await else { panic!() };
        Run { code: output.status.code(), events, text, messages: self.all_messages().await, account }
    }

    async fn end(self) {
        drop(self.slot);
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

async fn connect(socket: &Path, job_id: &str, channel: Channel) -> UnixStream {
    let mut stream = UnixStream::connect(socket).await.unwrap();
    let preamble =
        Preamble { version: anchorhold::protocol::PROTOCOL_VERSION, job_id: job_id.to_owned(), pass: PASS.to_owned(), channel, resume: false };
    let mut line = serde_json::to_vec(&preamble).unwrap();
    line.push(b'\n');
    stream.write_all(&line).await.unwrap();
    stream
}

async fn admin(places: &Places, request: &AdminRequest) -> AdminResponse {
    let mut stream = BufReader::new(UnixStream::connect(&places.admin_socket).await.unwrap());
    let mut line = serde_json::to_string(request).unwrap();
    line.push('\n');
    stream.write_all(line.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_line(&mut answer).await.unwrap();
    serde_json::from_str(&answer).unwrap()
}

const STEPS: &str = "Please.\n```rehearsal\nusage input=1000 cached=200 output=50 reasoning=10\nsay looking around\nshell echo one > a.txt; cat a.txt\n\
                     patch <<END\n*** Add File: dir/b.txt\n+hello `$x` \"quoted\" \\n é\nEND\npatch <<END\n*** Update File: a.txt\n@@\n-one\n+two\nEND\n\
                     shell <<END\nprintf '%s' \"$(cat dir/b.txt)\" > c.txt\nexit 3\nEND\nmessage all done\n```\n";

async fn steps_change_files(model: &str, patch_is_a_tool: bool) {
    let mut cell = Cell::start(0).await;
    let run = cell.run(model, STEPS, &[]).await;
    assert_eq!(run.code, Some(0), "{model}: {}", run.text);
    assert_eq!(cell.read("a.txt").as_deref(), Some("two\n"), "{model}: {}", run.text);
    assert_eq!(cell.read("dir/b.txt").as_deref(), Some("hello `$x` \"quoted\" \\n é\n"));
    assert_eq!(cell.read("c.txt").as_deref(), Some("hello `$x` \"quoted\" \\n é"));
    let messages: Vec<&str> = run.items("agent_message").iter().map(|i| i["text"].as_str().unwrap()).collect();
    assert_eq!(messages, ["looking around", "all done"], "{}", run.text);
    let changes = run.items("file_change");
    assert_eq!(changes.len(), 2, "{model} {patch_is_a_tool}: {}", run.text);
    // Both counts agree: Codex's claim and the gateway's.
    let completed = run.events.iter().find(|e| e["type"] == "turn.completed").unwrap();
    assert_eq!(completed["usage"]["input_tokens"], 5000, "{}", run.text);
    assert_eq!(run.account.usage.input_tokens, 5000);
    assert_eq!(run.account.usage.reasoning_output_tokens, 50);
    assert_eq!((run.account.answers, run.account.requests, run.account.refused), (5, 5, 0));
    assert!(matches!(run.messages.last(), Some(SlotMessage::Answered { answers: 5, .. })), "{:?}", run.messages);
    cell.end().await;
}

#[tokio::test]
async fn steps_change_files_with_plain_functions() {
    steps_change_files("scripted", false).await;
}

#[tokio::test]
async fn steps_change_files_with_the_patch_tool() {
    steps_change_files("gpt-5.5", true).await;
}

#[tokio::test]
async fn steps_change_files_in_code_mode() {
    steps_change_files("gpt-5.6-sol", false).await;
}

#[tokio::test]
async fn a_task_without_a_program_gets_the_default_one() {
    let mut cell = Cell::start(0).await;
    let run = cell.run("scripted", "improve everything", &[]).await;
    assert_eq!(run.code, Some(0), "{}", run.text);
    assert!(cell.read("REHEARSAL.md").unwrap().contains("rehearsal model was here"));
    assert!(run.items("agent_message").last().unwrap()["text"].as_str().unwrap().contains("scripted rehearsal"));
    cell.end().await;
}

#[tokio::test]
async fn a_mistake_in_a_program_is_told() {
    let mut cell = Cell::start(0).await;
    let run = cell.run("scripted", "```rehearsal\nshell ls\nfrobnicate\n```", &[]).await;
    assert_eq!(run.code, Some(0));
    assert!(run.text.contains("mistake in line 2"), "{}", run.text);
    cell.end().await;
}

/// A command that outlives Codex's own wait is polled, and is one step all the same.
async fn a_long_command_is_one_step(model: &str) {
    let mut cell = Cell::start(0).await;
    let run = cell.run(model, "```rehearsal\nshell sleep 36; echo done > slow.txt\nshell cp slow.txt after.txt\nmessage end\n```", &[]).await;
    assert_eq!(run.code, Some(0), "{}", run.text);
    assert_eq!(cell.read("after.txt").as_deref(), Some("done\n"), "{}", run.text);
    cell.end().await;
}

/// With plain functions and in code mode, beside each other: both only wait.
#[tokio::test]
async fn a_long_command_is_one_step_for_every_kind_of_model() {
    tokio::join!(a_long_command_is_one_step("scripted"), a_long_command_is_one_step("gpt-5.6-sol"));
}

#[tokio::test]
async fn faults_lead_to_what_codex_does_with_real_ones() {
    /// (fault, exit code, reconnects at least, requests, kind, part of Codex's words)
    type Row = (&'static str, i32, usize, u64, Option<&'static str>, &'static str);
    // One of each kind; the mapping row by row is tested beside it in `src/gateway/failure.rs`.
    let rows: [Row; 15] = [
        ("model", 1, 0, 1, Some("model"), "does not know the model"),
        ("400", 1, 0, 1, Some("bad_request"), "refused the request"),
        ("429", 1, 0, 1, Some("rate_limit"), "429"),
        ("429 retry_after=1 times=1", 0, 0, 2, Some("rate_limit"), "fine"),
        ("quota", 1, 0, 1, Some("quota"), "Quota exceeded"),
        ("usage_limit resets_in=7200", 1, 0, 1, Some("quota"), "usage limit"),
        ("failed_quota", 1, 0, 1, Some("quota"), "Quota exceeded"),
        ("context_length", 1, 0, 1, Some("bad_request"), "context"),
        ("incomplete", 1, 0, 1, None, ""),
        ("401", 1, 5, 6, Some("auth"), ""),
        ("overloaded", 1, 0, 5, Some("server_error"), ""),
        ("cut", 1, 5, 6, Some("cut"), ""),
        ("failed", 1, 5, 6, Some("server_error"), ""),
        ("503 times=2", 0, 0, 3, Some("server_error"), "fine"),
        ("rate_limit wait=1s times=1", 0, 0, 2, Some("rate_limit"), "fine"),
    ];
    let mut runs = tokio::task::JoinSet::new();
    for row in rows {
        runs.spawn(async move {
            let (fault, code, reconnects, requests, kind, words) = row;
            let mut cell = Cell::start(0).await;
            let run = cell.run("scripted", &format!("```rehearsal\nfault {fault}\nmessage fine\n```"), &[]).await;
            assert_eq!(run.code, Some(code), "{fault}: {}", run.text);
            assert_eq!(run.has("turn.failed"), code != 0, "{fault}: {}", run.text);
            assert!(run.reconnects() >= reconnects, "{fault}: {}", run.text);
            assert_eq!(run.account.requests, requests, "{fault}: {}", run.text);
            assert_eq!(run.error_kind(), kind, "{fault}: {}", run.text);
            assert!(run.text.to_lowercase().contains(&words.to_lowercase()), "{fault}: {}", run.text);
            let told = run.messages.iter().any(|m| matches!(m, SlotMessage::Failed { .. }));
            assert_eq!(told, kind.is_some(), "{fault}: {:?}", run.messages);
            if fault.starts_with("usage_limit") {
                assert!(run.account.last_error.unwrap().resets_at.is_some());
            }
            cell.end().await;
        });
        if runs.len() >= 4 {
            runs.join_next().await.unwrap().unwrap();
        }
    }
    while let Some(run) = runs.join_next().await {
        run.unwrap();
    }
}

#[tokio::test]
async fn a_provider_that_refuses_connections_ends_instead_of_waiting_for_ever() {
    let mut cell = Cell::start(0).await;
    let run = cell.run("scripted", "```rehearsal\nfault refuse\nmessage fine\n```", &[]).await;
    assert_eq!((run.code, run.error_kind()), (Some(1), Some("unreachable")), "{}", run.text);
    assert!(run.account.requests > 6);
    cell.end().await;
}

#[tokio::test]
async fn a_stream_that_stalls_is_left_by_codex() {
    let mut cell = Cell::start(0).await;
    let run = cell.run("scripted", "```rehearsal\nfault stall\nmessage fine\n```", &[",stream_idle_timeout_ms=500,stream_max_retries=1"]).await;
    assert_eq!(run.code, Some(1), "{}", run.text);
    assert!(run.text.contains("idle timeout"), "{}", run.text);
    cell.end().await;
}

#[tokio::test]
async fn a_websocket_is_refused_so_that_codex_falls_back() {
    let mut cell = Cell::start(0).await;
    let run = cell.run("scripted", "```rehearsal\nmessage fine\n```", &[",supports_websockets=true"]).await;
    assert_eq!(run.code, Some(0), "{}", run.text);
    assert!(run.text.contains("fine"));
    assert!(run.account.refused >= 1, "{:?}", run.account);
    cell.end().await;
}

#[tokio::test]
async fn the_budget_ends_codex_at_once() {
    let mut cell = Cell::start(52_000).await;
    let program = "```rehearsal\nusage input=20000 output=6000\nshell echo 1 >> n\nshell echo 2 >> n\nshell echo 3 >> n\nmessage fine\n```";
    let run = cell.run("scripted", program, &[]).await;
    assert_eq!(run.code, Some(1), "{}", run.text);
    assert_eq!(cell.read("n").as_deref(), Some("1\n2\n"));
    assert!(run.text.contains("token budget") && run.reconnects() == 0, "{}", run.text);
    assert!(run.messages.contains(&SlotMessage::TokenBudget));
    assert_eq!((run.account.requests, run.account.answers), (3, 2));
    cell.end().await;
}

#[tokio::test]
async fn slow_and_large_answers_arrive_whole() {
    let mut cell = Cell::start(0).await;
    let run = cell.run("gpt-5.5", "```rehearsal\nfiller 2MiB\nshell true\nrate 4KiB\ndelay 200ms\nmessage fine\n```", &[]).await;
    assert_eq!(run.code, Some(0), "{}", run.text);
    assert!(run.text.contains("fine"));
    cell.end().await;
}
