//! What is seen from outside: logs, spans, metrics, stats. Real engine, real Codex, real gateway; a collector on loopback that takes what comes.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr, reason = "a test fails by panicking, its helpers too, and says what it measured")]

mod support;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::provider::{Provider, Reply};
use support::rehearsal::{Step, task};
use support::{Environment, Repository};

const PATIENCE: Duration = Duration::from_secs(180);
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const CALLER: &str = "b7ad6b7169203331";

fn traceparent() -> String {
    format!("00-{TRACE}-{CALLER}-01")
}

/// An OTLP/HTTP collector that keeps what it gets.
struct Collector {
    url: String,
    got: Arc<Mutex<Vec<(String, Value)>>>,
}

impl Collector {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let got = Arc::<Mutex<Vec<(String, Value)>>>::default();
        let keep = got.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let keep = keep.clone();
                std::thread::spawn(move || {
                    let mut stream = BufReader::new(stream);
                    loop {
                        let mut line = String::new();
                        if stream.read_line(&mut line).unwrap_or(0) == 0 {
                            return;
                        }
                        let path = line.split(' ').nth(1).unwrap().to_owned();
                        let (mut length, mut kind) = (0, String::new());
                        loop {
                            let mut header = String::new();
                            stream.read_line(&mut header).unwrap();
                            let Some((name, value)) = header.trim_end().split_once(':') else { break };
                            match name.to_ascii_lowercase().as_str() {
                                "content-length" => length = value.trim().parse().unwrap(),
                                "content-type" => kind = value.trim().to_owned(),
                                _ => {}
                            }
                        }
                        let mut body = vec![0; length];
                        stream.read_exact(&mut body).unwrap();
                        assert_eq!(kind, "application/json");
                        keep.lock().unwrap().push((path, serde_json::from_slice(&body).unwrap()));
                        stream.get_mut().write_all(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}").unwrap();
                    }
                });
            }
        });
        Self { url, got }
    }

    fn documents(&self) -> Vec<(String, Value)> {
        self.got.lock().unwrap().clone()
    }

    /// Every span, with the service that sent it.
    fn spans(&self) -> Vec<(String, Value)> {
        let mut all = Vec::new();
        for (_, document) in self.documents().iter().filter(|(path, _)| path == "/v1/traces") {
            for resource in document["resourceSpans"].as_array().unwrap() {
                let service = resource["resource"]["attributes"][0]["value"]["stringValue"].as_str().unwrap().to_owned();
                for scope in resource["scopeSpans"].as_array().unwrap() {
                    all.extend(scope["spans"].as_array().unwrap().iter().map(|span| (service.clone(), span.clone())));
                }
            }
        }
        all
    }

    /// Name and first data point of every metric.
    fn metrics(&self) -> Vec<(String, Value)> {
        let mut all = Vec::new();
        for (_, document) in self.documents().iter().filter(|(path, _)| path == "/v1/metrics") {
            for metric in document["resourceMetrics"][0]["scopeMetrics"][0]["metrics"].as_array().unwrap() {
                all.push((metric["name"].as_str().unwrap().to_owned(), metric.clone()));
            }
        }
        all
    }

    #[track_caller]
    fn wait_for(&self, what: &str, there: impl Fn(&Self) -> bool) {
        let began = Instant::now();
        while !there(self) {
            assert!(began.elapsed() < PATIENCE, "{what} never came: {:#?}", self.spans());
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

fn attribute<'a>(span: &'a Value, key: &str) -> &'a Value {
    span["attributes"].as_array().unwrap().iter().find(|a| a["key"] == key).map_or(&Value::Null, |a| &a["value"])
}

struct Run {
    code: i32,
    json: Value,
    stdout: Vec<u8>,
    stderr: String,
}

#[track_caller]
fn run(environment: &Environment, repository: &Repository, args: &[&str]) -> Run {
    let out = environment.anchorhold(args).current_dir(repository.path()).output().unwrap();
    let stderr = String::from_utf8_lossy(&out.stderr).into_owned();
    Run { code: out.status.code().unwrap_or(-1), json: serde_json::from_slice(&out.stdout).unwrap_or_default(), stdout: out.stdout, stderr }
}

