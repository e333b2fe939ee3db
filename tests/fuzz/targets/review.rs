//! A reviewer's answer and notes: whatever is taken keeps its bounds, names no place outside of the repository, and is told worst first and once; what is
//! said of a fault holds no word of the text.

use std::collections::HashSet;

use anchorhold::review::answer::{Fault, MAX_FINDINGS, parse, parse_notes};
use anchorhold::review::{Finding, Severity, schema};
use serde_json::json;

pub fn run(data: &[u8]) {
    match super::within(data.len(), 64 << 10, 512, || parse(data)) {
        Ok(answer) => {
            judge(&answer.findings);
            assert!(answer.confidence.is_none_or(|n| (0.0..=1.0).contains(&n)));
            for sentence in answer.questions.iter().chain(&answer.assumptions).chain(&answer.next_steps) {
                assert!(!sentence.is_empty() && sentence.chars().count() <= 4001);
            }
            assert!(answer.summary.chars().count() <= 16_001);
        }
        Err(Fault::InvalidJson) => {}
        Err(Fault::SchemaViolation(what)) => judge_fault(&what),
    }
    let notes = super::within(data.len(), 64 << 10, 512, || parse_notes(data));
    judge(&notes.findings);
    assert!(notes.findings.len() + notes.unreadable <= data.split(|b| *b == b'\n').count());
}

/// What must hold of findings.
pub fn judge(findings: &[Finding]) {
    assert!(findings.len() <= MAX_FINDINGS);
    assert!(findings.is_sorted_by_key(|finding| finding.severity));
    let mut seen = HashSet::new();
    for finding in findings {
        let lines = finding.lines.map(|lines| (lines.start, lines.end));
        assert!(seen.insert((&finding.title, &finding.file, lines)), "told twice");
        assert!(lines.is_none_or(|(start, end)| start >= 1 && end >= start && finding.file.is_some()));
        if let Some(file) = &finding.file {
            super::assert_clean_path(file.as_bytes());
            assert!(!file.chars().any(char::is_control));
        }
        assert!(!finding.title.trim().is_empty() && !finding.title.chars().any(char::is_control) && finding.title.chars().count() <= 301);
        for text in [&finding.evidence, &finding.risk, &finding.recommendation] {
            assert!(text.chars().count() <= 4001);
        }
    }
}

/// A sentence of ours: a field of the form, and what of it.
pub fn judge_fault(what: &str) {
    let form = schema::document().to_string();
    let field = what.split(' ').next().unwrap_or_default();
    for name in field.split('.') {
        let name = name.split('[').next().unwrap_or_default();
        assert!(form.contains(&format!("\"{name}\"")), "{what}");
    }
    let ours = [
        "is",
        "not",
        "one",
        "of",
        "the",
        "words",
        "a",
        "number",
        "from",
        "0",
        "to",
        "1",
        "missing",
        "list",
        "an",
        "object",
        "text",
        "holds",
        "something",
        "that",
    ];
    assert!(what.split(' ').skip(1).all(|word| ours.contains(&word)), "{what}");
}

pub fn seeds() -> Vec<Vec<u8>> {
    let finding = |severity: Severity, file: &str| {
        json!({
            "severity": severity.as_str(), "title": "lost update", "file": file, "line": 3, "line_end": 5, "evidence": "seen", "risk": "r", "recommendation": "c"
        })
    };
    let findings: Vec<_> = Severity::ALL.map(|severity| finding(severity, "src/a.rs")).into();
    let answer = json!({
        "verdict": "concerns", "confidence": 0.5, "summary": "s", "findings": findings, "questions": ["q"], "assumptions": ["a"], "next_steps": ["n"]
    });
    let notes: String = findings.iter().map(|finding| format!("{finding}\n")).collect();
    vec![
        answer.to_string().into_bytes(),
        format!("```json\n{answer}\n```").into_bytes(),
        notes.into_bytes(),
        finding(Severity::Low, "/workspace/../etc/passwd").to_string().into_bytes(),
    ]
}
