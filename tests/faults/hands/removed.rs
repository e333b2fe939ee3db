//! Containers, volumes and the gateway, removed by hand.

use std::time::{Duration, Instant};

use serde_json::json;

use super::{INTERRUPTED, UNHARMED, ended, endless, sleepy_task, there};
use crate::case::{Case, Row};
use crate::host::{NEVER_RAN, appears};
use crate::host_end::{CANCELLED_EARLY, Stopped};
use crate::processes::{signal, wait_until_stopped};
use crate::support::docker;
use crate::world::{Expected, World, job_id, quick_task};

const LOST: Expected = Expected { states: &["lost"], reasons: &["lost"], patches: &["lost"] };

pub const CASES: &[Case] = &[
    Case { id: "hands.rm.running", fault: "docker rm -f of the job", step: "Codex runs", points: &[], run: running },
    Case {
        id: "hands.rm.delivering",
        fault: "docker rm -f of the job",
        step: "it is being delivered, the gateway has not heard of it",
        points: &["deliver.admitting"],
        run: || removed_while_delivered(&World::with(&[])),
    },
    Case {
        id: "hands.rm.unheard",
        fault: "kill -9 of `delegate`, and docker rm -f of the job",
        step: "it is being delivered, the gateway has not heard of it",
        points: &["deliver.admitting"],
        run: || removed_and_nobody_knows(&World::with(&[])),
    },
    Case {
        id: "hands.rm.unheard_swept",
        fault: "kill -9 of `delegate`, and docker rm -f of the job, then gc, half a minute later",
        step: "it is being delivered, the gateway has not heard of it",
        points: &["deliver.admitting"],
        run: || {
            let world = World::with(&[]);
            let job = killed_and_removed(&world);
            sweep_leaves(&world, &job);
            world.aftermath(&job, &NEVER_RAN)
        },
    },
    Case {
        id: "hands.rm.between_looks",
        fault: "docker rm -f of the job, and one command says how it ended while another consumes it",
        step: "it is being delivered",
        points: &["deliver.prepared", "restore.looking"],
        run: || word_between_two_looks(&World::with(&[])),
    },
    Case {
        id: "hands.rm.before_the_word",
        fault: "docker rm -f of the job, while its deliverer is about to say so",
        step: "it is being delivered",
        points: &["deliver.prepared", "bury.undelivered"],
        run: || looked_at_before_the_word(&World::with(&[])),
    },
    Case { id: "hands.prune.ended", fault: "docker container prune", step: "ended", points: &[], run: pruned },
    Case {
        id: "hands.prune.tombstone",
        fault: "docker container prune",
        step: "cancelled before the start",
        points: &["deliver.prepared"],
        run: || tombstone_pruned(&World::with(&[])),
    },
    Case {
        id: "hands.prune.keyed",
        fault: "docker container prune, and a second start with the key",
        step: "ended",
        points: &[],
        run: || started_again_by_its_key(&World::product()),
    },
    Case { id: "hands.rm.twice", fault: "docker rm -f, and again when it was restored", step: "Codex runs", points: &[], run: twice },
    Case { id: "hands.rm.everything", fault: "docker rm -f and both volumes", step: "Codex runs", points: &[], run: everything },
    Case { id: "hands.rm.workspace", fault: "docker rm -f and the workspace's volume", step: "Codex runs", points: &[], run: workspace },
    Case { id: "hands.rm.workspace_ended", fault: "docker rm -f and the workspace's volume", step: "ended", points: &[], run: workspace_ended },
    Case { id: "hands.rm.gateway", fault: "docker rm -f of job and gateway", step: "Codex runs", points: &[], run: with_gateway },
    Case {
        id: "hands.rm.gateway_state",
        fault: "docker rm -f of job, gateway and its volumes",
        step: "Codex runs",
        points: &[],
        run: with_gateway_state,
    },
    Case { id: "hands.rm.swept", fault: "docker rm -f, then gc, half a minute later", step: "ended", points: &[], run: swept },
    Case { id: "hands.volume.used", fault: "docker volume rm -f", step: "Codex runs", points: &[], run: volume_in_use },
];

fn remove(job: &str) {
    let container = World::container(job);
    assert!(there(&container));
    docker(&["rm", "-f", &container]);
    assert!(!there(&container), "the fault did not happen");
}

fn remove_volume(job: &str, which: &str) {
    let name = format!("anchorhold-{job}-{which}");
    assert_eq!(docker(&["volume", "rm", "-f", &name]).trim(), name);
}

fn running() -> Row {
    let world = World::product();
    let job = endless(&world);
    remove(&job);
    // Several that look at once make one container.
    std::thread::scope(|scope| {
        let looks: Vec<_> = (0..3).map(|_| scope.spawn(|| world.status(&job))).collect();
        looks.into_iter().for_each(|look| drop(look.join().expect("each finds the job")));
    });
    let count = docker(&["ps", "-aq", "--filter", &format!("label=anchorhold.job={job}")]).lines().count();
    assert_eq!(count, 1, "restored {count} times");
    world.aftermath(&job, &INTERRUPTED)
}