fn job_id(run: &Run) -> String {
    let id = run.json["job"]["job_id"].as_str().or(run.json["job_id"].as_str());
    id.unwrap_or_else(|| panic!("no job: {}\n{}", run.json, run.stderr)).to_owned()
}

fn docker_log(environment: &Environment, container: &str) -> Vec<u8> {
    let out = environment.command("docker").args(["logs", container]).output().unwrap();
    [out.stdout, out.stderr].concat()
}

fn holds(bytes: &[u8], word: &str) -> bool {
    memchr::memmem::find(bytes, word.as_bytes()).is_some()
}

/// A whole run with everything on: one trace from the caller over host, cell and gateway; and neither log nor collector learns a secret.
#[test]
fn one_trace_goes_through_everything_and_nothing_secret_goes_with_it() {
    let collector = Collector::start();
    let unique = uuid::Uuid::new_v4().simple().to_string();
    let (key, words, content) = (format!("sk-canary-{unique}"), format!("canary-task-{unique}"), format!("canary-file-{unique}"));
    let name = format!("canary-name-{unique}");
    let provider = Provider::start(vec![Reply::shell(&format!("echo {content}-new >> deep/{name}")), Reply::say("done")]);
    let mut environment = Environment::new();
    for (variable, value) in [
        ("OPENAI_API_KEY", key.as_str()),
        ("ANCHORHOLD_MODEL_UPSTREAM", &provider.url("/v1")),
        ("ANCHORHOLD_GATEWAY_NETWORK", "host"),
        ("ANCHORHOLD_MODEL_DEFAULT_MODEL", "scripted"),
        ("ANCHORHOLD_LOG", "trace,bollard=trace,hyper=trace,reqwest=trace"),
        ("ANCHORHOLD_LOG_FORMAT", "json"),
        ("ANCHORHOLD_TELEMETRY_OTLP_ENDPOINT", &collector.url),
        ("TRACEPARENT", &traceparent()),
        ("TRACESTATE", "vendor=1"),
    ] {
        environment.set(variable, value);
    }
    let repository = environment.repository("repository", &[(format!("deep/{name}").as_str(), format!("{content}\n").as_bytes())]);
    let done = run(&environment, &repository, &["delegate", "--json", "--quiet", "--diff", &words]);
    assert_eq!(done.code, 0, "{}\n{}", String::from_utf8_lossy(&done.stdout), done.stderr);
    let id = job_id(&done);
    let container = format!("anchorhold-{id}");
    let label = |name: &str| environment.docker(&["inspect", "-f", &format!("{{{{index .Config.Labels \"{name}\"}}}}"), &container]).concat();
    assert_eq!((label("anchorhold.traceparent"), label("anchorhold.tracestate")), (traceparent(), "vendor=1".to_owned()));

    collector.wait_for("the gateway's span", |c| c.spans().iter().filter(|(_, span)| span["name"] == "model.request").count() >= 2);
    collector.wait_for("the gateway's gauges", |c| c.metrics().iter().any(|(name, _)| name == "anchorhold.gateway.slots.total"));
    let spans: Vec<(String, Value)> = collector.spans().into_iter().filter(|(_, span)| span["traceId"] == TRACE).collect();
    for (service, span) in &spans {
        eprintln!("{service:18} {:15} {} <- {}", span["name"].as_str().unwrap(), span["spanId"], span["parentSpanId"]);
    }
    let find = |name: &str| {
        let found = spans.iter().find(|(_, span)| span["name"] == name);
        found.unwrap_or_else(|| panic!("no span {name}: {:?}", spans.iter().map(|(_, s)| s["name"].clone()).collect::<Vec<_>>())).clone()
    };
    let delegation = find("delegation").1;
    assert_eq!((&delegation["parentSpanId"], &delegation["traceState"]), (&json!(CALLER), &json!("vendor=1")));
    assert_eq!(attribute(&delegation, "outcome")["stringValue"], "completed");
    for name in ["start", "deliver", "collect", "cell.unpack", "cell.run", "cell.seal", "model.request"] {
        let (service, span) = find(name);
        assert_eq!(span["parentSpanId"], delegation["spanId"], "{name}");
        assert_eq!(attribute(&span, "job_id")["stringValue"], id.as_str(), "{name}");
        assert_eq!(service, if name == "model.request" { "anchorhold-gateway" } else { "anchorhold" });
        let nanos = |key: &str| span[key].as_str().unwrap().parse::<u64>().unwrap();
        assert!(nanos("startTimeUnixNano") <= nanos("endTimeUnixNano"), "{span}");
    }
    for (name, parent) in [("snapshot", "start"), ("create", "start"), ("pack", "deliver"), ("upload", "deliver"), ("admit", "deliver")] {
        assert_eq!(find(name).1["parentSpanId"], find(parent).1["spanId"], "{name}");
    }
    let metrics = collector.metrics();
    for name in ["anchorhold.delegations", "anchorhold.step.duration", "anchorhold.delivered", "anchorhold.tokens", "anchorhold.jobs.collected"] {
        assert!(metrics.iter().any(|(known, _)| known == name), "{name}");
    }
    let tokens: u64 = metrics
        .iter()
        .filter(|(name, _)| name == "anchorhold.gateway.tokens")
        .map(|(_, metric)| metric["sum"]["dataPoints"][0]["asInt"].as_str().unwrap().parse::<u64>().unwrap())
        .sum();
    assert_eq!(tokens, 2 * (1000 + 50), "as the provider counted");

    // What the provider gets says nothing of a trace.
    for seen in provider.seen() {
        let all = format!("{seen:?}");
        assert!(!all.contains(TRACE) && !all.contains("traceparent") && !all.contains(&id), "{all}");
    }

    // The words are found where they belong, so the search finds; and nowhere in logs or telemetry.
    assert!(holds(&done.stdout, &format!("{content}-new")) && provider.seen().iter().any(|seen| seen.body.to_string().contains(&words)));
    assert_eq!(provider.seen()[0].header("authorization"), format!("Bearer {key}"));
    let ended = run(&environment, &repository, &["consume", "--json", "--quiet", &id]);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    let gateway = docker_log(&environment, &format!("anchorhold-{}", environment.instance()));
    let sent: Vec<String> = collector.documents().iter().map(|(_, document)| document.to_string()).collect();
    let logs = [done.stderr.as_bytes(), ended.stderr.as_bytes(), &gateway, sent.join("\n").as_bytes()].map(<[u8]>::to_vec);
    for (place, log) in ["the host's log", "the log of consume", "the gateway's log", "telemetry"].iter().zip(&logs) {
        for word in [&key, &key[10..30].to_owned(), &words, &content, &name, &"canary".to_owned()] {
            assert!(!holds(log, word), "{word} stands in {place}: {}", String::from_utf8_lossy(log));
        }
        assert!(!log.is_empty(), "{place} is empty, so it proves nothing");
    }

    // Each line of the host's log is one object with the fields that are promised.
    let lines: Vec<Value> = done.stderr.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect();
    for line in &lines {
        assert!(["ts", "level", "target", "message"].iter().all(|key| line[*key].is_string()), "{line}");
        assert!(line["target"].as_str().unwrap().starts_with("anchorhold"), "{line}");
    }
    let delivered = lines.iter().find(|line| line["message"] == "delivered").unwrap_or_else(|| panic!("{}", done.stderr));
    assert_eq!((&delivered["job_id"], &delivered["spans"][0]["name"]), (&json!(id), &json!("deliver")));
    for line in String::from_utf8(gateway).unwrap().lines() {
        let line: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        assert!(["ts", "level", "target", "message"].iter().all(|key| line[*key].is_string()), "{line}");
    }
}

