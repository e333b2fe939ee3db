//! One job of a soak, from its start to its consume.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::Soak;
use super::faults::Fault;
use super::places::{Kind, Place, task};
use crate::races::contest::{Random, answer, answer_in};
use crate::world::{PATIENCE, World, job_id};

/// How a job's user speaks to the product.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    CommandLine,
    /// By the server of this place.
    Server(usize),
}

impl Way {
    /// Half by the command line, half by the servers; only the last one of these is killed.
    pub fn of(fault: Fault, random: &mut Random, servers: usize) -> Self {
        match (random.below(2), random.below(servers as u64)) {
            (0, _) => Self::CommandLine,
            (_, at) if fault != Fault::KillStarter => Self::Server(at as usize),
            _ => Self::Server(servers - 1),
        }
    }

    pub fn word(self) -> &'static str {
        match self {
            Self::CommandLine => "command line",
            Self::Server(_) => "MCP",
        }
    }
}

/// What became of a job.
#[derive(Debug)]
pub struct Outcome {
    pub state: String,
    pub reason: String,
    pub kind: Kind,
    /// What it was made of, for whoever has to find out.
    pub told: String,
    /// Whether it may have been interrupted because the server that started it was killed for another job's sake.
    pub by_victim: bool,
    /// Whether whoever consumed it got its result; of a killed consume nobody may.
    pub consumed: bool,
}

pub struct Life<'a> {
    pub soak: &'a Soak,
    pub place: &'a Place,
    pub key: String,
    pub fault: Fault,
    pub way: Way,
}

