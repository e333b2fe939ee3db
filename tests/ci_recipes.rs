//! The recipes of `docs/ci`: their YAML against its published schemas, and their shell as it stands, with a real engine and a scripted model.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking, its helpers too")]

mod support;

use std::path::{Path, PathBuf};
use std::process::Output;

use anchorhold::review::format::{Context, Format, render};
use anchorhold::review::{Review, Severity};
use serde_json::{Value, json};
use support::{Environment, Repository, schemas};

fn recipe(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/ci").join(name)
}

fn text(name: &str) -> String {
    std::fs::read_to_string(recipe(name)).unwrap()
}

/// A review whose words try to break out of whatever holds them.
fn hostile_review() -> Review {
    let said = "</text>\"'\\ [a](http://x) {0} \u{202e}\u{0}\r\n::add-mask::x ##[group]";
    let finding = |severity: &str, file: Value, line: Value| {
        json!({
            "severity": severity, "title": said, "file": file, "lines": line, "evidence": said, "risk": "", "recommendation": said,
        })
    };
    serde_json::from_value(json!({
        "job_id": "0123456789abcdef0123456789abcdef", "reason": "token_budget", "partial": true, "partial_detail": "The job used up its token budget.",
        "verdict": "fail", "confidence": 0.5, "summary": said,
        "findings": [finding("critical", json!("a b/ü%.rs"), json!({"start": 3, "end": 9})), finding("nit", Value::Null, Value::Null)],
        "questions": [said], "assumptions": [said], "next_steps": [said],
        "change": {"scope": {"kind": "branch", "base": said}, "base_commit": null, "head_commit": "b".repeat(40), "files": [], "instruction_files": [said]},
        "coverage": {"status": "partial", "untracked_files_detected": 2, "untracked_files_omitted": 1, "omission_reasons": [said]},
        "usage": {"input_tokens": 1, "cached_input_tokens": 0, "output_tokens": 1, "reasoning_output_tokens": 0}, "model": said, "version": "0.1.0",
    }))
    .unwrap()
}

#[test]
fn sarif_is_what_its_schema_says() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("review.sarif");
    let context = Context {
        tool_version: "0.1.0".to_owned(),
        width: 0,
        color: false,
        threshold: Some(Severity::High),
        repository_url: Some("https://forge.example/me/repo".to_owned()),
    };
    let whole = Review { partial: false, partial_detail: String::new(), findings: Vec::new(), ..hostile_review() };
    for review in [hostile_review(), whole] {
        std::fs::write(&file, render(Format::Sarif, &review, &context)).unwrap();
        schemas::check_sarif(&file).unwrap();
    }
    // A check that takes anything would prove nothing.
    let mut broken: Value = serde_json::from_slice(&render(Format::Sarif, &hostile_review(), &context)).unwrap();
    broken["runs"][0]["results"][0]["level"] = "dreadful".into();
    std::fs::write(&file, broken.to_string()).unwrap();
    assert!(schemas::check_sarif(&file).is_err());
}

#[test]
fn recipes_are_what_their_schemas_say() {
    let directory = tempfile::tempdir().unwrap();
    for (schema, name, part, broken) in [
        ("vendor.github-actions", "github/action/action.yml", "using: composite", "using: nothing"),
        ("vendor.github-workflows", "github/pull-request.yml", "runs-on:", "runs-onn:"),
        ("vendor.gitlab-ci", "gitlab-ci.yml", "when: always", "when: sometimes"),
    ] {
        schemas::check_builtin(schema, &recipe(name)).unwrap();
        let wrong = directory.path().join("wrong.yml");
        std::fs::write(&wrong, text(name).replace(part, broken)).unwrap();
        assert!(schemas::check_builtin(schema, &wrong).is_err(), "{schema} takes anything");
    }
}

/// All maps of a document, from the outside in.
fn maps(value: &Value) -> Vec<&serde_json::Map<String, Value>> {
    let below: Vec<&Value> = match value {
        Value::Object(map) => map.values().collect(),
        Value::Array(list) => list.iter().collect(),
        _ => Vec::new(),
    };
    value.as_object().into_iter().chain(below.into_iter().flat_map(maps)).collect()
}

