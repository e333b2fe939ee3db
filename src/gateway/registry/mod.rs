//! Everything the gateway knows: jobs and their passes, slots, counts, credentials. One lock over the memory, one over the files.
//!
//! Memory is changed first, then the job's record is written from it; the order of writes is that of the changes. After a restart the records are
//! read back, so that a job lives on with its pass, its counts and its slot.

mod claims;
mod jobs;
mod notes;
mod spend;

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Map;
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

pub use self::spend::{Denied, Place, Reservation, Settlement};
use super::absence::Absence;
use super::budget::Known;
use super::failure::now_unix;
use super::fingerprint::policy_sha256;
use super::ledger::Ledger;
use super::limits::Instances;
use super::rehearsal::Rehearsal;
use super::revoked::Revoked;
use super::secret::Secret;
use super::slots::{Change, SlotQueue};
use super::store::{Day, JobRecord, Store, upstream_name};
use super::upstream::Client;
use crate::error::Result;
use crate::protocol::admin::{Ceilings, Upstream};
use crate::protocol::connection::{SlotMessage, StopCode};
use crate::weaken;

/// Model requests of one job that may be under way at once.
pub const MAX_IN_FLIGHT: usize = 4;
/// Model connections of one job; further ones are closed.
pub const MAX_CONNECTIONS: usize = 16;
/// Large bodies that are taken apart at once.
const MAX_HEAVY: usize = 2;
/// Slots before the first admission says how many there are.
const DEFAULT_SLOTS: usize = 4;

/// The gateway's whole state.
pub struct Registry {
    state: Mutex<State>,
    store: Store,
    /// Held while a record is taken from memory and written, so that an older one never follows a newer one.
    writing: Mutex<()>,
    ledger: Mutex<Ledger>,
    ledger_broken: AtomicBool,
    serial: AtomicU64,
    /// A request has ended, so that there may be room for one that waits.
    settled: Notify,
    /// A job was admitted.
    admitted: Notify,
    under_way: Arc<AtomicUsize>,
    connections: Arc<AtomicUsize>,
    /// What has ended since the start.
    pub totals: Totals,
    /// Bytes of request bodies that are in memory now.
    pub buffered: Arc<AtomicUsize>,
    /// Bounds the large bodies that are taken apart at once.
    pub heavy: Semaphore,
    /// Clients for real providers.
    pub client: Client,
    /// The scripted model.
    pub rehearsal: Rehearsal,
}

/// Requests that have ended since the gateway started.
pub struct Totals {
    /// When it started.
    pub since: std::time::Instant,
    /// All.
    pub requests: AtomicU64,
    /// Refused by the policy.
    pub refusals: AtomicU64,
    /// Failed at the provider.
    pub provider_failures: AtomicU64,
}

struct State {
    jobs: HashMap<String, Job>,
    slots: SlotQueue,
    absence: Absence,
    credentials: HashMap<String, Arc<Secret>>,
    ceilings: Ceilings,
    instances: Instances,
    revoked: Revoked,
    day: Day,
    /// Tokens of the day that are set aside for requests which are not being sent yet.
    day_set_aside: u64,
}

struct Job {
    record: JobRecord,
    /// When the pass ends, by the clock that nobody sets; `None`: further away than that clock reaches.
    until: Option<Instant>,
    /// When the claim in its record was made, or read back.
    claimed: Instant,
    in_flight: Arc<Semaphore>,
    connections: Arc<Semaphore>,
    cancel: CancellationToken,
    slot: Option<Slot>,
    /// Tokens set aside for requests which are not being sent yet; they go with this process.
    set_aside: u64,
    /// Requests in a row on which the provider went silent.
    silences: u32,
    known: Known,
    turn: Arc<tokio::sync::Mutex<()>>,
    buffered: Arc<AtomicUsize>,
}

struct Slot {
    serial: u64,
    sender: mpsc::Sender<SlotMessage>,
    cancel: CancellationToken,
}

/// What an authenticated connection holds of its job.
#[derive(Clone)]
pub struct JobSession {
    /// 32 hex digits.
    pub job_id: String,
    /// Bounds the requests under way.
    pub in_flight: Arc<Semaphore>,
    /// Bounds the connections.
    pub connections: Arc<Semaphore>,
    /// Cancelled when the pass dies.
    pub cancel: CancellationToken,
    /// Held while tokens are set aside, so that requests that wait for them keep their order.
    pub turn: Arc<tokio::sync::Mutex<()>>,
    /// Bytes of the job's request bodies that are in memory now.
    pub buffered: Arc<AtomicUsize>,
}