/// Nothing leaves the machine unasked, and a collector that is dead or silent costs no job its outcome.
#[test]
fn telemetry_is_off_until_asked_for_and_never_fails_a_job() {
    let collector = Collector::start();
    let mut environment = Environment::new();
    environment.set("ANCHORHOLD_GATEWAY_NETWORK", "host");
    environment.set("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.url);
    let repository = environment.repository("repository", &[("f", b"1\n")]);
    let task = task(&[Step::Shell("echo 2 >> f"), Step::Say("done")]);
    let quiet = run(&environment, &repository, &["delegate", "--json", "--quiet", &task]);
    assert_eq!((quiet.code, quiet.stderr.as_str()), (0, ""));
    let consumed = run(&environment, &repository, &["consume", "--json", &job_id(&quiet)]);
    assert_eq!(consumed.code, 0, "{}", consumed.stderr);
    assert!(collector.documents().is_empty(), "{:?}", collector.documents());

    // One takes connections and says nothing; to the other nobody listens.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    for url in [format!("http://{}", silent.local_addr().unwrap()), "http://127.0.0.1:1".to_owned()] {
        environment.set("ANCHORHOLD_TELEMETRY_OTLP_ENDPOINT", &url);
        let began = Instant::now();
        let done = run(&environment, &repository, &["delegate", "--json", "--quiet", &task]);
        eprintln!("with {url}: {:?}", began.elapsed());
        assert_eq!(done.code, 0, "{}", done.stderr);
        assert!(run(&environment, &repository, &["consume", "--json", &job_id(&done)]).code == 0);
    }

    // The control: the standard variable counts where our setting says so, and without a caller's trace the job's id names it.
    environment.set("ANCHORHOLD_TELEMETRY_OTLP_ENDPOINT", "env");
    let done = run(&environment, &repository, &["delegate", "--json", "--quiet", &task]);
    assert_eq!(done.code, 0, "{}", done.stderr);
    let id = job_id(&done);
    collector.wait_for("the gateway's span", |c| c.spans().iter().any(|(_, s)| s["name"] == "model.request" && s["traceId"] == id.as_str()));
    collector.wait_for("the host's span", |c| c.spans().iter().any(|(_, s)| s["name"] == "delegation" && s["traceId"] == id.as_str()));

    // A refused delegation is told of as well.
    environment.set("TRACEPARENT", &traceparent());
    let refused = run(&environment, &repository, &["delegate", "--json", "--deadline", "1s", "x"]);
    assert_ne!(refused.code, 0);
    collector.wait_for("the refusal", |c| c.spans().iter().any(|(_, s)| s["name"] == "delegation" && s["traceId"] == TRACE));
    let (_, span) = collector.spans().into_iter().find(|(_, s)| s["name"] == "delegation" && s["traceId"] == TRACE).unwrap();
    assert_eq!((&span["parentSpanId"], &span["status"]["code"]), (&json!(CALLER), &json!(2)), "{span}");
}