#[test]
fn github_recipes_pin_what_they_use_and_put_no_expression_into_a_shell() {
    let (mut runs, mut pins) = (0, 0);
    for name in ["github/action/action.yml", "github/pull-request.yml"] {
        let document = schemas::yaml(&recipe(name));
        for map in maps(&document) {
            if let Some(run) = map.get("run").and_then(Value::as_str) {
                runs += 1;
                assert!(!run.contains("${{"), "{name}: {run}");
            }
            if let Some(uses) = map.get("uses").and_then(Value::as_str) {
                pins += 1;
                let pinned = uses.split_once('@').is_some_and(|(_, at)| at.len() == 40 && at.bytes().all(|b| b.is_ascii_hexdigit()));
                assert!(pinned || uses.starts_with("./"), "{name}: {uses}");
            }
        }
    }
    assert!(runs >= 4 && pins >= 5, "{runs} {pins}");
}

#[test]
fn no_job_has_both_the_change_and_a_token_that_may_write() {
    let document = schemas::yaml(&recipe("github/pull-request.yml"));
    assert_eq!(document["permissions"], json!({}));
    let jobs = &document["jobs"];
    assert_eq!(jobs.as_object().unwrap().len(), 2);
    assert_eq!(jobs["review"]["permissions"], json!({"contents": "read"}));
    assert_eq!(jobs["comment"]["permissions"], json!({"pull-requests": "write"}));
    let uses = |job: &str| -> Vec<String> {
        jobs[job]["steps"].as_array().unwrap().iter().filter_map(|step| step["uses"].as_str().map(str::to_owned)).collect()
    };
    assert!(uses("review").iter().any(|uses| uses.starts_with("actions/checkout@")));
    assert!(uses("comment").iter().all(|uses| !uses.contains("checkout")));
    for step in jobs["review"]["steps"].as_array().unwrap().iter().filter(|step| step["uses"].as_str().is_some_and(|uses| uses.contains("checkout")))
    {
        assert_eq!(step["with"]["persist-credentials"], false, "{step}");
    }
    assert!(!jobs["comment"].to_string().contains("secrets."), "the key is for the job that reviews");
}

/// A remote with a branch of one commit beyond `main`.
struct Remote {
    env: Environment,
    url: String,
    base: String,
}

impl Remote {
    fn new() -> Self {
        let env = Environment::new();
        let repository = env.repository("repository", &[("src/lib.rs", b"fn one() {}\n"), ("README.md", b"hello\n")]);
        repository.git(&["commit", "-q", "--allow-empty", "-m", "second"]);
        let base = revision(&repository, "HEAD");
        repository.git(&["switch", "-q", "-c", "change"]);
        repository.write("src/lib.rs", b"fn one() {}\n\nfn two() {}\n");
        repository.git(&["commit", "-q", "-a", "-m", "a change"]);
        let bare = env.path().join("remote.git");
        repository.git(&["clone", "-q", "--bare", ".", bare.to_str().unwrap()]);
        let url = format!("file://{}", bare.display());
        Self { env, url, base }
    }

    /// A checkout of the branch as pipelines make it: detached, and with `depth` shallow and without any other branch.
    fn checkout(&self, depth: bool) -> Repository {
        let all = self.env.repository("checkout", &[]);
        std::fs::remove_dir_all(all.path()).unwrap();
        let parent = self.env.path().to_str().unwrap();
        let mut arguments = vec!["-C", parent, "clone", "-q", "--branch", "change"];
        if depth {
            arguments.extend(["--depth", "1", "--single-branch"]);
        }
        arguments.extend([&self.url, "checkout"]);
        let made = self.env.command("git").args(&arguments).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        all.git(&["checkout", "-q", "--detach"]);
        all
    }

