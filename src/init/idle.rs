//! Ends a job in which nothing happens any more.
//!
//! Signs of life are: an event of Codex, a byte of a model's answer, processor time of the agent's processes, something written in the workspace. The
//! first three are sampled: two counters of ours, and one small file in `/proc` a process. The last one is looked for only when the others have been
//! silent for so long that the job would end: one walk, which asks for the newest change. An agent can fake signs of life of its own and so be busy
//! doing nothing; it cannot touch those of another job, and its deadline comes all the same.
//!
//! What is counted is time in which this process itself ran: neither a pause of the container nor a suspend of the machine makes a job idle.

use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use rustix::process::Pid;
use tokio::time::Instant;

use super::cell::Cell;
use super::ending::Ending;
use super::part;
use super::usage::Usage;
use super::watch::read_once;
use crate::protocol::paths;
use crate::protocol::result::Reason;

/// Longest time between two samples.
const SLOWEST: Duration = Duration::from_secs(15);
/// Shortest one.
const FASTEST: Duration = Duration::from_millis(500);
/// Ticks of processor time in one sample from which on somebody works: the waiting Codex takes one now and then.
const LEAST_TICKS: u64 = 2;
/// Part of a processor from which on somebody works, as a divisor. A loop that only looks and sleeps stays below.
const LEAST_PART: u64 = 100;

/// What is seen in one look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Sample {
    /// Events of Codex other than complaints.
    events: u64,
    /// Bytes of model answers.
    answer_bytes: u64,
    /// Processor time of the agent's processes and of those that they waited for, in ticks.
    ticks: u64,
}

/// Adds up the time without a sign of life.
#[derive(Debug)]
struct Quiet {
    last: Sample,
    idle: Duration,
    pause: Duration,
    ticks_per_second: u64,
}

impl Quiet {
    /// Takes in a look that came `elapsed` after the one before; the time without a sign of life until now.
    fn judge(&mut self, now: Sample, elapsed: Duration) -> Duration {
        let last = std::mem::replace(&mut self.last, now);
        let part = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX).saturating_mul(self.ticks_per_second) / 1000 / LEAST_PART;
        let worked = match now.ticks.checked_sub(last.ticks) {
            Some(ticks) => ticks >= part.max(LEAST_TICKS),
            // A process that had worked has ended.
            None => true,
        };
        if worked || now.events != last.events || now.answer_bytes != last.answer_bytes {
            self.idle = Duration::ZERO;
        } else {
            // A longer gap is one in which this process was frozen too.
            self.idle = self.idle.saturating_add(elapsed.min(self.pause * 2));
        }
        self.idle
    }
}

/// How long ago something was last written, from the newest change (seconds since 1970) before and now; `None`: not since the look before.
fn written_ago(before: Option<u64>, newest: u64, now: u64) -> Option<Duration> {
    // A change in the future comes from a clock that was set back: as good as now.
    (before != Some(newest)).then(|| Duration::from_secs(now.saturating_sub(newest)))
}

/// The fields of `/proc/PID/stat` that matter: state, and processor time in ticks, that of children it waited for included.
fn parse_stat(stat: &[u8]) -> Option<(u8, u64)> {
    // The name before them stands in parentheses and may hold anything.
    let after = stat.iter().rposition(|b| *b == b')')? + 1;
    let mut fields = stat.get(after..)?.split(|b| *b == b' ').filter(|field| !field.is_empty());
    let state = *fields.next()?.first()?;
    let number = |field: &[u8]| std::str::from_utf8(field).ok()?.trim().parse::<u64>().ok();
    // utime, stime, cutime, cstime: fields 14 to 17 of proc(5); the state is the third.
    let mut sum = 0u64;
    for field in fields.skip(10).take(4) {
        sum = sum.saturating_add(number(field)?);
    }
    Some((state, sum))
}

/// Processor time of all processes of a user, in ticks.
fn ticks_of(uid: u32) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    let Ok(entries) = std::fs::read_dir("/proc") else { return 0 };
    let processes = entries.flatten().filter(|entry| entry.file_name().as_encoded_bytes().first().is_some_and(u8::is_ascii_digit));
    processes
        .filter(|entry| entry.metadata().is_ok_and(|meta| meta.uid() == uid))
        .filter_map(|entry| parse_stat(read_once(entry.path().join("stat"), &mut [0; 1024])?))
        .fold(0, |sum, (_, ticks)| sum.saturating_add(ticks))
}

