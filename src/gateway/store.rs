//! The gateway's private volume: one file per job, one per credential, each replaced by rename.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::limits::Instances;
use super::revoked::Revoked;
use super::secret::Secret;
use crate::error::{Error, Result};
use crate::protocol::admin::{Ceilings, JobBounds, JobTelemetry, Stay, Upstream};
use crate::protocol::connection::StopCode;
use crate::protocol::manifest::hex;
use crate::protocol::result::{ProviderError, Usage};

/// What is kept about a job; the pass only as its digest, the credential not at all.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JobRecord {
    /// [`crate::protocol::PROTOCOL_VERSION`].
    pub version: u32,
    /// 32 hex digits.
    pub job_id: String,
    /// SHA-256 of the pass, hex.
    pub pass_sha256: String,
    /// Where its requests go.
    pub upstream: Upstream,
    /// Models that it may name.
    pub allowed_models: Vec<String>,
    /// Tokens; 0: no budget.
    pub token_budget: u64,
    /// Unix seconds after which the pass is dead.
    pub expires_unix: u64,
    /// Whose job it is.
    pub instance: String,
    /// Recorded once at delivery.
    pub manifest_sha256: Option<String>,
    /// Stands for the job at the provider; random.
    pub cache_key: String,
    /// Whether it holds, or held when the gateway stopped, a slot.
    pub holds_slot: bool,
    /// The number of its place among those who wait for a slot: who comes back after a restart of the gateway stands where it stood.
    #[serde(default)]
    pub place: Option<u64>,
    /// Requests that came in.
    pub requests: u64,
    /// Requests that were refused.
    pub refused: u64,
    /// Answers of the provider.
    pub answers: u64,
    /// Tokens that the provider reported.
    pub usage: Usage,
    /// Tokens charged by estimate, for answers that broke off before the provider reported any.
    pub estimated_tokens: u64,
    /// The provider's last failure.
    pub last_error: Option<ProviderError>,
    /// Ceilings other than the budget.
    #[serde(default)]
    pub bounds: JobBounds,
    /// Tokens set aside for requests that are being sent or answered; what a gateway finds here when it starts is charged.
    #[serde(default)]
    pub reserved: u64,
    /// The ceiling that ended the job.
    #[serde(default)]
    pub stopped: Option<StopCode>,
    /// How long it is kept, and what it is.
    #[serde(default)]
    pub stay: Stay,
    /// Where to tell of its requests.
    #[serde(default)]
    pub telemetry: Option<JobTelemetry>,
    /// Under which further keys what the provider encrypted may come back: those of the jobs that this one goes on with.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub earlier_keys: Vec<String>,
    /// Who has the right to show its result and to remove it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claimed_by: Option<String>,
}

/// Tokens of all jobs at real providers on one day.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Day {
    /// Days since 1970, UTC.
    pub number: u64,
    /// Tokens that are spent.
    pub charged: u64,
    /// Tokens set aside for what is under way.
    pub reserved: u64,
}

impl JobRecord {
    /// Tokens against the budget.
    pub fn charged(&self) -> u64 {
        self.usage.total().saturating_add(self.estimated_tokens)
    }
}

/// What each instance brought of limits.
const INSTANCES: &str = "instances";
/// Jobs whose passes were revoked.
const REVOKED: &str = "revoked";
/// Largest job file that is read.
const MAX_RECORD: u64 = 1 << 20;

/// The directories below the volume's root.
pub struct Store {
    root: PathBuf,
}

