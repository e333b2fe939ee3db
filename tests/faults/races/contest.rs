//! Two commands released upon one job, and what each of them was told.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::case::Row;
use crate::support::docker;
use crate::world::{PATIENCE, World, job_id};

/// How many rounds a race has: `ROUNDS`, else a few.
pub fn rounds() -> usize {
    std::env::var("ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(5)
}

/// `SEED`, else a number from the clock.
pub fn seed() -> u64 {
    let clock = || std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(1, |d| d.as_nanos() as u64);
    std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(clock)
}

/// A number that an environment variable gives.
pub fn number(variable: &str, otherwise: usize) -> usize {
    std::env::var(variable).ok().and_then(|n| n.parse().ok()).unwrap_or(otherwise)
}

/// Numbers that look random and can be had again (SplitMix64). `SEED` gives the first one.
pub struct Random(u64);

impl Random {
    /// From `SEED`, else from the clock.
    pub fn from_environment() -> Self {
        Self(seed())
    }

    /// From a number.
    pub fn of(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below `bound`, which is not 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}

/// What a command was told.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Its exit code; `None`: a signal ended it.
    pub code: Option<i32>,
    /// Its one JSON document.
    pub json: Value,
    /// What it wrote beside that.
    pub stderr: String,
}

impl Answer {
    /// The state of the job that it was given, with or without an error of the job's own.
    pub fn state(&self) -> Option<&str> {
        self.json["job"]["state"].as_str()
    }

    /// The code of the error that it was given.
    pub fn error(&self) -> Option<&str> {
        self.json["error"]["code"].as_str()
    }

    /// Whether for this command there was no such job, told with the code and the exit code that always stand for it.
    pub fn not_found(&self) -> bool {
        self.error() == Some("job_not_found") && self.code == Some(9) && self.state().is_none()
    }

    /// Whether the job had not ended yet.
    pub fn still_running(&self) -> bool {
        self.error() == Some("job_running") && self.code == Some(10)
    }
}

/// One race: a user, the rounds so far, and how often each side came first.
pub struct Contest {
    pub world: World,
    pub random: Random,
    tally: BTreeMap<&'static str, usize>,
    begun: Instant,
}

impl Contest {
    /// A user with the gateway already up and room for many jobs at once.
    pub fn new() -> Self {
        let mut world = World::product();
        world.env.set("ANCHORHOLD_ENGINE_MAX_RUNNING_JOBS", "16");
        world.warm();
        Self { world, random: Random::from_environment(), tally: BTreeMap::new(), begun: Instant::now() }
    }

    /// Runs commands with `--json` beside each other, each after its own pause of up to `spread` milliseconds.
    pub fn release<const N: usize>(&mut self, commands: [&[&str]; N], spread: u64) -> [Answer; N] {
        let pauses = commands.map(|_| Duration::from_micros(self.random.below(spread * 1000 + 1)));
        let world = &self.world;
        let mut answers = std::thread::scope(|scope| {
            let running: Vec<_> = commands
                .iter()
                .zip(pauses)
                .map(|(arguments, pause)| {
                    scope.spawn(move || {
                        std::thread::sleep(pause);
                        answer(world, arguments, &[])
                    })
                })
                .collect();
            running.into_iter().map(|thread| thread.join().expect("a thread")).collect::<Vec<_>>().into_iter()
        });
        std::array::from_fn(|_| answers.next().expect("one answer a command"))
    }

    /// Jobs of this task that have ended, made a few at a time.
    pub fn ended(&self, count: usize, task: &str, variables: &[(&str, &str)]) -> Vec<String> {
        let world = &self.world;
        let jobs: Vec<String> = std::thread::scope(|scope| {
            let running: Vec<_> = (0..count).map(|_| scope.spawn(move || answer(world, &["delegate", "--json", "--", task], variables))).collect();
            running.into_iter().map(|thread| job_id(&thread.join().expect("a thread").json.to_string())).collect()
        });
        jobs
    }

    /// What a job's patch holds: `whole`, `partial` or `empty`; never anything that ran twice.
    pub fn patch(&self, job: &str) -> &'static str {
        let (code, patch, err) = self.world.run(&["diff", job], &[]);
        // Cancelled while its workspace was being unpacked: there is no tree to compare, and Codex had not begun.
        if code == Some(8) {
            let status = self.world.status(job);
            assert_eq!((&status["state"], &status["events_seen"]), (&"cancelled".into(), &0.into()), "no patch: {err} {status:#}");
            return "none";
        }
        assert_eq!(code, Some(0), "no patch: {err}");
        let lines = |wanted: &str| patch.lines().filter(|line| *line == wanted).count();
        match (lines("+ran"), lines("+done")) {
            (0, 0) if patch.is_empty() => "empty",
            (1, 0) => "partial",
            (1, 1) => "whole",
            _ => panic!("an odd patch:\n{patch}"),
        }
    }

    /// Counts an outcome.
    pub fn count(&mut self, outcome: &'static str) {
        *self.tally.entry(outcome).or_default() += 1;
    }

    /// Whatever came out, the job can be consumed by one and then nothing of it is left.
    pub fn end_round(&self, job: &str) {
        let last = answer(&self.world, &["consume", "--json", job], &[]);
        assert!(last.not_found() || last.state().is_some(), "neither there nor gone: {last:?}");
        self.nothing_of(job);
    }

    /// No container and no volume of this job is left, and nobody finds it.
    pub fn nothing_of(&self, job: &str) {
        assert!(answer(&self.world, &["status", "--json", job], &[]).not_found(), "{job} is still found");
        let filter = format!("label=anchorhold.job={job}");
        let begun = Instant::now();
        loop {
            let containers = docker(&["ps", "-a", "--format", "{{.Names}} {{.Status}}", "--filter", &filter]);
            let volumes = docker(&["volume", "ls", "-q", "--filter", &filter]);
            if containers.is_empty() && volumes.is_empty() {
                return;
            }
            // A removal that another process began goes on for a moment; an orphan has half a minute before it is swept.
            assert!(begun.elapsed() < PATIENCE, "left of {job}: {containers}{volumes}");
            std::thread::sleep(Duration::from_millis(300));
            answer(&self.world, &["gc", "--json"], &[]);
        }
    }

    /// Nothing is left of all rounds, and the next delegation works.
    pub fn finish(self) -> Row {
        self.world.nothing_is_left();
        self.world.next_one_works();
        let tally: Vec<String> = self.tally.iter().map(|(outcome, times)| format!("{outcome} {times}")).collect();
        let rounds: usize = self.tally.values().sum();
        let each = self.begun.elapsed().as_secs_f64() / rounds.max(1) as f64;
        Row { state: format!("{rounds} rounds"), reason: "one truth".into(), patch: "-".into(), answered: each, note: tally.join(", ") }
    }
}

/// Runs one command that was given `--json` and reads its answer.
pub fn answer(world: &World, arguments: &[&str], variables: &[(&str, &str)]) -> Answer {
    answer_in(world, world.repo.path(), arguments, variables)
}

/// The same in another directory.
pub fn answer_in(world: &World, directory: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> Answer {
    let out = world.command_in(directory, arguments, variables).stdin(Stdio::null()).output().expect("the binary runs");
    let stderr = String::from_utf8_lossy(&out.stderr).into_owned();
    let json = serde_json::from_slice(&out.stdout).unwrap_or_else(|e| panic!("{arguments:?}: {e}: {}{stderr}", String::from_utf8_lossy(&out.stdout)));
    Answer { code: out.status.code(), json, stderr }
}
