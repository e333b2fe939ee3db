//! Building, checking and verifying the runtime image.

use std::path::PathBuf;

use futures_util::TryStreamExt;
use sha2::{Digest, Sha256};

use super::{BASE, LABEL_BINARY, LABEL_BUILD, LABEL_CODEX, LABEL_VERSION, base, binary, codex, context};
use crate::config::Settings;
use crate::engine::{BuildRequest, ContainerSpec, Engine, ImageFacts, ObjectName};
use crate::error::{Code, Error, Result};
use crate::protocol::paths;

const DOCKERFILE: &str = include_str!("../../images/runtime/Dockerfile");
const DOCKERFILE_USERLAND: &str = include_str!("../../images/runtime/Dockerfile.userland");

/// Receives one line for each step.
pub type Progress<'a> = &'a mut (dyn FnMut(&str) + Send);

/// How to build.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BuildOptions {
    /// Build all anew, without cached layers.
    pub force: bool,
    /// Another binary than the one that runs, for an engine of another kind of machine. It must be of the same build.
    pub binary: Option<PathBuf>,
    /// Another place for downloads.
    pub cache_dir: Option<PathBuf>,
}

/// The image in the settings, if it is there and holds this build's binary. One inspect.
///
/// Errors: [`Code::ImageMissing`], [`Code::ImageMismatch`].
pub async fn check(engine: &Engine, settings: &Settings) -> Result<ImageFacts> {
    let name = &settings.image.name;
    let facts = engine.inspect_image(name).await?.ok_or_else(|| {
        Error::new(Code::ImageMissing, format!("find the runtime image {name} on the engine"))
            .with_detail("image", name.as_str())
            .with_hint("run `anchorhold image build`")
    })?;
    let theirs = facts.labels.get(LABEL_BUILD).map_or("", String::as_str);
    if theirs != crate::BUILD_ID && !crate::weaken::off("image.build") {
        return Err(Error::new(Code::ImageMismatch, format!("use the runtime image {name}: it was built by another build of Anchorhold"))
            .with_detail("image", name.as_str())
            .with_detail("image_build", theirs)
            .with_detail("build", crate::BUILD_ID)
            .with_hint("run `anchorhold image build`"));
    }
    if !facts.volumes.is_empty() && !crate::weaken::off("image.volumes") {
        return Err(Error::new(Code::ImageMismatch, format!("use the runtime image {name}: it declares volumes of its own"))
            .with_detail("image", name.as_str())
            .with_hint("run `anchorhold image build --force`"));
    }
    Ok(facts)
}

/// Builds the runtime image, unless it is there already.
pub async fn build(engine: &Engine, settings: &Settings, options: &BuildOptions, progress: Progress<'_>) -> Result<ImageFacts> {
    let name = &settings.image.name;
    let architecture = engine.facts().await?.architecture;
    // Before anything is downloaded: a binary that will not do ends it at once.
    let path = options.binary.clone().unwrap_or_else(|| PathBuf::from("/proc/self/exe"));
    let binary = binary::open(&path, &architecture)?;
    if !options.force
        && let Ok(facts) = check(engine, settings).await
        && facts.labels.get(LABEL_BINARY) == Some(&binary.digest)
    {
        progress(&format!("image: {name} is up to date"));
        return Ok(facts);
    }
    let before = engine.inspect_image(name).await?;
    let cache = match &options.cache_dir {
        Some(dir) => dir.clone(),
        None => super::cache_dir()?,
    };
    let pins = codex::Pins::read()?;

    let userland = userland_name(&architecture);
    if options.force || engine.inspect_image(&userland).await?.is_none() {
        let platform = pins.platform(&architecture)?;
        base::ensure(engine, BASE, &architecture, &cache, progress).await?;
        let package = codex::package(platform, &cache, progress).await?;
        progress(&format!("image: building {userland}"));
        let request = request(&userland, Vec::new(), options.force);
        engine.build_image(&request, context::userland(DOCKERFILE_USERLAND, package, platform.directory.clone()), progress).await?;
    } else {
        progress(&format!("image: {userland} is there"));
    }

    progress(&format!("image: building {name}"));
    let labels =
        [(LABEL_BUILD, crate::BUILD_ID), (LABEL_VERSION, env!("CARGO_PKG_VERSION")), (LABEL_CODEX, &pins.version), (LABEL_BINARY, &binary.digest)];
    let request = BuildRequest {
        labels: labels.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec(),
        ..request(name, vec![("USERLAND".to_owned(), userland)], options.force)
    };
    engine.build_image(&request, context::runtime(DOCKERFILE, binary.file, binary.size), progress).await?;
    let facts = check(engine, settings).await?;
    verify(engine, &facts, &pins.version, progress).await?;
    if let Some(before) = before.filter(|b| b.id != facts.id && b.labels.contains_key(LABEL_BUILD)) {
        // Ours, and nobody can name it any more; it stays while a container uses it.
        engine.remove_unnamed_image(&before.id).await?;
    }
    progress(&format!("image: {name} is ready ({})", facts.id));
    Ok(facts)
}

