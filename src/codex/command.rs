//! The exact command line and environment of a Codex run in a cell: a pure function, so that a test can read the whole of it.
//!
//! Made for Codex CLI 0.169. No configuration file is used: what the user's configuration may bring comes as checked `-c` settings. Sessions
//! are kept (no `--ephemeral`), because a job can be continued; the files are small and lie on the job's own volume.

use super::settings;
use crate::error::{Code, Error, Result};
use crate::protocol::paths;
use crate::protocol::request::{CodexSettings, is_conversation};
use crate::weaken;

/// Loopback port of `init`'s forwarder; each cell has its own network namespace, so a fixed one collides with nothing of ours.
pub const FORWARDER_PORT: u16 = 7410;
/// Name of the one model provider, and of the variable that holds its key.
const PROVIDER: &str = "anchorhold";
const KEY_VARIABLE: &str = "ANCHORHOLD_KEY";
/// Stands where a key would; the gateway drops it.
const PLACEHOLDER_KEY: &str = "not-a-key";
/// Where Codex writes its last message: the agent may write there.
pub const LAST_MESSAGE: &str = "/job/home/.last_message";

/// A program, its arguments, its whole environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandLine {
    /// Absolute path.
    pub program: String,
    /// Without the program's name. The prompt is not here: it goes to standard input.
    pub args: Vec<String>,
    /// Nothing else is inherited.
    pub env: Vec<(String, String)>,
}

/// Whether a model name is well formed: `[A-Za-z0-9][A-Za-z0-9._:/-]{0,99}`.
pub fn is_model(name: &str) -> bool {
    name.len() <= 100
        && name.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b':' | b'/'))
}

/// The command line for a request. Errors: [`Code::InvalidModel`], [`Code::InvalidReasoningEffort`], [`Code::InvalidConfig`].
pub fn command_line(wanted: &CodexSettings) -> Result<CommandLine> {
    let mut args: Vec<String> = vec!["exec".to_owned()];
    if let Some(conversation) = &wanted.conversation {
        if !is_conversation(conversation) {
            return Err(Error::internal("the conversation's id is none"));
        }
        args.push("resume".to_owned());
    }
    args.extend(["--json", "--ignore-user-config"].map(str::to_owned));
    if wanted.ignore_rules {
        args.push("--ignore-rules".to_owned());
    }
    // The cell is the sandbox: Codex's own would need what the cell does not give.
    let fixed =
        ["--strict-config", "--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox", "--disable", "plugins", "--disable", "apps"];
    args.extend(fixed.map(str::to_owned));
    let mut config = |key: &str, value: &str| args.extend(["-c".to_owned(), format!("{key}={value}")]);
    // Without these two Codex waits for hosts that it cannot reach: 5 s at its exit.
    config("analytics.enabled", "false");
    config("check_for_update_on_startup", "false");
    for (key, value) in &wanted.config {
        check_config(key, value)?;
        config(key, value);
    }
    config("web_search", "\"disabled\"");
    config("shell_environment_policy.exclude", &format!("[\"{KEY_VARIABLE}\"]"));
    if let Some(effort) = &wanted.reasoning_effort {
        if !settings::is_effort(effort) {
            return Err(Error::new(Code::InvalidReasoningEffort, "the reasoning effort is not a lower-case word"));
        }
        config("model_reasoning_effort", &format!("\"{effort}\""));
    }
    config("model_provider", PROVIDER);
    config(
        &format!("model_providers.{PROVIDER}"),
        &format!("{{name=\"{PROVIDER}\",base_url=\"http://127.0.0.1:{FORWARDER_PORT}/v1\",wire_api=\"responses\",env_key=\"{KEY_VARIABLE}\"}}"),
    );
    if let Some(model) = &wanted.model {
        if !is_model(model) {
            return Err(Error::new(Code::InvalidModel, "the model name is malformed"));
        }
        args.extend(["-m".to_owned(), model.clone()]);
    }
    if wanted.output_schema {
        args.extend(["--output-schema", paths::SCHEMA].map(str::to_owned));
    }
    // The launcher has checked the subdirectory and gone there; its name need not be text, so it is not repeated here.
    match &wanted.conversation {
        // There the directory is the one in which Codex is started, and cannot be named.
        Some(conversation) => args.extend(["-o", LAST_MESSAGE, conversation, "-"].map(str::to_owned)),
        None => args.extend(["-C", ".", "-o", LAST_MESSAGE, "-"].map(str::to_owned)),
    }
    Ok(CommandLine { program: paths::CODEX.to_owned(), args, env: environment() })
}

/// What is on the list of [`settings`], and nothing else: with any other one a job could change who is asked or what is run.
fn check_config(key: &str, value: &str) -> Result<()> {
    if settings::is_taken(key, value) || weaken::off("codex.settings") {
        return Ok(());
    }
    Err(Error::new(Code::InvalidConfig, "a Codex setting is none that a job may have, or its value is not of its form"))
}

