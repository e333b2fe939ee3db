//! The key is in the gateway's one file and in the one header to the provider, and nowhere else.

use std::io::Write as _;
use std::path::Path;
use std::process::Stdio;

use super::{User, ended, wait_until};
use crate::support::provider::{Provider, Reply, event};
use serde_json::json;

/// Headers that a request to the provider has, and no others.
const HEADERS: [&str; 7] = ["accept", "accept-encoding", "authorization", "content-length", "content-type", "host", "user-agent"];

impl User {
    /// All output of the engine's client, bytes as they are.
    #[track_caller]
    fn docker_bytes(&self, args: &[&str], input: &str) -> Vec<u8> {
        let mut command = self.env.command("docker");
        let mut child = command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("docker runs");
        child.stdin.take().expect("stdin").write_all(input.as_bytes()).expect("docker reads");
        let out = child.wait_with_output().expect("docker ends");
        let mut bytes = out.stdout;
        bytes.extend(out.stderr);
        bytes
    }

    /// Runs a program beside a container's processes, with its volumes, and with the right to look into everything.
    fn beside(&self, container: &str, program: &[&str], input: &str) -> String {
        let (name, label) = (format!("{container}-look"), format!("anchorhold.instance={}", self.env.instance()));
        let image = self.env.docker(&["inspect", "-f", "{{.Image}}", container]).concat();
        let (pid, volumes) = (format!("container:{container}"), ["--volumes-from", container]);
        let run = ["run", "--rm", "-i", "--name", &name, "--label", &label, "--network", "none", "--pid", &pid];
        let as_root = ["-u", "0:0", "--cap-add", "SYS_PTRACE", "--entrypoint", program[0], &image];
        String::from_utf8_lossy(&self.docker_bytes(&[&run[..], &volumes, &as_root, &program[1..]].concat(), input)).into_owned()
    }

    /// Everything that the engine tells of a container: definition and log.
    #[track_caller]
    fn clean_container(&self, name: &str) {
        let inspected = self.docker_bytes(&["inspect", "--size", name], "");
        assert!(memchr::memmem::find(&inspected, name.as_bytes()).is_some(), "{name} is not there");
        self.clean(&format!("the definition of {name}"), &inspected);
        self.clean(&format!("the log of {name}"), &self.docker_bytes(&["logs", name], ""));
        self.clean(&format!("the changes of {name}"), &self.docker_bytes(&["diff", name], ""));
    }
}

/// Reads the words to look for from its input, so that its own command line is clean; prints where each stands: environment, arguments, memory.
const LOOK_INTO_PROCESSES: &str = r#"
import os, re, sys
words = sys.stdin.read().split()
for pid in (p for p in os.listdir("/proc") if p.isdigit() and int(p) != os.getpid()):
    places = {}
    try: program = open(f"/proc/{pid}/comm").read().strip()
    except OSError: continue
    for name in ("environ", "cmdline"):
        try: places[name] = open(f"/proc/{pid}/{name}", "rb").read()
        except OSError: pass
    for name, data in places.items():
        for word in words:
            if word.encode() in data: print(name, program, word)
    try:
        maps = open(f"/proc/{pid}/maps").read().splitlines()
        memory = open(f"/proc/{pid}/mem", "rb", 0)
    except OSError: continue
    for line in maps:
        m = re.match(r"([0-9a-f]+)-([0-9a-f]+) rw", line)
        if not m: continue
        at, end = (int(x, 16) for x in m.groups())
        tail = b""
        while at < end:
            try:
                memory.seek(at)
                data = memory.read(min(1 << 20, end - at))
            except (OSError, ValueError): break
            if not data: break
            for word in words:
                if word.encode() in tail + data: print("memory", program, word)
            tail = data[-64:]
            at += len(data)
"#;

