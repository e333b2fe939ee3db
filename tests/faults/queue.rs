//! The queue for slots: fair, visible, released by death; a changed limit holds at once and nobody undoes it by accident.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::account;
use crate::case::{Case, Row};
use crate::support::docker;
use crate::support::rehearsal::{Step, task};
use crate::world::{Expected, PATIENCE, World, job_id, quick_task};

pub const CASES: &[Case] = &[
    Case { id: "queue.fifty", fault: "50 jobs at once on one gateway", step: "waiting for a slot", points: &[], run: fifty },
    Case {
        id: "queue.death",
        fault: "kill -9 of the cell that holds the slot; cancel of one that waits",
        step: "waiting for a slot",
        points: &[],
        run: death,
    },
    Case { id: "queue.restart_order", fault: "kill -9 of the gateway, twice", step: "waiting for a slot", points: &[], run: restart_order },
    Case { id: "queue.limit", fault: "the limit is raised, lowered, and brought by others", step: "waiting for a slot", points: &[], run: limit },
    Case { id: "queue.timeout", fault: "no slot for longer than a job may wait", step: "waiting for a slot", points: &[], run: too_long },
];

/// Runs until it is ended.
fn endless_task() -> String {
    task(&[Step::Shell("echo ran >>once.txt"), Step::Shell("sleep 3600")])
}

const CANCELLED: Expected = Expected { states: &["cancelled"], reasons: &["cancelled"], patches: &["partial"] };
const NEVER_RAN: Expected = Expected { states: &["timeout"], reasons: &["queue_timeout"], patches: &["empty"] };
const KILLED: Expected = Expected { states: &["interrupted"], reasons: &["interrupted"], patches: &["partial"] };

/// Slots and waiting jobs as the gateway tells them.
pub fn limits(world: &World, more: &[&str], variables: &[(&str, &str)]) -> (u64, u64, u64) {
    let (code, out, err) = world.run(&[&["gateway", "limits", "--json"], more].concat(), variables);
    assert_eq!(code, Some(0), "{out}{err}");
    let told: Value = serde_json::from_str(&out).expect("one JSON document");
    let number = |name: &str| told["limits"][name].as_u64().unwrap_or_else(|| panic!("{told:#}"));
    (number("slots"), number("running"), number("queued"))
}

/// A world with one slot, and a job that holds it.
fn one_slot() -> (World, String) {
    let world = World::product();
    world.warm();
    assert_eq!(limits(&world, &["--slots", "1"], &[]).0, 1);
    // It holds the slot for as long as a case takes, on a slow machine too.
    let holder = start(&world, &["--idle", "0", "--deadline", "6h"], &endless_task());
    world.wait_until_it_ran(&holder);
    (world, holder)
}

fn start(world: &World, flags: &[&str], task: &str) -> String {
    let (code, out, err) = world.run(&[&["delegate", "--detach", "--json"], flags, &["--", task]].concat(), &[]);
    assert_eq!(code, Some(0), "{out}{err}");
    job_id(&out)
}

pub fn waits_at(world: &World, job: &str, place: u64) {
    world.wait_for(job, |status| status["state"] == "queued" && status["queue_position"] == place);
}

fn cancel(world: &World, job: &str) {
    let (code, out, err) = world.run(&["cancel", "--json", job], &[]);
    assert_eq!(code, Some(0), "{out}{err}");
}

/// All jobs as the list tells them, by id.
fn listed(world: &World) -> BTreeMap<String, Value> {
    let (_, out, err) = world.run(&["jobs", "--all", "--json"], &[]);
    let list: Value = serde_json::from_str(&out).unwrap_or_else(|e| panic!("{e}: {out}{err}"));
    list["jobs"].as_array().expect("jobs").iter().map(|job| (job["job_id"].as_str().expect("an id").to_owned(), job.clone())).collect()
}

/// When a job's Codex ran, in Unix milliseconds, by its own records.
fn ran(world: &World, job: &str) -> (u64, u64) {
    let (_, out, err) = world.run(&["logs", "--json", job], &[]);
    let log: Value = serde_json::from_str(&out).unwrap_or_else(|e| panic!("{e}: {out}{err}"));
    let first = |phase: &str| {
        let record = log["records"].as_array().expect("records").iter().find(|record| record["phase"] == phase);
        record.and_then(|record| record["ms"].as_u64()).unwrap_or_else(|| panic!("never {phase}: {log:#}"))
    };
    (first("running"), first("sealing"))
}

fn in_threads<T: Send>(count: usize, work: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let next = std::sync::atomic::AtomicUsize::new(0);
    let worker = || {
        let mut made = Vec::new();
        loop {
            let at = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            if at >= count {
                return made;
            }
            made.push(work(at));
        }
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(worker)).collect();
        // What went wrong in a thread is what the row says.
        threads.into_iter().flat_map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
    })
}

