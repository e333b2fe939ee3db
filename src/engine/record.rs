//! What a container really is, as far as its containment goes: read back from the engine, not from what we asked for.

use std::collections::BTreeMap;

use bollard::models::{ContainerInspectResponse, HostConfig};
use bollard::query_parameters as query;
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::{ContainerRef, Engine, failure};
use crate::error::Result;
use crate::protocol::manifest::hex;

/// A container's containment. Every field is the engine's own word.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CellRecord {
    /// Container id.
    pub container_id: String,
    /// Image id, `sha256:…`.
    pub image_id: String,
    /// OCI runtime by the engine's name for it.
    pub runtime: String,
    /// RFC 3339.
    pub created: String,
    /// RFC 3339 of the last start; empty: never.
    pub started: String,
    /// RFC 3339 of the last end; empty: none.
    pub finished: String,
    /// Argv of PID 1.
    pub entrypoint: Vec<String>,
    /// `uid:gid` of PID 1.
    pub user: String,
    /// Names of the variables that PID 1 was given; values are not told.
    pub environment: Vec<String>,
    /// Network mode.
    pub network: String,
    /// Networks that it is joined to.
    pub networks: Vec<String>,
    /// Whether the root file system is read-only.
    pub read_only_root: bool,
    /// All capabilities, all devices, no masks.
    pub privileged: bool,
    /// Capabilities taken away.
    pub capabilities_dropped: Vec<String>,
    /// Capabilities given.
    pub capabilities_added: Vec<String>,
    /// Whether processes can gain privileges by executing a file.
    pub no_new_privileges: bool,
    /// `sha256:…` of the seccomp profile, `engine default`, or `unconfined`.
    pub seccomp: String,
    /// Profile of mandatory access control; empty: none.
    pub apparmor: String,
    /// Paths that read as empty.
    pub masked_paths: Vec<String>,
    /// Paths that cannot be written.
    pub read_only_paths: Vec<String>,
    /// Everything that is mounted.
    pub mounts: Vec<MountRecord>,
    /// Tmpfs mounts with their options.
    pub tmpfs: BTreeMap<String, String>,
    /// Devices and device requests beyond the default set.
    pub devices: usize,
    /// Bytes of memory; 0: no limit.
    pub memory_bytes: i64,
    /// Bytes of memory and swap together; 0 or -1: no limit.
    pub memory_and_swap_bytes: i64,
    /// Billionths of a processor; 0: no limit.
    pub nano_cpus: i64,
    /// Processes and threads; 0 or -1: no limit.
    pub pids: i64,
    /// Bytes of `/dev/shm`.
    pub shm_bytes: i64,
    /// Limits of each process: soft and hard.
    pub ulimits: BTreeMap<String, (i64, i64)>,
    /// Added to the score by which the kernel chooses whom to kill.
    pub oom_score_adj: i64,
    /// Namespaces `ipc`, `cgroup`, `pid`, `uts`, `user`: `private`, or with whom they are shared.
    pub namespaces: BTreeMap<&'static str, String>,
    /// Log driver and its options.
    pub log: BTreeMap<String, String>,
    /// Restart policy.
    pub restart: String,
}

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MountRecord {
    /// `volume`, `bind`, `tmpfs`.
    pub kind: String,
    /// A volume's name, or a path of the host.
    pub source: String,
    /// Where.
    pub target: String,
    /// Whether it can be written there.
    pub writable: bool,
}

impl Engine {
    /// What a container really is; `None`: no such container.
    pub async fn record(&self, c: &ContainerRef) -> Result<Option<CellRecord>> {
        const WHAT: &str = "inspect the container";
        match self.short(WHAT, self.docker.inspect_container(c.as_str(), None::<query::InspectContainerOptions>)).await? {
            Ok(answer) => Ok(Some(read(answer))),
            Err(e) if failure::not_found(&e) => Ok(None),
            Err(e) => Err(self.failed(WHAT, e)),
        }
    }
}