#[test]
fn the_provider_gets_the_key_and_the_checked_body_and_nothing_else_of_the_job() {
    let provider = Provider::start(vec![Reply::shell("seq 4 > f; env > e"), Reply::say("done")]);
    let user = User::of(&provider);
    let before = user.repository.fingerprint();
    let run = user.delegate();
    assert_eq!((run.code, &run.json["state"]), (0, &"completed".into()), "{}", run.text);
    assert_eq!(user.repository.fingerprint(), before);
    let seen = provider.seen();
    assert_eq!(seen.len(), 2);
    for request in &seen {
        assert_eq!(request.line, "POST /v1/responses HTTP/1.1");
        assert_eq!(request.header("authorization"), format!("Bearer {}", user.key));
        assert_eq!(request.header("host"), format!("127.0.0.1:{}", provider.port()));
        assert!(request.header("user-agent").starts_with("anchorhold/"));
        let mut names: Vec<&str> = request.headers.iter().map(|(n, _)| n.as_str()).collect();
        names.sort_unstable();
        assert_eq!(names, HEADERS, "nothing of what Codex sends in its head goes on");
        assert_eq!((&request.body["store"], &request.body["stream"], &request.body["model"]), (&false.into(), &true.into(), &"scripted".into()));
        assert!(request.body.get("client_metadata").is_none_or(|m| !m.to_string().contains("thread")), "{}", request.body["client_metadata"]);
        user.clean("a request's body", request.body.to_string().as_bytes());
    }
    // The job runs as itself: its own environment has a placeholder where a key would be.
    let patch = user.patch(&run.json);
    user.clean("the patch", patch.as_bytes());
    user.clean("the output", run.text.as_bytes());
    assert!(patch.contains("+4\n") && patch.contains("+CODEX_HOME="), "{patch}");
    let clone = user.repository.applied(patch.as_bytes(), "applied");
    assert_eq!(std::fs::read(clone.path().join("f")).expect("the file"), b"1\n2\n3\n4\n");
    let usage = &run.json["usage"];
    assert_eq!((&usage["input_tokens"], &usage["output_tokens"]), (&2000.into(), &100.into()), "{usage}");
    assert_eq!((&usage["cached_input_tokens"], &usage["reasoning_output_tokens"]), (&400.into(), &20.into()), "{usage}");
    assert_eq!(run.json["usage_source"], "gateway", "{:#}", run.json);
}

