//! The server over HTTP: `/mcp` (streamable HTTP, both eras of the protocol), `/healthz` and `/metrics`.
//!
//! What is parsed here comes from clients, who may start jobs anyway; nothing of a job reaches it. There are no sessions: each request stands for itself
//! and gets a server of its own, so that one client's progress and cancellation never reach another, and a server that is started again misses
//! nothing. Jobs, connections to the engine and limits are shared.

mod access;
mod answer;
mod door;
mod service;
#[cfg(test)]
mod tests;
mod token;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::access::Access;
use self::door::Door;
use self::service::{FOREVER, Service};
use super::WIND_UP;
use crate::error::{Code, Error, Result};
use crate::job::Jobs;
use crate::patient::Patient;
use crate::weaken;

/// Headers of a request.
const MAX_HEADERS: usize = 64;
/// Bytes of a request's head.
const MAX_HEAD: usize = 32 << 10;
/// After an `accept` that failed, as for want of file descriptors.
const PAUSE: Duration = Duration::from_millis(50);

/// What a server that listens says of itself.
#[derive(Debug, Clone, Copy)]
pub struct Listening {
    /// Where; the port is the real one where 0 was asked for.
    pub address: SocketAddr,
    /// Clients must know a token.
    pub token: bool,
    /// Whether others than this machine reach it.
    pub beyond_loopback: bool,
}

/// Serves over HTTP as `[server]` says until SIGTERM or SIGINT comes; `ready` is called once connections are accepted. Then nothing more is accepted, calls
/// that wait answer that their job goes on, others and deliveries are finished, for at most 30 s; jobs run on. A second signal ends it at once.
///
/// # Errors
///
/// [`Code::InvalidConfig`] where the settings do not suffice for that address or it is taken; [`Code::Interrupted`] after a second signal.
pub async fn serve_http(jobs: Jobs, ready: impl FnOnce(&Listening)) -> Result<()> {
    let settings = &jobs.settings().server;
    let address = settings.address().ok_or_else(|| Error::new(Code::InvalidConfig, "invalid setting server.listen"))?;
    let access = Access::new(jobs.settings(), &address, |name| std::env::var(name).ok())?;
    let mut signals = Signals::new()?;
    let listener = TcpListener::bind(address).await.map_err(|e| {
        Error::new(Code::InvalidConfig, format!("serve over HTTP: cannot listen on {address}"))
            .with_hint("end what listens there, or choose another address with --listen or `[server] listen`")
            .with_detail("field", "server.listen")
            .with_source(e)
    })?;
    let address = listener.local_addr().unwrap_or(address);
    let listening = Listening { address, token: access.has_token(), beyond_loopback: !access::is_loopback(&address) };
    tracing::info!(%address, token = listening.token, "the server listens");
    jobs.bring_limits_soon();
    ready(&listening);

    let stop = CancellationToken::new();
    let serving = serve(jobs, access, listener, stop.clone());
    tokio::pin!(serving);
    tokio::select! {
        () = &mut serving => return Ok(()),
        () = signals.next() => stop.cancel(),
    }
    tracing::info!("the server ends");
    tokio::select! {
        () = &mut serving => Ok(()),
        () = signals.next() => Err(Error::new(Code::Interrupted, "ended at once by a second signal")
            .with_hint("jobs run on; `anchorhold jobs` lists them")),
    }
}

/// SIGTERM and SIGINT.
struct Signals(Signal, Signal);

impl Signals {
    fn new() -> Result<Self> {
        let failed = |e: std::io::Error| Error::internal("cannot watch for signals").with_source(e);
        Ok(Self(signal(SignalKind::terminate()).map_err(failed)?, signal(SignalKind::interrupt()).map_err(failed)?))
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.0.recv() => {}
            _ = self.1.recv() => {}
        }
    }
}

/// Accepts until `stop`, then finishes what is under way within [`WIND_UP`].
async fn serve(jobs: Jobs, access: Access, listener: TcpListener, stop: CancellationToken) {
    let settings = jobs.settings().server.clone();
    let door = Door::new(settings.max_connections as usize);
    let (calls, cut, connections) = (TaskTracker::new(), CancellationToken::new(), TaskTracker::new());
    let service = Arc::new(Service::new(jobs.clone(), access, door.clone(), calls.clone(), stop.clone(), cut.clone()));
    let times = Times {
        head: if weaken::off("http.head_time") { FOREVER } else { Duration::from_secs(settings.head_seconds) },
        take: if weaken::off("http.client_time") { FOREVER } else { Duration::from_secs(settings.transfer_seconds) },
    };
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(e) => {
                    tracing::warn!(error = %e, "a connection could not be accepted");
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            },
            () = stop.cancelled() => break,
        };
        let (service, door, stop, cut) = (service.clone(), door.clone(), stop.clone(), cut.clone());
        connections.spawn(async move {
            tokio::select! {
                () = connection(stream, &service, &door, times, &stop) => {}
                () = cut.cancelled() => {}
            }
        });
    }
    drop(listener);
    connections.close();
    calls.close();
    let winding_up = async {
        connections.wait().await;
        calls.wait().await;
        jobs.shutdown().await;
    };
    if tokio::time::timeout(WIND_UP, winding_up).await.is_err() {
        tracing::warn!("gave up waiting for clients or a delivery; a job that was not delivered will be reaped");
    }
    cut.cancel();
}

/// How patient one is with a client.
#[derive(Clone, Copy)]
struct Times {
    /// To the end of a request's head, also where none begins.
    head: Duration,
    /// While it takes nothing of an answer.
    take: Duration,
}

/// Serves one connection until it ends, is displaced, or `stop` has come and its request is answered.
async fn connection(stream: TcpStream, service: &Arc<Service>, door: &Arc<Door>, times: Times, stop: &CancellationToken) {
    // Events are small and should go out as they come.
    let _ = stream.set_nodelay(true);
    let guest = Arc::new(door.enter());
    let (service, of_request) = (service.clone(), guest.clone());
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(times.head)
        .max_headers(MAX_HEADERS)
        .max_buf_size(MAX_HEAD)
        .serve_connection(
            TokioIo::new(Patient::new(stream, times.take)),
            service_fn(move |request| {
                let (service, guest) = (service.clone(), of_request.clone());
                async move { Ok::<_, Infallible>(service.serve(request, &guest).await) }
            }),
        );
    tokio::pin!(connection);
    let mut stopping = false;
    loop {
        tokio::select! {
            end = connection.as_mut() => {
                if let Err(e) = end {
                    tracing::debug!(error = %e, "a connection broke");
                }
                return;
            }
            () = guest.displaced() => return,
            () = stop.cancelled(), if !stopping => {
                stopping = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}
