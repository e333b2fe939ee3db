//! The slot: one connection to the gateway that is held for as long as the job runs. The kernel gives the slot back when the cell dies.

use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::ending::Ending;
use crate::error::Code;
use crate::protocol::connection::{Channel, Preamble, SlotMessage};
use crate::protocol::result::{ProviderError, Reason};

/// What the holder tells.
#[derive(Debug, PartialEq, Eq)]
pub enum SlotEvent {
    /// Place in the queue.
    Queued(u64),
    /// Codex may run.
    Granted,
    /// Successful model answers so far.
    Answered(u64),
    /// A model request failed.
    Failed(ProviderError),
    /// The job must end.
    End(Ending),
}

/// How long what does not work is tried again.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// A refused pass: its admission may be under way.
    pub refused: Duration,
    /// A gateway that was never reached.
    pub first: Duration,
    /// A gateway that was reached before: it may be restarting.
    pub again: Duration,
    /// A connection on which nothing comes: the gateway says every three seconds that it lives.
    pub silence: Duration,
}

impl Patience {
    /// With so much patience for a gateway that is gone or hangs.
    pub fn with(again: Duration) -> Self {
        Self { again, silence: (again / 3).max(Duration::from_secs(9)), ..Self::default() }
    }
}

impl Default for Patience {
    fn default() -> Self {
        Self { refused: Duration::from_secs(10), first: Duration::from_secs(10), again: Duration::from_secs(60), silence: Duration::from_secs(20) }
    }
}

const PAUSE: Duration = Duration::from_millis(250);

/// A connection to the gateway with its preamble written.
pub async fn connect(socket: &Path, preamble: &Preamble) -> std::io::Result<UnixStream> {
    let mut stream = tokio::time::timeout(Duration::from_secs(5), UnixStream::connect(socket)).await??;
    let mut line = serde_json::to_vec(preamble)?;
    line.push(b'\n');
    stream.write_all(&line).await?;
    Ok(stream)
}

enum Closed {
    Refused,
    Broken,
    /// Nobody listens any more, or the job must end.
    Done,
}

