//! What a job gets of its user's own Codex: settings of the list in [`crate::codex::settings`], instructions, execution-policy rules.
//!
//! It is read from `CODEX_HOME` when a job starts, and nothing there stops a job: what cannot be read, is of a wrong form or looks like a secret stays out, and
//! the [`Report`] says so by names alone, never by a value. Every read is bounded and waits for nobody. Links are followed, because people keep these files
//! elsewhere, but only to a file of the same kind by its ending: a home that somebody else has made does not lead to a key or a database.

use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use serde::Serialize;

use super::{Isolation, check};
use crate::codex::settings::{Form, SETTINGS, Setting, find, is_effort};
use crate::config::ModelSettings;
use crate::protocol::request::{JobKind, RulesFile};
use crate::weaken;
use crate::workspace::{instructions, secrets};

/// Largest configuration file that is read.
const MAX_CONFIG: u64 = 1 << 20;
/// Largest instructions that are taken; Codex itself reads 32 KiB of project documents.
const MAX_INSTRUCTIONS: u64 = 64 << 10;
/// Largest file of rules, and largest sum of all.
const MAX_RULES: (u64, u64) = (64 << 10, 256 << 10);
/// Files of rules that are taken.
const MAX_RULES_FILES: usize = 32;
/// Entries of the rules' directory that are looked at.
const MAX_ENTRIES: usize = 1_000;
/// Entries of each list of a report: it becomes a label of the job.
const MAX_LISTED: usize = 24;
/// The user's instructions; the first that says something is taken.
const INSTRUCTIONS: [&str; 2] = ["AGENTS.override.md", "AGENTS.md"];
const CONFIG: &str = "config.toml";
const RULES: &str = "rules";

/// What a job gets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inherited {
    /// `model`.
    pub model: Option<String>,
    /// `model_reasoning_effort`.
    pub reasoning_effort: Option<String>,
    /// Further settings, each value on one line of TOML.
    pub config: Vec<(String, String)>,
    /// The user's `AGENTS.override.md`, else `AGENTS.md`.
    pub instructions: Option<String>,
    /// Files of execution-policy rules.
    pub rules: Vec<RulesFile>,
    /// All of this by name.
    pub report: Report,
}

/// What was taken and what was not: the block `inherited` of a job's `isolation`, and a part of what a dry run shows. Names alone.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Keys of `config.toml`.
    pub taken: Vec<String>,
    /// Files that are sent, with their bytes.
    pub files: Vec<TakenFile>,
    /// Keys and files that are not. The first 24.
    pub left_out: Vec<NotTaken>,
    /// How many there are.
    pub left_out_count: u64,
    /// What of that the user would not expect, a sentence each.
    pub warnings: Vec<String>,
}

/// A file of the user's that is sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TakenFile {
    /// Below `CODEX_HOME`.
    pub name: String,
    /// How large it is.
    pub bytes: u64,
}

/// A key or a file that is not taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NotTaken {
    /// A key of `config.toml`, or a file below `CODEX_HOME`.
    pub name: String,
    /// A word of [`Why`].
    pub why: &'static str,
}

/// Why something was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Why {
    NotOnTheList,
    OtherProvider,
    NotAllowed,
    Overridden,
    NotInReviews,
    BadValue,
    LooksSecret,
    TooLarge,
    TooMany,
    NotText,
    NotToml(usize),
    NotAFile,
    BadName,
    Link,
    Unreadable,
}