    /// Runs a script in a directory, with the built program first on the path and this environment alone.
    fn run(&self, shell: &[&str], script: &str, directory: &Path, variables: &[(&str, &str)]) -> Output {
        let file = self.env.path().join("script.sh");
        std::fs::write(&file, script).unwrap();
        let mut command = self.env.command(shell[0]);
        let bin = Path::new(env!("CARGO_BIN_EXE_anchorhold")).parent().unwrap();
        let path = format!("{}:{}:{}", self.env.path().join("bin").display(), bin.display(), std::env::var("PATH").unwrap_or_default());
        command.args(&shell[1..]).arg(&file).current_dir(directory).env("PATH", path);
        command.envs(variables.iter().copied()).output().unwrap()
    }
}

fn revision(repository: &Repository, name: &str) -> String {
    String::from_utf8(repository.git(&["rev-parse", name]).stdout).unwrap().trim().to_owned()
}

const BASH: [&str; 5] = ["bash", "--noprofile", "--norc", "-eo", "pipefail"];

#[track_caller]
fn ended(output: &Output, code: i32) -> String {
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{out}\n{err}");
    out.into_owned()
}

fn read_json(file: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(file).unwrap_or_else(|e| panic!("{}: {e}", file.display()))).unwrap()
}

/// The script and the variables of the step with a name.
fn step(steps: &Value, name: &str) -> (String, Vec<String>) {
    let step = steps.as_array().unwrap().iter().find(|step| step["name"] == name).unwrap_or_else(|| panic!("no step {name}"));
    let names = step["env"].as_object().map(|env| env.keys().cloned().collect()).unwrap_or_default();
    (step["run"].as_str().unwrap().to_owned(), names)
}

#[test]
fn the_plain_shell_recipe_works_in_a_shallow_clone_with_a_detached_head() {
    let remote = Remote::new();
    let checkout = remote.checkout(true);
    let reports = remote.env.path().join("reports");
    let variables = [("REPORTS", reports.to_str().unwrap()), ("BASE", "origin/main"), ("FAIL_ON", "low")];
    let out = ended(&remote.run(&["bash"], &text("review.sh"), checkout.path(), &variables), 20);
    assert!(out.contains("1 finding (low)") && out.contains("src/lib.rs, line "), "{out}");
    schemas::check_sarif(&reports.join("review.sarif")).unwrap();
    assert_eq!(read_json(&reports.join("review.json"))["change"]["files"][0]["path"], "src/lib.rs");
    assert!(std::fs::read_to_string(reports.join("review.md")).unwrap().starts_with("## Review: "));
    assert_eq!(remote.env.leftovers(), Vec::<String>::new(), "a whole review leaves nothing");
    let clean = [("REPORTS", reports.to_str().unwrap()), ("BASE", "origin/main"), ("FAIL_ON", "high")];
    ended(&remote.run(&["bash"], &text("review.sh"), checkout.path(), &clean), 0);
    // Where the base is the change there is nothing to review, and no job.
    let nothing = [("REPORTS", reports.to_str().unwrap()), ("BASE", "HEAD"), ("FAIL_ON", "nit")];
    assert!(ended(&remote.run(&["bash"], &text("review.sh"), checkout.path(), &nothing), 0).contains("nothing to review"));
}

