//! Random kills at random times: jobs are started, run, read, cancelled and consumed by processes that are killed meanwhile, and what is true of each
//! job afterwards is checked. `make kills` prints the seed and a table; with the same seed the same victims are met in the same order.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::mcp::Server;
use crate::processes::{below, signal};
use crate::support::docker;
use crate::support::rehearsal::{Step, task};
use crate::world::{PATIENCE, RAN, World};

/// What a run is asked for.
pub struct Wanted {
    pub kills: u64,
    pub workers: u64,
    pub seed: u64,
}

impl Wanted {
    /// From `KILLS`, `JOBS` and `SEED` of the environment.
    pub fn from_environment() -> Self {
        let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
        let now = || u64::from(uuid::Uuid::new_v4().as_fields().0);
        Self { kills: number("KILLS").unwrap_or(1000), workers: number("JOBS").unwrap_or(4).max(1), seed: number("SEED").unwrap_or_else(now) }
    }
}

/// What was counted.
#[derive(Default)]
struct Tally {
    victims: BTreeMap<&'static str, u64>,
    outcomes: BTreeMap<String, u64>,
    jobs: u64,
    chains: u64,
    slowest: f64,
    lost: u64,
    twice: u64,
    leaks: u64,
    untrue: u64,
    problems: Vec<String>,
}

/// Kills until it is enough, prints the table; whether all went well.
pub fn run(wanted: &Wanted) -> bool {
    let begun = Instant::now();
    println!("seed {} (SEED={} KILLS={} JOBS={} runs the same again)", wanted.seed, wanted.seed, wanted.kills, wanted.workers);
    let tally = Mutex::new(Tally::default());
    let kills = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for worker in 0..wanted.workers {
            let (tally, kills) = (&tally, &kills);
            scope.spawn(move || work(worker, wanted, tally, kills, begun));
        }
    });
    let tally = tally.into_inner().expect("no poison");
    table(&tally, begun.elapsed());
    tally.problems.is_empty() && tally.lost + tally.twice + tally.leaks + tally.untrue == 0
}

fn table(tally: &Tally, took: Duration) {
    let kills: u64 = tally.victims.values().sum();
    println!("\n{:<34} {:>7}", "killed", "times");
    for (victim, times) in &tally.victims {
        println!("{victim:<34} {times:>7}");
    }
    println!("\n{:<48} {:>7}", "state, reason, patch", "jobs");
    for (outcome, times) in &tally.outcomes {
        println!("{outcome:<48} {times:>7}");
    }
    println!(
        "\nkills {kills}, jobs handed out {}, lost {}, untrue {}, leaks {}, ran twice {}; slowest true answer {:.1} s; {} s",
        tally.jobs,
        tally.lost,
        tally.untrue,
        tally.leaks,
        tally.twice,
        tally.slowest,
        took.as_secs()
    );
    for problem in &tally.problems {
        println!("PROBLEM: {problem}");
    }
}

/// One user and their jobs, one after the other.
fn work(worker: u64, wanted: &Wanted, tally: &Mutex<Tally>, kills: &AtomicU64, begun: Instant) {
    let world = World::product();
    world.warm();
    for chain in 0.. {
        if kills.load(Ordering::Relaxed) >= wanted.kills {
            break;
        }
        let dice = Dice(wanted.seed ^ (worker << 48) ^ (chain << 16));
        let mut run = Chain { world: &world, dice, kills, tally };
        let outcome = catch_unwind(AssertUnwindSafe(|| run.run()));
        let mut tally = tally.lock().expect("no poison");
        tally.chains += 1;
        if let Err(panic) = outcome {
            let text = panic.downcast_ref::<String>().cloned().or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()));
            tally.untrue += 1;
            tally.problems.push(format!("worker {worker}, chain {chain}: {}", text.unwrap_or_default()));
        }
        if tally.chains.is_multiple_of(10) {
            eprintln!(
                "{:>5} s  {} kills, {} jobs, {} problems",
                begun.elapsed().as_secs(),
                kills.load(Ordering::Relaxed),
                tally.jobs,
                tally.problems.len()
            );
        }
    }
    // Young volumes and directories are left alone for a while, so all that may be left is looked for at the end.
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| world.nothing_is_left())) {
        let mut tally = tally.lock().expect("no poison");
        tally.leaks += 1;
        tally.problems.push(format!("worker {worker}: {}", panic.downcast_ref::<String>().cloned().unwrap_or_default()));
    }
    let works = catch_unwind(AssertUnwindSafe(|| world.next_one_works()));
    if works.is_err() {
        let mut tally = tally.lock().expect("no poison");
        tally.untrue += 1;
        tally.problems.push(format!("worker {worker}: the next delegation does not work"));
    }
}

