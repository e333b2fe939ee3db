//! Many delegations at once with faults at random, on one and the same repository and on several others, by the command line and by MCP servers that
//! live through all of it. Whatever happens to a job, its patch is some of its own work, byte for byte as git makes it; in the end nothing is left, and
//! no part of the product or the engine has grown with the jobs.
//!
//! `JOBS` and `AT_ONCE` size it (`make soak`: 500 and 8), `MINUTES` ends it sooner, `SEED` repeats its choices.

mod faults;
mod fleet;
mod growth;
mod life;
mod places;
mod tally;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use faults::FAULTS;
use fleet::Fleet;
use growth::{Gateway, Line, Part};
use life::{Life, Way};
use places::Place;
use tally::Tally;

use super::contest::{Random, answer, number, seed};
use crate::case::{Case, Row};
use crate::support::rehearsal::{Step, task};
use crate::world::{World, job_id};

pub const CASES: &[Case] =
    &[Case { id: "soak.short", fault: "faults at random (JOBS, MINUTES, AT_ONCE, SEED)", step: "at random", points: &[], run: soak }];

/// Repositories beside the one that gets half of all jobs.
const OTHERS: usize = 4;
/// MCP servers that nobody kills.
const STAY: usize = 2;

/// What all workers share.
struct Soak {
    world: World,
    places: Vec<Place>,
    fleet: Fleet,
    gateway: Gateway,
    tally: Mutex<Tally>,
    seed: u64,
    jobs: usize,
    begun: Instant,
    minutes: Option<Duration>,
    next: AtomicUsize,
    ended: AtomicUsize,
}

impl Soak {
    fn new() -> Self {
        let (jobs, at_once) = (number("JOBS", 12), at_once());
        let minutes = std::env::var("MINUTES").ok().and_then(|text| text.parse().ok()).map(|minutes: f64| Duration::from_secs_f64(minutes * 60.0));
        let mut world = World::product();
        // One more: a job lives through all of it.
        world.env.set("ANCHORHOLD_ENGINE_MAX_RUNNING_JOBS", &(at_once + 1).to_string());
        world.warm();
        let places = (0..=OTHERS).map(|n| Place::new(&world, n)).collect();
        let fleet = Fleet::open(&world, STAY);
        let (next, ended) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let (gateway, tally) = (Gateway::default(), Mutex::default());
        Self { world, places, fleet, gateway, tally, seed: seed(), jobs, begun: Instant::now(), minutes, next, ended }
    }

    /// How much of it is over, from 0 to 1.
    fn progress(&self, n: usize) -> f64 {
        let time = self.minutes.map_or(0.0, |minutes| self.begun.elapsed().as_secs_f64() / minutes.as_secs_f64());
        time.max(n as f64 / self.jobs as f64)
    }

    /// Half of all jobs are on one repository, the others on the others.
    fn place(&self, n: usize) -> &Place {
        let others = &self.places[1..];
        if n.is_multiple_of(2) { &self.places[0] } else { &others[n / 2 % others.len()] }
    }

    /// One job after the other until it is enough.
    fn work(&self) {
        loop {
            let n = self.next.fetch_add(1, Ordering::Relaxed);
            let progress = self.progress(n);
            if progress >= 1.0 {
                return;
            }
            // By its number, so that the same seed gives each job the same fault, whichever worker gets it.
            let mut random = Random::of(self.seed ^ (n as u64).wrapping_mul(0x9e37_79b9));
            // In the last quarter the gateway stays, so that it can be seen whether it grows.
            let choice: Vec<_> = FAULTS.iter().filter(|fault| progress < 0.75 || !fault.ends_gateway()).collect();
            let fault = *choice[random.below(choice.len() as u64) as usize];
            let way = Way::of(fault, &mut random, self.fleet.count());
            let life = Life { soak: self, place: self.place(n), key: format!("soak-{n}"), fault, way };
            let outcome = catch_unwind(AssertUnwindSafe(|| life.run(&mut random)));
            let ended = self.ended.fetch_add(1, Ordering::Relaxed) + 1;
            self.tally.lock().expect("no poison").add(n, fault, way, outcome);
            if ended.is_multiple_of(20) {
                eprintln!("{:>5} s  {ended} jobs, {} problems", self.begun.elapsed().as_secs(), self.tally.lock().expect("no poison").problems.len());
            }
        }
    }