/// What a slot connection reads from.
pub struct SlotSession {
    /// Identifies this connection among those of the job.
    pub serial: u64,
    /// What to write to it.
    pub messages: mpsc::Receiver<SlotMessage>,
    /// Cancelled when the connection must end.
    pub cancel: CancellationToken,
}

/// What a model request needs to know of its job, taken once.
pub struct Terms {
    /// Where it goes.
    pub upstream: Upstream,
    /// What it is sent with.
    pub credential: Option<Arc<Secret>>,
    /// What its body is checked against.
    pub keys: Keys,
    /// From a request sent to the head of its answer.
    pub answer: Duration,
    /// Without an event in the middle of an answer.
    pub idle: Duration,
}

/// What a request's body is checked against.
#[derive(Clone)]
pub struct Keys {
    /// Models that it may name.
    pub allowed_models: Vec<String>,
    /// Stands for the job at the provider.
    pub cache_key: String,
    /// Those of the jobs that it goes on with.
    pub earlier_keys: Vec<String>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic elsewhere leaves the data whole: no method stops half way through a change.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Registry {
    /// Opens the state below `root` and reads everything back. For the time of `grace` slots and places are held for those who have not come back.
    pub fn open(root: &Path, grace: Duration) -> Result<Self> {
        let store = Store::open(root)?;
        let mut ledger = Ledger::open(root)?;
        let (records, unreadable) = store.jobs()?;
        for name in &unreadable {
            tracing::warn!(file = %name.chars().filter(char::is_ascii_graphic).collect::<String>(), "a job's record cannot be read and is not used");
        }
        let mut credentials = HashMap::new();
        let mut jobs = HashMap::new();
        let (mut awaited, mut line, mut left_over) = (Vec::new(), Vec::new(), Vec::new());
        for mut record in records {
            // What was being sent when the gateway died was perhaps answered, and nobody heard what it cost.
            let unheard = std::mem::take(&mut record.reserved);
            if unheard > 0 {
                record.estimated_tokens = record.estimated_tokens.saturating_add(unheard);
                left_over.push((record.job_id.clone(), unheard));
                // Charged again from the same file should we die before this is written: the same sum.
                if let Err(e) = store.put_job(&record, false) {
                    tracing::error!(error = %e.chain(), "a job's record could not be written");
                }
            }
            if let Some(name) = upstream_name(&record.upstream)
                && !credentials.contains_key(&name)
                && let Some(secret) = store.credential(&name)
            {
                credentials.insert(name, Arc::new(secret));
            }
            if record.holds_slot {
                awaited.push(record.job_id.clone());
            } else if let Some(number) = record.place {
                line.push((number, record.job_id.clone()));
            }
            jobs.insert(record.job_id.clone(), Job::new(record));
        }
        let slots = SlotQueue::new(store.slots().unwrap_or(DEFAULT_SLOTS), awaited, line);
        let mut line = Map::new();
        line.insert("version".to_owned(), env!("CARGO_PKG_VERSION").into());
        line.insert("jobs".to_owned(), jobs.len().into());
        line.insert("policy_sha256".to_owned(), policy_sha256().into());
        // A gateway that cannot write says so to whoever asks it, which one that does not start cannot.
        let mut ledger_broken =
            ledger.append("start", line).inspect_err(|e| tracing::error!(error = %e.chain(), "the ledger cannot be written")).is_err();
        for (job_id, tokens) in left_over {
            let mut line = Map::new();
            line.insert("job".to_owned(), job_id.into());
            line.insert("outcome".to_owned(), "gateway_died".into());
            for field in ["status", "input_tokens", "cached_input_tokens", "output_tokens", "reasoning_output_tokens", "answer_bytes", "milliseconds"]
            {
                line.insert(field.to_owned(), 0.into());
            }
            line.insert("estimated_tokens".to_owned(), tokens.into());
            ledger_broken |= ledger.append("request", line).is_err();
        }
        let mut day = store.day();
        day.charged = day.charged.saturating_add(std::mem::take(&mut day.reserved));
        let (ceilings, instances, revoked) = (store.ceilings(), store.instances(), store.revoked());
        Ok(Self {
            state: Mutex::new(State {
                jobs,
                slots,
                absence: Absence::new(Instant::now(), grace),
                credentials,
                ceilings,
                instances,
                revoked,
                day,
                day_set_aside: 0,
            }),
            store,
            writing: Mutex::new(()),
            ledger: Mutex::new(ledger),
            ledger_broken: AtomicBool::new(ledger_broken),
            serial: AtomicU64::new(1),
            settled: Notify::new(),
            admitted: Notify::new(),
            under_way: Arc::default(),
            connections: Arc::default(),
            totals: Totals {
                since: std::time::Instant::now(),
                requests: AtomicU64::default(),
                refusals: AtomicU64::default(),
                provider_failures: AtomicU64::default(),
            },
            heavy: Semaphore::new(MAX_HEAVY),
            buffered: Arc::default(),
            client: Client::default(),
            rehearsal: Rehearsal::default(),
        })
    }
}

impl State {
    /// Tells the jobs of their changes; returns those whose records changed.
    fn tell(&mut self, changes: Vec<Change>) -> Vec<String> {
        let mut touched = Vec::new();
        for change in changes {
            let (job_id, message) = match change {
                Change::Granted(job_id) => (job_id, SlotMessage::Granted),
                Change::Queued(job_id, position) => (job_id, SlotMessage::Queued { position }),
            };
            let Some(job) = self.jobs.get_mut(&job_id) else { continue };
            let holds_slot = job.record.holds_slot || message == SlotMessage::Granted;
            // None for one that no longer waits.
            let place = self.slots.number(&job_id);
            if (job.record.holds_slot, job.record.place) != (holds_slot, place) {
                (job.record.holds_slot, job.record.place) = (holds_slot, place);
                touched.push(job_id);
            }
            job.say(message);
        }
        touched
    }
}

impl Job {
    fn new(record: JobRecord) -> Self {
        Self {
            until: end_of_pass(&record),
            claimed: Instant::now(),
            record,
            in_flight: Arc::new(Semaphore::new(if weaken::off("gateway.in_flight") { Semaphore::MAX_PERMITS } else { MAX_IN_FLIGHT })),
            connections: Arc::new(Semaphore::new(if weaken::off("gateway.job_connections") { Semaphore::MAX_PERMITS } else { MAX_CONNECTIONS })),
            cancel: CancellationToken::new(),
            slot: None,
            set_aside: 0,
            silences: 0,
            known: Known::default(),
            turn: Arc::default(),
            buffered: Arc::default(),
        }
    }

