//! Everything the gateway knows: jobs and their passes, slots, counts, credentials. One lock over the memory, one over the files.
//!
//! Memory is changed first, then the job's record is written from it; the order of writes is that of the changes. After a restart the records are
//! read back, so that a job lives on with its pass, its counts and its slot.

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use super::failure::now_unix;
use super::fingerprint::policy_sha256;
use super::ledger::Ledger;
use super::rehearsal::Rehearsal;
use super::secret::{Secret, same};
use super::slots::{Change, SlotQueue};
use super::store::{JobRecord, Store, upstream_name};
use super::upstream::Client;
use crate::error::Result;
use crate::protocol::admin::{JobAccount, Upstream};
use crate::protocol::connection::{Preamble, SlotMessage};
use crate::protocol::ledger::{Head, LedgerFile};
use crate::protocol::manifest::hex;
use crate::protocol::result::{ProviderError, Usage};

/// Model requests of one job that may be under way at once.
pub const MAX_IN_FLIGHT: usize = 4;
/// Model connections of one job; further ones are closed.
pub const MAX_CONNECTIONS: usize = 16;
/// Messages that may wait for a job's `init` before its slot connection is given up.
const SLOT_BACKLOG: usize = 256;
/// Refusals of one job that each have a ledger line; after these, only every power of two has one.
const REFUSALS_WRITTEN: u64 = 200;
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
    /// Bytes of request bodies that are in memory now.
    pub buffered: AtomicUsize,
    /// Clients for real providers.
    pub client: Client,
    /// The scripted model.
    pub rehearsal: Rehearsal,
}

struct State {
    jobs: HashMap<String, Job>,
    slots: SlotQueue,
    credentials: HashMap<String, Arc<Secret>>,
}

struct Job {
    record: JobRecord,
    in_flight: Arc<Semaphore>,
    connections: Arc<Semaphore>,
    cancel: CancellationToken,
    slot: Option<Slot>,
    reserved: u64,
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
    /// Models that it may name.
    pub allowed_models: Vec<String>,
    /// Stands for the job at the provider.
    pub cache_key: String,
}

/// Why a request may not be sent now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Denied {
    /// The pass is dead.
    Pass,
    /// The job holds no slot (yet).
    Slot,
    /// The budget is used up.
    Budget,
    /// The ledger cannot be written.
    Ledger,
}