/// A call over MCP brings its place in a trace in `_meta`; what is no place in a trace is left out and harms nothing.
#[test]
fn the_trace_context_of_an_mcp_call_is_kept_with_the_job() {
    let environment = Environment::new();
    let repository = environment.repository("repository", &[("f", b"1\n")]);
    let mut server = environment.anchorhold(&["mcp"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().unwrap();
    let mut input = server.stdin.take().unwrap();
    let mut output = BufReader::new(server.stdout.take().unwrap()).lines();
    let mut ask = |message: Value| {
        let wanted = message["id"].clone();
        writeln!(input, "{message}").unwrap();
        while !wanted.is_null() {
            let answer: Value = serde_json::from_str(&output.next().unwrap().unwrap()).unwrap();
            if answer["id"] == wanted {
                return answer;
            }
        }
        Value::Null
    };
    ask(json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params":
        {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "test", "version": "0"}}}));
    ask(json!({"jsonrpc": "2.0", "method": "notifications/initialized"}));
    let task = task(&[Step::Say("done")]);
    let cases = [
        (json!({"traceparent": traceparent(), "tracestate": "a=1,b=2"}), traceparent(), "a=1,b=2"),
        (json!({"traceparent": traceparent(), "tracestate": "a=\u{1b}[31m\r\nX: y"}), traceparent(), ""),
        (json!({"traceparent": format!("{}\r\nX-Evil: 1", traceparent())}), String::new(), ""),
        (json!({"traceparent": "0".repeat(100_000)}), String::new(), ""),
        (json!({"traceparent": {"no": "text"}, "tracestate": 7}), String::new(), ""),
    ];
    for (n, (meta, parent, state)) in cases.into_iter().enumerate() {
        let arguments = json!({"task": task, "workspace_root": repository.text()});
        let answer = ask(json!({"jsonrpc": "2.0", "id": n + 2, "method": "tools/call", "params":
            {"name": "codex_delegate_async", "arguments": arguments, "_meta": meta}}));
        let id = answer["result"]["structuredContent"]["job_id"].as_str().unwrap_or_else(|| panic!("{meta}: {answer:#}")).to_owned();
        let labels = environment.docker(&["inspect", "-f", "{{json .Config.Labels}}", &format!("anchorhold-{id}")]).concat();
        let labels: Value = serde_json::from_str(&labels).unwrap();
        let label = |name: &str| labels[name].as_str().unwrap_or_default().to_owned();
        assert_eq!((label("anchorhold.traceparent"), label("anchorhold.tracestate")), (parent, state.to_owned()), "{meta}");
    }
    drop(input);
    assert!(server.wait().unwrap().success());
}

