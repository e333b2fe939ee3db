//! The fault suite: one thing breaks at one step of a job's life; afterwards the job is found in a true state, its work is there where bytes
//! survived, nothing ran twice, nothing is left, and the next delegation works.
//!
//! The test runner gets one trial a case. `make faults` (`ANCHORHOLD_FAULTS=table`) prints the table; arguments choose cases by part of their id.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking, its helpers too")]
#![allow(dead_code, reason = "areas use their own part of the harness")]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "the table is its purpose")]

#[path = "../support/mod.rs"]
mod support;

mod case;
mod coverage;
mod hands;
mod host;
mod report;
mod world;

use std::process::ExitCode;

use case::Case;
use libtest_mimic::{Arguments, Trial};

/// All cases, by area.
fn cases() -> Vec<Case> {
    [host::CASES, &hands::cases()].concat()
}

fn main() -> ExitCode {
    let cases = cases();
    if std::env::var("ANCHORHOLD_FAULTS").as_deref() == Ok("table") {
        let wanted: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
        let chosen: Vec<Case> = cases.iter().filter(|c| wanted.is_empty() || wanted.iter().any(|w| c.id.contains(w.as_str()))).copied().collect();
        assert!(!chosen.is_empty(), "no case is named so");
        return if report::table(&chosen) { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    let mut trials = coverage::trials(&cases);
    trials.extend(cases.into_iter().map(|case| {
        Trial::test(case.id, move || {
            let row = (case.run)();
            println!("{row:?}");
            Ok(())
        })
    }));
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}