impl Why {
    fn as_str(self) -> &'static str {
        match self {
            Self::NotOnTheList => "not_on_the_list",
            Self::OtherProvider => "other_provider",
            Self::NotAllowed => "not_allowed",
            Self::Overridden => "overridden",
            Self::NotInReviews => "not_in_reviews",
            Self::BadValue => "bad_value",
            Self::LooksSecret => "looks_secret",
            Self::TooLarge => "too_large",
            Self::TooMany => "too_many",
            Self::NotText => "not_text",
            Self::NotToml(_) => "not_toml",
            Self::NotAFile => "not_a_file",
            Self::BadName => "bad_name",
            Self::Link => "link",
            Self::Unreadable => "unreadable",
        }
    }

    /// What to do about it; `None` where it is as the user may expect.
    fn remedy(self) -> Option<String> {
        let words = match self {
            Self::NotOnTheList | Self::OtherProvider | Self::NotAllowed | Self::Overridden | Self::NotInReviews => return None,
            Self::BadValue => "its value is none that Codex 0.169 takes: mend it",
            Self::LooksSecret => "it looks as if it held a secret: take that out of it",
            Self::TooLarge => "it is too large: shorten it",
            Self::TooMany => "there are too many: put them together",
            Self::NotText => "it is not UTF-8 text: convert it",
            Self::NotToml(line) => return Some(format!("it is not valid TOML (line {line}): mend it")),
            Self::NotAFile => "it is no regular file: put one in its place",
            Self::BadName => "its name is none that is taken: use letters, digits and hyphens",
            Self::Link => "it is a link to nothing, or to a file of another ending: put the file there",
            Self::Unreadable => "it cannot be read: see to its permissions",
        };
        Some(words.to_owned())
    }
}

impl Inherited {
    /// Names of files that Codex takes for a project's documents besides its own.
    pub(super) fn document_names(&self) -> Vec<String> {
        let line = self.config.iter().find(|(key, _)| key == "project_doc_fallback_filenames").map(|(_, line)| line.as_str());
        let value = line.and_then(|line| format!("names = {line}").parse::<toml::Table>().ok()).and_then(|mut table| table.remove("names"));
        value.and_then(|names| names.try_into().ok()).unwrap_or_default()
    }

    /// Somebody has said something else, which goes first.
    pub(super) fn overridden(&mut self, key: &str) {
        if let Some(at) = self.report.taken.iter().position(|taken| taken == key) {
            self.report.taken.remove(at);
            self.report.leave_out(key, Why::Overridden);
        }
    }
}

impl Report {
    fn leave_out(&mut self, name: &str, why: Why) {
        self.left_out_count += 1;
        if self.left_out.len() < MAX_LISTED {
            self.left_out.push(NotTaken { name: plain(name).to_owned(), why: why.as_str() });
        }
        let Some(remedy) = why.remedy() else { return };
        let (rest, instead) = if name.starts_with(RULES) {
            ("; its rules do not hold in this job", "ignore-rules")
        } else if find(name).is_some() || name == CONFIG {
            ("", "ignore-config")
        } else {
            return self.warn(format!("{} of your Codex was not taken: {remedy}", plain(name)));
        };
        self.warn(format!("{} of your Codex was not taken{rest}: {remedy}, or ask for the isolation {instead}", plain(name)));
    }

    fn warn(&mut self, sentence: String) {
        if self.warnings.len() < MAX_LISTED {
            self.warnings.push(sentence);
        }
    }
}

/// A name that is fit to be shown, as all are that Codex knows. Others might be anything.
fn plain(name: &str) -> &str {
    let fit = name.len() <= 80 && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b'/'));
    if fit { name } else { "(a name that is not shown)" }
}

/// What a job of this kind gets. Blocking; reads only, within bounds.
pub fn inherited(settings: &ModelSettings, isolation: Isolation, kind: JobKind) -> Inherited {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let home = match variable("CODEX_HOME") {
        Some(home) if isolation != Isolation::Nothing && !home.is_absolute() => {
            let mut nothing = Inherited::default();
            nothing.report.warn("nothing of your Codex was taken: CODEX_HOME is no absolute path; set it to one".to_owned());
            return nothing;
        }
        Some(home) => home,
        None => match variable("HOME").map(|home| home.join(".codex")).filter(|home| home.is_absolute()) {
            Some(home) => home,
            None => return Inherited::default(),
        },
    };
    read(&home, settings, isolation, kind)
}

