//! What a review looks at: the change of a scope, shown as a diff, and the new side of it as a workspace.
//!
//! Both sides are read as data: names and bytes of commits through the shadow git directory, bytes of the working tree beneath its root. The diff is made
//! in a throw-away store as a job's patch is, so that no attribute, filter or external program of the repository has a say in what a
//! reviewer sees. Files that tell an agent what to do come from the base ([`super::instructions`]).

use std::path::{Path, PathBuf};

use super::{Plan, ShownPath};
use crate::config::WorkspaceSettings;
use crate::error::Result;
use crate::review::{Change, Coverage, ReviewScope};

/// Bytes of a diff, where the request says nothing else.
pub const MAX_DIFF: usize = 4 << 20;
/// Most paths that narrow a review.
pub const MAX_PATHS: usize = 1_000;

/// What of the untracked files belongs to a change of the working tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Untracked {
    /// Those that `paths` name, each by its own name.
    #[default]
    ExplicitOnly,
    /// All that no ignore rule excludes.
    Include,
    /// None.
    Exclude,
}

impl Untracked {
    /// The stable text form.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ExplicitOnly => "explicit_only",
            Self::Include => "include",
            Self::Exclude => "exclude",
        }
    }

    /// Parses a caller's word.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::ExplicitOnly, Self::Include, Self::Exclude].into_iter().find(|policy| policy.as_str() == text)
    }
}

/// What shall be reviewed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReviewRequest {
    /// Which change. Branch: from where HEAD left the base to HEAD's commit. Commit: from its first parent.
    pub scope: ReviewScope,
    /// Narrows what is reviewed, not what is delivered: files and directories, literal, relative to the workspace root. Empty: everything.
    pub paths: Vec<String>,
    /// Untracked files, for the working tree alone.
    pub untracked: Untracked,
    /// Also deliver the ignored files that `.worktreeinclude` names; they are never part of the change.
    pub include_ignored: bool,
    /// Bytes of the diff; files that do not fit are left out whole.
    pub max_diff: usize,
}

impl ReviewRequest {
    /// All of a scope, with the defaults.
    pub fn new(scope: ReviewScope) -> Self {
        Self { scope, paths: Vec::new(), untracked: Untracked::default(), include_ignored: false, max_diff: MAX_DIFF }
    }
}

/// A change ready to be reviewed.
pub struct ReviewPlan {
    /// The new side of the change, for [`super::pack()`]; instruction files as in the base.
    pub plan: Plan,
    /// A unified diff of whole files, exact bytes; empty where there is nothing to show.
    pub diff: Vec<u8>,
    /// What changed.
    pub change: Change,
    /// How much of it the diff shows.
    pub coverage: Coverage,
    /// Changed files that the diff does not show, in the order of their paths. The first 200.
    pub omitted: Vec<Omitted>,
    /// How many there are.
    pub omitted_count: u64,
}

/// A changed file that the diff does not show.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Omitted {
    /// Which.
    #[serde(flatten)]
    pub path: ShownPath,
    /// `binary` (named in the diff, content not shown), `too_large`, `over_limit`, `refused_name`, or why the file could not be read (as in a snapshot).
    pub why: &'static str,
}

impl ReviewPlan {
    /// Nothing changed in this scope and these paths: there is nothing to review.
    pub fn nothing_to_review(&self) -> bool {
        self.change.files.is_empty()
    }
}

/// Finds the change of a scope and plans the delivery of its new side. Blocking; reads only.
///
/// Errors: those of [`super::plan`], and `invalid_scope`, `invalid_base`, `invalid_commit`, `invalid_paths`.
pub fn plan_review(workspace_root: &Path, caps: &WorkspaceSettings, request: &ReviewRequest) -> Result<ReviewPlan> {
    plan_review_within(workspace_root, &[], caps, request)
}

/// Like [`plan_review`]; every part of the repository must lie beneath one of the roots, where there are any.
pub fn plan_review_within(workspace_root: &Path, roots: &[PathBuf], caps: &WorkspaceSettings, request: &ReviewRequest) -> Result<ReviewPlan> {
    let _ = (workspace_root, roots, caps, request);
    Err(crate::error::Error::internal("being written"))
}