/// Patience that begins anew with each step forward: how long fifty jobs take together is the machine's affair.
struct Progress {
    best: usize,
    since: Instant,
}

impl Progress {
    fn new() -> Self {
        Self { best: 0, since: Instant::now() }
    }

    fn left(&mut self, done: usize) -> bool {
        if done > self.best {
            *self = Self { best: done, since: Instant::now() };
        }
        self.since.elapsed() < PATIENCE
    }
}

fn fifty() -> Row {
    const JOBS: usize = 50;
    const SLOTS: usize = 3;
    let begun = Instant::now();
    let (world, holder) = one_slot();
    let jobs = in_threads(JOBS, |_| start(&world, &[], &quick_task()));
    let mut patience = Progress::new();
    let places: BTreeMap<u64, String> = loop {
        let list = listed(&world);
        let places: BTreeMap<u64, String> = jobs.iter().filter_map(|job| Some((list.get(job)?["queue_position"].as_u64()?, job.clone()))).collect();
        if places.keys().copied().eq(1..=JOBS as u64) {
            break places;
        }
        assert!(patience.left(places.len()), "places: {places:?}");
        std::thread::sleep(Duration::from_millis(500));
    };
    let (_, table, _) = world.run(&["jobs", "--all"], &[]);
    assert!(table.contains(&format!("place {JOBS} in the queue")), "{table}");
    assert_eq!(limits(&world, &[], &[]), (1, 1, JOBS as u64));

    assert_eq!(limits(&world, &["--slots", &SLOTS.to_string()], &[]).0, SLOTS as u64);
    cancel(&world, &holder);
    let mut patience = Progress::new();
    loop {
        let list = listed(&world);
        let ended = jobs.iter().filter(|job| list.get(*job).is_some_and(|told| told["result_available"] == true)).count();
        if ended == JOBS {
            break;
        }
        assert!(patience.left(ended), "{ended} of them ended, and no more: {list:#?}");
        std::thread::sleep(Duration::from_secs(2));
    }
    let list = listed(&world);
    assert!(jobs.iter().all(|job| list[job]["state"] == "completed"), "{list:#?}");
    // By the jobs' own records: never more than there are slots; and when one ran, of those before it only such had not begun that held a slot too.
    let times: Vec<(u64, u64)> = places.values().map(|job| ran(&world, job)).collect();
    let most = times.iter().map(|(at, _)| times.iter().filter(|(from, to)| from <= at && at < to).count()).max().unwrap_or(0);
    assert!((2..=SLOTS).contains(&most), "{most} ran at once: {times:?}");
    for (place, (at, _)) in times.iter().enumerate() {
        let overtaken = times[..place].iter().filter(|(from, _)| from > at).count();
        assert!(overtaken < SLOTS, "place {place} overtook {overtaken}: {times:?}");
    }
    in_threads(JOBS, |at| {
        let (code, out, err) = world.run(&["consume", "--json", &jobs[at]], &[]);
        assert_eq!(code, Some(0), "{out}{err}");
    });
    let took = begun.elapsed().as_secs_f64();
    Row { note: format!("{JOBS} jobs in order, at most {most} at once, in {took:.0} s"), ..world.aftermath(&holder, &CANCELLED) }
}

fn death() -> Row {
    let (world, holder) = one_slot();
    let waiting: Vec<String> = (1..=4)
        .map(|place| {
            let job = start(&world, &[], &if place == 1 { endless_task() } else { quick_task() });
            waits_at(&world, &job, place);
            job
        })
        .collect();
    // One in the middle gives up, and those behind it move on.
    cancel(&world, &waiting[1]);
    waits_at(&world, &waiting[0], 1);
    waits_at(&world, &waiting[2], 2);
    waits_at(&world, &waiting[3], 3);
    assert_eq!(world.status(&waiting[1])["state"], "cancelled");
    docker(&["kill", "--signal", "KILL", &World::container(&holder)]);
    // Its slot is free though nobody has looked at it, let alone sealed it.
    world.wait_until_it_ran(&waiting[0]);
    waits_at(&world, &waiting[2], 1);
    assert_eq!(limits(&world, &[], &[]), (1, 1, 2));
    cancel(&world, &waiting[0]);
    for job in &waiting[2..] {
        world.wait_for(job, |status| status["state"] == "completed");
    }
    for job in &waiting {
        assert!(world.run(&["consume", "--json", job], &[]).0.is_some(), "killed");
    }
    world.aftermath(&holder, &KILLED)
}

