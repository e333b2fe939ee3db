//! What a review has besides a workspace: the change, delivered with the job, and the agent's answer, read when the job is collected.

use std::path::Path;

use bytes::Bytes;

use super::deliver::sha256_hex;
use super::labels::JobLabels;
use crate::codex::prompt;
use crate::config::Settings;
use crate::error::{Code, Error, Result};
use crate::protocol::repo_path::RepoPath;
use crate::protocol::result::{Reason, Usage};
use crate::review::answer::{self, Answer, Fault, Notes};
use crate::review::{Change, Facts, Review, ReviewScope, Verdict};
use crate::workspace::{Omitted, Plan, ReviewPlan, ReviewRequest};

/// A change on its way into a job.
pub(super) struct UnderReview {
    /// The diff, exact bytes.
    pub diff: Bytes,
    /// [`Facts`] as JSON.
    pub document: Bytes,
    /// SHA-256 of that, hex; a label of the job, which the job cannot change.
    pub facts_sha256: String,
    pub facts: Facts,
    /// Changed files that the diff does not show. The first 200.
    pub omitted: Vec<Omitted>,
    /// How many there are.
    pub omitted_count: u64,
}

/// Reads the change, and the names of what will be sent. Blocking.
pub(super) fn plan(settings: &Settings, workspace: &Path, asked: &ReviewRequest) -> Result<(Plan, UnderReview)> {
    let found = crate::workspace::plan_review_within(workspace, &settings.roots.allow, &settings.workspace, asked)?;
    let ReviewPlan { plan, diff, change, coverage, omitted, omitted_count } = found;
    let facts = Facts::new(change, coverage, asked.paths.clone());
    let document = serde_json::to_vec(&facts).map_err(|e| Error::internal("write the facts of a review").with_source(e))?;
    if document.len() as u64 > Facts::MAX_BYTES {
        return Err(Error::new(Code::WorkspaceTooLarge, "review the change: it touches too many files").with_hint("name some of its paths"));
    }
    let facts_sha256 = sha256_hex(&document);
    Ok((plan, UnderReview { diff: diff.into(), document: document.into(), facts_sha256, facts, omitted, omitted_count }))
}

impl UnderReview {
    /// The facts, where the change is empty.
    pub(super) fn nothing(&self) -> Option<Facts> {
        self.facts.change.files.is_empty().then(|| self.facts.clone())
    }

    /// The whole prompt.
    pub(super) fn prompt(&self, extras: prompt::Extras<'_>, subdirectory: Option<&RepoPath>) -> String {
        let Facts { change, coverage, .. } = &self.facts;
        let (added, removed) = change
            .files
            .iter()
            .fold((0_u64, 0_u64), |(added, removed), file| (added.saturating_add(file.added), removed.saturating_add(file.removed)));
        let facts = prompt::ReviewFacts {
            subject: &subject(change),
            size: (change.files.len(), added, removed),
            left_out: &coverage.omission_reasons,
            instruction_files: change.instruction_files.len(),
        };
        prompt::review(facts, extras, subdirectory.map(RepoPath::as_bytes))
    }
}

fn subject(change: &Change) -> String {
    let named = |name: &str| crate::display::clip(name.as_bytes(), 200);
    match &change.scope {
        ReviewScope::WorkingTree => "what differs from HEAD in the working tree".to_owned(),
        ReviewScope::Branch { base } => format!("what HEAD has and {} has not, from where the two parted", named(base)),
        ReviewScope::Commit { commit } => format!("the commit {} against its first parent", named(commit)),
    }
}

/// The facts of a review as they were delivered; an error where what lies in the job is something else.
pub(super) fn read_facts(labels: &JobLabels, document: &[u8]) -> Result<Facts> {
    let untrue = |what: &str| {
        Error::new(Code::JobFailed, format!("open the result: the facts of the review {what}"))
            .with_hint("the job was tampered with or damaged: nothing of it can be used; start a new one")
    };
    if labels.review_sha256.as_deref() != Some(sha256_hex(document).as_str()) {
        return Err(untrue("are not those that were delivered"));
    }
    Facts::read(document).ok_or_else(|| untrue("have a form that this program does not know"))
}

/// What a job left for its review.
pub(super) struct Said<'a> {
    /// The agent's last message.
    pub last_message: &'a [u8],
    /// What it noted on its way.
    pub notes: &'a [u8],
    /// Why the job ended.
    pub reason: Reason,
    /// Tokens.
    pub usage: Usage,
}

