//! What the cases of this area share: secrets beside the repository, traps that leave marks, the state of the host before and after, and a job that
//! says what arrived in its cell.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::{Duration, Instant};

use base64::Engine as _;
use serde_json::Value;

use crate::arena::Arena;
use crate::support::rehearsal::{Step, task};
use crate::support::{Output, Repo, docker};

/// A product that takes longer hangs; a weakened one is given less, because there the hanging is what is looked for.
pub fn patience(arena: &Arena) -> Duration {
    Duration::from_secs(if arena.is_weakened() { 30 } else { 120 })
}

/// Tells what lies in the cell: entries, links, digests, and every word that begins with `CANARY-`, also in the agent's own repository.
const TELL: &str = r#"export LC_ALL=C
(find . -path ./.git -prune -o -type f -print0 | sort -z | xargs -0 sha256sum -z; find . -path ./.git -prune -o -type l -printf 'link:%l  %p\0') | base64 -w0 > /tmp/told
(grep -rhoaE 'CANARY-[A-Z0-9]+' . ; git log --format=%B | grep -oE 'CANARY-[A-Z0-9]+') 2>/dev/null | sort -u > /tmp/canaries
cp /tmp/told told; cp /tmp/canaries told-canaries; echo end >> told-canaries"#;

/// A task that tells.
pub fn telling() -> String {
    task(&[Step::Shell(TELL), Step::Say("told")])
}

/// What a job told.
pub struct Told {
    /// The result's document.
    pub result: Value,
    /// Path bytes to digest or link text.
    pub entries: BTreeMap<Vec<u8>, String>,
    /// Words that begin with `CANARY-`.
    pub canaries: Vec<String>,
}

impl Told {
    /// Reads the patch of a completed job.
    pub fn of(arena: &Arena, result: Value) -> Self {
        let patch = arena.env.diff(result["job_id"].as_str().unwrap_or_else(|| panic!("no job: {result:#}")));
        let added = |file: &str| {
            let marker = format!("+++ b/{file}\n");
            let patch = String::from_utf8_lossy(&patch).into_owned();
            let at = patch.find(&marker).unwrap_or_else(|| panic!("{file} is not in the patch: {result:#}")) + marker.len();
            patch[at..].lines().skip(1).take_while(|l| l.starts_with('+')).map(|l| l[1..].to_owned()).collect::<Vec<_>>()
        };
        let told = base64::engine::general_purpose::STANDARD.decode(added("told").concat()).expect("base64");
        let entries = told.split(|b| *b == 0).filter_map(|line| {
            let at = line.windows(2).position(|pair| pair == b"  ")?;
            Some((line[at + 2..].strip_prefix(b"./")?.to_vec(), String::from_utf8_lossy(&line[..at]).into_owned()))
        });
        let entries = entries.collect();
        let canaries = added("told-canaries");
        Self { result, entries, canaries }
    }

    pub fn has(&self, canary: &str) -> bool {
        assert_eq!(self.canaries.last().map(String::as_str), Some("end"), "the cell told nothing: {:#}", self.result);
        self.canaries.iter().any(|word| word == canary)
    }

    /// Why a path was left out.
    pub fn left_out(&self, path: &str) -> String {
        let all = self.result["snapshot"]["left_out"].as_array().cloned().unwrap_or_default();
        all.iter().find(|row| row["path"] == path).map_or_else(|| "not left out".to_owned(), |row| row["why"].as_str().unwrap_or_default().to_owned())
    }
}

/// Delegates and lets the cell tell.
pub fn tell(arena: &Arena, repo: &Repo) -> Told {
    let result = arena.env.run_in(repo.path(), &["delegate", "--json", &telling()]).flat();
    Told::of(arena, result)
}

/// Every entry below a directory: kind, mode, owner, times of change, content. What a reader cannot help changing (the time of access) is no part.
pub fn state(dir: &Path) -> BTreeMap<PathBuf, String> {
    use sha2::Digest as _;
    let mut all = BTreeMap::new();
    let mut todo = vec![dir.to_owned()];
    while let Some(path) = todo.pop() {
        let Ok(meta) = path.symlink_metadata() else { continue };
        let content = if meta.is_dir() {
            todo.extend(std::fs::read_dir(&path).expect("directory").map(|e| e.expect("entry").path()));
            Vec::new()
        } else if meta.is_symlink() {
            std::fs::read_link(&path).expect("link").into_os_string().into_vec()
        } else if meta.is_file() && meta.len() < 64 << 20 {
            sha2::Sha256::digest(std::fs::read(&path).expect("file")).to_vec()
        } else {
            Vec::new()
        };
        let text = format!("{:o} {}:{} {} {}.{} {:02x?}", meta.mode(), meta.uid(), meta.gid(), meta.len(), meta.mtime(), meta.mtime_nsec(), content);
        all.insert(path, text);
    }
    all
}

