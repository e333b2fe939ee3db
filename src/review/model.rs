//! The model of a review's result.

use serde::{Deserialize, Serialize};

use crate::protocol::result::{Reason, Usage};

/// How bad a finding is, worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Must not be merged: data loss, a security hole.
    Critical,
    /// A bug that users will meet.
    High,
    /// A bug in a rare case, or a design that will cost.
    Medium,
    /// Worth a change, harms nobody.
    Low,
    /// A matter of taste.
    Nit,
}

impl Severity {
    /// Worst first.
    pub const ALL: [Self; 5] = [Self::Critical, Self::High, Self::Medium, Self::Low, Self::Nit];

    /// The stable text form.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Critical => "critical",
            Self::High => "high",
            Self::Medium => "medium",
            Self::Low => "low",
            Self::Nit => "nit",
        }
    }

    /// Parses a caller's word.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|severity| severity.as_str() == text)
    }

    /// Whether it is at least as bad as a threshold.
    pub fn reaches(self, threshold: Self) -> bool {
        self <= threshold
    }
}

/// The reviewer's judgement of the whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Nothing stands in the way.
    Pass,
    /// It can be merged, but something should be looked at.
    Concerns,
    /// It must not be merged as it is.
    Fail,
    /// Nothing can be said: the review ended early, or its answer could not be used.
    Unknown,
}

impl Verdict {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Pass, Self::Concerns, Self::Fail, Self::Unknown];

    /// Parses the stable text form.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|verdict| verdict.as_str() == text)
    }

    /// The stable text form.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Concerns => "concerns",
            Self::Fail => "fail",
            Self::Unknown => "unknown",
        }
    }
}

/// Lines of a file's new side, counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LineRange {
    /// The first.
    pub start: u32,
    /// The last; not before the first.
    pub end: u32,
}

/// One thing that the reviewer found. Every text is an agent's words, raw.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// How bad.
    pub severity: Severity,
    /// One line.
    pub title: String,
    /// Path below the repository's top with forward slashes, checked: relative, without `..`; `None` where it is about no one file.
    pub file: Option<String>,
    /// Where in it.
    pub lines: Option<LineRange>,
    /// What was seen.
    pub evidence: String,
    /// What can go wrong.
    pub risk: String,
    /// What to do.
    pub recommendation: String,
}

/// What was reviewed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum ReviewScope {
    /// What differs from HEAD.
    WorkingTree,
    /// `base...HEAD`.
    Branch {
        /// As the caller named it.
        base: String,
    },
    /// One commit against its first parent.
    Commit {
        /// As the caller named it.
        commit: String,
    },
}

/// A file of the change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangedFile {
    /// Path below the top on the new side, lossless where it is UTF-8, else escaped.
    pub path: String,
    /// Where it was before, if elsewhere.
    pub old_path: Option<String>,
    /// Lines of the new side that a comment can stand on: those that the diff shows. Sorted, not overlapping.
    pub shown: Vec<LineRange>,
    /// Lines added.
    pub added: u64,
    /// Lines removed.
    pub removed: u64,
}

/// The change under review.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// Which.
    pub scope: ReviewScope,
    /// Object id of the side before, if it is a commit.
    pub base_commit: Option<String>,
    /// Object id of the side after, if it is a commit.
    pub head_commit: Option<String>,
    /// In the order of the diff.
    pub files: Vec<ChangedFile>,
    /// Files that tell an agent what to do (`AGENTS.md`, `.codex/`, skills) and that this change touches; the review used those of the base.
    pub instruction_files: Vec<String>,
}

/// Whether all of the change was shown to the reviewer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CoverageStatus {
    /// All of it.
    Full,
    /// Some was left out: see the reasons.
    Partial,
    /// Nothing.
    None,
}

/// What was shown, honestly.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Coverage {
    /// In one word.
    pub status: CoverageStatus,
    /// Untracked files that were there.
    pub untracked_files_detected: u64,
    /// Of these, left out.
    pub untracked_files_omitted: u64,
    /// Sentences of ours, one for each kind of omission.
    pub omission_reasons: Vec<String>,
    /// The kinds, in the same order: `untracked`, or why a changed file is not shown.
    #[serde(default)]
    pub omission_kinds: Vec<String>,
}

/// A review's result.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Review {
    /// The job.
    pub job_id: String,
    /// Why the job ended; anything but `completed` makes the review partial.
    pub reason: Reason,
    /// The findings are not all: the run ended early, or its answer was not whole.
    pub partial: bool,
    /// Why it is partial, a sentence of ours; empty where it is not.
    pub partial_detail: String,
    /// The judgement; `unknown` for a partial one without findings.
    pub verdict: Verdict,
    /// The reviewer's own confidence, 0 to 1; `None`: it did not say.
    pub confidence: Option<f64>,
    /// The reviewer's words, raw.
    pub summary: String,
    /// Worst first; among equals by file and line.
    pub findings: Vec<Finding>,
    /// The reviewer's words, raw.
    pub questions: Vec<String>,
    /// The same.
    pub assumptions: Vec<String>,
    /// The same.
    pub next_steps: Vec<String>,
    /// What was reviewed.
    pub change: Change,
    /// How much of it was shown.
    pub coverage: Coverage,
    /// Tokens.
    pub usage: Usage,
    /// Model asked for.
    pub model: Option<String>,
    /// Version of Anchorhold.
    pub version: String,
}

impl Review {
    /// Findings at least as bad as a threshold.
    pub fn reaching(&self, threshold: Severity) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(move |finding| finding.severity.reaches(threshold))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn severities_are_ordered_worst_first() {
        assert!(Severity::Critical.reaches(Severity::High) && Severity::High.reaches(Severity::High) && !Severity::Low.reaches(Severity::Medium));
        assert!(Severity::ALL.is_sorted());
        for severity in Severity::ALL {
            assert_eq!(Severity::parse(severity.as_str()), Some(severity));
        }
        assert_eq!(Severity::parse("CRITICAL"), None);
    }
}
