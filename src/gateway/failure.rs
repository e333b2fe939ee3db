//! What went wrong at the provider, in our words: one mapping for real upstreams and for the rehearsal model.
//!
//! Codex 0.169 treats statuses differently (it stops at once on 400 and 429, retries 401 and 404 for seconds and 5xx for half a minute), so the
//! status is kept; the body is replaced by ours in the provider's shape, with the few machine-readable words that Codex reads.

use serde_json::{Value, json};

use crate::protocol::result::ProviderError;
use crate::weaken;

/// A failed request: what the job's record says and what Codex is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// For the account and the slot connection.
    pub error: ProviderError,
    /// For Codex.
    pub status: u16,
    /// `error.type` for Codex.
    pub kind: &'static str,
    /// `error.code` for Codex.
    pub code: Option<&'static str>,
}

/// What a failed upstream response said, before it is put into our words.
#[derive(Debug, Default)]
pub struct Said {
    /// HTTP status.
    pub status: u16,
    /// The `Retry-After` header in seconds.
    pub retry_after: Option<u64>,
    /// The body, bounded; not to be shown.
    pub body: Vec<u8>,
}

/// Longest waiting time that Codex is told, in seconds. It waits that long and tries again, up to five times: good for a moment's congestion. Told of
/// an hour it would sleep until the job's deadline; not told, it stops at once, and the job's result says when a retry makes sense.
const MAX_WAIT: u64 = 30;

/// Codes that Codex gives a meaning to; any other word of the provider is dropped.
const KNOWN_CODES: [&str; 12] = [
    "context_length_exceeded",
    "insufficient_quota",
    "usage_limit_reached",
    "usage_not_included",
    "rate_limit_exceeded",
    "server_is_overloaded",
    "slow_down",
    "server_error",
    "model_not_found",
    "invalid_api_key",
    "invalid_prompt",
    "cyber_policy",
];

fn known(code: Option<&str>) -> Option<&'static str> {
    KNOWN_CODES.into_iter().find(|k| Some(*k) == code)
}

impl Failure {
    fn new(status: u16, kind: &str, provider_status: Option<u16>, message: impl Into<String>) -> Self {
        Self {
            error: ProviderError {
                kind: kind.to_owned(),
                message: message.into(),
                status: provider_status,
                retry_after_seconds: None,
                resets_at: None,
            },
            status,
            kind: "server_error",
            code: None,
        }
    }

    /// No answer could be had.
    pub fn unreachable(message: impl Into<String>) -> Self {
        Self::new(503, "unreachable", None, message)
    }

    /// The answer broke off, or was none.
    pub fn cut(message: impl Into<String>) -> Self {
        Self::new(502, "cut", Some(200), message)
    }

    /// From an HTTP answer other than 200.
    pub fn from_status(said: &Said) -> Self {
        let body: Value = serde_json::from_slice(&said.body).unwrap_or_default();
        let error = body.get("error").unwrap_or(&Value::Null);
        let text = |key: &str| error.get(key).and_then(Value::as_str);
        let code = known(text("code")).or(known(text("type")));
        let retry = said.retry_after.or_else(|| text("message").and_then(try_again_seconds));
        let resets_at = error
            .get("resets_at")
            .and_then(Value::as_i64)
            .or_else(|| Some(now_unix().saturating_add(error.get("resets_in_seconds")?.as_i64()?)))
            .filter(|at| (0..=253_402_300_799).contains(at));
        let status = Some(said.status);
        let mut failure = match (said.status, code) {
            (401 | 403, _) => Self { kind: "invalid_request_error", ..Self::new(said.status, "auth", status, "the provider refused the API key") },
            (402, _) | (429, Some("insufficient_quota")) => {
                Self { kind: "insufficient_quota", ..Self::new(429, "quota", status, "the provider's quota is used up") }
            }
            (429, Some("usage_limit_reached" | "usage_not_included")) => {
                let kind = if code == Some("usage_not_included") { "usage_not_included" } else { "usage_limit_reached" };
                Self { kind, ..Self::new(429, "quota", status, "the usage limit of the provider's plan is reached") }
            }
            (429, _) => Self { kind: "rate_limit_exceeded", ..Self::new(429, "rate_limit", status, "the provider limits the rate of requests") },
            (404, _) | (400, Some("model_not_found")) => Self {
                kind: "invalid_request_error",
                ..Self::new(said.status, "model", status, "the provider does not know the model, or has no Responses API at this address")
            },
            (400, Some("context_length_exceeded")) => {
                Self { kind: "invalid_request_error", ..Self::new(400, "bad_request", status, "the conversation is longer than the model can read") }
            }
            // Success without an answer: 204, 206 and the like.
            (0..=299, _) => Self::new(502, "cut", status, "the provider's answer is not what the Responses API sends"),
            (300..=399, _) => Self::new(503, "unreachable", status, "the provider answered with a redirect, which is not followed"),
            (400..=499, _) => Self { kind: "invalid_request_error", ..Self::new(400, "bad_request", status, "the provider refused the request") },
            (500, _) => Self::new(500, "server_error", status, "the provider failed"),
            _ => Self::new(503, "server_error", status, "the provider is overloaded or failed"),
        };
        failure.code = code;
        failure.error.retry_after_seconds = retry.map(|s| s.min(365 * 86_400));
        failure.error.resets_at = resets_at;
        if weaken::off("response.errors") {
            failure.error.message = String::from_utf8_lossy(&said.body).into_owned();
        }
        failure
    }

