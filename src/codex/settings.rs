//! The settings of a user's own Codex configuration that a job may have, and the form of each: one list, asked where they are taken
//! (`job/inherit.rs`, on the host) and once more where they become a command line ([`super::command`], in the cell).
//!
//! It says what is harmless, so whatever it does not name stays out: MCP servers, hooks, `notify`, providers, the shell's environment, sandbox and
//! approval policies, features, profiles, and whatever a later Codex brings. They name programs, credentials or paths of a machine, or would weaken the cell. Codex is
//! started with `--strict-config` and ends at once where a value is not of its form, so each is checked here against what 0.169 takes.

use toml::Value;

use super::command::is_model;

/// Longest text, in bytes.
pub const MAX_TEXT: usize = 16 << 10;
/// Names in a list.
const MAX_NAMES: usize = 8;
/// Longest name in a list.
const MAX_NAME: usize = 64;
/// Longest word for an effort.
const MAX_EFFORT: usize = 16;

/// What a value must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// A model's name.
    Model,
    /// A lower-case word: models have their own.
    Effort,
    /// One of these words.
    Word(&'static [&'static str]),
    /// A whole number within these bounds.
    Number(i64, i64),
    /// Text of at most [`MAX_TEXT`] bytes.
    Text,
    /// Names of files, without a directory.
    Names,
}

/// A setting that a job may have.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// As in `config.toml`.
    pub key: &'static str,
    /// Of which form.
    pub form: Form,
    /// It says something about one provider's models and means nothing to another's.
    pub of_model: bool,
}

const fn setting(key: &'static str, form: Form) -> Setting {
    Setting { key, form, of_model: false }
}

/// All of them. `docs/CONFIGURATION.md` has the same list, and a test compares the two.
pub const SETTINGS: [Setting; 13] = [
    Setting { key: "model", form: Form::Model, of_model: true },
    setting("model_reasoning_effort", Form::Effort),
    setting("model_reasoning_summary", Form::Word(&["auto", "concise", "detailed", "none"])),
    setting("model_verbosity", Form::Word(&["low", "medium", "high"])),
    setting("personality", Form::Word(&["none", "friendly", "pragmatic"])),
    Setting { key: "model_context_window", form: Form::Number(1_000, 10_000_000), of_model: true },
    Setting { key: "model_auto_compact_token_limit", form: Form::Number(1_000, 10_000_000), of_model: true },
    setting("tool_output_token_limit", Form::Number(100, 1_000_000)),
    setting("project_doc_max_bytes", Form::Number(0, 1 << 20)),
    setting("project_doc_fallback_filenames", Form::Names),
    setting("developer_instructions", Form::Text),
    setting("instructions", Form::Text),
    setting("compact_prompt", Form::Text),
];

/// The setting of this name, if a job may have it.
pub fn find(key: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.key == key)
}

impl Setting {
    /// The value on one line of TOML; `None` where it is not of the form.
    pub fn take(&self, value: &Value) -> Option<String> {
        match (self.form, value) {
            (Form::Model, Value::String(name)) => is_model(name).then(|| quoted(name)),
            (Form::Effort, Value::String(word)) => is_effort(word).then(|| quoted(word)),
            (Form::Word(words), Value::String(word)) => words.contains(&word.as_str()).then(|| quoted(word)),
            (Form::Number(least, most), Value::Integer(number)) => (least..=most).contains(number).then(|| number.to_string()),
            (Form::Text, Value::String(text)) => (text.len() <= MAX_TEXT && !text.contains('\0')).then(|| quoted(text)),
            (Form::Names, Value::Array(names)) if names.len() <= MAX_NAMES => {
                let names: Option<Vec<String>> = names.iter().map(|name| name.as_str().filter(|name| is_file_name(name)).map(quoted)).collect();
                Some(format!("[{}]", names?.join(",")))
            }
            (Form::Model | Form::Effort | Form::Word(_) | Form::Number(..) | Form::Text | Form::Names, _) => None,
        }
    }
}

/// Whether a setting may stand on the command line by `-c`, with this value as [`Setting::take`] writes it. Model and effort have places of their own.
pub fn is_taken(key: &str, value: &str) -> bool {
    let Some(setting) = find(key).filter(|setting| !matches!(setting.form, Form::Model | Form::Effort)) else { return false };
    let line = format!("value = {value}");
    let read = (!value.contains(['\n', '\r'])).then(|| line.parse::<toml::Table>().ok()).flatten();
    read.and_then(|table| setting.take(table.get("value")?)).as_deref() == Some(value)
}

/// Whether a word may stand for an effort.
pub fn is_effort(word: &str) -> bool {
    !word.is_empty() && word.len() <= MAX_EFFORT && word.bytes().all(|b| b.is_ascii_lowercase())
}