/// Splitmix64.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn pause(&mut self, most_ms: u64) {
        let ms = self.below(most_ms);
        std::thread::sleep(Duration::from_millis(ms));
    }
}

/// From a start to a consume, with kills on the way.
struct Chain<'a> {
    world: &'a World,
    dice: Dice,
    kills: &'a AtomicU64,
    tally: &'a Mutex<Tally>,
}

/// What was done to a job, which bounds what may be true of it.
#[derive(Default)]
struct Harm {
    starter: bool,
    cell: bool,
    cancelled: bool,
}

impl Chain<'_> {
    fn run(&mut self) {
        let mut harm = Harm::default();
        let handed = self.start(&mut harm);
        let jobs = self.world.jobs();
        if let Some(job) = &handed
            && !jobs.contains(job)
        {
            self.tally(|tally| {
                tally.lost += 1;
                tally.problems.push(format!("{job} was handed out and is not listed: {jobs:?}"));
            });
        }
        self.tally(|tally| tally.jobs += jobs.len() as u64);
        for job in &jobs {
            self.hit(job, &mut harm);
            self.read(job);
            self.judge(job, &harm);
            self.consume(job);
        }
        if self.dice.below(4) == 0 {
            self.command("gc", &["gc", "--json"], 150);
        }
    }

    fn tally(&self, change: impl FnOnce(&mut Tally)) {
        change(&mut self.tally.lock().expect("no poison"));
    }

    fn count(&self, victim: &'static str) {
        self.kills.fetch_add(1, Ordering::Relaxed);
        self.tally(|tally| *tally.victims.entry(victim).or_default() += 1);
    }

    fn task(&mut self) -> String {
        task(&[Step::Shell("echo ran >>once.txt"), Step::Delay(1 + self.dice.below(2)), Step::Shell("echo done >done.txt"), Step::Say("done")])
    }

    /// Starts a job in one of several ways, and kills who does it, mostly. The id that it handed out.
    fn start(&mut self, harm: &mut Harm) -> Option<String> {
        let task = self.task();
        harm.starter = self.dice.below(4) > 0;
        match self.dice.below(4) {
            way @ (0 | 1) => {
                let arguments: &[&str] = if way == 0 { &["delegate", "--detach", "--", &task] } else { &["delegate", "--json", "--", &task] };
                let mut child = self.world.spawn(arguments, &[]);
                if harm.starter {
                    self.dice.pause(2500);
                    if child.try_wait().expect("a child").is_none() {
                        child.kill().expect("it is there");
                        self.count(if way == 0 { "delegate --detach" } else { "delegate" });
                    }
                }
                child.wait().expect("it ends");
                let mut out = String::new();
                child.stdout.take().expect("its output").read_to_string(&mut out).expect("text");
                let id = out.split(|c: char| !c.is_ascii_hexdigit()).find(|word| word.len() == 32);
                id.map(str::to_owned)
            }
            way => {
                let mut server = Server::open(self.world, &[]);
                let arguments = json!({"task": task, "workspace_root": self.world.repo.path()});
                let mut handed = None;
                if way == 2 {
                    server.send("codex_delegate", &arguments);
                } else {
                    let answer = server.call("codex_delegate_async", &arguments);
                    handed = answer.and_then(|answer| Some(answer["job_id"].as_str()?.to_owned()));
                }
                self.dice.pause(2500);
                if harm.starter {
                    server.kill();
                    self.count("mcp");
                } else {
                    server.close();
                }
                handed
            }
        }
    }

    /// Kills something that the job lives by, or a process that cancels it.
    fn hit(&mut self, job: &str, harm: &mut Harm) {
        self.dice.pause(1500);
        let pid = |container: &str| docker(&["inspect", "-f", "{{.State.Pid}}", container]).trim().parse::<u32>().unwrap_or(0);
        let cell = World::container(job);
        match self.dice.below(7) {
            0 | 1 => {
                let init = pid(&cell);
                if init > 0 {
                    signal(init, "KILL");
                    harm.cell = true;
                    self.count("init");
                }
            }
            2 => {
                let init = pid(&cell);
                let codex = (init > 0).then(|| below(init).into_iter().find(|(_, line)| line.contains("codex"))).flatten();
                if let Some((codex, _)) = codex {
                    signal(codex, "KILL");
                    harm.cell = true;
                    self.count("codex");
                }
            }
            3 => {
                let gateway = pid(&self.world.env.gateway_name());
                if gateway > 0 {
                    signal(gateway, "KILL");
                    harm.cell = true;
                    self.count("gateway");
                }
            }
            4 => {
                harm.cancelled = true;
                self.command("cancel", &["cancel", "--json", job], 200);
            }
            5 => {
                let init = pid(&cell);
                let children = if init > 0 { below(init) } else { Vec::new() };
                if !children.is_empty() {
                    let at = usize::try_from(self.dice.below(children.len() as u64)).unwrap_or(0);
                    signal(children[at].0, "KILL");
                    harm.cell = true;
                    self.count("a child of init");
                }
            }
            _ => {}
        }
    }

    fn read(&mut self, job: &str) {
        match self.dice.below(4) {
            0 => drop(self.command("status", &["status", "--json", job], 100)),
            1 => drop(self.command("jobs", &["jobs", "--json"], 100)),
            2 => drop(self.command("logs", &["logs", "-f", job], 400)),
            _ => {}
        }
    }

    /// Runs a command and kills it after a random time, if it has not ended by then.
    fn command(&mut self, victim: &'static str, arguments: &[&str], most_ms: u64) -> Vec<u8> {
        let mut child = self.world.spawn(arguments, &[]);
        self.dice.pause(most_ms);
        if child.try_wait().expect("a child").is_none() {
            child.kill().expect("it is there");
            self.count(victim);
        }
        child.wait_with_output().expect("it ends").stdout
    }

    /// Whether what is said of the job is true.
    fn judge(&mut self, job: &str, harm: &Harm) {
        let begun = Instant::now();
        let first = self.world.status(job);
        let answered = begun.elapsed().as_secs_f64();
        self.tally(|tally| tally.slowest = tally.slowest.max(answered));
        assert!(first["state"].is_string(), "{first:#}");
        let last = self.world.wait_for(job, |status| status["result_available"] == true);
        // Readers of what has ended die as well.
        match self.dice.below(3) {
            0 => drop(self.command("result", &["result", "--json", job], 250)),
            1 => drop(self.command("diff", &["diff", job], 250)),
            _ => {}
        }
        let (code, patch, err) = self.world.run(&["diff", job], &[]);
        let ran = patch.lines().filter(|line| *line == format!("+{RAN}")).count();
        let done = patch.contains("+done");
        let kind = match (code, ran, done) {
            (Some(0), 0, false) => "empty",
            (Some(0), 1, false) => "partial",
            (Some(0), 1, true) => "whole",
            (Some(0), ..) => "odd",
            _ => "none",
        };
        let text = |name: &str| last[name].as_str().unwrap_or("none").to_owned();
        let (state, reason) = (text("state"), text("reason"));
        let harmless = !harm.starter && !harm.cell && !harm.cancelled;
        let detail = text("detail");
        let fits = match state.as_str() {
            // Codex goes on without a command of the agent's that was killed in the cell; what that one would have written is missing.
            "completed" => kind == "whole" || harm.cell && ran <= 1 && kind != "none",
            "interrupted" => harm.starter || harm.cell,
            "failed" => harm.cell,
            "cancelled" => harm.cancelled,
            _ => false,
        };
        let never_ran = detail.contains("nothing has run");
        let fits = fits && (!never_ran || kind == "none") && (!harmless || state == "completed") && !detail.is_empty();
        self.tally(|tally| {
            *tally.outcomes.entry(format!("{state}, {reason}, {kind}")).or_default() += 1;
            tally.lost += u64::from(state == "lost");
            tally.twice += u64::from(ran > 1);
            if !fits || ran > 1 {
                tally.untrue += 1;
                tally.problems.push(format!("patch {kind} ({err}) of {last:#}"));
            }
        });
    }

    /// Consumes it, with a kill or two on the way.
    fn consume(&mut self, job: &str) {
        if self.dice.below(3) > 0 {
            // Of a job that never ran the gateway knows nothing any more.
            let known = self.world.status(job)["answers"].as_u64().unwrap_or(0) > 0;
            let shown = self.command("consume", &["consume", "--json", job], 250);
            let whole = serde_json::from_slice::<Value>(&shown).is_ok();
            if known && !whole && self.world.run(&["status", "--json", job], &[]).0 != Some(0) {
                self.tally(|tally| {
                    tally.untrue += 1;
                    tally.problems.push(format!("a killed consume took the result of {job} away and had not shown it"));
                });
            }
        }
        let begun = Instant::now();
        loop {
            let (_, out, err) = self.world.run(&["consume", "--json", job], &[]);
            let (code, gone, _) = self.world.run(&["status", "--json", job], &[]);
            if code != Some(0) {
                break;
            }
            let said: Value = serde_json::from_str(&gone).unwrap_or_default();
            assert!(begun.elapsed() < PATIENCE, "still there after consume ({out}{err}): {said:#}");
        }
    }
}
