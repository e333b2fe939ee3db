//! Where faults happen: a user with a gateway of their own, one repository, and a look at everything that could be left or be untrue afterwards.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::case::Row;
use crate::support::rehearsal::{Step, task};
use crate::support::weakened::{product_image, weakened_image, weakened_program};
use crate::support::{Pauses, Repo, TestEnv, docker};

/// Long enough for a slow, shared machine; whoever meets it has failed.
pub const PATIENCE: Duration = Duration::from_secs(150);
/// The line that a job's agent adds to `once.txt` each time it runs.
pub const RAN: &str = "ran";

/// What must be true of a job after a fault.
pub struct Expected {
    /// Its last state may be one of these.
    pub states: &'static [&'static str],
    /// Its reason one of these.
    pub reasons: &'static [&'static str],
    /// Its patch one of these; see [`Row::patch`].
    pub patches: &'static [&'static str],
}

/// A user and a repository.
pub struct World {
    pub env: TestEnv,
    pub repo: Repo,
    temporary: PathBuf,
    /// How long to wait for what must come.
    pub patience: Duration,
}

impl World {
    /// The product as it is built.
    pub fn product() -> Self {
        Self::over(TestEnv::new().with_own_gateway())
    }

    /// The product with these variables for every command.
    pub fn product_with(variables: &[(&str, &str)]) -> Self {
        Self::over(TestEnv::of(Path::new(env!("CARGO_BIN_EXE_anchorhold")), &product_image(), variables))
    }

    /// The build with fault points, its image, and these variables for every command.
    pub fn with(variables: &[(&str, &str)]) -> Self {
        Self::over(TestEnv::of(&weakened_program(), &weakened_image(), variables))
    }

    /// The product on an engine of the test's own.
    pub fn product_on(host: &str, variables: &[(&str, &str)]) -> Self {
        let env = TestEnv::of(Path::new(env!("CARGO_BIN_EXE_anchorhold")), &product_image(), variables);
        Self::over(env.on_engine(host))
    }

    /// The build with fault points on an engine of the test's own.
    pub fn with_on(host: &str, variables: &[(&str, &str)]) -> Self {
        Self::over(TestEnv::of(&weakened_program(), &weakened_image(), variables).on_engine(host))
    }

    /// A user as the case made them.
    pub fn of(env: TestEnv) -> Self {
        Self::over(env)
    }

    fn over(env: TestEnv) -> Self {
        let temporary = env.directory();
        let repo = env.repo();
        repo.bash("printf 'one\\n' >base.txt; git add .; git commit -qm base");
        let env_with = env;
        Self { env: env_with, repo, temporary, patience: PATIENCE }
    }

