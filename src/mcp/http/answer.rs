//! Answers of our own: short JSON with a stable code. What the protocol answers is the protocol library's.

use std::convert::Infallible;

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};
use serde_json::json;

/// An answer, whole or streamed.
pub type Answer = Response<BoxBody<Bytes, Infallible>>;

/// Why a request is not let through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// No token, or a wrong one (`true`).
    Unauthorized(bool),
    /// It asks for a name that is not ours.
    ForeignHost,
    /// A web page that is not allowed made it.
    ForeignOrigin,
    /// No such path.
    NotFound,
    /// The path takes other methods: these.
    MethodNotAllowed(&'static str),
    /// The body has more bytes than are taken.
    TooLarge,
    /// The body did not come in time.
    TooSlow,
    /// The body broke off.
    Broken,
    /// As many clients as may be are connected.
    TooManyConnections,
    /// The protocol library refused it, with this status.
    Protocol(StatusCode),
}

impl Refusal {
    /// Status, code and message.
    fn words(self) -> (StatusCode, &'static str, &'static str) {
        match self {
            Self::Unauthorized(false) => (StatusCode::UNAUTHORIZED, "unauthorized", "a bearer token is required"),
            Self::Unauthorized(true) => (StatusCode::UNAUTHORIZED, "unauthorized", "the bearer token is not this server's"),
            Self::ForeignHost => {
                (StatusCode::FORBIDDEN, "foreign_host", "the Host header names another server; add the name to `[server] allowed_hosts`")
            }
            Self::ForeignOrigin => {
                (StatusCode::FORBIDDEN, "foreign_origin", "web pages of this origin may not call; add it to `[server] allowed_origins`")
            }
            Self::NotFound => (StatusCode::NOT_FOUND, "not_found", "there are /mcp, /healthz and /metrics"),
            Self::MethodNotAllowed(_) => (StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "the header Allow says which methods there are"),
            Self::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", "the body has more bytes than `[server] max_body`"),
            Self::TooSlow => (StatusCode::REQUEST_TIMEOUT, "body_timeout", "the body did not come within `[server] transfer_seconds`"),
            Self::Broken => (StatusCode::BAD_REQUEST, "body_broken", "the body could not be read"),
            Self::TooManyConnections => {
                (StatusCode::SERVICE_UNAVAILABLE, "too_many_connections", "as many clients as `[server] max_connections` are connected")
            }
            Self::Protocol(status) => match status {
                StatusCode::NOT_ACCEPTABLE => (status, "not_acceptable", "accept both application/json and text/event-stream"),
                StatusCode::UNSUPPORTED_MEDIA_TYPE => {
                    (status, "unsupported_media_type", "the body must be one JSON-RPC message, and Content-Type application/json")
                }
                status if status.is_client_error() => (status, "bad_request", "the request is not one of the protocol's"),
                status => (status, "internal_error", "the request could not be answered"),
            },
        }
    }

    /// The answer. After one that leaves a body unread the connection is of no more use.
    pub fn answer(self) -> Answer {
        let (status, code, message) = self.words();
        let mut answer = json_answer(status, &json!({"ok": false, "error": {"code": code, "message": message}}));
        let mut set = |name: HeaderName, value: &'static str| drop(answer.headers_mut().insert(name, HeaderValue::from_static(value)));
        match self {
            Self::Unauthorized(false) => set(header::WWW_AUTHENTICATE, "Bearer realm=\"anchorhold\""),
            Self::Unauthorized(true) => set(header::WWW_AUTHENTICATE, "Bearer realm=\"anchorhold\", error=\"invalid_token\""),
            Self::MethodNotAllowed(methods) => set(header::ALLOW, methods),
            Self::TooLarge | Self::TooSlow | Self::Broken => set(header::CONNECTION, "close"),
            Self::TooManyConnections => {
                set(header::CONNECTION, "close");
                set(header::RETRY_AFTER, "1");
            }
            _ => {}
        }
        answer
    }
}

/// A JSON document.
pub fn json_answer(status: StatusCode, document: &serde_json::Value) -> Answer {
    text_answer(status, "application/json", format!("{document}\n"))
}

/// A text.
pub fn text_answer(status: StatusCode, media_type: &'static str, text: String) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from(text)).boxed());
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    answer
}

/// Nothing but a status.
pub fn empty_answer(status: StatusCode) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::new()).boxed());
    *answer.status_mut() = status;
    answer
}

/// The protocol library's refusals in plain words become ours; its JSON-RPC errors stay.
pub fn in_our_words(answer: Answer) -> Answer {
    let status = answer.status();
    let json = answer.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/json"));
    if json || !(status.is_client_error() || status.is_server_error()) { answer } else { Refusal::Protocol(status).answer() }
}