#[test]
fn the_github_recipes_review_and_comment() {
    let remote = Remote::new();
    let checkout = remote.checkout(false);
    let head = revision(&checkout, "HEAD");
    let place = |name: &str| remote.env.path().join(name);
    let at = |name: &str| place(name).to_str().unwrap().to_owned();
    std::fs::create_dir(place("temp")).unwrap();
    let (temp, output, summary) = (at("temp"), at("output"), at("summary"));
    let workspace = checkout.text();
    let runner = [("GITHUB_ACTIONS", "true"), ("RUNNER_TEMP", &temp), ("GITHUB_OUTPUT", &output), ("GITHUB_STEP_SUMMARY", &summary)];
    let action = schemas::yaml(&recipe("github/action/action.yml"));
    let (image, _) = step(&action["runs"]["steps"], "Runtime image");
    ended(&remote.run(&BASH, &image, remote.env.path(), &runner), 0);
    let (script, names) = step(&action["runs"]["steps"], "Review");
    assert_eq!(names, ["BASE", "WORKSPACE", "FAIL_ON", "MAX_TOKENS", "DEADLINE"]);
    let given = [("BASE", remote.base.as_str()), ("WORKSPACE", &workspace), ("FAIL_ON", "low"), ("MAX_TOKENS", "400000"), ("DEADLINE", "5m")];
    let out = ended(&remote.run(&BASH, &script, remote.env.path(), &[&runner[..], &given].concat()), 20);
    assert!(out.lines().any(|line| line.starts_with("::notice file=src/lib.rs,line=")), "{out}");
    assert!(std::fs::read_to_string(&output).unwrap().starts_with("exit-code=20\nreports="));
    assert!(std::fs::read_to_string(&summary).unwrap().starts_with("## Review: "));
    let reports = place("temp/anchorhold-review");
    schemas::check_sarif(&reports.join("review.sarif")).unwrap();
    let payload = read_json(&reports.join("pull-request-review.json"));
    assert_eq!((&payload["commit_id"], &payload["comments"][0]["path"]), (&head.as_str().into(), &"src/lib.rs".into()));
    assert!(payload["comments"][0]["line"].as_u64().is_some_and(|line| (1..=3).contains(&line)), "{payload}");
    comment_takes_only_what_it_checks(&remote, &payload);
}

/// The job that may write gets the payload as data: whatever it says, the request is a comment on the commit that the event names.
fn comment_takes_only_what_it_checks(remote: &Remote, payload: &Value) {
    use std::os::unix::fs::PermissionsExt as _;
    let place = remote.env.path().join("comment");
    std::fs::create_dir_all(place.join("review")).unwrap();
    std::fs::create_dir_all(remote.env.path().join("bin")).unwrap();
    // The client that the runner has: here it writes down what it was to do.
    let gh = remote.env.path().join("bin/gh");
    std::fs::write(&gh, "#!/bin/sh\nprintf '%s\\n' \"$@\" > called\n").unwrap();
    std::fs::set_permissions(&gh, std::fs::Permissions::from_mode(0o755)).unwrap();
    let workflow = schemas::yaml(&recipe("github/pull-request.yml"));
    let (script, names) = step(&workflow["jobs"]["comment"]["steps"], "Comment");
    assert_eq!(names, ["GH_TOKEN", "NUMBER", "COMMIT"]);
    let commit = "c".repeat(40);
    let run = |payload: &Value| {
        let _ = std::fs::remove_file(place.join("called"));
        std::fs::write(place.join("review/pull-request-review.json"), payload.to_string()).unwrap();
        remote.run(&BASH, &script, &place, &[("GITHUB_REPOSITORY", "me/repo"), ("GH_TOKEN", "t"), ("NUMBER", "7"), ("COMMIT", &commit)])
    };
    let mut wild = payload.clone();
    wild["event"] = "APPROVE".into();
    wild["comments"][0]["side"] = "LEFT".into();
    wild["comments"][0]["in_reply_to"] = 1.into();
    ended(&run(&wild), 0);
    let sent = read_json(&place.join("payload.json"));
    assert_eq!((&sent["event"], &sent["commit_id"], &sent["body"]), (&"COMMENT".into(), &commit.as_str().into(), &payload["body"]));
    assert_eq!(sent["comments"][0]["side"], "RIGHT");
    assert_eq!(sent["comments"][0].get("in_reply_to"), None);
    let called = std::fs::read_to_string(place.join("called")).unwrap();
    assert!(called.starts_with("api\n--method\nPOST\nrepos/me/repo/pulls/7/reviews\n--input\npayload.json\n"), "{called}");
    for (field, value) in [("body", json!({"a": 1})), ("comments", json!([{"path": "a", "line": "1; x", "body": "b"}]))] {
        let mut bad = payload.clone();
        bad[field] = value;
        assert!(!run(&bad).status.success() && !place.join("called").exists(), "{field} of another type is sent");
    }
}

