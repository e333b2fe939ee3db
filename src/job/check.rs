//! What a caller asked for, checked before anything is read or made.

use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::{Additions, StartRequest, Work};
use crate::codex::prompt::DEVELOPER_MARKS;
use crate::config::{LimitSettings, ModelSettings, RootSettings, Settings};
use crate::error::{Code, Error, Result};
use crate::protocol::admin::Upstream;
use crate::weaken;

/// Longest input in bytes: a task; a question and its context together.
pub(super) const MAX_INPUT: usize = 200_000;
/// Longest instructions of a developer, in bytes.
const MAX_INSTRUCTIONS: usize = 4096;
const MAX_KEY: usize = 200;
const MAX_EFFORT: usize = 128;
const MAX_CREDENTIAL: u64 = 16 << 10;
const DEADLINES: std::ops::RangeInclusive<u64> = 10..=7 * 86_400;
const QUEUES: std::ops::RangeInclusive<u64> = 1..=30 * 86_400;
const IDLES: std::ops::RangeInclusive<u64> = 5..=7 * 86_400;
const TOKENS: u64 = 1_000_000_000_000;

/// Checks everything that needs neither the file system nor the engine.
pub(super) fn arguments(settings: &Settings, request: &StartRequest) -> Result<Upstream> {
    work(&request.work)?;
    let upstream = settings.model.upstream()?;
    if let Some(name) = &request.model {
        model(&settings.model, name)?;
    }
    if let Some(effort) = &request.reasoning_effort {
        reasoning_effort(effort)?;
    }
    if let Some(key) = &request.idempotency_key
        && !(1..=MAX_KEY).contains(&key.chars().count())
    {
        return Err(invalid("idempotency_key", "must have 1 to 200 characters", "use a shorter key, such as a UUID"));
    }
    deadline(&settings.limits, request.deadline_seconds)?;
    queue(&settings.limits, request.queue_seconds)?;
    idle(&settings.limits, request.idle_seconds)?;
    tokens(&settings.limits, request)?;
    Ok(upstream)
}

fn work(work: &Work) -> Result<()> {
    match work {
        Work::Delegate { task } | Work::Continue { task, .. } => words("task", task, 0),
        Work::Consult { question, more } => {
            let context = additions(more)?;
            words("question", question, context)
        }
        Work::Review { more, .. } => additions(more).map(|_| ()),
    }
}

/// The caller's words: not blank, and with what else counts not too long.
fn words(field: &str, text: &str, besides: usize) -> Result<()> {
    if text.trim().is_empty() {
        return Err(invalid(field, "is blank", "say what is to be done"));
    }
    bounded(field, text.len().saturating_add(besides), MAX_INPUT)?;
    without_nul(field, text)
}

/// Checks what a question or a review brings besides; bytes of its context.
fn additions(more: &Additions) -> Result<usize> {
    if let Some(instructions) = &more.developer_instructions {
        let field = "developer_instructions";
        bounded(field, instructions.len(), MAX_INSTRUCTIONS)?;
        without_nul(field, instructions)?;
        if DEVELOPER_MARKS.iter().any(|mark| instructions.contains(mark)) {
            return Err(invalid(field, "holds one of the marks that they are framed with", "leave the marks out"));
        }
    }
    let Some(context) = &more.extra_context else { return Ok(0) };
    bounded("extra_context", context.len(), MAX_INPUT)?;
    without_nul("extra_context", context)?;
    Ok(context.len())
}

fn bounded(field: &str, actual: usize, limit: usize) -> Result<()> {
    if actual <= limit {
        return Ok(());
    }
    Err(Error::new(Code::InputTooLarge, format!("start the job: {field} has {actual} bytes, {limit} are allowed"))
        .with_hint(format!("shorten {field}; refer to files of the repository by name instead of quoting them"))
        .with_detail("field", field)
        .with_detail("limit_bytes", limit)
        .with_detail("actual_bytes", actual))
}

fn without_nul(field: &str, text: &str) -> Result<()> {
    if text.contains('\0') { Err(invalid(field, "holds a NUL character", "remove it")) } else { Ok(()) }
}

fn invalid(field: &str, why: &str, hint: &str) -> Error {
    Error::new(Code::InvalidArguments, format!("start the job: {field} {why}")).with_hint(hint).with_detail("field", field).with_detail("reason", why)
}

