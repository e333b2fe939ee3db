//! Settings: one file, environment variables over it, command-line flags over both.
//!
//! File: `$ANCHORHOLD_CONFIG`, else `$XDG_CONFIG_HOME/anchorhold/config.toml`, else `~/.config/anchorhold/config.toml`. Unknown keys are
//! refused. Each key is also `ANCHORHOLD_<TABLE>_<KEY>`.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{Code, Error, Result};

/// All settings, complete: what the file leaves out has its default.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// The engine.
    pub engine: EngineSettings,
    /// The runtime image.
    pub image: ImageSettings,
    /// The model.
    pub model: ModelSettings,
    /// The gateway.
    pub gateway: GatewaySettings,
    /// What one job may use.
    pub limits: LimitSettings,
    /// How long ended jobs are kept.
    pub retention: RetentionSettings,
    /// Where workspaces may lie.
    pub roots: RootSettings,
    /// What of a repository is sent.
    pub workspace: WorkspaceSettings,
    /// The log.
    pub log: LogSettings,
    /// Spans and metrics.
    pub telemetry: TelemetrySettings,
}

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

/// `[model]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ModelSettings {
    /// A Responses-compatible base URL, or `rehearsal`.
    pub upstream: String,
    /// Environment variable that holds the API key.
    pub api_key_env: String,
    /// File that holds the API key; goes before the variable.
    pub api_key_file: String,
    /// File with the certificates (PEM) of the authorities to trust for an https upstream, in place of the public ones; empty: those.
    pub ca_file: String,
    /// Model when the caller names none; empty: Codex's own default.
    pub default_model: String,
    /// Models that callers may name; empty: any.
    pub allowed_models: Vec<String>,
    /// Seconds without one model answer after which the provider counts as unreachable.
    pub unreachable_seconds: u64,
    /// Seconds that the provider may take from a request to the head of its answer.
    pub answer_seconds: u64,
    /// Seconds without an event in the middle of an answer after which it is cut off. Below the 300 after which Codex leaves by itself.
    pub idle_seconds: u64,
}

impl Default for ModelSettings {
    fn default() -> Self {
        Self {
            upstream: "https://api.openai.com/v1".to_owned(),
            api_key_env: "OPENAI_API_KEY".to_owned(),
            api_key_file: String::new(),
            ca_file: String::new(),
            default_model: String::new(),
            allowed_models: Vec::new(),
            unreachable_seconds: 30,
            answer_seconds: 300,
            idle_seconds: 240,
        }
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

/// `[limits]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LimitSettings {
    /// Seconds from the slot to the deadline.
    pub deadline_seconds: u64,
    /// Seconds that a job may wait for its slot.
    pub queue_seconds: u64,
    /// Seconds without a sign of life after which a job ends; 0: never.
    pub idle_seconds: u64,
    /// Memory of the cell, such as `4GiB`.
    pub memory: ByteSize,
    /// Processors.
    pub cpus: f64,
    /// Processes and threads.
    pub pids: i64,
    /// Disk of the cell's volumes.
    pub disk: ByteSize,
    /// Files, directories and links that a job may add to its volumes.
    pub inodes: u64,
    /// Tokens, input and output together; 0: no cap.
    pub tokens: u64,
    /// Tokens of one model answer, where there is a cap on tokens; 0: what is left of it.
    pub output_tokens: u64,
    /// Model requests; 0: no cap.
    pub requests: u64,
    /// Model requests that the gateway's policy refused, after which the job is ended; 0: no cap.
    pub denials: u64,
}

impl Default for LimitSettings {
    fn default() -> Self {
        Self {
            deadline_seconds: 1800,
            queue_seconds: 6 * 3600,
            idle_seconds: 600,
            memory: ByteSize(4 << 30),
            cpus: 2.0,
            pids: 512,
            disk: ByteSize(8 << 30),
            inodes: 1_000_000,
            tokens: 0,
            output_tokens: 32_768,
            requests: 10_000,
            denials: 20,
        }
    }
}

/// `[retention]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RetentionSettings {
    /// Seconds that an ended job is kept.
    pub ttl_seconds: u64,
}

