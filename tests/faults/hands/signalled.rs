//! `docker stop`, `kill`, `restart`, `start`, `update` and `rename`.

use super::{INTERRUPTED, UNHARMED, ended, endless, sleepy_task, there};
use crate::case::{Case, Row};
use crate::support::docker;
use crate::world::{Expected, World};

const CANCELLED: Expected = Expected { states: &["cancelled"], reasons: &["cancelled"], patches: &["partial"] };

pub const CASES: &[Case] = &[
    Case { id: "hands.stop", fault: "docker stop", step: "Codex runs", points: &[], run: || hit(&["stop"], &INTERRUPTED) },
    Case { id: "hands.kill", fault: "docker kill", step: "Codex runs", points: &[], run: || hit(&["kill"], &INTERRUPTED) },
    Case { id: "hands.kill.int", fault: "docker kill -s INT", step: "Codex runs", points: &[], run: || hit(&["kill", "-s", "INT"], &INTERRUPTED) },
    Case { id: "hands.kill.usr1", fault: "docker kill -s USR1", step: "Codex runs", points: &[], run: || hit(&["kill", "-s", "USR1"], &CANCELLED) },
    Case { id: "hands.kill.hup", fault: "docker kill -s HUP, QUIT, USR2", step: "Codex runs", points: &[], run: unheard },
    Case { id: "hands.restart", fault: "docker restart", step: "Codex runs", points: &[], run: || hit(&["restart"], &INTERRUPTED) },
    Case { id: "hands.start.ended", fault: "docker start", step: "ended", points: &[], run: started_again },
    Case { id: "hands.update.always", fault: "docker update --restart always", step: "Codex runs", points: &[], run: always },
    Case { id: "hands.rename", fault: "docker rename", step: "Codex runs", points: &[], run: renamed },
];

/// A command of the docker client against a job that only an end from outside ends.
fn hit(command: &[&str], expected: &Expected) -> Row {
    let world = World::product();
    let job = endless(&world);
    let container = World::container(&job);
    let started = || docker(&["inspect", "-f", "{{.State.StartedAt}} {{.State.FinishedAt}}", &container]);
    let before = started();
    assert_eq!(docker(&[command, &[container.as_str()]].concat()).trim(), container);
    world.wait_for(&job, |status| status["result_available"] == true);
    assert_ne!(started(), before, "the fault did not happen");
    world.aftermath(&job, expected)
}

/// Signals that mean nothing to a job.
fn unheard() -> Row {
    let world = World::product();
    let job = world.detach(&sleepy_task(3));
    world.wait_until_it_ran(&job);
    for signal in ["HUP", "QUIT", "USR2"] {
        assert_eq!(docker(&["kill", "-s", signal, &World::container(&job)]).trim(), World::container(&job));
    }
    world.aftermath(&job, &UNHARMED)
}

fn started_again() -> Row {
    let world = World::product();
    let job = ended(&world);
    assert_eq!(docker(&["start", &World::container(&job)]).trim(), World::container(&job));
    world.aftermath(&job, &UNHARMED)
}

/// The engine starts it again and again, whatever its end.
fn always() -> Row {
    let world = World::product();
    let job = world.detach(&sleepy_task(2));
    world.wait_until_it_ran(&job);
    let container = World::container(&job);
    docker(&["update", "--restart", "always", &container]);
    let restarts = || docker(&["inspect", "-f", "{{.RestartCount}}", &container]).trim().parse::<u32>().unwrap_or(0);
    let begun = std::time::Instant::now();
    while restarts() < 2 {
        assert!(begun.elapsed() < crate::world::PATIENCE, "the fault did not happen");
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
    world.aftermath(&job, &UNHARMED)
}

fn renamed() -> Row {
    let world = World::product();
    let job = endless(&world);
    let own = format!("mine-{}", &job[..8]);
    docker(&["rename", &World::container(&job), &own]);
    assert!(there(&own) && !there(&World::container(&job)), "the fault did not happen");
    let (code, out, err) = world.run(&["cancel", "--json", &job], &[]);
    assert_eq!(code, Some(0), "{out}{err}");
    world.aftermath(&job, &CANCELLED)
}
