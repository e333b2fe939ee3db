//! What is weak about an engine, measured against `docs/SECURITY.md`. `doctor` shows it; nothing here stops a job (what must is in `isolation`).

use std::path::Path;

use serde::Serialize;

use super::version::Version;
use crate::engine::EngineFacts;

/// How much it matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// A promise may not hold.
    High,
    /// A second line of defence is missing.
    Medium,
    /// Worth knowing.
    Low,
}

impl Severity {
    /// The stable word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::High => "high",
            Self::Medium => "medium",
            Self::Low => "low",
        }
    }
}

/// One thing that could be better.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Weakness {
    /// A stable word.
    pub id: &'static str,
    /// How much it matters.
    pub severity: Severity,
    /// What was found, and what may follow.
    pub detail: String,
    /// What to do.
    pub mend: String,
}

/// What this machine knows of an engine that runs on it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Local {
    /// The socket's permission bits and its group.
    pub socket: Option<(u32, u32)>,
    /// `/etc/group`.
    pub groups: String,
    /// `/proc/sys/kernel/core_pattern`.
    pub core_pattern: String,
}

impl Local {
    /// Looks, where the engine is reached by a socket of this machine. Blocking.
    pub(super) fn look(host: &str) -> Self {
        use std::os::unix::fs::MetadataExt as _;
        let Some(path) = host.strip_prefix("unix://") else { return Self::default() };
        let Ok(facts) = std::fs::metadata(Path::new(path)) else { return Self::default() };
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        Self { socket: Some((facts.mode() & 0o777, facts.gid())), groups: read("/etc/group"), core_pattern: read("/proc/sys/kernel/core_pattern") }
    }
}

/// runc before these, on its branch, lets a container that is being created write beyond it (CVE-2025-31133, CVE-2025-52565, CVE-2025-52881).
const RUNC_FIXED: [Version; 3] = [Version::new(1, 2, 8), Version::new(1, 3, 3), Version::new(1, 4, 0)];
/// runc before this gives a container a way to the host through its working directory (CVE-2024-21626).
const RUNC_WORKDIR: Version = Version::new(1, 1, 12);
/// The engine's own advisories of 2026 are answered from here on: archives that run a program (CVE-2026-41567), sockets of the kernel's crypto
/// interface (CVE-2026-31431).
const ENGINE_FLOOR: Version = Version::new(29, 5, 1);

/// Everything that is weak, the worst first; pure.
pub(super) fn find(facts: &EngineFacts, local: &Local) -> Vec<Weakness> {
    let mut found = Vec::new();
    let mut weak = |is: bool, id, severity, detail: String, mend: &str| {
        if is {
            found.push(Weakness { id, severity, detail, mend: mend.to_owned() });
        }
    };
    let option = |name: &str| facts.security_options.iter().any(|option| option.starts_with(&format!("name={name}")));
    let cgroups =
        "enable the controller in the kernel's command line of the engine's host; until then jobs are refused unless `[engine] accept` names it";
    weak(
        !option("seccomp"),
        "no-seccomp",
        Severity::High,
        "the engine has no seccomp: no system call is refused to a job".into(),
        "use an engine and a kernel with seccomp; until then jobs are refused unless `[engine] accept` names \"seccomp\"",
    );
    weak(!facts.memory_limit, "no-memory-limit", Severity::High, "the engine cannot limit memory".into(), cgroups);
    weak(!facts.pids_limit, "no-pids-limit", Severity::High, "the engine cannot limit processes".into(), cgroups);
    weak(
        facts.memory_limit && !facts.swap_limit,
        "no-swap-limit",
        Severity::Medium,
        "the engine cannot limit swap, so a job may use more than its memory".into(),
        "turn swap off, or enable swap accounting (`swapaccount=1`)",
    );
    weak(
        !option("userns") && !option("rootless"),
        "no-user-namespace",
        Severity::Medium,
        "root in a container is root of the host, but for its capabilities".into(),
        "set `userns-remap` for the engine, run it rootless, or use a runtime with a kernel of its own",
    );
    weak(
        facts.cgroup_version == "1",
        "cgroup-v1",
        Severity::Low,
        "the engine's host uses cgroups of the first version".into(),
        "boot the host with cgroups of the second version",
    );
    weak(
        !facts.live_restore,
        "no-live-restore",
        Severity::Low,
        "a restart of the engine interrupts every job".into(),
        "set `live-restore` for the engine",
    );
    let stronger = facts.runtimes.iter().any(|name| name.contains("runsc") || name.contains("kata"));
    weak(
        !stronger,
        "no-stronger-runtime",
        Severity::Low,
        format!("jobs share the host's kernel; runtimes: {}", facts.runtimes.join(", ")),
        "install gVisor and set `[engine] runtime = \"runsc\"` where that matters",
    );
    found.extend(versions(facts));
    found.extend(on_this_machine(local));
    found.sort_by_key(|weakness| weakness.severity);
    found
}

