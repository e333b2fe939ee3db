//! Progress records on PID 1's standard output: the only thing that reaches the container log, and bounded.

use std::io::{self, Write as _};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::protocol::progress::{Phase, Progress};
use crate::protocol::result::Reason;

/// Time between two activity records.
const INTERVAL: Duration = Duration::from_millis(500);
/// Bytes of activity records in all.
const MAX_BYTES: usize = 512 << 10;

/// Where the job stands and what was printed of it.
pub struct Reporter {
    phase: Phase,
    counts: (u64, u64),
    pending: Option<String>,
    last: Option<Instant>,
    printed: usize,
}

impl Default for Reporter {
    fn default() -> Self {
        Self { phase: Phase::Unpacking, counts: (0, 0), pending: None, last: None, printed: 0 }
    }
}

/// Unix milliseconds.
pub fn now_unix_ms() -> u64 {
    crate::fault::unix_ms()
}

impl Reporter {
    /// A new phase is told at once.
    pub fn phase(&mut self, phase: Phase, position: Option<u64>, reason: Option<Reason>) {
        self.phase = phase;
        let record = self.record(None, position, reason);
        // These few are worth waiting for, if the log is slow; but not for ever, because nothing else happens meanwhile.
        print(&record, Duration::from_secs(1));
    }

    /// Counts for the records to come.
    pub fn counts(&mut self, events: u64, answers: u64) {
        self.counts = (events, answers);
    }

    /// What Codex does now; told at most twice a second, and then the latest.
    pub fn activity(&mut self, message: String) {
        self.pending = Some(message);
        self.tick();
    }

    /// When [`Self::tick`] has something to tell.
    pub fn due(&self) -> Option<Instant> {
        self.pending.as_ref()?;
        Some(self.last.map_or_else(Instant::now, |last| last + INTERVAL))
    }

    /// Tells what is pending, if its time has come.
    pub fn tick(&mut self) {
        if self.due().is_none_or(|due| due > Instant::now()) {
            return;
        }
        let message = self.pending.take();
        self.last = Some(Instant::now());
        if self.printed < MAX_BYTES {
            let record = self.record(message, None, None);
            self.printed += record.len();
            print(&record, Duration::ZERO);
        }
    }

    fn record(&self, message: Option<String>, position: Option<u64>, reason: Option<Reason>) -> Vec<u8> {
        let (events, answers) = self.counts;
        let record = Progress { ms: now_unix_ms(), phase: self.phase, message, events, answers, position, reason };
        let mut line = serde_json::to_vec(&record).unwrap_or_default();
        line.push(b'\n');
        line
    }
}

/// Writes one line if the log takes it in time. A log that stands still must not hold up a deadline: a record is shorter than what a
/// pipe takes at once when it is writable at all.
fn print(line: &[u8], patience: Duration) {
    if line.len() > Progress::MAX_LINE {
        return;
    }
    let out = io::stdout();
    let timeout = Timespec { tv_sec: patience.as_secs().cast_signed(), tv_nsec: 0 };
    let ready = poll(&mut [PollFd::new(&out, PollFlags::OUT)], Some(&timeout));
    if matches!(ready, Ok(1..)) {
        let mut out = out.lock();
        let _ = out.write_all(line).and_then(|()| out.flush());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn activity_is_told_rarely_and_then_the_latest() {
        let mut reporter = Reporter::default();
        reporter.activity("one".to_owned());
        assert_eq!(reporter.pending, None);
        reporter.activity("two".to_owned());
        reporter.activity("three".to_owned());
        assert_eq!(reporter.pending.as_deref(), Some("three"));
        let due = reporter.due().unwrap();
        assert!(due > Instant::now() && due <= Instant::now() + INTERVAL);
        reporter.last = None;
        reporter.tick();
        assert_eq!(reporter.pending, None);
    }

    #[test]
    fn a_record_reads_back_and_fits_a_line() {
        let mut reporter = Reporter::default();
        reporter.counts(4, 2);
        let record = reporter.record(Some("\u{1b}".repeat(200)), Some(3), Some(Reason::Disk));
        let parsed = Progress::parse(record.trim_ascii_end()).unwrap();
        assert_eq!((parsed.events, parsed.answers, parsed.position, parsed.reason), (4, 2, Some(3), Some(Reason::Disk)));
    }
}
