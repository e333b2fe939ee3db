//! The base image: there already, pulled, or made by debootstrap under the same name where no registry answers.

use std::path::{Path, PathBuf};

use super::{Progress, context};
use crate::engine::Engine;
use crate::error::{Code, Error, Result};

/// The Debian release of [`super::BASE`].
const SUITE: &str = "bookworm";

/// Makes sure that the engine has the base image.
pub(super) async fn ensure(engine: &Engine, name: &str, architecture: &str, cache: &Path, progress: Progress<'_>) -> Result<()> {
    if engine.inspect_image(name).await?.is_some() {
        progress(&format!("base: {name} is there"));
        return Ok(());
    }
    progress(&format!("base: pulling {name}"));
    let pulled = engine.pull_image(name, progress).await;
    let Err(refused) = pulled else { return Ok(()) };
    if refused.code == Code::EngineUnavailable {
        return Err(refused);
    }
    progress(&format!("base: {}; making it with debootstrap", refused.message));
    let archive = debootstrap(architecture, cache, progress).await.map_err(|e| {
        let hint = e.hint.clone().unwrap_or_default();
        e.with_hint(format!("give the engine access to a registry (or `docker load` {name}), or {hint}"))
    })?;
    progress(&format!("base: importing {} as {name}", archive.display()));
    engine.import_image(name, context::file(archive), progress).await
}

/// A root file system as a tar file, from the cache where it is there.
async fn debootstrap(architecture: &str, cache: &Path, progress: Progress<'_>) -> Result<PathBuf> {
    const WHAT: &str = "make the base image";
    let io = |e: std::io::Error| Error::new(Code::SetupFailed, format!("{WHAT}: use the directory {}", cache.display())).with_source(e);
    let kept = cache.join(format!("debian-{SUITE}-minbase-{architecture}.tar"));
    if kept.is_file() {
        return Ok(kept);
    }
    let debian = match architecture {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        _ => return Err(Error::new(Code::Unsupported, format!("{WHAT}: {architecture} is not supported"))),
    };
    std::fs::create_dir_all(cache).map_err(io)?;
    let work = tempfile::Builder::new().prefix("debootstrap-").tempdir_in(cache).map_err(io)?;
    let root = work.path().join("root");
    let tar = work.path().join("root.tar");
    progress(&format!("base: debootstrap {SUITE} (about a minute)"));
    let mut make = crate::process::command("debootstrap", work.path());
    make.arg(format!("--arch={debian}")).args(["--variant=minbase", "--include=ca-certificates", SUITE]).arg(&root);
    super::run(make, WHAT, "install debootstrap (apt-get install debootstrap), or run `make image` as root").await?;
    let mut pack = crate::process::command("tar", work.path());
    pack.args(["--numeric-owner", "--one-file-system", "--exclude=./var/cache/apt/*", "--exclude=./var/lib/apt/lists/*", "--exclude=./dev/*"]);
    pack.arg("-cf").arg(&tar).arg("-C").arg(&root).arg(".");
    super::run(pack, WHAT, "install tar").await?;
    std::fs::rename(&tar, &kept).map_err(io)?;
    Ok(kept)
}
