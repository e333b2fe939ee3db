//! The lines of the README that add the server to a client, each tried as far as the client can be had.
//!
//! What each line makes the client start is started, and asked for its tools, in an environment as bare as clients give it. The Codex CLI is
//! there (`ANCHORHOLD_TEST_CODEX`), so it runs its line and calls our tools, over both transports, its model played by the test. Claude Code
//! and the Gemini CLI come from npm, with `make clients`, which also runs the tests that need them.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, its helpers too")]

mod support;

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};
use support::Environment;
use support::http::{Remote, Served, read};
use support::provider::{Provider, Reply, Seen, event};
use support::rehearsal::{Step, task};

const TOKEN: &str = "a-token-of-a-test-0123456789abcdef";
/// Where the README's lines over HTTP go.
const ADDRESS: &str = "127.0.0.1:7411";
/// How the README's lines have the token in them.
const TOKEN_IN_A_SHELL: &str = "$(cat ~/.config/anchorhold/token)";

/// A row of the README's tables of clients.
struct Row {
    client: String,
    /// What stands in backticks first.
    line: String,
}

/// The rows between two headings.
fn rows(from: &str, to: &str) -> Vec<Row> {
    let section = section(from, to);
    let table = section.lines().skip_while(|line| *line != "| client | how |").skip(2).take_while(|line| line.starts_with('|'));
    let row = |line: &str| {
        let (client, how) = line.trim_matches('|').split_once('|').unwrap();
        Row { client: client.trim().to_owned(), line: how.split('`').nth(1).unwrap_or_default().to_owned() }
    };
    table.map(row).collect()
}

fn section(from: &str, to: &str) -> String {
    let readme = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let (_, rest) = readme.split_once(&format!("\n{from}\n")).unwrap_or_else(|| panic!("the README has no {from:?}"));
    rest.split_once(&format!("\n{to}\n")).unwrap_or_else(|| panic!("the README has no {to:?}")).0.to_owned()
}

fn over_pipes() -> Vec<Row> {
    rows("## Add it to your assistant", "### Over HTTP")
}

fn over_http() -> Vec<Row> {
    rows("### Over HTTP", "## Reviews, also in pipelines")
}

fn row(rows: Vec<Row>, client: &str) -> String {
    rows.into_iter().find(|row| row.client.starts_with(client)).unwrap_or_else(|| panic!("no row of {client}")).line
}

/// A line's words as a shell would have them; of its quotes only those that our lines have.
fn words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quote = None;
    for c in line.chars() {
        match (c, quote) {
            ('\'' | '"', None) => quote = Some(c),
            (c, Some(q)) if c == q => quote = None,
            (' ', None) => words.push(String::new()),
            (c, _) => words.last_mut().unwrap().push(c),
        }
    }
    assert!(quote.is_none(), "{line}");
    words
}

/// Command and arguments of a server in a client's own JSON.
fn in_json(server: &Value) -> Vec<String> {
    let arguments = server["args"].as_array().unwrap().iter().map(|word| word.as_str().unwrap().to_owned());
    std::iter::once(server["command"].as_str().unwrap().to_owned()).chain(arguments).collect()
}

/// The README's block of JSON, which is the same for several clients.
fn json_block() -> Vec<String> {
    let section = section("## Add it to your assistant", "### Over HTTP");
    let block = section.split("```json\n").nth(1).unwrap().split("```").next().unwrap();
    in_json(&serde_json::from_str::<Value>(block).unwrap()["mcpServers"]["anchorhold"])
}

/// What a row makes its client start.
fn server_of(row: &Row) -> Vec<String> {
    let words = words(&row.line);
    match row.client.as_str() {
        "Claude Code" | "Codex CLI" => words.into_iter().skip_while(|word| word != "--").skip(1).collect(),
        "VS Code (Copilot)" => {
            assert_eq!(words[..2], ["code", "--add-mcp"]);
            in_json(&serde_json::from_str(&words[2]).unwrap())
        }
        "Gemini CLI" => words.into_iter().skip_while(|word| word != "anchorhold").skip(1).collect(),
        "Cursor" | "Claude Desktop and others" => json_block(),
        other => panic!("it is not known how {other} reads its row"),
    }
}

/// Sends lines to a server that was started as a client would, and gives the answers.
fn talk(server: &[String], environment: &Environment, messages: &[Value]) -> Vec<Value> {
    assert_eq!(server[0], "anchorhold", "a client looks for the binary by its name");
    let mut command = anchorhold::process::command(env!("CARGO_BIN_EXE_anchorhold"), Path::new("/"));
    command.args(&server[1..]).env_clear().env("HOME", environment.path().join("home")).env("PATH", "/usr/bin:/bin");
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let (mut input, output) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
    let mut lines = output.lines();
    let mut answers = Vec::new();
    for message in messages {
        writeln!(input, "{message}").unwrap();
        if message.get("id").is_some() {
            answers.push(serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap());
        }
    }
    drop(input);
    assert!(child.wait().unwrap().success());
    answers
}

