//! What the domain says about jobs: the types that `cli` and `mcp` render.

use std::path::PathBuf;

use serde::Serialize;

use super::JobId;
use crate::protocol::request::JobKind;
use crate::protocol::result::{ProviderError, Reason, SealedResult, Usage};
use crate::workspace::{Applies, FileChange, ReviewRequest, Risk, ShownPath, SnapshotSummary};

/// Which of the user's Codex settings a job gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Isolation {
    /// The allow-listed part of the user's Codex configuration, instructions and execution-policy rules.
    #[default]
    Inherit,
    /// The same without the configuration.
    IgnoreConfig,
    /// The same without the rules.
    IgnoreRules,
    /// Nothing of the user's; no caller asks for it by a word.
    Nothing,
}

impl Isolation {
    /// The values that callers may use.
    pub const VALUES: [&str; 3] = ["inherit", "ignore-config", "ignore-rules"];

    /// Parses a caller's word.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "inherit" => Some(Self::Inherit),
            "ignore-config" => Some(Self::IgnoreConfig),
            "ignore-rules" => Some(Self::IgnoreRules),
            _ => None,
        }
    }

    /// The stable text form.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Inherit => "inherit",
            Self::IgnoreConfig => "ignore-config",
            Self::IgnoreRules => "ignore-rules",
            Self::Nothing => "nothing",
        }
    }
}

/// What a job is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Work {
    /// Change files; the result is a patch.
    Delegate {
        /// At most 200,000 bytes, not blank.
        task: String,
    },
    /// Go on with the work of an ended job: its working tree, its conversation, its base.
    Continue {
        /// Which job.
        job: JobId,
        /// At most 200,000 bytes, not blank.
        task: String,
    },
    /// Answer a question; the result is the agent's last message.
    Consult {
        /// At most 200,000 bytes together with the context, not blank.
        question: String,
        /// What the caller adds.
        more: Additions,
    },
    /// Look at a change; the result is a [`crate::review::Review`].
    Review {
        /// Which change, and what of it is shown.
        change: ReviewRequest,
        /// What the caller adds.
        more: Additions,
    },
}

impl Work {
    /// Which kind it is.
    pub fn kind(&self) -> JobKind {
        match self {
            Self::Delegate { .. } | Self::Continue { .. } => JobKind::Delegate,
            Self::Consult { .. } => JobKind::Consult,
            Self::Review { .. } => JobKind::Review,
        }
    }
}

/// What a question and a review may bring besides.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Additions {
    /// What the caller knows and the repository does not say: data for the agent.
    pub extra_context: Option<String>,
    /// How the caller wants it done: at most 4096 bytes.
    pub developer_instructions: Option<String>,
}

/// What a caller asks for. Not yet checked: [`super::Jobs::begin`] does.
#[derive(Debug, Clone)]
pub struct StartRequest {
    /// What is to be done.
    pub work: Work,
    /// Absolute path of a directory in a git repository.
    pub workspace_root: PathBuf,
    /// Model slug.
    pub model: Option<String>,
    /// Reasoning effort.
    pub reasoning_effort: Option<String>,
    /// Which of the user's Codex settings.
    pub isolation: Isolation,
    /// Overrides `limits.deadline_seconds`.
    pub deadline_seconds: Option<u64>,
    /// Overrides `limits.queue_seconds`.
    pub queue_seconds: Option<u64>,
    /// Overrides `limits.idle_seconds`; 0: never.
    pub idle_seconds: Option<u64>,
    /// Overrides `limits.tokens`; 0: no cap.
    pub token_budget: Option<u64>,
    /// An assistant asks, not the person whose settings these are: it may have fewer tokens than `limits.tokens`, not more.
    pub on_behalf: bool,
    /// Also send the untracked and ignored files that `.worktreeinclude` names; in a review of commits the base's file.
    pub include_ignored: bool,
    /// 1 to 200 characters; the same key with the same arguments gives the same job.
    pub idempotency_key: Option<String>,
    /// The caller's place in a trace, which the job's steps become part of.
    pub trace: Option<crate::telemetry::TraceContext>,
}

/// The design's job states.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    /// Being delivered or unpacked.
    Preparing,
    /// Waits for a slot.
    Queued,
    /// Codex runs.
    Running,
    /// Being sealed (or about to be: it died before it sealed).
    Sealing,
    /// Codex ended its turn.
    Completed,
    /// It failed; see the reason.
    Failed,
    /// Somebody cancelled it.
    Cancelled,
    /// It met its deadline.
    Timeout,
    /// Stopped from outside.
    Interrupted,
    /// Its workspace is gone.
    Lost,
}

impl JobState {
    /// The text form of each, in the order in which a job can pass them.
    pub const WORDS: [&str; 10] = ["preparing", "queued", "running", "sealing", "completed", "failed", "cancelled", "timeout", "interrupted", "lost"];

