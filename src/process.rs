//! The one place that makes child processes on the host (`clippy.toml` forbids `Command::new` elsewhere).
//!
//! Every child starts with an empty environment, an explicit working directory and a closed standard input, so that
//! nothing of the caller's shell and nothing of a repository steers it.

use std::path::Path;
use std::process::{Command, Stdio};

/// A command with an empty environment except `PATH`, `LANG=C` and what the caller adds, run in `dir`.
#[expect(clippy::disallowed_methods, reason = "the builder that everything else must use")]
pub fn command(program: &str, dir: &Path) -> Command {
    let mut command = Command::new(program);
    command.env_clear().current_dir(dir).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.env("PATH", std::env::var_os("PATH").unwrap_or_else(|| "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".into()));
    command.env("LANG", "C").env("LC_ALL", "C");
    command
}

/// `git` with no configuration but the given git directory's own: no system or user file, no prompt, no lazy fetch,
/// no optional lock, no helper program. `dir` must not lie in a repository whose configuration could be found by
/// discovery: pass `GIT_DIR` through `git_dir`.
pub fn git(git_dir: &Path, dir: &Path) -> Command {
    let mut command = command("git", dir);
    command
        .env("GIT_DIR", git_dir)
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_ATTR_NOSYSTEM", "1")
        .env("GIT_OPTIONAL_LOCKS", "0")
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("GIT_NO_LAZY_FETCH", "1")
        .env("GIT_NO_REPLACE_OBJECTS", "1")
        .env("GIT_PAGER", "cat")
        .args(["-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null", "-c", "core.attributesFile=/dev/null"])
        .args(["-c", "protocol.allow=never", "-c", "gc.auto=0", "-c", "core.untrackedCache=false"]);
    command
}