fn read(answer: ContainerInspectResponse) -> CellRecord {
    let host = answer.host_config.unwrap_or_default();
    let config = answer.config.unwrap_or_default();
    let state = answer.state.unwrap_or_default();
    let time = |text: Option<String>| text.filter(|text| !text.starts_with("0001-")).unwrap_or_default();
    let options = host.security_opt.clone().unwrap_or_default();
    let names = |entries: Option<Vec<String>>| {
        entries.unwrap_or_default().iter().map(|entry| entry.split('=').next().unwrap_or_default().to_owned()).collect()
    };
    let mounts = answer.mounts.unwrap_or_default().into_iter().map(|mount| MountRecord {
        kind: mount.typ.map(|kind| kind.to_string()).unwrap_or_default(),
        source: mount.name.filter(|name| !name.is_empty()).or(mount.source).unwrap_or_default(),
        target: mount.destination.unwrap_or_default(),
        writable: mount.rw.unwrap_or(true),
    });
    let mut mounts: Vec<MountRecord> = mounts.collect();
    mounts.sort_by(|a, b| a.target.cmp(&b.target));
    let networks = answer.network_settings.and_then(|settings| settings.networks).unwrap_or_default();
    let mut networks: Vec<String> = networks.into_keys().collect();
    networks.sort();
    CellRecord {
        container_id: answer.id.unwrap_or_default(),
        image_id: answer.image.unwrap_or_default(),
        runtime: host.runtime.clone().unwrap_or_default(),
        created: time(answer.created),
        started: time(state.started_at),
        finished: time(state.finished_at),
        entrypoint: config.entrypoint.unwrap_or_default(),
        user: config.user.unwrap_or_default(),
        environment: names(config.env),
        network: host.network_mode.clone().unwrap_or_default(),
        networks,
        read_only_root: host.readonly_rootfs.unwrap_or(false),
        privileged: host.privileged.unwrap_or(false),
        capabilities_dropped: host.cap_drop.clone().unwrap_or_default(),
        capabilities_added: host.cap_add.clone().unwrap_or_default(),
        no_new_privileges: options.iter().any(|option| matches!(option.as_str(), "no-new-privileges" | "no-new-privileges:true")),
        seccomp: seccomp(&options, host.privileged.unwrap_or(false)),
        apparmor: answer.app_armor_profile.unwrap_or_default(),
        masked_paths: host.masked_paths.clone().unwrap_or_default(),
        read_only_paths: host.readonly_paths.clone().unwrap_or_default(),
        mounts,
        tmpfs: host.tmpfs.clone().unwrap_or_default().into_iter().collect(),
        devices: host.devices.as_ref().map_or(0, Vec::len) + host.device_requests.as_ref().map_or(0, Vec::len),
        memory_bytes: host.memory.unwrap_or(0),
        memory_and_swap_bytes: host.memory_swap.unwrap_or(0),
        nano_cpus: host.nano_cpus.unwrap_or(0),
        pids: host.pids_limit.unwrap_or(0),
        shm_bytes: host.shm_size.unwrap_or(0),
        ulimits: ulimits(&host),
        oom_score_adj: host.oom_score_adj.unwrap_or(0),
        namespaces: namespaces(&host),
        log: log(&host),
        restart: host.restart_policy.and_then(|policy| policy.name).map(|name| name.to_string()).unwrap_or_default(),
    }
}

fn seccomp(options: &[String], privileged: bool) -> String {
    match options.iter().find_map(|option| option.strip_prefix("seccomp=").or_else(|| option.strip_prefix("seccomp:"))) {
        _ if privileged => "unconfined".to_owned(),
        None => "engine default".to_owned(),
        Some("unconfined") => "unconfined".to_owned(),
        Some(profile) => format!("sha256:{}", hex(&Sha256::digest(profile))),
    }
}

