//! JUnit's XML, for reports of tests: a case for each finding, and one for whether the review is whole.

use super::{Context, counted, escape, in_order, lines_text, partial_text, scope_text};
use crate::review::{Finding, Review};

/// Characters of one text of a finding.
const LONGEST: usize = 20_000;

/// The review as a test suite. A finding that reaches the threshold is a failed case, another one a case that passed with output; a partial
/// review has an error.
pub fn render(review: &Review, context: &Context) -> Vec<u8> {
    let reaches = |finding: &&Finding| context.threshold.is_some_and(|threshold| finding.severity.reaches(threshold));
    let failures = review.findings.iter().filter(reaches).count();
    let errors = usize::from(review.partial);
    let tests = review.findings.len() + 1;
    let counts = format!("tests=\"{tests}\" failures=\"{failures}\" errors=\"{errors}\"");
    let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    out.push_str(&format!("<testsuites name=\"anchorhold review\" {counts}>\n  <testsuite name=\"anchorhold review\" {counts} skipped=\"0\">\n"));
    out.push_str("    <testcase classname=\"anchorhold.review\" name=\"the review is whole\">\n");
    if review.partial {
        let why = escape::xml(&escape::line(&partial_text(review)));
        out.push_str(&format!("      <error type=\"{}\" message=\"{why}\">{why}</error>\n", review.reason.as_str()));
    }
    let verdict = format!("{}, {}\n{}\n{}", review.verdict.as_str(), counted(&review.findings), scope_text(&review.change), review.summary);
    out.push_str(&format!("      <system-out>{}</system-out>\n    </testcase>\n", escape::xml(&escape::cut(&verdict, LONGEST))));
    for (number, finding) in review.findings.iter().enumerate() {
        one(&mut out, number + 1, finding, reaches(&finding));
    }
    out.push_str("  </testsuite>\n</testsuites>\n");
    out.into_bytes()
}

fn one(out: &mut String, number: usize, finding: &Finding, fails: bool) {
    let class = finding.file.as_deref().unwrap_or("anchorhold.review");
    let title = escape::xml(&escape::clip(&finding.title, 300));
    let severity = finding.severity.as_str();
    // `file` and `line` are not JUnit's own, but what shows reports reads them.
    let place = finding.file.as_ref().map(|file| format!(" file=\"{}\"", escape::xml(file))).unwrap_or_default();
    let line = finding.lines.map(|lines| format!(" line=\"{}\"", in_order(lines).start)).unwrap_or_default();
    out.push_str(&format!("    <testcase classname=\"{}\" name=\"{number}. {severity}: {title}\"{place}{line}>\n", escape::xml(class)));
    let text = escape::xml(&body(finding));
    if fails {
        out.push_str(&format!("      <failure type=\"{severity}\" message=\"{title}\">{text}</failure>\n"));
    } else {
        out.push_str(&format!("      <system-out>{text}</system-out>\n"));
    }
    out.push_str("    </testcase>\n");
}

fn body(finding: &Finding) -> String {
    let mut parts = Vec::new();
    if let Some(file) = &finding.file {
        let lines = finding.lines.map(|lines| format!(", {}", lines_text(lines))).unwrap_or_default();
        parts.push(format!("{file}{lines}"));
    }
    for (name, text) in [("Evidence", &finding.evidence), ("Risk", &finding.risk), ("What to do", &finding.recommendation)] {
        if !text.trim().is_empty() {
            parts.push(format!("{name}: {}", escape::cut(text.trim(), LONGEST)));
        }
    }
    parts.join("\n\n")
}
