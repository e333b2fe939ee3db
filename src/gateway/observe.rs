//! What a collector is told of the gateway: each request as a span of its job's trace, tokens and refusals as counts, and how full it is.
//!
//! Each job names its own collector, or none, so that nobody's work is told to another's. A provider is told nothing of any of this.

use std::sync::Arc;
use std::time::Duration;

use super::registry::Registry;
use crate::protocol::admin::{GatewayStats, JobTelemetry};
use crate::protocol::result::Usage;
use crate::telemetry::metrics::{Seen, observe_for};
use crate::telemetry::{Attribute, Kind, Span, TraceContext, emit_to, unix_nanos};

/// One request that has ended.
pub struct Request<'a> {
    /// One of the ledger's words.
    pub outcome: &'static str,
    /// HTTP status that the job was given; 0: none.
    pub status: u16,
    /// The policy refused it.
    pub refused: bool,
    /// The provider has it, or may have it.
    pub sent: bool,
    /// What the provider reported.
    pub usage: Usage,
    /// The model that the checked request names.
    pub model: Option<&'a str>,
    /// From its head to its end.
    pub took: Duration,
}

/// Whether an admission's telemetry can be used: a collector's base URL or none, and a place in a trace.
pub fn is_sound(telemetry: &JobTelemetry) -> bool {
    let endpoint = &telemetry.otlp_endpoint;
    let reachable = endpoint.is_empty() || crate::config::collector(endpoint).is_some_and(|known| known == *endpoint);
    let placed = TraceContext::parse(&telemetry.traceparent, Some(&telemetry.tracestate));
    reachable && placed.is_some_and(|context| context.state() == telemetry.tracestate)
}

/// Tells of a request.
pub fn request(registry: &Registry, job_id: &str, request: &Request<'_>) {
    let Request { outcome, status, refused, sent, usage, model, took } = request;
    let ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    tracing::debug!(job_id, outcome, status, refused, ms, "a model request ended");
    let Some(telemetry) = registry.telemetry(job_id).filter(|telemetry| !telemetry.otlp_endpoint.is_empty()) else { return };
    let Some(parent) = TraceContext::parse(&telemetry.traceparent, Some(&telemetry.tracestate)) else { return };
    let to: Arc<str> = telemetry.otlp_endpoint.into();
    let end = unix_nanos();
    let mut attributes: Vec<(&'static str, Attribute)> = vec![
        ("job_id", job_id.into()),
        ("outcome", (*outcome).into()),
        ("refused", Attribute::Flag(*refused)),
        ("sent", Attribute::Flag(*sent)),
        ("http.response.status_code", u64::from(*status).into()),
        ("gen_ai.usage.input_tokens", usage.input_tokens.into()),
        ("gen_ai.usage.output_tokens", usage.output_tokens.into()),
    ];
    attributes.extend(model.map(|model| ("gen_ai.request.model", model.into())));
    emit_to(
        &to,
        Span {
            name: "model.request",
            kind: Kind::Server,
            context: parent.child(),
            parent: Some(parent.span_id()),
            start: end.saturating_sub(u64::try_from(took.as_nanos()).unwrap_or(0)),
            end,
            attributes,
            error: (*outcome != "ok").then(|| (*outcome).to_owned()),
        },
    );
    observe_for(&to, "anchorhold.gateway.requests", "1", &[("outcome", outcome)], Seen::More(1));
    observe_for(&to, "anchorhold.gateway.request.duration", "ms", &[("outcome", outcome)], Seen::Took(took.as_secs_f64() * 1000.0));
    if *refused {
        observe_for(&to, "anchorhold.gateway.refusals", "1", &[], Seen::More(1));
    }
    for (kind, tokens) in [("input", usage.input_tokens), ("output", usage.output_tokens)] {
        observe_for(&to, "anchorhold.gateway.tokens", "1", &[("kind", kind)], Seen::More(tokens));
    }
}

/// Tells how full the gateway is, to every collector that a job names.
pub fn gauges(registry: &Registry) {
    let collectors = registry.collectors();
    if collectors.is_empty() {
        return;
    }
    let (running, queued, slots) = registry.slot_counts();
    let (under_way, _, _) = registry.load();
    for to in collectors {
        let to: Arc<str> = to.into();
        for (name, value) in [
            ("anchorhold.gateway.slots.used", running),
            ("anchorhold.gateway.slots.queued", queued),
            ("anchorhold.gateway.slots.total", slots),
            ("anchorhold.gateway.requests.under_way", under_way),
            ("anchorhold.gateway.jobs", registry.job_count()),
        ] {
            observe_for(&to, name, "1", &[], Seen::Now(value as u64));
        }
    }
}

/// The gateway in numbers.
pub fn stats(registry: &Registry) -> GatewayStats {
    let (running, queued, slots) = registry.slot_counts();
    let (under_way, tokens_today, _) = registry.load();
    let total = |count: &std::sync::atomic::AtomicU64| count.load(std::sync::atomic::Ordering::Relaxed);
    GatewayStats {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        uptime_seconds: registry.totals.since.elapsed().as_secs(),
        resident_bytes: resident_bytes().unwrap_or(0),
        slots: slots as u64,
        running: running as u64,
        queued: queued as u64,
        passes: registry.job_count() as u64,
        connections: registry.connection_count() as u64,
        requests_under_way: under_way as u64,
        requests: total(&registry.totals.requests),
        refusals: total(&registry.totals.refusals),
        provider_failures: total(&registry.totals.provider_failures),
        tokens_today,
        ledger_head: registry.ledger_head(),
    }
}

/// What of this process lies in memory: the second number of `statm`, in pages.
fn resident_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = text.split(' ').nth(1)?.parse().ok()?;
    pages.checked_mul(rustix::param::page_size() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_admission_says_is_not_taken_on_trust() {
        let good = JobTelemetry {
            otlp_endpoint: "http://localhost:4318".into(),
            traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into(),
            tracestate: "a=b".into(),
        };
        assert!(is_sound(&good));
        assert!(is_sound(&JobTelemetry { otlp_endpoint: String::new(), tracestate: String::new(), ..good.clone() }));
        for endpoint in ["x", "ftp://a", "http://u:p@a", "http://a/?b", "http://a/", "unix:///a"] {
            assert!(!is_sound(&JobTelemetry { otlp_endpoint: endpoint.into(), ..good.clone() }), "{endpoint}");
        }
        assert!(!is_sound(&JobTelemetry { traceparent: "x".into(), ..good.clone() }));
        assert!(!is_sound(&JobTelemetry { tracestate: "a\r\nb".into(), ..good }));
    }
}
