//! A hermetic place to test in: own HOME, own instance on the engine, one gateway for the whole run, everything removed at the end.
//!
//! The engine, the image and the Codex CLI are the real ones (`make test` sees to them). The gateway `anchorhold-test-gateway` is
//! shared by all tests, because tests run as processes of their own; `make test` removes it when they are done.

#![allow(dead_code, unused_imports, reason = "each test binary uses its own part of this")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr, reason = "a test fails by panicking, its helpers too")]

pub mod chaos;
pub mod environment;
pub mod http;
pub mod own_engine;
mod pauses;
pub mod provider;
pub mod python;
pub mod rehearsal;
mod repo;
pub mod schemas;
pub mod tamper;
mod tree;
pub mod weakened;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anchorhold::process;
use serde_json::Value;

pub use environment::{Environment, Repository};
pub use pauses::Pauses;
pub use repo::Repo;
pub use tree::Tree;

/// Long enough for a slow, shared machine; a test that meets it has failed.
const PATIENCE: Duration = Duration::from_secs(120);

/// What a run of the binary left.
#[derive(Debug)]
pub struct Output {
    pub code: i32,
    pub stdout: Vec<u8>,
    pub stderr: String,
}

impl Output {
    /// Standard output as one JSON document.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.stdout).unwrap_or_else(|e| panic!("not one JSON document ({e}): {self:?}"))
    }

    /// The same with the fields of its `job` object at the top, for short assertions.
    #[track_caller]
    pub fn flat(&self) -> Value {
        let mut json = self.json();
        if let Some(job) = json["job"].as_object().cloned()
            && let Some(top) = json.as_object_mut()
        {
            for (name, value) in job {
                top.entry(name).or_insert(value);
            }
        }
        json
    }

    /// Everything it printed.
    pub fn text(&self) -> String {
        format!("{}{}", String::from_utf8_lossy(&self.stdout), self.stderr)
    }
}

/// A user of the binary: HOME, settings by environment, an instance of their own.
pub struct TestEnv {
    home: std::sync::Arc<tempfile::TempDir>,
    instance: String,
    vars: Vec<(String, String)>,
    owner: bool,
    program: PathBuf,
    /// A gateway that nobody shares, removed at the end.
    own_gateway: Option<String>,
    /// The engine that is looked at, where it is not the machine's own.
    engine: Option<String>,
}

impl TestEnv {
    /// A fresh user with the rehearsal model.
    pub fn new() -> Self {
        let id = uuid::Uuid::new_v4().simple().to_string();
        Self {
            home: std::sync::Arc::new(tempfile::tempdir().expect("temporary directory")),
            instance: format!("test-{}", &id[..12]),
            vars: Vec::new(),
            owner: true,
            program: env!("CARGO_BIN_EXE_anchorhold").into(),
            own_gateway: None,
            engine: None,
        }
    }

    /// The same user, before anything was run, on an engine of the test's own; leftovers are looked for there, and nothing is removed at the end,
    /// because that engine goes as a whole.
    #[must_use]
    pub fn on_engine(mut self, host: &str) -> Self {
        // A cell needs no network, and neither does the rehearsal model; that engine has no bridge.
        for (name, value) in [("ANCHORHOLD_ENGINE_HOST", host), ("ANCHORHOLD_GATEWAY_NETWORK", "none")] {
            self.vars.push((name.to_owned(), value.to_owned()));
        }
        self.engine = Some(host.to_owned());
        self.owner = false;
        self
    }

