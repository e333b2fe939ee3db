//! kill -9 of a process of ours on the host, at each step of reading, cancelling, burying, sealing again, consuming and sweeping.

use serde_json::json;

use crate::case::{Case, Row};
use crate::host::{NEVER_RAN, UNHARMED, appears, killed};
use crate::mcp::Server;
use crate::processes::{signal, wait_until_stopped};
use crate::support::docker;
use crate::world::{Expected, World, quick_task, slow_task};

/// Sealed by a second start: what was done until the kill is there.
pub const INTERRUPTED: Expected = Expected { states: &["interrupted"], reasons: &["interrupted"], patches: &["partial"] };
const CANCELLED: Expected = Expected { states: &["cancelled"], reasons: &["cancelled"], patches: &["partial", "empty"] };
pub const CANCELLED_EARLY: Expected = Expected { states: &["cancelled"], reasons: &["cancelled"], patches: &["none"] };

const fn read(id: &'static str, step: &'static str, points: &'static [&'static str], run: fn() -> Row) -> Case {
    Case { id, fault: "kill -9 of `result`", step, points, run }
}

const fn consume(id: &'static str, step: &'static str, points: &'static [&'static str], run: fn() -> Row) -> Case {
    Case { id, fault: "kill -9 of `consume`", step, points, run }
}

pub const CASES: &[Case] = &[
    read("host.collect.downloading", "before the download", &["collect.downloading"], || reader("result", "collect.downloading")),
    read("host.collect.downloaded", "all is downloaded", &["collect.downloaded"], || reader("result", "collect.downloaded")),
    read("host.collect.opened", "the patch is made", &["collect.opened"], || reader("result", "collect.opened")),
    Case {
        id: "host.diff.opened",
        fault: "kill -9 of `diff`",
        step: "the patch is made",
        points: &["collect.opened"],
        run: || reader("diff", "collect.opened"),
    },
    consume("host.consume.collected", "before the claim", &["consume.collected"], || reader("consume", "consume.collected")),
    consume("host.consume.claimed", "the job is claimed, nothing is shown", &["consume.claimed"], || reader("consume", "consume.claimed")),
    consume("host.consume.shown", "the result is shown, the job untouched", &["consume.shown"], || reader("consume", "consume.shown")),
    consume("host.consume.renamed", "the job is taken away", &["consume.renamed"], || consumer("consume.renamed")),
    consume("host.consume.container", "the container is removed", &["remove.container"], || consumer("remove.container")),
    consume("host.consume.volume", "one volume is removed", &["remove.volume"], || consumer("remove.volume")),
    consume("host.consume.pass", "the pass is revoked", &["remove.pass"], || consumer("remove.pass")),
    Case {
        id: "host.consume.held",
        fault: "SIGSTOP of `consume`, later SIGCONT",
        step: "the job is claimed, others consume and sweep",
        points: &["consume.claimed"],
        run: held,
    },
    Case {
        id: "host.consume.gateway",
        fault: "kill -9 of `consume`, and of the gateway",
        step: "the job is claimed, nothing is shown",
        points: &["consume.claimed"],
        run: claimed_and_no_gateway,
    },
    Case {
        id: "host.consume.mcp",
        fault: "kill -9 of the MCP server",
        step: "the job is claimed, nothing is answered",
        points: &["consume.claimed"],
        run: consumed_over_mcp,
    },
    Case {
        id: "host.cancel.seen",
        fault: "kill -9 of `cancel`",
        step: "before the signal",
        points: &["cancel.seen"],
        run: || cancelling("cancel.seen", 30, &UNHARMED),
    },
    Case {
        id: "host.cancel.late",
        fault: "SIGSTOP of `cancel`, later SIGCONT",
        step: "it has seen a job that had not started; by now that has run and ended",
        points: &["cancel.seen", "deliver.prepared"],
        run: || cancelled_too_late(&World::with(&[])),
    },
    Case {
        id: "host.cancel.signalled",
        fault: "kill -9 of `cancel`",
        step: "after the signal",
        points: &["cancel.signalled"],
        run: || cancelling("cancel.signalled", 60, &CANCELLED),
    },
    Case {
        id: "host.bury.made",
        fault: "kill -9 of `cancel` before the start",
        step: "the tombstone is made, the job still there",
        points: &["bury.made", "deliver.prepared"],
        run: || burying("bury.made", &NEVER_RAN),
    },
    Case {
        id: "host.bury.claimed",
        fault: "kill -9 of `cancel` before the start",
        step: "the job is taken away, the tombstone not yet put up",
        points: &["bury.claimed", "deliver.prepared"],
        run: || burying("bury.claimed", &CANCELLED_EARLY),
    },
    Case {
        id: "host.bury.named",
        fault: "kill -9 of `cancel` before the start",
        step: "the tombstone stands, the rest is not removed",
        points: &["bury.named", "deliver.prepared"],
        run: || burying("bury.named", &CANCELLED_EARLY),
    },
    Case {
        id: "host.seal.before_start",
        fault: "kill -9 of `status` that seals a dead job",
        step: "before the second start",
        points: &["seal.before_start"],
        run: || sealing("seal.before_start"),
    },
    Case {
        id: "host.seal.started",
        fault: "kill -9 of `status` that seals a dead job",
        step: "after the second start",
        points: &["seal.started"],
        run: || sealing("seal.started"),
    },
    Case {
        id: "host.gc.listed",
        fault: "kill -9 of `gc`",
        step: "all is listed",
        points: &["gc.listed", "consume.renamed"],
        run: || sweeping("gc.listed"),
    },
    Case {
        id: "host.gc.removed",
        fault: "kill -9 of `gc`",
        step: "containers are removed",
        points: &["gc.removed", "consume.renamed"],
        run: || sweeping("gc.removed"),
    },
    Case {
        id: "host.gc.swept",
        fault: "kill -9 of `gc`",
        step: "before the passes",
        points: &["gc.swept", "consume.renamed"],
        run: || sweeping("gc.swept"),
    },
];