fn versions(facts: &EngineFacts) -> Vec<Weakness> {
    let mut found = Vec::new();
    let back_ports =
        |version: &Version| if version.packaged { "; a distribution's build may have the fixes back-ported: see its changelog" } else { "" };
    match Version::parse(&facts.version) {
        Some(version) if !version.at_least(ENGINE_FLOOR) => found.push(Weakness {
            id: "engine-version",
            severity: Severity::Medium,
            detail: format!(
                "the engine is {}, below {ENGINE_FLOOR}, which has the fixes of its advisories of 2026{}",
                facts.version,
                back_ports(&version)
            ),
            mend: "update the engine".into(),
        }),
        Some(_) => {}
        None => found.push(unknown("engine-version", "the engine", &facts.version)),
    }
    match Version::parse(&facts.runc_version) {
        Some(version) if !version.fixed_by(&RUNC_FIXED) => found.push(Weakness {
            id: "runc-version",
            severity: Severity::High,
            detail: format!(
                "runc is {}, without the fixes for {}CVE-2025-31133, CVE-2025-52565 and CVE-2025-52881{}",
                facts.runc_version,
                if version.at_least(RUNC_WORKDIR) { "" } else { "CVE-2024-21626, " },
                back_ports(&version)
            ),
            mend: "update runc to 1.2.8, 1.3.3, 1.4.0 or newer".into(),
        }),
        Some(_) => {}
        None => found.push(unknown("runc-version", "runc", &facts.runc_version)),
    }
    found
}

fn unknown(id: &'static str, what: &str, text: &str) -> Weakness {
    let said = if text.is_empty() { "nothing".to_owned() } else { format!("{text:?}") };
    let detail = format!("the version of {what} cannot be told from {said}");
    Weakness { id, severity: Severity::Low, detail, mend: "compare it by hand with the fixes in docs/SECURITY.md".into() }
}

fn on_this_machine(local: &Local) -> Vec<Weakness> {
    let mut found = Vec::new();
    if let Some((mode, gid)) = local.socket {
        if mode & 0o002 != 0 {
            found.push(Weakness {
                id: "socket-open",
                severity: Severity::High,
                detail: format!(
                    "the engine's socket has mode {mode:04o}: everybody on this machine is as good as root, and holds every job and the key"
                ),
                mend: "chmod 0660 the socket".into(),
            });
        }
        let members = members(&local.groups, gid);
        if mode & 0o020 != 0 && !members.is_empty() {
            found.push(Weakness {
                id: "socket-group",
                severity: Severity::Medium,
                detail: format!("as good as root on this machine by the engine's socket: {}", members.join(", ")),
                mend: "keep that group to people who may be root, or run the engine rootless".into(),
            });
        }
    }
    if local.core_pattern.trim_start().starts_with('|') {
        found.push(Weakness {
            id: "core-pattern",
            severity: Severity::Medium,
            detail: "core dumps go through a pipe: whatever crashes in a cell starts a program on the host, as root, on bytes of the job's; no limit of a cell stops that".into(),
            mend: "set kernel.core_pattern to a file name, such as `core`".into(),
        });
    }
    found
}

/// Who is listed in a group; those whose first group it is are not.
fn members(groups: &str, gid: u32) -> Vec<String> {
    let line =
        groups.lines().map(|line| line.split(':').collect::<Vec<_>>()).find(|fields| fields.get(2).and_then(|id| id.parse().ok()) == Some(gid));
    let listed = line.and_then(|fields| fields.get(3).copied()).unwrap_or_default();
    listed.split(',').map(str::trim).filter(|name| !name.is_empty() && *name != "root").map(|name| crate::display::line(name.as_bytes())).collect()
}

