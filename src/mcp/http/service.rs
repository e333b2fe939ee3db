//! One request: checked, then answered by what its path stands for.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{self, HeaderValue};
use hyper::{Method, Request, StatusCode};
use rmcp::transport::streamable_http_server::session::never::NeverSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};
use serde_json::json;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::super::counters::Counters;
use super::super::reach::Reach;
use super::super::server::{Server, Shared};
use super::access::Access;
use super::answer::{self, Answer, Refusal};
use super::door::{Door, Guest};
use crate::config::Settings;
use crate::job::Jobs;
use crate::telemetry::prometheus::{MEDIA_TYPE, Page};
use crate::weaken;

/// For ever, as far as a test is concerned.
pub const FOREVER: Duration = Duration::from_secs(7 * 86_400);
/// How long what the engine said counts for the next scrape.
const FRESH: Duration = Duration::from_secs(5);
/// How long the engine may take for a scrape.
const STATS_WITHIN: Duration = Duration::from_secs(5);
/// Headers that a web page may send, and see.
const CORS_HEADERS: &str = "authorization, content-type, accept, mcp-protocol-version, mcp-method, mcp-name, mcp-session-id, last-event-id";

/// Of one server; each request gets an `Arc` of it.
pub struct Service {
    access: Access,
    door: Arc<Door>,
    jobs: Jobs,
    protocol: StreamableHttpService<Server, NeverSessionManager>,
    counters: Arc<Counters>,
    max_body: usize,
    transfer: Duration,
    asked: tokio::sync::Mutex<Option<(Instant, String)>>,
}

impl Service {
    /// `closed` says that the server ends: waiting calls answer at once. `cut` ends what streams even then.
    pub fn new(jobs: Jobs, access: Access, door: Arc<Door>, calls: TaskTracker, closed: CancellationToken, cut: CancellationToken) -> Self {
        let Settings { server, roots, .. } = jobs.settings();
        let counters = Arc::new(Counters::default());
        let shared = Arc::new(Shared::over_http(jobs.clone(), closed, calls, Reach::beneath(&roots.allow), counters.clone()));
        let max_body = if weaken::off("http.body") { usize::MAX } else { usize::try_from(server.max_body.0).unwrap_or(usize::MAX) };
        let transfer = if weaken::off("http.body_time") { FOREVER } else { Duration::from_secs(server.transfer_seconds) };
        // Host, Origin and size are checked here, with answers of ours. No sessions: each request stands for itself, in both eras.
        let config = StreamableHttpServerConfig::default()
            .with_legacy_session_mode(false)
            .with_json_response(true)
            .disable_allowed_hosts()
            .disable_allowed_origins()
            .with_max_request_body_bytes(usize::MAX)
            .with_cancellation_token(cut);
        let protocol = StreamableHttpService::new(move || Ok(Server::of(shared.clone())), Arc::default(), config);
        Self { access, door, jobs, protocol, counters, max_body, transfer, asked: tokio::sync::Mutex::default() }
    }

    /// Answers, and counts the answer.
    pub async fn serve(&self, request: Request<Incoming>, guest: &Guest) -> Answer {
        let path = match request.uri().path() {
            "/mcp" => "/mcp",
            "/healthz" => "/healthz",
            "/metrics" => "/metrics",
            _ => "other",
        };
        let answer = self.answer(path, request, guest).await.unwrap_or_else(|refusal| {
            tracing::debug!(path, ?refusal, "a request was refused");
            refusal.answer()
        });
        self.counters.answer(path, answer.status().as_u16());
        answer
    }

