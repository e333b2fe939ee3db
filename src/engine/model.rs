//! Ids, names, specifications and facts, checked before any of them is put into a request.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::error::{Code, Error, Result};

/// A container's id as the engine gave it: 12 to 64 hex digits.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ContainerId(String);

/// A container's, volume's or network's name: `[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ObjectName(String);

impl ContainerId {
    /// Checks an engine's answer.
    pub fn parse(text: &str) -> Result<Self> {
        if (12..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_hexdigit()) {
            Ok(Self(text.to_owned()))
        } else {
            Err(Error::new(Code::EngineError, "the engine answered with a malformed container id"))
        }
    }

    /// One that no container has.
    pub fn none() -> Self {
        Self("0".repeat(64))
    }

    /// The digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl ObjectName {
    /// Checks a name; path characters never reach a request.
    pub fn parse(text: &str) -> Result<Self> {
        let ok = !text.is_empty()
            && text.len() <= 128
            && text.as_bytes()[0].is_ascii_alphanumeric()
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'));
        if ok { Ok(Self(text.to_owned())) } else { Err(Error::new(Code::InvalidArguments, "not a name that an engine takes")) }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for ObjectName {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        Self::parse(&text)
    }
}

impl From<ObjectName> for String {
    fn from(name: ObjectName) -> Self {
        name.0
    }
}

/// Names one container, by either.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ContainerRef {
    /// By id.
    Id(ContainerId),
    /// By name.
    Name(ObjectName),
}

impl ContainerRef {
    /// The text for a request.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Id(id) => id.as_str(),
            Self::Name(name) => name.as_str(),
        }
    }
}

impl From<ContainerId> for ContainerRef {
    fn from(id: ContainerId) -> Self {
        Self::Id(id)
    }
}

impl From<ObjectName> for ContainerRef {
    fn from(name: ObjectName) -> Self {
        Self::Name(name)
    }
}

/// A named volume in a container; made with these labels by the create call where it does not exist.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VolumeMount {
    /// The volume.
    pub volume: ObjectName,
    /// Where.
    pub target: String,
    /// Read-only there.
    pub read_only: bool,
    /// A new volume takes owner, mode and content of the image's directory at `target`; else it starts empty, owned by root with mode 0755.
    /// For a container that has no capability and must write its volume.
    pub copy_owner: bool,
    /// Labels of a volume that the call makes.
    pub labels: BTreeMap<String, String>,
    /// Bytes that a volume may hold which the call makes; for engines that can ([`super::Engine::has_volume_quota`]).
    pub quota: Option<u64>,
}

/// A sized tmpfs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TmpfsMount {
    /// Where.
    pub target: String,
    /// Options in mount(8) form, such as `rw,exec,nosuid,nodev,size=64m,mode=1777`.
    pub options: String,
}

/// Everything we ask of a container; what is not here is taken away or left at the engine's strictest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ContainerSpec {
    /// Its name.
    pub name: ObjectName,
    /// Image id (`sha256:…`) or name.
    pub image: String,
    /// Entry point and arguments, an argv array; no shell.
    pub entrypoint: Vec<String>,
    /// The whole environment.
    pub env: Vec<(String, String)>,
    /// `uid:gid`.
    pub user: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// `none`, `bridge`, `host` or a network's name.
    pub network: String,
    /// Named volumes.
    pub volumes: Vec<VolumeMount>,
    /// Tmpfs mounts.
    pub tmpfs: Vec<TmpfsMount>,
    /// Capabilities added after all were dropped.
    pub cap_add: Vec<String>,
    /// An OCI runtime by the engine's name.
    pub runtime: Option<String>,
    /// Bytes; swap is set to the same, so there is none.
    pub memory: Option<u64>,
    /// Processors.
    pub cpus: Option<f64>,
    /// Processes and threads.
    pub pids: Option<i64>,
    /// Soft and hard limits: (name, value).
    pub ulimits: Vec<(String, i64)>,
    /// Kernel settings of the container's own namespaces.
    pub sysctls: Vec<(String, String)>,
    /// A processor's or file system's first victim, or not: -1000 to 1000.
    pub oom_score: i64,
    /// Restarted by the engine unless stopped by hand.
    pub restart_unless_stopped: bool,
    /// The log's largest size in bytes, and how many files.
    pub log_max_bytes: u64,
    /// Seconds between the stop signal and the kill.
    pub stop_timeout_seconds: i64,
    /// System calls by our own allow-list ([`super::seccomp`]) instead of the engine's default profile; an engine without seccomp refuses it.
    pub own_seccomp: bool,
}

/// A container's state word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ContainerState {
    /// Never started.
    Created,
    /// Running.
    Running,
    /// Frozen by `docker pause`.
    Paused,
    /// Being restarted.
    Restarting,
    /// Being removed.
    Removing,
    /// Ended.
    Exited,
    /// Broken in the engine.
    Dead,
}

/// What an engine says about a container.
#[derive(Debug, Clone, PartialEq)]
pub struct ContainerFacts {
    /// Its id.
    pub id: ContainerId,
    /// Its name, without the leading slash.
    pub name: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Where it stands.
    pub state: ContainerState,
    /// Exit code, once it has exited; also between two of an engine's own restarts.
    pub exit_code: Option<i64>,
    /// Killed for memory, as far as the engine knows.
    pub oom_killed: bool,
    /// Unix milliseconds.
    pub created_unix_ms: u64,
    /// Unix milliseconds of the last start; `None` from a list, which does not carry it.
    pub started_unix_ms: Option<u64>,
    /// Unix milliseconds of the last end; `None` from a list.
    pub finished_unix_ms: Option<u64>,
    /// Image id.
    pub image_id: String,
}

/// What an engine says about itself.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct EngineFacts {
    /// Where it is asked.
    pub host: String,
    /// Engine version.
    pub version: String,
    /// Highest API version it speaks.
    pub api_version: String,
    /// Kernel.
    pub kernel: String,
    /// Operating system.
    pub operating_system: String,
    /// Architecture.
    pub architecture: String,
    /// Storage driver.
    pub storage_driver: String,
    /// `1` or `2`.
    pub cgroup_version: String,
    /// `name=seccomp`, `name=rootless`, ….
    pub security_options: Vec<String>,
    /// OCI runtimes by name.
    pub runtimes: Vec<String>,
    /// The default one.
    pub default_runtime: String,
    /// runc's version string.
    pub runc_version: String,
    /// Whether swap can be limited.
    pub swap_limit: bool,
    /// Whether memory can be limited.
    pub memory_limit: bool,
    /// Whether pids can be limited.
    pub pids_limit: bool,
    /// Live restore.
    pub live_restore: bool,
    /// The engine's own warnings.
    pub warnings: Vec<String>,
}

/// What an engine says about an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageFacts {
    /// `sha256:…`.
    pub id: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Declared volumes; a runtime image has none.
    pub volumes: Vec<String>,
    /// Bytes.
    pub size: u64,
}
