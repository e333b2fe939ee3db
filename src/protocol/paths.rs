//! Where things lie inside the containers.

/// The agent's working tree: root of one volume, owned by the agent's uid.
pub const WORKSPACE: &str = "/workspace";
/// Root of the job's second volume; mode 0711, owned by root.
pub const JOB: &str = "/job";
/// What the host delivered; root only (0700).
pub const JOB_IN: &str = "/job/in";
/// The request, with the pass; never downloaded.
pub const REQUEST: &str = "/job/in/request.json";
/// What a collector downloads again: the manifest and the snapshot summary.
pub const FACTS: &str = "/job/in/facts";
/// The manifest of the delivered workspace.
pub const MANIFEST: &str = "/job/in/facts/manifest";
/// The snapshot summary (JSON, [`crate::workspace::SnapshotSummary`]).
pub const SNAPSHOT: &str = "/job/in/facts/snapshot.json";
/// The change under review and what of it is shown (JSON, [`crate::review::Facts`]); in reviews alone.
pub const REVIEW_FACTS: &str = "/job/in/facts/review.json";
/// The diff under review, as delivered; in reviews alone.
pub const DELIVERED_DIFF: &str = "/job/in/change.diff";
/// The changes of the job that is continued ([`super::changes`]): what the working tree has beyond the manifest before Codex starts. Downloaded again for
/// the difference to that job's end.
pub const PREVIOUS: &str = "/job/in/previous";
/// The conversation that is continued, as Codex keeps it; opaque.
pub const DELIVERED_SESSION: &str = "/job/in/session.jsonl";
/// The zstd frames, `00000.zst` …; see [`crate::protocol::manifest`].
pub const FRAMES: &str = "/job/in/frames";
/// What `init` remembers over a restart of the container; root only.
pub const JOB_STATE: &str = "/job/state";
/// Put there before a second start where the engine says that the first one was killed for memory: inside, nobody is left who knows.
pub const KILLED_FOR_MEMORY: &str = "killed_for_memory";
/// What was sealed; root only, and complete only when `result.json` is there (it is renamed into place last).
pub const JOB_OUT: &str = "/job/out";
/// The conversation as it was when the job ended: root's, apart from [`JOB_OUT`], because only a continuation asks for it.
pub const SESSION: &str = "/job/session";
/// It itself.
pub const SESSION_FILE: &str = "/job/session/rollout.jsonl";
/// Longest conversation that is kept and can be gone on with, in bytes.
pub const MAX_SESSION: u64 = 64 << 20;
/// The cell's `passwd` and `group`, to which the image's names are links; root's, readable by all.
pub const NAMES: &str = "/job/etc";
/// What a reviewer reads beside the workspace: root's, so that the agent can neither change nor exchange it.
pub const REVIEW: &str = "/job/review";
/// The diff under review; readable by all.
pub const DIFF: &str = "/job/review/change.diff";
/// The form of the answer, for Codex; readable by all.
pub const SCHEMA: &str = "/job/review/schema.json";
/// Where a reviewer notes each finding as it goes, one JSON object a line: in HOME, so that it counts against the disk limit.
pub const NOTES: &str = "/job/home/findings.jsonl";
/// The agent's HOME, on the job volume outside the workspace, owned by the agent.
pub const HOME: &str = "/job/home";
/// The agent's CODEX_HOME.
pub const CODEX_HOME: &str = "/job/home/.codex";
/// Where the gateway's socket volume is mounted: read-only in jobs, writable in the gateway.
pub const SOCKET_DIR: &str = "/run/anchorhold";
/// The socket that jobs reach: mode 0660, group root, in a directory that only root's group may enter.
pub const SOCKET: &str = "/run/anchorhold/gateway.sock";
/// The gateway's private volume: passes, ledger, credentials, control socket.
pub const GATEWAY_STATE: &str = "/var/lib/anchorhold";
/// The gateway's control socket, reached only by an engine exec in the gateway container.
pub const GATEWAY_ADMIN_SOCKET: &str = "/var/lib/anchorhold/admin.sock";
/// Our binary in the image.
pub const BINARY: &str = "/usr/local/bin/anchorhold";
/// The real Codex CLI in the image; `codex-code-mode-host` lies beside it.
pub const CODEX: &str = "/opt/codex/bin/codex";
/// What Codex writes into an empty CODEX_HOME; copied into each cell where the image has it.
pub const CODEX_HOME_TEMPLATE: &str = "/opt/codex/home";
/// Where Codex's own ripgrep lies.
pub const CODEX_PATH: &str = "/opt/codex/codex-path";

/// Names inside `/job/out`.
pub mod out {
    /// [`crate::protocol::result::SealedResult`] as JSON; written last, by rename.
    pub const RESULT: &str = "result.json";
    /// [`crate::protocol::changes`].
    pub const CHANGES: &str = "changes";
    /// Codex's events, bounded: head and tail are kept.
    pub const EVENTS: &str = "events.jsonl";
    /// Codex's last message, bounded.
    pub const LAST_MESSAGE: &str = "last_message";
    /// What a reviewer noted on its way, bounded; in reviews alone.
    pub const NOTES: &str = "findings.jsonl";
    /// Codex's standard error, bounded.
    pub const STDERR: &str = "stderr.log";
}
