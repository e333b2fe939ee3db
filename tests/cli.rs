//! The built binary without an engine: documents, exit codes, streams.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, its helpers too")]

use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

/// A place of its own: HOME, settings, and an engine that does not answer.
struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    #[expect(clippy::disallowed_methods, reason = "drives the built binary; the environment is emptied just below")]
    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_anchorhold"));
        command.env_clear().current_dir(self.dir.path()).args(args).stdin(Stdio::null());
        command.env("HOME", self.dir.path().join("home")).env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("DOCKER_HOST", format!("unix://{}", self.dir.path().join("no-engine.sock").display()));
        command
    }

    #[must_use = "assert something on the output"]
    fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    fn repository(&self) -> &Path {
        let dir = self.dir.path();
        std::fs::write(dir.join("file"), "text\n").unwrap();
        for args in [&["init", "-q"][..], &["add", "file"], &["-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", "first"]] {
            #[expect(clippy::disallowed_methods, reason = "makes the test's own repository")]
            let done = Command::new("git").args(args).current_dir(dir).env("HOME", dir).env("GIT_CONFIG_NOSYSTEM", "1").status().unwrap();
            assert!(done.success());
        }
        dir
    }
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// Exactly one JSON document, whole.
fn document(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e} in {:?}", text(&output.stdout)))
}

const ID: &str = "0123456789abcdef0123456789abcdef";

/// Each verb that asks the engine.
const ENGINE_VERBS: &[&[&str]] = &[
    &["jobs", "--all"],
    &["status", ID],
    &["wait", ID],
    &["logs", ID],
    &["logs", "-f", ID],
    &["logs", "--events", ID],
    &["result", ID],
    &["diff", ID],
    &["diff", "--stat", ID],
    &["apply", ID],
    &["apply", "--check", ID],
    &["cancel", ID],
    &["consume", ID],
    &["status", "0123"],
    &["gc"],
    &["demo"],
    &["image", "build"],
    &["delegate", "do it"],
    &["delegate", "--detach", "do it"],
    &["delegate", "--attempts", "2", "do it"],
    &["continue", ID, "do it"],
    &["fetch", ID],
];

#[test]
fn without_an_engine_every_verb_says_so_in_json() {
    let place = Place::new();
    place.repository();
    for verb in ENGINE_VERBS {
        // Those that wait for a job wait for an engine that went away, too.
        let output = place.run(&[verb, &["--json", "--set", "model.upstream=rehearsal", "--set", "engine.away_seconds=1"][..]].concat());
        let document = document(&output);
        assert_eq!(document["ok"], false, "{verb:?}");
        assert_eq!(document["error"]["code"], "engine_unavailable", "{verb:?}: {document}");
        for key in ["message", "hint", "temporary", "retry_after_ms", "details"] {
            assert!(document["error"].get(key).is_some(), "{verb:?} lacks {key}");
        }
        assert!(document["error"]["hint"].is_string(), "{verb:?} has no hint");
        assert_eq!(output.status.code(), Some(3), "{verb:?}");
    }
}

#[test]
fn without_an_engine_people_get_an_error_and_a_hint_on_standard_error() {
    let output = Place::new().run(&["jobs", "--all"]);
    assert_eq!(output.status.code(), Some(3));
    assert_eq!(text(&output.stdout), "");
    let said = text(&output.stderr);
    assert!(said.starts_with("error[engine_unavailable]: "), "{said}");
    assert!(said.contains("\n  hint: "), "{said}");
    assert!(!said.contains('\x1b'), "{said:?}");
}

#[test]
fn doctor_tells_what_is_missing_and_fails() {
    let output = Place::new().run(&["doctor", "--json"]);
    let document = document(&output);
    assert_eq!(document["ok"], false);
    assert_eq!(document["ready"], false);
    let checks = document["checks"].as_array().unwrap();
    let engine = checks.iter().find(|check| check["name"] == "engine").unwrap();
    assert_eq!(engine["state"], "missing");
    assert!(engine["mend"].is_string());
    assert_eq!(output.status.code(), Some(3));
}

