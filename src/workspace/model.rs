//! What a snapshot and a patch say about themselves.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::protocol::manifest::ObjectFormat;

/// A path in a document that people and assistants read: escaped text, and the exact bytes where they are not UTF-8.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ShownPath {
    /// Escaped for display ([`crate::display::line`]).
    pub path: String,
    /// The bytes in base64, where the escaped text is not the path itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path_base64: Option<String>,
}

impl ShownPath {
    /// From bytes.
    pub fn new(bytes: &[u8]) -> Self {
        use base64::Engine as _;
        let path = crate::display::line(bytes);
        let path_base64 = (path.as_bytes() != bytes).then(|| base64::engine::general_purpose::STANDARD.encode(bytes));
        Self { path, path_base64 }
    }
}

/// A path that was not sent, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOut {
    /// Which.
    #[serde(flatten)]
    pub path: ShownPath,
    /// `special_file`, `beyond_symlink`, `unreadable`, `directory`, `refused_name`, `case_collision`, `changed_while_read`; of untracked ones also
    /// `nested_repository`; in a review `agent_instructions` (the base has none here) and `refused_link` (a link's text in a commit is none).
    pub why: String,
}

/// What was sent, and what not; part of every result.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SnapshotSummary {
    /// Files and links sent.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// `sha1` or `sha256`.
    pub object_format: Option<ObjectFormat>,
    /// Full id of HEAD.
    pub head: Option<String>,
    /// Short branch name; `None` when detached.
    pub branch: Option<String>,
    /// Tracked files differed from HEAD.
    pub dirty: bool,
    /// Only part of the history is there.
    pub shallow: bool,
    /// Index entries that the sparse checkout leaves out of the working tree.
    pub sparse_files: u64,
    /// Tracked files that are missing in the working tree: deleted there, so not sent.
    pub deleted_files: u64,
    /// Unmerged paths: sent as they lie in the working tree.
    pub unmerged_files: u64,
    /// Untracked files were sent: only those that the caller asked for. Others are not counted, as that would walk the tree.
    pub untracked_sent: bool,
    /// Untracked files that a review was asked to take in. The first 200.
    #[serde(default)]
    pub untracked: Vec<ShownPath>,
    /// How many there are.
    #[serde(default)]
    pub untracked_count: u64,
    /// Ignored and untracked files that `.worktreeinclude` names. The first 200.
    #[serde(default)]
    pub included: Vec<ShownPath>,
    /// How many there are.
    #[serde(default)]
    pub included_count: u64,
    /// Of these, how many have a name that usually means a secret.
    #[serde(default)]
    pub included_secret_named: u64,
    /// Submodules: empty directories in the cell. The first 200.
    pub submodules: Vec<ShownPath>,
    /// How many there are.
    pub submodule_count: u64,
    /// Files that are Git LFS pointers: sent as pointers. The first 200.
    pub lfs_pointers: Vec<ShownPath>,
    /// How many there are.
    pub lfs_pointer_count: u64,
    /// Tracked paths that were not sent. The first 200.
    pub left_out: Vec<LeftOut>,
    /// How many there are.
    pub left_out_count: u64,
    /// Milliseconds to list and check.
    pub plan_ms: u64,
    /// Milliseconds to read, hash and compress.
    pub pack_ms: u64,
}

/// How a file changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeStatus {
    /// New.
    Added,
    /// Other content.
    Modified,
    /// Gone.
    Deleted,
    /// Moved, perhaps edited.
    Renamed,
    /// Only its mode.
    ModeChanged,
    /// From file to symlink or back.
    TypeChanged,
}

/// One changed file of a patch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileChange {
    /// Its (new) path.
    #[serde(flatten)]
    pub path: ShownPath,
    /// The old path of a rename.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old_path: Option<ShownPath>,
    /// How.
    pub status: ChangeStatus,
    /// git's six digits before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old_mode: Option<String>,
    /// git's six digits after.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new_mode: Option<String>,
    /// Lines added; `None` for binary content.
    pub additions: Option<u64>,
    /// Lines removed; `None` for binary content.
    pub deletions: Option<u64>,
    /// Binary content.
    pub binary: bool,
    /// Bytes after.
    pub new_bytes: Option<u64>,
    /// Where this file's part lies in the patch, in bytes from its start.
    pub patch_offset: u64,
    /// How many bytes it takes.
    pub patch_bytes: u64,
}

/// One thing that a reviewer must look at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RiskItem {
    /// Which file.
    #[serde(flatten)]
    pub path: ShownPath,
    /// Why, in our words; for a symlink where it points, escaped.
    pub note: String,
}

/// What a reviewer must look at, from facts alone. Each list is complete.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Risk {
    /// New or changed symlinks, and whether they point outside of the repository.
    pub symlinks: Vec<RiskItem>,
    /// Files that became executable.
    pub executables: Vec<RiskItem>,
    /// CI, build, editor and hook configuration that runs code.
    pub runs_code: Vec<RiskItem>,
    /// Instruction files of coding agents, and their tool configuration.
    pub agent_instructions: Vec<RiskItem>,
    /// `.gitmodules`, `.gitattributes`, `.gitignore` and the like.
    pub git_files: Vec<RiskItem>,
    /// Binary content.
    pub binaries: Vec<RiskItem>,
    /// Names or added content that look like secrets; never altered in the patch.
    pub secrets: Vec<RiskItem>,
    /// Added text with characters that deceive the eye, or with lines that read like a patch's own.
    pub deceptive_text: Vec<RiskItem>,
    /// Names that have such characters, that differ from others in letter case alone, or that mean something else on some systems.
    pub confusing_paths: Vec<RiskItem>,
    /// Lock files and lists of dependencies.
    pub dependencies: Vec<RiskItem>,
    /// Deleted tests.
    pub deleted_tests: Vec<RiskItem>,
    /// Files over 1 MiB.
    pub large: Vec<RiskItem>,
    /// Files with an added line over 2,000 bytes.
    pub long_lines: Vec<RiskItem>,
    /// Characters of added text and of names that are not shown, change the display or look like others: how many of each kind.
    pub suspicious_characters: BTreeMap<String, u64>,
}

impl Risk {
    /// Each list with what it lists, for people.
    pub fn lists(&self) -> [(&'static str, &[RiskItem]); 13] {
        let Self { symlinks, executables, runs_code, agent_instructions, git_files, binaries, secrets, deceptive_text, .. } = self;
        let Self { confusing_paths, dependencies, deleted_tests, large, long_lines, .. } = self;
        [
            ("symlink", symlinks),
            ("executable", executables),
            ("runs code", runs_code),
            ("agent instructions", agent_instructions),
            ("git", git_files),
            ("binary", binaries),
            ("secret", secrets),
            ("deceptive text", deceptive_text),
            ("confusing name", confusing_paths),
            ("dependencies", dependencies),
            ("deleted test", deleted_tests),
            ("large", large),
            ("long line", long_lines),
        ]
    }

    /// Whether there is nothing to point at.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Whether a patch applies to the user's tree as it is now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applies {
    /// It applies.
    pub ok: bool,
    /// Every touched file is byte for byte as it was when it was sent.
    pub exact: bool,
    /// What stands in the way: the first 50.
    pub conflicts: Vec<Conflict>,
}

/// What stands in a patch's way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conflict {
    /// Which file.
    #[serde(flatten)]
    pub path: ShownPath,
    /// `changed_since`, `exists_already`, `missing`, `beyond_symlink`, `mode_changed`.
    pub why: String,
}
