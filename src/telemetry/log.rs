//! The log: one line an event, for people or as one JSON object, with the job it speaks of.
//!
//! Whatever a field holds is escaped and cut, so that no line of a log is anybody else's than ours and no event fills a disk.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::io::Write as _;

use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::span;
use tracing::{Event, Subscriber};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::{Context, Layer};
use tracing_subscriber::registry::LookupSpan;

/// What `tracing` calls this crate.
pub const OWN_TARGET: &str = "anchorhold";
/// Longest text of one field, in characters.
const MAX_FIELD: usize = 2_000;
/// Bytes of a field that are looked at at all.
const MAX_FORMATTED: usize = 16 << 10;
/// What a line always has; no field may pass for one of these.
const RESERVED: [&str; 6] = ["ts", "level", "target", "message", "job_id", "spans"];

/// The log's form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Form {
    /// A line for people.
    #[default]
    Text,
    /// A JSON object a line.
    Json,
}

impl Form {
    /// What `[log] format` may be.
    pub const VALUES: [&str; 2] = ["text", "json"];

    /// From the setting's word.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "text" => Some(Self::Text),
            "json" => Some(Self::Json),
            _ => None,
        }
    }
}

/// What is asked for, of our own targets only: libraries beneath us would write the task, the key and what passes over the wire.
pub fn filter(asked: &str, quiet: LevelFilter) -> Targets {
    let targets: Targets = asked.parse().unwrap_or_default();
    let own = |target: &str| target == OWN_TARGET || target.strip_prefix(OWN_TARGET).is_some_and(|rest| rest.starts_with("::"));
    let level = targets.default_level().filter(|_| !asked.is_empty());
    let mut filter = Targets::new().with_target(OWN_TARGET, level.unwrap_or(quiet));
    for (target, level) in targets.iter().filter(|(target, _)| own(target)) {
        filter = filter.with_target(target, level);
    }
    filter
}

/// Writes events.
pub struct LogLayer<W> {
    form: Form,
    writer: W,
}

impl<W> LogLayer<W> {
    /// Lines go to `writer`, each in one write.
    pub fn new(form: Form, writer: W) -> Self {
        Self { form, writer }
    }
}

/// The fields of a span or an event, safe to show.
#[derive(Default)]
struct Fields(BTreeMap<&'static str, Value>);

impl Fields {
    fn put(&mut self, field: &Field, value: impl Into<Value>) {
        // `log`'s own fields, where a library's records come in.
        if !field.name().starts_with("log.") {
            self.0.insert(field.name(), value.into());
        }
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        let cut = value.as_bytes().get(..MAX_FORMATTED).unwrap_or(value.as_bytes());
        self.put(field, crate::display::clip(cut, MAX_FIELD));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value);
    }

    fn record_u128(&mut self, field: &Field, value: u128) {
        self.put(field, u64::try_from(value).unwrap_or(u64::MAX));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value);
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.record_debug(field, &format_args!("{value}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let mut text = Bounded(String::new());
        // It stops where enough is written.
        let _ = write!(text, "{value:?}");
        self.record_str(field, &text.0);
    }
}

/// Text that refuses to grow.
struct Bounded(String);

impl fmt::Write for Bounded {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if self.0.len() + text.len() > MAX_FORMATTED {
            let room = MAX_FORMATTED.saturating_sub(self.0.len());
            self.0.extend(text.char_indices().take_while(|(at, c)| at + c.len_utf8() <= room).map(|(_, c)| c));
            return Err(fmt::Error);
        }
        self.0.push_str(text);
        Ok(())
    }
}

impl<S, W> Layer<S> for LogLayer<W>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'a> MakeWriter<'a> + 'static,
{
    fn on_new_span(&self, attributes: &span::Attributes<'_>, id: &span::Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        span.extensions_mut().insert(fields);
    }

