//! Jobs from admission to the end of their pass: passes, slots, manifests, credentials.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use serde_json::Map;
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{Job, JobSession, Registry, Slot, SlotSession, State, end_of_pass, lock, unix_now};
use crate::error::Result;
use crate::gateway::revoked::Revoked;
use crate::gateway::secret::{Secret, same};
use crate::gateway::store::{JobRecord, upstream_name};
use crate::protocol::admin::{Bringer, GatewayLimits, JobAccount, JobTelemetry, Upstream};
use crate::protocol::connection::{Preamble, SlotMessage};
use crate::protocol::manifest::hex;
use crate::weaken;

/// Jobs that may stand in a row, each going on with the one before.
const MAX_EARLIER: usize = 50;
/// Messages that may wait for a job's `init` before its slot connection is given up.
const SLOT_BACKLOG: usize = 256;

impl Registry {
    /// The job behind a preamble, if its pass is alive.
    pub fn authenticate(&self, preamble: &Preamble) -> Option<JobSession> {
        let offered = hex(&Sha256::digest(preamble.pass.as_bytes()));
        let state = lock(&self.state);
        let job = state.jobs.get(&preamble.job_id)?;
        // Both are compared in full, so that neither tells by its duration.
        let right = same(offered.as_bytes(), job.record.pass_sha256.as_bytes()) || weaken::off("gateway.pass");
        (right && job.alive()).then(|| JobSession {
            job_id: job.record.job_id.clone(),
            in_flight: job.in_flight.clone(),
            connections: job.connections.clone(),
            cancel: job.cancel.clone(),
            turn: job.turn.clone(),
            buffered: job.buffered.clone(),
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
            let (stopped, place) = (job.record.stopped, job.record.place);
            let changes = state.slots.join(job_id, resume, place);
            let touched = state.tell(changes);
            // Said again to an `init` that was away when it was said first.
            if let (Some(code), Some(job)) = (stopped, state.jobs.get(job_id)) {
                job.say_stopped(code);
            }
            (cancel, touched)
        };
        crate::fault::point("gateway.slot");
        self.persist_all(&touched);
        Some(SlotSession { serial, messages, cancel })
    }

    /// The peer closed its slot connection: the slot, or the place in the queue, is free. Unless the gateway itself stood still just now: then the peer
    /// gave up on it, and will be back.
    pub fn close_slot(&self, job_id: &str, serial: u64) {
        if crate::weaken::off("fault.slot_release") {
            return;
        }
        let touched = {
            let mut guard = lock(&self.state);
            let state = &mut *guard;
            let Some(job) = state.jobs.get_mut(job_id) else { return };
            if job.slot.as_ref().is_none_or(|slot| slot.serial != serial) {
                return;
            }
            job.slot = None;
            if state.absence.look(Instant::now()) {
                state.slots.step_out(job_id);
                return;
            }
            (job.record.holds_slot, job.record.place) = (false, None);
            let changes = state.slots.leave(job_id);
            let mut touched = state.tell(changes);
            touched.push(job_id.to_owned());
            touched
        };
        self.persist_all(&touched);
    }

    /// Called once a second: notices when this did not happen for a while, and lets go of slots and places that nobody came back for.
    pub fn beat(&self) {
        let touched = {
            let mut state = lock(&self.state);
            if !state.absence.beat(Instant::now()) {
                return;
            }
            let changes = state.slots.forget_awaited();
            state.tell(changes)
        };
        self.persist_all(&touched);
    }

    /// Puts limits in force for all jobs: those of somebody's settings where they are new, and always those that were asked for.
    pub fn bring_limits(&self, limits: GatewayLimits, by: Option<&Bringer>) -> Result<()> {
        let Some(touched) = lock(&self.state).bring(limits, by) else { return Ok(()) };
        self.persist_all(&touched);
        self.keep_limits()?;
        let mut line = Map::new();
        line.insert("slots".to_owned(), limits.slots.into());
        line.insert("instance".to_owned(), by.map_or_else(String::new, |by| by.instance.clone()).into());
        self.note_durably("limits", line)
    }

    /// They outlive a restart.
    fn keep_limits(&self) -> Result<()> {
        {
            let _order = lock(&self.writing);
            let (slots, ceilings, instances) = {
                let state = lock(&self.state);
                (state.slots.counts().2, state.ceilings, state.instances.clone())
            };
            self.store.put_slots(slots)?;
            self.store.put_ceilings(&ceilings)?;
            self.store.put_instances(&instances)?;
        }
        self.settled.notify_waiters();
        Ok(())
    }

    /// Admits a job, or replaces its limits.
    pub fn admit(&self, record: JobRecord, credential: Option<Secret>, limits: GatewayLimits, by: &Bringer) -> Result<()> {
        crate::fault::point("gateway.admit");
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
        let (touched, new, slots) = {
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
                    old.stay = record.stay;
                    old.instance = record.instance;
                    old.bounds = record.bounds;
                    old.telemetry = record.telemetry;
                    // Under other limits it may go on.
                    old.stopped = None;
                    job.until = end_of_pass(&job.record);
                    if job.cancel.is_cancelled() {
                        job.cancel = CancellationToken::new();
                    }
                }
                None => {
                    state.jobs.insert(job_id.clone(), Job::new(record));
                }
            }
            let brought = state.bring(limits, Some(by));
            (brought.clone().unwrap_or_default(), brought.is_some(), state.slots.counts().2)
        };
        self.remember_revoked(|revoked| revoked.forget(&job_id))?;
        self.persist_all(&touched);
        self.persist(&job_id, true)?;
        if new {
            self.keep_limits()?;
        }
        // Under other limits of its own a job that waited may go on.
        self.settled.notify_waiters();
        self.admitted.notify_one();
        crate::fault::point("gateway.admitted");
        line.insert("slots".to_owned(), slots.into());
        self.note_durably("admit", line)
    }

    /// The keys that a job gets which goes on with this one: its own and those that it got itself. Only within an instance, and only where the same
    /// provider is asked: nobody else can read what they guard, and nobody else shall get it.
    pub fn keys_for(&self, earlier: &str, instance: &str, upstream: &Upstream) -> Result<Vec<String>, (&'static str, &'static str)> {
        let state = lock(&self.state);
        let record = match state.jobs.get(earlier) {
            Some(job) if job.record.instance == instance => &job.record,
            _ => return Err(("unknown_job", "the job to go on with is not known any more")),
        };
        if upstream_name(&record.upstream) != upstream_name(upstream) {
            return Err(("invalid", "the job to go on with asked another provider"));
        }
        if record.earlier_keys.len() >= MAX_EARLIER {
            return Err(("invalid", "too many jobs go on with one another"));
        }
        Ok(std::iter::once(&record.cache_key).chain(&record.earlier_keys).cloned().collect())
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

    /// Ends a job's pass, and remembers that it was ended: whoever removes a job says so first.
    pub fn revoke(&self, job_id: &str) -> Result<bool> {
        let (instance, key, until) = {
            let state = lock(&self.state);
            state.jobs.get(job_id).map_or_else(Default::default, |job| {
                let stay = &job.record.stay;
                (job.record.instance.clone(), stay.key.clone(), unix_now().saturating_add(stay.record_seconds))
            })
        };
        self.remember_revoked(|revoked| revoked.add(job_id, &instance, key.as_deref(), until))?;
        self.forget(job_id, "revoke")
    }

    fn remember_revoked(&self, change: impl FnOnce(&mut Revoked) -> bool) -> Result<()> {
        let _order = lock(&self.writing);
        let revoked = {
            let mut state = lock(&self.state);
            if !change(&mut state.revoked) {
                return Ok(());
            }
            state.revoked.clone()
        };
        self.store.put_revoked(&revoked)
    }

    /// Jobs whose passes were revoked last, of all instances.
    pub fn revoked(&self) -> Vec<String> {
        lock(&self.state).revoked.ids()
    }

    /// Whether an idempotency key of this instance, by its digest, named a job that is gone.
    pub fn key_is_used_up(&self, instance: &str, key: &str) -> bool {
        lock(&self.state).revoked.had(instance, key, unix_now())
    }

    /// Forgets a job and cuts its connections; true if it was known. `kind` is the ledger line's: `revoke` or `expire`.
    pub fn forget(&self, job_id: &str, kind: &str) -> Result<bool> {
        crate::fault::point("gateway.revoke");
        let (job, touched) = {
            let mut guard = lock(&self.state);
            let state = &mut *guard;
            let Some(job) = state.jobs.remove(job_id) else { return Ok(false) };
            let changes = state.slots.leave(job_id);
            (job, state.tell(changes))
        };
        job.say(SlotMessage::Refused { message: "the pass is no longer valid".to_owned() });
        // What streams under the pass ends with it.
        if !weaken::off("gateway.cut") {
            job.cancel.cancel();
        }
        self.rehearsal.forget(job_id);
        self.persist_all(&touched);
        self.persist(job_id, true)?;
        crate::fault::point("gateway.revoked");
        let mut line = Map::new();
        line.insert("job".to_owned(), job_id.into());
        line.insert("requests".to_owned(), job.record.requests.into());
        line.insert("refused".to_owned(), job.record.refused.into());
        line.insert("tokens".to_owned(), job.record.usage.total().into());
        self.note_durably(kind, line)?;
        Ok(true)
    }

    /// Ends what goes on under passes that have expired, and forgets the jobs whose time is over altogether.
    pub fn sweep(&self) -> Option<Duration> {
        let (expired, next): (Vec<String>, _) = {
            let state = lock(&self.state);
            for job in state.jobs.values().filter(|job| !job.alive() && !job.cancel.is_cancelled()) {
                job.say(SlotMessage::Refused { message: "the pass is no longer valid".to_owned() });
                // The connections end with it, and with the slot's connection the slot is free.
                if !weaken::off("gateway.cut") {
                    job.cancel.cancel();
                }
            }
            let expired = state.jobs.values().filter(|job| !job.kept()).map(|job| job.record.job_id.clone()).collect();
            (expired, state.jobs.values().filter_map(Job::next_end).min())
        };
        for job_id in expired {
            if let Err(e) = self.forget(&job_id, "expire") {
                tracing::error!(error = %e.chain(), "an expired pass could not be removed");
            }
        }
        next
    }

    /// Waits until a job is admitted: its pass may be the next one to end.
    pub async fn admitted(&self) {
        self.admitted.notified().await;
    }

    /// What is known about a job.
    pub fn account(&self, job_id: &str) -> Option<JobAccount> {
        let ledger_head = self.ledger_head();
        let state = lock(&self.state);
        let Job { record, set_aside, .. } = state.jobs.get(job_id)?;
        Some(JobAccount {
            manifest_sha256: record.manifest_sha256.clone(),
            requests: record.requests,
            refused: record.refused,
            answers: record.answers,
            usage: record.usage,
            last_error: record.last_error.clone(),
            queue_position: state.slots.position(job_id),
            running: state.slots.holds(job_id),
            policy_sha256: super::super::fingerprint::policy_sha256().to_owned(),
            ledger_head,
            charged_tokens: record.charged(),
            reserved_tokens: record.reserved.saturating_add(*set_aside),
            token_budget: record.token_budget,
            stopped: record.stopped,
            labels: record.stay.labels.clone(),
        })
    }

    /// Since when jobs are known, in unix milliseconds.
    pub fn born_unix_ms(&self) -> u64 {
        self.store.born_unix_ms()
    }

    /// Where to tell of a job's requests.
    pub fn telemetry(&self, job_id: &str) -> Option<JobTelemetry> {
        lock(&self.state).jobs.get(job_id)?.record.telemetry.clone()
    }

    /// The collectors that jobs name.
    pub fn collectors(&self) -> std::collections::BTreeSet<String> {
        let state = lock(&self.state);
        state.jobs.values().filter_map(|job| job.record.telemetry.as_ref()).map(|t| t.otlp_endpoint.clone()).filter(|to| !to.is_empty()).collect()
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

    /// Reads the credentials from the volume again; later requests are sent with what stands there now.
    pub fn reload_credentials(&self) {
        let names: Vec<String> = lock(&self.state).credentials.keys().cloned().collect();
        let mut replaced = 0usize;
        for name in names {
            // A file that is missing or malformed changes nothing.
            let Some(secret) = self.store.credential(&name) else { continue };
            lock(&self.state).credentials.insert(name, Arc::new(secret));
            replaced += 1;
        }
        let mut line = Map::new();
        line.insert("credentials".to_owned(), replaced.into());
        self.note("reload", line);
    }

    /// Slots in use, jobs that wait, slots there are.
    pub fn slot_counts(&self) -> (usize, usize, usize) {
        lock(&self.state).slots.counts()
    }
}

impl State {
    /// Puts limits in force, and gives the jobs whose records changed; `None`: what is in force stays.
    fn bring(&mut self, limits: GatewayLimits, by: Option<&Bringer>) -> Option<Vec<String>> {
        if let Some(by) = by {
            // A clock that is ahead must not keep later settings out.
            let read_ms = by.read_ms.min(unix_now().saturating_mul(1000).saturating_add(1000));
            if !self.instances.bring(&by.instance, limits, read_ms) {
                return None;
            }
        }
        self.ceilings = limits.ceilings;
        let changes = self.slots.set_capacity(limits.slots as usize);
        Some(self.tell(changes))
    }
}
