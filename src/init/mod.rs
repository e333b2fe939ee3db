//! PID 1 of a job: unpack, forward, run, watch, seal. Linux only.

pub mod gitrepo;
pub mod pack;
pub mod part;
pub mod privileges;
pub mod seal;
pub mod state;
pub mod unpack;

#[cfg(test)]
pub mod testing;

/// Runs `anchorhold init [part] …` and returns the exit code. `args` are those after `init`; empty is PID 1 itself.
pub fn run(args: &[std::ffi::OsString]) -> u8 {
    match args.first().and_then(|arg| arg.to_str()) {
        Some("unpack") => part::run_unpack(),
        _ => 2,
    }
}