    fn on_record(&self, id: &span::Id, values: &span::Record<'_>, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        if let Some(fields) = span.extensions_mut().get_mut::<Fields>() {
            values.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let mut fields = fields.0;
        let message = fields.remove("message").map_or_else(String::new, |text| text.as_str().map_or_else(|| text.to_string(), str::to_owned));
        let mut job_id = fields.remove("job_id");
        let mut spans = Vec::new();
        for span in context.event_scope(event).into_iter().flatten() {
            let mut one = Map::new();
            one.insert("name".to_owned(), span.name().into());
            if let Some(known) = span.extensions().get::<Fields>() {
                if job_id.is_none() {
                    job_id = known.0.get("job_id").cloned();
                }
                one.extend(
                    known.0.iter().filter(|(key, _)| !matches!(**key, "job_id" | "tracestate")).map(|(key, v)| ((*key).to_owned(), v.clone())),
                );
            }
            spans.push(one);
        }
        spans.reverse();
        let line = Line { ts: now(), level: *event.metadata().level(), target: event.metadata().target(), message, job_id, fields, spans };
        let mut text = match self.form {
            Form::Text => line.text(),
            Form::Json => line.json(),
        };
        text.push('\n');
        // Where the log cannot be written there is nobody to tell.
        let _ = self.writer.make_writer().write_all(text.as_bytes());
    }
}

struct Line<'a> {
    ts: String,
    level: tracing::Level,
    target: &'a str,
    message: String,
    job_id: Option<Value>,
    fields: BTreeMap<&'static str, Value>,
    spans: Vec<Map<String, Value>>,
}

impl Line<'_> {
    fn json(self) -> String {
        let mut line = Map::new();
        line.insert("ts".to_owned(), self.ts.into());
        line.insert("level".to_owned(), self.level.as_str().to_ascii_lowercase().into());
        line.insert("target".to_owned(), self.target.into());
        line.insert("message".to_owned(), self.message.into());
        if let Some(job_id) = self.job_id {
            line.insert("job_id".to_owned(), job_id);
        }
        for (key, value) in self.fields {
            let key = if RESERVED.contains(&key) { format!("field_{key}") } else { key.to_owned() };
            line.insert(key, value);
        }
        if !self.spans.is_empty() {
            line.insert("spans".to_owned(), self.spans.into_iter().map(Value::Object).collect());
        }
        Value::Object(line).to_string()
    }

    fn text(self) -> String {
        let mut line = format!("{} {:>5} {}", self.ts, self.level.as_str(), self.target);
        if !self.spans.is_empty() {
            let names: Vec<&str> = self.spans.iter().filter_map(|span| span.get("name")?.as_str()).collect();
            let _ = write!(line, " {}", names.join("/"));
        }
        let _ = write!(line, ": {}", self.message);
        let job_id = self.job_id.map(|job_id| ("job_id", job_id));
        for (key, value) in job_id.into_iter().chain(self.fields) {
            let _ = match value.as_str().filter(|text| !text.is_empty() && !text.contains([' ', '"', '='])) {
                Some(plain) => write!(line, " {key}={plain}"),
                None => write!(line, " {key}={value}"),
            };
        }
        line
    }
}

