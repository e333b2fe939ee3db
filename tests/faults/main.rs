//! The fault suite: one thing breaks at one step of a job's life; afterwards the job is found in a true state, its work is there where bytes
//! survived, nothing ran twice, nothing is left, and the next delegation works.
//!
//! The test runner gets one trial a case. `make faults` (`ANCHORHOLD_FAULTS=table`) prints the table; arguments choose cases by part of their id.
//! `document` writes `docs/FAULTS.md` besides, `page` writes it without running anything, and `kills` (`make kills`) kills at random.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking, its helpers too")]
#![allow(dead_code, reason = "areas use their own part of the harness")]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "the table is its purpose")]

#[path = "../support/mod.rs"]
mod support;

mod account;
mod case;
mod continuing;
mod controls;
mod coverage;
mod document;
mod engine;
mod gateway;
mod gateway_points;
mod hands;
mod host;
mod host_end;
mod init;
mod kills;
mod mcp;
mod parts;
mod processes;
mod queue;
mod races;
mod raw;
mod report;
mod stuck;
mod upstream;
mod world;

use std::collections::BTreeMap;
use std::process::ExitCode;

use case::{Case, Row};
use libtest_mimic::{Arguments, Trial};

/// All cases, by area.
fn cases() -> Vec<Case> {
    [
        host::CASES,
        host_end::CASES,
        continuing::CASES,
        init::CASES,
        engine::cases().as_slice(),
        hands::cases().as_slice(),
        upstream::CASES,
        gateway_points::CASES,
        gateway::CASES,
        queue::CASES,
        stuck::CASES,
        races::CASES,
        races::instances::CASES,
        races::scale::CASES,
        races::idle::CASES,
        races::soak::CASES,
    ]
    .concat()
}

/// Writes `docs/FAULTS.md`; what was not run stays as it was.
pub fn write_page(found: &BTreeMap<&str, Row>) {
    let before = std::fs::read_to_string(document::page()).unwrap_or_default();
    std::fs::write(document::page(), document::text(&cases(), found, &before)).expect("docs/FAULTS.md");
}

/// Cases that `make faults` runs and `make test` does not, by the beginning of their ids, each with the reason.
const LONG: &[(&str, &str)] = &[
    ("queue.fifty", "fifty jobs in three slots take minutes"),
    ("scale.idle", "with tests beside it the machine is not idle, and twenty jobs take minutes there"),
];

fn main() -> ExitCode {
    let cases = cases();
    let mode = std::env::var("ANCHORHOLD_FAULTS").unwrap_or_default();
    if mode == "kills" {
        return if kills::run(&kills::Wanted::from_environment()) { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    if mode == "page" {
        write_page(&BTreeMap::new());
        return ExitCode::SUCCESS;
    }
    if mode == "table" || mode == "document" {
        let wanted: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
        let chosen: Vec<Case> = cases.iter().filter(|c| wanted.is_empty() || wanted.iter().any(|w| c.id.contains(w.as_str()))).copied().collect();
        assert!(!chosen.is_empty(), "no case is named so");
        return if report::table(&chosen, mode == "document") { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    let mut trials = coverage::trials(&cases);
    trials.extend(controls::trials());
    trials.push(Trial::test("kills::a_dozen", || {
        let wanted = kills::Wanted { kills: 12, workers: 1, seed: 4 };
        if kills::run(&wanted) { Ok(()) } else { Err("the table says what went wrong".into()) }
    }));
    trials.extend(cases.into_iter().filter(|case| !LONG.iter().any(|(part, _)| case.id.starts_with(part))).map(|case| {
        Trial::test(case.id, move || {
            let row = (case.run)();
            println!("{row:?}");
            Ok(())
        })
    }));
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}
