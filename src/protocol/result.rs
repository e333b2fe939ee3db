//! `/job/out/result.json`: how a job ended, written by `init` when it seals.

use serde::{Deserialize, Serialize};

/// Why a job ended. Each maps to one exit code of `init`, so that a list of containers tells it without reading anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// Codex ended its turn.
    Completed,
    /// Codex, or something around it, failed; `detail_code` says what.
    Failed,
    /// Somebody cancelled it.
    Cancelled,
    /// It met its deadline.
    Deadline,
    /// It used up its token budget.
    TokenBudget,
    /// It used up its memory.
    Memory,
    /// It used up its disk.
    Disk,
    /// No model answer could be had.
    ProviderUnreachable,
    /// It got no slot in the time that it may wait.
    QueueTimeout,
    /// Nothing happened in it for as long as it may be idle.
    Idle,
    /// The container was stopped from outside (engine shutdown, `docker stop`, kill).
    Interrupted,
    /// The workspace is gone. Never written by `init`; derived when there is nothing to read.
    Lost,
}

impl Reason {
    /// Every reason, for tables and tests.
    pub const ALL: [Self; 12] = [
        Self::Completed,
        Self::Failed,
        Self::Cancelled,
        Self::Deadline,
        Self::TokenBudget,
        Self::Memory,
        Self::Disk,
        Self::ProviderUnreachable,
        Self::QueueTimeout,
        Self::Idle,
        Self::Interrupted,
        Self::Lost,
    ];

    /// The stable text form.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Deadline => "deadline",
            Self::TokenBudget => "token_budget",
            Self::Memory => "memory",
            Self::Disk => "disk",
            Self::ProviderUnreachable => "provider_unreachable",
            Self::QueueTimeout => "queue_timeout",
            Self::Idle => "idle",
            Self::Interrupted => "interrupted",
            Self::Lost => "lost",
        }
    }

    /// The exit code with which `init` says that it sealed with this reason. Other codes mean: not sealed.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Completed => 0,
            Self::Failed => 40,
            Self::Cancelled => 41,
            Self::Deadline => 42,
            Self::TokenBudget => 43,
            Self::Memory => 44,
            Self::Disk => 45,
            Self::ProviderUnreachable => 46,
            Self::Interrupted => 47,
            Self::Lost => 48,
            Self::QueueTimeout => 49,
            Self::Idle => 50,
        }
    }

    /// The reason behind an exit code; `None` for a container that died before it sealed.
    pub fn from_exit_code(code: i64) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| i64::from(reason.exit_code()) == code)
    }
}

/// Tokens, as counted by the one who writes it down (Codex's claim or the gateway's count).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// All input tokens, cached ones included.
    pub input_tokens: u64,
    /// Of these, read from the provider's cache.
    pub cached_input_tokens: u64,
    /// All output tokens, reasoning included.
    pub output_tokens: u64,
    /// Of these, reasoning.
    pub reasoning_output_tokens: u64,
}

impl Usage {
    /// Input plus output.
    pub fn total(&self) -> u64 {
        self.input_tokens.saturating_add(self.output_tokens)
    }

    /// Adds another count.
    pub fn add(&mut self, other: &Self) {
        self.input_tokens = self.input_tokens.saturating_add(other.input_tokens);
        self.cached_input_tokens = self.cached_input_tokens.saturating_add(other.cached_input_tokens);
        self.output_tokens = self.output_tokens.saturating_add(other.output_tokens);
        self.reasoning_output_tokens = self.reasoning_output_tokens.saturating_add(other.reasoning_output_tokens);
    }
}

/// A failure of the provider in the gateway's words; nothing of the provider's text passes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProviderError {
    /// `auth`, `quota`, `rate_limit`, `unreachable`, `server_error`, `bad_request`, `cut`, `model`.
    pub kind: String,
    /// One sentence.
    pub message: String,
    /// HTTP status of the provider, where it answered.
    pub status: Option<u16>,
    /// Seconds after which the provider says that a retry makes sense.
    pub retry_after_seconds: Option<u64>,
    /// When the quota resets, seconds since 1970, where the provider says.
    pub resets_at: Option<i64>,
}

