//! Processes of this machine: those of a container are seen from here too, with the host's ids.

use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process};

use crate::world::PATIENCE;

/// Sends a signal by its name; a process that is gone takes none.
pub fn signal(pid: u32, name: &str) {
    let signal = match name {
        "KILL" => Signal::KILL,
        "STOP" => Signal::STOP,
        "CONT" => Signal::CONT,
        other => panic!("{other}"),
    };
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).expect("a process id");
    let _ = kill_process(pid, signal);
}

/// Waits until a process is stopped.
pub fn wait_until_stopped(pid: u32) {
    let begun = Instant::now();
    while state(pid) != Some('T') {
        assert!(begun.elapsed() < PATIENCE, "it never stopped: {:?}", state(pid));
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

/// The state letter of a process.
pub fn state(pid: u32) -> Option<char> {
    stat_field::<char>(pid, 3)
}

/// A field of `/proc/PID/stat` behind the name, which may hold anything; counted from 1 as in proc(5).
pub fn stat_field<T: std::str::FromStr>(pid: u32, field: usize) -> Option<T> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    text[text.rfind(')')? + 1..].split_ascii_whitespace().nth(field.checked_sub(3)?)?.parse().ok()
}

/// The processes below one, with their command lines; the nearest first.
pub fn below(pid: u32) -> Vec<(u32, String)> {
    let mut found = Vec::new();
    let mut next = vec![pid];
    while let Some(parent) = next.pop() {
        let mut children = Vec::new();
        for task in std::fs::read_dir(format!("/proc/{parent}/task")).into_iter().flatten().flatten() {
            let text = std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
            children.extend(text.split_ascii_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
        }
        for child in children {
            let line = std::fs::read(format!("/proc/{child}/cmdline")).unwrap_or_default();
            found.push((child, String::from_utf8_lossy(&line).replace('\0', " ")));
            next.push(child);
        }
    }
    found
}
