//! The one way out of a cell: a socket on which validated model requests are accepted and nothing else. It holds the credential and has no
//! engine socket.
//!
//! ```text
//!  job ── preamble + HTTP ──► server ─► relay ─► policy (check, rebuild) ─► upstream │ rehearsal
//!                                │        ▲ sse (check, frame anew) ◄───────────┘
//!  job ── preamble + slot ──► server ─► registry: passes, slots, counts ─► store, ledger
//!  host ── engine exec ─────► admin ───►   (one memory, written through to the volume)
//! ```
//!
//! It never proxies. A request is parsed, checked against lists of what is allowed, and written anew to a fixed address with fixed headers; an
//! answer is read event by event and framed anew; an error of the provider is replaced by ours. `docs/REHEARSAL.md` documents the scripted model.

mod absence;
mod admin;
mod budget;
mod departure;
mod failure;
mod fingerprint;
mod harden;
mod json;
mod ledger;
mod limits;
mod meter;
mod observe;
mod policy;
mod registry;
mod rehearsal;
mod relay;
mod revoked;
mod seal;
mod secret;
mod server;
mod slots;
mod sse;
mod store;
mod upstream;

#[cfg(test)]
mod tests;

use std::net::Shutdown;
use std::os::unix::net::UnixStream;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// The readers of hostile bytes, for the fuzz targets (`docs/FUZZING.md`); nothing else uses them from outside.
pub mod readers {
    pub use super::json::{Fault, parse as parse_json};
    pub use super::policy::{Accepted, Refusal, Terms, check};
    pub use super::rehearsal::program;
    pub use super::seal::close as close_seal;
    pub use super::secret::Secret;
    pub use super::sse::{Cut, End, MAX_EVENT, Reader};
}

pub use self::relay::Timing;
pub use self::server::{Places, serve};
use crate::error::{Code, Error, Result};
use crate::protocol::paths;

/// Runs the gateway until SIGTERM: listens on [`crate::protocol::paths::SOCKET`] and the control socket.
pub async fn run() -> Result<()> {
    use crate::telemetry::{Form, Part};
    crate::telemetry::start(Part::Gateway, Form::Json, &std::env::var("ANCHORHOLD_LOG").unwrap_or_default(), None);
    harden::clear_environment()?;
    harden::process();
    harden::open_files();
    let places = Places {
        socket: std::env::var_os("ANCHORHOLD_GATEWAY_SOCKET").map_or_else(|| paths::SOCKET.into(), Into::into),
        state: std::env::var_os("ANCHORHOLD_GATEWAY_STATE").map_or_else(|| paths::GATEWAY_STATE.into(), Into::into),
        admin_socket: admin_socket(),
    };
    let stop = CancellationToken::new();
    let failed = |e: std::io::Error| Error::internal("cannot watch for signals").with_source(e);
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let serving = serve(&places, Timing::default().with(&std::env::var("ANCHORHOLD_GATEWAY_TIMES").unwrap_or_default()), stop.clone());
    let mut serving = std::pin::pin!(serving);
    tokio::select! {
        ended = serving.as_mut() => return ended,
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    stop.cancel();
    let ended = serving.await;
    crate::telemetry::finish();
    ended
}

fn admin_socket() -> std::path::PathBuf {
    std::env::var_os("ANCHORHOLD_GATEWAY_STATE")
        .map_or_else(|| paths::GATEWAY_ADMIN_SOCKET.into(), |state| std::path::Path::new(&state).join("admin.sock"))
}

/// Relays standard input and output to the control socket; run by an engine exec. Ends when the socket is closed from the other side, which
/// follows the end of standard input.
pub async fn admin_relay() -> Result<()> {
    // It passes the credential on.
    harden::process();
    let path = admin_socket();
    let failed = |e: std::io::Error| {
        Error::new(Code::GatewayUnavailable, "cannot speak to the gateway's control socket")
            .with_hint("see whether the gateway's container runs: `docker logs` with its name shows why not")
            .with_source(e)
    };
    let socket = UnixStream::connect(path).map_err(failed)?;
    let mut to_gateway = socket.try_clone().map_err(failed)?;
    // A thread of its own that nobody waits for: a read of standard input cannot be called off, and must not keep the process.
    std::thread::spawn(move || {
        let _ = copy(&mut std::io::stdin().lock(), &mut to_gateway);
        let _ = to_gateway.shutdown(Shutdown::Write);
    });
    let mut from_gateway = socket;
    tokio::task::spawn_blocking(move || copy(&mut from_gateway, &mut std::io::stdout().lock()))
        .await
        .map_err(|e| Error::internal("the relay failed").with_source(e))?
        .map_err(failed)
}

/// Copies piece by piece, each written out as it comes; the buffer may hold a credential and is wiped.
fn copy(from: &mut dyn std::io::Read, to: &mut dyn std::io::Write) -> std::io::Result<()> {
    let mut buffer = zeroize::Zeroizing::new(vec![0u8; 16 << 10]);
    loop {
        let read = match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(read) => read,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(e),
        };
        to.write_all(buffer.get(..read).unwrap_or_default())?;
        to.flush()?;
    }
}