    /// From the `error` object of a `response.failed` or `error` event.
    pub fn from_event(error: &Value) -> Self {
        let text = |key: &str| error.get(key).and_then(Value::as_str);
        let code = known(text("code")).or(known(text("type")));
        let status = Some(200);
        let mut failure = match code {
            Some("insufficient_quota" | "usage_limit_reached" | "usage_not_included") => {
                Self::new(429, "quota", status, "the provider's quota is used up")
            }
            Some("rate_limit_exceeded" | "slow_down") => Self::new(429, "rate_limit", status, "the provider limits the rate of requests"),
            Some("context_length_exceeded") => Self::new(400, "bad_request", status, "the conversation is longer than the model can read"),
            Some("invalid_prompt" | "cyber_policy") => Self::new(400, "bad_request", status, "the provider refused the request"),
            Some("model_not_found") => Self::new(404, "model", status, "the provider does not know the model"),
            Some("invalid_api_key") => Self::new(401, "auth", status, "the provider refused the API key"),
            _ => Self::new(500, "server_error", status, "the provider failed while it answered"),
        };
        failure.code = code;
        failure.error.retry_after_seconds = text("message").and_then(try_again_seconds);
        if weaken::off("response.errors") {
            failure.error.message = error.to_string();
        }
        failure
    }

    /// The body for Codex.
    pub fn body(&self) -> String {
        let mut error = json!({"message": self.message_for_codex(), "type": self.kind, "param": null, "code": self.code});
        if let (Some(at), Value::Object(map)) = (self.error.resets_at, &mut error) {
            map.insert("resets_at".to_owned(), at.into());
        }
        json!({ "error": error }).to_string()
    }

    /// A `response.failed` event for Codex.
    pub fn event(&self) -> String {
        let data = json!({
            "type": "response.failed",
            "response": {"id": "resp_failed", "object": "response", "status": "failed",
                "error": {"code": self.code.unwrap_or("server_error"), "message": self.message_for_codex()}}
        });
        format!("event: response.failed\ndata: {data}\n\n")
    }

    /// Seconds for the `Retry-After` header, where Codex should wait and try again.
    pub fn wait(&self) -> Option<u64> {
        self.error.retry_after_seconds.filter(|seconds| *seconds <= MAX_WAIT && self.error.kind != "quota")
    }

    /// Codex reads the waiting time out of this very phrase.
    fn message_for_codex(&self) -> String {
        match self.wait() {
            Some(seconds) if self.error.kind == "rate_limit" => format!("{}; try again in {seconds}s", self.error.message),
            _ => self.error.message.clone(),
        }
    }
}

/// Seconds in "try again in 1.5s" or "… 300ms", rounded up.
fn try_again_seconds(message: &str) -> Option<u64> {
    let lower = message.to_ascii_lowercase();
    let rest = lower.split_once("try again in")?.1.trim_start();
    let end = rest.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(rest.len());
    let (number, unit) = rest.split_at(end);
    let number: f64 = number.trim_end_matches('.').parse().ok()?;
    let unit = unit.trim_start();
    let seconds = if unit.starts_with("ms") {
        number / 1000.0
    } else if unit.starts_with('s') {
        number
    } else if unit.starts_with('m') {
        number * 60.0
    } else {
        return None;
    };
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked to be in range")]
    (0.0..1e9).contains(&seconds).then(|| seconds.ceil() as u64)
}

