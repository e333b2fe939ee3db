//! OTLP in its JSON form over HTTP, as documents: what a collector takes at `/v1/traces` and `/v1/metrics`.

use serde_json::{Value, json};

use super::context::TraceContext;
use super::metrics::{BOUNDS, Point, Series};

/// Longest text of an attribute, in characters.
const MAX_TEXT: usize = 200;

/// What a span's maker did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Worked by itself.
    Internal,
    /// Served a request.
    Server,
}

/// The value of an attribute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attribute {
    /// Text, shown escaped and cut.
    Text(String),
    /// A whole number.
    Number(i64),
    /// Yes or no.
    Flag(bool),
}

impl From<&str> for Attribute {
    fn from(text: &str) -> Self {
        Self::Text(crate::display::clip(text.as_bytes(), MAX_TEXT))
    }
}

impl From<u64> for Attribute {
    fn from(number: u64) -> Self {
        Self::Number(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

/// One finished step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// One of our own words.
    pub name: &'static str,
    /// What its maker did.
    pub kind: Kind,
    /// Where it stands.
    pub context: TraceContext,
    /// 16 hex digits of the span above it.
    pub parent: Option<String>,
    /// Nanoseconds since 1970.
    pub start: u64,
    /// The same.
    pub end: u64,
    /// What is known of it.
    pub attributes: Vec<(&'static str, Attribute)>,
    /// A word of ours for why it failed.
    pub error: Option<String>,
}

fn resource(service: &str) -> Value {
    json!({"attributes": [
        {"key": "service.name", "value": {"stringValue": service}},
        {"key": "service.version", "value": {"stringValue": env!("CARGO_PKG_VERSION")}},
    ]})
}

fn scope() -> Value {
    json!({"name": "anchorhold", "version": env!("CARGO_PKG_VERSION")})
}

/// The document of `/v1/traces`.
pub fn traces(service: &str, spans: &[Span]) -> Value {
    let spans: Vec<Value> = spans.iter().map(span).collect();
    json!({"resourceSpans": [{"resource": resource(service), "scopeSpans": [{"scope": scope(), "spans": spans}]}]})
}

fn span(span: &Span) -> Value {
    let attributes: Vec<Value> = span
        .attributes
        .iter()
        .map(|(key, value)| {
            let value = match value {
                Attribute::Text(text) => json!({"stringValue": text}),
                // 64 bits go as text in OTLP's JSON.
                Attribute::Number(number) => json!({"intValue": number.to_string()}),
                Attribute::Flag(flag) => json!({"boolValue": flag}),
            };
            json!({"key": key, "value": value})
        })
        .collect();
    let mut document = json!({
        "traceId": span.context.trace_id(),
        "spanId": span.context.span_id(),
        "name": span.name,
        "kind": match span.kind { Kind::Internal => 1, Kind::Server => 2 },
        "startTimeUnixNano": span.start.to_string(),
        "endTimeUnixNano": span.end.max(span.start).to_string(),
        "attributes": attributes,
        "status": span.error.as_ref().map_or_else(|| json!({}), |why| json!({"code": 2, "message": why})),
    });
    if let Some(parent) = &span.parent {
        document["parentSpanId"] = parent.as_str().into();
    }
    if !span.context.state().is_empty() {
        document["traceState"] = span.context.state().into();
    }
    document
}

/// The document of `/v1/metrics`: what was counted since `start`, up to `now` (nanoseconds since 1970).
pub fn metrics(service: &str, series: &[(Series, Point)], start: u64, now: u64) -> Value {
    let all: Vec<Value> = series
        .iter()
        .map(|(series, point)| {
            let attributes: Vec<Value> = series.labels.iter().map(|(key, value)| json!({"key": key, "value": {"stringValue": value}})).collect();
            let mut data = json!({"attributes": attributes, "timeUnixNano": now.to_string()});
            if !matches!(point, Point::Gauge(_)) {
                data["startTimeUnixNano"] = start.to_string().into();
            }
            let (kind, more) = match point {
                Point::Count(count) => {
                    data["asInt"] = count.to_string().into();
                    // 1: delta. A command that lives for a second has no total.
                    ("sum", json!({"aggregationTemporality": 1, "isMonotonic": true}))
                }
                Point::Gauge(value) => {
                    data["asInt"] = value.to_string().into();
                    ("gauge", json!({}))
                }
                Point::Times { count, sum_ms, buckets } => {
                    data["count"] = count.to_string().into();
                    data["sum"] = (*sum_ms).into();
                    data["bucketCounts"] = buckets.iter().map(u64::to_string).collect();
                    data["explicitBounds"] = BOUNDS.to_vec().into();
                    ("histogram", json!({"aggregationTemporality": 1}))
                }
            };
            let mut body = more;
            body["dataPoints"] = json!([data]);
            let mut metric = json!({"name": series.name, "unit": series.unit});
            metric[kind] = body;
            metric
        })
        .collect();
    json!({"resourceMetrics": [{"resource": resource(service), "scopeMetrics": [{"scope": scope(), "metrics": all}]}]})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_has_the_protocols_form() {
        let context = TraceContext::parse("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", Some("a=b")).unwrap();
        let one = Span {
            name: "upload",
            kind: Kind::Internal,
            context,
            parent: Some("00f067aa0ba902b7".into()),
            start: 5,
            end: 3,
            attributes: vec![("job_id", "x\u{1b}".into()), ("bytes", u64::MAX.into()), ("ok", Attribute::Flag(true))],
            error: Some("timeout".into()),
        };
        let document = traces("anchorhold", &[one]);
        assert_eq!(document["resourceSpans"][0]["resource"]["attributes"][0]["value"]["stringValue"], "anchorhold");
        assert_eq!(
            document["resourceSpans"][0]["scopeSpans"][0]["spans"][0],
            json!({
                "traceId": "0af7651916cd43dd8448eb211c80319c", "spanId": "b7ad6b7169203331", "name": "upload", "kind": 1,
                "startTimeUnixNano": "5", "endTimeUnixNano": "5",
                "attributes": [
                    {"key": "job_id", "value": {"stringValue": "x\\u{1b}"}},
                    {"key": "bytes", "value": {"intValue": "9223372036854775807"}},
                    {"key": "ok", "value": {"boolValue": true}},
                ],
                "status": {"code": 2, "message": "timeout"}, "parentSpanId": "00f067aa0ba902b7", "traceState": "a=b",
            })
        );
    }

    #[test]
    fn metrics_have_the_protocols_form() {
        let series = |name, unit| Series { name, unit, labels: vec![("outcome", "ok")] };
        let mut buckets = vec![0; BOUNDS.len() + 1];
        buckets[1] = 2;
        let document = metrics(
            "anchorhold",
            &[
                (series("a", "1"), Point::Count(3)),
                (series("b", "1"), Point::Gauge(4)),
                (series("c", "ms"), Point::Times { count: 2, sum_ms: 12.0, buckets }),
            ],
            1,
            2,
        );
        let all = &document["resourceMetrics"][0]["scopeMetrics"][0]["metrics"];
        assert_eq!(all[0]["sum"]["dataPoints"][0]["asInt"], "3");
        assert_eq!(all[0]["sum"]["dataPoints"][0]["attributes"][0], json!({"key": "outcome", "value": {"stringValue": "ok"}}));
        assert_eq!((&all[1]["gauge"]["dataPoints"][0]["asInt"], &all[1]["gauge"]["dataPoints"][0]["startTimeUnixNano"]), (&json!("4"), &Value::Null));
        let times = &all[2]["histogram"]["dataPoints"][0];
        assert_eq!((&times["count"], &times["bucketCounts"][1], &times["startTimeUnixNano"]), (&json!("2"), &json!("2"), &json!("1")));
        assert_eq!(times["explicitBounds"].as_array().unwrap().len() + 1, times["bucketCounts"].as_array().unwrap().len());
    }
}
