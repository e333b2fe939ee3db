//! What the gateway's process does for the credential before it holds one: its memory is nobody's to read, to dump or to swap.
//!
//! Everything is tried; what the engine's limits do not let happen is remembered and said in the gateway's status.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use rustix::mm::MlockAllFlags;
use rustix::process::{DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit};

use crate::error::{Error, Result};
use crate::weaken;

static GAPS: Mutex<Vec<&'static str>> = Mutex::new(Vec::new());

/// What could not be had, for the gateway's status.
pub fn gaps() -> Vec<String> {
    GAPS.lock().unwrap_or_else(PoisonError::into_inner).iter().map(|gap| (*gap).to_owned()).collect()
}

/// Remembers what could not be had, once.
pub fn gap(what: &'static str) {
    let mut gaps = GAPS.lock().unwrap_or_else(PoisonError::into_inner);
    if !gaps.contains(&what) {
        tracing::warn!(gap = what, "a protection of the credential is not to be had");
        gaps.push(what);
    }
}

/// Starts this program again without the variables that other parts of it might listen to (loader, proxies, certificates, anything with a secret
/// in it), so that they are not in `/proc/<pid>/environ` either. Returns when there are none.
pub fn clear_environment() -> Result<()> {
    let ours = |name: &OsString| name.to_str().is_some_and(|name| name == "PATH" || name.starts_with("ANCHORHOLD_"));
    if std::env::vars_os().all(|(name, _)| ours(&name)) || weaken::off("gateway.environment") {
        return Ok(());
    }
    let failed = |e: std::io::Error| Error::internal("start again without the environment").with_source(e);
    let program = std::env::current_exe().map_err(failed)?;
    let mut command = crate::process::command(&program.to_string_lossy(), Path::new("/"));
    command.env_clear().envs(std::env::vars_os().filter(|(name, _)| ours(name))).args(std::env::args_os().skip(1));
    command.stdin(std::process::Stdio::inherit()).stdout(std::process::Stdio::inherit()).stderr(std::process::Stdio::inherit());
    Err(failed(command.exec()))
}

/// Closes this process's memory to others of the same user and to core files, and keeps it out of swap where it may.
pub fn process() {
    if !weaken::off("gateway.core") && setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) }).is_err() {
        gap("core files cannot be switched off");
    }
    if !weaken::off("gateway.dumpable") && set_dumpable_behavior(DumpableBehavior::NotDumpable).is_err() {
        gap("the process stays readable for others of its user");
    }
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    // Where all memory may be locked, the copies of the credential in the buffers of HTTP and TLS are too; else its own pages are.
    raise(Resource::Memlock);
    let unlimited = getrlimit(Resource::Memlock).current.is_none();
    let flags = MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT;
    if weaken::off("gateway.locked") || !unlimited || rustix::mm::mlockall(flags).is_err() {
        gap("only the credential's own pages are locked, not the buffers that it passes through (memlock limit)");
    }
}

/// Raises the soft limit on open files to the hard one: each connection is one.
pub fn open_files() {
    raise(Resource::Nofile);
}

fn raise(resource: Resource) {
    let limit = getrlimit(resource);
    if setrlimit(resource, Rlimit { current: limit.maximum, ..limit }).is_err() {
        tracing::debug!(?resource, "the soft limit could not be raised");
    }
}
