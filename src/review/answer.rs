//! Reading what a reviewer said: the answer, or the notes that are left of a run which ended early.
//!
//! Both are hostile bytes. Sizes and counts are bounded; a field that is not in the form is ignored, because what was paid for is not thrown away over a
//! word too many; a wrong type or an unknown word where the form asks for one is a [`Fault`]. What the reader says of a fault names fields of the form and
//! never quotes the text.

use std::collections::HashSet;

use serde_json::{Map, Value};

use super::{Finding, LineRange, Severity, Verdict};
use crate::protocol::paths::WORKSPACE;
use crate::protocol::repo_path::RepoPath;

/// Longest text that is parsed, in bytes; the seal keeps no more.
pub const MAX_BYTES: usize = 1 << 20;
/// Most findings of a review.
pub const MAX_FINDINGS: usize = 500;
/// Most entries of a list of sentences.
const MAX_SENTENCES: usize = 50;
/// Longest title, in characters.
const MAX_TITLE: usize = 300;
/// Longest other text of a finding, or sentence of a list.
const MAX_TEXT: usize = 4_000;
/// Longest summary.
const MAX_SUMMARY: usize = 16_000;
/// Longest line of the notes, in bytes.
const MAX_LINE: usize = 64 << 10;

/// A whole answer. Every text is an agent's words, raw.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// The judgement.
    pub verdict: Verdict,
    /// 0 to 1.
    pub confidence: Option<f64>,
    /// A few sentences.
    pub summary: String,
    /// Worst first, none twice.
    pub findings: Vec<Finding>,
    /// Of the author.
    pub questions: Vec<String>,
    /// Taken for granted.
    pub assumptions: Vec<String>,
    /// In order.
    pub next_steps: Vec<String>,
    /// There were more findings than are kept.
    pub cut: bool,
}

/// Why a text is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// No JSON object; where it is empty, too.
    InvalidJson,
    /// JSON, but not in the form: which part, and what of it.
    SchemaViolation(String),
}

/// Findings that were noted on the way.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Notes {
    /// Worst first, none twice.
    pub findings: Vec<Finding>,
    /// Lines that are no finding, and findings over the bound.
    pub unreadable: usize,
}

/// Reads the last message of a run that ended well.
///
/// # Errors
///
/// The [`Fault`], for `invalid_json` and `schema_violation`.
pub fn parse(text: &[u8]) -> Result<Answer, Fault> {
    if text.len() > MAX_BYTES {
        return Err(Fault::InvalidJson);
    }
    let Ok(Value::Object(map)) = serde_json::from_slice(without_fence(text)) else { return Err(Fault::InvalidJson) };
    let verdict = text_of(&map, "verdict", "")?.and_then(|word| Verdict::parse(&word)).ok_or_else(|| wrong("verdict", "is not one of the words"))?;
    let confidence = match map.get("confidence") {
        None | Some(Value::Null) => None,
        Some(value) => Some(value.as_f64().filter(|n| (0.0..=1.0).contains(n)).ok_or_else(|| wrong("confidence", "is not a number from 0 to 1"))?),
    };
    let summary = text_of(&map, "summary", "")?.ok_or_else(|| wrong("summary", "is missing"))?;
    let Some(Value::Array(list)) = map.get("findings") else { return Err(wrong("findings", "is not a list")) };
    let read = list.iter().take(MAX_FINDINGS).enumerate().map(|(at, value)| finding(value, &format!("findings[{at}]")));
    let findings = ordered(read.collect::<Result<_, _>>()?);
    Ok(Answer {
        verdict,
        confidence,
        summary: clipped(&summary, MAX_SUMMARY),
        findings,
        questions: sentences(&map, "questions")?,
        assumptions: sentences(&map, "assumptions")?,
        next_steps: sentences(&map, "next_steps")?,
        cut: list.len() > MAX_FINDINGS,
    })
}

/// Reads the notes of a run: one finding a line. Whatever is not one is counted and passed over; a last line may be cut.
pub fn parse_notes(text: &[u8]) -> Notes {
    let text = text.get(..MAX_BYTES).unwrap_or(text);
    let (mut findings, mut unreadable) = (Vec::new(), 0);
    for line in text.split(|b| *b == b'\n').map(<[u8]>::trim_ascii).filter(|line| !line.is_empty()) {
        let read = || finding(&serde_json::from_slice(line.get(..MAX_LINE).unwrap_or(line)).ok()?, "").ok();
        match read() {
            Some(finding) if findings.len() < MAX_FINDINGS => findings.push(finding),
            _ => unreadable += 1,
        }
    }
    Notes { findings: ordered(findings), unreadable }
}

