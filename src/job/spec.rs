//! The two kinds of container we make, and what of their cell the engine enforces.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::labels::JobLabels;
use super::{Isolation, JobId};
use crate::config::Settings;
use crate::engine::{ContainerSpec, EngineFacts, ObjectName, TmpfsMount, VolumeMount};
use crate::error::{Code, Error, Result};
use crate::protocol::{PROTOCOL_VERSION, paths};

/// The agent's uid and gid: one fixed id for now.
pub(super) const AGENT_UID: u32 = 20001;
/// The gateway's uid; its group is root's, so that PID 1 of a job may connect to its socket and the agent may not.
pub(super) const GATEWAY_USER: &str = "20000:0";
/// Marks the gateway's container and volumes; the value is the container's name.
pub(super) const GATEWAY: &str = "anchorhold.gateway";
/// The engine network that the gateway was made for.
pub(super) const GATEWAY_NETWORK: &str = "anchorhold.network";
/// [`PROTOCOL_VERSION`] of the gateway.
pub(super) const GATEWAY_PROTOCOL: &str = "anchorhold.protocol";

/// What PID 1 needs to prepare the workspace, drop to the agent, end it, and read what it left; nothing else is kept.
const INIT_CAPABILITIES: [&str; 6] = ["SETUID", "SETGID", "SETPCAP", "KILL", "CHOWN", "DAC_READ_SEARCH"];
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Progress records are few and short; more than this is a defect.
const LOG_BYTES: u64 = 4 << 20;
/// Seconds for `init` to kill, compare and seal after a stop from outside.
const STOP_SECONDS: i64 = 30;
/// `/tmp` lies in the cell's memory.
const TMP_BYTES: u64 = 1 << 30;
const GATEWAY_MEMORY: u64 = 512 << 20;

/// The name of a job's container.
pub(super) fn job_name(id: &JobId) -> Result<ObjectName> {
    ObjectName::parse(&format!("anchorhold-{id}"))
}

/// The name to which the one who consumes a job renames its container.
pub(super) fn consumed_name(id: &JobId) -> Result<ObjectName> {
    ObjectName::parse(&format!("anchorhold-{id}-consumed"))
}

/// The names of a job's volumes.
pub(super) fn volume_names(id: &JobId) -> Result<[ObjectName; 2]> {
    Ok([ObjectName::parse(&format!("anchorhold-{id}-workspace"))?, ObjectName::parse(&format!("anchorhold-{id}-job"))?])
}

fn socket_volume(settings: &Settings) -> Result<ObjectName> {
    ObjectName::parse(&format!("{}-socket", settings.gateway.name))
}

/// A job's container.
pub(super) fn job(settings: &Settings, image: &str, labels: &JobLabels) -> Result<ContainerSpec> {
    let [workspace, own] = volume_names(&labels.id)?;
    let volume =
        |volume, target: &str| VolumeMount { volume, target: target.to_owned(), read_only: false, copy_owner: false, labels: labels.write_volume() };
    let limits = &settings.limits;
    let tmp_bytes = (limits.memory.0 / 4).min(TMP_BYTES);
    Ok(ContainerSpec {
        name: job_name(&labels.id)?,
        image: image.to_owned(),
        entrypoint: vec![paths::BINARY.to_owned(), "init".to_owned()],
        env: vec![("PATH".to_owned(), PATH.to_owned())],
        user: "0:0".to_owned(),
        labels: labels.write(),
        network: "none".to_owned(),
        volumes: vec![
            volume(workspace, paths::WORKSPACE),
            volume(own, paths::JOB),
            VolumeMount {
                volume: socket_volume(settings)?,
                target: paths::SOCKET_DIR.to_owned(),
                read_only: true,
                copy_owner: false,
                labels: gateway_labels(settings),
            },
        ],
        tmpfs: vec![TmpfsMount { target: "/tmp".to_owned(), options: format!("rw,exec,nosuid,nodev,size={tmp_bytes},mode=1777") }],
        cap_add: INIT_CAPABILITIES.map(str::to_owned).to_vec(),
        runtime: runtime(settings),
        memory: Some(limits.memory.0),
        cpus: Some(limits.cpus),
        pids: Some(limits.pids),
        // Open files stay at the engine's own limit: raising it fails where the engine itself may not.
        ulimits: vec![("core".to_owned(), 0)],
        restart_unless_stopped: false,
        log_max_bytes: LOG_BYTES,
        stop_timeout_seconds: STOP_SECONDS,
        own_seccomp: labels.isolation["seccomp"] == true,
    })
}