#[test]
fn the_key_is_found_in_one_file_of_the_gateway_and_nowhere_else() {
    let marker = "marker-7f3a9c51e2";
    let provider = Provider::start(vec![Reply::shell(&format!("echo {marker} > f; sleep 1000 & true")), Reply::Stall]);
    let mut user = User::of(&provider);
    // The loudest log of the host's side; the gateway's own cannot be set from here.
    user.env.set("ANCHORHOLD_LOG", "trace");
    let out = user.env.anchorhold(&["delegate", "--detach", "--json", marker]).current_dir(user.repository.path()).output().expect("it runs");
    assert!(String::from_utf8_lossy(&out.stderr).contains("DEBUG anchorhold::job::deliver"), "the log is on");
    user.clean("standard error of the command line", &out.stderr);
    user.clean("standard output of the command line", &out.stdout);
    user.env.set("ANCHORHOLD_LOG", "warn");
    let job = serde_json::from_slice::<serde_json::Value>(&out.stdout).expect("JSON")["job_id"].as_str().expect("a job id").to_owned();
    let (cell, gateway) = (format!("anchorhold-{job}"), user.gateway());
    wait_until("the provider has the second request", || provider.seen().len() == 2);

    // While the job runs.
    user.clean_container(&cell);
    user.clean_container(&gateway);
    let words = format!("{} {marker} CODEX_HOME= /usr/local/bin/anchorhold", user.key);
    let found = user.beside(&cell, &["python3", "-c", LOOK_INTO_PROCESSES], &words);
    user.clean("the processes of the job", found.as_bytes());
    for place in ["environ", "cmdline", "memory"] {
        assert!(found.lines().any(|line| line.starts_with(place)), "{place} is read: {found}");
    }
    assert!(found.contains(&format!("memory codex {marker}")), "the memory of Codex is read: {found}");
    let places = ["/workspace", "/job", "/tmp", "/run/anchorhold", "/etc"];
    let search = |words: &str| user.beside(&cell, &[&["grep", "-rlaF", "-f", "-"], &places[..]].concat(), words);
    assert!(search(marker).contains("/workspace/f") && search(marker).contains("/job/"), "files are read: {}", search(marker));
    let found = search(&user.key);
    assert!(!found.contains("/workspace") && !found.contains("/job"), "{found}");
    assert_eq!(found.lines().filter(|line| !line.starts_with("grep:")).count(), 0, "{found}");

    // In the gateway: one file that only its own user may read; neither its arguments nor its environment.
    let state =
        ["exec", "-i", &gateway, "grep", "-rlaF", "-f", "-", "/var/lib/anchorhold", "/run/anchorhold", "/tmp", "/proc/1/environ", "/proc/1/cmdline"];
    let found = String::from_utf8_lossy(&user.docker_bytes(&state, &user.key)).into_owned();
    // The process cannot be dumped, so that not even its own user may read its environment.
    let closed = "grep: /proc/1/environ: Permission denied";
    assert!(found.contains(closed), "{found}");
    let found: Vec<&str> = found.lines().filter(|line| *line != closed).collect();
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].starts_with("/var/lib/anchorhold/credentials/"), "{found:?}");
    assert_eq!(user.env.docker(&["exec", &gateway, "stat", "-c", "%a %u %h", found[0]]), ["400 20000 1"]);
    let ledger = user.docker_bytes(&["exec", &gateway, "cat", "/var/lib/anchorhold/ledger.jsonl"], "");
    assert!(memchr::memmem::find(&ledger, job.as_bytes()).is_some(), "the ledger is read");

    // After its end.
    user.run(&["cancel", "--json", &job]);
    let end = user.end_of(&job);
    assert_eq!(end.json["state"], "cancelled", "{:#}", end.json);
    user.clean("the result", end.text.as_bytes());
    user.clean_container(&cell);
    user.clean_container(&gateway);
    for place in ["/job", "/workspace"] {
        let archive = user.docker_bytes(&["cp", &format!("{cell}:{place}"), "-"], "");
        assert!(memchr::memmem::find(&archive, marker.as_bytes()).is_some(), "{place} is read");
        user.clean(place, &archive);
    }
    let own = user.env.path().to_owned();
    clean_directory(&user, &own);
}

/// No file of the user's holds the key either: neither the repository nor what anchorhold may keep below HOME.
fn clean_directory(user: &User, directory: &Path) {
    for entry in std::fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() && !path.is_symlink() {
            clean_directory(user, &path);
        } else if path.is_file() {
            user.clean(&path.display().to_string(), &std::fs::read(&path).expect("a file"));
        }
    }
}

#[test]
fn a_provider_that_repeats_the_key_in_a_refusal_gives_it_to_nobody() {
    // The key is not known before the user is, and the user needs the provider's address.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let user = User::new(&format!("http://{}/v1", listener.local_addr().expect("an address")));
    let key = user.key.as_str();
    let echo =
        json!({"message": format!("Incorrect API key provided: {key}"), "type": "invalid_request_error", "code": "invalid_api_key", "param": key});
    let refusal = Reply::error(401, &[("x-key", key), ("www-authenticate", key), ("retry-after", key)], &echo);
    let provider = Provider::start_on(listener, vec![Reply::shell("echo partial > p"), refusal]);
    let run = user.delegate();
    assert_eq!(provider.seen()[1].header("authorization"), format!("Bearer {key}"));
    ended(&user, &run, "codex_auth_required", 4, true);
    assert!(run.json["error"]["hint"].as_str().is_some_and(|hint| hint.contains("API key")), "{:#}", run.json);
    nowhere(&user, &run.json);
}

