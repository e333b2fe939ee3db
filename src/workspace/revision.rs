//! A caller's words for a commit: a branch, tag or object id, with steps back such as `HEAD~2`.
//!
//! The text is hostile. It is taken apart here, names are looked up by [`super::refs`], and git sees nothing of it but the id that was found and
//! checked steps.

use super::refs::References;
use super::repo::Repository;
use super::run::{Bounds, Output, run_within};
use super::shadow::Shadow;
use crate::error::{Code, Error, Result};
use crate::protocol::manifest::ObjectId;

/// Longest text for a commit.
const MAX_TEXT: usize = 250;
/// Names that stand beside `refs/`.
const BESIDE: [&str; 6] = ["HEAD", "FETCH_HEAD", "ORIG_HEAD", "MERGE_HEAD", "CHERRY_PICK_HEAD", "REBASE_HEAD"];
/// Where a name is looked for, in git's order; the last one is ours: pipelines often have a branch as the remote's alone.
const PLACES: [(&str, &str); 7] = [
    ("", ""),
    ("refs/", ""),
    ("refs/tags/", ""),
    ("refs/heads/", ""),
    ("refs/remotes/", ""),
    ("refs/remotes/", "/HEAD"),
    ("refs/remotes/origin/", ""),
];

/// Stands for the base that nobody named; a form that no reference has.
pub const DEFAULT_BASE: &str = "@{default}";
/// What is taken for it, the first that is here: what the remote calls its default branch, and how such branches are usually called.
const DEFAULT_BASES: [&str; 5] = ["origin/HEAD", "origin/main", "origin/master", "main", "master"];

/// Which argument a text was given for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Argument {
    /// The base of a branch.
    Base,
    /// The commit to review.
    Commit,
}

impl Argument {
    fn code(self) -> Code {
        match self {
            Self::Base => Code::InvalidBase,
            Self::Commit => Code::InvalidCommit,
        }
    }

    fn field(self) -> &'static str {
        match self {
            Self::Base => "base",
            Self::Commit => "commit",
        }
    }

    fn error(self, why: &str) -> Error {
        Error::new(self.code(), format!("find the {} of the review: {why}", self.field())).with_detail("field", self.field())
    }
}

/// A text taken apart: a name or id, and the steps behind it.
#[derive(Debug, PartialEq, Eq)]
struct Parsed<'a> {
    name: &'a str,
    steps: &'a str,
}

/// The name and its steps; `None`: a form that is not taken.
fn parse(text: &str) -> Option<Parsed<'_>> {
    if text.is_empty() || text.len() > MAX_TEXT {
        return None;
    }
    let (name, steps) = text.split_at(text.find(['~', '^']).unwrap_or(text.len()));
    let name = if name == "@" { "HEAD" } else { name };
    (is_name(name) && are_steps(steps)).then_some(Parsed { name, steps })
}

/// git's rules for the name of a reference, a little stricter.
fn is_name(name: &str) -> bool {
    let bad =
        |c: char| c.is_whitespace() || c.is_control() || crate::display::is_deceptive(c) || matches!(c, '~' | '^' | ':' | '?' | '*' | '[' | '\\');
    !name.is_empty()
        && !name.starts_with('-')
        && !name.contains(bad)
        && !name.contains("..")
        && !name.contains("@{")
        && name.split('/').all(|part| !part.is_empty() && !part.starts_with('.') && !part.ends_with('.') && !part.ends_with(".lock"))
}

/// `~`, `~3`, `^`, `^2`, `^{}`, `^{commit}`, one after the other.
fn are_steps(mut steps: &str) -> bool {
    while !steps.is_empty() {
        let rest = if let Some(rest) = steps.strip_prefix("^{commit}").or_else(|| steps.strip_prefix("^{}")) {
            rest
        } else if let Some(rest) = steps.strip_prefix(['~', '^']) {
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            if digits > 6 {
                return false;
            }
            rest.get(digits..).unwrap_or_default()
        } else {
            return false;
        };
        steps = rest;
    }
    true
}

