//! One model request from end to end: check, send, stream the answer back, write down what happened.
//!
//! Nothing of the job's HTTP request travels on but the rebuilt body; nothing of the provider's answer comes back but status 200 and checked
//! events, or our own error.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Body as _, Frame, Incoming};
use hyper::header::{ALLOW, CONNECTION, CONTENT_ENCODING, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER, UPGRADE};
use hyper::{Method, Request, Response, StatusCode, Version};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

use super::departure::Outgoing;
use super::failure::{Failure, Said};
use super::meter::{BYTES_PER_TOKEN, Meter};
use super::policy;
use super::registry::{Denied, JobSession, Keys, Place, Registry, Terms};
use super::sse::{Cut, End, Reader};
use super::upstream::{Address, Answer, TransportError};
use crate::protocol::admin::Upstream;
use crate::protocol::connection::StopCode;
use crate::protocol::manifest::hex;
use crate::weaken;

/// The one path there is.
pub const PATH: &str = "/v1/responses";
/// Request bodies of all jobs together that may be in memory at once.
const MAX_BUFFERED: usize = 48 << 20;
/// The same of one job: two of the largest.
const MAX_BUFFERED_JOB: usize = 16 << 20;
/// A request that is not large; a usual one of Codex has 60 kB.
const SMALL_BODY: usize = 1 << 20;
/// Bytes beyond [`MAX_BUFFERED`] that only small requests may use.
const FOR_SMALL: usize = 16 << 20;
/// Bytes of a failed answer's body that are read for its code.
const MAX_ERROR_BODY: usize = 64 << 10;
/// Where a bound on time is taken away for a control.
pub const FOREVER: Duration = Duration::from_secs(1 << 30);

/// Largest head of a request.
pub const MAX_HEAD: usize = 64 << 10;

/// How long each part may take.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// The first line of a connection.
    pub preamble: Duration,
    /// A request's head, and the wait for it on an idle connection.
    pub head: Duration,
    /// A request's body.
    pub body: Duration,
    /// From a request sent to the provider to the head of its answer.
    pub first_byte: Duration,
    /// Between two events of the provider's answer.
    pub idle: Duration,
    /// For the job to take anything of the answer.
    pub client: Duration,
    /// For which slots and places are held after a restart or a standstill.
    pub awaited: Duration,
    /// From SIGTERM to the end of what is under way.
    pub shutdown: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            preamble: Duration::from_secs(5),
            head: Duration::from_secs(60),
            body: Duration::from_secs(60),
            // The job's own bounds are the shorter ones.
            first_byte: FOREVER,
            idle: FOREVER,
            client: Duration::from_secs(60),
            awaited: Duration::from_secs(10),
            shutdown: Duration::from_secs(2),
        }
    }
}

impl Timing {
    /// With other times for tests and controls: `client=2000,body=500`, in milliseconds. What is not understood changes nothing.
    #[must_use]
    pub fn with(mut self, changes: &str) -> Self {
        for (name, time) in changes.split(',').filter_map(|change| change.split_once('=')) {
            let Ok(time) = time.trim().parse().map(Duration::from_millis) else { continue };
            match name.trim() {
                "preamble" => self.preamble = time,
                "head" => self.head = time,
                "body" => self.body = time,
                "first_byte" => self.first_byte = time,
                "idle" => self.idle = time,
                "client" => self.client = time,
                _ => {}
            }
        }
        self
    }
}

/// The body of a response to a job.
pub type JobBody = UnsyncBoxBody<Bytes, std::io::Error>;

/// What serves the requests of one connection.
#[derive(Clone)]
pub struct Relay {
    /// The gateway's state.
    pub registry: Arc<Registry>,
    /// The job, or `None` behind a pass that is not valid.
    pub session: Option<JobSession>,
    /// How long things may take.
    pub timing: Timing,
    /// Owns the tasks that stream answers.
    pub tasks: TaskTracker,
}

/// A refusal of ours.
struct No {
    status: StatusCode,
    code: &'static str,
    message: String,
}

impl Relay {
    /// Answers one HTTP request.
    pub async fn serve(self, request: Request<Incoming>) -> Result<Response<JobBody>, Infallible> {
        let span = tracing::error_span!("request", job_id = self.session.as_ref().map(|session| session.job_id.as_str()));
        self.answer(request).instrument(span).await
    }