#[test]
fn a_provider_that_repeats_the_key_in_an_answer_is_cut_off() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let user = User::new(&format!("http://{}/v1", listener.local_addr().expect("an address")));
    let (key, headers) = (user.key.as_str(), vec![("x-key".to_owned(), user.key.clone())]);
    let created = event(&json!({"type": "response.created", "response": {"id": "r"}}));
    let words = event(&json!({"type": "response.output_text.delta", "delta": format!("your key is {key}")}));
    let item = json!({"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": format!("it is {key}")}]});
    let whole = event(&json!({"type": "response.output_item.done", "output_index": 0, "item": item}));
    let escaped = whole.replace("sk-canary", "\\u0073k-canary");
    let failed = event(&json!({"type": "response.failed", "response": {"id": "r", "error": {"code": key, "message": key}}}));
    let replies = [words, whole, escaped, failed, format!("event: {key}\ndata: x\n\n"), format!(": {key}\n\n")];
    let mut script = vec![Reply::shell("echo partial > p")];
    script.extend(replies.iter().map(|text| Reply::Raw(headers.clone(), format!("{created}{text}"))));
    let provider = Provider::start_on(listener, script);
    let run = user.delegate();
    assert!(provider.seen().len() >= 6, "Codex tried again: {}", provider.seen().len());
    ended(&user, &run, "nonzero_exit", 5, true);
    nowhere(&user, &run.json);
}

/// Neither the job's nor the gateway's container, nor what the job left, holds the key.
fn nowhere(user: &User, json: &serde_json::Value) {
    let job = json["job_id"].as_str().expect("a job id");
    let cell = format!("anchorhold-{job}");
    user.clean_container(&cell);
    user.clean_container(&user.gateway());
    user.clean("/job", &user.docker_bytes(&["cp", &format!("{cell}:/job"), "-"], ""));
    user.clean("/workspace", &user.docker_bytes(&["cp", &format!("{cell}:/workspace"), "-"], ""));
    let out = user.env.anchorhold(&["logs", job]).output().expect("it runs");
    user.clean("the log", &[out.stdout, out.stderr].concat());
}

#[test]
fn a_key_file_goes_before_the_variable_and_a_changed_key_reaches_a_running_gateway() {
    let provider = Provider::start(vec![Reply::say("fine")]);
    let mut user = User::of(&provider);
    let file = user.env.path().join("key");
    std::fs::write(&file, "  sk-from-the-file-0123456789\n\n").expect("a file");
    let sent = |n: usize| provider.seen()[n].header("authorization").to_owned();
    assert_eq!(user.delegate().code, 0);
    assert_eq!(sent(0), format!("Bearer {}", user.key));
    user.env.set("ANCHORHOLD_MODEL_API_KEY_FILE", file.to_str().expect("a plain name"));
    assert_eq!(user.delegate().code, 0);
    assert_eq!(sent(1), "Bearer sk-from-the-file-0123456789");
    let started = user.env.docker(&["inspect", "-f", "{{.State.StartedAt}}", &user.gateway()]);
    std::fs::write(&file, "sk-changed-9876543210").expect("a file");
    assert_eq!(user.delegate().code, 0);
    assert_eq!(sent(2), "Bearer sk-changed-9876543210");
    assert_eq!(user.env.docker(&["inspect", "-f", "{{.State.StartedAt}}", &user.gateway()]), started, "the same gateway");
    // One file for one upstream: the old key is gone from the disk.
    let kept = user.docker_bytes(&["exec", &user.gateway(), "sh", "-c", "cat /var/lib/anchorhold/credentials/*"], "");
    assert_eq!(String::from_utf8_lossy(&kept), "sk-changed-9876543210");

    std::fs::remove_file(&file).expect("it is there");
    let before = user.env.leftovers();
    let run = user.run(&["delegate", "--json", "change the file"]);
    assert_eq!((run.code, &run.json["error"]["code"]), (4, &"codex_auth_required".into()), "{}", run.text);
    let message = run.json["error"]["message"].as_str().unwrap_or_default();
    assert!(message.contains("cannot be read") && message.contains(file.to_str().expect("a plain name")), "{message}");
    assert_eq!(user.env.leftovers(), before, "nothing new is left");
    assert_eq!(provider.seen().len(), 3);
}