/// The review, and why its answer could not be used, if so.
pub(super) fn conclude(labels: &JobLabels, facts: Facts, said: &Said<'_>) -> (Review, Option<Fault>) {
    let completed = said.reason == Reason::Completed;
    let (answer, fault) = match answer::parse(said.last_message) {
        // A message in the middle of a run that broke off can be a whole answer, but nobody said that it was the last word.
        Ok(answer) => (Some(answer), None),
        Err(fault) => (None, completed.then_some(fault)),
    };
    let notes = answer::parse_notes(said.notes);
    let (partial, detail) = match (&answer, completed) {
        (Some(answer), true) if answer.cut => (true, format!("Only the first {} findings were kept.", answer::MAX_FINDINGS)),
        (Some(_), true) => (false, String::new()),
        (_, true) => (true, "The reviewer's answer could not be used; the findings are those that it noted on its way.".to_owned()),
        (Some(_), false) => (true, "The run ended early, though the reviewer had given an answer.".to_owned()),
        (None, false) => (true, "The run ended early; the findings are those that the reviewer had noted by then.".to_owned()),
    };
    let answer = answer.unwrap_or_else(|| from_notes(notes));
    let review = Review {
        job_id: labels.id.to_string(),
        reason: said.reason,
        partial,
        partial_detail: detail,
        // What a reviewer did not look at to the end does not pass.
        verdict: if partial && answer.verdict == Verdict::Pass { answer::verdict_of(&answer.findings) } else { answer.verdict },
        confidence: answer.confidence,
        summary: answer.summary,
        findings: answer.findings,
        questions: answer.questions,
        assumptions: answer.assumptions,
        next_steps: answer.next_steps,
        change: facts.change,
        coverage: facts.coverage,
        usage: said.usage,
        model: labels.model.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    (review, fault)
}

fn from_notes(notes: Notes) -> Answer {
    Answer {
        verdict: answer::verdict_of(&notes.findings),
        confidence: None,
        summary: String::new(),
        findings: notes.findings,
        questions: Vec::new(),
        assumptions: Vec::new(),
        next_steps: Vec::new(),
        cut: false,
    }
}

#[cfg(test)]
mod tests {
    use super::super::labels::tests::sample;
    use super::*;
    use crate::review::{Severity, sample_facts};

    const PASS: &str =
        r#"{"verdict": "pass", "confidence": 0.9, "summary": "Fine.", "findings": [], "questions": [], "assumptions": [], "next_steps": []}"#;
    const NOTE: &str = r#"{"severity": "high", "title": "lost update", "file": "src/a.rs", "line": 3}"#;

    fn concluded(last_message: &str, notes: &str, reason: Reason) -> (Review, Option<Fault>) {
        let said = Said { last_message: last_message.as_bytes(), notes: notes.as_bytes(), reason, usage: Usage::default() };
        conclude(&sample(), sample_facts(), &said)
    }

    #[test]
    fn a_whole_answer_of_a_whole_run_is_the_review() {
        let (review, fault) = concluded(PASS, NOTE, Reason::Completed);
        assert_eq!((fault, review.partial, review.verdict, review.findings.len()), (None, false, Verdict::Pass, 0));
        assert_eq!((review.change, review.coverage), (sample_facts().change, sample_facts().coverage));
    }

    #[test]
    fn an_early_end_leaves_the_notes_and_never_passes() {
        let (review, fault) = concluded("", NOTE, Reason::Deadline);
        assert_eq!((fault, review.partial, review.verdict), (None, true, Verdict::Fail));
        assert_eq!(review.findings[0].severity, Severity::High);
        assert!(review.partial_detail.contains("ended early"));
        let (review, _) = concluded("", "", Reason::TokenBudget);
        assert_eq!((review.partial, review.verdict), (true, Verdict::Unknown));
        let (review, _) = concluded(PASS, "", Reason::Cancelled);
        assert_eq!((review.partial, review.verdict), (true, Verdict::Unknown));
    }

    #[test]
    fn an_answer_that_cannot_be_used_is_a_fault_and_the_notes_stand() {
        let (review, fault) = concluded("I found a lost update.", NOTE, Reason::Completed);
        assert_eq!((fault, review.partial, review.findings.len()), (Some(Fault::InvalidJson), true, 1));
        let (_, fault) = concluded(r#"{"verdict": "great"}"#, "", Reason::Completed);
        assert!(matches!(fault, Some(Fault::SchemaViolation(_))));
    }

    #[test]
    fn facts_that_were_exchanged_in_the_job_are_refused() {
        let document = serde_json::to_vec(&sample_facts()).unwrap();
        let labels = JobLabels { review_sha256: Some(sha256_hex(&document)), ..sample() };
        assert_eq!(read_facts(&labels, &document).unwrap(), sample_facts());
        let other = String::from_utf8(document.clone()).unwrap().replace("\"untracked_files_omitted\":2", "\"untracked_files_omitted\":0");
        assert_ne!(other.as_bytes(), document);
        assert_eq!(read_facts(&labels, other.as_bytes()).unwrap_err().code, Code::JobFailed);
        assert!(read_facts(&sample(), &document).is_err(), "a job that says nothing of a review");
    }
}
