//! Disk and memory of the cell, looked at every two seconds.

use std::time::Duration;

use super::cell::Cell;
use super::ending::Ending;
use super::part;
use crate::protocol::paths;
use crate::protocol::result::Reason;

const INTERVAL: Duration = Duration::from_secs(2);
/// Free space below which a growing job is ended: what is left is needed to seal.
const LOW_SPACE: u64 = 192 << 20;
/// A job that grew by less is not to blame for a full disk.
const BLAMELESS: u64 = 64 << 20;
/// Rounds between two measurements when space is low.
const LOW_ROUNDS: u32 = 5;

/// Times that the kernel killed something in this cell for memory; `None` where no cgroup tells.
pub fn out_of_memory_kills() -> Option<u64> {
    let files = ["/sys/fs/cgroup/memory.events", "/sys/fs/cgroup/memory/memory.oom_control"];
    files.iter().find_map(|file| kills(&std::fs::read_to_string(file).ok()?))
}

fn kills(text: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
}

/// Used and free bytes of the workspace's file system.
fn space() -> std::io::Result<(u64, u64)> {
    let stat = rustix::fs::statvfs(paths::WORKSPACE)?;
    let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
    Ok((bytes(stat.f_blocks.saturating_sub(stat.f_bfree)), bytes(stat.f_bavail)))
}

/// Decides from the cheap look whether the expensive one is needed. The file system is shared with others, so only a walk proves anything; but a
/// job cannot have grown by more than the file system did.
#[derive(Debug)]
struct Gate {
    used_at: u64,
    allowance: u64,
    quiet: u32,
}

impl Gate {
    fn needs_walk(&mut self, used: u64, free: u64) -> bool {
        self.quiet = self.quiet.saturating_sub(1);
        let grown = used.saturating_sub(self.used_at) > self.allowance;
        let low = free < LOW_SPACE && self.quiet == 0;
        if low {
            self.quiet = LOW_ROUNDS;
        }
        grown || low
    }

    fn walked(&mut self, used: u64, left: u64) {
        self.used_at = used;
        // Not so little that every round walks.
        self.allowance = left.max(16 << 20);
    }
}

/// Watches until dropped; ends the job through [`Cell::stop`].
pub async fn watch(cell: &Cell) {
    let limit = cell.request.disk_bytes;
    let Ok((used, _)) = space() else { return };
    let mut gate = Gate { used_at: used, allowance: limit, quiet: 0 };
    loop {
        tokio::time::sleep(INTERVAL).await;
        cell.note_memory();
        let Ok((used, free)) = space() else { continue };
        if crate::weaken::off("init.disk_watch") {
            continue;
        }
        if !gate.needs_walk(used, free) {
            continue;
        }
        let roots = part::UsageOrders { roots: vec![paths::WORKSPACE.into(), paths::HOME.into()] };
        let Ok(bytes) = part::call::<_, u64>(&cell.reaper, "usage", &roots).await else { continue };
        let grown = bytes.saturating_sub(cell.delivered_disk_bytes());
        if grown > limit {
            cell.stop.request(Ending::new(Reason::Disk, "The job wrote more than its disk limit."));
        } else if free < LOW_SPACE && grown > BLAMELESS {
            cell.stop.request(Ending::new(Reason::Disk, "The engine's disk is full."));
        }
        gate.walked(used, limit.saturating_sub(grown));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_generations_of_cgroups_are_read() {
        assert_eq!(kills("low 0\nhigh 0\nmax 12\noom 1\noom_kill 3\noom_group_kill 0\n"), Some(3));
        assert_eq!(kills("oom_kill_disable 0\nunder_oom 0\noom_kill 2\n"), Some(2));
        assert_eq!(kills("something else"), None);
    }

    #[test]
    fn a_walk_is_made_only_when_it_could_find_something() {
        const GIB: u64 = 1 << 30;
        let mut gate = Gate { used_at: 100 * GIB, allowance: GIB, quiet: 0 };
        assert!(!gate.needs_walk(101 * GIB, 50 * GIB));
        assert!(!gate.needs_walk(90 * GIB, 50 * GIB));
        assert!(gate.needs_walk(102 * GIB, 50 * GIB));
        gate.walked(102 * GIB, GIB / 2);
        assert!(!gate.needs_walk(102 * GIB + GIB / 2, 50 * GIB));
        assert!(gate.needs_walk(103 * GIB, 50 * GIB));
        gate.walked(103 * GIB, 0);
        assert!(!gate.needs_walk(103 * GIB + 1000, 50 * GIB));
        // Low space is looked into at once, then every few rounds.
        let low: Vec<bool> = (0..7).map(|_| gate.needs_walk(103 * GIB, 1000)).collect();
        assert_eq!(low, [true, false, false, false, false, true, false]);
    }
}