/// Seconds since 1970.
pub fn now_unix() -> i64 {
    i64::try_from(crate::fault::unix_ms() / 1000).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(status: u16, body: &Value) -> Failure {
        Failure::from_status(&Said { status, retry_after: None, body: body.to_string().into_bytes() })
    }

    #[test]
    fn statuses_and_codes_map_to_kinds_and_to_what_codex_understands() {
        let code = |code: &str| json!({"error": {"message": "SECRET provider words", "type": code, "code": code}});
        for (status, body, kind, answered) in [
            (401, code("invalid_api_key"), "auth", 401),
            (403, json!({}), "auth", 403),
            (402, json!({}), "quota", 429),
            (404, code("model_not_found"), "model", 404),
            (400, code("model_not_found"), "model", 400),
            (400, code("context_length_exceeded"), "bad_request", 400),
            (400, code("whatever"), "bad_request", 400),
            (413, json!("text"), "bad_request", 400),
            (429, code("rate_limit_exceeded"), "rate_limit", 429),
            (429, code("insufficient_quota"), "quota", 429),
            (429, code("usage_limit_reached"), "quota", 429),
            (429, json!(null), "rate_limit", 429),
            (302, json!({}), "unreachable", 503),
            (500, json!({}), "server_error", 500),
            (502, json!({}), "server_error", 503),
            (503, code("server_is_overloaded"), "server_error", 503),
            (529, json!({}), "server_error", 503),
        ] {
            let failure = said(status, &body);
            assert_eq!((failure.error.kind.as_str(), failure.status), (kind, answered), "{status} {body}");
            assert!(!failure.body().contains("SECRET"));
        }
    }

    #[test]
    fn nothing_of_a_body_that_is_none_of_theirs_is_repeated() {
        let deep = [b'['; 60_000].to_vec();
        for body in [
            b"<html>SECRET sk-test</html>".to_vec(),
            b"\x1f\x8b\x08SECRET".to_vec(),
            br#"{"error":{"message":"Incorrect API key provided: SECRET","code":"SECRET","type":{"SECRET":1},"resets_at":"SECRET"}}"#.to_vec(),
            br#"{"error":"SECRET"}"#.to_vec(),
            br#"{"error":{"message":"SECRET","resets_at":1e300,"resets_in_seconds":9223372036854775807}}"#.to_vec(),
            format!(r#"{{"error":{{"message":"{}"#, "SECRET".repeat(10_000)).into_bytes(),
            deep,
            Vec::new(),
        ] {
            for status in [200, 204, 301, 307, 400, 401, 403, 418, 429, 500, 503, 599] {
                let failure = Failure::from_status(&Said { status, retry_after: None, body: body.clone() });
                let said = format!("{}{}{:?}", failure.body(), failure.event(), failure.error);
                assert!(!said.contains("SECRET") && said.len() < 2000, "{status}: {said}");
                assert!((400..600).contains(&failure.status));
            }
        }
    }

    #[test]
    fn times_that_the_provider_gives_are_kept() {
        let limit = said(429, &json!({"error": {"type": "usage_limit_reached", "resets_at": 1_800_000_000}}));
        assert_eq!(limit.error.resets_at, Some(1_800_000_000));
        assert!(limit.body().contains(r#""type":"usage_limit_reached""#) && limit.body().contains("1800000000"));
        assert_eq!(Failure::from_status(&Said { status: 429, retry_after: Some(20), body: Vec::new() }).error.retry_after_seconds, Some(20));
        for (seconds, told) in [(30, Some(30)), (31, None), (86_400, None)] {
            let failure = Failure::from_status(&Said { status: 429, retry_after: Some(seconds), body: Vec::new() });
            assert_eq!((failure.wait(), failure.body().contains("try again in")), (told, told.is_some()));
        }
        for (text, seconds) in [
            ("Please try again in 1.5s.", Some(2)),
            ("try again in 300ms", Some(1)),
            ("Try again in 2m", Some(120)),
            ("try again in 6 seconds", Some(6)),
            ("try again in a while", None),
            ("try again in 1e300s", None),
            ("later", None),
        ] {
            assert_eq!(try_again_seconds(text), seconds, "{text}");
        }
    }

    #[test]
    fn failed_events_are_written_anew() {
        let failure = Failure::from_event(&json!({"code": "rate_limit_exceeded", "message": "SECRET: try again in 1.5s"}));
        let event = failure.event();
        assert!(event.contains("rate_limit_exceeded") && event.contains("try again in 2s") && !event.contains("SECRET"), "{event}");
        assert!(Failure::from_event(&json!({"code": "mystery"})).event().contains("server_error"));
    }
}
