//! Many at once: delegations on one repository that its user works in, and lists of hundreds of kept jobs.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::contest::{Answer, answer, number};
use super::standins::StandIns;
use super::whole;
use crate::case::{Case, Row};
use crate::mcp::Server;
use crate::raw;
use crate::support::TestEnv;
use crate::support::weakened::product_image;
use crate::world::{World, job_id, quick_task};

pub const CASES: &[Case] = &[
    Case { id: "scale.delegations", fault: "many delegations at once (AT_ONCE)", step: "on one repository in use", points: &[], run: delegations },
    Case { id: "scale.list", fault: "hundreds of kept jobs (KEPT)", step: "list", points: &[], run: list },
];

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

/// The least that something took of several times.
#[derive(Debug, Clone, Copy)]
struct Least(Duration);

impl Least {
    fn take<T>(&mut self, deed: impl FnOnce() -> T) -> T {
        let begun = Instant::now();
        let done = deed();
        self.0 = self.0.min(begun.elapsed());
        done
    }

    fn times(self, other: Self) -> f64 {
        self.0.as_secs_f64() / other.0.as_secs_f64()
    }
}

/// What is true of a list of kept jobs, whoever tells it.
fn right(rows: &[Value], kept: usize, real: &[String], with_end: bool) {
    assert_eq!(rows.len(), kept + real.len());
    for job in real {
        let row = rows.iter().find(|row| row["job_id"] == job.as_str()).expect("a real one is listed");
        assert_eq!((&row["state"], row["elapsed_ms"].is_u64()), (&"completed".into(), true), "{row:#}");
    }
    assert!(rows.iter().all(|row| row["state"] == "completed" && row["result_available"] == true));
    // Those that were not asked for their end say nothing about it.
    assert!(!with_end || rows.iter().all(|row| row["ended_at"].is_string() == row["elapsed_ms"].is_u64()));
}

/// Kept jobs are costly to make, so most are stand-ins for the *measurement*. A few real ones show that the list is right.
///
/// `KEPT=500` is the size that the bound is meant for, and `ANCHORHOLD_TEST_BIN` the binary as it is shipped (`make scale`). With fewer jobs what does not grow with
/// them weighs more, fifty inspects above all, and a binary without optimisation reads JSON ten times slower: there the bound only tells a list that costs a call a job.
fn list() -> Row {
    let kept = number("KEPT", 100);
    let shipped = std::env::var_os("ANCHORHOLD_TEST_BIN").map(PathBuf::from);
    let most = match shipped {
        Some(_) if kept >= 500 => 5.0,
        Some(_) => 20.0,
        None => 100.0,
    };
    let world = match &shipped {
        Some(program) => World::of(TestEnv::of(program, &product_image(), &[])),
        None => World::product(),
    };
    let real: Vec<String> = (0..2).map(|_| job_id(&answer(&world, &["delegate", "--json", "--", &quick_task()], &[]).json.to_string())).collect();
    let stand_ins = StandIns::of(&real[0], kept);
    let mut server = Server::open(&world, &[]);
    let path = format!("/containers/json?all=1&filters={}", raw::by_label("anchorhold.instance", world.env.instance()));
    let all = json!({"limit": 1000});
    // All are taken in turn; the least of several is what the machine's other load leaves alone.
    let [mut engines, mut over_mcp, mut verb] = [Least(Duration::MAX); 3];
    for _ in 0..9 {
        let (status, rows) = engines.take(|| raw::exchange("GET", &path, None));
        assert_eq!(status, 200);
        assert!(rows.len() > kept * 500, "the engine told of them all: {} bytes", rows.len());
        let told = over_mcp.take(|| server.call("codex_job_list", &all)).expect("the server lives");
        right(told["jobs"].as_array().expect("jobs"), kept, &real, false);
        let told = verb.take(|| answer(&world, &["jobs", "--all", "--json"], &[]));
        right(told.json["jobs"].as_array().expect("jobs"), kept, &real, true);
    }
    server.close();
    drop(stand_ins);
    for job in &real {
        answer(&world, &["consume", "--json", job], &[]);
    }
    world.nothing_is_left();
    let times = [over_mcp.times(engines), verb.times(engines)];
    let note = format!(
        "{kept} kept: the engine's own list {:.1?}, codex_job_list {:.1?} ({:.1} x; at most {most} x), the whole command `jobs` {:.1?} ({:.1} x)",
        engines.0, over_mcp.0, times[0], verb.0, times[1]
    );
    println!("{note}");
    // The verb makes the same list, and a process, a connection and a sweep beside it, which grow with the machine's load and not with the jobs.
    assert!(times[0] < most, "{note}");
    Row { state: format!("{} listed", kept + real.len()), reason: "-".into(), patch: "-".into(), answered: over_mcp.0.as_secs_f64(), note }
}
