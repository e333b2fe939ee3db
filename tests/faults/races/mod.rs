//! Two processes do opposite things to one job at one time: one truth comes out, the loser is told so clearly, and nothing is left.
//!
//! `ROUNDS` sets how often (`make races`: 200); pauses are random, and `SEED` repeats them. The figure `s` of a row is seconds a round.

mod contest;
pub mod idle;
pub mod instances;
pub mod scale;
pub mod soak;
mod standins;

use contest::{Answer, Contest, answer, rounds};

use crate::case::{Case, Row};
use crate::support::docker;
use crate::support::rehearsal::{Step, task};
use crate::world::{World, quick_task, slow_task};

/// Jobs that are made ahead of their rounds at once.
const BATCH: usize = 5;
/// Retention of a second, so that gc wants what has just ended.
const SHORT_LIVED: &[(&str, &str)] = &[("ANCHORHOLD_RETENTION_TTL_SECONDS", "1")];

const fn race(id: &'static str, fault: &'static str, step: &'static str, run: fn() -> Row) -> Case {
    Case { id, fault, step, points: &[], run }
}

pub const CASES: &[Case] = &[
    race("races.cancel_exit", "cancel against exit", "Codex is about to end", cancel_against_exit),
    race("races.cancel_start", "cancel against the start", "the workspace is being delivered", cancel_against_start),
    race("races.rm_start", "docker rm -f against the start", "the workspace is being delivered", removal_against_start),
    race("races.cancel_cancel", "cancel against cancel", "Codex runs", cancel_against_cancel),
    race("races.consume_consume", "consume against consume against consume", "ended", consume_against_consume),
    race("races.consume_absent", "consume against consume against consume", "container and volumes removed by hand", consume_an_absent_job),
    race("races.consume_cancel", "consume against cancel", "ended, or about to", consume_against_cancel),
    race("races.consume_result", "consume against result", "ended", consume_against_result),
    race("races.gc_consume", "gc against consume", "kept for too long", gc_against_consume),
    race("races.gc_start", "gc against the start", "from the first look to the end", gc_against_start),
    race("races.gc_cancel", "gc against cancel", "Codex runs, or kept for too long", gc_against_cancel),
    race("races.gc_seal", "gc against the second start", "died unsealed, kept or kept for too long", gc_against_seal),
    race("races.seal_seal", "status against status", "died unsealed", seal_against_seal),
    race("races.one_key", "two starts with one idempotency key", "before there is a job", one_key_twice),
];

/// Runs each round on a job of its own that has ended.
fn on_ended_jobs(variables: &[(&str, &str)], round: impl Fn(&mut Contest, &str) -> &'static str) -> Row {
    let mut contest = Contest::new();
    let mut left = rounds();
    while left > 0 {
        let jobs = contest.ended(left.min(BATCH), &quick_task(), variables);
        left -= jobs.len();
        for job in jobs {
            let outcome = round(&mut contest, &job);
            contest.count(outcome);
            contest.end_round(&job);
        }
    }
    contest.finish()
}

/// Runs each round on a new job that is delivered.
fn on_new_jobs(task: &str, variables: &[(&str, &str)], round: impl Fn(&mut Contest, &str) -> &'static str) -> Row {
    let mut contest = Contest::new();
    for _ in 0..rounds() {
        let job = contest.world_detach(task, variables);
        let outcome = round(&mut contest, &job);
        contest.count(outcome);
        contest.end_round(&job);
    }
    contest.finish()
}

impl Contest {
    fn world_detach(&self, task: &str, variables: &[(&str, &str)]) -> String {
        let started = answer(&self.world, &["delegate", "--detach", "--json", "--", task], variables);
        assert_eq!(started.code, Some(0), "{started:?}");
        crate::world::job_id(&started.json.to_string())
    }
}

/// The state that everybody must be told from now on.
fn settled(world: &World, job: &str, told: &Answer) -> String {
    let state = told.state().unwrap_or_else(|| panic!("no state: {told:?}")).to_owned();
    let now = answer(world, &["status", "--json", job], &[]);
    assert_eq!(now.state(), Some(state.as_str()), "first {told:?}, then {now:?}");
    let result = answer(world, &["result", "--json", job], &[]);
    assert_eq!(result.state(), Some(state.as_str()), "first {told:?}, then {result:?}");
    state
}

/// What an ended job that did everything gives to whoever gets it.
fn whole(given: &Answer) -> bool {
    given.state() == Some("completed") && given.json["ok"] == true && given.json["patch_bytes"].as_u64().unwrap_or(0) > 0
}