impl Default for RetentionSettings {
    fn default() -> Self {
        Self { ttl_seconds: 86_400 }
    }
}

/// `[roots]`
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RootSettings {
    /// Empty: any; else a workspace must lie beneath one of these.
    pub allow: Vec<PathBuf>,
}

/// `[workspace]`: caps over which a delegation is refused before anything is created.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WorkspaceSettings {
    /// Tracked files.
    pub max_files: u64,
    /// Bytes of all tracked files.
    pub max_bytes: ByteSize,
    /// Bytes of one file.
    pub max_file: ByteSize,
    /// Bytes of a path.
    pub max_path: u64,
}

impl Default for WorkspaceSettings {
    fn default() -> Self {
        Self { max_files: 500_000, max_bytes: ByteSize(4 << 30), max_file: ByteSize(256 << 20), max_path: 4095 }
    }
}

/// `[log]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogSettings {
    /// `text` or `json`: form of the log on standard error.
    pub format: String,
}

impl Default for LogSettings {
    fn default() -> Self {
        Self { format: "text".to_owned() }
    }
}

/// `[telemetry]`
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TelemetrySettings {
    /// Base URL of an OTLP collector over HTTP; `env`: what `OTEL_EXPORTER_OTLP_ENDPOINT` says; empty: none, and nothing is sent.
    pub otlp_endpoint: String,
    /// The same collector as the gateway's container reaches it; empty: by the same URL.
    pub gateway_otlp_endpoint: String,
}

/// Longest URL of a collector, in bytes.
const MAX_ENDPOINT: usize = 1024;

impl TelemetrySettings {
    /// The host's collector, if one is asked for. `standard` is the value of the standard variable.
    pub fn endpoint(&self, standard: Option<&str>) -> Option<String> {
        let asked = match self.otlp_endpoint.trim() {
            "env" => standard.unwrap_or_default(),
            other => other,
        };
        collector(asked)
    }

    /// The gateway's.
    pub fn gateway_endpoint(&self, standard: Option<&str>) -> Option<String> {
        let host = self.endpoint(standard)?;
        if self.gateway_otlp_endpoint.trim().is_empty() { Some(host) } else { collector(&self.gateway_otlp_endpoint) }
    }

    fn check(&self) -> Result<()> {
        for (key, value) in
            [("telemetry.otlp_endpoint", self.otlp_endpoint.trim()), ("telemetry.gateway_otlp_endpoint", self.gateway_otlp_endpoint.trim())]
        {
            let free = value.is_empty() || value == "env" && key == "telemetry.otlp_endpoint";
            if !free && collector(value).is_none() {
                return Err(Error::new(Code::InvalidConfig, format!("invalid setting {key}: not the base URL of a collector"))
                    .with_detail("field", key)
                    .with_hint("use http://HOST:PORT or https://HOST, with no user, query or fragment, such as http://localhost:4318"));
            }
        }
        Ok(())
    }
}

/// A collector's base URL without its last slash; `None`: it is none.
pub fn collector(text: &str) -> Option<String> {
    let text = text.trim().trim_end_matches('/');
    let url = url::Url::parse(text).ok().filter(|_| text.len() <= MAX_ENDPOINT)?;
    let plain = url.username().is_empty() && url.password().is_none() && url.query().is_none() && url.fragment().is_none();
    (plain && matches!(url.scheme(), "http" | "https") && url.host_str().is_some_and(|host| !host.is_empty())).then(|| text.to_owned())
}

/// A number of bytes, written as a number or with `KiB`, `MiB`, `GiB`, `TiB` (`kB`, `MB`, `GB`, `TB` in tens).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

