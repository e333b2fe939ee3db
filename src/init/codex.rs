//! Codex, as a child of PID 1: how it is started, and what comes out of its two pipes.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rustix::process::Pid;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::unix::pipe;

use super::cell::{Cell, Running, lock};
use super::launch;
use super::progress::now_unix_ms;
use super::spool::{Spool, SpoolWriter};
use crate::codex::command;
use crate::codex::events::{Events, Lines};
use crate::error::{Error, Result};
use crate::protocol::paths;
use crate::weaken;

const EVENTS_HEAD: u64 = 4 << 20;
const EVENTS_HALF: u64 = 2 << 20;
const STDERR_HEAD: u64 = 128 << 10;
const STDERR_HALF: u64 = 64 << 10;
/// What Codex 0.169 says when its helper is missing; it then ends well without having done anything.
const CODE_MODE_FAILURE: &[u8] = b"failed to spawn code-mode host";

/// Codex's events on disk.
pub fn events_spool() -> Spool {
    Spool::new(Path::new(paths::JOB_OUT), "events", if weaken::off("init.spool") { u64::MAX } else { EVENTS_HEAD }, EVENTS_HALF)
}

/// Codex's standard error on disk.
pub fn stderr_spool() -> Spool {
    Spool::new(Path::new(paths::JOB_OUT), "stderr", STDERR_HEAD, STDERR_HALF)
}

impl Cell {
    pub(super) fn start_codex(self: &Arc<Self>, running: &mut Running) -> Result<Pid> {
        let failed = |e: std::io::Error| Error::internal("start Codex").with_source(e);
        let line = command::command_line(&self.request.codex)?;
        let args = launch::arguments(self.request.agent_uid, self.request.disk_bytes, self.request.subdirectory.as_ref(), &line.program, &line.args);
        let (events, stderr) = (events_spool().writer().map_err(failed)?, stderr_spool().writer().map_err(failed)?);
        let mut command = crate::process::command("/proc/self/exe", Path::new("/"));
        command.env_clear();
        if weaken::off("init.environment") {
            command.envs(std::env::vars_os());
        }
        command.envs(line.env).envs(weaken::environment()).args(args).stdin(std::process::Stdio::piped());
        let (mut child, pid) = self.reaper.spawn(&mut command).map_err(failed)?;
        if let Some(stdin) = child.stdin.take() {
            let mut stdin = pipe::Sender::from_owned_fd(stdin.into()).map_err(failed)?;
            let cell = Arc::clone(self);
            running.helpers.spawn(async move {
                // A Codex that ends before it has read all is noticed by its end.
                let _ = stdin.write_all(cell.request.prompt.as_bytes()).await;
            });
        }
        if let Some(stdout) = child.stdout.take() {
            let stdout = pipe::Receiver::from_owned_fd(stdout.into()).map_err(failed)?;
            let cell = Arc::clone(self);
            running.pumps.spawn(async move { cell.read_events(stdout, events).await });
        }
        if let Some(errors) = child.stderr.take() {
            let errors = pipe::Receiver::from_owned_fd(errors.into()).map_err(failed)?;
            let cell = Arc::clone(self);
            running.pumps.spawn(async move { cell.read_stderr(errors, stderr).await });
        }
        Ok(pid)
    }

    async fn read_events(&self, mut pipe: pipe::Receiver, mut spool: SpoolWriter) {
        let mut lines = Lines::default();
        let mut buffer = vec![0; 16 << 10];
        loop {
            let due = lock(&self.reporter).due();
            let read = tokio::select! {
                read = pipe.read(&mut buffer) => read,
                () = tokio::time::sleep_until(due.unwrap_or_else(std::time::Instant::now).into()), if due.is_some() => {
                    lock(&self.reporter).tick();
                    continue;
                }
            };
            let Ok(read @ 1..) = read else { return };
            let bytes = buffer.get(..read).unwrap_or_default();
            spool.write(bytes);
            self.dropped_events.store(spool.dropped(), Ordering::Relaxed);
            self.take_events(&mut lines, bytes, now_unix_ms());
        }
    }

    fn take_events(&self, lines: &mut Lines, bytes: &[u8], now: u64) {
        let mut events = lock(&self.events);
        let mut reporter = lock(&self.reporter);
        let answers = lock(&self.facts).answers;
        lines.push(bytes, |line| {
            let activity = events.line(line, now);
            reporter.counts(events.report.events, answers);
            if let Some(activity) = activity {
                reporter.activity(activity);
            }
        });
    }

    async fn read_stderr(&self, mut pipe: pipe::Receiver, mut spool: SpoolWriter) {
        let mut window: Vec<u8> = Vec::new();
        let mut buffer = vec![0; 4 << 10];
        while let Ok(read @ 1..) = pipe.read(&mut buffer).await {
            let bytes = buffer.get(..read).unwrap_or_default();
            spool.write(bytes);
            window.extend_from_slice(bytes);
            if window.windows(CODE_MODE_FAILURE.len()).any(|part| part == CODE_MODE_FAILURE) {
                lock(&self.events).report.code_mode_host_failed = true;
            }
            // What could be the start of the phrase.
            let keep = window.len().saturating_sub(CODE_MODE_FAILURE.len());
            window.drain(..keep);
        }
    }

    /// After a kill of PID 1: what the spooled events said.
    pub(super) fn replay_events(&self) {
        let mut events = Events::default();
        let mut lines = Lines::default();
        // What cannot be read again is not known.
        let _ = events_spool().read(|chunk| {
            lines.push(chunk, |line| {
                events.line(line, 0);
            });
        });
        events.report.last_event_unix_ms = None;
        *lock(&self.events) = events;
        lock(&self.provider).answers = self.facts().answers;
    }
}
