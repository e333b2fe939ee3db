//! Settings: one file, environment variables over it, command-line flags over both.
//!
//! File: `$ANCHORHOLD_CONFIG`, else `$XDG_CONFIG_HOME/anchorhold/config.toml`, else `~/.config/anchorhold/config.toml`. Unknown keys are
//! refused. Each key is also `ANCHORHOLD_<TABLE>_<KEY>`. One file a group of tables; here is where they come from.

mod check;
mod engine;
mod limits;
mod model;
mod server;
mod size;
mod telemetry;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use self::engine::{ACCEPTABLE, EngineSettings, GatewaySettings, ImageSettings};
pub use self::limits::{LimitSettings, RetentionSettings, RootSettings, WorkspaceSettings};
pub use self::model::ModelSettings;
pub use self::server::{ServerSettings, origin};
pub use self::size::ByteSize;
pub use self::telemetry::{LogSettings, TelemetrySettings, collector};
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
    /// The HTTP server.
    pub server: ServerSettings,
    /// The log.
    pub log: LogSettings,
    /// Spans and metrics.
    pub telemetry: TelemetrySettings,
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
        self.engine.check()?;
        self.image.check()?;
        self.gateway.check()?;
        self.limits.check()?;
        self.model.upstream()?;
        self.server.check()?;
        self.log.check()?;
        self.telemetry.check()
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
