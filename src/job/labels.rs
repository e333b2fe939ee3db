//! Every fact about a job that must outlive the process that started it, as labels of its container and volumes.
//!
//! Written and parsed here alone. A label never holds a credential, a pass or the task's text. Labels cannot be changed after
//! the container exists; what must be said later is said by a [tombstone](super::bury), whose labels carry [`Ended`].

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use base64::Engine as _;

use super::JobId;
use super::deliverer::Deliverer;
use crate::error::Code;
use crate::protocol::request::JobKind;
use crate::protocol::result::Reason;
use crate::telemetry::TraceContext;

/// The job's id, on its container and volumes.
pub const JOB: &str = "anchorhold.job";
/// `[engine] instance`: whose job it is.
pub const INSTANCE: &str = "anchorhold.instance";
/// SHA-256 of idempotency key, kind of job and workspace.
pub const IDEMPOTENCY: &str = "anchorhold.idempotency";
/// Unix milliseconds at which the job was made, by the engine's clock.
pub const CREATED: &str = "anchorhold.created";
/// The container's specification as JSON, on the job's own volume.
pub const SPEC: &str = "anchorhold.spec";

const KIND: &str = "anchorhold.kind";
const WORKSPACE: &str = "anchorhold.workspace";
const ROOT: &str = "anchorhold.root";
const HEAD: &str = "anchorhold.head";
const DIRTY: &str = "anchorhold.dirty";
const DEADLINE: &str = "anchorhold.deadline_seconds";
const QUEUE: &str = "anchorhold.queue_seconds";
const TTL: &str = "anchorhold.ttl_seconds";
const MODEL: &str = "anchorhold.model";
const UID: &str = "anchorhold.uid";
const VERSION: &str = "anchorhold.version";
const PREPARE_BY: &str = "anchorhold.prepare_by";
const IDEMPOTENCY_ARGS: &str = "anchorhold.idempotency_args";
const ISOLATION: &str = "anchorhold.isolation";
const REVIEW: &str = "anchorhold.review_sha256";
const CONTINUES: &str = "anchorhold.continues";
const PREVIOUS: &str = "anchorhold.previous_sha256";
const DELIVERER: &str = "anchorhold.deliverer";
const TRACEPARENT: &str = "anchorhold.traceparent";
const TRACESTATE: &str = "anchorhold.tracestate";
const ENDED: &str = "anchorhold.ended";
const ENDED_CODE: &str = "anchorhold.ended_code";
const ENDED_DETAIL: &str = "anchorhold.ended_detail";
const ENDED_AT: &str = "anchorhold.ended_at";
const RESTORED: &str = "anchorhold.restored";

/// A path that is not UTF-8 is written with this prefix; an absolute path never begins so.
const BASE64: &str = "base64:";
/// Longest detail that a tombstone carries, in characters.
const MAX_DETAIL: usize = 1_000;

/// How a job ended that never started: written on its tombstone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// Why.
    pub reason: Reason,
    /// The error that ended the delivery.
    pub code: Code,
    /// One or two sentences of ours.
    pub detail: String,
    /// Unix milliseconds.
    pub at_ms: u64,
}

/// The container was made again, upon the volumes that were left when somebody removed the first one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Restored {
    /// Upon both.
    Whole,
    /// The workspace's volume was gone.
    WithoutWorkspace,
}

impl Restored {
    fn as_str(self) -> &'static str {
        match self {
            Self::Whole => "whole",
            Self::WithoutWorkspace => "without_workspace",
        }
    }
}

/// A job's facts.
#[derive(Debug, Clone, PartialEq)]
pub struct JobLabels {
    /// Which job.
    pub id: JobId,
    /// Whose.
    pub instance: String,
    /// What kind of work.
    pub kind: JobKind,
    /// The directory it was started for, without links.
    pub workspace: PathBuf,
    /// Top of its working tree.
    pub root: PathBuf,
    /// HEAD at the start.
    pub head: Option<String>,
    /// Tracked files differed from HEAD.
    pub dirty: bool,
    /// Unix milliseconds at which it was made.
    pub created_ms: u64,
    /// Seconds from the slot to the deadline.
    pub deadline_seconds: u64,
    /// Seconds that it may wait for a slot.
    pub queue_seconds: u64,
    /// Seconds that it is kept after its end.
    pub ttl_seconds: u64,
    /// Model, where one was chosen.
    pub model: Option<String>,
    /// The agent's uid.
    pub uid: u32,
    /// Version of Anchorhold that made it.
    pub version: String,
    /// Unix seconds until which its delivery must be done.
    pub prepare_by: u64,
    /// [`IDEMPOTENCY`].
    pub idempotency: Option<String>,
    /// SHA-256 of the arguments.
    pub idempotency_args: Option<String>,
    /// What the engine enforces, and what it cannot.
    pub isolation: serde_json::Value,
    /// SHA-256 of the facts of a review ([`crate::review::Facts`]), which lie in the job itself.
    pub review_sha256: Option<String>,
    /// The job that it goes on with.
    pub continues: Option<JobId>,
    /// SHA-256 of that job's changes ([`crate::protocol::paths::PREVIOUS`]), which lie in this job.
    pub previous_sha256: Option<String>,
    /// The process that delivers it, where it could be told.
    pub deliverer: Option<Deliverer>,
    /// The caller's place in a trace.
    pub trace: Option<TraceContext>,
    /// It ended before it started.
    pub ended: Option<Ended>,
    /// Its container is not the first one.
    pub restored: Option<Restored>,
}