/// The judgement that findings alone allow: a change with a grave one does not pass, and what was not looked at to the end never does.
pub fn verdict_of(findings: &[Finding]) -> Verdict {
    match findings.iter().map(|finding| finding.severity).min() {
        None => Verdict::Unknown,
        Some(Severity::Critical | Severity::High) => Verdict::Fail,
        Some(_) => Verdict::Concerns,
    }
}

/// Models that know no structured output like to put JSON between fences.
fn without_fence(text: &[u8]) -> &[u8] {
    let text = text.trim_ascii();
    let inner = text.strip_prefix(b"```").and_then(|rest| rest.strip_suffix(b"```"));
    let first_line = inner.and_then(|inner| inner.iter().position(|b| *b == b'\n'));
    match (inner, first_line) {
        (Some(inner), Some(end)) => inner.get(end..).unwrap_or_default(),
        _ => text,
    }
}

fn wrong(field: &str, what: &str) -> Fault {
    Fault::SchemaViolation(format!("{field} {what}"))
}

fn finding(value: &Value, at: &str) -> Result<Finding, Fault> {
    let place = if at.is_empty() { String::new() } else { format!("{at}.") };
    let Value::Object(map) = value else { return Err(wrong(at, "is not an object")) };
    let text = |name: &str| text_of(map, name, &place);
    let severity = text("severity")?.and_then(|word| Severity::parse(&word));
    let severity = severity.ok_or_else(|| wrong(&format!("{place}severity"), "is not one of the words"))?;
    let title = text("title")?.map(|title| one_line(&title)).filter(|title| !title.is_empty());
    let title = title.ok_or_else(|| wrong(&format!("{place}title"), "is missing"))?;
    let file = text("file")?.and_then(|path| checked_path(&path));
    let line = |name: &str| match map.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) if value.is_number() => Ok(value.as_u64().and_then(|n| u32::try_from(n).ok()).filter(|n| *n > 0)),
        Some(_) => Err(wrong(&format!("{place}{name}"), "is not a number")),
    };
    let (start, end) = (line("line")?, line("line_end")?);
    // A line without a file is nowhere; an end before the start is none.
    let lines = file.is_some().then_some(start).flatten().map(|start| LineRange { start, end: end.filter(|end| *end >= start).unwrap_or(start) });
    let long = |name: &str| Ok(clipped(&text(name)?.unwrap_or_default(), MAX_TEXT));
    Ok(Finding { severity, title, file, lines, evidence: long("evidence")?, risk: long("risk")?, recommendation: long("recommendation")? })
}

/// A text, where there is one; another type is a fault.
fn text_of(map: &Map<String, Value>, name: &str, place: &str) -> Result<Option<String>, Fault> {
    match map.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err(wrong(&format!("{place}{name}"), "is not a text")),
    }
}

fn sentences(map: &Map<String, Value>, name: &str) -> Result<Vec<String>, Fault> {
    let list = match map.get(name) {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Array(list)) => list,
        Some(_) => return Err(wrong(name, "is not a list")),
    };
    let read = list.iter().take(MAX_SENTENCES).map(|value| value.as_str().map(|text| clipped(text, MAX_TEXT)));
    let read: Option<Vec<String>> = read.collect();
    let mut read = read.ok_or_else(|| wrong(name, "holds something that is not a text"))?;
    read.retain(|sentence| !sentence.is_empty());
    Ok(read)
}

/// A path below the top, as the change writes it; `None`: it is none, and the finding is about no one file.
fn checked_path(path: &str) -> Option<String> {
    // As the reviewer sees the tree.
    let path = path.strip_prefix(WORKSPACE).and_then(|below| below.strip_prefix('/')).unwrap_or(path);
    let path = path.strip_prefix("./").unwrap_or(path);
    let plain = !path.chars().any(char::is_control);
    (plain && RepoPath::parse(path.as_bytes()).is_ok()).then(|| path.to_owned())
}

fn one_line(text: &str) -> String {
    clipped(&text.split(|c: char| c.is_control() || c.is_whitespace()).filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" "), MAX_TITLE)
}

/// Without blanks at both ends, and cut where it is too long.
fn clipped(text: &str, most: usize) -> String {
    let text = text.trim();
    match text.char_indices().nth(most) {
        None => text.to_owned(),
        Some((at, _)) => format!("{}…", text.get(..at).unwrap_or_default()),
    }
}

/// Worst first, then by file and line; of those that say the same of the same place, the first.
fn ordered(mut findings: Vec<Finding>) -> Vec<Finding> {
    let place = |finding: &Finding| (finding.file.clone(), finding.lines.map(|lines| (lines.start, lines.end)), finding.title.clone());
    findings.sort_by_cached_key(|finding| (finding.severity, place(finding)));
    let mut seen = HashSet::new();
    findings.retain(|finding| seen.insert(place(finding)));
    findings
}

#[cfg(test)]
#[path = "answer_tests.rs"]
mod tests;
