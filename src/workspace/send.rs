//! The send manifest: what a delivery of a plan would take out of this machine. For dry runs: it reads, and neither writes nor costs anything.

use serde::{Deserialize, Serialize};

use super::{LeftOut, Plan, ShownPath};
use crate::error::Result;

/// Where a file of a delivery comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// Tracked: bytes of the working tree.
    Tracked,
    /// Untracked, asked for by the caller.
    Untracked,
    /// Ignored or untracked, named by `.worktreeinclude`.
    Included,
    /// Bytes of a commit.
    Commit,
    /// An instruction file as it is in the base of a review.
    Base,
}

/// One file or link that would be sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SendEntry {
    /// Which.
    #[serde(flatten)]
    pub path: ShownPath,
    /// Bytes.
    pub bytes: u64,
    /// git's six digits.
    pub mode: String,
    /// From where.
    pub origin: Origin,
}

/// A file that looks as if it held a secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretLooking {
    /// Which.
    #[serde(flatten)]
    pub path: ShownPath,
    /// Why, in our words; never the secret.
    pub note: String,
    /// From where.
    pub origin: Origin,
}

/// An instruction file that Codex would meet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstructionFile {
    /// Which.
    #[serde(flatten)]
    pub path: ShownPath,
    /// Bytes.
    pub bytes: u64,
    /// Codex loads it when it starts; else the agent may read it when it works in that directory.
    pub at_start: bool,
    /// From where.
    pub origin: Origin,
}

/// What would be sent.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SendManifest {
    /// Files and links.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// The first 1,000, by path.
    pub entries: Vec<SendEntry>,
    /// How many there are, submodules' empty directories among them.
    pub entry_count: u64,
    /// What is not sent, and why. The first 200.
    pub left_out: Vec<LeftOut>,
    /// How many there are.
    pub left_out_count: u64,
    /// Ignored files that `.worktreeinclude` names. The first 200.
    pub included: Vec<ShownPath>,
    /// How many there are.
    pub included_count: u64,
    /// Files whose name or content looks like a secret. The first 200.
    pub secret_looking: Vec<SecretLooking>,
    /// How many there are.
    pub secret_looking_count: u64,
    /// All content was looked at for secrets; else only the first part of large files, or not all files: names always are.
    pub secrets_scanned_fully: bool,
    /// Instruction files of Codex. The first 200.
    pub instruction_files: Vec<InstructionFile>,
    /// How many there are.
    pub instruction_file_count: u64,
}

/// What a delivery of this plan would send. Blocking; reads only.
pub fn manifest_of(plan: &Plan) -> Result<SendManifest> {
    let _ = plan;
    Err(crate::error::Error::internal("being written"))
}