/// Whoever is back first, each stands where it stood.
fn restart_order() -> Row {
    const WAITING: u64 = 5;
    let (world, holder) = one_slot();
    let waiting: Vec<String> = (1..=WAITING)
        .map(|place| {
            let job = start(&world, &[], &quick_task());
            waits_at(&world, &job, place);
            job
        })
        .collect();
    for _ in 0..2 {
        crate::gateway::kill9(&world);
        // All are back: the place that the gateway itself gives is not one that a cell remembers.
        let begun = Instant::now();
        while limits(&world, &[], &[]) != (1, 1, WAITING) {
            assert!(begun.elapsed() < PATIENCE, "{:?}", limits(&world, &[], &[]));
        }
        let places: Vec<u64> = waiting.iter().filter_map(|job| account::of_job(&world, job)["queue_position"].as_u64()).collect();
        assert_eq!(places, Vec::from_iter(1..=WAITING));
    }
    cancel(&world, &holder);
    for job in &waiting {
        world.wait_for(job, |status| status["state"] == "completed");
    }
    let begun: Vec<u64> = waiting.iter().map(|job| ran(&world, job).0).collect();
    assert!(begun.is_sorted(), "they began at {begun:?}");
    for job in &waiting {
        assert_eq!(world.run(&["consume", "--json", job], &[]).0, Some(0));
    }
    world.aftermath(&holder, &CANCELLED)
}

fn limit() -> Row {
    const SLOTS: &str = "ANCHORHOLD_ENGINE_MAX_RUNNING_JOBS";
    let (world, holder) = one_slot();
    let second = start(&world, &[], &endless_task());
    waits_at(&world, &second, 1);
    // Settings that are not new change nothing, however often they are brought.
    for verb in [&["jobs"][..], &["gc"], &["status", &second]] {
        world.run(verb, &[]);
    }
    assert_eq!(limits(&world, &[], &[]), (1, 1, 1));
    // New ones hold at once, brought by a look at a job that waits.
    world.run(&["status", &second], &[(SLOTS, "2")]);
    world.wait_until_it_ran(&second);
    // Fewer take no slot away, and give none until there is room.
    world.run(&["gc"], &[(SLOTS, "1")]);
    assert_eq!(limits(&world, &[], &[(SLOTS, "1")]), (1, 2, 0));
    let third = world.command(&["delegate", "--detach", "--json", "--", &quick_task()], &[(SLOTS, "1")]).output().expect("it runs");
    let third = job_id(&String::from_utf8_lossy(&third.stdout));
    let still = |world: &World| world.command(&["status", "--json", &third], &[(SLOTS, "1")]).output().expect("it runs");
    let until = Instant::now() + PATIENCE;
    while !String::from_utf8_lossy(&still(&world).stdout).contains("\"queued\"") {
        assert!(Instant::now() < until, "never queued");
    }
    world.run(&["cancel", &second], &[(SLOTS, "1")]);
    assert_eq!(limits(&world, &[], &[(SLOTS, "1")]), (1, 1, 1), "one ended, and one is still as many as there may be");
    // Another user's instance comes: its settings are new. After that neither undoes the other's with each command.
    let other = [("ANCHORHOLD_ENGINE_INSTANCE", "another-user"), (SLOTS, "5")];
    world.run(&["gc"], &other);
    world.run(&["gc"], &[(SLOTS, "1")]);
    assert_eq!(limits(&world, &[], &other).0, 5);
    world.wait_for(&third, |status| status["state"] == "completed");
    // Until somebody asks for just that.
    assert_eq!(limits(&world, &["--apply"], &[(SLOTS, "3")]).0, 3);
    for job in [&second, &third] {
        world.run(&["consume", "--json", job], &[]);
    }
    cancel(&world, &holder);
    world.aftermath(&holder, &CANCELLED)
}

fn too_long() -> Row {
    let (world, holder) = one_slot();
    let patient = start(&world, &["--deadline", "30"], &quick_task());
    waits_at(&world, &patient, 1);
    let queued = Instant::now();
    let hasty = start(&world, &["--queue-timeout", "3"], &quick_task());
    world.wait_for(&hasty, |status| status["state"] == "timeout");
    let (code, out, _) = world.run(&["result", "--json", &hasty], &[]);
    let result: Value = serde_json::from_str(&out).expect("one JSON document");
    assert_eq!((code, result["error"]["code"].as_str()), (Some(7), Some("timeout")), "{result:#}");
    // Its deadline counts from the slot: it has waited for longer than it may run.
    std::thread::sleep(Duration::from_secs(32).saturating_sub(queued.elapsed()));
    waits_at(&world, &patient, 1);
    cancel(&world, &holder);
    world.run(&["consume", &holder], &[]);
    world.wait_for(&patient, |status| status["state"] == "completed");
    assert_eq!(world.run(&["consume", "--json", &patient], &[]).0, Some(0));
    world.aftermath(&hasty, &NEVER_RAN)
}
