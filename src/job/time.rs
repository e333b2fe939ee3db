//! Time as the domain tells it: unix milliseconds inside, RFC 3339 outside, and by one clock: the engine's.
//!
//! Many machines may work on one engine, and the clock of one of them may be wrong by years. What is written on a job, and what decides over its end, is
//! told by the engine's host; a client's own clock decides nothing. Between two questions a clock that nobody can set measures what has passed.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::engine::Engine;

/// How long an answer of the engine is gone by. Its own clock may be set meanwhile.
const ASK_EVERY: Duration = Duration::from_secs(300);

/// The engine's clock, as far as this process knows it.
#[derive(Debug, Default)]
pub(super) struct EngineClock {
    read: Mutex<Option<(Instant, u64)>>,
}

impl EngineClock {
    /// Asks the engine where that is due; whether its time is known. A failure is not kept.
    pub(super) async fn sync(&self, engine: &Engine) -> bool {
        let known = *self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if known.is_some_and(|(at, _)| at.elapsed() < ASK_EVERY) {
            return true;
        }
        let asked = Instant::now();
        match engine.clock_ms().await {
            Ok(ms) => {
                // It was that time somewhere between the question and the answer.
                let at = asked + asked.elapsed() / 2;
                *self.read.lock().unwrap_or_else(PoisonError::into_inner) = Some((at, ms));
                true
            }
            Err(e) => {
                tracing::debug!(error = e.chain(), "the engine's clock could not be read");
                known.is_some()
            }
        }
    }

    /// Unix milliseconds now by the engine's clock; by this machine's where the engine has not said.
    pub(super) fn now_ms(&self) -> u64 {
        match *self.read.lock().unwrap_or_else(PoisonError::into_inner) {
            Some((at, ms)) => ms.saturating_add(u64::try_from(at.elapsed().as_millis()).unwrap_or(u64::MAX)),
            None => own_ms(),
        }
    }
}

/// Unix milliseconds by this machine's clock: for what comes from elsewhere than the engine.
pub(super) fn own_ms() -> u64 {
    crate::fault::unix_ms()
}

/// RFC 3339 in UTC; times beyond the calendar (a hostile clock) are shown as the epoch.
pub(super) fn rfc3339(ms: u64) -> String {
    i64::try_from(ms).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok()).unwrap_or(jiff::Timestamp::UNIX_EPOCH).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_utc_and_never_panic() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(1_500), "1970-01-01T00:00:01.5Z");
        assert_eq!(rfc3339(u64::MAX), "1970-01-01T00:00:00Z");
        assert!(own_ms() > 1_600_000_000_000);
    }

    #[test]
    fn the_engines_time_goes_before_the_own() {
        let clock = EngineClock::default();
        assert!(clock.now_ms() >= 1_600_000_000_000);
        *clock.read.lock().unwrap() = Some((Instant::now(), 5_000));
        assert!((5_000..1_000_000).contains(&clock.now_ms()));
    }
}
