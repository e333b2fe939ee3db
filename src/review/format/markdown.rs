//! For people, in a merge request, an issue or a step summary: Markdown as GitHub and GitLab read it.
//!
//! An agent's prose stands in block quotes, each line behind a mark of ours; titles, paths and list items are one line.

use super::escape::{code_span, cut, line, markdown_blocks, markdown_line};
use super::{Context, counted, lines_text, partial_text, scope_text};
use crate::review::{Finding, Review};

/// Characters of one text of a finding that are shown.
const LONGEST: usize = 12_000;
/// Items of a list that are shown.
const LISTED: usize = 50;

/// The review as Markdown.
pub fn render(review: &Review, context: &Context) -> Vec<u8> {
    bounded(review, context, usize::MAX).into_bytes()
}

/// The review in at most so many bytes; findings that do not fit are left out from the end, and that is said.
pub(super) fn bounded(review: &Review, context: &Context, max: usize) -> String {
    let mut out = head(review);
    let foot = foot(review, context);
    let room = max.saturating_sub(foot.len() + 200);
    let all: Vec<(usize, &Finding)> = review.findings.iter().enumerate().collect();
    push_findings(&mut out, "Findings", &all, room);
    let lists = lists(review);
    if out.len() + lists.len() <= room {
        out.push_str(&lists);
    }
    out.push_str(&foot);
    out
}

/// The headline, what to mind, and the summary.
pub(super) fn head(review: &Review) -> String {
    let confidence = review.confidence.map(|confidence| format!(", confidence {:.0}%", confidence.clamp(0.0, 1.0) * 100.0)).unwrap_or_default();
    let mut out = format!(
        "## Review: {}, {}\n\n{}{confidence}\n",
        review.verdict.as_str(),
        counted(&review.findings),
        markdown_line(&cut(&scope_text(&review.change), 500))
    );
    if review.partial {
        out.push_str(&format!("\n**Partial**: {}\n", markdown_line(&partial_text(review))));
    }
    let notes = super::text::notes(review);
    if !notes.is_empty() {
        out.push('\n');
        out.extend(notes.iter().take(LISTED).map(|note| format!("- {}\n", markdown_line(note))));
    }
    if !review.summary.trim().is_empty() {
        out.push_str(&format!("\n{}", markdown_blocks(&review.summary, "> ", LONGEST)));
    }
    out
}

/// Findings with their numbers, until `room` bytes are full; says how many are left out.
pub(super) fn push_findings(out: &mut String, title: &str, findings: &[(usize, &Finding)], room: usize) {
    if findings.is_empty() {
        return;
    }
    out.push_str(&format!("\n### {title}\n"));
    for (done, (number, finding)) in findings.iter().enumerate() {
        let title = markdown_line(&cut(&line(&finding.title), 300));
        let text = format!("\n#### {}. {}: {title}\n\n{}", number + 1, finding.severity.as_str(), body(finding));
        if out.len() + text.len() > room {
            out.push_str(&format!("\nFor want of room {} more findings are left out here.\n", findings.len() - done));
            return;
        }
        out.push_str(&text);
    }
}

/// Where a finding is and what it says.
pub(super) fn body(finding: &Finding) -> String {
    let mut parts = Vec::new();
    if let Some(file) = &finding.file {
        let lines = finding.lines.map(|lines| format!(", {}", lines_text(lines))).unwrap_or_default();
        parts.push(format!("{}{lines}\n", path(file)));
    }
    for (name, text) in [("Evidence", &finding.evidence), ("Risk", &finding.risk), ("What to do", &finding.recommendation)] {
        if !text.trim().is_empty() {
            parts.push(format!("**{name}**\n\n{}", markdown_blocks(text, "> ", LONGEST)));
        }
    }
    parts.join("\n")
}

/// A path as a code span.
pub(super) fn path(path: &str) -> String {
    code_span(&cut(&line(path), 1_000))
}

/// Questions, assumptions, next steps.
fn lists(review: &Review) -> String {
    let mut out = String::new();
    for (name, list) in [("Questions", &review.questions), ("Assumptions", &review.assumptions), ("Next steps", &review.next_steps)] {
        if !list.is_empty() {
            out.push_str(&format!("\n### {name}\n\n"));
            out.extend(list.iter().take(LISTED).map(|said| format!("- {}\n", markdown_line(&cut(&line(said), 2_000)))));
        }
    }
    out
}

/// Which job, at what cost.
pub(super) fn foot(review: &Review, context: &Context) -> String {
    let model = review.model.as_deref().map(|model| format!(", model {}", path(model))).unwrap_or_default();
    // A change that was empty had none.
    let job = if review.job_id.is_empty() { "No job".to_owned() } else { format!("Job {}", path(&review.job_id)) };
    format!("\n{job}{model}, {} tokens, Anchorhold {}\n", review.usage.total(), context.tool_version)
}