/// Whoever delivers it leaves word of how it ended; until then it is not unknown.
pub fn removed_while_delivered(world: &World) -> Row {
    world.warm();
    let child = Stopped(world.spawn(&["delegate", "--json", "--", &quick_task()], &[("ANCHORHOLD_FAULT", "deliver.admitting=stop")]));
    let job = appears(world);
    wait_until_stopped(child.0.id());
    remove(&job);
    let mut asked = world.spawn(&["status", "--json", &job], &[]);
    // It finds nothing but volumes. One that does not wait for the deliverer's word has ended by then; whether it waits already makes no difference.
    let begun = Instant::now();
    while asked.try_wait().expect("it is ours").is_none() && begun.elapsed() < Duration::from_secs(2) {
        std::thread::sleep(Duration::from_millis(50));
    }
    signal(child.0.id(), "CONT");
    let told = asked.wait_with_output().expect("it ends");
    assert_eq!(told.status.code(), Some(0), "{}", String::from_utf8_lossy(&told.stdout));
    world.aftermath(&job, &NEVER_RAN)
}

/// A job that nobody can say anything of any more: whoever delivered it is gone, its container too, and the gateway never heard of it.
pub fn removed_and_nobody_knows(world: &World) -> Row {
    let job = killed_and_removed(world);
    world.aftermath(&job, &NEVER_RAN)
}

fn killed_and_removed(world: &World) -> String {
    // The gateway is older than the job, by more than clocks may differ, so that it can say for certain that it never heard of it.
    world.warm();
    std::thread::sleep(Duration::from_secs(2));
    let mut deliverer = Stopped(world.spawn(&["delegate", "--json", "--", &quick_task()], &[("ANCHORHOLD_FAULT", "deliver.admitting=stop")]));
    let job = appears(world);
    wait_until_stopped(deliverer.0.id());
    deliverer.0.kill().expect("it is ours");
    deliverer.0.wait().expect("it ends");
    remove(&job);
    job
}

/// Who saw no container, and then the word of a tombstone that somebody else had put up between the two, consumes the tombstone too.
pub fn word_between_two_looks(world: &World) -> Row {
    world.warm();
    let mut deliverer = Stopped(world.spawn(&["delegate", "--json", "--", &quick_task()], &[("ANCHORHOLD_FAULT", "deliver.prepared=stop")]));
    let job = appears(world);
    wait_until_stopped(deliverer.0.id());
    remove(&job);
    let begun = Instant::now();
    let mut consumer = Stopped(world.spawn(&["consume", "--json", &job], &[("ANCHORHOLD_FAULT", "restore.looking=stop")]));
    wait_until_stopped(consumer.0.id());
    let last = world.wait_for(&job, |status| status["result_available"] == true);
    let filter = format!("label=anchorhold.job={job}");
    assert_eq!(docker(&["volume", "ls", "-q", "--filter", &filter]).trim(), format!("anchorhold-{job}-word"), "its tombstone is up");
    signal(consumer.0.id(), "CONT");
    assert_ne!(consumer.0.wait().expect("it ends").code(), Some(9), "a job that was handed out is found");
    signal(deliverer.0.id(), "CONT");
    deliverer.0.wait().expect("it ends");
    let answered = begun.elapsed().as_secs_f64();
    let (code, gone, _) = world.run(&["status", "--json", &job], &[]);
    assert_ne!(code, Some(0), "still there after consume: {gone}");
    world.nothing_is_left();
    world.next_one_works();
    let text = |name: &str| last[name].as_str().unwrap_or("none").to_owned();
    Row { state: text("state"), reason: text("reason"), patch: "none".to_owned(), answered, note: String::new() }
}

/// A deliverer takes nothing away before it has said how its job ended.
pub fn looked_at_before_the_word(world: &World) -> Row {
    world.warm();
    let faults = [("ANCHORHOLD_FAULT", "deliver.prepared=stop,bury.undelivered=stop")];
    let mut deliverer = Stopped(world.spawn(&["delegate", "--json", "--", &quick_task()], &faults));
    let job = appears(world);
    wait_until_stopped(deliverer.0.id());
    remove(&job);
    signal(deliverer.0.id(), "CONT");
    std::thread::sleep(Duration::from_millis(300));
    wait_until_stopped(deliverer.0.id());
    let (code, out, err) = world.run(&["status", "--json", &job], &[]);
    assert_eq!(code, Some(0), "a job that was handed out is found: {out}{err}");
    signal(deliverer.0.id(), "CONT");
    deliverer.0.wait().expect("it ends");
    world.aftermath(&job, &NEVER_RAN)
}

/// What a prune of the whole engine removes, of this instance alone.
fn prune(world: &World, job: &str) {
    assert!(there(&World::container(job)));
    docker(&["container", "prune", "-f", "--filter", &format!("label=anchorhold.instance={}", world.env.instance())]);
    assert!(!there(&World::container(job)), "the fault did not happen");
}

