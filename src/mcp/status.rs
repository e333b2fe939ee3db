//! `codex_status`: whether a delegation would work now.

use serde_json::{Value, json};

use super::call::{Answer, FINGERPRINT, Reply, SERVER_VERSION};
use super::server::Call;
use super::tools::TIMEOUT_SECONDS;
use crate::job::Isolation;
use crate::job::readiness::{Credential, GatewayState};

/// Asks the engine and looks at the settings; starts nothing.
pub async fn status(call: &Call<'_>) -> Answer {
    let readiness = call.jobs.readiness().await;
    let settings = call.jobs.settings();
    let none_if_empty = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let model = none_if_empty(&settings.model.default_model);
    let (_, _, timeout) = TIMEOUT_SECONDS;
    let (authenticated, auth_detail) = match &readiness.credential {
        Credential::NotNeeded => (Value::Null, "the rehearsal model needs no key".to_owned()),
        Credential::Present { from } => (json!(true), format!("an API key is set in {from}; the provider was not asked whether it is valid")),
        Credential::Missing { looked } => (json!(false), format!("no API key: {looked}")),
    };
    let gateway = match readiness.gateway {
        GatewayState::Unknown => "unknown",
        GatewayState::Absent => "absent",
        GatewayState::Running => "running",
        GatewayState::Stopped => "stopped",
    };
    let image = readiness.image.as_ref();
    let value = json!({
        "ok": true,
        "codex_found": image.is_some(),
        "codex_version": image.and_then(|image| image.codex_version.clone()),
        "codex_authenticated": authenticated,
        "auth_detail": auth_detail,
        "version_supported": image.map(|image| image.matches),
        "version_warning": image.and_then(|image| (!image.matches).then_some("the runtime image was built by another build of anchorhold")),
        "flags_warning": null,
        "ready": readiness.ready(),
        "readiness_detail": readiness.sentence(),
        "checks": readiness.checks,
        "raw_defaults": {"model": model, "reasoning_effort": null, "isolation": null, "timeout_seconds": null},
        "resolved_defaults": {
            "model": model,
            "reasoning_effort": null,
            "isolation": Isolation::default().as_str(),
            "timeout_seconds": timeout,
            "deadline_seconds": settings.limits.deadline_seconds,
            "sandbox": "container",
            "tier": "propose",
        },
        "rate_limit": {"status": "unknown", "detail": "not asked: that would send a request to the provider"},
        "caveat": "nothing was sent to the model provider: the key's validity, the model's name and the quota show at the first delegation",
        "engine": readiness.engine,
        "image": image,
        "gateway": {"name": settings.gateway.name, "state": gateway},
        "upstream": settings.model.upstream,
        "allowed_models": settings.model.allowed_models,
        "limits": settings.limits,
        "workspace_limits": settings.workspace,
        "max_running_jobs": settings.engine.max_running_jobs,
        "instance": settings.engine.instance,
        "ttl_seconds": settings.retention.ttl_seconds,
        "allowed_roots": settings.roots.allow.iter().map(|root| super::call::shown(root)).collect::<Vec<_>>(),
        "fingerprint": FINGERPRINT,
        "server_version": SERVER_VERSION,
    });
    Ok(Reply::from(value))
}