fn read(home: &Path, settings: &ModelSettings, isolation: Isolation, kind: JobKind) -> Inherited {
    let (config, instructions, rules) = match isolation {
        Isolation::Inherit => (true, true, true),
        Isolation::IgnoreConfig => (false, true, true),
        Isolation::IgnoreRules => (true, true, false),
        Isolation::Nothing => (false, false, false),
    };
    let mut found = Inherited::default();
    if config {
        read_config(home, settings, kind, &mut found);
    }
    if instructions {
        read_instructions(home, &mut found);
    }
    if rules {
        read_rules(home, &mut found);
    }
    found
}

fn read_config(home: &Path, settings: &ModelSettings, kind: JobKind, found: &mut Inherited) {
    match read_file(&home.join(CONFIG), MAX_CONFIG) {
        Ok(Some(text)) => take_config(&text, settings, kind, found),
        Ok(None) => {}
        Err(why) => found.report.leave_out(CONFIG, why),
    }
}

/// What a job gets of the text of a `config.toml`.
pub fn take_config(text: &str, settings: &ModelSettings, kind: JobKind, found: &mut Inherited) {
    let table = match text.parse::<toml::Table>() {
        Ok(table) => table,
        Err(e) => {
            // The parser's own message quotes the line, which may hold anything.
            let before = e.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
            return found.report.leave_out(CONFIG, Why::NotToml(before.matches('\n').count() + 1));
        }
    };
    // A model of another provider means nothing to ours.
    let own_provider = table.get("model_provider").is_none_or(|provider| provider.as_str() == Some("openai"));
    for setting in &SETTINGS {
        let Some(value) = table.get(setting.key) else { continue };
        match take(setting, value, own_provider, settings, kind, found) {
            Ok(()) => found.report.taken.push(setting.key.to_owned()),
            Err(why) => found.report.leave_out(setting.key, why),
        }
    }
    for (key, value) in table.iter().filter(|(key, _)| find(key).is_none()) {
        if weaken::off("inherit.list") {
            found.config.push((key.clone(), value.to_string()));
        } else {
            found.report.leave_out(key, Why::NotOnTheList);
        }
    }
}

fn take(setting: &Setting, value: &toml::Value, own: bool, settings: &ModelSettings, kind: JobKind, found: &mut Inherited) -> Result<(), Why> {
    if setting.of_model && !own {
        return Err(Why::OtherProvider);
    }
    let mut value = value.clone();
    if let (Form::Names, JobKind::Review, toml::Value::Array(names)) = (setting.form, kind, &mut value) {
        // The change under review is no instruction: only names that are taken from its base.
        names.retain(|name| name.as_str().is_some_and(|name| instructions::is_instruction(name.as_bytes())));
        if names.is_empty() {
            return Err(Why::NotInReviews);
        }
    }
    let line = setting.take(&value).ok_or(Why::BadValue)?;
    let text = value.as_str().unwrap_or_default();
    if secrets::in_text(text) {
        return Err(Why::LooksSecret);
    }
    match setting.form {
        Form::Model => {
            // The settings' list holds for what comes from here as for what a caller names, but here it stops nobody.
            check::model(settings, text).map_err(|_| if settings.allowed_models.is_empty() { Why::BadValue } else { Why::NotAllowed })?;
            found.model = Some(text.to_owned());
        }
        Form::Effort if is_effort(text) => found.reasoning_effort = Some(text.to_owned()),
        Form::Effort => return Err(Why::BadValue),
        Form::Word(_) | Form::Number(..) | Form::Text | Form::Names => found.config.push((setting.key.to_owned(), line)),
    }
    Ok(())
}

fn read_instructions(home: &Path, found: &mut Inherited) {
    for name in INSTRUCTIONS {
        match read_file(&home.join(name), MAX_INSTRUCTIONS).and_then(|text| text.map(harmless).transpose()) {
            Ok(Some(text)) if !text.trim().is_empty() => {
                found.report.files.push(TakenFile { name: name.to_owned(), bytes: text.len() as u64 });
                found.instructions = Some(text);
                return;
            }
            Ok(_) => {}
            Err(why) => {
                found.report.leave_out(name, why);
                // The other file says what this one was to replace.
                if why != Why::NotAFile {
                    return;
                }
            }
        }
    }
}

