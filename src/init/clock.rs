//! The clock of deadlines: real time since the machine's start (`CLOCK_BOOTTIME`).
//!
//! It goes on while the machine is suspended, as does the time of whoever waits for a job, and as the pass does; and no step of the wall clock moves
//! it. Timers of the runtime stand still in a suspend, so a wait is cut into pieces: after a resume it is at most one piece late.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// How late an end may come after a resume.
const PIECE: Duration = Duration::from_secs(5);

/// Real time since the machine's start, time in suspend included.
pub fn now() -> Duration {
    let time = clock_gettime(ClockId::Boottime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Waits until [`now`] is there.
pub async fn until(moment: Duration) {
    until_by(moment, PIECE, now).await;
}

async fn until_by(moment: Duration, piece: Duration, now: impl Fn() -> Duration) {
    loop {
        let left = moment.saturating_sub(now());
        if left.is_zero() {
            return;
        }
        tokio::time::sleep(left.min(piece)).await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test]
    async fn a_wait_ends_at_its_moment_and_soon_after_a_leap() {
        let begun = now();
        until(begun + Duration::from_millis(30)).await;
        assert!(now() >= begun + Duration::from_millis(30));
        // A machine that slept for two hours after the second look.
        let looks = AtomicU32::new(0);
        let clock = || Duration::from_secs(if looks.fetch_add(1, Ordering::Relaxed) < 2 { 10 } else { 7_210 });
        until_by(Duration::from_secs(3_600), Duration::from_millis(5), clock).await;
        assert_eq!(looks.load(Ordering::Relaxed), 3);
    }
}
