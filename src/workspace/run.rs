//! Runs a prepared `git` to its end, with a time limit.
//!
//! A repository is hostile: a FIFO in place of an object file makes git wait for ever, so every run has a limit after which it is killed.

use std::io::{Read as _, Write as _};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use rustix::time::Timespec;

use crate::error::{Code, Error, Result};

/// After this a git process is killed: far above what any real repository needs.
const LIMIT: Duration = Duration::from_secs(120);

/// More than this of standard output is no answer: git is ended, and its run is an error.
const MAX_STDOUT: u64 = (1 << 30) + (256 << 20);

/// Standard error is kept up to here; the rest is read and dropped.
const MAX_STDERR: usize = 64 << 10;

/// What a run left behind.
pub struct Output {
    /// How it ended.
    pub status: ExitStatus,
    /// Standard output, whole.
    pub stdout: Vec<u8>,
    /// The start of standard error, escaped for display.
    pub stderr: String,
}

impl Output {
    /// The exit code; -1 where a signal (for example our own limit) ended it.
    pub fn code(&self) -> i32 {
        self.status.code().unwrap_or(-1)
    }
}

/// Runs to the end; a non-zero exit is no error here. `what` completes "failed to …".
pub fn run(command: Command, input: Option<&[u8]>, what: &str) -> Result<Output> {
    run_limited(command, input, what, LIMIT)
}

/// Like [`run`]; a non-zero exit is an error with `code`.
pub fn run_ok(command: Command, input: Option<&[u8]>, what: &str, code: Code) -> Result<Vec<u8>> {
    let output = run(command, input, what)?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    Err(Error::new(code, format!("{what}: git ended with {}", output.status)).with_detail("untrusted_git_stderr", output.stderr))
}

fn run_limited(mut command: Command, input: Option<&[u8]>, what: &str, limit: Duration) -> Result<Output> {
    if input.is_some() {
        command.stdin(Stdio::piped());
    }
    let failed = |e: std::io::Error| Error::internal(format!("{what}: cannot run git")).with_source(e);
    let mut child = command.spawn().map_err(|e| {
        if e.kind() == std::io::ErrorKind::NotFound {
            Error::new(Code::GitUnavailable, format!("{what}: no git program is to be found"))
                .with_hint("install git 2.36 or newer and see that it is in PATH")
        } else {
            failed(e)
        }
    })?;
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let pidfd = pid.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let mut timed_out = false;
    let (read, stderr) = std::thread::scope(|scope| {
        if let (Some(mut stdin), Some(input)) = (stdin, input) {
            // A child that ends early closes its end; its exit status tells more than the broken pipe.
            scope.spawn(move || stdin.write_all(input));
        }
        let stderr = scope.spawn(move || {
            let mut kept = Vec::new();
            if let Some(mut stderr) = stderr {
                let _ = stderr.by_ref().take(MAX_STDERR as u64).read_to_end(&mut kept);
                let _ = std::io::copy(&mut stderr, &mut std::io::sink());
            }
            kept
        });
        let watchdog = scope.spawn(|| {
            // Without a pidfd (kernel before 5.3) there is no limit: killing by number could meet another process.
            let Some(pidfd) = &pidfd else { return false };
            let deadline = std::time::Instant::now() + limit;
            loop {
                let left = deadline.saturating_duration_since(std::time::Instant::now());
                let timeout = Timespec { tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX), tv_nsec: i64::from(left.subsec_nanos()) };
                match poll(&mut [PollFd::new(pidfd, PollFlags::IN)], Some(&timeout)) {
                    Ok(0) => return pidfd_send_signal(pidfd, Signal::KILL).is_ok(),
                    Err(rustix::io::Errno::INTR) => {}
                    Ok(_) | Err(_) => return false,
                }
            }
        });
        let mut out = Vec::new();
        // What is over the bound is not read: the pipe closes here, and git ends by it.
        let read = stdout.map_or(Ok(0), |stdout| stdout.take(MAX_STDOUT + 1).read_to_end(&mut out)).map(|_| out);
        timed_out = watchdog.join().unwrap_or(false);
        (read, stderr.join().unwrap_or_default())
    });
    let status = child.wait().map_err(failed)?;
    if timed_out {
        return Err(Error::new(Code::WorktreeError, format!("{what}: git did not end within {} seconds", limit.as_secs()))
            .with_hint("look for special files in the repository's git directory, and try `git fsck`"));
    }
    let stdout = read.map_err(failed)?;
    if stdout.len() as u64 > MAX_STDOUT {
        return Err(Error::new(Code::WorktreeError, format!("{what}: git's answer is over {MAX_STDOUT} bytes")));
    }
    Ok(Output { status, stdout, stderr: crate::display::bounded(&stderr, 2000) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str) -> Command {
        let mut command = crate::process::command("sh", std::path::Path::new("/"));
        command.args(["-c", script]);
        command
    }

    #[test]
    fn output_input_and_code_come_through() {
        let output = run(sh("cat; echo bad >&2; exit 3"), Some(b"in"), "try").unwrap();
        assert_eq!((output.code(), output.stdout.as_slice(), output.stderr.as_str()), (3, &b"in"[..], "bad\n"));
    }

    #[test]
    fn what_does_not_end_is_killed() {
        let error = run_limited(sh("exec sleep 1000"), None, "try", Duration::from_millis(50)).err().unwrap();
        assert_eq!(error.code, Code::WorktreeError);
    }

    #[test]
    fn a_missing_program_is_named() {
        let command = crate::process::command("anchorhold-no-such-program", std::path::Path::new("/"));
        assert_eq!(run(command, None, "try").err().unwrap().code, Code::GitUnavailable);
    }
}
