//! A job that goes on with another: what breaks while the one's files are copied into the other's cell.

use std::process::Stdio;

use crate::case::{Case, Row};
use crate::host::{NEVER_RAN, UNHARMED, job_but, killed};
use crate::world::{Expected, World, job_id, quick_task};

/// A job whose delivery failed: it says why, and never ran.
const UNDELIVERED: Expected = Expected { states: &["failed"], reasons: &["failed"], patches: &["none"] };

pub const CASES: &[Case] = &[
    Case {
        id: "continue.copying.killed",
        fault: "kill -9 of `continue`",
        step: "the files of the job before are being copied",
        points: &["continue.frame"],
        run: || {
            let (world, first) = with_first();
            killed(&world, &["continue", "--json", &first, &quick_task()], "continue.frame");
            let row = world.look(&job_but(&world, &first), &NEVER_RAN);
            // The one before is as it was, and is gone on with by whoever asks next.
            let (code, out, err) = world.run(&["continue", "--json", "--detach", &first, "--", "go on"], &[]);
            assert_eq!(code, Some(0), "{out}{err}");
            end(&world, row)
        },
    },
    Case {
        id: "continue.copying.consumed",
        fault: "the job before is consumed",
        step: "its files are being copied",
        points: &["continue.frame"],
        run: || {
            let (world, first) = with_first();
            let mut command = world.command(&["continue", "--json", &first, &quick_task()], &[("ANCHORHOLD_FAULT", "continue.frame=stop")]);
            let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary starts");
            crate::processes::wait_until_stopped(child.id());
            let next = job_but(&world, &first);
            let (code, out, err) = world.run(&["consume", &first], &[]);
            assert_eq!(code, Some(0), "{out}{err}");
            crate::processes::signal(child.id(), "CONT");
            let out = child.wait_with_output().expect("it ends");
            let said = format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
            assert!(!out.status.success() && said.contains("job_not_found"), "whoever asked is told which job is gone: {said}");
            let row = world.look(&next, &UNDELIVERED);
            end(&world, row)
        },
    },
    Case {
        id: "continue.running.consumed",
        fault: "the job before is consumed",
        step: "all is delivered, Codex runs",
        points: &[],
        run: || {
            let (world, first) = with_first();
            let (code, out, err) = world.run(&["continue", "--json", "--detach", &first, &quick_task()], &[]);
            assert_eq!(code, Some(0), "{out}{err}");
            let next = job_id(&out);
            assert_eq!(world.run(&["consume", &first], &[]).0, Some(0));
            let row = world.look(&next, &UNHARMED);
            end(&world, row)
        },
    },
];

/// A user whose first job has ended with an empty patch.
fn with_first() -> (World, String) {
    let world = World::with(&[]);
    let (code, out, err) =
        world.run(&["delegate", "--json", "--", &crate::support::rehearsal::task(&[crate::support::rehearsal::Step::Say("first")])], &[]);
    assert_eq!(code, Some(0), "{out}{err}");
    (world, job_id(&out))
}

/// Everything is consumed, nothing is left, and the next delegation works.
fn end(world: &World, row: Row) -> Row {
    for job in world.jobs() {
        world.wait_for(&job, |status| status["result_available"] == true);
        world.run(&["consume", &job], &[]);
    }
    world.nothing_is_left();
    world.next_one_works();
    row
}
