//! From a [`ContainerSpec`] to the engine's create call: what the specification does not ask for is taken away here.

use std::collections::HashMap;

use bollard::models::{
    ContainerCreateBody, HealthConfig, HostConfig, HostConfigCgroupnsModeEnum, HostConfigLogConfig, Mount, MountType, MountVolumeOptions,
    MountVolumeOptionsDriverConfig, ResourcesUlimits, RestartPolicy, RestartPolicyNameEnum,
};

use super::ContainerSpec;
use crate::error::{Code, Error, Result};

/// `/dev/shm` of a cell; it counts against its memory.
const SHM_BYTES: i64 = 64 << 20;
/// Log files that the engine keeps; the newest is cut at a part of the limit, so that all together keep it.
const LOG_FILES: u64 = 2;

/// Docker's own masks (the union of 20.10's and today's, since a list of ours replaces them) and further facts about the host that no
/// build needs. `meminfo`, `cpuinfo`, `stat` and `uptime` stay: runtimes read them.
const MASKED: [&str; 43] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
    // From here on: ours.
    "/proc/buddyinfo",
    "/proc/bus",
    "/proc/cmdline",
    "/proc/config.gz",
    "/proc/crypto",
    "/proc/diskstats",
    "/proc/fs",
    "/proc/iomem",
    "/proc/ioports",
    "/proc/irq",
    "/proc/kallsyms",
    "/proc/key-users",
    "/proc/kpagecgroup",
    "/proc/kpagecount",
    "/proc/kpageflags",
    "/proc/loadavg",
    "/proc/modules",
    "/proc/pagetypeinfo",
    "/proc/partitions",
    "/proc/pressure",
    "/proc/slabinfo",
    "/proc/softirqs",
    "/proc/swaps",
    "/proc/vmallocinfo",
    "/proc/zoneinfo",
    "/sys/block",
    "/sys/bus",
    "/sys/class",
    "/sys/dev",
    "/sys/kernel",
    "/sys/module",
];

/// Docker's own read-only paths; a list replaces them, so all are named.
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// The body of the create call.
pub(super) fn create_body(spec: &ContainerSpec) -> Result<ContainerCreateBody> {
    check(spec)?;
    Ok(ContainerCreateBody {
        hostname: Some("anchorhold".to_owned()),
        user: Some(spec.user.clone()),
        attach_stdin: Some(false),
        attach_stdout: Some(false),
        attach_stderr: Some(false),
        tty: Some(false),
        open_stdin: Some(false),
        stdin_once: Some(false),
        env: Some(spec.env.iter().map(|(name, value)| format!("{name}={value}")).collect()),
        entrypoint: Some(spec.entrypoint.clone()),
        cmd: Some(Vec::new()),
        healthcheck: Some(HealthConfig { test: Some(vec!["NONE".to_owned()]), ..Default::default() }),
        image: Some(spec.image.clone()),
        working_dir: Some("/".to_owned()),
        labels: Some(spec.labels.clone().into_iter().collect()),
        stop_signal: Some("SIGTERM".to_owned()),
        stop_timeout: Some(spec.stop_timeout_seconds),
        host_config: Some(host_config(spec)),
        ..Default::default()
    })
}

fn host_config(spec: &ContainerSpec) -> HostConfig {
    let memory = spec.memory.map(|m| i64::try_from(m).unwrap_or(i64::MAX));
    let isolated = spec.network == "none";
    HostConfig {
        network_mode: Some(spec.network.clone()),
        // A cell has no resolver; without this the host's resolv.conf would be copied in.
        dns: isolated.then(|| vec!["127.0.0.1".to_owned()]),
        dns_search: isolated.then(|| vec![".".to_owned()]),
        privileged: Some(false),
        readonly_rootfs: Some(true),
        cap_drop: Some(vec!["ALL".to_owned()]),
        cap_add: Some(spec.cap_add.clone()),
        security_opt: Some(security_options(spec)),
        ipc_mode: Some("private".to_owned()),
        cgroupns_mode: Some(HostConfigCgroupnsModeEnum::PRIVATE),
        masked_paths: Some(MASKED.map(str::to_owned).to_vec()),
        readonly_paths: Some(READ_ONLY.map(str::to_owned).to_vec()),
        init: Some(false),
        auto_remove: Some(false),
        publish_all_ports: Some(false),
        restart_policy: Some(RestartPolicy {
            name: Some(if spec.restart_unless_stopped { RestartPolicyNameEnum::UNLESS_STOPPED } else { RestartPolicyNameEnum::NO }),
            maximum_retry_count: None,
        }),
        log_config: Some(HostConfigLogConfig {
            typ: Some("json-file".to_owned()),
            config: Some(HashMap::from([
                ("max-size".to_owned(), (spec.log_max_bytes / LOG_FILES).max(1024).to_string()),
                ("max-file".to_owned(), LOG_FILES.to_string()),
            ])),
        }),
        runtime: spec.runtime.clone(),
        memory,
        memory_swap: memory,
        nano_cpus: spec.cpus.map(nano_cpus),
        pids_limit: spec.pids,
        oom_kill_disable: None, // not settable on cgroup v2, and off by default
        oom_score_adj: Some(spec.oom_score),
        shm_size: Some(SHM_BYTES),
        ulimits: Some(ulimits(spec)),
        sysctls: (!spec.sysctls.is_empty()).then(|| spec.sysctls.iter().cloned().collect()),
        tmpfs: Some(spec.tmpfs.iter().map(|t| (t.target.clone(), t.options.clone())).collect()),
        mounts: Some(
            spec.volumes
                .iter()
                .map(|v| Mount {
                    typ: Some(MountType::VOLUME),
                    source: Some(v.volume.as_str().to_owned()),
                    target: Some(v.target.clone()),
                    read_only: Some(v.read_only),
                    volume_options: Some(MountVolumeOptions {
                        no_copy: Some(!v.copy_owner),
                        labels: Some(v.labels.clone().into_iter().collect()),
                        driver_config: v.quota.map(|bytes| MountVolumeOptionsDriverConfig {
                            name: Some("local".to_owned()),
                            options: Some(HashMap::from([("size".to_owned(), bytes.to_string())])),
                        }),
                        ..Default::default()
                    }),
                    ..Default::default()
                })
                .collect(),
        ),
        ..Default::default()
    }
}

