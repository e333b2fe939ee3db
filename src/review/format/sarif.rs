//! SARIF 2.1.0, for code scanning.

use serde_json::{Map, Value, json};

use super::{Context, Level, NO_FILE, counted, coverage_notes, escape, fingerprints, in_order, partial_text, uri_path};
use crate::review::{Finding, Review, ReviewScope, Severity};

/// Name of our fingerprint; its number changes with what it is made of.
const FINGERPRINT: &str = "anchorholdFinding/v1";
/// Characters of a message.
const LONGEST: usize = 10_000;

/// The review as a SARIF log.
pub fn render(review: &Review, context: &Context) -> Vec<u8> {
    let results: Vec<Value> = review.findings.iter().zip(fingerprints(&review.findings)).map(|(finding, print)| result(finding, &print)).collect();
    let mut run = Map::new();
    run.insert(
        "tool".to_owned(),
        json!({ "driver": {
            "name": "Anchorhold",
            "semanticVersion": context.tool_version,
            "version": context.tool_version,
            "rules": Severity::ALL.map(rule),
        } }),
    );
    run.insert("automationDetails".to_owned(), json!({ "id": format!("anchorhold/{}/{}", scope(review), review.job_id) }));
    run.insert("invocations".to_owned(), json!([invocation(review)]));
    if let Some(url) = &context.repository_url {
        let mut details = json!({ "repositoryUri": url });
        if let (Some(commit), Value::Object(details)) = (&review.change.head_commit, &mut details) {
            details.insert("revisionId".to_owned(), commit.clone().into());
        }
        run.insert("versionControlProvenance".to_owned(), json!([details]));
    }
    run.insert("results".to_owned(), results.into());
    run.insert("columnKind".to_owned(), "unicodeCodePoints".into());
    let log = json!({
        // The standard's own name for its schema.
        "$schema": "https://docs.oasis-open.org/sarif/sarif/v2.1.0/os/schemas/sarif-schema-2.1.0.json",
        "version": "2.1.0",
        "runs": [run],
    });
    super::json::document(&log)
}

/// The part of the category that says what was reviewed; runs of one category replace each other.
fn scope(review: &Review) -> &'static str {
    match review.change.scope {
        ReviewScope::WorkingTree => "working-tree",
        ReviewScope::Branch { .. } => "branch",
        ReviewScope::Commit { .. } => "commit",
    }
}

fn rule_id(severity: Severity) -> String {
    format!("anchorhold.{}", severity.as_str())
}

/// A rule for each severity: a reviewer has no catalogue of defects, but rules must be the same in each run.
fn rule(severity: Severity) -> Value {
    let (name, short, help) = match severity {
        Severity::Critical => (
            "CriticalFinding",
            "Must not be merged",
            "The reviewer holds that merging this loses data or opens a security hole. Do not merge before it is mended or shown to be wrong.",
        ),
        Severity::High => (
            "HighFinding",
            "A bug that users will meet",
            "The reviewer holds that users will meet this bug in ordinary use. Mend it before the change is merged, or show that it cannot happen.",
        ),
        Severity::Medium => (
            "MediumFinding",
            "A bug in a rare case, or a costly design",
            "The reviewer holds that this fails in a rare case, or that it will cost later. Decide whether it is mended now or recorded for later.",
        ),
        Severity::Low => ("LowFinding", "Worth a change", "The reviewer suggests a change; nobody is harmed without it."),
        Severity::Nit => ("NitFinding", "A matter of taste", "The reviewer would write this otherwise."),
    };
    let caution = "The text of a finding was written by a model that saw the change. Treat it as a claim to be checked, not as a fact.";
    json!({
        "id": rule_id(severity),
        "name": name,
        "shortDescription": { "text": format!("{short}.") },
        "fullDescription": { "text": format!("{short}: a finding of severity {}.", severity.as_str()) },
        "help": { "text": format!("{help}\n\n{caution}"), "markdown": format!("{help}\n\n{caution}") },
        "defaultConfiguration": { "level": Level::of(severity).as_str() },
        "properties": { "tags": ["review"], "precision": "medium", "problem.severity": problem(severity) },
    })
}

fn problem(severity: Severity) -> &'static str {
    match Level::of(severity) {
        Level::Error => "error",
        Level::Warning => "warning",
        Level::Note => "recommendation",
    }
}

fn invocation(review: &Review) -> Value {
    let note = |level: &str, text: &str| json!({ "level": level, "message": { "text": message(text) } });
    let mut notifications: Vec<Value> = Vec::new();
    if review.partial {
        notifications.push(note("warning", &partial_text(review)));
    }
    notifications.extend(coverage_notes(review).iter().map(|text| note("note", text)));
    json!({
        "executionSuccessful": !review.partial,
        "toolExecutionNotifications": notifications,
        "properties": {
            "partial": review.partial,
            "reason": review.reason.as_str(),
            "verdict": review.verdict.as_str(),
            "summary": escape::cut(&review.summary, LONGEST),
            "counted": counted(&review.findings),
            "jobId": review.job_id,
            "model": review.model,
            "usage": review.usage,
            "baseCommit": review.change.base_commit,
            "headCommit": review.change.head_commit,
        },
    })
}

fn result(finding: &Finding, fingerprint: &str) -> Value {
    let severity = finding.severity;
    let index = Severity::ALL.iter().position(|one| *one == severity).unwrap_or_default();
    // What shows alerts needs a place; a finding without one says so in its place's name.
    let mut place = match &finding.file {
        Some(file) => json!({ "artifactLocation": { "uri": uri_path(file), "uriBaseId": "%SRCROOT%" } }),
        None => json!({ "artifactLocation": { "uri": NO_FILE }, "region": { "startLine": 1 } }),
    };
    if let (Some(lines), Some(_), Value::Object(place)) = (finding.lines.map(in_order), &finding.file, &mut place) {
        place.insert("region".to_owned(), json!({ "startLine": lines.start, "endLine": lines.end }));
    }
    json!({
        "ruleId": rule_id(severity),
        "ruleIndex": index,
        "level": Level::of(severity).as_str(),
        "message": { "text": message(&body(finding)) },
        "locations": [{ "physicalLocation": place }],
        "partialFingerprints": { FINGERPRINT: fingerprint },
        "properties": { "severity": severity.as_str() },
    })
}

fn body(finding: &Finding) -> String {
    let parts = [("", &finding.title), ("Evidence: ", &finding.evidence), ("Risk: ", &finding.risk), ("What to do: ", &finding.recommendation)];
    let said: Vec<String> =
        parts.into_iter().filter(|(_, text)| !text.trim().is_empty()).map(|(name, text)| format!("{name}{}", text.trim())).collect();
    if said.is_empty() { "A finding without words.".to_owned() } else { said.join("\n\n") }
}

/// A message's text: brackets would make links of what was said.
fn message(raw: &str) -> String {
    let mut out = String::new();
    for c in escape::cut(&escape::words(raw), LONGEST).chars() {
        if matches!(c, '[' | ']' | '\\') {
            out.push('\\');
        }
        out.push(c);
    }
    if out.trim().is_empty() { "-".to_owned() } else { out }
}
