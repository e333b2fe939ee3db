//! What the engine enforces of a job's cell: what it must, what may be missing, and the words for it in every status and result.

use serde_json::{Value, json};

use super::inherit::Report;
use super::{Isolation, spec};
use crate::config::Settings;
use crate::engine::{EngineFacts, Tolerance};
use crate::error::{Code, Error, Result};

/// First uid of those that are drawn; far above what a distribution gives to people and services.
const FIRST_UID: u32 = 2_000_000;
const UID_BITS: u32 = 30;
/// A user namespace of the engine's maps 65,536 ids; these are above the gateway's and below nobody's.
const MAPPED_UIDS: std::ops::Range<u32> = 30_000..60_000;

/// What is known of the engine before a job is made.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Walls {
    /// The runtime that is asked for by name; empty: the engine names none.
    pub runtime: String,
    /// System calls go by our own profile.
    pub seccomp: bool,
    /// The engine's containers have user namespaces.
    pub user_namespace: bool,
    /// The engine limits the size of volumes.
    pub disk_quota: bool,
    /// What the comparison with the engine's answer overlooks.
    pub tolerance: Tolerance,
    mandatory: &'static str,
    not_enforced: Vec<&'static str>,
}

/// Judges the engine: what is missing is refused, unless the settings accept it or nothing can be done about it; then it is said.
pub(super) fn judge(settings: &Settings, engine: &EngineFacts, disk_quota: bool) -> Result<Walls> {
    let runtime = if settings.engine.runtime.is_empty() { &engine.default_runtime } else { &settings.engine.runtime };
    if !settings.engine.runtime.is_empty() && !engine.runtimes.contains(runtime) {
        return Err(Error::new(Code::InvalidConfig, format!("the engine has no runtime {runtime:?}"))
            .with_hint(format!("set `[engine] runtime` to one of: {}", engine.runtimes.join(", ")))
            .with_detail("field", "engine.runtime")
            .with_detail("allowed_values", engine.runtimes.clone()));
    }
    let option = |name: &str| engine.security_options.iter().any(|option| option.starts_with(&format!("name={name}")));
    // The profile is ours, so the engine's default one does not matter.
    let seccomp = option("seccomp");
    let mut not_enforced = Vec::new();
    let required = [
        (seccomp, "seccomp", "system calls: this engine has no seccomp, so none is refused"),
        (engine.memory_limit, "memory", "memory: this engine cannot limit it"),
        (engine.pids_limit, "pids", "processes: this engine cannot limit them"),
    ];
    for (enforced, name, words) in required {
        if !enforced && !settings.engine.accepts(name) && !crate::weaken::off("isolation.required") {
            return Err(Error::new(Code::IsolationMismatch, format!("start a job on this engine: {words}"))
                .with_hint(format!("mend the engine's kernel or settings, or accept it: `[engine] accept = [\"{name}\"]`"))
                .with_detail("field", "engine.accept")
                .with_detail("missing", name));
        }
        if !enforced {
            not_enforced.push(words);
        }
    }
    let user_namespace = option("userns") || option("rootless");
    for (enforced, words) in [
        (engine.swap_limit, "swap: this engine cannot limit it"),
        (user_namespace, "user namespace: the engine has none for its containers, so uids in a cell are those of its host"),
        (disk_quota, "disk: no quota on the engine's volumes; the cell's own watcher ends the job over its limit"),
    ] {
        if !enforced {
            not_enforced.push(words);
        }
    }
    Ok(Walls {
        runtime: runtime.clone(),
        seccomp,
        user_namespace,
        disk_quota,
        tolerance: Tolerance {
            swap: !engine.swap_limit,
            memory: !engine.memory_limit,
            pids: !engine.pids_limit,
            warnings: settings.engine.accepts("warnings"),
        },
        mandatory: if option("apparmor") {
            "apparmor"
        } else if option("selinux") {
            "selinux"
        } else {
            "none"
        },
        not_enforced,
    })
}

impl Walls {
    /// A uid and gid for one job. The kernel counts some things by user (inotify instances, pending signals, pipe pages, message queues), and
    /// one uid for all jobs would let each use them up for the others.
    pub(super) fn draw_uid(&self) -> u32 {
        if crate::weaken::off("job.uid") {
            return 20_001;
        }
        // The low bits of a version 4 UUID are random.
        #[expect(clippy::cast_possible_truncation, reason = "only the low bits are wanted")]
        let random = uuid::Uuid::new_v4().as_u128() as u32;
        if self.user_namespace {
            MAPPED_UIDS.start + random % (MAPPED_UIDS.end - MAPPED_UIDS.start)
        } else {
            FIRST_UID + (random & ((1 << UID_BITS) - 1))
        }
    }

