//! Disk, names and memory of the cell.
//!
//! The look is cheap (`statvfs`) and the walk is not, so the look decides when to walk and how soon to look again. The file system is shared with
//! others, so only a walk proves anything; but a job cannot have added more than the file system took in. What others free meanwhile is not set off
//! against that, and whatever the look says, a walk comes every half minute in which anything was written.

use std::io::Read as _;
use std::path::Path;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use super::cell::Cell;
use super::ending::Ending;
use super::part;
use super::usage::Usage;
use crate::protocol::paths;
use crate::protocol::result::Reason;

/// Time between two looks while there is much room: twenty idle jobs must not be felt.
const CALM: Duration = Duration::from_secs(2);
/// The same while there is little.
const SLOW: Duration = Duration::from_millis(500);
/// The same while much is written.
const FAST: Duration = Duration::from_millis(100);
/// Walks come at least this often while something is written.
const WALK_EVERY: Duration = Duration::from_secs(30);
/// Free space below which a growing job is ended: what is left is needed to seal.
const LOW_SPACE: u64 = 192 << 20;
/// A job that grew by less is not to blame for a full disk.
const BLAMELESS: u64 = 64 << 20;
/// Free names below which a job that added many is ended.
const LOW_INODES: u64 = 20_000;
const BLAMELESS_INODES: u64 = 5_000;
/// Growth that is let pass between two walks, however near the limit is: else every round would walk.
const LEAST_BYTES: u64 = 8 << 20;
const LEAST_INODES: u64 = 500;
/// What a fast writer adds in a second. What is left of the room must outlast the pause before the next look.
const FAST_BYTES: u64 = 2 << 30;
const FAST_INODES: u64 = 100_000;

/// Times that the kernel killed something in this cell for memory; `None` where no cgroup tells.
pub fn out_of_memory_kills() -> Option<u64> {
    static FILE: OnceLock<&str> = OnceLock::new();
    let read = |file: &str| kills(std::str::from_utf8(read_once(file, &mut [0; 1024])?).ok()?);
    if let Some(file) = FILE.get() {
        return read(file);
    }
    let files = ["/sys/fs/cgroup/memory.events", "/sys/fs/cgroup/memory/memory.oom_control"];
    let (file, count) = files.into_iter().find_map(|file| Some((file, read(file)?)))?;
    // The same one from now on: this is asked all the time.
    let _ = FILE.set(file);
    Some(count)
}

/// Reads a small file of the kernel's with a single call, which gives all of it; `None`: it is not there, or does not fit.
pub(super) fn read_once(path: impl AsRef<Path>, buffer: &mut [u8]) -> Option<&[u8]> {
    let read = std::fs::File::open(path).ok()?.read(buffer).ok()?;
    if read < buffer.len() { buffer.get(..read) } else { None }
}

fn kills(text: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
}

/// One cheap look at the file system of the workspace; HOME lies on the same one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Look {
    bytes: u64,
    free_bytes: u64,
    inodes: u64,
    /// `None`: a file system that makes them as they are needed.
    free_inodes: Option<u64>,
}

fn look() -> std::io::Result<Look> {
    let stat = rustix::fs::statvfs(paths::WORKSPACE)?;
    let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
    Ok(Look {
        bytes: bytes(stat.f_blocks.saturating_sub(stat.f_bfree)),
        free_bytes: bytes(stat.f_bavail),
        inodes: stat.f_files.saturating_sub(stat.f_ffree),
        free_inodes: (stat.f_files > 0).then_some(stat.f_favail),
    })
}

/// What a job may add.
#[derive(Debug, Clone, Copy)]
struct Limits {
    bytes: u64,
    inodes: u64,
}

/// Decides from looks when to walk.
#[derive(Debug)]
struct Gate {
    last: Look,
    /// What the file system took in since the last walk.
    taken: (u64, u64),
    /// How much of that may be the job's before it could be over its limit.
    left: (u64, u64),
    walked: Instant,
}

impl Gate {
    fn new(first: Look, limits: Limits, now: Instant) -> Self {
        Self { last: first, taken: (0, 0), left: (limits.bytes, limits.inodes), walked: now }
    }

    /// Takes a look in: whether to walk, and how long to wait for the next look.
    fn judge(&mut self, look: Look, now: Instant) -> (bool, Duration) {
        let step = (look.bytes.saturating_sub(self.last.bytes), look.inodes.saturating_sub(self.last.inodes));
        self.last = look;
        self.taken = (self.taken.0.saturating_add(step.0), self.taken.1.saturating_add(step.1));
        let since = now.saturating_duration_since(self.walked);
        // A file system without a count of its names tells nothing of them but that something was written.
        let unseen = look.free_inodes.is_none() && self.taken.0 > 0 && since > WALK_EVERY / 10;
        let low = is_low(&look) && since > WALK_EVERY / 3;
        let over = self.taken.0 > self.left.0 || self.taken.1 > self.left.1;
        let due = since > WALK_EVERY && self.taken != (0, 0);
        // At this rate a quarter of what is left would be gone by the next look: look sooner.
        let fast = step.0 > self.left.0 / 4 || step.1 > self.left.1 / 4 || step.0 > 256 << 20 || step.1 > 20_000;
        (over || low || due || unseen, if fast { FAST } else { self.pause(&look) })
    }