/// Whether a process is stopped by a signal.
fn is_stopped(pid: Pid) -> bool {
    let stat = std::fs::read(Path::new("/proc").join(pid.as_raw_nonzero().to_string()).join("stat"));
    stat.ok().and_then(|stat| parse_stat(&stat)).is_some_and(|(state, _)| matches!(state, b'T' | b't'))
}

/// Watches until dropped; ends the job through [`Cell::stop`].
pub async fn watch(cell: &Cell, codex: Pid) {
    let limit = Duration::from_secs(cell.request.idle_seconds);
    if limit.is_zero() || crate::weaken::off("fault.idle") {
        return;
    }
    let pause = (limit / 8).clamp(FASTEST, SLOWEST);
    let look = || Sample {
        events: cell.events_of_progress(),
        answer_bytes: cell.answer_bytes.load(Ordering::Relaxed),
        ticks: ticks_of(cell.request.agent_uid),
    };
    let mut quiet = Quiet { last: look(), idle: Duration::ZERO, pause, ticks_per_second: rustix::param::clock_ticks_per_second().max(1) };
    let mut newest = None;
    let mut before = Instant::now();
    loop {
        tokio::time::sleep(pause).await;
        let now = Instant::now();
        let idle = quiet.judge(look(), now.duration_since(before));
        before = now;
        if idle < limit {
            continue;
        }
        let roots = part::UsageOrders { roots: vec![paths::WORKSPACE.into()] };
        // What cannot be looked into is no reason to end a job; its deadline is.
        let Ok(usage) = part::call::<_, Usage>(&cell.reaper, "usage", &roots).await else { continue };
        let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
        match written_ago(newest.replace(usage.newest), usage.newest, wall) {
            Some(ago) if ago < limit => quiet.idle = ago,
            _ => {
                let detail = if is_stopped(codex) {
                    "Codex was stopped (SIGSTOP) for as long as a job may be idle (`[limits] idle_seconds`)."
                } else {
                    "Nothing happened for as long as a job may be idle (`[limits] idle_seconds`)."
                };
                cell.stop.request(Ending::new(Reason::Idle, detail));
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_proc_is_read_whatever_the_name() {
        let line = b"17 (a) b (c\n) T 1 17 17 0 -1 4194560 1 2 3 4 50 6 700 8 20 0 1 0 5 6 7";
        assert_eq!(parse_stat(line), Some((b'T', 764)));
        for broken in [&b""[..], b"17 (name", b"17 (name) S 1 2", b"17 (name) S 1 17 17 0 -1 4194560 1 2 3 4 x 6 7 8"] {
            assert_eq!(parse_stat(broken).filter(|(_, ticks)| *ticks > 0), None);
        }
        let own = std::fs::read("/proc/self/stat").unwrap();
        assert!(parse_stat(&own).is_some());
    }

    #[test]
    fn signs_of_life_count_and_noise_does_not() {
        let second = Duration::from_secs(1);
        let mut quiet = Quiet { last: Sample::default(), idle: Duration::ZERO, pause: 5 * second, ticks_per_second: 100 };
        let at = |events, answer_bytes, ticks| Sample { events, answer_bytes, ticks };
        assert_eq!(quiet.judge(at(0, 0, 1), 5 * second), 5 * second, "one tick is noise");
        assert_eq!(quiet.judge(at(0, 0, 5), 5 * second), 10 * second, "less than a hundredth of a processor");
        assert_eq!(quiet.judge(at(0, 0, 10), 5 * second), Duration::ZERO);
        assert_eq!(quiet.judge(at(0, 0, 10), 3600 * second), 10 * second, "a gap is not idleness");
        assert_eq!(quiet.judge(at(1, 0, 10), 5 * second), Duration::ZERO);
        quiet.judge(at(1, 0, 10), 5 * second);
        assert_eq!(quiet.judge(at(1, 1, 10), 5 * second), Duration::ZERO);
        quiet.judge(at(1, 1, 10), 5 * second);
        assert_eq!(quiet.judge(at(1, 1, 3), 5 * second), Duration::ZERO, "who had worked has ended");
    }

    #[test]
    fn writing_is_told_by_the_newest_change() {
        assert_eq!(written_ago(None, 10, 12), Some(Duration::from_secs(2)));
        assert_eq!(written_ago(Some(9), 10, 12), Some(Duration::from_secs(2)));
        assert_eq!(written_ago(Some(10), 10, 12), None);
        assert_eq!(written_ago(Some(9), 10, 5), Some(Duration::ZERO), "the clock was set back");
    }
}
