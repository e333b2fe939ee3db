//! The driver: what PID 1 does from its start to its exit code.

use std::io::Read as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::process::Pid;
use sha2::Digest as _;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::ending::{Ending, Evidence, Stop, conclude};
use super::forward::Forwarder;
use super::part::{self, Places, UnpackAnswer, UnpackOrders};
use super::progress::{Reporter, now_unix_ms};
use super::reaper::{Ended, Reaper};
use super::slot::{self, SlotEvent};
use super::state::{Facts, State};
use super::{clock, finish, home, idle, names, unpack, watch};
use crate::codex::command::FORWARDER_PORT;
use crate::codex::events::Events;
use crate::error::{Code, Error, Result};
use crate::protocol::PROTOCOL_VERSION;
use crate::protocol::connection::{Channel, Preamble};
use crate::protocol::manifest::hex;
use crate::protocol::paths;
use crate::protocol::progress::Phase;
use crate::protocol::request::{JobKind, JobRequest};
use crate::protocol::result::{ProviderError, Reason};
use crate::{fault, weaken};

/// Longest request document.
const MAX_REQUEST: u64 = 8 << 20;
/// Threads for unpacking.
const MAX_WORKERS: usize = 4;
/// Seconds to wait for the last process to die.
const KILL_SECONDS: u32 = 8;

/// What the provider did, as the gateway tells it.
#[derive(Debug, Clone, Default)]
pub struct Provider {
    /// Successful answers.
    pub answers: u64,
    /// The last failure.
    pub last_error: Option<ProviderError>,
    /// It came after the last answer.
    pub unresolved: bool,
}

