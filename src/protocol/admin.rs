//! The gateway's control: JSON lines over an engine exec of `anchorhold gateway admin`, which relays its standard input and
//! output to the control socket. Only those who hold the engine can speak it. One request a line, one response a line,
//! in order; a session may stay open for many.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::connection::StopCode;
use super::ledger::{Head, LedgerFile};
use super::result::{ProviderError, Usage};

/// Where a job's model requests go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Upstream {
    /// A Responses-compatible service: `{base_url}/responses`.
    Http {
        /// `https://…`, or `http://` on loopback only.
        base_url: String,
        /// Certificates (PEM) of the authorities to trust for it, in place of those that the image knows; at most [`MAX_AUTHORITIES`] bytes.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        authorities: Option<String>,
    },
    /// The built-in scripted model.
    Rehearsal,
}

/// What a job may do. Admitting the same job again replaces its limits and keeps its counts.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Admission {
    /// 32 hex digits.
    pub job_id: String,
    /// SHA-256 of the pass's 64 hex digits, hex.
    pub pass_sha256: String,
    /// Where its requests go.
    pub upstream: Upstream,
    /// The credential for that upstream; kept once per upstream in the gateway's private volume. `None` keeps what is there.
    pub credential: Option<String>,
    /// Models that it may name; empty: any well-formed one.
    pub allowed_models: Vec<String>,
    /// Token budget, input and output together; 0: none.
    pub token_budget: u64,
    /// Unix seconds after which the pass is dead whatever happens.
    pub expires_unix: u64,
    /// The engine-wide number of slots, as [`GatewayLimits::slots`].
    pub max_running_jobs: u32,
    /// Whose it is: `[engine] instance`.
    pub instance: String,
    /// Further ceilings of this job.
    #[serde(default)]
    pub bounds: JobBounds,
    /// What holds for all jobs together, as [`GatewayLimits::ceilings`].
    #[serde(default)]
    pub ceilings: Ceilings,
    /// How long it counts as a job, and what it is.
    #[serde(default)]
    pub stay: Stay,
    /// Unix milliseconds at which the settings behind both were read; see [`Bringer::read_ms`].
    #[serde(default)]
    pub settings_read_ms: u64,
    /// Where to tell of its requests, and as part of which trace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub telemetry: Option<JobTelemetry>,
    /// The job that it goes on with: what that one's answers held encrypted, this one may give back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub continues: Option<String>,
}

/// Where what is seen of a job goes, and where it stands in its trace. Nothing of it ever goes to a provider.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JobTelemetry {
    /// Base URL of a collector; empty: none.
    pub otlp_endpoint: String,
    /// The delegation's own span, in the form of W3C trace context.
    pub traceparent: String,
    /// The caller's; empty: none.
    pub tracestate: String,
}

/// What holds for all jobs of a gateway together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GatewayLimits {
    /// Jobs that may run at once; at least 1.
    pub slots: u32,
    /// Ceilings over all jobs.
    pub ceilings: Ceilings,
}

/// Whose settings limits come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bringer {
    /// `[engine] instance`.
    pub instance: String,
    /// Unix milliseconds at which the process read its settings: older ones of the same instance change nothing back.
    pub read_ms: u64,
}

/// How long a job's pass and the word of it are kept, and what is to be told of it when somebody has removed it from the engine.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Stay {
    /// Seconds from the admission to the end of the pass; 0: [`Admission::expires_unix`] alone counts. A span, so that neither the client's clock nor a
    /// step of the gateway's own can cut a running job off.
    pub pass_seconds: u64,
    /// Seconds that the record stays after the pass is dead: until the job's result would be thrown away as well.
    pub record_seconds: u64,
    /// The labels of its container; nothing secret is in them.
    pub labels: BTreeMap<String, String>,
    /// The digest of the caller's idempotency key, where there is one.
    pub key: Option<String>,
}

/// Most bytes of [`Stay::labels`], keys and values together.
pub const MAX_LABELS: usize = 64 << 10;

