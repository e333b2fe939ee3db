//! What a job's cell really was, put together from those who know: the engine, the gateway, the sealed result.
//!
//! Nothing here is taken from what was asked for, except where it says `recorded`. Digests are SHA-256 in hex.

use std::time::Duration;

use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::service::Core;
use super::status;
use super::{JobId, JobState, collect, gateway};
use crate::engine::{CellRecord, ContainerRef};
use crate::error::{Code, Result};
use crate::protocol::admin::{AdminRequest, AdminResponse, JobAccount};
use crate::protocol::ledger::Head;
use crate::protocol::manifest::hex;
use crate::protocol::result::{Reason, Usage};

/// What can be said about a job's containment and about what went in and out.
#[derive(Debug, Clone, Serialize)]
pub struct Attestation {
    /// Which job.
    pub job_id: JobId,
    /// Where it stands.
    pub state: JobState,
    /// Why it ended, once it has.
    pub reason: Option<Reason>,
    /// Version of Anchorhold that made the job.
    pub made_by: String,
    /// Version and sources of the program that says this.
    pub attested_by: Program,
    /// The engine.
    pub engine: EngineRecord,
    /// The job's image.
    pub image: ImageRecord,
    /// Its container, read back from the engine.
    pub cell: CellRecord,
    /// Whether the system calls go by the profile of this very build.
    pub own_seccomp: bool,
    /// What was recorded when the container was made: limits, specification digest, and what the engine could not enforce.
    pub recorded: serde_json::Value,
    /// The gateway; `None`: it is not there.
    pub gateway: Option<GatewayRecord>,
    /// What was delivered.
    pub input: InputRecord,
    /// What came out; `None`: not ended, or nothing can be said.
    pub output: Option<OutputRecord>,
    /// What could not be read, and why.
    pub unknown: Vec<String>,
}

/// A build of Anchorhold.
#[derive(Debug, Clone, Serialize)]
pub struct Program {
    /// Crate version.
    pub version: &'static str,
    /// Hash of its sources.
    pub build: &'static str,
}

/// An engine.
#[derive(Debug, Clone, Serialize)]
pub struct EngineRecord {
    /// Engine version.
    pub version: String,
    /// runc's version string.
    pub runc: String,
    /// Kernel.
    pub kernel: String,
    /// `1` or `2`.
    pub cgroup: String,
    /// The engine's own security options.
    pub security_options: Vec<String>,
}

/// An image.
#[derive(Debug, Clone, Serialize)]
pub struct ImageRecord {
    /// `sha256:…`
    pub id: String,
    /// Hash of the sources of the binary in it; `None`: the image is gone, or carries none.
    pub build: Option<String>,
}

/// A gateway and what it knows about the job.
#[derive(Debug, Clone, Serialize)]
pub struct GatewayRecord {
    /// Its container, read back from the engine.
    pub cell: CellRecord,
    /// Digest of the policy that is in force; empty: it cannot be asked.
    pub policy_sha256: String,
    /// The last line of its ledger, which stands for all before it.
    pub ledger_head: Head,
    /// Protections of the credential that this engine does not let it have.
    pub not_enforced: Vec<String>,
    /// What it counted for this job; `None`: it does not know the job any more.
    pub account: Option<JobAccount>,
}

/// What was delivered.
#[derive(Debug, Clone, Serialize)]
pub struct InputRecord {
    /// Digest of the manifest, as the gateway's ledger has it.
    pub manifest_sha256: Option<String>,
    /// Whether the manifest that lies in the job is that one; unknown until it has ended.
    pub manifest_verified: Option<bool>,
    /// HEAD of the repository.
    pub head: Option<String>,
    /// Whether tracked files differed from HEAD.
    pub dirty: bool,
}

/// What came out.
#[derive(Debug, Clone, Serialize)]
pub struct OutputRecord {
    /// Digest of the patch's exact bytes; `None`: there is none.
    pub patch_sha256: Option<String>,
    /// Its bytes.
    pub patch_bytes: u64,
    /// Nothing changed, proven by a sealed manifest.
    pub no_changes: bool,
    /// Paths that the seal or the collector left out.
    pub refused_count: u64,
    /// Tokens.
    pub usage: Usage,
    /// Who counted: `gateway` or `codex`.
    pub usage_source: &'static str,
}

