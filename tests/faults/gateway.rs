//! What is done to the gateway from outside: killed, restarted, removed, stopped, its state lost, its disk full; at each step of a job's life.

use std::process::Command;
use std::time::Instant;

use serde_json::{Value, json};

use crate::account;
use crate::case::{Case, Row};
use crate::support::docker;
use crate::support::rehearsal::{Step, task};
use crate::world::{Expected, PATIENCE, World, job_id, quick_task, slow_task};

const UNHARMED: Expected = Expected { states: &["completed"], reasons: &["completed"], patches: &["whole"] };
const GONE: Expected = Expected { states: &["failed"], reasons: &["provider_unreachable"], patches: &["partial"] };

const fn case(id: &'static str, fault: &'static str, step: &'static str, run: fn() -> Row) -> Case {
    Case { id, fault, step, points: &[], run }
}

pub const CASES: &[Case] = &[
    case("gateway.kill9.running", "kill -9 of the gateway", "in mid-answer", || running(&[], kill9, &UNHARMED, true)),
    case("gateway.kill9.loop", "kill -9 of the gateway, five times", "in mid-answer", killed_again_and_again),
    case("gateway.kill9.queued", "kill -9 of the gateway", "queued", || queued(kill9)),
    case("gateway.kill9.ended", "kill -9 of the gateway", "ended", || ended(kill9)),
    case("gateway.kill.revived", "docker kill, the next command starts it", "in mid-answer", || running(&[], kill_and_revive, &UNHARMED, true)),
    case("gateway.kill.for_good", "docker kill, nobody starts it", "in mid-answer", || running(&SHORT, kill, &GONE, false)),
    case("gateway.kill.ended", "docker kill", "ended", || ended(kill)),
    case("gateway.restart.running", "docker restart", "in mid-answer", || running(&[], restart, &UNHARMED, true)),
    case("gateway.restart.queued", "docker restart", "queued", || queued(restart)),
    case("gateway.rm.before", "docker rm -f of the gateway", "before admission", removed_before),
    case("gateway.rm.running", "docker rm -f, made again by the next", "in mid-answer", || running(&[], remove_and_revive, &UNHARMED, true)),
    case("gateway.rm.ended", "docker rm -f of the gateway", "ended", || ended(remove)),
    case("gateway.state.running", "the gateway's state is lost", "in mid-answer", state_lost_while_running),
    case("gateway.state.ended", "the gateway's state is lost", "ended", || ended(lose_state)),
    case("gateway.stop.running", "SIGSTOP of the gateway", "in mid-answer", || running(&SHORT, stop, &GONE, false)),
    case("gateway.stop.moment", "SIGSTOP for a moment", "in mid-answer", || running(&[], stop_for_a_moment, &UNHARMED, true)),
    case("gateway.stop.before", "SIGSTOP of the gateway", "before admission", stopped_before),
    case("gateway.disk.before", "the gateway's disk is full", "before admission", disk_full_before),
    case("gateway.disk.running", "the gateway's disk is full", "in mid-answer", disk_full_while_running),
];

/// A job does not wait long for a gateway.
const SHORT: [(&str, &str); 1] = [("ANCHORHOLD_GATEWAY_GONE_SECONDS", "5")];

fn signal(world: &World, signal: &str) {
    let begun = Instant::now();
    let pid = loop {
        // While the engine starts it again it has none, and 0 would mean ourselves.
        let pid = World::first_process(&world.env.gateway_name());
        if pid > 1 {
            break pid.to_string();
        }
        assert!(begun.elapsed() < PATIENCE, "the gateway does not run");
        std::thread::sleep(std::time::Duration::from_millis(50));
    };
    let done = process("kill", world).args([signal, &pid]).status().expect("kill runs");
    assert!(done.success(), "kill {signal} {pid}");
}

fn process(program: &str, world: &World) -> Command {
    anchorhold::process::command(program, world.repo.path())
}