/// Milliseconds of each part of a job's life inside the cell.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timings {
    /// Unix milliseconds at which `init` first ran.
    pub started_unix_ms: u64,
    /// Unix milliseconds at which Codex was started; 0 if never.
    pub codex_started_unix_ms: u64,
    /// Unix milliseconds at which Codex had ended; 0 if never.
    pub codex_ended_unix_ms: u64,
    /// Unix milliseconds at which the result was sealed.
    pub sealed_unix_ms: u64,
    /// Unpacking.
    pub unpack_ms: u64,
    /// Waiting for a slot.
    pub queue_ms: u64,
    /// Codex.
    pub run_ms: u64,
    /// Sealing.
    pub seal_ms: u64,
}

/// A path that was left out of the sealed changes, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// The path in bytes, base64; shortened to 4 KiB.
    pub path_base64: String,
    /// What lies there: one of [`KINDS`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// One of [`REFUSALS`], or of [`ALTERATIONS`] in [`Seal::altered`].
    pub why: String,
}

/// Kinds of what was left out.
pub const KINDS: [&str; 8] = ["file", "directory", "symlink", "fifo", "socket", "character_device", "block_device", "submodule"];
/// Reasons for which a path is left out by the seal or by the collector.
pub const REFUSALS: [&str; 13] = [
    "git_directory",
    "special_file",
    "path_too_long",
    "file_too_large",
    "total_too_large",
    "too_many",
    "inside_submodule",
    "submodule_removed",
    "unreadable",
    "changing",
    "beneath_submodule",
    "gitmodules_symlink",
    "refused_name",
];
/// What a patch cannot say of a file whose content it carries: its other mode bits, and that it shares its content with another name.
pub const ALTERATIONS: [&str; 4] = ["setuid_bit", "setgid_bit", "sticky_bit", "hard_link"];
/// Reasons for which the ignore rules were not used to the end.
pub const RULES_STOPPED: [&str; 5] = ["too_large", "too_many", "too_complex", "too_slow", "unreadable"];

/// Every sentence in which `init` tells an end; anything else in [`SealedResult::detail`] is not taken for ours.
pub const SENTENCES: [&str; 40] = [
    "Codex ended its turn.",
    "Codex exited without ending its turn.",
    "Codex could not start its code-mode host, so it could run nothing.",
    "Codex could not be started in this image.",
    "Codex ended in an unknown way.",
    "The cell used up its memory and Codex was killed.",
    "The cell used up its memory and was killed; sealed by a second start.",
    "The cell was killed before it could seal; sealed by a second start.",
    "The cell was stopped from outside.",
    "The job was cancelled.",
    "The job was stopped.",
    "The job met its deadline.",
    "The job got no slot in the time that it may wait (`[limits] queue_seconds`).",
    "Nothing happened for as long as a job may be idle (`[limits] idle_seconds`).",
    "Codex was stopped (SIGSTOP) for as long as a job may be idle (`[limits] idle_seconds`).",
    "The job used up its token budget.",
    "The job made as many model requests as one may (`[limits] requests`).",
    "The job sent too many requests that the gateway's policy refuses (`[limits] denials`).",
    "The tokens of all jobs reached the gateway's ceiling for today (`[gateway] tokens_per_day`).",
    "The job wrote more than its disk limit.",
    "The job made more files than its limit.",
    "The job nested directories too deep to be measured.",
    "The engine's disk is full.",
    "The engine's file system can take no more files.",
    "The slot was lost.",
    "The gateway could not be reached.",
    "The gateway cannot be reached.",
    "The gateway does not admit this job.",
    "The gateway went away and did not come back.",
    "The provider gave no answer in the time allowed for the first.",
    "The provider could not be reached.",
    "The provider refused the credential.",
    "The provider's quota is used up.",
    "The provider limits the rate.",
    "The provider does not serve this model.",
    "The provider answered with a server error.",
    "The provider's answers broke off or were none.",
    "The provider refused the request.",
    "A process of the agent could not be killed, so the workspace may still change.",
    "The job failed.",
];

/// Whether a text consists of [`SENTENCES`], and of those that name an exit code or a signal.
pub fn is_our_sentence(detail: &str) -> bool {
    let numbered = |rest: &str, start: &str| {
        let number = rest.strip_prefix(start)?;
        let digits = number.bytes().take_while(u8::is_ascii_digit).count();
        (1..=3).contains(&digits).then(|| number.get(digits..)?.strip_prefix('.')).flatten().map(str::len)
    };
    let mut rest = detail.trim();
    while !rest.is_empty() {
        let known = SENTENCES.iter().find_map(|sentence| rest.strip_prefix(sentence)).map(str::len);
        let left = known.or_else(|| numbered(rest, "Codex exited with code ")).or_else(|| numbered(rest, "Codex was killed by signal "));
        let Some(left) = left else { return false };
        rest = rest.get(rest.len() - left..).unwrap_or_default().trim_start();
    }
    true
}

