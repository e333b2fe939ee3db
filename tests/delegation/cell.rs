//! The cell from inside: the real Codex, told so by a rehearsal program, runs the probe of `tests/attacks` as the agent.

use std::collections::BTreeMap;
use std::path::Path;

use anchorhold::process;

use crate::support::{Repo, TestEnv, docker};

/// The probe's verdict for each case.
fn verdicts(report: &str) -> BTreeMap<String, (String, String)> {
    let lines = report.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let text = |line: &serde_json::Value, field: &str| line[field].as_str().unwrap_or_default().to_owned();
    lines.map(|line| (text(&line, "case"), (text(&line, "outcome"), text(&line, "detail")))).collect()
}

/// The probe, built into the repository as a tracked file.
fn with_probe(env: &TestEnv) -> Repo {
    let repo = env.repo();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/attacks/probe.c");
    let out = process::command("cc", repo.path()).args(["-static", "-O1", "-o", "probe"]).arg(source).output().expect("cc runs");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    repo.bash("git add probe; git commit -qm probe");
    repo
}

#[test]
fn nothing_that_the_probe_tries_succeeds() {
    let env = TestEnv::new();
    let repo = with_probe(&env);
    let result = env.delegate(&repo, "Run the probe.\n```rehearsal\nshell ./probe all > report 2>&1; true\nmessage done\n```\n");
    assert_eq!(result["state"], "completed", "{result:#}");
    let copy = repo.tracked_copy();
    copy.git_apply(&env.diff(result["job_id"].as_str().expect("job id")));
    let report = std::fs::read_to_string(copy.path().join("report")).expect("a report");
    let verdicts = verdicts(&report);
    assert!(verdicts.len() >= 40, "the probe did not try its cases: {report}");
    // The floor of the OOM score is the engine's to set, with SYS_RESOURCE: an engine that lacks it, as in a nested sandbox, sets none.
    let excused = |case: &str| case == "c06-oom-score";
    let succeeded: Vec<_> = verdicts.iter().filter(|(case, (outcome, _))| outcome == "succeeded" && !excused(case)).collect();
    assert!(succeeded.is_empty(), "{succeeded:#?}");
}

/// The control: in a container that takes nothing away, the same program reaches what the cell denies.
#[test]
fn the_probe_succeeds_where_it_is_let() {
    let env = TestEnv::new();
    let repo = with_probe(&env);
    let image = std::env::var("ANCHORHOLD_IMAGE_NAME").unwrap_or_else(|_| concat!("anchorhold/runtime:", env!("CARGO_PKG_VERSION")).to_owned());
    let name = format!("anchorhold-{}-control", env.instance());
    let label = format!("anchorhold.instance={}", env.instance());
    docker(&[
        "create",
        "--name",
        &name,
        "--label",
        &label,
        "--security-opt",
        "seccomp=unconfined",
        "--user",
        "0:0",
        "--entrypoint",
        "/tmp/probe",
        &image,
        "all",
    ]);
    docker(&["cp", repo.path().join("probe").to_str().expect("utf-8"), &format!("{name}:/tmp/probe")]);
    let verdicts = verdicts(&docker(&["start", "-a", &name]));
    for case in ["c02-user-namespace", "c03-ptrace", "c03-sockets", "c05-interfaces", "c06-root-file-system", "c08-host-facts"] {
        assert_eq!(verdicts.get(case).map(|(outcome, _)| outcome.as_str()), Some("succeeded"), "{case}: {verdicts:#?}");
    }
}
