//! What a job gets of its user's own Codex, seen in the requests that arrive at the provider and in what Codex does with rules.

use serde_json::{Value, json};

use super::User;
use crate::support::provider::{Provider, Reply};

/// Everything that a user may have in there; the programs leave marks where they run, the addresses are nobody's.
const CONFIG: &str = r#"
model = "gpt-5.5"
model_reasoning_effort = "low"
model_reasoning_summary = "concise"
model_verbosity = "high"
developer_instructions = "DEVELOPER-MARK\nin two lines"
instructions = "INSTRUCTIONS-MARK"
project_doc_fallback_filenames = ["HOUSE.md"]
notify = ["sh", "-c", "touch /workspace/ran-notify"]
web_search = "live"
approval_policy = "on-request"
sandbox_mode = "read-only"
openai_base_url = "http://127.0.0.1:9/v1"
a_key_of_tomorrow = 1

[mcp_servers.evil]
command = "sh"
args = ["-c", "touch /workspace/ran-mcp"]

[[hooks.SessionStart]]
hooks = [{ type = "command", command = "touch /workspace/ran-hook" }]

[model_providers.anchorhold]
name = "elsewhere"
base_url = "http://127.0.0.1:9/v1"

[shell_environment_policy]
set = { CANARY = "ENVIRONMENT-MARK" }
"#;
const RULES: &str = "prefix_rule(pattern=[\"touch\", \"forbidden\"], decision=\"forbidden\", justification=\"RULES-MARK\")\n";

impl User {
    /// A user whose own Codex is set up with all of the above.
    fn with_codex(provider: &Provider) -> Self {
        let mut user = Self::of(provider);
        user.env.set("ANCHORHOLD_MODEL_DEFAULT_MODEL", "");
        let home = user.env.path().join("codex-home");
        std::fs::create_dir_all(home.join("rules")).expect("a directory");
        for (name, text) in
            [("config.toml", CONFIG), ("AGENTS.md", "AGENTS-MARK"), ("rules/default.rules", RULES), ("auth.json", "{\"AUTH-MARK\": 1}")]
        {
            std::fs::write(home.join(name), text).expect("a file");
        }
        user.env.set("CODEX_HOME", home.to_str().expect("plain"));
        user.repository.write("HOUSE.md", b"HOUSE-MARK\n");
        user.repository.git(&["add", "-A"]);
        user.repository.git(&["commit", "-q", "-m", "house"]);
        user
    }
}

fn provider() -> Provider {
    Provider::choosing(|_, seen| {
        Some(match seen.step() {
            0 => Reply::shell("touch forbidden; touch allowed"),
            1 => Reply::shell("touch forbidden"),
            2 => Reply::shell("echo environment:$CANARY: > seen; ls -A /job/home/.codex/rules >> seen 2>/dev/null"),
            _ => Reply::say("done"),
        })
    })
}

fn marks(request: &Value) -> Vec<&'static str> {
    let text = request.to_string();
    let all = [
        "DEVELOPER-MARK",
        "INSTRUCTIONS-MARK",
        "HOUSE-MARK",
        "AGENTS-MARK",
        "ENVIRONMENT-MARK",
        "AUTH-MARK",
        "web_search",
        "evil",
        "AGENTS.md instructions",
    ];
    all.into_iter().filter(|mark| text.contains(mark)).collect()
}

fn names(list: &Value) -> Vec<&str> {
    list.as_array().map(|list| list.iter().filter_map(|entry| entry.as_str().or(entry["name"].as_str())).collect()).unwrap_or_default()
}

#[test]
fn what_is_harmless_arrives_and_nothing_else_of_the_users_codex_does() {
    let provider = provider();
    let user = User::with_codex(&provider);
    let run = user.run(&["delegate", "--json", "change the file"]);
    assert_eq!((run.code, &run.json["state"]), (0, &json!("completed")), "{}", run.text);
    let seen = provider.seen();
    let first = &seen[0].body;
    assert_eq!((&first["model"], &first["text"]["verbosity"]), (&json!("gpt-5.5"), &json!("high")));
    assert_eq!(first["reasoning"], json!({"effort": "low", "summary": "concise"}));
    let of_first: Vec<&str> = marks(first).into_iter().filter(|mark| *mark != "AGENTS.md instructions").collect();
    assert_eq!(of_first, ["DEVELOPER-MARK", "INSTRUCTIONS-MARK", "HOUSE-MARK", "AGENTS-MARK"]);

    // The rule held, and nothing of the user's ran or was set in the cell.
    let patch = user.patch(&run.json);
    assert!(
        !patch.contains("b/forbidden") && !patch.contains("ran-") && patch.contains("+environment::") && patch.contains("+default.rules"),
        "{patch}"
    );
    assert!(seen.iter().any(|request| request.body.to_string().contains("RULES-MARK")), "the model is told why");

    let inherited = &run.json["isolation"]["inherited"];
    let taken = [
        "model",
        "model_reasoning_effort",
        "model_reasoning_summary",
        "model_verbosity",
        "project_doc_fallback_filenames",
        "developer_instructions",
        "instructions",
    ];
    assert_eq!(names(&inherited["taken"]), taken, "{inherited:#}");
    assert_eq!(names(&inherited["files"]), ["AGENTS.md", "rules/default.rules"]);
    let mut left_out = names(&inherited["left_out"]);
    left_out.sort_unstable();
    let expected = [
        "a_key_of_tomorrow",
        "approval_policy",
        "hooks",
        "mcp_servers",
        "model_providers",
        "notify",
        "openai_base_url",
        "sandbox_mode",
        "shell_environment_policy",
        "web_search",
    ];
    assert_eq!((left_out, &inherited["warnings"]), (expected.to_vec(), &json!([])), "{inherited:#}");
    let told = run.json["isolation"].to_string();
    assert!(!told.contains("MARK") && !told.contains("127.0.0.1") && !told.contains("gpt-5.5"), "names, no values: {told}");
}