    /// As long as a fast writer needs at least for what is left, of the job's limits and of the file system.
    fn pause(&self, look: &Look) -> Duration {
        let bytes = self.left.0.saturating_sub(self.taken.0).min(look.free_bytes.saturating_sub(LOW_SPACE));
        let inodes = self.left.1.saturating_sub(self.taken.1);
        let inodes = look.free_inodes.map_or(inodes, |free| inodes.min(free.saturating_sub(LOW_INODES)));
        let lasts = |left: u64, a_second: u64| Duration::from_millis(left.saturating_mul(1000) / a_second);
        lasts(bytes, FAST_BYTES).min(lasts(inodes, FAST_INODES)).clamp(SLOW, CALM)
    }

    fn walked(&mut self, left: (u64, u64), now: Instant) {
        self.taken = (0, 0);
        self.left = (left.0.max(LEAST_BYTES), left.1.max(LEAST_INODES));
        self.walked = now;
    }
}

fn is_low(look: &Look) -> bool {
    look.free_bytes < LOW_SPACE || look.free_inodes.is_some_and(|free| free < LOW_INODES)
}

/// Whether a job that holds this beyond what was delivered must end.
fn verdict(grown: (u64, u64), too_deep: bool, look: &Look, limits: Limits) -> Option<&'static str> {
    if grown.0 > limits.bytes {
        Some("The job wrote more than its disk limit.")
    } else if grown.1 > limits.inodes {
        Some("The job made more files than its limit.")
    } else if too_deep {
        Some("The job nested directories too deep to be measured.")
    } else if look.free_bytes < LOW_SPACE && grown.0 > BLAMELESS {
        Some("The engine's disk is full.")
    } else if look.free_inodes.is_some_and(|free| free < LOW_INODES) && grown.1 > BLAMELESS_INODES {
        Some("The engine's file system can take no more files.")
    } else {
        None
    }
}

