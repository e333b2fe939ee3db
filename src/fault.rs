//! Steps at which the test build may die: the fault suite (`tests/faults/`) stops any process of ours at a named step of a job's life.
//!
//! Only the build with the feature `weaken` holds any of this; in a product every function here is empty. The points are found by reading the
//! sources (`fault::point("<part>.<step>")`), and each must be used by a case.
//!
//! `ANCHORHOLD_FAULT` holds faults for this process, separated by commas: `name` dies there as by `kill -9`; `name=stop` stops as by SIGSTOP;
//! `name=wait:MS` waits so many milliseconds. `name#2` means the second time. `ANCHORHOLD_FAULT_JOB` and `ANCHORHOLD_FAULT_GATEWAY` hold the faults of the processes in
//! a job's and in a gateway's container, which happen once in the container's life, however often it is started again.
//! `ANCHORHOLD_CLOCK_MS`, `ANCHORHOLD_CLOCK_MS_JOB` and `ANCHORHOLD_CLOCK_MS_GATEWAY` move the clock of those processes by so many milliseconds.

#[cfg(feature = "weaken")]
pub use enabled::{clock_offset_ms, point};

/// A named step; nothing in a product build.
#[cfg(not(feature = "weaken"))]
#[inline]
pub const fn point(_name: &str) {}

/// How far this process's clock is off, in milliseconds; 0 in a product build.
#[cfg(not(feature = "weaken"))]
#[inline]
pub const fn clock_offset_ms() -> i64 {
    0
}

/// Unix milliseconds now. Every part reads the time here, so that a step of the clock can be tried.
pub fn unix_ms() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX));
    now.saturating_add_signed(clock_offset_ms())
}

#[cfg(feature = "weaken")]
mod enabled {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::Duration;

    struct Fault {
        name: String,
        deed: Deed,
        at: u32,
        seen: AtomicU32,
    }

    #[derive(Clone, Copy)]
    enum Deed {
        Die,
        Stop,
        Wait(u64),
    }

    fn faults() -> &'static [Fault] {
        static FAULTS: OnceLock<Vec<Fault>> = OnceLock::new();
        FAULTS.get_or_init(|| {
            let text = std::env::var("ANCHORHOLD_FAULT").unwrap_or_default();
            text.split(',').filter(|one| !one.trim().is_empty()).map(parse).collect()
        })
    }

    fn parse(one: &str) -> Fault {
        let (name, deed) = one.trim().split_once('=').unwrap_or((one.trim(), ""));
        let (name, at) = name.split_once('#').unwrap_or((name, "1"));
        let deed = match deed.split_once(':') {
            Some(("wait", ms)) => Deed::Wait(ms.parse().unwrap_or(0)),
            _ if deed == "stop" => Deed::Stop,
            _ => Deed::Die,
        };
        Fault { name: name.to_owned(), deed, at: at.parse().unwrap_or(1), seen: AtomicU32::new(0) }
    }

    /// A named step: what the environment asks for happens here.
    pub fn point(name: &str) {
        for fault in faults().iter().filter(|fault| fault.name == name) {
            if fault.seen.fetch_add(1, Ordering::SeqCst) + 1 == fault.at && first(name) {
                happen(fault.deed);
            }
        }
    }

    /// Whether it has not happened before: where the environment names a directory, that is remembered there over restarts.
    fn first(name: &str) -> bool {
        let Some(directory) = std::env::var_os("ANCHORHOLD_FAULT_ONCE") else { return true };
        let marker = std::path::Path::new(&directory).join(format!("fault-{name}"));
        match std::fs::OpenOptions::new().write(true).create_new(true).open(marker) {
            Ok(_) => true,
            Err(e) => e.kind() != std::io::ErrorKind::AlreadyExists,
        }
    }

    fn happen(deed: Deed) {
        let this = rustix::process::getpid();
        match deed {
            Deed::Wait(ms) => std::thread::sleep(Duration::from_millis(ms)),
            Deed::Stop => {
                let _ = rustix::process::kill_process(this, rustix::process::Signal::STOP);
                // It reaches this thread a moment later than the call returns.
                std::thread::sleep(Duration::from_millis(200));
            }
            // The first process of a container takes no SIGKILL from within.
            #[expect(clippy::exit, reason = "the death that was asked for")]
            Deed::Die if this.is_init() => std::process::exit(137),
            Deed::Die => {
                let _ = rustix::process::kill_process(this, rustix::process::Signal::KILL);
                std::thread::sleep(Duration::from_secs(60));
            }
        }
    }

    /// How far this process's clock is off.
    pub fn clock_offset_ms() -> i64 {
        static OFFSET: OnceLock<i64> = OnceLock::new();
        *OFFSET.get_or_init(|| std::env::var("ANCHORHOLD_CLOCK_MS").ok().and_then(|ms| ms.parse().ok()).unwrap_or(0))
    }
}
