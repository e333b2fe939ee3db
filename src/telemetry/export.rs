//! The way to a collector: a bounded queue, and one thread of its own that empties it.
//!
//! The thread begins with the first thing that is to be sent. It shares nothing with what serves jobs, so that a collector can slow only itself: whoever hands
//! something over never waits, and what finds the queue full, or is refused by the collector, is dropped and counted.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::metrics::{Seen, Series, Table};
use super::otlp::{self, Span};
use super::unix_nanos;
use crate::error::{Error, Result};

/// Things that may wait.
const QUEUE: usize = 2_048;
/// Spans of one document.
const BATCH: usize = 256;
/// How long things are gathered.
const EVERY: Duration = Duration::from_millis(500);
/// What a collector has for an answer.
const WITHIN: Duration = Duration::from_secs(2);
/// Collectors whose things are kept apart; a gateway has as many as its users name.
const MAX_COLLECTORS: usize = 16;

enum Item {
    Span(Arc<str>, Box<Span>),
    Seen(Arc<str>, Series, Seen),
    Flush(SyncSender<()>),
}

/// Sends to collectors.
pub struct Exporter {
    service: &'static str,
    queue: OnceLock<Option<SyncSender<Item>>>,
    dropped: Arc<AtomicU64>,
}

impl Exporter {
    /// Nothing is started yet.
    pub fn new(service: &'static str) -> Self {
        Self { service, queue: OnceLock::new(), dropped: Arc::default() }
    }

    /// Hands a span over.
    pub fn span(&self, endpoint: &Arc<str>, span: Span) {
        if span.context.is_sampled() {
            self.put(Item::Span(endpoint.clone(), Box::new(span)));
        }
    }

    /// Hands an observation over.
    pub fn observe(&self, endpoint: &Arc<str>, series: Series, seen: Seen) {
        self.put(Item::Seen(endpoint.clone(), series, seen));
    }

