//! The control socket: JSON lines from those who hold the engine.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio_util::sync::CancellationToken;
use zeroize::Zeroize as _;

use super::fingerprint::policy_sha256;
use super::policy::well_formed_model;
use super::registry::Registry;
use super::secret::Secret;
use super::store::JobRecord;
use crate::error::Error;
use crate::protocol::PROTOCOL_VERSION;
use crate::protocol::admin::{
    AdminRequest, AdminResponse, Admission, Bringer, GatewayLimits, LEDGER_PIECE, MAX_AUTHORITIES, MAX_CLAIMANT, MAX_LABELS, MAX_LINE, Upstream,
};
use crate::protocol::manifest::hex;
use crate::protocol::result::Usage;

/// Jobs that may be admitted at once.
const MAX_JOBS: usize = 20_000;

/// Serves one control connection until it is closed.
pub async fn serve(stream: UnixStream, registry: Arc<Registry>, stop: CancellationToken) {
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::new(reader);
    loop {
        let mut line = Vec::new();
        let mut bounded = (&mut reader).take(MAX_LINE as u64);
        let read = tokio::select! {
            read = bounded.read_until(b'\n', &mut line) => read,
            () = stop.cancelled() => return,
        };
        match read {
            Ok(1..) if line.ends_with(b"\n") => {}
            Ok(1..) if line.len() >= MAX_LINE => {
                line.zeroize();
                let _ = write(&mut writer, &error("invalid", "the line is too long")).await;
                return;
            }
            _ => {
                line.zeroize();
                return;
            }
        }
        let registry = registry.clone();
        // Admissions reach the disk before they are answered; that is nothing for the threads that stream.
        let response = tokio::task::spawn_blocking(move || {
            // The parser's own message could repeat a piece of the credential.
            let request = serde_json::from_slice::<AdminRequest>(&line).map_err(|e| format!("not a request (column {})", e.column()));
            line.zeroize();
            match request {
                Ok(request) => answer(&registry, request),
                Err(why) => error("invalid", why),
            }
        })
        .await
        .unwrap_or_else(|_| error("internal", "the request failed"));
        if write(&mut writer, &response).await.is_err() {
            return;
        }
    }
}

async fn write(writer: &mut tokio::net::unix::OwnedWriteHalf, response: &AdminResponse) -> std::io::Result<()> {
    let mut line = serde_json::to_vec(response)?;
    line.push(b'\n');
    writer.write_all(&line).await
}

fn error(code: &str, message: impl Into<String>) -> AdminResponse {
    AdminResponse::Error { code: code.to_owned(), message: message.into() }
}

fn internal(e: &crate::error::Error) -> AdminResponse {
    tracing::error!(error = %e.chain(), "a control request failed");
    error("internal", e.chain())
}

fn unknown() -> AdminResponse {
    error("unknown_job", "no such job is admitted")
}

/// Carries out one request.
pub fn answer(registry: &Registry, request: AdminRequest) -> AdminResponse {
    match request {
        AdminRequest::Status => status(registry),
        AdminRequest::Limits { limits, by } => {
            if !sound(&limits) || by.as_ref().is_some_and(|by| !well_named(&by.instance)) {
                return error("invalid", "limits that let nothing pass, or no instance");
            }
            match registry.bring_limits(limits, by.as_ref()) {
                Ok(()) => status(registry),
                Err(e) => internal(&e),
            }
        }
        AdminRequest::Admit(admission) => admit(registry, admission),
        AdminRequest::RecordManifest { job_id, manifest_sha256 } => {
            if !is_hex(&manifest_sha256, 64) {
                return error("invalid", "manifest_sha256 is not 64 hex digits");
            }
            match registry.record_manifest(&job_id, &manifest_sha256) {
                Ok(Some(true)) => AdminResponse::Ok,
                Ok(Some(false)) => error("conflict", "another manifest is recorded for this job"),
                Ok(None) => unknown(),
                Err(e) => internal(&e),
            }
        }
        AdminRequest::Revoke { job_id } => match registry.revoke(&job_id) {
            // A job that is not known has no pass, which is what was asked for.
            Ok(_) => AdminResponse::Ok,
            Err(e) => internal(&e),
        },
        AdminRequest::Claim { job_id, by, instead_of } => {
            if !is_claimant(&by) {
                return error("invalid", "by is no line of at most 256 printable characters");
            }
            match registry.claim(&job_id, &by, instead_of.as_deref()) {
                Ok(Some((by, age))) => AdminResponse::Claim { by, age_ms: u64::try_from(age.as_millis()).unwrap_or(u64::MAX) },
                Ok(None) => unknown(),
                Err(e) => internal(&e),
            }
        }
        AdminRequest::Unclaim { job_id, by } => match registry.unclaim(&job_id, &by) {
            Ok(()) => AdminResponse::Ok,
            Err(e) => internal(&e),
        },
        AdminRequest::Job { job_id } => registry.account(&job_id).map_or_else(unknown, AdminResponse::Job),
        AdminRequest::LedgerFiles => {
            let (files, head) = registry.ledger_files();
            AdminResponse::LedgerFiles { files, head }
        }
        AdminRequest::LedgerRead { first_seq, offset } => match registry.ledger_piece(first_seq, offset, LEDGER_PIECE) {
            Ok(Some(piece)) => AdminResponse::LedgerPiece { base64: STANDARD.encode(piece) },
            Ok(None) => error("invalid", "there is no such file of the ledger"),
            Err(e) => internal(&Error::internal("cannot read the ledger").with_source(e)),
        },
        AdminRequest::Key { instance, key } => AdminResponse::Key { used_up: registry.key_is_used_up(&instance, &key) },
        AdminRequest::Stats => AdminResponse::Stats(super::observe::stats(registry)),
        AdminRequest::Jobs { instance } => {
            AdminResponse::Jobs { job_ids: registry.job_ids(&instance), since_unix_ms: registry.born_unix_ms(), revoked: registry.revoked() }
        }
    }
}

