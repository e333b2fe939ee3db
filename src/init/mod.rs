//! PID 1 of a job: unpack, forward, run, watch, seal. Linux only.
//!
//! ```text
//! first start ─► unpack ─► slot ─► Codex ─► its end, or a reason to stop ─► kill everything ─► seal ─► result.json ─► exit code
//! later start, no result.json ──────────────────────────────────────────────────────────────┘
//! later start, result.json is there ─► the same exit code again
//! ```
//! [`cell`] drives this and is the only place that moves a job on; everything else reports to it; [`codex`] starts Codex and reads what it says. PID 1 itself stays small: what takes memory or
//! touches hostile bytes in bulk is done by a [`part`], a child that executes our own binary again and ends.

pub mod cell;
pub mod clock;
mod codex;
pub mod ending;
pub mod finish;
pub mod forward;
pub mod gitrepo;
pub mod home;
pub mod idle;
pub mod launch;
pub mod names;
pub mod pack;
pub mod part;
pub mod previous;
pub mod privileges;
pub mod progress;
pub mod reaper;
pub mod rules;
pub mod seal;
pub mod session;
pub mod slot;
pub mod spool;
pub mod state;
pub mod unpack;
pub mod usage;
pub mod watch;

#[cfg(test)]
pub mod testing;

/// Runs `anchorhold init [part] …` and returns the exit code. `args` are those after `init`; empty is PID 1 itself.
pub fn run(args: &[std::ffi::OsString]) -> u8 {
    let Some((part, rest)) = args.split_first() else { return cell::run() };
    match part.to_str() {
        Some("unpack") => part::run_unpack(),
        Some("exec-agent") => launch::run(rest),
        Some("usage") => part::run_usage(),
        Some("seal") => part::run_seal(),
        Some("free") => part::run_free(),
        _ => 2,
    }
}
