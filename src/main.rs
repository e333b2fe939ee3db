//! Parse, wire, exit code.
//!
//! The parts that run inside containers are told apart before anything else is set up: PID 1 of a job must stay small, so it
//! sees no argument parser and no runtime of the command line.

use std::ffi::OsString;
use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().collect();
    let rest = args.get(2..).unwrap_or_default();
    let code = match args.get(1).and_then(|word| word.to_str()) {
        Some("init") => anchorhold::init::run(rest),
        // `gateway limits` is a verb for people.
        Some("gateway") if rest.first().is_none_or(|part| part != "limits") => anchorhold::cli::gateway(rest),
        _ => anchorhold::cli::run(&args),
    };
    ExitCode::from(code)
}