    /// The `isolation` block of a job.
    pub(super) fn describe(&self, settings: &Settings, requested: Isolation, inherited: &Report, uid: u32, image_id: &str) -> Value {
        let limits = &settings.limits;
        json!({
            "requested": requested.as_str(),
            "inherited": inherited,
            "runtime": self.runtime,
            "image": image_id,
            "network": "none",
            "model_access": "unix socket to the gateway",
            "root_file_system": "read-only",
            "host_mounts": 0,
            "agent": { "uid": uid, "capabilities": 0, "no_new_privileges": true },
            "seccomp": self.seccomp,
            "mandatory_access_control": self.mandatory,
            "user_namespace": self.user_namespace,
            "memory_bytes": limits.memory.0,
            "cpus": limits.cpus,
            "processes": limits.pids,
            "disk_bytes": limits.disk.0,
            "disk_quota": self.disk_quota,
            "inodes": limits.inodes,
            "open_files": spec::OPEN_FILES,
            "not_enforced": self.not_enforced,
        })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::job) fn engine_facts() -> EngineFacts {
        EngineFacts {
            host: "unix:///run/engine.sock".into(),
            version: "20.10".into(),
            api_version: "1.41".into(),
            kernel: "6".into(),
            operating_system: "Debian".into(),
            architecture: "x86_64".into(),
            storage_driver: "overlay2".into(),
            cgroup_version: "1".into(),
            security_options: vec!["name=seccomp,profile=default".into()],
            runtimes: vec!["runc".into()],
            default_runtime: "runc".into(),
            runc_version: "1".into(),
            swap_limit: true,
            memory_limit: true,
            pids_limit: true,
            live_restore: false,
            warnings: Vec::new(),
        }
    }

    fn walls(engine: &EngineFacts) -> Walls {
        judge(&Settings::default(), engine, true).unwrap()
    }

    #[test]
    fn what_may_be_missing_is_said() {
        let options = ["name=seccomp,profile=default", "name=userns"].map(str::to_owned).to_vec();
        let strict = walls(&EngineFacts { security_options: options, ..engine_facts() });
        assert_eq!(strict.not_enforced, Vec::<&str>::new());
        assert_eq!(strict.tolerance, Tolerance::default());
        let weak = judge(&Settings::default(), &EngineFacts { swap_limit: false, ..engine_facts() }, false).unwrap();
        let said = weak.describe(&Settings::default(), Isolation::IgnoreConfig, &Report::default(), 7, "sha256:1");
        assert_eq!(said["not_enforced"].as_array().unwrap().len(), 3, "{said}");
        assert_eq!((said["requested"].as_str(), &said["agent"]["uid"], said["image"].as_str()), (Some("ignore-config"), &json!(7), Some("sha256:1")));
        assert_eq!(weak.tolerance, Tolerance { swap: true, ..Tolerance::default() });
    }

    #[test]
    fn what_must_not_be_missing_is_refused_unless_it_is_accepted() {
        for (name, weak) in [
            ("seccomp", EngineFacts { security_options: Vec::new(), ..engine_facts() }),
            ("memory", EngineFacts { memory_limit: false, ..engine_facts() }),
            ("pids", EngineFacts { pids_limit: false, ..engine_facts() }),
        ] {
            let error = judge(&Settings::default(), &weak, true).unwrap_err();
            assert_eq!(error.code, Code::IsolationMismatch, "{name}");
            assert!(error.hint.unwrap().contains(name));
            let mut settings = Settings::default();
            settings.engine.accept = vec![name.to_owned()];
            let walls = judge(&settings, &weak, true).unwrap();
            assert_eq!(walls.not_enforced.len(), 2, "{name} and the user namespace");
            assert_eq!(walls.seccomp, name != "seccomp");
        }
    }

    #[test]
    fn a_runtime_that_is_not_there_is_refused() {
        assert_eq!(walls(&engine_facts()).runtime, "runc");
        let mut settings = Settings::default();
        settings.engine.runtime = "runsc".into();
        assert_eq!(judge(&settings, &engine_facts(), true).unwrap_err().code, Code::InvalidConfig);
    }

    #[test]
    fn uids_differ_and_fit_the_engine() {
        let (plain, mapped) =
            (walls(&engine_facts()), walls(&EngineFacts { security_options: vec!["name=seccomp".into(), "name=rootless".into()], ..engine_facts() }));
        let drawn: std::collections::BTreeSet<u32> = (0..200).map(|_| plain.draw_uid()).collect();
        assert!(drawn.len() > 190);
        assert!(drawn.iter().all(|uid| (FIRST_UID..FIRST_UID + (1 << UID_BITS)).contains(uid) && *uid <= i32::MAX.cast_unsigned()));
        assert!((0..200).all(|_| MAPPED_UIDS.contains(&mapped.draw_uid())));
    }
}
