//! `docs/FAULTS.md`: the fault table, with what was found in the last run of each case.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::case::{Case, Row};

const INTRODUCTION: &str = "\
# The faults, and what is true afterwards

Made by the fault suite (`tests/faults`): `make faults-document` runs it and writes this page; a test sees that each case is on it. In each case one
thing breaks at one step of a job's life, in the real program with a real engine and the real Codex CLI. Afterwards the suite checks that the job
is found, that its state and reason are true and come with a word on why, that its changes are there as far as bytes survived, that nothing ran
twice, that nothing is left once it is consumed (no container, volume, pass, temporary file or process), and that the next delegation works.

The state `none` means that no job had been handed out; `consumed`, that a `consume` had shown its result and taken it away. The patch is `whole`, `partial`
(what was done until the fault), `empty`, or `none` where nothing is said about changes. `not recorded`: the case is run by `make test` or `make faults`, and
its row was not yet written here.

`make kills` kills at random instead (`KILLS=1000 JOBS=4 SEED=…`) and counts.
";

pub fn page() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/FAULTS.md")
}

/// The page with new results; those of cases that were not run stay as they were.
pub fn text(cases: &[Case], results: &BTreeMap<&str, Row>, before: &str) -> String {
    let mut text = INTRODUCTION.to_owned();
    let mut area = "";
    for case in cases {
        let this = case.id.split('.').next().unwrap_or_default();
        if this != area {
            area = this;
            text.push_str(&format!("\n## {area}\n\n| case | fault | step | state | reason | patch |\n|---|---|---|---|---|---|\n"));
        }
        let found = match results.get(case.id) {
            Some(row) => format!(" {} | {} | {} |", row.state, row.reason, row.patch),
            None => kept(case.id, before).unwrap_or_else(|| " not recorded | | |".to_owned()),
        };
        text.push_str(&format!("{}{found}\n", beginning(case)));
    }
    text
}

/// What a case's line says before its results.
pub fn beginning(case: &Case) -> String {
    format!("| `{}` | {} | {} |", case.id, case.fault, case.step)
}

fn kept(id: &str, before: &str) -> Option<String> {
    let line = before.lines().find(|line| line.starts_with(&format!("| `{id}` |")))?;
    let cells: Vec<&str> = line.trim_matches('|').split('|').collect();
    let results = cells.get(cells.len().checked_sub(3)?..)?;
    Some(format!("{}|", results.join("|")))
}