/// Ceilings of one job; 0: none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct JobBounds {
    /// Model requests.
    pub requests: u64,
    /// Requests refused by policy; one more ends the job.
    pub denials: u64,
    /// Tokens of one answer, where tokens are counted against a budget.
    pub output_tokens: u64,
    /// Seconds from a request sent to the head of its answer.
    pub answer_seconds: u64,
    /// Seconds without an event in the middle of an answer.
    pub idle_seconds: u64,
}

impl Default for JobBounds {
    fn default() -> Self {
        Self { requests: 10_000, denials: 20, output_tokens: 32_768, answer_seconds: 300, idle_seconds: 240 }
    }
}

/// Ceilings over all jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Ceilings {
    /// Tokens of a day (UTC) at real providers; 0: no ceiling.
    pub tokens_per_day: u64,
    /// Model requests under way.
    pub requests: u32,
    /// Connections.
    pub connections: u32,
}

impl Default for Ceilings {
    fn default() -> Self {
        Self { tokens_per_day: 0, requests: 64, connections: 1024 }
    }
}

/// A control request.
#[expect(clippy::large_enum_variant, reason = "one is made and sent at a time")]
#[derive(Clone, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case", deny_unknown_fields)]
pub enum AdminRequest {
    /// Says hello: the gateway answers with [`AdminResponse::Status`].
    Status,
    /// Admits a job.
    Admit(Admission),
    /// Brings what holds for all jobs together; answered with [`AdminResponse::Status`].
    Limits {
        /// The limits.
        limits: GatewayLimits,
        /// Whose settings they are: in force only where they are new. `None`: somebody asked for just this.
        by: Option<Bringer>,
    },
    /// Records the digest of what was delivered; once recorded it cannot be changed.
    RecordManifest {
        /// 32 hex digits.
        job_id: String,
        /// Hex.
        manifest_sha256: String,
    },
    /// Forgets a job's pass, cuts its connections, keeps its ledger lines.
    Revoke {
        /// 32 hex digits.
        job_id: String,
    },
    /// Gives one process the right to show a job's result and to remove the job; answered with [`AdminResponse::Claim`], which says who has it. It is
    /// given where nobody has it, or whom `instead_of` names.
    Claim {
        /// 32 hex digits.
        job_id: String,
        /// Who asks: one line, at most [`MAX_CLAIMANT`] bytes, another one for each attempt.
        by: String,
        /// Whose claim is over, as an answer named them.
        instead_of: Option<String>,
    },
    /// Gives the right back; nothing where somebody else has it.
    Unclaim {
        /// 32 hex digits.
        job_id: String,
        /// Who had it.
        by: String,
    },
    /// What the gateway knows about a job.
    Job {
        /// 32 hex digits.
        job_id: String,
    },
    /// The files of the ledger and its last line.
    LedgerFiles,
    /// A piece of the ledger, at most [`LEDGER_PIECE`] bytes.
    LedgerRead {
        /// Which file.
        first_seq: u64,
        /// Bytes of the file before the piece.
        offset: u64,
    },
    /// Whether an idempotency key named a job that is gone, within its retention time.
    Key {
        /// Whose key.
        instance: String,
        /// The key's digest.
        key: String,
    },
    /// The gateway's own numbers.
    Stats,
    /// Ids of the jobs that are admitted and were not revoked, whether their passes are alive or not.
    Jobs {
        /// Only those of this instance.
        instance: String,
    },
}

/// What the gateway knows about a job; unlike anything from the job itself, this is to be trusted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobAccount {
    /// Recorded at delivery.
    pub manifest_sha256: Option<String>,
    /// Requests that came in.
    pub requests: u64,
    /// Requests that were refused by policy.
    pub refused: u64,
    /// Answers of the provider.
    pub answers: u64,
    /// Tokens, as the provider reported them.
    pub usage: Usage,
    /// The provider's last failure.
    pub last_error: Option<ProviderError>,
    /// Place in the queue, if it waits.
    pub queue_position: Option<u64>,
    /// Whether it holds a slot.
    pub running: bool,
    /// Digest of the policy that is in force.
    #[serde(default)]
    pub policy_sha256: String,
    /// The ledger's last line.
    #[serde(default)]
    pub ledger_head: Head,
    /// Tokens that count against its budget: those reported, and the reservations of requests whose usage never came.
    #[serde(default)]
    pub charged_tokens: u64,
    /// Tokens set aside for requests under way.
    #[serde(default)]
    pub reserved_tokens: u64,
    /// Its budget; 0: none.
    #[serde(default)]
    pub token_budget: u64,
    /// The ceiling that ended it.
    #[serde(default)]
    pub stopped: Option<StopCode>,
    /// [`Stay::labels`].
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
}

