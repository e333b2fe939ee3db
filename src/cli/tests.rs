//! The parts of the command line that need no process: grammar, forms of errors, rendering, abbreviations, tasks.

mod reference;

use std::path::{Path, PathBuf};

use clap::{CommandFactory as _, Parser as _};

use super::args::{Cli, ColorChoice};
use super::job_ref::{JobRef, pick};
use super::output::{Output, Paint, error_text, error_value};
use super::{delegate, jobs, render};
use crate::error::{Code, Error};
use crate::job::{JobId, JobResult, JobState, JobStatus};
use crate::protocol::progress::{Phase, Progress};
use crate::protocol::request::JobKind;
use crate::protocol::result::{Reason, Usage};
use crate::workspace::{Applies, ChangeStatus, Conflict, FileChange, Risk, RiskItem, ShownPath, SnapshotSummary};

const PLAIN: Paint = Paint(false);
/// What a job might send to steer a terminal or deceive an eye.
const HOSTILE: &str = "\x1b]0;owned\x07\x1b[2J\u{9b}31m\u{202e}gnp.exe\u{200b}\r\ndone";

fn id(text: &str) -> JobId {
    format!("{text:0<32}").parse().unwrap()
}

fn job(id_text: &str, state: JobState) -> JobStatus {
    JobStatus {
        job_id: id(id_text),
        kind: JobKind::Delegate,
        state,
        reason: state.is_final().then_some(Reason::Completed),
        detail: "Codex ended its turn.".to_owned(),
        started_at: "2026-11-20T10:00:00Z".to_owned(),
        started_unix_ms: 0,
        ended_at: None,
        elapsed_ms: Some(12_340),
        deadline_seconds: 1800,
        ttl_seconds: 86_400,
        expires_at: None,
        poll_after_ms: 1000,
        result_available: true,
        result_ok: Some(true),
        untrusted_activity: Some(HOSTILE.to_owned()),
        queue_position: None,
        events_seen: 3,
        last_event_at: None,
        event_age_ms: None,
        answers: 2,
        workspace: PathBuf::from("/home/me/repo"),
        head: Some("0123456789".to_owned()),
        dirty: true,
        model: Some("model".to_owned()),
        version: "0.1.0".to_owned(),
        continues: None,
        isolation: serde_json::Value::Null,
    }
}

fn result() -> JobResult {
    let path = ShownPath::new(HOSTILE.as_bytes());
    JobResult {
        status: job("ab", JobState::Completed),
        sealed: None,
        last_message: HOSTILE.as_bytes().to_vec(),
        patch: Some(b"diff --git a/x b/x\n".to_vec()),
        review: None,
        review_paths: Vec::new(),
        answer_fault: None,
        changes: Vec::new(),
        no_changes: false,
        files: vec![FileChange {
            path: path.clone(),
            old_path: None,
            status: ChangeStatus::Modified,
            old_mode: Some("100644".to_owned()),
            new_mode: Some("100755".to_owned()),
            additions: Some(2),
            deletions: Some(1),
            binary: false,
            new_bytes: Some(9),
            patch_offset: 0,
            patch_bytes: 19,
        }],
        risk: Risk { executables: vec![RiskItem { path: path.clone(), note: HOSTILE.to_owned() }], ..Risk::default() },
        applies: Some(Applies { ok: false, exact: false, conflicts: vec![Conflict { path, why: "changed_since".to_owned() }] }),
        snapshot: SnapshotSummary { submodule_count: 1, ..SnapshotSummary::default() },
        refused: Vec::new(),
        refused_count: 0,
        untrusted_detail: None,
        altered: Vec::new(),
        altered_count: 0,
        ignored: vec![ShownPath::new(b"target/")],
        ignored_count: 3,
        ignore_rules_stopped: None,
        usage: Usage { input_tokens: 10, output_tokens: 5, ..Usage::default() },
        usage_source: "gateway",
        provider_error: None,
        events: Vec::new(),
        manifest_verified: true,
    }
}

