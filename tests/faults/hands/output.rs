//! What a command prints goes nowhere; HOME takes nothing.

use std::process::Stdio;

use super::{UNHARMED, ended};
use crate::case::{Case, Row};
use crate::world::{World, job_id, quick_task};

pub const CASES: &[Case] = &[
    Case { id: "hands.full.stdout", fault: "standard output is full (/dev/full)", step: "result, diff, consume", points: &[], run: stdout_full },
    Case { id: "hands.full.pipe", fault: "nobody reads standard output", step: "consume", points: &[], run: stdout_closed },
    Case { id: "hands.readonly.home", fault: "HOME cannot be written", step: "all", points: &[], run: no_home },
];

fn stdout_full() -> Row {
    let world = World::product();
    let job = ended(&world);
    for arguments in [&["result", "--json"][..], &["diff"], &["consume", "--json"], &["consume", "--diff"]] {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").expect("/dev/full");
        let out = world.command(&[arguments, &[job.as_str()]].concat(), &[]).stdout(full).stderr(Stdio::piped()).output().expect("it runs");
        let said = String::from_utf8_lossy(&out.stderr);
        assert!(!out.status.success() && said.contains("standard output could not be written"), "{arguments:?}: {:?} {said}", out.status);
    }
    world.aftermath(&job, &UNHARMED)
}

fn stdout_closed() -> Row {
    let world = World::product();
    let job = ended(&world);
    let mut child = world.spawn(&["consume", "--json", &job], &[]);
    drop(child.stdout.take());
    child.wait().expect("it ends");
    world.aftermath(&job, &UNHARMED)
}

fn no_home() -> Row {
    let world = World::product();
    // Root may write in any other directory.
    let variables = [("HOME", "/proc"), ("XDG_CONFIG_HOME", "/proc"), ("XDG_CACHE_HOME", "/proc")];
    let (code, out, err) = world.run(&["delegate", "--json", "--", &quick_task()], &variables);
    assert_eq!(code, Some(0), "{out}{err}");
    world.aftermath(&job_id(&out), &UNHARMED)
}