fn environment() -> Vec<(String, String)> {
    let path = format!("{}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", paths::CODEX_PATH);
    [
        ("PATH", path.as_str()),
        ("HOME", paths::HOME),
        ("CODEX_HOME", paths::CODEX_HOME),
        ("USER", "agent"),
        ("LOGNAME", "agent"),
        ("SHELL", "/bin/bash"),
        ("LANG", "C.UTF-8"),
        ("TERM", "dumb"),
        // The leak sanitizer wants ptrace, which the cell refuses: without this, every program built with the address sanitizer fails at its end.
        ("LSAN_OPTIONS", "detect_leaks=0"),
        ("TMPDIR", "/tmp"),
        (KEY_VARIABLE, PLACEHOLDER_KEY),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::request::RulesFile;

    fn joined(settings: &CodexSettings) -> String {
        command_line(settings).unwrap().args.join(" ")
    }

    #[test]
    fn the_plain_command_line_in_full() {
        let expected = "exec --json --ignore-user-config --strict-config --skip-git-repo-check --dangerously-bypass-approvals-and-sandbox \
            --disable plugins --disable apps -c analytics.enabled=false -c check_for_update_on_startup=false -c web_search=\"disabled\" \
            -c shell_environment_policy.exclude=[\"ANCHORHOLD_KEY\"] -c model_provider=anchorhold \
            -c model_providers.anchorhold={name=\"anchorhold\",base_url=\"http://127.0.0.1:7410/v1\",wire_api=\"responses\",env_key=\"ANCHORHOLD_KEY\"} \
            -C . -o /job/home/.last_message -";
        assert_eq!(joined(&CodexSettings::default()), expected);
    }

    #[test]
    fn a_conversation_is_gone_on_with_by_its_id() {
        let with = |id: &str| CodexSettings { conversation: Some(id.to_owned()), ..CodexSettings::default() };
        let args = joined(&with("01a21d3d-bd04-7e02-a49f-e0f5a4e29b3d"));
        assert!(args.starts_with("exec resume --json --ignore-user-config --strict-config "), "{args}");
        assert!(args.ends_with(" -o /job/home/.last_message 01a21d3d-bd04-7e02-a49f-e0f5a4e29b3d -"), "{args}");
        assert!(!args.contains(" -C "), "resume does not take it: {args}");
        assert!(command_line(&with("--last")).is_err());
    }

    #[test]
    fn settings_have_their_place() {
        let settings = CodexSettings {
            model: Some("gpt-5.5".to_owned()),
            reasoning_effort: Some("high".to_owned()),
            config: vec![("model_verbosity".to_owned(), "\"low\"".to_owned()), ("project_doc_max_bytes".to_owned(), "100".to_owned())],
            instructions: Some("never on the command line".to_owned()),
            rules: vec![RulesFile { name: "default.rules".to_owned(), text: "never there".to_owned() }],
            ignore_rules: true,
            output_schema: true,
            conversation: None,
        };
        let args = joined(&settings);
        for part in [
            " --ignore-rules ",
            " -m gpt-5.5 ",
            " -c model_reasoning_effort=\"high\" ",
            " -c model_verbosity=\"low\" ",
            " -c project_doc_max_bytes=100 ",
            " -c web_search=\"disabled\" ",
            " --output-schema /job/review/schema.json ",
        ] {
            assert!(args.contains(part), "{part} in {args}");
        }
        assert!(!args.contains("never"));
    }

    #[test]
    fn what_could_change_the_provider_or_run_programs_is_refused() {
        let config = |key: &str, value: &str| {
            command_line(&CodexSettings { config: vec![(key.to_owned(), value.to_owned())], ..CodexSettings::default() }).map_err(|e| e.code)
        };
        for key in [
            "model_provider",
            "model_providers.anchorhold.base_url",
            "shell_environment_policy.set",
            "notify",
            "mcp_servers.x",
            "hooks.SessionStart",
            "web_search",
            "openai_base_url",
            "model",
            "fine",
            "",
            "a..b",
            "a b",
            "a=b",
        ] {
            assert_eq!(config(key, "1"), Err(Code::InvalidConfig), "{key}");
        }
        assert_eq!(config("model_verbosity", "\"low\"\nnotify=[1]"), Err(Code::InvalidConfig));
        assert_eq!(config("model_verbosity", "\"huge\""), Err(Code::InvalidConfig));
        assert!(config("model_verbosity", "\"low\"").is_ok());
        let model = |name: &str| command_line(&CodexSettings { model: Some(name.to_owned()), ..CodexSettings::default() }).map_err(|e| e.code);
        for name in ["--config=x", "", "a b", "é", &"m".repeat(101)] {
            assert_eq!(model(name), Err(Code::InvalidModel), "{name}");
        }
        let effort = CodexSettings { reasoning_effort: Some("hi\"gh".to_owned()), ..CodexSettings::default() };
        assert_eq!(command_line(&effort).map_err(|e| e.code), Err(Code::InvalidReasoningEffort));
    }

    #[test]
    fn the_environment_is_fixed() {
        let names: Vec<String> = command_line(&CodexSettings::default()).unwrap().env.into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["PATH", "HOME", "CODEX_HOME", "USER", "LOGNAME", "SHELL", "LANG", "TERM", "LSAN_OPTIONS", "TMPDIR", "ANCHORHOLD_KEY"]);
    }
}