/// Nothing in it steers or deceives; our own colours apart.
fn harmless(text: &str) {
    for code in ["\x1b[0m", "\x1b[1m", "\x1b[2m", "\x1b[31m", "\x1b[32m", "\x1b[33m", "\x1b[36m"] {
        if text.contains(code) {
            return harmless(&text.replace(code, ""));
        }
    }
    if let Some(c) = text.chars().find(|c| crate::display::is_deceptive(*c)) {
        panic!("{c:?} in {text:?}");
    }
}

#[test]
fn the_grammar_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn every_verb_takes_json_before_and_after_it() {
    let verbs: Vec<String> = Cli::command().get_subcommands().map(|verb| verb.get_name().to_owned()).collect();
    for verb in &verbs {
        let operands: &[&str] = match verb.as_str() {
            "delegate" => &["task"],
            "consult" => &["question"],
            "continue" => &["0123456789abcdef0123456789abcdef", "task"],
            "status" | "logs" | "result" | "diff" | "apply" | "fetch" | "cancel" | "consume" | "attest" | "wait" => {
                &["0123456789abcdef0123456789abcdef"]
            }
            "image" => &["build"],
            "audit" => &["verify"],
            "gateway" => &["limits"],
            "completions" => &["bash"],
            _ => &[],
        };
        for args in [[&["anchorhold", verb][..], operands, &["--json"]].concat(), [&["anchorhold", "--json", verb][..], operands].concat()] {
            let parsed = Cli::try_parse_from(&args).unwrap_or_else(|e| panic!("{args:?}: {e}"));
            assert!(parsed.global.json);
        }
    }
}

#[test]
fn contradictions_are_usage_errors() {
    for args in [
        &["delegate", "--wait", "--detach", "t"][..],
        &["delegate", "--detach", "--diff", "t"],
        &["delegate", "--attempts", "9", "t"],
        &["delegate", "--attempts", "2", "--detach", "t"],
        &["continue", "abcd", "--detach", "--diff", "t"],
        &["delegate", "--isolation", "none", "t"],
        &["delegate", "--deadline", "soon", "t"],
        &["jobs", "--all", "--workspace", "."],
        &["logs", "--events", "-f", "abcd"],
        &["jobs", "--set", "nonsense"],
        &["review", "--base", "main", "--commit", "HEAD"],
        &["review", "--working-tree", "--base", "main"],
        &["review", "--fail-on", "worst"],
        &["review", "--format", "pdf"],
        &["review", "--untracked", "all"],
    ] {
        assert!(Cli::try_parse_from([&["anchorhold"], args].concat()).is_err(), "{args:?}");
    }
}

#[test]
fn an_error_says_code_causes_and_hint() {
    let cause = std::io::Error::other(format!("refused {HOSTILE}"));
    let e = Error::new(Code::EngineUnavailable, "no engine answers").with_hint("start it").with_source(cause).with_detail("host", "h");
    let text = error_text(&e, PLAIN);
    assert!(text.starts_with("error[engine_unavailable]: no engine answers\n  cause: refused "), "{text}");
    assert!(text.ends_with("\n  hint: start it\n"), "{text}");
    harmless(&text);
    let value = error_value(&e);
    assert_eq!(value["code"], "engine_unavailable");
    assert_eq!(value["temporary"], true);
    assert_eq!(value["details"]["host"], "h");
    assert_eq!(value["retry_after_ms"], serde_json::Value::Null);
    harmless(value["causes"][0].as_str().unwrap());
}

#[test]
fn a_cause_that_is_in_the_message_is_not_repeated() {
    let e = Error::new(Code::EngineError, "failed: no space").with_source(std::io::Error::other("no space"));
    assert_eq!(error_text(&e, PLAIN), "error[engine_error]: failed: no space\n");
}

