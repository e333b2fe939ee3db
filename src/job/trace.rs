//! What a job's life looks like to a collector: the delegation as a whole, and the steps inside the cell, which has no network to tell of them itself.
//!
//! Steps on the host are `tracing` spans where they happen. These here are told by whoever collects the job, from what its labels and its sealed result say; their ids follow
//! from the job's, so that a job that is collected twice is told of once.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use super::collect::Harvest;
use super::labels::JobLabels;
use super::{JobId, JobResult};
use crate::config::Settings;
use crate::error::Error;
use crate::protocol::admin::JobTelemetry;
use crate::protocol::result::Reason;
use crate::telemetry::metrics::{Seen, observe};
use crate::telemetry::{self, Kind, Span, TraceContext};

/// Jobs whose end this process remembers to have counted.
const REMEMBERED: usize = 10_000;
const NANOS: u64 = 1_000_000;

/// The jobs whose end was counted.
#[derive(Default)]
pub(super) struct Counted(Mutex<HashSet<JobId>>);

impl Counted {
    fn first_time(&self, id: &JobId) -> bool {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= REMEMBERED {
            known.clear();
        }
        known.insert(id.clone())
    }
}

/// What the gateway is told with the admission; `None`: neither a collector nor a trace.
pub(super) fn for_gateway(settings: &Settings, caller: Option<&TraceContext>, job: &TraceContext) -> Option<JobTelemetry> {
    let endpoint = settings.telemetry.gateway_endpoint(telemetry::standard_endpoint().as_deref());
    (endpoint.is_some() || caller.is_some()).then(|| JobTelemetry {
        otlp_endpoint: endpoint.unwrap_or_default(),
        traceparent: job.header(),
        tracestate: job.state().to_owned(),
    })
}

/// A delegation was refused before there was a job, or could not be delivered.
pub(super) fn refused(context: TraceContext, caller: Option<&TraceContext>, id: &JobId, since_ms: u64, outcome: &'static str, error: &Error) {
    observe("anchorhold.delegations", "1", &[("outcome", outcome)], Seen::More(1));
    telemetry::emit(Span {
        name: "delegation",
        kind: Kind::Server,
        context,
        parent: caller.map(TraceContext::span_id),
        start: since_ms.saturating_mul(NANOS),
        end: telemetry::unix_nanos(),
        attributes: vec![("job_id", id.as_str().into()), ("outcome", outcome.into())],
        error: Some(error.code.as_str().to_owned()),
    });
}

/// A job was made, or found by its key.
pub(super) fn accepted(replayed: bool) {
    observe("anchorhold.delegations", "1", &[("outcome", if replayed { "replayed" } else { "accepted" })], Seen::More(1));
}

/// A job was collected.
pub(super) fn collected(counted: &Counted, harvest: &Harvest) {
    if !telemetry::is_on() {
        return;
    }
    let (labels, result) = (&harvest.seen.found.labels, &harvest.result);
    for span in spans(labels, harvest.seen.derived.ended_ms, result) {
        telemetry::emit(span);
    }
    if !counted.first_time(&labels.id) {
        return;
    }
    let outcome = result.status.reason.map_or("unknown", Reason::as_str);
    observe("anchorhold.jobs.collected", "1", &[("outcome", outcome)], Seen::More(1));
    let usage = &result.usage;
    for (kind, tokens) in [
        ("input", usage.input_tokens),
        ("cached_input", usage.cached_input_tokens),
        ("output", usage.output_tokens),
        ("reasoning_output", usage.reasoning_output_tokens),
    ] {
        observe("anchorhold.tokens", "1", &[("kind", kind)], Seen::More(tokens));
    }
}

/// The delegation, and what the cell says of its own parts. A cell's times are its claim: they are cut to the job's life.
fn spans(labels: &JobLabels, ended_ms: Option<u64>, result: &JobResult) -> Vec<Span> {
    let context = labels.trace();
    let now = telemetry::unix_nanos();
    let start = labels.created_ms.saturating_mul(NANOS).min(now);
    let reason = result.status.reason;
    let sealed = result.sealed.as_ref().map(|sealed| sealed.timings);
    let end = ended_ms.or(sealed.map(|timings| timings.sealed_unix_ms)).map_or(now, |ms| ms.saturating_mul(NANOS)).clamp(start, now);
    let id = || ("job_id", labels.id.as_str().into());
    let mut all = vec![Span {
        name: "delegation",
        kind: Kind::Server,
        parent: labels.trace.as_ref().map(TraceContext::span_id),
        start,
        end,
        attributes: vec![
            id(),
            ("outcome", reason.map_or("unknown", Reason::as_str).into()),
            ("dirty", telemetry::Attribute::Flag(labels.dirty)),
            ("files_changed", (result.files.len() as u64).into()),
            ("tokens.input", result.usage.input_tokens.into()),
            ("tokens.output", result.usage.output_tokens.into()),
        ],
        error: reason.filter(|reason| *reason != Reason::Completed).map(|reason| reason.as_str().to_owned()),
        context: context.clone(),
    }];
    let Some(timings) = sealed else { return all };
    let at = |ms: u64| ms.saturating_mul(NANOS);
    let length = |ms: u64| ms.min(1 << 40).saturating_mul(NANOS);
    let (began, run, run_end, seal_end) =
        (at(timings.started_unix_ms), at(timings.codex_started_unix_ms), at(timings.codex_ended_unix_ms), at(timings.sealed_unix_ms));
    let unpacked = began.saturating_add(length(timings.unpack_ms));
    for (name, from, to) in [
        ("cell.unpack", began, unpacked),
        ("cell.queue", unpacked, unpacked.saturating_add(length(timings.queue_ms))),
        ("cell.run", run, run_end),
        ("cell.seal", seal_end.saturating_sub(length(timings.seal_ms)), seal_end),
    ] {
        // Codex was perhaps never started.
        if from == 0 || to == 0 {
            continue;
        }
        let (from, to) = (from.clamp(start, end), to.clamp(start, end));
        all.push(Span {
            name,
            kind: Kind::Internal,
            context: context.named_child(name),
            parent: Some(context.span_id()),
            start: from,
            end: to.max(from),
            attributes: vec![id()],
            error: None,
        });
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gateway_is_told_of_a_collector_or_a_trace_and_of_nothing_else() {
        let mut settings = Settings::default();
        let job = TraceContext::of_job("00112233445566778899aabbccddeeff", None);
        assert_eq!(for_gateway(&settings, None, &job), None);
        let told = for_gateway(&settings, Some(&job), &job).unwrap();
        assert_eq!((told.otlp_endpoint.as_str(), told.traceparent.as_str()), ("", job.header().as_str()));
        settings.telemetry.otlp_endpoint = "http://localhost:4318/".into();
        assert_eq!(for_gateway(&settings, None, &job).unwrap().otlp_endpoint, "http://localhost:4318");
        settings.telemetry.gateway_otlp_endpoint = "https://collector.example".into();
        assert_eq!(for_gateway(&settings, None, &job).unwrap().otlp_endpoint, "https://collector.example");
        // Without one for the host there is none at all.
        settings.telemetry.otlp_endpoint.clear();
        assert_eq!(for_gateway(&settings, None, &job), None);
    }

    #[test]
    fn an_end_is_counted_once() {
        let counted = Counted::default();
        let id = JobId::random();
        assert_eq!([counted.first_time(&id), counted.first_time(&id), counted.first_time(&JobId::random())], [true, false, true]);
    }
}