impl std::str::FromStr for ByteSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let digits = text.bytes().take_while(|b| b.is_ascii_digit() || *b == b'.').count();
        let (number, unit) = text.split_at(digits);
        let factor: u64 = match unit.trim().to_ascii_lowercase().as_str() {
            "" | "b" => 1,
            "k" | "kib" => 1 << 10,
            "m" | "mib" => 1 << 20,
            "g" | "gib" => 1 << 30,
            "t" | "tib" => 1 << 40,
            "kb" => 1_000,
            "mb" => 1_000_000,
            "gb" => 1_000_000_000,
            "tb" => 1_000_000_000_000,
            _ => return Err(format!("unknown unit in size {text:?}; use KiB, MiB or GiB")),
        };
        if let Ok(whole) = number.parse::<u64>() {
            return whole.checked_mul(factor).map(Self).ok_or_else(|| format!("size {text:?} is too large"));
        }
        match number.parse::<f64>() {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "checked to be in range")]
            Ok(part) if part.is_finite() && part * (factor as f64) < 1e18 => Ok(Self((part * factor as f64) as u64)),
            _ => Err(format!("{text:?} is not a size; write for example \"4GiB\"")),
        }
    }
}

impl std::fmt::Display for ByteSize {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (unit, factor) in [("TiB", 1u64 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)] {
            if self.0 >= factor && self.0.is_multiple_of(factor) {
                return write!(f, "{}{unit}", self.0 / factor);
            }
        }
        write!(f, "{}", self.0)
    }
}

impl Serialize for ByteSize {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            Number(u64),
            Text(String),
        }
        match Form::deserialize(deserializer)? {
            Form::Number(n) => Ok(Self(n)),
            Form::Text(t) => t.parse().map_err(serde::de::Error::custom),
        }
    }
}

impl Settings {
    /// Reads the file and the environment of this process.
    pub fn load() -> Result<Self> {
        Self::load_with(None, &[])
    }

