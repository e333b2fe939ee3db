//! `[model]`: where the model is, which one, and how patient one is with it.

use serde::{Deserialize, Serialize};

use crate::error::{Code, Error, Result};

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
