//! The forms in which a review is read: one pure function each, from the model to bytes.
//!
//! Every text of a finding is an agent's words, so each form escapes them in its own way ([`escape`]): nothing that a finding says may open a
//! block, a link, a tag, a mention, or a command to the runner whose log it stands in.

pub mod escape;
pub mod github;
pub mod gitlab;
pub mod json;
pub mod junit;
pub mod markdown;
pub mod sarif;
#[cfg(test)]
pub(crate) mod tests;
pub mod text;

use sha2::{Digest as _, Sha256};

use super::{Change, Finding, LineRange, Review, ReviewScope, Severity};
use crate::protocol::result::Reason;

/// A form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// For people, at a terminal or in a log.
    Text,
    /// For people, in a merge request, an issue, a step summary.
    Markdown,
    /// For programs: everything.
    Json,
    /// SARIF 2.1.0, for code scanning.
    Sarif,
    /// JUnit's XML, for test reports.
    Junit,
    /// GitHub: workflow annotations; [`github`] has the step summary and the payload of a review, too.
    Github,
    /// GitLab's code-quality report.
    Gitlab,
}

impl Format {
    /// Every form.
    pub const ALL: [Self; 7] = [Self::Text, Self::Markdown, Self::Json, Self::Sarif, Self::Junit, Self::Github, Self::Gitlab];

    /// The stable text form.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Markdown => "markdown",
            Self::Json => "json",
            Self::Sarif => "sarif",
            Self::Junit => "junit",
            Self::Github => "github",
            Self::Gitlab => "gitlab",
        }
    }

    /// Parses a caller's word.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.as_str() == text)
    }
}

/// What a form needs to know beside the review.
#[derive(Debug, Clone)]
pub struct Context {
    /// Version of the program that renders.
    pub tool_version: String,
    /// Characters in a line of text; 0: lines are not wrapped.
    pub width: usize,
    /// Text with colours.
    pub color: bool,
    /// From here on a finding fails the review; `None`: no finding does.
    pub threshold: Option<Severity>,
    /// Where the repository is at home, a whole `https` address without credentials, where that is known.
    pub repository_url: Option<String>,
}

/// A review in one form.
pub fn render(format: Format, review: &Review, context: &Context) -> Vec<u8> {
    match format {
        Format::Text => text::render(review, context),
        Format::Markdown => markdown::render(review, context),
        Format::Json => json::render(review, context),
        Format::Sarif => sarif::render(review, context),
        Format::Junit => junit::render(review, context),
        Format::Github => github::annotations(review, context),
        Format::Gitlab => gitlab::render(review, context),
    }
}

/// What stands for a path where a form demands one and a finding is about no one file.
const NO_FILE: &str = "no-file-of-this-finding";

/// How bad, in the three words that most forms have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Level {
    Error,
    Warning,
    Note,
}

impl Level {
    fn of(severity: Severity) -> Self {
        match severity {
            Severity::Critical | Severity::High => Self::Error,
            Severity::Medium => Self::Warning,
            Severity::Low | Severity::Nit => Self::Note,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Note => "note",
        }
    }
}

/// Digests that tell findings apart and stay the same when lines move or the review is run again: of how bad in three words, the path and the
/// words of the title without numbers. Findings that are alike in all of that are numbered.
pub fn fingerprints(findings: &[Finding]) -> Vec<String> {
    let mut seen = std::collections::HashMap::<String, u32>::new();
    let alike = |finding: &Finding| {
        let words = finding.title.to_lowercase();
        let words: Vec<&str> =
            words.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty() && !word.chars().all(char::is_numeric)).collect();
        format!("{}\0{}\0{}", Level::of(finding.severity).as_str(), finding.file.as_deref().unwrap_or_default(), words.join(" "))
    };
    let mut of = |finding: &Finding| {
        let alike = alike(finding);
        let number = seen.entry(alike.clone()).or_default();
        *number += 1;
        let digest = Sha256::digest(format!("anchorhold-finding-1\0{alike}\0{number}"));
        digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect()
    };
    findings.iter().map(&mut of).collect()
}

/// Lines that are in order whatever was said.
fn in_order(lines: LineRange) -> LineRange {
    let start = lines.start.max(1);
    LineRange { start, end: lines.end.max(start) }
}

/// `line 3` or `lines 3-5`.
fn lines_text(lines: LineRange) -> String {
    let LineRange { start, end } = in_order(lines);
    if start == end { format!("line {start}") } else { format!("lines {start}-{end}") }
}

/// `no findings`, `1 finding (high)`, `3 findings (1 critical, 2 low)`.
fn counted(findings: &[Finding]) -> String {
    let count = |severity| findings.iter().filter(|finding| finding.severity == severity).count();
    match findings {
        [] => "no findings".to_owned(),
        [one] => format!("1 finding ({})", one.severity.as_str()),
        _ => {
            let parts: Vec<String> = Severity::ALL
                .into_iter()
                .map(|severity| (count(severity), severity))
                .filter(|(count, _)| *count > 0)
                .map(|(count, severity)| format!("{count} {}", severity.as_str()))
                .collect();
            format!("{} findings ({})", findings.len(), parts.join(", "))
        }
    }
}

/// What was reviewed, in raw words: names of commits are the caller's.
fn scope_text(change: &Change) -> String {
    let what = match &change.scope {
        ReviewScope::WorkingTree => "the working tree against HEAD".to_owned(),
        ReviewScope::Branch { base } => format!("the branch, {base}...HEAD"),
        ReviewScope::Commit { commit } => format!("the commit {commit}"),
    };
    let sum = |count: fn(&super::ChangedFile) -> u64| change.files.iter().fold(0u64, |sum, file| sum.saturating_add(count(file)));
    let files = if change.files.len() == 1 { "1 file".to_owned() } else { format!("{} files", change.files.len()) };
    format!("{what}: {files}, +{} -{}", sum(|file| file.added), sum(|file| file.removed))
}

/// Why the review is not whole, for people.
fn partial_text(review: &Review) -> String {
    let what = "this review is partial, so there may be more to find";
    match (review.partial_detail.as_str(), review.reason) {
        ("", reason) => format!("{what} ({})", reason.as_str()),
        (detail, Reason::Completed) => format!("{what}: {detail}"),
        (detail, reason) => format!("{what} ({}): {detail}", reason.as_str()),
    }
}

/// What the reviewer was not shown, one sentence each, in raw words.
fn coverage_notes(review: &Review) -> Vec<String> {
    use super::CoverageStatus;
    let coverage = &review.coverage;
    let mut notes = coverage.omission_reasons.clone();
    if coverage.untracked_files_omitted > 0 {
        notes.push(format!("{} of {} untracked files were left out", coverage.untracked_files_omitted, coverage.untracked_files_detected));
    }
    match coverage.status {
        CoverageStatus::None => notes.insert(0, "nothing of the change was shown to the reviewer".to_owned()),
        CoverageStatus::Partial if notes.is_empty() => notes.push("some of the change was not shown to the reviewer".to_owned()),
        CoverageStatus::Full | CoverageStatus::Partial => {}
    }
    notes
}

/// A path as a relative URI reference: everything but unreserved characters and slashes in percent form.
fn uri_path(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for byte in path.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}