    /// [`Self::load`] with what command-line flags say: another file, and settings as (`table.key`, value) that go over both.
    pub fn load_with(file: Option<&str>, flags: &[(String, String)]) -> Result<Self> {
        let mut env = Vec::new();
        // A flag is one more variable that is found first, so that all three have one syntax.
        for (key, value) in flags {
            env.push((variable_name(key)?, value.clone()));
        }
        if let Some(file) = file {
            env.push(("ANCHORHOLD_CONFIG".to_owned(), file.to_owned()));
        }
        env.extend(std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?))));
        let path = Self::path(&env);
        let text = match &path {
            Some((path, named)) => match std::fs::read_to_string(path) {
                Ok(text) => Some(text),
                Err(e) if e.kind() == std::io::ErrorKind::NotFound && !named => None,
                Err(e) => {
                    return Err(Error::new(Code::InvalidConfig, format!("cannot read the settings file {}", path.display()))
                        .with_hint("correct ANCHORHOLD_CONFIG, or unset it to use the default place")
                        .with_source(e));
                }
            },
            None => None,
        };
        Self::from_parts(text.as_deref(), path.as_ref().map(|(p, _)| p.as_path()), &env)
    }

    /// Where the file lies, and whether the user named it (then it must be there).
    fn path(env: &[(String, String)]) -> Option<(PathBuf, bool)> {
        let var = |name: &str| env.iter().find(|(k, v)| k == name && !v.is_empty()).map(|(_, v)| PathBuf::from(v));
        if let Some(path) = var("ANCHORHOLD_CONFIG") {
            return Some((path, true));
        }
        let base = var("XDG_CONFIG_HOME").or_else(|| var("HOME").map(|home| home.join(".config")))?;
        Some((base.join("anchorhold/config.toml"), false))
    }

    /// Settings from the file's text and an environment; the seam for tests.
    pub fn from_parts(text: Option<&str>, path: Option<&Path>, env: &[(String, String)]) -> Result<Self> {
        let place = path.map_or_else(|| "the settings".to_owned(), |p| p.display().to_string());
        let invalid = |e: &dyn std::fmt::Display| {
            Error::new(Code::InvalidConfig, format!("invalid settings in {place}: {}", e.to_string().trim()))
                .with_hint("correct the named key; `anchorhold doctor` lists the settings in force")
        };
        let mut table: toml::Table = match text {
            Some(text) => toml::from_str(text).map_err(|e| invalid(&e))?,
            None => toml::Table::new(),
        };
        // The default's keys say which variables there are and of what type each is.
        let known = toml::Table::try_from(Self::default()).map_err(|e| invalid(&e))?;
        for (table_name, keys) in &known {
            let toml::Value::Table(keys) = keys else { continue };
            for (key, default) in keys {
                let name = format!("ANCHORHOLD_{}_{}", table_name.to_uppercase(), key.to_uppercase());
                let Some((_, value)) = env.iter().find(|(k, _)| *k == name) else { continue };
                let value = parse_variable(value, default).map_err(|why| {
                    Error::new(Code::InvalidConfig, format!("invalid value of the environment variable {name}: {why}"))
                        .with_hint(format!("correct or unset {name}"))
                })?;
                if let toml::Value::Table(t) = table.entry(table_name.clone()).or_insert_with(|| toml::Value::Table(toml::Table::new())) {
                    t.insert(key.clone(), value);
                }
            }
        }
        let settings: Self = table.try_into().map_err(|e: toml::de::Error| invalid(&e))?;
        settings.check()?;
        Ok(settings)
    }

    /// Checks what types alone do not.
    pub fn check(&self) -> Result<()> {
        let fail = |key: &str, why: &str| Err(Error::new(Code::InvalidConfig, format!("invalid setting {key}: {why}")).with_detail("field", key));
        let name_ok = |name: &str, extra: &str| {
            !name.is_empty()
                && name.len() <= 128
                && name.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric())
                && name.bytes().all(|b| b.is_ascii_alphanumeric() || extra.as_bytes().contains(&b))
        };
        if !name_ok(&self.engine.instance, "-") || self.engine.instance.len() > 32 {
            return fail("engine.instance", "use 1 to 32 letters, digits and dashes");
        }
        if self.engine.max_running_jobs == 0 {
            return fail("engine.max_running_jobs", "must be at least 1");
        }
        if !(1..=3600).contains(&self.engine.answer_seconds) {
            return fail("engine.answer_seconds", "must be between 1 and 3600");
        }
        if self.engine.away_seconds > 86_400 {
            return fail("engine.away_seconds", "must be at most 86400");
        }
        if !self.engine.runtime.is_empty() && !name_ok(&self.engine.runtime, "._-") {
            return fail("engine.runtime", "is not a runtime's name");
        }
        if self.engine.accept.iter().any(|name| !ACCEPTABLE.contains(&name.as_str())) {
            return fail("engine.accept", &format!("may name {}", ACCEPTABLE.join(", ")));
        }
        if !name_ok(&self.image.name, "._-/:@") {
            return fail("image.name", "is not an image's name");
        }
        if !name_ok(&self.gateway.name, "._-") {
            return fail("gateway.name", "is not a container's name");
        }
        if !name_ok(&self.gateway.network, "._-") {
            return fail("gateway.network", "is not a network's name");
        }
        if self.gateway.max_requests == 0 {
            return fail("gateway.max_requests", "must be at least 1");
        }
        if self.gateway.max_connections < 16 {
            return fail("gateway.max_connections", "must be at least 16: a job needs several");
        }
        if !(10..=7 * 86_400).contains(&self.limits.deadline_seconds) {
            return fail("limits.deadline_seconds", "must be between 10 and 604800");
        }
        if !(1..=30 * 86_400).contains(&self.limits.queue_seconds) {
            return fail("limits.queue_seconds", "must be between 1 and 2592000");
        }
        if self.limits.idle_seconds != 0 && !(5..=7 * 86_400).contains(&self.limits.idle_seconds) {
            return fail("limits.idle_seconds", "must be 0 (never), or between 5 and 604800");
        }
        if self.limits.memory.0 < 256 << 20 {
            return fail("limits.memory", "must be at least 256MiB: Codex alone needs about 140 MB");
        }
        if !(self.limits.cpus > 0.0 && self.limits.cpus <= 1024.0) {
            return fail("limits.cpus", "must be above 0");
        }
        if self.limits.pids < 32 {
            return fail("limits.pids", "must be at least 32");
        }
        if self.limits.disk.0 < 16 << 20 {
            return fail("limits.disk", "must be at least 16MiB");
        }
        if self.limits.inodes < 1_000 {
            return fail("limits.inodes", "must be at least 1000: Codex and its repository take some");
        }
        self.model.upstream()?;
        if crate::telemetry::Form::parse(&self.log.format).is_none() {
            return fail("log.format", &format!("may be {}", crate::telemetry::Form::VALUES.join(" or ")));
        }
        self.telemetry.check()
    }
}

