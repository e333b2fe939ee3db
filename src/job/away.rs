//! An engine that goes away for a while and comes back: a restart, an upgrade, a cut connection.

use std::time::Duration;

use tokio::time::Instant;

use crate::engine::engine_is_away;
use crate::error::{Error, Result};

/// The first pause before another try, and the longest.
const PAUSE: Duration = Duration::from_millis(200);
const LONGEST: Duration = Duration::from_secs(3);

/// Tries again with growing pauses, for as long as `[engine] away_seconds` allows in one piece.
pub(super) struct Absence {
    limit: Duration,
    since: Option<Instant>,
    pause: Duration,
}

impl Absence {
    pub(super) fn new(away_seconds: u64) -> Self {
        Self { limit: Duration::from_secs(away_seconds), since: None, pause: PAUSE }
    }

    /// A call failed: pauses, or gives the error back where another try is of no use or the time is up.
    pub(super) async fn wait(&mut self, e: Error) -> Result<()> {
        if !engine_is_away(&e) {
            return Err(e);
        }
        let now = Instant::now();
        let since = *self.since.get_or_insert_with(|| {
            tracing::warn!(seconds = self.limit.as_secs(), "the engine does not answer; trying again for so long");
            now
        });
        if now.duration_since(since) >= self.limit {
            return Err(e);
        }
        tokio::time::sleep(self.pause).await;
        self.pause = (self.pause * 2).min(LONGEST);
        Ok(())
    }

    /// A call succeeded.
    pub(super) fn over(&mut self) {
        if self.since.take().is_some() {
            tracing::warn!("the engine answers again");
        }
        self.pause = PAUSE;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Code;

    #[tokio::test]
    async fn an_absence_is_waited_for_and_other_errors_are_not() {
        let away = || Error::new(Code::EngineUnavailable, "x");
        assert_eq!(Absence::new(0).wait(away()).await.unwrap_err().code, Code::EngineUnavailable);
        let mut absence = Absence::new(60);
        assert!(absence.wait(away()).await.is_ok() && absence.since.is_some() && absence.pause > PAUSE);
        absence.over();
        assert!(absence.since.is_none() && absence.pause == PAUSE, "a second absence has a time of its own");
        assert_eq!(absence.wait(Error::new(Code::JobNotFound, "x")).await.unwrap_err().code, Code::JobNotFound);
        for (status, passes) in [(500, true), (503, true), (404, false), (409, false)] {
            let e = Error::new(Code::EngineError, "x").with_detail("status", status);
            assert_eq!(absence.wait(e).await.is_ok(), passes, "{status}");
        }
    }
}
