//! The disk of the engine's host is full: while a job is delivered, and while it runs. The engine's data root is a small file system of its own.

use crate::case::{Case, Row};
use crate::support::own_engine::{Options, OwnEngine};
use crate::support::rehearsal::{Step, task};
use crate::support::weakened::product_image;
use crate::world::{Expected, World, job_id, quick_task};

use serde_json::Value;

pub const CASES: &[Case] = &[
    Case { id: "engine.disk.delivery", fault: "the engine's disk is full", step: "upload", points: &[], run: full_before },
    Case { id: "engine.disk.running", fault: "the agent fills the engine's disk", step: "Codex runs", points: &[], run: agent_fills },
    Case {
        id: "engine.disk.neighbour",
        fault: "somebody else fills the engine's disk",
        step: "Codex runs, and the seal",
        points: &[],
        run: neighbour_fills,
    },
];

/// Room for a delivery, Codex's home, and the reserve of the seal; little more.
pub const BYTES: u64 = 512 << 20;

pub fn engine() -> (OwnEngine, World) {
    let engine = OwnEngine::start(&product_image(), Options { bytes: BYTES, ..Options::default() });
    let world = World::product_on(&engine.host(), &[("ANCHORHOLD_LIMITS_DISK", "8GiB"), ("ANCHORHOLD_ENGINE_AWAY_SECONDS", "10")]);
    world.warm();
    (engine, world)
}

/// Leaves this many kilobytes free.
pub fn fill(engine: &OwnEngine, kilobytes: u64) {
    let free = engine.inside("df --output=avail -k \"$DATA\" | tail -1", &[]);
    let free: u64 = free.trim().parse().expect("kilobytes");
    engine.inside(&format!("head -c {}k /dev/zero >\"$DATA/ballast\"", free.saturating_sub(kilobytes)), &[]);
}

pub fn free_again(engine: &OwnEngine) {
    engine.inside("rm -f \"$DATA/ballast\"", &[]);
}

fn full_before() -> Row {
    let (engine, world) = engine();
    world.repo.bash("head -c 3000000 /dev/urandom >random.bin; git add .; git commit -qm random");
    fill(&engine, 1024);
    let begun = std::time::Instant::now();
    let (code, out, err) = world.run(&["delegate", "--json", "--", &quick_task()], &[]);
    let answered = begun.elapsed().as_secs_f64();
    let answer: Value = serde_json::from_str(&out).unwrap_or_else(|e| panic!("{e}: {out}{err}"));
    let words = answer["error"].to_string();
    assert!(matches!(code, Some(3 | 5)), "{answer:#}");
    assert!(words.contains("no space left") || words.contains("disk"), "{answer:#}");
    assert_ne!(answer["no_changes"], true, "{answer:#}");
    free_again(&engine);
    let jobs = world.jobs();
    let row = match jobs.first() {
        Some(job) => {
            let row =
                world.look(job, &Expected { states: &["failed", "interrupted"], reasons: &["failed", "disk", "interrupted"], patches: &["none"] });
            world.run(&["consume", job], &[]);
            row
        }
        None => Row { state: "none".to_owned(), reason: "none".to_owned(), patch: "none".to_owned(), ..Row::default() },
    };
    world.nothing_is_left();
    world.next_one_works();
    Row { answered, note: format!("{}, exit {}", answer["error"]["code"], code.unwrap_or(-1)), ..row }
}

fn agent_fills() -> Row {
    let (_engine, world) = engine();
    let steps = [Step::Shell("echo ran >>once.txt"), Step::Shell("dd if=/dev/zero of=/job/home/big bs=1M; sleep 60"), Step::Say("done")];
    let (_, out, err) = world.run(&["delegate", "--json", "--", &task(&steps)], &[]);
    let answer: Value = serde_json::from_str(&out).unwrap_or_else(|e| panic!("{e}: {out}{err}"));
    assert_ne!(answer["no_changes"], true, "{answer:#}");
    world.aftermath(&job_id(&out), &Expected { states: &["failed"], reasons: &["disk"], patches: &["partial"] })
}

fn neighbour_fills() -> Row {
    let (engine, world) = engine();
    // What it adds after the disk is full fails; the job may end well or badly, but never without a word on what it did before.
    let steps = [Step::Shell("echo ran >>once.txt"), Step::Delay(4), Step::Shell("head -c 2000000 /dev/urandom >more.bin"), Step::Say("done")];
    let job = world.detach(&task(&steps));
    world.wait_until_it_ran(&job);
    fill(&engine, 0);
    let row = world.look(
        &job,
        &Expected {
            states: &["completed", "failed", "interrupted"],
            reasons: &["completed", "failed", "disk", "interrupted"],
            patches: &["partial"],
        },
    );
    free_again(&engine);
    world.gone_after_consume(&job);
    world.next_one_works();
    row
}
