//! The one place that makes child processes on the host (`clippy.toml` forbids `Command::new` elsewhere).
//!
//! Every child starts with an empty environment, an explicit working directory and a closed standard input, so that
//! nothing of the caller's shell and nothing of a repository steers it.

use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::weaken;

/// Where programs are looked for when the caller's `PATH` says nothing usable.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A command with an empty environment except `PATH`, `LANG=C` and what the caller adds, run in `dir`.
#[expect(clippy::disallowed_methods, reason = "the builder that everything else must use")]
pub fn command(program: &str, dir: &Path) -> Command {
    let mut command = Command::new(program);
    if !weaken::off("export.clear_env") {
        command.env_clear();
    }
    command.current_dir(dir).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.env("PATH", search_path(std::env::var_os("PATH")));
    command.env("LANG", "C").env("LC_ALL", "C");
    command
}

/// The directories of a search path that do not depend on where the child runs: an empty or relative one (`PATH=.:…`, a colon at the end)
/// would start a `git` that lies in the repository.
fn search_path(path: Option<OsString>) -> OsString {
    let path = path.unwrap_or_default();
    if weaken::off("export.search_path") {
        return path;
    }
    let absolute = std::env::split_paths(&path).filter(|dir| dir.is_absolute());
    match std::env::join_paths(absolute) {
        Ok(path) if !path.is_empty() => path,
        _ => PATH.into(),
    }
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
        .env("GIT_NO_REPLACE_OBJECTS", "1")
        .env("GIT_PAGER", "cat");
    // A second wall behind "the repository's configuration is not in force" (`shadow`): what would run if it were. Gone together with the
    // first one, because behind it nothing ever meets this.
    if !weaken::off("export.repo_config") {
        command
            .env("GIT_NO_LAZY_FETCH", "1")
            .args(["-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null", "-c", "core.attributesFile=/dev/null"])
            .args(["-c", "protocol.allow=never", "-c", "gc.auto=0", "-c", "core.untrackedCache=false"]);
    }
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    fn searched(path: &str) -> String {
        search_path(Some(path.into())).to_string_lossy().into_owned()
    }

    #[test]
    fn only_absolute_directories_are_searched() {
        assert_eq!(searched("/usr/bin:/bin"), "/usr/bin:/bin");
        assert_eq!(searched(".:/usr/bin::bin:/bin:"), "/usr/bin:/bin");
        for nothing in ["", ".", ":", "bin:../bin"] {
            assert_eq!(searched(nothing), PATH);
        }
        assert_eq!(search_path(None), PATH);
    }

    #[test]
    fn a_child_sees_nothing_of_the_callers_environment() {
        let names: Vec<_> = command("git", Path::new("/")).get_envs().map(|(name, _)| name.to_owned()).collect();
        assert_eq!(names, ["LANG", "LC_ALL", "PATH"]);
        let output = command("env", Path::new("/")).output().unwrap();
        assert_eq!(
            String::from_utf8_lossy(&output.stdout).lines().filter(|line| !line.starts_with("PATH=")).collect::<Vec<_>>(),
            ["LANG=C", "LC_ALL=C"]
        );
    }
}