/// Everything that the tasks of one job share.
pub struct Cell {
    /// What to do.
    pub request: JobRequest,
    /// Children.
    pub reaper: Reaper,
    /// Where anybody may ask for the end.
    pub stop: Stop,
    /// Survives a kill.
    pub state: State,
    pub(super) facts: Mutex<Facts>,
    pub(super) events: Mutex<Events>,
    pub(super) reporter: Mutex<Reporter>,
    pub(super) provider: Mutex<Provider>,
    gateway_broken: Arc<AtomicBool>,
    /// Bytes of model answers so far.
    pub answer_bytes: Arc<AtomicU64>,
    delivered_bytes: AtomicU64,
    delivered_entries: AtomicU64,
    kills_before: Option<u64>,
    pub(super) dropped_events: AtomicU64,
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// PID 1.
pub fn run() -> u8 {
    if rustix::process::getpid() != Pid::INIT {
        complain("init runs as the first process of a cell only");
        return 2;
    }
    // Sealed already: started again by mistake, or by an engine that restarts what has ended.
    if let Some(result) = finish::sealed() {
        return result.reason.exit_code();
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match runtime {
        Ok(runtime) => runtime.block_on(job()),
        Err(e) => {
            complain(&format!("cannot start: {e}"));
            1
        }
    }
}

/// The container log is all there is for what cannot be put into a result.
fn complain(what: &str) {
    let _ = std::io::Write::write_all(&mut std::io::stderr(), format!("anchorhold init: {what}\n").as_bytes());
}

async fn job() -> u8 {
    let request = match read_request() {
        Ok(request) => request,
        Err(e) => {
            complain(&e.chain());
            return 1;
        }
    };
    for (dir, mode) in [(paths::JOB, 0o711), (paths::JOB_IN, 0o700), (paths::JOB_STATE, 0o700), (paths::JOB_OUT, 0o700)] {
        let mode = if weaken::off("init.job_directories") { 0o755 } else { mode };
        if let Err(e) = home::own_directory(Path::new(dir), mode) {
            complain(&format!("{dir}: {e}"));
            return 1;
        }
    }
    let state = State::new(Path::new(paths::JOB_STATE));
    let earlier = match state.load() {
        Ok(earlier) => earlier,
        Err(e) => {
            complain(&format!("read the state: {e}"));
            return 1;
        }
    };
    let resealed = earlier.is_some() && !weaken::off("fault.reseal_only");
    let mut facts = earlier.filter(|_| resealed).unwrap_or_default();
    if !resealed {
        facts.timings.started_unix_ms = now_unix_ms();
    }
    let cell = Arc::new(Cell {
        request,
        reaper: Reaper::default(),
        stop: Stop::default(),
        state,
        facts: Mutex::new(facts),
        events: Mutex::default(),
        reporter: Mutex::default(),
        provider: Mutex::default(),
        gateway_broken: Arc::default(),
        answer_bytes: Arc::default(),
        delivered_bytes: AtomicU64::new(0),
        delivered_entries: AtomicU64::new(0),
        kills_before: watch::out_of_memory_kills(),
        dropped_events: AtomicU64::new(0),
    });
    fault::point("init.started");
    let mut tasks = JoinSet::new();
    if let Err(e) = cell.listen_to_signals(&mut tasks) {
        complain(&format!("listen to signals: {e}"));
        return 1;
    }
    let ending = if resealed {
        cell.phase(Phase::Sealing, None);
        fault::point("init.resealing");
        cell.replay_events();
        if cell.facts().out_of_memory || Path::new(paths::JOB_STATE).join(paths::KILLED_FOR_MEMORY).exists() {
            Ending::new(Reason::Memory, "The cell used up its memory and was killed; sealed by a second start.")
        } else {
            Ending::new(Reason::Interrupted, "The cell was killed before it could seal; sealed by a second start.")
        }
    } else {
        cell.save();
        fault::point("init.saved");
        let mut running = Running::default();
        let work = cell.work(&mut running);
        let ending = tokio::select! {
            biased;
            ending = cell.stop.requested() => ending,
            ending = work => ending,
        };
        fault::point("init.ending");
        cell.end(&mut running).await;
        fault::point("init.ended");
        ending
    };
    let finished = finish::finish(&cell, &ending, resealed).await;
    tasks.abort_all();
    match finished {
        Ok(()) => {
            fault::point("init.sealed");
            lock(&cell.reporter).phase(Phase::Sealed, None, Some(ending.reason));
            ending.reason.exit_code()
        }
        Err(e) => {
            complain(&e.chain());
            1
        }
    }
}

fn read_request() -> Result<JobRequest> {
    let failed = |e: std::io::Error| Error::internal("read the request").with_source(e);
    let mut text = Vec::new();
    std::fs::File::open(paths::REQUEST).map_err(failed)?.take(MAX_REQUEST).read_to_end(&mut text).map_err(failed)?;
    let mut request: JobRequest = serde_json::from_slice(&text).map_err(|e| Error::internal("parse the request").with_source(e))?;
    if request.version != PROTOCOL_VERSION {
        return Err(Error::internal(format!("the request has version {}, this is {PROTOCOL_VERSION}", request.version)));
    }
    if weaken::off("init.privileges") {
        request.agent_uid = 0;
    } else if request.agent_uid == 0 || request.agent_uid > i32::MAX.cast_unsigned() {
        return Err(Error::internal("the agent's uid is out of range"));
    }
    Ok(request)
}

/// What runs beside the driver while there is a Codex.
#[derive(Default)]
pub(super) struct Running {
    /// Forwarder, slot, watcher: ended before the seal.
    pub(super) helpers: JoinSet<()>,
    /// Readers of Codex's pipes: they end when the last writer is dead.
    pub(super) pumps: JoinSet<()>,
}

impl Cell {
    /// A copy of the facts.
    pub fn facts(&self) -> Facts {
        lock(&self.facts).clone()
    }

    /// What the provider did.
    pub fn provider(&self) -> Provider {
        lock(&self.provider).clone()
    }

    /// What Codex said.
    pub fn report(&self) -> crate::protocol::result::CodexReport {
        let mut report = lock(&self.events).report.clone();
        report.events_dropped_bytes = self.dropped_events.load(Ordering::Relaxed);
        report
    }

    /// Events of Codex that say more than that it still waits.
    pub fn events_of_progress(&self) -> u64 {
        let events = lock(&self.events);
        events.report.events.saturating_sub(events.complaints)
    }

    /// Bytes that unpacking put on disk, those of packs still to be written included, and how many names.
    pub fn delivered(&self) -> (u64, u64) {
        (self.delivered_bytes.load(Ordering::Relaxed), self.delivered_entries.load(Ordering::Relaxed))
    }

    /// Changes the facts and saves them.
    pub fn update(&self, change: impl FnOnce(&mut Facts)) {
        change(&mut lock(&self.facts));
        self.save();
    }

    /// A new phase.
    pub fn phase(&self, phase: Phase, position: Option<u64>) {
        lock(&self.reporter).phase(phase, position, None);
    }

    /// Remembers kills for memory over a kill of this process.
    pub fn note_memory(&self) -> bool {
        let risen = watch::out_of_memory_kills() > self.kills_before;
        if risen && !lock(&self.facts).out_of_memory {
            self.update(|facts| facts.out_of_memory = true);
        }
        risen
    }

    fn save(&self) {
        // On a full disk the job goes on; only a second start would know less.
        let _ = self.state.save(&lock(&self.facts));
    }

    fn listen_to_signals(self: &Arc<Self>, tasks: &mut JoinSet<()>) -> std::io::Result<()> {
        let mut child = signal(SignalKind::child())?;
        let cell = Arc::clone(self);
        tasks.spawn(async move {
            while child.recv().await.is_some() {
                cell.reaper.reap();
            }
        });
        let asked = [
            (SignalKind::user_defined1(), Reason::Cancelled, "The job was cancelled."),
            (SignalKind::terminate(), Reason::Interrupted, "The cell was stopped from outside."),
            (SignalKind::interrupt(), Reason::Interrupted, "The cell was stopped from outside."),
        ];
        for (kind, reason, detail) in asked {
            let mut asked = signal(kind)?;
            let cell = Arc::clone(self);
            tasks.spawn(async move {
                while asked.recv().await.is_some() {
                    cell.stop.request(Ending::new(reason, detail));
                }
            });
        }
        Ok(())
    }

    /// From the delivered files to Codex's own end.
    async fn work(self: &Arc<Self>, running: &mut Running) -> Ending {
        self.phase(Phase::Unpacking, None);
        let begun = Instant::now();
        if let Err(e) = self.unpack().await {
            return not_unpacked(&e);
        }
        self.update(|facts| {
            facts.unpacked = true;
            facts.timings.unpack_ms = millis(begun.elapsed());
        });
        fault::point("init.unpacked");
        let preamble = Preamble {
            version: PROTOCOL_VERSION,
            job_id: self.request.job_id.clone(),
            pass: self.request.pass.clone(),
            channel: Channel::Model,
            resume: false,
        };
        let listener = match tokio::net::TcpListener::bind(("127.0.0.1", FORWARDER_PORT)).await {
            Ok(listener) => listener,
            Err(e) => return Ending::internal(format!("The loopback port could not be opened: {e}.")),
        };
        let gone = Duration::from_secs(self.request.gateway_seconds.max(1));
        let forwarder = Forwarder {
            socket: paths::SOCKET.into(),
            preamble: preamble.clone(),
            broken: Arc::clone(&self.gateway_broken),
            patience: gone,
            answer_bytes: Arc::clone(&self.answer_bytes),
        };
        running.helpers.spawn(forwarder.run(listener));
        let (sender, mut slot) = mpsc::channel(16);
        running.helpers.spawn(async move { slot::hold(Path::new(paths::SOCKET), preamble, slot::Patience::with(gone), sender).await });

        let queued = Instant::now();
        self.phase(Phase::Queued, None);
        let patience = clock::now().saturating_add(Duration::from_secs(self.request.queue_seconds));
        let waited = tokio::select! {
            biased;
            granted = self.wait_for_slot(&mut slot) => granted,
            () = clock::until(patience) => {
                Err(Ending::new(Reason::QueueTimeout, "The job got no slot in the time that it may wait (`[limits] queue_seconds`)."))
            }
        };
        if let Err(ending) = waited {
            // Its own time in the queue is worth knowing.
            self.update(|facts| facts.timings.queue_ms = millis(queued.elapsed()));
            return ending;
        }
        fault::point("init.slot");
        let deadline = clock::now().saturating_add(Duration::from_secs(self.request.deadline_seconds));
        let pid = match self.start_codex(running) {
            Ok(pid) => pid,
            Err(e) => {
                let code = if e.code == Code::Internal { Code::ImageMismatch } else { e.code };
                return Ending::new(Reason::Failed, format!("Codex could not be started: {}.", e.chain())).with_code(code);
            }
        };
        self.update(|facts| {
            facts.timings.queue_ms = millis(queued.elapsed());
            facts.timings.codex_started_unix_ms = now_unix_ms();
        });
        self.phase(Phase::Running, None);
        fault::point("init.codex_started");
        let cell = Arc::clone(self);
        running.helpers.spawn(async move { watch::watch(&cell).await });
        let cell = Arc::clone(self);
        running.helpers.spawn(async move { idle::watch(&cell, pid).await });
        self.watch_codex(pid, deadline, &mut slot).await
    }

    async fn wait_for_slot(&self, slot: &mut mpsc::Receiver<SlotEvent>) -> Result<(), Ending> {
        if weaken::off("init.slot") {
            return Ok(());
        }
        loop {
            match slot.recv().await {
                Some(SlotEvent::Granted) => return Ok(()),
                Some(SlotEvent::Queued(position)) => self.phase(Phase::Queued, Some(position)),
                Some(SlotEvent::End(ending)) => return Err(ending),
                Some(SlotEvent::Answered(_) | SlotEvent::Failed(_)) => {}
                None => return Err(Ending::internal("The slot was lost.")),
            }
        }
    }

    async fn watch_codex(&self, pid: Pid, deadline: Duration, slot: &mut mpsc::Receiver<SlotEvent>) -> Ending {
        let met = clock::until(deadline);
        tokio::pin!(met);
        let unreachable = Instant::now() + Duration::from_secs(self.request.unreachable_seconds.max(1));
        loop {
            let answered = lock(&self.provider).answers > 0;
            tokio::select! {
                ended = self.reaper.wait(pid) => return self.codex_ended(ended, slot).await,
                () = &mut met, if !weaken::off("init.deadline") => return Ending::new(Reason::Deadline, "The job met its deadline."),
                () = tokio::time::sleep_until(unreachable), if !answered => {
                    // Where there is no gateway the provider is not to blame.
                    let broken = self.gateway_broken.load(Ordering::Relaxed);
                    let why = if broken { "The gateway could not be reached." } else { "The provider gave no answer in the time allowed for the first." };
                    return Ending::new(Reason::ProviderUnreachable, why);
                }
                event = slot.recv() => match event {
                    Some(event) => if let Some(ending) = self.heard(event) { return ending },
                    None => return Ending::internal("The slot was lost."),
                },
            }
        }
    }

    /// Takes in what the gateway says while Codex runs.
    fn heard(&self, event: SlotEvent) -> Option<Ending> {
        match event {
            // A restarted gateway may let others go first; this job goes on.
            SlotEvent::Queued(_) | SlotEvent::Granted => {}
            SlotEvent::Answered(answers) => {
                let mut provider = lock(&self.provider);
                // A restarted gateway may count anew.
                provider.answers = provider.answers.max(answers);
                provider.unresolved = false;
                let events = lock(&self.events).report.events;
                lock(&self.reporter).counts(events, provider.answers);
                let answers = provider.answers;
                drop(provider);
                self.update(|facts| facts.answers = answers);
            }
            SlotEvent::Failed(error) => {
                let mut provider = lock(&self.provider);
                provider.last_error = Some(error);
                provider.unresolved = true;
            }
            SlotEvent::End(ending) => return Some(ending),
        }
        None
    }

    async fn codex_ended(&self, ended: Ended, slot: &mut mpsc::Receiver<SlotEvent>) -> Ending {
        // The gateway's word on a failure may arrive just after Codex gave up because of it, as may Codex's last events.
        if ended.exit_code != Some(0) {
            let until = Instant::now() + Duration::from_millis(300);
            while let Ok(Some(event)) = tokio::time::timeout_at(until, slot.recv()).await {
                if let Some(ending) = self.heard(event) {
                    return ending;
                }
            }
        } else {
            let until = Instant::now() + Duration::from_millis(300);
            while !lock(&self.events).report.turn_completed && Instant::now() < until {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        }
        {
            let mut events = lock(&self.events);
            (events.report.exit_code, events.report.signal) = (ended.exit_code, ended.signal);
        }
        let provider = self.provider();
        conclude(&Evidence {
            ended,
            events: &lock(&self.events),
            provider_error: provider.last_error.as_ref().filter(|_| provider.unresolved),
            out_of_memory: self.note_memory(),
            gateway_broken: self.gateway_broken.load(Ordering::Relaxed),
        })
    }

    async fn unpack(&self) -> Result<()> {
        let failed = |what: &'static str| move |e: std::io::Error| Error::internal(what).with_source(e);
        check_manifest(Path::new(paths::MANIFEST), &self.request.manifest_sha256)?;
        names::prepare(self.request.agent_uid).map_err(failed("give the agent a name"))?;
        home::prepare(self.request.agent_uid, &self.request.codex).map_err(failed("make the agent's home"))?;
        if self.request.kind == JobKind::Review {
            home::prepare_review().map_err(failed("lay out the change under review"))?;
        }
        // Given back when the disk is full.
        std::fs::write(self.state.reserve(), vec![0xa5; 1 << 20]).map_err(failed("reserve space for the result"))?;
        let workers = std::thread::available_parallelism().map_or(1, usize::from).min(MAX_WORKERS);
        let orders = UnpackOrders {
            places: Places::cell(),
            options: unpack::Options {
                agent_uid: self.request.agent_uid,
                subdirectory: self.request.subdirectory.clone(),
                commit_subject: Some(self.request.commit_subject.clone()),
                unix_seconds: now_unix_ms() / 1000,
                workers,
            },
            previous: self.request.previous.then(|| paths::PREVIOUS.into()),
        };
        fault::point("init.unpacking");
        let answer: UnpackAnswer = part::call(&self.reaper, "unpack", &orders).await?;
        self.delivered_bytes.store(answer.disk_bytes, Ordering::Relaxed);
        self.delivered_entries.store(answer.entries, Ordering::Relaxed);
        Ok(())
    }

    /// Ends everything of the job but PID 1.
    async fn end(self: &Arc<Self>, running: &mut Running) {
        self.phase(Phase::Sealing, None);
        running.helpers.abort_all();
        self.kill_everything().await;
        self.note_memory();
        // The writers are dead, so the readers come to an end.
        let drained = tokio::time::timeout(Duration::from_secs(5), async { while running.pumps.join_next().await.is_some() {} }).await;
        if drained.is_err() {
            running.pumps.abort_all();
        }
        let now = now_unix_ms();
        self.update(|facts| {
            if facts.timings.codex_started_unix_ms > 0 {
                facts.timings.codex_ended_unix_ms = now;
                facts.timings.run_ms = now.saturating_sub(facts.timings.codex_started_unix_ms);
            }
        });
    }

    /// Kills every process of the cell; whether none is left.
    pub async fn kill_everything(&self) -> bool {
        matches!(self.reaper.kill_all(KILL_SECONDS).await, Ok(true))
    }
}

/// A full disk is no defect of ours, and has its own reason.
fn not_unpacked(e: &Error) -> Ending {
    let detail = format!("The workspace could not be unpacked: {}.", e.chain());
    if e.is_for_space() { Ending::new(Reason::Disk, detail) } else { Ending::internal(detail) }
}

fn check_manifest(path: &Path, sha256: &str) -> Result<()> {
    let failed = |e: std::io::Error| Error::internal("read the manifest").with_source(e);
    let mut file = std::fs::File::open(path).map_err(failed)?;
    let mut digest = sha2::Sha256::new();
    let mut buffer = vec![0; 64 << 10];
    loop {
        match file.read(&mut buffer).map_err(failed)? {
            0 => break,
            read => digest.update(buffer.get(..read).unwrap_or_default()),
        }
    }
    if hex(&digest.finalize()) == sha256 { Ok(()) } else { Err(Error::internal("the manifest is not the one that the request names")) }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