/// The deadline in force.
pub(super) fn deadline(limits: &LimitSettings, asked: Option<u64>) -> Result<u64> {
    let seconds = asked.unwrap_or(limits.deadline_seconds);
    within("deadline_seconds", seconds, DEADLINES)
}

/// How long it may wait for a slot.
pub(super) fn queue(limits: &LimitSettings, asked: Option<u64>) -> Result<u64> {
    within("queue_seconds", asked.unwrap_or(limits.queue_seconds), QUEUES)
}

/// How long it may be idle; 0: for ever.
pub(super) fn idle(limits: &LimitSettings, asked: Option<u64>) -> Result<u64> {
    match asked.unwrap_or(limits.idle_seconds) {
        0 => Ok(0),
        seconds if IDLES.contains(&seconds) => Ok(seconds),
        _ => Err(invalid(
            "idle_seconds",
            &format!("must be 0 (never) or between {} and {}", IDLES.start(), IDLES.end()),
            "choose a value in that range, or leave it out",
        )),
    }
}

/// What the job may spend. Who asks on somebody's behalf may not go over the cap of their settings.
fn tokens(limits: &LimitSettings, request: &StartRequest) -> Result<()> {
    let Some(asked) = request.token_budget else { return Ok(()) };
    let range = if request.on_behalf && limits.tokens > 0 { 1..=limits.tokens } else { 0..=TOKENS };
    within("max_tokens", asked, range).map(|_| ())
}

fn within(field: &str, value: u64, range: std::ops::RangeInclusive<u64>) -> Result<u64> {
    if range.contains(&value) {
        return Ok(value);
    }
    Err(invalid(field, &format!("must be between {} and {}", range.start(), range.end()), "choose a value in that range, or leave it out"))
}

/// Checks a model's name: well-formed, and one of the allowed.
pub(super) fn model(settings: &ModelSettings, name: &str) -> Result<()> {
    let well_formed = name.len() <= 128
        && name.bytes().next().is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b':' | b'/' | b'-'));
    let allowed = settings.allowed_models.is_empty() || settings.allowed_models.iter().any(|known| known == name);
    if well_formed && allowed || weaken::off("callers.model") {
        return Ok(());
    }
    let mut error = if well_formed {
        Error::new(Code::InvalidModel, "start the job: the model is not among the allowed ones")
    } else {
        Error::new(Code::InvalidModel, "start the job: the model's name is malformed")
    }
    .with_detail("field", "model");
    if settings.allowed_models.is_empty() {
        error = error.with_hint("use a model's name such as gpt-5.5, or leave it out");
    } else {
        error = error
            .with_hint(format!("use one of: {}", settings.allowed_models.join(", ")))
            .with_detail("allowed_values", settings.allowed_models.clone());
    }
    Err(error)
}

/// With a list of allowed models, Codex's own default might not be among them: then one must be named.
pub(super) fn some_model(settings: &ModelSettings, chosen: Option<&str>) -> Result<()> {
    match chosen {
        Some(name) => model(settings, name),
        None if settings.allowed_models.is_empty() => Ok(()),
        None => Err(Error::new(Code::InvalidModel, "start the job: no model is named, and only some are allowed")
            .with_hint(format!("name one of: {}; or set `[model] default_model`", settings.allowed_models.join(", ")))
            .with_detail("field", "model")
            .with_detail("allowed_values", settings.allowed_models.clone())),
    }
}

fn reasoning_effort(effort: &str) -> Result<()> {
    if effort.chars().count() <= MAX_EFFORT && !effort.chars().any(char::is_control) {
        return Ok(());
    }
    Err(Error::new(Code::InvalidReasoningEffort, "start the job: the reasoning effort is malformed")
        .with_hint("use a word that the model knows, such as low, medium or high, or leave it out")
        .with_detail("field", "reasoning_effort"))
}