impl Life<'_> {
    pub fn run(&self, random: &mut Random) -> Outcome {
        let world = &self.soak.world;
        let pause = Duration::from_millis(random.below(1500));
        let job = self.start(pause);
        if self.fault != Fault::KillStarter {
            std::thread::sleep(pause);
        }
        self.fault.strike(world, &job, pause);
        let last = self.ended(&job);
        if self.fault.ends_gateway() {
            // It has served this job since.
            self.soak.gateway.begin(World::first_process(&world.env.gateway_name()), self.soak.ended.load(Ordering::Relaxed));
        }
        let patch = self.patch(&job);
        let consumed = self.consume(&job, random);
        let text = |name: &str| last[name].as_str().unwrap_or("none").to_owned();
        let kind = self.place.judge(&self.key, &patch);
        let by_victim = matches!(self.way, Way::Server(at) if self.soak.fleet.is_victim(at));
        Outcome { state: text("state"), reason: text("reason"), kind, told: format!("{job}: {last}\n{patch}"), by_victim, consumed }
    }

    /// Starts it; whoever is killed over that is followed by one who asks for the same once more, with the same key.
    fn start(&self, pause: Duration) -> String {
        let task = task(&self.key, self.fault.trouble());
        let (world, directory) = (&self.soak.world, self.place.repo.path());
        match self.way {
            Way::CommandLine => {
                if self.fault == Fault::KillStarter {
                    let arguments = ["delegate", "--json", "--idempotency-key", &self.key, "--", &task];
                    kill_after(world.command_in(directory, &arguments, &[]), pause);
                }
                let arguments = ["delegate", "--detach", "--json", "--idempotency-key", &self.key, "--", &task];
                job_id(&answer_in(world, directory, &arguments, &[]).json.to_string())
            }
            Way::Server(at) => {
                let arguments = json!({"task": task, "workspace_root": directory, "idempotency_key": self.key});
                let fleet = &self.soak.fleet;
                if self.fault == Fault::KillStarter {
                    let server = fleet.server(at);
                    std::thread::scope(|scope| {
                        scope.spawn(|| server.call("codex_delegate", &arguments));
                        std::thread::sleep(pause);
                        fleet.kill_victim(world);
                    });
                }
                // The same once more is the same tool, too.
                let tool = if self.fault == Fault::KillStarter { "codex_delegate" } else { "codex_delegate_async" };
                let (told, _) = fleet.call(at, tool, &arguments);
                let id = told["job_id"].as_str().or(told["error"]["details"]["job_id"].as_str());
                id.unwrap_or_else(|| panic!("no job: {told:#}")).to_owned()
            }
        }
    }

    /// Waits as a user of that way does; where it stands when it has ended.
    fn ended(&self, job: &str) -> Value {
        let world = &self.soak.world;
        match self.way {
            Way::CommandLine => {
                world.run(&["wait", job], &[]);
                world.wait_for(job, |status| status["result_available"] == true)
            }
            Way::Server(at) => {
                let begun = Instant::now();
                let mut known = Value::Null;
                loop {
                    let arguments = json!({"job_id": job, "wait_seconds": 30, "since_state": known});
                    let (status, _) = self.soak.fleet.call(at, "codex_job_status", &arguments);
                    if status["result_available"] == true {
                        return status;
                    }
                    // A removed container and a gone gateway at once: nobody can say yet, and the answer says so.
                    if status["error"]["temporary"] == true && begun.elapsed() < PATIENCE {
                        std::thread::sleep(std::time::Duration::from_secs(1));
                        continue;
                    }
                    assert!(status["state"].is_string() && begun.elapsed() < PATIENCE * 2, "lost, or without an end: {status:#}");
                    known = status["state"].clone();
                }
            }
        }
    }

    /// Its patch, exact; nothing where nothing is said of changes.
    fn patch(&self, job: &str) -> String {
        match self.way {
            Way::CommandLine => self.soak.world.run(&["diff", job], &[]).1,
            Way::Server(at) => {
                let (told, _) = self.soak.fleet.call(at, "codex_job_result", &json!({"job_id": job}));
                // A bad end's work is part of its error.
                let result = if told["error"].is_null() { &told } else { &told["partial"] };
                let patch = result["diff"].as_str().unwrap_or_default();
                assert!(patch.is_empty() || result["diff_inline"] == true, "{told:#}");
                patch.to_owned()
            }
        }
    }

    /// Takes it away; whether somebody got the result.
    fn consume(&self, job: &str, random: &mut Random) -> bool {
        let world = &self.soak.world;
        let mut killed = false;
        if self.fault == Fault::KillConsume {
            killed = kill_after(world.command(&["consume", "--json", job], &[]), Duration::from_millis(random.below(400)));
        }
        let (got, not_found, told) = match self.way {
            Way::CommandLine => {
                let told = answer(world, &["consume", "--json", job], &[]);
                (told.state().is_some(), told.not_found(), format!("{told:?}"))
            }
            Way::Server(at) => {
                let (told, died) = self.soak.fleet.call(at, "codex_job_consume_result", &json!({"job_id": job}));
                killed |= died;
                let not_found = told["error"]["code"] == "job_not_found";
                // Of a job that never ran, such as one that was removed while it was being started, the error is the result.
                let never_ran = told["error"]["details"]["never_ran"] == true;
                (
                    never_ran || !not_found && told["job_id"].as_str().or(told["error"]["details"]["job_id"].as_str()) == Some(job),
                    not_found,
                    told.to_string(),
                )
            }
        };
        // Who is killed while it removes the job has consumed it.
        assert!(got || not_found && (killed || self.fault == Fault::KillConsume), "neither there nor taken: {told}");
        got
    }
}

/// Runs a command and kills it after a while; whether it had not ended by then.
fn kill_after(mut command: std::process::Command, pause: Duration) -> bool {
    let null = std::process::Stdio::null;
    let mut child = command.stdin(null()).stdout(null()).stderr(null()).spawn().expect("the binary starts");
    std::thread::sleep(pause);
    let running = child.try_wait().expect("a child").is_none();
    if running {
        child.kill().expect("it is there");
    }
    child.wait().expect("it ends");
    running
}