/// Puts it together. Works at any time of a job's life; what is not known yet is said.
pub(super) async fn attest(core: &Core, id: &JobId) -> Result<Attestation> {
    let seen = status::observe(core, id).await?.ok_or_else(super::id::not_found)?;
    let labels = &seen.found.labels;
    let engine = core.engine().await?;
    let gateway_record = async {
        match gateway::look(&engine, &core.settings).await? {
            Some(facts) => engine.record(&ContainerRef::Id(facts.id)).await,
            None => Ok(None),
        }
    };
    let container = seen.found.container();
    let (cell, facts, gateway_cell, account) = tokio::join!(
        engine.record(&container),
        core.engine_facts(&engine),
        gateway_record,
        core.gateway.account(&engine, &core.settings, id.as_str()),
    );
    let cell = cell?.ok_or_else(super::id::not_found)?;
    let facts = facts?;
    let mut unknown = Vec::new();
    let image = match engine.inspect_image(&cell.image_id).await {
        Ok(Some(image)) => image.labels.get(super::readiness::LABEL_BUILD).cloned(),
        Ok(None) => {
            unknown.push("the job's image is no longer on the engine".to_owned());
            None
        }
        Err(e) => {
            unknown.push(format!("the job's image: {}", e.message));
            None
        }
    };
    let gateway_cell = gateway_cell?;
    if gateway_cell.is_none() {
        unknown.push("the gateway's container is not on the engine".to_owned());
    } else if account.is_none() {
        unknown.push("the gateway cannot be asked, or no longer knows the job".to_owned());
    }
    let status = core.gateway.request(&engine, &core.settings, &AdminRequest::Status, Duration::ZERO).await;
    let (policy_sha256, ledger_head, not_enforced) = match status {
        Ok(AdminResponse::Status { policy_sha256, ledger_head, not_enforced, .. }) => (policy_sha256, ledger_head, not_enforced),
        _ => Default::default(),
    };
    let ended = seen.derived.state.is_final();
    let harvest = if ended { Some(collect::collect(core, id).await) } else { None };
    let (output, manifest_verified) = match harvest {
        None => {
            unknown.push("the job has not ended, so nothing can be said about its result".to_owned());
            (None, None)
        }
        Some(Ok(harvest)) => {
            let result = harvest.result;
            let output = OutputRecord {
                patch_sha256: result.patch.as_ref().map(|patch| hex(&Sha256::digest(patch))),
                patch_bytes: result.patch.as_ref().map_or(0, |patch| patch.len() as u64),
                no_changes: result.no_changes,
                refused_count: result.refused_count,
                usage: result.usage,
                usage_source: result.usage_source,
            };
            (result.sealed.is_some().then_some(output), result.sealed.is_some().then_some(result.manifest_verified))
        }
        // A job that never ran has no result; whatever else is wrong with the result is no reason to hide the cell.
        Some(Err(e)) if e.code != Code::EngineUnavailable => {
            unknown.push(format!("the result: {}", e.message));
            (None, None)
        }
        Some(Err(e)) => return Err(e),
    };
    let profile = format!("sha256:{}", hex(&Sha256::digest(crate::engine::seccomp::profile())));
    Ok(Attestation {
        job_id: id.clone(),
        state: seen.derived.state,
        reason: seen.derived.reason,
        made_by: labels.version.clone(),
        attested_by: Program { version: env!("CARGO_PKG_VERSION"), build: crate::BUILD_ID },
        engine: EngineRecord {
            version: facts.version,
            runc: facts.runc_version,
            kernel: facts.kernel,
            cgroup: facts.cgroup_version,
            security_options: facts.security_options,
        },
        image: ImageRecord { id: cell.image_id.clone(), build: image },
        own_seccomp: cell.seccomp == profile,
        cell,
        recorded: labels.isolation.clone(),
        input: InputRecord {
            manifest_sha256: account.as_ref().and_then(|account| account.manifest_sha256.clone()),
            manifest_verified,
            head: labels.head.clone(),
            dirty: labels.dirty,
        },
        gateway: gateway_cell.map(|cell| GatewayRecord { cell, policy_sha256, ledger_head, not_enforced, account }),
        output,
        unknown,
    })
}