#[test]
fn a_downloaded_binary_is_the_one_that_was_pinned() {
    use std::os::unix::fs::PermissionsExt as _;
    let remote = Remote::new();
    let action = schemas::yaml(&recipe("github/action/action.yml"));
    let (script, names) = step(&action["runs"]["steps"], "Get Anchorhold");
    assert_eq!(names, ["URL", "SHA256"]);
    std::fs::create_dir_all(remote.env.path().join("bin")).unwrap();
    // The download: writes the file that the sixth argument names.
    let curl = remote.env.path().join("bin/curl");
    std::fs::write(&curl, "#!/bin/sh\nwhile [ \"$1\" != --output ]; do shift; done\nprintf abc > \"$2\"\n").unwrap();
    std::fs::set_permissions(&curl, std::fs::Permissions::from_mode(0o755)).unwrap();
    let temp = remote.env.path().join("temp");
    std::fs::create_dir(&temp).unwrap();
    let path = remote.env.path().join("github-path");
    let run = |digest: &str| {
        let variables =
            [("RUNNER_TEMP", temp.to_str().unwrap()), ("GITHUB_PATH", path.to_str().unwrap()), ("URL", "https://example.com/a"), ("SHA256", digest)];
        remote.run(&BASH, &script, remote.env.path(), &variables)
    };
    ended(&run(""), 2);
    assert!(!run(&"0".repeat(64)).status.success() && !path.exists());
    ended(&run("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"), 0);
    assert!(std::fs::read_to_string(&path).unwrap().ends_with("/anchorhold-bin\n"));
}

#[test]
fn the_gitlab_recipe_writes_a_code_quality_report() {
    let remote = Remote::new();
    let checkout = remote.checkout(true);
    let job = &schemas::yaml(&recipe("gitlab-ci.yml"))["anchorhold-review"];
    let lines: Vec<&str> = job["script"].as_array().unwrap().iter().map(|line| line.as_str().unwrap()).collect();
    let mut variables = vec![("CI_MERGE_REQUEST_DIFF_BASE_SHA", remote.base.as_str()), ("CI_MERGE_REQUEST_TARGET_BRANCH_NAME", "main")];
    variables.extend(job["variables"].as_object().unwrap().iter().map(|(name, value)| (name.as_str(), value.as_str().unwrap())));
    ended(&remote.run(&["sh"], &lines.join("\n"), checkout.path(), &variables), 0);
    let report = read_json(&checkout.path().join("gl-code-quality-report.json"));
    assert_eq!((&report[0]["severity"], &report[0]["location"]["path"]), (&"minor".into(), &"src/lib.rs".into()));
    assert_eq!(report[0]["fingerprint"].as_str().unwrap().len(), 32);
    assert!(job["artifacts"]["paths"].as_array().unwrap().iter().all(|path| checkout.path().join(path.as_str().unwrap()).is_file()));
    assert!(checkout.path().join(job["artifacts"]["reports"]["junit"].as_str().unwrap()).is_file());
}

#[test]
fn the_jenkins_recipe_leaves_findings_to_the_test_report() {
    let remote = Remote::new();
    let checkout = remote.checkout(true);
    let file = text("Jenkinsfile");
    let script = file.split("'''").nth(1).expect("one script");
    assert_eq!(file.matches("'''").count(), 2);
    // Groovy joins lines at a backslash in such a text, and knows other escapes that the shell should not lose.
    let script = script.replace("\\\n", "");
    assert!(!script.contains('\\'), "{script}");
    let variables = [("CHANGE_TARGET", "main"), ("FAIL_ON", "low"), ("MAX_TOKENS", "400000"), ("DEADLINE", "5m")];
    ended(&remote.run(&["bash"], &script, checkout.path(), &variables), 0);
    let junit = std::fs::read_to_string(checkout.path().join("anchorhold-junit.xml")).unwrap();
    assert!(junit.contains("failures=\"1\""), "{junit}");
    for (name, value) in [("FAIL_ON", "'high'"), ("DEADLINE", "'20m'")] {
        assert!(file.contains(&format!("{name} = {value}")));
    }
}