    /// Whether its pass is in its time. A step of the wall clock changes nothing while this gateway runs; the next one reads the wall clock.
    fn alive(&self) -> bool {
        self.until.is_none_or(|until| until > Instant::now()) || weaken::off("gateway.expiry")
    }

    /// Whether the word of it is kept: past its pass, until its result would be thrown away.
    fn kept(&self) -> bool {
        self.alive()
            || self
                .until
                .and_then(|until| until.checked_add(Duration::from_secs(self.record.stay.record_seconds)))
                .is_none_or(|end| end > Instant::now())
    }

    /// How long until its pass ends, or the word of it.
    fn next_end(&self) -> Option<Duration> {
        let now = Instant::now();
        let forgotten = self.until?.checked_add(Duration::from_secs(self.record.stay.record_seconds));
        [self.until, forgotten].into_iter().flatten().filter_map(|end| end.checked_duration_since(now)).filter(|left| !left.is_zero()).min()
    }

    /// Ends the job: nothing more is sent for it, and `init` is told why.
    fn stop(&mut self, code: StopCode) {
        if self.record.stopped.is_none() {
            self.record.stopped = Some(code);
            self.say_stopped(code);
        }
    }

    fn say_stopped(&self, code: StopCode) {
        self.say(match code {
            StopCode::TokenBudget => SlotMessage::TokenBudget,
            _ => SlotMessage::Stopped { code, message: code.message().to_owned() },
        });
    }

    fn say(&self, message: SlotMessage) {
        if let Some(slot) = &self.slot
            && slot.sender.try_send(message).is_err()
        {
            // Nobody reads: better to end the connection, which `init` sees, than to leave a message out, which it does not.
            slot.cancel.cancel();
        }
    }

    fn say_answered(&self) {
        self.say(SlotMessage::Answered { answers: self.record.answers, usage: self.record.usage });
    }
}

fn end_of_pass(record: &JobRecord) -> Option<Instant> {
    let now = Instant::now();
    match record.expires_unix.checked_sub(unix_now()) {
        Some(left) => now.checked_add(Duration::from_secs(left)),
        // So long ago that the record's own time counts from then. A clock that began later cannot say so.
        None => Some(now.checked_sub(Duration::from_secs(unix_now().saturating_sub(record.expires_unix))).unwrap_or(now)),
    }
}

fn unix_now() -> u64 {
    u64::try_from(now_unix()).unwrap_or(0)
}
