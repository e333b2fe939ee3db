//! `anchorhold wait`.

use std::process::Stdio;

use serde_json::{Value, json};

use crate::small;
use crate::support::rehearsal::{Step, task};
use crate::support::{Environment, Repository};

fn start(environment: &Environment, repository: &Repository, steps: &[Step<'_>]) -> String {
    let output = environment.anchorhold(&["delegate", "--json", "--detach", "-C", &repository.text(), &task(steps)]).output().unwrap();
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    document["job_id"].as_str().unwrap_or_else(|| panic!("{document:#}")).to_owned()
}

fn wait(environment: &Environment, arguments: &[&str]) -> (Option<i32>, Value) {
    let output = environment.anchorhold(&[&["wait", "--json"], arguments].concat()).output().unwrap();
    (output.status.code(), serde_json::from_slice(&output.stdout).unwrap())
}

#[test]
fn the_exit_code_is_the_worst_outcome() {
    let environment = Environment::new();
    let repository = small(&environment);
    let good = start(&environment, &repository, &[Step::Shell("echo a > a"), Step::Say("did it")]);
    let long = start(&environment, &repository, &[Step::Delay(300), Step::Say("too late")]);

    let (code, document) = wait(&environment, &["--any", &good, &long]);
    assert_eq!((code, &document["ok"], &document["jobs"][0]["state"]), (Some(0), &json!(true), &json!("completed")), "{document:#}");
    assert_eq!(document["waiting"], json!([long]));

    let (code, document) = wait(&environment, &["--timeout", "2s", &good, &long]);
    assert_eq!((code, &document["error"]["code"]), (Some(124), &json!("wait_timeout")), "{document:#}");
    assert_eq!((&document["jobs"][0]["job_id"], &document["waiting"]), (&json!(good), &json!([long])));

    // Ctrl-C ends the wait, not the job.
    let mut child = environment.anchorhold(&["wait", &long]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    std::thread::sleep(std::time::Duration::from_secs(2));
    assert!(environment.command("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let status: Value = serde_json::from_slice(&environment.anchorhold(&["status", "--json", &long]).output().unwrap().stdout).unwrap();
    assert_eq!(status["job"]["state"], "running", "{status:#}");

    let waiting = environment.anchorhold(&["wait", &good, &long]).stdout(Stdio::piped()).spawn().unwrap();
    assert!(environment.anchorhold(&["cancel", "--json", &long]).output().unwrap().status.success());
    let output = waiting.wait_with_output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(8), "{said}");
    let mut lines: Vec<&str> = said.lines().collect();
    lines.sort_by_key(|line| !line.starts_with(&good));
    assert_eq!(lines, [format!("{good} completed"), format!("{long} cancelled job_cancelled")]);
    let result = environment.anchorhold(&["result", "--json", &long]).output().unwrap();
    assert_eq!(result.status.code(), output.status.code(), "as `result`");

    let (code, document) = wait(&environment, &[&good, &"0".repeat(32)]);
    assert_eq!((code, &document["error"]["code"]), (Some(9), &json!("job_not_found")));
}
