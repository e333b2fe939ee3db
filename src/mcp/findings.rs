//! From a review, or an answer to a question, to the contract's fields.

use serde_json::{Map, Value, json};

use super::call::Meta;
use super::render;
use super::tools::ToolName;
use crate::display;
use crate::job::JobResult;
use crate::protocol::request::JobKind;
use crate::protocol::result::Reason;
use crate::review::{Change, Coverage, CoverageStatus, Facts, Finding, Review, ReviewScope, Severity, Verdict};

/// Fields that hold an agent's words, or a repository's names; beneath `partial` where a job ended badly.
pub const UNTRUSTED: [&str; 11] = [
    "summary",
    "findings",
    "questions",
    "assumptions",
    "next_steps",
    "raw_response",
    "instruction_files",
    "snapshot",
    "untrusted_detail",
    "untrusted_last_message",
    "error.details",
];

/// The fields of a question's or a review's result.
pub fn fields(result: &JobResult, full: bool, boundary: &str) -> Map<String, Value> {
    let mut value = render::opening(result);
    let summary = match &result.review {
        Some(review) => of_review(result, review, boundary),
        None => of_answer(result, boundary),
    };
    value.insert("summary".into(), json!(summary));
    value.extend(facts(result, render::MAX_LISTED));
    value.insert("raw_response".into(), render::raw_response(result, full || result.answer_fault.is_some()));
    value.extend(render::run(result, render::MAX_LISTED));
    value
}

/// The same from facts and from the agent's structured answer. Findings are never cut: they are bounded where they are read.
pub fn facts(result: &JobResult, most: usize) -> Map<String, Value> {
    let mut value = Map::new();
    let review = result.review.as_ref();
    let lists = [
        ("findings", review.map_or(Value::Null, |review| Value::Array(review.findings.iter().map(finding).collect()))),
        ("questions", sentences(review.map(|review| &review.questions))),
        ("assumptions", sentences(review.map(|review| &review.assumptions))),
        ("next_steps", sentences(review.map(|review| &review.next_steps))),
    ];
    value.extend(lists.map(|(name, list)| (name.to_owned(), if list.is_null() { json!([]) } else { list })));
    if result.status.kind == JobKind::Review {
        let status = if review.is_some_and(|review| !review.partial) { "completed" } else { "partial" };
        value.extend(judgement(review.map_or(Verdict::Unknown, |review| review.verdict), review.and_then(|review| review.confidence), status));
        value.insert("partial".into(), json!(status == "partial"));
        value.insert("partial_detail".into(), json!(review.map(|review| review.partial_detail.as_str()).filter(|detail| !detail.is_empty())));
        value.insert("coverage".into(), review.map_or(Value::Null, |review| coverage(&review.coverage)));
        value.insert("instruction_files".into(), review.map_or(json!([]), |review| render::tidy(&review.change.instruction_files, most)));
    }
    value.insert("edits_discarded".into(), json!(result.edits()));
    value.insert("snapshot".into(), render::tidy(&result.snapshot, most));
    value
}

/// The whole answer where there was nothing to review; no job was made.
pub fn nothing(facts: &Facts, mut meta: Meta) -> Map<String, Value> {
    about(&facts.change, &facts.paths, &mut meta);
    let mut value = Map::new();
    value.insert("ok".into(), json!(true));
    value.insert("tool".into(), json!(ToolName::Review.as_str()));
    value.insert("job_id".into(), Value::Null);
    let mut summary = "There is nothing to review: the change is empty. No model was asked and no job was made.".to_owned();
    if facts.coverage.untracked_files_omitted > 0 {
        let omitted = count(facts.coverage.untracked_files_omitted, "untracked file");
        summary.push_str(&format!(" Left out: {omitted}; name them in `paths`, or set `untracked` to include."));
    }
    value.insert("summary".into(), json!(summary));
    for list in ["findings", "questions", "assumptions", "next_steps", "instruction_files"] {
        value.insert(list.into(), json!([]));
    }
    value.extend(judgement(Verdict::Unknown, None, "not_run"));
    value.insert("partial".into(), json!(false));
    value.insert("coverage".into(), coverage(&facts.coverage));
    value.insert("raw_response".into(), json!({"text": null, "session_id": null, "model": null}));
    value.insert("meta".into(), Value::Object(meta.delivered()));
    value
}

/// What a change is, for the meta block.
pub fn about(change: &Change, paths: &[String], meta: &mut Meta) {
    scope(&change.scope, paths, meta);
    let sums =
        change.files.iter().fold((0_u64, 0_u64), |(added, removed), file| (added.saturating_add(file.added), removed.saturating_add(file.removed)));
    meta.set("context_summary", json!({"files_changed": change.files.len(), "lines_added": sums.0, "lines_removed": sums.1}));
    if !change.instruction_files.is_empty() {
        meta.warn("security_warnings", "the change touches files that instruct agents; the review used those of the base (see instruction_files)");
    }
}