pub fn kill9(world: &World) {
    let before = account::restarts(world);
    signal(world, "-KILL");
    let begun = Instant::now();
    while account::restarts(world) == before {
        assert!(begun.elapsed() < PATIENCE, "the engine does not start it again");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}

fn kill(world: &World) {
    docker(&["kill", &world.env.gateway_name()]);
}

fn kill_and_revive(world: &World) {
    kill(world);
    world.warm();
}

fn restart(world: &World) {
    docker(&["restart", "-t", "1", &world.env.gateway_name()]);
}

fn remove(world: &World) {
    docker(&["rm", "-f", &world.env.gateway_name()]);
}

fn remove_and_revive(world: &World) {
    remove(world);
    world.warm();
}

fn lose_state(world: &World) {
    remove(world);
    docker(&["volume", "rm", &format!("{}-state", world.env.gateway_name())]);
}

fn stop(world: &World) {
    signal(world, "-STOP");
}

fn stop_for_a_moment(world: &World) {
    stop(world);
    std::thread::sleep(std::time::Duration::from_secs(4));
    signal(world, "-CONT");
}

/// Waits until the agent has changed a file and the model thinks about what comes next.
fn in_mid_answer(world: &World, job: &str) {
    world.wait_for(job, |status| status["answers"].as_u64() >= Some(1));
    let begun = Instant::now();
    while account::ask(world, &json!({"op": "status"})).is_none_or(|status| status["under_way"] != 1) {
        assert!(begun.elapsed() < PATIENCE, "no request under way");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}

/// A job in the middle of an answer; `lives`: a gateway is there afterwards without anybody's doing.
fn running(variables: &[(&str, &str)], deed: fn(&World), expected: &Expected, lives: bool) -> Row {
    let world = World::product_with(variables);
    world.warm();
    let job = world.detach(&slow_task(10));
    in_mid_answer(&world, &job);
    assert_eq!(account::slots_in_use(&world), Some(1));
    deed(&world);
    let begun = Instant::now();
    world.wait_for(&job, |status| status["result_available"] == true);
    let took = begun.elapsed().as_secs();
    let detail = world.status(&job)["detail"].as_str().unwrap_or_default().to_owned();
    if !lives {
        // What nobody mends, the user does.
        docker(&["restart", "-t", "1", &world.env.gateway_name()]);
    }
    account::every_slot_is_free(&world);
    account::the_chain_holds(&world);
    let mut row = world.aftermath(&job, expected);
    account::the_chain_holds(&world);
    row.note = format!("ended {took} s after; {detail}");
    row
}

/// A gateway that dies again and again: the engine waits longer each time, the job goes on.
fn killed_again_and_again() -> Row {
    running(&[], |world| (0..5).for_each(|_| kill9(world)), &UNHARMED, true)
}

/// Watches two jobs until both have ended, one after the other.
pub fn one_after_the_other(world: &World, first: &str, second: &str) {
    loop {
        // The one that had the slot keeps it.
        let (waits, runs) = (world.status(second), world.status(first));
        if runs["result_available"] == true {
            break;
        }
        assert!(waits["state"] == "queued" || world.status(first)["state"] != "running", "both at once: {waits:#} {runs:#}");
        std::thread::sleep(std::time::Duration::from_millis(300));
    }
    world.wait_for(second, |status| status["result_available"] == true);
}

/// One job runs and one waits behind it: both complete, one after the other.
fn queued(deed: fn(&World)) -> Row {
    let world = World::product_with(&[("ANCHORHOLD_ENGINE_MAX_RUNNING_JOBS", "1")]);
    let first = world.detach(&slow_task(12));
    in_mid_answer(&world, &first);
    let second = world.detach(&quick_task());
    world.wait_for(&second, |status| status["state"] == "queued");
    deed(&world);
    one_after_the_other(&world, &first, &second);
    let (code, out, err) = world.run(&["consume", &first], &[]);
    assert_eq!(code, Some(0), "{out}{err}");
    account::every_slot_is_free(&world);
    account::the_chain_holds(&world);
    world.aftermath(&second, &UNHARMED)
}

/// The job has ended; its result needs no gateway that lives.
fn ended(deed: fn(&World)) -> Row {
    let world = World::product_with(&[]);
    let job = world.detach(&quick_task());
    world.wait_for(&job, |status| status["result_available"] == true);
    account::every_slot_is_free(&world);
    deed(&world);
    let row = world.aftermath(&job, &UNHARMED);
    account::the_chain_holds(&world);
    account::every_slot_is_free(&world);
    row
}

fn removed_before() -> Row {
    let world = World::product_with(&[]);
    world.warm();
    remove(&world);
    let job = world.detach(&quick_task());
    world.wait_for(&job, |status| status["result_available"] == true);
    account::the_chain_holds(&world);
    world.aftermath(&job, &UNHARMED)
}

fn state_lost_while_running() -> Row {
    let expected = Expected { states: &["failed"], reasons: &["failed", "provider_unreachable"], patches: &["partial"] };
    running(
        &[],
        |world| {
            lose_state(world);
            world.warm();
        },
        &expected,
        true,
    )
}

/// No command hangs, what it says is clear, and nothing is left of it.
fn stopped_before() -> Row {
    let world = World::product_with(&[]);
    world.warm();
    stop(&world);
    let begun = Instant::now();
    let (code, out, err) = world.run(&["delegate", "--json", "--", &quick_task()], &[]);
    let answered = begun.elapsed().as_secs_f64();
    let row = refused(&world, code, &format!("{out}{err}"), answered);
    for arguments in [&["jobs", "--json"][..], &["gc", "--json"], &["doctor", "--json"]] {
        world.run(arguments, &[]);
    }
    signal(&world, "-CONT");
    world.nothing_is_left();
    world.next_one_works();
    row
}

/// A delegation that could not begin says so with a code.
fn refused(world: &World, code: Option<i32>, text: &str, answered: f64) -> Row {
    assert!(code.is_some_and(|code| code != 0), "{text}");
    assert!(text.contains("gateway_unavailable"), "{text}");
    for job in world.jobs() {
        let status = world.wait_for(&job, |status| status["result_available"] == true || status["state"] == "failed");
        assert_eq!(status["state"], "failed", "{status:#}");
        world.run(&["consume", &job], &[]);
    }
    Row { state: "failed".to_owned(), reason: "failed".to_owned(), patch: "none".to_owned(), answered, note: "gateway_unavailable".to_owned() }
}

/// A world whose gateway has a state volume of this many KiB.
fn small_disk(kib: u32) -> World {
    let world = World::product_with(&[]);
    let gateway = world.env.gateway_name();
    docker(&[
        "volume",
        "create",
        "--label",
        &format!("anchorhold.gateway={gateway}"),
        "--opt",
        "type=tmpfs",
        "--opt",
        "device=tmpfs",
        "--opt",
        &format!("o=size={kib}k,uid=20000,gid=0,mode=0700"),
        &format!("{gateway}-state"),
    ]);
    world.warm();
    world
}

fn in_gateway(world: &World, script: &str) {
    docker(&["exec", "-u", "20000:0", &world.env.gateway_name(), "/bin/sh", "-c", script]);
}

const FILL: &str = "cat /dev/zero >/var/lib/anchorhold/ballast 2>/dev/null; true";

fn disk_full_before() -> Row {
    let world = small_disk(1024);
    in_gateway(&world, FILL);
    let begun = Instant::now();
    let (code, out, err) = world.run(&["delegate", "--json", "--", &quick_task()], &[]);
    let row = refused(&world, code, &format!("{out}{err}"), begun.elapsed().as_secs_f64());
    in_gateway(&world, "rm /var/lib/anchorhold/ballast");
    account::the_chain_holds(&world);
    world.nothing_is_left();
    world.next_one_works();
    row
}

/// Requests that could not be written down are not sent; when there is room again, the job goes on.
fn disk_full_while_running() -> Row {
    let world = small_disk(1024);
    let program = task(&[Step::Shell("echo ran >>once.txt; sleep 6"), Step::Shell("echo done >done.txt"), Step::Say("done")]);
    let (code, out, err) = world.run(&["delegate", "--detach", "--json", "--", &program], &[]);
    assert_eq!(code, Some(0), "{out}{err}");
    let job = job_id(&out);
    world.wait_for(&job, |status| status["answers"].as_u64() >= Some(1));
    in_gateway(&world, FILL);
    let sent = |world: &World| account::ask(world, &json!({"op": "job", "job_id": job})).unwrap_or(Value::Null)["answers"].clone();
    std::thread::sleep(std::time::Duration::from_secs(9));
    assert_eq!(sent(&world), 1, "a request was sent that could not be written down");
    in_gateway(&world, "rm /var/lib/anchorhold/ballast");
    world.wait_for(&job, |status| status["result_available"] == true);
    account::every_slot_is_free(&world);
    account::the_chain_holds(&world);
    world.aftermath(&job, &UNHARMED)
}