/// The workspace without links, beneath an allowed root. Blocking.
pub(super) fn workspace(roots: &RootSettings, asked: &Path) -> Result<PathBuf> {
    let invalid = |why: &str| {
        Error::new(Code::InvalidWorkspaceRoot, format!("start the job: the workspace root {why}"))
            .with_hint("give the absolute path of a directory inside a git repository")
            .with_detail("field", "workspace_root")
    };
    if !asked.is_absolute() {
        return Err(invalid("is not absolute"));
    }
    let real = std::fs::canonicalize(asked).map_err(|e| invalid("cannot be found").with_source(e))?;
    if !real.is_dir() {
        return Err(invalid("is not a directory"));
    }
    // Both sides without links, so that a link beneath an allowed root leads nowhere else. A root that is not there allows nothing.
    let allowed = roots.allow.iter().filter_map(|root| std::fs::canonicalize(root).ok()).any(|root| real.starts_with(root));
    // The whole of a system or of a home is no workspace: one slip of a caller would hand over everything that is tracked there.
    let home = std::env::var_os("HOME").and_then(|home| std::fs::canonicalize(home).ok());
    if (real.parent().is_none() || home.as_ref() == Some(&real)) && !weaken::off("callers.home") {
        return Err(invalid("is the whole home directory, or the whole system"));
    }
    if roots.allow.is_empty() || allowed || weaken::off("callers.roots") {
        return Ok(real);
    }
    let candidates: Vec<String> = roots.allow.iter().map(|root| root.display().to_string()).collect();
    Err(Error::new(Code::WorkspaceOutsideRoots, "start the job: the workspace root lies outside of the allowed roots")
        .with_hint(format!("use a directory beneath one of: {}", candidates.join(", ")))
        .with_detail("field", "workspace_root")
        .with_detail("candidate_roots", candidates))
}

/// The credential for the upstream: from the key file, else from the variable. A model service on loopback may need none. Blocking.
pub(super) fn credential(settings: &ModelSettings, upstream: &Upstream) -> Result<Option<Zeroizing<String>>> {
    credential_from(settings, upstream, |name| std::env::var(name).ok())
}

fn credential_from(settings: &ModelSettings, upstream: &Upstream, variable: impl Fn(&str) -> Option<String>) -> Result<Option<Zeroizing<String>>> {
    let Upstream::Http { base_url, .. } = upstream else { return Ok(None) };
    let (place, key) = if settings.api_key_file.is_empty() {
        let name = &settings.api_key_env;
        (format!("the variable {name}"), Zeroizing::new(variable(name).unwrap_or_default()))
    } else {
        (format!("the file {}", settings.api_key_file), key_file(Path::new(&settings.api_key_file))?)
    };
    let key = Zeroizing::new(key.trim().to_owned());
    let problem = if key.is_empty() {
        if base_url.starts_with("http://") {
            return Ok(None);
        }
        "is not set or empty"
    } else if key.starts_with("${") {
        "holds a placeholder that was not filled in"
    } else if key.len() as u64 > MAX_CREDENTIAL || key.bytes().any(|b| !b.is_ascii_graphic()) {
        "does not hold a key"
    } else {
        return Ok(Some(key));
    };
    Err(auth_required(&format!("{place} {problem}"), &place))
}

fn key_file(path: &Path) -> Result<Zeroizing<String>> {
    use std::io::Read as _;
    let place = format!("the file {}", path.display());
    // Asked before opening: opening a pipe would wait for its writer.
    match std::fs::metadata(path) {
        Ok(facts) if facts.is_file() && facts.len() <= MAX_CREDENTIAL => {}
        Ok(_) => return Err(auth_required(&format!("{place} is not a small regular file"), &place)),
        Err(e) => return Err(auth_required(&format!("{place} cannot be read"), &place).with_source(e)),
    }
    let mut text = Zeroizing::new(String::with_capacity(usize::try_from(MAX_CREDENTIAL).unwrap_or(0)));
    let read = std::fs::File::open(path).and_then(|file| file.take(MAX_CREDENTIAL).read_to_string(&mut text));
    // The reader's error says where invalid text was found, never what.
    read.map_err(|e| auth_required(&format!("{place} cannot be read"), &place).with_source(e))?;
    Ok(text)
}

fn auth_required(why: &str, place: &str) -> Error {
    Error::new(Code::CodexAuthRequired, format!("start the job: no API key: {why}"))
        .with_hint(format!("put the provider's API key into {place}, or set `[model] upstream = \"rehearsal\"` to try without one"))
}

#[cfg(test)]
#[path = "check_tests.rs"]
mod tests;
