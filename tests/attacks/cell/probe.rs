//! Builds the probe and reads what it reports.

use std::sync::OnceLock;

use anchorhold::process;
use serde_json::Value;

use crate::arena::Arena;
use crate::case::{Case, Promise, Verdict, Verdicts};
use crate::support::Repo;

/// The probe's source.
const SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/attacks/probe.c");

/// The static program, built once a run.
pub fn program() -> &'static [u8] {
    static PROGRAM: OnceLock<Vec<u8>> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let dir = tempfile::tempdir().expect("a directory");
        let flags = ["-static", "-O1", "-Wall", "-Wextra", "-Werror", "-o", "probe", SOURCE];
        let out = process::command("cc", dir.path()).args(flags).output().expect("cc runs");
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        std::fs::read(dir.path().join("probe")).expect("the probe")
    })
}

/// A repository with the probe as a tracked file.
pub fn repository(arena: &Arena) -> Repo {
    let repo = arena.env.repo();
    std::fs::write(repo.path().join("probe"), program()).expect("the probe is written");
    repo.bash("chmod 755 probe; git add probe; git commit -qm probe");
    repo
}

/// A case that the probe judges. Its name there begins with a small letter.
pub const fn case(id: &'static str, promise: Promise, tries: &'static str) -> Case {
    Case { id, promise, tries }
}

/// The probe's name for a case.
pub fn name(id: &str) -> String {
    let (first, rest) = id.split_at(1);
    format!("{}{rest}", first.to_lowercase())
}

/// One verdict for each case that could be tried, under our ids. What could not be tried stays out, with its reason in the second list.
pub fn verdicts(report: &str) -> (Verdicts, Vec<String>) {
    let (mut verdicts, mut errors) = (Verdicts::new(), Vec::new());
    for line in report.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
        let (Some(case), Some(outcome), Some(detail)) = (line["case"].as_str(), line["outcome"].as_str(), line["detail"].as_str()) else { continue };
        let id = format!("{}{}", case[..1].to_uppercase(), &case[1..]);
        match outcome {
            "blocked" => verdicts.push((id, Verdict::Blocked(detail.to_owned()))),
            "succeeded" => verdicts.push((id, Verdict::Breached(detail.to_owned()))),
            _ => errors.push(format!("{id}: {detail}")),
        }
    }
    (verdicts, errors)
}