#[test]
fn abbreviations_name_one_job() {
    let ids = [id("abcd1"), id("abcd2"), id("ef01")];
    assert_eq!(pick("ef01", ids.iter()).unwrap(), ids[2]);
    assert_eq!(pick("abcd1", ids.iter()).unwrap(), ids[0]);
    assert_eq!(pick("abce", ids.iter()).unwrap_err().code, Code::JobNotFound);
    let many = pick("abcd", ids.iter()).unwrap_err();
    assert_eq!(many.code, Code::InvalidArguments);
    assert_eq!(many.details["candidates"].as_array().unwrap().len(), 2);
}

#[test]
fn what_is_typed_is_checked_before_anything_is_asked() {
    let whole = "0123456789abcdef0123456789abcdef";
    assert_eq!(JobRef::parse(whole).unwrap(), JobRef::Whole(whole.parse().unwrap()));
    assert_eq!(JobRef::parse(&whole.to_uppercase()).unwrap(), JobRef::Whole(whole.parse().unwrap()));
    assert_eq!(JobRef::parse(&format!("anchorhold-{whole}")).unwrap(), JobRef::Whole(whole.parse().unwrap()));
    assert_eq!(JobRef::parse(" AbCd ").unwrap(), JobRef::Prefix("abcd".to_owned()));
    assert_eq!(JobRef::parse("abc").unwrap_err().code, Code::InvalidArguments);
    for bad in ["", "xyzw", "../../x", "abcd\u{202e}", &format!("{whole}0")] {
        assert_eq!(JobRef::parse(bad).unwrap_err().code, Code::JobNotFound, "{bad:?}");
    }
}

#[test]
fn tasks_come_from_the_argument_standard_input_or_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("task");
    std::fs::write(&file, "from a file").unwrap();
    assert_eq!(delegate::task("plain", std::io::empty()).unwrap(), "plain");
    assert_eq!(delegate::task("-", &b"piped"[..]).unwrap(), "piped");
    assert_eq!(delegate::task(&format!("@{}", file.display()), std::io::empty()).unwrap(), "from a file");
    assert_eq!(delegate::task("-", &[b'x'; 200_000][..]).unwrap().len(), 200_000);
    let code = |argument: &str, stdin: &[u8]| delegate::task(argument, stdin).unwrap_err().code;
    assert_eq!(code("-", &[b'x'; 200_001]), Code::InputTooLarge);
    assert_eq!(code("-", b""), Code::InvalidArguments);
    assert_eq!(code(" \t\n", b""), Code::InvalidArguments);
    assert_eq!(code("-", b"\xff"), Code::InvalidArguments);
    assert_eq!(code("@/no/such/file", b""), Code::InvalidArguments);
    assert_eq!(code(&format!("@{}", dir.path().display()), b""), Code::InvalidArguments);
}

#[test]
fn times_are_written_as_people_do() {
    assert_eq!(delegate::seconds("90"), Ok(90));
    assert_eq!(delegate::seconds("90s"), Ok(90));
    assert_eq!(delegate::seconds("30m"), Ok(1800));
    assert_eq!(delegate::seconds("2h"), Ok(7200));
    for bad in ["", "m", "1d", "-1", "1.5h", "99999999999999999999h", "1é"] {
        assert!(delegate::seconds(bad).is_err(), "{bad}");
    }
}

#[test]
fn a_job_belongs_to_its_directory_and_those_around_it() {
    let job = job("ab", JobState::Running);
    for (here, yes) in [("/home/me/repo", true), ("/home/me/repo/src", true), ("/home/me", true), ("/home/me/repo2", false), ("/srv", false)] {
        assert_eq!(jobs::belongs(&job, Path::new(here)), yes, "{here}");
    }
}

