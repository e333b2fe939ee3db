//! The engine stops, dies and comes back, with and without cells that outlive it: one job has ended, one runs and is waited for, one is queued.

use std::process::Child;

use serde_json::Value;

use crate::case::{Case, Row};
use crate::support::own_engine::{Options, OwnEngine};
use crate::support::weakened::{product_image, weakened_image};
use crate::world::{Expected, PATIENCE, World, quick_task, slow_task};

pub const CASES: &[Case] = &[
    Case {
        id: "engine.stop.plain",
        fault: "engine stopped, started again",
        step: "one job ended, one runs, one is queued",
        points: &[],
        run: || away(false, OwnEngine::stop),
    },
    Case {
        id: "engine.kill.plain",
        fault: "kill -9 of the engine, started again",
        step: "one job ended, one runs, one is queued",
        points: &[],
        run: || away(false, OwnEngine::kill),
    },
    Case {
        id: "engine.stop.live_restore",
        fault: "engine with live-restore stopped, started again",
        step: "one job ended, one runs, one is queued",
        points: &[],
        run: || away(true, OwnEngine::stop),
    },
    Case {
        id: "engine.kill.live_restore",
        fault: "kill -9 of an engine with live-restore",
        step: "one job ended, one runs, one is queued",
        points: &[],
        run: || away(true, OwnEngine::kill),
    },
    Case {
        id: "engine.kill.delivery",
        fault: "kill -9 of the engine, started again",
        step: "the workspace is being uploaded",
        points: &[],
        run: || during_delivery(OwnEngine::kill, &[]),
    },
    Case {
        id: "engine.kill.admission",
        fault: "kill -9 of the engine, started again",
        step: "the workspace is being uploaded, the gateway has not heard of the job and dies with its engine",
        points: &["deliver.admitting"],
        run: || during_delivery(OwnEngine::kill, &[("ANCHORHOLD_FAULT", "deliver.admitting=wait:3000")]),
    },
    Case {
        id: "engine.stop.delivery",
        fault: "engine stopped, started again",
        step: "the workspace is being uploaded",
        points: &[],
        run: || during_delivery(OwnEngine::stop, &[]),
    },
    Case {
        id: "engine.containerd.running",
        fault: "kill -9 of containerd, which the engine starts again",
        step: "Codex runs",
        points: &[],
        run: containerd_dies,
    },
];

const WHOLE: Expected = Expected { states: &["completed"], reasons: &["completed"], patches: &["whole"] };
/// The engine ended the cell in the middle of its work.
const PARTIAL: Expected = Expected { states: &["interrupted"], reasons: &["interrupted"], patches: &["partial"] };
/// The engine ended the cell before its turn came: proven to be without changes.
const NOTHING: Expected = Expected { states: &["interrupted"], reasons: &["interrupted"], patches: &["empty"] };

fn away(live_restore: bool, fault: fn(&OwnEngine)) -> Row {
    let engine = OwnEngine::start(&product_image(), Options { live_restore, ..Options::default() });
    let world = World::product_on(&engine.host(), &[("ANCHORHOLD_ENGINE_MAX_RUNNING_JOBS", "1")]);
    let ended = world.detach(&quick_task());
    world.wait_for(&ended, |status| status["state"] == "completed");
    // Long enough to be met by the fault; where cells live on, also short enough to be waited for.
    let (waiting, running) = wait_on(&world, &slow_task(if live_restore { 8 } else { 60 }), &[&ended]);
    world.wait_until_it_ran(&running);
    let queued = world.detach(&quick_task());
    world.wait_for(&queued, |status| status["state"] == "queued");

    fault(&engine);
    says_that_it_is_away(&world, &running);
    engine.up();

    let told = outcome(waiting);
    let row = world.look(&running, if live_restore { &WHOLE } else { &PARTIAL });
    assert_eq!(told["job"]["state"], row.state.as_str(), "who waited was told something else: {told:#}");
    let other = world.look(&queued, if live_restore { &WHOLE } else { &NOTHING });
    world.look(&ended, &WHOLE);
    for job in [&running, &queued, &ended] {
        let (code, out, err) = world.run(&["consume", "--json", job], &[]);
        assert!(code.is_some(), "{out}{err}");
        assert_ne!(world.run(&["status", job], &[]).0, Some(0), "still there");
    }
    world.nothing_is_left();
    world.next_one_works();
    Row { note: format!("queued: {}/{}", other.state, other.patch), ..row }
}