/// What differs between two states; nothing where the host is as it was.
pub fn difference(before: &BTreeMap<PathBuf, String>, after: &BTreeMap<PathBuf, String>) -> Vec<String> {
    let mut all: Vec<String> =
        before.iter().filter(|(path, text)| after.get(*path) != Some(*text)).map(|(path, _)| path.display().to_string()).collect();
    all.extend(after.keys().filter(|path| !before.contains_key(*path)).map(|path| format!("new: {}", path.display())));
    all
}

/// Runs the binary, but not longer than patience: `None` where it hangs (it is killed then).
pub fn bounded(arena: &Arena, mut child: Child) -> Option<Output> {
    use std::io::Read as _;
    let read = |stream: Option<Box<dyn std::io::Read + Send>>| {
        std::thread::spawn(move || {
            let mut all = Vec::new();
            if let Some(mut stream) = stream {
                let _ = stream.read_to_end(&mut all);
            }
            all
        })
    };
    let stdout = read(child.stdout.take().map(|s| Box::new(s) as Box<dyn std::io::Read + Send>));
    let stderr = read(child.stderr.take().map(|s| Box::new(s) as Box<dyn std::io::Read + Send>));
    let start = Instant::now();
    let ended = loop {
        if let Some(status) = child.try_wait().expect("the child is ours") {
            break Some(status);
        }
        if start.elapsed() > patience(arena) {
            break None;
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let Some(status) = ended else {
        let _ = child.kill();
        let _ = child.wait();
        return None;
    };
    let (stdout, stderr) = (stdout.join().expect("reader"), stderr.join().expect("reader"));
    Some(Output { code: status.code().unwrap_or(-1), stdout, stderr: String::from_utf8_lossy(&stderr).into_owned() })
}

/// Highest resident memory of a process so far, in MiB.
pub fn peak_memory(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? >> 10)
}

/// How an attempt that should be refused before anything is made ended.
pub struct Attempt {
    /// The error's code, `accepted`, or `hangs`.
    pub code: String,
    /// Containers of jobs that were made, whether they are still there or not.
    pub made: usize,
    /// Highest memory of the process that was seen, in MiB.
    pub memory: u64,
    pub took: Duration,
    pub output: Option<Output>,
}

impl Attempt {
    pub fn refused_as(&self, codes: &[&str]) -> bool {
        codes.contains(&self.code.as_str()) && self.made == 0
    }

    pub fn detail(&self) -> String {
        format!("{} after {} ms, {} containers, {} MiB", self.code, self.took.as_millis(), self.made, self.memory)
    }
}

/// Delegates with further variables, and counts by the engine's own events what was made.
pub fn attempt(arena: &Arena, dir: &Path, variables: &[(&str, &str)]) -> Attempt {
    let since = docker(&["info", "--format", "{{.SystemTime}}"]);
    let start = Instant::now();
    let mut command = arena.env.command(dir, &["delegate", "--json", "--detach", &telling()]);
    let child = command.envs(variables.iter().copied()).spawn().expect("the binary runs");
    let pid = child.id();
    let stop = std::sync::atomic::AtomicBool::new(false);
    let (output, memory) = std::thread::scope(|scope| {
        let watching = scope.spawn(|| {
            let mut most = 0;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                most = most.max(peak_memory(pid).unwrap_or(0));
                std::thread::sleep(Duration::from_millis(5));
            }
            most
        });
        let output = bounded(arena, child);
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        (output, watching.join().expect("the watcher"))
    });
    let took = start.elapsed();
    let until = docker(&["info", "--format", "{{.SystemTime}}"]);
    let instance = format!("label=anchorhold.instance={}", arena.env.instance());
    let filters = ["--filter", "event=create", "--filter", "type=container", "--filter", &instance];
    let events = docker(&[&["events", "--since", since.trim(), "--until", until.trim()], &filters[..], &["--format", "{{.ID}}"]].concat());
    let code = match &output {
        None => "hangs".to_owned(),
        Some(output) => output.json()["error"]["code"].as_str().unwrap_or("accepted").to_owned(),
    };
    Attempt { code, made: events.lines().count(), memory, took, output }
}