fn ulimits(host: &HostConfig) -> BTreeMap<String, (i64, i64)> {
    let all = host.ulimits.iter().flatten();
    all.map(|limit| (limit.name.clone().unwrap_or_default(), (limit.soft.unwrap_or(-1), limit.hard.unwrap_or(-1)))).collect()
}

fn namespaces(host: &HostConfig) -> BTreeMap<&'static str, String> {
    [
        ("ipc", host.ipc_mode.clone()),
        ("cgroup", host.cgroupns_mode.map(|mode| mode.to_string())),
        ("pid", host.pid_mode.clone()),
        ("uts", host.uts_mode.clone()),
        ("user", host.userns_mode.clone()),
    ]
    .into_iter()
    // Without a mode a container has a namespace of its own, except for users, where the engine decides for all.
    .map(|(name, mode)| (name, mode.filter(|mode| !mode.is_empty()).unwrap_or_else(|| if name == "user" { "engine" } else { "private" }.to_owned())))
    .collect()
}

fn log(host: &HostConfig) -> BTreeMap<String, String> {
    let Some(log) = &host.log_config else { return BTreeMap::new() };
    let mut all: BTreeMap<String, String> = log.config.clone().unwrap_or_default().into_iter().collect();
    all.insert("driver".to_owned(), log.typ.clone().unwrap_or_default());
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_record_is_what_the_engine_says() {
        let answer = serde_json::json!({
            "Id": "ab", "Image": "sha256:1", "Created": "2026-01-01T00:00:00Z", "AppArmorProfile": "docker-default",
            "State": {"StartedAt": "2026-01-01T00:00:01Z", "FinishedAt": "0001-01-01T00:00:00Z"},
            "Config": {"User": "0:0", "Env": ["PATH=/bin", "TOKEN=secret"], "Entrypoint": ["/init"]},
            "HostConfig": {
                "NetworkMode": "none", "Runtime": "runc", "ReadonlyRootfs": true, "CapDrop": ["ALL"], "CapAdd": ["KILL"],
                "SecurityOpt": ["no-new-privileges:true", "seccomp={}"], "Memory": 5, "MemorySwap": 5, "PidsLimit": 7,
                "Ulimits": [{"Name": "core", "Soft": 0, "Hard": 0}], "IpcMode": "private",
                "LogConfig": {"Type": "json-file", "Config": {"max-size": "9"}}, "RestartPolicy": {"Name": "no"},
            },
            "Mounts": [{"Type": "volume", "Name": "v", "Source": "/var/lib/x", "Destination": "/workspace", "RW": true}],
            "NetworkSettings": {"Networks": {"none": {}}},
        });
        let record = read(serde_json::from_value(answer).unwrap());
        assert_eq!((record.started.as_str(), record.finished.as_str()), ("2026-01-01T00:00:01Z", ""));
        assert_eq!(record.environment, ["PATH", "TOKEN"]);
        assert!(record.no_new_privileges && record.read_only_root && !record.privileged);
        assert_eq!(record.seccomp, format!("sha256:{}", hex(&Sha256::digest("{}"))));
        assert_eq!((record.memory_and_swap_bytes, record.pids, record.ulimits["core"]), (5, 7, (0, 0)));
        assert_eq!(record.mounts[0].source, "v");
        assert_eq!((record.log["driver"].as_str(), record.log["max-size"].as_str(), record.restart.as_str()), ("json-file", "9", "no"));
        assert!(!serde_json::to_string(&record).unwrap().contains("secret"));
    }

    #[test]
    fn what_the_engine_does_not_say_is_told_as_the_weakest() {
        let record = read(ContainerInspectResponse::default());
        assert!(!record.no_new_privileges && !record.read_only_root);
        assert_eq!((record.seccomp.as_str(), record.memory_bytes, record.pids), ("engine default", 0, 0));
        assert_eq!(seccomp(&["seccomp=unconfined".to_owned()], false), "unconfined");
        assert_eq!(seccomp(&["seccomp={}".to_owned()], true), "unconfined");
    }
}