#[test]
fn doctor_works_with_broken_settings() {
    let place = Place::new();
    let output = place.run(&["doctor", "--json", "--set", "limits.pids=1"]);
    let document = document(&output);
    let checks = document["checks"].as_array().unwrap();
    assert_eq!(checks.iter().find(|check| check["name"] == "settings").unwrap()["state"], "missing");
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn usage_errors_have_exit_code_2_and_both_forms() {
    let place = Place::new();
    for args in [&["--json"][..], &["--json", "nonsense"], &["status", "--json"], &["jobs", "--status", "odd", "--json"], &["delegate", "--json"]] {
        let output = place.run(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert_eq!(document(&output)["error"]["code"], "invalid_arguments", "{args:?}");
    }
    for args in [&[][..], &["nonsense"], &["status"]] {
        let output = place.run(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert_eq!(text(&output.stdout), "");
        assert!(!output.stderr.is_empty());
    }
}

#[test]
fn bad_tasks_and_ids_are_refused_before_the_engine_is_asked() {
    let place = Place::new();
    let long = "x".repeat(200_001);
    std::fs::write(place.dir.path().join("long"), &long).unwrap();
    std::fs::write(place.dir.path().join("latin"), b"caf\xe9").unwrap();
    for (args, code, exit) in [
        (&["delegate", " \n "][..], "invalid_arguments", 2),
        (&["delegate", "@missing"], "invalid_arguments", 2),
        (&["delegate", "@long"], "input_too_large", 2),
        (&["delegate", "@latin"], "invalid_arguments", 2),
        (&["delegate", "-"], "invalid_arguments", 2),
        (&["status", "zzz"], "job_not_found", 9),
        (&["status", "abc"], "invalid_arguments", 2),
        (&["status", "../../etc"], "job_not_found", 9),
        (&["jobs", "--set", "no.such=1"], "invalid_config", 2),
        (&["jobs", "--config", "missing.toml"], "invalid_config", 2),
    ] {
        let output = place.run(&[args, &["--json"]].concat());
        assert_eq!(document(&output)["error"]["code"], code, "{args:?}");
        assert_eq!(output.status.code(), Some(exit), "{args:?}");
    }
}

#[test]
fn a_task_is_read_from_standard_input() {
    use std::io::Write as _;
    let place = Place::new();
    let mut child = place.command(&["delegate", "-", "--json"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    // More than the limit, so that the error proves that it was read. The rest may meet a closed pipe.
    let _ = child.stdin.take().unwrap().write_all("x".repeat(200_001).as_bytes());
    assert_eq!(document(&child.wait_with_output().unwrap())["error"]["code"], "input_too_large");
}

#[test]
fn version_help_and_completions_are_answers() {
    let place = Place::new();
    let version = place.run(&["--version"]);
    assert_eq!(text(&version.stdout), concat!("anchorhold ", env!("CARGO_PKG_VERSION"), "\n"));
    let help = place.run(&["--help"]);
    for verb in [
        "delegate",
        "jobs",
        "status",
        "logs",
        "result",
        "diff",
        "apply",
        "cancel",
        "consume",
        "doctor",
        "demo",
        "mcp",
        "gc",
        "image",
        "completions",
        "man",
    ] {
        assert!(text(&help.stdout).lines().any(|line| line.trim_start().starts_with(verb)), "help lacks {verb}");
    }
    assert!(!text(&help.stdout).contains("gateway admin"), "parts of containers are hidden");
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = place.run(&["completions", shell]);
        assert!(output.status.success() && text(&output.stdout).contains("delegate"), "{shell}");
    }
}

#[test]
fn manual_pages_are_printed_and_written_whatever_the_settings_are() {
    let place = Place::new();
    let broken = ["--set", "limits.pids=1"];
    for (verb, name) in [(&[][..], "anchorhold"), (&["review"], "anchorhold-review"), (&["image", "build"], "anchorhold-image-build")] {
        let output = place.run(&[&["man"], verb, &broken].concat());
        assert!(output.status.success(), "{}", text(&output.stderr));
        assert!(text(&output.stdout).contains(&format!("\n.TH {name} 1 ")), "{name}");
        let shown = document(&place.run(&[&["man"], verb, &broken, &["--json"]].concat()));
        assert_eq!((shown["page"].as_str(), shown["text"].as_str()), (Some(format!("{name}.1").as_str()), Some(text(&output.stdout))));
    }
    let unknown = place.run(&["man", "nonsense", "--json"]);
    assert_eq!((unknown.status.code(), &document(&unknown)["error"]["code"]), (Some(2), &"invalid_arguments".into()));
    let directory = place.dir.path().join("share/man/man1");
    let written = place.run(&["man", "--json", "--output", directory.to_str().unwrap()]);
    let files: Vec<String> = serde_json::from_value(document(&written)["files"].clone()).unwrap();
    let mut there: Vec<String> = std::fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path().display().to_string()).collect();
    there.sort();
    let mut told = files;
    told.sort();
    assert_eq!(there, told);
    assert!(there.iter().any(|file| file.ends_with("/anchorhold-delegate.1")), "{there:?}");
    std::fs::write(place.dir.path().join("file"), "").unwrap();
    let refused = place.run(&["man", "--json", "--output", "file"]);
    assert_eq!((refused.status.code(), &document(&refused)["error"]["code"]), (Some(3), &"setup_failed".into()));
}

#[test]
fn settings_come_from_file_then_environment_then_flags() {
    let place = Place::new();
    std::fs::write(place.dir.path().join("a.toml"), "[limits]\npids = 1\n").unwrap();
    let code = |args: &[&str], env: &[(&str, &str)]| {
        let output = place.command(args).envs(env.iter().copied()).output().unwrap();
        document(&output)["error"]["code"].as_str().unwrap().to_owned()
    };
    let base = ["jobs", "--all", "--json", "--config", "a.toml"];
    assert_eq!(code(&base, &[]), "invalid_config");
    assert_eq!(code(&base, &[("ANCHORHOLD_LIMITS_PIDS", "64")]), "engine_unavailable");
    assert_eq!(code(&[&base[..], &["--set", "limits.pids=2"]].concat(), &[("ANCHORHOLD_LIMITS_PIDS", "64")]), "invalid_config");
}

#[test]
fn a_reader_that_leaves_is_no_error() {
    let place = Place::new();
    let mut child = place.command(&["completions", "bash"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(text(&output.stderr), "");
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn the_parts_of_containers_refuse_strangers() {
    let output = Place::new().run(&["gateway", "nonsense"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).starts_with("error[invalid_arguments]: "));
}

#[cfg(target_os = "linux")]
#[test]
fn output_that_cannot_be_written_is_an_error() {
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = Place::new().command(&["completions", "bash"]).stdout(full).stderr(Stdio::piped()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("standard output could not be written"));
}