fn cancel_against_exit() -> Row {
    let task = task(&[Step::Shell("echo ran >>once.txt"), Step::Shell("sleep 0.2; echo done >done.txt"), Step::Say("done")]);
    on_new_jobs(&task, &[], |contest, job| {
        let pause = contest.random.below(1200);
        std::thread::sleep(std::time::Duration::from_millis(pause));
        let [cancelled] = contest.release([&["cancel", "--json", job]], 1);
        assert_eq!(cancelled.code, Some(0), "{cancelled:?}");
        match settled(&contest.world, job, &cancelled).as_str() {
            "completed" => {
                assert_eq!(contest.patch(job), "whole");
                "exit"
            }
            "cancelled" => {
                contest.patch(job);
                "cancel"
            }
            other => panic!("{other}: {cancelled:?}"),
        }
    })
}

fn cancel_against_cancel() -> Row {
    on_new_jobs(&slow_task(600), &[], |contest, job| {
        let pause = contest.random.below(700);
        std::thread::sleep(std::time::Duration::from_millis(pause));
        let [one, other] = contest.release([&["cancel", "--json", job], &["cancel", "--json", job]], 60);
        for told in [&one, &other] {
            assert_eq!((told.code, told.state()), (Some(0), Some("cancelled")), "{one:?} {other:?}");
        }
        settled(&contest.world, job, &one);
        "both cancelled"
    })
}

/// The id is read from the engine the moment the container is there; the delivery goes on for a good tenth of a second.
fn cancel_against_start() -> Row {
    let mut contest = Contest::new();
    for _ in 0..rounds() {
        let mut delegate = contest.world.spawn(&["delegate", "--json", "--", &slow_task(600)], &[]);
        let job = contest.first_sight();
        let [one, other] = contest.release([&["cancel", "--json", &job], &["cancel", "--json", &job]], 250);
        for told in [&one, &other] {
            assert_eq!((told.code, told.state()), (Some(0), Some("cancelled")), "{one:?} {other:?}");
        }
        settled(&contest.world, &job, &one);
        let delegated = delegate.wait().expect("it ends").code();
        assert_eq!(delegated, Some(8), "the caller that waited is told of the cancel");
        let text = format!("{}{}", one.json["job"]["detail"], other.json["job"]["detail"]);
        let outcome = if text.contains("nothing has run") {
            // Then nothing may have run, not for an instant.
            let starts = contest.starts_of(&job);
            assert!(starts.is_empty(), "said that nothing has run, and was started: {starts}");
            "before the start"
        } else {
            "after the start"
        };
        contest.count(outcome);
        contest.end_round(&job);
    }
    contest.finish()
}

/// Removed from outside at any instant of its start: it is found by each look, and ended so, or its work was done by then.
fn removal_against_start() -> Row {
    let mut contest = Contest::new();
    for _ in 0..rounds() {
        let mut delegate = contest.world.spawn(&["delegate", "--json", "--", &quick_task()], &[]);
        let job = contest.first_sight();
        std::thread::sleep(std::time::Duration::from_millis(contest.random.below(400)));
        docker(&["rm", "-f", &World::container(&job)]);
        let last = contest.world.wait_for(&job, |status| status["result_available"] == true);
        let outcome = match last["state"].as_str() {
            Some("interrupted") => "interrupted",
            Some("completed") => "completed",
            _ => panic!("removed, and said to have ended otherwise: {last:#}"),
        };
        delegate.wait().expect("it ends");
        contest.count(outcome);
        contest.end_round(&job);
    }
    contest.finish()
}

impl Contest {
    /// The job of a start that is under way, as soon as its container is there.
    fn first_sight(&self) -> String {
        let filter = format!("label=anchorhold.instance={}", self.world.env.instance());
        let begun = std::time::Instant::now();
        loop {
            let rows = docker(&["ps", "-a", "--filter", &filter, "--filter", "label=anchorhold.job", "--format", "{{.Label \"anchorhold.job\"}}"]);
            if let Some(job) = rows.lines().next() {
                return job.to_owned();
            }
            assert!(begun.elapsed() < crate::world::PATIENCE, "no container");
        }
    }

    /// The engine's own word on starts of a job's containers.
    fn starts_of(&self, job: &str) -> String {
        let label = format!("label=anchorhold.job={job}");
        docker(&[
            "events",
            "--since",
            "60s",
            "--until",
            "0s",
            "--filter",
            &label,
            "--filter",
            "event=start",
            "--format",
            "{{.Actor.Attributes.name}}",
        ])
    }
}

