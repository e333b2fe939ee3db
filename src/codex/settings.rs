//! The part of the user's own Codex configuration that a job may have: a few scalar settings and the user's instructions.
//!
//! Everything else stays out: MCP servers, hooks, `notify`, model providers, shell environment, sandbox and approval policies. They name programs,
//! credentials or host paths, or would weaken the cell. Read-only and bounded; a file that cannot be read or parsed brings nothing.

use std::io::Read as _;
use std::path::{Path, PathBuf};

/// Largest configuration file that is read.
const MAX_CONFIG: u64 = 1 << 20;
/// Largest instructions that are taken; Codex itself reads 32 KiB of project documents.
const MAX_INSTRUCTIONS: u64 = 64 << 10;
/// Longest value of a setting.
const MAX_VALUE: usize = 64;
/// Settings that are passed on as they are, apart from model and effort.
const ALLOWED: [&str; 2] = ["model_verbosity", "model_reasoning_summary"];

/// What a job inherits.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inherited {
    /// `model`, unless the configuration names a provider of its own.
    pub model: Option<String>,
    /// `model_reasoning_effort`.
    pub reasoning_effort: Option<String>,
    /// Further settings, values in TOML syntax.
    pub config: Vec<(String, String)>,
    /// The user's `AGENTS.override.md`, else `AGENTS.md`.
    pub instructions: Option<String>,
}

/// Where the user's Codex configuration lies: `CODEX_HOME`, else `~/.codex`.
pub fn home() -> Option<PathBuf> {
    let var = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    var("CODEX_HOME").or_else(|| Some(var("HOME")?.join(".codex"))).filter(|path| path.is_absolute())
}

/// Reads what a job inherits. Blocking.
pub fn inherited(home: &Path) -> Inherited {
    let instructions = ["AGENTS.override.md", "AGENTS.md"]
        .iter()
        .filter_map(|name| read_bounded(&home.join(name), MAX_INSTRUCTIONS))
        .find(|text| !text.trim().is_empty());
    let table = read_bounded(&home.join("config.toml"), MAX_CONFIG).and_then(|text| text.parse::<toml::Table>().ok()).unwrap_or_default();
    let word = |key: &str| table.get(key).and_then(toml::Value::as_str).filter(|value| is_word(value)).map(str::to_owned);
    // A model of another provider means nothing to ours.
    let own_provider = table.get("model_provider").is_none_or(|provider| provider.as_str() == Some("openai"));
    Inherited {
        model: if own_provider { word("model") } else { None },
        reasoning_effort: word("model_reasoning_effort"),
        config: ALLOWED.iter().filter_map(|key| Some(((*key).to_owned(), toml::Value::String(word(key)?).to_string()))).collect(),
        instructions,
    }
}

fn is_word(value: &str) -> bool {
    !value.is_empty() && value.len() <= MAX_VALUE && value.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b':' | b'/'))
}

/// A regular file's text, unless it is larger than `max` or not UTF-8.
fn read_bounded(path: &Path, max: u64) -> Option<String> {
    // Asked before opening: opening a pipe would wait for its writer.
    if !std::fs::metadata(path).ok()?.is_file() {
        return None;
    }
    let mut text = String::new();
    let read = std::fs::File::open(path).ok()?.take(max + 1).read_to_string(&mut text).ok()?;
    (read as u64 <= max).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_allow_listed_part_is_taken() {
        let dir = tempfile::tempdir().unwrap();
        let config = r#"
            model = "gpt-5.5"
            model_reasoning_effort = "high"
            model_verbosity = "low"
            model_reasoning_summary = "x\" \n[mcp_servers.evil]"
            notify = ["sh", "-c", "true"]
            sandbox_mode = "danger-full-access"
            [mcp_servers.s]
            command = "sh"
            [shell_environment_policy]
            inherit = "all"
        "#;
        std::fs::write(dir.path().join("config.toml"), config).unwrap();
        std::fs::write(dir.path().join("AGENTS.md"), "be brief").unwrap();
        let expected = Inherited {
            model: Some("gpt-5.5".into()),
            reasoning_effort: Some("high".into()),
            config: vec![("model_verbosity".into(), "\"low\"".into())],
            instructions: Some("be brief".into()),
        };
        assert_eq!(inherited(dir.path()), expected);
        std::fs::write(dir.path().join("AGENTS.override.md"), "override").unwrap();
        assert_eq!(inherited(dir.path()).instructions.as_deref(), Some("override"));
        std::fs::write(dir.path().join("config.toml"), "model = \"llama\"\nmodel_provider = \"mine\"").unwrap();
        assert_eq!(inherited(dir.path()).model, None);
    }

    #[test]
    fn what_cannot_be_read_brings_nothing() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(inherited(dir.path()), Inherited::default());
        std::fs::write(dir.path().join("config.toml"), b"model = [\xff").unwrap();
        std::fs::write(dir.path().join("AGENTS.md"), "x".repeat(usize::try_from(MAX_INSTRUCTIONS).unwrap() + 1)).unwrap();
        assert_eq!(inherited(dir.path()), Inherited::default());
        std::fs::create_dir(dir.path().join("AGENTS.override.md")).unwrap();
        assert_eq!(inherited(dir.path()).instructions, None);
    }
}