#[cfg(test)]
mod tests {
    use super::super::isolation::tests::engine_facts;
    use super::*;

    fn ids(facts: &EngineFacts, local: &Local) -> Vec<&'static str> {
        find(facts, local).iter().map(|weakness| weakness.id).collect()
    }

    fn best() -> EngineFacts {
        EngineFacts {
            version: "29.5.1".into(),
            runc_version: "1.3.3".into(),
            cgroup_version: "2".into(),
            security_options: vec!["name=seccomp,profile=builtin".into(), "name=userns".into()],
            runtimes: vec!["runc".into(), "runsc".into()],
            live_restore: true,
            ..engine_facts()
        }
    }

    #[test]
    fn nothing_is_wrong_with_a_good_engine_and_each_fault_has_its_name() {
        let none = Local { socket: Some((0o660, 999)), groups: "docker:x:999:\nroot:x:0:a\n".into(), core_pattern: "core\n".into() };
        assert_eq!(ids(&best(), &none), Vec::<&str>::new());
        for (id, facts) in [
            ("no-seccomp", EngineFacts { security_options: vec!["name=userns".into()], ..best() }),
            ("no-memory-limit", EngineFacts { memory_limit: false, ..best() }),
            ("no-pids-limit", EngineFacts { pids_limit: false, ..best() }),
            ("no-swap-limit", EngineFacts { swap_limit: false, ..best() }),
            ("no-user-namespace", EngineFacts { security_options: vec!["name=seccomp".into()], ..best() }),
            ("cgroup-v1", EngineFacts { cgroup_version: "1".into(), ..best() }),
            ("no-live-restore", EngineFacts { live_restore: false, ..best() }),
            ("no-stronger-runtime", EngineFacts { runtimes: vec!["runc".into()], ..best() }),
            ("engine-version", EngineFacts { version: "20.10.24+dfsg1".into(), ..best() }),
            ("engine-version", EngineFacts { version: "unknown".into(), ..best() }),
            ("runc-version", EngineFacts { runc_version: "1.3.2".into(), ..best() }),
            ("runc-version", EngineFacts { runc_version: "v1.1.5-0-gf19387a6".into(), ..best() }),
            ("runc-version", EngineFacts { runc_version: String::new(), ..best() }),
        ] {
            assert_eq!(ids(&facts, &none), [id]);
        }
        for (id, local) in [
            ("socket-open", Local { socket: Some((0o666, 5)), ..none.clone() }),
            ("socket-group", Local { groups: "docker:x:999:ann,root,bob".into(), ..none.clone() }),
            ("core-pattern", Local { core_pattern: "|/usr/share/apport/apport %p\n".into(), ..none.clone() }),
        ] {
            assert_eq!(ids(&best(), &local), [id]);
        }
        let listed = find(&best(), &Local { groups: "docker:x:999:ann,root,bob".into(), ..none });
        assert!(listed[0].detail.ends_with(": ann, bob"), "{listed:?}");
    }

    #[test]
    fn a_distributions_build_may_be_better_than_its_number() {
        let found = versions(&EngineFacts { version: "20.10.24+dfsg1".into(), runc_version: "1.1.5+ds1".into(), ..best() });
        assert!(found.iter().all(|weakness| weakness.detail.contains("back-ported")), "{found:?}");
        assert!(found[1].detail.contains("CVE-2024-21626") && found[1].severity == Severity::High);
        let found = versions(&EngineFacts { runc_version: "1.1.14".into(), ..best() });
        assert!(!found[0].detail.contains("CVE-2024-21626") && !found[0].detail.contains("back-ported"), "{found:?}");
    }

    #[test]
    fn the_worst_comes_first() {
        let found = find(&EngineFacts { memory_limit: false, live_restore: false, ..best() }, &Local::default());
        assert_eq!(found.iter().map(|weakness| weakness.severity).collect::<Vec<_>>(), [Severity::High, Severity::Low]);
    }
}
