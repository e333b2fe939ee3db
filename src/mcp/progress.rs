//! Progress notifications while a call waits.

use std::time::Duration;

use rmcp::model::{ProgressNotificationParam, ProgressToken};
use rmcp::{RoleServer, service::Peer};
use tokio::time::Instant;

use super::server::Call;
use crate::display;
use crate::error::Result;
use crate::job::JobStatus;
use crate::protocol::progress::{Phase, Progress};

/// Silence after which a notification says that the job still runs: clients give up on calls that show no life.
const HEARTBEAT: Duration = Duration::from_secs(10);

/// Awaits `waiting`, and says every [`HEARTBEAT`] that it still does. A client that cancels the call or goes away ends the wait; what `now` gives is the answer then.
pub async fn while_waiting<N: Future<Output = Result<JobStatus>>>(
    call: &Call<'_>,
    waiting: impl Future<Output = Result<JobStatus>>,
    now: impl FnOnce() -> N,
) -> Result<JobStatus> {
    let mut reporter = Reporter::new(call);
    let mut beat = tokio::time::interval(HEARTBEAT);
    beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    tokio::pin!(waiting);
    loop {
        tokio::select! {
            // The end goes before a beat, so that no notification follows it.
            biased;
            status = &mut waiting => return status,
            () = call.context.ct.cancelled() => break,
            () = call.closed.cancelled() => break,
            _ = beat.tick(), if reporter.listens() => reporter.report(Some("waiting for the job to change".to_owned())).await,
        }
    }
    now().await
}

/// Sends progress where the caller asked for it.
pub struct Reporter {
    to: Option<(Peer<RoleServer>, ProgressToken)>,
    sent: u32,
    last: Instant,
    message: String,
}

impl Reporter {
    /// Of a call; silent where it carries no progress token.
    pub fn new(call: &Call<'_>) -> Self {
        let to = call.context.meta.get_progress_token().map(|token| (call.context.peer.clone(), token));
        Self { to, sent: 0, last: Instant::now(), message: "preparing".to_owned() }
    }

    /// Whether anybody wants to know.
    pub fn listens(&self) -> bool {
        self.to.is_some()
    }

    /// Tells what is new, or that nothing is where that was not said for [`HEARTBEAT`].
    pub async fn report(&mut self, message: Option<String>) {
        let Some((peer, token)) = &self.to else { return };
        let fresh = message.is_some_and(|message| {
            let new = message != self.message;
            self.message = message;
            new
        });
        if !fresh && self.sent > 0 && self.last.elapsed() < HEARTBEAT {
            return;
        }
        self.sent += 1;
        self.last = Instant::now();
        let note = ProgressNotificationParam::new(token.clone(), f64::from(self.sent)).with_message(self.message.clone());
        // A client that is gone must not fail the job.
        let _ = peer.notify_progress(note).await;
    }
}

/// One progress record in words.
pub fn sentence(progress: &Progress) -> String {
    let activity = progress.message.as_deref().map(|text| display::clip(text.as_bytes(), 240)).filter(|text| !text.is_empty());
    match progress.phase {
        Phase::Unpacking => "unpacking the workspace".to_owned(),
        Phase::Queued => match progress.position {
            Some(position) => format!("queued (position {position})"),
            None => "queued".to_owned(),
        },
        Phase::Running => match activity {
            Some(activity) => format!("running; the agent's words: {activity}"),
            None => "running".to_owned(),
        },
        Phase::Sealing => "sealing the result".to_owned(),
        Phase::Sealed => "collecting the result".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_says_what_happens_and_hides_nothing() {
        let record = |phase, message: Option<&str>, position| Progress {
            ms: 1,
            phase,
            message: message.map(ToOwned::to_owned),
            events: 0,
            answers: 0,
            position,
            reason: None,
        };
        assert_eq!(sentence(&record(Phase::Queued, None, Some(2))), "queued (position 2)");
        assert_eq!(sentence(&record(Phase::Running, Some("$ cargo test"), None)), "running; the agent's words: $ cargo test");
        assert_eq!(sentence(&record(Phase::Running, Some("a\x1b]0;x\u{202e}"), None)), "running; the agent's words: a\\u{1b}]0;x\\u{202e}");
        assert_eq!(sentence(&record(Phase::Sealing, Some("ignored"), None)), "sealing the result");
    }
}
