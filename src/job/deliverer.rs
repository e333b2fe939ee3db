//! Who delivers a job, and whether that process still lives.
//!
//! A job that has not started yet can be started by one process alone. When that one is gone the job will never run, and whoever looks at it should
//! hear so at once. Every process of the same boot and the same namespaces can tell exactly, from the process id and the time at which the process
//! started; anybody else learns nothing here, and for them the time that a delivery may take decides.

use std::path::Path;

use rustix::io::Errno;
use rustix::process::{Pid, getpid, test_kill_process};

/// Whether the process that delivers a job lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Life {
    /// It lives, so the job may still start.
    Alive,
    /// It is gone: the job can never start.
    Gone,
    /// It is, or was, elsewhere: on another host, or in another container.
    Unknown,
}

/// A process, told apart from every other one of its machine, also from later ones with the same process id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deliverer {
    /// Boot, process id namespace and time namespace; process ids and start times count only there.
    place: String,
    pid: Pid,
    /// Clock ticks from the boot to its start.
    started: u64,
}

impl Deliverer {
    /// This process; `None` where the system does not say.
    pub(super) fn this() -> Option<Self> {
        let (_, started) = stat(getpid())?;
        Some(Self { place: here()?, pid: getpid(), started })
    }

    /// As a label's value.
    pub(super) fn write(&self) -> String {
        format!("{} {} {}", self.place, self.pid.as_raw_nonzero(), self.started)
    }

    /// Reads a label's value.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut words = text.split(' ');
        let (place, pid, started) = (words.next()?, words.next()?, words.next()?);
        let pid = pid.parse().ok().filter(|pid| *pid > 0).and_then(Pid::from_raw)?;
        (words.next().is_none() && !place.is_empty()).then_some(Self { place: place.to_owned(), pid, started: started.parse().ok()? })
    }

    /// Whether it lives, as far as this process can tell. What cannot be told for certain is [`Life::Unknown`].
    pub(super) fn life(&self) -> Life {
        if here().is_none_or(|here| here != self.place) || crate::weaken::off("fault.deliverer") {
            return Life::Unknown;
        }
        // A process of another user may be hidden in /proc, but the kernel never says "no such process" of one that is there.
        match test_kill_process(self.pid) {
            Err(Errno::SRCH) => Life::Gone,
            Ok(()) | Err(_) => match stat(self.pid) {
                // Its id was given to another one.
                Some((_, started)) if started != self.started => Life::Gone,
                // Dead, and its parent has not asked yet how it ended.
                Some(('Z' | 'X', _)) => Life::Gone,
                Some(_) => Life::Alive,
                None => Life::Unknown,
            },
        }
    }
}

/// Where process ids and start times are those of this process.
fn here() -> Option<String> {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let namespace = |name: &str| std::fs::read_link(Path::new("/proc/self/ns").join(name)).ok()?.into_os_string().into_string().ok();
    let pid = namespace("pid")?;
    // Kernels before 5.6 have no time namespaces.
    let time = namespace("time").unwrap_or_else(|| "time".to_owned());
    let place = format!("{}/{pid}/{time}", boot.trim());
    (!place.contains(' ')).then_some(place)
}

/// A process's state and start time.
fn stat(pid: Pid) -> Option<(char, u64)> {
    parse_stat(&std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()?)
}

/// The third and the 22nd field. The second one is a name in parentheses that may hold anything.
fn parse_stat(text: &str) -> Option<(char, u64)> {
    let mut fields = text.get(text.rfind(')')? + 1..)?.split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    Some((state, fields.nth(18)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_lives_and_its_label_names_it() {
        let this = Deliverer::this().unwrap();
        assert_eq!(this.life(), Life::Alive);
        assert_eq!(Deliverer::parse(&this.write()), Some(this.clone()));
        for broken in ["", "place 1", "place 1 2 3", "place 0 1", "place -1 1", "place x 1", " 1 1", "place 1 x"] {
            assert_eq!(Deliverer::parse(broken), None, "{broken}");
        }
    }

    #[test]
    fn a_process_that_ended_or_whose_id_was_given_away_is_gone() {
        let mut child = crate::process::command("sleep", Path::new("/")).arg("600").spawn().unwrap();
        let pid = Pid::from_child(&child);
        let (_, started) = stat(pid).unwrap();
        let deliverer = Deliverer { place: here().unwrap(), pid, started };
        assert_eq!(deliverer.life(), Life::Alive);
        assert_eq!(Deliverer { started: started + 1, ..deliverer.clone() }.life(), Life::Gone, "another process with its id");
        child.kill().unwrap();
        // Dead and not waited for: still there under its id.
        while stat(pid).unwrap().0 != 'Z' {
            std::thread::yield_now();
        }
        assert_eq!(deliverer.life(), Life::Gone);
        child.wait().unwrap();
        assert_eq!(deliverer.life(), Life::Gone);
    }

    #[test]
    fn of_another_place_nothing_is_known() {
        let this = Deliverer::this().unwrap();
        assert_eq!(Deliverer { place: "other/pid:[1]/time".into(), ..this }.life(), Life::Unknown);
    }

    #[test]
    fn a_name_with_anything_in_it_moves_no_field() {
        let fields = "S 1 1 1 0 -1 4194304 1 0 0 0 0 0 0 0 20 0 1 0 4242 1 1";
        assert_eq!(parse_stat(&format!("7 (a) b (c) {fields}")), Some(('S', 4242)));
        assert_eq!(parse_stat("7 (a) S 1"), None);
        assert_eq!(parse_stat(""), None);
    }
}