impl ModelSettings {
    /// The upstream, checked: https, or plain http on loopback only.
    pub fn upstream(&self) -> Result<crate::protocol::admin::Upstream> {
        use crate::protocol::admin::Upstream;
        let text = self.upstream.trim().trim_end_matches('/');
        if text == "rehearsal" {
            return Ok(Upstream::Rehearsal);
        }
        let fail = |why: &str| {
            Error::new(Code::InvalidConfig, format!("invalid setting model.upstream: {why}"))
                .with_detail("field", "model.upstream")
                .with_hint("use an https:// base URL such as https://api.openai.com/v1, or \"rehearsal\"")
        };
        let url = url::Url::parse(text).map_err(|_| fail("not a URL"))?;
        let loopback = match url.host_str() {
            Some(host) => host == "localhost" || host.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback()),
            None => false,
        };
        if !(url.scheme() == "https" || url.scheme() == "http" && loopback) {
            return Err(fail("plain http is allowed on loopback only"));
        }
        if !url.username().is_empty() || url.password().is_some() || url.query().is_some() || url.fragment().is_some() {
            return Err(fail("no user, query or fragment may stand in it"));
        }
        Ok(Upstream::Http { base_url: text.to_owned(), authorities: None })
    }
}

/// The environment variable of a `table.key`; unknown keys are refused as they are in the file.
fn variable_name(key: &str) -> Result<String> {
    let known = toml::Table::try_from(Settings::default()).unwrap_or_default();
    let found = key.split_once('.').filter(|(table, name)| known.get(*table).and_then(|t| t.get(*name)).is_some());
    let Some((table, name)) = found else {
        return Err(Error::new(Code::InvalidConfig, "a setting of that name does not exist")
            .with_detail("field", key)
            .with_hint("write --set TABLE.KEY=VALUE with a key of docs/CONFIGURATION.md, such as --set engine.runtime=runsc"));
    };
    Ok(format!("ANCHORHOLD_{}_{}", table.to_uppercase(), name.to_uppercase()))
}

fn parse_variable(value: &str, default: &toml::Value) -> Result<toml::Value, String> {
    Ok(match default {
        toml::Value::Integer(_) => toml::Value::Integer(value.trim().parse().map_err(|_| "not a whole number".to_owned())?),
        toml::Value::Float(_) => toml::Value::Float(value.trim().parse().map_err(|_| "not a number".to_owned())?),
        toml::Value::Boolean(_) => toml::Value::Boolean(value.trim().parse().map_err(|_| "not true or false".to_owned())?),
        toml::Value::Array(_) => {
            toml::Value::Array(value.split(',').map(str::trim).filter(|v| !v.is_empty()).map(|v| toml::Value::String(v.to_owned())).collect())
        }
        _ => toml::Value::String(value.to_owned()),
    })
}

#[cfg(test)]
mod tests;