/// How a job ended that never ran is known without its tombstone, also to its deliverer, who has nothing to add.
pub fn tombstone_pruned(world: &World) -> Row {
    world.warm();
    let mut deliverer = Stopped(world.spawn(&["delegate", "--json", "--", &quick_task()], &[("ANCHORHOLD_FAULT", "deliver.prepared=stop")]));
    let job = appears(world);
    wait_until_stopped(deliverer.0.id());
    let (code, out, err) = world.run(&["cancel", "--json", &job], &[]);
    assert_eq!(code, Some(0), "{out}{err}");
    prune(world, &job);
    signal(deliverer.0.id(), "CONT");
    deliverer.0.wait().expect("it ends");
    world.aftermath(&job, &CANCELLED_EARLY)
}

/// A key stands for its job for as long as that is kept, whoever removed its container.
pub fn started_again_by_its_key(world: &World) -> Row {
    let start = ["delegate", "--json", "--detach", "--idempotency-key", "k", "--", &quick_task()];
    let (code, out, err) = world.run(&start, &[]);
    assert_eq!(code, Some(0), "{out}{err}");
    let job = job_id(&out);
    world.wait_for(&job, |status| status["result_available"] == true);
    prune(world, &job);
    let (code, out, err) = world.run(&start, &[]);
    assert_eq!(code, Some(0), "{out}{err}");
    assert_eq!(job_id(&out), job, "one key, two jobs");
    world.aftermath(&job, &UNHARMED)
}

fn pruned() -> Row {
    let world = World::product();
    let job = ended(&world);
    prune(&world, &job);
    assert!(world.jobs().contains(&job), "a list finds it too, before anything else has looked");
    world.aftermath(&job, &UNHARMED)
}

fn twice() -> Row {
    let world = World::product();
    let job = endless(&world);
    remove(&job);
    world.wait_for(&job, |status| status["result_available"] == true);
    remove(&job);
    world.aftermath(&job, &INTERRUPTED)
}

fn everything() -> Row {
    let world = World::product();
    let job = endless(&world);
    remove(&job);
    remove_volume(&job, "workspace");
    remove_volume(&job, "job");
    // A list looks for volumes and asks no gateway, so it cannot tell of a job that has none; every other command can.
    let begun = Instant::now();
    let status = world.status(&job);
    let answered = begun.elapsed().as_secs_f64();
    assert_eq!((&status["state"], &status["reason"], &status["result_available"]), (&json!("lost"), &json!("lost"), &json!(true)), "{status:#}");
    assert!(status["detail"].as_str().is_some_and(|detail| detail.contains("removed from outside")), "{status:#}");
    let (_, out, err) = world.run(&["result", "--json", &job], &[]);
    assert!(out.contains("lost") && !out.contains("not_found"), "{out}{err}");
    world.gone_after_consume(&job);
    world.next_one_works();
    Row { state: "lost".into(), reason: "lost".into(), patch: "lost".into(), answered, note: String::new() }
}

fn workspace() -> Row {
    let world = World::product();
    let job = endless(&world);
    remove(&job);
    remove_volume(&job, "workspace");
    world.aftermath(&job, &LOST)
}

fn workspace_ended() -> Row {
    let world = World::product();
    let job = ended(&world);
    remove(&job);
    remove_volume(&job, "workspace");
    world.aftermath(&job, &UNHARMED)
}

fn with_gateway() -> Row {
    let world = World::product();
    let job = endless(&world);
    docker(&["rm", "-f", &world.env.gateway_name()]);
    remove(&job);
    world.aftermath(&job, &INTERRUPTED)
}

fn with_gateway_state() -> Row {
    let world = World::product();
    let (gateway, job) = (world.env.gateway_name(), endless(&world));
    remove(&job);
    docker(&["rm", "-f", &gateway]);
    docker(&["volume", "rm", "-f", &format!("{gateway}-socket"), &format!("{gateway}-state")]);
    // A new gateway that knows nothing of the job: not a reason to throw its work away.
    let (code, out, err) = world.run(&["delegate", "--json", "--", &sleepy_task(0)], &[]);
    assert_eq!(code, Some(0), "{out}{err}");
    assert_eq!(world.run(&["consume", &job_id(&out)], &[]).0, Some(0));
    world.aftermath(&job, &INTERRUPTED)
}

fn swept() -> Row {
    removed_then_swept(&World::product())
}

pub fn removed_then_swept(world: &World) -> Row {
    let job = ended(world);
    remove(&job);
    sweep_leaves(world, &job);
    world.aftermath(&job, &UNHARMED)
}

fn sweep_leaves(world: &World, job: &str) {
    // What belongs to nobody is swept at this age.
    std::thread::sleep(Duration::from_secs(32));
    let (code, out, err) = world.run(&["gc", "--json"], &[]);
    assert_eq!(code, Some(0), "{out}{err}");
    assert!(!out.contains(job), "the sweep took it: {out}");
}

fn volume_in_use() -> Row {
    let world = World::product();
    let job = world.detach(&sleepy_task(3));
    world.wait_until_it_ran(&job);
    for which in ["workspace", "job"] {
        // The engine keeps what a container uses.
        assert_eq!(docker(&["volume", "rm", "-f", &format!("anchorhold-{job}-{which}")]).trim(), "");
    }
    world.aftermath(&job, &UNHARMED)
}
