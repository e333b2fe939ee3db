//! `anchorhold serve` as it is built: several clients at once over HTTP, with a real engine and the real Codex CLI.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, its helpers too")]

mod support;

use std::io::{BufRead as _, BufReader, Read as _};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};
use support::http::{Remote, Served, read};
use support::rehearsal::{Step, task};
use support::{Environment, Repository};

const TOKEN: &str = "a-token-of-a-test-0123456789abcdef";
const PATIENCE: Duration = Duration::from_secs(120);

fn serve(environment: &Environment) -> Served {
    let mut command = environment.anchorhold(&["serve", "--listen", "127.0.0.1:0", "--json"]);
    command.env("ANCHORHOLD_TOKEN", TOKEN);
    Served::start(command, Some(TOKEN)).unwrap()
}

fn small(environment: &Environment) -> Repository {
    environment.repository("repository", &[("hello.txt", b"hello\n".as_slice())])
}

fn start(remote: &Remote, repository: &Repository, steps: &[Step<'_>]) -> String {
    let handle = remote.tool("codex_delegate_async", json!({"task": task(steps), "workspace_root": repository.text()}));
    handle["job_id"].as_str().unwrap_or_else(|| panic!("{handle:#}")).to_owned()
}

fn consume(remote: &Remote, job: &str) -> Value {
    remote.ended(job);
    let result = remote.tool("codex_job_consume_result", json!({"job_id": job}));
    assert_eq!(result["ok"], true, "{result:#}");
    result
}

/// A user whose cells may take their time to begin: a busy machine is no dead provider.
fn patient() -> Environment {
    let mut environment = Environment::new();
    environment.set("ANCHORHOLD_MODEL_UNREACHABLE_SECONDS", "300");
    environment
}

/// Two clients of the two eras delegate at the same time and each hears of its own job alone, as events of its own answer.
#[test]
fn clients_of_both_eras_delegate_at_once_and_hear_of_their_own_job() {
    let environment = patient();
    let repository = small(&environment);
    let before = repository.fingerprint();
    let server = serve(&environment);
    let call = |mark: &str| {
        let steps = task(&[Step::Shell(&format!("echo {mark} > {mark}.txt; : {mark}-is-at-work")), Step::Delay(1), Step::Say("done")]);
        json!({"name": "codex_delegate", "arguments": {"task": steps, "workspace_root": repository.text(), "timeout_seconds": 300},
            "_meta": {"progressToken": mark}})
    };
    let (old, new) = (server.remote.send_legacy("tools/call", call("old")), server.remote.send("tools/call", call("new")));
    for (stream, mine, other) in [(old, "old", "new"), (new, "new", "old")] {
        let reply = read(stream);
        assert_eq!(reply.status, 200);
        let events = reply.events();
        assert!(events.len() > 1, "progress came before the answer: {events:?}");
        let (last, notes) = events.split_last().unwrap();
        let notes: Vec<Value> = notes.iter().map(|note| serde_json::from_str(note).unwrap()).collect();
        for note in &notes {
            assert_eq!((&note["method"], &note["params"]["progressToken"]), (&json!("notifications/progress"), &json!(mine)), "{note}");
        }
        assert!(!notes.iter().any(|note| note.to_string().contains(&format!("{other}-is-at-work"))), "{notes:?}");
        let answer: Value = serde_json::from_str(last).unwrap();
        let result = &answer["result"]["structuredContent"];
        assert_eq!(result["ok"], true, "{answer:#}");
        assert!(result["diff"].as_str().unwrap().contains(&format!("+{mine}")) && !result["diff"].as_str().unwrap().contains(&format!("+{other}")));
        consume(&server.remote, result["meta"]["job_id"].as_str().unwrap());
    }
    assert_eq!(repository.fingerprint(), before);
    let page = server.remote.request("GET /metrics", &[], b"");
    let text = String::from_utf8(page.body).unwrap();
    for line in [
        "anchorhold_tool_calls_total{tool=\"codex_delegate\",outcome=\"ok\"} 2",
        "anchorhold_jobs_started_total 2",
        "anchorhold_engine_up 1",
        "anchorhold_gateway_up 1",
    ] {
        assert!(text.lines().any(|there| there == line), "{line} in\n{text}");
    }
    environment.nothing_is_left();
    drop(server);
}

/// A connection that breaks ends its call and nothing else; a listener is told of changes; a server that ends lets a waiting call answer and the job run.
#[test]
fn a_lost_connection_and_a_server_that_ends_lose_nothing() {
    let environment = patient();
    let repository = small(&environment);
    let server = serve(&environment);
    // Waits in the cell for nothing but its own clock; the test cancels it.
    let long = start(&server.remote, &repository, &[Step::Shell("echo part > part.txt; sleep 600"), Step::Say("late")]);

    // One client waits and goes away, another listens.
    let call = json!({"name": "codex_job_status", "arguments": {"job_id": long, "wait_seconds": 55}});
    drop(server.remote.send("tools/call", call.clone()));
    let uri = format!("anchorhold://jobs/{long}/status");
    let mut listener = BufReader::new(server.remote.send("subscriptions/listen", json!({"notifications": {"resourceSubscriptions": [uri]}})));
    let until = |listener: &mut BufReader<std::net::TcpStream>, wanted: &str| {
        let start = Instant::now();
        loop {
            let mut line = String::new();
            assert!(listener.read_line(&mut line).unwrap() > 0 && start.elapsed() < PATIENCE, "no {wanted}");
            if line.contains(wanted) {
                return;
            }
        }
    };
    until(&mut listener, "notifications/subscriptions/acknowledged");
    let mut status = server.remote.tool("codex_job_status", json!({"job_id": long}));
    while status["state"] != "running" {
        let arguments = json!({"job_id": long, "wait_seconds": 20, "since_state": status["state"]});
        status = server.remote.tool("codex_job_status", arguments);
        assert_eq!(status["status"], "running", "{status:#}");
    }

    // A call that waits is answered when the server is told to end, and the job goes on.
    let waiting = json!({"task": task(&[Step::Shell("sleep 600"), Step::Say("late")]), "workspace_root": repository.text(), "timeout_seconds": 600});
    let waiting = server.remote.send("tools/call", json!({"name": "codex_delegate", "arguments": waiting}));
    let start_of_wait = Instant::now();
    while environment
        .docker(&["ps", "-q", "--filter", &format!("label=anchorhold.instance={}", environment.instance()), "--filter", "label=anchorhold.job"])
        .len()
        < 2
    {
        assert!(start_of_wait.elapsed() < PATIENCE, "the second job does not start");
        std::thread::sleep(Duration::from_millis(100));
    }
    server.signal(Signal::TERM);
    let answer = read(waiting).json();
    let error = &answer["result"]["structuredContent"]["error"];
    assert_eq!(error["code"], "job_running", "{answer:#}");
    let second = error["details"]["job_id"].as_str().unwrap().to_owned();
    let mut rest = String::new();
    listener.read_to_string(&mut rest).unwrap();
    assert_eq!(server.wait(), Some(0));

    // The next server goes on with both.
    let server = serve(&environment);
    for job in [&long, &second] {
        assert_eq!(server.remote.tool("codex_job_status", json!({"job_id": job}))["status"], "running");
        server.remote.tool("codex_job_cancel", json!({"job_id": job}));
        let ended = server.remote.ended(job);
        assert_eq!(ended["status"], "cancelled");
        server.remote.tool("codex_job_consume_result", json!({"job_id": job}));
    }
    environment.nothing_is_left();
    drop(server);
}

/// A second signal ends the server although a client does not take its answer; nothing of the token is said anywhere.
#[test]
fn a_second_signal_ends_at_once_and_no_log_holds_the_token() {
    let environment = Environment::new();
    let mut command = environment.anchorhold(&["serve", "--listen", "127.0.0.1:0", "--json"]);
    let file = environment.path().join("token");
    std::fs::write(&file, format!("{TOKEN}\n")).unwrap();
    let log = environment.path().join("log");
    command
        .env("ANCHORHOLD_SERVER_TOKEN_FILE", &file)
        .env("ANCHORHOLD_LOG", "trace")
        .env("ANCHORHOLD_ENGINE_HOST", "unix:///nonexistent/engine.sock")
        .stderr(std::fs::File::create(&log).unwrap());
    let server = Served::start(command, Some(TOKEN)).unwrap();
    assert_eq!(server.remote.request("GET /metrics", &[], b"").status, 200);
    let wrong = Remote { token: Some(format!("{TOKEN}x")), ..server.remote.clone() };
    assert_eq!(wrong.request("GET /metrics", &[], b"").status, 401);
    // A body that is announced and does not come is a call under way, for as long as `transfer_seconds`.
    let mut held = std::net::TcpStream::connect(server.remote.address).unwrap();
    std::io::Write::write_all(
        &mut held,
        format!("POST /mcp HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: 9\r\n\r\n").as_bytes(),
    )
    .unwrap();
    // It is under way once it is counted.
    let start = Instant::now();
    while !String::from_utf8(server.remote.request("GET /metrics", &[], b"").body).unwrap().contains("anchorhold_http_clients 2") {
        assert!(start.elapsed() < PATIENCE);
    }
    server.signal(Signal::TERM);
    while std::net::TcpStream::connect(server.remote.address).is_ok() {
        assert!(start.elapsed() < PATIENCE, "it still listens");
    }
    server.signal(Signal::INT);
    assert_eq!(server.wait(), Some(130));
    let said = std::fs::read_to_string(&log).unwrap();
    assert!(said.contains("the server listens") && !said.contains(TOKEN), "{said}");
}

/// Beyond loopback it does not begin without a token and roots, and says what to do.
#[test]
fn beyond_loopback_it_asks_for_a_token_and_roots() {
    let environment = Environment::new();
    let refused = |variables: &[(&str, &str)], arguments: &[&str]| {
        let mut command = environment.anchorhold(&[&["serve", "--json"], arguments].concat());
        command.envs(variables.iter().copied());
        Served::start(command, None).err().unwrap_or_else(|| panic!("it began with {variables:?} {arguments:?}"))["error"].clone()
    };
    let open = ["--listen", "0.0.0.0:0"];
    for (variables, arguments, field) in [
        (&[("ANCHORHOLD_ROOTS_ALLOW", "/srv")][..], &open[..], "server.token_file"),
        (&[("ANCHORHOLD_TOKEN", TOKEN)], &open, "roots.allow"),
        (&[("ANCHORHOLD_TOKEN", "short")], &["--listen", "127.0.0.1:0"], "server.token_env"),
        (&[], &["--listen", "127.0.0.1:0", "--token-file", "/nonexistent/token"], "server.token_file"),
        (&[], &["--listen", "example.com:7411"], "server.listen"),
        (&[], &["--set", "server.max_connections=0"], "server.max_connections"),
    ] {
        let error = refused(variables, arguments);
        assert_eq!((&error["code"], &error["details"]["field"]), (&json!("invalid_config"), &json!(field)), "{error:#}");
        assert!(!error.to_string().contains(TOKEN));
    }
    let mut command = environment.anchorhold(&["serve", "--json", "--listen", "0.0.0.0:0"]);
    command.env("ANCHORHOLD_TOKEN", TOKEN).env("ANCHORHOLD_ROOTS_ALLOW", environment.path());
    let server = Served::start(command, None).unwrap();
    assert_eq!(server.remote.request("GET /healthz", &[], b"").status, 200);
    assert_eq!(server.remote.request("GET /metrics", &[], b"").status, 401, "metrics need the token, too");
    // A taken port is said to be taken.
    let taken = refused(&[], &["--listen", &format!("127.0.0.1:{}", server.remote.address.port())]);
    assert_eq!(taken["details"]["field"], "server.listen");
}
