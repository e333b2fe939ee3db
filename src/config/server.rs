//! `[server]`: `anchorhold serve`, the server over HTTP.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::ByteSize;
use super::check::fail;
use crate::error::Result;

/// `[server]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ServerSettings {
    /// Address and port; `localhost` is 127.0.0.1. Port 0: a free one.
    pub listen: String,
    /// File that holds the bearer token; goes before the variable.
    pub token_file: String,
    /// Environment variable that holds the bearer token.
    pub token_env: String,
    /// Names under which clients reach the server, beside the address itself and the names of loopback; with a port only that one.
    pub allowed_hosts: Vec<String>,
    /// Origins of web pages that may call it, such as `https://app.example.com`; empty: none.
    pub allowed_origins: Vec<String>,
    /// Body of one request.
    pub max_body: ByteSize,
    /// Connections of clients at once.
    pub max_connections: u32,
    /// Seconds that a connection may take to the end of a request's head, and stay open without one.
    pub head_seconds: u64,
    /// Seconds that a request's body may take, and that a client may take nothing of its answer.
    pub transfer_seconds: u64,
}

impl Default for ServerSettings {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:7411".to_owned(),
            token_file: String::new(),
            token_env: "ANCHORHOLD_TOKEN".to_owned(),
            allowed_hosts: Vec::new(),
            allowed_origins: Vec::new(),
            max_body: ByteSize(4 << 20),
            max_connections: 256,
            head_seconds: 30,
            transfer_seconds: 30,
        }
    }
}

impl ServerSettings {
    /// The address, checked.
    pub fn address(&self) -> Option<SocketAddr> {
        let text = self.listen.trim();
        let text = text.strip_prefix("localhost:").map_or_else(|| text.to_owned(), |port| format!("127.0.0.1:{port}"));
        text.parse().ok()
    }

    pub(super) fn check(&self) -> Result<()> {
        if self.address().is_none() {
            return fail("server.listen", "write ADDRESS:PORT with an IP address, such as 127.0.0.1:7411, 0.0.0.0:7411 or [::1]:7411");
        }
        let host = |text: &String| !text.is_empty() && text.len() <= 256 && text.bytes().all(|b| b.is_ascii_graphic() && !b"/@?#*,".contains(&b));
        if !self.allowed_hosts.iter().all(host) {
            return fail("server.allowed_hosts", "write names as they stand in a URL, such as anchorhold.example.com or anchorhold.example.com:7411");
        }
        if !self.allowed_origins.iter().all(|text| origin(text).is_some()) {
            return fail("server.allowed_origins", "write origins without a path, such as https://app.example.com or http://localhost:6274");
        }
        if !(1 << 10..=64 << 20).contains(&self.max_body.0) {
            return fail("server.max_body", "must be between 1KiB and 64MiB");
        }
        if !(1..=10_000).contains(&self.max_connections) {
            return fail("server.max_connections", "must be between 1 and 10000");
        }
        for (key, seconds) in [("server.head_seconds", self.head_seconds), ("server.transfer_seconds", self.transfer_seconds)] {
            if !(1..=3600).contains(&seconds) {
                return fail(key, "must be between 1 and 3600");
            }
        }
        Ok(())
    }
}

/// An origin as browsers write it: scheme, host and, where it is not the scheme's own, the port; `None`: it is none.
pub fn origin(text: &str) -> Option<String> {
    let url = url::Url::parse(text).ok().filter(|_| text.len() <= 512)?;
    let plain = url.username().is_empty() && url.password().is_none() && url.query().is_none() && url.fragment().is_none() && url.path() == "/";
    let origin = url.origin();
    (plain && origin.is_tuple() && matches!(url.scheme(), "http" | "https")).then(|| origin.ascii_serialization())
}