    /// Each server makes one job, and so does the command line: what is made once when it is first needed is made before anything is measured.
    fn warm(&self) {
        for n in 0..=self.fleet.count() {
            let way = if n == self.fleet.count() { Way::CommandLine } else { Way::Server(n) };
            let life = Life { soak: self, place: self.place(n), key: format!("warm-{n}"), fault: faults::Fault::Nothing, way };
            let outcome = life.run(&mut Random::of(0));
            assert_eq!((outcome.state.as_str(), outcome.kind), ("completed", places::Kind::Whole), "without a fault: {outcome:?}");
        }
        self.gateway.begin(World::first_process(&self.world.env.gateway_name()), 0);
    }

    /// A job that does nothing, and lives through all of it.
    fn sample(&self) -> String {
        let endless = task(&[Step::Shell("sleep 604800")]);
        let longest = [("ANCHORHOLD_LIMITS_DEADLINE_SECONDS", "604800"), ("ANCHORHOLD_LIMITS_IDLE_SECONDS", "0")];
        let started = answer(&self.world, &["delegate", "--detach", "--json", "--", &endless], &longest);
        let job = job_id(&started.json.to_string());
        self.world.wait_for(&job, |status| status["state"] == "running");
        job
    }

    /// Everything that lives from here to the end.
    fn parts(&self, sample: &str) -> Vec<Part> {
        let init = u32::try_from(World::first_process(&World::container(sample))).ok();
        let mut parts: Vec<Part> = init.and_then(|pid| Part::own("init of one job", pid)).into_iter().collect();
        parts.extend(self.fleet.stay().iter().enumerate().filter_map(|(n, server)| Part::own(format!("MCP server {}", n + 1), server.pid())));
        parts.extend(crate::parts::engine().into_iter().filter_map(|(name, pid)| Part::engines(name, pid)));
        parts
    }
}

fn at_once() -> usize {
    number("AT_ONCE", 4)
}

fn soak() -> Row {
    let soak = Soak::new();
    println!("seed {} (SEED={} gives each job the same fault again)", soak.seed, soak.seed);
    soak.warm();
    let sample = soak.sample();
    let parts = soak.parts(&sample);
    std::thread::scope(|scope| {
        for _ in 0..at_once() {
            scope.spawn(|| soak.work());
        }
    });
    let took = soak.begun.elapsed().as_secs_f64();
    let mut lines: Vec<Line> = parts.iter().map(Part::end).collect();
    let Soak { world, places: _places, fleet, gateway, tally, ended, .. } = soak;
    let ended = ended.into_inner();
    if let Some((part, since)) = gateway.part() {
        let mut line = part.end();
        line.text.push_str(&format!("  served the last {} jobs", ended.saturating_sub(since)));
        lines.push(line);
    }
    let cancelled = answer(&world, &["cancel", "--json", &sample], &[]);
    assert_eq!(cancelled.state(), Some("cancelled"), "it has lived through all of it: {cancelled:?}");
    answer(&world, &["consume", "--json", &sample], &[]);
    let second = world.jobs();
    fleet.close();
    let leaks = catch_unwind(AssertUnwindSafe(|| world.nothing_is_left())).map_or_else(|_| world.leaks(), |()| Vec::new());
    let tally = tally.into_inner().expect("no poison");
    tally.print();
    println!("\n{}", Part::heading());
    lines.iter().for_each(|line| println!("{}", line.text));
    let twice = tally.twice + second.len();
    println!(
        "\njobs {ended} in {took:.0} s; leaks {}, mismatched patches {}, jobs lost {}, run twice {twice}, untrue {}, parts that grew {}",
        leaks.len(),
        tally.mismatched,
        tally.lost,
        tally.untrue,
        lines.iter().filter(|line| line.grew).count()
    );
    assert!(leaks.is_empty(), "{leaks:#?}");
    assert!(second.is_empty(), "one key, one job; these are more: {second:?}");
    assert!(tally.problems.is_empty() && tally.mismatched + tally.lost + tally.untrue + twice == 0, "{:#?}", tally.problems);
    assert!(lines.iter().all(|line| !line.grew), "the table says which part grew");
    assert!(ended > 0, "nothing was soaked");
    let note = format!("{} outcomes, {} parts", tally.outcomes(), lines.len());
    Row { state: format!("{ended} jobs"), reason: "true".into(), patch: "exact".into(), answered: took, note }
}
