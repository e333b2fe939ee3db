//! The one error type at every edge: a stable code, what was attempted and why it failed, and what to do.
//!
//! Messages are lower-case fragments fit for "failed to …"; they never repeat their source and never hold a credential
//! or a string made by a job.

use std::fmt;

/// Every failure has one of these. The text form ([`Code::as_str`]) is stable: clients and scripts match on it.
///
/// The names that existed before Anchorhold follow the tool contract that assistants already know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Code {
    /// A parameter or flag breaks its rule.
    InvalidArguments,
    /// `workspace_root` is relative, missing or not a directory.
    InvalidWorkspaceRoot,
    /// `workspace_root` lies outside the client's or the configured roots.
    WorkspaceOutsideRoots,
    /// The task (or another text) is over its size limit.
    InputTooLarge,
    /// The repository is over a cap on files, bytes, path length or single file.
    WorkspaceTooLarge,
    /// No git repository at the root.
    NotAGitRepo,
    /// `git` is not to be had.
    GitUnavailable,
    /// The repository cannot be read: no commit yet, corrupt index, unsupported format.
    WorktreeError,
    /// The repository belongs to somebody else, or its git directory has a form that is refused.
    UnsafeRepository,
    /// The model name is malformed or not allowed.
    InvalidModel,
    /// The effort is malformed.
    InvalidReasoningEffort,
    /// The isolation is not one of the known values.
    UnsupportedIsolation,
    /// The scope of a review is not one of the known ones, or does not fit the other arguments.
    InvalidScope,
    /// The base of a review names no commit, or shares no history with HEAD.
    InvalidBase,
    /// The commit of a review names no commit.
    InvalidCommit,
    /// A path that narrows a review is malformed, leaves the repository or is not there.
    InvalidPaths,
    /// A setting is wrong.
    InvalidConfig,
    /// No engine answers.
    EngineUnavailable,
    /// The engine answered with an error.
    EngineError,
    /// The runtime image is not on the engine.
    ImageMissing,
    /// The runtime image was built by another version than this binary.
    ImageMismatch,
    /// The engine made a container otherwise than asked, or cannot enforce what a job must not do without.
    IsolationMismatch,
    /// The gateway cannot be started or does not answer.
    GatewayUnavailable,
    /// No API key is set, or the provider refused it.
    CodexAuthRequired,
    /// The provider limits the rate or the quota is used up.
    CodexRateLimited,
    /// The provider cannot be reached.
    ProviderUnreachable,
    /// Codex ended with an error.
    NonzeroExit,
    /// A reviewer's answer is not JSON.
    InvalidJson,
    /// A reviewer's answer is JSON of another form than was asked for.
    SchemaViolation,
    /// The job met its deadline.
    Timeout,
    /// The job used up its token budget.
    TokenBudget,
    /// The gateway ended the job: a ceiling on requests or tokens, or too many refused requests.
    GatewayLimit,
    /// The job used up its memory.
    OutOfMemory,
    /// The job used up its disk.
    OutOfDisk,
    /// No such job.
    JobNotFound,
    /// The job has not ended yet.
    JobRunning,
    /// The job was cancelled.
    JobCancelled,
    /// The job ended without a usable result.
    JobFailed,
    /// The job's workspace is gone: nothing can be said about changes.
    JobLost,
    /// The same idempotency key was used with other arguments.
    IdempotencyConflict,
    /// The job that the idempotency key names is gone.
    IdempotencyResultUnavailable,
    /// A review found something at or above the threshold.
    ReviewFindings,
    /// A review ended before it had looked at everything; what it found is there.
    ReviewPartial,
    /// The patch does not apply to the working tree as it is now.
    ApplyConflict,
    /// No such resource.
    ResourceNotFound,
    /// Not possible in this design.
    Unsupported,
    /// A program that a set-up step needs is missing or failed.
    SetupFailed,
    /// The gateway's ledger is not what was written.
    LedgerBroken,
    /// The time for waiting is up; the jobs go on.
    WaitTimeout,
    /// Interrupted by a signal.
    Interrupted,
    /// A defect of ours.
    Internal,
}

