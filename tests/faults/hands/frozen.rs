//! `docker pause` and a stopped first process: a job that should have ended by itself ends when it is next looked at.

use std::time::Duration;

use super::{UNHARMED, sleepy_task};
use crate::case::{Case, Row};
use crate::support::docker;
use crate::world::{Expected, World, job_id};

const DEADLINE: Expected = Expected { states: &["timeout"], reasons: &["deadline"], patches: &["partial"] };
/// Seconds; the least that the settings take.
const SECONDS: &str = "20";

pub const CASES: &[Case] = &[
    Case {
        id: "hands.pause.past_deadline",
        fault: "docker pause, past the deadline",
        step: "Codex runs",
        points: &[],
        run: || frozen(&["pause"], 0),
    },
    Case {
        id: "hands.sigstop.past_deadline",
        fault: "docker kill -s STOP, past the deadline",
        step: "Codex runs",
        points: &[],
        run: || frozen(&["kill", "-s", "STOP"], 11),
    },
    Case { id: "hands.pause.unpause", fault: "docker pause, then unpause", step: "Codex runs", points: &[], run: thawed },
];

fn frozen(command: &[&str], grace: u64) -> Row {
    let world = World::product();
    let variables = [("ANCHORHOLD_LIMITS_DEADLINE_SECONDS", SECONDS), ("ANCHORHOLD_LIMITS_QUEUE_SECONDS", SECONDS)];
    let (code, out, err) = world.run(&["delegate", "--detach", "--json", "--", &sleepy_task(600)], &variables);
    assert_eq!(code, Some(0), "{out}{err}");
    let job = job_id(&out);
    world.wait_until_it_ran(&job);
    docker(&[command, &[World::container(&job).as_str()]].concat());
    std::thread::sleep(Duration::from_secs(SECONDS.parse::<u64>().expect("a number") + grace));
    let running = docker(&["inspect", "-f", "{{.State.Running}}", &World::container(&job)]);
    assert_eq!(running.trim(), "true", "it ended though nobody looked: the fault did not happen");
    world.aftermath(&job, &DEADLINE)
}

fn thawed() -> Row {
    let world = World::product();
    let job = world.detach(&sleepy_task(2));
    world.wait_until_it_ran(&job);
    docker(&["pause", &World::container(&job)]);
    let status = world.status(&job);
    assert!(status["detail"].as_str().is_some_and(|detail| detail.contains("paused")), "{status:#}");
    docker(&["unpause", &World::container(&job)]);
    world.aftermath(&job, &UNHARMED)
}
