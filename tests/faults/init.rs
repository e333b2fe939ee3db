//! The first process of a cell, its children and Codex: killed at each step, from inside and by the host.

use crate::case::{Case, Row};
use crate::host::UNHARMED;
use crate::processes::{below, signal};
use crate::support::docker;
use crate::support::rehearsal::{Step, task};
use crate::world::{Expected, World, job_id, quick_task, slow_task};

const fn interrupted(patches: &'static [&'static str]) -> Expected {
    Expected { states: &["interrupted"], reasons: &["interrupted"], patches }
}

/// Nothing was unpacked, or not all: nothing is said about changes.
const UNSAID: Expected = interrupted(&["none"]);
const UNTOUCHED: Expected = interrupted(&["empty"]);
const SOME: Expected = interrupted(&["empty", "partial"]);
const PARTIAL: Expected = interrupted(&["partial"]);
/// Codex was through; the seal was made by the second start.
const RESEALED: Expected = interrupted(&["whole"]);
const FAILED_EARLY: Expected = Expected { states: &["failed"], reasons: &["failed"], patches: &["none"] };
const FAILED: Expected = Expected { states: &["failed"], reasons: &["failed"], patches: &["partial"] };

const fn dies(id: &'static str, step: &'static str, points: &'static [&'static str], run: fn() -> Row) -> Case {
    Case { id, fault: "death of `init`", step, points, run }
}

const fn part(id: &'static str, step: &'static str, points: &'static [&'static str], run: fn() -> Row) -> Case {
    Case { id, fault: "kill -9 of a part of `init`", step, points, run }
}

const fn from_outside(id: &'static str, fault: &'static str, step: &'static str, run: fn() -> Row) -> Case {
    Case { id, fault, step, points: &[], run }
}

pub const CASES: &[Case] = &[
    // It had not noted that it began, so the second start is the first one, and the job runs, once.
    dies("init.started", "before it notes that it began", &["init.started"], || inside("init.started", &UNHARMED)),
    dies("init.saved", "it has noted that it began", &["init.saved"], || inside("init.saved", &UNSAID)),
    dies("init.unpacking", "before the unpacking", &["init.unpacking"], || inside("init.unpacking", &UNSAID)),
    dies("init.unpacked", "the workspace is unpacked", &["init.unpacked"], || inside("init.unpacked", &UNTOUCHED)),
    dies("init.slot", "it has its slot", &["init.slot"], || inside("init.slot", &UNTOUCHED)),
    dies("init.codex_started", "Codex was started", &["init.codex_started"], || inside("init.codex_started", &SOME)),
    dies("init.ending", "Codex has ended", &["init.ending"], || inside("init.ending", &RESEALED)),
    dies("init.ended", "everything else was killed", &["init.ended"], || inside("init.ended", &RESEALED)),
    dies("init.changes_sealed", "the changes are sealed", &["init.changes_sealed"], || inside("init.changes_sealed", &RESEALED)),
    dies("init.result_written", "before result.json's rename", &["init.result_written"], || inside("init.result_written", &RESEALED)),
    dies("init.sealed", "after result.json's rename", &["init.sealed"], || inside("init.sealed", &UNHARMED)),
    dies("init.resealing", "in the second start too", &["init.ending", "init.resealing"], || inside("init.ending,init.resealing", &RESEALED)),
    part("init.part.unpacking", "before it unpacks", &["part.unpacking"], || inside("part.unpacking", &FAILED_EARLY)),
    part("init.part.unpacked", "before it answers", &["part.unpacked"], || inside("part.unpacked", &FAILED_EARLY)),
    part("init.part.sealing", "before it seals", &["part.sealing"], || inside("part.sealing", &UNHARMED)),
    part("init.part.sealed", "before it answers", &["part.sealed"], || inside("part.sealed", &UNHARMED)),
    from_outside("init.engine_kill", "`docker kill -s KILL`", "Codex runs", || {
        running(&PARTIAL, |job| drop(docker(&["kill", "-s", "KILL", &World::container(job)])))
    }),
    from_outside("init.kill_by_pid", "kill -9 of `init` by the host", "Codex runs", || {
        running(&PARTIAL, |job| signal(World::first_process(&World::container(job)).unsigned_abs(), "KILL"))
    }),
    from_outside("init.codex_killed", "kill -9 of Codex", "Codex runs", || running(&FAILED, |job| kill_below(job, "/codex "))),
    from_outside("init.all_killed", "kill -9 of every process but `init`", "Codex runs", || running(&FAILED, |job| kill_below(job, ""))),
    from_outside("init.child_killed", "kill -9 of an agent's child", "it runs a command", child_dies),
];

/// Faults within the cell. Each leaves a mark on the job's volume when it happens; only what has become the agent cannot, and then the end tells.
fn inside(points: &str, expected: &Expected) -> Row {
    let world = World::with(&[]);
    let task = if expected.patches == SOME.patches { slow_task(60) } else { quick_task() };
    let (code, out, err) = world.run(&["delegate", "--detach", "--json", "--", &task], &[("ANCHORHOLD_FAULT_JOB", points)]);
    assert_eq!(code, Some(0), "{out}{err}");
    let job = job_id(&out);
    world.wait_for(&job, |status| status["result_available"] == true);
    for point in points.split(',').filter(|point| !point.starts_with("part.unpack")) {
        let mark = docker(&["cp", &format!("{}:/job/state/fault-{point}", World::container(&job)), "-"]);
        assert!(!mark.is_empty(), "it did not die at {point}");
    }
    world.aftermath(&job, expected)
}

fn running(expected: &Expected, kill: impl FnOnce(&str)) -> Row {
    let world = World::product();
    let job = world.detach(&slow_task(60));
    world.wait_until_it_ran(&job);
    kill(&job);
    world.aftermath(&job, expected)
}

/// Kills the processes of a cell whose command line holds a text.
fn kill_below(job: &str, what: &str) {
    let init = World::first_process(&World::container(job)).unsigned_abs();
    let victims: Vec<(u32, String)> = below(init).into_iter().filter(|(_, line)| format!("{line} ").contains(what)).collect();
    assert!(!victims.is_empty(), "no process like {what}: {:?}", below(init));
    for (pid, _) in victims {
        signal(pid, "KILL");
    }
}

fn child_dies() -> Row {
    let world = World::product();
    let command = "echo ran >>once.txt; sleep 4242; echo done >done.txt";
    let job = world.detach(&task(&[Step::Shell(command), Step::Say("done")]));
    let init = || docker(&["inspect", "-f", "{{.State.Pid}}", &World::container(&job)]).trim().parse::<u32>().expect("a process id");
    let begun = std::time::Instant::now();
    let child = loop {
        let children = match init() {
            0 => Vec::new(),
            init => below(init),
        };
        if let Some((pid, _)) = children.iter().find(|(_, line)| line.starts_with("sleep 4242")) {
            break *pid;
        }
        assert!(begun.elapsed() < crate::world::PATIENCE, "the command never ran: {children:?}");
    };
    signal(child, "KILL");
    world.aftermath(&job, &UNHARMED)
}