/// A container that is never started and only says, by its labels, how a job ended that never ran.
pub(super) fn tombstone(image: &str, labels: &JobLabels) -> Result<ContainerSpec> {
    Ok(ContainerSpec {
        name: job_name(&labels.id)?,
        image: image.to_owned(),
        entrypoint: vec![paths::BINARY.to_owned(), "--version".to_owned()],
        env: Vec::new(),
        user: "65534:65534".to_owned(),
        labels: labels.write(),
        network: "none".to_owned(),
        volumes: Vec::new(),
        tmpfs: Vec::new(),
        cap_add: Vec::new(),
        runtime: None,
        memory: None,
        cpus: None,
        pids: None,
        ulimits: Vec::new(),
        restart_unless_stopped: false,
        log_max_bytes: LOG_BYTES,
        stop_timeout_seconds: 1,
        own_seccomp: false,
    })
}

/// The gateway's container.
pub(super) fn gateway(settings: &Settings, image_id: &str) -> Result<ContainerSpec> {
    let mut labels = gateway_labels(settings);
    labels.insert(GATEWAY_NETWORK.to_owned(), settings.gateway.network.clone());
    labels.insert(GATEWAY_PROTOCOL.to_owned(), PROTOCOL_VERSION.to_string());
    labels.insert("anchorhold.version".to_owned(), env!("CARGO_PKG_VERSION").to_owned());
    let volume = |volume, target: &str| VolumeMount {
        volume,
        target: target.to_owned(),
        read_only: false,
        // The gateway has no capability: the image's directories give its volumes their owner.
        copy_owner: true,
        labels: gateway_labels(settings),
    };
    Ok(ContainerSpec {
        name: ObjectName::parse(&settings.gateway.name)?,
        image: image_id.to_owned(),
        entrypoint: vec![paths::BINARY.to_owned(), "gateway".to_owned(), "run".to_owned()],
        env: vec![("PATH".to_owned(), PATH.to_owned())],
        user: GATEWAY_USER.to_owned(),
        labels,
        network: settings.gateway.network.clone(),
        volumes: vec![
            volume(socket_volume(settings)?, paths::SOCKET_DIR),
            volume(ObjectName::parse(&format!("{}-state", settings.gateway.name))?, paths::GATEWAY_STATE),
        ],
        tmpfs: vec![TmpfsMount { target: "/tmp".to_owned(), options: "rw,noexec,nosuid,nodev,size=16777216,mode=1777".to_owned() }],
        cap_add: Vec::new(),
        runtime: runtime(settings),
        memory: Some(GATEWAY_MEMORY),
        cpus: None,
        pids: Some(256),
        // Open files stay at the engine's own limit: raising it fails where the engine itself may not.
        ulimits: vec![("core".to_owned(), 0)],
        restart_unless_stopped: true,
        log_max_bytes: LOG_BYTES,
        stop_timeout_seconds: 10,
        own_seccomp: false,
    })
}

fn gateway_labels(settings: &Settings) -> BTreeMap<String, String> {
    [(GATEWAY.to_owned(), settings.gateway.name.clone())].into()
}

fn runtime(settings: &Settings) -> Option<String> {
    Some(settings.engine.runtime.clone()).filter(|name| !name.is_empty())
}