    async fn answer(&self, path: &'static str, request: Request<Incoming>, guest: &Guest) -> Result<Answer, Refusal> {
        let reads = matches!(*request.method(), Method::GET | Method::HEAD);
        if path == "/healthz" {
            // It says nothing that is worth guarding, and a prober knows neither token nor name.
            return if reads { Ok(answer::json_answer(StatusCode::OK, &json!({"ok": true}))) } else { Err(Refusal::MethodNotAllowed("GET, HEAD")) };
        }
        self.access.host(request.uri(), request.headers())?;
        let page = self.access.origin(request.headers())?;
        let mut answer = match self.checked(path, reads, page.is_some(), request, guest).await {
            Ok(answer) => answer,
            Err(refusal) if page.is_some() => refusal.answer(),
            Err(refusal) => return Err(refusal),
        };
        if let Some(page) = page {
            let headers = answer.headers_mut();
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, page);
            headers.append(header::VARY, HeaderValue::from_static("Origin"));
        }
        Ok(answer)
    }

    async fn checked(&self, path: &str, reads: bool, of_page: bool, request: Request<Incoming>, guest: &Guest) -> Result<Answer, Refusal> {
        if path == "other" {
            return Err(Refusal::NotFound);
        }
        if of_page && request.method() == Method::OPTIONS {
            // A browser asks before it sends the page's request, and without the token.
            return Ok(preflight());
        }
        self.access.token(request.headers())?;
        if !guest.known() {
            return Err(Refusal::TooManyConnections);
        }
        match path {
            "/metrics" if reads => Ok(answer::text_answer(StatusCode::OK, MEDIA_TYPE, self.metrics().await)),
            "/metrics" => Err(Refusal::MethodNotAllowed("GET, HEAD")),
            _ if request.method() == Method::POST => self.message(request).await,
            // There are no sessions, so there is neither a stream of their own to get nor one of them to delete.
            _ => Err(Refusal::MethodNotAllowed("POST")),
        }
    }

    /// One message of the protocol.
    async fn message(&self, request: Request<Incoming>) -> Result<Answer, Refusal> {
        let (mut head, body) = request.into_parts();
        let said = head.headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()).and_then(|text| text.parse::<usize>().ok());
        if said.is_some_and(|bytes| bytes > self.max_body) {
            return Err(Refusal::TooLarge);
        }
        let body: Bytes = match tokio::time::timeout(self.transfer, Limited::new(body, self.max_body).collect()).await {
            Ok(Ok(body)) => body.to_bytes(),
            Ok(Err(e)) if e.is::<http_body_util::LengthLimitError>() => return Err(Refusal::TooLarge),
            Ok(Err(_)) => return Err(Refusal::Broken),
            Err(_) => return Err(Refusal::TooSlow),
        };
        // What follows hands the head on to handlers.
        head.headers.remove(header::AUTHORIZATION);
        head.headers.remove(header::COOKIE);
        let answer = self.protocol.handle(Request::from_parts(head, Full::new(body))).await;
        Ok(answer::in_our_words(answer))
    }

    /// Everything that is counted: here, and what the engine and the gateway say.
    async fn metrics(&self) -> String {
        let mut page = Page::default();
        let (clients, strangers) = self.door.count();
        page.one("anchorhold_http_clients", "gauge", "Connections of clients.", clients as u64);
        page.one("anchorhold_http_strangers", "gauge", "Connections of which no request was let through.", strangers as u64);
        page.one("anchorhold_jobs_started_total", "counter", "Jobs that this process started.", self.jobs.started());
        self.counters.write(&mut page);
        // One scrape asks at a time, and others take what it heard.
        let mut asked = self.asked.lock().await;
        let fresh = asked.as_ref().filter(|(at, _)| at.elapsed() < FRESH).map(|(_, text)| text.clone());
        let stats = match fresh {
            Some(text) => text,
            None => {
                let mut heard = Page::default();
                let stats = tokio::time::timeout(STATS_WITHIN, self.jobs.stats()).await;
                let up = matches!(&stats, Ok(Ok(_)));
                heard.one("anchorhold_engine_up", "gauge", "Whether the engine answers.", up.into());
                let mut text = heard.text();
                if let Ok(Ok(stats)) = stats {
                    text.push_str(&stats.prometheus());
                }
                *asked = Some((Instant::now(), text.clone()));
                text
            }
        };
        page.text() + &stats
    }
}

fn preflight() -> Answer {
    let mut answer = answer::empty_answer(StatusCode::NO_CONTENT);
    let headers = answer.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("POST, GET"));
    headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static(CORS_HEADERS));
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
    answer
}
