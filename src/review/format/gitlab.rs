//! GitLab's code-quality report: the part of Code Climate's issue that its merge requests show.

use serde_json::{Value, json};

use super::{Context, NO_FILE, escape, fingerprints, in_order, partial_text};
use crate::review::{Finding, Review, Severity};

/// Characters of a description.
const LONGEST: usize = 1_000;

/// The review as a code-quality report.
pub fn render(review: &Review, _context: &Context) -> Vec<u8> {
    let mut issues: Vec<Value> = review.findings.iter().zip(fingerprints(&review.findings)).map(|(finding, print)| issue(finding, &print)).collect();
    if review.partial {
        // The report has no place for this beside its issues, and without it a partial review looks like a clean one.
        issues.push(json!({
            "type": "issue",
            "check_name": "anchorhold.partial",
            "description": escape::clip(&partial_text(review), LONGEST),
            "categories": ["Bug Risk"],
            "severity": "info",
            "fingerprint": "anchorhold-partial",
            "location": { "path": NO_FILE, "lines": { "begin": 1 } },
        }));
    }
    super::json::document(&Value::Array(issues))
}

fn issue(finding: &Finding, fingerprint: &str) -> Value {
    let severity = match finding.severity {
        Severity::Critical => "blocker",
        Severity::High => "critical",
        Severity::Medium => "major",
        Severity::Low => "minor",
        Severity::Nit => "info",
    };
    let (begin, end) = finding.lines.map(in_order).map_or((1, 1), |lines| (lines.start, lines.end));
    // A title that says little should not be all that the merge request shows.
    let said: Vec<&str> = [&finding.title, &finding.risk].into_iter().map(|text| text.trim()).filter(|text| !text.is_empty()).collect();
    json!({
        "type": "issue",
        "check_name": format!("anchorhold.{}", finding.severity.as_str()),
        "description": escape::clip(&said.join(": "), LONGEST),
        "categories": ["Bug Risk"],
        "severity": severity,
        "fingerprint": fingerprint,
        "location": { "path": finding.file.as_deref().unwrap_or(NO_FILE), "lines": { "begin": begin, "end": end } },
    })
}
