//! `init exec-agent`: becomes the agent and turns into Codex.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;

use base64::Engine as _;
use rustix::fs::{Mode as FileMode, OFlags, openat};
use rustix::process::Signal;

use super::{part, privileges};
use crate::error::{Error, Result};
use crate::protocol::paths;
use crate::protocol::repo_path::RepoPath;

/// The launcher's arguments for PID 1 to pass on, the part's name included.
pub fn arguments(uid: u32, max_file_bytes: u64, subdirectory: Option<&RepoPath>, program: &str, args: &[String]) -> Vec<OsString> {
    let subdirectory = subdirectory.map_or_else(String::new, |path| base64::engine::general_purpose::STANDARD.encode(path.as_bytes()));
    let own = ["init".to_owned(), "exec-agent".to_owned(), uid.to_string(), max_file_bytes.to_string(), subdirectory, program.to_owned()];
    own.into_iter().chain(args.iter().cloned()).map(OsString::from).collect()
}

/// Runs the part; comes back only when it failed. 126, as a shell would say for a program that cannot be run.
pub fn run(args: &[OsString]) -> u8 {
    let failure = match exec(args) {
        Ok(never) => match never {},
        Err(e) => e,
    };
    // Codex's standard error is what somebody will read who wonders why nothing ran.
    let _ = std::io::Write::write_all(&mut std::io::stderr(), format!("anchorhold: {}\n", failure.chain()).as_bytes());
    126
}

fn exec(args: &[OsString]) -> Result<std::convert::Infallible> {
    let [uid, max_file_bytes, subdirectory, program, rest @ ..] = args else { return Err(Error::internal("exec-agent has too few arguments")) };
    let number = |text: &OsString| text.to_str().and_then(|text| text.parse::<u64>().ok()).ok_or_else(|| Error::internal("not a number"));
    let uid = u32::try_from(number(uid)?).map_err(|_| Error::internal("not a uid"))?;
    let program = program.to_str().ok_or_else(|| Error::internal("the program's name is not text"))?;
    privileges::check_descriptors()?;
    privileges::limit_agent(number(max_file_bytes)?)?;
    // A session of its own: no terminal, and signals to a group stay among the agent's processes.
    rustix::process::setsid().map_err(|e| Error::internal("start a session").with_source(std::io::Error::from(e)))?;
    rustix::process::umask(FileMode::from_raw_mode(0o022));
    privileges::become_agent(uid)?;
    // Asked for after the change of user, which clears it. Nothing of the agent's outlives PID 1 anyway; this is for trials outside a cell.
    let _ = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
    enter(subdirectory)?;
    let mut command = crate::process::command(program, Path::new("."));
    command.env_clear().envs(std::env::vars_os()).args(rest);
    // The streams are those that PID 1 made.
    command.stdin(std::process::Stdio::inherit()).stdout(std::process::Stdio::inherit()).stderr(std::process::Stdio::inherit());
    Err(Error::internal(format!("run {program}")).with_source(command.exec()))
}

/// Goes to the subdirectory of the workspace, through no link.
fn enter(subdirectory: &OsString) -> Result<()> {
    let failed = |e: std::io::Error| Error::internal("go to the subdirectory").with_source(e);
    let mut dir = part::open_root(Path::new(paths::WORKSPACE)).map_err(failed)?;
    if !subdirectory.is_empty() {
        let bytes = base64::engine::general_purpose::STANDARD
            .decode(subdirectory.as_bytes())
            .map_err(|e| Error::internal("decode the subdirectory").with_source(e))?;
        let path = RepoPath::parse(&bytes).map_err(|e| Error::internal("parse the subdirectory").with_source(e))?;
        for name in path.as_bytes().split(|b| *b == b'/') {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            dir = openat(&dir, name, flags, FileMode::empty()).map_err(|e| failed(e.into()))?;
        }
    }
    rustix::process::fchdir(&dir).map_err(|e| failed(e.into()))
}