/// Takes and holds the slot, over restarts of the gateway, until nobody listens to `events`.
pub async fn hold(socket: &Path, mut preamble: Preamble, patience: Patience, events: mpsc::Sender<SlotEvent>) {
    preamble.channel = Channel::Slot;
    let mut reached = false;
    let (mut refused_since, mut broken_since) = (None, None);
    loop {
        let mut spoke = false;
        let closed = session(socket, &mut preamble, &events, patience.silence, &mut spoke).await;
        if spoke {
            reached = true;
            (refused_since, broken_since) = (None, None);
        }
        let now = Instant::now();
        let end = match closed {
            Closed::Done => return,
            Closed::Refused => {
                let since = *refused_since.get_or_insert(now);
                (now.duration_since(since) >= patience.refused)
                    .then(|| Ending::new(Reason::Failed, "The gateway does not admit this job.").with_code(Code::GatewayUnavailable))
            }
            Closed::Broken => {
                let since = *broken_since.get_or_insert(now);
                if reached && now.duration_since(since) >= patience.again {
                    Some(Ending::new(Reason::ProviderUnreachable, "The gateway went away and did not come back."))
                } else if !reached && now.duration_since(since) >= patience.first {
                    Some(Ending::new(Reason::Failed, "The gateway cannot be reached.").with_code(Code::GatewayUnavailable))
                } else {
                    None
                }
            }
        };
        if let Some(end) = end {
            // The receiver is gone only when the job ends anyway.
            let _ = events.send(SlotEvent::End(end)).await;
            return;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn session(socket: &Path, preamble: &mut Preamble, events: &mpsc::Sender<SlotEvent>, silence: Duration, spoke: &mut bool) -> Closed {
    let Ok(stream) = connect(socket, preamble).await else { return Closed::Broken };
    let mut reader = BufReader::with_capacity(1024, stream);
    let mut line = Vec::new();
    loop {
        line.clear();
        let mut bounded = (&mut reader).take(SlotMessage::MAX_LINE as u64);
        let read = tokio::time::timeout(silence, bounded.read_until(b'\n', &mut line)).await;
        if !matches!(read, Ok(Ok(1..))) || line.last() != Some(&b'\n') {
            return Closed::Broken;
        }
        let event = match serde_json::from_slice(&line) {
            Ok(SlotMessage::Queued { position }) => SlotEvent::Queued(position),
            Ok(SlotMessage::Granted) => {
                preamble.resume = true;
                SlotEvent::Granted
            }
            Ok(SlotMessage::Answered { answers, usage: _ }) => SlotEvent::Answered(answers),
            Ok(SlotMessage::Failed { error }) => SlotEvent::Failed(error),
            Ok(SlotMessage::Alive) => {
                *spoke = true;
                continue;
            }
            Ok(SlotMessage::TokenBudget) => SlotEvent::End(Ending::new(Reason::TokenBudget, "The job used up its token budget.")),
            Ok(SlotMessage::Stopped { code, message: _ }) => {
                SlotEvent::End(Ending::new(Reason::Failed, code.message()).with_code(Code::GatewayLimit))
            }
            Ok(SlotMessage::Refused { message: _ }) => return Closed::Refused,
            Err(_) => return Closed::Broken,
        };
        *spoke = true;
        let ends = matches!(event, SlotEvent::End(_));
        if events.send(event).await.is_err() || ends {
            return Closed::Done;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::result::Usage;

    fn preamble() -> Preamble {
        Preamble { version: 1, job_id: "ab".repeat(16), pass: "cd".repeat(32), channel: Channel::Model, resume: false }
    }

    async fn say(stream: &mut UnixStream, message: &SlotMessage) {
        let mut line = serde_json::to_vec(message).unwrap();
        line.push(b'\n');
        stream.write_all(&line).await.unwrap();
    }

    async fn hear(stream: &mut UnixStream) -> Preamble {
        let mut line = String::new();
        BufReader::with_capacity(1, stream).read_line(&mut line).await.unwrap();
        serde_json::from_str(&line).unwrap()
    }

    #[tokio::test]
    async fn a_slot_survives_a_restart_of_the_gateway() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("s");
        let listener = tokio::net::UnixListener::bind(&socket).unwrap();
        let (sender, mut events) = mpsc::channel(8);
        let holder = hold(&socket, preamble(), Patience::default(), sender);
        let gateway = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let hello = hear(&mut stream).await;
            assert!(hello.channel == Channel::Slot && !hello.resume);
            say(&mut stream, &SlotMessage::Refused { message: "not yet".into() }).await;
            let (mut stream, _) = listener.accept().await.unwrap();
            assert!(!hear(&mut stream).await.resume);
            say(&mut stream, &SlotMessage::Queued { position: 2 }).await;
            say(&mut stream, &SlotMessage::Granted).await;
            drop(stream);
            let (mut stream, _) = listener.accept().await.unwrap();
            assert!(hear(&mut stream).await.resume);
            say(&mut stream, &SlotMessage::Answered { answers: 3, usage: Usage::default() }).await;
            say(&mut stream, &SlotMessage::TokenBudget).await;
        };
        tokio::join!(holder, gateway);
        let mut seen = Vec::new();
        while let Some(event) = events.recv().await {
            seen.push(event);
        }
        assert_eq!(seen[..3], [SlotEvent::Queued(2), SlotEvent::Granted, SlotEvent::Answered(3)]);
        assert!(matches!(&seen[3..], [SlotEvent::End(end)] if end.reason == Reason::TokenBudget));
    }

    #[tokio::test]
    async fn a_gateway_that_hangs_is_one_that_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("s");
        let listener = tokio::net::UnixListener::bind(&socket).unwrap();
        let (sender, mut events) = mpsc::channel(8);
        let patience = Patience { again: Duration::from_millis(400), silence: Duration::from_millis(200), ..Patience::default() };
        let holder = hold(&socket, preamble(), patience, sender);
        let gateway = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            hear(&mut stream).await;
            say(&mut stream, &SlotMessage::Granted).await;
            // Longer than it may be silent, but it lives.
            for _ in 0..4 {
                tokio::time::sleep(Duration::from_millis(100)).await;
                say(&mut stream, &SlotMessage::Alive).await;
            }
            // From here on it takes connections, as the kernel does for it, and says nothing.
            let mut held = vec![stream];
            while let Ok(Ok((stream, _))) = tokio::time::timeout(Duration::from_secs(2), listener.accept()).await {
                held.push(stream);
            }
            held.len()
        };
        let ((), connections) = tokio::join!(holder, gateway);
        assert!(connections > 1, "it was tried again");
        assert_eq!(events.recv().await, Some(SlotEvent::Granted));
        let Some(SlotEvent::End(end)) = events.recv().await else { panic!("no end") };
        assert_eq!(end.reason, Reason::ProviderUnreachable);
    }

    #[tokio::test]
    async fn patience_ends() {
        let dir = tempfile::tempdir().unwrap();
        let (sender, mut events) = mpsc::channel(8);
        let patience = Patience { first: Duration::from_millis(300), ..Patience::default() };
        hold(&dir.path().join("nobody"), preamble(), patience, sender).await;
        let Some(SlotEvent::End(end)) = events.recv().await else { panic!("no end") };
        assert_eq!((end.reason, end.code), (Reason::Failed, Some(Code::GatewayUnavailable)));
    }
}