#[test]
fn nothing_of_a_job_steers_the_terminal() {
    for paint in [PLAIN, Paint(true)] {
        harmless(&render::result_text(&result(), true, paint));
        let mut status = job("ab", JobState::Running);
        status.workspace = PathBuf::from(HOSTILE);
        status.head = Some(HOSTILE.to_owned());
        status.detail = HOSTILE.to_owned();
        harmless(&render::status(&status, paint));
        harmless(&render::jobs_table(&[status], paint));
        harmless(&render::patch(format!("@@ -1 +1 @@\n-{HOSTILE}\n+{HOSTILE}\n{HOSTILE}").as_bytes(), paint));
    }
    let record = Progress { ms: 5, phase: Phase::Running, message: Some(HOSTILE.to_owned()), events: 0, answers: 0, position: None, reason: None };
    harmless(&render::progress_line(&record, 0));
}

#[test]
fn a_result_says_what_there_is_to_know() {
    let text = render::result_text(&result(), true, PLAIN);
    for part in [
        "completed",
        "12.3s",
        "10 tokens in, 5 out by the gateway's count",
        "+2 -1",
        "(100644 → 100755)",
        "1 file changed, 2 lines added, 1 line removed",
    ]
    .iter()
    .chain(&[
        "executable: ",
        "does not apply",
        "changed since",
        "1 submodules were sent as empty directories",
        "own rules: target/ and 2 more\n",
        "anchorhold diff ab0000000000",
    ]) {
        assert!(text.contains(part), "no {part:?} in {text}");
    }
    assert!(!render::result_text(&result(), false, PLAIN).contains("anchorhold diff"), "a consumed job has no diff any more");
}

#[test]
fn no_changes_is_said_only_where_it_is_proven() {
    let none = JobResult { patch: None, no_changes: true, files: Vec::new(), ..result() };
    assert!(render::result_text(&none, true, PLAIN).contains("\nno changes\n"));
    assert!(render::nothing_known(&none).is_none());
    let mut lost = JobResult { patch: None, no_changes: false, files: Vec::new(), ..result() };
    lost.status.state = JobState::Lost;
    lost.status.reason = Some(Reason::Lost);
    let text = render::result_text(&lost, true, PLAIN);
    assert!(!text.contains("no changes") && text.contains("cannot be told"), "{text}");
    assert_eq!(render::nothing_known(&lost).unwrap().code, Code::JobLost);
}

#[test]
fn a_patch_is_coloured_by_what_a_line_is() {
    // The removed line `-- a/etc/passwd` must not look like a header, nor the added `++ b/x`.
    let patch = "diff --git a/f b/f\n--- a/f\n+++ b/f\n@@ -1,2 +1,2 @@ fn\n--- a/etc/passwd\n+++ b/x\n same\n\\ No newline at end of file\n";
    let shown = render::patch(patch.as_bytes(), Paint(true));
    let lines: Vec<&str> = shown.lines().collect();
    assert_eq!(lines[1], "\x1b[1m--- a/f\x1b[0m");
    assert_eq!(lines[3], "\x1b[36m@@ -1,2 +1,2 @@ fn\x1b[0m");
    assert_eq!(lines[4], "\x1b[31m--- a/etc/passwd\x1b[0m");
    assert_eq!(lines[5], "\x1b[32m+++ b/x\x1b[0m");
    assert_eq!(lines[6], " same");
    assert_eq!(render::patch(patch.as_bytes(), PLAIN), patch);
}

#[test]
fn a_patch_in_a_document_is_exact() {
    let mut fields = serde_json::json!({});
    render::add_patch(&mut fields, "a\u{202e}b".as_bytes());
    assert_eq!((fields["patch_encoding"].as_str(), fields["patch"].as_str()), (Some("utf-8"), Some("a\u{202e}b")));
    render::add_patch(&mut fields, b"caf\xe9");
    assert_eq!((fields["patch_encoding"].as_str(), fields["patch"].as_str()), (Some("base64"), Some("Y2Fm6Q==")));
}

#[test]
fn documents_hold_no_character_that_steers_and_lose_none() {
    let value = serde_json::json!({ "k": HOSTILE, "tag": "\u{e0041}" });
    let text = crate::display::json(&format!("{value:#}"));
    harmless(&text);
    assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), value);
}

