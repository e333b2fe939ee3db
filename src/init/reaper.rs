//! The children of PID 1, and everything that is orphaned to it.

use std::collections::HashMap;
use std::io;
use std::process::{Child, Command};
use std::sync::Mutex;

use rustix::process::{Pid, Signal, WaitOptions};
use tokio::sync::watch;

/// How a child ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// Exit code, where it exited.
    pub exit_code: Option<i32>,
    /// Signal, where one ended it.
    pub signal: Option<i32>,
}

/// Reaps whatever ends and remembers how the own children ended.
pub struct Reaper {
    own: Mutex<HashMap<i32, Option<Ended>>>,
    version: watch::Sender<u64>,
}

impl Default for Reaper {
    fn default() -> Self {
        Self { own: Mutex::default(), version: watch::Sender::new(0) }
    }
}

impl Reaper {
    /// Starts an own child. It is reaped here: the handle serves for its pipes only.
    pub fn spawn(&self, command: &mut Command) -> io::Result<(Child, Pid)> {
        // Held over the start, so that a child which ends at once is known by then.
        let mut own = self.lock();
        let child = command.spawn()?;
        let pid = Pid::from_child(&child);
        own.insert(pid.as_raw_nonzero().get(), None);
        Ok((child, pid))
    }

    /// Waits for an own child.
    pub async fn wait(&self, pid: Pid) -> Ended {
        let mut version = self.version.subscribe();
        loop {
            if let Some(Some(ended)) = self.lock().get(&pid.as_raw_nonzero().get()) {
                return *ended;
            }
            if version.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Takes every child that has ended; whether any is left.
    pub fn reap(&self) -> bool {
        let mut own = self.lock();
        let left = loop {
            match rustix::process::wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) => {
                    if let Some(slot) = own.get_mut(&pid.as_raw_nonzero().get()) {
                        *slot = Some(Ended { exit_code: status.exit_status(), signal: status.terminating_signal() });
                    }
                }
                Ok(None) => break true,
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => break false,
            }
        };
        drop(own);
        self.version.send_modify(|version| *version = version.wrapping_add(1));
        left
    }

    /// Kills every other process of the cell and waits until none is left; whether that was reached within about `seconds`.
    ///
    /// Only PID 1 may do this: for any other process it would mean the whole machine.
    pub async fn kill_all(&self, seconds: u32) -> io::Result<bool> {
        if rustix::process::getpid() != Pid::INIT {
            return Err(io::Error::from(io::ErrorKind::PermissionDenied));
        }
        if crate::weaken::off("init.kill_all") {
            return Ok(true);
        }
        for round in 0..seconds.saturating_mul(200) {
            // The group of PID 1 in negative is `-1`: everybody but the caller. A stopped process dies as well.
            let nobody = matches!(rustix::process::kill_process_group(Pid::INIT, Signal::KILL), Err(rustix::io::Errno::SRCH));
            if !self.reap() && nobody {
                return Ok(true);
            }
            // Dying takes the kernel a moment; a fork that was under way is met by the next round.
            tokio::time::sleep(std::time::Duration::from_millis(if round < 20 { 1 } else { 5 })).await;
        }
        Ok(false)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<i32, Option<Ended>>> {
        self.own.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
