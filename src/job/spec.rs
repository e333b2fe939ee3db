//! The kinds of container we make.

use std::collections::BTreeMap;

use super::JobId;
use super::isolation::Walls;
use super::labels::JobLabels;
use crate::config::Settings;
use crate::engine::{ContainerSpec, ObjectName, TmpfsMount, VolumeMount};
use crate::error::Result;
use crate::protocol::{PROTOCOL_VERSION, paths};
use crate::weaken;

/// The gateway's uid; its group is root's, so that PID 1 of a job may connect to its socket and the agent may not.
pub(super) const GATEWAY_USER: &str = "20000:0";
/// Marks the gateway's container and volumes; the value is the container's name.
pub(super) const GATEWAY: &str = "anchorhold.gateway";
/// The engine network that the gateway was made for.
pub(super) const GATEWAY_NETWORK: &str = "anchorhold.network";
/// Whether the engine limits the size of volumes, as was tried when the gateway was made.
pub(super) const GATEWAY_QUOTA: &str = "anchorhold.volume_quota";
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
/// Names in `/tmp`; each takes about a kilobyte of the cell's memory.
const TMP_INODES: u64 = 100_000;
/// Open files of a process. Descriptors are the kernel's own memory; this is more than a build needs.
pub(super) const OPEN_FILES: i64 = 16_384;
/// A cell is killed before the host's own processes when the host's memory runs out. Where the engine may (`SYS_RESOURCE`), this is also the floor below
/// which the agent cannot bring its own score: the kernel keeps the last value that was set with that capability. The agent starts at 1000, so when the
/// cell's memory runs out its processes go first, the largest of them foremost. An agent that lowers itself to the floor is level with PID 1, which is
/// small; where there is no floor it can push PID 1 to the front. Then the cell dies, the engine says that it was for memory, and the second start seals.
const JOB_OOM_SCORE: i64 = 500;
/// What a volume may be larger than the delivered tree and the disk limit, where the engine has quotas: the watcher ends a job before its volume is full.
const QUOTA_SLACK: u64 = 512 << 20;
const GATEWAY_MEMORY: u64 = 512 << 20;

/// The name of a job's container.
pub(super) fn job_name(id: &JobId) -> Result<ObjectName> {
    ObjectName::parse(&format!("anchorhold-{id}"))
}

/// The name to which the one who consumes a job renames its container. One for all callers: the engine lets one container have it once, and that
/// decides who was first.
pub(super) fn consumed_name(id: &JobId) -> Result<ObjectName> {
    ObjectName::parse(&format!("anchorhold-{id}-consumed"))
}

/// Whether somebody has consumed the job and not yet removed its container.
pub(super) fn is_consumed(name: &str, id: &JobId) -> bool {
    name == format!("anchorhold-{id}-consumed")
}

/// The name of a tombstone until it takes the job's own.
pub(super) fn tombstone_name(id: &JobId) -> Result<ObjectName> {
    ObjectName::parse(&format!("anchorhold-{id}-tombstone"))
}

/// Whether this is a tombstone that has not got its job's name yet.
pub(super) fn is_lying(name: &str, id: &JobId) -> bool {
    name == format!("anchorhold-{id}-tombstone")
}

/// The name of the volume that keeps the word of a tombstone: somebody's prune takes containers that do not run, and leaves volumes.
pub(super) fn word_name(id: &JobId) -> Result<ObjectName> {
    ObjectName::parse(&format!("anchorhold-{id}-word"))
}

/// The names of the volumes that a job's container has.
pub(super) fn volume_names(id: &JobId) -> Result<[ObjectName; 2]> {
    Ok([ObjectName::parse(&format!("anchorhold-{id}-workspace"))?, ObjectName::parse(&format!("anchorhold-{id}-job"))?])
}

fn socket_volume(settings: &Settings) -> Result<ObjectName> {
    ObjectName::parse(&format!("{}-socket", settings.gateway.name))
}

/// A job's container; of its settings alone, so that its fingerprint is the same for each job with them.
pub(super) fn job(settings: &Settings, image: &str, labels: &JobLabels, walls: &Walls) -> Result<ContainerSpec> {
    let [workspace, own] = volume_names(&labels.id)?;
    let limits = &settings.limits;
    // A backstop behind the watcher. The job's own volume holds the delivery, HOME and what is sealed: old and new bytes of each change.
    let room = limits.disk.0.saturating_add(settings.workspace.max_bytes.0.saturating_mul(2)).saturating_add(QUOTA_SLACK);
    let volume = |volume, target: &str, room| VolumeMount {
        volume,
        target: target.to_owned(),
        read_only: false,
        copy_owner: false,
        labels: labels.write(),
        quota: walls.disk_quota.then_some(room),
    };
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
            volume(workspace, paths::WORKSPACE, room),
            volume(own, paths::JOB, room.saturating_mul(3)),
            VolumeMount {
                volume: socket_volume(settings)?,
                target: paths::SOCKET_DIR.to_owned(),
                read_only: true,
                copy_owner: false,
                labels: gateway_labels(settings),
                quota: None,
            },
        ],
        tmpfs: vec![TmpfsMount {
            target: "/tmp".to_owned(),
            options: format!("rw,exec,nosuid,nodev,size={tmp_bytes},nr_inodes={TMP_INODES},mode=1777"),
        }],
        cap_add: INIT_CAPABILITIES.map(str::to_owned).to_vec(),
        runtime: Some(walls.runtime.clone()).filter(|name| !name.is_empty()),
        memory: Some(limits.memory.0),
        cpus: Some(limits.cpus),
        pids: Some(limits.pids),
        ulimits: job_ulimits(room),
        // Memory in a System V segment outlives its process, and with it the seal would have to live; so it goes with its last process.
        sysctls: vec![("kernel.shm_rmid_forced".to_owned(), "1".to_owned())],
        oom_score: JOB_OOM_SCORE,
        restart_unless_stopped: false,
        log_max_bytes: LOG_BYTES,
        stop_timeout_seconds: STOP_SECONDS,
        own_seccomp: walls.seccomp,
    })
}

