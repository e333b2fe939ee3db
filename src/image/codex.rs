//! The real Codex CLI: which version, from where, and that it is what was pinned.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use serde::Deserialize;
use sha2::{Digest, Sha512};

use super::Progress;
use crate::error::{Code, Error, Result};

/// The pins, part of the binary: a user who only has the binary builds the same image.
pub(super) const PINS: &str = include_str!("../../images/runtime/codex.toml");

/// The files that go into the image, beneath the platform's directory. `codex-code-mode-host` must lie beside `codex`: without it the newer
/// models run no tool, and the run still ends as if all were well.
pub(super) const FILES: [&str; 3] = ["bin/codex", "bin/codex-code-mode-host", "codex-path/rg"];

/// `images/runtime/codex.toml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Pins {
    /// Version of the Codex CLI.
    pub(super) version: String,
    platform: BTreeMap<String, Platform>,
}

/// One platform's package.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Platform {
    /// As `npm` takes it.
    pub(super) package: String,
    /// `sha512-` and base64, as npm's registry gives it.
    pub(super) integrity: String,
    /// Where the files lie in the package.
    pub(super) directory: String,
}

impl Pins {
    pub(super) fn read() -> Result<Self> {
        toml::from_str(PINS).map_err(|e| Error::internal("read the pinned version of the Codex CLI").with_source(e))
    }

    /// The package for an engine's architecture, by Rust's name or the engine's.
    pub(super) fn platform(&self, architecture: &str) -> Result<&Platform> {
        self.platform.get(architecture).ok_or_else(|| {
            Error::new(Code::Unsupported, format!("build the image: there is no pinned Codex CLI for {architecture}"))
                .with_hint("use an engine on x86_64 or aarch64")
        })
    }
}

/// The verified package, from the cache or by `npm pack`.
pub(super) async fn package(platform: &Platform, cache: &Path, progress: Progress<'_>) -> Result<PathBuf> {
    const WHAT: &str = "get the Codex CLI";
    let io = |e: std::io::Error| Error::new(Code::SetupFailed, format!("{WHAT}: use the directory {}", cache.display())).with_source(e);
    let name: String = platform.package.chars().map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' }).collect();
    let kept = cache.join(format!("{}.tgz", name.trim_start_matches('-')));
    if kept.is_file() {
        match verify_file(&kept, &platform.integrity).await {
            Ok(()) => {
                progress(&format!("codex: {} from the cache, integrity verified", platform.package));
                return Ok(kept);
            }
            Err(_) => progress(&format!("codex: the cached {} is damaged; getting it again", kept.display())),
        }
    }
    progress(&format!("codex: npm pack {}", platform.package));
    std::fs::create_dir_all(cache).map_err(io)?;
    // Beneath the cache, so that the rename stays on one file system.
    let dir = tempfile::Builder::new().prefix("npm-").tempdir_in(cache).map_err(io)?;
    let mut npm = crate::process::command("npm", dir.path());
    npm.args(["pack", "--ignore-scripts", "--silent", &platform.package]);
    super::run(npm, WHAT, "install npm (on Debian: apt-get install npm), or run `make image`").await?;
    let made = std::fs::read_dir(dir.path())
        .map_err(io)?
        .filter_map(|entry| entry.ok().map(|e| e.path()))
        .find(|path| path.extension().is_some_and(|e| e == "tgz"))
        .ok_or_else(|| Error::new(Code::SetupFailed, format!("{WHAT}: npm pack left no package")))?;
    verify_file(&made, &platform.integrity).await?;
    progress("codex: integrity verified");
    std::fs::rename(&made, &kept).map_err(io)?;
    Ok(kept)
}

async fn verify_file(path: &Path, integrity: &str) -> Result<()> {
    let (path, integrity) = (path.to_owned(), integrity.to_owned());
    let check = move || {
        let file = File::open(&path).map_err(|e| Error::new(Code::SetupFailed, format!("read {}", path.display())).with_source(e))?;
        verify(file, &integrity)
    };
    tokio::task::spawn_blocking(check).await.map_err(|e| Error::internal("verify the Codex CLI").with_source(e))?
}

/// Compares with an integrity string; only SHA-512 is taken.
fn verify(mut reader: impl Read, integrity: &str) -> Result<()> {
    let fail = |why: &str| {
        Error::new(Code::SetupFailed, format!("verify the Codex CLI's package: {why}"))
            .with_hint("do not use it: the package is not the one that was pinned; check the registry that npm uses")
    };
    let want = integrity.strip_prefix("sha512-").and_then(|b| base64::engine::general_purpose::STANDARD.decode(b).ok());
    let want = want.filter(|w| w.len() == 64).ok_or_else(|| fail("the pinned integrity is malformed"))?;
    let mut hash = Sha512::new();
    let mut buffer = vec![0; 1 << 18];
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => hash.update(buffer.get(..n).unwrap_or_default()),
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(fail("it cannot be read").with_source(e)),
        }
    }
    if hash.finalize().as_slice() == want { Ok(()) } else { Err(fail("its SHA-512 differs from the pinned one")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pins_are_complete() {
        let pins = Pins::read().unwrap();
        for architecture in ["x86_64", "aarch64"] {
            let platform = pins.platform(architecture).unwrap();
            assert!(platform.package.contains(&format!("@{}-", pins.version)), "{platform:?}");
            assert!(platform.directory.contains(architecture), "{platform:?}");
            // A malformed pin says so, a well-formed one compares.
            let error = verify(&b"something else"[..], &platform.integrity).unwrap_err();
            assert!(error.message.contains("differs"), "{}", error.message);
        }
        assert_eq!(pins.platform("riscv64").unwrap_err().code, Code::Unsupported);
    }

    #[test]
    fn only_the_pinned_bytes_pass() {
        let good = "sha512-3a81oZNherrMQXNJriBBMRLm+k6JqX6iCp7u5ktV05ohkpkqJ0/BqDa6PCOj/uu9RU1EI2Q86A4qmslPpUyknw==";
        assert!(verify(&b"abc"[..], good).is_ok());
        assert!(verify(&b"abd"[..], good).is_err());
        for bad in ["", "sha1-qZk+NkcGgWq6PiVxeFDCbJzQ2J0=", "sha512-", "sha512-AAAA", "sha512-!"] {
            assert!(verify(&b"abc"[..], bad).unwrap_err().message.contains("malformed"), "{bad}");
        }
    }

    #[tokio::test]
    async fn a_damaged_cache_is_not_used() {
        let dir = tempfile::tempdir().unwrap();
        let platform = Platform {
            package: "@x/y@1".to_owned(),
            integrity: "sha512-3a81oZNherrMQXNJriBBMRLm+k6JqX6iCp7u5ktV05ohkpkqJ0/BqDa6PCOj/uu9RU1EI2Q86A4qmslPpUyknw==".to_owned(),
            directory: "d".to_owned(),
        };
        let kept = dir.path().join("x-y-1.tgz");
        std::fs::write(&kept, "abc").unwrap();
        let mut lines = Vec::new();
        let found = package(&platform, dir.path(), &mut |line| lines.push(line.to_owned())).await.unwrap();
        assert_eq!(found, kept);
        assert!(lines[0].contains("integrity verified"), "{lines:?}");
        assert!(verify_file(&dir.path().join("absent"), &platform.integrity).await.is_err());
        std::fs::write(&kept, "abd").unwrap();
        assert!(verify_file(&kept, &platform.integrity).await.is_err());
    }
}