fn request(name: &str, mut arguments: Vec<(String, String)>, no_cache: bool) -> BuildRequest {
    // Known to the engine by themselves: they reach the steps but no layer and no history.
    for proxy in ["HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"] {
        if let Some(value) = std::env::var(proxy).ok().filter(|v| !v.is_empty()) {
            arguments.push((proxy.to_owned(), value));
        }
    }
    BuildRequest { name: name.to_owned(), dockerfile: "Dockerfile".to_owned(), arguments, labels: Vec::new(), network: "host".to_owned(), no_cache }
}

/// The userland is named by what it is made from, so that "is it there" needs no other question.
fn userland_name(architecture: &str) -> String {
    let digest = Sha256::digest([DOCKERFILE_USERLAND, codex::PINS, architecture].join("\0"));
    let hex = crate::engine::hex(&digest);
    format!("anchorhold/userland:{}", hex.get(..16).unwrap_or(&hex))
}

/// Runs the image as a cell would and looks at what must hold.
async fn verify(engine: &Engine, image: &ImageFacts, codex_version: &str, progress: Progress<'_>) -> Result<()> {
    let script = format!(
        "find / -xdev -perm /6000 2>&1; {codex} --version; test -x {codex}-code-mode-host && echo host; {codex_path}/rg --version >/dev/null && echo rg; \
         for tool in bash git rg python3 make gcc; do command -v $tool >/dev/null || echo missing $tool; done; test -x {binary} && echo binary",
        codex = paths::CODEX,
        codex_path = paths::CODEX_PATH,
        binary = paths::BINARY,
    );
    let out = run_once(engine, &image.id, &script).await?;
    let want = format!("codex-cli {codex_version}\nhost\nrg\nbinary\n");
    if out == want {
        progress(&format!("image: verified: codex {codex_version} answers without a network, no setuid file"));
        return Ok(());
    }
    let shown = crate::display::bounded(out.as_bytes(), 1000);
    Err(Error::new(Code::SetupFailed, format!("verify the runtime image: it answered {shown:?} instead of {want:?}"))
        .with_hint("run `anchorhold image build --force`"))
}

/// A container without network or capability, removed in any case.
async fn run_once(engine: &Engine, image: &str, script: &str) -> Result<String> {
    let name = ObjectName::parse(&format!("anchorhold-image-check-{}", uuid::Uuid::new_v4()))?;
    let spec = ContainerSpec {
        name: name.clone(),
        image: image.to_owned(),
        entrypoint: ["/bin/sh", "-c", script].map(str::to_owned).to_vec(),
        env: [("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"), ("HOME", "/tmp")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .to_vec(),
        user: "0:0".to_owned(),
        labels: std::collections::BTreeMap::from([("anchorhold.image-check".to_owned(), "1".to_owned())]),
        network: "none".to_owned(),
        volumes: Vec::new(),
        tmpfs: vec![crate::engine::TmpfsMount { target: "/tmp".to_owned(), options: "rw,exec,nosuid,nodev,size=64m,mode=1777".to_owned() }],
        // To look into directories of other users; root has no capability else.
        cap_add: vec!["DAC_READ_SEARCH".to_owned()],
        runtime: None,
        memory: Some(1 << 30),
        cpus: None,
        pids: Some(128),
        ulimits: Vec::new(),
        sysctls: Vec::new(),
        oom_score: 500,
        restart_unless_stopped: false,
        log_max_bytes: 1 << 20,
        stop_timeout_seconds: 1,
        own_seccomp: false,
    };
    let (id, _) = engine.create_container(&spec).await?;
    let container = id.into();
    let run = async {
        engine.start_container(&container).await?;
        engine.wait_container(&container).await?;
        let chunks: Vec<bytes::Bytes> = engine.logs(&container, false, None).await?.try_collect().await?;
        Ok(String::from_utf8_lossy(&chunks.concat()).into_owned())
    };
    let out = tokio::time::timeout(std::time::Duration::from_secs(120), run)
        .await
        .unwrap_or_else(|_| Err(Error::new(Code::SetupFailed, "verify the runtime image: it did not end in two minutes")));
    engine.remove_container(&container).await?;
    out
}
