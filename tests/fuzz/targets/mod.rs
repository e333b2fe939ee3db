//! The fuzz targets: one function from bytes to nothing each, which fails where an oracle does. "Does not panic" is the least of them.
//!
//! The smoke run (`tests/fuzz/main.rs`) and the long run (`fuzz/`) call the same functions. `docs/FUZZING.md` says how to use both.

pub mod answer;
mod changes;
mod diff;
pub mod display;
mod download;
mod events;
mod ignore;
mod ledger;
mod lines;
mod listing;
mod log;
mod manifest;
pub mod patch;
mod path;
pub mod policy;
mod program;
pub mod review;
pub mod settings;
pub mod trees;
mod unpatch;

/// One reader of hostile bytes, and what must hold whatever it is given.
pub struct Target {
    /// Also the name of its corpus.
    pub name: &'static str,
    /// Fails by panicking.
    pub run: fn(&[u8]),
    /// Inputs that reach deep, made by our own writers: they follow the format when it changes.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Mutated inputs in a smoke run.
    #[allow(dead_code, reason = "the long run counts by time")]
    pub smoke: u32,
}

/// All of them.
pub const TARGETS: &[Target] = &[
    Target { name: "answer", run: answer::run, seeds: answer::seeds, smoke: 9000 },
    Target { name: "changes", run: changes::run, seeds: changes::seeds, smoke: 12_000 },
    Target { name: "diff", run: diff::run, seeds: diff::seeds, smoke: 18_000 },
    Target { name: "display", run: display::run, seeds: display::seeds, smoke: 18_000 },
    Target { name: "download", run: download::run, seeds: download::seeds, smoke: 9000 },
    Target { name: "events", run: events::run, seeds: events::seeds, smoke: 12_000 },
    Target { name: "ignore", run: ignore::run, seeds: ignore::seeds, smoke: 500 },
    Target { name: "ledger", run: ledger::run, seeds: ledger::seeds, smoke: 6000 },
    Target { name: "lines", run: lines::run, seeds: lines::seeds, smoke: 18_000 },
    Target { name: "listing", run: listing::run, seeds: listing::seeds, smoke: 18_000 },
    Target { name: "log", run: log::run, seeds: log::seeds, smoke: 18_000 },
    Target { name: "manifest", run: manifest::run, seeds: manifest::seeds, smoke: 18_000 },
    Target { name: "patch", run: patch::run, seeds: patch::seeds, smoke: 25 },
    Target { name: "path", run: path::run, seeds: path::seeds, smoke: 30_000 },
    Target { name: "policy", run: policy::run, seeds: policy::seeds, smoke: 9000 },
    Target { name: "program", run: program::run, seeds: program::seeds, smoke: 15_000 },
    Target { name: "review", run: review::run, seeds: review::seeds, smoke: 9000 },
    Target { name: "settings", run: settings::run, seeds: settings::seeds, smoke: 9000 },
    Target { name: "trees", run: trees::run, seeds: trees::seeds, smoke: 18_000 },
];

/// Calls `f` and fails if at its peak it held more memory than so many bytes and so many more a byte of input.
pub fn within<T>(input: usize, fixed: usize, each: usize, f: impl FnOnce() -> T) -> T {
    let mut result = None;
    let held = allocation_counter::measure(|| result = Some(f()));
    let most = fixed + each * input;
    assert!(held.bytes_max <= most as u64, "{} bytes of memory for {input} bytes of input, more than {most}", held.bytes_max);
    result.expect("it was called")
}

/// Takes an input apart where a target needs more than bytes. At its end it gives zeros.
pub struct Source<'a>(pub &'a [u8]);

impl<'a> Source<'a> {
    /// The next byte.
    pub fn byte(&mut self) -> u8 {
        match self.0 {
            [first, rest @ ..] => {
                self.0 = rest;
                *first
            }
            [] => 0,
        }
    }

    /// Up to `n` bytes.
    pub fn bytes(&mut self, n: usize) -> &'a [u8] {
        let (bytes, rest) = self.0.split_at(n.min(self.0.len()));
        self.0 = rest;
        bytes
    }

    /// One of these.
    pub fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[usize::from(self.byte()) % of.len()]
    }

    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Pieces of a division of `bytes` that `how` chooses.
pub fn pieces(bytes: &[u8], how: u8) -> Vec<&[u8]> {
    let mut rest = bytes;
    let mut pieces = Vec::new();
    let mut state = how;
    while !rest.is_empty() {
        // A small generator with a full period, so that lengths vary.
        state = state.wrapping_mul(5).wrapping_add(how | 1);
        let (piece, after) = rest.split_at((usize::from(state) % 23 + 1).min(rest.len()));
        pieces.push(piece);
        rest = after;
    }
    pieces
}

/// What a path from a job may look like, written without the product's parser.
pub fn assert_clean_path(path: &[u8]) {
    let shown = path.escape_ascii().to_string();
    assert!(!path.is_empty() && path.len() < 4096 && !path.contains(&0), "{shown}");
    for component in path.split(|b| *b == b'/') {
        assert!(!component.is_empty() && component != b"." && component != b".." && component.len() <= 255, "{shown}");
        // Windows ends a name at a stream or a backslash and passes over dots and spaces at its end.
        let text = String::from_utf8_lossy(component).to_ascii_lowercase();
        let windows = text.split([':', '\\']).next().unwrap_or_default().trim_end_matches([' ', '.']);
        assert!(windows != ".git" && windows != "git~1", "{shown}");
        // macOS passes over these.
        let mac = text.replace(|c| matches!(u32::from(c), 0x200c..=0x200f | 0x202a..=0x202e | 0x206a..=0x206f | 0xfeff), "");
        assert!(mac != ".git", "{shown}");
    }
}
