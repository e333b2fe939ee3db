//! The two sockets: jobs on one, control on the other. Accepts, reads the first line, and hands the connection to what it is for.

use std::collections::VecDeque;
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use zeroize::Zeroize as _;

use super::admin;
use super::registry::{JobSession, Registry, SlotSession};
use super::relay::{FOREVER, MAX_HEAD, Relay, Timing};
use crate::error::{Error, Result};
use crate::patient::Patient;
use crate::protocol::PROTOCOL_VERSION;
use crate::protocol::connection::{Channel, Preamble, SlotMessage};
use crate::weaken;

/// Connections that have not shown a valid pass. Beyond these the oldest is closed: a job says who it is with its first bytes, so that who is
/// displaced is one that has no good reason to be there still.
const MAX_STRANGERS: usize = 256;
/// Control connections.
const MAX_ADMIN_CONNECTIONS: usize = 64;
/// How often a slot connection is told that the gateway is alive.
const ALIVE_EVERY: Duration = Duration::from_secs(3);
/// How often a collector is told how full the gateway is, and passes are looked over although none was to end.
const GAUGES_EVERY: Duration = Duration::from_secs(5);
/// Shortest time between two looks over the passes.
const SWEEPS_APART: Duration = Duration::from_millis(100);
/// The pass of a job that was just admitted may be the next one to end.
const SWEEP_AFTER_ADMISSION: Duration = Duration::from_millis(500);
/// Headers of a request.
const MAX_HEADERS: usize = 64;

/// Where the gateway's parts lie.
#[derive(Debug, Clone)]
pub struct Places {
    /// The socket that jobs reach.
    pub socket: PathBuf,
    /// The private volume.
    pub state: PathBuf,
    /// The control socket.
    pub admin_socket: PathBuf,
}

/// Runs until `stop` is cancelled, then ends what is under way within a few seconds.
pub async fn serve(places: &Places, timing: Timing, stop: CancellationToken) -> Result<()> {
    let (registry_root, grace) = (places.state.clone(), timing.awaited);
    make_directory(&places.state, 0o700)?;
    // Held until the process ends: two gateways on one volume would each undo what the other writes.
    let _lock = lock(&places.state)?;
    let registry = Arc::new(
        tokio::task::spawn_blocking(move || Registry::open(&registry_root, grace))
            .await
            .map_err(|e| Error::internal("the state could not be read").with_source(e))??,
    );
    if let Some(directory) = places.socket.parent() {
        make_directory(directory, 0o750)?;
    }
    let admin_listener = bind(&places.admin_socket, 0o600)?;
    let listener = bind(&places.socket, 0o660)?;
    tracing::info!(version = env!("CARGO_PKG_VERSION"), jobs = registry.job_count(), "the gateway listens");
    let server = Server {
        registry,
        timing,
        stop: stop.clone(),
        abort: CancellationToken::new(),
        tasks: TaskTracker::new(),
        strangers: Arc::default(),
        begun: tokio::time::Instant::now(),
    };
    server.tasks.spawn(server.clone().housekeeping());
    server.tasks.spawn(server.clone().accept(admin_listener, true));
    server.clone().accept(listener, false).await;
    tracing::info!("the gateway ends");
    for socket in [&places.socket, &places.admin_socket] {
        let _ = std::fs::remove_file(socket);
    }
    server.tasks.close();
    if tokio::time::timeout(timing.shutdown, server.tasks.wait()).await.is_err() {
        server.abort.cancel();
        let _ = tokio::time::timeout(Duration::from_secs(1), server.tasks.wait()).await;
    }
    Ok(())
}

/// What others may not do with it.
fn closed(mode: u32) -> u32 {
    if weaken::off("gateway.modes") { mode | 0o007 } else { mode }
}

fn make_directory(path: &Path, mode: u32) -> Result<()> {
    let mode = closed(mode);
    let failed = |e: std::io::Error| {
        Error::internal(format!("cannot prepare the directory {}", path.display()))
            .with_hint("the gateway's volumes must belong to the gateway's user")
            .with_source(e)
    };
    std::fs::DirBuilder::new().recursive(true).mode(mode).create(path).map_err(failed)?;
    let now = std::fs::metadata(path).map_err(failed)?.permissions().mode() & 0o7777;
    if now != mode {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).map_err(failed)?;
    }
    Ok(())
}

fn lock(directory: &Path) -> Result<std::fs::File> {
    let path = directory.join("lock");
    let file = std::fs::OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(|e| Error::internal(format!("cannot open {}", path.display())).with_source(e))?;
    rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive)
        .map_err(|e| Error::internal("another gateway runs on the same volume").with_hint("end the other one first").with_source(e))?;
    Ok(file)
}

