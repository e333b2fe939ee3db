//! The verb `review` as a pipeline runs it: what an early end leaves, and with which exit code.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::partial::note;
use crate::support::rehearsal::{Step, task};
use crate::support::{Environment, Repository};
use crate::{answer, changed, finding};

/// Far above what anything here takes; only a failing test waits for it.
const PATIENCE: Duration = Duration::from_secs(120);

/// How a run of the verb ended.
struct Run {
    code: i32,
    stdout: String,
    stderr: String,
}

impl Run {
    #[track_caller]
    fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("not one JSON document ({e}): {}{}", self.stdout, self.stderr))
    }
}

/// Runs the program in the repository, to its end.
fn run(environment: &Environment, repository: &Repository, arguments: &[&str]) -> Run {
    let output = environment.anchorhold(arguments).current_dir(repository.path()).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Run { code: output.status.code().unwrap_or(-1), stdout: text(&output.stdout), stderr: text(&output.stderr) }
}

/// A review that runs, and the id of its job.
struct Running {
    child: Child,
    stderr: std::thread::JoinHandle<String>,
    job: String,
}

impl Running {
    /// Starts it, and comes back when the agent runs a command with these words.
    #[track_caller]
    fn until(environment: &Environment, repository: &Repository, arguments: &[&str], words: &str) -> Self {
        let mut command = environment.anchorhold(arguments);
        let mut child = command.current_dir(repository.path()).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let (told, id) = mpsc::channel();
        let stderr = std::thread::spawn(move || {
            let mut all = String::new();
            for line in lines.map_while(Result::ok) {
                if let Some(id) = line.strip_prefix("job ") {
                    let _ = told.send(id.to_owned());
                }
                all.push_str(&line);
                all.push('\n');
            }
            all
        });
        let job = id.recv_timeout(PATIENCE).unwrap();
        let running = Self { child, stderr, job };
        let begun = Instant::now();
        while !run(environment, repository, &["logs", "--json", &running.job]).stdout.contains(words) {
            assert!(begun.elapsed() < PATIENCE, "the agent never came to {words}");
            std::thread::sleep(Duration::from_millis(100));
        }
        running
    }

    fn interrupt(&self) {
        rustix::process::kill_process(rustix::process::Pid::from_child(&self.child), rustix::process::Signal::INT).unwrap();
    }

    fn ended(self) -> (String, Run) {
        let output = self.child.wait_with_output().unwrap();
        let stderr = self.stderr.join().unwrap();
        (self.job, Run { code: output.status.code().unwrap_or(-1), stdout: String::from_utf8_lossy(&output.stdout).into_owned(), stderr })
    }
}

/// A partial review: what was noted is there, marked as partial, and the job is kept and gives the same again.
#[track_caller]
fn partial(environment: &Environment, repository: &Repository, run_: &Run, reason: &str) -> String {
    let document = run_.json();
    assert_eq!((run_.code, &document["error"]["code"]), (21, &json!("review_partial")), "{document:#}");
    let review = &document["review"];
    assert_eq!((&review["partial"], &review["reason"], &review["verdict"]), (&json!(true), &json!(reason), &json!("fail")), "{document:#}");
    assert_eq!(review["findings"][0]["title"], "one", "{document:#}");
    let job = document["job_id"].as_str().unwrap().to_owned();
    assert!(document["error"]["hint"].as_str().unwrap().contains(&format!("anchorhold result {job}")), "{document:#}");
    let again = run(environment, repository, &["result", "--json", &job]);
    assert_eq!((again.code, &again.json()["review"]["findings"]), (21, &review["findings"]), "{}", again.stdout);
    nothing_runs(environment, &job);
    job
}

#[track_caller]
fn nothing_runs(environment: &Environment, job: &str) {
    let filter = format!("label=anchorhold.job={job}");
    assert_eq!(environment.docker(&["ps", "--filter", &filter, "--format", "{{.Names}}"]), Vec::<String>::new());
}

#[test]
fn half_of_the_tokens_gives_what_was_found_until_then() {
    let environment = Environment::new();
    let repository = changed(&environment);
    let said = answer(&json!([finding("high", "one", "src/a.rs", 2), finding("low", "two", "src/a.rs", 4)]));
    let step = "usage input=50000 output=200";
    let program = format!("````rehearsal\n{step}\nshell {}\n{step}\nshell true\n{step}\nmessage {said}\n````", note("high", "one"));
    let whole = run(&environment, &repository, &["review", "--json", "--context", &program]);
    let document = whole.json();
    assert_eq!((whole.code, &document["review"]["partial"]), (20, &json!(false)), "{document:#}");
    assert_eq!(document["review"]["findings"].as_array().map(Vec::len), Some(2), "{document:#}");
    let usage = &document["review"]["usage"];
    let needed = usage["input_tokens"].as_u64().unwrap() + usage["output_tokens"].as_u64().unwrap();
    assert!(needed >= 3 * 50_200, "{usage}");

    let half = (needed / 2).to_string();
    let cut = run(&environment, &repository, &["review", "--json", "--max-tokens", &half, "--context", &program]);
    partial(&environment, &repository, &cut, "token_budget");
    let spent = &cut.json()["review"]["usage"];
    assert!(spent["input_tokens"].as_u64().unwrap() + spent["output_tokens"].as_u64().unwrap() <= needed / 2, "{spent}");

    // Without a finding there is nothing but the reason.
    let program = format!("````rehearsal\n{step}\nshell true\n{step}\nmessage {said}\n````");
    let bare = run(&environment, &repository, &["review", "--json", "--max-tokens", &half, "--context", &program]);
    assert_eq!((bare.code, &bare.json()["error"]["code"]), (6, &json!("token_budget")), "{}", bare.stdout);
    assert_eq!(bare.json()["review"]["partial"], true, "{}", bare.stdout);
}

