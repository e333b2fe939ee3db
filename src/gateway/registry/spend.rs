//! What a request may cost and what it did: ceilings, reservations, settlements.
//!
//! Before a request is sent, everything that it may cost is set aside: in memory while no byte of it has left, in the job's record from the moment
//! at which the first one does. When it has ended it is charged what the provider reported; where nothing was reported although the provider may
//! have worked, it is charged what was set aside. A gateway that died in between finds in the record what was being sent and charges that, once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Map, Value};

use super::{JobSession, Keys, Registry, State, Terms, lock, unix_now};
use crate::gateway::budget::{Decision, Input, Purse, decide};
use crate::gateway::store::{Day, upstream_name};
use crate::protocol::admin::Upstream;
use crate::protocol::connection::{SlotMessage, StopCode};
use crate::protocol::result::{ProviderError, Usage};
use crate::weaken;

/// Refusals of one job that each have a ledger line; after these, only every power of two has one.
const REFUSALS_WRITTEN: u64 = 200;
/// Requests in a row on which a provider may go silent. Codex asks six times, each for minutes.
const MAX_SILENCES: u32 = 2;
const SECONDS_PER_DAY: u64 = 86_400;

/// Why a request may not be sent now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Denied {
    /// The pass is dead.
    Pass,
    /// The job holds no slot (yet).
    Slot,
    /// The job met a ceiling and ends.
    Stopped(StopCode),
    /// The provider went silent on the last requests; asking once more would only take as long again.
    Silence,
    /// The ledger or the record cannot be written.
    Ledger,
}

/// Tokens set aside for one request.
#[derive(Debug, Default)]
pub struct Reservation {
    /// Input and output together.
    pub tokens: u64,
    /// The answer's limit, where a budget gives it one.
    pub output: Option<u64>,
    /// What is learned from the provider's count.
    input: Option<Input>,
    /// It counts against the day.
    paid: bool,
    /// The provider may have the request: the reservation stands in the job's record. See [`Registry::depart`].
    pub sent: bool,
}

impl Reservation {
    /// Whether it counts against the day.
    pub fn paid(&self) -> bool {
        self.paid
    }
}

/// How one request ended; becomes a ledger line.
#[derive(Debug, Default)]
pub struct Settlement {
    /// What was set aside for it.
    pub reservation: Option<Reservation>,
    /// Tokens that the provider reported.
    pub usage: Option<Usage>,
    /// Tokens to charge where it reported none.
    pub estimate: u64,
    /// The policy refused it.
    pub refused: bool,
    /// The failure at the provider.
    pub error: Option<ProviderError>,
    /// Further fields of the ledger line.
    pub line: Map<String, Value>,
}

/// One of those that are counted over all jobs, until dropped.
pub struct Place(Arc<AtomicUsize>);