/// Finds the commit that a caller's text names. Errors: `invalid_base` or `invalid_commit`, with what to fetch where something is not here.
pub fn resolve(repository: &Repository, shadow: &Shadow, text: &str, argument: Argument) -> Result<ObjectId> {
    let parsed = parse(text).ok_or_else(|| {
        argument
            .error("it has no form that is taken")
            .with_hint("name a branch, a tag, a remote's branch such as origin/main, or an object id; ~2, ^ and ^{commit} may follow")
    })?;
    let start = match parsed.name {
        "HEAD" if shadow.head.unborn => {
            return Err(argument.error("there is no commit yet").with_hint("commit something first, or review the working tree"));
        }
        "HEAD" => shadow.head.id.to_hex(),
        name => match look_up(repository, shadow, name)? {
            Some(id) => id.to_hex(),
            None if is_short_id(name) => name.to_ascii_lowercase(),
            None => return Err(absent(argument, shadow, name)),
        },
    };
    let found = rev_parse(shadow, &format!("{start}{}^{{commit}}", parsed.steps))?;
    if let Some(id) = found.status.success().then(|| ObjectId::parse(found.stdout.trim_ascii())).flatten() {
        return Ok(id);
    }
    if !rev_parse(shadow, &format!("{start}^{{object}}"))?.status.success() {
        return Err(absent(argument, shadow, parsed.name));
    }
    if !rev_parse(shadow, &format!("{start}^{{commit}}"))?.status.success() {
        return Err(argument.error("it is no commit, and no tag of one").with_hint("name a branch, a tag or a commit"));
    }
    let error = argument.error("its history does not go back that far here");
    Err(if shadow.shallow { error.with_hint(deepen()) } else { error.with_hint("`git log` shows how far it goes") })
}

/// The base of a branch, and by which name it was found.
pub fn base(repository: &Repository, shadow: &Shadow, text: &str) -> Result<(String, ObjectId)> {
    if text != DEFAULT_BASE {
        return Ok((text.to_owned(), resolve(repository, shadow, text, Argument::Base)?));
    }
    for name in DEFAULT_BASES {
        match resolve(repository, shadow, name, Argument::Base) {
            Err(e) if e.code == Code::InvalidBase => {}
            found => return Ok((name.to_owned(), found?)),
        }
    }
    let hint = "pass base, such as origin/main; `git remote set-head origin --auto` lets git note which branch is the remote's default";
    Err(Argument::Base.error("none is named, and no branch is here that is usually one").with_hint(hint))
}

/// A name in each of its places; a full id is itself, whatever is called like it.
fn look_up(repository: &Repository, shadow: &Shadow, name: &str) -> Result<Option<ObjectId>> {
    if let Some(id) = ObjectId::parse(name.as_bytes()).filter(|id| id.as_bytes().len() == shadow.facts.format.id_len()) {
        return Ok(Some(id));
    }
    let references = References::of(repository, &shadow.facts, shadow.path())?;
    for (before, after) in PLACES {
        // The remote's branch by its bare name only after an id of that form.
        if before == "refs/remotes/origin/" && is_short_id(name) && rev_parse(shadow, name)?.status.success() {
            return Ok(None);
        }
        let full = format!("{before}{name}{after}");
        if !full.starts_with("refs/") && !BESIDE.contains(&full.as_str()) {
            continue;
        }
        if let Some(id) = references.find(&full)? {
            return Ok(Some(id));
        }
    }
    Ok(None)
}

fn is_short_id(name: &str) -> bool {
    (4..=64).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_hexdigit())
}

/// In a shadow without references: only an id can be meant.
fn rev_parse(shadow: &Shadow, what: &str) -> Result<Output> {
    let mut command = shadow.git();
    command.args(["-c", "core.commitGraph=false", "rev-parse", "--verify", "--quiet", "--end-of-options", what]);
    run_within(command, None, "find a commit", Bounds::default())
}

fn absent(argument: Argument, shadow: &Shadow, name: &str) -> Error {
    let plain = name.len() <= 100 && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b'/'));
    // Only a name that a shell takes as it stands is repeated.
    let branch = if plain { name.strip_prefix("origin/").or_else(|| name.strip_prefix("refs/heads/")).unwrap_or(name) } else { "BRANCH" };
    let hint = if is_short_id(name) || BESIDE.contains(&name) {
        format!("fetch it: `git fetch origin`{}", if shadow.shallow { ", in this shallow clone `git fetch --unshallow origin`" } else { "" })
    } else {
        let shallow = if shadow.shallow { "; this clone is shallow, so `git fetch --unshallow origin` may be needed as well" } else { "" };
        format!("if it is a branch of the remote, fetch it: `git fetch origin {branch}:refs/remotes/origin/{branch}`{shallow}")
    };
    argument.error("there is no such commit here").with_hint(hint)
}

