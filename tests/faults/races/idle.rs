//! What everything costs while nothing happens: jobs that wait for a command of theirs, servers whose clients wait for a job.

use std::time::{Duration, Instant};

use serde_json::json;

use super::contest::{answer, number};
use crate::case::{Case, Row};
use crate::mcp::Server;
use crate::parts::{Meter, processor_seconds};
use crate::processes::below;
use crate::support::rehearsal::{Step, task};
use crate::world::{PATIENCE, World};

pub const CASES: &[Case] =
    &[Case { id: "scale.idle", fault: "20 idle jobs, 5 servers that wait (RUNNING, SERVERS)", step: "Codex waits", points: &[], run: idle }];

/// Part of one core that all processes of ours may use together.
const MOST: f64 = 0.01;
/// Jobs that are started, or ended, at once.
const AT_ONCE: usize = 4;
/// The longest wait of one call.
const LONGEST: usize = 50;

/// Processes of one part, and what they used.
struct Group {
    name: &'static str,
    pids: Vec<u32>,
    meter: Meter,
    ticks: f64,
}

impl Group {
    fn new(name: &'static str, pids: Vec<u32>) -> Self {
        Self { name, pids, meter: Meter::default(), ticks: 0.0 }
    }

    fn look(&mut self) {
        for pid in &self.pids {
            self.meter.look(*pid).unwrap_or_else(|| panic!("{} {pid} is gone", self.name));
        }
    }

    /// Seconds of processor time since the last call: as the scheduler measures it, and in the kernel's ticks.
    fn used(&mut self) -> (f64, f64) {
        self.look();
        let ticks: f64 = self.pids.iter().filter_map(|pid| processor_seconds(*pid)).sum();
        (self.meter.take(), ticks - std::mem::replace(&mut self.ticks, ticks))
    }
}

/// Does something for each of many, a few at a time.
fn each<T: Sync, R: Send>(of: &[T], deed: impl Fn(&T) -> R + Sync) -> Vec<R> {
    std::thread::scope(|scope| {
        let running: Vec<_> = of
            .chunks(of.len().div_ceil(AT_ONCE).max(1))
            .map(|chunk| {
                let deed = &deed;
                scope.spawn(move || chunk.iter().map(deed).collect::<Vec<_>>())
            })
            .collect();
        running.into_iter().flat_map(|thread| thread.join().expect("a thread")).collect()
    })
}

fn first_process(container: &str) -> u32 {
    u32::try_from(World::first_process(container)).expect("a process id")
}

/// Waits until the agent's command of a job runs; its `init`.
fn waiting_init(world: &World, job: &str) -> u32 {
    let begun = Instant::now();
    let init = loop {
        let pid = first_process(&World::container(job));
        if pid > 0 {
            break pid;
        }
        assert!(begun.elapsed() < PATIENCE, "it never started");
        std::thread::sleep(Duration::from_millis(200));
    };
    while !below(init).iter().any(|(_, line)| line.starts_with("sleep ")) {
        assert!(begun.elapsed() < PATIENCE * 2, "its agent does not wait: {:#}", world.status(job));
        std::thread::sleep(Duration::from_millis(200));
    }
    init
}

fn idle() -> Row {
    let (running, servers) = (number("RUNNING", 20), number("SERVERS", 5));
    let seconds = number("SECONDS", 30).clamp(1, LONGEST - 10);
    let mut world = World::product();
    world.env.set("ANCHORHOLD_ENGINE_MAX_RUNNING_JOBS", &running.to_string());
    world.warm();
    let endless = task(&[Step::Shell("sleep 3600"), Step::Say("done")]);
    let jobs = each(&vec![(); running], |()| world.detach(&endless));
    let inits = each(&jobs, |job| waiting_init(&world, job));
    let mut clients: Vec<Server> = (0..servers).map(|_| Server::open(&world, &[])).collect();
    let jobs_of_clients: Vec<&String> = jobs.iter().cycle().take(servers).collect();
    for (client, job) in clients.iter_mut().zip(&jobs_of_clients) {
        let status = client.call("codex_job_status", &json!({"job_id": job})).expect("the server lives");
        assert_eq!(status["state"], "running", "{status:#}");
    }
    for (client, job) in clients.iter_mut().zip(&jobs_of_clients) {
        client.send("codex_job_status", &json!({"job_id": job, "wait_seconds": LONGEST, "since_state": "running"}));
    }
    let asked = Instant::now();
    let mut groups = vec![
        Group::new("MCP servers", clients.iter().map(Server::pid).collect()),
        Group::new("gateway", vec![first_process(&world.env.gateway_name())]),
        Group::new("init of the jobs", inits),
    ];
    // The first second of a wait is its beginning: a look, a log, the engine's events.
    std::thread::sleep(Duration::from_secs(1));
    for group in &mut groups {
        group.used();
    }
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(seconds as u64) {
        std::thread::sleep(Duration::from_secs(1));
        groups.iter_mut().for_each(Group::look);
    }
    let took = begun.elapsed().as_secs_f64();
    let used: Vec<(f64, f64)> = groups.iter_mut().map(Group::used).collect();
    let waited = asked.elapsed();
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    println!("{:<20} {:>9} {:>10} {:>12} {:>14}", "part", "processes", "ms", "of one core", "by ticks, ms");
    for (group, (used, ticks)) in groups.iter().zip(&used) {
        println!("{:<20} {:>9} {:>10.0} {:>10.2} % {:>14.0}", group.name, group.pids.len(), used * 1000.0, used / took * 100.0, ticks * 1000.0);
    }
    let all: f64 = used.iter().map(|(used, _)| used).sum();
    let part = all / took;
    println!("all in {took:.1} s: {:.0} ms, {:.2} % of one core; load {}", all * 1000.0, part * 100.0, load.trim());
    // What was measured is what is meant: all clients waited until now, and hear of the end.
    assert!(waited < Duration::from_secs(LONGEST as u64), "measured for longer than a call waits: {waited:?}");
    each(&jobs, |job| assert_eq!(answer(&world, &["cancel", "--json", job], &[]).state(), Some("cancelled")));
    for client in &mut clients {
        let told = client.answer().expect("the server lives");
        assert_ne!(told["result"]["structuredContent"]["state"], "running", "it did not wait: {told:#}");
        client.close();
    }
    each(&jobs, |job| assert!(answer(&world, &["consume", "--json", job], &[]).state().is_some()));
    world.nothing_is_left();
    assert!(part < MOST, "idle costs {:.2} % of one core: the table says where", part * 100.0);
    let note = format!("{:.2} % of one core", part * 100.0);
    Row { state: "running".into(), reason: "-".into(), patch: "-".into(), answered: took, note }
}
