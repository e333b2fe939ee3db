//! Two jobs at once: what one takes, the other must not miss.

use std::time::Duration;

use serde_json::Value;

use super::host::{patched, task};
use crate::arena::Arena;
use crate::case::{Verdict, Verdicts};
use crate::cell::probe;
use crate::support::TestEnv;

/// How much longer the same work may take beside a job that takes all.
const SLOWER: f64 = 1.5;

pub fn run(arena: &Arena, wanted: &[&str]) -> Verdicts {
    let mut verdicts = Verdicts::new();
    if wanted.contains(&"R11-per-user") {
        verdicts.push(("R11-per-user".to_owned(), per_user(arena)));
    }
    if wanted.iter().any(|id| id.starts_with("R20")) {
        verdicts.extend(everything(arena));
    }
    verdicts
}

/// What the probe said in a job.
fn report(env: &TestEnv, repo: &crate::support::Repo, job: &str) -> (Verdicts, String) {
    let text = std::fs::read_to_string(patched(env, repo, job).path().join("report")).unwrap_or_default();
    (probe::verdicts(&text).0, text)
}

/// The first job holds every inotify instance that its user may have; the second asks for one.
fn per_user(arena: &Arena) -> Verdict {
    let env = &arena.env;
    let (first, second) = (probe::repository(arena), probe::repository(arena));
    let holder = env.detach(&first, &task("touch held; PROBE_HOLD=60 ./probe r11-per-user > report 2>&1; true"));
    let container = format!("anchorhold-{holder}");
    env.wait_for(&holder, |s| s["state"] == "running");
    let holding = || env.docker(&["exec", &container, "sh", "-c", "test -e /workspace/held && echo yes; true"]).trim() == "yes";
    for _ in 0..300 {
        if holding() {
            break;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    std::thread::sleep(Duration::from_millis(300));
    let result = env.delegate(&second, &task("./probe --limit 1 r11-per-user > report 2>&1; true"));
    env.run(&["cancel", "--json", &holder]);
    let (told, text) = report(env, &second, result["job_id"].as_str().expect("a job id"));
    told.into_iter().next().unwrap_or_else(|| panic!("not tried: {text} {}", result["reason"])).1
}

/// Limits of the hungry one: a processor at most, so that one is left for the neighbour.
fn hungry(env: &TestEnv) -> TestEnv {
    env.with("ANCHORHOLD_LIMITS_MEMORY", "256MiB")
        .with("ANCHORHOLD_LIMITS_PIDS", "96")
        .with("ANCHORHOLD_LIMITS_CPUS", "0.8")
        .with("ANCHORHOLD_LIMITS_DISK", "48MiB")
        .with("ANCHORHOLD_LIMITS_INODES", "3000")
}

fn everything(arena: &Arena) -> Verdicts {
    let env = &arena.env;
    let (first, second) = (probe::repository(arena), probe::repository(arena));
    // The neighbour does its work all the time, before, beside and after; each round says how long it took.
    let rounds = "for i in $(seq 60); do ./probe --limit 20 r20-neighbour >> report 2>&1; test -e /workspace/stop && break; done; true";
    let neighbour = env.detach(&second, &task(rounds));
    let rounds_done = || {
        let text = env.docker(&["exec", &format!("anchorhold-{neighbour}"), "sh", "-c", "cat /workspace/report 2>/dev/null; true"]);
        text.lines().count()
    };
    env.wait_for(&neighbour, |s| s["state"] == "running");
    wait_until(|| rounds_done() >= 3);
    let alone = rounds_done();
    let env_hungry = hungry(env);
    let result = env_hungry.delegate(&first, &task("./probe --limit 1024 r20-everything > /proc/self/fd/2; true"));
    let beside = rounds_done();
    env.docker(&["exec", "-u", "0:0", &format!("anchorhold-{neighbour}"), "sh", "-c", "touch /workspace/stop || kill -USR1 1"]);
    env.run(&["cancel", "--json", &neighbour]);
    let (told, text) = report(env, &second, &neighbour);
    vec![("R20-everything".to_owned(), ended_well(&env_hungry, &first, &result)), ("R20-neighbour".to_owned(), compared(&told, alone, beside, &text))]
}

fn ended_well(env: &TestEnv, repo: &crate::support::Repo, result: &Value) -> Verdict {
    let job = result["job_id"].as_str().expect("a job id");
    let kept = patched(env, repo, job).path().join("partial").exists();
    let reason = result["reason"].as_str().unwrap_or("none");
    Verdict::of(
        !kept || !["disk", "memory"].contains(&reason),
        format!("{} for {reason}, partial work {}", result["state"], if kept { "there" } else { "LOST" }),
    )
}

/// Medians of the rounds before and beside.
fn compared(told: &Verdicts, alone: usize, beside: usize, text: &str) -> Verdict {
    if let Some((_, failed)) = told.iter().find(|(_, verdict)| verdict.breached()) {
        return failed.clone();
    }
    let times: Vec<u64> = told.iter().filter_map(|(_, verdict)| verdict.detail().split(' ').next()?.parse().ok()).collect();
    assert!(alone >= 3 && beside > alone + 1 && times.len() > alone + 1, "too few rounds: {alone} alone, {beside} in all: {text}");
    let median = |times: &[u64]| {
        let mut times = times.to_vec();
        times.sort_unstable();
        times[times.len() / 2]
    };
    let (before, during) = (median(&times[..alone]), median(&times[alone..beside.min(times.len())]));
    #[expect(clippy::cast_precision_loss, reason = "milliseconds")]
    let ratio = during as f64 / before as f64;
    Verdict::of(ratio > SLOWER, format!("{before} ms alone, {during} ms beside: {ratio:.2}"))
}

fn wait_until(done: impl Fn() -> bool) {
    for _ in 0..600 {
        if done() {
            return;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    panic!("waited in vain");
}
