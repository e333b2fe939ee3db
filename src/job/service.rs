//! The domain's entry: [`Jobs`].

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::OnceCell;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::attest::{self, Attestation};
use super::changes::{Changes, Following, Stand};
use super::deliveries::Deliveries;
use super::events::Events;
use super::gateway::Gateway;
use super::stats::Stats;
use super::status::{self, Observed};
use super::time::EngineClock;
use super::{
    Begun, Claimed, Consumed, GatewayState, GcReport, JobId, JobResult, JobState, JobStatus, LedgerPart, LimitChange, ListFilter, Snapshot,
    StartRequest, StartedJob,
};
use super::{attempts, audit, collect, consume, continuing, fetch, gc, limits, list, log, overstay, seal, start, stats, trace, watch};
use crate::config::Settings;
use crate::engine::{Engine, EngineFacts};
use crate::error::{Code, Error, Result};
use crate::protocol::ledger::Head;
use crate::protocol::progress::Progress;

/// At most one opportunistic sweep a process in this time.
const SWEEP_EVERY: Duration = Duration::from_secs(60);
/// A sweep after a start waits until the start itself is through.
const SWEEP_LATER: Duration = Duration::from_secs(5);
/// What a status call gives the sealing of a job that died unsealed; small ones need less.
const ATTEND_WITHIN: Duration = Duration::from_secs(3);
/// What a process that is about to end still gives a sweep.
const SWEEP_GRACE: Duration = Duration::from_millis(300);

/// Starts, watches, collects and removes jobs. Cheap to make: the engine is first asked when a call needs it.
#[derive(Clone)]
pub struct Jobs {
    core: Arc<Core>,
}

/// What one process keeps: connections, its own deliveries and tasks. No state of a job.
pub(super) struct Core {
    pub settings: Settings,
    pub gateway: Gateway,
    pub deliveries: Deliveries,
    /// Deliveries and what else must be awaited before the process ends.
    pub tasks: TaskTracker,
    pub events: Events,
    pub changes: Changes,
    engine: OnceCell<Engine>,
    engine_facts: OnceCell<EngineFacts>,
    clock: EngineClock,
    sweeps: TaskTracker,
    closing: CancellationToken,
    last_sweep: Mutex<Option<Instant>>,
    seals: Mutex<HashMap<JobId, Seals>>,
    /// Jobs that this process has started.
    pub started: AtomicU64,
    /// Jobs whose end was told to a collector.
    pub counted: trace::Counted,
}

#[derive(Default)]
struct Seals {
    failed: u32,
    turn: Arc<tokio::sync::Mutex<()>>,
}

/// When an opportunistic sweep may begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sweep {
    /// Beside what the caller does.
    Now,
    /// When the caller's work is likely through.
    Later,
}

impl Core {
    /// The engine; connected on first use. A failure is not kept.
    pub(super) async fn engine(&self) -> Result<Engine> {
        self.engine.get_or_try_init(|| Engine::connect(&self.settings.engine)).await.cloned()
    }

    /// What the engine says about itself, asked once.
    pub(super) async fn engine_facts(&self, engine: &Engine) -> Result<EngineFacts> {
        self.engine_facts.get_or_try_init(|| engine.facts()).await.cloned()
    }

    /// Makes sure that the engine's time is known and not old; whether it is known.
    pub(super) async fn tell_time(&self, engine: &Engine) -> bool {
        self.clock.sync(engine).await
    }

    /// Unix milliseconds now, by the engine's clock ([`Core::tell_time`]).
    pub(super) fn now_ms(&self) -> u64 {
        self.clock.now_ms()
    }

    /// Second starts of this job that this process has seen fail.
    pub(super) fn seal_attempts(&self, id: &JobId) -> u32 {
        self.seals.lock().unwrap_or_else(PoisonError::into_inner).get(id).map_or(0, |seals| seals.failed)
    }

    pub(super) fn count_seal_attempt(&self, id: &JobId) {
        self.seals.lock().unwrap_or_else(PoisonError::into_inner).entry(id.clone()).or_default().failed += 1;
    }

    /// Whoever holds this lock is the one of this process that seals the job again.
    pub(super) fn seal_turn(&self, id: &JobId) -> Arc<tokio::sync::Mutex<()>> {
        self.seals.lock().unwrap_or_else(PoisonError::into_inner).entry(id.clone()).or_default().turn.clone()
    }