fn status(registry: &Registry) -> AdminResponse {
    let (running, queued, slots) = registry.slot_counts();
    let (under_way, tokens_today, ceilings) = registry.load();
    let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    AdminResponse::Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        protocol: PROTOCOL_VERSION,
        running: count(running),
        queued: count(queued),
        slots: count(slots),
        policy_sha256: policy_sha256().to_owned(),
        ledger_head: registry.ledger_head(),
        under_way: count(under_way),
        tokens_today,
        ceilings,
        not_enforced: super::harden::gaps(),
    }
}

/// Limits under which something can pass.
fn sound(limits: &GatewayLimits) -> bool {
    limits.slots > 0 && limits.ceilings.requests > 0 && limits.ceilings.connections > 0
}

fn is_claimant(by: &str) -> bool {
    !by.is_empty() && by.len() <= MAX_CLAIMANT && by.bytes().all(|b| b.is_ascii_graphic() || b == b' ')
}

fn well_named(instance: &str) -> bool {
    !instance.is_empty() && instance.len() <= 64
}

fn admit(registry: &Registry, admission: Admission) -> AdminResponse {
    let Admission {
        job_id,
        pass_sha256,
        upstream,
        credential,
        allowed_models,
        token_budget,
        expires_unix,
        max_running_jobs,
        instance,
        bounds,
        ceilings,
        stay,
        telemetry,
        settings_read_ms,
        continues,
    } = admission;
    // First of all, so that it is wiped on every path.
    let credential = match credential.map(Secret::new) {
        Some(None) => return error("invalid", "the credential cannot stand in a header"),
        Some(secret) => secret,
        None => None,
    };
    if !is_hex(&job_id, 32) || !is_hex(&pass_sha256, 64) {
        return error("invalid", "job_id or pass_sha256 is not lower-case hex of the right length");
    }
    if allowed_models.len() > 1000 || !allowed_models.iter().all(|m| well_formed_model(m)) {
        return error("invalid", "allowed_models holds a name that is not a model's");
    }
    if stay.labels.iter().map(|(key, value)| key.len().saturating_add(value.len())).sum::<usize>() > MAX_LABELS {
        return error("invalid", "the labels are too long");
    }
    // A span counts from now by this clock, whatever the client's says.
    let expires_unix = if stay.pass_seconds == 0 { expires_unix } else { (crate::fault::unix_ms() / 1000).saturating_add(stay.pass_seconds) };
    let limits = GatewayLimits { slots: max_running_jobs, ceilings };
    if !sound(&limits) || !well_named(&instance) {
        return error("invalid", "max_running_jobs, ceilings or instance is out of range");
    }
    let by = Bringer { instance: instance.clone(), read_ms: settings_read_ms };
    if let Upstream::Http { base_url, authorities } = &upstream {
        // The host checked it already; a gateway does not take that on trust.
        let settings = crate::config::ModelSettings { upstream: base_url.clone(), ..Default::default() };
        let checked = settings.upstream().is_ok_and(|known| matches!(known, Upstream::Http { base_url: known, .. } if known == *base_url));
        if !checked {
            return error("invalid", "base_url must be https://…, or http:// on loopback, without a trailing slash");
        }
        if let Some(pem) = authorities
            && (pem.len() > MAX_AUTHORITIES || registry.client.check_authorities(pem).is_err())
        {
            return error("invalid", "the authorities (`[model] ca_file`) hold no certificate that can be used, or too many");
        }
    }
    if telemetry.as_ref().is_some_and(|telemetry| !super::observe::is_sound(telemetry)) {
        return error("invalid", "telemetry names no collector, or no place in a trace");
    }
    if registry.job_count() >= MAX_JOBS && registry.account(&job_id).is_none() {
        return error("invalid", "too many jobs are admitted");
    }
    let earlier_keys = match &continues {
        None => Vec::new(),
        // Admitted before: its keys stay what they are.
        Some(_) if registry.account(&job_id).is_some() => Vec::new(),
        Some(earlier) => match registry.keys_for(earlier, &instance, &upstream) {
            Ok(keys) => keys,
            Err((code, why)) => return error(code, why),
        },
    };
    let mut random = [0u8; 16];
    if rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty()).ok() != Some(random.len()) {
        return error("internal", "the system gives no random bytes");
    }
    let record = JobRecord {
        version: PROTOCOL_VERSION,
        job_id,
        pass_sha256,
        upstream,
        allowed_models,
        token_budget,
        expires_unix,
        instance,
        manifest_sha256: None,
        cache_key: hex(&random),
        holds_slot: false,
        place: None,
        requests: 0,
        refused: 0,
        answers: 0,
        usage: Usage::default(),
        estimated_tokens: 0,
        last_error: None,
        bounds,
        reserved: 0,
        stopped: None,
        stay,
        telemetry,
        earlier_keys,
        claimed_by: None,
    };
    match registry.admit(record, credential, limits, &by) {
        Ok(()) => AdminResponse::Ok,
        Err(e) => internal(&e),
    }
}

fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}