/// The engine goes in the middle of an upload. Who delivers waits for it and says how that ended; nothing ran half.
fn during_delivery(fault: fn(&OwnEngine), points: &[(&str, &str)]) -> Row {
    let (engine, world) = if points.is_empty() {
        let engine = OwnEngine::start(&product_image(), Options::default());
        let world = World::product_on(&engine.host(), &[]);
        (engine, world)
    } else {
        let engine = OwnEngine::start(&weakened_image(), Options::default());
        let world = World::with_on(&engine.host(), &[]);
        (engine, world)
    };
    world.warm();
    world.repo.bash("for n in 1 2 3 4 5 6 7 8; do head -c 30000000 /dev/urandom >$n.bin; done; git add .; git commit -qm large");
    let child = world.spawn(&["delegate", "--json", "--", &quick_task()], points);
    let begun = std::time::Instant::now();
    let job = loop {
        let names = engine.docker(&["ps", "-a", "--filter", "status=created", "--filter", "label=anchorhold.job", "--format", "{{.Names}}"]);
        if let Some(job) = names.trim().strip_prefix("anchorhold-") {
            break job.to_owned();
        }
        assert!(begun.elapsed() < PATIENCE, "no job is being delivered");
    };
    fault(&engine);
    engine.up();
    let told = outcome(child);
    if told["ok"] == true {
        // An engine that ends in an orderly way may let an upload through first.
        return Row { note: "the delivery was through".to_owned(), ..world.aftermath(&job, &WHOLE) };
    }
    assert!(matches!(told["error"]["code"].as_str(), Some("engine_unavailable" | "engine_error")), "{told:#}");
    world.aftermath(&job, &Expected { states: &["failed"], reasons: &["failed"], patches: &["none"] })
}

fn containerd_dies() -> Row {
    let engine = OwnEngine::start(&product_image(), Options::default());
    let world = World::product_on(&engine.host(), &[]);
    let (waiting, job) = wait_on(&world, &slow_task(6), &[]);
    world.wait_until_it_ran(&job);
    engine.kill_containerd();
    let told = outcome(waiting);
    let row = world
        .aftermath(&job, &Expected { states: &["completed", "interrupted"], reasons: &["completed", "interrupted"], patches: &["whole", "partial"] });
    assert_eq!(told["job"]["state"], row.state.as_str(), "who waited was told something else: {told:#}");
    assert_eq!(engine.processes("containerd").len(), 1, "it was not started again");
    row
}

/// Starts a command that waits for its job, and finds the job.
fn wait_on(world: &World, task: &str, known: &[&String]) -> (Child, String) {
    #[expect(clippy::zombie_processes, reason = "who gets it waits for it, and where there is no job the test is over")]
    let child = world.spawn(&["delegate", "--json", "--", task], &[]);
    let begun = std::time::Instant::now();
    loop {
        if let Some(job) = world.jobs().into_iter().find(|job| !known.contains(&job)) {
            return (child, job);
        }
        assert!(begun.elapsed() < PATIENCE, "no job");
    }
}

/// What a command that waited printed in the end.
fn outcome(child: Child) -> Value {
    let out = child.wait_with_output().expect("it ends");
    assert!(out.status.code().is_some(), "it was killed");
    serde_json::from_slice(&out.stdout).unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&out.stdout)))
}

/// Commands say at once and in the same words that there is no engine.
fn says_that_it_is_away(world: &World, job: &str) {
    for arguments in [&["jobs", "--all", "--json"][..], &["status", "--json", job], &["cancel", "--json", job], &["delegate", "--json", "--", "x"]] {
        let (code, out, err) = world.run(arguments, &[]);
        let answer: Value = serde_json::from_str(&out).unwrap_or_else(|e| panic!("{arguments:?}: {e}: {out}{err}"));
        assert_eq!((code, answer["error"]["code"].as_str()), (Some(3), Some("engine_unavailable")), "{arguments:?}: {answer:#}");
        assert!(answer["error"]["hint"].as_str().is_some_and(|hint| !hint.is_empty()), "{answer:#}");
    }
}