/// What the engine enforces of a job's cell and what it cannot; part of every status and result. A runtime that the engine does not
/// have is refused here, before anything is created.
pub(super) fn isolation(settings: &Settings, engine: &EngineFacts, requested: Isolation) -> Result<Value> {
    let runtime = if settings.engine.runtime.is_empty() { &engine.default_runtime } else { &settings.engine.runtime };
    if !settings.engine.runtime.is_empty() && !engine.runtimes.contains(&settings.engine.runtime) {
        return Err(Error::new(Code::InvalidConfig, format!("the engine has no runtime {:?}", settings.engine.runtime))
            .with_hint(format!("set `[engine] runtime` to one of: {}", engine.runtimes.join(", ")))
            .with_detail("field", "engine.runtime")
            .with_detail("allowed_values", engine.runtimes.clone()));
    }
    let option = |name: &str| engine.security_options.iter().any(|option| option.starts_with(&format!("name={name}")));
    // The profile is ours, so the engine's default one does not matter.
    let seccomp = option("seccomp");
    let mut not_enforced = Vec::new();
    if !engine.memory_limit {
        not_enforced.push("memory: this engine cannot limit it");
    }
    if !engine.swap_limit {
        not_enforced.push("swap: this engine cannot limit it");
    }
    if !engine.pids_limit {
        not_enforced.push("processes: this engine cannot limit them");
    }
    if !seccomp {
        not_enforced.push("system calls: this engine has no seccomp, so none is refused");
    }
    not_enforced.push("disk: no quota on the engine's volumes; the cell's own watcher ends the job over its limit");
    let limits = &settings.limits;
    Ok(json!({
        "requested": requested.as_str(),
        "runtime": runtime,
        "network": "none",
        "model_access": "unix socket to the gateway",
        "root_file_system": "read-only",
        "host_mounts": 0,
        "agent": { "uid": AGENT_UID, "capabilities": 0, "no_new_privileges": true },
        "seccomp": seccomp,
        "mandatory_access_control": if option("apparmor") { "apparmor" } else if option("selinux") { "selinux" } else { "none" },
        "user_namespace": option("userns") || option("rootless"),
        "memory_bytes": limits.memory.0,
        "cpus": limits.cpus,
        "processes": limits.pids,
        "disk_bytes": limits.disk.0,
        "not_enforced": not_enforced,
    }))
}

#[cfg(test)]
mod tests {
    use super::super::labels::tests::sample;
    use super::*;

    fn engine_facts() -> EngineFacts {
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

    #[test]
    fn a_job_has_no_network_no_host_path_and_only_reads_the_socket() {
        let spec = job(&Settings::default(), "sha256:1", &sample()).unwrap();
        assert_eq!(spec.network, "none");
        assert_eq!(spec.user, "0:0");
        assert!(!spec.restart_unless_stopped);
        let mounts: Vec<_> = spec.volumes.iter().map(|v| (v.volume.as_str(), v.target.as_str(), v.read_only)).collect();
        let id = sample().id;
        assert_eq!(
            mounts,
            [
                (format!("anchorhold-{id}-workspace").as_str(), "/workspace", false),
                (format!("anchorhold-{id}-job").as_str(), "/job", false),
                ("anchorhold-gateway-socket", "/run/anchorhold", true),
            ]
        );
        assert!(!spec.cap_add.iter().any(|cap| matches!(cap.as_str(), "SYS_ADMIN" | "DAC_OVERRIDE" | "NET_RAW" | "NET_ADMIN")));
        assert_eq!(spec.memory, Some(4 << 30));
        // The shared socket volume must not carry one job's labels.
        assert!(!spec.volumes[2].labels.contains_key(super::super::labels::JOB));
    }

    #[test]
    fn the_gateway_has_no_capability_and_no_job_label() {
        let spec = gateway(&Settings::default(), "sha256:1").unwrap();
        assert!(spec.cap_add.is_empty());
        assert!(!spec.labels.contains_key(super::super::labels::JOB));
        assert_eq!(spec.user, "20000:0");
    }

    #[test]
    fn what_the_engine_cannot_enforce_is_said() {
        let strict = isolation(&Settings::default(), &engine_facts(), Isolation::Inherit).unwrap();
        assert_eq!(strict["not_enforced"].as_array().unwrap().len(), 1);
        assert_eq!(strict["seccomp"], true);
        let weak = EngineFacts { swap_limit: false, memory_limit: false, pids_limit: false, security_options: Vec::new(), ..engine_facts() };
        let weak = isolation(&Settings::default(), &weak, Isolation::IgnoreConfig).unwrap();
        assert_eq!(weak["not_enforced"].as_array().unwrap().len(), 5);
        assert_eq!(weak["requested"], "ignore-config");
        let mut settings = Settings::default();
        settings.engine.runtime = "runsc".into();
        assert_eq!(isolation(&settings, &engine_facts(), Isolation::Inherit).unwrap_err().code, Code::InvalidConfig);
    }
}