    async fn answer(self, request: Request<Incoming>) -> Result<Response<JobBody>, Infallible> {
        let Some(session) = &self.session else {
            return Ok(refusal(&dead_pass()));
        };
        let mut meter = Meter::new(self.registry.clone(), session.job_id.clone());
        let response = match self.relay(session, request, &mut meter).await {
            Ok(ready) => self.stream(session, ready, meter),
            Err(Stop::No(no)) => {
                meter.outcome = no.code;
                meter.status = no.status.as_u16();
                refusal(&no)
            }
            Err(Stop::Failure(failure)) => {
                meter.fail(&failure);
                failed(&failure)
            }
        };
        Ok(response)
    }

    /// Everything up to the head of the provider's answer.
    async fn relay(&self, session: &JobSession, request: Request<Incoming>, meter: &mut Meter) -> Result<Ready, Stop> {
        let terms = match self.registry.begin(&session.job_id) {
            Ok(terms) => terms,
            // Codex tries again after 503; `init` may only just be asking for its slot back after a restart of the gateway.
            Err(Denied::Slot) => return Err(no(StatusCode::SERVICE_UNAVAILABLE, "no_slot", "this job holds no slot").into()),
            Err(denied) => return Err(denied_for_good(denied).into()),
        };
        if let Err(no) = check_head(&request) {
            meter.settlement.refused = true;
            return Err(no.into());
        }
        let permit = session.in_flight.clone().acquire_owned().await.map_err(|_| dead_pass())?;
        let place = self.registry.enter().ok_or_else(|| no(StatusCode::SERVICE_UNAVAILABLE, "busy", "the gateway serves too many requests"))?;
        let (held, weight) = self.read(session, request.into_body(), meter).await?;
        crate::fault::point("gateway.read");
        let rough = held.len() as u64 / BYTES_PER_TOKEN;
        let accepted = match self.check(held, &terms).await {
            Ok(accepted) => accepted,
            Err((refusal, digest)) => {
                meter.settlement.refused = true;
                meter.field("sha256", digest);
                return Err(no(StatusCode::BAD_REQUEST, refusal.code, refusal.message).into());
            }
        };
        if !accepted.forced.is_empty() {
            meter.field("forced", accepted.forced);
        }
        let (model, additional_tools, mut tree) = (accepted.model, accepted.additional_tools, accepted.request);
        meter.field("model", model.as_str());
        let reservation = self.registry.reserve(session, &tree, rough).await.map_err(denied_for_good)?;
        if let (Some(output), Value::Object(request)) = (reservation.output, &mut tree)
            && !weaken::off("budget.max_output")
        {
            request.insert("max_output_tokens".to_owned(), output.into());
        }
        meter.reserved(reservation);
        crate::fault::point("gateway.reserved");
        let body = Bytes::from(tree.to_string());
        meter.field("sent_bytes", body.len());
        meter.field("sha256", hex(&Sha256::digest(&body)));
        let tree = matches!(terms.upstream, Upstream::Rehearsal).then_some(tree);
        // Always there: it was just reserved for.
        let Some(departure) = meter.departure.clone() else { return Err(dead_pass().into()) };
        let send = async {
            match &terms.upstream {
                Upstream::Http { base_url, authorities } => {
                    let to = Address { base_url, authorities: authorities.as_deref() };
                    self.registry.client.send(to, terms.credential.as_deref(), additional_tools, Outgoing::new(body, departure.clone())).await
                }
                Upstream::Rehearsal if !departure.leave() => Err(TransportError::Broken),
                Upstream::Rehearsal => self.registry.rehearsal.answer(&session.job_id, tree.as_ref().unwrap_or(&Value::Null), body.len()).await,
            }
        };
        let answer = tokio::select! {
            answer = tokio::time::timeout(self.timing.first_byte.min(terms.answer), send) => answer,
            () = session.cancel.cancelled() => return Err(dead_pass().into()),
        };
        drop(weight);
        match answer {
            Ok(Ok(answer)) if answer.status == 200 => Ok(Ready { answer, terms, permit, place }),
            Ok(Ok(answer)) => {
                // What a provider refuses with a status it does not count.
                meter.unbilled = true;
                Err(Stop::Failure(Box::new(Failure::from_status(&read_failed(answer).await))))
            }
            Ok(Err(_)) if departure.kept() => Err(denied_for_good(Denied::Ledger).into()),
            Ok(Err(TransportError::Connect(why))) => {
                // The scripted model says so of a request that it was given.
                meter.unbilled |= matches!(terms.upstream, Upstream::Rehearsal);
                Err(Stop::Failure(Box::new(Failure::unreachable(why))))
            }
            Ok(Err(TransportError::Broken)) => {
                Err(Stop::Failure(Box::new(Failure::unreachable("the provider closed the connection without an answer"))))
            }
            Err(_) => {
                self.registry.heard_out(&session.job_id, true);
                Err(Stop::Failure(Box::new(Failure::unreachable("the provider took the request and did not answer in time"))))
            }
        }
    }