    /// Sweeps in the background, at most once a minute.
    pub(super) fn sweep_soon(self: &Arc<Self>, when: Sweep) {
        {
            let mut last = self.last_sweep.lock().unwrap_or_else(PoisonError::into_inner);
            if last.is_some_and(|last| last.elapsed() < SWEEP_EVERY) {
                return;
            }
            *last = Some(Instant::now());
        }
        let core = self.clone();
        self.sweeps.spawn(async move {
            let sweep = async {
                if when == Sweep::Later {
                    tokio::select! {
                        () = tokio::time::sleep(SWEEP_LATER) => {}
                        () = core.closing.cancelled() => return,
                    }
                }
                match gc::sweep(&core).await {
                    Ok(report) => tracing::debug!(?report, "swept"),
                    Err(e) => tracing::debug!(error = e.chain(), "could not sweep"),
                }
            };
            // Every step of a sweep may be left undone; the next one finds it.
            let out_of_time = async {
                core.closing.cancelled().await;
                tokio::time::sleep(SWEEP_GRACE).await;
            };
            tokio::select! {
                () = sweep => {}
                () = out_of_time => {}
            }
        });
    }

    /// What whoever looks at a job does for it: seals one that died, ends one that is overdue. Gives where it stands after a short wait;
    /// what takes longer goes on in the background.
    pub(super) async fn attend(self: &Arc<Self>, seen: Observed) -> Observed {
        if !seen.derived.needs_seal && !seen.derived.overdue {
            return self.thaw(seen).await;
        }
        let (core, found) = (self.clone(), seen.clone());
        let work = self.tasks.spawn(async move {
            let outcome =
                if found.derived.overdue { seal::kill_overdue(&core, &found).await.map(|()| found) } else { seal::seal_again(&core, found).await };
            outcome.inspect_err(|e| tracing::warn!(error = e.chain(), "could not end a job properly")).ok()
        });
        match tokio::time::timeout(ATTEND_WITHIN, work).await {
            Ok(Ok(Some(now))) => now,
            _ => seen,
        }
    }
}

impl Core {
    /// Lets a job that somebody froze end where its time is over; gives where it stands after a short wait.
    async fn thaw(self: &Arc<Self>, seen: Observed) -> Observed {
        match overstay::thaw_if_due(self, &seen).await {
            Ok(true) => {}
            Ok(false) => return seen,
            Err(e) => {
                tracing::warn!(error = e.chain(), "could not thaw a job that is past its end");
                return seen;
            }
        }
        let ended = async { self.engine().await?.wait_container(&seen.found.container()).await };
        drop(tokio::time::timeout(ATTEND_WITHIN, ended).await);
        status::observe(self, &seen.found.labels.id).await.ok().flatten().unwrap_or(seen)
    }
}

impl Jobs {
    /// No connection is made here.
    pub fn new(settings: Settings) -> Self {
        Self {
            core: Arc::new(Core {
                settings,
                gateway: Gateway::new(),
                deliveries: Deliveries::default(),
                tasks: TaskTracker::new(),
                events: Events::default(),
                changes: Changes::default(),
                engine: OnceCell::new(),
                engine_facts: OnceCell::new(),
                clock: EngineClock::default(),
                sweeps: TaskTracker::new(),
                closing: CancellationToken::new(),
                last_sweep: Mutex::new(None),
                seals: Mutex::new(HashMap::new()),
                started: AtomicU64::new(0),
                counted: trace::Counted::default(),
            }),
        }
    }

    /// For the other files of this module.
    pub(super) fn core(&self) -> &Arc<Core> {
        &self.core
    }

    /// The settings in force.
    pub fn settings(&self) -> &Settings {
        &self.core.settings
    }

    /// Checks, snapshots, creates the container and returns; delivery and start go on in this process.
    ///
    /// A caller who stops waiting does not stop it: the job is made, or the check that failed left nothing behind.
    /// For a review of nothing there is no job.
    pub async fn begin(&self, request: StartRequest) -> Result<Begun> {
        let begun = self.core.tasks.spawn(start::begin(self.core.clone(), request, None));
        begun.await.map_err(|e| Error::internal("start the job").with_source(e))?
    }

    /// [`Jobs::begin`] for work that always makes a job: a delegation or a question. A review of nothing is refused.
    pub async fn start(&self, request: StartRequest) -> Result<StartedJob> {
        match self.begin(request).await? {
            Begun::Job(started) => Ok(started),
            Begun::NothingToReview(_) => Err(Error::new(Code::InvalidArguments, "start the job: the change under review is empty")
                .with_hint("name another scope, base, commit or paths")),
        }
    }

    /// Takes one snapshot for several delegations of this workspace ([`Jobs::start_on`]).
    pub async fn snapshot(&self, request: StartRequest) -> Result<Snapshot> {
        attempts::snapshot(&self.core, request).await
    }