fn now() -> String {
    let ms = i64::try_from(crate::fault::unix_ms()).unwrap_or(0);
    jiff::Timestamp::from_millisecond(ms).map_or_else(|_| String::new(), |time| format!("{time:.3}"))
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    #[derive(Clone, Default)]
    struct Memory(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Memory {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl<'a> MakeWriter<'a> for Memory {
        type Writer = Self;
        fn make_writer(&'a self) -> Self {
            self.clone()
        }
    }

    fn written(form: Form, filter: Targets, work: impl FnOnce()) -> Vec<String> {
        let memory = Memory::default();
        let subscriber = tracing_subscriber::registry().with(LogLayer::new(form, memory.clone()).with_filter(filter));
        tracing::subscriber::with_default(subscriber, work);
        let bytes = memory.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap().lines().map(str::to_owned).collect()
    }

    fn own(asked: &str) -> Targets {
        filter(asked, LevelFilter::WARN)
    }

    #[test]
    fn no_other_crate_is_ever_logged() {
        for (asked, expected) in [
            ("", "anchorhold=info"),
            ("trace", "anchorhold=trace"),
            ("debug,hyper=trace,rustls=trace", "anchorhold=debug"),
            ("hyper=trace", "anchorhold=info"),
            ("anchorhold=warn,anchorhold_other=trace", "anchorhold=warn"),
            ("anchorhold::gateway=debug,reqwest=trace", "anchorhold::gateway=debug,anchorhold=info"),
            ("no such = filter", "anchorhold=info"),
        ] {
            assert_eq!(filter(asked, LevelFilter::INFO).to_string(), expected, "{asked}");
        }
        // What the protocol's library says of a call holds the task; the control is the same log with its target let through.
        let speak = || {
            tracing::debug!(target: "chatty::service", "received task=CANARY");
            tracing::warn!(target: "anchorhold::job", "ours");
        };
        let found = |lines: &[String]| lines.iter().any(|line| line.contains("CANARY"));
        let lines = written(Form::Json, own("trace,chatty=trace"), speak);
        assert!(!found(&lines) && lines.len() == 1, "{lines:?}");
        assert!(found(&written(Form::Json, Targets::new().with_default(LevelFilter::TRACE), speak)));
    }

    #[test]
    fn a_line_is_one_object_with_its_job() {
        let lines = written(Form::Json, own(""), || {
            let job = tracing::error_span!("deliver", job_id = "0011", traceparent = "00-aa", error = tracing::field::Empty);
            let _in = job.enter();
            job.record("error", "timeout");
            let inner = tracing::error_span!("upload", frames = 3u64);
            let _in = inner.enter();
            tracing::warn!(target: "anchorhold::job", ms = 5u64, level = "mine", error = "a\nb\u{1b}[31m\u{202e}", "it {}", "failed");
            tracing::info!(target: "anchorhold::job", "quiet");
        });
        assert_eq!(lines.len(), 1, "{lines:?}");
        let line: Value = serde_json::from_str(&lines[0]).unwrap();
        assert_eq!((&line["level"], &line["target"], &line["message"]), (&"warn".into(), &"anchorhold::job".into(), &"it failed".into()));
        assert_eq!((&line["job_id"], &line["ms"], &line["field_level"]), (&"0011".into(), &5.into(), &"mine".into()));
        assert_eq!(line["error"], "a\\nb\\u{1b}[31m\\u{202e}");
        assert!(line["ts"].as_str().unwrap().ends_with('Z'), "{line}");
        assert_eq!(
            line["spans"],
            serde_json::json!([{"name": "deliver", "error": "timeout", "traceparent": "00-aa"}, {"name": "upload", "frames": 3}])
        );
    }

    #[test]
    fn text_is_one_line_and_hostile_words_are_shown() {
        let lines = written(Form::Text, own("debug"), || {
            tracing::debug!(target: "anchorhold::job", job_id = "0011", said = "x\r\n2026 ERROR forged \"line\"", plain = "a/b", "done");
        });
        assert_eq!(lines.len(), 1);
        assert!(lines[0].contains(" DEBUG anchorhold::job: done job_id=0011 plain=a/b said="), "{}", lines[0]);
        assert!(!lines[0].contains('\r'), "{}", lines[0]);
    }

    #[test]
    fn no_event_is_long() {
        struct Endless;
        impl fmt::Debug for Endless {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                (0..1_000_000).try_for_each(|_| f.write_str("\u{1b}é"))
            }
        }
        for form in [Form::Text, Form::Json] {
            let lines = written(form, own(""), || {
                tracing::warn!(target: "anchorhold::job", text = "y".repeat(1 << 20), endless = ?Endless, "x");
            });
            assert!(lines.len() == 1 && lines[0].len() < 64 << 10, "{}", lines[0].len());
        }
    }
}