#[test]
fn each_isolation_leaves_out_its_part_and_a_caller_goes_first() {
    let provider = provider();
    let user = User::with_codex(&provider);
    let run = user.run(&["delegate", "--json", "--isolation", "ignore-config", "--model", "scripted", "change the file"]);
    assert_eq!(run.code, 0, "{}", run.text);
    let first = &provider.seen()[0].body;
    assert_eq!((&first["model"], marks(first).contains(&"DEVELOPER-MARK"), marks(first).contains(&"AGENTS-MARK")), (&json!("scripted"), false, true));
    assert!(!user.patch(&run.json).contains("b/forbidden"), "rules are no configuration");

    let before = provider.seen().len();
    let run = user.run(&["delegate", "--json", "--isolation", "ignore-rules", "--model", "scripted", "--effort", "medium", "change the file"]);
    assert_eq!(run.code, 0, "{}", run.text);
    let first = &provider.seen()[before].body;
    assert!(marks(first).contains(&"DEVELOPER-MARK") && marks(first).contains(&"AGENTS-MARK"));
    let patch = user.patch(&run.json);
    assert!(patch.contains("b/forbidden") && !patch.contains("+default.rules"), "{patch}");
    let left_out = run.json["isolation"]["inherited"]["left_out"].as_array().expect("a list");
    for key in ["model", "model_reasoning_effort"] {
        assert!(left_out.contains(&json!({"name": key, "why": "overridden"})), "{left_out:#?}");
    }
}

#[test]
fn a_broken_configuration_stops_nothing_and_is_said() {
    let provider = Provider::start(vec![Reply::say("done")]);
    let mut user = User::with_codex(&provider);
    let home = user.env.path().join("codex-home");
    std::fs::write(home.join("config.toml"), "model = \"x\"\nSECRET-WORD = [\n").expect("a file");
    std::fs::remove_file(home.join("AGENTS.md")).expect("removed");
    std::os::unix::fs::symlink(home.join("auth.json"), home.join("AGENTS.md")).expect("a link");
    user.env.set("ANCHORHOLD_MODEL_DEFAULT_MODEL", "scripted");
    let out = user.env.anchorhold(&["delegate", "change the file"]).current_dir(user.repository.path()).output().expect("the binary runs");
    let text = format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    assert_eq!(out.status.code(), Some(0), "{text}");
    for part in
        ["config.toml of your Codex was not taken: it is not valid TOML (line 2): mend it", "AGENTS.md of your Codex was not taken: it is a link"]
    {
        assert!(String::from_utf8_lossy(&out.stderr).contains(part) && String::from_utf8_lossy(&out.stdout).contains(part), "{part}: {text}");
    }
    assert!(!text.contains("SECRET-WORD") && !provider.seen()[0].body.to_string().contains("AUTH-MARK"), "{text}");
}

#[test]
fn rules_that_codex_cannot_read_are_named_as_the_cause() {
    let provider = Provider::start(vec![Reply::say("done")]);
    let user = User::with_codex(&provider);
    std::fs::write(user.env.path().join("codex-home/rules/broken.rules"), "prefix_rule(pattern=[\n").expect("a file");
    let run = user.delegate();
    assert_eq!((run.code, &run.json["error"]["code"]), (5, &json!("nonzero_exit")), "{}", run.text);
    assert!(
        run.json["error"]["hint"].as_str().is_some_and(|hint| hint.contains("execution-policy rules") && hint.contains("ignore-rules")),
        "{}",
        run.text
    );
    assert_eq!(provider.seen().len(), 0, "nothing was spent");
    assert_eq!(user.run(&["delegate", "--json", "--isolation", "ignore-rules", "change the file"]).code, 0);
}
