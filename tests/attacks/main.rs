//! The attack suite: named cases, each blocked in the product and each successful once a protection is taken away.
//!
//! The test runner gets one trial for each group in the product and one for each control. `make attacks` (`ANCHORHOLD_ATTACKS=table`) prints a
//! table instead, `make attacks-mutate` (`ANCHORHOLD_ATTACKS=mutate`) weakens one thing at a time; arguments
//! choose groups. `ANCHORHOLD_ATTACKS=document` writes the pages in `docs/`. See README.md here.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking, its helpers too")]
#![allow(dead_code, reason = "areas use their own part of the harness")]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "the tables are its purpose")]

#[path = "../support/mod.rs"]
mod support;

mod arena;
mod callers;
mod case;
mod cell;
mod coverage;
mod document;
mod export;
mod gateway;
mod http;
mod report;
mod resources;
mod review;
mod supply;

use std::process::ExitCode;

use case::Group;
use libtest_mimic::{Arguments, Failed, Trial};

/// All groups, by area.
fn groups() -> Vec<Group> {
    [cell::GROUPS, resources::GROUPS, export::GROUPS, gateway::GROUPS, review::GROUPS, callers::GROUPS, http::GROUPS, supply::GROUPS].concat()
}

fn main() -> ExitCode {
    let groups = groups();
    let chosen = || {
        let wanted: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
        let chosen: Vec<Group> = groups.iter().filter(|g| wanted.is_empty() || wanted.iter().any(|w| g.name.contains(w.as_str()))).copied().collect();
        assert!(!chosen.is_empty(), "no group is named so; there are: {}", groups.iter().map(|g| g.name).collect::<Vec<_>>().join(", "));
        chosen
    };
    let good = match std::env::var("ANCHORHOLD_ATTACKS").as_deref() {
        Ok("table") => report::table(&chosen()),
        Ok("mutate") => report::mutations(&chosen()),
        Ok("document") => {
            document::write(&groups);
            true
        }
        _ => return libtest_mimic::run(&Arguments::from_args(), trials(&groups)).exit_code(),
    };
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn trials(groups: &[Group]) -> Vec<Trial> {
    let mut trials = coverage::trials(groups);
    for group in groups.iter().copied() {
        trials.push(Trial::test(format!("{}::product", group.name), move || {
            let open: Vec<_> = group.product().into_iter().filter(|(_, verdict)| verdict.breached()).collect();
            if open.is_empty() { Ok(()) } else { Err(Failed::from(format!("breached: {open:#?}"))) }
        }));
        for control in group.controls {
            trials.push(Trial::test(format!("{}::control::{}", group.name, control.name), move || {
                let closed: Vec<_> = group.weakened(control).into_iter().filter(|(_, verdict)| !verdict.breached()).collect();
                if closed.is_empty() { Ok(()) } else { Err(Failed::from(format!("the attack proves nothing, it fails even so: {closed:#?}"))) }
            }));
        }
    }
    trials
}