/// Which change was asked for, as the caller named it.
pub fn scope(scope: &ReviewScope, paths: &[String], meta: &mut Meta) {
    let named = |name: &str| display::clip(name.as_bytes(), 1_000);
    match scope {
        ReviewScope::WorkingTree => meta.set("scope", "working_tree"),
        ReviewScope::Branch { base } => {
            meta.set("scope", "branch");
            // Which one it is, is known once it is looked for.
            if base != crate::workspace::DEFAULT_BASE {
                meta.set("base", named(base));
            }
        }
        ReviewScope::Commit { commit } => {
            meta.set("scope", "commit");
            meta.set("commit", named(commit));
        }
    }
    if !paths.is_empty() {
        meta.set("paths", paths.iter().take(render::MAX_LISTED).map(|path| named(path)).collect::<Vec<_>>());
    }
}

fn judgement(verdict: Verdict, confidence: Option<f64>, status: &str) -> Map<String, Value> {
    Map::from_iter([
        ("verdict".to_owned(), json!(verdict.as_str())),
        ("confidence".to_owned(), json!(confidence.map(confidence_word))),
        ("confidence_score".to_owned(), json!(confidence)),
        ("review_status".to_owned(), json!(status)),
    ])
}

/// The contract's word for a number from 0 to 1.
fn confidence_word(confidence: f64) -> &'static str {
    match confidence {
        high if high >= 0.75 => "high",
        medium if medium >= 0.4 => "medium",
        _ => "low",
    }
}

/// How much of a change is shown, in the contract's words; our sentences stand in `omission_details`.
pub fn coverage(coverage: &Coverage) -> Value {
    let status = match coverage.status {
        CoverageStatus::Full => "complete",
        CoverageStatus::Partial => "partial",
        CoverageStatus::None => "none",
    };
    let mut reasons: Vec<&str> = coverage
        .omission_kinds
        .iter()
        .map(|kind| match kind.as_str() {
            "untracked" => "untracked_omitted",
            "too_large" | "over_limit" => "truncated",
            "changed_while_read" => "tree_changed_during_gather",
            other => other,
        })
        .collect();
    reasons.dedup();
    json!({
        "status": status,
        "untracked_files_detected": coverage.untracked_files_detected,
        "untracked_files_included": coverage.untracked_files_detected.saturating_sub(coverage.untracked_files_omitted),
        "untracked_files_omitted": coverage.untracked_files_omitted,
        "omission_reasons": render::tidy(&reasons, render::MAX_LISTED),
        "omission_details": render::tidy(&coverage.omission_reasons, render::MAX_LISTED),
        // Nothing that a reviewer sees is masked; whole files are left out, and that is told.
        "redaction": null,
    })
}

fn finding(finding: &Finding) -> Value {
    let text = |text: &str| display::bounded(text.as_bytes(), 16_384);
    json!({
        "severity": finding.severity.as_str(),
        "title": display::line(finding.title.as_bytes()),
        "file": finding.file.as_ref().map(|file| display::line(file.as_bytes())),
        "line": finding.lines.map(|lines| lines.start),
        "line_end": finding.lines.map(|lines| lines.end),
        "evidence": text(&finding.evidence),
        "risk": text(&finding.risk),
        "recommendation": text(&finding.recommendation),
    })
}

fn sentences(list: Option<&Vec<String>>) -> Value {
    list.map_or(Value::Null, |list| render::tidy(list, usize::MAX))
}

fn count(n: u64, noun: &str) -> String {
    render::counted(usize::try_from(n).unwrap_or(usize::MAX), noun)
}

/// How the job ended, where that was not well.
fn end(result: &JobResult) -> String {
    match result.status.reason {
        Some(Reason::Completed) => String::new(),
        _ => format!("{} ", render::full_stop(&result.status.detail)),
    }
}

fn of_review(result: &JobResult, review: &Review, boundary: &str) -> String {
    let mut text = end(result);
    let counts = Severity::ALL.map(|severity| (severity, review.findings.iter().filter(|finding| finding.severity == severity).count()));
    let counts: Vec<String> = counts.iter().filter(|(_, n)| *n > 0).map(|(severity, n)| format!("{n} {}", severity.as_str())).collect();
    text.push_str(&format!("Verdict: {}. {}", review.verdict.as_str(), render::counted(review.findings.len(), "finding")));
    text.push_str(&if counts.is_empty() { ".".to_owned() } else { format!(" ({}).", counts.join(", ")) });
    if review.partial {
        text.push_str(&format!(" The review is partial: {}", review.partial_detail));
    }
    for reason in &review.coverage.omission_reasons {
        text.push_str(&format!(" Not shown: {}", render::full_stop(&display::clip(reason.as_bytes(), 500))));
    }
    text.push_str(&discarded(result));
    text.push_str(&render::fenced("The reviewer's summary", &display::bounded(review.summary.as_bytes(), render::MAX_WORDS.1), boundary));
    text
}

fn of_answer(result: &JobResult, boundary: &str) -> String {
    let mut text = end(result);
    if result.last_message.trim_ascii().is_empty() {
        text.push_str("There is no answer.");
    } else if result.status.reason == Some(Reason::Completed) {
        text.push_str("Codex answered.");
    }
    text.push_str(&discarded(result));
    // All of it: for a question this is the result.
    text.push_str(&render::fenced("The answer", &display::bounded(&result.last_message, render::MAX_WORDS.1), boundary));
    text
}

fn discarded(result: &JobResult) -> String {
    match result.edits() {
        0 => String::new(),
        n => format!(" Codex changed {} in its copy; that was thrown away.", count(n, "path")),
    }
}
