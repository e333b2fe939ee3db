//! From `tracing`'s spans to the collector's: a span is sent when it closes, if it belongs to a trace.

use std::sync::Arc;

use tracing::field::{Field, Visit};
use tracing::{Subscriber, span};
use tracing_subscriber::layer::{Context, Layer};
use tracing_subscriber::registry::LookupSpan;

use super::context::TraceContext;
use super::metrics::{Seen, observe_for};
use super::otlp::{Attribute, Kind, Span};
use super::{emit_to, unix_nanos};

/// Sends the host's spans.
pub struct SpanLayer {
    endpoint: Arc<str>,
}

impl SpanLayer {
    /// To this collector.
    pub fn new(endpoint: Arc<str>) -> Self {
        Self { endpoint }
    }
}

/// A span that is under way.
struct Open {
    context: TraceContext,
    parent: String,
    start: u64,
    began: std::time::Instant,
    seen: Fields,
}

#[derive(Default)]
struct Fields {
    traceparent: Option<String>,
    tracestate: String,
    error: Option<String>,
    attributes: Vec<(&'static str, Attribute)>,
}

impl Fields {
    fn put(&mut self, field: &Field, value: Attribute) {
        self.attributes.retain(|(known, _)| *known != field.name());
        self.attributes.push((field.name(), value));
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "traceparent" => self.traceparent = Some(value.to_owned()),
            "tracestate" => self.tracestate = value.to_owned(),
            "error" => self.error = Some(value.to_owned()),
            _ => self.put(field, value.into()),
        }
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, Attribute::Number(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, Attribute::Flag(value));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.record_str(field, &format!("{value:?}"));
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for SpanLayer {
    fn on_new_span(&self, attributes: &span::Attributes<'_>, id: &span::Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let mut seen = Fields::default();
        attributes.record(&mut seen);
        // What says its place itself stands there; anything else is part of what it runs in.
        let named = seen.traceparent.take().and_then(|header| TraceContext::parse(&header, Some(&seen.tracestate)));
        let above = named.or_else(|| span.parent()?.scope().find_map(|above| Some(above.extensions().get::<Open>()?.context.clone())));
        if let Some(above) = above.filter(TraceContext::is_sampled) {
            let (start, began) = (unix_nanos(), std::time::Instant::now());
            span.extensions_mut().insert(Open { context: above.child(), parent: above.span_id(), start, began, seen });
        }
    }

    fn on_record(&self, id: &span::Id, values: &span::Record<'_>, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        if let Some(open) = span.extensions_mut().get_mut::<Open>() {
            values.record(&mut open.seen);
        }
    }

    fn on_close(&self, id: span::Id, context: Context<'_, S>) {
        let Some(span) = context.span(&id) else { return };
        let Some(open) = span.extensions_mut().remove::<Open>() else { return };
        let took = open.began.elapsed();
        observe_for(&self.endpoint, "anchorhold.step.duration", "ms", &[("step", span.name())], Seen::Took(took.as_secs_f64() * 1000.0));
        let end = open.start.saturating_add(u64::try_from(took.as_nanos()).unwrap_or(0));
        emit_to(
            &self.endpoint,
            Span {
                name: span.name(),
                kind: Kind::Internal,
                context: open.context,
                parent: Some(open.parent),
                start: open.start,
                end,
                attributes: open.seen.attributes,
                error: open.seen.error,
            },
        );
    }
}