fn read_rules(home: &Path, found: &mut Inherited) {
    let directory = home.join(RULES);
    let entries = match std::fs::read_dir(&directory) {
        Ok(entries) => entries,
        Err(e) if e.kind() == ErrorKind::NotFound => return,
        Err(e) if e.kind() == ErrorKind::NotADirectory => return found.report.leave_out(RULES, Why::NotAFile),
        Err(_) => return found.report.leave_out(RULES, Why::Unreadable),
    };
    let mut names: Vec<String> = Vec::new();
    for (at, entry) in entries.enumerate() {
        let Ok(entry) = entry else { return found.report.leave_out(RULES, Why::Unreadable) };
        if at >= MAX_ENTRIES {
            found.report.leave_out(RULES, Why::TooMany);
            break;
        }
        let name = entry.file_name().to_string_lossy().into_owned();
        // Codex reads no other names.
        if name.ends_with(".rules") {
            names.push(name);
        }
    }
    names.sort();
    let mut left = MAX_RULES.1;
    for name in names {
        let shown = format!("{RULES}/{name}");
        let taken = if !RulesFile::is_name(&name) {
            Err(Why::BadName)
        } else if found.rules.len() >= MAX_RULES_FILES {
            Err(Why::TooMany)
        } else {
            read_file(&directory.join(&name), MAX_RULES.0.min(left)).and_then(|text| text.map(harmless).transpose())
        };
        match taken {
            Ok(Some(text)) => {
                left = left.saturating_sub(text.len() as u64);
                found.report.files.push(TakenFile { name: shown, bytes: text.len() as u64 });
                found.rules.push(RulesFile { name, text });
            }
            Ok(None) => {}
            Err(why) => found.report.leave_out(&shown, why),
        }
    }
}

/// The text, unless it looks as if it held a secret.
fn harmless(text: String) -> Result<String, Why> {
    if secrets::in_text(&text) && !weaken::off("inherit.secrets") { Err(Why::LooksSecret) } else { Ok(text) }
}

/// A regular file's text; `None`: there is no such file.
fn read_file(path: &Path, max: u64) -> Result<Option<String>, Why> {
    let failed = |kind: ErrorKind| if matches!(kind, ErrorKind::NotFound | ErrorKind::NotADirectory) { Ok(None) } else { Err(Why::Unreadable) };
    let facts = match path.symlink_metadata() {
        Ok(facts) => facts,
        Err(e) => return failed(e.kind()),
    };
    let real = if facts.is_symlink() { linked(path)? } else { path.to_owned() };
    // Asked again of what was opened: whatever has come into its place is not waited for, and no link is followed any more.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = match rustix::fs::open(&real, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        // What a socket answers.
        Err(rustix::io::Errno::NXIO) => return Err(Why::NotAFile),
        Err(e) => return failed(e.kind()),
    };
    let facts = file.metadata().map_err(|_| Why::Unreadable)?;
    if !facts.is_file() {
        return Err(Why::NotAFile);
    }
    if facts.len() > max {
        return Err(Why::TooLarge);
    }
    let mut bytes = Vec::new();
    file.take(max + 1).read_to_end(&mut bytes).map_err(|_| Why::Unreadable)?;
    if bytes.len() as u64 > max {
        return Err(Why::TooLarge);
    }
    String::from_utf8(bytes).ok().filter(|text| !text.contains('\0')).map(Some).ok_or(Why::NotText)
}

/// Where a link leads, if that is a file of the same kind by its ending.
fn linked(path: &Path) -> Result<PathBuf, Why> {
    let real = path.canonicalize().map_err(|e| if e.kind() == ErrorKind::PermissionDenied { Why::Unreadable } else { Why::Link })?;
    if real.extension() == path.extension() || weaken::off("inherit.links") { Ok(real) } else { Err(Why::Link) }
}

#[cfg(test)]
#[path = "inherit_tests.rs"]
mod tests;
