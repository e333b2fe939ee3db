//! `[log]` and `[telemetry]`: what is told of the program's own doing, and to whom.

use serde::{Deserialize, Serialize};

use super::check::fail;
use crate::error::{Code, Error, Result};

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

    pub(super) fn check(&self) -> Result<()> {
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

impl LogSettings {
    pub(super) fn check(&self) -> Result<()> {
        if crate::telemetry::Form::parse(&self.format).is_none() {
            return fail("log.format", &format!("may be {}", crate::telemetry::Form::VALUES.join(" or ")));
        }
        Ok(())
    }
}