#[test]
fn durations_are_short() {
    let show = |ms| render::duration(std::time::Duration::from_millis(ms));
    assert_eq!([show(0), show(430), show(12_340), show(245_000), show(7_380_000)], ["0.0s", "0.4s", "12.3s", "4m05s", "2h03m"]);
}

#[test]
fn the_table_lines_up() {
    let table = render::jobs_table(&[job("ab", JobState::Completed), job("cd", JobState::Running)], PLAIN);
    let at = |line: &str| line.find("/home").or_else(|| line.find("WORKSPACE"));
    let columns: Vec<Option<usize>> = table.lines().map(at).collect();
    assert_eq!(columns.len(), 3);
    assert!(columns.iter().all(|column| column.is_some() && *column == columns[0]), "{table}");
}

#[test]
fn colours_are_asked_for_by_name() {
    assert!(Output::new(false, false, ColorChoice::Always).paint().0);
    assert!(!Output::new(false, false, ColorChoice::Never).paint().0);
}

#[test]
fn a_dry_run_shows_what_would_leave_and_nothing_steers_the_terminal() {
    use crate::job::{Isolation, Preview};
    use crate::workspace::{InstructionFile, Origin, SecretLooking, SendEntry, SendManifest, Uncommitted};
    let hostile = || ShownPath::new(HOSTILE.as_bytes());
    let manifest = SendManifest {
        files: 2,
        bytes: 12_345,
        entries: vec![SendEntry { path: hostile(), bytes: 12_345, mode: "100644".into(), origin: Origin::Tracked }],
        entry_count: 300,
        included: vec![hostile()],
        included_count: 1,
        secret_looking: vec![SecretLooking { path: hostile(), note: HOSTILE.into(), origin: Origin::Included }],
        secret_looking_count: 1,
        instruction_files: vec![InstructionFile { path: hostile(), bytes: 3, at_start: true, origin: Origin::Base }],
        instruction_file_count: 1,
        ..SendManifest::default()
    };
    let preview = Preview {
        kind: JobKind::Delegate,
        workspace: PathBuf::from(HOSTILE),
        root: PathBuf::from(HOSTILE),
        subdirectory: None,
        head_subject: Some(HOSTILE.into()),
        model: Some(HOSTILE.into()),
        reasoning_effort: None,
        isolation: Isolation::Inherit,
        inherited: Default::default(),
        prompt_bytes: 900,
        bounds: crate::job::preview::PreviewBounds { deadline_seconds: 60, queue_seconds: 60, idle_seconds: 60, max_tokens: 7 },
        snapshot: SnapshotSummary { head: Some("0123456789abcdef".into()), ..SnapshotSummary::default() },
        manifest,
        uncommitted: Some(Uncommitted { tracked: Some(1), untracked: 2 }),
        change: None,
        blocked: Some(Error::new(Code::CodexAuthRequired, "no key").with_hint(HOSTILE)),
    };
    let text = super::dry_run::text(&preview, PLAIN);
    harmless(&text);
    for part in [
        "would send 2 files, 12.3 kB",
        "Nothing was sent now",
        "1 file with edits, 2 untracked files (not sent)",
        "May hold a secret, and would be sent: 1",
        "(loaded at the start, as in the base)",
        "Sent: 300",
        "and 299 more",
        "at most 7",
        "A start would fail now:",
    ] {
        assert!(text.contains(part), "{part} in\n{text}");
    }
    assert_eq!(super::dry_run::value(&preview)["blocked"]["code"], "codex_auth_required");
    let parsed = Cli::try_parse_from(["anchorhold", "delegate", "--dry-run", "--include-ignored", "x"]);
    assert!(parsed.is_ok());
    for wrong in [["delegate", "--dry-run", "--detach", "x"], ["review", "--dry-run", "--format", "sarif"]] {
        assert!(Cli::try_parse_from(std::iter::once("anchorhold").chain(wrong)).is_err(), "{wrong:?}");
    }
}
