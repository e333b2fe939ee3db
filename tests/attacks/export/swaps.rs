//! The tree changes while it is read: what was a file when it was listed is something else when it is opened.
//!
//! No chance is involved. The kernel tells (inotify) when the first file is opened for packing, and that is after the list was made; then everything is
//! swapped at once. The files in between, and one processor for the binary, keep the swapped ones from being read before.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};

use anchorhold::process;
use rustix::fs::inotify;
use sha2::Digest as _;

use super::host::{self, Told};
use crate::arena::Arena;
use crate::case::{Case, Group, Promise, Verdict, Verdicts, Weakening};
use crate::support::Repo;

pub const GROUP: Group = Group {
    name: "export-swaps",
    cases: &[
        Case { id: "E12-becomes-link", promise: Promise::HostLeak, tries: "a file is replaced by a link to a host file after it was listed" },
        Case { id: "E12-parent-becomes-link", promise: Promise::HostLeak, tries: "its directory is replaced by a link" },
        Case { id: "E12-becomes-fifo", promise: Promise::DenialOfService, tries: "it is replaced by a FIFO: a reader waits for ever" },
        Case { id: "E12-fifo-drained", promise: Promise::HostLeak, tries: "it is replaced by a FIFO that others write into" },
        Case { id: "E12-grows", promise: Promise::DenialOfService, tries: "files of one byte grow to 24 MiB each" },
        Case { id: "E12-in-step", promise: Promise::Deception, tries: "files shrink: those after them still arrive whole, and it is said" },
        Case {
            id: "E02-root-becomes-link",
            promise: Promise::HostLeak,
            tries: "the workspace root itself is replaced by a link to another repository",
        },
    ],
    run,
    controls: &[
        Weakening::point(&["export.nofollow"], &["E12-becomes-link"]),
        Weakening::point(&["export.beneath"], &["E12-parent-becomes-link"]),
        Weakening::point(&["export.nonblock"], &["E12-becomes-fifo"]),
        Weakening::point(&["export.regular_only"], &["E12-fifo-drained"]),
        Weakening::point(&["export.announced_size"], &["E12-grows"]),
        Weakening::point(&["export.root_links"], &["E02-root-becomes-link"]),
    ],
    mutations: &[],
    no_control: &[("E12-in-step", "sizes are those of the bytes that were read: there is no second, announced size that could be trusted instead")],
};

/// Growing files, and how large they become.
const GROWING: usize = 12;
const GROWN: u64 = 24 << 20;
/// Between what packing takes (a few frames of 4 MiB) and what all grown files take.
const MEMORY_MIB: u64 = 200;

fn run(arena: &Arena, wanted: &[&str]) -> Verdicts {
    let mut all = Vec::new();
    if wanted.iter().any(|id| id.starts_with("E12")) {
        all.extend(swapped(arena));
    }
    if wanted.contains(&"E02-root-becomes-link") {
        all.push(root(arena));
    }
    all
}

/// Told by the kernel when a file is opened.
struct Opened(OwnedFd);

impl Opened {
    fn of(path: &Path) -> Self {
        let fd = inotify::init(inotify::CreateFlags::NONBLOCK | inotify::CreateFlags::CLOEXEC).expect("inotify");
        inotify::add_watch(&fd, path, inotify::WatchFlags::OPEN).expect("watch");
        Self(fd)
    }

    /// Waits until it happens; false where it does not.
    fn wait(&self, limit: Duration) -> bool {
        let start = Instant::now();
        while start.elapsed() < limit {
            if rustix::io::read(&self.0, &mut [0u8; 4096]).is_ok_and(|n| n > 0) {
                return true;
            }
            std::thread::sleep(Duration::from_micros(200));
        }
        false
    }
}