/// A word of a seal, if it is one that a seal may say; a cell that was taken over could write anything.
pub fn known(word: &str, words: &[&'static str]) -> &'static str {
    words.iter().find(|known| **known == word).copied().unwrap_or("other")
}

/// What the seal covers. "No changes" is said only with `complete` and `changed == 0`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seal {
    /// The whole workspace was walked and compared with the manifest.
    pub complete: bool,
    /// Files and links found in the workspace; `.git` at the top and what is ignored left out.
    pub files: u64,
    /// Records in `changes`.
    pub changed: u64,
    /// SHA-256 of `changes`, hex.
    pub changes_sha256: String,
    /// How many paths were left out.
    pub refused_count: u64,
    /// The first 200 of them.
    pub refused: Vec<Refused>,
    /// How many changed files lost something that a patch cannot carry, though their content is in `changes` or unchanged.
    #[serde(default)]
    pub altered_count: u64,
    /// The first 100 of them.
    #[serde(default)]
    pub altered: Vec<Refused>,
    /// New paths that the base's own ignore rules exclude: not in `changes`. A directory counts once, for all that is in it.
    #[serde(default)]
    pub ignored_count: u64,
    /// The first 100 of them: bytes in base64, shortened to 4 KiB; directories with a slash at the end.
    #[serde(default)]
    pub ignored: Vec<String>,
    /// The rules were not used to the end (then more is in `changes`): `too_large`, `too_many`, `too_complex`, `too_slow`, `unreadable`.
    #[serde(default)]
    pub rules_stopped: Option<String>,
}

/// What Codex said and did, as far as `init` saw it. Strings here are hostile.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CodexReport {
    /// Exit code, where it exited.
    pub exit_code: Option<i32>,
    /// Signal, where one ended it.
    pub signal: Option<i32>,
    /// The thread id of `thread.started`.
    pub thread_id: Option<String>,
    /// The sum in `turn.completed`.
    pub usage: Option<Usage>,
    /// The last `error` or `turn.failed` message, at most 2 kB.
    pub error: Option<String>,
    /// Events seen.
    pub events: u64,
    /// Unix milliseconds of the last event.
    pub last_event_unix_ms: Option<u64>,
    /// Whether `turn.completed` was seen.
    pub turn_completed: bool,
    /// Bytes of events that were dropped between head and tail of `events.jsonl`.
    pub events_dropped_bytes: u64,
    /// Codex could not start its code-mode host: no tool could have run (see the facts about Codex 0.169).
    pub code_mode_host_failed: bool,
}

/// `/job/out/result.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealedResult {
    /// [`super::PROTOCOL_VERSION`].
    pub version: u32,
    /// 32 hex digits.
    pub job_id: String,
    /// Why it ended.
    pub reason: Reason,
    /// One sentence of ours on how it ended; never a job's words.
    pub detail: String,
    /// For `failed`: a [`crate::error::Code`] in text form.
    pub detail_code: Option<String>,
    /// SHA-256 of the manifest that was unpacked, hex.
    pub manifest_sha256: String,
    /// Milliseconds of each part.
    pub timings: Timings,
    /// What Codex said.
    pub codex: CodexReport,
    /// The provider's last failure, from the gateway.
    pub provider_error: Option<ProviderError>,
    /// Successful model answers, as the gateway counted them.
    pub answers: u64,
    /// What the seal covers.
    pub seal: Seal,
    /// Sealed by a second start, because the first one died.
    pub resealed: bool,
}

impl SealedResult {
    /// Upper bound for the document's size when it is read.
    pub const MAX_BYTES: u64 = 4 << 20;
}

/// A path in base64, shortened to 4 KiB.
pub fn encoded_path(path: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(&path[..path.len().min(4096)])
}

/// A path for [`Refused`], bounded.
pub fn refused(path: &[u8], kind: &str, why: &str) -> Refused {
    Refused { path_base64: encoded_path(path), kind: Some(kind.to_owned()), why: why.to_owned() }
}