/// A reader dies and the job stays.
fn reader(verb: &str, point: &str) -> Row {
    let world = World::with(&[]);
    let job = world.detach(&quick_task());
    world.wait_for(&job, |status| status["result_available"] == true);
    killed(&world, &[verb, "--json", &job], point);
    world.aftermath(&job, &UNHARMED)
}

/// The job was taken away: it is gone, and whoever comes by removes the rest.
fn consumer(point: &str) -> Row {
    let world = World::with(&[]);
    let job = world.detach(&quick_task());
    world.wait_for(&job, |status| status["result_available"] == true);
    killed(&world, &["consume", "--json", &job], point);
    is_gone(&world, &job)
}

/// The one who has it lives: the others find nothing to consume, a sweep leaves it, and everybody may still look.
fn held() -> Row {
    let world = World::with(&[("ANCHORHOLD_RETENTION_TTL_SECONDS", "1")]);
    let job = world.detach(&quick_task());
    world.wait_for(&job, |status| status["result_available"] == true);
    let first = world.spawn(&["consume", "--json", &job], &[("ANCHORHOLD_FAULT", "consume.claimed=stop")]);
    wait_until_stopped(first.id());
    nobody_else_consumes(&world, &job);
    std::thread::sleep(std::time::Duration::from_millis(1200));
    let (code, out, err) = world.run(&["gc", "--json"], &[]);
    assert!(code == Some(0) && !out.contains(&job), "a sweep took what somebody is consuming: {out}{err}");
    let last = world.status(&job);
    assert_eq!((&last["state"], &last["result_available"]), (&json!("completed"), &json!(true)));
    signal(first.id(), "CONT");
    let shown = first.wait_with_output().expect("it ends");
    let result: serde_json::Value = serde_json::from_slice(&shown.stdout).expect("one document");
    assert_eq!((shown.status.code(), &result["job"]["state"]), (Some(0), &json!("completed")), "{result:#}");
    is_gone(&world, &job)
}

/// For everybody but the one who has it there is no job to consume, and they are told why.
pub fn nobody_else_consumes(world: &World, job: &str) {
    let (code, out, err) = world.run(&["consume", "--json", job], &[]);
    let told: serde_json::Value = serde_json::from_str(&out).unwrap_or_default();
    assert_eq!((code, &told["error"]["code"]), (Some(9), &json!("job_not_found")), "two got it: {out}{err}");
    assert!(out.contains("another process is consuming"), "{out}{err}");
}