#[expect(clippy::cast_possible_truncation, reason = "settings keep it between 0 and 1024")]
fn nano_cpus(cpus: f64) -> i64 {
    (cpus * 1e9) as i64
}

fn ulimits(spec: &ContainerSpec) -> Vec<ResourcesUlimits> {
    let limit = |name: &str, value: i64| ResourcesUlimits { name: Some(name.to_owned()), soft: Some(value), hard: Some(value) };
    let mut all: Vec<_> = spec.ulimits.iter().map(|(name, value)| limit(name, *value)).collect();
    if !spec.ulimits.iter().any(|(name, _)| name == "core") {
        all.push(limit("core", 0));
    }
    all
}

/// Refuses what the engine would read otherwise than we mean it.
fn check(spec: &ContainerSpec) -> Result<()> {
    let fail = |why: &str| Err(Error::internal(format!("create the container {}: {why}", spec.name.as_str())));
    check_image_name(&spec.image)?;
    if spec.entrypoint.first().is_none_or(|program| !program.starts_with('/')) {
        return fail("its entry point is no absolute path");
    }
    if spec.env.iter().any(|(name, value)| name.is_empty() || name.contains(['=', '\0']) || value.contains('\0')) {
        return fail("an environment variable is malformed");
    }
    let targets = spec.volumes.iter().map(|v| v.target.as_str()).chain(spec.tmpfs.iter().map(|t| t.target.as_str()));
    if targets.into_iter().any(|t| !t.starts_with('/') || t == "/" || t.split('/').any(|part| part == "..")) {
        return fail("a mount's target is no absolute path");
    }
    if spec.network.is_empty() || spec.network.starts_with("container:") {
        return fail("its network is malformed");
    }
    if spec.cpus.is_some_and(|c| !(c > 0.0 && c <= 1024.0)) {
        return fail("its number of processors is out of range");
    }
    Ok(())
}

/// Checks an image's name, tag, digest or id before it becomes part of a request's path.
pub(super) fn check_image_name(name: &str) -> Result<()> {
    let ok = name.len() <= 255
        && name.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-/:@".contains(&b))
        && !name.split('/').any(|part| part.is_empty() || part == "." || part == "..");
    if ok {
        Ok(())
    } else {
        Err(Error::new(Code::InvalidConfig, "invalid image name").with_detail("field", "image.name").with_hint("correct the setting image.name"))
    }
}

fn security_options(spec: &ContainerSpec) -> Vec<String> {
    let mut options = vec!["no-new-privileges:true".to_owned()];
    if spec.own_seccomp {
        options.push(format!("seccomp={}", super::seccomp::profile()));
    }
    options
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::engine::{ObjectName, TmpfsMount, VolumeMount};

    /// A specification that asks for something in every field.
    pub(in crate::engine) fn sample() -> ContainerSpec {
        let volume = |name: &str, target: &str, read_only| VolumeMount {
            volume: ObjectName::parse(name).unwrap(),
            target: target.to_owned(),
            read_only,
            copy_owner: false,
            labels: [("anchorhold.job".to_owned(), "j".to_owned())].into(),
            quota: None,
        };
        ContainerSpec {
            name: ObjectName::parse("anchorhold-sample").unwrap(),
            image: format!("sha256:{}", "a".repeat(64)),
            entrypoint: vec!["/usr/local/bin/anchorhold".to_owned(), "init".to_owned()],
            env: vec![("PATH".to_owned(), "/bin".to_owned()), ("A".to_owned(), "b".to_owned())],
            user: "0:0".to_owned(),
            labels: [("anchorhold.job".to_owned(), "j".to_owned())].into(),
            network: "none".to_owned(),
            volumes: vec![volume("w", "/workspace", false), volume("s", "/run/anchorhold", true)],
            tmpfs: vec![TmpfsMount { target: "/tmp".to_owned(), options: "rw,size=1m".to_owned() }],
            cap_add: vec!["SETUID".to_owned(), "KILL".to_owned()],
            runtime: Some("runc".to_owned()),
            memory: Some(1 << 30),
            cpus: Some(2.0),
            pids: Some(512),
            ulimits: vec![("nofile".to_owned(), 1024)],
            sysctls: vec![("kernel.shm_rmid_forced".to_owned(), "1".to_owned())],
            oom_score: 500,
            restart_unless_stopped: false,
            log_max_bytes: 1 << 20,
            stop_timeout_seconds: 30,
            own_seccomp: true,
        }
    }

    #[test]
    fn image_names_stay_one_path() {
        for good in ["debian:bookworm-slim", "anchorhold/runtime:0.1.0", "host:5000/a/b@sha256:00ff", &format!("sha256:{}", "a".repeat(64))] {
            assert!(check_image_name(good).is_ok(), "{good}");
        }
        for bad in ["", "../x", "a/../b", "a//b", "a?b", "a#b", "a%2fb", "/a", "a b", ".a", "a/./b", &"a".repeat(256)] {
            assert!(check_image_name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn no_path_is_masked_twice() {
        let mut all = MASKED.to_vec();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), MASKED.len());
    }
}
