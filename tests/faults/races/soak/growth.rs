//! What each part holds at the start and at the end of a soak, and how much more it may be.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::parts::Size;
use crate::raw;

/// By how much memory (KiB) and open files may grow beyond twice, and beyond what they were: for what is made once when it is first needed.
const OWN: Size = Size { rss: 32 << 10, files: 32 };
/// The same for the engine and its containerd, which others use meanwhile.
const ENGINES: Size = Size { rss: 128 << 10, files: 96 };
/// Open files of the engine and of its containerd for each container that runs: its output, its events, its shim.
const FILES_OF_A_CONTAINER: u64 = 24;
/// How long connections that were just closed, and memory that goes back, are waited for.
const SETTLES_WITHIN: Duration = Duration::from_secs(30);

/// One process that lives through a part of the soak.
pub struct Part {
    pub name: String,
    pub pid: u32,
    start: Size,
    /// Containers that ran then; for the engine's parts alone.
    running: Option<u64>,
}

/// A part's line of the table.
pub struct Line {
    pub text: String,
    pub grew: bool,
}

fn running() -> u64 {
    raw::get("/containers/json").1.as_array().map_or(0, |rows| rows.len() as u64)
}

impl Part {
    /// A part of the product.
    pub fn own(name: impl Into<String>, pid: u32) -> Option<Self> {
        Some(Self { name: name.into(), pid, start: Size::of(pid)?, running: None })
    }

    /// A part of the engine.
    pub fn engines(name: &str, pid: u32) -> Option<Self> {
        Some(Self { name: name.into(), pid, start: Size::of(pid)?, running: Some(running()) })
    }

    fn most(&self) -> Size {
        let more = if self.running.is_some() { ENGINES } else { OWN };
        let others = self.running.map_or(0, |before| running().saturating_sub(before) * FILES_OF_A_CONTAINER);
        Size { rss: self.start.rss * 2 + more.rss, files: self.start.files + more.files + others }
    }

    /// Looks at it again, with patience for what settles; a part that is gone has failed.
    pub fn end(&self) -> Line {
        let begun = Instant::now();
        loop {
            let (end, most) = (Size::of(self.pid), self.most());
            let grew = end.is_none_or(|end| end.rss > most.rss || end.files > most.files);
            if grew && end.is_some() && begun.elapsed() < SETTLES_WITHIN {
                std::thread::sleep(Duration::from_millis(500));
                continue;
            }
            let (rss, files) = end.map_or(("gone".to_owned(), "gone".to_owned()), |end| (end.rss.to_string(), end.files.to_string()));
            let Self { name, start, .. } = self;
            let text = format!("{name:<32} {:>9} {rss:>9} {:>9} {:>7} {files:>7} {:>7}", start.rss, most.rss, start.files, most.files);
            return Line { text: if grew { text + "  GREW" } else { text }, grew };
        }
    }

    pub fn heading() -> String {
        format!("{:<32} {:>9} {:>9} {:>9} {:>7} {:>7} {:>7}", "part", "KiB", "at end", "at most", "files", "at end", "at most")
    }
}

/// The gateway, of which faults make a new process now and then: measured since the last one.
#[derive(Default)]
pub struct Gateway {
    since: Mutex<Option<(Part, usize)>>,
}

impl Gateway {
    /// It runs, for the first time or again, and has served a job; `done` have ended so far.
    pub fn begin(&self, pid: i32, done: usize) {
        let part = u32::try_from(pid).ok().filter(|pid| *pid > 0).and_then(|pid| Part::own("gateway", pid));
        let mut since = self.since.lock().expect("no poison");
        // The same process as before is measured from where it began.
        if since.as_ref().is_none_or(|(before, _)| part.as_ref().is_some_and(|part| part.pid != before.pid)) {
            *since = part.map(|part| (part, done));
        }
    }

    /// The part, and how many jobs had ended when it began.
    pub fn part(self) -> Option<(Part, usize)> {
        self.since.into_inner().expect("no poison")
    }
}