    /// A fresh user of another binary with its own image and variables, and with a gateway that nobody shares.
    pub fn of(program: &Path, image: &str, variables: &[(&str, &str)]) -> Self {
        let mut env = Self::new().with_own_gateway();
        env.program = program.to_owned();
        env.vars.push(("ANCHORHOLD_IMAGE_NAME".to_owned(), image.to_owned()));
        env.vars.extend(variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        env
    }

    /// The same user, before anything was run, with a gateway that nobody shares.
    #[must_use]
    pub fn with_own_gateway(mut self) -> Self {
        let name = format!("anchorhold-{}-gateway", self.instance);
        self.vars.push(("ANCHORHOLD_GATEWAY_NAME".to_owned(), name.clone()));
        self.own_gateway = Some(name);
        self
    }

    /// The same user with one more variable; the original keeps the cleaning up.
    #[must_use]
    pub fn with(&self, name: &str, value: &str) -> Self {
        let mut vars = self.vars.clone();
        vars.push((name.to_owned(), value.to_owned()));
        let (program, own_gateway, engine) = (self.program.clone(), self.own_gateway.clone(), self.engine.clone());
        Self { home: std::sync::Arc::clone(&self.home), instance: self.instance.clone(), vars, owner: false, program, own_gateway, engine }
    }

    /// This user with one more variable from now on.
    pub fn set(&mut self, name: &str, value: &str) {
        self.vars.push((name.to_owned(), value.to_owned()));
    }

    /// The name of the shared gateway.
    pub fn gateway() -> String {
        std::env::var("ANCHORHOLD_TEST_GATEWAY").unwrap_or_else(|_| "anchorhold-test-gateway".to_owned())
    }

    /// The name of this user's gateway.
    pub fn gateway_name(&self) -> String {
        self.own_gateway.clone().unwrap_or_else(Self::gateway)
    }

    /// The binary under test.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// HOME.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// The instance label of everything that this user makes.
    pub fn instance(&self) -> &str {
        &self.instance
    }

    /// The variables that the binary gets.
    pub fn vars(&self) -> Vec<(String, String)> {
        let mut vars = vec![
            ("HOME".to_owned(), self.home.path().display().to_string()),
            ("NO_COLOR".to_owned(), "1".to_owned()),
            ("ANCHORHOLD_MODEL_UPSTREAM".to_owned(), "rehearsal".to_owned()),
            ("ANCHORHOLD_GATEWAY_NAME".to_owned(), Self::gateway()),
            ("ANCHORHOLD_ENGINE_INSTANCE".to_owned(), self.instance.clone()),
        ];
        for name in ["DOCKER_HOST", "ANCHORHOLD_IMAGE_NAME", "ANCHORHOLD_ENGINE_RUNTIME"] {
            if let Ok(value) = std::env::var(name) {
                vars.push((name.to_owned(), value));
            }
        }
        vars.extend(self.vars.iter().cloned());
        vars
    }

    /// The built binary in a directory, ready to run.
    pub fn command(&self, dir: &Path, args: &[&str]) -> Command {
        let mut command = process::command(self.program.to_str().expect("a path in UTF-8"), dir);
        command.args(args).envs(self.vars());
        command
    }

    /// Runs the binary in a directory, to its end.
    #[track_caller]
    pub fn run_in(&self, dir: &Path, args: &[&str]) -> Output {
        let out = self.command(dir, args).output().expect("the binary runs");
        Output { code: out.status.code().unwrap_or(-1), stdout: out.stdout, stderr: String::from_utf8_lossy(&out.stderr).into_owned() }
    }

    /// Runs the binary in HOME.
    #[track_caller]
    pub fn run(&self, args: &[&str]) -> Output {
        self.run_in(self.home.path(), args)
    }

    /// A new empty directory that is in no repository.
    pub fn directory(&self) -> PathBuf {
        tempfile::Builder::new().prefix("dir-").tempdir_in(self.home.path()).expect("directory").keep()
    }

    /// A new empty repository.
    pub fn repo(&self) -> Repo {
        self.repo_with("--object-format=sha1")
    }

    /// A new empty repository made with one more flag of `git init`.
    pub fn repo_with(&self, flag: &str) -> Repo {
        let repo = Repo::new(&self.directory().join("repo"));
        repo.bash(&format!("git init -q -b main {flag} ."));
        repo
    }

    /// Delegates and waits; the JSON document, whatever the outcome. Commits first if there is no commit yet.
    #[track_caller]
    pub fn delegate(&self, repo: &Repo, task: &str) -> Value {
        repo.bash("git rev-parse -q --verify HEAD >/dev/null || git commit -qm base --allow-empty");
        self.run_in(repo.path(), &["delegate", "--json", task]).flat()
    }

    /// Delegates and returns the job's id at once.
    #[track_caller]
    pub fn detach(&self, repo: &Repo, task: &str) -> String {
        let out = self.run_in(repo.path(), &["delegate", "--detach", "--json", task]);
        out.json()["job_id"].as_str().unwrap_or_else(|| panic!("no job id: {}", out.text())).to_owned()
    }

    /// The exact patch bytes of a job.
    #[track_caller]
    pub fn diff(&self, job: &str) -> Vec<u8> {
        let out = self.run(&["diff", job]);
        out.stdout
    }

    /// Polls a job's status until it is as wanted.
    #[track_caller]
    pub fn wait_for(&self, job: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let start = Instant::now();
        let mut pauses = Pauses::new();
        loop {
            let status = self.run(&["status", "--json", job]).flat();
            if wanted(&status) {
                return status;
            }
            assert!(start.elapsed() < PATIENCE, "never as wanted: {status:#}");
            pauses.wait();
        }
    }

    /// The docker client; its standard output.
    #[track_caller]
    pub fn docker(&self, args: &[&str]) -> String {
        match &self.engine {
            Some(host) => docker_at(Some(host), args),
            None => docker(args),
        }
    }

    /// Containers and volumes of this user that are still there.
    pub fn leftovers(&self) -> Vec<String> {
        let filter = format!("label=anchorhold.instance={}", self.instance);
        let mut names: Vec<String> = self.docker(&["ps", "-a", "--format", "{{.Names}}", "--filter", &filter]).lines().map(str::to_owned).collect();
        names.extend(self.docker(&["volume", "ls", "-q", "--filter", &filter]).lines().map(str::to_owned));
        names.retain(|name| !name.starts_with(&self.gateway_name()));
        names
    }
}

impl Drop for TestEnv {
    fn drop(&mut self) {
        if !self.owner {
            return;
        }
        let filter = format!("label=anchorhold.instance={}", self.instance);
        for id in docker(&["ps", "-aq", "--filter", &filter]).lines() {
            // The gateway carries the label of whoever made it, and serves the others.
            if !docker(&["inspect", "-f", "{{.Name}}", id]).trim().trim_start_matches('/').starts_with(&self.gateway_name()) {
                docker(&["rm", "-fv", id]);
            }
        }
        for name in docker(&["volume", "ls", "-q", "--filter", &filter]).lines().filter(|n| !n.starts_with(&self.gateway_name())) {
            docker(&["volume", "rm", "-f", name]);
        }
        if let Some(gateway) = &self.own_gateway {
            // A job alone makes the socket's volume, too.
            // By its label: a test may have renamed it.
            for id in docker(&["ps", "-aq", "--filter", &format!("label=anchorhold.gateway={gateway}")]).lines() {
                docker(&["rm", "-fv", id]);
            }
            docker(&["volume", "rm", "-f", &format!("{gateway}-socket"), &format!("{gateway}-state")]);
        }
    }
}

/// The docker client. A failure is printed and gives what it wrote, because cleaning up must not hide a test's own failure.
pub fn docker(args: &[&str]) -> String {
    docker_at(std::env::var("DOCKER_HOST").ok().as_deref(), args)
}

/// The socket of the engine that these tests use, where it is one of this machine.
pub fn local_socket() -> Option<PathBuf> {
    match std::env::var("DOCKER_HOST") {
        Ok(host) => host.strip_prefix("unix://").map(PathBuf::from),
        Err(_) => Some("/var/run/docker.sock".into()),
    }
}

/// The same for an engine of choice; `None`: the one that the client finds.
pub fn docker_at(host: Option<&str>, args: &[&str]) -> String {
    let mut command = process::command("docker", Path::new("/"));
    if let Some(host) = host {
        command.env("DOCKER_HOST", host);
    }
    let out = command.args(args).stdin(Stdio::null()).output().expect("the docker client runs");
    if !out.status.success() {
        eprintln!("docker {args:?}: {}", String::from_utf8_lossy(&out.stderr).trim());
    }
    String::from_utf8_lossy(&out.stdout).into_owned()
}
