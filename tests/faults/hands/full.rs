//! A full disk on the host's side: no room where temporary files go, and none where output is redirected to. The file system is a small one of the
//! case's own, whose size is changed under the product's feet; so each write of a command is met in turn.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anchorhold::process;
use serde_json::Value;

use super::UNHARMED;
use crate::case::{Case, Row};
use crate::support::rehearsal::{Step, task};
use crate::world::{World, quick_task};

pub const CASES: &[Case] = &[
    Case { id: "hands.full.delegate", fault: "TMPDIR is full, or nearly", step: "delegate", points: &[], run: delegate },
    Case { id: "hands.full.result", fault: "TMPDIR is full, or nearly", step: "result, diff, apply --check, consume", points: &[], run: small },
    Case {
        id: "hands.full.download",
        fault: "TMPDIR takes a part of the download",
        step: "result, diff, apply --check, consume",
        points: &[],
        run: large,
    },
    Case {
        id: "hands.full.file",
        fault: "output is redirected to a file on a full disk",
        step: "result, diff, consume",
        points: &[],
        run: redirected,
    },
];

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
/// Enough for everything.
const ROOMY: u64 = 256 * MIB;
/// Bytes that the agent of the large job makes: more than is kept in memory of a download.
const LARGE: u64 = 6 * MIB;

/// A file system in memory on a directory; unmounted when dropped.
struct Small(PathBuf);

impl Small {
    fn over(directory: &Path) -> Self {
        let small = Self(directory.to_owned());
        small.mount(&["-t", "tmpfs", "-o", &format!("size={ROOMY},mode=0700"), "small"]);
        small
    }

    fn mount(&self, arguments: &[&str]) {
        let out = process::command("mount", Path::new("/")).args(arguments).arg(&self.0).output().expect("mount runs");
        assert!(out.status.success(), "the tests need to be root: {}", String::from_utf8_lossy(&out.stderr));
    }

    /// From now on it holds so many bytes, and no more.
    fn resize(&self, bytes: u64) {
        self.mount(&["-o", &format!("remount,size={bytes}")]);
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        // Lazily: what a failed case left running may still be in it.
        let _ = process::command("umount", Path::new("/")).arg("-l").arg(&self.0).output();
    }
}

/// A command under the fault: it succeeds, or says that temporary files found no room and what to do. Either way it leaves no file. Whether it failed.
fn fails_well(world: &World, arguments: &[&str]) -> bool {
    let (code, out, err) = world.run(arguments, &[]);
    let left: Vec<_> = std::fs::read_dir(world.temporary()).expect("TMPDIR").flatten().map(|entry| entry.path()).collect();
    assert!(left.is_empty(), "{arguments:?} left {left:?}");
    if code == Some(0) {
        return false;
    }
    let answer: Value =
        serde_json::from_str(&out).unwrap_or_else(|_| serde_json::from_str(&err).unwrap_or_else(|e| panic!("{arguments:?}: {e}: {out}{err}")));
    assert_eq!((code, answer["error"]["code"].as_str()), (Some(3), Some("setup_failed")), "{arguments:?}: {answer:#}");
    assert!(answer["error"]["hint"].as_str().is_some_and(|hint| hint.contains("TMPDIR")), "{arguments:?}: {answer:#}");
    true
}

fn delegate() -> Row {
    let world = World::product();
    world.warm();
    let small = Small::over(world.temporary());
    let (mut refused, mut taken) = (0, 0);
    // A page more each time, until it goes its way: so each write is the one that finds no room.
    for pages in (1..).take_while(|pages| *pages < 64) {
        small.resize(pages * 4 * KIB);
        let failed = fails_well(&world, &["delegate", "--json", "--", &quick_task()]);
        small.resize(ROOMY);
        match world.jobs().as_slice() {
            [] => {
                assert!(failed, "it says that all is well, and there is no job");
                refused += 1;
            }
            // What was started is not lost where only its result could not be looked at.
            [job] => {
                let row = world.look(job, &UNHARMED);
                world.gone_after_consume(job);
                taken += 1;
                if !failed {
                    assert!(refused > 0, "nothing was refused: the fault did not happen");
                    world.next_one_works();
                    return Row { note: format!("refused {refused} times, then {taken} jobs"), ..row };
                }
            }
            jobs => panic!("more than one job: {jobs:?}"),
        }
    }
    panic!("it never went its way")
}

/// A job that has ended, with a file of so many bytes.
fn ended(world: &World, bytes: u64) -> String {
    let file = format!("head -c {bytes} /dev/urandom >large.bin");
    let job = world.detach(&task(&[Step::Shell("echo ran >>once.txt"), Step::Shell(&file), Step::Shell("echo done >done.txt"), Step::Say("done")]));
    world.wait_for(&job, |status| status["result_available"] == true);
    job
}

/// Every reader of a job at each of these sizes, in ascending order; consume last, so that it is the one that ends it.
fn readers(bytes: u64, sizes: &[u64]) -> Row {
    let world = World::product();
    let job = ended(&world, bytes);
    let small = Small::over(world.temporary());
    let mut failures = 0;
    for size in sizes {
        small.resize(*size);
        let mut failed = false;
        for verb in [&["result", "--json"][..], &["diff", "--json"], &["apply", "--check", "--json"]] {
            failed |= fails_well(&world, &[verb, &[job.as_str()]].concat());
        }
        // Where the others get through, this one would too, and the job were gone.
        if failed && fails_well(&world, &["result", "--json", &job]) {
            assert!(fails_well(&world, &["consume", "--json", &job]), "it consumed what it cannot read");
            failures += 1;
        }
        assert_eq!(world.jobs(), [job.as_str()], "lost with {size} bytes of room");
    }
    assert!(failures > 0, "nothing failed: the fault did not happen");
    small.resize(ROOMY);
    let row = world.aftermath(&job, &UNHARMED);
    Row { note: format!("{failures} of {} sizes did not do", sizes.len()), ..row }
}

fn small() -> Row {
    let sizes: Vec<u64> = (1..=10).map(|pages| pages * 4 * KIB).collect();
    readers(10, &sizes)
}

fn large() -> Row {
    readers(LARGE, &[4 * KIB, LARGE / 2, LARGE + LARGE / 2, 3 * LARGE])
}

fn redirected() -> Row {
    let world = World::product();
    let job = ended(&world, 100_000);
    let place = world.env.directory();
    let small = Small::over(&place);
    // One page: room for the beginning of a patch, and once something else lies there for nothing at all.
    small.resize(4 * KIB);
    let tries = [&["diff"][..], &["consume", "--diff"], &["result", "--json"], &["diff"], &["consume", "--json"], &["consume", "--diff"]];
    for (number, arguments) in tries.into_iter().enumerate() {
        if number == 2 {
            std::fs::write(place.join("ballast"), [0; 4096]).expect("a page");
        }
        let file = std::fs::File::create(place.join("out")).expect("a file");
        let out = world.command(&[arguments, &[job.as_str()]].concat(), &[]).stdout(file).stderr(Stdio::piped()).output().expect("it runs");
        let said = String::from_utf8_lossy(&out.stderr);
        assert!(!out.status.success() && said.contains("standard output could not be written"), "{arguments:?}: {:?} {said}", out.status);
        assert_eq!(world.jobs(), [job.as_str()], "{arguments:?} lost it");
        std::fs::remove_file(place.join("out")).expect("the file");
    }
    world.aftermath(&job, &UNHARMED)
}