    /// Parses a caller's word.
    pub fn parse(text: &str) -> Option<Self> {
        let all = [
            Self::Preparing,
            Self::Queued,
            Self::Running,
            Self::Sealing,
            Self::Completed,
            Self::Failed,
            Self::Cancelled,
            Self::Timeout,
            Self::Interrupted,
            Self::Lost,
        ];
        all.into_iter().find(|state| state.as_str() == text)
    }

    /// The stable text form.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Preparing => "preparing",
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Sealing => "sealing",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Timeout => "timeout",
            Self::Interrupted => "interrupted",
            Self::Lost => "lost",
        }
    }

    /// Whether it will not change any more.
    pub fn is_final(self) -> bool {
        !matches!(self, Self::Preparing | Self::Queued | Self::Running | Self::Sealing)
    }

    /// The contract's five words: running, done, failed, cancelled, timeout.
    pub fn status_word(self) -> &'static str {
        match self {
            Self::Preparing | Self::Queued | Self::Running | Self::Sealing => "running",
            Self::Completed => "done",
            Self::Failed | Self::Interrupted | Self::Lost => "failed",
            Self::Cancelled => "cancelled",
            Self::Timeout => "timeout",
        }
    }
}

/// Where a job stands.
#[derive(Debug, Clone, Serialize)]
pub struct JobStatus {
    /// Which job.
    pub job_id: JobId,
    /// What kind of work.
    pub kind: JobKind,
    /// The design's state.
    pub state: JobState,
    /// Why it ended, once it has.
    pub reason: Option<Reason>,
    /// One sentence of ours.
    pub detail: String,
    /// RFC 3339.
    pub started_at: String,
    /// Unix milliseconds of the same.
    pub started_unix_ms: u64,
    /// RFC 3339, once it has ended.
    pub ended_at: Option<String>,
    /// Milliseconds from the start until now or the end; unknown for an ended job whose end is ([`Self::ended_at`]), as for the older ones of a list.
    pub elapsed_ms: Option<u64>,
    /// Seconds from the slot to the deadline.
    pub deadline_seconds: u64,
    /// Seconds that it is kept after its end.
    pub ttl_seconds: u64,
    /// RFC 3339; unknown while it runs.
    pub expires_at: Option<String>,
    /// When to ask again: clamp(elapsed, 1000, 10000) while it runs, else 1000.
    pub poll_after_ms: u64,
    /// Whether `result` would return something.
    pub result_available: bool,
    /// Whether the end was `completed`; unknown while it runs.
    pub result_ok: Option<bool>,
    /// What Codex is doing: a job's words, escaped, at most 200 characters.
    pub untrusted_activity: Option<String>,
    /// Place in the queue.
    pub queue_position: Option<u64>,
    /// Codex events seen.
    pub events_seen: u64,
    /// RFC 3339 of the last sign of life.
    pub last_event_at: Option<String>,
    /// Milliseconds since.
    pub event_age_ms: Option<u64>,
    /// Successful model answers.
    pub answers: u64,
    /// The workspace directory it was started for.
    pub workspace: PathBuf,
    /// HEAD of the repository at the start.
    pub head: Option<String>,
    /// Whether tracked files differed from HEAD.
    pub dirty: bool,
    /// Model asked for.
    pub model: Option<String>,
    /// Version of Anchorhold that started it.
    pub version: String,
    /// The job that it goes on with.
    pub continues: Option<JobId>,
    /// What the engine enforces, and what it cannot.
    pub isolation: serde_json::Value,
}

impl JobStatus {
    /// What of the user's own Codex settings was not taken though the user would expect it, a sentence each.
    pub fn settings_warnings(&self) -> Vec<&str> {
        self.inherited("warnings").filter_map(serde_json::Value::as_str).collect()
    }

    /// Whether the job has execution-policy rules of the user's.
    pub(super) fn has_rules(&self) -> bool {
        self.inherited("files").filter_map(|file| file.get("name")?.as_str()).any(|name| name.starts_with("rules/"))
    }

    /// A list of the report on what was inherited.
    fn inherited(&self, list: &str) -> impl Iterator<Item = &serde_json::Value> {
        let list = self.isolation.get("inherited").and_then(|inherited| inherited.get(list));
        list.and_then(serde_json::Value::as_array).into_iter().flatten()
    }
}

/// A handle, returned when the container exists; delivery goes on in the process that started the job.
#[derive(Debug, Clone, Serialize)]
pub struct StartedJob {
    /// Where it stands: `preparing`.
    pub status: JobStatus,
    /// An idempotency key named a job that was there already.
    pub replayed: bool,
}

/// What came of asking for work.
#[derive(Debug, Clone)]
#[expect(clippy::large_enum_variant, reason = "one is made for each call, and the large one is what nearly all of them get")]
pub enum Begun {
    /// There is a job.
    Job(StartedJob),
    /// The change under review is empty: no job was made, nothing is spent. What was looked at.
    NothingToReview(Box<crate::review::Facts>),
}