fn swapped(arena: &Arena) -> Verdicts {
    let repo = arena.env.repo();
    // Old times, so that git has no reason to open a file while the list is made.
    repo.bash(&format!(
        r#"cd ..; mkdir outside; echo CANARY-E12L > outside/secret; echo CANARY-E12D > outside/file; ln -s $PWD/outside link; ln -s $PWD/outside/secret link-to-file; mkfifo fifo pipe; cd repo
for n in 0 1 2 3 4 5 6 7; do head -c 4194305 /dev/urandom > a0$n; done
mkdir z-dir; echo inside > z-dir/file; echo f > z-fifo; echo p > z-pipe; echo l > z-link; head -c 9437184 /dev/zero > z-large; head -c 1000 /dev/zero > z-shrinks; echo after > zz-after
for n in $(seq -w {GROWING}); do echo > z-grow$n; done
find . -path ./.git -prune -o -type f -exec touch -d 2020-01-01 {{}} +
git -c core.compression=0 add .; git commit -qm base"#
    ));
    let at = |path: &str| repo.path().join(path);
    let pipe = std::fs::OpenOptions::new().read(true).write(true).open(at("../pipe")).expect("fifo");
    rustix::io::write(&pipe, b"CANARY-E12F\n").expect("write");
    let first = Opened::of(&at("a00"));
    let child = one_processor(arena, &repo, &["delegate", "--json", &host::telling()]);
    let pid = child.id();
    let watched = std::sync::atomic::AtomicBool::new(true);
    let (output, memory) = std::thread::scope(|scope| {
        scope.spawn(|| {
            assert!(first.wait(host::patience(arena)), "nothing was packed");
            for number in 1..=GROWING {
                let file = std::fs::OpenOptions::new().write(true).open(at(&format!("z-grow{number:02}"))).expect("file");
                file.set_len(GROWN).expect("grow");
            }
            for (file, size) in [("z-large", 1), ("z-shrinks", 10)] {
                std::fs::OpenOptions::new().write(true).open(at(file)).expect("file").set_len(size).expect("shrink");
            }
            std::fs::rename(at("../link-to-file"), at("z-link")).expect("swap");
            std::fs::rename(at("z-dir"), at("../z-dir")).expect("swap");
            std::fs::rename(at("../link"), at("z-dir")).expect("swap");
            std::fs::rename(at("../fifo"), at("z-fifo")).expect("swap");
            std::fs::rename(at("../pipe"), at("z-pipe")).expect("swap");
        });
        let memory = scope.spawn(|| {
            let mut most = 0;
            while watched.load(std::sync::atomic::Ordering::Relaxed) {
                most = most.max(host::peak_memory(pid).unwrap_or(0));
                std::thread::sleep(Duration::from_millis(5));
            }
            most
        });
        let output = host::bounded(arena, child);
        watched.store(false, std::sync::atomic::Ordering::Relaxed);
        (output, memory.join().expect("the watcher"))
    });
    let Some(output) = output else {
        return vec![("E12-becomes-fifo".to_owned(), Verdict::Breached("it hangs".to_owned()))];
    };
    rustix::io::ioctl_fionbio(&pipe, true).expect("nonblocking");
    let drained = !rustix::io::read(&pipe, &mut [0u8; 64]).is_ok_and(|n| n == 12);
    let told = Told::of(arena, output.flat());
    let digest = |bytes: &[u8]| anchorhold::protocol::manifest::hex(&sha2::Sha256::digest(bytes));
    let expected: [(&[u8], &[u8]); 3] = [(b"z-large", &[0]), (b"z-shrinks", &[0; 10]), (b"zz-after", b"after\n")];
    let wrong: Vec<_> = expected
        .iter()
        .filter(|(name, bytes)| told.entries.get(*name) != Some(&digest(bytes)))
        .map(|(name, _)| name.escape_ascii().to_string())
        .collect();
    let link = told.entries.get(b"z-link".as_slice()).cloned().unwrap_or_default();
    let of = |id: &str, breached: bool, detail: String| (id.to_owned(), Verdict::of(breached, detail));
    vec![
        of("E12-becomes-link", told.has("CANARY-E12L"), format!("sent as {link:?}")),
        of("E12-parent-becomes-link", told.has("CANARY-E12D"), told.left_out("z-dir/file")),
        of("E12-becomes-fifo", told.left_out("z-fifo") != "special_file", told.left_out("z-fifo")),
        of("E12-fifo-drained", drained, format!("{}, drained: {drained}", told.left_out("z-pipe"))),
        of("E12-grows", memory > MEMORY_MIB, format!("{memory} MiB at most")),
        of("E12-in-step", !wrong.is_empty(), format!("not as they were read: {wrong:?}")),
    ]
}

/// The binary on one processor, so that it reads one file after the other.
fn one_processor(arena: &Arena, repo: &Repo, args: &[&str]) -> std::process::Child {
    let status = std::fs::read_to_string("/proc/self/status").expect("status");
    let allowed = status.lines().find_map(|l| l.strip_prefix("Cpus_allowed_list:")).expect("a list").trim();
    let cpu: String = allowed.chars().take_while(char::is_ascii_digit).collect();
    let mut command = process::command("taskset", repo.path());
    command.args(["-c", &cpu]).arg(arena.binary()).args(args.iter().map(OsStr::new)).envs(arena.env.vars());
    command.spawn().expect("taskset runs")
}

/// The repository passes every check; then its directory is another one, a link to what the user keeps elsewhere.
fn root(arena: &Arena) -> (String, Verdict) {
    let repo = arena.env.repo();
    repo.bash("echo harmless > f; git add .; git commit -qm base; cp -a . ../private; cd ../private; echo CANARY-E02R > f; git commit -qam private; ln -s private ../link");
    let at = |path: &str| repo.path().join(path);
    let config = Opened::of(&at(".git/config"));
    let attempt = std::thread::scope(|scope| {
        scope.spawn(|| {
            assert!(config.wait(host::patience(arena)), "the configuration was not read");
            std::fs::rename(repo.path(), at("../moved")).expect("swap");
            std::fs::rename(repo.path().with_file_name("link"), repo.path()).expect("swap");
        });
        host::attempt(arena, repo.path(), &[])
    });
    ("E02-root-becomes-link".to_owned(), Verdict::of(attempt.made > 0, attempt.detail()))
}
