//! The loopback port that Codex speaks to: each connection becomes one to the gateway, with the preamble said by us, so that the agent never has the
//! pass. Bytes are relayed unread in both directions.

use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::slot::connect;
use crate::protocol::connection::Preamble;

/// Connections at once; more wait to be accepted.
const MAX_CONNECTIONS: usize = 64;
/// Towards the gateway requests are up to some hundred kB, from it events trickle.
const BUFFER: usize = 8 << 10;
/// Between two attempts to reach the gateway.
const PAUSE: Duration = Duration::from_millis(100);

/// What the relay knows.
pub struct Forwarder {
    /// The gateway's socket.
    pub socket: PathBuf,
    /// Said first.
    pub preamble: Preamble,
    /// The last connection could not be passed on.
    pub broken: Arc<AtomicBool>,
    /// How long a connection waits for a gateway that is not there: Codex would use up its retries on a restart.
    pub patience: Duration,
    /// Bytes that came from the gateway.
    pub answer_bytes: Arc<AtomicU64>,
}

impl Forwarder {
    /// Relays until dropped.
    pub async fn run(self, listener: TcpListener) {
        let shared = Arc::new(self);
        let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let mut connections = JoinSet::new();
        loop {
            while connections.try_join_next().is_some() {}
            let Ok(permit) = Arc::clone(&permits).acquire_owned().await else { return };
            match listener.accept().await {
                Ok((stream, _)) => {
                    let shared = Arc::clone(&shared);
                    connections.spawn(async move {
                        shared.relay(stream).await;
                        drop(permit);
                    });
                }
                // Out of descriptors or the like: let some connections end.
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    }

    async fn relay(&self, mut codex: TcpStream) {
        // Events are small and wanted at once.
        let _ = codex.set_nodelay(true);
        let until = Instant::now() + self.patience;
        loop {
            if let Ok(gateway) = connect(&self.socket, &self.preamble).await {
                self.broken.store(false, Ordering::Relaxed);
                let mut gateway = Counted { stream: gateway, read: &self.answer_bytes };
                // How either side ended is theirs to notice.
                let _ = tokio::io::copy_bidirectional_with_sizes(&mut codex, &mut gateway, BUFFER, BUFFER).await;
                return;
            }
            self.broken.store(true, Ordering::Relaxed);
            if Instant::now() >= until {
                return;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// A stream that counts what is read from it.
struct Counted<'a> {
    stream: UnixStream,
    read: &'a AtomicU64,
}

impl AsyncRead for Counted<'_> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buffer);
        self.read.fetch_add(buffer.filled().len().saturating_sub(before) as u64, Ordering::Relaxed);
        polled
    }
}

impl AsyncWrite for Counted<'_> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;
    use crate::protocol::connection::Channel;

    #[tokio::test]
    async fn bytes_pass_unread_and_each_half_closes_by_itself() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("s");
        let gateway = tokio::net::UnixListener::bind(&socket).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let preamble = Preamble { version: 1, job_id: "j".into(), pass: "p".into(), channel: Channel::Model, resume: false };
        let hello = serde_json::to_string(&preamble).unwrap() + "\n";
        let forwarder = Forwarder { socket, preamble, broken: Arc::default(), patience: Duration::from_millis(300), answer_bytes: Arc::default() };
        let (broken, answer_bytes) = (Arc::clone(&forwarder.broken), Arc::clone(&forwarder.answer_bytes));
        let mut tasks = JoinSet::new();
        tasks.spawn(forwarder.run(listener));

        let mut codex = TcpStream::connect(address).await.unwrap();
        let (mut served, _) = gateway.accept().await.unwrap();
        let body: Vec<u8> = (0..300_000u32).map(|i| i as u8).collect();
        let sent = async {
            codex.write_all(&body).await.unwrap();
            codex.shutdown().await.unwrap();
            let mut back = Vec::new();
            codex.read_to_end(&mut back).await.unwrap();
            back
        };
        let echoed = async {
            let mut got = Vec::new();
            served.read_to_end(&mut got).await.unwrap();
            assert_eq!(got, [hello.as_bytes(), &body].concat());
            served.write_all(b"answer after the request was closed").await.unwrap();
            drop(served);
        };
        let (back, ()) = tokio::join!(sent, echoed);
        assert_eq!(back, b"answer after the request was closed");
        assert_eq!(answer_bytes.load(Ordering::Relaxed), back.len() as u64, "what Codex sent is not counted");
        assert!(!broken.load(Ordering::Relaxed));

        drop(gateway);
        let mut refused = TcpStream::connect(address).await.unwrap();
        let mut nothing = Vec::new();
        let _ = refused.read_to_end(&mut nothing).await;
        assert!(nothing.is_empty() && broken.load(Ordering::Relaxed));
    }
}
