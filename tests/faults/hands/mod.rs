//! What a user's own hands do to jobs: `docker rm`, prune, stop, kill, pause, rename, restart; images and volumes taken away; full disks; clocks that step.

mod clock;
mod frozen;
mod full;
mod gateway;
mod images;
mod output;
pub mod removed;
mod signalled;

use crate::case::Case;
use crate::support::docker;
use crate::support::rehearsal::{Step, task};
use crate::world::{Expected, World, quick_task};

/// All of this area.
pub fn cases() -> Vec<Case> {
    [clock::CASES, removed::CASES, signalled::CASES, frozen::CASES, output::CASES, gateway::CASES, full::CASES, images::CASES].concat()
}

/// The agent's first deed is sealed, the second never happened.
const INTERRUPTED: Expected = Expected { states: &["interrupted"], reasons: &["interrupted"], patches: &["partial"] };
/// Nothing of the job was hurt.
const UNHARMED: Expected = Expected { states: &["completed"], reasons: &["completed"], patches: &["whole"] };

/// The agent's first deed, so many seconds of sleep, and its second one. While it sleeps the model has answered twice, so the first deed is done.
fn sleepy_task(seconds: u64) -> String {
    let sleep = format!("sleep {seconds}");
    task(&[Step::Shell("echo ran >>once.txt"), Step::Shell(&sleep), Step::Shell("echo done >done.txt"), Step::Say("done")])
}

/// Longer than any case looks: only an end from outside ends it.
fn endless(world: &World) -> String {
    let job = world.detach(&sleepy_task(600));
    world.wait_until_it_ran(&job);
    job
}

/// A job that has ended well.
fn ended(world: &World) -> String {
    let job = world.detach(&quick_task());
    world.wait_for(&job, |status| status["result_available"] == true);
    job
}

/// Whether the engine has a container of that name or id.
fn there(container: &str) -> bool {
    let all = docker(&["ps", "-aq", "--no-trunc", "--filter", &format!("name=^/{container}$")]);
    !all.trim().is_empty()
}
