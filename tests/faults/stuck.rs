//! Jobs in which nothing happens any more, and agents that will not end: each ends in time, with its reason and its work; one that works in silence does not.

use serde_json::Value;

use crate::case::{Case, Row};
use crate::support::docker;
use crate::support::rehearsal::{Step, task};
use crate::world::{Expected, PATIENCE, World, job_id, processes_of};

pub const CASES: &[Case] = &[
    Case { id: "stuck.sleep", fault: "a command of the agent never returns", step: "Codex runs", points: &[], run: sleeps },
    Case {
        id: "stuck.sleep.control",
        fault: "the same with `--idle 0`: only the deadline ends it",
        step: "Codex runs",
        points: &[],
        run: sleeps_unwatched,
    },
    Case { id: "stuck.stopped", fault: "SIGSTOP to every process of the agent", step: "Codex runs", points: &[], run: stopped },
    Case { id: "stuck.network", fault: "Codex waits for an answer that never comes", step: "Codex runs", points: &[], run: waits_for_the_network },
    Case { id: "stuck.deadlock", fault: "a program of the agent is deadlocked", step: "Codex runs", points: &[], run: deadlocked },
    Case { id: "stuck.not.silent_work", fault: "none: a long computation that says nothing", step: "Codex runs", points: &[], run: works_in_silence },
    Case { id: "stuck.not.trickle", fault: "none: little is written now and then", step: "Codex runs", points: &[], run: writes_now_and_then },
    Case {
        id: "stuck.defiant",
        fault: "ignores signals, forks in a loop, stops Codex, holds files; no process of ours on the host",
        step: "the deadline",
        points: &[],
        run: defies_the_deadline,
    },
];

const RAN: Step<'_> = Step::Shell("echo ran >>once.txt");
const IDLE: Expected = Expected { states: &["timeout"], reasons: &["idle"], patches: &["partial"] };
const DEADLINE: Expected = Expected { states: &["timeout"], reasons: &["deadline"], patches: &["partial"] };
const WHOLE: Expected = Expected { states: &["completed"], reasons: &["completed"], patches: &["whole"] };

fn start(world: &World, flags: &[&str], task: &str) -> String {
    let arguments = [&["delegate", "--detach", "--json"], flags, &["--", task]].concat();
    let (code, out, err) = world.run(&arguments, &[]);
    assert_eq!(code, Some(0), "{out}{err}");
    job_id(&out)
}

/// Starts a job and looks at how it ended; what its own result says of that goes into the note.
fn ends(flags: &[&str], task: &str, expected: &Expected) -> Row {
    let world = World::product();
    let job = start(&world, flags, task);
    world.wait_for(&job, |status| status["result_available"] == true);
    let note = said(&world, &job);
    Row { note, ..world.aftermath(&job, expected) }
}

/// What the cell says of its end.
fn said(world: &World, job: &str) -> String {
    let (_, out, err) = world.run(&["result", "--json", job], &[]);
    let result: Value = serde_json::from_str(&out).unwrap_or_else(|e| panic!("{e}: {out}{err}"));
    result["untrusted_detail"].as_str().or(result["job"]["detail"].as_str()).unwrap_or_default().to_owned()
}

fn sleeps() -> Row {
    let row = ends(&["--idle", "8"], &task(&[RAN, Step::Shell("sleep 3600")]), &IDLE);
    assert!(row.note.contains("Nothing happened"), "{row:?}");
    row
}

fn sleeps_unwatched() -> Row {
    ends(&["--idle", "0", "--deadline", "25"], &task(&[RAN, Step::Shell("sleep 3600")]), &DEADLINE)
}

fn stopped() -> Row {
    let row = ends(&["--idle", "8"], &task(&[RAN, Step::Shell("kill -STOP -1; kill -STOP $$")]), &IDLE);
    assert!(row.note.contains("SIGSTOP"), "{row:?}");
    row
}

fn waits_for_the_network() -> Row {
    let program = "Rehearse this.\n```rehearsal\nshell echo ran >>once.txt\nfault hang\nmessage never said\n```\n";
    ends(&["--idle", "8"], program, &IDLE)
}

fn deadlocked() -> Row {
    let program = "python3 -c 'import threading; lock = threading.Lock(); lock.acquire(); lock.acquire()'";
    ends(&["--idle", "8"], &task(&[RAN, Step::Shell(program)]), &IDLE)
}

fn works_in_silence() -> Row {
    let program = "timeout 25 python3 -c 'while True: pass'; echo done >done.txt";
    ends(&["--idle", "8"], &task(&[RAN, Step::Shell(program), Step::Say("done")]), &WHOLE)
}

fn writes_now_and_then() -> Row {
    let program = "for n in 1 2 3 4 5 6 7 8; do sleep 3; echo $n >trickle.txt; done; echo done >done.txt";
    ends(&["--idle", "8"], &task(&[RAN, Step::Shell(program), Step::Say("done")]), &WHOLE)
}

fn defies_the_deadline() -> Row {
    let world = World::product();
    let program = "trap '' TERM INT HUP QUIT USR1 USR2 ALRM; exec 9>held.txt; rm held.txt; kill -STOP $PPID; pkill -STOP codex; \
                   while :; do (trap '' TERM HUP; while :; do sleep 1 & done) & sleep 0.2; done";
    let job = start(&world, &["--idle", "0", "--deadline", "20"], &task(&[RAN, Step::Shell(program)]));
    let container = World::container(&job);
    // Nobody of ours is there from now on; only the engine is asked.
    assert_eq!(processes_of(world.env.instance()), Vec::<String>::new());
    let begun = std::time::Instant::now();
    let exit = loop {
        let state = docker(&["inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", &container]);
        if let Some(code) = state.trim().strip_prefix("exited ") {
            break code.to_owned();
        }
        assert!(begun.elapsed() < PATIENCE, "it runs on: {state}");
        std::thread::sleep(std::time::Duration::from_millis(200));
    };
    assert_eq!(exit, "42", "it ended by itself, and sealed");
    let note = format!("by itself {:.1} s after the start of its container; {}", begun.elapsed().as_secs_f64(), said(&world, &job));
    Row { note, ..world.aftermath(&job, &DEADLINE) }
}