/// Watches until dropped; ends the job through [`Cell::stop`].
pub async fn watch(cell: &Cell) {
    let limits = Limits { bytes: cell.request.disk_bytes, inodes: cell.request.inodes };
    let Ok(first) = look() else { return };
    let mut gate = Gate::new(first, limits, Instant::now());
    let mut pause = FAST;
    loop {
        tokio::time::sleep(pause).await;
        cell.note_memory();
        if crate::weaken::off("watch.disk") {
            continue;
        }
        let Ok(seen) = look() else { continue };
        let walk;
        (walk, pause) = gate.judge(seen, Instant::now());
        if !walk {
            continue;
        }
        let roots = part::UsageOrders { roots: vec![paths::WORKSPACE.into(), paths::HOME.into()] };
        let Ok(usage) = part::call::<_, Usage>(&cell.reaper, "usage", &roots).await else { continue };
        let (bytes, inodes) = cell.delivered();
        let grown = (usage.bytes.saturating_sub(bytes), usage.inodes.saturating_sub(inodes));
        if let Some(why) = verdict(grown, usage.too_deep, &seen, limits) {
            cell.stop.request(Ending::new(Reason::Disk, why));
        }
        gate.walked((limits.bytes.saturating_sub(grown.0), limits.inodes.saturating_sub(grown.1)), Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;
    const LIMITS: Limits = Limits { bytes: GIB, inodes: 10_000 };

    #[test]
    fn both_generations_of_cgroups_are_read() {
        assert_eq!(kills("low 0\nhigh 0\nmax 12\noom 1\noom_kill 3\noom_group_kill 0\n"), Some(3));
        assert_eq!(kills("oom_kill_disable 0\nunder_oom 0\noom_kill 2\n"), Some(2));
        assert_eq!(kills("something else"), None);
    }

    fn roomy(bytes: u64, inodes: u64) -> Look {
        Look { bytes, free_bytes: 50 * GIB, inodes, free_inodes: Some(1 << 30) }
    }

    #[test]
    fn a_walk_is_made_only_when_it_could_find_something() {
        let start = Instant::now();
        let mut gate = Gate::new(roomy(100 * GIB, 5_000), LIMITS, start);
        assert_eq!(gate.judge(roomy(100 * GIB, 5_000), start), (false, SLOW));
        assert_eq!(gate.judge(roomy(100 * GIB + GIB / 8, 5_000), start), (false, SLOW));
        assert_eq!(gate.judge(roomy(101 * GIB, 5_000), start), (false, FAST), "most of what is left in one step");
        assert!(gate.judge(roomy(101 * GIB + 1, 5_000), start).0);
        gate.walked((GIB / 2, 4_000), start);
        assert_eq!(gate.judge(roomy(101 * GIB + 1, 9_000), start), (false, FAST));
        assert!(gate.judge(roomy(101 * GIB + 1, 9_001), start).0);
        gate.walked((0, 0), start);
        assert!(!gate.judge(roomy(101 * GIB + 1000, 9_002), start).0, "not for nothing");
    }

    #[test]
    fn what_is_left_outlasts_the_pause_before_the_next_look() {
        let start = Instant::now();
        let roomy = |bytes| Look { free_inodes: None, ..roomy(bytes, 0) };
        let much = Limits { bytes: 8 * GIB, inodes: 1_000_000 };
        let mut gate = Gate::new(roomy(0), much, start);
        assert_eq!(gate.judge(roomy(0), start), (false, CALM));
        assert_eq!(gate.judge(roomy(GIB), start).1, FAST, "much at once");
        gate.walked((2 * GIB, 1_000_000), start);
        assert_eq!(gate.judge(roomy(GIB), start), (false, Duration::from_secs(1)));
        gate.walked((8 * GIB, 60_000), start);
        assert_eq!(gate.judge(roomy(GIB), start).1, Duration::from_millis(600), "names run out sooner");
        gate.walked((8 * GIB, 1_000_000), start);
        let full = Look { free_bytes: LOW_SPACE + GIB / 2, ..roomy(GIB) };
        assert_eq!(gate.judge(full, start).1, SLOW, "the disk is nearly full");
    }

    #[test]
    fn what_others_free_hides_nothing() {
        let start = Instant::now();
        let mut gate = Gate::new(roomy(100 * GIB, 0), LIMITS, start);
        let mut walks = 0;
        for round in 0..10 {
            // Half a limit is written, then as much is freed elsewhere.
            let bytes = 100 * GIB + if round % 2 == 0 { GIB / 2 } else { 0 };
            walks += u32::from(gate.judge(roomy(bytes, 0), start).0);
        }
        assert!(walks > 0);
        // Between two looks it could be hidden; not for long.
        let mut gate = Gate::new(roomy(100 * GIB, 0), LIMITS, start);
        assert!(!gate.judge(roomy(100 * GIB + 1, 0), start + WALK_EVERY / 2).0);
        assert!(gate.judge(roomy(100 * GIB + 1, 0), start + WALK_EVERY * 2).0);
        let mut idle = Gate::new(roomy(100 * GIB, 0), LIMITS, start);
        assert!(!idle.judge(roomy(100 * GIB, 0), start + WALK_EVERY * 2).0);
    }

    #[test]
    fn little_room_and_uncounted_names_are_looked_into() {
        let start = Instant::now();
        for low in [Look { free_bytes: 1000, ..roomy(0, 0) }, Look { free_inodes: Some(10), ..roomy(0, 0) }] {
            let mut gate = Gate::new(low, LIMITS, start);
            assert!(!gate.judge(low, start).0, "not in every round");
            assert!(gate.judge(low, start + WALK_EVERY / 2).0);
        }
        let uncounted = |bytes| Look { free_inodes: None, ..roomy(bytes, 0) };
        let mut gate = Gate::new(uncounted(0), LIMITS, start);
        assert!(!gate.judge(uncounted(0), start + WALK_EVERY / 5).0);
        assert!(gate.judge(uncounted(1), start + WALK_EVERY / 5).0);
    }

    #[test]
    fn only_who_is_over_or_to_blame_ends() {
        let look = roomy(0, 0);
        assert_eq!(verdict((GIB, 10_000), false, &look, LIMITS), None);
        assert!(verdict((GIB + 1, 0), false, &look, LIMITS).is_some());
        assert!(verdict((0, 10_001), false, &look, LIMITS).is_some());
        assert!(verdict((0, 0), true, &look, LIMITS).is_some());
        let full = Look { free_bytes: 1000, ..look };
        assert_eq!(verdict((BLAMELESS, 0), false, &full, LIMITS), None);
        assert!(verdict((BLAMELESS + 1, 0), false, &full, LIMITS).is_some());
        let crowded = Look { free_inodes: Some(10), ..look };
        assert_eq!(verdict((0, BLAMELESS_INODES), false, &crowded, LIMITS), None);
        assert!(verdict((0, BLAMELESS_INODES + 1), false, &crowded, LIMITS).is_some());
    }
}