fn hello() -> [Value; 3] {
    let information = json!({"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "test", "version": "0"}});
    [
        json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": information}),
        json!({"jsonrpc": "2.0", "method": "notifications/initialized"}),
        json!({"jsonrpc": "2.0", "id": 2, "method": "tools/list"}),
    ]
}

fn assert_lists_tools(answer: &Value) {
    let names: Vec<&str> = answer["result"]["tools"].as_array().unwrap().iter().map(|tool| tool["name"].as_str().unwrap()).collect();
    assert!(names.contains(&"codex_status") && names.contains(&"codex_delegate_async"), "{names:?}");
}

#[test]
fn what_each_line_starts_is_a_server_with_our_tools() {
    let environment = Environment::new();
    let rows = over_pipes();
    assert!(rows.len() >= 5, "the README names five clients");
    for row in rows {
        let server = server_of(&row);
        let answers = talk(&server, &environment, &hello());
        assert_eq!(answers[0]["result"]["serverInfo"]["name"], "anchorhold", "{}: {server:?}", row.client);
        assert_lists_tools(&answers[1]);
    }
}

fn serve(environment: &Environment) -> Served {
    let mut command = environment.anchorhold(&["serve", "--listen", "127.0.0.1:0", "--json"]);
    command.env("ANCHORHOLD_TOKEN", TOKEN);
    Served::start(command, Some(TOKEN)).unwrap()
}

/// The address and the token of each line over HTTP let a client in, and nothing else does.
#[test]
fn what_each_line_over_http_says_opens_the_server() {
    let environment = Environment::new();
    let served = serve(&environment);
    let listen = anchorhold::config::Settings::default().server.listen;
    assert_eq!(listen, ADDRESS, "the README's address is the default");
    for row in over_http() {
        let url = format!("http://{ADDRESS}/mcp");
        let header = if row.line.starts_with('{') {
            let server = serde_json::from_str::<Value>(&row.line).unwrap()["mcpServers"]["anchorhold"].clone();
            assert_eq!(server["url"], url);
            server["headers"]["Authorization"].as_str().unwrap().replace('…', TOKEN)
        } else {
            let words = words(&row.line);
            assert!(words.contains(&url), "{}", row.line);
            match words.iter().position(|word| word == "--header") {
                Some(at) => words[at + 1].replace(TOKEN_IN_A_SHELL, TOKEN).strip_prefix("Authorization: ").unwrap().to_owned(),
                None => {
                    // The value of a variable, with the scheme that the protocol has.
                    let at = words.iter().position(|word| word == "--bearer-token-env-var").unwrap();
                    assert_eq!(words[at + 1], "ANCHORHOLD_TOKEN");
                    format!("Bearer {TOKEN}")
                }
            }
        };
        let token = header.strip_prefix("Bearer ").map(str::to_owned);
        assert!(token.is_some(), "{}: {header}", row.client);
        let remote = Remote { token, ..served.remote.clone() };
        assert_lists_tools(&read(remote.send_legacy("tools/list", json!({}))).json());
    }
    let stranger = Remote { token: None, ..served.remote.clone() };
    assert_eq!(read(stranger.send_legacy("tools/list", json!({}))).status, 401);
}

/// A user with Codex and `anchorhold` in the PATH, the settings in a file: Codex passes no variable of ours to a server.
struct User {
    environment: Environment,
    path: String,
}

impl User {
    fn new() -> Self {
        let mut environment = Environment::new();
        // A busy machine is no dead provider.
        environment.set("ANCHORHOLD_MODEL_UNREACHABLE_SECONDS", "300");
        let bin = environment.path().join("bin");
        std::fs::create_dir(&bin).unwrap();
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_anchorhold"), bin.join("anchorhold")).unwrap();
        let directory = environment.path().join("home/.config/anchorhold");
        std::fs::create_dir_all(&directory).unwrap();
        std::fs::write(directory.join("config.toml"), settings(environment.variables())).unwrap();
        std::fs::create_dir(environment.path().join("home/.codex")).unwrap();
        let path = format!("{}:/usr/local/bin:/usr/bin:/bin", bin.display());
        Self { environment, path }
    }

    fn command(&self, program: &Path) -> Command {
        let mut command = anchorhold::process::command("timeout", self.environment.path());
        command.env_clear().env("HOME", self.environment.path().join("home")).env("PATH", &self.path);
        // A hang is a failure, not a test without an end.
        command.args(["--kill-after=5", "240"]).arg(program).stdin(Stdio::null());
        command
    }

    /// Runs one of the README's lines, with this program in place of its first word.
    fn add(&self, program: &Path, line: &[String]) -> Output {
        let output = self.command(program).args(&line[1..]).output().unwrap();
        assert!(output.status.success(), "{line:?}: {}", said(&output));
        output
    }

    /// Codex with a task, its model played; the calls of our tools as Codex tells them.
    fn codex(&self, variables: &[(&str, &str)], model: &Provider) -> Vec<Value> {
        let provider =
            format!("model_providers.played={{name=\"played\",base_url=\"{}\",wire_api=\"responses\",env_key=\"PLAYED_KEY\"}}", model.url("/v1"));
        let mut command = self.command(&codex());
        command.envs(variables.iter().copied()).env("PLAYED_KEY", "a-played-model-asks-for-none");
        command.args(["exec", "--json", "--ephemeral", "--strict-config", "--skip-git-repo-check", "--sandbox", "read-only"]);
        command.args(["-c", "analytics.enabled=false", "-c", "check_for_update_on_startup=false", "-c", "model_provider=played", "-c", &provider]);
        // What docs/MCP.md names for a run in which nobody can be asked.
        command.args(["-c", "mcp_servers.anchorhold.default_tools_approval_mode=\"approve\""]);
        let output = command.args(["-m", "scripted", "--", "Delegate it."]).output().unwrap();
        assert!(output.status.success(), "{}", said(&output));
        let events: Vec<Value> = String::from_utf8(output.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let calls = events.iter().filter(|e| e["type"] == "item.completed" && e["item"]["type"] == "mcp_tool_call").map(|e| e["item"].clone());
        calls.collect()
    }
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Variables as a settings file.
fn settings(variables: &[(String, String)]) -> String {
    let mut text = String::new();
    for (name, value) in variables {
        let Some((table, key)) = name.strip_prefix("ANCHORHOLD_").and_then(|rest| rest.split_once('_')) else { continue };
        let value = value.parse::<u64>().map_or_else(|_| format!("{value:?}"), |number| number.to_string());
        text.push_str(&format!("{}.{} = {value}\n", table.to_lowercase(), key.to_lowercase()));
    }
    if let Some((_, host)) = variables.iter().find(|(name, _)| name == "DOCKER_HOST") {
        text.push_str(&format!("engine.host = {host:?}\n"));
    }
    text
}

fn codex() -> PathBuf {
    let path = std::env::var_os("ANCHORHOLD_TEST_CODEX").map(PathBuf::from);
    let path = path.unwrap_or_else(|| panic!("set ANCHORHOLD_TEST_CODEX to the Codex binary (`make test` does)"));
    assert!(path.is_file(), "{} is not there", path.display());
    path
}

/// The model's answer that calls one of our tools.
fn call(n: usize, tool: &str, arguments: &Value) -> Reply {
    let item = json!({"type": "function_call", "namespace": "mcp__anchorhold", "name": tool, "arguments": arguments.to_string(), "call_id": format!("call_{n}")});
    let id = format!("resp_{n}");
    let usage = json!({"input_tokens": 1, "input_tokens_details": null, "output_tokens": 1, "output_tokens_details": null, "total_tokens": 2});
    let events = [
        json!({"type": "response.created", "response": {"id": id}}),
        json!({"type": "response.output_item.done", "output_index": 0, "item": item}),
        json!({"type": "response.completed", "response": {"id": id, "usage": usage}}),
    ];
    Reply::Raw(Vec::new(), events.iter().map(event).collect())
}

/// What the last call of a tool gave, as the model reads it.
fn last_output(seen: &Seen) -> Value {
    let items = seen.body["input"].as_array().unwrap();
    let output = &items.iter().rfind(|item| item["type"] == "function_call_output").unwrap()["output"];
    let text = output.as_str().unwrap_or_else(|| panic!("{output:#}"));
    let (_, answer) = text.split_once("Output:\n").unwrap_or_else(|| panic!("{text}"));
    serde_json::from_str(answer).unwrap_or_else(|e| panic!("{e}: {answer}"))
}

/// The names under which Codex shows our tools to its model.
fn shown(seen: &Seen) -> Vec<&str> {
    let tools = seen.body["tools"].as_array().unwrap();
    let ours = tools.iter().find(|tool| tool["name"] == "mcp__anchorhold").unwrap_or_else(|| panic!("our tools are not shown: {tools:#?}"));
    ours["tools"].as_array().unwrap().iter().map(|tool| tool["name"].as_str().unwrap()).collect()
}

/// The README's line alone, and Codex delegates to Codex: status, start, wait, and the patch.
#[test]
fn codex_delegates_by_the_readmes_line() {
    let user = User::new();
    let repository = user.environment.repository("repository", &[("hello.txt", b"hello\n".as_slice())]);
    let before = repository.fingerprint();
    let line = words(&row(over_pipes(), "Codex CLI"));
    user.add(&codex(), &line);
    let (workspace, work) = (repository.text(), task(&[Step::Shell("echo goodbye > hello.txt"), Step::Say("changed it")]));
    let model = Provider::choosing(move |n, seen| {
        let step = seen.step();
        Some(match step {
            0 => call(n, "codex_status", &json!({})),
            1 => call(n, "codex_delegate_async", &json!({"task": work, "workspace_root": workspace})),
            _ => {
                let last = last_output(seen);
                let job = &last["job_id"];
                if last.get("diff").is_some() || last["ok"] != true {
                    Reply::say("That is all.")
                } else if last["result_available"] == true {
                    call(n, "codex_job_result", &json!({"job_id": job}))
                } else {
                    call(n, "codex_job_status", &json!({"job_id": job, "wait_seconds": 30}))
                }
            }
        })
    });
    let calls = user.codex(&[], &model);
    let seen = model.seen();
    assert!(shown(&seen[0]).contains(&"codex_delegate"), "{:?}", shown(&seen[0]));
    assert!(calls.iter().all(|call| call["status"] == "completed" && call["server"] == "anchorhold"), "{calls:#?}");
    let status = &calls[0]["result"]["structured_content"];
    assert_eq!((&status["ok"], &status["ready"]), (&json!(true), &json!(true)), "{status:#}");
    let result = &calls.last().unwrap()["result"]["structured_content"];
    assert!(result["diff"].as_str().unwrap().contains("-hello\n+goodbye"), "{result:#}");
    assert_eq!(repository.fingerprint(), before, "the tree and .git are as they were");
}

/// The same over HTTP: the token comes from the variable that the line names.
#[test]
fn codex_reaches_the_server_over_http_by_the_readmes_line() {
    let user = User::new();
    let served = serve(&user.environment);
    let line = words(&row(over_http(), "Codex CLI").replace(ADDRESS, &served.remote.address.to_string()));
    user.add(&codex(), &line);
    let model = Provider::choosing(|n, seen| Some(if seen.step() == 0 { call(n, "codex_job_list", &json!({})) } else { Reply::say("Done.") }));
    let calls = user.codex(&[("ANCHORHOLD_TOKEN", TOKEN)], &model);
    assert_eq!(calls.len(), 1, "{calls:#?}");
    assert_eq!(calls[0]["result"]["structured_content"]["jobs"], json!([]), "{calls:#?}");
}

/// A program that `make clients` took from npm.
fn from_npm(name: &str) -> PathBuf {
    let directory = std::env::var_os("ANCHORHOLD_TEST_CLIENTS").unwrap_or_else(|| panic!("set ANCHORHOLD_TEST_CLIENTS (`make clients` does)"));
    Path::new(&directory).join("node_modules/.bin").join(name)
}

/// Adds the server by the README's lines, and has the client say whether it can speak to it.
fn adds_and_connects(name: &str, client: &str) {
    let program = from_npm(name);
    let user = User::new();
    let listed = |what: &str| {
        let output = user.command(&program).args(["mcp", "list"]).env("GEMINI_CLI_TRUST_WORKSPACE", "true").output().unwrap();
        let text = said(&output);
        let line = text.lines().find(|line| line.contains("anchorhold")).unwrap_or_else(|| panic!("{what}: {text}"));
        assert!(line.contains("Connected") && !line.contains("Disconnected"), "{what}: {text}");
    };
    user.add(&program, &words(&row(over_pipes(), client)));
    listed("over pipes");
    let mut remove = vec!["mcp", "remove", "anchorhold"];
    if client == "Gemini CLI" {
        remove.extend(["--scope", "user"]);
    }
    assert!(user.command(&program).args(&remove).status().unwrap().success());
    let served = serve(&user.environment);
    let line = row(over_http(), client).replace(ADDRESS, &served.remote.address.to_string()).replace(TOKEN_IN_A_SHELL, TOKEN);
    user.add(&program, &words(&line));
    listed("over HTTP");
}

#[test]
#[ignore = "needs Claude Code from npm: make clients"]
fn claude_code_connects_by_the_readmes_lines() {
    adds_and_connects("claude", "Claude Code");
}

#[test]
#[ignore = "needs the Gemini CLI from npm: make clients"]
fn gemini_connects_by_the_readmes_lines() {
    adds_and_connects("gemini", "Gemini CLI");
}
