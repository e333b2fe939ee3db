//! Who is away may be coming back: after a start of the gateway, and after it stood still.
//!
//! A gateway that was paused (`docker pause`, SIGSTOP) is for its jobs one that is gone: they close their connections and connect again. When it goes on it
//! finds both the ends and the new beginnings, in any order. So a connection that ends just then frees no slot and no place at once.
//!
//! Pure: the clock is the caller's, one that stands still only when all of the machine does.

use std::time::{Duration, Instant};

/// Without a beat for so long, the process stood still. Jobs give up on a gateway that is silent for nine seconds at least.
const STILL: Duration = Duration::from_secs(4);
/// How long it takes after that until every connection that ended meanwhile was seen to have ended.
const SETTLED: Duration = Duration::from_secs(2);

/// Whether those who are away are expected back.
#[derive(Debug)]
pub struct Absence {
    grace: Duration,
    last_beat: Instant,
    /// When the process was found to have stood still.
    woke: Option<Instant>,
    /// How long slots and places are held.
    until: Option<Instant>,
}

impl Absence {
    /// The gateway starts.
    pub fn new(now: Instant, grace: Duration) -> Self {
        Self { grace, last_beat: now, woke: None, until: now.checked_add(grace) }
    }

    /// Whether those who go away now are expected back: the process stood still until just now.
    pub fn look(&mut self, now: Instant) -> bool {
        if now.saturating_duration_since(self.last_beat) > STILL {
            self.last_beat = now;
            self.woke = Some(now);
            self.until = now.checked_add(self.grace);
        }
        self.woke.is_some_and(|woke| now.saturating_duration_since(woke) < SETTLED)
    }

    /// The process runs; true once when the time is over and nobody is expected any more.
    pub fn beat(&mut self, now: Instant) -> bool {
        self.look(now);
        self.last_beat = now;
        let over = self.until.is_some_and(|until| now >= until);
        if over {
            self.until = None;
        }
        over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_goes_away_after_a_standstill_is_expected_back_for_a_while() {
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        let mut absence = Absence::new(start, Duration::from_secs(10));
        for ms in (500..10_000).step_by(500) {
            assert!(!absence.beat(at(ms)));
            assert!(!absence.look(at(ms + 100)), "whoever goes away while the gateway runs is gone");
        }
        assert!(absence.beat(at(10_000)), "nobody who was there before the start is expected any more");
        assert!(!absence.beat(at(10_500)) && !absence.look(at(14_000)));
        // Whoever notices first, the beat or the end of a connection.
        assert!(absence.look(at(14_600)));
        assert!(!absence.beat(at(14_700)) && absence.look(at(15_000)));
        for ms in (15_000..24_600).step_by(500) {
            assert!(!absence.beat(at(ms)));
        }
        assert!(!absence.look(at(24_500)) && absence.beat(at(24_600)) && !absence.beat(at(25_000)));
        assert!(!absence.beat(at(29_100)) && absence.look(at(29_200)));
    }
}