fn consume_against_consume() -> Row {
    on_ended_jobs(&[], |contest, job| {
        let answers = contest.release([&["consume", "--json", job], &["consume", "--json", job], &["consume", "--json", job]], 60);
        let won: Vec<bool> = answers.iter().map(whole).collect();
        assert_eq!(won.iter().filter(|won| **won).count(), 1, "one winner: {answers:?}");
        assert_eq!(answers.iter().filter(|told| told.not_found()).count(), 2, "two who find no job: {answers:?}");
        contest.nothing_of(job);
        ["first", "second", "third"][won.iter().position(|won| *won).expect("one")]
    })
}

/// Of a job of which nothing is left but the gateway's word one is told that it is lost.
fn consume_an_absent_job() -> Row {
    on_ended_jobs(&[], |contest, job| {
        docker(&["rm", "-f", &World::container(job)]);
        docker(&["volume", "rm", &format!("anchorhold-{job}-workspace"), &format!("anchorhold-{job}-job")]);
        let answers = contest.release([&["consume", "--json", job], &["consume", "--json", job], &["consume", "--json", job]], 60);
        let won: Vec<bool> = answers.iter().map(|told| told.state() == Some("lost")).collect();
        if !won.contains(&true) && answers.iter().any(|told| told.error() == Some("gateway_unavailable")) {
            // Only the gateway knows of it, and a machine that does too much keeps it from answering: then the job is still there for it to tell.
            contest.world.wait_for(job, |status| status["state"] == "lost");
            return "nobody yet";
        }
        assert_eq!(won.iter().filter(|won| **won).count(), 1, "one is told: {answers:?}");
        assert_eq!(answers.iter().filter(|told| told.not_found()).count(), 2, "two who find no job: {answers:?}");
        contest.nothing_of(job);
        ["first", "second", "third"][won.iter().position(|won| *won).expect("one")]
    })
}

fn consume_against_cancel() -> Row {
    let task = task(&[Step::Shell("echo ran >>once.txt"), Step::Shell("sleep 0.2; echo done >done.txt"), Step::Say("done")]);
    on_new_jobs(&task, &[], |contest, job| {
        let pause = contest.random.below(1200);
        std::thread::sleep(std::time::Duration::from_millis(pause));
        let [consumed, cancelled] = contest.release([&["consume", "--json", job], &["cancel", "--json", job]], 120);
        match (consumed.state(), cancelled.state()) {
            // Both saw the end: the same one.
            (Some(one), Some(other)) => {
                assert_eq!(one, other, "{consumed:?} {cancelled:?}");
                if one == "completed" { "completed, both" } else { "cancelled, both" }
            }
            (Some(_), None) => {
                assert!(cancelled.not_found(), "{cancelled:?}");
                "consumed first"
            }
            (None, Some(_)) => {
                assert!(consumed.still_running(), "{consumed:?}");
                settled(&contest.world, job, &cancelled);
                "cancelled first"
            }
            (None, None) => panic!("nobody had the job: {consumed:?} {cancelled:?}"),
        }
    })
}

fn consume_against_result() -> Row {
    on_ended_jobs(&[], |contest, job| {
        let [consumed, read] = contest.release([&["consume", "--json", job], &["result", "--json", job]], 120);
        assert!(whole(&consumed), "{consumed:?}");
        // A whole result or no such job; nothing between, and never a loss that did not happen.
        assert!(whole(&read) || read.not_found(), "{read:?}");
        contest.nothing_of(job);
        if whole(&read) { "both have it" } else { "consumed first" }
    })
}

/// Who of a sweep and another command got the job; the sweep's report tells.
fn swept(gc: &Answer, job: &str) -> bool {
    assert_eq!((gc.code, gc.json["report"]["problems"].as_array().map(Vec::len)), (Some(0), Some(0)), "{gc:?}");
    gc.json["report"]["expired"].as_array().expect("a list").iter().any(|id| id == job)
}

fn wait_until_expired() {
    std::thread::sleep(std::time::Duration::from_millis(1200));
}

fn gc_against_consume() -> Row {
    on_ended_jobs(SHORT_LIVED, |contest, job| {
        wait_until_expired();
        let [gc, consumed] = contest.release([&["gc", "--json"], &["consume", "--json", job]], 120);
        match (swept(&gc, job), whole(&consumed)) {
            (true, false) => {
                assert!(consumed.not_found(), "{consumed:?}");
                contest.nothing_of(job);
                "swept"
            }
            (false, true) => {
                contest.nothing_of(job);
                "consumed"
            }
            // Another sweep, of the consume that made this batch's job before, may have had it.
            (false, false) if consumed.not_found() => {
                contest.nothing_of(job);
                "swept before"
            }
            _ => panic!("not exactly one had it: {gc:?} {consumed:?}"),
        }
    })
}