fn is_file_name(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    !name.is_empty() && name.len() <= MAX_NAME && name.bytes().all(plain) && !name.bytes().all(|b| b == b'.')
}

/// A basic string of TOML on one line.
fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => quoted.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(key: &str, value: impl Into<Value>) -> Option<String> {
        find(key).unwrap().take(&value.into())
    }

    #[test]
    fn values_are_of_their_form_or_not_taken() {
        assert_eq!(take("model", "gpt-5.5").as_deref(), Some("\"gpt-5.5\""));
        assert_eq!(take("model_verbosity", "low").as_deref(), Some("\"low\""));
        assert_eq!(take("tool_output_token_limit", 5_000).as_deref(), Some("5000"));
        assert_eq!(take("project_doc_fallback_filenames", vec!["CLAUDE.md", "NOTES.txt"]).as_deref(), Some("[\"CLAUDE.md\",\"NOTES.txt\"]"));
        for (key, value) in [
            ("model", Value::from("--config=x")),
            ("model_reasoning_effort", "High".into()),
            ("model_verbosity", "huge".into()),
            ("model_verbosity", 1.into()),
            ("model_reasoning_summary", "x\" \n[mcp_servers.evil]".into()),
            ("model_context_window", (-5).into()),
            ("tool_output_token_limit", "5000".into()),
            ("project_doc_max_bytes", (1_i64 << 40).into()),
            ("project_doc_fallback_filenames", vec!["../../etc/passwd"].into()),
            ("project_doc_fallback_filenames", vec![".."].into()),
            ("project_doc_fallback_filenames", vec!["a"; MAX_NAMES + 1].into()),
            ("project_doc_fallback_filenames", Value::from(vec![Value::from(1)])),
            ("developer_instructions", "a\0b".into()),
            ("developer_instructions", "x".repeat(MAX_TEXT + 1).into()),
        ] {
            assert_eq!(take(key, value.clone()), None, "{key} = {value}");
        }
    }

    #[test]
    fn a_text_stays_one_line_and_the_same_text() {
        for text in ["plain", "a\nb\r\n\tc", "\"\"\"'''\\", "\u{7f}\u{85}\u{1b}[2K", "\u{202e}é漢", ""] {
            let line = take("developer_instructions", text).unwrap();
            assert!(!line.contains(char::is_control), "{line:?}");
            let back = format!("v = {line}").parse::<toml::Table>().unwrap();
            assert_eq!(back["v"].as_str(), Some(text));
            assert!(is_taken("developer_instructions", &line));
        }
        let worst = take("developer_instructions", "\u{1}".repeat(MAX_TEXT)).unwrap();
        assert!(worst.len() < 128 << 10, "the kernel's bound for one argument");
    }

    #[test]
    fn nothing_but_what_is_on_the_list_stands_on_a_command_line() {
        for key in
            ["mcp_servers.x.command", "notify", "hooks", "model_provider", "openai_base_url", "features.hooks", "web_search", "profile", "", "a b"]
        {
            assert!(!is_taken(key, "\"x\""), "{key}");
        }
        assert!(is_taken("model_verbosity", "\"low\""));
        for value in ["\"huge\"", "low", "'low'", "\"low\"\nnotify = [\"sh\"]", "\"low\" # x", " \"low\"", ""] {
            assert!(!is_taken("model_verbosity", value), "{value}");
        }
        assert!(!is_taken("model", "\"gpt-5.5\""), "it has a place of its own");
    }

    #[test]
    fn the_documented_list_is_this_one() {
        let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/CONFIGURATION.md")).unwrap();
        let (_, section) = page.split_once("## Settings of your own Codex").expect("the section");
        let table = section.split_once("| key | value |").expect("the table").1;
        let rows: Vec<(String, String)> = table
            .lines()
            .skip(2)
            .take_while(|line| line.starts_with('|'))
            .map(|line| {
                let mut cells = line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned());
                (cells.next().unwrap(), cells.next().unwrap())
            })
            .collect();
        let code: Vec<(String, String)> = SETTINGS.iter().map(|setting| (format!("`{}`", setting.key), words(setting.form))).collect();
        assert_eq!(rows, code);
    }

    /// The form as the page writes it.
    fn words(form: Form) -> String {
        match form {
            Form::Model => "a model's name; not where `model_provider` names another provider than `openai`".to_owned(),
            Form::Effort => "a lower-case word".to_owned(),
            Form::Word(words) => words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", "),
            Form::Number(least, most) => format!("{least} to {most}"),
            Form::Text => format!("text, at most {} KiB", MAX_TEXT >> 10),
            Form::Names => format!("at most {MAX_NAMES} names of files"),
        }
    }
}
