//! A provider beyond the gateway, reached over HTTP: what it is sent, what of its answers comes back, and where the key is and is not. The rehearsal
//! model never leaves the gateway; these delegations do. Each has a gateway of its own, on the engine's host network.

#![expect(clippy::expect_used, clippy::panic, reason = "a test fails by panicking, its helpers too")]

mod continuing;
mod credential;
mod failures;
mod inherit;
mod reach;
mod tls;

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::Environment;
use crate::support::environment::Repository;
use crate::support::provider::Provider;

/// Far above what anything here takes; only a failing test waits for it.
const PATIENCE: Duration = Duration::from_secs(120);

/// A user of a real provider, with a key that must be found nowhere.
struct User {
    env: Environment,
    repository: Repository,
    key: String,
}

/// How a run of the binary ended.
struct Run {
    code: i32,
    json: Value,
    text: String,
}

impl User {
    fn new(upstream: &str) -> Self {
        let mut env = Environment::new();
        let key = format!("sk-canary-{}", uuid::Uuid::new_v4().simple());
        env.set("OPENAI_API_KEY", &key);
        env.set("ANCHORHOLD_MODEL_UPSTREAM", upstream);
        env.set("ANCHORHOLD_GATEWAY_NETWORK", "host");
        env.set("ANCHORHOLD_MODEL_DEFAULT_MODEL", "scripted");
        let repository = env.repository("repository", &[("f", b"1\n2\n3\n")]);
        Self { env, repository, key }
    }

    /// A user of this provider at its usual path.
    fn of(provider: &Provider) -> Self {
        Self::new(&provider.url("/v1"))
    }

    /// Runs the binary in the repository, to its end; the job's fields are at the top of its document.
    #[track_caller]
    fn run(&self, args: &[&str]) -> Run {
        let out = self.env.anchorhold(args).current_dir(self.repository.path()).output().expect("the binary runs");
        let text = format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
        let mut json: Value = serde_json::from_slice(&out.stdout).unwrap_or_else(|e| panic!("not one JSON document ({e}): {text}"));
        if let Some(job) = json["job"].as_object().cloned()
            && let Some(top) = json.as_object_mut()
        {
            for (name, value) in job {
                top.entry(name).or_insert(value);
            }
        }
        Run { code: out.status.code().unwrap_or(-1), json, text }
    }

    #[track_caller]
    fn delegate(&self) -> Run {
        self.run(&["delegate", "--json", "change the file"])
    }

    #[track_caller]
    fn detach(&self) -> String {
        let run = self.run(&["delegate", "--detach", "--json", "change the file"]);
        run.json["job_id"].as_str().unwrap_or_else(|| panic!("no job id: {}", run.text)).to_owned()
    }

    /// The job's end, awaited.
    #[track_caller]
    fn end_of(&self, job: &str) -> Run {
        let mut last = None;
        wait_until("the job ends", || {
            let run = self.run(&["result", "--json", job]);
            let running = run.json["error"]["code"] == "job_running";
            last = Some(run);
            !running
        });
        last.expect("a result")
    }

    fn patch(&self, job: &Value) -> String {
        let job = job["job_id"].as_str().expect("a job id");
        let out = self.env.anchorhold(&["diff", job]).output().expect("the binary runs");
        String::from_utf8(out.stdout).expect("text")
    }

    /// The gateway's container.
    fn gateway(&self) -> String {
        format!("anchorhold-{}", self.env.instance())
    }

    /// Fails if the key, or a part of it that would give it away, stands in the text.
    #[track_caller]
    fn clean(&self, what: &str, bytes: &[u8]) {
        let holds = |part: &str| memchr::memmem::find(bytes, part.as_bytes()).is_some();
        assert!(!holds(&self.key) && !holds(&self.key[10..30]), "the key stands in {what}");
    }
}

#[track_caller]
fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < PATIENCE, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// A bad end with its code; the partial work, if there is any, applies.
#[track_caller]
fn ended(user: &User, run: &Run, code: &str, exit: i32, partial: bool) {
    assert_eq!(run.json["error"]["code"], code, "{:#}", run.json);
    assert_eq!(run.code, exit, "{:#}", run.json);
    assert!(run.json["error"]["hint"].as_str().is_some_and(|hint| !hint.is_empty()), "{:#}", run.json);
    let patch = user.patch(&run.json);
    assert_eq!(patch.contains("+partial"), partial, "{:#}\n{patch}", run.json);
    if partial {
        user.repository.applied(patch.as_bytes(), "partial");
    }
    user.clean("the output", run.text.as_bytes());
}
