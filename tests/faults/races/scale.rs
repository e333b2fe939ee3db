//! Many at once: delegations on one repository that its user works in, and lists of hundreds of kept jobs.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::contest::{Answer, answer};
use super::whole;
use crate::case::{Case, Row};
use crate::support::docker;
use crate::world::{World, job_id, quick_task};

pub const CASES: &[Case] = &[
    Case { id: "scale.delegations", fault: "8 delegations at once (AT_ONCE)", step: "on one repository in use", points: &[], run: delegations },
    Case { id: "scale.list", fault: "120 kept jobs (KEPT)", step: "list", points: &[], run: list },
];

fn number(variable: &str, otherwise: usize) -> usize {
    std::env::var(variable).ok().and_then(|n| n.parse().ok()).unwrap_or(otherwise)
}

/// Some of the tracked files are changed and not committed, and the user's git goes on all the while.
fn delegations() -> Row {
    let at_once = number("AT_ONCE", 8);
    let mut world = World::product();
    world.env.set("ANCHORHOLD_ENGINE_MAX_RUNNING_JOBS", "8");
    world.warm();
    world.repo.bash("for n in $(seq 40); do echo \"$n\" >file-$n.txt; done; git add .; git commit -qm files; echo staged >>file-1.txt; git add file-1.txt; echo dirty >>file-2.txt");
    let begun = Instant::now();
    let over = AtomicBool::new(false);
    let (answers, commands): (Vec<Answer>, u32) = std::thread::scope(|scope| {
        let user = scope.spawn(|| {
            let mut commands = 0;
            while !over.load(Ordering::Relaxed) {
                world.repo.bash("git status -s >/dev/null; touch file-3.txt; git add -u; git reset -q file-2.txt; git diff --stat >/dev/null");
                commands += 5;
            }
            commands
        });
        let running: Vec<_> = (0..at_once).map(|_| scope.spawn(|| answer(&world, &["delegate", "--json", "--", &quick_task()], &[]))).collect();
        let answers = running.into_iter().map(|thread| thread.join().expect("a thread")).collect();
        over.store(true, Ordering::Relaxed);
        (answers, user.join().expect("a thread"))
    });
    let took = begun.elapsed();
    let mut patches: Vec<String> = Vec::new();
    for told in &answers {
        assert!(whole(told), "{told:?}");
        let job = job_id(&told.json.to_string());
        patches.push(world.run(&["diff", &job], &[]).1);
    }
    // All began with the same tree, so all patches are the same bytes.
    patches.dedup();
    assert_eq!(patches.len(), 1, "{patches:#?}");
    for told in &answers {
        let job = job_id(&told.json.to_string());
        assert!(whole(&answer(&world, &["consume", "--json", &job], &[])), "{job}");
    }
    world.nothing_is_left();
    let note = format!("{at_once} at once in {:.1} s, beside {commands} commands of git", took.as_secs_f64());
    Row { state: "completed".into(), reason: "completed".into(), patch: "whole".into(), answered: took.as_secs_f64(), note }
}

/// Kept jobs are costly to make, so most are stand-ins for the *measurement*: containers with a real job's labels under ids of their own, from the
/// same image, which have run for an instant and exited with a reason's code. A few real ones show that the list is right.
fn list() -> Row {
    let kept = number("KEPT", 120);
    let world = World::product();
    let real: Vec<String> = (0..2).map(|_| job_id(&answer(&world, &["delegate", "--json", "--", &quick_task()], &[]).json.to_string())).collect();
    let model: serde_json::Value = serde_json::from_str(&docker(&["inspect", &World::container(&real[0])])).expect("an inspect");
    let labels = model[0]["Config"]["Labels"].as_object().expect("labels");
    let image = model[0]["Image"].as_str().expect("an image");
    for _ in 0..kept {
        let id = uuid::Uuid::new_v4().simple().to_string();
        let name = World::container(&id);
        let mut arguments = vec!["run".to_owned(), "--network=none".into(), format!("--name={name}"), "--entrypoint=/bin/true".into()];
        for (key, value) in labels {
            let value = if key == "anchorhold.job" { id.as_str() } else { value.as_str().expect("text") };
            // Older than the real ones.
            let value = if key == "anchorhold.created" { (value.parse::<u64>().expect("ms") - 60_000).to_string() } else { value.to_owned() };
            arguments.push(format!("--label={key}={value}"));
        }
        arguments.push(image.to_owned());
        docker(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
    }
    let filter = format!("label=anchorhold.instance={}", world.env.instance());
    // Both are commands of their own on the same engine, taken in turn; the least of several is what the machine's other load leaves alone.
    let (mut ours, mut engines) = (Duration::MAX, Duration::MAX);
    let mut listed = Answer { code: None, json: serde_json::Value::Null, stderr: String::new() };
    for _ in 0..7 {
        let begun = Instant::now();
        listed = answer(&world, &["jobs", "--all", "--json"], &[]);
        ours = ours.min(begun.elapsed());
        let begun = Instant::now();
        docker(&["ps", "-aq", "--filter", &filter]);
        engines = engines.min(begun.elapsed());
    }
    let rows = listed.json["jobs"].as_array().expect("jobs");
    assert_eq!(rows.len(), kept + real.len());
    for job in &real {
        let row = rows.iter().find(|row| row["job_id"] == job.as_str()).expect("a real one is listed");
        assert_eq!((&row["state"], row["ended_at"].is_string(), row["elapsed_ms"].is_u64()), (&"completed".into(), true, true), "{row:#}");
    }
    assert!(rows.iter().all(|row| row["state"] == "completed" && row["result_available"] == true));
    // Those that were not asked for their end say nothing about it.
    assert!(rows.iter().all(|row| row["ended_at"].is_string() == row["elapsed_ms"].is_u64()));
    let ratio = ours.as_secs_f64() / engines.as_secs_f64();
    assert!(ratio < 10.0, "{kept} jobs: {ours:?}, the engine's own list {engines:?}");
    for job in &real {
        answer(&world, &["consume", "--json", job], &[]);
    }
    let note = format!("{ours:.0?} against {engines:.0?} of `docker ps`: {ratio:.1} x");
    Row { state: format!("{} listed", rows.len()), reason: "-".into(), patch: "-".into(), answered: ours.as_secs_f64(), note }
}