impl Place {
    fn take(count: &Arc<AtomicUsize>, most: u32) -> Option<Self> {
        let place = Self(count.clone());
        let before = count.fetch_add(1, Ordering::Relaxed);
        (before < usize::try_from(most).unwrap_or(usize::MAX)).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Registry {
    /// What a model request of this job goes by. Counts the request.
    pub fn begin(&self, job_id: &str) -> Result<Terms, Denied> {
        if self.ledger_broken.load(Ordering::Relaxed) && !self.mend_ledger() {
            return Err(Denied::Ledger);
        }
        let mut state = lock(&self.state);
        let holds = state.slots.holds(job_id) || weaken::off("gateway.slot_needed");
        let job = state.jobs.get_mut(job_id).filter(|job| job.alive()).ok_or(Denied::Pass)?;
        job.record.requests += 1;
        if job.record.bounds.requests > 0 && job.record.requests > job.record.bounds.requests && !weaken::off("gateway.requests") {
            job.stop(StopCode::Requests);
        }
        if let Some(code) = job.record.stopped {
            return Err(Denied::Stopped(code));
        }
        if !holds {
            return Err(Denied::Slot);
        }
        if job.silences >= MAX_SILENCES {
            return Err(Denied::Silence);
        }
        let bounds = job.record.bounds;
        let upstream = job.record.upstream.clone();
        let keys = Keys {
            allowed_models: job.record.allowed_models.clone(),
            cache_key: job.record.cache_key.clone(),
            earlier_keys: job.record.earlier_keys.clone(),
        };
        let credential = upstream_name(&upstream).and_then(|name| state.credentials.get(&name).cloned());
        let seconds = |seconds: u64| Duration::from_secs(seconds.clamp(1, 86_400));
        Ok(Terms { upstream, credential, keys, answer: seconds(bounds.answer_seconds), idle: seconds(bounds.idle_seconds) })
    }

    /// A place among the requests under way over all jobs, if one is free.
    pub fn enter(&self) -> Option<Place> {
        let most = lock(&self.state).ceilings.requests;
        Place::take(&self.under_way, if weaken::off("gateway.under_way") { u32::MAX } else { most })
    }

    /// A place among the connections of all jobs, if one is free.
    pub fn connect(&self) -> Option<Place> {
        let most = lock(&self.state).ceilings.connections;
        Place::take(&self.connections, if weaken::off("gateway.connections") { u32::MAX } else { most })
    }

    /// Sets aside what a request may cost, after those of the job that asked before it; waits while what is under way may leave enough. `rough` is
    /// what it is taken for where nothing bounds it.
    pub async fn reserve(&self, session: &JobSession, request: &Value, rough: u64) -> Result<Reservation, Denied> {
        let _turn = session.turn.lock().await;
        loop {
            let mut settled = std::pin::pin!(self.settled.notified());
            // From here on no settlement is missed.
            settled.as_mut().enable();
            if let Some(reservation) = self.try_reserve(&session.job_id, request, rough)? {
                return Ok(reservation);
            }
            tokio::select! {
                () = settled => {}
                () = session.cancel.cancelled() => return Err(Denied::Pass),
            }
        }
    }

    fn try_reserve(&self, job_id: &str, request: &Value, rough: u64) -> Result<Option<Reservation>, Denied> {
        let reservation = {
            let mut guard = lock(&self.state);
            let state = &mut *guard;
            let per_day = state.ceilings.tokens_per_day;
            let job = state.jobs.get_mut(job_id).filter(|job| job.alive()).ok_or(Denied::Pass)?;
            if let Some(code) = job.record.stopped {
                return Err(Denied::Stopped(code));
            }
            // What the scripted model answers costs nothing.
            let paid = matches!(job.record.upstream, Upstream::Http { .. });
            let mut purses = Vec::new();
            if job.record.token_budget > 0 {
                let purse = Purse {
                    limit: job.record.token_budget,
                    charged: job.record.charged(),
                    reserved: job.record.reserved.saturating_add(job.set_aside),
                };
                purses.push((StopCode::TokenBudget, purse));
            }
            if paid {
                state.day.turn_over();
                if per_day > 0 && !weaken::off("gateway.day_tokens") {
                    purses.push((
                        StopCode::DayTokens,
                        Purse { limit: per_day, charged: state.day.charged, reserved: state.day.reserved.saturating_add(state.day_set_aside) },
                    ));
                }
            }
            let reservation = if purses.is_empty() {
                Reservation { tokens: rough, output: None, input: None, paid, sent: false }
            } else {
                let input = job.known.measure(request);
                let asked = request.get("max_output_tokens").and_then(Value::as_u64).unwrap_or(u64::MAX);
                let cap = Some(job.record.bounds.output_tokens).filter(|cap| *cap > 0).unwrap_or(u64::MAX);
                let only: Vec<Purse> = purses.iter().map(|(_, purse)| *purse).collect();
                match decide(&only, input.size, asked.min(cap)) {
                    Decision::Go { reserve, output } => Reservation { tokens: reserve, output: Some(output), input: Some(input), paid, sent: false },
                    Decision::Wait => return Ok(None),
                    Decision::Over(index) => {
                        let code = purses.get(index).map_or(StopCode::TokenBudget, |(code, _)| *code);
                        job.stop(code);
                        return Err(Denied::Stopped(code));
                    }
                }
            };
            job.set_aside = job.set_aside.saturating_add(reservation.tokens);
            if paid {
                state.day_set_aside = state.day_set_aside.saturating_add(reservation.tokens);
            }
            reservation
        };
        Ok(Some(reservation))
    }

    /// Writes down that a request is being sent, before its first byte leaves: from here on its reservation is charged if this process dies. Not
    /// forced to the disk: what kills the gateway leaves the kernel alive. On an error nothing may be sent.
    pub fn depart(&self, job_id: &str, tokens: u64, paid: bool) -> Result<(), Denied> {
        crate::fault::point("gateway.sending");
        lock(&self.state).depart(job_id, tokens, paid);
        if !weaken::off("budget.record")
            && let Err(e) = self.persist(job_id, false).and_then(|()| if paid { self.persist_day() } else { Ok(()) })
        {
            tracing::error!(error = %e.chain(), "a reservation could not be written, so its request is not sent");
            lock(&self.state).stay(job_id, tokens, paid);
            return Err(Denied::Ledger);
        }
        crate::fault::point("gateway.departed");
        Ok(())
    }

    /// Whether the provider went silent on a request, or answered one to its end.
    pub fn heard_out(&self, job_id: &str, silent: bool) {
        if let Some(job) = lock(&self.state).jobs.get_mut(job_id) {
            job.silences = if silent { job.silences.saturating_add(1) } else { 0 };
        }
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
        let reservation = settlement.reservation.take().unwrap_or_default();
        for (total, counts) in
            [(&self.totals.requests, true), (&self.totals.refusals, settlement.refused), (&self.totals.provider_failures, settlement.error.is_some())]
        {
            total.fetch_add(counts.into(), Ordering::Relaxed);
        }
        let charge = settlement.usage.map_or(settlement.estimate, |usage| usage.total());
        let write_line = {
            let mut state = lock(&self.state);
            state.give_back(job_id, &reservation);
            if reservation.paid {
                state.day.turn_over();
                state.day.charged = state.day.charged.saturating_add(charge);
            }
            match state.jobs.get_mut(job_id) {
                Some(job) => {
                    if let Some(usage) = settlement.usage {
                        job.record.usage.add(&usage);
                        if let Some(input) = &reservation.input {
                            job.known.learn(input, usage.input_tokens);
                        }
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
                        let most = job.record.bounds.denials;
                        if most > 0 && job.record.refused > most && !weaken::off("gateway.denials") {
                            job.stop(StopCode::Denials);
                        }
                    }
                    !settlement.refused || job.record.refused <= REFUSALS_WRITTEN || job.record.refused.is_power_of_two()
                }
                None => true,
            }
        };
        crate::fault::point("gateway.counted");
        self.persist_all(&[job_id.to_owned()]);
        crate::fault::point("gateway.settled");
        if reservation.paid
            && let Err(e) = self.persist_day()
        {
            tracing::error!(error = %e.chain(), "the day's tokens could not be written");
        }
        self.settled.notify_waiters();
        if write_line {
            let mut line = Map::with_capacity(settlement.line.len() + 1);
            line.insert("job".to_owned(), job_id.into());
            line.extend(settlement.line);
            self.note("request", line);
            crate::fault::point("gateway.line");
        }
    }

    /// Connections of jobs.
    pub fn connection_count(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// Requests under way, tokens charged or set aside today, and the ceilings in force.
    pub fn load(&self) -> (usize, u64, crate::protocol::admin::Ceilings) {
        let mut state = lock(&self.state);
        state.day.turn_over();
        (
            self.under_way.load(Ordering::Relaxed),
            state.day.charged.saturating_add(state.day.reserved).saturating_add(state.day_set_aside),
            state.ceilings,
        )
    }
}

impl State {
    /// What was set aside in memory stands in the record from now on.
    fn depart(&mut self, job_id: &str, tokens: u64, paid: bool) {
        if let Some(job) = self.jobs.get_mut(job_id) {
            job.set_aside = job.set_aside.saturating_sub(tokens);
            job.record.reserved = job.record.reserved.saturating_add(tokens);
        }
        if paid {
            self.day_set_aside = self.day_set_aside.saturating_sub(tokens);
            self.day.reserved = self.day.reserved.saturating_add(tokens);
        }
    }

    /// Undoes [`Self::depart`].
    fn stay(&mut self, job_id: &str, tokens: u64, paid: bool) {
        if let Some(job) = self.jobs.get_mut(job_id) {
            job.set_aside = job.set_aside.saturating_add(tokens);
            job.record.reserved = job.record.reserved.saturating_sub(tokens);
        }
        if paid {
            self.day_set_aside = self.day_set_aside.saturating_add(tokens);
            self.day.reserved = self.day.reserved.saturating_sub(tokens);
        }
    }

    fn give_back(&mut self, job_id: &str, reservation: &Reservation) {
        let Reservation { tokens, paid, sent, .. } = *reservation;
        if let Some(job) = self.jobs.get_mut(job_id) {
            let held = if sent { &mut job.record.reserved } else { &mut job.set_aside };
            *held = held.saturating_sub(tokens);
        }
        if paid {
            let held = if sent { &mut self.day.reserved } else { &mut self.day_set_aside };
            *held = held.saturating_sub(tokens);
        }
    }
}

impl Day {
    /// Begins a new day when one has begun. What is under way stays set aside and is charged to the day on which it ends.
    fn turn_over(&mut self) {
        let number = unix_now() / SECONDS_PER_DAY;
        if self.number != number {
            *self = Self { number, charged: 0, reserved: self.reserved };
        }
    }
}
