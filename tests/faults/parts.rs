//! The product's parts as processes of this machine: their memory, open files and processor time.

use std::collections::BTreeMap;
use std::os::unix::net::UnixStream;

use crate::processes::{below, stat_field};
use crate::support::local_socket;

/// What a process holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Resident memory in KiB.
    pub rss: u64,
    /// Open file descriptors.
    pub files: u64,
}

impl Size {
    /// Of a process; `None`: it is gone.
    pub fn of(pid: u32) -> Option<Self> {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().split(' ').next()?.parse().ok())?;
        let files = std::fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count() as u64;
        Some(Self { rss, files })
    }
}

/// Processor time of a process and of the children that it has waited for, in seconds, as it stands in `/proc/PID/stat`; `None`: it is gone. The kernel may
/// count it in ticks: who runs for an instant at each tick pays for all of it.
pub fn processor_seconds(pid: u32) -> Option<f64> {
    // utime, stime, cutime, cstime of proc(5), of all its threads.
    ticks(pid, 14..=17)
}

fn ticks(pid: u32, fields: std::ops::RangeInclusive<usize>) -> Option<f64> {
    let ticks: u64 = fields.map(|field| stat_field::<u64>(pid, field)).sum::<Option<u64>>()?;
    Some(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

/// Processor time as the scheduler measures it, thread by thread, added up from look to look.
#[derive(Default)]
pub struct Meter {
    threads: BTreeMap<(u32, u32), f64>,
    children: BTreeMap<u32, f64>,
    total: f64,
}

impl Meter {
    /// Takes in what a process used since the last look; a thread that ended between two looks takes its last part along. `None`: it is gone.
    pub fn look(&mut self, pid: u32) -> Option<()> {
        for entry in std::fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten() {
            let Some(thread) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            let Ok(text) = std::fs::read_to_string(entry.path().join("schedstat")) else { continue };
            let seconds = text.split_ascii_whitespace().next()?.parse::<u64>().ok()? as f64 / 1e9;
            self.total += seconds - self.threads.insert((pid, thread), seconds).unwrap_or(0.0);
        }
        // Of children that were waited for the kernel keeps nothing finer.
        let children = ticks(pid, 16..=17)?;
        self.total += children - self.children.insert(pid, children).unwrap_or(0.0);
        Some(())
    }

    /// Seconds since the last call.
    pub fn take(&mut self) -> f64 {
        std::mem::take(&mut self.total)
    }
}

/// The name of a process's program, as the kernel cuts it.
pub fn program_of(pid: u32) -> String {
    std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim().to_owned()
}

/// The engine and its containerd, where they are processes of this machine that can be told.
pub fn engine() -> Vec<(&'static str, u32)> {
    let listener = local_socket().and_then(|socket| {
        let stream = UnixStream::connect(socket).ok()?;
        let peer = rustix::net::sockopt::socket_peercred(&stream).ok()?;
        u32::try_from(peer.pid.as_raw_nonzero().get()).ok()
    });
    let Some(engine) = listener.filter(|pid| program_of(*pid) == "dockerd") else { return Vec::new() };
    let own = below(engine).into_iter().map(|(pid, _)| pid).find(|pid| program_of(*pid) == "containerd");
    let containerd = own.or_else(|| {
        let all: Vec<u32> = std::fs::read_dir("/proc").ok()?.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
        // Of several nobody can say which is this engine's.
        let found: Vec<u32> = all.into_iter().filter(|pid| program_of(*pid) == "containerd").collect();
        <[u32; 1]>::try_from(found).ok().map(|[pid]| pid)
    });
    [("engine", Some(engine)), ("containerd", containerd)].into_iter().filter_map(|(name, pid)| Some((name, pid?))).collect()
}
