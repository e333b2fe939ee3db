//! Many delegations at once with faults at random, on one and the same repository: whatever happens to a job, its patch is one of the few that are
//! possible, byte for byte, and in the end nothing is left.
//!
//! `JOBS` and `AT_ONCE` size it (`make soak`: 500 and 8), `SEED` repeats its choices.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::contest::{Answer, Random, answer};
use crate::case::{Case, Row};
use crate::support::docker;
use crate::world::{World, job_id};

pub const CASES: &[Case] = &[Case { id: "soak.short", fault: "faults at random", step: "at random", points: &[], run: soak }];

/// What is done to a job.
const FAULTS: [&str; 10] = [
    "nothing",
    "provider fails twice",
    "stream is cut once",
    "kill -9 of delegate",
    "docker kill",
    "docker stop",
    "pause and unpause",
    "cancel",
    "kill -9 of Codex",
    "gateway restarted",
];

fn number(variable: &str, otherwise: usize) -> usize {
    std::env::var(variable).ok().and_then(|n| n.parse().ok()).unwrap_or(otherwise)
}

fn program(fault: &str) -> String {
    let trouble = match fault {
        "provider fails twice" => "fault 503 times=2\n",
        "stream is cut once" => "fault cut times=1\n",
        _ => "",
    };
    format!("```rehearsal\nshell echo ran >>once.txt\n{trouble}shell sleep 0.3; echo done >done.txt\nmessage done\n```")
}

/// A process's resident memory in KiB and its open files.
fn size_of(process: i32) -> (u64, usize) {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().split(' ').next()?.parse().ok());
    (rss.unwrap_or(0), std::fs::read_dir(format!("/proc/{process}/fd")).map_or(0, Iterator::count))
}

/// The patches that there can be: all of the work, its first half, nothing.
struct Patches {
    whole: String,
    half: String,
}

impl Patches {
    /// As the product makes them without a fault; the two halves are files of their own, so the first is a prefix cut at a file.
    fn of(world: &World) -> Self {
        let make = |program: &str| {
            let job = job_id(&answer(world, &["delegate", "--json", "--", program], &[]).json.to_string());
            let patch = world.run(&["diff", &job], &[]).1;
            assert!(answer(world, &["consume", "--json", &job], &[]).state().is_some());
            patch
        };
        let patches = Self { whole: make(&program("nothing")), half: make("```rehearsal\nshell echo ran >>once.txt\nmessage half\n```") };
        assert!(patches.whole.contains("\n+ran\n") && patches.whole.contains("\n+done\n") && patches.half.contains("\n+ran\n"));
        patches
    }
}

/// Runs one job with its fault; the job's id and its last answer.
fn delegate(world: &World, key: &str, fault: &str, pause: Duration) -> String {
    let program = program(fault);
    let start = ["delegate", "--json", "--idempotency-key", key, "--", &program];
    if fault == "kill -9 of delegate" {
        let mut child = world.spawn(&start, &[]);
        std::thread::sleep(pause);
        child.kill().expect("it is there or has ended");
        child.wait().expect("it ends");
        // As a careful user does: the same once more. It finds the job, or there was none.
        return job_id(&answer(world, &start, &[]).json.to_string());
    }
    let started = answer(world, &["delegate", "--detach", "--json", "--idempotency-key", key, "--", &program], &[]);
    let job = job_id(&started.json.to_string());
    let cell = World::container(&job);
    std::thread::sleep(pause);
    match fault {
        "docker kill" => drop(docker(&["kill", &cell])),
        "docker stop" => drop(docker(&["stop", &cell])),
        "pause and unpause" => {
            docker(&["pause", &cell]);
            std::thread::sleep(pause);
            docker(&["unpause", &cell]);
        }
        "cancel" => drop(answer(world, &["cancel", "--json", &job], &[])),
        "kill -9 of Codex" => {
            let processes = docker(&["top", &cell, "-eo", "pid,comm"]);
            let codex = processes.lines().find(|line| line.trim().ends_with(" codex")).and_then(|line| line.split_whitespace().next()?.parse().ok());
            if let Some(pid) = codex.and_then(rustix::process::Pid::from_raw) {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        }
        "gateway restarted" => drop(docker(&["restart", "-t", "0", &world.env.gateway_name()])),
        _ => {}
    }
    job
}

fn soak() -> Row {
    let (jobs, at_once) = (number("JOBS", 12), number("AT_ONCE", 4));
    let mut world = World::product();
    world.env.set("ANCHORHOLD_ENGINE_MAX_RUNNING_JOBS", &at_once.to_string());
    world.warm();
    let patches = Patches::of(&world);
    let gateway = size_of(World::first_process(&world.env.gateway_name()));
    let begun = Instant::now();
    let next = AtomicUsize::new(0);
    let random = Mutex::new(Random::from_environment());
    let seen: Mutex<BTreeMap<String, usize>> = Mutex::default();
    let wrong: Mutex<Vec<String>> = Mutex::default();
    std::thread::scope(|scope| {
        for _ in 0..at_once {
            scope.spawn(|| {
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    if n >= jobs {
                        return;
                    }
                    let (fault, pause) = {
                        let mut random = random.lock().expect("no poison");
                        (FAULTS[random.below(FAULTS.len() as u64) as usize], Duration::from_millis(random.below(1500)))
                    };
                    let job = delegate(&world, &format!("soak-{n}"), fault, pause);
                    world.wait_for(&job, |status| status["result_available"] == true);
                    let patch = world.run(&["diff", &job], &[]).1;
                    let last: Answer = answer(&world, &["consume", "--json", &job], &[]);
                    let state = last.state().unwrap_or("not found").to_owned();
                    let kind = match &patch {
                        patch if *patch == patches.whole => "whole",
                        patch if *patch == patches.half => "half",
                        patch if patch.is_empty() => "empty",
                        _ => "MISMATCHED",
                    };
                    let reason = last.json["job"]["reason"].as_str().unwrap_or("none");
                    if kind == "MISMATCHED" || matches!(state.as_str(), "lost" | "not found") || (state == "completed" && kind != "whole") {
                        wrong.lock().expect("no poison").push(format!("{fault} after {pause:?}: {kind} {last:?}\n{patch}"));
                    }
                    *seen.lock().expect("no poison").entry(format!("{fault:<22} {state:<12} {reason:<22} {kind}")).or_default() += 1;
                }
            });
        }
    });
    let took = begun.elapsed().as_secs_f64();
    let left = world.jobs();
    world.nothing_is_left();
    let after = size_of(World::first_process(&world.env.gateway_name()));
    let seen = seen.into_inner().expect("no poison");
    println!("{:<22} {:<12} {:<22} {:<10} jobs", "fault", "state", "reason", "patch");
    for (outcome, times) in &seen {
        println!("{outcome:<69} {times}");
    }
    let wrong = wrong.into_inner().expect("no poison");
    println!("jobs {jobs}, {at_once} at once, {took:.0} s; wrong {}, ran under a second id {}, left 0", wrong.len(), left.len());
    println!("gateway: {} KiB and {} files before, {} KiB and {} files after", gateway.0, gateway.1, after.0, after.1);
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(left.is_empty(), "one key, one job; these are more: {left:?}");
    let note = format!("gateway {} to {} KiB, {} to {} files", gateway.0, after.0, gateway.1, after.1);
    Row { state: format!("{jobs} jobs"), reason: format!("{} outcomes", seen.len()), patch: "exact".into(), answered: took, note }
}