/// Everything at a glance, before there is a gateway, while a job runs, and when it is gone.
#[test]
fn stats_tell_what_there_is() {
    let environment = Environment::new();
    let repository = environment.repository("repository", &[("f", b"1\n")]);
    let stats = |args: &[&str]| run(&environment, &repository, &[&["stats"], args].concat());
    let empty = stats(&["--json"]);
    assert_eq!(empty.code, 0, "{}", empty.stderr);
    let first = &empty.json["stats"];
    assert_eq!((&first["jobs_total"], &first["oldest_job"], &first["gateway"]), (&json!(0), &Value::Null, &Value::Null));
    assert!(first["gateway_problem"].is_string(), "{first:#}");
    assert!(environment.docker(&["ps", "-aq", "--filter", &format!("label=anchorhold.gateway=anchorhold-{}", environment.instance())]).is_empty());

    let started = run(&environment, &repository, &["delegate", "--detach", "--json", &task(&[Step::Delay(600), Step::Say("done")])]);
    let id = job_id(&started);
    let began = Instant::now();
    let busy = loop {
        let busy = stats(&["--json"]).json["stats"].clone();
        if busy["jobs"]["running"] == 1 && busy["gateway"]["requests_under_way"] == 1 {
            break busy;
        }
        assert!(began.elapsed() < PATIENCE, "{busy:#}");
        std::thread::sleep(Duration::from_millis(200));
    };
    let gateway = &busy["gateway"];
    assert_eq!((&busy["jobs_total"], &busy["volumes"], &busy["oldest_job"]["job_id"]), (&json!(1), &json!(2), &json!(id)));
    assert_eq!((&gateway["running"], &gateway["slots"], &gateway["passes"]), (&json!(1), &json!(4), &json!(1)), "{gateway:#}");
    let bytes = gateway["resident_bytes"].as_u64().unwrap();
    eprintln!("the gateway's memory: {bytes} bytes");
    assert!((1 << 20..1 << 30).contains(&bytes) && gateway["ledger_head"]["seq"].as_u64().unwrap() >= 2, "{gateway:#}");

    let page = String::from_utf8(stats(&["--format", "prometheus"]).stdout).unwrap();
    for line in
        ["anchorhold_jobs{state=\"running\"} 1", "anchorhold_jobs{state=\"lost\"} 0", "anchorhold_gateway_up 1", "anchorhold_gateway_slots_used 1"]
    {
        assert!(page.lines().any(|there| there == line), "{line} in\n{page}");
    }
    let text = String::from_utf8(stats(&[]).stdout).unwrap();
    assert!(text.contains("1 running") && text.contains("1 of 4 in use"), "{text}");

    for verb in ["cancel", "consume"] {
        run(&environment, &repository, &[verb, "--json", &id]);
    }
    let after = stats(&["--json"]).json["stats"].clone();
    assert_eq!((&after["jobs_total"], &after["volumes"], &after["gateway"]["passes"]), (&json!(0), &json!(0), &json!(0)), "{after:#}");
    assert_eq!((&after["gateway"]["running"], &after["gateway"]["requests"]), (&json!(0), &json!(1)), "{after:#}");
}