/// Binds a socket in place of a stale one. The lock on the volume says that nobody listens on it.
fn bind(path: &Path, mode: u32) -> Result<UnixListener> {
    let failed = |e: std::io::Error| Error::internal(format!("cannot listen on {}", path.display())).with_source(e);
    match std::fs::symlink_metadata(path) {
        Ok(meta) if meta.file_type().is_socket() => std::fs::remove_file(path).map_err(failed)?,
        Ok(_) => return Err(Error::internal(format!("{} is there and is no socket", path.display()))),
        Err(_) => {}
    }
    let listener = UnixListener::bind(path).map_err(failed)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(closed(mode))).map_err(failed)?;
    Ok(listener)
}

/// A connection that has not shown a valid pass, until dropped.
struct Stranger(CancellationToken);

impl Stranger {
    /// Takes a place among them, for which the oldest one may have to go.
    fn new(all: &Arc<Mutex<VecDeque<CancellationToken>>>) -> Self {
        let token = CancellationToken::new();
        let mut strangers = all.lock().unwrap_or_else(PoisonError::into_inner);
        // Those that are gone or known by now.
        strangers.retain(|stranger| !stranger.is_cancelled());
        strangers.push_back(token.clone());
        if strangers.len() > MAX_STRANGERS
            && !weaken::off("gateway.strangers")
            && let Some(oldest) = strangers.pop_front()
        {
            oldest.cancel();
        }
        drop(strangers);
        Self(token)
    }

    async fn displaced(&self) {
        self.0.cancelled().await;
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

#[derive(Clone)]
struct Server {
    registry: Arc<Registry>,
    timing: Timing,
    /// No more is accepted; what waits ends.
    stop: CancellationToken,
    /// What is still under way is cut.
    abort: CancellationToken,
    tasks: TaskTracker,
    strangers: Arc<Mutex<VecDeque<CancellationToken>>>,
    begun: tokio::time::Instant,
}

impl Server {
    async fn accept(self, listener: UnixListener, control: bool) {
        let room = Arc::new(Semaphore::new(MAX_ADMIN_CONNECTIONS));
        loop {
            let permit = if control { room.clone().acquire_owned().await.ok() } else { None };
            let stream = tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => stream,
                    Err(e) => {
                        tracing::warn!(error = %e, "a connection could not be accepted");
                        tokio::time::sleep(Duration::from_millis(50)).await;
                        continue;
                    }
                },
                () = self.stop.cancelled() => return,
            };
            let server = self.clone();
            let stranger = (!control).then(|| Stranger::new(&self.strangers));
            self.tasks.spawn(async move {
                let _permit = permit;
                let abort = server.abort.clone();
                tokio::select! {
                    () = async {
                        match stranger {
                            None => admin::serve(stream, server.registry, server.stop).await,
                            Some(stranger) => server.connection(stream, stranger).await,
                        }
                    } => {}
                    () = abort.cancelled() => {}
                }
            });
        }
    }

