//! The engine stops or dies while `init` unpacks and while it seals, its disk is full then, and it cannot end a removal. Each job is held at its step by a fault point.

use serde_json::Value;

use super::disk::{fill, free_again};
use crate::case::{Case, Row};
use crate::host::{NEVER_RAN, appears};
use crate::host_end::Stopped;
use crate::processes::{below, signal, wait_until_stopped};
use crate::support::own_engine::{Options, OwnEngine};
use crate::support::weakened::weakened_image;
use crate::world::{Expected, PATIENCE, World, job_id, quick_task};

const fn case(id: &'static str, fault: &'static str, step: &'static str, points: &'static [&'static str], run: fn() -> Row) -> Case {
    Case { id, fault, step, points, run }
}

pub const CASES: &[Case] = &[
    case("engine.stop.unpacking", "engine stopped, started again", "`init` unpacks", &["part.unpacking"], || unpacking(OwnEngine::stop)),
    case("engine.kill.unpacking", "kill -9 of the engine, started again", "`init` unpacks", &["part.unpacking"], || unpacking(OwnEngine::kill)),
    case("engine.stop.sealing", "engine stopped, started again", "`init` seals", &["part.sealing"], || sealing(OwnEngine::stop)),
    case("engine.kill.sealing", "kill -9 of the engine, started again", "`init` seals", &["part.sealing"], || sealing(OwnEngine::kill)),
    case("engine.rm.marked", "docker rm -f fails halfway, and again", "before the start", &["deliver.prepared", "bury.marked"], || marked(&[])),
    case(
        "engine.rm.slow",
        "the engine takes long to remove a container",
        "consumed, and swept at the same time",
        &["consume.renamed", "gc.listed"],
        || removed_by_two(&[]),
    ),
    case("engine.disk.unpacking", "the engine's disk is full", "`init` unpacks", &[], disk_unpacking),
    case("engine.disk.sealing", "the engine's disk is full", "`init` seals", &["part.sealing"], disk_sealing),
];

/// The agent never ran on a whole tree: nothing is said about changes.
const UNSAID: Expected = Expected { states: &["interrupted"], reasons: &["interrupted"], patches: &["none"] };
/// Codex was through. An engine that kills its cells ends the seal, and a second start makes it; one that only asks for their end lets it through.
const SEALED: Expected = Expected { states: &["interrupted", "completed"], reasons: &["interrupted", "completed"], patches: &["whole"] };
const FULL: Expected = Expected { states: &["failed"], reasons: &["disk"], patches: &["none"] };
const WHOLE: Expected = Expected { states: &["completed"], reasons: &["completed"], patches: &["whole"] };
/// Milliseconds: far longer than an engine takes to end its cells.
const LONG: u32 = 120_000;
/// Milliseconds: longer than it takes to fill a small disk.
const SHORTLY: u32 = 15_000;

/// A job that its own engine's `init` holds at a step; the state that the product gives to it then.
fn held(options: Options, point: &str, ms: u32, state: &str) -> (OwnEngine, World, String) {
    let engine = OwnEngine::start(&weakened_image(), options);
    let world = World::with_on(&engine.host(), &[]);
    world.warm();
    let fault = format!("{point}=wait:{ms}");
    let (code, out, err) = world.run(&["delegate", "--detach", "--json", "--", &quick_task()], &[("ANCHORHOLD_FAULT_JOB", &fault)]);
    assert_eq!(code, Some(0), "{out}{err}");
    let job = job_id(&out);
    world.wait_for(&job, |status| status["state"] == state);
    // The part is a process of its own, the same binary started once more.
    let begun = std::time::Instant::now();
    while !below(engine.first()).iter().any(|(_, line)| line.starts_with("/proc/self/exe")) {
        assert!(begun.elapsed() < PATIENCE, "no part of `init` runs");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    (engine, world, job)
}

fn away(point: &str, state: &str, fault: fn(&OwnEngine), expected: &Expected) -> Row {
    let (engine, world, job) = held(Options::default(), point, LONG, state);
    fault(&engine);
    engine.up();
    world.aftermath(&job, expected)
}

fn unpacking(fault: fn(&OwnEngine)) -> Row {
    away("part.unpacking", "preparing", fault, &UNSAID)
}

fn sealing(fault: fn(&OwnEngine)) -> Row {
    away("part.sealing", "sealing", fault, &SEALED)
}

/// A removal that the engine has begun and cannot end yet: it takes no start of that container any more, and still shows it.
pub fn marked(variables: &[(&str, &str)]) -> Row {
    let engine = OwnEngine::start(&weakened_image(), Options::default());
    let world = World::with_on(&engine.host(), variables);
    world.warm();
    let faults = [("ANCHORHOLD_FAULT", "deliver.prepared=stop,bury.marked=stop")];
    let mut deliverer = Stopped(world.spawn(&["delegate", "--json", "--", &quick_task()], &faults));
    let job = appears(&world);
    wait_until_stopped(deliverer.0.id());
    let container = World::container(&job);
    let of_it = |format: &str| engine.docker(&["inspect", "-f", format, &container]).trim().to_owned();
    let held = format!("\"$DATA/containers/{}/held\"", of_it("{{.Id}}"));
    engine.inside(&format!("touch {held}; chattr +i {held}"), &[]);
    engine.docker(&["rm", "-f", &container]);
    assert_eq!(of_it("{{.State.Status}}"), "dead", "the fault did not happen");
    signal(deliverer.0.id(), "CONT");
    std::thread::sleep(std::time::Duration::from_millis(300));
    wait_until_stopped(deliverer.0.id());
    engine.inside(&format!("chattr -i {held}"), &[]);
    engine.docker(&["rm", "-f", &container]);
    assert_eq!(of_it("{{.Id}}"), "", "it is gone");
    signal(deliverer.0.id(), "CONT");
    deliverer.0.wait().expect("it ends");
    world.aftermath(&job, &NEVER_RAN)
}

/// Of two that remove what was consumed one finds the other at it, and waits: until the container is gone its volumes are in use.
pub fn removed_by_two(variables: &[(&str, &str)]) -> Row {
    let engine = OwnEngine::start(&weakened_image(), Options::default());
    let world = World::with_on(&engine.host(), variables);
    let job = world.detach(&quick_task());
    let row = world.look(&job, &WHOLE);
    let id = engine.docker(&["inspect", "-f", "{{.Id}}", &World::container(&job)]);
    // What the engine has to remove one by one.
    engine.inside(&format!("mkdir \"$DATA/containers/{0}/many\"; cd \"$DATA/containers/{0}/many\"; seq 100000 | xargs touch", id.trim()), &[]);
    let mut consumer = Stopped(world.spawn(&["consume", "--json", &job], &[("ANCHORHOLD_FAULT", "consume.renamed=stop")]));
    wait_until_stopped(consumer.0.id());
    let sweep = world.spawn(&["gc", "--json"], &[("ANCHORHOLD_FAULT", "gc.listed=stop")]);
    wait_until_stopped(sweep.id());
    signal(consumer.0.id(), "CONT");
    signal(sweep.id(), "CONT");
    let swept = sweep.wait_with_output().expect("it ends");
    assert!(consumer.0.wait().expect("it ends").success());
    let told: Value = serde_json::from_slice(&swept.stdout).expect("a report");
    assert_eq!((swept.status.code(), &told["report"]["problems"]), (Some(0), &serde_json::json!([])), "a problem that is none: {told:#}");
    assert_eq!(told["report"]["finished_consumes"], serde_json::json!([job]), "it did not happen: {told:#}");
    world.nothing_is_left();
    world.next_one_works();
    row
}

/// A tree that packs well: its delivery has room, and what comes out of it has not.
fn disk_unpacking() -> Row {
    let (engine, world) = super::disk::engine();
    world.repo.bash("head -c 150000000 /dev/zero >zeros.bin; git add .; git commit -qm zeros");
    fill(&engine, 60 << 10);
    let (code, out, err) = world.run(&["delegate", "--json", "--", &quick_task()], &[]);
    let answer: Value = serde_json::from_str(&out).unwrap_or_else(|e| panic!("{e}: {out}{err}"));
    assert!(code != Some(0) && answer["no_changes"] != true, "{answer:#}");
    let row = world.look(&job_id(&out), &FULL);
    world.gone_after_consume(&job_id(&out));
    free_again(&engine);
    world.repo.bash("git rm -q zeros.bin; git commit -qm small");
    world.next_one_works();
    row
}

/// The seal meets the full disk: it makes room from what it does not need.
fn disk_sealing() -> Row {
    let (engine, world, job) = held(Options { bytes: super::disk::BYTES, ..Options::default() }, "part.sealing", SHORTLY, "sealing");
    fill(&engine, 0);
    assert_eq!(world.status(&job)["state"], "sealing", "it was through before the disk was full");
    let row = world.look(&job, &WHOLE);
    free_again(&engine);
    world.gone_after_consume(&job);
    world.next_one_works();
    row
}
