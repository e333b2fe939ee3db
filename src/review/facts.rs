//! What is known of a review before it begins, kept with the job: whoever collects it is often not who started it.

use serde::{Deserialize, Serialize};

use super::{Change, Coverage};

/// Version of the document.
const VERSION: u32 = 1;

/// The change, and how much of it the reviewer is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Facts {
    version: u32,
    /// What is reviewed.
    pub change: Change,
    /// How much of it is shown.
    pub coverage: Coverage,
    /// What the caller narrowed it to; empty: nothing.
    pub paths: Vec<String>,
}

impl Facts {
    /// Longest document in bytes. One of a hundred thousand files has a tenth of it.
    pub const MAX_BYTES: u64 = 64 << 20;

    /// Of a change that will be reviewed.
    pub fn new(change: Change, coverage: Coverage, paths: Vec<String>) -> Self {
        Self { version: VERSION, change, coverage, paths }
    }

    /// Reads a document; `None`: it is none of ours.
    pub fn read(document: &[u8]) -> Option<Self> {
        serde_json::from_slice(document).ok().filter(|facts: &Self| facts.version == VERSION)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::super::{ChangedFile, CoverageStatus, LineRange, ReviewScope};
    use super::*;

    pub(crate) fn sample() -> Facts {
        let file = ChangedFile { path: "src/a.rs".into(), old_path: None, shown: vec![LineRange { start: 1, end: 9 }], added: 4, removed: 2 };
        let change = Change {
            scope: ReviewScope::Branch { base: "main".into() },
            base_commit: Some("a".repeat(40)),
            head_commit: Some("b".repeat(40)),
            files: vec![file],
            instruction_files: vec!["AGENTS.md".into()],
        };
        let coverage = Coverage {
            status: CoverageStatus::Partial,
            untracked_files_detected: 3,
            untracked_files_omitted: 2,
            omission_reasons: vec!["2 untracked files were not named.".into()],
            omission_kinds: vec!["untracked".into()],
        };
        Facts::new(change, coverage, vec!["src".into()])
    }

    #[test]
    fn facts_are_read_back_and_other_forms_are_not() {
        let document = serde_json::to_vec(&sample()).unwrap();
        assert_eq!(Facts::read(&document), Some(sample()));
        let mut other: serde_json::Value = serde_json::from_slice(&document).unwrap();
        other["version"] = 2.into();
        assert_eq!(Facts::read(other.to_string().as_bytes()), None);
        assert_eq!(Facts::read(b"{}"), None);
    }
}