/// Something of the workspace that no patch carries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NotCarried {
    /// Which path.
    #[serde(flatten)]
    pub path: ShownPath,
    /// What lies there: one of [`crate::protocol::result::KINDS`], or `other`.
    pub kind: &'static str,
    /// Why: one of [`crate::protocol::result::REFUSALS`] or [`crate::protocol::result::ALTERATIONS`], or `other`.
    pub why: &'static str,
}

/// Everything about an ended job.
#[derive(Debug, Clone)]
pub struct JobResult {
    /// Where it stands.
    pub status: JobStatus,
    /// What `init` sealed; `None` for a lost job.
    pub sealed: Option<SealedResult>,
    /// Codex's last message: a job's words, raw, bounded.
    pub last_message: Vec<u8>,
    /// The patch, exact bytes; `None` when nothing changed, nothing can be said, or the job's kind makes none.
    pub patch: Option<Vec<u8>>,
    /// What a review found; `None` for other kinds, and where nothing can be said.
    pub review: Option<crate::review::Review>,
    /// The paths to which the caller narrowed a review.
    pub review_paths: Vec<String>,
    /// Why a review's answer could not be used.
    pub answer_fault: Option<crate::review::answer::Fault>,
    /// The same as base and new bytes of each path, for `apply`.
    pub changes: Vec<crate::protocol::changes::Change>,
    /// "No changes", proven by a sealed manifest.
    pub no_changes: bool,
    /// One entry a changed file, in patch order.
    pub files: Vec<FileChange>,
    /// What a reviewer must look at.
    pub risk: Risk,
    /// Whether the patch applies to the user's tree now; `None` when it cannot be told (the tree is not on this machine).
    pub applies: Option<Applies>,
    /// What was sent.
    pub snapshot: SnapshotSummary,
    /// What the cell says of its end where that is no sentence of ours: a job's words, escaped, bounded.
    pub untrusted_detail: Option<String>,
    /// Paths that the seal or the collector left out: the first 200.
    pub refused: Vec<NotCarried>,
    /// How many there were, the unlisted ones included.
    pub refused_count: u64,
    /// Files whose content is told, but that have something which no patch can say: the first 100.
    pub altered: Vec<NotCarried>,
    /// How many there were, the unlisted ones included.
    pub altered_count: u64,
    /// New paths that the base's own ignore rules exclude: not in the patch. Directories with a slash at the end, for all that is in them; at most 100.
    pub ignored: Vec<ShownPath>,
    /// How many there were, the unlisted ones included.
    pub ignored_count: u64,
    /// The rules were not used to the end, so that the patch may hold what they exclude: `too_large`, `too_many`, `too_complex`, `too_slow`, `unreadable`.
    pub ignore_rules_stopped: Option<String>,
    /// Tokens as the gateway counted them; Codex's claim where the gateway cannot be asked.
    pub usage: Usage,
    /// Who counted: `gateway` or `codex`.
    pub usage_source: &'static str,
    /// The provider's last failure.
    pub provider_error: Option<ProviderError>,
    /// Bounded events of Codex: a job's words, raw JSON lines.
    pub events: Vec<u8>,
    /// The manifest's digest matched the one in the gateway's ledger (or in this process, which delivered it).
    pub manifest_verified: bool,
}

impl JobResult {
    /// Paths that the agent changed in its copy, where that is not the result: a question's and a review's edits are thrown away.
    pub fn edits(&self) -> u64 {
        match (&self.sealed, self.status.kind.makes_patch()) {
            (Some(sealed), false) => sealed.seal.changed,
            _ => 0,
        }
    }

    /// Changed files that were sent along though no commit has them: the patch fits the working tree, not a commit. As far as the snapshot lists them.
    pub fn changed_inputs(&self) -> impl Iterator<Item = &FileChange> {
        let sent: std::collections::HashSet<&ShownPath> = self.snapshot.included.iter().collect();
        self.files.iter().filter(move |file| sent.contains(file.old_path.as_ref().unwrap_or(&file.path)))
    }

    /// The whole workspace was compared, and all that changed is what no patch can carry.
    pub fn only_refused(&self) -> bool {
        self.patch.is_none() && self.changes.is_empty() && self.refused_count > 0 && self.sealed.as_ref().is_some_and(|sealed| sealed.seal.complete)
    }
}

/// One row of a list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListFilter {
    /// Only jobs of this workspace.
    pub workspace: Option<PathBuf>,
    /// Only jobs with this status word.
    pub status_word: Option<String>,
}

/// What a sweep did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct GcReport {
    /// Expired jobs removed.
    pub expired: Vec<JobId>,
    /// Containers that were half consumed and are now gone.
    pub finished_consumes: Vec<JobId>,
    /// Volumes without a container, removed.
    pub volumes: Vec<String>,
    /// Passes without a job, revoked.
    pub passes: u64,
    /// What could not be removed, and why.
    pub problems: Vec<String>,
}