/// How one request ended; becomes a ledger line.
#[derive(Debug, Default)]
pub struct Settlement {
    /// Tokens that were reserved for it.
    pub reserved: u64,
    /// Tokens that the provider reported.
    pub usage: Option<Usage>,
    /// Tokens to charge when it reported none although it had begun to answer.
    pub estimate: u64,
    /// The policy refused it.
    pub refused: bool,
    /// The failure at the provider.
    pub error: Option<ProviderError>,
    /// Further fields of the ledger line.
    pub line: Map<String, Value>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic elsewhere leaves the data whole: no method stops half way through a change.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Registry {
    /// Opens the state below `root` and reads everything back.
    pub fn open(root: &Path) -> Result<Self> {
        let store = Store::open(root)?;
        let mut ledger = Ledger::open(root)?;
        let (records, unreadable) = store.jobs()?;
        for name in &unreadable {
            tracing::warn!(file = %name.chars().filter(char::is_ascii_graphic).collect::<String>(), "a job's record cannot be read and is not used");
        }
        let mut credentials = HashMap::new();
        let mut jobs = HashMap::new();
        let mut awaited = Vec::new();
        for record in records {
            if let Some(name) = upstream_name(&record.upstream)
                && !credentials.contains_key(&name)
                && let Some(secret) = store.credential(&name)
            {
                credentials.insert(name, Arc::new(secret));
            }
            if record.holds_slot {
                awaited.push(record.job_id.clone());
            }
            jobs.insert(record.job_id.clone(), Job::new(record));
        }
        let slots = SlotQueue::new(store.slots().unwrap_or(DEFAULT_SLOTS), awaited);
        let mut line = Map::new();
        line.insert("version".to_owned(), env!("CARGO_PKG_VERSION").into());
        line.insert("jobs".to_owned(), jobs.len().into());
        line.insert("policy_sha256".to_owned(), policy_sha256().into());
        ledger.append("start", line)?;
        Ok(Self {
            state: Mutex::new(State { jobs, slots, credentials }),
            store,
            writing: Mutex::new(()),
            ledger: Mutex::new(ledger),
            ledger_broken: AtomicBool::new(false),
            serial: AtomicU64::new(1),
            buffered: AtomicUsize::new(0),
            client: Client::default(),
            rehearsal: Rehearsal::default(),
        })
    }

    /// The job behind a preamble, if its pass is alive.
    pub fn authenticate(&self, preamble: &Preamble) -> Option<JobSession> {
        let offered = hex(&Sha256::digest(preamble.pass.as_bytes()));
        let state = lock(&self.state);
        let job = state.jobs.get(&preamble.job_id)?;
        // Both are compared in full, so that neither tells by its duration.
        let alive = job.record.expires_unix > unix_now();
        (same(offered.as_bytes(), job.record.pass_sha256.as_bytes()) && alive).then(|| JobSession {
            job_id: job.record.job_id.clone(),
            in_flight: job.in_flight.clone(),
            connections: job.connections.clone(),
            cancel: job.cancel.clone(),
        })
    }

    /// Opens a slot connection; the newest one of a job replaces the one before and takes over its place.
    pub fn open_slot(&self, job_id: &str, resume: bool) -> Option<SlotSession> {
        let (sender, messages) = mpsc::channel(SLOT_BACKLOG);
        let serial = self.serial.fetch_add(1, Ordering::Relaxed);
        let (cancel, touched) = {
            let mut guard = lock(&self.state);
            let state = &mut *guard;
            let job = state.jobs.get_mut(job_id)?;
            let cancel = job.cancel.child_token();
            if let Some(old) = job.slot.replace(Slot { serial, sender, cancel: cancel.clone() }) {
                old.cancel.cancel();
            }
            // Only one that we know to have held a slot may go before the others.
            let resume = resume && job.record.holds_slot;
            let changes = state.slots.join(job_id, resume);
            (cancel, state.tell(changes))
        };
        self.persist_all(&touched);
        Some(SlotSession { serial, messages, cancel })
    }

    /// The peer closed its slot connection: the slot, or the place in the queue, is free.
    pub fn close_slot(&self, job_id: &str, serial: u64) {
        let touched = {
            let mut guard = lock(&self.state);
            let state = &mut *guard;
            let Some(job) = state.jobs.get_mut(job_id) else { return };
            if job.slot.as_ref().is_none_or(|slot| slot.serial != serial) {
                return;
            }
            job.slot = None;
            job.record.holds_slot = false;
            let changes = state.slots.leave(job_id);
            let mut touched = state.tell(changes);
            touched.push(job_id.to_owned());
            touched
        };
        self.persist_all(&touched);
    }

    /// No longer keeps slots for jobs that held one before a restart and did not come back.
    pub fn forget_awaited(&self) {
        let touched = {
            let mut state = lock(&self.state);
            let changes = state.slots.forget_awaited();
            state.tell(changes)
        };
        self.persist_all(&touched);
    }

    /// What a model request of this job goes by. Counts the request.
    pub fn begin(&self, job_id: &str) -> Result<Terms, Denied> {
        if self.ledger_broken.load(Ordering::Relaxed) && !self.mend_ledger() {
            return Err(Denied::Ledger);
        }
        let mut state = lock(&self.state);
        let holds = state.slots.holds(job_id);
        let job = state.jobs.get_mut(job_id).filter(|job| job.record.expires_unix > unix_now()).ok_or(Denied::Pass)?;
        job.record.requests += 1;
        if !holds {
            return Err(Denied::Slot);
        }
        let upstream = job.record.upstream.clone();
        let (allowed_models, cache_key) = (job.record.allowed_models.clone(), job.record.cache_key.clone());
        let credential = upstream_name(&upstream).and_then(|name| state.credentials.get(&name).cloned());
        Ok(Terms { upstream, credential, allowed_models, cache_key })
    }

    /// Sets `tokens` aside for a request, unless the budget is used up already. What runs beside it counts too.
    pub fn reserve(&self, job_id: &str, tokens: u64) -> Result<(), Denied> {
        let mut state = lock(&self.state);
        let job = state.jobs.get_mut(job_id).ok_or(Denied::Pass)?;
        let taken = job.record.charged().saturating_add(job.reserved);
        if job.record.token_budget > 0 && taken >= job.record.token_budget {
            job.say(SlotMessage::TokenBudget);
            return Err(Denied::Budget);
        }
        job.reserved = job.reserved.saturating_add(tokens);
        Ok(())
    }

    /// The provider has begun to answer.
    pub fn answered(&self, job_id: &str) {
        let mut state = lock(&self.state);
        if let Some(job) = state.jobs.get_mut(job_id) {
            job.record.answers += 1;
            job.say_answered();
        }
    }

    /// A request has ended: counts, record, message, ledger line.
    pub fn settle(&self, job_id: &str, mut settlement: Settlement) {
        let write_line = {
            let mut state = lock(&self.state);
            match state.jobs.get_mut(job_id) {
                Some(job) => {
                    job.reserved = job.reserved.saturating_sub(settlement.reserved);
                    if let Some(usage) = settlement.usage {
                        job.record.usage.add(&usage);
                        job.say_answered();
                    } else {
                        job.record.estimated_tokens = job.record.estimated_tokens.saturating_add(settlement.estimate);
                    }
                    if let Some(error) = settlement.error.take() {
                        job.say(SlotMessage::Failed { error: error.clone() });
                        settlement.line.insert("error".to_owned(), error.kind.clone().into());
                        job.record.last_error = Some(error);
                    }
                    if settlement.refused {
                        job.record.refused += 1;
                    }
                    !settlement.refused || job.record.refused <= REFUSALS_WRITTEN || job.record.refused.is_power_of_two()
                }
                None => true,
            }
        };
        self.persist_all(&[job_id.to_owned()]);
        if write_line {
            let mut line = Map::with_capacity(settlement.line.len() + 1);
            line.insert("job".to_owned(), job_id.into());
            line.extend(settlement.line);
            self.note("request", line);
        }
    }

    /// Admits a job, or replaces its limits.
    pub fn admit(&self, record: JobRecord, credential: Option<Secret>, slots: usize) -> Result<()> {
        let job_id = record.job_id.clone();
        let upstream = upstream_name(&record.upstream);
        let secret = match (credential, &upstream) {
            (Some(secret), Some(name)) => {
                self.store.put_credential(name, &secret)?;
                Some(secret)
            }
            // Kept from an earlier admission, perhaps of a job that is gone.
            (None, Some(name)) if !lock(&self.state).credentials.contains_key(name) => self.store.credential(name),
            _ => None,
        };
        let mut line = Map::new();
        line.insert("job".to_owned(), job_id.clone().into());
        line.insert("instance".to_owned(), record.instance.clone().into());
        line.insert("upstream".to_owned(), upstream.clone().unwrap_or_else(|| "rehearsal".to_owned()).into());
        line.insert("token_budget".to_owned(), record.token_budget.into());
        line.insert("expires_unix".to_owned(), record.expires_unix.into());
        line.insert("slots".to_owned(), slots.into());
        let touched = {
            let mut guard = lock(&self.state);
            let state = &mut *guard;
            if let (Some(secret), Some(name)) = (secret, upstream) {
                state.credentials.insert(name, Arc::new(secret));
            }
            match state.jobs.get_mut(&job_id) {
                Some(job) => {
                    let old = &mut job.record;
                    old.pass_sha256 = record.pass_sha256;
                    old.upstream = record.upstream;
                    old.allowed_models = record.allowed_models;
                    old.token_budget = record.token_budget;
                    old.expires_unix = record.expires_unix;
                    old.instance = record.instance;
                }
                None => {
                    state.jobs.insert(job_id.clone(), Job::new(record));
                }
            }
            let changes = state.slots.set_capacity(slots);
            state.tell(changes)
        };
        self.persist_all(&touched);
        self.persist(&job_id, true)?;
        self.store.put_slots(slots)?;
        self.note_durably("admit", line)
    }

    /// Records the manifest's digest; `Ok(false)` if another one stands there, `None` for an unknown job.
    pub fn record_manifest(&self, job_id: &str, digest: &str) -> Result<Option<bool>> {
        {
            let mut state = lock(&self.state);
            let Some(job) = state.jobs.get_mut(job_id) else { return Ok(None) };
            match &job.record.manifest_sha256 {
                Some(old) => return Ok(Some(old == digest)),
                None => job.record.manifest_sha256 = Some(digest.to_owned()),
            }
        }
        self.persist(job_id, true)?;
        let mut line = Map::new();
        line.insert("job".to_owned(), job_id.into());
        line.insert("manifest_sha256".to_owned(), digest.into());
        self.note_durably("manifest", line)?;
        Ok(Some(true))
    }

    /// Forgets a job and cuts its connections; true if it was known. `kind` is the ledger line's: `revoke` or `expire`.
    pub fn forget(&self, job_id: &str, kind: &str) -> Result<bool> {
        let (job, touched) = {
            let mut guard = lock(&self.state);
            let state = &mut *guard;
            let Some(job) = state.jobs.remove(job_id) else { return Ok(false) };
            let changes = state.slots.leave(job_id);
            (job, state.tell(changes))
        };
        job.say(SlotMessage::Refused { message: "the pass is no longer valid".to_owned() });
        job.cancel.cancel();
        self.rehearsal.forget(job_id);
        self.persist_all(&touched);
        self.persist(job_id, true)?;
        let mut line = Map::new();
        line.insert("job".to_owned(), job_id.into());
        line.insert("requests".to_owned(), job.record.requests.into());
        line.insert("refused".to_owned(), job.record.refused.into());
        line.insert("tokens".to_owned(), job.record.usage.total().into());
        self.note_durably(kind, line)?;
        Ok(true)
    }

    /// Forgets the jobs whose passes have expired.
    pub fn sweep(&self) {
        let now = unix_now();
        let expired: Vec<String> =
            lock(&self.state).jobs.values().filter(|j| j.record.expires_unix <= now).map(|j| j.record.job_id.clone()).collect();
        for job_id in expired {
            if let Err(e) = self.forget(&job_id, "expire") {
                tracing::error!(error = %e.chain(), "an expired pass could not be removed");
            }
        }
    }

    /// What is known about a job.
    pub fn account(&self, job_id: &str) -> Option<JobAccount> {
        let ledger_head = self.ledger_head();
        let state = lock(&self.state);
        let record = &state.jobs.get(job_id)?.record;
        Some(JobAccount {
            manifest_sha256: record.manifest_sha256.clone(),
            requests: record.requests,
            refused: record.refused,
            answers: record.answers,
            usage: record.usage,
            last_error: record.last_error.clone(),
            policy_sha256: policy_sha256().to_owned(),
            ledger_head,
            queue_position: state.slots.position(job_id),
            running: state.slots.holds(job_id),
        })
    }

    /// The ledger's last line.
    pub fn ledger_head(&self) -> Head {
        lock(&self.ledger).head()
    }

    /// The ledger's files and its last line, at one moment.
    pub fn ledger_files(&self) -> (Vec<LedgerFile>, Head) {
        let ledger = lock(&self.ledger);
        (ledger.files(), ledger.head())
    }

    /// A piece of a file of the ledger.
    pub fn ledger_piece(&self, first_seq: u64, offset: u64, most: u64) -> std::io::Result<Option<Vec<u8>>> {
        lock(&self.ledger).read(first_seq, offset, most)
    }

    /// Job ids of an instance, sorted.
    pub fn job_ids(&self, instance: &str) -> Vec<String> {
        let mut ids: Vec<String> =
            lock(&self.state).jobs.values().filter(|j| j.record.instance == instance).map(|j| j.record.job_id.clone()).collect();
        ids.sort_unstable();
        ids
    }

    /// How many jobs are admitted.
    pub fn job_count(&self) -> usize {
        lock(&self.state).jobs.len()
    }

    /// Slots in use, jobs that wait, slots there are.
    pub fn slot_counts(&self) -> (usize, usize, usize) {
        lock(&self.state).slots.counts()
    }

    fn persist(&self, job_id: &str, durable: bool) -> Result<()> {
        let _order = lock(&self.writing);
        let record = lock(&self.state).jobs.get(job_id).map(|job| job.record.clone());
        match record {
            Some(record) => self.store.put_job(&record, durable),
            None => self.store.remove_job(job_id),
        }
    }

    fn persist_all(&self, job_ids: &[String]) {
        for job_id in job_ids {
            if let Err(e) = self.persist(job_id, false) {
                tracing::error!(error = %e.chain(), "a job's record could not be written");
            }
        }
    }

    fn note(&self, kind: &str, line: Map<String, Value>) {
        if let Err(e) = lock(&self.ledger).append(kind, line) {
            self.ledger_broken.store(true, Ordering::Relaxed);
            tracing::error!(error = %e.chain(), "the ledger cannot be written; requests are refused until it can");
        }
    }

    fn note_durably(&self, kind: &str, line: Map<String, Value>) -> Result<()> {
        let mut ledger = lock(&self.ledger);
        ledger.append(kind, line)?;
        ledger.sync()
    }

    fn mend_ledger(&self) -> bool {
        let mended = lock(&self.ledger).append("gap", Map::new()).is_ok();
        self.ledger_broken.store(!mended, Ordering::Relaxed);
        mended
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
            if message == SlotMessage::Granted && !job.record.holds_slot {
                job.record.holds_slot = true;
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
            record,
            in_flight: Arc::new(Semaphore::new(MAX_IN_FLIGHT)),
            connections: Arc::new(Semaphore::new(MAX_CONNECTIONS)),
            cancel: CancellationToken::new(),
            slot: None,
            reserved: 0,
        }
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

fn unix_now() -> u64 {
    u64::try_from(now_unix()).unwrap_or(0)
}