    /// [`Jobs::start`] of a delegation on a snapshot that was taken before.
    pub async fn start_on(&self, request: StartRequest, snapshot: &Snapshot) -> Result<StartedJob> {
        let begun = self.core.tasks.spawn(attempts::begin_on(self.core.clone(), request, snapshot.clone()));
        begun.await.map_err(|e| Error::internal("start the job").with_source(e))?
    }

    /// How many jobs this process has started; one that was found by its key is none.
    pub fn started(&self) -> u64 {
        self.core.started.load(Ordering::Relaxed)
    }

    /// Waits until this process has delivered and started the job (at once, if another process started it).
    pub async fn delivered(&self, id: &JobId) -> Result<()> {
        self.core.deliveries.wait(id).await
    }

    /// Where a job stands.
    pub async fn status(&self, id: &JobId) -> Result<JobStatus> {
        match status::observe(&self.core, id).await? {
            Some(seen) => {
                if seen.derived.state == JobState::Queued {
                    self.bring_limits().await;
                }
                Ok(self.core.attend(seen).await.status())
            }
            None => Err(self.core.deliveries.failure(id).unwrap_or_else(super::id::not_found)),
        }
    }

    /// Follows where a job stands, until the [`Following`] is dropped; an unknown id is followed too, and found [`Stand::Gone`].
    pub fn follow(&self, id: &JobId) -> Following {
        Changes::follow(&self.core, id)
    }

    /// Where a job stands, once its state is another one than `since` (`None`: than at the time of the call), it has ended, or `within` has passed.
    pub async fn changed(&self, id: &JobId, since: Option<JobState>, within: Duration) -> Result<JobStatus> {
        let now = self.status(id).await?;
        if within.is_zero() || now.state.is_final() || since.is_some_and(|since| since != now.state) {
            return Ok(now);
        }
        let mut following = self.follow(id);
        // The outcome of both is what is true then: the end of the wait is no error.
        let _ = tokio::time::timeout(within, following.beyond(Stand::At(now.state))).await;
        self.status(id).await
    }

    /// Where a job stands once it has ended. An engine that does not answer for a minute ends the wait with its error.
    pub async fn ended(&self, id: &JobId) -> Result<JobStatus> {
        let mut following = self.follow(id);
        let mut now = self.status(id).await?;
        let mut known = Stand::At(now.state);
        while !now.state.is_final() {
            known = following.beyond(known).await;
            now = self.status(id).await?;
        }
        Ok(now)
    }

    /// Follows a job to its end: calls `on_progress` for each record of its log, returns the final status.
    pub async fn watch(&self, id: &JobId, on_progress: &mut (dyn FnMut(&Progress) + Send)) -> Result<JobStatus> {
        watch::watch(&self.core, id, on_progress).await
    }

    /// The result of an ended job; [`crate::error::Code::JobRunning`] while it runs. A bad end is a result too ([`JobResult::failure`] says
    /// which); a job whose delivery failed has none, and gives the delivery's error.
    pub async fn result(&self, id: &JobId) -> Result<JobResult> {
        collect::collect(&self.core, id).await.map(|harvest| harvest.result)
    }

    /// What a job that goes on with another changed since that one's end.
    pub async fn since_previous(&self, result: &JobResult) -> Result<crate::workspace::Collected> {
        continuing::since_previous(&self.core, result).await
    }

    /// Writes the changes of a result as a commit of the repository that the directory lies in, under `refs/anchorhold/`. Only a person asks for it.
    pub async fn fetch(&self, result: &JobResult, directory: &std::path::Path) -> Result<crate::workspace::fetch::Fetched> {
        fetch::fetch(&self.core, result, directory).await
    }

    /// The result, and nothing of the job is left. Of several callers exactly one wins; for the others there is no such job.
    pub async fn consume(&self, id: &JobId) -> Result<JobResult> {
        // In a task: once the job is claimed, its removal goes on even when the caller goes away.
        let (core, id) = (self.core.clone(), id.clone());
        let consuming = self.core.tasks.spawn(async move { consume::consume(&core, &id).await });
        consuming.await.map_err(|e| Error::internal("consume the job").with_source(e))?
    }

    /// The result, and this caller alone may show it, who then removes the job ([`Jobs::finish_consume`]) or gives it back ([`Jobs::give_back`]). Until then
    /// it is there: of a caller that dies in between another one takes the place. For one who is not the first there is no such job.
    pub async fn claim(&self, id: &JobId) -> Result<Consumed> {
        let (core, id) = (self.core.clone(), id.clone());
        let claiming = self.core.tasks.spawn(async move { consume::claim(&core, &id).await });
        claiming.await.map_err(|e| Error::internal("claim the job").with_source(e))?
    }