    async fn housekeeping(self) {
        // By its own ticks the gateway knows whether it stood still.
        let mut beat = tokio::time::interval(Duration::from_secs(1));
        // A pass is dead to the second, and what streams under it too: the next look is when the first one ends.
        let mut due = self.next_sweep();
        let mut gauges = tokio::time::interval(GAUGES_EVERY);
        let mut hangup = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup()).ok();
        loop {
            tokio::select! {
                () = self.stop.cancelled() => return,
                _ = beat.tick() => self.registry.beat(),
                () = tokio::time::sleep_until(due) => due = self.next_sweep(),
                () = self.registry.admitted() => due = due.min(tokio::time::Instant::now() + SWEEP_AFTER_ADMISSION),
                _ = gauges.tick() => {
                    due = self.next_sweep();
                    super::observe::gauges(&self.registry);
                }
                Some(()) = async { hangup.as_mut()?.recv().await } => self.registry.reload_credentials(),
            }
        }
    }

    /// Ends what is to end now; when that is to be done again.
    fn next_sweep(&self) -> tokio::time::Instant {
        let now = tokio::time::Instant::now();
        let next = self.registry.sweep().unwrap_or(GAUGES_EVERY * 2).max(SWEEPS_APART);
        now.checked_add(next).unwrap_or(now + GAUGES_EVERY * 2)
    }

    /// Ticks at the same instants for all slots, so that all of them cost one awakening.
    fn heartbeat(&self) -> tokio::time::Interval {
        let beats = self.begun.elapsed().as_secs() / ALIVE_EVERY.as_secs() + 1;
        let next = ALIVE_EVERY.checked_mul(u32::try_from(beats).unwrap_or(u32::MAX)).and_then(|after| self.begun.checked_add(after));
        tokio::time::interval_at(next.unwrap_or_else(|| tokio::time::Instant::now() + ALIVE_EVERY), ALIVE_EVERY)
    }

    async fn connection(self, stream: UnixStream, stranger: Stranger) {
        let mut stream = BufReader::with_capacity(4096, stream);
        let time = if weaken::off("gateway.preamble_time") { FOREVER } else { self.timing.preamble };
        let preamble = tokio::select! {
            preamble = read_preamble(&mut stream, time) => preamble,
            () = stranger.displaced() => None,
        };
        let Some(mut preamble) = preamble else { return };
        let current = preamble.version == PROTOCOL_VERSION;
        let session = if current { self.registry.authenticate(&preamble) } else { None };
        preamble.pass.zeroize();
        let known = session.is_some();
        let serve = async {
            match preamble.channel {
                Channel::Slot => self.clone().slot(stream, session, &preamble, current).await,
                Channel::Model => self.clone().model(stream, session).await,
            }
        };
        if !known {
            // It is told so, and stays a stranger.
            tokio::select! {
                () = serve => {}
                () = stranger.displaced() => {}
            }
            return;
        }
        drop(stranger);
        // Held for the connection's life.
        let Some(_place) = self.registry.connect() else { return };
        serve.await;
    }

    async fn model(self, stream: BufReader<UnixStream>, session: Option<JobSession>) {
        let cancel = session.as_ref().map_or_else(CancellationToken::new, |s| s.cancel.clone());
        // Held for the connection's life.
        let _room = match &session {
            Some(session) => match session.connections.clone().try_acquire_owned() {
                Ok(permit) => Some(permit),
                Err(_) => return,
            },
            None => None,
        };
        let relay = Relay { registry: self.registry.clone(), session, timing: self.timing, tasks: self.tasks.clone() };
        let patience = if weaken::off("gateway.client_time") { FOREVER } else { self.timing.client };
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(if weaken::off("gateway.head_time") { FOREVER } else { self.timing.head })
            .max_headers(if weaken::off("gateway.headers") { 100_000 } else { MAX_HEADERS })
            .max_buf_size(if weaken::off("gateway.head_size") { 16 << 20 } else { MAX_HEAD })
            .auto_date_header(false)
            .serve_connection(TokioIo::new(Patient::new(stream, patience)), service_fn(move |request| relay.clone().serve(request)));
        let mut connection = std::pin::pin!(connection);
        let mut stopping = false;
        loop {
            tokio::select! {
                _ = connection.as_mut() => return,
                () = cancel.cancelled() => return,
                () = self.stop.cancelled(), if !stopping => {
                    stopping = true;
                    connection.as_mut().graceful_shutdown();
                }
            }
        }
    }

    async fn slot(self, stream: BufReader<UnixStream>, session: Option<JobSession>, preamble: &Preamble, current: bool) {
        let (mut reader, mut writer) = tokio::io::split(stream);
        let opened = session.and_then(|s| self.registry.open_slot(&s.job_id, preamble.resume));
        let Some(SlotSession { serial, mut messages, cancel }) = opened else {
            let message = if current { "the pass is not valid" } else { "this job was delivered by another version" };
            let _ = say(&mut writer, &SlotMessage::Refused { message: message.to_owned() }).await;
            return;
        };
        let mut ignored = [0u8; 64];
        let mut alive = self.heartbeat();
        let closed_by_peer = loop {
            tokio::select! {
                biased;
                read = reader.read(&mut ignored) => match read {
                    Ok(1..) => {}
                    _ => break true,
                },
                message = messages.recv() => match message {
                    Some(message) => if say(&mut writer, &message).await.is_err() { break true },
                    // Another connection of the same job took over.
                    None => break false,
                },
                _ = alive.tick() => if say(&mut writer, &SlotMessage::Alive).await.is_err() { break true },
                () = cancel.cancelled() => {
                    // What was said before the end, the refusal above all.
                    while let Ok(message) = messages.try_recv() {
                        if say(&mut writer, &message).await.is_err() { break }
                    }
                    break true;
                }
                // The slot stays the job's: it comes back when the gateway does.
                () = self.stop.cancelled() => break false,
            }
        };
        if closed_by_peer {
            self.registry.close_slot(&preamble.job_id, serial);
        }
        let _ = writer.shutdown().await;
    }
}

/// Reads the first line; `None` for anything but a preamble in time.
async fn read_preamble(stream: &mut BufReader<UnixStream>, time: Duration) -> Option<Preamble> {
    let mut line = Vec::new();
    let read = tokio::time::timeout(time, stream.take(Preamble::MAX_LINE as u64).read_until(b'\n', &mut line)).await;
    let preamble = match read {
        Ok(Ok(_)) if line.ends_with(b"\n") => serde_json::from_slice::<Preamble>(&line).ok(),
        _ => None,
    };
    line.zeroize();
    preamble
}

/// Writes one message; a peer that does not read for long is given up.
async fn say<W: tokio::io::AsyncWrite + Unpin>(writer: &mut W, message: &SlotMessage) -> std::io::Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    tokio::time::timeout(Duration::from_secs(30), async {
        writer.write_all(&line).await?;
        writer.flush().await
    })
    .await?
}