    /// Things that were dropped so far.
    #[cfg(test)]
    fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    fn put(&self, item: Item) {
        let sent = self.queue.get_or_init(|| self.begin()).as_ref().is_some_and(|queue| queue.try_send(item).is_ok());
        if !sent {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Sends what waits, and returns when that is done or the time is up.
    pub fn flush(&self, within: Duration) {
        let Some(Some(queue)) = self.queue.get() else { return };
        let (done, wait) = sync_channel(1);
        if queue.try_send(Item::Flush(done)).is_ok() {
            let _ = wait.recv_timeout(within);
        }
    }

    /// Starts the thread; `None`: the system gives none, and everything is dropped.
    fn begin(&self) -> Option<SyncSender<Item>> {
        let (sender, receiver) = sync_channel(QUEUE);
        let (service, dropped) = (self.service, self.dropped.clone());
        let thread = std::thread::Builder::new().name("telemetry".to_owned());
        thread.spawn(move || Sender { service, dropped, waiting: BTreeMap::new(), since: unix_nanos(), told: false }.run(&receiver)).ok()?;
        Some(sender)
    }
}

#[derive(Default)]
struct Waiting {
    spans: Vec<Span>,
    table: Table,
}

struct Sender {
    service: &'static str,
    dropped: Arc<AtomicU64>,
    waiting: BTreeMap<Arc<str>, Waiting>,
    since: u64,
    told: bool,
}

impl Sender {
    fn run(mut self, items: &Receiver<Item>) {
        let made = client().and_then(|client| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            Ok((client, runtime.map_err(|e| Error::internal("cannot start a runtime").with_source(e))?))
        });
        let (client, runtime) = match made {
            Ok(made) => made,
            Err(e) => {
                tracing::warn!(error = e.chain(), "nothing can be sent to a collector");
                return;
            }
        };
        // Idle, it waits without a clock.
        while let Ok(first) = items.recv() {
            let until = Instant::now() + EVERY;
            let mut flushed = self.take(first);
            while flushed.is_none() && !self.waiting.values().any(|waiting| waiting.spans.len() >= BATCH) {
                match items.recv_timeout(until.saturating_duration_since(Instant::now())) {
                    Ok(item) => flushed = self.take(item),
                    Err(_) => break,
                }
            }
            runtime.block_on(self.send_all(&client));
            if let Some(done) = flushed {
                let _ = done.try_send(());
            }
        }
    }

    /// Puts a thing to what waits; gives back whom to tell when it is sent.
    fn take(&mut self, item: Item) -> Option<SyncSender<()>> {
        match item {
            Item::Span(to, span) => {
                if let Some(waiting) = self.collector(to) {
                    waiting.spans.push(*span);
                }
            }
            Item::Seen(to, series, seen) => {
                if let Some(waiting) = self.collector(to) {
                    waiting.table.add(series, seen);
                }
            }
            Item::Flush(done) => return Some(done),
        }
        None
    }

    /// What waits for a collector; `None`: there are too many.
    fn collector(&mut self, to: Arc<str>) -> Option<&mut Waiting> {
        if self.waiting.len() >= MAX_COLLECTORS && !self.waiting.contains_key(&to) {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        Some(self.waiting.entry(to).or_default())
    }

    async fn send_all(&mut self, client: &reqwest::Client) {
        let (start, now) = (std::mem::replace(&mut self.since, unix_nanos()), unix_nanos());
        let lost = self.dropped.swap(0, Ordering::Relaxed);
        let all: Vec<(Arc<str>, Waiting)> = std::mem::take(&mut self.waiting).into_iter().collect();
        let mut lost_again = if all.is_empty() { lost } else { 0 };
        for (index, (to, mut waiting)) in all.into_iter().enumerate() {
            if index == 0 && lost > 0 {
                waiting.table.add(Series { name: "anchorhold.telemetry.dropped", unit: "1", labels: Vec::new() }, Seen::More(lost));
            }
            let series = waiting.table.take();
            let mut sent = true;
            if !waiting.spans.is_empty() {
                sent = post(client, &to, "traces", otlp::traces(self.service, &waiting.spans)).await;
                lost_again += if sent { 0 } else { waiting.spans.len() as u64 };
            }
            // Who does not take the spans is not asked a second time.
            if !series.is_empty() {
                sent = sent && post(client, &to, "metrics", otlp::metrics(self.service, &series, start, now)).await;
                lost_again += if sent { 0 } else { series.len() as u64 };
            }
            if !sent && !std::mem::replace(&mut self.told, true) {
                tracing::warn!("the collector of spans and metrics does not take them; what it misses is dropped");
            }
        }
        self.dropped.fetch_add(lost_again, Ordering::Relaxed);
    }
}

fn client() -> Result<reqwest::Client> {
    // A second call finds it installed, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let builder = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).referer(false).http1_only().timeout(WITHIN);
    builder.pool_max_idle_per_host(1).build().map_err(|e| Error::internal("cannot set up the client").with_source(e))
}

/// Whether the collector took it.
async fn post(client: &reqwest::Client, endpoint: &str, what: &str, document: Value) -> bool {
    let request = client
        .post(format!("{endpoint}/v1/{what}"))
        .header(reqwest::header::CONTENT_TYPE, "application/json")
        .header(reqwest::header::USER_AGENT, concat!("anchorhold/", env!("CARGO_PKG_VERSION")))
        .body(document.to_string());
    request.send().await.is_ok_and(|answer| answer.status().is_success())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::{Kind, TraceContext};

    fn span() -> Span {
        Span { name: "x", kind: Kind::Internal, context: TraceContext::random(), parent: None, start: 1, end: 2, attributes: Vec::new(), error: None }
    }

    #[test]
    fn a_collector_that_never_answers_costs_nobody_time_or_memory() {
        // It takes connections and says nothing.
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint: Arc<str> = format!("http://{}", listener.local_addr().unwrap()).into();
        let exporter = Exporter::new("test");
        let most = QUEUE as u64 + 2 * BATCH as u64;
        for _ in 0..4 * most {
            exporter.span(&endpoint, span());
        }
        // How much the thread took out meanwhile is its own matter.
        assert!(exporter.dropped() > 0);
        let began = Instant::now();
        exporter.flush(Duration::from_millis(10));
        // The wait is its own bound, not the collector's: the queue is full, or the answer does not come.
        assert!(began.elapsed() < WITHIN, "{:?}", began.elapsed());
    }

    #[test]
    fn what_nobody_wants_recorded_is_not_sent() {
        let exporter = Exporter::new("test");
        let quiet = TraceContext::parse("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00", None).unwrap();
        exporter.span(&"http://127.0.0.1:1".into(), Span { context: quiet, ..span() });
        assert!(exporter.queue.get().is_none(), "not even the thread was started");
    }
}