/// The claim is in the gateway's volume, and the next gateway knows that its holder is dead as well as this one does.
fn claimed_and_no_gateway() -> Row {
    let world = World::with(&[]);
    let job = world.detach(&quick_task());
    world.wait_for(&job, |status| status["result_available"] == true);
    killed(&world, &["consume", "--json", &job], "consume.claimed");
    docker(&["kill", "-s", "KILL", &world.env.gateway_name()]);
    docker(&["start", &world.env.gateway_name()]);
    world.aftermath(&job, &UNHARMED)
}

fn consumed_over_mcp() -> Row {
    let world = World::with(&[]);
    let job = world.detach(&quick_task());
    world.wait_for(&job, |status| status["result_available"] == true);
    let mut server = Server::open(&world, &[("ANCHORHOLD_FAULT", "consume.claimed")]);
    assert_eq!(server.call("codex_job_consume_result", &json!({"job_id": job})), None, "it was not killed");
    world.aftermath(&job, &UNHARMED)
}

/// The job cannot be found, and nothing of it is left.
fn is_gone(world: &World, job: &str) -> Row {
    let begun = std::time::Instant::now();
    let (code, out, err) = world.run(&["status", "--json", job], &[]);
    let answered = begun.elapsed().as_secs_f64();
    assert!(code != Some(0) && format!("{out}{err}").contains("job_not_found"), "{out}{err}");
    assert_eq!(world.jobs(), Vec::<String>::new());
    world.nothing_is_left();
    world.next_one_works();
    Row { state: "consumed".into(), reason: "none".into(), patch: "none".into(), answered, note: String::new() }
}

fn cancelling(point: &str, seconds: u64, expected: &Expected) -> Row {
    let world = World::with(&[]);
    let job = world.detach(&slow_task(seconds));
    world.wait_until_it_ran(&job);
    killed(&world, &["cancel", "--json", &job], point);
    world.aftermath(&job, expected)
}

/// A process cancels a job that another one is about to start, and dies; then the other one dies, too.
fn burying(point: &str, expected: &Expected) -> Row {
    bury_and_die(&World::with(&[]), point, expected)
}

/// A stopped process that does not outlive a failed case.
pub struct Stopped(pub std::process::Child);

impl Drop for Stopped {
    fn drop(&mut self) {
        signal(self.0.id(), "KILL");
        let _ = self.0.wait();
    }
}

/// What has run is not said to have never run, and its work stays.
pub fn cancelled_too_late(world: &World) -> Row {
    let mut delegate = Stopped(world.spawn(&["delegate", "--json", "--", &quick_task()], &[("ANCHORHOLD_FAULT", "deliver.prepared=stop")]));
    let job = appears(world);
    wait_until_stopped(delegate.0.id());
    let mut cancel = Stopped(world.spawn(&["cancel", "--json", &job], &[("ANCHORHOLD_FAULT", "cancel.seen=stop")]));
    wait_until_stopped(cancel.0.id());
    signal(delegate.0.id(), "CONT");
    delegate.0.wait().expect("it ends");
    signal(cancel.0.id(), "CONT");
    cancel.0.wait().expect("it ends");
    world.aftermath(&job, &UNHARMED)
}

pub fn bury_and_die(world: &World, point: &str, expected: &Expected) -> Row {
    let child = Stopped(world.spawn(&["delegate", "--json", "--", &quick_task()], &[("ANCHORHOLD_FAULT", "deliver.prepared=stop")]));
    let job = appears(world);
    wait_until_stopped(child.0.id());
    killed(world, &["cancel", "--json", &job], point);
    let state = world.status(&job)["state"].clone();
    let alive = if expected.states == NEVER_RAN.states { json!("preparing") } else { json!("cancelled") };
    assert_eq!(state, alive, "the one who delivers it lives");
    drop(child);
    world.aftermath(&job, expected)
}

fn sealing(point: &str) -> Row {
    let world = World::with(&[]);
    let job = world.detach(&slow_task(60));
    world.wait_until_it_ran(&job);
    docker(&["kill", "-s", "KILL", &World::container(&job)]);
    killed(&world, &["status", "--json", &job], point);
    world.aftermath(&job, &INTERRUPTED)
}

/// A sweep dies over what a consume left that had died itself.
fn sweeping(point: &str) -> Row {
    let world = World::with(&[]);
    let job = world.detach(&quick_task());
    world.wait_for(&job, |status| status["result_available"] == true);
    killed(&world, &["consume", "--json", &job], "consume.renamed");
    killed(&world, &["gc", "--json"], point);
    is_gone(&world, &job)
}