    /// Removes a job whose result was shown. Where that fails the job is there as before.
    pub async fn finish_consume(&self, claimed: Claimed) -> Result<()> {
        let removing = self.core.tasks.spawn(consume::finish(claimed));
        removing.await.map_err(|e| Error::internal("remove the job").with_source(e))?
    }

    /// The same, but comes back as soon as nobody finds the job any more; what is left of it is removed beside what the caller does.
    pub async fn finish_consume_soon(&self, claimed: Claimed) -> Result<()> {
        let core = self.core.clone();
        let hiding = self.core.tasks.spawn(async move {
            let hidden = consume::hide(claimed).await?;
            core.tasks.spawn(async move {
                if let Some(hidden) = hidden {
                    consume::remove(hidden).await;
                }
            });
            Ok(())
        });
        hiding.await.map_err(|e| Error::internal("remove the job").with_source(e))?
    }

    /// Gives a claimed job back, as if it had not been asked for.
    pub async fn give_back(&self, claimed: Claimed) -> Result<()> {
        consume::give_back(claimed).await
    }

    /// Ends a job; its partial work is sealed. Idempotent: one that has ended is left as it is. One that has not started
    /// yet ends as cancelled, with nothing run.
    pub async fn cancel(&self, id: &JobId) -> Result<JobStatus> {
        let (core, id) = (self.core.clone(), id.clone());
        let cancelling = self.core.tasks.spawn(async move { consume::cancel(&core, &id).await });
        cancelling.await.map_err(|e| Error::internal("cancel the job").with_source(e))?
    }

    /// Jobs of this instance, newest first.
    pub async fn list(&self, filter: &ListFilter) -> Result<Vec<JobStatus>> {
        let jobs = list::list(&self.core, filter).await?;
        if jobs.iter().any(|job| job.state == JobState::Queued) {
            self.bring_limits().await;
        }
        self.core.sweep_soon(Sweep::Now);
        Ok(jobs)
    }

    /// The progress records in a job's container log so far.
    pub async fn log(&self, id: &JobId) -> Result<Vec<Progress>> {
        let seen = status::observe(&self.core, id).await?.ok_or_else(super::id::not_found)?;
        if seen.derived.absent {
            return Ok(Vec::new());
        }
        log::all(&self.core, &seen.found.container()).await
    }

    /// What the job's cell really is, asked from the engine and the gateway, with digests of what went in and out.
    pub async fn attest(&self, id: &JobId) -> Result<Attestation> {
        attest::attest(&self.core, id).await
    }

    /// Reads the gateway's ledger, file by file; gives back its head. Whether it holds is for the reader to find out.
    pub async fn ledger(&self, each: &mut (dyn FnMut(LedgerPart<'_>) + Send)) -> Result<Head> {
        let engine = self.core.engine().await?;
        audit::read(&self.core, &engine, each).await
    }

    /// Jobs, slots, requests, tokens and volumes in numbers. Starts nothing.
    pub async fn stats(&self) -> Result<Stats> {
        stats::stats(&self.core).await
    }

    /// Tells the gateway the limits of these settings, where there is one and this process has not done so; with a raised limit, jobs that wait start.
    async fn bring_limits(&self) {
        if let Ok(engine) = self.core.engine().await {
            self.core.gateway.bring_limits(&engine, &self.core.settings).await;
        }
    }

    /// The same in the background, for a server that begins and then waits for its client.
    pub fn bring_limits_soon(&self) {
        let jobs = self.clone();
        self.core.sweeps.spawn(async move {
            let bring = async {
                jobs.bring_limits().await;
                jobs.core.gateway.rest().await;
            };
            tokio::select! {
                () = bring => {}
                () = jobs.core.closing.cancelled() => {}
            }
        });
    }

    /// What holds for all jobs of the gateway, after a change where one is asked for.
    pub async fn gateway_limits(&self, change: LimitChange) -> Result<GatewayState> {
        limits::change(&self.core, change).await
    }

    /// Removes what has expired or belongs to nobody.
    pub async fn gc(&self) -> Result<GcReport> {
        gc::sweep(&self.core).await
    }

    /// Waits until every delivery of this process is done. Nothing may be started afterwards.
    pub async fn shutdown(&self) {
        self.core.changes.close().await;
        self.core.events.close().await;
        self.core.tasks.close();
        self.core.tasks.wait().await;
        self.core.closing.cancel();
        self.core.sweeps.close();
        self.core.sweeps.wait().await;
    }
}
