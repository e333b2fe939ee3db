//! The Model Context Protocol server, over standard input and output and over HTTP; the only module that names rmcp.
//!
//! The tool set, its parameters, result fields and error envelope follow the contract that assistants already know (see
//! `docs/MCP.md`); what Anchorhold adds stands beside it. No connection to an engine is made before a call needs one, so that a
//! client sees the tools at once. Jobs outlive the client: nothing here holds one.

mod arguments;
mod call;
mod capabilities;
mod contracts;
mod counters;
mod envelope;
mod findings;
mod http;
mod jobs;
mod models;
mod previews;
mod progress;
mod reach;
mod render;
mod resources;
mod schema;
mod server;
mod start;
mod status;
mod subscriptions;
mod tasks;
#[cfg(test)]
pub(crate) mod tests;
mod tools;
mod transfer;
mod workspace;

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use rmcp::ServiceExt as _;
use rmcp::service::ServerInitializeError;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::sync::CancellationToken;

pub use self::http::{Listening, serve_http};
use self::server::Server;
use crate::error::{Error, Result};
use crate::job::Jobs;

/// How long a server whose client is gone finishes what it had begun (a delivery, a call).
const WIND_UP: Duration = Duration::from_secs(30);

/// Serves on standard input and output until the client closes it, or SIGTERM or SIGINT comes. Jobs run on; a delivery that is under
/// way is finished first, for at most 30 s.
///
/// # Errors
///
/// [`crate::error::Code::Internal`] when the transport breaks in another way than by closing.
pub async fn serve_stdio(jobs: Jobs) -> Result<()> {
    jobs.bring_limits_soon();
    let (input, output) = rmcp::transport::io::stdio_pipes();
    let stop = CancellationToken::new();
    let serving = serve(jobs, input, output, stop.clone());
    tokio::pin!(serving);
    tokio::select! {
        end = &mut serving => return end,
        () = interrupted() => stop.cancel(),
    }
    serving.await
}

/// Serves one client on any transport until its input ends or `stop` is cancelled.
///
/// # Errors
///
/// [`crate::error::Code::Internal`] when the transport breaks in another way than by closing.
pub async fn serve<R, W>(jobs: Jobs, input: R, output: W, stop: CancellationToken) -> Result<()>
where
    R: AsyncRead + Send + Unpin + 'static,
    W: AsyncWrite + Send + Unpin + 'static,
{
    // rmcp tells its handlers that the client is gone only after it has waited for them; a waiting delegation has to know before.
    let closed = stop.child_token();
    let server = Server::new(jobs.clone(), closed.clone());
    let calls = server.calls();
    let input = Watched { inner: input, closed: closed.clone() };
    let end = match server.serve_with_ct((input, output), stop).await {
        Ok(running) => running.waiting().await.map(|_| ()).map_err(|e| Error::internal("the protocol task failed").with_source(e)),
        Err(ServerInitializeError::ConnectionClosed(_) | ServerInitializeError::Cancelled) => Ok(()),
        Err(e) => Err(Error::internal("the client's first message is not one of this protocol").with_source(e)),
    };
    closed.cancel();
    calls.close();
    let winding_up = async {
        calls.wait().await;
        jobs.shutdown().await;
    };
    if tokio::time::timeout(WIND_UP, winding_up).await.is_err() {
        tracing::warn!("gave up waiting for a delivery; its job will be reaped");
    }
    end
}

/// Resolves when the process is asked to end.
async fn interrupted() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut term), Ok(mut int)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) else {
        // Without handlers the signals' own action ends the process.
        return std::future::pending().await;
    };
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
}

/// A reader that cancels a token when its input ends.
struct Watched<R> {
    inner: R,
    closed: CancellationToken,
}

impl<R: AsyncRead + Unpin> AsyncRead for Watched<R> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let room = buf.remaining() > 0;
        let read = Pin::new(&mut this.inner).poll_read(cx, buf);
        let ended = match &read {
            Poll::Ready(Ok(())) => room && buf.filled().len() == before,
            Poll::Ready(Err(_)) => true,
            Poll::Pending => false,
        };
        if ended {
            this.closed.cancel();
        }
        read
    }
}