    /// A command of this user in the repository, with further variables.
    pub fn command(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Command {
        self.command_in(self.repo.path(), arguments, variables)
    }

    /// The same in another directory.
    pub fn command_in(&self, directory: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> Command {
        let mut command = self.env.command(directory, arguments);
        command.env("TMPDIR", &self.temporary).envs(variables.iter().copied());
        command
    }

    /// Runs a command to its end; its exit code (`None`: killed by a signal), standard output and standard error.
    pub fn run(&self, arguments: &[&str], variables: &[(&str, &str)]) -> (Option<i32>, String, String) {
        let out = self.command(arguments, variables).output().expect("the binary runs");
        (out.status.code(), String::from_utf8_lossy(&out.stdout).into_owned(), String::from_utf8_lossy(&out.stderr).into_owned())
    }

    /// Starts a command whose end the case decides.
    pub fn spawn(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Child {
        self.command(arguments, variables).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("the binary starts")
    }

    /// Makes the gateway, so that a fault in a delegation is not one of the gateway's start.
    pub fn warm(&self) {
        let (code, out, err) = self.run(&["delegate", "--json", "--", &task(&[Step::Say("warm")])], &[]);
        assert_eq!(code, Some(0), "{out}{err}");
        let job = job_id(&out);
        assert_eq!(self.run(&["consume", &job], &[]).0, Some(0));
    }

    /// The same where it is of use.
    pub fn warm_if(&self, useful: bool) {
        if useful {
            self.warm();
        }
    }

    /// Starts a job and returns its id when all of it is delivered.
    pub fn detach(&self, task: &str) -> String {
        let (code, out, err) = self.run(&["delegate", "--detach", "--json", "--", task], &[]);
        assert_eq!(code, Some(0), "{out}{err}");
        job_id(&out)
    }

    /// The ids of this user's jobs, as the product lists them.
    pub fn jobs(&self) -> Vec<String> {
        let (_, out, err) = self.run(&["jobs", "--all", "--json"], &[]);
        let list: Value = serde_json::from_str(&out).unwrap_or_else(|e| panic!("{e}: {out}{err}"));
        list["jobs"].as_array().expect("jobs").iter().map(|job| job["job_id"].as_str().expect("an id").to_owned()).collect()
    }

    /// A job's status as the next command tells it.
    pub fn status(&self, job: &str) -> Value {
        let (code, out, err) = self.run(&["status", "--json", job], &[]);
        assert_eq!(code, Some(0), "{out}{err}");
        let status: Value = serde_json::from_str(&out).expect("one JSON document");
        if status["job"].is_object() { status["job"].clone() } else { status }
    }

    /// Waits until a job's status is as wanted.
    pub fn wait_for(&self, job: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let begun = Instant::now();
        let mut pauses = Pauses::new();
        loop {
            let status = self.status(job);
            if wanted(&status) {
                return status;
            }
            assert!(begun.elapsed() < self.patience, "never as wanted: {status:#}");
            pauses.wait();
        }
    }

    /// Waits until the agent of a job has done its first deed: the file that it leaves is there.
    pub fn wait_until_it_ran(&self, job: &str) {
        let begun = Instant::now();
        let mut pauses = Pauses::new();
        let file = format!("{}:/workspace/once.txt", Self::container(job));
        while self.env.docker(&["cp", &file, "-"]).is_empty() {
            assert!(begun.elapsed() < self.patience, "its agent did nothing: {:#}", self.status(job));
            pauses.wait();
        }
    }

    /// Looks at a job after a fault, then consumes it and looks for what is left; then delegates once more.
    pub fn aftermath(&self, job: &str, expected: &Expected) -> Row {
        let row = self.look(job, expected);
        self.gone_after_consume(job);
        self.next_one_works();
        row
    }

    /// Looks at a job after a fault.
    pub fn look(&self, job: &str, expected: &Expected) -> Row {
        let begun = Instant::now();
        let first = self.status(job);
        let answered = begun.elapsed().as_secs_f64();
        assert!(self.jobs().iter().any(|listed| listed == job), "the job {job} is not listed; its status is {first:#}");
        let last = self.wait_for(job, |status| status["result_available"] == true);
        let text = |name: &str| last[name].as_str().unwrap_or("none").to_owned();
        let (state, reason) = (text("state"), text("reason"));
        assert!(expected.states.contains(&state.as_str()) && expected.reasons.contains(&reason.as_str()), "state or reason: {last:#}");
        assert!(last["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "no word on why: {last:#}");

        let patch = self.patch_of(job);
        assert!(expected.patches.contains(&patch.as_str()), "the patch is {patch}: {last:#}");
        Row { state, reason, patch, answered, note: String::new() }
    }

    /// What a job's result says of changes, checked against the patch.
    fn patch_of(&self, job: &str) -> String {
        let (_, out, err) = self.run(&["result", "--json", job], &[]);
        // One document, whatever the outcome.
        let result: Value = serde_json::from_str(&out).unwrap_or_else(|_| serde_json::from_str(&err).unwrap_or_else(|e| panic!("{e}: {out}{err}")));
        let (code, patch, _) = self.run(&["diff", job], &[]);
        let ran = patch.lines().filter(|line| *line == format!("+{RAN}")).count();
        assert!(ran <= 1, "it ran {ran} times:\n{patch}");
        if code != Some(0) {
            println!("{job}: no patch: {code:?} {}", result["error"]);
            return if self.status(job)["state"] == "lost" { "lost".to_owned() } else { "none".to_owned() };
        }
        let whole = patch.contains("+done");
        match (patch.is_empty(), ran, whole) {
            (true, ..) if result["no_changes"] == true => "empty",
            (true, ..) => "none",
            (false, 1, true) => "whole",
            (false, 1, false) => "partial",
            _ => panic!("an odd patch:\n{patch}"),
        }
        .to_owned()
    }

    /// Consumes a job; nothing of it may be left, and it may not be found any more.
    pub fn gone_after_consume(&self, job: &str) {
        let (_, out, err) = self.run(&["consume", "--json", job], &[]);
        let (code, gone, _) = self.run(&["status", "--json", job], &[]);
        assert_ne!(code, Some(0), "still there after consume ({out}{err}): {gone}");
        self.nothing_is_left();
    }

    /// No container, volume, pass, temporary file or process of this user. Orphaned volumes are swept when they are half a minute old.
    pub fn nothing_is_left(&self) {
        let begun = Instant::now();
        let mut pauses = Pauses::new();
        loop {
            let left = self.leaks();
            let (code, out, err) = self.run(&["gc", "--json"], &[]);
            let swept: Value = serde_json::from_str(&out).unwrap_or_else(|e| panic!("{e}: {code:?} {out}{err}"));
            // A pass that a sweep found is gone; the next one must find none.
            if left.is_empty() && swept["report"]["passes"] == 0 {
                return;
            }
            assert!(begun.elapsed() < self.patience, "left: {left:#?}; swept: {swept:#}");
            pauses.wait();
        }
    }

    /// What is there of this user beside the gateway.
    pub fn leaks(&self) -> Vec<String> {
        let mut left = self.env.leftovers();
        left.extend(std::fs::read_dir(&self.temporary).expect("TMPDIR").flatten().map(|entry| entry.path().display().to_string()));
        left.extend(processes_of(self.env.instance()));
        left
    }

    /// A new delegation works and leaves nothing.
    pub fn next_one_works(&self) {
        let (code, out, err) = self.run(&["delegate", "--json", "--", &quick_task()], &[]);
        assert_eq!(code, Some(0), "the next delegation: {out}{err}");
        let job = job_id(&out);
        assert_eq!(self.patch_of(&job), "whole");
        self.gone_after_consume(&job);
    }

    /// The container of a job.
    pub fn container(job: &str) -> String {
        format!("anchorhold-{job}")
    }

    /// The host's process id of a container's first process.
    pub fn first_process(container: &str) -> i32 {
        docker(&["inspect", "-f", "{{.State.Pid}}", container]).trim().parse().expect("a process id")
    }

    /// Where this user's temporary files go.
    pub fn temporary(&self) -> &Path {
        &self.temporary
    }
}

/// The id in a `--json` answer of `delegate`.
pub fn job_id(out: &str) -> String {
    let answer: Value = serde_json::from_str(out).unwrap_or_else(|e| panic!("{e}: {out}"));
    let id = answer["job_id"].as_str().or(answer["job"]["job_id"].as_str());
    id.unwrap_or_else(|| panic!("no job id: {out}")).to_owned()
}

/// Leaves one line in `once.txt` and one in `done.txt`.
pub fn quick_task() -> String {
    task(&[Step::Shell("echo ran >>once.txt"), Step::Shell("echo done >done.txt"), Step::Say("done")])
}

/// The same with a pause between the two, in seconds.
pub fn slow_task(seconds: u64) -> String {
    task(&[Step::Shell("echo ran >>once.txt"), Step::Delay(seconds), Step::Shell("echo done >done.txt"), Step::Say("done")])
}

/// Processes of the host that carry an instance in their environment.
pub fn processes_of(instance: &str) -> Vec<String> {
    let needle = format!("ANCHORHOLD_ENGINE_INSTANCE={instance}");
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").expect("/proc").flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let Ok(environ) = std::fs::read(entry.path().join("environ")) else { continue };
        if environ.split(|byte| *byte == 0).any(|variable| variable == needle.as_bytes()) {
            let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            found.push(format!("process {pid}: {}", String::from_utf8_lossy(&line).replace('\0', " ")));
        }
    }
    found
}
