//! The runtime image: the Debian userland, the real Codex CLI and this very binary, built on any engine by a user who has only the binary.
//!
//! Two images, so that a change of our binary costs a second: `anchorhold/userland` (packages and Codex, named by a hash of its recipe) and
//! the runtime image on top of it (the binary and the labels). Everything but Debian's packages is checked before it goes in.

mod base;
mod binary;
mod build;
mod codex;
mod context;

pub use build::{BuildOptions, Progress, build, check};

use std::path::PathBuf;

use crate::error::{Code, Error, Result};

/// Label: the build id of the binary in the image, [`crate::BUILD_ID`].
pub const LABEL_BUILD: &str = "anchorhold.build";
/// Label: version of Anchorhold.
pub const LABEL_VERSION: &str = "anchorhold.version";
/// Label: SHA-256 of the binary in the image, so that a build in another profile replaces it.
pub const LABEL_BINARY: &str = "anchorhold.binary";
/// Label: version of the Codex CLI.
pub const LABEL_CODEX: &str = "anchorhold.codex";

/// The base image; where no registry answers, debootstrap makes one under the same name.
pub const BASE: &str = "debian:bookworm-slim";

/// The version of the Codex CLI that the image holds.
pub fn codex_version() -> Result<String> {
    Ok(codex::Pins::read()?.version)
}

/// Where downloads are kept: `$XDG_CACHE_HOME/anchorhold`, else `~/.cache/anchorhold`.
fn cache_dir() -> Result<PathBuf> {
    let var = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    var("XDG_CACHE_HOME").or_else(|| var("HOME").map(|home| home.join(".cache"))).map(|dir| dir.join("anchorhold")).ok_or_else(|| {
        Error::new(Code::SetupFailed, "find a place for downloads: neither XDG_CACHE_HOME nor HOME is set").with_hint("set HOME or XDG_CACHE_HOME")
    })
}

/// What a set-up program may see of the environment: where its own settings lie, and the way out to the network.
fn with_network_settings(command: &mut std::process::Command) {
    const NAMES: [&str; 11] = [
        "HOME",
        "TMPDIR",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "ALL_PROXY",
        "NO_PROXY",
        "http_proxy",
        "https_proxy",
        "all_proxy",
        "no_proxy",
        "NODE_EXTRA_CA_CERTS",
    ];
    for (name, value) in std::env::vars_os() {
        let known = name.to_str().is_some_and(|n| NAMES.contains(&n) || n.to_ascii_lowercase().starts_with("npm_config_"));
        if known {
            command.env(name, value);
        }
    }
}

/// Runs a set-up program to its end; its last words go into the error.
async fn run(mut command: std::process::Command, what: &'static str, install: &'static str) -> Result<Vec<u8>> {
    with_network_settings(&mut command);
    let program = command.get_program().to_string_lossy().into_owned();
    let output = tokio::task::spawn_blocking(move || command.output()).await.map_err(|e| Error::internal(what).with_source(e))?;
    match output {
        Ok(output) if output.status.success() => Ok(output.stdout),
        Ok(output) => {
            let words = if output.stderr.is_empty() { &output.stdout } else { &output.stderr };
            let tail = words.len().saturating_sub(600);
            let words = crate::display::bounded(words.get(tail..).unwrap_or_default().trim_ascii(), 600).replace('\n', " ");
            Err(Error::new(Code::SetupFailed, format!("{what}: {program} ended with {}: {words}", output.status))
                .with_hint("see its message; check the network"))
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            Err(Error::new(Code::SetupFailed, format!("{what}: {program} is not installed")).with_hint(install))
        }
        Err(e) => Err(Error::new(Code::SetupFailed, format!("{what}: start {program}")).with_source(e)),
    }
}