impl JobLabels {
    /// Where the delegation stands in its trace.
    pub fn trace(&self) -> TraceContext {
        TraceContext::of_job(self.id.as_str(), self.trace.as_ref())
    }

    /// The labels of the container and of its volumes: whichever of them is left tells the whole.
    pub fn write(&self) -> BTreeMap<String, String> {
        let mut map = BTreeMap::new();
        let mut put = |key: &str, value: String| {
            map.insert(key.to_owned(), value);
        };
        put(JOB, self.id.to_string());
        put(INSTANCE, self.instance.clone());
        put(CREATED, self.created_ms.to_string());
        put(KIND, self.kind.as_str().to_owned());
        put(WORKSPACE, write_path(&self.workspace));
        put(ROOT, write_path(&self.root));
        put(DIRTY, self.dirty.to_string());
        put(DEADLINE, self.deadline_seconds.to_string());
        put(QUEUE, self.queue_seconds.to_string());
        put(TTL, self.ttl_seconds.to_string());
        put(UID, self.uid.to_string());
        put(VERSION, self.version.clone());
        put(PREPARE_BY, self.prepare_by.to_string());
        put(ISOLATION, self.isolation.to_string());
        let optional = [
            (HEAD, &self.head),
            (MODEL, &self.model),
            (IDEMPOTENCY, &self.idempotency),
            (IDEMPOTENCY_ARGS, &self.idempotency_args),
            (REVIEW, &self.review_sha256),
            (PREVIOUS, &self.previous_sha256),
        ];
        for (key, value) in optional {
            if let Some(value) = value {
                put(key, value.clone());
            }
        }
        if let Some(continues) = &self.continues {
            put(CONTINUES, continues.to_string());
        }
        if let Some(deliverer) = &self.deliverer {
            put(DELIVERER, deliverer.write());
        }
        if let Some(trace) = &self.trace {
            put(TRACEPARENT, trace.header());
            if !trace.state().is_empty() {
                put(TRACESTATE, trace.state().to_owned());
            }
        }
        if let Some(ended) = &self.ended {
            put(ENDED, ended.reason.as_str().to_owned());
            put(ENDED_CODE, ended.code.as_str().to_owned());
            put(ENDED_DETAIL, ended.detail.chars().take(MAX_DETAIL).collect());
            put(ENDED_AT, ended.at_ms.to_string());
        }
        if let Some(restored) = self.restored {
            put(RESTORED, restored.as_str().to_owned());
        }
        map
    }

    /// Reads a container's labels; `None`: not a job of ours, or one that another version wrote in a form we do not know.
    pub fn parse(map: &BTreeMap<String, String>) -> Option<Self> {
        let text = |key: &str| map.get(key).map(String::as_str);
        let owned = |key: &str| map.get(key).cloned();
        let number = |key: &str| text(key).and_then(|value| value.parse::<u64>().ok());
        let kind = JobKind::parse(text(KIND)?)?;
        let ended = match text(ENDED) {
            None => None,
            Some(reason) => Some(Ended {
                reason: Reason::ALL.into_iter().find(|known| known.as_str() == reason)?,
                code: text(ENDED_CODE).and_then(super::failure::code_from_text).unwrap_or(Code::JobFailed),
                detail: owned(ENDED_DETAIL).unwrap_or_default(),
                at_ms: number(ENDED_AT)?,
            }),
        };
        Some(Self {
            id: text(JOB)?.parse().ok()?,
            instance: owned(INSTANCE)?,
            kind,
            workspace: read_path(text(WORKSPACE)?)?,
            root: read_path(text(ROOT)?)?,
            head: owned(HEAD),
            dirty: text(DIRTY)? == "true",
            created_ms: number(CREATED)?,
            deadline_seconds: number(DEADLINE)?,
            queue_seconds: number(QUEUE)?,
            ttl_seconds: number(TTL)?,
            model: owned(MODEL),
            uid: u32::try_from(number(UID)?).ok()?,
            version: owned(VERSION)?,
            prepare_by: number(PREPARE_BY)?,
            idempotency: owned(IDEMPOTENCY),
            idempotency_args: owned(IDEMPOTENCY_ARGS),
            review_sha256: owned(REVIEW),
            continues: match text(CONTINUES) {
                None => None,
                Some(id) => Some(id.parse().ok()?),
            },
            previous_sha256: owned(PREVIOUS),
            // One that cannot be read is none: it says nothing about the job.
            trace: text(TRACEPARENT).and_then(|parent| TraceContext::parse(parent, text(TRACESTATE))),
            isolation: serde_json::from_str(text(ISOLATION)?).ok()?,
            deliverer: text(DELIVERER).and_then(Deliverer::parse),
            ended,
            restored: match text(RESTORED) {
                None => None,
                Some(said) => Some([Restored::Whole, Restored::WithoutWorkspace].into_iter().find(|known| known.as_str() == said)?),
            },
        })
    }