#[test]
fn a_deadline_gives_what_was_found_until_then() {
    let environment = Environment::new();
    let repository = changed(&environment);
    let program = task(&[Step::Shell(&note("high", "one")), Step::Shell("sleep 600")]);
    let cut = run(&environment, &repository, &["review", "--json", "--deadline", "10s", "--context", &program]);
    partial(&environment, &repository, &cut, "deadline");
    let bare = run(&environment, &repository, &["review", "--deadline", "10s", "--context", &task(&[Step::Shell("sleep 600")])]);
    assert_eq!(bare.code, 7, "{}{}", bare.stdout, bare.stderr);
    assert!(bare.stdout.contains("partial") && bare.stderr.contains("error[timeout]"), "{}{}", bare.stdout, bare.stderr);
}

#[test]
fn an_interrupt_ends_the_review_and_keeps_what_was_found() {
    let environment = Environment::new();
    let repository = changed(&environment);
    let program = task(&[Step::Shell(&note("high", "one")), Step::Shell("sleep 600")]);
    let running = Running::until(&environment, &repository, &["review", "--json", "--context", &program], "sleep 600");
    running.interrupt();
    let (job, cut) = running.ended();
    assert_eq!(partial(&environment, &repository, &cut, "cancelled"), job);
    assert!(cut.stderr.contains("cancelling the job"), "{}", cut.stderr);

    let running = Running::until(&environment, &repository, &["review", "--context", &task(&[Step::Shell("sleep 601")])], "sleep 601");
    running.interrupt();
    let (job, bare) = running.ended();
    assert_eq!(bare.code, 8, "{}{}", bare.stdout, bare.stderr);
    nothing_runs(&environment, &job);
}

#[test]
fn another_process_can_cancel_it() {
    let environment = Environment::new();
    let repository = changed(&environment);
    let program = task(&[Step::Shell(&note("high", "one")), Step::Shell("sleep 600")]);
    let running = Running::until(&environment, &repository, &["review", "--json", "--context", &program], "sleep 600");
    let cancelled = run(&environment, &repository, &["cancel", "--json", &running.job]);
    assert_eq!(cancelled.json()["job"]["state"], "cancelled", "{}", cancelled.stdout);
    let (job, cut) = running.ended();
    assert_eq!(partial(&environment, &repository, &cut, "cancelled"), job);
}

#[test]
fn a_report_that_cannot_be_written_costs_nothing_where_that_is_known_and_is_not_lost_where_not() {
    let environment = Environment::new();
    let repository = changed(&environment);
    let place = environment.path().join("reports");
    let file = place.join("review.sarif");
    let file = file.to_str().unwrap();
    let program = task(&[Step::Shell(&note("high", "one")), Step::Shell("sleep 600")]);
    let arguments = ["review", "--format", "sarif", "--output", file, "--context", &program];
    let refused = run(&environment, &repository, &arguments);
    assert_eq!(refused.code, 2, "{}", refused.stderr);
    assert_eq!(environment.leftovers(), Vec::<String>::new(), "not even a gateway");

    std::fs::create_dir(&place).unwrap();
    let running = Running::until(&environment, &repository, &arguments, "sleep 600");
    std::fs::remove_dir(&place).unwrap();
    run(&environment, &repository, &["cancel", &running.job]);
    let (job, unwritten) = running.ended();
    let said = &unwritten.stderr;
    assert!(unwritten.code != 0 && said.contains("nothing is lost") && said.contains(&job), "{}: {said}", unwritten.code);
    // What the error says to do does it.
    std::fs::create_dir(&place).unwrap();
    let (_, rest) = said.split_once("`anchorhold ").unwrap();
    let command: Vec<&str> = rest.split_once('`').unwrap().0.split(' ').collect();
    assert_eq!(command[..2], ["result", &job]);
    let again = run(&environment, &repository, &command);
    assert_eq!(again.code, 21, "{}", again.stderr);
    let report: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    assert_eq!(report["runs"][0]["results"].as_array().map(Vec::len), Some(1), "{report:#}");
}

#[test]
fn a_full_standard_output_keeps_a_whole_reviews_job() {
    let environment = Environment::new();
    let repository = changed(&environment);
    let said = answer(&json!([finding("high", "one", "src/a.rs", 2)]));
    let mut command = environment.anchorhold(&["review", "--context", &task(&[Step::Say(&said)])]);
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = command.current_dir(repository.path()).stdout(full).stderr(Stdio::piped()).spawn().unwrap().wait_with_output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    let job = stderr.lines().find_map(|line| line.strip_prefix("job ")).unwrap();
    assert!(stderr.contains("standard output could not be written") && stderr.contains(&format!("`anchorhold result {job}")), "{stderr}");
    let again = run(&environment, &repository, &["result", "--format", "text", job]);
    assert_eq!(again.code, 20, "{}", again.stderr);
    assert!(again.stdout.contains("one"), "{}", again.stdout);
}
