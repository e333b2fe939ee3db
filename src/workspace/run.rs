//! Runs a prepared `git` to its end, with a time limit.
//!
//! A repository is hostile: a FIFO in place of an object file makes git wait for ever, so every run has a limit after which it is killed. Where the
//! answer's length is the repository's to choose (an index of a few megabytes may name gigabytes of paths), that has a bound too.

use std::io::{Read as _, Write as _};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, Resource, Rlimit, Signal, pidfd_open, pidfd_send_signal, prlimit};
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

/// What a run may take.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// After this it is killed.
    pub time: Duration,
    /// Bytes of standard output; one more and it is killed.
    pub output: u64,
    /// Bytes of memory of its own (`RLIMIT_DATA`).
    pub memory: Option<u64>,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { time: LIMIT, output: MAX_STDOUT, memory: None }
    }
}

/// Runs to the end; a non-zero exit is no error here. `what` completes "failed to …".
pub fn run(command: Command, input: Option<&[u8]>, what: &str) -> Result<Output> {
    run_within(command, input, what, Bounds::default())
}

/// Like [`run`]; a non-zero exit is an error with `code`.
pub fn run_ok(command: Command, input: Option<&[u8]>, what: &str, code: Code) -> Result<Vec<u8>> {
    ok(run(command, input, what)?, what, code)
}

/// Like [`run_ok`], within bounds.
pub fn run_ok_within(command: Command, what: &str, code: Code, bounds: Bounds) -> Result<Vec<u8>> {
    ok(run_within(command, None, what, bounds)?, what, code)
}

fn ok(output: Output, what: &str, code: Code) -> Result<Vec<u8>> {
    if output.status.success() {
        return Ok(output.stdout);
    }
    Err(Error::new(code, format!("{what}: git ended with {}", output.status)).with_detail("untrusted_git_stderr", output.stderr))
}

/// Like [`run`], within bounds.
pub fn run_within(mut command: Command, input: Option<&[u8]>, what: &str, bounds: Bounds) -> Result<Output> {
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
    if let (Some(pid), Some(memory)) = (pid, bounds.memory) {
        // Not waited for yet, so the number is still the child's. A second wall behind the length of the answer.
        let _ = prlimit(Some(pid), Resource::Data, Rlimit { current: Some(memory), maximum: Some(memory) });
    }
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
            let deadline = std::time::Instant::now() + bounds.time;
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
        // The pipe is closed when this returns: a child with more to say ends by it.
        let read = stdout.map_or(Ok(0), |stdout| stdout.take(bounds.output.saturating_add(1)).read_to_end(&mut out)).map(|_| out);
        timed_out = watchdog.join().unwrap_or(false);
        (read, stderr.join().unwrap_or_default())
    });
    let status = child.wait().map_err(failed)?;
    if timed_out {
        return Err(Error::new(Code::WorktreeError, format!("{what}: git did not end within {} seconds", bounds.time.as_secs()))
            .with_hint("look for special files in the repository's git directory, and try `git fsck`"));
    }
    let stdout = read.map_err(failed)?;
    if stdout.len() as u64 > bounds.output {
        return Err(Error::new(Code::WorkspaceTooLarge, format!("{what}: git's answer is over {} bytes", bounds.output))
            .with_hint("raise workspace.max_files in the settings if the repository is really that large")
            .with_detail("cap", "max_files")
            .with_detail("limit", bounds.output));
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
        let bounds = Bounds { time: Duration::from_millis(50), ..Bounds::default() };
        let error = run_within(sh("exec sleep 1000"), None, "try", bounds).err().unwrap();
        assert_eq!(error.code, Code::WorktreeError);
    }

    #[test]
    fn an_endless_answer_ends_at_its_bound() {
        let bounds = Bounds { output: 100_000, ..Bounds::default() };
        assert_eq!(run_within(sh("yes"), None, "try", bounds).err().unwrap().code, Code::WorkspaceTooLarge);
        let exact = Bounds { output: 4, ..Bounds::default() };
        assert_eq!(run_within(sh("printf 1234"), None, "try", exact).unwrap().stdout, b"1234");
    }

    #[test]
    fn memory_is_bounded() {
        let hog = "a=$(head -c 200000000 /dev/zero | tr '\\0' a); sleep 0.1; printf done";
        let script = format!("sleep 0.2; {hog}");
        let bounds = Bounds { memory: Some(64 << 20), ..Bounds::default() };
        assert!(run_within(sh(&script), None, "try", bounds).unwrap().stdout.is_empty());
        assert_eq!(run(sh(&script), None, "try").unwrap().stdout, b"done");
    }

    #[test]
    fn a_missing_program_is_named() {
        let command = crate::process::command("anchorhold-no-such-program", std::path::Path::new("/"));
        assert_eq!(run(command, None, "try").err().unwrap().code, Code::GitUnavailable);
    }
}