/// What brings the rest of a shallow history.
pub fn deepen() -> String {
    "this clone is shallow: `git fetch --deepen=100 origin`, or `git fetch --unshallow origin` for all of the history".to_owned()
}

/// Where two commits' histories part. Errors: `invalid_base` where they share none here.
pub fn merge_base(shadow: &Shadow, base: &ObjectId, head: &ObjectId) -> Result<ObjectId> {
    let mut command = shadow.git();
    // A commit graph is a cache that the repository brings, and it is believed without a look at the commits.
    command.args(["-c", "core.commitGraph=false", "merge-base", "--end-of-options", &base.to_hex(), &head.to_hex()]);
    let output = run_within(command, None, "find where the branch left its base", Bounds::default())?;
    if let Some(id) = output.stdout.split(|b| *b == b'\n').next().and_then(ObjectId::parse) {
        return Ok(id);
    }
    if output.code() != 1 {
        let error = Error::new(Code::WorktreeError, "find where the branch left its base: git cannot read the history");
        return Err(error
            .with_hint("`git fsck` says what is missing; in a partial clone fetch the history first")
            .with_detail("untrusted_git_stderr", output.stderr));
    }
    let error = Argument::Base.error("it shares no history with HEAD here");
    Err(if shadow.shallow { error.with_hint(deepen()) } else { error.with_hint("name the branch that HEAD was made from") })
}

/// The first parent of a commit; `None`: it is a root. Errors: `invalid_commit` where the parent is not here.
pub fn first_parent(shadow: &Shadow, commit: &[u8], format_len: usize) -> Result<Option<ObjectId>> {
    // Headers come in a fixed order: tree, then parents. A shallow history hides a parent from git, not from here.
    let mut lines = commit.split(|b| *b == b'\n').skip(1);
    let Some(text) = lines.next().and_then(|line| line.strip_prefix(b"parent ")) else { return Ok(None) };
    let broken = || Error::new(Code::WorktreeError, "read the commit: it is malformed").with_hint("`git fsck` says what is damaged");
    let id = ObjectId::parse(text).filter(|id| id.as_bytes().len() == format_len).ok_or_else(broken)?;
    if rev_parse(shadow, &format!("{}^{{tree}}", id.to_hex()))?.status.success() {
        return Ok(Some(id));
    }
    let error = Argument::Commit.error("its parent is not here");
    Err(if shadow.shallow { error.with_hint(deepen()) } else { error.with_hint("`git fsck` says what is missing; `git fetch origin` may bring it") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_that_are_taken() {
        for (text, name, steps) in [
            ("main", "main", ""),
            ("@", "HEAD", ""),
            ("@~2", "HEAD", "~2"),
            ("origin/feature/x", "origin/feature/x", ""),
            ("v1.0^{commit}~3^2^{}", "v1.0", "^{commit}~3^2^{}"),
            ("refs/heads/caf\u{e9}", "refs/heads/caf\u{e9}", ""),
            ("0123abcd^", "0123abcd", "^"),
        ] {
            assert_eq!(parse(text), Some(Parsed { name, steps }), "{text}");
        }
    }

    #[test]
    fn hostile_texts_are_refused_before_anything_runs() {
        let long = "a".repeat(MAX_TEXT + 1);
        for text in [
            "",
            "--output=/tmp/x",
            "-",
            "-main",
            "a b",
            "a\nb",
            "a\0b",
            "main..evil",
            "a...b",
            "HEAD:path",
            ":/text",
            "main@{yesterday}",
            "@{u}",
            "@{-1}",
            "^main",
            "~1",
            "main^{/regex}",
            "main^{tree}",
            "main^!",
            "main^-",
            "main~1234567",
            "main~1x",
            "../../etc/passwd",
            "/etc/passwd",
            "refs//x",
            "refs/.x",
            "x.lock",
            "x/",
            "a*",
            "a\\b",
            "\u{202e}a",
            &long,
        ] {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }
}
