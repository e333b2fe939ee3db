//! `[engine]`, `[image]` and `[gateway]`: which containers there are and where.

use serde::{Deserialize, Serialize};

use super::check::{fail, is_name};
use crate::error::Result;

/// `[engine]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EngineSettings {
    /// `unix://`, `tcp://`, `http(s)://` or `ssh://`; empty: `DOCKER_HOST`, then the docker CLI's current context, then the local socket.
    pub host: String,
    /// An OCI runtime by the engine's name for it; empty: the engine's default.
    pub runtime: String,
    /// Jobs that may run at once on this engine; further ones wait as `queued`.
    pub max_running_jobs: u32,
    /// Names whose jobs these are: two instances on one engine do not touch each other's jobs. `[a-z0-9-]{1,32}`.
    pub instance: String,
    /// What a job may do without on an engine that cannot enforce it; see [`ACCEPTABLE`].
    pub accept: Vec<String>,
    /// Seconds in which the engine must answer a call, or go on with a stream; removing may take ten times as long.
    pub answer_seconds: u64,
    /// Seconds that whoever follows or delivers a job waits for an engine that went away.
    pub away_seconds: u64,
}

/// What `[engine] accept` may name: without it such an engine is refused, with it the job's `isolation` says what is missing. `warnings`: what the
/// engine says about a new container and we do not know.
pub const ACCEPTABLE: [&str; 4] = ["seccomp", "memory", "pids", "warnings"];

impl EngineSettings {
    /// Whether a job may do without this.
    pub fn accepts(&self, what: &str) -> bool {
        self.accept.iter().any(|accepted| accepted == what)
    }
}

impl Default for EngineSettings {
    fn default() -> Self {
        Self {
            host: String::new(),
            runtime: String::new(),
            max_running_jobs: 4,
            instance: "default".to_owned(),
            accept: Vec::new(),
            answer_seconds: 60,
            away_seconds: 120,
        }
    }
}

/// `[image]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ImageSettings {
    /// Name and tag of the runtime image.
    pub name: String,
}

impl Default for ImageSettings {
    fn default() -> Self {
        Self { name: concat!("anchorhold/runtime:", env!("CARGO_PKG_VERSION")).to_owned() }
    }
}

/// `[gateway]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GatewaySettings {
    /// Name of its container, and stem of its volumes' names.
    pub name: String,
    /// Engine network it uses; `host` where the upstream is on loopback.
    pub network: String,
    /// Tokens of a day (UTC) over all jobs, at real providers; 0: no ceiling.
    pub tokens_per_day: u64,
    /// Model requests of all jobs under way at once.
    pub max_requests: u32,
    /// Connections of all jobs at once.
    pub max_connections: u32,
    /// Seconds for which a job waits for a gateway that is gone or hangs.
    pub gone_seconds: u64,
}

impl Default for GatewaySettings {
    fn default() -> Self {
        Self {
            name: "anchorhold-gateway".to_owned(),
            network: "bridge".to_owned(),
            tokens_per_day: 0,
            max_requests: 64,
            max_connections: 1024,
            gone_seconds: 60,
        }
    }
}

impl EngineSettings {
    pub(super) fn check(&self) -> Result<()> {
        if !is_name(&self.instance, "-") || self.instance.len() > 32 {
            return fail("engine.instance", "use 1 to 32 letters, digits and dashes");
        }
        if self.max_running_jobs == 0 {
            return fail("engine.max_running_jobs", "must be at least 1");
        }
        if !(1..=3600).contains(&self.answer_seconds) {
            return fail("engine.answer_seconds", "must be between 1 and 3600");
        }
        if self.away_seconds > 86_400 {
            return fail("engine.away_seconds", "must be at most 86400");
        }
        if !self.runtime.is_empty() && !is_name(&self.runtime, "._-") {
            return fail("engine.runtime", "is not a runtime's name");
        }
        if self.accept.iter().any(|name| !ACCEPTABLE.contains(&name.as_str())) {
            return fail("engine.accept", &format!("may name {}", ACCEPTABLE.join(", ")));
        }
        Ok(())
    }
}

impl ImageSettings {
    pub(super) fn check(&self) -> Result<()> {
        if is_name(&self.name, "._-/:@") { Ok(()) } else { fail("image.name", "is not an image's name") }
    }
}

impl GatewaySettings {
    pub(super) fn check(&self) -> Result<()> {
        if !is_name(&self.name, "._-") {
            return fail("gateway.name", "is not a container's name");
        }
        if !is_name(&self.network, "._-") {
            return fail("gateway.network", "is not a network's name");
        }
        if self.max_requests == 0 {
            return fail("gateway.max_requests", "must be at least 1");
        }
        if self.max_connections < 16 {
            return fail("gateway.max_connections", "must be at least 16: a job needs several");
        }
        Ok(())
    }
}