/// The gateway in numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GatewayStats {
    /// Crate version.
    pub version: String,
    /// Seconds since it started.
    pub uptime_seconds: u64,
    /// Memory of its process that is in use; 0: the system does not say.
    pub resident_bytes: u64,
    /// Slots there are.
    pub slots: u64,
    /// Slots in use.
    pub running: u64,
    /// Jobs that wait.
    pub queued: u64,
    /// Jobs whose passes are held.
    pub passes: u64,
    /// Connections of jobs.
    pub connections: u64,
    /// Model requests under way.
    pub requests_under_way: u64,
    /// Model requests that have ended since it started.
    pub requests: u64,
    /// Of these, refused by the policy.
    pub refusals: u64,
    /// Of these, failed at the provider.
    pub provider_failures: u64,
    /// Tokens charged or set aside today (UTC) at real providers.
    pub tokens_today: u64,
    /// The ledger's last line.
    pub ledger_head: Head,
}

/// A control response.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum AdminResponse {
    /// Done.
    Ok,
    /// The gateway's own state.
    Status {
        /// Crate version of the gateway.
        version: String,
        /// [`super::PROTOCOL_VERSION`].
        protocol: u32,
        /// Slots in use.
        running: u32,
        /// Jobs that wait.
        queued: u32,
        /// Slots there are.
        slots: u32,
        /// Digest of the policy that is in force.
        #[serde(default)]
        policy_sha256: String,
        /// The ledger's last line.
        #[serde(default)]
        ledger_head: Head,
        /// Model requests under way.
        #[serde(default)]
        under_way: u32,
        /// Tokens charged or set aside today (UTC) at real providers.
        #[serde(default)]
        tokens_today: u64,
        /// The ceilings in force.
        #[serde(default)]
        ceilings: Ceilings,
        /// Protections of the credential that this engine does not let it have.
        #[serde(default)]
        not_enforced: Vec<String>,
    },
    /// The gateway's own numbers.
    Stats(GatewayStats),
    /// A job's account.
    Job(JobAccount),
    /// Who has the right to a job's result now.
    Claim {
        /// [`AdminRequest::Claim::by`] of whoever has it.
        by: String,
        /// Milliseconds for which they have had it, by a clock that nobody sets; counted from the gateway's start where it was given before that.
        age_ms: u64,
    },
    /// The ledger's files, oldest first, at the moment at which `head` was its last line.
    LedgerFiles {
        /// All that are kept.
        files: Vec<LedgerFile>,
        /// The last line.
        head: Head,
    },
    /// A piece of the ledger.
    LedgerPiece {
        /// Base64.
        base64: String,
    },
    /// Whether the key is used up.
    Key {
        /// It is: its job was removed.
        used_up: bool,
    },
    /// Job ids.
    Jobs {
        /// 32 hex digits each.
        job_ids: Vec<String>,
        /// Unix milliseconds at which the gateway's state began: of jobs from before it knows nothing. 0: it knows all.
        #[serde(default)]
        since_unix_ms: u64,
        /// Jobs whose passes were revoked last, of all instances.
        #[serde(default)]
        revoked: Vec<String>,
    },
    /// The request failed.
    Error {
        /// `unknown_job`, `invalid`, `conflict`, `internal`.
        code: String,
        /// One sentence.
        message: String,
    },
}

/// Most bytes of an upstream's authorities, as PEM.
pub const MAX_AUTHORITIES: usize = 64 << 10;

/// Most bytes of who claims a job.
pub const MAX_CLAIMANT: usize = 256;

/// Most bytes of the ledger in one answer.
pub const LEDGER_PIECE: u64 = 512 << 10;

/// Longest line in either direction.
pub const MAX_LINE: usize = 1 << 20;