/// Limits of PID 1, and so the upper ones of all: each is below what an engine gives, because raising one needs a right that a nested engine lacks. `init`
/// gives the agent the same or lower ones once more; either alone would bound it.
fn job_ulimits(room: u64) -> Vec<(String, i64)> {
    let largest_file = i64::try_from(room.saturating_mul(3)).unwrap_or(i64::MAX);
    [("core", 0), ("fsize", largest_file), ("memlock", 64 << 10), ("msgqueue", 0), ("nice", 0), ("nofile", OPEN_FILES), ("rtprio", 0)]
        .map(|(name, value)| (name.to_owned(), value))
        .to_vec()
}

/// A container that is never started and only says, by its labels, how a job ended that never ran. An empty volume says the same.
pub(super) fn tombstone(image: &str, labels: &JobLabels) -> Result<ContainerSpec> {
    let word = VolumeMount {
        volume: word_name(&labels.id)?,
        target: paths::JOB.to_owned(),
        read_only: true,
        copy_owner: false,
        labels: labels.write(),
        quota: None,
    };
    Ok(ContainerSpec {
        name: tombstone_name(&labels.id)?,
        image: image.to_owned(),
        entrypoint: vec![paths::BINARY.to_owned(), "--version".to_owned()],
        env: Vec::new(),
        user: "65534:65534".to_owned(),
        labels: labels.write(),
        network: "none".to_owned(),
        volumes: if weaken::off("fault.word_kept") { Vec::new() } else { vec![word] },
        tmpfs: Vec::new(),
        cap_add: Vec::new(),
        runtime: None,
        memory: None,
        cpus: None,
        pids: None,
        ulimits: Vec::new(),
        sysctls: Vec::new(),
        oom_score: 0,
        restart_unless_stopped: false,
        log_max_bytes: LOG_BYTES,
        stop_timeout_seconds: 1,
        own_seccomp: false,
    })
}

/// The gateway's container.
pub(super) fn gateway(settings: &Settings, image_id: &str, volume_quota: bool) -> Result<ContainerSpec> {
    let mut labels = gateway_labels(settings);
    labels.insert(GATEWAY_NETWORK.to_owned(), settings.gateway.network.clone());
    labels.insert(GATEWAY_QUOTA.to_owned(), volume_quota.to_string());
    labels.insert(GATEWAY_PROTOCOL.to_owned(), PROTOCOL_VERSION.to_string());
    labels.insert("anchorhold.version".to_owned(), env!("CARGO_PKG_VERSION").to_owned());
    let volume = |volume, target: &str| VolumeMount {
        volume,
        target: target.to_owned(),
        read_only: false,
        // The gateway has no capability: the image's directories give its volumes their owner.
        copy_owner: true,
        labels: gateway_labels(settings),
        quota: None,
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
        sysctls: Vec::new(),
        oom_score: 0,
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

#[cfg(test)]
mod tests {
    use super::super::isolation::judge;
    use super::super::isolation::tests::engine_facts;
    use super::super::labels::tests::sample;
    use super::*;

    #[test]
    fn a_job_has_no_network_no_host_path_and_only_reads_the_socket() {
        let spec = job(&Settings::default(), "sha256:1", &sample(), &judge(&Settings::default(), &engine_facts(), false).unwrap()).unwrap();
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
        assert!(spec.volumes.iter().all(|volume| volume.quota.is_none()));
        let walls = judge(&Settings::default(), &engine_facts(), true).unwrap();
        let quotas: Vec<_> = job(&Settings::default(), "sha256:1", &sample(), &walls).unwrap().volumes.iter().map(|v| v.quota.is_some()).collect();
        assert_eq!(quotas, [true, true, false]);
        // The shared socket volume must not carry one job's labels.
        assert!(!spec.volumes[2].labels.contains_key(super::super::labels::JOB));
    }

    #[test]
    fn the_gateway_has_no_capability_and_no_job_label() {
        let spec = gateway(&Settings::default(), "sha256:1", false).unwrap();
        assert!(spec.cap_add.is_empty());
        assert!(!spec.labels.contains_key(super::super::labels::JOB));
        assert_eq!(spec.user, "20000:0");
    }
}