fn gc_against_start() -> Row {
    let mut contest = Contest::new();
    for _ in 0..rounds() {
        let task = quick_task();
        let [delegated, one, other] = contest.release([&["delegate", "--json", "--", &task], &["gc", "--json"], &["gc", "--json"]], 900);
        assert!(whole(&delegated), "{delegated:?}");
        let job = crate::world::job_id(&delegated.json.to_string());
        for gc in [&one, &other] {
            assert!(!swept(gc, &job), "{gc:?}");
            assert_eq!((&gc.json["report"]["passes"], gc.json["report"]["volumes"].as_array().map(Vec::len)), (&0.into(), Some(0)), "{gc:?}");
        }
        assert_eq!(contest.patch(&job), "whole");
        contest.count("left alone");
        contest.end_round(&job);
    }
    contest.finish()
}

fn gc_against_cancel() -> Row {
    on_new_jobs(&slow_task(1), SHORT_LIVED, |contest, job| {
        // Before its end, at its end, and when it has been kept for too long.
        let pause = contest.random.below(4500);
        std::thread::sleep(std::time::Duration::from_millis(pause));
        let [gc, cancelled] = contest.release([&["gc", "--json"], &["cancel", "--json", job]], 120);
        let swept = swept(&gc, job);
        if cancelled.not_found() {
            assert!(swept || pause > 1500, "gone before its time: {gc:?} {cancelled:?}");
            contest.nothing_of(job);
            return "swept";
        }
        assert_eq!(cancelled.code, Some(0), "{cancelled:?}");
        assert!(matches!(cancelled.state(), Some("cancelled" | "completed")), "{cancelled:?}");
        if swept {
            contest.nothing_of(job);
            return "told, then swept";
        }
        if cancelled.state() == Some("cancelled") { "cancelled" } else { "had ended" }
    })
}

/// Kills the first process of a job's cell, so that it dies unsealed.
fn kill_cell(contest: &Contest, job: &str) {
    // The first answer asked for the first deed; the long pause of the task comes after it.
    contest.world.wait_for(job, |status| status["state"] == "running" && status["answers"].as_u64().unwrap_or(0) >= 1);
    std::thread::sleep(std::time::Duration::from_secs(1));
    docker(&["kill", "-s", "KILL", &World::container(job)]);
}

/// An end after a kill: whoever looks seals it, and what was done until then is there.
fn sealed_again(told: &Answer) -> bool {
    matches!(told.state(), Some("interrupted" | "sealing"))
}

fn gc_against_seal() -> Row {
    let mut contest = Contest::new();
    for round in 0..rounds() {
        let short_lived = round % 2 == 1;
        let job = contest.world_detach(&slow_task(600), if short_lived { SHORT_LIVED } else { &[] });
        kill_cell(&contest, &job);
        if short_lived {
            wait_until_expired();
        }
        let [gc, read] = contest.release([&["gc", "--json"], &["result", "--json", &job]], 200);
        let swept = swept(&gc, &job);
        assert!(short_lived || !swept, "swept before its time: {gc:?}");
        let outcome = match (read.state(), swept) {
            (Some("interrupted"), _) => "sealed",
            (None, _) if short_lived && read.not_found() => "swept",
            _ => panic!("{gc:?} {read:?}"),
        };
        if !short_lived {
            assert_ne!(contest.patch(&job), "whole");
        }
        contest.count(outcome);
        contest.end_round(&job);
    }
    contest.finish()
}

fn seal_against_seal() -> Row {
    on_new_jobs(&slow_task(600), &[], |contest, job| {
        kill_cell(contest, job);
        let [one, other, read] = contest.release([&["status", "--json", job], &["status", "--json", job], &["result", "--json", job]], 150);
        assert!(sealed_again(&one) && sealed_again(&other), "{one:?} {other:?}");
        assert!(read.state() == Some("interrupted") || read.still_running(), "{read:?}");
        contest.world.wait_for(job, |status| status["state"] == "interrupted");
        assert_ne!(contest.patch(job), "whole");
        "sealed once"
    })
}

fn one_key_twice() -> Row {
    let mut contest = Contest::new();
    for round in 0..rounds() {
        let (task, key) = (quick_task(), format!("round-{round}"));
        let start = ["delegate", "--json", "--idempotency-key", &key, "--", &task];
        let [one, other] = contest.release([&start, &start], 200);
        assert!(whole(&one) && whole(&other), "{one:?} {other:?}");
        let job = crate::world::job_id(&one.json.to_string());
        assert_eq!(job, crate::world::job_id(&other.json.to_string()), "one key, one job");
        assert_eq!(contest.world.jobs(), std::slice::from_ref(&job));
        assert_eq!(contest.patch(&job), "whole");
        contest.count("one job");
        contest.end_round(&job);
    }
    contest.finish()
}