impl Code {
    /// All of them, in the order above.
    pub const ALL: &'static [Self] = &[
        Self::InvalidArguments,
        Self::InvalidWorkspaceRoot,
        Self::WorkspaceOutsideRoots,
        Self::InputTooLarge,
        Self::WorkspaceTooLarge,
        Self::NotAGitRepo,
        Self::GitUnavailable,
        Self::WorktreeError,
        Self::UnsafeRepository,
        Self::InvalidModel,
        Self::InvalidReasoningEffort,
        Self::UnsupportedIsolation,
        Self::InvalidScope,
        Self::InvalidBase,
        Self::InvalidCommit,
        Self::InvalidPaths,
        Self::InvalidConfig,
        Self::EngineUnavailable,
        Self::EngineError,
        Self::ImageMissing,
        Self::ImageMismatch,
        Self::IsolationMismatch,
        Self::GatewayUnavailable,
        Self::CodexAuthRequired,
        Self::CodexRateLimited,
        Self::ProviderUnreachable,
        Self::NonzeroExit,
        Self::InvalidJson,
        Self::SchemaViolation,
        Self::Timeout,
        Self::TokenBudget,
        Self::GatewayLimit,
        Self::OutOfMemory,
        Self::OutOfDisk,
        Self::JobNotFound,
        Self::JobRunning,
        Self::JobCancelled,
        Self::JobFailed,
        Self::JobLost,
        Self::IdempotencyConflict,
        Self::IdempotencyResultUnavailable,
        Self::ReviewFindings,
        Self::ReviewPartial,
        Self::ApplyConflict,
        Self::ResourceNotFound,
        Self::Unsupported,
        Self::SetupFailed,
        Self::LedgerBroken,
        Self::WaitTimeout,
        Self::Interrupted,
        Self::Internal,
    ];

    /// The stable text form.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InvalidArguments => "invalid_arguments",
            Self::InvalidWorkspaceRoot => "invalid_workspace_root",
            Self::WorkspaceOutsideRoots => "workspace_outside_roots",
            Self::InputTooLarge => "input_too_large",
            Self::WorkspaceTooLarge => "workspace_too_large",
            Self::NotAGitRepo => "not_a_git_repo",
            Self::GitUnavailable => "git_unavailable",
            Self::WorktreeError => "worktree_error",
            Self::UnsafeRepository => "unsafe_repository",
            Self::InvalidModel => "invalid_model",
            Self::InvalidReasoningEffort => "invalid_reasoning_effort",
            Self::UnsupportedIsolation => "unsupported_isolation",
            Self::InvalidScope => "invalid_scope",
            Self::InvalidBase => "invalid_base",
            Self::InvalidCommit => "invalid_commit",
            Self::InvalidPaths => "invalid_paths",
            Self::InvalidConfig => "invalid_config",
            Self::EngineUnavailable => "engine_unavailable",
            Self::EngineError => "engine_error",
            Self::ImageMissing => "image_missing",
            Self::ImageMismatch => "image_mismatch",
            Self::IsolationMismatch => "isolation_mismatch",
            Self::GatewayUnavailable => "gateway_unavailable",
            Self::CodexAuthRequired => "codex_auth_required",
            Self::CodexRateLimited => "codex_rate_limited",
            Self::ProviderUnreachable => "provider_unreachable",
            Self::NonzeroExit => "nonzero_exit",
            Self::InvalidJson => "invalid_json",
            Self::SchemaViolation => "schema_violation",
            Self::Timeout => "timeout",
            Self::TokenBudget => "token_budget",
            Self::GatewayLimit => "gateway_limit",
            Self::OutOfMemory => "out_of_memory",
            Self::OutOfDisk => "out_of_disk",
            Self::JobNotFound => "job_not_found",
            Self::JobRunning => "job_running",
            Self::JobCancelled => "job_cancelled",
            Self::JobFailed => "job_failed",
            Self::JobLost => "job_lost",
            Self::IdempotencyConflict => "idempotency_conflict",
            Self::IdempotencyResultUnavailable => "idempotency_result_unavailable",
            Self::ReviewFindings => "review_findings",
            Self::ReviewPartial => "review_partial",
            Self::ApplyConflict => "apply_conflict",
            Self::ResourceNotFound => "resource_not_found",
            Self::Unsupported => "unsupported",
            Self::SetupFailed => "setup_failed",
            Self::LedgerBroken => "ledger_broken",
            Self::WaitTimeout => "wait_timeout",
            Self::Interrupted => "interrupted",
            Self::Internal => "internal_error",
        }
    }

    /// The exit code of the command line; documented in `docs/CLI.md`.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::InvalidArguments
            | Self::InvalidWorkspaceRoot
            | Self::WorkspaceOutsideRoots
            | Self::InputTooLarge
            | Self::WorkspaceTooLarge
            | Self::NotAGitRepo
            | Self::GitUnavailable
            | Self::WorktreeError
            | Self::UnsafeRepository
            | Self::InvalidModel
            | Self::InvalidReasoningEffort
            | Self::UnsupportedIsolation
            | Self::InvalidScope
            | Self::InvalidBase
            | Self::InvalidCommit
            | Self::InvalidPaths
            | Self::InvalidConfig
            | Self::IdempotencyConflict
            | Self::Unsupported => 2,
            Self::EngineUnavailable
            | Self::EngineError
            | Self::ImageMissing
            | Self::ImageMismatch
            | Self::IsolationMismatch
            | Self::GatewayUnavailable
            | Self::SetupFailed => 3,
            Self::CodexAuthRequired | Self::CodexRateLimited | Self::ProviderUnreachable => 4,
            Self::NonzeroExit
            | Self::InvalidJson
            | Self::SchemaViolation
            | Self::JobFailed
            | Self::GatewayLimit
            | Self::OutOfMemory
            | Self::OutOfDisk => 5,
            Self::TokenBudget => 6,
            Self::Timeout => 7,
            Self::JobCancelled => 8,
            Self::JobNotFound | Self::JobLost | Self::IdempotencyResultUnavailable | Self::ResourceNotFound => 9,
            Self::JobRunning => 10,
            Self::ApplyConflict => 11,
            Self::LedgerBroken => 12,
            Self::ReviewFindings => 20,
            Self::ReviewPartial => 21,
            Self::WaitTimeout => 124,
            Self::Interrupted => 130,
            Self::Internal => 1,
        }
    }

    /// Whether the same call may succeed later without a change.
    pub fn temporary(self) -> bool {
        matches!(
            self,
            Self::CodexRateLimited
                | Self::JobRunning
                | Self::WaitTimeout
                | Self::Timeout
                | Self::ProviderUnreachable
                | Self::EngineUnavailable
                | Self::InvalidJson
                | Self::SchemaViolation
                | Self::Internal
        )
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An error with everything that a person, a script or an assistant needs to mend it.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// What kind of failure.
    pub code: Code,
    /// What was attempted and why it failed; no trailing full stop.
    pub message: String,
    /// What to do about it, as an imperative sentence or a command.
    pub hint: Option<String>,
    /// Milliseconds after which a retry may succeed, where known.
    pub retry_after_ms: Option<u64>,
    /// Machine-readable facts: limits, candidates, field names.
    pub details: serde_json::Map<String, serde_json::Value>,
    /// The cause.
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// A new error; add to it with the `with_` methods.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), hint: None, retry_after_ms: None, details: serde_json::Map::new(), source: None }
    }

    /// A defect of ours.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(Code::Internal, message)
    }

    /// Says what to do.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Says when a retry may succeed.
    #[must_use]
    pub fn with_retry_after_ms(mut self, ms: u64) -> Self {
        self.retry_after_ms = Some(ms);
        self
    }

    /// Adds a machine-readable fact.
    #[must_use]
    pub fn with_detail(mut self, key: &str, value: impl Into<serde_json::Value>) -> Self {
        self.details.insert(key.to_owned(), value.into());
        self
    }

    /// Keeps the cause.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Whether a full disk, or a quota that is used up, is the cause.
    pub fn is_for_space(&self) -> bool {
        use std::io::ErrorKind::{QuotaExceeded, StorageFull};
        let mut next = std::error::Error::source(self);
        while let Some(cause) = next {
            if cause.downcast_ref::<std::io::Error>().is_some_and(|e| matches!(e.kind(), StorageFull | QuotaExceeded)) {
                return true;
            }
            next = cause.source();
        }
        self.code == Code::OutOfDisk
    }

    /// The message followed by those of its causes.
    pub fn chain(&self) -> String {
        let mut text = self.message.clone();
        let mut next = std::error::Error::source(self);
        while let Some(cause) = next {
            let cause_text = cause.to_string();
            if !text.contains(&cause_text) {
                text.push_str(": ");
                text.push_str(&cause_text);
            }
            next = cause.source();
        }
        text
    }
}

/// The result type of the library.
pub type Result<T, E = Error> = std::result::Result<T, E>;
