//! Builds the probe, has it run inside a job, reads what it reports.

use std::path::Path;

use anchorhold::process;
use serde_json::Value;

use crate::arena::Arena;
use crate::case::Verdict;
use crate::support::Repo;

/// A repository with the probe as a tracked file.
pub fn repository(arena: &Arena) -> Repo {
    let repo = arena.env.repo();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/attacks/probe.c");
    let flags = ["-static", "-O1", "-Wall", "-Wextra", "-Werror", "-o", "probe"];
    let out = process::command("cc", repo.path()).args(flags).arg(source).output().expect("cc runs");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    repo.bash("git add probe; git commit -qm probe");
    repo
}

/// Delegates: Codex runs the probe's cases; their verdicts.
pub fn in_a_job(arena: &Arena, cases: &[&str]) -> Vec<(String, Verdict)> {
    let repo = repository(arena);
    let program = format!("Run the probe.\n```rehearsal\nshell ./probe {} > report 2>&1; true\nmessage done\n```\n", cases.join(" "));
    let result = arena.env.delegate(&repo, &program);
    assert_eq!(result["state"], "completed", "{result:#}");
    let copy = repo.tracked_copy();
    copy.git_apply(&arena.env.diff(result["job_id"].as_str().expect("job id")));
    verdicts(&std::fs::read_to_string(copy.path().join("report")).expect("a report"))
}

/// One verdict for each case that could be tried.
pub fn verdicts(report: &str) -> Vec<(String, Verdict)> {
    let lines = report.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines
        .filter_map(|line| {
            let detail = line["detail"].as_str().unwrap_or_default();
            let verdict = match line["outcome"].as_str()? {
                "blocked" => Verdict::Blocked(detail.to_owned()),
                "succeeded" => Verdict::Breached(detail.to_owned()),
                _ => return None,
            };
            Some((line["case"].as_str()?.to_owned(), verdict))
        })
        .collect()
}
