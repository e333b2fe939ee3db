//! What is seen from outside: logs on standard error, and, where the settings ask for it, spans and metrics to an OTLP collector.
//!
//! One instrumentation serves both: a step of a job is a `tracing` span with `job_id` and `traceparent`; [`log`] writes the events in it, [`spans`] hands it to
//! [`export`] when it closes. The gateway, whose jobs may belong to users with different collectors, hands its spans over itself.
//!
//! Nothing leaves the machine unless a setting names a collector. No field holds a key, a pass, a task, a file's content or a path below the workspace's top.
//! A collector that is slow or gone costs a job nothing: what does not fit into a bounded queue is dropped and counted.

pub mod context;
mod export;
mod log;
pub mod metrics;
mod otlp;
pub mod prometheus;
mod spans;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tracing_subscriber::Layer as _;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

pub use self::context::TraceContext;
use self::export::Exporter;
pub use self::log::Form;
pub use self::otlp::{Attribute, Kind, Span};

/// What the part of the program is called, at a collector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// A process on the host.
    Host,
    /// The gateway.
    Gateway,
}

impl Part {
    fn service(self) -> &'static str {
        match self {
            Self::Host => "anchorhold",
            Self::Gateway => "anchorhold-gateway",
        }
    }
}

/// How long a process that ends waits for its last spans to be taken.
const LAST_WORDS: Duration = Duration::from_secs(1);

static EXPORTER: OnceLock<Exporter> = OnceLock::new();
/// The host's collector; the gateway has one a job.
static ENDPOINT: OnceLock<Arc<str>> = OnceLock::new();

/// Starts the log, and on the host the spans where there is a collector. `filter` is in the syntax of `tracing`'s targets; of it only what speaks of our own
/// modules counts, because libraries beneath us write whole requests, with the task and the key in them.
pub fn start(part: Part, form: Form, filter: &str, endpoint: Option<&str>) {
    let quiet = match part {
        Part::Host => tracing_subscriber::filter::LevelFilter::WARN,
        Part::Gateway => tracing_subscriber::filter::LevelFilter::INFO,
    };
    let writing = log::LogLayer::new(form, std::io::stderr).with_filter(log::filter(filter, quiet));
    let spans = endpoint.map(|endpoint| {
        let endpoint: Arc<str> = endpoint.into();
        let _ = ENDPOINT.set(endpoint.clone());
        spans::SpanLayer::new(endpoint).with_filter(tracing_subscriber::filter::Targets::new().with_target(log::OWN_TARGET, tracing::Level::INFO))
    });
    if part == Part::Gateway || endpoint.is_some() {
        let _ = EXPORTER.set(Exporter::new(part.service()));
    }
    // A second subscriber in one process (tests) is refused; the first one then goes on.
    let _ = tracing_subscriber::registry().with(writing).with(spans).try_init();
}

/// Whether this process's own steps go to a collector.
pub fn is_on() -> bool {
    ENDPOINT.get().is_some()
}

/// The standard variable's collector. It counts only where `[telemetry] otlp_endpoint` is `env`.
pub fn standard_endpoint() -> Option<String> {
    std::env::var("OTEL_EXPORTER_OTLP_ENDPOINT").ok()
}

/// Hands a span of the host's over; nothing without a collector.
pub fn emit(span: Span) {
    if let Some(endpoint) = ENDPOINT.get() {
        emit_to(endpoint, span);
    }
}

/// Hands a span over to a collector of the caller's choice. Never waits.
pub fn emit_to(endpoint: &Arc<str>, span: Span) {
    if let Some(exporter) = EXPORTER.get() {
        exporter.span(endpoint, span);
    }
}

/// Sends what is still waiting, for at most a second. Called once, at the end of the process.
pub fn finish() {
    if let Some(exporter) = EXPORTER.get() {
        exporter.flush(LAST_WORDS);
    }
}

/// Nanoseconds since 1970.
pub fn unix_nanos() -> u64 {
    crate::fault::unix_ms().saturating_mul(1_000_000)
}

/// A step of a job as a span: `step!("upload", job_id, traceparent)`, with further fields as `tracing` takes them. On the level of errors so that what is logged
/// in it says of which job it speaks, however quiet the log is; a span itself is never written to the log.
macro_rules! step {
    ($name:literal, $job:expr, $trace:expr $(, $($field:tt)*)?) => {
        tracing::error_span!($name, job_id = %$job, traceparent = %$trace.header(), tracestate = $trace.state(), error = tracing::field::Empty $(, $($field)*)?)
    };
}
pub(crate) use step;

/// Marks the step that this runs in as failed.
pub fn failed(code: crate::error::Code) {
    tracing::Span::current().record("error", code.as_str());
}
