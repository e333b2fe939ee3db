//! kill -9 of a process of ours on the host, at each step of what it does.

use crate::case::{Case, Row};
use crate::world::{Expected, World, slow_task};

pub const CASES: &[Case] =
    &[Case { id: "host.delegate.running", fault: "kill -9 of the waiting `delegate`", step: "Codex runs", points: &[], run: waiting_process_dies }];

/// A job that goes on without whoever started it.
const UNHARMED: Expected = Expected { states: &["completed"], reasons: &["completed"], patches: &["whole"] };

fn waiting_process_dies() -> Row {
    let world = World::product();
    let mut child = world.spawn(&["delegate", "--json", "--", &slow_task(3)], &[]);
    let begun = std::time::Instant::now();
    let job = loop {
        if let [job] = world.jobs().as_slice() {
            break job.clone();
        }
        assert!(begun.elapsed() < crate::world::PATIENCE, "no job");
    };
    world.wait_until_it_ran(&job);
    child.kill().expect("it is there");
    child.wait().expect("it ends");
    world.aftermath(&job, &UNHARMED)
}
