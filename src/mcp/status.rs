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
    let (least, most, timeout) = TIMEOUT_SECONDS;
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
        // Nobody can add flags to Codex here; what a caller may set is a parameter.
        "extra_args_configured": false,
        "extra_args_count": 0,
        "extra_args_valid": true,
        "ready": readiness.ready(),
        "readiness_detail": readiness.sentence(),
        "checks": readiness.checks,
        "raw_defaults": {
            "tier": "propose",
            "sandbox": "container",
            "isolation": Isolation::default().as_str(),
            "model": model,
            "reasoning_effort": null,
            "timeout_seconds": timeout,
        },
        "resolved_defaults": {
            "model": model,
            "reasoning_effort": null,
            "isolation": Isolation::default().as_str(),
            "timeout_seconds": timeout,
            "timeout_bounds": [least, most],
            "deadline_seconds": settings.limits.deadline_seconds,
            "sandbox": "container",
            "tier": "propose",
        },
        "rate_limit": rate_limit(),
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

/// A key's quota cannot be asked for: that would take a request to the provider, and the answer would say little.
fn rate_limit() -> Value {
    let mut value =
        json!({"status": "unavailable", "note": "not asked: that would send a request to the provider; a quota that is used up shows at a job"});
    for absent in ["source", "as_of", "age_seconds", "plan_type", "spend_control_reached", "limiting_window", "primary", "secondary"] {
        value[absent] = Value::Null;
    }
    for no in ["is_stale", "home_unverified"] {
        value[no] = json!(false);
    }
    value
}
