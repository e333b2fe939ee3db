//! For people, at a terminal or in a log.
//!
//! A bar stands before each line of an agent's words: so nobody takes them for ours, and no runner takes them for a command.

use super::escape;
use super::{Context, counted, coverage_notes, lines_text, partial_text, scope_text};
use crate::review::{Finding, Review, Severity, Verdict};

/// Characters of one text of a finding that are shown.
const LONGEST: usize = 20_000;
/// Narrower than this nothing is wrapped.
const NARROWEST: usize = 30;

/// The review as text.
pub fn render(review: &Review, context: &Context) -> Vec<u8> {
    let paint = Paint(context.color);
    let mut out = String::new();
    let verdict = review.verdict.as_str();
    let verdict = match review.verdict {
        Verdict::Pass => paint.wrap("1;32", verdict),
        Verdict::Concerns | Verdict::Unknown => paint.wrap("1;33", verdict),
        Verdict::Fail => paint.wrap("1;31", verdict),
    };
    let confidence = review.confidence.map(|confidence| format!(", confidence {:.0}%", confidence.clamp(0.0, 1.0) * 100.0)).unwrap_or_default();
    out.push_str(&format!("{verdict}: {}{confidence}\n", counted(&review.findings)));
    out.push_str(&format!("{}\n", escape::clip(&scope_text(&review.change), 500)));
    if review.partial {
        out.push_str(&format!("{} {}\n", paint.wrap("33", "!"), escape::line(&partial_text(review))));
    }
    for note in notes(review) {
        out.push_str(&format!("{} {note}\n", paint.wrap("33", "!")));
    }
    quoted(&mut out, &review.summary, "", context, paint);
    for (number, finding) in review.findings.iter().enumerate() {
        one(&mut out, number + 1, finding, context, paint);
    }
    for (name, list) in [("Questions", &review.questions), ("Assumptions", &review.assumptions), ("Next steps", &review.next_steps)] {
        if !list.is_empty() {
            out.push_str(&format!("\n{}\n", paint.wrap("1", name)));
            for said in list {
                let text = escape::cut(&escape::words(said), LONGEST);
                for (line, text) in wrapped(&text, context.width.saturating_sub(4)).iter().enumerate() {
                    out.push_str(&format!("  {} {text}\n", if line == 0 { "-" } else { "|" }));
                }
            }
        }
    }
    let model = review.model.as_deref().map(|model| format!(", model {}", escape::clip(model, 80))).unwrap_or_default();
    // A change that was empty had none.
    let job = if review.job_id.is_empty() { "no job".to_owned() } else { format!("job {}", escape::clip(&review.job_id, 80)) };
    let line = format!("{job}{model}, {} tokens, Anchorhold {}", review.usage.total(), context.tool_version);
    out.push_str(&format!("\n{}\n", paint.wrap("2", &line)));
    out.into_bytes()
}

/// What a reader must know beside the findings, in lines fit to be shown.
pub(super) fn notes(review: &Review) -> Vec<String> {
    let mut notes: Vec<String> = coverage_notes(review).iter().map(|note| escape::clip(note, 500)).collect();
    if !review.change.instruction_files.is_empty() {
        let files: Vec<String> = review.change.instruction_files.iter().take(20).map(|file| escape::clip(file, 200)).collect();
        let more = review.change.instruction_files.len() - files.len();
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        notes.push(format!(
            "the change touches files that tell an agent what to do; the review went by those of the base: {}{more}",
            files.join(", ")
        ));
    }
    notes
}

fn one(out: &mut String, number: usize, finding: &Finding, context: &Context, paint: Paint) {
    let severity = match finding.severity {
        Severity::Critical | Severity::High => paint.wrap("31", finding.severity.as_str()),
        Severity::Medium => paint.wrap("33", finding.severity.as_str()),
        Severity::Low | Severity::Nit => paint.wrap("36", finding.severity.as_str()),
    };
    out.push_str(&format!("\n{number}. {severity}: {}\n", paint.wrap("1", &escape::clip(&finding.title, 300))));
    if let Some(file) = &finding.file {
        let lines = finding.lines.map(|lines| format!(", {}", lines_text(lines))).unwrap_or_default();
        out.push_str(&format!("   in {}{lines}\n", escape::clip(file, 1_000)));
    }
    for (name, text) in [("Evidence", &finding.evidence), ("Risk", &finding.risk), ("What to do", &finding.recommendation)] {
        if !text.trim().is_empty() {
            out.push_str(&format!("   {}\n", paint.wrap("2", name)));
            quoted(out, text, "   ", context, paint);
        }
    }
}

/// Words behind a bar, wrapped.
fn quoted(out: &mut String, raw: &str, indent: &str, context: &Context, paint: Paint) {
    if raw.trim().is_empty() {
        return;
    }
    let text = escape::cut(&escape::words(raw.trim_matches(['\n', '\r'])), LONGEST);
    for line in wrapped(&text, context.width.saturating_sub(indent.len() + 2)) {
        out.push_str(format!("{indent}{} {line}", paint.wrap("2", "|")).trim_end());
        out.push('\n');
    }
}

/// The lines of a text, longer ones broken between words; what is longer than a line stays whole.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    if width < NARROWEST {
        return text.lines().map(str::to_owned).collect();
    }
    let mut out = Vec::new();
    for line in text.lines() {
        let indent = line.len() - line.trim_start().len();
        let (mut current, mut len) = (line.get(..indent).unwrap_or_default().to_owned(), indent);
        let begin = len;
        for word in line.trim_start().split(' ') {
            let chars = word.chars().count();
            if len > begin && len + 1 + chars > width {
                out.push(std::mem::take(&mut current));
                (current, len) = (line.get(..indent).unwrap_or_default().to_owned(), indent);
            } else if len > begin {
                current.push(' ');
                len += 1;
            }
            current.push_str(word);
            len += chars;
        }
        out.push(current);
    }
    out
}

/// Colours where they are wanted.
#[derive(Clone, Copy)]
struct Paint(bool);

impl Paint {
    fn wrap(self, codes: &str, text: &str) -> String {
        if self.0 && !text.is_empty() { format!("\x1b[{codes}m{text}\x1b[0m") } else { text.to_owned() }
    }
}