impl Store {
    /// Opens the volume, making the directories where they are missing.
    pub fn open(root: &Path) -> Result<Self> {
        let fresh = !root.join("jobs").exists();
        for directory in [root.to_owned(), root.join("jobs"), root.join("credentials")] {
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&directory).map_err(|e| {
                Error::internal(format!("cannot make the directory {}", directory.display()))
                    .with_hint("the gateway's state volume must belong to the gateway's user")
                    .with_source(e)
            })?;
        }
        let store = Self { root: root.to_owned() };
        if fresh {
            store.put("born", &crate::fault::unix_ms())?;
        }
        Ok(store)
    }

    /// Unix milliseconds at which this state began; 0: not known, so long ago.
    pub fn born_unix_ms(&self) -> u64 {
        self.read("born").unwrap_or(0)
    }

    /// All job records; files that cannot be read are left where they are and reported by name.
    pub fn jobs(&self) -> Result<(Vec<JobRecord>, Vec<String>)> {
        let directory = self.root.join("jobs");
        let entries = std::fs::read_dir(&directory).map_err(|e| Error::internal(format!("cannot read {}", directory.display())).with_source(e))?;
        let (mut records, mut bad) = (Vec::new(), Vec::new());
        for entry in entries.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let Some(id) = name.strip_suffix(".json") else {
                // The rest of a write that a crash cut short.
                let _ = std::fs::remove_file(entry.path());
                continue;
            };
            let small = entry.metadata().is_ok_and(|m| m.is_file() && m.len() <= MAX_RECORD);
            let record = if small { std::fs::read(entry.path()).ok().and_then(|b| serde_json::from_slice::<JobRecord>(&b).ok()) } else { None };
            match record {
                Some(record) if record.job_id == id && record.version == crate::protocol::PROTOCOL_VERSION => records.push(record),
                _ => bad.push(name),
            }
        }
        Ok((records, bad))
    }

    /// Writes a job's record; with `durable` it has reached the disk when this returns.
    pub fn put_job(&self, record: &JobRecord, durable: bool) -> Result<()> {
        let bytes = serde_json::to_vec(record).map_err(|e| Error::internal("cannot write a job's record").with_source(e))?;
        self.replace(&self.root.join("jobs"), &format!("{}.json", record.job_id), &bytes, 0o600, durable)
    }

    /// Forgets a job.
    pub fn remove_job(&self, job_id: &str) -> Result<()> {
        remove(&self.root.join("jobs").join(format!("{job_id}.json")))
    }

    /// Keeps an upstream's credential.
    pub fn put_credential(&self, upstream: &str, secret: &Secret) -> Result<()> {
        self.replace(&self.root.join("credentials"), upstream, secret.expose().as_bytes(), 0o400, true)
    }

    /// An upstream's credential, if one is kept.
    pub fn credential(&self, upstream: &str) -> Option<Secret> {
        let path = self.root.join("credentials").join(upstream);
        if std::fs::metadata(&path).ok()?.len() > Secret::MAX_BYTES as u64 {
            return None;
        }
        Secret::new(std::fs::read_to_string(path).ok()?)
    }

    /// Keeps the number of slots.
    pub fn put_slots(&self, slots: usize) -> Result<()> {
        self.replace(&self.root, "slots", slots.to_string().as_bytes(), 0o600, false)
    }

    /// The number of slots that the last admission gave.
    pub fn slots(&self) -> Option<usize> {
        std::fs::read_to_string(self.root.join("slots")).ok()?.parse().ok()
    }

    /// Keeps the ceilings over all jobs.
    pub fn put_ceilings(&self, ceilings: &Ceilings) -> Result<()> {
        self.put("ceilings.json", ceilings)
    }

    /// The ceilings that the last admission gave.
    pub fn ceilings(&self) -> Ceilings {
        self.read("ceilings.json").unwrap_or_default()
    }

    /// Keeps the day's tokens.
    pub fn put_day(&self, day: &Day) -> Result<()> {
        self.put("day.json", day)
    }

    /// The tokens of the last day that was kept.
    pub fn day(&self) -> Day {
        self.read("day.json").unwrap_or_default()
    }

    fn put(&self, name: &str, value: &impl Serialize) -> Result<()> {
        let bytes = serde_json::to_vec(value).map_err(|e| Error::internal(format!("cannot write {name}")).with_source(e))?;
        self.replace(&self.root, name, &bytes, 0o600, false)
    }

    /// Keeps what each instance brought.
    pub fn put_instances(&self, instances: &Instances) -> Result<()> {
        self.put(INSTANCES, instances)
    }

    /// What each instance brought.
    pub fn instances(&self) -> Instances {
        self.read(INSTANCES).unwrap_or_default()
    }

    /// Keeps the last revocations.
    pub fn put_revoked(&self, revoked: &Revoked) -> Result<()> {
        self.put(REVOKED, revoked)
    }

    /// The last revocations.
    pub fn revoked(&self) -> Revoked {
        self.read(REVOKED).unwrap_or_default()
    }

    fn read<T: serde::de::DeserializeOwned>(&self, name: &str) -> Option<T> {
        serde_json::from_slice(&std::fs::read(self.root.join(name)).ok()?).ok()
    }

    fn replace(&self, directory: &Path, name: &str, bytes: &[u8], mode: u32, durable: bool) -> Result<()> {
        let temporary = directory.join(format!("{name}.new"));
        let write = || -> std::io::Result<()> {
            remove_quietly(&temporary);
            let mut file = OpenOptions::new().create_new(true).write(true).mode(mode).open(&temporary)?;
            file.write_all(bytes)?;
            if durable {
                file.sync_all()?;
            }
            std::fs::rename(&temporary, directory.join(name))?;
            if durable {
                File::open(directory)?.sync_all()?;
            }
            Ok(())
        };
        write().map_err(|e| {
            remove_quietly(&temporary);
            Error::internal(format!("cannot write below {}", self.root.display())).with_source(e)
        })
    }
}

fn remove_quietly(path: &Path) {
    let _ = std::fs::remove_file(path);
}

fn remove(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::internal(format!("cannot remove {}", path.display())).with_source(e)),
        _ => Ok(()),
    }
}

/// The name under which an upstream's credential is kept; `None` for one that needs none. The authorities are part of it: a credential goes only to
/// whom the certificates vouch for that it was delivered with.
pub fn upstream_name(upstream: &Upstream) -> Option<String> {
    match upstream {
        Upstream::Http { base_url, authorities } => {
            let mut digest = Sha256::new_with_prefix(base_url.as_bytes());
            if let Some(pem) = authorities {
                digest.update([0]);
                digest.update(pem.as_bytes());
            }
            Some(hex(digest.finalize().get(..16).unwrap_or_default()))
        }
        Upstream::Rehearsal => None,
    }
}