    /// Unix milliseconds after which the job has ended whatever happens.
    pub fn latest_end_ms(&self) -> u64 {
        self.prepare_by.saturating_add(self.queue_seconds).saturating_add(self.deadline_seconds).saturating_mul(1000)
    }
}

fn write_path(path: &Path) -> String {
    use std::os::unix::ffi::OsStrExt as _;
    match path.to_str() {
        Some(text) => text.to_owned(),
        None => format!("{BASE64}{}", base64::engine::general_purpose::STANDARD.encode(path.as_os_str().as_bytes())),
    }
}

fn read_path(text: &str) -> Option<PathBuf> {
    use std::os::unix::ffi::OsStringExt as _;
    match text.strip_prefix(BASE64) {
        Some(coded) => Some(std::ffi::OsString::from_vec(base64::engine::general_purpose::STANDARD.decode(coded).ok()?).into()),
        None => Some(text.into()),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::job) fn sample() -> JobLabels {
        JobLabels {
            id: "00112233445566778899aabbccddeeff".parse().unwrap(),
            instance: "default".into(),
            kind: JobKind::Delegate,
            workspace: "/repo/sub".into(),
            root: "/repo".into(),
            head: Some("a".repeat(40)),
            dirty: true,
            created_ms: 1_000_000,
            deadline_seconds: 1800,
            queue_seconds: 600,
            ttl_seconds: 86_400,
            model: Some("gpt-5.5".into()),
            uid: 20001,
            version: "0.1.0".into(),
            prepare_by: 2_000,
            idempotency: Some("k".repeat(64)),
            idempotency_args: Some("a".repeat(64)),
            isolation: serde_json::json!({"network": "none"}),
            review_sha256: None,
            continues: None,
            previous_sha256: None,
            deliverer: Deliverer::this(),
            trace: TraceContext::parse("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", Some("a=b")),
            ended: None,
            restored: None,
        }
    }

    #[test]
    fn labels_round_trip() {
        use std::os::unix::ffi::OsStringExt as _;
        let full = sample();
        assert_eq!(JobLabels::parse(&full.write()), Some(full.clone()));
        let bare = JobLabels {
            deliverer: None,
            trace: None,
            head: None,
            model: None,
            idempotency: None,
            idempotency_args: None,
            dirty: false,
            ..full.clone()
        };
        assert_eq!(JobLabels::parse(&bare.write()), Some(bare));
        for kind in JobKind::ALL {
            let other = JobLabels { kind, review_sha256: (kind == JobKind::Review).then(|| "f".repeat(64)), ..full.clone() };
            assert_eq!(JobLabels::parse(&other.write()), Some(other));
        }
        let continues = "ffeeddccbbaa99887766554433221100".parse().ok();
        let later = JobLabels { continues, previous_sha256: Some("e".repeat(64)), ..full.clone() };
        assert_eq!(JobLabels::parse(&later.write()), Some(later));
        let odd = JobLabels { workspace: std::ffi::OsString::from_vec(b"/caf\xe9".to_vec()).into(), ..full.clone() };
        assert_eq!(JobLabels::parse(&odd.write()), Some(odd));
        let ended = Ended { reason: Reason::Cancelled, code: Code::JobCancelled, detail: "cancelled before it started".into(), at_ms: 5 };
        let buried = JobLabels { ended: Some(ended), ..full.clone() };
        assert_eq!(JobLabels::parse(&buried.write()), Some(buried));
        for restored in [Restored::Whole, Restored::WithoutWorkspace] {
            let restored = JobLabels { restored: Some(restored), ..full.clone() };
            assert_eq!(JobLabels::parse(&restored.write()), Some(restored));
        }
    }

    #[test]
    fn foreign_or_damaged_labels_are_no_job() {
        let full = sample().write();
        assert_eq!(JobLabels::parse(&BTreeMap::new()), None);
        for key in [JOB, INSTANCE, KIND, WORKSPACE, CREATED, PREPARE_BY, ISOLATION, UID] {
            let mut map = full.clone();
            map.remove(key);
            assert_eq!(JobLabels::parse(&map), None, "{key}");
        }
        for (key, value) in [(JOB, "../x"), (KIND, "mine"), (CREATED, "-1"), (UID, "99999999999"), (ISOLATION, "{"), (CONTINUES, "x")] {
            let mut map = full.clone();
            map.insert(key.into(), value.into());
            assert_eq!(JobLabels::parse(&map), None, "{key}");
        }
    }
}