    /// Checks a body; a large one beside what streams, and few of them at once. Of a refused one its digest is kept.
    async fn check(&self, body: Vec<u8>, terms: &Terms) -> Result<policy::Accepted, (policy::Refusal, String)> {
        fn check(body: &[u8], keys: &Keys) -> Result<policy::Accepted, (policy::Refusal, String)> {
            let Keys { allowed_models, cache_key, earlier_keys } = keys;
            policy::check(body, &policy::Terms { allowed_models, cache_key, earlier_keys }).map_err(|refusal| (refusal, hex(&Sha256::digest(body))))
        }
        if body.len() <= SMALL_BODY {
            return check(&body, &terms.keys);
        }
        let failed = |_| (policy::Refusal { code: "internal", message: "the request could not be checked".to_owned() }, String::new());
        // Never closed.
        let _turn = self.registry.heavy.acquire().await.ok();
        let keys = terms.keys.clone();
        match tokio::task::spawn_blocking(move || check(&body, &keys)).await {
            Ok(checked) => checked,
            Err(e) => Err(failed(e)),
        }
    }

    /// Reads a request body, counted while it comes, within the job's and everybody's bounds.
    async fn read(&self, session: &JobSession, mut body: Incoming, meter: &mut Meter) -> Result<(Vec<u8>, Weight), Stop> {
        let too_large = || no(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", "the request body is larger than 8 MiB");
        let max_body = if weaken::off("gateway.body_size") { usize::MAX } else { policy::MAX_BODY };
        if body.size_hint().lower() > max_body as u64 {
            meter.settlement.refused = true;
            return Err(too_large().into());
        }
        let mut held = Vec::new();
        let mut weight = Weight { everybody: self.registry.buffered.clone(), job: session.buffered.clone(), bytes: 0 };
        let time = if weaken::off("gateway.body_time") { FOREVER } else { self.timing.body };
        let deadline = tokio::time::Instant::now() + time;
        loop {
            let frame = match tokio::time::timeout_at(deadline, body.frame()).await {
                Ok(None) => break,
                Ok(Some(Ok(frame))) => frame,
                Ok(Some(Err(_))) => return Err(no(StatusCode::BAD_REQUEST, "body_broken", "the request body broke off").into()),
                Err(_) => {
                    meter.settlement.refused = true;
                    return Err(no(StatusCode::REQUEST_TIMEOUT, "body_too_slow", "the request body came too slowly").into());
                }
            };
            let Some(data) = frame.data_ref() else { continue };
            if held.len() + data.len() > max_body {
                meter.settlement.refused = true;
                return Err(too_large().into());
            }
            if !weight.add(data.len()) {
                return Err(no(StatusCode::SERVICE_UNAVAILABLE, "busy", "the gateway holds too many requests").into());
            }
            held.extend_from_slice(data);
        }
        meter.field("received_bytes", held.len());
        Ok((held, weight))
    }

    /// Begins the response at once and streams the answer into it from a task of its own.
    fn stream(&self, session: &JobSession, ready: Ready, meter: Meter) -> Response<JobBody> {
        let (sender, receiver) = mpsc::channel(4);
        let cancel = session.cancel.clone();
        let timing = self.timing;
        let streaming = async move {
            tokio::select! {
                () = pump(ready, sender, meter, timing) => {}
                () = cancel.cancelled() => {}
            }
        };
        self.tasks.spawn(streaming.in_current_span());
        let body = StreamBody::new(futures_util::stream::unfold(receiver, |mut receiver| async move {
            let next = receiver.recv().await?;
            Some((next, receiver))
        }));
        let mut response = Response::new(body.boxed_unsync());
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
        response
    }
}

/// A request that the provider has begun to answer with success.
struct Ready {
    answer: Answer,
    terms: Terms,
    permit: OwnedSemaphorePermit,
    place: Place,
}

/// Why there is no answer to stream.
enum Stop {
    No(No),
    Failure(Box<Failure>),
}

impl From<No> for Stop {
    fn from(no: No) -> Self {
        Self::No(no)
    }
}

/// Bytes of a request that are in memory in one form or another, until it is answered.
struct Weight {
    everybody: Arc<AtomicUsize>,
    job: Arc<AtomicUsize>,
    bytes: usize,
}

impl Weight {
    /// Counts further bytes; false if they are too many. A small request has room even where others have filled the rest.
    fn add(&mut self, bytes: usize) -> bool {
        self.bytes += bytes;
        let job = self.job.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let all = self.everybody.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let most = if self.bytes <= SMALL_BODY { MAX_BUFFERED + FOR_SMALL } else { MAX_BUFFERED };
        job <= MAX_BUFFERED_JOB && all <= most || weaken::off("gateway.buffered")
    }
}

impl Drop for Weight {
    fn drop(&mut self) {
        self.job.fetch_sub(self.bytes, Ordering::Relaxed);
        self.everybody.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// What a job's connection takes: pieces of the answer, or an error that breaks it off.
type Sender = mpsc::Sender<Result<Frame<Bytes>, std::io::Error>>;

/// Passes events on as they come. The request is settled before its last event is sent, so that whoever sees the end finds it counted.
async fn pump(ready: Ready, sender: Sender, mut meter: Meter, timing: Timing) {
    let Ready { answer, terms, permit, place } = ready;
    meter.status = 200;
    let is_stream = answer.content_type.split(';').next().is_some_and(|t| t.trim().eq_ignore_ascii_case("text/event-stream"));
    let mut body = answer.body;
    let mut reader = Reader::new(terms.credential.as_deref(), &terms.keys.cache_key);
    let idle = timing.idle.min(terms.idle);
    // Only an event puts it off: comments that keep a connection alive are no answer, and Codex would not see them.
    let mut silent = Instant::now() + idle;
    let why = loop {
        if !is_stream {
            break "the provider's answer is not an event stream";
        }
        let piece = tokio::select! {
            piece = tokio::time::timeout_at(silent, body.next()) => piece,
            () = sender.closed() => {
                meter.outcome = "client_gone";
                return;
            }
        };
        let bytes = match piece {
            Ok(Some(Ok(bytes))) => bytes,
            Ok(Some(Err(_))) => break "the connection to the provider broke while it answered",
            Ok(None) => break "the provider's answer ended before it was complete",
            Err(_) => {
                meter.registry.heard_out(&meter.job_id, true);
                meter.fail(&Failure::unreachable("the provider stopped in the middle of its answer"));
                meter.status = 200;
                drop(meter);
                let _ = sender.send(Err(std::io::Error::other("silent"))).await;
                return;
            }
        };
        let mut out = Vec::with_capacity(bytes.len() + 64);
        let result = reader.push(&bytes, &mut out);
        meter.passed(&out);
        meter.settlement.usage = reader.usage;
        if reader.dropped > 0 {
            meter.field("dropped_events", reader.dropped);
        }
        if reader.events > 0 && !meter.answered {
            meter.answered = true;
            meter.registry.answered(&meter.job_id);
            crate::fault::point("gateway.first_byte");
        }
        if let Some(end) = reader.end.take() {
            match end {
                End::Done => {
                    meter.outcome = "ok";
                    meter.registry.heard_out(&meter.job_id, false);
                }
                End::Failed(failure) => {
                    meter.failed_within(&failure);
                }
            }
            crate::fault::point("gateway.ended");
            drop(meter);
            // The connection itself leaves a client that takes nothing.
            let _ = sender.send(Ok(Frame::data(Bytes::from(out)))).await;
            drop((sender, permit, place));
            // Read to its end, the connection can serve the next request.
            let _ = tokio::time::timeout(Duration::from_millis(250), async { while body.next().await.is_some_and(|piece| piece.is_ok()) {} }).await;
            return;
        }
        let had_events = !out.is_empty();
        if had_events && sender.send(Ok(Frame::data(Bytes::from(out)))).await.is_err() {
            meter.outcome = "client_gone";
            return;
        }
        if had_events {
            silent = Instant::now() + idle;
        }
        match result {
            Ok(()) => {}
            Err(Cut::Garbage) => break "the provider's answer is not what the Responses API sends",
            Err(Cut::TooLarge) => break "the provider's answer holds an event that is too large",
            Err(Cut::Credential) => {
                tracing::error!("the provider's answer held the credential and was cut off");
                break "the provider's answer held the credential and was cut off";
            }
        }
    };
    meter.fail(&Failure::cut(why));
    drop(meter);
    let _ = sender.send(Err(std::io::Error::other("cut"))).await;
}

/// Reads what a failed answer says, within bounds.
async fn read_failed(mut answer: Answer) -> Said {
    let mut body = Vec::new();
    let _ = tokio::time::timeout(Duration::from_secs(10), async {
        while let Some(Ok(bytes)) = answer.body.next().await {
            let room = MAX_ERROR_BODY.saturating_sub(body.len());
            body.extend_from_slice(bytes.get(..room.min(bytes.len())).unwrap_or_default());
            if body.len() >= MAX_ERROR_BODY {
                break;
            }
        }
    })
    .await;
    Said { status: answer.status, retry_after: answer.retry_after, body }
}

/// Lets exactly `POST /v1/responses` over HTTP/1.1 pass, with a plain JSON body.
fn check_head(request: &Request<Incoming>) -> Result<(), No> {
    let uri = request.uri();
    let plain_target = uri.scheme().is_none() && uri.authority().is_none() && uri.query().is_none();
    if (!plain_target || uri.path() != PATH) && !weaken::off("gateway.path") {
        return Err(no(StatusCode::NOT_FOUND, "path", "there is only POST /v1/responses here"));
    }
    let headers = request.headers();
    // The reader stops at its bound only between two reads, so a head that comes in large pieces may be longer by one of them.
    let size = headers.iter().fold(0usize, |size, (name, value)| size.saturating_add(name.as_str().len() + value.len() + 4));
    if size > MAX_HEAD && !weaken::off("gateway.head_size") {
        return Err(no(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "head_too_large", "the request's head is larger than 64 KiB"));
    }
    // Codex tries a websocket first where its provider settings say so, and goes on with POST after 426.
    if headers.contains_key(UPGRADE) && !weaken::off("gateway.upgrade") {
        return Err(no(StatusCode::UPGRADE_REQUIRED, "upgrade", "there is only POST /v1/responses over HTTP/1.1 here, and no upgrade"));
    }
    if request.method() != Method::POST && !weaken::off("gateway.method") {
        return Err(no(StatusCode::METHOD_NOT_ALLOWED, "method", "there is only POST /v1/responses here"));
    }
    if request.version() != Version::HTTP_11 && !weaken::off("gateway.version") {
        return Err(no(StatusCode::HTTP_VERSION_NOT_SUPPORTED, "version", "there is only HTTP/1.1 here"));
    }
    let one = |name: &HeaderName| {
        let mut values = headers.get_all(name).iter();
        (values.next(), values.next().is_none())
    };
    let (kind, single) = one(&CONTENT_TYPE);
    let json =
        kind.and_then(|v| v.to_str().ok()).is_some_and(|v| v.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("application/json"));
    if (!json || !single) && !weaken::off("gateway.content_type") {
        return Err(no(StatusCode::UNSUPPORTED_MEDIA_TYPE, "content_type", "the body must be application/json"));
    }
    let (encoding, single) = one(&CONTENT_ENCODING);
    if (!single || encoding.is_some_and(|v| v != "identity")) && !weaken::off("gateway.content_encoding") {
        return Err(no(StatusCode::UNSUPPORTED_MEDIA_TYPE, "content_encoding", "the body must not be compressed"));
    }
    Ok(())
}

/// Why nothing more is sent. Codex stops at once on 400 and shows the text.
fn denied_for_good(denied: Denied) -> No {
    match denied {
        Denied::Stopped(StopCode::TokenBudget) => no(StatusCode::BAD_REQUEST, "token_budget", "the token budget of this job is used up"),
        Denied::Stopped(code) => no(StatusCode::BAD_REQUEST, "job_stopped", code.message()),
        Denied::Ledger => no(StatusCode::SERVICE_UNAVAILABLE, "ledger", "the gateway cannot write its ledger"),
        Denied::Silence => no(StatusCode::BAD_REQUEST, "provider_silent", "the provider went silent on the last requests"),
        Denied::Pass | Denied::Slot => dead_pass(),
    }
}

fn dead_pass() -> No {
    no(StatusCode::FORBIDDEN, "pass", "this connection's pass is not valid")
}

fn no(status: StatusCode, code: &'static str, message: impl Into<String>) -> No {
    No { status, code, message: message.into() }
}

/// The response to a refused request; the connection ends with it, so that an unread body is not taken for a request.
fn refusal(no: &No) -> Response<JobBody> {
    let body = json!({"error": {"message": no.message, "type": "anchorhold_gateway", "param": null, "code": no.code}}).to_string();
    let mut response = respond(no.status, body);
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    if no.status == StatusCode::METHOD_NOT_ALLOWED {
        headers.insert(ALLOW, HeaderValue::from_static("POST"));
    }
    response
}

/// The response to a request that failed at the provider.
fn failed(failure: &Failure) -> Response<JobBody> {
    let mut response = respond(StatusCode::from_u16(failure.status).unwrap_or(StatusCode::BAD_GATEWAY), failure.body());
    if let Some(seconds) = failure.wait() {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

fn respond(status: StatusCode, body: String) -> Response<JobBody> {
    let mut response = Response::new(Full::new(Bytes::from(body)).map_err(|never| match never {}).boxed_unsync());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
